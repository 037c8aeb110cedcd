/*
 * lars.c - LARS, layer-wise adaptive rates (You, Gitman and Ginsburg, 2017).
 *
 *     g  = scale grad
 *     r  = trust |p| / (|g| + weight_decay |p| + eps)    (1 if |p| or |g| is 0)
 *     b  = momentum b + lr r (g + weight_decay p)
 *     p -= b
 *
 * |p| and |g| are the tensor's norms. The first kernel makes them, the second
 * updates.
 */
#include "core/optim/kernel.h"

static const struct mo_default defaults[] = {
    {"lr", "0.1"},     {"weight_decay", "0"}, {"momentum", "0.9"},
    {"trust", "1e-3"}, {"eps", "0"},          {NULL, NULL},
};

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    if (settings->momentum == 0)
        return 0;
    ret_slots[0] = (struct mo_slot){"momentum_buffer", MO_SLOT_FP32, 0};
    return 1;
}

static void prepare(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor) {
    struct mo_scalars *s = &tensor->scalars;
    s->weight_decay = (float)settings->weight_decay;
    s->b1 = (float)settings->momentum;
}

static void finish(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor,
                   const double sums[MO_SUMS]) {
    double p = sqrt(sums[0]), g = sqrt(sums[1]);
    double rest = g + settings->weight_decay * p + settings->eps;
    double ratio = p > 0 && g > 0 ? settings->trust * p / rest : 1;
    tensor->scalars.step = (float)(settings->lr * ratio);
}

static MO_KERNEL void norms(const struct mo_scalars *s, size_t n, float *restrict p,
                            const float *restrict g, float *const *slot, double *sums) {
    (void)slot;
    double pp[MO_LANES] = {0}, gg[MO_LANES] = {0};
    const float scale = s->scale;
    size_t i = 0;
    for (; i + MO_LANES <= n; i += MO_LANES)
        for (size_t k = 0; k < MO_LANES; k++) {
            double x = (double)p[i + k], d = (double)(scale * g[i + k]);
            pp[k] += x * x;
            gg[k] += d * d;
        }
    for (size_t k = 0; i < n; i++, k++) {
        double x = (double)p[i], d = (double)(scale * g[i]);
        pp[k] += x * x;
        gg[k] += d * d;
    }
    sums[0] += mo_add_lanes(pp);
    sums[1] += mo_add_lanes(gg);
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
    const float scale = s->scale, decay = s->weight_decay, step = s->step, b1 = s->b1;
    for (size_t i = 0; i < n; i++) {
        b[i] = b1 * b[i] + step * (scale * g[i] + decay * p[i]);
        p[i] -= b[i];
    }
}

static mo_kernel_fn kernel(const struct mo_settings_optimizer *settings, int phase) {
    return phase == 0 ? norms : settings->momentum == 0 ? plain : momentum;
}

const struct mo_method mo_lars = {
    .name = "lars",
    .defaults = defaults,
    .needs = MO_NEEDS_NORMS,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
    .finish = finish,
};
