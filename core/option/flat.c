/* flat.c - see flat.h. What it reads was written by mo_config_write(), so it
 * refuses anything else instead of guessing. */
#include "core/option/flat.h"

#include "core/base/error.h"

#include <errno.h>
#include <string.h>

static int is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static char *trim(char *text) {
    while (is_space(*text))
        text++;
    size_t length = strlen(text);
    while (length > 0 && is_space(text[length - 1]))
        length--;
    text[length] = '\0';
    return text;
}

int mo_flat_parse(char *text, const struct mo_allocator *allocator, struct mo_flat *ret_flat,
                  struct memopt_error *error) {
    size_t lines = 1, count = 0;
    for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++)
        lines++;
    struct mo_flat_entry *entries =
        allocator->alloc(allocator->context, lines * sizeof(struct mo_flat_entry));
    if (entries == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    const char *section = NULL;
    char *next = text;
    for (int number = 1; next != NULL; number++) {
        char *line = next;
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        line = trim(line);
        if (*line == '\0' || *line == ';')
            continue;
        if (*line == '[') {
            size_t length = strlen(line);
            if (length < 3 || line[length - 1] != ']')
                return mo_fail(error, -EINVAL, "line %d: a section without ']'", number);
            line[length - 1] = '\0';
            section = line + 1;
            continue;
        }
        char *equals = strchr(line, '=');
        if (equals == NULL || equals == line || section == NULL)
            return mo_fail(error, -EINVAL, "line %d: not 'key = value' within a section", number);
        *equals = '\0';
        entries[count++] = (struct mo_flat_entry){section, trim(line), trim(equals + 1)};
    }
    ret_flat->entries = entries;
    ret_flat->count = count;
    return 0;
}

const char *mo_flat_get(const struct mo_flat *flat, const char *section, const char *key) {
    const char *value = NULL; /* the last one counts */
    for (size_t i = 0; i < flat->count; i++)
        if (strcmp(flat->entries[i].section, section) == 0 &&
            strcmp(flat->entries[i].key, key) == 0)
            value = flat->entries[i].value;
    return value;
}

int mo_flat_fill(const struct mo_flat *flat, const char *section, struct mo_option_table table,
                 void *settings, const struct mo_allocator *allocator, struct memopt_error *error) {
    const struct memopt_option *option;
    for (size_t i = 0; (option = mo_option_at(table, i)) != NULL; i++) {
        const char *value = mo_flat_get(flat, section, option->key);
        int result = value == NULL
                         ? mo_option_default(option, settings, allocator, error)
                         : mo_option_parse(option, value, NULL, settings, allocator, error);
        if (result < 0)
            return mo_error_prefix(error, "[%s]", section);
    }
    return 0;
}
