/* forkorder.c - see forkorder.h. */
#include "core/base/forkorder.h"

#include <dlfcn.h>
#include <errno.h>
#include <gnu/lib-names.h>
#include <pthread.h>
#include <stddef.h>

static void (*list_lock)(void), (*list_unlock)(void), (*list_reset)(void);

static void before(void) {
    list_lock();
}

static void parent(void) {
    list_unlock();
}

/* Reset, not unlocked: if the parent had threads, glibc has reset it. */
static void child(void) {
    list_reset();
}

static void find_locks(void) {
    void *libc = dlopen(LIBC_SO, RTLD_LAZY | RTLD_NOLOAD);
    if (libc == NULL)
        return;
    *(void **)&list_unlock = dlsym(libc, "_IO_list_unlock");
    *(void **)&list_reset = dlsym(libc, "_IO_list_resetlock");
    if (list_unlock != NULL && list_reset != NULL)
        *(void **)&list_lock = dlsym(libc, "_IO_list_lock");
}

int mo_fork_order(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_locks);
    if (list_lock == NULL)
        return 0; /* another C library: its own order */
    return pthread_atfork(before, parent, child) == 0 ? 0 : -ENOMEM;
}
