/* test_tally.c - what is counted, against a plain model: counts, live, exact
 * and bounded peaks, the histogram, threads that end, forks, refused calls, and
 * records with nonsense in them. The ledger is the test's own. */
#include "core/account/account.h"
#include "core/account/read.h"
#include "core/ledger/writer.h"
#include "core/model/report.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { SLOTS = 6, BATCH = MO_TALLY_BATCH };

/* As a slot of the ledger is. Slot 0: the threads that have ended. */
struct slot {
    struct mo_ledger_thread head;
    struct mo_tally tally;
};
struct world {
    struct mo_ledger_header header;
    struct slot *slots;
    struct memopt_report *report;
    struct memopt_process out;
};

/* What count.c has of the ledger and of its neighbours. */
static struct world *now;
struct mo_account mo_account = {
    .counts = true, .wants_usable = true, .counts_at = offsetof(struct slot, tally)};
__thread struct mo_account_thread mo_own;
struct mo_ledger_header *mo_ledger(void) {
    return &now->header;
}
void *mo_ledger_slot(uint64_t index) {
    return index < SLOTS ? &now->slots[index] : NULL;
}

static void world_open(struct world *world) {
    memset(world, 0, sizeof(*world));
    now = world;
    world->slots = aligned_alloc(64, SLOTS * sizeof(world->slots[0]));
    assert_non_null(world->slots);
    memset(world->slots, 0, SLOTS * sizeof(world->slots[0]));
    struct mo_area *areas = world->header.areas;
    areas[MO_THREADS].unit = sizeof(struct slot);
    strcpy(areas[MO_CORE_AREAS].name, MO_TALLY_NAME);
    areas[MO_CORE_AREAS].version = MO_TALLY_VERSION;
    areas[MO_CORE_AREAS].unit = sizeof(struct mo_tally);
    areas[MO_CORE_AREAS].offset = offsetof(struct slot, tally);
    areas[MO_CORE_AREAS].flags = MO_AREA_IN_SLOT;
    assert_int_equal(mo_report_new(&world->report, NULL), 0);
}

static void world_close(struct world *world) {
    free(world->slots);
    mo_report_free(world->report);
}

static struct mo_ledger_copy copy_of(struct world *world) {
    struct mo_ledger_copy copy = {.header = world->header, .thread_count = SLOTS};
    copy.slot_size = sizeof(struct slot);
    copy.areas[MO_THREADS].bytes = (unsigned char *)world->slots;
    copy.areas[MO_THREADS].size = SLOTS * sizeof(struct slot);
    return copy;
}

static const struct memopt_counts *world_read(struct world *world) {
    struct mo_ledger_copy copy = copy_of(world);
    struct memopt_error error = MEMOPT_ERROR_INIT;
    mo_process_init(&world->out);
    assert_int_equal(mo_counts_read(&copy, world->report, &world->out, &error), 0);
    assert_true(world->out.has_counts);
    return &world->out.counts;
}

static struct mo_tally *tally_of(struct world *world, int slot) {
    world->slots[slot].head.tid = 1000 + slot;
    return &world->slots[slot].tally;
}

static void give(struct world *world, int slot, size_t size, size_t usable, int event) {
    mo_count_alloc(tally_of(world, slot), size, usable, event);
}

static void take(struct world *world, int slot, size_t usable, int event) {
    (void)event;
    mo_count_free(tally_of(world, slot), usable);
}

static void end_thread(struct world *world, int slot) {
    mo_count_fold(&world->slots[0].tally, &world->slots[slot].tally);
    world->slots[slot].head.tid = 0;
}

/* The world becomes that of its forked child. */
static void become_the_child(struct world *world) {
    mo_account_before_fork();
    memset(world->slots, 0, SLOTS * sizeof(world->slots[0]));
    memset(&world->header.totals, 0, sizeof(world->header.totals));
    mo_count_in_child();
}

static uint64_t random_state = 88172645463325252u;
static uint64_t random_below(uint64_t limit) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % limit;
}

/* ------------------------------------------------------------------- tests */

static void test_counts_by_kind(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    give(&world, 1, 10, 24, MEMOPT_EVENT_MALLOC);
    give(&world, 1, 20, 24, MEMOPT_EVENT_CALLOC);
    give(&world, 1, 30, 40, MEMOPT_EVENT_ALIGNED);
    take(&world, 1, 24, MEMOPT_EVENT_REALLOC); /* realloc(10 -> 100) */
    give(&world, 1, 100, 104, MEMOPT_EVENT_REALLOC);
    take(&world, 1, 40, MEMOPT_EVENT_FREE);
    world.slots[1].tally.failures++;
    const struct memopt_counts *counts = world_read(&world);
    assert_int_equal(counts->allocations, 4);
    assert_int_equal(counts->frees, 2);
    assert_int_equal(counts->zeroed, 1);
    assert_int_equal(counts->aligned, 1);
    assert_int_equal(counts->reallocations, 1);
    assert_int_equal(counts->failures, 1);
    assert_int_equal(counts->bytes_requested, 160);
    assert_int_equal(counts->bytes_allocated, 192);
    assert_int_equal(counts->bytes_freed, 64);
    assert_int_equal(counts->live_bytes, 128);
    assert_int_equal(counts->live_blocks, 2);
    assert_int_equal(counts->peak_bytes, 168);
    assert_int_equal(counts->peak_error, 0);
    assert_int_equal(world.out.thread_count, 1);
    assert_int_equal(world.out.threads[0].tid, 1001);
    assert_int_equal(world.out.threads[0].counts.peak_bytes, 168);
    world_close(&world);
}

/* A realloc that failed leaves everything as it was. */
static void test_restore(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    give(&world, 1, 100, 104, MEMOPT_EVENT_MALLOC);
    struct memopt_counts before = *world_read(&world);
    take(&world, 1, 104, MEMOPT_EVENT_REALLOC);
    give(&world, 1, 104, 104, MEMOPT_EVENT_RESTORE);
    assert_memory_equal(world_read(&world), &before, sizeof(before));
    world_close(&world);
}

/* Each size in the bin whose range has it; ranges meet and widen by a quarter. */
static void test_histogram(void **state) {
    (void)state;
    enum { ALL = 5000 };
    struct world world;
    world_open(&world);
    for (size_t size = 0; size <= ALL; size++)
        give(&world, 1, size, size, MEMOPT_EVENT_MALLOC);
    world_read(&world);
    uint64_t next = 0, sum = 0;
    for (size_t i = 0; i < world.out.histogram_count; i++) {
        const struct memopt_histogram_bin *bin = &world.out.histogram[i];
        assert_int_equal(bin->min, next);
        assert_true(bin->max >= bin->min);
        assert_true(bin->max - bin->min + 1 <= bin->min / 4 + (bin->min < 8));
        next = bin->max + 1;
        uint64_t last = bin->max < ALL ? bin->max : ALL;
        assert_int_equal(bin->allocations, last - bin->min + 1);
        assert_int_equal(bin->bytes, (bin->min + last) * (last - bin->min + 1) / 2);
        sum += bin->allocations;
    }
    assert_int_equal(sum, ALL + 1);
    world_close(&world);

    static const uint64_t sizes[] = {4096,      1 << 20,           (1 << 20) - 1, (uint64_t)7 << 44,
                                     INT64_MAX, (uint64_t)1 << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        world_open(&world);
        give(&world, 1, sizes[i], 0, MEMOPT_EVENT_MALLOC);
        world_read(&world);
        assert_int_equal(world.out.histogram_count, 1);
        assert_true(world.out.histogram[0].min <= sizes[i]);
        assert_true(world.out.histogram[0].max >= sizes[i]);
        assert_true(world.out.histogram[0].max - world.out.histogram[0].min < sizes[i] / 4);
        world_close(&world);
    }
}

/* One thread: whatever it does, all is exact. */
static void test_one_thread_is_exact(void **state) {
    (void)state;
    for (int round = 0; round < 3; round++) {
        struct world world;
        world_open(&world);
        uint32_t blocks[512];
        size_t n = 0;
        int64_t live = 0, peak = 0;
        for (int i = 0; i < 20000; i++) {
            if (n == 512 || (n > 0 && random_below(100) < (i / 2000 % 2 ? 60u : 40u))) {
                size_t which = random_below(n);
                take(&world, 1, blocks[which], MEMOPT_EVENT_FREE);
                live -= blocks[which];
                blocks[which] = blocks[--n];
            } else {
                blocks[n] = (uint32_t)random_below(random_below(10) == 0 ? 100000 : 200) + 1;
                give(&world, 1, blocks[n], blocks[n], MEMOPT_EVENT_MALLOC);
                live += blocks[n++];
            }
            if (live > peak)
                peak = live;
            if (i % 500 == 0) { /* at any moment, not only at the end */
                const struct memopt_counts *counts = world_read(&world);
                assert_int_equal(counts->live_bytes, live);
                assert_int_equal(counts->peak_bytes, peak);
                assert_int_equal(counts->live_blocks, n);
                assert_int_equal(counts->peak_error, 0);
            }
        }
        world_close(&world);
    }
}

/* Threads one after the other, each alone: still exact. */
static void test_threads_in_turn_are_exact(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    give(&world, 1, 1000, 1000, MEMOPT_EVENT_MALLOC);
    give(&world, 1, 500, 500, MEMOPT_EVENT_MALLOC);
    take(&world, 1, 500, MEMOPT_EVENT_FREE);
    end_thread(&world, 1);
    assert_int_equal(world_read(&world)->peak_bytes, 1500);
    give(&world, 2, 300, 300, MEMOPT_EVENT_MALLOC);
    give(&world, 2, 400, 400, MEMOPT_EVENT_MALLOC);
    take(&world, 2, 1000, MEMOPT_EVENT_FREE); /* what the other one allocated */
    const struct memopt_counts *counts = world_read(&world);
    assert_int_equal(counts->live_bytes, 700);
    assert_int_equal(counts->peak_bytes, 1700);
    assert_int_equal(counts->peak_error, 0);
    assert_int_equal(counts->live_blocks, 2);
    assert_int_equal(world.out.thread_count, 2);
    assert_int_equal(world.out.threads[0].tid, 0);
    assert_int_equal(world.out.threads[0].counts.allocations, 2);
    assert_true(world.out.threads[0].counts.peak_bytes == MEMOPT_UNKNOWN);
    assert_int_equal(world.out.threads[1].counts.live_bytes, -300);
    end_thread(&world, 2);
    counts = world_read(&world);
    assert_int_equal(counts->live_bytes, 700);
    assert_int_equal(counts->peak_bytes, 1700);
    assert_int_equal(counts->allocations, 4);
    assert_int_equal(counts->frees, 2);
    world_close(&world);
}

/* Several at once, freeing each other's blocks and ending: counts stay exact,
 * the peak is within the error that is stated, and that is what is promised. */
static void test_many_threads_are_bounded(void **state) {
    (void)state;
    for (uint32_t largest = 500; largest <= 500000; largest *= 10) {
        struct world world;
        world_open(&world);
        uint32_t blocks[2048];
        size_t n = 0;
        int64_t live = 0, peak = 0;
        uint64_t calls = 0;
        for (int i = 0; i < 40000; i++) {
            int slot = 1 + (int)random_below(SLOTS - 1);
            if (n == 2048 || (n > 0 && random_below(100) < (i / 4000 % 2 ? 60u : 40u))) {
                size_t which = random_below(n);
                take(&world, slot, blocks[which], MEMOPT_EVENT_FREE);
                live -= blocks[which];
                blocks[which] = blocks[--n];
            } else {
                blocks[n] = (uint32_t)random_below(largest) + 1;
                give(&world, slot, blocks[n], blocks[n], MEMOPT_EVENT_MALLOC);
                live += blocks[n++];
                calls++;
            }
            if (live > peak)
                peak = live;
            if (i % 3000 == 2999)
                end_thread(&world, slot);
        }
        const struct memopt_counts *counts = world_read(&world);
        assert_int_equal(counts->live_bytes, live);
        assert_int_equal(counts->live_blocks, n);
        assert_int_equal(counts->allocations, calls);
        assert_in_range(counts->peak_error, 0, (SLOTS - 1) * BATCH);
        int64_t off = (int64_t)counts->peak_bytes - peak;
        assert_in_range(off < 0 ? -off : off, 0, counts->peak_error);
        world_close(&world);
    }
}

/* Threads that never have much: the error is no more than they could have had, all at
 * once, whatever the batch. Also in a child, which has its parent's blocks, and in its
 * child. */
static void test_small_threads_bound_the_error(void **state) {
    (void)state;
    enum { ROUNDS = 3, GENERATIONS = 3 };
    struct world world;
    world_open(&world);
    int64_t inherited = 0;
    for (int generation = 0; generation < GENERATIONS; generation++) {
        int64_t live = inherited, peak = inherited, own_peaks = 0;
        for (int round = 0; round < ROUNDS; round++) {
            int slots = round == ROUNDS - 1 ? 1 : SLOTS - 1; /* at last one alone */
            for (int slot = 1; slot <= slots; slot++) {
                give(&world, slot, 1000, 1000, MEMOPT_EVENT_MALLOC);
                own_peaks += 1000;
                live += 1000;
                peak = live > peak ? live : peak;
            }
            for (int slot = 1; slot < slots; slot++) {
                take(&world, slot, 1000, MEMOPT_EVENT_FREE);
                live -= 1000;
            }
            const struct memopt_counts *counts = world_read(&world);
            int64_t off = (int64_t)counts->peak_bytes - peak;
            assert_in_range(off < 0 ? -off : off, 0, counts->peak_error);
            assert_in_range(counts->peak_error, 0, own_peaks);
            assert_in_range(peak, live, inherited + own_peaks);
            for (int slot = 1; slot <= slots; slot++)
                if (round < ROUNDS - 1)
                    end_thread(&world, slot);
        }
        become_the_child(&world);
        inherited = live;
        assert_int_equal(world_read(&world)->peak_bytes, inherited);
        assert_int_equal(world_read(&world)->peak_error, 0);
    }
    world_close(&world);
}

/* Real threads: nothing is lost, nothing races. */
struct worker {
    struct world *world;
    int slot;
};
static void *work(void *worker_) {
    struct worker *worker = worker_;
    struct mo_tally *tally = &worker->world->slots[worker->slot].tally;
    for (int i = 0; i < 50000; i++) {
        mo_count_alloc(tally, 100, 112, MEMOPT_EVENT_MALLOC);
        if (i % 4 != 0)
            mo_count_free(tally, 112);
    }
    return NULL;
}
static void test_threads_at_once(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    pthread_t threads[SLOTS];
    struct worker workers[SLOTS];
    for (int i = 1; i < SLOTS; i++) {
        workers[i] = (struct worker){&world, i};
        world.slots[i].head.tid = i;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 1; i < SLOTS; i++)
        pthread_join(threads[i], NULL);
    const struct memopt_counts *counts = world_read(&world);
    assert_int_equal(counts->allocations, (SLOTS - 1) * 50000);
    assert_int_equal(counts->live_blocks, (SLOTS - 1) * 12500);
    assert_int_equal(counts->live_bytes, (SLOTS - 1) * 12500 * 112);
    assert_in_range(counts->peak_bytes, (uint64_t)counts->live_bytes,
                    (uint64_t)counts->live_bytes + 112 * (SLOTS - 1) + counts->peak_error);
    world_close(&world);
}

/* A child has its parent's blocks, and starts counting at nothing. */
static void test_fork(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    give(&world, 1, 90, 100, MEMOPT_EVENT_MALLOC);
    give(&world, 2, 90000, 100000, MEMOPT_EVENT_MALLOC);
    give(&world, 3, 9, 10, MEMOPT_EVENT_MALLOC);
    end_thread(&world, 3);
    give(&world, 2, 50000, 50000, MEMOPT_EVENT_MALLOC);
    take(&world, 2, 50000, MEMOPT_EVENT_FREE);
    become_the_child(&world);
    const struct memopt_counts *counts = world_read(&world);
    assert_int_equal(counts->live_bytes, 100110);
    assert_int_equal(counts->live_blocks, 3);
    assert_int_equal(counts->peak_bytes, 100110);
    assert_int_equal(counts->peak_error, 0);
    assert_int_equal(counts->allocations, 0);
    assert_int_equal(counts->frees, 0);
    assert_int_equal(world.out.histogram_count, 0);
    assert_int_equal(world.out.thread_count, 0);

    take(&world, 2, 100, MEMOPT_EVENT_FREE); /* a block of the parent's */
    give(&world, 2, 400, 400, MEMOPT_EVENT_MALLOC);
    counts = world_read(&world);
    assert_int_equal(counts->live_bytes, 100410);
    assert_int_equal(counts->peak_bytes, 100410);
    assert_int_equal(counts->live_blocks, 3);
    assert_int_equal(counts->allocations, 1);
    assert_int_equal(counts->bytes_allocated, 400);

    /* And a child of the child. */
    become_the_child(&world);
    counts = world_read(&world);
    assert_int_equal(counts->live_bytes, 100410);
    assert_int_equal(counts->live_blocks, 3);
    assert_int_equal(counts->allocations, 0);
    world_close(&world);
}

static void test_keeps_errno(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    errno = 4711;
    give(&world, 1, 90, 100, MEMOPT_EVENT_MALLOC);
    take(&world, 1, 100, MEMOPT_EVENT_REALLOC);
    give(&world, 1, 100, 100, MEMOPT_EVENT_RESTORE);
    end_thread(&world, 1);
    assert_int_equal(errno, 4711);
    world_close(&world);
}

/* A ledger that a broken program wrote over: any numbers, but no harm. */
static void test_nonsense(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < SLOTS; i++) {
            for (size_t at = 0; at < sizeof(struct mo_tally); at += 8)
                *(uint64_t *)(void *)((char *)&world.slots[i].tally + at) =
                    round == 0 ? UINT64_MAX : random_below(UINT64_MAX) << random_below(64);
            world.slots[i].head.tid = (int64_t)i;
        }
        for (size_t at = 0; at < sizeof(world.header.totals); at += 8)
            *(uint64_t *)(void *)((char *)&world.header.totals + at) =
                round == 0 ? (uint64_t)INT64_MAX : random_below(UINT64_MAX);
        world_read(&world);
    }
    struct memopt_error error = MEMOPT_ERROR_INIT;
    for (int which = 0; which < 2; which++) {
        struct mo_ledger_copy copy = copy_of(&world);
        *(which ? &copy.header.areas[MO_CORE_AREAS].unit
                : &copy.header.areas[MO_CORE_AREAS].version) -= 1;
        assert_int_equal(mo_counts_read(&copy, world.report, &world.out, &error), -EPROTONOSUPPORT);
        assert_non_null(strstr(error.message, "left out"));
    }
    world_close(&world);
}

static int allocations_left;
static void *scarce(void *arena, size_t size) {
    (void)arena;
    static char memory[8][16384];
    return allocations_left-- > 0 && size <= sizeof(memory[0]) ? memory[allocations_left] : NULL;
}

static void test_out_of_memory(void **state) {
    (void)state;
    struct world world;
    world_open(&world);
    give(&world, 1, 10, 24, MEMOPT_EVENT_MALLOC);
    struct memopt_report report = {.alloc = scarce};
    struct mo_ledger_copy copy = copy_of(&world);
    struct memopt_error error = MEMOPT_ERROR_INIT;
    int r = -ENOMEM, tries = 0;
    for (; r < 0; tries++) {
        allocations_left = tries;
        mo_process_init(&world.out);
        r = mo_counts_read(&copy, &report, &world.out, &error);
        assert_true(r == 0 || (r == -ENOMEM && !world.out.has_counts));
    }
    assert_int_equal(tries, 3); /* threads, bins, then success */
    world_close(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_by_kind),
        cmocka_unit_test(test_restore),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_one_thread_is_exact),
        cmocka_unit_test(test_threads_in_turn_are_exact),
        cmocka_unit_test(test_many_threads_are_bounded),
        cmocka_unit_test(test_small_threads_bound_the_error),
        cmocka_unit_test(test_threads_at_once),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_keeps_errno),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("tally", tests, NULL, NULL);
}
