/*
 * edges.c - makes libmemopt-edges.so: the agent for a program that binds directly
 * to a backend's own library. malloc, free and C++'s operators are the library's,
 * untouched; their rarer relatives (family.c) pass through here, because each
 * library does something there that programs written against glibc don't expect:
 * realloc(p, 0) gives a block, errno stays as it was, an alignment is refused or
 * not kept, __libc_memalign is glibc's and its block the library's to free.
 *
 * The table behind family.c is filled at the first call, which may come long
 * before the constructor, and replaced there.
 */
#include "core/dispatch/dispatch.h"
#include "preload/process.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>

/* The plugin's table has the same functions, and what it mends of them. */
static void adopt(struct mo_process *process) {
    if (process->allocator != NULL)
        mo_dispatch = process->table;
    mo_fork_install(NULL, NULL);
}

static __attribute__((constructor)) void start(int argc, char **argv, char **envp) {
    (void)argc;
    (void)argv;
    mo_process_start(MO_PROCESS_AGENT, envp, adopt);
}

/* The definition that the program would use if this library were not there.
 * malloc's must be the one: where the executable brings malloc but not all of the
 * family, the rest is the C library's. */
static void *next(const char *name, void *own) {
    void *found = dlsym(RTLD_DEFAULT, name);
    if (found == own)
        found = mo_program_has_malloc() ? mo_libc_symbol(name) : dlsym(RTLD_NEXT, name);
    return found;
}

static void resolve(void) {
    *(void **)&mo_dispatch.free = next("free", NULL);
    *(void **)&mo_dispatch.usable_size = next("malloc_usable_size", NULL);
    *(void **)&mo_dispatch.realloc = next("realloc", (void *)realloc);
    *(void **)&mo_dispatch.calloc = next("calloc", (void *)calloc);
    *(void **)&mo_dispatch.aligned_alloc = next("memalign", (void *)memalign);
    *(void **)&mo_dispatch.malloc = next("malloc", NULL);
}

static void *first_malloc(size_t size) {
    resolve();
    return mo_dispatch.malloc(size);
}
static void *first_calloc(size_t count, size_t size) {
    resolve();
    return mo_dispatch.calloc(count, size);
}
static void *first_realloc(void *p, size_t size) {
    resolve();
    return mo_dispatch.realloc(p, size);
}
static void first_free(void *p) {
    resolve();
    mo_dispatch.free(p);
}
static void *first_aligned_alloc(size_t alignment, size_t size) {
    resolve();
    return mo_dispatch.aligned_alloc(alignment, size);
}
static size_t first_usable_size(void *p) {
    resolve();
    return mo_dispatch.usable_size(p);
}

struct memopt_malloc mo_dispatch = {
    .size = sizeof(struct memopt_malloc),
    .malloc = first_malloc,
    .calloc = first_calloc,
    .realloc = first_realloc,
    .free = first_free,
    .aligned_alloc = first_aligned_alloc,
    .usable_size = first_usable_size,
};
