/*
 * conformance_reporter.c - what every reporter plugin must do: take any report that the
 * model allows, be a function of it and nothing else, hand on what write() says.
 */
#include "config.h"

#include "cli/conformance.h"

#include "core/model/report.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ------------------------------------------------------------------ output */

struct sink {
    struct memopt_output public;
    char *text;
    size_t used, room;
    long calls, fails_at; /* the number of the call that fails, and all after it; 0: none */
};

static int sink_write(struct memopt_output *output, const void *bytes, size_t count) {
    struct sink *sink = output->opaque;
    sink->calls++;
    if (sink->fails_at > 0 && sink->calls >= sink->fails_at)
        return -ENOSPC;
    if (sink->used + count + 1 > sink->room) {
        sink->room = 2 * (sink->used + count + 1);
        sink->text = realloc(sink->text, sink->room);
        CHECK(sink->text != NULL, "out of memory");
    }
    if (count > 0)
        memcpy(sink->text + sink->used, bytes, count);
    sink->used += count;
    sink->text[sink->used] = '\0';
    return 0;
}

__attribute__((format(printf, 2, 3))) static int sink_printf(struct memopt_output *output,
                                                             const char *format, ...) {
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    CHECK(length >= 0, "out of memory");
    int r = sink_write(output, text, (size_t)length);
    free(text);
    return r;
}

static int write_to(struct sink *sink, const struct memopt_report *report, long fails_at,
                    int is_terminal, int columns) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    sink->used = 0;
    sink->calls = 0;
    sink->fails_at = fails_at;
    sink->public = (struct memopt_output){.size = sizeof(sink->public),
                                          .opaque = sink,
                                          .write = sink_write,
                                          .printf = sink_printf,
                                          .is_terminal = is_terminal,
                                          .columns = columns};
    return conformance.plugin->ops.reporter.write(&mo_host, conformance.settings, report,
                                                  &sink->public, &error);
}

static void must_write(struct sink *sink, const struct memopt_report *report, const char *what) {
    int r = write_to(sink, report, 0, 0, 80);
    CHECK(r == 0, "%s: write() returns %d", what, r);
}

/* ----------------------------------------------------------------- reports */

static struct memopt_report *new_report(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_report *report = NULL;
    CHECK(mo_report_new(&report, &error) == 0, "no report: %s", error.message);
    return report;
}

/* `count` elements of `size` bytes, `extra` bytes apart, as a newer memopt may have them;
 * between them is what no reporter of today can know. */
static void *spread(struct memopt_report *report, const void *elements, size_t count, size_t size,
                    size_t extra) {
    char *copy = memopt_report_alloc(report, count * (size + extra) + 1);
    CHECK(copy != NULL, "out of memory");
    for (size_t i = 0; i < count; i++) {
        memcpy(copy + i * (size + extra), (const char *)elements + i * size, size);
        memset(copy + i * (size + extra) + size, 0xa5, extra);
    }
    return copy;
}

/* Texts that a program can have put there: control characters, no UTF-8, markup, long. */
static const char *const odd[] = {
    "plain",         "with blank and\ttab", "\033[31mred\033[0m\a", "\xff\xfe not UTF-8 \xc3",
    "| a | `b` <c>", "line\nline\n",        "\"quoted\" \\ 'x'",    "",
};
enum { ODD = sizeof(odd) / sizeof(*odd) };

static struct memopt_counts some_counts(uint64_t i) {
    return (struct memopt_counts){.allocations = 1000 + i,
                                  .frees = 900,
                                  .reallocations = 10,
                                  .zeroed = 20,
                                  .aligned = 3,
                                  .failures = i,
                                  .bytes_requested = 123456789,
                                  .bytes_allocated = 130000000,
                                  .bytes_freed = 81674560,
                                  .live_bytes = i % 2 == 0 ? 48325440 : -640,
                                  .live_blocks = i % 2 == 0 ? 100 : -2,
                                  .peak_bytes = i % 3 == 0 ? MEMOPT_UNKNOWN : 50000000,
                                  .peak_error = i};
}

#define SPREAD(REPORT, ELEMENTS, EXTRA)                                                            \
    spread(REPORT, ELEMENTS, sizeof(ELEMENTS) / sizeof(*(ELEMENTS)), sizeof(*(ELEMENTS)), EXTRA)
#define SET_TABLE(REPORT, NAME, ELEMENTS, EXTRA)                                                   \
    do {                                                                                           \
        (REPORT)->NAME##s = SPREAD(REPORT, ELEMENTS, EXTRA);                                       \
        (REPORT)->NAME##_count = sizeof(ELEMENTS) / sizeof(*(ELEMENTS));                           \
        (REPORT)->NAME##_size = sizeof(*(ELEMENTS)) + (EXTRA);                                     \
    } while (0)

/* Places with and without a module, an address, lines, functions inlined; stacks of them;
 * samples with and without a stack, a process, a value. */
static void add_code(struct memopt_report *report, size_t extra) {
    static const uint32_t places[] = {0, 1, 2, 3};
    static const uint64_t values[] = {3, 4096, MEMOPT_UNKNOWN};
    const struct memopt_module modules[] = {{"/bin/program", "0123456789abcdef"}, {odd[3], NULL}};
    const struct memopt_function functions[] = {
        {"f(int)", "_Z1fi", "f.cc"}, {odd[2], NULL, NULL}, {odd[3], odd[4], odd[5]}};
    const struct memopt_line lines[] = {{0, 10}, {1, 0}, {2, UINT32_MAX}};
    const struct memopt_label labels[] = {{"leak", "direct"}, {"odd", odd[2]}};
    const void *line = SPREAD(report, lines, extra), *label = SPREAD(report, labels, extra);
    const struct memopt_location locations[] = {
        {0, 0x1234, line, 3},
        {1, 0, line, 0},
        {MEMOPT_NONE, UINT64_C(0x7fffffffffff), line, 0},
        {MEMOPT_NONE, MEMOPT_UNKNOWN, line, 1},
    };
    const struct memopt_stack stacks[] = {{places, 4}, {places + 2, 1}};
    const struct memopt_value_type types[] = {
        {"leaked_blocks", "count"}, {"leaked_bytes", "bytes"}, {"odd", odd[2]}};
    const struct memopt_sample samples[] = {
        {0, 0, 0, 3, values, label, 2},
        {1, MEMOPT_NONE, 1, 1, values + 1, label, 1},
        {MEMOPT_NONE, 1, 0, 2, values, NULL, 0},
        {0, 1, 0, 0, values, NULL, 0},
    };
    SET_TABLE(report, module, modules, extra);
    SET_TABLE(report, function, functions, extra);
    SET_TABLE(report, location, locations, extra);
    SET_TABLE(report, stack, stacks, extra);
    SET_TABLE(report, value_type, types, extra);
    SET_TABLE(report, sample, samples, extra);
    report->line_size = sizeof(*lines) + extra;
    report->label_size = sizeof(*labels) + extra;
    report->event_stack_size = sizeof(struct memopt_event_stack) + extra;
}

/* Everything that a report can have, several times; `extra` as in spread(). */
static struct memopt_report *full_report(size_t extra) {
    struct memopt_report *report = new_report();
    static char *const argv[] = {(char *)(uintptr_t) "program", (char *)(uintptr_t) "\033[1m \xff",
                                 NULL};
    struct memopt_process processes[ODD];
    struct memopt_note notes[ODD];
    const struct memopt_event_stack event_stacks[] = {{"fault", "accessed by", 4000, 0},
                                                      {"freed", odd[2], 0, MEMOPT_NONE}};
    const void *event_stack = SPREAD(report, event_stacks, extra);
    add_code(report, extra);
    for (size_t i = 0; i < ODD; i++) {
        struct memopt_process *process = &processes[i];
        struct memopt_thread threads[3];
        struct memopt_histogram_bin bins[3];
        struct memopt_heap_report heaps[3];
        struct memopt_event_report events[3];
        mo_process_init(process);
        process->pid = 4000 + (int64_t)i;
        process->ppid = i == 0 ? 1 : 4000;
        process->program = odd[i];
        process->command = odd[(i + 1) % ODD];
        process->end = (int)(i % 5);
        process->end_value = i % 2 == 0 ? 9 : -1;
        process->is_main = i == 0;
        process->allocator = "libc";
        process->allocator_version = odd[(i + 2) % ODD];
        process->binding = "dispatch";
        process->start_time = 1795500000000000000u;
        process->end_time = process->start_time + 1234567890u;
        process->peak_rss = UINT64_C(1) << (10 + 7 * i);
        process->fragmentation = 0.25;
        process->has_counts = 1;
        process->counts = some_counts(i);
        process->merged = i == ODD - 1 ? 1000 : 0;
        for (uint64_t j = 0; j < 3; j++) {
            threads[j] = (struct memopt_thread){.tid = (int64_t)j, .counts = some_counts(j)};
            bins[j] = (struct memopt_histogram_bin){
                .min = 100 * j, .max = 100 * j + 99, .allocations = j, .bytes = 150 * j};
            heaps[j] = (struct memopt_heap_report){.name = odd[(i + j) % ODD],
                                                   .allocator = "pool",
                                                   .limit = j == 0 ? MEMOPT_UNKNOWN : 1u << 20,
                                                   .live_bytes = 100 * j,
                                                   .peak_bytes = 200 * j,
                                                   .live_blocks = j,
                                                   .allocations = 10 * j,
                                                   .frees = 9 * j,
                                                   .refused = j,
                                                   .committed = j == 1 ? MEMOPT_UNKNOWN : 4096,
                                                   .fragmentation = j == 1 ? (double)NAN : 0.5};
            events[j] =
                (struct memopt_event_report){.time = j == 0 ? MEMOPT_UNKNOWN : 1000 * j,
                                             .kind = "overflow",
                                             .text = odd[i],
                                             .address = j == 1 ? MEMOPT_UNKNOWN : 0x10020,
                                             .block_address = j == 1 ? MEMOPT_UNKNOWN : 0x10000,
                                             .block_size = j == 1 ? MEMOPT_UNKNOWN : 24,
                                             .stacks = event_stack,
                                             .stack_count = j};
        }
        process->threads = spread(report, threads, 3, sizeof(*threads), extra);
        process->histogram = spread(report, bins, 3, sizeof(*bins), extra);
        process->heaps = spread(report, heaps, 3, sizeof(*heaps), extra);
        process->events = spread(report, events, 3, sizeof(*events), extra);
        process->thread_count = process->histogram_count = process->heap_count =
            process->event_count = 3;
        process->thread_size = sizeof(*threads) + extra;
        process->histogram_size = sizeof(*bins) + extra;
        process->heap_size = sizeof(*heaps) + extra;
        process->event_size = sizeof(*events) + extra;
        notes[i] = (struct memopt_note){
            .level = (int)(1 + i % 3), .pid = i % 2 == 0 ? 0 : 4000, .text = odd[i]};
    }
    report->argv = argv;
    report->directory = "/\xff";
    report->source = "run";
    report->start_time = 1795500000000000000u;
    report->wall_time = 1234567890u;
    report->user_time = report->system_time = 500000000u;
    report->peak_rss = 123 << 20;
    report->minor_faults = 12345;
    report->major_faults = 0;
    report->voluntary_switches = report->involuntary_switches = 7;
    report->exit_status = 137;
    report->exit_signal = 9;
    report->processes = spread(report, processes, ODD, sizeof(*processes), extra);
    report->process_count = ODD;
    report->process_size = sizeof(*processes) + extra;
    report->notes = spread(report, notes, ODD, sizeof(*notes), extra);
    report->note_count = ODD;
    report->note_size = sizeof(*notes) + extra;
    return report;
}

/* A process, a thread, a heap, ... of which nothing is known. */
static struct memopt_report *unknown_report(void) {
    struct memopt_report *report = new_report();
    struct memopt_process process;
    const uint64_t unknown = MEMOPT_UNKNOWN;
    const struct memopt_thread thread = {.counts = {.peak_bytes = unknown}};
    const struct memopt_heap_report heap = {.name = "",
                                            .allocator = "",
                                            .limit = unknown,
                                            .live_bytes = unknown,
                                            .peak_bytes = unknown,
                                            .live_blocks = unknown,
                                            .allocations = unknown,
                                            .frees = unknown,
                                            .refused = unknown,
                                            .committed = unknown,
                                            .fragmentation = (double)NAN};
    const struct memopt_event_report event = {.time = unknown,
                                              .kind = "event",
                                              .text = "",
                                              .address = unknown,
                                              .block_address = unknown,
                                              .block_size = unknown};
    mo_process_init(&process);
    process.has_counts = 1;
    process.counts.peak_bytes = unknown;
    process.threads = spread(report, &thread, 1, sizeof(thread), 0);
    process.heaps = spread(report, &heap, 1, sizeof(heap), 0);
    process.events = spread(report, &event, 1, sizeof(event), 0);
    process.thread_count = process.heap_count = process.event_count = 1;
    process.thread_size = sizeof(thread);
    process.heap_size = sizeof(heap);
    process.event_size = sizeof(event);
    report->processes = spread(report, &process, 1, sizeof(process), 0);
    report->process_count = 1;
    report->process_size = sizeof(process);
    return report;
}

/* ------------------------------------------------------------------- cases */

static int empty(void) {
    struct sink sink = {.used = 0};
    must_write(&sink, new_report(), "an empty report");
    return 0;
}

static int unknown(void) {
    struct sink sink = {.used = 0};
    must_write(&sink, unknown_report(), "a report of which nothing is known");
    /* the largest number there is, as a figure */
    CHECK(sink.text == NULL || strstr(sink.text, "18446744073709551615") == NULL,
          "MEMOPT_UNKNOWN is written as a number");
    return 0;
}

static int full(void) {
    static const int columns[] = {80, 20, 0, 10000};
    const struct memopt_report *report = full_report(0);
    struct sink sink = {.used = 0};
    for (int i = 0; i < 8; i++) {
        int r = write_to(&sink, report, 0, i / 4, columns[i % 4]);
        CHECK(r == 0, "write() returns %d for %d columns", r, columns[i % 4]);
        CHECK(sink.used > 0, "nothing was written of a full report");
    }
    return 0;
}

static int newer(void) {
    struct sink expected = {.used = 0}, sink = {.used = 0};
    must_write(&expected, full_report(0), "a full report");
    must_write(&sink, full_report(48), "a report with larger elements");
    CHECK(sink.used == expected.used && memcmp(sink.text, expected.text, sink.used) == 0,
          "other bytes are written if the elements of a newer memopt are larger");
    return 0;
}

static long count_descriptors(void) {
    DIR *open = opendir("/proc/self/fd");
    long count = 0;
    CHECK(open != NULL, "/proc/self/fd: %s", strerror(errno));
    while (readdir(open) != NULL)
        count++;
    closedir(open);
    return count;
}

static int pure(void) {
    const struct memopt_report *report = full_report(0);
    struct sink expected = {.used = 0}, sink = {.used = 0};
    must_write(&expected, report, "a full report");
    long before = count_descriptors();
    const struct timespec second = {1, 100000000};
    clock_nanosleep(CLOCK_REALTIME, 0, &second, NULL);
    must_write(&sink, report, "a full report, once more");
    CHECK(sink.used == expected.used && memcmp(sink.text, expected.text, sink.used) == 0,
          "other bytes are written a second later");
    CHECK(count_descriptors() == before, "a file stays open");
    return 0;
}

static int errors(void) {
    const struct memopt_report *report = full_report(0);
    struct sink sink = {.used = 0};
    must_write(&sink, report, "a full report");
    long calls = sink.calls, step = calls > 500 ? calls / 500 : 1;
    for (long i = 1; i <= calls; i += step) {
        int r = write_to(&sink, report, i, 0, 80);
        CHECK(r == -ENOSPC, "write() returns %d where call %ld of %ld for its output returns %d", r,
              i, calls, -ENOSPC);
    }
    return 0;
}

void conformance_reporter(const char *what) {
    static const struct conformance_case cases[] = {
        {"empty", empty, "a report without processes is written"},
        {"unknown", unknown, "a number that is not known is MEMOPT_UNKNOWN or NaN"},
        {"full", full, "strings are any bytes but NUL; any width of a terminal"},
        {"newer", newer, "arrays are stepped over by their ..._size"},
        {"pure", pure, "a reporter is a pure function of the report: it opens nothing"},
        {"errors", errors, "what the output's write() returns is handed on"},
    };
    conformance_run(what, cases, sizeof(cases) / sizeof(*cases));
}
