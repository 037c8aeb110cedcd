/*
 * lion.c - Lion, the sign of an interpolated momentum (Chen and others, 2023).
 *
 *     g  = scale grad
 *     p *= 1 - lr weight_decay
 *     p -= lr sign(beta1 m + (1 - beta1) g)
 *     m  = beta2 m + (1 - beta2) g
 *
 * The sign of zero is zero.
 */
#include "core/optim/kernel.h"

static const struct mo_default defaults[] = {
    {"lr", "1e-4"}, {"weight_decay", "0"}, {"beta1", "0.9"}, {"beta2", "0.99"}, {NULL, NULL},
};

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    (void)settings;
    ret_slots[0] = (struct mo_slot){"exp_avg", MO_SLOT_SIGNED, 0};
    return 1;
}

static void prepare(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor) {
    struct mo_scalars *s = &tensor->scalars;
    s->keep = (float)(1 - settings->lr * settings->weight_decay);
    s->b1 = (float)settings->beta1;
    s->a1 = (float)(1 - settings->beta1);
    s->b2 = (float)settings->beta2;
    s->a2 = (float)(1 - settings->beta2);
    s->step = (float)settings->lr;
}

static MO_KERNEL void lion(const struct mo_scalars *s, size_t n, float *restrict p,
                           const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict m = slot[0];
    const float scale = s->scale, keep = s->keep, step = s->step;
    const float b1 = s->b1, a1 = s->a1, b2 = s->b2, a2 = s->a2;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i];
        float c = b1 * m[i] + a1 * d;
        p[i] = keep * p[i] - (c > 0 ? step : c < 0 ? -step : c);
        m[i] = b2 * m[i] + a2 * d;
    }
}

static mo_kernel_fn kernel(const struct mo_settings_optimizer *settings, int phase) {
    (void)settings, (void)phase;
    return lion;
}

const struct mo_method mo_lion = {
    .name = "lion",
    .defaults = defaults,
    .needs = MO_NEEDS_ELEMENTS,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
};
