/*
 * trial.h - what of a plugin is tried in a separate process before memopt or a program
 * depends on it: that it can be loaded, as its constructors may end the process, and
 * that an allocator takes its settings, as what an option table can't say ("a power of
 * two") only its open() knows.
 */
#ifndef MO_LAUNCH_TRIAL_H
#define MO_LAUNCH_TRIAL_H

#include "core/config/config.h"
#include "core/plugin/registry.h"

/* Loads it in a separate process. Fails only if that ends: mo_plugin_load() says of
 * anything else what is wrong. For mo_plugin_set_trial(). */
int mo_try_plugin(const char *path, struct memopt_error *error);

/* Opens it in a separate process. Only where its section has values, and not if its
 * library can't be opened but has to be preloaded (MEMOPT_ALLOCATOR_PRELOAD); 0 then,
 * too, and for failures that don't come from the settings (no memory, no permission). -EINVAL,
 * -ERANGE, -ENOTSUP: the plugin's message, and where the value stands. `error` not NULL. */
int mo_try_settings(struct mo_config *config, struct mo_plugin *plugin, struct memopt_error *error);

#endif
