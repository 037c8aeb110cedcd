/*
 * test_optim_golden.c - every optimizer that PyTorch has, against its values in
 * tests/data/optim-golden.txt (scripts/optim-golden.py): within 1e-6 relative
 * after 20 steps, on odd sizes, and on memory that is aligned to nothing but the
 * type.
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
enum { TENSORS = 4, STEPS = 20, LARGEST = 1031, WORDS = 193 };
static const size_t sizes[TENSORS] = {1, 7, 257, LARGEST};

static float data[TENSORS][LARGEST + 16], grad[TENSORS][LARGEST + 16];

static struct memopt_optimizer *create(const char *name, const char *settings, size_t shift) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    struct memopt_optimizer *optimizer = NULL;
    options.name = name;
    options.settings = settings;
    if (memopt_optimizer_create(&options, &optimizer, &error) < 0)
        fail_msg("%s %s: %s", name, settings, error.message);
    for (uint32_t t = 0; t < TENSORS; t++) {
        char tensor[16];
        snprintf(tensor, sizeof(tensor), "t%u", t);
        struct memopt_param param = MEMOPT_PARAM_INIT;
        param.name = tensor;
        param.data = data[t] + shift;
        param.grad = grad[t] + (shift ^ 1);
        param.count = sizes[t];
        fill_first(param.data, t, sizes[t]);
        assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), 0);
    }
    return optimizer;
}

/* Returns the largest relative difference. */
static double compare(const char *name, const char *settings, const uint32_t *words, size_t shift) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_optimizer *optimizer = create(name, settings, shift);
    for (uint32_t step = 1; step <= STEPS; step++) {
        for (uint32_t t = 0; t < TENSORS; t++)
            fill_grad(grad[t] + (shift ^ 1), step, t, sizes[t]);
        if (memopt_optimizer_step(optimizer, NULL, &error) < 0)
            fail_msg("%s %s: %s", name, settings, error.message);
    }
    memopt_optimizer_destroy(optimizer);
    double worst = 0;
    for (size_t t = 0, word = 0; t < TENSORS; t++)
        for (size_t i = 0; i<sizes[t]; i += sizes[t]> 64 ? 7 : 1) {
            float expected;
            memcpy(&expected, &words[word++], sizeof(expected));
            double difference =
                fabs((double)data[t][shift + i] - (double)expected) / fabs((double)expected);
            if (!(difference <= worst))
                worst = difference;
        }
    return worst;
}

static void golden(void **state) {
    (void)state;
    char path[4096], line[512];
    snprintf(path, sizeof(path), "%s/tests/data/optim-golden.txt", getenv("top_srcdir"));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char name[32] = "", settings[256] = "";
    uint32_t words[WORDS];
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
            assert_true(count < WORDS);
            words[count++] = (uint32_t)strtoul(word, NULL, 16);
        }
        for (size_t shift = 0; count == WORDS && shift < 4; shift++) {
            double worst = compare(name, settings, words, shift);
            if (shift == 0)
                printf("%-9s %-70s %.1e\n", name, settings, worst);
            if (!(worst <= TOLERANCE))
                fail_msg("%s %s: %g from PyTorch's, relative", name, settings, worst);
            cases += shift == 0;
        }
    }
    fclose(file);
    assert_true(cases >= 26);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),
    };
    setenv("top_srcdir", ".", 0);
    setenv("MEMOPT_CONF", "/dev/null", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
