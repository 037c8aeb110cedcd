/*
 * memopt/objects.h - a pool of objects of one size: acquired and released, with a
 * capacity and a rule for when all are out.
 *
 *     struct memopt_objects_options options = MEMOPT_OBJECTS_OPTIONS_INIT;
 *     options.object_size = sizeof(struct batch);
 *     options.capacity = 8;
 *     options.policy = MEMOPT_OBJECTS_WAIT;
 *     if (memopt_objects_create(&options, &pool, &error) < 0)
 *         errx(1, "%s", error.message);
 *     struct batch *batch = memopt_objects_acquire(pool);
 *     ...
 *     memopt_objects_release(pool, batch, &error);
 *
 * Vocabulary
 *   capacity  the objects made at creation. With GROW there may be more later.
 *   out       acquired and not yet released
 *   slab      objects made together: the capacity is one, growth adds more
 *
 * Hooks: `construct` runs once for each object when it is made, `destruct` once
 * before its memory goes, `reset` at each release, in the releasing thread. What
 * construct and reset leave in an object is there at the next acquire. Without
 * construct an acquired object's contents are undefined. They are called with no
 * lock held and may use anything but this pool.
 *
 * Fast path: each thread keeps up to 32 released objects for itself, and takes them
 * without waiting for anybody. When the pool's own list is empty, an acquire takes
 * from the other threads' before it grows, fails or waits, so the capacity is exact.
 *
 * Memory is the heap's. With GROW the heap's purge gives back slabs that growth
 * added and of which no object is out (as memopt_objects_trim() does); the capacity
 * stays. A pool ends with its heap, without a call of `destruct`.
 *
 * Misuse (memopt/misuse.h): always, a second release as long as nobody has acquired
 * the object again; in debug, also pointers of elsewhere, writing around an object
 * (found at release) and after the release (found at the next acquire).
 *
 * Threads: any thread may acquire, and release what another acquired; destroy()
 * wants the pool for itself. fork: the child has a copy of the pool, in which
 * nobody waits. Not for signal handlers.
 */
#ifndef MEMOPT_OBJECTS_H
#define MEMOPT_OBJECTS_H

#include <memopt/error.h>
#include <memopt/heap.h>
#include <memopt/misuse.h>

#ifdef __cplusplus
extern "C" {
#endif

struct memopt_objects;

enum memopt_objects_policy {
    MEMOPT_OBJECTS_GROW = 1, /* make as many again as there are, from the heap */
    MEMOPT_OBJECTS_WAIT = 2, /* until one is released, at most `timeout` */
    MEMOPT_OBJECTS_FAIL = 3,
};
#define MEMOPT_OBJECTS_NO_TIMEOUT UINT64_MAX

struct memopt_objects_options {
    size_t size;              /* of this struct */
    struct memopt_heap *heap; /* NULL: the default heap */
    const char *name;         /* for messages; NULL: "objects" */
    size_t object_size;       /* bytes, at least 1 */
    size_t alignment;         /* a power of two; 0: 16 */
    size_t capacity;          /* at least 1 */
    int policy;               /* enum memopt_objects_policy */
    uint64_t timeout;         /* nanoseconds, for WAIT */
    /* Each may be NULL. construct gives 0 or a negative errno. */
    int (*construct)(void *context, void *object);
    void (*reset)(void *context, void *object);
    void (*destruct)(void *context, void *object);
    int debug; /* enum memopt_debug */
    memopt_misuse_fn on_misuse;
    void *context; /* of the hooks and of on_misuse */
};
#define MEMOPT_OBJECTS_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(struct memopt_objects_options), NULL, NULL, 0, 0, 0, MEMOPT_OBJECTS_GROW,           \
            MEMOPT_OBJECTS_NO_TIMEOUT, NULL, NULL, NULL, MEMOPT_DEBUG_BUILD, NULL, NULL            \
    }

/* -EINVAL (an option), -ENOMEM, -ENOSPC (the heap has all the purgers it can),
 * -EDEADLK (inside memopt_heap_each()), or what construct gave; what was
 * constructed before is destructed. */
MEMOPT_EXPORT int memopt_objects_create(const struct memopt_objects_options *options,
                                        struct memopt_objects **ret_pool,
                                        struct memopt_error *error);
/* Destructs all objects. NULL is nothing. -EBUSY: some are out; nothing has
 * happened. */
MEMOPT_EXPORT int memopt_objects_destroy(struct memopt_objects *pool, struct memopt_error *error);

/* NULL and errno: EAGAIN (all are out: FAIL), ETIMEDOUT (WAIT), ENOMEM (GROW: the
 * heap has no memory), what construct gave, or EINVAL (pool is NULL). */
MEMOPT_EXPORT void *memopt_objects_acquire(struct memopt_objects *pool)
    __attribute__((warn_unused_result));
/* NULL is nothing. -EINVAL: not this pool's; -EALREADY: released before; in both
 * cases nothing has happened. -EOVERFLOW (debug): something wrote around it; it is
 * released all the same. */
MEMOPT_EXPORT int memopt_objects_release(struct memopt_objects *pool, void *object,
                                         struct memopt_error *error);
/* Gives back slabs that growth added and of which nothing is out; the bytes. */
MEMOPT_EXPORT uint64_t memopt_objects_trim(struct memopt_objects *pool);

/* Exact when no other thread is inside the pool. */
struct memopt_objects_statistics {
    size_t size;                /* of this struct, set by the caller */
    uint64_t capacity, objects; /* objects: there now, out or not */
    uint64_t out;
    uint64_t peak; /* most that were out or kept by a thread */
    uint64_t acquires, releases;
    uint64_t grown; /* slabs that growth added */
    uint64_t waits; /* acquires that had to */
    uint64_t failed, misuses;
};
#define MEMOPT_OBJECTS_STATISTICS_INIT                                                             \
    { sizeof(struct memopt_objects_statistics), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
/* -EINVAL: a NULL, or a size that is not of this struct. */
MEMOPT_EXPORT int memopt_objects_stats(struct memopt_objects *pool,
                                       struct memopt_objects_statistics *stats);

#ifdef __cplusplus
}
#endif
#endif
