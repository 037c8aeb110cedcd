/*
 * gradient.c - passes over gradients: the sum of squares and accumulation.
 *
 * Squares of fp32 numbers don't overflow in double, so the sum is finite if and
 * only if every gradient is: one pass finds both the norm and what is not finite.
 * The order of the sum is fixed (lanes, then the lanes in order), so that it is
 * the same for every width of vectors.
 */
#include "core/optim/convert.h"
#include "core/optim/kernel.h"

#include <memopt/dtype.h>

enum { LANES = 32 }; /* independent sums: enough to hide an addition's latency */

#define SUM_SQUARES(NAME, TYPE, TO_FLOAT)                                                          \
    static MO_KERNEL double NAME(const TYPE *grad, size_t n) {                                     \
        double lanes[LANES] = {0}, sum = 0;                                                        \
        size_t i = 0;                                                                              \
        for (; i + LANES <= n; i += LANES)                                                         \
            for (size_t k = 0; k < LANES; k++) {                                                   \
                double x = (double)TO_FLOAT(grad[i + k]);                                          \
                lanes[k] += x * x;                                                                 \
            }                                                                                      \
        for (size_t k = 0; i < n; i++, k++) {                                                      \
            double x = (double)TO_FLOAT(grad[i]);                                                  \
            lanes[k] += x * x;                                                                     \
        }                                                                                          \
        for (size_t k = 0; k < LANES; k++)                                                         \
            sum += lanes[k];                                                                       \
        return sum;                                                                                \
    }
#define ADD(NAME, TYPE, TO_FLOAT)                                                                  \
    static MO_KERNEL void NAME(float *restrict to, const TYPE *restrict grad, size_t n) {          \
        for (size_t i = 0; i < n; i++)                                                             \
            to[i] += TO_FLOAT(grad[i]);                                                            \
    }                                                                                              \
    static MO_KERNEL void NAME##_first(float *restrict to, const TYPE *restrict grad, size_t n) {  \
        for (size_t i = 0; i < n; i++)                                                             \
            to[i] = TO_FLOAT(grad[i]);                                                             \
    }

SUM_SQUARES(square_f32, float, )
SUM_SQUARES(square_bf16, uint16_t, mo_from_bf16)
SUM_SQUARES(square_f16, uint16_t, mo_from_f16)
ADD(add_f32, float, )
ADD(add_bf16, uint16_t, mo_from_bf16)
ADD(add_f16, uint16_t, mo_from_f16)

double mo_gradient_square(const void *grad, int dtype, size_t count) {
    return dtype == MEMOPT_DTYPE_BF16  ? square_bf16(grad, count)
           : dtype == MEMOPT_DTYPE_F16 ? square_f16(grad, count)
                                       : square_f32(grad, count);
}

void mo_gradient_add(float *accumulator, const void *grad, int dtype, size_t count, int first) {
    if (dtype == MEMOPT_DTYPE_BF16)
        (first ? add_bf16_first : add_bf16)(accumulator, grad, count);
    else if (dtype == MEMOPT_DTYPE_F16)
        (first ? add_f16_first : add_f16)(accumulator, grad, count);
    else
        (first ? add_f32_first : add_f32)(accumulator, grad, count);
}
