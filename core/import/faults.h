/*
 * faults.h - what the watched program could say of a fault becomes an event with stacks.
 *
 * The program writes what it knows when it happens, as text: on standard error and into its
 * record (host->event() in memopt/plugin.h; the guard allocator is who does). In that text
 *
 *     WRITE at offset 16, right past the end of a block of 16 bytes at 0xADDRESS
 *       accessed by thread 4242:            a heading: two blanks, words, "thread N:"
 *         #0 PATH+0xOFFSET                  a frame; or #0 0xADDRESS, in no module
 *         #1 ...
 *       allocated by thread 4242:
 *         (no stack)                        it could not be had
 *       build-id HEX PATH                   of a module of the frames
 *
 * the headings, frames and build ids become stacks, locations and modules of the report, and
 * the first line's "a block of N bytes at 0xADDRESS", "at [offset|byte] N" and "(0xADDRESS)"
 * or "at 0xADDRESS" the event's facts. All other lines stay the event's text, as does all of
 * it where there is no frame. Any program can write anything there: the parser is bounded and
 * fuzzed (tests/fuzz/fuzz_faults.c).
 */
#ifndef MO_IMPORT_FAULTS_H
#define MO_IMPORT_FAULTS_H

#include <memopt/report.h>

/* In all events of the report. What fails for want of memory stays as it is. */
void mo_faults_read(struct memopt_report *report);

#endif
