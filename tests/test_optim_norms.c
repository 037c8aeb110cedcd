/*
 * test_optim_norms.c - the vectorized kernels of LARS, LAMB, Adafactor and SparseAdam
 * against scalar references, bit by bit, over several chunks and rows that cross them.
 *
 * Sums are part of what must be the same: in double, in 16 lanes a run of elements
 * (a chunk, or what a chunk has of a row), runs in their order. The references are
 * compiled without vectorization, see optim.mk.
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

enum { CHUNK = 65536, LANES = 16, STRIP = 256, ROWS = 67, COLUMNS = 2111, STEPS = 4 };
enum { COUNT = ROWS * COLUMNS };

#define F(X) ((float)(X))

static float p[COUNT], g[COUNT], m[COUNT], v[COUNT], u[COUNT], row[ROWS], column[COLUMNS];
static float data[COUNT + 1], grad[COUNT + 1];

/* The sum of squares of x[from] to x[to]: lanes, then the lanes. */
static double square_run(const float *x, size_t from, size_t to) {
    double lanes[LANES] = {0}, sum = 0;
    for (size_t i = from; i < to; i++)
        lanes[(i - from) % LANES] += (double)x[i] * (double)x[i];
    for (size_t k = 0; k < LANES; k++)
        sum += lanes[k];
    return sum;
}

/* The norm, or its square, of a tensor: chunks, and in them pieces of rows. */
static double square_of(const float *x, size_t columns) {
    double sum = 0;
    for (size_t chunk = 0; chunk < COUNT; chunk += CHUNK) {
        size_t end = chunk + CHUNK < COUNT ? chunk + CHUNK : COUNT;
        double part = 0;
        for (size_t at = chunk; at < end;) {
            size_t stop = (at / columns + 1) * columns;
            stop = stop < end ? stop : end;
            part += square_run(x, at, stop);
            at = stop;
        }
        sum += part;
    }
    return sum;
}
static double norm_of(const float *x) {
    return sqrt(square_of(x, COUNT));
}

/* --------------------------------------------------------------- references */

/* lr=0.5 trust=0.01 weight_decay=0.1 */
static void lars(int t) {
    double wp = norm_of(p), wg = norm_of(g);
    float step = F(0.5 * (0.01 * wp / (wg + 0.1 * wp + 0)));
    (void)t;
    for (size_t i = 0; i < COUNT; i++) {
        float d = g[i] + F(0.1) * p[i];
        m[i] = F(0.9) * m[i] + step * d;
        p[i] = p[i] - m[i];
    }
}

/* lr=0.01 weight_decay=0.1 */
static void lamb(int t) {
    float x = F(1 / (1 - pow(0.9, t))), root = F(1 / sqrt(1 - pow(0.999, t)));
    for (size_t i = 0; i < COUNT; i++) {
        m[i] = F(0.9) * m[i] + F(1 - 0.9) * g[i];
        v[i] = F(0.999) * v[i] + F(1 - 0.999) * (g[i] * g[i]);
        u[i] = x * m[i] / (root * sqrtf(v[i]) + F(1e-6)) + F(0.1) * p[i];
    }
    float step = F(0.01 * (norm_of(p) / norm_of(u)));
    for (size_t i = 0; i < COUNT; i++)
        p[i] = p[i] - step * u[i];
}

/* The second half of both kinds of Adafactor; u is there, with beta1=0.9 lr=0.02
 * weight_decay=0.1. */
static void adafactor_update(int t, size_t columns) {
    double pp = sqrt(square_of(p, columns) / COUNT), uu = sqrt(square_of(u, columns) / COUNT);
    double step = 1 / sqrt(t) < 0.02 ? 1 / sqrt(t) : 0.02;
    step *= pp > 1e-3 ? pp : 1e-3;
    float decay = F(step * 0.1), size = F(step / (uu > 1 ? uu : 1));
    for (size_t i = 0; i < COUNT; i++) {
        m[i] = F(0.9) * m[i] + F(1 - 0.9) * (size * u[i]);
        p[i] = p[i] - (decay * p[i] + m[i]);
    }
}

static void adafactor_matrix(int t) {
    float b = F(1 - pow(t, -0.8)), a = F(pow(t, -0.8));
    static double sums[COLUMNS];
    double mean = 0;
    memset(sums, 0, sizeof(sums));
    for (size_t r = 0; r < ROWS; r++) {
        double strips[STRIP] = {0}, sum = 0;
        for (size_t c = 0; c < COLUMNS; c++) {
            double d = (double)g[r * COLUMNS + c];
            strips[c % STRIP] += d * d;
            sums[c] += d * d;
        }
        for (size_t k = 0; k < STRIP; k++)
            sum += strips[k];
        row[r] = b * row[r] + a * (F(sum / COLUMNS) + F(1e-30));
        mean += (double)row[r];
    }
    for (size_t c = 0; c < COLUMNS; c++)
        column[c] = b * column[c] + a * (F(sums[c] / ROWS) + F(1e-30));
    for (size_t i = 0; i < COUNT; i++) {
        float x = sqrtf(F(mean / ROWS) / row[i / COLUMNS]);
        u[i] = x * g[i] / sqrtf(column[i % COLUMNS]);
    }
    adafactor_update(t, COLUMNS);
}

static void adafactor_vector(int t) {
    float b = F(1 - pow(t, -0.8)), a = F(pow(t, -0.8));
    for (size_t i = 0; i < COUNT; i++) {
        v[i] = b * v[i] + a * (g[i] * g[i] + F(1e-30));
        u[i] = g[i] / sqrtf(v[i]);
    }
    adafactor_update(t, COUNT);
}

/* Every third row. */
static void sparseadam(int t) {
    float step = F(0.01 * sqrt(1 - pow(0.999, t)) / (1 - pow(0.9, t)));
    for (size_t i = 0; i < COUNT; i++) {
        if (i / COLUMNS % 3 != 1)
            continue;
        float d = g[i / COLUMNS / 3 * COLUMNS + i % COLUMNS];
        m[i] = m[i] + F(1 - 0.9) * (d - m[i]);
        v[i] = v[i] + F(1 - 0.999) * (d * d - v[i]);
        p[i] = p[i] - step * (m[i] / (sqrtf(v[i]) + F(1e-8)));
    }
}

/* --------------------------------------------------------------- comparison */

static const struct {
    const char *name, *settings;
    void (*reference)(int t);
    unsigned rank;
} cases[] = {
    {"lars", "lr=0.5 trust=0.01 weight_decay=0.1", lars, 2},
    {"lamb", "lr=0.01 weight_decay=0.1", lamb, 2},
    {"adafactor", "beta1=0.9 lr=0.02 weight_decay=0.1", adafactor_matrix, 2},
    {"adafactor", "beta1=0.9 lr=0.02 weight_decay=0.1", adafactor_vector, 1},
    {"sparseadam", "lr=0.01", sparseadam, 2},
};
enum { CASES = sizeof(cases) / sizeof(cases[0]) };

static struct memopt_optimizer *create(size_t which, int threads, size_t shift) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    struct memopt_param param = MEMOPT_PARAM_INIT;
    struct memopt_sparse_grad sparse = MEMOPT_SPARSE_GRAD_INIT;
    struct memopt_optimizer *optimizer = NULL;
    static int64_t rows[ROWS];
    int is_sparse = strcmp(cases[which].name, "sparseadam") == 0;
    char settings[128];
    snprintf(settings, sizeof(settings), "%s threads=%d", cases[which].settings, threads);
    options.name = cases[which].name;
    options.settings = settings;
    if (memopt_optimizer_create(&options, &optimizer, &error) < 0)
        fail_msg("%s: %s", cases[which].name, error.message);
    param.name = "p";
    param.data = data + shift;
    param.grad = is_sparse ? NULL : grad + shift;
    param.count = COUNT;
    param.rank = cases[which].rank;
    param.shape[0] = param.rank == 1 ? COUNT : ROWS;
    param.shape[1] = COLUMNS;
    assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), 0);
    for (int64_t i = 1; i < ROWS; i += 3)
        rows[sparse.count++] = i;
    sparse.rows = rows;
    sparse.values = grad + shift;
    if (is_sparse)
        assert_int_equal(memopt_optimizer_set_sparse_grad(optimizer, 0, &sparse, &error), 0);
    return optimizer;
}

static void compare(size_t which, int threads, size_t shift) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    fill_first(p, 0, COUNT);
    memcpy(data + shift, p, sizeof(p));
    memset(m, 0, sizeof(m));
    memset(v, 0, sizeof(v));
    memset(row, 0, sizeof(row));
    memset(column, 0, sizeof(column));
    struct memopt_optimizer *optimizer = create(which, threads, shift);
    for (int t = 1; t <= STEPS; t++) {
        fill_grad(g, (uint32_t)t, 0, COUNT);
        memcpy(grad + shift, g, sizeof(g));
        cases[which].reference(t);
        assert_int_equal(memopt_optimizer_step(optimizer, NULL, &error), 0);
        for (size_t i = 0; i < COUNT; i++)
            if (memcmp(&data[shift + i], &p[i], sizeof(float)) != 0)
                fail_msg("%s, rank %u, step %d, %d threads, element %zu: %a, not %a",
                         cases[which].name, cases[which].rank, t, threads, i,
                         (double)data[shift + i], (double)p[i]);
    }
    memopt_optimizer_destroy(optimizer);
}

static void bit_for_bit(void **state) {
    (void)state;
    for (size_t which = 0; which < CASES; which++)
        for (int threads = 1; threads <= 3; threads += 2)
            compare(which, threads, threads == 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bit_for_bit),
    };
    setenv("MEMOPT_CONF", "/dev/null", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
