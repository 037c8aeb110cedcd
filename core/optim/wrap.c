/*
 * wrap.c - what goes around any method: Lookahead (Zhang and others, 2019) and SAM,
 * sharpness-aware minimization (Foret and others, 2021; adaptive: Kwon and others,
 * 2021).
 *
 *     Lookahead, after every k-th update:
 *         slow += alpha (p - slow)
 *         p     = slow
 *     SAM, between two gradients:
 *         p += sam / (|g| + 1e-12) g                  (adaptive: p^2 g, and |p g|)
 *     and back, bit for bit, before the update by the second.
 *
 * |g| is the norm over all tensors. Where a parameter has a master, Lookahead works
 * on that; SAM moves what the program sees.
 */
#include "core/optim/kernel.h"

#include "core/base/error.h"

#include <memopt/dtype.h>

#include <errno.h>
#include <string.h>

/* ---------------------------------------------------------------- Lookahead */

static MO_KERNEL void interpolate(const struct mo_scalars *s, size_t n, float *restrict p,
                                  const float *restrict g, float *const *slot, double *sums) {
    (void)g, MO_UNUSED_SUMS;
    float *restrict slow = slot[0];
    const float alpha = s->x;
    for (size_t i = 0; i < n; i++) {
        slow[i] += alpha * (p[i] - slow[i]);
        p[i] = slow[i];
    }
}

static void lookahead_chunk(void *context, size_t chunk) {
    const struct mo_pass *pass = context;
    const struct mo_settings_optimizer *settings = &pass->optimizer->groups[0].settings;
    struct mo_scalars scalars = {.x = (float)settings->lookahead_alpha};
    struct mo_span span;
    struct mo_operands operands;
    double unused[MO_SUMS];
    const struct mo_tensor *tensor = mo_pass_acquire(pass, chunk, &span);
    mo_pass_operands(pass, tensor, &span, &operands);
    operands.stochastic = 0;
    operands.slot_count = 1;
    operands.slots[0] = (struct mo_stored_slot){.data = span.at[MO_AT_SLOW]};
    operands.grad = operands.slots[0].data; /* not looked at: a sparse one would not do */
    operands.grad_dtype = MEMOPT_DTYPE_F32;
    mo_operands_update(&operands, &(struct mo_kernels){.update = interpolate}, &scalars, unused);
    mo_pass_release(pass, &span, 1);
}

int mo_lookahead(struct mo_pass *pass) {
    const struct memopt_optimizer *optimizer = pass->optimizer;
    int64_t every = optimizer->groups[0].settings.lookahead;
    if (every == 0 || optimizer->updates % (uint64_t)every != 0)
        return 0;
    mo_pass_run(pass, lookahead_chunk);
    return 1;
}

/* ---------------------------------------------------------------------- SAM */

struct sam {
    struct mo_pass pass;
    struct mo_scalars scalars;
    mo_kernel_fn kernel;
    int save;
};

static MO_KERNEL void square(const struct mo_scalars *s, size_t n, float *restrict p,
                             const float *restrict g, float *const *slot, double *sums) {
    (void)s, (void)slot;
    double lanes[MO_LANES] = {0};
    size_t i = 0;
    for (; i + MO_LANES <= n; i += MO_LANES)
        for (size_t k = 0; k < MO_LANES; k++) {
            double x = (double)p[i + k] * (double)g[i + k];
            lanes[k] += x * x;
        }
    for (size_t k = 0; i < n; i++, k++) {
        double x = (double)p[i] * (double)g[i];
        lanes[k] += x * x;
    }
    sums[0] += mo_add_lanes(lanes);
}

static MO_KERNEL void move(const struct mo_scalars *s, size_t n, float *restrict p,
                           const float *restrict g, float *const *slot, double *sums) {
    (void)slot, MO_UNUSED_SUMS;
    const float step = s->step;
    for (size_t i = 0; i < n; i++)
        p[i] += step * g[i];
}

static MO_KERNEL void move_adaptive(const struct mo_scalars *s, size_t n, float *restrict p,
                                    const float *restrict g, float *const *slot, double *sums) {
    (void)slot, MO_UNUSED_SUMS;
    const float step = s->step;
    for (size_t i = 0; i < n; i++)
        p[i] += step * (p[i] * p[i] * g[i]);
}

/* A kernel over what the program sees. */
static void sam_chunk(void *context, size_t chunk) {
    const struct sam *sam = context;
    struct mo_span span;
    struct mo_operands operands;
    double *sums = sam->pass.optimizer->sums + chunk * MO_SUMS;
    const struct mo_tensor *tensor = mo_pass_acquire(&sam->pass, chunk, &span);
    mo_pass_operands(&sam->pass, tensor, &span, &operands);
    operands.slot_count = 0;
    operands.master = NULL;
    operands.stochastic = 0;
    sums[0] = sums[1] = 0;
    if (sam->save)
        memcpy(span.at[MO_AT_UNPERTURBED], operands.data,
               operands.count * mo_element_size(operands.dtype));
    if (sam->kernel == NULL)
        sums[0] = mo_gradient_square(operands.grad, operands.grad_dtype, operands.count);
    else
        mo_operands_update(&operands, &(struct mo_kernels){.update = sam->kernel}, &sam->scalars,
                           sums);
    mo_pass_release(&sam->pass, &span, sam->save);
}

static int check_perturb(const struct memopt_optimizer *optimizer, struct memopt_error *error) {
    if (optimizer == NULL)
        return mo_no_optimizer(error);
    if (optimizer->groups[0].settings.sam <= 0)
        return mo_fail(error, -EINVAL, "the setting 'sam' is 0: there is nothing to perturb by");
    if (optimizer->perturbed)
        return mo_fail(error, -EBUSY, "the parameters are perturbed already: a step comes first");
    if (optimizer->tensor_count == 0)
        return mo_fail(error, -EINVAL, "the optimizer has no parameters");
    for (size_t i = 0; i < optimizer->tensor_count; i++)
        if (optimizer->tensors[i].grad == NULL)
            return mo_fail(error, -EINVAL, "parameter '%s' has no gradient",
                           optimizer->tensors[i].name);
    return 0;
}

int memopt_optimizer_perturb(struct memopt_optimizer *optimizer, double *ret_norm,
                             struct memopt_error *error) {
    int code = check_perturb(optimizer, error);
    if (code == 0)
        code = mo_workers_ready(optimizer->workers, error);
    if (code == 0)
        code = mo_state_make(optimizer, error);
    if (code < 0)
        return code;
    const struct mo_settings_optimizer *settings = &optimizer->groups[0].settings;
    struct sam sam = {.pass.optimizer = optimizer};
    double sums[MO_SUMS], norm;
    sam.kernel = settings->sam_adaptive ? square : NULL;
    mo_pass_run(&sam.pass, sam_chunk);
    mo_pass_sums(optimizer, NULL, sums);
    norm = sqrt(sums[0]);
    if (isfinite(norm)) {
        double step = settings->sam / (norm + 1e-12);
        sam.scalars.step = (float)(settings->maximize ? -step : step);
        sam.kernel = settings->sam_adaptive ? move_adaptive : move;
        sam.save = 1;
        mo_pass_run(&sam.pass, sam_chunk);
        optimizer->perturbed = 1;
    }
    if (ret_norm != NULL)
        *ret_norm = norm;
    return 0;
}

static void restore_chunk(void *context, size_t chunk) {
    const struct mo_pass *pass = context;
    struct mo_span span;
    const struct mo_tensor *tensor = mo_pass_acquire(pass, chunk, &span);
    memcpy(span.at[MO_AT_DATA], span.at[MO_AT_UNPERTURBED],
           span.range.count * mo_element_size(tensor->dtype));
    mo_pass_release(pass, &span, 1);
}

void mo_unperturb(struct memopt_optimizer *optimizer) {
    struct mo_pass pass = {.optimizer = optimizer};
    if (!optimizer->perturbed)
        return;
    mo_pass_run(&pass, restore_chunk);
    optimizer->perturbed = 0;
}

int memopt_optimizer_restore(struct memopt_optimizer *optimizer, struct memopt_error *error) {
    if (optimizer == NULL)
        return mo_no_optimizer(error);
    int code = mo_workers_ready(optimizer->workers, error);
    if (code == 0)
        mo_unperturb(optimizer);
    return code;
}
