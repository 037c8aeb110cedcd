/*
 * thread.h - threads of libmemopt's own, and waiting with a deadline.
 *
 * Used by core/pressure and core/pool.
 */
#ifndef MO_BASE_THREAD_H
#define MO_BASE_THREAD_H

#include <pthread.h>
#include <stdint.h>

uint64_t mo_clock(void); /* CLOCK_MONOTONIC, ns */
/* A condition variable that waits by that clock. 0 or -errno. */
int mo_condition_init(pthread_cond_t *condition);
/* Waits until mo_clock() is `deadline` or the condition is signalled. */
void mo_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline);
/* A joinable thread that gets no signals. 0 or -errno. */
int mo_thread_start(pthread_t *ret_thread, void *(*body)(void *), void *context);

#endif
