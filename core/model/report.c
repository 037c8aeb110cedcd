/* report.c - see report.h. The report's memory, its notes, its frame. */
#include "config.h"

#include "core/model/report.h"

#include "core/base/error.h"
#include "core/model/build.h"
#include "core/model/model.h"
#include "core/model/peak.h"
#include "core/plugin/registry.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct memopt_report *collector; /* host->note() adds to it */

static void *report_alloc(void *arena, size_t size) {
    return mo_arena_alloc(arena, size);
}

int mo_report_new(struct memopt_report **ret_report, struct memopt_error *error) {
    struct mo_model *model = calloc(1, sizeof(*model));
    if (model == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    struct memopt_report *report = &model->report;
    *report = (struct memopt_report){
        .version = MEMOPT_REPORT_VERSION,
        .size = sizeof(*report),
        .memopt_version = PACKAGE_VERSION,
        .start_time = MEMOPT_UNKNOWN,
        .wall_time = MEMOPT_UNKNOWN,
        .user_time = MEMOPT_UNKNOWN,
        .system_time = MEMOPT_UNKNOWN,
        .peak_rss = MEMOPT_UNKNOWN,
        .minor_faults = MEMOPT_UNKNOWN,
        .major_faults = MEMOPT_UNKNOWN,
        .voluntary_switches = MEMOPT_UNKNOWN,
        .involuntary_switches = MEMOPT_UNKNOWN,
        .exit_status = -1,
        .source = "run",
        .process_size = sizeof(struct memopt_process),
        .note_size = sizeof(struct memopt_note),
        .module_size = sizeof(struct memopt_module),
        .function_size = sizeof(struct memopt_function),
        .location_size = sizeof(struct memopt_location),
        .stack_size = sizeof(struct memopt_stack),
        .value_type_size = sizeof(struct memopt_value_type),
        .sample_size = sizeof(struct memopt_sample),
        .line_size = sizeof(struct memopt_line),
        .label_size = sizeof(struct memopt_label),
        .event_stack_size = sizeof(struct memopt_event_stack),
        .arena = &model->arena,
        .alloc = report_alloc,
    };
    struct utsname system;
    if (uname(&system) == 0) {
        report->host = mo_report_strdup(report, system.nodename);
        report->system =
            mo_report_printf(report, "%s %s %s", system.sysname, system.release, system.machine);
        if (report->host == NULL || report->system == NULL) {
            mo_report_free(report);
            return mo_fail(error, -ENOMEM, "out of memory");
        }
    }
    *ret_report = report;
    return 0;
}

void mo_report_free(struct memopt_report *report) {
    if (report == NULL)
        return;
    if (collector == report)
        mo_report_collect_notes(NULL);
    struct mo_model *model = mo_model_of(report);
    mo_arena_free(&model->arena);
    free(model->texts.slots);
    free(model->modules.slots);
    free(model->functions.slots);
    free(model->locations.slots);
    free(model->stacks.slots);
    free(model);
}

char *mo_report_strdup(struct memopt_report *report, const char *text) {
    if (text == NULL)
        return NULL;
    size_t size = strlen(text) + 1;
    char *copy = memopt_report_alloc(report, size);
    if (copy != NULL)
        memcpy(copy, text, size);
    return copy;
}

static char *report_vprintf(struct memopt_report *report, const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *text = length < 0 ? NULL : memopt_report_alloc(report, (size_t)length + 1);
    if (text != NULL)
        vsnprintf(text, (size_t)length + 1, format, arguments);
    return text;
}

char *mo_report_printf(struct memopt_report *report, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text = report_vprintf(report, format, arguments);
    va_end(arguments);
    return text;
}

void *mo_model_grow(struct memopt_report *report, void *array, size_t count, size_t *room,
                    size_t size) {
    if (count < *room)
        return array;
    size_t more = *room == 0 ? 8 : *room * 2;
    void *larger = memopt_report_alloc(report, more * size);
    if (larger == NULL)
        return NULL;
    if (count > 0)
        memcpy(larger, array, count * size);
    *room = more;
    return larger;
}

/* ------------------------------------------------------------------- notes */

static void add_note(struct memopt_report *report, int level, int64_t pid, const char *format,
                     va_list arguments) {
    /* A process's own come one after the other; a run may have a hundred thousand of all. */
    enum { LOOK_BACK = 1024, MOST = 1 << 17 };
    struct mo_model *model = mo_model_of(report);
    if (report->note_count >= MOST)
        return;
    const char *text = report_vprintf(report, format, arguments);
    if (text == NULL)
        return;
    if (report->note_count == MOST - 1) {
        level = MEMOPT_NOTE_WARNING;
        pid = 0;
        text = "there are more notes than a report takes: the rest is left out";
    }
    for (size_t i = report->note_count, looked = 0; i-- > 0 && looked < LOOK_BACK; looked++)
        if (model->notes[i].pid == pid && strcmp(model->notes[i].text, text) == 0)
            return;
    struct memopt_note *notes =
        mo_model_grow(report, model->notes, report->note_count, &model->note_room, sizeof(*notes));
    char *said = mo_model_grow(report, model->said, report->note_count, &model->said_room, 1);
    if (said != NULL)
        model->said = said;
    if (notes == NULL || said == NULL)
        return;
    said[report->note_count] = 0;
    notes[report->note_count] = (struct memopt_note){.level = level, .pid = pid, .text = text};
    report->notes = model->notes = notes;
    report->note_count++;
}

void mo_report_note(struct memopt_report *report, int level, int64_t pid, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add_note(report, level, pid, format, arguments);
    va_end(arguments);
}

void mo_report_note_was_said(struct memopt_report *report) {
    if (report->note_count > 0)
        mo_model_of(report)->said[report->note_count - 1] = 1;
}

static void collect(int level, const char *kind, const char *text) {
    if (collector != NULL)
        mo_report_note(collector, level, 0, "%s%s%s", kind != NULL ? kind : "",
                       kind != NULL ? ": " : "", text);
}

void mo_report_collect_notes(struct memopt_report *report) {
    collector = report;
    mo_host_set_note(collect);
}

/* ------------------------------------------------------------------ events */

int mo_report_event(struct memopt_report *report, struct memopt_process *process, uint64_t time,
                    const char *kind, const char *text, struct memopt_error *error) {
    size_t count = process->event_count;
    struct memopt_event_report *events = memopt_report_alloc(report, (count + 1) * sizeof(*events));
    struct memopt_event_report event = {
        .time = time,
        .kind = mo_report_strdup(report, kind),
        .text = mo_report_strdup(report, text),
        .address = MEMOPT_UNKNOWN,
        .block_address = MEMOPT_UNKNOWN,
        .block_size = MEMOPT_UNKNOWN,
    };
    if (events == NULL || event.kind == NULL || event.text == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    if (count > 0)
        memcpy(events, process->events, count * sizeof(*events));
    events[count] = event;
    process->events = events;
    process->event_count = count + 1;
    return 0;
}

int mo_report_set_event(struct memopt_report *report, struct memopt_process *process, size_t i,
                        const struct memopt_event_report *event, struct memopt_error *error) {
    struct memopt_event_report *events =
        memopt_report_alloc(report, process->event_count * sizeof(*events));
    struct memopt_event_stack *stacks =
        memopt_report_alloc(report, (event->stack_count + 1) * sizeof(*stacks));
    if (events == NULL || stacks == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    memcpy(events, process->events, process->event_count * sizeof(*events));
    events[i] = *event;
    for (size_t k = 0; k < event->stack_count; k++) {
        stacks[k] = event->stacks[k];
        stacks[k].role = mo_build_text(report, stacks[k].role);
        stacks[k].by = mo_build_text(report, stacks[k].by);
        if (stacks[k].role == NULL || stacks[k].by == NULL)
            return mo_fail(error, -ENOMEM, "out of memory");
    }
    events[i].kind = mo_report_strdup(report, event->kind);
    events[i].text = mo_report_strdup(report, event->text);
    events[i].stacks = stacks;
    if (events[i].kind == NULL || events[i].text == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    process->events = events;
    return 0;
}

/* --------------------------------------------------------------- processes */

void mo_process_init(struct memopt_process *process) {
    *process = (struct memopt_process){
        .start_time = MEMOPT_UNKNOWN,
        .end_time = MEMOPT_UNKNOWN,
        .peak_rss = MEMOPT_UNKNOWN,
        .peak_rss_least = MEMOPT_UNKNOWN,
        .rss_mean = MEMOPT_UNKNOWN,
        .rss_rest = MEMOPT_UNKNOWN,
        .heap_live = MEMOPT_UNKNOWN,
        .heap_committed = MEMOPT_UNKNOWN,
        .heap_resident = MEMOPT_UNKNOWN,
        .heap_retained = MEMOPT_UNKNOWN,
        .heap_peak = MEMOPT_UNKNOWN,
        .fragmentation = NAN,
        .thread_size = sizeof(struct memopt_thread),
        .histogram_size = sizeof(struct memopt_histogram_bin),
        .heap_size = sizeof(struct memopt_heap_report),
        .event_size = sizeof(struct memopt_event_report),
    };
}

struct memopt_process *mo_model_add_process(struct mo_model *model) {
    struct memopt_report *report = &model->report;
    struct memopt_process *processes = mo_model_grow(
        report, model->processes, report->process_count, &model->process_room, sizeof(*processes));
    if (processes == NULL)
        return NULL;
    report->processes = model->processes = processes;
    struct memopt_process *process = &processes[report->process_count++];
    mo_process_init(process);
    return process;
}

/* ------------------------------------------------------------ begin and end */

int mo_report_begin(struct memopt_report *report, char *const *argv, struct memopt_error *error) {
    size_t count = 0;
    while (argv[count] != NULL)
        count++;
    char **copy = memopt_report_alloc(report, (count + 1) * sizeof(*copy));
    if (copy == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        if ((copy[i] = mo_report_strdup(report, argv[i])) == NULL)
            return mo_fail(error, -ENOMEM, "out of memory");
    mo_auto_free char *directory = getcwd(NULL, 0); /* may have been removed: not known then */
    if (directory != NULL && (report->directory = mo_report_strdup(report, directory)) == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    report->argv = copy;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    report->start_time = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return 0;
}

static uint64_t nanoseconds(struct timeval time) {
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_usec * 1000u;
}

int mo_report_end(struct memopt_report *report, int64_t pid, int wait_status,
                  const struct rusage *usage, uint64_t wall_time, struct memopt_error *error) {
    struct mo_model *model = mo_model_of(report);
    struct memopt_process *process = NULL;
    for (size_t i = 0; i < report->process_count && process == NULL; i++)
        if (model->processes[i].is_main)
            process = &model->processes[i];
    if (process == NULL) {
        /* Only processes without a main one: it stays first all the same. */
        struct memopt_process *last = mo_model_add_process(model);
        if (last == NULL)
            return mo_fail(error, -ENOMEM, "out of memory");
        process = &model->processes[0];
        memmove(process + 1, process, (report->process_count - 1) * sizeof(*process));
        mo_process_init(process);
        process->pid = pid;
        process->ppid = getpid();
        process->is_main = 1;
        process->binding = "none";
        process->start_time = report->start_time;
        if (report->argv != NULL)
            process->program = report->argv[0];
    }
    if (WIFSIGNALED(wait_status)) {
        process->end = MEMOPT_END_SIGNAL;
        process->end_value = WTERMSIG(wait_status);
        report->exit_signal = WTERMSIG(wait_status);
        report->exit_status = 128 + WTERMSIG(wait_status);
    } else if (WIFEXITED(wait_status)) {
        process->end = MEMOPT_END_EXIT;
        process->end_value = report->exit_status = WEXITSTATUS(wait_status);
    }
    report->wall_time = wall_time;
    if (usage != NULL) {
        report->user_time = nanoseconds(usage->ru_utime);
        report->system_time = nanoseconds(usage->ru_stime);
        report->minor_faults = (uint64_t)usage->ru_minflt;
        report->major_faults = (uint64_t)usage->ru_majflt;
        report->voluntary_switches = (uint64_t)usage->ru_nvcsw;
        report->involuntary_switches = (uint64_t)usage->ru_nivcsw;
    }
    if (report->peak_rss == MEMOPT_UNKNOWN)
        report->peak_rss = mo_peak_largest(report, usage);
    return 0;
}
