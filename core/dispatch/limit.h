/*
 * limit.h - a limit on the program's own malloc: `[heap.default] limit = …`.
 *
 * A layer between dispatch (with its trackers) and the backend. It keeps one
 * count of live bytes for the process, which every call changes: the price of a
 * limit that holds exactly, paid only where one is configured.
 */
#ifndef MO_DISPATCH_LIMIT_H
#define MO_DISPATCH_LIMIT_H

#include "core/ledger/ledger.h"

#include <memopt/plugin.h>

/* Puts the limit over `table`, in place. `purge` (may be NULL) is called before
 * an allocation is refused, which is then tried once more. Live bytes, the peak
 * and what was refused are counted in `slot`. Call once. */
void mo_limit_install(struct memopt_malloc *table, uint64_t limit, uint64_t (*purge)(void),
                      struct mo_ledger_heap *slot);

/* For a forked child that has no ledger: the slot is the parent's, so it goes on counting
 * elsewhere. Does nothing without a limit. */
void mo_limit_leave_ledger(void);

#endif
