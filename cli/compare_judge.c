/*
 * compare_judge.c - what memopt compare's figures say: medians, ratios and winners,
 * and these in words. How they look is compare_text.c's and compare_export.c's.
 */
#include "config.h"

#include "cli/compare.h"

#include "core/launch/contest.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *title, *narrow, *name, *key, *csv_key;
} metrics[MO_METRICS] = {
    [MO_METRIC_WALL] = {"wall", "wall", "wall time", "wall_time", "wall_time_ns"},
    [MO_METRIC_CPU] = {"CPU", "CPU", "CPU time", "cpu_time", "cpu_time_ns"},
    [MO_METRIC_PEAK] = {"peak RSS", "peak", "peak RSS", "peak_rss", "peak_rss_bytes"},
    [MO_METRIC_REST] = {"at rest", "rest", "RSS at rest", "rss_rest", "rss_rest_bytes"},
    [MO_METRIC_MEAN] = {"mean", "mean", "mean RSS", "rss_mean", "rss_mean_bytes"},
    [MO_METRIC_FAULTS] = {"faults", "faults", "page faults", "page_faults", "page_faults"},
};

const char mo_compare_rule[] =
    "a winner is at least 1 % better than every other candidate, and would be so by chance in "
    "at most 5 % of cases (Mann-Whitney)";

const char *mo_compare_title(enum mo_metric metric, int is_narrow) {
    return is_narrow ? metrics[metric].narrow : metrics[metric].title;
}
const char *mo_compare_name(enum mo_metric metric) {
    return metrics[metric].name;
}
const char *mo_compare_key(enum mo_metric metric) {
    return metrics[metric].key;
}
const char *mo_compare_csv_key(enum mo_metric metric) {
    return metrics[metric].csv_key;
}

const char *mo_candidate_name(const struct mo_comparison *comparison,
                              const struct mo_candidate *candidate) {
    for (size_t i = 0; i < comparison->count; i++)
        if (candidate != &comparison->candidates[i] &&
            strcmp(candidate->base, comparison->candidates[i].base) == 0)
            return candidate->label;
    return candidate->base;
}

/* ---------------------------------------------------------------- numbers */

int mo_candidate_failed(const struct mo_candidate *candidate) {
    return candidate->failed + candidate->failed_warm_up > 0;
}

int mo_candidate_has(const struct mo_candidate *candidate, enum mo_metric metric) {
    for (size_t i = 0; i < candidate->count; i++)
        if (isnan(candidate->values[metric][i]))
            return 0;
    return candidate->count > 0 && !mo_candidate_failed(candidate);
}

double mo_candidate_median(const struct mo_candidate *candidate, enum mo_metric metric) {
    return mo_candidate_has(candidate, metric)
               ? mo_median(candidate->values[metric], candidate->count)
               : NAN;
}

double mo_candidate_spread(const struct mo_candidate *candidate, enum mo_metric metric) {
    return mo_candidate_has(candidate, metric) && candidate->count > 1
               ? mo_spread(candidate->values[metric], candidate->count)
               : NAN;
}

double mo_candidate_extreme(const struct mo_candidate *candidate, enum mo_metric metric, int sign) {
    double extreme = NAN;
    for (size_t i = 0; i < candidate->count && mo_candidate_has(candidate, metric); i++)
        if (isnan(extreme) || sign * candidate->values[metric][i] < sign * extreme)
            extreme = candidate->values[metric][i];
    return extreme;
}

/* By more than ten times the spread and a tenth of the median. */
size_t mo_candidate_far_off(const struct mo_candidate *candidate, enum mo_metric metric) {
    double median = mo_candidate_median(candidate, metric);
    if (isnan(median))
        return 0;
    double most = fmax(10 * mo_candidate_spread(candidate, metric), median / 10);
    size_t far = 0;
    for (size_t i = 0; i < candidate->count; i++)
        far += fabs(candidate->values[metric][i] - median) > most;
    return far;
}

const struct mo_candidate *mo_comparison_baseline(const struct mo_comparison *comparison) {
    const struct mo_candidate *first = &comparison->candidates[0];
    return comparison->count > 0 && first->count > 0 && !mo_candidate_failed(first) ? first : NULL;
}

double mo_comparison_ratio(const struct mo_comparison *comparison,
                           const struct mo_candidate *candidate, enum mo_metric metric) {
    const struct mo_candidate *base = mo_comparison_baseline(comparison);
    double whole = base == NULL || base == candidate ? NAN : mo_candidate_median(base, metric);
    return whole > 0 ? mo_candidate_median(candidate, metric) / whole : NAN;
}

void mo_comparison_runs(const struct mo_comparison *comparison, char *text, size_t size) {
    size_t least = 0, most = 0;
    for (size_t i = 0; i < comparison->count; i++) {
        size_t runs = comparison->candidates[i].runs;
        if (comparison->candidates[i].left_out)
            continue;
        least = i == 0 || runs < least ? runs : least;
        most = runs > most ? runs : most;
    }
    if (least == most)
        snprintf(text, size, "%zu", most);
    else
        snprintf(text, size, "%zu to %zu", least, most);
}

/* ---------------------------------------------------------------- judging */

/* How fast a program fails says nothing. */
static int is_fit(const struct mo_candidate *candidate) {
    return !candidate->left_out && !candidate->unfit && candidate->count > 0 &&
           !mo_candidate_failed(candidate);
}

static void judge(const struct mo_comparison *comparison, enum mo_metric metric,
                  struct mo_verdict *verdict) {
    struct mo_contestant contestants[MO_CANDIDATES];
    *verdict = (struct mo_verdict){.metric = metric};
    for (size_t i = 0; i < comparison->count; i++) {
        const struct mo_candidate *candidate = &comparison->candidates[i];
        int fit = is_fit(candidate) && mo_candidate_has(candidate, metric);
        verdict->taking_part += fit != 0;
        verdict->unknown += is_fit(candidate) && !fit;
        contestants[i] =
            (struct mo_contestant){candidate->values[metric], fit ? candidate->count : 0, 0};
    }
    verdict->winner = mo_contest(contestants, comparison->count);
    if (verdict->unknown > 0)
        verdict->winner = -1;
    for (size_t i = 0; i < comparison->count; i++)
        verdict->leads[i] = contestants[i].leads && verdict->unknown == 0;
}

/* A program that sleeps, reads from a network or is kept off the CPU says little by its
 * wall time. One that waits on some allocators only may wait for their locks, which is
 * theirs to answer for. */
static int waits(const struct mo_comparison *comparison) {
    enum { FAR = 2 };
    size_t waiting = 0;
    for (size_t i = 0; i < comparison->count; i++) {
        const struct mo_candidate *candidate = &comparison->candidates[i];
        if (!is_fit(candidate))
            continue;
        if (mo_candidate_median(candidate, MO_METRIC_WALL) <=
            FAR * mo_candidate_median(candidate, MO_METRIC_CPU))
            return 0;
        waiting++;
    }
    return waiting > 0;
}

void mo_comparison_judge(struct mo_comparison *comparison) {
    comparison->waits = waits(comparison);
    judge(comparison, comparison->waits ? MO_METRIC_CPU : MO_METRIC_WALL, &comparison->time);
    judge(comparison, MO_METRIC_PEAK, &comparison->peak);
    judge(comparison, MO_METRIC_REST, &comparison->rest);
}

/* ------------------------------------------------------------------- words */

/* Three digits: "999.6" must not become "1e+03". */
static void three_digits(double value, const char *unit, struct mo_word *word) {
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(word->text, sizeof(word->text), "%.*f %s", decimals, value, unit);
}

static void in_units(double value, const char *const *units, double step, struct mo_word *word) {
    size_t unit = 0;
    while (value >= 999.5 && units[unit + 1] != NULL) {
        value /= step;
        unit++;
    }
    three_digits(value, units[unit], word);
}

struct mo_word mo_compare_value(double value, enum mo_metric metric) {
    static const char *const times[] = {"us", "ms", "s", NULL};
    static const char *const sizes[] = {"KiB", "MiB", "GiB", "TiB", NULL};
    struct mo_word word = {"-"};
    if (isnan(value))
        return word;
    switch (metric) {
    case MO_METRIC_WALL:
    case MO_METRIC_CPU:
        in_units(value / 1000, times, 1000, &word);
        break;
    case MO_METRIC_PEAK:
    case MO_METRIC_REST:
    case MO_METRIC_MEAN:
        in_units(value / 1024, sizes, 1024, &word);
        break;
    default:
        snprintf(word.text, sizeof(word.text), "%.0f", value);
        break;
    }
    return word;
}

void mo_candidate_failure(const struct mo_candidate *candidate, char *text, size_t size) {
    const char *others = candidate->failed_variously ? " and others" : "";
    if (candidate->failed > 0)
        snprintf(text, size, "failed in %zu of %zu run%s: %s%s", candidate->failed, candidate->runs,
                 candidate->runs == 1 ? "" : "s", candidate->failure, others);
    else
        snprintf(text, size, "failed while warming up: %s%s", candidate->failure, others);
}

/* --------------------------------------------------------------- sentences */

/* Adds the names of those that lead, the best one first, each by its median. */
static void add_leaders(const struct mo_comparison *comparison, const struct mo_verdict *verdict,
                        char *text, size_t size) {
    int done[MO_CANDIDATES] = {0};
    size_t used = 0;
    text[0] = '\0';
    for (;;) {
        size_t next = comparison->count;
        double least = INFINITY;
        for (size_t i = 0; i < comparison->count; i++) {
            double median = mo_candidate_median(&comparison->candidates[i], verdict->metric);
            if (verdict->leads[i] && !done[i] && median < least) {
                next = i;
                least = median;
            }
        }
        if (next == comparison->count || used >= size)
            return;
        done[next] = 1;
        used += (size_t)snprintf(text + used, size - used, "%s%s", used > 0 ? ", " : "",
                                 mo_candidate_name(comparison, &comparison->candidates[next]));
    }
}

/* Why none of those that lead has won. */
static void say_close(const struct mo_comparison *comparison, const struct mo_verdict *verdict,
                      char *text, size_t size) {
    enum { MANY = 20 };
    char leaders[1536];
    size_t runs = SIZE_MAX;
    double least = INFINITY, most = 0;
    for (size_t i = 0; i < comparison->count; i++) {
        const struct mo_candidate *candidate = &comparison->candidates[i];
        double median = mo_candidate_median(candidate, verdict->metric);
        if (!verdict->leads[i])
            continue;
        runs = candidate->count < runs ? candidate->count : runs;
        least = fmin(least, median);
        most = fmax(most, median);
    }
    add_leaders(comparison, verdict, leaders, sizeof(leaders));
    if (runs < 3)
        snprintf(text, size, "; it takes at least 3 runs to tell these apart: %s", leaders);
    else if (least >= most * (1 - MO_CONTEST_LEAST))
        snprintf(text, size, "; less than 1 %% apart: %s", leaders);
    else
        snprintf(text, size, "; too close to call: %s; their runs overlap%s", leaders,
                 runs < MANY ? ": more runs (-n 20) may tell" : "");
}

/* "time: mimalloc, 0.89x of libc" or "time: no winner; too close to call: a, b". */
static void verdict_sentence(const struct mo_comparison *comparison, const char *by,
                             const struct mo_verdict *verdict, char *text, size_t size) {
    const struct mo_candidate *base = mo_comparison_baseline(comparison);
    if (verdict->winner >= 0) {
        const struct mo_candidate *candidate = &comparison->candidates[verdict->winner];
        double ratio = mo_comparison_ratio(comparison, candidate, verdict->metric);
        if (isnan(ratio))
            snprintf(text, size, "%s: %s", by, mo_candidate_name(comparison, candidate));
        else
            snprintf(text, size, "%s: %s, %.2fx of %s", by,
                     mo_candidate_name(comparison, candidate), ratio, base->label);
        return;
    }
    size_t used = (size_t)snprintf(text, size, "%s: no winner", by);
    const char *before = "; not known for ";
    if (verdict->unknown > 0) {
        for (size_t i = 0; i < comparison->count && used < size; i++) {
            const struct mo_candidate *candidate = &comparison->candidates[i];
            if (!is_fit(candidate) || mo_candidate_has(candidate, verdict->metric))
                continue;
            used += (size_t)snprintf(text + used, size - used, "%s%s", before,
                                     mo_candidate_name(comparison, candidate));
            before = ", ";
        }
        return;
    }
    say_close(comparison, verdict, text + used, size - used);
}

struct speech {
    const struct mo_comparison *comparison;
    mo_sentence_fn say;
    void *context;
    char text[2048];
};

static int say_verdicts(struct speech *speech) {
    const struct mo_comparison *comparison = speech->comparison;
    const struct {
        const char *by;
        const struct mo_verdict *verdict;
        int is_asked; /* it is no news that nobody can be judged by what nobody has */
    } verdicts[] = {
        {comparison->waits ? "CPU time" : "time", &comparison->time, 1},
        {"peak RSS", &comparison->peak, 1},
        {"RSS at rest", &comparison->rest, comparison->rest.taking_part > 0},
    };
    size_t measured = 0;
    int r = 0;
    for (size_t i = 0; i < comparison->count; i++)
        measured += !comparison->candidates[i].left_out;
    if (measured < 2)
        return 0;
    if (comparison->time.taking_part + comparison->time.unknown < 2)
        return speech->say(speech->context, MO_SENTENCE_VERDICT,
                           "no winner: fewer than two candidates took part to the end");
    for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]) && r >= 0; i++) {
        if (!verdicts[i].is_asked)
            continue;
        verdict_sentence(comparison, verdicts[i].by, verdicts[i].verdict, speech->text,
                         sizeof(speech->text));
        r = speech->say(speech->context, MO_SENTENCE_VERDICT, speech->text);
    }
    return r;
}

/* Of what winners are judged by, and of wall time. */
static int say_far_off(struct speech *speech) {
    const struct mo_comparison *comparison = speech->comparison;
    int r = 0;
    for (size_t i = 0; i < comparison->count; i++)
        for (enum mo_metric metric = 0; metric < MO_METRICS && r >= 0; metric++) {
            const struct mo_candidate *candidate = &comparison->candidates[i];
            size_t far = mo_candidate_far_off(candidate, metric);
            if (far == 0 || (metric != MO_METRIC_WALL && metric != comparison->time.metric &&
                             metric != MO_METRIC_PEAK && metric != MO_METRIC_REST))
                continue;
            double median = mo_candidate_median(candidate, metric);
            double lowest = mo_candidate_extreme(candidate, metric, 1);
            double highest = mo_candidate_extreme(candidate, metric, -1);
            double farthest = median - lowest > highest - median ? lowest : highest;
            snprintf(speech->text, sizeof(speech->text),
                     "%s: %zu of %zu runs had a %s %s%s, far from the median of %s",
                     mo_candidate_name(comparison, candidate), far, candidate->count,
                     metrics[metric].name, far == 1 ? "of " : "of, at the farthest, ",
                     mo_compare_value(farthest, metric).text,
                     mo_compare_value(median, metric).text);
            r = speech->say(speech->context, MO_SENTENCE_WARNING, speech->text);
        }
    return r;
}

/* What "-" means, where one figure is known and another of its kind is not. */
static int say_unknown(struct speech *speech) {
    const struct mo_comparison *comparison = speech->comparison;
    for (enum mo_metric metric = 0; metric < MO_METRICS; metric++) {
        int known = 0, unknown = 0;
        for (size_t i = 0; i < comparison->count; i++) {
            const struct mo_candidate *candidate = &comparison->candidates[i];
            if (candidate->left_out || mo_candidate_failed(candidate) || candidate->count == 0)
                continue;
            if (mo_candidate_has(candidate, metric))
                known = 1;
            else
                unknown = 1;
        }
        if (known && unknown)
            return speech->say(speech->context, MO_SENTENCE_NOTE,
                               "-: not known: the program is too short to be sampled, or smaller "
                               "than memopt");
    }
    return 0;
}

static int say_notes(struct speech *speech) {
    const struct mo_comparison *comparison = speech->comparison;
    int r = 0;
    if (comparison->waits)
        r = speech->say(speech->context, MO_SENTENCE_WARNING,
                        "wall time is far above CPU time (the program waits, or the machine is "
                        "busy): judged by CPU time");
    for (size_t i = 0; i < comparison->count && r >= 0; i++) {
        const struct mo_candidate *candidate = &comparison->candidates[i];
        if (candidate->note[0] == '\0' || mo_candidate_failed(candidate))
            continue;
        snprintf(speech->text, sizeof(speech->text), "%s%s: %s%s",
                 mo_candidate_name(comparison, candidate),
                 candidate->left_out ? " was left out" : "", candidate->note,
                 candidate->unfit ? "; it can't win" : "");
        r = speech->say(speech->context, MO_SENTENCE_NOTE, speech->text);
    }
    if (r >= 0 && comparison->status != 0) {
        snprintf(speech->text, sizeof(speech->text),
                 "the program's exit status was %d, in the first run and in all that count",
                 comparison->status);
        r = speech->say(speech->context, MO_SENTENCE_NOTE, speech->text);
    }
    if (r >= 0 && comparison->stopped[0] != '\0') {
        snprintf(speech->text, sizeof(speech->text), "not all was measured: %s",
                 comparison->stopped);
        r = speech->say(speech->context, MO_SENTENCE_FAILURE, speech->text);
    }
    return r;
}

int mo_comparison_sentences(const struct mo_comparison *comparison, mo_sentence_fn say,
                            void *context) {
    struct speech speech = {.comparison = comparison, .say = say, .context = context};
    int r = say_unknown(&speech);
    if (r >= 0)
        r = say_verdicts(&speech);
    if (r >= 0)
        r = say_far_off(&speech);
    return r < 0 ? r : say_notes(&speech);
}
