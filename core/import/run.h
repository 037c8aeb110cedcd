/*
 * run.h - the records of a run become the report's processes: at its end, or, so that a
 * run of many programs needs little room, one by one while it lives.
 *
 *     mo_run_open(report, directory, config, &run, &error);
 *     ... run, with mo_run_fold() now and then ...
 *     mo_run_finish(run, pid, &error);
 *     mo_report_became(report, program, name, wait_status, &error);
 *     mo_run_close(run);
 *
 * What one record says is core/model/process.h's business; here they are found, put into
 * order, and chained where a process has become another program.
 *
 * Used by the memopt command only. Threads: one at a time.
 */
#ifndef MO_IMPORT_RUN_H
#define MO_IMPORT_RUN_H

#include "core/model/report.h"

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

/* Whether two paths that were read of /proc/PID/exe are of programs of different names. */
int mo_is_other_program(const char *before, const char *after);

/* After how many rows a run's programs share some: MO_ROWS. Tests make it small. */
extern size_t mo_run_rows;

#endif
