/*
 * compare_streams.h - the standard input and standard error of a program that is run many
 * times.
 *
 * Every run reads the same input: a file from where it stands, a pipe or a socket from a
 * copy that is made once, before the first run. Of standard error the end is kept, to be
 * shown when a run fails.
 */
#ifndef MO_CLI_COMPARE_STREAMS_H
#define MO_CLI_COMPARE_STREAMS_H

#include <memopt/error.h>

#include <sys/types.h>

struct mo_streams {
    const char *what;          /* the input is, for people */
    int null;                  /* /dev/null */
    int input;                 /* what to open again for each run; -1: /dev/null */
    off_t start;               /* where the input begins */
    int current_input, errors; /* of the run that goes on, or -1 */
};

/* Reads a pipe to its end. */
int mo_streams_open(struct mo_streams *streams, struct memopt_error *error);
void mo_streams_close(struct mo_streams *streams);

/* For the next run: current_input and errors, where each is not -1, are to become its 0
 * and 2. Standard error is kept only if that is asked for and there is memory for it. */
int mo_streams_begin(struct mo_streams *streams, int keep_errors, struct memopt_error *error);
/* While it runs: gives back the memory of what was written long ago. */
void mo_streams_trim(const struct mo_streams *streams);
/* The last lines that the run wrote, each through `say`. */
void mo_streams_last_lines(const struct mo_streams *streams, void (*say)(const char *line));
void mo_streams_end(struct mo_streams *streams);

#endif
