/*
 * adagrad.c - Adagrad (Duchi and others, 2011).
 *
 *     g  = scale grad + weight_decay p
 *     s += g^2
 *     p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)
 */
#include "core/optim/kernel.h"

static const struct mo_default defaults[] = {
    {"lr", "1e-2"},   {"weight_decay", "0"}, {"lr_decay", "0"}, {"initial_accumulator", "0"},
    {"eps", "1e-10"}, {NULL, NULL},
};

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    ret_slots[0] = (struct mo_slot){"sum", MO_SLOT_FP32, (float)settings->initial_accumulator};
    return 1;
}

static void prepare(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor) {
    struct mo_scalars *s = &tensor->scalars;
    s->weight_decay = (float)settings->weight_decay;
    s->eps = (float)settings->eps;
    s->step = (float)(settings->lr / (1 + (double)(tensor->updates - 1) * settings->lr_decay));
}

static MO_KERNEL void adagrad(const struct mo_scalars *s, size_t n, float *restrict p,
                              const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict sum = slot[0];
    const float scale = s->scale, decay = s->weight_decay, eps = s->eps, step = s->step;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i] + decay * p[i];
        sum[i] += d * d;
        p[i] -= step * (d / (sqrtf(sum[i]) + eps));
    }
}

static mo_kernel_fn kernel(const struct mo_settings_optimizer *settings, int phase) {
    (void)settings, (void)phase;
    return adagrad;
}

const struct mo_method mo_adagrad = {
    .name = "adagrad",
    .defaults = defaults,
    .needs = MO_NEEDS_ELEMENTS,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
};
