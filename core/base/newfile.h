/*
 * newfile.h - for files that appear under their name only when they are whole:
 * a temporary one beside it, and system calls that fail rather than signal.
 *
 * Used by core/model (reports) and core/store (tensors). Any thread.
 */
#ifndef MO_BASE_NEWFILE_H
#define MO_BASE_NEWFILE_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* Creates a file that was not there, for writing, in the directory of `path`
 * (which is relative to `directory`, or AT_FDCWD). Its name, ".memopt-" and 16
 * hexadecimal digits, belongs to the caller: free(). The descriptor or -errno. It holds a
 * lock: it is closed after the file has got its name or has been removed, never before.
 * Files of such a name that a killed process of this user has left there are removed. */
int mo_newfile_create(int directory, const char *path, mode_t mode, char **ret_name);

/* The signals that a write can raise (SIGXFSZ, SIGPIPE) are meant for the thread
 * that writes: between begin and end they are held back, and `failed` takes away
 * those that came and were not there before. */
struct mo_quiet {
    sigset_t mine, before, pending;
};
void mo_quiet_begin(struct mo_quiet *quiet);
void mo_quiet_end(struct mo_quiet *quiet, bool failed);

#endif
