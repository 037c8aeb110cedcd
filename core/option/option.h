/*
 * option.h - option types: how the text of a setting becomes a typed field.
 *
 * Each type of memopt/plugin.h is a small vtable (parse, print, compare, unset);
 * defaults and ranges are text that passes through the same parser as the
 * user's. Used in the memopt command and, without the INI reader, inside the
 * watched program; parsing allocates only through the allocator it is given,
 * and nothing depends on the locale.
 *
 * Empty text: "unset" for every option without a default and for PATH, an empty
 * list for LIST, "" for STRING; an error for the others.
 *
 * To add a type: append it to enum memopt_option_type (and to its table in
 * memopt/plugin.h), write its vtable in option.c, a MEMOPT_OPT_ macro, rows in
 * tests/test_option.c and a line in memopt.ini(5). tests/test_option.c fails
 * while a type of the enum has no vtable.
 */
#ifndef MO_OPTION_OPTION_H
#define MO_OPTION_OPTION_H

#include "lib/nearest.h"

#include <memopt/plugin.h>

/* Memory for lists, paths and strings; lives as long as the settings. */
typedef void *(*mo_alloc_fn)(void *context, size_t size);
struct mo_allocator {
    mo_alloc_fn alloc;
    void *context;
};
extern const struct mo_allocator mo_sys_allocator; /* mo_sys_alloc() */

/* A table that may come from a plugin whose rows have another size. */
struct mo_option_table {
    const struct memopt_option *first; /* NULL: no options */
    size_t stride;                     /* bytes from row to row */
};
size_t mo_option_count(struct mo_option_table table);
const struct memopt_option *mo_option_at(struct mo_option_table table, size_t index);
const struct memopt_option *mo_option_find(struct mo_option_table table, const char *key);
/* The key most like `key` (lib/nearest.h), or NULL if none is near. */
const char *mo_option_nearest(struct mo_option_table table, const char *key);

/* Checks type, choices and range; writes the field at settings + offset;
 * `settings` may be NULL: validate only. `directory` is where relative paths
 * begin (NULL: a relative path is an error). The message says the key, the
 * value, what is allowed, and not where it stood: the caller knows that. */
int mo_option_parse(const struct memopt_option *option, const char *text, const char *directory,
                    void *settings, const struct mo_allocator *allocator,
                    struct memopt_error *error);
/* Sets a field to its default, or to "unset". */
int mo_option_default(const struct memopt_option *option, void *settings,
                      const struct mo_allocator *allocator, struct memopt_error *error);
/* All fields of a settings struct to their defaults. */
int mo_options_init(struct mo_option_table table, void *settings,
                    const struct mo_allocator *allocator, struct memopt_error *error);

/* The field as text that parses back to the same ("" if it is unset). Returns
 * the length, as snprintf does: `buffer` holds it if that is less than `size`. */
size_t mo_option_print(const struct memopt_option *option, const void *settings, char *buffer,
                       size_t size);
/* <0, 0, >0 by the order of the type; lists and strings: 0 or not. */
int mo_option_compare(const struct memopt_option *option, const void *a, const void *b);
/* Is the field unset? (a list never is) */
int mo_option_is_unset(const struct memopt_option *option, const void *settings);

/* For help and manual: "size", … NULL: no such type. */
const char *mo_option_type_name(uint32_t type);
/* What is allowed besides the type: "one of: a, b", "4KiB .. 1GiB", … or "". */
void mo_option_describe(const struct memopt_option *option, char *buffer, size_t size);

/* The parsers by themselves: 0, or -EINVAL, or -ERANGE (too large to hold). */
int mo_parse_size(const char *text, uint64_t *ret_bytes);
int mo_parse_duration(const char *text, uint64_t *ret_nanoseconds);
int mo_parse_number(const char *text, double *ret_number);

/* `text` as it can stand between quotes in a message: cut when long, and
 * control characters shown as '?'. Returns `buffer`. */
enum { MO_QUOTED_MAX = 100 };
const char *mo_quoted(const char *text, char buffer[MO_QUOTED_MAX]);

#endif
