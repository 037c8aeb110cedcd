/*
 * memopt/pressure.h - giving memory back: purge hints.
 *
 * A purge hint asks the heaps' purgers and backends to give unused memory back,
 * every N steps of a training loop or when the loop has been idle, and reports
 * how much came back:
 *
 *     struct memopt_purge_hint *hint;
 *     if (memopt_purge_hint_new(NULL, &hint, &error) < 0) ...
 *     for (step = 0; step < steps; step++) {
 *         train();
 *         memopt_purge_hint_step(hint, NULL);
 *     }
 *     memopt_purge_hint_free(hint);
 *
 * Vocabulary
 *   purge      a heap's purgers run, then its backend gives unused memory back to
 *              the system; the same as memopt_heap_purge()
 *   claimed    bytes that purgers and backends say they gave back
 *   resident   the process's resident memory (RSS). What it fell by is what the
 *              system has got back, if no other thread touched memory meanwhile;
 *              the two differ where a backend counts what was never touched, or
 *              doesn't count at all (then claimed is 0).
 *   idle       no step for a time
 *
 * Ownership: the library owns a hint until memopt_purge_hint_free(). A list of
 * heaps is copied; the heaps must outlive the hint.
 * Threads: any function, any thread; a purge that another thread is at is not
 * begun twice. memopt_purge_hint_free() demands that nobody else uses the hint.
 * fork: the child has the hint with its figures, but not its background thread:
 * there memopt_purge_hint_idle() has to be called.
 */
#ifndef MEMOPT_PRESSURE_H
#define MEMOPT_PRESSURE_H

#include <memopt/heap.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------ purge hints */

struct memopt_purge_hint;

enum memopt_purge_cause {
    MEMOPT_PURGE_STEPS = 1, /* every N steps */
    MEMOPT_PURGE_IDLE = 2,  /* no step for a time */
    MEMOPT_PURGE_NOW = 3,   /* memopt_purge_hint_now() */
};

/* A heap's part in a purge. */
struct memopt_purge_share {
    char name[MEMOPT_HEAP_NAME_MAX];
    uint64_t claimed;
    /* 1: its backend has no heaps to tell apart and had been purged for a heap
     * before it in this purge, so only its purgers ran. */
    int shared;
};

struct memopt_purge_result {
    size_t size;                              /* of this struct, set by the caller */
    int cause;                                /* enum memopt_purge_cause */
    uint64_t step;                            /* steps so far */
    uint64_t claimed;                         /* of all heaps */
    uint64_t resident_before, resident_after; /* MEMOPT_UNKNOWN: /proc can't be read */
    uint64_t duration;                        /* ns */
    size_t heap_count;                        /* heaps purged */
    /* The first of them, as many as there is room for: all of a list, else 64.
     * Valid until the next purge of this hint, or its end. */
    const struct memopt_purge_share *shares;
    size_t share_count;
};
#define MEMOPT_PURGE_RESULT_INIT                                                                   \
    { sizeof(struct memopt_purge_result), 0, 0, 0, 0, 0, 0, 0, NULL, 0 }

/* Called after each purge, by the thread that did it, with no lock held. It may
 * use the library, but not free the hint. */
typedef void (*memopt_purge_done_fn)(void *context, const struct memopt_purge_result *result);

#define MEMOPT_PURGE_NEVER UINT64_MAX
struct memopt_purge_hint_options {
    size_t size;    /* of this struct */
    uint64_t every; /* steps; MEMOPT_PURGE_NEVER; 0: [pressure] purge_every */
    uint64_t idle;  /* ns without a step; MEMOPT_PURGE_NEVER; 0: [pressure] purge_idle */
    /* NULL: every heap that is open then, the default heap if it was opened. While
     * those are purged, their purgers can't open or destroy heaps (-EDEADLK), nor
     * wait for a thread that does. */
    struct memopt_heap *const *heaps;
    size_t heap_count;
    int background;            /* 1: a thread of the library's looks for idleness */
    memopt_purge_done_fn done; /* or NULL */
    void *context;
};
#define MEMOPT_PURGE_HINT_OPTIONS_INIT                                                             \
    { sizeof(struct memopt_purge_hint_options), 0, 0, NULL, 0, 0, NULL, NULL }

/* `options` may be NULL. -EINVAL: an option, or the INI; -ENOMEM; -EAGAIN: no
 * thread could be had; -EDEADLK: from inside memopt_heap_each(). */
MEMOPT_EXPORT int memopt_purge_hint_new(const struct memopt_purge_hint_options *options,
                                        struct memopt_purge_hint **ret_hint,
                                        struct memopt_error *error);
/* NULL is nothing. Ends the background thread. A hint that has purged leaves an
 * event "purge" with its totals in the process's report. */
MEMOPT_EXPORT void memopt_purge_hint_free(struct memopt_purge_hint *hint);

/* A step has been made; costs an atomic addition (and, with `idle`, a look at the
 * clock) until it is the N-th. Returns 1 after a purge, 0 without one, -EINVAL (a
 * NULL, or a result whose size is not of the struct), -EDEADLK (from inside
 * memopt_heap_each() with every heap). `ret_result` may be NULL, and is written
 * only when 1 is returned. */
MEMOPT_EXPORT int memopt_purge_hint_step(struct memopt_purge_hint *hint,
                                         struct memopt_purge_result *ret_result);
/* From a loop that waits for work: purges if the last step (or the hint's
 * beginning) is `idle` ago and nothing was purged for it yet. Returns as above. */
MEMOPT_EXPORT int memopt_purge_hint_idle(struct memopt_purge_hint *hint,
                                         struct memopt_purge_result *ret_result);
/* Purges. Returns as above; 0: another thread is at it. */
MEMOPT_EXPORT int memopt_purge_hint_now(struct memopt_purge_hint *hint,
                                        struct memopt_purge_result *ret_result);

struct memopt_purge_hint_statistics {
    size_t size;                         /* of this struct, set by the caller */
    uint64_t steps, purges, idle_purges; /* idle_purges: of the purges */
    uint64_t claimed;
    int64_t resident;  /* sum of what RSS fell by; rises count against it */
    uint64_t duration; /* ns spent purging */
};
#define MEMOPT_PURGE_HINT_STATISTICS_INIT                                                          \
    { sizeof(struct memopt_purge_hint_statistics), 0, 0, 0, 0, 0, 0 }
/* -EINVAL: a NULL, or a size that is not of this struct. */
MEMOPT_EXPORT int memopt_purge_hint_stats(struct memopt_purge_hint *hint,
                                          struct memopt_purge_hint_statistics *stats);

#ifdef __cplusplus
}
#endif
#endif
