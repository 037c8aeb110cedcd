/* test_contest.c - medians, spreads and when a winner may be named:
 * core/launch/contest.h. */
#include "core/launch/contest.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void near(double a, double b, double tolerance) {
    if (!(fabs(a - b) <= tolerance))
        fail_msg("%.12g is not %.12g", a, b);
}

static void test_medians(void **state) {
    (void)state;
    static const struct {
        double values[6];
        size_t count;
        double median, spread;
    } cases[] = {
        {{7}, 1, 7, 0},
        {{3, 1}, 2, 2, 1},
        {{5, 1, 3}, 3, 3, 2},
        {{9, 1, 2, 4}, 4, 3, 1.5},
        {{1, 1, 1, 1, 100}, 5, 1, 0},
        {{10, 12, 11, 30, 9}, 5, 11, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double before[6];
        memcpy(before, cases[i].values, sizeof(before));
        near(mo_median(cases[i].values, cases[i].count), cases[i].median, 0);
        near(mo_spread(cases[i].values, cases[i].count), cases[i].spread, 0);
        assert_memory_equal(before, cases[i].values, sizeof(before));
    }
    assert_true(isnan(mo_median(NULL, 0)));
    assert_true(isnan(mo_spread(NULL, 0)));
}

/* Against the tables of the Mann-Whitney distribution and by symmetry. */
static void test_chance(void **state) {
    (void)state;
    static const double low[] = {1, 2, 3, 4, 5}, high[] = {6, 7, 8, 9, 10};
    near(mo_chance(low, 3, high, 3), 1.0 / 20, 1e-12);
    near(mo_chance(low, 5, high, 5), 1.0 / 252, 1e-12);
    near(mo_chance(high, 5, low, 5), 1, 1e-12);
    near(mo_chance(low, 2, high, 4), 1.0 / 15, 1e-12);
    /* U = 4 of 5 and 5: the last one below 5 %; 5: the first one above */
    static const double four[] = {1, 2, 3, 4, 9.5};
    static const double five[] = {1, 2, 3, 6.5, 9.5};
    near(mo_chance(four, 5, high, 5), 12.0 / 252, 1e-12);
    near(mo_chance(five, 5, high, 5), 19.0 / 252, 1e-12);
    /* equal values are no evidence */
    assert_true(mo_chance(low, 5, low, 5) > 0.5);
    assert_true(mo_chance(low, 0, high, 5) == 1);
    /* where the exact way ends, the approximation goes on */
    double a[40], b[40];
    for (size_t i = 0; i < 40; i++) {
        a[i] = (double)((i * 37) % 40);
        b[i] = a[i] + 6;
    }
    near(mo_chance(a, 20, b, 20), mo_chance(a, 20, b, 21), 0.05);
    assert_true(mo_chance(a, 40, b, 40) < 0.05 && mo_chance(b, 40, a, 40) > 0.95);
    near(mo_chance(a, 40, a, 40), 0.5, 0.01);
}

static void test_better(void **state) {
    (void)state;
    static const double base[] = {100, 101, 102, 103, 104};
    static const struct {
        const char *name;
        double values[5];
        size_t count;
        int better;
    } cases[] = {
        {"clearly", {80, 81, 82, 83, 84}, 5, 1},
        {"clearly, but once only", {80}, 1, 0},
        {"less than one percent", {101, 101.1, 101.2, 99, 99.5}, 5, 0},
        {"half a percent, without noise", {99.5, 99.6, 99.7, 99.8, 99.9}, 5, 1},
        {"the same", {100, 101, 102, 103, 104}, 5, 0},
        {"lower, but scattered", {60, 60, 99, 130, 140}, 5, 0},
        {"worse", {110, 111, 112, 113, 114}, 5, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (mo_is_better(cases[i].values, cases[i].count, base, 5) != cases[i].better)
            fail_msg("%s", cases[i].name);
    /* no noise at all, but too small a difference to name */
    static const double same[] = {200, 200, 200, 200, 200}, close[] = {199, 199, 199, 199, 199};
    static const double far[] = {197, 197, 197, 197, 197};
    assert_false(mo_is_better(close, 5, same, 5));
    assert_true(mo_is_better(far, 5, same, 5));
    static const double zero[] = {0, 0, 0, 0, 0};
    assert_false(mo_is_better(zero, 5, zero, 5));
}

static void test_contest(void **state) {
    (void)state;
    static const double slow[] = {100, 101, 102, 103, 104}, fast[] = {80, 81, 82, 83, 84};
    static const double also_fast[] = {80.5, 79, 82.5, 84, 83}, fastest[] = {60, 61, 62, 63, 64};
    struct mo_contestant all[] = {{slow, 5, 0}, {fast, 5, 0}, {also_fast, 5, 0}, {fastest, 5, 0}};
    assert_int_equal(mo_contest(all, 4), 3);
    assert_true(all[3].leads && !all[0].leads && !all[1].leads);
    assert_int_equal(mo_contest(all, 3), -1);
    assert_true(!all[0].leads && all[1].leads && all[2].leads);
    assert_int_equal(mo_contest(all, 2), 1);
    /* one that is behind by steady runs, but before another that leads by its median */
    static const double steady[] = {85, 85, 86, 86, 86}, scattered[] = {79, 80, 90, 110, 120};
    struct mo_contestant mixed[] = {{slow, 5, 0}, {scattered, 5, 0}, {steady, 5, 0}, {fast, 5, 0}};
    assert_true(mo_is_better(fast, 5, steady, 5) && !mo_is_better(fast, 5, scattered, 5));
    assert_int_equal(mo_contest(mixed, 4), -1);
    assert_true(!mixed[0].leads && mixed[1].leads && mixed[2].leads && mixed[3].leads);
    /* one that takes no part neither wins nor stands in the way */
    all[3].count = 0;
    all[2].count = 0;
    assert_int_equal(mo_contest(all, 4), 1);
    assert_false(all[3].leads);
    /* one alone wins nothing */
    all[0].count = 0;
    assert_int_equal(mo_contest(all, 4), -1);
    assert_int_equal(mo_contest(all, 0), -1);
}

static uint64_t seed = 42;

static double noise(void) { /* sum of uniforms with now and then an outlier, as timings are */
    double sum = 0;
    for (int i = 0; i < 6; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        sum += (double)(seed >> 40) / (1 << 24);
    }
    return sum > 4.2 ? sum * 3 : sum;
}

/* Five equal candidates, five runs each: how often is one of them called the
 * winner although nothing is different? */
static void test_false_winners(void **state) {
    (void)state;
    enum { TRIALS = 4000 };
    int named = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        double values[5][5];
        struct mo_contestant contestants[5];
        for (size_t i = 0; i < 5; i++) {
            for (size_t run = 0; run < 5; run++)
                values[i][run] = 100 + 5 * noise();
            contestants[i] = (struct mo_contestant){values[i], 5, 0};
        }
        named += mo_contest(contestants, 5) >= 0;
    }
    if (named > TRIALS / 20)
        fail_msg("%d of %d contests between equals had a winner", named, TRIALS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_medians),       cmocka_unit_test(test_chance),
        cmocka_unit_test(test_better),        cmocka_unit_test(test_contest),
        cmocka_unit_test(test_false_winners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
