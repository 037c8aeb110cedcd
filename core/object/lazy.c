/*
 * lazy.c - lazy state (see memopt/lazy.h).
 *
 * One mutex and one condition for all of it: they are only needed where something
 * is built, ended or waited for, and one lock over all makes it simple to see who
 * waits for whom. `value` is set last, with a release store, and is the only thing
 * that the fast path reads.
 *
 *   EMPTY -> BUILDING -> READY | EMPTY (failed) | FAILED (for good)
 *   READY, FAILED -> ENDING -> EMPTY | DESTROYED
 */
#include "core/base/error.h"
#include "core/base/poison.h"
#include "core/object/object.h"
#include "core/runtime/fork.h"

#include <memopt/lazy.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Programs have it in their own memory: the size is the ABI's. */
_Static_assert(sizeof(void *) != 8 || sizeof(struct memopt_lazy) == 112,
               "the layout of a public struct has changed");

enum { EMPTY = 0, BUILDING, READY, FAILED, ENDING, DESTROYED };

/* A thread as `builder`, and what it waits for. */
struct thread {
    struct memopt_lazy *waits_for;
};
static _Thread_local struct thread me __attribute__((tls_model("initial-exec")));

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct memopt_lazy *busy; /* those BUILDING or ENDING, by `next` */

/* ----------------------------------------------------- the lock is held here */

static bool is_busy(const struct memopt_lazy *lazy) {
    return lazy->state == BUILDING || lazy->state == ENDING;
}

static void begin(struct memopt_lazy *lazy, int state) {
    lazy->state = state;
    lazy->builder = &me;
    lazy->next = busy;
    busy = lazy;
}

static void end(struct memopt_lazy *lazy, int state) {
    struct memopt_lazy **at = &busy;
    while (*at != lazy)
        at = &(*at)->next;
    *at = lazy->next;
    lazy->state = state;
    lazy->builder = lazy->next = NULL;
    pthread_cond_broadcast(&changed);
}

/* Whoever is busy with it waits for this thread, maybe by way of others. */
static bool waits_for_me(const struct memopt_lazy *lazy) {
    while (lazy != NULL && is_busy(lazy)) {
        if (lazy->builder == &me)
            return true;
        lazy = ((struct thread *)lazy->builder)->waits_for;
    }
    return false;
}

static int give_failure(const struct memopt_lazy *lazy, struct memopt_error *error) {
    if (lazy->failure == NULL) /* there was no memory for it */
        return mo_fail(error, lazy->code, "lazy state could not be built: %s",
                       strerror(-lazy->code));
    if (error != NULL)
        *error = *lazy->failure;
    return lazy->code;
}

static int deadlock(struct memopt_error *error) {
    return mo_fail(error, -EDEADLK,
                   "lazy state is needed to build itself: a build function gets the value it is "
                   "to build, or two get each other's");
}

/* 1: the caller is to build it; else what memopt_lazy_get() returns. */
static int wait_for(struct memopt_lazy *lazy, void **ret_value, struct memopt_error *error) {
    uint64_t waited = 0; /* for this attempt */
    for (;;) {
        switch (lazy->state) {
        case READY:
            *ret_value = lazy->value;
            return 0;
        case FAILED:
            return give_failure(lazy, error);
        case DESTROYED:
            return mo_fail(error, -EINVAL, "lazy state was destroyed and can't be built again");
        default:
            if (waited != 0 && lazy->failed_attempt >= waited && lazy->code < 0)
                return give_failure(lazy, error);
            if (!is_busy(lazy))
                return 1;
            break;
        }
        if (waits_for_me(lazy))
            return deadlock(error);
        waited = lazy->state == BUILDING ? lazy->attempt : 0;
        me.waits_for = lazy;
        pthread_cond_wait(&changed, &lock);
        me.waits_for = NULL;
    }
}

/* ------------------------------------------------------------------ building */

static int make_block(struct memopt_lazy *lazy, struct memopt_error *error) {
    if (lazy->block != NULL) { /* of a value that was reset */
        mo_unpoison(lazy->block, lazy->value_size);
        return 0;
    }
    struct memopt_heap *heap = lazy->heap;
    int code = mo_object_heap(&heap, error);
    if (code < 0)
        return code;
    void *block = memopt_heap_aligned_alloc(heap, 16, lazy->value_size);
    if (block == NULL)
        return mo_fail(error, -ENOMEM, "heap '%s' has no %zu bytes for lazy state",
                       memopt_heap_name(heap), lazy->value_size);
    pthread_mutex_lock(&lock); /* a child of fork finds it */
    lazy->block = block;
    pthread_mutex_unlock(&lock);
    return 0;
}

static void free_block(struct memopt_lazy *lazy) {
    void *block = lazy->block;
    lazy->block = NULL;
    if (block != NULL)
        memopt_heap_free(lazy->heap != NULL ? lazy->heap : memopt_heap_default(NULL), block);
}

static int call_build(struct memopt_lazy *lazy, struct memopt_error *error) {
    struct memopt_error found = MEMOPT_ERROR_INIT;
    int code = make_block(lazy, &found);
    if (code == 0)
        code = lazy->build(lazy->context, lazy->block, &found);
    if (code == 0)
        return 0;
    if (code > 0) /* not as agreed, but no success either */
        code = -code;
    if (found.code == 0 && found.message[0] == '\0')
        mo_fail(&found, code, "lazy state could not be built: %s", strerror(-code));
    found.code = code;
    *error = found;
    free_block(lazy);
    return code;
}

/* The caller has begun BUILDING. */
static int build(struct memopt_lazy *lazy, void **ret_value, struct memopt_error *error) {
    struct memopt_error found;
    int code = call_build(lazy, &found);
    struct memopt_error *failure = NULL, *old;
    if (code < 0) {
        failure = malloc(sizeof(*failure));
        if (failure != NULL)
            *failure = found;
    }
    pthread_mutex_lock(&lock);
    old = lazy->failure;
    lazy->failure = failure;
    lazy->code = code;
    if (code < 0)
        lazy->failed_attempt = lazy->attempt;
    else
        __atomic_store_n(&lazy->value, lazy->block, __ATOMIC_RELEASE);
    end(lazy, code == 0 ? READY : (lazy->flags & MEMOPT_LAZY_STICKY) != 0 ? FAILED : EMPTY);
    pthread_mutex_unlock(&lock);
    free(old);
    if (code == 0)
        *ret_value = lazy->block;
    else if (error != NULL)
        *error = found;
    return code;
}

int memopt_lazy_get(struct memopt_lazy *lazy, void **ret_value, struct memopt_error *error) {
    if (__builtin_expect(lazy != NULL && ret_value != NULL, 1)) {
        void *value = __atomic_load_n(&lazy->value, __ATOMIC_ACQUIRE);
        if (__builtin_expect(value != NULL, 1)) {
            *ret_value = value;
            return 0;
        }
    }
    if (lazy == NULL || ret_value == NULL || lazy->build == NULL || lazy->value_size == 0 ||
        lazy->value_size > PTRDIFF_MAX || (lazy->flags & ~(unsigned)MEMOPT_LAZY_STICKY) != 0)
        return mo_fail(error, -EINVAL,
                       "lazy state needs a size, a build function, flags of enum "
                       "memopt_lazy_flags, and a place for the value");
    int code = mo_object_start(error);
    if (code < 0)
        return code;
    pthread_mutex_lock(&lock);
    code = wait_for(lazy, ret_value, error);
    if (code == 1) {
        lazy->attempt++;
        begin(lazy, BUILDING);
    }
    pthread_mutex_unlock(&lock);
    return code == 1 ? build(lazy, ret_value, error) : code;
}

void *memopt_lazy_peek(const struct memopt_lazy *lazy) {
    return lazy == NULL ? NULL : __atomic_load_n(&lazy->value, __ATOMIC_ACQUIRE);
}

/* ------------------------------------------------------------------- ending */

/* To EMPTY or DESTROYED. */
static int end_value(struct memopt_lazy *lazy, int next, struct memopt_error *error) {
    int code = mo_object_start(error);
    if (code < 0)
        return code;
    pthread_mutex_lock(&lock);
    int state = lazy->state;
    void *value = lazy->value;
    if (is_busy(lazy)) {
        code = mo_fail(error, -EBUSY, "lazy state is being built or ended");
    } else if (state != DESTROYED) {
        __atomic_store_n(&lazy->value, NULL, __ATOMIC_RELEASE);
        begin(lazy, ENDING);
    } else if (next != DESTROYED) {
        code = mo_fail(error, -EINVAL, "lazy state was destroyed and can't be reset");
    }
    pthread_mutex_unlock(&lock);
    if (code < 0 || state == DESTROYED)
        return code;
    if (value != NULL && lazy->destroy != NULL)
        lazy->destroy(lazy->context, value);
    if (next == DESTROYED)
        free_block(lazy);
    else if (value != NULL)
        mo_poison(value, lazy->value_size);
    pthread_mutex_lock(&lock);
    struct memopt_error *failure = lazy->failure;
    lazy->failure = NULL;
    end(lazy, next);
    pthread_mutex_unlock(&lock);
    free(failure);
    return 0;
}

int memopt_lazy_reset(struct memopt_lazy *lazy, struct memopt_error *error) {
    if (lazy == NULL)
        return mo_fail(error, -EINVAL, "no lazy state to reset");
    return end_value(lazy, EMPTY, error);
}

int memopt_lazy_destroy(struct memopt_lazy *lazy, struct memopt_error *error) {
    return lazy == NULL ? 0 : end_value(lazy, DESTROYED, error);
}

/* --------------------------------------------------------------------- fork */

void mo_lazy_fork(enum mo_fork_moment moment) {
    if (moment == MO_FORK_BEFORE) {
        mo_fork_lock(&lock);
        return;
    }
    if (moment == MO_FORK_CHILD) {
        changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER; /* those who waited are gone */
        struct memopt_lazy *lazy = busy, *next;
        for (busy = NULL; lazy != NULL; lazy = next) {
            next = lazy->next;
            if (lazy->builder == &me) {
                lazy->next = busy;
                busy = lazy;
            } else { /* its builder is gone, too; the block serves again */
                lazy->state = EMPTY;
                lazy->builder = lazy->next = NULL;
            }
        }
    }
    mo_fork_unlock(&lock);
}
