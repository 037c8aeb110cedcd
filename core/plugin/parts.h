/*
 * parts.h - what the files of the registry have from each other; registry.h is what
 * others use, and says what is in which.
 */
#ifndef MO_PLUGIN_PARTS_H
#define MO_PLUGIN_PARTS_H

#include "core/plugin/registry.h"

#include <limits.h>

enum { MO_PLUGIN_NAME_MAX = 31 };

/* What a kind is called and how much of its operations struct must be there. */
struct mo_kind {
    const char *name, *prefix;
    size_t ops_size, ops_least;
    const char *last_must; /* the operation ops_least ends with */
};
const struct mo_kind *mo_kind(uint32_t kind); /* NULL: there is none */

/* -------------------------------------------------------------------- place.c */

/* dir/name; false: it does not fit. */
bool mo_place_join(char *buffer, size_t size, const char *directory, const char *name);
/* Cuts the last component off; false at the root. */
bool mo_place_parent(char *path);
/* mo_plugin_vouch_for_paths() was called. */
bool mo_place_vouched(void);
/* Calls back for each directory in the order of the search, until it returns non-zero. One
 * that is not trusted is left out. A relative one in the environment is an error, or passed
 * over if `strict` is false. */
typedef int (*mo_directory_fn)(void *context, const char *directory);
int mo_place_each(mo_directory_fn visit, void *context, bool strict, struct memopt_error *error);
/* The path of a file: 1 if it is there and may be used; 0: it is not there, or not trusted,
 * which is noted; negative errno: that can't be found out. */
int mo_place_take(const char *directory, const char *name, char path[PATH_MAX],
                  struct memopt_error *error);

/* --------------------------------------------------------------------- find.c */

int mo_find_plugin(enum memopt_plugin_kind kind, const char *name, char path[PATH_MAX],
                   struct memopt_error *error);

/* -------------------------------------------------------------------- check.c */

bool mo_check_name(const char *name, size_t length);
int mo_check_options(const struct memopt_plugin *descriptor, const char *path,
                     struct memopt_error *error);
/* `available`: bytes of the symbol in the file, so that nothing is read past it. */
int mo_check_descriptor(const struct memopt_plugin *found, size_t available,
                        enum memopt_plugin_kind kind, const char *path, struct memopt_error *error);
/* Copies the operations and completes them. */
int mo_check_ops(struct mo_plugin *plugin, struct memopt_error *error);

#endif
