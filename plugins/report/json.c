/*
 * json - the whole report for programs: one object, documented key by key in
 * memopt-report(5), which tests/test_report_json.c holds against this file.
 *
 * What is not known is null. JSON has no NaN, no bytes that aren't UTF-8 and, in
 * jansson, no integer above 2^63: those become null, U+FFFD and null. All but ASCII is
 * escaped, so that the file can be looked at on a terminal.
 */
#include "config.h"

#include <memopt/plugin.h>
#include <memopt/utf8.h>

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct settings {
    int64_t indent;
};

/* The tree while it is built. After the first failure it only shrinks. */
struct tree {
    int failed;
};

/* Takes over `value`; NULL: it could not be made. */
static void put(struct tree *tree, json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value) < 0)
        tree->failed = 1;
}

static void append(struct tree *tree, json_t *array, json_t *value) {
    if (json_array_append_new(array, value) < 0)
        tree->failed = 1;
}

static json_t *number(uint64_t value) {
    return value > INT64_MAX ? json_null() : json_integer((json_int_t)value);
}

/* Of a process or thread, or a signal: 0 is none. */
static json_t *id(int64_t value) {
    return value == 0 ? json_null() : json_integer(value);
}

/* Of an exit, or a signal's number: below 0 it is not known. */
static json_t *status(int value) {
    return value < 0 ? json_null() : json_integer(value);
}

static json_t *ratio(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *string(const char *text) {
    if (text == NULL)
        return json_null();
    char *clean = malloc(strlen(text) * 3 + 1);
    if (clean == NULL)
        return NULL;
    size_t used = memopt_utf8_clean(clean, text);
    json_t *value = json_stringn_nocheck(clean, used);
    free(clean);
    return value;
}

/* The i-th of an array whose elements may be larger than we know. */
static const void *element(const void *array, size_t size, size_t i) {
    return (const char *)array + i * size;
}

static json_t *counts_of(struct tree *tree, const struct memopt_counts *counts) {
    json_t *o = json_object();
    put(tree, o, "allocations", number(counts->allocations));
    put(tree, o, "frees", number(counts->frees));
    put(tree, o, "reallocations", number(counts->reallocations));
    put(tree, o, "zeroed", number(counts->zeroed));
    put(tree, o, "aligned", number(counts->aligned));
    put(tree, o, "failures", number(counts->failures));
    put(tree, o, "bytes_requested", number(counts->bytes_requested));
    put(tree, o, "bytes_allocated", number(counts->bytes_allocated));
    put(tree, o, "bytes_freed", number(counts->bytes_freed));
    put(tree, o, "live_bytes", json_integer(counts->live_bytes));
    put(tree, o, "live_blocks", json_integer(counts->live_blocks));
    put(tree, o, "peak_bytes", number(counts->peak_bytes));
    put(tree, o, "peak_error", number(counts->peak_error));
    return o;
}

static json_t *thread_of(struct tree *tree, const struct memopt_thread *thread) {
    json_t *o = json_object();
    put(tree, o, "tid", id(thread->tid));
    put(tree, o, "counts", counts_of(tree, &thread->counts));
    return o;
}

static json_t *bin_of(struct tree *tree, const struct memopt_histogram_bin *bin) {
    json_t *o = json_object();
    put(tree, o, "min", number(bin->min));
    put(tree, o, "max", number(bin->max));
    put(tree, o, "allocations", number(bin->allocations));
    put(tree, o, "bytes", number(bin->bytes));
    return o;
}

static json_t *heap_of(struct tree *tree, const struct memopt_heap_report *heap) {
    json_t *o = json_object();
    put(tree, o, "name", string(heap->name));
    put(tree, o, "allocator", string(heap->allocator));
    put(tree, o, "limit", number(heap->limit));
    put(tree, o, "live_bytes", number(heap->live_bytes));
    put(tree, o, "peak_bytes", number(heap->peak_bytes));
    put(tree, o, "live_blocks", number(heap->live_blocks));
    put(tree, o, "allocations", number(heap->allocations));
    put(tree, o, "frees", number(heap->frees));
    put(tree, o, "refused", number(heap->refused));
    put(tree, o, "committed", number(heap->committed));
    put(tree, o, "fragmentation", ratio(heap->fragmentation));
    return o;
}

/* The i-th line of a location; i = 0 of one without lines: what is known of it all the same. */
static json_t *frame_of(struct tree *tree, const struct memopt_report *report,
                        const struct memopt_location *location, size_t i) {
    const struct memopt_line *line =
        i < location->line_count ? memopt_line_at(report, location, i) : NULL;
    const struct memopt_function *function =
        line == NULL ? NULL : memopt_function_at(report, line->function);
    const struct memopt_module *module =
        location->module == MEMOPT_NONE ? NULL : memopt_module_at(report, location->module);
    json_t *o = json_object();
    put(tree, o, "function", string(function == NULL ? NULL : function->name));
    put(tree, o, "system_name", string(function == NULL ? NULL : function->system_name));
    put(tree, o, "file", string(function == NULL ? NULL : function->file));
    put(tree, o, "line", id(line == NULL ? 0 : line->line));
    put(tree, o, "inlined", json_boolean(i + 1 < location->line_count));
    put(tree, o, "module", string(module == NULL ? NULL : module->path));
    put(tree, o, "build_id", string(module == NULL ? NULL : module->build_id));
    put(tree, o, "address", number(location->address));
    return o;
}

/* The leaf first; functions that are inlined are frames of their own. */
static json_t *frames_of(struct tree *tree, const struct memopt_report *report, uint32_t index) {
    if (index == MEMOPT_NONE)
        return json_null();
    json_t *array = json_array();
    const struct memopt_stack *stack = memopt_stack_at(report, index);
    for (size_t i = 0; i < stack->location_count; i++) {
        const struct memopt_location *location = memopt_location_at(report, stack->locations[i]);
        size_t count = location->line_count > 0 ? location->line_count : 1;
        for (size_t k = 0; k < count; k++)
            append(tree, array, frame_of(tree, report, location, k));
    }
    return array;
}

static json_t *stack_of(struct tree *tree, const struct memopt_report *report,
                        const struct memopt_event_stack *stack) {
    json_t *o = json_object();
    put(tree, o, "role", string(stack->role));
    put(tree, o, "by", string(stack->by));
    put(tree, o, "tid", id(stack->tid));
    put(tree, o, "frames", frames_of(tree, report, stack->stack));
    return o;
}

/* How far the address is from the block: below 0 before it. */
static json_t *offset_of(const struct memopt_event_report *event) {
    if (event->address == MEMOPT_UNKNOWN || event->block_address == MEMOPT_UNKNOWN)
        return json_null();
    return json_integer((json_int_t)(event->address - event->block_address));
}

static json_t *event_of(struct tree *tree, const struct memopt_report *report,
                        const struct memopt_event_report *event) {
    json_t *o = json_object(), *stacks = json_array();
    put(tree, o, "time", number(event->time));
    put(tree, o, "kind", string(event->kind));
    put(tree, o, "text", string(event->text));
    put(tree, o, "address", number(event->address));
    put(tree, o, "block_address", number(event->block_address));
    put(tree, o, "block_size", number(event->block_size));
    put(tree, o, "block_offset", offset_of(event));
    for (size_t i = 0; i < event->stack_count; i++)
        append(tree, stacks, stack_of(tree, report, memopt_event_stack_at(report, event, i)));
    put(tree, o, "stacks", stacks);
    return o;
}

static json_t *process_of(struct tree *tree, const struct memopt_report *report,
                          const struct memopt_process *process) {
    static const char *const ends[] = {NULL, "exit", "signal", "exec", "running"};
    json_t *o = json_object();
    int end = process->end < 0 || process->end > MEMOPT_END_RUNNING ? 0 : process->end;
    put(tree, o, "pid", id(process->pid));
    put(tree, o, "ppid", id(process->ppid));
    put(tree, o, "main", json_boolean(process->is_main));
    put(tree, o, "program", string(process->program));
    put(tree, o, "command", string(process->command));
    put(tree, o, "end", string(ends[end]));
    int has_value = end == MEMOPT_END_EXIT || end == MEMOPT_END_SIGNAL;
    put(tree, o, "end_value", has_value ? status(process->end_value) : json_null());
    put(tree, o, "allocator", string(process->allocator));
    put(tree, o, "allocator_version", string(process->allocator_version));
    put(tree, o, "binding", string(process->binding));
    put(tree, o, "start_time", number(process->start_time));
    put(tree, o, "end_time", number(process->end_time));
    put(tree, o, "merged", json_integer((json_int_t)process->merged));
    put(tree, o, "peak_rss", number(process->peak_rss));
    put(tree, o, "rss_mean", number(process->rss_mean));
    put(tree, o, "rss_rest", number(process->rss_rest));
    put(tree, o, "heap_live", number(process->heap_live));
    put(tree, o, "heap_peak", number(process->heap_peak));
    put(tree, o, "heap_committed", number(process->heap_committed));
    put(tree, o, "heap_resident", number(process->heap_resident));
    put(tree, o, "heap_retained", number(process->heap_retained));
    put(tree, o, "fragmentation", ratio(process->fragmentation));
    put(tree, o, "counts", process->has_counts ? counts_of(tree, &process->counts) : json_null());
    json_t *threads = json_array(), *bins = json_array(), *heaps = json_array(),
           *events = json_array();
    for (size_t i = 0; i < process->thread_count; i++)
        append(tree, threads, thread_of(tree, element(process->threads, process->thread_size, i)));
    for (size_t i = 0; i < process->histogram_count; i++)
        append(tree, bins, bin_of(tree, element(process->histogram, process->histogram_size, i)));
    for (size_t i = 0; i < process->heap_count; i++)
        append(tree, heaps, heap_of(tree, element(process->heaps, process->heap_size, i)));
    for (size_t i = 0; i < process->event_count; i++)
        append(tree, events, event_of(tree, report, memopt_event_at(process, i)));
    put(tree, o, "threads", threads);
    put(tree, o, "histogram", bins);
    put(tree, o, "heaps", heaps);
    put(tree, o, "events", events);
    return o;
}

static json_t *note_of(struct tree *tree, const struct memopt_note *note) {
    json_t *o = json_object();
    put(tree, o, "level",
        string(note->level == MEMOPT_NOTE_ERROR     ? "error"
               : note->level == MEMOPT_NOTE_WARNING ? "warning"
                                                    : "info"));
    put(tree, o, "pid", id(note->pid));
    put(tree, o, "text", string(note->text));
    return o;
}

static json_t *argv_of(struct tree *tree, char *const *argv) {
    if (argv == NULL)
        return json_null();
    json_t *array = json_array();
    for (size_t i = 0; argv[i] != NULL; i++)
        append(tree, array, string(argv[i]));
    return array;
}

/* All but the processes and the notes. */
static json_t *head_of(struct tree *tree, const struct memopt_report *report) {
    json_t *o = json_object();
    put(tree, o, "schema", string("memopt-report"));
    put(tree, o, "version", json_integer(MEMOPT_REPORT_VERSION));
    put(tree, o, "memopt_version", string(report->memopt_version));
    put(tree, o, "source", string(report->source));
    put(tree, o, "host", string(report->host));
    put(tree, o, "system", string(report->system));
    put(tree, o, "argv", argv_of(tree, report->argv));
    put(tree, o, "directory", string(report->directory));
    put(tree, o, "start_time", number(report->start_time));
    put(tree, o, "wall_time", number(report->wall_time));
    put(tree, o, "user_time", number(report->user_time));
    put(tree, o, "system_time", number(report->system_time));
    put(tree, o, "peak_rss", number(report->peak_rss));
    put(tree, o, "minor_faults", number(report->minor_faults));
    put(tree, o, "major_faults", number(report->major_faults));
    put(tree, o, "voluntary_switches", number(report->voluntary_switches));
    put(tree, o, "involuntary_switches", number(report->involuntary_switches));
    put(tree, o, "exit_status", status(report->exit_status));
    put(tree, o, "exit_signal", id(report->exit_signal));
    return o;
}

struct sink {
    struct memopt_output *output;
    int failed;
    size_t indent; /* blanks a level; 0: all on one line */
    size_t depth;  /* of what is written, in levels */
};

static void write_text(struct sink *sink, const char *text, size_t count) {
    if (sink->failed == 0)
        sink->failed = sink->output->write(sink->output, text, count);
}

/* Between two values, or a bracket and a value. */
static void write_break(struct sink *sink, const char *before) {
    static const char blanks[] = "                                ";
    write_text(sink, before, strlen(before));
    if (sink->indent == 0) {
        if (before[0] == ',')
            write_text(sink, " ", 1);
        return;
    }
    write_text(sink, "\n", 1);
    for (size_t left = sink->indent * sink->depth; left > 0;) {
        size_t some = left < sizeof(blanks) - 1 ? left : sizeof(blanks) - 1;
        write_text(sink, blanks, some);
        left -= some;
    }
}

/* In a string a line feed is escaped: those that come here begin lines. */
static int dump(const char *bytes, size_t count, void *sink_) {
    struct sink *sink = sink_;
    while (count > 0 && sink->failed == 0) {
        const char *end = memchr(bytes, '\n', count);
        size_t length = end == NULL ? count : (size_t)(end - bytes);
        write_text(sink, bytes, length);
        if (end != NULL)
            write_break(sink, "");
        length += end != NULL;
        bytes += length;
        count -= length;
    }
    return sink->failed == 0 ? 0 : -1;
}

/* Takes `value`. Six digits: a ratio's seventh is noise. */
static int write_value(struct sink *sink, json_t *value, const struct tree *tree) {
    int r = value == NULL || tree->failed ? -ENOMEM : 0;
    if (r == 0 && json_dump_callback(value, dump, sink,
                                     JSON_ENCODE_ANY | JSON_INDENT(sink->indent) |
                                         JSON_REAL_PRECISION(6) | JSON_ENSURE_ASCII) < 0)
        r = sink->failed != 0 ? sink->failed : -ENOMEM;
    json_decref(value);
    return r;
}

static int write_key(struct sink *sink, const char *key, const char *before) {
    write_break(sink, before);
    write_text(sink, "\"", 1);
    write_text(sink, key, strlen(key));
    write_text(sink, "\": ", 3);
    return sink->failed;
}

/* One value after the other: a run may have a hundred thousand processes, whose tree would
 * be larger than all the rest of memopt. */
static int write_array(struct sink *sink, const char *key, struct tree *tree, size_t count,
                       json_t *(*value_of)(struct tree *tree, const struct memopt_report *report,
                                           size_t i),
                       const struct memopt_report *report) {
    int r = write_key(sink, key, ",");
    write_text(sink, "[", 1);
    sink->depth++;
    for (size_t i = 0; i < count && r == 0; i++) {
        write_break(sink, i == 0 ? "" : ",");
        r = write_value(sink, value_of(tree, report, i), tree);
    }
    sink->depth--;
    if (count > 0)
        write_break(sink, "");
    write_text(sink, "]", 1);
    return r;
}

static json_t *ith_process(struct tree *tree, const struct memopt_report *report, size_t i) {
    return process_of(tree, report, memopt_process_at(report, i));
}

static json_t *ith_value_type(struct tree *tree, const struct memopt_report *report, size_t i) {
    const struct memopt_value_type *type = memopt_value_type_at(report, i);
    json_t *o = json_object();
    put(tree, o, "type", string(type->type));
    put(tree, o, "unit", string(type->unit));
    return o;
}

static json_t *ith_sample(struct tree *tree, const struct memopt_report *report, size_t i) {
    const struct memopt_sample *sample = memopt_sample_at(report, i);
    json_t *o = json_object(), *values = json_object(), *labels = json_object();
    int is_known = sample->process < report->process_count;
    put(tree, o, "process", is_known ? json_integer(sample->process) : json_null());
    put(tree, o, "pid",
        is_known ? id(memopt_process_at(report, sample->process)->pid) : json_null());
    for (uint32_t k = 0; k < sample->value_count; k++)
        put(tree, values, memopt_value_type_at(report, sample->type + k)->type,
            number(sample->values[k]));
    for (size_t k = 0; k < sample->label_count; k++) {
        const struct memopt_label *label = memopt_label_at(report, sample, k);
        put(tree, labels, label->key, string(label->text));
    }
    put(tree, o, "values", values);
    put(tree, o, "labels", labels);
    put(tree, o, "frames", frames_of(tree, report, sample->stack));
    return o;
}

static json_t *ith_note(struct tree *tree, const struct memopt_report *report, size_t i) {
    return note_of(tree, element(report->notes, report->note_size, i));
}

static int write_report(struct sink *sink, const struct memopt_report *report) {
    struct tree tree = {0};
    json_t *head = head_of(&tree, report), *value;
    const char *key;
    int r = head == NULL || tree.failed ? -ENOMEM : 0;
    size_t n = 0;
    write_text(sink, "{", 1);
    sink->depth = 1;
    json_object_foreach(head, key, value) {
        if (r == 0)
            r = write_key(sink, key, n++ == 0 ? "" : ",");
        if (r == 0)
            r = write_value(sink, json_incref(value), &tree);
    }
    json_decref(head);
    if (r == 0)
        r = write_array(sink, "processes", &tree, report->process_count, ith_process, report);
    if (r == 0)
        r = write_array(sink, "value_types", &tree, report->value_type_count, ith_value_type,
                        report);
    if (r == 0)
        r = write_array(sink, "samples", &tree, report->sample_count, ith_sample, report);
    if (r == 0)
        r = write_array(sink, "notes", &tree, report->note_count, ith_note, report);
    sink->depth = 0;
    if (r == 0) {
        write_break(sink, "");
        write_text(sink, "}\n", 2);
    }
    return r == 0 ? sink->failed : r;
}

static int json_write(const struct memopt_host *host, const void *settings_,
                      const struct memopt_report *report, struct memopt_output *output,
                      struct memopt_error *error) {
    const struct settings *settings = settings_;
    struct sink sink = {.output = output, .indent = (size_t)settings->indent};
    int r = write_report(&sink, report);
    return r == 0 ? 0 : host->fail(error, r, "%s", strerror(-r));
}

static const struct memopt_option options[] = {
    MEMOPT_OPT_INT(struct settings, indent, "indent", "2", "0", "8", "blanks",
                   "how far each level is indented; 0: all on one line"),
    MEMOPT_OPT_END,
};

static const struct memopt_reporter_ops ops = {
    .size = sizeof(ops),
    .default_output = "memopt-%p.json",
    .write = json_write,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_REPORTER),
    .name = "json",
    .version = PACKAGE_VERSION,
    .summary = "the whole report for programs, as memopt-report(5) describes it",
    .options = options,
    .settings_size = sizeof(struct settings),
    .ops = &ops,
};
