/*
 * contest.h - who is better, and when that may be said: the arithmetic of
 * `memopt compare`.
 *
 * Timings are noisy in ways that have no formula (other processes, caches, the
 * clock), so nothing is assumed of their distribution: the figure is the median,
 * the spread is the median distance from it, and one candidate is better than
 * another only if both hold:
 *   - its median is lower by at least MO_CONTEST_LEAST of the other's;
 *   - were the two equal, so clear an order of their measurements would come up
 *     by chance in at most MO_CONTEST_CHANCE of all comparisons (Mann-Whitney
 *     test, one-sided, exact up to 20 measurements each).
 * So three measurements of each are the least that can tell. The winner is the one
 * that is better than every other.
 *
 * Pure functions; lower is better throughout.
 */
#ifndef MO_LAUNCH_CONTEST_H
#define MO_LAUNCH_CONTEST_H

#include <stddef.h>

#define MO_CONTEST_LEAST 0.01
#define MO_CONTEST_CHANCE 0.05

/* NaN for no values. */
double mo_median(const double *values, size_t count);
double mo_spread(const double *values, size_t count);

/* The chance that `a` would be as far below `b` if both were the same. Equal
 * values count half, rounded against `a`. 1 where there are no values. */
double mo_chance(const double *a, size_t a_count, const double *b, size_t b_count);

int mo_is_better(const double *a, size_t a_count, const double *b, size_t b_count);

struct mo_contestant {
    const double *values;
    size_t count; /* 0: takes no part */
    int leads;    /* out: the best one, those it is not better than, and all up to their medians */
};
/* Fills `leads`; the index of the winner, or -1 if there is none: fewer than two
 * take part, or more than one leads. */
int mo_contest(struct mo_contestant *contestants, size_t count);

#endif
