/* compare_print.c - judges what `memopt compare` measured and writes it down. */
#include "config.h"

#include "cli/compare.h"
#include "cli/json.h"

#include "core/base/error.h"
#include "core/launch/contest.h"

#include <memopt/show.h>

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *title, *key;
} metrics[MO_METRICS] = {
    [MO_METRIC_WALL] = {"wall", "wall_time"},
    [MO_METRIC_CPU] = {"CPU", "cpu_time"},
    [MO_METRIC_RSS] = {"peak RSS", "peak_rss"},
    [MO_METRIC_FAULTS] = {"page faults", "page_faults"},
};

static const char rule[] = "a winner is at least 1 % better than every other candidate and would "
                           "be so by chance in at most 5 % of cases (Mann-Whitney)";

/* ---------------------------------------------------------------- judging */

static int is_known(const struct mo_candidate *candidate, enum mo_metric metric) {
    for (size_t i = 0; i < candidate->count; i++)
        if (isnan(candidate->values[metric][i]))
            return 0;
    return candidate->count > 0;
}

static int judge(const struct mo_comparison *comparison, enum mo_metric metric, int *leads) {
    struct mo_contestant contestants[MO_CANDIDATES];
    for (size_t i = 0; i < comparison->count; i++) {
        const struct mo_candidate *candidate = &comparison->candidates[i];
        /* how fast a program fails says nothing */
        int fit = comparison->status == 0 && !candidate->left_out && candidate->failed == 0 &&
                  !candidate->unfit && is_known(candidate, metric);
        contestants[i] =
            (struct mo_contestant){candidate->values[metric], fit ? candidate->count : 0, 0};
    }
    int winner = mo_contest(contestants, comparison->count);
    for (size_t i = 0; i < comparison->count; i++)
        leads[i] = contestants[i].leads;
    return winner;
}

void mo_comparison_judge(struct mo_comparison *comparison) {
    comparison->fastest = judge(comparison, MO_METRIC_WALL, comparison->leads_time);
    comparison->smallest = judge(comparison, MO_METRIC_RSS, comparison->leads_memory);
}

/* ---------------------------------------------------------------- numbers */

static double median_of(const struct mo_candidate *candidate, enum mo_metric metric) {
    return is_known(candidate, metric) ? mo_median(candidate->values[metric], candidate->count)
                                       : NAN;
}

/* The baseline: libc, which is the first one that was measured. */
static const struct mo_candidate *baseline(const struct mo_comparison *comparison) {
    for (size_t i = 0; i < comparison->count; i++)
        if (!comparison->candidates[i].left_out && comparison->candidates[i].count > 0)
            return &comparison->candidates[i];
    return NULL;
}

static double ratio_of(const struct mo_comparison *comparison, const struct mo_candidate *candidate,
                       enum mo_metric metric) {
    const struct mo_candidate *base = baseline(comparison);
    double whole = base == NULL ? NAN : median_of(base, metric);
    return whole > 0 ? median_of(candidate, metric) / whole : NAN;
}

struct word {
    char text[32];
};

static struct word duration_word(double ns) {
    struct word word;
    if (ns < 1e6)
        snprintf(word.text, sizeof(word.text), "%.3g us", ns / 1e3);
    else if (ns < 1e9)
        snprintf(word.text, sizeof(word.text), "%.3g ms", ns / 1e6);
    else
        snprintf(word.text, sizeof(word.text), ns < 1e11 ? "%.3g s" : "%.0f s", ns / 1e9);
    return word;
}

static struct word size_word(double bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    struct word word;
    size_t unit = 0;
    while (bytes >= 999.5 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        bytes /= 1024;
        unit++;
    }
    snprintf(word.text, sizeof(word.text), "%.3g %s", bytes, units[unit]);
    return word;
}

static struct word value_word(double value, enum mo_metric metric) {
    struct word word;
    if (isnan(value)) {
        snprintf(word.text, sizeof(word.text), "-");
        return word;
    }
    switch (metric) {
    case MO_METRIC_WALL:
    case MO_METRIC_CPU:
        return duration_word(value);
    case MO_METRIC_RSS:
        return size_word(value);
    default:
        snprintf(word.text, sizeof(word.text), "%.0f", value);
        return word;
    }
}

/* "±1 %": the median distance from the median. */
static struct word spread_word(const struct mo_candidate *candidate, enum mo_metric metric) {
    struct word word = {""};
    double median = median_of(candidate, metric);
    if (median > 0)
        snprintf(word.text, sizeof(word.text), "±%.1f%%",
                 100 * mo_spread(candidate->values[metric], candidate->count) / median);
    return word;
}

/* Runs so far from the median that the spread doesn't show them: by more than
 * ten times the spread and a tenth of the median. */
static size_t far_off(const struct mo_candidate *candidate, enum mo_metric metric) {
    double median = median_of(candidate, metric);
    if (isnan(median))
        return 0;
    double most = fmax(10 * mo_spread(candidate->values[metric], candidate->count), median / 10);
    size_t far = 0;
    for (size_t i = 0; i < candidate->count; i++)
        far += fabs(candidate->values[metric][i] - median) > most;
    return far;
}

/* The lowest (sign 1) or highest (sign -1) value; NaN: not known. */
static double extreme_of(const struct mo_candidate *candidate, enum mo_metric metric, int sign) {
    double extreme = NAN;
    for (size_t i = 0; i < candidate->count && is_known(candidate, metric); i++)
        if (isnan(extreme) || sign * candidate->values[metric][i] < sign * extreme)
            extreme = candidate->values[metric][i];
    return extreme;
}

static struct word ratio_word(const struct mo_comparison *comparison,
                              const struct mo_candidate *candidate, enum mo_metric metric) {
    struct word word;
    double ratio = ratio_of(comparison, candidate, metric);
    if (isnan(ratio))
        snprintf(word.text, sizeof(word.text), "-");
    else
        snprintf(word.text, sizeof(word.text), "%.2fx", ratio);
    return word;
}

/* ---------------------------------------------------------------- sentences */

/* "time: mimalloc, 0.89x of libc" or "time: no winner; a, b are too close". */
static void verdict(const struct mo_comparison *comparison, const char *by, enum mo_metric metric,
                    int winner, const int *leads, char *text, size_t size) {
    const struct mo_candidate *base = baseline(comparison);
    if (winner >= 0) {
        const struct mo_candidate *candidate = &comparison->candidates[winner];
        if (candidate == base)
            snprintf(text, size, "%s: %s", by, candidate->label);
        else
            snprintf(text, size, "%s: %s, %s of %s", by, candidate->label,
                     ratio_word(comparison, candidate, metric).text, base->label);
        return;
    }
    if (comparison->status != 0) {
        snprintf(text, size, "%s: no winner; the program fails, and runs that succeed are compared",
                 by);
        return;
    }
    size_t used = (size_t)snprintf(text, size, "%s: no winner", by);
    size_t count = 0;
    for (size_t i = 0; i < comparison->count; i++)
        count += leads[i] != 0;
    if (count < 2 && used < size)
        snprintf(text + used, size - used, "; fewer than two candidates took part to the end");
    const char *before = comparison->runs < 3 ? "; fewer than 3 runs can't tell between "
                                              : "; too close to call between ";
    for (size_t i = 0; i < comparison->count && used < size && count >= 2; i++) {
        if (!leads[i])
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s", before,
                                 comparison->candidates[i].label);
        before = ", ";
    }
}

/* Failures of one candidate; 0: nothing to say. */
static int complaint(const struct mo_comparison *comparison, const struct mo_candidate *candidate,
                     char *text, size_t size) {
    if (candidate->left_out)
        snprintf(text, size, "%s was left out: %s", candidate->label, candidate->note);
    else if (candidate->failed > 0)
        snprintf(text, size,
                 "%s: %u of %zu runs ended with exit status %d instead of %d; it can't win%s%s",
                 candidate->label, candidate->failed, comparison->runs + 1,
                 candidate->failed_status, comparison->status,
                 candidate->note[0] != '\0' ? "; " : "", candidate->note);
    else if (candidate->note[0] != '\0')
        snprintf(text, size, "%s: %s%s", candidate->label, candidate->note,
                 candidate->unfit ? "; it can't win" : "");
    else
        return 0;
    return 1;
}

/* ----------------------------------------------------------- text, markdown */

/* Columns of a text that may have "±", which is two bytes and one column. */
static int width_of(const char *text) {
    int width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static int put(struct memopt_output *output, const char *text, int width) {
    int pad = width - width_of(text);
    return output->printf(output, "%*s%s", pad > 0 ? pad : 0, "", text);
}

/* A label, a note, an argument: what memopt did not write. */
static int put_shown(struct memopt_output *output, const char *text, unsigned how) {
    char part[512];
    int r = 0;
    while (*text != '\0' && r == 0) {
        text += memopt_show(part, sizeof(part), text, how);
        r = output->write(output, part, strlen(part));
    }
    return r;
}

static int shown_width(const char *text) {
    char part[512];
    int width = 0;
    while (*text != '\0') {
        text += memopt_show(part, sizeof(part), text, 0);
        width += width_of(part);
    }
    return width;
}

static int label_width(const struct mo_comparison *comparison) {
    int width = 9;
    for (size_t i = 0; i < comparison->count; i++)
        if (!comparison->candidates[i].left_out &&
            shown_width(comparison->candidates[i].label) > width)
            width = shown_width(comparison->candidates[i].label);
    return width;
}

static int write_row(const struct mo_comparison *comparison, const struct mo_candidate *candidate,
                     int label, struct memopt_output *output) {
    int r = put_shown(output, candidate->label, 0);
    if (r == 0)
        r = output->printf(output, "%*s", label - shown_width(candidate->label), "");
    for (enum mo_metric metric = 0; metric < MO_METRICS && r == 0; metric++) {
        r = put(output, value_word(median_of(candidate, metric), metric).text, 10);
        if (r == 0 && (metric == MO_METRIC_WALL || metric == MO_METRIC_RSS))
            r = put(output, spread_word(candidate, metric).text, 7);
        if (r == 0)
            r = put(output, ratio_word(comparison, candidate, metric).text, 7);
    }
    return r < 0 ? r : output->printf(output, "\n");
}

/* Of what winners are judged by. */
static int write_far_off(const struct mo_candidate *candidate, const char *bullet, unsigned how,
                         struct memopt_output *output) {
    static const enum mo_metric judged[] = {MO_METRIC_WALL, MO_METRIC_RSS};
    int r = 0;
    for (size_t i = 0; i < sizeof(judged) / sizeof(judged[0]) && r == 0; i++) {
        enum mo_metric metric = judged[i];
        size_t far = candidate->left_out ? 0 : far_off(candidate, metric);
        if (far == 0)
            continue;
        r = output->printf(output, "%s", bullet);
        if (r == 0)
            r = put_shown(output, candidate->label, how);
        if (r == 0)
            r = output->printf(output, ": %zu of %zu runs %s far off by %s: from %s to %s\n", far,
                               candidate->count, far == 1 ? "is" : "are", metrics[metric].title,
                               value_word(extreme_of(candidate, metric, 1), metric).text,
                               value_word(extreme_of(candidate, metric, -1), metric).text);
    }
    return r;
}

static int write_sentence(const char *before, const char *bullet, const char *text, unsigned how,
                          struct memopt_output *output) {
    int r = output->printf(output, "%s%s", before, bullet);
    if (r == 0)
        r = put_shown(output, text, how);
    return r == 0 ? output->printf(output, "\n") : r;
}

static int write_sentences(const struct mo_comparison *comparison, const char *bullet, unsigned how,
                           struct memopt_output *output) {
    char text[1024];
    verdict(comparison, "time", MO_METRIC_WALL, comparison->fastest, comparison->leads_time, text,
            sizeof(text));
    int r = write_sentence("\n", bullet, text, how, output);
    verdict(comparison, "memory", MO_METRIC_RSS, comparison->smallest, comparison->leads_memory,
            text, sizeof(text));
    if (r == 0)
        r = write_sentence("", bullet, text, how, output);
    for (size_t i = 0; i < comparison->count && r == 0; i++)
        if (complaint(comparison, &comparison->candidates[i], text, sizeof(text)))
            r = write_sentence("", bullet, text, how, output);
    for (size_t i = 0; i < comparison->count && r == 0; i++)
        r = write_far_off(&comparison->candidates[i], bullet, how, output);
    if (r == 0 && comparison->status != 0)
        r = output->printf(output, "%sthe program's exit status was %d in the first run\n", bullet,
                           comparison->status);
    return r;
}

static int write_command(const struct mo_comparison *comparison, struct memopt_output *output) {
    int r = 0;
    for (size_t i = 0; comparison->argv[i] != NULL && r == 0; i++) {
        if (i > 0)
            r = output->printf(output, " ");
        if (r == 0)
            r = put_shown(output, comparison->argv[i], 0);
    }
    return r;
}

static int write_text(const struct mo_comparison *comparison, struct memopt_output *output) {
    int label = label_width(comparison);
    int r = write_command(comparison, output);
    if (r == 0)
        r = output->printf(
            output,
            "\nmedian of %zu run%s each, in turn, after one to warm up; input: %s\n\n"
            "%*s%10s%7s%7s%10s%7s%10s%7s%7s%10s%7s\n",
            comparison->runs, comparison->runs == 1 ? "" : "s", comparison->input, label, "",
            "wall", "", "", "CPU", "", "peak RSS", "", "", "faults", "");
    for (size_t i = 0; i < comparison->count && r == 0; i++)
        if (!comparison->candidates[i].left_out)
            r = write_row(comparison, &comparison->candidates[i], label, output);
    if (r == 0)
        r = write_sentences(comparison, "", 0, output);
    if (r == 0)
        r = output->printf(
            output,
            "\n±: median distance from the median; runs that are far off are named.\n"
            "x: relative to %s.\n%c%s.\n",
            baseline(comparison)->label, 'A', rule + 1);
    return r;
}

/* What a code span begins and ends with: more "`" than are in a row in the command, and a
 * blank if it has any. */
static void set_fence(const struct mo_comparison *comparison, char *fence, size_t size) {
    size_t longest = 0;
    for (size_t i = 0; comparison->argv[i] != NULL; i++)
        for (const char *at = comparison->argv[i]; *at != '\0'; at += *at != '\0') {
            size_t row = strspn(at, "`");
            longest = row > longest ? row : longest;
            at += row;
        }
    size_t count = longest + 1 < size - 2 ? longest + 1 : size - 2;
    memset(fence, '`', count);
    strcpy(fence + count, longest > 0 ? " " : "");
}

static int write_markdown(const struct mo_comparison *comparison, struct memopt_output *output) {
    char fence[64], behind[64];
    set_fence(comparison, fence, sizeof(fence));
    size_t ticks = strspn(fence, "`");
    snprintf(behind, sizeof(behind), "%s%.*s", fence + ticks, (int)ticks, fence);
    int r = output->printf(output, "%s", fence);
    if (r == 0)
        r = write_command(comparison, output);
    if (r == 0)
        r = output->printf(output, "%s: median of %zu run%s each, in turn\n\n| |", behind,
                           comparison->runs, comparison->runs == 1 ? "" : "s");
    for (enum mo_metric metric = 0; metric < MO_METRICS && r == 0; metric++)
        r = output->printf(output, " %s | |", metrics[metric].title);
    if (r == 0)
        r = output->printf(output, "\n|---|");
    for (enum mo_metric metric = 0; metric < MO_METRICS && r == 0; metric++)
        r = output->printf(output, "--:|--:|");
    for (size_t i = 0; i < comparison->count && r == 0; i++) {
        const struct mo_candidate *candidate = &comparison->candidates[i];
        if (candidate->left_out)
            continue;
        r = output->printf(output, "\n| ");
        if (r == 0)
            r = put_shown(output, candidate->label, MEMOPT_SHOW_MARKDOWN);
        if (r == 0)
            r = output->printf(output, " |");
        for (enum mo_metric metric = 0; metric < MO_METRICS && r == 0; metric++)
            r = output->printf(output, " %s %s | %s |",
                               value_word(median_of(candidate, metric), metric).text,
                               spread_word(candidate, metric).text,
                               ratio_word(comparison, candidate, metric).text);
    }
    if (r == 0)
        r = output->printf(output, "\n");
    return r < 0 ? r : write_sentences(comparison, "- ", MEMOPT_SHOW_MARKDOWN, output);
}

/* --------------------------------------------------------------------- json */

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *names(const struct mo_comparison *comparison, const int *leads) {
    json_t *array = json_array();
    for (size_t i = 0; i < comparison->count; i++)
        if (leads[i])
            json_array_append_new(array, mo_json_string(comparison->candidates[i].label));
    return array;
}

static json_t *metric_object(const struct mo_comparison *comparison,
                             const struct mo_candidate *candidate, enum mo_metric metric) {
    json_t *values = json_array();
    for (size_t i = 0; i < candidate->count; i++)
        json_array_append_new(values, number(candidate->values[metric][i]));
    double median = median_of(candidate, metric);
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:i, s:o, s:o}", "median", number(median), "spread",
        number(isnan(median) ? NAN : mo_spread(candidate->values[metric], candidate->count)), "min",
        number(extreme_of(candidate, metric, 1)), "max", number(extreme_of(candidate, metric, -1)),
        "far_off", (int)far_off(candidate, metric), "ratio",
        number(ratio_of(comparison, candidate, metric)), "values", values);
}

static json_t *candidate_object(const struct mo_comparison *comparison,
                                const struct mo_candidate *candidate) {
    json_t *object =
        json_pack("{s:o, s:o, s:o, s:o, s:b, s:i, s:o}", "name", mo_json_string(candidate->label),
                  "allocator", mo_json_string(candidate->allocator), "config",
                  mo_json_string(candidate->file), "binding", mo_json_string(candidate->binding),
                  "left_out", candidate->left_out, "failed_runs", (int)candidate->failed, "note",
                  mo_json_string(candidate->note[0] == '\0' ? NULL : candidate->note));
    for (enum mo_metric metric = 0; metric < MO_METRICS && !candidate->left_out; metric++)
        json_object_set_new(object, metrics[metric].key,
                            metric_object(comparison, candidate, metric));
    return object;
}

static json_t *winner_of(const struct mo_comparison *comparison, int winner) {
    return winner < 0 ? json_null() : mo_json_string(comparison->candidates[winner].label);
}

static int write_json(const struct mo_comparison *comparison, struct memopt_output *output,
                      struct memopt_error *error) {
    json_t *command = json_array(), *candidates = json_array();
    for (size_t i = 0; comparison->argv[i] != NULL; i++)
        json_array_append_new(command, mo_json_string(comparison->argv[i]));
    for (size_t i = 0; i < comparison->count; i++)
        json_array_append_new(candidates, candidate_object(comparison, &comparison->candidates[i]));
    json_t *root =
        json_pack("{s:s, s:i, s:s, s:o, s:i, s:i, s:i, s:s, s:s, s:o, s:{s:o, s:o, s:o, s:o}}",
                  "schema", "memopt-compare", "version", 2, "memopt_version", PACKAGE_VERSION,
                  "argv", command, "runs", (int)comparison->runs, "warm_up_runs", 1, "exit_status",
                  comparison->status, "input", comparison->input, "rule", rule, "candidates",
                  candidates, "winners", "time", winner_of(comparison, comparison->fastest),
                  "memory", winner_of(comparison, comparison->smallest), "time_leaders",
                  names(comparison, comparison->leads_time), "memory_leaders",
                  names(comparison, comparison->leads_memory));
    char *text = root == NULL ? NULL : json_dumps(root, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    json_decref(root);
    if (text == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    int r = output->write(output, text, strlen(text));
    free(text);
    return r < 0 ? r : output->write(output, "\n", 1);
}

int mo_comparison_write(const struct mo_comparison *comparison, enum mo_compare_format format,
                        struct memopt_output *output, struct memopt_error *error) {
    switch (format) {
    case MO_COMPARE_JSON:
        return write_json(comparison, output, error);
    case MO_COMPARE_MARKDOWN:
        return write_markdown(comparison, output);
    default:
        return write_text(comparison, output);
    }
}
