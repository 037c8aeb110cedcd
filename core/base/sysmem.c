/* sysmem.c - see sysmem.h. A chunk is mapped at a time; a thread takes its part
 * with one compare-and-swap of the chunk's fill mark. */
#include "core/base/sysmem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { CHUNK = 256 * 1024, ALIGN = 16 };

struct chunk {
    size_t size;
    _Atomic size_t used;
};

static _Atomic(struct chunk *) current;

static struct chunk *map_chunk(size_t size) {
    struct chunk *chunk =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk == MAP_FAILED)
        return NULL;
    chunk->size = size;
    atomic_init(&chunk->used, (sizeof(struct chunk) + ALIGN - 1) & ~(size_t)(ALIGN - 1));
    return chunk;
}

void *mo_sys_alloc(size_t size) {
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (size > CHUNK / 4) {
        struct chunk *own = map_chunk((size + sizeof(struct chunk) + 4096) & ~(size_t)4095);
        return own == NULL ? NULL : (char *)own + atomic_load(&own->used);
    }
    for (;;) {
        struct chunk *chunk = atomic_load(&current);
        if (chunk != NULL) {
            size_t used = atomic_load(&chunk->used);
            while (used + size <= chunk->size)
                if (atomic_compare_exchange_weak(&chunk->used, &used, used + size))
                    return (char *)chunk + used;
        }
        struct chunk *fresh = map_chunk(CHUNK);
        if (fresh == NULL)
            return NULL;
        if (!atomic_compare_exchange_strong(&current, &chunk, fresh))
            munmap(fresh, CHUNK); /* another thread was first */
    }
}

char *mo_sys_strdup(const char *text) {
    size_t length = strlen(text) + 1;
    char *copy = mo_sys_alloc(length);
    if (copy != NULL)
        memcpy(copy, text, length);
    return copy;
}
