/* test_limit.c - the limit of [heap.default]: what fits, what is refused, and
 * that the count comes back to zero whichever way blocks go. */
#include "core/account/account.h"
#include "core/account/limit.h"

#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { LIMIT = 1 << 20 };

static struct mo_ledger_heap slot;
static struct memopt_malloc table = {.size = sizeof(table),
                                     .malloc = malloc,
                                     .calloc = calloc,
                                     .realloc = realloc,
                                     .free = free,
                                     .aligned_alloc = memalign,
                                     .usable_size = malloc_usable_size};
static int purged;

static uint64_t purge(void) {
    purged++;
    return 0;
}

static char memopts[256];
static void *take_own(size_t alignment, size_t size) {
    (void)alignment;
    return size <= sizeof(memopts) ? memopts : NULL;
}

static int install(void **state) {
    (void)state;
    slot.limit = LIMIT;
    mo_limit_install(&table, purge, &slot, take_own);
    return 0;
}

static void refuses_what_does_not_fit(void **state) {
    (void)state;
    void *half = table.malloc(LIMIT / 2);
    assert_non_null(half);
    assert_true(slot.live_bytes >= LIMIT / 2);
    uint64_t live = slot.live_bytes;
    assert_null(table.malloc(LIMIT / 2 + 1));
    assert_null(table.calloc(LIMIT, 1));
    assert_null(table.aligned_alloc(64, LIMIT));
    assert_null(table.realloc(half, LIMIT + 1));
    assert_null(table.malloc(SIZE_MAX));
    assert_int_equal(slot.refused, 5);
    assert_int_equal(purged, 5);
    assert_int_equal(slot.live_bytes, live);
    memset(half, 1, LIMIT / 2); /* untouched by the failed realloc */
    half = table.realloc(half, LIMIT / 4);
    assert_non_null(half);
    assert_true(slot.live_bytes < LIMIT / 2);
    void *more = table.aligned_alloc(4096, LIMIT / 2);
    assert_non_null(more);
    assert_true(slot.peak_bytes <= LIMIT + 64);
    assert_int_equal(slot.live_blocks, 2);
    table.free(half);
    table.free(more);
    assert_int_equal(slot.live_bytes, 0);
    assert_int_equal(slot.live_blocks, 0);
    assert_int_equal(slot.allocations, slot.frees);
}

/* The backend's own failure gives the reservation back. */
static void the_backend_refuses(void **state) {
    (void)state;
    uint64_t before = slot.live_bytes;
    assert_null(table.aligned_alloc((size_t)1 << 47, 100)); /* no such room anywhere */
    assert_int_equal(slot.live_bytes, before);
}

static void *churn(void *unused) {
    void *blocks[64] = {NULL};
    for (unsigned i = 0; i < 200000; i++) {
        unsigned k = (i * 2654435761u) >> 26;
        table.free(blocks[k] != NULL ? blocks[k] : table.malloc(1));
        blocks[k] = table.malloc(i % 3000);
    }
    for (unsigned k = 0; k < 64; k++)
        if (blocks[k] != NULL)
            table.free(blocks[k]);
    return unused;
}

static void many_threads(void **state) {
    (void)state;
    uint64_t before = slot.live_bytes;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(slot.live_bytes, before);
}

/* What libmemopt sets holds at once. */
static void another_limit(void **state) {
    (void)state;
    slot.limit = slot.live_bytes + 1000;
    void *p = table.malloc(900);
    assert_non_null(p);
    assert_null(table.malloc(900));
    slot.limit = LIMIT;
    void *q = table.malloc(900);
    assert_non_null(q);
    table.free(p);
    table.free(q);
}

/* What memopt allocates itself. */
static void memopts_own(void **state) {
    (void)state;
    uint64_t before = slot.live_bytes, allocations = slot.allocations;
    mo_own.inside = MO_IN_MEMOPT;
    memopts[99] = 1;
    assert_ptr_equal(table.malloc(100), memopts);
    assert_ptr_equal(table.calloc(1, 100), memopts);
    assert_int_equal(memopts[99], 0);
    assert_ptr_equal(table.aligned_alloc(64, 100), memopts);
    assert_int_equal(slot.live_bytes, before);
    assert_int_equal(slot.allocations, allocations);
    void *p = table.malloc(1000); /* no room there */
    mo_own.inside = 0;
    assert_true(slot.live_bytes >= before + 1000);
    table.free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(the_backend_refuses),
        cmocka_unit_test(many_threads),
        cmocka_unit_test(another_limit),
        cmocka_unit_test(memopts_own),
    };
    return cmocka_run_group_tests(tests, install, NULL);
}
