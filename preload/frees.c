/*
 * frees.c - free by its other names, which the C library or a backend's library
 * may lack. In the shim and in the agent: whatever free() is, it is called.
 */
#include <memopt/plugin.h>

#include <stdlib.h>

/* Of old; glibc keeps it for old programs only. */
MEMOPT_EXPORT void cfree(void *p);
MEMOPT_EXPORT void cfree(void *p) {
    free(p);
}

/* C23 */
MEMOPT_EXPORT void free_sized(void *p, size_t size);
MEMOPT_EXPORT void free_sized(void *p, size_t size) {
    (void)size;
    free(p);
}

MEMOPT_EXPORT void free_aligned_sized(void *p, size_t alignment, size_t size);
MEMOPT_EXPORT void free_aligned_sized(void *p, size_t alignment, size_t size) {
    (void)alignment;
    (void)size;
    free(p);
}
