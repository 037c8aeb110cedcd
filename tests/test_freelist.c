/*
 * test_freelist.c - the free-list allocator over the caller's region: random use
 * against a shadow, alignment, joining, what does not fit, misuse.
 */
#include "config.h"

#include "tests/pool_heap.h"

static struct memopt_error error;
static char region[256 * 1024] __attribute__((aligned(64)));

static struct memopt_freelist *open_in(void *at, size_t size, int debug) {
    struct memopt_freelist_options options = MEMOPT_FREELIST_OPTIONS_INIT;
    struct memopt_freelist *list = NULL;
    options.debug = debug;
    options.on_misuse = note_misuse;
    options.context = &misused;
    memset(&misused, 0, sizeof(misused));
    if (memopt_freelist_open(at, size, &options, &list, &error) < 0)
        fail_msg("%s", error.message);
    return list;
}

static struct memopt_freelist_statistics stats(struct memopt_freelist *list) {
    struct memopt_freelist_statistics s = MEMOPT_FREELIST_STATISTICS_INIT;
    assert_int_equal(memopt_freelist_stats(list, &s), 0);
    return s;
}

static void release(struct memopt_freelist *list, void *p) {
    if (memopt_freelist_free(list, p, &error) < 0)
        fail_msg("%s", error.message);
}

/* All is one free block again. */
static void assert_whole(struct memopt_freelist *list, uint64_t free_bytes) {
    struct memopt_freelist_statistics s = stats(list);
    assert_int_equal(s.live_blocks, 0);
    assert_int_equal(s.live_bytes, 0);
    assert_int_equal(s.free_blocks, 1);
    assert_int_equal(s.free_bytes, free_bytes);
    assert_true(s.fragmentation == 0);
    assert_int_equal(misused.count, 0);
}

enum { SLOTS = 200 };
struct shadow {
    unsigned char *p;
    size_t size;
    unsigned char mark;
};

static void check(const struct shadow *s) {
    for (size_t i = 0; i < s->size; i++)
        assert_int_equal(s->p[i], s->mark);
}

static void random_use(void **state) {
    (void)state;
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++)
        for (unsigned skew = 0; skew < 20; skew += 7) {
            struct memopt_freelist *list = open_in(region + skew, sizeof(region) - skew, debug);
            uint64_t whole = stats(list).free_bytes;
            struct shadow slots[SLOTS] = {{0}};
            unsigned seed = skew + 1;
            uint64_t live_bytes = 0, failed = 0;
            for (int i = 0; i < 20000; i++) {
                seed = seed * 1103515245 + 12345;
                struct shadow *s = &slots[(seed >> 16) % SLOTS];
                if (s->p != NULL) {
                    check(s);
                    assert_int_equal(memopt_freelist_size(list, s->p), s->size);
                    release(list, s->p);
                    live_bytes -= s->size;
                    s->p = NULL;
                    continue;
                }
                seed = seed * 1103515245 + 12345;
                size_t alignment = (size_t)1 << (seed >> 9) % 11;
                s->size = 1 + (seed >> 16) % ((seed >> 4) % 8 == 0 ? 20000 : 900);
                s->mark = (unsigned char)i;
                s->p = memopt_freelist_alloc(list, s->size, alignment);
                if (s->p == NULL) {
                    assert_int_equal(errno, ENOMEM);
                    assert_true(stats(list).largest_free < s->size + 2 * alignment + 64);
                    failed++;
                    continue;
                }
                assert_int_equal((uintptr_t)s->p % alignment, 0);
                assert_true((char *)s->p > region &&
                            (char *)s->p + s->size <= region + sizeof(region));
                memset(s->p, s->mark, s->size);
                live_bytes += s->size;
            }
            struct memopt_freelist_statistics now = stats(list);
            assert_int_equal(now.live_bytes, live_bytes);
            assert_int_equal(now.failed, failed);
            assert_true(failed > 0); /* it was full at times */
            assert_true(now.peak_bytes > sizeof(region) / 2);
            assert_true(now.fragmentation >= 0 && now.fragmentation < 1);
            for (int i = 0; i < SLOTS; i++) {
                if (slots[i].p != NULL)
                    check(&slots[i]);
                release(list, slots[i].p);
            }
            assert_whole(list, whole);
            memopt_freelist_close(list);
        }
}

/* Freed in every order, three neighbours become one block again. */
static void neighbours_are_joined(void **state) {
    (void)state;
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                    {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++) {
        struct memopt_freelist *list = open_in(region, 8192, debug);
        uint64_t whole = stats(list).free_bytes;
        for (size_t i = 0; i < 6; i++) {
            char *p[3];
            for (int k = 0; k < 3; k++)
                assert_non_null(p[k] = memopt_freelist_alloc(list, 100, 0));
            assert_int_equal(stats(list).free_blocks, 1);
            for (int k = 0; k < 3; k++)
                release(list, p[orders[i][k]]);
            assert_whole(list, whole);
        }
        uint64_t largest = stats(list).largest_free;
        void *all = memopt_freelist_alloc(list, largest, 0); /* what it says can be had */
        assert_non_null(all);
        assert_int_equal(stats(list).largest_free, 0);
        assert_null(memopt_freelist_alloc(list, 1, 0));
        release(list, all);
        assert_null(memopt_freelist_alloc(list, largest + 1, 0));
        assert_whole(list, whole);
        memopt_freelist_close(list);
    }
}

static void bad_input_changes_nothing(void **state) {
    (void)state;
    struct memopt_freelist *list = open_in(region, 8192, MEMOPT_DEBUG_OFF);
    uint64_t whole = stats(list).free_bytes;
    static const struct {
        size_t size, alignment;
        int code;
    } cases[] = {{0, 0, EINVAL},
                 {1, 3, EINVAL},
                 {1, 48, EINVAL},
                 {8192, 0, ENOMEM},
                 {SIZE_MAX, 0, ENOMEM},
                 {SIZE_MAX - 40, 64, ENOMEM},
                 {1, (size_t)1 << 63, ENOMEM},
                 {1, 1 << 14, ENOMEM}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        errno = 0;
        assert_null(memopt_freelist_alloc(list, cases[i].size, cases[i].alignment));
        assert_int_equal(errno, cases[i].code);
    }
    assert_null(memopt_freelist_alloc(NULL, 1, 0));
    assert_whole(list, whole);
    memopt_freelist_close(list);
    memopt_freelist_close(NULL);
    assert_int_equal(memopt_freelist_free(NULL, region, &error), -EINVAL);
    struct memopt_freelist *const untouched = (struct memopt_freelist *)&error;
    list = untouched;
    assert_int_equal(memopt_freelist_open(region, 1000, NULL, &list, &error), -EINVAL);
    assert_non_null(strstr(error.message, "a region of 1000 bytes"));
    assert_int_equal(memopt_freelist_open(region, 0, NULL, &list, &error), -EINVAL);
    assert_int_equal(memopt_freelist_open(region, SIZE_MAX, NULL, &list, &error), -EINVAL);
    assert_int_equal(memopt_freelist_open(NULL, 8192, NULL, &list, &error), -EINVAL);
    struct memopt_freelist_options options = MEMOPT_FREELIST_OPTIONS_INIT;
    options.size = 1;
    assert_int_equal(memopt_freelist_open(region, 8192, &options, &list, &error), -EINVAL);
    assert_ptr_equal(list, untouched);
    for (size_t size = 4096; size < 6000; size += 13) { /* small regions work */
        list = open_in(region + size % 64, size, MEMOPT_DEBUG_OFF);
        void *p = memopt_freelist_alloc(list, 1000, 16);
        assert_non_null(p);
        release(list, p);
        memopt_freelist_close(list);
    }
}

static void freed_wrongly(void **state) {
    (void)state;
    for (int debug = MEMOPT_DEBUG_ON; debug <= MEMOPT_DEBUG_OFF; debug++) {
        struct memopt_freelist *list = open_in(region, sizeof(region), debug);
        uint64_t whole = stats(list).free_bytes;
        char *a = memopt_freelist_alloc(list, 100, 0), *b = memopt_freelist_alloc(list, 100, 0);
        char *c = memopt_freelist_alloc(list, 100, 0);
        char local[64];
        char *const wrong[] = {local,     a + 1,       a + 16, region, region + sizeof(region),
                               (char *)8, (char *)list};
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
            assert_int_equal(memopt_freelist_free(list, wrong[i], &error), -EINVAL);
            assert_int_equal(misused.kind, MEMOPT_MISUSE_FOREIGN);
            assert_int_equal(memopt_freelist_size(list, wrong[i]), 0);
        }
        release(list, b);
        assert_int_equal(memopt_freelist_free(list, b, &error), -EALREADY);
        release(list, a); /* b lies inside of a larger free block now */
        assert_int_equal(memopt_freelist_free(list, b, &error), -EALREADY);
        assert_int_equal(misused.kind, MEMOPT_MISUSE_TWICE);
        char *d = memopt_freelist_alloc(list, 200, 0); /* over both */
        assert_int_equal(memopt_freelist_free(list, b, &error), -EALREADY);
        release(list, d);
        release(list, c);
        misused.count = 0;
        assert_whole(list, whole);
        memopt_freelist_close(list);
    }
}

static void written_where_it_must_not(void **state) {
    (void)state;
    if (has_checker())
        skip();
    for (size_t size = 1; size < 70; size++) {
        struct memopt_freelist *list = open_in(region, sizeof(region), MEMOPT_DEBUG_ON);
        char *p = memopt_freelist_alloc(list, size, 0);
        char *next = memopt_freelist_alloc(list, size, 0);
        p[size] = 1;
        assert_int_equal(memopt_freelist_free(list, p, &error), -EOVERFLOW);
        assert_int_equal(misused.kind, MEMOPT_MISUSE_OVERFLOW);
        assert_int_equal(misused.offset, (ptrdiff_t)size);
        next[-1] = 1;
        assert_int_equal(memopt_freelist_free(list, next, &error), -EOVERFLOW);
        assert_int_equal(misused.kind, MEMOPT_MISUSE_UNDERFLOW);
        next[0] = 1;
        assert_int_equal(stats(list).free_blocks, 1);
        assert_non_null(memopt_freelist_alloc(list, 10000, 0));
        assert_int_equal(misused.kind, MEMOPT_MISUSE_AFTER_RETURN);
        assert_int_equal(misused.count, 3);
        memopt_freelist_close(list);
    }
    /* without debug: what reaches the next block's record */
    struct memopt_freelist *list = open_in(region, sizeof(region), MEMOPT_DEBUG_OFF);
    char *p = memopt_freelist_alloc(list, 64, 0), *next = memopt_freelist_alloc(list, 64, 0);
    memset(p + 64, 0x77, 8);
    assert_int_equal(memopt_freelist_free(list, p, &error), -EOVERFLOW);
    assert_int_equal(misused.kind, MEMOPT_MISUSE_OVERFLOW);
    assert_int_equal(memopt_freelist_free(list, next, &error), -EOVERFLOW);
    assert_int_equal(stats(list).live_blocks, 2); /* neither was touched */
    memopt_freelist_close(list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_use),
        cmocka_unit_test(neighbours_are_joined),
        cmocka_unit_test(bad_input_changes_nothing),
        cmocka_unit_test(freed_wrongly),
        cmocka_unit_test(written_where_it_must_not),
    };
    return cmocka_run_group_tests(tests, pool_setup, NULL);
}
