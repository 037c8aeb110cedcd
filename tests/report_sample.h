/*
 * report_sample.h - reports made by hand, an output into memory, and comparison
 * with a golden file: what the tests of reporters share.
 *
 * MEMOPT_UPDATE_GOLDEN=1 in the environment writes the golden files anew.
 */
#ifndef TESTS_REPORT_SAMPLE_H
#define TESTS_REPORT_SAMPLE_H

#include "core/model/report.h"
#include "core/plugin/registry.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ output */

struct sink {
    struct memopt_output public;
    char text[256 * 1024];
    size_t used, limit; /* bytes after which it is full: -ENOSPC */
};

static int sink_write(struct memopt_output *output, const void *bytes, size_t count) {
    struct sink *sink = output->opaque;
    if (count > sink->limit - sink->used)
        return -ENOSPC;
    memcpy(sink->text + sink->used, bytes, count);
    sink->used += count;
    sink->text[sink->used] = '\0';
    return 0;
}

static int __attribute__((format(printf, 2, 3)))
sink_printf(struct memopt_output *output, const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return length < 0 || (size_t)length >= sizeof(text) ? -EMSGSIZE
                                                        : sink_write(output, text, (size_t)length);
}

static struct sink *sink_reset(struct sink *sink) {
    sink->public = (struct memopt_output){.size = sizeof(sink->public),
                                          .opaque = sink,
                                          .write = sink_write,
                                          .printf = sink_printf,
                                          .columns = 80};
    sink->used = 0;
    sink->limit = sizeof(sink->text) - 1;
    sink->text[0] = '\0';
    return sink;
}

/* ----------------------------------------------------------------- reports */

static const struct memopt_thread sample_threads[] = {
    {0,
     {.allocations = 10,
      .frees = 12,
      .live_bytes = -640,
      .live_blocks = -2,
      .peak_bytes = MEMOPT_UNKNOWN}},
    {4243,
     {.allocations = 1234557,
      .frees = 1200000,
      .reallocations = 17,
      .zeroed = 100,
      .aligned = 3,
      .failures = 1,
      .bytes_requested = 123456789,
      .bytes_allocated = 130000000,
      .bytes_freed = 81674560,
      .live_bytes = 48325440,
      .live_blocks = 34557,
      .peak_bytes = 52428800}},
};
static const struct memopt_histogram_bin sample_bins[] = {
    {0, 0, 1, 0},
    {16, 19, 900000, 15000000},
    {20, 23, 300000, 6300000},
    {96, 111, 34000, 3500000},
    {1048576, 1310719, 566, 98656789},
};
static const struct memopt_heap_report sample_heaps[] = {
    {"gradients", "pool", 536870912, 536870000, 536870912, 12, 40, 28, 3, 536903680, 0.00006},
    {"a name of more than twenty-four bytes", NULL, MEMOPT_UNKNOWN, 0, 4096, 0, 1, 1, 0,
     MEMOPT_UNKNOWN, NAN},
};
static const struct memopt_module sample_modules[] = {
    {"/usr/bin/train", "00ffab"},
    {"/usr/lib/lib\xffx.so", NULL},
};
static const struct memopt_function sample_functions[] = {
    {"copy", "_Z4copyPc", "/home/me/src/copy.h"},
    {"step", "_Z4stepv", "/home/me/src/train.cc"},
    {"operator<<", NULL, NULL},
    {"make", NULL, "/usr/src/\033make.c"},
};
/* inlined; of a module without lines; in a module without names; in no module; of source only */
static const struct memopt_line sample_lines[] = {{0, 44}, {1, 1234}, {2, 0}, {3, 7}};
static const struct memopt_location sample_locations[] = {
    {0, 0x1234, sample_lines, 2},
    {1, 0x99, sample_lines + 2, 1},
    {1, 0xabc, NULL, 0},
    {MEMOPT_NONE, 0x7fff12345678, NULL, 0},
    {MEMOPT_NONE, MEMOPT_UNKNOWN, sample_lines + 3, 1},
};
static const uint32_t sample_places[] = {0, 1, 2, 3, 4};
static const struct memopt_stack sample_stacks[] = {
    {sample_places, 4},
    {sample_places + 2, 1},
    {sample_places + 4, 1},
};
static const struct memopt_event_stack sample_event_stacks[] = {
    {"fault", "accessed by", 4243, 0},
    {"allocated", "allocated by", 0, 1},
    {"freed", "freed by", 4242, MEMOPT_NONE},
};
static const struct memopt_event_report sample_events[] = {
    {1500000000, "overflow", "write past the end of a block of 24 bytes\nand another line", 0x10018,
     0x10000, 24, sample_event_stacks, 3},
};
static const struct memopt_value_type sample_value_types[] = {
    {"leaked_blocks", "count"},
    {"leaked_bytes", "bytes"},
};
static const uint64_t sample_values[][2] = {{2, 100}, {1, 5000}, {1, 6}};
static const struct memopt_label sample_labels[] = {{"leak", "direct"}, {"leak", "indirect"}};
static const struct memopt_sample sample_samples[] = {
    {0, 2, 0, 2, sample_values[0], sample_labels, 1},
    {0, MEMOPT_NONE, 0, 2, sample_values[1], sample_labels + 1, 1},
    {2, 0, 0, 2, sample_values[2], sample_labels, 1},
};
static const struct memopt_note sample_notes[] = {
    {MEMOPT_NOTE_INFO, 0, "the child was not followed"},
    {MEMOPT_NOTE_WARNING, 4242, "two lines:\n\033[31mred\033[0m \xff \xc3\xa9"},
    {MEMOPT_NOTE_ERROR, 0, "'memopt.json': No space left on device"},
};
static char *sample_argv[] = {(char[]){"/usr/bin/train"}, (char[]){"--name=\x1b\xe9"}, NULL};
static struct memopt_process sample_processes[3];

/* Every field has a value that differs from its neighbours'. */
static inline struct memopt_report *sample_full(struct memopt_report *report) {
    for (size_t i = 0; i < 3; i++)
        mo_process_init(&sample_processes[i]);
    struct memopt_process *main = &sample_processes[0];
    main->pid = 4242;
    main->ppid = 4000;
    main->program = "/usr/bin/train";
    main->command = "/usr/bin/train --name=x";
    main->end = MEMOPT_END_SIGNAL;
    main->end_value = 11;
    main->is_main = 1;
    main->allocator = "jemalloc";
    main->allocator_version = "5.3.0";
    main->binding = "dispatch";
    main->start_time = 1795503600000000001u;
    main->end_time = 1795503661500000002u;
    main->peak_rss = 123456789;
    main->rss_mean = 98765432;
    main->rss_rest = 87654321;
    main->heap_live = 48000000;
    main->heap_peak = 52000000;
    main->heap_committed = 60000000;
    main->heap_resident = 59000000;
    main->heap_retained = 7000000;
    main->fragmentation = 0.2;
    main->has_counts = 1;
    main->counts = (struct memopt_counts){
        .allocations = 1234567,
        .frees = 1200012,
        .reallocations = 17,
        .zeroed = 100,
        .aligned = 3,
        .failures = 1,
        .bytes_requested = 123456790,
        .bytes_allocated = 130000640,
        .bytes_freed = 81675840,
        .live_bytes = 48324800,
        .live_blocks = 34555,
        .peak_bytes = 52428801,
        .peak_error = 131072,
    };
    main->threads = sample_threads;
    main->thread_count = sizeof(sample_threads) / sizeof(sample_threads[0]);
    main->histogram = sample_bins;
    main->histogram_count = sizeof(sample_bins) / sizeof(sample_bins[0]);
    main->heaps = sample_heaps;
    main->heap_count = sizeof(sample_heaps) / sizeof(sample_heaps[0]);
    main->events = sample_events;
    main->event_count = sizeof(sample_events) / sizeof(sample_events[0]);

    struct memopt_process *child = &sample_processes[1];
    child->pid = 4250;
    child->ppid = 4242;
    child->program = "/bin/sh";
    child->end = MEMOPT_END_EXEC;
    child->binding = "none";
    struct memopt_process *other = &sample_processes[2];
    other->pid = 4250;
    other->ppid = 4242;
    other->program = "/opt/\x9b"
                     "gzip";
    other->end = MEMOPT_END_EXIT;
    other->end_value = 2;
    other->peak_rss = 4096000;
    other->has_counts = 1;
    other->counts = (struct memopt_counts){.allocations = 5, .peak_bytes = 100};

    *report = (struct memopt_report){
        .version = MEMOPT_REPORT_VERSION,
        .size = sizeof(*report),
        .memopt_version = "0.1.0",
        .host = "box",
        .system = "Linux 6.1 x86_64",
        .argv = sample_argv,
        .directory = "/home/me",
        .start_time = 1795503600000000000u,
        .wall_time = 61500000000u,
        .user_time = 60000000000u,
        .system_time = 1234000000,
        .peak_rss = 123456788,
        .minor_faults = 30000,
        .major_faults = 3,
        .voluntary_switches = 12,
        .involuntary_switches = 34,
        .exit_status = 139,
        .exit_signal = 11,
        .source = "run",
        .processes = sample_processes,
        .process_count = 3,
        .process_size = sizeof(sample_processes[0]),
        .notes = sample_notes,
        .note_count = sizeof(sample_notes) / sizeof(sample_notes[0]),
        .note_size = sizeof(sample_notes[0]),
        .modules = sample_modules,
        .module_count = sizeof(sample_modules) / sizeof(sample_modules[0]),
        .module_size = sizeof(sample_modules[0]),
        .functions = sample_functions,
        .function_count = sizeof(sample_functions) / sizeof(sample_functions[0]),
        .function_size = sizeof(sample_functions[0]),
        .locations = sample_locations,
        .location_count = sizeof(sample_locations) / sizeof(sample_locations[0]),
        .location_size = sizeof(sample_locations[0]),
        .stacks = sample_stacks,
        .stack_count = sizeof(sample_stacks) / sizeof(sample_stacks[0]),
        .stack_size = sizeof(sample_stacks[0]),
        .value_types = sample_value_types,
        .value_type_count = sizeof(sample_value_types) / sizeof(sample_value_types[0]),
        .value_type_size = sizeof(sample_value_types[0]),
        .samples = sample_samples,
        .sample_count = sizeof(sample_samples) / sizeof(sample_samples[0]),
        .sample_size = sizeof(sample_samples[0]),
        .line_size = sizeof(sample_lines[0]),
        .label_size = sizeof(sample_labels[0]),
        .event_stack_size = sizeof(sample_event_stacks[0]),
    };
    return report;
}

/* Nothing is known but that there was a program. */
static inline struct memopt_report *sample_unknown(struct memopt_report *report) {
    mo_process_init(&sample_processes[0]);
    sample_processes[0].is_main = 1;
    *report = (struct memopt_report){
        .version = MEMOPT_REPORT_VERSION,
        .size = sizeof(*report),
        .start_time = MEMOPT_UNKNOWN,
        .wall_time = MEMOPT_UNKNOWN,
        .user_time = MEMOPT_UNKNOWN,
        .system_time = MEMOPT_UNKNOWN,
        .peak_rss = MEMOPT_UNKNOWN,
        .minor_faults = MEMOPT_UNKNOWN,
        .major_faults = MEMOPT_UNKNOWN,
        .voluntary_switches = MEMOPT_UNKNOWN,
        .involuntary_switches = MEMOPT_UNKNOWN,
        .source = "run",
        .processes = sample_processes,
        .process_count = 1,
        .process_size = sizeof(sample_processes[0]),
        .note_size = sizeof(sample_notes[0]),
    };
    return report;
}

/* ------------------------------------------------------------------ golden */

/* NULL if `text` is what tests/data/NAME has; else what to say. */
static inline const char *golden_differs(const char *name, const char *text) {
    static char message[8192], expected[256 * 1024];
    char path[1024];
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof(path), "%s/tests/data/%s", top != NULL ? top : ".", name);
    if (getenv("MEMOPT_UPDATE_GOLDEN") != NULL) {
        FILE *file = fopen(path, "w");
        if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
            return "cannot write the golden file";
        return NULL;
    }
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        snprintf(message, sizeof(message), "cannot open '%s'", path);
        return message;
    }
    size_t n = fread(expected, 1, sizeof(expected) - 1, file);
    fclose(file);
    expected[n] = '\0';
    if (strcmp(expected, text) == 0)
        return NULL;
    size_t at = 0, line = 1;
    for (; expected[at] == text[at]; at++)
        line += text[at] == '\n';
    snprintf(message, sizeof(message), "differs from '%s' in line %zu, at: '%.200s'", path, line,
             text + at);
    return message;
}

#endif
