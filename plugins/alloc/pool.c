/*
 * pool.c - the `pool` backend: memopt's own general-purpose allocator, size-class
 * pools that each thread has to itself. This file has the options, the plugin
 * table and the message before abort(); pool.h says how the rest works and
 * which file has what.
 *
 * Figures: live is exact when no other thread is in the middle of a call;
 * committed counts the carved part of pages in use, dirty slices and headers;
 * resident is what mincore says; retained the address space beyond; there is no
 * peak. fragmentation = 1 - live/committed.
 *
 * Signals: as with glibc, a handler must not allocate if it can interrupt an
 * allocation of the same thread.
 */
#define _GNU_SOURCE
#include "config.h"

#include "plugins/alloc/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pool_settings mo_pool_settings;
const struct memopt_host *mo_pool_host;

static const struct memopt_option options[] = {
    MEMOPT_OPT_DURATION(struct pool_settings, purge_delay, "purge_delay", "100ms", "0", "1h",
                        "how long at least unused memory is kept, and at most twice as long, "
                        "before the system gets it back; 0: not at all"),
    MEMOPT_OPT_SIZE(struct pool_settings, huge_cache, "huge_cache", "64MiB", "0", "1TiB",
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

void mo_pool_die(const char *function, const void *p, const char *problem) {
    static const char digits[] = "0123456789abcdef";
    char line[256], *at = line;
    const char *const parts[] = {"memopt: pool: ", function, "(0x", NULL, "): ", problem, "\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i] != NULL) {
            at = stpcpy(at, parts[i]);
            continue;
        }
        unsigned shift = sizeof p * 8;
        while (shift > 4 && (uintptr_t)p >> (shift - 4) == 0)
            shift -= 4;
        for (; shift > 0; shift -= 4)
            *at++ = digits[(uintptr_t)p >> (shift - 4) & 15];
    }
    ssize_t written = write(STDERR_FILENO, line, (size_t)(at - line));
    (void)written; /* there is nothing to do about it */
    abort();
}

static int pool_open(const struct memopt_host *host, const void *settings,
                     struct memopt_malloc *ret_malloc, struct memopt_error *error) {
    long page = sysconf(_SC_PAGESIZE);
    if (page != POOL_SYSTEM_PAGE)
        return host->fail(error, -ENOTSUP,
                          "pool: this system's pages have %ld bytes, and it needs %d; use another "
                          "allocator",
                          page, POOL_SYSTEM_PAGE);
    mo_pool_host = host;
    mo_pool_settings = *(const struct pool_settings *)settings;
    int code = mo_pool_heap_open(error);
    if (code == 0)
        mo_pool_fill_operations(ret_malloc);
    return code;
}

static int pool_figures(struct memopt_figures *figures) {
    return mo_pool_heap_figures(&mo_pool_default, figures);
}

static uint64_t pool_purge(void) {
    return mo_pool_heap_purge(&mo_pool_default);
}

static const struct memopt_allocator_ops ops = {
    .size = sizeof ops,
    .flags = MEMOPT_ALLOCATOR_C_CALLS,
    .open = pool_open,
    .figures = pool_figures,
    .purge = pool_purge,
    .heap_create = mo_pool_heap_create,
    .heap_destroy = mo_pool_heap_destroy,
    .heap_malloc = mo_pool_heap_malloc,
    .heap_calloc = mo_pool_heap_calloc,
    .heap_realloc = mo_pool_heap_realloc,
    .heap_aligned_alloc = mo_pool_heap_aligned_alloc,
    .heap_free = mo_pool_heap_free,
    .heap_usable_size = mo_pool_heap_usable_size,
    .heap_figures = mo_pool_heap_figures,
    .heap_purge = mo_pool_heap_purge,
    .before_fork = mo_pool_before_fork,
    .after_fork_parent = mo_pool_after_fork_parent,
    .after_fork_child = mo_pool_after_fork_child,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_ALLOCATOR),
    .name = "pool",
    .version = PACKAGE_VERSION,
    .summary = "memopt's own: thread-caching size-class pools",
    .options = options,
    .settings_size = sizeof(struct pool_settings),
    .ops = &ops,
};
