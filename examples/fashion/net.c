/* net.c - the network: see net.h. */
#include "net.h"

#include <math.h>
#include <string.h>

/* Wider registers where the machine has them. No multiply-add in one rounding
 * (-ffp-contract=off, see examples/fashion/local.mk): all give the same bits. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FAST __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FAST
#endif

const char *const tensor_names[TENSORS] = {"hidden.weight", "hidden.bias", "output.weight",
                                           "output.bias"};
const uint64_t tensor_shapes[TENSORS][2] = {
    {IMAGE_PIXELS, HIDDEN}, {1, HIDDEN}, {HIDDEN, CLASSES}, {1, CLASSES}};
const size_t activation_shapes[ACTIVATIONS][2] = {
    {BATCH, IMAGE_PIXELS}, {BATCH, HIDDEN}, {BATCH, CLASSES}, {BATCH, HIDDEN}};

size_t tensor_count(int tensor) {
    return tensor_shapes[tensor][0] * tensor_shapes[tensor][1];
}

/* splitmix64 (Steele, Lea and Flood 2014), to a float in [-1, 1). */
static float uniform(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (float)((z ^ z >> 31) >> 40) / (float)(1 << 23) - 1.0F;
}

void net_start(float *const parameters[TENSORS], uint64_t seed) {
    for (int t = 0; t < TENSORS; t++) {
        /* He et al. 2015 for layers that end in a ReLU; biases start at 0. */
        float bound = t == W1 ? sqrtf(6.0F / IMAGE_PIXELS) : t == W2 ? sqrtf(6.0F / HIDDEN) : 0.0F;
        for (size_t i = 0; i < tensor_count(t); i++)
            parameters[t][i] = bound * uniform(&seed);
    }
}

/* out[r] += in[r] * W for four rows at a time, so that each row of W is read
 * once for them; `columns` is the inner loop: sums stay in one order. */
FAST static void multiply(float *restrict out, const float *restrict in, const float *restrict w,
                          size_t rows, size_t inner, size_t columns) {
    size_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        float *o0 = out + r * columns, *o1 = o0 + columns, *o2 = o1 + columns, *o3 = o2 + columns;
        const float *i0 = in + r * inner, *i1 = i0 + inner, *i2 = i1 + inner, *i3 = i2 + inner;
        for (size_t k = 0; k < inner; k++) {
            const float *wk = w + k * columns;
            float a0 = i0[k], a1 = i1[k], a2 = i2[k], a3 = i3[k];
            for (size_t c = 0; c < columns; c++) {
                o0[c] += a0 * wk[c];
                o1[c] += a1 * wk[c];
                o2[c] += a2 * wk[c];
                o3[c] += a3 * wk[c];
            }
        }
    }
    for (; r < rows; r++)
        for (size_t k = 0; k < inner; k++)
            for (size_t c = 0; c < columns; c++)
                out[r * columns + c] += in[r * inner + k] * w[k * columns + c];
}

/* gradient = the transpose of in, times out_gradient: each weight's sum over the
 * batch, in the batch's order. */
FAST static void weight_gradient(float *restrict gradient, const float *restrict in,
                                 const float *restrict out_gradient, size_t rows, size_t inner,
                                 size_t columns) {
    for (size_t k = 0; k < inner; k++) {
        float *g = gradient + k * columns;
        memset(g, 0, columns * sizeof(*g));
        for (size_t r = 0; r < rows; r++) {
            float a = in[r * inner + k];
            const float *o = out_gradient + r * columns;
            if (a == 0.0F) /* half of all pixels, and what the ReLU cut */
                continue;
            for (size_t c = 0; c < columns; c++)
                g[c] += a * o[c];
        }
    }
}

static void bias_gradient(float *gradient, const float *out_gradient, size_t rows, size_t columns) {
    memset(gradient, 0, columns * sizeof(*gradient));
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            gradient[c] += out_gradient[r * columns + c];
}

static void repeat_row(float *out, const float *row, size_t rows, size_t columns) {
    for (size_t r = 0; r < rows; r++)
        memcpy(out + r * columns, row, columns * sizeof(*row));
}

double net_forward(float *const p[TENSORS], float *const a[ACTIVATIONS], const struct dataset *set,
                   const uint32_t *order, size_t count, size_t *ret_right) {
    for (size_t r = 0; r < count; r++)
        for (size_t i = 0; i < IMAGE_PIXELS; i++)
            a[INPUT][r * IMAGE_PIXELS + i] =
                (float)set->pixels[(size_t)order[r] * IMAGE_PIXELS + i] / 255.0F;
    repeat_row(a[HIDDEN_OUT], p[B1], count, HIDDEN);
    multiply(a[HIDDEN_OUT], a[INPUT], p[W1], count, IMAGE_PIXELS, HIDDEN);
    for (size_t i = 0; i < count * HIDDEN; i++)
        a[HIDDEN_OUT][i] = a[HIDDEN_OUT][i] > 0.0F ? a[HIDDEN_OUT][i] : 0.0F;
    repeat_row(a[LOGITS], p[B2], count, CLASSES);
    multiply(a[LOGITS], a[HIDDEN_OUT], p[W2], count, HIDDEN, CLASSES);

    double loss = 0;
    size_t right = 0;
    for (size_t r = 0; r < count; r++) { /* logits become probabilities */
        float *z = a[LOGITS] + r * CLASSES, sum = 0.0F;
        size_t best = 0, label = set->labels[order[r]];
        for (size_t c = 1; c < CLASSES; c++)
            best = z[c] > z[best] ? c : best;
        float highest = z[best], wanted = z[label];
        for (size_t c = 0; c < CLASSES; c++)
            sum += z[c] = expf(z[c] - highest);
        for (size_t c = 0; c < CLASSES; c++)
            z[c] /= sum;
        loss += (double)(highest - wanted + logf(sum));
        right += best == label;
    }
    if (ret_right != NULL)
        *ret_right = right;
    return loss;
}

void net_backward(float *const p[TENSORS], float *const g[TENSORS], float *const a[ACTIVATIONS],
                  const struct dataset *set, const uint32_t *order, size_t count) {
    float *dz = a[LOGITS], *dh = a[HIDDEN_GRADIENT];
    for (size_t r = 0; r < count; r++) { /* softmax and cross-entropy together */
        dz[r * CLASSES + set->labels[order[r]]] -= 1.0F;
        for (size_t c = 0; c < CLASSES; c++)
            dz[r * CLASSES + c] /= (float)count;
    }
    weight_gradient(g[W2], a[HIDDEN_OUT], dz, count, HIDDEN, CLASSES);
    bias_gradient(g[B2], dz, count, CLASSES);
    for (size_t r = 0; r < count; r++)
        for (size_t h = 0; h < HIDDEN; h++) {
            float sum = 0.0F;
            for (size_t c = 0; c < CLASSES; c++)
                sum += dz[r * CLASSES + c] * p[W2][h * CLASSES + c];
            dh[r * HIDDEN + h] = a[HIDDEN_OUT][r * HIDDEN + h] > 0.0F ? sum : 0.0F;
        }
    weight_gradient(g[W1], a[INPUT], dh, count, IMAGE_PIXELS, HIDDEN);
    bias_gradient(g[B1], dh, count, HIDDEN);
}
