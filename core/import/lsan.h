/*
 * lsan.h - what a sanitizer had to say of a program: its logs become part of
 * the report.
 *
 * A leak is a sample of the stack that allocated it, with the values leaked_blocks (count)
 * and leaked_bytes (bytes) and the label "leak": "direct", or "indirect" where it is
 * reachable through another leak. An error is an event of the kind "sanitizer" with its
 * stacks. Frames of the allocator are left out at a stack's leaf: it begins with the call
 * site.
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
enum { MO_LSAN_ERRORS = 256 }; /* of a log; how many there were besides is a note */

/* Adds what a log says to the report's process of that index. What can't be read is left out.
 * 0, or -ENOMEM: then the report has a part of it. */
int mo_lsan_parse(const char *text, size_t size, struct memopt_report *report, size_t process);

/* Reads every log of a run directory, copies it to descriptor `replay` (where
 * the program would have printed it) and adds it to the report. */
void mo_lsan_collect(const char *directory, int replay, struct memopt_report *report);

#endif
