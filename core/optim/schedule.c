/* schedule.c - learning rates by the step, see memopt/schedule.h. */
#include "core/base/error.h"

#include <memopt/schedule.h>

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { STEPS_MAX_BITS = 53 }; /* a step is exact as a double */
static const double pi = 3.14159265358979323846;

/* ----------------------------------------------------------------- checking */

static int check_number(const char *name, double value, double low, double high,
                        struct memopt_error *error) {
    if (isfinite(value) && value >= low && value <= high)
        return 0;
    if (isinf(high))
        return mo_fail(error, -EINVAL, "schedule: '%s' is %g; expected a number from %g on", name,
                       value, low);
    return mo_fail(error, -EINVAL, "schedule: '%s' is %g; expected %g to %g", name, value, low,
                   high);
}

static int check_steps(const char *name, uint64_t steps, uint64_t low, struct memopt_error *error) {
    if (steps >= low && steps <= UINT64_C(1) << STEPS_MAX_BITS)
        return 0;
    return mo_fail(error, -EINVAL, "schedule: '%s' is %llu; expected %llu to 2^53", name,
                   (unsigned long long)steps, (unsigned long long)low);
}

static int check(const struct memopt_schedule *s, struct memopt_error *error) {
    int r;
    if (s->kind < MEMOPT_SCHEDULE_CONSTANT || s->kind > MEMOPT_SCHEDULE_ONE_CYCLE)
        return mo_fail(error, -EINVAL, "schedule: there is no kind %d", s->kind);
    if ((r = check_number("lr", s->lr, 0, HUGE_VAL, error)) < 0 ||
        (r = check_steps("warmup", s->warmup, 0, error)) < 0 ||
        (r = check_number("warmup_from", s->warmup_from, 0, 1, error)) < 0)
        return r;
    if (s->kind != MEMOPT_SCHEDULE_CONSTANT && (r = check_steps("steps", s->steps, 1, error)) < 0)
        return r;
    switch (s->kind) {
    case MEMOPT_SCHEDULE_LINEAR:
        if ((r = check_number("from", s->from, 0, HUGE_VAL, error)) < 0)
            return r;
        return check_number("to", s->to, 0, HUGE_VAL, error);
    case MEMOPT_SCHEDULE_STEP:
        return check_number("gamma", s->gamma, 0, HUGE_VAL, error);
    case MEMOPT_SCHEDULE_COSINE:
        return check_number("minimum", s->minimum, 0, s->lr, error);
    case MEMOPT_SCHEDULE_ONE_CYCLE:
        if ((r = check_number("rise", s->rise, 0, s->three_phases ? 0.5 : 1, error)) < 0 ||
            (r = check_number("start_divisor", s->start_divisor, 1, HUGE_VAL, error)) < 0)
            return r;
        return check_number("end_divisor", s->end_divisor, 1, HUGE_VAL, error);
    default:
        return 0;
    }
}

/* -------------------------------------------------------------------- rates */

/* From `start` to `end`; `part` is 0 to 1. */
static double along(bool straight, double start, double end, double part) {
    if (straight)
        return (end - start) * part + start;
    return end + (start - end) / 2 * (cos(pi * part) + 1);
}

static double one_cycle(const struct memopt_schedule *s, double t) {
    double length = (double)s->steps, low = s->lr / s->start_divisor, end = low / s->end_divisor;
    double rise = s->rise * length;
    const struct {
        double end, from, to;
    } phases[] = {
        {rise - 1, low, s->lr},
        {s->three_phases ? 2 * rise - 2 : length - 1, s->lr, s->three_phases ? low : end},
        {length - 1, low, end},
    };
    int last = s->three_phases ? 2 : 1, i = 0;
    double begin = 0;
    while (i < last && t > phases[i].end)
        begin = phases[i++].end;
    double span = phases[i].end - begin;
    if (t >= phases[i].end || span <= 0) /* a phase may have no length */
        return phases[i].to;
    return along(s->straight != 0, phases[i].from, phases[i].to, (t - begin) / span);
}

/* Without warm-up. */
static double rate(const struct memopt_schedule *s, uint64_t step) {
    double t = (double)step, length = (double)s->steps;
    switch (s->kind) {
    case MEMOPT_SCHEDULE_LINEAR:
        return s->lr * (step >= s->steps ? s->to : s->from + (s->to - s->from) * t / length);
    case MEMOPT_SCHEDULE_STEP:
        return s->lr * pow(s->gamma, (double)(step / s->steps));
    case MEMOPT_SCHEDULE_COSINE:
        return step >= s->steps
                   ? s->minimum
                   : s->minimum + (s->lr - s->minimum) * (1 + cos(pi * t / length)) / 2;
    case MEMOPT_SCHEDULE_ONE_CYCLE:
        return one_cycle(s, t);
    default:
        return s->lr;
    }
}

int memopt_schedule_rate(const struct memopt_schedule *schedule, uint64_t step, double *ret_rate,
                         struct memopt_error *error) {
    struct memopt_schedule s = MEMOPT_SCHEDULE_INIT;
    if (schedule == NULL || ret_rate == NULL)
        return mo_fail(error, -EINVAL, "memopt_schedule_rate: a schedule and a result are needed");
    if (schedule->size < offsetof(struct memopt_schedule, steps) || schedule->size > sizeof(s))
        return mo_fail(error, -EINVAL, "a schedule of %zu bytes; use MEMOPT_SCHEDULE_INIT",
                       schedule->size);
    memcpy(&s, schedule, schedule->size);
    int r = check(&s, error);
    if (r < 0)
        return r;
    if (step < s.warmup)
        *ret_rate =
            rate(&s, 0) * (s.warmup_from + (1 - s.warmup_from) * (double)step / (double)s.warmup);
    else
        *ret_rate = rate(&s, step - s.warmup);
    return 0;
}
