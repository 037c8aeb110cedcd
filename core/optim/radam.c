/*
 * radam.c - RAdam, Adam whose step is rectified for the variance of its first
 * averages (Liu and others, 2020).
 *
 *     g    = scale grad + weight_decay p
 *     m    = beta1 m + (1 - beta1) g
 *     v    = beta2 v + (1 - beta2) g^2
 *     rho0 = 2 / (1 - beta2) - 1
 *     rho  = rho0 - 2 t beta2^t / (1 - beta2^t)
 *     r    = sqrt((rho - 4) (rho - 2) rho0 / ((rho0 - 4) (rho0 - 2) rho))
 *     p   -= lr / (1 - beta1^t) m r sqrt(1 - beta2^t) / (sqrt(v) + eps)
 *     p   -= lr / (1 - beta1^t) m                (while rho <= rectify_above)
 *
 * The paper rectifies above 4; PyTorch above 5, that is, one update later with
 * the usual beta2.
 */
#include "core/optim/kernel.h"

static const struct mo_default defaults[] = {
    {"lr", "1e-3"},  {"weight_decay", "0"},  {"beta1", "0.9"}, {"beta2", "0.999"},
    {"eps", "1e-8"}, {"rectify_above", "4"}, {NULL, NULL},
};

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    (void)settings;
    ret_slots[0] = (struct mo_slot){"exp_avg", MO_SLOT_FP32, 0};
    ret_slots[1] = (struct mo_slot){"exp_avg_sq", MO_SLOT_FP32, 0};
    return 2;
}

static void prepare(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor) {
    struct mo_scalars *s = &tensor->scalars;
    double t = (double)tensor->updates, bias2 = mo_bias(settings->beta2, tensor->updates);
    double rho0 = 2 / (1 - settings->beta2) - 1;
    double rho = rho0 - 2 * t * pow(settings->beta2, t) / bias2;
    double step = settings->lr / mo_bias(settings->beta1, tensor->updates);
    int rectified = rho > settings->rectify_above;
    if (rectified)
        step *= sqrt((rho - 4) * (rho - 2) * rho0 / ((rho0 - 4) * (rho0 - 2) * rho)) * sqrt(bias2);
    s->weight_decay = (float)settings->weight_decay;
    s->b1 = (float)settings->beta1;
    s->a1 = (float)(1 - settings->beta1);
    s->b2 = (float)settings->beta2;
    s->a2 = (float)(1 - settings->beta2);
    s->step = (float)step;
    /* m / (x sqrt(v) + y): by 1 where it isn't rectified */
    s->x = rectified ? 1 : 0;
    s->y = rectified ? (float)settings->eps : 1;
}

static MO_KERNEL void radam(const struct mo_scalars *s, size_t n, float *restrict p,
                            const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict m = slot[0], *restrict v = slot[1];
    const float scale = s->scale, decay = s->weight_decay;
    const float b1 = s->b1, a1 = s->a1, b2 = s->b2, a2 = s->a2;
    const float step = s->step, x = s->x, y = s->y;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i] + decay * p[i];
        m[i] = b1 * m[i] + a1 * d;
        v[i] = b2 * v[i] + a2 * (d * d);
        p[i] -= step * (m[i] / (x * sqrtf(v[i]) + y));
    }
}

static mo_kernel_fn kernel(const struct mo_settings_optimizer *settings, int phase) {
    (void)settings, (void)phase;
    return radam;
}

const struct mo_method mo_radam = {
    .name = "radam",
    .defaults = defaults,
    .needs = MO_NEEDS_ELEMENTS,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
};
