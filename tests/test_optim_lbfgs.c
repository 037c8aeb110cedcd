/*
 * test_optim_lbfgs.c - L-BFGS: what PyTorch's makes of small problems
 * (tests/data/optim-lbfgs-golden.txt, scripts/optim-lbfgs-golden.py), minima, and what
 * happens when the loss is not what one would wish.
 */
#include "tests/optim_noise.h"

#include <memopt/memopt.h>

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST = 200000, SAMPLES = 24, FEATURES = 6 };

static struct memopt_error error;

/* ----------------------------------------------------------------- problems */

struct problem {
    double (*loss)(struct problem *problem);
    float *x, *g;
    size_t count;
    long calls, fail_at; /* 0: never */
    int not_finite_at;
};

/* Losses in double; the parameters and gradients are fp32. */
static double rosenbrock(struct problem *p) {
    double sum = 0;
    for (size_t i = 0; i < p->count; i++)
        p->g[i] = 0;
    for (size_t i = 0; i + 1 < p->count; i++) {
        double x = (double)p->x[i], y = (double)p->x[i + 1], a = y - x * x, b = 1 - x;
        sum += 100 * a * a + b * b;
        p->g[i] = (float)((double)p->g[i] - 400 * x * a - 2 * b);
        p->g[i + 1] = (float)(200 * a);
    }
    return sum;
}

static double logistic(struct problem *p) {
    double sum = 0, gradient[FEATURES] = {0};
    for (size_t s = 0; s < SAMPLES; s++) {
        double label = noise(2, 0, s) < 0 ? -1 : 1, dot = 0;
        for (size_t i = 0; i < FEATURES; i++)
            dot += (double)noise(1, 0, s * FEATURES + i) * (double)p->x[i];
        sum += log1p(exp(-label * dot)) / SAMPLES;
        for (size_t i = 0; i < FEATURES; i++)
            gradient[i] -=
                label * (double)noise(1, 0, s * FEATURES + i) / (1 + exp(label * dot)) / SAMPLES;
    }
    for (size_t i = 0; i < FEATURES; i++) {
        double x = (double)p->x[i];
        sum += 0.005 * x * x;
        p->g[i] = (float)(gradient[i] + 0.01 * x);
    }
    return sum;
}

static double quadratic(struct problem *p) {
    double sum = 0, curvature = 1;
    for (size_t i = 0; i < p->count; i++, curvature = i % 8 == 0 ? 1 : 2 * curvature) {
        double d = (double)p->x[i] - 1;
        sum += 0.5 * curvature * d * d;
        p->g[i] = (float)(curvature * d);
    }
    return sum;
}

/* The square root's slope grows without bound towards its minimum. */
static double kink(struct problem *p) {
    double x = (double)p->x[0];
    p->g[0] = (float)(x < 0 ? -0.5 / sqrt(-x) : 0.5 / sqrt(x));
    return sqrt(fabs(x));
}

/* Says that it falls to the left, and rises everywhere. */
static double liar(struct problem *p) {
    p->g[0] = 1;
    return -(double)p->x[0];
}

/* Defined from 0 on only. */
static double logarithm(struct problem *p) {
    double x = (double)p->x[0];
    p->g[0] = (float)(x > 0 ? 1 - 1 / x : NAN);
    return x > 0 ? x - log(x) : (double)NAN;
}

static int call(void *context, double *ret_loss) {
    struct problem *p = context;
    p->calls++;
    if (p->calls == p->fail_at)
        return -EIO;
    *ret_loss = p->loss(p);
    if (p->calls == p->not_finite_at)
        p->g[0] = INFINITY;
    return 0;
}

static const struct {
    const char *name;
    double (*loss)(struct problem *);
    double tolerance; /* after the first call: in a curved valley fp32's rounding grows,
                         as it does between PyTorch's own fp32 and double */
    float first[8];
} problems[] = {
    {"rosenbrock", rosenbrock, 1e-4, {-1.2f, 1}},
    {"rosenbrock", rosenbrock, 1e-4, {-1.25f, 1, -0.5f, 0.75f}},
    {"logistic", logistic, 1e-6, {0}},
    {"logistic", logistic, 1e-6, {2, 2, 2, 2, 2, 2}},
    {"quadratic", quadratic, 5e-6, {0}},
};

/* The parameters in two tensors, where there are enough. */
static struct memopt_optimizer *create(struct memopt_heap *heap, const char *settings,
                                       struct problem *p, double (*loss)(struct problem *),
                                       size_t count) {
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    struct memopt_optimizer *optimizer = NULL;
    *p = (struct problem){.loss = loss, .count = count};
    p->x = calloc(count, sizeof(float));
    p->g = calloc(count, sizeof(float));
    assert_non_null(p->x);
    assert_non_null(p->g);
    options.name = "lbfgs";
    options.settings = settings;
    options.heap = heap;
    if (memopt_optimizer_create(&options, &optimizer, &error) < 0)
        fail_msg("%s: %s", settings, error.message);
    for (size_t i = 0; i < 2; i++) {
        struct memopt_param param = MEMOPT_PARAM_INIT;
        size_t first = i == 0 ? 0 : count / 2;
        param.name = i == 0 ? "first" : "second";
        param.data = p->x + first;
        param.grad = p->g + first;
        param.count = i == 0 ? count / 2 : count - count / 2;
        if (param.count > 0 && memopt_optimizer_add(optimizer, &param, NULL, &error) < 0)
            fail_msg("%s", error.message);
    }
    return optimizer;
}

static void destroy(struct memopt_optimizer *optimizer, struct problem *p) {
    memopt_optimizer_destroy(optimizer);
    free(p->x);
    free(p->g);
}

static struct memopt_minimized minimize(struct memopt_optimizer *optimizer, struct problem *p) {
    struct memopt_minimized done = MEMOPT_MINIMIZED_INIT;
    if (memopt_optimizer_minimize(optimizer, call, p, &done, &error) < 0)
        fail_msg("%s", error.message);
    return done;
}

/* ------------------------------------------------------------------- golden */

/* One call's line of the table against the optimizer; the largest difference,
 * relative to the size of the numbers, which are all about 1. */
static double check_call(struct memopt_optimizer *optimizer, struct problem *p, const char *line,
                         const char *what) {
    struct memopt_minimized done = minimize(optimizer, p);
    char *end;
    unsigned long evaluations = strtoul(line, &end, 10);
    double worst = fabs(p->loss(p) - strtod(end, &end));
    if (done.evaluations != evaluations)
        fail_msg("%s: %lu evaluations, PyTorch has %lu", what, (unsigned long)done.evaluations,
                 evaluations);
    for (size_t i = 0; i < p->count; i++)
        worst = fmax(worst, fabs((double)p->x[i] - strtod(end, &end)));
    return worst;
}

static void golden(void **state) {
    char path[4096], line[512], what[128] = "";
    struct memopt_optimizer *optimizer = NULL;
    struct problem problem;
    size_t cases = 0, lines = 0, calls = 0;
    (void)state;
    snprintf(path, sizeof(path), "%s/tests/data/optim-lbfgs-golden.txt", getenv("top_srcdir"));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        char name[32], settings[96];
        size_t count;
        if (line[0] == '#')
            continue;
        if (sscanf(line, "case %31s %zu %95[^\n]", name, &count, settings) != 3) {
            double off = check_call(optimizer, &problem, line, what);
            printf("%-60s %.1e\n", what, off);
            double tolerance = calls++ == 0 ? 1e-6 : problems[cases - 1].tolerance;
            if (!(off <= tolerance))
                fail_msg("%s: %g from PyTorch's", what, off);
            lines++;
            continue;
        }
        if (optimizer != NULL)
            destroy(optimizer, &problem);
        assert_true(cases < 5);
        assert_string_equal(name, problems[cases].name);
        optimizer = create(NULL, settings, &problem, problems[cases].loss, count);
        memcpy(problem.x, problems[cases].first, count * sizeof(float));
        snprintf(what, sizeof(what), "%s %s", name, settings);
        cases++;
        calls = 0;
    }
    fclose(file);
    destroy(optimizer, &problem);
    assert_int_equal(cases, 5);
    assert_int_equal(lines, 13);
}

/* ------------------------------------------------------------------- minima */

static void converges(void **state) {
    static const size_t counts[] = {2, 10, 100};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct problem problem;
        struct memopt_optimizer *optimizer =
            create(NULL, "max_iter=1000", &problem, rosenbrock, counts[i]);
        for (size_t k = 0; k < counts[i]; k++)
            problem.x[k] = k % 2 == 0 ? -1.2f : 1;
        struct memopt_minimized done = minimize(optimizer, &problem);
        printf("rosenbrock of %zu: %.1e from %.1e, %lu iterations, %lu evaluations, stop %d\n",
               counts[i], done.loss, done.first_loss, (unsigned long)done.iterations,
               (unsigned long)done.evaluations, done.stop);
        assert_true(done.loss < 1e-6 && done.loss < done.first_loss);
        assert_int_equal(done.evaluations, problem.calls);
        for (size_t k = 0; counts[i] < 100 && k < counts[i]; k++)
            assert_true(fabsf(problem.x[k] - 1) < 0.01f);
        destroy(optimizer, &problem);
    }
}

static void climbs(void **state) {
    struct problem problem;
    (void)state;
    struct memopt_optimizer *optimizer = create(NULL, "maximize=yes", &problem, quadratic, 4);
    problem.x[0] = 3;
    struct memopt_minimized done = minimize(optimizer, &problem);
    assert_true(done.loss > done.first_loss);
    destroy(optimizer, &problem);
}

/* Many chunks: the same bits on any number of threads. */
static void threads(void **state) {
    float *x[2];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct problem problem;
        struct memopt_optimizer *optimizer =
            create(NULL, i == 0 ? "max_iter=5 threads=1" : "max_iter=5 threads=3", &problem,
                   quadratic, MOST);
        for (size_t k = 0; k < MOST; k++)
            problem.x[k] = noise(0, 0, k);
        minimize(optimizer, &problem);
        minimize(optimizer, &problem);
        x[i] = malloc(MOST * sizeof(float));
        assert_non_null(x[i]);
        memcpy(x[i], problem.x, MOST * sizeof(float));
        destroy(optimizer, &problem);
    }
    assert_memory_equal(x[0], x[1], MOST * sizeof(float));
    free(x[0]);
    free(x[1]);
}

/* ------------------------------------------------------------------ trouble */

static void stops(void **state) {
    static const struct {
        double (*loss)(struct problem *);
        const char *settings;
        float x;
        int stop;
    } cases[] = {
        {quadratic, "max_iter=1", 5, MEMOPT_STOP_ITERATIONS},
        {rosenbrock, "max_iter=50 max_eval=3", 5, MEMOPT_STOP_EVALUATIONS},
        {quadratic, "", 5, MEMOPT_STOP_GRADIENT},
        {quadratic, "", 1, MEMOPT_STOP_GRADIENT},
        {quadratic, "tolerance_change=1e6", 5, MEMOPT_STOP_CHANGE},
        {liar, "", 5, MEMOPT_STOP_LINE_SEARCH},
        {logarithm, "", -1, MEMOPT_STOP_NOT_FINITE},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct problem problem;
        struct memopt_optimizer *optimizer =
            create(NULL, cases[i].settings, &problem, cases[i].loss, 2);
        problem.x[0] = cases[i].x;
        problem.x[1] = cases[i].loss == quadratic ? 1 : 0;
        float before = problem.x[0];
        struct memopt_minimized done = minimize(optimizer, &problem);
        if (done.stop != cases[i].stop)
            fail_msg("case %zu: stopped for %d", i, done.stop);
        if (done.stop >= MEMOPT_STOP_LINE_SEARCH) {
            assert_true(problem.x[0] == before && problem.x[1] == 0);
            assert_int_equal(done.iterations, 0);
            /* and it can go on */
            problem.loss = quadratic;
            done = minimize(optimizer, &problem);
            assert_true(done.loss < 1e-6);
        }
        destroy(optimizer, &problem);
    }
}

/* What is not finite along the way is a place not to go to. */
static void walls(void **state) {
    struct problem problem;
    (void)state;
    struct memopt_optimizer *optimizer = create(NULL, "lr=100", &problem, logarithm, 1);
    problem.x[0] = 20;
    struct memopt_minimized done = minimize(optimizer, &problem);
    assert_true(isfinite(done.loss) && fabsf(problem.x[0] - 1) < 0.01f);
    destroy(optimizer, &problem);

    optimizer = create(NULL, "", &problem, kink, 1);
    problem.x[0] = 3;
    done = minimize(optimizer, &problem);
    assert_true(isfinite(done.loss) && done.loss < done.first_loss);
    assert_true(isfinite((double)problem.x[0]));
    destroy(optimizer, &problem);

    optimizer = create(NULL, "", &problem, quadratic, 2);
    problem.not_finite_at = 1;
    done = minimize(optimizer, &problem);
    assert_int_equal(done.stop, MEMOPT_STOP_NOT_FINITE);
    assert_true(problem.x[0] == 0 && problem.x[1] == 0);
    destroy(optimizer, &problem);
}

/* The loss fails at each call in turn: its code comes out, the parameters are no worse
 * than before, and the next minimization works. */
static void loss_fails(void **state) {
    (void)state;
    for (long n = 1;; n++) {
        struct problem problem;
        struct memopt_optimizer *optimizer =
            create(NULL, "max_iter=10 history=3", &problem, rosenbrock, 2);
        struct memopt_minimized done = MEMOPT_MINIMIZED_INIT;
        problem.x[0] = -1.2f;
        problem.x[1] = 1;
        double before = problem.loss(&problem);
        problem.fail_at = n;
        int code = memopt_optimizer_minimize(optimizer, call, &problem, &done, &error);
        if (code == 0) {
            assert_true(n > 5);
            destroy(optimizer, &problem);
            return;
        }
        assert_int_equal(code, -EIO);
        assert_int_equal(done.evaluations, 0);
        assert_true(problem.loss(&problem) <= before);
        if (n <= 2)
            assert_true(problem.x[0] == -1.2f && problem.x[1] == 1);
        for (int i = 0; i < 10; i++)
            done = minimize(optimizer, &problem);
        assert_true(done.loss < 1e-6);
        destroy(optimizer, &problem);
    }
}

static void refuses(void **state) {
    static const char *const bad[] = {"lr=-1",
                                      "lr=nan",
                                      "history=0",
                                      "max_iter=0",
                                      "max_eval=-1",
                                      "tolerance_grad=-1",
                                      "sam=0.1",
                                      "tolerance_change=nan",
                                      "accumulate=2",
                                      "clip_norm=1",
                                      "state_format=8bit",
                                      "momentum=0.9"};
    struct memopt_param param = MEMOPT_PARAM_INIT;
    struct memopt_minimized done = MEMOPT_MINIMIZED_INIT;
    struct problem problem;
    uint16_t half[4] = {0};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
        struct memopt_optimizer *none = NULL;
        options.name = "lbfgs";
        options.settings = bad[i];
        if (memopt_optimizer_create(&options, &none, &error) >= 0 || none != NULL)
            fail_msg("%s is taken", bad[i]);
    }
    struct memopt_optimizer *optimizer = create(NULL, "", &problem, quadratic, 4);
    param.name = "half";
    param.dtype = MEMOPT_DTYPE_BF16;
    param.data = half;
    param.count = 4;
    assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), -EINVAL);
    assert_int_equal(memopt_optimizer_add_group(optimizer, "lr=2", &error), -EINVAL);
    assert_int_equal(memopt_optimizer_step(optimizer, NULL, &error), -EINVAL);
    assert_non_null(strstr(error.message, "memopt_optimizer_minimize"));
    assert_int_equal(memopt_optimizer_minimize(optimizer, NULL, NULL, NULL, &error), -EINVAL);
    done.size = 0;
    assert_int_equal(memopt_optimizer_minimize(optimizer, call, &problem, &done, &error), -EINVAL);
    assert_int_equal(memopt_optimizer_set_grad(optimizer, 1, NULL, &error), 0);
    assert_int_equal(memopt_optimizer_minimize(optimizer, call, &problem, NULL, &error), -EINVAL);
    assert_non_null(strstr(error.message, "second"));
    assert_int_equal(problem.calls, 0);
    assert_int_equal(memopt_optimizer_state_bytes(optimizer), 0);
    assert_int_equal(memopt_optimizer_set_grad(optimizer, 1, problem.g + 2, &error), 0);
    minimize(optimizer, &problem);
    assert_int_equal(memopt_optimizer_set(optimizer, MEMOPT_ALL_GROUPS, "history=20", &error),
                     -EBUSY);
    destroy(optimizer, &problem);

    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    options.name = "sgd";
    assert_int_equal(memopt_optimizer_create(&options, &optimizer, &error), 0);
    assert_int_equal(memopt_optimizer_minimize(optimizer, call, &problem, NULL, &error), -EINVAL);
    memopt_optimizer_destroy(optimizer);
}

/* -------------------------------------------------------------------- state */

static void save_and_load(void **state) {
    struct problem one, other;
    char path[64];
    (void)state;
    snprintf(path, sizeof(path), "optim-lbfgs-%d.safetensors", (int)getpid());
    struct memopt_optimizer *saved =
        create(NULL, "max_iter=4 history=3 lookahead=3", &one, rosenbrock, 10);
    struct memopt_optimizer *loaded = create(NULL, "", &other, rosenbrock, 10);
    minimize(saved, &one);
    minimize(saved, &one);
    if (memopt_optimizer_save(saved, path, &error) < 0 ||
        memopt_optimizer_load(loaded, path, &error) < 0)
        fail_msg("%s", error.message);
    memcpy(other.x, one.x, 10 * sizeof(float));
    for (int i = 0; i < 5; i++) {
        struct memopt_minimized a = minimize(saved, &one), b = minimize(loaded, &other);
        assert_memory_equal(one.x, other.x, 10 * sizeof(float));
        assert_memory_equal(&a, &b, sizeof(a));
    }
    destroy(saved, &one);
    destroy(loaded, &other);
    assert_int_equal(unlink(path), 0);
}

/* A file whose places in the history are none: it is refused, and nothing changes. */
static void load_refuses(void **state) {
    static const struct {
        size_t number;
        double value;
    } wrong[] = {{0, -1}, {1, 4}, {1, 0.5}, {1, NAN}, {2, 3}, {2, 1e300}, {2, -1}, {2, INFINITY}};
    struct problem problem;
    char path[64];
    (void)state;
    snprintf(path, sizeof(path), "optim-lbfgs-%d.safetensors", (int)getpid());
    struct memopt_optimizer *optimizer =
        create(NULL, "max_iter=4 history=3", &problem, rosenbrock, 10);
    minimize(optimizer, &problem);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct memopt_tensors *file;
        struct memopt_tensor numbers = MEMOPT_TENSOR_INIT;
        assert_int_equal(memopt_optimizer_save(optimizer, path, &error), 0);
        assert_int_equal(memopt_tensors_open(path, &file, &error), 0);
        assert_true(memopt_tensors_find(file, "first.lbfgs", &numbers, &error) >= 0);
        memopt_tensors_close(file);
        FILE *bytes = fopen(path, "r+b");
        assert_non_null(bytes);
        assert_int_equal(
            fseek(bytes, (long)(numbers.offset + wrong[i].number * sizeof(double)), SEEK_SET), 0);
        assert_int_equal(fwrite(&wrong[i].value, sizeof(double), 1, bytes), 1);
        assert_int_equal(fclose(bytes), 0);
        if (memopt_optimizer_load(optimizer, path, &error) != -EINVAL)
            fail_msg("number %zu: %g is taken", wrong[i].number, wrong[i].value);
        assert_non_null(strstr(error.message, "first.lbfgs"));
    }
    minimize(optimizer, &problem);
    destroy(optimizer, &problem);
    assert_int_equal(unlink(path), 0);
}

/* Every second minimization goes back half of the way, and begins anew. */
static void lookahead(void **state) {
    struct problem one, other;
    float slow[4] = {0};
    (void)state;
    struct memopt_optimizer *wrapped = create(NULL, "max_iter=2 lookahead=2", &one, rosenbrock, 4);
    struct memopt_optimizer *plain = create(NULL, "max_iter=2", &other, rosenbrock, 4);
    for (int i = 0; i < 2; i++) {
        minimize(wrapped, &one);
        minimize(plain, &other);
    }
    for (size_t i = 0; i < 4; i++) {
        slow[i] += 0.5f * (other.x[i] - slow[i]);
        assert_memory_equal(&one.x[i], &slow[i], sizeof(float));
    }
    one.loss = quadratic;
    for (int i = 0; i < 200; i++)
        minimize(wrapped, &one);
    assert_true(quadratic(&one) < 1e-6);
    destroy(wrapped, &one);
    destroy(plain, &other);
}

/* A parameter more: the memory of moves begins anew. */
static void grows(void **state) {
    static float more[3], slope[3];
    struct problem problem;
    struct memopt_param param = MEMOPT_PARAM_INIT;
    (void)state;
    struct memopt_optimizer *optimizer = create(NULL, "max_iter=3", &problem, rosenbrock, 4);
    minimize(optimizer, &problem);
    param.name = "more";
    param.data = more;
    param.grad = slope;
    param.count = 3;
    assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), 0);
    for (int i = 0; i < 100; i++)
        minimize(optimizer, &problem);
    assert_true(rosenbrock(&problem) < 1e-6);
    destroy(optimizer, &problem);
}

static void no_allocations(void **state) {
    struct memopt_heap_statistics first = MEMOPT_HEAP_STATISTICS_INIT, last = first;
    struct memopt_heap *heap;
    struct problem problem;
    (void)state;
    assert_int_equal(memopt_heap_open("lbfgs", NULL, &heap, &error), 0);
    struct memopt_optimizer *optimizer =
        create(heap, "max_iter=2 history=3", &problem, rosenbrock, 10);
    minimize(optimizer, &problem);
    assert_int_equal(memopt_heap_stats(heap, &first), 0);
    for (int i = 0; i < 10; i++)
        minimize(optimizer, &problem);
    assert_int_equal(memopt_heap_stats(heap, &last), 0);
    assert_int_equal(first.allocations, last.allocations);
    destroy(optimizer, &problem);
    assert_int_equal(memopt_heap_stats(heap, &last), 0);
    assert_int_equal(last.live_blocks, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),         cmocka_unit_test(converges),
        cmocka_unit_test(climbs),         cmocka_unit_test(threads),
        cmocka_unit_test(stops),          cmocka_unit_test(walls),
        cmocka_unit_test(loss_fails),     cmocka_unit_test(refuses),
        cmocka_unit_test(save_and_load),  cmocka_unit_test(grows),
        cmocka_unit_test(no_allocations), cmocka_unit_test(lookahead),
        cmocka_unit_test(load_refuses),
    };
    setenv("top_srcdir", ".", 0);
    setenv("MEMOPT_CONF", "/dev/null", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
