/* test_report_text.c - the reporter 'text': golden summaries, sizes and times in
 * words, what is unknown, what must be escaped, many children, a full output. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/report_sample.h"

static struct sink sink;
static struct memopt_report report;

struct settings { /* as plugins/report/text.c has it */
    int detail, color;
};

static const char *render(const struct memopt_report *what, int detail, int color) {
    struct settings settings = {detail, color};
    const struct memopt_reporter_ops *ops = memopt_plugin.ops;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    assert_int_equal(memopt_plugin.settings_size, sizeof(settings));
    assert_int_equal(ops->write(&mo_host, &settings, what, &sink.public, &error), 0);
    return sink.text;
}

static void check_golden(const char *name) {
    const char *differs = golden_differs(name, sink.text);
    if (differs != NULL)
        fail_msg("%s", differs);
}

static void test_summary(void **state) {
    (void)state;
    sink_reset(&sink);
    render(sample_full(&report), 0, 2);
    check_golden("report-summary.txt");
}

static void test_full(void **state) {
    (void)state;
    sink_reset(&sink);
    render(sample_full(&report), 1, 2);
    check_golden("report-full.txt");
}

static void test_color(void **state) {
    (void)state;
    sink_reset(&sink);
    render(sample_full(&report), 0, 1);
    check_golden("report-color.txt");

    /* auto: as the output is a terminal or not */
    sink_reset(&sink);
    assert_null(strchr(render(&report, 0, 0), '\033'));
    sink_reset(&sink);
    sink.public.is_terminal = 1;
    assert_non_null(strchr(render(&report, 0, 0), '\033'));
}

/* What is unknown is not there, not even as a word. */
static void test_unknown(void **state) {
    (void)state;
    for (int detail = 0; detail < 2; detail++) {
        sink_reset(&sink);
        assert_string_equal(render(sample_unknown(&report), detail, 2),
                            "memopt: run: ended without saying how\n");
    }
    report.process_count = 0;
    sink_reset(&sink);
    assert_string_equal(render(&report, 1, 2), "memopt: run\n");
}

static void test_sizes(void **state) {
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *word;
    } rows[] = {
        {0, "0 B"},
        {1, "1 B"},
        {1023, "1023 B"},
        {1024, "1.00 KiB"},
        {1034, "1.01 KiB"},
        {10 * 1024, "10.0 KiB"},
        {10234, "9.99 KiB"},
        {10236, "10.0 KiB"},
        {102348, "99.9 KiB"},
        {102399, "100 KiB"},
        {1022 * 1024, "0.998 MiB"},
        {1024 * 1024 - 1, "1.00 MiB"},
        {999 * 1024, "999 KiB"},
        {1536u << 20, "1.50 GiB"},
        {(uint64_t)5 << 40, "5.00 TiB"},
        {(uint64_t)6 << 50, "6.00 PiB"},
        {UINT64_MAX - 1, "16.0 EiB"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char line[64];
        sample_unknown(&report)->peak_rss = rows[i].bytes;
        snprintf(line, sizeof(line), "  peak RSS      %s\n", rows[i].word);
        sink_reset(&sink);
        if (strstr(render(&report, 0, 2), line) == NULL)
            fail_msg("%llu is not '%s' in '%s'", (unsigned long long)rows[i].bytes, rows[i].word,
                     sink.text);
    }
}

/* What is only a lower bound says so. */
static void test_least_peak(void **state) {
    (void)state;
    static struct memopt_process processes[2];
    sample_unknown(&report);
    for (size_t i = 0; i < 2; i++) {
        mo_process_init(&processes[i]);
        processes[i].peak_rss_least = (i + 1) << 20;
    }
    report.processes = processes;
    report.process_count = 2;
    static const char *const texts[] = {
        "  peak RSS      at least 2.00 MiB in one of its processes\n",
        ": ended without saying how, peak RSS at least 2.00 MiB\n"};
    for (size_t i = 0; i < 2; i++) {
        sink_reset(&sink);
        assert_non_null(strstr(render(&report, 0, 2), texts[i]));
    }
    processes[1].program = "/bin/\033[2J"; /* whose it is, if that is known */
    sink_reset(&sink);
    assert_non_null(strstr(render(&report, 0, 2), " at least 2.00 MiB in \\x1b[2J\n"));
    report.peak_rss = 5 << 20;
    processes[1].peak_rss = 3 << 20;
    sink_reset(&sink);
    assert_null(strstr(render(&report, 1, 2), "at least"));
}

static void test_times(void **state) {
    (void)state;
    static const struct {
        uint64_t nanoseconds;
        const char *word;
    } rows[] = {
        {0, "0 us"},
        {1500, "1.5 us"},
        {999600, "1 ms"},
        {12345678, "12.3 ms"},
        {999600000, "1.00 s"},
        {1234567890, "1.23 s"},
        {12345678900, "12.3 s"},
        {59960000000, "1 min 00 s"},
        {119600000000, "2 min 00 s"},
        {125000000000, "2 min 05 s"},
        {3599600000000, "1 h 00 min"},
        {5400000000000, "1 h 30 min"},
        {7199000000000, "2 h 00 min"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char line[64];
        sample_unknown(&report)->wall_time = rows[i].nanoseconds;
        snprintf(line, sizeof(line), "  time          %s wall\n", rows[i].word);
        sink_reset(&sink);
        if (strstr(render(&report, 0, 2), line) == NULL)
            fail_msg("%llu is not '%s' in '%s'", (unsigned long long)rows[i].nanoseconds,
                     rows[i].word, sink.text);
    }
}

/* How CPU time divides is not known of a few ticks. */
static void test_cpu_time(void **state) {
    (void)state;
    static const struct {
        uint64_t user, system;
        const char *line;
    } rows[] = {
        {0, 0, "  time          0 us CPU\n"},
        {2000, 4450000, "  time          4.45 ms CPU\n"},
        {49999999, 0, "  time          50 ms CPU\n"},
        {30000000, 20000000, "  time          50 ms CPU (30 ms user + 20 ms system)\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        sample_unknown(&report)->user_time = rows[i].user;
        report.system_time = rows[i].system;
        sink_reset(&sink);
        if (strstr(render(&report, 0, 2), rows[i].line) == NULL)
            fail_msg("row %zu: '%s'", i, sink.text);
    }
}

/* Nothing of a program's strings reaches the terminal but what can be seen. */
static void test_escapes(void **state) {
    (void)state;
    static const struct {
        const char *name, *shown;
    } rows[] = {
        {"plain", "plain"},
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\033[2J", "\\x1b[2J"},
        {"a\nb\r\t\x7f", "a\\x0ab\\x0d\\x09\\x7f"},
        {"\xc2\x9b", "\\xc2\\x9b"},                   /* a C1 control: CSI */
        {"\xff\xfe", "\\xff\\xfe"},                   /* no UTF-8 */
        {"\xc0\xaf", "\\xc0\\xaf"},                   /* overlong */
        {"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},          /* overlong */
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* a surrogate */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* above U+10FFFF */
        {"\xe2\x82", "\\xe2\\x82"},                   /* cut */
        {"a\xe2\x80\xae", "a\\xe2\\x80\\xae"},        /* right-to-left override */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char line[128];
        sample_unknown(&report);
        sample_processes[0].program = rows[i].name;
        snprintf(line, sizeof(line), "memopt: %s: ended", rows[i].shown);
        sink_reset(&sink);
        if (strncmp(render(&report, 0, 2), line, strlen(line)) != 0)
            fail_msg("row %zu: '%s'", i, sink.text);
    }
    /* Long ones are whole. */
    static char long_name[3000];
    memset(long_name, 'x', sizeof(long_name) - 1);
    sample_processes[0].program = long_name;
    sink_reset(&sink);
    assert_non_null(strstr(render(&report, 0, 2), long_name));
}

/* No string that a ledger can hold gets to the terminal as it is. */
static void test_every_string_escaped(void **state) {
    (void)state;
    static const char bad[] = "\033]0;x\a\xe2\x80\xae";
    static const struct memopt_heap_report heaps[] = {{.name = bad, .allocator = bad}};
    static const struct memopt_module modules[] = {{bad, bad}};
    static const struct memopt_function functions[] = {{bad, bad, bad}, {bad, NULL, NULL}};
    static const struct memopt_line lines[] = {{0, 1}, {1, 0}};
    static const struct memopt_location locations[] = {
        {0, 1, lines, 1}, {0, 2, lines + 1, 1}, {0, 3, NULL, 0}};
    static const uint32_t places[] = {0, 1, 2};
    static const struct memopt_stack stacks[] = {{places, 3}};
    static const struct memopt_event_stack event_stacks[] = {{bad, bad, 1, 0}};
    static const struct memopt_event_report events[] = {
        {.kind = bad, .text = bad, .stacks = event_stacks, .stack_count = 1}};
    static const struct memopt_value_type types[] = {{"leaked_bytes", bad}};
    static const uint64_t values[] = {1};
    static const struct memopt_label labels[] = {{bad, bad}};
    static const struct memopt_sample samples[] = {{0, 0, 0, 1, values, labels, 1}};
    static const struct memopt_note notes[] = {{.level = MEMOPT_NOTE_WARNING, .text = bad}};
    static char *argv[] = {(char *)bad, NULL};
    struct memopt_process *main = sample_processes;
    sample_unknown(&report);
    main->program = main->command = main->allocator = main->allocator_version = bad;
    main->binding = bad;
    main->heaps = heaps;
    main->events = events;
    main->heap_count = main->event_count = 1;
    report.modules = modules;
    report.module_size = sizeof(modules[0]);
    report.functions = functions;
    report.function_size = sizeof(functions[0]);
    report.locations = locations;
    report.location_size = sizeof(locations[0]);
    report.line_size = sizeof(lines[0]);
    report.stacks = stacks;
    report.stack_size = sizeof(stacks[0]);
    report.event_stack_size = sizeof(event_stacks[0]);
    report.value_types = types;
    report.value_type_size = sizeof(types[0]);
    report.samples = samples;
    report.sample_size = sizeof(samples[0]);
    report.sample_count = 1;
    report.label_size = sizeof(labels[0]);
    sample_processes[1] = *main;
    report.process_count = 2;
    report.argv = argv;
    report.notes = notes;
    report.note_count = 1;
    for (int full = 0; full <= 1; full++) {
        sink_reset(&sink);
        const char *text = render(&report, full, 2);
        if (strpbrk(text, "\033\a") != NULL || strstr(text, "\xe2\x80\xae") != NULL)
            fail_msg("'%s'", text);
        assert_non_null(strstr(text, "warning: \\x1b]0;x\\x07\\xe2\\x80\\xae\n"));
    }
}

/* Leaks: direct ones first, then by size; all only in full. */
static void test_leaks(void **state) {
    (void)state;
    enum { MANY = 20 };
    static struct memopt_sample samples[MANY];
    static uint64_t values[MANY][2];
    sample_full(&report);
    report.process_count = 1;
    for (uint32_t i = 0; i < MANY; i++) {
        values[i][0] = i;
        values[i][1] = 100 + i;
        samples[i] = (struct memopt_sample){0, 2, 0, 2, values[i], &sample_labels[i % 2], 1};
    }
    report.samples = samples;
    report.sample_count = MANY;
    for (int full = 0; full <= 1; full++) {
        sink_reset(&sink);
        const char *text = strstr(render(&report, full, 2), "  leaked: 2.14 KiB in 190 blocks, by "
                                                            "20 call sites\n"),
                   *more = strstr(sink.text, "    and 12 more (detail = full lists all)\n"),
                   *line = text;
        assert_non_null(text);
        assert_true((more == NULL) == full);
        for (unsigned n = 0; n < (full ? MANY : 8); n++) {
            char expected[128];
            unsigned i = n < 10 ? 18 - 2 * n : 39 - 2 * n;
            snprintf(expected, sizeof(expected),
                     "    %u B in %u block%s%s: make "
                     "(/usr/src/\\x1bmake.c:7)\n",
                     100 + i, i, i == 1 ? "" : "s",
                     i % 2 == 1 ? ", reachable through another leak" : "");
            line = strchr(line, '\n') + 1;
            if (strncmp(line, expected, strlen(expected)) != 0)
                fail_msg("leak %u: not '%s' but '%.200s'", n, expected, line);
        }
    }
    /* sums that would overflow, and counts that are not known */
    for (uint32_t i = 0; i < MANY; i++)
        values[i][0] = values[i][1] = UINT64_MAX - 1 - i % 2;
    sink_reset(&sink);
    assert_non_null(strstr(render(&report, 0, 2), "  leaked: 16.0 EiB in "));
}

/* What many processes have to say is said once, where the first of them said it. */
static void test_equal_notes(void **state) {
    (void)state;
    static const struct memopt_note notes[] = {
        {.level = MEMOPT_NOTE_WARNING, .pid = 1, .text = "no room"},
        {.level = MEMOPT_NOTE_INFO, .pid = 1, .text = "alone"},
        {.level = MEMOPT_NOTE_WARNING, .pid = 2, .text = "no room"},
        {.level = MEMOPT_NOTE_ERROR, .pid = 2, .text = "no room"},
        {.level = MEMOPT_NOTE_WARNING, .pid = 3, .text = "no room"},
    };
    sample_unknown(&report);
    mo_process_init(&sample_processes[1]);
    report.process_count = 2;
    report.notes = notes;
    report.note_count = sizeof(notes) / sizeof(notes[0]);
    sink_reset(&sink);
    const char *said = strstr(render(&report, 0, 2), "  warning:");
    assert_non_null(said);
    assert_string_equal(said, "  warning: 3 times: no room\n"
                              "  note: process 1: alone\n"
                              "  error: process 2: no room\n");
}

/* Eight children at most: those that crashed, then the largest. */
static void test_many_children(void **state) {
    (void)state;
    static struct memopt_process processes[201];
    sample_unknown(&report);
    for (int i = 0; i < 201; i++) {
        mo_process_init(&processes[i]);
        processes[i].pid = 1000 + i;
        processes[i].program = "/bin/x";
        processes[i].end = MEMOPT_END_EXIT;
        processes[i].peak_rss = (uint64_t)(i * 37 % 200 + 1) << 20;
    }
    processes[150].end = MEMOPT_END_SIGNAL;
    processes[150].end_value = 6;
    processes[150].peak_rss = MEMOPT_UNKNOWN;
    report.processes = processes;
    report.process_count = 201;
    sink_reset(&sink);
    render(&report, 0, 2);
    check_golden("report-children.txt");

    report.process_count = 4; /* few: all, in their order */
    sink_reset(&sink);
    const char *first = strstr(render(&report, 0, 2), "1001 x"),
               *last = strstr(sink.text, "1003 x");
    assert_true(first != NULL && last != NULL && first < last);
    assert_null(strstr(sink.text, "more"));
}

/* A child on memopt's malloc of which no end is known may have been killed. */
static void test_unknown_ends(void **state) {
    (void)state;
    static struct memopt_process processes[5];
    static const struct {
        int killed, lost, outside;
        const char *heading;
    } rows[] = {
        {0, 0, 4, "  4 other processes:\n"},
        {0, 1, 3, "  4 other processes, 1 that may have failed:\n"},
        {0, 3, 0, "  4 other processes, 3 that may have failed:\n"},
        {1, 2, 1, "  4 other processes, 1 failed, 2 that may have failed:\n"},
    };
    for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
        sample_unknown(&report);
        for (int i = 0; i < 5; i++) {
            mo_process_init(&processes[i]);
            processes[i].pid = 1000 + i;
            processes[i].program = "/bin/x";
            processes[i].allocator = "pool";
            processes[i].end = MEMOPT_END_EXIT;
        }
        for (int i = 0; i < rows[row].killed; i++) {
            processes[4 - i].end = MEMOPT_END_SIGNAL;
            processes[4 - i].end_value = 9;
        }
        for (int i = 0; i < rows[row].lost; i++)
            processes[4 - rows[row].killed - i].end = MEMOPT_END_UNKNOWN;
        for (int i = 0; i < rows[row].outside; i++) { /* memopt is not in it: never known */
            processes[1 + i].end = MEMOPT_END_UNKNOWN;
            processes[1 + i].allocator = NULL;
        }
        report.processes = processes;
        report.process_count = 5;
        sink_reset(&sink);
        if (strstr(render(&report, 0, 2), rows[row].heading) == NULL)
            fail_msg("row %zu: '%s'", row, sink.text);
        /* the worst first */
        const char *lost = strstr(sink.text, ": killed, or"), *well = strstr(sink.text, "1001 x");
        assert_true(rows[row].lost == 0 || (lost != NULL && lost < well));
    }
}

/* Wherever the output is full, the error comes back. */
static void test_full_output(void **state) {
    (void)state;
    struct settings settings = {1, 1};
    const struct memopt_reporter_ops *ops = memopt_plugin.ops;
    sink_reset(&sink);
    render(sample_full(&report), 1, 1);
    size_t whole = sink.used;
    for (size_t limit = 0; limit < whole; limit++) {
        struct memopt_error error = MEMOPT_ERROR_INIT;
        sink_reset(&sink)->limit = limit;
        assert_int_equal(ops->write(&mo_host, &settings, &report, &sink.public, &error), -ENOSPC);
        assert_string_equal(error.message, "No space left on device");
    }
}

/* Elements of a newer memopt are larger: stepped over by their stated size. */
static void test_larger_elements(void **state) {
    (void)state;
    static struct {
        struct memopt_process process;
        char more[24];
    } processes[3];
    sink_reset(&sink);
    render(sample_full(&report), 1, 2);
    for (size_t i = 0; i < 3; i++) {
        processes[i].process = sample_processes[i];
        memset(processes[i].more, 0xee, sizeof(processes[i].more));
    }
    report.processes = &processes[0].process;
    report.process_size = sizeof(processes[0]);
    sink_reset(&sink);
    render(&report, 1, 2);
    check_golden("report-full.txt");
}

/* On a terminal of whatever width no line is longer than it, but for a word that is itself;
 * and what matters comes first. */
static void test_widths(void **state) {
    (void)state;
    static const char *const order[] = {
        "killed by",     "wall",        "peak RSS",      "mean RSS", "heap ",
        "fragmentation", "allocations", "other process", "note:",    "error:"};
    for (int columns = 20; columns <= 120; columns += 20)
        for (int color = 1; color <= 2; color++) {
            sink_reset(&sink);
            sample_full(&report);
            sink.public.columns = columns;
            sink.public.is_terminal = 1;
            render(&report, 0, color);
            const char *at = sink.text;
            for (size_t i = 0; i < sizeof(order) / sizeof(order[0]) && columns >= 40; i++) {
                at = strstr(at, order[i]);
                if (at == NULL)
                    fail_msg("%d columns: no '%s' in its place", columns, order[i]);
            }
            for (const char *line = sink.text; *line != '\0'; line = strchr(line, '\n') + 1) {
                int width = 0, words = 0;
                for (const char *c = line; *c != '\n'; c++) {
                    if (*c == '\033')
                        c = strchr(c, 'm');
                    else
                        width += (*c & 0xc0) != 0x80;
                    words += *c == ' ' && c[1] != ' ' && c > line && c[-1] != ' ';
                }
                if (width > columns && words > 0)
                    fail_msg("%d columns, but %d in '%.*s'", columns, width,
                             (int)strcspn(line, "\n"), line);
            }
        }
    /* elsewhere what is to be searched for is in one line */
    sink_reset(&sink);
    sink.public.columns = 40;
    assert_non_null(
        strstr(render(&report, 0, 2), "killed by SIGSEGV, on jemalloc 5.3.0 (dispatch)"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_color),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_cpu_time),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_many_children),
        cmocka_unit_test(test_unknown_ends),
        cmocka_unit_test(test_every_string_escaped),
        cmocka_unit_test(test_equal_notes),
        cmocka_unit_test(test_leaks),
        cmocka_unit_test(test_full_output),
        cmocka_unit_test(test_larger_elements),
        cmocka_unit_test(test_least_peak),
        cmocka_unit_test(test_widths),
    };
    return cmocka_run_group_tests_name("reporter text", tests, NULL, NULL);
}
