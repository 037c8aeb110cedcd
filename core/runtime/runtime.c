/* runtime.c - the configuration and the mutex of libmemopt: see runtime.h. */
#include "config.h"

#include "core/runtime/runtime.h"

#include "core/base/error.h"
#include "core/base/rundir.h"
#include "core/plugin/registry.h"
#include "core/plugin/section.h"
#include "core/runtime/fork.h"
#include "core/runtime/notes.h"

#include <memopt/memopt.h>

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Error-checking: open() and destroy() from inside memopt_heap_each() have to
 * fail, not hang. */
static pthread_mutex_t lock = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;

static struct {
    int looked; /* for the services */
    int ready;
    const struct mo_program_services *services; /* of the shim or the agent, or NULL */
    struct mo_config *run; /* the run's configuration; NULL: not under memopt run */
    struct mo_config *own; /* the usual files; under memopt run: only memopt_init()'s, or NULL */
    const char *allocator; /* [memopt] allocator */
} runtime;

const char *memopt_version(void) {
    return PACKAGE_VERSION;
}

/* --------------------------------------------------------------- the mutex */

int mo_runtime_enter(struct memopt_error *error, const char *what) {
    if (pthread_mutex_lock(&lock) == 0)
        return 0;
    return mo_fail(error, -EDEADLK, "can't %s from inside memopt_heap_each(): do it after the walk",
                   what);
}

void mo_runtime_leave(void) {
    pthread_mutex_unlock(&lock);
}

int mo_runtime_lock(void) {
    return pthread_mutex_lock(&lock) == EDEADLK;
}

void mo_runtime_unlock(int had_it) {
    if (!had_it)
        mo_runtime_leave();
}

int mo_runtime_try_enter(void) {
    return pthread_mutex_trylock(&lock);
}

/* An error-checking mutex knows its owner by a number that is another one in the
 * child. */
void mo_runtime_fork_child(int had_it) {
    lock = (pthread_mutex_t)PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
    if (had_it)
        pthread_mutex_lock(&lock);
}

/* ----------------------------------------------------------- configuration */

static int has_section(const struct mo_config *config, const char *section) {
    const char *name;
    for (size_t i = 0; (name = mo_config_section(config, NULL, i)) != NULL; i++)
        if (strcmp(name, section) == 0)
            return 1;
    return 0;
}

struct mo_config *mo_runtime_config(const char *section) {
    if (runtime.run == NULL)
        return runtime.own;
    if (runtime.own != NULL && !has_section(runtime.run, section) &&
        has_section(runtime.own, section))
        return runtime.own;
    return runtime.run;
}

const char *mo_runtime_allocator(void) {
    return runtime.allocator;
}

int mo_runtime_is_run(void) {
    return runtime.run != NULL;
}

const struct mo_program_services *mo_runtime_services(void) {
    if (!runtime.looked)
        runtime.services = dlsym(RTLD_DEFAULT, MO_PROGRAM_SERVICES_SYMBOL);
    /* of another memopt's shim */
    if (runtime.services != NULL && runtime.services->version != MO_PROGRAM_SERVICES)
        runtime.services = NULL;
    runtime.looked = 1;
    return runtime.services;
}

void mo_runtime_own_begin(void) {
    const struct mo_program_services *services = mo_runtime_services();
    if (services != NULL && services->own_begin != NULL)
        services->own_begin();
}

void mo_runtime_own_end(void) {
    const struct mo_program_services *services = mo_runtime_services();
    if (services != NULL && services->own_end != NULL)
        services->own_end();
}

/* Prefixes the message with where the configuration had the key; returns the code. */
static int blame(const struct mo_config *config, const char *section, const char *key,
                 struct memopt_error *error) {
    struct mo_origin origin;
    if (mo_config_get(config, section, key, &origin) == NULL || origin.file == NULL)
        return mo_error_prefix(error, "[%s]", section);
    if (origin.kind == MO_ORIGIN_FILE)
        return mo_error_prefix(error, "%s:%d: [%s]", origin.file, origin.line, section);
    return mo_error_prefix(error, "%s: [%s]", origin.file, section);
}

static int load(const char *file, int only_file, struct mo_config **ret_config,
                struct memopt_error *error) {
    struct mo_config_request request = {.file = file, .only_file = only_file};
    return mo_config_load(&request, ret_config, error);
}

/* With the mutex held. */
static int start(const char *config_file, struct memopt_error *error) {
    if (runtime.ready)
        return 0;
    const struct mo_program_services *services = mo_runtime_services();
    int code = mo_fork_install(error);
    if (code < 0)
        return code;
    mo_note_fn sink = mo_notes_sink(services);
    mo_host_set_note(sink);
    struct mo_config *run = NULL, *own = NULL;
    char path[PATH_MAX] = "";
    int from = -1;
    if (services != NULL && services->run_directory != NULL &&
        (from = mo_rundir_open(services->run_directory, NULL)) >= 0)
        snprintf(path, sizeof(path), "/proc/self/fd/%d/settings.ini", from);
    /* A process that outlives its run finds the directory gone, or another one. */
    if (path[0] != '\0' && access(path, F_OK) == 0) {
        code = load(path, 1, &run, error);
        if (code == 0 && config_file != NULL)
            code = load(config_file, 1, &own, error);
    } else {
        code = load(config_file, 0, &own, error);
    }
    mo_rundir_close(from);
    struct mo_settings_memopt settings;
    if (code == 0)
        code = mo_config_fill(run != NULL ? run : own, "memopt", mo_section_memopt.table,
                              &settings, error);
    for (size_t i = 0; code == 0 && i < settings.plugin_path.count; i++)
        code = mo_plugin_add_directory(settings.plugin_path.items[i], error);
    if (code < 0) {
        mo_config_free(run);
        mo_config_free(own);
        return code;
    }
    mo_host.in_program = 1;
    mo_events_go_to(sink);
    runtime.run = run;
    runtime.own = own;
    runtime.allocator = settings.allocator;
    runtime.ready = 1;
    return 0;
}

static int start_as_memopts(const char *config_file, struct memopt_error *error) {
    mo_runtime_own_begin();
    int code = start(config_file, error);
    mo_runtime_own_end();
    return code;
}

int memopt_init(const char *config_file, struct memopt_error *error) {
    int code = mo_runtime_enter(error, "read the configuration");
    if (code < 0)
        return code;
    if (runtime.ready)
        code = mo_fail(error, -EALREADY,
                       "the configuration has been read already: call memopt_init() before any "
                       "other function of the library");
    else
        code = start_as_memopts(config_file, error);
    mo_runtime_leave();
    return code;
}

int mo_runtime_start(struct memopt_error *error) {
    return start_as_memopts(NULL, error);
}

int memopt_config_get(const char *section, const char *key, const char **ret_text,
                      struct memopt_error *error) {
    int code = section == NULL || key == NULL || ret_text == NULL
                   ? mo_fail(error, -EINVAL, "memopt_config_get: an argument is NULL")
                   : mo_runtime_enter(error, "read the configuration");
    if (code < 0)
        return code;
    code = mo_runtime_start(error);
    if (code == 0)
        *ret_text = mo_config_get(mo_runtime_config(section), section, key, NULL);
    mo_runtime_leave();
    return code;
}

int memopt_config_blame(const char *section, const char *key, struct memopt_error *error) {
    if (section == NULL || key == NULL || error == NULL)
        return -EINVAL;
    int had_it = mo_runtime_lock();
    int code = runtime.ready ? blame(mo_runtime_config(section), section, key, error) : error->code;
    mo_runtime_unlock(had_it);
    return code;
}
