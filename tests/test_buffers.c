/*
 * test_buffers.c - the pool of gradient buffers: classes, alignment, reuse, limits,
 * trim and purge, misuse, scopes, threads, fork, and the N-th allocation failing.
 */
#include "config.h"

#include "tests/pool_heap.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

static struct memopt_error error;

static struct memopt_buffers *create(struct memopt_heap *heap, int debug) {
    struct memopt_buffers_options options = MEMOPT_BUFFERS_OPTIONS_INIT;
    struct memopt_buffers *pool = NULL;
    options.heap = heap;
    options.debug = debug;
    options.on_misuse = note_misuse;
    options.context = &misused;
    memset(&misused, 0, sizeof(misused));
    if (memopt_buffers_create(&options, &pool, &error) < 0)
        fail_msg("%s", error.message);
    return pool;
}

static struct memopt_buffer *rent(struct memopt_buffers *pool, size_t bytes) {
    struct memopt_buffer *buffer = NULL;
    if (memopt_buffers_rent(pool, MEMOPT_DTYPE_U8, 1, &bytes, &buffer, &error) < 0)
        fail_msg("%s", error.message);
    return buffer;
}

static void give(struct memopt_buffers *pool, struct memopt_buffer *buffer) {
    if (memopt_buffers_return(pool, buffer, &error) < 0)
        fail_msg("%s", error.message);
}

static struct memopt_buffers_statistics stats(struct memopt_buffers *pool) {
    struct memopt_buffers_statistics s = MEMOPT_BUFFERS_STATISTICS_INIT;
    assert_int_equal(memopt_buffers_stats(pool, &s), 0);
    return s;
}

static void finish(struct memopt_buffers *pool, struct memopt_heap *heap) {
    if (memopt_buffers_destroy(pool, &error) < 0)
        fail_msg("%s", error.message);
    assert_empty(heap);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

/* ------------------------------------------------------------------ shapes */

static void a_buffer_has_its_shape(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(0);
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++) {
        struct memopt_buffers *pool = create(heap, debug);
        struct memopt_buffer *b;
        assert_int_equal(
            memopt_buffers_rent(pool, MEMOPT_DTYPE_BF16, 3, (size_t[]){3, 5, 7}, &b, &error), 0);
        assert_int_equal(b->bytes, 210);
        assert_int_equal(b->elements, 105);
        assert_int_equal(b->dtype, MEMOPT_DTYPE_BF16);
        assert_int_equal(b->rank, 3);
        assert_true(b->shape[0] == 3 && b->shape[1] == 5 && b->shape[2] == 7);
        give(pool, b);
        assert_null(b->data);
        assert_int_equal(memopt_buffers_rent(pool, MEMOPT_DTYPE_F64, 0, NULL, &b, &error), 0);
        assert_int_equal(b->bytes, 8);
        give(pool, b);
        assert_int_equal(memopt_buffers_destroy(pool, &error), 0);
    }
    assert_empty(heap);
    memopt_heap_destroy(heap, NULL);
}

/* Every size up to a few pages, and around each power of two above: aligned, all
 * of it there, at most 1/8 (or a line, or a page) larger. */
static void sizes_and_alignment(void **state) {
    (void)state;
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++) {
        struct memopt_heap *heap = open_heap(0);
        struct memopt_buffers *pool = create(heap, debug);
        for (size_t size = 1; size <= 9u << 20;) {
            struct memopt_buffer *b = rent(pool, size);
            size_t alignment = size >= 4096 ? 4096 : 64;
            assert_int_equal((uintptr_t)b->data % alignment, 0);
            memset(b->data, 1, size);
            uint64_t has = stats(pool).rented_bytes;
            assert_true(has >= size);
            size_t slack = size / 8 > alignment ? size / 8 : size > 3840 ? 4096 : 64;
            assert_true(has - size <= slack);
            give(pool, b);
            if (size < 20000)
                size++;
            else /* 1 below and 1 above each eighth of a doubling */
                size = size % 2048 == 2047 ? size + 1
                       : size % 2048 == 0  ? size + 1
                                           : (size / 2048 + size / 16384) * 2048 + 2047;
        }
        assert_int_equal(misused.count, 0);
        assert_int_equal(stats(pool).rented_bytes, 0);
        finish(pool, heap);
    }
}

static void bad_input_changes_nothing(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(64 << 20);
    struct memopt_buffers *pool = create(heap, MEMOPT_DEBUG_OFF);
    struct memopt_buffer *const untouched = (struct memopt_buffer *)&error;
    static const struct {
        int dtype;
        unsigned rank;
        size_t shape[MEMOPT_BUFFER_RANK_MAX + 1];
        int code;
        const char *text;
    } cases[] = {
        {0, 1, {4}, -EINVAL, "0 is no type"},
        {999, 1, {4}, -EINVAL, "999 is no type"},
        {-1, 1, {4}, -EINVAL, "-1 is no type"},
        {MEMOPT_DTYPE_F32, 9, {1, 1, 1, 1, 1, 1, 1, 1, 1}, -EINVAL, "9 dimensions"},
        {MEMOPT_DTYPE_F32, 2, {4, 0}, -EINVAL, "dimension 1 of the shape is 0"},
        {MEMOPT_DTYPE_F32, 2, {SIZE_MAX / 2, 3}, -EOVERFLOW, "more elements"},
        {MEMOPT_DTYPE_F32, 1, {SIZE_MAX / 2}, -EOVERFLOW, "more bytes"},
        {MEMOPT_DTYPE_U8, 1, {((size_t)1 << 40) + 1}, -EOVERFLOW, "more bytes"},
        {MEMOPT_DTYPE_U8, 1, {(size_t)1 << 40}, -ENOMEM, "heap 'pools' has no memory"},
        {MEMOPT_DTYPE_U8, 1, {65u << 20}, -ENOMEM, "no memory for a buffer of 68157440 bytes"},
    };
    uint64_t before = live(heap);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct memopt_buffer *b = untouched;
        int code =
            memopt_buffers_rent(pool, cases[i].dtype, cases[i].rank, cases[i].shape, &b, &error);
        if (code != cases[i].code || strstr(error.message, cases[i].text) == NULL)
            fail_msg("case %zu: %d, '%s'", i, code, error.message);
        assert_int_equal(error.code, code);
        assert_ptr_equal(b, untouched);
        assert_int_equal(stats(pool).rents, 0);
        assert_int_equal(
            memopt_buffers_rent(pool, cases[i].dtype, cases[i].rank, cases[i].shape, &b, NULL),
            code);
    }
    /* but for the thread's cache and some descriptors */
    assert_true(live(heap) - before < 20000);
    struct memopt_buffer *b;
    size_t one = 1;
    assert_int_equal(memopt_buffers_rent(NULL, MEMOPT_DTYPE_U8, 1, &one, &b, &error), -EINVAL);
    assert_int_equal(memopt_buffers_rent(pool, MEMOPT_DTYPE_U8, 1, &one, NULL, &error), -EINVAL);
    assert_int_equal(memopt_buffers_rent(pool, MEMOPT_DTYPE_U8, 1, NULL, &b, &error), -EINVAL);
    assert_int_equal(memopt_buffers_return(pool, NULL, &error), 0);
    struct memopt_buffers_options options = MEMOPT_BUFFERS_OPTIONS_INIT;
    struct memopt_buffers *other = NULL;
    options.heap = heap;
    options.size = 3;
    assert_int_equal(memopt_buffers_create(&options, &other, &error), -EINVAL);
    options.size = sizeof(options);
    options.debug = 7;
    assert_int_equal(memopt_buffers_create(&options, &other, &error), -EINVAL);
    assert_non_null(strstr(error.message, "debug is 7"));
    options.debug = 0;
    options.huge_pages = 2;
    assert_int_equal(memopt_buffers_create(&options, &other, &error), -EINVAL);
    options.huge_pages = 0;
    options.name = "";
    assert_int_equal(memopt_buffers_create(&options, &other, &error), -EINVAL);
    assert_null(other);
    b = rent(pool, 10);
    assert_int_equal(memopt_buffers_destroy(pool, &error), -EBUSY);
    assert_non_null(strstr(error.message, "1 buffers of 64 bytes"));
    give(pool, b);
    struct memopt_buffers_statistics small = {.size = 1};
    assert_int_equal(memopt_buffers_stats(pool, &small), -EINVAL);
    finish(pool, heap);
    assert_int_equal(memopt_buffers_destroy(NULL, &error), 0);
}

/* ---------------------------------------------------------- reuse and trim */

static void a_step_takes_nothing_from_the_heap(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(0);
    struct memopt_buffers *pool = create(heap, MEMOPT_DEBUG_OFF);
    enum { N = 60 };
    struct memopt_buffer *b[N];
    uint64_t allocations = 0, rented = 0;
    for (int step = 0; step < 20; step++) {
        for (size_t i = 0; i < N; i++)
            b[i] = rent(pool, 4096u << (i % 11));
        rented = stats(pool).rented_bytes;
        for (size_t i = 0; i < N; i++)
            give(pool, b[i]);
        struct memopt_heap_statistics s = stats_of(heap);
        if (step > 0)
            assert_int_equal(s.allocations, allocations);
        allocations = s.allocations;
    }
    struct memopt_buffers_statistics s = stats(pool);
    assert_int_equal(s.fresh, N);
    assert_int_equal(s.rents, 20 * N);
    assert_int_equal(s.returns, 20 * N);
    assert_int_equal(s.kept_buffers, N);
    assert_int_equal(s.kept_bytes, rented);
    assert_true(s.peak_bytes <= rented && rented - s.peak_bytes <= 65536);
    assert_true(s.held_bytes >= rented && s.held_bytes <= 2 * rented);
    finish(pool, heap);
}

static void trim_purge_and_peak(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(0);
    struct memopt_buffers *pool = create(heap, MEMOPT_DEBUG_OFF);
    struct memopt_buffer *b[8];
    for (int i = 0; i < 8; i++)
        b[i] = rent(pool, 3 << 20);
    for (int i = 0; i < 7; i++)
        give(pool, b[i]);
    assert_int_equal(stats(pool).kept_bytes, 21 << 20);
    assert_int_equal(stats(pool).peak_bytes, 24 << 20);
    assert_int_equal(memopt_buffers_trim(pool, 10 << 20), 12 << 20);
    assert_int_equal(stats(pool).kept_bytes, 9 << 20);
    assert_int_equal(memopt_buffers_trim(pool, 10 << 20), 0);
    memopt_buffers_reset_peak(pool);
    assert_int_equal(stats(pool).peak_bytes, 3 << 20);
    uint64_t before = live(heap);
    assert_true(memopt_heap_purge(heap) >= 9 << 20); /* through the purger */
    assert_int_equal(stats(pool).kept_bytes, 0);
    assert_true(before - live(heap) >= 9 << 20);
    memset(b[7]->data, 1, 3 << 20); /* the rented one is still there */
    give(pool, b[7]);
    assert_int_equal(stats(pool).trimmed_bytes, 21 << 20);
    finish(pool, heap);
}

/* Small blocks have more around them than they hold. */
static void trim_gives_all_it_can(void **state) {
    (void)state;
    enum { COUNT = 4000 };
    static struct memopt_buffer *b[COUNT];
    struct memopt_heap *heap = open_heap(0);
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++) {
        struct memopt_buffers *pool = create(heap, debug);
        for (int i = 0; i < COUNT; i++)
            b[i] = rent(pool, i % 2 ? 64 : 4096);
        for (int i = 0; i < COUNT; i++)
            give(pool, b[i]);
        uint64_t keep = stats(pool).kept_bytes / 4;
        memopt_buffers_trim(pool, keep);
        assert_true(stats(pool).kept_bytes <= keep);
        memopt_buffers_trim(pool, 0);
        assert_int_equal(stats(pool).kept_bytes, 0);
        assert_int_equal(stats(pool).held_bytes, 0);
        assert_int_equal(memopt_buffers_destroy(pool, &error), 0);
    }
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

/* Pools are blocks of their heap, and end with it. */
static void a_pool_ends_with_its_heap(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(0);
    give(create(heap, MEMOPT_DEBUG_OFF), NULL);
    create(heap, MEMOPT_DEBUG_OFF);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
    heap = open_heap(0);
    struct memopt_buffers *pool = create(heap, MEMOPT_DEBUG_OFF);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(600);
        _exit(memopt_buffers_destroy(pool, NULL) == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    finish(pool, heap);
}

/* At the heap's limit kept buffers of other sizes make room. */
static void the_limit_holds(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(16 << 20);
    struct memopt_buffers *pool = create(heap, MEMOPT_DEBUG_OFF);
    struct memopt_buffer *b[3];
    size_t too_much = 9 << 20;
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 3; i++)
            b[i] = rent(pool, 4 << 20);
        struct memopt_buffer *none = NULL;
        assert_int_equal(memopt_buffers_rent(pool, MEMOPT_DTYPE_U8, 1, &too_much, &none, &error),
                         -ENOMEM);
        for (int i = 0; i < 3; i++)
            give(pool, b[i]);
        b[0] = rent(pool, too_much); /* only if the 12 MiB are given back */
        give(pool, b[0]);
        assert_true(live(heap) <= 16 << 20);
    }
    assert_true(stats(pool).trims >= 10);
    finish(pool, heap);
}

/* ------------------------------------------------------------------ misuse */

static void returned_twice(void **state) {
    (void)state;
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++) {
        struct memopt_heap *heap = open_heap(0);
        struct memopt_buffers *pool = create(heap, debug), *other = create(heap, debug);
        struct memopt_buffer *a = rent(pool, 5000);
        assert_int_equal(memopt_buffers_return(other, a, &error), -EINVAL);
        assert_non_null(strstr(error.message, "is not from this pool"));
        assert_int_equal(misused.kind, MEMOPT_MISUSE_FOREIGN);
        give(pool, a);
        assert_int_equal(memopt_buffers_return(pool, a, &error), -EALREADY);
        assert_non_null(strstr(error.message, "was returned before"));
        assert_int_equal(misused.kind, MEMOPT_MISUSE_TWICE);
        assert_int_equal(stats(pool).misuses, 1);
        assert_int_equal(stats(pool).returns, 1);
        if (debug == MEMOPT_DEBUG_ON) { /* though somebody has rented the memory again */
            struct memopt_buffer *b = rent(pool, 5000);
            assert_ptr_not_equal(a, b);
            assert_int_equal(memopt_buffers_return(pool, a, &error), -EALREADY);
            struct memopt_buffer wild = {.data = &wild};
            assert_int_equal(memopt_buffers_return(pool, &wild, &error), -EINVAL);
            assert_non_null(b->data);
            give(pool, b);
        }
        assert_int_equal(memopt_buffers_destroy(other, &error), 0);
        finish(pool, heap);
    }
}

/* Under a checker it is the checker that finds these: tests/test_pool_checkers.sh. */
static void written_where_it_must_not(void **state) {
    (void)state;
    if (has_checker())
        skip();
    static const size_t sizes[] = {1, 63, 64, 100, 4095, 4096, 5000, 100000, 3 << 20};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct memopt_heap *heap = open_heap(0);
        struct memopt_buffers *pool = create(heap, MEMOPT_DEBUG_ON);
        struct memopt_buffer *b = rent(pool, sizes[i]);
        unsigned char *data = b->data;
        data[sizes[i]] = 1;
        assert_int_equal(memopt_buffers_return(pool, b, &error), -EOVERFLOW);
        assert_int_equal(misused.kind, MEMOPT_MISUSE_OVERFLOW);
        assert_int_equal(misused.offset, (ptrdiff_t)sizes[i]);
        assert_non_null(strstr(error.message, "written past its end"));
        b = rent(pool, sizes[i]); /* and it was returned all the same */
        data = b->data;
        data[-1] = 1;
        assert_int_equal(memopt_buffers_return(pool, b, &error), -EOVERFLOW);
        assert_int_equal(misused.kind, MEMOPT_MISUSE_UNDERFLOW);
        assert_int_equal(misused.offset, -1);
        data[sizes[i] - 1] = 1;
        assert_int_equal(misused.count, 2);
        b = rent(pool, sizes[i]);
        assert_int_equal(misused.count, 3);
        assert_int_equal(misused.kind, MEMOPT_MISUSE_AFTER_RETURN);
        assert_int_equal(misused.offset, (ptrdiff_t)sizes[i] - 1);
        data = b->data;
        give(pool, b);
        data[0] = 1;
        assert_true(memopt_buffers_trim(pool, 0) > 0);
        assert_int_equal(misused.count, 4);
        assert_string_equal(misused.pool, "buffers");
        finish(pool, heap);
    }
}

/* ------------------------------------------------------------------ scopes */

static int step(struct memopt_buffers *pool, unsigned fail_at) {
    memopt_auto_buffer_scope struct memopt_buffer_scope scope = MEMOPT_BUFFER_SCOPE_INIT(pool);
    for (unsigned i = 0; i < 10; i++) {
        struct memopt_buffer *b;
        size_t n = i == fail_at ? 0 : 1000 * (i + 1);
        if (memopt_buffer_scope_rent(&scope, MEMOPT_DTYPE_F32, 1, &n, &b, &error) < 0)
            return -1;
        if (i == 3) /* by hand, from the middle, too */
            give(pool, b);
    }
    return 0;
}

static void scopes(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(0);
    struct memopt_buffers *pool = create(heap, MEMOPT_DEBUG_ON);
    for (unsigned fail_at = 0; fail_at <= 10; fail_at++) {
        assert_int_equal(step(pool, fail_at), fail_at < 10 ? -1 : 0);
        assert_int_equal(stats(pool).rented_buffers, 0);
    }
    struct memopt_buffer_scope scope = MEMOPT_BUFFER_SCOPE_INIT(pool);
    struct memopt_buffer *b[3];
    size_t n = 10;
    for (int i = 0; i < 3; i++)
        assert_int_equal(memopt_buffer_scope_rent(&scope, MEMOPT_DTYPE_F32, 1, &n, &b[i], &error),
                         0);
    assert_int_equal(memopt_buffer_scope_keep(&scope, b[1], &error), 0);
    assert_int_equal(memopt_buffer_scope_keep(&scope, b[1], &error), -ENOENT);
    assert_int_equal(memopt_buffer_scope_keep(&scope, NULL, &error), -EINVAL);
    assert_int_equal(memopt_buffer_scope_end(&scope, &error), 0);
    assert_null(b[0]->data);
    assert_non_null(b[1]->data);
    assert_null(b[2]->data);
    assert_int_equal(memopt_buffer_scope_keep(&scope, b[2], &error), -ENOENT);
    assert_int_equal(memopt_buffer_scope_rent(&scope, MEMOPT_DTYPE_F32, 1, &n, &b[0], &error), 0);
    if (!has_checker()) {
        ((float *)b[0]->data)[10] = 1;
        assert_int_equal(memopt_buffer_scope_end(&scope, &error), -EOVERFLOW);
    }
    assert_int_equal(memopt_buffer_scope_end(&scope, &error), 0);
    give(pool, b[1]);
    finish(pool, heap);
}

/* ---------------------------------------------------------------- threads */

enum { THREADS = 4, ROUNDS = 2000, SLOTS = 64 };
static struct memopt_buffers *common;
static _Atomic(struct memopt_buffer *) exchange[SLOTS];
static _Atomic int wrong;

/* Rents, marks, and swaps with a slot: what comes out was rented by anybody. */
static void *churn(void *argument) {
    unsigned seed = (unsigned)(uintptr_t)argument * 7919 + 1;
    for (int i = 0; i < ROUNDS; i++) {
        seed = seed * 1103515245 + 12345;
        size_t bytes = (size_t)64 << ((seed >> 16) % 13);
        struct memopt_buffer *b;
        if (memopt_buffers_rent(common, MEMOPT_DTYPE_U8, 1, &bytes, &b, NULL) < 0) {
            wrong++;
            continue;
        }
        memset(b->data, (int)(bytes % 251), bytes);
        b = atomic_exchange(&exchange[(seed >> 8) % SLOTS], b);
        if (b == NULL)
            continue;
        const unsigned char *data = b->data;
        for (size_t k = 0; k < b->bytes; k += 61)
            wrong += data[k] != b->bytes % 251;
        wrong += memopt_buffers_return(common, b, NULL) != 0;
        if (i % 500 == 499)
            memopt_buffers_trim(common, 0);
    }
    return NULL;
}

static void threads(void **state) {
    (void)state;
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++) {
        struct memopt_heap *heap = open_heap(0);
        common = create(heap, debug);
        pthread_t thread[THREADS];
        for (uintptr_t i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&thread[i], NULL, churn, (void *)i), 0);
        for (int i = 0; i < THREADS; i++)
            pthread_join(thread[i], NULL);
        for (int i = 0; i < SLOTS; i++)
            give(common, atomic_exchange(&exchange[i], NULL));
        assert_int_equal(wrong, 0);
        struct memopt_buffers_statistics s = stats(common);
        assert_int_equal(s.rents, THREADS * ROUNDS);
        assert_int_equal(s.returns, THREADS * ROUNDS);
        assert_int_equal(s.rented_bytes, 0);
        assert_int_equal(misused.count, 0);
        finish(common, heap);
    }
}

static void *hold(void *argument) {
    struct memopt_buffer *b = rent(argument, 200000);
    give(argument, b);
    return NULL;
}

/* What lies in the cache of another thread is found before a rent fails. */
static void caches_of_others(void **state) {
    (void)state;
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_heap *heap = NULL;
    options.allocator = "libc";
    options.limit = 2 << 20;
    options.on_limit = "fail"; /* or the purge would empty the caches */
    assert_int_equal(memopt_heap_open("pools", &options, &heap, &error), 0);
    struct memopt_buffers *pool = create(heap, MEMOPT_DEBUG_OFF);
    struct memopt_buffer *mine = rent(pool, 100);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, hold, pool), 0);
    pthread_join(thread, NULL);
    memopt_heap_set_limit(heap, 1); /* not one byte more */
    uint64_t fresh = stats(pool).fresh;
    struct memopt_buffer *other = rent(pool, 200000);
    assert_int_equal(stats(pool).fresh, fresh);
    give(pool, mine);
    give(pool, other);
    finish(pool, heap);
}

static void *spin(void *argument) {
    _Atomic int *stop = argument;
    while (!atomic_load(stop)) {
        struct memopt_buffer *b = rent(common, 4096);
        give(common, b);
        memopt_buffers_trim(common, UINT64_MAX); /* under the locks most of the time */
    }
    return NULL;
}

/* The child of a busy parent finds a pool that works. */
static void fork_while_busy(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(0);
    common = create(heap, MEMOPT_DEBUG_OFF);
    _Atomic int stop = 0;
    pthread_t thread[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, spin, &stop), 0);
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(600);
            struct memopt_buffer *b[3];
            for (int k = 0; k < 3; k++)
                b[k] = rent(common, k == 2 ? 1 << 20 : 4096);
            for (int k = 0; k < 3; k++)
                give(common, b[k]);
            memopt_buffers_trim(common, 0);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    stop = 1;
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    finish(common, heap);
}

/* ----------------------------------------------------------------- faults */

static void use_under_faults(struct memopt_heap *heap) {
    struct memopt_buffers_options options = MEMOPT_BUFFERS_OPTIONS_INIT;
    struct memopt_buffers *const untouched = (struct memopt_buffers *)&error, *pool = untouched;
    options.heap = heap;
    options.debug = MEMOPT_DEBUG_ON;
    int code = memopt_buffers_create(&options, &pool, &error);
    if (code < 0) {
        assert_int_equal(code, -ENOMEM);
        assert_ptr_equal(pool, untouched);
        return;
    }
    enum { N = 80 };
    struct memopt_buffer *b[N];
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < N; i++) {
            size_t bytes = 64 + i * i * 100;
            b[i] = NULL;
            code = memopt_buffers_rent(pool, MEMOPT_DTYPE_U8, 1, &bytes, &b[i], &error);
            if (code < 0) {
                assert_int_equal(code, -ENOMEM);
                assert_null(b[i]);
            } else {
                memset(b[i]->data, 1, bytes);
            }
        }
        for (size_t i = 0; i < N; i++)
            assert_int_equal(memopt_buffers_return(pool, b[i], &error), 0);
    }
    assert_int_equal(memopt_buffers_destroy(pool, &error), 0);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    assert_true(each_fault(use_under_faults) >= 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_has_its_shape),
        cmocka_unit_test(sizes_and_alignment),
        cmocka_unit_test(bad_input_changes_nothing),
        cmocka_unit_test(a_step_takes_nothing_from_the_heap),
        cmocka_unit_test(trim_purge_and_peak),
        cmocka_unit_test(trim_gives_all_it_can),
        cmocka_unit_test(a_pool_ends_with_its_heap),
        cmocka_unit_test(the_limit_holds),
        cmocka_unit_test(returned_twice),
        cmocka_unit_test(written_where_it_must_not),
        cmocka_unit_test(scopes),
        cmocka_unit_test(threads),
        cmocka_unit_test(caches_of_others),
        cmocka_unit_test(fork_while_busy),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, pool_setup, NULL);
}
