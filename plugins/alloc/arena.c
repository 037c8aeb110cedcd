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
 * Layout: each block is a 16-byte head and a payload of whole 16-byte units;
 * head and payload follow each other without gaps from the start of the region,
 * so both neighbours of a block can be found:
 *
 *   | head | payload ...... | head | payload .. | ... | end head |   (freelist)
 *   | head | payload ...... | head | payload .. | top            |   (bump)
 *
 * A head carries a check sum of its own place and contents under a secret, so
 * a damaged head, a pointer that is no block and a second free end the program
 * with a message instead of spreading. Heads of freed blocks are left in the
 * state FREE wherever they end up, also inside a joined block: that is how a
 * double free is told from a wild pointer.
 *
 * Threads: a mutex per arena.
 */
#define _GNU_SOURCE

#include "config.h"

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

enum { UNIT = 16 };
/* `size`: payload units << 8 | state. `previous`: units of the block before
 * (0: there is none) << 24 | check sum. */
struct head {
    uint64_t size, previous;
};
enum { STATE_USED = 0xa5, STATE_FREE = 0x5a, STATE_END = 0x3c };

/* A free block's payload in freelist mode. */
struct links {
    struct head *next, *before;
};

/* Classes of units: below 16 one class each, above 16 classes per power of two,
 * up to 2^40 units (16 TiB). */
enum { SECOND_BITS = 4, SECOND = 1 << SECOND_BITS, FIRST = 40 - SECOND_BITS + 1, UNITS_BITS = 40 };

struct arena {
    pthread_mutex_t lock;
    char *region;
    size_t region_size;
    int ours; /* mapped by us */
    int used; /* the struct is in use */
    int bump;
    int full_noted; /* that the default heap is full has been said */
    uint64_t secret;
    char *start;         /* the first head */
    char *end;           /* one past the last byte for heads and payloads */
    char *touched;       /* nothing at or after it was ever written */
    char *top;           /* bump: where the next head goes; freelist: the end head */
    struct head *last;   /* bump: the last block; NULL: none */
    uint64_t live, peak; /* payload bytes */
    uint64_t first_map;
    uint16_t second_map[FIRST];
    struct head *lists[FIRST][SECOND];
    struct arena *next; /* all arenas */
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

/* -------------------------------------------------------------------- heads */

static uint64_t units_of(const struct head *head) {
    return head->size >> 8;
}

static unsigned state_of(const struct head *head) {
    return (unsigned)(head->size & 0xff);
}

static char *payload_of(struct head *head) {
    return (char *)(head + 1);
}

static struct head *after(struct head *head) {
    return (struct head *)(payload_of(head) + units_of(head) * UNIT);
}

static uint64_t check_sum(const struct arena *arena, const struct head *head, uint64_t previous) {
    uint64_t x = ((uint64_t)(uintptr_t)head ^ arena->secret) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 29) ^ head->size) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 32) ^ previous) * 0x94d049bb133111ebu;
    return x >> 40;
}

static void write_head(struct arena *arena, struct head *head, uint64_t units, unsigned word,
                       uint64_t previous) {
    head->size = units << 8 | word;
    head->previous = previous << 24 | check_sum(arena, head, previous);
    char *written = payload_of(head) + sizeof(struct links);
    if (word != STATE_END && written > arena->touched) /* the end head is in nobody's payload */
        arena->touched = written > arena->end ? arena->end : written;
}

static int is_whole(const struct arena *arena, const struct head *head) {
    return (head->previous & 0xffffff) == check_sum(arena, head, head->previous >> 24);
}

/* Ends the program; the lock is given up first, as a SIGABRT handler of the
 * program's may allocate. */
static _Noreturn void die(struct arena *arena, const char *operation, const void *p,
                          const char *what) {
    pthread_mutex_unlock(&arena->lock);
    state.host->note(MEMOPT_NOTE_ERROR, "arena: %s(%p): %s", operation, p, what);
    abort();
}

/* The head of a block in use, or the end of the program. */
static struct head *head_of(struct arena *arena, const char *operation, void *p) {
    uintptr_t place = (uintptr_t)p;
    if (place < (uintptr_t)arena->start + sizeof(struct head) || place >= (uintptr_t)arena->end ||
        place % UNIT != 0)
        die(arena, operation, p, "no block of this arena begins there");
    struct head *head = (struct head *)p - 1;
    if (!is_whole(arena, head))
        die(arena, operation, p,
            "no block begins there, or the one before it overflowed into its head");
    if (state_of(head) == STATE_FREE)
        die(arena, operation, p, "the block was freed before (double free)");
    if (state_of(head) != STATE_USED)
        die(arena, operation, p, "no block of this arena begins there");
    return head;
}

/* Both neighbours' heads are read by free and realloc. */
static struct head *next_of(struct arena *arena, const char *operation, struct head *head) {
    struct head *next = after(head);
    if ((char *)(next + 1) > arena->end || !is_whole(arena, next) ||
        next->previous >> 24 != units_of(head))
        die(arena, operation, payload_of(head),
            "the head after the block is damaged: it overflowed");
    return next;
}

static struct head *previous_of(struct arena *arena, const char *operation, struct head *head) {
    uint64_t units = head->previous >> 24;
    if (units == 0)
        return NULL;
    struct head *previous = (struct head *)((char *)head - units * UNIT) - 1;
    if ((char *)previous < arena->start || !is_whole(arena, previous) ||
        units_of(previous) != units)
        die(arena, operation, payload_of(head),
            "the head of the block before is damaged: something overflowed into it");
    return previous;
}

/* --------------------------------------------------------------- free lists */

static unsigned log2_of(uint64_t units) {
    return 63u - (unsigned)__builtin_clzll(units);
}

static void class_of(uint64_t units, unsigned *ret_first, unsigned *ret_second) {
    if (units < SECOND) {
        *ret_first = 0;
        *ret_second = (unsigned)units;
    } else {
        unsigned bits = log2_of(units);
        *ret_first = bits - SECOND_BITS + 1;
        *ret_second = (unsigned)(units >> (bits - SECOND_BITS)) & (SECOND - 1);
    }
}

static struct links *links_of(struct head *head) {
    return (struct links *)(head + 1);
}

static void list_insert(struct arena *arena, struct head *head) {
    unsigned first, second;
    class_of(units_of(head), &first, &second);
    struct head *next = arena->lists[first][second];
    links_of(head)->next = next;
    links_of(head)->before = NULL;
    if (next != NULL)
        links_of(next)->before = head;
    arena->lists[first][second] = head;
    arena->first_map |= 1ull << first;
    arena->second_map[first] = (uint16_t)(arena->second_map[first] | 1u << second);
}

static void list_remove(struct arena *arena, const char *operation, struct head *head) {
    unsigned first, second;
    class_of(units_of(head), &first, &second);
    struct head *next = links_of(head)->next, *before = links_of(head)->before;
    /* The links lie in freed memory: a program that writes there is caught
     * before the write spreads. */
    if ((before == NULL ? arena->lists[first][second] != head
                        : (char *)before < arena->start || (char *)before >= arena->end ||
                              links_of(before)->next != head) ||
        (next != NULL && ((char *)next < arena->start || (char *)next >= arena->end ||
                          links_of(next)->before != head)))
        die(arena, operation, payload_of(head), "a freed block was written to (use after free)");
    if (next != NULL)
        links_of(next)->before = before;
    if (before != NULL)
        links_of(before)->next = next;
    else
        arena->lists[first][second] = next;
    if (arena->lists[first][second] == NULL) {
        arena->second_map[first] = (uint16_t)(arena->second_map[first] & ~(1u << second));
        if (arena->second_map[first] == 0)
            arena->first_map &= ~(1ull << first);
    }
}

/* A free block of at least so many units, still in its list, or NULL. */
static struct head *list_find(struct arena *arena, uint64_t units) {
    unsigned first, second;
    uint64_t rounded = units; /* any block of the class of `rounded` is large enough */
    if (units >= SECOND)
        rounded += (1ull << (log2_of(units) - SECOND_BITS)) - 1;
    class_of(rounded, &first, &second);
    if (first < FIRST) {
        unsigned here = arena->second_map[first] & (~0u << second);
        if (here != 0)
            return arena->lists[first][__builtin_ctz(here)];
        uint64_t above = first + 1 < 64 ? arena->first_map & (~0ull << (first + 1)) : 0;
        if (above != 0) {
            first = (unsigned)__builtin_ctzll(above);
            return arena->lists[first][__builtin_ctz(arena->second_map[first])];
        }
    }
    /* Before giving up: blocks of the request's own class may be large enough. */
    class_of(units, &first, &second);
    struct head *head = first < FIRST ? arena->lists[first][second] : NULL;
    while (head != NULL && units_of(head) < units)
        head = links_of(head)->next;
    return head;
}

/* ------------------------------------------------------------- freelist mode */

/* Makes a free block of `units` at `head`, joined with the free block after it. */
static void make_free(struct arena *arena, const char *operation, struct head *head, uint64_t units,
                      uint64_t previous, struct head *next) {
    if (state_of(next) == STATE_FREE) {
        struct head *beyond = next_of(arena, operation, next);
        list_remove(arena, operation, next);
        units += 1 + units_of(next);
        next = beyond;
    }
    write_head(arena, head, units, STATE_FREE, previous);
    write_head(arena, next, units_of(next), state_of(next), units);
    list_insert(arena, head);
}

/* Cuts a block in use down to `units`, if what is left can be a block. */
static void trim(struct arena *arena, const char *operation, struct head *head, uint64_t units,
                 struct head *next) {
    uint64_t spare = units_of(head) - units;
    if (spare < 2)
        return;
    write_head(arena, head, units, STATE_USED, head->previous >> 24);
    make_free(arena, operation, after(head), spare - 1, units, next);
}

static struct head *freelist_new(struct arena *arena, uint64_t units, size_t alignment) {
    /* Room for the alignment, and for a free block of one unit before it. */
    uint64_t extra = alignment > UNIT ? alignment / UNIT + 1 : 0;
    struct head *head = list_find(arena, units + extra);
    if (head == NULL)
        return NULL;
    if (!is_whole(arena, head))
        die(arena, "malloc", payload_of(head), "the head of a free block is damaged");
    struct head *next = next_of(arena, "malloc", head);
    list_remove(arena, "malloc", head);
    uint64_t gap = (uint64_t)(-(uintptr_t)payload_of(head) & (alignment - 1)) / UNIT;
    if (gap == 1) /* a head, but no payload: not a block */
        gap += alignment / UNIT;
    uint64_t whole = units_of(head), previous = head->previous >> 24;
    if (gap > 0) {
        write_head(arena, head, gap - 1, STATE_FREE, previous);
        list_insert(arena, head); /* the block before it is in use, or it would be joined */
        head = after(head);
        whole -= gap;
        previous = gap - 1;
    }
    write_head(arena, head, whole, STATE_USED, previous);
    write_head(arena, next, units_of(next), state_of(next), whole);
    trim(arena, "malloc", head, units, next);
    return head;
}

static void freelist_free(struct arena *arena, const char *operation, struct head *head) {
    struct head *next = next_of(arena, operation, head);
    struct head *previous = previous_of(arena, operation, head);
    uint64_t units = units_of(head);
    write_head(arena, head, units, STATE_FREE, head->previous >> 24);
    if (previous != NULL && state_of(previous) == STATE_FREE) {
        list_remove(arena, operation, previous);
        units += 1 + units_of(previous);
        head = previous;
    }
    make_free(arena, operation, head, units, head->previous >> 24, next);
}

/* In place, or 0. */
static int freelist_resize(struct arena *arena, struct head *head, uint64_t units) {
    struct head *next = next_of(arena, "realloc", head);
    uint64_t have = units_of(head);
    if (units > have) {
        if (state_of(next) != STATE_FREE || have + 1 + units_of(next) < units)
            return 0;
        struct head *beyond = next_of(arena, "realloc", next);
        list_remove(arena, "realloc", next);
        write_head(arena, head, have + 1 + units_of(next), STATE_USED, head->previous >> 24);
        write_head(arena, beyond, units_of(beyond), state_of(beyond), units_of(head));
        next = beyond;
    }
    trim(arena, "realloc", head, units, next);
    return 1;
}

/* ----------------------------------------------------------------- bump mode */

static struct head *bump_new(struct arena *arena, uint64_t units, size_t alignment) {
    struct head *head = (struct head *)arena->top;
    uint64_t previous = arena->last == NULL ? 0 : units_of(arena->last);
    uint64_t gap = (uint64_t)(-(uintptr_t)payload_of(head) & (alignment - 1)) / UNIT;
    if (gap == 1)
        gap += alignment / UNIT;
    uint64_t room = (uint64_t)(arena->end - arena->top) / UNIT;
    if (units + 1 + gap > room)
        return NULL;
    if (gap > 0) {
        write_head(arena, head, gap - 1, STATE_FREE, previous);
        previous = gap - 1;
        head = after(head);
    }
    write_head(arena, head, units, STATE_USED, previous);
    arena->last = head;
    arena->top = (char *)after(head);
    return head;
}

static void bump_free(struct arena *arena, const char *operation, struct head *head) {
    write_head(arena, head, units_of(head), STATE_FREE, head->previous >> 24);
    while (arena->last != NULL && state_of(arena->last) == STATE_FREE) {
        arena->top = (char *)arena->last;
        arena->last = previous_of(arena, operation, arena->last);
    }
}

static int bump_resize(struct arena *arena, struct head *head, uint64_t units) {
    if (head != arena->last)
        return units <= units_of(head);
    if (units > (uint64_t)(arena->end - payload_of(head)) / UNIT)
        return 0;
    write_head(arena, head, units, STATE_USED, head->previous >> 24);
    arena->top = (char *)after(head);
    return 1;
}

/* --------------------------------------------------------------- both modes */

/* The block is the program's from now on: all of it may be written. */
static void count(struct arena *arena, struct head *head) {
    arena->live += units_of(head) * UNIT;
    if (arena->live > arena->peak)
        arena->peak = arena->live;
    if ((char *)after(head) > arena->touched)
        arena->touched = (char *)after(head);
}

static struct head *new_block(struct arena *arena, uint64_t units, size_t alignment) {
    struct head *head =
        arena->bump ? bump_new(arena, units, alignment) : freelist_new(arena, units, alignment);
    if (head != NULL)
        count(arena, head);
    return head;
}

static uint64_t units_for(size_t size) {
    return size == 0 ? 1 : (size + UNIT - 1) / UNIT;
}

/* `ret_dirty` (may be NULL): how many bytes of the block may hold old data. */
static void *block_new(struct arena *arena, size_t size, size_t alignment, size_t *ret_dirty) {
    void *p = NULL;
    if (size <= arena->region_size && alignment <= arena->region_size) {
        pthread_mutex_lock(&arena->lock);
        char *touched = arena->touched;
        struct head *head = new_block(arena, units_for(size), alignment < UNIT ? UNIT : alignment);
        if (head != NULL) {
            p = payload_of(head);
            if (ret_dirty != NULL)
                *ret_dirty = touched <= (char *)p ? 0
                             : touched < (char *)after(head)
                                 ? (size_t)(touched - (char *)p)
                                 : (size_t)((char *)after(head) - (char *)p);
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
    void *p = block_new(arena, size, UNIT, &dirty);
    if (p != NULL)
        memset(p, 0, dirty);
    return p;
}

static void free_block(struct arena *arena, const char *operation, struct head *head) {
    arena->live -= units_of(head) * UNIT;
    if (arena->bump)
        bump_free(arena, operation, head);
    else
        freelist_free(arena, operation, head);
}

static void block_free(struct arena *arena, void *p) {
    pthread_mutex_lock(&arena->lock);
    free_block(arena, "free", head_of(arena, "free", p));
    pthread_mutex_unlock(&arena->lock);
}

static void *block_resize(struct arena *arena, void *p, size_t size) {
    if (size > arena->region_size)
        return NULL;
    void *result = NULL;
    uint64_t units = units_for(size);
    pthread_mutex_lock(&arena->lock);
    struct head *head = head_of(arena, "realloc", p);
    uint64_t old = units_of(head);
    if (arena->bump ? bump_resize(arena, head, units) : freelist_resize(arena, head, units)) {
        arena->live -= old * UNIT;
        count(arena, head);
        result = p;
    } else {
        struct head *copy = new_block(arena, units, UNIT);
        if (copy != NULL) {
            result = payload_of(copy);
            memcpy(result, p, (old < units ? old : units) * UNIT);
            free_block(arena, "realloc", head);
        }
    }
    pthread_mutex_unlock(&arena->lock);
    return result;
}

static size_t block_size(struct arena *arena, void *p) {
    pthread_mutex_lock(&arena->lock);
    size_t size = units_of(head_of(arena, "malloc_usable_size", p)) * UNIT;
    pthread_mutex_unlock(&arena->lock);
    return size;
}

/* ------------------------------------------------------------------- arenas */

/* On failure nothing is kept. */
static int arena_new(const struct memopt_host *host, const char *name, void *region, size_t size,
                     struct arena **ret_arena, struct memopt_error *error) {
    int ours = region == NULL;
    if (size < 1024 || size / UNIT >= 1ull << UNITS_BITS)
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
        arena = host->alloc(sizeof(*arena));
        if (arena == NULL) {
            pthread_mutex_unlock(&arenas_lock);
            if (ours)
                munmap(region, size);
            return host->fail(error, -ENOMEM, "heap '%s': out of memory", name);
        }
        pthread_mutex_init(&arena->lock, NULL);
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
    arena->secret = secret ^ (uintptr_t)arena;
    arena->start = (char *)(((uintptr_t)region + UNIT - 1) & ~(uintptr_t)(UNIT - 1));
    arena->end = (char *)(((uintptr_t)region + size) & ~(uintptr_t)(UNIT - 1));
    /* What the caller gives may hold anything. */
    arena->touched = ours ? arena->start : arena->end;
    arena->top = arena->start;
    arena->last = NULL;
    arena->live = arena->peak = 0;
    arena->first_map = 0;
    memset(arena->second_map, 0, sizeof(arena->second_map));
    memset(arena->lists, 0, sizeof(arena->lists));
    if (!arena->bump) {
        arena->top = arena->end - sizeof(struct head);
        struct head *first = (struct head *)arena->start;
        uint64_t units = (uint64_t)(arena->top - arena->start) / UNIT - 1;
        write_head(arena, (struct head *)arena->top, 0, STATE_END, units);
        write_head(arena, first, units, STATE_FREE, 0);
        list_insert(arena, first);
    }
    arena->used = 1;
    pthread_mutex_unlock(&arena->lock);
    pthread_mutex_unlock(&arenas_lock);
    *ret_arena = arena;
    return 0;
}

static int heap_create(const struct memopt_heap_params *params, void **ret_heap,
                       struct memopt_error *error) {
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
    char *touched = arena->ours ? arena->touched : arena->end;
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
    struct head *head = (struct head *)arena->start;
    while ((char *)head < arena->top) {
        if (!is_whole(arena, head))
            die(arena, "malloc_trim", payload_of(head), "the head of a block is damaged");
        if (state_of(head) == STATE_FREE)
            bytes += purge_range(payload_of(head) + sizeof(struct links), (char *)after(head));
        head = after(head);
    }
    /* In a bump arena the heads up there tell a double free: keep the first. */
    if (arena->bump)
        bytes += purge_range(arena->top + sizeof(struct head), arena->end);
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

static void *heap_malloc(void *arena, size_t size) {
    return block_new(arena, size, UNIT, NULL);
}

static void *heap_calloc(void *arena, size_t count_, size_t size) {
    return block_calloc(arena, count_ * size);
}

static void *heap_realloc(void *arena, void *p, size_t size) {
    return block_resize(arena, p, size);
}

static void *heap_aligned_alloc(void *arena, size_t alignment, size_t size) {
    return block_new(arena, size, alignment, NULL);
}

static void heap_free(void *arena, void *p) {
    block_free(arena, p);
}

static size_t heap_usable_size(void *arena, void *p) {
    return block_size(arena, p);
}

/* ------------------------------------------------- default heap, fork, open */

static void *default_malloc(size_t size) {
    return block_new(state.default_arena, size, UNIT, NULL);
}

static void *default_calloc(size_t count_, size_t size) {
    return block_calloc(state.default_arena, count_ * size);
}

static void *default_realloc(void *p, size_t size) {
    return block_resize(state.default_arena, p, size);
}

static void default_free(void *p) {
    block_free(state.default_arena, p);
}

static void *default_aligned_alloc(size_t alignment, size_t size) {
    return block_new(state.default_arena, size, alignment, NULL);
}

static size_t default_usable_size(void *p) {
    return block_size(state.default_arena, p);
}

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
    ret_malloc->malloc = default_malloc;
    ret_malloc->calloc = default_calloc;
    ret_malloc->realloc = default_realloc;
    ret_malloc->free = default_free;
    ret_malloc->aligned_alloc = default_aligned_alloc;
    ret_malloc->usable_size = default_usable_size;
    return 0;
}

static const struct memopt_allocator_ops ops = {
    .size = sizeof(ops),
    .open = open_arena,
    .figures = figures,
    .purge = purge,
    .heap_create = heap_create,
    .heap_destroy = heap_destroy,
    .heap_malloc = heap_malloc,
    .heap_calloc = heap_calloc,
    .heap_realloc = heap_realloc,
    .heap_aligned_alloc = heap_aligned_alloc,
    .heap_free = heap_free,
    .heap_usable_size = heap_usable_size,
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
