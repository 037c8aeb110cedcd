/*
 * sgd.c - stochastic gradient descent: plain, with momentum, with Nesterov's.
 *
 *     g  = scale grad + weight_decay p
 *     b  = momentum b + (1 - dampening) g        (the first time: b = g)
 *     p -= lr (nesterov ? g + momentum b : b)
 */
#include "core/optim/kernel.h"

static const struct mo_default defaults[] = {
    {"lr", "1e-3"},     {"weight_decay", "0"}, {"momentum", "0"},
    {"dampening", "0"}, {"nesterov", "no"},    {NULL, NULL},
};

static const char *check(const struct mo_settings_optimizer *settings) {
    if (settings->nesterov && (settings->momentum <= 0 || settings->dampening != 0))
        return "'nesterov' needs a momentum above 0 and no dampening";
    return NULL;
}

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    if (settings->momentum == 0)
        return 0;
    ret_slots[0] = (struct mo_slot){"momentum_buffer", MO_SLOT_SIGNED, 0};
    return 1;
}

static void prepare(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor) {
    struct mo_scalars *s = &tensor->scalars;
    s->weight_decay = (float)settings->weight_decay;
    s->b1 = (float)settings->momentum;
    s->a1 = tensor->updates == 1 ? 1 : (float)(1 - settings->dampening);
    s->step = (float)settings->lr;
}

static MO_KERNEL void plain(const struct mo_scalars *s, size_t n, float *restrict p,
                            const float *restrict g, float *const *slot, double *sums) {
    (void)slot, MO_UNUSED_SUMS;
    const float scale = s->scale, decay = s->weight_decay, step = s->step;
    for (size_t i = 0; i < n; i++)
        p[i] -= step * (scale * g[i] + decay * p[i]);
}

static MO_KERNEL void momentum(const struct mo_scalars *s, size_t n, float *restrict p,
                               const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict b = slot[0];
    const float scale = s->scale, decay = s->weight_decay, step = s->step, b1 = s->b1, a1 = s->a1;
    for (size_t i = 0; i < n; i++) {
        b[i] = b1 * b[i] + a1 * (scale * g[i] + decay * p[i]);
        p[i] -= step * b[i];
    }
}

static MO_KERNEL void nesterov(const struct mo_scalars *s, size_t n, float *restrict p,
                               const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict b = slot[0];
    const float scale = s->scale, decay = s->weight_decay, step = s->step, b1 = s->b1, a1 = s->a1;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i] + decay * p[i];
        b[i] = b1 * b[i] + a1 * d;
        p[i] -= step * (d + b1 * b[i]);
    }
}

static mo_kernel_fn kernel(const struct mo_settings_optimizer *settings, int phase) {
    (void)phase;
    return settings->momentum == 0 ? plain : settings->nesterov ? nesterov : momentum;
}

const struct mo_method mo_sgd = {
    .name = "sgd",
    .defaults = defaults,
    .needs = MO_NEEDS_ELEMENTS,
    .check = check,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
};
