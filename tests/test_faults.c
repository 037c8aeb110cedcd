/* test_faults.c - the text of a fault becomes an event with stacks: core/import/faults.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/import/faults.h"
#include "core/model/build.h"
#include "core/model/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/report_faults.h"

static struct memopt_report *report;

static void new_report(const char *text) {
    mo_report_free(report);
    assert_int_equal(mo_report_new(&report, NULL), 0);
    struct memopt_process *process = mo_model_add_process(mo_model_of(report));
    assert_non_null(process);
    assert_int_equal(mo_report_event(report, process, 5, "overflow", text, NULL), 0);
}

static int tear_down(void **state) {
    (void)state;
    mo_report_free(report);
    report = NULL;
    return 0;
}

static const struct memopt_event_report *event(void) {
    return memopt_event_at(&report->processes[0], 0);
}

/* "ROLE BY TID: MODULE(BUILD ID)+0xADDRESS ..." for each stack. */
static const char *words(void) {
    static char text[8192];
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < event()->stack_count; i++) {
        const struct memopt_event_stack *its = memopt_event_stack_at(report, event(), i);
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s '%s' %" PRId64 ":",
                                 i > 0 ? "; " : "", its->role, its->by, its->tid);
        for (size_t k = 0; its->stack != MEMOPT_NONE && used < sizeof(text) - 1024 &&
                           k < memopt_stack_at(report, its->stack)->location_count;
             k++) {
            const struct memopt_location *location =
                memopt_location_at(report, memopt_stack_at(report, its->stack)->locations[k]);
            const struct memopt_module *module =
                location->module == MEMOPT_NONE ? NULL : memopt_module_at(report, location->module);
            used +=
                (size_t)snprintf(text + used, sizeof(text) - used, " %s(%s)+0x%" PRIx64,
                                 module == NULL ? "" : module->path,
                                 module == NULL || module->build_id == NULL ? "" : module->build_id,
                                 location->address);
        }
    }
    return text;
}

static const char guard[] = "write at offset 16, right past the end of a block of 16 bytes at "
                            "0x7f0000001ff0\n"
                            "  accessed by thread 12:\n"
                            "    #0 /bin/a b+0x10\n"
                            "    #1 /lib/x+0x1.so+0xff\n"
                            "    #2 0x7f1234\n"
                            "  allocated by thread 13:\n"
                            "    #0 /bin/a b+0x20\n"
                            "  freed by thread 14:\n"
                            "    (no stack)\n"
                            "  build-id 00ff /bin/a b";

static void test_texts(void **state) {
    (void)state;
    static const struct {
        const char *text, *rest, *stacks;
    } rows[] = {
        {guard, "write at offset 16, right past the end of a block of 16 bytes at 0x7f0000001ff0",
         "fault 'accessed by' 12: /bin/a b(00ff)+0x10 /lib/x+0x1.so()+0xff ()+0x7f1234; "
         "allocated 'allocated by' 13: /bin/a b(00ff)+0x20; freed 'freed by' 14:"},
        /* nothing of the kind: as it is */
        {"reached the limit", "reached the limit", ""},
        {"two\nlines\n", "two\nlines\n", ""},
        {"no frame\n  called by thread 5:\n    (no stack)",
         "no frame\n  called by thread 5:\n    (no stack)", ""},
        {"", "", ""},
        /* a stack without a heading, and what is neither */
        {"what\n    #0 /a+0x1\nmore\n  by: \n  thread 5:\n  x thread 99999999999999999999:\n"
         "    #1 /a+0x10000000000000000\n    #x /a+0x1\n    #1 /a\n    #2 +0x1\n"
         "  build-id 0 /a\n  build-id 00\n  build-id  /a\n   #0 /a+0x1",
         "what\nmore\n  by: \n  thread 5:\n  x thread 99999999999999999999:\n"
         "    #1 /a+0x10000000000000000\n    #x /a+0x1\n    #1 /a\n    #2 +0x1\n"
         "  build-id 0 /a\n  build-id 00\n  build-id  /a\n   #0 /a+0x1",
         "fault '' 0: /a()+0x1"},
        /* bytes that control a terminal are a module's name like others */
        {"x\n  found in a call by thread 1:\n    #0 \033]0;x\a+0x1\n  build-id ab \033]0;x\a", "x",
         "fault 'found in a call by' 1: \033]0;x\a(ab)+0x1"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        new_report(rows[i].text);
        mo_faults_read(report);
        assert_string_equal(event()->kind, "overflow");
        assert_int_equal(event()->time, 5);
        assert_string_equal(event()->text, rows[i].rest);
        assert_string_equal(words(), rows[i].stacks);
    }
}

static void test_facts(void **state) {
    (void)state;
    enum { UNKNOWN = -1 };
    static const struct {
        const char *line;
        int64_t address, block, size;
    } rows[] = {
        {"write at offset 16, right past the end of a block of 16 bytes at 0x1000", 0x1010, 0x1000,
         16},
        {"read at offset -8, 8 bytes before the start of a block of 1 byte at 0x1000", 0xff8,
         0x1000, 1},
        {"read at byte 0 of a block of 24 bytes at 0x1000 that was freed before", 0x1000, 0x1000,
         24},
        {"free(0x1001): 1 byte inside a block of 8 bytes at 0x1000", 0x1001, 0x1000, 8},
        {"delete(0x1000) with size 24 of a block of 40 bytes at 0x1000: expected size 40", 0x1000,
         0x1000, 40},
        {"free(0x55): the address is none of this allocator's", 0x55, UNKNOWN, UNKNOWN},
        {"read at 0x77, where no block is", 0x77, UNKNOWN, UNKNOWN},
        {"write at offset 5", UNKNOWN, UNKNOWN, UNKNOWN},
        {"a block of 99999999999999999999 bytes at 0x1000", 0x1000, UNKNOWN, UNKNOWN},
        {"a block of 5 bytes", UNKNOWN, UNKNOWN, UNKNOWN},
        {"at offset ", UNKNOWN, UNKNOWN, UNKNOWN},
        {"a block of ", UNKNOWN, UNKNOWN, UNKNOWN},
        {"", UNKNOWN, UNKNOWN, UNKNOWN},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "%s\n  called by thread 1:\n    #0 /a+0x1", rows[i].line);
        new_report(text);
        mo_faults_read(report);
        if ((int64_t)event()->address != rows[i].address ||
            (int64_t)event()->block_address != rows[i].block ||
            (int64_t)event()->block_size != rows[i].size)
            fail_msg("'%s': %" PRIx64 " %" PRIx64 " %" PRIu64, rows[i].line, event()->address,
                     event()->block_address, event()->block_size);
    }
}

/* Thousands of frames, headings and modules; and a report that is full. */
static void test_bounds(void **state) {
    (void)state;
    enum { MANY = 3000, LONG = 400000 };
    char *text = malloc(LONG);
    size_t used = (size_t)sprintf(text, "x\n  called by thread 1:\n");
    for (int i = 0; i < MANY; i++)
        used += (size_t)sprintf(text + used, "    #%d /m%d+0x%x\n", i, i, i + 1);
    for (int i = 0; i < MANY; i++)
        used += (size_t)sprintf(text + used, "  build-id 00 /m%d\n", i);
    for (int i = 0; i < MANY; i++)
        used += (size_t)sprintf(text + used, "  freed by thread %d:\n    #0 /m+0x1\n", i);
    assert_true(used < LONG);
    new_report(text);
    mo_faults_read(report);
    assert_true(event()->stack_count == 16);
    assert_int_equal(
        memopt_stack_at(report, memopt_event_stack_at(report, event(), 0)->stack)->location_count,
        MO_STACK_FRAMES);
    free(text);

    new_report(guard);
    mo_build_maximum = 1;
    mo_faults_read(report);
    mo_build_maximum = 1 << 20;
    assert_string_equal(event()->text, guard); /* nothing is lost */
    assert_int_equal(event()->stack_count, 0);
}

static void test_out_of_memory(void **state) {
    (void)state;
    new_report(guard);
    mo_faults_read(report);
    char *whole = strdup(words());
    for (int for_good = 0; for_good < 2; for_good++) {
        for (long nth = 1;; nth++) {
            new_report(guard);
            fault_arm(nth, for_good);
            mo_faults_read(report);
            long fired = fault.fired;
            fault_arm(0, 0);
            if (event()->stack_count == 0)
                assert_string_equal(event()->text, guard);
            else
                assert_string_equal(words(), whole);
            if (fired == 0)
                break;
        }
    }
    free(whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("faults", tests, NULL, tear_down);
}
