/*
 * pool_segment.c - segments: mapping them, dividing them into pages, giving
 * unused slices back. See pool.h.
 *
 * A segment's memory is plain anonymous memory: the kernel commits it as it is
 * touched. Freed slices stay dirty for once to twice `purge_delay`, because the
 * next page often wants them, and then go with MADV_DONTNEED, after which they
 * are known to be zero. Single slices are taken from the bottom of a segment, runs from
 * its top, so that they don't cut each other up.
 */
#define _GNU_SOURCE
#include "plugins/alloc/pool.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* in headers from glibc 2.35 on */
#endif

_Atomic uint64_t mo_pool_map[POOL_MAP_SIZE];

static void mark_map(const struct pool_segment *segment, bool ours) {
    uintptr_t window = (uintptr_t)segment >> POOL_SEGMENT_SHIFT;
    uint64_t bit = (uint64_t)1 << (window & 63);
    if (ours)
        atomic_fetch_or(&mo_pool_map[window >> 6], bit);
    else
        atomic_fetch_and(&mo_pool_map[window >> 6], ~bit);
}

int mo_pool_advise(void *start, size_t size, int advice) {
    int saved = errno;
    int result = madvise(start, size, advice);
    errno = saved;
    return result;
}

void mo_pool_unmap(void *start, size_t size) {
    int saved = errno;
    /* It fails where it would make one mapping more than vm.max_map_count: the
     * addresses are lost then, the memory is not. */
    if (munmap(start, size) != 0)
        madvise(start, size, MADV_DONTNEED);
    errno = saved;
}

/* A chunk is mapped at a time; a thread takes its part with one compare-and-swap. */
void *mo_pool_record(size_t size) {
    enum { CHUNK = 64 << 10 };
    static _Atomic uintptr_t next; /* in the current chunk, never at its end */
    size = (size + 63) & ~(size_t)63;
    if (size > CHUNK / 4)
        return mo_pool_map_aligned((size + POOL_SYSTEM_PAGE - 1) & ~(size_t)(POOL_SYSTEM_PAGE - 1),
                                   POOL_SYSTEM_PAGE, 0);
    for (;;) {
        uintptr_t at = atomic_load(&next);
        if (at != 0 && (at & (CHUNK - 1)) + size < CHUNK) {
            if (atomic_compare_exchange_weak(&next, &at, at + size))
                return (void *)at;
            continue;
        }
        char *chunk = mo_pool_map_aligned(CHUNK, CHUNK, 0);
        if (chunk == NULL)
            return NULL;
        if (!atomic_compare_exchange_strong(&next, &at, (uintptr_t)chunk))
            mo_pool_unmap(chunk, CHUNK); /* another thread was first */
    }
}

uint64_t mo_pool_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec + 1;
}

void mo_pool_add_resident(struct memopt_figures *figures, const void *start, size_t size) {
    if (figures->resident == MEMOPT_UNKNOWN)
        return;
    unsigned char in_core[POOL_SEGMENT_SIZE / POOL_SYSTEM_PAGE];
    uint64_t pages = 0;
    for (size_t done = 0; done < size; done += POOL_SEGMENT_SIZE) {
        size_t part = size - done < POOL_SEGMENT_SIZE ? size - done : POOL_SEGMENT_SIZE;
        if (mincore((char *)(uintptr_t)start + done, part, in_core) != 0)
            continue;
        for (size_t i = 0; i < (part + POOL_SYSTEM_PAGE - 1) / POOL_SYSTEM_PAGE; i++)
            pages += in_core[i] & 1;
    }
    figures->resident += pages * POOL_SYSTEM_PAGE;
}

static void *map(size_t size) {
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return base == MAP_FAILED ? NULL : base;
}

void *mo_pool_map_aligned(size_t size, size_t alignment, size_t before) {
    size_t total, wide;
    if (__builtin_add_overflow(size, before, &total) ||
        __builtin_add_overflow(total, alignment - POOL_SYSTEM_PAGE, &wide))
        return NULL;
    /* Mappings are mostly placed next to each other, so that after one aligned
     * segment the next one is aligned by itself. */
    char *base = map(total);
    if (base == NULL)
        return NULL;
    char *start = base + before;
    if (((uintptr_t)start & (alignment - 1)) != 0) {
        mo_pool_unmap(base, total);
        base = map(wide);
        if (base == NULL)
            return NULL;
        start = (char *)(((uintptr_t)base + before + alignment - 1) & ~(uintptr_t)(alignment - 1));
        char *from = start - before, *end = start + size;
        if (from > base)
            mo_pool_unmap(base, (size_t)(from - base));
        if (base + wide > end)
            mo_pool_unmap(end, (size_t)(base + wide - end));
    }
    if (mo_pool_settings.huge_pages)
        mo_pool_advise(start - before, total, MADV_HUGEPAGE);
    if (mo_pool_settings.populate)
        mo_pool_advise(start - before, total, MADV_POPULATE_WRITE);
    return start;
}

/* ------------------------------------------------- the shard's segment list */

static void unlink_segment(struct pool_shard *shard, struct pool_segment *segment) {
    if (segment->previous != NULL)
        segment->previous->next = segment->next;
    else
        shard->segments = segment->next;
    if (segment->next != NULL)
        segment->next->previous = segment->previous;
    else
        shard->last_segment = segment->previous;
    segment->next = segment->previous = NULL;
}

static void link_first(struct pool_shard *shard, struct pool_segment *segment) {
    segment->previous = NULL;
    segment->next = shard->segments;
    if (segment->next != NULL)
        segment->next->previous = segment;
    else
        shard->last_segment = segment;
    shard->segments = segment;
}

static void link_last(struct pool_shard *shard, struct pool_segment *segment) {
    segment->next = NULL;
    segment->previous = shard->last_segment;
    if (segment->previous != NULL)
        segment->previous->next = segment;
    else
        shard->segments = segment;
    shard->last_segment = segment;
}

static struct pool_segment *segment_map(struct pool_shard *shard) {
    struct pool_segment *segment = mo_pool_map_aligned(POOL_SEGMENT_SIZE, POOL_SEGMENT_SIZE, 0);
    if (segment == NULL)
        return NULL;
    if (((uintptr_t)segment >> POOL_SEGMENT_SHIFT) / 64 >= POOL_MAP_SIZE) {
        mo_pool_unmap(segment, POOL_SEGMENT_SIZE);
        return NULL;
    }
    if (mo_pool_settings.huge_pages)
        mo_pool_advise(segment, POOL_SEGMENT_SIZE, MADV_HUGEPAGE);
    segment->shard = shard;
    segment->free = segment->zero = POOL_ALL_SLICES;
    mark_map(segment, true);
    return segment;
}

static void segment_unmap(struct pool_segment *segment) {
    mark_map(segment, false);
    mo_pool_unmap(segment, POOL_SEGMENT_SIZE);
}

/* ------------------------------------------------------------------- slices */

static uint64_t run_mask(size_t index, unsigned slices) {
    return (((uint64_t)1 << slices) - 1) << index;
}

/* Where `slices` of the set are in a row, or 0: one from the bottom, more from
 * the top. */
static size_t find_run(uint64_t set, unsigned slices) {
    if (slices == 1)
        return set == 0 ? 0 : (size_t)__builtin_ctzll(set);
    for (unsigned have = 1; have < slices;) {
        unsigned step = slices - have < have ? slices - have : have;
        set &= set >> step;
        have += step;
    }
    return set == 0 ? 0 : (size_t)(63 - __builtin_clzll(set));
}

/* Where a page can be, first of all in slices that are still in RAM; NULL: nowhere, or in a
 * new segment, which `may_map` allows. */
static struct pool_segment *find_slices(struct pool_shard *shard, unsigned slices, bool may_map,
                                        size_t *ret_index) {
    struct pool_segment *segment;
    size_t index;
    if (atomic_load_explicit(&shard->purge_at, memory_order_relaxed) != 0)
        for (segment = shard->segments; segment != NULL && segment->free != 0;
             segment = segment->next)
            if ((index = find_run(segment->dirty, slices)) != 0)
                goto found;
    for (segment = shard->segments; segment != NULL && segment->free != 0; segment = segment->next)
        if ((index = find_run(segment->free, slices)) != 0)
            goto found;
    segment = may_map ? segment_map(shard) : NULL;
    if (segment == NULL)
        return NULL;
    link_first(shard, segment);
    index = find_run(segment->free, slices);
found:
    *ret_index = index;
    return segment;
}

static unsigned slices_of(size_t block_size) {
    if (block_size <= POOL_SMALL_MAX)
        return 1;
    if (block_size <= POOL_MEDIUM_MAX)
        return POOL_MEDIUM_SLICES;
    return (unsigned)((block_size + POOL_SLICE_SIZE - 1) >> POOL_SLICE_SHIFT);
}

static struct pool_page *page_in(struct pool_shard *shard, unsigned bin, bool may_map, bool lent) {
    size_t block_size = pool_bin_size(bin);
    unsigned slices = slices_of(block_size);
    struct pool_page *page = NULL;
    size_t index;

    pthread_mutex_lock(&shard->lock);
    struct pool_segment *segment = find_slices(shard, slices, may_map, &index);
    if (segment == NULL)
        goto unlock;
    uint64_t mask = run_mask(index, slices);
    page = &segment->pages[index];
    /* All of it is set before the bit in heads: then figures() and the owner may look. */
    page->free = NULL;
    page->block_size = (uint32_t)block_size;
    page->capacity = block_size > POOL_MEDIUM_MAX
                         ? 1
                         : (uint32_t)(((size_t)slices << POOL_SLICE_SHIFT) / block_size);
    pool_set_used(page, lent ? page->capacity : 0);
    atomic_store_explicit(&page->carved, lent ? page->capacity : 0, memory_order_relaxed);
    page->trigger = lent ? page->capacity - pool_enough(page) : 0;
    page->bin = (uint8_t)bin;
    page->state = lent ? POOL_FULL : POOL_FREE;
    page->inverse = mo_pool_settings.check_free ? 0 : UINT64_MAX / block_size + 1;
    page->offset = 0 - (uint64_t)(uintptr_t)pool_page_start(page) * page->inverse;
    page->foreign_inverse = page->inverse;
    page->foreign_offset = page->offset;
    page->slices = (uint8_t)slices;
    page->zero = (segment->zero & mask) == mask;
    page->next = page->previous = NULL;
    atomic_store_explicit(&page->notify_at, pool_enough(page), memory_order_relaxed);
    atomic_store_explicit(&page->foreign, lent ? POOL_FOREIGN_ARMED : 0, memory_order_relaxed);
    segment->free &= ~mask;
    segment->dirty &= ~mask;
    segment->aged &= ~mask;
    segment->zero &= ~mask;
    segment->heads |= (uint64_t)1 << index;
    memset(segment->first + index, (int)index, slices);
    if (segment->free == 0 && shard->last_segment != segment) {
        unlink_segment(shard, segment);
        link_last(shard, segment);
    }
unlock:
    pthread_mutex_unlock(&shard->lock);
    return page;
}

struct pool_page *mo_pool_page_map(struct pool_shard *shard, unsigned bin) {
    struct pool_page *page = page_in(shard, bin, true, false);
    if (page != NULL)
        return page;
    mo_pool_make_room();
    return page_in(shard, bin, true, false);
}

struct pool_page *mo_pool_page_lend(struct pool_shard *shard, unsigned bin, bool *ret_zero) {
    struct pool_page *page = page_in(shard, bin, false, true);
    if (page != NULL)
        *ret_zero = page->zero;
    return page;
}

/* ------------------------------------------------------------------ purging */

/* Under the lock: gives those slices of `dirty` back. */
static uint64_t purge_slices(struct pool_segment *segment, uint64_t slices) {
    uint64_t purged = 0, left = slices;
    int saved = errno; /* a free may come here */
    while (left != 0) {
        unsigned from = (unsigned)__builtin_ctzll(left);
        uint64_t ones = ~(left >> from);
        unsigned count = (unsigned)__builtin_ctzll(ones); /* slice 0 is never among them */
        uint64_t mask = run_mask(from, count);
        char *start = (char *)segment + ((size_t)from << POOL_SLICE_SHIFT);
        if (mo_pool_advise(start, (size_t)count << POOL_SLICE_SHIFT, MADV_DONTNEED) == 0) {
            segment->zero |= mask;
            purged += (uint64_t)count << POOL_SLICE_SHIFT;
        }
        left &= ~mask;
    }
    errno = saved;
    segment->dirty &= ~slices;
    return purged;
}

uint64_t mo_pool_purge_shard(struct pool_shard *shard, bool all, bool keep_one) {
    uint64_t now = mo_pool_now(), earliest = 0, purged = 0;
    struct pool_segment *gone = NULL, *next;
    all |= mo_pool_settings.purge_delay == 0;
    pthread_mutex_lock(&shard->lock);
    for (struct pool_segment *segment = shard->segments; segment != NULL; segment = next) {
        next = segment->next;
        bool due = all || (segment->purge_at != 0 && segment->purge_at <= now);
        /* What has become dirty since the last time has not been so for long:
         * a program that comes and goes with its memory keeps it. */
        uint64_t slices = all ? segment->dirty : segment->aged;
        if (due && segment->heads == 0 && slices == segment->dirty &&
            (!keep_one || shard->segments != shard->last_segment)) {
            purged += (uint64_t)__builtin_popcountll(segment->dirty) << POOL_SLICE_SHIFT;
            unlink_segment(shard, segment);
            segment->next = gone;
            gone = segment;
            continue;
        }
        if (due) {
            purged += purge_slices(segment, slices);
            segment->aged = segment->dirty;
            segment->purge_at = segment->dirty == 0 ? 0 : now + mo_pool_settings.purge_delay;
        }
        if (segment->purge_at != 0 && (earliest == 0 || segment->purge_at < earliest))
            earliest = segment->purge_at;
    }
    atomic_store_explicit(&shard->purge_at, earliest, memory_order_relaxed);
    pthread_mutex_unlock(&shard->lock);
    for (; gone != NULL; gone = next) {
        next = gone->next;
        segment_unmap(gone);
    }
    return purged;
}

void mo_pool_page_unmap(struct pool_page *page) {
    struct pool_segment *segment = pool_segment_of(page);
    struct pool_shard *shard = segment->shard;
    size_t index = pool_page_index(page);
    uint64_t mask = run_mask(index, page->slices), delay = mo_pool_settings.purge_delay;

    pthread_mutex_lock(&shard->lock);
    bool was_full = segment->free == 0;
    memset(segment->first + index, 0, page->slices);
    page->state = POOL_FREE;
    segment->heads &= ~((uint64_t)1 << index);
    segment->free |= mask;
    segment->dirty |= mask;
    if (segment->purge_at == 0) {
        segment->purge_at = mo_pool_now() + delay;
        uint64_t earliest = atomic_load_explicit(&shard->purge_at, memory_order_relaxed);
        if (earliest == 0 || segment->purge_at < earliest)
            atomic_store_explicit(&shard->purge_at, segment->purge_at, memory_order_relaxed);
    }
    if (was_full) {
        unlink_segment(shard, segment);
        link_first(shard, segment);
    }
    pthread_mutex_unlock(&shard->lock);
    if (delay == 0)
        mo_pool_purge_shard(shard, false, true);
}

uint64_t mo_pool_dirty(struct pool_shard *shard) {
    uint64_t slices = 0;
    pthread_mutex_lock(&shard->lock);
    for (struct pool_segment *segment = shard->segments; segment != NULL; segment = segment->next)
        slices += (uint64_t)__builtin_popcountll(segment->dirty);
    pthread_mutex_unlock(&shard->lock);
    return slices << POOL_SLICE_SHIFT;
}

void mo_pool_unmap_segments(struct pool_shard *shard) {
    struct pool_segment *next;
    for (struct pool_segment *segment = shard->segments; segment != NULL; segment = next) {
        next = segment->next;
        segment_unmap(segment);
    }
    shard->segments = shard->last_segment = NULL;
    atomic_store_explicit(&shard->purge_at, 0, memory_order_relaxed);
}
