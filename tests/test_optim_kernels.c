/*
 * test_optim_kernels.c - the vectorized kernels against scalar references, bit by
 * bit: every optimizer, on fp32, bf16 and fp16, with masters, stochastic rounding
 * and 8-bit state, on odd sizes and more than one chunk, on one thread and three.
 *
 * The references are compiled without vectorization, see optim.mk.
 */
#include "tests/optim_noise.h"

#include <memopt/memopt.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STEPS = 6, SLOTS = 3, BLOCK = 256, LARGEST = 66001 };
static const size_t sizes[] = {1, 7, 255, 256, 257, 1031, LARGEST};

/* --------------------------------------------------------------- references */

/* The settings of a case, as numbers; those that it doesn't use are 0. */
struct settings {
    double lr, decay, momentum, dampening, beta1, beta2, eps, lr_decay, initial, alpha, rho,
        momentum_decay;
};
struct element {
    float p, slot[SLOTS];
};
typedef void (*reference_fn)(const struct settings *s, int t, double *carry, float g,
                             struct element *e);

#define F(X) ((float)(X))

static void ref_sgd(const struct settings *s, int t, double *carry, float g, struct element *e) {
    (void)t, (void)carry;
    float d = 1 * g + F(s->decay) * e->p;
    e->p = e->p - F(s->lr) * d;
}
static void ref_momentum(const struct settings *s, int t, double *carry, float g,
                         struct element *e) {
    (void)carry;
    float d = g + F(s->decay) * e->p;
    float rest = t == 1 ? 1 : F(1 - s->dampening);
    e->slot[0] = F(s->momentum) * e->slot[0] + rest * d;
    e->p = e->p - F(s->lr) * e->slot[0];
}
static void ref_nesterov(const struct settings *s, int t, double *carry, float g,
                         struct element *e) {
    (void)carry;
    float d = g + F(s->decay) * e->p;
    float rest = t == 1 ? 1 : F(1 - s->dampening);
    e->slot[0] = F(s->momentum) * e->slot[0] + rest * d;
    e->p = e->p - F(s->lr) * (d + F(s->momentum) * e->slot[0]);
}

static void moments(const struct settings *s, float d, struct element *e) {
    e->slot[0] = F(s->beta1) * e->slot[0] + F(1 - s->beta1) * d;
    e->slot[1] = F(s->beta2) * e->slot[1] + F(1 - s->beta2) * (d * d);
}
static float adam_step(const struct settings *s, int t, float m, float v) {
    float step = F(s->lr / (1 - pow(s->beta1, t)));
    float root = F(1 / sqrt(1 - pow(s->beta2, t)));
    return step * (m / (root * sqrtf(v) + F(s->eps)));
}
static void ref_adam(const struct settings *s, int t, double *carry, float g, struct element *e) {
    (void)carry;
    moments(s, g + F(s->decay) * e->p, e);
    e->p = e->p - adam_step(s, t, e->slot[0], e->slot[1]);
}
static void ref_adamw(const struct settings *s, int t, double *carry, float g, struct element *e) {
    (void)carry;
    moments(s, g, e);
    e->p = F(1 - s->lr * s->decay) * e->p - adam_step(s, t, e->slot[0], e->slot[1]);
}
static void ref_amsgrad(const struct settings *s, int t, double *carry, float g,
                        struct element *e) {
    (void)carry;
    moments(s, g + F(s->decay) * e->p, e);
    e->slot[2] = e->slot[2] > e->slot[1] ? e->slot[2] : e->slot[1];
    e->p = e->p - adam_step(s, t, e->slot[0], e->slot[2]);
}
static void ref_adagrad(const struct settings *s, int t, double *carry, float g,
                        struct element *e) {
    (void)carry;
    float d = g + F(s->decay) * e->p;
    e->slot[0] = e->slot[0] + d * d;
    e->p = e->p - F(s->lr / (1 + (t - 1) * s->lr_decay)) * (d / (sqrtf(e->slot[0]) + F(s->eps)));
}
static void ref_rmsprop(const struct settings *s, int t, double *carry, float g,
                        struct element *e) {
    (void)t, (void)carry;
    float d = g + F(s->decay) * e->p;
    e->slot[0] = F(s->alpha) * e->slot[0] + F(1 - s->alpha) * (d * d);
    e->p = e->p - F(s->lr) * (d / (sqrtf(e->slot[0]) + F(s->eps)));
}
static void ref_rmsprop_all(const struct settings *s, int t, double *carry, float g,
                            struct element *e) {
    (void)t, (void)carry;
    float d = g + F(s->decay) * e->p;
    e->slot[0] = F(s->alpha) * e->slot[0] + F(1 - s->alpha) * (d * d);
    e->slot[2] = F(s->alpha) * e->slot[2] + F(1 - s->alpha) * d;
    e->slot[1] =
        F(s->momentum) * e->slot[1] + d / (sqrtf(e->slot[0] - e->slot[2] * e->slot[2]) + F(s->eps));
    e->p = e->p - F(s->lr) * e->slot[1];
}
static void ref_adadelta(const struct settings *s, int t, double *carry, float g,
                         struct element *e) {
    (void)t, (void)carry;
    float d = g + F(s->decay) * e->p;
    e->slot[0] = F(s->rho) * e->slot[0] + F(1 - s->rho) * (d * d);
    float q = sqrtf(e->slot[1] + F(s->eps)) / sqrtf(e->slot[0] + F(s->eps)) * d;
    e->slot[1] = F(s->rho) * e->slot[1] + F(1 - s->rho) * (q * q);
    e->p = e->p - F(s->lr) * q;
}
static void ref_adamax(const struct settings *s, int t, double *carry, float g, struct element *e) {
    (void)carry;
    float d = g + F(s->decay) * e->p;
    e->slot[0] = F(s->beta1) * e->slot[0] + F(1 - s->beta1) * d;
    float a = F(s->beta2) * e->slot[1], b = fabsf(d) + F(s->eps);
    e->slot[1] = a > b ? a : b;
    e->p = e->p - F(s->lr / (1 - pow(s->beta1, t))) * (e->slot[0] / e->slot[1]);
}
static void ref_nadam(const struct settings *s, int t, double *carry, float g, struct element *e) {
    double now = s->beta1 * (1 - 0.5 * pow(0.96, t * s->momentum_decay));
    double next = s->beta1 * (1 - 0.5 * pow(0.96, (t + 1) * s->momentum_decay));
    double product = 1; /* of all up to now */
    for (int i = 1; i <= t; i++)
        product *= s->beta1 * (1 - 0.5 * pow(0.96, i * s->momentum_decay));
    (void)carry;
    moments(s, g + F(s->decay) * e->p, e);
    float d = sqrtf(F(1 / (1 - pow(s->beta2, t))) * e->slot[1]) + F(s->eps);
    float x = F(s->lr * (1 - now) / (1 - product));
    float y = F(s->lr * next / (1 - product * now * next));
    float grad = g + F(s->decay) * e->p;
    e->p = e->p - x * (grad / d) - y * (e->slot[0] / d);
}
static void ref_radam(const struct settings *s, int t, double *carry, float g, struct element *e) {
    (void)carry;
    moments(s, g + F(s->decay) * e->p, e);
    double b2t = pow(s->beta2, t), rho0 = 2 / (1 - s->beta2) - 1;
    double rho = rho0 - 2 * t * b2t / (1 - b2t), step = s->lr / (1 - pow(s->beta1, t));
    if (rho <= 4) {
        e->p = e->p - F(step) * e->slot[0];
        return;
    }
    double r = sqrt((rho - 4) * (rho - 2) * rho0 / ((rho0 - 4) * (rho0 - 2) * rho));
    e->p = e->p - F(step * r * sqrt(1 - b2t)) * (e->slot[0] / (sqrtf(e->slot[1]) + F(s->eps)));
}
static void ref_lion(const struct settings *s, int t, double *carry, float g, struct element *e) {
    (void)t, (void)carry;
    float c = F(s->beta1) * e->slot[0] + F(1 - s->beta1) * g;
    float sign = c > 0 ? F(s->lr) : c < 0 ? -F(s->lr) : c;
    e->p = F(1 - s->lr * s->decay) * e->p - sign;
    e->slot[0] = F(s->beta2) * e->slot[0] + F(1 - s->beta2) * g;
}

static const struct model {
    const char *name, *settings;
    reference_fn reference;
    struct settings s;
    int slots;
    char kinds[SLOTS]; /* 's' signed, 'u' unsigned: can be in 8 bits; 'f': fp32 only */
} models[] = {
    {"sgd", "lr=0.01 weight_decay=0.1", ref_sgd, {.lr = 0.01, .decay = 0.1}, 0, ""},
    {"sgd",
     "lr=0.01 momentum=0.9 dampening=0.25",
     ref_momentum,
     {.lr = 0.01, .momentum = 0.9, .dampening = 0.25},
     1,
     "s"},
    {"sgd",
     "lr=0.01 momentum=0.9 nesterov=yes weight_decay=0.1",
     ref_nesterov,
     {.lr = 0.01, .momentum = 0.9, .decay = 0.1},
     1,
     "s"},
    {"adam",
     "lr=0.01 weight_decay=0.1",
     ref_adam,
     {.lr = 0.01, .decay = 0.1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8},
     2,
     "su"},
    {"adamw",
     "lr=0.01 weight_decay=0.1 beta2=0.99",
     ref_adamw,
     {.lr = 0.01, .decay = 0.1, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8},
     2,
     "su"},
    {"amsgrad",
     "lr=0.01",
     ref_amsgrad,
     {.lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8},
     3,
     "suu"},
    {"adagrad",
     "lr=0.05 lr_decay=0.1 initial_accumulator=0.5",
     ref_adagrad,
     {.lr = 0.05, .lr_decay = 0.1, .initial = 0.5, .eps = 1e-10},
     1,
     "f"},
    {"rmsprop", "", ref_rmsprop, {.lr = 1e-2, .alpha = 0.99, .eps = 1e-8}, 1, "f"},
    {"rmsprop",
     "momentum=0.9 centered=yes lr=1e-3",
     ref_rmsprop_all,
     {.lr = 1e-3, .alpha = 0.99, .eps = 1e-8, .momentum = 0.9},
     3,
     "fff"},
    {"adadelta", "", ref_adadelta, {.lr = 1, .rho = 0.9, .eps = 1e-6}, 2, "ff"},
    {"adamax", "", ref_adamax, {.lr = 2e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8}, 2, "ff"},
    {"nadam",
     "weight_decay=0.0",
     ref_nadam,
     {.lr = 2e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .momentum_decay = 4e-3},
     2,
     "ff"},
    {"radam", "", ref_radam, {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8}, 2, "ff"},
    {"lion",
     "weight_decay=0.1",
     ref_lion,
     {.lr = 1e-4, .decay = 0.1, .beta1 = 0.9, .beta2 = 0.99},
     1,
     "s"},
};
enum { MODELS = sizeof(models) / sizeof(models[0]) };

/* ------------------------------------------------- numbers of 16 and 8 bits */

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}
static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static float from16(uint16_t h, int dtype) {
    if (dtype == MEMOPT_DTYPE_BF16)
        return float_of((uint32_t)h << 16);
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    double x = exponent == 31  ? (mantissa ? (double)NAN : (double)INFINITY)
               : exponent == 0 ? ldexp(mantissa, -24)
                               : ldexp(1024 + mantissa, exponent - 25);
    return (float)(h & 0x8000 ? -x : x);
}
/* The two neighbours of x among the type's numbers, towards zero and away. */
static void neighbours(float x, int dtype, uint16_t *low, uint16_t *high) {
    uint16_t sign = signbit(x) ? 0x8000 : 0, code = 0;
    for (uint16_t bit = 0x4000; bit != 0; bit >>= 1) /* the largest not above |x| */
        if (from16(code | bit, dtype) <= fabsf(x))
            code |= bit;
    *low = code | sign;
    *high = (uint16_t)(fabsf(x) == from16(code, dtype) ? *low : (code + 1) | sign);
}
static uint16_t nearest(float x, int dtype) {
    uint16_t low, high;
    neighbours(x, dtype, &low, &high);
    double a = fabs((double)x - (double)from16(low, dtype));
    double b = fabs((double)from16(high, dtype) - (double)x);
    return a < b || (a == b && (low & 1) == 0) ? low : high;
}
/* By the definition of rounding by chance: up if the part between the neighbours
 * plus the random number reaches 1. */
static uint16_t by_chance(float x, int dtype, uint32_t chance) {
    uint16_t low, high;
    neighbours(x, dtype, &low, &high);
    double a = (double)from16(low, dtype), b = (double)from16(high, dtype);
    double part = a == b ? 0 : ((double)x - a) / (b - a);
    double random =
        dtype == MEMOPT_DTYPE_BF16 ? (chance >> 16) * 0x1p-16 : (chance & 0x1fff) * 0x1p-13;
    return part + random >= 1 ? high : low;
}

static uint32_t hash(uint32_t x) {
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}
static uint32_t step_key(const char *name, uint64_t seed, int t) {
    uint32_t id = 2166136261u, key = hash((uint32_t)seed);
    for (; *name != '\0'; name++)
        id = (id ^ (unsigned char)*name) * 16777619u;
    key = hash(key ^ (uint32_t)(seed >> 32));
    key = hash(key ^ id);
    key = hash(key ^ (uint32_t)t);
    return hash(key);
}
/* The number of element i of its tensor. */
static uint32_t chance_of(uint32_t key, size_t i) {
    uint32_t e = (uint32_t)(i % BLOCK), w = e % 128 / 2, k = e / 128 * 2 + e % 2;
    return hash(key + (uint32_t)(i / BLOCK)) + w * 0x9e3779b1u + k * 0x40040000u;
}

/* 8 bits: exponent and 3 bits of mantissa, with subnormals, as parts of the scale. */
static double from8(unsigned code, char kind) {
    unsigned exponent = kind == 's' ? code >> 3 & 15 : code >> 3, mantissa = code & 7;
    int lowest = kind == 's' ? -14 : -30;
    double x = exponent == 0 ? ldexp(mantissa, lowest - 3)
                             : ldexp(8 + mantissa, (int)exponent - 1 + lowest - 3);
    return kind == 's' && code & 128 ? -x : x;
}
static float factor8(char kind) {
    return kind == 's' ? 0x1p112f : 0x1p96f;
}
/* `folded`: the two factors as one. */
static unsigned to8(float x, float absmax, char kind, uint32_t chance, int folded) {
    float scale = absmax > 0x1p-120f ? 1.8749995f / absmax : 0;
    float down = 1 / factor8(kind);
    /* by the same rule as fp32's own rounding: in the range of its subnormals */
    float scaled = folded ? x * (scale * down) : x * scale * down;
    uint32_t sum = (bits_of(scaled) & 0x7fffffffu) + chance;
    unsigned code = sum >> 20, sign = kind == 's' && signbit(scaled) ? 128 : 0;
    if (kind == 'u' && code == 0)
        code = 1;
    return code | sign;
}

/* ---------------------------------------------------------------- one tensor */

static float first[LARGEST], grad[LARGEST], master[LARGEST], slots[SLOTS][LARGEST];
static uint16_t grad16[LARGEST], data16[LARGEST], expected16[LARGEST];
static float data[LARGEST], expected[LARGEST];

struct variant {
    const char *settings;
    int dtype, grad_dtype;
    char rounding; /* 'm' master, 's' stochastic, 'n' nearest, ' ' fp32 */
    int small;     /* 8-bit state */
};
static const struct variant variants[] = {
    {"", MEMOPT_DTYPE_F32, MEMOPT_DTYPE_F32, ' ', 0},
    {"", MEMOPT_DTYPE_F32, MEMOPT_DTYPE_BF16, ' ', 0},
    {"", MEMOPT_DTYPE_BF16, MEMOPT_DTYPE_BF16, 'm', 0},
    {"", MEMOPT_DTYPE_F16, MEMOPT_DTYPE_F16, 'm', 0},
    {" rounding=nearest", MEMOPT_DTYPE_BF16, MEMOPT_DTYPE_F32, 'n', 0},
    {" rounding=nearest", MEMOPT_DTYPE_F16, MEMOPT_DTYPE_F16, 'n', 0},
    {" rounding=stochastic seed=5000000007", MEMOPT_DTYPE_BF16, MEMOPT_DTYPE_BF16, 's', 0},
    {" rounding=stochastic seed=5000000007", MEMOPT_DTYPE_F16, MEMOPT_DTYPE_F16, 's', 0},
    {" state_format=8bit seed=5000000007", MEMOPT_DTYPE_F32, MEMOPT_DTYPE_F32, ' ', 1},
    {" state_format=8bit seed=5000000007", MEMOPT_DTYPE_F16, MEMOPT_DTYPE_F16, 'm', 1},
    {" state_format=8bit seed=5000000007 rounding=stochastic", MEMOPT_DTYPE_BF16, MEMOPT_DTYPE_F32,
     's', 1},
    {" state_format=8bit seed=5000000007 rounding=stochastic", MEMOPT_DTYPE_BF16, MEMOPT_DTYPE_BF16,
     's', 1},
};

static void to_grad16(size_t n, int dtype) {
    for (size_t i = 0; i < n; i++) {
        grad16[i] = nearest(grad[i], dtype);
        grad[i] = from16(grad16[i], dtype);
    }
}

static int is_folded(const struct model *model, const struct variant *variant, size_t n, size_t i) {
    return variant->small && variant->rounding == 's' && variant->grad_dtype == MEMOPT_DTYPE_BF16 &&
           model->reference == ref_adamw && i / BLOCK < n / BLOCK;
}

/* AdamW on bf16 with 8-bit moments, in whole blocks: with folded factors. */
static float raw[2][LARGEST], top[2][LARGEST / BLOCK + 1];
static void ref_folded(const struct settings *s, int t, float g, size_t i, struct element *e) {
    double root = sqrt(1 - pow(s->beta2, t));
    float m_keep = F(s->beta1) * (top[0][i / BLOCK] * (1 / 1.8749995f) * 0x1p112f);
    float v_keep = F(s->beta2) * (top[1][i / BLOCK] * (1 / 1.8749995f) * 0x1p96f);
    e->slot[0] = fmaf(F(1 - s->beta1), g, m_keep * raw[0][i]);
    float r = sqrtf(F(1 - s->beta2)) * g;
    e->slot[1] = fmaf(r, r, v_keep * raw[1][i]);
    float step = F(s->lr / (1 - pow(s->beta1, t)) * root);
    e->p = fmaf(-step, e->slot[0] / (sqrtf(e->slot[1]) + F(s->eps * root)),
                F(1 - s->lr * s->decay) * e->p);
}

/* What the tensor must be after the steps, in `expected` or `expected16`. */
static void refer(const struct model *model, const struct variant *variant, size_t n) {
    int is16 = variant->dtype != MEMOPT_DTYPE_F32;
    double carry = 1;
    memset(raw, 0, sizeof(raw));
    memset(top, 0, sizeof(top));
    for (size_t i = 0; i < n; i++) {
        expected16[i] = is16 ? nearest(first[i], variant->dtype) : 0;
        master[i] = is16 ? from16(expected16[i], variant->dtype) : first[i];
        for (int k = 0; k < SLOTS; k++)
            slots[k][i] = strcmp(model->name, "adagrad") == 0 ? F(model->s.initial) : 0;
    }
    for (int t = 1; t <= STEPS; t++) {
        fill_grad(grad, (uint32_t)t, 0, n);
        if (variant->grad_dtype != MEMOPT_DTYPE_F32)
            to_grad16(n, variant->grad_dtype);
        uint32_t key = step_key("w", 5000000007, t);
        for (size_t i = 0; i < n; i++) {
            struct element e = {.p = master[i]};
            for (int k = 0; k < model->slots; k++)
                e.slot[k] = slots[k][i];
            if (is_folded(model, variant, n, i))
                ref_folded(&model->s, t, grad[i], i, &e);
            else
                model->reference(&model->s, t, &carry, grad[i], &e);
            for (int k = 0; k < model->slots; k++)
                slots[k][i] = e.slot[k];
            if (variant->rounding == 's')
                expected16[i] = by_chance(e.p, variant->dtype, chance_of(key, i));
            else if (is16)
                expected16[i] = nearest(e.p, variant->dtype);
            int kept = !is16 || variant->rounding == 'm';
            master[i] = kept ? e.p : from16(expected16[i], variant->dtype);
        }
        for (int k = 0; variant->small && k < model->slots; k++)
            for (size_t begin = 0; begin < n; begin += BLOCK) {
                size_t end = begin + BLOCK < n ? begin + BLOCK : n;
                float absmax = 0;
                for (size_t i = begin; i < end; i++)
                    absmax = fabsf(slots[k][i]) > absmax ? fabsf(slots[k][i]) : absmax;
                for (size_t i = begin; i < end; i++) {
                    uint32_t chance = chance_of(key, i);
                    chance = (k == 0 ? chance : k == 1 ? chance >> 12 : chance >> 8) & 0xfffff;
                    char kind = model->kinds[k];
                    unsigned code =
                        to8(slots[k][i], absmax, kind, chance, is_folded(model, variant, n, i));
                    slots[k][i] = (float)from8(code, kind) * (absmax / 1.8749995f);
                    if (k < 2) {
                        raw[k][i] = (float)(from8(code, kind) / (double)factor8(kind));
                        top[k][i / BLOCK] = absmax;
                    }
                }
            }
    }
    for (size_t i = 0; i < n; i++)
        expected[i] = master[i];
}

/* Not 0: one step only, with all gradients that large. */
static float large;

static void run(const struct model *model, const struct variant *variant, size_t n, int threads) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    struct memopt_optimizer *optimizer = NULL;
    char settings[256];
    int is16 = variant->dtype != MEMOPT_DTYPE_F32;
    snprintf(settings, sizeof(settings), "%s%s threads=%d", model->settings, variant->settings,
             threads);
    options.name = model->name;
    options.settings = settings;
    if (memopt_optimizer_create(&options, &optimizer, &error) < 0)
        fail_msg("%s %s: %s", model->name, settings, error.message);
    struct memopt_param param = MEMOPT_PARAM_INIT;
    param.name = "w";
    param.dtype = variant->dtype;
    param.grad_dtype = variant->grad_dtype;
    param.data = is16 ? (void *)data16 : data;
    param.grad = variant->grad_dtype != MEMOPT_DTYPE_F32 ? (void *)grad16 : grad;
    param.count = n;
    assert_int_equal(memopt_optimizer_add(optimizer, &param, NULL, &error), 0);
    for (size_t i = 0; i < n; i++) {
        data[i] = first[i];
        data16[i] = is16 ? nearest(first[i], variant->dtype) : 0;
    }
    for (int t = 1; t <= (large > 0 ? 1 : STEPS); t++) {
        fill_grad(grad, (uint32_t)t, 0, n);
        for (size_t i = 0; large > 0 && i < n; i++)
            grad[i] = large;
        if (variant->grad_dtype != MEMOPT_DTYPE_F32)
            to_grad16(n, variant->grad_dtype);
        assert_int_equal(memopt_optimizer_step(optimizer, NULL, &error), 0);
    }
    memopt_optimizer_destroy(optimizer);
}

static void check(const struct model *model, const struct variant *variant, size_t n) {
    refer(model, variant, n);
    for (int threads = 1; threads <= (n == LARGEST ? 3 : 1); threads += 2) {
        run(model, variant, n, threads);
        for (size_t i = 0; i < n; i++) {
            int same = variant->dtype == MEMOPT_DTYPE_F32 ? bits_of(data[i]) == bits_of(expected[i])
                                                          : data16[i] == expected16[i];
            if (!same)
                fail_msg(
                    "%s %s%s, %zu elements, %d threads: element %zu is %a (%04x), not %a (%04x)",
                    model->name, model->settings, variant->settings, n, threads, i, (double)data[i],
                    data16[i], (double)expected[i], expected16[i]);
        }
    }
}

static void bit_identical(void **state) {
    const struct variant *variant = *state;
    fill_first(first, 0, LARGEST);
    for (size_t m = 0; m < MODELS; m++) {
        if (variant->small && (models[m].slots == 0 || strchr(models[m].kinds, 'f') != NULL))
            continue;
        int all = models[m].reference == ref_nesterov || models[m].reference == ref_adamw;
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            if (all || sizes[i] != LARGEST)
                check(&models[m], variant, sizes[i]);
    }
}

/* The first step is the learning rate, however large the gradients were before they
 * were clipped: nothing may overflow on the way. */
static void large_gradients_are_clipped(void **state) {
    (void)state;
    static const struct model model = {.name = "adamw",
                                       .settings = "lr=0.1 weight_decay=0 clip_norm=1"};
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
        const struct variant *variant = &variants[i];
        if (variant->grad_dtype == MEMOPT_DTYPE_F16)
            continue; /* has no such numbers */
        large = 1e20f;
        fill_first(first, 0, BLOCK + 1);
        run(&model, variant, BLOCK + 1, 1);
        large = 0;
        for (size_t k = 0; k <= BLOCK; k++) {
            float before = variant->dtype == MEMOPT_DTYPE_F32
                               ? first[k]
                               : from16(nearest(first[k], variant->dtype), variant->dtype);
            float after =
                variant->dtype == MEMOPT_DTYPE_F32 ? data[k] : from16(data16[k], variant->dtype);
            if (!(fabsf(before - after - 0.1f) < 0.02f))
                fail_msg("%s: element %zu went from %g to %g", variant->settings, k, (double)before,
                         (double)after);
        }
    }
}

int main(void) {
    enum { VARIANTS = sizeof(variants) / sizeof(variants[0]) };
    struct CMUnitTest tests[VARIANTS + 1];
    char names[VARIANTS][96];
    setenv("MEMOPT_CONF", "/dev/null", 1);
    for (size_t i = 0; i < VARIANTS; i++) {
        snprintf(names[i], sizeof(names[i]), "%s<-%s%s", memopt_dtype_name(variants[i].dtype),
                 memopt_dtype_name(variants[i].grad_dtype), variants[i].settings);
        tests[i] = (struct CMUnitTest){names[i], bit_identical, NULL, NULL,
                                       (void *)(uintptr_t)&variants[i]};
    }
    tests[VARIANTS] = (struct CMUnitTest)cmocka_unit_test(large_gradients_are_clipped);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
