/* contest.c - see contest.h. */
#include "config.h"

#include "core/launch/contest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b) {
    double x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

/* The median of values in order. */
static double middle(const double *sorted, size_t count) {
    return count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

/* The median distance from `center`; center NaN: the median itself. */
static double median_from(const double *values, size_t count, double center) {
    double *sorted = count == 0 ? NULL : malloc(count * sizeof(*sorted));
    if (sorted == NULL)
        return NAN;
    for (size_t i = 0; i < count; i++)
        sorted[i] = isnan(center) ? values[i] : fabs(values[i] - center);
    qsort(sorted, count, sizeof(*sorted), by_value);
    double result = middle(sorted, count);
    free(sorted);
    return result;
}

double mo_median(const double *values, size_t count) {
    return median_from(values, count, NAN);
}

double mo_spread(const double *values, size_t count) {
    double median = mo_median(values, count);
    return isnan(median) ? NAN : median_from(values, count, median);
}

enum { EXACT = 20 };

/* P(U <= u) of the Mann-Whitney statistic. The numbers of orders that give each
 * U are the coefficients of the Gaussian binomial: the product over i = 1 … m of
 * (1 - x^(n+i)) / (1 - x^i). All stay below 2^53. */
static double exact_chance(size_t m, size_t n, size_t u) {
    double ways[EXACT * EXACT + 1] = {1};
    size_t most = m * n;
    for (size_t i = 1; i <= m; i++) {
        for (size_t k = most; k >= n + i; k--)
            ways[k] -= ways[k - n - i];
        for (size_t k = i; k <= most; k++)
            ways[k] += ways[k - i];
    }
    double below = 0, all = 0;
    for (size_t k = 0; k <= most; k++) {
        all += ways[k];
        if (k <= u)
            below += ways[k];
    }
    return below / all;
}

double mo_chance(const double *a, size_t a_count, const double *b, size_t b_count) {
    double u = 0; /* pairs in which a's value is the higher one */
    for (size_t i = 0; i < a_count; i++)
        for (size_t j = 0; j < b_count; j++)
            u += a[i] > b[j] ? 1 : a[i] < b[j] ? 0 : 0.5;
    if (a_count == 0 || b_count == 0)
        return 1;
    if (a_count <= EXACT && b_count <= EXACT)
        return exact_chance(a_count, b_count, (size_t)ceil(u));
    double m = (double)a_count, n = (double)b_count;
    double z = (u + 0.5 - m * n / 2) / sqrt(m * n * (m + n + 1) / 12);
    return erfc(-z / sqrt(2)) / 2;
}

int mo_is_better(const double *a, size_t a_count, const double *b, size_t b_count) {
    double of_a = mo_median(a, a_count), of_b = mo_median(b, b_count);
    return of_a <= of_b * (1 - MO_CONTEST_LEAST) && of_a < of_b &&
           mo_chance(a, a_count, b, b_count) <= MO_CONTEST_CHANCE;
}

int mo_contest(struct mo_contestant *contestants, size_t count) {
    size_t best = count, taking_part = 0, leaders = 0;
    double last = -INFINITY; /* the highest median of those that lead */
    for (size_t i = 0; i < count; i++) {
        contestants[i].leads = 0;
        if (contestants[i].count == 0)
            continue;
        taking_part++;
        if (best == count || mo_median(contestants[i].values, contestants[i].count) <
                                 mo_median(contestants[best].values, contestants[best].count))
            best = i;
    }
    for (size_t i = 0; i < count; i++) {
        if (contestants[i].count == 0)
            continue;
        contestants[i].leads =
            i == best || !mo_is_better(contestants[best].values, contestants[best].count,
                                       contestants[i].values, contestants[i].count);
        leaders += (size_t)contestants[i].leads;
        if (contestants[i].leads)
            last = fmax(last, mo_median(contestants[i].values, contestants[i].count));
    }
    /* one with a lower median than another that leads can't be behind it */
    for (size_t i = 0; i < count; i++)
        if (contestants[i].count > 0 &&
            mo_median(contestants[i].values, contestants[i].count) <= last)
            contestants[i].leads = 1;
    return taking_part >= 2 && leaders == 1 ? (int)best : -1;
}
