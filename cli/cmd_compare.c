/*
 * cmd_compare.c - memopt compare: the same program over several allocators, in
 * turn, and a table of what each cost.
 *
 *     options → candidates → runs → judge → write
 */
#include "config.h"

#include "cli/cmd.h"
#include "cli/compare.h"
#include "cli/settings.h"

#include "core/base/error.h"
#include "core/option/option.h"
#include "core/render/output.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char name[] = "compare";

#define BUDGET UINT64_C(60000000000) /* ns */

/* ---------------------------------------------------------------- options */

enum {
    OPTION_FORMAT = MO_CLI_LONG,
    OPTION_SET,
    OPTION_EXPORT,
    OPTION_PREPARE,
    OPTION_PROFILE,
    OPTION_TIME,
    OPTION_WARMUP,
};

static int parse_format(const char *text, enum mo_compare_format *ret_format) {
    static const char *const formats[] = {"text", "json", "markdown", "csv"};
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (strcmp(text, formats[i]) == 0) {
            *ret_format = (enum mo_compare_format)i;
            return 0;
        }
    return mo_wrong_usage(name, "'%s' is not a valid format: text, json, markdown or csv", text);
}

/* What a file's name says of its format; MO_COMPARE_FORMATS: nothing. */
static enum mo_compare_format format_of(const char *path) {
    static const struct {
        const char *suffix;
        enum mo_compare_format format;
    } rows[] = {
        {".csv", MO_COMPARE_CSV},
        {".json", MO_COMPARE_JSON},
        {".md", MO_COMPARE_MARKDOWN},
        {".txt", MO_COMPARE_TEXT},
    };
    size_t length = strlen(path);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t suffix = strlen(rows[i].suffix);
        if (length > suffix && strcmp(path + length - suffix, rows[i].suffix) == 0)
            return rows[i].format;
    }
    return MO_COMPARE_FORMATS;
}

/* Digits alone, up to `end`; -1: something else, or too many. */
static long parse_count(const char *text, const char *end) {
    long count = 0;
    if (text == end)
        return -1;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9' || (count = 10 * count + *text - '0') > MO_RUNS)
            return -1;
    }
    return count;
}

static int parse_runs(const char *text, struct mo_compare_options *options) {
    const char *dash = strchr(text, '-'), *end = text + strlen(text);
    long least = parse_count(text, dash == NULL ? end : dash);
    long most = dash == NULL ? least : parse_count(dash + 1, end);
    if (least < 1 || most < least)
        return mo_wrong_usage(name,
                              "'%s' is not a valid number of runs: 1 to %d, or a range such as "
                              "3-50",
                              text, MO_RUNS);
    options->runs_min = (size_t)least;
    options->runs_max = (size_t)most;
    return 0;
}

static int parse_warm_ups(const char *text, struct mo_compare_options *options) {
    long count = parse_count(text, text + strlen(text));
    if (count < 0)
        return mo_wrong_usage(name, "'%s' is not a valid number of runs to warm up: 0 to %d", text,
                              MO_RUNS);
    options->warm_ups = (size_t)count;
    return 0;
}

static int parse_time(const char *text, struct mo_compare_options *options) {
    if (mo_parse_duration(text, &options->budget) < 0 || options->budget == 0)
        return mo_wrong_usage(name, "'%s' is not a valid duration, such as 30s or 5min", text);
    return 0;
}

/* What would change no figure, or not the same for all candidates. */
static int check_set(const char *assignment) {
    static const struct {
        const char *key, *why;
    } rows[] = {
        {"memopt.allocator", "-a names the allocators"},
        {"memopt.trackers", "libc and those of -a run without trackers; compare a FILE that has "
                            "some with -c FILE"},
        {"memopt.binding", "libc and those of -a run with 'auto'; compare a FILE that has another "
                           "one with -c FILE"},
        {"memopt.reporters", "no reports are written; see --format and --export"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t length = strlen(rows[i].key);
        if (strncmp(assignment, rows[i].key, length) == 0 &&
            (assignment[length] == '=' || assignment[length] == ' '))
            return mo_wrong_usage(name, "--set %s is not for compare: %s", rows[i].key,
                                  rows[i].why);
    }
    return 0;
}

/* What is valid by itself, but not together. */
static int check_options(struct mo_compare_options *options) {
    int is_range = options->runs_min < options->runs_max;
    if (options->budget > 0 && !is_range)
        return mo_wrong_usage(name, "--time needs a range of runs to choose from, such as -n 3-50");
    if (options->budget == 0)
        options->budget = is_range ? BUDGET : UINT64_MAX;
    for (size_t i = 0; i < options->export_count; i++)
        if (format_of(options->exports[i]) == MO_COMPARE_FORMATS &&
            options->format == MO_COMPARE_FORMATS)
            return mo_wrong_usage(name,
                                  "--export '%s': the name ends in none of .csv, .json, .md and "
                                  ".txt, and there is no --format",
                                  options->exports[i]);
    return 0;
}

/* 0: go on at argv[optind]; > 0: done, with this exit status + 1. */
static int parse_options(int argc, char *argv[], struct mo_compare_options *options) {
    struct mo_cli cli = {.command = &mo_cmd_compare, .argc = argc, .argv = argv};
    int option, r = 0;
    while (r == 0 && (option = mo_cli_next(&cli)) != 0) {
        switch (option) {
        case 'a':
            if (optarg[strspn(optarg, ", ")] == '\0')
                return mo_wrong_usage(name, "-a names no allocator") + 1;
            options->allocators = optarg;
            break;
        case 'c':
        case OPTION_PROFILE:
            if (options->file_count == MO_CANDIDATES / 2)
                return mo_wrong_usage(name, "more than %d configurations", MO_CANDIDATES / 2) + 1;
            options->files[options->file_count] = optarg;
            if (option == OPTION_PROFILE &&
                mo_profile(name, optarg, &options->files[options->file_count]) < 0)
                return MO_EXIT_FAILED + 1;
            options->labels[options->file_count++] = optarg;
            break;
        case 'i':
            options->ignore_failures = 1;
            break;
        case 'k':
            options->keep_output = 1;
            break;
        case 'n':
            r = parse_runs(optarg, options);
            break;
        case 'o':
            options->output = optarg;
            break;
        case 'v':
            options->verbose = 1;
            break;
        case OPTION_EXPORT:
            if (options->export_count == MO_EXPORTS)
                return mo_wrong_usage(name, "more than %d times --export", MO_EXPORTS) + 1;
            options->exports[options->export_count++] = optarg;
            break;
        case OPTION_FORMAT:
            r = parse_format(optarg, &options->format);
            break;
        case OPTION_PREPARE:
            options->prepare = optarg;
            break;
        case OPTION_SET:
            if (options->set_count == MO_CANDIDATES)
                return mo_wrong_usage(name, "more than %d times --set", MO_CANDIDATES) + 1;
            r = check_set(optarg);
            options->sets[options->set_count++] = (struct mo_config_set){optarg, "--set"};
            break;
        case OPTION_TIME:
            r = parse_time(optarg, options);
            break;
        case OPTION_WARMUP:
            r = parse_warm_ups(optarg, options);
            break;
        default:
            return cli.status + 1;
        }
    }
    if (r == 0)
        r = check_options(options);
    if (r != 0)
        return r + 1;
    if (optind >= argc)
        return mo_wrong_usage(name, "missing PROGRAM") + 1;
    return 0;
}

/* ----------------------------------------------------------------- writing */

static enum mo_compare_format format_for(const struct mo_compare_options *options,
                                         const char *path) {
    return format_of(path) != MO_COMPARE_FORMATS   ? format_of(path)
           : options->format != MO_COMPARE_FORMATS ? options->format
                                                   : MO_COMPARE_TEXT;
}

static int write_table(const struct mo_comparison *comparison, enum mo_compare_format format,
                       const char *target) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_output *output;
    int r = mo_output_open(target, &output, &error);
    if (r == 0) {
        struct memopt_output *public = mo_output_public(output);
        switch (format) {
        case MO_COMPARE_JSON:
            r = mo_compare_write_json(comparison, public, &error);
            break;
        case MO_COMPARE_CSV:
            r = mo_compare_write_csv(comparison, public);
            break;
        case MO_COMPARE_MARKDOWN:
            r = mo_compare_write_markdown(comparison, public);
            break;
        default:
            r = mo_compare_write_text(comparison, public);
            break;
        }
        if (r < 0 && error.code == 0)
            mo_fail(&error, r, "can't write to '%s': %s", target, strerror(-r));
        if (r < 0)
            mo_output_abort(output);
        else
            r = mo_output_commit(output, &error);
    }
    if (r < 0)
        mo_say(name, "%s", error.message);
    return r;
}

/* To all places; where there is no room, the table is shown elsewhere: hours of
 * measuring must not be lost. 0 or memopt's exit status. */
static int write_tables(const struct mo_comparison *comparison) {
    const struct mo_compare_options *options = comparison->options;
    const char *target = options->output == NULL ? "stdout" : options->output;
    int r = write_table(comparison, format_for(options, target), target), shown = r;
    if (shown < 0 && strcmp(target, "stdout") != 0)
        shown = write_table(comparison, MO_COMPARE_TEXT, "stdout");
    if (shown < 0 && strcmp(target, "stderr") != 0)
        write_table(comparison, MO_COMPARE_TEXT, "stderr");
    for (size_t i = 0; i < options->export_count; i++) {
        int failed =
            write_table(comparison, format_for(options, options->exports[i]), options->exports[i]);
        r = r < 0 ? r : failed;
    }
    return r < 0 ? MO_EXIT_FAILED : 0;
}

/* Before hours of measuring, not after: what will have no place. */
static int check_outputs(const struct mo_compare_options *options) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    int r = options->output == NULL ? 0 : mo_output_check(options->output, &error);
    for (size_t i = 0; i < options->export_count && r == 0; i++)
        r = mo_output_check(options->exports[i], &error);
    if (r < 0)
        mo_say(name, "%s", error.message);
    return r;
}

static int compare_main(int argc, char *argv[]) {
    static struct mo_compare_options options = {
        .runs_min = 5, .runs_max = 5, .warm_ups = 1, .format = MO_COMPARE_FORMATS};
    static struct mo_comparison comparison = {.options = &options}; /* both are large */
    int status = parse_options(argc, argv, &options);
    if (status > 0)
        return status - 1;
    comparison.argv = argv + optind;
    if (mo_compare_find_candidates(&comparison, &options) < 0 || check_outputs(&options) < 0) {
        status = MO_EXIT_FAILED;
    } else {
        status = mo_compare_run(&comparison);
        if (mo_comparison_has_runs(&comparison)) {
            mo_comparison_judge(&comparison);
            int written = write_tables(&comparison);
            status = status == 0 ? written : status;
        }
        for (size_t i = 0; i < comparison.count && status == 0; i++)
            status = mo_candidate_failed(&comparison.candidates[i]);
    }
    mo_compare_free_candidates(&comparison);
    return status;
}

static const struct mo_cli_option options_table[] = {
    {.code = 'a',
     .name = "allocators",
     .argument = "ALLOCATORS",
     .value = MO_VALUE_ALLOCATORS,
     .help = "which: names or absolute paths, separated by commas; without it libc, jemalloc, "
             "tcmalloc, mimalloc, pool, those that are available"},
    {.code = 'c',
     .name = "config",
     .argument = "FILE",
     .value = MO_VALUE_FILE,
     .help = "a whole configuration as a candidate; may be repeated, and -a then adds to it"},
    {.code = OPTION_EXPORT,
     .name = "export",
     .argument = "FILE",
     .value = MO_VALUE_FILE,
     .help = "write the table there too, as FILE.csv, FILE.json, FILE.md or FILE.txt says; may "
             "be repeated"},
    {.code = OPTION_FORMAT,
     .name = "format",
     .argument = "FORMAT",
     .value = MO_VALUE_WORD,
     .words = "text json markdown csv",
     .help = "text, json, markdown or csv; of other names, too"},
    MO_CLI_HELP,
    {.code = 'i', .name = "ignore-failures", .help = "go on when the program fails"},
    {.code = 'k',
     .name = "keep-output",
     .help = "leave the program's output visible, not discarded"},
    {.code = 'o',
     .name = "output",
     .argument = "FILE",
     .value = MO_VALUE_FILE,
     .help = "write the table there instead of standard output"},
    {.code = OPTION_PREPARE,
     .name = "prepare",
     .argument = "COMMAND",
     .value = MO_VALUE_SHELL,
     .help = "run this by sh before each run, not measured"},
    MO_CLI_PROFILE(OPTION_PROFILE, 0),
    {.code = 'n',
     .name = "runs",
     .argument = "RUNS",
     .help = "measured runs of each candidate, 1 to 1000, or a range such as 3-50; default 5"},
    {.code = OPTION_SET,
     .name = "set",
     .argument = "SECTION.KEY=VALUE",
     .help = "set a value for all candidates; may be repeated"},
    {.code = OPTION_TIME,
     .name = "time",
     .argument = "DURATION",
     .help = "of a range of runs, how long to go on after the first number; default 1min"},
    {.code = 'v', .name = "verbose", .help = "all columns, and what they mean"},
    {.code = OPTION_WARMUP,
     .name = "warmup",
     .argument = "RUNS",
     .help = "runs of each candidate before, 0 to 1000; default 1"},
    {.name = NULL},
};
static const struct mo_cli_form forms[] = {
    {.operands = "[--] PROGRAM [ARGUMENT ...]", .operand = MO_VALUE_PROGRAM}};
const struct mo_command mo_cmd_compare = {
    .name = name,
    .summary = "run a program over several allocators",
    .function = compare_main,
    .about = "Runs a program over several allocators, in turn, and prints a table of what\n"
             "each cost: time, memory, page faults.\n",
    .options = options_table,
    .forms = forms,
    .form_count = 1,
    .more = "libc is always measured: the others are shown relative to it. The exit status\n"
            "is 0, or 1 if a run failed, 125 if memopt itself failed, 126 if the program\n"
            "can't be executed, 127 if there is none, 128+N if signal N interrupted it.\n",
    .usage_status = MO_EXIT_FAILED,
};
