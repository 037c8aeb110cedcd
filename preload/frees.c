/*
 * frees.c - free by its other names, which the C library or a backend's library
 * may lack. Only the shim has them.
 */
#include "core/dispatch/dispatch.h"
#include "preload/operators.h"

#include <stdint.h>

/* Of old; glibc keeps it for old programs only. */
MEMOPT_EXPORT void cfree(void *p);
MEMOPT_EXPORT void cfree(void *p) {
    mo_free(p);
}

/* C23 */
MEMOPT_EXPORT void free_sized(void *p, size_t size);
MEMOPT_EXPORT void free_sized(void *p, size_t size) {
    mo_freed_by(p, size, 0, MEMOPT_BY_MALLOC);
    mo_free(p);
}

MEMOPT_EXPORT void free_aligned_sized(void *p, size_t alignment, size_t size);
MEMOPT_EXPORT void free_aligned_sized(void *p, size_t alignment, size_t size) {
    mo_freed_by(p, size, alignment, MEMOPT_BY_MALLOC);
    mo_free(p);
}
