/* dispatch.c - see dispatch.h. */
#include "core/dispatch/dispatch.h"
#include "core/ledger/writer.h"

#include <errno.h>
#include <string.h>

struct memopt_malloc mo_dispatch = {
    .size = sizeof(struct memopt_malloc),
    .malloc = mo_boot_malloc,
    .calloc = mo_boot_calloc,
    .realloc = mo_boot_realloc,
    .free = mo_boot_free,
    .aligned_alloc = mo_boot_aligned_alloc,
    .usable_size = mo_boot_usable_size,
};
struct memopt_malloc mo_backend;

void mo_dispatch_switch(const struct memopt_malloc *backend, struct mo_link *links, size_t count) {
    struct memopt_malloc table = *backend;
    mo_backend = *backend;
    if (count > 0)
        mo_track_install(links, count, &table);
    /* free and usable_size first: a block of the new kind must find them there. */
    __atomic_store_n(&mo_dispatch.free, table.free, __ATOMIC_RELEASE);
    __atomic_store_n(&mo_dispatch.usable_size, table.usable_size, __ATOMIC_RELEASE);
    __atomic_store_n(&mo_dispatch.realloc, table.realloc, __ATOMIC_RELEASE);
    __atomic_store_n(&mo_dispatch.malloc, table.malloc, __ATOMIC_RELEASE);
    __atomic_store_n(&mo_dispatch.calloc, table.calloc, __ATOMIC_RELEASE);
    __atomic_store_n(&mo_dispatch.aligned_alloc, table.aligned_alloc, __ATOMIC_RELEASE);
}

void *mo_fail_nomem(void) {
    if (mo_ledger() != NULL)
        atomic_fetch_add_explicit(&mo_ledger()->failures, 1, memory_order_relaxed);
    errno = ENOMEM;
    return NULL;
}

void *mo_realloc_rare(void *p, size_t size) {
    if (p == NULL)
        return mo_malloc(size);
    if (size == 0) {
        mo_free(p);
        return NULL; /* as glibc does; errno stays */
    }
    size_t old = mo_boot_usable_size(p);
    if (size <= old)
        return p;
    void *q = mo_malloc(size);
    if (q != NULL)
        memcpy(q, p, old);
    return q;
}
