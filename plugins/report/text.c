/*
 * text - the report for people: a few lines at the end of `memopt run`, or with
 * `detail = full` everything there is.
 *
 * What is not known is not mentioned. Strings that come from a program are
 * escaped: a file name must not be able to move the cursor.
 */
#define _GNU_SOURCE /* sigabbrev_np */
#include "config.h"

#include <memopt/plugin.h>
#include <memopt/show.h>

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUMMARY, FULL };
enum { AUTO, YES, NO };
enum { CHILDREN = 8 }; /* listed in a summary */

struct settings {
    int detail, color;
};

/* What is being written, and how it went so far. Lines are broken between words. */
struct pen {
    struct memopt_output *output;
    int failed; /* the first negative errno */
    int color, full;
    size_t columns;       /* that a line has; SIZE_MAX: it is never broken */
    size_t indent;        /* what is left free after a break */
    size_t column;        /* where the last whole word has ended */
    size_t blanks;        /* after that */
    size_t length, width; /* of the word that is being put together, in bytes and columns */
    char *has_leaks;      /* of each process; NULL: none has */
    char word[1024];
};

#define JOIN '\1' /* a blank where no line is broken */

static void put(struct pen *pen, const char *bytes, size_t count) {
    if (pen->failed == 0 && count > 0)
        pen->failed = pen->output->write(pen->output, bytes, count);
}

static void put_blanks(struct pen *pen, size_t count) {
    static const char blanks[] = "                                ";
    for (size_t n; count > 0; count -= n) {
        n = count < sizeof(blanks) - 1 ? count : sizeof(blanks) - 1;
        put(pen, blanks, n);
    }
}

static void end_word(struct pen *pen) {
    if (pen->length == 0)
        return;
    size_t begin = pen->column + pen->blanks;
    if (begin > pen->indent && pen->width > 0 &&
        (pen->width > pen->columns || begin > pen->columns - pen->width)) {
        put(pen, "\n", 1);
        begin = pen->indent;
        put_blanks(pen, begin);
    } else {
        put_blanks(pen, pen->blanks);
    }
    put(pen, pen->word, pen->length);
    pen->column = begin + pen->width;
    pen->blanks = pen->length = pen->width = 0;
}

static void add_to_word(struct pen *pen, char c, size_t width) {
    if (pen->length == sizeof(pen->word))
        end_word(pen);
    pen->word[pen->length++] = c;
    pen->width += width;
}

static void end_line(struct pen *pen) {
    end_word(pen);
    put(pen, "\n", 1);
    pen->column = pen->blanks = 0;
}

static __attribute__((format(printf, 2, 3))) void say(struct pen *pen, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\n') {
            end_line(pen);
        } else if (*c == ' ') {
            end_word(pen);
            pen->blanks++;
        } else { /* the later bytes of a UTF-8 character have no width */
            add_to_word(pen, *c == JOIN ? ' ' : *c, (*c & 0xc0) != 0x80);
        }
    }
}

static void color(struct pen *pen, const char *code) {
    if (!pen->color)
        return;
    add_to_word(pen, '\033', 0);
    add_to_word(pen, '[', 0);
    for (; *code != '\0'; code++)
        add_to_word(pen, *code, 0);
    add_to_word(pen, 'm', 0);
}

/* Texts are broken on a terminal only, for whom they are to be searched elsewhere; lists of
 * facts everywhere; tables nowhere. `indent`: of what goes on in the next line. */
static void write_text(struct pen *pen, size_t indent) {
    pen->columns = pen->output->is_terminal ? (size_t)pen->output->columns : SIZE_MAX;
    pen->indent = indent;
}

static void write_facts(struct pen *pen, size_t indent) {
    pen->columns = (size_t)pen->output->columns;
    pen->indent = indent;
}

static void write_table(struct pen *pen) {
    pen->columns = SIZE_MAX;
}

/* ----------------------------------------------------------------- numbers */

struct word {
    char text[48];
};

/* Three significant digits: 512 B, 1.23 MiB, 45.2 GiB. */
static struct word size_word(uint64_t bytes) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    struct word word;
    if (bytes < 1024) {
        snprintf(word.text, sizeof(word.text), "%u B", (unsigned)bytes);
        return word;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    while (value >= 999.5 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    int digits = value < 0.9995 ? 3 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(word.text, sizeof(word.text), "%.*f %s", digits, value, units[unit]);
    return word;
}

static struct word signed_size_word(int64_t bytes) {
    if (bytes >= 0)
        return size_word((uint64_t)bytes);
    struct word word, positive = size_word(0 - (uint64_t)bytes);
    snprintf(word.text, sizeof(word.text), "-%.40s", positive.text);
    return word;
}

/* 1,234,567 */
static struct word count_word(uint64_t count) {
    struct word word;
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)count);
    char *to = word.text;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return word;
}

static struct word signed_count_word(int64_t count) {
    if (count >= 0)
        return count_word((uint64_t)count);
    struct word word, positive = count_word(0 - (uint64_t)count);
    snprintf(word.text, sizeof(word.text), "-%.40s", positive.text);
    return word;
}

static struct word time_word(uint64_t nanoseconds) {
    struct word word;
    double seconds = (double)nanoseconds / 1e9;
    if (seconds < 0.9995e-3)
        snprintf(word.text, sizeof(word.text), "%.3g us", seconds * 1e6);
    else if (seconds < 0.9995)
        snprintf(word.text, sizeof(word.text), "%.3g ms", seconds * 1e3);
    else if (seconds < 59.95)
        snprintf(word.text, sizeof(word.text), "%.*f s", seconds < 9.995 ? 2 : 1, seconds);
    else if (seconds < 3599.5)
        snprintf(word.text, sizeof(word.text), "%u min %02u s", (unsigned)((seconds + 0.5) / 60),
                 (unsigned)(seconds + 0.5) % 60);
    else
        snprintf(word.text, sizeof(word.text), "%llu h %02u min",
                 (unsigned long long)((seconds + 30) / 3600),
                 (unsigned)((unsigned long long)(seconds + 30) / 60 % 60));
    return word;
}

#define SIZE(X) size_word(X).text
#define SIGNED_SIZE(X) signed_size_word(X).text
#define COUNT(X) count_word(X).text
#define SIGNED_COUNT(X) signed_count_word(X).text
#define TIME(X) time_word(X).text

static int known(uint64_t value) {
    return value != MEMOPT_UNKNOWN;
}

/* ----------------------------------------------------------------- strings */

/* `indent`: what a new line begins with, or NULL: newlines are escaped too. */
static void say_string(struct pen *pen, const char *string, const char *indent) {
    char text[512];
    while (*string != '\0') {
        string += memopt_show(text, sizeof(text), string, indent != NULL ? MEMOPT_SHOW_LINES : 0);
        for (const char *part = text; *part != '\0';) {
            int plain = (int)strcspn(part, "\n\t");
            say(pen, "%.*s", plain, part);
            part += plain;
            if (*part == '\n')
                say(pen, "\n%s", indent);
            else if (*part == '\t')
                say(pen, "    ");
            part += *part != '\0';
        }
    }
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL || slash[1] == '\0' ? path : slash + 1;
}

/* ------------------------------------------------------------------- lines */

/* "label   fact, fact, fact", broken between facts where the line is full;
 * nothing if there is no fact. */
enum { LABEL = 16 };

struct facts {
    size_t count;
    struct {
        char text[80];
    } facts[6];
};

static __attribute__((format(printf, 2, 3))) void fact(struct facts *facts, const char *format,
                                                       ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text = facts->facts[facts->count++].text;
    vsnprintf(text, sizeof(facts->facts[0].text), format, arguments);
    va_end(arguments);
}

/* After the label. */
static void say_facts(struct pen *pen, struct facts *facts) {
    end_word(pen);
    if (pen->column + 1 > LABEL)
        end_line(pen);
    pen->blanks = LABEL - pen->column;
    for (size_t i = 0; i < facts->count; i++) {
        char *text = facts->facts[i].text;
        size_t comma = i + 1 < facts->count;
        if (LABEL + strlen(text) + comma <= pen->columns)
            for (char *blank = text; (blank = strchr(blank, ' ')) != NULL;)
                *blank = JOIN;
        say(pen, comma ? "%s, " : "%s\n", text);
    }
}

static void line(struct pen *pen, const char *label, struct facts *facts) {
    if (facts->count == 0)
        return;
    write_facts(pen, LABEL);
    say(pen, "  %s", label);
    say_facts(pen, facts);
}

static void say_end(struct pen *pen, const struct memopt_process *process) {
    const char *name;
    switch (process->end) {
    case MEMOPT_END_EXIT:
        if (process->end_value >= 0)
            say(pen, "exit status %d", process->end_value);
        else
            say(pen, "exited");
        break;
    case MEMOPT_END_SIGNAL:
        name = sigabbrev_np(process->end_value);
        if (process->end_value < 0)
            say(pen, "killed by a signal");
        else if (name != NULL)
            say(pen, "killed by SIG%s", name);
        else
            say(pen, "killed by signal %d", process->end_value);
        break;
    case MEMOPT_END_EXEC:
        say(pen, "became another program");
        break;
    case MEMOPT_END_RUNNING:
        say(pen, "still running");
        break;
    default:
        /* with memopt's part in it, it would have said so of any exit */
        say(pen, process->allocator != NULL ? "killed, or became a program that isn't watched"
                                            : "ended without saying how");
    }
}

static void say_allocator(struct pen *pen, const struct memopt_process *process) {
    if (process->allocator == NULL)
        return;
    say(pen, ", on ");
    say_string(pen, process->allocator, NULL);
    if (process->allocator_version != NULL) {
        say(pen, " ");
        say_string(pen, process->allocator_version, NULL);
    }
    if (process->binding != NULL) {
        say(pen, " (");
        say_string(pen, process->binding, NULL);
        say(pen, ")");
    }
}

/* ----------------------------------------------------------- one process */

/* What it had at its peak, then what it has now or had at the end. What the allocator held
 * goes with what was live at that moment, as it is of no use without. */
static void say_heap_line(struct pen *pen, const struct memopt_process *process) {
    const struct memopt_counts *counts = &process->counts;
    struct facts facts = {0}, fragmentation = {0};
    if (process->has_counts) {
        if (known(counts->peak_bytes) && counts->peak_error > 0)
            fact(&facts, "%s peak (give or take %s)", SIZE(counts->peak_bytes),
                 SIZE(counts->peak_error));
        else if (known(counts->peak_bytes))
            fact(&facts, "%s peak", SIZE(counts->peak_bytes));
        fact(&facts, "%s live at the end", SIGNED_SIZE(counts->live_bytes));
    } else {
        if (known(process->heap_peak))
            fact(&facts, "%s peak", SIZE(process->heap_peak));
        if (known(process->heap_live))
            fact(&facts, "%s live", SIZE(process->heap_live));
        if (known(process->heap_committed))
            fact(&facts, "%s held from the system", SIZE(process->heap_committed));
    }
    line(pen, "heap", &facts);

    uint64_t live = process->heap_live, held = process->heap_committed;
    if (!isfinite(process->fragmentation) || !known(live) || !known(held) || held < live ||
        held == 0)
        return;
    fact(&fragmentation, "%.1f %% of the %s held%s", 100 * (double)(held - live) / (double)held,
         SIZE(held), process->has_counts ? " near the peak" : "");
    fact(&fragmentation, "%s of them live", SIZE(live));
    if (pen->full && known(process->heap_resident))
        fact(&fragmentation, "%s in RAM", SIZE(process->heap_resident));
    if (pen->full && known(process->heap_retained))
        fact(&fragmentation, "%s kept for reuse", SIZE(process->heap_retained));
    line(pen, "fragmentation", &fragmentation);
}

static void say_counts(struct pen *pen, const struct memopt_process *process) {
    if (!process->has_counts)
        return;
    const struct memopt_counts *counts = &process->counts;
    struct facts calls = {0}, kinds = {0}, bytes = {0};
    fact(&calls, "%s made", COUNT(counts->allocations));
    fact(&calls, "%s freed", COUNT(counts->frees));
    fact(&calls, "%s left", SIGNED_COUNT(counts->live_blocks));
    if (counts->failures > 0 && known(counts->failures))
        fact(&calls, "%s refused", COUNT(counts->failures));
    line(pen, "allocations", &calls);
    if (pen->full) {
        fact(&kinds, "%s by realloc", COUNT(counts->reallocations));
        fact(&kinds, "%s by calloc", COUNT(counts->zeroed));
        fact(&kinds, "%s aligned", COUNT(counts->aligned));
        line(pen, "", &kinds);
    }
    fact(&bytes, "%s asked for", SIZE(counts->bytes_requested));
    fact(&bytes, "%s handed out", SIZE(counts->bytes_allocated));
    if (counts->allocations > 0)
        fact(&bytes, "%s on average", SIZE(counts->bytes_requested / counts->allocations));
    line(pen, "bytes", &bytes);
}

static void say_heaps(struct pen *pen, const struct memopt_process *process) {
    for (size_t i = 0; i < process->heap_count; i++) {
        const struct memopt_heap_report *heap =
            (const void *)((const char *)process->heaps + i * process->heap_size);
        struct facts facts = {0};
        if (known(heap->peak_bytes))
            fact(&facts, "%s peak", SIZE(heap->peak_bytes));
        if (known(heap->live_bytes) && known(heap->live_blocks))
            fact(&facts, "%s live in %s block%s", SIZE(heap->live_bytes), COUNT(heap->live_blocks),
                 heap->live_blocks == 1 ? "" : "s");
        else if (known(heap->live_bytes))
            fact(&facts, "%s live", SIZE(heap->live_bytes));
        if (known(heap->limit))
            fact(&facts, "limit %s", SIZE(heap->limit));
        if (known(heap->refused) && heap->refused > 0)
            fact(&facts, "%s refused", COUNT(heap->refused));
        if (heap->allocator != NULL) {
            char allocator[60];
            memopt_show(allocator, sizeof(allocator), heap->allocator, 0);
            fact(&facts, "on %s", allocator);
        }
        if (facts.count == 0)
            fact(&facts, "not used");
        write_facts(pen, LABEL);
        say(pen, "  heap%c'", JOIN);
        say_string(pen, heap->name, NULL);
        say(pen, "'");
        say_facts(pen, &facts);
    }
}

/* ------------------------------------------------------------------- code */

/* Below the directory that the program was run in a path is short. */
static void say_file(struct pen *pen, const struct memopt_report *report, const char *file,
                     uint32_t line) {
    size_t length = report->directory == NULL ? 0 : strlen(report->directory);
    int is_below =
        length > 1 && strncmp(file, report->directory, length) == 0 && file[length] == '/';
    say_string(pen, is_below ? file + length + 1 : file, NULL);
    if (line > 0)
        say(pen, ":%lu", (unsigned long)line);
}

static void say_address(struct pen *pen, const struct memopt_report *report,
                        const struct memopt_location *location) {
    if (location->module != MEMOPT_NONE) {
        say_string(pen, memopt_module_at(report, location->module)->path, NULL);
        say(pen, "+");
    }
    say(pen, "0x%llx", (unsigned long long)location->address);
}

/* "#N INNER in OUTER at FILE:LINE", "#N FUNCTION (MODULE)", "#N MODULE+0xOFFSET" */
static void say_frame(struct pen *pen, const struct memopt_report *report, size_t n,
                      const struct memopt_location *location) {
    say(pen, "#%zu ", n);
    if (location->line_count == 0) {
        say_address(pen, report, location);
        return;
    }
    const struct memopt_line *innermost = memopt_line_at(report, location, 0);
    const char *file = memopt_function_at(report, innermost->function)->file;
    for (size_t i = 0; i < location->line_count; i++) {
        const struct memopt_line *line = memopt_line_at(report, location, i);
        say(pen, "%s", i > 0 ? " in " : "");
        say_string(pen, memopt_function_at(report, line->function)->name, NULL);
    }
    if (file != NULL) {
        say(pen, " at ");
        say_file(pen, report, file, innermost->line);
    } else if (location->module != MEMOPT_NONE) {
        say(pen, " (");
        say_string(pen, memopt_module_at(report, location->module)->path, NULL);
        say(pen, ")");
    }
}

/* "FUNCTION (FILE:LINE) < FUNCTION (MODULE+0xOFFSET)": the first ones of a stack. */
static void say_call_site(struct pen *pen, const struct memopt_report *report, uint32_t index) {
    enum { FRAMES = 3 };
    if (index == MEMOPT_NONE) {
        say(pen, "no stack");
        return;
    }
    const struct memopt_stack *stack = memopt_stack_at(report, index);
    for (size_t i = 0, n = 0; i < stack->location_count && n < FRAMES; i++) {
        const struct memopt_location *location = memopt_location_at(report, stack->locations[i]);
        if (location->line_count == 0) {
            say(pen, "%s(", n++ > 0 ? " < " : "");
            say_address(pen, report, location);
            say(pen, ")");
        }
        for (size_t k = 0; k < location->line_count && n < FRAMES; k++) {
            const struct memopt_line *line = memopt_line_at(report, location, k);
            const struct memopt_function *function = memopt_function_at(report, line->function);
            say(pen, "%s", n++ > 0 ? " < " : "");
            say_string(pen, function->name, NULL);
            if (function->file == NULL && location->address == MEMOPT_UNKNOWN)
                continue;
            say(pen, " (");
            if (function->file != NULL)
                say_file(pen, report, function->file, line->line);
            else
                say_address(pen, report, location);
            say(pen, ")");
        }
    }
}

/* ------------------------------------------------------------------ events */

/* What helps to find the names elsewhere, of modules in which something has none. */
static void say_build_ids(struct pen *pen, const struct memopt_report *report,
                          const struct memopt_event_report *event, int indent) {
    enum { MODULES = 32 };
    uint32_t said[MODULES];
    size_t count = 0;
    for (size_t i = 0; i < event->stack_count; i++) {
        uint32_t index = memopt_event_stack_at(report, event, i)->stack;
        const struct memopt_stack *stack =
            index == MEMOPT_NONE ? NULL : memopt_stack_at(report, index);
        for (size_t k = 0; stack != NULL && k < stack->location_count; k++) {
            const struct memopt_location *location =
                memopt_location_at(report, stack->locations[k]);
            size_t at = 0;
            while (at < count && said[at] != location->module)
                at++;
            if (location->line_count > 0 || location->module == MEMOPT_NONE || at < count ||
                count == MODULES)
                continue;
            said[count++] = location->module;
            const struct memopt_module *module = memopt_module_at(report, location->module);
            if (module->build_id == NULL)
                continue;
            say(pen, "%*sbuild-id ", indent, "");
            say_string(pen, module->build_id, NULL);
            say(pen, " ");
            say_string(pen, module->path, NULL);
            say(pen, "\n");
        }
    }
}

static void say_event_stacks(struct pen *pen, const struct memopt_report *report,
                             const struct memopt_event_report *event, int indent) {
    for (size_t i = 0; i < event->stack_count; i++) {
        const struct memopt_event_stack *its = memopt_event_stack_at(report, event, i);
        if (its->by[0] != '\0') {
            say(pen, "%*s", indent, "");
            say_string(pen, its->by, NULL);
            if (its->tid != 0)
                say(pen, " thread %lld", (long long)its->tid);
            say(pen, ":\n");
        }
        const struct memopt_stack *stack =
            its->stack == MEMOPT_NONE ? NULL : memopt_stack_at(report, its->stack);
        if (stack == NULL)
            say(pen, "%*s(no stack)\n", indent + 2, "");
        for (size_t k = 0; stack != NULL && k < stack->location_count; k++) {
            say(pen, "%*s", indent + 2, "");
            say_frame(pen, report, k, memopt_location_at(report, stack->locations[k]));
            say(pen, "\n");
        }
    }
    say_build_ids(pen, report, event, indent);
}

/* `indent`: of each; what goes on goes on two further, and its stacks four. */
static void say_events(struct pen *pen, const struct memopt_report *report,
                       const struct memopt_process *process, int indent) {
    char later[16];
    snprintf(later, sizeof(later), "%*s", indent + 2, "");
    for (size_t i = 0; i < process->event_count; i++) {
        const struct memopt_event_report *event = memopt_event_at(process, i);
        write_text(pen, (size_t)indent + 2);
        color(pen, "31");
        say(pen, "%*s", indent, "");
        say_string(pen, event->kind, NULL);
        say(pen, ": ");
        color(pen, "0");
        say_string(pen, event->text, later);
        say(pen, "\n");
        write_text(pen, (size_t)indent + 8);
        say_event_stacks(pen, report, event, indent + 4);
    }
}

/* ------------------------------------------------------------------- leaks */

enum { LEAKS = 8 }; /* in a summary */

struct leak {
    const struct memopt_sample *sample;
    uint64_t bytes, blocks;
    int indirect;
    size_t index;
};

/* Direct ones first, then by bytes. */
static int compare_leaks(const void *a_, const void *b_) {
    const struct leak *a = a_, *b = b_;
    if (a->indirect != b->indirect)
        return a->indirect - b->indirect;
    if (a->bytes != b->bytes)
        return a->bytes > b->bytes ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

static uint64_t sum_of(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - 1 - b ? UINT64_MAX - 1 : a + b;
}

/* Those of one process, or with `leaks` NULL only how many. */
static size_t find_leaks(const struct memopt_report *report, size_t process, struct leak *leaks) {
    size_t count = 0;
    for (size_t i = 0; i < report->sample_count; i++) {
        const struct memopt_sample *sample = memopt_sample_at(report, i);
        uint64_t bytes = sample->process != process
                             ? MEMOPT_UNKNOWN
                             : memopt_sample_value(report, sample, "leaked_bytes");
        if (!known(bytes))
            continue;
        const char *how = memopt_sample_label(report, sample, "leak");
        if (leaks != NULL)
            leaks[count] =
                (struct leak){sample, bytes, memopt_sample_value(report, sample, "leaked_blocks"),
                              how != NULL && strcmp(how, "indirect") == 0, i};
        count++;
    }
    return count;
}

static void say_leak(struct pen *pen, const struct memopt_report *report, const struct leak *leak,
                     int indent) {
    write_text(pen, (size_t)indent + 2);
    say(pen, "%*s%s", indent, "", SIZE(leak->bytes));
    if (known(leak->blocks))
        say(pen, " in %s block%s", COUNT(leak->blocks), leak->blocks == 1 ? "" : "s");
    say(pen, "%s: ", leak->indirect ? ", reachable through another leak" : "");
    say_call_site(pen, report, leak->sample->stack);
    say(pen, "\n");
}

static void say_leaks(struct pen *pen, const struct memopt_report *report, size_t process,
                      int indent) {
    size_t count = report->sample_count == 0 ? 0 : find_leaks(report, process, NULL);
    size_t shown = pen->full || count <= LEAKS ? count : LEAKS;
    if (count == 0)
        return;
    struct leak *leaks = calloc(count, sizeof(*leaks));
    if (leaks == NULL) {
        pen->failed = pen->failed < 0 ? pen->failed : -ENOMEM;
        return;
    }
    find_leaks(report, process, leaks);
    qsort(leaks, count, sizeof(*leaks), compare_leaks);
    uint64_t bytes = 0, blocks = 0;
    for (size_t i = 0; i < count; i++) {
        bytes = sum_of(bytes, leaks[i].bytes);
        blocks = sum_of(blocks, known(leaks[i].blocks) ? leaks[i].blocks : 0);
    }
    write_text(pen, (size_t)indent + 2);
    color(pen, "31");
    say(pen, "%*sleaked: ", indent, "");
    color(pen, "0");
    say(pen, "%s in %s block%s, by %s call site%s\n", SIZE(bytes), COUNT(blocks),
        blocks == 1 ? "" : "s", COUNT(count), count == 1 ? "" : "s");
    for (size_t i = 0; i < shown; i++)
        say_leak(pen, report, &leaks[i], indent + 2);
    if (shown < count)
        say(pen, "%*sand %s more (detail = full lists all)\n", indent + 2, "",
            COUNT(count - shown));
    free(leaks);
}

static void say_threads(struct pen *pen, const struct memopt_process *process) {
    if (process->thread_count == 0)
        return;
    write_table(pen);
    say(pen, "  %-14s %15s %15s %12s %12s\n", "thread", "allocations", "frees", "live", "peak");
    for (size_t i = 0; i < process->thread_count; i++) {
        const struct memopt_thread *thread =
            (const void *)((const char *)process->threads + i * process->thread_size);
        char name[24] = "ended";
        if (thread->tid != 0)
            snprintf(name, sizeof(name), "%lld", (long long)thread->tid);
        const struct memopt_counts *counts = &thread->counts;
        say(pen, "  %-14s %15s %15s %12s %12s\n", name, COUNT(counts->allocations),
            COUNT(counts->frees), SIGNED_SIZE(counts->live_bytes),
            known(counts->peak_bytes) ? SIZE(counts->peak_bytes) : "-");
    }
}

static void say_histogram(struct pen *pen, const struct memopt_process *process) {
    uint64_t most = 0, all = 0;
    for (size_t i = 0; i < process->histogram_count; i++) {
        const struct memopt_histogram_bin *bin =
            (const void *)((const char *)process->histogram + i * process->histogram_size);
        all += bin->allocations;
        if (bin->allocations > most)
            most = bin->allocations;
    }
    if (most == 0)
        return;
    int room = pen->output->columns - 62;
    int width = room < 10 ? 10 : room > 60 ? 60 : room;
    write_table(pen);
    say(pen, "  %-21s %15s %7s %10s\n", "size", "allocations", "share", "bytes");
    for (size_t i = 0; i < process->histogram_count; i++) {
        const struct memopt_histogram_bin *bin =
            (const void *)((const char *)process->histogram + i * process->histogram_size);
        char range[64];
        if (bin->min == bin->max)
            snprintf(range, sizeof(range), "%s", SIZE(bin->min));
        else if (bin->min < 10000)
            snprintf(range, sizeof(range), "%llu .. %llu B", (unsigned long long)bin->min,
                     (unsigned long long)bin->max);
        else
            snprintf(range, sizeof(range), "%.20s .. %.20s", SIZE(bin->min), SIZE(bin->max));
        int bar = (int)((double)bin->allocations / (double)most * width + 0.5);
        say(pen, "  %-21s %15s %5.1f %% %10s", range, COUNT(bin->allocations),
            100 * (double)bin->allocations / (double)all, SIZE(bin->bytes));
        if (bar > 0)
            say(pen, " ");
        for (int b = 0; b < bar; b++)
            say(pen, "#");
        say(pen, "\n");
    }
}

static void say_rest(struct pen *pen, const struct memopt_report *report, size_t index) {
    const struct memopt_process *process = memopt_process_at(report, index);
    say_heap_line(pen, process);
    say_counts(pen, process);
    say_heaps(pen, process);
    say_events(pen, report, process, 2);
    say_leaks(pen, report, index, 2);
    if (pen->full) {
        say_threads(pen, process);
        say_histogram(pen, process);
    }
}

/* --------------------------------------------------------- other processes */

/* "at least " when only that is known; *ret_size stays unknown if not even that. */
static const char *peak_of(const struct memopt_process *process, uint64_t *ret_size) {
    *ret_size = process->peak_rss;
    if (known(*ret_size))
        return "";
    *ret_size = process->peak_rss_least;
    return "at least ";
}

static const char *peak_of_all(const struct memopt_report *report, uint64_t *ret_size) {
    *ret_size = report->peak_rss;
    if (known(*ret_size))
        return "";
    for (size_t i = 0; i < report->process_count; i++) {
        uint64_t size;
        /* it is unknown where a bound is above all sizes */
        if (*peak_of(memopt_process_at(report, i), &size) != '\0' && known(size) &&
            (!known(*ret_size) || size > *ret_size))
            *ret_size = size;
    }
    return "at least ";
}

/* Which of several processes it is, where one is known to have had just that. */
static void say_largest(struct facts *facts, const struct memopt_report *report, const char *bound,
                        uint64_t peak) {
    for (size_t i = 0; i < report->process_count; i++) {
        const struct memopt_process *process = memopt_process_at(report, i);
        uint64_t size;
        char name[40];
        peak_of(process, &size);
        if (size != peak || process->program == NULL)
            continue;
        const char *program = base_name(process->program);
        size_t shown = memopt_show(name, sizeof(name), program, 0);
        fact(facts, "%s%s in %s%s", bound, SIZE(peak), name, program[shown] == '\0' ? "" : "...");
        return;
    }
    fact(facts, "%s%s in one of its processes", bound, SIZE(peak));
}

/* Of one process, where the peak is that of the largest. */
static void say_over_time(struct pen *pen, const struct memopt_report *report,
                          const struct memopt_process *process) {
    struct facts facts = {0};
    if (known(process->rss_mean))
        fact(&facts, "%s%s", SIZE(process->rss_mean),
             process->is_main && report->process_count > 1 ? " in the first process" : "");
    if (known(process->rss_rest))
        fact(&facts, "%s at rest", SIZE(process->rss_rest));
    line(pen, "mean RSS", &facts);
}

static void say_name(struct pen *pen, const struct memopt_process *process) {
    if (process->merged > 0)
        say(pen, "%s times ", COUNT(process->merged));
    else
        say(pen, "%lld ", (long long)process->pid);
    if (process->program != NULL)
        say_string(pen, base_name(process->program), NULL);
    say(pen, ": ");
    say_end(pen, process);
}

static void say_child(struct pen *pen, const struct memopt_report *report, size_t index) {
    const struct memopt_process *process = memopt_process_at(report, index);
    uint64_t peak;
    const char *bound = peak_of(process, &peak);
    write_text(pen, 6);
    say(pen, "    ");
    say_name(pen, process);
    if (known(peak))
        say(pen, ", peak RSS %s%s", bound, SIZE(peak));
    if (process->has_counts && known(process->counts.peak_bytes))
        say(pen, ", heap peak %s, %s allocation%s", SIZE(process->counts.peak_bytes),
            COUNT(process->counts.allocations), process->counts.allocations == 1 ? "" : "s");
    say(pen, "\n");
    say_events(pen, report, process, 6);
    say_leaks(pen, report, index, 6);
}

static int has_failed(const struct pen *pen, const struct memopt_report *report, size_t index) {
    const struct memopt_process *process = memopt_process_at(report, index);
    return process->end == MEMOPT_END_SIGNAL || process->event_count > 0 ||
           (pen->has_leaks != NULL && pen->has_leaks[index]) ||
           (process->end == MEMOPT_END_EXIT && process->end_value > 0);
}

/* With memopt's part in it, it would have said so of any exit. */
static int may_have_failed(const struct pen *pen, const struct memopt_report *report,
                           size_t index) {
    const struct memopt_process *process = memopt_process_at(report, index);
    return process->end == MEMOPT_END_UNKNOWN && process->allocator != NULL &&
           !has_failed(pen, report, index);
}

/* How much a child counts in a summary: what went wrong, then what may have, then, of many,
 * what was large. */
static double weight(const struct pen *pen, const struct memopt_report *report, size_t index,
                     int are_many) {
    uint64_t peak;
    peak_of(memopt_process_at(report, index), &peak);
    double weight = known(peak) && are_many ? (double)peak : 0;
    if (may_have_failed(pen, report, index))
        weight += 1e19;
    return has_failed(pen, report, index) ? weight + 1e20 : weight;
}

static void say_all_children(struct pen *pen, const struct memopt_report *report) {
    for (size_t i = 1; i < report->process_count; i++) {
        const struct memopt_process *process = memopt_process_at(report, i);
        write_text(pen, 2);
        say(pen, "\n");
        color(pen, "1");
        say_name(pen, process);
        color(pen, "0");
        say_allocator(pen, process);
        say(pen, "\n");
        struct facts rss = {0};
        uint64_t peak;
        const char *bound = peak_of(process, &peak);
        if (known(peak))
            fact(&rss, "%s%s", bound, SIZE(peak));
        line(pen, "peak RSS", &rss);
        say_over_time(pen, report, process);
        say_rest(pen, report, i);
    }
}

/* A program that was replaced by another is no process of its own. */
static int is_child(const struct pen *pen, const struct memopt_report *report, size_t index) {
    return memopt_process_at(report, index)->end != MEMOPT_END_EXEC ||
           has_failed(pen, report, index);
}

static void say_children(struct pen *pen, const struct memopt_report *report) {
    size_t count = 0, failed = 0, unclear = 0;
    uint64_t all = 0;
    for (size_t i = 1; i < report->process_count; i++) {
        const struct memopt_process *process = memopt_process_at(report, i);
        uint64_t merged = process->merged;
        if (!is_child(pen, report, i))
            continue;
        count++;
        all += merged == 0 ? 1 : merged;
        failed += (size_t)has_failed(pen, report, i); /* of those that are merged none has */
        unclear += (size_t)may_have_failed(pen, report, i);
    }
    if (count == 0)
        return;
    write_text(pen, 4);
    say(pen, "  %s other process%s", COUNT(all), all == 1 ? "" : "es");
    if (failed > 0 && count > 1)
        say(pen, ", %s failed", COUNT(failed));
    if (unclear > 0 && count > 1)
        say(pen, ", %s that may have failed", COUNT(unclear));
    say(pen, count <= CHILDREN           ? ":\n"
             : failed > 0 || unclear > 0 ? "; those first, then the largest:\n"
                                         : ", the largest:\n");
    /* The heaviest not yet shown, again and again; of equals the first. */
    size_t shown[CHILDREN], n = 0;
    while (n < CHILDREN && n < count) {
        size_t best = 0;
        for (size_t i = 1; i < report->process_count; i++) {
            int skip = !is_child(pen, report, i);
            for (size_t s = 0; s < n; s++)
                skip |= shown[s] == i;
            if (!skip && (best == 0 || weight(pen, report, i, count > CHILDREN) >
                                           weight(pen, report, best, count > CHILDREN)))
                best = i;
        }
        shown[n++] = best;
        uint64_t merged = memopt_process_at(report, best)->merged;
        all -= merged == 0 ? 1 : merged;
        say_child(pen, report, best);
    }
    if (count > n) {
        write_text(pen, 6);
        say(pen, "    and %s more (detail = full lists all)\n", COUNT(all));
    }
}

/* -------------------------------------------------------------- the report */

/* The kernel divides the time into user and system by what each tick found: of a few ticks
 * that is no knowledge. */
static void say_cpu_time(struct facts *facts, const struct memopt_report *report) {
    enum { DIVIDED = 50000000 }; /* ns */
    uint64_t all = report->user_time + report->system_time;
    if (all < DIVIDED)
        fact(facts, "%s CPU", TIME(all));
    else
        fact(facts, "%s CPU (%s user + %s system)", TIME(all), TIME(report->user_time),
             TIME(report->system_time));
}

static void say_run(struct pen *pen, const struct memopt_report *report) {
    const struct memopt_process *main =
        report->process_count > 0 ? memopt_process_at(report, 0) : NULL;
    const char *name = report->argv != NULL && report->argv[0] != NULL ? report->argv[0]
                       : main != NULL                                  ? main->program
                                                                       : NULL;
    write_text(pen, 2);
    color(pen, "1");
    say(pen, "memopt: ");
    say_string(pen, name != NULL ? base_name(name) : report->source, NULL);
    color(pen, "0");
    if (main != NULL) {
        say(pen, ": ");
        say_end(pen, main);
        say_allocator(pen, main);
    }
    say(pen, "\n");

    struct facts time = {0}, rss = {0}, faults = {0}, switches = {0};
    if (known(report->wall_time))
        fact(&time, "%s wall", TIME(report->wall_time));
    if (known(report->user_time) && known(report->system_time))
        say_cpu_time(&time, report);
    line(pen, "time", &time);
    uint64_t peak;
    const char *bound = peak_of_all(report, &peak);
    if (known(peak) && report->process_count > 1)
        say_largest(&rss, report, bound, peak);
    else if (known(peak))
        fact(&rss, "%s%s", bound, SIZE(peak));
    line(pen, "peak RSS", &rss);
    if (main != NULL)
        say_over_time(pen, report, main);
    if (pen->full) {
        if (known(report->minor_faults))
            fact(&faults, "%s minor", COUNT(report->minor_faults));
        if (known(report->major_faults))
            fact(&faults, "%s major", COUNT(report->major_faults));
        line(pen, "page faults", &faults);
        if (known(report->voluntary_switches))
            fact(&switches, "%s voluntary", COUNT(report->voluntary_switches));
        if (known(report->involuntary_switches))
            fact(&switches, "%s involuntary", COUNT(report->involuntary_switches));
        line(pen, "switches", &switches);
    }
    if (main != NULL)
        say_rest(pen, report, 0);
    if (pen->full)
        say_all_children(pen, report);
    else
        say_children(pen, report);
}

/* A thousand processes that have the same to say: then it is said once. */
struct said {
    const struct memopt_note *note;
    size_t index, count; /* as the report has them; 0: said with another one */
};

static int compare_said(const void *a_, const void *b_) {
    const struct said *a = a_, *b = b_;
    int order = a->note->level - b->note->level;
    if (order == 0)
        order = strcmp(a->note->text, b->note->text);
    return order != 0 ? order : a->index < b->index ? -1 : a->index > b->index;
}

static int compare_index(const void *a, const void *b) {
    return ((const struct said *)a)->index < ((const struct said *)b)->index ? -1 : 1;
}

/* In the order of the report; equal ones are counted at the first. */
static void count_equal(struct said *said, size_t count) {
    qsort(said, count, sizeof(*said), compare_said);
    for (size_t i = 0, first = 0; i < count; i++) {
        if (said[i].note->level != said[first].note->level ||
            strcmp(said[i].note->text, said[first].note->text) != 0)
            first = i;
        said[i].count = 0;
        said[first].count++;
    }
    qsort(said, count, sizeof(*said), compare_index);
}

static int say_notes(struct pen *pen, const struct memopt_report *report) {
    static const char *const words[] = {"note", "note", "warning", "error"};
    static const char *const colors[] = {"0", "0", "33", "31"};
    if (report->note_count == 0)
        return 0;
    struct said *said = calloc(report->note_count, sizeof(*said));
    if (said == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < report->note_count; i++)
        said[i] = (struct said){
            .note = (const void *)((const char *)report->notes + i * report->note_size),
            .index = i,
        };
    count_equal(said, report->note_count);
    for (size_t i = 0; i < report->note_count; i++) {
        const struct memopt_note *note = said[i].note;
        int level = note->level < 0 || note->level > MEMOPT_NOTE_ERROR ? 0 : note->level;
        if (said[i].count == 0)
            continue;
        write_text(pen, 4);
        color(pen, colors[level]);
        say(pen, "  %s: ", words[level]);
        color(pen, "0");
        if (said[i].count > 1)
            say(pen, "%s times: ", COUNT(said[i].count));
        else if (note->pid != 0 && report->process_count > 1)
            say(pen, "process %lld: ", (long long)note->pid);
        say_string(pen, note->text, "    ");
        say(pen, "\n");
    }
    free(said);
    return 0;
}

static int find_leaking(struct pen *pen, const struct memopt_report *report) {
    if (report->sample_count == 0)
        return 0;
    pen->has_leaks = calloc(report->process_count + 1, 1);
    for (size_t i = 0; i < report->sample_count && pen->has_leaks != NULL; i++) {
        const struct memopt_sample *sample = memopt_sample_at(report, i);
        if (sample->process < report->process_count &&
            known(memopt_sample_value(report, sample, "leaked_bytes")))
            pen->has_leaks[sample->process] = 1;
    }
    return pen->has_leaks == NULL ? -ENOMEM : 0;
}

static int text_write(const struct memopt_host *host, const void *settings_,
                      const struct memopt_report *report, struct memopt_output *output,
                      struct memopt_error *error) {
    const struct settings *settings = settings_;
    struct pen pen = {
        .output = output,
        .color = settings->color == YES || (settings->color == AUTO && output->is_terminal),
        .full = settings->detail == FULL,
    };
    int r = find_leaking(&pen, report);
    if (r == 0)
        say_run(&pen, report);
    if (r == 0)
        r = say_notes(&pen, report);
    free(pen.has_leaks);
    if (pen.failed == 0)
        pen.failed = r;
    return pen.failed == 0 ? 0 : host->fail(error, pen.failed, "%s", strerror(-pen.failed));
}

static const char *const details[] = {"summary", "full", NULL};
static const char *const colors[] = {"auto", "yes", "no", NULL};

static const struct memopt_option options[] = {
    MEMOPT_OPT_ENUM(struct settings, detail, "detail", "summary", details,
                    "a few lines, or everything: threads, sizes, all processes"),
    MEMOPT_OPT_ENUM(struct settings, color, "color", "auto", colors,
                    "colours: on a terminal without NO_COLOR in the environment, always, never"),
    MEMOPT_OPT_END,
};

static const struct memopt_reporter_ops ops = {
    .size = sizeof(ops),
    .default_output = "stderr",
    .write = text_write,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_REPORTER),
    .name = "text",
    .version = PACKAGE_VERSION,
    .summary = "a summary for people, or with detail = full everything",
    .options = options,
    .settings_size = sizeof(struct settings),
    .ops = &ops,
};
