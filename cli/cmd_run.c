/*
 * cmd_run.c - memopt run: a program on the allocator that the configuration
 * names, and what it did with its memory.
 *
 *     options → config → plan → launch → report
 *
 * The program's own output, input and exit status are left alone; what memopt
 * itself has to say goes to stderr and begins with "memopt run:".
 */
#include "config.h"

#include "cli/cmd.h"
#include "cli/settings.h"

#include "core/base/error.h"
#include "core/base/proc.h"
#include "core/import/faults.h"
#include "core/import/lsan.h"
#include "core/import/names.h"
#include "core/import/run.h"
#include "core/launch/plan.h"
#include "core/launch/watch.h"
#include "core/model/peak.h"
#include "core/render/output.h"
#include "core/render/render.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/wait.h>
#include <unistd.h>

static const char name[] = "run";

struct options {
    const char *file, *json;
    int quiet, exec, reports;
    struct mo_config_set *sets;
    size_t set_count;
    char **texts; /* the sets' memory */
    size_t text_count;
};

static void free_options(struct options *options) {
    for (size_t i = 0; i < options->text_count; i++)
        free(options->texts[i]);
    free(options->texts);
    free(options->sets);
}

/* `prefix` "memopt.allocator=" makes an assignment of a short form. */
static int add_set(struct options *options, const char *label, const char *prefix,
                   const char *value) {
    char *text = malloc(strlen(prefix) + strlen(value) + 1);
    char **texts = realloc(options->texts, (options->text_count + 1) * sizeof(*texts));
    if (texts != NULL)
        options->texts = texts;
    struct mo_config_set *sets = realloc(options->sets, (options->set_count + 1) * sizeof(*sets));
    if (sets != NULL)
        options->sets = sets;
    if (text == NULL || texts == NULL || sets == NULL) {
        free(text);
        return -ENOMEM;
    }
    strcpy(stpcpy(text, prefix), value);
    texts[options->text_count++] = text;
    sets[options->set_count++] = (struct mo_config_set){.assignment = text, .label = label};
    return 0;
}

enum { OPTION_JSON = MO_CLI_LONG, OPTION_PROFILE, OPTION_SET, OPTION_EXEC };

/* 0: go on at argv[optind]; > 0: done, with this exit status + 1. */
static int parse_options(int argc, char *argv[], struct options *options) {
    struct mo_cli cli = {.command = &mo_cmd_run, .argc = argc, .argv = argv};
    int option, r = 0;
    while (r == 0 && (option = mo_cli_next(&cli)) != 0) {
        switch (option) {
        case 'a':
            r = add_set(options, "-a", "memopt.allocator=", optarg);
            break;
        case 'c':
            options->file = optarg;
            break;
        case 'q':
            options->quiet = 1;
            break;
        case 'r':
            r = add_set(options, "-r", "memopt.reporters=", optarg);
            options->reports = 1;
            break;
        case 't':
            r = add_set(options, "-t", "memopt.trackers=", optarg);
            break;
        case OPTION_JSON:
            options->json = strcmp(optarg, "-") == 0 ? "stdout" : optarg;
            break;
        case OPTION_PROFILE:
            if (mo_profile(name, optarg, &options->file) < 0)
                return MO_EXIT_FAILED + 1;
            break;
        case OPTION_EXEC:
            options->exec = 1;
            break;
        case OPTION_SET:
            r = add_set(options, "--set", "", optarg);
            break;
        default:
            return cli.status + 1;
        }
    }
    if (r < 0) {
        mo_say(name, "out of memory");
        return MO_EXIT_FAILED + 1;
    }
    if (optind >= argc)
        return mo_wrong_usage(name, "missing PROGRAM") + 1;
    if (options->exec && (options->reports || options->json != NULL))
        return mo_wrong_usage(name, "with --exec nobody is left to write a report: leave out %s",
                              options->json != NULL ? "--json" : "-r") +
               1;
    return 0;
}

/* A signal that comes while the report is written ends memopt as it would have
 * anyway, but the run directory goes first. */
static struct mo_session *session_to_remove;

static void remove_and_die(int signal) {
    mo_session_remove(session_to_remove);
    raise(signal); /* SA_RESETHAND: the default is in place, and acts on return */
}

static void remove_on_signals(struct mo_session *session) {
    static const int deadly[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGXFSZ, SIGALRM};
    struct sigaction action = {.sa_handler = remove_and_die, .sa_flags = (int)SA_RESETHAND}, old;
    session_to_remove = session;
    for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
        if (sigaction(deadly[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(deadly[i], &action, NULL);
    /* a full disk or a reader that went away is an error of write(), not an end */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

struct run {
    struct options options;
    struct mo_config *config;
    struct mo_plan plan;
    struct mo_watch *watch;
    struct memopt_report *report;
    struct mo_run *records;
    uint64_t look_at, look_interval; /* ns: when to look from outside next, and then again */
    uint64_t fold_at;                /* when to fold records next */
    char program[PATH_MAX]; /* what the main process ran when it was last looked at, or "" */
};

/* On stderr at once, while the program runs, and for the record. */
static void note(struct run *run, const char *text) {
    size_t before = run->report->note_count;
    mo_report_note(run->report, MEMOPT_NOTE_INFO, 0, "%s", text);
    if (run->options.quiet)
        return;
    mo_say(name, "%s", text);
    if (run->report->note_count > before)
        mo_report_note_was_said(run->report);
}

/* What is noted while the configuration is read. */
static struct run *reading;

static void note_of_host(int level, const char *kind, const char *text) {
    if (level < MEMOPT_NOTE_ERROR && kind == NULL) /* those have been said */
        note(reading, text);
}

/* Before hours of running, not after: what will have no place. */
static void check_outputs(struct run *run) {
    struct memopt_error error = MEMOPT_ERROR_INIT, of_json = MEMOPT_ERROR_INIT;
    mo_auto_free char *path = NULL;
    int bad = mo_report_check_outputs(run->report, run->config, &error) < 0;
    int bad_json = run->options.json != NULL &&
                   (mo_output_expand(run->options.json, run->report, &path, &of_json) < 0 ||
                    mo_output_check(path, &of_json) < 0);
    if (bad)
        mo_say(name, "%s", error.message);
    if (bad_json)
        mo_say(name, "--json: %s", of_json.message);
    if (bad || bad_json)
        mo_say(name, "a report can't be written as things are; the program runs all the same");
}

/* A program may become one that memopt is not in, which nothing else says. Before
 * execve() it is a copy of memopt. */
static void look_at_program(struct run *run, pid_t pid) {
    char program[PATH_MAX], own[PATH_MAX];
    if (mo_proc_read_exe(pid, program, sizeof(program)) <= 0)
        return;
    mo_proc_read_exe(getpid(), own, sizeof(own));
    if (strcmp(program, own) != 0)
        strcpy(run->program, program);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void tick(void *context, pid_t pid, uint64_t *interval) {
    /* ns. How much room the records of ended programs take until they are folded depends on
     * it: some thousand programs may end in a second. */
    enum { FOLD = 250000000, FOLD_SOON = 50000000 };
    struct run *run = context;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    uint64_t time = now();
    if (run->watch != NULL && time >= run->look_at) {
        if (run->plan.preloads)
            look_at_program(run, pid);
        mo_watch_sample(run->watch, pid, &run->look_interval);
        run->look_at = time + run->look_interval;
    }
    if (run->records != NULL && time >= run->fold_at) {
        size_t before = run->report->process_count;
        /* what can't be read now is tried again at the end, which says why */
        (void)mo_run_fold(run->records, pid, &error);
        run->fold_at = time + (run->report->process_count > before ? FOLD_SOON : FOLD);
    }
    uint64_t look = run->watch == NULL ? UINT64_MAX : run->look_at;
    uint64_t fold = run->records == NULL ? UINT64_MAX : run->fold_at;
    *interval = (look < fold ? look : fold) - time;
}

static int has_text(const struct mo_settings_memopt *settings) {
    for (size_t i = 0; i < settings->reporters.count; i++)
        if (strcmp(settings->reporters.items[i], "text") == 0)
            return 1;
    return 0;
}

/* What the run left behind becomes the report. A part that fails is said in it:
 * the rest is still worth having. */
static void read_run(struct run *run, const struct mo_launch_result *result) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_report *report = run->report;
    if (run->records != NULL && mo_run_finish(run->records, result->pid, &error) < 0)
        note(run, error.message);
    if (mo_report_became(report, run->program, result->name, result->wait_status, &error) < 0)
        note(run, error.message);
    if (mo_report_end(report, result->pid, result->wait_status, &result->usage, result->wall_time,
                      &error) < 0)
        note(run, error.message);
    report->exit_status = mo_exit_status(result->wait_status);
    report->exit_signal = WIFSIGNALED(result->wait_status) ? WTERMSIG(result->wait_status) : 0;
    if (run->watch != NULL && mo_watch_report(run->watch, report, &error) < 0)
        note(run, error.message);
    /* LeakSanitizer waits for a process of its own, which is no other one */
    int alone = !result->waited_for_children ||
                (run->plan.target.obstacle == MO_OBSTACLE_SANITIZED && report->process_count == 1);
    mo_report_set_peak(report, result->peak_rss, alone ? result->peak_rss : MEMOPT_UNKNOWN);
    mo_faults_read(report);
    if (run->plan.sanitizes)
        mo_lsan_collect(run->plan.session.directory, STDERR_FILENO, report);
    mo_names_find(report);
}

/* The configuration sends the text report to a file. */
static int text_goes_to_a_file(const struct run *run) {
    const char *output = mo_config_get(run->config, "reporter.text", "output", NULL);
    return output != NULL && strcmp(output, "stderr") != 0 && strcmp(output, "stdout") != 0;
}

/* Reports that go to a file of which nobody has said so. */
static void say_defaults(const struct run *run) {
    const struct mo_settings_memopt *settings = &run->plan.settings;
    for (size_t i = 0; i < settings->reporters.count; i++) {
        struct mo_plugin *plugin;
        char section[128];
        mo_auto_free char *path = NULL;
        if (mo_plugin_load(MEMOPT_REPORTER, settings->reporters.items[i], &plugin, NULL) < 0)
            continue;
        snprintf(section, sizeof(section), "reporter.%s", plugin->descriptor.name);
        struct mo_origin origin;
        const char *output = mo_config_get(run->config, section, "output", &origin);
        if (output != NULL && origin.kind == MO_ORIGIN_DEFAULT && strcmp(output, "stderr") != 0 &&
            strcmp(output, "stdout") != 0 &&
            mo_output_expand(output, run->report, &path, NULL) == 0)
            mo_say(name, "report written to %s", path);
    }
}

static void write_report(struct run *run) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    unsigned flags = run->options.quiet ? MO_REPORT_QUIET : 0;
    int text = has_text(&run->plan.settings);
    if (mo_report_write(run->report, run->config, flags, &error) < 0) {
        mo_say(name, "%s", error.message);
        /* a long run's summary must not be lost for want of a directory */
        text = text && !text_goes_to_a_file(run);
    } else if (!run->options.quiet) {
        say_defaults(run);
    }
    if (!run->options.quiet && !text &&
        mo_report_write_one(run->report, run->config, "text", "stderr", flags, &error) < 0)
        mo_say(name, "%s", error.message);
    if (run->options.json != NULL &&
        mo_report_write_one(run->report, run->config, "json", run->options.json, flags, &error) < 0)
        mo_say(name, "%s", error.message);
}

static int launch(struct run *run, char *const *argv, const struct mo_signals *signals,
                  struct mo_launch_result *ret_result) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_plan *plan = &run->plan;
    enum mo_plan_failure failure;
    if (mo_plan_make(run->config, argv, plan, &failure, &error) < 0) {
        mo_say(name, "%s", error.message);
        return (int)failure;
    }
    if (plan->obstacle[0] != '\0')
        note(run, plan->obstacle);
    for (size_t i = 0; i < sizeof(plan->notices) / sizeof(plan->notices[0]); i++)
        if (plan->notices[i][0] != '\0')
            note(run, plan->notices[i]);
    struct mo_launch what = {
        .path = plan->target.path,
        .needs_shell = plan->target.needs_shell,
        .argv = argv,
        .environment = plan->environment.items,
        .signals = signals,
        .descriptors = {-1, -1, -1},
        .context = run,
    };
    check_outputs(run);
    if (mo_watch_new(run->config, &run->watch, &error) < 0)
        note(run, error.message);
    if (plan->session.fd >= 0 &&
        mo_run_open(run->report, plan->session.directory, run->config, &run->records, &error) < 0)
        note(run, error.message);
    if (run->watch != NULL || run->records != NULL)
        what.tick = tick;
    int r = mo_launch(&what, ret_result, &error);
    if (r < 0) {
        mo_say(name, "%s", error.message);
        return (int)mo_plan_failure_of(r);
    }
    return 0;
}

static int run_main(int argc, char *argv[]) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct run run = {.plan = {.session = MO_SESSION_NONE}};
    int status = parse_options(argc, argv, &run.options);
    if (status > 0) {
        free_options(&run.options);
        return status - 1;
    }
    char *const *program = argv + optind;
    struct mo_config_request request = {
        .file = run.options.file,
        .sets = run.options.sets,
        .set_count = run.options.set_count,
    };
    status = MO_EXIT_FAILED;
    reading = &run;
    mo_host_set_note(note_of_host);
    if (mo_report_new(&run.report, &error) < 0 ||
        mo_config_load(&request, &run.config, &error) < 0) {
        mo_say(name, "%s", error.message);
    } else if (run.options.exec) {
        status = mo_run_exec(run.config, program, run.options.quiet);
    } else {
        struct mo_launch_result result;
        struct mo_signals signals;
        mo_report_collect_notes(run.report);
        mo_signals_hold(&signals);
        if (mo_report_begin(run.report, program, &error) < 0)
            mo_say(name, "%s", error.message);
        else
            status = launch(&run, program, &signals, &result);
        if (status == 0) {
            status = mo_exit_status(result.wait_status);
            remove_on_signals(&run.plan.session);
            mo_signals_release(&signals);
            read_run(&run, &result);
            write_report(&run);
            mo_session_clean_stale(&run.plan.session);
        }
    }
    mo_plan_free(&run.plan);
    mo_watch_free(run.watch);
    mo_run_close(run.records);
    mo_report_free(run.report);
    mo_config_free(run.config);
    free_options(&run.options);
    return status;
}

static const struct mo_cli_option options[] = {
    {.code = 'a',
     .name = "allocator",
     .argument = "ALLOCATOR",
     .value = MO_VALUE_ALLOCATOR,
     .help = "the program's malloc: a plugin's name or its absolute path"},
    {.code = 'c',
     .name = "config",
     .argument = "FILE",
     .value = MO_VALUE_FILE,
     .help = "read FILE instead of $MEMOPT_CONF"},
    {.code = OPTION_EXEC, .name = "exec", .help = "become the program: bound directly, no report"},
    MO_CLI_HELP,
    {.code = OPTION_JSON,
     .name = "json",
     .argument = "FILE",
     .value = MO_VALUE_FILE,
     .help = "write the report to FILE as JSON, too"},
    MO_CLI_PROFILE(OPTION_PROFILE, 0),
    {.code = 'q', .name = "quiet", .help = "print no summary and no notes"},
    {.code = 'r',
     .name = "reporters",
     .argument = "REPORTERS",
     .value = MO_VALUE_REPORTERS,
     .help = "who writes the report: text, json, ...; json writes memopt-PID.json"},
    {.code = OPTION_SET,
     .name = "set",
     .argument = "SECTION.KEY=VALUE",
     .help = "set one value of the configuration; may be repeated"},
    {.code = 't',
     .name = "trackers",
     .argument = "TRACKERS",
     .value = MO_VALUE_TRACKERS,
     .help = "what looks at each call: stats, ...; '' disables"},
    {.name = NULL},
};
static const struct mo_cli_form forms[] = {
    {.operands = "[--] PROGRAM [ARGUMENT ...]", .operand = MO_VALUE_PROGRAM}};
const struct mo_command mo_cmd_run = {
    .name = name,
    .summary = "run a program and say what it does with its memory",
    .function = run_main,
    .about = "Runs a program on another memory allocator and says what it did with its\n"
             "memory.\n",
    .options = options,
    .forms = forms,
    .form_count = 1,
    .more = "The exit status is the program's own, 128+N if signal N ended it, 125 if\n"
            "memopt itself failed, 126 if the program can't be executed, 127 if it is not\n"
            "there.\n",
    .usage_status = MO_EXIT_FAILED,
};
