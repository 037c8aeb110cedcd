/* section.c - see section.h. */
#include "core/pressure/section.h"

#include "core/heap/section.h"

static const char *const pressure_sources[] = {"heap",   "rss", "address_space",
                                               "cgroup", "psi", NULL};
static const struct memopt_option options[] = {
    MO_OPT_LIST(struct mo_settings_pressure, sources, "sources",
                "heap, rss, address_space, cgroup, psi", pressure_sources, MO_ROW_NOT_EMPTY,
                "what is watched, as far as it is there"),
    MEMOPT_OPT_LIST(struct mo_settings_pressure, steps, "steps", "purge, shrink, spill, fail",
                    mo_limit_steps,
                    "what may be done: purge at warn, shrink at high, spill at critical, fail at "
                    "the limit"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, warn, "warn", "80%", "1%", "100%",
                     "part of a limit at which memory is given back before it is reached"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, high, "high", "90%", "1%", "100%",
                     "part of a limit at which consumers are told to use less"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, critical, "critical", "95%", "1%", "100%",
                     "part of a limit at which heaps that can spill do"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, psi_warn, "psi_warn", "10%", "0.1%", "100%",
                     "the same as warn, of the time that tasks wait for memory"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, psi_high, "psi_high", "25%", "0.1%", "100%",
                     "the same as high, of the time that tasks wait for memory"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, psi_critical, "psi_critical", "50%", "0.1%",
                     "100%", "the same as critical, of the time that tasks wait for memory"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, hysteresis, "hysteresis", "5%", "0.1%", "50%",
                     "how far below its threshold a level ends"),
    MEMOPT_OPT_SIZE(struct mo_settings_pressure, budget, "budget", NULL, "1MiB", NULL,
                    "memory that rss is measured against; unset: the machine's"),
    MEMOPT_OPT_DURATION(struct mo_settings_pressure, interval, "interval", "250ms", "1ms", "1h",
                        "time between two looks"),
    MEMOPT_OPT_PATH(struct mo_settings_pressure, spill_dir, "spill_dir", "/var/tmp",
                    "the directory of the files that heaps spill to, on a disk"),
    MEMOPT_OPT_INT(struct mo_settings_pressure, purge_every, "purge_every", "100", "0", NULL,
                   "steps", "steps of a program between two purges; 0: none by steps"),
    MEMOPT_OPT_DURATION(struct mo_settings_pressure, purge_idle, "purge_idle", NULL, "1ms", "1d",
                        "time without a step after which a program purges; unset: never"),
    MEMOPT_OPT_END,
};

/* A step that comes after another can't be due before it. */
static void check(const struct mo_judged *judged) {
    const struct mo_settings_pressure *settings = judged->settings;
    const struct {
        const char *lower, *upper;
        double low, high;
    } pairs[] = {
        {"warn", "high", settings->warn, settings->high},
        {"high", "critical", settings->high, settings->critical},
        {"psi_warn", "psi_high", settings->psi_warn, settings->psi_high},
        {"psi_high", "psi_critical", settings->psi_high, settings->psi_critical},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++)
        if (pairs[i].low > pairs[i].high)
            judged->disordered(judged, pairs[i].lower, pairs[i].upper);
}

const struct mo_section_def mo_section_pressure = {
    .name = "pressure",
    .help = "what happens when memory runs short",
    .table = MO_SECTION_TABLE(options),
    .settings_size = sizeof(struct mo_settings_pressure),
    .flags = MO_SECTION_OPTIONAL,
    .check = check,
};
