/* environment.c - see environment.h. */
#include "config.h"

#include "core/launch/environment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Takes `item`, which may be NULL: out of memory. */
static void put(struct mo_environment *environment, char *item) {
    if (item != NULL && environment->count + 2 > environment->room) {
        size_t room = environment->room * 2 + 64;
        char **items = realloc(environment->items, room * sizeof(*items));
        if (items == NULL) {
            free(item);
            item = NULL;
        } else {
            environment->items = items;
            environment->room = room;
        }
    }
    if (item == NULL) {
        environment->failed = 1;
        return;
    }
    environment->items[environment->count++] = item;
    environment->items[environment->count] = NULL;
}

void mo_environment_init(struct mo_environment *environment, char *const *from) {
    memset(environment, 0, sizeof(*environment));
    for (size_t i = 0; from[i] != NULL; i++)
        put(environment, strdup(from[i]));
}

void mo_environment_free(struct mo_environment *environment) {
    for (size_t i = 0; i < environment->count; i++)
        free(environment->items[i]);
    free(environment->items);
    memset(environment, 0, sizeof(*environment));
}

static size_t find(const struct mo_environment *environment, const char *name) {
    size_t length = strlen(name);
    size_t i = 0;
    while (i < environment->count && (strncmp(environment->items[i], name, length) != 0 ||
                                      environment->items[i][length] != '='))
        i++;
    return i;
}

const char *mo_environment_get(const struct mo_environment *environment, const char *name) {
    size_t i = find(environment, name);
    return i == environment->count ? NULL : environment->items[i] + strlen(name) + 1;
}

void mo_environment_unset(struct mo_environment *environment, const char *name) {
    size_t i;
    while ((i = find(environment, name)) < environment->count) {
        free(environment->items[i]);
        memmove(&environment->items[i], &environment->items[i + 1],
                (environment->count - i) * sizeof(*environment->items));
        environment->count--;
    }
}

void mo_environment_set(struct mo_environment *environment, const char *name, const char *value) {
    char *item;
    if (asprintf(&item, "%s=%s", name, value) < 0)
        item = NULL;
    mo_environment_unset(environment, name);
    put(environment, item);
}

static void join(struct mo_environment *environment, const char *name, const char *first,
                 const char *separator, const char *second) {
    char *joined;
    if (asprintf(&joined, "%s%s%s", first, separator, second) < 0) {
        environment->failed = 1;
    } else {
        mo_environment_set(environment, name, joined);
        free(joined);
    }
}

void mo_environment_append(struct mo_environment *environment, const char *name, const char *value,
                           const char *separator) {
    const char *old = mo_environment_get(environment, name);
    if (old == NULL || old[0] == '\0')
        mo_environment_set(environment, name, value);
    else
        join(environment, name, old, separator, value);
}

void mo_environment_prepend(struct mo_environment *environment, const char *name, const char *value,
                            const char *separator) {
    const char *old = mo_environment_get(environment, name);
    if (old == NULL || old[0] == '\0')
        mo_environment_set(environment, name, value);
    else
        join(environment, name, value, separator, old);
}

int mo_environment_error(const struct mo_environment *environment) {
    return environment->failed ? -ENOMEM : 0;
}
