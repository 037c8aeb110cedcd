/*
 * registry.h - finds plugins, loads and checks them, fills in what is missing.
 *
 *   place.c  directories, the build tree, the installed tree; what is trusted
 *   find.c   a plugin by name; all plugins; an allocator's library
 *   check.c  the descriptor, its options, its operations; defaults
 *   load.c   dlopen and what its failures mean; opening an allocator
 *   host.c   what plugins may call
 *
 * A plugin is looked for by name in, in this order: the directories of
 * `plugin_path`, those of $MEMOPT_PLUGIN_PATH (not in a secure-execution
 * context), the build tree if memopt runs from one, the installed directory.
 * By path, it must be absolute.
 *
 * A directory or a file that others than the user and root can have written
 * (core/base/trust.h) is noted and skipped; one that is named by path is refused.
 * What lies in memopt's own directory is trusted as memopt itself is.
 *
 * What load gives back is a copy of the descriptor and of its operations in
 * structs of the current size, zeroed and then completed with the defaults of
 * memopt/plugin.h, so nobody else tests for NULL or for an older minor, but for
 * what the manual marks "may be NULL" and a tracker's alloc, free, refused and
 * thread_end, which stay NULL so that the chain can pass over them. Plugins are
 * never unloaded; loading one twice gives the same object. Not thread-safe: load
 * at start-up.
 *
 * May be used inside the watched program (shim's constructor) and outside, so memory is
 * mo_sys_alloc()'s, directories are read by system call (opendir allocates), and nothing is
 * printed.
 */
#ifndef MO_PLUGIN_REGISTRY_H
#define MO_PLUGIN_REGISTRY_H

#include "core/option/option.h"

#include <memopt/plugin.h>

struct mo_plugin {
    struct memopt_plugin descriptor;
    char *path;
    void *handle;
    struct mo_option_table table;
    union {
        struct memopt_allocator_ops allocator;
        struct memopt_tracker_ops tracker;
        struct memopt_reporter_ops reporter;
    } ops;
    int has_heaps; /* allocator: it has heap_create */
    int opened;    /* allocator: mo_plugin_open_allocator() has succeeded */
    struct memopt_malloc malloc;
    struct mo_plugin *next;
};

/* Directories to search before all others; strings are copied. */
int mo_plugin_add_directory(const char *directory, struct memopt_error *error);

/* From now on absolute paths are not judged: they come from memopt run, which has loaded
 * what they name. For its children, where each call counts. */
void mo_plugin_vouch_for_paths(void);

/* Called before a file is loaded that is not in memopt's own directory; its failure is that
 * of mo_plugin_load(). For the memopt command, which a plugin's constructor must not end. */
typedef int (*mo_plugin_trial_fn)(const char *path, struct memopt_error *error);
void mo_plugin_set_trial(mo_plugin_trial_fn trial);

/* `kind` 0: of any kind, for a path. On failure the message says which plugin, what is wrong, and
 * what to do; for an unknown name, the nearest known ones. */
int mo_plugin_load(enum memopt_plugin_kind kind, const char *name_or_path,
                   struct mo_plugin **ret_plugin, struct memopt_error *error);

/* Opens an allocator, checks the operations it gives and fills those it leaves
 * out; the table stays at its address. A second call gives the same table, so
 * the settings are those of the first. Call this rather than ops.allocator.open. */
int mo_plugin_open_allocator(struct mo_plugin *plugin, const void *settings,
                             const struct memopt_malloc **ret_malloc, struct memopt_error *error);

/* The package that a backend of memopt's own needs when it is built; NULL: no
 * such backend. What has a package but no plugin was left out of this build. */
const char *mo_plugin_build_package(enum memopt_plugin_kind kind, const char *name);

/* Every plugin file that can be found, by name and path, without loading it,
 * sorted by kind and name; the first of a name shadows the others. The callback
 * returns non-zero to stop, and that is returned. */
typedef int (*mo_plugin_found_fn)(void *context, enum memopt_plugin_kind kind, const char *name,
                                  const char *path);
/* Whether MEMOPT_PLUGIN_PATH and plugin_path can be used as they are; those of them that can't
 * be are no reason for each() to stop, but are one for load() by name. */
int mo_plugin_check_directories(struct memopt_error *error);
int mo_plugin_each(mo_plugin_found_fn found, void *context);

const char *mo_plugin_kind_name(enum memopt_plugin_kind kind);   /* "allocator", … */
const char *mo_plugin_kind_prefix(enum memopt_plugin_kind kind); /* "alloc-", … */

/* Whether a plugin file is in memopt's own directory. */
bool mo_plugin_is_own(const char *path);

/* The absolute path of a library or program of memopt's own ("libmemopt-preload.so",
 * "conformance"), or -ENOENT: next to the build tree or installed. */
int mo_plugin_own_library(const char *name, char *buffer, size_t size, struct memopt_error *error);

/* The directory of the profiles that memopt brings: in the build tree or installed. */
int mo_plugin_own_profiles(char *buffer, size_t size, struct memopt_error *error);

/* An allocator's backend library, beside the plugin or as dlopen would find it: fills
 * `buffer` with the path or soname, or says which package has it. 0 and "" if it needs
 * none. */
int mo_plugin_backend_library(const struct mo_plugin *plugin, char *buffer, size_t size,
                              struct memopt_error *error);

/* The services handed to plugins; `note` is set once by the owner of the
 * process (the shim: into the ledger; memopt: into the report). A note of level
 * ERROR has been written to stderr when it gets there. So has an event, which has
 * level ERROR and a `kind`; in a note that is NULL. */
typedef void (*mo_note_fn)(int level, const char *kind, const char *text);
extern struct memopt_host mo_host;
void mo_host_set_note(mo_note_fn note);
/* A note of level WARNING, unless this process has had the same one before. */
void mo_note_once(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
