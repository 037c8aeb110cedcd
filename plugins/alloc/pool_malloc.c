/*
 * pool_malloc.c - the malloc family that libmemopt-pool.so exports, with glibc's
 * semantics. malloc, calloc, realloc, memalign, free and malloc_usable_size are in
 * pool_alloc.c: they are its functions under another name. C++'s operators are the C++ run-time's, which call malloc.
 */
#define _GNU_SOURCE
#include "plugins/alloc/pool.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

static void *no_memory(void) {
    errno = ENOMEM;
    return NULL;
}

MEMOPT_EXPORT void *reallocarray(void *p, size_t count, size_t size) {
    size_t total;
    return __builtin_mul_overflow(count, size, &total) ? no_memory() : mo_pool_realloc(p, total);
}

MEMOPT_EXPORT int posix_memalign(void **ret, size_t alignment, size_t size) {
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment % sizeof(void *) != 0)
        return EINVAL;
    void *p = mo_pool_aligned_alloc(alignment, size);
    if (p == NULL) /* glibc leaves ENOMEM in errno, too */
        return ENOMEM;
    *ret = p;
    return 0;
}

MEMOPT_EXPORT void *aligned_alloc(size_t alignment, size_t size) {
    return mo_pool_aligned_alloc(alignment, size);
}

MEMOPT_EXPORT void *valloc(size_t size) {
    return mo_pool_aligned_alloc(POOL_SYSTEM_PAGE, size);
}

MEMOPT_EXPORT void *pvalloc(size_t size) {
    if (size > SIZE_MAX - POOL_SYSTEM_PAGE)
        return no_memory();
    return valloc((size + POOL_SYSTEM_PAGE - 1) & ~(size_t)(POOL_SYSTEM_PAGE - 1));
}

/* C23's */
MEMOPT_EXPORT void free_sized(void *p, size_t size);
MEMOPT_EXPORT void free_sized(void *p, size_t size) {
    (void)size;
    mo_pool_free(p);
}
MEMOPT_EXPORT void free_aligned_sized(void *p, size_t alignment, size_t size);
MEMOPT_EXPORT void free_aligned_sized(void *p, size_t alignment, size_t size) {
    (void)alignment, (void)size;
    mo_pool_free(p);
}

/* By these names a program calls the C library's past an interposer, as when its own
 * malloc wraps them: the blocks must be of one allocator all the same. */
extern __typeof__(valloc) __libc_valloc POOL_NAMED(valloc);
extern __typeof__(pvalloc) __libc_pvalloc POOL_NAMED(pvalloc);
extern __typeof__(reallocarray) __libc_reallocarray POOL_NAMED(reallocarray);
extern __typeof__(posix_memalign) __posix_memalign POOL_NAMED(posix_memalign);
