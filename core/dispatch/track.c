/*
 * track.c - the operations when trackers are configured: the backend's, with the
 * chain of trackers told of every block.
 *
 *   tell      one tracker, or the chain
 *   tracked   the operations, for any trackers
 *   counted   malloc and free, if there is one tracker and all it does is count
 *   ask       the backend, for its own figures, now and then while the process lives
 *
 * A thread's state is initial-exec TLS: its slot in the ledger, what is counted there,
 * and whether it is in a call of the backend.
 * A thread that ends marks the slot from a pthread key's destructor and keeps
 * using it: destructors that run later, and the C library's own clean-up, still
 * free memory.
 */
#include "core/dispatch/dispatch.h"
#include "core/ledger/writer.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

static __thread struct {
    char *slot;
    struct memopt_tally *tally; /* with tell.bounds: in the slot */
    /* This thread is in a call of the backend. Zero: it holds none of its locks. */
    uint32_t inside;
    uint32_t turn; /* see ask_sometimes() */
} own;
static pthread_key_t end_key;
static struct mo_link *first_alloc, *first_free, *first_refused;

/* What an event calls. With one link that has the operation, the most common
 * case, that link's own; else the chain's, below, which gets the slot itself. */
typedef void (*alloc_fn)(void *self, void *thread, void *p, size_t size, size_t usable, int event);
typedef void (*free_fn)(void *self, void *thread, void *p, size_t usable, int event);
static struct {
    alloc_fn alloc;
    void *alloc_self;
    size_t alloc_offset;
    free_fn free;
    void *free_self;
    size_t free_offset;
    void (*bounds)(void *self, void *tally); /* NULL: not one tracker that only counts */
} tell;

static void chain_alloc(void *unused, void *slot, void *p, size_t size, size_t usable, int event) {
    (void)unused;
    for (struct mo_link *link = first_alloc; link != NULL; link = link->next_alloc)
        link->ops->alloc(link->self, (char *)slot + link->offset, p, size, usable, event);
}

static void chain_free(void *unused, void *slot, void *p, size_t usable, int event) {
    (void)unused;
    for (struct mo_link *link = first_free; link != NULL; link = link->next_free)
        link->ops->free(link->self, (char *)slot + link->offset, p, usable, event);
}

static bool stopped; /* see mo_track_stop() */

static __attribute__((noinline)) char *attach(void) {
    static char nowhere; /* the slot of those who must not count: nobody writes to it */
    if (stopped)
        return own.slot = &nowhere;
    char *slot = mo_ledger_attach();
    own.slot = slot; /* before the next call: it may allocate */
    if (tell.bounds != NULL)
        own.tally = (struct memopt_tally *)(void *)(slot + tell.alloc_offset);
    pthread_setspecific(end_key, slot);
    return slot;
}

static inline char *self(void) {
    char *slot = own.slot;
    return mo_likely(slot != NULL) ? slot : attach();
}

void *mo_track_self(void) {
    return self();
}

/* A thread's first event: apart, so that the others need not keep their
 * arguments over a call. */
static __attribute__((noinline, cold)) void tell_first_alloc(void *p, size_t size, size_t usable,
                                                             int event) {
    tell.alloc(tell.alloc_self, attach() + tell.alloc_offset, p, size, usable, event);
}

static __attribute__((noinline, cold)) void tell_first_free(void *p, size_t usable, int event) {
    tell.free(tell.free_self, attach() + tell.free_offset, p, usable, event);
}

static inline void tell_alloc(void *p, size_t size, size_t usable, int event) {
    char *slot = own.slot;
    if (mo_unlikely(slot == NULL))
        tell_first_alloc(p, size, usable, event);
    else
        tell.alloc(tell.alloc_self, slot + tell.alloc_offset, p, size, usable, event);
}

static inline void tell_free(void *p, size_t usable, int event) {
    char *slot = own.slot;
    if (mo_unlikely(slot == NULL))
        tell_first_free(p, usable, event);
    else
        tell.free(tell.free_self, slot + tell.free_offset, p, usable, event);
}

static __attribute__((noinline)) void *tell_refused(size_t size, int event) {
    char *slot = self();
    for (struct mo_link *link = first_refused; link != NULL; link = link->next_refused)
        link->ops->refused(link->self, slot + link->offset, size, event);
    return NULL;
}

/* ----------------------------------------------------------------- the backend */

/* Keeps the order of stores as written, for signal handlers; and what is before it one
 * addition to memory each: see memopt_tally. */
static inline void fence(void) {
    atomic_signal_fence(memory_order_seq_cst);
}

/* A call of the backend sets own.inside and takes it back, except in a signal handler that
 * has interrupted one: its calls leave the mark to the first. That the two are stores of
 * constants behind a branch matters: adding and subtracting would be a chain of loads that
 * wait for stores, as long as the rest of a pair. */
#define IN_BACKEND(CALL)                                                                           \
    do {                                                                                           \
        if (mo_unlikely(own.inside)) {                                                             \
            CALL;                                                                                  \
        } else {                                                                                   \
            own.inside = 1;                                                                        \
            fence();                                                                               \
            CALL;                                                                                  \
            fence();                                                                               \
            own.inside = 0;                                                                        \
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
    own.inside = 1;
    if (ask_backend(&figures) == 0 && amount(&figures) != MEMOPT_UNKNOWN &&
        amount(&figures) >= asked.most) {
        asked.most = amount(&figures);
        mo_ledger_set_figures(&figures);
    }
    own.inside = 0;
    errno = saved;
    atomic_store(&asked.last, now);
    atomic_store(&asked.asking, false);
}

/* After an allocation, on a way that is taken less often than the shortest. */
static inline void ask_sometimes(void) {
    enum { TURNS = 256 };
    if (mo_unlikely(++own.turn % TURNS == 0) && ask_backend != NULL && own.inside == 0)
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

static inline void *malloc_came(void *p, size_t size) {
    if (mo_unlikely(p == NULL)) {
        tell_refused(size, MEMOPT_EVENT_MALLOC);
        return mo_fail_nomem();
    }
    tell_alloc(p, size, usable_for(p, size), MEMOPT_EVENT_MALLOC);
    return p;
}

static void *tracked_malloc(size_t size) {
    void *p;
    IN_BACKEND(p = mo_backend.malloc(size));
    ask_sometimes();
    return malloc_came(p, size);
}

static void *tracked_calloc(size_t count, size_t size) {
    void *p;
    IN_BACKEND(p = mo_backend.calloc(count, size));
    ask_sometimes();
    if (mo_unlikely(p == NULL))
        return tell_refused(count * size, MEMOPT_EVENT_CALLOC);
    tell_alloc(p, count * size, usable_for(p, count * size), MEMOPT_EVENT_CALLOC);
    return p;
}

static void *tracked_aligned_alloc(size_t alignment, size_t size) {
    void *p;
    IN_BACKEND(p = mo_backend.aligned_alloc(alignment, size));
    if (mo_unlikely(p == NULL))
        return tell_refused(size, MEMOPT_EVENT_ALIGNED);
    tell_alloc(p, size, mo_backend.usable_size(p), MEMOPT_EVENT_ALIGNED);
    return p;
}

void *mo_track_realloc_null(size_t size) {
    void *p;
    IN_BACKEND(p = mo_backend.malloc(size));
    if (mo_unlikely(p == NULL)) {
        tell_refused(size, MEMOPT_EVENT_REALLOC);
        return mo_fail_nomem();
    }
    tell_alloc(p, size, usable_for(p, size), MEMOPT_EVENT_REALLOC);
    return p;
}

static void tracked_free(void *p) {
    if (mo_unlikely(p == NULL))
        return;
    tell_free(p, mo_backend.usable_size(p), MEMOPT_EVENT_FREE);
    IN_BACKEND(mo_backend.free(p));
}

static void *tracked_realloc(void *p, size_t size) {
    size_t old = mo_backend.usable_size(p);
    tell_free(p, old, MEMOPT_EVENT_REALLOC);
    void *q;
    IN_BACKEND(q = mo_backend.realloc(p, size));
    ask_sometimes();
    if (mo_unlikely(q == NULL)) {
        tell_alloc(p, old, old, MEMOPT_EVENT_RESTORE);
        return tell_refused(size, MEMOPT_EVENT_REALLOC);
    }
    tell_alloc(q, size, mo_backend.usable_size(q), MEMOPT_EVENT_REALLOC);
    return q;
}

/* ---------------------------------------------------------------- counted */

/* The same as tracked_malloc and tracked_free, for a tracker with `bounds`: plugin.h
 * says what may be done in place. */

static __attribute__((noinline)) void *uncounted_malloc(void *p, size_t size) {
    ask_sometimes();
    return malloc_came(p, size);
}

static __attribute__((noinline)) void *out_of_bounds(void *p, struct memopt_tally *tally) {
    tell.bounds(tell.alloc_self, tally);
    ask_sometimes();
    return p;
}

static __attribute__((noinline, cold)) void uncounted_free(void *p, size_t usable) {
    tell_free(p, usable, MEMOPT_EVENT_FREE);
    IN_BACKEND(mo_backend.free(p));
}

static inline int64_t live(const struct memopt_tally *tally) {
    return (int64_t)(tally->allocated - tally->freed);
}

static void *counted_malloc(size_t size) {
    void *p;
    IN_BACKEND(p = mo_backend.malloc(size));
    if (mo_unlikely(p == NULL || size >= MEMOPT_TALLY_SMALL))
        return uncounted_malloc(p, size);
    size_t usable = usable_for(p, size);
    struct memopt_tally *tally = own.tally;
    if (mo_unlikely(tally == NULL))
        return uncounted_malloc(p, size);
    tally->small[size]++;
    fence();
    tally->allocated += usable;
    fence();
    if (mo_unlikely(live(tally) > tally->ceiling))
        return out_of_bounds(p, tally);
    return p;
}

static void counted_free(void *p) {
    if (mo_unlikely(p == NULL))
        return;
    size_t usable = mo_backend.usable_size(p);
    struct memopt_tally *tally = own.tally;
    if (mo_unlikely(tally == NULL)) {
        uncounted_free(p, usable);
        return;
    }
    tally->frees++;
    fence();
    tally->freed += usable;
    fence();
    if (mo_unlikely(live(tally) < tally->floor))
        tell.bounds(tell.alloc_self, tally);
    IN_BACKEND(mo_backend.free(p));
}

/* ----------------------------------------------------------- start and stop */

static void thread_ends(void *slot) {
    mo_ledger_detach(slot);
}

void mo_track_install(struct mo_link *links, size_t count,
                      int (*figures)(struct memopt_figures *figures),
                      struct memopt_malloc *table) {
    ask_backend = figures;
    /* A key among the first 32 lives in the thread's own descriptor: setting it
     * allocates nothing. Without a key slots are not taken back early; no more. */
    pthread_key_create(&end_key, thread_ends);
    for (size_t i = count; i-- > 0;) {
        if (links[i].ops->alloc != NULL) {
            links[i].next_alloc = first_alloc;
            first_alloc = &links[i];
        }
        if (links[i].ops->free != NULL) {
            links[i].next_free = first_free;
            first_free = &links[i];
        }
        if (links[i].ops->refused != NULL) {
            links[i].next_refused = first_refused;
            first_refused = &links[i];
        }
    }
    tell.alloc = chain_alloc;
    if (first_alloc != NULL && first_alloc->next_alloc == NULL) {
        tell.alloc = first_alloc->ops->alloc;
        tell.alloc_self = first_alloc->self;
        tell.alloc_offset = first_alloc->offset;
    }
    tell.free = chain_free;
    if (first_free != NULL && first_free->next_free == NULL) {
        tell.free = first_free->ops->free;
        tell.free_self = first_free->self;
        tell.free_offset = first_free->offset;
    }
    mo_tracks = true;
    bool counts_only = count == 1 && links[0].ops->bounds != NULL;
    tell.bounds = counts_only ? links[0].ops->bounds : NULL;
    table->malloc = counts_only ? counted_malloc : tracked_malloc;
    table->calloc = tracked_calloc;
    table->realloc = tracked_realloc;
    table->free = counts_only ? counted_free : tracked_free;
    table->aligned_alloc = tracked_aligned_alloc;
}

static void ignore_alloc(void *self, void *slot, void *p, size_t size, size_t usable, int event) {
    (void)self, (void)slot, (void)p, (void)size, (void)usable, (void)event;
}

static void ignore_free(void *self, void *slot, void *p, size_t usable, int event) {
    (void)self, (void)slot, (void)p, (void)usable, (void)event;
}

/* The table has been changed, but somebody may have kept its addresses: operators.c. */
void mo_track_stop(void) {
    stopped = true;
    tell.alloc = ignore_alloc;
    tell.free = ignore_free;
    first_refused = NULL;
    own.tally = NULL;
}
