/* dispatch.c - the rare halves of the operations: see dispatch.h. */
#include "core/dispatch/dispatch.h"
#include "core/ledger/writer.h"

#include <errno.h>
#include <string.h>

bool mo_tracks;

void *mo_fail_nomem(void) {
    if (mo_ledger() != NULL)
        atomic_fetch_add_explicit(&mo_ledger()->failures, 1, memory_order_relaxed);
    errno = ENOMEM;
    return NULL;
}

void mo_free_rare(void *p) {
    if (!mo_is_reserved(p))
        mo_dispatch.free(p);
    else if (!mo_dispatch_is_final)
        mo_boot_free(p);
    else
        mo_own_free(p);
}

void *mo_realloc_rare(void *p, size_t size) {
    if (p == NULL) /* a malloc, but to trackers a realloc */
        return mo_tracks ? mo_track_realloc_null(size) : mo_malloc(size);
    if (size == 0) {
        mo_free(p);
        return NULL; /* as glibc does; errno stays */
    }
    size_t old = mo_boot_usable_size(p);
    if (size <= old)
        return p;
    void *q = mo_malloc(size);
    if (q != NULL) {
        memcpy(q, p, old);
        mo_free_rare(p);
    }
    return q;
}
