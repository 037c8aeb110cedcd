/*
 * test_objects.c - the object pool: capacity and the three policies, hooks, misuse,
 * trim, threads, fork, and the N-th allocation failing.
 */
#include "config.h"

#include "tests/pool_heap.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

static struct memopt_error error;

static struct hooks { int constructed, destructed, reset, fail_at; } hooks;

static int construct(void *context, void *object) {
    (void)context;
    if (hooks.fail_at != 0 && hooks.constructed + 1 == hooks.fail_at)
        return -EIO;
    hooks.constructed++;
    memset(object, 0x11, 40);
    return 0;
}
static void destruct(void *context, void *object) {
    (void)context;
    assert_int_equal(*(unsigned char *)object & 0x0f, 1);
    hooks.destructed++;
}
static void reset(void *context, void *object) {
    (void)context;
    memset(object, 0x21, 40);
    hooks.reset++;
}

static struct memopt_objects_options plain(struct memopt_heap *heap, size_t capacity, int policy,
                                           int debug) {
    struct memopt_objects_options options = MEMOPT_OBJECTS_OPTIONS_INIT;
    options.heap = heap;
    options.object_size = 40;
    options.capacity = capacity;
    options.policy = policy;
    options.debug = debug;
    options.on_misuse = note_misuse;
    options.context = &misused;
    memset(&misused, 0, sizeof(misused));
    memset(&hooks, 0, sizeof(hooks));
    return options;
}

static struct memopt_objects *create(const struct memopt_objects_options *options) {
    struct memopt_objects *pool = NULL;
    if (memopt_objects_create(options, &pool, &error) < 0)
        fail_msg("%s", error.message);
    return pool;
}

static struct memopt_objects_statistics stats(struct memopt_objects *pool) {
    struct memopt_objects_statistics s = MEMOPT_OBJECTS_STATISTICS_INIT;
    assert_int_equal(memopt_objects_stats(pool, &s), 0);
    return s;
}

static void give(struct memopt_objects *pool, void *object) {
    if (memopt_objects_release(pool, object, &error) < 0)
        fail_msg("%s", error.message);
}

static void finish(struct memopt_objects *pool, struct memopt_heap *heap) {
    if (memopt_objects_destroy(pool, &error) < 0)
        fail_msg("%s", error.message);
    assert_empty(heap);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

static void capacity_and_policies(void **state) {
    (void)state;
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++)
        for (int policy = MEMOPT_OBJECTS_GROW; policy <= MEMOPT_OBJECTS_FAIL; policy++)
            for (size_t capacity = 1; capacity < 200; capacity = capacity * 3 + 1) {
                struct memopt_heap *heap = open_heap(0);
                struct memopt_objects_options options = plain(heap, capacity, policy, debug);
                options.alignment = capacity % 2 == 0 ? 64 : 0;
                options.timeout = 1000;
                struct memopt_objects *pool = create(&options);
                uint64_t allocations = stats_of(heap).allocations;
                void **out = calloc(capacity + 1, sizeof(*out));
                for (int round = 0; round < 3; round++) {
                    for (size_t i = 0; i < capacity; i++) {
                        assert_non_null(out[i] = memopt_objects_acquire(pool));
                        assert_int_equal((uintptr_t)out[i] % (capacity % 2 == 0 ? 64 : 16), 0);
                        memset(out[i], (int)i, 40);
                    }
                    errno = 0;
                    if (policy != MEMOPT_OBJECTS_GROW) {
                        assert_null(memopt_objects_acquire(pool));
                        assert_int_equal(errno, policy == MEMOPT_OBJECTS_FAIL ? EAGAIN : ETIMEDOUT);
                    } else {
                        assert_non_null(out[capacity] = memopt_objects_acquire(pool));
                        give(pool, out[capacity]);
                    }
                    for (size_t i = 0; i < capacity; i++) {
                        for (int k = 0; k < 40; k++)
                            assert_int_equal(((unsigned char *)out[i])[k], i & 0xff);
                        give(pool, out[i]);
                    }
                    if (policy != MEMOPT_OBJECTS_GROW) /* the thread's magazine only */
                        assert_true(stats_of(heap).allocations <= allocations + 1);
                }
                struct memopt_objects_statistics s = stats(pool);
                assert_int_equal(s.capacity, capacity);
                assert_int_equal(s.objects,
                                 policy == MEMOPT_OBJECTS_GROW ? 2 * capacity : capacity);
                assert_int_equal(s.grown, policy == MEMOPT_OBJECTS_GROW);
                assert_int_equal(s.waits, policy == MEMOPT_OBJECTS_WAIT ? 3 : 0);
                assert_int_equal(s.failed, policy == MEMOPT_OBJECTS_GROW ? 0 : 3);
                assert_int_equal(s.out, 0);
                assert_int_equal(misused.count, 0);
                assert_int_equal(memopt_objects_trim(pool) > 0, policy == MEMOPT_OBJECTS_GROW);
                assert_int_equal(stats(pool).objects, capacity);
                free(out);
                finish(pool, heap);
            }
}

static void hooks_run(void **state) {
    (void)state;
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++) {
        struct memopt_heap *heap = open_heap(0);
        struct memopt_objects_options options = plain(heap, 3, MEMOPT_OBJECTS_GROW, debug);
        options.construct = construct;
        options.reset = reset;
        options.destruct = destruct;
        struct memopt_objects *pool = create(&options);
        assert_int_equal(hooks.constructed, 3);
        unsigned char *p[4];
        for (int i = 0; i < 4; i++) {
            p[i] = memopt_objects_acquire(pool);
            for (int k = 0; k < 40; k++)
                assert_int_equal(p[i][k], 0x11);
        }
        assert_int_equal(hooks.constructed, 6);
        give(pool, p[0]);
        assert_int_equal(hooks.reset, 1);
        unsigned char *again = memopt_objects_acquire(pool);
        assert_ptr_equal(again, p[0]);
        assert_int_equal(again[39], 0x21); /* what reset left */
        for (int i = 0; i < 4; i++)
            give(pool, p[i]);
        assert_true(memopt_objects_trim(pool) > 0);
        assert_int_equal(hooks.destructed, 3);
        hooks.fail_at = 8; /* the second object of the next slab */
        for (int i = 0; i < 3; i++)
            p[i] = memopt_objects_acquire(pool);
        assert_null(memopt_objects_acquire(pool));
        assert_int_equal(errno, EIO);
        assert_int_equal(hooks.destructed, 4); /* the first of it */
        for (int i = 0; i < 3; i++)
            give(pool, p[i]);
        assert_int_equal(misused.count, 0);
        assert_int_equal(memopt_objects_destroy(pool, &error), 0);
        assert_int_equal(hooks.constructed, hooks.destructed);
        options = plain(heap, 3, MEMOPT_OBJECTS_GROW, debug);
        options.construct = construct;
        options.destruct = destruct;
        hooks.fail_at = 3;
        struct memopt_objects *none = NULL;
        assert_int_equal(memopt_objects_create(&options, &none, &error), -EIO);
        assert_null(none);
        assert_int_equal(hooks.destructed, 2);
        assert_empty(heap);
        memopt_heap_destroy(heap, NULL);
    }
}

static void bad_input_changes_nothing(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(1 << 20);
    const struct memopt_objects_options good =
        plain(heap, 4, MEMOPT_OBJECTS_FAIL, MEMOPT_DEBUG_OFF);
    static const struct {
        size_t offset;
        uint64_t value;
        size_t width;
        int code;
        const char *text;
    } cases[] = {
#define FIELD(NAME) offsetof(struct memopt_objects_options, NAME)
        {FIELD(size), 3, 8, -EINVAL, "options of"},
        {FIELD(object_size), 0, 8, -EINVAL, "objects of 0 bytes"},
        {FIELD(object_size), SIZE_MAX, 8, -EINVAL, "objects of"},
        {FIELD(capacity), 0, 8, -EINVAL, "the capacity is 0"},
        {FIELD(capacity), SIZE_MAX / 8, 8, -ENOMEM, "can't be made"},
        {FIELD(capacity), 1 << 20, 8, -ENOMEM, "1048576 objects of 40 bytes can't be made"},
        {FIELD(alignment), 24, 8, -EINVAL, "the alignment is 24"},
        {FIELD(alignment), UINT64_C(1) << 40, 8, -EINVAL, "the alignment is"},
        {FIELD(policy), 0, 4, -EINVAL, "the policy is 0"},
        {FIELD(policy), 4, 4, -EINVAL, "the policy is 4"},
        {FIELD(debug), 9, 4, -EINVAL, "debug is 9"},
    };
    struct memopt_objects *const untouched = (struct memopt_objects *)&error, *pool;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct memopt_objects_options options = good;
        memcpy((char *)&options + cases[i].offset, &cases[i].value, cases[i].width);
        pool = untouched;
        int code = memopt_objects_create(&options, &pool, &error);
        if (code != cases[i].code || strstr(error.message, cases[i].text) == NULL)
            fail_msg("case %zu: %d, '%s'", i, code, error.message);
        assert_ptr_equal(pool, untouched);
        assert_empty(heap);
    }
    assert_int_equal(memopt_objects_create(NULL, &pool, &error), -EINVAL);
    assert_null(memopt_objects_acquire(NULL));
    assert_int_equal(memopt_objects_release(NULL, &error, &error), -EINVAL);
    pool = create(&good);
    void *p = memopt_objects_acquire(pool);
    assert_int_equal(memopt_objects_release(pool, NULL, &error), 0);
    assert_int_equal(memopt_objects_destroy(pool, &error), -EBUSY);
    assert_non_null(strstr(error.message, "1 objects are still out"));
    give(pool, p);
    finish(pool, heap);
}

static void misuse(void **state) {
    (void)state;
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++)
        for (int constructed = 0; constructed < 2; constructed++) {
            struct memopt_heap *heap = open_heap(0);
            struct memopt_objects_options options = plain(heap, 4, MEMOPT_OBJECTS_FAIL, debug);
            options.construct = constructed ? construct : NULL;
            options.reset = constructed ? reset : NULL;
            struct memopt_objects *pool = create(&options);
            unsigned char *p = memopt_objects_acquire(pool);
            give(pool, p);
            assert_int_equal(memopt_objects_release(pool, p, &error), -EALREADY);
            assert_int_equal(misused.kind, MEMOPT_MISUSE_TWICE);
            if (debug == MEMOPT_DEBUG_ON) {
                char local[128];
                assert_int_equal(memopt_objects_release(pool, local + 64, &error), -EINVAL);
                assert_int_equal(memopt_objects_release(pool, p + 16, &error), -EINVAL);
                assert_int_equal(misused.kind, MEMOPT_MISUSE_FOREIGN);
            }
            if (debug == MEMOPT_DEBUG_ON && !has_checker()) {
                p = memopt_objects_acquire(pool);
                p[40] = 1;
                assert_int_equal(memopt_objects_release(pool, p, &error), -EOVERFLOW);
                assert_int_equal(misused.kind, MEMOPT_MISUSE_OVERFLOW);
                assert_int_equal(misused.offset, 40);
                p = memopt_objects_acquire(pool);
                p[-1] = 1;
                assert_int_equal(memopt_objects_release(pool, p, &error), -EOVERFLOW);
                assert_int_equal(misused.kind, MEMOPT_MISUSE_UNDERFLOW);
                p[20] ^= 1;
                int before = misused.count;
                assert_ptr_equal(memopt_objects_acquire(pool), p);
                assert_int_equal(misused.count, before + 1);
                assert_int_equal(misused.kind, MEMOPT_MISUSE_AFTER_RETURN);
                give(pool, p);
                assert_int_equal(misused.count, before + 1);
            }
            finish(pool, heap);
        }
}

/* ----------------------------------------------------------------- threads */

enum { THREADS = 4, ROUNDS = 3000 };
static struct memopt_objects *common;
static _Atomic int wrong, most;
static _Atomic int out_now;

static void *churn(void *argument) {
    unsigned seed = (unsigned)(uintptr_t)argument + 1;
    void *mine[3] = {NULL};
    for (int i = 0; i < ROUNDS; i++) {
        seed = seed * 1103515245 + 12345;
        void **p = &mine[(seed >> 16) % 3];
        if (*p == NULL) {
            *p = memopt_objects_acquire(common);
            if (*p == NULL) {
                wrong += errno != EAGAIN;
                continue;
            }
            int now = atomic_fetch_add(&out_now, 1) + 1;
            for (int m = most; now > m && !atomic_compare_exchange_weak(&most, &m, now);)
                ;
            memset(*p, (int)(uintptr_t)argument, 40);
        } else {
            for (int k = 0; k < 40; k++)
                wrong += ((unsigned char *)*p)[k] != (uintptr_t)argument;
            atomic_fetch_sub(&out_now, 1);
            wrong += memopt_objects_release(common, *p, NULL) != 0;
            *p = NULL;
        }
        if (i % 1000 == 999)
            memopt_objects_trim(common);
    }
    for (int i = 0; i < 3; i++)
        if (mine[i] != NULL) {
            atomic_fetch_sub(&out_now, 1);
            wrong += memopt_objects_release(common, mine[i], NULL) != 0;
        }
    return NULL;
}

static void run_threads(void *(*body)(void *)) {
    pthread_t thread[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, body, (void *)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
}

static void threads(void **state) {
    (void)state;
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++)
        for (int policy = MEMOPT_OBJECTS_GROW; policy <= MEMOPT_OBJECTS_FAIL; policy += 2) {
            struct memopt_heap *heap = open_heap(0);
            struct memopt_objects_options options = plain(heap, 7, policy, debug);
            common = create(&options);
            most = 0;
            run_threads(churn);
            assert_int_equal(wrong, 0);
            assert_int_equal(out_now, 0);
            if (policy == MEMOPT_OBJECTS_FAIL)
                assert_true(most <= 7);
            assert_int_equal(stats(common).out, 0);
            finish(common, heap);
        }
}

/* Two objects, four threads: each gets its turn, whoever's magazine they lie in. */
static void *take_turns(void *argument) {
    (void)argument;
    for (int i = 0; i < ROUNDS; i++) {
        int *p = memopt_objects_acquire(common);
        wrong += p == NULL;
        if (p != NULL) {
            wrong += atomic_fetch_add(&out_now, 1) >= 2;
            *p = i;
            atomic_fetch_sub(&out_now, 1);
            wrong += memopt_objects_release(common, p, NULL) != 0;
        }
    }
    return NULL;
}

static void waiting(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(0);
    struct memopt_objects_options options = plain(heap, 2, MEMOPT_OBJECTS_WAIT, MEMOPT_DEBUG_OFF);
    common = create(&options);
    run_threads(take_turns);
    assert_int_equal(wrong, 0);
    struct memopt_objects_statistics s = stats(common);
    assert_int_equal(s.acquires, THREADS * ROUNDS);
    assert_int_equal(s.out, 0);
    assert_true(s.peak <= 2);
    finish(common, heap);
}

static void *wait_once(void *argument) {
    (void)argument;
    return memopt_objects_acquire(common);
}

/* One waits, the release is for it, not for the releaser's own magazine. */
static void a_release_wakes(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(0);
    struct memopt_objects_options options = plain(heap, 1, MEMOPT_OBJECTS_WAIT, MEMOPT_DEBUG_OFF);
    common = create(&options);
    void *p = memopt_objects_acquire(common), *got = NULL;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wait_once, NULL), 0);
    while (stats(common).waits == 0) /* counted with the lock that it waits with */
        sched_yield();
    give(common, p);
    pthread_join(thread, &got);
    assert_ptr_equal(got, p);
    give(common, p);
    finish(common, heap);
}

static void *spin(void *argument) {
    _Atomic int *stop = argument;
    while (!atomic_load(stop)) {
        give(common, memopt_objects_acquire(common));
        memopt_objects_trim(common); /* under the locks most of the time */
    }
    return NULL;
}

static void fork_while_busy(void **state) {
    (void)state;
    if (RUNNING_ON_VALGRIND)
        skip(); /* in the child it finds what the other threads had out lost, which it is */
    struct memopt_heap *heap = open_heap(0);
    struct memopt_objects_options options = plain(heap, 8, MEMOPT_OBJECTS_WAIT, MEMOPT_DEBUG_OFF);
    common = create(&options);
    _Atomic int stop = 0;
    pthread_t thread[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, spin, &stop), 0);
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(600);
            void *p[4]; /* all but what the others may have had */
            for (int k = 0; k < 4; k++)
                p[k] = memopt_objects_acquire(common);
            for (int k = 0; k < 4; k++)
                give(common, p[k]);
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

static void use_under_faults(struct memopt_heap *heap) {
    struct memopt_objects_options options = plain(heap, 2, MEMOPT_OBJECTS_GROW, MEMOPT_DEBUG_ON);
    struct memopt_objects *pool = NULL;
    options.construct = construct;
    options.destruct = destruct;
    int code = memopt_objects_create(&options, &pool, &error);
    if (code < 0) {
        assert_int_equal(code, -ENOMEM);
        assert_null(pool);
        assert_int_equal(hooks.constructed, hooks.destructed);
        return;
    }
    void *p[40];
    for (int i = 0; i < 40; i++) {
        p[i] = memopt_objects_acquire(pool);
        assert_true(p[i] != NULL || errno == ENOMEM);
    }
    for (int i = 0; i < 40; i++)
        give(pool, p[i]);
    assert_int_equal(memopt_objects_destroy(pool, &error), 0);
    assert_int_equal(hooks.constructed, hooks.destructed);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    assert_true(each_fault(use_under_faults) >= 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(capacity_and_policies),
        cmocka_unit_test(hooks_run),
        cmocka_unit_test(bad_input_changes_nothing),
        cmocka_unit_test(misuse),
        cmocka_unit_test(threads),
        cmocka_unit_test(waiting),
        cmocka_unit_test(a_release_wakes),
        cmocka_unit_test(fork_while_busy),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, pool_setup, NULL);
}
