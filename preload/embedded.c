/*
 * embedded.c - recognises a program that brings a malloc of its own: linked in
 * statically (rustc, fd, many databases), which the dynamic loader prefers to any
 * preloaded one; or in a library (redis), which comes before the C library.
 *
 * memopt run looks at the file before it starts one; this is for programs that
 * the program starts.
 */
#include "preload/object.h"
#include "preload/process.h"

#include <gnu/lib-names.h>
#include <string.h>

static bool defines_before_us(const struct mo_object *object, void *context) {
    bool *found = context;
    if (mo_object_holds(object, (const void *)(uintptr_t)defines_before_us))
        return true;
    *found = mo_object_symbol(object, "malloc") != NULL;
    return *found;
}

/* A library that the program has preloaded before this one counts as its own: none of its
 * calls comes here but those that that library makes. */
bool mo_program_has_malloc(void) {
    bool found = false;
    mo_object_each(defines_before_us, &found);
    return found;
}

/* The forms that come to differ most: arrays, and the sized delete that compilers call. */
static bool part_of_new(const struct mo_object *object, void *context) {
    bool *found = context;
    *found = (mo_object_symbol(object, "_Znwm") != NULL ||
              mo_object_symbol(object, "_ZdlPv") != NULL) &&
             !(mo_object_symbol(object, "_Znam") != NULL &&
               mo_object_symbol(object, "_ZdlPvm") != NULL);
    return true; /* the executable */
}

bool mo_program_has_part_of_new(void) {
    bool found = false;
    mo_object_each(part_of_new, &found);
    return found;
}

static bool first_that_defines_malloc(const struct mo_object *object, void *context) {
    const char **found = context;
    if (mo_object_symbol(object, "malloc") == NULL)
        return false;
    const char *slash = strrchr(object->name, '/');
    *found = object->is_executable ||
                     strcmp(slash == NULL ? object->name : slash + 1, LIBC_SO) == 0
                 ? NULL
                 : object->name;
    return true;
}

const char *mo_program_malloc_library(void) {
    const char *found = NULL;
    mo_object_each(first_that_defines_malloc, &found);
    return found;
}
