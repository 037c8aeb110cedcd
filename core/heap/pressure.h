/*
 * pressure.h - inside libmemopt: what purge hints and the pressure ladder share
 * (memopt/pressure.h is what is promised).
 *
 *   purge.c     purge hints
 *   kernel.c    what the kernel says of memory
 *
 * Lock order: the library's mutex, then mo_pressure_lock, then a heap's. Nothing
 * is called with mo_pressure_lock held.
 */
#ifndef MO_HEAP_PRESSURE_H
#define MO_HEAP_PRESSURE_H

#include "core/heap/heap.h"

#include <memopt/pressure.h>

/* Over the lists and small figures of hints and of the ladder; short. */
extern pthread_mutex_t mo_pressure_lock;

uint64_t mo_clock(void); /* CLOCK_MONOTONIC, ns */
/* A condition variable that waits by that clock. 0 or -errno. */
int mo_condition_init(pthread_cond_t *condition);
/* Waits until mo_clock() is `deadline` or the condition is signalled. */
void mo_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline);
/* A joinable thread that gets no signals. 0 or -errno. */
int mo_thread_start(pthread_t *ret_thread, void *(*body)(void *), void *context);

/* With the lock held: the child has no thread but its own. */
void mo_purge_fork_child(void);

#endif
