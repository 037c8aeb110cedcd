/*
 * memopt/schedule.h - learning rates that change with the step.
 *
 *     struct memopt_schedule schedule = MEMOPT_SCHEDULE_INIT;
 *     schedule.kind = MEMOPT_SCHEDULE_COSINE;
 *     schedule.lr = 3e-4;
 *     schedule.steps = 10000;
 *     schedule.warmup = 500;
 *     for (uint64_t step = 0; step < 10500; step++) {
 *         double lr;
 *         if (memopt_schedule_rate(&schedule, step, &lr, &error) < 0)
 *             errx(1, "%s", error.message);
 *         memopt_optimizer_set_number(optimizer, 0, "lr", lr, &error);
 *         ...
 *     }
 *
 * A schedule is a few numbers in the caller's hands and has no state: the rate is
 * a function of the step alone, so a training that goes on from a checkpoint
 * needs nothing but its step. Steps are counted from 0: the rate of step 0 is
 * that of the first update.
 *
 * With t the step, T `steps`:
 *   constant   lr
 *   linear     lr times a factor that goes from `from` to `to` over T steps
 *   step       lr * gamma^floor(t / T)
 *   cosine     minimum + (lr - minimum) * (1 + cos(pi t / T)) / 2
 *   one-cycle  from lr / start_divisor up to lr, which is its highest, in the
 *              first `rise` of T steps, then down to lr / start_divisor /
 *              end_divisor at step T - 1; each along half a cosine, or straight.
 *              With three phases: up, as long down to where it began, then to the
 *              end. Smith and Topin, "Super-convergence" (2018).
 * Linear, cosine and one-cycle stay at their end from there on. The values are
 * those of PyTorch's ConstantLR (factor 1), LinearLR, StepLR, CosineAnnealingLR
 * (closed form) and OneCycleLR (the rate; it does not touch the momentum).
 *
 * Warm-up goes before any of them: for the first `warmup` steps, step t has the
 * rate of the schedule's step 0 times warmup_from + (1 - warmup_from) * t /
 * warmup; step `warmup` is the schedule's step 0.
 *
 * Threads: any.
 */
#ifndef MEMOPT_SCHEDULE_H
#define MEMOPT_SCHEDULE_H

#include <memopt/error.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MEMOPT_EXPORT
#define MEMOPT_EXPORT __attribute__((visibility("default")))
#endif

enum memopt_schedule_kind {
    MEMOPT_SCHEDULE_CONSTANT = 1,
    MEMOPT_SCHEDULE_LINEAR = 2,
    MEMOPT_SCHEDULE_STEP = 3,
    MEMOPT_SCHEDULE_COSINE = 4,
    MEMOPT_SCHEDULE_ONE_CYCLE = 5,
};

/* Only what the kind uses counts, and is checked; 0 to 2^53 steps. */
struct memopt_schedule {
    size_t size; /* of this struct */
    int kind;    /* enum memopt_schedule_kind */
    double lr;   /* from 0 on */
    uint64_t steps;
    double gamma;         /* step: from 0 on */
    double minimum;       /* cosine: 0 to lr */
    double from, to;      /* linear: from 0 on */
    double rise;          /* one-cycle: 0 to 1 */
    double start_divisor; /* one-cycle: from 1 on */
    double end_divisor;   /* likewise */
    int straight;         /* one-cycle: 1: straight lines */
    int three_phases;     /* one-cycle: 1: three; then rise is 0 to 1/2 */
    uint64_t warmup;      /* steps; 0: none */
    double warmup_from;   /* 0 to 1 */
};
/* Constant, at a rate that must be given (it is 0); the rest as PyTorch has it:
 * gamma 0.1, minimum 0, from 1/3 to 1, rise 0.3, divisors 25 and 10,000. */
#define MEMOPT_SCHEDULE_INIT                                                                       \
    {                                                                                              \
        sizeof(struct memopt_schedule), MEMOPT_SCHEDULE_CONSTANT, 0, 0, 0.1, 0, 1.0 / 3, 1, 0.3,   \
            25, 1e4, 0, 0, 0, 0                                                                    \
    }

/* The rate of that step. -EINVAL: a number is not what the struct says, and the
 * message names it; nothing is written then. */
MEMOPT_EXPORT int memopt_schedule_rate(const struct memopt_schedule *schedule, uint64_t step,
                                       double *ret_rate, struct memopt_error *error);

#ifdef __cplusplus
}
#endif
#endif
