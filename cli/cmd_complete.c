/*
 * cmd_complete.c - memopt complete: what may stand next on memopt's command line, for
 * scripts/bash-completion/memopt. Not listed: no person calls it.
 *
 * Its arguments are the words behind `memopt` up to the one that is completed, which may
 * be empty. It prints how to go on in the first line, then candidates, a line each:
 *   words      these
 *   list       these, and the word may go on
 *   files      names of files
 *   commands   names of commands
 *   program N  from the N-th word on (memopt is the 0th) it is a command of its own
 */
#include "cli/cmd.h"
#include "cli/settings.h"

#include "core/base/error.h"
#include "core/config/config.h"
#include "core/plugin/registry.h"

#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------- candidates */

/* A candidate, if it begins as the word does. */
static void offer(const char *word, const char *text) {
    if (strncmp(word, text, strlen(word)) == 0)
        mo_print("%s\n", text);
}

static void offer_each(const char *word, const char *words) {
    char one[64];
    while (words != NULL && *words != '\0') {
        size_t length = strcspn(words, " ");
        snprintf(one, sizeof(one), "%.*s", (int)length, words);
        offer(word, one);
        words += length + (words[length] == ' ');
    }
}

struct plugins {
    enum memopt_plugin_kind kind; /* 0: any */
    const char *word;             /* what of the word belongs to the name */
    int before;                   /* and how much comes before, in a list */
    const char *whole;
};

static int offer_plugin(void *context, enum memopt_plugin_kind kind, const char *name,
                        const char *path) {
    const struct plugins *plugins = context;
    (void)path;
    if ((plugins->kind == 0 || plugins->kind == kind) &&
        strncmp(plugins->word, name, strlen(plugins->word)) == 0)
        mo_print("%.*s%s\n", plugins->before, plugins->whole, name);
    return 0;
}

static void offer_plugins(enum memopt_plugin_kind kind, const char *word, int is_list) {
    const char *comma = is_list ? strrchr(word, ',') : NULL;
    const char *name = comma != NULL ? comma + 1 : word;
    struct plugins plugins = {
        .kind = kind, .word = name, .before = (int)(name - word), .whole = word};
    /* for its plugin_path; its errors are no matter here */
    struct mo_config_request request = {.file = NULL};
    struct mo_config *config = NULL;
    (void)mo_config_load(&request, &config, NULL);
    (void)mo_plugin_each(offer_plugin, &plugins);
    mo_config_free(config);
}

static void offer_profiles(const char *word) {
    char directory[PATH_MAX];
    DIR *open =
        mo_plugin_own_profiles(directory, sizeof(directory), NULL) < 0 ? NULL : opendir(directory);
    struct dirent *entry;
    while (open != NULL && (entry = readdir(open)) != NULL) {
        char *dot = strrchr(entry->d_name, '.');
        if (dot == NULL || strcmp(dot, ".ini") != 0)
            continue;
        *dot = '\0';
        offer(word, entry->d_name);
    }
    if (open != NULL)
        closedir(open);
}

static void offer_sections(const char *word) {
    for (size_t i = 0; mo_sections[i] != NULL; i++)
        offer(word, mo_sections[i]->name);
}

static void offer_commands(const char *word) {
    for (size_t i = 0; mo_commands[i] != NULL; i++)
        if (mo_commands[i]->summary != NULL)
            offer(word, mo_commands[i]->name);
}

static void offer_value(enum mo_value value, const char *words, const char *word) {
    int is_list =
        value == MO_VALUE_ALLOCATORS || value == MO_VALUE_TRACKERS || value == MO_VALUE_REPORTERS;
    if (value == MO_VALUE_FILE || value == MO_VALUE_SHELL) {
        puts(value == MO_VALUE_FILE ? "files" : "commands");
        return;
    }
    puts(is_list ? "list" : "words");
    switch (value) {
    case MO_VALUE_WORD:
        offer_each(word, words);
        break;
    case MO_VALUE_ALLOCATOR:
    case MO_VALUE_ALLOCATORS:
        offer_plugins(MEMOPT_ALLOCATOR, word, is_list);
        break;
    case MO_VALUE_TRACKERS:
        offer_plugins(MEMOPT_TRACKER, word, is_list);
        break;
    case MO_VALUE_REPORTERS:
        offer_plugins(MEMOPT_REPORTER, word, is_list);
        break;
    case MO_VALUE_PLUGIN:
        offer_plugins((enum memopt_plugin_kind)0, word, 0);
        break;
    case MO_VALUE_PROFILE:
        offer_profiles(word);
        break;
    case MO_VALUE_SECTION:
        offer_sections(word);
        break;
    case MO_VALUE_COMMAND:
        offer_commands(word);
        break;
    default:
        break;
    }
}

/* ------------------------------------------------------------ command line */

/* The option whose value the next word is; NULL: of none. *ret_form: the form that the
 * word chooses. */
static const struct mo_cli_option *wants_value(const struct mo_command *command, const char *word,
                                               size_t *ret_form) {
    const struct mo_cli_option *option;
    for (size_t i = 0; i < command->form_count; i++)
        if (command->forms[i].word != NULL && strcmp(word, command->forms[i].word) == 0)
            *ret_form = i;
    if (word[1] == '-') {
        for (option = command->options; option->name != NULL; option++)
            if (strcmp(word + 2, option->name) == 0)
                return option->argument != NULL ? option : NULL;
        return NULL;
    }
    for (const char *letter = word + 1; *letter != '\0'; letter++)
        for (option = command->options; option->name != NULL; option++)
            if (option->code == *letter && option->argument != NULL)
                return letter[1] == '\0' ? option : NULL;
    return NULL;
}

static void offer_options(const struct mo_command *command, size_t form, const char *word) {
    const struct mo_cli_option *option;
    puts("words");
    for (option = command->options; option->name != NULL; option++) {
        char name[64];
        snprintf(name, sizeof(name), "--%s", option->name);
        if (form == SIZE_MAX || option->forms == 0 || (option->forms >> form & 1) != 0)
            offer(word, name);
    }
}

static void offer_operand(const struct mo_command *command, size_t form, const char *word) {
    if (form == SIZE_MAX && command->forms[0].word != NULL) { /* a word chooses the form */
        puts("words");
        for (size_t i = 0; i < command->form_count; i++)
            offer(word, command->forms[i].word);
        return;
    }
    const struct mo_cli_form *how = &command->forms[form == SIZE_MAX ? 0 : form];
    if (how->operand == MO_VALUE_PROGRAM)
        puts("commands");
    else
        offer_value(how->operand, NULL, word);
}

static void complete(const struct mo_command *command, char *const *words, size_t count) {
    const char *word = words[count - 1];
    size_t form = SIZE_MAX;
    int ended = 0; /* by "--" */
    for (size_t i = 1; i < count - 1; i++) {
        if (!ended && strcmp(words[i], "--") == 0) {
            ended = 1;
        } else if (!ended && words[i][0] == '-' && words[i][1] != '\0') {
            const struct mo_cli_option *option = wants_value(command, words[i], &form);
            /* bash takes --NAME=VALUE apart into three */
            int equals = option != NULL && words[i][1] == '-' && strcmp(words[i + 1], "=") == 0 &&
                         i + 1 < count - 1;
            if (option != NULL && i + 1 + (size_t)equals == count - 1) {
                offer_value(option->value, option->words, word);
                return;
            }
            i += option != NULL ? 1 + (size_t)equals : 0;
        } else if (command->forms[0].operand == MO_VALUE_PROGRAM) {
            printf("program %zu\n", i + 1);
            return;
        } else {
            for (size_t j = 0; j < command->form_count; j++)
                if (command->forms[j].word != NULL && strcmp(words[i], command->forms[j].word) == 0)
                    form = j;
        }
    }
    if (!ended && word[0] == '-')
        offer_options(command, form, word);
    else
        offer_operand(command, form, word);
}

static int complete_main(int argc, char *argv[]) {
    const struct mo_command *command = argc > 2 ? mo_command_find(argv[1]) : NULL;
    if (argc == 2) {
        puts("words");
        offer_commands(argv[1]);
        offer(argv[1], "--help");
        offer(argv[1], "--version");
    } else if (command != NULL) {
        complete(command, argv + 1, (size_t)argc - 1);
    }
    return mo_close_stdout("complete", 1);
}

static const struct mo_cli_option no_options[] = {{.name = NULL}};
static const struct mo_cli_form forms[] = {{.operands = "[WORD ...]"}};
const struct mo_command mo_cmd_complete = {
    .name = "complete",
    .function = complete_main,
    .about = "Prints what may stand next on memopt's command line, for the shell.\n",
    .options = no_options,
    .forms = forms,
    .form_count = 1,
    .usage_status = MO_EXIT_USAGE,
};
