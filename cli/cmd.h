/*
 * cmd.h - the subcommands of memopt: what main.c knows of each, and what they
 * share.
 *
 * Adding a subcommand, say `memopt fish`:
 *   1. cli/cmd_fish.c with mo_cmd_fish, which has its table of options (options.h);
 *      cli/local.mk.
 *   2. Declare it here; a row in mo_commands[] (main.c), in alphabetic order.
 *   3. man/memopt-fish.1, whose SYNOPSIS is the usage's and whose list has the
 *      options of -h; man/local.mk; a line in memopt(1).
 * tests/test_cli.sh fails where one of 2 or 3 is missing or they differ.
 *
 * Only this folder prints to the user and decides exit statuses.
 */
#ifndef MO_CLI_CMD_H
#define MO_CLI_CMD_H

#include "cli/options.h"

#include <memopt/error.h>

#include <stddef.h>
#include <stdio.h>

enum {
    MO_EXIT_USAGE = 2,    /* of every subcommand but run */
    MO_EXIT_FAILED = 125, /* memopt itself failed (run, compare) */
    MO_EXIT_CANNOT = 126, /* the program can't be executed */
    MO_EXIT_NO_PROGRAM = 127,
};

extern const struct mo_command mo_cmd_compare, mo_cmd_complete, mo_cmd_config, mo_cmd_env,
    mo_cmd_help, mo_cmd_plugins, mo_cmd_run;
extern const struct mo_command *const mo_commands[]; /* ends with NULL */
const struct mo_command *mo_command_find(const char *name);

/* memopt run --exec (cmd_env.c): becomes the program; returns an exit status if it can't. */
struct mo_config;
int mo_run_exec(struct mo_config *config, char *const *argv, int quiet);

/* "memopt NAME: MESSAGE" on stderr, a line for each line of the message. */
void mo_say(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A text that memopt did not write, for people: what include/memopt/show.h is for. */
void mo_show_on(FILE *stream, const char *text, unsigned how);
/* printf() of lines with such texts; returns what printf() does, or < 0: out of memory. */
int mo_print(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same as mo_say() with a pointer to -h; returns the exit status for wrong usage. */
int mo_wrong_usage(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* After getopt_long() returned '?' or ':' (with opterr = 0): says which option. */
int mo_wrong_option(const char *command, int result, int optopt_value, const char *argument);
/* Flushes stdout: 0, or `status` and a message if it can't be written. */
int mo_close_stdout(const char *command, int status);

#endif
