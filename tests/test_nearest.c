/* test_nearest.c - lib/nearest: what is near, what is nearest. */
#include "config.h"

#include "lib/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void distances(void **state) {
    (void)state;
    static const struct {
        const char *word, *candidate;
        int distance; /* -1: it is not near */
    } cases[] = {
        {"follow", "follow", 0},
        {"FOLLOW", "follow", 0},
        {"folow", "follow", 1},   /* one is missing */
        {"folllow", "follow", 1}, /* one too many */
        {"fillow", "follow", 1},  /* one is another */
        {"ofllow", "follow", 1},  /* swapped neighbours are one mistake, not two */
        {"ofllwo", "follow", 2},
        {"alocatr", "allocator", 2},
        {"dispach", "dispatch", 1},
        {"ab", "ax", 1}, /* of two letters, one */
        {"ab", "xy", -1},
        {"a", "b", -1}, /* nothing would be left of it */
        {"", "a", -1},
        {"", "", -1},
        {"abcd", "abxy", 2},
        {"abcd", "axyz", -1},
        {"abcdef", "abcdxy", 2}, /* of six letters, a third */
        {"abcdef", "abcxyz", -1},
        {"json", "text", -1},
        {"\xc3\xa4", "\xc3\xb6", 1}, /* bytes, whatever they stand for */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mo_nearest nearest = {.word = cases[i].word};
        mo_nearest_try(&nearest, cases[i].candidate);
        int distance = nearest.best == NULL ? -1 : (int)nearest.distance;
        if (distance != cases[i].distance)
            fail_msg("'%s' and '%s': %d", cases[i].word, cases[i].candidate, distance);
        if (distance >= 0)
            assert_ptr_equal(nearest.best, cases[i].candidate);
    }
}

static void the_nearest(void **state) {
    (void)state;
    static const char *const words[] = {"purge", "shrink", "spill", "still", "skill", "fail"};
    static const struct {
        const char *word, *best;
    } cases[] = {
        {"spil", "spill"}, {"stil", "still"}, {"sxill", "spill"} /* the first of three */,
        {"fial", "fail"},  {"kill", "skill"}, {"nothing", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mo_nearest nearest = {.word = cases[i].word};
        for (size_t j = 0; j < sizeof(words) / sizeof(words[0]); j++)
            mo_nearest_try(&nearest, words[j]);
        if (cases[i].best == NULL)
            assert_null(nearest.best);
        else
            assert_string_equal(nearest.best, cases[i].best);
    }
}

static void long_words(void **state) {
    (void)state;
    static char a[5000], b[5000];
    for (size_t length = 55; length < 5000; length += length < 70 ? 1 : 1000) {
        memset(a, 'a', length);
        memset(b, 'a', length);
        a[length] = b[length] = '\0';
        a[20] = 'x';
        struct mo_nearest nearest = {.word = a};
        mo_nearest_try(&nearest, b);
        assert_ptr_equal(nearest.best, b);
        assert_int_equal(nearest.distance, 1);
        mo_nearest_try(&nearest, "b"); /* 62 mistakes or more */
        assert_ptr_equal(nearest.best, b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances),
        cmocka_unit_test(the_nearest),
        cmocka_unit_test(long_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
