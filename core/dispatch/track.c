/*
 * track.c - the operations when allocations are counted or told of (core/account): the
 * backend's, with that around them.
 *
 *   tracked   the operations, for any trackers
 *   counted   malloc and free, if nobody wants more than counts
 *   ask       the backend, for its own figures, now and then while the process lives
 */
#include "core/dispatch/dispatch.h"
#include "core/account/account.h"
#include "core/ledger/writer.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* ----------------------------------------------------------------- the backend */

/* Keeps the order of stores as written, for signal handlers; and what is before it one
 * addition to memory each: see core/account/tally.h. */
static inline void fence(void) {
    atomic_signal_fence(memory_order_seq_cst);
}

/* A call of the backend sets mo_own.inside and takes it back, except where it is set: in a
 * signal handler that has interrupted one, whose calls leave the mark to the first, and where
 * memopt itself allocates. That the two are stores of
 * constants behind a branch matters: adding and subtracting would be a chain of loads that
 * wait for stores, as long as the rest of a pair. */
#define IN_BACKEND(CALL)                                                                           \
    do {                                                                                           \
        if (mo_unlikely(mo_own.inside)) {                                                          \
            CALL;                                                                                  \
        } else {                                                                                   \
            mo_own.inside = MO_IN_BACKEND;                                                         \
            fence();                                                                               \
            CALL;                                                                                  \
            fence();                                                                               \
            mo_own.inside = 0;                                                                     \
        }                                                                                          \
    } while (0)

/* --------------------------------------------------------------------- ask */

static int (*ask_backend)(struct memopt_figures *figures); /* NULL: it has none */

/* What counts as most of it. */
static uint64_t amount(const struct memopt_figures *figures) {
    return figures->live != MEMOPT_UNKNOWN ? figures->live : figures->committed;
}

static struct {
    _Atomic uint64_t last; /* when it was asked */
    _Atomic bool asking;
    uint64_t most;
} asked;

/* A forked child begins again. */
void mo_track_forked(void) {
    atomic_store(&asked.last, 0);
    atomic_store(&asked.asking, false);
    asked.most = 0;
}

/* Keeps what the backend said when it had the most live: at the end of a program, which has
 * freed everything, it says nothing of how the program did. */
static __attribute__((noinline, cold)) void ask(void) {
    enum { APART = 10000000 }; /* ns */
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time); /* no system call */
    uint64_t now = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    if (now - atomic_load_explicit(&asked.last, memory_order_relaxed) < APART ||
        atomic_exchange(&asked.asking, true))
        return;
    int saved = errno;
    struct memopt_figures figures = MEMOPT_FIGURES_INIT;
    mo_own.inside = MO_IN_BACKEND;
    if (ask_backend(&figures) == 0 && amount(&figures) != MEMOPT_UNKNOWN &&
        amount(&figures) >= asked.most) {
        asked.most = amount(&figures);
        mo_ledger_set_figures(&figures);
    }
    mo_own.inside = 0;
    errno = saved;
    atomic_store(&asked.last, now);
    atomic_store(&asked.asking, false);
}

/* After an allocation, on a way that is taken less often than the shortest. */
static inline void ask_sometimes(void) {
    enum { TURNS = 256 };
    if (mo_unlikely(++mo_own.turn % TURNS == 0) && ask_backend != NULL && mo_own.inside == 0)
        ask();
}

/* What the backend says of blocks by the size asked for, where it always says the same. */
enum { KNOWN = 8192 };
static uint16_t usable_of[KNOWN]; /* by the size asked for; 0: not known */

static __attribute__((noinline, cold)) void learn(size_t size, size_t usable) {
    if (usable <= UINT16_MAX)
        __atomic_store_n(&usable_of[size], (uint16_t)usable, __ATOMIC_RELAXED);
}

/* Of a block that malloc or calloc gave for `size`. */
static inline size_t usable_for(void *p, size_t size) {
    bool small = size < KNOWN;
    size_t usable = small ? __atomic_load_n(&usable_of[size], __ATOMIC_RELAXED) : 0;
    if (usable == 0) {
        usable = mo_backend.usable_size(p);
        if (mo_unlikely(small && size < mo_backend.sized_below))
            learn(size, usable);
    }
    return usable;
}

/* What nobody wants to know isn't asked for. */
static inline size_t usable_if(void *p, size_t size) {
    return mo_account.wants_usable ? usable_for(p, size) : 0;
}

static inline size_t usable_of_block(void *p) {
    return mo_account.wants_usable ? mo_backend.usable_size(p) : 0;
}

static inline bool is_memopts(void) {
    return mo_unlikely(mo_own.inside >= MO_IN_MEMOPT);
}

static inline void *malloc_came(void *p, size_t size, int event) {
    if (mo_unlikely(p == NULL)) {
        mo_account_refused(0, size, event);
        return mo_fail_nomem();
    }
    mo_account_alloc(0, p, size, usable_if(p, size), event);
    return p;
}

static void *tracked_malloc(size_t size) {
    void *p;
    if (is_memopts() && (p = mo_own_alloc(0, size)) != NULL)
        return p;
    IN_BACKEND(p = mo_backend.malloc(size));
    ask_sometimes();
    return malloc_came(p, size, MEMOPT_EVENT_MALLOC);
}

static void *tracked_calloc(size_t count, size_t size) {
    void *p;
    if (is_memopts() && (p = mo_own_alloc(0, count * size)) != NULL)
        return memset(p, 0, count * size);
    IN_BACKEND(p = mo_backend.calloc(count, size));
    ask_sometimes();
    if (mo_unlikely(p == NULL))
        mo_account_refused(0, count * size, MEMOPT_EVENT_CALLOC);
    else
        mo_account_alloc(0, p, count * size, usable_if(p, count * size), MEMOPT_EVENT_CALLOC);
    return p;
}

static void *tracked_aligned_alloc(size_t alignment, size_t size) {
    void *p;
    if (is_memopts() && (p = mo_own_alloc(alignment, size)) != NULL)
        return p;
    IN_BACKEND(p = mo_backend.aligned_alloc(alignment, size));
    if (mo_unlikely(p == NULL))
        mo_account_refused(0, size, MEMOPT_EVENT_ALIGNED);
    else
        mo_account_alloc(0, p, size, usable_of_block(p), MEMOPT_EVENT_ALIGNED);
    return p;
}

void *mo_track_realloc_null(size_t size) {
    void *p;
    if (is_memopts() && (p = mo_own_alloc(0, size)) != NULL)
        return p;
    IN_BACKEND(p = mo_backend.malloc(size));
    return malloc_came(p, size, MEMOPT_EVENT_REALLOC);
}

static void tracked_free(void *p) {
    if (mo_unlikely(p == NULL))
        return;
    mo_account_free(0, p, usable_of_block(p), MEMOPT_EVENT_FREE);
    IN_BACKEND(mo_backend.free(p));
}

static void *tracked_realloc(void *p, size_t size) {
    size_t old = usable_of_block(p);
    mo_account_free(0, p, old, MEMOPT_EVENT_REALLOC);
    void *q;
    IN_BACKEND(q = mo_backend.realloc(p, size));
    ask_sometimes();
    if (mo_unlikely(q == NULL)) {
        mo_account_alloc(0, p, old, old, MEMOPT_EVENT_RESTORE);
        mo_account_refused(0, size, MEMOPT_EVENT_REALLOC);
        return NULL;
    }
    mo_account_alloc(0, q, size, usable_of_block(q), MEMOPT_EVENT_REALLOC);
    return q;
}

/* ---------------------------------------------------------------- counted */

/* The same as tracked_malloc and tracked_free, where all that is wanted is counts: in place,
 * which costs less than half. */

static __attribute__((noinline)) void *uncounted_malloc(void *p, size_t size) {
    ask_sometimes();
    return malloc_came(p, size, MEMOPT_EVENT_MALLOC);
}

static __attribute__((noinline)) void *out_of_bounds(void *p, struct mo_tally *tally) {
    mo_count_bounds(tally);
    ask_sometimes();
    return p;
}

static __attribute__((noinline, cold)) void uncounted_free(void *p, size_t usable) {
    mo_account_free(0, p, usable, MEMOPT_EVENT_FREE);
    IN_BACKEND(mo_backend.free(p));
}

static void *counted_malloc(size_t size) {
    void *p;
    if (mo_unlikely(mo_own.inside)) /* a handler's, or memopt's own */
        return tracked_malloc(size);
    mo_own.inside = MO_IN_BACKEND;
    fence();
    p = mo_backend.malloc(size);
    fence();
    mo_own.inside = 0;
    if (mo_unlikely(p == NULL || size >= MO_TALLY_SMALL))
        return uncounted_malloc(p, size);
    size_t usable = usable_for(p, size);
    struct mo_tally *tally = mo_own.tally;
    if (mo_unlikely(tally == NULL))
        return uncounted_malloc(p, size);
    tally->small[size]++;
    fence();
    tally->allocated += usable;
    fence();
    if (mo_unlikely(mo_tally_live(tally) > tally->ceiling))
        return out_of_bounds(p, tally);
    return p;
}

static void counted_free(void *p) {
    if (mo_unlikely(p == NULL))
        return;
    size_t usable = mo_backend.usable_size(p);
    struct mo_tally *tally = mo_own.tally;
    if (mo_unlikely(tally == NULL)) {
        uncounted_free(p, usable);
        return;
    }
    tally->frees++;
    fence();
    tally->freed += usable;
    fence();
    if (mo_unlikely(mo_tally_live(tally) < tally->floor))
        mo_count_bounds(tally);
    IN_BACKEND(mo_backend.free(p));
}

/* ----------------------------------------------------------------------- start */

void mo_track_install(int (*figures)(struct memopt_figures *figures), struct memopt_malloc *table) {
    ask_backend = figures;
    mo_tracks = true;
    bool counts_only = mo_account.counts && !mo_account.tells;
    table->malloc = counts_only ? counted_malloc : tracked_malloc;
    table->calloc = tracked_calloc;
    table->realloc = tracked_realloc;
    table->free = counts_only ? counted_free : tracked_free;
    table->aligned_alloc = tracked_aligned_alloc;
}
