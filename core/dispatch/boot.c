/* boot.c - see boot.h. */
#include "core/dispatch/boot.h"

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
    static const size_t sizes[] = {256u << 20, 32u << 20, 4u << 20, 1u << 20};
    objects_at_first = count_objects();
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    getrlimit(RLIMIT_AS, &limit);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        if (sizes[i] > limit.rlim_cur / 8 && sizes[i] > 1u << 20)
            continue;
        char *map =
            mmap(NULL, sizes[i], PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED)
            continue;
        char *last = map + sizes[i] - PAGE;
        if (mprotect(last, PAGE, PROT_READ | PROT_WRITE) != 0) {
            munmap(map, sizes[i]);
            break;
        }
        struct range *range = (struct range *)(void *)(map + sizes[i] - sizeof(*range));
        atomic_init(&range->base, (uintptr_t)map);
        atomic_init(&range->low, (uintptr_t)range & ~(uintptr_t)(HEADER - 1));
        atomic_init(&range->committed, (uintptr_t)last);
        struct range *other = NULL;
        if (atomic_compare_exchange_strong(&reserved, &other, range))
            return range;
        munmap(map, sizes[i]); /* another thread was first */
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

static void *fail(void) {
    errno = ENOMEM;
    return NULL;
}

void *mo_boot_aligned_alloc(size_t alignment, size_t size) {
    struct range *range = atomic_load(&reserved);
    if (range == NULL && (range = reserve()) == NULL)
        return fail();
    if (alignment < HEADER)
        alignment = HEADER;
    size = size == 0 ? HEADER : (size + HEADER - 1) / HEADER * HEADER;
    uintptr_t p, before = atomic_load(&range->low), floor = atomic_load(&range->base);
    do {
        if (size == 0 || size > before - floor)
            return fail();
        p = (before - size) & ~((uintptr_t)alignment - 1);
        if (p < floor + HEADER)
            return fail();
    } while (!atomic_compare_exchange_weak(&range->low, &before, p - HEADER));
    /* Threads that need the same step may each ask for it; that does no harm. */
    uintptr_t have = atomic_load(&range->committed);
    if (p - HEADER < have) {
        uintptr_t want = (p - HEADER) & ~(uintptr_t)(STEP - 1);
        if (want < floor)
            want = floor;
        if (mprotect((void *)want, have - want, PROT_READ | PROT_WRITE) != 0)
            return fail();
        while (have > want && !atomic_compare_exchange_weak(&range->committed, &have, want))
            ;
    }
    *size_of((void *)p) = size;
    return (void *)p;
}

void *mo_boot_malloc(size_t size) {
    return mo_boot_aligned_alloc(HEADER, size);
}

void *mo_boot_calloc(size_t count, size_t size) {
    return mo_boot_aligned_alloc(HEADER, count * size); /* never used before: zero */
}

size_t mo_boot_usable_size(void *p) {
    return *size_of(p);
}

void mo_boot_free(void *p) {
    (void)p;
}

void *mo_boot_realloc(void *p, size_t size) {
    size_t old = mo_boot_usable_size(p);
    if (size <= old)
        return p;
    void *q = mo_boot_malloc(size);
    if (q != NULL)
        memcpy(q, p, old);
    return q;
}

uintptr_t mo_boot_close(size_t keep) {
    struct range *range = atomic_load(&reserved);
    if (range == NULL)
        return UINTPTR_MAX; /* nothing has been served */
    uintptr_t from = atomic_load(&range->base), low = atomic_load(&range->low);
    if (keep + SLACK >= low - from)
        return from;
    uintptr_t kept = (low - keep - SLACK) & ~(uintptr_t)(PAGE - 1);
    atomic_store(&range->base, kept);
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
