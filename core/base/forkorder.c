/* forkorder.c - see forkorder.h. */
#include "core/base/forkorder.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/single_threaded.h>

static void (*list_lock)(void), (*list_unlock)(void), (*list_reset)(void);

/* Under the stdio lock, which one thread holds from `before` to `parent`. */
static MO_WRITTEN_AT_FORK unsigned depth;
static MO_WRITTEN_AT_FORK int is_locked;
static MO_WRITTEN_AT_FORK sigset_t mask_before; /* of the forking thread */

/* A signal's handler may call fork(), too: it must not run while this thread is within
 * the handlers, as they would take their locks a second time. */
static void before(void) {
    sigset_t all, mask;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &mask);
    /* As glibc: a program of one thread needs no lock, and may be within stdio when a signal
     * makes it fork. */
    int locks = depth == 0 ? list_lock != NULL && !__libc_single_threaded : is_locked;
    if (locks)
        list_lock();
    if (depth++ == 0) {
        is_locked = locks;
        mask_before = mask;
    }
}

static void leave(void (*unlock)(void)) {
    sigset_t mask = mask_before;
    int is_last = --depth == 0;
    if (is_locked)
        unlock();
    if (is_last)
        pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

static void parent(void) {
    leave(list_unlock);
}

/* Reset, not unlocked: if the parent had threads, glibc has reset it. */
static void child(void) {
    leave(list_reset);
}

/* By dlsym(): dlopen() would allocate. Nobody but the C library has these names. */
static void find_locks(void) {
    *(void **)&list_unlock = dlsym(RTLD_DEFAULT, "_IO_list_unlock");
    *(void **)&list_reset = dlsym(RTLD_DEFAULT, "_IO_list_resetlock");
    if (list_unlock != NULL && list_reset != NULL)
        *(void **)&list_lock = dlsym(RTLD_DEFAULT, "_IO_list_lock");
}

int mo_fork_order(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_locks);
    if (list_lock == NULL)
        return 0; /* another C library: its own order */
    return pthread_atfork(before, parent, child) == 0 ? 0 : -ENOMEM;
}
