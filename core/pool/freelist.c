/*
 * freelist.c - two-level segregated fit over a region of the caller's
 * (memopt/freelist.h).
 *
 *   | list | maps | lists by class | blocks of lib/tlsf.h: head and payload in turn |
 *
 * A payload begins with 16 bytes of ours, where a free block has its links, so that a
 * checker can have all that the program sees; in debug, its bytes have a red zone on
 * either side. Two bits a unit say where blocks in use begin and where one has been
 * freed: a pointer is looked up there, never in memory that it points to.
 */
#include "core/base/error.h"
#include "core/base/poison.h"
#include "core/pool/debug.h"

#include "lib/tlsf.h"

#include <memopt/freelist.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum { ZONE = 16 };

/* What a payload begins with while the program has the block. */
struct front {
    uint64_t check; /* of this place and what follows */
    uint64_t asked;
};
enum { FRONT = sizeof(struct front), RECORD = sizeof(struct mo_head) + FRONT };
_Static_assert(FRONT % MO_UNIT == 0, "what the program has is aligned");

struct memopt_freelist {
    struct mo_tlsf *tlsf;
    uint64_t *used_map, *freed_map;
    uint64_t live_bytes, peak_bytes, live_blocks;
    uint64_t allocations, frees, failed;
    struct mo_pool_debug debug;
};

static uint64_t check_of(const struct memopt_freelist *list, const struct front *front) {
    uint64_t x =
        ((uint64_t)(uintptr_t)front ^ list->tlsf->row.secret) * UINT64_C(0x9e3779b97f4a7c15);
    return (x ^ (x >> 31) ^ front->asked) * UINT64_C(0xbf58476d1ce4e5b9);
}

static size_t unit_of(const struct memopt_freelist *list, const void *p) {
    return (size_t)((const char *)p - list->tlsf->row.start) / MO_UNIT;
}
static bool bit(const uint64_t *map, size_t i) {
    return (map[i / 64] >> i % 64 & 1) != 0;
}
static void set_bit(uint64_t *map, size_t i, bool value) {
    uint64_t mask = UINT64_C(1) << i % 64;
    map[i / 64] = value ? map[i / 64] | mask : map[i / 64] & ~mask;
}

/* Of what the program has at p, which is in use or was. */
static size_t before_data(const struct memopt_freelist *list) {
    return FRONT + (list->debug.on ? ZONE : 0);
}
static struct front *front_of(const struct memopt_freelist *list, const void *p) {
    return (struct front *)((uintptr_t)p - before_data(list));
}

/* lib/tlsf.h: memory in a free payload that heads and links are in. */
static void begin_record(void *context, void *p, size_t size) {
    (void)context;
    mo_unpoison(p, size);
}
static void end_record(void *context, void *p, size_t size) {
    const struct memopt_freelist *list = context;
    if (list->debug.on)
        mo_pattern_fill(p, size, MO_PATTERN_RETURNED);
    mo_poison(p, size);
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
    /* Everything before the first block, sized for the whole region. */
    size_t skew = -(uintptr_t)region & (MO_UNIT - 1);
    size_t words = size / MO_UNIT / 64 + 1;
    size_t maps = sizeof(struct memopt_freelist) + 2 * words * sizeof(uint64_t);
    size_t begin = maps + mo_tlsf_size(size);
    begin = (begin + MO_UNIT - 1) / MO_UNIT * MO_UNIT + skew;
    if (size > PTRDIFF_MAX || (uintptr_t)region > UINTPTR_MAX - size || size < begin ||
        size - begin < 2 * RECORD + 1024)
        return mo_fail(error, -EINVAL, "%s: a region of %zu bytes: at least 4096 were expected",
                       debug.name, size);
    struct memopt_freelist *list = (struct memopt_freelist *)((char *)region + skew);
    memset(list, 0, maps);
    list->debug = debug;
    list->used_map = (uint64_t *)(list + 1);
    list->freed_map = list->used_map + words;
    list->tlsf = (struct mo_tlsf *)(list->freed_map + words);
    uint64_t secret = (uint64_t)(uintptr_t)&list ^ (uint64_t)(uintptr_t)region << 20;
    if (mo_tlsf_init(list->tlsf, size, (char *)region + begin, size - begin, secret) != 0)
        return mo_fail(error, -EINVAL, "%s: a region of %zu bytes: at most 16 TiB were expected",
                       debug.name, size);
    list->tlsf->open = begin_record;
    list->tlsf->close = end_record;
    list->tlsf->context = list;
    char *first = list->tlsf->row.start + RECORD;
    size_t rest = mo_tlsf_largest(list->tlsf) - FRONT;
    if (debug.on)
        mo_pattern_fill(first, rest, MO_PATTERN_RETURNED);
    mo_mempool_create(list);
    mo_poison(first, rest);
    *ret_list = list;
    return 0;
}

void memopt_freelist_close(struct memopt_freelist *list) {
    if (list == NULL)
        return;
    const struct mo_row *row = &list->tlsf->row;
    mo_mempool_destroy(list);
    mo_unpoison_defined(row->start, (size_t)(row->end - row->start));
}

/* --------------------------------------------------------------------- blocks */

/* The first byte of a red zone that was written to, in a block of `bytes` at `payload`. */
static const void *wrong_around(const struct memopt_freelist *list, const char *payload,
                                size_t bytes, size_t asked, bool *ret_before) {
    const char *data = payload + before_data(list), *end = data + asked;
    if (!list->debug.on)
        return NULL;
    const void *broken = mo_pattern_broken(data - ZONE, ZONE, MO_PATTERN_AROUND);
    *ret_before = broken != NULL;
    if (broken == NULL)
        broken = mo_pattern_broken(end, (size_t)(payload + bytes - end), MO_PATTERN_AROUND);
    return broken;
}

void *memopt_freelist_alloc(struct memopt_freelist *list, size_t size, size_t alignment) {
    if (alignment < MO_UNIT && (alignment & (alignment - 1)) == 0)
        alignment = MO_UNIT;
    if (list == NULL || size == 0 || (alignment & (alignment - 1)) != 0) {
        errno = EINVAL;
        return NULL;
    }
    const struct mo_row *row = &list->tlsf->row;
    size_t skip = before_data(list);
    int code = MO_TLSF_FULL;
    void *payload;
    if (size <= (size_t)(row->end - row->start))
        code = mo_tlsf_alloc(list->tlsf, skip + size + (list->debug.on ? ZONE : 0), alignment, skip,
                             &payload);
    if (code != 0) {
        if (code != MO_TLSF_FULL) /* something overflowed: nothing of the list is handed out */
            mo_misuse(&list->debug, MEMOPT_MISUSE_OVERFLOW, NULL, 0, row->wrong, NULL);
        list->failed++;
        errno = ENOMEM;
        return NULL;
    }
    char *data = (char *)payload + skip;
    struct front *front = payload;
    front->asked = size;
    front->check = check_of(list, front);
    if (list->debug.on) {
        size_t zones = mo_tlsf_bytes(payload) - FRONT;
        const void *broken = mo_pattern_broken(data - ZONE, zones, MO_PATTERN_RETURNED);
        if (broken != NULL)
            mo_misuse(&list->debug, MEMOPT_MISUSE_AFTER_RETURN, data, size, broken, NULL);
        mo_pattern_fill(data - ZONE, ZONE, MO_PATTERN_AROUND);
        mo_pattern_fill(data + size, zones - ZONE - size, MO_PATTERN_AROUND);
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
    return at >= (uintptr_t)list->tlsf->row.start + RECORD &&
           at < (uintptr_t)list->tlsf->row.end && at % MO_UNIT == 0;
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
    struct front *front = front_of(list, p);
    struct mo_head *head = (struct mo_head *)front - 1;
    size_t asked = front->asked, bytes = mo_tlsf_bytes(front);
    int damage = front->check == check_of(list, front) ? mo_tlsf_free(list->tlsf, front)
                                                       : MO_DAMAGE_HEAD;
    if (damage == MO_DAMAGE_HEAD) /* here and below nothing was freed */
        return mo_misuse(&list->debug, MEMOPT_MISUSE_UNDERFLOW, p, 0, head, error);
    if (damage == MO_DAMAGE_PREVIOUS)
        return mo_misuse(&list->debug, MEMOPT_MISUSE_UNDERFLOW, p, asked,
                         head - mo_head_before(head) - 1, error);
    if (damage != 0)
        return mo_misuse(&list->debug, MEMOPT_MISUSE_OVERFLOW, p, asked,
                         damage == MO_DAMAGE_NEXT ? mo_head_after(head) : list->tlsf->row.wrong,
                         error);
    bool at_front = false;
    int code = 0;
    const void *broken = wrong_around(list, (char *)front, bytes, asked, &at_front);
    if (broken != NULL)
        code = mo_misuse(&list->debug, at_front ? MEMOPT_MISUSE_UNDERFLOW : MEMOPT_MISUSE_OVERFLOW,
                         p, asked, broken, error);
    list->frees++;
    list->live_blocks--;
    list->live_bytes -= asked;
    set_bit(list->used_map, unit_of(list, p), false);
    set_bit(list->freed_map, unit_of(list, p), true);
    if (list->debug.on)
        mo_pattern_fill(front + 1, bytes - FRONT, MO_PATTERN_RETURNED);
    mo_mempool_free(list, p, asked);
    return code;
}

size_t memopt_freelist_size(const struct memopt_freelist *list, const void *p) {
    if (list == NULL || !in_region(list, p) || !bit(list->used_map, unit_of(list, p)))
        return 0;
    return front_of(list, p)->asked;
}

int memopt_freelist_stats(const struct memopt_freelist *list,
                          struct memopt_freelist_statistics *stats) {
    if (list == NULL || stats == NULL || stats->size > sizeof(*stats) ||
        stats->size < offsetof(struct memopt_freelist_statistics, live_bytes))
        return -EINVAL;
    const struct mo_tlsf *tlsf = list->tlsf;
    uint64_t front_bytes = tlsf->free_blocks * FRONT, free_bytes = tlsf->free_units * MO_UNIT;
    uint64_t zones = list->debug.on ? 2 * ZONE : 0, largest = mo_tlsf_largest(tlsf);
    free_bytes -= front_bytes;
    largest -= largest > 0 ? FRONT : 0;
    struct memopt_freelist_statistics all = {
        .size = stats->size,
        .capacity = (uint64_t)(tlsf->row.end - tlsf->row.start),
        .live_bytes = list->live_bytes,
        .peak_bytes = list->peak_bytes,
        .live_blocks = list->live_blocks,
        .free_blocks = tlsf->free_blocks,
        .free_bytes = free_bytes,
        .largest_free = largest > zones ? largest - zones : 0,
        .fragmentation = free_bytes == 0 ? 0 : 1 - (double)largest / (double)free_bytes,
        .allocations = list->allocations,
        .frees = list->frees,
        .failed = list->failed,
        .misuses = atomic_load_explicit(&list->debug.count, memory_order_relaxed),
    };
    memcpy(stats, &all, stats->size);
    return 0;
}
