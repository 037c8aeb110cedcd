/*
 * adafactor.c - Adafactor: a second moment of rows and columns (Shazeer and Stern,
 * 2018, algorithms 4 and 5).
 *
 *     g  = scale grad
 *     b  = 1 - t^-beta2_decay
 *     R  = b R + (1 - b) (mean of g^2 over the row + eps)
 *     C  = b C + (1 - b) (mean of g^2 over the column + eps)
 *     u  = g / sqrt(R C / mean R)
 *     r  = relative_step ? min(lr, 1/sqrt(t)) : lr
 *     a  = r max(eps_scale, rms p)                      (r without scale_parameter)
 *     q  = a u / max(1, rms u / clip_threshold)
 *     p *= 1 - a weight_decay
 *     p -= q                        (beta1 > 0: m = beta1 m + (1 - beta1) q; p -= m)
 *
 * rms is the root mean square over the tensor. Tensors of one dimension have a
 * second moment of their own for each element instead. Of those with more than two
 * the last two are rows and columns, and the others count matrices.
 *
 * survey() makes R and C, each sum in one thread and in order, so that it is the
 * same for any number of them. The first kernel makes the norms of u and p, the
 * second makes u once more and updates.
 */
#include "core/optim/kernel.h"

#include <memopt/dtype.h>

#include <string.h>

enum { ROWS, COLUMNS, MEANS, FACTORED };
enum { NARROW = 32 };     /* rows shorter than that */
enum { WHOLE };           /* the only part of a tensor of one dimension */
enum { STRIP = 256 };     /* columns that are summed at a time */
enum { WORK = MO_CHUNK }; /* elements that are worth a thread's while */

static const struct mo_default defaults[] = {
    {"lr", "1e-2"},
    {"weight_decay", "0"},
    {"beta1", "0"},
    {"beta2_decay", "0.8"},
    {"eps", "1e-30"},
    {"eps_scale", "1e-3"},
    {"clip_threshold", "1"},
    {"relative_step", "yes"},
    {"scale_parameter", "yes"},
    {NULL, NULL},
};

static const char *check(const struct mo_settings_optimizer *settings) {
    return settings->eps < 1e-37 ? "'eps' must be at least 1e-37" : NULL;
}

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    if (settings->beta1 == 0)
        return 0;
    ret_slots[0] = (struct mo_slot){"exp_avg", MO_SLOT_FP32, 0};
    return 1;
}

/* A tensor as matrices. */
struct shape {
    uint64_t matrices, rows, columns;
};
static struct shape shape_of(const struct mo_tensor *tensor) {
    struct shape shape = {.rows = tensor->shape[tensor->rank - 2],
                          .columns = tensor->shape[tensor->rank - 1]};
    shape.matrices = tensor->count / (shape.rows * shape.columns);
    return shape;
}

static size_t parts(const struct mo_settings_optimizer *settings, const struct mo_tensor *tensor,
                    struct mo_part *ret_parts) {
    (void)settings;
    if (tensor->rank < 2) {
        ret_parts[WHOLE] = (struct mo_part){"exp_avg_sq", tensor->count, MEMOPT_DTYPE_F32, 0};
        return 1;
    }
    struct shape shape = shape_of(tensor);
    uint64_t rows = shape.matrices * shape.rows, columns = shape.matrices * shape.columns;
    ret_parts[ROWS] = (struct mo_part){"exp_avg_sq_row", rows, MEMOPT_DTYPE_F32, 0};
    ret_parts[COLUMNS] = (struct mo_part){"exp_avg_sq_col", columns, MEMOPT_DTYPE_F32, 0};
    ret_parts[MEANS] = (struct mo_part){"row_mean", shape.matrices, MEMOPT_DTYPE_F32, 1};
    return FACTORED;
}

static float *part_of(const struct mo_tensor *tensor, size_t part) {
    return tensor->whole.at[MO_AT_PARTS + part];
}

static void prepare(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor) {
    struct mo_scalars *s = &tensor->scalars;
    double rest = pow((double)tensor->updates, -settings->beta2_decay);
    s->b1 = (float)settings->beta1;
    s->a1 = (float)(1 - settings->beta1);
    s->b2 = (float)(1 - rest);
    s->a2 = (float)rest;
    s->eps = (float)settings->eps;
}

/* --------------------------------------------------------- rows and columns */

struct survey {
    struct mo_tensor *tensor;
    const char *grad;
    int grad_dtype;
    struct shape shape;
    uint64_t rows_at_a_time, matrices_at_a_time, strips;
};

/* Up to STRIP elements of the gradient as fp32. */
static const float *strip_of(const struct survey *survey, uint64_t at, size_t n,
                             float buffer[STRIP]) {
    if (survey->grad_dtype == MEMOPT_DTYPE_F32)
        return (const float *)(const void *)survey->grad + at;
    mo_load(survey->grad + at * sizeof(uint16_t), survey->grad_dtype, n, buffer);
    return buffer;
}

static MO_KERNEL void add_squares(const float *restrict g, size_t n, float scale,
                                  double *restrict sums) {
    for (size_t i = 0; i < n; i++) {
        double d = (double)(scale * g[i]);
        sums[i] += d * d;
    }
}

static size_t least(uint64_t a, uint64_t b) {
    return (size_t)(a < b ? a : b);
}

static float average(const struct mo_scalars *s, float old, double mean) {
    return s->b2 * old + s->a2 * ((float)mean + s->eps);
}

/* A few rows, each strip by strip into STRIP sums, and these in order. */
static void survey_rows(void *context, size_t index) {
    const struct survey *survey = context;
    const struct mo_scalars *s = &survey->tensor->scalars;
    float *rows = part_of(survey->tensor, ROWS), buffer[STRIP];
    uint64_t columns = survey->shape.columns, count = survey->shape.matrices * survey->shape.rows;
    uint64_t first = index * survey->rows_at_a_time, end = first + survey->rows_at_a_time;
    for (uint64_t row = first; row < end && row < count; row++) {
        double sums[STRIP], sum = 0;
        memset(sums, 0, least(columns, STRIP) * sizeof(*sums));
        for (uint64_t at = 0; at < columns; at += STRIP) {
            size_t n = least(columns - at, STRIP);
            add_squares(strip_of(survey, row * columns + at, n, buffer), n, s->scale, sums);
        }
        for (size_t k = 0; k < STRIP && k < columns; k++)
            sum += sums[k];
        rows[row] = average(s, rows[row], sum / (double)columns);
    }
}

/* A strip of columns of a few matrices, row by row. */
static void survey_columns(void *context, size_t index) {
    const struct survey *survey = context;
    const struct mo_scalars *s = &survey->tensor->scalars;
    const struct shape *shape = &survey->shape;
    float *averages = part_of(survey->tensor, COLUMNS), buffer[STRIP];
    uint64_t at = index % survey->strips * STRIP;
    uint64_t first = index / survey->strips * survey->matrices_at_a_time;
    uint64_t end = first + survey->matrices_at_a_time;
    size_t n = least(shape->columns - at, STRIP);
    for (uint64_t matrix = first; matrix < end && matrix < shape->matrices; matrix++) {
        double sums[STRIP];
        memset(sums, 0, n * sizeof(*sums));
        for (uint64_t row = 0; row < shape->rows; row++) {
            uint64_t begin = (matrix * shape->rows + row) * shape->columns + at;
            add_squares(strip_of(survey, begin, n, buffer), n, s->scale, sums);
        }
        float *c = averages + matrix * shape->columns + at;
        for (size_t k = 0; k < n; k++)
            c[k] = average(s, c[k], sums[k] / (double)shape->rows);
    }
}

static uint64_t parts_of(uint64_t whole, uint64_t part) {
    return whole / part + (whole % part != 0);
}

static void survey(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor,
                   const void *grad, int grad_dtype, struct mo_workers *workers) {
    (void)settings;
    if (tensor->rank < 2)
        return;
    struct survey survey = {
        .tensor = tensor, .grad = grad, .grad_dtype = grad_dtype, .shape = shape_of(tensor)};
    const struct shape *shape = &survey.shape;
    survey.rows_at_a_time = parts_of(WORK, shape->columns);
    survey.matrices_at_a_time = parts_of(WORK, shape->rows * shape->columns);
    survey.strips = parts_of(shape->columns, STRIP);
    uint64_t rows = shape->matrices * shape->rows;
    mo_workers_run(workers, (size_t)parts_of(rows, survey.rows_at_a_time), survey_rows, &survey);
    mo_workers_run(workers,
                   (size_t)(parts_of(shape->matrices, survey.matrices_at_a_time) * survey.strips),
                   survey_columns, &survey);
    const float *averages = part_of(tensor, ROWS);
    float *means = part_of(tensor, MEANS);
    for (uint64_t matrix = 0; matrix < shape->matrices; matrix++) {
        double sum = 0;
        for (uint64_t row = 0; row < shape->rows; row++)
            sum += (double)averages[matrix * shape->rows + row];
        means[matrix] = (float)(sum / (double)shape->rows);
    }
}

/* ------------------------------------------------------------------ kernels */

static void finish(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor,
                   const double sums[MO_SUMS]) {
    struct mo_scalars *s = &tensor->scalars;
    double p = sqrt(sums[0] / (double)tensor->count), u = sqrt(sums[1] / (double)tensor->count);
    double cap = 1 / sqrt((double)tensor->updates);
    double step = settings->relative_step && cap < settings->lr ? cap : settings->lr;
    if (settings->scale_parameter)
        step *= p > settings->eps_scale ? p : settings->eps_scale;
    double over = u / settings->clip_threshold;
    s->weight_decay = (float)(step * settings->weight_decay);
    s->step = (float)(step / (over > 1 ? over : 1));
}

/* The second moment of `n` elements that lie in one row, or of a tensor without
 * rows: u = g x / sqrt(v). */
struct moment {
    const float *v;
    float x;
    size_t n;
};
static struct moment moment_at(const struct mo_tensor *tensor, uint64_t at, size_t most) {
    if (tensor->rank < 2) {
        const float *whole = part_of(tensor, WHOLE);
        return (struct moment){whole + at, 1, most};
    }
    uint64_t rows = tensor->shape[tensor->rank - 2], columns = tensor->shape[tensor->rank - 1];
    uint64_t row = at / columns, column = at % columns, matrix = row / rows;
    const float *r = part_of(tensor, ROWS), *c = part_of(tensor, COLUMNS),
                *mean = part_of(tensor, MEANS);
    return (struct moment){c + matrix * columns + column, sqrtf(mean[matrix] / r[row]),
                           least(most, columns - column)};
}

/* Rows too short for a kernel each, as the windows of a convolution are. */
static int is_narrow(const struct mo_tensor *tensor) {
    return tensor->rank >= 2 && tensor->shape[tensor->rank - 1] < NARROW;
}

/* `n` elements of narrow rows as if they lay in one: x g and v of each. */
static void gather(const struct mo_scalars *s, uint64_t at, size_t n, const float *g, float *xg,
                   float *v) {
    const struct mo_tensor *tensor = s->tensor;
    uint64_t columns = tensor->shape[tensor->rank - 1];
    for (size_t i = 0; i < n;) {
        struct moment moment = moment_at(tensor, at + i, n - i);
        float x = s->scale * moment.x;
        for (size_t k = 0; k < moment.n && k < columns; k++, i++) {
            xg[i] = x * g[i];
            v[i] = moment.v[k];
        }
    }
}

static MO_KERNEL void square_average(float *restrict v, const float *restrict g, size_t n,
                                     const struct mo_scalars *s) {
    const float scale = s->scale, b2 = s->b2, a2 = s->a2, eps = s->eps;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i];
        v[i] = b2 * v[i] + a2 * (d * d + eps);
    }
}

static MO_KERNEL void add_norms(const float *restrict p, const float *restrict g,
                                const float *restrict v, size_t n, float x, double *sums) {
    double pp[MO_LANES] = {0}, uu[MO_LANES] = {0};
    size_t i = 0;
    for (; i + MO_LANES <= n; i += MO_LANES)
        for (size_t k = 0; k < MO_LANES; k++) {
            double y = (double)p[i + k], u = (double)(x * g[i + k] / sqrtf(v[i + k]));
            pp[k] += y * y;
            uu[k] += u * u;
        }
    for (size_t k = 0; i < n; i++, k++) {
        double y = (double)p[i], u = (double)(x * g[i] / sqrtf(v[i]));
        pp[k] += y * y;
        uu[k] += u * u;
    }
    sums[0] += mo_add_lanes(pp);
    sums[1] += mo_add_lanes(uu);
}

static void norms(const struct mo_scalars *s, size_t n, float *p, const float *g,
                  float *const *slot, double *sums) {
    const struct mo_tensor *tensor = s->tensor;
    (void)slot;
    if (tensor->rank < 2)
        square_average(part_of(tensor, WHOLE) + s->first, g, n, s);
    for (size_t at = 0; is_narrow(tensor) && at < n; at += STRIP) {
        float xg[STRIP], v[STRIP];
        size_t count = least(n - at, STRIP);
        gather(s, s->first + at, count, g + at, xg, v);
        add_norms(p + at, xg, v, count, 1, sums);
    }
    for (size_t at = 0; !is_narrow(tensor) && at < n;) {
        struct moment moment = moment_at(tensor, s->first + at, n - at);
        add_norms(p + at, g + at, moment.v, moment.n, s->scale * moment.x, sums);
        at += moment.n;
    }
}

static MO_KERNEL void plain(float *restrict p, const float *restrict g, const float *restrict v,
                            size_t n, float x, const struct mo_scalars *s) {
    const float decay = s->weight_decay, step = s->step;
    for (size_t i = 0; i < n; i++)
        p[i] -= decay * p[i] + step * (x * g[i] / sqrtf(v[i]));
}

static MO_KERNEL void momentum(float *restrict p, const float *restrict g, const float *restrict v,
                               float *restrict m, size_t n, float x, const struct mo_scalars *s) {
    const float decay = s->weight_decay, step = s->step, b1 = s->b1, a1 = s->a1;
    for (size_t i = 0; i < n; i++) {
        m[i] = b1 * m[i] + a1 * (step * (x * g[i] / sqrtf(v[i])));
        p[i] -= decay * p[i] + m[i];
    }
}

static void update_run(const struct mo_scalars *s, size_t n, float *p, const float *g,
                       const float *v, float *m, float x) {
    if (s->b1 == 0)
        plain(p, g, v, n, x, s);
    else
        momentum(p, g, v, m, n, x, s);
}

static void update(const struct mo_scalars *s, size_t n, float *p, const float *g,
                   float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *m = s->b1 == 0 ? p : slot[0]; /* plain() has none */
    for (size_t at = 0; is_narrow(s->tensor) && at < n; at += STRIP) {
        float xg[STRIP], v[STRIP];
        size_t count = least(n - at, STRIP);
        gather(s, s->first + at, count, g + at, xg, v);
        update_run(s, count, p + at, xg, v, m + at, 1);
    }
    for (size_t at = 0; !is_narrow(s->tensor) && at < n;) {
        struct moment moment = moment_at(s->tensor, s->first + at, n - at);
        update_run(s, moment.n, p + at, g + at, moment.v, m + at, s->scale * moment.x);
        at += moment.n;
    }
}

static mo_kernel_fn kernel(const struct mo_settings_optimizer *settings, int phase) {
    (void)settings;
    return phase == 0 ? norms : update;
}

const struct mo_method mo_adafactor = {
    .name = "adafactor",
    .defaults = defaults,
    .needs = MO_NEEDS_NORMS | MO_NEEDS_TENSORS,
    .check = check,
    .slots = slots,
    .parts = parts,
    .prepare = prepare,
    .kernel = kernel,
    .survey = survey,
    .finish = finish,
};
