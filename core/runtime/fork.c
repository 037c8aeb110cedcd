/* fork.c - see fork.h. */
#include "core/runtime/fork.h"

#include "core/base/error.h"
#include "core/base/forkorder.h"
#include "core/runtime/runtime.h"

#include <errno.h>
#include <sys/single_threaded.h>

/* Under the runtime's mutex. */
static const struct mo_fork_hooks *registered[MO_FORK_RANKS];
static enum { NOTHING, HANDLERS, ORDER } installed;
static int locks; /* this fork does */

/* fork() from inside memopt_heap_each(): the walk has the mutex and keeps it. */
static _Thread_local int had_mutex __attribute__((tls_model("initial-exec")));
/* The handlers are registered once more after each backend's library, so that ours are
 * taken before its locks; what is registered last locks, and unlocks when all have run. */
static _Thread_local int depth __attribute__((tls_model("initial-exec")));

static void before(void) {
    if (depth++ > 0)
        return;
    had_mutex = mo_runtime_lock();
    locks = !__libc_single_threaded;
    for (int rank = 0; rank < MO_FORK_RANKS; rank++)
        if (registered[rank] != NULL)
            registered[rank]->before();
}

static int leave(int in_child) {
    if (--depth > 0)
        return 0;
    for (int rank = MO_FORK_RANKS; rank-- > 0;)
        if (registered[rank] != NULL)
            registered[rank]->after(in_child);
    return 1;
}

static void parent(void) {
    if (leave(0))
        mo_runtime_unlock(had_mutex);
}

static void child(void) {
    if (leave(1))
        mo_runtime_fork_child(had_mutex);
}

int mo_fork_locks(void) {
    return locks;
}

void mo_fork_lock(pthread_mutex_t *mutex) {
    if (locks)
        pthread_mutex_lock(mutex);
}

void mo_fork_unlock(pthread_mutex_t *mutex) {
    if (locks)
        pthread_mutex_unlock(mutex);
}

static int no_memory(struct memopt_error *error) {
    return mo_fail(error, -ENOMEM, "can't register the fork handlers: out of memory");
}

int mo_fork_install(struct memopt_error *error) {
    if (installed == NOTHING) {
        const struct mo_program_services *services = mo_runtime_services();
        if (services != NULL && services->at_fork != NULL)
            services->at_fork(before, parent, child);
        else if (pthread_atfork(before, parent, child) != 0)
            return no_memory(error);
        installed = HANDLERS;
    }
    if (installed == HANDLERS) {
        if (mo_fork_order() < 0)
            return no_memory(error);
        installed = ORDER;
    }
    return 0;
}

int mo_fork_come_first(struct memopt_error *error) {
    if (pthread_atfork(before, parent, child) != 0 || mo_fork_order() < 0)
        return no_memory(error);
    return 0;
}

int mo_fork_register(const struct mo_fork_hooks *hooks, struct memopt_error *error) {
    int had_it = mo_runtime_lock(); /* no fork is between before and after now */
    int code = mo_fork_install(error);
    if (code == 0)
        registered[hooks->rank] = hooks;
    mo_runtime_unlock(had_it);
    return code;
}
