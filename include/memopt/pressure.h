/*
 * memopt/pressure.h - giving memory back: purge hints, and the pressure ladder,
 * which sees memory run short and does something about it step by step.
 *
 *   1. purge hints
 *   2. events and consumers of the ladder
 *   3. the ladder's watch over the process
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
 * The ladder has four steps. A heap takes those of its `on_limit`, in its order,
 * for each request that it can't serve; the watch takes them as levels rise:
 *
 *   step     a heap, for a request             the watch              at level
 *   PURGE    purgers (and backend), retry      every heap is purged   WARN
 *   SHRINK   consumers use less, retry         consumers use less     HIGH
 *   SPILL    the block comes from a file       new blocks of 64 KiB   CRITICAL
 *            mapping (memopt/heap.h)           and more do
 *   FAIL     NULL and ENOMEM                   heaps that have a      FULL
 *                                              limit stop growing
 *   RELAX                                      what a level brought   falling
 *                                              is taken back
 *
 *   consumer   a function of the program's that makes its memory use smaller:
 *              batch control, a loader of chunks
 *   source     what the watch looks at: a heap's live bytes of its limit; the
 *              process's anonymous resident memory of a budget; its address space
 *              of RLIMIT_AS; its cgroup's memory of the cgroup's limit; the time
 *              that tasks wait for memory (PSI)
 *   level      CALM, WARN, HIGH, CRITICAL or FULL, of a source by thresholds
 *
 * A level is reached at its threshold and left when the figure is below it by the
 * hysteresis. After each step the source is read again: the next step is taken
 * only if it is still needed. For the address space no spilling is begun, as a
 * mapped file counts there like any memory.
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

/* --------------------------------------------------------- 1. purge hints */

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

/* ------------------------------------------------ 2. events and consumers */

enum memopt_pressure_source {
    /* a request over a heap's limit, or one for growth while the process is FULL */
    MEMOPT_PRESSURE_LIMIT = 1,
    MEMOPT_PRESSURE_BACKEND = 2,  /* a request that a heap's backend has no memory for */
    MEMOPT_PRESSURE_HEAP = 4,     /* live bytes of a heap, of its limit */
    MEMOPT_PRESSURE_RSS = 8,      /* resident memory that no file holds, of the budget */
    MEMOPT_PRESSURE_ADDRESS = 16, /* mapped, of RLIMIT_AS */
    MEMOPT_PRESSURE_CGROUP = 32,  /* the cgroup's memory without its file pages, of its limit */
    MEMOPT_PRESSURE_PSI = 64,     /* part of the last ten seconds that tasks waited */
};
enum memopt_pressure_level {
    MEMOPT_PRESSURE_CALM = 0,
    MEMOPT_PRESSURE_WARN = 1,
    MEMOPT_PRESSURE_HIGH = 2,
    MEMOPT_PRESSURE_CRITICAL = 3,
    MEMOPT_PRESSURE_FULL = 4, /* at the limit */
};
enum memopt_pressure_step {
    MEMOPT_PRESSURE_PURGE = 1,
    MEMOPT_PRESSURE_SHRINK = 2,
    MEMOPT_PRESSURE_SPILL = 3,
    MEMOPT_PRESSURE_FAIL = 4,
    MEMOPT_PRESSURE_RELAX = 5,
};

/* A step that was taken. In what a consumer is called with, `after`, `freed` and
 * `served` are not known yet and 0. */
struct memopt_pressure_event {
    size_t size;              /* of this struct */
    uint64_t time;            /* CLOCK_MONOTONIC, ns */
    int source;               /* enum memopt_pressure_source */
    int level;                /* FULL for a request; else what the source has come to */
    int step;                 /* enum memopt_pressure_step */
    struct memopt_heap *heap; /* NULL: the process */
    uint64_t wanted;          /* a request's bytes, else 0 */
    uint64_t before, after;   /* of the source: bytes; PSI: millionths */
    uint64_t limit;           /* likewise; MEMOPT_NO_LIMIT: none */
    uint64_t freed;           /* PURGE, SHRINK: by the word of those asked */
    int served;               /* the request was, or the level fell */
};

/* Called after each step by the thread that took it. It may use the library, but
 * not destroy that heap, nor fork; its own requests get no steps. One a process;
 * NULL takes it away. */
typedef void (*memopt_pressure_fn)(void *context, const struct memopt_pressure_event *event);
MEMOPT_EXPORT void memopt_pressure_set_callback(memopt_pressure_fn callback, void *context);

/* Every step is also an event of the process's report (memopt_report(), `memopt
 * run`), of the kind "purge", "shrink", "spill", "enomem" or "relax". So that a
 * heap that lives at its limit does not fill the report, the events of a heap and
 * step that are written are the 1st, 2nd, 4th, 8th ..., and say which it is. */

/* A consumer: told to use less (step SHRINK), that new blocks will be spilled and
 * it may spill its own (step SPILL: memopt_heap_spill()), or that it may use more
 * again (RELAX with level WARN or less). Returns how many bytes it freed. Called
 * like the callback. `heap`: for that heap's pressure and for the process's;
 * NULL: for any. */
typedef uint64_t (*memopt_pressure_consumer_fn)(void *context,
                                                const struct memopt_pressure_event *event);
#define MEMOPT_PRESSURE_CONSUMERS 32
/* Returns 0, -EINVAL (NULL), -EEXIST, -ENOSPC (so many are there). */
MEMOPT_EXPORT int memopt_pressure_add_consumer(struct memopt_heap *heap,
                                               memopt_pressure_consumer_fn consumer, void *context,
                                               struct memopt_error *error);
/* -ENOENT: not there. Destroying the heap removes its consumers, too. A call that
 * another thread began may still be running when this returns. */
MEMOPT_EXPORT int memopt_pressure_remove_consumer(struct memopt_heap *heap,
                                                  memopt_pressure_consumer_fn consumer,
                                                  void *context, struct memopt_error *error);

/* ----------------------------------------------------------- 3. the watch */

struct memopt_pressure_options {
    size_t size;                 /* of this struct */
    unsigned sources;            /* HEAP to PSI, or-ed; those that are not there are left out */
    unsigned steps;              /* 1 << step, or-ed */
    double warn, high, critical; /* parts of a limit, 0 to 1 */
    double psi_warn, psi_high, psi_critical; /* parts of time */
    double hysteresis;
    uint64_t budget;   /* of RSS, bytes; unset: the machine's memory */
    uint64_t interval; /* ns; polls that follow faster do nothing */
    /* NULL: every heap that is open at the time. While those are looked at, purgers,
     * consumers and callback can't open or destroy heaps (-EDEADLK), nor wait for a
     * thread that does. A list is copied; its heaps must outlive the watch. */
    struct memopt_heap *const *heaps;
    size_t heap_count;
    int background;   /* 1: a thread of the library's polls every interval */
    const char *proc; /* a directory in place of /proc; NULL: /proc */
};
/* A field that is 0 is what the key of its name in [pressure] says. */
#define MEMOPT_PRESSURE_OPTIONS_INIT                                                               \
    { sizeof(struct memopt_pressure_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, 0, NULL }

/* Begins the watch; there is one a process. `options` may be NULL. -EINVAL: an
 * option, or the INI; -EALREADY: it has begun; -ENOTSUP: none of the sources is
 * there; -ENOMEM; -EAGAIN: no thread could be had; -EDEADLK: from inside
 * memopt_heap_each(). */
MEMOPT_EXPORT int memopt_pressure_start(const struct memopt_pressure_options *options,
                                        struct memopt_error *error);
/* Reads the sources and takes the steps that are due, in the calling thread. Costs
 * a look at the clock when it is not time yet or another thread is at it. Returns
 * the level of the process's sources, not of a heap, or -ENOENT (there is no watch), -EDEADLK (from inside
 * memopt_heap_each() with every heap). */
MEMOPT_EXPORT int memopt_pressure_poll(void);
/* Takes back what the levels brought and ends. Nobody may be polling. -ENOENT;
 * -EDEADLK: from inside memopt_heap_each(). */
MEMOPT_EXPORT int memopt_pressure_stop(void);

struct memopt_pressure_statistics {
    size_t size;          /* of this struct, set by the caller */
    int level;            /* the highest of the process's sources */
    int source;           /* the one that has it */
    unsigned sources;     /* those that are there, or-ed */
    uint64_t used, limit; /* of `source` when it was last read */
    uint64_t polls;       /* that read the sources */
    /* all steps taken in this process, also by heaps alone */
    uint64_t purges, shrinks, spills, fails, relaxes;
};
#define MEMOPT_PRESSURE_STATISTICS_INIT                                                            \
    { sizeof(struct memopt_pressure_statistics), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
/* Also without a watch. -EINVAL: NULL, or a size that is not of this struct. */
MEMOPT_EXPORT int memopt_pressure_stats(struct memopt_pressure_statistics *stats);

#ifdef __cplusplus
}
#endif
#endif
