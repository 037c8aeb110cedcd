/*
 * freelist.c - two-level segregated fit over a region of the caller's
 * (memopt/freelist.h).
 *
 *   | list | lists by class | maps | head | payload | head | payload | end head |
 *
 * Heads and payloads follow each other without a gap, so both neighbours of a block
 * can be found. A payload is whole units of 16 bytes; in debug it begins and ends
 * with a red zone. Two bits a unit say where blocks in use begin and where one has
 * been freed: a pointer is looked up there, never in memory that it points to.
 *
 * The links of free blocks are in their heads, so that a checker can have the whole
 * payload. Why this is not the `arena` plugin's code: a plugin sees nothing but the
 * plugin ABI, has a lock, ends the program on misuse and knows no checkers.
 */
#include "core/base/error.h"
#include "core/base/poison.h"
#include "core/pool/debug.h"

#include <memopt/freelist.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum { UNIT = 16, ZONE = 16, STEP_BITS = 3, STEPS = 1 << STEP_BITS };
enum { STATE_USED = 0xa5, STATE_FREE = 0x5a, STATE_END = 0x3c };

struct head {
    uint64_t size;     /* payload units << 8 | state */
    uint64_t previous; /* payload units of the block before; 0: there is none */
    union {
        struct {
            struct head *next, *before;
        } free;
        struct {
            uint64_t check; /* of this place and size */
            uint64_t asked;
        } used;
    };
};
enum { HEAD = sizeof(struct head) };
_Static_assert(HEAD % UNIT == 0, "payloads are aligned");

struct memopt_freelist {
    char *start, *end; /* heads and payloads */
    uint64_t *used_map, *freed_map;
    unsigned rows;
    uint64_t row_map;
    uint8_t *step_maps;
    struct head *(*lists)[STEPS];
    uint64_t secret;
    uint64_t live_bytes, peak_bytes, live_blocks, free_blocks, free_units;
    uint64_t allocations, frees, failed;
    struct mo_pool_debug debug;
};

/* -------------------------------------------------------------------- heads */

static uint64_t units_of(const struct head *head) {
    return head->size >> 8;
}
static unsigned state_of(const struct head *head) {
    return (unsigned)(head->size & 0xff);
}
static char *payload_of(const struct head *head) {
    return (char *)(uintptr_t)head + HEAD;
}
static struct head *after(const struct head *head) {
    return (struct head *)(payload_of(head) + units_of(head) * UNIT);
}
static struct head *before(const struct head *head) {
    if (head->previous == 0)
        return NULL;
    return (struct head *)((char *)(uintptr_t)head - head->previous * UNIT - HEAD);
}

static uint64_t check_of(const struct memopt_freelist *list, const struct head *head) {
    uint64_t x = ((uint64_t)(uintptr_t)head ^ list->secret) * UINT64_C(0x9e3779b97f4a7c15);
    return (x ^ (x >> 31) ^ head->size ^ head->used.asked) * UINT64_C(0xbf58476d1ce4e5b9);
}

/* What a neighbour's head must say, or something wrote to it. */
static bool is_whole(const struct memopt_freelist *list, const struct head *head,
                     uint64_t previous) {
    if ((const char *)head < list->start || (const char *)head > list->end - HEAD ||
        head->previous != previous ||
        units_of(head) > (uint64_t)(list->end - payload_of(head)) / UNIT)
        return false;
    unsigned state = state_of(head);
    return state == STATE_USED ? head->used.check == check_of(list, head)
                               : state == STATE_FREE || state == STATE_END;
}

static size_t unit_of(const struct memopt_freelist *list, const void *p) {
    return (size_t)((const char *)p - list->start) / UNIT;
}
static bool bit(const uint64_t *map, size_t i) {
    return (map[i / 64] >> i % 64 & 1) != 0;
}
static void set_bit(uint64_t *map, size_t i, bool value) {
    uint64_t mask = UINT64_C(1) << i % 64;
    map[i / 64] = value ? map[i / 64] | mask : map[i / 64] & ~mask;
}

/* ------------------------------------------------------------------- classes */

static void class_of(uint64_t units, unsigned *ret_row, unsigned *ret_step) {
    if (units < STEPS) {
        *ret_row = 0;
        *ret_step = (unsigned)units;
        return;
    }
    unsigned bits = 63u - (unsigned)__builtin_clzll(units);
    *ret_row = bits - STEP_BITS + 1;
    *ret_step = (unsigned)(units >> (bits - STEP_BITS)) & (STEPS - 1);
}

static void insert(struct memopt_freelist *list, struct head *head) {
    unsigned row, step;
    class_of(units_of(head), &row, &step);
    struct head *next = list->lists[row][step];
    head->free.next = next;
    head->free.before = NULL;
    if (next != NULL)
        next->free.before = head;
    list->lists[row][step] = head;
    list->row_map |= UINT64_C(1) << row;
    list->step_maps[row] = (uint8_t)(list->step_maps[row] | 1u << step);
    list->free_blocks++;
    list->free_units += units_of(head);
}

static void take_out(struct memopt_freelist *list, struct head *head) {
    unsigned row, step;
    class_of(units_of(head), &row, &step);
    if (head->free.next != NULL)
        head->free.next->free.before = head->free.before;
    if (head->free.before != NULL)
        head->free.before->free.next = head->free.next;
    else
        list->lists[row][step] = head->free.next;
    if (list->lists[row][step] == NULL) {
        list->step_maps[row] = (uint8_t)(list->step_maps[row] & ~(1u << step));
        if (list->step_maps[row] == 0)
            list->row_map &= ~(UINT64_C(1) << row);
    }
    list->free_blocks--;
    list->free_units -= units_of(head);
}

/* A free block of at least so many units, still in its list, or NULL. */
static struct head *find(const struct memopt_freelist *list, uint64_t units) {
    unsigned row, step;
    uint64_t rounded = units; /* every block of the class of `rounded` is large enough */
    if (units >= STEPS)
        rounded += (UINT64_C(1) << (63 - __builtin_clzll(units) - STEP_BITS)) - 1;
    class_of(rounded, &row, &step);
    if (row < list->rows) {
        unsigned here = list->step_maps[row] & (~0u << step);
        if (here != 0)
            return list->lists[row][__builtin_ctz(here)];
        uint64_t above = row + 1 < list->rows ? list->row_map & (~UINT64_C(0) << (row + 1)) : 0;
        if (above != 0) {
            row = (unsigned)__builtin_ctzll(above);
            return list->lists[row][__builtin_ctz(list->step_maps[row])];
        }
    }
    class_of(units, &row, &step); /* some of the request's own class are, too */
    struct head *head = row < list->rows ? list->lists[row][step] : NULL;
    while (head != NULL && units_of(head) < units)
        head = head->free.next;
    return head;
}

/* --------------------------------------------------------------- open, close */

int memopt_freelist_open(void *region, size_t size, const struct memopt_freelist_options *options,
                         struct memopt_freelist **ret_list, struct memopt_error *error) {
    static const struct memopt_freelist_options defaults = {.size = sizeof(defaults)};
    if (options == NULL)
        options = &defaults;
    if (ret_list == NULL || region == NULL || options->size != sizeof(*options))
        return mo_fail(error, -EINVAL,
                       "a free list needs a region, a place for it, and options of %zu bytes",
                       sizeof(*options));
    struct mo_pool_debug debug;
    int code = mo_debug_init(&debug, "freelist", options->name, options->debug, options->on_misuse,
                             options->context, error);
    if (code < 0)
        return code;
    /* Everything before the first head, sized for the whole region. */
    size_t skew = -(uintptr_t)region & (UNIT - 1);
    unsigned rows, step;
    class_of(size / UNIT, &rows, &step);
    rows++;
    size_t words = size / UNIT / 64 + 1;
    size_t head = skew + sizeof(struct memopt_freelist) + rows * sizeof(struct head *[STEPS]) +
                  2 * words * sizeof(uint64_t) + rows;
    head = (head + UNIT - 1 - skew) / UNIT * UNIT + skew;
    if (size > PTRDIFF_MAX || (uintptr_t)region > UINTPTR_MAX - size || size < head ||
        size - head < 2 * HEAD + 1024)
        return mo_fail(error, -EINVAL, "%s: a region of %zu bytes: at least 4096 were expected",
                       debug.name, size);
    struct memopt_freelist *list = (struct memopt_freelist *)((char *)region + skew);
    memset(list, 0, head - skew);
    list->debug = debug;
    list->rows = rows;
    list->lists = (struct head * (*)[STEPS])(list + 1);
    list->used_map = (uint64_t *)(list->lists + rows);
    list->freed_map = list->used_map + words;
    list->step_maps = (uint8_t *)(list->freed_map + words);
    list->start = (char *)region + head;
    list->end = list->start + (size - head) / UNIT * UNIT;
    list->secret = (uint64_t)(uintptr_t)&list ^ (uint64_t)(uintptr_t)region << 20;
    struct head *first = (struct head *)list->start, *last = (struct head *)(list->end - HEAD);
    uint64_t units = (uint64_t)((char *)last - payload_of(first)) / UNIT;
    first->size = units << 8 | STATE_FREE;
    first->previous = 0;
    last->size = STATE_END;
    last->previous = units;
    insert(list, first);
    if (debug.on)
        mo_pattern_fill(payload_of(first), units * UNIT, MO_PATTERN_RETURNED);
    mo_mempool_create(list);
    mo_poison(payload_of(first), units * UNIT);
    *ret_list = list;
    return 0;
}

void memopt_freelist_close(struct memopt_freelist *list) {
    if (list == NULL)
        return;
    mo_mempool_destroy(list);
    mo_unpoison_defined(list->start, (size_t)(list->end - list->start));
}

/* --------------------------------------------------------------------- blocks */

/* Where the program's bytes begin in a payload. */
static size_t front_of(const struct memopt_freelist *list) {
    return list->debug.on ? ZONE : 0;
}

static const void *wrong_around(const struct memopt_freelist *list, const struct head *head,
                                bool *ret_before) {
    const char *data = payload_of(head) + front_of(list), *end = data + head->used.asked;
    if (!list->debug.on)
        return NULL;
    const void *broken = mo_pattern_broken(payload_of(head), ZONE, MO_PATTERN_AROUND);
    *ret_before = broken != NULL;
    if (broken == NULL)
        broken = mo_pattern_broken(end, (size_t)((char *)after(head) - end), MO_PATTERN_AROUND);
    return broken;
}

/* Makes a free head of `units` where the memory was free or is given up. */
static void make_free(struct memopt_freelist *list, struct head *head, uint64_t units,
                      uint64_t previous) {
    mo_unpoison(head, HEAD);
    head->size = units << 8 | STATE_FREE;
    head->previous = previous;
    after(head)->previous = units;
    insert(list, head);
}

/* A head that is part of a free payload now. */
static void drop_head(const struct memopt_freelist *list, struct head *head) {
    if (list->debug.on)
        mo_pattern_fill(head, HEAD, MO_PATTERN_RETURNED);
    mo_poison(head, HEAD);
}

void *memopt_freelist_alloc(struct memopt_freelist *list, size_t size, size_t alignment) {
    if (alignment < UNIT && (alignment & (alignment - 1)) == 0)
        alignment = UNIT;
    if (list == NULL || size == 0 || (alignment & (alignment - 1)) != 0) {
        errno = EINVAL;
        return NULL;
    }
    size_t capacity = (size_t)(list->end - list->start), front = front_of(list);
    uint64_t units = 0, extra = 0;
    struct head *head = NULL;
    if (size <= capacity && alignment <= capacity) {
        units = (front + size + (list->debug.on ? ZONE : 0) + UNIT - 1) / UNIT;
        if (alignment > UNIT) /* and room for a head and a unit before it */
            extra = (alignment + HEAD + UNIT) / UNIT;
        head = find(list, units + extra);
    }
    if (head == NULL) {
        list->failed++;
        errno = ENOMEM;
        return NULL;
    }
    take_out(list, head);
    uint64_t whole = units_of(head), previous = head->previous;
    uintptr_t place = (uintptr_t)payload_of(head) + front;
    uint64_t gap = (-place & (alignment - 1)) / UNIT;
    while (gap != 0 && gap < HEAD / UNIT + 1)
        gap += alignment / UNIT;
    struct head *free_before = NULL;
    if (gap != 0) { /* what lies before becomes a free block; the block before is in use */
        free_before = head;
        head = (struct head *)((char *)head + gap * UNIT);
        mo_unpoison(head, HEAD);
        whole -= gap;
        free_before->size = (gap - HEAD / UNIT) << 8 | STATE_FREE;
        insert(list, free_before);
        previous = units_of(free_before);
    }
    head->size = whole << 8 | STATE_USED;
    head->previous = previous;
    after(head)->previous = whole;
    if (whole - units > HEAD / UNIT) { /* the rest becomes a free block, too */
        head->size = units << 8 | STATE_USED;
        make_free(list, after(head), whole - units - HEAD / UNIT, units);
    }
    char *data = payload_of(head) + front;
    head->used.asked = size;
    head->used.check = check_of(list, head);
    if (list->debug.on) {
        size_t payload = units_of(head) * UNIT;
        const void *broken = mo_pattern_broken(payload_of(head), payload, MO_PATTERN_RETURNED);
        if (broken != NULL)
            mo_misuse(&list->debug, MEMOPT_MISUSE_AFTER_RETURN, data, size, broken, NULL);
        mo_pattern_fill(payload_of(head), ZONE, MO_PATTERN_AROUND);
        mo_pattern_fill(data + size, payload - ZONE - size, MO_PATTERN_AROUND);
    }
    set_bit(list->used_map, unit_of(list, data), true);
    set_bit(list->freed_map, unit_of(list, data), false);
    mo_mempool_alloc(list, data, size);
    list->allocations++;
    list->live_blocks++;
    list->live_bytes += size;
    if (list->live_bytes > list->peak_bytes)
        list->peak_bytes = list->live_bytes;
    return data;
}

static bool in_region(const struct memopt_freelist *list, const void *p) {
    uintptr_t at = (uintptr_t)p;
    return at >= (uintptr_t)list->start + HEAD && at < (uintptr_t)list->end && at % UNIT == 0;
}

int memopt_freelist_free(struct memopt_freelist *list, void *p, struct memopt_error *error) {
    if (p == NULL)
        return 0;
    if (list == NULL)
        return mo_fail(error, -EINVAL, "freeing needs the list the block is from");
    if (!in_region(list, p) ||
        (!bit(list->used_map, unit_of(list, p)) && !bit(list->freed_map, unit_of(list, p))))
        return mo_misuse(&list->debug, MEMOPT_MISUSE_FOREIGN, NULL, 0, p, error);
    if (!bit(list->used_map, unit_of(list, p)))
        return mo_misuse(&list->debug, MEMOPT_MISUSE_TWICE, NULL, 0, p, error);
    struct head *head = (struct head *)((char *)p - front_of(list) - HEAD);
    if (!is_whole(list, head, head->previous) || state_of(head) != STATE_USED ||
        (head->previous != 0 && head->previous > unit_of(list, head) - HEAD / UNIT))
        return mo_misuse(&list->debug, MEMOPT_MISUSE_UNDERFLOW, p, 0, head, error);
    struct head *next = after(head), *previous = before(head);
    if (!is_whole(list, next, units_of(head)))
        return mo_misuse(&list->debug, MEMOPT_MISUSE_OVERFLOW, p, head->used.asked, next, error);
    if (previous != NULL &&
        (!is_whole(list, previous, previous->previous) || units_of(previous) != head->previous))
        return mo_misuse(&list->debug, MEMOPT_MISUSE_UNDERFLOW, p, head->used.asked, previous,
                         error);
    bool at_front = false;
    int code = 0;
    const void *broken = wrong_around(list, head, &at_front);
    if (broken != NULL)
        code = mo_misuse(&list->debug, at_front ? MEMOPT_MISUSE_UNDERFLOW : MEMOPT_MISUSE_OVERFLOW,
                         p, head->used.asked, broken, error);
    uint64_t units = units_of(head);
    list->frees++;
    list->live_blocks--;
    list->live_bytes -= head->used.asked;
    set_bit(list->used_map, unit_of(list, p), false);
    set_bit(list->freed_map, unit_of(list, p), true);
    if (list->debug.on)
        mo_pattern_fill(payload_of(head), units * UNIT, MO_PATTERN_RETURNED);
    mo_mempool_free(list, p, head->used.asked);
    if (state_of(next) == STATE_FREE) {
        take_out(list, next);
        units += HEAD / UNIT + units_of(next);
        drop_head(list, next);
    }
    if (previous != NULL && state_of(previous) == STATE_FREE) {
        take_out(list, previous);
        units += HEAD / UNIT + units_of(previous);
        drop_head(list, head);
        head = previous;
    }
    make_free(list, head, units, head->previous);
    return code;
}

size_t memopt_freelist_size(const struct memopt_freelist *list, const void *p) {
    if (list == NULL || !in_region(list, p) || !bit(list->used_map, unit_of(list, p)))
        return 0;
    const struct head *head = (const struct head *)((const char *)p - front_of(list) - HEAD);
    return head->used.asked;
}

int memopt_freelist_stats(const struct memopt_freelist *list,
                          struct memopt_freelist_statistics *stats) {
    if (list == NULL || stats == NULL || stats->size > sizeof(*stats) ||
        stats->size < offsetof(struct memopt_freelist_statistics, live_bytes))
        return -EINVAL;
    uint64_t largest = 0;
    if (list->row_map != 0) { /* in the last list that has any */
        unsigned row = 63u - (unsigned)__builtin_clzll(list->row_map);
        unsigned step = 31u - (unsigned)__builtin_clz(list->step_maps[row]);
        for (const struct head *head = list->lists[row][step]; head != NULL; head = head->free.next)
            if (units_of(head) > largest)
                largest = units_of(head);
    }
    uint64_t zones = list->debug.on ? 2 * ZONE : 0;
    struct memopt_freelist_statistics all = {
        .size = stats->size,
        .capacity = (uint64_t)(list->end - list->start),
        .live_bytes = list->live_bytes,
        .peak_bytes = list->peak_bytes,
        .live_blocks = list->live_blocks,
        .free_blocks = list->free_blocks,
        .free_bytes = list->free_units * UNIT,
        .largest_free = largest * UNIT > zones ? largest * UNIT - zones : 0,
        .fragmentation = list->free_units == 0 ? 0 : 1 - (double)largest / (double)list->free_units,
        .allocations = list->allocations,
        .frees = list->frees,
        .failed = list->failed,
        .misuses = atomic_load_explicit(&list->debug.count, memory_order_relaxed),
    };
    memcpy(stats, &all, stats->size);
    return 0;
}
