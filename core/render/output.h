/*
 * output.h - where a reporter's bytes go: a terminal, a pipe, or a file that
 * appears under its name only when it is whole.
 *
 * A file is written as a new one in the same directory and renamed at the end,
 * so that a full disk, a reporter's failure or a kill leaves what was there
 * before. It is synced before that. One that replaces a file of the caller's keeps its mode,
 * another has 0600, as reports hold command lines. Links are not followed. Devices and pipes
 * are written directly, but for another user's pipe in a sticky directory.
 *
 * A write never raises SIGXFSZ or SIGPIPE: it fails. Used by core/render and
 * the command for everything it writes into files.
 */
#ifndef MO_RENDER_OUTPUT_H
#define MO_RENDER_OUTPUT_H

#include <memopt/plugin.h>

struct mo_output; /* opaque to all but output.c */

/* `target`: "stderr", "stdout" or a path. */
int mo_output_open(const char *target, struct mo_output **ret_output, struct memopt_error *error);
/* Whether it could be opened, as far as that can be told without doing so: for
 * telling before hours of work that their result has no place. */
int mo_output_check(const char *target, struct memopt_error *error);
struct memopt_output *mo_output_public(struct mo_output *output);
/* Writes what is still held and gives the file its name. On failure nothing of
 * it remains. The output is gone either way. */
int mo_output_commit(struct mo_output *output, struct memopt_error *error);
/* Drops it; what a terminal or pipe has got stays there. NULL: nothing. */
void mo_output_abort(struct mo_output *output);
/* The first error of a write, a negative errno, or 0. */
int mo_output_failed(const struct mo_output *output);

/* Fills in %p (pid), %t (start time, 20261124T063000Z), %e (the program's name)
 * and %%, from the report. The result belongs to the caller: free(). */
int mo_output_expand(const char *pattern, const struct memopt_report *report, char **ret_path,
                     struct memopt_error *error);

#endif
