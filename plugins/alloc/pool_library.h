/*
 * pool_library.h - what alloc-pool.so and libmemopt-pool.so know of each other.
 *
 *   libmemopt-pool.so   the allocator: pool_*.c. It exports malloc and its family, so
 *                       it serves any program that it is preloaded into or linked with,
 *                       without memopt
 *   alloc-pool.so       memopt's plugin: pool.c. It opens the library and drives it by
 *                       struct pool_library, as alloc-jemalloc.so does with libjemalloc
 *
 * There is one copy of the library in a process, so that the program's malloc and
 * named heaps on pool are the same allocator however either came about.
 */
#ifndef MO_ALLOC_POOL_LIBRARY_H
#define MO_ALLOC_POOL_LIBRARY_H

#include <memopt/plugin.h>

#define POOL_LIBRARY "libmemopt-pool.so"

/* ---------------------------------------------------------------- settings
 * The library is at work before any code of a plugin's, so it takes its settings from
 * the environment, where the plugin puts them: KEY=VALUE,... with the keys and values
 * of [allocator.pool], whole numbers only. */
#define POOL_VARIABLE "MEMOPT_POOL_OPTIONS"

struct pool_settings {
    uint64_t purge_delay; /* nanoseconds */
    uint64_t huge_cache;  /* bytes */
    int huge_pages;
    int populate;
    int check_free;
};

/* The defaults, as text and as numbers. */
#define POOL_PURGE_DELAY 100 /* ms */
#define POOL_HUGE_CACHE 64   /* MiB */
#define POOL_TEXT_OF(NUMBER) #NUMBER
#define POOL_TEXT(NUMBER) POOL_TEXT_OF(NUMBER)

static const struct memopt_option pool_options[] = {
    MEMOPT_OPT_DURATION(struct pool_settings, purge_delay, "purge_delay",
                        POOL_TEXT(POOL_PURGE_DELAY) "ms", "0", "1h",
                        "how long at least unused memory is kept, and at most twice as long, "
                        "before the system gets it back; 0: not at all"),
    MEMOPT_OPT_SIZE(struct pool_settings, huge_cache, "huge_cache",
                    POOL_TEXT(POOL_HUGE_CACHE) "MiB", "0", "1TiB",
                    "how much of freed blocks above 1 MiB is kept, for purge_delay, for the next "
                    "ones of about their size"),
    MEMOPT_OPT_BOOL(struct pool_settings, huge_pages, "huge_pages", "no",
                    "ask for transparent huge pages: fewer TLB misses, more resident memory"),
    MEMOPT_OPT_BOOL(struct pool_settings, populate, "populate", "no",
                    "commit memory when it is mapped instead of when it is touched: no page "
                    "faults later, more resident memory (from Linux 5.14)"),
    MEMOPT_OPT_BOOL(struct pool_settings, check_free, "check_free", "no",
                    "look for a double free at each free: slower where blocks have left the "
                    "cache; without it most are found when the block would be handed out again"),
    MEMOPT_OPT_END,
};

/* ------------------------------------------------------------- the interface */

#define POOL_LIBRARY_SYMBOL "memopt_pool_library"

struct pool_library {
    const char *version;            /* memopt's; first, so that any two can compare it */
    struct pool_settings *settings; /* in force; may be changed */
    struct memopt_malloc malloc;    /* of the default heap, as plugin.h wants them */
    void *default_heap;             /* for figures and purge */
    /* Whether it can work: a failure's negative errno. Before anything else. */
    int (*start)(void);
    int (*heap_create)(void **ret_heap); /* 0, -ENOMEM, -ENOSPC */
    void (*heap_destroy)(void *heap);
    void *(*heap_malloc)(void *heap, size_t size);
    void *(*heap_calloc)(void *heap, size_t count, size_t size);
    void *(*heap_realloc)(void *heap, void *p, size_t size);
    void *(*heap_aligned_alloc)(void *heap, size_t alignment, size_t size);
    void (*heap_free)(void *heap, void *p);
    size_t (*heap_usable_size)(void *heap, void *p);
    int (*heap_figures)(void *heap, struct memopt_figures *figures);
    int (*quick_figures)(struct memopt_figures *figures); /* without a system call */
    uint64_t (*heap_purge)(void *heap);
};

#endif
