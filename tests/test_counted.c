/* test_counted.c - a tracker that only counts: which events dispatch counts in place,
 * which it tells, when it asks for usable sizes, and what is left of it when tracking
 * stops. */
#include "core/dispatch/dispatch.h"
#include "core/ledger/reader.h"
#include "core/ledger/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* A backend whose blocks are 8 bytes larger than asked for. */
static _Atomic unsigned asked; /* calls of usable_size */
static int refuse;

static void *with_size(size_t size) {
    size_t *p = refuse ? NULL : malloc(size + 24);
    if (p == NULL)
        return NULL;
    p[0] = size + 8;
    return p + 2;
}
static void *b_calloc(size_t count, size_t size) {
    void *p = with_size(count * size);
    return p == NULL ? NULL : memset(p, 0, count * size);
}
static size_t b_usable_size(void *p) {
    asked++;
    return ((size_t *)p)[-2];
}
static void b_free(void *p) {
    free((size_t *)p - 2);
}
static void *b_realloc(void *p, size_t size) {
    if (refuse)
        return NULL;
    b_free(p);
    return with_size(size);
}
static void *b_aligned_alloc(size_t alignment, size_t size) {
    (void)alignment; /* nobody looks */
    return with_size(size);
}
static const struct memopt_malloc backend = {
    .size = sizeof(backend),
    .malloc = with_size,
    .calloc = b_calloc,
    .realloc = b_realloc,
    .free = b_free,
    .aligned_alloc = b_aligned_alloc,
    .usable_size = b_usable_size,
    .sized_below = 300,
};

/* The tracker: counts as it must, and writes down that it was told. */
static char told[256];
static void tell(const char *format, int event) {
    size_t used = strlen(told);
    snprintf(told + used, sizeof(told) - used, format, event);
}
#define expect_told(TEXT)                                                                          \
    do {                                                                                           \
        assert_string_equal(told, TEXT);                                                           \
        told[0] = '\0';                                                                            \
    } while (0)

static void t_alloc(void *self, void *thread, void *p, size_t size, size_t usable, int event) {
    struct memopt_tally *tally = thread;
    (void)self, (void)p;
    assert_int_equal(usable, event == MEMOPT_EVENT_RESTORE ? size : size + 8);
    tell("+%d ", event);
    if (event == MEMOPT_EVENT_MALLOC && size < MEMOPT_TALLY_SMALL)
        tally->small[size]++;
    tally->allocated += usable;
    if (tally->ceiling == 0) {
        tally->ceiling = INT64_MAX;
        tally->floor = INT64_MIN;
    }
}
static void t_free(void *self, void *thread, void *p, size_t usable, int event) {
    struct memopt_tally *tally = thread;
    (void)self, (void)p;
    tell("-%d ", event);
    tally->frees++;
    tally->freed += usable;
}
static void t_refused(void *self, void *thread, size_t size, int event) {
    (void)self, (void)thread, (void)size;
    tell("!%d ", event);
}
static int self_of_tracker;
static void t_bounds(void *self, void *thread) {
    struct memopt_tally *tally = thread;
    assert_ptr_equal(self, &self_of_tracker);
    tell("bounds%d ", (int)(tally->allocated - tally->freed));
    tally->ceiling = INT64_MAX;
    tally->floor = INT64_MIN;
}
static const struct memopt_tracker_ops ops = {
    .size = sizeof(ops),
    .thread_size = sizeof(struct memopt_tally),
    .alloc = t_alloc,
    .free = t_free,
    .refused = t_refused,
    .bounds = t_bounds,
};
static struct mo_link link_of_tracker = {.self = &self_of_tracker, .ops = &ops};

static struct memopt_tally *own_tally(void) {
    return (struct memopt_tally *)(void *)((char *)mo_track_self() + link_of_tracker.offset);
}

static char directory[] = "/tmp/memopt-test-XXXXXX";

static int start(void **state) {
    (void)state;
    struct mo_ledger_plan plan = {
        .directory = mkdtemp(directory), .binding = 2, .tracker_count = 1};
    plan.trackers[0].name = "counts";
    plan.trackers[0].ops = &ops;
    int at = plan.directory == NULL ? -1 : open(directory, O_RDONLY | O_DIRECTORY);
    int made = at < 0 ? -1 : mo_ledgers_make(at, NULL);
    close(at);
    if (made < 0 || mo_ledger_create(&plan, 0, NULL, NULL) < 0)
        return -1;
    link_of_tracker.offset = mo_ledger_thread_offset(0);
    mo_dispatch_switch(&(struct mo_dispatch_plan){
        .backend = &backend, .c_calls = true, .links = &link_of_tracker, .link_count = 1});
    return 0;
}

static int end(void **state) {
    (void)state;
    char command[100];
    snprintf(command, sizeof(command), "rm -r %s", directory);
    return system(command);
}

static void small_blocks_are_counted_in_place(void **state) {
    (void)state;
    void *first = mo_malloc(10);
    expect_told("+0 "); /* a thread's first event makes its slot */
    void *second = mo_malloc(10), *third = mo_malloc(0);
    expect_told("");
    struct memopt_tally *tally = own_tally();
    assert_int_equal(tally->small[10], 2);
    assert_int_equal(tally->small[0], 1);
    assert_int_equal(tally->allocated, 18 + 18 + 8);
    mo_free(first);
    mo_free(second);
    mo_free(third);
    mo_free(NULL);
    expect_told("");
    assert_int_equal(tally->frees, 3);
    assert_int_equal(tally->freed, tally->allocated);
}

static void other_events_are_told(void **state) {
    (void)state;
    struct memopt_tally *tally = own_tally();
    uint64_t frees = tally->frees;
    mo_free(mo_malloc(MEMOPT_TALLY_SMALL));
    expect_told("+0 ");
    mo_free(mo_calloc(2, 5));
    expect_told("+1 ");
    void *p = mo_aligned_alloc(64, 5);
    expect_told("+2 ");
    p = mo_realloc(p, 50);
    expect_told("-3 +3 ");
    refuse = 1;
    assert_null(mo_realloc(p, 60));
    expect_told("-3 +5 !3 ");
    errno = 0;
    assert_null(mo_malloc(7));
    assert_int_equal(errno, ENOMEM);
    expect_told("!0 ");
    refuse = 0;
    mo_free(p);
    expect_told("");
    assert_int_equal(tally->frees, frees + 3 + 2);
}

/* Of small blocks only once, where the backend says that this is enough. */
static void usable_sizes_are_learned(void **state) {
    (void)state;
    void *p[4] = {mo_malloc(299), mo_malloc(299), mo_malloc(300), mo_malloc(300)};
    asked = 0;
    mo_free(p[0]);
    assert_int_equal(asked, 1); /* each free asks */
    for (int i = 0; i < 8; i++)
        mo_free(mo_malloc(299));
    assert_int_equal(asked, 9);
    mo_free(mo_calloc(1, 299));
    assert_int_equal(asked, 10);
    mo_free(mo_malloc(300));
    assert_int_equal(asked, 12);
    for (int i = 1; i < 4; i++)
        mo_free(p[i]);
    struct memopt_tally *tally = own_tally();
    assert_int_equal(tally->allocated - tally->freed, 0);
    told[0] = '\0';
}

static void bounds_are_kept(void **state) {
    (void)state;
    struct memopt_tally *tally = own_tally();
    int64_t live = (int64_t)(tally->allocated - tally->freed);
    tally->ceiling = live + 100;
    void *first = mo_malloc(92);
    expect_told(""); /* 100: not above */
    void *second = mo_malloc(0);
    expect_told("bounds108 ");
    tally->floor = live + 100;
    mo_free(second);
    expect_told("");
    mo_free(first);
    expect_told("bounds0 ");
}

static void *in_a_thread(void *unused) {
    (void)unused;
    void *p = mo_malloc(33);
    mo_free(mo_malloc(33));
    mo_free(p);
    struct memopt_tally *tally = own_tally();
    return tally->small[33] == 2 && tally->frees == 2 ? tally : NULL;
}

static void each_thread_has_its_own(void **state) {
    (void)state;
    pthread_t thread;
    void *tally;
    uint64_t before = own_tally()->small[33];
    assert_int_equal(pthread_create(&thread, NULL, in_a_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, &tally), 0);
    expect_told("+0 ");
    assert_non_null(tally);
    assert_ptr_not_equal(tally, own_tally());
    assert_int_equal(own_tally()->small[33], before);
}

static void *(*old_malloc)(size_t size);
static void *(*old_calloc)(size_t count, size_t size);
static void (*old_free)(void *p);
static void *use_the_old(void *unused) {
    for (int i = 0; i < 3; i++) {
        old_free(old_malloc(20));
        old_free(old_malloc(2000));
        old_free(old_calloc(20, 2));
    }
    return unused;
}

/* The program's calls may lead to the operations themselves (preload/rebind.c). */
static void nothing_counts_once_stopped(void **state) {
    (void)state;
    struct memopt_tally *tally = own_tally(), before = *tally;
    uint32_t slots = mo_ledger()->threads_grown;
    old_malloc = mo_dispatch.malloc;
    old_calloc = mo_dispatch.calloc;
    old_free = mo_dispatch.free;
    mo_dispatch_untrack();
    assert_ptr_equal(mo_dispatch.malloc, with_size);
    use_the_old(NULL);
    refuse = 1;
    assert_null(old_malloc(5));
    refuse = 0;
    pthread_t threads[20];
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_the_old, NULL), 0);
    for (size_t i = 0; i < 20; i++)
        pthread_join(threads[i], NULL);
    expect_told("");
    assert_memory_equal(tally, &before, sizeof(before));
    assert_int_equal(mo_ledger()->threads_grown, slots);
}

int main(void) {
    /* In order: the switch cannot be undone. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_blocks_are_counted_in_place),
        cmocka_unit_test(other_events_are_told),
        cmocka_unit_test(usable_sizes_are_learned),
        cmocka_unit_test(bounds_are_kept),
        cmocka_unit_test(each_thread_has_its_own),
        cmocka_unit_test(nothing_counts_once_stopped),
    };
    return cmocka_run_group_tests(tests, start, end);
}
