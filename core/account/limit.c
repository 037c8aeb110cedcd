/* limit.c - see limit.h. A call reserves what it asks for before the backend is
 * called, and settles the difference to the usable size afterwards. */
#include "core/account/limit.h"

#include "core/account/account.h"
#include "core/account/bound.h"
#include "core/ledger/writer.h"

#include <string.h>

static struct memopt_malloc below;
static struct mo_ledger_heap *heap;
static uint64_t (*purge_backend)(void);
static void *(*take_own)(size_t alignment, size_t size);

static void settle(uint64_t reserved, uint64_t used) {
    mo_bound_peak(heap, atomic_fetch_add(&heap->live_bytes, used - reserved) + used - reserved);
}

static bool reserve(uint64_t size) {
    if (mo_bound_reserve(heap, size))
        return true;
    if (purge_backend != NULL)
        purge_backend();
    if (mo_bound_reserve(heap, size))
        return true;
    atomic_fetch_add(&heap->refused, 1);
    return false;
}

static void *came(void *p, uint64_t reserved) {
    if (p == NULL) {
        mo_bound_release(heap, reserved);
        return NULL;
    }
    settle(reserved, below.usable_size(p));
    atomic_fetch_add_explicit(&heap->allocations, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&heap->live_blocks, 1, memory_order_relaxed);
    return p;
}

static void *own(size_t alignment, size_t size) {
    return __builtin_expect(mo_own.inside >= MO_IN_MEMOPT, 0) && take_own != NULL
               ? take_own(alignment, size)
               : NULL;
}

static void *limited_malloc(size_t size) {
    void *p = own(0, size);
    if (p != NULL)
        return p;
    return reserve(size) ? came(below.malloc(size), size) : NULL;
}

static void *limited_calloc(size_t count, size_t size) {
    void *p = own(0, count * size);
    if (p != NULL)
        return memset(p, 0, count * size);
    return reserve(count * size) ? came(below.calloc(count, size), count * size) : NULL;
}

static void *limited_aligned_alloc(size_t alignment, size_t size) {
    void *p = own(alignment, size);
    if (p != NULL)
        return p;
    return reserve(size) ? came(below.aligned_alloc(alignment, size), size) : NULL;
}

static void *limited_realloc(void *p, size_t size) {
    uint64_t old = below.usable_size(p);
    uint64_t more = size > old ? size - old : 0;
    if (more > 0 && !reserve(more))
        return NULL;
    void *q = below.realloc(p, size);
    settle(old + more, q == NULL ? old : below.usable_size(q));
    return q;
}

static void limited_free(void *p) {
    uint64_t size = below.usable_size(p);
    below.free(p);
    mo_bound_release(heap, size);
    atomic_fetch_add_explicit(&heap->frees, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&heap->live_blocks, 1, memory_order_relaxed);
}

void mo_limit_install(struct memopt_malloc *table, uint64_t (*purge)(void),
                      struct mo_ledger_heap *slot,
                      void *(*own_alloc)(size_t alignment, size_t size)) {
    take_own = own_alloc;
    below = *table;
    heap = slot;
    purge_backend = purge;
    table->malloc = limited_malloc;
    table->calloc = limited_calloc;
    table->realloc = limited_realloc;
    table->free = limited_free;
    table->aligned_alloc = limited_aligned_alloc;
}

/* -------------------------------------------------------------------- fork */

static struct mo_ledger_heap kept;

void mo_limit_before_fork(void) {
    if (heap != NULL && heap != &kept)
        memcpy(&kept, heap, sizeof(kept));
}

struct mo_ledger_heap *mo_limit_in_child(void) {
    if (heap == NULL)
        return NULL;
    struct mo_ledger_heap *slot = mo_ledger_heap_slot(kept.name, kept.allocator);
    heap = slot != NULL ? slot : &kept;
    if (slot != NULL)
        memcpy(slot, &kept, sizeof(kept));
    return heap;
}
