/*
 * memopt/lazy.h - state that is built at its first use, once, whoever comes first.
 *
 *     static int build_table(void *context, void *value, struct memopt_error *error) {
 *         struct table *table = value;        // uninitialised
 *         ...
 *         return 0;
 *     }
 *     static struct memopt_lazy table =
 *         MEMOPT_LAZY_INIT(sizeof(struct table), build_table, NULL, NULL);
 *
 *     void *value;
 *     if (memopt_lazy_get(&table, &value, &error) < 0) ...
 *
 * Vocabulary
 *   value   the block of `value_size` bytes, 16-byte aligned, in `heap`, that build
 *           fills; for something that is made elsewhere it holds the pointer
 *   attempt a call of build. It runs with no lock held, in the thread that came
 *           first; whoever comes meanwhile waits for its end.
 *
 * If build fails (a negative errno, and a message in its error), everybody who
 * waited for that attempt gets its error, and the next call begins another one;
 * with MEMOPT_LAZY_STICKY there is no other one: the error stays until
 * memopt_lazy_reset(). A failed build must leave nothing behind; the block is freed.
 *
 * A build that needs its own value, directly or through other lazy state that
 * another thread is building and that waits for this one, gets -EDEADLK rather
 * than waiting for ever.
 *
 * Threads: get and peek from any thread at any time. A value that is there costs
 * one acquire load, and everything that build wrote is visible. reset and destroy
 * demand that nobody is using the value; who gets it meanwhile waits.
 * Not for signal handlers.
 * fork: the child has what was built. An attempt that another thread was in the
 * midst of is forgotten in the child, with what it held, and the next call there
 * begins a new one.
 *
 * Memory checkers: after reset the block is kept for the next attempt, and poisoned;
 * after destroy it is the heap's, which poisons it too.
 */
#ifndef MEMOPT_LAZY_H
#define MEMOPT_LAZY_H

#include <memopt/heap.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0, or a negative errno and a message. `error` is never NULL. */
typedef int (*memopt_lazy_build_fn)(void *context, void *value, struct memopt_error *error);
/* Ends what build made of the block; the block itself is not its business. */
typedef void (*memopt_lazy_destroy_fn)(void *context, void *value);

enum memopt_lazy_flags {
    MEMOPT_LAZY_STICKY = 1, /* the first error stays */
};

/* One piece of lazy state: static, or within something else. It must not move
 * while it is in use, nor its first six fields change. */
struct memopt_lazy {
    struct memopt_heap *heap; /* NULL: the default heap */
    size_t value_size;
    memopt_lazy_build_fn build;
    memopt_lazy_destroy_fn destroy; /* NULL: nothing to do */
    void *context;
    unsigned flags; /* enum memopt_lazy_flags */

    /* The library's; zero at first. */
    int state;
    void *value, *block, *builder;
    struct memopt_lazy *next;
    struct memopt_error *failure;
    uint64_t attempt, failed_attempt;
    int code;
};
#define MEMOPT_LAZY_INIT(value_size, build, destroy, context)                                      \
    {                                                                                              \
        NULL, (value_size), (build), (destroy), (context), 0, 0, NULL, NULL, NULL, NULL, NULL, 0,  \
            0, 0                                                                                   \
    }

/* Gives the value, building it if need be.
 * -EINVAL: the struct, or it was destroyed; -ENOMEM: no block; -EDEADLK: see above;
 * what the default heap could not be opened for; or what build returned. */
MEMOPT_EXPORT int memopt_lazy_get(struct memopt_lazy *lazy, void **ret_value,
                                  struct memopt_error *error);

/* The value if it is there, else NULL: builds nothing, waits for nothing. */
MEMOPT_EXPORT void *memopt_lazy_peek(const struct memopt_lazy *lazy);

/* Ends the value, or forgets the sticky error: the next call builds anew.
 * -EBUSY: it is being built, reset or destroyed; -EINVAL: it was destroyed. */
MEMOPT_EXPORT int memopt_lazy_reset(struct memopt_lazy *lazy, struct memopt_error *error);

/* Ends the value, if there is one, and the lazy state: it can't be used any more,
 * and holds nothing. NULL, and state that was destroyed, is nothing.
 * -EBUSY: as for reset. */
MEMOPT_EXPORT int memopt_lazy_destroy(struct memopt_lazy *lazy, struct memopt_error *error);

#ifdef __cplusplus
}
#endif
#endif
