/* test_samples.c - resident sizes over time: the mean by time, the size at rest, long runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/launch/samples.h"

#define NONE UINT64_MAX

/* count samples of `rss`, `apart` from one another and from the one before */
struct stretch {
    unsigned count;
    uint64_t apart, rss;
};

static const struct {
    const char *what;
    struct stretch stretches[4];
    uint64_t mean, rest;
} rows[] = {
    {"none", {{0}}, NONE, NONE},
    {"one", {{1, 10, 100}}, NONE, NONE},
    {"two: the line between them", {{1, 10, 100}, {1, 10, 200}}, 150, NONE},
    {"a size of 0 is that of a process that has ended: no sample",
     {{1, 10, 0}, {1, 10, 100}, {1, 10, 200}, {1, 10, 0}},
     150,
     NONE},
    {"two at one time", {{1, 10, 100}, {1, 0, 200}}, NONE, NONE},
    {"by time, not by number: 99 quick ones of 100, then a long stretch of 1000",
     {{100, 1, 100}, {1, 1, 1000}, {1, 9900, 1000}},
     991,
     1000},
    {"nineteen are too few for a rest", {{19, 10, 100}}, 100, NONE},
    {"twenty are enough", {{20, 10, 100}}, 100, 100},
    {"the last tenth only", {{90, 10, 900}, {11, 10, 100}}, 816, 100},
    {"a peak in the last tenth is not the rest",
     {{90, 10, 200}, {10, 10, 100}, {1, 10, 999}},
     194,
     100},
    {"more than there is room for", {{100000, 10, 500}, {10000, 10, 300}}, 482, 300},
    {"more than there is room for, as fast as at first and then slow",
     {{1000, 10, 500}, {20000, 1000, 400}, {3000, 1000, 200}},
     374,
     200},
};

static void test_rows(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mo_samples samples = {0};
        uint64_t time = 1000000;
        for (size_t s = 0; s < sizeof(rows[i].stretches) / sizeof(rows[i].stretches[0]); s++)
            for (unsigned n = 0; n < rows[i].stretches[s].count; n++)
                mo_samples_add(&samples, time += rows[i].stretches[s].apart,
                               rows[i].stretches[s].rss);
        if (mo_samples_mean(&samples) != rows[i].mean || mo_samples_rest(&samples) != rows[i].rest)
            fail_msg("%s: mean %lld, rest %lld", rows[i].what, (long long)mo_samples_mean(&samples),
                     (long long)mo_samples_rest(&samples));
        assert_true(samples.room <= MO_SAMPLES_ROOM);
        mo_samples_clear(&samples);
        assert_true(mo_samples_mean(&samples) == NONE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
