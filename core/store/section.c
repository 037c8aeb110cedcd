/* section.c - see section.h. */
#include "core/store/section.h"

static const char *const store_kinds[] = {
    [MO_STORE_RAM] = "ram",
    [MO_STORE_MMAP] = "mmap",
    [MO_STORE_STREAM] = "stream",
    NULL,
};
static const struct memopt_option options[] = {
    MEMOPT_OPT_ENUM(struct mo_settings_store, kind, "kind", "ram", store_kinds,
                    "where parameters and state are kept"),
    MEMOPT_OPT_SIZE(struct mo_settings_store, budget, "budget", "128MiB", "1MiB", NULL,
                    "most bytes of RAM a store may hold"),
    MEMOPT_OPT_END,
};

const struct mo_section_def mo_section_store = {
    .name = "store",
    .help = "parameter stores",
    .table = MO_SECTION_TABLE(options),
    .settings_size = sizeof(struct mo_settings_store),
    .flags = MO_SECTION_OPTIONAL,
};
