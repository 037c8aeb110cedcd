/*
 * kernel.h - what the files with kernels share; for core/optim/optim.h's MO_KERNEL.
 *
 * The first lines of every kernel: its arrays under names of their own. The
 * compiler is told that they don't overlap.
 */
#ifndef MO_OPTIM_KERNEL_H
#define MO_OPTIM_KERNEL_H

#include "core/optim/optim.h"

#include <math.h>

/* Kernels that make no sums. */
#define MO_UNUSED_SUMS ((void)sums)

/* Independent sums in a loop that makes norms: enough to hide an addition's latency,
 * and the same for every width of vectors. */
enum { MO_LANES = 16 };

/* The lanes in their order. */
static inline double mo_add_lanes(const double lanes[MO_LANES]) {
    double sum = 0;
    for (size_t k = 0; k < MO_LANES; k++)
        sum += lanes[k];
    return sum;
}

/* a where the condition holds, without a branch. */
static inline float mo_max(float a, float b) {
    return a > b ? a : b;
}

/* 1 - decay^n, of an average that began with zero. */
static inline double mo_bias(double decay, uint64_t n) {
    return 1.0 - pow(decay, (double)n);
}

#endif
