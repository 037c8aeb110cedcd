/*
 * shim.c - libmemopt-preload.so: stands between the program's malloc and the
 * backend. The names are in malloc.c and operators.c; this is the constructor.
 *
 * It runs after the constructors of the libraries the program is linked with and
 * before the program's own. Until then the boot range serves.
 */
#include "core/dispatch/dispatch.h"
#include "core/dispatch/limit.h"
#include "core/ledger/writer.h"
#include "preload/process.h"
#include "preload/rebind.h"

static struct mo_link links[sizeof(mo_process.trackers) / sizeof(mo_process.trackers[0])];

static void take_over(struct mo_process *process) {
    for (size_t i = 0; i < process->tracker_count; i++) {
        links[i].self = process->trackers[i].self;
        links[i].offset = process->trackers[i].offset;
        links[i].ops = &process->trackers[i].plugin->ops.tracker;
    }
    const struct memopt_allocator_ops *backend =
        process->allocator == NULL ? NULL : &process->allocator->ops.allocator;
    bool c_calls = backend == NULL || (backend->flags & MEMOPT_ALLOCATOR_C_CALLS) != 0;
    static struct mo_ledger_heap without_a_ledger;
    void *own_malloc = (void *)process->table.malloc;
    if (process->limit != UINT64_MAX) {
        struct mo_ledger_heap *slot = mo_ledger_heap_slot(
            "default", process->allocator == NULL ? "libc" : process->allocator->descriptor.name);
        mo_limit_install(&process->table, process->limit, backend == NULL ? NULL : backend->purge,
                         slot != NULL ? slot : &without_a_ledger);
        c_calls = false;
    }
    mo_dispatch_switch(&process->table, c_calls, links, process->tracker_count);
    if (backend != NULL)
        mo_rebind(own_malloc);
    mo_fork_install(process->tracker_count > 0 ? mo_track_self : NULL, mo_dispatch_untrack);
}

static __attribute__((constructor)) void start(int argc, char **argv, char **envp) {
    (void)argc;
    (void)argv;
    mo_rebind_prepare();
    mo_process_start(MO_PROCESS_SHIM, envp, take_over);
}
