/*
 * nadam.c - NAdam, Adam with Nesterov's momentum (Dozat, 2016).
 *
 *     g    = scale grad + weight_decay p
 *     mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2);  M = the product of all mu
 *     m    = beta1 m + (1 - beta1) g
 *     v    = beta2 v + (1 - beta2) g^2
 *     d    = sqrt(v / (1 - beta2^t)) + eps
 *     p   -= lr (1 - mu_t) / (1 - M) g / d  +  lr mu_t+1 / (1 - M mu_t mu_t+1) m / d
 *
 * The last product has mu_t twice: so has PyTorch 1.13, which this follows.
 */
#include "core/optim/kernel.h"

static const struct mo_default defaults[] = {
    {"lr", "2e-3"},  {"weight_decay", "0"},      {"beta1", "0.9"}, {"beta2", "0.999"},
    {"eps", "1e-8"}, {"momentum_decay", "4e-3"}, {NULL, NULL},
};

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    (void)settings;
    ret_slots[0] = (struct mo_slot){"exp_avg", MO_SLOT_FP32, 0};
    ret_slots[1] = (struct mo_slot){"exp_avg_sq", MO_SLOT_FP32, 0};
    return 2;
}

static double mu(const struct mo_settings_optimizer *settings, uint64_t t) {
    return settings->beta1 * (1 - 0.5 * pow(0.96, (double)t * settings->momentum_decay));
}

static void prepare(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor) {
    struct mo_scalars *s = &tensor->scalars;
    double now = mu(settings, tensor->updates), next = mu(settings, tensor->updates + 1);
    double *product = &tensor->carry[0];
    *product = (tensor->updates == 1 ? 1 : *product) * now;
    s->weight_decay = (float)settings->weight_decay;
    s->b1 = (float)settings->beta1;
    s->a1 = (float)(1 - settings->beta1);
    s->b2 = (float)settings->beta2;
    s->a2 = (float)(1 - settings->beta2);
    s->eps = (float)settings->eps;
    s->root = (float)(1 / mo_bias(settings->beta2, tensor->updates));
    s->x = (float)(settings->lr * (1 - now) / (1 - *product));
    s->y = (float)(settings->lr * next / (1 - *product * now * next));
}

static MO_KERNEL void nadam(const struct mo_scalars *s, size_t n, float *restrict p,
                            const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict m = slot[0], *restrict v = slot[1];
    const float scale = s->scale, decay = s->weight_decay;
    const float b1 = s->b1, a1 = s->a1, b2 = s->b2, a2 = s->a2;
    const float eps = s->eps, root = s->root, x = s->x, y = s->y;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i] + decay * p[i];
        m[i] = b1 * m[i] + a1 * d;
        v[i] = b2 * v[i] + a2 * (d * d);
        float denominator = sqrtf(root * v[i]) + eps;
        p[i] = p[i] - x * (d / denominator) - y * (m[i] / denominator);
    }
}

static mo_kernel_fn kernel(const struct mo_settings_optimizer *settings, int phase) {
    (void)settings, (void)phase;
    return nadam;
}

const struct mo_method mo_nadam = {
    .name = "nadam",
    .defaults = defaults,
    .needs = MO_NEEDS_ELEMENTS,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
};
