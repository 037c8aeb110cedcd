/*
 * accumulate.c - the sum of scaled gradients, see memopt/train.h. Compiled
 * without contraction to FMA, so that every machine rounds alike.
 */
#include "core/base/error.h"
#include "core/optim/convert.h"

#include <memopt/train.h>

#include <errno.h>
#include <math.h>

static void add_f32(float *restrict sum, const float *restrict gradient, size_t count,
                    float scale) {
    for (size_t i = 0; i < count; i++)
        sum[i] += scale * gradient[i];
}

static void add_bf16(float *restrict sum, const uint16_t *restrict gradient, size_t count,
                     float scale) {
    for (size_t i = 0; i < count; i++)
        sum[i] += scale * mo_from_bf16(gradient[i]);
}

static void add_f16(float *restrict sum, const uint16_t *restrict gradient, size_t count,
                    float scale) {
    for (size_t i = 0; i < count; i++)
        sum[i] += scale * mo_from_f16(gradient[i]);
}

int memopt_accumulate(float *sum, int dtype, const void *gradient, size_t count, double scale,
                      struct memopt_error *error) {
    if (dtype != MEMOPT_DTYPE_F32 && dtype != MEMOPT_DTYPE_BF16 && dtype != MEMOPT_DTYPE_F16)
        return mo_fail(error, -EINVAL, "gradients of type %s; expected F32, BF16 or F16",
                       memopt_dtype_name(dtype) != NULL ? memopt_dtype_name(dtype) : "unknown");
    if (!isfinite((float)scale))
        return mo_fail(error, -EINVAL, "gradients to be scaled by %g, which is not finite", scale);
    if (count == 0)
        return 0;
    if (sum == NULL || gradient == NULL)
        return mo_fail(error, -EINVAL, "memopt_accumulate: a sum and a gradient are needed");
    if (dtype == MEMOPT_DTYPE_F32)
        add_f32(sum, gradient, count, (float)scale);
    else if (dtype == MEMOPT_DTYPE_BF16)
        add_bf16(sum, gradient, count, (float)scale);
    else
        add_f16(sum, gradient, count, (float)scale);
    return 0;
}
