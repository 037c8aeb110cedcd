/* fork.c - what holds for all of core/object: see object.h. */
#include "core/base/error.h"
#include "core/base/forkorder.h"
#include "core/object/object.h"

#include <errno.h>
#include <pthread.h>

int mo_object_heap(struct memopt_heap **heap, struct memopt_error *error) {
    struct memopt_error unwanted;
    if (error == NULL)
        error = &unwanted;
    if (*heap != NULL)
        return 0;
    struct memopt_heap *standard = memopt_heap_default(error);
    if (standard == NULL)
        return error->code;
    *heap = standard;
    return 0;
}

static void at_fork(enum mo_fork_moment moment) {
    mo_cycles_fork(moment);
    mo_lazy_fork(moment);
    mo_pages_fork(moment);
}

static void before_fork(void) {
    at_fork(MO_FORK_BEFORE);
}
static void after_fork_parent(void) {
    at_fork(MO_FORK_PARENT);
}
static void after_fork_child(void) {
    at_fork(MO_FORK_CHILD);
}

static pthread_mutex_t start_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int started;

int mo_object_start(struct memopt_error *error) {
    if (atomic_load_explicit(&started, memory_order_acquire))
        return 0;
    int code = 0;
    pthread_mutex_lock(&start_lock);
    if (!atomic_load_explicit(&started, memory_order_relaxed)) {
        if (pthread_atfork(before_fork, after_fork_parent, after_fork_child) != 0)
            code = mo_fail(error, -ENOMEM, "can't register the fork handlers: out of memory");
        else /* from here on a failure would register them twice */
            atomic_store_explicit(&started, 1, memory_order_release);
        if (code == 0 && mo_fork_order() < 0)
            code = mo_fail(error, -ENOMEM, "can't register the fork handlers: out of memory");
    }
    pthread_mutex_unlock(&start_lock);
    return code;
}
