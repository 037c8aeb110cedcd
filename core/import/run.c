/*
 * run.c - see run.h.
 *
 *   1. what became of a process that did not say so: its successor, if it has called exec
 *   2. rows for many
 *   3. open, fold, finish
 */
#include "config.h"

#include "core/import/run.h"

#include "core/base/error.h"
#include "core/base/proc.h"
#include "core/model/model.h"
#include "core/model/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHAINS = 4096 };

/* What else its record says of each process, which reporters need not know. */
struct link {
    uint64_t begun, process_start;
    int forked; /* the record was begun by fork, not by exec */
    int whole;  /* nothing more is to be learnt from it about another process */
    char name[sizeof(((struct mo_ledger_header *)0)->name)];
    size_t next; /* in its chain; index + 1 */
};

struct mo_run {
    struct mo_model *model;
    struct memopt_report *report;
    struct mo_process_reader *reader;
    struct mo_ledgers_file file;
    char directory[PATH_MAX];
    size_t first;       /* of the report's processes, the run's first */
    struct link *links; /* links[i] belongs to the (first + i)-th */
    size_t link_room;
    size_t chains[CHAINS];         /* those of unknown end, by number; index + 1, newest first */
    struct memopt_process *merged; /* rows for many */
    size_t merged_count;
    uint64_t read; /* records */
};

static int no_memory(struct memopt_error *error) {
    return mo_fail(error, -ENOMEM, "out of memory");
}

/* ------------------------------------------- 1. what became of a process */

/* Does the process run that had this number when its record was begun? (A daemon that
 * the program left behind does.) If so, `program` is its executable, or "". */
static int is_running(int64_t pid, uint64_t begun, char *program, size_t size) {
    struct mo_proc_stat stat;
    mo_proc_read_exe(pid, program, size);
    return mo_proc_read_stat(pid, &stat) == 0 && strchr("ZXx", stat.state) == NULL &&
           stat.start <= begun;
}

/* Whether two paths that were read of /proc/PID/exe are of programs of different names.
 * Paths alone do not say it: a process in a chroot or in a name space of its own and
 * memopt have different ones for the same file. */
int mo_is_other_program(const char *before, const char *after) {
    static const char deleted[] = " (deleted)";
    if (before == NULL || before[0] == '\0' || after[0] == '\0' ||
        strlen(before) >= sizeof(((struct mo_ledger_header *)0)->exe) - 1) /* cut */
        return 0;
    const char *names[2] = {before, after};
    size_t lengths[2];
    for (int i = 0; i < 2; i++) {
        const char *slash = strrchr(names[i], '/');
        names[i] = slash == NULL ? names[i] : slash + 1;
        lengths[i] = strlen(names[i]);
        if (lengths[i] >= sizeof(deleted) &&
            strcmp(names[i] + lengths[i] - (sizeof(deleted) - 1), deleted) == 0)
            lengths[i] -= sizeof(deleted) - 1;
    }
    return lengths[0] != lengths[1] || memcmp(names[0], names[1], lengths[0]) != 0;
}

/* The i-th process went on as a program that memopt is not in: one that is statically
 * linked, that has another user's rights, that was given no LD_PRELOAD. `program`: its
 * path, NULL if that is not known. It comes last. */
static struct memopt_process *add_successor(struct mo_model *model, size_t i, const char *program,
                                            struct memopt_error *error) {
    struct memopt_process *process = mo_model_add_process(model);
    if (process == NULL) {
        no_memory(error);
        return NULL;
    }
    model->processes[i].end = MEMOPT_END_EXEC;
    process->pid = model->processes[i].pid;
    process->ppid = model->processes[i].ppid;
    if (program != NULL && (process->program = mo_report_strdup(&model->report, program)) == NULL) {
        no_memory(error);
        return NULL;
    }
    return process;
}

static void move_to_front(struct mo_model *model, size_t first, size_t i) {
    struct memopt_process copy = model->processes[i];
    struct memopt_process *front = &model->processes[first];
    memmove(front + 1, front, (i - first) * sizeof(*front));
    *front = copy;
}

/* Of the processes of that number whose end is not known, the one that has become the
 * program that began now; it leaves its chain. The process was there before its record. */
static struct memopt_process *take_predecessor(struct mo_run *run, int64_t pid, uint64_t start) {
    size_t *at = &run->chains[(uint64_t)pid % CHAINS];
    for (; *at != 0; at = &run->links[*at - 1].next) {
        struct link *link = &run->links[*at - 1];
        struct memopt_process *process = &run->model->processes[run->first + *at - 1];
        if (process->pid == pid && start <= link->begun) {
            *at = link->next;
            return process;
        }
    }
    return NULL;
}

/* Leaves the i-th to be found, if its end is not known. */
static void wait_for_successor(struct mo_run *run, size_t i) {
    const struct memopt_process *process = &run->model->processes[run->first + i];
    size_t *newest = &run->chains[(uint64_t)process->pid % CHAINS];
    if (process->end != MEMOPT_END_UNKNOWN)
        return;
    run->links[i].next = *newest;
    *newest = i + 1;
}

/* Looks for the process that executed this program, and leaves it to be found. */
static void chain(struct mo_run *run, size_t i) {
    struct memopt_process *process = &run->model->processes[run->first + i];
    struct link *link = &run->links[i];
    link->whole = link->forked || link->process_start == 0;
    if (!link->whole) {
        struct memopt_process *before = take_predecessor(run, process->pid, link->process_start);
        if (before != NULL) {
            before->end = MEMOPT_END_EXEC;
            before->end_time = process->start_time;
            link->whole = 1;
        }
    }
    wait_for_successor(run, i);
}

/* What became of processes whose exit hook did not run, and which is the main one. They are
 * in the order of their starts now: a successor that was read before its predecessor finds it. */
static int settle_ends(struct mo_run *run, int64_t main_pid, struct memopt_error *error) {
    struct mo_model *model = run->model;
    const struct link *links = run->links;
    size_t first = run->first, count = model->report.process_count, main = count;
    memset(run->chains, 0, sizeof(run->chains));
    for (size_t i = first; i < count; i++)
        chain(run, i - first);
    for (size_t i = first; i < count; i++) {
        struct memopt_process *process = &model->processes[i];
        char program[4096];
        if (main_pid == 0)
            main_pid = process->pid;
        if (process->pid == main_pid)
            main = i; /* the last program it became */
        if (process->end != MEMOPT_END_UNKNOWN ||
            !is_running(process->pid, links[i - first].begun, program, sizeof(program)))
            continue;
        process->end = MEMOPT_END_RUNNING;
        if (mo_is_other_program(process->program, program)) {
            process = add_successor(model, i, program, error);
            if (process == NULL)
                return -ENOMEM;
            process->end = MEMOPT_END_RUNNING;
        }
    }
    if (main == count)
        return 0;
    model->processes[main].is_main = 1;
    memcpy(model->main_name, links[main - first].name, sizeof(model->main_name));
    move_to_front(model, first, main);
    return 0;
}

int mo_report_became(struct memopt_report *report, const char *program, const char *name,
                     int wait_status, struct memopt_error *error) {
    struct mo_model *model = mo_model_of(report);
    const struct memopt_process *main = model->processes;
    if (report->process_count == 0 || !main->is_main || main->end != MEMOPT_END_UNKNOWN)
        return 0;
    int has_name = name[0] != '\0' && model->main_name[0] != '\0';
    int renamed = has_name && strcmp(name, model->main_name) != 0;
    if (mo_is_other_program(main->program, program)) {
        mo_report_note(report, MEMOPT_NOTE_INFO, main->pid,
                       "the program became '%s', which left no record: of that one only the end "
                       "is known",
                       program);
    } else if (renamed && WIFEXITED(wait_status)) {
        mo_report_note(report, MEMOPT_NOTE_INFO, main->pid,
                       "the program became another, which left no record and was called '%s' at "
                       "its end: of that one only the end is known",
                       name);
        program = NULL;
    } else {
        if (renamed)
            mo_report_note(report, MEMOPT_NOTE_INFO, main->pid,
                           "it was called '%s' at its end: it had given itself that name, or "
                           "become a program that left no record",
                           name);
        else if (WIFEXITED(wait_status))
            mo_report_note(report, MEMOPT_NOTE_INFO, main->pid,
                           "its end was not recorded: it exited past the C library, or had "
                           "become a program that left no record");
        return 0;
    }
    struct memopt_process *process = add_successor(model, 0, program, error);
    if (process == NULL)
        return -ENOMEM;
    process->is_main = 1;
    model->processes[0].is_main = 0;
    move_to_front(model, 0, report->process_count - 1);
    return 0;
}

/* A process that could not have a ledger has left the reason (core/ledger/writer.c). */
static void note_missing(struct mo_run *run, int directory, const char *name) {
    const char *dot = strrchr(name, '.');
    char why[128];
    ssize_t length = dot == NULL || strcmp(dot, ".missing") != 0
                         ? -1
                         : readlinkat(directory, name, why, sizeof(why) - 1);
    if (length <= 0)
        return;
    why[length] = '\0';
    mo_report_note(run->report, MEMOPT_NOTE_WARNING, strtoll(name, NULL, 10),
                   "not recorded and not counted: no ledger in the run directory: "
                   "%s",
                   why);
}

/* ----------------------------------------------------------- 2. rows for many */

size_t mo_run_rows = MO_ROWS;

static uint64_t highest(uint64_t a, uint64_t b) {
    return a == MEMOPT_UNKNOWN || b == MEMOPT_UNKNOWN ? MEMOPT_UNKNOWN : a > b ? a : b;
}

static void add_to_row(struct memopt_process *row, const struct memopt_process *process) {
    row->merged++;
    if (process->start_time < row->start_time)
        row->start_time = process->start_time;
    if (row->end_time == MEMOPT_UNKNOWN ||
        (process->end_time != MEMOPT_UNKNOWN && process->end_time > row->end_time))
        row->end_time = process->end_time;
    row->peak_rss = highest(row->peak_rss, process->peak_rss);
    row->heap_peak = highest(row->heap_peak, process->heap_peak);
    row->has_counts = row->has_counts && process->has_counts;
    struct memopt_counts *sum = &row->counts;
    const struct memopt_counts *more = &process->counts;
    memopt_counts_add(sum, more);
    if (more->peak_bytes > sum->peak_bytes) {
        sum->peak_bytes = more->peak_bytes;
        sum->peak_error = more->peak_error;
    }
}

static int same_text(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* 0, or -ENOMEM: it keeps its row. */
static int merge(struct mo_run *run, const struct memopt_process *process) {
    for (size_t i = 0; i < run->merged_count; i++) {
        struct memopt_process *row = &run->merged[i];
        if (same_text(row->program, process->program) &&
            same_text(row->allocator, process->allocator) && row->end == process->end) {
            add_to_row(row, process);
            return 0;
        }
    }
    struct memopt_process *larger = realloc(run->merged, (run->merged_count + 1) * sizeof(*larger));
    if (larger == NULL)
        return -ENOMEM;
    run->merged = larger;
    struct memopt_process *row = &larger[run->merged_count];
    mo_process_init(row);
    row->program = mo_report_strdup(run->report, process->program);
    row->allocator = mo_report_strdup(run->report, process->allocator);
    row->allocator_version = mo_report_strdup(run->report, process->allocator_version);
    if ((process->program != NULL && row->program == NULL) ||
        (process->allocator != NULL && row->allocator == NULL))
        return -ENOMEM;
    row->binding = process->binding;
    row->end = process->end;
    row->end_value = process->end_value;
    row->peak_rss = process->peak_rss;
    row->heap_peak = process->heap_peak;
    row->has_counts = process->has_counts;
    row->merged = 0;
    run->merged_count++;
    add_to_row(row, process);
    return 0;
}

/* Ended well, and nobody waits for more to be known of it. */
static int may_be_merged(const struct mo_run *run, size_t i, int64_t main_pid) {
    const struct memopt_process *process = &run->model->processes[run->first + i];
    return process->pid != main_pid && process->event_count == 0 && process->heap_count == 0 &&
           ((process->end == MEMOPT_END_EXIT && process->end_value == 0 && run->links[i].whole) ||
            process->end == MEMOPT_END_EXEC);
}

/* Beyond so many rows. */
static void merge_rest(struct mo_run *run, int64_t main_pid) {
    struct mo_model *model = run->model;
    size_t count = model->report.process_count - run->first, kept = mo_run_rows;
    if (count <= mo_run_rows)
        return;
    for (size_t i = mo_run_rows; i < count; i++) {
        if (may_be_merged(run, i, main_pid) && merge(run, &model->processes[run->first + i]) == 0)
            continue;
        model->processes[run->first + kept] = model->processes[run->first + i];
        run->links[kept++] = run->links[i];
    }
    if (kept == count)
        return;
    model->report.process_count = run->first + kept;
    memset(run->chains, 0, sizeof(run->chains));
    for (size_t i = 0; i < kept; i++)
        wait_for_successor(run, i);
}

/* What was allocated since, for a process that has no row: texts that may be found again
 * are among it. */
static void forget(struct mo_run *run, struct mo_arena_mark mark) {
    mo_process_reader_forget(run->reader);
    mo_arena_release(&run->model->arena, mark);
}

static int add_merged(struct mo_run *run, struct memopt_error *error) {
    for (size_t i = 0; i < run->merged_count; i++) {
        struct memopt_process *process = mo_model_add_process(run->model);
        if (process == NULL)
            return no_memory(error);
        *process = run->merged[i];
    }
    return 0;
}

/* ------------------------------------------------------ 3. open, fold, finish */

int mo_run_open(struct memopt_report *report, const char *directory, struct mo_config *config,
                struct mo_run **ret_run, struct memopt_error *error) {
    mo_auto_close int fd = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return mo_fail(error, -errno, "run directory '%s': %s", directory, strerror(errno));
    struct mo_run *run = calloc(1, sizeof(*run));
    if (run == NULL)
        return no_memory(error);
    run->model = mo_model_of(report);
    run->report = report;
    run->first = report->process_count;
    run->file = (struct mo_ledgers_file)MO_LEDGERS_FILE_NONE;
    int r = mo_process_reader_new(report, config, &run->reader, error);
    if (r == 0 && (r = mo_ledgers_open(fd, &run->file, error)) < 0)
        mo_error_prefix(error, "run directory '%s'", directory);
    if (r < 0) {
        mo_run_close(run);
        return r;
    }
    snprintf(run->directory, sizeof(run->directory), "%s", directory);
    *ret_run = run;
    return 0;
}

void mo_run_close(struct mo_run *run) {
    if (run == NULL)
        return;
    mo_ledgers_close(&run->file);
    mo_process_reader_free(run->reader);
    free(run->links);
    free(run->merged);
    free(run);
}

/* One record, as a process. */
static int read_record(struct mo_run *run, uint64_t place, int64_t main_pid,
                       struct memopt_error *error) {
    struct memopt_report *report = run->report;
    struct mo_arena_mark mark = mo_arena_mark(&run->model->arena);
    const struct memopt_process *rows = report->processes;
    size_t notes = report->note_count, rows_for_many = run->merged_count;
    struct mo_ledger_copy ledger;
    int r = mo_ledgers_read(&run->file, place, &ledger, error);
    run->read++;
    if (r < 0) {
        if (r == -ENOMEM)
            return r;
        mo_report_note(report, MEMOPT_NOTE_WARNING, 0, "%s", error != NULL ? error->message : "");
        return 0;
    }
    size_t i = report->process_count - run->first;
    if (i == run->link_room) {
        size_t room = i == 0 ? 64 : i * 2;
        struct link *larger = realloc(run->links, room * sizeof(*larger));
        if (larger == NULL) {
            mo_ledger_release(&ledger);
            return no_memory(error);
        }
        run->links = larger;
        run->link_room = room;
    }
    run->links[i] = (struct link){.begun = ledger.header.begun,
                                  .process_start = ledger.header.process_start,
                                  .forked = ledger.header.forked != 0};
    memcpy(run->links[i].name, ledger.header.name, sizeof(run->links[i].name));
    r = mo_process_read(run->reader, &ledger, error);
    mo_ledger_release(&ledger);
    if (r < 0) {
        report->process_count = run->first + i; /* it may be read again */
        return r;
    }
    chain(run, i);
    if (i < mo_run_rows || !may_be_merged(run, i, main_pid) ||
        merge(run, &run->model->processes[run->first + i]) < 0)
        return 0;
    report->process_count--;
    if (report->processes == rows && report->note_count == notes &&
        run->merged_count == rows_for_many)
        forget(run, mark);
    return 0;
}

int mo_run_fold(struct mo_run *run, int64_t main_pid, struct memopt_error *error) {
    struct memopt_error own = MEMOPT_ERROR_INIT;
    int r = 0;
    uint64_t failed;
    mo_ledgers_counts(&run->file, &failed);
    for (uint64_t place = mo_ledgers_next(&run->file, 0);
         place != UINT64_MAX && r == 0 && run->file.gives_back;
         place = mo_ledgers_next(&run->file, place + 1)) {
        if (!mo_ledgers_is_over(&run->file, place))
            continue;
        r = read_record(run, place, main_pid, error != NULL ? error : &own);
        if (r == 0)
            mo_ledgers_drop(&run->file, place);
    }
    merge_rest(run, main_pid);
    return r;
}

static int by_start(const void *a_, const void *b_, void *processes_) {
    const struct memopt_process *processes = processes_;
    size_t i = *(const size_t *)a_, j = *(const size_t *)b_;
    const struct memopt_process *a = &processes[i], *b = &processes[j];
    if (a->start_time != b->start_time)
        return a->start_time < b->start_time ? -1 : 1;
    if (a->pid != b->pid)
        return a->pid < b->pid ? -1 : 1;
    return i < j ? -1 : i > j;
}

/* The processes and their links, by start. */
static int sort(struct mo_run *run, struct memopt_error *error) {
    struct memopt_process *processes = run->model->processes + run->first;
    size_t count = run->report->process_count - run->first;
    if (count < 2)
        return 0;
    size_t *order = malloc(count * sizeof(*order));
    struct memopt_process *sorted = malloc(count * sizeof(*sorted));
    struct link *links = malloc((count + 1) * sizeof(*links));
    int r = order == NULL || sorted == NULL || links == NULL ? no_memory(error) : 0;
    for (size_t i = 0; i < count && r == 0; i++)
        order[i] = i;
    if (r == 0)
        qsort_r(order, count, sizeof(*order), by_start, processes);
    for (size_t i = 0; i < count && r == 0; i++) {
        sorted[i] = processes[order[i]];
        links[i] = run->links[order[i]];
    }
    if (r == 0) {
        memcpy(processes, sorted, count * sizeof(*sorted));
        free(run->links);
        run->links = links;
        run->link_room = count;
        links = NULL;
    }
    free(order);
    free(sorted);
    free(links);
    return r;
}

/* Processes that could not have a record, and those that died before theirs was begun. */
static int note_lost(struct mo_run *run, uint64_t failed, struct memopt_error *error) {
    DIR *directory = opendir(run->directory);
    if (directory == NULL)
        return mo_fail(error, -errno, "run directory '%s': %s", run->directory, strerror(errno));
    struct dirent *file;
    while ((file = readdir(directory)) != NULL)
        note_missing(run, dirfd(directory), file->d_name);
    closedir(directory);
    uint64_t taken = run->file.taken;
    if (taken < failed || taken - failed <= run->read)
        return 0;
    uint64_t lost = taken - failed - run->read;
    mo_report_note(run->report, MEMOPT_NOTE_WARNING, 0,
                   "%llu process%s died before memopt's record of %s was begun",
                   (unsigned long long)lost, lost == 1 ? "" : "es", lost == 1 ? "it" : "them");
    return 0;
}

int mo_run_finish(struct mo_run *run, int64_t main_pid, struct memopt_error *error) {
    struct memopt_error own = MEMOPT_ERROR_INIT;
    if (error == NULL)
        error = &own;
    int r = 0;
    uint64_t failed;
    mo_ledgers_counts(&run->file, &failed); /* of those that there are now, however many come */
    /* also what is still written to: by processes that outlive the program, mostly */
    for (uint64_t place = mo_ledgers_next(&run->file, 0); place != UINT64_MAX && r == 0;
         place = mo_ledgers_next(&run->file, place + 1))
        r = read_record(run, place, main_pid, error);
    merge_rest(run, main_pid);
    if (r == 0)
        r = sort(run, error);
    if (r == 0)
        r = settle_ends(run, main_pid, error);
    if (r == 0)
        r = add_merged(run, error);
    return r == 0 ? note_lost(run, failed, error) : r;
}

int mo_report_read_run(struct memopt_report *report, const char *directory, int64_t main_pid,
                       struct mo_config *config, struct memopt_error *error) {
    struct mo_run *run;
    int r = mo_run_open(report, directory, config, &run, error);
    if (r < 0)
        return r;
    r = mo_run_finish(run, main_pid, error);
    mo_run_close(run);
    return r;
}
