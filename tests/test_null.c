/*
 * test_null.c - NULL in place of an object or of a result is told of, or nothing is
 * done; it does not end the program.
 */
#include "tests/object.h"

/* Functions that give a code. */
static int heap_open(void) {
    return memopt_heap_open("x", NULL, NULL, &error);
}
static int purge_hint_new(void) {
    return memopt_purge_hint_new(NULL, NULL, &error);
}
static int optimizer_create(void) {
    return memopt_optimizer_create(NULL, NULL, &error);
}
static int heap_stats(void) {
    return memopt_heap_stats(NULL, NULL);
}

static void a_result_is_needed(void **state) {
    (void)state;
    static int (*const all[])(void) = {heap_open, purge_hint_new, optimizer_create, heap_stats};
    for (size_t i = 0; i < COUNT(all); i++)
        assert_int_equal(all[i](), -EINVAL);
}

static void a_heap_is_needed(void **state) {
    (void)state;
    char block;
    void *given[] = {memopt_heap_alloc(NULL, 1), memopt_heap_calloc(NULL, 1, 1),
                     memopt_heap_aligned_alloc(NULL, 16, 1), memopt_heap_realloc(NULL, NULL, 1),
                     memopt_heap_realloc(NULL, &block, 1)};
    assert_int_equal(errno, EINVAL);
    for (size_t i = 0; i < COUNT(given); i++)
        assert_null(given[i]);
    errno = 0;
    memopt_heap_free(NULL, &block);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(memopt_heap_usable_size(NULL, &block), 0);
    memopt_heap_free(NULL, NULL);
    memopt_heap_set_limit(NULL, 1);
    memopt_heap_set_limit_callback(NULL, NULL, NULL);
    assert_int_equal(memopt_heap_purge(NULL), 0);
}

static void nothing_is_done(void **state) {
    (void)state;
    uint32_t strong = 7, weak = 7;
    memopt_ref_counts(NULL, &strong, &weak);
    assert_true(strong == 0 && weak == 0);
    memopt_buffers_reset_peak(NULL);
    assert_int_equal(memopt_buffers_trim(NULL, 0), 0);
    assert_int_equal(memopt_objects_trim(NULL), 0);
    assert_int_equal(memopt_cow_size(NULL), 0);
    assert_null(memopt_cow_read(NULL));
    assert_null(memopt_lazy_peek(NULL));
    memopt_scope_commit(NULL);
    assert_null(memopt_owned_release(NULL));
    memopt_owned_reset(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_result_is_needed),
        cmocka_unit_test(a_heap_is_needed),
        cmocka_unit_test(nothing_is_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
