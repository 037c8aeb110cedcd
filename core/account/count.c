/*
 * count.c - counting, beyond what is inline: see tally.h.
 *
 * The fences make each counter one add to memory, so that a signal handler that
 * allocates comes before it or after it (where the machine has such an add; and
 * they keep the compiler from joining two into a vector, which is slower).
 */
#include "core/account/account.h"
#include "core/ledger/writer.h"
#include "lib/atomic.h"

#include <string.h>

static inline void fence(void) {
    atomic_signal_fence(memory_order_seq_cst);
}

static struct mo_ledger_totals *totals(void) {
    static struct mo_ledger_totals nowhere;
    return mo_ledger() == NULL ? &nowhere : &mo_ledger()->totals;
}

/* Hands the thread's live bytes to the process's total. */
static void flush(struct mo_tally *tally) {
    int64_t now = mo_tally_live(tally), change = now - tally->flushed;
    tally->flushed = now;
    int64_t total =
        atomic_fetch_add_explicit(&totals()->live, change, memory_order_relaxed) + change;
    mo_raise(&totals()->peak, total);
}

static void first_event(struct mo_tally *tally) {
    tally->seen = 1;
    uint32_t threads = atomic_fetch_add_explicit(&totals()->threads, 1, memory_order_relaxed) + 1;
    mo_raise(&totals()->threads_peak, threads);
}

void mo_count_bounds(struct mo_tally *tally) {
    int64_t now = mo_tally_live(tally);
    if (!tally->seen)
        first_event(tally);
    if (now > tally->peak)
        tally->peak = now;
    if (now > tally->flushed + MO_TALLY_BATCH || now < tally->flushed - MO_TALLY_BATCH)
        flush(tally);
    int64_t full = tally->flushed + MO_TALLY_BATCH;
    tally->floor = tally->flushed - MO_TALLY_BATCH;
    tally->ceiling = tally->peak < full ? tally->peak : full;
}

/* A failed realloc gives its old block back: it was never freed. */
static __attribute__((noinline, cold)) void restore(struct mo_tally *tally, size_t usable) {
    tally->frees--;
    tally->freed -= usable;
    if (mo_tally_live(tally) > tally->ceiling)
        mo_count_bounds(tally);
}

void mo_count_alloc(struct mo_tally *tally, size_t asked, size_t usable, int event) {
    if (event != MEMOPT_EVENT_MALLOC) {
        if (event == MEMOPT_EVENT_RESTORE) {
            restore(tally, usable);
            return;
        }
        tally->events[event]++;
    }
    if (asked < MO_TALLY_SMALL) {
        tally->small[asked]++;
    } else {
        struct mo_bin *bin = &tally->bins[mo_bin_of(asked) - MO_TALLY_SMALL_BINS];
        bin->allocations++;
        fence();
        bin->bytes += asked;
    }
    fence();
    tally->allocated += usable;
    fence();
    if (__builtin_expect(mo_tally_live(tally) > tally->ceiling, 0))
        mo_count_bounds(tally);
}

void mo_count_free(struct mo_tally *tally, size_t usable) {
    tally->frees++;
    fence();
    tally->freed += usable;
    fence();
    if (__builtin_expect(mo_tally_live(tally) < tally->floor, 0))
        mo_count_bounds(tally);
}

void mo_count_fold(struct mo_tally *ended, struct mo_tally *tally) {
    if (tally->seen) {
        /* A thread that was always alone knows the exact peak. */
        if (atomic_load_explicit(&totals()->threads_peak, memory_order_relaxed) == 1)
            mo_raise(&totals()->peak, atomic_load_explicit(&totals()->live, memory_order_relaxed) -
                                          tally->flushed + tally->peak);
        flush(tally);
        atomic_fetch_sub_explicit(&totals()->threads, 1, memory_order_relaxed);
    }
    ended->allocated += tally->allocated;
    ended->freed += tally->freed;
    ended->frees += tally->frees;
    ended->flushed += tally->flushed;
    ended->peak += tally->peak;
    ended->failures += tally->failures;
    for (size_t i = 0; i < sizeof(tally->events) / sizeof(tally->events[0]); i++)
        ended->events[i] += tally->events[i];
    for (size_t size = 0; size < MO_TALLY_SMALL; size++)
        ended->small[size] += tally->small[size];
    for (size_t i = 0; i < MO_TALLY_BINS - MO_TALLY_SMALL_BINS; i++) {
        ended->bins[i].allocations += tally->bins[i].allocations;
        ended->bins[i].bytes += tally->bins[i].bytes;
    }
    memset(tally, 0, sizeof(*tally));
}

/* -------------------------------------------------------------------- fork */

/* Of the parent; its slots go on changing, and the child no longer has them. */
static struct {
    int64_t bytes, blocks;
} at_fork;

void mo_account_before_fork(void) {
    if (!mo_account.counts || mo_ledger() == NULL)
        return;
    at_fork.bytes = totals()->inherited_bytes;
    at_fork.blocks = totals()->inherited_blocks;
    char *slot;
    for (uint64_t i = 0; (slot = mo_ledger_slot(i)) != NULL; i++) {
        const struct mo_tally *tally = mo_tally_in(slot);
        if (tally->allocated == 0 && tally->freed == 0)
            continue;
        at_fork.bytes += mo_tally_live(tally);
        at_fork.blocks += (int64_t)(mo_tally_allocations(tally) - tally->frees);
    }
}

/* The child has the parent's blocks, but made none of the parent's calls. */
void mo_count_in_child(void) {
    if (!mo_account.counts)
        return;
    totals()->inherited_bytes = at_fork.bytes;
    totals()->inherited_blocks = at_fork.blocks;
    atomic_store(&totals()->live, at_fork.bytes);
    atomic_store(&totals()->peak, at_fork.bytes);
}
