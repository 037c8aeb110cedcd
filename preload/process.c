/*
 * process.c - see process.h.
 *
 *   notes       kept until there is a ledger
 *   start       run.ini, the ledger, the environment
 */
#include "preload/process.h"

#include "core/base/error.h"
#include "core/base/rundir.h"
#include "core/base/sysmem.h"
#include "core/base/text.h"
#include "core/ledger/writer.h"

#include <memopt/show.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

struct mo_process mo_process;
static const char *named_directory; /* by MEMOPT_RUN, whether it is there or not */

/* ------------------------------------------------------------------- notes */

static char pending[4096]; /* level byte, text, NUL, …; for before the ledger is there */
static size_t pending_used;

static void say_on_stderr(const char *text) {
    char line[2048], name[256], *end = line + sizeof(line) - 1, *to;
    memopt_show(name, sizeof(name), program_invocation_short_name, 0);
    to = mo_text_put(mo_text_put(mo_text_put(line, end, "memopt: "), end, name), end, "[");
    to = mo_text_put(mo_text_put_number(to, end, (uint64_t)getpid()), end, "]: ");
    memopt_show(to, (size_t)(end - to), text, MEMOPT_SHOW_LINES);
    to = mo_text_put(to + strlen(to), line + sizeof(line), "\n");
    ssize_t written = write(STDERR_FILENO, line, (size_t)(to - line));
    (void)written;
}

/* For what has been said on stderr by the one who brings it (registry.h). Events
 * come from the backend at work, when the ledger is there if there is to be one. */
void mo_process_keep(int level, const char *kind, const char *text) {
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

void mo_process_note(int level, const char *format, ...) {
    char text[MEMOPT_ERROR_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (level >= MEMOPT_NOTE_ERROR)
        say_on_stderr(text);
    mo_process_keep(level, NULL, text);
}

void mo_process_fault(const struct memopt_error *error, const char *consequence) {
    bool is_locked_out = error->code == -EACCES || error->code == -EPERM || error->code == -ENOSYS;
    mo_process_note(is_locked_out && !mo_process.is_the_program ? MEMOPT_NOTE_WARNING
                                                                : MEMOPT_NOTE_ERROR,
                    "%s\nthis process %s", error->message, consequence);
}

static void flush_pending(void) {
    for (size_t i = 0; i < pending_used; i += strlen(pending + i) + 1)
        mo_ledger_note(pending[i], pending + i + 1);
    if (pending_used > 0)
        pending_used = 0;
}

/* ------------------------------------------------------------------- start */

/* What every process reads is small: no mapping for it. */
static _Alignas(16) char room[8192];
static size_t room_used;

static void *small_alloc(void *unused, size_t size) {
    (void)unused;
    size = (size + 15) & ~(size_t)15;
    if (size > sizeof(room) - room_used)
        return mo_sys_alloc(size);
    void *p = room + room_used;
    room_used += size;
    return p;
}
static const struct mo_allocator small_allocator = {small_alloc, NULL};

int mo_process_read(const char *name, char **ret_text, struct memopt_error *error) {
    const char *directory = mo_process.run_directory;
    int from = mo_rundir_open(directory, error);
    if (from < 0)
        return from;
    mo_auto_close int fd = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int code = errno;
    mo_rundir_close(from);
    if (fd < 0)
        return mo_fail(error, -code, "cannot open '%s/%s': %s", directory, name,
                       strerrordesc_np(code));
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > (16 << 20))
        return mo_fail(error, -EINVAL, "'%s/%s' is not what memopt run wrote", directory, name);
    char *text = small_alloc(NULL, (size_t)st.st_size + 1);
    if (text == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    size_t have = 0;
    while (have < (size_t)st.st_size) {
        ssize_t n = read(fd, text + have, (size_t)st.st_size - have);
        if (n <= 0)
            return mo_fail(error, -EIO, "cannot read '%s/%s'", directory, name);
        have += (size_t)n;
    }
    *ret_text = text;
    return 0;
}

static void read_environment(char *const *envp) {
    static const char run[] = "MEMOPT_RUN=", preloaded[] = "MEMOPT_PRELOADED=";
    for (; *envp != NULL; envp++)
        if (strncmp(*envp, run, sizeof(run) - 1) == 0 && (*envp)[sizeof(run) - 1] == '/' &&
            getauxval(AT_SECURE) == 0) {
            named_directory = *envp + sizeof(run) - 1;
        } else if (strncmp(*envp, preloaded, sizeof(preloaded) - 1) == 0) {
            char parent[24];
            char *end = mo_text_put_number(parent, parent + sizeof(parent), (uint64_t)getppid());
            mo_text_put(end, parent + sizeof(parent), ":");
            const char *value = *envp + sizeof(preloaded) - 1;
            mo_process.is_the_program = strncmp(value, parent, strlen(parent)) == 0;
        }
}

int mo_process_begin(enum mo_process_kind kind, char **envp, struct memopt_error *error) {
    struct mo_flat flat;
    char *text;
    mo_process.kind = kind;
    mo_process.follow = true;
    mo_end_prepare();
    read_environment(envp);
    if (named_directory == NULL)
        return mo_fail(error, -ENOENT,
                       "preloaded without 'memopt run' (MEMOPT_RUN names no run directory)");
    size_t length = strlen(named_directory) + 1;
    char *copy = small_alloc(NULL, length); /* the program may change its environment */
    if (copy == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    named_directory = memcpy(copy, named_directory, length);
    if (!mo_rundir_is_named(named_directory, NULL))
        return mo_fail(error, -EINVAL, "'%s' (MEMOPT_RUN) is not a directory of memopt run",
                       named_directory);
    int r = mo_rundir_hold(named_directory, error);
    if (r < 0)
        return r == -ENOENT ? 1 : r;
    mo_process.run_directory = named_directory;
    r = mo_process_read("run.ini", &text, error);
    if (r == 0)
        r = mo_flat_parse(text, &small_allocator, &flat, error);
    if (r < 0) {
        mo_process.run_directory = NULL;
        return r;
    }
    const char *follow = mo_flat_get(&flat, "run", "follow");
    mo_process.run = flat;
    mo_process.follow = follow == NULL || strcmp(follow, "no") != 0;
    mo_process.allocator = mo_flat_get(&flat, "run", "allocator");
    mo_process.plugin = mo_flat_get(&flat, "run", "plugin");
    if (mo_program_has_malloc()) {
        mo_process_note(MEMOPT_NOTE_WARNING,
                        "this program brings a malloc of its own: its memory is neither memopt's "
                        "nor seen by a tracker");
        mo_process.kind = MO_PROCESS_UNTOUCHED;
    }
    return 0;
}

bool mo_process_record(const struct mo_ledger_plan *plan, const char *allocator,
                       const char *version, int argc, char **argv) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (mo_ledger_create(plan, argc, argv, &error) < 0) {
        if (mo_ledger_left_word() || !mo_process.is_the_program)
            return false;
        for (size_t i = 0; i < pending_used; i += strlen(pending + i) + 1)
            if (pending[i] < MEMOPT_NOTE_ERROR) /* those have been said */
                say_on_stderr(pending + i + 1);
        say_on_stderr(error.message);
        return false;
    }
    flush_pending();
    bool untouched = mo_process.kind == MO_PROCESS_UNTOUCHED;
    mo_ledger_set_allocator(untouched ? "" : allocator, untouched ? "" : version);
    return true;
}

MEMOPT_EXPORT struct mo_program_services memopt_program_services_2 = {
    .version = MO_PROGRAM_SERVICES,
    .size = sizeof(struct mo_program_services),
    .heap_slot = mo_ledger_heap_slot,
    .heap_number = mo_ledger_heap_number,
    .note = mo_process_keep,
    .at_fork = mo_fork_add,
};

void mo_process_go(char **envp) {
    mo_rundir_release();
    memopt_program_services_2.run_directory = named_directory;
    if (mo_process.kind != MO_PROCESS_UNTOUCHED)
        memopt_program_services_2.allocator =
            mo_process.plugin != NULL ? mo_process.plugin : mo_process.allocator;
    memopt_program_services_2.allocator_is_open = mo_process.kind == MO_PROCESS_SHIM;
    if (mo_ledger() != NULL)
        mo_end_install();
    if (!mo_process.follow)
        mo_environment_forget(envp);
}
