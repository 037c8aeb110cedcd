/*
 * services.h - what the shim or the agent offers to a libmemopt in the same
 * process.
 *
 * A program that links libmemopt and is started by `memopt run` has two copies
 * of the core: the shim's and libmemopt's. They meet here: the shim (and the
 * agent) export `memopt_program_services`, libmemopt finds it with
 * dlsym(RTLD_DEFAULT), and named heaps then count in the process's ledger.
 * Without it libmemopt keeps its counters in memory of its own.
 */
#ifndef MO_DISPATCH_SERVICES_H
#define MO_DISPATCH_SERVICES_H

#include "core/ledger/ledger.h"

struct mo_program_services {
    uint32_t version; /* 1 */
    uint32_t size;
    const char *run_directory; /* where settings.ini is; NULL: not under memopt run */
    /* The path of the plugin of the allocator that serves the program's malloc; NULL: the C
     * library serves. Whether the plugin is open, so that libmemopt must not open it again, and
     * its fork operations are called: by the shim; the agent opens none. */
    const char *allocator;
    uint32_t allocator_is_open;
    uint32_t reserved;
    /* A free heap slot of the ledger, named, with used = 1; NULL: no ledger or
     * all taken. Any thread. The slot stays at its address across fork. */
    struct mo_ledger_heap *(*heap_slot)(const char *name, const char *allocator);
    /* What a plugin notes; `kind` NULL, or the kind of an event. */
    void (*note)(int level, const char *kind, const char *text);
    /* Registers a callback for fork, called after the stdio lock is taken and
     * before the backend's own: same order as struct memopt_allocator_ops. */
    void (*at_fork)(void (*before)(void), void (*parent)(void), void (*child)(void));
};
#define MO_PROGRAM_SERVICES_SYMBOL "memopt_program_services"

#endif
