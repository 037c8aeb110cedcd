/*
 * cow.c - copy-on-write buffers: the handle, the way it goes, and the way of
 * copying (see memopt/cow.h; pages.c has the other).
 */
#include "core/base/error.h"
#include "core/base/poison.h"
#include "core/object/object.h"
#include "core/object/pages.h"

#include <memopt/cow.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* What copying handles share. It does not change while there are several. */
struct block {
    _Atomic size_t handles; /* each has memory of its own, so it can't overflow */
    char padding[56];
    char bytes[];
};
_Static_assert(sizeof(struct block) == 64, "keeps the alignment of bytes");

struct memopt_cow {
    struct memopt_heap *heap;
    size_t size;
    struct block *block;    /* this */
    struct mo_pages *pages; /* or this */
};

static struct block *block_new(struct memopt_heap *heap, size_t size) {
    if (size > PTRDIFF_MAX - sizeof(struct block))
        return NULL;
    struct block *block = memopt_heap_aligned_alloc(heap, 64, sizeof(*block) + size);
    if (block != NULL)
        atomic_init(&block->handles, 1);
    return block;
}

static void block_put(struct memopt_heap *heap, struct block *block) {
    if (atomic_fetch_sub_explicit(&block->handles, 1, memory_order_acq_rel) == 1)
        memopt_heap_free(heap, block);
}

static int no_memory(struct memopt_heap *heap, size_t size, struct memopt_error *error) {
    return mo_fail(error, -ENOMEM, "heap '%s' has no %zu bytes for a copy-on-write buffer",
                   memopt_heap_name(heap), size);
}

static int read_options(const struct memopt_cow_options *given, struct memopt_cow_options *options,
                        struct memopt_error *error) {
    *options = (struct memopt_cow_options)MEMOPT_COW_OPTIONS_INIT;
    if (given != NULL) {
        if (given->size < offsetof(struct memopt_cow_options, mode) ||
            given->size > sizeof(*options))
            return mo_fail(error, -EINVAL,
                           "the options' size is %zu: begin with MEMOPT_COW_OPTIONS_INIT",
                           given->size);
        memcpy(options, given, given->size);
    }
    if (options->mode < MEMOPT_COW_AUTO || options->mode > MEMOPT_COW_PAGES)
        return mo_fail(error, -EINVAL, "%d is no mode of a copy-on-write buffer", options->mode);
    if (options->threshold == 0)
        options->threshold = MEMOPT_COW_THRESHOLD;
    if (options->mode == MEMOPT_COW_AUTO && mo_checked())
        options->threshold = 1; /* so that a write where none was asked for faults */
    return 0;
}

static struct memopt_cow *handle_new(struct memopt_heap *heap, size_t size) {
    struct memopt_cow *cow = memopt_heap_calloc(heap, 1, sizeof(*cow));
    if (cow != NULL) {
        cow->heap = heap;
        cow->size = size;
    }
    return cow;
}

int memopt_cow_create(struct memopt_heap *heap, size_t size, const struct memopt_cow_options *given,
                      struct memopt_cow **ret_cow, struct memopt_error *error) {
    struct memopt_cow_options options;
    if (size == 0 || ret_cow == NULL)
        return mo_fail(error, -EINVAL, "a copy-on-write buffer needs a size, and a place for it");
    int code = read_options(given, &options, error);
    if (code == 0)
        code = mo_object_heap(&heap, error);
    if (code < 0)
        return code;
    struct memopt_cow *cow = handle_new(heap, size);
    if (cow == NULL)
        return no_memory(heap, sizeof(*cow), error);
    bool by_pages = options.mode == MEMOPT_COW_PAGES ||
                    (options.mode == MEMOPT_COW_AUTO && size >= options.threshold);
    if (by_pages)
        code = mo_pages_create(heap, size, &cow->pages, error);
    if (!by_pages || (code < 0 && options.mode == MEMOPT_COW_AUTO)) {
        cow->block = block_new(heap, size);
        code = cow->block == NULL ? no_memory(heap, size, error) : 0;
        if (code == 0)
            memset(cow->block->bytes, 0, size);
    }
    if (code < 0) {
        memopt_heap_free(heap, cow);
        return code;
    }
    *ret_cow = cow;
    return 0;
}

int memopt_cow_clone(struct memopt_cow *cow, struct memopt_cow **ret_clone,
                     struct memopt_error *error) {
    if (cow == NULL || ret_clone == NULL)
        return mo_fail(error, -EINVAL, "no copy-on-write buffer to clone, or no place for it");
    struct memopt_cow *clone = handle_new(cow->heap, cow->size);
    if (clone == NULL)
        return no_memory(cow->heap, sizeof(*clone), error);
    if (cow->pages != NULL) {
        int code = mo_pages_clone(cow->pages, &clone->pages, error);
        if (code < 0) {
            memopt_heap_free(cow->heap, clone);
            return code;
        }
    } else {
        clone->block = cow->block;
        atomic_fetch_add_explicit(&cow->block->handles, 1, memory_order_relaxed);
    }
    *ret_clone = clone;
    return 0;
}

size_t memopt_cow_size(const struct memopt_cow *cow) {
    return cow == NULL ? 0 : cow->size;
}

const void *memopt_cow_read(const struct memopt_cow *cow) {
    if (cow == NULL)
        return NULL;
    return cow->pages != NULL ? mo_pages_address(cow->pages) : cow->block->bytes;
}

/* The block is this handle's alone. */
static int copy_block(struct memopt_cow *cow, struct memopt_error *error) {
    /* acquire: what those did who had it before is over */
    if (atomic_load_explicit(&cow->block->handles, memory_order_acquire) == 1)
        return 0;
    struct block *block = block_new(cow->heap, cow->size);
    if (block == NULL)
        return no_memory(cow->heap, cow->size, error);
    memcpy(block->bytes, cow->block->bytes, cow->size);
    block_put(cow->heap, cow->block);
    cow->block = block;
    return 0;
}

int memopt_cow_write(struct memopt_cow *cow, size_t offset, size_t length, void **ret_p,
                     struct memopt_error *error) {
    if (cow == NULL || ret_p == NULL)
        return mo_fail(error, -EINVAL, "no copy-on-write buffer to write, or no place for it");
    if (length == 0 || offset > cow->size || length > cow->size - offset)
        return mo_fail(error, -EINVAL,
                       "%zu bytes from %zu on are no range of a buffer of %zu bytes", length,
                       offset, cow->size);
    int code = cow->pages != NULL ? mo_pages_write(cow->pages, offset, length, error)
                                  : copy_block(cow, error);
    if (code == 0)
        *ret_p = (char *)memopt_cow_read(cow) + offset;
    return code;
}

void memopt_cow_destroy(struct memopt_cow *cow) {
    if (cow == NULL)
        return;
    if (cow->pages != NULL)
        mo_pages_destroy(cow->pages);
    else
        block_put(cow->heap, cow->block);
    memopt_heap_free(cow->heap, cow);
}

int memopt_cow_stats(const struct memopt_cow *cow, struct memopt_cow_statistics *stats) {
    if (cow == NULL || stats == NULL ||
        stats->size < offsetof(struct memopt_cow_statistics, by_pages) ||
        stats->size > sizeof(*stats))
        return -EINVAL;
    struct memopt_cow_statistics found = {.size = stats->size, .by_pages = cow->pages != NULL};
    uint64_t all = cow->size;
    if (cow->pages != NULL) {
        mo_pages_count(cow->pages, &found.handles, &found.private_bytes, &all);
    } else {
        found.handles = atomic_load_explicit(&cow->block->handles, memory_order_relaxed);
        found.private_bytes = found.handles == 1 ? all : 0;
    }
    found.shared_bytes = all - found.private_bytes;
    memcpy(stats, &found, stats->size);
    return 0;
}
