/* test_lsan.c - the logs of sanitizers: core/import/lsan.h. */
#include "core/import/lsan.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct mo_lsan_log result;

static void parse(const char *text) {
    mo_lsan_parse(text, strlen(text), &result);
}

static void test_leaks(void **state) {
    (void)state;
    /* gcc's form, then clang's, with and without symbols, with C++ names */
    parse("=================================================================\n"
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
          "    #2 0x57 in f (/tmp/a+0x34) (BuildId: 00ff)\n"
          "    #3 0x58 (/tmp/a+0x99)\n"
          "    #4 0x59 in too_deep /tmp/a.cc:9:3\n"
          "\n"
          "Indirect leak of 6 byte(s) in 2 object(s) allocated from:\n"
          "    #0 0x55 in strdup (/tmp/a+0x12)\n"
          "\n"
          "SUMMARY: AddressSanitizer: 158 byte(s) leaked in 6 allocation(s).\n");
    assert_int_equal(result.leak_count, 3);
    assert_int_equal(result.error_count, 0);
    assert_int_equal(result.leaked_bytes, 158);
    assert_int_equal(result.leaked_objects, 6);
    assert_int_equal(result.leaks[0].bytes, 144);
    assert_int_equal(result.leaks[0].objects, 3);
    assert_false(result.leaks[0].indirect);
    assert_string_equal(result.leaks[0].where, "make (/tmp/leak.c:5) < main (/tmp/leak.c:6)");
    assert_string_equal(result.leaks[1].where,
                        "list<int, std::less<int> >::add(int) (/tmp/a.cc:7:3) < f (/tmp/a+0x34) < "
                        "(/tmp/a+0x99)");
    assert_true(result.leaks[2].indirect);
    assert_string_equal(result.leaks[2].where, "");
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
        assert_int_equal(result.error_count, cases[i].error != NULL);
        if (cases[i].error != NULL)
            assert_string_equal(result.errors[0], cases[i].error);
        assert_int_equal(result.leak_count, 0);
    }
}

/* Numbers that overflow, more leaks than are kept, lines without an end. */
static void test_bounds(void **state) {
    (void)state;
    parse("Direct leak of 18446744073709551615 byte(s) in 1 object(s) allocated from:\n"
          "Direct leak of 5 byte(s) in 1 object(s) allocated from:\n"
          "Direct leak of many byte(s) in 1 object(s) allocated from:\n"
          "Direct leak of 5 byte(s)\n");
    assert_int_equal(result.leak_count, 2);
    assert_true(result.leaked_bytes == UINT64_MAX);

    enum { MANY = 500, LONG = 100000 };
    char *text = malloc(LONG + 1);
    size_t used = 0;
    for (int i = 0; i < MANY; i++)
        used += (size_t)snprintf(text + used, LONG - used,
                                 "Direct leak of 1 byte(s) in 1 object(s) allocated from:\n"
                                 "    #0 0x5 in f /a.c:%d\n"
                                 "==1==ERROR: AddressSanitizer: number %d\n",
                                 i, i);
    mo_lsan_parse(text, used, &result);
    assert_int_equal(result.leak_count, MANY);
    assert_int_equal(result.leaked_bytes, MANY);
    assert_int_equal(result.error_count, MANY);
    assert_string_equal(result.leaks[MO_LSAN_LEAKS - 1].where, "f (/a.c:63)");
    assert_string_equal(result.errors[MO_LSAN_ERRORS - 1], "AddressSanitizer: number 15");

    memset(text, 'x', LONG);
    memcpy(text, "Direct leak of 1 byte(s) in 1 object(s) allocated from:\n    #0 0x5 in ", 71);
    mo_lsan_parse(text, LONG, &result); /* no NUL, no line end */
    assert_int_equal(result.leak_count, 1);
    assert_true(strlen(result.leaks[0].where) > 100);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaks),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
