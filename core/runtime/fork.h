/*
 * fork.h - fork handlers of libmemopt, and with them the order of its locks.
 *
 * A thread that holds a lock takes only those that come later in this order:
 *
 *   stdio's list       core/base/forkorder.h
 *   the runtime's      core/runtime/runtime.h; held during memopt_heap_each()
 *   the ranks below    in their order
 *
 * Before fork they are taken in this order, and given up in the other, in the parent and
 * in the child, with all signals blocked from the first to the last (forkorder.h). No lock
 * is held while a function of the program's runs, but the runtime's during
 * memopt_heap_each() and that of the check for cycles during traverse.
 */
#ifndef MO_RUNTIME_FORK_H
#define MO_RUNTIME_FORK_H

#include <memopt/error.h>

#include <pthread.h>

enum mo_fork_rank {
    MO_FORK_OBJECT,   /* cycles, lazy, pages: each file has at most one */
    MO_FORK_POOL,     /* the list of pools; each pool's own, and its threads' caches */
    MO_FORK_PRESSURE, /* mo_pressure_lock */
    MO_FORK_HEAP,     /* mo_steps_lock; a heap's hook_lock, its checked_lock, its shards */
    MO_FORK_SPILL,    /* a heap's spill file */
    MO_FORK_BACKEND,  /* the allocator plugins' */
    MO_FORK_RANKS,
};

/* before() takes the rank's locks, after() gives them up; in the child, where no other
 * thread is, too. They run with the runtime's mutex held, must not touch a lock of another
 * rank, and take theirs by mo_fork_lock(). */
struct mo_fork_hooks {
    enum mo_fork_rank rank;
    void (*before)(void);
    void (*after)(int in_child);
};

/* Before the first of its locks is taken by more than one thread; `hooks` stays for ever,
 * a second time is nothing. 0 or -ENOMEM. Takes the runtime's mutex if this thread does
 * not have it. */
int mo_fork_register(const struct mo_fork_hooks *hooks, struct memopt_error *error);

/* For before() and after(). As in the C library, a program of one thread needs no lock for
 * fork, and may be inside one when a signal's handler forks: then nothing is locked, and what
 * was going on goes on, in the parent and in the child. */
int mo_fork_locks(void);
void mo_fork_lock(pthread_mutex_t *mutex);
void mo_fork_unlock(pthread_mutex_t *mutex);

/* For runtime.c and backend.c, with the runtime's mutex held. The handlers are there; they
 * come before those of a library that was loaded just now. 0 or -ENOMEM. */
int mo_fork_install(struct memopt_error *error);
int mo_fork_come_first(struct memopt_error *error);

#endif
