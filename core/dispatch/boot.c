/* boot.c - see boot.h. */
#include "core/dispatch/boot.h"
#include "core/dispatch/dispatch.h"

#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { HEADER = 16, STEP = 256 << 10, SLACK = 64 << 10, PAGE = 4096 };

/* At the very end of the reserved addresses, so that one store makes all of it known. [base,
 * this struct) is what blocks are taken from; [low, …) has been handed out; [committed, …)
 * is memory. */
struct range {
    _Atomic uintptr_t base, low, committed;
};
static _Atomic(struct range *) reserved;
static size_t objects_at_first;

static size_t count_objects(void) {
    size_t count = 0;
    for (const struct link_map *map = _r_debug.r_map; map != NULL; map = map->l_next)
        count++;
    return count;
}

/* Reserves address space only. Under RLIMIT_AS that is what the libraries that are
 * loaded next need, too. NULL: there is none. */
static struct range *reserve(void) {
    const size_t most = (size_t)64 << 30, least = 1 << 20;
    objects_at_first = count_objects();
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    getrlimit(RLIMIT_AS, &limit);
    for (size_t size = most; size >= least; size /= 2) {
        if (size > limit.rlim_cur / 8 && size > least)
            continue;
        char *map =
            mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED)
            continue;
        char *last = map + size - PAGE;
        if (mprotect(last, PAGE, PROT_READ | PROT_WRITE) != 0) {
            munmap(map, size);
            break;
        }
        struct range *range = (struct range *)(void *)(map + size - sizeof(*range));
        atomic_init(&range->base, (uintptr_t)map);
        atomic_init(&range->low, (uintptr_t)range & ~(uintptr_t)(HEADER - 1));
        atomic_init(&range->committed, (uintptr_t)last);
        struct range *other = NULL;
        if (atomic_compare_exchange_strong(&reserved, &other, range))
            return range;
        munmap(map, size); /* another thread was first */
        return other;
    }
    return NULL;
}

bool mo_is_reserved(const void *p) {
    const struct range *range = atomic_load_explicit(&reserved, memory_order_acquire);
    return range != NULL && (uintptr_t)p < (uintptr_t)range &&
           (uintptr_t)p >= atomic_load_explicit(&range->base, memory_order_relaxed);
}

static size_t *size_of(void *p) {
    return (size_t *)((char *)p - HEADER);
}

void *mo_boot_take(size_t alignment, size_t asked) {
    struct range *range = atomic_load(&reserved);
    if (range == NULL && (mo_dispatch_is_final || (range = reserve()) == NULL))
        return NULL;
    if (alignment < HEADER)
        alignment = HEADER;
    size_t size = asked == 0 ? HEADER : (asked + HEADER - 1) / HEADER * HEADER;
    uintptr_t p, before = atomic_load(&range->low), floor = atomic_load(&range->base);
    do {
        if (size == 0 || before < floor || size > before - floor)
            return NULL;
        p = (before - size) & ~((uintptr_t)alignment - 1);
        if (p < floor + HEADER)
            return NULL;
    } while (!atomic_compare_exchange_weak(&range->low, &before, p - HEADER));
    if (p - HEADER < atomic_load(&range->base)) /* what is there has been given back meanwhile */
        return NULL;
    /* Threads that need the same step may each ask for it; that does no harm. */
    uintptr_t have = atomic_load(&range->committed);
    if (p - HEADER < have) {
        uintptr_t want = (p - HEADER) & ~(uintptr_t)(STEP - 1);
        if (want < floor)
            want = floor;
        if (mprotect((void *)want, have - want, PROT_READ | PROT_WRITE) != 0)
            return NULL;
        while (have > want && !atomic_compare_exchange_weak(&range->committed, &have, want))
            ;
    }
    *size_of((void *)p) = size;
    return (void *)p;
}

/* The range is at its end, or the switch has come in between: then the backend serves. */
void *mo_boot_aligned_alloc(size_t alignment, size_t size) {
    void *p = mo_boot_take(alignment, size);
    if (p != NULL)
        return p;
    if (mo_dispatch.aligned_alloc != mo_boot_aligned_alloc)
        return mo_dispatch.aligned_alloc(alignment, size);
    errno = ENOMEM;
    return NULL;
}

void *mo_boot_malloc(size_t size) {
    return mo_boot_aligned_alloc(HEADER, size);
}

void *mo_boot_calloc(size_t count, size_t size) {
    void *p = mo_boot_aligned_alloc(HEADER, count * size);
    return p == NULL ? NULL : memset(p, 0, count * size);
}

size_t mo_boot_usable_size(void *p) {
    return *size_of(p);
}

/* Only the block that was handed out last can be taken back. */
void mo_boot_free(void *p) {
    struct range *range = atomic_load(&reserved);
    uintptr_t last = (uintptr_t)p - HEADER;
    if (p != NULL)
        atomic_compare_exchange_strong(&range->low, &last, (uintptr_t)p + *size_of(p));
}

void *mo_boot_realloc(void *p, size_t size) {
    size_t old = mo_boot_usable_size(p);
    if (size <= old)
        return p;
    void *q = mo_boot_malloc(size);
    if (q != NULL)
        memcpy(q, p, old);
    return q; /* `p` was not the last any more */
}

uintptr_t mo_boot_close(size_t keep) {
    struct range *range = atomic_load(&reserved);
    if (range == NULL && (keep == 0 || (range = reserve()) == NULL))
        return UINTPTR_MAX; /* nothing has been served */
    uintptr_t from = atomic_load(&range->base), low = atomic_load(&range->low);
    if (keep + SLACK >= low - from)
        return from;
    uintptr_t kept;
    do { /* until no call that has begun before can have taken what goes */
        kept = (low - keep - SLACK) & ~(uintptr_t)(PAGE - 1);
        atomic_store(&range->base, kept);
        low = atomic_load(&range->low);
    } while (low < kept && keep + SLACK < low - from);
    if (atomic_load(&range->committed) < kept)
        atomic_store(&range->committed, kept);
    munmap((void *)from, kept - from);
    return kept;
}

uint64_t mo_boot_used(void) {
    struct range *range = atomic_load(&reserved);
    return range == NULL ? 0 : (uintptr_t)range - atomic_load(&range->low);
}

size_t mo_boot_objects(void) {
    return objects_at_first > 0 ? objects_at_first : count_objects();
}
