/*
 * linesearch.h - a step along a line that meets the strong Wolfe conditions; for
 * lbfgs.c. Knows numbers only: the vectors are the caller's.
 */
#ifndef MO_OPTIM_LINESEARCH_H
#define MO_OPTIM_LINESEARCH_H

enum { MO_LINE_TRIALS = 25 }; /* evaluations at most, but for the first */

/* A place on the line: how far, the loss, its slope along the line, and in which of
 * two slots the caller keeps the gradient. */
struct mo_line_point {
    double t, loss, slope;
    int slot;
};

struct mo_line {
    double loss, slope; /* at 0; the slope is negative */
    double longest;     /* largest magnitude in the direction */
    double least;       /* moves that are smaller are none */
    void *context;
    /* Loss and slope at t; negative: the search ends and gives this. */
    int (*evaluate)(void *context, double t, double *ret_loss, double *ret_slope);
    /* Keeps the gradient evaluated last in a slot. */
    void (*keep)(void *context, int slot);
    /* Brings the gradient at 0 into a slot; slot 0 has it at the beginning. */
    void (*keep_start)(void *context, int slot);
};

/* From a first try `t`. Gives the best place found: one where both conditions hold,
 * if there is; t = 0 if nothing was lower than the start. */
int mo_line_search(const struct mo_line *line, double t, struct mo_line_point *ret_point,
                   unsigned *ret_evaluations);

#endif
