/* member.c - the pools there are, for purge and fork: see member.h. */
#include "core/pool/member.h"

#include "core/base/error.h"
#include "core/base/poison.h"
#include "core/runtime/fork.h"

#include <errno.h>
#include <sched.h>

static pthread_mutex_t members_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t purge_ended = PTHREAD_COND_INITIALIZER;
static struct mo_pool_member *members;

static void before_fork(void) {
    if (!mo_fork_locks())
        return;
    pthread_mutex_lock(&members_lock);
    for (struct mo_pool_member *m = members; m != NULL; m = m->next)
        m->lock(m);
}

static void after_fork(int in_child) {
    if (!mo_fork_locks())
        return;
    for (struct mo_pool_member *m = members; m != NULL; m = m->next) {
        m->unlock(m, in_child);
        if (in_child)
            m->purging = 0; /* those threads are not in the child */
    }
    if (in_child)
        purge_ended = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    pthread_mutex_unlock(&members_lock);
}

/* Its pools are blocks of the heap: they end with it. */
static void heap_ends(const struct memopt_heap *heap) {
    pthread_mutex_lock(&members_lock);
    for (struct mo_pool_member *m = members, *next; m != NULL; m = next) {
        next = m->next;
        if (m->heap != heap)
            continue;
        mo_mempool_destroy(m->pool);
        if (m->previous != NULL)
            m->previous->next = next;
        else
            members = next;
        if (next != NULL)
            next->previous = m->previous;
    }
    pthread_mutex_unlock(&members_lock);
}

static const struct mo_fork_hooks fork_hooks = {
    .rank = MO_FORK_POOL, .before = before_fork, .after = after_fork};
static struct mo_heap_end heap_end = {.ends = heap_ends};

/* The heap may call this for a member that has just left: then it does nothing. */
static uint64_t purge(void *context) {
    struct mo_pool_member *member = context;
    pthread_mutex_lock(&members_lock);
    struct mo_pool_member *m = members;
    while (m != NULL && m != member)
        m = m->next;
    if (m != NULL)
        m->purging++;
    pthread_mutex_unlock(&members_lock);
    if (m == NULL)
        return 0;
    uint64_t bytes = m->trim(m);
    pthread_mutex_lock(&members_lock);
    if (--m->purging == 0)
        pthread_cond_broadcast(&purge_ended);
    pthread_mutex_unlock(&members_lock);
    return bytes;
}

int mo_member_heap(struct memopt_heap *heap, struct memopt_heap **ret_heap,
                   struct memopt_error *error) {
    if (heap == NULL) {
        struct memopt_error own = MEMOPT_ERROR_INIT;
        heap = memopt_heap_default(error == NULL ? &own : error);
        if (heap == NULL)
            return error == NULL ? own.code : error->code;
    }
    *ret_heap = heap;
    return 0;
}

int mo_member_join(struct mo_pool_member *member, struct memopt_error *error) {
    int code = mo_runtime_enter(error, "create a pool");
    if (code < 0)
        return code;
    code = mo_fork_register(&fork_hooks, error);
    if (code == 0)
        mo_heap_at_end(&heap_end);
    mo_runtime_leave();
    if (code < 0)
        return code;
    member->purging = 0;
    member->previous = NULL;
    pthread_mutex_lock(&members_lock);
    member->next = members;
    if (members != NULL)
        members->previous = member;
    members = member;
    pthread_mutex_unlock(&members_lock);
    code = memopt_heap_add_purger(member->heap, purge, member, error);
    if (code < 0)
        mo_member_leave(member);
    return code;
}

void mo_member_leave(struct mo_pool_member *member) {
    memopt_heap_remove_purger(member->heap, purge, member, NULL);
    pthread_mutex_lock(&members_lock);
    while (member->purging > 0)
        pthread_cond_wait(&purge_ended, &members_lock);
    if (member->previous != NULL)
        member->previous->next = member->next;
    else
        members = member->next;
    if (member->next != NULL)
        member->next->previous = member->previous;
    pthread_mutex_unlock(&members_lock);
}

void mo_cache_wait(struct mo_cache_lock *lock) {
    while (!mo_cache_try(lock))
        sched_yield();
}
