/*
 * objects.c - a pool of objects of one size (memopt/objects.h).
 *
 *   slab    | object | object | ...
 *   object  | head | data .. |          or, in debug,
 *           | head | red zone: 16 | data | red zone: 16 or more |
 *
 * The state of an object is in its head; its data is its own, so that a checker can
 * have all of it.
 *
 * Where an object is: out; in the magazine of a thread (struct magazine); or in the
 * pool's list. Locks: the pool's mutex, then a magazine's. The owner of a magazine
 * takes the mutex only when it has given up its magazine. A waiter says so in
 * `waiters` before it looks into the magazines for the last time, and a release
 * looks at `waiters` with its magazine's lock held: either the waiter finds the
 * object or the release finds the waiter.
 */
#include "core/base/error.h"
#include "core/base/poison.h"
#include "core/base/thread.h"
#include "core/pool/debug.h"
#include "core/pool/member.h"

#include <memopt/objects.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum { ZONE = 16, MAGAZINE = 32, REFILL = 16, PLENTY = 4 * REFILL };
enum state { KEPT = 0x4b, OUT = 0x4f };

struct object {
    struct object *next;
    struct slab *slab;
    uint64_t sum; /* debug: of the data of a kept object that has a constructor */
    _Atomic int state;
    int fresh; /* debug: not yet filled with the pattern of released ones */
};
_Static_assert(sizeof(struct object) % 16 == 0, "keeps the alignment");

struct slab {
    struct slab *next;
    char *memory; /* the heap's */
    size_t size, count, kept;
};

struct magazine {
    struct mo_cache_lock lock;
    unsigned count;
    _Atomic uint64_t acquires, releases; /* the owner writes */
    struct object *objects[MAGAZINE];
};

struct memopt_objects {
    struct mo_pool_member member;
    struct memopt_objects_options options;
    struct mo_pool_debug debug;
    size_t stride, data; /* data: from an object's beginning to its data */
    _Atomic(struct magazine *) magazines[MO_POOL_CACHES];
    _Atomic uint64_t acquires, releases; /* of threads without a magazine */
    _Atomic int waiters;

    pthread_mutex_t lock __attribute__((aligned(64)));
    pthread_cond_t released;
    struct object *list;
    size_t listed, total;
    struct slab *slabs; /* the last is the capacity's */
    uint64_t peak, grown, waits, failed;
};

static char *data_of(const struct memopt_objects *pool, struct object *object) {
    return (char *)object + sizeof(*object) + (pool->debug.on ? ZONE : 0);
}

static struct object *object_of(const struct memopt_objects *pool, void *data) {
    return (struct object *)((char *)data - sizeof(struct object) - (pool->debug.on ? ZONE : 0));
}

static struct object *nth_of(const struct memopt_objects *pool, const struct slab *slab, size_t i) {
    size_t front = pool->data - sizeof(struct object) - (pool->debug.on ? ZONE : 0);
    return (struct object *)(slab->memory + i * pool->stride + front);
}

/* ---------------------------------------------------------------- debugging */

static uint64_t sum_of(const struct memopt_objects *pool, struct object *object) {
    const unsigned char *data = (const unsigned char *)data_of(pool, object);
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < pool->options.object_size; i++)
        sum = (sum ^ data[i]) * UINT64_C(0x100000001b3);
    return sum;
}

/* The object is not out any more: what it holds must stay so. */
static void seal(const struct memopt_objects *pool, struct object *object) {
    if (pool->options.construct == NULL)
        mo_pattern_fill(data_of(pool, object), pool->options.object_size, MO_PATTERN_RETURNED);
    else if (!mo_checked())
        object->sum = sum_of(pool, object);
    object->fresh = 0;
}

static void check_seal(struct memopt_objects *pool, struct object *object) {
    char *data = data_of(pool, object);
    const void *broken = NULL;
    if (object->fresh || mo_checked())
        return;
    if (pool->options.construct == NULL)
        broken = mo_pattern_broken(data, pool->options.object_size, MO_PATTERN_RETURNED);
    else if (object->sum != sum_of(pool, object))
        broken = data; /* somewhere in it */
    if (broken != NULL)
        mo_misuse(&pool->debug, MEMOPT_MISUSE_AFTER_RETURN, data, pool->options.object_size, broken,
                  NULL);
}

/* The red zone after the data goes to the end of the stride. */
static size_t back_of(const struct memopt_objects *pool) {
    return pool->stride - pool->data - pool->options.object_size;
}

static int check_zones(struct memopt_objects *pool, struct object *object,
                       struct memopt_error *error) {
    char *data = data_of(pool, object), *end = data + pool->options.object_size;
    int kind = MEMOPT_MISUSE_UNDERFLOW;
    const void *broken = mo_pattern_broken(data - ZONE, ZONE, MO_PATTERN_AROUND);
    if (broken == NULL) {
        kind = MEMOPT_MISUSE_OVERFLOW;
        broken = mo_pattern_broken(end, back_of(pool), MO_PATTERN_AROUND);
    }
    if (broken == NULL)
        return 0;
    int code = mo_misuse(&pool->debug, kind, data, pool->options.object_size, broken, error);
    mo_pattern_fill(data - ZONE, ZONE, MO_PATTERN_AROUND);
    mo_pattern_fill(end, back_of(pool), MO_PATTERN_AROUND);
    return code;
}

static bool is_ours(struct memopt_objects *pool, const struct object *object) {
    bool found = false;
    pthread_mutex_lock(&pool->lock);
    for (const struct slab *slab = pool->slabs; slab != NULL && !found; slab = slab->next) {
        uintptr_t offset = (uintptr_t)object - (uintptr_t)nth_of(pool, slab, 0);
        found = offset / pool->stride < slab->count && offset % pool->stride == 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return found;
}

/* -------------------------------------------------------------------- slabs */

/* Destructs the first `count` objects and gives the memory back. */
static void free_slab(struct memopt_objects *pool, struct slab *slab, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct object *object = nth_of(pool, slab, i);
        if (pool->debug.on)
            check_seal(pool, object);
        if (pool->options.destruct != NULL) {
            mo_unpoison_defined(data_of(pool, object), pool->options.object_size);
            pool->options.destruct(pool->options.context, data_of(pool, object));
        }
    }
    mo_mempool_unhide(pool->member.heap, slab->memory, slab->size);
    memopt_heap_free(pool->member.heap, slab->memory);
    memopt_heap_free(pool->member.heap, slab);
}

/* Without the lock. 0 or a negative errno. */
static int make_slab(struct memopt_objects *pool, size_t count, struct slab **ret_slab) {
    const struct memopt_objects_options *options = &pool->options;
    size_t size;
    if (__builtin_mul_overflow(count, pool->stride, &size))
        return -ENOMEM;
    struct slab *slab = memopt_heap_alloc(pool->member.heap, sizeof(*slab));
    if (slab == NULL)
        return -ENOMEM;
    char *memory = memopt_heap_aligned_alloc(pool->member.heap, options->alignment, size);
    if (memory == NULL) {
        memopt_heap_free(pool->member.heap, slab);
        return -ENOMEM;
    }
    *slab = (struct slab){.memory = memory, .size = size, .count = count};
    mo_mempool_hide(pool->member.heap, memory);
    mo_poison(memory, size);
    for (size_t i = 0; i < count; i++) {
        struct object *object = nth_of(pool, slab, i);
        char *data = data_of(pool, object);
        mo_unpoison(object, sizeof(*object));
        *object = (struct object){.slab = slab, .fresh = 1};
        atomic_init(&object->state, KEPT);
        if (pool->debug.on) {
            mo_pattern_fill(data - ZONE, ZONE, MO_PATTERN_AROUND);
            mo_pattern_fill(data + options->object_size, back_of(pool), MO_PATTERN_AROUND);
        }
        if (options->construct == NULL)
            continue;
        mo_unpoison(data, options->object_size);
        int code = options->construct(options->context, data);
        if (code < 0) {
            free_slab(pool, slab, i);
            return code;
        }
        if (pool->debug.on)
            seal(pool, object);
        mo_poison(data, options->object_size);
    }
    *ret_slab = slab;
    return 0;
}

/* With the lock. */
static void add_slab(struct memopt_objects *pool, struct slab *slab) {
    slab->next = pool->slabs;
    pool->slabs = slab;
    pool->total += slab->count;
    pool->listed += slab->count;
    for (size_t i = slab->count; i-- > 0;) {
        struct object *object = nth_of(pool, slab, i);
        object->next = pool->list;
        pool->list = object;
    }
}

/* ----------------------------------------------------- acquire and release */

/* The calling thread's magazine, or NULL. */
static struct magazine *magazine_of(struct memopt_objects *pool) {
    unsigned number = mo_count_thread();
    if (__builtin_expect(number >= MO_POOL_CACHES, 0))
        return NULL;
    struct magazine *magazine =
        atomic_load_explicit(&pool->magazines[number], memory_order_relaxed);
    if (__builtin_expect(magazine != NULL, 1))
        return magazine;
    magazine = memopt_heap_aligned_alloc(pool->member.heap, 64, sizeof(*magazine));
    if (magazine != NULL) {
        memset(magazine, 0, sizeof(*magazine));
        atomic_store_explicit(&pool->magazines[number], magazine, memory_order_release);
    }
    return magazine;
}

static void count(_Atomic uint64_t *own, _Atomic uint64_t *shared) {
    if (own != NULL) /* one writer */
        atomic_store_explicit(own, atomic_load_explicit(own, memory_order_relaxed) + 1,
                              memory_order_relaxed);
    else
        atomic_fetch_add_explicit(shared, 1, memory_order_relaxed);
}

/* With the lock. */
static struct object *take_listed(struct memopt_objects *pool) {
    struct object *object = pool->list;
    if (object != NULL) {
        pool->list = object->next;
        pool->listed--;
    }
    return object;
}

/* Without the lock. */
static void put_listed(struct memopt_objects *pool, struct object *object) {
    pthread_mutex_lock(&pool->lock);
    object->next = pool->list;
    pool->list = object;
    pool->listed++;
    if (atomic_load(&pool->waiters) > 0)
        pthread_cond_signal(&pool->released);
    pthread_mutex_unlock(&pool->lock);
}

/* With the lock: from the list, else from any thread's magazine. */
static struct object *take_any(struct memopt_objects *pool) {
    struct object *object = take_listed(pool);
    for (unsigned i = 0; object == NULL && i < MO_POOL_CACHES; i++) {
        struct magazine *magazine = atomic_load_explicit(&pool->magazines[i], memory_order_acquire);
        if (magazine == NULL)
            continue;
        mo_cache_wait(&magazine->lock);
        if (magazine->count > 0)
            object = magazine->objects[--magazine->count];
        mo_cache_leave(&magazine->lock);
    }
    return object;
}

/* With the lock, in a loop with the test. 0, or a negative errno. */
static int wait_for_one(struct memopt_objects *pool, struct object **ret_object) {
    uint64_t now = mo_clock(), deadline = UINT64_MAX;
    if (pool->options.timeout < UINT64_MAX - now)
        deadline = now + pool->options.timeout;
    pool->waits++;
    atomic_fetch_add(&pool->waiters, 1);
    int code = 0;
    struct object *object;
    while ((object = take_any(pool)) == NULL) {
        if (mo_clock() >= deadline) {
            code = -ETIMEDOUT;
            break;
        }
        if (deadline == UINT64_MAX)
            pthread_cond_wait(&pool->released, &pool->lock);
        else
            mo_condition_wait(&pool->released, &pool->lock, deadline);
    }
    atomic_fetch_sub(&pool->waiters, 1);
    *ret_object = object;
    return code;
}

/* What the magazine doesn't have; fills it when there is plenty. */
static __attribute__((noinline)) struct object *
acquire_slowly(struct memopt_objects *pool, struct magazine *magazine, int *ret_code) {
    struct object *more[REFILL];
    unsigned extra = 0;
    int code = 0;
    pthread_mutex_lock(&pool->lock);
    struct object *object = take_any(pool);
    while (object == NULL && pool->options.policy == MEMOPT_OBJECTS_GROW) {
        size_t wanted = pool->total;
        pthread_mutex_unlock(&pool->lock);
        struct slab *slab;
        code = make_slab(pool, wanted, &slab);
        if (code == -ENOMEM && wanted > 1) /* not as many again: one */
            code = make_slab(pool, 1, &slab);
        pthread_mutex_lock(&pool->lock);
        if (code == 0) {
            add_slab(pool, slab);
            pool->grown++;
        }
        object = take_any(pool);
        if (code < 0)
            break;
    }
    if (object == NULL && pool->options.policy == MEMOPT_OBJECTS_WAIT)
        code = wait_for_one(pool, &object);
    else if (object == NULL && pool->options.policy == MEMOPT_OBJECTS_FAIL)
        code = -EAGAIN;
    if (object == NULL)
        pool->failed++;
    while (object != NULL && magazine != NULL && pool->listed > PLENTY && extra < REFILL)
        more[extra++] = take_listed(pool);
    if (pool->total - pool->listed > pool->peak)
        pool->peak = pool->total - pool->listed;
    if (extra > 0) { /* with the lock: whoever looks for one must not miss these */
        mo_cache_wait(&magazine->lock);
        while (extra > 0 && magazine->count < MAGAZINE)
            magazine->objects[magazine->count++] = more[--extra];
        mo_cache_leave(&magazine->lock);
        while (extra > 0) { /* it was locked, not empty */
            more[--extra]->next = pool->list;
            pool->list = more[extra];
            pool->listed++;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    *ret_code = code;
    return object;
}

void *memopt_objects_acquire(struct memopt_objects *pool) {
    if (pool == NULL) {
        errno = EINVAL;
        return NULL;
    }
    struct magazine *magazine = magazine_of(pool);
    struct object *object = NULL;
    if (magazine != NULL && mo_cache_try(&magazine->lock)) {
        if (magazine->count > 0)
            object = magazine->objects[--magazine->count];
        mo_cache_leave(&magazine->lock);
    }
    if (object == NULL) {
        int code;
        object = acquire_slowly(pool, magazine, &code);
        if (object == NULL) {
            errno = -code;
            return NULL;
        }
    }
    if (__builtin_expect(pool->debug.on, 0))
        check_seal(pool, object);
    char *data = data_of(pool, object);
    mo_mempool_alloc(pool, data, pool->options.object_size);
    if (pool->options.construct != NULL)
        mo_unpoison_defined(data, pool->options.object_size);
    atomic_store_explicit(&object->state, OUT, memory_order_relaxed);
    count(magazine == NULL ? NULL : &magazine->acquires, &pool->acquires);
    return data;
}

int memopt_objects_release(struct memopt_objects *pool, void *data, struct memopt_error *error) {
    if (data == NULL)
        return 0;
    if (pool == NULL)
        return mo_fail(error, -EINVAL, "releasing needs the pool the object is from");
    struct object *object = object_of(pool, data);
    if (__builtin_expect(pool->debug.on, 0) && !is_ours(pool, object))
        return mo_misuse(&pool->debug, MEMOPT_MISUSE_FOREIGN, NULL, 0, data, error);
    int state = OUT;
    if (__builtin_expect(pool->debug.on, 0))
        atomic_compare_exchange_strong(&object->state, &state, KEPT);
    else if ((state = atomic_load_explicit(&object->state, memory_order_relaxed)) == OUT)
        atomic_store_explicit(&object->state, KEPT, memory_order_relaxed);
    if (state != OUT)
        return mo_misuse(&pool->debug, state == KEPT ? MEMOPT_MISUSE_TWICE : MEMOPT_MISUSE_FOREIGN,
                         NULL, 0, data, error);
    int code = __builtin_expect(pool->debug.on, 0) ? check_zones(pool, object, error) : 0;
    if (pool->options.reset != NULL)
        pool->options.reset(pool->options.context, data);
    if (__builtin_expect(pool->debug.on, 0))
        seal(pool, object);
    mo_mempool_free(pool, data, pool->options.object_size);
    struct magazine *magazine = magazine_of(pool);
    count(magazine == NULL ? NULL : &magazine->releases, &pool->releases);
    if (magazine != NULL && mo_cache_try(&magazine->lock)) {
        bool fits = magazine->count < MAGAZINE && atomic_load(&pool->waiters) == 0;
        if (fits)
            magazine->objects[magazine->count++] = object;
        mo_cache_leave(&magazine->lock);
        if (fits)
            return code;
    }
    put_listed(pool, object);
    return code;
}

/* --------------------------------------------------------------------- trim */

/* With the lock: what threads keep goes into the list. */
static void drain(struct memopt_objects *pool) {
    for (unsigned i = 0; i < MO_POOL_CACHES; i++) {
        struct magazine *magazine = atomic_load_explicit(&pool->magazines[i], memory_order_acquire);
        if (magazine == NULL)
            continue;
        mo_cache_wait(&magazine->lock);
        while (magazine->count > 0) {
            struct object *object = magazine->objects[--magazine->count];
            object->next = pool->list;
            pool->list = object;
            pool->listed++;
        }
        mo_cache_leave(&magazine->lock);
    }
}

/* With the lock: takes slabs out of which nothing is, but the capacity's. */
static struct slab *take_slabs(struct memopt_objects *pool) {
    for (struct slab *slab = pool->slabs; slab != NULL; slab = slab->next)
        slab->kept = 0;
    for (struct object *object = pool->list; object != NULL; object = object->next)
        object->slab->kept++;
    struct object **at = &pool->list;
    while (*at != NULL) {
        const struct slab *slab = (*at)->slab;
        if (slab->next != NULL && slab->kept == slab->count) {
            *at = (*at)->next;
            pool->listed--;
        } else {
            at = &(*at)->next;
        }
    }
    struct slab *taken = NULL, **place = &pool->slabs;
    while ((*place)->next != NULL) {
        struct slab *slab = *place;
        if (slab->kept != slab->count) {
            place = &slab->next;
            continue;
        }
        *place = slab->next;
        slab->next = taken;
        taken = slab;
        pool->total -= slab->count;
    }
    return taken;
}

uint64_t memopt_objects_trim(struct memopt_objects *pool) {
    uint64_t bytes = 0;
    if (pool == NULL)
        return 0;
    pthread_mutex_lock(&pool->lock);
    drain(pool);
    struct slab *slab = take_slabs(pool);
    pthread_mutex_unlock(&pool->lock);
    while (slab != NULL) {
        struct slab *next = slab->next;
        bytes += slab->size;
        free_slab(pool, slab, slab->count);
        slab = next;
    }
    return bytes;
}

/* ------------------------------------------------------- creation, figures */

static uint64_t trim_member(struct mo_pool_member *member) {
    return memopt_objects_trim((struct memopt_objects *)(void *)member);
}

static void lock_all(struct mo_pool_member *member) {
    struct memopt_objects *pool = (struct memopt_objects *)(void *)member;
    pthread_mutex_lock(&pool->lock);
    for (unsigned i = 0; i < MO_POOL_CACHES; i++) {
        struct magazine *magazine = atomic_load_explicit(&pool->magazines[i], memory_order_acquire);
        if (magazine != NULL)
            mo_cache_wait(&magazine->lock);
    }
}

static void unlock_all(struct mo_pool_member *member, int in_child) {
    struct memopt_objects *pool = (struct memopt_objects *)(void *)member;
    for (unsigned i = 0; i < MO_POOL_CACHES; i++) {
        struct magazine *magazine = atomic_load_explicit(&pool->magazines[i], memory_order_acquire);
        if (magazine != NULL)
            mo_cache_leave(&magazine->lock);
    }
    if (in_child) {
        atomic_store(&pool->waiters, 0);
        mo_condition_init(&pool->released);
    }
    pthread_mutex_unlock(&pool->lock);
}

static int check_options(const struct memopt_objects_options *options, struct memopt_error *error) {
    const char *name = options->name == NULL ? "objects" : options->name;
    if (options->object_size == 0 || options->object_size > PTRDIFF_MAX / 2)
        return mo_fail(error, -EINVAL, "%s: objects of %zu bytes: at least 1 was expected", name,
                       options->object_size);
    if (options->capacity == 0)
        return mo_fail(error, -EINVAL, "%s: the capacity is 0: at least 1 was expected", name);
    if ((options->alignment & (options->alignment - 1)) != 0 || options->alignment > (size_t)1
                                                                                         << 30)
        return mo_fail(error, -EINVAL, "%s: the alignment is %zu, not a power of two up to 1 GiB",
                       name, options->alignment);
    if (options->policy < MEMOPT_OBJECTS_GROW || options->policy > MEMOPT_OBJECTS_FAIL)
        return mo_fail(error, -EINVAL,
                       "%s: the policy is %d, not one of enum memopt_objects_policy", name,
                       options->policy);
    return 0;
}

int memopt_objects_create(const struct memopt_objects_options *options,
                          struct memopt_objects **ret_pool, struct memopt_error *error) {
    if (ret_pool == NULL || options == NULL || options->size != sizeof(*options))
        return mo_fail(error, -EINVAL,
                       "a pool of objects needs a place for it, and options of %zu bytes",
                       sizeof(*options));
    struct mo_pool_debug debug;
    int code = mo_debug_init(&debug, "objects", options->name, options->debug, options->on_misuse,
                             options->context, error);
    if (code < 0)
        return code;
    code = check_options(options, error);
    if (code < 0)
        return code;
    struct memopt_heap *heap;
    code = mo_member_heap(options->heap, &heap, error);
    if (code < 0)
        return code;
    struct memopt_objects *pool = memopt_heap_aligned_alloc(heap, 64, sizeof(*pool));
    if (pool == NULL)
        return mo_fail(error, -ENOMEM, "%s: heap '%s' has no memory for a pool", debug.name,
                       memopt_heap_name(heap));
    memset(pool, 0, sizeof(*pool));
    pool->member = (struct mo_pool_member){
        .trim = trim_member, .lock = lock_all, .unlock = unlock_all, .heap = heap, .pool = pool};
    pool->options = *options;
    pool->debug = debug;
    size_t alignment = options->alignment < 16 ? 16 : options->alignment;
    size_t zone = debug.on ? ZONE : 0;
    pool->options.alignment = alignment;
    pool->data = (sizeof(struct object) + zone + alignment - 1) & ~(alignment - 1);
    pool->stride = (pool->data + options->object_size + zone + alignment - 1) & ~(alignment - 1);
    pthread_mutex_init(&pool->lock, NULL);
    struct slab *slab = NULL;
    code = mo_condition_init(&pool->released);
    if (code == 0)
        code = make_slab(pool, options->capacity, &slab);
    if (code < 0) {
        mo_fail(error, code, "%s: %zu objects of %zu bytes can't be made: %s", debug.name,
                options->capacity, options->object_size, strerror(-code));
        goto free_pool;
    }
    add_slab(pool, slab);
    mo_mempool_create(pool);
    code = mo_member_join(&pool->member, error);
    if (code == 0) {
        *ret_pool = pool;
        return 0;
    }
    mo_mempool_destroy(pool);
    free_slab(pool, slab, slab->count);
free_pool:
    pthread_cond_destroy(&pool->released);
    pthread_mutex_destroy(&pool->lock);
    memopt_heap_free(heap, pool);
    return code;
}

int memopt_objects_stats(struct memopt_objects *pool, struct memopt_objects_statistics *stats) {
    if (pool == NULL || stats == NULL || stats->size > sizeof(*stats) ||
        stats->size < offsetof(struct memopt_objects_statistics, objects))
        return -EINVAL;
    struct memopt_objects_statistics all = {
        .size = stats->size,
        .capacity = pool->options.capacity,
        .acquires = atomic_load_explicit(&pool->acquires, memory_order_relaxed),
        .releases = atomic_load_explicit(&pool->releases, memory_order_relaxed),
        .misuses = atomic_load_explicit(&pool->debug.count, memory_order_relaxed),
    };
    for (unsigned i = 0; i < MO_POOL_CACHES; i++) {
        struct magazine *magazine = atomic_load_explicit(&pool->magazines[i], memory_order_acquire);
        if (magazine == NULL)
            continue;
        all.acquires += atomic_load_explicit(&magazine->acquires, memory_order_relaxed);
        all.releases += atomic_load_explicit(&magazine->releases, memory_order_relaxed);
    }
    all.out = all.acquires > all.releases ? all.acquires - all.releases : 0;
    pthread_mutex_lock(&pool->lock);
    all.objects = pool->total;
    all.peak = pool->peak;
    all.grown = pool->grown;
    all.waits = pool->waits;
    all.failed = pool->failed;
    pthread_mutex_unlock(&pool->lock);
    memcpy(stats, &all, stats->size);
    return 0;
}

int memopt_objects_destroy(struct memopt_objects *pool, struct memopt_error *error) {
    if (pool == NULL)
        return 0;
    struct memopt_objects_statistics stats = MEMOPT_OBJECTS_STATISTICS_INIT;
    memopt_objects_stats(pool, &stats);
    if (stats.out > 0)
        return mo_fail(error, -EBUSY, "%s: %llu objects are still out", pool->debug.name,
                       (unsigned long long)stats.out);
    mo_member_leave(&pool->member);
    struct memopt_heap *heap = pool->member.heap;
    mo_mempool_destroy(pool);
    for (struct slab *slab = pool->slabs, *next; slab != NULL; slab = next) {
        next = slab->next;
        free_slab(pool, slab, slab->count);
    }
    for (unsigned i = 0; i < MO_POOL_CACHES; i++)
        memopt_heap_free(heap, atomic_load_explicit(&pool->magazines[i], memory_order_acquire));
    pthread_cond_destroy(&pool->released);
    pthread_mutex_destroy(&pool->lock);
    memopt_heap_free(heap, pool);
    return 0;
}
