/*
 * cmd_plugins.c - memopt plugins: which plugins can be found, whether they can
 * be used, and what options they have; with --test, whether one does what
 * memopt/plugin.h promises (conformance.c, which is a program of its own).
 */
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/settings.h"
#include "core/base/error.h"
#include "core/config/config.h"
#include "core/plugin/registry.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct listing {
    const struct mo_config *config; /* NULL: it has errors */
    const char *only;               /* NULL: all */
    json_t *json;                   /* NULL: text */
    int failed;                     /* memory was short: something is missing in `json` */
    size_t found;
    struct mo_nearest nearest;
    char near[64]; /* nearest.best, whose text is gone when the callback returns */
};

/* What is known of a plugin once it has been tried. */
struct tried {
    struct mo_plugin *plugin; /* NULL: it can't be loaded */
    int available;
    char library[PATH_MAX]; /* behind an allocator; "" : none */
    struct memopt_error error;
};

static void try_plugin(enum memopt_plugin_kind kind, const char *name, struct tried *tried) {
    tried->plugin = NULL;
    tried->library[0] = '\0';
    tried->error.message[0] = '\0';
    int result = mo_plugin_load(kind, name, &tried->plugin, &tried->error);
    if (result == 0 && tried->plugin->descriptor.kind == MEMOPT_ALLOCATOR)
        result = mo_plugin_backend_library(tried->plugin, tried->library, sizeof(tried->library),
                                           &tried->error);
    tried->available = result == 0;
}

/* A value in effect, and what to say of it besides. */
static const char *effective(const struct listing *listing, const struct mo_section *section,
                             const struct memopt_option *option, char *from, size_t size) {
    struct mo_origin origin = {MO_ORIGIN_DEFAULT, NULL, 0};
    const char *value = listing->config != NULL
                            ? mo_config_get(listing->config, section->name, option->key, &origin)
                            : NULL;
    if (origin.kind == MO_ORIGIN_DEFAULT) {
        snprintf(from, size, "default");
        return option->value;
    }
    snprintf(from, size, "%s:%d", origin.file, origin.line);
    return value;
}

static json_t *option_json(const struct listing *listing, const struct mo_section *section,
                           const struct memopt_option *option) {
    char from[PATH_MAX + 16];
    const char *value = effective(listing, section, option, from, sizeof(from));
    json_t *json =
        json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "key", option->key, "type",
                  mo_option_type_name(option->type), "default", mo_json_string(option->value),
                  "value", mo_json_string(value), "origin", mo_json_string(from), "min",
                  mo_json_string(option->min), "max", mo_json_string(option->max), "unit",
                  mo_json_string(option->unit), "help", mo_json_string(option->help));
    if (option->choices == NULL)
        return json;
    json_t *choices = json_array();
    int failed = 0;
    for (size_t i = 0; option->choices[i] != NULL; i++)
        failed |= json_array_append_new(choices, mo_json_string(option->choices[i]));
    failed |= json_object_set_new(json, "choices", choices);
    if (failed == 0)
        return json;
    json_decref(json);
    return NULL;
}

/* A line for each, as a configuration has it. */
static void print_options(const struct listing *listing, const struct mo_section *section) {
    const struct memopt_option *option;
    for (size_t i = 0; (option = mo_section_option(section, i)) != NULL; i++) {
        char from[PATH_MAX + 16];
        const char *value = effective(listing, section, option, from, sizeof(from));
        int used = mo_print("%s = %s", option->key, value == NULL ? "" : value);
        mo_print("%*s ; %s", used < 28 ? 28 - used : 0, "", option->help);
        mo_print(strcmp(from, "default") == 0 ? "\n" : " (%s)\n", from);
    }
    if (section->table.first != NULL)
        mo_print("; 'memopt config explain %s' says more\n", section->name);
}

static void print_text(const struct listing *listing, enum memopt_plugin_kind kind,
                       const char *name, const char *path, const struct tried *tried,
                       const struct mo_section *section) {
    const char *version = tried->plugin != NULL ? tried->plugin->descriptor.version : "-";
    mo_print("%s%-9s %-10s %-8s %s\n", listing->only != NULL && listing->found > 1 ? "\n" : "",
             mo_plugin_kind_name(kind), name, version,
             tried->plugin != NULL ? tried->plugin->descriptor.summary : "");
    if (listing->only != NULL || !tried->available)
        mo_print("    %s\n", path);
    if (!tried->available) {
        char message[MEMOPT_ERROR_MAX];
        memcpy(message, tried->error.message, sizeof(message));
        for (char *line = message, *next; line != NULL; line = next) {
            if ((next = strchr(line, '\n')) != NULL)
                *next++ = '\0';
            mo_print("    %s%s\n", line == message ? "not available: " : "", line);
        }
    } else if (listing->only != NULL && tried->library[0] != '\0')
        mo_print("    library: %s\n", tried->library);
    if (listing->only != NULL && section->name != NULL)
        print_options(listing, section);
}

static void show_plugin(struct listing *listing, enum memopt_plugin_kind kind, const char *name,
                        const char *path, const struct tried *tried) {
    struct mo_section section = {.name = NULL};
    char section_name[PATH_MAX + 16];
    listing->found++;
    snprintf(section_name, sizeof(section_name), "%s.%s", mo_plugin_kind_name(kind), name);
    if (tried->plugin != NULL)
        mo_section_of_plugin(tried->plugin, section_name, &section);
    if (listing->json == NULL) {
        print_text(listing, kind, name, path, tried, &section);
        return;
    }
    const struct memopt_plugin *descriptor =
        tried->plugin != NULL ? &tried->plugin->descriptor : NULL;
    json_t *json = json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:b, s:o, s:o}", "kind", mo_plugin_kind_name(kind), "name", name,
        "version", mo_json_string(descriptor != NULL ? descriptor->version : NULL), "summary",
        mo_json_string(descriptor != NULL ? descriptor->summary : NULL), "path",
        mo_json_string(path), "available", tried->available, "why_not",
        mo_json_string(tried->available ? NULL : tried->error.message), "library",
        mo_json_string(tried->library[0] != '\0' ? tried->library : NULL));
    json_t *options = json_array();
    const struct memopt_option *option;
    for (size_t i = 0; section.name != NULL && (option = mo_section_option(&section, i)) != NULL;
         i++)
        listing->failed |= json_array_append_new(options, option_json(listing, &section, option));
    listing->failed |= json_object_set_new(json, "options", options);
    listing->failed |= json_array_append_new(listing->json, json);
}

static int list_plugin(void *context, enum memopt_plugin_kind kind, const char *name,
                       const char *path) {
    struct listing *listing = context;
    if (listing->only != NULL) {
        mo_nearest_try(&listing->nearest, name);
        if (listing->nearest.best == name) {
            snprintf(listing->near, sizeof(listing->near), "%s", name);
            listing->nearest.best = listing->near;
        }
        if (strcmp(listing->only, name) != 0)
            return 0;
    }
    struct tried tried;
    try_plugin(kind, path, &tried);
    show_plugin(listing, kind, name, path, &tried);
    return 0;
}

/* A file by its path: what is no plugin is an error of whoever names it. */
static int show_path(struct listing *listing, const char *path) {
    struct tried tried;
    try_plugin((enum memopt_plugin_kind)0, path, &tried);
    if (tried.plugin == NULL) {
        mo_say("plugins", "%s", tried.error.message);
        return MO_EXIT_USAGE;
    }
    const struct memopt_plugin *descriptor = &tried.plugin->descriptor;
    show_plugin(listing, (enum memopt_plugin_kind)descriptor->kind, descriptor->name, path, &tried);
    return 0;
}

static int list(const struct mo_config_request *request, const char *only, int as_json) {
    struct mo_config *config = NULL;
    struct memopt_error error;
    /* Where the plugins are may stand in a configuration that has errors in
     * other places: then the rest is still worth showing. */
    int usable = mo_plugin_check_directories(&error) == 0;
    if (!usable) /* said once, not of each value and plugin */
        mo_say("plugins", "%s\nthe configuration is not read, so these are not its values",
               error.message);
    if (mo_config_load(request, &config, &error) < 0 && usable)
        mo_say("plugins", "the configuration has errors, so these are not its values\n%s",
               error.message);
    struct listing listing = {
        .config = config, .only = only, .nearest = {.word = only != NULL ? only : ""}};
    if (as_json)
        listing.json = json_array();
    int status = 0;
    if (only != NULL && strchr(only, '/') != NULL) {
        status = show_path(&listing, only);
    } else {
        mo_plugin_each(list_plugin, &listing);
    }
    if (status != 0) {
        json_decref(listing.json);
    } else if (only != NULL && listing.found == 0) {
        const char *package = mo_plugin_build_package(MEMOPT_ALLOCATOR, only);
        if (package != NULL)
            mo_say("plugins",
                   "there is no plugin '%s': memopt was built without it\n"
                   "install %s, then configure and build memopt again",
                   only, package);
        else if (listing.nearest.best != NULL)
            mo_say("plugins", "there is no plugin '%s'; did you mean '%s'?", only,
                   listing.nearest.best);
        else
            mo_say("plugins", "there is no plugin '%s'; 'memopt plugins' lists them", only);
        json_decref(listing.json);
        status = MO_EXIT_USAGE;
    } else if (as_json) {
        json_t *root = json_pack("{s:i, s:o}", "version", 1, "plugins", listing.json);
        if (listing.failed != 0) {
            json_decref(root);
            root = NULL;
        }
        status = mo_print_json("plugins", root);
    }
    mo_config_free(config);
    return status != 0 ? status : mo_close_stdout("plugins", 1);
}

/* -------------------------------------------------------------------- --test */

struct search {
    const char *name;
    char *path; /* of the first plugin of that name */
};

static int find_plugin(void *context, enum memopt_plugin_kind kind, const char *name,
                       const char *path) {
    struct search *search = context;
    (void)kind;
    if (strcmp(name, search->name) != 0)
        return 0;
    search->path = strdup(path);
    return 1;
}

/* A plugin's absolute path, by name or as a file; the caller frees it. NULL: it is said
 * why there is none. */
static char *path_of(const char *plugin) {
    struct mo_config_request request = {.file = NULL};
    struct mo_config *config = NULL;
    struct search search = {.name = plugin};
    if (strpbrk(plugin, "/.") != NULL) { /* which no name has */
        char *path = realpath(plugin, NULL);
        if (path == NULL)
            mo_say("plugins", "the plugin '%s' can't be opened: %s", plugin, strerror(errno));
        return path;
    }
    (void)mo_config_load(&request, &config, NULL); /* for its plugin_path */
    mo_plugin_each(find_plugin, &search);
    mo_config_free(config);
    if (search.path == NULL)
        mo_say("plugins", "there is no plugin '%s'; 'memopt plugins' lists them", plugin);
    return search.path;
}

/* The suite is another program, which the plugin may crash; what it says goes where memopt's
 * output goes. */
static int run_suite(char *const *argv) {
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        execv(argv[0], argv);
        mo_say("plugins", "'%s' can't be executed: %s", argv[0], strerror(errno));
        _exit(MO_EXIT_USAGE);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        mo_say("plugins", "the suite can't be started: %s", strerror(errno));
        return MO_EXIT_USAGE;
    }
    if (WIFSIGNALED(status)) {
        mo_say("plugins", "the plugin ended the suite with SIG%s", sigabbrev_np(WTERMSIG(status)));
        return 1;
    }
    return WEXITSTATUS(status) <= 1 ? WEXITSTATUS(status) : MO_EXIT_USAGE;
}

/* `arguments`: options of the suite. */
static int test_plugin(const char *plugin, const char *const *arguments, size_t count) {
    char suite[PATH_MAX], own[PATH_MAX];
    struct memopt_error error = MEMOPT_ERROR_INIT;
    mo_auto_free char *path = path_of(plugin);
    mo_auto_free const char **argv = calloc(count + 5, sizeof(*argv));
    ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);
    if (path == NULL)
        return MO_EXIT_USAGE;
    if (argv == NULL) {
        mo_say("plugins", "out of memory");
        return MO_EXIT_USAGE;
    }
    if (mo_plugin_own_library("conformance", suite, sizeof(suite), &error) < 0) {
        mo_say("plugins", "%s", error.message);
        return MO_EXIT_USAGE;
    }
    size_t used = 0;
    argv[used++] = suite;
    if (length > 0) {
        own[length] = '\0';
        argv[used++] = "--memopt";
        argv[used++] = own;
    }
    for (size_t i = 0; i < count; i++)
        argv[used++] = arguments[i];
    argv[used] = path;
    return run_suite((char *const *)(uintptr_t)argv);
}

/* ------------------------------------------------------------------- command */

enum { LIST, TEST }; /* the forms */
enum {
    OPTION_CASE = MO_CLI_LONG,
    OPTION_JSON,
    OPTION_LIMIT,
    OPTION_PROFILE,
    OPTION_SCALE,
    OPTION_SET,
    OPTION_TEST,
};

static int plugins_main(int argc, char *argv[]) {
    struct mo_cli cli = {.command = &mo_cmd_plugins, .argc = argc, .argv = argv};
    struct mo_config_request request = {.file = NULL};
    mo_auto_free const char **arguments = calloc(2 * (size_t)argc, sizeof(*arguments));
    size_t count = 0, form = LIST;
    int as_json = 0, c;
    if (arguments == NULL) {
        mo_say("plugins", "out of memory");
        return 1;
    }
    while ((c = mo_cli_next(&cli)) != 0) {
        switch (c) {
        case 'c':
            request.file = optarg;
            break;
        case OPTION_JSON:
            as_json = 1;
            break;
        case OPTION_PROFILE:
            if (mo_profile("plugins", optarg, &request.file) < 0)
                return MO_EXIT_USAGE;
            break;
        case OPTION_TEST:
            form = TEST;
            break;
        case OPTION_CASE:
        case OPTION_LIMIT:
        case OPTION_SCALE:
        case OPTION_SET:
            arguments[count++] = c == OPTION_CASE    ? "--case"
                                 : c == OPTION_LIMIT ? "--limit"
                                 : c == OPTION_SCALE ? "--scale"
                                                     : "--set";
            arguments[count++] = optarg;
            break;
        default:
            return cli.status;
        }
    }
    int status = mo_cli_check_form(&cli, form);
    if (status != 0)
        return status;
    if (argc - optind > 1)
        return mo_wrong_usage("plugins", "one plugin at a time, not also '%s'", argv[optind + 1]);
    if (form == LIST)
        return list(&request, argv[optind], as_json);
    if (argc == optind)
        return mo_wrong_usage("plugins", "missing PLUGIN");
    return test_plugin(argv[optind], arguments, count);
}

static const struct mo_cli_option options[] = {
    {.code = OPTION_CASE,
     .name = "case",
     .argument = "CASE",
     .forms = 1u << TEST,
     .help = "test nothing but this"},
    {.code = 'c',
     .name = "config",
     .argument = "FILE",
     .value = MO_VALUE_FILE,
     .forms = 1u << LIST,
     .help = "read FILE after the usual files"},
    MO_CLI_HELP,
    {.code = OPTION_JSON, .name = "json", .forms = 1u << LIST, .help = "print JSON"},
    {.code = OPTION_LIMIT,
     .name = "limit",
     .argument = "SIZE",
     .forms = 1u << TEST,
     .help = "the allocator has no more memory than this"},
    MO_CLI_PROFILE(OPTION_PROFILE, 1u << LIST),
    {.code = OPTION_SCALE,
     .name = "scale",
     .argument = "N",
     .forms = 1u << TEST,
     .help = "test an Nth as often, as the allocator is slow"},
    {.code = OPTION_SET,
     .name = "set",
     .argument = "KEY=VALUE",
     .forms = 1u << TEST,
     .help = "test with this value of an option of the plugin's; may be repeated"},
    {.code = OPTION_TEST,
     .name = "test",
     .forms = 1u << TEST,
     .help = "test whether a plugin does what memopt/plugin.h promises for it"},
    {.name = NULL},
};
static const struct mo_cli_form forms[] = {
    [LIST] = {.operands = "[PLUGIN]", .operand = MO_VALUE_PLUGIN},
    [TEST] = {.word = "--test", .operands = "PLUGIN", .operand = MO_VALUE_FILE},
};
const struct mo_command mo_cmd_plugins = {
    .name = "plugins",
    .summary = "list plugins and their options, or test one",
    .function = plugins_main,
    .about = "Lists the allocator, tracker and reporter plugins that can be found, or shows\n"
             "one, given by name or absolute path, and its options with their values, as a\n"
             "configuration has them.\n"
             "With --test, runs the conformance suite on one: a line for each case.\n",
    .options = options,
    .forms = forms,
    .form_count = 2,
    .more = "The exit status is 0, 1 if a case failed or nothing can be written, 2 if there\n"
            "is no such plugin, it can't be loaded or tested, or for wrong usage.\n",
    .usage_status = MO_EXIT_USAGE,
};
