/* section.h - [monitor]: see core/option/section.h. */
#ifndef MO_LAUNCH_SECTION_H
#define MO_LAUNCH_SECTION_H

#include "core/option/section.h"

/* [monitor] */
struct mo_settings_monitor {
    uint64_t interval; /* ns */
};

extern const struct mo_section_def mo_section_monitor;

#endif
