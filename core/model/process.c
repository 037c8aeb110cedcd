/* process.c - see process.h. */
#include "config.h"

#include "core/model/process.h"

#include "core/account/read.h"
#include "core/account/tally.h"
#include "core/base/error.h"
#include "core/model/model.h"
#include "core/plugin/registry.h"
#include "core/plugin/section.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EVENTS_MAXIMUM = 256, /* of a process; what is beyond is a note */
    NOTES_MAXIMUM = 512,  /* of a process; what is beyond is left out */
    TEXTS = 256,
    TRACKERS = MO_AREAS,
};

struct tracker {
    struct mo_plugin *plugin;
    void *settings;
};

struct mo_process_reader {
    struct memopt_report *report;
    struct mo_config *config;
    int trackers_are_loaded;
    struct tracker trackers[TRACKERS];
    size_t tracker_count;
    const char *texts[TEXTS]; /* that many processes share, by a hash */
};

static int no_memory(struct memopt_error *error) {
    return mo_fail(error, -ENOMEM, "out of memory");
}

int mo_process_reader_new(struct memopt_report *report, struct mo_config *config,
                          struct mo_process_reader **ret_reader, struct memopt_error *error) {
    struct mo_process_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL)
        return no_memory(error);
    reader->report = report;
    reader->config = config;
    *ret_reader = reader;
    return 0;
}

void mo_process_reader_free(struct mo_process_reader *reader) {
    free(reader);
}

void mo_process_reader_forget(struct mo_process_reader *reader) {
    memset(reader->texts, 0, sizeof(reader->texts));
}

/* ----------------------------------------------------------------- trackers */

/* The trackers that the configuration names, with their settings. One that
 * can't be loaded here was not in the program either: its ledger says so. */
static int load_trackers(struct mo_process_reader *reader, struct memopt_error *error) {
    if (reader->trackers_are_loaded)
        return 0;
    reader->trackers_are_loaded = 1;
    struct mo_settings_memopt settings;
    int r = mo_config_fill(reader->config, "memopt", mo_section_memopt.table, &settings, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < settings.trackers.count && i < TRACKERS; i++) {
        struct mo_plugin *plugin;
        struct memopt_error why = MEMOPT_ERROR_INIT;
        if (mo_plugin_load(MEMOPT_TRACKER, settings.trackers.items[i], &plugin, &why) < 0) {
            mo_report_note(reader->report, MEMOPT_NOTE_WARNING, 0, "%s", why.message);
            continue;
        }
        char name[128];
        snprintf(name, sizeof(name), "tracker.%s", plugin->descriptor.name);
        void *own = memopt_report_alloc(reader->report, plugin->descriptor.settings_size + 1);
        if (own == NULL)
            return no_memory(error);
        r = mo_config_fill(reader->config, name, plugin->table, own, error);
        if (r < 0)
            return r;
        reader->trackers[reader->tracker_count++] = (struct tracker){plugin, own};
    }
    return 0;
}

static int read_tracker(struct mo_process_reader *reader, const struct mo_ledger_copy *ledger,
                        const struct mo_area *state, struct memopt_process *process,
                        struct memopt_error *error) {
    const struct tracker *tracker = NULL;
    for (size_t t = 0; t < reader->tracker_count && tracker == NULL; t++)
        if (strcmp(reader->trackers[t].plugin->descriptor.name, state->name) == 0)
            tracker = &reader->trackers[t];
    if (tracker == NULL) {
        mo_report_note(reader->report, MEMOPT_NOTE_WARNING, process->pid,
                       "the tracker '%s' left data, but the configuration does not name it: left "
                       "out",
                       state->name);
        return 0;
    }
    const struct memopt_tracker_ops *ops = &tracker->plugin->ops.tracker;
    if (ops->state_version != state->version) {
        mo_report_note(reader->report, MEMOPT_NOTE_WARNING, process->pid,
                       "the tracker '%s' left data of version %u, this memopt reads version %u: "
                       "left out",
                       state->name, state->version, ops->state_version);
        return 0;
    }
    struct mo_ledger_section section;
    if (ops->report == NULL || mo_ledger_section_of(ledger, state->name, &section) < 0)
        return 0;
    struct memopt_error why = MEMOPT_ERROR_INIT;
    int r = ops->report(&mo_host, tracker->settings, &section.public, reader->report, process, &why);
    if (r == -ENOMEM)
        return no_memory(error);
    if (r < 0)
        mo_report_note(reader->report, MEMOPT_NOTE_WARNING, process->pid, "%s", why.message);
    return 0;
}

/* The counts, then what each tracker left. */
static int read_states(struct mo_process_reader *reader, const struct mo_ledger_copy *ledger,
                       struct memopt_process *process, struct memopt_error *error) {
    struct memopt_error why = MEMOPT_ERROR_INIT;
    int r = mo_counts_read(ledger, reader->report, process, &why);
    if (r == -ENOMEM)
        return no_memory(error);
    if (r < 0)
        mo_report_note(reader->report, MEMOPT_NOTE_WARNING, process->pid, "%s", why.message);
    r = 0;
    for (size_t i = MO_CORE_AREAS; i < MO_AREAS && r == 0; i++) {
        const struct mo_area *state = &ledger->header.areas[i];
        if (state->flags & MO_AREA_IN_SLOT && strcmp(state->name, MO_TALLY_NAME) != 0)
            r = read_tracker(reader, ledger, state, process, error);
    }
    return r;
}

/* Threads that share counters have a note of their own. */
static void say_what_was_full(struct mo_process_reader *reader, const struct mo_ledger_copy *ledger,
                              int64_t pid) {
    for (size_t i = 0; i < MO_AREAS; i++) {
        const struct mo_area *area = &ledger->header.areas[i];
        uint64_t since = atomic_load(&area->full_at);
        if (area->name[0] != '\0' && since != 0 && i != MO_THREADS &&
            !(area->flags & MO_AREA_IN_SLOT))
            mo_report_note(reader->report, MEMOPT_NOTE_WARNING, pid,
                           "the ledger's area '%s' was full %.1f s after the process began: what "
                           "came later is not in it",
                           area->name, (double)since / 1e9);
    }
}

/* ---------------------------------------------------------------- a process */

static const char *text_of(struct mo_process_reader *reader, const char *text, int *ret_short) {
    if (text[0] == '\0')
        return NULL;
    const char *copy = mo_report_strdup(reader->report, text);
    if (copy == NULL)
        *ret_short = 1;
    return copy;
}

/* The same, for what many processes have in common. */
static const char *shared_text_of(struct mo_process_reader *reader, const char *text,
                                  int *ret_short) {
    size_t hash = 5381;
    for (const char *at = text; *at != '\0'; at++)
        hash = hash * 33 + (unsigned char)*at;
    const char **known = &reader->texts[hash % TEXTS];
    if (*known == NULL || strcmp(*known, text) != 0)
        *known = text_of(reader, text, ret_short);
    return *known;
}

static double ratio_of(double ratio) {
    return ratio >= 0 && ratio <= 1 ? ratio : NAN;
}

static uint64_t count_of(uint64_t count, int whole) {
    return (int64_t)count < 0 || (count == 0 && !whole) ? MEMOPT_UNKNOWN : count;
}

static int read_heaps(struct mo_process_reader *reader, const struct mo_ledger_copy *ledger,
                      struct memopt_process *process, struct memopt_error *error) {
    size_t count = 0;
    struct mo_ledger_heap heap;
    for (size_t i = 0; i < ledger->heap_count; i++)
        count += mo_ledger_heap_at(ledger, i, &heap) == 0;
    if (count == 0)
        return 0;
    struct memopt_heap_report *heaps = memopt_report_alloc(reader->report, count * sizeof(*heaps));
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
            .name = mo_report_strdup(reader->report, heap.name),
            .allocator = text_of(reader, heap.allocator, &no_room),
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

int mo_process_read(struct mo_process_reader *reader, const struct mo_ledger_copy *ledger,
                    struct memopt_error *error) {
    const struct mo_ledger_header *h = &ledger->header;
    int loaded = load_trackers(reader, error);
    if (loaded < 0)
        return loaded;
    struct memopt_process *process = mo_model_add_process(mo_model_of(reader->report));
    if (process == NULL)
        return no_memory(error);
    static const char *const bindings[] = {"none", "direct", "dispatch"};
    int no_room = 0;
    process->pid = h->pid;
    process->ppid = h->ppid;
    process->program = shared_text_of(reader, h->exe, &no_room);
    process->command = text_of(reader, h->command, &no_room);
    process->allocator = shared_text_of(reader, h->allocator, &no_room);
    process->allocator_version = shared_text_of(reader, h->allocator_version, &no_room);
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
            mo_report_note(reader->report, level, process->pid, "%s", note);
            notes++;
        } else {
            r = mo_report_event(reader->report, process, time, kind, note, error);
        }
    }
    if (r == 0)
        r = read_heaps(reader, ledger, process, error);
    if (r == 0)
        r = read_states(reader, ledger, process, error);
    say_what_was_full(reader, ledger, process->pid);
    if (atomic_load(&h->shares_slots) != 0) {
        process->has_counts = 0;
        process->thread_count = process->histogram_count = 0;
    }
    if (!is_near_peak(process))
        process->fragmentation = NAN;
    uint64_t failures = atomic_load(&h->failures);
    if (r == 0 && failures > 0 && !process->has_counts)
        mo_report_note(reader->report, MEMOPT_NOTE_WARNING, process->pid,
                       "%llu allocation%s failed: the program was told that there is no memory",
                       (unsigned long long)failures, mo_plural(failures));
    return r;
}
