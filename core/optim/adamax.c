/*
 * adamax.c - Adamax, Adam with the infinity norm (Kingma and Ba, 2015).
 *
 *     g  = scale grad + weight_decay p
 *     m  = beta1 m + (1 - beta1) g
 *     u  = max(beta2 u, |g| + eps)
 *     p -= lr / (1 - beta1^t) m / u
 */
#include "core/optim/kernel.h"

static const struct mo_default defaults[] = {
    {"lr", "2e-3"},     {"weight_decay", "0"}, {"beta1", "0.9"},
    {"beta2", "0.999"}, {"eps", "1e-8"},       {NULL, NULL},
};

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    (void)settings;
    ret_slots[0] = (struct mo_slot){"exp_avg", MO_SLOT_FP32, 0};
    ret_slots[1] = (struct mo_slot){"exp_inf", MO_SLOT_FP32, 0};
    return 2;
}

static void prepare(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor) {
    struct mo_scalars *s = &tensor->scalars;
    s->weight_decay = (float)settings->weight_decay;
    s->b1 = (float)settings->beta1;
    s->a1 = (float)(1 - settings->beta1);
    s->b2 = (float)settings->beta2;
    s->eps = (float)settings->eps;
    s->step = (float)(settings->lr / mo_bias(settings->beta1, tensor->updates));
}

static MO_KERNEL void adamax(const struct mo_scalars *s, size_t n, float *restrict p,
                             const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict m = slot[0], *restrict u = slot[1];
    const float scale = s->scale, decay = s->weight_decay, b1 = s->b1, a1 = s->a1, b2 = s->b2;
    const float eps = s->eps, step = s->step;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i] + decay * p[i];
        m[i] = b1 * m[i] + a1 * d;
        u[i] = mo_max(b2 * u[i], fabsf(d) + eps);
        p[i] -= step * (m[i] / u[i]);
    }
}

static mo_kernel_fn kernel(const struct mo_settings_optimizer *settings, int phase) {
    (void)settings, (void)phase;
    return adamax;
}

const struct mo_method mo_adamax = {
    .name = "adamax",
    .defaults = defaults,
    .needs = MO_NEEDS_ELEMENTS,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
};
