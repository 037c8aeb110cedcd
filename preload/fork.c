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

static struct mo_fork own;
static struct { void (*before)(void), (*parent)(void), (*child)(void); } added[HOOKS_MAX];
static _Atomic unsigned added_count;

static unsigned count(void) {
    unsigned n = atomic_load(&added_count);
    return n < HOOKS_MAX ? n : HOOKS_MAX;
}

static void before(void) {
    for (unsigned i = 0; i < count(); i++)
        added[i].before();
    if (own.before != NULL)
        own.before();
    if (own.last != NULL)
        own.last();
}

static void parent(void) {
    if (own.parent != NULL)
        own.parent();
    for (unsigned i = count(); i-- > 0;)
        added[i].parent();
}

static void child(void) {
    /* What others do here may be a cancellation point, and fork() is none. */
    int others = own.child != NULL || count() > 0, before_fork;
    if (others)
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_fork);
    if (own.child != NULL)
        own.child();
    bool has_ledger = mo_ledger_after_fork_child() == 0 && mo_ledger() != NULL;
    if (own.forked != NULL)
        own.forked(has_ledger);
    mo_end_in_child();
    for (unsigned i = count(); i-- > 0;)
        added[i].child();
    if (others)
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

void mo_fork_install(const struct mo_fork *fork) {
    own = *fork;
    pthread_atfork(before, parent, child);
    mo_fork_order();
}
