/*
 * pool.c - alloc-pool.so: memopt's own general-purpose allocator as a backend. The
 * allocator is a library beside this plugin, libmemopt-pool.so (pool.h says how it
 * works), which exports malloc; this opens it, or finds it where the program is bound
 * to it directly, and passes on.
 *
 * Settings go into MEMOPT_POOL_OPTIONS, which the library reads when it is loaded.
 * open() hands them over itself if it is the one that loads the library; where that
 * was preloaded by hand, its own variable decides.
 *
 * Figures: live is exact when no other thread is in the middle of a call;
 * committed counts the carved part of pages in use, dirty slices and headers;
 * resident is what mincore says; retained the address space beyond; there is no
 * peak. fragmentation = 1 - live/committed.
 */
#define _GNU_SOURCE
#include "config.h"

#include "plugins/alloc/pool_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NEEDED_PAGE = 4096 };

static const char *const libraries[] = {POOL_LIBRARY, NULL};
static const struct pool_library *library;

/* ------------------------------------------------------------------- settings */

/* The library can't work on other pages, and where it is bound directly it is too late
 * to choose another allocator: so it is asked before the program starts. */
static int check_system(const struct memopt_host *host, struct memopt_error *error) {
    long page = sysconf(_SC_PAGESIZE);
    if (page == NEEDED_PAGE)
        return 0;
    return host->fail(error, -ENOTSUP,
                      "pool: this system's pages have %ld bytes, and it needs %d; use another "
                      "allocator",
                      page, NEEDED_PAGE);
}

/* All of them, so that the program has the same settings whichever way it is bound. */
static int pool_environment(const struct memopt_host *host, const void *opaque,
                            memopt_setenv_fn set, void *context, struct memopt_error *error) {
    const struct pool_settings *settings = opaque;
    char text[256];
    snprintf(text, sizeof(text),
             "purge_delay=%lluns,huge_cache=%llu,huge_pages=%d,populate=%d,check_free=%d",
             (unsigned long long)settings->purge_delay, (unsigned long long)settings->huge_cache,
             settings->huge_pages, settings->populate, settings->check_free);
    set(context, POOL_VARIABLE, text, '=', NULL);
    return check_system(host, error);
}

static bool is_same(const struct pool_settings *a, const struct pool_settings *b) {
    return a->purge_delay == b->purge_delay && a->huge_cache == b->huge_cache &&
           a->huge_pages == b->huge_pages && a->populate == b->populate &&
           a->check_free == b->check_free;
}

/* ----------------------------------------------------------------------- open */

/* The library that is loaded already, by its name; else the one beside this file. */
static void *open_library(bool *ret_was_there) {
    void *handle = dlopen(POOL_LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD | RTLD_NODELETE);
    *ret_was_there = handle != NULL;
    Dl_info own;
    if (handle != NULL || dladdr((const void *)libraries, &own) == 0)
        return handle;
    char path[PATH_MAX];
    const char *slash = strrchr(own.dli_fname, '/');
    int directory = slash == NULL ? 0 : (int)(slash + 1 - own.dli_fname);
    int length = snprintf(path, sizeof(path), "%.*s" POOL_LIBRARY, directory, own.dli_fname);
    if (length >= (int)sizeof(path))
        return NULL;
    return dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

static int pool_open(const struct memopt_host *host, const void *opaque,
                     struct memopt_malloc *ret_malloc, struct memopt_error *error) {
    const struct pool_settings *settings = opaque;
    int code = check_system(host, error);
    if (code < 0)
        return code;
    bool was_there;
    void *handle = open_library(&was_there);
    if (handle == NULL) {
        const char *why = dlerror();
        return host->fail(error, -ENOENT,
                          "allocator 'pool': memopt's own library '%s' can't be loaded: %s\n"
                          "install memopt again",
                          POOL_LIBRARY, why != NULL ? why : "its path is too long");
    }
    const struct pool_library *found = dlsym(handle, POOL_LIBRARY_SYMBOL);
    if (found == NULL || strcmp(found->version, PACKAGE_VERSION) != 0)
        return host->fail(error, -ENOEXEC,
                          "allocator 'pool': the '%s' that is loaded is that of memopt %s, and "
                          "%s is needed",
                          POOL_LIBRARY, found == NULL ? "unknown" : found->version,
                          PACKAGE_VERSION);
    code = found->start();
    if (code < 0)
        return host->fail(error, code, "pool: no thread-specific data key left: %s",
                          strerror(-code));
    if (!was_there)
        *found->settings = *settings;
    else if (!is_same(found->settings, settings))
        host->note(MEMOPT_NOTE_WARNING,
                   "pool: [allocator.pool] has no effect, as the library was preloaded: it can be "
                   "set only before the program starts, by memopt run or in " POOL_VARIABLE);
    library = found;
    *ret_malloc = found->malloc;
    return 0;
}

/* ----------------------------------------------------------------- operations */

static int pool_quick_figures(struct memopt_figures *figures) {
    return library->quick_figures(figures);
}

static int pool_figures(struct memopt_figures *figures) {
    return library->heap_figures(library->default_heap, figures);
}

static uint64_t pool_purge(void) {
    return library->heap_purge(library->default_heap);
}

static int pool_heap_create(const struct memopt_host *host, const struct memopt_heap_params *params,
                       void **ret_heap, struct memopt_error *error) {
    (void)host;
    int code = -ENOTSUP;
    const char *why = "the pool allocator takes no region; use the arena allocator for that";
    if (params->region == NULL) {
        code = library->heap_create(ret_heap);
        why = code == -ENOMEM ? "out of memory" : "there are too many heaps";
    }
    if (code < 0 && error != NULL) {
        error->code = code;
        snprintf(error->message, sizeof(error->message), "heap '%s': %s", params->name, why);
    }
    return code;
}
static void pool_heap_destroy(void *heap) {
    library->heap_destroy(heap);
}
static void *pool_heap_malloc(void *heap, size_t size) {
    return library->heap_malloc(heap, size);
}
static void *pool_heap_calloc(void *heap, size_t count, size_t size) {
    return library->heap_calloc(heap, count, size);
}
static void *pool_heap_realloc(void *heap, void *p, size_t size) {
    return library->heap_realloc(heap, p, size);
}
static void *pool_heap_aligned_alloc(void *heap, size_t alignment, size_t size) {
    return library->heap_aligned_alloc(heap, alignment, size);
}
static void pool_heap_free(void *heap, void *p) {
    library->heap_free(heap, p);
}
static size_t pool_heap_usable_size(void *heap, void *p) {
    return library->heap_usable_size(heap, p);
}
static int pool_heap_figures(void *heap, struct memopt_figures *figures) {
    return library->heap_figures(heap, figures);
}
static uint64_t pool_heap_purge(void *heap) {
    return library->heap_purge(heap);
}

/* The library has fork handlers of its own. */
static const struct memopt_allocator_ops ops = {
    .size = sizeof ops,
    .flags = MEMOPT_ALLOCATOR_DIRECT | MEMOPT_ALLOCATOR_C_CALLS,
    .libraries = libraries,
    .environment = pool_environment,
    .open = pool_open,
    .figures = pool_figures,
    .quick_figures = pool_quick_figures,
    .purge = pool_purge,
    .heap_create = pool_heap_create,
    .heap_destroy = pool_heap_destroy,
    .heap_malloc = pool_heap_malloc,
    .heap_calloc = pool_heap_calloc,
    .heap_realloc = pool_heap_realloc,
    .heap_aligned_alloc = pool_heap_aligned_alloc,
    .heap_free = pool_heap_free,
    .heap_usable_size = pool_heap_usable_size,
    .heap_figures = pool_heap_figures,
    .heap_purge = pool_heap_purge,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_ALLOCATOR),
    .name = "pool",
    .version = PACKAGE_VERSION,
    .summary = "memopt's own: thread-caching size-class pools",
    .options = pool_options,
    .settings_size = sizeof(struct pool_settings),
    .ops = &ops,
};
