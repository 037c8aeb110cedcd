/*
 * libc.c - the C library's own malloc as a backend.
 *
 * The functions are taken from libc.so.6 itself and never by looking up the
 * next "malloc": in a watched program that finds the shim or an allocator of
 * the program's own. All settings go through GLIBC_TUNABLES, for programs that are
 * bound directly and as the thread caches are laid out before open(); what mallopt()
 * can set is set there, too, for named heaps without memopt run.
 *
 * Figures (mallinfo2): committed is what all arenas hold plus mapped blocks,
 * live the part in use, fragmentation the free part of the arenas alone, as a
 * block that is a mapping of its own wastes nothing.
 */
#include "config.h"

#include <memopt/plugin.h>

#include <dlfcn.h>
#include <errno.h>
#include <gnu/libc-version.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

struct settings {
    uint64_t mmap_threshold, trim_threshold, top_pad, mxfast;
    int64_t mmap_max, arena_max, arena_test, perturb;
    int64_t tcache_count;
    uint64_t tcache_max;
};

#define OPTION(TYPE, FIELD, ...)                                                                   \
    MEMOPT_OPT_##TYPE(struct settings, FIELD, #FIELD, NULL, __VA_ARGS__)
static const struct memopt_option options[] = {
    OPTION(SIZE, mmap_threshold, "0", "32MiB",
           "blocks from this size on are mappings of their own (unset: adapts from 128 KiB)"),
    OPTION(INT, mmap_max, "0", "2147483647", "blocks",
           "how many blocks may be mappings of their own (unset: 65536)"),
    OPTION(SIZE, trim_threshold, "0", NULL,
           "give the heap's top back once this much is free there (unset: adapts from 128 KiB)"),
    OPTION(SIZE, top_pad, "0", "2047MiB",
           "how much more to take at once when the heap grows (unset: 128 KiB)"),
    OPTION(INT, arena_max, "1", "65536", "arenas",
           "the most arenas there may be (unset: 8 for each processor)"),
    OPTION(INT, arena_test, "1", "65536", "arenas",
           "from this many arenas on, the limit is worked out (unset: 8)"),
    OPTION(SIZE, mxfast, "0", "160",
           "blocks up to this size are not merged when freed (unset: 128)"),
    OPTION(INT, perturb, "0", "255", "byte value",
           "fill freed blocks with this byte, new ones with its complement (0: don't)"),
    OPTION(INT, tcache_count, "0", "65535", "blocks",
           "how many blocks of each size a thread keeps for itself (unset: 7; 0: none)"),
    OPTION(SIZE, tcache_max, "0", "1032",
           "the largest block a thread keeps for itself (unset: 1032)"),
    MEMOPT_OPT_END,
};

static int (*libc_mallopt)(int parameter, int value);
static int (*libc_malloc_trim)(size_t pad);
static struct mallinfo2 (*libc_mallinfo2)(void);

/* A setting by its three names; UINT64_MAX: unset. `parameter` of mallopt(), 0: none. */
struct row {
    const char *key, *tunable;
    int parameter;
    uint64_t value;
};

enum { ROWS = 10 };

static uint64_t unless_negative(int64_t value) {
    return value < 0 ? UINT64_MAX : (uint64_t)value;
}

static void list(const struct settings *settings, struct row rows[static ROWS]) {
#define ROW(KEY, PARAMETER, VALUE)                                                                 \
    { #KEY, "glibc.malloc." #KEY, PARAMETER, VALUE }
    const struct row all[ROWS] = {
        ROW(mmap_threshold, M_MMAP_THRESHOLD, settings->mmap_threshold),
        ROW(trim_threshold, M_TRIM_THRESHOLD, settings->trim_threshold),
        ROW(top_pad, M_TOP_PAD, settings->top_pad),
        ROW(mxfast, M_MXFAST, settings->mxfast),
        ROW(mmap_max, M_MMAP_MAX, unless_negative(settings->mmap_max)),
        ROW(arena_max, M_ARENA_MAX, unless_negative(settings->arena_max)),
        ROW(arena_test, M_ARENA_TEST, unless_negative(settings->arena_test)),
        ROW(perturb, M_PERTURB, unless_negative(settings->perturb)),
        ROW(tcache_count, 0, unless_negative(settings->tcache_count)),
        ROW(tcache_max, 0, settings->tcache_max),
    };
    memcpy(rows, all, sizeof(all));
}

/* All of them: a program that is bound directly has no open(). */
static int environment(const struct memopt_host *host, const void *settings, memopt_setenv_fn set,
                       void *context, struct memopt_error *error) {
    struct row rows[ROWS];
    char text[96];
    (void)host, (void)error;
    list(settings, rows);
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].value != UINT64_MAX) {
            snprintf(text, sizeof(text), "%s=%llu", rows[i].tunable,
                     (unsigned long long)rows[i].value);
            set(context, "GLIBC_TUNABLES", text, '+', ":");
        }
    return 0;
}

static int set_tunables(const struct memopt_host *host, const struct settings *settings,
                        struct memopt_error *error) {
    struct row rows[ROWS];
    list(settings, rows);
    for (size_t i = 0; i < ROWS; i++) {
        /* mallopt takes an int; of these only trim_threshold can be more, and
         * glibc makes a size_t of it: -1 is "never". */
        int value = rows[i].value > INT32_MAX ? -1 : (int)rows[i].value;
        if (rows[i].value != UINT64_MAX && rows[i].parameter != 0 &&
            libc_mallopt(rows[i].parameter, value) == 0)
            return host->fail(error, -EINVAL, "the C library refused '%s' = %llu", rows[i].key,
                              (unsigned long long)rows[i].value);
    }
    return 0;
}

/* In a program built with AddressSanitizer or ThreadSanitizer the allocator is
 * the sanitizer's, and errors are seen only if blocks come from it. */
static bool sanitizer_present(void) {
    return dlsym(RTLD_DEFAULT, "__asan_init") != NULL || dlsym(RTLD_DEFAULT, "__tsan_init") != NULL;
}

static int take(const struct memopt_host *host, void *handle, const char *name, void *ret_function,
                struct memopt_error *error) {
    void *symbol = dlsym(handle, name);
    if (symbol == NULL)
        return host->fail(error, -ENOENT,
                          "the C library has no '%s': glibc 2.33 or newer is needed", name);
    memcpy(ret_function, &symbol, sizeof(symbol));
    return 0;
}

static int open_libc(const struct memopt_host *host, const void *settings,
                     struct memopt_malloc *ret_malloc, struct memopt_error *error) {
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (libc == NULL)
        return host->fail(error, -ENOENT,
                          "the C library 'libc.so.6' is not loaded in this process: "
                          "memopt needs glibc");
    void *blocks = sanitizer_present() ? RTLD_DEFAULT : libc;
    struct memopt_malloc table = {.size = ret_malloc->size};
    const struct {
        void *handle;
        const char *name;
        void *function;
    } rows[] = {
        {blocks, "malloc", &table.malloc},
        {blocks, "calloc", &table.calloc},
        {blocks, "realloc", &table.realloc},
        {blocks, "free", &table.free},
        {blocks, "memalign", &table.aligned_alloc},
        {blocks, "malloc_usable_size", &table.usable_size},
        {libc, "mallopt", &libc_mallopt},
        {libc, "malloc_trim", &libc_malloc_trim},
        {libc, "mallinfo2", &libc_mallinfo2},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        int r = take(host, rows[i].handle, rows[i].name, rows[i].function, error);
        if (r < 0)
            return r;
    }
    int r = set_tunables(host, settings, error);
    if (r < 0)
        return r;
    *ret_malloc = table;
    return 0;
}

static int figures(struct memopt_figures *figures) {
    struct mallinfo2 info = libc_mallinfo2();
    figures->live = info.uordblks + info.hblkhd;
    figures->committed = info.arena + info.hblkhd;
    figures->resident = MEMOPT_UNKNOWN;
    figures->retained = MEMOPT_UNKNOWN;
    figures->peak = MEMOPT_UNKNOWN;
    figures->fragmentation =
        info.arena > 0 ? (double)info.fordblks / (double)info.arena : __builtin_nan("");
    return 0;
}

static uint64_t purge(void) {
    /* malloc_trim gives inner pages back as well, which no figure of glibc's
     * shows: what it says is only whether something went. */
    libc_malloc_trim(0);
    return 0;
}

static const char *backend_version(void) {
    return gnu_get_libc_version();
}

static const struct memopt_allocator_ops ops = {
    .size = sizeof(ops),
    .flags = MEMOPT_ALLOCATOR_DIRECT | MEMOPT_ALLOCATOR_C_CALLS,
    .environment = environment,
    .open = open_libc,
    .figures = figures,
    .quick_figures = figures,
    .purge = purge,
    .backend_version = backend_version,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_ALLOCATOR),
    .name = "libc",
    .version = PACKAGE_VERSION,
    .summary = "the C library's own allocator",
    .options = options,
    .settings_size = sizeof(struct settings),
    .ops = &ops,
};
