/* options.c - see options.h. */
#include "cli/options.h"

#include "cli/cmd.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 80, HELP_COLUMN_MAX = 30, HEAD = 96 };

static int has_letter(const struct mo_cli_option *option) {
    return option->code < MO_CLI_LONG;
}

static int goes_with(const struct mo_cli_option *option, size_t form) {
    return option->forms == 0 || (option->forms >> form & 1) != 0;
}

/* ----------------------------------------------------------------- parsing */

static int takes_program(const struct mo_command *command) {
    for (size_t i = 0; i < command->form_count; i++)
        if (command->forms[i].operand == MO_VALUE_PROGRAM)
            return 1;
    return 0;
}

int mo_cli_next(struct mo_cli *cli) {
    const struct mo_cli_option *options = cli->command->options;
    struct option longs[MO_CLI_OPTIONS + 1];
    char letters[2 * MO_CLI_OPTIONS + 3], *at = letters;
    size_t count = 0;
    if (takes_program(cli->command))
        *at++ = '+';
    *at++ = ':';
    for (; options[count].name != NULL && count < MO_CLI_OPTIONS; count++) {
        int has_argument = options[count].argument != NULL ? required_argument : no_argument;
        longs[count] =
            (struct option){options[count].name, has_argument, NULL, options[count].code};
        if (has_letter(&options[count])) {
            *at++ = (char)options[count].code;
            if (options[count].argument != NULL)
                *at++ = ':';
        }
    }
    longs[count] = (struct option){NULL, 0, NULL, 0};
    *at = '\0';
    opterr = 0;
    int code = getopt_long(cli->argc, cli->argv, letters, longs, NULL);
    if (code == -1)
        return 0;
    if (code == 'h') {
        cli->status = mo_cli_print_help(cli->command);
        return -1;
    }
    for (size_t i = 0; i < count; i++)
        if (options[i].code == code) {
            cli->seen |= 1u << i;
            return code;
        }
    cli->status =
        mo_wrong_option(cli->command->name, code, optopt, cli->argv[optind > 0 ? optind - 1 : 0]);
    return -1;
}

int mo_cli_check_form(const struct mo_cli *cli, size_t form) {
    const struct mo_cli_option *options = cli->command->options;
    for (size_t i = 0; options[i].name != NULL; i++) {
        if ((cli->seen >> i & 1) == 0 || goes_with(&options[i], form))
            continue;
        const char *word = cli->command->forms[form].word;
        return mo_wrong_usage(cli->command->name, "'memopt %s%s%s' has no option --%s",
                              cli->command->name, word != NULL ? " " : "", word != NULL ? word : "",
                              options[i].name);
    }
    return 0;
}

/* -------------------------------------------------------------------- help */

void mo_print_wrapped(const char *text, int indent, int column) {
    if (column < indent) {
        printf("%*s", indent - column, "");
        column = indent;
    }
    while (*text != '\0') {
        int length = (int)strcspn(text, " ");
        if (column > indent && column + 1 + length > COLUMNS) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        mo_print("%.*s", length, text);
        column += length;
        text += length + (text[length] == ' ');
    }
    putchar('\n');
}

/* One line of the usage, in parts that are not broken. */
struct line {
    int indent, column;
};

static void put_part(struct line *line, const char *part) {
    int length = (int)strlen(part);
    if (line->column + 1 + length > COLUMNS) {
        printf("\n%*s", line->indent, "");
        line->column = line->indent;
    } else {
        putchar(' ');
        line->column++;
    }
    fputs(part, stdout);
    line->column += length;
}

static void put_option(struct line *line, const struct mo_cli_option *option) {
    char part[HEAD];
    char letter[] = {(char)option->code, '\0'};
    int is_long = !has_letter(option);
    snprintf(part, sizeof(part), "[-%s%s%s%s]", is_long ? "-" : "", is_long ? option->name : letter,
             option->argument != NULL ? " " : "", option->argument != NULL ? option->argument : "");
    put_part(line, part);
}

/* Those of letters first: without an argument all in one, then each by itself. */
static void print_form(const struct mo_command *command, size_t form) {
    const struct mo_cli_form *how = &command->forms[form];
    const struct mo_cli_option *option;
    char flags[MO_CLI_OPTIONS + 4] = "[-";
    size_t count = 2;
    int indent = printf("%s memopt %s%s%s", form == 0 ? "usage:" : "      ", command->name,
                        how->word != NULL ? " " : "", how->word != NULL ? how->word : "");
    struct line line = {.indent = indent + 1, .column = indent};
    for (int letter = 1; letter < 128; letter++)
        for (option = command->options; option->name != NULL; option++)
            if (option->code == letter && letter != 'h' && option->argument == NULL &&
                goes_with(option, form))
                flags[count++] = (char)letter;
    flags[count] = ']';
    flags[count + 1] = '\0';
    if (count > 2)
        put_part(&line, flags);
    for (int letter = 1; letter < 128; letter++)
        for (option = command->options; option->name != NULL; option++)
            if (option->code == letter && option->argument != NULL && goes_with(option, form))
                put_option(&line, option);
    for (option = command->options; option->name != NULL; option++)
        if (!has_letter(option) && goes_with(option, form) &&
            (how->word == NULL || strncmp(how->word, "--", 2) != 0 ||
             strcmp(how->word + 2, option->name) != 0))
            put_option(&line, option);
    if (how->operands != NULL)
        put_part(&line, how->operands);
    putchar('\n');
}

static int head_of(const struct mo_cli_option *option, char *head) {
    char letter[] = "  -x, ";
    letter[3] = (char)option->code;
    return snprintf(head, HEAD, "%s--%s%s%s", has_letter(option) ? letter : "      ", option->name,
                    option->argument != NULL ? " " : "",
                    option->argument != NULL ? option->argument : "");
}

int mo_cli_print_help(const struct mo_command *command) {
    char head[HEAD];
    int column = 0;
    for (size_t i = 0; i < command->form_count; i++)
        print_form(command, i);
    printf("\n%s\n", command->about);
    const struct mo_cli_option *option;
    for (option = command->options; option->name != NULL; option++) {
        int length = head_of(option, head) + 2;
        if (length > column && length <= HELP_COLUMN_MAX)
            column = length;
    }
    for (option = command->options; option->name != NULL; option++) {
        int length = head_of(option, head);
        fputs(head, stdout);
        if (length + 2 > column) {
            putchar('\n');
            length = 0;
        }
        mo_print_wrapped(option->help, column, length);
    }
    if (command->more != NULL)
        printf("\n%s", command->more);
    return mo_close_stdout("", 1);
}
