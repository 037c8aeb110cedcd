/*
 * linesearch.c - line search by bracketing and zooming with cubic interpolation
 * (Nocedal and Wright, Numerical Optimization, algorithms 3.5 and 3.6), with the
 * constants and the safeguards that PyTorch took from minFunc.
 *
 * A loss that is not finite counts as higher than any: the interval is halved.
 */
#include "core/optim/linesearch.h"

#include <math.h>

static const double sufficient = 1e-4; /* Armijo's constant */
static const double curvature = 0.9;

struct search {
    const struct mo_line *line;
    unsigned trials, evaluations;
    struct mo_line_point low, high; /* the bracket; low has the lower loss */
    int done;
};

/* The minimum between two places of the cubic through losses and slopes. */
static double interpolate(const struct mo_line_point *a, const struct mo_line_point *b, double from,
                          double to) {
    if (a->t > b->t) {
        const struct mo_line_point *swap = a;
        a = b;
        b = swap;
    }
    double d1 = a->slope + b->slope - 3 * (a->loss - b->loss) / (a->t - b->t);
    double square = d1 * d1 - a->slope * b->slope, t = (double)NAN;
    if (square >= 0) {
        double d2 = sqrt(square);
        t = b->t - (b->t - a->t) * ((b->slope + d2 - d1) / (b->slope - a->slope + 2 * d2));
    }
    if (!isfinite(t))
        return (from + to) / 2;
    return t < from ? from : t > to ? to : t;
}

static int evaluate(struct search *search, double t, struct mo_line_point *point) {
    *point = (struct mo_line_point){.t = t};
    search->evaluations++;
    int code = search->line->evaluate(search->line->context, t, &point->loss, &point->slope);
    if (!isfinite(point->loss) || !isfinite(point->slope))
        point->loss = point->slope = (double)INFINITY;
    return code;
}

static int is_low_enough(const struct mo_line *line, const struct mo_line_point *point) {
    return point->loss <= line->loss + sufficient * point->t * line->slope;
}
static int is_flat_enough(const struct mo_line *line, const struct mo_line_point *point) {
    return fabs(point->slope) <= -curvature * line->slope;
}

static void set_bracket(struct search *search, const struct mo_line_point *a,
                        const struct mo_line_point *b) {
    int a_is_low = a->loss <= b->loss;
    search->low = a_is_low ? *a : *b;
    search->high = a_is_low ? *b : *a;
}

/* Goes outward until a minimum lies between two places. */
static int find_bracket(struct search *search, double t) {
    const struct mo_line *line = search->line;
    struct mo_line_point last = {0, line->loss, line->slope, 0}, point;
    int code = evaluate(search, t, &point);
    for (; code >= 0 && search->trials < MO_LINE_TRIALS; search->trials++) {
        int risen = search->trials > 1 && point.loss >= last.loss;
        int met = is_low_enough(line, &point) && !risen;
        if (!met || is_flat_enough(line, &point) || point.slope >= 0) {
            point.slot = 1;
            line->keep(line->context, 1);
            search->done = met && is_flat_enough(line, &point);
            if (search->done)
                search->low = point;
            else
                set_bracket(search, &last, &point);
            return 0;
        }
        double next = interpolate(&last, &point, point.t + 0.01 * (point.t - last.t), 10 * point.t);
        line->keep(line->context, 0);
        last = point;
        code = evaluate(search, next, &point);
    }
    if (code < 0)
        return code;
    struct mo_line_point start = {0, line->loss, line->slope, 0};
    line->keep_start(line->context, 0);
    line->keep(line->context, 1);
    point.slot = 1;
    set_bracket(search, &start, &point);
    return 0;
}

/* Where to look next in the bracket: not twice in a row next to an end of it. */
static double next_trial(const struct search *search, int *near_end) {
    double first = fmin(search->low.t, search->high.t), last = fmax(search->low.t, search->high.t);
    double t = interpolate(&search->low, &search->high, first, last), margin = 0.1 * (last - first);
    if (fmin(last - t, t - first) >= margin) {
        *near_end = 0;
    } else if (*near_end || t >= last || t <= first) {
        t = last - t < t - first ? last - margin : first + margin;
        *near_end = 0;
    } else {
        *near_end = 1;
    }
    return t;
}

/* Makes the bracket smaller. */
static int zoom(struct search *search) {
    const struct mo_line *line = search->line;
    struct mo_line_point *low = &search->low, *high = &search->high, point;
    int near_end = 0;
    while (!search->done && search->trials < MO_LINE_TRIALS &&
           fabs(high->t - low->t) * line->longest >= line->least) {
        int code = evaluate(search, next_trial(search, &near_end), &point);
        if (code < 0)
            return code;
        search->trials++;
        if (!is_low_enough(line, &point) || point.loss >= low->loss) {
            point.slot = high->slot;
            line->keep(line->context, point.slot);
            *high = point;
            continue;
        }
        search->done = is_flat_enough(line, &point);
        int beyond = point.slope * (high->t - low->t) >= 0;
        point.slot = !search->done && beyond ? high->slot : low->slot;
        line->keep(line->context, point.slot);
        if (!search->done && beyond)
            *high = *low;
        *low = point;
    }
    return 0;
}

int mo_line_search(const struct mo_line *line, double t, struct mo_line_point *ret_point,
                   unsigned *ret_evaluations) {
    struct search search = {.line = line};
    int code = find_bracket(&search, t);
    if (code >= 0)
        code = zoom(&search);
    *ret_evaluations = search.evaluations;
    *ret_point = search.low;
    return code < 0 ? code : 0;
}
