/*
 * test_optim.c - optimizers through their public interface: what a step does and
 * says, groups and settings, clipping, accumulation, skipping, rounding by
 * chance, the configuration, state in files, fork, and bad input, which changes
 * nothing.
 */
#include "tests/heap_child.h"
#include "tests/optim_noise.h"

#include <errno.h>
#include <locale.h>
#include <math.h>

enum { COUNT = 1031 };
static float data[COUNT], grad[COUNT];

/* Every optimizer that memopt_optimizer_create() makes, with settings that have
 * it use all it has. */
static const struct {
    const char *name, *settings;
} all[] = {
    {"sgd", ""},
    {"sgd", "momentum=0.9 nesterov=yes"},
    {"sgd", "momentum=0.9 state_format=8bit"},
    {"adam", "weight_decay=0.1"},
    {"adamw", ""},
    {"adamw", "state_format=8bit"},
    {"adam", "amsgrad=yes state_format=8bit"},
    {"amsgrad", ""},
    {"adagrad", "initial_accumulator=0.1"},
    {"rmsprop", "momentum=0.9 centered=yes"},
    {"adadelta", ""},
    {"adamax", ""},
    {"nadam", ""},
    {"radam", ""},
    {"lion", ""},
    {"lion", "state_format=8bit"},
    {"lamb", ""},
    {"lars", "lr=1"},
    {"adafactor", "beta1=0.5"},
    {"adafactor", "lookahead=2 sam=0.1"},
    {"adamw", "lookahead=3 state_format=8bit"},
};
enum { ALL = sizeof(all) / sizeof(all[0]) };

static struct memopt_error error;

static struct memopt_optimizer *create(const char *name, const char *settings) {
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    struct memopt_optimizer *optimizer = NULL;
    options.name = name;
    options.settings = settings;
    if (memopt_optimizer_create(&options, &optimizer, &error) < 0) {
        fprintf(stderr, "%s %s: %s\n", name, settings, error.message);
        return NULL;
    }
    return optimizer;
}

static struct memopt_param make_param(const char *name, int dtype, void *values,
                                      const void *gradient, uint64_t count) {
    struct memopt_param param = MEMOPT_PARAM_INIT;
    param.name = name;
    param.dtype = dtype;
    param.data = values;
    param.grad = gradient;
    param.count = count;
    return param;
}

static int add(struct memopt_optimizer *optimizer, const char *name, float *values,
               const float *gradient, uint64_t count) {
    struct memopt_param param = make_param(name, MEMOPT_DTYPE_F32, values, gradient, count);
    return memopt_optimizer_add(optimizer, &param, NULL, &error);
}

static struct memopt_step step(struct memopt_optimizer *optimizer) {
    struct memopt_step result = MEMOPT_STEP_INIT;
    int code = memopt_optimizer_step(optimizer, &result, &error);
    if (code < 0)
        fail_msg("%s: %s", memopt_optimizer_name(optimizer), error.message);
    return result;
}

/* ------------------------------------------------------------------- steps */

static void step_tells(void **state) {
    (void)state;
    struct memopt_optimizer *optimizer = create("sgd", "lr=0.5");
    data[0] = 1;
    grad[0] = 3;
    data[1] = 2;
    grad[1] = -4;
    assert_int_equal(add(optimizer, "w", data, grad, 2), 0);
    struct memopt_step told = step(optimizer);
    assert_int_equal(told.updated, 1);
    assert_int_equal(told.skipped, 0);
    assert_true(isnan(told.grad_norm) && told.grad_scale == 1);
    assert_int_equal(told.updates, 1);
    assert_true(data[0] == -0.5f && data[1] == 4 && grad[0] == 3 && grad[1] == -4);
    assert_int_equal(memopt_optimizer_step(optimizer, NULL, NULL), 0);
    assert_string_equal(memopt_optimizer_name(optimizer), "sgd");
    memopt_optimizer_destroy(optimizer);
    memopt_optimizer_destroy(NULL);
}

/* Where a tensor is cut makes no difference to what is computed by the element: the
 * whole, in more than one chunk, and pieces of it that begin anywhere. */
static void in_pieces(void **state) {
    enum { WHOLE = 70001, PIECES = 6 };
    static const size_t cuts[PIECES + 1] = {0, 1, 8, 263, 519, 66000, WHOLE};
    static float values[2][WHOLE], gradient[WHOLE];
    size_t tried = 0;
    (void)state;
    for (size_t m = 0; m < ALL; m++) {
        int by_the_tensor = all[m].name[0] == 'l' && strcmp(all[m].name, "lion") != 0;
        if (by_the_tensor || strcmp(all[m].name, "adafactor") == 0 ||
            strstr(all[m].settings, "8bit") != NULL) /* chance looks at the tensor's name */
            continue;
        tried++;
        for (int cut = 0; cut < 2; cut++) {
            struct memopt_optimizer *optimizer = create(all[m].name, all[m].settings);
            assert_non_null(optimizer);
            fill_first(values[cut], 0, WHOLE);
            for (size_t i = 0; i < (cut ? PIECES : 1); i++) {
                char name[] = {(char)('a' + i), 0};
                size_t first = cuts[i], end = cut ? cuts[i + 1] : WHOLE;
                assert_int_equal(
                    add(optimizer, name, values[cut] + first, gradient + first, end - first), 0);
            }
            for (uint32_t t = 1; t <= 3; t++) {
                fill_grad(gradient, t, 0, WHOLE);
                step(optimizer);
            }
            memopt_optimizer_destroy(optimizer);
        }
        if (memcmp(values[0], values[1], sizeof(values[0])) != 0)
            fail_msg("%s %s: other values in pieces", all[m].name, all[m].settings);
    }
    assert_true(tried >= 10);
}

/* 3-4-5 over two parameters of two types. */
static void clips(void **state) {
    (void)state;
    static float a[300];
    static uint16_t b[2];
    struct memopt_optimizer *optimizer = create("sgd", "lr=1 clip_norm=1");
    struct memopt_param param = make_param("b", MEMOPT_DTYPE_BF16, b, NULL, 2);
    memset(a, 0, sizeof(a));
    memset(grad, 0, sizeof(grad));
    grad[299] = 3;
    b[0] = b[1] = 0;
    static uint16_t four[2] = {0x4080, 0};
    param.grad = four;
    assert_int_equal(add(optimizer, "a", a, grad, 300), 0);
    assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), 0);
    struct memopt_step told = step(optimizer);
    assert_true(told.grad_norm == 5);
    assert_true(told.grad_scale == 1 / (5 + 1e-6));
    assert_true(a[299] == -3 * (float)told.grad_scale && a[0] == 0);
    assert_int_equal(b[0], 0xbf4d); /* -0.8 */
    grad[299] = 0.25f;
    four[0] = 0;
    told = step(optimizer);
    assert_true(told.grad_norm == 0.25 && told.grad_scale == 1);
    memopt_optimizer_destroy(optimizer);
}

static void skips(void **state) {
    (void)state;
    for (size_t i = 0; i < ALL; i++)
        for (int kind = 0; kind < 2; kind++) {
            char settings[128];
            snprintf(settings, sizeof(settings), "%s skip_nonfinite=yes", all[i].settings);
            struct memopt_optimizer *optimizer = create(all[i].name, settings);
            struct memopt_optimizer *other = create(all[i].name, settings);
            static float twin[COUNT];
            fill_first(data, 0, COUNT);
            memcpy(twin, data, sizeof(twin));
            assert_int_equal(add(optimizer, "w", data, grad, COUNT), 0);
            assert_int_equal(add(other, "w", twin, grad, COUNT), 0);
            for (uint32_t t = 1; t <= 4; t++) {
                fill_grad(grad, t, 0, COUNT);
                step(other);
                step(optimizer);
                grad[COUNT - 1] = kind ? (float)NAN : -INFINITY;
                struct memopt_step told = step(optimizer);
                assert_int_equal(told.skipped, 1);
                assert_int_equal(told.updated, 0);
                assert_int_equal(told.updates, t);
                assert_true(!isfinite(told.grad_norm));
            }
            assert_memory_equal(twin, data, sizeof(twin)); /* as if they had not been */
            memopt_optimizer_destroy(optimizer);
            memopt_optimizer_destroy(other);
        }
}

/* N steps of N gradients are one of their mean. */
static void accumulates(void **state) {
    (void)state;
    static float mean[COUNT], twin[COUNT];
    struct memopt_optimizer *optimizer = create("adamw", "accumulate=4 clip_norm=0.5");
    struct memopt_optimizer *other = create("adamw", "clip_norm=0.5");
    fill_first(data, 0, COUNT);
    memcpy(twin, data, sizeof(twin));
    assert_int_equal(add(optimizer, "w", data, grad, COUNT), 0);
    assert_int_equal(add(other, "w", twin, mean, COUNT), 0);
    for (uint32_t t = 0; t < 3; t++) {
        memset(mean, 0, sizeof(mean));
        for (uint32_t k = 0; k < 4; k++) {
            struct memopt_param late = make_param("late", MEMOPT_DTYPE_F32, data, grad, 1);
            fill_grad(grad, 4 * t + k, 0, COUNT);
            for (size_t i = 0; i < COUNT; i++)
                mean[i] += grad[i];
            struct memopt_step told = step(optimizer);
            assert_int_equal(told.updated, k == 3);
            assert_int_equal(told.updates, t + (k == 3));
            if (k < 3) {
                assert_int_equal(memopt_optimizer_add(optimizer, &late, NULL, &error), -EBUSY);
                assert_int_equal(
                    memopt_optimizer_set(optimizer, MEMOPT_ALL_GROUPS, "accumulate=8", &error),
                    -EBUSY);
            }
        }
        for (size_t i = 0; i < COUNT; i++)
            mean[i] *= 0.25f;
        step(other);
        for (size_t i = 0; i < COUNT; i++) /* the scale is applied at another place */
            assert_true(fabsf(data[i] - twin[i]) <= 1e-6f * fabsf(twin[i]));
    }
    memopt_optimizer_destroy(optimizer);
    memopt_optimizer_destroy(other);
}

static void groups(void **state) {
    (void)state;
    struct memopt_optimizer *optimizer = create("sgd", "lr=1 weight_decay=0.5");
    double value = 0;
    assert_int_equal(memopt_optimizer_add_group(optimizer, "weight_decay=0, lr=0.25", &error), 1);
    assert_int_equal(memopt_optimizer_add_group(optimizer, NULL, &error), 2);
    float x[3] = {4, 4, 4}, g[3] = {1, 1, 1};
    for (int i = 0; i < 3; i++) {
        char name[] = {(char)('a' + i), 0};
        struct memopt_param param = make_param(name, MEMOPT_DTYPE_F32, &x[i], &g[i], 1);
        param.group = i;
        assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), 0);
    }
    step(optimizer);
    assert_true(x[0] == 1 && x[1] == 3.75f && x[2] == 1);
    assert_int_equal(memopt_optimizer_set_number(optimizer, MEMOPT_ALL_GROUPS, "lr", 0.5, &error),
                     0);
    assert_int_equal(memopt_optimizer_set(optimizer, 2, "lr=0 weight_decay=0", &error), 0);
    step(optimizer);
    assert_true(x[0] == 1 - 0.5f * 1.5f && x[1] == 3.25f && x[2] == 1);
    assert_int_equal(memopt_optimizer_get_number(optimizer, 2, "lr", &value, &error), 0);
    assert_true(value == 0);
    assert_int_equal(memopt_optimizer_set_number(optimizer, 0, "lr", 1.0 / 3, &error), 0);
    assert_int_equal(memopt_optimizer_get_number(optimizer, 0, "lr", &value, &error), 0);
    assert_true(value == 1.0 / 3);
    memopt_optimizer_destroy(optimizer);
}

static void gradients_move(void **state) {
    (void)state;
    struct memopt_optimizer *optimizer = create("sgd", "lr=1");
    struct memopt_param param = make_param("w", MEMOPT_DTYPE_F32, data, NULL, 2);
    float other[2] = {5, 5}, g[2] = {1, 2};
    size_t index = 99;
    assert_int_equal(memopt_optimizer_add(optimizer, &param, &index, &error), 0);
    assert_int_equal(index, 0);
    data[0] = data[1] = 3;
    assert_int_equal(memopt_optimizer_step(optimizer, NULL, &error), -EINVAL);
    assert_non_null(strstr(error.message, "'w' has no gradient"));
    assert_true(data[0] == 3);
    assert_int_equal(memopt_optimizer_state_bytes(optimizer), 0);
    assert_int_equal(memopt_optimizer_set_grad(optimizer, 0, g, &error), 0);
    step(optimizer);
    assert_true(data[0] == 2 && data[1] == 1);
    assert_int_equal(memopt_optimizer_set_data(optimizer, 0, other, &error), 0);
    step(optimizer);
    assert_true(data[0] == 2 && other[0] == 4 && other[1] == 3);
    memopt_optimizer_destroy(optimizer);
}

/* Steps far below bf16's precision: lost to the nearest value, not by chance, and
 * not with a master. */
static void small_steps(void **state) {
    (void)state;
    enum { N = 2048, STEPS = 64 };
    static uint16_t values[N];
    static float ones[N];
    static const char *const roundings[] = {"nearest", "stochastic", "master"};
    for (size_t i = 0; i < N; i++)
        ones[i] = 1;
    for (int k = 0; k < 3; k++) {
        char settings[64];
        double mean = 0;
        snprintf(settings, sizeof(settings), "lr=2.44140625e-4 rounding=%s", roundings[k]);
        struct memopt_optimizer *optimizer = create("sgd", settings);
        struct memopt_param param = make_param("w", MEMOPT_DTYPE_BF16, values, ones, N);
        param.grad_dtype = MEMOPT_DTYPE_F32;
        for (size_t i = 0; i < N; i++)
            values[i] = 0x4000; /* 2: a step is a 32nd or 64th of the distance to the next */
        assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), 0);
        for (int i = 0; i < STEPS; i++)
            step(optimizer);
        for (size_t i = 0; i < N; i++) {
            uint32_t bits = (uint32_t)values[i] << 16;
            float x;
            memcpy(&x, &bits, sizeof(x));
            mean += (double)x / N;
        }
        /* 64 steps of 2^-12 are 2^-6; a deviation of one is at most 2^-7 / 2, of the
         * sum 8 times that, of the mean of 2048 a 45th */
        double moved = 2 - mean;
        if (k == 0)
            assert_true(moved == 0);
        else if (k == 1)
            assert_true(fabs(moved - 0x1p-6) < 6 * 0x1p-8 * 8 / 45);
        else
            assert_true(moved == 0x1p-6);
        memopt_optimizer_destroy(optimizer);
    }
}

static void masters_follow_data(void **state) {
    (void)state;
    static uint16_t values[3] = {0x3f80, 0x3f80, 0x3f80}; /* 1 */
    static uint16_t gradient[3] = {0x3f80, 0x3f80, 0x3f80};
    struct memopt_optimizer *optimizer = create("sgd", "lr=0.5");
    struct memopt_param param = make_param("w", MEMOPT_DTYPE_BF16, values, gradient, 3);
    assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), 0);
    step(optimizer);
    assert_int_equal(values[0], 0x3f00);
    values[0] = 0x4080; /* 4: the master doesn't know */
    step(optimizer);
    assert_int_equal(values[0], 0);
    values[0] = 0x4080;
    memopt_optimizer_data_changed(optimizer);
    step(optimizer);
    assert_int_equal(values[0], 0x4060); /* 3.5 */
    memopt_optimizer_destroy(optimizer);
}

/* 8-bit state finds the minimum that fp32 state finds. */
static void eight_bits_converge(void **state) {
    (void)state;
    static const char *const names[] = {"adamw", "adam", "lion", "sgd"};
    static const char *const settings[] = {"lr=0.02 weight_decay=0", "lr=0.02", "lr=0.003",
                                           "lr=0.05 momentum=0.9"};
    for (int k = 0; k < 4; k++) {
        double loss[2] = {0, 0};
        for (int small = 0; small < 2; small++) {
            char text[96];
            snprintf(text, sizeof(text), "%s%s", settings[k], small ? " state_format=8bit" : "");
            struct memopt_optimizer *optimizer = create(names[k], text);
            fill_first(data, 0, COUNT);
            assert_int_equal(add(optimizer, "w", data, grad, COUNT), 0);
            for (uint32_t t = 1; t <= 600; t++) {
                for (size_t i = 0; i < COUNT; i++) {
                    float curve = i % 5 == 0 ? 1 : 0.01f; /* gradients of very different sizes */
                    grad[i] = curve * (2 * (data[i] - 0.25f) + 0.1f * noise(t, 1, i));
                }
                step(optimizer);
            }
            for (size_t i = 0; i < COUNT; i++)
                loss[small] +=
                    ((double)data[i] - 0.25) * ((double)data[i] - 0.25) * (i % 5 == 0 ? 1 : 0.01);
            memopt_optimizer_destroy(optimizer);
        }
        print_message("%s: loss %.3g with fp32 state, %.3g with 8 bits\n", names[k], loss[0],
                      loss[1]);
        assert_true(loss[1] < 1.5 * loss[0] + 0.05);
    }
}

static void state_is_small(void **state) {
    (void)state;
    enum { N = 1 << 20 };
    static uint16_t values[N], gradient[N];
    struct memopt_optimizer *optimizer = create("adamw", "state_format=8bit rounding=stochastic");
    struct memopt_param param = make_param("w", MEMOPT_DTYPE_BF16, values, gradient, N);
    assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), 0);
    step(optimizer);
    assert_true((double)memopt_optimizer_state_bytes(optimizer) / N <= 2.05);
    memopt_optimizer_destroy(optimizer);
}

/* Numbers at the ends of what there is: nothing traps, zero stays zero. */
static void extremes(void **state) {
    (void)state;
    static const float hard[] = {0, -0.0f, 1e-45f, 1e-38f, 1e-20f, 1e20f, 3e38f, -3e38f};
    for (size_t i = 0; i < ALL; i++) {
        struct memopt_optimizer *optimizer = create(all[i].name, all[i].settings);
        fill_first(data, 0, COUNT);
        for (size_t k = 0; k < COUNT; k++)
            grad[k] = k < 512 ? 0 : hard[k % 8];
        assert_int_equal(add(optimizer, "w", data, grad, COUNT), 0);
        for (int t = 0; t < 3; t++)
            step(optimizer);
        for (size_t k = 0; k < 512; k++)
            assert_true(isfinite(data[k]));
        memopt_optimizer_destroy(optimizer);
    }
}

/* --------------------------------------------------------------- bad input */

static void bad_settings(void **state) {
    (void)state;
    static const struct {
        const char *name, *settings, *message;
    } cases[] = {
        {"adamx", "", "'name' is 'adamx', not one of: sgd"},
        {"adam", "lr=nan", "'lr' is 'nan', not a number"},
        {"adam", "lr=-1", "'lr' is '-1', not within 0 .. 1e6"},
        {"adam", "beta1=1", "'beta1' is '1', not within"},
        {"adam", "eps=-1e-8", "'eps' is '-1e-8'"},
        {"adam", "weight_decay=inf", "'weight_decay' is 'inf'"},
        {"adam", "momentum=0.9", "'momentum' is no setting of adam; it has lr, weight_decay"},
        {"adam", "speed=1", "'speed' is no setting of adam"},
        {"adam", "name=sgd", "'name' is no setting"},
        {"adam", "lr", "'lr' is no setting: expected key=value"},
        {"adam", "lr=", "'lr' is empty"},
        {"adam", "=1", "'=1' is no setting"},
        {"adam", "lr=1e-3 rounding=up", "'rounding' is 'up'"},
        {"sgd", "nesterov=yes", "sgd: 'nesterov' needs a momentum above 0"},
        {"sgd", "state_format=8bit", "sgd has no state in 8 bits without momentum"},
        {"adagrad", "state_format=8bit", "adagrad has no state in 8 bits"},
        {"adam", "accumulate=0", "'accumulate' is '0'"},
        {"adam", "threads=0", "'threads' is '0'"},
        {"adam", "clip_norm=-1", "'clip_norm' is '-1'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
        struct memopt_optimizer *untouched = (void *)&error, *optimizer = untouched;
        options.name = cases[i].name;
        options.settings = cases[i].settings;
        error.message[0] = '\0';
        assert_true(memopt_optimizer_create(&options, &optimizer, &error) < 0);
        assert_true(memopt_optimizer_create(&options, &optimizer, NULL) < 0);
        assert_ptr_equal(optimizer, untouched);
        if (strstr(error.message, cases[i].message) == NULL)
            fail_msg("'%s' is not in '%s'", cases[i].message, error.message);
    }
    struct memopt_optimizer_options options = {3, NULL, NULL, NULL};
    struct memopt_optimizer *optimizer;
    assert_int_equal(memopt_optimizer_create(&options, &optimizer, &error), -EINVAL);
}

static void bad_changes(void **state) {
    (void)state;
    struct memopt_optimizer *optimizer = create("sgd", "lr=1");
    double value = 7;
    data[0] = 1, grad[0] = 1;
    assert_int_equal(add(optimizer, "w", data, grad, 1), 0);
    assert_int_equal(memopt_optimizer_set(optimizer, 0, "momentum=0.5", &error), 0);
    step(optimizer);
    static const struct {
        int group;
        const char *settings;
        int code;
    } cases[] = {
        {0, "momentum=0", -EBUSY},
        {0, "lr=2 lr=x", -EINVAL},
        {0, "lr=-1", -ERANGE},
        {0, "clip_norm=1", -EINVAL},
        {1, "lr=1", -EINVAL},
        {-2, "lr=1", -EINVAL},
        {-1, "accumulate=2", -EBUSY},
        {-1, "rounding=nearest", -EBUSY},
        {-1, "state_format=8bit", -EBUSY},
        {-1, "threads=1024", -EBUSY},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int code = memopt_optimizer_set(optimizer, cases[i].group, cases[i].settings, &error);
        if (code != cases[i].code)
            fail_msg("%s: %d, not %d", cases[i].settings, code, cases[i].code);
    }
    assert_true(memopt_optimizer_set_number(optimizer, 0, "lr", (double)NAN, &error) < 0);
    assert_true(memopt_optimizer_set_number(optimizer, 0, "lr", -1, &error) < 0);
    assert_true(memopt_optimizer_set_number(optimizer, 0, NULL, 1, &error) < 0);
    assert_true(memopt_optimizer_get_number(optimizer, 0, "beta1", &value, &error) < 0);
    assert_true(memopt_optimizer_get_number(optimizer, 0, "rounding", &value, &error) < 0);
    assert_true(memopt_optimizer_get_number(optimizer, 5, "lr", &value, &error) < 0);
    assert_true(memopt_optimizer_add_group(optimizer, "seed=4", &error) == -EINVAL);
    assert_true(value == 7);
    assert_int_equal(memopt_optimizer_get_number(optimizer, 0, "lr", &value, &error), 0);
    assert_true(value == 1);
    memopt_optimizer_destroy(optimizer);
}

static void bad_params(void **state) {
    (void)state;
    struct memopt_optimizer *optimizer = create("adamw", "");
    const struct memopt_param good = make_param("w", MEMOPT_DTYPE_F32, data, grad, 6);
    assert_int_equal(memopt_optimizer_step(optimizer, NULL, &error), -EINVAL);
    assert_non_null(strstr(error.message, "no parameters"));
    assert_int_equal(memopt_optimizer_add(optimizer, &good, NULL, &error), 0);
    struct memopt_param bad[17];
    size_t count = 0;
    for (size_t i = 0; i < 17; i++) {
        bad[i] = good;
        bad[i].name = "v";
    }
    bad[count++].size = 0;
    bad[count++].size = 10000;
    bad[count++].name = NULL;
    bad[count++].name = "";
    bad[count++].name = "w"; /* there */
    bad[count++].data = NULL;
    bad[count++].count = 0;
    bad[count++].count = UINT64_MAX / 2;
    bad[count++].dtype = MEMOPT_DTYPE_F64;
    bad[count++].grad_dtype = MEMOPT_DTYPE_I8;
    bad[count++].group = 1;
    bad[count++].group = -1;
    bad[count++].rank = 9;
    bad[count].rank = 2, bad[count].shape[0] = 2, bad[count++].shape[1] = 2;
    bad[count].rank = 2, bad[count].shape[0] = UINT64_MAX, bad[count++].shape[1] = UINT64_MAX;
    bad[count++].grad = (const char *)grad + 2;
    bad[count++].name = "caf\xe9"; /* no state file could have it */
    assert_int_equal(count, 17);
    for (size_t i = 0; i < count; i++) {
        size_t index = 77;
        int code = memopt_optimizer_add(optimizer, &bad[i], &index, &error);
        if (code != (i == 4 ? -EEXIST : -EINVAL) || index != 77)
            fail_msg("case %zu: %d, %s", i, code, error.message);
    }
    assert_int_equal(memopt_optimizer_add(optimizer, NULL, NULL, &error), -EINVAL);
    assert_int_equal(memopt_optimizer_set_grad(optimizer, 1, grad, &error), -EINVAL);
    assert_int_equal(memopt_optimizer_set_grad(optimizer, 0, (char *)grad + 1, &error), -EINVAL);
    assert_int_equal(memopt_optimizer_set_data(optimizer, 0, NULL, &error), -EINVAL);
    assert_int_equal(memopt_optimizer_set_data(optimizer, 7, data, &error), -EINVAL);
    struct memopt_step told = {.size = 3};
    assert_int_equal(memopt_optimizer_step(optimizer, &told, &error), -EINVAL);
    struct memopt_param matrix = good;
    matrix.name = "m", matrix.rank = 2, matrix.shape[0] = 2, matrix.shape[1] = 3;
    assert_int_equal(memopt_optimizer_add(optimizer, &matrix, NULL, &error), 0);
    memopt_optimizer_destroy(optimizer);
}

/* ------------------------------------------------------------------ in files */

static const char *state_path(void) {
    static char path[64];
    snprintf(path, sizeof(path), "%s/s", directory);
    return path;
}

/* An optimizer that is saved and loaded in the middle ends where one does that is
 * not, to the bit; with masters, accumulators and two groups. */
static void saves_and_loads(void **state) {
    (void)state;
    static float twin[COUNT];
    static uint16_t half[257], half_twin[257], half_grad[257];
    for (size_t i = 0; i < ALL; i++) {
        struct memopt_optimizer *optimizers[3];
        char settings[128];
        snprintf(settings, sizeof(settings), "%s accumulate=3 seed=9", all[i].settings);
        fill_first(data, 0, COUNT);
        memcpy(twin, data, sizeof(twin));
        for (size_t k = 0; k < 257; k++) {
            half[k] = half_twin[k] = (uint16_t)(0x3f00 + k % 64);
            half_grad[k] = (uint16_t)(0x3c00 + 3 * k);
        }
        for (int k = 0; k < 3; k++) {
            optimizers[k] = create(all[i].name, settings);
            memopt_optimizer_add_group(optimizers[k], "lr=0.25", &error);
            struct memopt_param param =
                make_param("half", MEMOPT_DTYPE_BF16, k == 0 ? half_twin : half, half_grad, 257);
            param.group = 1;
            assert_int_equal(add(optimizers[k], "w", k == 0 ? twin : data, grad, COUNT), 0);
            assert_int_equal(memopt_optimizer_add(optimizers[k], &param, NULL, &error), 0);
        }
        /* a schedule's hand: it is in the file */
        for (int k = 0; k < 2; k++)
            memopt_optimizer_set_number(optimizers[k], 0, "lr", 1.0 / 333, &error);
        for (uint32_t t = 1; t <= 20; t++) {
            fill_grad(grad, t, 0, COUNT);
            step(optimizers[0]);
            step(optimizers[t <= 10 ? 1 : 2]);
            if (t == 10) { /* one of three is accumulated */
                assert_int_equal(memopt_optimizer_save(optimizers[1], state_path(), &error), 0);
                int code = memopt_optimizer_load(optimizers[2], state_path(), &error);
                if (code < 0)
                    fail_msg("%s %s: %s", all[i].name, settings, error.message);
                assert_true(memopt_optimizer_state_bytes(optimizers[2]) ==
                            memopt_optimizer_state_bytes(optimizers[1]));
            }
        }
        assert_memory_equal(data, twin, sizeof(twin));
        assert_memory_equal(half, half_twin, sizeof(half));
        for (int k = 0; k < 3; k++)
            memopt_optimizer_destroy(optimizers[k]);
    }
    unlink(state_path());
}

/* Before there are parameters there are settings. */
static void saves_settings_alone(void **state) {
    (void)state;
    struct memopt_optimizer *saved = create("adamw", "lr=0.25"), *loaded = create("adamw", "");
    double lr;
    assert_int_equal(memopt_optimizer_save(saved, state_path(), &error), 0);
    assert_int_equal(memopt_optimizer_load(loaded, state_path(), &error), 0);
    assert_int_equal(memopt_optimizer_get_number(loaded, 0, "lr", &lr, &error), 0);
    assert_true(lr == 0.25);
    memopt_optimizer_destroy(saved);
    memopt_optimizer_destroy(loaded);
    unlink(state_path());
}

static void write_claims(const char *name, const char *settings, uint64_t updates) {
    static const uint64_t two = 2;
    const char *const metadata[][2] = {{"format", "memopt-optimizer-1"},
                                       {"optimizer", name},
                                       {"updates", "1"},
                                       {"accumulated", "0"},
                                       {"groups", "1"},
                                       {"group.0", settings}};
    const double carry[2] = {0};
    struct memopt_tensors_writer *writer;
    assert_int_equal(memopt_tensors_writer_open(state_path(), &writer, &error), 0);
    for (size_t i = 0; i < sizeof(metadata) / sizeof(metadata[0]); i++)
        assert_int_equal(
            memopt_tensors_writer_metadata(writer, metadata[i][0], metadata[i][1], &error), 0);
    assert_int_equal(
        memopt_tensors_writer_add(writer, "w.updates", MEMOPT_DTYPE_U64, 0, NULL, &error), 0);
    assert_int_equal(
        memopt_tensors_writer_add(writer, "w.carry", MEMOPT_DTYPE_F64, 1, &two, &error), 1);
    assert_int_equal(memopt_tensors_writer_write(writer, 0, 0, &updates, 8, &error), 0);
    assert_int_equal(memopt_tensors_writer_write(writer, 1, 0, carry, 16, &error), 0);
    assert_int_equal(memopt_tensors_writer_commit(writer, &error), 0);
    memopt_tensors_writer_close(writer);
}

/* A file may claim any state: it is looked for before there is memory for it. */
static void claims_too_much(void **state) {
    (void)state;
    write_claims("lbfgs", "history=1000", 1);
    struct memopt_optimizer *optimizer = create("lbfgs", "");
    assert_int_equal(add(optimizer, "w", data, grad, 1ull << 40), 0);
    assert_int_equal(memopt_optimizer_load(optimizer, state_path(), &error), -ENOENT);
    assert_memory_equal(error.message, state_path(), strlen(state_path()));
    assert_string_equal(error.message + strlen(state_path()),
                        ": it has no tensor 'w.prev_flat_grad'");
    memopt_optimizer_destroy(optimizer);
    write_claims("sgd", "", UINT64_MAX);
    optimizer = create("sgd", "");
    assert_int_equal(add(optimizer, "w", data, grad, COUNT), 0);
    assert_int_equal(memopt_optimizer_load(optimizer, state_path(), &error), -EINVAL);
    assert_non_null(strstr(error.message, "'w.updates' is 18446744073709551615"));
    memopt_optimizer_destroy(optimizer);
    unlink(state_path());
}

/* What does not fit is refused and changes nothing. */
static void bad_files(void **state) {
    (void)state;
    struct memopt_optimizer *saved = create("adamw", "");
    fill_first(data, 0, COUNT);
    fill_grad(grad, 1, 0, COUNT);
    assert_int_equal(add(saved, "w", data, grad, COUNT), 0);
    step(saved);
    assert_int_equal(memopt_optimizer_save(saved, state_path(), &error), 0);
    static const struct {
        const char *name, *settings, *param;
        uint64_t count;
        int groups;
        const char *message;
    } cases[] = {
        {"adam", "", "w", COUNT, 1, "it is of optimizer 'adamw', not of adam"},
        {"adamw", "", "v", COUNT, 1, "of which 0 are this optimizer's"},
        {"adamw", "", "w", COUNT - 1, 1, "another shape"},
        {"adamw", "", "w", COUNT, 2, "it has 1 groups, the optimizer 2"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct memopt_optimizer *optimizer = create(cases[i].name, cases[i].settings);
        struct memopt_optimizer *other = create(cases[i].name, cases[i].settings);
        static float twin[COUNT];
        fill_first(data, 0, COUNT);
        memcpy(twin, data, sizeof(twin));
        if (cases[i].groups == 2)
            memopt_optimizer_add_group(optimizer, "", &error);
        assert_int_equal(add(optimizer, cases[i].param, data, grad, cases[i].count), 0);
        assert_int_equal(add(other, cases[i].param, twin, grad, cases[i].count), 0);
        step(optimizer);
        step(other);
        assert_true(memopt_optimizer_load(optimizer, state_path(), &error) < 0);
        if (strstr(error.message, cases[i].message) == NULL)
            fail_msg("'%s' is not in '%s'", cases[i].message, error.message);
        assert_non_null(strstr(error.message, state_path()));
        step(optimizer);
        step(other);
        assert_memory_equal(data, twin, sizeof(twin));
        memopt_optimizer_destroy(optimizer);
        memopt_optimizer_destroy(other);
    }
    unlink(state_path());
    assert_int_equal(memopt_optimizer_load(saved, state_path(), &error), -ENOENT);
    assert_int_equal(memopt_optimizer_save(saved, "/nowhere/there/s", &error), -ENOENT);
    memopt_optimizer_destroy(saved);
}

static int null_optimizer(int function) {
    struct memopt_param param = MEMOPT_PARAM_INIT;
    struct memopt_sparse_grad sparse = {0};
    double number;
    switch (function) {
    case 0:
        return memopt_optimizer_add_group(NULL, "", &error);
    case 1:
        return memopt_optimizer_set(NULL, 0, "lr=1", &error);
    case 2:
        return memopt_optimizer_set_number(NULL, 0, "lr", 1, &error);
    case 3:
        return memopt_optimizer_get_number(NULL, 0, "lr", &number, &error);
    case 4:
        return memopt_optimizer_add(NULL, &param, NULL, &error);
    case 5:
        return memopt_optimizer_set_data(NULL, 0, data, &error);
    case 6:
        return memopt_optimizer_set_grad(NULL, 0, grad, &error);
    case 7:
        return memopt_optimizer_set_sparse_grad(NULL, 0, &sparse, &error);
    case 8:
        return memopt_optimizer_step(NULL, NULL, &error);
    case 9:
        return memopt_optimizer_minimize(NULL, NULL, NULL, NULL, &error);
    case 10:
        return memopt_optimizer_perturb(NULL, NULL, &error);
    case 11:
        return memopt_optimizer_restore(NULL, &error);
    case 12:
        return memopt_optimizer_save(NULL, state_path(), &error);
    case 13:
        return memopt_optimizer_load(NULL, state_path(), &error);
    default:
        return 0;
    }
}

static void no_optimizer(void **state) {
    (void)state;
    int function = 0, code;
    for (; (code = null_optimizer(function)) != 0; function++) {
        assert_int_equal(code, -EINVAL);
        assert_string_equal(error.message, "the optimizer is NULL");
    }
    assert_int_equal(function, 14);
    assert_null(memopt_optimizer_name(NULL));
    assert_int_equal(memopt_optimizer_state_bytes(NULL), 0);
    memopt_optimizer_data_changed(NULL);
    memopt_optimizer_destroy(NULL);
}

static void no_result(void **state) {
    (void)state;
    assert_int_equal(memopt_optimizer_create(NULL, NULL, &error), -EINVAL);
    assert_string_equal(error.message, "memopt_optimizer_create: a result is needed");
    struct memopt_optimizer *optimizer = create("adamw", "");
    assert_int_equal(memopt_optimizer_get_number(optimizer, 0, "lr", NULL, &error), -EINVAL);
    assert_string_equal(error.message, "memopt_optimizer_get_number: a result is needed");
    memopt_optimizer_destroy(optimizer);
}

static void numbers_are_exact(void **state) {
    (void)state;
    static const struct {
        const char *key;
        double value;
    } rows[] = {{"lr", 3e-4},
                {"lr", 0.1},
                {"lr", 1e-30},
                {"lr", 123456.25},
                {"seed", 5e9},
                {"accumulate", 3},
                {"seed", 4503599627370497.0},
                {"clip_norm", 0}};
    struct memopt_optimizer *optimizer = create("adamw", "threads=2");
    double number;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (memopt_optimizer_set_number(optimizer, -1, rows[i].key, rows[i].value, &error) < 0)
            fail_msg("%s", error.message);
        assert_int_equal(memopt_optimizer_get_number(optimizer, 0, rows[i].key, &number, &error),
                         0);
        assert_true(number == rows[i].value);
    }
    assert_int_equal(memopt_optimizer_set_number(optimizer, 0, "lr", INFINITY, &error), -EINVAL);
    assert_non_null(strstr(error.message, "'lr' is no finite number"));
    assert_int_equal(memopt_optimizer_get_number(optimizer, 0, "threads", &number, &error), 0);
    assert_true(number == 2);
    memopt_optimizer_destroy(optimizer);
    optimizer = create("adamw", "");
    assert_int_equal(memopt_optimizer_get_number(optimizer, 0, "threads", &number, &error), 0);
    assert_true(number >= 1);
    memopt_optimizer_destroy(optimizer);
}

/* The program's locale may have a decimal comma. */
static void numbers_in_a_locale(void **state) {
    char locales[] = "/tmp/memopt-locale-XXXXXX", command[256];
    assert_non_null(mkdtemp(locales));
    snprintf(command, sizeof(command), "localedef -c -i de_DE -f UTF-8 %s/de_DE.UTF-8 >%s/log 2>&1",
             locales, locales);
    int made = system(command);
    setenv("LOCPATH", locales, 1);
    int there = setlocale(LC_ALL, "de_DE.UTF-8") != NULL;
    if (there)
        numbers_are_exact(state);
    setlocale(LC_ALL, "C");
    unsetenv("LOCPATH");
    snprintf(command, sizeof(command), "rm -r %s", locales);
    made |= system(command);
    (void)made;
    if (!there)
        skip();
}

/* ----------------------------------------------------------- in a child each */

/* Everything of [optimizer]. */
static void from_the_ini(void) {
    write_ini("[heap.opt]\nallocator = libc\n[optimizer]\nname = sgd\nlr = 0.5\nmomentum = 0.25\n"
              "state = heap:opt\nthreads = 1\n");
    struct memopt_optimizer *optimizer = NULL;
    double value = 0;
    CHECK(memopt_optimizer_create(NULL, &optimizer, &error) == 0);
    CHECK(strcmp(memopt_optimizer_name(optimizer), "sgd") == 0);
    CHECK(memopt_optimizer_get_number(optimizer, 0, "momentum", &value, &error) == 0);
    CHECK(value == 0.25);
    data[0] = grad[0] = 1;
    CHECK(add(optimizer, "w", data, grad, 1) == 0);
    CHECK(memopt_optimizer_step(optimizer, NULL, &error) == 0);
    CHECK(data[0] == 0.5f);
    struct memopt_heap *heap = memopt_heap_find("opt");
    CHECK(heap != NULL && stats_of(heap).live_blocks > 0);
    /* a name of the program's own takes nothing but the heap and the threads */
    struct memopt_optimizer *other = create("adam", "lr=0.125");
    CHECK(memopt_optimizer_get_number(other, 0, "lr", &value, &error) == 0 && value == 0.125);
    CHECK(memopt_optimizer_get_number(other, 0, "threads", &value, &error) == 0 && value == 1);
    memopt_optimizer_destroy(other);
    memopt_optimizer_destroy(optimizer);
    CHECK(stats_of(heap).live_blocks == 0);
}
IN_CHILD(from_the_ini)

static void wrong_key_in_the_ini(void) {
    write_ini("[optimizer]\nname = adam\nmomentum = 0.5\n");
    struct memopt_optimizer *optimizer = NULL;
    CHECK(memopt_optimizer_create(NULL, &optimizer, &error) == -EINVAL);
    CHECK_TEXT(error.message, "memopt.ini:3: [optimizer]: 'momentum' is no setting of adam");
    CHECK(optimizer == NULL);
}
IN_CHILD(wrong_key_in_the_ini)

static void store_in_the_ini(void) {
    write_ini("[optimizer]\nstate = store:there\n");
    struct memopt_optimizer *optimizer = NULL;
    CHECK(memopt_optimizer_create(NULL, &optimizer, &error) == -ENOTSUP);
    CHECK_TEXT(error.message, "memopt.ini:2: [optimizer]: 'state' is 'store:");
}
IN_CHILD(store_in_the_ini)

/* After the first step there are no allocations, of any optimizer. */
static void no_allocations(void) {
    write_ini("");
    static uint16_t half[70000], half_grad[70000];
    for (size_t i = 0; i < ALL; i++) {
        struct memopt_heap *heap = open_or_die("opt", NULL);
        struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
        struct memopt_optimizer *optimizer;
        char settings[128];
        snprintf(settings, sizeof(settings), "%s threads=2 clip_norm=1 accumulate=2",
                 all[i].settings);
        options.name = all[i].name;
        options.settings = settings;
        options.heap = heap;
        CHECK(memopt_optimizer_create(&options, &optimizer, &error) == 0);
        struct memopt_param param =
            make_param("half", MEMOPT_DTYPE_F16, half, half_grad, sizeof(half) / sizeof(half[0]));
        CHECK(add(optimizer, "w", data, grad, COUNT) == 0);
        CHECK(memopt_optimizer_add(optimizer, &param, NULL, &error) == 0);
        CHECK(memopt_optimizer_step(optimizer, NULL, &error) == 0);
        struct memopt_heap_statistics before = stats_of(heap);
        for (int t = 0; t < 6; t++)
            CHECK(memopt_optimizer_step(optimizer, NULL, &error) == 0);
        CHECK(stats_of(heap).allocations == before.allocations);
        CHECK(memopt_optimizer_state_bytes(optimizer) <= before.live_bytes);
        memopt_optimizer_destroy(optimizer);
        CHECK(stats_of(heap).live_blocks == 0);
        CHECK(memopt_heap_destroy(heap, NULL) == 0);
    }
}
IN_CHILD(no_allocations)

/* Parent and child go on alone, with threads each, and come to the same. */
static void goes_on_after_fork(void) {
    enum { N = 200000 };
    static float values[N], gradient[N];
    write_ini("");
    struct memopt_optimizer *optimizer = create("adamw", "threads=3");
    fill_first(values, 0, N);
    fill_grad(gradient, 1, 0, N);
    CHECK(add(optimizer, "w", values, gradient, N) == 0);
    CHECK(memopt_optimizer_step(optimizer, NULL, &error) == 0);
    int ends[2], status;
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    close(ends[pid == 0 ? 0 : 1]); /* a child that dies must not leave the parent waiting */
    for (int t = 0; t < 3; t++)
        CHECK(memopt_optimizer_step(optimizer, NULL, &error) == 0);
    double sum = 0, other = 0;
    for (size_t i = 0; i < N; i++)
        sum += (double)values[i] * (double)(i % 17);
    memopt_optimizer_destroy(optimizer);
    if (pid == 0) {
        CHECK(write(ends[1], &sum, sizeof(sum)) == sizeof(sum));
        return;
    }
    CHECK(read(ends[0], &other, sizeof(other)) == sizeof(other) && sum == other);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}
static void goes_on_after_fork_test(void **state) {
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it allows no threads in the child of a process that had some */
#endif
    assert_int_equal(run_in_child(goes_on_after_fork), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_the_ini_test),
        cmocka_unit_test(wrong_key_in_the_ini_test),
        cmocka_unit_test(store_in_the_ini_test),
        cmocka_unit_test(no_allocations_test),
        cmocka_unit_test(goes_on_after_fork_test),
        cmocka_unit_test(step_tells),
        cmocka_unit_test(clips),
        cmocka_unit_test(skips),
        cmocka_unit_test(accumulates),
        cmocka_unit_test(groups),
        cmocka_unit_test(gradients_move),
        cmocka_unit_test(in_pieces),
        cmocka_unit_test(small_steps),
        cmocka_unit_test(masters_follow_data),
        cmocka_unit_test(eight_bits_converge),
        cmocka_unit_test(state_is_small),
        cmocka_unit_test(extremes),
        cmocka_unit_test(bad_settings),
        cmocka_unit_test(bad_changes),
        cmocka_unit_test(bad_params),
        cmocka_unit_test(saves_and_loads),
        cmocka_unit_test(saves_settings_alone),
        cmocka_unit_test(bad_files),
        cmocka_unit_test(claims_too_much),
        cmocka_unit_test(no_optimizer),
        cmocka_unit_test(no_result),
        cmocka_unit_test(numbers_are_exact),
        cmocka_unit_test(numbers_in_a_locale),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
