/*
 * jemalloc.c - jemalloc as a backend.
 *
 * Its options go into MALLOC_CONF, which it reads before the program starts;
 * open() sets those that mallctl() can still set, for programs that memopt run
 * did not start, and says which ones came too late.
 *
 * The library's static thread-local storage is too large for dlopen after
 * start-up (glibc keeps 1,664 bytes for that): memopt run preloads it behind
 * the shim, where dlopen finds it loaded.
 *
 * A heap is an arena of its own. Blocks bypass the thread caches: a cache may
 * be used by one thread only and would keep blocks of an arena that is gone.
 *
 * Figures (stats.*): committed is active + dirty + muzzy pages + metadata,
 * fragmentation 1 - allocated/active. For a heap likewise of its arena.
 */
#include "config.h"

#include <memopt/plugin.h>

#include <dlfcn.h>
#include <errno.h>
#include <jemalloc/jemalloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

struct settings {
    int background_thread, tcache, retain;
    uint64_t dirty_decay_ms, muzzy_decay_ms;
    int64_t narenas, max_background_threads, lg_tcache_max;
    uint64_t oversize_threshold;
    int thp, metadata_thp, percpu_arena, dss;
    const char *malloc_conf;
};

static const char *const thp_words[] = {"default", "always", "never", NULL};
static const char *const metadata_thp_words[] = {"disabled", "auto", "always", NULL};
static const char *const percpu_words[] = {"disabled", "percpu", "phycpu", NULL};
static const char *const dss_words[] = {"disabled", "primary", "secondary", NULL};

#define OPTION(TYPE, FIELD, ...)                                                                   \
    MEMOPT_OPT_##TYPE(struct settings, FIELD, #FIELD, NULL, __VA_ARGS__)
static const struct memopt_option options[] = {
    OPTION(BOOL, background_thread, "give memory back from threads of jemalloc's own (unset: no)"),
    OPTION(INT, max_background_threads, "1", "4096", "threads",
           "the most background threads (unset: one for each processor)"),
    OPTION(DURATION, dirty_decay_ms, "0", "1000000h",
           "how long unused pages are kept before they may be given back (unset: 10s)"),
    OPTION(DURATION, muzzy_decay_ms, "0", "1000000h",
           "how long pages stay lazily freed before they are really given back (unset: 0)"),
    OPTION(INT, narenas, "1", "4094", "arenas", "arenas (unset: 4 for each processor)"),
    OPTION(ENUM, percpu_arena, percpu_words, "choose the arena by processor (unset: disabled)"),
    OPTION(BOOL, tcache, "thread caches (unset: yes)"),
    OPTION(INT, lg_tcache_max, "0", "30", "log2 of bytes",
           "the largest block a thread keeps, as a power of two (unset: 15)"),
    OPTION(SIZE, oversize_threshold, "0", NULL,
           "blocks from this size on come from an arena of their own, 0: none (unset: 8 MiB)"),
    OPTION(ENUM, thp, thp_words, "transparent huge pages (unset: default)"),
    OPTION(ENUM, metadata_thp, metadata_thp_words,
           "transparent huge pages for jemalloc's own data (unset: disabled)"),
    OPTION(BOOL, retain, "keep addresses instead of unmapping them (unset: yes)"),
    OPTION(ENUM, dss, dss_words, "use of sbrk beside mmap (unset: secondary)"),
    OPTION(STRING, malloc_conf,
           "more settings as MALLOC_CONF has them; only from the environment that the program "
           "starts with"),
    MEMOPT_OPT_END,
};

static const char *const libraries[] = {"libjemalloc.so.2", NULL};

/* `key:value` of MALLOC_CONF for each option that is set. */
typedef void (*conf_fn)(void *context, const char *key, const char *value);

static void each_conf(const struct settings *settings, conf_fn call, void *context) {
    const struct {
        const char *key;
        int value;
        const char *const *words;
    } words[] = {
        {"background_thread", settings->background_thread, (const char *const[]){"false", "true"}},
        {"tcache", settings->tcache, (const char *const[]){"false", "true"}},
        {"retain", settings->retain, (const char *const[]){"false", "true"}},
        {"thp", settings->thp, thp_words},
        {"metadata_thp", settings->metadata_thp, metadata_thp_words},
        {"percpu_arena", settings->percpu_arena, percpu_words},
        {"dss", settings->dss, dss_words},
    };
    const uint64_t unset = UINT64_MAX;
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"max_background_threads",
         settings->max_background_threads < 0 ? unset : (uint64_t)settings->max_background_threads},
        {"dirty_decay_ms",
         settings->dirty_decay_ms == unset ? unset : settings->dirty_decay_ms / 1000000},
        {"muzzy_decay_ms",
         settings->muzzy_decay_ms == unset ? unset : settings->muzzy_decay_ms / 1000000},
        {"narenas", settings->narenas < 0 ? unset : (uint64_t)settings->narenas},
        {"lg_tcache_max", settings->lg_tcache_max < 0 ? unset : (uint64_t)settings->lg_tcache_max},
        {"oversize_threshold", settings->oversize_threshold},
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (words[i].value >= 0)
            call(context, words[i].key, words[i].words[words[i].value]);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        if (numbers[i].value != unset) {
            char text[24];
            snprintf(text, sizeof(text), "%llu", (unsigned long long)numbers[i].value);
            call(context, numbers[i].key, text);
        }
}

struct setenv_context {
    memopt_setenv_fn set;
    void *context;
};

static void append_conf(void *opaque, const char *key, const char *value) {
    const struct setenv_context *to = opaque;
    char text[128];
    snprintf(text, sizeof(text), "%s:%s", key, value);
    to->set(to->context, "MALLOC_CONF", text, '+', ",");
}

static int environment(const struct memopt_host *host, const void *opaque, memopt_setenv_fn set,
                       void *context, struct memopt_error *error) {
    const struct settings *settings = opaque;
    struct setenv_context to = {set, context};
    (void)host, (void)error;
    each_conf(settings, append_conf, &to);
    if (settings->malloc_conf != NULL)
        set(context, "MALLOC_CONF", settings->malloc_conf, '+', ",");
    return 0;
}

static struct {
    int (*mallctl)(const char *name, void *old, size_t *old_size, void *new, size_t new_size);
    void *(*mallocx)(size_t size, int flags);
    void *(*rallocx)(void *p, size_t size, int flags);
    void (*dallocx)(void *p, int flags);
    size_t (*sallocx)(const void *p, int flags);
} je;

/* Whether jemalloc runs with `value` for opt.KEY. */
static bool is_in_force(const char *key, const char *value) {
    char name[64], found[32] = "";
    union {
        bool b;
        unsigned u;
        size_t z;
        const char *s;
    } old;
    size_t size = sizeof(old);
    snprintf(name, sizeof(name), "opt.%s", key);
    if (strcmp(key, "lg_tcache_max") == 0) /* has become tcache_max, in bytes */
        snprintf(name, sizeof(name), "opt.tcache_max");
    int code = je.mallctl(name, &old, &size, NULL, 0);
    if (code == EINVAL) /* it has another size, which it told */
        code = je.mallctl(name, &old, &size, NULL, 0);
    if (code != 0)
        return false;
    if (size == sizeof(bool))
        return strcmp(old.b ? "true" : "false", value) == 0;
    if (value[0] < '0' || value[0] > '9')
        return strcmp(old.s, value) == 0;
    if (strcmp(key, "lg_tcache_max") == 0)
        snprintf(found, sizeof(found), "%d", __builtin_ctzl(old.z));
    else
        snprintf(found, sizeof(found), "%zu", size == sizeof(unsigned) ? old.u : old.z);
    return strcmp(found, value) == 0;
}

static bool set_decay(const char *key, uint64_t nanoseconds) {
    char name[64];
    ssize_t milliseconds = (ssize_t)(nanoseconds / 1000000);
    unsigned count = 0;
    size_t size = sizeof(count);
    snprintf(name, sizeof(name), "arenas.%s", key);
    if (je.mallctl(name, NULL, NULL, &milliseconds, sizeof(milliseconds)) != 0 ||
        je.mallctl("arenas.narenas", &count, &size, NULL, 0) != 0)
        return false;
    for (unsigned i = 0; i < count; i++) {
        /* fails for arenas that don't exist yet: they take the default above */
        snprintf(name, sizeof(name), "arena.%u.%s", i, key);
        je.mallctl(name, NULL, NULL, &milliseconds, sizeof(milliseconds));
    }
    return true;
}

struct late {
    const struct memopt_host *host;
    const struct settings *settings;
};

static void apply(void *context, const char *key, const char *value) {
    const struct late *late = context;
    bool done = is_in_force(key, value);
    if (!done && strcmp(key, "dirty_decay_ms") == 0)
        done = set_decay(key, late->settings->dirty_decay_ms);
    else if (!done && strcmp(key, "muzzy_decay_ms") == 0)
        done = set_decay(key, late->settings->muzzy_decay_ms);
    else if (!done && strcmp(key, "max_background_threads") == 0) {
        size_t count = (size_t)late->settings->max_background_threads;
        done = je.mallctl(key, NULL, NULL, &count, sizeof(count)) == 0;
    } else if (!done && strcmp(key, "background_thread") == 0) {
        bool on = late->settings->background_thread != 0;
        done = je.mallctl(key, NULL, NULL, &on, sizeof(on)) == 0;
    }
    if (!done)
        late->host->note(MEMOPT_NOTE_WARNING,
                         "jemalloc: '%s' is not '%s': it can be set only before the program "
                         "starts, by memopt run or in MALLOC_CONF",
                         key, value);
}

static int open_jemalloc(const struct memopt_host *host, const void *settings,
                         struct memopt_malloc *ret_malloc, struct memopt_error *error) {
    void *library = dlopen(libraries[0], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library == NULL) {
        const char *why = dlerror();
        bool tls = why != NULL && strstr(why, "static TLS") != NULL;
        return host->fail(error, tls ? -ENOMEM : -ENOENT,
                          "allocator 'jemalloc': the library '%s' can't be loaded: %s\n%s",
                          libraries[0], why != NULL ? why : "unknown reason",
                          tls ? "it must be there from the start: run the program under memopt "
                                "run, link it with -ljemalloc, or start it with "
                                "GLIBC_TUNABLES=glibc.rtld.optional_static_tls=4096"
                              : "apt-get install libjemalloc2");
    }
    struct memopt_malloc table = {.size = ret_malloc->size};
    const struct {
        const char *name;
        void *function;
    } rows[] = {
        {"malloc", &table.malloc},          {"calloc", &table.calloc},
        {"realloc", &table.realloc},        {"free", &table.free},
        {"memalign", &table.aligned_alloc}, {"malloc_usable_size", &table.usable_size},
        {"mallctl", &je.mallctl},           {"mallocx", &je.mallocx},
        {"rallocx", &je.rallocx},           {"dallocx", &je.dallocx},
        {"sallocx", &je.sallocx},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        void *symbol = dlsym(library, rows[i].name);
        if (symbol == NULL)
            return host->fail(error, -ENOENT,
                              "allocator 'jemalloc': the library has no '%s': jemalloc 5 or newer, "
                              "built without a prefix, is needed",
                              rows[i].name);
        memcpy(rows[i].function, &symbol, sizeof(symbol));
    }
    struct late late = {host, settings};
    each_conf(settings, apply, &late);
    table.sized_below = 8192; /* size classes all */
    *ret_malloc = table;
    return 0;
}

/* ---------------------------------------------------------------- figures */

static void refresh(void) {
    uint64_t epoch = 1;
    size_t size = sizeof(epoch);
    je.mallctl("epoch", &epoch, &size, &epoch, sizeof(epoch));
}

static uint64_t statistic(const char *name) {
    size_t value = 0, size = sizeof(value);
    return je.mallctl(name, &value, &size, NULL, 0) == 0 ? value : MEMOPT_UNKNOWN;
}

static uint64_t arena_statistic(unsigned arena, const char *what) {
    char name[64];
    snprintf(name, sizeof(name), "stats.arenas.%u.%s", arena, what);
    return statistic(name);
}

static uint64_t page_size(void) {
    return statistic("arenas.page");
}

static double fragmentation(uint64_t live, uint64_t active) {
    return active > 0 ? 1 - (double)live / (double)active : __builtin_nan("");
}

static int figures(struct memopt_figures *figures) {
    refresh();
    uint64_t active = statistic("stats.active");
    uint64_t idle = arena_statistic(MALLCTL_ARENAS_ALL, "pdirty") +
                    arena_statistic(MALLCTL_ARENAS_ALL, "pmuzzy");
    figures->live = statistic("stats.allocated");
    figures->committed = active + idle * page_size() + statistic("stats.metadata");
    figures->resident = statistic("stats.resident");
    figures->retained = statistic("stats.retained");
    figures->peak = MEMOPT_UNKNOWN;
    figures->fragmentation = fragmentation(figures->live, active);
    return 0;
}

static uint64_t purge_arena(unsigned arena) {
    char name[32];
    refresh();
    uint64_t before = arena_statistic(arena, "resident");
    snprintf(name, sizeof(name), "arena.%u.purge", arena);
    je.mallctl(name, NULL, NULL, NULL, 0);
    refresh();
    uint64_t after = arena_statistic(arena, "resident");
    return after < before ? before - after : 0;
}

static uint64_t purge(void) {
    je.mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    return purge_arena(MALLCTL_ARENAS_ALL);
}

/* ------------------------------------------------------------------ heaps */

/* A heap is its arena's number: arena 0 is never one of ours, so not NULL. */
static unsigned arena_of(const void *heap) {
    return (unsigned)(uintptr_t)heap;
}

static int flags_of(const void *heap) {
    return MALLOCX_ARENA(arena_of(heap)) | MALLOCX_TCACHE_NONE;
}

static int heap_create(const struct memopt_host *host, const struct memopt_heap_params *params,
                       void **ret_heap, struct memopt_error *error) {
    (void)host;
    unsigned arena = 0;
    size_t size = sizeof(arena);
    if (params->region != NULL) {
        if (error != NULL) {
            error->code = -ENOTSUP;
            snprintf(error->message, sizeof(error->message),
                     "the jemalloc allocator takes no region; use arena for that");
        }
        return -ENOTSUP;
    }
    int code = je.mallctl("arenas.create", &arena, &size, NULL, 0);
    if (code != 0) {
        if (error != NULL) {
            error->code = -ENOMEM;
            snprintf(error->message, sizeof(error->message),
                     "jemalloc gives no arena for the heap '%s' (there may be 4,094)",
                     params->name != NULL ? params->name : "");
        }
        return -ENOMEM;
    }
    *ret_heap = (void *)(uintptr_t)arena;
    return 0;
}

static void heap_destroy(void *heap) {
    char name[32];
    snprintf(name, sizeof(name), "arena.%u.destroy", arena_of(heap));
    je.mallctl(name, NULL, NULL, NULL, 0);
}

/* mallocx() does not take 0. */
static size_t at_least_one(size_t size) {
    return size + (size == 0);
}

static void *heap_malloc(void *heap, size_t size) {
    return je.mallocx(at_least_one(size), flags_of(heap));
}

static void *heap_calloc(void *heap, size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return je.mallocx(at_least_one(total), flags_of(heap) | MALLOCX_ZERO);
}

static void *heap_realloc(void *heap, void *p, size_t size) {
    return je.rallocx(p, at_least_one(size), flags_of(heap));
}

static void *heap_aligned_alloc(void *heap, size_t alignment, size_t size) {
    return je.mallocx(at_least_one(size), flags_of(heap) | MALLOCX_ALIGN(alignment));
}

static void heap_free(void *heap, void *p) {
    (void)heap;
    je.dallocx(p, MALLOCX_TCACHE_NONE);
}

static size_t heap_usable_size(void *heap, void *p) {
    (void)heap;
    return je.sallocx(p, 0);
}

static int heap_figures(void *heap, struct memopt_figures *figures) {
    unsigned arena = arena_of(heap);
    refresh();
    uint64_t page = page_size();
    uint64_t active = arena_statistic(arena, "pactive") * page;
    uint64_t idle = arena_statistic(arena, "pdirty") + arena_statistic(arena, "pmuzzy");
    figures->live =
        arena_statistic(arena, "small.allocated") + arena_statistic(arena, "large.allocated");
    figures->committed =
        active + idle * page + arena_statistic(arena, "base") + arena_statistic(arena, "internal");
    figures->resident = arena_statistic(arena, "resident");
    figures->retained = arena_statistic(arena, "retained");
    figures->peak = MEMOPT_UNKNOWN;
    figures->fragmentation = fragmentation(figures->live, active);
    return 0;
}

static uint64_t heap_purge(void *heap) {
    return purge_arena(arena_of(heap));
}

/* "5.3.0-0-g54eaed1d…": the commit is left out. */
static const char *backend_version(void) {
    static char version[32];
    const char *whole = "";
    size_t size = sizeof(whole);
    je.mallctl("version", &whole, &size, NULL, 0);
    snprintf(version, sizeof(version), "%.*s", (int)strcspn(whole, "-"), whole);
    return version;
}

static const struct memopt_allocator_ops ops = {
    .size = sizeof(ops),
    .flags = MEMOPT_ALLOCATOR_DIRECT | MEMOPT_ALLOCATOR_PRELOAD | MEMOPT_ALLOCATOR_C_CALLS,
    .libraries = libraries,
    .package = "libjemalloc2",
    .environment = environment,
    .open = open_jemalloc,
    .figures = figures,
    .quick_figures = figures,
    .purge = purge,
    .heap_create = heap_create,
    .heap_destroy = heap_destroy,
    .heap_malloc = heap_malloc,
    .heap_calloc = heap_calloc,
    .heap_realloc = heap_realloc,
    .heap_aligned_alloc = heap_aligned_alloc,
    .heap_free = heap_free,
    .heap_usable_size = heap_usable_size,
    .heap_figures = heap_figures,
    .heap_purge = heap_purge,
    .backend_version = backend_version,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_ALLOCATOR),
    .name = "jemalloc",
    .version = PACKAGE_VERSION,
    .summary = "jemalloc: arenas, decay-based purging, low fragmentation",
    .options = options,
    .settings_size = sizeof(struct settings),
    .ops = &ops,
};
