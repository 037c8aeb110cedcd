/*
 * launch.h - starts a program and waits for it as if memopt were not there.
 *
 * What the program is given is its own: descriptors, working directory, process
 * group, terminal, signal mask and dispositions, nice value, limits. memopt
 * stays in the same process group, so the shell's job is the program's:
 *
 *   - A signal that reaches memopt alone is passed on. One that was sent to the
 *     whole group (by the terminal, by kill(-pgrp)) has reached the program
 *     already and is not. To tell them apart a sentinel waits in the group with
 *     every signal blocked: what is pending for it was sent to all.
 *   - When the program stops, memopt stops the same way; when memopt is
 *     continued, so is the program, and it gets the terminal back if it had it.
 *
 * Signals are blocked in memopt from mo_signals_hold() on, so that between the
 * creation of the run directory and its removal no signal can end memopt
 * unawares; they are taken with sigtimedwait(), there are no handlers.
 *
 * Used by the memopt command only. One launch at a time; single-threaded.
 */
#ifndef MO_LAUNCH_LAUNCH_H
#define MO_LAUNCH_LAUNCH_H

#include <memopt/error.h>

#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

/* The signal state memopt was started with, which the program gets. */
struct mo_signals {
    sigset_t mask;
    struct sigaction child;
};
void mo_signals_hold(struct mo_signals *ret_before);
/* Forgets signals that are pending and restores the mask and SIGCHLD. */
void mo_signals_release(const struct mo_signals *before);

struct mo_launch {
    const char *path; /* what to execute, as mo_target_find() says */
    int needs_shell;  /* by /bin/sh */
    char *const *argv;
    char *const *environment;
    const struct mo_signals *signals;
    int descriptors[3]; /* to become 0, 1, 2 of the program; -1: memopt's own */
    /* Called in memopt every `interval` ns while the program runs; may change
     * it. NULL: never. */
    void (*tick)(void *context, pid_t pid, uint64_t *interval);
    void *context;
    uint64_t interval;
};

struct mo_launch_result {
    pid_t pid;
    int wait_status;
    /* Of the program and the children it waited for, without what happened in
     * the new process before the program was there. */
    struct rusage usage;
    /* From usage: the kernel hands the size before execve() on, so a program
     * smaller than that is unknown (UINT64_MAX). */
    uint64_t peak_rss;
    int waited_for_children; /* or that is not known: peak_rss may be one of theirs */
    char name[16];      /* the kernel's name of it at its end; "": not known */
    uint64_t wall_time; /* ns, from execve() to the end */
    /* The last SIGINT, SIGTERM, SIGHUP or SIGQUIT memopt got, of those that it was not started to
     * ignore; 0: none. */
    int interrupted;
};

/* Runs it to its end. -ENOENT, -EACCES, -ENOEXEC, …: execve() refused. */
int mo_launch(const struct mo_launch *launch, struct mo_launch_result *ret_result,
              struct memopt_error *error);

/* Becomes the program, in this process, with the signals that memopt was started with: they
 * must not be held. Returns only if that fails, as mo_launch() does. */
int mo_launch_become(const char *path, int needs_shell, char *const *argv,
                     char *const *environment, struct memopt_error *error);

/* The exit status a shell would give: 128 + n for a signal. */
int mo_exit_status(int wait_status);

#endif
