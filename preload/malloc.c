/*
 * malloc.c - the names that are called most: malloc and free. The rest of the family is
 * in family.c and frees.c, C++'s operators in operators.c.
 */
#include "core/dispatch/dispatch.h"

#include <malloc.h>
#include <stdlib.h>

MEMOPT_EXPORT void *malloc(size_t size) {
    return mo_malloc(size);
}

MEMOPT_EXPORT void free(void *p) {
    mo_free(p);
}

MEMOPT_EXPORT size_t malloc_usable_size(void *p) {
    return mo_usable_size(p);
}
