/*
 * peak.h - the one place that decides what the peak of a resident size is.
 *
 *   VmHWM       of a process that lives: what the kernel says, of it alone
 *   ru_maxrss   of one that was waited for: its own or that of the largest child that it has
 *               waited for itself, and never less than what the launcher had at execve(),
 *               which the kernel carries over
 *   seen        VmHWM at the last look from outside (core/launch/watch.c): no more than a
 *               lower bound, process->peak_rss_least
 *
 * What can't be told is MEMOPT_UNKNOWN. Used by core/model, core/render, core/launch and cli.
 */
#ifndef MO_MODEL_PEAK_H
#define MO_MODEL_PEAK_H

#include <memopt/plugin.h>

#include <sys/resource.h>

uint64_t mo_peak_of_this_process(void);
/* ru_maxrss in bytes: what the launcher had, asked in the child before execve(). */
uint64_t mo_peak_kept(const struct rusage *usage);
/* Of a program that was waited for, and its children; `launcher` as above. Unknown if it
 * was no larger than that, so that it may be the launcher's. */
uint64_t mo_peak_of_child(const struct rusage *usage, uint64_t launcher);

/* The largest process of the report; if one did not live to say, what the kernel kept of the
 * largest that was waited for counts too. `usage` may be NULL. */
uint64_t mo_peak_largest(const struct memopt_report *report, const struct rusage *usage);

/* After mo_report_end(), what the kernel counted: `peak_rss` of the largest of the main
 * process and the children that were waited for, `main_rss` of the main process alone;
 * either may be unknown. Where the main process was seen to be larger, that counts.
 * report->peak_rss becomes unknown if another process is known to have been larger, but not
 * how large. */
void mo_report_set_peak(struct memopt_report *report, uint64_t peak_rss, uint64_t main_rss);

#endif
