/*
 * cmd_env.c - memopt env: the environment that puts a program on an allocator where
 * memopt itself is not wanted: in a container, a unit, a script. And what goes with it,
 * `memopt run --exec`, which becomes the program in that environment.
 */
#include "config.h"

#include "cli/cmd.h"
#include "cli/settings.h"

#include "core/base/error.h"
#include "core/base/preload.h"
#include "core/launch/environment.h"
#include "core/launch/launch.h"
#include "core/launch/plan.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char name[] = "env";

/* --------------------------------------------------------------- variables */

/* What the plan says, kept until all of it is there: half an environment must not be
 * printed, as somebody evaluates it. */
struct change {
    char *variable, *value;
    char mode; /* as mo_plan_variables() has it */
    char separator[2];
};

struct changes {
    struct change items[128];
    size_t count;
    int failed;
};

static void add_change(void *context, const char *variable, const char *value, char mode,
                       const char *separator) {
    struct changes *changes = context;
    if (changes->count == sizeof(changes->items) / sizeof(changes->items[0])) {
        changes->failed = 1;
        return;
    }
    struct change *change = &changes->items[changes->count++];
    *change = (struct change){.variable = strdup(variable), .value = strdup(value), .mode = mode};
    if (separator != NULL)
        change->separator[0] = separator[0];
    if (change->variable == NULL || change->value == NULL)
        changes->failed = 1;
}

static void free_changes(struct changes *changes) {
    for (size_t i = 0; i < changes->count; i++) {
        free(changes->items[i].variable);
        free(changes->items[i].value);
    }
}

/* ---------------------------------------------------------------- formats */

/* `text` with `escape` before each of `special`. */
static void put_escaped(const char *text, const char *special, char escape) {
    for (; *text != '\0'; text++) {
        if (strchr(special, *text) != NULL)
            putchar(escape);
        putchar(*text);
    }
}

/* What a shell and a Dockerfile put in: the value that is there, with the separator if
 * there is one. */
static void put_old(const struct change *change) {
    if (change->mode == '<')
        printf("${%s:+%s$%s}", change->variable, change->separator, change->variable);
    else
        printf("${%s:+$%s%s}", change->variable, change->variable, change->separator);
}

/* In double quotes, where a shell and a Dockerfile read these alike; "`" is the shell's. */
static void print_expanded(const struct change *change, const char *head, const char *special) {
    printf("%s%s=\"", head, change->variable);
    if (change->mode == '+')
        put_old(change);
    put_escaped(change->value, special, '\\');
    if (change->mode == '<')
        put_old(change);
    printf("\"\n");
}

static void print_sh(const struct change *change) {
    print_expanded(change, "export ", "\\\"$`");
}

static void print_docker(const struct change *change) {
    print_expanded(change, "ENV ", "\\\"$");
}

static void print_systemd(const char *variable, const char *value) {
    printf("Environment=\"%s=", variable);
    for (; *value != '\0'; value++)
        if (*value == '%')
            fputs("%%", stdout);
        else
            put_escaped((char[]){*value, '\0'}, "\\\"", '\\');
    printf("\"\n");
}

/* A string of YAML is one of JSON; "$(" would be a reference, "$$(" is none. */
static void print_k8s(const char *variable, const char *value) {
    printf("- name: %s\n  value: \"", variable);
    for (; *value != '\0'; value++) {
        if (value[0] == '$' && value[1] == '(')
            putchar('$');
        put_escaped((char[]){*value, '\0'}, "\\\"", '\\');
    }
    printf("\"\n");
}

static const struct format {
    const char *name;
    void (*print)(const struct change *change); /* NULL: it doesn't put in what is there */
    const char *head;
    void (*print_whole)(const char *variable, const char *value);
} formats[] = {
    {"sh", print_sh, NULL, NULL},
    {"docker", print_docker, NULL, NULL},
    {"systemd", NULL, "[Service]\n", print_systemd},
    {"k8s", NULL, "", print_k8s},
};
enum { FORMATS = sizeof(formats) / sizeof(formats[0]) };

static const struct format *find_format(const char *wanted) {
    for (size_t i = 0; i < FORMATS; i++)
        if (strcmp(formats[i].name, wanted) == 0)
            return &formats[i];
    return NULL;
}

/* An outer memopt run's entries are not the user's. */
static void forget_outer(struct mo_environment *environment) {
    const char *preloaded = mo_environment_get(environment, "MEMOPT_PRELOADED");
    const char *list = mo_environment_get(environment, "LD_PRELOAD");
    mo_auto_free char *rest = list == NULL ? NULL : strdup(list);
    if (preloaded == NULL || rest == NULL)
        return;
    mo_preload_forget(rest, preloaded);
    mo_environment_set(environment, "LD_PRELOAD", rest);
}

/* Each variable once, after what memopt's own environment has in it. */
static int print_whole(const struct changes *changes, const struct format *format,
                       struct memopt_error *error) {
    struct mo_environment environment;
    mo_environment_init(&environment, environ);
    forget_outer(&environment);
    for (size_t i = 0; i < changes->count; i++) {
        const struct change *change = &changes->items[i];
        if (change->mode == '<')
            mo_environment_prepend(&environment, change->variable, change->value,
                                   change->separator);
        else if (change->mode == '+')
            mo_environment_append(&environment, change->variable, change->value, change->separator);
        else
            mo_environment_set(&environment, change->variable, change->value);
    }
    int r = mo_environment_error(&environment);
    if (r < 0)
        mo_fail(error, r, "out of memory");
    else if (changes->count > 0)
        fputs(format->head, stdout);
    for (size_t i = 0; i < changes->count && r == 0; i++) {
        const char *variable = changes->items[i].variable;
        size_t first = 0;
        while (strcmp(changes->items[first].variable, variable) != 0)
            first++;
        if (first == i)
            format->print_whole(variable, mo_environment_get(&environment, variable));
    }
    mo_environment_free(&environment);
    return r;
}

/* ---------------------------------------------------------------- command */

enum { OPTION_FORMAT = MO_CLI_LONG, OPTION_PROFILE, OPTION_SET };

static int print_for(const struct mo_config_request *request, const struct format *format) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_config *config = NULL;
    struct changes changes = {.count = 0};
    int r = mo_config_load(request, &config, &error);
    if (r == 0)
        r = mo_plan_variables(config, add_change, &changes, &error);
    if (r == 0 && changes.failed)
        r = mo_fail(&error, -ENOMEM, "out of memory");
    if (r == 0 && format->print == NULL)
        r = print_whole(&changes, format, &error);
    for (size_t i = 0; i < changes.count && r == 0 && format->print != NULL; i++)
        format->print(&changes.items[i]);
    if (r == 0 && changes.count == 0)
        mo_say(name, "nothing to set: the C library's allocator with its defaults");
    if (r < 0)
        mo_say(name, "%s", error.message);
    free_changes(&changes);
    mo_config_free(config);
    return r < 0 ? 1 : mo_close_stdout(name, 1);
}

/* < 0: go on; else the exit status. */
static int parse_options(int argc, char *argv[], struct mo_config_request *request,
                         struct mo_config_set *sets, char **ret_allocator,
                         const struct format **ret_format) {
    struct mo_cli cli = {.command = &mo_cmd_env, .argc = argc, .argv = argv};
    const char *allocator = NULL;
    int option;
    while ((option = mo_cli_next(&cli)) != 0) {
        switch (option) {
        case 'a':
            allocator = optarg;
            break;
        case 'c':
            request->file = optarg;
            break;
        case OPTION_FORMAT:
            if ((*ret_format = find_format(optarg)) == NULL)
                return mo_wrong_usage(name, "'%s' is not a format: sh, docker, systemd or k8s",
                                      optarg);
            break;
        case OPTION_PROFILE:
            if (mo_profile(name, optarg, &request->file) < 0)
                return MO_EXIT_USAGE;
            break;
        case OPTION_SET:
            sets[request->set_count++] =
                (struct mo_config_set){.assignment = optarg, .label = "--set"};
            break;
        default:
            return cli.status;
        }
    }
    if (optind < argc)
        return mo_wrong_usage(name, "'%s': env takes no program; 'memopt run --exec' starts one",
                              argv[optind]);
    if (allocator == NULL)
        return -1;
    if (asprintf(ret_allocator, "memopt.allocator=%s", allocator) < 0) {
        *ret_allocator = NULL;
        mo_say(name, "out of memory");
        return 1;
    }
    sets[request->set_count++] =
        (struct mo_config_set){.assignment = *ret_allocator, .label = "-a"};
    return -1;
}

static int env_main(int argc, char *argv[]) {
    const struct format *format = &formats[0];
    mo_auto_free char *allocator = NULL;
    mo_auto_free struct mo_config_set *sets = calloc((size_t)argc + 1, sizeof(*sets));
    struct mo_config_request request = {.sets = sets};
    if (sets == NULL) {
        mo_say(name, "out of memory");
        return 1;
    }
    int status = parse_options(argc, argv, &request, sets, &allocator, &format);
    return status >= 0 ? status : print_for(&request, format);
}

static const struct mo_cli_option options[] = {
    {.code = 'a',
     .name = "allocator",
     .argument = "ALLOCATOR",
     .value = MO_VALUE_ALLOCATOR,
     .help = "the program's malloc: a plugin's name or absolute path"},
    {.code = 'c',
     .name = "config",
     .argument = "FILE",
     .value = MO_VALUE_FILE,
     .help = "read FILE instead of $MEMOPT_CONF"},
    {.code = OPTION_FORMAT,
     .name = "format",
     .argument = "FORMAT",
     .value = MO_VALUE_WORD,
     .words = "sh docker systemd k8s",
     .help = "sh (to eval), docker (lines of a Dockerfile), systemd (a drop-in of a service), "
             "k8s (items of a container's env)"},
    MO_CLI_HELP,
    MO_CLI_PROFILE(OPTION_PROFILE, 0),
    {.code = OPTION_SET,
     .name = "set",
     .argument = "SECTION.KEY=VALUE",
     .help = "set one value of the configuration; may be repeated"},
    {.name = NULL},
};
static const struct mo_cli_form forms[] = {{.word = NULL}};
const struct mo_command mo_cmd_env = {
    .name = name,
    .summary = "print the environment that puts a program on an allocator",
    .function = env_main,
    .about = "Prints the environment that puts a program on an allocator with its settings,\n"
             "as preloading it by hand does: no report is written, memopt is not needed.\n",
    .options = options,
    .forms = forms,
    .form_count = 1,
    .usage_status = MO_EXIT_USAGE,
};

/* -------------------------------------------------------- memopt run --exec */

int mo_run_exec(struct mo_config *config, char *const *argv, int quiet) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_plan plan;
    enum mo_plan_failure failure;
    if (mo_plan_make_bare(config, argv, &plan, &failure, &error) < 0) {
        mo_say("run", "%s", error.message);
        return (int)failure;
    }
    if (!quiet && plan.obstacle[0] != '\0')
        mo_say("run", "%s", plan.obstacle);
    for (size_t i = 0; !quiet && i < sizeof(plan.notices) / sizeof(plan.notices[0]); i++)
        if (plan.notices[i][0] != '\0')
            mo_say("run", "%s", plan.notices[i]);
    int r = mo_launch_become(plan.target.path, plan.target.needs_shell, argv,
                             plan.environment.items, &error);
    mo_say("run", "%s", error.message);
    mo_plan_free(&plan);
    return (int)mo_plan_failure_of(r);
}
