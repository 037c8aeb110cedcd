/*
 * tlsf.c - see tlsf.h.
 *
 *   1. classes and lists
 *   2. joining and cutting
 *   3. the calls
 *   4. looking at it all
 */
#include "lib/tlsf.h"

#include <string.h>

/* In the payload of a free block. */
struct links {
    struct mo_head *next, *before;
};
enum { RECORD = sizeof(struct mo_head) + sizeof(struct links) };
_Static_assert(sizeof(struct links) <= MO_UNIT, "the smallest payload has room for links");

static struct links *links_of(const struct mo_head *head) {
    return (struct links *)(uintptr_t)mo_head_payload(head);
}

/* ---------------------------------------------------- 1. classes and lists */

static unsigned log2_of(uint64_t units) {
    return 63u - (unsigned)__builtin_clzll(units);
}

static void class_of(uint64_t units, unsigned *ret_row, unsigned *ret_step) {
    if (units < MO_TLSF_STEPS) {
        *ret_row = 0;
        *ret_step = (unsigned)units;
    } else {
        unsigned bits = log2_of(units);
        *ret_row = bits - MO_TLSF_STEP_BITS + 1;
        *ret_step = (unsigned)(units >> (bits - MO_TLSF_STEP_BITS)) & (MO_TLSF_STEPS - 1);
    }
}

static void insert(struct mo_tlsf *tlsf, struct mo_head *head) {
    unsigned row, step;
    class_of(mo_head_units(head), &row, &step);
    struct mo_head *next = tlsf->lists[row][step];
    links_of(head)->next = next;
    links_of(head)->before = NULL;
    if (next != NULL)
        links_of(next)->before = head;
    tlsf->lists[row][step] = head;
    tlsf->row_map |= UINT64_C(1) << row;
    tlsf->step_maps[row] = (uint16_t)(tlsf->step_maps[row] | 1u << step);
    tlsf->free_blocks++;
    tlsf->free_units += mo_head_units(head);
}

static int is_inside(const struct mo_tlsf *tlsf, const struct mo_head *head) {
    return (uintptr_t)head >= (uintptr_t)tlsf->row.start &&
           (uintptr_t)head <= (uintptr_t)tlsf->row.end - RECORD && (uintptr_t)head % MO_UNIT == 0;
}

static int is_linked(const struct mo_tlsf *tlsf, const struct mo_head *head) {
    unsigned row, step;
    class_of(mo_head_units(head), &row, &step);
    const struct mo_head *next = links_of(head)->next, *before = links_of(head)->before;
    return row < tlsf->rows &&
           (before == NULL ? tlsf->lists[row][step] == head
                           : is_inside(tlsf, before) && links_of(before)->next == head) &&
           (next == NULL || (is_inside(tlsf, next) && links_of(next)->before == head));
}

/* The links lie in memory that was given up: who writes there is caught before the write
 * spreads. */
static int check_links(struct mo_tlsf *tlsf, const struct mo_head *head) {
    if (is_linked(tlsf, head))
        return 0;
    tlsf->row.wrong = mo_head_payload(head);
    return MO_DAMAGE_LINKS;
}

static void take_out(struct mo_tlsf *tlsf, const struct mo_head *head) {
    unsigned row, step;
    class_of(mo_head_units(head), &row, &step);
    struct mo_head *next = links_of(head)->next, *before = links_of(head)->before;
    if (next != NULL)
        links_of(next)->before = before;
    if (before != NULL)
        links_of(before)->next = next;
    else
        tlsf->lists[row][step] = next;
    if (tlsf->lists[row][step] == NULL) {
        tlsf->step_maps[row] = (uint16_t)(tlsf->step_maps[row] & ~(1u << step));
        if (tlsf->step_maps[row] == 0)
            tlsf->row_map &= ~(UINT64_C(1) << row);
    }
    tlsf->free_blocks--;
    tlsf->free_units -= mo_head_units(head);
}

/* A free block of at least so many units, still in its list, or NULL. */
static struct mo_head *find(const struct mo_tlsf *tlsf, uint64_t units) {
    unsigned row, step;
    uint64_t rounded = units; /* any block of the class of `rounded` is large enough */
    if (units >= MO_TLSF_STEPS)
        rounded += (UINT64_C(1) << (log2_of(units) - MO_TLSF_STEP_BITS)) - 1;
    class_of(rounded, &row, &step);
    if (row < tlsf->rows) {
        unsigned here = tlsf->step_maps[row] & (~0u << step);
        if (here != 0)
            return tlsf->lists[row][__builtin_ctz(here)];
        uint64_t above = tlsf->row_map & (~UINT64_C(0) << row << 1);
        if (above != 0) {
            row = (unsigned)__builtin_ctzll(above);
            return tlsf->lists[row][__builtin_ctz(tlsf->step_maps[row])];
        }
    }
    /* Before giving up: blocks of the request's own class may be large enough. */
    class_of(units, &row, &step);
    struct mo_head *head = row < tlsf->rows ? tlsf->lists[row][step] : NULL;
    while (head != NULL && mo_head_units(head) < units) {
        head = links_of(head)->next;
        if (head != NULL && !is_inside(tlsf, head))
            return NULL; /* damaged; whoever comes to that block says so */
    }
    return head;
}

/* --------------------------------------------------- 2. joining and cutting */

static void tell_open(const struct mo_tlsf *tlsf, void *p, size_t size) {
    if (tlsf->open != NULL)
        tlsf->open(tlsf->context, p, size);
}

static void tell_close(const struct mo_tlsf *tlsf, void *p, size_t size) {
    if (tlsf->close != NULL)
        tlsf->close(tlsf->context, p, size);
}

/* That a free neighbour can be taken out and joined. */
static int check_free(struct mo_tlsf *tlsf, const struct mo_head *head) {
    struct mo_head *beyond;
    int damage = mo_head_next(&tlsf->row, head, &beyond);
    return damage != 0 ? damage : check_links(tlsf, head);
}

/* `head` is FREE in front of `previous`, which is in a list: what they are together. */
static struct mo_head *join_previous(struct mo_tlsf *tlsf, struct mo_head *head,
                                     struct mo_head *previous, uint64_t *units) {
    take_out(tlsf, previous);
    *units += 1 + mo_head_units(previous);
    tell_close(tlsf, head, RECORD);
    return previous;
}

/* Makes a free block of `units` at `head`, joined with the one after it if that is free. */
static void put_free(struct mo_tlsf *tlsf, struct mo_head *head, uint64_t units, uint64_t before,
                     struct mo_head *next) {
    if (mo_head_state(next) == MO_HEAD_FREE) {
        struct mo_head *beyond = mo_head_after(next);
        take_out(tlsf, next);
        units += 1 + mo_head_units(next);
        tell_close(tlsf, next, RECORD);
        next = beyond;
    }
    mo_head_write(&tlsf->row, head, units, MO_HEAD_FREE, before);
    mo_head_write(&tlsf->row, next, mo_head_units(next), mo_head_state(next), units);
    insert(tlsf, head);
}

/* Cuts a block in use down to `units`, if what is left can be a block. */
static void trim(struct mo_tlsf *tlsf, struct mo_head *head, uint64_t units, struct mo_head *next) {
    uint64_t spare = mo_head_units(head) - units;
    if (spare < RECORD / MO_UNIT)
        return;
    mo_head_write(&tlsf->row, head, units, MO_HEAD_USED, mo_head_before(head));
    struct mo_head *rest = mo_head_after(head);
    tell_open(tlsf, rest, RECORD);
    put_free(tlsf, rest, spare - 1, units, next);
}

/* ------------------------------------------------------------- 3. the calls */

static uint64_t units_for(size_t size) {
    return size == 0 ? 1 : ((uint64_t)size + MO_UNIT - 1) / MO_UNIT;
}

static size_t room_of(const struct mo_tlsf *tlsf) {
    return (size_t)(tlsf->row.end - tlsf->row.start);
}

static unsigned rows_for(size_t most) {
    unsigned row, step; /* two heads are the least beside a payload */
    class_of(most / MO_UNIT > 2 ? most / MO_UNIT - 2 : 1, &row, &step);
    return row + 1;
}

size_t mo_tlsf_size(size_t most) {
    return sizeof(struct mo_tlsf) + rows_for(most) * sizeof(struct mo_head *[MO_TLSF_STEPS]);
}

int mo_tlsf_init(struct mo_tlsf *tlsf, size_t most, void *memory, size_t size, uint64_t secret) {
    size_t skew = -(uintptr_t)memory % MO_UNIT;
    if (size > most || rows_for(most) > MO_TLSF_ROWS || size < 4 * MO_UNIT)
        return MO_TLSF_FULL;
    memset(tlsf, 0, mo_tlsf_size(most));
    tlsf->most = most;
    tlsf->rows = rows_for(most);
    tlsf->row.secret = secret;
    tlsf->row.start = (char *)memory + skew;
    tlsf->row.end = tlsf->row.start + (size - skew) / MO_UNIT * MO_UNIT;
    struct mo_head *head = (struct mo_head *)tlsf->row.start;
    struct mo_head *last = (struct mo_head *)tlsf->row.end - 1;
    mo_head_write(&tlsf->row, last, 0, MO_HEAD_END, 0);
    put_free(tlsf, head, (uint64_t)(last - head) - 1, 0, last);
    return 0;
}

int mo_tlsf_grow(struct mo_tlsf *tlsf, void *end) {
    struct mo_head *head = (struct mo_head *)tlsf->row.end - 1, *previous;
    if ((uintptr_t)end < (uintptr_t)tlsf->row.end + RECORD ||
        (uintptr_t)end - (uintptr_t)tlsf->row.start > tlsf->most)
        return MO_TLSF_FULL;
    if (!mo_head_is_whole(&tlsf->row, head) || mo_head_state(head) != MO_HEAD_END) {
        tlsf->row.wrong = mo_head_payload(head);
        return MO_DAMAGE_BLOCK;
    }
    int damage = mo_head_previous(&tlsf->row, head, &previous);
    if (damage == 0 && mo_head_state(previous) == MO_HEAD_FREE)
        damage = check_links(tlsf, previous);
    if (damage != 0)
        return damage;
    tlsf->row.end += ((uintptr_t)end - (uintptr_t)tlsf->row.end) / MO_UNIT * MO_UNIT;
    struct mo_head *last = (struct mo_head *)tlsf->row.end - 1;
    mo_head_write(&tlsf->row, last, 0, MO_HEAD_END, 0);
    uint64_t units = (uint64_t)(last - head) - 1;
    if (mo_head_state(previous) == MO_HEAD_FREE)
        head = join_previous(tlsf, head, previous, &units);
    put_free(tlsf, head, units, mo_head_before(head), last);
    return 0;
}

int mo_tlsf_alloc(struct mo_tlsf *tlsf, size_t size, size_t alignment, size_t offset,
                  void **ret_p) {
    if (size > room_of(tlsf) || alignment > room_of(tlsf))
        return MO_TLSF_FULL;
    if (alignment < MO_UNIT)
        alignment = MO_UNIT;
    uint64_t units = units_for(size);
    /* Room for the alignment, and for a free block of one unit before it. */
    uint64_t extra = alignment > MO_UNIT ? alignment / MO_UNIT + 1 : 0;
    struct mo_head *head = find(tlsf, units + extra), *next;
    if (head == NULL)
        return MO_TLSF_FULL;
    tlsf->row.wrong = mo_head_payload(head);
    if (!mo_head_is_whole(&tlsf->row, head) || mo_head_state(head) != MO_HEAD_FREE ||
        mo_head_units(head) < units + extra)
        return MO_DAMAGE_BLOCK;
    int damage = mo_head_next(&tlsf->row, head, &next);
    if (damage == 0)
        damage = check_links(tlsf, head);
    if (damage != 0)
        return damage;
    take_out(tlsf, head);
    uintptr_t place = (uintptr_t)mo_head_payload(head) + offset;
    uint64_t gap = (uint64_t)(-place & (alignment - 1)) / MO_UNIT;
    if (gap == 1) /* a head, but no payload: not a block */
        gap += alignment / MO_UNIT;
    uint64_t whole = mo_head_units(head), before = mo_head_before(head);
    if (gap > 0) { /* the block before it is in use, or it would be joined */
        mo_head_write(&tlsf->row, head, gap - 1, MO_HEAD_FREE, before);
        insert(tlsf, head);
        head = mo_head_after(head);
        tell_open(tlsf, head, RECORD);
        whole -= gap;
        before = gap - 1;
    }
    mo_head_write(&tlsf->row, head, whole, MO_HEAD_USED, before);
    mo_head_write(&tlsf->row, next, mo_head_units(next), mo_head_state(next), whole);
    trim(tlsf, head, units, next);
    *ret_p = mo_head_payload(head);
    return 0;
}

int mo_tlsf_free(struct mo_tlsf *tlsf, void *p) {
    struct mo_head *head, *next, *previous;
    int damage = mo_head_of(&tlsf->row, p, &head);
    if (damage == 0)
        damage = mo_head_next(&tlsf->row, head, &next);
    if (damage == 0)
        damage = mo_head_previous(&tlsf->row, head, &previous);
    if (damage == 0 && mo_head_state(next) == MO_HEAD_FREE)
        damage = check_free(tlsf, next);
    if (damage == 0 && previous != NULL && mo_head_state(previous) == MO_HEAD_FREE)
        damage = check_links(tlsf, previous);
    if (damage != 0)
        return damage;
    uint64_t units = mo_head_units(head);
    mo_head_write(&tlsf->row, head, units, MO_HEAD_FREE, mo_head_before(head));
    if (previous != NULL && mo_head_state(previous) == MO_HEAD_FREE)
        head = join_previous(tlsf, head, previous, &units);
    put_free(tlsf, head, units, mo_head_before(head), next);
    return 0;
}

int mo_tlsf_resize(struct mo_tlsf *tlsf, void *p, size_t size) {
    struct mo_head *head, *next;
    int damage = mo_head_of(&tlsf->row, p, &head);
    if (damage == 0)
        damage = mo_head_next(&tlsf->row, head, &next);
    if (damage == 0 && mo_head_state(next) == MO_HEAD_FREE)
        damage = check_free(tlsf, next);
    if (damage != 0)
        return damage;
    if (size > room_of(tlsf))
        return MO_TLSF_FULL;
    uint64_t units = units_for(size), have = mo_head_units(head);
    if (units > have) {
        if (mo_head_state(next) != MO_HEAD_FREE || have + 1 + mo_head_units(next) < units)
            return MO_TLSF_FULL;
        struct mo_head *beyond = mo_head_after(next);
        take_out(tlsf, next);
        have += 1 + mo_head_units(next);
        tell_close(tlsf, next, RECORD);
        mo_head_write(&tlsf->row, head, have, MO_HEAD_USED, mo_head_before(head));
        mo_head_write(&tlsf->row, beyond, mo_head_units(beyond), mo_head_state(beyond), have);
        next = beyond;
    }
    trim(tlsf, head, units, next);
    return 0;
}

/* ------------------------------------------------------ 4. looking at it all */

size_t mo_tlsf_largest(const struct mo_tlsf *tlsf) {
    uint64_t units = 0;
    if (tlsf->row_map == 0)
        return 0;
    unsigned row = log2_of(tlsf->row_map); /* in the last list that has any */
    const struct mo_head *head = tlsf->lists[row][log2_of(tlsf->step_maps[row])];
    for (; head != NULL; head = links_of(head)->next)
        if (mo_head_units(head) > units)
            units = mo_head_units(head);
    return units * MO_UNIT;
}

int mo_tlsf_verify(const struct mo_tlsf *tlsf) {
    uint64_t blocks = 0, units = 0, before = 0;
    const struct mo_head *head = (const struct mo_head *)tlsf->row.start;
    const struct mo_head *last = (const struct mo_head *)tlsf->row.end - 1;
    for (int was_free = 0; head < last; head = mo_head_after(head)) {
        int is_free = mo_head_state(head) == MO_HEAD_FREE;
        if (!mo_head_is_whole(&tlsf->row, head) || mo_head_before(head) != before ||
            (!is_free && mo_head_state(head) != MO_HEAD_USED) || (is_free && was_free) ||
            mo_head_units(head) > (uint64_t)(last - head) - 1 ||
            (is_free && !is_linked(tlsf, head)))
            return 0;
        blocks += is_free ? 1 : 0;
        units += is_free ? mo_head_units(head) : 0;
        before = mo_head_units(head);
        was_free = is_free;
    }
    if (head != last || mo_head_state(last) != MO_HEAD_END || mo_head_before(last) != before ||
        !mo_head_is_whole(&tlsf->row, last) || blocks != tlsf->free_blocks ||
        units != tlsf->free_units)
        return 0;
    for (unsigned row = 0; row < MO_TLSF_ROWS; row++) {
        unsigned map = 0;
        for (unsigned step = 0; row < tlsf->rows && step < MO_TLSF_STEPS; step++)
            map |= tlsf->lists[row][step] != NULL ? 1u << step : 0;
        if (map != tlsf->step_maps[row] || (map != 0) != (tlsf->row_map >> row & 1))
            return 0;
    }
    return 1;
}
