/*
 * limit.h - a limit on the program's own malloc: `[heap.default] limit = …`.
 *
 * A layer between dispatch (with its trackers) and the backend. It keeps one
 * count of live bytes for the process, which every call changes: the price of a
 * limit that holds exactly, paid only where one is configured.
 */
#ifndef MO_ACCOUNT_LIMIT_H
#define MO_ACCOUNT_LIMIT_H

#include "core/ledger/ledger.h"

#include <memopt/plugin.h>

/* Puts a limit over `table`, in place: the one that `slot` says, which libmemopt changes for
 * memopt_heap_set_limit(). `purge` (may be NULL) is called before
 * an allocation is refused, which is then tried once more. Live bytes, the peak
 * and what was refused are counted in `slot`. What memopt allocates itself (MO_IN_MEMOPT) is asked
 * of `own_alloc` first, and does not count; NULL: whoever is above has seen to it. Call
 * once. */
void mo_limit_install(struct memopt_malloc *table, uint64_t (*purge)(void),
                      struct mo_ledger_heap *slot,
                      void *(*own_alloc)(size_t alignment, size_t size));

/* fork: the slot is the parent's. The child goes on with what was counted at the fork, in a slot
 * of its own ledger, or, without one, elsewhere. Without a limit they do nothing. */
void mo_limit_before_fork(void);
/* The slot from now on, or NULL. */
struct mo_ledger_heap *mo_limit_in_child(void);

#endif
