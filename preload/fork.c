/*
 * fork.c - fork in a threaded program, in an order that cannot deadlock: stdio
 * (core/base/forkorder.h), what libmemopt has, the backend, the ledger.
 */
#include "core/base/forkorder.h"
#include "core/dispatch/services.h"
#include "core/ledger/writer.h"
#include "preload/process.h"

#include <pthread.h>

enum { HOOKS_MAX = 8 };

static void *(*slot_of_thread)(void);
static void (*stop_tracking)(void);
static struct { void (*before)(void), (*parent)(void), (*child)(void); } added[HOOKS_MAX];
static _Atomic unsigned added_count;

static void *own_slot(void) {
    return slot_of_thread == NULL || mo_ledger() == NULL ? NULL : slot_of_thread();
}

static const struct memopt_allocator_ops *backend(void) {
    return mo_process.allocator == NULL ? NULL : &mo_process.allocator->ops.allocator;
}

static unsigned count(void) {
    unsigned n = atomic_load(&added_count);
    return n < HOOKS_MAX ? n : HOOKS_MAX;
}

static void before(void) {
    for (unsigned i = 0; i < count(); i++)
        added[i].before();
    void *slot = own_slot(); /* may make one: not under the backend's locks */
    if (backend() != NULL && backend()->before_fork != NULL)
        backend()->before_fork();
    mo_ledger_before_fork(slot);
}

static void parent(void) {
    if (backend() != NULL && backend()->after_fork_parent != NULL)
        backend()->after_fork_parent();
    for (unsigned i = count(); i-- > 0;)
        added[i].parent();
}

static void child(void) {
    int before_fork;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE,
                           &before_fork); /* fork() is no cancellation point */
    if (backend() != NULL && backend()->after_fork_child != NULL)
        backend()->after_fork_child();
    if (mo_ledger_after_fork_child(own_slot()) < 0 && stop_tracking != NULL)
        stop_tracking();
    for (unsigned i = count(); i-- > 0;)
        added[i].child();
    pthread_setcancelstate(before_fork, NULL);
}

void mo_fork_add(void (*on_before)(void), void (*on_parent)(void), void (*on_child)(void)) {
    unsigned i = atomic_fetch_add(&added_count, 1);
    if (i >= HOOKS_MAX)
        return;
    added[i].before = on_before;
    added[i].parent = on_parent;
    added[i].child = on_child;
}

void mo_fork_install(void *(*own)(void), void (*untrack)(void)) {
    slot_of_thread = own;
    stop_tracking = untrack;
    pthread_atfork(before, parent, child);
    mo_fork_order();
}
