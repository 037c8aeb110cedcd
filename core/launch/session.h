/*
 * session.h - the run directory: where memopt and the programs it watches meet.
 *
 *     DIR/run.ini            what every process needs to know, read by shim and agent
 *     DIR/settings.ini       the effective configuration, read by the shim
 *     DIR/ledgers            a record for each process, written by it
 *     DIR/PID.missing        a link that is no file: why that process has no ledger
 *     DIR/sanitizer.PID      a sanitizer's log
 *     DIR/lib….so            a link, where a library's path is none for LD_PRELOAD
 *
 * It is memory, not disk, where there is such a file system: /dev/shm, else
 * $XDG_RUNTIME_DIR, else $TMPDIR, else /tmp; the first of them with some room left, and
 * only where no other user could put another directory in its place. Mode 0711, flat,
 * locked (flock on the directory) for as long as memopt lives. Its name,
 * memopt-UID-RANDOM-DEV.INO, says which directory it is: processes take no other
 * (core/base/rundir.h). One whose memopt has died without removing it, and whose programs
 * are gone too, is removed by a later run, if it holds nothing but the above.
 *
 * Used by the memopt command only.
 */
#ifndef MO_LAUNCH_SESSION_H
#define MO_LAUNCH_SESSION_H

#include <memopt/error.h>

#include <limits.h>

struct mo_session {
    char directory[PATH_MAX];
    int fd; /* of the directory, holding the lock; -1: there is none */
};
#define MO_SESSION_NONE                                                                            \
    { .directory = "", .fd = -1 }

/* On failure the message has a line for each place that was tried. */
int mo_session_create(struct mo_session *ret_session, struct memopt_error *error);
/* Removes it with all its files. Safe in a signal handler; twice is nothing. */
void mo_session_remove(struct mo_session *session);

/* Removes what dead runs of this user left behind next to `session`. */
void mo_session_clean_stale(const struct mo_session *session);

#endif
