/*
 * read.h - the counts in a record become those of the report. In the memopt command and
 * libmemopt.
 */
#ifndef MO_ACCOUNT_READ_H
#define MO_ACCOUNT_READ_H

#include "core/ledger/reader.h"

/* Fills counts, threads and histogram, if the process counted. 0, or -ENOMEM; of counts of
 * another version -EPROTONOSUPPORT. */
int mo_counts_read(const struct mo_ledger_copy *ledger, struct memopt_report *report,
                   struct memopt_process *process, struct memopt_error *error);

#endif
