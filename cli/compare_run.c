/*
 * compare_run.c - the runs of memopt compare.
 *
 *     warm-up rounds → measured rounds, until there are enough
 *
 * Every round runs each candidate once and begins with another one, so that what
 * drifts (heat, caches, other processes) meets all alike.
 */
#include "config.h"

#include "cli/cmd.h"
#include "cli/compare.h"
#include "cli/compare_streams.h"

#include "core/base/error.h"
#include "core/import/run.h"
#include "core/launch/plan.h"
#include "core/launch/watch.h"

#include <memopt/show.h>

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const char name[] = "compare";

struct runs {
    struct mo_comparison *comparison;
    const struct mo_compare_options *options;
    struct mo_streams streams;
    struct mo_watch *watch; /* of the run that is on, as the next two */
    struct memopt_report *report;
    struct mo_run *records; /* over the run that goes on, or NULL */
    struct mo_signals signals;
    size_t round; /* from 0; the first options->warm_ups are not measured */
};

static int is_measured(const struct runs *runs) {
    return runs->round >= runs->options->warm_ups;
}

static __attribute__((format(printf, 3, 4))) int stop(struct runs *runs, int status,
                                                      const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(runs->comparison->stopped, sizeof(runs->comparison->stopped), format, arguments);
    va_end(arguments);
    return status;
}

/* ---------------------------------------------------------------- progress */

static int shows_progress(const struct runs *runs) {
    return isatty(STDERR_FILENO) && !runs->options->keep_output;
}

/* On one line of any terminal: a line that wraps can't be taken away again. */
static void show_progress(const struct runs *runs, size_t done, size_t all, const char *label) {
    enum { BAR = 30, TEXT = 30 };
    char bar[BAR + 1], text[128];
    struct winsize window;
    if (!shows_progress(runs))
        return;
    size_t columns =
        ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : 80;
    size_t width = columns >= BAR + TEXT + 3 ? BAR : columns >= 50 ? columns - TEXT - 3 : 0;
    size_t filled = all == 0 ? 0 : done * width / all;
    memset(bar, '#', filled);
    memset(bar + filled, '.', width - filled);
    bar[width] = '\0';
    snprintf(text, sizeof(text), "%zu/%zu %.100s", done, all, label);
    int room = (int)(width > 0 ? columns - width - 3 : columns) - 1;
    fprintf(stderr, width > 0 ? "\r[%s] %.*s\033[K" : "\r%s%.*s\033[K", bar, room, text);
}

static void hide_progress(const struct runs *runs) {
    if (shows_progress(runs))
        fputs("\r\033[K", stderr);
}

/* ---------------------------------------------------------------- failures */

/* "SIGSEGV", "exit status 3" */
static void describe_end(int wait_status, char *text, size_t size) {
    const char *signal = WIFSIGNALED(wait_status) ? sigabbrev_np(WTERMSIG(wait_status)) : NULL;
    if (signal != NULL)
        snprintf(text, size, "SIG%s", signal);
    else if (WIFSIGNALED(wait_status))
        snprintf(text, size, "signal %d", WTERMSIG(wait_status));
    else
        snprintf(text, size, "exit status %d", WEXITSTATUS(wait_status));
}

static void say_line(const char *line) {
    char shown[1024];
    memopt_show(shown, sizeof(shown), line, 0);
    mo_say(name, "    %s", shown);
}

/* What the user needs to find out why: how it ended and what it said. */
static void show_failure(const struct runs *runs, const char *what, const char *end) {
    hide_progress(runs);
    mo_say(name, "%s failed: %s", what, end);
    mo_streams_last_lines(&runs->streams, say_line);
}

/* A signal is always a failure. With -i a program's exit status is what it was in
 * the first run of all. */
static int is_failure(struct mo_comparison *comparison, int wait_status) {
    if (!comparison->has_status && comparison->options->ignore_failures && WIFEXITED(wait_status))
        comparison->status = WEXITSTATUS(wait_status);
    comparison->has_status = 1;
    return !WIFEXITED(wait_status) || WEXITSTATUS(wait_status) != comparison->status;
}

/* 0, or memopt's exit status if no more is to be run. */
static int take_failure(struct runs *runs, struct mo_candidate *candidate, int wait_status) {
    char end[sizeof(candidate->failure)];
    describe_end(wait_status, end, sizeof(end));
    if (candidate->failed + candidate->failed_warm_up == 0)
        snprintf(candidate->failure, sizeof(candidate->failure), "%s", end);
    else
        candidate->failed_variously |= strcmp(candidate->failure, end) != 0;
    candidate->failed += is_measured(runs) != 0;
    candidate->failed_warm_up += is_measured(runs) == 0;
    if (runs->options->ignore_failures)
        return 0;
    char what[sizeof(candidate->label) + 32];
    snprintf(what, sizeof(what), "%s: the program", candidate->label);
    show_failure(runs, what, end);
    mo_say(name, "-i goes on after a failure, -k shows all of the program's output");
    return stop(runs, 1, "%s failed", candidate->label);
}

/* ----------------------------------------------------------------- figures */

static double or_nan(uint64_t value) {
    return value == MEMOPT_UNKNOWN ? NAN : (double)value;
}

/* Of the process that the peak is of, the largest one: a shell that waits for the program
 * is at rest all the time. */
static void take_sampled(const struct memopt_report *report, struct mo_candidate *candidate,
                         size_t run) {
    const struct memopt_process *largest = NULL;
    uint64_t most = 0;
    for (size_t i = 0; i < report->process_count; i++) {
        const struct memopt_process *process = &report->processes[i];
        uint64_t peak =
            process->peak_rss != MEMOPT_UNKNOWN ? process->peak_rss : process->peak_rss_least;
        if (peak == MEMOPT_UNKNOWN || (largest != NULL && peak <= most))
            continue;
        largest = process;
        most = peak;
    }
    double rest = largest == NULL ? NAN : or_nan(largest->rss_rest);
    double mean = largest == NULL ? NAN : or_nan(largest->rss_mean);
    candidate->values[MO_METRIC_REST][run] = rest;
    candidate->values[MO_METRIC_MEAN][run] = mean;
    /* the kernel updates its maximum late; fmax() passes over a NaN */
    double *peak = &candidate->values[MO_METRIC_PEAK][run];
    if (!isnan(*peak))
        *peak = fmax(*peak, fmax(rest, mean));
}

/* Takes what one run showed. */
static int take_figures(const struct runs *runs, struct mo_candidate *candidate,
                        const struct mo_launch_result *result, struct memopt_error *error) {
    struct memopt_report *report = runs->report;
    int r = mo_run_finish(runs->records, result->pid, error);
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
    }
    if (r == 0)
        r = mo_watch_report(runs->watch, report, error);
    if (r == 0 && is_measured(runs)) {
        size_t run = candidate->count++;
        candidate->values[MO_METRIC_WALL][run] = (double)report->wall_time;
        candidate->values[MO_METRIC_CPU][run] = (double)(report->user_time + report->system_time);
        candidate->values[MO_METRIC_PEAK][run] = or_nan(report->peak_rss);
        take_sampled(report, candidate, run);
        candidate->values[MO_METRIC_FAULTS][run] =
            (double)(result->usage.ru_minflt + result->usage.ru_majflt);
    }
    return r;
}

/* -------------------------------------------------------------------- runs */

static void tick(void *context, pid_t pid, uint64_t *interval) {
    const struct runs *runs = context;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    mo_streams_trim(&runs->streams);
    if (runs->watch != NULL)
        mo_watch_sample(runs->watch, pid, interval);
    if (runs->records != NULL) /* what can't be read now is tried again at the end */
        (void)mo_run_fold(runs->records, pid, &error);
}

/* What looks at the run and what it shows. */
static int begin_report(struct runs *runs, const struct mo_candidate *candidate,
                        const struct mo_plan *plan, struct memopt_error *error) {
    int r = mo_watch_new(candidate->config, &runs->watch, error);
    if (r == 0)
        r = mo_report_new(&runs->report, error);
    if (r == 0)
        r = mo_report_begin(runs->report, runs->comparison->argv, error);
    return r == 0 ? mo_run_open(runs->report, plan->session.directory, candidate->config,
                                &runs->records, error)
                  : r;
}

static void end_report(struct runs *runs) {
    mo_watch_free(runs->watch);
    mo_run_close(runs->records);
    mo_report_free(runs->report);
    runs->watch = NULL;
    runs->records = NULL;
    runs->report = NULL;
}

#define TICK UINT64_C(10000000) /* ns */

static int launch(struct runs *runs, struct mo_launch *launch, struct mo_launch_result *result,
                  struct memopt_error *error) {
    const struct mo_compare_options *options = runs->options;
    struct mo_streams *streams = &runs->streams;
    int r = mo_streams_begin(streams, !options->keep_output && !options->ignore_failures, error);
    if (r < 0)
        return r;
    int output = options->keep_output ? -1 : streams->null;
    launch->signals = &runs->signals;
    launch->descriptors[0] = streams->current_input >= 0 ? streams->current_input : streams->null;
    launch->descriptors[1] = output;
    launch->descriptors[2] = streams->errors >= 0 ? streams->errors : output;
    launch->tick = tick;
    launch->context = runs;
    launch->interval = TICK;
    return mo_launch(launch, result, error);
}

/* What --prepare names, before a run. 0, or memopt's exit status. */
static int prepare(struct runs *runs) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)runs->options->prepare, NULL};
    struct mo_launch what = {.path = "/bin/sh", .argv = argv, .environment = environ};
    struct mo_launch_result result;
    if (launch(runs, &what, &result, &error) < 0) {
        hide_progress(runs);
        mo_say(name, "--prepare: %s", error.message);
        return stop(runs, MO_EXIT_FAILED, "--prepare could not run");
    }
    if (result.interrupted != 0)
        return stop(runs, 128 + result.interrupted, "interrupted by SIG%s",
                    sigabbrev_np(result.interrupted));
    if (mo_exit_status(result.wait_status) != 0) {
        char end[64];
        describe_end(result.wait_status, end, sizeof(end));
        show_failure(runs, "--prepare", end);
        return stop(runs, 1, "--prepare failed");
    }
    return 0;
}

/* One run. 0, or memopt's exit status if no more is to be run. */
static int run_once(struct runs *runs, struct mo_candidate *candidate) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_plan plan;
    enum mo_plan_failure failure;
    if (mo_plan_make(candidate->config, runs->comparison->argv, &plan, &failure, &error) < 0) {
        hide_progress(runs);
        if (failure != MO_PLAN_MEMOPT) { /* it's the program, whatever the candidate */
            mo_say(name, "%s", error.message);
            return stop(runs, (int)failure, "the program could not be started");
        }
        mo_say(name, "%s: %s", candidate->label, error.message);
        return stop(runs, (int)failure, "%s could not be started", candidate->label);
    }
    int status = 0;
    if (plan.watches) {
        char why[512];
        mo_target_explain(&plan.target, why, sizeof(why));
        hide_progress(runs);
        mo_say(name, "there is nothing to compare: %s", why[0] != '\0' ? why : plan.obstacle);
        mo_plan_free(&plan);
        return stop(runs, MO_EXIT_FAILED, "there is nothing to compare");
    }
    candidate->binding = plan.binding == MO_BINDING_DIRECT ? "direct" : "dispatch";
    struct mo_launch what = {
        .path = plan.target.path,
        .needs_shell = plan.target.needs_shell,
        .argv = runs->comparison->argv,
        .environment = plan.environment.items,
    };
    struct mo_launch_result result;
    int r = begin_report(runs, candidate, &plan, &error);
    if (r == 0)
        r = launch(runs, &what, &result, &error);
    if (r < 0) {
        hide_progress(runs);
        mo_say(name, "%s", error.message);
        status =
            stop(runs, (int)mo_plan_failure_of(r), "%s could not be started", candidate->label);
    } else if (result.interrupted != 0) {
        status = stop(runs, 128 + result.interrupted, "interrupted by SIG%s",
                      sigabbrev_np(result.interrupted));
    } else {
        candidate->runs += is_measured(runs) != 0;
        if (is_failure(runs->comparison, result.wait_status)) {
            status = take_failure(runs, candidate, result.wait_status);
        } else if (take_figures(runs, candidate, &result, &error) < 0) {
            hide_progress(runs);
            mo_say(name, "%s", error.message);
            status = stop(runs, MO_EXIT_FAILED, "memopt failed");
        }
    }
    end_report(runs);
    mo_plan_free(&plan);
    return status;
}

/* ------------------------------------------------------------------ rounds */

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static int run_round(struct runs *runs, size_t all) {
    struct mo_comparison *comparison = runs->comparison;
    size_t taking_part = 0, done;
    int status = 0;
    for (size_t i = 0; i < comparison->count; i++)
        taking_part += !comparison->candidates[i].left_out;
    done = runs->round * taking_part;
    for (size_t step = 0; step < comparison->count && status == 0; step++) {
        /* the first round begins with libc: how that ends is how it should end */
        struct mo_candidate *candidate =
            &comparison->candidates[(runs->round + step) % comparison->count];
        if (candidate->left_out)
            continue;
        show_progress(runs, done++, all * taking_part, candidate->label);
        if (runs->options->prepare != NULL)
            status = prepare(runs);
        if (status == 0)
            status = run_once(runs, candidate);
    }
    return status;
}

/* Whether another round as long as the last one would still be in time. */
static int has_time(const struct runs *runs, uint64_t begin, uint64_t last) {
    uint64_t time = now();
    return time - begin + (time - last) <= runs->options->budget;
}

static int run_rounds(struct runs *runs) {
    const struct mo_compare_options *options = runs->options;
    size_t most = options->warm_ups + options->runs_max;
    uint64_t begin = now(), last = begin;
    int status = 0;
    for (; runs->round < most && status == 0; runs->round++) {
        size_t measured = runs->round - options->warm_ups;
        if (runs->round == options->warm_ups)
            begin = last = now();
        else if (is_measured(runs) && measured >= options->runs_min && !has_time(runs, begin, last))
            break;
        last = now();
        status = run_round(runs, most);
    }
    hide_progress(runs);
    return status;
}

int mo_compare_run(struct mo_comparison *comparison) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct runs runs = {.comparison = comparison, .options = comparison->options};
    int status = MO_EXIT_FAILED;
    if (mo_streams_open(&runs.streams, &error) < 0) {
        mo_say(name, "%s", error.message);
    } else {
        comparison->input = runs.streams.what;
        mo_signals_hold(&runs.signals);
        status = run_rounds(&runs);
        mo_signals_release(&runs.signals);
    }
    mo_streams_close(&runs.streams);
    return status;
}

int mo_comparison_has_runs(const struct mo_comparison *comparison) {
    for (size_t i = 0; i < comparison->count; i++)
        if (comparison->candidates[i].runs > 0)
            return 1;
    return 0;
}
