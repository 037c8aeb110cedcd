/*
 * memopt/buffers.h - a pool of gradient buffers: rented by shape and type, and
 * returned, step after step, without going to the allocator.
 *
 *     struct memopt_buffers_options options = MEMOPT_BUFFERS_OPTIONS_INIT;
 *     struct memopt_buffers *pool;
 *     options.heap = gradients;
 *     if (memopt_buffers_create(&options, &pool, &error) < 0)
 *         errx(1, "%s", error.message);
 *     struct memopt_buffer *g;
 *     if (memopt_buffers_rent(pool, MEMOPT_DTYPE_F32, 2, (size_t[]){784, 128}, &g, &error) < 0)
 *         errx(1, "%s", error.message);
 *     float *gradient = g->data;
 *     ...
 *     memopt_buffers_return(pool, g, &error);
 *
 * Vocabulary
 *   rented    handed out and not yet returned
 *   kept      returned, and ready to be rented again
 *   class     the sizes that share a list of kept buffers. Classes are 64 bytes
 *             apart up to 512, then eight to a doubling, so a buffer has at most
 *             1/8 more than was asked for; from a page on they are whole pages.
 *   chunk     what the pool takes from the heap and cuts buffers from; it grows
 *             with the pool up to 4 MiB. A buffer above 2 MiB has its own.
 *
 * What a buffer is: `bytes` bytes with undefined contents, aligned to 64 bytes,
 * from a page on to a page. Its shape has at most MEMOPT_BUFFER_RANK_MAX
 * dimensions, none of them 0; none at all is a scalar.
 *
 * Lists and caches: a kept buffer waits in its class, in the cache of the thread
 * that returned it if it is at most 256 KiB and the cache has less than 1 MiB;
 * otherwise in the pool's own list, under a lock. A cache serves its own thread;
 * what it holds goes to others when the heap has nothing more to give.
 *
 * Memory is the heap's: its limit and figures are about it, kept buffers
 * included. The pool adds a purger to the heap, so at the heap's limit, and in
 * memopt_heap_purge(), chunks without a rented buffer go back to it; so they do
 * in memopt_buffers_trim(). Chunks from 2 MiB on ask the kernel for huge pages
 * (madvise), which makes the first touch of fresh memory several times cheaper; in a
 * virtual machine whose free memory goes back to the host, it can be dearer, once.
 *
 * Ownership: a struct memopt_buffer is the pool's. It is the renter's to read
 * until it is returned; then `data` is NULL. It must not be freed, copied around
 * as a struct, or returned to another pool.
 *
 * Misuse: see memopt/misuse.h. Always: a second return of a buffer that nobody
 * has rented since. In debug: every second return, buffers of other pools,
 * writing past either end (found at the return), writing after the return (found
 * when the buffer is rented again, trimmed or destroyed with its pool).
 *
 * Threads: any thread may rent, and return what another rented; the scope of one
 * thread is that thread's. destroy() wants the pool for itself. fork: the child
 * has a copy of the pool. Not for signal handlers. A pool ends with its heap.
 */
#ifndef MEMOPT_BUFFERS_H
#define MEMOPT_BUFFERS_H

#include <memopt/dtype.h>
#include <memopt/error.h>
#include <memopt/heap.h>
#include <memopt/misuse.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MEMOPT_BUFFER_RANK_MAX 8

struct memopt_buffers;

/* To be read only. */
struct memopt_buffer {
    void *data;      /* NULL: not rented */
    size_t bytes;    /* elements x the type's size */
    size_t elements; /* the product of the shape */
    int dtype;       /* enum memopt_dtype */
    unsigned rank;
    size_t shape[MEMOPT_BUFFER_RANK_MAX]; /* the first `rank` */
};

struct memopt_buffers_options {
    size_t size;              /* of this struct */
    struct memopt_heap *heap; /* NULL: the default heap */
    const char *name;         /* for messages; NULL: "buffers" */
    int debug;                /* enum memopt_debug */
    int huge_pages;           /* 0: ask for them; -1: don't */
    memopt_misuse_fn on_misuse;
    void *context;
};
#define MEMOPT_BUFFERS_OPTIONS_INIT                                                                \
    { sizeof(struct memopt_buffers_options), NULL, NULL, MEMOPT_DEBUG_BUILD, 0, NULL, NULL }

/* `options` may be NULL: all defaults, debug = MEMOPT_DEBUG_AUTO.
 * -EINVAL (an option), -ENOMEM, -ENOSPC (the heap has all the purgers it can),
 * -EDEADLK (inside memopt_heap_each()). */
MEMOPT_EXPORT int memopt_buffers_create(const struct memopt_buffers_options *options,
                                        struct memopt_buffers **ret_pool,
                                        struct memopt_error *error);
/* Gives all memory back to the heap. NULL is nothing. -EBUSY: buffers are rented;
 * nothing has happened. */
MEMOPT_EXPORT int memopt_buffers_destroy(struct memopt_buffers *pool, struct memopt_error *error);

/* -EINVAL: the type, the rank, a dimension of 0, a NULL; -EOVERFLOW: more bytes
 * than an address can have; -ENOMEM: the heap has none, after its steps. */
MEMOPT_EXPORT int memopt_buffers_rent(struct memopt_buffers *pool, int dtype, unsigned rank,
                                      const size_t *shape, struct memopt_buffer **ret_buffer,
                                      struct memopt_error *error);
/* NULL is nothing. -EINVAL: not this pool's; -EALREADY: returned before; in both
 * cases nothing has happened. -EOVERFLOW (debug): something wrote outside of it;
 * it is returned all the same. */
MEMOPT_EXPORT int memopt_buffers_return(struct memopt_buffers *pool, struct memopt_buffer *buffer,
                                        struct memopt_error *error);

/* Gives chunks without a rented buffer back to the heap until at most `keep` bytes
 * are kept; returns how many bytes went. */
MEMOPT_EXPORT uint64_t memopt_buffers_trim(struct memopt_buffers *pool, uint64_t keep);

/* ------------------------------------------------------------------- scopes */

/* Returns what was rented through it when it ends, last rented first:
 *
 *     memopt_auto_buffer_scope struct memopt_buffer_scope scope = MEMOPT_BUFFER_SCOPE_INIT(pool);
 *     if (memopt_buffer_scope_rent(&scope, MEMOPT_DTYPE_F32, 1, &n, &g, &error) < 0)
 *         return -1;                     // what was rented before goes back, too
 *
 * A buffer may be returned by hand before. One thread's; must not be copied. */
struct memopt_buffer_scope {
    struct memopt_buffers *pool;
    struct memopt_buffer *last;
};
#define MEMOPT_BUFFER_SCOPE_INIT(POOL)                                                             \
    { (POOL), NULL }

/* memopt_buffers_rent() from the scope's pool. */
MEMOPT_EXPORT int memopt_buffer_scope_rent(struct memopt_buffer_scope *scope, int dtype,
                                           unsigned rank, const size_t *shape,
                                           struct memopt_buffer **ret_buffer,
                                           struct memopt_error *error);
/* The buffer outlives the scope. -ENOENT: it is not in it. */
MEMOPT_EXPORT int memopt_buffer_scope_keep(struct memopt_buffer_scope *scope,
                                           struct memopt_buffer *buffer,
                                           struct memopt_error *error);
/* Returns all; the first failure of memopt_buffers_return(), if there was one. The
 * scope is empty then and may be used again. */
MEMOPT_EXPORT int memopt_buffer_scope_end(struct memopt_buffer_scope *scope,
                                          struct memopt_error *error);
/* For the attribute. */
MEMOPT_EXPORT void memopt_buffer_scope_cleanup(struct memopt_buffer_scope *scope);
#define memopt_auto_buffer_scope __attribute__((cleanup(memopt_buffer_scope_cleanup)))

/* --------------------------------------------------------------- statistics */

/* Sizes are those of the classes, without what lies around buffers in debug.
 * Exact when no other thread is inside the pool. */
struct memopt_buffers_statistics {
    size_t size; /* of this struct, set by the caller */
    uint64_t rented_buffers, rented_bytes;
    uint64_t kept_buffers, kept_bytes;
    uint64_t held_bytes; /* chunks: rented, kept, not yet cut, and what lies between */
    uint64_t peak_bytes; /* high-water mark of rented_bytes; may lack 64 KiB a thread */
    uint64_t rents, returns;
    uint64_t fresh; /* rents that no kept buffer could serve */
    uint64_t trims, trimmed_bytes;
    uint64_t misuses;
};
#define MEMOPT_BUFFERS_STATISTICS_INIT                                                             \
    { sizeof(struct memopt_buffers_statistics), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* -EINVAL: a NULL, or a size that is not of this struct. */
MEMOPT_EXPORT int memopt_buffers_stats(struct memopt_buffers *pool,
                                       struct memopt_buffers_statistics *stats);
/* The high-water mark begins anew at what is rented now: take it after a few
 * steps and trim the pool to it. */
MEMOPT_EXPORT void memopt_buffers_reset_peak(struct memopt_buffers *pool);

#ifdef __cplusplus
}
#endif
#endif
