/*
 * memopt/arena.h - an arena over a fixed region: blocks one after the other, given
 * back together by going back to a mark.
 *
 *     static char region[1 << 20];
 *     struct memopt_arena *arena;
 *     struct memopt_arena_position mark;
 *     if (memopt_arena_open(region, sizeof(region), NULL, &arena, &error) < 0)
 *         errx(1, "%s", error.message);
 *     memopt_arena_mark(arena, &mark, NULL);
 *     float *x = memopt_arena_alloc(arena, n * sizeof(*x), 64);
 *     ...
 *     memopt_arena_reset(arena, &mark, NULL);      // x is gone
 *
 * Vocabulary
 *   region  the bytes all blocks are cut from; there are never more. They are the
 *           caller's, or come from a heap at open and go back at close.
 *   used    the bytes from the region's beginning to the end of the last block:
 *           blocks, the gaps that alignment makes, marks, the arena itself
 *   mark    a place to go back to. Marks nest: going back to one gives up the
 *           blocks and marks made after it; it stays itself, for the next round.
 *           A mark that was given up is refused.
 *
 * With the caller's region the arena takes no memory from anywhere: its own
 * records lie in the region. A block costs its size and alignment; in debug 64
 * bytes more. A mark takes 32 bytes.
 *
 * Ownership: closing ends the arena and all blocks; the caller's region is the
 * caller's again. Misuse (memopt/misuse.h): in debug, bytes before or after a block
 * that were written (found at reset and close), and bytes written after the reset
 * (found when they are handed out again).
 *
 * Threads: one at a time. fork: the child has a copy, but of a region that is
 * shared memory.
 */
#ifndef MEMOPT_ARENA_H
#define MEMOPT_ARENA_H

#include <memopt/error.h>
#include <memopt/heap.h>
#include <memopt/misuse.h>

#ifdef __cplusplus
extern "C" {
#endif

struct memopt_arena;

struct memopt_arena_options {
    size_t size;              /* of this struct */
    struct memopt_heap *heap; /* for a region of the arena's own; NULL: the default heap */
    const char *name;         /* for messages; NULL: "arena" */
    int debug;                /* enum memopt_debug */
    memopt_misuse_fn on_misuse;
    void *context;
};
#define MEMOPT_ARENA_OPTIONS_INIT                                                                  \
    { sizeof(struct memopt_arena_options), NULL, NULL, MEMOPT_DEBUG_BUILD, NULL, NULL }

/* A place in an arena. Filled by memopt_arena_mark(). */
struct memopt_arena_position {
    size_t offset;
    uint64_t serial;
};

/* `region` NULL: `size` bytes from the heap. `options` may be NULL.
 * -EINVAL: an option, or a region that is too small (less than 1 KiB);
 * -ENOMEM: the heap has none. */
MEMOPT_EXPORT int memopt_arena_open(void *region, size_t size,
                                    const struct memopt_arena_options *options,
                                    struct memopt_arena **ret_arena, struct memopt_error *error);
/* NULL is nothing. -EOVERFLOW (debug): something wrote outside of a block; it is
 * closed all the same. */
MEMOPT_EXPORT int memopt_arena_close(struct memopt_arena *arena, struct memopt_error *error);

/* `size` bytes, at least 1, with undefined contents, at a multiple of `alignment`, a
 * power of two (0: 16). NULL and errno ENOMEM (the region has no room) or EINVAL. */
MEMOPT_EXPORT void *memopt_arena_alloc(struct memopt_arena *arena, size_t size, size_t alignment)
    __attribute__((warn_unused_result));
/* The same, zeroed; a product that overflows is ENOMEM. */
MEMOPT_EXPORT void *memopt_arena_calloc(struct memopt_arena *arena, size_t count, size_t size)
    __attribute__((warn_unused_result));

/* -ENOMEM: the region has no room for it. */
MEMOPT_EXPORT int memopt_arena_mark(struct memopt_arena *arena,
                                    struct memopt_arena_position *ret_mark,
                                    struct memopt_error *error);
/* `mark` NULL: to the beginning, which gives up all marks. -EINVAL: the mark was
 * given up, or is another arena's; nothing has happened. -EOVERFLOW (debug): as
 * close. */
MEMOPT_EXPORT int memopt_arena_reset(struct memopt_arena *arena,
                                     const struct memopt_arena_position *mark,
                                     struct memopt_error *error);

struct memopt_arena_statistics {
    size_t size;             /* of this struct, set by the caller */
    uint64_t capacity;       /* of the region */
    uint64_t used, peak;     /* bytes; peak: the highest `used` ever */
    uint64_t blocks;         /* handed out since open */
    uint64_t marks;          /* there now */
    uint64_t resets, failed; /* failed: allocations without room */
    uint64_t misuses;
};
#define MEMOPT_ARENA_STATISTICS_INIT                                                               \
    { sizeof(struct memopt_arena_statistics), 0, 0, 0, 0, 0, 0, 0, 0 }
/* -EINVAL: a NULL, or a size that is not of this struct. */
MEMOPT_EXPORT int memopt_arena_stats(const struct memopt_arena *arena,
                                     struct memopt_arena_statistics *stats);

#ifdef __cplusplus
}
#endif
#endif
