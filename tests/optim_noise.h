/*
 * optim_noise.h - the values and gradients that scripts/optim-golden.py has, too:
 * a hash of (step, tensor, element), exact in fp32.
 */
#ifndef TESTS_OPTIM_NOISE_H
#define TESTS_OPTIM_NOISE_H

#include <stddef.h>
#include <stdint.h>

/* From -1 to 1 in steps of 2^-23. */
static inline float noise(uint32_t step, uint32_t tensor, size_t element) {
    uint32_t x = (uint32_t)element * 0x9e3779b1u + step * 1000003u + tensor * 10007u;
    x ^= x >> 15;
    x *= 0x2c1b3c6du;
    x ^= x >> 12;
    x *= 0x297a2d39u;
    x ^= x >> 15;
    return (float)(x >> 8) * 0x1p-23f - 1;
}

static inline void fill_grad(float *grad, uint32_t step, uint32_t tensor, size_t count) {
    for (size_t i = 0; i < count; i++)
        grad[i] = noise(step, tensor, i);
}

/* At least 1/2 away from 0, so that relative differences mean something. */
static inline void fill_first(float *data, uint32_t tensor, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float x = noise(0, tensor, i);
        data[i] = x + (x < 0 ? -0.5f : 0.5f);
    }
}

#endif
