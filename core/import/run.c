/*
 * run.c - the records of a run become the report's processes: at its end, or, so that a
 * run of many programs needs little room, one by one while it lives.
 *
 *   1. the trackers that the configuration names
 *   2. a record becomes a process
 *   3. what became of a process that did not say so: its successor, if it has called exec
 *   4. rows for many
 *   5. open, fold, finish
 */
#include "config.h"

#include "core/model/report.h"

#include "core/base/error.h"
#include "core/ledger/reader.h"
#include "core/model/model.h"
#include "core/plugin/registry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    EVENTS_MAXIMUM = 256, /* of a process; what is beyond is a note */
    NOTES_MAXIMUM = 512,  /* of a process; what is beyond is left out */
    CHAINS = 4096,
    TEXTS = 256,
};

struct tracker {
    struct mo_plugin *plugin;
    void *settings;
};

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
    struct mo_config *config;
    struct mo_ledgers_file file;
    char directory[PATH_MAX];
    int trackers_are_loaded;
    struct tracker trackers[MO_LEDGER_TRACKERS];
    size_t tracker_count;
    size_t first;       /* of the report's processes, the run's first */
    struct link *links; /* links[i] belongs to the (first + i)-th */
    size_t link_room;
    size_t chains[CHAINS];         /* those of unknown end, by number; index + 1, newest first */
    struct memopt_process *merged; /* rows for many */
    size_t merged_count;
    uint64_t read;            /* records */
    const char *texts[TEXTS]; /* that many processes share, by a hash */
};

static int no_memory(struct memopt_error *error) {
    return mo_fail(error, -ENOMEM, "out of memory");
}

/* -------------------------------------------------------------- 1. trackers */

/* The trackers that the configuration names, with their settings. One that
 * can't be loaded here was not in the program either: its ledger says so. */
static int load_trackers(struct mo_run *run, struct mo_config *config, struct memopt_error *error) {
    if (run->trackers_are_loaded)
        return 0;
    run->trackers_are_loaded = 1;
    const struct mo_core_section *section = mo_core_section("memopt");
    struct mo_settings_memopt settings;
    int r = mo_config_fill(config, "memopt", section->table, &settings, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < settings.trackers.count && i < MO_LEDGER_TRACKERS; i++) {
        struct mo_plugin *plugin;
        struct memopt_error why = MEMOPT_ERROR_INIT;
        if (mo_plugin_load(MEMOPT_TRACKER, settings.trackers.items[i], &plugin, &why) < 0) {
            mo_report_note(run->report, MEMOPT_NOTE_WARNING, 0, "%s", why.message);
            continue;
        }
        char name[128];
        snprintf(name, sizeof(name), "tracker.%s", plugin->descriptor.name);
        void *own = memopt_report_alloc(run->report, plugin->descriptor.settings_size + 1);
        if (own == NULL)
            return no_memory(error);
        r = mo_config_fill(config, name, plugin->table, own, error);
        if (r < 0)
            return r;
        run->trackers[run->tracker_count++] = (struct tracker){plugin, own};
    }
    return 0;
}

static int read_tracker(struct mo_run *run, const struct mo_ledger_copy *ledger, size_t i,
                        struct memopt_process *process, struct memopt_error *error) {
    const struct mo_ledger_tracker *state = &ledger->header.trackers[i];
    const struct tracker *tracker = NULL;
    for (size_t t = 0; t < run->tracker_count && tracker == NULL; t++)
        if (strcmp(run->trackers[t].plugin->descriptor.name, state->name) == 0)
            tracker = &run->trackers[t];
    if (tracker == NULL) {
        mo_report_note(run->report, MEMOPT_NOTE_WARNING, process->pid,
                       "the tracker '%s' left data, but the configuration does not name it: left "
                       "out",
                       state->name);
        return 0;
    }
    const struct memopt_tracker_ops *ops = &tracker->plugin->ops.tracker;
    if (ops->state_version != state->state_version) {
        mo_report_note(run->report, MEMOPT_NOTE_WARNING, process->pid,
                       "the tracker '%s' left data of version %u, this memopt reads version %u: "
                       "left out",
                       state->name, state->state_version, ops->state_version);
        return 0;
    }
    struct mo_ledger_section section;
    mo_ledger_section_at(ledger, i, &section);
    struct memopt_error why = MEMOPT_ERROR_INIT;
    int r = ops->report(&mo_host, tracker->settings, &section.public, run->report, process, &why);
    if (r == -ENOMEM)
        return no_memory(error);
    if (r < 0)
        mo_report_note(run->report, MEMOPT_NOTE_WARNING, process->pid, "%s", why.message);
    return 0;
}

/* ------------------------------------------------------------- 2. a process */

static const char *text_of(struct mo_run *run, const char *text, int *ret_short) {
    if (text[0] == '\0')
        return NULL;
    const char *copy = mo_report_strdup(run->report, text);
    if (copy == NULL)
        *ret_short = 1;
    return copy;
}

/* The same, for what many processes have in common. */
static const char *shared_text_of(struct mo_run *run, const char *text, int *ret_short) {
    size_t hash = 5381;
    for (const char *at = text; *at != '\0'; at++)
        hash = hash * 33 + (unsigned char)*at;
    const char **known = &run->texts[hash % TEXTS];
    if (*known == NULL || strcmp(*known, text) != 0)
        *known = text_of(run, text, ret_short);
    return *known;
}

static double ratio_of(double ratio) {
    return ratio >= 0 && ratio <= 1 ? ratio : NAN;
}

static uint64_t count_of(uint64_t count, int whole) {
    return (int64_t)count < 0 || (count == 0 && !whole) ? MEMOPT_UNKNOWN : count;
}

static int read_heaps(struct mo_run *run, const struct mo_ledger_copy *ledger,
                      struct memopt_process *process, struct memopt_error *error) {
    size_t count = 0;
    struct mo_ledger_heap heap;
    for (size_t i = 0; i < ledger->heap_count; i++)
        count += mo_ledger_heap_at(ledger, i, &heap) == 0;
    if (count == 0)
        return 0;
    struct memopt_heap_report *heaps = memopt_report_alloc(run->report, count * sizeof(*heaps));
    if (heaps == NULL)
        return no_memory(error);
    size_t n = 0;
    int no_room = 0;
    for (size_t i = 0; i < ledger->heap_count; i++) {
        if (mo_ledger_heap_at(ledger, i, &heap) < 0)
            continue;
        /* Threads hand their counts on in batches: of a process that was killed, or that runs,
         * none may mean not yet, and less than none that frees came before allocations. */
        int whole = atomic_load(&ledger->header.state) == MO_LEDGER_EXITED;
        uint64_t committed = heap.committed;
        uint64_t live = count_of(heap.live_bytes, whole);
        uint64_t blocks = count_of(heap.live_blocks, whole);
        heaps[n++] = (struct memopt_heap_report){
            .name = mo_report_strdup(run->report, heap.name),
            .allocator = text_of(run, heap.allocator, &no_room),
            .limit = heap.limit,
            .live_bytes = live,
            .peak_bytes = count_of(heap.peak_bytes, whole),
            .live_blocks = blocks,
            .allocations = count_of(heap.allocations, whole),
            .frees = count_of(heap.frees, whole),
            .refused = heap.refused,
            .committed = committed == 0 ? MEMOPT_UNKNOWN : committed,
            .fragmentation = committed == 0 || committed == MEMOPT_UNKNOWN || live == MEMOPT_UNKNOWN
                                 ? NAN
                                 : ratio_of(1 - (double)live / (double)committed),
        };
        if (heaps[n - 1].name == NULL || no_room)
            return no_memory(error);
    }
    process->heaps = heaps;
    process->heap_count = n;
    return 0;
}

/* The allocator's figures are of the moment with the most live of those at which it was
 * asked, which need not be near the peak. */
static int is_near_peak(const struct memopt_process *process) {
    uint64_t peak = process->has_counts ? process->counts.peak_bytes : process->heap_peak;
    return peak != MEMOPT_UNKNOWN && process->heap_live != MEMOPT_UNKNOWN &&
           process->heap_live >= peak - peak / 10;
}

static int read_process(struct mo_run *run, const struct mo_ledger_copy *ledger,
                        struct memopt_error *error) {
    const struct mo_ledger_header *h = &ledger->header;
    struct memopt_process *process = mo_model_add_process(run->model);
    if (process == NULL)
        return no_memory(error);
    static const char *const bindings[] = {"none", "direct", "dispatch"};
    int no_room = 0;
    process->pid = h->pid;
    process->ppid = h->ppid;
    process->program = shared_text_of(run, h->exe, &no_room);
    process->command = text_of(run, h->command, &no_room);
    process->allocator = shared_text_of(run, h->allocator, &no_room);
    process->allocator_version = shared_text_of(run, h->allocator_version, &no_room);
    process->binding = bindings[h->binding < 3 ? h->binding : 0];
    process->start_time = h->start_time == 0 ? MEMOPT_UNKNOWN : h->start_time;
    if (no_room)
        return no_memory(error);
    if (atomic_load(&h->state) == MO_LEDGER_EXITED) {
        process->end = MEMOPT_END_EXIT;
        process->end_value = h->exit_status == MO_LEDGER_STATUS_UNKNOWN ? -1 : h->exit_status & 255;
        process->end_time = h->end_time == 0 ? MEMOPT_UNKNOWN : h->end_time;
    }
    /* While it was written by a process that was killed, it is neither the old nor the new. */
    uint32_t sequence = atomic_load(&h->figures.sequence);
    /* on a malloc that is none of memopt's (the user's own preloaded one, a library's), the
     * allocator has nothing to tell: its figures would be zeros */
    if (sequence != 0 && sequence % 2 == 0 && h->binding != 0) {
        process->heap_live = h->figures.live;
        process->heap_committed = h->figures.committed;
        process->heap_resident = h->figures.resident;
        process->heap_retained = h->figures.retained;
        process->heap_peak = h->figures.peak;
        process->fragmentation = ratio_of(h->figures.fragmentation);
    }
    int level, r = 0;
    char kind[MO_LEDGER_KIND];
    size_t cursor = 0;
    uint64_t time;
    size_t notes = 0;
    for (const char *note;
         r == 0 && notes < NOTES_MAXIMUM &&
         (note = mo_ledger_note_next(ledger, &cursor, &level, kind, &time)) != NULL;) {
        if (kind[0] == '\0' || process->event_count >= EVENTS_MAXIMUM) {
            mo_report_note(run->report, level, process->pid, "%s", note);
            notes++;
        } else {
            r = mo_report_event(run->report, process, time, kind, note, error);
        }
    }
    if (r == 0)
        r = read_heaps(run, ledger, process, error);
    for (size_t i = 0; i < h->tracker_count && r == 0; i++)
        r = read_tracker(run, ledger, i, process, error);
    if (atomic_load(&h->shares_slots) != 0) {
        process->has_counts = 0;
        process->thread_count = process->histogram_count = 0;
    }
    if (!is_near_peak(process))
        process->fragmentation = NAN;
    uint64_t failures = atomic_load(&h->failures);
    if (r == 0 && failures > 0 && !process->has_counts)
        mo_report_note(run->report, MEMOPT_NOTE_WARNING, process->pid,
                       "%llu allocation%s failed: the program was told that there is no memory",
                       (unsigned long long)failures, mo_plural(failures));
    return r;
}

/* ------------------------------------------- 3. what became of a process */

/* Does the process run that had this number when its record was begun? (A daemon that
 * the program left behind does.) If so, `program` is its executable, or "". */
static int is_running(int64_t pid, uint64_t begun, char *program, size_t size) {
    char path[64], stat[1024];
    snprintf(path, sizeof(path), "/proc/%lld/exe", (long long)pid);
    ssize_t n = readlink(path, program, size - 1);
    program[n > 0 ? n : 0] = '\0';
    snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
    mo_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, stat, sizeof(stat) - 1);
    if (n <= 0)
        return 0;
    stat[n] = '\0';
    const char *at = strrchr(stat, ')');
    if (at == NULL || at[1] != ' ' || strchr("ZXx", at[2]) != NULL)
        return 0;
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at != NULL &&
           strtoull(at + 1, NULL, 10) * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK)) <= begun;
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

/* ----------------------------------------------------------- 4. rows for many */

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
    memset(run->texts, 0, sizeof(run->texts));
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

/* ------------------------------------------------------ 5. open, fold, finish */

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
    run->config = config;
    run->first = report->process_count;
    int r = mo_ledgers_open(fd, &run->file, error);
    if (r < 0) {
        mo_error_prefix(error, "run directory '%s'", directory);
        free(run);
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
    r = load_trackers(run, run->config, error);
    if (r == 0)
        r = read_process(run, &ledger, error);
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
