/* test_pool.c - the pool allocator: what is its own beyond the conformance suite:
 * size classes, blocks that other threads free, ended threads, purging, moving
 * of huge blocks, heaps of many threads, fork, misuse, failing system calls. */
#include "config.h"

#include "tests/own.h"
#ifndef MO_SANITIZED
#include "tests/own_faults.h"
#endif

#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static void fill(void *p, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)p)[i] = (unsigned char)(seed + i * 7);
}

static int holds(const void *p, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++)
        if (((const unsigned char *)p)[i] != (unsigned char)(seed + i * 7))
            return 0;
    return 1;
}

static int is_zero(const void *p, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (((const unsigned char *)p)[i] != 0)
            return 0;
    return 1;
}

static void in_thread(void *(*body)(void *), void *argument) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, argument) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

/* ------------------------------------------------------------- size classes */

static void classes_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    size_t before = 0;
    for (size_t size = 0; size <= 2 * MIB; size += 1 + size / 61) {
        unsigned char *p = own_malloc->malloc(size), *q = own_malloc->malloc(size);
        size_t usable = own_malloc->usable_size(p);
        CHECK(p != NULL && q != NULL && p != q && (uintptr_t)p % 16 == 0);
        CHECK(usable >= size && usable >= before);
        /* Under 128 bytes the grain of 16 rules. */
        CHECK(usable - size <= (size < 128 ? 16 : size / 8));
        fill(p, usable, 1);
        fill(q, usable, 2);
        CHECK(holds(p, usable, 1) && holds(q, usable, 2));
        CHECK(own_figures().live == 2 * usable);
        before = usable;
        own_malloc->free(p);
        own_malloc->free(q);
        CHECK(own_figures().live == 0);
    }
}

static void aligned_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    for (size_t alignment = 8; alignment <= 64 * MIB; alignment *= 2) {
        void *blocks[40];
        for (size_t i = 0; i < 40; i++) {
            size_t size = i * i * i * 40;
            blocks[i] = own_malloc->aligned_alloc(alignment, size);
            CHECK(blocks[i] != NULL && (uintptr_t)blocks[i] % alignment == 0);
            CHECK(own_malloc->usable_size(blocks[i]) >= size);
            fill(blocks[i], size, (unsigned)i);
        }
        for (size_t i = 0; i < 40; i++) {
            CHECK(holds(blocks[i], i * i * i * 40, (unsigned)i));
            own_malloc->free(blocks[i]);
        }
    }
    CHECK(own_figures().live == 0);
}

/* calloc knows fresh pages, and must not take used ones for fresh. */
static void calloc_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    for (size_t round = 0; round < 3; round++)
        for (size_t size = 1; size <= 5 * MIB; size += size / 2 + 1) {
            void *blocks[12];
            for (size_t i = 0; i < 12; i++) {
                blocks[i] = own_malloc->calloc(1, size);
                CHECK(blocks[i] != NULL && is_zero(blocks[i], size));
                memset(blocks[i], 0xa5, own_malloc->usable_size(blocks[i]));
            }
            for (size_t i = 0; i < 12; i++)
                own_malloc->free(blocks[i]);
            if (round == 1)
                OPS.purge();
        }
}

static void *free_all(void *argument) {
    for (void **block = argument; *block != NULL; block++)
        own_malloc->free(*block);
    return NULL;
}

/* Each kind of page, freed by a thread that never allocated. */
static void foreign_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    enum { COUNT = 3000 };
    static void *blocks[COUNT + 1];
    static const size_t sizes[] = {1, 100, 5000, 20000, 200000, 2 * MIB};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t count = sizes[i] > 100000 ? 50 : sizes[i] > 1000 ? 500 : COUNT;
        for (size_t round = 0; round < 3; round++) {
            for (size_t k = 0; k < count; k++)
                CHECK((blocks[k] = own_malloc->malloc(sizes[i])) != NULL);
            blocks[count] = NULL;
            CHECK(own_figures().live == count * own_malloc->usable_size(blocks[0]));
            in_thread(free_all, blocks);
            CHECK(own_figures().live == 0);
        }
        /* Three rounds fit where one did. */
        CHECK(own_figures().committed < count * sizes[i] * 3 / 2 + MIB);
    }
    OPS.purge();
    CHECK(own_figures().committed < 64 * KIB);
}

static void test_foreign(void **state) {
    (void)state;
    own_passes(foreign_body);
}
static void test_classes(void **state) {
    (void)state;
    own_passes(classes_body);
}
static void test_aligned(void **state) {
    (void)state;
    own_passes(aligned_body);
}
static void test_fresh_pages(void **state) {
    (void)state;
    own_passes(calloc_body);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_aligned),
        cmocka_unit_test(test_fresh_pages),
        cmocka_unit_test(test_foreign),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
