/*
 * bound.h - the limit of a heap: live bytes are reserved before the backend is asked, so that
 * they never exceed it, whoever else allocates. The counts are those of the heap's slot in the
 * ledger; malloc's (limit.c) and those of named heaps (core/heap) alike.
 *
 * Any thread, no lock.
 */
#ifndef MO_ACCOUNT_BOUND_H
#define MO_ACCOUNT_BOUND_H

#include "core/ledger/ledger.h"
#include "lib/atomic.h"

#include <stdbool.h>

/* Adds `bytes` to what is live if that stays within the limit. */
static inline bool mo_bound_reserve(struct mo_ledger_heap *heap, uint64_t bytes) {
    uint64_t limit = atomic_load_explicit(&heap->limit, memory_order_relaxed);
    uint64_t live = atomic_load_explicit(&heap->live_bytes, memory_order_relaxed);
    do {
        if (live > limit || bytes > limit - live)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&heap->live_bytes, &live, live + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static inline void mo_bound_release(struct mo_ledger_heap *heap, uint64_t bytes) {
    atomic_fetch_sub_explicit(&heap->live_bytes, bytes, memory_order_relaxed);
}

/* So much has been live. Less than none (frees that were counted before allocations) is no peak. */
static inline void mo_bound_peak(struct mo_ledger_heap *heap, uint64_t live) {
    if ((int64_t)live > 0)
        mo_raise(&heap->peak_bytes, live);
}

#endif
