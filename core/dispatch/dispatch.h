/*
 * dispatch.h - from the program's malloc to a backend: the hot path.
 *
 *   malloc ──▶ mo_dispatch.malloc ──▶ boot          until the constructor ran
 *                                 ──▶ backend       nothing else is configured
 *                                 ──▶ tracked_* ──▶ backend, then the trackers
 *                                 ──▶ counted_* ──▶ backend, then counts for the one
 *
 * Invariants
 *   - mo_dispatch is always complete: a call may come at any moment, from the
 *     loader, a signal handler, another thread. It starts as the boot table and
 *     changes once, in the shim's constructor. Then malloc and free of the table are
 *     all that C asks for, and preload/rebind.c points the program's calls at them:
 *     from then on they may be called past the functions below, for ever.
 *   - Blocks of the boot range are never passed to a backend.
 *   - What a backend's table gets is what plugin.h promises it: no NULL, no zero
 *     sizes in realloc, checked products. errno is set here. For malloc and free
 *     the table does both: a backend's functions that do it by themselves
 *     (MEMOPT_ALLOCATOR_C_CALLS) stand in it as they are, others are wrapped.
 *   - Untrack before freeing, track after allocating: else another thread could
 *     be given the address in between, and be counted out of order.
 *
 * Budget without trackers, over calling the backend itself: malloc one indirect
 * jump, free one range check and one indirect jump; nothing where the program's calls
 * have been pointed past all this. With one tracker that counts: 40 instructions a
 * pair and usable_size once.
 *
 * Files: dispatch.c the rare halves; switch.c the table and the switch; track.c
 * the tracked operations; limit.c a limit; boot.c the boot range. The names that
 * programs call are in preload/: malloc.c, family.c, operators.c. edges.c there
 * brings a table of its own instead of switch.c's.
 */
#ifndef MO_DISPATCH_DISPATCH_H
#define MO_DISPATCH_DISPATCH_H

#include "core/dispatch/boot.h"

#include <memopt/plugin.h>

#define mo_likely(x) __builtin_expect(!!(x), 1)
#define mo_unlikely(x) __builtin_expect(!!(x), 0)

/* Hidden in the declaration, so that they are reached without the GOT. */
#define MO_HIDDEN __attribute__((visibility("hidden")))

extern MO_HIDDEN struct memopt_malloc mo_dispatch;
/* The backend itself, below any tracker. Valid once mo_dispatch_switch() ran. */
extern MO_HIDDEN struct memopt_malloc mo_backend;

/* One link of the chain of trackers. An operation's list has only those links
 * that implement it. */
struct mo_link {
    struct mo_link *next_alloc, *next_free, *next_refused;
    void *self;
    size_t offset; /* of its state in a thread's slot */
    const struct memopt_tracker_ops *ops;
};

/* Puts the backend behind the program's malloc, with `count` links in between.
 * `c_calls`: it has MEMOPT_ALLOCATOR_C_CALLS. Called once; single-threaded in
 * practice, safe if not. */
void mo_dispatch_switch(const struct memopt_malloc *backend, bool c_calls, struct mo_link *links,
                        size_t count);

/* Takes the trackers out again, for a forked child that has no ledger. */
void mo_dispatch_untrack(void);

/* The rare halves of the operations: failure, NULL, the boot range. */
void *mo_fail_nomem(void);
void *mo_realloc_rare(void *p, size_t size);

/* ------------------------------------------- what the public names are made of */

static inline void *mo_malloc(size_t size) {
    return mo_dispatch.malloc(size);
}

static inline void *mo_calloc(size_t count, size_t size) {
    size_t total;
    if (mo_unlikely(__builtin_mul_overflow(count, size, &total)))
        return mo_fail_nomem();
    void *p = mo_dispatch.calloc(count, size);
    if (mo_unlikely(p == NULL))
        return mo_fail_nomem();
    return p;
}

static inline void mo_free(void *p) {
    if (mo_unlikely(mo_is_reserved(p)))
        return;
    mo_dispatch.free(p);
}

static inline void *mo_realloc(void *p, size_t size) {
    if (mo_unlikely(p == NULL || size == 0 || mo_is_reserved(p)))
        return mo_realloc_rare(p, size);
    void *q = mo_dispatch.realloc(p, size);
    if (mo_unlikely(q == NULL))
        return mo_fail_nomem();
    return q;
}

/* `alignment` is a power of two. malloc aligns to 16, but in most backends only
 * what is as large as that; and an empty block must be aligned as well, which
 * jemalloc leaves open. */
static inline void *mo_aligned_alloc(size_t alignment, size_t size) {
    void *p = alignment <= 16 && size >= alignment
                  ? mo_dispatch.malloc(size)
                  : mo_dispatch.aligned_alloc(alignment < 8 ? 8 : alignment, size ? size : 1);
    if (mo_unlikely(p == NULL))
        return mo_fail_nomem();
    return p;
}

static inline size_t mo_usable_size(void *p) {
    if (mo_unlikely(p == NULL))
        return 0;
    if (mo_unlikely(mo_is_reserved(p)))
        return mo_boot_usable_size(p);
    return mo_dispatch.usable_size(p);
}

/* ----------------------------------------------------------------- trackers */

/* The calling thread's slot in the ledger, made at its first event. */
void *mo_track_self(void);
/* Starts tracking; `links` stay for the life of the process. */
void mo_track_install(struct mo_link *links, size_t count, struct memopt_malloc *table);
/* For a forked child that has no ledger: whoever still calls a tracked operation gets
 * the backend's, and nothing is counted. */
void mo_track_stop(void);

#endif
