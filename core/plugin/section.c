/* section.c - see section.h. */
#include "core/plugin/section.h"

static const char *const bindings[] = {
    [MO_BINDING_AUTO] = "auto",
    [MO_BINDING_DIRECT] = "direct",
    [MO_BINDING_DISPATCH] = "dispatch",
    NULL,
};
static const struct memopt_option options[] = {
    MO_OPT_STRING(
        struct mo_settings_memopt, allocator, "allocator", "libc", MEMOPT_ALLOCATOR | MO_ROW_MALLOC,
        "the backend of the program's malloc: a name, or a plugin's absolute path; unset: "
        "libc, or the library whose own functions (mallocx) the program calls"),
    MEMOPT_OPT_ENUM(struct mo_settings_memopt, binding, "binding", "auto", bindings,
                    "direct: the backend's own library, exactly as preloaded by hand; dispatch: "
                    "through memopt, which gives every backend glibc's semantics; auto: direct "
                    "where nothing has to be done per call"),
    MO_OPT_LIST(struct mo_settings_memopt, trackers, "trackers", NULL, NULL, MEMOPT_TRACKER,
                "what watches each allocation, in order; empty: nothing"),
    MO_OPT_LIST(struct mo_settings_memopt, reporters, "reporters", "text", NULL, MEMOPT_REPORTER,
                "what is made of the run at its end"),
    MEMOPT_OPT_BOOL(struct mo_settings_memopt, follow, "follow", "yes",
                    "whether programs that the program starts are watched too"),
    MO_OPT_LIST(struct mo_settings_memopt, plugin_path, "plugin_path", NULL, NULL,
                MO_ROW_PLUGIN_PATH,
                "directories that are searched for plugins first: absolute paths of "
                "directories that are there"),
    MEMOPT_OPT_END,
};

const struct mo_section_def mo_section_memopt = {
    .name = "memopt",
    .help = "what runs",
    .table = MO_SECTION_TABLE(options),
    .settings_size = sizeof(struct mo_settings_memopt),
};
