/* read.c - see read.h. What is counted, and how far peaks can be known: tally.h. */
#include "core/account/read.h"

#include "core/account/tally.h"
#include "core/base/error.h"

#include <errno.h>
#include <string.h>

/* Adds the thread's histogram to `bins`. */
static void add_histogram(const struct mo_tally *tally, struct mo_bin bins[MO_TALLY_BINS]) {
    for (size_t size = 0; size < MO_TALLY_SMALL; size++) {
        bins[mo_bin_of(size)].allocations += tally->small[size];
        bins[mo_bin_of(size)].bytes += tally->small[size] * size;
    }
    for (size_t i = MO_TALLY_SMALL_BINS; i < MO_TALLY_BINS; i++) {
        bins[i].allocations += tally->bins[i - MO_TALLY_SMALL_BINS].allocations;
        bins[i].bytes += tally->bins[i - MO_TALLY_SMALL_BINS].bytes;
    }
}

/* What is read here may be nonsense, so sums are unsigned: they wrap. */
static struct memopt_counts counts_of(const struct mo_tally *tally, const struct mo_bin bins[MO_TALLY_BINS]) {
    struct memopt_counts counts = {
        .frees = tally->frees,
        .reallocations = tally->events[MEMOPT_EVENT_REALLOC],
        .zeroed = tally->events[MEMOPT_EVENT_CALLOC],
        .aligned = tally->events[MEMOPT_EVENT_ALIGNED],
        .failures = tally->failures,
        .bytes_allocated = tally->allocated,
        .bytes_freed = tally->freed,
        .live_bytes = mo_tally_live(tally),
        .peak_bytes = (uint64_t)tally->peak,
    };
    for (size_t i = 0; i < MO_TALLY_BINS; i++) {
        counts.allocations += bins[i].allocations;
        counts.bytes_requested += bins[i].bytes;
    }
    counts.live_blocks = (int64_t)(counts.allocations - counts.frees);
    return counts;
}

static int64_t plus(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

/* How far the process's peak, reported as `peak`, may be from the true one. With
 *
 *   total(t) = inherited + sum of live_i(t)    over all threads there ever were
 *   true     = the highest total(t) there was
 *
 * three things are known, each exactly:
 *
 *   1. |peak - true| <= threads * batch. At any moment each thread keeps back at most a
 *      batch, so the shared total is that close to total(t), and so are their maxima.
 *   2. true <= inherited + sum of peak_i, as live_i(t) <= peak_i for each thread at any
 *      time (peak_i is exact, and 0 or more). An ended thread's peak_i is in the sum that
 *      slot 0 keeps.
 *   3. true >= inherited and true >= live now: total(t) was both of these, at the start
 *      and at the end.
 *
 * `peak` itself lies between the last two: it is a maximum of sums of values that the
 * live_i had, and is raised to live now. So the error is the larger of the two distances
 * to the bounds, or the first bound if that is smaller. */
static uint64_t peak_error_of(int64_t peak, int64_t lowest, int64_t highest, uint64_t by_batches) {
    uint64_t above = highest > peak ? (uint64_t)highest - (uint64_t)peak : 0;
    uint64_t below = peak > lowest ? (uint64_t)peak - (uint64_t)lowest : 0;
    uint64_t by_bounds = above > below ? above : below;
    return by_bounds < by_batches ? by_bounds : by_batches;
}

int mo_counts_read(const struct mo_ledger_copy *ledger, struct memopt_report *report,
                   struct memopt_process *process, struct memopt_error *error) {
    const struct mo_area *state = mo_ledger_state(ledger, MO_TALLY_NAME);
    if (state == NULL)
        return 0;
    if (state->version != MO_TALLY_VERSION || state->unit != sizeof(struct mo_tally))
        return mo_fail(error, -EPROTONOSUPPORT,
                       "its counts are of version %u and have %u bytes a thread, expected %d and "
                       "%zu: left out",
                       state->version, state->unit, MO_TALLY_VERSION, sizeof(struct mo_tally));
    const struct mo_ledger_totals totals = ledger->header.totals;
    int64_t total = atomic_load(&totals.live), peak = atomic_load(&totals.peak);
    uint32_t most = atomic_load(&totals.threads_peak);

    size_t count = 0, used = 0;
    int64_t tid;
    for (size_t i = 0; i < ledger->thread_count; i++)
        count += mo_ledger_slot_at(ledger, i, &tid) != NULL;
    struct memopt_thread *threads = memopt_report_alloc(report, (count + 1) * sizeof(*threads));
    if (threads == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");

    struct memopt_counts sum = {.live_bytes = totals.inherited_bytes,
                                .live_blocks = totals.inherited_blocks};
    int64_t highest = totals.inherited_bytes;
    struct mo_bin all[MO_TALLY_BINS] = {{0}};
    for (size_t i = 0; i < ledger->thread_count; i++) {
        struct mo_tally tally;
        const unsigned char *there = mo_ledger_slot_at(ledger, i, &tid);
        if (there == NULL)
            continue;
        memcpy(&tally, there + state->offset, sizeof(tally));
        struct mo_bin own[MO_TALLY_BINS] = {{0}};
        add_histogram(&tally, own);
        struct memopt_counts counts = counts_of(&tally, own);
        memopt_counts_add(&sum, &counts);
        for (size_t b = 0; b < MO_TALLY_BINS; b++) {
            all[b].allocations += own[b].allocations;
            all[b].bytes += own[b].bytes;
        }
        if (counts.allocations == 0 && counts.frees == 0)
            continue;
        /* a thread that was killed may not have got to its new peak */
        int64_t own_peak = tally.peak > counts.live_bytes ? tally.peak : counts.live_bytes;
        highest = plus(highest, own_peak > 0 ? own_peak : 0);
        int64_t alone = plus(total, plus(tally.peak, (int64_t)(0 - (uint64_t)tally.flushed)));
        if (most == 1 && tid != 0 && alone > peak)
            peak = alone;
        if (tid == 0)
            counts.peak_bytes = MEMOPT_UNKNOWN; /* peaks at different times have no sum */
        counts.peak_error = 0;
        threads[used++] = (struct memopt_thread){.tid = tid, .counts = counts};
    }
    if (sum.live_bytes > peak)
        peak = sum.live_bytes;
    if (peak < 0)
        peak = 0;
    int64_t lowest =
        totals.inherited_bytes > sum.live_bytes ? totals.inherited_bytes : sum.live_bytes;
    sum.peak_bytes = (uint64_t)peak;
    sum.peak_error =
        most > 1 ? peak_error_of(peak, lowest > 0 ? lowest : 0, highest, (uint64_t)most * MO_TALLY_BATCH) : 0;

    size_t bin_count = 0, b_used = 0;
    for (size_t b = 0; b < MO_TALLY_BINS; b++)
        b_used += all[b].allocations > 0;
    struct memopt_histogram_bin *bins = memopt_report_alloc(report, (b_used + 1) * sizeof(*bins));
    if (bins == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    for (size_t b = 0; b < MO_TALLY_BINS; b++)
        if (all[b].allocations > 0)
            bins[bin_count++] = (struct memopt_histogram_bin){mo_bin_min(b), mo_bin_max(b),
                                                              all[b].allocations, all[b].bytes};

    process->has_counts = 1;
    process->counts = sum;
    process->threads = threads;
    process->thread_count = used;
    process->thread_size = sizeof(*threads);
    process->histogram = bins;
    process->histogram_count = bin_count;
    process->histogram_size = sizeof(*bins);
    return 0;
}

