/*
 * pressure.h - inside libmemopt: what purge hints and the pressure ladder share
 * (memopt/pressure.h is what is promised).
 *
 *   hint.c      purge hints
 *   events.c    events, the callback, consumers; the lock, clock and threads
 *   monitor.c   the watch over the process
 *   sources.c   what the watch looks at
 *
 * Lock order: the library's mutex, fork hooks, mo_pressure_lock, a heap's. No
 * function of the program's is called with mo_pressure_lock held.
 */
#ifndef MO_PRESSURE_PRESSURE_H
#define MO_PRESSURE_PRESSURE_H

#include "core/heap/heap.h"

#include <memopt/pressure.h>

/* Over the lists and small figures of hints and of the ladder; short. */
extern pthread_mutex_t mo_pressure_lock;

/* ------------------------------------------------------------- events.c */

/* A step was taken: to the statistics, the callback and the report. The time is
 * filled in. */
void mo_pressure_say(struct memopt_pressure_event *event);
/* The consumers that `event` concerns (without a heap: all); returns what they say
 * they freed. */
uint64_t mo_pressure_consult(struct memopt_pressure_event *event);
/* The heap goes. */
void mo_pressure_forget(const struct memopt_heap *heap);
/* Fills the counts of steps. */
void mo_pressure_counts(struct memopt_pressure_statistics *stats);

uint64_t mo_clock(void); /* CLOCK_MONOTONIC, ns */
/* A condition variable that waits by that clock. 0 or -errno. */
int mo_condition_init(pthread_cond_t *condition);
/* Waits until mo_clock() is `deadline` or the condition is signalled. */
void mo_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline);
/* A joinable thread that gets no signals. 0 or -errno. */
int mo_thread_start(pthread_t *ret_thread, void *(*body)(void *), void *context);

/* ------------------------------------------------------ hint.c, monitor.c */

/* Purges one heap after the other, each backend that has no heaps to tell apart
 * but once. Begin with {.count = 0}. */
struct mo_purge_round {
    const struct mo_backend *purged[16];
    size_t count;
};
uint64_t mo_purge_in_turn(struct mo_purge_round *round, struct memopt_heap *heap, int *ret_shared);

/* With the lock held: the child has no thread but its own. */
void mo_purge_fork_child(void);
void mo_ladder_fork_child(void);

#endif
