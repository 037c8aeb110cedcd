/*
 * rmsprop.c - RMSprop (Hinton, lecture 6e, 2012), centered (Graves, 2013), with
 * momentum.
 *
 *     g  = scale grad + weight_decay p
 *     v  = alpha v + (1 - alpha) g^2
 *     a  = alpha a + (1 - alpha) g               (centered; else a = 0)
 *     q  = g / (sqrt(v - a^2) + eps)
 *     b  = momentum b + q;  p -= lr b            (without momentum: p -= lr q)
 */
#include "core/optim/kernel.h"

static const struct mo_default defaults[] = {
    {"lr", "1e-2"},    {"weight_decay", "0"}, {"alpha", "0.99"}, {"eps", "1e-8"},
    {"momentum", "0"}, {"centered", "no"},    {NULL, NULL},
};

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    size_t count = 0;
    ret_slots[count++] = (struct mo_slot){"square_avg", MO_SLOT_FP32, 0};
    if (settings->momentum > 0)
        ret_slots[count++] = (struct mo_slot){"momentum_buffer", MO_SLOT_FP32, 0};
    if (settings->centered)
        ret_slots[count++] = (struct mo_slot){"grad_avg", MO_SLOT_FP32, 0};
    return count;
}

static void prepare(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor) {
    struct mo_scalars *s = &tensor->scalars;
    s->weight_decay = (float)settings->weight_decay;
    s->b1 = (float)settings->momentum;
    s->b2 = (float)settings->alpha;
    s->a2 = (float)(1 - settings->alpha);
    s->eps = (float)settings->eps;
    s->step = (float)settings->lr;
}

static MO_KERNEL void plain(const struct mo_scalars *s, size_t n, float *restrict p,
                            const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict v = slot[0];
    const float scale = s->scale, decay = s->weight_decay, b2 = s->b2, a2 = s->a2;
    const float eps = s->eps, step = s->step;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i] + decay * p[i];
        v[i] = b2 * v[i] + a2 * (d * d);
        p[i] -= step * (d / (sqrtf(v[i]) + eps));
    }
}

static MO_KERNEL void momentum(const struct mo_scalars *s, size_t n, float *restrict p,
                               const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict v = slot[0], *restrict b = slot[1];
    const float scale = s->scale, decay = s->weight_decay, b2 = s->b2, a2 = s->a2;
    const float eps = s->eps, step = s->step, b1 = s->b1;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i] + decay * p[i];
        v[i] = b2 * v[i] + a2 * (d * d);
        b[i] = b1 * b[i] + d / (sqrtf(v[i]) + eps);
        p[i] -= step * b[i];
    }
}

static MO_KERNEL void centered(const struct mo_scalars *s, size_t n, float *restrict p,
                               const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict v = slot[0], *restrict a = slot[1];
    const float scale = s->scale, decay = s->weight_decay, b2 = s->b2, a2 = s->a2;
    const float eps = s->eps, step = s->step;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i] + decay * p[i];
        v[i] = b2 * v[i] + a2 * (d * d);
        a[i] = b2 * a[i] + a2 * d;
        p[i] -= step * (d / (sqrtf(v[i] - a[i] * a[i]) + eps));
    }
}

static MO_KERNEL void centered_momentum(const struct mo_scalars *s, size_t n, float *restrict p,
                                        const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict v = slot[0], *restrict b = slot[1], *restrict a = slot[2];
    const float scale = s->scale, decay = s->weight_decay, b2 = s->b2, a2 = s->a2;
    const float eps = s->eps, step = s->step, b1 = s->b1;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i] + decay * p[i];
        v[i] = b2 * v[i] + a2 * (d * d);
        a[i] = b2 * a[i] + a2 * d;
        b[i] = b1 * b[i] + d / (sqrtf(v[i] - a[i] * a[i]) + eps);
        p[i] -= step * b[i];
    }
}

static mo_kernel_fn kernel(const struct mo_settings_optimizer *settings, int phase) {
    (void)phase;
    if (settings->momentum > 0)
        return settings->centered ? centered_momentum : momentum;
    return settings->centered ? centered : plain;
}

const struct mo_method mo_rmsprop = {
    .name = "rmsprop",
    .defaults = defaults,
    .needs = MO_NEEDS_ELEMENTS,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
};
