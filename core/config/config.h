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
 * A section belongs to its module, which says what is special about its keys
 * (core/option/section.h: how to add one); nothing here knows a section by name.
 * The files are listed in parts.h.
 */
#ifndef MO_CONFIG_CONFIG_H
#define MO_CONFIG_CONFIG_H

#include "core/option/section.h"

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
    const struct mo_section_def *def; /* NULL: a plugin's section */
    struct mo_plugin *plugin;         /* NULL: a core section */
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

/* The sections that this program knows, besides those of plugins, in the order in which
 * they are shown; ends with NULL. Every program has a list of its own (the one of memopt and
 * libmemopt: core/sections/sections.c). */
extern const struct mo_section_def *const mo_sections[];
const struct mo_section_def *mo_section_def(const char *name); /* NULL: none is called so */
/* As mo_section_describe(), of "heap" too, which stands for every heap.NAME. */
void mo_section_of_def(const struct mo_section_def *def, const char *name,
                       struct mo_section *ret_section);

/* The whole effective configuration as an INI that load() would read back to
 * the same: it has refused values that can't be. Every value on one line,
 * `[section]` and `key = value` only: the shim reads this form with a reader of
 * its own (core/option/flat.h). */
int mo_config_write(const struct mo_config *config, FILE *stream, struct memopt_error *error);

#endif
