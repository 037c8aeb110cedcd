/*
 * arena.c - blocks one after the other in a fixed region (memopt/arena.h).
 *
 *   | arena | block | gap | record of a mark | block | ...  | top       unused |
 *
 * Marks have records, which lead from the newest to the oldest; in debug blocks
 * have them, too, with red zones around the block:
 *
 *   | record | red zone: 16 | block | red zone: 16 or more |
 *
 * Bytes from `top` to `high` have been handed out before; in debug they hold the
 * pattern of what was returned.
 */
#include "core/base/error.h"
#include "core/base/poison.h"
#include "core/pool/debug.h"
#include "core/pool/member.h"

#include <memopt/arena.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum { UNIT = 16, ZONE = 16, REGION_MIN = 1024 };

struct record {
    struct record *previous;
    uint64_t serial; /* of a mark; 0: a block's */
    char *data;
    size_t size;
};
_Static_assert(sizeof(struct record) % UNIT == 0, "keeps the alignment");

struct memopt_arena {
    char *start; /* of the region */
    char *first; /* where the first block or record can be */
    char *end, *top, *high;
    struct record *last;
    struct memopt_heap *heap; /* the region's; NULL: it is the caller's */
    uint64_t serial, peak, blocks, marks, resets, failed;
    struct mo_pool_debug debug;
};

static uintptr_t align_up(uintptr_t value, size_t alignment) {
    return (value + alignment - 1) & ~(uintptr_t)(alignment - 1);
}

static void move_top(struct memopt_arena *arena, char *top) {
    arena->top = top;
    if (top > arena->high)
        arena->high = top;
    uint64_t used = (uint64_t)(top - arena->start);
    if (used > arena->peak)
        arena->peak = used;
}

int memopt_arena_open(void *region, size_t size, const struct memopt_arena_options *options,
                      struct memopt_arena **ret_arena, struct memopt_error *error) {
    static const struct memopt_arena_options defaults = {.size = sizeof(defaults)};
    if (options == NULL)
        options = &defaults;
    if (ret_arena == NULL || options->size != sizeof(*options))
        return mo_fail(error, -EINVAL, "an arena needs a place for it, and options of %zu bytes",
                       sizeof(*options));
    struct mo_pool_debug debug;
    int code = mo_debug_init(&debug, "arena", options->name, options->debug, options->on_misuse,
                             options->context, error);
    if (code < 0)
        return code;
    if (size < REGION_MIN || size > PTRDIFF_MAX || (uintptr_t)region > UINTPTR_MAX - size)
        return mo_fail(error, -EINVAL, "%s: a region of %zu bytes: at least %d were expected",
                       debug.name, size, REGION_MIN);
    struct memopt_heap *heap = NULL;
    char *start = region;
    if (start == NULL) {
        code = mo_member_heap(options->heap, &heap, error);
        if (code < 0)
            return code;
        start = memopt_heap_aligned_alloc(heap, 64, size);
        if (start == NULL)
            return mo_fail(error, -ENOMEM, "%s: heap '%s' has no memory for a region of %zu bytes",
                           debug.name, memopt_heap_name(heap), size);
        mo_mempool_hide(heap, start);
        mo_unpoison(start, size);
    }
    struct memopt_arena *arena = (struct memopt_arena *)align_up((uintptr_t)start, UNIT);
    memset(arena, 0, sizeof(*arena));
    arena->start = start;
    arena->first = (char *)align_up((uintptr_t)(arena + 1), UNIT);
    arena->end = start + size;
    arena->high = arena->first;
    arena->heap = heap;
    arena->debug = debug;
    move_top(arena, arena->first);
    mo_mempool_create(arena);
    mo_poison(arena->first, (size_t)(arena->end - arena->first));
    *ret_arena = arena;
    return 0;
}

/* The room for a block and, in debug, what lies around it. */
static char *place(const struct memopt_arena *arena, size_t size, size_t alignment,
                   struct record **ret_record, char **ret_top) {
    uintptr_t front = arena->debug.on ? sizeof(struct record) + ZONE : 0;
    uintptr_t data = align_up((uintptr_t)arena->top + front, alignment);
    uintptr_t back = arena->debug.on ? align_up(data + size + ZONE, UNIT) - data : size;
    /* neither sum can wrap: size and alignment are at most the region's */
    if (data < (uintptr_t)arena->top || data > (uintptr_t)arena->end ||
        back > (uintptr_t)arena->end - data)
        return NULL;
    *ret_record =
        arena->debug.on ? (struct record *)((data - front) & ~(uintptr_t)(UNIT - 1)) : NULL;
    *ret_top = (char *)data + back;
    return (char *)data;
}

static void report(struct memopt_arena *arena, int kind, const struct record *record,
                   const void *address, struct memopt_error *error, int *code) {
    int found = mo_misuse(&arena->debug, kind, record->data, record->size, address,
                          *code == 0 ? error : NULL);
    if (*code == 0)
        *code = found;
}

/* The end of the red zone after a block. */
static char *zone_end(const struct record *record) {
    return (char *)align_up((uintptr_t)record->data + record->size + ZONE, UNIT);
}

static void open_block(struct memopt_arena *arena, struct record *record, char *data, size_t size,
                       char *top) {
    /* What was handed out before must still hold the pattern. */
    struct record now = {.previous = arena->last, .data = data, .size = size};
    char *checked = top < arena->high ? top : arena->high;
    const void *broken =
        checked <= arena->top
            ? NULL
            : mo_pattern_broken(arena->top, (size_t)(checked - arena->top), MO_PATTERN_RETURNED);
    int code = 0;
    if (broken != NULL)
        report(arena, MEMOPT_MISUSE_AFTER_RETURN, &now, broken, NULL, &code);
    mo_unpoison(record, sizeof(*record));
    *record = now;
    arena->last = record;
    char *front = (char *)(record + 1);
    mo_pattern_fill(front, (size_t)(data - front), MO_PATTERN_AROUND);
    mo_pattern_fill(data + size, (size_t)(top - data) - size, MO_PATTERN_AROUND);
}

void *memopt_arena_alloc(struct memopt_arena *arena, size_t size, size_t alignment) {
    if (alignment == 0)
        alignment = UNIT;
    if (arena == NULL || size == 0 || (alignment & (alignment - 1)) != 0) {
        errno = EINVAL;
        return NULL;
    }
    struct record *record;
    char *top, *data = NULL;
    size_t capacity = (size_t)(arena->end - arena->start);
    if (size <= capacity && alignment <= PTRDIFF_MAX)
        data = place(arena, size, alignment, &record, &top);
    if (data == NULL) {
        arena->failed++;
        errno = ENOMEM;
        return NULL;
    }
    if (arena->debug.on) {
        open_block(arena, record, data, size, top);
        mo_mempool_alloc(arena, data, size);
    } else {
        mo_unpoison(data, size);
    }
    move_top(arena, top);
    arena->blocks++;
    return data;
}

void *memopt_arena_calloc(struct memopt_arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        bytes = SIZE_MAX;
    void *data = memopt_arena_alloc(arena, bytes, 0);
    if (data != NULL)
        memset(data, 0, bytes);
    return data;
}

/* ------------------------------------------------------------------- marks */

int memopt_arena_mark(struct memopt_arena *arena, struct memopt_arena_position *ret_mark,
                      struct memopt_error *error) {
    if (arena == NULL || ret_mark == NULL)
        return mo_fail(error, -EINVAL, "a mark needs an arena and a place for it");
    uintptr_t at = align_up((uintptr_t)arena->top, UNIT);
    if (at > (uintptr_t)arena->end || (uintptr_t)arena->end - at < sizeof(struct record))
        return mo_fail(error, -ENOMEM, "%s: the region has no room for a mark", arena->debug.name);
    struct record *record = (struct record *)at;
    mo_unpoison(record, sizeof(*record));
    *record = (struct record){.previous = arena->last, .serial = ++arena->serial};
    arena->last = record;
    arena->marks++;
    move_top(arena, (char *)(record + 1));
    *ret_mark =
        (struct memopt_arena_position){(size_t)((char *)record - arena->start), record->serial};
    return 0;
}

/* In debug: looks around the blocks after `until` (NULL: all), newest first, and
 * tells the checker that they are gone. */
static int close_blocks(struct memopt_arena *arena, const struct record *until,
                        struct memopt_error *error) {
    int code = 0;
    for (const struct record *r = arena->last; r != until; r = r->previous) {
        if (r->serial != 0) {
            arena->marks--;
            continue;
        }
        const char *front = (const char *)(r + 1);
        const void *broken = mo_pattern_broken(front, (size_t)(r->data - front), MO_PATTERN_AROUND);
        if (broken != NULL)
            report(arena, MEMOPT_MISUSE_UNDERFLOW, r, broken, error, &code);
        char *after = r->data + r->size;
        broken = mo_pattern_broken(after, (size_t)(zone_end(r) - after), MO_PATTERN_AROUND);
        if (broken != NULL)
            report(arena, MEMOPT_MISUSE_OVERFLOW, r, broken, error, &code);
        mo_mempool_free(arena, r->data, r->size);
    }
    return code;
}

int memopt_arena_reset(struct memopt_arena *arena, const struct memopt_arena_position *mark,
                       struct memopt_error *error) {
    if (arena == NULL)
        return mo_fail(error, -EINVAL, "a reset needs an arena");
    struct record *until = NULL;
    if (mark != NULL) {
        until = arena->last;
        while (until != NULL && (until->serial != mark->serial || until->serial == 0 ||
                                 (size_t)((char *)until - arena->start) != mark->offset))
            until = until->previous;
        if (until == NULL)
            return mo_fail(error, -EINVAL,
                           "%s: the mark is not there: the arena was reset to one before it",
                           arena->debug.name);
    }
    int code = close_blocks(arena, until, error);
    char *top = until == NULL ? arena->first : (char *)(until + 1);
    arena->last = until;
    if (arena->debug.on)
        mo_pattern_fill(top, (size_t)(arena->top - top), MO_PATTERN_RETURNED);
    mo_poison(top, (size_t)(arena->top - top));
    arena->top = top;
    arena->resets++;
    return code;
}

int memopt_arena_close(struct memopt_arena *arena, struct memopt_error *error) {
    if (arena == NULL)
        return 0;
    int code = close_blocks(arena, NULL, error);
    mo_mempool_destroy(arena);
    char *start = arena->start;
    size_t size = (size_t)(arena->end - start);
    struct memopt_heap *heap = arena->heap;
    mo_unpoison(start, size);
    if (heap != NULL) {
        mo_mempool_unhide(heap, start, size);
        memopt_heap_free(heap, start);
    }
    return code;
}

int memopt_arena_stats(const struct memopt_arena *arena, struct memopt_arena_statistics *stats) {
    if (arena == NULL || stats == NULL || stats->size > sizeof(*stats) ||
        stats->size < offsetof(struct memopt_arena_statistics, used))
        return -EINVAL;
    struct memopt_arena_statistics all = {
        .size = stats->size,
        .capacity = (uint64_t)(arena->end - arena->start),
        .used = (uint64_t)(arena->top - arena->start),
        .peak = arena->peak,
        .blocks = arena->blocks,
        .marks = arena->marks,
        .resets = arena->resets,
        .failed = arena->failed,
        .misuses = atomic_load_explicit(&arena->debug.count, memory_order_relaxed),
    };
    memcpy(stats, &all, stats->size);
    return 0;
}
