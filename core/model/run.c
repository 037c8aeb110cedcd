/* run.c - a run directory's ledgers become the report's processes. */
#include "config.h"

#include "core/model/report.h"

#include "core/base/error.h"
#include "core/ledger/reader.h"
#include "core/model/model.h"
#include "core/plugin/registry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LEDGERS_MAXIMUM = 65536, /* a fork bomb's run directory is cut there */
    EVENTS_MAXIMUM = 256,    /* of a process; what is beyond is a note */
};

struct tracker {
    struct mo_plugin *plugin;
    void *settings;
};

struct run {
    struct mo_model *model;
    struct memopt_report *report;
    struct tracker trackers[MO_LEDGER_TRACKERS];
    size_t tracker_count;
};

/* One ledger's place in the order of processes. The ledgers are read one after
 * the other, there may be thousands. */
struct entry {
    char *name;
    int64_t pid;
    uint64_t start_time;
};

static int no_memory(struct memopt_error *error) {
    return mo_fail(error, -ENOMEM, "out of memory");
}

/* ----------------------------------------------------------------- trackers */

/* The trackers that the configuration names, with their settings. One that
 * can't be loaded here was not in the program either: its ledger says so. */
static int load_trackers(struct run *run, struct mo_config *config, struct memopt_error *error) {
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

static int read_tracker(struct run *run, const struct mo_ledger_copy *ledger, size_t i,
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

/* ------------------------------------------------------------------ a process */

static const char *text_of(struct run *run, const char *text, int *ret_short) {
    if (text[0] == '\0')
        return NULL;
    const char *copy = mo_report_strdup(run->report, text);
    if (copy == NULL)
        *ret_short = 1;
    return copy;
}

static double ratio_of(double ratio) {
    return ratio >= 0 && ratio <= 1 ? ratio : NAN;
}

static uint64_t count_of(uint64_t count, int whole) {
    return (int64_t)count < 0 || (count == 0 && !whole) ? MEMOPT_UNKNOWN : count;
}

static int read_heaps(struct run *run, const struct mo_ledger_copy *ledger,
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

static int read_process(struct run *run, const struct mo_ledger_copy *ledger,
                        struct memopt_error *error) {
    const struct mo_ledger_header *h = &ledger->header;
    struct memopt_process *process = mo_model_add_process(run->model);
    if (process == NULL)
        return no_memory(error);
    static const char *const bindings[] = {"none", "direct", "dispatch"};
    int no_room = 0;
    process->pid = h->pid;
    process->ppid = h->ppid;
    process->program = text_of(run, h->exe, &no_room);
    process->command = text_of(run, h->command, &no_room);
    process->allocator = text_of(run, h->allocator, &no_room);
    process->allocator_version = text_of(run, h->allocator_version, &no_room);
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
    for (const char *note;
         r == 0 && (note = mo_ledger_note_next(ledger, &cursor, &level, kind, &time)) != NULL;) {
        if (kind[0] == '\0' || process->event_count >= EVENTS_MAXIMUM)
            mo_report_note(run->report, level, process->pid, "%s", note);
        else
            r = mo_report_event(run->report, process, time, kind, note, error);
    }
    if (r == 0)
        r = read_heaps(run, ledger, process, error);
    for (size_t i = 0; i < h->tracker_count && r == 0; i++)
        r = read_tracker(run, ledger, i, process, error);
    if (atomic_load(&h->shares_slots) != 0) {
        process->has_counts = 0;
        process->thread_count = process->histogram_count = 0;
    }
    uint64_t failures = atomic_load(&h->failures);
    if (r == 0 && failures > 0 && !process->has_counts)
        mo_report_note(run->report, MEMOPT_NOTE_WARNING, process->pid,
                       "%llu allocation%s failed: the program was told that there is no memory",
                       (unsigned long long)failures, mo_plural(failures));
    return r;
}

/* --------------------------------------------------------------- the directory */

static int by_start(const void *a_, const void *b_) {
    const struct entry *a = a_, *b = b_;
    if (a->start_time != b->start_time)
        return a->start_time < b->start_time ? -1 : 1;
    if (a->pid != b->pid)
        return a->pid < b->pid ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* What else its ledger says of each process, which reporters need not know. */
struct link {
    uint64_t begun, process_start;
    int forked; /* the ledger was begun by fork, not by exec */
    char name[sizeof(((struct mo_ledger_header *)0)->name)];
};

/* Does the process run that had this number when its ledger was begun? (A daemon that
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
static int is_other_program(const char *before, const char *after) {
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

/* What became of processes whose exit hook did not run, and which is the main one.
 * links[i] belongs to the (first + i)-th. */
static int settle_ends(struct mo_model *model, size_t first, const struct link *links,
                       int64_t main_pid, struct memopt_error *error) {
    size_t count = model->report.process_count, main = count;
    for (size_t i = first; i < count; i++) {
        struct memopt_process *process = &model->processes[i];
        const struct link *link = &links[i - first];
        if (main_pid == 0)
            main_pid = process->pid;
        if (process->pid == main_pid)
            main = i; /* the last program it became */
        if (process->end != MEMOPT_END_UNKNOWN)
            continue;
        size_t next = i + 1;
        while (next < count && model->processes[next].pid != process->pid)
            next++;
        char program[4096];
        const struct link *later = &links[next - first];
        /* the process was there before this ledger: it has executed the later program */
        if (next < count && !later->forked && later->process_start != 0 &&
            later->process_start <= link->begun) {
            process->end = MEMOPT_END_EXEC;
            process->end_time = model->processes[next].start_time;
        } else if (next == count &&
                   is_running(process->pid, link->begun, program, sizeof(program))) {
            process->end = MEMOPT_END_RUNNING;
            if (is_other_program(process->program, program)) {
                process = add_successor(model, i, program, error);
                if (process == NULL)
                    return -ENOMEM;
                process->end = MEMOPT_END_RUNNING;
            }
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
    if (is_other_program(main->program, program)) {
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
static void note_missing(struct run *run, int directory, const char *name) {
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

static int is_ledger(const char *name) {
    const char *dot = strrchr(name, '.');
    return name[0] != '.' && dot != NULL && strcmp(dot, ".ledger") == 0;
}

static void free_entries(struct entry *entries, size_t count) {
    for (size_t i = 0; i < count; i++)
        free(entries[i].name);
    free(entries);
}

/* Reads the header of each ledger; a bad one becomes a note. */
static int list_ledgers(struct run *run, DIR *directory, struct entry **ret_entries,
                        size_t *ret_count, struct memopt_error *error) {
    struct entry *entries = NULL;
    size_t count = 0, room = 0;
    for (;;) {
        errno = 0;
        struct dirent *file = readdir(directory);
        if (file == NULL)
            break;
        if (!is_ledger(file->d_name)) {
            note_missing(run, dirfd(directory), file->d_name);
            continue;
        }
        if (count == LEDGERS_MAXIMUM) {
            mo_report_note(run->report, MEMOPT_NOTE_WARNING, 0,
                           "more than %d processes: the rest is left out", LEDGERS_MAXIMUM);
            break;
        }
        struct memopt_error why = MEMOPT_ERROR_INIT;
        struct mo_ledger_header header;
        if (mo_ledger_peek(dirfd(directory), file->d_name, &header, &why) < 0) {
            mo_report_note(run->report, MEMOPT_NOTE_WARNING, 0, "%s", why.message);
            continue;
        }
        struct entry entry = {NULL, header.pid, header.start_time};
        if (count == room) {
            size_t more = room == 0 ? 16 : room * 2;
            struct entry *larger = realloc(entries, more * sizeof(*larger));
            if (larger == NULL)
                goto short_of_memory;
            entries = larger;
            room = more;
        }
        if ((entry.name = strdup(file->d_name)) == NULL)
            goto short_of_memory;
        entries[count++] = entry;
    }
    if (count > 0)
        qsort(entries, count, sizeof(*entries), by_start);
    *ret_entries = entries;
    *ret_count = count;
    return 0;
short_of_memory:
    free_entries(entries, count);
    return no_memory(error);
}

int mo_report_read_run(struct memopt_report *report, const char *path, int64_t main_pid,
                       struct mo_config *config, struct memopt_error *error) {
    struct run run = {.model = mo_model_of(report), .report = report};
    int r = load_trackers(&run, config, error);
    if (r < 0)
        return r;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        r = mo_fail(error, -errno, "run directory '%s': %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return r;
    }
    struct entry *entries = NULL;
    size_t count = 0, first = report->process_count;
    struct link *links = NULL;
    r = list_ledgers(&run, directory, &entries, &count, error);
    if (r < 0)
        goto close_directory;
    links = calloc(count + 1, sizeof(*links));
    if (links == NULL)
        r = no_memory(error);
    for (size_t i = 0; i < count && r == 0; i++) {
        struct mo_ledger_copy ledger;
        r = mo_ledger_open(fd, entries[i].name, &ledger, error);
        if (r == 0) {
            struct link *link = &links[report->process_count - first];
            link->begun = ledger.header.begun;
            link->process_start = ledger.header.process_start;
            link->forked = ledger.header.forked != 0;
            memcpy(link->name, ledger.header.name, sizeof(link->name));
            r = read_process(&run, &ledger, error);
            mo_ledger_release(&ledger);
        } else if (r != -ENOMEM) {
            mo_report_note(report, MEMOPT_NOTE_WARNING, 0, "%s", error ? error->message : "");
            r = 0;
        }
    }
    if (r == 0)
        r = settle_ends(run.model, first, links, main_pid, error);
    free(links);
    free_entries(entries, count);
close_directory:
    closedir(directory);
    return r;
}
