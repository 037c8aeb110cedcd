/*
 * environment.h - the environment of a program that is about to be started: a
 * copy of memopt's own with changes.
 *
 * Ownership: the struct owns its strings. A failed change is remembered and
 * told once, by mo_environment_error(): so a row of changes needs one check.
 */
#ifndef MO_LAUNCH_ENVIRONMENT_H
#define MO_LAUNCH_ENVIRONMENT_H

#include <stddef.h>

struct mo_environment {
    char **items; /* ends with NULL */
    size_t count, room;
    int failed; /* out of memory */
};

void mo_environment_init(struct mo_environment *environment, char *const *from);
void mo_environment_free(struct mo_environment *environment);
const char *mo_environment_get(const struct mo_environment *environment, const char *name);
void mo_environment_set(struct mo_environment *environment, const char *name, const char *value);
void mo_environment_unset(struct mo_environment *environment, const char *name);
/* "OLD<separator>VALUE", or VALUE if there was none or it was empty. */
void mo_environment_append(struct mo_environment *environment, const char *name, const char *value,
                           const char *separator);
/* The same with VALUE first. */
void mo_environment_prepend(struct mo_environment *environment, const char *name, const char *value,
                            const char *separator);
/* 0, or -ENOMEM if any change failed. */
int mo_environment_error(const struct mo_environment *environment);

#endif
