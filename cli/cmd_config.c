/*
 * cmd_config.c - memopt config: shows, checks and explains the configuration,
 * and prints the generated part of memopt.ini(5).
 *
 * Everything it says of a key comes from the key's row in an option table.
 */
#define _GNU_SOURCE
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/settings.h"
#include "core/base/error.h"
#include "core/config/config.h"
#include "core/launch/plan.h"
#include "core/plugin/registry.h"

#include <memopt/show.h>

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* The forms, in the order of forms[]. */
enum { SHOW, CHECK, EXPLAIN, REFERENCE, FORMS };

enum { OPTION_JSON = MO_CLI_LONG, OPTION_PROFILE, OPTION_SET };

struct options {
    struct mo_config_request request;
    struct mo_config_set *sets;
    int json;
};

/* -1: go on; else the exit status. The caller frees options->sets. */
static int read_options(struct mo_cli *cli, struct options *options) {
    options->sets = calloc((size_t)cli->argc, sizeof(*options->sets));
    if (options->sets == NULL) {
        mo_say("config", "out of memory");
        return 1;
    }
    int c;
    while ((c = mo_cli_next(cli)) != 0) {
        switch (c) {
        case 'c':
            options->request.file = optarg;
            break;
        case OPTION_SET:
            options->sets[options->request.set_count++] = (struct mo_config_set){optarg, "--set"};
            break;
        case OPTION_JSON:
            options->json = 1;
            break;
        case OPTION_PROFILE:
            if (mo_profile("config", optarg, &options->request.file) < 0)
                return MO_EXIT_USAGE;
            break;
        default:
            return cli->status;
        }
    }
    options->request.sets = options->sets;
    return -1;
}

/* As a compiler does for a file; what has no place in one is memopt's own to say. */
static void say_error(void *context, const char *message) {
    (void)context;
    if (strncmp(message, "--set", 5) == 0)
        mo_say("config", "%s", message);
    else {
        mo_show_on(stderr, message, MEMOPT_SHOW_LINES);
        fputc('\n', stderr);
    }
}

/* Loads, and prints each error by itself, as a compiler does. */
static int load(struct mo_config_request *request, struct mo_config **ret_config) {
    struct memopt_error error;
    error.message[0] = '\0';
    size_t told = 0;
    request->each_error = say_error;
    request->context = &told;
    int result = mo_config_load(request, ret_config, &error);
    if (result == -ENOMEM || result == -EPERM)
        mo_say("config", "%s", error.message);
    return result;
}

/* ------------------------------------------------------------------- show */

static const char *origin_text(const struct mo_origin *origin, char *buffer, size_t size) {
    if (origin->kind == MO_ORIGIN_DEFAULT)
        return "default";
    if (origin->kind == MO_ORIGIN_SET)
        return origin->file;
    snprintf(buffer, size, "%s:%d", origin->file, origin->line);
    return buffer;
}

static void show_text(const struct mo_config *config) {
    const struct mo_section *section;
    const struct memopt_option *option;
    char buffer[4200];
    for (size_t i = 0; (section = mo_config_section_at(config, i)) != NULL; i++) {
        mo_print("%s[%s]\n", i > 0 ? "\n" : "", section->name);
        for (size_t j = 0; (option = mo_section_option(section, j)) != NULL; j++) {
            struct mo_origin origin;
            const char *value = mo_config_get(config, section->name, option->key, &origin);
            const char *from = origin_text(&origin, buffer, sizeof(buffer));
            if (value == NULL)
                mo_print("; %s is unset\n", option->key);
            else {
                int used = mo_print("%s = %s", option->key, value);
                mo_print("%*s ; %s\n", used < 40 ? 40 - used : 0, "", from);
            }
        }
    }
}

static json_t *entry_json(const struct memopt_option *option, const char *value,
                          const struct mo_origin *origin) {
    static const char *const kinds[] = {
        [MO_ORIGIN_DEFAULT] = "default", [MO_ORIGIN_FILE] = "file", [MO_ORIGIN_SET] = "set"};
    json_t *entry = json_pack("{s:s, s:o, s:s}", "type", mo_option_type_name(option->type), "value",
                              mo_json_string(value), "origin", kinds[origin->kind]);
    int failed = 0;
    if (origin->kind == MO_ORIGIN_FILE) {
        failed |= json_object_set_new(entry, "file", mo_json_string(origin->file));
        failed |= json_object_set_new(entry, "line", json_integer(origin->line));
    } else if (origin->kind == MO_ORIGIN_SET)
        failed |= json_object_set_new(entry, "option", mo_json_string(origin->file));
    if (failed == 0)
        return entry;
    json_decref(entry);
    return NULL;
}

/* {"sections": {"memopt": {"allocator": {"value": "libc", "origin": "default"}}}} */
static int show_json(const struct mo_config *config) {
    const struct mo_section *section;
    const struct memopt_option *option;
    json_t *sections = json_object();
    int failed = 0;
    for (size_t i = 0; (section = mo_config_section_at(config, i)) != NULL; i++) {
        json_t *keys = json_object();
        for (size_t j = 0; (option = mo_section_option(section, j)) != NULL; j++) {
            struct mo_origin origin;
            const char *value = mo_config_get(config, section->name, option->key, &origin);
            failed |= json_object_set_new(keys, option->key, entry_json(option, value, &origin));
        }
        failed |= json_object_set_new(sections, section->name, keys);
    }
    json_t *root = json_pack("{s:i, s:o}", "version", 1, "sections", sections);
    if (failed != 0) {
        json_decref(root);
        root = NULL;
    }
    return mo_print_json("config", root);
}

static int show(struct options *options) {
    struct mo_config *config;
    if (load(&options->request, &config) < 0)
        return MO_EXIT_USAGE;
    int status = 0;
    if (options->json)
        status = show_json(config);
    else
        show_text(config);
    mo_config_free(config);
    return status != 0 ? status : mo_close_stdout("config", 1);
}

static int check(struct options *options) {
    struct mo_config *config;
    options->request.only_file = options->request.file != NULL;
    if (load(&options->request, &config) < 0)
        return MO_EXIT_USAGE;
    struct memopt_error error;
    int result = mo_plan_check(config, &error);
    if (result < 0)
        say_error(NULL, error.message);
    mo_config_free(config);
    return result < 0 ? MO_EXIT_USAGE : 0;
}

/* ---------------------------------------------------------------- explain */

static void explain_key(const char *section, const struct memopt_option *option) {
    char text[1024];
    mo_print("%s.%s\n", section, option->key);
    mo_key_summary(option, text, sizeof(text));
    mo_print_wrapped(text, 4, 0);
    mo_print_wrapped(option->help, 4, 0);
}

static void explain_section(const struct mo_section *section) {
    mo_print("[%s]\n", section->name);
    mo_print_wrapped(section->help, 4, 0);
    const struct memopt_option *option;
    for (size_t i = 0; (option = mo_section_option(section, i)) != NULL; i++) {
        putchar('\n');
        explain_key(section->name, option);
    }
}

static int name_plugin(void *context, enum memopt_plugin_kind kind, const char *name,
                       const char *path) {
    (void)path;
    (void)context;
    mo_print("    %s.%s\n", mo_plugin_kind_name(kind), name);
    return 0;
}

static void explain_all(void) {
    for (size_t i = 0; mo_sections[i] != NULL; i++) {
        struct mo_section section;
        mo_section_of_def(mo_sections[i], mo_sections[i]->name, &section);
        explain_section(&section);
        putchar('\n');
    }
    printf("The sections of plugins ('memopt config explain SECTION' shows their keys):\n");
    mo_plugin_each(name_plugin, NULL);
}

static int unknown_key(const struct mo_section *section, const char *key) {
    const struct memopt_option *option;
    struct mo_nearest nearest = {.word = key};
    for (size_t i = 0; (option = mo_section_option(section, i)) != NULL; i++)
        mo_nearest_try(&nearest, option->key);
    if (nearest.best != NULL)
        mo_say("config", "[%s] has no key '%s'; did you mean '%s'?", section->name, key,
               nearest.best);
    else
        mo_say("config", "[%s] has no key '%s'; 'memopt config explain %s' lists them",
               section->name, key, section->name);
    return MO_EXIT_USAGE;
}

/* Any section, and "heap" for all heaps; 0: there is none of that name. */
static int find_section(const struct mo_config *config, const char *name,
                        struct mo_section *ret_section, struct memopt_error *error) {
    const struct mo_section_def *def = mo_section_def(name);
    if (def == NULL)
        return mo_section_describe(config, name, ret_section, error) == 0;
    mo_section_of_def(def, name, ret_section);
    return 1;
}

static const struct memopt_option *find_option(const struct mo_section *section, const char *key) {
    const struct memopt_option *option;
    for (size_t i = 0; (option = mo_section_option(section, i)) != NULL; i++)
        if (strcmp(option->key, key) == 0)
            return option;
    return NULL;
}

/* `name` is SECTION or SECTION.KEY, and sections have dots in them: a key goes
 * first, as a heap may have any name. */
static int explain(const struct mo_config *config, const char *name) {
    struct mo_section whole, part;
    struct memopt_error error, other;
    const char *dot = strrchr(name, '.');
    mo_auto_free char *left = dot != NULL ? strndup(name, (size_t)(dot - name)) : NULL;
    int has_part = left != NULL && find_section(config, left, &part, &other);
    const struct memopt_option *option = has_part ? find_option(&part, dot + 1) : NULL;
    if (option != NULL) {
        explain_key(left, option);
        return 0;
    }
    if (find_section(config, name, &whole, &error)) {
        explain_section(&whole);
        return 0;
    }
    if (has_part)
        return unknown_key(&part, dot + 1);
    mo_say("config", "%s", error.message);
    return MO_EXIT_USAGE;
}

/* --------------------------------------------------------------- reference */

/* One sentence, beginning with a capital, in lines that mandoc -T lint likes. */
static void mdoc_sentence(const char *text) {
    int column = 0, first = 1;
    while (*text != '\0') {
        int length = (int)strcspn(text, " ");
        if (column > 0) {
            putchar(column + 1 + length > 76 ? '\n' : ' ');
            column = column + 1 + length > 76 ? 0 : column + 1;
        }
        if (column == 0 && (*text == '.' || *text == '\''))
            fputs("\\&", stdout);
        for (int i = 0; i < length; i++)
            if (text[i] == '\\')
                fputs("\\e", stdout);
            else
                putchar(first && i == 0 && text[i] >= 'a' && text[i] <= 'z' ? text[i] - 'a' + 'A'
                                                                            : text[i]);
        first = 0;
        column += length;
        text += length + (text[length] == ' ');
    }
    fputs(".\n", stdout);
}

static void mdoc_key(const struct memopt_option *option) {
    char text[1024];
    printf(".It Cm %s", option->key);
    if (option->value != NULL && *option->value != '\0')
        printf(" No = Ar \"%s\"", option->value);
    putchar('\n');
    mo_key_type(option, text, sizeof(text));
    mdoc_sentence(text);
    mdoc_sentence(option->help);
}

/* What stands in memopt.ini(5) between the marks of a section. */
static int reference(const char *name) {
    struct mo_section section;
    struct memopt_error error;
    if (!find_section(NULL, name, &section, &error)) {
        mo_say("config", "%s", error.message);
        return MO_EXIT_USAGE;
    }
    const struct memopt_option *option = mo_section_option(&section, 0);
    if (option == NULL) {
        printf("This section has no keys.\n");
        return 0;
    }
    printf(".Bl -tag -width Ds\n");
    for (size_t i = 0; (option = mo_section_option(&section, i)) != NULL; i++)
        mdoc_key(option);
    printf(".El\n");
    return 0;
}

static int explain_operand(const struct options *options, const char *operand) {
    /* for its plugin_path; errors in it are none of explain's business */
    struct mo_config *config = NULL;
    int status = 0;
    (void)mo_config_load(&options->request, &config, NULL);
    if (operand == NULL)
        explain_all();
    else
        status = explain(config, operand);
    mo_config_free(config);
    return status;
}

static const struct mo_cli_option options_table[] = {
    {.code = 'c',
     .name = "config",
     .argument = "FILE",
     .value = MO_VALUE_FILE,
     .forms = 1u << SHOW | 1u << CHECK,
     .help = "read FILE after the usual files (check: only it)"},
    MO_CLI_HELP,
    {.code = OPTION_JSON, .name = "json", .forms = 1u << SHOW, .help = "print JSON"},
    MO_CLI_PROFILE(OPTION_PROFILE, 1u << SHOW | 1u << CHECK),
    {.code = OPTION_SET,
     .name = "set",
     .argument = "SECTION.KEY=VALUE",
     .forms = 1u << SHOW | 1u << CHECK,
     .help = "set a value, after all files; may be repeated"},
    {.name = NULL},
};
static const struct mo_cli_form forms[] = {
    [SHOW] = {.word = "show"},
    [CHECK] = {.word = "check"},
    [EXPLAIN] = {.word = "explain", .operands = "[SECTION[.KEY]]", .operand = MO_VALUE_SECTION},
    /* for man/reference.sh */
    [REFERENCE] = {.word = "reference"},
};

static int config_main(int argc, char *argv[]) {
    struct mo_cli cli = {.command = &mo_cmd_config, .argc = argc, .argv = argv};
    struct options options;
    memset(&options, 0, sizeof(options));
    int status = read_options(&cli, &options);
    const char *what = argv[optind < argc ? optind : 0];
    const char *operand = optind + 1 < argc ? argv[optind + 1] : NULL;
    int count = argc - optind - 1, form = 0;
    struct mo_nearest nearest = {.word = what};
    while (form < FORMS && strcmp(what, forms[form].word) != 0) {
        if (form != REFERENCE)
            mo_nearest_try(&nearest, forms[form].word);
        form++;
    }
    if (status >= 0)
        ;
    else if (count < 0)
        status = mo_wrong_usage("config", "what: 'show', 'check' or 'explain'?");
    else if (form == FORMS)
        status =
            nearest.best != NULL
                ? mo_wrong_usage("config", "unknown '%s'; did you mean '%s'?", what, nearest.best)
                : mo_wrong_usage("config", "unknown '%s', not show, check or explain", what);
    else if ((status = mo_cli_check_form(&cli, (size_t)form)) != 0)
        ;
    else if ((form == SHOW || form == CHECK) && count > 0)
        status = mo_wrong_usage("config", "'%s' takes no argument '%s'; a file goes after -c", what,
                                operand);
    else if (count > 1 || (form == REFERENCE && count == 0))
        status = mo_wrong_usage("config", "'%s' takes one section", what);
    else if (form == SHOW)
        status = show(&options);
    else if (form == CHECK)
        status = check(&options);
    else {
        status = form == EXPLAIN ? explain_operand(&options, operand) : reference(operand);
        if (status == 0)
            status = mo_close_stdout("config", 1);
    }
    free(options.sets);
    return status;
}

const struct mo_command mo_cmd_config = {
    .name = "config",
    .summary = "show, check or explain the configuration",
    .function = config_main,
    .about = "show     prints every effective value and where it came from\n"
             "check    prints all errors; with -c of that file alone\n"
             "explain  says what sections and keys there are and what they mean\n",
    .options = options_table,
    .forms = forms,
    .form_count = REFERENCE,
    .usage_status = MO_EXIT_USAGE,
};
