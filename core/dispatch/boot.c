/* boot.c - see boot.h. */
#include "core/dispatch/boot.h"

#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { HEADER = 16, STEP = 1 << 20 };

struct mo_reserved mo_reserved;
static _Atomic size_t used, committed;
static _Atomic uintptr_t base;
static size_t objects_at_first;
static struct {
    const void *caller;
    size_t size, end; /* what was asked for; `used` after it */
} first;

static size_t count_objects(void) {
    size_t count = 0;
    for (const struct link_map *map = _r_debug.r_map; map != NULL; map = map->l_next)
        count++;
    return count;
}

/* Reserves address space only. Under RLIMIT_AS that is what the libraries that are
 * loaded next need, too. */
static void reserve(void) {
    static const size_t sizes[] = {256u << 20, 32u << 20, 4u << 20, 1u << 20};
    objects_at_first = count_objects();
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    getrlimit(RLIMIT_AS, &limit);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        if (sizes[i] > limit.rlim_cur / 8 && sizes[i] > 1u << 20)
            continue;
        void *map =
            mmap(NULL, sizes[i], PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED)
            continue;
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong(&base, &none, (uintptr_t)map)) {
            munmap(map, sizes[i]); /* another thread was first */
            return;
        }
        mo_reserved.base = (uintptr_t)map;
        mo_reserved.size = sizes[i];
        return;
    }
}

static size_t *size_of(void *p) {
    return (size_t *)((char *)p - HEADER);
}

void *mo_boot_aligned_alloc(size_t alignment, size_t size) {
    if (mo_reserved.size == 0)
        reserve();
    if (alignment < HEADER)
        alignment = HEADER;
    size_t start, end;
    size_t before = atomic_load(&used);
    do {
        if (alignment > mo_reserved.size || size > mo_reserved.size ||
            before + HEADER + alignment + size > mo_reserved.size) {
            errno = ENOMEM;
            return NULL;
        }
        start = (mo_reserved.base + before + HEADER + alignment - 1) / alignment * alignment -
                mo_reserved.base;
        end = (start + size + HEADER - 1) / HEADER * HEADER;
    } while (!atomic_compare_exchange_weak(&used, &before, end));
    /* Threads that need the same step may each ask for it; that does no harm. */
    size_t have = atomic_load(&committed);
    if (end > have) {
        size_t want = (end + STEP - 1) / STEP * STEP;
        if (want > mo_reserved.size)
            want = mo_reserved.size;
        if (mprotect((void *)(mo_reserved.base + have), want - have, PROT_READ | PROT_WRITE) != 0)
            return NULL; /* ENOMEM */
        while (have < want && !atomic_compare_exchange_weak(&committed, &have, want))
            ;
    }
    void *p = (void *)(mo_reserved.base + start);
    *size_of(p) = end - start;
    return p;
}

void *mo_boot_malloc(size_t size) {
    bool is_first = atomic_load(&used) == 0;
    void *p = mo_boot_aligned_alloc(HEADER, size);
    if (is_first) {
        first.caller = __builtin_return_address(0);
        first.size = size;
        first.end = atomic_load(&used);
    }
    return p;
}

void *mo_boot_calloc(size_t count, size_t size) {
    return mo_boot_aligned_alloc(HEADER, count * size); /* never used before: zero */
}

size_t mo_boot_usable_size(void *p) {
    return *size_of(p);
}

void mo_boot_free(void *p) {
    (void)p;
}

void *mo_boot_realloc(void *p, size_t size) {
    size_t old = mo_boot_usable_size(p);
    if (size <= old)
        return p;
    void *q = mo_boot_malloc(size);
    if (q != NULL)
        memcpy(q, p, old);
    return q;
}

void mo_boot_close(void) {
    size_t keep = atomic_load(&committed) + STEP;
    if (keep >= mo_reserved.size)
        return;
    size_t all = mo_reserved.size;
    mo_reserved.size = keep;
    munmap((void *)(mo_reserved.base + keep), all - keep);
}

uint64_t mo_boot_used(void) {
    return atomic_load(&used);
}

const void *mo_boot_only_caller(size_t *ret_size) {
    *ret_size = first.size;
    return first.end == atomic_load(&used) ? first.caller : NULL;
}

size_t mo_boot_objects(void) {
    return objects_at_first > 0 ? objects_at_first : count_objects();
}
