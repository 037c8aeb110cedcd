/* test_counted.c - where all that is wanted is counts: what each event counts, when the
 * backend is asked for usable sizes, a forked child's counts, and what is left when counting
 * stops. */
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
#include <sys/wait.h>
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

static const struct memopt_tracker_ops ops = {.size = sizeof(ops), .flags = MEMOPT_TRACKER_COUNTS};
static struct mo_link link_of_tracker = {.name = "counter", .ops = &ops};

static struct mo_tally *own_tally(void) {
    return mo_own.tally;
}

static char directory[] = "/tmp/memopt-test-XXXXXX";

static int start(void **state) {
    (void)state;
    static struct mo_slot_state states[2];
    struct mo_ledger_plan plan = {.directory = mkdtemp(directory),
                                  .binding = 2,
                                  .states = states,
                                  .state_count = mo_account_states(&link_of_tracker, 1, states),
                                  .fold = mo_account_fold};
    int at = plan.directory == NULL ? -1 : open(directory, O_RDONLY | O_DIRECTORY);
    int made = at < 0 ? -1 : mo_ledgers_make(at, NULL);
    close(at);
    if (made < 0 || mo_ledger_create(&plan, 0, NULL, NULL) < 0)
        return -1;
    link_of_tracker.offset = states[1].offset;
    mo_account_start(&link_of_tracker, 1, states);
    mo_dispatch_switch(&(struct mo_dispatch_plan){
        .backend = &backend, .c_calls = true, .tracks = true, .keeps = true});
    return 0;
}

static int end(void **state) {
    (void)state;
    char command[100];
    snprintf(command, sizeof(command), "rm -r %s", directory);
    return system(command);
}

static void small_blocks(void **state) {
    (void)state;
    assert_null(own_tally()); /* a thread's first event makes its slot */
    void *first = mo_malloc(10);
    struct mo_tally *tally = own_tally();
    assert_non_null(tally);
    void *second = mo_malloc(10), *third = mo_malloc(0);
    assert_int_equal(tally->small[10], 2);
    assert_int_equal(tally->small[0], 1);
    assert_int_equal(tally->allocated, 18 + 18 + 8);
    mo_free(first);
    mo_free(second);
    mo_free(third);
    mo_free(NULL);
    assert_int_equal(tally->frees, 3);
    assert_int_equal(tally->freed, tally->allocated);
}

static void other_events(void **state) {
    (void)state;
    struct mo_tally *tally = own_tally(), before = *tally;
    mo_free(mo_malloc(MO_TALLY_SMALL));
    struct mo_bin *bin = &tally->bins[mo_bin_of(MO_TALLY_SMALL) - MO_TALLY_SMALL_BINS];
    assert_int_equal(bin->allocations, 1);
    assert_int_equal(bin->bytes, MO_TALLY_SMALL);
    mo_free(mo_calloc(2, 5));
    assert_int_equal(tally->events[MEMOPT_EVENT_CALLOC], 1);
    void *p = mo_aligned_alloc(64, 5);
    assert_int_equal(tally->events[MEMOPT_EVENT_ALIGNED], 1);
    p = mo_realloc(p, 50);
    assert_int_equal(tally->events[MEMOPT_EVENT_REALLOC], 1);
    assert_int_equal(tally->frees, before.frees + 3);
    int64_t live = mo_tally_live(tally);
    assert_int_equal(live, 58);
    refuse = 1;
    assert_null(mo_realloc(p, 60)); /* which lives on */
    assert_int_equal(mo_tally_live(tally), live);
    assert_int_equal(tally->frees, before.frees + 3);
    errno = 0;
    assert_null(mo_malloc(7));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(tally->failures, 2);
    refuse = 0;
    mo_free(p);
    assert_int_equal(mo_tally_live(tally), 0);
    assert_int_equal(mo_tally_allocations(tally), tally->frees);
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
    struct mo_tally *tally = own_tally();
    assert_int_equal(tally->allocated - tally->freed, 0);
}

/* The thread's peak is exact, and the process's is within a batch. */
static void peaks(void **state) {
    (void)state;
    struct mo_tally *tally = own_tally();
    int64_t peak = tally->peak;
    assert_true(peak >= 58);
    void *first = mo_malloc(1000), *second = mo_malloc((size_t)peak);
    assert_int_equal(tally->peak, 1000 + 8 + peak + 8);
    mo_free(second);
    mo_free(first);
    assert_int_equal(tally->peak, 1000 + 8 + peak + 8);
    first = mo_malloc(3 * MO_TALLY_BATCH);
    assert_in_range(mo_ledger()->totals.live, 2 * MO_TALLY_BATCH, 3 * MO_TALLY_BATCH + 8);
    mo_free(first);
    assert_true(mo_ledger()->totals.live <= MO_TALLY_BATCH);
    assert_in_range(mo_ledger()->totals.peak, 2 * MO_TALLY_BATCH, 3 * MO_TALLY_BATCH + 8);
    assert_int_equal(mo_ledger()->totals.threads, 1);
}

/* What named heaps do is counted with the rest; a heap that goes takes its blocks along. */
static void named_heaps(void **state) {
    (void)state;
    struct mo_tally *tally = own_tally(), before = *tally;
    mo_account_alloc(3, &before, 100, 108, MEMOPT_EVENT_MALLOC);
    mo_account_alloc(3, &before, 10, 18, MEMOPT_EVENT_CALLOC);
    mo_account_alloc(3, &before, 10, 18, MEMOPT_EVENT_ALIGNED);
    assert_int_equal(mo_tally_live(tally), 144);
    mo_account_free(3, &before, 18, MEMOPT_EVENT_FREE);
    mo_account_destroy(3, 2, 126);
    mo_account_refused(3, 5, MEMOPT_EVENT_MALLOC);
    assert_int_equal(mo_tally_live(tally), 0);
    assert_int_equal(tally->frees, before.frees + 3);
    assert_int_equal(mo_tally_allocations(tally), mo_tally_allocations(&before) + 3);
    assert_int_equal(tally->failures, before.failures + 1);
}

/* What memopt itself asks malloc for is not the program's, whoever frees it and when. */
static void what_is_memopts_own(void **state) {
    (void)state;
    struct mo_tally before = *own_tally();
    mo_own_begin();
    char *p = mo_malloc(100), *q = mo_calloc(10, 10), *r = mo_aligned_alloc(256, 100);
    assert_true(mo_is_reserved(p) && mo_is_reserved(q) && mo_is_reserved(r));
    assert_int_equal((uintptr_t)r % 256, 0);
    mo_own_begin(); /* they nest */
    mo_own_end();
    memset(p, 7, 100);
    p = mo_realloc(p, 5000);
    assert_true(mo_is_reserved(p) && p[99] == 7);
    mo_free(q);
    char *again = mo_calloc(1, 128);
    assert_ptr_equal(again, q);
    assert_int_equal(again[0], 0);
    mo_own_end();
    assert_memory_equal(own_tally(), &before, sizeof(before));
    mo_free(p);
    mo_free(r);
    assert_memory_equal(own_tally(), &before, sizeof(before));
    char *programs = mo_malloc(100);
    assert_false(mo_is_reserved(programs));
    again = mo_realloc(again, 200); /* grows outside: it becomes the program's */
    assert_false(mo_is_reserved(again));
    mo_free(again);
    mo_free(programs);
    assert_int_equal(own_tally()->frees, before.frees + 2);
    assert_int_equal(mo_tally_live(own_tally()), mo_tally_live(&before));
}

static void *in_a_thread(void *unused) {
    (void)unused;
    void *p = mo_malloc(33);
    mo_free(mo_malloc(33));
    mo_free(p);
    struct mo_tally *tally = own_tally();
    return tally->small[33] == 2 && tally->frees == 2 ? tally : NULL;
}

static void each_thread_has_its_own(void **state) {
    (void)state;
    pthread_t thread;
    void *tally;
    uint64_t before = own_tally()->small[33];
    assert_int_equal(pthread_create(&thread, NULL, in_a_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, &tally), 0);
    assert_non_null(tally);
    assert_ptr_not_equal(tally, own_tally());
    assert_int_equal(own_tally()->small[33], before);
}

/* What has its own in the parent's areas goes on for a moment where fork() was called in a
 * handler; and a thread that has no event in the child may end. */
static void leave(void) {
    _exit(0); /* without LeakSanitizer's look at what cmocka has */
}

static void *fork_and_end(void *unused) {
    mo_free(mo_malloc(20));
    struct mo_tally *parents = own_tally();
    char *slot = mo_own.slot;
    fflush(NULL);
    mo_account_before_fork();
    pid_t pid = fork();
    if (pid == 0) {
        if (mo_ledger_after_fork_child() != 0)
            _exit(1);
        mo_account_in_child();
        parents->small[20]++;
        parents->frees++;
        slot[0] = 1;
        atexit(leave);
        pthread_exit(NULL); /* the last of the child: it exits with 0 */
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(parents->small[20], 1);
    return unused;
}

static void a_child_of_a_handler(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fork_and_end, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* A child begins with the parent's live blocks and none of its calls. */
static void a_forked_child(void **state) {
    (void)state;
    void *p = mo_malloc(100);
    int64_t live = mo_tally_live(own_tally());
    fflush(NULL);
    mo_account_before_fork();
    pid_t pid = fork();
    if (pid == 0) {
        int bad = mo_ledger_after_fork_child() != 0;
        mo_account_in_child();
        const struct mo_ledger_totals *totals = &mo_ledger()->totals;
        bad |= own_tally() != NULL || totals->inherited_bytes < live || totals->inherited_blocks < 1;
        bad |= totals->live != totals->inherited_bytes || totals->peak != totals->live;
        mo_free(p);
        bad |= own_tally() == NULL || own_tally()->frees != 1 || own_tally()->freed != 108;
        _exit(bad);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(mo_tally_live(own_tally()), live);
    mo_free(p);
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

/* Somebody may have kept the addresses of the operations (preload/operators.c). */
static void nothing_counts_once_stopped(void **state) {
    (void)state;
    struct mo_tally *tally = own_tally(), before = *tally;
    uint64_t used = mo_ledger()->areas[MO_THREADS].used;
    old_malloc = mo_dispatch.malloc;
    old_calloc = mo_dispatch.calloc;
    old_free = mo_dispatch.free;
    mo_dispatch_untrack();
    mo_account_stop();
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
    assert_memory_equal(tally, &before, sizeof(before));
    assert_int_equal(mo_ledger()->areas[MO_THREADS].used, used);
}

int main(void) {
    /* In order: the switch cannot be undone. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_blocks),
        cmocka_unit_test(other_events),
        cmocka_unit_test(usable_sizes_are_learned),
        cmocka_unit_test(peaks),
        cmocka_unit_test(named_heaps),
        cmocka_unit_test(what_is_memopts_own),
        cmocka_unit_test(each_thread_has_its_own),
        cmocka_unit_test(a_forked_child),
        cmocka_unit_test(a_child_of_a_handler),
        cmocka_unit_test(nothing_counts_once_stopped),
    };
    return cmocka_run_group_tests(tests, start, end);
}
