/*
 * watch.h - what can be seen of a program from outside: /proc.
 *
 * For the resident sizes of all programs, and for what else can be known of those that
 * nothing can be preloaded into. The program and its children are looked at every 10 ms in
 * the first second, later less often: see [monitor]. For the peak the kernel's own
 * high-water mark (VmHWM) makes up for most of what happens between two looks. What
 * was seen is a lower bound all the same: the end is never seen.
 *
 * Used by the memopt command only, between two looks at nothing.
 */
#ifndef MO_LAUNCH_WATCH_H
#define MO_LAUNCH_WATCH_H

#include "core/config/config.h"

#include <memopt/report.h>

#include <stdint.h>
#include <sys/types.h>

struct mo_watch;

/* [monitor] says how often. */
int mo_watch_new(struct mo_config *config, struct mo_watch **ret_watch, struct memopt_error *error);
void mo_watch_free(struct mo_watch *watch); /* NULL: nothing */

/* Looks at `pid` and its descendants; *interval becomes the time to the next look.
 * Processes that come and go between two searches for new ones are not seen. */
void mo_watch_sample(struct mo_watch *watch, pid_t pid, uint64_t *interval);

/* The mean and the size at rest of the process of this number, of the last program that it
 * was, in bytes; UINT64_MAX: can't be said (samples.h). 0: it was never seen. */
struct mo_watch_rss {
    uint64_t mean, rest;
};
int mo_watch_rss(const struct mo_watch *watch, pid_t pid, struct mo_watch_rss *ret_rss);

/* Puts what was seen into the report: sizes, the least peak of processes that are there and
 * did not say their own, and processes that are not there. */
int mo_watch_report(const struct mo_watch *watch, struct memopt_report *report,
                    struct memopt_error *error);

#endif
