/* compare_export.c - what memopt compare measured, for programs and for documents: JSON,
 * CSV and Markdown. */
#include "config.h"

#include "cli/compare.h"
#include "cli/json.h"

#include "core/base/error.h"

#include <memopt/show.h>

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------- json */

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *text_or_null(const char *text) {
    return mo_json_string(text[0] == '\0' ? NULL : text);
}

static json_t *metric_object(const struct mo_comparison *comparison,
                             const struct mo_candidate *candidate, enum mo_metric metric) {
    json_t *values = json_array();
    for (size_t i = 0; i < candidate->count; i++)
        json_array_append_new(values, number(candidate->values[metric][i]));
    int is_base = candidate == mo_comparison_baseline(comparison) &&
                  mo_candidate_median(candidate, metric) > 0;
    return json_pack("{s:o, s:o, s:o, s:o, s:i, s:o, s:o}", "median",
                     number(mo_candidate_median(candidate, metric)), "spread",
                     number(mo_candidate_spread(candidate, metric)), "min",
                     number(mo_candidate_extreme(candidate, metric, 1)), "max",
                     number(mo_candidate_extreme(candidate, metric, -1)), "far_off",
                     (int)mo_candidate_far_off(candidate, metric), "ratio",
                     number(is_base ? 1 : mo_comparison_ratio(comparison, candidate, metric)),
                     "values", values);
}

static json_t *candidate_object(const struct mo_comparison *comparison,
                                const struct mo_candidate *candidate) {
    json_t *object = json_pack(
        "{s:o, s:o, s:o, s:o, s:b, s:i, s:i, s:i, s:o, s:o}", "name",
        mo_json_string(candidate->label), "allocator", mo_json_string(candidate->allocator),
        "config", mo_json_string(candidate->file), "binding", mo_json_string(candidate->binding),
        "left_out", candidate->left_out, "runs", (int)candidate->runs, "failed_runs",
        (int)candidate->failed, "failed_warm_up_runs", (int)candidate->failed_warm_up, "failure",
        text_or_null(candidate->failure), "note", text_or_null(candidate->note));
    int has_figures = candidate->count > 0 && !mo_candidate_failed(candidate);
    for (enum mo_metric metric = 0; metric < MO_METRICS && has_figures; metric++)
        json_object_set_new(object, mo_compare_key(metric),
                            metric_object(comparison, candidate, metric));
    return object;
}

static json_t *winners(const struct mo_comparison *comparison) {
    const struct {
        const char *name, *leaders;
        const struct mo_verdict *verdict;
    } rows[] = {
        {"time", "time_leaders", &comparison->time},
        {"memory", "memory_leaders", &comparison->peak},
        {"rest", "rest_leaders", &comparison->rest},
    };
    json_t *object = json_object();
    json_object_set_new(object, "time_by", json_string(mo_compare_key(comparison->time.metric)));
    for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
        const struct mo_verdict *verdict = rows[row].verdict;
        json_t *leaders = json_array();
        for (size_t i = 0; i < comparison->count; i++)
            if (verdict->leads[i])
                json_array_append_new(leaders, mo_json_string(comparison->candidates[i].label));
        json_object_set_new(object, rows[row].name,
                            mo_json_string(verdict->winner < 0
                                               ? NULL
                                               : comparison->candidates[verdict->winner].label));
        json_object_set_new(object, rows[row].leaders, leaders);
    }
    return object;
}

int mo_compare_write_json(const struct mo_comparison *comparison, struct memopt_output *output,
                          struct memopt_error *error) {
    json_t *command = json_array(), *candidates = json_array();
    for (size_t i = 0; comparison->argv[i] != NULL; i++)
        json_array_append_new(command, mo_json_string(comparison->argv[i]));
    size_t runs = 0;
    for (size_t i = 0; i < comparison->count; i++) {
        const struct mo_candidate *candidate = &comparison->candidates[i];
        runs = candidate->runs > runs ? candidate->runs : runs;
        json_array_append_new(candidates, candidate_object(comparison, candidate));
    }
    json_t *root = json_pack(
        "{s:s, s:i, s:s, s:o, s:i, s:i, s:o, s:i, s:s, s:o, s:s, s:o, s:o}", "schema",
        "memopt-compare", "version", 3, "memopt_version", PACKAGE_VERSION, "argv", command, "runs",
        (int)runs, "warm_up_runs", (int)comparison->options->warm_ups, "prepare",
        mo_json_string(comparison->options->prepare), "exit_status", comparison->status, "input",
        comparison->input, "stopped", text_or_null(comparison->stopped), "rule", mo_compare_rule,
        "candidates", candidates, "winners", winners(comparison));
    char *text = root == NULL ? NULL : json_dumps(root, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    json_decref(root);
    if (text == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    int r = output->write(output, text, strlen(text));
    free(text);
    return r < 0 ? r : output->write(output, "\n", 1);
}

/* ---------------------------------------------------------------------- csv */

/* RFC 4180; lines end with a newline alone, as tools here expect. */
static int write_quoted(struct memopt_output *output, const char *text) {
    int r = output->printf(output, "\"");
    for (; *text != '\0' && r >= 0; text++)
        r = output->printf(output, *text == '"' ? "\"\"" : "%c", *text);
    return r < 0 ? r : output->printf(output, "\"");
}

static int write_number(struct memopt_output *output, double value) {
    return isnan(value) ? output->printf(output, ",") : output->printf(output, ",%.15g", value);
}

/* A line for each candidate that was to be measured; unknown and failed: empty fields. */
int mo_compare_write_csv(const struct mo_comparison *comparison, struct memopt_output *output) {
    int r = output->printf(output, "candidate,runs,failed_runs,failure");
    for (enum mo_metric metric = 0; metric < MO_METRICS && r >= 0; metric++) {
        const char *key = mo_compare_csv_key(metric);
        r = output->printf(output, ",%s,%s_spread,%s_min,%s_max", key, key, key, key);
    }
    for (size_t i = 0; i < comparison->count && r >= 0; i++) {
        const struct mo_candidate *candidate = &comparison->candidates[i];
        if (candidate->left_out)
            continue;
        r = output->printf(output, "\n");
        if (r >= 0)
            r = write_quoted(output, candidate->label);
        if (r >= 0)
            r = output->printf(output, ",%zu,%zu,%s", candidate->runs, candidate->failed,
                               candidate->failure);
        for (enum mo_metric metric = 0; metric < MO_METRICS && r >= 0; metric++) {
            r = write_number(output, mo_candidate_median(candidate, metric));
            if (r >= 0)
                r = write_number(output, mo_candidate_spread(candidate, metric));
            for (int sign = 1; sign >= -1 && r >= 0; sign -= 2)
                r = write_number(output, mo_candidate_extreme(candidate, metric, sign));
        }
    }
    return r < 0 ? r : output->printf(output, "\n");
}

/* ----------------------------------------------------------------- markdown */

static int write_shown(struct memopt_output *output, const char *text) {
    char shown[512];
    int r = 0;
    while (*text != '\0' && r >= 0) {
        text += memopt_show(shown, sizeof(shown), text, MEMOPT_SHOW_MARKDOWN);
        r = output->printf(output, "%s", shown);
    }
    return r;
}

static int write_cells(const struct mo_comparison *comparison, const struct mo_candidate *candidate,
                       enum mo_metric metric, struct memopt_output *output) {
    double median = mo_candidate_median(candidate, metric);
    double spread = mo_candidate_spread(candidate, metric);
    double ratio = mo_comparison_ratio(comparison, candidate, metric);
    char of_spread[32] = "", of_ratio[32] = "";
    if (median > 0 && !isnan(spread))
        snprintf(of_spread, sizeof(of_spread), " ±%.1f%%", 100 * spread / median);
    if (!isnan(ratio))
        snprintf(of_ratio, sizeof(of_ratio), " %.2fx", ratio);
    return output->printf(output, " %s%s |%s |", mo_compare_value(median, metric).text, of_spread,
                          of_ratio);
}

static int write_markdown_row(const struct mo_comparison *comparison,
                              const struct mo_candidate *candidate, const int known[MO_METRICS],
                              struct memopt_output *output) {
    char failure[256];
    int r = output->printf(output, "\n| ");
    if (r >= 0)
        r = write_shown(output, mo_candidate_name(comparison, candidate));
    if (r >= 0)
        r = output->printf(output, " |");
    if (mo_candidate_failed(candidate)) {
        mo_candidate_failure(candidate, failure, sizeof(failure));
        if (r >= 0)
            r = output->printf(output, " %s |", failure);
    }
    for (enum mo_metric metric = 0; metric < MO_METRICS && r >= 0; metric++)
        if (known[metric] && !mo_candidate_failed(candidate))
            r = write_cells(comparison, candidate, metric, output);
    return r;
}

static int write_item(void *context, enum mo_sentence kind, const char *text) {
    struct memopt_output *output = context;
    (void)kind;
    int r = output->printf(output, "- ");
    if (r >= 0)
        r = write_shown(output, text);
    return r < 0 ? r : output->printf(output, "\n");
}

/* A code span, where nothing is markup but its end: more backticks than there are in it. */
static int write_command(const struct mo_comparison *comparison, struct memopt_output *output) {
    char shown[512], fence[64] = "`";
    size_t longest = 0;
    for (size_t i = 0; comparison->argv[i] != NULL; i++)
        for (const char *c = comparison->argv[i]; *c != '\0';) {
            size_t run = strspn(c, "`");
            longest = run > longest ? run : longest;
            c += run + strcspn(c + run, "`");
        }
    if (longest + 2 > sizeof(fence))
        return output->printf(output, "the program");
    memset(fence, '`', longest + 1);
    fence[longest + 1] = '\0';
    int r = output->printf(output, "%s%s", fence, longest > 0 ? " " : "");
    for (size_t i = 0; comparison->argv[i] != NULL && r >= 0; i++) {
        const char *text = comparison->argv[i];
        r = output->printf(output, i > 0 ? " " : "");
        while (*text != '\0' && r >= 0) {
            text += memopt_show(shown, sizeof(shown), text, 0);
            r = output->printf(output, "%s", shown);
        }
    }
    return r < 0 ? r : output->printf(output, "%s%s", longest > 0 ? " " : "", fence);
}

int mo_compare_write_markdown(const struct mo_comparison *comparison,
                              struct memopt_output *output) {
    char runs[64];
    int known[MO_METRICS] = {0};
    for (enum mo_metric metric = 0; metric < MO_METRICS; metric++)
        for (size_t i = 0; i < comparison->count; i++)
            known[metric] |= mo_candidate_has(&comparison->candidates[i], metric);
    int r = write_command(comparison, output);
    mo_comparison_runs(comparison, runs, sizeof(runs));
    if (r >= 0)
        r = strcmp(runs, "1") == 0
                ? output->printf(output, ": 1 run each\n\n| |")
                : output->printf(output, ": median of %s runs each, in turn\n\n| |", runs);
    for (enum mo_metric metric = 0; metric < MO_METRICS && r >= 0; metric++)
        if (known[metric])
            r = output->printf(output, " %s | |", mo_compare_name(metric));
    if (r >= 0)
        r = output->printf(output, "\n|---|");
    for (enum mo_metric metric = 0; metric < MO_METRICS && r >= 0; metric++)
        if (known[metric])
            r = output->printf(output, "--:|--:|");
    for (size_t i = 0; i < comparison->count && r >= 0; i++)
        if (!comparison->candidates[i].left_out)
            r = write_markdown_row(comparison, &comparison->candidates[i], known, output);
    if (r >= 0)
        r = output->printf(output, "\n\n");
    return r < 0 ? r : mo_comparison_sentences(comparison, write_item, output);
}
