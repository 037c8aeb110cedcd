/*
 * test_workspace.c - the pre-allocated step context: plans against their invariants
 * and bounds, lifetimes, bad input, misuse, and the N-th allocation failing.
 */
#include "config.h"

#include "tests/pool_heap.h"

static struct memopt_error error;

static struct memopt_workspace *create(struct memopt_heap *heap,
                                       const struct memopt_workspace_tensor *tensors, size_t count,
                                       int debug) {
    struct memopt_workspace_options options = MEMOPT_WORKSPACE_OPTIONS_INIT;
    struct memopt_workspace *space = NULL;
    options.heap = heap;
    options.debug = debug;
    options.on_misuse = note_misuse;
    options.context = &misused;
    memset(&misused, 0, sizeof(misused));
    if (memopt_workspace_create(tensors, count, &options, &space, &error) < 0)
        fail_msg("%s", error.message);
    return space;
}

static struct memopt_workspace_statistics stats(const struct memopt_workspace *space) {
    struct memopt_workspace_statistics s = MEMOPT_WORKSPACE_STATISTICS_INIT;
    assert_int_equal(memopt_workspace_stats(space, &s), 0);
    return s;
}

static void ok(int code) {
    if (code < 0)
        fail_msg("%s", error.message);
}

/* Runs a step and gives each tensor a value of its own at each operation: two that
 * overlap while alive would show. */
static void run_step(struct memopt_workspace *space, const struct memopt_workspace_tensor *tensors,
                     size_t count, unsigned ops) {
    ok(memopt_workspace_begin(space, &error));
    for (unsigned op = 0; op < ops; op++) {
        ok(memopt_workspace_op(space, op, &error));
        for (size_t i = 0; i < count; i++) {
            unsigned char *p = memopt_workspace_get(space, i);
            assert_int_equal(p != NULL, tensors[i].first <= op && op <= tensors[i].last);
            if (p == NULL)
                continue;
            size_t alignment = tensors[i].alignment < 64 ? 64 : tensors[i].alignment;
            assert_int_equal((uintptr_t)p % alignment, 0);
            if (tensors[i].first == op)
                memset(p, (int)(i * 7 + 1), tensors[i].bytes);
            for (size_t k = 0; k < tensors[i].bytes; k += 13)
                assert_int_equal(p[k], (i * 7 + 1) & 0xff);
        }
    }
    ok(memopt_workspace_end(space, &error));
}

/* A chain of layers, forwards and backwards: what training looks like. */
static size_t chain(struct memopt_workspace_tensor *tensors, unsigned layers, size_t bytes) {
    size_t n = 0;
    for (unsigned i = 0; i < layers; i++) {
        tensors[n++] = (struct memopt_workspace_tensor){NULL, bytes * (1 + i % 3), 0, i,
                                                        2 * layers - 1 - i}; /* activation */
        tensors[n++] = (struct memopt_workspace_tensor){
            NULL, bytes * (1 + i % 3), 0, 2 * layers - 1 - i, 2 * layers - i};     /* gradient */
        tensors[n++] = (struct memopt_workspace_tensor){NULL, bytes / 2, 0, i, i}; /* scratch */
    }
    return n;
}

static void plans_are_small(void **state) {
    (void)state;
    static const struct {
        struct memopt_workspace_tensor tensors[5];
        size_t count, planned, bound;
    } cases[] = {
        /* one; two at once; two after the other; a hole that one fits; reuse in turn */
        {{{"a", 100, 0, 0, 0}}, 1, 128, 128},
        {{{"a", 64, 0, 0, 1}, {"b", 128, 0, 1, 2}}, 2, 192, 192},
        {{{"a", 64, 0, 0, 1}, {"b", 128, 0, 2, 3}}, 2, 128, 128},
        {{{"a", 640, 0, 0, 1}, {"b", 64, 0, 0, 4}, {"c", 320, 0, 2, 3}, {"d", 320, 0, 2, 4}},
         4,
         704,
         704},
        {{{"a", 64, 0, 0, 1}, {"b", 64, 0, 1, 2}, {"c", 64, 0, 2, 3}, {"d", 64, 0, 3, 4}},
         4,
         128,
         128},
    };
    struct memopt_heap *heap = open_heap(0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct memopt_workspace *space =
            create(heap, cases[i].tensors, cases[i].count, MEMOPT_DEBUG_OFF);
        assert_int_equal(stats(space).planned, cases[i].planned);
        assert_int_equal(stats(space).bound, cases[i].bound);
        memopt_workspace_destroy(space);
    }
    static struct memopt_workspace_tensor tensors[300];
    size_t count = chain(tensors, 50, 4096);
    struct memopt_workspace *space = create(heap, tensors, count, MEMOPT_DEBUG_OFF);
    struct memopt_workspace_statistics s = stats(space);
    assert_int_equal(s.tensors, 150);
    assert_int_equal(s.operations, 101);
    assert_true(s.planned >= s.bound);
    assert_true((double)s.planned <= 1.05 * (double)s.bound);
    assert_true(s.sum > s.planned);
    run_step(space, tensors, count, 101);
    memopt_workspace_destroy(space);
    assert_empty(heap);
    memopt_heap_destroy(heap, NULL);
}

static void random_plans_hold(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(0);
    unsigned seed = 1;
    uint64_t planned = 0, bound = 0;
    for (int round = 0; round < 60; round++) {
        static struct memopt_workspace_tensor tensors[60];
        size_t count = 1 + (size_t)round;
        for (size_t i = 0; i < count; i++) {
            seed = seed * 1103515245 + 12345;
            unsigned first = (seed >> 16) % 20, length = (seed >> 8) % 6;
            tensors[i] = (struct memopt_workspace_tensor){NULL, 1 + (seed >> 12) % 3000,
                                                          (size_t)1 << (seed >> 20) % 13, first,
                                                          first + length};
        }
        struct memopt_workspace *space =
            create(heap, tensors, count, round % 2 ? MEMOPT_DEBUG_ON : MEMOPT_DEBUG_OFF);
        struct memopt_workspace_statistics s = stats(space);
        assert_true(s.bound <= s.planned);
        planned += s.planned;
        bound += s.bound;
        for (size_t i = 0; i < count; i++)
            for (size_t k = 0; k < i; k++) {
                size_t a, b, a_bytes, b_bytes;
                assert_int_equal(memopt_workspace_place(space, i, &a, &a_bytes), 0);
                assert_int_equal(memopt_workspace_place(space, k, &b, &b_bytes), 0);
                assert_true(a + a_bytes <= s.planned);
                if (tensors[i].first <= tensors[k].last && tensors[k].first <= tensors[i].last)
                    assert_true(a + a_bytes <= b || b + b_bytes <= a);
            }
        uint64_t allocations = stats_of(heap).allocations;
        for (int i = 0; i < 3; i++)
            run_step(space, tensors, count, (unsigned)s.operations);
        assert_int_equal(stats_of(heap).allocations, allocations);
        assert_int_equal(stats(space).steps, 3);
        assert_int_equal(misused.count, 0);
        memopt_workspace_destroy(space);
    }
    /* neither order by itself reaches this: by size 990912, by breadth 1024576 */
    assert_int_equal(bound, 853376);
    assert_true(planned <= 972480);
    assert_empty(heap);
    memopt_heap_destroy(heap, NULL);
}

static void names(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(0);
    const struct memopt_workspace_tensor tensors[] = {{"w", 1, 0, 0, 0},
                                                      {"b", 1, 0, 0, 0},
                                                      {NULL, 1, 0, 0, 0},
                                                      {"x", 1, 0, 0, 0},
                                                      {"a", 1, 0, 0, 0}};
    struct memopt_workspace *space = create(heap, tensors, 5, MEMOPT_DEBUG_OFF);
    assert_int_equal(memopt_workspace_find(space, "w"), 0);
    assert_int_equal(memopt_workspace_find(space, "b"), 1);
    assert_int_equal(memopt_workspace_find(space, "x"), 3);
    assert_int_equal(memopt_workspace_find(space, "a"), 4);
    assert_int_equal(memopt_workspace_find(space, "c"), -ENOENT);
    assert_int_equal(memopt_workspace_find(space, NULL), -ENOENT);
    memopt_workspace_destroy(space);
    memopt_workspace_destroy(NULL);
    memopt_heap_destroy(heap, NULL);
}

static void bad_input_changes_nothing(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(1 << 20);
    struct memopt_workspace_options options = MEMOPT_WORKSPACE_OPTIONS_INIT;
    options.heap = heap;
    options.debug = MEMOPT_DEBUG_OFF;
    struct memopt_workspace *const untouched = (struct memopt_workspace *)&error, *space;
    static const struct {
        struct memopt_workspace_tensor tensors[2];
        int code;
        const char *text;
    } cases[] = {
        {{{"a", 0, 0, 0, 0}, {"b", 1, 0, 0, 0}}, -EINVAL, "tensor 0 'a': it has no bytes"},
        {{{"a", 1, 0, 0, 0}, {"b", 1, 3, 0, 0}}, -EINVAL, "tensor 1 'b': its alignment"},
        {{{"a", 1, 4 << 20, 0, 0}, {"b", 1, 0, 0, 0}}, -EINVAL, "tensor 0 'a': its alignment"},
        {{{"a", 1, 0, 2, 1}, {"b", 1, 0, 0, 0}}, -EINVAL, "its last operation is before its first"},
        {{{"a", 1, 0, 0, 1 << 20}, {"b", 1, 0, 0, 0}}, -EINVAL, "its last operation is above"},
        {{{"a", 1, 0, 0, 0}, {"a", 1, 0, 0, 0}}, -EEXIST, "tensors 0 and 1 are both named 'a'"},
        {{{"a", SIZE_MAX, 0, 0, 0}, {"b", 1, 0, 0, 0}}, -EOVERFLOW, "more than memory"},
        {{{"a", SIZE_MAX / 4, 0, 0, 0}, {"b", SIZE_MAX / 4 - 100, 0, 0, 0}},
         -ENOMEM,
         "has no memory for 92233"},
        {{{"a", 1 << 21, 0, 0, 0}, {"b", 1, 0, 0, 0}},
         -ENOMEM,
         "heap 'pools' has no memory for 2097"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        space = untouched;
        int code = memopt_workspace_create(cases[i].tensors, 2, &options, &space, &error);
        if (code != cases[i].code || strstr(error.message, cases[i].text) == NULL)
            fail_msg("case %zu: %d, '%s'", i, code, error.message);
        assert_ptr_equal(space, untouched);
        assert_empty(heap);
    }
    const struct memopt_workspace_tensor good[] = {{"a", 1, 0, 0, 0}, {"b", 1, 0, 2, 3}};
    assert_int_equal(memopt_workspace_create(good, 0, &options, &space, &error), -EINVAL);
    assert_int_equal(memopt_workspace_create(NULL, 1, &options, &space, &error), -EINVAL);
    assert_int_equal(memopt_workspace_create(good, 2, &options, NULL, &error), -EINVAL);
    options.size--;
    assert_int_equal(memopt_workspace_create(good, 2, &options, &space, &error), -EINVAL);

    space = create(heap, good, 2, MEMOPT_DEBUG_OFF);
    assert_null(memopt_workspace_get(space, 0)); /* no step */
    assert_int_equal(errno, EINVAL);
    assert_int_equal(memopt_workspace_op(space, 0, &error), -EINVAL);
    assert_int_equal(memopt_workspace_end(space, &error), -EINVAL);
    ok(memopt_workspace_begin(space, &error));
    assert_int_equal(memopt_workspace_begin(space, &error), -EBUSY);
    assert_null(memopt_workspace_get(space, 0)); /* no operation */
    ok(memopt_workspace_op(space, 0, &error));
    assert_non_null(memopt_workspace_get(space, 0));
    assert_null(memopt_workspace_get(space, 2));
    assert_null(memopt_workspace_get(space, SIZE_MAX));
    ok(memopt_workspace_op(space, 2, &error)); /* one is passed over */
    assert_null(memopt_workspace_get(space, 0));
    assert_non_null(memopt_workspace_get(space, 1));
    assert_int_equal(memopt_workspace_op(space, 1, &error), -EINVAL);
    assert_non_null(strstr(error.message, "operation 1: 2 to 3 were expected"));
    assert_int_equal(memopt_workspace_op(space, 4, &error), -EINVAL);
    assert_non_null(memopt_workspace_get(space, 1));
    ok(memopt_workspace_op(space, 2, &error));
    ok(memopt_workspace_end(space, &error)); /* before the last operation */
    assert_null(memopt_workspace_get(space, 1));
    size_t at;
    assert_int_equal(memopt_workspace_place(space, 2, &at, &at), -EINVAL);
    memopt_workspace_destroy(space);
    assert_empty(heap);
    memopt_heap_destroy(heap, NULL);
}

static void written_past_the_end(void **state) {
    (void)state;
    if (has_checker())
        skip();
    struct memopt_heap *heap = open_heap(0);
    const struct memopt_workspace_tensor tensors[] = {
        {"a", 100, 0, 0, 0}, {"b", 128, 0, 0, 1}, {"c", 1000, 0, 0, 2}};
    struct memopt_workspace *space = create(heap, tensors, 3, MEMOPT_DEBUG_ON);
    for (size_t i = 0; i < 3; i++) {
        ok(memopt_workspace_begin(space, &error));
        ok(memopt_workspace_op(space, 0, &error));
        char *p = memopt_workspace_get(space, i);
        p[tensors[i].bytes] = 1;
        int code = memopt_workspace_op(space, 1, &error);
        assert_int_equal(code, i == 0 ? -EOVERFLOW : 0);
        code = memopt_workspace_op(space, 2, &error);
        assert_int_equal(code, i == 1 ? -EOVERFLOW : 0);
        code = memopt_workspace_end(space, &error);
        assert_int_equal(code, i == 2 ? -EOVERFLOW : 0);
        assert_int_equal(misused.kind, MEMOPT_MISUSE_OVERFLOW);
        assert_int_equal(misused.offset, (ptrdiff_t)tensors[i].bytes);
        assert_int_equal(misused.count, i + 1);
    }
    run_step(space, tensors, 3, 3);
    memopt_workspace_destroy(space);
    /* a step that ends early: what was never alive is not looked at */
    const struct memopt_workspace_tensor late[] = {{"a", 100, 0, 0, 0}, {"b", 300, 0, 2, 3}};
    space = create(heap, late, 2, MEMOPT_DEBUG_ON);
    ok(memopt_workspace_begin(space, &error));
    ok(memopt_workspace_op(space, 0, &error));
    ok(memopt_workspace_end(space, &error));
    memopt_workspace_destroy(space);
    memopt_heap_destroy(heap, NULL);
}

static void use_under_faults(struct memopt_heap *heap) {
    static struct memopt_workspace_tensor tensors[30];
    size_t count = chain(tensors, 10, 1000);
    struct memopt_workspace_options options = MEMOPT_WORKSPACE_OPTIONS_INIT;
    struct memopt_workspace *space = NULL;
    options.heap = heap;
    int code = memopt_workspace_create(tensors, count, &options, &space, &error);
    if (code < 0) {
        assert_int_equal(code, -ENOMEM);
        assert_null(space);
        return;
    }
    run_step(space, tensors, count, 21); /* cannot fail: it allocates nothing */
    memopt_workspace_destroy(space);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    assert_int_equal(each_fault(use_under_faults), 2 * 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_are_small),
        cmocka_unit_test(random_plans_hold),
        cmocka_unit_test(names),
        cmocka_unit_test(bad_input_changes_nothing),
        cmocka_unit_test(written_past_the_end),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, pool_setup, NULL);
}
