/*
 * report.h - making the report of a run: its memory, its parts, its outputs.
 *
 * The memopt command (and libmemopt's memopt_report()) goes through it in this
 * order:
 *
 *     mo_report_new(&report, &error);
 *     mo_report_collect_notes(report);        what plugins say from now on
 *     mo_report_begin(report, argv, &error);  before the program is started
 *     mo_run_open(report, directory, config, &run, &error);
 *     ... run, with mo_run_fold() now and then ...
 *     mo_run_finish(run, pid, &error);
 *     mo_report_became(report, program, name, wait_status, &error);
 *     mo_report_end(report, pid, wait_status, &rusage, wall, &error);
 *     mo_report_write(report, config, 0, &error);
 *     mo_report_free(report);
 *
 * What a step can't find out stays MEMOPT_UNKNOWN, NaN or NULL; the caller may
 * fill in any field of the struct itself (peak_rss, exit_status, …), before
 * mo_report_write().
 *
 * Ownership: the report owns all its parts; they are allocated with
 * memopt_report_alloc() and go in mo_report_free(). Threads: one at a time.
 * Used by the memopt command and libmemopt; never inside a program that only
 * has the shim.
 */
#ifndef MO_MODEL_REPORT_H
#define MO_MODEL_REPORT_H

#include "core/config/config.h"

#include <memopt/plugin.h>

#include <sys/resource.h>

/* An empty report: every number unknown, memopt's version and the machine set. */
int mo_report_new(struct memopt_report **ret_report, struct memopt_error *error);
void mo_report_free(struct memopt_report *report); /* NULL: nothing */

/* A process with every number unknown and every string NULL. */
void mo_process_init(struct memopt_process *process);

/* A copy that belongs to the report; NULL: out of memory, or `text` is NULL. */
char *mo_report_strdup(struct memopt_report *report, const char *text);
char *mo_report_printf(struct memopt_report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* What a counted noun ends with: "%llu block%s". */
static inline const char *mo_plural(uint64_t count) {
    return count == 1 ? "" : "s";
}

/* Adds a note; `pid` 0: memopt itself. A text that is there already for the
 * same process, among the last ones, is not added twice. Out of memory: the note is lost. */
void mo_report_note(struct memopt_report *report, int level, int64_t pid, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The note that was added last has been said on standard error: reports that go
 * there leave it out. */
void mo_report_note_was_said(struct memopt_report *report);

/* Adds an event to a process of the report; copies the strings. `time`: ns since the
 * process started, or MEMOPT_UNKNOWN. */
int mo_report_event(struct memopt_report *report, struct memopt_process *process, uint64_t time,
                    const char *kind, const char *text, struct memopt_error *error);
/* The i-th event of a process of the report has another text, which is copied: it was said on
 * standard error in other words, and reports that go there have it whole. */
void mo_report_retell_event(struct memopt_report *report, struct memopt_process *process, size_t i,
                            const char *text);

/* Makes host->note() add to this report; NULL: notes are dropped. One report a
 * process at a time. Freeing the report ends it. */
void mo_report_collect_notes(struct memopt_report *report);

/* What is about to be run: copies argv, takes the working directory and time. */
int mo_report_begin(struct memopt_report *report, char *const *argv, struct memopt_error *error);

/* The programs of a run become the report's processes: the main one (`main_pid`, 0: the
 * earliest) first, then by start. `config` names the trackers and their settings.
 *
 * While the run lives, fold() takes the records to which nothing more will be written and
 * gives their room back; call it several times a second. finish() takes the rest, of
 * processes that still run as well. A record that can't be read is a warning in the report
 * and is left out; no record at all is not an error (process_count stays 0). The first
 * MO_ROWS programs, the main one and those that did not end well have a row each; the
 * others have one a program name. Fails if the directory can't be read or memory is
 * short. The report and the configuration must live longer than the run. */
enum { MO_ROWS = 65536 };
struct mo_run;
int mo_run_open(struct memopt_report *report, const char *directory, struct mo_config *config,
                struct mo_run **ret_run, struct memopt_error *error);
int mo_run_fold(struct mo_run *run, int64_t main_pid, struct memopt_error *error);
int mo_run_finish(struct mo_run *run, int64_t main_pid, struct memopt_error *error);
void mo_run_close(struct mo_run *run); /* NULL: nothing */

/* open, finish, close */
int mo_report_read_run(struct memopt_report *report, const char *directory, int64_t main_pid,
                       struct mo_config *config, struct memopt_error *error);

/* Whether the main process went on, by exec, as a program that memopt is not in: its
 * ledger says then neither how it ended nor of a program that came after. `program`:
 * what /proc/PID/exe was when it was last looked at, `name`: the kernel's name of it at
 * its end; "" if not known. That program becomes the main process of the report, which
 * mo_report_end() gives its end, and notes say what is known. */
int mo_report_became(struct memopt_report *report, const char *program, const char *name,
                     int wait_status, struct memopt_error *error);

/* What wait4() said of the main process, which is added if it left no ledger
 * (`pid` and argv[0] are then all that is known). `usage` may be NULL. */
int mo_report_end(struct memopt_report *report, int64_t pid, int wait_status,
                  const struct rusage *usage, uint64_t wall_time, struct memopt_error *error);

/* After that, what the kernel counted: `peak_rss` of the largest of the main process
 * and the children that were waited for, `main_rss` of the main process alone;
 * either may be unknown. Where the main process was seen to be larger, that counts.
 * report->peak_rss becomes unknown if another process is
 * known to have been larger, but not how large. */
void mo_report_set_peak(struct memopt_report *report, uint64_t peak_rss, uint64_t main_rss);

enum {
    MO_REPORT_QUIET = 1, /* leave out reporters whose output is stderr */
};
/* Runs the reporters that `reporters` names, each into its `output`. All of
 * them run even if one fails; error->message then has a line for each that did,
 * and the first one's code is returned. */
int mo_report_write(struct memopt_report *report, struct mo_config *config, unsigned flags,
                    struct memopt_error *error);
/* Whether what the configured reporters write could be created, as far as that
 * can be told before the run; the message is as mo_report_write()'s. */
int mo_report_check_outputs(struct memopt_report *report, struct mo_config *config,
                            struct memopt_error *error);
/* One reporter, by name or path; `output` NULL: the one that is configured. */
int mo_report_write_one(struct memopt_report *report, struct mo_config *config,
                        const char *reporter, const char *output, unsigned flags,
                        struct memopt_error *error);

#endif
