/*
 * stats - counts what the program allocates: calls, bytes, live, peak, and a
 * histogram of the sizes asked for, per thread and merged, and by named heap.
 *
 * memopt counts by itself wherever a tracker asks for it (MEMOPT_TRACKER_COUNTS); this one
 * does no more than that, and so hears of no event.
 */
#include "config.h"

#include <memopt/plugin.h>

static const struct memopt_tracker_ops ops = {
    .size = sizeof(ops),
    .flags = MEMOPT_TRACKER_COUNTS,
    .state_version = 4,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_TRACKER),
    .name = "stats",
    .version = PACKAGE_VERSION,
    .summary = "counts calls, bytes, live, peak and sizes, for each thread, heap and the process",
    .ops = &ops,
};
