/*
 * config.h - the effective configuration: which value every key has, and why.
 *
 * Layers, later over earlier: built-in defaults, $(sysconfdir)/memopt/memopt.ini,
 * $XDG_CONFIG_HOME/memopt/memopt.ini (~/.config), ./memopt.ini, then $MEMOPT_CONF
 * or -c FILE, then --set section.key=value. In a secure-execution context only
 * the first two count, and -c and --set are refused.
 *
 * The user's file and ./memopt.ini apply only if nobody but the user and root can have
 * written them (core/base/trust.h); else they are noted and skipped. A file that is named
 * is read whoever owns it, with a note.
 *
 * Everything is checked while loading: unknown sections and keys, types, ranges,
 * heaps and plugins that are named but are not there. All errors of all files
 * are reported at once. Each file is checked whole, also what a later one
 * overrides; but that the plugins in use are there is checked of the effective
 * names only.
 *
 * A section may come several times in a file, its parts add up; a key that
 * comes twice in one section of one file is an error. Text after ` ;` is a
 * comment. Relative paths begin at the directory of the file that has them.
 *
 * Used by the memopt command and libmemopt; never inside a program that only
 * has the shim. Ownership: mo_config owns every string it hands out. Threads:
 * loading loads plugins, so one at a time (core/plugin/registry.h); a loaded
 * configuration may be read by several, but mo_config_fill() may not.
 *
 * To add a key to a core section: a row in sections.c and a field in its
 * settings struct below; `make -C BUILD man-reference` renews memopt.ini(5).
 * tests/test_cli_config.sh fails while the manual differs from the tables.
 */
#ifndef MO_CONFIG_CONFIG_H
#define MO_CONFIG_CONFIG_H

#include "core/option/option.h"

#include <stdio.h>

struct mo_config;
struct mo_plugin;

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
    const char *file; /* -c, or NULL: $MEMOPT_CONF */
    const struct mo_config_set *sets;
    size_t set_count;
    int only_file; /* `config check -c FILE`: read no other file */
    /* NULL, or told of every error in turn: error->message holds as many as fit
     * and says how many more there are. */
    void (*each_error)(void *context, const char *message);
    void *context;
};

/* Loads and checks. On failure error->message has the errors, one a line, as
 * `file:line: …`. -EINVAL, or why a file can't be read, or -ENOMEM. */
int mo_config_load(const struct mo_config_request *request, struct mo_config **ret_config,
                   struct memopt_error *error);
/* The same from memory, over the defaults only; `name` is what messages call
 * it, relative paths begin at `directory`. */
int mo_config_load_text(const char *name, const char *directory, const void *text, size_t size,
                        struct mo_config **ret_config, struct memopt_error *error);
void mo_config_free(struct mo_config *config); /* NULL: nothing */

/* The path of a profile that memopt brings ("low-rss"), to give as a file. -ENOENT: there
 * is none of that name; the message lists those there are. */
int mo_config_profile(const char *name, char *buffer, size_t size, struct memopt_error *error);

/* The text of a value (default included), or NULL if unset. Of plugins' sections
 * those are known that are in use or have values. */
const char *mo_config_get(const struct mo_config *config, const char *section, const char *key,
                          struct mo_origin *ret_origin);
/* Gives a key of a core section another value, which must be a valid one; `label` says
 * why, as that of a mo_config_set does. */
int mo_config_put(struct mo_config *config, const char *section, const char *key, const char *value,
                  const char *label, struct memopt_error *error);
/* Puts before the message where the value stands, if it is not the default; gives
 * error->code. */
int mo_config_blame(const struct mo_config *config, const char *section, const char *key,
                    struct memopt_error *error);
/* Fills a settings struct from a section by its table. Strings live as long as
 * the config. A section that is nowhere gives the defaults. */
int mo_config_fill(struct mo_config *config, const char *section, struct mo_option_table table,
                   void *settings, struct memopt_error *error);

/* The sections that stand in a file or --set: the core ones, then the others in
 * order of first mention. With `prefix` ("heap."): only those, given without
 * it. NULL: no more. */
const char *mo_config_section(const struct mo_config *config, const char *prefix, size_t index);

/* What a section may hold. */
struct mo_section {
    const char *name; /* "memopt", "heap.gradients", "reporter.json" */
    const char *help;
    struct mo_option_table table;
    size_t settings_size;
    struct mo_plugin *plugin; /* NULL: a core section */
    /* the key `output`, which every reporter has besides its own; key NULL: none */
    struct memopt_option output;
};
/* All sections that count: the core ones, then those of plugins in use and
 * those that are mentioned. NULL: no more. */
const struct mo_section *mo_config_section_at(const struct mo_config *config, size_t index);
/* Any section by name, mentioned or not; may load the plugin. `name` must live
 * as long as the result. `config` may be NULL: only plugins with a name are
 * then found, not those it names by path. */
int mo_section_describe(const struct mo_config *config, const char *name,
                        struct mo_section *ret_section, struct memopt_error *error);
/* That of a plugin; `name` must live as long as the result. */
void mo_section_of_plugin(struct mo_plugin *plugin, const char *name,
                          struct mo_section *ret_section);
/* The rows of the table and `output`; NULL: no more. */
const struct memopt_option *mo_section_option(const struct mo_section *section, size_t index);

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
    const char *allocator; /* name or absolute path */
    int binding;           /* enum mo_binding */
    struct memopt_list trackers;
    struct memopt_list reporters;
    int follow;
    struct memopt_list plugin_path; /* absolute directories, searched first */
};
/* [heap.NAME] */
struct mo_settings_heap {
    const char *allocator;       /* NULL: that of [memopt] */
    uint64_t limit;              /* UINT64_MAX: none */
    struct memopt_list on_limit; /* purge, shrink, spill, fail in order */
    uint64_t region;      /* size of a fixed region for the arena allocator; UINT64_MAX: none */
    uint64_t spill_limit; /* UINT64_MAX: none */
};
/* [monitor] */
struct mo_settings_monitor {
    uint64_t interval; /* ns */
};
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
enum mo_rounding { MO_ROUNDING_MASTER, MO_ROUNDING_STOCHASTIC, MO_ROUNDING_NEAREST };
enum mo_state_format { MO_STATE_FP32, MO_STATE_8BIT };
/* [optimizer]; core/optim/optim.h says how a setting that only some optimizers
 * have is added. */
struct mo_settings_optimizer {
    int name; /* index in mo_optimizer_names */
    double lr, weight_decay;
    double momentum, dampening;
    int nesterov;
    double beta1, beta2, eps;
    int amsgrad;
    double lr_decay, initial_accumulator;
    double alpha;
    int centered;
    double rho;
    double momentum_decay;
    double rectify_above;
    double trust;
    double beta2_decay, clip_threshold, eps_scale;
    int relative_step, scale_parameter;
    int64_t max_iter, max_eval, history;
    double tolerance_grad, tolerance_change;
    int maximize;
    int rounding;     /* enum mo_rounding */
    int state_format; /* enum mo_state_format */
    int64_t seed;
    double clip_norm;
    int skip_nonfinite;
    int64_t accumulate;
    int64_t threads;
    int64_t lookahead; /* updates between its steps; 0: none */
    double lookahead_alpha;
    double sam; /* radius; 0: none */
    int sam_adaptive;
    const char *state; /* "heap:NAME", "store:/PATH", or NULL */
};
extern const char *const mo_optimizer_names[]; /* ends with NULL */
enum mo_store_kind { MO_STORE_RAM, MO_STORE_MMAP, MO_STORE_STREAM };
/* [store] */
struct mo_settings_store {
    int kind;        /* enum mo_store_kind */
    uint64_t budget; /* bytes */
};

/* The whole effective configuration as an INI that load() would read back to
 * the same: it has refused values that can't be. Every value on one line,
 * `[section]` and `key = value` only: the shim reads this form with a reader of
 * its own (core/option/flat.h). */
int mo_config_write(const struct mo_config *config, FILE *stream, struct memopt_error *error);

#endif
