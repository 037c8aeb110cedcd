/* section.c - see section.h. */
#include "core/launch/section.h"

static const struct memopt_option options[] = {
    MEMOPT_OPT_DURATION(
        struct mo_settings_monitor, interval, "interval", "1s", "10ms", "1h",
        "time between two looks at processes from outside; while a run is young there "
        "are more"),
    MEMOPT_OPT_END,
};

const struct mo_section_def mo_section_monitor = {
    .name = "monitor",
    .help = "watching processes from outside",
    .table = MO_SECTION_TABLE(options),
    .settings_size = sizeof(struct mo_settings_monitor),
    .flags = MO_SECTION_OPTIONAL,
};
