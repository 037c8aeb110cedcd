/*
 * member.h - what every pool over a heap takes part in: the heap's purge and
 * fork.
 *
 * A pool joins when it is complete and leaves before it is taken apart. While it
 * is a member,
 *   purge   the heap's purger calls its trim(), from any thread
 *   fork    its locks are held across fork, so that the child finds it whole
 *
 * Locks: the members' own is taken before a pool's (core/runtime/fork.h); none of them is held
 * while trim() runs. A pool's locks are leaves: nothing of the heap's is called with one held.
 */
#ifndef MO_POOL_MEMBER_H
#define MO_POOL_MEMBER_H

#include "core/heap/heap.h"

#include <stdbool.h>

struct mo_pool_member {
    uint64_t (*trim)(struct mo_pool_member *member); /* gives back what is free: bytes */
    void (*lock)(struct mo_pool_member *member);     /* all locks of the pool */
    void (*unlock)(struct mo_pool_member *member, int in_child);
    struct memopt_heap *heap;
    void *pool; /* what checkers know it by (core/base/poison.h) */
    /* member.c's */
    unsigned purging;
    struct mo_pool_member *previous, *next;
};

/* Gives the heap to use: `heap`, or the default one for NULL. */
int mo_member_heap(struct memopt_heap *heap, struct memopt_heap **ret_heap,
                   struct memopt_error *error);
/* -EDEADLK inside memopt_heap_each(), -ENOSPC (purgers), -ENOMEM. */
int mo_member_join(struct mo_pool_member *member, struct memopt_error *error);
/* Waits for a purge of another thread's that is in the pool. */
void mo_member_leave(struct mo_pool_member *member);

/* ------------------------------------------------------- caches of threads */

/* Threads with a slot of their own (core/heap/count.c) have a cache in a pool:
 * no other thread uses it but to empty it. The owner never waits: if its cache
 * is locked it does without. */
enum { MO_POOL_CACHES = MO_HEAP_OWN_SLOTS };

struct mo_cache_lock {
    _Atomic int held;
};

static inline bool mo_cache_try(struct mo_cache_lock *lock) {
    return atomic_exchange_explicit(&lock->held, 1, memory_order_acquire) == 0;
}
void mo_cache_wait(struct mo_cache_lock *lock); /* for everybody else */
static inline void mo_cache_leave(struct mo_cache_lock *lock) {
    atomic_store_explicit(&lock->held, 0, memory_order_release);
}

#endif
