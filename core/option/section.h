/*
 * section.h - what a module says of its section of the INI: [pressure] is a constant
 * struct mo_section_def in core/pressure/section.c. The engine (core/config) knows no
 * section and no key: what is special of one is a flag or a function here.
 *
 * A section's file has no code but what judges values, so that a program that checks a
 * whole INI (the memopt command, libmemopt) can have the sections of modules it doesn't
 * run. The program's list of those it knows is mo_sections (core/config/config.h); the shim
 * has only those it reads, and no list.
 *
 * To add a key: a row in the module's section.c and a field in the settings struct of its
 * section.h; `make -C BUILD man-reference` renews memopt.ini(5). tests/test_cli_config.sh
 * fails while the manual differs from the tables. To add a section: a file like those, and
 * a line in core/sections/sections.c.
 */
#ifndef MO_OPTION_SECTION_H
#define MO_OPTION_SECTION_H

#include "core/option/option.h"

/* memopt_option.flags, of a row of such a table. */
enum {
    /* the value names a plugin of this kind, or several: it must be there */
    MO_ROW_KIND = 3u, /* mask of enum memopt_plugin_kind */
    /* ... and the program's malloc is to be its */
    MO_ROW_MALLOC = 1u << 2,
    /* a list of absolute directories that are there: they are searched for plugins */
    MO_ROW_PLUGIN_PATH = 1u << 3,
    MO_ROW_NOT_EMPTY = 1u << 4,
    /* where output goes: a file's name may have %p, %t and %e */
    MO_ROW_OUTPUT = 1u << 5,
};
#define MO_OPT_STRING(S, F, K, V, FLAGS, H)                                                        \
    { K, MEMOPT_STRING, MEMOPT_OPTION_AT(S, F, const char *), V, NULL, NULL, NULL, NULL, H, FLAGS }
#define MO_OPT_LIST(S, F, K, V, CH, FLAGS, H)                                                      \
    {                                                                                              \
        K, MEMOPT_LIST, MEMOPT_OPTION_AT(S, F, struct memopt_list), V, NULL, NULL, CH, NULL, H,    \
            FLAGS                                                                                  \
    }

/* A section to be judged, its values together. */
struct mo_judged {
    const char *name;     /* what follows the '.' of [heap.NAME]; "" without one */
    const void *settings; /* by the table; a refused value isn't in them */
    /* The value of `key` can't be. */
    void (*wrong)(const struct mo_judged *judged, const char *key, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
    /* The value of `upper` is below that of `lower`: the later one of them is reported. */
    void (*disordered)(const struct mo_judged *judged, const char *lower, const char *upper);
};

/* One value to be judged, which is one of its row by type and range. */
struct mo_judged_value {
    const struct memopt_option *option;
    const char *text;
    const char *directory; /* where relative paths begin */
    const struct mo_allocator *allocator;
};

enum {
    MO_SECTION_NAMED = 1u << 0,    /* there are several, [heap.NAME] each */
    MO_SECTION_OPTIONAL = 1u << 1, /* not written by mo_config_write() while nothing is set */
};
struct mo_section_def {
    const char *name;
    const char *help;
    struct mo_option_table table;
    size_t settings_size;
    uint32_t flags;
    /* Each may be NULL. check_name: of MO_SECTION_NAMED, whether NAME may be one.
     * check_value: what the row can't say of one value; may give it another text.
     * check: what can't be said of one value by itself. */
    int (*check_name)(const char *name, struct memopt_error *error);
    int (*check_value)(const struct mo_judged_value *value, const char **ret_text,
                       struct memopt_error *error);
    void (*check)(const struct mo_judged *judged);
};
#define MO_SECTION_TABLE(OPTIONS)                                                                  \
    { OPTIONS, sizeof((OPTIONS)[0]) }

#endif
