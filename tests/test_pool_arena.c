/*
 * test_pool_arena.c - arenas over a fixed region: alignment, marks, what does not
 * fit, misuse, and where the region comes from.
 */
#include "config.h"

#include "tests/pool_heap.h"

static struct memopt_error error;
static char region[64 * 1024] __attribute__((aligned(64)));

static struct memopt_arena *open_in(void *at, size_t size, int debug) {
    struct memopt_arena_options options = MEMOPT_ARENA_OPTIONS_INIT;
    struct memopt_arena *arena = NULL;
    options.debug = debug;
    options.on_misuse = note_misuse;
    options.context = &misused;
    memset(&misused, 0, sizeof(misused));
    if (memopt_arena_open(at, size, &options, &arena, &error) < 0)
        fail_msg("%s", error.message);
    return arena;
}

static struct memopt_arena_statistics stats(struct memopt_arena *arena) {
    struct memopt_arena_statistics s = MEMOPT_ARENA_STATISTICS_INIT;
    assert_int_equal(memopt_arena_stats(arena, &s), 0);
    return s;
}

/* Blocks of all sizes and alignments lie apart, in the region, and fill it. */
static void blocks(void **state) {
    (void)state;
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++)
        for (size_t skew = 0; skew < 32; skew += 5) {
            struct memopt_arena *arena = open_in(region + skew, sizeof(region) - skew, debug);
            unsigned char *before = (unsigned char *)region;
            unsigned char *p;
            size_t n = 0;
            for (;; n++) {
                size_t size = 1 + n * 37 % 500, alignment = (size_t)1 << n % 9;
                p = memopt_arena_alloc(arena, size, alignment);
                if (p == NULL)
                    break;
                assert_int_equal((uintptr_t)p % alignment, 0);
                assert_true(p >= before);
                assert_true(p + size <= (unsigned char *)region + sizeof(region));
                memset(p, (int)n, size);
                before = p + size;
            }
            assert_int_equal(errno, ENOMEM);
            assert_true(n > 150);
            struct memopt_arena_statistics s = stats(arena);
            assert_int_equal(s.blocks, n);
            assert_int_equal(s.failed, 1);
            assert_true(s.used <= s.capacity && s.used + 1024 > s.capacity);
            assert_int_equal(s.peak, s.used);
            assert_int_equal(memopt_arena_close(arena, &error), 0);
            assert_int_equal(misused.count, 0);
        }
}

static void marks_nest(void **state) {
    (void)state;
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++) {
        struct memopt_arena *arena = open_in(region, sizeof(region), debug);
        struct memopt_arena_position outer, inner, again;
        uint64_t empty = stats(arena).used;
        char *a = memopt_arena_alloc(arena, 100, 0);
        assert_int_equal(memopt_arena_mark(arena, &outer, &error), 0);
        uint64_t at_outer = stats(arena).used;
        char *b = memopt_arena_alloc(arena, 100, 0);
        assert_int_equal(memopt_arena_mark(arena, &inner, &error), 0);
        assert_non_null(memopt_arena_alloc(arena, 100, 0));
        assert_int_equal(stats(arena).marks, 2);
        assert_int_equal(memopt_arena_reset(arena, &inner, &error), 0);
        assert_int_equal(memopt_arena_reset(arena, &inner, &error), 0);
        memset(b, 2, 100);                        /* before the mark: still there */
        for (int round = 0; round < 3; round++) { /* a mark serves more than once */
            assert_int_equal(memopt_arena_reset(arena, &outer, &error), 0);
            assert_int_equal(stats(arena).used, at_outer);
            assert_int_equal(stats(arena).marks, 1);
            assert_ptr_equal(memopt_arena_alloc(arena, 100, 0), b);
        }
        assert_int_equal(memopt_arena_reset(arena, &inner, &error), -EINVAL);
        assert_non_null(strstr(error.message, "the mark is not there"));
        /* a new mark in the old one's place is another */
        assert_int_equal(memopt_arena_mark(arena, &again, &error), 0);
        assert_int_equal(again.offset, inner.offset);
        assert_int_equal(memopt_arena_reset(arena, &inner, &error), -EINVAL);
        assert_int_equal(stats(arena).marks, 2);
        static char elsewhere[4096];
        struct memopt_arena *other = open_in(elsewhere, sizeof(elsewhere), debug);
        assert_int_equal(memopt_arena_mark(other, &inner, &error), 0); /* of the same number */
        assert_int_equal(inner.serial, outer.serial);
        assert_int_equal(memopt_arena_reset(arena, &inner, &error), -EINVAL);
        assert_int_equal(memopt_arena_close(other, &error), 0);
        memset(a, 1, 100);
        assert_int_equal(memopt_arena_reset(arena, NULL, &error), 0);
        assert_int_equal(stats(arena).used, empty);
        assert_int_equal(stats(arena).marks, 0);
        assert_int_equal(memopt_arena_reset(arena, &outer, &error), -EINVAL);
        assert_ptr_equal(memopt_arena_alloc(arena, 100, 0), a);
        assert_int_equal(memopt_arena_close(arena, &error), 0);
        assert_int_equal(misused.count, 0);
    }
}

static void bad_input_changes_nothing(void **state) {
    (void)state;
    struct memopt_arena *arena = open_in(region, 4096, MEMOPT_DEBUG_OFF);
    uint64_t used = stats(arena).used;
    static const struct {
        size_t size, alignment;
        int code;
    } cases[] = {
        {0, 0, EINVAL},
        {1, 3, EINVAL},
        {4096, 0, ENOMEM},
        {SIZE_MAX, 0, ENOMEM},
        {1, 1 << 30, ENOMEM},
        {1, (size_t)1 << 63, ENOMEM},
        {SIZE_MAX - 100, 64, ENOMEM},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        errno = 0;
        assert_null(memopt_arena_alloc(arena, cases[i].size, cases[i].alignment));
        assert_int_equal(errno, cases[i].code);
    }
    assert_null(memopt_arena_calloc(arena, SIZE_MAX / 2, 3));
    assert_null(memopt_arena_alloc(NULL, 1, 0));
    assert_int_equal(stats(arena).used, used);
    struct memopt_arena_position mark, made_up = {0, 0};
    assert_int_equal(memopt_arena_mark(arena, NULL, &error), -EINVAL);
    assert_int_equal(memopt_arena_mark(NULL, &mark, &error), -EINVAL);
    assert_int_equal(memopt_arena_reset(NULL, NULL, &error), -EINVAL);
    assert_int_equal(memopt_arena_reset(arena, &made_up, &error), -EINVAL);
    char *p = memopt_arena_calloc(arena, 10, 10);
    for (int i = 0; i < 100; i++)
        assert_int_equal(p[i], 0);
    int count = 0;
    while (memopt_arena_mark(arena, &mark, &error) == 0)
        count++;
    assert_true(count > 100);
    assert_int_equal(error.code, -ENOMEM);
    assert_int_equal(memopt_arena_reset(arena, &mark, &error), 0); /* the last that was made */
    assert_int_equal(memopt_arena_close(arena, &error), 0);
    assert_int_equal(memopt_arena_close(NULL, &error), 0);

    struct memopt_arena *const untouched = (struct memopt_arena *)&error;
    struct memopt_arena_options options = MEMOPT_ARENA_OPTIONS_INIT;
    arena = untouched;
    assert_int_equal(memopt_arena_open(region, 1000, NULL, &arena, &error), -EINVAL);
    assert_non_null(strstr(error.message, "a region of 1000 bytes"));
    assert_int_equal(memopt_arena_open(region, SIZE_MAX, NULL, &arena, &error), -EINVAL);
    assert_int_equal(memopt_arena_open(region, 4096, NULL, NULL, &error), -EINVAL);
    options.size = 1;
    assert_int_equal(memopt_arena_open(region, 4096, &options, &arena, &error), -EINVAL);
    options.size = sizeof(options);
    options.debug = -1;
    assert_int_equal(memopt_arena_open(region, 4096, &options, &arena, &error), -EINVAL);
    assert_ptr_equal(arena, untouched);
    struct memopt_arena_statistics s = {.size = 3};
    assert_int_equal(memopt_arena_stats(NULL, &s), -EINVAL);
}

static void written_where_it_must_not(void **state) {
    (void)state;
    if (has_checker())
        skip();
    for (size_t size = 1; size < 40; size++) {
        struct memopt_arena *arena = open_in(region, sizeof(region), MEMOPT_DEBUG_ON);
        struct memopt_arena_position mark;
        memopt_arena_mark(arena, &mark, NULL);
        char *p = memopt_arena_alloc(arena, size, 1);
        assert_non_null(memopt_arena_alloc(arena, 10, 0));
        p[size] = 1;
        assert_int_equal(memopt_arena_reset(arena, &mark, &error), -EOVERFLOW);
        assert_int_equal(misused.kind, MEMOPT_MISUSE_OVERFLOW);
        assert_int_equal(misused.offset, (ptrdiff_t)size);
        p = memopt_arena_alloc(arena, size, 64);
        p[-1] = 1;
        assert_int_equal(memopt_arena_reset(arena, &mark, &error), -EOVERFLOW);
        assert_int_equal(misused.kind, MEMOPT_MISUSE_UNDERFLOW);
        assert_int_equal(misused.count, 2);
        p[size - 1] = 1; /* after the reset */
        assert_ptr_equal(memopt_arena_alloc(arena, size, 64), p);
        assert_int_equal(misused.kind, MEMOPT_MISUSE_AFTER_RETURN);
        assert_int_equal(misused.count, 3);
        p[size] = 0;
        assert_int_equal(memopt_arena_close(arena, &error), -EOVERFLOW);
        assert_string_equal(misused.pool, "arena");
    }
}

static void a_region_of_its_own(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap(1 << 20);
    struct memopt_arena_options options = MEMOPT_ARENA_OPTIONS_INIT;
    struct memopt_arena *arena = NULL;
    options.heap = heap;
    assert_int_equal(memopt_arena_open(NULL, 2 << 20, &options, &arena, &error), -ENOMEM);
    assert_non_null(strstr(error.message, "heap 'pools' has no memory for a region of 2097152"));
    assert_null(arena);
    assert_int_equal(memopt_arena_open(NULL, 100000, &options, &arena, &error), 0);
    assert_int_equal(stats_of(heap).live_blocks, 1);
    uint64_t allocations = stats_of(heap).allocations;
    for (int step = 0; step < 100; step++) {
        char *p = memopt_arena_alloc(arena, 50000, 64);
        memset(p, 1, 50000);
        assert_int_equal(memopt_arena_reset(arena, NULL, &error), 0);
    }
    assert_int_equal(stats_of(heap).allocations, allocations);
    assert_int_equal(memopt_arena_close(arena, &error), 0);
    assert_empty(heap);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

static void open_under_faults(struct memopt_heap *heap) {
    struct memopt_arena_options options = MEMOPT_ARENA_OPTIONS_INIT;
    struct memopt_arena *arena = NULL;
    options.heap = heap;
    int code = memopt_arena_open(NULL, 100000, &options, &arena, &error);
    assert_true(code == 0 || (code == -ENOMEM && arena == NULL));
    assert_int_equal(memopt_arena_close(arena, &error), 0);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    assert_int_equal(each_fault(open_under_faults), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks),
        cmocka_unit_test(marks_nest),
        cmocka_unit_test(bad_input_changes_nothing),
        cmocka_unit_test(written_where_it_must_not),
        cmocka_unit_test(a_region_of_its_own),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, pool_setup, NULL);
}
