/*
 * options.h - a command's options, as one table beside its code: getopt_long()'s
 * strings, the usage, `-h` and completion are made from it, and tests/test_cli.sh
 * holds the manual against it.
 *
 *   option   a row: letter, long name, argument, what it means
 *   operand  a word of the command line that is no option
 *   form     a way to call the command, a line of the SYNOPSIS of its own:
 *            "config show", "config explain"
 */
#ifndef MO_CLI_OPTIONS_H
#define MO_CLI_OPTIONS_H

#include <stddef.h>

/* What a value is: completion offers those that there are. */
enum mo_value {
    MO_VALUE_NONE = 0, /* nothing that can be offered */
    MO_VALUE_FILE,
    MO_VALUE_WORD,       /* one of the option's `words` */
    MO_VALUE_ALLOCATOR,  /* the name of a plugin */
    MO_VALUE_ALLOCATORS, /* names, separated by commas */
    MO_VALUE_TRACKERS,
    MO_VALUE_REPORTERS,
    MO_VALUE_PLUGIN, /* of any kind */
    MO_VALUE_PROFILE,
    MO_VALUE_SECTION, /* of the configuration */
    MO_VALUE_COMMAND, /* of memopt */
    MO_VALUE_SHELL,   /* a command for sh */
    MO_VALUE_PROGRAM, /* and its arguments: memopt's own options end there */
};

struct mo_cli_option {
    int code;             /* the letter; without one, a number from MO_CLI_LONG on */
    const char *name;     /* the long name */
    const char *argument; /* "FILE"; NULL: takes none */
    const char *help;     /* some words, lower case, no full stop; -h breaks the lines */
    enum mo_value value;
    const char *words; /* MO_VALUE_WORD: separated by blanks */
    unsigned forms;    /* bit i: the i-th form has it; 0: all have */
};
enum { MO_CLI_LONG = 256, MO_CLI_OPTIONS = 32 };
#define MO_CLI_HELP                                                                                \
    { .code = 'h', .name = "help", .help = "show this" }

struct mo_cli_form {
    const char *word;     /* "show": the first operand; "--test": an option; NULL: none */
    const char *operands; /* "[PLUGIN]", after the options; NULL: none */
    enum mo_value operand;
};

struct mo_command {
    const char *name;
    const char *summary; /* one line, lower case, no full stop; NULL: it is not listed */
    /* argv[0] is the command's name; the result is memopt's exit status. */
    int (*function)(int argc, char *argv[]);
    const char *about;                   /* lines of -h, between usage and options */
    const struct mo_cli_option *options; /* by long names; ends with name NULL */
    const struct mo_cli_form *forms;
    size_t form_count;
    const char *more; /* lines after the options; or NULL */
    int usage_status; /* the exit status of wrong usage */
};

/* The command line of one command. Begin with {.command, .argc, .argv}. */
struct mo_cli {
    const struct mo_command *command;
    int argc;
    char **argv;
    unsigned seen; /* bit i: the i-th option was there */
    int status;    /* memopt's exit status, once next() has returned < 0 */
};

/* The code of the next option, its value in optarg; 0: there is no more, the operands
 * begin at argv[optind]; < 0: -h or wrong usage, all is said: return cli->status. */
int mo_cli_next(struct mo_cli *cli);

/* Whether the options that were there go with a form: 0, or the exit status of wrong
 * usage, which is said. */
int mo_cli_check_form(const struct mo_cli *cli, size_t form);

/* Prints what -h shows; 0, or 1 if standard output can't be written. */
int mo_cli_print_help(const struct mo_command *command);

/* On stdout, in lines of at most 80 columns that begin at `indent`; `column`: where the
 * first one stands already. */
void mo_print_wrapped(const char *text, int indent, int column);

#endif
