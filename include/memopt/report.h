/*
 * memopt/report.h - the report model: what memopt knows of a run, as tables of
 * plain structs. Version 2.
 *
 * Importers fill it (the records of a run, the logs of sanitizers); every reporter is a
 * loop over it.
 *
 *   report ── processes[] ── threads[], histogram[], heaps[], events[] ── stacks[] ─┐
 *          ├─ samples[] ── values[], labels[] ──────────────────────────────────────┤
 *          ├─ stacks[]  ◀──────────────────────────────────────────────────────────┘
 *          │     └─▶ locations[] ── lines[] ─▶ functions[]
 *          │               └─▶ modules[]
 *          ├─ value_types[]
 *          └─ notes[]
 *
 * Code and samples are those of pprof's profile.proto, by other names for two: a module is
 * its Mapping, a stack the location_id[] of its Sample. As there
 *   module    a file of machine code, as it was mapped (a program, a shared library)
 *   function  has a name and a file
 *   location  a place in a module, or in source where no module is known; it has a line for
 *             each function whose code is there: the innermost first, the last one is not
 *             inlined; none where it has no name
 *   stack     locations, the leaf (where it happened) first
 *   sample    values of one stack: its i-th value is of the type value_types[type + i]
 * but one report has many processes, so that a location's address is an offset in its
 * module, whatever address the module was mapped at, and a sample names its process.
 *
 * Tables refer to each other by index; MEMOPT_NONE is none. Indices are within bounds, and
 * no two modules, functions, locations or stacks of a report are equal.
 *
 * Invariants: an array of count 0 may be NULL; strings are UTF-8 or, where they
 * came from a program, any bytes but NUL, and may be NULL where that is said;
 * a number that is not known is MEMOPT_UNKNOWN (integers) or NaN. Byte counts
 * are bytes, times are nanoseconds.
 * Ownership: all of it belongs to the report and goes with it; build parts with
 * memopt_report_alloc(). Threads: one at a time.
 * Versions: fields are only appended; `size` of each element is in the parent's
 * `…_size` so that an older reader can step over arrays of a newer memopt. Elements of
 * locations, events and samples have theirs in the report. The functions below know it:
 * a reporter need not.
 *   1 (2026-11): first.
 *   2 (2026-12): modules, functions, locations, stacks, samples; an event's stacks and
 *                facts are no longer in its text.
 */
#ifndef MEMOPT_REPORT_H
#define MEMOPT_REPORT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MEMOPT_REPORT_VERSION 2

/* The index of nothing. */
#define MEMOPT_NONE UINT32_MAX

struct memopt_report;

/* One class of the size histogram: blocks of min..max bytes inclusive, by the
 * size asked for. */
struct memopt_histogram_bin {
    uint64_t min, max;
    uint64_t allocations;
    uint64_t bytes; /* asked for */
};

/* Counts of one thread or of a whole process. A process that was forked has its
 * parent's blocks in live_* from the start, and in no other number. */
struct memopt_counts {
    uint64_t
        allocations; /* blocks handed out: malloc, calloc, aligned, and new blocks of realloc */
    uint64_t frees;
    uint64_t reallocations;   /* of the allocations, those that realloc made */
    uint64_t zeroed;          /* of the allocations, those of calloc */
    uint64_t aligned;         /* of the allocations, those with an alignment asked for */
    uint64_t failures;        /* allocations the backend refused */
    uint64_t bytes_requested; /* sum of the sizes asked for */
    uint64_t bytes_allocated; /* sum of the usable sizes handed out */
    uint64_t bytes_freed;
    int64_t live_bytes; /* usable; below 0 in a thread that frees what others allocate */
    int64_t live_blocks;
    uint64_t peak_bytes; /* highest live_bytes; unknown for the threads that have ended */
    uint64_t peak_error; /* peak_bytes may be off by this much either way; 0: exact */
};

/* Adds `more` to `sum`, but for the peaks, which have no sum. They may be anything (a ledger is
 * what a program left behind): nothing overflows. */
static inline void memopt_counts_add(struct memopt_counts *sum, const struct memopt_counts *more) {
    sum->allocations += more->allocations;
    sum->frees += more->frees;
    sum->reallocations += more->reallocations;
    sum->zeroed += more->zeroed;
    sum->aligned += more->aligned;
    sum->failures += more->failures;
    sum->bytes_requested += more->bytes_requested;
    sum->bytes_allocated += more->bytes_allocated;
    sum->bytes_freed += more->bytes_freed;
    sum->live_bytes = (int64_t)((uint64_t)sum->live_bytes + (uint64_t)more->live_bytes);
    sum->live_blocks = (int64_t)((uint64_t)sum->live_blocks + (uint64_t)more->live_blocks);
}

struct memopt_thread {
    int64_t tid; /* 0: all threads that have ended */
    struct memopt_counts counts;
};

/* A named heap, or the process's default heap (name "default"). */
struct memopt_heap_report {
    const char *name;
    const char *allocator;
    uint64_t limit; /* MEMOPT_UNKNOWN: none */
    uint64_t live_bytes, peak_bytes, live_blocks;
    uint64_t allocations, frees, refused; /* refused: over the limit */
    uint64_t committed;
    double fragmentation;
};

/* What a stack has to do with an event. */
struct memopt_event_stack {
    const char *role; /* "fault": where it was; "allocated", "freed": of the block */
    const char *by;   /* the same in words: "accessed by", "found in a call by", "freed by" */
    int64_t tid;      /* 0: not known */
    uint32_t stack;   /* MEMOPT_NONE: it could not be had */
};

/* Something that happened: a guard fault, a limit reached, a purge. */
struct memopt_event_report {
    uint64_t time;    /* since the process started, or unknown */
    const char *kind; /* "overflow", "use-after-free", "double-free", "purge", ... */
    const char *text; /* what there is to say but the stacks; may have several lines */
    /* of a wrong access: the address that was accessed or passed, and the block it is about */
    uint64_t address, block_address, block_size;
    const struct memopt_event_stack *stacks; /* in the order in which they are told */
    size_t stack_count;
};

/* ------------------------------------------------------------------- code */

struct memopt_module {
    const char *path;
    const char *build_id; /* hexadecimal digits; NULL: it has none, or it is not known */
};

struct memopt_function {
    const char *name;        /* for people */
    const char *system_name; /* of the linker, mangled; NULL: not known */
    const char *file;        /* where it was written; NULL: not known */
};

struct memopt_line {
    uint32_t function;
    uint32_t line; /* 0: not known */
};

struct memopt_location {
    uint32_t module;  /* MEMOPT_NONE: not known */
    uint64_t address; /* in the module, as its own symbols have it; of the process where the
                       * module is not known; or unknown, where only lines are known */
    const struct memopt_line *lines;
    size_t line_count;
};

struct memopt_stack {
    const uint32_t *locations;
    size_t location_count; /* at least 1 */
};

/* ---------------------------------------------------------------- samples */

struct memopt_value_type {
    const char *type; /* "leaked_bytes" */
    const char *unit; /* "bytes", "count" */
};

struct memopt_label {
    const char *key;  /* "leak" */
    const char *text; /* "direct" */
};

struct memopt_sample {
    uint32_t process; /* MEMOPT_NONE: of none */
    uint32_t stack;   /* MEMOPT_NONE: not known */
    uint32_t type;    /* of the first value */
    uint32_t value_count;
    const uint64_t *values;
    const struct memopt_label *labels;
    size_t label_count;
};

/* ---------------------------------------------------------------- processes */

enum memopt_process_end {
    MEMOPT_END_UNKNOWN = 0,
    MEMOPT_END_EXIT = 1,   /* end_value: exit status, or -1: not known */
    MEMOPT_END_SIGNAL = 2, /* end_value: signal number, or -1: not known */
    MEMOPT_END_EXEC = 3,   /* became another program */
    MEMOPT_END_RUNNING = 4,
};

struct memopt_process {
    int64_t pid, ppid;
    const char *program; /* path of the executable; NULL: not known */
    const char *command; /* argv joined by blanks, or NULL */
    int end;             /* enum memopt_process_end */
    int end_value;
    int is_main;                   /* the one that memopt run started */
    const char *allocator;         /* the backend its malloc used; NULL: none of memopt's */
    const char *allocator_version; /* or NULL */
    const char *binding;           /* "direct", "dispatch", "none"; NULL: not known */
    uint64_t start_time, end_time; /* since the epoch */
    uint64_t peak_rss;
    /* what the backend said of itself at the last reading, while the process lived */
    uint64_t heap_live, heap_committed, heap_resident, heap_retained;
    uint64_t heap_peak; /* highest heap_live, where the backend keeps it */
    double fragmentation;
    int has_counts; /* a tracker counted */
    struct memopt_counts counts;
    const struct memopt_thread *threads;
    size_t thread_count, thread_size;
    const struct memopt_histogram_bin *histogram;
    size_t histogram_count, histogram_size;
    const struct memopt_heap_report *heaps;
    size_t heap_count, heap_size;
    const struct memopt_event_report *events;
    size_t event_count, event_size;
    uint64_t peak_rss_least; /* when peak_rss is not known: it is no lower than this */
    /* 0: one process. Else this stands for so many programs of one name, of the run's last,
     * which all ended well: counts and calls are sums, peaks are the highest one's, times
     * from the first start to the last end; pid, command, threads and histogram are absent. */
    uint64_t merged;
    uint64_t rss_mean; /* resident size while it was looked at, weighted by time */
    uint64_t rss_rest; /* the median of the last tenth of that time */
};

struct memopt_note {
    int level;   /* enum memopt_note_level */
    int64_t pid; /* 0: memopt itself */
    const char *text;
};

struct memopt_report {
    uint32_t version; /* MEMOPT_REPORT_VERSION */
    uint32_t size;    /* sizeof(struct memopt_report) */
    const char *memopt_version;
    const char *host, *system; /* uname: nodename; "Linux 6.1 x86_64" */
    char *const *argv;         /* the command that was run, ends with NULL; or NULL */
    const char *directory;     /* where */
    uint64_t start_time;       /* since the epoch */
    uint64_t wall_time, user_time, system_time;
    uint64_t peak_rss; /* of the largest single process */
    uint64_t minor_faults, major_faults;
    uint64_t voluntary_switches, involuntary_switches;
    int exit_status;    /* as memopt run returns it; -1: not known, it has not ended */
    int exit_signal;    /* 0: none */
    const char *source; /* "run", or what was imported */
    const struct memopt_process *processes; /* the main one first, then by start */
    size_t process_count, process_size;
    const struct memopt_note *notes;
    size_t note_count, note_size;
    const struct memopt_module *modules;
    size_t module_count, module_size;
    const struct memopt_function *functions;
    size_t function_count, function_size;
    const struct memopt_location *locations;
    size_t location_count, location_size;
    const struct memopt_stack *stacks;
    size_t stack_count, stack_size;
    const struct memopt_value_type *value_types;
    size_t value_type_count, value_type_size;
    const struct memopt_sample *samples;
    size_t sample_count, sample_size;
    size_t line_size, label_size, event_stack_size; /* of elements in others */
    void *arena;                                    /* memopt's */
    void *(*alloc)(void *arena, size_t size);       /* memopt's; call memopt_report_alloc() */
};

/* Zeroed memory that goes with the report; NULL: out of memory. */
static inline void *memopt_report_alloc(struct memopt_report *report, size_t size) {
    return report->alloc(report->arena, size);
}

/* ------------------------------------------- elements, whatever their size */

#define MEMOPT_ELEMENT(TYPE, ARRAY, SIZE, I)                                                       \
    ((const struct TYPE *)(const void *)((const char *)(ARRAY) + (size_t)(I) * (SIZE)))

static inline const struct memopt_process *memopt_process_at(const struct memopt_report *report,
                                                             size_t i) {
    return MEMOPT_ELEMENT(memopt_process, report->processes, report->process_size, i);
}
static inline const struct memopt_event_report *
memopt_event_at(const struct memopt_process *process, size_t i) {
    return MEMOPT_ELEMENT(memopt_event_report, process->events, process->event_size, i);
}
static inline const struct memopt_event_stack *
memopt_event_stack_at(const struct memopt_report *report, const struct memopt_event_report *event,
                      size_t i) {
    return MEMOPT_ELEMENT(memopt_event_stack, event->stacks, report->event_stack_size, i);
}
static inline const struct memopt_module *memopt_module_at(const struct memopt_report *report,
                                                           size_t i) {
    return MEMOPT_ELEMENT(memopt_module, report->modules, report->module_size, i);
}
static inline const struct memopt_function *memopt_function_at(const struct memopt_report *report,
                                                               size_t i) {
    return MEMOPT_ELEMENT(memopt_function, report->functions, report->function_size, i);
}
static inline const struct memopt_location *memopt_location_at(const struct memopt_report *report,
                                                               size_t i) {
    return MEMOPT_ELEMENT(memopt_location, report->locations, report->location_size, i);
}
static inline const struct memopt_line *memopt_line_at(const struct memopt_report *report,
                                                       const struct memopt_location *location,
                                                       size_t i) {
    return MEMOPT_ELEMENT(memopt_line, location->lines, report->line_size, i);
}
static inline const struct memopt_stack *memopt_stack_at(const struct memopt_report *report,
                                                         size_t i) {
    return MEMOPT_ELEMENT(memopt_stack, report->stacks, report->stack_size, i);
}
static inline const struct memopt_value_type *
memopt_value_type_at(const struct memopt_report *report, size_t i) {
    return MEMOPT_ELEMENT(memopt_value_type, report->value_types, report->value_type_size, i);
}
static inline const struct memopt_sample *memopt_sample_at(const struct memopt_report *report,
                                                           size_t i) {
    return MEMOPT_ELEMENT(memopt_sample, report->samples, report->sample_size, i);
}
static inline const struct memopt_label *
memopt_label_at(const struct memopt_report *report, const struct memopt_sample *sample, size_t i) {
    return MEMOPT_ELEMENT(memopt_label, sample->labels, report->label_size, i);
}

/* The sample's value of a type, or MEMOPT_UNKNOWN: it has none. */
static inline uint64_t memopt_sample_value(const struct memopt_report *report,
                                           const struct memopt_sample *sample, const char *type) {
    for (uint32_t i = 0; i < sample->value_count; i++)
        if (strcmp(memopt_value_type_at(report, sample->type + i)->type, type) == 0)
            return sample->values[i];
    return UINT64_MAX;
}

/* The text of the sample's label, or NULL. */
static inline const char *memopt_sample_label(const struct memopt_report *report,
                                              const struct memopt_sample *sample, const char *key) {
    for (size_t i = 0; i < sample->label_count; i++)
        if (strcmp(memopt_label_at(report, sample, i)->key, key) == 0)
            return memopt_label_at(report, sample, i)->text;
    return NULL;
}

#ifdef __cplusplus
}
#endif
#endif
