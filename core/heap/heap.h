/*
 * heap.h - inside libmemopt: what a named heap is made of.
 *
 *   heap.c     the public operations: blocks, limit, purge, statistics
 *   count.c    the counters: a slot a thread, flushed to `central` in batches
 *   list.c     heaps over a backend that has none: every block in a list
 *   checked.c  any of them under a memory checker: red zones, poisoned when freed
 *   steps.c    what follows when a step is taken: counted, told, reported; consumers
 *   open.c     the list of heaps: plan, open, find, walk, destroy; fork, exit
 *   spill.c    blocks in mappings of a file
 *
 * A heap has one of three kinds of raw operations (struct mo_heap_ops): those of
 * the backend's own heaps, a list over the backend's malloc, or the backend's
 * malloc as it is (the default heap, which is never destroyed). Under a memory
 * checker those of checked.c stand before them.
 *
 * Memory: a heap is one private mapping, gone after destroy: use after destroy faults. The
 * order of locks is in core/runtime/fork.h.
 */
#ifndef MO_HEAP_HEAP_H
#define MO_HEAP_HEAP_H

#include "core/runtime/backend.h"
#include "core/runtime/runtime.h"

#include <memopt/memopt.h>
#include <memopt/pressure.h>

#include <pthread.h>
#include <stdatomic.h>

enum {
    MO_HEAP_OWN_SLOTS = 128,   /* one thread each: plain adds */
    MO_HEAP_SHARED_SLOTS = 16, /* for all further threads: atomic adds */
    MO_HEAP_SLOTS = MO_HEAP_OWN_SLOTS + MO_HEAP_SHARED_SLOTS,
    MO_HEAP_BATCH_BYTES = 64 * 1024, /* the error bound of peak_bytes, a slot */
    MO_HEAP_BATCH_EVENTS = 256,
    MO_HEAP_SHARDS = 16,
    MO_HEAP_STEPS = 8,   /* a list has no word twice, and there are fewer words */
    MO_HEAP_HEADER = 32, /* before each block of a list heap */
    MO_HEAP_EVENTS = 6,  /* one more than enum memopt_pressure_step has */
};

/* What is not yet in `central`. */
struct mo_heap_slot {
    _Atomic int64_t bytes; /* 0 in a heap with a limit: it counts in central at once */
    _Atomic uint64_t allocations, frees;
    _Atomic uint32_t touched;
} __attribute__((aligned(64)));

/* The header of a block in a list heap; the block follows. */
struct mo_heap_link {
    struct mo_heap_link *previous, *next;
    uintptr_t cookie; /* proves that the block is this heap's and lives */
    uint32_t offset;  /* from what the backend gave to the block */
    uint32_t shard;
};
_Static_assert(sizeof(struct mo_heap_link) == MO_HEAP_HEADER, "keeps 16-byte alignment");

struct mo_heap_shard {
    pthread_mutex_t lock;
    struct mo_heap_link head; /* circular */
} __attribute__((aligned(64)));

/* Before each block under a memory checker. */
struct mo_heap_checked {
    struct mo_heap_checked *previous, *next;
    uintptr_t cookie; /* as in struct mo_heap_link; 0: freed */
    size_t offset;    /* from what the raw operations gave to the block */
    size_t size;
};

/* The contracts of struct memopt_malloc, with a heap. */
#define MO_HEAP_NOT_OURS SIZE_MAX
struct mo_heap_ops {
    void *(*malloc)(struct memopt_heap *heap, size_t size);
    void *(*calloc)(struct memopt_heap *heap, size_t size);
    void *(*realloc)(struct memopt_heap *heap, void *p, size_t size);
    void *(*aligned_alloc)(struct memopt_heap *heap, size_t alignment, size_t size);
    void (*free)(struct memopt_heap *heap, void *p);
    /* MO_HEAP_NOT_OURS: the heap can tell that p is none of its blocks */
    size_t (*usable_size)(struct memopt_heap *heap, void *p);
    void (*destroy)(struct memopt_heap *heap);
};
extern const struct mo_heap_ops mo_heap_native_ops, mo_heap_list_ops, mo_heap_plain_ops;

/* What a heap does otherwise than the simplest; 0: nothing. Only the slow paths
 * look at more than whether it is 0. */
enum mo_heap_mode {
    MO_HEAP_LIMITED = 1,  /* live and peak are kept in central at every call */
    MO_HEAP_SPILLS = 2,   /* it can spill, see spill.h; always with LIMITED */
    MO_HEAP_SPILLING = 4, /* new large blocks are spilled at once */
    MO_HEAP_FROZEN = 8,   /* it may not grow; only with LIMITED */
    MO_HEAP_PROGRAMS = 16, /* the default heap where the shim counts and limits the program's
                            * malloc: it is not done twice */
};

struct mo_purger {
    memopt_purge_fn purge;
    void *context;
};

struct memopt_heap {
    const struct mo_heap_ops *ops;
    struct memopt_malloc malloc;    /* list and plain: the backend's */
    void *native;                   /* native: the backend's heap */
    _Atomic int mode;               /* enum mo_heap_mode, or-ed */
    int peak_estimated;             /* it was without a limit once: the peak has an error */
    struct mo_ledger_heap *central; /* in the process's ledger, or `own` */
    /* Where somebody counts or tracks allocations: who is told of this heap's blocks. NULL:
     * nobody, or (the default heap) the shim is, as they are malloc's. */
    const struct mo_program_services *account;
    uint32_t number; /* the heap's, as events have it */
    struct mo_backend *backend;
    char name[MEMOPT_HEAP_NAME_MAX];
    const char *allocator;
    int is_default;
    int steps[MO_HEAP_STEPS]; /* enum memopt_pressure_step */
    size_t step_count;
    void *mapped_region; /* of the library's making, or NULL */
    size_t mapped_size;
    struct memopt_heap *next;

    /* Under a memory checker: what `ops` was, the blocks handed out and those freed
     * and held back, oldest first. */
    const struct mo_heap_ops *raw;
    pthread_mutex_t checked_lock;
    struct mo_heap_checked live, held;
    size_t held_bytes;

    pthread_mutex_t hook_lock; /* callback and purgers */
    memopt_limit_fn callback;
    void *callback_context;
    struct mo_purger purgers[MEMOPT_HEAP_PURGERS];
    size_t purger_count;

    _Atomic uint64_t charged; /* of the live bytes, those in no block */
    _Atomic uint64_t failed, invalid_frees, purges, purged_bytes;
    _Atomic uint64_t events[MO_HEAP_EVENTS]; /* by step */
    int watch_stages; /* the pressure ladder's, see core/pressure/monitor.c */
    int watch_level;
    struct mo_spill *spill; /* or NULL */
    struct mo_ledger_heap own;
    struct mo_heap_shard shards[MO_HEAP_SHARDS];
    struct mo_heap_slot slots[MO_HEAP_SLOTS];
};

/* ------------------------------------------------------------------ heap.c */

/* The calling thread is inside a function of the program's that was called for
 * want of memory: its requests get no steps. */
extern _Thread_local int mo_heap_in_hook __attribute__((tls_model("initial-exec")));

/* The purgers and, `with_backend`, the backend. */
uint64_t mo_heap_purge(struct memopt_heap *heap, int with_backend);
/* Purging the heap's backend purges it for all its heaps. */
int mo_heap_shares_backend(const struct memopt_heap *heap);

/* ----------------------------------------------------------------- count.c */

/* Adds to the calling thread's slot. */
void mo_count(struct memopt_heap *heap, int64_t bytes, unsigned allocations, unsigned frees);
/* Adds to live if that stays within the limit; 0: it would not. */
int mo_count_reserve(struct memopt_heap *heap, uint64_t bytes);
void mo_count_release(struct memopt_heap *heap, uint64_t bytes);
/* Live is what it is: let the peak see it. */
void mo_count_peak(struct memopt_heap *heap);
/* Every slot into central. Exact only if no other thread is in the heap. */
void mo_count_flush_all(struct memopt_heap *heap);
/* Fills live_*, peak_*, allocations and frees. */
void mo_count_read(struct memopt_heap *heap, struct memopt_heap_statistics *stats);
/* A number for the calling thread, for choosing a shard. */
unsigned mo_count_thread(void);
int mo_count_start(void);       /* once, before the first heap; 0 or -errno */
void mo_count_fork_child(void); /* all other threads are gone */

/* ------------------------------------------------------------------ heap.c */

/* Counts bytes as live that somebody has from elsewhere in the heap's name: subject
 * to its limit and steps, in no block. 0 or -ENOMEM. */
int mo_heap_charge(struct memopt_heap *heap, size_t bytes);
void mo_heap_uncharge(struct memopt_heap *heap, size_t bytes);

/* ----------------------------------------------------------------- steps.c */

/* Over the callback and the consumers; short. */
extern pthread_mutex_t mo_steps_lock;

/* A step was taken: to the statistics, the callback and the report. The time is
 * filled in. */
void mo_step_say(struct memopt_pressure_event *event);
/* The consumers that `event` concerns (without a heap: all); returns what they say
 * they freed. */
uint64_t mo_step_consult(struct memopt_pressure_event *event);
/* The heap goes. */
void mo_step_forget(const struct memopt_heap *heap);
/* Fills the counts of steps. */
void mo_step_counts(struct memopt_pressure_statistics *stats);

/* --------------------------------------------------------------- checked.c */

/* Puts the checked operations before the heap's if a checker is there. */
void mo_heap_check(struct memopt_heap *heap);

/* ------------------------------------------------------------------ open.c */

/* The heaps, in the order they were opened; under the runtime's mutex, as all that follows. */
extern struct memopt_heap *mo_heaps;
/* memopt_heap_open(), _find() and _each(), after mo_runtime_start(); `error` not NULL. */
int mo_heap_open(const char *name, const struct memopt_heap_options *options,
                 struct memopt_heap **ret_heap, struct memopt_error *error);
struct memopt_heap *mo_heap_find(const char *name);
int mo_heap_walk(memopt_heap_visit_fn visit, void *context);
/* For what keeps books of a heap's blocks: called before they go with the heap. It stays for
 * ever; a second time is nothing. */
struct mo_heap_end {
    void (*ends)(const struct memopt_heap *heap);
    struct mo_heap_end *next;
    int there;
};
void mo_heap_at_end(struct mo_heap_end *end);

#endif
