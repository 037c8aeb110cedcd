/*
 * arena.c - the `arena` allocator: blocks from one fixed region, and no more.
 *
 * The region is the caller's (memopt_heap_params.region) or mapped at the size
 * the INI gives; when it is full, allocation fails. Two modes:
 *
 *   freelist  two-level segregated fit: free blocks in lists by size class,
 *             found through two bit maps in constant time, neighbours joined at
 *             free. The bound on time holds but for the last resort before
 *             failure, which looks through one list.
 *   bump      a block is the next bytes of the region; freeing gives them back
 *             only when everything after them is free too. For work in phases.
 *
 * Both hand out blocks in a row (lib/head.h): a damaged head, a pointer to no block
 * and a second free end the program with a message instead of spreading.
 *
 *   | head | payload ...... | head | payload .. | ... | end head |   (freelist: lib/tlsf.h)
 *   | head | payload ...... | head | payload .. | top                (bump)
 *
 * Threads: a mutex per arena.
 */
#define _GNU_SOURCE

#include "config.h"

#include "lib/tlsf.h"

#include <memopt/plugin.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <unistd.h>

enum { MODE_FREELIST, MODE_BUMP };
static const char *const mode_choices[] = {"freelist", "bump", NULL};

struct settings {
    uint64_t region; /* `size` */
    int mode;
};

struct arena {
    pthread_mutex_t lock;
    char *region;
    size_t region_size;
    int ours; /* mapped by us */
    int used; /* the struct is in use */
    int bump;
    int full_noted; /* that the default heap is full has been said */
    char *touched;        /* nothing at or after it was ever written */
    char *top;            /* bump: where the next head goes; freelist: the end head */
    struct mo_head *last; /* bump: the last block; NULL: none */
    uint64_t live, peak;  /* payload bytes */
    struct arena *next;   /* all arenas */
    struct mo_tlsf *tlsf; /* behind this struct; bump has the row of it only */
};

static struct {
    const struct memopt_host *host;
    size_t page;
    size_t region; /* bytes, for arenas without a region of their own */
    int bump;
    struct arena *default_arena;
} state;

static pthread_mutex_t arenas_lock = PTHREAD_MUTEX_INITIALIZER;
static struct arena *arenas; /* never shrinks: structs are used again */

static const size_t region_limit = (size_t)MO_UNIT << MO_UNITS_BITS;

/* Ends the program; the lock is given up first, as a SIGABRT handler of the
 * program's may allocate. */
static _Noreturn void die(struct arena *arena, const char *operation, int damage) {
    static const char *const texts[] = {
        [MO_DAMAGE_FOREIGN] = "no block of this arena begins there",
        [MO_DAMAGE_HEAD] = "no block begins there, or the one before it overflowed into its head",
        [MO_DAMAGE_TWICE] = "the block was freed before (double free)",
        [MO_DAMAGE_NEXT] = "the head after the block is damaged: it overflowed",
        [MO_DAMAGE_PREVIOUS] =
            "the head of the block before is damaged: something overflowed into it",
        [MO_DAMAGE_BLOCK] = "the head of a block is damaged",
        [MO_DAMAGE_LINKS] = "a freed block was written to (use after free)",
    };
    const void *p = arena->tlsf->row.wrong;
    pthread_mutex_unlock(&arena->lock);
    state.host->note(MEMOPT_NOTE_ERROR, "arena: %s(%p): %s", operation, p, texts[damage]);
    abort();
}

static struct mo_head *head_of(struct arena *arena, const char *operation, void *p) {
    struct mo_head *head;
    int damage = mo_head_of(&arena->tlsf->row, p, &head);
    if (damage != 0)
        die(arena, operation, damage);
    return head;
}

static struct mo_head *previous_of(struct arena *arena, const char *operation,
                                   const struct mo_head *head) {
    struct mo_head *previous;
    int damage = mo_head_previous(&arena->tlsf->row, head, &previous);
    if (damage != 0)
        die(arena, operation, damage);
    return previous;
}

static void touch(struct arena *arena, char *end) {
    if (end > arena->touched)
        arena->touched = end > arena->tlsf->row.end ? arena->tlsf->row.end : end;
}

/* ------------------------------------------------------------- freelist mode */

/* The head that follows a block and the links behind it have been written to as well. */
enum { RECORD = sizeof(struct mo_head) + MO_UNIT };

static struct mo_head *freelist_new(struct arena *arena, size_t size, size_t alignment) {
    void *p;
    int code = mo_tlsf_alloc(arena->tlsf, size, alignment, 0, &p);
    if (code > 0)
        die(arena, "malloc", code);
    return code == 0 ? (struct mo_head *)p - 1 : NULL;
}

static void freelist_free(struct arena *arena, const char *operation, void *p) {
    int damage = mo_tlsf_free(arena->tlsf, p);
    if (damage != 0)
        die(arena, operation, damage);
}

/* In place, or 0. */
static int freelist_resize(struct arena *arena, void *p, size_t size) {
    int code = mo_tlsf_resize(arena->tlsf, p, size);
    if (code > 0)
        die(arena, "realloc", code);
    return code == 0;
}

/* ----------------------------------------------------------------- bump mode */

static uint64_t units_for(size_t size) {
    return size == 0 ? 1 : (size + MO_UNIT - 1) / MO_UNIT;
}

static struct mo_head *bump_new(struct arena *arena, size_t size, size_t alignment) {
    struct mo_row *row = &arena->tlsf->row;
    struct mo_head *head = (struct mo_head *)arena->top;
    uint64_t units = units_for(size);
    uint64_t before = arena->last == NULL ? 0 : mo_head_units(arena->last);
    uint64_t gap = (uint64_t)(-(uintptr_t)mo_head_payload(head) & (alignment - 1)) / MO_UNIT;
    if (gap == 1) /* a head, but no payload: not a block */
        gap += alignment / MO_UNIT;
    uint64_t room = (uint64_t)(row->end - arena->top) / MO_UNIT;
    if (units + 1 + gap > room)
        return NULL;
    if (gap > 0) {
        mo_head_write(row, head, gap - 1, MO_HEAD_FREE, before);
        before = gap - 1;
        head = mo_head_after(head);
    }
    mo_head_write(row, head, units, MO_HEAD_USED, before);
    arena->last = head;
    arena->top = (char *)mo_head_after(head);
    return head;
}

static void bump_free(struct arena *arena, const char *operation, void *p) {
    struct mo_head *head = (struct mo_head *)p - 1;
    mo_head_write(&arena->tlsf->row, head, mo_head_units(head), MO_HEAD_FREE, mo_head_before(head));
    while (arena->last != NULL && mo_head_state(arena->last) == MO_HEAD_FREE) {
        arena->top = (char *)arena->last;
        arena->last = previous_of(arena, operation, arena->last);
    }
}

static int bump_resize(struct arena *arena, void *p, size_t size) {
    struct mo_row *row = &arena->tlsf->row;
    struct mo_head *head = (struct mo_head *)p - 1;
    uint64_t units = units_for(size);
    if (head != arena->last)
        return units <= mo_head_units(head);
    if (units > (uint64_t)(row->end - mo_head_payload(head)) / MO_UNIT)
        return 0;
    mo_head_write(row, head, units, MO_HEAD_USED, mo_head_before(head));
    arena->top = (char *)mo_head_after(head);
    return 1;
}

/* --------------------------------------------------------------- both modes */

/* The block is the program's from now on: all of it may be written. */
static void count(struct arena *arena, const struct mo_head *head) {
    arena->live += mo_head_units(head) * MO_UNIT;
    if (arena->live > arena->peak)
        arena->peak = arena->live;
    touch(arena, (char *)mo_head_after(head) + (arena->bump ? 0 : RECORD));
}

static struct mo_head *new_block(struct arena *arena, size_t size, size_t alignment) {
    struct mo_head *head =
        arena->bump ? bump_new(arena, size, alignment) : freelist_new(arena, size, alignment);
    if (head != NULL)
        count(arena, head);
    return head;
}

/* `ret_dirty` (may be NULL): how many bytes of the block may hold old data. */
static void *block_new(struct arena *arena, size_t size, size_t alignment, size_t *ret_dirty) {
    void *p = NULL;
    if (size <= arena->region_size && alignment <= arena->region_size) {
        pthread_mutex_lock(&arena->lock);
        char *touched = arena->touched;
        struct mo_head *head = new_block(arena, size, alignment < MO_UNIT ? MO_UNIT : alignment);
        if (head != NULL) {
            p = mo_head_payload(head);
            char *end = (char *)mo_head_after(head);
            if (ret_dirty != NULL)
                *ret_dirty = touched <= (char *)p ? 0
                             : touched < end      ? (size_t)(touched - (char *)p)
                                                  : (size_t)(end - (char *)p);
        }
        pthread_mutex_unlock(&arena->lock);
    }
    if (p == NULL && arena == state.default_arena &&
        !__atomic_exchange_n(&arena->full_noted, 1, __ATOMIC_RELAXED))
        state.host->note(MEMOPT_NOTE_WARNING,
                         "arena: the region of %zu bytes has no room for a block of %zu byte%s; "
                         "set 'size' in [allocator.arena]",
                         arena->region_size, size, size == 1 ? "" : "s");
    return p;
}

static void *block_calloc(struct arena *arena, size_t size) {
    size_t dirty;
    void *p = block_new(arena, size, MO_UNIT, &dirty);
    if (p != NULL)
        memset(p, 0, dirty);
    return p;
}

static void free_block(struct arena *arena, const char *operation, void *p) {
    uint64_t bytes = mo_head_units(head_of(arena, operation, p)) * MO_UNIT;
    if (arena->bump)
        bump_free(arena, operation, p);
    else
        freelist_free(arena, operation, p);
    arena->live -= bytes;
}

static void block_free(struct arena *arena, void *p) {
    pthread_mutex_lock(&arena->lock);
    free_block(arena, "free", p);
    pthread_mutex_unlock(&arena->lock);
}

static void *block_resize(struct arena *arena, void *p, size_t size) {
    if (size > arena->region_size)
        return NULL;
    void *result = NULL;
    pthread_mutex_lock(&arena->lock);
    struct mo_head *head = head_of(arena, "realloc", p);
    size_t old = mo_head_units(head) * MO_UNIT;
    if (arena->bump ? bump_resize(arena, p, size) : freelist_resize(arena, p, size)) {
        arena->live -= old;
        count(arena, head);
        result = p;
    } else {
        struct mo_head *copy = new_block(arena, size, MO_UNIT);
        if (copy != NULL) {
            size_t bytes = mo_head_units(copy) * MO_UNIT;
            result = mo_head_payload(copy);
            memcpy(result, p, old < bytes ? old : bytes);
            free_block(arena, "realloc", p);
        }
    }
    pthread_mutex_unlock(&arena->lock);
    return result;
}

static size_t block_size(struct arena *arena, void *p) {
    pthread_mutex_lock(&arena->lock);
    size_t size = mo_head_units(head_of(arena, "malloc_usable_size", p)) * MO_UNIT;
    pthread_mutex_unlock(&arena->lock);
    return size;
}

/* ------------------------------------------------------------------- arenas */

/* On failure nothing is kept. */
static int arena_new(const struct memopt_host *host, const char *name, void *region, size_t size,
                     struct arena **ret_arena, struct memopt_error *error) {
    int ours = region == NULL;
    if (size < 1024 || size >= region_limit)
        return host->fail(error, -EINVAL,
                          "heap '%s': a region of %zu bytes can't be an arena, it takes 1KiB to "
                          "16TiB",
                          name, size);
    if (ours) {
        size = (size + state.page - 1) & ~(state.page - 1);
        region = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (region == MAP_FAILED)
            return host->fail(error, -errno, "heap '%s': can't map a region of %zu bytes: %s", name,
                              size, strerrordesc_np(errno));
    }
    pthread_mutex_lock(&arenas_lock);
    struct arena *arena = arenas;
    while (arena != NULL && arena->used)
        arena = arena->next;
    if (arena == NULL) {
        arena = host->alloc(sizeof(*arena) + mo_tlsf_size(region_limit));
        if (arena == NULL) {
            pthread_mutex_unlock(&arenas_lock);
            if (ours)
                munmap(region, size);
            return host->fail(error, -ENOMEM, "heap '%s': out of memory", name);
        }
        pthread_mutex_init(&arena->lock, NULL);
        arena->tlsf = (struct mo_tlsf *)(arena + 1);
        arena->next = arenas;
        arenas = arena;
    }
    pthread_mutex_lock(&arena->lock);
    arena->region = region;
    arena->region_size = size;
    arena->ours = ours;
    arena->bump = state.bump;
    arena->full_noted = 0;
    const void *random = (const void *)getauxval(AT_RANDOM); /* at any address */
    uint64_t secret = 0;
    if (random != NULL)
        memcpy(&secret, random, sizeof(secret));
    secret ^= (uintptr_t)arena;
    struct mo_row *row = &arena->tlsf->row;
    if (arena->bump) {
        row->secret = secret;
        row->start = (char *)(((uintptr_t)region + MO_UNIT - 1) & ~(uintptr_t)(MO_UNIT - 1));
        row->end = (char *)(((uintptr_t)region + size) & ~(uintptr_t)(MO_UNIT - 1));
    } else { /* can't fail: there is more than 1 KiB */
        mo_tlsf_init(arena->tlsf, region_limit, region, size, secret);
    }
    arena->top = arena->bump ? row->start : row->end - sizeof(struct mo_head);
    /* What the caller gives may hold anything. */
    arena->touched = ours ? row->start : row->end;
    if (!arena->bump)
        touch(arena, row->start + RECORD);
    arena->last = NULL;
    arena->live = arena->peak = 0;
    arena->used = 1;
    pthread_mutex_unlock(&arena->lock);
    pthread_mutex_unlock(&arenas_lock);
    *ret_arena = arena;
    return 0;
}

static int heap_create(const struct memopt_host *host, const struct memopt_heap_params *params,
                       void **ret_heap, struct memopt_error *error) {
    (void)host;
    struct arena *arena;
    size_t size = params->region_size != 0 ? params->region_size : state.region;
    int result = arena_new(state.host, params->name, params->region, size, &arena, error);
    if (result == 0)
        *ret_heap = arena;
    return result;
}

static void heap_destroy(void *opaque) {
    struct arena *arena = opaque;
    pthread_mutex_lock(&arenas_lock);
    if (arena->ours)
        munmap(arena->region, arena->region_size);
    arena->used = 0;
    pthread_mutex_unlock(&arenas_lock);
}

static uint64_t resident_bytes(const char *from, const char *to) {
    uint64_t bytes = 0;
    from = (const char *)((uintptr_t)from & ~(uintptr_t)(state.page - 1));
    while (from < to) {
        unsigned char present[1024];
        size_t part = (size_t)(to - from);
        if (part > sizeof(present) * state.page)
            part = sizeof(present) * state.page;
        if (mincore((void *)(uintptr_t)from, part, present) != 0)
            return MEMOPT_UNKNOWN;
        for (size_t i = 0; i < (part + state.page - 1) / state.page; i++)
            bytes += (present[i] & 1) != 0 ? state.page : 0;
        from += part;
    }
    return bytes;
}

/* Committed is the region up to the highest byte ever used: what lies beyond
 * was never more than address space. */
static int heap_figures(void *opaque, struct memopt_figures *figures) {
    struct arena *arena = opaque;
    pthread_mutex_lock(&arena->lock);
    figures->live = arena->live;
    figures->peak = arena->peak;
    char *touched = arena->ours ? arena->touched : arena->tlsf->row.end;
    figures->committed =
        ((uint64_t)(touched - arena->region) + state.page - 1) & ~(uint64_t)(state.page - 1);
    if (figures->committed > arena->region_size)
        figures->committed = arena->region_size;
    figures->resident = resident_bytes(arena->region, touched);
    figures->retained = arena->region_size - figures->committed;
    pthread_mutex_unlock(&arena->lock);
    figures->fragmentation =
        figures->committed == 0 ? 0 : 1 - (double)figures->live / (double)figures->committed;
    return 0;
}

static int figures(struct memopt_figures *ret_figures) {
    struct memopt_figures sum = {0}, one = {.size = sizeof(one)};
    int count_used = 0;
    pthread_mutex_lock(&arenas_lock);
    for (struct arena *arena = arenas; arena != NULL; arena = arena->next) {
        if (!arena->used)
            continue;
        heap_figures(arena, &one);
        sum.live += one.live;
        sum.committed += one.committed;
        sum.retained += one.retained;
        sum.resident = one.resident == MEMOPT_UNKNOWN || sum.resident == MEMOPT_UNKNOWN
                           ? MEMOPT_UNKNOWN
                           : sum.resident + one.resident;
        count_used++;
    }
    pthread_mutex_unlock(&arenas_lock);
    ret_figures->live = sum.live;
    ret_figures->committed = sum.committed;
    ret_figures->retained = sum.retained;
    ret_figures->resident = sum.resident;
    /* Peaks of several arenas were at different times. */
    ret_figures->peak = count_used == 1 ? one.peak : MEMOPT_UNKNOWN;
    ret_figures->fragmentation =
        sum.committed == 0 ? 0 : 1 - (double)sum.live / (double)sum.committed;
    return 0;
}

/* Whole pages between two places in freed memory. */
static uint64_t purge_range(const char *from, const char *to) {
    uintptr_t first = ((uintptr_t)from + state.page - 1) & ~(uintptr_t)(state.page - 1);
    uintptr_t last = (uintptr_t)to & ~(uintptr_t)(state.page - 1);
    if (first >= last)
        return 0;
    uint64_t bytes = resident_bytes((char *)first, (char *)last);
    if (bytes == MEMOPT_UNKNOWN || bytes == 0 ||
        madvise((void *)first, last - first, MADV_DONTNEED) != 0)
        return 0;
    return bytes;
}

static uint64_t heap_purge(void *opaque) {
    struct arena *arena = opaque;
    uint64_t bytes = 0;
    if (!arena->ours) /* the caller's memory may be more than plain pages */
        return 0;
    pthread_mutex_lock(&arena->lock);
    struct mo_row *row = &arena->tlsf->row;
    struct mo_head *head = (struct mo_head *)row->start;
    while ((char *)head < arena->top) {
        row->wrong = mo_head_payload(head);
        if (!mo_head_is_whole(row, head))
            die(arena, "malloc_trim", MO_DAMAGE_BLOCK);
        if (mo_head_state(head) == MO_HEAD_FREE) /* its links stay */
            bytes += purge_range(mo_head_payload(head) + MO_UNIT, (char *)mo_head_after(head));
        head = mo_head_after(head);
    }
    /* In a bump arena the heads up there tell a double free: keep the first. */
    if (arena->bump)
        bytes += purge_range(arena->top + sizeof(struct mo_head), row->end);
    pthread_mutex_unlock(&arena->lock);
    return bytes;
}

static uint64_t purge(void) {
    uint64_t bytes = 0;
    pthread_mutex_lock(&arenas_lock);
    for (struct arena *arena = arenas; arena != NULL; arena = arena->next)
        if (arena->used)
            bytes += heap_purge(arena);
    pthread_mutex_unlock(&arenas_lock);
    return bytes;
}

static void *arena_heap_malloc(void *arena, size_t size) {
    return block_new(arena, size, MO_UNIT, NULL);
}

static void *arena_heap_calloc(void *arena, size_t count_, size_t size) {
    return block_calloc(arena, count_ * size);
}

static void *arena_heap_realloc(void *arena, void *p, size_t size) {
    return block_resize(arena, p, size);
}

static void *arena_heap_aligned_alloc(void *arena, size_t alignment, size_t size) {
    return block_new(arena, size, alignment, NULL);
}

static void arena_heap_free(void *arena, void *p) {
    block_free(arena, p);
}

static size_t arena_heap_usable_size(void *arena, void *p) {
    return block_size(arena, p);
}

MEMOPT_DEFAULT_HEAP(arena, state.default_arena);

/* ------------------------------------------------- default heap, fork, open */

/* A program of one thread may fork in a signal handler, which may have interrupted
 * whoever holds a lock; and nobody else can hold one. glibc does the same. */
static int fork_locks;

static void before_fork(void) {
    fork_locks = !__libc_single_threaded;
    if (!fork_locks)
        return;
    pthread_mutex_lock(&arenas_lock);
    for (struct arena *arena = arenas; arena != NULL; arena = arena->next)
        pthread_mutex_lock(&arena->lock);
}

static void after_fork(void) {
    if (!fork_locks)
        return;
    for (struct arena *arena = arenas; arena != NULL; arena = arena->next)
        pthread_mutex_unlock(&arena->lock);
    pthread_mutex_unlock(&arenas_lock);
}

static int open_arena(const struct memopt_host *host, const void *opaque,
                      struct memopt_malloc *ret_malloc, struct memopt_error *error) {
    const struct settings *settings = opaque;
    state.host = host;
    state.page = (size_t)sysconf(_SC_PAGESIZE);
    state.region = settings->region;
    state.bump = settings->mode == MODE_BUMP;
    int result = arena_new(host, "default", NULL, state.region, &state.default_arena, error);
    if (result < 0)
        return result;
    arena_default_heap(ret_malloc);
    return 0;
}

static const struct memopt_allocator_ops ops = {
    .size = sizeof(ops),
    .open = open_arena,
    .figures = figures,
    .purge = purge,
    .heap_create = heap_create,
    .heap_destroy = heap_destroy,
    .heap_malloc = arena_heap_malloc,
    .heap_calloc = arena_heap_calloc,
    .heap_realloc = arena_heap_realloc,
    .heap_aligned_alloc = arena_heap_aligned_alloc,
    .heap_free = arena_heap_free,
    .heap_usable_size = arena_heap_usable_size,
    .heap_figures = heap_figures,
    .heap_purge = heap_purge,
    .before_fork = before_fork,
    .after_fork_parent = after_fork,
    .after_fork_child = after_fork,
};

static const struct memopt_option options[] = {
    MEMOPT_OPT_SIZE(struct settings, region, "size", "64MiB", "64KiB", "16TiB",
                    "bytes of the region, of the default heap and of each heap without one of "
                    "its own; all of it is address space, pages come when they are used"),
    MEMOPT_OPT_ENUM(struct settings, mode, "mode", "freelist", mode_choices,
                    "freelist: freed blocks are used again; bump: they are when all later ones "
                    "are free too"),
    MEMOPT_OPT_END,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_ALLOCATOR),
    .name = "arena",
    .version = PACKAGE_VERSION,
    .summary = "blocks from one region of a fixed size",
    .options = options,
    .settings_size = sizeof(struct settings),
    .ops = &ops,
};
