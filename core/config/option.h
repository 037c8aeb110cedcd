/*
 * option.h - option types: how the text of a setting becomes a typed field.
 *
 * Each type of memopt/plugin.h is a small vtable (parse, print, compare);
 * defaults and ranges are text that passes through the same parser as the
 * user's. Used in the memopt command and, without the INI reader, inside the
 * watched program; parsing allocates only through the allocator it is given.
 */
#ifndef MO_CONFIG_OPTION_H
#define MO_CONFIG_OPTION_H

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
    const struct memopt_option *first;
    size_t stride; /* bytes from row to row */
};
size_t mo_option_count(struct mo_option_table table);
const struct memopt_option *mo_option_at(struct mo_option_table table, size_t index);
const struct memopt_option *mo_option_find(struct mo_option_table table, const char *key);
/* The key most like `key` by edit distance, or NULL if none is near. */
const char *mo_option_nearest(struct mo_option_table table, const char *key);

/* Checks type, choices and range; writes the field at settings + offset, which
 * may be NULL: validate only. `directory` is where relative paths begin (NULL:
 * a relative path is an error). The message says the value, what is allowed,
 * and not where it stood: the caller knows that. */
int mo_option_parse(const struct memopt_option *option, const char *text, const char *directory,
                    void *settings, const struct mo_allocator *allocator,
                    struct memopt_error *error);
/* Sets a field to its default, or to "unset". */
int mo_option_default(const struct memopt_option *option, void *settings,
                      const struct mo_allocator *allocator, struct memopt_error *error);
/* All fields of a settings struct to their defaults. */
int mo_options_init(struct mo_option_table table, void *settings,
                    const struct mo_allocator *allocator, struct memopt_error *error);

/* For help and manual: "size", "one of: a, b", and "4KiB .. 1GiB" or "". */
const char *mo_option_type_name(uint32_t type);
void mo_option_describe(const struct memopt_option *option, char *buffer, size_t size);

/* The parsers by themselves: 0 or -EINVAL / -ERANGE. */
int mo_parse_size(const char *text, uint64_t *ret);
int mo_parse_duration(const char *text, uint64_t *ret_nanoseconds);

#endif
