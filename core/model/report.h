/*
 * report.h - making the report of a run: its memory, its parts.
 *
 * The memopt command goes through it in this order:
 *
 *     mo_report_new(&report, &error);
 *     mo_report_collect_notes(report);        what plugins say from now on
 *     mo_report_begin(report, argv, &error);  before the program is started
 *     ... run; core/import fills in what the run left behind ...
 *     mo_report_end(report, pid, wait_status, &rusage, wall, &error);
 *     ... core/render runs the reporters ...
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
/* The i-th event of a process of the report becomes `event`, which is copied: what was in its
 * text is in its fields and stacks now. */
int mo_report_set_event(struct memopt_report *report, struct memopt_process *process, size_t i,
                        const struct memopt_event_report *event, struct memopt_error *error);

/* Makes host->note() add to this report; NULL: notes are dropped. One report a
 * process at a time. Freeing the report ends it. */
void mo_report_collect_notes(struct memopt_report *report);

/* What is about to be run: copies argv, takes the working directory and time. */
int mo_report_begin(struct memopt_report *report, char *const *argv, struct memopt_error *error);

/* What wait4() said of the main process, which is added if it left no ledger
 * (`pid` and argv[0] are then all that is known). `usage` may be NULL. */
int mo_report_end(struct memopt_report *report, int64_t pid, int wait_status,
                  const struct rusage *usage, uint64_t wall_time, struct memopt_error *error);

#endif
