/*
 * process.h - a record of the ledger becomes a process of the report.
 *
 * One record, whoever has found it: core/import/run.c takes all records of a run, in the
 * memopt command; memopt_report() takes that of its own process (core/render/program.c).
 * What trackers left in a record is read by their plugins, which the configuration names.
 *
 * Ownership: what is read belongs to the report, which must live longer than the reader, as
 * must the configuration. Threads: one at a time.
 */
#ifndef MO_MODEL_PROCESS_H
#define MO_MODEL_PROCESS_H

#include "core/ledger/reader.h"
#include "core/model/report.h"

struct mo_process_reader;
int mo_process_reader_new(struct memopt_report *report, struct mo_config *config,
                          struct mo_process_reader **ret_reader, struct memopt_error *error);
void mo_process_reader_free(struct mo_process_reader *reader); /* NULL: nothing */

/* Adds the record's process at the end of the report's; what is wrong with it is a note.
 * Fails if memory is short or a tracker's settings are wrong: then the last process of the
 * report may be half of it. */
int mo_process_read(struct mo_process_reader *reader, const struct mo_ledger_copy *ledger,
                    struct memopt_error *error);

/* The report's memory goes back to what it was at an earlier time (mo_arena_release()):
 * texts that processes read since then share are gone. */
void mo_process_reader_forget(struct mo_process_reader *reader);

#endif
