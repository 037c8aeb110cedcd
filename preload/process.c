/*
 * process.c - see process.h.
 *
 *   notes       kept until there is a ledger
 *   settings    DIR/settings.ini
 *   start
 *   end         the destructor, _exit, quick_exit
 */
#include "preload/process.h"

#include "core/base/error.h"
#include "core/base/sanitizer.h"
#include "core/base/sysmem.h"
#include "core/config/config.h"
#include "core/config/flat.h"
#include "core/dispatch/services.h"
#include "core/ledger/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct mo_process mo_process;
static const char *run_directory;
static enum mo_process_kind own_kind;
static int exit_status; /* what exit() was called with */

/* ------------------------------------------------------------------- notes */

static char pending[4096]; /* level byte, text, NUL, …; for before the ledger is there */
static size_t pending_used;

static void say_on_stderr(const char *text) {
    char line[2048];
    int length = snprintf(line, sizeof(line), "memopt: %s[%d]: %s\n", program_invocation_short_name,
                          (int)getpid(), text);
    if (length > (int)sizeof(line) - 1)
        length = (int)sizeof(line) - 1;
    ssize_t written = write(STDERR_FILENO, line, (size_t)length);
    (void)written;
}

/* For what has been said on stderr by the one who brings it (registry.h). Events
 * come from the backend at work, when the ledger is there if there is to be one. */
static void keep_note(int level, const char *kind, const char *text) {
    if (kind != NULL) {
        mo_ledger_event(kind, text);
        return;
    }
    if (mo_ledger() != NULL) {
        mo_ledger_note(level, text);
        return;
    }
    size_t length = strlen(text);
    if (length + 2 > sizeof(pending) - pending_used)
        return;
    pending[pending_used++] = (char)level;
    memcpy(pending + pending_used, text, length + 1);
    pending_used += length + 1;
}

static void note(int level, const char *text) {
    if (level >= MEMOPT_NOTE_ERROR)
        say_on_stderr(text);
    keep_note(level, NULL, text);
}

static void notef(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void notef(int level, const char *format, ...) {
    char text[MEMOPT_ERROR_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    note(level, text);
}

static void flush_pending(void) {
    for (size_t i = 0; i < pending_used; i += strlen(pending + i) + 1)
        mo_ledger_note(pending[i], pending + i + 1);
    pending_used = 0;
}

/* ---------------------------------------------------------------- settings */

static int read_settings(struct mo_flat *ret_flat, struct memopt_error *error) {
    char path[600];
    snprintf(path, sizeof(path), "%s/settings.ini", run_directory);
    mo_auto_close int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return mo_fail(error, -errno, "cannot open '%s': %s", path, strerrordesc_np(errno));
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > (16 << 20))
        return mo_fail(error, -EINVAL, "'%s' is not what memopt run wrote", path);
    char *text = mo_sys_alloc((size_t)st.st_size + 1);
    if (text == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    size_t have = 0;
    while (have < (size_t)st.st_size) {
        ssize_t n = read(fd, text + have, (size_t)st.st_size - have);
        if (n <= 0)
            return mo_fail(error, -EIO, "cannot read '%s'", path);
        have += (size_t)n;
    }
    return mo_flat_parse(text, &mo_sys_allocator, ret_flat, error);
}

static int memopt_settings(const struct mo_flat *flat, struct mo_settings_memopt *settings,
                           struct memopt_error *error) {
    return mo_flat_fill(flat, "memopt", mo_core_section("memopt")->table, settings,
                        &mo_sys_allocator, error);
}

/* Loads a plugin and reads its section. */
static int load(const struct mo_flat *flat, enum memopt_plugin_kind kind, const char *name,
                struct mo_plugin **ret_plugin, void **ret_settings, struct memopt_error *error) {
    struct mo_plugin *plugin;
    int code = mo_plugin_load(kind, name, &plugin, error);
    if (code < 0)
        return code;
    char section[128];
    snprintf(section, sizeof(section), "%s.%s", mo_plugin_kind_name(kind), plugin->descriptor.name);
    size_t size = plugin->descriptor.settings_size;
    void *settings = mo_sys_alloc(size > 0 ? size : 1);
    if (settings == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    code = mo_flat_fill(flat, section, plugin->table, settings, &mo_sys_allocator, error);
    if (code < 0)
        return code;
    *ret_plugin = plugin;
    *ret_settings = settings;
    return 0;
}

/* ------------------------------------------------------------------- start */

/* Whether memopt run itself started this process. Those that the program has started and
 * that can't get at the run directory, having other rights, are silent about it: their
 * stderr is the program's own. */
static bool is_the_program;
static void find_parent(char *const *envp) {
    static const char name[] = "MEMOPT_PRELOADED=";
    for (; *envp != NULL; envp++)
        if (strncmp(*envp, name, sizeof(name) - 1) == 0) {
            const char *colon = strchr(*envp, ':');
            is_the_program = colon != NULL && atoi(colon + 1) == getppid();
        }
}

static void fall_back_to_libc(const struct memopt_error *error) {
    /* with the agent malloc is bound already, to what is preloaded behind it */
    bool agent = own_kind == MO_PROCESS_AGENT;
    bool is_locked_out = error->code == -EACCES || error->code == -EPERM || error->code == -ENOSYS;
    notef(is_locked_out && !is_the_program ? MEMOPT_NOTE_WARNING : MEMOPT_NOTE_ERROR,
          "%s\nthis process %s", error->message,
          agent ? "keeps the malloc that it is bound to, with no settings of memopt's"
                : "runs on the C library's malloc");
    if (agent)
        own_kind = MO_PROCESS_UNTOUCHED;
    mo_process.allocator = NULL;
    mo_process.tracker_count = 0;
    if (mo_libc_table(&mo_process.table) < 0) {
        say_on_stderr("the C library has no malloc to fall back to");
        abort();
    }
}

static void create_ledger(void *const *tracker_settings) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_ledger_plan plan = {
        .directory = run_directory, .binding = own_kind, .tracker_count = mo_process.tracker_count};
    for (size_t i = 0; i < mo_process.tracker_count; i++) {
        plan.trackers[i].name = mo_process.trackers[i].plugin->descriptor.name;
        plan.trackers[i].ops = &mo_process.trackers[i].plugin->ops.tracker;
    }
    if (mo_ledger_create(&plan, &error) < 0) {
        mo_process.tracker_count = 0;
        if (mo_ledger_left_word() || !is_the_program)
            return;
        for (size_t i = 0; i < pending_used; i += strlen(pending + i) + 1)
            if (pending[i] < MEMOPT_NOTE_ERROR) /* those have been said */
                say_on_stderr(pending + i + 1);
        say_on_stderr(error.message);
        return;
    }
    flush_pending();
    if (own_kind == MO_PROCESS_UNTOUCHED) {
        mo_ledger_set_allocator("", "");
    } else if (mo_process.allocator != NULL) {
        const struct memopt_allocator_ops *ops = &mo_process.allocator->ops.allocator;
        mo_ledger_set_allocator(mo_process.allocator->descriptor.name,
                                ops->backend_version == NULL ? "" : ops->backend_version());
    } else {
        mo_ledger_set_allocator("libc", gnu_get_libc_version());
    }
    /* A tracker that can't start leaves the chain; its section stays empty. */
    size_t kept = 0;
    for (size_t i = 0; i < mo_process.tracker_count; i++) {
        struct mo_plugin *plugin = mo_process.trackers[i].plugin;
        void *self = NULL;
        int code = plugin->ops.tracker.open == NULL
                       ? 0
                       : plugin->ops.tracker.open(&mo_host, tracker_settings[i],
                                                  mo_ledger_process_state(i), &self, &error);
        if (code < 0) {
            notef(MEMOPT_NOTE_ERROR, "tracker '%s': %s", plugin->descriptor.name, error.message);
            continue;
        }
        mo_ledger_set_self(i, self);
        mo_process.trackers[kept].plugin = plugin;
        mo_process.trackers[kept].self = self;
        mo_process.trackers[kept].offset = mo_ledger_thread_offset(i);
        kept++;
    }
    mo_process.tracker_count = kept;
}

static void load_trackers(const struct mo_flat *flat, const struct memopt_list *names,
                          void **ret_settings) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    for (size_t i = 0; i < names->count; i++) {
        size_t n = mo_process.tracker_count;
        if (n == MO_LEDGER_TRACKERS) {
            notef(MEMOPT_NOTE_ERROR, "more than %d trackers: '%s' and those after it are left out",
                  MO_LEDGER_TRACKERS, names->items[i]);
            return;
        }
        if (load(flat, MEMOPT_TRACKER, names->items[i], &mo_process.trackers[n].plugin,
                 &ret_settings[n], &error) < 0)
            note(MEMOPT_NOTE_ERROR, error.message);
        else
            mo_process.tracker_count++;
    }
}

/* [heap.default]: rules for the program's own malloc. */
static void read_rules(const struct mo_flat *flat) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_settings_heap rules;
    if (mo_flat_fill(flat, "heap.default", mo_core_section("heap")->table, &rules,
                     &mo_sys_allocator, &error) < 0)
        note(MEMOPT_NOTE_ERROR, error.message);
    else
        mo_process.limit = rules.limit;
}

static void open_backend(const struct mo_flat *flat, const struct mo_settings_memopt *settings) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_plugin *plugin;
    void *own_settings;
    const struct memopt_malloc *table;
    if (load(flat, MEMOPT_ALLOCATOR, settings->allocator, &plugin, &own_settings, &error) < 0 ||
        mo_plugin_open_allocator(plugin, own_settings, &table, &error) < 0) {
        fall_back_to_libc(&error);
        return;
    }
    mo_process.table = *table;
    mo_process.allocator = plugin;
}

/* Bound directly to the C library, a program that is linked with another malloc
 * stays on that. */
static void look_for_other_malloc(void) {
    const char *library = NULL;
    if (own_kind == MO_PROCESS_AGENT && mo_process.allocator != NULL &&
        mo_process.allocator->ops.allocator.libraries == NULL)
        library = mo_program_malloc_library();
    if (library == NULL)
        return;
    own_kind = MO_PROCESS_UNTOUCHED;
    enum mo_sanitizer sanitizer = mo_sanitizer_of_library(library);
    if (sanitizer != MO_SANITIZER_NONE) { /* it refuses to start behind a dispatch */
        notef(MEMOPT_NOTE_INFO, "this program is built with %s and keeps its allocator ('%s')",
              mo_sanitizer_name(sanitizer), library);
        return;
    }
    notef(MEMOPT_NOTE_WARNING,
          "this program is linked with '%s', whose malloc serves it; binding = dispatch would put "
          "it on %s",
          library, mo_process.allocator->descriptor.name);
}

/* memopt run dispatches such a program; this is for those that the program starts. */
static void look_for_other_operators(void) {
    if (own_kind == MO_PROCESS_AGENT && mo_process.allocator != NULL &&
        mo_process.allocator->ops.allocator.libraries != NULL &&
        (mo_process.allocator->ops.allocator.flags & MEMOPT_ALLOCATOR_C_NEW) == 0 &&
        mo_program_has_part_of_new())
        notef(MEMOPT_NOTE_WARNING,
              "this program has its own operator new, but not all forms of it, and gets the "
              "others from %s, which may crash it; binding = dispatch would leave them to it",
              mo_process.allocator->descriptor.name);
}

static struct mo_ledger_heap *heap_slot(const char *name, const char *allocator) {
    return mo_ledger_heap_slot(name, allocator);
}

MEMOPT_EXPORT struct mo_program_services memopt_program_services = {
    .version = 1,
    .size = sizeof(struct mo_program_services),
    .heap_slot = heap_slot,
    .note = keep_note,
    .at_fork = mo_fork_add,
};

static void at_exit(void) __attribute__((destructor));

static void keep_status(int status, void *unused) {
    (void)unused;
    exit_status = status;
}

void mo_process_start(enum mo_process_kind kind, char **envp,
                      void (*after_open)(struct mo_process *)) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_flat flat;
    struct mo_settings_memopt settings;
    void *tracker_settings[MO_LEDGER_TRACKERS];
    own_kind = kind;
    mo_host_set_note(keep_note);
    for (char **e = envp; *e != NULL; e++)
        if (strncmp(*e, "MEMOPT_RUN=", 11) == 0 && (*e)[11] == '/' && !getauxval(AT_SECURE))
            run_directory = *e + 11;
    if (run_directory != NULL)
        run_directory = mo_sys_strdup(run_directory);
    find_parent(envp);
    int follow = 1;
    mo_process.limit = UINT64_MAX;
    if (run_directory == NULL) {
        mo_fail(&error, -ENOENT,
                "preloaded without 'memopt run' (MEMOPT_RUN names no run directory)");
        fall_back_to_libc(&error);
    } else if (access(run_directory, F_OK) != 0) {
        /* The run is over and this process outlived it: nobody will read. */
        if (mo_libc_table(&mo_process.table) < 0)
            abort();
    } else if (read_settings(&flat, &error) < 0 || memopt_settings(&flat, &settings, &error) < 0) {
        fall_back_to_libc(&error);
    } else {
        follow = settings.follow;
        if (mo_program_has_malloc()) {
            note(MEMOPT_NOTE_WARNING, "this program brings a malloc of its own: its memory is "
                                      "neither memopt's nor seen by a tracker");
            own_kind = MO_PROCESS_UNTOUCHED;
        }
        for (size_t i = 0; i < settings.plugin_path.count; i++)
            mo_plugin_add_directory(settings.plugin_path.items[i], NULL);
        if (own_kind == MO_PROCESS_UNTOUCHED) {
            /* What it lacks of the family is served as without memopt. */
            if (mo_libc_table(&mo_process.table) < 0)
                abort();
        } else {
            open_backend(&flat, &settings);
            look_for_other_malloc();
            look_for_other_operators();
            read_rules(&flat);
            if (kind == MO_PROCESS_SHIM)
                load_trackers(&flat, &settings.trackers, tracker_settings);
        }
        create_ledger(tracker_settings);
    }
    memopt_program_services.run_directory = run_directory;
    if (mo_process.allocator != NULL)
        memopt_program_services.allocator = mo_process.allocator->path;
    on_exit(keep_status, NULL);
    at_quick_exit(at_exit);
    if (after_open != NULL)
        after_open(&mo_process);
    if (!follow)
        mo_environment_forget(envp);
}

/* --------------------------------------------------------------------- end */

static _Atomic bool shut_in;

/* Only the shim has a boot range. */
extern uint64_t mo_boot_used(void) __attribute__((weak));

/* Figures take the backend's locks. exit() in a signal handler is common, and the
 * handler may have interrupted the backend. */
static bool may_ask_backend(void) {
    if (mo_process.allocator == NULL || mo_process.allocator->ops.allocator.figures == NULL)
        return false;
    if (!mo_in_signal_handler())
        return true;
    mo_ledger_note(MEMOPT_NOTE_INFO, "the program ended in a signal handler: the allocator's own "
                                     "figures are missing, as it may have been interrupted");
    return false;
}

/* A filter that takes no system call of ours may kill the process for one. What gives
 * up privileges for good says so here first, libseccomp included. */
MEMOPT_EXPORT int prctl(int option, ...) {
    va_list arguments;
    va_start(arguments, option);
    unsigned long a = va_arg(arguments, unsigned long), b = va_arg(arguments, unsigned long),
                  c = va_arg(arguments, unsigned long), d = va_arg(arguments, unsigned long);
    va_end(arguments);
    if (option == PR_SET_NO_NEW_PRIVS || option == PR_SET_SECCOMP) {
        shut_in = true;
        mo_ledger_shut_in();
    }
    return (int)syscall(SYS_prctl, option, a, b, c, d);
}

static void record_end(int status, bool with_figures) {
    struct memopt_figures figures = MEMOPT_FIGURES_INIT;
    if (mo_ledger() == NULL || mo_ledger()->pid != getpid())
        return;
    uint64_t began = mo_ledger_clock();
    bool known = with_figures && may_ask_backend() &&
                 mo_process.allocator->ops.allocator.figures(&figures) == 0;
    mo_ledger_end(known ? &figures : NULL, mo_boot_used != NULL ? mo_boot_used() : 0, status,
                  began);
}

/* Neither exit() nor _exit() is a cancellation point; open() and read() are. */
static void end(int status, bool with_figures) {
    int before;
    if (shut_in)
        return;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    record_end(status, with_figures);
    pthread_setcancelstate(before, NULL);
}

static void at_exit(void) {
    end(exit_status, true);
}

/* A process that ends without its destructors. May be called from a signal
 * handler, so no figures. */
static void exit_now(int status) __attribute__((noreturn));
static void exit_now(int status) {
    end(status, false);
    for (;;)
        syscall(SYS_exit_group, status);
}
MEMOPT_EXPORT void _exit(int status) {
    exit_now(status);
}
MEMOPT_EXPORT void _Exit(int status) {
    exit_now(status);
}

/* Runs neither destructors nor what on_exit() registered. */
MEMOPT_EXPORT void quick_exit(int status) {
    void (*own)(int);
    *(void **)&own = mo_libc_symbol("quick_exit");
    exit_status = status;
    own(status);
    abort(); /* not reached */
}
