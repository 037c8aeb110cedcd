/*
 * lsan.h - what a sanitizer had to say of a program: its logs become part of
 * the report.
 *
 * The text of a log is anything a program wrote; the parser is bounded and
 * fuzzed (tests/fuzz/fuzz_lsan.c). Used by the memopt command only.
 */
#ifndef MO_IMPORT_LSAN_H
#define MO_IMPORT_LSAN_H

#include <memopt/report.h>

#include <stddef.h>
#include <stdint.h>

/* Logs in the run directory are called sanitizer.PID. */
#define MO_LSAN_FILE "sanitizer"
enum { MO_LSAN_FRAMES = 3, MO_LSAN_LEAKS = 64, MO_LSAN_ERRORS = 16 };

struct mo_lsan_leak {
    uint64_t bytes, objects;
    int indirect;    /* reachable only through another leak */
    char where[384]; /* the top frames outside the allocator, "f (file.c:3) < g (…)" */
};

struct mo_lsan_log {
    struct mo_lsan_leak leaks[MO_LSAN_LEAKS]; /* the largest come first, as LSan sorts them */
    size_t leak_count; /* as many as are in the log: may be more than are kept */
    uint64_t leaked_bytes, leaked_objects;
    char errors[MO_LSAN_ERRORS][384]; /* "AddressSanitizer: heap-use-after-free …" */
    size_t error_count;
};

/* Never fails: what it can't read it leaves out. */
void mo_lsan_parse(const char *text, size_t size, struct mo_lsan_log *ret_log);

/* Reads every log of a run directory, copies it to descriptor `replay` (where
 * the program would have printed it) and adds it to the report. */
void mo_lsan_collect(const char *directory, int replay, struct memopt_report *report);

#endif
