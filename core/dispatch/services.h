/*
 * services.h - what the shim or the agent offers to a libmemopt in the same
 * process.
 *
 * A program that links libmemopt and is started by `memopt run` has two copies
 * of the core: the shim's and libmemopt's. They meet here: the shim (and the
 * agent) export `memopt_program_services_2`, libmemopt finds it with
 * dlsym(RTLD_DEFAULT), and named heaps then count in the process's ledger, and
 * what is told of the program's malloc is told of their blocks.
 * Without it libmemopt keeps its counters in memory of its own.
 */
#ifndef MO_DISPATCH_SERVICES_H
#define MO_DISPATCH_SERVICES_H

#include "core/ledger/ledger.h"

#include <memopt/plugin.h>

enum { MO_PROGRAM_SERVICES = 2 };

struct mo_program_services {
    uint32_t version; /* MO_PROGRAM_SERVICES */
    uint32_t size;
    const char *run_directory; /* where settings.ini is; NULL: not under memopt run */
    /* The path of the plugin of the allocator that serves the program's malloc; NULL: the C
     * library serves. Whether the plugin is open, so that libmemopt must not open it again, and
     * its fork operations are called: by the shim; the agent opens none. */
    const char *allocator;
    uint32_t allocator_is_open;
    uint32_t reserved;
    /* A free heap slot of the ledger, named, with used = 1; NULL: no ledger or
     * no room. Any thread. In the child of a fork it is gone: ask for another. */
    struct mo_ledger_heap *(*heap_slot)(const char *name, const char *allocator);
    uint32_t (*heap_number)(const struct mo_ledger_heap *slot); /* as events have it */
    /* The slot in which the program's malloc is counted, and whose limit it keeps; NULL: it has
     * none. Ask again in the child of a fork. */
    struct mo_ledger_heap *default_heap;
    /* What a plugin notes; `kind` NULL, or the kind of an event. */
    void (*note)(int level, const char *kind, const char *text);
    /* Registers a callback for fork, called after the stdio lock is taken and
     * before the backend's own: same order as struct memopt_allocator_ops. */
    void (*at_fork)(void (*before)(void), void (*parent)(void), void (*child)(void));

    /* Only where allocations are counted or told of; else NULL, all of them. */
    /* The backend of the program's malloc, below what counts: for heaps whose blocks it gives,
     * which are told of by themselves. */
    const struct memopt_malloc *malloc;
    /* What became of a named heap's block, as core/account has it. `usable` must be known. */
    void (*alloc)(uint32_t heap, void *p, size_t asked, size_t usable, int event);
    void (*free)(uint32_t heap, void *p, size_t usable, int event);
    void (*refused)(uint32_t heap, size_t asked, int event);
    void (*destroy)(uint32_t heap, uint64_t blocks, uint64_t bytes);
    /* What the calling thread allocates in between is memopt's own, and not counted. They nest.
     * Also where malloc has a limit. */
    void (*own_begin)(void), (*own_end)(void);
};
/* Another name with each version: an older libmemopt then finds none. */
#define MO_PROGRAM_SERVICES_SYMBOL "memopt_program_services_2"

#endif
