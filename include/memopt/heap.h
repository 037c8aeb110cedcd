/*
 * memopt/heap.h - named heaps: memory with a name, a backend, a limit and what
 * happens at the limit.
 *
 *     struct memopt_error error;
 *     struct memopt_heap *gradients;
 *     if (memopt_heap_open("gradients", NULL, &gradients, &error) < 0)
 *         errx(1, "%s", error.message);
 *     float *g = memopt_heap_calloc(gradients, n, sizeof(*g));
 *     ...
 *     memopt_heap_destroy(gradients, NULL);      // frees g too
 *
 * and in memopt.ini, which the program does not have to know:
 *
 *     [heap.gradients]
 *     allocator = pool
 *     limit     = 512MiB
 *     on_limit  = purge
 *
 * Vocabulary
 *   backend   the allocator plugin a heap takes its memory from
 *   usable    the bytes a block really has, at least those asked for; all of
 *             them may be written. All accounting is in usable bytes.
 *   live      blocks handed out and not yet freed; its bytes are those that are
 *             not spilled
 *   spilled   of a block: in a mapping of a file, not in memory of the backend's
 *   limit     the most live bytes a heap may have; never exceeded
 *   refused   a request that the limit turned down; `failed`: that the backend
 *             had no memory for
 *   purger    a function of the program's that gives memory it keeps for reuse
 *             back to the heap
 *
 * At the limit, or when the backend has no memory, the heap goes through the
 * steps of `on_limit` in their order, trying again after each; then it asks the
 * limit callback, if there is one, for as long as that says to try again; then
 * the request fails with NULL and errno ENOMEM, and nothing has changed.
 *   purge   the purgers run; where it is the backend that has no memory, it gives
 *           back what it keeps unused too (that is not live, so at the limit it
 *           would not help)
 *   shrink  the consumers (memopt/pressure.h) are told to use smaller chunks
 *   spill   the block comes from a mapping of a file
 *   fail    no more steps
 * Each step, and the failure, is an event: see memopt/pressure.h.
 *
 * Spilled blocks are the heap's like the others: they are written, resized and
 * freed the same way. Their bytes do not count as live, so the limit does not
 * hold them; `spill_limit` and the disk do. A spilled block takes whole pages (so
 * small ones waste room), from an unlinked file in `[pressure] spill_dir` whose
 * space is reserved before it is mapped: a full disk is one more reason for
 * ENOMEM and never a SIGBUS (an error of the device can be). The kernel writes
 * their pages out when memory is short; they still count against RLIMIT_AS.
 * A child of fork gets a copy of the file for itself, made just before the fork:
 * that takes as long as writing what is spilled, and what other threads write to
 * spilled blocks meanwhile the child may not have. If there is no room for the
 * copy, touching a spilled block in the child is SIGSEGV, and an event says so;
 * freeing it is not. (What doesn't run fork handlers, such as vfork and
 * posix_spawn, copies nothing.)
 *
 * A request made from inside a purger, a consumer or a callback by the same
 * thread gets no steps: it succeeds or fails at once.
 *
 * Ownership: the library owns a heap; destroying it ends it and all its blocks.
 * Opening a name twice gives the same heap. A block belongs to the caller and
 * goes back to the heap it came from: free() is not for it, nor another heap.
 * A pointer that is not the heap's is caught where that is cheap (over backends
 * without heaps of their own, such as libc and tcmalloc): nothing is freed,
 * errno is EINVAL and `invalid_frees` counts it.
 *
 * A heap of NULL has no memory (NULL, errno EINVAL), and there is nothing to do for it.
 *
 * Threads: any thread may call anything at any time, and free what another
 * allocated; only memopt_heap_destroy() demands that nobody else is using, or
 * will use, that heap. Not for signal handlers.
 *
 * Memory checkers: in a program with AddressSanitizer, and under Valgrind, blocks on
 * every backend have red zones on both sides, usable is exactly what was asked for,
 * and what is freed is poisoned, and held back for a while.
 *
 * Versions: structs carry their size, set by the caller (the _INIT macros do),
 * and are only appended to.
 */
#ifndef MEMOPT_HEAP_H
#define MEMOPT_HEAP_H

#include <memopt/error.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MEMOPT_EXPORT
#define MEMOPT_EXPORT __attribute__((visibility("default")))
#endif
#ifndef MEMOPT_UNKNOWN
#define MEMOPT_UNKNOWN UINT64_MAX
#endif

#define MEMOPT_NO_LIMIT UINT64_MAX
/* With its NUL. A name is letters, digits, '_', '-' and '.'. */
#define MEMOPT_HEAP_NAME_MAX 64

struct memopt_heap;

/* ------------------------------------------------------- opening and ending */

/* What the program wants otherwise than the INI has it: each field that is not
 * NULL or 0 goes before the key of [heap.NAME]. */
struct memopt_heap_options {
    size_t size; /* of this struct */
    const char
        *allocator; /* plugin name or absolute path; NULL: the INI's, else [memopt] allocator */
    uint64_t limit; /* bytes; MEMOPT_NO_LIMIT: none; 0: the INI's */
    const char *on_limit; /* "purge, shrink, spill, fail"; NULL: the INI's */
    /* Memory of the caller's to allocate from, which must outlive the heap. Only
     * backends that can (arena) take it; NULL: what the INI's `region` says. */
    void *region;
    size_t region_size;
    const char *spill_dir; /* absolute; NULL: [pressure] spill_dir */
    uint64_t spill_limit;  /* bytes; MEMOPT_NO_LIMIT: none; 0: the INI's */
};
#define MEMOPT_HEAP_OPTIONS_INIT                                                                   \
    { sizeof(struct memopt_heap_options), NULL, 0, NULL, NULL, 0, NULL, 0 }

/* Gives the heap of that name, creating it at first. `options` may be NULL; they
 * count when the heap is created and are not compared with those of a heap that
 * is there. "default" is memopt_heap_default().
 * Fails with -EINVAL (the name, an option or the INI), -ENOENT (no such
 * allocator), -ENOTSUP (the allocator can't do it: a region; a heap that can't
 * spill: the default heap, a spill_dir in memory), what opening a file in
 * spill_dir gave, -ENOMEM, -EDEADLK (from inside memopt_heap_each()), or what the backend gave;
 * the message says what to do. */
MEMOPT_EXPORT int memopt_heap_open(const char *name, const struct memopt_heap_options *options,
                                   struct memopt_heap **ret_heap, struct memopt_error *error);

/* The heap of that name, or NULL if none is open: creates nothing, reads no
 * configuration. */
MEMOPT_EXPORT struct memopt_heap *memopt_heap_find(const char *name);

/* The process's malloc as a heap. Under `memopt run` that is the allocator it
 * put the program on, trackers included; otherwise `[memopt] allocator`. It can
 * have a limit and callbacks like any other, which count for what is taken
 * through it: blocks from plain malloc() are not in its figures. It can't be
 * destroyed. NULL: it could not be opened, see `error`. */
MEMOPT_EXPORT struct memopt_heap *memopt_heap_default(struct memopt_error *error);

/* Frees every block of the heap and the heap. Nobody else may be using it; its
 * name may be opened again. NULL is nothing. -EINVAL: the default heap;
 * -EDEADLK: from inside memopt_heap_each(). */
MEMOPT_EXPORT int memopt_heap_destroy(struct memopt_heap *heap, struct memopt_error *error);

/* ------------------------------------------------------------------- blocks */

/* At least `size` bytes, 16-byte aligned (below 16 bytes: 8); size 0 gives a
 * pointer of its own. NULL and errno ENOMEM on failure. */
MEMOPT_EXPORT void *memopt_heap_alloc(struct memopt_heap *heap, size_t size)
    __attribute__((malloc, warn_unused_result, alloc_size(2)));
/* The same, zeroed; a product that overflows is ENOMEM. */
MEMOPT_EXPORT void *memopt_heap_calloc(struct memopt_heap *heap, size_t count, size_t size)
    __attribute__((malloc, warn_unused_result, alloc_size(2, 3)));
/* As realloc(3): p NULL is alloc, size 0 frees and gives NULL; on failure p is
 * untouched. The new block is aligned as alloc's, whatever the old one was. */
MEMOPT_EXPORT void *memopt_heap_realloc(struct memopt_heap *heap, void *p, size_t size)
    __attribute__((warn_unused_result, alloc_size(3)));
/* `alignment` must be a power of two, else errno is EINVAL; any size. */
MEMOPT_EXPORT void *memopt_heap_aligned_alloc(struct memopt_heap *heap, size_t alignment,
                                              size_t size)
    __attribute__((malloc, warn_unused_result, alloc_align(2), alloc_size(3)));
/* NULL is nothing. Keeps errno, unless the pointer is found not to be the heap's
 * (EINVAL). */
MEMOPT_EXPORT void memopt_heap_free(struct memopt_heap *heap, void *p);
/* The bytes the block has; 0 for NULL. */
MEMOPT_EXPORT size_t memopt_heap_usable_size(struct memopt_heap *heap, void *p);

/* ----------------------------------------------------- limit and pressure */

enum memopt_limit_reason {
    MEMOPT_LIMIT_REACHED = 1,  /* the request would go over the limit */
    MEMOPT_LIMIT_BACKEND = 2,  /* the backend has no memory */
    MEMOPT_LIMIT_PRESSURE = 3, /* the process is FULL (memopt/pressure.h): no growth */
};
/* What a request that can't be served as it is looks like. */
struct memopt_limit_event {
    size_t size; /* of this struct */
    struct memopt_heap *heap;
    int reason;       /* enum memopt_limit_reason */
    unsigned attempt; /* how often the callback was asked for this request before */
    uint64_t wanted;  /* bytes asked for; in realloc, of the whole new block */
    uint64_t live;    /* of the heap, now */
    uint64_t limit;   /* MEMOPT_NO_LIMIT: none */
};
enum memopt_limit_answer {
    MEMOPT_LIMIT_FAIL = 0,  /* let the request fail */
    MEMOPT_LIMIT_RETRY = 1, /* try again: something was freed, or the limit raised */
};
/* Called in the thread that asked, with no lock held: it may free, allocate,
 * wait, use any function of this library but memopt_heap_destroy() on that heap.
 * It is asked again for as long as it says RETRY and the request does not fit. */
typedef int (*memopt_limit_fn)(void *context, const struct memopt_limit_event *event);

/* One callback a heap; NULL takes it away. */
MEMOPT_EXPORT void memopt_heap_set_limit_callback(struct memopt_heap *heap,
                                                  memopt_limit_fn callback, void *context);

/* Changes the limit; one below what is live is allowed, and lets nothing new in
 * until enough is freed. To give the first limit to a heap that has none, no
 * other thread may be inside the heap (its counters change their way). */
MEMOPT_EXPORT void memopt_heap_set_limit(struct memopt_heap *heap, uint64_t limit);

/* A purger: gives memory it keeps for reuse back to the heap with
 * memopt_heap_free() and returns how many bytes. Called by whoever purges, from
 * any thread, with no lock of the heap's held; not again while it runs in the
 * same thread. */
typedef uint64_t (*memopt_purge_fn)(void *context);
/* Returns 0, -EINVAL (NULL), -EEXIST, -ENOSPC (MEMOPT_HEAP_PURGERS are there). */
#define MEMOPT_HEAP_PURGERS 64
MEMOPT_EXPORT int memopt_heap_add_purger(struct memopt_heap *heap, memopt_purge_fn purge,
                                         void *context, struct memopt_error *error);
/* -ENOENT: not there. A call that another thread began may still be running
 * when this returns. */
MEMOPT_EXPORT int memopt_heap_remove_purger(struct memopt_heap *heap, memopt_purge_fn purge,
                                            void *context, struct memopt_error *error);

/* Runs the purgers, then has the backend give unused memory back to the system.
 * Returns how many bytes the two together say they gave back. */
MEMOPT_EXPORT uint64_t memopt_heap_purge(struct memopt_heap *heap);

/* For heaps with `spill` in on_limit: moves a block into the spill file, or back
 * into the backend's memory within the limit, as realloc would: the block is at
 * the address that is returned, the same if it was there already. NULL, and the
 * block untouched, with errno ENOMEM, EINVAL (not the heap's, where that is found)
 * or ENOTSUP (no such heap). The owner of a cold block calls it, when nobody else
 * uses the block. */
MEMOPT_EXPORT void *memopt_heap_spill(struct memopt_heap *heap, void *p)
    __attribute__((warn_unused_result));
MEMOPT_EXPORT void *memopt_heap_unspill(struct memopt_heap *heap, void *p)
    __attribute__((warn_unused_result));

/* --------------------------------------------------------------- statistics */

/* Bytes, but for the counts. Exact when no other thread is inside the heap;
 * otherwise a moment's value of each figure, up to 64 KiB a thread off in bytes
 * (with a limit: live and peak are exact always). */
struct memopt_heap_statistics {
    size_t size;           /* of this struct, set by the caller */
    const char *name;      /* the heap's, as long as it lives */
    const char *allocator; /* likewise */
    uint64_t limit;        /* MEMOPT_NO_LIMIT: none */
    uint64_t live_bytes, live_blocks;
    uint64_t peak_bytes;         /* highest live_bytes ever */
    uint64_t peak_error;         /* peak_bytes may be off by this much, either way; 0: exact */
    uint64_t allocations, frees; /* a realloc is one of each */
    uint64_t refused;            /* over the limit, after all steps */
    uint64_t failed;             /* the backend had no memory, after all steps */
    uint64_t invalid_frees;      /* pointers that were found not to be the heap's */
    uint64_t purges, purged_bytes;
    /* By the backend's own figures; MEMOPT_UNKNOWN and NaN where it has none. */
    uint64_t committed;   /* held from the system: live, free and bookkeeping */
    double fragmentation; /* 1 - live/committed as the backend defines it */
    int whole_backend;    /* 1: committed and fragmentation are those of all memory of the
                             backend, which has no heaps to tell apart; 0: of this heap */
    uint64_t spilled_bytes, spilled_blocks; /* now; the blocks are in live_blocks, too */
    uint64_t spills;                        /* blocks ever spilled */
};
#define MEMOPT_HEAP_STATISTICS_INIT                                                                \
    {                                                                                              \
        sizeof(struct memopt_heap_statistics), NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  \
            0.0, 0, 0, 0, 0                                                                        \
    }

/* Fills the struct up to its `size`. -EINVAL: a NULL, or a size that is not of
 * this struct. */
MEMOPT_EXPORT int memopt_heap_stats(struct memopt_heap *heap, struct memopt_heap_statistics *stats);

/* Calls `visit` for every open heap in the order they were opened (the default
 * heap where it has been used) until it returns non-zero, and returns that; 0 at
 * the end. The visitor may use the heaps, but open and destroy none: those fail
 * with -EDEADLK, as does this function inside itself. */
typedef int (*memopt_heap_visit_fn)(void *context, struct memopt_heap *heap,
                                    const struct memopt_heap_statistics *stats);
MEMOPT_EXPORT int memopt_heap_each(memopt_heap_visit_fn visit, void *context);

MEMOPT_EXPORT const char *memopt_heap_name(const struct memopt_heap *heap);

#ifdef __cplusplus
}
#endif
#endif
