/* test_dispatch.c - the boot range, the switch to a backend, glibc's semantics
 * over a backend that has none of them, and what trackers are told. */
#include "core/account/account.h"
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
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

/* A backend that writes down what it is asked and can be told to refuse. */
static char calls[4096];
static int refuse;

static void record(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t used = strlen(calls);
    vsnprintf(calls + used, sizeof(calls) - used, format, arguments);
    va_end(arguments);
}

static void *b_malloc(size_t size) {
    record("malloc(%zu) ", size);
    return refuse ? NULL : malloc(size);
}
static void *b_calloc(size_t count, size_t size) {
    record("calloc(%zu,%zu) ", count, size);
    return refuse ? NULL : calloc(count, size);
}
static void *b_realloc(void *p, size_t size) {
    record("realloc(%zu) ", size);
    return refuse ? NULL : realloc(p, size);
}
static void b_free(void *p) {
    record("free ");
    free(p);
}
static void *b_aligned_alloc(size_t alignment, size_t size) {
    record("aligned(%zu,%zu) ", alignment, size);
    return refuse ? NULL : memalign(alignment, size); /* any size, with ASan, too */
}
static size_t b_usable_size(void *p) {
    (void)p;
    return 111;
}
static const struct memopt_malloc backend = {
    .size = sizeof(backend),
    .malloc = b_malloc,
    .calloc = b_calloc,
    .realloc = b_realloc,
    .free = b_free,
    .aligned_alloc = b_aligned_alloc,
    .usable_size = b_usable_size,
};

#define expect_calls(text)                                                                         \
    do {                                                                                           \
        assert_string_equal(calls, text);                                                          \
        calls[0] = '\0';                                                                           \
    } while (0)

static void *boot_block;

static void before_the_switch_the_boot_range_serves(void **state) {
    (void)state;
    boot_block = mo_malloc(100);
    assert_non_null(boot_block);
    assert_true(mo_is_reserved(boot_block));
    assert_true(mo_usable_size(boot_block) >= 100);
    memset(boot_block, 'x', 100);
    for (size_t alignment = 16; alignment <= 1 << 21; alignment *= 2) {
        void *p = mo_aligned_alloc(alignment, 3);
        assert_int_equal((uintptr_t)p % alignment, 0);
        assert_true(mo_is_reserved(p));
    }
    unsigned char *zero = mo_calloc(1000, 3);
    for (size_t i = 0; i < 3000; i++)
        assert_int_equal(zero[i], 0);
    mo_free(zero);
    char *grown = mo_realloc(boot_block, 5000);
    assert_memory_equal(grown, "xxxxx", 5);
    assert_true(mo_is_reserved(grown));
    assert_ptr_equal(mo_realloc(grown, 10), grown);
    /* more than the range has, and more than its first step */
    errno = 0;
    assert_null(mo_malloc((size_t)1 << 40));
    assert_int_equal(errno, ENOMEM);
    assert_null(mo_malloc(SIZE_MAX));
    char *big = mo_malloc(5 << 20);
    memset(big, 1, 5 << 20);
    assert_false(mo_is_reserved(NULL));
    assert_true(mo_boot_used() > 5 << 20);
}

static struct mo_link links[2];

static void switch_to(bool c_calls, size_t link_count) {
    mo_dispatch_switch(&(struct mo_dispatch_plan){
        .backend = &backend, .c_calls = c_calls, .tracks = link_count > 0});
}

static void after_the_switch_the_backend_serves(void **state) {
    (void)state;
    switch_to(false, 0);
    void *p = mo_malloc(7);
    expect_calls("malloc(7) ");
    p = mo_realloc(p, 70);
    expect_calls("realloc(70) ");
    assert_int_equal(mo_usable_size(p), 111);
    mo_free(p);
    expect_calls("free ");
    p = mo_aligned_alloc(8, 16);
    expect_calls("malloc(16) "); /* a block as large as 16 is aligned to 16 */
    mo_free(p);
    expect_calls("free ");
    p = mo_aligned_alloc(16, 0);
    expect_calls("aligned(16,1) ");
    mo_free(p);
    p = mo_aligned_alloc(64, 5);
    mo_free(p);
    expect_calls("free aligned(64,5) free ");
}

static void glibc_semantics(void **state) {
    (void)state;
    mo_free(NULL);
    assert_int_equal(mo_usable_size(NULL), 0);
    expect_calls("");
    void *p = mo_realloc(NULL, 9);
    expect_calls("malloc(9) ");
    errno = 77;
    assert_null(mo_realloc(p, 0));
    assert_int_equal(errno, 77);
    expect_calls("free ");
    errno = 0;
    assert_null(mo_calloc(SIZE_MAX / 2, 3));
    assert_int_equal(errno, ENOMEM);
    expect_calls("");
    refuse = 1;
    static const char *const refused[] = {"malloc", "calloc", "aligned", "realloc"};
    p = malloc(5);
    for (size_t i = 0; i < 4; i++) {
        errno = 0;
        void *q = i == 0   ? mo_malloc(5)
                  : i == 1 ? mo_calloc(1, 5)
                  : i == 2 ? mo_aligned_alloc(64, 5)
                           : mo_realloc(p, 50);
        assert_null(q);
        assert_int_equal(errno, ENOMEM);
        assert_int_equal(strncmp(calls, refused[i], 6), 0);
        calls[0] = '\0';
    }
    refuse = 0;
    free(p);
}

static void the_switch_gives_the_rest_of_the_range_back(void **state) {
    (void)state;
    /* what is kept begins a little below the last block */
    uintptr_t from = mo_dispatch.boot_from;
    assert_true(mo_is_reserved((void *)from));
    assert_false(mo_is_reserved((void *)(from - 1)));
    assert_true((uintptr_t)boot_block > from);
    assert_true((uintptr_t)boot_block - from < mo_boot_used() + (1 << 20));
    unsigned char there;
    assert_int_equal(mincore((void *)(from - 4096), 1, &there), -1);
    assert_int_equal(errno, ENOMEM);
}

static void boot_blocks_never_reach_the_backend(void **state) {
    (void)state;
    assert_ptr_equal(mo_realloc(boot_block, 50), boot_block);
    char *p = mo_realloc(boot_block, 500);
    expect_calls("malloc(500) ");
    assert_false(mo_is_reserved(p));
    assert_memory_equal(p, "xxxxxxxxxx", 10);
    mo_free(p);
    expect_calls("free ");
    mo_free(boot_block);
    assert_true(mo_usable_size(boot_block) >= 100);
    assert_null(mo_realloc(boot_block, 0));
    expect_calls("");
}

/* Functions that are C's own are jumped to; others are looked after. */
static void c_calls(void **state) {
    (void)state;
    switch_to(true, 0);
    assert_ptr_equal(mo_dispatch.malloc, b_malloc);
    mo_free(NULL);
    expect_calls("free ");
    switch_to(false, 0);
    mo_free(NULL);
    expect_calls("");
}

/* Two trackers: the first has all operations, the second only free. */
struct seen {
    uint64_t allocs, frees, refusals, bytes;
};
static void t_alloc(void *self, void *thread, const struct memopt_event_info *info) {
    struct seen *seen = thread;
    assert_ptr_equal(self, &links);
    assert_non_null(info->p);
    assert_int_equal(info->size, sizeof(*info));
    assert_int_equal(info->usable, 111);
    assert_int_equal(info->heap, 0);
    assert_int_equal(info->weight, 1);
    record("+%d ", info->event);
    seen->allocs++;
    seen->bytes += info->asked;
}
static void t_free(void *self, void *thread, const struct memopt_event_info *info) {
    (void)self;
    assert_non_null(info->p);
    assert_int_equal(info->usable, 111);
    record("-%d ", info->event);
    ((struct seen *)thread)->frees++;
}
static void t_refused(void *self, void *thread, const struct memopt_event_info *info) {
    (void)self;
    assert_null(info->p);
    record("!%d ", info->event);
    ((struct seen *)thread)->refusals++;
}
static void t_thread_end(void *self, void *ended, void *thread) {
    (void)self;
    struct seen *to = ended, *from = thread;
    to->allocs += from->allocs;
    to->frees += from->frees;
    to->bytes += from->bytes;
}
static void t2_free(void *self, void *thread, const struct memopt_event_info *info) {
    (void)self, (void)thread, (void)info;
    record("2- ");
}
static const struct memopt_tracker_ops first = {
    .size = sizeof(first),
    .flags = MEMOPT_TRACKER_USABLE,
    .thread_size = sizeof(struct seen),
    .alloc = t_alloc,
    .free = t_free,
    .refused = t_refused,
    .thread_end = t_thread_end,
};
static const struct memopt_tracker_ops second = {
    .size = sizeof(second), .thread_size = 24, .free = t2_free};

static void trackers_see_every_block(void **state) {
    (void)state;
    char directory[] = "/tmp/memopt-test-XXXXXX";
    assert_non_null(mkdtemp(directory));
    int at = open(directory, O_RDONLY | O_DIRECTORY);
    assert_int_equal(mo_ledgers_make(at, NULL), 0);
    close(at);
    links[0] = (struct mo_link){.name = "first", .ops = &first, .self = &links};
    links[1] = (struct mo_link){.name = "second", .ops = &second, .self = &links};
    struct mo_slot_state states[3];
    assert_int_equal(mo_account_states(links, 2, states), 2); /* nobody wants counts */
    struct mo_ledger_plan plan = {.directory = directory,
                                  .binding = 2,
                                  .states = states,
                                  .state_count = 2,
                                  .fold = mo_account_fold};
    struct memopt_error error = MEMOPT_ERROR_INIT;
    assert_int_equal(mo_ledger_create(&plan, 0, NULL, &error), 0);
    for (size_t i = 0; i < 2; i++)
        links[i].offset = states[i].offset;
    mo_account_start(links, 2, states);
    switch_to(false, 2);

    mo_free(mo_realloc(NULL, 3));
    expect_calls("malloc(3) +3 -4 2- free ");
    void *p = mo_malloc(1);
    expect_calls("malloc(1) +0 ");
    p = mo_realloc(p, 2);
    expect_calls("-3 2- realloc(2) +3 "); /* untracked before, tracked after */
    refuse = 1;
    assert_null(mo_realloc(p, 4));
    expect_calls("-3 2- realloc(4) +5 !3 ");
    assert_null(mo_malloc(4));
    expect_calls("malloc(4) !0 ");
    refuse = 0;
    mo_free(p);
    expect_calls("-4 2- free ");
    mo_free(mo_calloc(2, 3));
    expect_calls("calloc(2,3) +1 -4 2- free ");
    mo_free(mo_aligned_alloc(32, 3));
    expect_calls("aligned(32,3) +2 -4 2- free ");

    struct seen *own = (struct seen *)(mo_own.slot + links[0].offset);
    assert_int_equal(own->allocs, 6); /* with the one that was restored */
    assert_int_equal(own->frees, 6);
    assert_int_equal(own->refusals, 2);
    assert_int_equal(own->bytes, 3 + 1 + 2 + 111 + 6 + 3);
    assert_int_equal(mo_ledger()->failures, 2);

    char command[100];
    snprintf(command, sizeof(command), "rm -r %s", directory);
    assert_int_equal(system(command), 0);
}

static void *allocate_once(void *unused) {
    (void)unused;
    mo_free(mo_malloc(1000));
    return mo_own.slot;
}

/* Slots of ended threads are folded and used again: many more threads than slots
 * come and go. */
static void ended_threads_are_folded(void **state) {
    (void)state;
    struct seen *ended =
        (struct seen *)((char *)mo_ledger_slot(0) + links[0].offset);
    uint64_t before = ended->bytes;
    for (int i = 0; i < 500; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, allocate_once, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        calls[0] = '\0';
    }
    const struct mo_area *threads = &mo_ledger()->areas[MO_THREADS];
    size_t slots = threads->used / threads->unit;
    assert_true(slots <= MO_LEDGERS_PAGE / threads->unit + MO_LEDGER_GROW);
    assert_true(ended->bytes - before >= 1000 * (500 - slots));
    assert_true(ended->bytes - before <= 1000 * 500);
}

int main(void) {
    /* In order: the switch cannot be undone. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_the_switch_the_boot_range_serves),
        cmocka_unit_test(after_the_switch_the_backend_serves),
        cmocka_unit_test(glibc_semantics),
        cmocka_unit_test(the_switch_gives_the_rest_of_the_range_back),
        cmocka_unit_test(boot_blocks_never_reach_the_backend),
        cmocka_unit_test(c_calls),
        cmocka_unit_test(trackers_see_every_block),
        cmocka_unit_test(ended_threads_are_folded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
