/*
 * head.h - blocks in a row, each behind a head that tells when it was damaged.
 *
 *   start                                                                    end
 *   | head | payload ...... | head | payload .. | head | payload ..... | ... |
 *
 * A head is 16 bytes, a payload whole units of 16 bytes, and they follow each other
 * without a gap, so that both neighbours of a block can be found from its head. A head
 * carries a check sum of its own place and contents under a secret: what overflowed into
 * it, a pointer to no block and a second free are noticed instead of spreading.
 *
 * Who uses it: lib/tlsf.c, and whoever hands out such blocks in another order. Who made
 * the row sees to it that the heads of blocks it has given up stay in the state FREE
 * wherever they end up, also inside a joined block: that distinguishes a double free from
 * a wild pointer.
 *
 * lib/ rules: only the compiler and memcpy(); one caller at a time.
 */
#ifndef MO_LIB_HEAD_H
#define MO_LIB_HEAD_H

#include <stddef.h>
#include <stdint.h>

enum { MO_UNIT = 16, MO_UNITS_BITS = 40 /* of the largest row: 16 TiB */ };
enum { MO_HEAD_USED = 0xa5, MO_HEAD_FREE = 0x5a, MO_HEAD_END = 0x3c };

/* `size`: payload units << 8 | state. `previous`: units of the block before it (0: there
 * is none) << 24 | check sum. */
struct mo_head {
    uint64_t size, previous;
};
_Static_assert(sizeof(struct mo_head) == MO_UNIT, "payloads are aligned");

struct mo_row {
    char *start, *end; /* of heads and payloads, multiples of 16 */
    uint64_t secret;
    const void *wrong; /* the payload that the last MO_DAMAGE_... was found at */
};

/* What can be wrong. Nothing was changed when it is returned. */
enum mo_damage {
    MO_DAMAGE_FOREIGN = 1, /* no block of this row begins there */
    MO_DAMAGE_HEAD,        /* nor there, or the block before it overflowed into its head */
    MO_DAMAGE_TWICE,       /* the block is free */
    MO_DAMAGE_NEXT,        /* the head after it is damaged: it overflowed */
    MO_DAMAGE_PREVIOUS,    /* the head of the block before it is damaged */
    MO_DAMAGE_BLOCK,       /* the head of a block that was come across is damaged */
    MO_DAMAGE_LINKS,       /* the payload of a free block was written to */
};

static inline uint64_t mo_head_units(const struct mo_head *head) {
    return head->size >> 8;
}

static inline unsigned mo_head_state(const struct mo_head *head) {
    return (unsigned)(head->size & 0xff);
}

/* Units of the block before; 0: there is none. */
static inline uint64_t mo_head_before(const struct mo_head *head) {
    return head->previous >> 24;
}

static inline char *mo_head_payload(const struct mo_head *head) {
    return (char *)(uintptr_t)(head + 1);
}

static inline struct mo_head *mo_head_after(const struct mo_head *head) {
    return (struct mo_head *)(mo_head_payload(head) + mo_head_units(head) * MO_UNIT);
}

static inline uint64_t mo_head_sum(const struct mo_row *row, const struct mo_head *head,
                                   uint64_t before) {
    uint64_t x = ((uint64_t)(uintptr_t)head ^ row->secret) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 29) ^ head->size) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 32) ^ before) * UINT64_C(0x94d049bb133111eb);
    return x >> 40;
}

static inline void mo_head_write(const struct mo_row *row, struct mo_head *head, uint64_t units,
                                 unsigned state, uint64_t before) {
    head->size = units << 8 | state;
    head->previous = before << 24 | mo_head_sum(row, head, before);
}

static inline int mo_head_is_whole(const struct mo_row *row, const struct mo_head *head) {
    return (head->previous & 0xffffff) == mo_head_sum(row, head, head->previous >> 24);
}

/* The head of the block in use at p. */
static inline int mo_head_of(struct mo_row *row, const void *p, struct mo_head **ret_head) {
    uintptr_t place = (uintptr_t)p;
    row->wrong = p;
    if (place < (uintptr_t)row->start + sizeof(struct mo_head) || place >= (uintptr_t)row->end ||
        place % MO_UNIT != 0)
        return MO_DAMAGE_FOREIGN;
    struct mo_head *head = (struct mo_head *)place - 1;
    if (!mo_head_is_whole(row, head))
        return MO_DAMAGE_HEAD;
    if (mo_head_state(head) != MO_HEAD_USED)
        return mo_head_state(head) == MO_HEAD_FREE ? MO_DAMAGE_TWICE : MO_DAMAGE_FOREIGN;
    *ret_head = head;
    return 0;
}

/* The head after that of a block. */
static inline int mo_head_next(struct mo_row *row, const struct mo_head *head,
                               struct mo_head **ret_next) {
    struct mo_head *next = mo_head_after(head);
    if ((char *)(next + 1) > row->end || !mo_head_is_whole(row, next) ||
        mo_head_before(next) != mo_head_units(head)) {
        row->wrong = mo_head_payload(head);
        return MO_DAMAGE_NEXT;
    }
    *ret_next = next;
    return 0;
}

/* The head before that of a block; NULL: it is the first. */
static inline int mo_head_previous(struct mo_row *row, const struct mo_head *head,
                                   struct mo_head **ret_previous) {
    uint64_t units = mo_head_before(head);
    struct mo_head *previous = NULL;
    if (units != 0) {
        previous = (struct mo_head *)((uintptr_t)head - units * MO_UNIT) - 1;
        if ((char *)previous < row->start || !mo_head_is_whole(row, previous) ||
            mo_head_units(previous) != units) {
            row->wrong = mo_head_payload(head);
            return MO_DAMAGE_PREVIOUS;
        }
    }
    *ret_previous = previous;
    return 0;
}

#endif
