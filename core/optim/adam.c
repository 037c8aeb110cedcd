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
#include "core/optim/convert.h"
#include "core/optim/kernel.h"

#include <memopt/dtype.h>

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
    double root = sqrt(mo_bias(settings->beta2, tensor->updates));
    s->root = (float)(1 / root);
    s->x = (float)(settings->eps * root);
    s->y = (float)(settings->lr / mo_bias(settings->beta1, tensor->updates) * root);
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

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
/* Two bf16 numbers. */
typedef uint32_t __attribute__((may_alias, aligned(2))) pair;

/* Makes numbers smaller whose largest is not below the limit; gives the largest. */
static float fit(float *x, float absmax, float limit, float factor) {
    if (absmax < limit)
        return absmax;
    for (size_t i = 0; i < MO_BLOCK; i++)
        x[i] *= factor;
    return absmax * factor;
}

/* bf16 parameters and gradients, 8-bit moments, rounded by chance: what takes the
 * least memory, in one pass over a block. It is bound by arithmetic, not by memory, so
 * there is as little of it as can be: all in words of 32 bits (convert.h), as changing
 * the width of vectors costs as much; factors folded together, and fused products,
 * wherefore the bits are not those of the kernel above. fmaf is exact: a machine that
 * has no such instruction gives the same bits, slowly. */
enum { WORDS = MO_BLOCK / 4 };
struct factors {
    float m_keep, m_add, v_keep, v_root, keep, eps, step;
    uint32_t key;
};

/* Element k of word w; the new value's bits, ready to be cut to 16. */
MO_INLINE uint32_t one(const struct factors *f, uint32_t w, uint32_t k, uint32_t value,
                       uint32_t gradient, uint32_t m, uint32_t v, float *restrict first,
                       float *restrict second, uint32_t *most, uint32_t *most_sq) {
    float d = mo_float(gradient);
    float mi = fmaf(f->m_add, d, f->m_keep * mo_float(mo_q8_signed_bits(m)));
    float r = f->v_root * d; /* not v_add d^2: that overflows before clipping helps */
    float vi = fmaf(r, r, f->v_keep * mo_float(v & MO_Q8_UNSIGNED_BITS));
    uint32_t bits = mo_bits(mi) & 0x7fffffffu, bits_sq = mo_bits(vi);
    *most = bits > *most ? bits : *most;
    *most_sq = bits_sq > *most_sq ? bits_sq : *most_sq;
    first[w] = mi;
    second[w] = vi;
    float next = fmaf(-f->step, mi / (sqrtf(vi) + f->eps), f->keep * mo_float(value));
    /* infinity has no low bits that the sum could carry from, nor has NaN */
    return mo_bits(next) + mo_chance16(mo_draw(f->key, w, k));
}
MO_INLINE uint32_t m_sum(float x, uint32_t key, uint32_t w, uint32_t k) {
    return mo_q8_signed_sum(x, mo_chance20(mo_draw(key, w, k), 0));
}
MO_INLINE uint32_t v_sum(float x, uint32_t key, uint32_t w, uint32_t k) {
    return mo_q8_unsigned_sum(x, mo_chance20(mo_draw(key, w, k), 1));
}
/* The upper halves of two sums: a code is in the middle of each. */
MO_INLINE uint32_t halves(uint32_t low, uint32_t high) {
    return low >> 16 | (high & 0xffff0000u);
}

static MO_KERNEL void bf16_8bit(const struct mo_scalars *s, pair *restrict p,
                                const pair *restrict g, uint32_t *restrict m, uint32_t *restrict v,
                                float absmax[2], uint32_t key) {
    _Alignas(64) float first[4][WORDS], second[4][WORDS];
    const struct factors f = {
        .m_keep = s->b1 * (absmax[0] * (1 / MO_Q8_TOP) * MO_Q8_SIGNED),
        .m_add = s->a1 * s->scale,
        .v_keep = s->b2 * (absmax[1] * (1 / MO_Q8_TOP) * MO_Q8_UNSIGNED),
        .v_root = sqrtf(s->a2) * s->scale,
        .keep = s->keep,
        .eps = s->x,
        .step = s->y,
        .key = key,
    };
    uint32_t most = 0, most_sq = 0; /* magnitudes are in the order of their bits */
    for (uint32_t w = 0; w < WORDS; w++) {
        uint32_t p0 = p[w], p1 = p[w + WORDS], g0 = g[w], g1 = g[w + WORDS], mw = m[w], vw = v[w];
        p0 = one(&f, w, 0, p0 << 16, g0 << 16, mw << 24, vw << 20, first[0], second[0], &most,
                 &most_sq) >>
                 16 |
             (one(&f, w, 1, p0 & 0xffff0000u, g0 & 0xffff0000u, mw << 16, vw << 12, first[1],
                  second[1], &most, &most_sq) &
              0xffff0000u);
        p1 = one(&f, w, 2, p1 << 16, g1 << 16, mw << 8, vw << 4, first[2], second[2], &most,
                 &most_sq) >>
                 16 |
             (one(&f, w, 3, p1 & 0xffff0000u, g1 & 0xffff0000u, mw, vw >> 4, first[3], second[3],
                  &most, &most_sq) &
              0xffff0000u);
        p[w] = p0;
        p[w + WORDS] = p1;
    }
    absmax[0] = mo_float(most);
    absmax[1] = mo_float(most_sq);
    const float m_scale =
        mo_q8_scale(fit(first[0], absmax[0], MO_Q8_SIGNED_LIMIT, 0x1p-115f)) * (1 / MO_Q8_SIGNED);
    const float v_scale = mo_q8_scale(fit(second[0], absmax[1], MO_Q8_UNSIGNED_LIMIT, 0x1p-99f)) *
                          (1 / MO_Q8_UNSIGNED);
    for (uint32_t w = 0; w < WORDS; w++) {
        uint32_t even = halves(m_sum(first[0][w] * m_scale, key, w, 0),
                               m_sum(first[2][w] * m_scale, key, w, 2));
        uint32_t odd = halves(m_sum(first[1][w] * m_scale, key, w, 1),
                              m_sum(first[3][w] * m_scale, key, w, 3));
        m[w] = (even >> 4 & 0x007f007fu) | (even >> 8 & 0x00800080u) | (odd << 4 & 0x7f007f00u) |
               (odd & 0x80008000u);
        even = halves(v_sum(second[0][w] * v_scale, key, w, 0),
                      v_sum(second[2][w] * v_scale, key, w, 2));
        odd = halves(v_sum(second[1][w] * v_scale, key, w, 1),
                     v_sum(second[3][w] * v_scale, key, w, 3));
        v[w] = (even >> 4 & 0x00ff00ffu) | (odd << 4 & 0xff00ff00u);
    }
}

/* Declines blocks whose numbers are too large for folded factors. */
static int block_bf16_8bit(const struct mo_scalars *s, const struct mo_operands *operands,
                           size_t at) {
    const struct mo_stored_slot *m = &operands->slots[0], *v = &operands->slots[1];
    float absmax[2] = {m->absmax[at / MO_BLOCK], v->absmax[at / MO_BLOCK]};
    if (absmax[0] >= MO_Q8_SIGNED_LIMIT || absmax[1] >= MO_Q8_UNSIGNED_LIMIT)
        return 0;
    bf16_8bit(s, (pair *)((uint16_t *)operands->data + at),
              (const pair *)((const uint16_t *)operands->grad + at), (uint32_t *)m->data + at / 4,
              (uint32_t *)v->data + at / 4, absmax, mo_block_key(operands, at));
    m->absmax[at / MO_BLOCK] = absmax[0];
    v->absmax[at / MO_BLOCK] = absmax[1];
    return 1;
}

static mo_block_fn block(const struct mo_settings_optimizer *settings,
                         const struct mo_tensor *tensor, int grad_dtype) {
    int fits = tensor->dtype == MEMOPT_DTYPE_BF16 && grad_dtype == MEMOPT_DTYPE_BF16 &&
               settings->rounding == MO_ROUNDING_STOCHASTIC &&
               settings->state_format == MO_STATE_8BIT && !settings->amsgrad &&
               tensor->scalars.weight_decay == 0;
    return fits ? block_bf16_8bit : NULL;
}
#else
#define block NULL
#endif

const struct mo_method mo_adam = {
    .name = "adam",
    .defaults = adam_defaults,
    .needs = MO_NEEDS_ELEMENTS,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
    .block = block,
};
const struct mo_method mo_adamw = {
    .name = "adamw",
    .defaults = adamw_defaults,
    .needs = MO_NEEDS_ELEMENTS,
    .slots = slots,
    .prepare = prepare_decoupled,
    .kernel = kernel,
    .block = block,
};
const struct mo_method mo_amsgrad = {
    .name = "amsgrad",
    .defaults = amsgrad_defaults,
    .needs = MO_NEEDS_ELEMENTS,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
    .block = block,
};
