/*
 * test_optim_place.c - optimizers over a place that is not one block of memory: each
 * range that is acquired lies somewhere else, and is gone when it is released. What comes
 * out is, bit for bit, what memory gives. And: what methods say they need.
 *
 * The library's own objects, so that the place can be exchanged.
 */
#include "core/optim/optim.h"
#include "tests/optim_noise.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct memopt_error error;

/* ---------------------------------------------------------- the other place */

struct elsewhere {
    struct mo_place place;
    struct mo_place *ram; /* where the numbers are while nobody has them */
    _Atomic unsigned held;
    int has_lost; /* a range was released as clean that had been written */
};

static struct elsewhere *of(struct mo_place *place) {
    return (struct elsewhere *)place;
}
static struct mo_place *ram_of(struct mo_place *place) {
    return of(place)->ram;
}
static void copy_extents(struct mo_place *place) {
    place->extents = ram_of(place)->extents;
    place->tensor_count = ram_of(place)->tensor_count;
    place->chunk_count = ram_of(place)->chunk_count;
}
static int elsewhere_add(struct mo_place *place, uint64_t count) {
    int code = ram_of(place)->ops->add(ram_of(place), count);
    copy_extents(place);
    return code;
}
static void elsewhere_bind(struct mo_place *place, size_t tensor, size_t region, void *address) {
    ram_of(place)->ops->bind(ram_of(place), tensor, region, address);
}
static int elsewhere_make(struct mo_place *place, size_t tensor, const struct mo_layout *layout) {
    return ram_of(place)->ops->make(ram_of(place), tensor, layout);
}
static void elsewhere_drop(struct mo_place *place, size_t tensor) {
    ram_of(place)->ops->drop(ram_of(place), tensor);
}

static size_t bytes_of(const struct mo_region *region, struct mo_range range) {
    size_t bytes = mo_element_size(region->dtype), every = (size_t)region->every;
    int codes = region->dtype == MEMOPT_DTYPE_U8; /* of whole blocks */
    size_t count = codes ? (range.count + MO_BLOCK - 1) / MO_BLOCK * MO_BLOCK : range.count;
    return bytes * (every == 0 ? (size_t)region->count : (count + every - 1) / every);
}

static void elsewhere_acquire(struct mo_place *place, struct mo_range range,
                              struct mo_span *ret_span) {
    ram_of(place)->ops->acquire(ram_of(place), range, ret_span);
    for (size_t i = 0; i < ret_span->layout->end; i++) {
        if (ret_span->at[i] == NULL)
            continue;
        size_t bytes = bytes_of(&ret_span->layout->regions[i], range);
        void *copy = malloc(bytes);
        assert_non_null(copy);
        ret_span->at[i] = memcpy(copy, ret_span->at[i], bytes);
    }
    of(place)->held++;
}

static void elsewhere_release(struct mo_place *place, const struct mo_span *span, int dirty) {
    struct mo_span home;
    ram_of(place)->ops->acquire(ram_of(place), span->range, &home);
    for (size_t i = 0; i < span->layout->end; i++) {
        if (span->at[i] == NULL)
            continue;
        size_t bytes = bytes_of(&span->layout->regions[i], span->range);
        if (dirty && i != MO_AT_GRAD)
            memcpy(home.at[i], span->at[i], bytes);
        else if (memcmp(home.at[i], span->at[i], bytes) != 0)
            of(place)->has_lost = 1;
        memset(span->at[i], 0xee, bytes);
        free(span->at[i]);
    }
    of(place)->held--;
}

static double elsewhere_reduce(struct mo_place *place, const double *made, size_t stride,
                               size_t first, size_t count, enum mo_reduction reduction) {
    assert_int_equal(of(place)->held == 0 || of(place)->held == place->tensor_count, 1);
    return ram_of(place)->ops->reduce(ram_of(place), made, stride, first, count, reduction);
}
static void elsewhere_destroy(struct mo_place *place) {
    ram_of(place)->ops->destroy(ram_of(place));
    free(place);
}

static const struct mo_place_ops elsewhere_ops = {
    .add = elsewhere_add,
    .bind = elsewhere_bind,
    .make = elsewhere_make,
    .drop = elsewhere_drop,
    .acquire = elsewhere_acquire,
    .release = elsewhere_release,
    .reduce = elsewhere_reduce,
    .destroy = elsewhere_destroy,
};

/* ---------------------------------------------------------------- the tests */

enum { TENSORS = 2, ROWS = 100, COLUMNS = 700, SMALL = 1000, STEPS = 5, LISTED = 30 };
static const uint64_t counts[TENSORS] = {ROWS * COLUMNS, SMALL};

struct model {
    struct memopt_optimizer *optimizer;
    int dtype;
    float data[TENSORS][ROWS * COLUMNS], grad[TENSORS][ROWS * COLUMNS];
    int64_t rows[LISTED];
};

static void fill(struct model *model, int dtype) {
    model->dtype = dtype;
    for (uint32_t i = 0; i < TENSORS; i++) {
        if (dtype == MEMOPT_DTYPE_F32) {
            fill_first(model->data[i], i, (size_t)counts[i]);
            continue;
        }
        uint16_t *to = (uint16_t *)(void *)model->data[i];
        for (size_t k = 0; k < counts[i]; k++) { /* bf16: the upper half */
            uint32_t bits;
            float x = noise(0, i, k);
            memcpy(&bits, &x, sizeof(bits));
            to[k] = (uint16_t)(bits >> 16);
        }
    }
}

static void build(struct model *model, const char *method, const char *settings, int dtype,
                  int is_elsewhere) {
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    char all[200];
    options.name = method;
    options.settings = all;
    snprintf(all, sizeof(all), "threads=2 %s", settings);
    memset(model, 0, sizeof(*model));
    fill(model, dtype);
    if (memopt_optimizer_create(&options, &model->optimizer, &error) < 0)
        fail_msg("%s %s: %s", method, settings, error.message);
    if (is_elsewhere) {
        struct elsewhere *place = calloc(1, sizeof(*place));
        assert_non_null(place);
        place->place.ops = &elsewhere_ops;
        place->ram = model->optimizer->place;
        model->optimizer->place = &place->place;
    }
    for (size_t i = 0; i < TENSORS; i++) {
        struct memopt_param param = MEMOPT_PARAM_INIT;
        param.name = i == 0 ? "large" : "small";
        param.dtype = dtype;
        param.grad_dtype = MEMOPT_DTYPE_F32;
        param.data = model->data[i];
        param.grad = strcmp(method, "sparseadam") == 0 ? NULL : model->grad[i];
        param.count = counts[i];
        param.rank = 2;
        param.shape[0] = i == 0 ? ROWS : 1;
        param.shape[1] = i == 0 ? COLUMNS : SMALL;
        assert_int_equal(memopt_optimizer_add(model->optimizer, &param, NULL, &error), 0);
    }
}

static int loss(void *context, double *ret_loss) {
    struct model *model = context;
    *ret_loss = 0;
    for (uint32_t i = 0; i < TENSORS; i++)
        for (size_t k = 0; k < counts[i]; k++) {
            float d = model->data[i][k] - noise(9, i, k);
            *ret_loss += (double)(d * d);
            model->grad[i][k] = 2 * d;
        }
    return 0;
}

static void list_rows(struct model *model, uint32_t step) {
    for (size_t k = 0; k < LISTED; k++)
        model->rows[k] = (int64_t)((noise(step, 7, k) + 1) * (ROWS / 2.0f));
    for (size_t i = 0; i < TENSORS; i++) {
        struct memopt_sparse_grad sparse = MEMOPT_SPARSE_GRAD_INIT;
        static const int64_t first_row[1] = {0};
        sparse.rows = i == 0 ? model->rows : first_row;
        sparse.values = model->grad[i];
        sparse.count = i == 0 ? LISTED : 1;
        assert_int_equal(memopt_optimizer_set_sparse_grad(model->optimizer, i, &sparse, &error), 0);
    }
}

static void train(struct model *model) {
    const struct mo_method *method = model->optimizer->method;
    double sam = 0;
    assert_int_equal(memopt_optimizer_get_number(model->optimizer, 0, "sam", &sam, &error), 0);
    for (uint32_t step = 1; step <= STEPS; step++) {
        for (uint32_t i = 0; i < TENSORS; i++)
            fill_grad(model->grad[i], step, i, (size_t)counts[i]);
        if (method->by_loss) {
            assert_int_equal(memopt_optimizer_minimize(model->optimizer, loss, model, NULL, &error),
                             0);
            continue;
        }
        if (method->sparse)
            list_rows(model, step);
        if (sam > 0)
            assert_int_equal(memopt_optimizer_perturb(model->optimizer, NULL, &error), 0);
        if (memopt_optimizer_step(model->optimizer, NULL, &error) < 0)
            fail_msg("%s: %s", method->name, error.message);
    }
}

/* Masters, moments and all else that one record has. */
static void compare_state(const struct model *a, const struct model *b, const char *what) {
    for (size_t i = 0; i < TENSORS; i++) {
        struct mo_range range = {i, 0, (size_t)counts[i]};
        struct mo_span x, y;
        struct mo_place *p = a->optimizer->place, *q = b->optimizer->place;
        p->ops->acquire(p, range, &x);
        q->ops->acquire(q, range, &y);
        assert_true(mo_layout_same(x.layout, y.layout));
        for (size_t k = 0; k < x.layout->end; k++)
            if (x.at[k] != NULL && !x.layout->regions[k].scratch &&
                memcmp(x.at[k], y.at[k], mo_region_bytes(&x.layout->regions[k])) != 0)
                fail_msg("%s: tensor %zu differs in '%s'", what, i, x.layout->regions[k].name);
        p->ops->release(p, &x, 0);
        q->ops->release(q, &y, 0);
    }
}

static struct model here, there;
static void check_one(const char *method, const char *settings, int dtype) {
    build(&here, method, settings, dtype, 0);
    build(&there, method, settings, dtype, 1);
    train(&here);
    train(&there);
    char what[200];
    snprintf(what, sizeof(what), "%s %s", method, settings);
    compare_state(&here, &there, what);
    struct elsewhere *place = of(there.optimizer->place);
    if (place->has_lost || place->held != 0)
        fail_msg("%s: %s", what, place->has_lost ? "released as clean" : "not released");
    memopt_optimizer_destroy(here.optimizer);
    memopt_optimizer_destroy(there.optimizer);
}

static void every_method(void **state) {
    (void)state;
    for (size_t i = 0; i < mo_method_count; i++)
        check_one(mo_methods[i]->name, "", MEMOPT_DTYPE_F32);
}

static void every_format(void **state) {
    static const char *const settings[] = {
        "rounding=master", "rounding=stochastic state_format=8bit",
        "accumulate=2",    "accumulate=2 clip_norm=1",
        "lookahead=2",     "lookahead=2 rounding=master",
        "sam=0.1",         "sam=0.1 sam_adaptive=yes",
        "clip_norm=1",
    };
    static const char *const methods[] = {"adamw", "lamb", "adafactor"};
    (void)state;
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        for (size_t k = 0; k < sizeof(methods) / sizeof(methods[0]); k++)
            if (k == 0 || strstr(settings[i], "8bit") == NULL) /* only the first has that */
                check_one(methods[k], settings[i], MEMOPT_DTYPE_BF16);
}

/* A method says what it needs, and has what that is for. */
static void declared_needs(void **state) {
    (void)state;
    for (size_t i = 0; i < mo_method_count; i++) {
        const struct mo_method *method = mo_methods[i];
        int norms = (method->needs & MO_NEEDS_NORMS) != 0;
        int tensors = (method->needs & MO_NEEDS_TENSORS) != 0;
        if (norms != (method->finish != NULL))
            fail_msg("%s: two passes and finish() go together", method->name);
        if (!tensors &&
            (method->parts != NULL || method->survey != NULL || method->sparse || method->by_loss))
            fail_msg("%s needs whole tensors", method->name);
        if ((method->needs & MO_NEEDS_ELEMENTS) != (norms || tensors ? 0 : MO_NEEDS_ELEMENTS))
            fail_msg("%s: elements alone, or others", method->name);
    }
}

static void chunks_and_regions(void **state) {
    const struct mo_extent extents[] = {{1, 0}, {MO_CHUNK, 1}, {MO_CHUNK + 1, 2}};
    static const struct {
        size_t chunk, tensor;
        uint64_t first;
        size_t count;
    } expected[] = {{0, 0, 0, 1}, {1, 1, 0, MO_CHUNK}, {2, 2, 0, MO_CHUNK}, {3, 2, MO_CHUNK, 1}};
    struct mo_layout layout = {.bytes = 0};
    (void)state;
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        struct mo_range range = mo_chunk_range(extents, 3, expected[i].chunk);
        assert_int_equal(range.tensor, expected[i].tensor);
        assert_int_equal(range.first, expected[i].first);
        assert_int_equal(range.count, expected[i].count);
    }
    mo_layout_put(&layout, 0,
                  (struct mo_region){"a", .count = 3, .every = 1, .dtype = MEMOPT_DTYPE_F32});
    mo_layout_put(&layout, 2,
                  (struct mo_region){"b", .count = 9, .every = 256, .dtype = MEMOPT_DTYPE_F32});
    assert_int_equal(layout.regions[2].offset, MO_LINE);
    assert_int_equal(layout.bytes, 2 * MO_LINE);
    assert_int_equal(mo_region_at(&layout.regions[0], 512), 2048);
    assert_int_equal(mo_region_at(&layout.regions[2], 512), 8);
    mo_layout_put(&layout, 3,
                  (struct mo_region){"c", .count = UINT64_MAX, .dtype = MEMOPT_DTYPE_F64});
    assert_int_equal(layout.bytes, SIZE_MAX);
}

int main(void) {
#if defined __SANITIZE_THREAD__
    /* The test's place copies a tensor's arrays that are no range with every chunk. */
    return 77;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_and_regions),
        cmocka_unit_test(declared_needs),
        cmocka_unit_test(every_method),
        cmocka_unit_test(every_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
