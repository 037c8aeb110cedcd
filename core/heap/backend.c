/*
 * backend.c - the allocator plugins that are open in this process (see heap.h).
 *
 * open() of a plugin is called once a process. Under `memopt run` the shim has called it
 * already for the backend of the program's malloc; bound directly, nobody has. In both the
 * plugin's default heap is malloc().
 */
#include "core/heap/heap.h"

#include "core/base/error.h"
#include "core/base/forkorder.h"
#include "core/base/sysmem.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct mo_backend *backends;

static const struct memopt_malloc process_malloc = {
    .size = sizeof(struct memopt_malloc),
    .malloc = malloc,
    .calloc = calloc,
    .realloc = realloc,
    .free = free,
    .aligned_alloc = aligned_alloc,
    .usable_size = malloc_usable_size,
};

static int open_plugin(struct mo_plugin *plugin, struct memopt_malloc *ret_malloc,
                       struct memopt_error *error) {
    char section[128];
    snprintf(section, sizeof(section), "allocator.%s", plugin->descriptor.name);
    void *settings = NULL;
    if (plugin->descriptor.settings_size > 0) {
        settings = mo_sys_alloc(plugin->descriptor.settings_size);
        if (settings == NULL)
            return mo_fail(error, -ENOMEM, "out of memory for the settings of allocator '%s'",
                           plugin->descriptor.name);
        int code =
            mo_config_fill(mo_library_config(section), section, plugin->table, settings, error);
        if (code < 0)
            return code;
    }
    const struct memopt_malloc *functions;
    int code = mo_plugin_open_allocator(plugin, settings, &functions, error);
    if (code == 0)
        *ret_malloc = *functions;
    return code;
}

int mo_backend_open(const char *allocator, const struct mo_program_services *services,
                    struct mo_backend **ret_backend, struct memopt_error *error) {
    struct mo_plugin *plugin;
    int code = mo_plugin_load(MEMOPT_ALLOCATOR, allocator, &plugin, error);
    if (code < 0)
        return code;
    for (struct mo_backend *backend = backends; backend != NULL; backend = backend->next)
        if (backend->plugin == plugin) {
            *ret_backend = backend;
            return 0;
        }
    struct mo_plugin *of_process = NULL;
    if (services != NULL && services->allocator != NULL)
        mo_plugin_load(MEMOPT_ALLOCATOR, services->allocator, &of_process, NULL);
    struct mo_backend *backend = mo_sys_alloc(sizeof(*backend));
    if (backend == NULL)
        return mo_fail(error, -ENOMEM, "out of memory for allocator '%s'", allocator);
    backend->plugin = plugin;
    bool is_process = plugin == of_process;
    backend->is_shims = is_process && services->allocator_is_open;
    if (!backend->is_shims && (code = open_plugin(plugin, &backend->malloc, error)) < 0)
        return code;
    if (is_process)
        backend->malloc = process_malloc;
    if (!backend->is_shims && (mo_library_fork_order() < 0 ||
                               mo_fork_order() < 0)) /* its library may have fork handlers */
        return mo_fail(error, -ENOMEM, "can't register the fork handlers: out of memory");
    backend->next = backends;
    backends = backend;
    *ret_backend = backend;
    return 0;
}

/* The shim sees to its own backend. */
void mo_backends_before_fork(void) {
    for (struct mo_backend *backend = backends; backend != NULL; backend = backend->next)
        if (!backend->is_shims && backend->plugin->ops.allocator.before_fork != NULL)
            backend->plugin->ops.allocator.before_fork();
}

void mo_backends_after_fork(int in_child) {
    for (struct mo_backend *backend = backends; backend != NULL; backend = backend->next) {
        const struct memopt_allocator_ops *ops = &backend->plugin->ops.allocator;
        void (*after)(void) = in_child ? ops->after_fork_child : ops->after_fork_parent;
        if (!backend->is_shims && after != NULL)
            after();
    }
}
