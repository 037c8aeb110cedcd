/*
 * tlsf.h - two-level segregated fit: an allocator over memory of the caller's.
 *
 *     struct mo_tlsf *tlsf = ...;                  mo_tlsf_size(most) bytes
 *     mo_tlsf_init(tlsf, most, memory, size, secret);
 *     mo_tlsf_alloc(tlsf, 1000, 64, 0, &p);        0, or MO_TLSF_FULL, or damage
 *     mo_tlsf_free(tlsf, p);                       0, or damage
 *     mo_tlsf_grow(tlsf, end);                     the memory is longer now
 *
 * Free blocks are in lists by size class, sixteen to a doubling, and two levels of bit
 * maps lead to one that fits; a freed block is joined with its free neighbours. (Masmano,
 * Ripoll, Crespo and Real, "TLSF: a new dynamic memory allocator for real-time systems",
 * ECRTS 2004.) Both take the same time whatever there is, except that the last class is
 * looked through before a request fails. A block costs 16 bytes (lib/head.h) and is a
 * multiple of 16 bytes, at least 16, in which its links are while it is free.
 *
 * The memory is one range of addresses. It can grow at its end, up to the `most` that
 * there is room for in the lists, and does not shrink.
 *
 * Damage (enum mo_damage) is noticed where a call comes across it: in the block's head, in
 * its neighbours' heads and links. Such a call changes nothing, and row.wrong says where.
 *
 * Memory checkers: a caller that poisons free payloads leaves their first 16 bytes alone
 * and sets `open` and `close`, which are called before `size` bytes at p inside free
 * memory begin to be used for a head and links, and when they are no longer.
 *
 * lib/ rules: only the compiler and memset(). Threads: one at a time; the caller has a
 * lock where it needs one. A signal handler that may have interrupted a call must not.
 */
#ifndef MO_LIB_TLSF_H
#define MO_LIB_TLSF_H

#include "lib/head.h"

enum { MO_TLSF_FULL = -1 };
/* Units below 16 have a class each; above, each doubling is a row of 16 classes. */
enum {
    MO_TLSF_STEP_BITS = 4,
    MO_TLSF_STEPS = 1 << MO_TLSF_STEP_BITS,
    MO_TLSF_ROWS = MO_UNITS_BITS - MO_TLSF_STEP_BITS + 1,
};

struct mo_tlsf {
    struct mo_row row;
    void (*open)(void *context, void *p, size_t size); /* NULL: nobody needs to know */
    void (*close)(void *context, void *p, size_t size);
    void *context;
    size_t most;
    uint64_t free_blocks, free_units; /* of payloads */
    unsigned rows;
    uint64_t row_map;
    uint16_t step_maps[MO_TLSF_ROWS];
    struct mo_head *lists[][MO_TLSF_STEPS]; /* `rows` */
};

/* What a struct mo_tlsf takes for `most` bytes of memory, up to 16 TiB. */
size_t mo_tlsf_size(size_t most);
/* 0, or MO_TLSF_FULL: the memory is too small (below 64 bytes) or larger than `most`. */
int mo_tlsf_init(struct mo_tlsf *tlsf, size_t most, void *memory, size_t size, uint64_t secret);
/* The memory goes on up to `end`. 0; MO_TLSF_FULL: that is less than 32 bytes more, or
 * exceeds `most`; or damage. */
int mo_tlsf_grow(struct mo_tlsf *tlsf, void *end);

/* A block whose byte `offset`, a multiple of 16, is at a multiple of `alignment`, a power
 * of two. Any size; its contents are undefined. */
int mo_tlsf_alloc(struct mo_tlsf *tlsf, size_t size, size_t alignment, size_t offset, void **ret_p);
int mo_tlsf_free(struct mo_tlsf *tlsf, void *p);
/* In place. MO_TLSF_FULL: there is no room behind it, the block is as it was. */
int mo_tlsf_resize(struct mo_tlsf *tlsf, void *p, size_t size);

/* The bytes of a block in use, all of which may be written. */
static inline size_t mo_tlsf_bytes(const void *p) {
    return mo_head_units((const struct mo_head *)p - 1) * MO_UNIT;
}
/* Of the largest free block. */
size_t mo_tlsf_largest(const struct mo_tlsf *tlsf);
/* 1: heads, lists, maps and counts agree all over. Takes time by the number of blocks. */
int mo_tlsf_verify(const struct mo_tlsf *tlsf);

#endif
