/*
 * memopt/freelist.h - an allocator over a region of the caller's: blocks of any
 * size, freed in any order, and no memory but the region.
 *
 *     static char region[1 << 20];
 *     struct memopt_freelist *list;
 *     if (memopt_freelist_open(region, sizeof(region), NULL, &list, &error) < 0)
 *         errx(1, "%s", error.message);
 *     void *p = memopt_freelist_alloc(list, 1000, 64);
 *     memopt_freelist_free(list, p, &error);
 *
 * How it works: two-level segregated fit (Masmano, Ripoll, Crespo and Real, "TLSF: a
 * new dynamic memory allocator for real-time systems", ECRTS 2004). Free blocks are
 * in lists by size class, sixteen to a doubling, and two levels of bit maps lead to
 * one that fits; a freed block is joined with its free neighbours. Both take the
 * same time whatever the region holds, except that the last class is looked through
 * before a request fails.
 *
 * What it costs: a block has 32 bytes before it and is a multiple of 16 bytes; the
 * lists and a map of where blocks begin take 1/64 of the region and 1 to 5 KiB.
 *
 * Misuse (memopt/misuse.h) is noticed at any time where it concerns the pointer:
 * freeing what is no block of the region, or is free. An overflow into the next
 * block's record is found when either block is freed; in debug, any byte before or
 * after the block, and bytes written after the free.
 *
 * Other ways to the same: a heap over the `arena` allocator with options.region
 * (memopt/heap.h) has limits, figures in the report and a lock, and ends the program
 * on misuse; this has none of it, and needs no plugin and no configuration.
 *
 * Threads: one at a time. fork: the child has a copy, but of a region that is
 * shared memory.
 */
#ifndef MEMOPT_FREELIST_H
#define MEMOPT_FREELIST_H

#include <memopt/error.h>
#include <memopt/heap.h>
#include <memopt/misuse.h>

#ifdef __cplusplus
extern "C" {
#endif

struct memopt_freelist;

struct memopt_freelist_options {
    size_t size;      /* of this struct */
    const char *name; /* for messages; NULL: "freelist" */
    int debug;        /* enum memopt_debug */
    memopt_misuse_fn on_misuse;
    void *context;
};
#define MEMOPT_FREELIST_OPTIONS_INIT                                                               \
    { sizeof(struct memopt_freelist_options), NULL, MEMOPT_DEBUG_BUILD, NULL, NULL }

/* `options` may be NULL. -EINVAL: no region, one that is too small (about 4 KiB are
 * needed) or an option. */
MEMOPT_EXPORT int memopt_freelist_open(void *region, size_t size,
                                       const struct memopt_freelist_options *options,
                                       struct memopt_freelist **ret_list,
                                       struct memopt_error *error);
/* The region is the caller's again, with whatever was in it. NULL is nothing. */
MEMOPT_EXPORT void memopt_freelist_close(struct memopt_freelist *list);

/* `size` bytes, at least 1, with undefined contents, at a multiple of `alignment`, a
 * power of two (0: 16). NULL and errno ENOMEM (no free block is large enough) or
 * EINVAL. */
MEMOPT_EXPORT void *memopt_freelist_alloc(struct memopt_freelist *list, size_t size,
                                          size_t alignment) __attribute__((warn_unused_result));
/* NULL is nothing. -EINVAL: no block of the list begins there; -EALREADY: it was
 * freed before; in both cases nothing has happened. -EOVERFLOW: something wrote
 * outside of the block. In debug it is freed all the same; where the record of a
 * block is damaged it is not, as the list could not be trusted any more. */
MEMOPT_EXPORT int memopt_freelist_free(struct memopt_freelist *list, void *p,
                                       struct memopt_error *error);
/* What was asked for. 0: no block begins there. */
MEMOPT_EXPORT size_t memopt_freelist_size(const struct memopt_freelist *list, const void *p);

/* Bytes, but for the counts. */
struct memopt_freelist_statistics {
    size_t size;                     /* of this struct, set by the caller */
    uint64_t capacity;               /* what blocks and their records can have */
    uint64_t live_bytes, peak_bytes; /* of blocks, as asked for */
    uint64_t live_blocks, free_blocks;
    uint64_t free_bytes;   /* in free blocks */
    uint64_t largest_free; /* the largest that can be had, with alignment 16 */
    double fragmentation;  /* 1 - largest_free / free_bytes; 0 if nothing is free */
    uint64_t allocations, frees, failed, misuses;
};
#define MEMOPT_FREELIST_STATISTICS_INIT                                                            \
    { sizeof(struct memopt_freelist_statistics), 0, 0, 0, 0, 0, 0, 0, 0.0, 0, 0, 0, 0 }
/* -EINVAL: a NULL, or a size that is not of this struct. */
MEMOPT_EXPORT int memopt_freelist_stats(const struct memopt_freelist *list,
                                        struct memopt_freelist_statistics *stats);

#ifdef __cplusplus
}
#endif
#endif
