/* test_atomic.c - lib/atomic: peaks of any type, raised by several threads. */
#include "config.h"

#include "lib/atomic.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static void raised(void **state) {
    (void)state;
    _Atomic uint64_t wide = 0;
    _Atomic int64_t below = INT64_MIN;
    _Atomic uint32_t narrow = 7;
    static const struct {
        uint64_t value, peak;
    } cases[] = {{0, 0}, {5, 5}, {4, 5}, {5, 5}, {UINT64_MAX, UINT64_MAX}, {1, UINT64_MAX}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        mo_raise(&wide, cases[i].value);
        assert_true(wide == cases[i].peak);
    }
    mo_raise(&below, -3);
    assert_true(below == -3);
    mo_raise(&below, -4);
    assert_true(below == -3);
    mo_raise(&below, 1);
    assert_true(below == 1);
    int calls = 0;
    mo_raise(&narrow, (uint32_t)(6 + calls++)); /* evaluated once */
    assert_true(narrow == 7 && calls == 1);
}

enum { THREADS = 4, ROUNDS = 20000 };
static _Atomic int64_t peak;

static void *raise_it(void *number) {
    for (int64_t i = 0; i < ROUNDS; i++) {
        int64_t value = i * THREADS + (int64_t)(intptr_t)number;
        mo_raise(&peak, value);
        if (atomic_load(&peak) < value)
            return number;
    }
    return NULL;
}

static void by_threads(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, raise_it, (void *)i), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
    assert_true(peak == (int64_t)THREADS * ROUNDS - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(raised), cmocka_unit_test(by_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
