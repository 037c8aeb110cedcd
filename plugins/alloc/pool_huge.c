/*
 * pool_huge.c - blocks above 1 MiB or aligned to more than 64 KiB, each with a
 * mapping of its own.
 *
 *     [one system page: struct pool_huge][block ...                      ]
 *
 * A table by address finds them, so free() of an address that is in no segment
 * is checked exactly. Freed ones are kept for a while (`huge_cache` bytes,
 * `purge_delay`), as fresh pages cost more than anything else here.
 */
#define _GNU_SOURCE
#include "plugins/alloc/pool.h"

#include <sys/mman.h>

struct pool_huge {
    struct pool_heap *heap;
    size_t size;                       /* of the block */
    uint64_t expires;                  /* in the cache */
    struct pool_huge *chained;         /* next in the table's bucket or in the cache */
    struct pool_huge *next, *previous; /* of the heap */
};

enum { BUCKETS = 1024 };
static struct pool_huge *table[BUCKETS];
static struct pool_huge *cache; /* newest first */

static char *block_of(struct pool_huge *huge) {
    return (char *)huge + POOL_SYSTEM_PAGE;
}

static struct pool_huge **bucket_of(const void *p) {
    uintptr_t page = (uintptr_t)p >> 12;
    return &table[(page ^ page >> 10 ^ page >> 20) % BUCKETS];
}

static struct pool_huge **find(const void *p) {
    struct pool_huge **at = bucket_of(p);
    while (*at != NULL && block_of(*at) != p)
        at = &(*at)->chained;
    return at;
}

static void enter(struct pool_huge *huge) {
    struct pool_huge **bucket = bucket_of(block_of(huge));
    huge->chained = *bucket;
    *bucket = huge;
    huge->previous = NULL;
    huge->next = huge->heap->huge;
    if (huge->next != NULL)
        huge->next->previous = huge;
    huge->heap->huge = huge;
}

static void leave(struct pool_huge **at) {
    struct pool_huge *huge = *at;
    *at = huge->chained;
    if (huge->previous != NULL)
        huge->previous->next = huge->next;
    else
        huge->heap->huge = huge->next;
    if (huge->next != NULL)
        huge->next->previous = huge->previous;
}

static void unmap(struct pool_huge *huge) {
    mo_pool_unmap(huge, huge->size + POOL_SYSTEM_PAGE);
}

static void unmap_list(struct pool_huge *list) {
    for (struct pool_huge *next; list != NULL; list = next) {
        next = list->chained;
        unmap(list);
    }
}

/* Under the lock: what is due or more than `limit` bytes, cut off as a list. */
static struct pool_huge *expired(uint64_t now, size_t limit) {
    struct pool_huge **at = &cache, *list = NULL;
    size_t kept = 0;
    while (*at != NULL) {
        struct pool_huge *huge = *at;
        if (huge->expires > now && huge->size <= limit - kept) {
            kept += huge->size;
            at = &huge->chained;
            continue;
        }
        *at = huge->chained;
        huge->chained = list;
        list = huge;
    }
    return list;
}

/* Under the lock: the block of the cache that fits best, taken out: the smallest
 * that is large enough, else the largest, which mremap makes larger. */
static struct pool_huge *from_cache(size_t alignment, size_t size) {
    struct pool_huge **best = NULL;
    for (struct pool_huge **at = &cache; *at != NULL; at = &(*at)->chained) {
        if (((uintptr_t)block_of(*at) & (alignment - 1)) != 0 ||
            ((*at)->size < size && alignment > POOL_SYSTEM_PAGE))
            continue;
        if (best == NULL ||
            ((*best)->size < size ? (*at)->size > (*best)->size
                                  : (*at)->size >= size && (*at)->size < (*best)->size))
            best = at;
    }
    if (best == NULL)
        return NULL;
    struct pool_huge *huge = *best;
    *best = huge->chained;
    return huge;
}

/* Makes it `size` bytes, or NULL: it is gone. */
static struct pool_huge *resized(struct pool_huge *huge, size_t size) {
    if (huge->size >= size && huge->size - size <= size / 8)
        return huge;
    struct pool_huge *moved = mremap(huge, huge->size + POOL_SYSTEM_PAGE, size + POOL_SYSTEM_PAGE,
                                     huge->size < size ? MREMAP_MAYMOVE : 0);
    if (moved == MAP_FAILED) {
        unmap(huge);
        return NULL;
    }
    moved->size = size;
    return moved;
}

uint64_t mo_pool_huge_purge(bool all) {
    uint64_t bytes = 0;
    pthread_mutex_lock(&mo_pool_huge_lock);
    struct pool_huge *list = expired(mo_pool_now(), all ? 0 : SIZE_MAX);
    pthread_mutex_unlock(&mo_pool_huge_lock);
    for (struct pool_huge *huge = list; huge != NULL; huge = huge->chained)
        bytes += huge->size;
    unmap_list(list);
    return bytes;
}

void *mo_pool_huge_alloc(struct pool_heap *heap, size_t alignment, size_t size, bool *zero) {
    if (size > PTRDIFF_MAX - 2 * POOL_SYSTEM_PAGE || alignment > PTRDIFF_MAX)
        return NULL;
    size = (size + POOL_SYSTEM_PAGE - 1) & ~(size_t)(POOL_SYSTEM_PAGE - 1);
    if (size == 0)
        size = POOL_SYSTEM_PAGE;
    if (alignment < POOL_SYSTEM_PAGE)
        alignment = POOL_SYSTEM_PAGE;

    /* For calloc fresh pages are better: what is never touched costs nothing. */
    struct pool_huge *huge = NULL, *old = NULL;
    if (!*zero) {
        pthread_mutex_lock(&mo_pool_huge_lock);
        if (cache != NULL) {
            huge = from_cache(alignment, size);
            old = expired(mo_pool_now(), SIZE_MAX);
        }
        pthread_mutex_unlock(&mo_pool_huge_lock);
        unmap_list(old);
        if (huge != NULL)
            huge = resized(huge, size);
    }
    if (huge == NULL) {
        char *block = mo_pool_map_aligned(size, alignment, POOL_SYSTEM_PAGE);
        if (block == NULL) {
            mo_pool_make_room();
            block = mo_pool_map_aligned(size, alignment, POOL_SYSTEM_PAGE);
        }
        if (block == NULL)
            return NULL;
        huge = (struct pool_huge *)(block - POOL_SYSTEM_PAGE);
        huge->size = size;
        *zero = true;
    }
    huge->heap = heap;
    pthread_mutex_lock(&mo_pool_huge_lock);
    enter(huge);
    pthread_mutex_unlock(&mo_pool_huge_lock);
    return block_of(huge);
}

void *mo_pool_huge_realloc(void *p, size_t size) {
    if (size > PTRDIFF_MAX - 2 * POOL_SYSTEM_PAGE)
        return NULL;
    size = (size + POOL_SYSTEM_PAGE - 1) & ~(size_t)(POOL_SYSTEM_PAGE - 1);
    pthread_mutex_lock(&mo_pool_huge_lock);
    struct pool_huge **at = find(p), *huge = *at;
    if (huge == NULL)
        mo_pool_die("realloc", p, "not an allocated block, or freed before");
    if (huge->size == size) {
        pthread_mutex_unlock(&mo_pool_huge_lock);
        return p;
    }
    leave(at); /* the block is its caller's: nobody else asks for it meanwhile */
    pthread_mutex_unlock(&mo_pool_huge_lock);
    struct pool_huge *moved =
        mremap(huge, huge->size + POOL_SYSTEM_PAGE, size + POOL_SYSTEM_PAGE, MREMAP_MAYMOVE);
    if (moved != MAP_FAILED) {
        huge = moved;
        huge->size = size;
    }
    pthread_mutex_lock(&mo_pool_huge_lock);
    enter(huge);
    pthread_mutex_unlock(&mo_pool_huge_lock);
    return moved == MAP_FAILED ? NULL : block_of(huge);
}

void mo_pool_huge_free(void *p, const char *function) {
    struct pool_huge *old = NULL;
    pthread_mutex_lock(&mo_pool_huge_lock);
    struct pool_huge **at = find(p), *huge = *at;
    if (huge == NULL)
        mo_pool_die(function, p, "not an allocated block, or freed before");
    leave(at);
    if (mo_pool_settings.purge_delay > 0 && huge->size <= mo_pool_settings.huge_cache) {
        uint64_t now = mo_pool_now();
        huge->expires = now + mo_pool_settings.purge_delay;
        huge->chained = cache;
        cache = huge;
        old = expired(now, mo_pool_settings.huge_cache);
        huge = NULL;
    }
    pthread_mutex_unlock(&mo_pool_huge_lock);
    unmap_list(old);
    if (huge != NULL)
        unmap(huge);
}

size_t mo_pool_huge_usable(void *p, const char *function) {
    pthread_mutex_lock(&mo_pool_huge_lock);
    struct pool_huge *huge = *find(p);
    if (huge == NULL)
        mo_pool_die(function, p, "not an allocated block, or freed before");
    size_t size = huge->size;
    pthread_mutex_unlock(&mo_pool_huge_lock);
    return size;
}

void mo_pool_huge_destroy(struct pool_heap *heap) {
    struct pool_huge *list = NULL;
    pthread_mutex_lock(&mo_pool_huge_lock);
    while (heap->huge != NULL) {
        struct pool_huge *huge = heap->huge;
        leave(find(block_of(huge)));
        huge->chained = list;
        list = huge;
    }
    pthread_mutex_unlock(&mo_pool_huge_lock);
    unmap_list(list);
}

void mo_pool_huge_figures(struct pool_heap *heap, struct memopt_figures *figures) {
    pthread_mutex_lock(&mo_pool_huge_lock);
    for (struct pool_huge *huge = heap->huge; huge != NULL; huge = huge->next) {
        figures->live += huge->size;
        figures->committed += huge->size + POOL_SYSTEM_PAGE;
        mo_pool_add_resident(figures, huge, huge->size + POOL_SYSTEM_PAGE);
    }
    if (heap == &mo_pool_default) /* the cache is everybody's */
        for (struct pool_huge *huge = cache; huge != NULL; huge = huge->chained) {
            figures->committed += huge->size + POOL_SYSTEM_PAGE;
            mo_pool_add_resident(figures, huge, huge->size + POOL_SYSTEM_PAGE);
        }
    pthread_mutex_unlock(&mo_pool_huge_lock);
}
