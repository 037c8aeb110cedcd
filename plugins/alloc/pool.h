/*
 * pool.h - the structure of the `pool` allocator, shared by the files of
 * libmemopt-pool.so. The library stands by itself: it exports malloc and can be
 * preloaded without memopt.
 *
 *   pool_library.c  settings, start, messages; what the plugin (pool.c) drives it by
 *   pool_malloc.c   the names that programs call, with glibc's semantics
 *   pool_alloc.c    the operations: fast paths first, then what they fall back on
 *   pool_page.c     pages: carving, lists, blocks that other threads freed
 *   pool_segment.c  segments: slices, mapping, purging
 *   pool_huge.c     blocks with a mapping of their own
 *   pool_heap.c     heaps, shards, threads, figures, fork
 *
 * Vocabulary
 *   block     what a caller gets; always the start of its slot, so no pointer
 *             ever has to be rounded down to its block
 *   bin       a size class: eight to a doubling, multiples of 16 bytes, so that
 *             less than 12.5 % of a block of 128 bytes or more is waste
 *   slice     64 KiB, the unit a segment is divided in
 *   page      one or more slices in a row that hold blocks of one bin: 1 slice
 *             up to 8 KiB, 8 up to 64 KiB, above that one block a page
 *   segment   4 MiB, aligned to 4 MiB: slice 0 has the struct, slices 1-63
 *             become pages. Masking a block's address finds it
 *   shard     one heap's part that one thread works with: bins and segments.
 *             A segment belongs to its shard from mmap to munmap
 *   orphan    a shard whose thread has ended; the next thread to need one of
 *             that heap takes it over whole, so segments never change hands
 *   lost      a shard whose thread a fork did not bring along
 *   heap      all shards and huge blocks that live and die together
 *   huge      above 1 MiB, or aligned to more than 64 KiB
 *
 * Who may write what
 *   The thread that owns a shard alone uses its bins and the first cache line
 *   of its pages, without atomic read-modify-writes. Another thread that frees
 *   a block pushes it to page->foreign, which the owner takes over when its own
 *   list is empty. shard->lock covers the slices of the shard's segments, so
 *   that anybody may purge and count them; mo_pool_lock covers the lists of heaps
 *   and shards, and mo_pool_huge_lock huge blocks. They are taken in that order
 *   (pool, shard, huge), none on the way of malloc or free that finds what it
 *   needs.
 *
 * Invariants
 *   page->used = blocks handed out, not counting those on page->free, but still
 *                counting those on page->foreign
 *   a page's state and where it is:
 *     HEAD    first of its bin: malloc takes from it; never released when empty
 *     LISTED  further down in the bin; released when its last block is freed
 *     FULL    in no list; back to LISTED when 1/16 of its blocks are free
 *     ZOMBIE  empty, but still on shard->notified: released when taken off it
 *   page->trigger is the value of `used` that free has to act upon: none for a
 *   HEAD, 0 for LISTED, capacity - capacity/16 for FULL; one comparison on the
 *   fast path covers all of it.
 *   shard->direct[i] is the HEAD of the bin for i*16 bytes or the empty page.
 *   page->foreign packs how many blocks were pushed, the offset of the first,
 *   ARMED (tell the owner when notify_at are there) and PENDING (somebody has
 *   told it: the page is on shard->notified or about to be, and must stay).
 *   A free block's second word marks it as free: it has the shard's address.
 *   malloc insists on the mark, so that no block is handed out twice. free looks
 *   at it where it has the block at hand anyway (another thread's block) or was
 *   asked to (check_free); a block that bears the mark is looked for in the free
 *   lists before anything is said, as a program may copy stale bytes around.
 *   free insists on the start of a block (pool_is_start()), so that no two overlap.
 *
 * Out of memory
 *   What can't be mapped is tried again after all threads' free slices have gone back
 *   to the system; then a shard borrows a page in another one's segment. It is handed
 *   out whole, so it is FULL and its owner needs to know nothing of it.
 *
 * Signals: as with glibc, a handler must not allocate if it can interrupt an
 * allocation of the same thread.
 */
#ifndef MO_ALLOC_POOL_H
#define MO_ALLOC_POOL_H

#include "plugins/alloc/pool_library.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POOL_LIKELY(x) __builtin_expect(!!(x), 1)
#define POOL_UNLIKELY(x) __builtin_expect(!!(x), 0)

enum {
    POOL_SLICE_SHIFT = 16,
    POOL_SEGMENT_SHIFT = 22,
    POOL_SLICES = 1 << (POOL_SEGMENT_SHIFT - POOL_SLICE_SHIFT),
    POOL_BINS = 113,        /* 1..112; the last is 1 MiB */
    POOL_DIRECT_MAX = 1024, /* bytes that shard->direct covers */
    POOL_SMALL_MAX = 8 << 10,
    POOL_MEDIUM_MAX = 64 << 10,
    POOL_MEDIUM_SLICES = 8,
    POOL_LARGE_MAX = 1 << 20,
    POOL_SYSTEM_PAGE = 4096,
};
#define POOL_SLICE_SIZE ((size_t)1 << POOL_SLICE_SHIFT)
#define POOL_SEGMENT_SIZE ((size_t)1 << POOL_SEGMENT_SHIFT)
#define POOL_ALL_SLICES (~(uint64_t)1) /* slice 0 is the header */
#define POOL_NO_TRIGGER UINT32_MAX

enum pool_state { POOL_FREE, POOL_HEAD, POOL_LISTED, POOL_FULL, POOL_ZOMBIE };

struct pool_block {
    struct pool_block *next;
    const struct pool_shard *mark; /* the shard while free, NULL when handed out */
};

struct pool_page {
    /* the owner's */
    struct pool_block *free;
    _Atomic uint32_t used; /* atomic only for figures() */
    uint32_t trigger;
    uint32_t block_size;
    uint32_t capacity;       /* blocks that fit */
    _Atomic uint32_t carved; /* of them, how many have been on the free list */
    uint8_t bin;
    uint8_t state;  /* enum pool_state */
    uint8_t slices; /* how many from this one on */
    uint8_t zero;   /* what is not carved yet has never been written */
    struct pool_page *next, *previous;
    uint64_t inverse, offset; /* see pool_is_start() */
    /* everybody's */
    alignas(64) _Atomic uint64_t foreign;
    _Atomic uint32_t notify_at;
    struct pool_page *notified_next;
    uint64_t foreign_inverse, foreign_offset; /* so that others need not read the owner's line */
};

/* page->foreign: offset of the first block / 16 + 1 in the low half */
#define POOL_FOREIGN_OFFSET ((uint64_t)0xffffffff)
#define POOL_FOREIGN_ONE ((uint64_t)1 << 32) /* one block in the count */
#define POOL_FOREIGN_COUNT(word) ((uint32_t)((word) >> 32) & 0xffff)
#define POOL_FOREIGN_ARMED ((uint64_t)1 << 48)
#define POOL_FOREIGN_PENDING ((uint64_t)1 << 49)
#define POOL_FOREIGN_SUSPECT                                                                       \
    ((uint64_t)1 << 50) /* a block bore the mark: look for a double free                           \
                         */

struct pool_segment {
    struct pool_shard *shard;
    uint8_t first[POOL_SLICES]; /* slice -> first slice of its page; 0: free */
    /* under shard->lock, a bit a slice */
    uint64_t free;
    uint64_t dirty;    /* of the free ones, those that may take up RAM */
    uint64_t aged;     /* of the dirty ones, those that were so at the last purge */
    uint64_t zero;     /* of the free ones, those known to read as zeros */
    uint64_t heads;    /* first slices of pages */
    uint64_t purge_at; /* when `dirty` goes back to the system; 0: nothing is dirty */
    struct pool_segment *next, *previous;
    struct pool_segment *chain;          /* the owner's, while it collects */
    struct pool_page pages[POOL_SLICES]; /* [0] stands for all free slices */
};

struct pool_bin {
    struct pool_page *first, *last;
};

/* Blocks of a page in another shard's segment that were never used. The page has been
 * handed out whole; each of its blocks goes back the way of foreign frees. */
struct pool_loan {
    char *at;
    uint32_t left;
    bool zero;
};

struct pool_shard {
    struct pool_page *direct[POOL_DIRECT_MAX / 16 + 1];
    struct pool_bin bins[POOL_BINS];
    struct pool_loan loans[POOL_BINS];
    struct pool_thread *thread; /* NULL: orphan; under mo_pool_lock but for its own thread */
    struct pool_heap *heap;
    _Atomic bool orphan;  /* is on heap->orphans */
    _Atomic bool collect; /* somebody asks the owner to give back what it can */
    _Atomic(struct pool_page *) notified;
    /* under lock; segments with free slices come first */
    pthread_mutex_t lock;
    struct pool_segment *segments, *last_segment;
    _Atomic uint64_t purge_at; /* the earliest of the segments'; 0: none */
    /* under mo_pool_lock */
    struct pool_shard *next, *previous; /* of the heap, or free for reuse */
    struct pool_shard *next_orphan;
};

struct pool_heap {
    uint64_t serial; /* never used twice */
    uint32_t id;     /* index in mo_pool_heaps and in the threads' tables */
    struct pool_shard *shards;
    struct pool_shard *orphans;
    struct pool_huge *huge; /* under mo_pool_huge_lock */
    struct pool_heap *next_free;
};

/* What a thread has of each heap. An entry whose serial is not the heap's is of
 * a heap that is gone. */
struct pool_entry {
    uint64_t serial;
    struct pool_shard *shard;
};
struct pool_thread {
    struct pool_entry *table;
    uint32_t count;
    struct pool_thread *next_free;
};

#pragma GCC visibility push(hidden) /* so that they are reached without the GOT */

extern struct pool_settings mo_pool_settings;
extern pthread_mutex_t mo_pool_lock, mo_pool_huge_lock;
extern struct pool_heap mo_pool_default;

/* The calling thread's shard of the default heap; a constant without any page
 * before its first allocation and after its end, so that nobody tests for NULL. */
extern __thread struct pool_shard *mo_pool_self;
extern struct pool_shard mo_pool_no_shard;
extern struct pool_page mo_pool_no_page;

/* One bit for each 4 MiB of address space: is it a segment? */
#if defined __x86_64__
enum { POOL_ADDRESS_BITS = 47 };
#elif UINTPTR_MAX == UINT64_MAX
enum { POOL_ADDRESS_BITS = 48 };
#else
enum { POOL_ADDRESS_BITS = 32 };
#endif
#define POOL_MAP_SIZE ((size_t)1 << (POOL_ADDRESS_BITS - POOL_SEGMENT_SHIFT - 6))
extern _Atomic uint64_t mo_pool_map[POOL_MAP_SIZE];

static inline bool pool_in_segment(const void *p) {
    uintptr_t index = (uintptr_t)p >> (POOL_SEGMENT_SHIFT + 6);
    return POOL_LIKELY(index < POOL_MAP_SIZE) &&
           (atomic_load_explicit(&mo_pool_map[index], memory_order_relaxed) >>
            (((uintptr_t)p >> POOL_SEGMENT_SHIFT) & 63)) &
               1;
}
static inline struct pool_segment *pool_segment_of(const void *p) {
    return (struct pool_segment *)((uintptr_t)p & ~(uintptr_t)(POOL_SEGMENT_SIZE - 1));
}
static inline struct pool_page *pool_page_of(struct pool_segment *segment, const void *p) {
    size_t slice = ((uintptr_t)p >> POOL_SLICE_SHIFT) & (POOL_SLICES - 1);
    struct pool_page *page = &segment->pages[segment->first[slice]];
    __asm__("" : "+r"(page)); /* else gcc 12 computes it once more for each field */
    return page;
}
static inline size_t pool_page_index(const struct pool_page *page) {
    return (size_t)(page - pool_segment_of(page)->pages);
}
static inline char *pool_page_start(const struct pool_page *page) {
    return (char *)pool_segment_of(page) + (pool_page_index(page) << POOL_SLICE_SHIFT);
}

/* Whether a pointer into the page is to the start of a block, that is, a multiple of the
 * block's size from the page's start. inverse is 2^64 / size, rounded up: the multiples times
 * it are, modulo 2^64, less than it, and nothing else in the page is. offset is minus the
 * start times inverse. Where inverse is 0 nothing is: pages[0], and all pages if check_free
 * is set, so that the exact look is taken. */
static inline bool pool_is_start(const void *p, uint64_t inverse, uint64_t offset) {
    return (uintptr_t)p * inverse + offset < inverse;
}

/* Sizes up to POOL_LARGE_MAX; 0 counts as 1. */
static inline unsigned pool_bin_of(size_t size) {
    size_t units = (size + 15) >> 4, above = units - 1;
    if (units <= 16)
        return (unsigned)(units + (units == 0));
    unsigned shift = 60 - (unsigned)__builtin_clzll(above);
    return shift * 8 + (unsigned)(above >> shift) + 1;
}
static inline size_t pool_bin_size(unsigned bin) {
    unsigned k = bin - 1;
    return k < 16 ? (size_t)bin << 4 : (size_t)((k & 7) + 9) << ((k >> 3) - 1 + 4);
}

static inline uint32_t pool_used(struct pool_page *page) {
    return atomic_load_explicit(&page->used, memory_order_relaxed);
}
static inline void pool_set_used(struct pool_page *page, uint32_t used) {
    atomic_store_explicit(&page->used, used, memory_order_relaxed);
}
/* Atomic only to keep the compiler from joining it with the store of `next` in a
 * vector register, which is slower than two stores. */
static inline void pool_set_mark(struct pool_block *block, struct pool_shard *mark) {
    __atomic_store_n(&block->mark, mark, __ATOMIC_RELAXED);
}
/* How many blocks must be free before a full page is looked at again: enough
 * that it is worth it, so that a page does not come and go with each block. */
static inline uint32_t pool_enough(const struct pool_page *page) {
    return page->capacity >= 32 ? page->capacity / 16 : 1;
}
static inline uint32_t pool_carved(struct pool_page *page) {
    return atomic_load_explicit(&page->carved, memory_order_relaxed);
}

/* pool_page.c; all but free_foreign for the shard's owner. */
/* A block of the bin, or NULL: out of memory. *ret_zero: it reads as zeros. */
void *mo_pool_bin_alloc(struct pool_shard *shard, unsigned bin, bool *ret_zero);
/* `used` has come to `trigger`. */
void mo_pool_page_event(struct pool_page *page);
/* Aborts unless it is the start of a block that was handed out once. */
void mo_pool_check_start(const char *function, struct pool_page *page, const void *p);
/* Aborts if the block is on a free list of its page. */
void mo_pool_check_double_free(struct pool_page *page, struct pool_block *block);
void mo_pool_free_foreign(struct pool_segment *segment, struct pool_page *page,
                          struct pool_block *block);
void mo_pool_take_notified(struct pool_shard *shard, bool armed);
/* Takes in what others freed and releases empty pages but HEADs; armed: the pages
 * that stay tell when they are empty, as nobody will be looking. */
void mo_pool_collect(struct pool_shard *shard, bool armed);
/* Releases the empty HEADs of this bin and all above. */
void mo_pool_release_heads(struct pool_shard *shard, unsigned from);

/* pool_segment.c */
struct pool_page *mo_pool_page_map(struct pool_shard *shard, unsigned bin);
/* Likewise, in the segments that there are, which may be another thread's: all blocks of the
 * page count as handed out. *ret_zero: they read as zeros. */
struct pool_page *mo_pool_page_lend(struct pool_shard *shard, unsigned bin, bool *ret_zero);
void mo_pool_page_unmap(struct pool_page *page);
/* Gives dirty slices whose time has come back to the system, and unmaps empty
 * segments; `all`: whatever the time. Returns the bytes. Any thread. */
uint64_t mo_pool_purge_shard(struct pool_shard *shard, bool all, bool keep_one);
uint64_t mo_pool_dirty(struct pool_shard *shard); /* bytes */
void mo_pool_unmap_segments(struct pool_shard *shard);
uint64_t mo_pool_now(void); /* nanoseconds, coarse, never 0 */
/* `size` bytes whose start is aligned, with `before` bytes in front; NULL. */
void *mo_pool_map_aligned(size_t size, size_t alignment, size_t before);
/* Adds what of these bytes is in RAM, unless that is not wanted (MEMOPT_UNKNOWN): it takes a
 * system call. */
void mo_pool_add_resident(struct memopt_figures *figures, const void *start, size_t size);
/* munmap() and madvise() that keep errno, as free() must. */
void mo_pool_unmap(void *start, size_t size);
int mo_pool_advise(void *start, size_t size, int advice);
/* Zeroed memory for the library's own records, never given back; NULL. Any thread. */
void *mo_pool_record(size_t size);

/* pool_huge.c */
struct pool_huge;
/* *zero: in, are zeros wanted; out, does it have them. */
void *mo_pool_huge_alloc(struct pool_heap *heap, size_t alignment, size_t size, bool *zero);
void *mo_pool_huge_realloc(void *p, size_t size); /* NULL: can't, nothing changed */
void mo_pool_huge_free(void *p, const char *function);
size_t mo_pool_huge_usable(void *p, const char *function);
void mo_pool_huge_destroy(struct pool_heap *heap);
void mo_pool_huge_figures(struct pool_heap *heap, struct memopt_figures *figures);
uint64_t mo_pool_huge_purge(bool all);

/* pool_heap.c */
/* The calling thread's shard of a heap; NULL: out of memory. */
struct pool_shard *mo_pool_shard_of(struct pool_heap *heap);
/* A notified orphan has nobody to look after it: do it now. */
void mo_pool_tend_orphan(struct pool_shard *shard);
/* No more can be mapped: gives back to the system what all threads keep for later. */
void mo_pool_make_room(void);
/* And if that is not enough: blocks of a page of another shard of the heap; false: none has
 * room. */
bool mo_pool_borrow(struct pool_shard *shard, unsigned bin);
/* check_free has been set: for pages that are there already. */
void mo_pool_check_all(void);
/* When orphans have something to give back; 0: never. */
extern _Atomic uint64_t mo_pool_orphans_due;
void mo_pool_purge_orphans(void);
/* Makes the key by which the end of a thread is noticed, if there is none yet: 0, or a
 * negative errno. */
int mo_pool_thread_key(void);
int mo_pool_fork_handlers(void); /* 0, or an errno */
int mo_pool_heap_create(void **ret_heap);
void mo_pool_heap_destroy(void *heap);
int mo_pool_heap_figures(void *heap, struct memopt_figures *figures);
int mo_pool_quick_figures(struct memopt_figures *figures); /* of the default heap */
uint64_t mo_pool_heap_purge(void *heap);

/* pool_alloc.c: of the default heap, by the contract of struct memopt_malloc; all set
 * errno when they fail, and free takes NULL. */
void *mo_pool_malloc(size_t size);
void *mo_pool_calloc(size_t count, size_t size);
void *mo_pool_realloc(void *p, size_t size);
void mo_pool_free(void *p);
void *mo_pool_aligned_alloc(size_t alignment, size_t size);
size_t mo_pool_usable_size(void *p);
void *mo_pool_heap_malloc(void *heap, size_t size);
void *mo_pool_heap_calloc(void *heap, size_t count, size_t size);
void *mo_pool_heap_realloc(void *heap, void *p, size_t size);
void *mo_pool_heap_aligned_alloc(void *heap, size_t alignment, size_t size);
void mo_pool_heap_free(void *heap, void *p);
size_t mo_pool_heap_usable_size(void *heap, void *p);

#define POOL_BAD_MARK "the next free block was freed twice or written to"
/* pool_library.c: one line on stderr, then abort(). */
_Noreturn void mo_pool_die(const char *function, const void *p, const char *problem);

#pragma GCC visibility pop

/* Exports a function of this file by another name. */
#if __has_attribute(copy) /* gcc wants the function's attributes repeated */
#define POOL_NAMED(FUNCTION)                                                                       \
    __attribute__((alias(#FUNCTION), visibility("default"), copy(FUNCTION)))
#else
#define POOL_NAMED(FUNCTION) __attribute__((alias(#FUNCTION), visibility("default")))
#endif

#endif
