/* section.h - [memopt]: what runs. Also inside the watched program: see core/option/section.h. */
#ifndef MO_PLUGIN_SECTION_H
#define MO_PLUGIN_SECTION_H

#include "core/option/section.h"

enum mo_binding { MO_BINDING_AUTO, MO_BINDING_DIRECT, MO_BINDING_DISPATCH };
/* [memopt] */
struct mo_settings_memopt {
    const char *allocator; /* name or absolute path */
    int binding;           /* enum mo_binding */
    struct memopt_list trackers;
    struct memopt_list reporters;
    int follow;
    struct memopt_list plugin_path; /* absolute directories, searched first */
};

extern const struct mo_section_def mo_section_memopt;

#endif
