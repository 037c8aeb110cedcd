/*
 * program.c - memopt_report(): this process's own report, in the process (see
 * heap.h).
 *
 * Under `memopt run` the process's record has more than libmemopt knows (what
 * trackers counted): it is read as the memopt command would. Either way the
 * figures of the backend, of the process and of its heaps are those of now.
 */
#include "core/heap/heap.h"

#include "core/base/error.h"
#include "core/base/proc.h"
#include "core/model/peak.h"
#include "core/model/process.h"
#include "core/render/render.h"
#include "core/runtime/notes.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int no_memory(struct memopt_error *error) {
    return mo_fail(error, -ENOMEM, "out of memory for the report");
}

/* ------------------------------------------------------------ what /proc says */

/* The kernel takes no more than MOST bytes of them, with the environment; each ends with a
 * NUL, and one more follows. NULL: out of memory. */
static char *read_arguments(size_t *ret_size) {
    enum { ROOM = 4096, MOST = 8 << 20 };
    char *text;
    for (size_t room = ROOM; (text = malloc(room)) != NULL; room *= 4) {
        int size = mo_proc_read_of(getpid(), "cmdline", text, room);
        *ret_size = size < 0 ? 0 : (size_t)size;
        if (*ret_size < room - 1 || room > MOST)
            break;
        free(text);
    }
    return text;
}

/* The arguments this program was started with. */
static int begin(struct memopt_report *report, struct memopt_error *error) {
    size_t size = 0, count = 0;
    mo_auto_free char *text = read_arguments(&size);
    for (size_t i = 0; i < size; i++)
        count += text[i] == '\0';
    mo_auto_free char **argv = calloc(count + 1, sizeof(*argv));
    if (argv == NULL)
        return no_memory(error);
    char *at = text;
    for (size_t i = 0; i < count; i++, at += strlen(at) + 1)
        argv[i] = at;
    return mo_report_begin(report, argv, error);
}

static uint64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Nanoseconds since this process started, to a clock tick. */
static uint64_t age(void) {
    struct mo_proc_stat stat;
    if (mo_proc_read_stat(getpid(), &stat) < 0)
        return MEMOPT_UNKNOWN;
    uint64_t up = now(CLOCK_BOOTTIME);
    return up > stat.start ? up - stat.start : 0;
}

/* ------------------------------------------------------------- the one process */

struct walk {
    struct memopt_report *report;
    struct memopt_heap_report *heaps;
    size_t count, room;
};

static int add_heap(void *context, struct memopt_heap *heap,
                    const struct memopt_heap_statistics *s) {
    struct walk *walk = context;
    (void)heap;
    if (walk->count == walk->room) {
        size_t room = walk->room == 0 ? 16 : walk->room * 2;
        struct memopt_heap_report *larger =
            memopt_report_alloc(walk->report, room * sizeof(*larger));
        if (larger == NULL)
            return -ENOMEM;
        if (walk->count > 0)
            memcpy(larger, walk->heaps, walk->count * sizeof(*larger));
        walk->heaps = larger;
        walk->room = room;
    }
    struct memopt_heap_report *to = &walk->heaps[walk->count];
    *to = (struct memopt_heap_report){
        .name = mo_report_strdup(walk->report, s->name),
        .allocator = mo_report_strdup(walk->report, s->allocator),
        .limit = s->limit,
        .live_bytes = s->live_bytes,
        .peak_bytes = s->peak_bytes,
        .live_blocks = s->live_blocks,
        .allocations = s->allocations,
        .frees = s->frees,
        .refused = s->refused,
        .committed = s->whole_backend ? MEMOPT_UNKNOWN : s->committed,
        .fragmentation = s->whole_backend ? (double)NAN : s->fragmentation,
    };
    if (to->name == NULL || to->allocator == NULL)
        return -ENOMEM;
    walk->count++;
    return 0;
}

/* This process's record becomes the report's process. A program that it was before execve()
 * had its own place in the run's file, and an earlier one. */
static int read_record(struct memopt_report *report, const char *directory,
                       struct memopt_error *error) {
    struct mo_ledgers_file file;
    struct mo_ledger_copy own = {0}, record;
    struct mo_process_reader *reader = NULL;
    struct memopt_error why = MEMOPT_ERROR_INIT;
    uint64_t failed;
    mo_auto_close int fd = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return mo_fail(error, -errno, "run directory '%s': %s", directory, strerror(errno));
    int code = mo_ledgers_open(fd, &file, error);
    if (code < 0) {
        mo_error_prefix(error, "run directory '%s'", directory);
        return code;
    }
    mo_ledgers_counts(&file, &failed);
    for (uint64_t place = mo_ledgers_next(&file, 0); place != UINT64_MAX && code != -ENOMEM;
         place = mo_ledgers_next(&file, place + 1)) {
        code = mo_ledgers_read(&file, place, &record, &why);
        if (code < 0)
            continue; /* another's, or one that is of no use */
        if (record.header.pid != getpid()) {
            mo_ledger_release(&record);
            continue;
        }
        mo_ledger_release(&own);
        own = record;
    }
    mo_ledgers_close(&file);
    code = code == -ENOMEM ? no_memory(error) : 0;
    if (code == 0 && own.header.pid != 0 &&
        (code = mo_process_reader_new(report, mo_runtime_config("memopt"), &reader, error)) == 0)
        code = mo_process_read(reader, &own, error);
    mo_process_reader_free(reader);
    mo_ledger_release(&own);
    return code;
}

/* What is known without a ledger. */
static int describe(struct memopt_report *report, struct memopt_process *process,
                    struct memopt_error *error) {
    char exe[4096];
    mo_process_init(process);
    process->pid = getpid();
    process->ppid = getppid();
    process->binding = "none";
    mo_proc_read_exe(getpid(), exe, sizeof(exe));
    process->program = mo_report_strdup(report, exe);
    size_t length = 1;
    for (size_t i = 0; report->argv[i] != NULL; i++)
        length += strlen(report->argv[i]) + 1;
    char *command = memopt_report_alloc(report, length);
    if (process->program == NULL || command == NULL)
        return no_memory(error);
    char *at = command;
    for (size_t i = 0; report->argv[i] != NULL; i++)
        at += sprintf(at, "%s%s", i > 0 ? " " : "", report->argv[i]);
    process->command = command;
    return 0;
}

/* The backend behind the process's malloc, or the default heap's if that is in
 * use. */
static int backend_figures(struct memopt_report *report, struct memopt_process *process,
                           const struct mo_backend *backend, struct memopt_error *error) {
    struct memopt_figures figures = MEMOPT_FIGURES_INIT;
    process->allocator = mo_report_strdup(report, backend->plugin->descriptor.name);
    const struct memopt_allocator_ops *ops = &backend->plugin->ops.allocator;
    if (ops->backend_version != NULL)
        process->allocator_version = mo_report_strdup(report, ops->backend_version());
    if (process->allocator == NULL)
        return no_memory(error);
    if (backend->plugin->ops.allocator.figures(&figures) < 0)
        return 0;
    process->heap_live = figures.live;
    process->heap_peak = figures.peak;
    process->heap_committed = figures.committed;
    process->heap_resident = figures.resident;
    process->heap_retained = figures.retained;
    process->fragmentation = figures.fragmentation;
    return 0;
}

static uint64_t nanoseconds(struct timeval time) {
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_usec * 1000u;
}

static void resources(struct memopt_report *report, struct memopt_process *process) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    report->user_time = nanoseconds(usage.ru_utime);
    report->system_time = nanoseconds(usage.ru_stime);
    report->minor_faults = (uint64_t)usage.ru_minflt;
    report->major_faults = (uint64_t)usage.ru_majflt;
    report->voluntary_switches = (uint64_t)usage.ru_nvcsw;
    report->involuntary_switches = (uint64_t)usage.ru_nivcsw;
    report->peak_rss = process->peak_rss = mo_peak_of_this_process();
    report->wall_time = age();
    if (report->wall_time != MEMOPT_UNKNOWN)
        process->start_time = report->start_time = now(CLOCK_REALTIME) - report->wall_time;
    process->end = MEMOPT_END_RUNNING;
}

/* ------------------------------------------------------------------- the report */

struct noting {
    struct memopt_report *report;
    struct memopt_process *process;
    uint64_t start; /* of the process, by the notes' clock */
    struct memopt_error *error;
};

static int add_note(void *context, const struct mo_note *note) {
    const struct noting *to = context;
    if (note->kind == NULL) {
        mo_report_note(to->report, note->level, getpid(), "%s", note->text);
        return 0;
    }
    uint64_t time = MEMOPT_UNKNOWN;
    if (to->report->wall_time != MEMOPT_UNKNOWN)
        time = note->time > to->start ? note->time - to->start : 0;
    return mo_report_event(to->report, to->process, time, note->kind, note->text, to->error);
}

static int fill(struct memopt_report *report, struct memopt_error *error) {
    const struct mo_program_services *services = mo_runtime_services();
    int code = begin(report, error);
    if (code < 0)
        return code;
    struct memopt_process *process = memopt_report_alloc(report, sizeof(*process));
    if (process == NULL)
        return no_memory(error);
    if (mo_runtime_is_run() && (code = read_record(report, services->run_directory, error)) < 0)
        return code;
    if (report->process_count > 0)
        *process = report->processes[0];
    else if ((code = describe(report, process, error)) < 0)
        return code;
    process->is_main = 1;
    report->processes = process;
    report->process_count = 1;

    struct walk walk = {.report = report};
    if (mo_heap_walk(add_heap, &walk) < 0)
        return no_memory(error);
    process->heaps = walk.heaps;
    process->heap_count = walk.count;
    /* Under memopt run the process's malloc is the default heap, used or not. */
    struct memopt_heap *heap = mo_heap_find("default");
    if (heap == NULL && mo_runtime_is_run())
        mo_heap_open("default", NULL, &heap, error);
    if (heap != NULL && (code = backend_figures(report, process, heap->backend, error)) < 0)
        return code;
    resources(report, process);
    struct noting noting = {report, process, mo_notes_clock() - report->wall_time, error};
    return mo_notes_each(add_note, &noting);
}

int memopt_report(struct memopt_error *error) {
    struct memopt_error unwanted;
    if (error == NULL)
        error = &unwanted;
    int code = mo_runtime_enter(error, "report");
    if (code < 0)
        return code;
    struct memopt_report *report = NULL;
    mo_runtime_own_begin();
    code = mo_runtime_start(error);
    if (code == 0)
        code = mo_report_new(&report, error);
    if (code == 0)
        code = fill(report, error);
    if (code == 0)
        code = mo_report_write(report, mo_runtime_config("memopt"), 0, error);
    mo_report_free(report);
    mo_runtime_own_end();
    mo_runtime_leave();
    return code;
}
