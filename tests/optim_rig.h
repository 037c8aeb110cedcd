/*
 * optim_rig.h - an optimizer and its parameters, of every shape and type that the
 * tests of optimizers use: made, filled, stepped, compared.
 */
#ifndef TESTS_OPTIM_RIG_H
#define TESTS_OPTIM_RIG_H

#include "tests/optim_noise.h"

#include <memopt/memopt.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RIG_TENSORS = 3 };

struct rig {
    struct memopt_optimizer *optimizer;
    uint64_t count[RIG_TENSORS];
    int dtype;
    void *data[RIG_TENSORS]; /* of dtype */
    float *grad[RIG_TENSORS];
};

static inline uint16_t rig_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return (uint16_t)(bits >> 16);
}
/* fp16 of a normal number, rounded down. */
static inline uint16_t rig_f16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return (uint16_t)((bits >> 16 & 0x8000u) | (((bits & 0x7fffffffu) >> 13) - (112u << 10)));
}

static inline size_t rig_bytes(const struct rig *rig, size_t t) {
    return (size_t)rig->count[t] * (rig->dtype == MEMOPT_DTYPE_F32 ? 4 : 2);
}

static inline float *rig_f32(const struct rig *rig, size_t t) {
    return rig->data[t];
}

static inline void rig_fill(struct rig *rig) {
    for (uint32_t t = 0; t < RIG_TENSORS; t++) {
        float *first = malloc((size_t)rig->count[t] * sizeof(float));
        assert_non_null(first);
        fill_first(first, t, (size_t)rig->count[t]);
        for (size_t i = 0; i < rig->count[t]; i++) {
            if (rig->dtype == MEMOPT_DTYPE_F32)
                rig_f32(rig, t)[i] = first[i];
            else
                ((uint16_t *)rig->data[t])[i] =
                    rig->dtype == MEMOPT_DTYPE_BF16 ? rig_bf16(first[i]) : rig_f16(first[i]);
        }
        free(first);
    }
}

static inline int rig_add(struct rig *rig, size_t t, uint64_t rows, uint64_t columns,
                          struct memopt_error *error) {
    char name[16];
    struct memopt_param param = MEMOPT_PARAM_INIT;
    snprintf(name, sizeof(name), "t%zu", t);
    param.name = name;
    param.dtype = rig->dtype;
    param.grad_dtype = MEMOPT_DTYPE_F32;
    param.data = rig->data[t];
    param.grad = rig->grad[t];
    param.count = rig->count[t];
    param.rank = rows == 0 ? 1 : 2;
    param.shape[0] = rows == 0 ? columns : rows;
    param.shape[1] = columns;
    return memopt_optimizer_add(rig->optimizer, &param, NULL, error);
}

/* Tensors of 7, `columns` and rows x columns elements. */
static inline void rig_open_in(struct rig *rig, struct memopt_heap *heap, const char *name,
                               const char *settings, int dtype, uint64_t rows, uint64_t columns) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    options.name = name;
    options.settings = settings;
    options.heap = heap;
    *rig = (struct rig){.dtype = dtype, .count = {7, columns, rows * columns}};
    if (memopt_optimizer_create(&options, &rig->optimizer, &error) < 0)
        fail_msg("%s %s: %s", name, settings, error.message);
    for (size_t t = 0; t < RIG_TENSORS; t++) {
        rig->data[t] = calloc((size_t)rig->count[t], sizeof(float));
        rig->grad[t] = calloc((size_t)rig->count[t], sizeof(float));
        assert_non_null(rig->data[t]);
        assert_non_null(rig->grad[t]);
    }
    rig_fill(rig);
    assert_int_equal(rig_add(rig, 0, 0, 7, &error), 0);
    assert_int_equal(rig_add(rig, 1, 0, columns, &error), 0);
    assert_int_equal(rig_add(rig, 2, rows, columns, &error), 0);
}
static inline void rig_open(struct rig *rig, const char *name, const char *settings, int dtype) {
    rig_open_in(rig, NULL, name, settings, dtype, 13, 79);
}

static inline void rig_close(struct rig *rig) {
    memopt_optimizer_destroy(rig->optimizer);
    for (size_t t = 0; t < RIG_TENSORS; t++) {
        free(rig->data[t]);
        free(rig->grad[t]);
    }
}

/* The gradients of a step. */
static inline void rig_grads(struct rig *rig, uint32_t step) {
    for (uint32_t t = 0; t < RIG_TENSORS; t++)
        fill_grad(rig->grad[t], step, t, (size_t)rig->count[t]);
}

static inline void rig_update(struct rig *rig) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (memopt_optimizer_step(rig->optimizer, NULL, &error) < 0)
        fail_msg("%s: %s", memopt_optimizer_name(rig->optimizer), error.message);
}
static inline void rig_step(struct rig *rig, uint32_t step) {
    rig_grads(rig, step);
    rig_update(rig);
}

static inline void rig_equal(const struct rig *a, const struct rig *b, const char *what) {
    for (size_t t = 0; t < RIG_TENSORS; t++)
        if (memcmp(a->data[t], b->data[t], rig_bytes(a, t)) != 0)
            fail_msg("%s: tensor %zu differs", what, t);
}

#endif
