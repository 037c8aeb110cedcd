/* test_build.c - the code and samples of a report: core/model/build.h. Equal things are there
 * once, tables have an end, and a failed allocation leaves all as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/model/build.h"
#include "core/model/model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/report_faults.h"

static struct memopt_report *report;

static int set_up(void **state) {
    (void)state;
    return mo_report_new(&report, NULL);
}

static int tear_down(void **state) {
    (void)state;
    mo_report_free(report);
    return 0;
}

static uint32_t module(const char *path, const char *build_id) {
    uint32_t index;
    assert_int_equal(mo_build_module(report, path, build_id, &index), 0);
    return index;
}

static uint32_t function(const char *name, const char *system_name, const char *file) {
    uint32_t index;
    assert_int_equal(mo_build_function(report, name, system_name, file, &index), 0);
    return index;
}

static uint32_t location(uint32_t in, uint64_t address, const struct memopt_line *lines,
                         size_t count) {
    uint32_t index;
    assert_int_equal(
        mo_build_location(report, &(struct memopt_location){in, address, lines, count}, &index), 0);
    return index;
}

static void test_once(void **state) {
    (void)state;
    char path[] = "/a";
    assert_int_equal(module(path, NULL), 0);
    path[1] = 'b'; /* a copy is kept */
    assert_int_equal(module("/a", NULL), 0);
    assert_int_equal(module("/a", "00"), 1);
    assert_int_equal(module(path, "00"), 2);
    assert_int_equal(module("/a", "00"), 1);
    assert_int_equal(report->module_count, 3);

    assert_int_equal(function("f", NULL, NULL), 0);
    assert_int_equal(function("f", NULL, "f.c"), 1);
    assert_int_equal(function("f", "_f", "f.c"), 2);
    assert_int_equal(function("f", NULL, "f.c"), 1);
    assert_ptr_equal(report->functions[0].name, report->functions[2].name);

    const struct memopt_line lines[] = {{0, 7}, {1, 8}};
    assert_int_equal(location(0, 16, NULL, 0), 0);
    assert_int_equal(location(1, 16, NULL, 0), 1);
    assert_int_equal(location(0, 17, NULL, 0), 2);
    assert_int_equal(location(0, 16, lines, 2), 0); /* it has names now */
    assert_int_equal(report->locations[0].line_count, 2);
    assert_int_equal(report->locations[0].lines[1].line, 8);
    assert_int_equal(location(0, 16, NULL, 0), 0); /* and keeps them */
    assert_int_equal(report->locations[0].line_count, 2);
    /* without an address the lines are what it is */
    assert_int_equal(location(MEMOPT_NONE, MEMOPT_UNKNOWN, lines, 1), 3);
    assert_int_equal(location(MEMOPT_NONE, MEMOPT_UNKNOWN, lines, 2), 4);
    assert_int_equal(location(MEMOPT_NONE, MEMOPT_UNKNOWN, lines + 1, 1), 5);
    assert_int_equal(location(MEMOPT_NONE, MEMOPT_UNKNOWN, lines, 1), 3);

    static const uint32_t places[] = {0, 1, 2, 0, 1};
    uint32_t stack;
    static const struct {
        size_t first, count;
        uint32_t stack;
    } rows[] = {{0, 2, 0}, {0, 3, 1}, {3, 2, 0}, {1, 2, 2}, {0, 3, 1}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(mo_build_stack(report, places + rows[i].first, rows[i].count, &stack), 0);
        assert_int_equal(stack, rows[i].stack);
    }
    assert_int_equal(report->stack_count, 3);
}

static void test_value_types(void **state) {
    (void)state;
    static const struct memopt_value_type types[] = {
        {"a", "bytes"}, {"b", "count"}, {"c", "count"}};
    static const uint64_t values[] = {5, 6};
    static const struct memopt_label label = {"how", "so"};
    uint32_t first;
    assert_int_equal(mo_build_value_types(report, types, 2, &first), 0);
    assert_int_equal(first, 0);
    assert_int_equal(mo_build_value_types(report, types + 1, 2, &first), 0);
    assert_int_equal(first, 2);
    assert_int_equal(mo_build_value_types(report, types, 2, &first), 0);
    assert_int_equal(first, 0);
    assert_int_equal(report->value_type_count, 4);
    struct memopt_sample sample = {MEMOPT_NONE, MEMOPT_NONE, 2, 2, values, &label, 1};
    assert_int_equal(mo_build_sample(report, &sample), 0);
    assert_int_equal(mo_build_sample(report, &sample), 0);
    assert_int_equal(report->sample_count, 2);
    const struct memopt_sample *second = memopt_sample_at(report, 1);
    assert_int_equal(memopt_sample_value(report, second, "c"), 6);
    assert_true(memopt_sample_value(report, second, "a") == MEMOPT_UNKNOWN);
    assert_string_equal(memopt_sample_label(report, second, "how"), "so");
    assert_null(memopt_sample_label(report, second, "so"));
    assert_ptr_not_equal(second->values, values);
}

/* Many, found again after the tables have grown; and then there is no room. */
static void test_many(void **state) {
    (void)state;
    enum { MANY = 3000 };
    char name[16];
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < MANY; i++) {
            uint32_t stack;
            snprintf(name, sizeof(name), "f%u", i);
            assert_int_equal(module(name, NULL), i);
            assert_int_equal(function(name, NULL, NULL), i);
            assert_int_equal(location(i, i, NULL, 0), i);
            assert_int_equal(mo_build_stack(report, &i, 1, &stack), 0);
            assert_int_equal(stack, i);
        }
    mo_build_maximum = MANY;
    uint32_t index = 77, none[1] = {MANY - 1};
    struct memopt_location like = {MEMOPT_NONE, 5, NULL, 0};
    assert_int_equal(mo_build_module(report, "one more", NULL, &index), -ENOSPC);
    assert_int_equal(mo_build_function(report, "one more", NULL, NULL, &index), -ENOSPC);
    assert_int_equal(mo_build_location(report, &like, &index), -ENOSPC);
    assert_int_equal(mo_build_stack(report, (uint32_t[]){0, 1}, 2, &index), -ENOSPC);
    assert_int_equal(index, 77);
    assert_int_equal(mo_build_stack(report, none, 1, &index), 0); /* those that are there */
    assert_int_equal(index, MANY - 1);
    mo_build_maximum = 1 << 20;
    assert_int_equal(report->module_count, MANY);

    static uint32_t deep[MO_STACK_FRAMES + 10];
    assert_int_equal(mo_build_stack(report, deep, MO_STACK_FRAMES + 10, &index), 0);
    assert_int_equal(memopt_stack_at(report, index)->location_count, MO_STACK_FRAMES);
    static struct memopt_line lines[MO_LINES + 10];
    assert_int_equal(
        memopt_location_at(report, location(0, 1 << 20, lines, MO_LINES + 10))->line_count,
        MO_LINES);
}

static int build_some(void) {
    static const struct memopt_value_type types[] = {{"a", "bytes"}};
    static const uint64_t values[] = {5};
    static const struct memopt_label label = {"how", "so"};
    uint32_t in = 0, its = 0, place = 0, stack = 0, type = 0;
    int r = mo_build_module(report, "/a", "00", &in);
    if (r == 0)
        r = mo_build_function(report, "f", "_f", "f.c", &its);
    struct memopt_line line = {its, 1};
    if (r == 0)
        r = mo_build_location(report, &(struct memopt_location){in, 1, NULL, 0}, &place);
    if (r == 0)
        r = mo_build_location(report, &(struct memopt_location){in, 1, &line, 1}, &place);
    if (r == 0)
        r = mo_build_stack(report, &place, 1, &stack);
    if (r == 0)
        r = mo_build_value_types(report, types, 1, &type);
    struct memopt_sample sample = {MEMOPT_NONE, stack, type, 1, values, &label, 1};
    return r == 0 ? mo_build_sample(report, &sample) : r;
}

static void test_out_of_memory(void **state) {
    (void)state;
    for (int for_good = 0; for_good < 2; for_good++) {
        for (long nth = 1;; nth++) {
            mo_report_free(report);
            assert_int_equal(mo_report_new(&report, NULL), 0);
            /* the arena gets more memory again at once */
            memopt_report_alloc(report, 32 * 1024 - 700);
            fault_arm(nth, for_good);
            int r = build_some();
            long fired = fault.fired;
            fault_arm(0, 0);
            assert_int_equal(r, fired == 0 ? 0 : -ENOMEM);
            assert_int_equal(build_some(), 0);
            assert_int_equal(report->stack_count, 1);
            assert_int_equal(report->location_count, 1);
            assert_int_equal(report->locations[0].line_count, 1);
            if (fired == 0) {
                assert_true(nth > 5);
                break;
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_value_types, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_out_of_memory, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("report's code", tests, NULL, NULL);
}
