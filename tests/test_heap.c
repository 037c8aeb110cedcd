/*
 * test_heap.c - named heaps over every backend that was built.
 *
 * The backends that have a plugin file in the build tree must work; jemalloc
 * needs room for its thread-local storage, so the program starts itself again
 * with that in the environment.
 */
#include "config.h"

#include <memopt/memopt.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef __SANITIZE_THREAD__
enum { TSAN = 1 };
#else
enum { TSAN = 0 };
#endif

enum { REGION = 128 * 1024 * 1024 };

static const char *backend; /* the one under test */
static void *region;        /* for arena */

static int is_built(const char *name) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/plugins/.libs/alloc-%s.so", getenv("top_builddir"), name);
    return access(path, F_OK) == 0;
}

static struct memopt_heap *open_heap(const char *name, uint64_t limit) {
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_heap *heap = NULL;
    options.allocator = backend;
    options.limit = limit == 0 ? MEMOPT_NO_LIMIT : limit;
    if (strcmp(backend, "arena") == 0) {
        options.region = region;
        options.region_size = REGION;
    }
    if (memopt_heap_open(name, &options, &heap, &error) < 0)
        fail_msg("%s: %s", backend, error.message);
    return heap;
}

static struct memopt_heap_statistics stats_of(struct memopt_heap *heap) {
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    assert_int_equal(memopt_heap_stats(heap, &stats), 0);
    return stats;
}

static const size_t sizes[] = {0, 1, 15, 16, 17, 100, 1000, 4096, 5000, 70000, 1 << 20, 3000001};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void fill(void *p, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)p)[i] = (unsigned char)(i * 7 + seed);
}

static int holds(const void *p, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++)
        if (((const unsigned char *)p)[i] != (unsigned char)(i * 7 + seed))
            return 0;
    return 1;
}

/* ------------------------------------------------------------------ blocks */

static void blocks_are_usable(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("blocks", 0);
    void *p[COUNT(sizes)];
    for (size_t i = 0; i < COUNT(sizes); i++) {
        p[i] = memopt_heap_alloc(heap, sizes[i]);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % (sizes[i] < 16 ? 8 : 16), 0);
        assert_true(memopt_heap_usable_size(heap, p[i]) >= sizes[i]);
        fill(p[i], memopt_heap_usable_size(heap, p[i]), (unsigned)i);
    }
    for (size_t i = 0; i < COUNT(sizes); i++) {
        assert_true(holds(p[i], memopt_heap_usable_size(heap, p[i]), (unsigned)i));
        for (size_t j = 0; j < i; j++)
            assert_ptr_not_equal(p[i], p[j]);
    }
    for (size_t i = 0; i < COUNT(sizes); i++)
        memopt_heap_free(heap, p[i]);
    assert_int_equal(memopt_heap_usable_size(heap, NULL), 0);
    memopt_heap_free(heap, NULL);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

static void calloc_is_zero(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("calloc", 0);
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < COUNT(sizes); i++) {
            unsigned char *p = memopt_heap_calloc(heap, sizes[i], 1);
            assert_non_null(p);
            for (size_t k = 0; k < sizes[i]; k++)
                assert_int_equal(p[k], 0);
            memset(p, 0xff, sizes[i]);
            memopt_heap_free(heap, p);
        }
    errno = 0;
    volatile size_t half = SIZE_MAX / 2 + 1;
    assert_null(memopt_heap_calloc(heap, half, 2));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

static void realloc_keeps_contents(void **state) {
    (void)state;
    for (uint64_t limit = 0; limit <= 64 << 20; limit += 64 << 20) {
        struct memopt_heap *heap = open_heap("realloc", limit);
        for (size_t i = 0; i < COUNT(sizes); i++)
            for (size_t j = 0; j < COUNT(sizes); j++) {
                void *p = memopt_heap_realloc(heap, NULL, sizes[i]);
                assert_non_null(p);
                fill(p, sizes[i], 3);
                p = memopt_heap_realloc(heap, p, sizes[j]);
                if (sizes[j] == 0) {
                    assert_null(p);
                    continue;
                }
                assert_non_null(p);
                assert_int_equal((uintptr_t)p % (sizes[j] < 16 ? 8 : 16), 0);
                assert_true(memopt_heap_usable_size(heap, p) >= sizes[j]);
                assert_true(holds(p, sizes[i] < sizes[j] ? sizes[i] : sizes[j], 3));
                memopt_heap_free(heap, p);
            }
        assert_int_equal(stats_of(heap).live_bytes, 0);
        assert_int_equal(stats_of(heap).live_blocks, 0);
        void *p = memopt_heap_alloc(heap, 100);
        fill(p, 100, 9);
        for (volatile size_t huge = PTRDIFF_MAX; huge > PTRDIFF_MAX / 4; huge /= 2) {
            errno = 0;
            assert_null(memopt_heap_realloc(heap, p, huge));
            assert_int_equal(errno, ENOMEM);
            assert_true(holds(p, 100, 9));
        }
        memopt_heap_free(heap, p);
        assert_int_equal(stats_of(heap).live_blocks, 0);
        assert_int_equal(stats_of(heap).invalid_frees, 0);
        assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
    }
}

static void alignment_is_kept(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("aligned", 0);
    for (size_t alignment = 1; alignment <= 1 << 16; alignment *= 2)
        for (size_t i = 0; i < COUNT(sizes); i++) {
            void *p = memopt_heap_aligned_alloc(heap, alignment, sizes[i]);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % alignment, 0);
            assert_true(memopt_heap_usable_size(heap, p) >= sizes[i]);
            fill(p, memopt_heap_usable_size(heap, p), 5);
            p = memopt_heap_realloc(heap, p, sizes[i] + 1000);
            assert_non_null(p);
            assert_true(holds(p, sizes[i], 5));
            memopt_heap_free(heap, p);
        }
    static const size_t wrong[] = {0, 3, 24, SIZE_MAX};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        volatile size_t alignment = wrong[i];
        errno = 0;
        assert_null(memopt_heap_aligned_alloc(heap, alignment, 64));
        assert_int_equal(errno, EINVAL);
    }
    assert_int_equal(stats_of(heap).live_blocks, 0);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

static void too_large_is_enomem(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("large", 0);
    static const size_t large[] = {SIZE_MAX, SIZE_MAX - 4096, PTRDIFF_MAX, PTRDIFF_MAX - 16,
                                   PTRDIFF_MAX / 2};
    for (size_t i = 0; i < COUNT(large); i++) {
        volatile size_t size = large[i];
        errno = 0;
        assert_null(memopt_heap_alloc(heap, size));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(memopt_heap_aligned_alloc(heap, 4096, size));
        assert_int_equal(errno, ENOMEM);
    }
    struct memopt_heap_statistics stats = stats_of(heap);
    assert_int_equal(stats.failed, 2 * COUNT(large));
    assert_int_equal(stats.refused, 0);
    assert_int_equal(stats.live_bytes, 0);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

/* -------------------------------------------------------------- statistics */

static void statistics_add_up(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("stats", 0);
    void *p[600];
    uint64_t live = 0, top = 0;
    for (size_t i = 0; i < COUNT(p); i++) {
        p[i] = memopt_heap_alloc(heap, 1 + i * 37 % 3000);
        live += memopt_heap_usable_size(heap, p[i]);
    }
    top = live;
    struct memopt_heap_statistics stats = stats_of(heap);
    assert_string_equal(stats.name, "stats");
    assert_string_equal(stats.allocator, backend);
    assert_true(stats.limit == MEMOPT_NO_LIMIT);
    assert_int_equal(stats.live_bytes, live);
    assert_int_equal(stats.live_blocks, COUNT(p));
    assert_int_equal(stats.allocations, COUNT(p));
    assert_int_equal(stats.frees, 0);
    for (size_t i = 0; i < COUNT(p); i += 2) {
        live -= memopt_heap_usable_size(heap, p[i]);
        memopt_heap_free(heap, p[i]);
    }
    p[1] = (live -= memopt_heap_usable_size(heap, p[1]), memopt_heap_realloc(heap, p[1], 9000));
    live += memopt_heap_usable_size(heap, p[1]);
    stats = stats_of(heap);
    assert_int_equal(stats.live_bytes, live);
    assert_int_equal(stats.live_blocks, COUNT(p) / 2);
    assert_int_equal(stats.allocations, COUNT(p) + 1);
    assert_int_equal(stats.frees, COUNT(p) / 2 + 1);
    assert_int_equal(stats.peak_error, 64 * 1024);
    assert_true(stats.peak_bytes + stats.peak_error >= top);
    assert_true(stats.peak_bytes <= top + stats.peak_error);
#ifndef MO_SANITIZED /* its malloc has no figures */
    assert_true(stats.committed == MEMOPT_UNKNOWN || stats.committed > 0);
#endif
    assert_false(stats.fragmentation < 0 || stats.fragmentation > 1); /* NaN: unknown */
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

static void peak_is_exact_under_a_limit(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("peak", 32 << 20);
    uint64_t live = 0, top = 0;
    void *p[50] = {NULL};
    for (size_t i = 0; i < 400; i++) {
        void **slot = &p[i * 13 % COUNT(p)];
        live -= memopt_heap_usable_size(heap, *slot);
        memopt_heap_free(heap, *slot);
        *slot = memopt_heap_alloc(heap, i * 911 % 20000);
        live += memopt_heap_usable_size(heap, *slot);
        top = live > top ? live : top;
        assert_int_equal(stats_of(heap).live_bytes, live);
    }
    assert_int_equal(stats_of(heap).peak_bytes, top);
    assert_int_equal(stats_of(heap).peak_error, 0);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

static void stats_respect_the_size(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("size", 0);
    struct memopt_heap_statistics stats;
    memset(&stats, 0x55, sizeof(stats));
    stats.size = offsetof(struct memopt_heap_statistics, live_blocks);
    assert_int_equal(memopt_heap_stats(heap, &stats), 0);
    assert_int_equal(stats.live_bytes, 0);
    assert_int_equal(stats.live_blocks, 0x5555555555555555);
    stats.size = sizeof(stats) + 8;
    assert_int_equal(memopt_heap_stats(heap, &stats), -EINVAL);
    stats.size = 0;
    assert_int_equal(memopt_heap_stats(heap, &stats), -EINVAL);
    assert_int_equal(memopt_heap_stats(heap, NULL), -EINVAL);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

/* ------------------------------------------------------------------- limit */

static void limit_is_never_exceeded(void **state) {
    (void)state;
    const uint64_t limit = 256 * 1024 - 1000; /* no multiple of any block */
    struct memopt_heap *heap = open_heap("limit", limit);
    void *p[4096];
    size_t n = 0;
    while (n < COUNT(p) && (p[n] = memopt_heap_alloc(heap, 3000)) != NULL)
        assert_true(stats_of(heap).live_bytes <= limit), n++;
    assert_int_equal(errno, ENOMEM);
    assert_in_range(n, 10, 256 * 1024 / 3000);
    struct memopt_heap_statistics stats = stats_of(heap);
    assert_int_equal(stats.refused, 1);
    assert_int_equal(stats.failed, 0);
    assert_int_equal(stats.live_blocks, n);
    assert_true(stats.peak_bytes <= limit);
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += memopt_heap_usable_size(heap, p[i]);
    assert_int_equal(stats.live_bytes, sum);
    /* every way in is closed, and changes nothing */
    fill(p[0], 3000, 1);
    errno = 0;
    assert_null(memopt_heap_calloc(heap, 1, limit));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(memopt_heap_aligned_alloc(heap, 64, limit));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(memopt_heap_realloc(heap, p[0], limit));
    assert_int_equal(errno, ENOMEM);
    assert_true(holds(p[0], 3000, 1));
    assert_int_equal(stats_of(heap).refused, 4);
    assert_int_equal(stats_of(heap).live_bytes, stats.live_bytes);
    /* one free lets one in */
    memopt_heap_free(heap, p[--n]);
    errno = 77;
    p[n] = memopt_heap_alloc(heap, 3000);
    assert_non_null(p[n]);
    assert_int_equal(errno, 77);
    n++;
    /* a lower limit lets nothing in, a higher one does, none at all too */
    memopt_heap_set_limit(heap, 4096);
    assert_true(stats_of(heap).limit == 4096);
    memopt_heap_free(heap, p[--n]);
    assert_null(memopt_heap_alloc(heap, 16));
    memopt_heap_set_limit(heap, 2 * limit);
    assert_non_null(p[n++] = memopt_heap_alloc(heap, 3000));
    memopt_heap_set_limit(heap, MEMOPT_NO_LIMIT);
    void *large = memopt_heap_alloc(heap, 4 * limit);
    assert_non_null(large);
    memopt_heap_free(heap, large);
    while (n > 0)
        memopt_heap_free(heap, p[--n]);
    assert_int_equal(stats_of(heap).live_bytes, 0);
    assert_int_equal(stats_of(heap).live_blocks, 0);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

static void a_first_limit_can_come_later(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("later", 0);
    void *p = memopt_heap_alloc(heap, 10000);
    uint64_t live = memopt_heap_usable_size(heap, p);
    memopt_heap_set_limit(heap, live + 100000);
    assert_int_equal(stats_of(heap).live_bytes, live);
    assert_null(memopt_heap_alloc(heap, 105000)); /* what is live counts from the start */
    void *q = memopt_heap_alloc(heap, 50000);
    assert_non_null(q);
    memopt_heap_free(heap, p);
    memopt_heap_free(heap, q);
    assert_int_equal(stats_of(heap).live_bytes, 0);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

struct hook {
    struct memopt_heap *heap;
    void *kept[4]; /* given up one a call */
    size_t count;
    unsigned calls;
    struct memopt_limit_event last;
    int nested; /* allocate more from inside */
};

static int on_limit(void *context, const struct memopt_limit_event *event) {
    struct hook *hook = context;
    assert_int_equal(event->size, sizeof(*event));
    assert_int_equal(event->attempt, hook->calls);
    hook->last = *event;
    hook->calls++;
    if (hook->nested) { /* fails at once: no callback in the callback */
        errno = 0;
        assert_null(memopt_heap_alloc(hook->heap, (size_t)event->limit));
        assert_int_equal(errno, ENOMEM);
    }
    if (hook->count == 0)
        return MEMOPT_LIMIT_FAIL;
    memopt_heap_free(hook->heap, hook->kept[--hook->count]);
    return MEMOPT_LIMIT_RETRY;
}

/* What a block of that size really takes here. */
static size_t usable_of(struct memopt_heap *heap, size_t size) {
    void *p = memopt_heap_alloc(heap, size);
    size_t usable = memopt_heap_usable_size(heap, p);
    assert_non_null(p);
    memopt_heap_free(heap, p);
    return usable;
}

static void keep_four(struct hook *hook) {
    for (hook->count = 0; hook->count < 4; hook->count++)
        assert_non_null(hook->kept[hook->count] = memopt_heap_alloc(hook->heap, 90000));
    assert_int_equal(hook->calls, 0);
}

static void callback_makes_room(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("callback", 8 << 20);
    struct hook hook = {.heap = heap, .nested = 1};
    memopt_heap_set_limit_callback(heap, on_limit, &hook);
    /* four small ones fit, and a large one with two of them */
    size_t small = usable_of(heap, 90000), limit = usable_of(heap, 300000) + 2 * small + small / 2;
    memopt_heap_set_limit(heap, limit);
    keep_four(&hook);
    errno = 77; /* the callback leaves another */
    void *p = memopt_heap_alloc(heap, 300000);
    assert_int_equal(errno, 77);
    assert_non_null(p);
    assert_int_equal(hook.calls, 2);
    assert_int_equal(hook.last.reason, MEMOPT_LIMIT_REACHED);
    assert_int_equal(hook.last.wanted, 300000);
    assert_int_equal(hook.last.limit, limit);
    assert_ptr_equal(hook.last.heap, heap);
    assert_in_range(hook.last.live, 270000, limit);
    hook.calls = 0;
    assert_null(memopt_heap_alloc(heap, limit)); /* it has no more than it has */
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(hook.calls, 3);
    assert_int_equal(stats_of(heap).refused, 1 + 5);
    memopt_heap_set_limit_callback(heap, NULL, NULL);
    assert_null(memopt_heap_alloc(heap, limit));
    assert_int_equal(hook.calls, 3);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

static int note_reason(void *context, const struct memopt_limit_event *event) {
    *(int *)context = event->reason;
    return MEMOPT_LIMIT_FAIL;
}

static void callback_hears_of_the_backend(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("backend", 0);
    int reason = 0;
    memopt_heap_set_limit_callback(heap, note_reason, &reason);
    volatile size_t size = PTRDIFF_MAX / 2;
    assert_null(memopt_heap_alloc(heap, size));
    assert_int_equal(reason, MEMOPT_LIMIT_BACKEND);
    assert_int_equal(stats_of(heap).failed, 1);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

static uint64_t give_one(void *context) {
    struct hook *hook = context;
    hook->calls++;
    if (hook->count == 0)
        return 0;
    memopt_heap_free(hook->heap, hook->kept[--hook->count]);
    return 90000;
}

static void purgers_run_at_the_limit(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("purge", 8 << 20); /* on_limit = purge is the default */
    struct hook hook = {.heap = heap};
    size_t small = usable_of(heap, 90000);
    memopt_heap_set_limit(heap, 4 * small + small / 2);
    struct memopt_error error;
    assert_int_equal(memopt_heap_add_purger(heap, give_one, &hook, &error), 0);
    assert_int_equal(memopt_heap_add_purger(heap, give_one, &hook, &error), -EEXIST);
    assert_int_equal(memopt_heap_add_purger(heap, NULL, &hook, &error), -EINVAL);
    keep_four(&hook);
    void *p = memopt_heap_alloc(heap, 90000);
    assert_non_null(p);
    assert_int_equal(hook.calls, 1);
    assert_int_equal(hook.count, 3);
    struct memopt_heap_statistics stats = stats_of(heap);
    assert_int_equal(stats.purges, 1);
    assert_int_equal(stats.purged_bytes, 90000);
    assert_int_equal(stats.refused, 0);
    assert_true(memopt_heap_purge(heap) >= 90000);
    assert_int_equal(hook.count, 2);
    assert_int_equal(memopt_heap_remove_purger(heap, give_one, &hook, &error), 0);
    assert_int_equal(memopt_heap_remove_purger(heap, give_one, &hook, &error), -ENOENT);
    memopt_heap_purge(heap);
    assert_int_equal(hook.count, 2);
    char more[MEMOPT_HEAP_PURGERS + 1];
    for (int i = 0; i < MEMOPT_HEAP_PURGERS; i++)
        assert_int_equal(memopt_heap_add_purger(heap, give_one, &more[i], &error), 0);
    assert_int_equal(memopt_heap_add_purger(heap, give_one, &hook, &error), -ENOSPC);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

/* ------------------------------------------------------------ open and end */

static uint64_t resident(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long total, pages = 0;
    assert_int_equal(fscanf(file, "%lu %lu", &total, &pages), 2);
    fclose(file);
    return (uint64_t)pages * 4096;
}

static void destroy_frees_all(void **state) {
    (void)state;
    const uint64_t before = resident();
    for (int round = 0; round < 20; round++) {
        struct memopt_heap *heap = open_heap("destroy", 0);
        for (size_t i = 0; i < 512; i++) {
            char *p = i % 3 == 0 ? memopt_heap_aligned_alloc(heap, 256, 30000)
                                 : memopt_heap_alloc(heap, i % 2 == 0 ? 30000 : 65);
            assert_non_null(p);
            memset(p, 1, i % 3 == 0 || i % 2 == 0 ? 30000 : 65);
        }
        assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
        assert_null(memopt_heap_find("destroy"));
    }
#ifndef MO_SANITIZED /* a quarantine keeps all; LeakSanitizer looks at the end */
    /* 20 rounds of 10 MiB; a backend may keep some for reuse */
    assert_in_range(resident(), 0, before + (60 << 20));
#else
    (void)before;
#endif
}

static void a_name_is_one_heap(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("same", 0), *again = NULL;
    assert_int_equal(memopt_heap_open("same", NULL, &again, NULL), 0);
    assert_ptr_equal(heap, again);
    assert_ptr_equal(memopt_heap_find("same"), heap);
    assert_string_equal(memopt_heap_name(heap), "same");
    struct memopt_heap *other = NULL;
    if (strcmp(backend, "arena") != 0) { /* there is one region */
        other = open_heap("other", 0);
        assert_ptr_not_equal(heap, other);
        void *p = memopt_heap_alloc(heap, 1000), *q = memopt_heap_alloc(other, 500);
        assert_int_equal(stats_of(heap).live_blocks, 1);
        assert_true(stats_of(other).live_bytes < stats_of(heap).live_bytes ||
                    strcmp(backend, "mmap") == 0 || strcmp(backend, "guard") == 0);
        memopt_heap_free(heap, p);
        assert_int_equal(stats_of(other).live_blocks, 1);
        memopt_heap_free(other, q);
    }
    assert_int_equal(memopt_heap_destroy(other, NULL), 0);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
    heap = open_heap("same", 0); /* anew */
    assert_int_equal(stats_of(heap).allocations, 0);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

struct walk {
    int visits;
    struct memopt_heap *found;
};
static int visit(void *context, struct memopt_heap *heap,
                 const struct memopt_heap_statistics *stats) {
    struct walk *walk = context;
    struct memopt_heap *other = heap;
    struct memopt_error error;
    walk->visits++;
    assert_string_equal(stats->name, memopt_heap_name(heap));
    assert_int_equal(memopt_heap_open("x", NULL, &other, &error), -EDEADLK);
    assert_non_null(strstr(error.message, "memopt_heap_each"));
    assert_ptr_equal(other, heap);
    assert_int_equal(memopt_heap_destroy(heap, &error), -EDEADLK);
    assert_int_equal(memopt_heap_each(visit, context), -EDEADLK);
    assert_ptr_equal(memopt_heap_find(stats->name), heap);
    assert_int_equal(memopt_heap_open("x", NULL, &other, &error), -EDEADLK);
    assert_int_equal(
        memopt_heap_stats(heap, &(struct memopt_heap_statistics)MEMOPT_HEAP_STATISTICS_INIT), 0);
    memopt_heap_free(heap, memopt_heap_alloc(heap, 10));
    if (strcmp(stats->name, "walk") != 0)
        return 0;
    assert_int_equal(stats->live_blocks, 1);
    walk->found = heap;
    return 42;
}

static void walk_finds_heaps(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("walk", 0);
    assert_non_null(memopt_heap_alloc(heap, 10));
    struct walk walk = {0};
    assert_int_equal(memopt_heap_each(visit, &walk), 42);
    assert_ptr_equal(walk.found, heap);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
    walk = (struct walk){0};
    assert_int_equal(memopt_heap_each(visit, &walk), 0);
    assert_null(walk.found);
}

/* No backend but arena works in a given region, and none takes it for granted. */
static void a_region_is_used_or_refused(void **state) {
    (void)state;
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_heap *heap = NULL;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    options.allocator = backend;
    options.region = region;
    options.region_size = REGION;
    int code = memopt_heap_open("region", &options, &heap, &error);
    if (strcmp(backend, "arena") != 0) {
        assert_int_equal(code, -ENOTSUP);
        assert_non_null(strstr(error.message, "arena"));
        const char *named = strstr(error.message, "heap 'region'");
        assert_non_null(named);
        assert_null(strstr(named + 1, "heap 'region'")); /* once */
        assert_null(memopt_heap_find("region"));
        return;
    }
    assert_int_equal(code, 0);
    char *p = memopt_heap_alloc(heap, 1000);
    assert_true(p >= (char *)region && p < (char *)region + REGION);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

/* ----------------------------------------------------------- threads, fork */

enum { THREADS = 6, ROUNDS = 3000, BOX = 64 };
static struct {
    struct memopt_heap *heap;
    _Atomic(void *) box[BOX]; /* blocks left for whoever comes */
    _Atomic uint64_t allocated;
    _Atomic int stop;
} shared;

static void *work(void *argument) {
    unsigned seed = (unsigned)(uintptr_t)argument * 2654435761u;
    for (int i = 0; i < ROUNDS && !atomic_load(&shared.stop); i++) {
        seed = seed * 1664525 + 1013904223;
        size_t size = 16 + (seed >> 16) % 2000;
        unsigned char *p = i % 5 == 0 ? memopt_heap_aligned_alloc(shared.heap, 64, size)
                                      : memopt_heap_alloc(shared.heap, size);
        if (p == NULL)
            continue; /* at the limit */
        atomic_fetch_add(&shared.allocated, 1);
        memset(p, (int)(size & 0xff), size);
        *(size_t *)(void *)p = size;
        unsigned char *old = atomic_exchange(&shared.box[(seed >> 8) % BOX], p);
        if (old == NULL)
            continue;
        size_t n = *(size_t *)(void *)old;
        if (old[n - 1] != (n & 0xff) || old[sizeof(size_t)] != (n & 0xff))
            abort(); /* another block was written into */
        if (i % 7 == 0) {
            unsigned char *q = memopt_heap_realloc(shared.heap, old, n + 100);
            if (q != NULL) {
                atomic_fetch_add(&shared.allocated, 1);
                old = q;
            }
        }
        memopt_heap_free(shared.heap, old);
    }
    return NULL;
}

static void empty_the_box(void) {
    for (size_t i = 0; i < BOX; i++)
        memopt_heap_free(shared.heap, atomic_exchange(&shared.box[i], NULL));
}

static void threads_share_a_heap(void **state) {
    (void)state;
    /* without a limit, with one that is not reached, with one that is */
    static const uint64_t limits[] = {0, 256 << 20, 60000};
    for (size_t k = 0; k < COUNT(limits); k++) {
        pthread_t threads[THREADS];
        memset(&shared, 0, sizeof(shared));
        shared.heap = open_heap("threads", limits[k]);
        for (size_t i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)(i + 1)), 0);
        for (size_t i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        empty_the_box();
        struct memopt_heap_statistics stats = stats_of(shared.heap);
        assert_int_equal(stats.live_bytes, 0);
        assert_int_equal(stats.live_blocks, 0);
        assert_int_equal(stats.allocations, atomic_load(&shared.allocated));
        assert_int_equal(stats.frees, stats.allocations);
        assert_int_equal(stats.invalid_frees, 0);
        assert_true(stats.peak_bytes > 0);
        if (limits[k] != 0)
            assert_in_range(stats.peak_bytes, 1, limits[k]);
        assert_int_equal(memopt_heap_destroy(shared.heap, NULL), 0);
    }
}

static pthread_barrier_t all_there;

static void *one_block(void *heap) {
    void *p = memopt_heap_alloc(heap, 1000);
    pthread_barrier_wait(&all_there); /* so that none has the slot of one that ended */
    return p;
}

/* More threads at once than there are slots of their own: none is lost. */
static void many_threads_are_counted(void **state) {
    (void)state;
    enum { MANY = 200 };
    struct memopt_heap *heap = open_heap("many", 0);
    pthread_t threads[MANY];
    void *blocks[MANY];
    assert_int_equal(pthread_barrier_init(&all_there, NULL, MANY), 0);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, one_block, heap), 0);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(pthread_join(threads[i], &blocks[i]), 0);
    struct memopt_heap_statistics stats = stats_of(heap);
    assert_int_equal(stats.live_blocks, MANY);
    assert_int_equal(stats.allocations, MANY);
    uint64_t live = 0;
    for (int i = 0; i < MANY; i++)
        live += memopt_heap_usable_size(heap, blocks[i]);
    assert_int_equal(stats.live_bytes, live);
    for (int i = 0; i < MANY; i++)
        memopt_heap_free(heap, blocks[i]);
    assert_int_equal(stats_of(heap).live_bytes, 0);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

static int use_after_fork(struct memopt_heap *heap, void *inherited, uint64_t blocks) {
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    if (blocks != 0) {
        memopt_heap_stats(heap, &stats);
        if (stats.live_blocks != blocks)
            return 2;
    }
    if (!holds(inherited, 5000, 4))
        return 3;
    memopt_heap_free(heap, inherited);
    for (int i = 0; i < 200; i++) {
        void *p = memopt_heap_alloc(heap, (size_t)i * 50);
        if (p == NULL)
            return 4;
        memopt_heap_free(heap, p);
    }
    struct memopt_heap *fresh = open_heap("child", 0);
    if (strcmp(backend, "arena") != 0 && memopt_heap_alloc(fresh, 100) == NULL)
        return 5;
    if (memopt_heap_destroy(fresh, NULL) != 0)
        return 6;
    return 0;
}

static void fork_child_has_the_heap(void **state) {
    (void)state;
    struct memopt_heap *heap = open_heap("fork", 0);
    void *p = memopt_heap_alloc(heap, 5000);
    fill(p, 5000, 4);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(600);
        if (strcmp(backend, "arena") == 0)
            _exit(holds(p, 5000, 4) && memopt_heap_alloc(heap, 100) != NULL ? 0 : 3);
        _exit(use_after_fork(heap, p, 1));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(holds(p, 5000, 4));
    assert_int_equal(stats_of(heap).live_blocks, 1);
    memopt_heap_free(heap, p);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

/* While other threads are inside the heap: no lock may stay taken in the child. */
static void fork_among_threads(void **state) {
    (void)state;
    if (strcmp(backend, "arena") == 0)
        skip(); /* one region; its forks are in its own test */
    pthread_t threads[3];
    memset(&shared, 0, sizeof(shared));
    shared.heap = open_heap("forks", 0);
    void *p = memopt_heap_alloc(shared.heap, 5000);
    fill(p, 5000, 4);
    for (int i = 0; i < 30; i++) {
        for (size_t k = 0; k < COUNT(threads); k++)
            assert_int_equal(pthread_create(&threads[k], NULL, work, (void *)(k + 1)), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            alarm(600);
            _exit(use_after_fork(shared.heap, p, 0));
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        atomic_store(&shared.stop, 1);
        for (size_t k = 0; k < COUNT(threads); k++)
            pthread_join(threads[k], NULL);
        atomic_store(&shared.stop, 0);
    }
    empty_the_box();
    memopt_heap_free(shared.heap, p);
    assert_int_equal(stats_of(shared.heap).live_bytes, 0);
    assert_int_equal(memopt_heap_destroy(shared.heap, NULL), 0);
}

static int look(void *context, struct memopt_heap *heap,
                const struct memopt_heap_statistics *stats) {
    (void)context, (void)heap, (void)stats;
    return 0;
}

static void *walk(void *stop) {
    while (!atomic_load((atomic_int *)stop))
        memopt_heap_each(look, NULL);
    return NULL;
}

/* The walk asks the backend with the list's lock taken, and the fork wants both. */
static void fork_among_walks(void **state) {
    (void)state;
    if (strcmp(backend, "arena") == 0)
        skip(); /* has one lock, and asks the kernel about each page for its figures */
    struct memopt_heap *heap = open_heap("walked", 0);
    alarm(600); /* a deadlock is a failure, too */
    atomic_int stop = 0;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, walk, &stop), 0);
    for (int i = 0; i < (TSAN ? 20 : 60); i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            alarm(600);
            memopt_heap_each(look, NULL);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
    alarm(0);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
}

/* --------------------------------------------------------- wrong pointers */

static void wrong_pointers_are_found(void **state) {
    (void)state;
    static const char *const lists[] = {"libc", "tcmalloc"};
    int has_list = 0;
    for (size_t i = 0; i < COUNT(lists); i++)
        has_list |= strcmp(backend, lists[i]) == 0;
    if (!has_list)
        skip(); /* that backend has heaps of its own: it decides */
    struct memopt_heap *heap = open_heap("wrong", 0), *other = open_heap("right", 0);
    char *p = memopt_heap_alloc(heap, 4000), *foreign = memopt_heap_alloc(other, 4000);
    memset(p, 7, 4000);
    char *const wrong[] = {p + 1, p + 64, foreign};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        errno = 0;
        memopt_heap_free(heap, wrong[i]);
        assert_int_equal(errno, EINVAL);
        errno = 0;
        assert_null(memopt_heap_realloc(heap, wrong[i], 10));
        assert_int_equal(errno, EINVAL);
        assert_int_equal(memopt_heap_usable_size(heap, wrong[i]), 0);
    }
    assert_int_equal(stats_of(heap).invalid_frees, 3 * COUNT(wrong));
    assert_int_equal(stats_of(heap).live_blocks, 1);
    memopt_heap_free(heap, p);
    memopt_heap_free(other, foreign);
    assert_int_equal(stats_of(heap).live_blocks, 0);
    assert_int_equal(stats_of(other).invalid_frees, 0);
    assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
    assert_int_equal(memopt_heap_destroy(other, NULL), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(blocks_are_usable),           cmocka_unit_test(calloc_is_zero),
    cmocka_unit_test(realloc_keeps_contents),      cmocka_unit_test(alignment_is_kept),
    cmocka_unit_test(too_large_is_enomem),         cmocka_unit_test(statistics_add_up),
    cmocka_unit_test(peak_is_exact_under_a_limit), cmocka_unit_test(stats_respect_the_size),
    cmocka_unit_test(limit_is_never_exceeded),     cmocka_unit_test(a_first_limit_can_come_later),
    cmocka_unit_test(callback_makes_room),         cmocka_unit_test(callback_hears_of_the_backend),
    cmocka_unit_test(purgers_run_at_the_limit),    cmocka_unit_test(destroy_frees_all),
    cmocka_unit_test(a_name_is_one_heap),          cmocka_unit_test(walk_finds_heaps),
    cmocka_unit_test(a_region_is_used_or_refused), cmocka_unit_test(threads_share_a_heap),
    cmocka_unit_test(many_threads_are_counted),    cmocka_unit_test(fork_child_has_the_heap),
    cmocka_unit_test(fork_among_threads),          cmocka_unit_test(fork_among_walks),
    cmocka_unit_test(wrong_pointers_are_found),
};

int main(int argc, char **argv) {
    static const char *const backends[] = {"libc", "jemalloc", "tcmalloc", "mimalloc",
                                           "pool", "arena",    "mmap",     "guard"};
    if (getenv("GLIBC_TUNABLES") == NULL) {
        setenv("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=8192", 1);
        setenv("ASAN_OPTIONS", "allocator_may_return_null=1", 0);
        setenv("TSAN_OPTIONS", "allocator_may_return_null=1", 0);
        execv("/proc/self/exe", argv);
        return 99;
    }
    setenv("MEMOPT_CONF", "/dev/null", 1);
    setenv("top_builddir", ".", 0);
    region = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                  -1, 0);
    int failed = 0;
    for (size_t i = 0; i < COUNT(backends); i++) {
        if (argc > 1 && strcmp(argv[1], backends[i]) != 0)
            continue;
        backend = backends[i];
#ifdef __SANITIZE_THREAD__
        /* Libraries that were not built with it look like races to it. */
        if (strcmp(backend, "jemalloc") == 0 || strcmp(backend, "tcmalloc") == 0 ||
            strcmp(backend, "mimalloc") == 0)
            continue;
#endif
        if (!is_built(backend) && strcmp(backend, "libc") != 0) {
            print_message("%s was not built\n", backend);
            continue;
        }
        failed += cmocka_run_group_tests_name(backend, tests, NULL, NULL);
    }
    return failed != 0;
}
