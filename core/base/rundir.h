/*
 * rundir.h - the run directory, found by a name that can't be given to another one.
 *
 * memopt and the programs it watches meet in a directory, whose path is in MEMOPT_RUN.
 * What is in it decides what code a process loads, so it must be the one that memopt made,
 * even where somebody can move directories about above it. Its name ends with its device
 * and inode, "-DEV.INO" in hexadecimal: as long as it exists no other directory has these,
 * and when it is gone, its owner and mode still tell. A process therefore opens it once,
 * looks at what it has opened, and reaches all files through the descriptor.
 *
 * Runs inside watched programs: allocates nothing, calls no stdio.
 */
#ifndef MO_BASE_RUNDIR_H
#define MO_BASE_RUNDIR_H

#include <memopt/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/* Writes "-DEV.INO". */
enum { MO_RUNDIR_SUFFIX = 40 };
void mo_rundir_suffix(const struct stat *status, char suffix[MO_RUNDIR_SUFFIX]);

/* Whether the last name of a path ends with such a suffix; *ret_at, if not NULL: where. */
bool mo_rundir_is_named(const char *path, const char **ret_at);

/* Opens it for *at() calls, for nothing else (O_PATH): a directory that belongs to the
 * caller or root, that nobody else may write to, and that is the one that its name says
 * (without a suffix: any). A link is not followed. The descriptor, for mo_rundir_close(), or
 * a negative errno: -ENOENT, and others of open(); -EPERM: somebody else's; -ESTALE: another
 * directory. */
int mo_rundir_open(const char *path, struct memopt_error *error);
void mo_rundir_close(int fd);

/* From hold() to release() each open() of a process is the descriptor that was held, and
 * nothing is looked at again: for its start, where each system call counts. hold() returns
 * what open() does. */
int mo_rundir_hold(const char *path, struct memopt_error *error);
void mo_rundir_release(void);

#endif
