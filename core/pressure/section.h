/* section.h - [pressure]: see core/option/section.h. */
#ifndef MO_PRESSURE_SECTION_H
#define MO_PRESSURE_SECTION_H

#include "core/option/section.h"

/* [pressure] */
struct mo_settings_pressure {
    struct memopt_list sources;              /* heap, rss, address_space, cgroup, psi */
    struct memopt_list steps;                /* purge, shrink, spill, fail */
    double warn, high, critical;             /* 0 to 1 */
    double psi_warn, psi_high, psi_critical; /* likewise */
    double hysteresis;
    uint64_t budget;       /* bytes; UINT64_MAX: the machine's memory */
    uint64_t interval;     /* ns */
    const char *spill_dir; /* absolute */
    int64_t purge_every;   /* steps; 0: never */
    uint64_t purge_idle;   /* ns; UINT64_MAX: never */
};

extern const struct mo_section_def mo_section_pressure;

#endif
