/*
 * pressure.h - inside libmemopt: what purge hints and the pressure ladder share
 * (memopt/pressure.h is what is promised).
 *
 *   hint.c      purge hints
 *   monitor.c   the watch over the process
 *   sources.c   what the watch looks at
 *
 * What both do to heaps, they do through core/heap, which counts and reports the steps
 * (core/heap/steps.c). No function of the program's is called with mo_pressure_lock held.
 */
#ifndef MO_PRESSURE_PRESSURE_H
#define MO_PRESSURE_PRESSURE_H

#include "core/heap/heap.h"

#include <memopt/pressure.h>

/* Over the lists and small figures of hints and of the watch; short. */
extern pthread_mutex_t mo_pressure_lock;

/* Purges one heap after the other, each backend that has no heaps to tell apart
 * but once. Begin with {.count = 0}. */
struct mo_purge_round {
    const struct mo_backend *purged[16];
    size_t count;
};
uint64_t mo_purge_in_turn(struct mo_purge_round *round, struct memopt_heap *heap, int *ret_shared);

/* Registers the fork handlers; with the runtime's mutex held. 0 or -ENOMEM. */
int mo_pressure_at_fork(struct memopt_error *error);
/* With the lock held: the child has no thread but its own. */
void mo_purge_fork_child(void);

#endif
