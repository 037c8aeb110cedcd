/*
 * compare.h - what `memopt compare` measured, between the part that runs
 * (cmd_compare.c) and the part that prints (compare_print.c).
 */
#ifndef MO_CLI_COMPARE_H
#define MO_CLI_COMPARE_H

#include <memopt/plugin.h>

#include <stddef.h>
#include <stdint.h>

enum mo_metric {
    MO_METRIC_WALL, /* ns */
    MO_METRIC_CPU,  /* ns */
    MO_METRIC_RSS,  /* bytes, of the largest process */
    MO_METRIC_FAULTS,
    MO_METRICS,
};
enum { MO_CANDIDATES = 32, MO_RUNS = 1000 };

struct mo_candidate {
    char label[256]; /* the allocator, or the INI file as the user named it */
    char allocator[64];
    const char *file;    /* -c, or NULL */
    const char *binding; /* "direct", "dispatch" */
    /* One value a run. NaN: not known. A metric of which a run is unknown takes
     * no part in contests. */
    double *values[MO_METRICS];
    size_t count;
    unsigned failed;   /* runs that ended otherwise than the first one of all */
    int failed_status; /* the exit status of the last of those */
    char note[512];    /* "" or why it was left out, or what went wrong with it */
    int left_out;
    int unfit; /* not all of its runs were its allocator's, as far as that is seen; see note */
};

struct mo_comparison {
    char *const *argv;
    size_t runs;
    int status;        /* exit status of the first run */
    const char *input; /* what standard input was: "/dev/null", "read again for each run" */
    struct mo_candidate candidates[MO_CANDIDATES];
    size_t count;
    /* results, by mo_comparison_judge() */
    int fastest, smallest; /* winners, or -1 */
    int leads_time[MO_CANDIDATES], leads_memory[MO_CANDIDATES];
};

/* Fills in the winners: by wall time and by peak RSS, among those whose every
 * run was on their allocator and ended as the first one did; nobody wins if that
 * failed. */
void mo_comparison_judge(struct mo_comparison *comparison);

enum mo_compare_format { MO_COMPARE_TEXT, MO_COMPARE_JSON, MO_COMPARE_MARKDOWN };
/* Returns 0 or a negative errno. */
int mo_comparison_write(const struct mo_comparison *comparison, enum mo_compare_format format,
                        struct memopt_output *output, struct memopt_error *error);

#endif
