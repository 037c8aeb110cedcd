/*
 * test_optim_golden.c - every optimizer that PyTorch has, against its values in
 * tests/data/optim-golden.txt (scripts/optim-golden.py), and those it doesn't have
 * against their papers' in optim-paper-golden.txt: within 1e-6 relative after 20
 * steps, on odd sizes, and on memory that is aligned to nothing but the type.
 */
#include "tests/optim_noise.h"

#include <memopt/memopt.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOLERANCE 1e-6
enum { TENSORS_MAX = 5, RANK_MAX = 4, STEPS = 20, LARGEST = 1031, WORDS_MAX = 256 };

static const struct table {
    const char *file, *whose;
    uint32_t tensors;
    uint64_t shapes[TENSORS_MAX][RANK_MAX]; /* up to the first 0 */
    size_t words, cases;                    /* numbers a case, and least number of cases */
} tables[] = {
    {"optim-golden.txt", "PyTorch", 4, {{1}, {7}, {257}, {LARGEST}}, 193, 26},
    {"optim-paper-golden.txt", "the paper", 5, {{1}, {7}, {257}, {13, 79}, {3, 4, 5, 6}}, 244, 10},
};

static float data[TENSORS_MAX][LARGEST + 16], grad[TENSORS_MAX][LARGEST + 16];

static uint64_t size_of(const struct table *table, uint32_t tensor) {
    uint64_t count = 1;
    for (size_t i = 0; i < RANK_MAX && table->shapes[tensor][i] != 0; i++)
        count *= table->shapes[tensor][i];
    return count;
}

static struct memopt_optimizer *create(const struct table *table, const char *name,
                                       const char *settings, size_t shift) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    struct memopt_optimizer *optimizer = NULL;
    options.name = name;
    options.settings = settings;
    if (memopt_optimizer_create(&options, &optimizer, &error) < 0)
        fail_msg("%s %s: %s", name, settings, error.message);
    for (uint32_t t = 0; t < table->tensors; t++) {
        char tensor[16];
        snprintf(tensor, sizeof(tensor), "t%u", t);
        struct memopt_param param = MEMOPT_PARAM_INIT;
        param.name = tensor;
        param.data = data[t] + shift;
        param.grad = grad[t] + (shift ^ 1);
        param.count = size_of(table, t);
        while (param.rank < RANK_MAX && table->shapes[t][param.rank] != 0) {
            param.shape[param.rank] = table->shapes[t][param.rank];
            param.rank++;
        }
        fill_first(param.data, t, size_of(table, t));
        assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), 0);
    }
    return optimizer;
}

/* Returns the largest relative difference. */
static double compare(const struct table *table, const char *name, const char *settings,
                      const uint32_t *words, size_t shift) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_optimizer *optimizer = create(table, name, settings, shift);
    for (uint32_t step = 1; step <= STEPS; step++) {
        for (uint32_t t = 0; t < table->tensors; t++)
            fill_grad(grad[t] + (shift ^ 1), step, t, size_of(table, t));
        if (memopt_optimizer_step(optimizer, NULL, &error) < 0)
            fail_msg("%s %s: %s", name, settings, error.message);
    }
    memopt_optimizer_destroy(optimizer);
    double worst = 0;
    size_t word = 0;
    for (uint32_t t = 0; t < table->tensors; t++)
        for (size_t i = 0; i<size_of(table, t); i += size_of(table, t)> 64 ? 7 : 1) {
            float expected;
            memcpy(&expected, &words[word++], sizeof(expected));
            double difference =
                fabs((double)data[t][shift + i] - (double)expected) / fabs((double)expected);
            if (!(difference <= worst))
                worst = difference;
        }
    return worst;
}

static void check_table(const struct table *table) {
    char path[4096], line[512];
    snprintf(path, sizeof(path), "%s/tests/data/%s", getenv("top_srcdir"), table->file);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char name[32] = "", settings[256] = "";
    uint32_t words[WORDS_MAX];
    size_t count = 0, cases = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (line[0] == '#')
            continue;
        if (sscanf(line, "case %31s %255[^\n]", name, settings) >= 1) {
            if (strchr(line + 5, ' ') == NULL)
                settings[0] = '\0';
            count = 0;
            continue;
        }
        for (char *word = strtok(line, " \n"); word != NULL; word = strtok(NULL, " \n")) {
            assert_true(count < WORDS_MAX);
            words[count++] = (uint32_t)strtoul(word, NULL, 16);
        }
        for (size_t shift = 0; count == table->words && shift < 4; shift++) {
            double worst = compare(table, name, settings, words, shift);
            if (shift == 0)
                printf("%-9s %-70s %.1e\n", name, settings, worst);
            if (!(worst <= TOLERANCE))
                fail_msg("%s %s: %g from %s, relative", name, settings, worst, table->whose);
            cases += shift == 0;
        }
    }
    fclose(file);
    assert_true(cases >= table->cases);
}

static void golden(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        check_table(&tables[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),
    };
    setenv("top_srcdir", ".", 0);
    setenv("MEMOPT_CONF", "/dev/null", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
