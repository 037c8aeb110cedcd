/* buffers.c - rent and return: see buffers.h for the parts. */
#include "core/pool/buffers.h"

#include "core/base/error.h"
#include "core/base/poison.h"

#include "lib/atomic.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* ------------------------------------------------------------------ classes */

/* `bytes` is at least 1. The units are rounded up, so n units are in the class
 * that n - 1 selects. */
static unsigned class_of(size_t bytes) {
    unsigned base = 0;
    size_t n;
    if (bytes <= MO_BUFFER_PAGE - MO_BUFFER_PAGE / 16) {
        n = (bytes - 1) / MO_BUFFER_LINE;
    } else {
        base = MO_BUFFER_SMALL;
        n = (bytes - 1) / MO_BUFFER_PAGE;
    }
    if (n < MO_BUFFER_STEPS)
        return base + (unsigned)n;
    unsigned bits = 63u - (unsigned)__builtin_clzll(n); /* 3 or more */
    return base + (bits - 3) * MO_BUFFER_STEPS + (unsigned)(n >> (bits - 3));
}

static int size_of(int dtype, unsigned rank, const size_t *shape, size_t *ret_elements,
                   size_t *ret_bytes, struct memopt_error *error) {
    size_t elements = 1, bytes, size = memopt_dtype_size(dtype);
    if (size == 0)
        return mo_fail(error, -EINVAL, "%d is no type for a buffer: enum memopt_dtype has them",
                       dtype);
    if (rank > MEMOPT_BUFFER_RANK_MAX || (rank > 0 && shape == NULL))
        return mo_fail(error, -EINVAL, "a shape of %u dimensions: 0 to %d were expected%s", rank,
                       MEMOPT_BUFFER_RANK_MAX, shape == NULL ? ", and where they are" : "");
    for (unsigned i = 0; i < rank; i++) {
        if (shape[i] == 0)
            return mo_fail(error, -EINVAL, "dimension %u of the shape is 0: a buffer has elements",
                           i);
        if (__builtin_mul_overflow(elements, shape[i], &elements))
            return mo_fail(error, -EOVERFLOW, "the shape has more elements than memory can hold");
    }
    if (__builtin_mul_overflow(elements, size, &bytes) || bytes > (size_t)1 << 40)
        return mo_fail(error, -EOVERFLOW, "the shape has more bytes than memory can hold");
    *ret_elements = elements;
    *ret_bytes = bytes;
    return 0;
}

/* ------------------------------------------------------------------- caches */

/* The calling thread's, or NULL. */
static struct mo_buffer_cache *cache_of(struct memopt_buffers *pool) {
    unsigned number = mo_count_thread();
    if (__builtin_expect(number >= MO_POOL_CACHES, 0))
        return NULL;
    struct mo_buffer_cache *cache =
        atomic_load_explicit(&pool->caches[number], memory_order_relaxed);
    if (__builtin_expect(cache != NULL, 1))
        return cache;
    cache = memopt_heap_aligned_alloc(pool->heap, 64, sizeof(*cache));
    if (cache != NULL) {
        memset(cache, 0, sizeof(*cache));
        atomic_store_explicit(&pool->caches[number], cache, memory_order_release);
    }
    return cache;
}

static void count(struct memopt_buffers *pool, struct mo_buffer_cache *cache, int64_t bytes) {
    struct mo_buffer_counts *counts = cache != NULL ? &cache->counts : &pool->shared;
    _Atomic uint64_t *calls = bytes > 0 ? &counts->rents : &counts->returns;
    int64_t pending = bytes;
    if (__builtin_expect(cache != NULL, 1)) { /* one writer */
        atomic_store_explicit(calls, atomic_load_explicit(calls, memory_order_relaxed) + 1,
                              memory_order_relaxed);
        pending += atomic_load_explicit(&counts->pending, memory_order_relaxed);
        if (pending < MO_BUFFER_BATCH && pending > -MO_BUFFER_BATCH) {
            atomic_store_explicit(&counts->pending, pending, memory_order_relaxed);
            return;
        }
        atomic_store_explicit(&counts->pending, 0, memory_order_relaxed);
    } else {
        atomic_fetch_add_explicit(calls, 1, memory_order_relaxed);
    }
    int64_t rented =
        atomic_fetch_add_explicit(&pool->rented_bytes, pending, memory_order_relaxed) + pending;
    if (pending > 0)
        if (rented > 0)
            mo_raise(&pool->peak_bytes, (uint64_t)rented);
}

/* ---------------------------------------------------------------- debugging */

static void report(struct memopt_buffers *pool, int kind, const struct mo_buffer *buffer,
                   const void *address, struct memopt_error *error, int *code) {
    int found = mo_misuse(&pool->debug, kind, buffer->data, buffer->asked, address, error);
    if (code != NULL && *code == 0)
        *code = found;
}

/* Around what was asked for: after it up to the block's end, and the 64 bytes
 * before it. */
static void fill_around(struct mo_buffer *buffer) {
    size_t size = mo_buffer_class_size(buffer->class);
    mo_pattern_fill(buffer->data - MO_BUFFER_LINE, MO_BUFFER_LINE, MO_PATTERN_AROUND);
    mo_pattern_fill(buffer->data + buffer->asked, size + MO_BUFFER_LINE - buffer->asked,
                    MO_PATTERN_AROUND);
}

static int check_around(struct memopt_buffers *pool, struct mo_buffer *buffer,
                        struct memopt_error *error) {
    size_t size = mo_buffer_class_size(buffer->class);
    int code = 0;
    const void *broken =
        mo_pattern_broken(buffer->data - MO_BUFFER_LINE, MO_BUFFER_LINE, MO_PATTERN_AROUND);
    if (broken != NULL)
        report(pool, MEMOPT_MISUSE_UNDERFLOW, buffer, broken, error, &code);
    broken = mo_pattern_broken(buffer->data + buffer->asked, size + MO_BUFFER_LINE - buffer->asked,
                               MO_PATTERN_AROUND);
    if (broken != NULL)
        report(pool, MEMOPT_MISUSE_OVERFLOW, buffer, broken, code == 0 ? error : NULL, &code);
    return code;
}

void mo_buffer_check_kept(struct memopt_buffers *pool, struct mo_buffer *buffer) {
    if (buffer->fresh)
        return;
    const void *broken =
        mo_pattern_broken(buffer->data, mo_buffer_class_size(buffer->class), MO_PATTERN_RETURNED);
    if (broken != NULL)
        report(pool, MEMOPT_MISUSE_AFTER_RETURN, buffer, broken, NULL, NULL);
}

/* --------------------------------------------------------- rent and return */

static struct mo_buffer *pop(struct mo_buffer **list) {
    struct mo_buffer *buffer = *list;
    if (buffer != NULL)
        *list = buffer->next;
    return buffer;
}

static struct mo_buffer *pop_own(struct memopt_buffers *pool, unsigned class) {
    pthread_mutex_lock(&pool->lock);
    struct mo_buffer *buffer = pop(&pool->lists[class]);
    if (buffer != NULL)
        buffer->chunk->kept--;
    pthread_mutex_unlock(&pool->lock);
    return buffer;
}

/* What the cache doesn't have. */
static __attribute__((noinline)) struct mo_buffer *rent_slowly(struct memopt_buffers *pool,
                                                               unsigned class) {
    struct mo_buffer *buffer = pop_own(pool, class);
    if (buffer != NULL)
        return buffer;
    buffer = mo_buffer_cut(pool, class);
    if (buffer != NULL)
        return buffer;
    mo_buffer_drain(pool);
    return pop_own(pool, class);
}

int memopt_buffers_rent(struct memopt_buffers *pool, int dtype, unsigned rank, const size_t *shape,
                        struct memopt_buffer **ret_buffer, struct memopt_error *error) {
    if (pool == NULL || ret_buffer == NULL)
        return mo_fail(error, -EINVAL, "renting needs a pool and a place for the buffer");
    size_t elements = 0, bytes = 0;
    int code = size_of(dtype, rank, shape, &elements, &bytes, error);
    if (code < 0)
        return code;
    unsigned class = class_of(bytes);
    struct mo_buffer_cache *cache = cache_of(pool);
    struct mo_buffer *buffer = NULL;
    size_t size = mo_buffer_class_size(class);
    if (class < MO_BUFFER_CACHED && cache != NULL && mo_cache_try(&cache->lock)) {
        buffer = pop(&cache->lists[class]);
        if (buffer != NULL)
            cache->bytes -= size;
        mo_cache_leave(&cache->lock);
    }
    if (buffer == NULL) {
        buffer = rent_slowly(pool, class);
        if (buffer == NULL)
            return mo_fail(error, -ENOMEM, "%s: heap '%s' has no memory for a buffer of %zu bytes",
                           pool->debug.name, memopt_heap_name(pool->heap), bytes);
    }
    if (__builtin_expect(pool->debug.on, 0)) {
        mo_buffer_check_kept(pool, buffer);
        buffer = mo_buffer_renew(pool, buffer);
    }
    buffer->asked = bytes;
    buffer->scope = NULL;
    mo_mempool_alloc(pool, buffer->data, bytes);
    if (__builtin_expect(pool->debug.on, 0))
        fill_around(buffer);
    buffer->shown.data = buffer->data;
    buffer->shown.bytes = bytes;
    buffer->shown.elements = elements;
    buffer->shown.dtype = dtype;
    buffer->shown.rank = rank;
    for (unsigned i = 0; i < rank; i++)
        buffer->shown.shape[i] = shape[i];
    atomic_store_explicit(&buffer->state, MO_BUFFER_RENTED, memory_order_relaxed);
    count(pool, cache, (int64_t)size);
    *ret_buffer = &buffer->shown;
    return 0;
}

int memopt_buffers_return(struct memopt_buffers *pool, struct memopt_buffer *shown,
                          struct memopt_error *error) {
    if (shown == NULL)
        return 0;
    if (pool == NULL)
        return mo_fail(error, -EINVAL, "returning needs the pool the buffer is from");
    struct mo_buffer *buffer = (struct mo_buffer *)(void *)shown; /* its first member */
    if (__builtin_expect(pool->debug.on, 0) && !mo_buffer_is_ours(pool, buffer))
        return mo_misuse(&pool->debug, MEMOPT_MISUSE_FOREIGN, NULL, 0, shown, error);
    if (buffer->pool != pool)
        return mo_misuse(&pool->debug, MEMOPT_MISUSE_FOREIGN, NULL, 0, shown, error);
    int state = MO_BUFFER_RENTED;
    if (__builtin_expect(pool->debug.on, 0))
        atomic_compare_exchange_strong(&buffer->state, &state, MO_BUFFER_KEPT);
    else if ((state = atomic_load_explicit(&buffer->state, memory_order_relaxed)) ==
             MO_BUFFER_RENTED) /* an exchange would cost as much as all the rest */
        atomic_store_explicit(&buffer->state, MO_BUFFER_KEPT, memory_order_relaxed);
    if (state != MO_BUFFER_RENTED)
        return mo_misuse(&pool->debug, MEMOPT_MISUSE_TWICE, buffer->data, buffer->asked,
                         buffer->data, error);
    int code = 0;
    size_t size = mo_buffer_class_size(buffer->class);
    if (__builtin_expect(pool->debug.on, 0)) {
        code = check_around(pool, buffer, error);
        mo_pattern_fill(buffer->data, size, MO_PATTERN_RETURNED);
        buffer->fresh = false;
    }
    if (buffer->scope != NULL)
        mo_buffer_leave_scope(buffer);
    shown->data = NULL;
    mo_mempool_free(pool, buffer->data, size);
    struct mo_buffer_cache *cache = cache_of(pool);
    count(pool, cache, -(int64_t)size);
    if (buffer->class < MO_BUFFER_CACHED && cache != NULL && mo_cache_try(&cache->lock)) {
        int fits = cache->bytes + size <= MO_BUFFER_CACHE_BYTES;
        if (fits) {
            cache->bytes += size;
            buffer->next = cache->lists[buffer->class];
            cache->lists[buffer->class] = buffer;
        }
        mo_cache_leave(&cache->lock);
        if (fits)
            return code;
    }
    pthread_mutex_lock(&pool->lock);
    buffer->next = pool->lists[buffer->class];
    pool->lists[buffer->class] = buffer;
    buffer->chunk->kept++;
    pthread_mutex_unlock(&pool->lock);
    return code;
}

/* ------------------------------------------------------ creation, figures */

static uint64_t trim_member(struct mo_pool_member *member) {
    return mo_buffer_trim((struct memopt_buffers *)(void *)member, 0);
}

static void lock_all(struct mo_pool_member *member) {
    struct memopt_buffers *pool = (struct memopt_buffers *)(void *)member;
    for (unsigned i = 0; i < MO_POOL_CACHES; i++) {
        struct mo_buffer_cache *cache =
            atomic_load_explicit(&pool->caches[i], memory_order_acquire);
        if (cache != NULL)
            mo_cache_wait(&cache->lock);
    }
    pthread_mutex_lock(&pool->lock);
}

static void unlock_all(struct mo_pool_member *member, int in_child) {
    struct memopt_buffers *pool = (struct memopt_buffers *)(void *)member;
    (void)in_child;
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < MO_POOL_CACHES; i++) {
        struct mo_buffer_cache *cache =
            atomic_load_explicit(&pool->caches[i], memory_order_acquire);
        if (cache != NULL)
            mo_cache_leave(&cache->lock);
    }
}

int memopt_buffers_create(const struct memopt_buffers_options *options,
                          struct memopt_buffers **ret_pool, struct memopt_error *error) {
    static const struct memopt_buffers_options defaults = {.size = sizeof(defaults)};
    if (options == NULL)
        options = &defaults;
    if (ret_pool == NULL || options->size != sizeof(*options))
        return mo_fail(error, -EINVAL,
                       "a pool of buffers needs a place for it, and options of %zu bytes",
                       sizeof(*options));
    if (options->huge_pages != 0 && options->huge_pages != -1)
        return mo_fail(error, -EINVAL, "huge_pages is %d: 0 or -1 were expected",
                       options->huge_pages);
    struct mo_pool_debug debug;
    int code = mo_debug_init(&debug, "buffers", options->name, options->debug, options->on_misuse,
                             options->context, error);
    if (code < 0)
        return code;
    struct memopt_heap *heap;
    code = mo_member_heap(options->heap, &heap, error);
    if (code < 0)
        return code;
    struct memopt_buffers *pool = memopt_heap_aligned_alloc(heap, 64, sizeof(*pool));
    if (pool == NULL)
        return mo_fail(error, -ENOMEM, "%s: heap '%s' has no memory for a pool", debug.name,
                       memopt_heap_name(heap));
    memset(pool, 0, sizeof(*pool));
    pool->member = (struct mo_pool_member){
        .trim = trim_member, .lock = lock_all, .unlock = unlock_all, .heap = heap, .pool = pool};
    pool->heap = heap;
    pool->debug = debug;
    pool->huge_pages = options->huge_pages == 0;
    pool->chunk_size = MO_BUFFER_CHUNK_MIN;
    pthread_mutex_init(&pool->lock, NULL);
    mo_mempool_create(pool);
    code = mo_member_join(&pool->member, error);
    if (code < 0) {
        mo_mempool_destroy(pool);
        pthread_mutex_destroy(&pool->lock);
        memopt_heap_free(heap, pool);
        return code;
    }
    *ret_pool = pool;
    return 0;
}

int memopt_buffers_stats(struct memopt_buffers *pool, struct memopt_buffers_statistics *stats) {
    if (pool == NULL || stats == NULL || stats->size > sizeof(*stats) ||
        stats->size < offsetof(struct memopt_buffers_statistics, rented_bytes))
        return -EINVAL;
    struct memopt_buffers_statistics all = {
        .size = stats->size,
        .rents = atomic_load_explicit(&pool->shared.rents, memory_order_relaxed),
        .returns = atomic_load_explicit(&pool->shared.returns, memory_order_relaxed),
        .misuses = atomic_load_explicit(&pool->debug.count, memory_order_relaxed),
    };
    int64_t rented = atomic_load_explicit(&pool->rented_bytes, memory_order_relaxed);
    for (unsigned i = 0; i < MO_POOL_CACHES; i++) {
        struct mo_buffer_cache *cache =
            atomic_load_explicit(&pool->caches[i], memory_order_acquire);
        if (cache == NULL)
            continue;
        rented += atomic_load_explicit(&cache->counts.pending, memory_order_relaxed);
        all.rents += atomic_load_explicit(&cache->counts.rents, memory_order_relaxed);
        all.returns += atomic_load_explicit(&cache->counts.returns, memory_order_relaxed);
    }
    pthread_mutex_lock(&pool->lock);
    uint64_t blocks = pool->blocks, block_bytes = pool->block_bytes;
    all.held_bytes = pool->held_bytes;
    all.fresh = pool->fresh;
    all.trims = pool->trims;
    all.trimmed_bytes = pool->trimmed_bytes;
    pthread_mutex_unlock(&pool->lock);
    all.rented_bytes = rented > 0 ? (uint64_t)rented : 0;
    all.rented_buffers = all.rents > all.returns ? all.rents - all.returns : 0;
    all.kept_bytes = block_bytes > all.rented_bytes ? block_bytes - all.rented_bytes : 0;
    all.kept_buffers = blocks > all.rented_buffers ? blocks - all.rented_buffers : 0;
    all.peak_bytes = atomic_load_explicit(&pool->peak_bytes, memory_order_relaxed);
    if (all.peak_bytes < all.rented_bytes)
        all.peak_bytes = all.rented_bytes;
    memcpy(stats, &all, stats->size);
    return 0;
}

void memopt_buffers_reset_peak(struct memopt_buffers *pool) {
    if (pool == NULL)
        return;
    struct memopt_buffers_statistics stats = MEMOPT_BUFFERS_STATISTICS_INIT;
    memopt_buffers_stats(pool, &stats);
    atomic_store_explicit(&pool->peak_bytes, stats.rented_bytes, memory_order_relaxed);
}

uint64_t memopt_buffers_trim(struct memopt_buffers *pool, uint64_t keep) {
    return pool == NULL ? 0 : mo_buffer_trim(pool, keep);
}

int memopt_buffers_destroy(struct memopt_buffers *pool, struct memopt_error *error) {
    if (pool == NULL)
        return 0;
    struct memopt_buffers_statistics stats = MEMOPT_BUFFERS_STATISTICS_INIT;
    memopt_buffers_stats(pool, &stats);
    if (stats.rented_buffers > 0)
        return mo_fail(error, -EBUSY, "%s: %llu buffers of %llu bytes are still rented",
                       pool->debug.name, (unsigned long long)stats.rented_buffers,
                       (unsigned long long)stats.rented_bytes);
    mo_member_leave(&pool->member);
    struct memopt_heap *heap = pool->heap;
    mo_buffer_trim(pool, 0); /* nothing is rented: every block is checked and every chunk goes */
    mo_buffer_free_all(pool);
    mo_mempool_destroy(pool);
    pthread_mutex_destroy(&pool->lock);
    memopt_heap_free(heap, pool);
    return 0;
}
