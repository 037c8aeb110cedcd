/*
 * buffers.h - inside the buffer pool (memopt/buffers.h).
 *
 *   buffers.c  rent and return: classes, caches of threads, counts, debug checks
 *   chunk.c    where buffers come from and go: chunks, descriptors, trim
 *   scope.c    scopes
 *
 * A buffer is a descriptor (struct mo_buffer) and a block of a chunk. Descriptors
 * are in slabs that live as long as the pool, so that one which the program still
 * holds can always be looked at; what they say of their block never lies in the
 * block, which may be poisoned as a whole.
 *
 *   chunk  | block | block | ...          | not yet cut |
 *   block  | data: class size |                           or, in debug,
 *          | front: 64 or a page | data: class size | tail: 64 |
 *
 * In debug a rent gives the block a descriptor that has not been used for long:
 * the old one stays RETIRED for a while, so a second return is noticed even if
 * somebody has rented the block again.
 *
 * Locks: a cache's own (member.h), then the pool's mutex; neither is held while
 * the heap or the program is called.
 */
#ifndef MO_POOL_BUFFERS_H
#define MO_POOL_BUFFERS_H

#include "core/pool/debug.h"
#include "core/pool/member.h"

#include <memopt/buffers.h>

enum {
    MO_BUFFER_LINE = 64,
    MO_BUFFER_PAGE = 4096,
    MO_BUFFER_STEPS = 8,     /* classes to a doubling */
    MO_BUFFER_SMALL = 32,    /* classes below a page */
    MO_BUFFER_CLASSES = 240, /* up to 2^40 bytes */
    MO_BUFFER_CACHED = 64,   /* classes up to 256 KiB: those that caches hold */
    MO_BUFFER_CACHE_BYTES = 1 << 20,
    MO_BUFFER_BATCH = 64 * 1024,
    MO_BUFFER_SLAB = 32,      /* descriptors */
    MO_BUFFER_RETIRED = 1024, /* descriptors that are not used again yet */
    MO_BUFFER_CHUNK_MIN = 256 * 1024,
    MO_BUFFER_CHUNK_MAX = 4 << 20,
    MO_BUFFER_OWN_CHUNK = 2 << 20, /* larger blocks have a chunk of their own */
    MO_BUFFER_HUGE = 2 << 20,
};

enum mo_buffer_state { MO_BUFFER_KEPT, MO_BUFFER_RENTED, MO_BUFFER_GONE };

struct mo_buffer_chunk {
    struct mo_buffer_chunk *next;
    char *memory, *cut, *end; /* cut: where the next block begins */
    unsigned blocks;          /* cut from it */
    unsigned kept;            /* of those, in the pool's own lists */
    size_t bytes;             /* of the blocks, without what lies around and between them */
};

struct mo_buffer {
    struct memopt_buffer shown; /* what the program has */
    _Atomic int state;
    unsigned class;
    bool fresh; /* debug: not yet filled with the pattern of returned ones */
    char *data;
    size_t asked; /* what `bytes` was at the last rent; the program could change that */
    struct mo_buffer *next;
    struct mo_buffer_chunk *chunk;
    struct memopt_buffers *pool;
    struct memopt_buffer_scope *scope;
    struct mo_buffer *scope_previous, *scope_next;
};

struct mo_buffer_slab {
    struct mo_buffer_slab *next;
    struct mo_buffer buffers[MO_BUFFER_SLAB];
};

/* Counts of one thread, or of all that have no slot of their own. `pending` is
 * not yet in the pool's `rented_bytes`. */
struct mo_buffer_counts {
    _Atomic int64_t pending;
    _Atomic uint64_t rents, returns;
};

struct mo_buffer_cache {
    struct mo_cache_lock lock;
    size_t bytes;
    struct mo_buffer_counts counts;
    struct mo_buffer *lists[MO_BUFFER_CACHED];
};

struct memopt_buffers {
    struct mo_pool_member member;
    struct memopt_heap *heap;
    struct mo_pool_debug debug;
    bool huge_pages;
    _Atomic(struct mo_buffer_cache *) caches[MO_POOL_CACHES];

    struct mo_buffer_counts shared __attribute__((aligned(64)));
    _Atomic int64_t rented_bytes;
    _Atomic uint64_t peak_bytes;

    pthread_mutex_t lock __attribute__((aligned(64)));
    struct mo_buffer *lists[MO_BUFFER_CLASSES];
    struct mo_buffer_chunk *chunks;
    struct mo_buffer_slab *slabs;
    struct mo_buffer *spare;                  /* descriptors without a block */
    struct mo_buffer *retired, *retired_last; /* likewise, oldest first */
    unsigned retired_count;
    size_t chunk_size; /* of the next one */
    uint64_t held_bytes, block_bytes, blocks, fresh, trims, trimmed_bytes;
};

static inline size_t mo_buffer_class_size(unsigned class) {
    size_t unit = class < MO_BUFFER_SMALL ? MO_BUFFER_LINE : MO_BUFFER_PAGE;
    unsigned n = class < MO_BUFFER_SMALL ? class : class - MO_BUFFER_SMALL;
    if (n < MO_BUFFER_STEPS)
        return unit * (n + 1);
    return unit * (size_t)(MO_BUFFER_STEPS + n % MO_BUFFER_STEPS + 1) << (n / MO_BUFFER_STEPS - 1);
}

/* ----------------------------------------------------------------- chunk.c */

/* A block of that class with a descriptor, state KEPT, in no list; NULL: the heap
 * has no memory. */
struct mo_buffer *mo_buffer_cut(struct memopt_buffers *pool, unsigned class);
/* debug: the descriptor to hand out for `buffer`, which is in no list: another one
 * if one is to be had. */
struct mo_buffer *mo_buffer_renew(struct memopt_buffers *pool, struct mo_buffer *buffer);
/* What all caches hold goes to the pool's own lists. */
void mo_buffer_drain(struct memopt_buffers *pool);
uint64_t mo_buffer_trim(struct memopt_buffers *pool, uint64_t keep);
/* Everything, whatever is rented. */
void mo_buffer_free_all(struct memopt_buffers *pool);
/* Is it one of the pool's descriptors? */
bool mo_buffer_is_ours(struct memopt_buffers *pool, const struct mo_buffer *buffer);

/* --------------------------------------------------------------- buffers.c */

/* debug: reports a kept buffer that was written to. */
void mo_buffer_check_kept(struct memopt_buffers *pool, struct mo_buffer *buffer);

/* ----------------------------------------------------------------- scope.c */

void mo_buffer_leave_scope(struct mo_buffer *buffer);

#endif
