/*
 * adam.c - Adam (Kingma and Ba, 2015), AdamW (Loshchilov and Hutter, 2019) and
 * AMSGrad (Reddi and others, 2018).
 *
 *     g  = scale grad + weight_decay p           (AdamW: p *= 1 - lr weight_decay)
 *     m  = beta1 m + (1 - beta1) g
 *     v  = beta2 v + (1 - beta2) g^2
 *     w  = max(w, v)                             (AMSGrad; else w = v)
 *     p -= lr / (1 - beta1^t) m / (sqrt(w) / sqrt(1 - beta2^t) + eps)
 *
 * The division by sqrt(1 - beta2^t) is a multiplication.
 */
#include "core/optim/kernel.h"

static const struct mo_default adam_defaults[] = {
    {"lr", "1e-3"},  {"weight_decay", "0"}, {"beta1", "0.9"}, {"beta2", "0.999"},
    {"eps", "1e-8"}, {"amsgrad", "no"},     {NULL, NULL},
};
static const struct mo_default adamw_defaults[] = {
    {"lr", "1e-3"},  {"weight_decay", "1e-2"}, {"beta1", "0.9"}, {"beta2", "0.999"},
    {"eps", "1e-8"}, {"amsgrad", "no"},        {NULL, NULL},
};
static const struct mo_default amsgrad_defaults[] = {
    {"lr", "1e-3"},  {"weight_decay", "0"}, {"beta1", "0.9"}, {"beta2", "0.999"},
    {"eps", "1e-8"}, {"amsgrad", "yes"},    {NULL, NULL},
};

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    ret_slots[0] = (struct mo_slot){"exp_avg", MO_SLOT_SIGNED, 0};
    ret_slots[1] = (struct mo_slot){"exp_avg_sq", MO_SLOT_UNSIGNED, 0};
    ret_slots[2] = (struct mo_slot){"max_exp_avg_sq", MO_SLOT_UNSIGNED, 0};
    return settings->amsgrad ? 3 : 2;
}

static void prepare(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor) {
    struct mo_scalars *s = &tensor->scalars;
    s->weight_decay = (float)settings->weight_decay;
    s->keep = 1;
    s->b1 = (float)settings->beta1;
    s->a1 = (float)(1 - settings->beta1);
    s->b2 = (float)settings->beta2;
    s->a2 = (float)(1 - settings->beta2);
    s->eps = (float)settings->eps;
    s->step = (float)(settings->lr / mo_bias(settings->beta1, tensor->updates));
    s->root = (float)(1 / sqrt(mo_bias(settings->beta2, tensor->updates)));
}

static void prepare_decoupled(const struct mo_settings_optimizer *settings,
                              struct mo_tensor *tensor) {
    prepare(settings, tensor);
    tensor->scalars.weight_decay = 0;
    tensor->scalars.keep = (float)(1 - settings->lr * settings->weight_decay);
}

static MO_KERNEL void adam(const struct mo_scalars *s, size_t n, float *restrict p,
                           const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict m = slot[0], *restrict v = slot[1];
    const float scale = s->scale, decay = s->weight_decay, keep = s->keep;
    const float b1 = s->b1, a1 = s->a1, b2 = s->b2, a2 = s->a2;
    const float eps = s->eps, step = s->step, root = s->root;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i] + decay * p[i];
        m[i] = b1 * m[i] + a1 * d;
        v[i] = b2 * v[i] + a2 * (d * d);
        p[i] = keep * p[i] - step * (m[i] / (root * sqrtf(v[i]) + eps));
    }
}

static MO_KERNEL void amsgrad(const struct mo_scalars *s, size_t n, float *restrict p,
                              const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict m = slot[0], *restrict v = slot[1], *restrict w = slot[2];
    const float scale = s->scale, decay = s->weight_decay, keep = s->keep;
    const float b1 = s->b1, a1 = s->a1, b2 = s->b2, a2 = s->a2;
    const float eps = s->eps, step = s->step, root = s->root;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i] + decay * p[i];
        m[i] = b1 * m[i] + a1 * d;
        v[i] = b2 * v[i] + a2 * (d * d);
        w[i] = mo_max(w[i], v[i]);
        p[i] = keep * p[i] - step * (m[i] / (root * sqrtf(w[i]) + eps));
    }
}

static mo_kernel_fn kernel(const struct mo_settings_optimizer *settings, int phase) {
    (void)phase;
    return settings->amsgrad ? amsgrad : adam;
}

const struct mo_method mo_adam = {
    .name = "adam",
    .defaults = adam_defaults,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
};
const struct mo_method mo_adamw = {
    .name = "adamw",
    .defaults = adamw_defaults,
    .slots = slots,
    .prepare = prepare_decoupled,
    .kernel = kernel,
};
const struct mo_method mo_amsgrad = {
    .name = "amsgrad",
    .defaults = amsgrad_defaults,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
};
