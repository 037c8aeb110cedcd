/*
 * test_schedule.c - memopt/schedule.h against PyTorch's schedulers
 * (tests/data/schedule-golden.txt, made by scripts/schedule-golden.py), and
 * numbers that make no sense.
 */
#include <memopt/memopt.h>

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct memopt_error error;

/* As scripts/schedule-golden.py has them. */
static struct memopt_schedule named(const char *name) {
    struct memopt_schedule s = MEMOPT_SCHEDULE_INIT;
    s.lr = 0.1;
    if (strncmp(name, "warmup-", 7) == 0) {
        s.warmup = 10;
        s.warmup_from = 0.1;
    }
    if (strstr(name, "constant") != NULL)
        return s;
    if (strcmp(name, "linear") == 0) {
        s.kind = MEMOPT_SCHEDULE_LINEAR;
        s.steps = 5;
    } else if (strcmp(name, "linear-down") == 0) {
        s.kind = MEMOPT_SCHEDULE_LINEAR;
        s.lr = 0.5;
        s.steps = 17;
        s.from = 1;
        s.to = 0.1;
    } else if (strcmp(name, "step") == 0) {
        s.kind = MEMOPT_SCHEDULE_STEP;
        s.steps = 30;
    } else if (strcmp(name, "step-half") == 0) {
        s.kind = MEMOPT_SCHEDULE_STEP;
        s.lr = 3e-4;
        s.steps = 7;
        s.gamma = 0.5;
    } else if (strcmp(name, "cosine") == 0) {
        s.kind = MEMOPT_SCHEDULE_COSINE;
        s.steps = 50;
    } else if (strcmp(name, "cosine-minimum") == 0) {
        s.kind = MEMOPT_SCHEDULE_COSINE;
        s.lr = 0.3;
        s.steps = 37;
        s.minimum = 0.01;
    } else if (strncmp(name, "one-cycle", 9) == 0) {
        s.kind = MEMOPT_SCHEDULE_ONE_CYCLE;
        s.steps = 100;
        if (strcmp(name, "one-cycle-odd") == 0) {
            s.lr = 0.02;
            s.steps = 37;
            s.rise = 0.25;
            s.start_divisor = 10;
            s.end_divisor = 100;
        } else if (strcmp(name, "one-cycle-straight") == 0) {
            s.steps = 60;
            s.straight = 1;
        } else if (strcmp(name, "one-cycle-three") == 0) {
            s.steps = 80;
            s.three_phases = 1;
        }
    } else if (strcmp(name, "warmup-step") == 0) {
        s.kind = MEMOPT_SCHEDULE_STEP;
        s.steps = 20;
        s.gamma = 0.5;
        s.warmup = 8;
        s.warmup_from = 0.25;
    } else if (strcmp(name, "warmup-cosine") == 0) {
        s.kind = MEMOPT_SCHEDULE_COSINE;
        s.lr = 3e-4;
        s.steps = 50;
        s.minimum = 1e-5;
        s.warmup_from = 0.01;
    } else {
        fail_msg("no case '%s'", name);
    }
    return s;
}

static double rate_of(const struct memopt_schedule *schedule, uint64_t step) {
    double rate = -1;
    if (memopt_schedule_rate(schedule, step, &rate, &error) < 0)
        fail_msg("%s", error.message);
    return rate;
}

static void as_pytorch(void **state) {
    (void)state;
    char path[4096], name[64], value[64];
    unsigned long long step;
    int lines = 0;
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof(path), "%s/tests/data/schedule-golden.txt", top != NULL ? top : "..");
    FILE *f = fopen(path, "r");
    if (f == NULL)
        fail_msg("%s: %s", path, strerror(errno));
    while (fscanf(f, "%63s %llu %63s", name, &step, value) == 3) {
        struct memopt_schedule schedule = named(name);
        double want = strtod(value, NULL), rate = rate_of(&schedule, step);
        /* theirs are computed from one step to the next, and round at each */
        if (!(fabs(rate - want) <= 1e-12 * want + 1e-15 * schedule.lr))
            fail_msg("%s, step %llu: %.17g, expected %.17g", name, step, rate, want);
        lines++;
    }
    fclose(f);
    assert_int_equal(lines, 694);
}

static void ends(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double end;
    } cases[] = {{"linear", 0.1},          {"linear-down", 0.05},         {"cosine", 0},
                 {"cosine-minimum", 0.01}, {"one-cycle", 0.1 / 25 / 1e4}, {"constant", 0.1},
                 {"warmup-cosine", 1e-5}};
    static const uint64_t steps[] = {100, 1000, 1ull << 53, UINT64_MAX};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t k = 0; k < 4; k++) {
            struct memopt_schedule schedule = named(cases[i].name);
            assert_true(fabs(rate_of(&schedule, steps[k]) - cases[i].end) < 1e-15);
        }
    struct memopt_schedule schedule = named("step");
    assert_true(rate_of(&schedule, UINT64_MAX) == 0);
}

/* Phases without a length, and a single step. */
static void short_cycles(void **state) {
    (void)state;
    static const double rises[] = {0, 0.01, 0.1, 0.5, 1};
    for (uint64_t steps = 1; steps <= 12; steps++)
        for (size_t r = 0; r < 5; r++)
            for (int three = 0; three < 2; three++) {
                struct memopt_schedule s = named("one-cycle");
                s.steps = steps;
                s.rise = three ? rises[r] / 2 : rises[r];
                s.three_phases = three;
                for (uint64_t step = 0; step <= steps; step++) {
                    double rate = rate_of(&s, step);
                    assert_true(rate >= s.lr / s.start_divisor / s.end_divisor * 0.999999 &&
                                rate <= s.lr);
                }
            }
}

static void bad_numbers(void **state) {
    (void)state;
    static const double wrong[] = {-1, (double)NAN, (double)INFINITY, -(double)INFINITY};
    static const struct {
        const char *name, *field;
        size_t offset;
    } fields[] = {
#define FIELD(NAME, FIELD) {NAME, #FIELD, offsetof(struct memopt_schedule, FIELD)}
        FIELD("constant", lr),
        FIELD("step", gamma),
        FIELD("cosine", minimum),
        FIELD("linear", from),
        FIELD("linear", to),
        FIELD("one-cycle", rise),
        FIELD("one-cycle", start_divisor),
        FIELD("one-cycle", end_divisor),
        FIELD("warmup-constant", warmup_from),
    };
    double rate = 7;
    for (size_t f = 0; f < sizeof(fields) / sizeof(fields[0]); f++)
        for (size_t w = 0; w < 4; w++) {
            struct memopt_schedule s = named(fields[f].name);
            char says[64];
            memcpy((char *)&s + fields[f].offset, &wrong[w], sizeof(double));
            assert_int_equal(memopt_schedule_rate(&s, 0, &rate, &error), -EINVAL);
            snprintf(says, sizeof(says), "schedule: '%s' is ", fields[f].field);
            assert_int_equal(strncmp(error.message, says, strlen(says)), 0);
        }
    struct memopt_schedule s = named("cosine");
    s.minimum = 0.2;
    assert_int_equal(memopt_schedule_rate(&s, 0, &rate, &error), -EINVAL);
    assert_string_equal(error.message, "schedule: 'minimum' is 0.2; expected 0 to 0.1");
    s = named("cosine");
    s.steps = 0;
    assert_int_equal(memopt_schedule_rate(&s, 0, &rate, &error), -EINVAL);
    assert_string_equal(error.message, "schedule: 'steps' is 0; expected 1 to 2^53");
    s.steps = (1ull << 53) + 1;
    assert_int_equal(memopt_schedule_rate(&s, 0, &rate, &error), -EINVAL);
    s = named("warmup-constant");
    s.warmup = UINT64_MAX;
    assert_int_equal(memopt_schedule_rate(&s, 0, &rate, &error), -EINVAL);
    s = named("one-cycle-three");
    s.rise = 0.6;
    assert_int_equal(memopt_schedule_rate(&s, 0, &rate, &error), -EINVAL);
    for (int kind = 0; kind <= 6; kind += 6) {
        s = named("constant");
        s.kind = kind;
        assert_int_equal(memopt_schedule_rate(&s, 0, &rate, &error), -EINVAL);
    }
    s = named("constant");
    s.size = sizeof(s) + 8;
    assert_int_equal(memopt_schedule_rate(&s, 0, &rate, &error), -EINVAL);
    assert_int_equal(memopt_schedule_rate(NULL, 0, &rate, &error), -EINVAL);
    s.size = sizeof(s);
    assert_int_equal(memopt_schedule_rate(&s, 0, NULL, &error), -EINVAL);
    assert_true(rate == 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_pytorch),
        cmocka_unit_test(ends),
        cmocka_unit_test(short_cycles),
        cmocka_unit_test(bad_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
