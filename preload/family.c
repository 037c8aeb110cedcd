/*
 * family.c - the rest of the malloc family, as glibc 2.36 behaves.
 *
 *   the family        calloc, realloc … aligned_alloc
 *   older             valloc, pvalloc
 *   __libc_ names     some programs call these past an interposer
 *   introspection     mallinfo, mallopt, malloc_trim, malloc_stats, malloc_info
 *
 * Whatever is not a fast path is written for clearness.
 */
#include "core/dispatch/dispatch.h"
#include "preload/process.h"
#include "preload/shim.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* -------------------------------------------------------------- the family */

MEMOPT_EXPORT void *calloc(size_t count, size_t size) {
    return mo_calloc(count, size);
}

MEMOPT_EXPORT void *realloc(void *p, size_t size) {
    return mo_realloc(p, size);
}

MEMOPT_EXPORT void *reallocarray(void *p, size_t count, size_t size) {
    size_t total;
    if (mo_unlikely(__builtin_mul_overflow(count, size, &total)))
        return mo_fail_nomem();
    /* by its public name, as in glibc: whoever has replaced realloc alone (a wrapper
     * preloaded before us, Valgrind) frees the block, too */
    return realloc(p, total);
}

static bool is_power_of_two(size_t n) {
    return n != 0 && (n & (n - 1)) == 0;
}

MEMOPT_EXPORT int posix_memalign(void **ret, size_t alignment, size_t size) {
    if (!is_power_of_two(alignment) || alignment % sizeof(void *) != 0)
        return EINVAL;
    void *p = mo_aligned_alloc(alignment, size);
    if (p == NULL)
        return ENOMEM; /* errno too, as in glibc */
    *ret = p;
    return 0;
}

/* glibc rounds an alignment that is no power of two up to one. */
MEMOPT_EXPORT void *memalign(size_t alignment, size_t size) {
    if (alignment > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t power = 16;
    while (power < alignment)
        power *= 2;
    return mo_aligned_alloc(power, size);
}

MEMOPT_EXPORT void *aligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

/* ------------------------------------------------------------------- older */

static size_t page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

MEMOPT_EXPORT void *valloc(size_t size) {
    return mo_aligned_alloc(page_size(), size);
}

MEMOPT_EXPORT void *pvalloc(size_t size) {
    size_t page = page_size();
    if (size > SIZE_MAX - page)
        return mo_fail_nomem();
    return mo_aligned_alloc(page, (size + page - 1) / page * page);
}

/* ------------------------------------------------------------ __libc_ names */

MEMOPT_EXPORT void *__libc_malloc(size_t size);
MEMOPT_EXPORT void *__libc_malloc(size_t size) {
    return mo_malloc(size);
}

MEMOPT_EXPORT void __libc_free(void *p);
MEMOPT_EXPORT void __libc_free(void *p) {
    mo_free(p);
}

MEMOPT_EXPORT void __libc_cfree(void *p);
MEMOPT_EXPORT void __libc_cfree(void *p) {
    mo_free(p);
}

#if __has_attribute(copy) /* gcc wants the aliased function's attributes repeated */
#define ALIAS(NAME) __attribute__((alias(#NAME), visibility("default"), copy(NAME)))
#else
#define ALIAS(NAME) __attribute__((alias(#NAME), visibility("default")))
#endif
extern __typeof__(calloc) __libc_calloc ALIAS(calloc);
extern __typeof__(realloc) __libc_realloc ALIAS(realloc);
extern __typeof__(memalign) __libc_memalign ALIAS(memalign);
extern __typeof__(valloc) __libc_valloc ALIAS(valloc);
extern __typeof__(pvalloc) __libc_pvalloc ALIAS(pvalloc);
extern __typeof__(reallocarray) __libc_reallocarray ALIAS(reallocarray);
extern __typeof__(posix_memalign) __posix_memalign ALIAS(posix_memalign);

/* ------------------------------------------------------------ introspection */

/* The C library answers for itself when it is the backend; otherwise the
 * backend's figures are put into the C library's words. */
static void *libc_function(const char *name) {
    bool is_libc =
        mo_shim.allocator == NULL || strcmp(mo_shim.allocator->descriptor.name, "libc") == 0;
    return is_libc ? mo_libc_symbol(name) : NULL;
}

static struct memopt_figures figures(void) {
    struct memopt_figures f = MEMOPT_FIGURES_INIT;
    if (mo_shim.allocator != NULL && mo_shim.allocator->ops.allocator.figures != NULL)
        mo_shim.allocator->ops.allocator.figures(&f);
    return f;
}

static size_t known(uint64_t value) {
    return value == MEMOPT_UNKNOWN ? 0 : (size_t)value;
}

MEMOPT_EXPORT struct mallinfo2 mallinfo2(void) {
    struct mallinfo2 (*own)(void);
    *(void **)&own = libc_function("mallinfo2");
    if (own != NULL)
        return own();
    struct memopt_figures f = figures();
    struct mallinfo2 info = {
        .arena = known(f.committed),
        .uordblks = known(f.live),
        .usmblks = known(f.peak),
        .keepcost = known(f.retained),
    };
    if (info.arena > info.uordblks)
        info.fordblks = info.arena - info.uordblks;
    return info;
}

/* The same in int, cut as glibc cuts it. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
MEMOPT_EXPORT struct mallinfo mallinfo(void) {
    struct mallinfo2 wide = mallinfo2();
    struct mallinfo info = {
        .arena = (int)wide.arena,
        .ordblks = (int)wide.ordblks,
        .smblks = (int)wide.smblks,
        .hblks = (int)wide.hblks,
        .hblkhd = (int)wide.hblkhd,
        .usmblks = (int)wide.usmblks,
        .fsmblks = (int)wide.fsmblks,
        .uordblks = (int)wide.uordblks,
        .fordblks = (int)wide.fordblks,
        .keepcost = (int)wide.keepcost,
    };
    return info;
}
#pragma GCC diagnostic pop

/* Another backend has no such parameters: 1, "taken", as they are hints. */
MEMOPT_EXPORT int mallopt(int parameter, int value) {
    int (*own)(int, int);
    *(void **)&own = libc_function("mallopt");
    return own != NULL ? own(parameter, value) : 1;
}

MEMOPT_EXPORT int malloc_trim(size_t pad) {
    int (*own)(size_t);
    *(void **)&own = libc_function("malloc_trim");
    if (own != NULL)
        return own(pad);
    const struct memopt_allocator_ops *ops = &mo_shim.allocator->ops.allocator;
    return ops->purge != NULL && ops->purge() > 0;
}

/* One line per figure that the backend has. */
static void print_figures(FILE *stream, const char *live, const char *committed) {
    struct memopt_figures f = figures();
    if (f.live != MEMOPT_UNKNOWN)
        fprintf(stream, live, f.live);
    if (f.committed != MEMOPT_UNKNOWN)
        fprintf(stream, committed, f.committed);
}

/* Like glibc's: to the stream stderr, and no cancellation point. */
MEMOPT_EXPORT void malloc_stats(void) {
    void (*own)(void);
    *(void **)&own = libc_function("malloc_stats");
    if (own != NULL) {
        own();
        return;
    }
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    fprintf(stderr, "Allocator %s:\n", mo_shim.allocator->descriptor.name);
    print_figures(stderr, "in use bytes     = %10" PRIu64 "\n",
                  "system bytes     = %10" PRIu64 "\n");
    pthread_setcancelstate(before, NULL);
}

/* Like glibc's: 0 whether the stream takes it or not, which ferror() tells; and a
 * cancellation point if the stream writes. */
MEMOPT_EXPORT int malloc_info(int options, FILE *stream) {
    int (*own)(int, FILE *);
    *(void **)&own = libc_function("malloc_info");
    if (own != NULL)
        return own(options, stream);
    if (options != 0)
        return EINVAL;
    fprintf(stream, "<malloc version=\"1\">\n<allocator name=\"%s\"/>\n",
            mo_shim.allocator->descriptor.name);
    print_figures(stream, "<system type=\"live\" size=\"%" PRIu64 "\"/>\n",
                  "<system type=\"current\" size=\"%" PRIu64 "\"/>\n");
    fputs("</malloc>\n", stream);
    return 0;
}
