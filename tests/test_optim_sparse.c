/*
 * test_optim_sparse.c - SparseAdam and gradients of some rows: PyTorch's values in
 * tests/data/optim-sparse-golden.txt (scripts/optim-sparse-golden.py), any order of
 * rows, any number of threads, and rows that are left alone.
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

enum { ROWS = 37, COLUMNS = 13, ENTRIES = 11, STEPS = 20, WIDE = 700 };

static struct memopt_error error;
static int64_t rows[ENTRIES];
static float values[ENTRIES * WIDE];

/* The list of a step, as the generator makes it. */
static struct memopt_sparse_grad list(uint32_t step, uint64_t columns) {
    struct memopt_sparse_grad sparse = MEMOPT_SPARSE_GRAD_INIT;
    for (size_t i = 0; i < ENTRIES; i++)
        rows[i] = (int64_t)((noise(step, 7, i) + 1) * (ROWS / 2.0f));
    for (size_t i = 0; i < ENTRIES * columns; i++)
        values[i] = noise(step, 8, i);
    sparse.rows = rows;
    sparse.values = values;
    sparse.count = ENTRIES;
    return sparse;
}

static struct memopt_optimizer *create(struct memopt_heap *heap, const char *settings, int dtype,
                                       void *data, uint64_t columns) {
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    struct memopt_optimizer *optimizer = NULL;
    struct memopt_param param = MEMOPT_PARAM_INIT;
    options.name = "sparseadam";
    options.settings = settings;
    options.heap = heap;
    if (memopt_optimizer_create(&options, &optimizer, &error) < 0)
        fail_msg("%s: %s", settings, error.message);
    param.name = "embedding";
    param.dtype = dtype;
    param.grad_dtype = MEMOPT_DTYPE_F32;
    param.data = data;
    param.rank = 2;
    param.shape[0] = ROWS;
    param.shape[1] = columns;
    param.count = ROWS * columns;
    if (memopt_optimizer_add(optimizer, &param, NULL, &error) < 0)
        fail_msg("%s", error.message);
    return optimizer;
}

static void step_with(struct memopt_optimizer *optimizer, const struct memopt_sparse_grad *sparse) {
    if (memopt_optimizer_set_sparse_grad(optimizer, 0, sparse, &error) < 0 ||
        memopt_optimizer_step(optimizer, NULL, &error) < 0)
        fail_msg("%s", error.message);
}

static void take_steps(struct memopt_optimizer *optimizer, uint32_t first, uint32_t last,
                       uint64_t columns) {
    for (uint32_t step = first; step <= last; step++) {
        struct memopt_sparse_grad sparse = list(step, columns);
        step_with(optimizer, &sparse);
    }
}

static void compare(const char *settings, const uint32_t *words) {
    static float data[ROWS * COLUMNS + 4];
    for (size_t shift = 0; shift < 4; shift++) {
        fill_first(data + shift, 0, ROWS * COLUMNS);
        struct memopt_optimizer *optimizer =
            create(NULL, settings, MEMOPT_DTYPE_F32, data + shift, COLUMNS);
        take_steps(optimizer, 1, STEPS, COLUMNS);
        memopt_optimizer_destroy(optimizer);
        double worst = 0;
        for (size_t i = 0; i < ROWS * COLUMNS; i += 7) {
            float expected;
            memcpy(&expected, &words[i / 7], sizeof(expected));
            double off = fabs((double)data[shift + i] / (double)expected - 1);
            if (!(off <= worst))
                worst = off;
        }
        if (shift == 0)
            printf("sparseadam %-40s %.1e\n", settings, worst);
        if (!(worst <= 1e-6))
            fail_msg("%s: %g from PyTorch's, relative", settings, worst);
    }
}

static void golden(void **state) {
    enum { WORDS = (ROWS * COLUMNS + 6) / 7 };
    char path[4096], line[512], settings[512] = "";
    uint32_t words[WORDS];
    size_t count = 0, cases = 0;
    (void)state;
    snprintf(path, sizeof(path), "%s/tests/data/optim-sparse-golden.txt", getenv("top_srcdir"));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (line[0] == '#')
            continue;
        if (strncmp(line, "case", 4) == 0) {
            snprintf(settings, sizeof(settings), "%.*s", (int)strcspn(line + 4, "\n"), line + 4);
            count = 0;
            continue;
        }
        for (char *word = strtok(line, " \n"); word != NULL; word = strtok(NULL, " \n")) {
            assert_true(count < WORDS);
            words[count++] = (uint32_t)strtoul(word, NULL, 16);
        }
        if (count == WORDS) {
            compare(settings, words);
            cases++;
        }
    }
    fclose(file);
    assert_int_equal(cases, 2);
}

/* The same rows in another order are the same step. */
static void any_order(void **state) {
    static const int64_t ascending[] = {2, 5, 9, 30}, mixed[] = {30, 2, 9, 5};
    static float one[ROWS * COLUMNS], other[ROWS * COLUMNS], turned[4 * COLUMNS];
    static const size_t from[] = {3, 0, 2, 1};
    struct memopt_sparse_grad a = list(1, COLUMNS), b = a;
    (void)state;
    fill_first(one, 0, ROWS * COLUMNS);
    fill_first(other, 0, ROWS * COLUMNS);
    struct memopt_optimizer *first = create(NULL, "lr=0.1", MEMOPT_DTYPE_F32, one, COLUMNS);
    struct memopt_optimizer *second = create(NULL, "lr=0.1", MEMOPT_DTYPE_F32, other, COLUMNS);
    for (size_t i = 0; i < 4; i++)
        memcpy(turned + i * COLUMNS, values + from[i] * COLUMNS, COLUMNS * sizeof(float));
    a.rows = ascending;
    b.rows = mixed;
    b.values = turned;
    a.count = b.count = 4;
    for (int i = 0; i < 3; i++) {
        step_with(first, &a);
        step_with(second, &b);
    }
    assert_memory_equal(one, other, sizeof(one));
    memopt_optimizer_destroy(first);
    memopt_optimizer_destroy(second);
}

/* Twice the same row is their sum. */
static void duplicates(void **state) {
    static float one[ROWS * COLUMNS], other[ROWS * COLUMNS], sum[2 * COLUMNS];
    static const int64_t twice[] = {8, 3, 8, 8}, once[] = {3, 8};
    struct memopt_sparse_grad a = list(1, COLUMNS), b = a;
    (void)state;
    fill_first(one, 0, ROWS * COLUMNS);
    fill_first(other, 0, ROWS * COLUMNS);
    for (size_t k = 0; k < COLUMNS; k++) {
        sum[k] = values[COLUMNS + k];
        sum[COLUMNS + k] = values[k] + values[2 * COLUMNS + k];
        sum[COLUMNS + k] += values[3 * COLUMNS + k];
    }
    struct memopt_optimizer *first = create(NULL, "lr=0.1", MEMOPT_DTYPE_F32, one, COLUMNS);
    struct memopt_optimizer *second = create(NULL, "lr=0.1", MEMOPT_DTYPE_F32, other, COLUMNS);
    a.rows = twice;
    a.count = 4;
    b.rows = once;
    b.values = sum;
    b.count = 2;
    step_with(first, &a);
    step_with(second, &b);
    assert_memory_equal(one, other, sizeof(one));
    memopt_optimizer_destroy(first);
    memopt_optimizer_destroy(second);
}

/* Rows that have no gradient stay, and so does their state: they move as if nothing
 * had come before when their turn comes. */
static void others_stay(void **state) {
    static float data[ROWS * COLUMNS], before[ROWS * COLUMNS];
    static const int64_t three[] = {3};
    struct memopt_sparse_grad sparse = list(1, COLUMNS);
    struct memopt_step told = MEMOPT_STEP_INIT;
    (void)state;
    fill_first(data, 0, ROWS * COLUMNS);
    memcpy(before, data, sizeof(before));
    struct memopt_optimizer *optimizer = create(NULL, "", MEMOPT_DTYPE_F32, data, COLUMNS);
    sparse.rows = three;
    sparse.count = 1;
    for (int i = 0; i < 5; i++)
        step_with(optimizer, &sparse);
    for (size_t i = 0; i < ROWS * COLUMNS; i++)
        assert_true((memcmp(&data[i], &before[i], sizeof(float)) != 0) == (i / COLUMNS == 3));
    sparse = (struct memopt_sparse_grad)MEMOPT_SPARSE_GRAD_INIT;
    memcpy(before, data, sizeof(before));
    assert_int_equal(memopt_optimizer_set_sparse_grad(optimizer, 0, &sparse, &error), 0);
    assert_int_equal(memopt_optimizer_step(optimizer, &told, &error), 0);
    assert_int_equal(told.updates, 6);
    assert_memory_equal(data, before, sizeof(before));
    memopt_optimizer_destroy(optimizer);
}

/* Threads, wide rows and types: the same bits. */
static void threads(void **state) {
    static const struct {
        int dtype;
        const char *settings;
    } cases[] = {
        {MEMOPT_DTYPE_F32, "lr=0.01"},
        {MEMOPT_DTYPE_F32, "lr=0.01 clip_norm=0.5 lookahead=2"},
        {MEMOPT_DTYPE_BF16, "lr=0.01"},
        {MEMOPT_DTYPE_BF16, "lr=0.01 rounding=stochastic"},
    };
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        static float data[2][ROWS * WIDE];
        for (size_t k = 0; k < 2; k++) {
            char settings[128];
            memset(data[k], 0, sizeof(data[k]));
            if (cases[i].dtype == MEMOPT_DTYPE_F32)
                fill_first(data[k], 0, ROWS * WIDE);
            snprintf(settings, sizeof(settings), "%s threads=%d", cases[i].settings,
                     k == 0 ? 1 : 3);
            struct memopt_optimizer *optimizer =
                create(NULL, settings, cases[i].dtype, data[k], WIDE);
            take_steps(optimizer, 1, 5, WIDE);
            memopt_optimizer_destroy(optimizer);
        }
        assert_memory_equal(data[0], data[1], sizeof(data[0]));
    }
}

/* The norm is that of the sums. */
static void norm(void **state) {
    static float data[ROWS * COLUMNS], before[ROWS * COLUMNS];
    static const int64_t twice[] = {4, 4};
    struct memopt_sparse_grad sparse = list(1, COLUMNS);
    struct memopt_step told = MEMOPT_STEP_INIT;
    (void)state;
    fill_first(data, 0, ROWS * COLUMNS);
    memcpy(before, data, sizeof(before));
    struct memopt_optimizer *optimizer =
        create(NULL, "clip_norm=1 skip_nonfinite=yes", MEMOPT_DTYPE_F32, data, COLUMNS);
    memset(values, 0, sizeof(values));
    values[0] = 1;
    values[COLUMNS] = 2;
    values[COLUMNS + 1] = 4;
    sparse.rows = twice;
    sparse.count = 2;
    assert_int_equal(memopt_optimizer_set_sparse_grad(optimizer, 0, &sparse, &error), 0);
    assert_int_equal(memopt_optimizer_step(optimizer, &told, &error), 0);
    assert_true(told.grad_norm == 5);
    memcpy(before, data, sizeof(before));
    values[3] = NAN;
    assert_int_equal(memopt_optimizer_step(optimizer, &told, &error), 0);
    assert_true(told.skipped && isnan(told.grad_norm));
    assert_memory_equal(data, before, sizeof(before));
    memopt_optimizer_destroy(optimizer);
}

static void save_and_load(void **state) {
    static float one[ROWS * COLUMNS], other[ROWS * COLUMNS];
    char path[64];
    (void)state;
    snprintf(path, sizeof(path), "optim-sparse-%d.safetensors", (int)getpid());
    fill_first(one, 0, ROWS * COLUMNS);
    struct memopt_optimizer *saved = create(NULL, "lr=0.1", MEMOPT_DTYPE_F32, one, COLUMNS);
    struct memopt_optimizer *loaded = create(NULL, "", MEMOPT_DTYPE_F32, other, COLUMNS);
    take_steps(saved, 1, 5, COLUMNS);
    if (memopt_optimizer_save(saved, path, &error) < 0 ||
        memopt_optimizer_load(loaded, path, &error) < 0)
        fail_msg("%s", error.message);
    memcpy(other, one, sizeof(one));
    take_steps(saved, 6, 10, COLUMNS);
    take_steps(loaded, 6, 10, COLUMNS);
    assert_memory_equal(one, other, sizeof(one));
    memopt_optimizer_destroy(saved);
    memopt_optimizer_destroy(loaded);
    assert_int_equal(unlink(path), 0);
}

static void no_allocations(void **state) {
    static float data[ROWS * COLUMNS];
    struct memopt_heap_statistics first = MEMOPT_HEAP_STATISTICS_INIT, last = first;
    struct memopt_heap *heap;
    (void)state;
    fill_first(data, 0, ROWS * COLUMNS);
    assert_int_equal(memopt_heap_open("sparse", NULL, &heap, &error), 0);
    struct memopt_optimizer *optimizer = create(heap, "", MEMOPT_DTYPE_F32, data, COLUMNS);
    take_steps(optimizer, 1, 1, COLUMNS);
    assert_int_equal(memopt_heap_stats(heap, &first), 0);
    take_steps(optimizer, 2, 10, COLUMNS);
    assert_int_equal(memopt_heap_stats(heap, &last), 0);
    assert_int_equal(first.allocations, last.allocations);
    memopt_optimizer_destroy(optimizer);
    assert_int_equal(memopt_heap_stats(heap, &last), 0);
    assert_int_equal(last.live_blocks, 0);
}

static void refuses(void **state) {
    static const char *const bad[] = {"lr=-1",   "beta1=1",      "eps=nan",    "accumulate=2",
                                      "sam=0.1", "momentum=0.9", "beta2=-0.1", "weight_decay=1"};
    static float data[ROWS * COLUMNS], before[ROWS * COLUMNS];
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
        struct memopt_optimizer *none = NULL;
        options.name = "sparseadam";
        options.settings = bad[i];
        if (memopt_optimizer_create(&options, &none, &error) >= 0 || none != NULL)
            fail_msg("%s is taken", bad[i]);
    }
    fill_first(data, 0, ROWS * COLUMNS);
    memcpy(before, data, sizeof(before));
    struct memopt_optimizer *optimizer = create(NULL, "", MEMOPT_DTYPE_F32, data, COLUMNS);
    assert_int_equal(memopt_optimizer_step(optimizer, NULL, &error), -EINVAL); /* no gradient */
    struct memopt_sparse_grad good = list(1, COLUMNS), sparse = good;
    sparse.size = 0;
    assert_int_equal(memopt_optimizer_set_sparse_grad(optimizer, 0, &sparse, &error), -EINVAL);
    sparse = good;
    sparse.rows = NULL;
    assert_int_equal(memopt_optimizer_set_sparse_grad(optimizer, 0, &sparse, &error), -EINVAL);
    sparse = good;
    sparse.values = NULL;
    assert_int_equal(memopt_optimizer_set_sparse_grad(optimizer, 0, &sparse, &error), -EINVAL);
    sparse.values = (const char *)values + 1;
    assert_int_equal(memopt_optimizer_set_sparse_grad(optimizer, 0, &sparse, &error), -EINVAL);
    assert_int_equal(memopt_optimizer_set_sparse_grad(optimizer, 1, &good, &error), -EINVAL);
    assert_int_equal(memopt_optimizer_set_grad(optimizer, 0, data, &error), -EINVAL);
    assert_int_equal(memopt_optimizer_step(optimizer, NULL, &error), -EINVAL);
    assert_int_equal(memopt_optimizer_set_sparse_grad(optimizer, 0, &good, &error), 0);
    for (int i = 0; i < 2; i++) {
        rows[5] = i == 0 ? -1 : ROWS;
        assert_int_equal(memopt_optimizer_step(optimizer, NULL, &error), -EINVAL);
        assert_non_null(strstr(error.message, "embedding"));
    }
    assert_int_equal(memopt_optimizer_state_bytes(optimizer), 0);
    assert_int_equal(memopt_optimizer_set_sparse_grad(optimizer, 0, NULL, &error), 0);
    assert_int_equal(memopt_optimizer_step(optimizer, NULL, &error), -EINVAL);
    assert_memory_equal(data, before, sizeof(before));
    memopt_optimizer_destroy(optimizer);

    /* dense optimizers take none, and this one no dense ones */
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    struct memopt_param param = MEMOPT_PARAM_INIT;
    options.name = "adam";
    assert_int_equal(memopt_optimizer_create(&options, &optimizer, &error), 0);
    param.name = "w";
    param.data = data;
    param.grad = before;
    param.count = 4;
    assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), 0);
    assert_int_equal(memopt_optimizer_set_sparse_grad(optimizer, 0, &good, &error), -EINVAL);
    memopt_optimizer_destroy(optimizer);
    optimizer = create(NULL, "", MEMOPT_DTYPE_F32, data, COLUMNS);
    assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), -EINVAL);
    memopt_optimizer_destroy(optimizer);
}

/* Lookahead goes over whole parameters, of whose gradient there are only rows. */
static void lookahead_of_16_bits(void **state) {
    static float data[2][ROWS * COLUMNS];
    static uint16_t halves[ENTRIES * COLUMNS];
    (void)state;
    for (size_t narrow = 0; narrow < 2; narrow++) {
        struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
        struct memopt_optimizer *optimizer;
        struct memopt_param param = MEMOPT_PARAM_INIT;
        fill_first(data[narrow], 0, ROWS * COLUMNS);
        options.name = "sparseadam";
        options.settings = "lr=0.01 lookahead=2";
        assert_int_equal(memopt_optimizer_create(&options, &optimizer, &error), 0);
        param.name = "embedding";
        param.grad_dtype = narrow ? MEMOPT_DTYPE_BF16 : MEMOPT_DTYPE_F32;
        param.data = data[narrow];
        param.rank = 2;
        param.shape[0] = ROWS;
        param.shape[1] = COLUMNS;
        param.count = ROWS * COLUMNS;
        assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), 0);
        for (uint32_t step = 1; step <= 4; step++) {
            struct memopt_sparse_grad sparse = list(step, COLUMNS);
            for (size_t i = 0; i < ENTRIES * COLUMNS; i++) { /* what bf16 can say */
                uint32_t bits;
                memcpy(&bits, &values[i], sizeof(bits));
                halves[i] = (uint16_t)(bits >> 16);
                bits &= 0xffff0000u;
                memcpy(&values[i], &bits, sizeof(bits));
            }
            sparse.values = narrow ? (const void *)halves : values;
            step_with(optimizer, &sparse);
        }
        memopt_optimizer_destroy(optimizer);
    }
    assert_memory_equal(data[0], data[1], sizeof(data[0]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),        cmocka_unit_test(any_order),
        cmocka_unit_test(duplicates),    cmocka_unit_test(others_stay),
        cmocka_unit_test(threads),       cmocka_unit_test(norm),
        cmocka_unit_test(save_and_load), cmocka_unit_test(no_allocations),
        cmocka_unit_test(refuses),       cmocka_unit_test(lookahead_of_16_bits),
    };
    setenv("top_srcdir", ".", 0);
    setenv("MEMOPT_CONF", "/dev/null", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
