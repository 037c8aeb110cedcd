/*
 * stats - counts what the program allocates: calls, bytes, live, peak, and a
 * histogram of the sizes asked for, per thread and merged.
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
 * hides. It is all so plain that dispatch does most of it itself (struct
 * memopt_tally).
 *
 * The process's peak needs what all threads have together. Each thread adds to
 * a shared total only when its live bytes have moved by `peak_batch`, so the
 * total is off by less than one batch for each thread, either way, and so is
 * the peak. Where threads have little, that bound is far above anything they can
 * have had; peak_error_of() has the ones that hold then. With one thread the peak is
 * that thread's own and exact.
 *
 * The fences make each counter one add to memory, so that a signal handler that
 * allocates comes before it or after it (where the machine has such an add; and
 * they keep the compiler from joining two into a vector, which is slower).
 */
#include "config.h"

#include <memopt/plugin.h>

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

/* The histogram's bins: sizes below 8 have one each, then four for each doubling. */
enum { BINS = 252, SMALL_BINS = 32 /* hold what tally.small counts */ };

struct bin {
    uint64_t allocations, bytes;
};

struct thread {
    /* ceiling: above it there is a new peak, or a batch is full; floor: a batch is */
    struct memopt_tally tally;
    int64_t peak;                              /* of live; of the ended threads: all of theirs */
    int64_t flushed;                           /* the part of live that is in the process's total */
    uint64_t seen;                             /* 1: counted in process.threads */
    uint64_t events[MEMOPT_EVENT_REALLOC + 1]; /* allocations by how, but for malloc's */
    uint64_t failures;
    struct bin bins[BINS - SMALL_BINS];
};
_Static_assert(offsetof(struct thread, tally) == 0, "as memopt_tally has it");
_Static_assert(offsetof(struct thread, bins) % sizeof(struct bin) == 0, "a bin in one cache line");

struct process {
    uint64_t batch;
    int64_t inherited_bytes, inherited_blocks; /* live at the fork this process came from */
    _Atomic int64_t live;                   /* sum of threads' `flushed`, and what is inherited */
    _Atomic int64_t peak;                   /* highest of `live` */
    _Atomic uint32_t threads, threads_peak; /* with memory to count, now and at most */
};

struct settings {
    uint64_t peak_batch;
};

/* A size's bin is its two highest bits and the position of the highest. */
static inline size_t bin_of(size_t size) {
    unsigned shift = 61u - (unsigned)__builtin_clzll((unsigned long long)size | 4);
    return shift * 4 + (size >> shift);
}

static uint64_t bin_min(size_t bin) {
    return bin < 8 ? bin : (uint64_t)(4 + bin % 4) << (bin / 4 - 1);
}

static uint64_t bin_max(size_t bin) {
    return bin < 8 ? bin : bin_min(bin) + ((uint64_t)1 << (bin / 4 - 1)) - 1;
}

static inline int64_t live(const struct thread *thread) {
    return (int64_t)(thread->tally.allocated - thread->tally.freed);
}

static int stats_open(const struct memopt_host *host, const void *settings_, void *process_,
                      void **ret_self, struct memopt_error *error) {
    (void)host, (void)error;
    const struct settings *settings = settings_;
    struct process *process = process_;
    process->batch = settings->peak_batch;
    *ret_self = process;
    return 0;
}

/* ------------------------------------------------------------ the rare part */

static void raise_to(_Atomic int64_t *peak, int64_t value) {
    int64_t now = atomic_load_explicit(peak, memory_order_relaxed);
    while (value > now && !atomic_compare_exchange_weak_explicit(
                              peak, &now, value, memory_order_relaxed, memory_order_relaxed))
        ;
}

/* Hands the thread's live bytes to the process's total. */
static void flush(struct process *process, struct thread *thread) {
    int64_t now = live(thread), change = now - thread->flushed;
    thread->flushed = now;
    int64_t total =
        atomic_fetch_add_explicit(&process->live, change, memory_order_relaxed) + change;
    raise_to(&process->peak, total);
}

static void first_event(struct process *process, struct thread *thread) {
    thread->seen = 1;
    uint32_t threads = atomic_fetch_add_explicit(&process->threads, 1, memory_order_relaxed) + 1;
    uint32_t peak = atomic_load_explicit(&process->threads_peak, memory_order_relaxed);
    while (threads > peak &&
           !atomic_compare_exchange_weak_explicit(&process->threads_peak, &peak, threads,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

/* live is above the ceiling or below the floor. */
static void stats_bounds(void *process_, void *thread_) {
    struct process *process = process_;
    struct thread *thread = thread_;
    int64_t batch = (int64_t)process->batch, now = live(thread);
    if (!thread->seen)
        first_event(process, thread);
    if (now > thread->peak)
        thread->peak = now;
    if (now > thread->flushed + batch || now < thread->flushed - batch)
        flush(process, thread);
    int64_t full = thread->flushed + batch;
    thread->tally.floor = thread->flushed - batch;
    thread->tally.ceiling = thread->peak < full ? thread->peak : full;
}

/* A failed realloc gives its old block back: it was never freed. */
static __attribute__((noinline, cold)) void restore(struct process *process, struct thread *thread,
                                                    size_t usable) {
    thread->tally.frees--;
    thread->tally.freed -= usable;
    if (live(thread) > thread->tally.ceiling)
        stats_bounds(process, thread);
}

/* ------------------------------------------------------------- the hot part */

static inline void fence(void) {
    atomic_signal_fence(memory_order_seq_cst);
}

static void stats_alloc(void *self, void *thread_, void *p, size_t size, size_t usable, int event) {
    (void)p;
    struct thread *thread = thread_;
    if (__builtin_expect(event != MEMOPT_EVENT_MALLOC, 0)) {
        if (event == MEMOPT_EVENT_RESTORE)
            return restore(self, thread, usable);
        thread->events[event]++;
    }
    if (size < MEMOPT_TALLY_SMALL) {
        thread->tally.small[size]++;
    } else {
        struct bin *bin = &thread->bins[bin_of(size) - SMALL_BINS];
        bin->allocations++;
        fence();
        bin->bytes += size;
    }
    fence();
    thread->tally.allocated += usable;
    fence();
    if (__builtin_expect(live(thread) > thread->tally.ceiling, 0))
        stats_bounds(self, thread);
}

static void stats_free(void *self, void *thread_, void *p, size_t usable, int event) {
    (void)p, (void)event;
    struct thread *thread = thread_;
    thread->tally.frees++;
    fence();
    thread->tally.freed += usable;
    fence();
    if (__builtin_expect(live(thread) < thread->tally.floor, 0))
        stats_bounds(self, thread);
}

static void stats_refused(void *self, void *thread_, size_t size, int event) {
    (void)self, (void)size, (void)event;
    ((struct thread *)thread_)->failures++;
}

/* -------------------------------------------------- threads and processes end */

/* Adds the thread's histogram to `bins`. */
static void add_histogram(const struct thread *thread, struct bin bins[BINS]) {
    for (size_t size = 0; size < MEMOPT_TALLY_SMALL; size++) {
        bins[bin_of(size)].allocations += thread->tally.small[size];
        bins[bin_of(size)].bytes += thread->tally.small[size] * size;
    }
    for (size_t i = SMALL_BINS; i < BINS; i++) {
        bins[i].allocations += thread->bins[i - SMALL_BINS].allocations;
        bins[i].bytes += thread->bins[i - SMALL_BINS].bytes;
    }
}

static uint64_t thread_allocations(const struct thread *thread) {
    uint64_t sum = 0;
    for (size_t size = 0; size < MEMOPT_TALLY_SMALL; size++)
        sum += thread->tally.small[size];
    for (size_t i = 0; i < BINS - SMALL_BINS; i++)
        sum += thread->bins[i].allocations;
    return sum;
}

static void stats_thread_end(void *self, void *ended_, void *thread_) {
    struct process *process = self;
    struct thread *ended = ended_, *thread = thread_;
    if (thread->seen) {
        /* A thread that was always alone knows the exact peak. */
        if (atomic_load_explicit(&process->threads_peak, memory_order_relaxed) == 1)
            raise_to(&process->peak, atomic_load_explicit(&process->live, memory_order_relaxed) -
                                         thread->flushed + thread->peak);
        flush(process, thread);
        atomic_fetch_sub_explicit(&process->threads, 1, memory_order_relaxed);
    }
    ended->tally.allocated += thread->tally.allocated;
    ended->tally.freed += thread->tally.freed;
    ended->tally.frees += thread->tally.frees;
    ended->flushed += thread->flushed;
    ended->peak += thread->peak;
    ended->failures += thread->failures;
    for (size_t i = 0; i < sizeof(thread->events) / sizeof(thread->events[0]); i++)
        ended->events[i] += thread->events[i];
    for (size_t size = 0; size < MEMOPT_TALLY_SMALL; size++)
        ended->tally.small[size] += thread->tally.small[size];
    for (size_t i = 0; i < BINS - SMALL_BINS; i++) {
        ended->bins[i].allocations += thread->bins[i].allocations;
        ended->bins[i].bytes += thread->bins[i].bytes;
    }
    memset(thread, 0, sizeof(*thread));
}

/* The child has the parent's blocks, but made none of the parent's calls. */
static void stats_fork_child(void *self, void *process_, void *const *threads,
                             size_t thread_count) {
    (void)self;
    struct process *process = process_;
    int64_t total = atomic_load_explicit(&process->live, memory_order_relaxed);
    int64_t blocks = process->inherited_blocks;
    for (size_t i = 0; i < thread_count; i++) {
        struct thread *thread = threads[i];
        total += live(thread) - thread->flushed;
        blocks += (int64_t)(thread_allocations(thread) - thread->tally.frees);
        memset(thread, 0, sizeof(*thread));
    }
    process->inherited_bytes = total;
    process->inherited_blocks = blocks;
    atomic_store_explicit(&process->live, total, memory_order_relaxed);
    atomic_store_explicit(&process->peak, total, memory_order_relaxed);
    atomic_store_explicit(&process->threads, 0, memory_order_relaxed);
    atomic_store_explicit(&process->threads_peak, 0, memory_order_relaxed);
}

/* ------------------------------------------------------------- in the parent */

/* What is read here may be nonsense, so sums are unsigned: they wrap. */
static struct memopt_counts counts_of(const struct thread *thread, const struct bin bins[BINS]) {
    struct memopt_counts counts = {
        .frees = thread->tally.frees,
        .reallocations = thread->events[MEMOPT_EVENT_REALLOC],
        .zeroed = thread->events[MEMOPT_EVENT_CALLOC],
        .aligned = thread->events[MEMOPT_EVENT_ALIGNED],
        .failures = thread->failures,
        .bytes_allocated = thread->tally.allocated,
        .bytes_freed = thread->tally.freed,
        .live_bytes = live(thread),
        .peak_bytes = (uint64_t)thread->peak,
    };
    for (size_t i = 0; i < BINS; i++) {
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

static int stats_report(const struct memopt_host *host, const void *settings,
                        const struct memopt_ledger_section *section, struct memopt_report *report,
                        struct memopt_process *process, struct memopt_error *error) {
    (void)settings;
    if (section->process_size != sizeof(struct process) ||
        section->thread_size != sizeof(struct thread))
        return host->fail(error, -EPROTONOSUPPORT,
                          "the tracker 'stats' left %zu bytes a process and %zu a thread, expected "
                          "%zu and %zu: it is not the one that this memopt came with",
                          section->process_size, section->thread_size, sizeof(struct process),
                          sizeof(struct thread));
    struct process state;
    memcpy(&state, section->process, sizeof(state));
    int64_t total = atomic_load(&state.live), peak = atomic_load(&state.peak);
    uint32_t most = atomic_load(&state.threads_peak);

    size_t count = 0, used = 0;
    int64_t tid;
    for (size_t i = 0; i < section->thread_count; i++)
        count += section->thread(section, i, &tid) != NULL;
    struct memopt_thread *threads = memopt_report_alloc(report, (count + 1) * sizeof(*threads));
    if (threads == NULL)
        return host->fail(error, -ENOMEM, "out of memory");

    struct memopt_counts sum = {.live_bytes = state.inherited_bytes,
                                .live_blocks = state.inherited_blocks};
    int64_t highest = state.inherited_bytes;
    struct bin all[BINS] = {{0}};
    for (size_t i = 0; i < section->thread_count; i++) {
        struct thread thread;
        const void *there = section->thread(section, i, &tid);
        if (there == NULL)
            continue;
        memcpy(&thread, there, sizeof(thread));
        struct bin own[BINS] = {{0}};
        add_histogram(&thread, own);
        struct memopt_counts counts = counts_of(&thread, own);
        memopt_counts_add(&sum, &counts);
        for (size_t b = 0; b < BINS; b++) {
            all[b].allocations += own[b].allocations;
            all[b].bytes += own[b].bytes;
        }
        if (counts.allocations == 0 && counts.frees == 0)
            continue;
        /* a thread that was killed may not have got to its new peak */
        int64_t own_peak = thread.peak > counts.live_bytes ? thread.peak : counts.live_bytes;
        highest = plus(highest, own_peak > 0 ? own_peak : 0);
        int64_t alone = plus(total, plus(thread.peak, (int64_t)(0 - (uint64_t)thread.flushed)));
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
        state.inherited_bytes > sum.live_bytes ? state.inherited_bytes : sum.live_bytes;
    sum.peak_bytes = (uint64_t)peak;
    sum.peak_error =
        most > 1 ? peak_error_of(peak, lowest > 0 ? lowest : 0, highest, most * state.batch) : 0;

    size_t bin_count = 0, b_used = 0;
    for (size_t b = 0; b < BINS; b++)
        b_used += all[b].allocations > 0;
    struct memopt_histogram_bin *bins = memopt_report_alloc(report, (b_used + 1) * sizeof(*bins));
    if (bins == NULL)
        return host->fail(error, -ENOMEM, "out of memory");
    for (size_t b = 0; b < BINS; b++)
        if (all[b].allocations > 0)
            bins[bin_count++] = (struct memopt_histogram_bin){bin_min(b), bin_max(b),
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

static const struct memopt_option options[] = {
    MEMOPT_OPT_SIZE(struct settings, peak_batch, "peak_batch", "64KiB", "0", "1GiB",
                    "how far a thread's live bytes may move before they count in the process's "
                    "peak, which is off by at most this for each thread, and by no more than the "
                    "threads' own peaks; one thread's is exact"),
    MEMOPT_OPT_END,
};

static const struct memopt_tracker_ops ops = {
    .size = sizeof(ops),
    .state_version = 3,
    .process_size = sizeof(struct process),
    .thread_size = sizeof(struct thread),
    .open = stats_open,
    .alloc = stats_alloc,
    .free = stats_free,
    .refused = stats_refused,
    .thread_end = stats_thread_end,
    .fork_child = stats_fork_child,
    .report = stats_report,
    .bounds = stats_bounds,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_TRACKER),
    .name = "stats",
    .version = PACKAGE_VERSION,
    .summary = "counts calls, bytes, live, peak and sizes, for each thread and the process",
    .options = options,
    .settings_size = sizeof(struct settings),
    .ops = &ops,
};
