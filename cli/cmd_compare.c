/*
 * cmd_compare.c - memopt compare: the same program over several allocators, in
 * turn, and a table of what each cost.
 *
 *     candidates → a round to warm up → rounds → judge → print
 *
 * Every round runs each candidate once and begins with another one, so that
 * what drifts (heat, caches, other processes) meets all alike.
 */
#include "config.h"

#include "cli/cmd.h"
#include "cli/compare.h"
#include "cli/settings.h"

#include "core/base/error.h"
#include "core/launch/plan.h"
#include "core/model/output.h"
#include "core/model/report.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

const char mo_compare_usage[] =
    "usage: memopt compare [-k] [-a ALLOCATORS] [-c FILE] [-n RUNS] [-o FILE]\n"
    "                      [--format FORMAT] [--profile NAME]\n"
    "                      [--set SECTION.KEY=VALUE] [--] PROGRAM [ARGUMENT ...]\n"
    "\n"
    "Runs a program over several allocators, in turn, and prints a table of what\n"
    "each cost: time, memory, page faults.\n"
    "\n"
    "  -a, --allocators LIST   which: names or absolute paths, separated by commas;\n"
    "                          without it libc, jemalloc, tcmalloc, mimalloc, pool,\n"
    "                          as far as they are there\n"
    "  -c, --config FILE       a whole configuration as a candidate; may be repeated,\n"
    "                          and -a then adds to it\n"
    "      --format FORMAT     text, json or markdown\n"
    "  -h, --help              show this\n"
    "  -k, --keep-output       leave the program's output visible, not discarded\n"
    "  -n, --runs RUNS         measured runs of each candidate, 1 to 1000; default 5\n"
    "  -o, --output FILE       write the table there instead of standard output\n"
    "      --profile NAME      a configuration that memopt brings, as with -c: low-rss,\n"
    "                          throughput, training, debug, ci\n"
    "      --set SECTION.KEY=VALUE\n"
    "                          set a value for all candidates; may be repeated\n"
    "\n"
    "libc is measured in any case: the others are shown relative to it. The exit\n"
    "status is 0, or 1 if a candidate's runs did not end as the first one did, 125\n"
    "if memopt itself failed, 126 if the program can't be executed, 127 if it is\n"
    "not there.\n";

static const char name[] = "compare";

struct options {
    const char *allocators, *output;
    const char *files[MO_CANDIDATES], *labels[MO_CANDIDATES]; /* a profile's is its name */
    size_t file_count;
    struct mo_config_set sets[MO_CANDIDATES + 4]; /* the last ones are a candidate's own */
    size_t set_count;
    size_t runs;
    enum mo_compare_format format;
    int keep_output;
};

/* One candidate while it runs. */
struct entry {
    struct mo_config *config;
    int expected; /* named by the user: must be there */
};

struct compare {
    struct options options;
    struct mo_comparison comparison;
    struct entry entries[MO_CANDIDATES];
    int input; /* descriptor of a seekable standard input, or -1 */
    off_t input_start;
    int null; /* /dev/null */
    struct mo_signals signals;
    int have_status;
};

/* ---------------------------------------------------------------- options */

enum { OPTION_FORMAT = 256, OPTION_PROFILE, OPTION_SET };

static int parse_format(const char *text, enum mo_compare_format *ret_format) {
    static const char *const formats[] = {"text", "json", "markdown"};
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (strcmp(text, formats[i]) == 0) {
            *ret_format = (enum mo_compare_format)i;
            return 0;
        }
    return mo_wrong_usage(name, "'%s' is no format: text, json or markdown", text);
}

static int parse_runs(const char *text, size_t *ret_runs) {
    char *end;
    errno = 0;
    unsigned long runs = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || runs < 1 || runs > MO_RUNS)
        return mo_wrong_usage(name, "'%s' is no number of runs: 1 to %d", text, MO_RUNS);
    *ret_runs = runs;
    return 0;
}

/* 0: go on at argv[optind]; > 0: done, with this exit status + 1. */
static int parse_options(int argc, char *argv[], struct options *options) {
    static const struct option table[] = {
        {"allocators", required_argument, NULL, 'a'},
        {"config", required_argument, NULL, 'c'},
        {"format", required_argument, NULL, OPTION_FORMAT},
        {"help", no_argument, NULL, 'h'},
        {"keep-output", no_argument, NULL, 'k'},
        {"output", required_argument, NULL, 'o'},
        {"profile", required_argument, NULL, OPTION_PROFILE},
        {"runs", required_argument, NULL, 'n'},
        {"set", required_argument, NULL, OPTION_SET},
        {NULL, 0, NULL, 0},
    };
    int option, r = 0;
    opterr = 0;
    while (r == 0 && (option = getopt_long(argc, argv, "+:a:c:hkn:o:", table, NULL)) != -1) {
        switch (option) {
        case 'a':
            if (optarg[strspn(optarg, ", ")] == '\0')
                return mo_wrong_usage(name, "-a names no allocator") + 1;
            options->allocators = optarg;
            break;
        case 'c':
        case OPTION_PROFILE:
            if (options->file_count == MO_CANDIDATES / 2)
                return mo_wrong_usage(name, "no more than %d files", MO_CANDIDATES / 2) + 1;
            options->files[options->file_count] = optarg;
            if (option == OPTION_PROFILE &&
                mo_profile(name, optarg, &options->files[options->file_count]) < 0)
                return MO_EXIT_FAILED + 1;
            options->labels[options->file_count++] = optarg;
            break;
        case 'h':
            return mo_print_usage(mo_compare_usage) + 1;
        case 'k':
            options->keep_output = 1;
            break;
        case 'n':
            r = parse_runs(optarg, &options->runs);
            break;
        case 'o':
            options->output = optarg;
            break;
        case OPTION_FORMAT:
            r = parse_format(optarg, &options->format);
            break;
        case OPTION_SET:
            if (options->set_count == MO_CANDIDATES)
                return mo_wrong_usage(name, "no more than %d times --set", MO_CANDIDATES) + 1;
            options->sets[options->set_count++] = (struct mo_config_set){optarg, "--set"};
            break;
        default:
            return mo_wrong_option(name, option, optopt, argv[optind - 1]) + 1;
        }
    }
    if (r != 0)
        return r + 1;
    if (optind >= argc)
        return mo_wrong_usage(name, "which program?") + 1;
    return 0;
}

/* -------------------------------------------------------------- candidates */

static struct mo_candidate *add_candidate(struct compare *compare, const char *label, size_t length,
                                          int expected) {
    struct mo_comparison *comparison = &compare->comparison;
    for (size_t i = 0; i < comparison->count; i++)
        if (strlen(comparison->candidates[i].label) == length &&
            strncmp(comparison->candidates[i].label, label, length) == 0)
            return &comparison->candidates[i]; /* named twice, measured once */
    if (comparison->count == MO_CANDIDATES) {
        mo_say(name, "no more than %d candidates", MO_CANDIDATES);
        return NULL;
    }
    struct mo_candidate *candidate = &comparison->candidates[comparison->count];
    compare->entries[comparison->count].expected = expected;
    snprintf(candidate->label, sizeof(candidate->label), "%.*s", (int)length, label);
    for (size_t i = 0; i < MO_METRICS; i++)
        if ((candidate->values[i] = calloc(compare->options.runs, sizeof(double))) == NULL) {
            mo_say(name, "out of memory");
            return NULL;
        }
    comparison->count++;
    return candidate;
}

static int add_list(struct compare *compare, const char *list, int expected) {
    while (*list != '\0') {
        list += strspn(list, ", ");
        size_t length = strcspn(list, ", ");
        if (length > 0 && add_candidate(compare, list, length, expected) == NULL)
            return -ENOMEM;
        list += length;
    }
    return 0;
}

static int list_candidates(struct compare *compare) {
    struct options *options = &compare->options;
    int r = add_list(compare, "libc", 1);
    for (size_t i = 0; i < options->file_count && r == 0; i++) {
        struct mo_candidate *candidate =
            add_candidate(compare, options->labels[i], strlen(options->labels[i]), 1);
        if (candidate == NULL)
            return -ENOMEM;
        candidate->file = options->files[i];
    }
    if (r == 0 && options->allocators != NULL)
        r = add_list(compare, options->allocators, 1);
    else if (r == 0 && options->file_count == 0)
        r = add_list(compare, "jemalloc,tcmalloc,mimalloc,pool", 0);
    return r;
}

/* What each is, once before all runs: a mistake is told before an hour of
 * measuring. A default candidate that is not there is left out. */
static int load_candidate(struct compare *compare, size_t i) {
    struct mo_candidate *candidate = &compare->comparison.candidates[i];
    struct entry *entry = &compare->entries[i];
    struct options *options = &compare->options;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_config_request request = {
        .file = candidate->file,
        .sets = options->sets,
        .set_count = options->set_count,
    };
    char allocator[sizeof(candidate->label) + 32];
    if (candidate->file == NULL) {
        /* it is the allocator that is measured: nothing may look at each call */
        snprintf(allocator, sizeof(allocator), "memopt.allocator=%s", candidate->label);
        options->sets[request.set_count++] = (struct mo_config_set){allocator, "-a"};
        options->sets[request.set_count++] = (struct mo_config_set){"memopt.trackers=", "-a"};
        options->sets[request.set_count++] = (struct mo_config_set){"memopt.binding=auto", "-a"};
    }
    int r = mo_config_load(&request, &entry->config, &error);
    char library[4096];
    struct mo_plugin *plugin = NULL;
    if (r == 0)
        r = mo_plugin_load(MEMOPT_ALLOCATOR,
                           mo_config_get(entry->config, "memopt", "allocator", NULL), &plugin,
                           &error);
    if (r == 0)
        r = mo_plugin_backend_library(plugin, library, sizeof(library), &error);
    if (r < 0 && entry->expected) {
        mo_say(name, "%s", error.message);
        return r;
    }
    if (r < 0) {
        candidate->left_out = 1;
        snprintf(candidate->note, sizeof(candidate->note), "%.*s",
                 (int)strcspn(error.message, "\n"), error.message);
        return 0;
    }
    snprintf(candidate->allocator, sizeof(candidate->allocator), "%s", plugin->descriptor.name);
    return 0;
}

/* -------------------------------------------------------------------- runs */

/* A file as standard input is read from where it stands, anew for each run;
 * a pipe or a terminal can be read once only, so nobody gets it. */
static void find_input(struct compare *compare) {
    struct stat status;
    compare->input = -1;
    compare->comparison.input = "/dev/null";
    if (fstat(STDIN_FILENO, &status) != 0 || !S_ISREG(status.st_mode))
        return;
    compare->input_start = lseek(STDIN_FILENO, 0, SEEK_CUR);
    compare->input = open("/proc/self/fd/0", O_RDONLY | O_CLOEXEC);
    if (compare->input >= 0)
        compare->comparison.input = "the file on standard input, read anew for each run";
}

static double or_nan(uint64_t value) {
    return value == MEMOPT_UNKNOWN ? NAN : (double)value;
}

/* Takes what one run showed. */
static int take_figures(struct compare *compare, size_t i, size_t run, const struct mo_plan *plan,
                        const struct mo_launch_result *result, struct memopt_error *error) {
    struct mo_comparison *comparison = &compare->comparison;
    struct mo_candidate *candidate = &comparison->candidates[i];
    struct memopt_report *report;
    int r = mo_report_new(&report, error);
    if (r < 0)
        return r;
    r = mo_report_begin(report, comparison->argv, error);
    if (r == 0)
        r = mo_report_read_run(report, plan->session.directory, result->pid,
                               compare->entries[i].config, error);
    /* its last ledger has no end, though the program has (and mo_report_end() will say so) */
    int went_away = r == 0 && report->process_count > 0 && WIFEXITED(result->wait_status) &&
                    report->processes[0].end == MEMOPT_END_UNKNOWN;
    if (r == 0)
        r = mo_report_end(report, result->pid, result->wait_status, &result->usage,
                          result->wall_time, error);
    if (r == 0) {
        const struct memopt_process *first = &report->processes[0];
        int stranger =
            first->allocator == NULL || strcmp(first->allocator, candidate->allocator) != 0;
        const char *why = report->note_count > 0 ? report->notes[0].text : "";
        if (stranger) /* what the text says after its first line is of the process */
            snprintf(candidate->note, sizeof(candidate->note),
                     "its allocator was not seen in the program%s%.*s", *why != '\0' ? ": " : "",
                     (int)strcspn(why, "\n"), why);
        else if (went_away)
            snprintf(candidate->note, sizeof(candidate->note),
                     "the program became one that isn't watched, or left without exit()");
        candidate->unfit |= stranger || went_away;
        candidate->values[MO_METRIC_WALL][run] = (double)report->wall_time;
        candidate->values[MO_METRIC_CPU][run] = (double)(report->user_time + report->system_time);
        candidate->values[MO_METRIC_RSS][run] = or_nan(report->peak_rss);
        candidate->values[MO_METRIC_FAULTS][run] =
            (double)(result->usage.ru_minflt + result->usage.ru_majflt);
    }
    mo_report_free(report);
    return r;
}

/* One run of candidate `i`; the warm-up's figures go where the first measured
 * run's will. Returns 0, or memopt's exit status. */
static int run_once(struct compare *compare, size_t i, size_t run, int measured) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_comparison *comparison = &compare->comparison;
    struct mo_candidate *candidate = &comparison->candidates[i];
    struct mo_plan plan;
    enum mo_plan_failure failure;
    if (mo_plan_make(compare->entries[i].config, comparison->argv, &plan, &failure, &error) < 0) {
        mo_say(name, "%s: %s", candidate->label, error.message);
        return (int)failure;
    }
    int status = 0;
    if (plan.watches) {
        char why[512];
        mo_target_explain(&plan.target, why, sizeof(why));
        mo_say(name, "there is nothing to compare: %s", why[0] != '\0' ? why : plan.obstacle);
        status = MO_EXIT_FAILED;
    }
    candidate->binding = plan.binding == MO_BINDING_DIRECT ? "direct" : "dispatch";
    if (compare->input >= 0)
        lseek(compare->input, compare->input_start, SEEK_SET);
    int output = compare->options.keep_output ? -1 : compare->null;
    struct mo_launch launch = {
        .path = plan.target.path,
        .needs_shell = plan.target.needs_shell,
        .argv = comparison->argv,
        .environment = plan.environment.items,
        .signals = &compare->signals,
        .descriptors = {compare->input >= 0 ? compare->input : compare->null, output, output},
    };
    struct mo_launch_result result;
    int r = status != 0 ? 0 : mo_launch(&launch, &result, &error);
    if (r < 0) {
        mo_say(name, "%s", error.message);
        status = (int)mo_plan_failure_of(r);
    } else if (status == 0 && result.interrupted != 0) {
        status = 128 + result.interrupted;
    } else if (status == 0) {
        int ended = mo_exit_status(result.wait_status);
        if (!compare->have_status) {
            compare->have_status = 1;
            comparison->status = ended;
        }
        if (ended != comparison->status) {
            candidate->failed++;
            candidate->failed_status = ended;
        }
        if (take_figures(compare, i, run, &plan, &result, &error) < 0) {
            mo_say(name, "%s", error.message);
            status = MO_EXIT_FAILED;
        } else if (measured) {
            candidate->count = run + 1;
        }
    }
    mo_plan_free(&plan);
    return status;
}

/* ---------------------------------------------------------------- progress */

static void show_progress(const struct compare *compare, size_t done, size_t all,
                          const char *label) {
    enum { WIDTH = 30 };
    char bar[WIDTH + 1];
    if (!isatty(STDERR_FILENO) || compare->options.keep_output)
        return;
    size_t filled = all == 0 ? 0 : done * WIDTH / all;
    memset(bar, '#', filled);
    memset(bar + filled, '.', WIDTH - filled);
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r[%s] %zu/%zu %.30s\033[K", bar, done, all, label);
}

static void hide_progress(const struct compare *compare) {
    if (isatty(STDERR_FILENO) && !compare->options.keep_output)
        fputs("\r\033[K", stderr);
}

static int run_all(struct compare *compare) {
    struct mo_comparison *comparison = &compare->comparison;
    size_t count = comparison->count, rounds = compare->options.runs + 1, done = 0, all = 0;
    int status = 0;
    for (size_t i = 0; i < count; i++)
        all += comparison->candidates[i].left_out ? 0 : rounds;
    for (size_t round = 0; round < rounds && status == 0; round++)
        for (size_t step = 0; step < count && status == 0; step++) {
            /* the warm-up begins with libc: how that ends is how it should end */
            size_t i = (round + step) % count;
            if (comparison->candidates[i].left_out)
                continue;
            show_progress(compare, done, all, comparison->candidates[i].label);
            status = run_once(compare, i, round == 0 ? 0 : round - 1, round > 0);
            done++;
        }
    hide_progress(compare);
    return status;
}

static int write_table(struct compare *compare) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    const char *target = compare->options.output == NULL ? "stdout" : compare->options.output;
    struct mo_output *output;
    int r = mo_output_open(target, &output, &error);
    if (r == 0) {
        r = mo_comparison_write(&compare->comparison, compare->options.format,
                                mo_output_public(output), &error);
        if (r < 0 && error.code == 0)
            mo_fail(&error, r, "can't write to '%s': %s", target, strerror(-r));
        if (r < 0)
            mo_output_abort(output);
        else
            r = mo_output_commit(output, &error);
    }
    if (r < 0)
        mo_say(name, "%s", error.message);
    return r < 0 ? MO_EXIT_FAILED : 0;
}

int mo_cmd_compare(int argc, char *argv[]) {
    static struct compare compare; /* large */
    compare.options.runs = 5;
    compare.input = compare.null = -1;
    int status = parse_options(argc, argv, &compare.options);
    if (status > 0)
        return status - 1;
    compare.comparison.argv = argv + optind;
    compare.comparison.runs = compare.options.runs;
    status = list_candidates(&compare) < 0 ? MO_EXIT_FAILED : 0;
    for (size_t i = 0; i < compare.comparison.count && status == 0; i++)
        if (load_candidate(&compare, i) < 0)
            status = MO_EXIT_FAILED;
    compare.null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (status == 0 && compare.null < 0) {
        mo_say(name, "can't open '/dev/null': %s", strerror(errno));
        status = MO_EXIT_FAILED;
    }
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (status == 0 && compare.options.output != NULL &&
        mo_output_check(compare.options.output, &error) < 0) {
        mo_say(name, "%s", error.message);
        status = MO_EXIT_FAILED;
    }
    if (status == 0) {
        find_input(&compare);
        mo_signals_hold(&compare.signals);
        status = run_all(&compare);
        mo_signals_release(&compare.signals);
    }
    if (status == 0) {
        mo_comparison_judge(&compare.comparison);
        status = write_table(&compare);
        for (size_t i = 0; i < compare.comparison.count && status == 0; i++)
            status = compare.comparison.candidates[i].failed > 0;
    }
    for (size_t i = 0; i < compare.comparison.count; i++) {
        mo_config_free(compare.entries[i].config);
        for (size_t metric = 0; metric < MO_METRICS; metric++)
            free(compare.comparison.candidates[i].values[metric]);
    }
    if (compare.null >= 0)
        close(compare.null);
    if (compare.input >= 0)
        close(compare.input);
    return status;
}
