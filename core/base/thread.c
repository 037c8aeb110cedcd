/* thread.c - see thread.h. */
#include "core/base/thread.h"

#include <signal.h>
#include <time.h>

uint64_t mo_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int mo_condition_init(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    int code = pthread_condattr_init(&attributes);
    if (code != 0)
        return -code;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    code = pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return -code;
}

void mo_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline) {
    struct timespec until = {.tv_sec = (time_t)(deadline / 1000000000u),
                             .tv_nsec = (long)(deadline % 1000000000u)};
    pthread_cond_timedwait(condition, mutex, &until);
}

int mo_thread_start(pthread_t *ret_thread, void *(*body)(void *), void *context) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the program's handlers run elsewhere */
    int code = pthread_create(ret_thread, NULL, body, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -code;
}
