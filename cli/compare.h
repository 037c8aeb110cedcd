/*
 * compare.h - what `memopt compare` measured, and the parts it is made of:
 *
 *   cmd_compare.c         options, and the order of things
 *   compare_candidates.c  which allocators and configurations, before any run
 *   compare_run.c         the rounds
 *   compare_streams.c     the program's standard input and error
 *   compare_judge.c       medians, ratios, winners, and these in words
 *   compare_text.c        the table on a screen
 *   compare_export.c      JSON, CSV, Markdown
 */
#ifndef MO_CLI_COMPARE_H
#define MO_CLI_COMPARE_H

#include "core/config/config.h"

#include <memopt/plugin.h>

#include <stddef.h>
#include <stdint.h>

enum mo_metric {
    MO_METRIC_WALL, /* ns */
    MO_METRIC_CPU,  /* ns */
    MO_METRIC_PEAK, /* bytes, of the largest process */
    MO_METRIC_REST, /* bytes, of that process: core/launch/samples.h */
    MO_METRIC_MEAN, /* likewise */
    MO_METRIC_FAULTS,
    MO_METRICS,
};
enum { MO_CANDIDATES = 32, MO_RUNS = 1000, MO_EXPORTS = 8 };

enum mo_compare_format {
    MO_COMPARE_TEXT,
    MO_COMPARE_JSON,
    MO_COMPARE_MARKDOWN,
    MO_COMPARE_CSV,
    MO_COMPARE_FORMATS, /* how many; as a format: not said */
};

struct mo_compare_options {
    const char *allocators, *output, *prepare;
    const char *files[MO_CANDIDATES], *labels[MO_CANDIDATES]; /* a profile's is its name */
    size_t file_count;
    struct mo_config_set sets[MO_CANDIDATES + 4]; /* the last ones are a candidate's own */
    size_t set_count;
    const char *exports[MO_EXPORTS];
    size_t export_count;
    size_t runs_min, runs_max, warm_ups;
    uint64_t budget; /* ns in which all runs but the first runs_min are to be done */
    enum mo_compare_format format;
    int keep_output, ignore_failures, verbose;
};

struct mo_candidate {
    char label[256]; /* the allocator, or the INI file as the user named it */
    char base[256];  /* of the file, without ".ini"; else the label */
    char allocator[64];
    const char *file; /* -c, or NULL */
    struct mo_config *config;
    int expected;        /* named by the user: must be there */
    const char *binding; /* "direct", "dispatch" */
    /* One value for each measured run that succeeded. NaN: not known. A metric of which a
     * run is unknown takes no part in contests. */
    double *values[MO_METRICS];
    size_t count;
    size_t runs;                   /* measured runs, failed ones too */
    size_t failed, failed_warm_up; /* of them; of those before */
    char failure[64];              /* how the first of those ended */
    int failed_variously;          /* others ended in another way */
    char note[512];                /* "" or why it was left out, or what went wrong with it */
    int left_out;
    int unfit; /* not all of its runs were its allocator's, as far as that is seen; see note */
};

/* Who is best by one metric. */
struct mo_verdict {
    enum mo_metric metric;
    int winner; /* or -1 */
    int leads[MO_CANDIDATES];
    /* Of those that ran as they should; one whose figure is not known may be the best. */
    size_t taking_part, unknown;
};

struct mo_comparison {
    char *const *argv;
    const struct mo_compare_options *options;
    int status;        /* the exit status that runs should have: the first candidate's first */
    int has_status;    /* that one has run */
    const char *input; /* what standard input was: "/dev/null", … */
    char stopped[256]; /* why it ended before all was measured; "": it did not */
    struct mo_candidate candidates[MO_CANDIDATES];
    size_t count;
    /* results, by mo_comparison_judge() */
    int waits; /* it does so most of its time, whatever the candidate: CPU time is judged */
    struct mo_verdict time, peak, rest;
};

/* ---- compare_candidates.c. 0, or a negative errno after saying what is wrong. */
int mo_compare_find_candidates(struct mo_comparison *comparison,
                               struct mo_compare_options *options);
void mo_compare_free_candidates(struct mo_comparison *comparison);

/* ---- compare_run.c. All runs: 0, or memopt's exit status; comparison->stopped then says
 * why there are no more. What was measured before is there. */
int mo_compare_run(struct mo_comparison *comparison);
/* Whether any run of any candidate was measured. */
int mo_comparison_has_runs(const struct mo_comparison *comparison);

/* ---- compare_judge.c */
/* Fills in the winners: by wall or CPU time, by peak RSS and by RSS at rest, among those
 * whose every run was on their allocator and succeeded; nobody wins against nobody. */
void mo_comparison_judge(struct mo_comparison *comparison);
/* What people read: of a file, without folders and ".ini" where no other candidate is
 * called so. */
const char *mo_candidate_name(const struct mo_comparison *comparison,
                              const struct mo_candidate *candidate);
int mo_candidate_failed(const struct mo_candidate *candidate);
int mo_candidate_has(const struct mo_candidate *candidate, enum mo_metric metric);
/* NaN: not known. */
double mo_candidate_median(const struct mo_candidate *candidate, enum mo_metric metric);
double mo_candidate_spread(const struct mo_candidate *candidate, enum mo_metric metric);
/* The lowest (sign 1) or highest (sign -1) value. */
double mo_candidate_extreme(const struct mo_candidate *candidate, enum mo_metric metric, int sign);
/* Runs so far from the median that the spread doesn't show them. */
size_t mo_candidate_far_off(const struct mo_candidate *candidate, enum mo_metric metric);
/* The first candidate, if it has figures; NULL: nothing is relative to it. */
const struct mo_candidate *mo_comparison_baseline(const struct mo_comparison *comparison);
/* To the baseline's median; NaN for the baseline itself. */
double mo_comparison_ratio(const struct mo_comparison *comparison,
                           const struct mo_candidate *candidate, enum mo_metric metric);
/* How many runs each has: "5", "3 to 5". */
void mo_comparison_runs(const struct mo_comparison *comparison, char *text, size_t size);
/* "failed in 5 of 5 runs: SIGSEGV" */
void mo_candidate_failure(const struct mo_candidate *candidate, char *text, size_t size);

/* What there is to say besides the figures, a sentence at a time. */
enum mo_sentence {
    MO_SENTENCE_VERDICT,
    MO_SENTENCE_WARNING,
    MO_SENTENCE_FAILURE,
    MO_SENTENCE_NOTE,
};
typedef int (*mo_sentence_fn)(void *context, enum mo_sentence kind, const char *text);
/* Ends at the first result below 0, which it returns. */
int mo_comparison_sentences(const struct mo_comparison *comparison, mo_sentence_fn say,
                            void *context);

struct mo_word {
    char text[32];
};
/* With its unit: "521 ms", "38.2 MiB", "6567"; "-": not known. */
struct mo_word mo_compare_value(double value, enum mo_metric metric);
/* What a metric is called above a column (a narrow one, too), in a sentence, in JSON, in
 * CSV ("wall_time_ns"). */
const char *mo_compare_title(enum mo_metric metric, int is_narrow);
const char *mo_compare_name(enum mo_metric metric);
const char *mo_compare_key(enum mo_metric metric);
const char *mo_compare_csv_key(enum mo_metric metric);
/* When a winner is named; begins with a lower-case letter, no full stop. */
extern const char mo_compare_rule[];

/* ---- writing. 0 or a negative errno. */
int mo_compare_write_text(const struct mo_comparison *comparison, struct memopt_output *output);
int mo_compare_write_json(const struct mo_comparison *comparison, struct memopt_output *output,
                          struct memopt_error *error);
int mo_compare_write_csv(const struct mo_comparison *comparison, struct memopt_output *output);
int mo_compare_write_markdown(const struct mo_comparison *comparison, struct memopt_output *output);

#endif
