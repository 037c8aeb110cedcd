/*
 * main.c - the memopt command: finds the subcommand and hands over.
 *
 * It loads nothing and reads nothing on the way: `memopt run` has to start a
 * program within milliseconds, from a small process.
 */
#include "cli/cmd.h"
#include "config.h"
#include "core/launch/trial.h"
#include "core/plugin/registry.h"

#include "lib/nearest.h"

#include "core/base/error.h"

#include <memopt/show.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

/* The checklist for a new row is in cmd.h. */
const struct mo_command *const mo_commands[] = {
    &mo_cmd_compare, &mo_cmd_complete, &mo_cmd_config, &mo_cmd_env,
    &mo_cmd_help,    &mo_cmd_plugins,  &mo_cmd_run,    NULL,
};

const struct mo_command *mo_command_find(const char *name) {
    for (size_t i = 0; mo_commands[i] != NULL; i++)
        if (strcmp(mo_commands[i]->name, name) == 0)
            return mo_commands[i];
    return NULL;
}

void mo_show_on(FILE *stream, const char *text, unsigned how) {
    char part[512];
    while (*text != '\0') {
        text += memopt_show(part, sizeof(part), text, how);
        fputs(part, stream);
    }
}

int mo_print(const char *format, ...) {
    mo_auto_free char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0)
        text = strdup("out of memory\n");
    if (text != NULL)
        mo_show_on(stdout, text, MEMOPT_SHOW_LINES);
    return length;
}

static void say(const char *command, const char *format, va_list arguments) {
    char text[MEMOPT_ERROR_MAX + 512];
    vsnprintf(text, sizeof(text), format, arguments);
    for (char *line = text; line != NULL;) {
        char *end = strchr(line, '\n');
        if (end != NULL)
            *end++ = '\0';
        fprintf(stderr, "memopt%s%s: ", command[0] != '\0' ? " " : "", command);
        mo_show_on(stderr, line, 0);
        fputc('\n', stderr);
        line = end;
    }
}

void mo_say(const char *command, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(command, format, arguments);
    va_end(arguments);
}

static int usage_status(const char *command) {
    const struct mo_command *found = mo_command_find(command);
    return found != NULL ? found->usage_status : MO_EXIT_USAGE;
}

int mo_wrong_usage(const char *command, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(command, format, arguments);
    va_end(arguments);
    fprintf(stderr, "try 'memopt%s%s -h'\n", command[0] != '\0' ? " " : "", command);
    return usage_status(command);
}

int mo_wrong_option(const char *command, int result, int optopt_value, const char *argument) {
    if (optopt_value > 0 && optopt_value < 128)
        return mo_wrong_usage(command,
                              result == ':' ? "option '-%c' needs a value" : "unknown option '-%c'",
                              optopt_value);
    return mo_wrong_usage(
        command, result == ':' ? "option '%s' needs a value" : "unknown or ambiguous option '%s'",
        argument);
}

int mo_close_stdout(const char *command, int status) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    mo_say(command, "can't write to standard output: %s", strerror(errno));
    return status;
}

static void print_overview(FILE *stream) {
    fputs("usage: memopt COMMAND [ARGUMENT ...]\n"
          "       memopt --version\n"
          "\n"
          "Runs programs on another memory allocator and says what they do with\n"
          "their memory.\n"
          "\n",
          stream);
    for (size_t i = 0; mo_commands[i] != NULL; i++)
        if (mo_commands[i]->summary != NULL)
            fprintf(stream, "  %-10s %s\n", mo_commands[i]->name, mo_commands[i]->summary);
    fputs("\n'memopt COMMAND -h' shows a command's options, 'memopt help COMMAND' its manual.\n",
          stream);
}

static int unknown_command(const char *name) {
    struct mo_nearest nearest = {.word = name};
    for (size_t i = 0; mo_commands[i] != NULL; i++)
        if (mo_commands[i]->summary != NULL)
            mo_nearest_try(&nearest, mo_commands[i]->name);
    if (nearest.best != NULL)
        mo_say("", "there is no command '%s'; did you mean '%s'?", name, nearest.best);
    else
        mo_say("", "there is no command '%s'; 'memopt -h' lists them", name);
    return MO_EXIT_USAGE;
}

static int in_path(const char *program) {
    const char *path = getenv("PATH");
    char file[4096];
    while (path != NULL && *path != '\0') {
        size_t length = strcspn(path, ":");
        snprintf(file, sizeof(file), "%.*s/%s", (int)length, path, program);
        if (access(file, X_OK) == 0)
            return 1;
        path += length + (path[length] == ':');
    }
    return 0;
}

static int help_main(int argc, char *argv[]) {
    struct mo_cli cli = {.command = &mo_cmd_help, .argc = argc, .argv = argv};
    if (mo_cli_next(&cli) < 0)
        return cli.status;
    if (argc - optind > 1)
        return mo_wrong_usage("help", "one command at a time, not also '%s'", argv[optind + 1]);
    if (argc == optind) {
        print_overview(stdout);
        return mo_close_stdout("help", 1);
    }
    const struct mo_command *command = mo_command_find(argv[optind]);
    if (command == NULL)
        return unknown_command(argv[optind]);
    if (isatty(STDOUT_FILENO) && in_path("man")) {
        char page[64];
        snprintf(page, sizeof(page), "memopt-%s", command->name);
        char *find[] = {"man", "-w", "1", page, NULL};
        /* man itself says whether the page is installed, in silence */
        pid_t pid = fork();
        if (pid == 0) {
            int null = open("/dev/null", O_RDWR | O_CLOEXEC);
            if (null >= 0) {
                dup2(null, STDOUT_FILENO);
                dup2(null, STDERR_FILENO);
            }
            execvp("man", find);
            _exit(127);
        }
        int status;
        if (pid > 0 && waitpid(pid, &status, 0) == pid && status == 0) {
            char *show[] = {"man", "1", page, NULL};
            execvp("man", show);
        }
    }
    return mo_cli_print_help(command);
}

static const struct mo_cli_option help_options[] = {MO_CLI_HELP, {.name = NULL}};
static const struct mo_cli_form help_forms[] = {
    {.operands = "[COMMAND]", .operand = MO_VALUE_COMMAND}};
const struct mo_command mo_cmd_help = {
    .name = "help",
    .summary = "show the manual of a command",
    .function = help_main,
    .about = "Shows the manual page of a command on a terminal, else what\n"
             "'memopt COMMAND -h' shows.\n",
    .options = help_options,
    .forms = help_forms,
    .form_count = 1,
    .usage_status = MO_EXIT_USAGE,
};

/* A program may be started with a standard descriptor closed. Whatever memopt
 * opens would then be taken for it; these are closed again for the program. What is
 * written to standard output fails all the same; messages go nowhere. */
static void fill_standard_descriptors(void) {
    struct stat status;
    for (int fd = 0; fd <= 2; fd++)
        if (fstat(fd, &status) != 0 && errno == EBADF)
            (void)open("/dev/null", (fd == 2 ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
}

/* What plugins and the configuration note, unless a command does more with it. */
static const char *running;

static void say_note(int level, const char *kind, const char *text) {
    if (level < MEMOPT_NOTE_ERROR && kind == NULL) /* those have been said */
        mo_say(running, "%s", text);
}

static int run_command(int argc, char *argv[]) {
    if (argc < 2) {
        print_overview(stderr);
        return MO_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        puts("memopt " PACKAGE_VERSION);
        return mo_close_stdout("", 1);
    }
    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) {
        print_overview(stdout);
        return mo_close_stdout("", 1);
    }
    if (argv[1][0] == '-')
        return mo_wrong_usage("", "unknown option '%s'; options come after the command", argv[1]);
    const struct mo_command *command = mo_command_find(argv[1]);
    if (command == NULL)
        return unknown_command(argv[1]);
    running = command->name;
    mo_host_set_note(say_note);
    mo_plugin_set_trial(mo_try_plugin);
    return command->function(argc - 1, argv + 1);
}

/* A program may be started with a stack (ulimit -s) that is enough for it, but not for
 * paths and messages in memopt: then memopt runs on one of its own. */
static struct {
    ucontext_t main, own;
    int argc, status;
    char **argv;
} stacks;

static void run_on_own_stack(void) {
    stacks.status = run_command(stacks.argc, stacks.argv);
}

int main(int argc, char *argv[]) {
    enum { STACK = 1 << 20 };
    struct rlimit limit;
    fill_standard_descriptors();
    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= STACK ||
        getcontext(&stacks.own) != 0)
        return run_command(argc, argv);
    void *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        return run_command(argc, argv);
    stacks.argc = argc;
    stacks.argv = argv;
    stacks.own.uc_stack = (stack_t){.ss_sp = stack, .ss_size = STACK};
    stacks.own.uc_link = &stacks.main;
    makecontext(&stacks.own, run_on_own_stack, 0);
    swapcontext(&stacks.main, &stacks.own);
    return stacks.status;
}
