/* switch.c - the shim's table: the boot range until the backend is there, then the
 * backend, with trackers in between. See dispatch.h. */
#include "core/dispatch/dispatch.h"
#include "core/account/account.h"

_Alignas(64) struct mo_dispatch mo_dispatch = {
    .malloc = mo_boot_malloc,
    .calloc = mo_boot_calloc,
    .realloc = mo_boot_realloc,
    .free = mo_boot_free,
    .aligned_alloc = mo_boot_aligned_alloc,
    .usable_size = mo_boot_usable_size,
};
bool mo_dispatch_is_final;
struct memopt_malloc mo_backend;
static struct memopt_malloc untracked;

static void *checked_malloc(size_t size) {
    void *p = mo_backend.malloc(size);
    return mo_likely(p != NULL) ? p : mo_fail_nomem();
}

static void checked_free(void *p) {
    if (mo_likely(p != NULL))
        mo_backend.free(p);
}

static void put(const struct memopt_malloc *table) {
    /* free and usable_size first: a block of the new kind must find them there. */
    __atomic_store_n(&mo_dispatch.free, table->free, __ATOMIC_RELEASE);
    __atomic_store_n(&mo_dispatch.usable_size, table->usable_size, __ATOMIC_RELEASE);
    __atomic_store_n(&mo_dispatch.realloc, table->realloc, __ATOMIC_RELEASE);
    __atomic_store_n(&mo_dispatch.malloc, table->malloc, __ATOMIC_RELEASE);
    __atomic_store_n(&mo_dispatch.calloc, table->calloc, __ATOMIC_RELEASE);
    __atomic_store_n(&mo_dispatch.aligned_alloc, table->aligned_alloc, __ATOMIC_RELEASE);
}

/* Address space for what memopt allocates itself in a program whose allocations are counted. */
enum { KEEP = 8 << 20 };

void mo_dispatch_switch(const struct mo_dispatch_plan *plan) {
    mo_backend = untracked = *plan->backend;
    if (!plan->c_calls) {
        untracked.malloc = checked_malloc;
        untracked.free = checked_free;
    }
    struct memopt_malloc table = untracked;
    if (plan->tracks)
        mo_track_install(plan->figures, &table);
    put(&table);
    /* From here on what the boot range has no room for is the backend's. */
    uintptr_t from = mo_boot_close(plan->keeps ? KEEP : 0);
    __atomic_store_n(&mo_dispatch.boot_from, from, __ATOMIC_RELEASE);
    __atomic_store_n(&mo_dispatch_is_final, true, __ATOMIC_RELEASE);
}

void mo_dispatch_untrack(void) {
    put(&untracked);
}
