/* test_arena.c - the arena allocator: joining, exhaustion, the two modes, the
 * caller's region, what it says of damaged blocks. */
#include "config.h"

#include "tests/own.h"
#ifndef MO_SANITIZED
#include "tests/own_faults.h"
#endif

#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

#define KIB ((size_t)1024)

/* The largest block there is now. */
static size_t largest(void *heap, size_t up_to) {
    size_t low = 0, high = up_to;
    while (low < high) {
        size_t middle = low + (high - low + 1) / 2;
        void *p = OPS.heap_malloc(heap, middle);
        if (p != NULL) {
            OPS.heap_free(heap, p);
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

static struct memopt_figures heap_figures(void *heap) {
    struct memopt_figures figures = {.size = sizeof(figures)};
    CHECK(OPS.heap_figures(heap, &figures) == 0);
    return figures;
}

/* Random blocks, each filled with a byte of its own and checked to the last. */
static void churn(void *heap, unsigned random, int rounds, int in_order) {
    enum { SLOTS = 200 };
    static __thread struct {
        unsigned char *p;
        size_t size;
        unsigned char byte;
    } slots[SLOTS];
    int refused = 0, served = 0;
    memset(slots, 0, sizeof(slots));
    for (int i = 0; i < rounds; i++) {
        random = random * 1664525 + 1013904223;
        unsigned slot = in_order ? (unsigned)i % SLOTS : random >> 8 & 127;
        size_t size = random >> 20 & ((random & 0x70) == 0 ? 0xfff : 0xff);
        unsigned char *p = slots[slot].p;
        for (size_t j = 0; j < slots[slot].size; j++)
            CHECK(p[j] == slots[slot].byte);
        if (p != NULL && (random & 3) == 0) {
            unsigned char *moved = OPS.heap_realloc(heap, p, size + 1);
            if (moved == NULL)
                continue;
            for (size_t j = 0; j < slots[slot].size && j < size + 1; j++)
                CHECK(moved[j] == slots[slot].byte);
            p = moved;
            size++;
        } else {
            if (p != NULL)
                OPS.heap_free(heap, p);
            size_t alignment = (size_t)16 << (random >> 4 & 7);
            p = (random & 12) == 0   ? OPS.heap_aligned_alloc(heap, alignment, size)
                : (random & 12) == 4 ? OPS.heap_calloc(heap, size, 1)
                                     : OPS.heap_malloc(heap, size);
            CHECK((random & 12) != 0 || (uintptr_t)p % alignment == 0);
            for (size_t j = 0; j < size && p != NULL && (random & 12) == 4; j++)
                CHECK(p[j] == 0);
        }
        slots[slot].p = p;
        slots[slot].size = 0;
        p == NULL ? refused++ : served++;
        if (p == NULL)
            continue;
        CHECK((uintptr_t)p % 16 == 0 && OPS.heap_usable_size(heap, p) >= size);
        slots[slot].size = OPS.heap_usable_size(heap, p); /* all of it may be written */
        slots[slot].byte = (unsigned char)random;
        memset(p, slots[slot].byte, slots[slot].size);
    }
    CHECK(served > rounds / 4);
    for (int i = 0; i < SLOTS; i++)
        if (slots[i].p != NULL)
            OPS.heap_free(heap, slots[i].p);
}

static void freelist_body(void) {
    CHECK(own_open("arena", NULL) == 0);
    for (size_t size = 20 * KIB; size <= 500 * KIB; size *= 5) {
        void *heap = own_heap("h", NULL, size);
        size_t before = largest(heap, size);
        CHECK(before > size - 64 && before <= size);
        churn(heap, (unsigned)size, 20000, 0);
        /* All free again is one block again. */
        CHECK(heap_figures(heap).live == 0 && largest(heap, size) == before);
        OPS.heap_destroy(heap);
    }
}

static void bump_body(void) {
    CHECK(own_open("arena", "mode", "bump", NULL) == 0);
    void *heap = own_heap("h", NULL, 400 * KIB);
    size_t before = largest(heap, 400 * KIB);
    CHECK(before >= 400 * KIB - 16);
    char *a = OPS.heap_malloc(heap, 100), *b = OPS.heap_malloc(heap, 100);
    char *c = OPS.heap_malloc(heap, 100);
    OPS.heap_free(heap, b); /* not the last: nothing comes back */
    char *d = OPS.heap_malloc(heap, 1);
    CHECK(a < b && b < c && c < d);
    CHECK(OPS.heap_realloc(heap, d, 5000) == d); /* the last grows in place */
    char *moved = OPS.heap_realloc(heap, a, 5000);
    CHECK(moved > d);
    OPS.heap_free(heap, moved);
    OPS.heap_free(heap, d); /* the last: it comes back */
    CHECK(OPS.heap_malloc(heap, 1) == d);
    OPS.heap_free(heap, d);
    OPS.heap_free(heap, c); /* and takes those before it along */
    CHECK(largest(heap, 400 * KIB) == before && heap_figures(heap).live == 0);
    churn(heap, 7, 300, 1);
    CHECK(heap_figures(heap).live == 0 && largest(heap, 400 * KIB) == before);
}

static void region_body(void) {
    CHECK(own_open("arena", NULL) == 0);
    enum { SIZE = 10000 };
    static unsigned char region[SIZE + 64];
    for (size_t shift = 0; shift < 16; shift += 5) {
        memset(region, 0xee, sizeof(region));
        unsigned char *start = region + 16 + shift;
        void *heap = own_heap("mine", start, SIZE);
        unsigned char *p = OPS.heap_calloc(heap, 1, 5000);
        CHECK(p >= start && p + 5000 <= start + SIZE);
        for (int i = 0; i < 5000; i++)
            CHECK(p[i] == 0);
        churn(heap, 3, 2000, 0);
        CHECK(OPS.heap_malloc(heap, 6000) == NULL);
        OPS.heap_destroy(heap);
        CHECK(start[-1] == 0xee && start[SIZE] == 0xee); /* nor beyond it */
    }
    CHECK(own_heap("small", region, 100) == NULL);
    CHECK(strstr(own_error.message, "'small'") && strstr(own_error.message, "100 bytes"));
}

static void default_body(void) {
    CHECK(own_open("arena", "size", "1MiB", NULL) == 0);
    void *p = own_malloc->malloc(0), *q = own_malloc->malloc(0);
    CHECK(p != NULL && p != q);
    CHECK(own_malloc->malloc(2 << 20) == NULL && own_malloc->malloc(SIZE_MAX) == NULL);
    CHECK(own_malloc->aligned_alloc((size_t)1 << 40, 1) == NULL);
    CHECK(strstr(own_notes, "1048576") != NULL && strstr(own_notes, "'size'") != NULL);
    char *big = own_malloc->malloc(1000000);
    CHECK(big != NULL && own_malloc->malloc(100000) == NULL);
    CHECK(own_malloc->realloc(big, 2 << 20) == NULL);
    memset(big, 1, 1000000);
    struct memopt_figures figures = own_figures();
    CHECK(figures.live == own_malloc->usable_size(big) + 32 && figures.peak == figures.live);
    CHECK(figures.committed >= figures.live && figures.committed <= 1 << 20);
    CHECK(figures.resident >= 1000000 && figures.fragmentation < 0.05);
    own_malloc->free(big);
    CHECK(own_figures().fragmentation > 0.9);
    CHECK(OPS.purge() > 900000 && own_figures().resident < 50000);
    big = own_malloc->calloc(1000, 1000);
    for (int i = 0; i < 1000000; i++)
        CHECK(big[i] == 0);
}

/* Room that was never written costs calloc nothing, and counts as nothing. */
static void calloc_body(void) {
    CHECK(own_open("arena", "size", "1GiB", NULL) == 0);
    CHECK(own_malloc->malloc(100) != NULL);
    CHECK(own_figures().committed <= 65536);
    CHECK(own_malloc->calloc(1, 900 << 20) != NULL);
    CHECK(own_figures().resident < 1 << 20);
}

static void modes(void **state) {
    (void)state;
    own_passes(freelist_body);
    own_passes(bump_body);
    own_passes(region_body);
    own_passes(default_body);
    own_passes(calloc_body);
}

/* ------------------------------------------------------------------ mistakes */

static const char *mode = "freelist";

static void free_twice(void) {
    CHECK(own_open("arena", "mode", mode, NULL) == 0);
    void *p = own_malloc->malloc(100), *q = own_malloc->malloc(100);
    own_malloc->free(p);
    (void)q;
    own_malloc->free(p);
}

static void free_twice_joined(void) {
    CHECK(own_open("arena", "mode", mode, NULL) == 0);
    void *p = own_malloc->malloc(100), *q = own_malloc->malloc(100);
    own_malloc->free(p);
    own_malloc->free(q);
    own_malloc->free(q);
}

static void free_inside(void) {
    CHECK(own_open("arena", "mode", mode, NULL) == 0);
    own_malloc->free((char *)own_malloc->calloc(1, 100) + 32);
}

static void free_wild(void) {
    CHECK(own_open("arena", "mode", mode, NULL) == 0);
    own_malloc->free((void *)32);
}

static void overflow(void) {
    CHECK(own_open("arena", "mode", mode, NULL) == 0);
    char *p = own_malloc->malloc(100);
    own_malloc->malloc(100);
    memset(p, 'x', own_malloc->usable_size(p) + 1);
    own_malloc->free(p);
}

static void underflow(void) {
    CHECK(own_open("arena", "mode", mode, NULL) == 0);
    own_malloc->malloc(100);
    char *p = own_malloc->malloc(100);
    p[-1] = 'x';
    own_malloc->realloc(p, 5000);
}

static void write_after_free(void) {
    CHECK(own_open("arena", "mode", mode, NULL) == 0);
    char *p = own_malloc->malloc(100);
    own_malloc->malloc(100);
    own_malloc->free(p);
    memset(p, 'x', 16);
    own_malloc->malloc(100);
}

static void mistakes(void **state) {
    (void)state;
    mode = "freelist";
    own_dies(free_twice, SIGABRT, "double free");
    own_dies(free_twice_joined, SIGABRT, "double free");
    own_dies(free_inside, SIGABRT, "no block begins there");
    own_dies(free_wild, SIGABRT, "no block of this arena begins there");
    own_dies(overflow, SIGABRT, "the head after the block is damaged");
    own_dies(underflow, SIGABRT, "overflowed into its head");
    own_dies(write_after_free, SIGABRT, "use after free");
    mode = "bump";
    own_dies(free_twice, SIGABRT, "double free");
    own_dies(free_twice_joined, SIGABRT, "double free");
    own_dies(free_inside, SIGABRT, "no block begins there");
    own_dies(underflow, SIGABRT, "overflowed into its head");
}

/* --------------------------------------------------------- threads and fork */

static void *shared;

static void *thread(void *seed) {
    churn(shared, (unsigned)(uintptr_t)seed, 20000, 0);
    return NULL;
}

static void threads_body(void) {
    CHECK(own_open("arena", NULL) == 0);
    shared = own_heap("shared", NULL, 2048 * KIB);
    size_t before = largest(shared, 2048 * KIB);
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, thread, (void *)(i + 1)) == 0);
    for (int i = 0; i < 100; i++) {
        OPS.before_fork();
        pid_t pid = fork();
        if (pid == 0) {
            OPS.after_fork_child();
            void *p = OPS.heap_malloc(shared, 100);
            CHECK(p != NULL && own_heap("child", NULL, 0) != NULL);
            OPS.heap_free(shared, p);
            OPS.purge();
            OPS.heap_destroy(shared);
            _exit(0);
        }
        OPS.after_fork_parent();
        int status;
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK(heap_figures(shared).live == 0 && largest(shared, 2048 * KIB) == before);
}

static void threads(void **state) {
    (void)state;
    own_passes(threads_body);
}

/* ------------------------------------------------------------- failing calls */

#ifndef MO_SANITIZED
static void no_region(void) {
    CHECK(mo_plugin_load(MEMOPT_ALLOCATOR, "arena", &own_plugin, &own_error) == 0);
    faults_arm(FAULT_MMAP, 1, 1);
    int result = own_open("arena", "size", "3MiB", NULL);
    faults_arm(0, 0, 0);
    CHECK(result == -ENOMEM && strstr(own_error.message, "3145728 bytes") != NULL);
}

static void failing_body(void) {
    CHECK(own_open("arena", NULL) == 0);
    faults_arm(FAULT_MMAP, 1, 1);
    CHECK(own_heap("h", NULL, 0) == NULL && strstr(own_error.message, "'h'") != NULL);
    faults_arm(FAULT_MADVISE, 1, 1);
    own_malloc->free(memset(own_malloc->malloc(100000), 1, 100000));
    CHECK(OPS.purge() == 0 && faults.fired == 1);
    faults_arm(0, 0, 0);
    CHECK(OPS.purge() > 90000);
}

static void failing_calls(void **state) {
    (void)state;
    own_passes(no_region);
    own_passes(failing_body);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modes),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(threads),
#ifndef MO_SANITIZED
        cmocka_unit_test(failing_calls),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
