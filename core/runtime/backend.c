/* backend.c - see backend.h. */
#include "core/runtime/backend.h"

#include "core/base/error.h"
#include "core/base/sysmem.h"
#include "core/runtime/fork.h"
#include "core/runtime/runtime.h"

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
            mo_config_fill(mo_runtime_config(section), section, plugin->table, settings, error);
        if (code < 0)
            return code;
    }
    const struct memopt_malloc *functions;
    int code = mo_plugin_open_allocator(plugin, settings, &functions, error);
    if (code == 0)
        *ret_malloc = *functions;
    return code;
}

/* The shim sees to its own backend. */
static void before_fork(void) {
    for (struct mo_backend *backend = backends; backend != NULL; backend = backend->next)
        if (!backend->is_shims && backend->plugin->ops.allocator.before_fork != NULL)
            backend->plugin->ops.allocator.before_fork();
}

static void after_fork(int in_child) {
    for (struct mo_backend *backend = backends; backend != NULL; backend = backend->next) {
        const struct memopt_allocator_ops *ops = &backend->plugin->ops.allocator;
        void (*after)(void) = in_child ? ops->after_fork_child : ops->after_fork_parent;
        if (!backend->is_shims && after != NULL)
            after();
    }
}

static const struct mo_fork_hooks fork_hooks = {
    .rank = MO_FORK_BACKEND, .before = before_fork, .after = after_fork};

int mo_backend_open(const char *allocator, struct mo_backend **ret_backend,
                    struct memopt_error *error) {
    const struct mo_program_services *services = mo_runtime_services();
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
    backend->is_process = is_process;
    backend->is_shims = is_process && services->allocator_is_open;
    if (!backend->is_shims && (code = open_plugin(plugin, &backend->malloc, error)) < 0)
        return code;
    if (is_process)
        backend->malloc = process_malloc;
    code = mo_fork_register(&fork_hooks, error);
    if (code == 0 && !backend->is_shims) /* its library may have fork handlers */
        code = mo_fork_come_first(error);
    if (code < 0)
        return code;
    backend->next = backends;
    backends = backend;
    *ret_backend = backend;
    return 0;
}
