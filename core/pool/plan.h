/*
 * plan.h - where tensors with lifetimes lie in one block (memopt/workspace.h says how it
 * is done). Knows nothing of memory.
 */
#ifndef MO_POOL_PLAN_H
#define MO_POOL_PLAN_H

#include <stddef.h>
#include <stdint.h>

struct mo_plan_item {
    size_t size; /* a multiple of 64, with whatever lies around the bytes */
    size_t alignment;
    unsigned first, last;
    size_t offset; /* the result */
};

/* Places every item. `order` and `placed` have room for `count` numbers each, `live`
 * for `ops`. Returns the size of the block; SIZE_MAX: it would overflow. */
size_t mo_plan(struct mo_plan_item *items, size_t count, unsigned ops, size_t *order,
               size_t *placed, size_t *best, uint64_t *live);

/* The most bytes alive in one operation. */
uint64_t mo_plan_bound(const struct mo_plan_item *items, size_t count, unsigned ops,
                       uint64_t *live);

#endif
