/* test_lsan.c - the logs of sanitizers: core/import/lsan.h. */
#include "core/import/lsan.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/model/build.h"
#include "core/model/model.h"

#include "tests/report_faults.h"

static struct memopt_report *report;

static void new_report(void) {
    mo_report_free(report);
    assert_int_equal(mo_report_new(&report, NULL), 0);
    assert_non_null(mo_model_add_process(mo_model_of(report)));
}

static void parse(const char *text) {
    new_report();
    assert_int_equal(mo_lsan_parse(text, strlen(text), report, 0), 0);
}

static int tear_down(void **state) {
    (void)state;
    mo_report_free(report);
    report = NULL;
    return 0;
}

/* "FUNCTION FILE:LINE MODULE+0xADDRESS", what is not known left out, for each frame. */
static const char *words_of(uint32_t index) {
    static char text[4096];
    size_t used = 0;
    text[0] = '\0';
    if (index == MEMOPT_NONE)
        return "none";
    const struct memopt_stack *stack = memopt_stack_at(report, index);
    for (size_t i = 0; i < stack->location_count; i++) {
        const struct memopt_location *location = memopt_location_at(report, stack->locations[i]);
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s", i > 0 ? " < " : "");
        if (location->line_count > 0) {
            const struct memopt_line *line = memopt_line_at(report, location, 0);
            const struct memopt_function *function = memopt_function_at(report, line->function);
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s", function->name);
            if (function->file != NULL)
                used += (size_t)snprintf(text + used, sizeof(text) - used, " %s:%u", function->file,
                                         line->line);
        }
        if (location->module != MEMOPT_NONE)
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s+0x%" PRIx64,
                                     location->line_count > 0 ? " " : "",
                                     memopt_module_at(report, location->module)->path,
                                     location->address);
    }
    return text;
}

static void check_leak(size_t i, uint64_t blocks, uint64_t bytes, const char *how,
                       const char *stack) {
    assert_true(i < report->sample_count);
    const struct memopt_sample *sample = memopt_sample_at(report, i);
    assert_int_equal(sample->process, 0);
    assert_int_equal(memopt_sample_value(report, sample, "leaked_blocks"), blocks);
    assert_int_equal(memopt_sample_value(report, sample, "leaked_bytes"), bytes);
    assert_string_equal(memopt_sample_label(report, sample, "leak"), how);
    assert_string_equal(words_of(sample->stack), stack);
}

static const char leaks[] =
    /* gcc's form, then clang's, with and without symbols, with C++ names */
    "=================================================================\n"
    "==12==ERROR: LeakSanitizer: detected memory leaks\n"
    "\n"
    "Direct leak of 144 byte(s) in 3 object(s) allocated from:\n"
    "    #0 0x7f0ef1eb83b7 in __interceptor_calloc ../../src/asan_malloc_linux.cpp:77\n"
    "    #1 0x563b5790b20f in make /tmp/leak.c:5\n"
    "    #2 0x563b5790b299 in main /tmp/leak.c:6\n"
    "    #3 0x7f0ef24df249 in __libc_start_call_main ../sysdeps/start.h:58\n"
    "\n"
    "Direct leak of 8 byte(s) in 1 object(s) allocated from:\n"
    "    #0 0x55 in operator new(unsigned long) (/tmp/a+0x12) (BuildId: 00ff)\n"
    "    #1 0x56 in list<int, std::less<int> >::add(int) /tmp/a.cc:7:3\n"
    "    #2 0x57 in f (/tmp/a b (1)+0x34) (BuildId: 00ff)\n"
    "    #3 0x58  (/tmp/a+0x99)\n"
    "    #4 0x59 in strdup_all <null>\n"
    "    #5 0x5a in strdup /own/strdup.c:1\n"
    "    #6 0x5b\n"
    "    #7 0x5c in main\n"
    "\n"
    "Indirect leak of 6 byte(s) in 2 object(s) allocated from:\n"
    "    #0 0x55 in strdup (/tmp/a+0x12)\n"
    "\n"
    "SUMMARY: AddressSanitizer: 158 byte(s) leaked in 6 allocation(s).\n";

static void test_leaks(void **state) {
    (void)state;
    parse(leaks);
    assert_int_equal(report->sample_count, 3);
    assert_int_equal(report->value_type_count, 2);
    assert_string_equal(report->value_types[0].unit, "count");
    assert_string_equal(report->value_types[1].unit, "bytes");
    assert_int_equal(report->processes[0].event_count, 0);
    check_leak(0, 3, 144, "direct", "make /tmp/leak.c:5 < main /tmp/leak.c:6");
    check_leak(1, 1, 8, "direct",
               "list<int, std::less<int> >::add(int) /tmp/a.cc:7 < f /tmp/a b (1)+0x34 < "
               "/tmp/a+0x99 < strdup_all < strdup /own/strdup.c:1 < main");
    check_leak(2, 2, 6, "indirect", "none");
    assert_string_equal(memopt_module_at(report, 0)->build_id, "00ff");
    assert_null(memopt_module_at(report, 1)->build_id);

    /* the same again, of another process's log, has the same stacks */
    size_t locations = report->location_count, stacks = report->stack_count;
    assert_int_equal(mo_lsan_parse(leaks, sizeof(leaks) - 1, report, 0), 0);
    assert_int_equal(report->sample_count, 6);
    assert_int_equal(report->stack_count, stacks);
    assert_int_equal(report->location_count, locations);
    assert_int_equal(report->value_type_count, 2);
}

static void test_errors(void **state) {
    (void)state;
    static const struct {
        const char *text, *error; /* NULL: none */
    } cases[] = {
        {"==3==ERROR: AddressSanitizer: heap-use-after-free on address 0x60 at pc 0x55\n",
         "AddressSanitizer: heap-use-after-free on address 0x60 at pc 0x55"},
        {"==3==ERROR: AddressSanitizer: heap-use-after-free on address 0x60\n"
         "READ of size 1\n"
         "    #0 0x55 in main /tmp/leak.c:8:51\n"
         "SUMMARY: AddressSanitizer: heap-use-after-free /tmp/leak.c:8:51 in main\n",
         "AddressSanitizer: heap-use-after-free /tmp/leak.c:8:51 in main"},
        {"WARNING: ThreadSanitizer: data race (pid=3)\n", "ThreadSanitizer: data race (pid=3)"},
        {"==3==WARNING: MemorySanitizer: use-of-uninitialized-value\n",
         "MemorySanitizer: use-of-uninitialized-value"},
        {"a.c:3:5: runtime error: signed integer overflow\n",
         "a.c:3:5: runtime error: signed integer overflow"},
        {"==3==ERROR: LeakSanitizer: detected memory leaks\n", NULL},
        {"the program says ERROR: AddressSanitizer: is fine\n", NULL},
        {"SUMMARY: AddressSanitizer: alone\n", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        parse(cases[i].text);
        const struct memopt_process *process = &report->processes[0];
        assert_int_equal(process->event_count, cases[i].error != NULL);
        if (cases[i].error != NULL) {
            assert_string_equal(process->events[0].text, cases[i].error);
            assert_string_equal(process->events[0].kind, "sanitizer");
        }
        assert_int_equal(report->sample_count, 0);
    }
}

static void test_error_stacks(void **state) {
    (void)state;
    parse("==3==ERROR: AddressSanitizer: heap-use-after-free on address 0x60\n"
          "READ of size 1 at 0x60 thread T0\n"
          "    #0 0x55 in use /a.c:8:51\n"
          "    #1 0x56 in main /a.c:9\n"
          "\n"
          "0x60 is located 3 bytes inside of 10-byte region [0x5d,0x67)\n"
          "freed by thread T0 here:\n"
          "    #0 0x57 in free (/lib/libasan.so+0x1)\n"
          "    #1 0x58 in main /a.c:7\n"
          "\n"
          "previously allocated by thread T0 here:\n"
          "    #0 0x57 in malloc (/lib/libasan.so+0x2)\n"
          "    #1 0x58 in main /a.c:6\n"
          "\n"
          "SUMMARY: AddressSanitizer: heap-use-after-free /a.c:8 in use\n"
          "Shadow bytes around the buggy address:\n"
          "    #0 0x57 in nobody /a.c:1\n");
    static const char *const expected[][2] = {
        {"fault", "use /a.c:8 < main /a.c:9"},
        {"freed", "free /lib/libasan.so+0x1 < main /a.c:7"},
        {"allocated", "main /a.c:6"},
    };
    const struct memopt_event_report *event = memopt_event_at(&report->processes[0], 0);
    assert_int_equal(report->processes[0].event_count, 1);
    assert_int_equal(event->stack_count, 3);
    for (size_t i = 0; i < 3; i++) {
        const struct memopt_event_stack *stack = memopt_event_stack_at(report, event, i);
        assert_string_equal(stack->role, expected[i][0]);
        assert_string_equal(words_of(stack->stack), expected[i][1]);
        assert_int_equal(stack->tid, 0);
    }
}

/* Numbers that overflow, more than is kept, lines without an end. */
static void test_bounds(void **state) {
    (void)state;
    parse("Direct leak of 18446744073709551615 byte(s) in 1 object(s) allocated from:\n"
          "Direct leak of 5 byte(s) in 1 object(s) allocated from:\n"
          "    #0 0x5 in f (/a+0xfffffffffffffffff)\n"
          "    #1 0x5 in g /a.c:99999999999999999999\n"
          "Direct leak of many byte(s) in 1 object(s) allocated from:\n"
          "Direct leak of 5 byte(s)\n");
    assert_int_equal(report->sample_count, 2);

    enum { MANY = 500, LONG = 100000 };
    char *text = malloc(LONG + 1);
    size_t used = 0;
    for (int i = 0; i < MANY; i++)
        used += (size_t)snprintf(text + used, LONG - used,
                                 "Direct leak of 1 byte(s) in 1 object(s) allocated from:\n"
                                 "    #0 0x5 in f /a.c:%d\n"
                                 "==1==ERROR: AddressSanitizer: number %d\n",
                                 i, i);
    for (int full = 0; full <= 1; full++) {
        new_report();
        mo_build_maximum = full ? 100 : 1 << 20;
        assert_int_equal(mo_lsan_parse(text, used, report, 0), 0);
        mo_build_maximum = 1 << 20;
        assert_int_equal(report->sample_count, full ? 100 : MANY);
        assert_int_equal(report->stack_count, full ? 100 : MANY);
        assert_int_equal(report->processes[0].event_count, MO_LSAN_ERRORS);
        assert_string_equal(report->processes[0].events[MO_LSAN_ERRORS - 1].text,
                            "AddressSanitizer: number 255");
        assert_int_equal(report->note_count, 1 + full);
        assert_non_null(strstr(report->notes[0].text, "found 500 errors"));
        if (full)
            assert_non_null(strstr(report->notes[1].text, "400 are left out"));
    }

    memset(text, 'x', LONG);
    memcpy(text, "Direct leak of 1 byte(s) in 1 object(s) allocated from:\n    #0 0x5 in ", 71);
    new_report();
    assert_int_equal(mo_lsan_parse(text, LONG, report, 0), 0); /* no NUL, no line end */
    assert_int_equal(report->sample_count, 1);
    assert_true(strlen(report->functions[0].name) > 100);

    /* a stack without an end */
    used = (size_t)sprintf(text, "Direct leak of 1 byte(s) in 1 object(s) allocated from:\n");
    for (int i = 0; i < 3000; i++)
        used += (size_t)sprintf(text + used, " #%d 0x5 in f a.c:%d\n", i, i + 1);
    new_report();
    assert_int_equal(mo_lsan_parse(text, used, report, 0), 0);
    assert_int_equal(memopt_stack_at(report, 0)->location_count, MO_STACK_FRAMES);
    free(text);
}

static void test_out_of_memory(void **state) {
    (void)state;
    for (int for_good = 0; for_good < 2; for_good++) {
        for (long nth = 1;; nth++) {
            new_report();
            fault_arm(nth, for_good);
            int r = mo_lsan_parse(leaks, sizeof(leaks) - 1, report, 0);
            long fired = fault.fired;
            fault_arm(0, 0);
            assert_int_equal(r, fired == 0 ? 0 : -ENOMEM);
            if (fired == 0)
                break;
            /* the report can be used, and filled, as it is */
            for (size_t i = 0; i < report->sample_count; i++)
                words_of(memopt_sample_at(report, i)->stack);
            assert_int_equal(mo_lsan_parse(leaks, sizeof(leaks) - 1, report, 0), 0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaks),         cmocka_unit_test(test_errors),
        cmocka_unit_test(test_error_stacks),  cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
