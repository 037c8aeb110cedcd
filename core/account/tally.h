/*
 * tally.h - what a thread has counted: the state "memopt.counts" in its slot of the ledger, and the
 * bins of its histogram.
 *
 * Made to stay out of the way. A thread counts in memory of its own, each event
 * in two cache lines, with no lock, no atomic operation and no loop:
 *
 *   alloc   one count of the histogram, bytes handed out
 *   free    calls, bytes
 *
 * Whatever can be summed up later is not counted: allocations and bytes asked for
 * are sums over the histogram, which has small sizes one by one and larger ones in
 * bins; live is what was handed out less what was freed. (Each has its own counter,
 * so that an allocation needn't wait for the free before it to be stored.) A
 * thread's peak is exact: one comparison with `ceiling`, behind which the rare work
 * hides.
 *
 * The process's peak needs what all threads have together. Each thread adds to
 * a shared total (struct mo_ledger_totals) only when its live bytes have moved by
 * MO_TALLY_BATCH, so the total is off by less than one batch for each thread, either way,
 * and so is the peak. Where threads have little, that bound is far above anything they can
 * have had; read.c has the ones that hold then. With one thread the peak is
 * that thread's own and exact.
 */
#ifndef MO_ACCOUNT_TALLY_H
#define MO_ACCOUNT_TALLY_H

#include <stddef.h>
#include <stdint.h>

#define MO_TALLY_NAME "memopt.counts" /* as no plugin can be called */
enum {
    MO_TALLY_VERSION = 1,
    MO_TALLY_SMALL = 512,     /* sizes that are counted one by one */
    MO_TALLY_BINS = 252,      /* sizes below 8 have one each, then four for each doubling */
    MO_TALLY_SMALL_BINS = 32, /* hold what `small` counts */
    MO_TALLY_BATCH = 64 << 10,
};

struct mo_bin {
    uint64_t allocations, bytes;
};

struct mo_tally {
    uint64_t allocated, freed; /* usable bytes, ever; the difference is live */
    uint64_t frees;            /* calls */
    int64_t ceiling, floor;    /* live above and below which there is more to do (count.c) */
    int64_t peak;              /* of live; of the ended threads: the sum of all of theirs */
    int64_t flushed;           /* the part of live that is in the process's total */
    uint64_t seen;             /* 1: counted in totals.threads */
    uint64_t events[4];        /* allocations by enum memopt_event, but for malloc's */
    uint64_t failures;
    uint64_t reserved[3];
    uint64_t small[MO_TALLY_SMALL];
    struct mo_bin bins[MO_TALLY_BINS - MO_TALLY_SMALL_BINS];
};
_Static_assert(offsetof(struct mo_tally, events) == 64, "what each event touches is one line");
_Static_assert(offsetof(struct mo_tally, bins) % sizeof(struct mo_bin) == 0,
               "a bin in one cache line");

/* A size's bin is its two highest bits and the position of the highest. */
static inline size_t mo_bin_of(size_t size) {
    unsigned shift = 61u - (unsigned)__builtin_clzll((unsigned long long)size | 4);
    return shift * 4 + (size >> shift);
}

static inline uint64_t mo_bin_min(size_t bin) {
    return bin < 8 ? bin : (uint64_t)(4 + bin % 4) << (bin / 4 - 1);
}

static inline uint64_t mo_bin_max(size_t bin) {
    return bin < 8 ? bin : mo_bin_min(bin) + ((uint64_t)1 << (bin / 4 - 1)) - 1;
}

static inline int64_t mo_tally_live(const struct mo_tally *tally) {
    return (int64_t)(tally->allocated - tally->freed);
}

static inline uint64_t mo_tally_allocations(const struct mo_tally *tally) {
    uint64_t sum = 0;
    for (size_t size = 0; size < MO_TALLY_SMALL; size++)
        sum += tally->small[size];
    for (size_t i = 0; i < MO_TALLY_BINS - MO_TALLY_SMALL_BINS; i++)
        sum += tally->bins[i].allocations;
    return sum;
}

#endif
