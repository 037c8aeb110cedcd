/*
 * tcmalloc.c - gperftools' tcmalloc as a backend.
 *
 * The library without the profilers is preferred: it prints nothing by itself
 * and starts faster. What tcmalloc has as a numeric property is set in open();
 * what it reads from its environment alone is set there, and so has no effect
 * in a program that was not started by memopt run.
 *
 * Figures: committed is the heap without the pages it has given back, live what
 * is handed out, retained the pages given back whose addresses it keeps.
 */
#include "config.h"

#include <memopt/plugin.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct settings {
    uint64_t max_total_thread_cache, heap_limit;
    int aggressive_decommit, skip_sbrk;
    double release_rate;
    int64_t transfer_num_objects;
};

static const struct memopt_option options[] = {
    MEMOPT_OPT_SIZE(struct settings, max_total_thread_cache, "max_total_thread_cache", NULL,
                    "512KiB", "1GiB", "the bytes all thread caches may hold (unset: 32 MiB)"),
    MEMOPT_OPT_BOOL(struct settings, aggressive_decommit, "aggressive_decommit", NULL,
                    "give pages back as soon as they are free (unset: no)"),
    MEMOPT_OPT_SIZE(struct settings, heap_limit, "heap_limit", NULL, "1MiB", NULL,
                    "the most the heap may hold, in whole MiB; more fails (unset: no limit)"),
    MEMOPT_OPT_NUMBER(struct settings, release_rate, "release_rate", NULL, "0", "10000", NULL,
                      "how eagerly free pages are given back, 0: never (unset: 1); only "
                      "from the environment that the program starts with"),
    MEMOPT_OPT_INT(struct settings, transfer_num_objects, "transfer_num_objects", NULL, "1", "512",
                   "objects",
                   "the most objects moved at once between thread and central cache (unset: 32); "
                   "only from the environment that the program starts with"),
    MEMOPT_OPT_BOOL(struct settings, skip_sbrk, "skip_sbrk", NULL,
                    "take memory with mmap only (unset: no); only from the environment that the "
                    "program starts with"),
    MEMOPT_OPT_END,
};

static const char *const libraries[] = {"libtcmalloc_minimal.so.4", "libtcmalloc.so.4", NULL};

static int (*get_property)(const char *name, size_t *value);
static int (*set_property)(const char *name, size_t value);
static void (*release_free_memory)(void);
static const char *(*version)(int *major, int *minor, const char **patch);

static int environment(const struct memopt_host *host, const void *opaque, memopt_setenv_fn set,
                       void *context, struct memopt_error *error) {
    const struct settings *settings = opaque;
    char text[64];
    (void)host, (void)error;
    /* also what open() sets: a program that is bound directly runs none */
    if (settings->max_total_thread_cache != UINT64_MAX) {
        snprintf(text, sizeof(text), "%llu", (unsigned long long)settings->max_total_thread_cache);
        set(context, "TCMALLOC_MAX_TOTAL_THREAD_CACHE_BYTES", text, '=', NULL);
    }
    if (settings->aggressive_decommit >= 0)
        set(context, "TCMALLOC_AGGRESSIVE_DECOMMIT", settings->aggressive_decommit != 0 ? "1" : "0",
            '=', NULL);
    if (settings->heap_limit != UINT64_MAX) {
        snprintf(text, sizeof(text), "%llu", (unsigned long long)settings->heap_limit >> 20);
        set(context, "TCMALLOC_HEAP_LIMIT_MB", text, '=', NULL);
    }
    if (settings->release_rate >= 0) {
        snprintf(text, sizeof(text), "%g", settings->release_rate);
        set(context, "TCMALLOC_RELEASE_RATE", text, '=', NULL);
    }
    if (settings->transfer_num_objects >= 0) {
        snprintf(text, sizeof(text), "%lld", (long long)settings->transfer_num_objects);
        set(context, "TCMALLOC_TRANSFER_NUM_OBJ", text, '=', NULL);
    }
    if (settings->skip_sbrk >= 0)
        set(context, "TCMALLOC_SKIP_SBRK", settings->skip_sbrk != 0 ? "1" : "0", '=', NULL);
    return 0;
}

static int set_properties(const struct memopt_host *host, const struct settings *settings,
                          struct memopt_error *error) {
    const uint64_t unset = UINT64_MAX;
    const struct {
        const char *key, *property;
        uint64_t value;
    } rows[] = {
        {"max_total_thread_cache", "tcmalloc.max_total_thread_cache_bytes",
         settings->max_total_thread_cache},
        {"aggressive_decommit", "tcmalloc.aggressive_memory_decommit",
         settings->aggressive_decommit < 0 ? unset : (uint64_t)settings->aggressive_decommit},
        {"heap_limit", "tcmalloc.heap_limit_mb",
         settings->heap_limit == unset ? unset : settings->heap_limit >> 20},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (rows[i].value != unset && !set_property(rows[i].property, rows[i].value))
            return host->fail(error, -EINVAL,
                              "tcmalloc refused '%s': its property '%s' can't be %llu", rows[i].key,
                              rows[i].property, (unsigned long long)rows[i].value);
    return 0;
}

static int open_tcmalloc(const struct memopt_host *host, const void *settings,
                         struct memopt_malloc *ret_malloc, struct memopt_error *error) {
    void *library = NULL;
    const char *found = NULL;
    for (size_t i = 0; libraries[i] != NULL && library == NULL; i++)
        library = dlopen(found = libraries[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library == NULL)
        return host->fail(error, -ENOENT,
                          "allocator 'tcmalloc': the library '%s' can't be loaded: %s\n"
                          "apt-get install libtcmalloc-minimal4",
                          libraries[0], dlerror());
    struct memopt_malloc table = {.size = ret_malloc->size};
    const struct {
        const char *name;
        void *function;
    } rows[] = {
        {"tc_malloc", &table.malloc},
        {"tc_calloc", &table.calloc},
        {"tc_realloc", &table.realloc},
        {"tc_free", &table.free},
        {"tc_memalign", &table.aligned_alloc},
        {"tc_malloc_size", &table.usable_size},
        {"MallocExtension_GetNumericProperty", &get_property},
        {"MallocExtension_SetNumericProperty", &set_property},
        {"MallocExtension_ReleaseFreeMemory", &release_free_memory},
        {"tc_version", &version},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        void *symbol = dlsym(library, rows[i].name);
        if (symbol == NULL)
            return host->fail(error, -ENOENT,
                              "allocator 'tcmalloc': the library has no '%s': gperftools 2.5 or "
                              "newer is needed",
                              rows[i].name);
        memcpy(rows[i].function, &symbol, sizeof(symbol));
    }
    int r = set_properties(host, settings, error);
    if (r < 0)
        return r;
    /* The full library may sample blocks, which are then larger than others. */
    if (strstr(found, "minimal") != NULL)
        table.sized_below = 1024;
    *ret_malloc = table;
    return 0;
}

static uint64_t property(const char *name) {
    size_t value = 0;
    return get_property(name, &value) ? value : MEMOPT_UNKNOWN;
}

static int figures(struct memopt_figures *figures) {
    uint64_t heap = property("generic.heap_size");
    uint64_t unmapped = property("tcmalloc.pageheap_unmapped_bytes");
    figures->live = property("generic.current_allocated_bytes");
    figures->committed = heap - unmapped;
    figures->resident = MEMOPT_UNKNOWN;
    figures->retained = unmapped;
    figures->peak = MEMOPT_UNKNOWN;
    figures->fragmentation = figures->committed > 0
                                 ? 1 - (double)figures->live / (double)figures->committed
                                 : __builtin_nan("");
    return 0;
}

static uint64_t purge(void) {
    uint64_t before = property("tcmalloc.pageheap_unmapped_bytes");
    release_free_memory();
    uint64_t after = property("tcmalloc.pageheap_unmapped_bytes");
    return after > before ? after - before : 0;
}

static const char *backend_version(void) {
    return version(NULL, NULL, NULL);
}

static const struct memopt_allocator_ops ops = {
    .size = sizeof(ops),
    .flags = MEMOPT_ALLOCATOR_DIRECT | MEMOPT_ALLOCATOR_C_CALLS,
    .libraries = libraries,
    .package = "libtcmalloc-minimal4",
    .environment = environment,
    .open = open_tcmalloc,
    .figures = figures,
    .quick_figures = figures,
    .purge = purge,
    .backend_version = backend_version,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_ALLOCATOR),
    .name = "tcmalloc",
    .version = PACKAGE_VERSION,
    .summary = "gperftools' thread-caching malloc",
    .options = options,
    .settings_size = sizeof(struct settings),
    .ops = &ops,
};
