/* plan.c - greedy placement of tensors by size and by breadth: see plan.h. */
#include "core/pool/plan.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

uint64_t mo_plan_bound(const struct mo_plan_item *items, size_t count, unsigned ops,
                       uint64_t *live) {
    uint64_t most = 0, now = 0;
    memset(live, 0, ops * sizeof(*live));
    /* what begins with an operation, and what has ended before it */
    for (size_t i = 0; i < count; i++) {
        live[items[i].first] += items[i].size;
        if (items[i].last + 1 < ops)
            live[items[i].last + 1] -= items[i].size;
    }
    for (unsigned op = 0; op < ops; op++) {
        live[op] = now += live[op];
        if (now > most)
            most = now;
    }
    return most;
}

/* The most that is alive in an operation of the item's. */
static uint64_t breadth(const struct mo_plan_item *item, const uint64_t *live) {
    uint64_t most = 0;
    for (unsigned op = item->first; op <= item->last; op++)
        if (live[op] > most)
            most = live[op];
    return most;
}

/* Sorted by key and then size, largest first; ties keep their order, so that a plan
 * is always the same. */
static void sort(const struct mo_plan_item *items, const uint64_t *keys, size_t *order,
                 size_t *spare, size_t count) {
    if (count < 2)
        return;
    size_t half = count / 2;
    sort(items, keys, order, spare, half);
    sort(items, keys, order + half, spare, count - half);
    memcpy(spare, order, half * sizeof(*order));
    for (size_t left = 0, right = half, out = 0; left < half; out++) {
        bool take_right = false;
        if (right < count) {
            size_t a = spare[left], b = order[right];
            take_right = keys[b] != keys[a] ? keys[b] > keys[a] : items[b].size > items[a].size;
        }
        order[out] = take_right ? order[right++] : spare[left++];
    }
}

static size_t align_up(size_t value, size_t alignment) {
    return (value + alignment - 1) & ~(alignment - 1);
}

static bool meet(const struct mo_plan_item *a, const struct mo_plan_item *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* Places items in `order`; `placed` holds the placed ones by offset. */
static size_t place_all(struct mo_plan_item *items, const size_t *order, size_t *placed,
                        size_t count) {
    size_t total = 0;
    for (size_t n = 0; n < count; n++) {
        struct mo_plan_item *item = &items[order[n]];
        size_t at = SIZE_MAX, best_gap = SIZE_MAX, end = 0;
        for (size_t i = 0; i < n; i++) {
            const struct mo_plan_item *other = &items[placed[i]];
            if (!meet(item, other))
                continue;
            size_t begin = align_up(end, item->alignment);
            if (other->offset >= begin && other->offset - begin >= item->size &&
                other->offset - end < best_gap) {
                best_gap = other->offset - end;
                at = begin;
            }
            if (other->offset + other->size > end)
                end = other->offset + other->size;
        }
        if (at == SIZE_MAX)
            at = align_up(end, item->alignment);
        if (at < end && best_gap == SIZE_MAX)
            return SIZE_MAX;
        if (item->size > PTRDIFF_MAX || at > PTRDIFF_MAX - item->size)
            return SIZE_MAX;
        item->offset = at;
        if (at + item->size > total)
            total = at + item->size;
        size_t i = n;
        while (i > 0 && items[placed[i - 1]].offset > at) {
            placed[i] = placed[i - 1];
            i--;
        }
        placed[i] = order[n];
    }
    return total;
}

size_t mo_plan(struct mo_plan_item *items, size_t count, unsigned ops, size_t *order,
               size_t *placed, size_t *best, uint64_t *live) {
    /* keys lie in `best` until there is a plan to keep in it */
    uint64_t *keys = (uint64_t *)best;
    _Static_assert(sizeof(size_t) == sizeof(uint64_t), "keys have the room of offsets");
    for (size_t i = 0; i < count; i++) {
        order[i] = i;
        keys[i] = items[i].size;
    }
    sort(items, keys, order, placed, count);
    size_t by_size = place_all(items, order, placed, count);

    mo_plan_bound(items, count, ops, live);
    for (size_t i = 0; i < count; i++) {
        order[i] = i;
        keys[i] = breadth(&items[i], live);
    }
    sort(items, keys, order, placed, count);
    for (size_t i = 0; i < count; i++)
        best[i] = items[i].offset;
    size_t by_breadth = place_all(items, order, placed, count);
    if (by_breadth < by_size)
        return by_breadth;
    for (size_t i = 0; i < count; i++)
        items[i].offset = best[i];
    return by_size;
}
