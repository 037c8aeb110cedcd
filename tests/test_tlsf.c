/*
 * test_tlsf.c - lib/tlsf: random use against a model that knows every byte, all
 * alignments, what does not fit, growth, each kind of damage, a caller that poisons.
 */
#include "config.h"

#include "lib/tlsf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN
#endif
#ifdef HAVE_ASAN
void __asan_poison_memory_region(const void *p, size_t size);
void __asan_unpoison_memory_region(const void *p, size_t size);
#else
#define __asan_poison_memory_region(p, size) ((void)(p), (void)(size))
#define __asan_unpoison_memory_region(p, size) ((void)(p), (void)(size))
#endif

enum { MOST = 256 * 1024, GIVEN_UP = 0xdb };
static unsigned char memory[MOST + 64] __attribute__((aligned(64)));
static uint64_t control[2048];
static struct mo_tlsf *const tlsf = (struct mo_tlsf *)control;

/* ------------------------------------------------------- a caller that poisons */

static int poisons;
static long records; /* bytes that heads and links of free memory are in */

static void assert_all(const unsigned char *p, size_t size, unsigned char mark) {
    for (size_t i = 0; i < size; i++)
        if (p[i] != mark)
            fail_msg("byte %zu of %zu is %#x, not %#x", i, size, p[i], mark);
}

static void begin_record(void *context, void *p, size_t size) {
    assert_ptr_equal(context, &records);
    __asan_unpoison_memory_region(p, size);
    assert_all(p, size, GIVEN_UP); /* nobody wrote here in between */
    records += (long)size;
}

static void end_record(void *context, void *p, size_t size) {
    assert_ptr_equal(context, &records);
    memset(p, GIVEN_UP, size);
    __asan_poison_memory_region(p, size);
    records -= (long)size;
}

static void give_up(unsigned char *p, size_t size) {
    memset(p, GIVEN_UP, size);
    __asan_poison_memory_region(p, size);
}

static void open_in(void *at, size_t size, int with_poison) {
    __asan_unpoison_memory_region(memory, sizeof(memory));
    assert_true(mo_tlsf_size(MOST) <= sizeof(control));
    assert_int_equal(mo_tlsf_init(tlsf, MOST, at, size, 0x1234567890abcdefu), 0);
    assert_true(mo_tlsf_verify(tlsf));
    poisons = with_poison;
    records = 0;
    if (!with_poison)
        return;
    tlsf->open = begin_record;
    tlsf->close = end_record;
    tlsf->context = &records;
    give_up((unsigned char *)tlsf->row.start + 32, mo_tlsf_largest(tlsf) - 16);
}

static int grow_to(unsigned char *end) {
    unsigned char *from = (unsigned char *)tlsf->row.end;
    int code = mo_tlsf_grow(tlsf, end);
    if (code == 0 && poisons) /* all but the old end head, which a record may be in now */
        give_up(from + 16, (size_t)((unsigned char *)tlsf->row.end - from) - 32);
    return code;
}

static void *take(size_t size, size_t alignment, size_t offset) {
    void *p = NULL;
    int code = mo_tlsf_alloc(tlsf, size, alignment, offset, &p);
    assert_true(code == 0 || (code == MO_TLSF_FULL && p == NULL));
    if (p != NULL && poisons) {
        size_t bytes = mo_tlsf_bytes(p);
        __asan_unpoison_memory_region(p, bytes);
        assert_all((unsigned char *)p + 16, bytes - 16, GIVEN_UP);
    }
    return p;
}

static void give(void *p) {
    if (poisons)
        give_up((unsigned char *)p + 16, mo_tlsf_bytes(p) - 16);
    assert_int_equal(mo_tlsf_free(tlsf, p), 0);
}

/* --------------------------------------------------------------- the model */

enum { SLOTS = 150 };
static struct slot {
    unsigned char *p;
    size_t bytes;
    unsigned char mark;
} slots[SLOTS];

static uint64_t random_state;
static unsigned random_below(unsigned limit) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % limit;
}

static void put_in(struct slot *slot, unsigned char *p) {
    slot->p = p;
    slot->bytes = mo_tlsf_bytes(p);
    slot->mark = (unsigned char)random_below(256);
    memset(p, slot->mark, slot->bytes);
    assert_true((char *)p >= tlsf->row.start + 16);
    assert_true((char *)p + slot->bytes <= tlsf->row.end - 16);
    for (size_t i = 0; i < SLOTS; i++) /* nobody else's */
        assert_true(&slots[i] == slot || slots[i].p == NULL || slots[i].p + slots[i].bytes <= p ||
                    p + slot->bytes <= slots[i].p);
}

static size_t random_size(void) {
    switch (random_below(8)) {
    case 0:
        return random_below(20000);
    case 1:
        return random_below(3000);
    default:
        return random_below(300);
    }
}

static void use(struct slot *slot, unsigned *full) {
    if (slot->p == NULL) {
        size_t alignment = (size_t)1 << random_below(14), offset = 16 * random_below(4);
        size_t size = random_size();
        unsigned char *p = take(size, alignment, offset);
        if (p == NULL) {
            *full += 1;
            return;
        }
        assert_int_equal(((uintptr_t)p + offset) % alignment, 0);
        assert_int_equal((uintptr_t)p % 16, 0);
        assert_true(mo_tlsf_bytes(p) >= size && mo_tlsf_bytes(p) < size + 16 + 32);
        put_in(slot, p);
        return;
    }
    assert_all(slot->p, slot->bytes, slot->mark);
    if (random_below(3) != 0) {
        give(slot->p);
        slot->p = NULL;
        return;
    }
    size_t size = random_size(), old = slot->bytes;
    if (poisons && size < old) /* what is cut off is given up first */
        give_up(slot->p + (size == 0 ? 16 : (size + 15) / 16 * 16),
                old - (size == 0 ? 16 : (size + 15) / 16 * 16));
    int code = mo_tlsf_resize(tlsf, slot->p, size);
    assert_true(code == 0 || (code == MO_TLSF_FULL && size > old));
    __asan_unpoison_memory_region(slot->p, mo_tlsf_bytes(slot->p));
    assert_true(mo_tlsf_bytes(slot->p) >= (code == 0 ? size : old));
    slot->bytes = size < old ? size : old;
    assert_all(slot->p, slot->bytes, slot->mark);
    put_in(slot, slot->p);
}

static void random_use(void **state) {
    (void)state;
    for (unsigned run = 0; run < 8; run++) {
        unsigned char *start = memory + run * 5, *end = start + MOST / 4;
        random_state = run;
        memset(slots, 0, sizeof(slots));
        open_in(start, (size_t)(end - start), run % 2 == 0);
        unsigned full = 0;
        for (int i = 0; i < 6000; i++) {
            use(&slots[random_below(SLOTS)], &full);
            if (i % 16 == 0 || i < 200)
                assert_true(mo_tlsf_verify(tlsf));
            if (i % 1000 == 999) { /* six times, up to what there is room for */
                end += 64 + random_below(MOST / 8 - 128);
                assert_int_equal(grow_to(end), 0);
                assert_true(mo_tlsf_verify(tlsf));
            }
        }
        assert_true(full > 50); /* it was full at times */
        for (size_t i = 0; i < SLOTS; i++)
            if (slots[i].p != NULL) {
                assert_all(slots[i].p, slots[i].bytes, slots[i].mark);
                give(slots[i].p);
            }
        /* all is one block again */
        assert_true(mo_tlsf_verify(tlsf));
        assert_int_equal(tlsf->free_blocks, 1);
        assert_int_equal(mo_tlsf_largest(tlsf), tlsf->row.end - tlsf->row.start - 32);
        if (poisons) /* only the end heads have begun without being asked about */
            assert_int_equal(records, -6 * 32);
    }
    __asan_unpoison_memory_region(memory, sizeof(memory));
}

static void all_alignments(void **state) {
    (void)state;
    for (size_t skew = 0; skew < 32; skew++)
        for (size_t alignment = 1; alignment <= 65536; alignment *= 2)
            for (size_t offset = 0; offset <= 64; offset += 16)
                for (int first = 0; first < 3; first++) { /* what lies before it */
                    open_in(memory + skew, MOST, 0);
                    for (int i = 0; i < first; i++)
                        take((size_t)i * 16 + 1, 1, 0);
                    char *p = take(100, alignment, offset);
                    assert_non_null(p);
                    assert_int_equal(((uintptr_t)p + offset) % alignment, 0);
                    assert_true(mo_tlsf_bytes(p) >= 100);
                    memset(p, 1, mo_tlsf_bytes(p));
                    assert_true(mo_tlsf_verify(tlsf));
                    give(p);
                    assert_true(mo_tlsf_verify(tlsf));
                    assert_int_equal(tlsf->free_blocks, 1);
                }
}

/* ------------------------------------------------------------- out of room */

static void out_of_room(void **state) {
    (void)state;
    void *p;
    assert_int_equal(mo_tlsf_init(tlsf, MOST, memory, 63, 0), MO_TLSF_FULL);
    assert_int_equal(mo_tlsf_init(tlsf, MOST, memory, 0, 0), MO_TLSF_FULL);
    assert_int_equal(mo_tlsf_init(tlsf, MOST, memory, MOST + 1, 0), MO_TLSF_FULL);
    assert_int_equal(mo_tlsf_init(tlsf, ((size_t)1 << 44) + 64, memory, MOST, 0), MO_TLSF_FULL);
    for (size_t skew = 0; skew < 16; skew++) { /* the smallest */
        open_in(memory + skew, 64, 0);
        p = take(0, 1, 0);
        assert_non_null(p);
        assert_null(take(0, 1, 0));
        assert_int_equal(mo_tlsf_largest(tlsf), 0);
        assert_true(mo_tlsf_verify(tlsf));
        give(p);
        assert_non_null(take(16, 1, 0));
    }
    open_in(memory, MOST, 0);
    size_t most = mo_tlsf_largest(tlsf);
    assert_int_equal(most, MOST - 32);
    static const size_t too_large[] = {MOST - 31,    MOST,          MOST + 1,
                                       SIZE_MAX / 2, SIZE_MAX - 15, SIZE_MAX};
    for (size_t i = 0; i < sizeof(too_large) / sizeof(too_large[0]); i++)
        assert_null(take(too_large[i], 1, 0));
    assert_null(take(1, (size_t)1 << 63, 0));
    assert_null(take(1, MOST, 0));
    p = take(most, 1, 0); /* what it says can be had */
    assert_non_null(p);
    assert_int_equal(mo_tlsf_bytes(p), most);
    assert_null(take(0, 1, 0));
    assert_int_equal(mo_tlsf_resize(tlsf, p, most + 1), MO_TLSF_FULL);
    assert_int_equal(mo_tlsf_resize(tlsf, p, SIZE_MAX), MO_TLSF_FULL);
    assert_int_equal(mo_tlsf_bytes(p), most);
    /* a class that only some are large enough of is looked through */
    open_in(memory, MOST, 0);
    char *blocks[8];
    for (size_t i = 0; i < 8; i++) {
        blocks[i] = take(1024 + i * 16, 1, 0); /* 64 units and more: four to a class */
        assert_non_null(take(1, 1, 0));
    }
    while (take(1100, 1, 0) != NULL || take(1, 1, 0) != NULL)
        ;
    for (size_t i = 0; i < 8; i++)
        give(blocks[i]);
    assert_ptr_equal(take(1024 + 7 * 16, 1, 0), blocks[7]);
    assert_null(take(1024 + 7 * 16, 1, 0));
    assert_ptr_equal(take(1024 + 6 * 16, 1, 0), blocks[6]);
    assert_true(mo_tlsf_verify(tlsf));
}

static void growth(void **state) {
    (void)state;
    for (int last_free = 0; last_free < 2; last_free++)
        for (size_t by = 0; by < 200; by++) {
            open_in(memory, 1024, by % 2 == 0);
            void *p = take(992, 1, 0);
            assert_non_null(p);
            if (last_free)
                give(p);
            int code = grow_to(memory + 1024 + by);
            assert_int_equal(code, by < 32 ? MO_TLSF_FULL : 0);
            assert_true(mo_tlsf_verify(tlsf));
            if (code == 0)
                assert_int_equal(mo_tlsf_largest(tlsf),
                                 by / 16 * 16 - 16 + (last_free ? 992 + 16 : 0));
            if (!last_free)
                give(p);
            assert_int_equal(tlsf->free_blocks, 1);
            assert_true(mo_tlsf_verify(tlsf));
        }
    open_in(memory, 1024, 0);
    assert_int_equal(mo_tlsf_grow(tlsf, memory + MOST + 1), MO_TLSF_FULL);
    assert_int_equal(mo_tlsf_grow(tlsf, memory), MO_TLSF_FULL);
    assert_int_equal(mo_tlsf_grow(tlsf, NULL), MO_TLSF_FULL);
    assert_int_equal(mo_tlsf_grow(tlsf, memory + MOST), 0);
    assert_non_null(take(MOST - 32, 1, 0));
    ((struct mo_head *)tlsf->row.end)[-1].size ^= 256;
    tlsf->most = MOST + 64;
    assert_int_equal(mo_tlsf_grow(tlsf, memory + MOST + 64), MO_DAMAGE_BLOCK);
    __asan_unpoison_memory_region(memory, sizeof(memory));
}

/* ------------------------------------------------------------------ damage */

static char *a, *b, *c, *d, *freed;

static void damage_nothing(void) {
}
static void damage_own_head(void) {
    b[-1] ^= 1;
}
static void damage_own_size(void) {
    b[-16] ^= 1;
}
static void damage_next(void) {
    memset(b + mo_tlsf_bytes(b), 'x', 1);
}
static void damage_previous(void) {
    a[-16] ^= 1;
}
static void free_b(void) {
    give(b);
}
static void free_a_and_b(void) {
    give(a);
    give(b);
}
static void free_neighbour_and_write(void) {
    give(a);
    memset(a, 'x', 16);
}
static void free_next_and_write(void) {
    give(c);
    memset(c, 'x', 8);
}
static void free_next_and_beyond(void) {
    give(c);
    memset(d - 16, 'x', 16);
}

static int free_call(void) {
    return mo_tlsf_free(tlsf, b);
}
static int free_wild(void) {
    return mo_tlsf_free(tlsf, (void *)32);
}
static int free_odd(void) {
    return mo_tlsf_free(tlsf, b + 8);
}
static int free_inside(void) {
    return mo_tlsf_free(tlsf, b + 32);
}
static int free_end(void) {
    return mo_tlsf_free(tlsf, tlsf->row.end);
}
static int free_control(void) {
    return mo_tlsf_free(tlsf, tlsf);
}
static int resize_call(void) {
    return mo_tlsf_resize(tlsf, b, 200);
}
static int alloc_call(void) {
    void *p;
    return mo_tlsf_alloc(tlsf, mo_tlsf_bytes(freed), 1, 0, &p);
}
static void write_freed(void) {
    memset(freed, 'x', 16);
}
static void write_freed_head(void) {
    freed[-1] ^= 1;
}
static void write_after_freed(void) {
    freed[mo_tlsf_bytes(freed)] ^= 1;
}

static void damaged(void **state) {
    (void)state;
    static const struct {
        void (*damage)(void);
        int (*call)(void);
        int code;
        char **wrong;
    } cases[] = {
        {damage_nothing, free_wild, MO_DAMAGE_FOREIGN, NULL},
        {damage_nothing, free_odd, MO_DAMAGE_FOREIGN, NULL},
        {damage_nothing, free_inside, MO_DAMAGE_HEAD, NULL},
        {damage_nothing, free_end, MO_DAMAGE_FOREIGN, NULL},
        {damage_nothing, free_control, MO_DAMAGE_FOREIGN, NULL},
        {damage_own_head, free_call, MO_DAMAGE_HEAD, &b},
        {damage_own_size, free_call, MO_DAMAGE_HEAD, &b},
        {damage_own_head, resize_call, MO_DAMAGE_HEAD, &b},
        {damage_next, free_call, MO_DAMAGE_NEXT, &b},
        {damage_next, resize_call, MO_DAMAGE_NEXT, &b},
        {damage_previous, free_call, MO_DAMAGE_PREVIOUS, &b},
        {free_b, free_call, MO_DAMAGE_TWICE, &b},
        {free_b, resize_call, MO_DAMAGE_TWICE, &b},
        {free_a_and_b, free_call, MO_DAMAGE_TWICE, &b},
        {free_neighbour_and_write, free_call, MO_DAMAGE_LINKS, &a},
        {free_next_and_write, free_call, MO_DAMAGE_LINKS, &c},
        {free_next_and_write, resize_call, MO_DAMAGE_LINKS, &c},
        {free_next_and_beyond, free_call, MO_DAMAGE_NEXT, &c},
        {write_freed, alloc_call, MO_DAMAGE_LINKS, &freed},
        {write_freed_head, alloc_call, MO_DAMAGE_BLOCK, &freed},
        {write_after_freed, alloc_call, MO_DAMAGE_NEXT, &freed},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        open_in(memory, 64 * 1024, 0);
        freed = take(500, 1, 0);
        take(1, 1, 0);
        char *other = take(500, 1, 0); /* so that links lead to somebody */
        take(1, 1, 0);
        a = take(100, 1, 0);
        b = take(100, 1, 0);
        c = take(100, 1, 0);
        d = take(100, 1, 0);
        memset(b, 7, 100);
        give(freed);
        give(other);
        freed = other;
        cases[i].damage();
        unsigned char before[64 * 1024];
        memcpy(before, memory, sizeof(before));
        uint64_t blocks = tlsf->free_blocks, map = tlsf->row_map;
        int code = cases[i].call();
        if (code != cases[i].code)
            fail_msg("case %zu: %d, not %d", i, code, cases[i].code);
        if (cases[i].wrong != NULL)
            assert_ptr_equal(tlsf->row.wrong, *cases[i].wrong);
        /* and nothing was changed */
        assert_memory_equal(before, memory, sizeof(before));
        assert_true(blocks == tlsf->free_blocks && map == tlsf->row_map);
        if (cases[i].damage != damage_nothing && cases[i].code != MO_DAMAGE_TWICE)
            assert_false(mo_tlsf_verify(tlsf));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_use),  cmocka_unit_test(all_alignments),
        cmocka_unit_test(out_of_room), cmocka_unit_test(growth),
        cmocka_unit_test(damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
