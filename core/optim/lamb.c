/*
 * lamb.c - LAMB, layer-wise adaptive Adam for large batches (You and others, 2020).
 *
 *     g  = scale grad
 *     m  = beta1 m + (1 - beta1) g
 *     v  = beta2 v + (1 - beta2) g^2
 *     u  = m / (1 - beta1^t) / (sqrt(v) / sqrt(1 - beta2^t) + eps) + weight_decay p
 *     p -= lr |p| / |u| u                            (lr u if |p| or |u| is 0)
 *
 * |p| and |u| are the tensor's norms, and the paper's phi is the identity. The
 * first kernel brings m and v up to date and makes the norms, the second makes u
 * once more and updates: cheaper than to keep it.
 */
#include "core/optim/kernel.h"

static const struct mo_default defaults[] = {
    {"lr", "1e-3"},     {"weight_decay", "1e-2"}, {"beta1", "0.9"},
    {"beta2", "0.999"}, {"eps", "1e-6"},          {NULL, NULL},
};

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    (void)settings;
    ret_slots[0] = (struct mo_slot){"exp_avg", MO_SLOT_FP32, 0};
    ret_slots[1] = (struct mo_slot){"exp_avg_sq", MO_SLOT_FP32, 0};
    return 2;
}

static void prepare(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor) {
    struct mo_scalars *s = &tensor->scalars;
    s->weight_decay = (float)settings->weight_decay;
    s->b1 = (float)settings->beta1;
    s->a1 = (float)(1 - settings->beta1);
    s->b2 = (float)settings->beta2;
    s->a2 = (float)(1 - settings->beta2);
    s->eps = (float)settings->eps;
    s->x = (float)(1 / mo_bias(settings->beta1, tensor->updates));
    s->root = (float)(1 / sqrt(mo_bias(settings->beta2, tensor->updates)));
}

static void finish(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor,
                   const double sums[MO_SUMS]) {
    double p = sqrt(sums[0]), u = sqrt(sums[1]);
    tensor->scalars.step = (float)(settings->lr * (p > 0 && u > 0 ? p / u : 1));
}

/* u of one element. */
static inline __attribute__((always_inline)) float direction(const struct mo_scalars *s, float p,
                                                             float m, float v) {
    return s->x * m / (s->root * sqrtf(v) + s->eps) + s->weight_decay * p;
}

static MO_KERNEL void moments(const struct mo_scalars *s, size_t n, float *restrict p,
                              const float *restrict g, float *const *slot, double *sums) {
    float *restrict m = slot[0], *restrict v = slot[1];
    double pp[MO_LANES] = {0}, uu[MO_LANES] = {0};
    const struct mo_scalars c = *s;
    for (size_t i = 0; i < n; i++) {
        float d = c.scale * g[i];
        m[i] = c.b1 * m[i] + c.a1 * d;
        v[i] = c.b2 * v[i] + c.a2 * (d * d);
    }
    size_t i = 0;
    for (; i + MO_LANES <= n; i += MO_LANES)
        for (size_t k = 0; k < MO_LANES; k++) {
            double x = (double)p[i + k];
            double u = (double)direction(&c, p[i + k], m[i + k], v[i + k]);
            pp[k] += x * x;
            uu[k] += u * u;
        }
    for (size_t k = 0; i < n; i++, k++) {
        double x = (double)p[i], u = (double)direction(&c, p[i], m[i], v[i]);
        pp[k] += x * x;
        uu[k] += u * u;
    }
    sums[0] += mo_add_lanes(pp);
    sums[1] += mo_add_lanes(uu);
}

static MO_KERNEL void lamb(const struct mo_scalars *s, size_t n, float *restrict p,
                           const float *restrict g, float *const *slot, double *sums) {
    (void)g, MO_UNUSED_SUMS;
    const float *restrict m = slot[0], *restrict v = slot[1];
    const struct mo_scalars c = *s;
    for (size_t i = 0; i < n; i++)
        p[i] -= c.step * direction(&c, p[i], m[i], v[i]);
}

static mo_kernel_fn kernel(const struct mo_settings_optimizer *settings, int phase) {
    (void)settings;
    return phase == 0 ? moments : lamb;
}

const struct mo_method mo_lamb = {
    .name = "lamb",
    .defaults = defaults,
    .needs = MO_NEEDS_NORMS,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
    .finish = finish,
};
