/*
 * dispatch.h - from the program's malloc to a backend: the hot path.
 *
 *   malloc ──▶ mo_dispatch.malloc ──▶ boot          until the constructor ran
 *                                 ──▶ backend       nothing else is configured
 *                                 ──▶ tracked_* ──▶ backend, then core/account
 *                                 ──▶ counted_* ──▶ backend, then counts in place
 *
 * Invariants
 *   - mo_dispatch is always complete: a call may come at any moment, from the
 *     loader, a signal handler, another thread. It starts as the boot table and
 *     changes once, in the shim's constructor.
 *   - Blocks of the boot range are never passed to a backend.
 *   - What a backend's table gets is what plugin.h promises it: no NULL, no zero
 *     sizes in realloc, checked products. errno is set here. For malloc and free
 *     the table does both: a backend's functions that do it by themselves
 *     (MEMOPT_ALLOCATOR_C_CALLS) stand in it as they are, others are wrapped.
 *   - Untrack before freeing, track after allocating: else another thread could
 *     be given the address in between, and be counted out of order.
 *
 * Budget without trackers, over calling the backend itself: malloc one indirect jump;
 * free one compare, one branch that is not taken, one indirect jump. All that they read
 * is in one cache line. With counts: 60 instructions a pair, usable_size included.
 *
 * Files: dispatch.c the rare halves; switch.c the table and the switch; track.c
 * the tracked operations; boot.c the boot range; own.c what memopt takes of it. The names that
 * programs call are in preload/: malloc.c, family.c, frees.c, operators.c.
 */
#ifndef MO_DISPATCH_DISPATCH_H
#define MO_DISPATCH_DISPATCH_H

#include "core/dispatch/boot.h"

#include <memopt/plugin.h>

#define mo_likely(x) __builtin_expect(!!(x), 1)
#define mo_unlikely(x) __builtin_expect(!!(x), 0)

/* Hidden in the declaration, so that they are reached without the GOT. */
#define MO_HIDDEN __attribute__((visibility("hidden")))

/* What a call needs: one cache line. */
struct mo_dispatch {
    void *(*malloc)(size_t size);
    void (*free)(void *p);
    /* A block at or above this address may be one of the boot range's. */
    uintptr_t boot_from;
    /* The same for delete, or 0: it has to look more closely at each block (operators.c). */
    uintptr_t delete_from;
    void *(*calloc)(size_t count, size_t size);
    void *(*realloc)(void *p, size_t size);
    void *(*aligned_alloc)(size_t alignment, size_t size);
    size_t (*usable_size)(void *p);
};
_Static_assert(sizeof(struct mo_dispatch) == 64, "one cache line");
extern MO_HIDDEN struct mo_dispatch mo_dispatch;
/* mo_dispatch_switch() ran: the table stays as it is. */
extern MO_HIDDEN bool mo_dispatch_is_final;
/* The backend itself, below any tracker. Valid once mo_dispatch_switch() ran. */
extern MO_HIDDEN struct memopt_malloc mo_backend;

/* What is to stand behind the program's malloc. */
struct mo_dispatch_plan {
    const struct memopt_malloc *backend;
    bool c_calls; /* it has MEMOPT_ALLOCATOR_C_CALLS */
    bool tracks;  /* mo_account_start() ran: allocations are counted or told of */
    bool keeps;   /* room in the boot range is kept, for what memopt allocates itself */
    int (*figures)(struct memopt_figures *figures); /* the backend's, or NULL */
};
/* Called once; single-threaded in practice, safe if not. */
void mo_dispatch_switch(const struct mo_dispatch_plan *plan);

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

/* `p` is at or above mo_dispatch.boot_from. */
void mo_free_rare(void *p);

static inline void mo_free(void *p) {
    if (mo_unlikely((uintptr_t)p >= mo_dispatch.boot_from)) {
        mo_free_rare(p);
        return;
    }
    mo_dispatch.free(p);
}

static inline bool mo_is_boot(const void *p) {
    return mo_unlikely((uintptr_t)p >= mo_dispatch.boot_from) && mo_is_reserved(p);
}

static inline void *mo_realloc(void *p, size_t size) {
    if (mo_unlikely(p == NULL || size == 0 || mo_is_boot(p)))
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
    if (mo_is_boot(p))
        return mo_boot_usable_size(p);
    return mo_dispatch.usable_size(p);
}

/* ----------------------------------------------------------------- trackers */

extern MO_HIDDEN bool mo_tracks;
void mo_track_install(int (*figures)(struct memopt_figures *figures), struct memopt_malloc *table);
void *mo_track_realloc_null(size_t size);
/* For a forked child: the backend is asked anew. */
void mo_track_forked(void);

/* ------------------------------------------------------------ memopt's own (own.c) */

/* Between these two, what the calling thread allocates is memopt's own: it is served from the
 * boot range, where free() knows it by its address, and is not counted. They nest. */
void mo_own_begin(void);
void mo_own_end(void);
/* NULL: there is no room, and the backend serves. */
void *mo_own_alloc(size_t alignment, size_t size);
void mo_own_forked(void); /* in the child: no other thread is in here */
/* Any block of the boot range, once the switch has been. */
void mo_own_free(void *p);

#endif
