/* test_report_json.c - the reporter 'json': golden reports, each key documented
 * in memopt-report(5) and the other way round, strings of any bytes, numbers
 * that JSON lacks, no memory, a full output. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>

#include "tests/report_faults.h"
#include "tests/report_sample.h"

static struct sink sink;
static struct memopt_report report;

struct settings { /* as plugins/report/json.c has it */
    int64_t indent;
};

static const char *render(const struct memopt_report *what, int indent) {
    struct settings settings = {indent};
    const struct memopt_reporter_ops *ops = memopt_plugin.ops;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    assert_int_equal(memopt_plugin.settings_size, sizeof(settings));
    sink_reset(&sink);
    assert_int_equal(ops->write(&mo_host, &settings, what, &sink.public, &error), 0);
    return sink.text;
}

static json_t *parse(const char *text) {
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        fail_msg("%s in '%.100s'", error.text, text);
    return root;
}

static void test_golden(void **state) {
    (void)state;
    static const struct {
        const char *name;
        struct memopt_report *(*make)(struct memopt_report *report);
        int indent;
    } rows[] = {
        {"report-full.json", sample_full, 2},
        {"report-unknown.json", sample_unknown, 2},
        {"report-compact.json", sample_unknown, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *differs =
            golden_differs(rows[i].name, render(rows[i].make(&report), rows[i].indent));
        if (differs != NULL)
            fail_msg("%s", differs);
        json_decref(parse(sink.text));
    }
}

/* ----------------------------------------------------- the manual has it all */

enum { KEYS = 512 };
struct keys {
    char names[KEYS][64]; /* "A process/pid" */
    size_t count;
};

static int has_key(const struct keys *keys, const char *name) {
    for (size_t i = 0; i < keys->count; i++)
        if (strcmp(keys->names[i], name) == 0)
            return 1;
    return 0;
}

static void add_key(struct keys *keys, const char *section, const char *key) {
    char name[64];
    snprintf(name, sizeof(name), "%s/%s", section, key);
    assert_true(keys->count < KEYS);
    if (!has_key(keys, name))
        strcpy(keys->names[keys->count++], name);
}

/* The manual's section about what stands under a key. */
static const char *section_of(const char *key) {
    static const char *const sections[][2] = {
        {"processes", "A process"}, {"counts", "Counts"},
        {"threads", "A thread"},    {"histogram", "A size class"},
        {"heaps", "A heap"},        {"events", "An event"},
        {"notes", "A note"},        {"stacks", "A stack"},
        {"frames", "A frame"},      {"value_types", "A value type"},
        {"samples", "A sample"},    {"values", "Values"},
        {"labels", "Labels"},
    };
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++)
        if (strcmp(sections[i][0], key) == 0)
            return sections[i][1];
    return NULL;
}

static void keys_written(struct keys *keys, json_t *object, const char *section) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        add_key(keys, section, key);
        if (json_is_object(value))
            keys_written(keys, value, section_of(key));
        for (size_t i = 0; i < json_array_size(value); i++)
            if (json_is_object(json_array_get(value, i)))
                keys_written(keys, json_array_get(value, i), section_of(key));
    }
}

static void keys_documented(struct keys *keys) {
    char path[1024], line[1024], section[64] = "";
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof(path), "%s/man/memopt-report.5", top != NULL ? top : ".");
    FILE *page = fopen(path, "r");
    assert_non_null(page);
    while (fgets(line, sizeof(line), page) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, ".Ss ", 4) == 0)
            snprintf(section, sizeof(section), "%.60s", line + 4);
        else if (strncmp(line, ".It Va ", 7) == 0)
            add_key(keys, section, line + 7);
    }
    fclose(page);
}

static void test_manual(void **state) {
    (void)state;
    static struct keys written, documented;
    json_t *root = parse(render(sample_full(&report), 2));
    keys_written(&written, root, "The report");
    json_decref(root);
    keys_documented(&documented);
    assert_true(written.count > 60);
    for (size_t i = 0; i < written.count; i++)
        if (!has_key(&documented, written.names[i]))
            fail_msg("memopt-report(5) does not have '%s'", written.names[i]);
    for (size_t i = 0; i < documented.count; i++)
        if (!has_key(&written, documented.names[i]))
            fail_msg("memopt-report(5) has '%s', which is never written", documented.names[i]);
}

/* -------------------------------------------------------- strings, numbers */

static void test_strings(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"plain", "plain"},
        {"", ""},
        {"quote \" slash \\ \n\t\033\x7f", "quote \" slash \\ \n\t\033\x7f"},
        {"caf\xc3\xa9 \xf0\x9f\x98\x80", "caf\xc3\xa9 \xf0\x9f\x98\x80"},
        {"a\xff"
         "b",
         "a\xef\xbf\xbd"
         "b"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"cut \xe2\x82", "cut \xef\xbf\xbd\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        sample_unknown(&report);
        sample_processes[0].command = rows[i].in;
        json_t *root = parse(render(&report, 0));
        json_t *process = json_array_get(json_object_get(root, "processes"), 0);
        assert_string_equal(json_string_value(json_object_get(process, "command")), rows[i].out);
        json_decref(root);
    }
}

static void test_numbers(void **state) {
    (void)state;
    static const struct {
        uint64_t in;
        int is_null;
    } integers[] = {{0, 0}, {INT64_MAX, 0}, {(uint64_t)INT64_MAX + 1, 1}, {MEMOPT_UNKNOWN, 1}};
    static const double odd[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++) {
        sample_unknown(&report)->peak_rss = integers[i].in;
        json_t *root = parse(render(&report, 0)), *value = json_object_get(root, "peak_rss");
        assert_int_equal(json_is_null(value), integers[i].is_null);
        if (!integers[i].is_null)
            assert_int_equal(json_integer_value(value), integers[i].in);
        json_decref(root);
    }
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        sample_unknown(&report);
        sample_processes[0].fragmentation = odd[i];
        assert_non_null(strstr(render(&report, 0), "\"fragmentation\": null"));
    }
    /* Live counts may be negative, and the extremes are kept. */
    sample_unknown(&report);
    sample_processes[0].has_counts = 1;
    sample_processes[0].counts.live_bytes = INT64_MIN;
    assert_non_null(strstr(render(&report, 0), "\"live_bytes\": -9223372036854775808"));
}

/* ---------------------------------------------------------------- failures */

static void *json_malloc_or_not(size_t size) {
    return fault_hits() ? NULL : __real_malloc(size);
}

static void test_out_of_memory(void **state) {
    (void)state;
    struct settings settings = {2};
    const struct memopt_reporter_ops *ops = memopt_plugin.ops;
    char *whole = strdup(render(sample_full(&report), 2));
    json_set_alloc_funcs(json_malloc_or_not, free);
    for (int for_good = 0; for_good < 2; for_good++) {
        for (long nth = 1;; nth++) {
            struct memopt_error error = MEMOPT_ERROR_INIT;
            sink_reset(&sink);
            fault_arm(nth, for_good);
            int r = ops->write(&mo_host, &settings, &report, &sink.public, &error);
            long fired = fault.fired;
            fault_arm(0, 0);
            if (fired == 0) {
                assert_int_equal(r, 0);
                assert_string_equal(sink.text, whole);
                assert_true(nth > 100);
                break;
            }
            assert_int_equal(r, -ENOMEM);
            assert_string_equal(error.message, "Cannot allocate memory");
        }
    }
    json_set_alloc_funcs(malloc, free);
    free(whole);
}

static void test_full_output(void **state) {
    (void)state;
    struct settings settings = {2};
    const struct memopt_reporter_ops *ops = memopt_plugin.ops;
    size_t whole = strlen(render(sample_full(&report), 2));
    for (size_t limit = 0; limit < whole; limit++) {
        struct memopt_error error = MEMOPT_ERROR_INIT;
        sink_reset(&sink)->limit = limit;
        assert_int_equal(ops->write(&mo_host, &settings, &report, &sink.public, &error), -ENOSPC);
        assert_string_equal(error.message, "No space left on device");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),        cmocka_unit_test(test_manual),
        cmocka_unit_test(test_strings),       cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_full_output),
    };
    return cmocka_run_group_tests_name("reporter json", tests, NULL, NULL);
}
