/*
 * pool_alloc.c - the operations. See pool.h.
 *
 * Budget on x86-64, gcc 12 -O2, from entry to ret: malloc up to 1 KiB
 * 20 instructions with 3 tests, free 41 with 6 (one for each: is it an address; a segment;
 * this thread's; freed twice in a row; the start of a block, which with check_free nothing is;
 * anything to do with the page now).
 * No lock, no atomic read-modify-write, tests that are predicted, and no system
 * call. The load of the block in malloc is that of `next`; free only writes to
 * it.
 */
#include "plugins/alloc/pool.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- fast paths */

/* A block that does not bear the mark was handed out already. This is where a
 * double free is found that free() did not see, before anybody else gets the
 * block: it costs next to nothing here, as `next` is in the same cache line. */
static inline void *pop(struct pool_shard *shard, struct pool_page *page,
                        struct pool_block *block) {
    if (POOL_UNLIKELY(block->mark != shard))
        mo_pool_die("malloc", block, POOL_BAD_MARK);
    page->free = block->next;
    pool_set_used(page, pool_used(page) + 1);
    pool_set_mark(block, NULL);
    return block;
}

static inline void push_unchecked(struct pool_shard *shard, struct pool_page *page,
                                  struct pool_block *block) {
    uint32_t used = pool_used(page) - 1;
    block->next = page->free;
    pool_set_mark(block, shard);
    page->free = block;
    pool_set_used(page, used);
    if (POOL_UNLIKELY(used == page->trigger))
        mo_pool_page_event(page);
}

/* Of its own, so that push() has nothing to keep across a call. */
static __attribute__((noinline)) void push_suspect(struct pool_shard *shard, struct pool_page *page,
                                                   struct pool_block *block) {
    mo_pool_check_start("free", page, block);
    if (block == page->free || block->mark == shard)
        mo_pool_check_double_free(page, block);
    push_unchecked(shard, page, block);
}

/* Unless check_free is set, the block is not read: it may have left the cache long ago,
 * and waiting for it would cost a program with much memory up to a fifth. */
static inline void push(struct pool_shard *shard, struct pool_page *page,
                        struct pool_block *block) {
    if (POOL_UNLIKELY(block == page->free) ||
        POOL_UNLIKELY(!pool_is_start(block, page->inverse, page->offset)))
        push_suspect(shard, page, block);
    else
        push_unchecked(shard, page, block);
}

/* Whatever the size, from a heap the thread may not have a shard of yet. *zero:
 * in, are zeros wanted; out, does it have them. */
static __attribute__((noinline)) void *alloc_slow(struct pool_heap *heap, size_t size, bool *zero) {
    struct pool_shard *shard = mo_pool_shard_of(heap);
    if (shard == NULL)
        return NULL;
    if (size > POOL_LARGE_MAX)
        return mo_pool_huge_alloc(heap, 1, size, zero);
    return mo_pool_bin_alloc(shard, pool_bin_of(size), zero);
}

static void *no_memory(void) {
    errno = ENOMEM;
    return NULL;
}

static __attribute__((noinline)) void *malloc_slow(struct pool_heap *heap, size_t size) {
    bool zero = false;
    void *p = alloc_slow(heap, size, &zero);
    return p == NULL ? no_memory() : p;
}

static __attribute__((noinline)) void *malloc_medium(struct pool_shard *shard, size_t size) {
    if (POOL_LIKELY(size <= POOL_LARGE_MAX)) {
        struct pool_page *page = shard->bins[pool_bin_of(size)].first;
        if (POOL_LIKELY(page != NULL && page->free != NULL))
            return pop(shard, page, page->free);
    }
    return malloc_slow(&mo_pool_default, size);
}

void *mo_pool_malloc(size_t size) {
    struct pool_shard *shard = mo_pool_self;
    if (POOL_UNLIKELY(size > POOL_DIRECT_MAX))
        return malloc_medium(shard, size);
    struct pool_page *page = shard->direct[(size + 15) >> 4];
    struct pool_block *block = page->free;
    if (POOL_UNLIKELY(block == NULL))
        return malloc_slow(&mo_pool_default, size);
    return pop(shard, page, block);
}

static __attribute__((noinline)) void free_huge(void *p) {
    if (p != NULL)
        mo_pool_huge_free(p, "free");
}

static inline void free_in(struct pool_shard *shard, void *p) {
    if (POOL_UNLIKELY(!pool_in_segment(p))) {
        free_huge(p);
        return;
    }
    struct pool_segment *segment = pool_segment_of(p);
    struct pool_page *page = pool_page_of(segment, p);
    if (POOL_LIKELY(segment->shard == shard))
        push(shard, page, p);
    else
        mo_pool_free_foreign(segment, page, p);
}

void mo_pool_free(void *p) {
    free_in(mo_pool_self, p);
}

/* ------------------------------------------------------ for the default heap
 * and all others; `heap` is what new blocks come from */

static void *heap_malloc(struct pool_heap *heap, size_t size) {
    if (heap == &mo_pool_default)
        return mo_pool_malloc(size);
    struct pool_shard *shard = mo_pool_shard_of(heap);
    if (shard != NULL && size <= POOL_LARGE_MAX) {
        struct pool_page *page = shard->bins[pool_bin_of(size)].first;
        if (POOL_LIKELY(page != NULL && page->free != NULL))
            return pop(shard, page, page->free);
    }
    return malloc_slow(heap, size);
}

/* A pointer into a block does no harm here, and trackers ask at each free. */
static size_t usable(void *p, const char *function) {
    if (POOL_UNLIKELY(!pool_in_segment(p)))
        return mo_pool_huge_usable(p, function);
    struct pool_segment *segment = pool_segment_of(p);
    struct pool_page *page = pool_page_of(segment, p);
    if (POOL_UNLIKELY(page == &segment->pages[0]))
        mo_pool_die(function, p, "not an allocated block, or freed before");
    return page->block_size;
}

static void *heap_calloc(struct pool_heap *heap, size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return no_memory();
    if (total <= POOL_DIRECT_MAX) {
        void *p = heap_malloc(heap, total);
        return p == NULL ? NULL : memset(p, 0, total);
    }
    struct pool_shard *shard = mo_pool_shard_of(heap);
    if (shard != NULL && total <= POOL_LARGE_MAX) {
        struct pool_page *page = shard->bins[pool_bin_of(total)].first;
        if (page != NULL && page->free != NULL)
            return memset(pop(shard, page, page->free), 0, total);
    }
    bool zero = true;
    void *p = alloc_slow(heap, total, &zero);
    if (p == NULL)
        return no_memory();
    return zero ? p : memset(p, 0, total);
}

static void *heap_aligned_alloc(struct pool_heap *heap, size_t alignment, size_t size) {
    if (alignment <= 16)
        return heap_malloc(heap, size);
    if (alignment <= POOL_SLICE_SIZE && size <= POOL_LARGE_MAX) {
        /* A page starts at a slice, so all blocks of a bin whose size is a
         * multiple of the alignment have it. */
        unsigned bin = pool_bin_of(size < alignment ? alignment : size);
        for (; bin < POOL_BINS; bin++) {
            size_t block_size = pool_bin_size(bin);
            if (block_size > POOL_MEDIUM_MAX || (block_size & (alignment - 1)) == 0)
                return heap_malloc(heap, block_size);
        }
    }
    bool zero = false;
    void *p = mo_pool_huge_alloc(heap, alignment, size, &zero);
    return p == NULL ? no_memory() : p;
}

static void heap_free(struct pool_heap *heap, void *p) {
    struct pool_shard *shard = heap == &mo_pool_default ? mo_pool_self : mo_pool_shard_of(heap);
    /* Without memory for a shard it goes the way of another thread's free. */
    free_in(shard, p);
}

static void *heap_realloc(struct pool_heap *heap, void *p, size_t size) {
    size_t old = usable(p, "realloc");
    if (pool_in_segment(p)) {
        struct pool_page *page = pool_page_of(pool_segment_of(p), p);
        if (POOL_UNLIKELY(!pool_is_start(p, page->inverse, page->offset)))
            mo_pool_check_start("realloc", page, p);
    }
    if (size > POOL_LARGE_MAX && !pool_in_segment(p)) {
        void *moved = mo_pool_huge_realloc(p, size);
        if (moved != NULL)
            return moved;
    }
    /* In place as long as no more than half would be wasted. */
    if (size <= old && size >= old / 2)
        return p;
    void *fresh = heap_malloc(heap, size);
    if (fresh == NULL)
        return NULL;
    memcpy(fresh, p, size < old ? size : old);
    heap_free(heap, p);
    return fresh;
}

void *mo_pool_calloc(size_t count, size_t size) {
    return heap_calloc(&mo_pool_default, count, size);
}
void *mo_pool_realloc(void *p, size_t size) {
    if (p == NULL)
        return mo_pool_malloc(size);
    if (size == 0) {
        mo_pool_free(p);
        return NULL;
    }
    return heap_realloc(&mo_pool_default, p, size);
}
/* As glibc's memalign: an alignment that is not a power of two is rounded up to one. */
void *mo_pool_aligned_alloc(size_t alignment, size_t size) {
    if (alignment > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t power = 16;
    while (power < alignment)
        power *= 2;
    return heap_aligned_alloc(&mo_pool_default, power, size);
}
size_t mo_pool_usable_size(void *p) {
    return p == NULL ? 0 : usable(p, "malloc_usable_size");
}

/* What memopt's dispatch calls is what programs call, under another name: a tool that
 * replaces the functions of these names (valgrind does) must get both or neither. The
 * rest is in pool_malloc.c. */
extern __typeof__(calloc) calloc POOL_NAMED(mo_pool_calloc);
extern __typeof__(calloc) __libc_calloc POOL_NAMED(mo_pool_calloc);
extern __typeof__(realloc) realloc POOL_NAMED(mo_pool_realloc);
extern __typeof__(realloc) __libc_realloc POOL_NAMED(mo_pool_realloc);
extern __typeof__(memalign) memalign POOL_NAMED(mo_pool_aligned_alloc);
extern __typeof__(memalign) __libc_memalign POOL_NAMED(mo_pool_aligned_alloc);
extern __typeof__(malloc_usable_size) malloc_usable_size POOL_NAMED(mo_pool_usable_size);
extern __typeof__(malloc) malloc POOL_NAMED(mo_pool_malloc);
extern __typeof__(free) free POOL_NAMED(mo_pool_free);
extern __typeof__(malloc) __libc_malloc POOL_NAMED(mo_pool_malloc);
extern __typeof__(free) __libc_free POOL_NAMED(mo_pool_free);
extern __typeof__(free) __libc_cfree POOL_NAMED(mo_pool_free);
extern __typeof__(free) cfree POOL_NAMED(mo_pool_free);

void *mo_pool_heap_malloc(void *heap, size_t size) {
    return heap_malloc(heap, size);
}
void *mo_pool_heap_calloc(void *heap, size_t count, size_t size) {
    return heap_calloc(heap, count, size);
}
void *mo_pool_heap_realloc(void *heap, void *p, size_t size) {
    return heap_realloc(heap, p, size);
}
void *mo_pool_heap_aligned_alloc(void *heap, size_t alignment, size_t size) {
    return heap_aligned_alloc(heap, alignment, size);
}
void mo_pool_heap_free(void *heap, void *p) {
    heap_free(heap, p);
}
size_t mo_pool_heap_usable_size(void *heap, void *p) {
    (void)heap;
    return usable(p, "usable_size");
}
