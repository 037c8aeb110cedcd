/*
 * trial.h - whether an allocator plugin takes its settings, before a program
 * depends on it: what an option table can't say ("a power of two") only its
 * open() knows.
 */
#ifndef MO_LAUNCH_TRIAL_H
#define MO_LAUNCH_TRIAL_H

#include "core/config/config.h"
#include "core/plugin/registry.h"

/* Opens it in a separate process. Only where its section has values, and not if its
 * library can't be opened but has to be preloaded (MEMOPT_ALLOCATOR_PRELOAD); 0 then,
 * too, and for failures that don't come from the settings (no memory, no permission). -EINVAL,
 * -ERANGE, -ENOTSUP: the plugin's message, and where the value stands. `error` not NULL. */
int mo_try_settings(struct mo_config *config, struct mo_plugin *plugin, struct memopt_error *error);

#endif
