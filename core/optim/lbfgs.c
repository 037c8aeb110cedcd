/*
 * lbfgs.c - L-BFGS, the limited-memory quasi-Newton method (Nocedal, 1980; Liu and
 * Nocedal, 1989), with a line search by the strong Wolfe conditions. It follows
 * PyTorch's in what it does and when it stops.
 *
 * All parameters are one vector; vectors live in the tensors' parts and are worked on
 * in chunks. Elements are fp32, inner products double, summed in the order of chunks.
 * Of the last `history` moves s and changes of the gradient y the direction is made in
 * two loops. The numbers that belong to the whole are a part of the first tensor.
 */
#include "core/optim/kernel.h"
#include "core/optim/linesearch.h"

#include "core/base/error.h"

#include <memopt/dtype.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const struct mo_default defaults[] = {
    {"lr", "1"},       {"max_iter", "20"},         {"max_eval", "0"},
    {"history", "10"}, {"tolerance_grad", "1e-7"}, {"tolerance_change", "1e-9"},
    {NULL, NULL},
};

static const char *check(const struct mo_settings_optimizer *settings) {
    if (settings->accumulate > 1 || settings->clip_norm > 0)
        return "'accumulate' and 'clip_norm' would not fit the loss";
    return settings->sam > 0 ? "'sam' goes around methods that don't look at the loss" : NULL;
}

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    (void)settings, (void)ret_slots;
    return 0;
}

/* Parts, and the program's arrays as if they were. */
enum {
    CURRENT,  /* gradient where the parameters are; the line search's slot 0 */
    OTHER,    /* its slot 1 */
    PREVIOUS, /* gradient where the direction was made */
    DIRECTION,
    START,   /* parameters there */
    CHANGES, /* y */
    MOVES,   /* s */
    NUMBERS,
    VALUES = -1,
    GRADIENT = -2,
};

static size_t parts(const struct mo_settings_optimizer *settings, const struct mo_tensor *tensor,
                    struct mo_part *ret_parts) {
    static const char *const names[] = {"grad", "other_grad", "prev_flat_grad", "d", "start"};
    static const int scratch[] = {1, 1, 0, 0, 1};
    uint64_t history = (uint64_t)settings->history, all;
    if (__builtin_mul_overflow(history, tensor->count, &all))
        all = UINT64_MAX;
    for (size_t i = CURRENT; i <= START; i++)
        ret_parts[i] = (struct mo_part){names[i], tensor->count, MEMOPT_DTYPE_F32, scratch[i]};
    ret_parts[CHANGES] = (struct mo_part){"old_dirs", all, MEMOPT_DTYPE_F32, 0};
    ret_parts[MOVES] = (struct mo_part){"old_stps", all, MEMOPT_DTYPE_F32, 0};
    if (tensor->number != 0)
        return NUMBERS;
    ret_parts[NUMBERS] = (struct mo_part){"lbfgs", 5 + 2 * history, MEMOPT_DTYPE_F64, 0};
    return NUMBERS + 1;
}

/* The part NUMBERS; whole numbers are exact. */
struct numbers {
    double iterations; /* since the memory began */
    double stored;     /* moves in memory */
    double next;       /* where the next goes */
    double h;          /* scale of the first guess of the Hessian's inverse */
    double t;          /* length of the last move, in directions */
    double ro_al[];    /* 1 / (y s) of each, then scratch of each */
};

static int is_below(double number, double limit) {
    return number >= 0 && number < limit && number == floor(number);
}

static const char *check_parts(const struct mo_settings_optimizer *settings,
                               const struct mo_span *whole) {
    const struct numbers *numbers = whole->at[MO_AT_PARTS + NUMBERS];
    if (numbers == NULL)
        return NULL;
    double history = (double)settings->history;
    int possible = is_below(numbers->iterations, (double)UINT64_MAX) &&
                   is_below(numbers->stored, history + 1) && is_below(numbers->next, history);
    return possible ? NULL : "lbfgs";
}

const struct mo_method mo_lbfgs = {
    .name = "lbfgs",
    .defaults = defaults,
    .needs = MO_NEEDS_TENSORS,
    .by_loss = 1,
    .check = check,
    .slots = slots,
    .parts = parts,
    .check_parts = check_parts,
};

/* ------------------------------------------------------------------ vectors */

struct vector {
    int part;
    size_t index; /* of CHANGES and MOVES */
};
enum operation { SCALE, COMBINE, DOT, LARGEST, MAGNITUDE };
struct algebra {
    struct mo_pass pass;
    enum operation operation;
    struct vector to, x, y;
    float factor;
};

static MO_KERNEL void scale(float *to, const float *x, float factor, size_t n) {
    for (size_t i = 0; i < n; i++)
        to[i] = factor * x[i];
}
static MO_KERNEL void combine(float *to, const float *x, const float *y, float factor, size_t n) {
    for (size_t i = 0; i < n; i++)
        to[i] = x[i] + factor * y[i];
}
static MO_KERNEL double dot(const float *x, const float *y, size_t n) {
    double lanes[MO_LANES] = {0};
    size_t i = 0;
    for (; i + MO_LANES <= n; i += MO_LANES)
        for (size_t k = 0; k < MO_LANES; k++)
            lanes[k] += (double)x[i + k] * (double)y[i + k];
    for (size_t k = 0; i < n; i++, k++)
        lanes[k] += (double)x[i] * (double)y[i];
    return mo_add_lanes(lanes);
}
static MO_KERNEL double magnitude(const float *x, size_t n) {
    double lanes[MO_LANES] = {0};
    size_t i = 0;
    for (; i + MO_LANES <= n; i += MO_LANES)
        for (size_t k = 0; k < MO_LANES; k++)
            lanes[k] += (double)fabsf(x[i + k]);
    for (size_t k = 0; i < n; i++, k++)
        lanes[k] += (double)fabsf(x[i]);
    return mo_add_lanes(lanes);
}
static MO_KERNEL float largest(const float *x, size_t n) {
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = mo_max(fabsf(x[i]), most);
    return most;
}

static float *locate(const struct mo_tensor *tensor, struct vector vector, uint64_t at) {
    if (vector.part == VALUES)
        return (float *)tensor->whole.at[MO_AT_DATA] + at;
    return (float *)tensor->whole.at[MO_AT_PARTS + vector.part] + vector.index * tensor->count + at;
}
static const float *locate_input(const struct mo_tensor *tensor, struct vector vector,
                                 uint64_t at) {
    return vector.part == GRADIENT ? (const float *)tensor->whole.at[MO_AT_GRAD] + at
                                   : locate(tensor, vector, at);
}

static void work(void *context, size_t chunk) {
    const struct algebra *a = context;
    const struct memopt_optimizer *optimizer = a->pass.optimizer;
    struct mo_range range = mo_place_chunk(optimizer->place, chunk);
    const struct mo_tensor *tensor = &optimizer->tensors[range.tensor];
    uint64_t at = range.first;
    size_t n = range.count;
    double *sums = optimizer->sums + chunk * MO_SUMS;
    const float *x = locate_input(tensor, a->x, at);
    switch (a->operation) {
    case SCALE:
        scale(locate(tensor, a->to, at), x, a->factor, n);
        return;
    case COMBINE:
        combine(locate(tensor, a->to, at), x, locate_input(tensor, a->y, at), a->factor, n);
        return;
    case DOT:
        sums[0] = dot(x, locate_input(tensor, a->y, at), n);
        return;
    case MAGNITUDE:
        sums[0] = magnitude(x, n);
        return;
    case LARGEST:
        sums[0] = (double)largest(x, n);
        return;
    }
}

static struct vector vec(int part) {
    return (struct vector){part, 0};
}
static struct vector old(int part, size_t index) {
    return (struct vector){part, index};
}

/* to = factor x */
static void set(struct memopt_optimizer *optimizer, struct vector to, double factor,
                struct vector x) {
    struct algebra a = {.operation = SCALE, .to = to, .x = x, .factor = (float)factor};
    a.pass.optimizer = optimizer;
    mo_pass_run(&a.pass, work);
}
/* to = x + factor y */
static void set_sum(struct memopt_optimizer *optimizer, struct vector to, struct vector x,
                    double factor, struct vector y) {
    struct algebra a = {.operation = COMBINE, .to = to, .x = x, .y = y, .factor = (float)factor};
    a.pass.optimizer = optimizer;
    mo_pass_run(&a.pass, work);
}
static double reduce(struct memopt_optimizer *optimizer, enum operation operation, struct vector x,
                     struct vector y) {
    struct algebra a = {.operation = operation, .x = x, .y = y};
    struct mo_place *place = optimizer->place;
    a.pass.optimizer = optimizer;
    mo_pass_run(&a.pass, work);
    return place->ops->reduce(place, optimizer->sums, MO_SUMS, 0, place->chunk_count,
                              operation == LARGEST ? MO_REDUCE_LARGEST : MO_REDUCE_SUM);
}

/* ------------------------------------------------------------- minimization */

struct run {
    struct memopt_optimizer *optimizer;
    const struct mo_settings_optimizer *settings;
    memopt_loss_fn loss;
    void *context;
    double sign; /* -1: to climb */
    struct numbers *numbers;
    struct memopt_minimized result;
};

static void forget(struct numbers *numbers) {
    numbers->iterations = numbers->stored = numbers->next = numbers->t = 0;
    numbers->h = 1;
}

/* The program reads the parameters and writes the gradient: they are not held then. */
static int call_loss(struct run *run, double *ret_loss) {
    double loss = (double)NAN;
    run->result.evaluations++;
    mo_pass_let_go(run->optimizer, 1);
    int code = run->loss(run->context, &loss);
    mo_pass_hold(run->optimizer);
    run->numbers = run->optimizer->tensors[0].whole.at[MO_AT_PARTS + NUMBERS];
    *ret_loss = run->sign * loss;
    return code < 0 ? code : 0;
}

static int evaluate(void *context, double t, double *ret_loss, double *ret_slope) {
    struct run *run = context;
    set_sum(run->optimizer, vec(VALUES), vec(START), t, vec(DIRECTION));
    int code = call_loss(run, ret_loss);
    if (code == 0)
        *ret_slope = run->sign * reduce(run->optimizer, DOT, vec(GRADIENT), vec(DIRECTION));
    return code;
}
static void keep(void *context, int slot) {
    struct run *run = context;
    set(run->optimizer, vec(slot == 0 ? CURRENT : OTHER), run->sign, vec(GRADIENT));
}
static void keep_start(void *context, int slot) {
    struct run *run = context;
    set(run->optimizer, vec(slot == 0 ? CURRENT : OTHER), 1, vec(PREVIOUS));
}

/* Takes the last move into memory, if the loss was convex along it. */
static void remember(struct run *run) {
    struct memopt_optimizer *optimizer = run->optimizer;
    struct numbers *numbers = run->numbers;
    size_t history = (size_t)run->settings->history, next = (size_t)numbers->next;
    /* in slot OTHER and START, which are free now: the oldest may have to stay */
    set_sum(optimizer, vec(OTHER), vec(CURRENT), -1, vec(PREVIOUS));
    set(optimizer, vec(START), numbers->t, vec(DIRECTION));
    double ys = reduce(optimizer, DOT, vec(OTHER), vec(START));
    if (!(ys > 1e-10))
        return;
    set(optimizer, old(CHANGES, next), 1, vec(OTHER));
    set(optimizer, old(MOVES, next), 1, vec(START));
    numbers->ro_al[next] = 1 / ys;
    numbers->h = ys / reduce(optimizer, DOT, vec(OTHER), vec(OTHER));
    numbers->next = (double)((next + 1) % history);
    if (numbers->stored < (double)history)
        numbers->stored++;
}

/* DIRECTION: minus the gradient times what memory says of the Hessian's inverse. */
static void find_direction(struct run *run) {
    struct memopt_optimizer *optimizer = run->optimizer;
    struct numbers *numbers = run->numbers;
    size_t history = (size_t)run->settings->history, stored = (size_t)numbers->stored;
    size_t oldest = ((size_t)numbers->next + history - stored) % history;
    double *ro = numbers->ro_al, *al = numbers->ro_al + history;
    set(optimizer, vec(DIRECTION), -1, vec(CURRENT));
    for (size_t k = stored; k > 0; k--) {
        size_t i = (oldest + k - 1) % history;
        al[i] = ro[i] * reduce(optimizer, DOT, old(MOVES, i), vec(DIRECTION));
        set_sum(optimizer, vec(DIRECTION), vec(DIRECTION), -al[i], old(CHANGES, i));
    }
    if (stored > 0)
        set(optimizer, vec(DIRECTION), numbers->h, vec(DIRECTION));
    for (size_t k = 0; k < stored; k++) {
        size_t i = (oldest + k) % history;
        double be = ro[i] * reduce(optimizer, DOT, old(CHANGES, i), vec(DIRECTION));
        set_sum(optimizer, vec(DIRECTION), vec(DIRECTION), al[i] - be, old(MOVES, i));
    }
}

/* A direction and a line search. *ret_stop: why this was the last iteration, or 0. */
static int iterate(struct run *run, int *ret_stop) {
    struct memopt_optimizer *optimizer = run->optimizer;
    const struct mo_settings_optimizer *settings = run->settings;
    struct numbers *numbers = run->numbers;
    if (numbers->iterations > 0)
        remember(run);
    find_direction(run);
    set(optimizer, vec(PREVIOUS), 1, vec(CURRENT));
    double first = numbers->iterations > 0
                       ? 1
                       : fmin(1, 1 / reduce(optimizer, MAGNITUDE, vec(CURRENT), vec(CURRENT)));
    numbers->iterations++;
    numbers->t = 0; /* of a move that has not come about */
    struct mo_line line = {
        .loss = run->result.loss,
        .slope = reduce(optimizer, DOT, vec(CURRENT), vec(DIRECTION)),
        .longest = reduce(optimizer, LARGEST, vec(DIRECTION), vec(DIRECTION)),
        .least = 1e-9,
        .context = run,
        .evaluate = evaluate,
        .keep = keep,
        .keep_start = keep_start,
    };
    if (!(line.slope <= -settings->tolerance_change)) {
        *ret_stop = MEMOPT_STOP_CHANGE;
        return 0;
    }
    struct mo_line_point point;
    unsigned evaluations;
    set(optimizer, vec(START), 1, vec(VALUES));
    int code = mo_line_search(&line, first * settings->lr, &point, &evaluations);
    numbers = run->numbers; /* the loss was computed in between */
    if (code < 0 || point.t == 0) {
        set(optimizer, vec(VALUES), 1, vec(START));
        set(optimizer, vec(CURRENT), 1, vec(PREVIOUS));
        if (code == 0)
            forget(numbers);
        *ret_stop = MEMOPT_STOP_LINE_SEARCH;
        return code;
    }
    set_sum(optimizer, vec(VALUES), vec(START), point.t, vec(DIRECTION));
    if (point.slot == 1)
        set(optimizer, vec(CURRENT), 1, vec(OTHER));
    double change = fabs(point.loss - run->result.loss);
    numbers->t = point.t;
    run->result.loss = point.loss;
    run->result.iterations++;
    run->result.grad_max = reduce(optimizer, LARGEST, vec(CURRENT), vec(CURRENT));
    uint64_t most_iterations = (uint64_t)settings->max_iter;
    uint64_t most_evaluations =
        settings->max_eval > 0 ? (uint64_t)settings->max_eval : most_iterations * 5 / 4;
    *ret_stop = run->result.iterations >= most_iterations          ? MEMOPT_STOP_ITERATIONS
                : run->result.evaluations >= most_evaluations      ? MEMOPT_STOP_EVALUATIONS
                : run->result.grad_max <= settings->tolerance_grad ? MEMOPT_STOP_GRADIENT
                : point.t * line.longest <= settings->tolerance_change ||
                        change < settings->tolerance_change
                    ? MEMOPT_STOP_CHANGE
                    : 0;
    return 0;
}

static int minimize(struct run *run) {
    struct memopt_optimizer *optimizer = run->optimizer;
    double loss;
    int code = call_loss(run, &loss), stop = 0;
    if (code < 0)
        return code;
    set(optimizer, vec(CURRENT), run->sign, vec(GRADIENT));
    run->result.loss = run->result.first_loss = loss;
    run->result.grad_max = reduce(optimizer, LARGEST, vec(CURRENT), vec(CURRENT));
    if (!isfinite(loss) || !isfinite(reduce(optimizer, DOT, vec(CURRENT), vec(CURRENT)))) {
        run->result.stop = MEMOPT_STOP_NOT_FINITE;
        return 0;
    }
    if (run->result.grad_max <= run->settings->tolerance_grad) {
        run->result.stop = MEMOPT_STOP_GRADIENT;
        return 0;
    }
    for (size_t i = 0; i < optimizer->tensor_count; i++) /* a new one has no history */
        if (optimizer->tensors[i].updates == 0)
            forget(run->numbers);
    for (size_t i = 0; i < optimizer->tensor_count; i++)
        optimizer->tensors[i].updates++;
    while (code == 0 && stop == 0)
        code = iterate(run, &stop);
    optimizer->updates += run->result.iterations > 0;
    if (code == 0 && run->result.iterations > 0 && /* history doesn't lead there */
        mo_lookahead(&(struct mo_pass){.optimizer = optimizer}))
        forget(run->numbers);
    run->result.stop = stop;
    return code;
}

static int check_minimize(const struct memopt_optimizer *optimizer, memopt_loss_fn loss,
                          const struct memopt_minimized *ret_minimized,
                          struct memopt_error *error) {
    if (!optimizer->method->by_loss)
        return mo_fail(error, -EINVAL, "%s doesn't look at the loss: use memopt_optimizer_step()",
                       optimizer->method->name);
    if (loss == NULL)
        return mo_fail(error, -EINVAL, "the function that computes the loss is NULL");
    if (ret_minimized != NULL && (ret_minimized->size < offsetof(struct memopt_minimized, loss) ||
                                  ret_minimized->size > sizeof(*ret_minimized)))
        return mo_fail(error, -EINVAL, "the result's size is %zu: begin with MEMOPT_MINIMIZED_INIT",
                       ret_minimized->size);
    if (optimizer->tensor_count == 0)
        return mo_fail(error, -EINVAL, "the optimizer has no parameters");
    for (size_t i = 0; i < optimizer->tensor_count; i++)
        if (optimizer->tensors[i].grad == NULL)
            return mo_fail(error, -EINVAL, "parameter '%s' has no gradient",
                           optimizer->tensors[i].name);
    return 0;
}

int memopt_optimizer_minimize(struct memopt_optimizer *optimizer, memopt_loss_fn loss,
                              void *context, struct memopt_minimized *ret_minimized,
                              struct memopt_error *error) {
    if (optimizer == NULL)
        return mo_no_optimizer(error);
    int code = check_minimize(optimizer, loss, ret_minimized, error);
    if (code == 0)
        code = mo_workers_ready(optimizer->workers, error);
    if (code == 0)
        code = mo_state_make(optimizer, error);
    if (code < 0)
        return code;
    mo_pass_hold(optimizer);
    mo_state_refresh(optimizer);
    const struct mo_settings_optimizer *settings = &optimizer->groups[0].settings;
    struct run run = {
        .optimizer = optimizer,
        .settings = settings,
        .loss = loss,
        .context = context,
        .sign = settings->maximize ? -1 : 1,
        .result = {.size = ret_minimized == NULL ? 0 : ret_minimized->size},
    };
    code = minimize(&run);
    mo_pass_let_go(optimizer, 1);
    if (code < 0)
        return mo_fail(error, code, "the function that computes the loss failed: %s",
                       strerror(-code));
    run.result.loss *= run.sign;
    run.result.first_loss *= run.sign;
    if (ret_minimized != NULL)
        memcpy(ret_minimized, &run.result, ret_minimized->size);
    return 0;
}
