/*
 * account.h - the one place where allocations of a process are counted and told of: those of
 * the program's malloc, which core/dispatch brings here, and those of named heaps, which
 * libmemopt does (core/dispatch/services.h).
 *
 *   tally.h   what a thread counts
 *   count.c   counting, beyond what is inline here; what a thread and a fork leave
 *   events.c  slots, trackers
 *   limit.c   the limit of the program's malloc
 *   read.c    the counts in a record become those of the report (memopt and libmemopt)
 *
 * An event is done once, whatever the number of trackers: usable sizes are asked for if anybody
 * wants them, counts are kept if anybody does, then each tracker is called that hears of it.
 *
 * A thread's state is initial-exec TLS: its slot in the ledger, what is counted there,
 * and whether it is in a call of the backend.
 * A thread that ends marks the slot from a pthread key's destructor and keeps
 * using it: destructors that run later, and the C library's own clean-up, still
 * free memory.
 */
#ifndef MO_ACCOUNT_ACCOUNT_H
#define MO_ACCOUNT_ACCOUNT_H

#include "core/account/tally.h"
#include "core/ledger/ledger.h"

#include <memopt/plugin.h>

#include <stdbool.h>

#define MO_ACCOUNT_HIDDEN __attribute__((visibility("hidden")))

/* A thread's. */
enum {
    MO_IN_BACKEND = 1, /* it is in a call of the backend: else it holds none of its locks */
    MO_IN_MEMOPT = 2,  /* what it allocates is memopt's own; counted by twos */
};
struct mo_account_thread {
    char *slot;              /* NULL: it has had no event */
    struct mo_tally *tally;  /* in the slot, if somebody wants counts */
    uint32_t inside;         /* MO_IN_… */
    uint32_t turn;           /* see ask_sometimes() in core/dispatch/track.c */
};
extern MO_ACCOUNT_HIDDEN __thread struct mo_account_thread mo_own
    __attribute__((tls_model("initial-exec")));

/* One link of the chain of trackers. */
struct mo_link {
    const char *name;
    const struct memopt_tracker_ops *ops;
    void *self;
    size_t offset; /* of its state in a thread's slot */
};

/* Constant once mo_account_start() ran. */
struct mo_account {
    bool counts;       /* somebody wants counts */
    bool wants_usable; /* or usable sizes; counts do */
    bool tells;        /* a tracker has alloc or free */
    size_t counts_at;  /* where they are in a slot */
};
extern MO_ACCOUNT_HIDDEN struct mo_account mo_account;

static inline struct mo_tally *mo_tally_in(char *slot) {
    return (struct mo_tally *)(void *)(slot + mo_account.counts_at);
}

/* The ledger's part of it: what its slots hold, in the order of the links, the core's first. */
struct mo_slot_state;
size_t mo_account_states(const struct mo_link *links, size_t count, struct mo_slot_state *states);
/* The ledger is there. The links stay for the life of the process. A tracker that can't start
 * is not among them. */
void mo_account_start(struct mo_link *links, size_t count, const struct mo_slot_state *states);
void mo_account_fold(void *ended, void *slot);
/* Nothing is counted or told from now on, also where somebody has kept the address of what
 * counts. For a forked child that has no ledger. */
void mo_account_stop(void);

/* The calling thread's slot, which it gets with its first event; counts go nowhere if there is
 * none. */
char *mo_account_attach(void);

/* What happened, as struct memopt_event_info has it: `usable` only if mo_account.wants_usable. */
void mo_account_alloc(uint32_t heap, void *p, size_t asked, size_t usable, int event);
void mo_account_free(uint32_t heap, void *p, size_t usable, int event);
/* A heap goes with all its blocks, at least one. */
void mo_account_destroy(uint32_t heap, uint64_t blocks, uint64_t bytes);
void mo_account_refused(uint32_t heap, size_t asked, int event);

/* The tally is above its ceiling or below its floor. */
void mo_count_bounds(struct mo_tally *tally);
void mo_count_alloc(struct mo_tally *tally, size_t asked, size_t usable, int event);
void mo_count_free(struct mo_tally *tally, size_t usable);
void mo_count_fold(struct mo_tally *ended, struct mo_tally *tally);

/* fork: what is live is taken before it. In the child, which has a ledger of its own or none,
 * the thread gets a slot with its first event, and the trackers hear of it. */
void mo_account_before_fork(void);
void mo_account_in_child(void);
void mo_count_in_child(void);

#endif
