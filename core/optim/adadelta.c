/*
 * adadelta.c - Adadelta (Zeiler, 2012).
 *
 *     g  = scale grad + weight_decay p
 *     v  = rho v + (1 - rho) g^2
 *     q  = sqrt(a + eps) / sqrt(v + eps) g
 *     a  = rho a + (1 - rho) q^2
 *     p -= lr q
 */
#include "core/optim/kernel.h"

static const struct mo_default defaults[] = {
    {"lr", "1"}, {"weight_decay", "0"}, {"rho", "0.9"}, {"eps", "1e-6"}, {NULL, NULL},
};

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    (void)settings;
    ret_slots[0] = (struct mo_slot){"square_avg", MO_SLOT_FP32, 0};
    ret_slots[1] = (struct mo_slot){"acc_delta", MO_SLOT_FP32, 0};
    return 2;
}

static void prepare(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor) {
    struct mo_scalars *s = &tensor->scalars;
    s->weight_decay = (float)settings->weight_decay;
    s->b2 = (float)settings->rho;
    s->a2 = (float)(1 - settings->rho);
    s->eps = (float)settings->eps;
    s->step = (float)settings->lr;
}

static MO_KERNEL void adadelta(const struct mo_scalars *s, size_t n, float *restrict p,
                               const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict v = slot[0], *restrict a = slot[1];
    const float scale = s->scale, decay = s->weight_decay, b2 = s->b2, a2 = s->a2;
    const float eps = s->eps, step = s->step;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i] + decay * p[i];
        v[i] = b2 * v[i] + a2 * (d * d);
        float q = sqrtf(a[i] + eps) / sqrtf(v[i] + eps) * d;
        a[i] = b2 * a[i] + a2 * (q * q);
        p[i] -= step * q;
    }
}

static mo_kernel_fn kernel(const struct mo_settings_optimizer *settings, int phase) {
    (void)settings, (void)phase;
    return adadelta;
}

const struct mo_method mo_adadelta = {
    .name = "adadelta",
    .defaults = defaults,
    .needs = MO_NEEDS_ELEMENTS,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
};
