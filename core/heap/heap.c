/*
 * heap.c - the operations on a heap: blocks, what happens at the limit, purge,
 * statistics (see heap.h for the parts, memopt/heap.h for what is promised).
 *
 *   1. blocks: one try, counted
 *   2. the steps of on_limit, when the try fails
 *   3. the public block operations
 *   4. limit, callback, purgers
 *   5. statistics
 *   6. raw operations of native and plain heaps
 *
 * What trackers are told (heap->account) is told where the program calls, whatever became of
 * the request in between.
 *
 * A heap that can spill has a limit in this sense; a block that is spilled is
 * reserved by its spill file, not in `central`.
 *
 * A heap without a limit: backend, then count in the thread's slot. With one:
 * the bytes asked for are reserved in `central` before the backend is called,
 * and what the block has on top of that (its usable size is known only then) is
 * reserved after, or the block goes back. So live never exceeds the limit.
 */
#include "core/heap/heap.h"

#include "core/base/error.h"
#include "core/heap/spill.h"

#include <errno.h>
#include <math.h>
#include <string.h>

_Thread_local int mo_heap_in_hook;

/* ------------------------------------------------------------- 1. one try */

enum request_kind {
    REQUEST_MALLOC,
    REQUEST_CALLOC,
    REQUEST_ALIGNED,
    REQUEST_REALLOC,
    REQUEST_CHARGE, /* no block: bytes that the caller has from elsewhere */
};
struct request {
    enum request_kind kind;
    size_t size, alignment;
    void *old; /* realloc: the block, never NULL */
    size_t old_usable;
    int old_spilled;
    int spilled; /* what the last try gave is */
    int reason;  /* why the last try failed: enum memopt_limit_reason */
};

static int mode_of(struct memopt_heap *heap) {
    return atomic_load_explicit(&heap->mode, memory_order_relaxed);
}

static void *call_backend(struct memopt_heap *heap, const struct request *request) {
    switch (request->kind) {
    case REQUEST_MALLOC:
        return heap->ops->malloc(heap, request->size);
    case REQUEST_CALLOC:
        return heap->ops->calloc(heap, request->size);
    case REQUEST_ALIGNED:
        return heap->ops->aligned_alloc(heap, request->alignment, request->size);
    case REQUEST_REALLOC:
        return heap->ops->realloc(heap, request->old, request->size);
    case REQUEST_CHARGE:
        break;
    }
    return NULL;
}

static void *try_unlimited(struct memopt_heap *heap, struct request *request) {
    void *p = call_backend(heap, request);
    if (p == NULL) {
        request->reason = MEMOPT_LIMIT_BACKEND;
        return NULL;
    }
    int64_t usable = (int64_t)heap->ops->usable_size(heap, p);
    if (request->kind == REQUEST_REALLOC)
        mo_count(heap, usable - (int64_t)request->old_usable, 1, 1);
    else
        mo_count(heap, usable, 1, 0);
    return p;
}

/* A new block of the heap's spill file, or nothing. */
static void *try_spill(struct memopt_heap *heap, struct request *request) {
    void *p =
        mo_spill_alloc(heap, request->size, request->alignment, request->kind == REQUEST_CALLOC);
    request->spilled = p != NULL;
    return p;
}

/* A new block of exactly accounted size, or nothing. */
static void *try_limited_new(struct memopt_heap *heap, struct request *request,
                             uint64_t already_reserved) {
    int mode = mode_of(heap);
    request->spilled = 0;
    if (__builtin_expect(mode & (MO_HEAP_SPILLING | MO_HEAP_FROZEN), 0)) {
        void *p = NULL;
        if (mode & MO_HEAP_SPILLING && request->size >= MO_SPILL_AT_ONCE)
            p = try_spill(heap, request);
        if (p != NULL || mode & MO_HEAP_FROZEN) {
            request->reason = MEMOPT_LIMIT_PRESSURE;
            return p;
        }
    }
    uint64_t reserved = request->size > already_reserved ? request->size - already_reserved : 0;
    if (!mo_count_reserve(heap, reserved)) {
        request->reason = MEMOPT_LIMIT_REACHED;
        return NULL;
    }
    void *p = call_backend(heap, request);
    if (p == NULL) {
        mo_count_release(heap, reserved);
        request->reason = MEMOPT_LIMIT_BACKEND;
        return NULL;
    }
    uint64_t total = reserved + already_reserved;
    uint64_t usable = heap->ops->usable_size(heap, p);
    if (usable > total && !mo_count_reserve(heap, usable - total)) {
        heap->ops->free(heap, p);
        mo_count_release(heap, reserved);
        request->reason = MEMOPT_LIMIT_REACHED;
        return NULL;
    }
    if (usable < total)
        mo_count_release(heap, total - usable);
    return p;
}

/* realloc: the fresh block takes the old one's place. */
static void *move(struct memopt_heap *heap, const struct request *request, void *fresh,
                  size_t bytes, int is_spilled) {
    memcpy(fresh, request->old, bytes);
    if (request->old_spilled) {
        mo_spill_free(heap, request->old);
    } else {
        heap->ops->free(heap, request->old);
        if (is_spilled)
            mo_count_release(heap, request->old_usable);
    }
    if (!is_spilled)
        mo_count_peak(heap);
    mo_count(heap, 0, 1, 1);
    return fresh;
}

static void *try_limited(struct memopt_heap *heap, struct request *request) {
    if (request->kind != REQUEST_REALLOC) {
        void *p = try_limited_new(heap, request, 0);
        if (p != NULL) {
            if (!request->spilled)
                mo_count_peak(heap);
            mo_count(heap, 0, 1, 0);
        }
        return p;
    }
    if (request->size <= request->old_usable) { /* needs no more than it has */
        void *p = request->old_spilled ? request->old : call_backend(heap, request);
        if (p == NULL) {
            request->reason = MEMOPT_LIMIT_BACKEND;
            return NULL;
        }
        if (!request->old_spilled) /* wraps to an addition if a backend should give it more */
            mo_count_release(heap, request->old_usable - heap->ops->usable_size(heap, p));
        mo_count(heap, 0, 1, 1);
        return p;
    }
    /* Growing: a new block, because what the backend's realloc makes of the size
     * could turn out too large only when the old block is gone already. */
    struct request fresh = {.kind = REQUEST_MALLOC, .size = request->size};
    void *p = try_limited_new(heap, &fresh, request->old_spilled ? 0 : request->old_usable);
    if (p == NULL) {
        request->reason = fresh.reason;
        return NULL;
    }
    return move(heap, request, p, request->old_usable, fresh.spilled);
}

/* The step `spill`. */
static void *serve_spilled(struct memopt_heap *heap, struct request *request) {
    if (!(mode_of(heap) & MO_HEAP_SPILLS) || request->kind == REQUEST_CHARGE)
        return NULL;
    if (request->kind == REQUEST_REALLOC) {
        struct request fresh = {.kind = REQUEST_MALLOC, .size = request->size};
        void *p = try_spill(heap, &fresh);
        size_t bytes = request->old_usable < request->size ? request->old_usable : request->size;
        return p == NULL ? NULL : move(heap, request, p, bytes, 1);
    }
    void *p = try_spill(heap, request);
    if (p != NULL)
        mo_count(heap, 0, 1, 0);
    return p;
}

/* NULL: it is refused. */
static void *try_charge(struct memopt_heap *heap, struct request *request) {
    int mode = mode_of(heap);
    if (mode == 0) {
        mo_count(heap, (int64_t)request->size, 0, 0);
        return heap;
    }
    if (mode & MO_HEAP_FROZEN || !mo_count_reserve(heap, request->size)) {
        request->reason = mode & MO_HEAP_FROZEN ? MEMOPT_LIMIT_PRESSURE : MEMOPT_LIMIT_REACHED;
        return NULL;
    }
    mo_count_peak(heap);
    return heap;
}

/* The shim keeps the limit; what was refused for it can only be guessed from the figures. */
static void *try_programs(struct memopt_heap *heap, struct request *request) {
    void *p = call_backend(heap, request);
    uint64_t live = atomic_load_explicit(&heap->central->live_bytes, memory_order_relaxed),
             limit = atomic_load_explicit(&heap->central->limit, memory_order_relaxed);
    if (p == NULL)
        request->reason = request->size > limit || live > limit - request->size
                              ? MEMOPT_LIMIT_REACHED
                              : MEMOPT_LIMIT_BACKEND;
    return p;
}

static void *try_once(struct memopt_heap *heap, struct request *request) {
    if (request->kind == REQUEST_CHARGE)
        return try_charge(heap, request);
    if (__builtin_expect(mode_of(heap) & MO_HEAP_PROGRAMS, 0))
        return try_programs(heap, request);
    return mode_of(heap) != 0 ? try_limited(heap, request) : try_unlimited(heap, request);
}

/* ---------------------------------------------------------- 2. the steps */

static void *refuse(struct memopt_heap *heap, const struct request *request) {
    if (request->reason != MEMOPT_LIMIT_BACKEND && !(mode_of(heap) & MO_HEAP_PROGRAMS))
        atomic_fetch_add_explicit(&heap->central->refused, 1, memory_order_relaxed);
    else
        atomic_fetch_add_explicit(&heap->failed, 1, memory_order_relaxed);
    errno = ENOMEM;
    return NULL;
}

static uint64_t live_bytes(struct memopt_heap *heap) {
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    mo_count_read(heap, &stats);
    return stats.live_bytes;
}

/* One answer of the callback; MEMOPT_LIMIT_FAIL if there is none. */
static int ask(struct memopt_heap *heap, const struct request *request, unsigned attempt) {
    pthread_mutex_lock(&heap->hook_lock);
    memopt_limit_fn callback = heap->callback;
    void *context = heap->callback_context;
    pthread_mutex_unlock(&heap->hook_lock);
    if (callback == NULL)
        return MEMOPT_LIMIT_FAIL;
    struct memopt_limit_event event = {
        .size = sizeof(event),
        .heap = heap,
        .reason = request->reason,
        .attempt = attempt,
        .wanted = request->size,
        .live = live_bytes(heap),
        .limit = atomic_load_explicit(&heap->central->limit, memory_order_relaxed),
    };
    mo_heap_in_hook = 1;
    int answer = callback(context, &event);
    mo_heap_in_hook = 0;
    return answer;
}

int mo_heap_shares_backend(const struct memopt_heap *heap) {
    return heap->native == NULL || heap->backend->plugin->ops.allocator.heap_purge == NULL;
}

uint64_t mo_heap_purge(struct memopt_heap *heap, int with_backend) {
    uint64_t bytes = 0;
    if (!mo_heap_in_hook) {
        struct mo_purger purgers[MEMOPT_HEAP_PURGERS];
        pthread_mutex_lock(&heap->hook_lock);
        size_t count = heap->purger_count;
        memcpy(purgers, heap->purgers, count * sizeof(purgers[0]));
        pthread_mutex_unlock(&heap->hook_lock);
        mo_heap_in_hook = 1;
        for (size_t i = 0; i < count; i++)
            bytes += purgers[i].purge(purgers[i].context);
        mo_heap_in_hook = 0;
    }
    if (with_backend) {
        const struct memopt_allocator_ops *backend = &heap->backend->plugin->ops.allocator;
        if (mo_heap_shares_backend(heap))
            bytes += backend->purge();
        else
            bytes += backend->heap_purge(heap->native);
    }
    atomic_fetch_add_explicit(&heap->purges, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&heap->purged_bytes, bytes, memory_order_relaxed);
    return bytes;
}

static struct memopt_pressure_event event_of(struct memopt_heap *heap,
                                             const struct request *request, int step) {
    return (struct memopt_pressure_event){
        .size = sizeof(struct memopt_pressure_event),
        .source = request->reason == MEMOPT_LIMIT_BACKEND ? MEMOPT_PRESSURE_BACKEND
                                                          : MEMOPT_PRESSURE_LIMIT,
        .level = MEMOPT_PRESSURE_FULL,
        .step = step,
        .heap = heap,
        .wanted = request->size,
        .before = live_bytes(heap),
        .limit = atomic_load_explicit(&heap->central->limit, memory_order_relaxed),
    };
}

/* A step, and a try after it. */
static void *take_step(struct memopt_heap *heap, struct request *request, int step) {
    struct memopt_pressure_event event = event_of(heap, request, step);
    void *p = NULL;
    if (step == MEMOPT_PRESSURE_SPILL) {
        p = serve_spilled(heap, request);
    } else {
        /* What the backend keeps unused is not live: it can't help at the limit,
         * and having it purged at every refusal would be slow. */
        event.freed = step == MEMOPT_PRESSURE_PURGE
                          ? mo_heap_purge(heap, request->reason == MEMOPT_LIMIT_BACKEND)
                          : mo_step_consult(&event);
        p = try_once(heap, request);
    }
    event.after = live_bytes(heap);
    event.served = p != NULL;
    mo_step_say(&event);
    return p;
}

static __attribute__((noinline)) void *give_up(struct memopt_heap *heap,
                                               const struct request *request) {
    struct memopt_pressure_event event = event_of(heap, request, MEMOPT_PRESSURE_FAIL);
    event.after = event.before;
    mo_step_say(&event);
    return refuse(heap, request);
}

/* The whole way of a request: a try, then each step and a try again. */
static __attribute__((noinline)) void *serve(struct memopt_heap *heap, struct request *request) {
    int saved = errno;
    if (request->size > PTRDIFF_MAX - MO_HEAP_HEADER) { /* no step can help */
        request->reason = MEMOPT_LIMIT_BACKEND;
        return refuse(heap, request);
    }
    void *p = try_once(heap, request);
    if (p == NULL && mo_heap_in_hook)
        return refuse(heap, request);
    for (size_t i = 0; p == NULL && i < heap->step_count; i++) {
        if (heap->steps[i] == MEMOPT_PRESSURE_FAIL)
            break;
        p = take_step(heap, request, heap->steps[i]);
    }
    for (unsigned attempt = 0; p == NULL; attempt++) {
        if (ask(heap, request, attempt) != MEMOPT_LIMIT_RETRY)
            return give_up(heap, request);
        p = try_once(heap, request);
    }
    errno = saved;
    return p;
}

/* --------------------------------------------------------- 3. blocks */

static int is_none(const struct memopt_heap *heap) {
    if (__builtin_expect(heap != NULL, 1))
        return 0;
    errno = EINVAL;
    return 1;
}

/* Of a request that has been served, or refused. */
static __attribute__((noinline)) void *tell(struct memopt_heap *heap, void *p, size_t size,
                                            int event) {
    int saved = errno;
    if (p == NULL)
        heap->account->refused(heap->number, size, event);
    else
        heap->account->alloc(heap->number, p, size, heap->ops->usable_size(heap, p), event);
    errno = saved;
    return p;
}

static inline void *told(struct memopt_heap *heap, void *p, size_t size, int event) {
    return __builtin_expect(heap->account == NULL, 1) ? p : tell(heap, p, size, event);
}

void *memopt_heap_alloc(struct memopt_heap *heap, size_t size) {
    if (is_none(heap))
        return NULL;
    /* The common case: two indirect calls and the count. */
    if (__builtin_expect(mode_of(heap) == 0 && size <= PTRDIFF_MAX - MO_HEAP_HEADER &&
                             heap->account == NULL,
                         1)) {
        void *p = heap->ops->malloc(heap, size);
        if (__builtin_expect(p != NULL, 1)) {
            mo_count(heap, (int64_t)heap->ops->usable_size(heap, p), 1, 0);
            return p;
        }
    }
    struct request request = {.kind = REQUEST_MALLOC, .size = size};
    return told(heap, serve(heap, &request), size, MEMOPT_EVENT_MALLOC);
}

void *memopt_heap_calloc(struct memopt_heap *heap, size_t count, size_t size) {
    if (is_none(heap))
        return NULL;
    struct request request = {.kind = REQUEST_CALLOC};
    if (__builtin_mul_overflow(count, size, &request.size))
        request.size = SIZE_MAX;
    return told(heap, serve(heap, &request), request.size, MEMOPT_EVENT_CALLOC);
}

void *memopt_heap_aligned_alloc(struct memopt_heap *heap, size_t alignment, size_t size) {
    if (is_none(heap))
        return NULL;
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
        errno = EINVAL;
        return NULL;
    }
    struct request request = {
        .kind = REQUEST_ALIGNED, .size = size, .alignment = alignment < 16 ? 16 : alignment};
    return told(heap, serve(heap, &request), size, MEMOPT_EVENT_ALIGNED);
}

static void not_ours(struct memopt_heap *heap) {
    atomic_fetch_add_explicit(&heap->invalid_frees, 1, memory_order_relaxed);
    errno = EINVAL;
}

void *memopt_heap_realloc(struct memopt_heap *heap, void *p, size_t size) {
    if (is_none(heap))
        return NULL;
    if (p == NULL)
        return memopt_heap_alloc(heap, size);
    if (size == 0) {
        memopt_heap_free(heap, p);
        return NULL;
    }
    struct request request = {.kind = REQUEST_REALLOC, .size = size, .old = p};
    request.old_usable = heap->ops->usable_size(heap, p);
    if (request.old_usable == MO_HEAP_NOT_OURS) {
        not_ours(heap);
        return NULL;
    }
    request.old_spilled = mode_of(heap) & MO_HEAP_SPILLS && mo_spill_owns(heap, p);
    if (__builtin_expect(heap->account != NULL, 0))
        heap->account->free(heap->number, p, request.old_usable, MEMOPT_EVENT_REALLOC);
    void *q = serve(heap, &request);
    if (__builtin_expect(heap->account != NULL && q == NULL, 0))
        heap->account->alloc(heap->number, p, request.old_usable, request.old_usable,
                             MEMOPT_EVENT_RESTORE);
    return told(heap, q, size, MEMOPT_EVENT_REALLOC);
}

void memopt_heap_free(struct memopt_heap *heap, void *p) {
    if (p == NULL || is_none(heap))
        return;
    size_t usable = heap->ops->usable_size(heap, p);
    if (__builtin_expect(usable == MO_HEAP_NOT_OURS, 0)) {
        not_ours(heap);
        return;
    }
    int saved = errno;
    int mode = mode_of(heap);
    if (__builtin_expect(heap->account != NULL, 0))
        heap->account->free(heap->number, p, usable, MEMOPT_EVENT_FREE);
    if (__builtin_expect(mode == 0, 1)) {
        mo_count(heap, -(int64_t)usable, 0, 1);
        heap->ops->free(heap, p);
    } else if (mode & MO_HEAP_SPILLS && mo_spill_free(heap, p)) {
        mo_count(heap, 0, 0, 1);
    } else if (mode & MO_HEAP_PROGRAMS) {
        heap->ops->free(heap, p);
    } else {
        heap->ops->free(heap, p);
        mo_count_release(heap, usable); /* only now may another thread have the bytes */
        mo_count(heap, 0, 0, 1);
    }
    errno = saved;
}

size_t memopt_heap_usable_size(struct memopt_heap *heap, void *p) {
    if (p == NULL || is_none(heap))
        return 0;
    size_t usable = heap->ops->usable_size(heap, p);
    if (usable != MO_HEAP_NOT_OURS)
        return usable;
    not_ours(heap);
    return 0;
}

int mo_heap_charge(struct memopt_heap *heap, size_t bytes) {
    struct request request = {.kind = REQUEST_CHARGE, .size = bytes};
    if (bytes == 0)
        return 0;
    if (serve(heap, &request) == NULL)
        return -ENOMEM;
    atomic_fetch_add_explicit(&heap->charged, bytes, memory_order_relaxed);
    return 0;
}

void mo_heap_uncharge(struct memopt_heap *heap, size_t bytes) {
    if (bytes == 0)
        return;
    atomic_fetch_sub_explicit(&heap->charged, bytes, memory_order_relaxed);
    if (mode_of(heap) == 0)
        mo_count(heap, -(int64_t)bytes, 0, 0);
    else
        mo_count_release(heap, bytes);
}

/* ------------------------------------------- 4. limit, callback, purgers */

void memopt_heap_set_limit_callback(struct memopt_heap *heap, memopt_limit_fn callback,
                                    void *context) {
    if (heap == NULL)
        return;
    pthread_mutex_lock(&heap->hook_lock);
    heap->callback = callback;
    heap->callback_context = context;
    pthread_mutex_unlock(&heap->hook_lock);
}

void memopt_heap_set_limit(struct memopt_heap *heap, uint64_t limit) {
    if (heap == NULL)
        return;
    atomic_store_explicit(&heap->central->limit, limit, memory_order_relaxed);
    if (limit == MEMOPT_NO_LIMIT || mode_of(heap) & (MO_HEAP_LIMITED | MO_HEAP_PROGRAMS))
        return; /* a heap that had a limit goes on counting in central */
    mo_count_flush_all(heap);
    heap->peak_estimated = 1;
    atomic_fetch_or_explicit(&heap->mode, MO_HEAP_LIMITED, memory_order_relaxed);
}

static size_t find_purger(const struct memopt_heap *heap, memopt_purge_fn purge,
                          const void *context) {
    size_t i = 0;
    while (i < heap->purger_count &&
           (heap->purgers[i].purge != purge || heap->purgers[i].context != context))
        i++;
    return i;
}

int memopt_heap_add_purger(struct memopt_heap *heap, memopt_purge_fn purge, void *context,
                           struct memopt_error *error) {
    if (heap == NULL || purge == NULL)
        return mo_fail(error, -EINVAL, "a purger needs a heap and a function");
    int code = 0;
    pthread_mutex_lock(&heap->hook_lock);
    if (find_purger(heap, purge, context) < heap->purger_count)
        code = mo_fail(error, -EEXIST, "heap '%s' has this purger already", heap->name);
    else if (heap->purger_count == MEMOPT_HEAP_PURGERS)
        code = mo_fail(error, -ENOSPC, "heap '%s' has %d purgers already, the most there can be",
                       heap->name, MEMOPT_HEAP_PURGERS);
    else
        heap->purgers[heap->purger_count++] = (struct mo_purger){purge, context};
    pthread_mutex_unlock(&heap->hook_lock);
    return code;
}

int memopt_heap_remove_purger(struct memopt_heap *heap, memopt_purge_fn purge, void *context,
                              struct memopt_error *error) {
    if (heap == NULL || purge == NULL)
        return mo_fail(error, -EINVAL, "a purger needs a heap and a function");
    int code = 0;
    pthread_mutex_lock(&heap->hook_lock);
    size_t i = find_purger(heap, purge, context);
    if (i == heap->purger_count)
        code = mo_fail(error, -ENOENT, "heap '%s' has no such purger", heap->name);
    else
        memmove(&heap->purgers[i], &heap->purgers[i + 1],
                (--heap->purger_count - i) * sizeof(heap->purgers[0]));
    pthread_mutex_unlock(&heap->hook_lock);
    return code;
}

uint64_t memopt_heap_purge(struct memopt_heap *heap) {
    return heap == NULL ? 0 : mo_heap_purge(heap, 1);
}

/* A block to where it is not, as realloc to the size that it has. */
static void *relocate(struct memopt_heap *heap, void *p, int into_file) {
    if (heap == NULL || !(mode_of(heap) & MO_HEAP_SPILLS)) {
        errno = ENOTSUP;
        return NULL;
    }
    struct request request = {.kind = REQUEST_REALLOC, .old = p};
    request.old_usable = p == NULL ? MO_HEAP_NOT_OURS : heap->ops->usable_size(heap, p);
    if (request.old_usable == MO_HEAP_NOT_OURS) {
        errno = EINVAL;
        return NULL;
    }
    int saved = errno;
    request.size = request.old_usable;
    request.old_spilled = mo_spill_owns(heap, p);
    if (request.old_spilled == into_file)
        return p;
    if (heap->account != NULL)
        heap->account->free(heap->number, p, request.old_usable, MEMOPT_EVENT_REALLOC);
    struct request fresh = {.kind = REQUEST_MALLOC, .size = request.size};
    void *moved = NULL;
    if (into_file)
        moved = serve_spilled(heap, &request);
    else if (!(mode_of(heap) & (MO_HEAP_SPILLING | MO_HEAP_FROZEN)) &&
             (moved = try_limited_new(heap, &fresh, 0)) != NULL)
        move(heap, &request, moved, request.old_usable, 0);
    if (heap->account != NULL && moved == NULL)
        heap->account->alloc(heap->number, p, request.old_usable, request.old_usable,
                             MEMOPT_EVENT_RESTORE);
    errno = moved == NULL ? ENOMEM : saved;
    return moved == NULL ? NULL : told(heap, moved, request.size, MEMOPT_EVENT_REALLOC);
}

void *memopt_heap_spill(struct memopt_heap *heap, void *p) {
    return relocate(heap, p, 1);
}

void *memopt_heap_unspill(struct memopt_heap *heap, void *p) {
    return relocate(heap, p, 0);
}

/* -------------------------------------------------------- 5. statistics */

static void read_figures(struct memopt_heap *heap, struct memopt_heap_statistics *stats) {
    const struct memopt_allocator_ops *backend = &heap->backend->plugin->ops.allocator;
    struct memopt_figures figures = MEMOPT_FIGURES_INIT;
    int code;
    stats->whole_backend = heap->native == NULL || backend->heap_figures == NULL;
    if (stats->whole_backend)
        code = backend->figures(&figures);
    else
        code = backend->heap_figures(heap->native, &figures);
    stats->committed = code == 0 ? figures.committed : MEMOPT_UNKNOWN;
    stats->fragmentation = code == 0 ? figures.fragmentation : (double)NAN;
}

int memopt_heap_stats(struct memopt_heap *heap, struct memopt_heap_statistics *stats) {
    if (heap == NULL || stats == NULL ||
        stats->size < offsetof(struct memopt_heap_statistics, name) || stats->size > sizeof(*stats))
        return -EINVAL;
    struct memopt_heap_statistics all = {
        .size = stats->size,
        .name = heap->name,
        .allocator = heap->allocator,
        .limit = atomic_load_explicit(&heap->central->limit, memory_order_relaxed),
        .refused = atomic_load_explicit(&heap->central->refused, memory_order_relaxed),
        .failed = atomic_load_explicit(&heap->failed, memory_order_relaxed),
        .invalid_frees = atomic_load_explicit(&heap->invalid_frees, memory_order_relaxed),
        .purges = atomic_load_explicit(&heap->purges, memory_order_relaxed),
        .purged_bytes = atomic_load_explicit(&heap->purged_bytes, memory_order_relaxed),
    };
    mo_count_read(heap, &all);
    mo_spill_stats(heap, &all);
    read_figures(heap, &all);
    if (!all.whole_backend) /* the ledger's reader takes it for this heap's own */
        atomic_store_explicit(&heap->central->committed, all.committed, memory_order_relaxed);
    memcpy(stats, &all, stats->size);
    return 0;
}

const char *memopt_heap_name(const struct memopt_heap *heap) {
    return heap->name;
}

/* ------------------------------------------------------ 6. raw operations */

#define BACKEND(heap) ((heap)->backend->plugin->ops.allocator)

static void *native_malloc(struct memopt_heap *heap, size_t size) {
    return BACKEND(heap).heap_malloc(heap->native, size);
}
static void *native_calloc(struct memopt_heap *heap, size_t size) {
    return BACKEND(heap).heap_calloc(heap->native, 1, size);
}
static void *native_realloc(struct memopt_heap *heap, void *p, size_t size) {
    return BACKEND(heap).heap_realloc(heap->native, p, size);
}
static void *native_aligned_alloc(struct memopt_heap *heap, size_t alignment, size_t size) {
    return BACKEND(heap).heap_aligned_alloc(heap->native, alignment, size);
}
static void native_free(struct memopt_heap *heap, void *p) {
    BACKEND(heap).heap_free(heap->native, p);
}
static size_t native_usable_size(struct memopt_heap *heap, void *p) {
    return BACKEND(heap).heap_usable_size(heap->native, p);
}
static void native_destroy(struct memopt_heap *heap) {
    BACKEND(heap).heap_destroy(heap->native);
}

const struct mo_heap_ops mo_heap_native_ops = {
    .malloc = native_malloc,
    .calloc = native_calloc,
    .realloc = native_realloc,
    .aligned_alloc = native_aligned_alloc,
    .free = native_free,
    .usable_size = native_usable_size,
    .destroy = native_destroy,
};

static void *plain_malloc(struct memopt_heap *heap, size_t size) {
    return heap->malloc.malloc(size);
}
static void *plain_calloc(struct memopt_heap *heap, size_t size) {
    return heap->malloc.calloc(1, size);
}
static void *plain_realloc(struct memopt_heap *heap, void *p, size_t size) {
    return heap->malloc.realloc(p, size);
}
static void *plain_aligned_alloc(struct memopt_heap *heap, size_t alignment, size_t size) {
    return heap->malloc.aligned_alloc(alignment, size);
}
static void plain_free(struct memopt_heap *heap, void *p) {
    heap->malloc.free(p);
}
static size_t plain_usable_size(struct memopt_heap *heap, void *p) {
    return heap->malloc.usable_size(p);
}

/* The default heap: it is never destroyed. */
const struct mo_heap_ops mo_heap_plain_ops = {
    .malloc = plain_malloc,
    .calloc = plain_calloc,
    .realloc = plain_realloc,
    .aligned_alloc = plain_aligned_alloc,
    .free = plain_free,
    .usable_size = plain_usable_size,
    .destroy = NULL,
};
