/*
 * conformance.c - runs the conformance suite on a plugin: what `memopt plugins --test`
 * starts, and what `make check` runs on every plugin of the build.
 *
 *   conformance                     every plugin that is found, and malloc
 *   conformance PLUGIN              one, by name or absolute path: yours, too
 *   conformance --malloc            the C library's malloc family; under
 *                                   LD_PRELOAD that of the preloaded library
 *     --set KEY=VALUE               an option of the plugin's
 *     --limit SIZE                  an allocator has no more memory than this
 *     --scale N                     divide the number of rounds by N
 *     --case NAME                   this case only
 *     --time-limit DURATION         for each case
 *     --from LIBRARY                malloc must be this library's
 *     --label TEXT                  what lines begin with
 *     --memopt FILE                 the memopt command, to run a program on the plugin
 *
 * A case that fails says what plugin.h promises and what happened; what a plugin does
 * not have is skipped. A line for each case, and a sum. Exit status: 0, 1 if a case
 * failed, 2 if the plugin could not be tested, 77 if it has to be left out here.
 */
#include "config.h"

#include "cli/conformance.h"

#include "core/base/sysmem.h"
#include "core/launch/trial.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

struct conformance conformance = {.limit = SIZE_MAX, .scale = TSAN ? 16 : ASAN ? 2 : 1};
int conformance_fd = STDERR_FILENO;
static uint64_t time_limit = 60 * UINT64_C(1000000000);

enum { SETTINGS = 16 };
static char *settings_text[SETTINGS];
static size_t settings_count;

/* ------------------------------------------------------------------ runner */

/* Waits until the case's process has ended; false: it took too long, and is killed with
 * all that it started. SIGCHLD is blocked. */
static bool wait_for(pid_t pid, int *ret_status) {
    const struct timespec whole = {(time_t)(time_limit / 1000000000),
                                   (long)(time_limit % 1000000000)};
    struct timespec now, end;
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += whole.tv_sec + (end.tv_nsec + whole.tv_nsec) / 1000000000;
    end.tv_nsec = (end.tv_nsec + whole.tv_nsec) % 1000000000;
    for (;;) {
        if (waitpid(pid, ret_status, WNOHANG) != 0)
            return true;
        clock_gettime(CLOCK_MONOTONIC, &now);
        struct timespec left = {end.tv_sec - now.tv_sec, end.tv_nsec - now.tv_nsec};
        if (left.tv_nsec < 0) {
            left.tv_sec--;
            left.tv_nsec += 1000000000;
        }
        if (left.tv_sec < 0 || (sigtimedwait(&child, NULL, &left) < 0 && errno == EAGAIN)) {
            kill(-pid, SIGKILL);
            waitpid(pid, ret_status, 0);
            return false;
        }
    }
}

static void run_case(const char *what, const struct conformance_case *one) {
    int ends[2];
    char happened[1024] = "", line[64];
    fflush(stdout);
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
        perror("conformance: pipe");
        exit(2);
    }
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        sigprocmask(SIG_SETMASK, &none, NULL);
        conformance_fd = ends[1];
        int r = one->run();
        _exit(r == 0 ? PASSED : r); /* a plugin that exits has not passed */
    }
    close(ends[1]);
    int status = -1;
    bool in_time = pid > 0 && wait_for(pid, &status);
    ssize_t length = read(ends[0], happened, sizeof(happened) - 1);
    close(ends[0]);
    happened[length > 0 ? length : 0] = '\0';
    happened[strcspn(happened, "\n")] = '\0';
    if (in_time && WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
        printf("%-7s %s %s\n", "skipped", what, one->name);
        conformance.skipped++;
        return;
    }
    if (in_time && WIFEXITED(status) && WEXITSTATUS(status) == PASSED) {
        printf("%-7s %s %s\n", "ok", what, one->name);
        conformance.passed++;
        return;
    }
    conformance.failed++;
    if (pid < 0)
        snprintf(happened, sizeof(happened), "no process could be started: %s", strerror(errno));
    else if (!in_time)
        snprintf(happened, sizeof(happened), "it hangs: not done after %" PRIu64 " seconds",
                 time_limit / 1000000000);
    else if (happened[0] == '\0' && WIFSIGNALED(status)) {
        snprintf(line, sizeof(line), "SIG%s", sigabbrev_np(WTERMSIG(status)));
        snprintf(happened, sizeof(happened), "it crashed: %s", line);
    } else if (happened[0] == '\0')
        snprintf(happened, sizeof(happened), "it ended the process, with exit status %d",
                 WEXITSTATUS(status));
    printf("%-7s %s %s: promised: %s; happened: %s\n", "FAIL", what, one->name, one->promise,
           happened);
}

bool conformance_run(const char *what, const struct conformance_case *cases, size_t count) {
    int before = conformance.failed;
    for (size_t i = 0; i < count; i++)
        if (conformance.only == NULL || strcmp(conformance.only, cases[i].name) == 0)
            run_case(what, &cases[i]);
    return conformance.failed == before;
}

/* `is_part`: of what another process runs. */
static int print_sum(bool is_part) {
    printf("%d passed, %d failed, %d skipped\n", conformance.passed, conformance.failed,
           conformance.skipped);
    if (conformance.passed + conformance.failed + conformance.skipped == 0) {
        if (!is_part)
            fprintf(stderr, "conformance: there is no case '%s'\n", conformance.only);
        return 2;
    }
    return conformance.failed > 0;
}

/* ------------------------------------------------------------ as a program */

/* A program's own malloc, on the plugin: the shim's calls of it, from the first one on. A
 * plugin that calls malloc itself calls itself then. The cases are those of --malloc, in
 * this program under memopt run; their lines are copied and counted. */
static void run_under_memopt(const char *what) {
    const struct memopt_plugin *plugin = &conformance.plugin->descriptor;
    char self[4096], label[256], scale[16], limit[32], set[SETTINGS][512];
    char *argv[64];
    size_t count = 0;
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (length <= 0)
        return;
    self[length] = '\0';
    snprintf(label, sizeof(label), "%s program", what);
    snprintf(scale, sizeof(scale), "%u", 4 * conformance.scale);
    snprintf(limit, sizeof(limit), "%zu", conformance.limit);
    const char *const run[] = {conformance.memopt,
                               "run",
                               "-q",
                               "-a",
                               conformance.plugin->path,
                               "-t",
                               "",
                               "-r",
                               "",
                               "--set",
                               "memopt.binding=dispatch"};
    for (size_t i = 0; i < sizeof(run) / sizeof(*run); i++)
        argv[count++] = (char *)(uintptr_t)run[i];
    for (size_t i = 0; i < settings_count; i++) {
        snprintf(set[i], sizeof(set[i]), "allocator.%s.%s", plugin->name, settings_text[i]);
        argv[count++] = (char *)(uintptr_t) "--set";
        argv[count++] = set[i];
    }
    const char *const suite[] = {"--",      self,  "--malloc", "--from", "libmemopt-preload",
                                 "--label", label, "--scale",  scale};
    for (size_t i = 0; i < sizeof(suite) / sizeof(*suite); i++)
        argv[count++] = (char *)(uintptr_t)suite[i];
    if (conformance.limit != SIZE_MAX) {
        argv[count++] = (char *)(uintptr_t) "--limit";
        argv[count++] = limit;
    }
    if (conformance.only != NULL) {
        argv[count++] = (char *)(uintptr_t) "--case";
        argv[count++] = (char *)(uintptr_t)conformance.only;
    }
    argv[count] = NULL;
    int ends[2], status = -1, before = conformance.failed;
    fflush(stdout);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return;
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        dup2(ends[1], STDOUT_FILENO);
        execv(conformance.memopt, argv);
        _exit(127);
    }
    close(ends[1]);
    FILE *lines = fdopen(ends[0], "re");
    char *line = NULL;
    size_t size = 0;
    while (lines != NULL && getline(&line, &size, lines) > 0) {
        int *which = strncmp(line, "ok ", 3) == 0        ? &conformance.passed
                     : strncmp(line, "FAIL ", 5) == 0    ? &conformance.failed
                     : strncmp(line, "skipped ", 8) == 0 ? &conformance.skipped
                                                         : NULL;
        if (which == NULL)
            continue; /* its sum */
        ++*which;
        fputs(line, stdout);
    }
    free(line);
    if (lines != NULL)
        fclose(lines);
    if (pid > 0)
        waitpid(pid, &status, 0);
    if (status == 0 || conformance.failed > before ||
        (conformance.only != NULL && WIFEXITED(status) && WEXITSTATUS(status) == 2))
        return;
    conformance.failed++;
    printf("FAIL    %s: promised: operations marked [program] don't call malloc; happened: a "
           "program on it ended with %s %d\n",
           label, WIFSIGNALED(status) || WEXITSTATUS(status) > 128 ? "signal" : "exit status",
           WIFSIGNALED(status)         ? WTERMSIG(status)
           : WEXITSTATUS(status) > 128 ? WEXITSTATUS(status) - 128
                                       : WEXITSTATUS(status));
}

/* ---------------------------------------------------------------- profiles */

/* How memopt's own plugins are run if nothing is said; others as they are. */
static const struct profile {
    const char *plugin;
    const char *arguments[8];
} profiles[] = {
    {"arena", {"--set", "size=1GiB", "--limit", "1GiB"}},
    {"arena", {"--set", "size=8GiB", "--limit", "4GiB", "--set", "mode=bump", "--scale", "4"}},
    {"mmap", {"--scale", "4"}},
    {"guard", {"--scale", "20"}},
    {"guard", {"--set", "sample_every=10", "--case", "purge"}},
    {"guard", {"--set", "sample_every=10", "--case", "destroy"}},
    {"guard", {"--set", "max_size=100", "--set", "quarantine=0", "--case", "purge"}},
    {"guard", {"--set", "max_size=100", "--set", "quarantine=0", "--case", "destroy"}},
};

struct found {
    int count, failed;
};

static void run_self(struct found *found, const char *const *arguments, size_t count,
                     const char *name) {
    char *argv[16] = {(char *)(uintptr_t) "conformance", (char *)(uintptr_t) "--time-limit",
                      (char *)(uintptr_t) "10min"};
    size_t used = 3;
    if (conformance.memopt != NULL) {
        argv[used++] = (char *)(uintptr_t) "--memopt";
        argv[used++] = (char *)(uintptr_t)conformance.memopt;
    }
    for (size_t i = 0; i < count && arguments[i] != NULL; i++)
        argv[used++] = (char *)(uintptr_t)arguments[i];
    argv[used] = (char *)(uintptr_t)name;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execv("/proc/self/exe", argv);
        _exit(127);
    }
    int status = -1;
    if (pid > 0)
        waitpid(pid, &status, 0);
    if (status != 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED))
        found->failed++;
}

/* As often as the plugin has a profile; 0: it has none. */
static size_t run_profiles(struct found *found, const char *plugin, const char *name) {
    size_t count = 0;
    for (size_t i = 0; i < sizeof(profiles) / sizeof(*profiles); i++)
        if (strcmp(profiles[i].plugin, plugin) == 0) {
            run_self(found, profiles[i].arguments, 8, name);
            count++;
        }
    return count;
}

/* ----------------------------------------------------------------- plugins */

static int fail_to_test(const char *message) {
    fprintf(stderr, "conformance: %s\n", message);
    return 2;
}

static int parse_settings(const struct mo_plugin *plugin) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    void *settings = mo_sys_alloc(plugin->descriptor.settings_size + 1);
    int r = settings == NULL ? -ENOMEM
                             : mo_options_init(plugin->table, settings, &mo_sys_allocator, &error);
    for (size_t i = 0; i < settings_count && r == 0; i++) {
        char key[64] = "", message[256];
        const char *equals = strchr(settings_text[i], '=');
        if (equals != NULL)
            snprintf(key, sizeof(key), "%.*s", (int)(equals - settings_text[i]), settings_text[i]);
        const struct memopt_option *option = mo_option_find(plugin->table, key);
        if (option == NULL) {
            snprintf(message, sizeof(message), "'%s' is not KEY=VALUE of an option of %s",
                     settings_text[i], plugin->descriptor.name);
            return fail_to_test(message);
        }
        r = mo_option_parse(option, equals + 1, NULL, settings, &mo_sys_allocator, &error);
    }
    if (r < 0)
        return fail_to_test(r == -ENOMEM ? "out of memory" : error.message);
    conformance.settings = settings;
    return 0;
}

/* `plain`: the command line says nothing but the plugin. */
static int run_plugin(enum memopt_plugin_kind kind, const char *name, bool plain) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_plugin *plugin = NULL;
    char library[4096];
    if (mo_plugin_load(kind, name, &plugin, &error) < 0)
        return fail_to_test(error.message);
    const char *what = plugin->descriptor.name;
    if (plugin->descriptor.kind == MEMOPT_ALLOCATOR) {
        if (TSAN && plugin->ops.allocator.libraries != NULL && strcmp(name, "pool") != 0) {
            printf("skipped %s: ThreadSanitizer does not see how its library synchronises\n", what);
            return SKIPPED;
        }
        if (mo_plugin_backend_library(plugin, library, sizeof(library), &error) < 0) {
            printf("skipped %s: %s\n", what, error.message);
            return SKIPPED;
        }
    }
    conformance.plugin = plugin;
    conformance.is_own = name[0] != '/' || mo_plugin_is_own(plugin->path);
    if (plain && conformance.is_own) {
        struct found found = {.count = 0};
        if (run_profiles(&found, plugin->descriptor.name, name) > 0)
            return found.failed > 0;
    }
    int status = parse_settings(plugin);
    if (status != 0)
        return status;
    switch (plugin->descriptor.kind) {
    case MEMOPT_ALLOCATOR:
        conformance_allocator(what);
        if (conformance.memopt != NULL && !SANITIZED &&
            (plugin->ops.allocator.flags & MEMOPT_ALLOCATOR_HEAPS_ONLY) == 0)
            run_under_memopt(what);
        break;
    case MEMOPT_TRACKER:
        conformance_tracker(what);
        break;
    default:
        conformance_reporter(what);
        break;
    }
    return print_sum(false);
}

static int run_found(void *context, enum memopt_plugin_kind kind, const char *name,
                     const char *path) {
    struct found *found = context;
    (void)path;
    (void)kind;
    found->count++;
    if (run_profiles(found, name, name) == 0)
        run_self(found, NULL, 0, name);
    return 0;
}

static int run_all(void) {
    struct found found = {.count = 0};
    run_self(&found, NULL, 0, "--malloc");
    mo_plugin_each(run_found, &found);
    if (found.count == 0)
        return fail_to_test("no plugin was found");
    printf("%d plugins and malloc, %d failed\n", found.count, found.failed);
    return found.failed > 0;
}

/* The kind of the first plugin of a name; that of an allocator for what is not there, as
 * then loading says what there is. */
struct lookup {
    const char *name;
    enum memopt_plugin_kind kind;
};

static int look_up(void *context, enum memopt_plugin_kind kind, const char *name,
                   const char *path) {
    struct lookup *lookup = context;
    (void)path;
    if (strcmp(name, lookup->name) != 0)
        return 0;
    lookup->kind = kind;
    return 1;
}

/* ------------------------------------------------------------ command line */

static int usage(void) {
    fprintf(stderr, "usage: conformance [--set KEY=VALUE]... [--limit SIZE] [--scale N] "
                    "[--case NAME] [--time-limit DURATION] [--from LIBRARY] [--label TEXT] "
                    "[--memopt FILE] [PLUGIN | --malloc]\n");
    return 2;
}

static int run_malloc(const char *from, const char *label) {
    Dl_info info;
    if (from != NULL && (dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) == 0 ||
                         strstr(info.dli_fname, from) == NULL)) {
        fprintf(stderr, "conformance: malloc is not that of '%s'\n", from);
        return 2;
    }
    conformance_malloc(label != NULL ? label : "malloc");
    return print_sum(label != NULL);
}

/* What a process has to have from its start: jemalloc's thread-local storage, see
 * plugins/alloc/jemalloc.c; and a sanitizer's malloc must fail as malloc does. */
static void prepare_environment(char **argv) {
    static const char done[] = "MEMOPT_CONFORMANCE";
    if (getenv(done) != NULL)
        return;
    setenv(done, "1", 1);
    setenv("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=4096", 1);
    setenv("ASAN_OPTIONS", "allocator_may_return_null=1", 0);
    setenv("TSAN_OPTIONS", "allocator_may_return_null=1", 0);
    execv("/proc/self/exe", argv);
}

int main(int argc, char **argv) {
    const char *name = NULL, *from = NULL, *label = NULL;
    bool process_malloc = false, plain = true;
    sigset_t child;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        uint64_t size = 0;
        if (strcmp(argv[i], "--malloc") == 0) {
            process_malloc = true;
            continue;
        }
        if (argv[i][0] != '-') {
            name = argv[i];
            continue;
        }
        if (value == NULL)
            return usage();
        i++;
        plain = plain && strcmp(argv[i - 1], "--memopt") == 0;
        if (strcmp(argv[i - 1], "--set") == 0 && settings_count < SETTINGS)
            settings_text[settings_count++] = argv[i];
        else if (strcmp(argv[i - 1], "--limit") == 0 && mo_parse_size(value, &size) == 0)
            conformance.limit = size;
        else if (strcmp(argv[i - 1], "--scale") == 0 && atoi(value) > 0)
            conformance.scale *= (unsigned)atoi(value);
        else if (strcmp(argv[i - 1], "--time-limit") == 0 && mo_parse_duration(value, &size) == 0)
            time_limit = size;
        else if (strcmp(argv[i - 1], "--case") == 0)
            conformance.only = value;
        else if (strcmp(argv[i - 1], "--from") == 0)
            from = value;
        else if (strcmp(argv[i - 1], "--label") == 0)
            label = value;
        else if (strcmp(argv[i - 1], "--memopt") == 0)
            conformance.memopt = value;
        else
            return usage();
    }
    if (!process_malloc)
        prepare_environment(argv);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (process_malloc)
        return run_malloc(from, label);
    if (name == NULL)
        return run_all();
    mo_plugin_set_trial(mo_try_plugin);
    struct lookup lookup = {.name = name, .kind = MEMOPT_ALLOCATOR};
    if (name[0] == '/')
        lookup.kind = (enum memopt_plugin_kind)0;
    else
        mo_plugin_each(look_up, &lookup);
    return run_plugin(lookup.kind, name, plain);
}
