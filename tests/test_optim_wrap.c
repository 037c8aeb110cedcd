/*
 * test_optim_wrap.c - Lookahead and SAM around every optimizer, and the optimizers
 * that look at whole tensors: the same bits on any number of threads.
 *
 * The wrapped optimizer is held against one without, whose parameters the test moves
 * itself by the papers' formulas in scalar fp32: the same bits.
 */
#include "tests/optim_rig.h"

#include <errno.h>
#include <math.h>
#include <unistd.h>

static const struct {
    const char *name, *settings;
} methods[] = {
    {"sgd", "lr=0.01 momentum=0.9"},
    {"adam", "lr=0.01"},
    {"adamw", "lr=0.01"},
    {"amsgrad", "lr=0.01"},
    {"adagrad", "lr=0.01"},
    {"rmsprop", "lr=0.01"},
    {"adadelta", ""},
    {"adamax", "lr=0.01"},
    {"nadam", "lr=0.01"},
    {"radam", "lr=0.01"},
    {"lion", "lr=0.01"},
    {"lamb", "lr=0.01"},
    {"lars", "lr=1 trust=0.01"},
    {"adafactor", "beta1=0.9"},
};
enum { METHODS = sizeof(methods) / sizeof(methods[0]) };

static const char *with(size_t method, const char *more) {
    static char text[256];
    snprintf(text, sizeof(text), "%s %s", methods[method].settings, more);
    return text;
}

/* ---------------------------------------------------------------- Lookahead */

static void lookahead(void **state) {
    (void)state;
    for (size_t m = 0; m < METHODS; m++) {
        struct rig wrapped, plain;
        float *slow[RIG_TENSORS];
        rig_open(&wrapped, methods[m].name, with(m, "lookahead=3 lookahead_alpha=0.25"),
                 MEMOPT_DTYPE_F32);
        rig_open(&plain, methods[m].name, methods[m].settings, MEMOPT_DTYPE_F32);
        for (size_t t = 0; t < RIG_TENSORS; t++) {
            slow[t] = malloc(rig_bytes(&plain, t));
            assert_non_null(slow[t]);
            memcpy(slow[t], plain.data[t], rig_bytes(&plain, t));
        }
        for (uint32_t step = 1; step <= 10; step++) {
            rig_step(&wrapped, step);
            rig_step(&plain, step);
            for (size_t t = 0; step % 3 == 0 && t < RIG_TENSORS; t++)
                for (size_t i = 0; i < plain.count[t]; i++) {
                    float *p = rig_f32(&plain, t) + i;
                    *p = slow[t][i] += 0.25f * (*p - slow[t][i]);
                }
            rig_equal(&wrapped, &plain, methods[m].name);
        }
        for (size_t t = 0; t < RIG_TENSORS; t++)
            free(slow[t]);
        rig_close(&wrapped);
        rig_close(&plain);
    }
}

/* Alpha 1 goes all the way: nothing changes, whatever the types. */
static void lookahead_of_16_bits(void **state) {
    static const int dtypes[] = {MEMOPT_DTYPE_BF16, MEMOPT_DTYPE_F16};
    static const char *const roundings[] = {"master", "stochastic", "nearest"};
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        struct rig wrapped, plain;
        char settings[128];
        snprintf(settings, sizeof(settings), "lr=0.01 rounding=%s", roundings[i % 3]);
        rig_open(&plain, "adamw", settings, dtypes[i / 3]);
        strcat(settings, " lookahead=2 lookahead_alpha=1");
        rig_open(&wrapped, "adamw", settings, dtypes[i / 3]);
        for (uint32_t step = 1; step <= 6; step++) {
            rig_step(&wrapped, step);
            rig_step(&plain, step);
            rig_equal(&wrapped, &plain, settings);
        }
        rig_close(&wrapped);
        rig_close(&plain);
    }
}

/* ---------------------------------------------------------------------- SAM */

static double perturb(struct rig *rig) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    double norm = -1;
    if (memopt_optimizer_perturb(rig->optimizer, &norm, &error) < 0)
        fail_msg("%s: %s", memopt_optimizer_name(rig->optimizer), error.message);
    return norm;
}

static double norm_of(const struct rig *rig, int adaptive) {
    double sum = 0;
    for (size_t t = 0; t < RIG_TENSORS; t++)
        for (size_t i = 0; i < rig->count[t]; i++) {
            double x = (double)rig->grad[t][i];
            x *= adaptive ? (double)rig_f32(rig, t)[i] : 1;
            sum += x * x;
        }
    return sqrt(sum);
}

static void sam_of(size_t m, int adaptive) {
    struct rig wrapped, plain;
    rig_open(&wrapped, methods[m].name, with(m, adaptive ? "sam=0.5 sam_adaptive=yes" : "sam=0.05"),
             MEMOPT_DTYPE_F32);
    rig_open(&plain, methods[m].name, methods[m].settings, MEMOPT_DTYPE_F32);
    for (uint32_t step = 1; step <= 8; step++) {
        rig_grads(&wrapped, 100 + step);
        rig_grads(&plain, 100 + step);
        double expected = norm_of(&plain, adaptive), norm = perturb(&wrapped);
        assert_true(fabs(norm - expected) < 1e-12 * expected);
        float by = (float)((adaptive ? 0.5 : 0.05) / (norm + 1e-12));
        for (size_t t = 0; t < RIG_TENSORS; t++)
            for (size_t i = 0; i < plain.count[t]; i++) {
                float p = rig_f32(&plain, t)[i], g = plain.grad[t][i];
                float moved = p + by * (adaptive ? p * p * g : g);
                if (memcmp(&moved, &rig_f32(&wrapped, t)[i], sizeof(moved)) != 0)
                    fail_msg("%s: %zu of tensor %zu is not where SAM goes", methods[m].name, i, t);
            }
        rig_step(&wrapped, step);
        rig_step(&plain, step);
        rig_equal(&wrapped, &plain, methods[m].name);
    }
    rig_close(&wrapped);
    rig_close(&plain);
}

static void sam(void **state) {
    (void)state;
    for (size_t m = 0; m < METHODS; m++)
        for (int adaptive = 0; adaptive < 2; adaptive++)
            sam_of(m, adaptive);
}

/* There and back: the same bits, whatever the type. */
static void restore(void **state) {
    static const int dtypes[] = {MEMOPT_DTYPE_F32, MEMOPT_DTYPE_BF16, MEMOPT_DTYPE_F16};
    struct memopt_error error = MEMOPT_ERROR_INIT;
    (void)state;
    for (size_t d = 0; d < 3; d++) {
        struct rig wrapped, plain;
        rig_open(&wrapped, "sgd", "lr=0.01 sam=20", dtypes[d]);
        rig_open(&plain, "sgd", "lr=0.01", dtypes[d]);
        rig_grads(&wrapped, 3);
        assert_int_equal(memopt_optimizer_restore(wrapped.optimizer, &error), 0);
        perturb(&wrapped);
        assert_memory_not_equal(wrapped.data[2], plain.data[2], rig_bytes(&plain, 2));
        assert_int_equal(memopt_optimizer_restore(wrapped.optimizer, &error), 0);
        rig_equal(&wrapped, &plain, "restored");
        for (uint32_t step = 1; step < 5; step++) {
            rig_grads(&wrapped, step + 50);
            perturb(&wrapped);
            rig_step(&wrapped, step);
            rig_step(&plain, step);
            rig_equal(&wrapped, &plain, "stepped");
        }
        rig_close(&wrapped);
        rig_close(&plain);
    }
}

static void sam_refuses(void **state) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct rig rig, untouched;
    double norm = 0;
    (void)state;
    rig_open(&untouched, "adamw", "", MEMOPT_DTYPE_F32);
    rig_grads(&untouched, 1);
    assert_int_equal(memopt_optimizer_perturb(untouched.optimizer, NULL, &error), -EINVAL);
    assert_non_null(strstr(error.message, "sam"));
    assert_int_equal(memopt_optimizer_state_bytes(untouched.optimizer), 0);

    rig_open(&rig, "adamw", "sam=0.1 skip_nonfinite=yes", MEMOPT_DTYPE_F32);
    rig_grads(&rig, 1);
    rig.grad[1][3] = NAN;
    assert_int_equal(memopt_optimizer_perturb(rig.optimizer, &norm, &error), 0);
    assert_true(isnan(norm));
    rig_equal(&rig, &untouched, "a gradient that is not finite");
    struct memopt_step step = MEMOPT_STEP_INIT;
    assert_int_equal(memopt_optimizer_step(rig.optimizer, &step, &error), 0);
    assert_int_equal(step.skipped, 1);
    rig_equal(&rig, &untouched, "skipped");

    rig_grads(&rig, 1);
    perturb(&rig);
    assert_int_equal(memopt_optimizer_perturb(rig.optimizer, NULL, &error), -EBUSY);
    struct memopt_param param = MEMOPT_PARAM_INIT;
    float x = 1, dx = 1;
    param.name = "x";
    param.data = &x;
    param.grad = &dx;
    param.count = 1;
    assert_int_equal(memopt_optimizer_add(rig.optimizer, &param, NULL, &error), -EBUSY);
    assert_int_equal(memopt_optimizer_set(rig.optimizer, MEMOPT_ALL_GROUPS, "sam=0", &error),
                     -EBUSY);
    /* the second gradient is not finite: back, and no step */
    rig.grad[0][0] = INFINITY;
    assert_int_equal(memopt_optimizer_step(rig.optimizer, &step, &error), 0);
    assert_int_equal(step.skipped, 1);
    rig_equal(&rig, &untouched, "back");
    assert_int_equal(memopt_optimizer_set(rig.optimizer, MEMOPT_ALL_GROUPS, "lookahead=2", &error),
                     -EBUSY);
    assert_int_equal(memopt_optimizer_set_grad(rig.optimizer, 1, NULL, &error), 0);
    assert_int_equal(memopt_optimizer_perturb(rig.optimizer, NULL, &error), -EINVAL);
    assert_non_null(strstr(error.message, "t1"));
    rig_close(&rig);
    rig_close(&untouched);
}

/* ----------------------------------------------------------------- settings */

static void bad_settings(void **state) {
    static const struct {
        const char *name, *settings;
    } bad[] = {
        {"sgd", "lookahead=-1"},
        {"sgd", "lookahead=nan"},
        {"sgd", "lookahead_alpha=1.5"},
        {"sgd", "lookahead_alpha=nan"},
        {"sgd", "sam=-0.1"},
        {"sgd", "sam=nan"},
        {"sgd", "sam=inf"},
        {"lars", "trust=-1"},
        {"lars", "trust=nan"},
        {"lars", "beta1=0.9"},
        {"lamb", "eps=-1"},
        {"lamb", "momentum=0.9"},
        {"lamb", "state_format=8bit"},
        {"adafactor", "eps=0"},
        {"adafactor", "clip_threshold=0"},
        {"adafactor", "clip_threshold=nan"},
        {"adafactor", "beta2_decay=-0.8"},
        {"adafactor", "eps_scale=-1"},
        {"adafactor", "relative_step=2"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct memopt_error error = MEMOPT_ERROR_INIT;
        struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
        struct memopt_optimizer *optimizer = NULL;
        options.name = bad[i].name;
        options.settings = bad[i].settings;
        int code = memopt_optimizer_create(&options, &optimizer, &error);
        if ((code != -EINVAL && code != -ERANGE) || optimizer != NULL || error.message[0] == '\0')
            fail_msg("%s %s: %d %s", bad[i].name, bad[i].settings, code, error.message);
    }
}

/* ------------------------------------------------------------ whole tensors */

/* Several chunks, and rows that end inside of them. */
static void threads(void **state) {
    static const struct {
        const char *name, *settings;
        int dtype, narrow;
    } cases[] = {
        {"adafactor", "beta1=0.9", MEMOPT_DTYPE_F32, 1},
        {"adafactor", "rounding=stochastic", MEMOPT_DTYPE_BF16, 1},
        {"lars", "lr=1 trust=0.01", MEMOPT_DTYPE_F32, 0},
        {"lamb", "lr=0.01", MEMOPT_DTYPE_F32, 0},
        {"adafactor", "beta1=0.9", MEMOPT_DTYPE_F32, 0},
        {"lamb", "lr=0.01 rounding=stochastic", MEMOPT_DTYPE_BF16, 0},
        {"adafactor", "rounding=nearest accumulate=2", MEMOPT_DTYPE_F16, 0},
        {"adamw", "sam=0.1 lookahead=2 clip_norm=1", MEMOPT_DTYPE_F32, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig one, many;
        uint64_t rows = cases[i].narrow ? 20011 : 151, columns = cases[i].narrow ? 7 : 1031;
        char settings[128];
        snprintf(settings, sizeof(settings), "%s threads=1", cases[i].settings);
        rig_open_in(&one, NULL, cases[i].name, settings, cases[i].dtype, rows, columns);
        snprintf(settings, sizeof(settings), "%s threads=3", cases[i].settings);
        rig_open_in(&many, NULL, cases[i].name, settings, cases[i].dtype, rows, columns);
        for (uint32_t step = 1; step <= 4; step++) {
            if (strstr(settings, "sam") != NULL) {
                rig_grads(&one, step + 9);
                perturb(&one);
                rig_grads(&many, step + 9);
                perturb(&many);
            }
            rig_step(&one, step);
            rig_step(&many, step);
        }
        rig_equal(&one, &many, settings);
        rig_close(&one);
        rig_close(&many);
    }
}

/* Nothing is divided by a norm that is 0. */
static void zeroes(void **state) {
    static const char *const names[] = {"lars", "lamb", "adafactor"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct rig rig;
        rig_open(&rig, names[i], "", MEMOPT_DTYPE_F32);
        memset(rig.data[1], 0, rig_bytes(&rig, 1)); /* no parameter */
        for (uint32_t step = 1; step <= 3; step++) {
            rig_grads(&rig, step);
            memset(rig.grad[2], 0, rig_bytes(&rig, 2)); /* no gradient */
            rig_update(&rig);
        }
        for (size_t t = 0; t < RIG_TENSORS; t++)
            for (size_t k = 0; k < rig.count[t]; k++)
                if (!isfinite(rig_f32(&rig, t)[k]))
                    fail_msg("%s: element %zu of tensor %zu", names[i], k, t);
        assert_true(rig_f32(&rig, 1)[0] != 0);
        rig_close(&rig);
    }
}

/* Rows and columns, not elements. */
static void small_state(void **state) {
    struct rig rig;
    (void)state;
    rig_open_in(&rig, NULL, "adafactor", "", MEMOPT_DTYPE_F32, 300, 400);
    rig_step(&rig, 1);
    assert_true(memopt_optimizer_state_bytes(rig.optimizer) < 4 * (7 + 400 + 300 + 400) + 1024);
    rig_close(&rig);
}

/* One goes on, the other from a file: the same bits. */
static void save_and_load(void **state) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    char path[64];
    (void)state;
    snprintf(path, sizeof(path), "optim-wrap-%d.safetensors", (int)getpid());
    for (size_t m = 0; m < METHODS; m++) {
        struct rig saved, loaded;
        const char *settings = with(m, "lookahead=3 sam=0.05");
        rig_open(&saved, methods[m].name, settings, MEMOPT_DTYPE_BF16);
        rig_open(&loaded, methods[m].name, settings, MEMOPT_DTYPE_BF16);
        for (uint32_t step = 1; step <= 4; step++)
            rig_step(&saved, step);
        perturb(&saved);
        assert_int_equal(memopt_optimizer_save(saved.optimizer, path, &error), -EBUSY);
        assert_int_equal(memopt_optimizer_load(saved.optimizer, path, &error), -EBUSY);
        assert_int_equal(memopt_optimizer_restore(saved.optimizer, &error), 0);
        if (memopt_optimizer_save(saved.optimizer, path, &error) < 0 ||
            memopt_optimizer_load(loaded.optimizer, path, &error) < 0)
            fail_msg("%s: %s", methods[m].name, error.message);
        for (size_t t = 0; t < RIG_TENSORS; t++)
            memcpy(loaded.data[t], saved.data[t], rig_bytes(&saved, t));
        for (uint32_t step = 5; step <= 10; step++) {
            rig_grads(&saved, 100 + step);
            perturb(&saved);
            rig_step(&saved, step);
            rig_grads(&loaded, 100 + step);
            perturb(&loaded);
            rig_step(&loaded, step);
            rig_equal(&saved, &loaded, methods[m].name);
        }
        rig_close(&saved);
        rig_close(&loaded);
    }
    assert_int_equal(unlink(path), 0);
}

static uint64_t allocations(struct memopt_heap *heap) {
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    assert_int_equal(memopt_heap_stats(heap, &stats), 0);
    return stats.allocations;
}

static void no_allocations(void **state) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_heap *heap;
    (void)state;
    assert_int_equal(memopt_heap_open("wrapped", NULL, &heap, &error), 0);
    for (size_t m = 0; m < METHODS; m++) {
        struct rig rig;
        rig_open_in(&rig, heap, methods[m].name, with(m, "sam=0.1 lookahead=2"), MEMOPT_DTYPE_BF16,
                    13, 79);
        rig_grads(&rig, 1);
        perturb(&rig);
        rig_step(&rig, 1);
        uint64_t before = allocations(heap);
        for (uint32_t step = 2; step <= 5; step++) {
            rig_grads(&rig, step);
            perturb(&rig);
            rig_step(&rig, step);
        }
        assert_int_equal(allocations(heap), before);
        rig_close(&rig);
    }
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    assert_int_equal(memopt_heap_stats(heap, &stats), 0);
    assert_int_equal(stats.live_blocks, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lookahead),     cmocka_unit_test(lookahead_of_16_bits),
        cmocka_unit_test(sam),           cmocka_unit_test(restore),
        cmocka_unit_test(sam_refuses),   cmocka_unit_test(bad_settings),
        cmocka_unit_test(threads),       cmocka_unit_test(zeroes),
        cmocka_unit_test(small_state),   cmocka_unit_test(no_allocations),
        cmocka_unit_test(save_and_load),
    };
    setenv("MEMOPT_CONF", "/dev/null", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
