/*
 * stats - counts what the program allocates: calls, bytes, live, peak, and a
 * histogram of the sizes asked for, per thread and merged.
 *
 * Made to stay out of the way. A thread counts in memory of its own, each event
 * in two cache lines, with no lock, no atomic operation and no loop:
 *
 *   alloc   one bin of the histogram (calls, bytes asked for), live bytes
 *   free    calls, bytes, live bytes
 *
 * Whatever can be summed up later is not counted: allocations are the sum of
 * the bins, bytes handed out are live + freed. A thread's peak is exact: one
 * comparison with `mark`, behind which the rare work hides.
 *
 * The process's peak needs what all threads have together. Each thread adds to
 * a shared total only when its live bytes have moved by `peak_batch`, so the
 * total is off by less than one batch for each thread, either way, and so is
 * the peak. With one thread the peak is that thread's own and exact.
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

/* Size classes: sizes below 8 have one each, then four for each doubling. */
enum { BINS = 252 };

struct bin {
    uint64_t allocations, bytes;
};

struct thread {
    int64_t live;  /* usable bytes: allocated - freed, by this thread */
    int64_t mark;  /* above it there is something to do: a new peak, or a batch is full */
    int64_t floor; /* below it a batch is full */
    uint64_t frees, bytes_freed;
    int64_t peak;                              /* of live */
    int64_t flushed;                           /* the part of live that is in the process's total */
    uint64_t seen;                             /* 1: counted in process.threads */
    uint64_t events[MEMOPT_EVENT_REALLOC + 1]; /* allocations by how, but for malloc's */
    uint64_t failures;
    uint64_t reserved[3];
    struct bin bins[BINS];
};
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
    int64_t change = thread->live - thread->flushed;
    thread->flushed = thread->live;
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

/* live is above mark or below floor. */
static __attribute__((noinline, cold)) void out_of_bounds(struct process *process,
                                                          struct thread *thread) {
    int64_t batch = (int64_t)process->batch, live = thread->live;
    if (!thread->seen)
        first_event(process, thread);
    if (live > thread->peak)
        thread->peak = live;
    if (live > thread->flushed + batch || live < thread->flushed - batch)
        flush(process, thread);
    int64_t ceiling = thread->flushed + batch;
    thread->floor = thread->flushed - batch;
    thread->mark = thread->peak < ceiling ? thread->peak : ceiling;
}

/* A failed realloc gives its old block back: it was never freed. */
static __attribute__((noinline, cold)) void restore(struct process *process, struct thread *thread,
                                                    size_t usable) {
    thread->frees--;
    thread->bytes_freed -= usable;
    thread->live += (int64_t)usable;
    if (thread->live > thread->mark)
        out_of_bounds(process, thread);
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
    struct bin *bin = &thread->bins[bin_of(size)];
    bin->allocations++;
    fence();
    bin->bytes += size;
    thread->live += (int64_t)usable;
    fence();
    if (__builtin_expect(thread->live > thread->mark, 0))
        out_of_bounds(self, thread);
}

static void stats_free(void *self, void *thread_, void *p, size_t usable, int event) {
    (void)p, (void)event;
    struct thread *thread = thread_;
    thread->frees++;
    fence();
    thread->bytes_freed += usable;
    thread->live -= (int64_t)usable;
    fence();
    if (__builtin_expect(thread->live < thread->floor, 0))
        out_of_bounds(self, thread);
}

static void stats_refused(void *self, void *thread_, size_t size, int event) {
    (void)self, (void)size, (void)event;
    ((struct thread *)thread_)->failures++;
}

/* -------------------------------------------------- threads and processes end */

static uint64_t thread_allocations(const struct thread *thread) {
    uint64_t sum = 0;
    for (size_t i = 0; i < BINS; i++)
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
    ended->live += thread->live;
    ended->flushed += thread->flushed;
    ended->frees += thread->frees;
    ended->bytes_freed += thread->bytes_freed;
    ended->failures += thread->failures;
    for (size_t i = 0; i < sizeof(thread->events) / sizeof(thread->events[0]); i++)
        ended->events[i] += thread->events[i];
    for (size_t i = 0; i < BINS; i++) {
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
    int64_t live = atomic_load_explicit(&process->live, memory_order_relaxed);
    int64_t blocks = process->inherited_blocks;
    for (size_t i = 0; i < thread_count; i++) {
        struct thread *thread = threads[i];
        live += thread->live - thread->flushed;
        blocks += (int64_t)(thread_allocations(thread) - thread->frees);
        memset(thread, 0, sizeof(*thread));
    }
    process->inherited_bytes = live;
    process->inherited_blocks = blocks;
    atomic_store_explicit(&process->live, live, memory_order_relaxed);
    atomic_store_explicit(&process->peak, live, memory_order_relaxed);
    atomic_store_explicit(&process->threads, 0, memory_order_relaxed);
    atomic_store_explicit(&process->threads_peak, 0, memory_order_relaxed);
}

/* ------------------------------------------------------------- in the parent */

/* What is read here may be nonsense, so sums are unsigned: they wrap. */
static struct memopt_counts counts_of(const struct thread *thread) {
    struct memopt_counts counts = {
        .frees = thread->frees,
        .reallocations = thread->events[MEMOPT_EVENT_REALLOC],
        .zeroed = thread->events[MEMOPT_EVENT_CALLOC],
        .aligned = thread->events[MEMOPT_EVENT_ALIGNED],
        .failures = thread->failures,
        .bytes_allocated = (uint64_t)thread->live + thread->bytes_freed,
        .bytes_freed = thread->bytes_freed,
        .live_bytes = thread->live,
        .peak_bytes = (uint64_t)thread->peak,
    };
    for (size_t i = 0; i < BINS; i++) {
        counts.allocations += thread->bins[i].allocations;
        counts.bytes_requested += thread->bins[i].bytes;
    }
    counts.live_blocks = (int64_t)(counts.allocations - counts.frees);
    return counts;
}

static void add_counts(struct memopt_counts *sum, const struct memopt_counts *more) {
    sum->allocations += more->allocations;
    sum->frees += more->frees;
    sum->reallocations += more->reallocations;
    sum->zeroed += more->zeroed;
    sum->aligned += more->aligned;
    sum->failures += more->failures;
    sum->bytes_requested += more->bytes_requested;
    sum->bytes_allocated += more->bytes_allocated;
    sum->bytes_freed += more->bytes_freed;
    sum->live_bytes = (int64_t)((uint64_t)sum->live_bytes + (uint64_t)more->live_bytes);
    sum->live_blocks = (int64_t)((uint64_t)sum->live_blocks + (uint64_t)more->live_blocks);
}

static int64_t plus(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a + (uint64_t)b);
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
    int64_t live = atomic_load(&state.live), peak = atomic_load(&state.peak);
    uint32_t most = atomic_load(&state.threads_peak);

    size_t count = 0, used = 0;
    int64_t tid;
    for (size_t i = 0; i < section->thread_count; i++)
        count += section->thread(section, i, &tid) != NULL;
    struct memopt_thread *threads = memopt_report_alloc(report, (count + 1) * sizeof(*threads));
    struct memopt_histogram_bin *bins = memopt_report_alloc(report, BINS * sizeof(*bins));
    if (threads == NULL || bins == NULL)
        return host->fail(error, -ENOMEM, "out of memory");

    struct memopt_counts sum = {.live_bytes = state.inherited_bytes,
                                .live_blocks = state.inherited_blocks};
    for (size_t i = 0; i < section->thread_count; i++) {
        struct thread thread;
        const void *there = section->thread(section, i, &tid);
        if (there == NULL)
            continue;
        memcpy(&thread, there, sizeof(thread));
        struct memopt_counts counts = counts_of(&thread);
        add_counts(&sum, &counts);
        for (size_t b = 0; b < BINS; b++) {
            bins[b].allocations += thread.bins[b].allocations;
            bins[b].bytes += thread.bins[b].bytes;
        }
        if (counts.allocations == 0 && counts.frees == 0)
            continue;
        int64_t alone = plus(live, plus(thread.peak, (int64_t)(0 - (uint64_t)thread.flushed)));
        if (most == 1 && tid != 0 && alone > peak)
            peak = alone;
        if (tid == 0)
            counts.peak_bytes = MEMOPT_UNKNOWN; /* peaks at different times have no sum */
        counts.peak_error = 0;
        threads[used++] = (struct memopt_thread){.tid = tid, .counts = counts};
    }
    if (sum.live_bytes > peak)
        peak = sum.live_bytes;
    sum.peak_bytes = peak < 0 ? 0 : (uint64_t)peak;
    sum.peak_error = most > 1 ? most * state.batch : 0;

    size_t bin_count = 0;
    for (size_t b = 0; b < BINS; b++)
        if (bins[b].allocations > 0)
            bins[bin_count++] = (struct memopt_histogram_bin){bin_min(b), bin_max(b),
                                                              bins[b].allocations, bins[b].bytes};

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
                    "peak, which is off by at most this for each thread; one thread's is exact"),
    MEMOPT_OPT_END,
};

static const struct memopt_tracker_ops ops = {
    .size = sizeof(ops),
    .state_version = 1,
    .process_size = sizeof(struct process),
    .thread_size = sizeof(struct thread),
    .open = stats_open,
    .alloc = stats_alloc,
    .free = stats_free,
    .refused = stats_refused,
    .thread_end = stats_thread_end,
    .fork_child = stats_fork_child,
    .report = stats_report,
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
