/*
 * pool_heap.h - what the tests of pools share: a heap of their own, whose N-th
 * allocation can be made to fail, and what a pool said of misuse.
 *
 * What a pool takes from its heap it takes through the heap's public functions.
 * These are defined here too, and exported (-export-dynamic), so the library calls
 * them and they call its own.
 */
#ifndef TESTS_POOL_HEAP_H
#define TESTS_POOL_HEAP_H

#include <memopt/memopt.h>

#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(HAVE_VALGRIND_VALGRIND_H) && HAVE_VALGRIND_VALGRIND_H
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

static inline int has_checker(void) {
#if defined(__SANITIZE_ADDRESS__)
    return 1;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    return 1;
#endif
#endif
    return RUNNING_ON_VALGRIND != 0;
}

static struct misused {
    int kind, count;
    ptrdiff_t offset;
    size_t bytes;
    char pool[64];
} misused;

static inline void note_misuse(void *context, const struct memopt_misuse *misuse) {
    struct misused *m = context;
    m->count++;
    m->kind = misuse->kind;
    m->offset = misuse->offset;
    m->bytes = misuse->bytes;
    snprintf(m->pool, sizeof(m->pool), "%s", misuse->pool);
}

static inline int pool_setup(void **state) {
    (void)state;
    setenv("MEMOPT_CONF", "/dev/null", 1);
    setenv("top_builddir", ".", 0);
    return 0;
}

/* `limit` 0: none. */
static inline struct memopt_heap *open_heap(uint64_t limit) {
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_heap *heap = NULL;
    options.allocator = "libc";
    options.limit = limit == 0 ? MEMOPT_NO_LIMIT : limit;
    options.on_limit = "purge, fail";
    if (memopt_heap_open("pools", &options, &heap, &error) < 0)
        fail_msg("%s", error.message);
    return heap;
}

static inline struct memopt_heap_statistics stats_of(struct memopt_heap *heap) {
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    assert_int_equal(memopt_heap_stats(heap, &stats), 0);
    return stats;
}

static inline uint64_t live(struct memopt_heap *heap) {
    return stats_of(heap).live_bytes;
}

static inline void assert_empty(struct memopt_heap *heap) {
    struct memopt_heap_statistics stats = stats_of(heap);
    assert_int_equal(stats.live_blocks, 0);
    assert_int_equal(stats.live_bytes, 0);
    assert_int_equal(stats.invalid_frees, 0);
}

static struct {
    long nth; /* 0: none fails */
    int for_good;
    long count, fired;
} heap_fault;

static inline int heap_fault_hits(void) {
    if (heap_fault.nth == 0)
        return 0;
    heap_fault.count++;
    int hit = heap_fault.count == heap_fault.nth ||
              (heap_fault.for_good && heap_fault.count > heap_fault.nth);
    heap_fault.fired += hit;
    if (hit)
        errno = ENOMEM;
    return hit;
}

/* The library's own. */
static void *(*real_alloc)(struct memopt_heap *heap, size_t size);
static void *(*real_calloc)(struct memopt_heap *heap, size_t count, size_t size);
static void *(*real_aligned)(struct memopt_heap *heap, size_t alignment, size_t size);

static __attribute__((constructor)) void find_real(void) {
    *(void **)&real_alloc = dlsym(RTLD_NEXT, "memopt_heap_alloc");
    *(void **)&real_calloc = dlsym(RTLD_NEXT, "memopt_heap_calloc");
    *(void **)&real_aligned = dlsym(RTLD_NEXT, "memopt_heap_aligned_alloc");
}

void *memopt_heap_alloc(struct memopt_heap *heap, size_t size) {
    return heap_fault_hits() ? NULL : real_alloc(heap, size);
}
void *memopt_heap_calloc(struct memopt_heap *heap, size_t count, size_t size) {
    return heap_fault_hits() ? NULL : real_calloc(heap, count, size);
}
void *memopt_heap_aligned_alloc(struct memopt_heap *heap, size_t alignment, size_t size) {
    return heap_fault_hits() ? NULL : real_aligned(heap, alignment, size);
}

/* Runs `use` with the first allocation failing, the second, … until one run has
 * none that fails; then the same with all after it failing, too. After each the
 * heap must be empty. Returns how many failed. */
static inline long each_fault(void (*use)(struct memopt_heap *heap)) {
    long count = 0;
    for (int for_good = 0; for_good < 2; for_good++)
        for (long nth = 1;; nth++) {
            struct memopt_heap *heap = open_heap(0);
            heap_fault.for_good = for_good;
            heap_fault.count = heap_fault.fired = 0;
            heap_fault.nth = nth;
            use(heap);
            heap_fault.nth = 0;
            assert_empty(heap);
            assert_int_equal(memopt_heap_destroy(heap, NULL), 0);
            if (heap_fault.fired == 0)
                break;
            count++;
        }
    return count;
}

#endif
