/*
 * config.h - the effective configuration: which value every key has, and why.
 *
 * Layers, later over earlier: built-in defaults, $(sysconfdir)/memopt/memopt.ini,
 * $XDG_CONFIG_HOME/memopt/memopt.ini (~/.config), ./memopt.ini, then $MEMOPT_CONF
 * or -c FILE, then --set section.key=value. In a secure-execution context only
 * the first two count.
 *
 * Everything is checked while loading: unknown sections and keys, types, ranges,
 * heaps and plugins that are named but are not there. All errors of all files
 * are reported at once.
 *
 * Used by the memopt command and libmemopt; never inside a program that only
 * has the shim. Ownership: mo_config owns every string it hands out.
 */
#ifndef MO_CONFIG_CONFIG_H
#define MO_CONFIG_CONFIG_H

#include "core/config/option.h"

#include <stdio.h>

struct mo_config;

enum mo_origin_kind {
    MO_ORIGIN_DEFAULT, /* the option table */
    MO_ORIGIN_FILE,
    MO_ORIGIN_SET, /* --set, or a short form of it */
};
struct mo_origin {
    enum mo_origin_kind kind;
    const char *file; /* FILE: its path; SET: "--set" or the short form ("-a") */
    int line;
};

/* One `--set`; `label` is how to name it in messages. Order counts. */
struct mo_config_set {
    const char *assignment; /* "section.key=value" */
    const char *label;      /* "--set", "-a", … */
};
struct mo_config_request {
    const char *file; /* -c, or NULL */
    const struct mo_config_set *sets;
    size_t set_count;
    int only_file; /* `config check -c FILE`: read no other file */
};

/* Loads and checks. On failure error->message has every error, one a line, as
 * `file:line: …`. */
int mo_config_load(const struct mo_config_request *request, struct mo_config **ret_config,
                   struct memopt_error *error);
void mo_config_free(struct mo_config *config);

/* The text of a value (default included), or NULL if unset. */
const char *mo_config_get(const struct mo_config *config, const char *section, const char *key,
                          struct mo_origin *ret_origin);
/* Fills a settings struct from a section by its table. Strings live as long as
 * the config. A section that is nowhere gives the defaults. */
int mo_config_fill(struct mo_config *config, const char *section, struct mo_option_table table,
                   void *settings, struct memopt_error *error);

/* The sections that have values in a file or --set, in order of first mention.
 * With `prefix` ("heap."): only those, given without it. NULL: no more. */
const char *mo_config_section(const struct mo_config *config, const char *prefix, size_t index);

/* The core sections' tables: "memopt", "monitor", "pressure", "optimizer",
 * "store", "heap" (for every heap.NAME). */
struct mo_core_section {
    const char *name;
    const char *help;
    struct mo_option_table table;
    size_t settings_size;
};
const struct mo_core_section *mo_core_section(const char *name);
const struct mo_core_section *mo_core_section_at(size_t index); /* NULL: no more */

enum mo_binding { MO_BINDING_AUTO, MO_BINDING_DIRECT, MO_BINDING_DISPATCH };
/* [memopt] */
struct mo_settings_memopt {
    const char *allocator;        /* name or absolute path */
    int binding;                  /* enum mo_binding */
    struct memopt_list trackers;
    struct memopt_list reporters;
    int follow;
    struct memopt_list plugin_path; /* absolute directories, searched first */
};
/* [heap.NAME] */
struct mo_settings_heap {
    const char *allocator; /* NULL: that of [memopt] */
    uint64_t limit;        /* UINT64_MAX: none */
    struct memopt_list on_limit; /* purge, spill, fail, … in order */
    uint64_t region;       /* size of a fixed region for the arena allocator; UINT64_MAX: none */
};
/* [monitor] */
struct mo_settings_monitor {
    uint64_t interval; /* ns */
};

/* [pressure] */
struct mo_settings_pressure {
    double warn;
};
/* [optimizer] */
struct mo_settings_optimizer {
    const char *name;
    double lr;
    const char *state; /* "heap:NAME", "store:PATH" or NULL */
};
enum mo_store_kind { MO_STORE_RAM, MO_STORE_MMAP, MO_STORE_STREAM };
/* [store] */
struct mo_settings_store {
    int kind; /* enum mo_store_kind */
    uint64_t budget;
};

/* The whole effective configuration as an INI that load() would read back to
 * the same. Every value on one line, `[section]` and `key = value` only: the
 * shim reads this form with a reader of its own (core/config/flat.h). */
int mo_config_write(const struct mo_config *config, FILE *stream, struct memopt_error *error);

#endif
