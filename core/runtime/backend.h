/*
 * backend.h - the allocator plugins that are open in this process.
 *
 * open() of a plugin is called once a process. Under `memopt run` the shim has called it
 * already for the backend of the program's malloc; bound directly, nobody has. In both the
 * plugin's default heap is malloc().
 *
 * Used by core/heap, with the runtime's mutex held.
 */
#ifndef MO_RUNTIME_BACKEND_H
#define MO_RUNTIME_BACKEND_H

#include "core/plugin/registry.h"

struct mo_backend {
    struct mo_plugin *plugin;
    struct memopt_malloc malloc;
    int is_process; /* the program's malloc is its */
    int is_shims; /* the shim has opened it and calls its fork operations */
    struct mo_backend *next;
};

/* After mo_runtime_start(). A name is opened once. */
int mo_backend_open(const char *allocator, struct mo_backend **ret_backend,
                    struct memopt_error *error);

#endif
