/*
 * flat.h - reads the INI that mo_config_write() wrote, inside the watched
 * program: no library, no malloc, the text is changed in place.
 */
#ifndef MO_OPTION_FLAT_H
#define MO_OPTION_FLAT_H

#include "core/option/option.h"

/* One `key = value`, in the order of the file; the strings point into the text. */
struct mo_flat_entry {
    const char *section, *key, *value;
};
struct mo_flat {
    struct mo_flat_entry *entries;
    size_t count;
};

/* `text` must end with NUL and stay for as long as the result is used. */
int mo_flat_parse(char *text, const struct mo_allocator *allocator, struct mo_flat *ret_flat,
                  struct memopt_error *error);
const char *mo_flat_get(const struct mo_flat *flat, const char *section, const char *key);
/* Defaults, then every value of the section. */
int mo_flat_fill(const struct mo_flat *flat, const char *section, struct mo_option_table table,
                 void *settings, const struct mo_allocator *allocator, struct memopt_error *error);

#endif
