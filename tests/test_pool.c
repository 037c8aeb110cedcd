/* test_pool.c - the pool allocator: what is its own beyond the conformance suite:
 * size classes, blocks that other threads free, ended threads, purging, moving
 * of huge blocks, heaps of many threads, fork, misuse, failing system calls. */
#include "config.h"

#include "tests/own.h"
#ifndef MO_SANITIZED
#include "tests/own_faults.h"
enum { LATE_ROUNDS = 3 };
#else
/* TSan's run-time ends the thread in the last round of destructors. */
enum { LATE_ROUNDS = 2 };
#endif

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "plugins/alloc/pool.h"

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

/* ------------------------------------------------------------ ended threads */

enum { LEFT = 20000 };
static void *left[LEFT + 1];

static void *leave_blocks(void *argument) {
    (void)argument;
    for (size_t i = 0; i < LEFT; i++) {
        left[i] = own_malloc->malloc(200);
        fill(left[i], 200, (unsigned)i);
    }
    return NULL;
}

/* Whoever frees the last block of an ended thread's page gives the page back. */
static void orphan_freed_body(void) {
    CHECK(own_open("pool", "purge_delay", "0", NULL) == 0);
    for (size_t round = 0; round < 3; round++) {
        in_thread(leave_blocks, NULL);
        CHECK(own_figures().live == LEFT * 208 && own_figures().committed > LEFT * 200);
        for (size_t i = 0; i < LEFT; i++) {
            CHECK(holds(left[i], 200, (unsigned)i));
            own_malloc->free(left[i]);
        }
        CHECK(own_figures().live == 0 && own_figures().committed < 200 * KIB);
    }
}

static void *churn(void *argument) {
    void *blocks[100];
    for (size_t i = 0; i < 100; i++)
        blocks[i] = own_malloc->malloc(i * 20);
    for (size_t i = 0; i < 99; i++)
        own_malloc->free(blocks[i]);
    *(void **)argument = blocks[99];
    return NULL;
}

/* A new thread goes on with what an ended one left. */
static void orphan_adopted_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    static void *kept[1000];
    in_thread(churn, &kept[0]);
    uint64_t first = own_figures().committed + own_figures().retained;
    for (size_t i = 1; i < 400; i++)
        in_thread(churn, &kept[i]);
    CHECK(own_figures().committed + own_figures().retained == first);
    CHECK(own_figures().live == 400 * own_malloc->usable_size(kept[0]));
    for (size_t i = 0; i < 400; i++)
        own_malloc->free(kept[i]);
    CHECK(own_figures().live == 0);
}

static void *churn_heap(void *heap) {
    for (size_t i = 0; i < 100; i++)
        OPS.heap_free(heap, OPS.heap_malloc(heap, i * 20));
    return OPS.heap_malloc(heap, 100);
}

static void heap_adopted_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    void *heap = own_heap("heap", NULL, 0);
    struct memopt_figures first = {.size = sizeof(first)}, last = first;
    in_thread(churn_heap, heap);
    CHECK(OPS.heap_figures(heap, &first) == 0);
    for (size_t i = 1; i < 100; i++)
        in_thread(churn_heap, heap);
    CHECK(OPS.heap_figures(heap, &last) == 0 && last.live == 100 * 112);
    CHECK(last.committed + last.retained == first.committed + first.retained);
}

static pthread_key_t late_key;
static int late_rounds;

static void late_destructor(void *block) {
    CHECK(holds(block, 300, 9));
    own_malloc->free(block);
    void *other = own_malloc->malloc(300);
    CHECK(other != NULL);
    fill(other, 300, 9);
    if (++late_rounds < LATE_ROUNDS)
        pthread_setspecific(late_key, other);
    else
        own_malloc->free(other);
}

static void *with_destructor(void *argument) {
    void *block = own_malloc->malloc(300);
    fill(block, 300, 9);
    pthread_setspecific(late_key, block);
    return argument;
}

/* A destructor that runs after the pool's own. */
static void late_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    CHECK(pthread_key_create(&late_key, late_destructor) == 0);
    /* Also where pthread_setspecific itself allocates: keys from 32 on. */
    in_thread(with_destructor, NULL);
    CHECK(late_rounds == LATE_ROUNDS && own_figures().live == 0);
    uint64_t first = own_figures().committed + own_figures().retained;
    for (int i = 0; i < 50; i++) {
        late_rounds = 0;
        in_thread(with_destructor, NULL);
    }
    CHECK(own_figures().live == 0);
    CHECK(own_figures().committed + own_figures().retained == first);
}

/* ------------------------------------------------------------------ purging */

static void allocate_and_free(size_t total, size_t size) {
    static void *blocks[100000];
    size_t count = total / size;
    CHECK(count <= 100000);
    for (size_t i = 0; i < count; i++) {
        CHECK((blocks[i] = own_malloc->malloc(size)) != NULL);
        memset(blocks[i], 1, size);
    }
    CHECK(own_figures().resident >= total);
    for (size_t i = 0; i < count; i++)
        own_malloc->free(blocks[i]);
}

static void purge_body(void) {
    CHECK(own_open("pool", "purge_delay", "1h", "huge_cache", "100MiB", NULL) == 0);
    static const size_t sizes[] = {1024, 30000, 500000, 2 * MIB};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        allocate_and_free(32 * MIB, sizes[i]);
        CHECK(own_figures().resident >= 30 * MIB);
        uint64_t purged = OPS.purge();
        CHECK(purged >= 30 * MIB && purged <= 40 * MIB);
        CHECK(own_figures().resident < 64 * KIB && own_figures().live == 0);
        CHECK(OPS.purge() == 0);
    }
}

static void purge_delay_body(void) {
    CHECK(own_open("pool", "purge_delay", "50ms", NULL) == 0);
    allocate_and_free(20 * MIB, 1024);
    allocate_and_free(20 * MIB, 2 * MIB);
    /* Under a loaded machine the first may be gone already. */
    for (size_t i = 0; i < 4; i++) { /* any that need a page will do */
        usleep(60 * 1000);
        own_malloc->malloc(70000 + i * 10000);
    }
    own_malloc->free(own_malloc->malloc(3 * MIB));
    CHECK(own_figures().resident < 4 * MIB);
}

static void purge_at_once_body(void) {
    CHECK(own_open("pool", "purge_delay", "0", NULL) == 0);
    allocate_and_free(20 * MIB, 1024);
    allocate_and_free(20 * MIB, 2 * MIB);
    CHECK(own_figures().resident < 200 * KIB);
}

static _Atomic int stage;

static void *purged_from_outside(void *argument) {
    allocate_and_free(16 * MIB, 1024);
    stage = 1;
    while (stage != 2)
        usleep(1000);
    return argument;
}

/* purge() reaches the free pages of threads that are asleep. */
static void purge_others_body(void) {
    CHECK(own_open("pool", "purge_delay", "1h", NULL) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, purged_from_outside, NULL) == 0);
    while (stage != 1)
        usleep(1000);
    CHECK(own_figures().resident >= 15 * MIB);
    CHECK(OPS.purge() >= 15 * MIB);
    CHECK(own_figures().resident < 300 * KIB);
    stage = 2;
    pthread_join(thread, NULL);
}

static void *allocate_some(void *total) {
    allocate_and_free((size_t)total, 1024);
    return NULL;
}

/* What an ended thread leaves goes at once if it is much, else when nobody has
 * taken it over in time, with any thread's next page. */
static void purge_ended_body(void) {
    CHECK(own_open("pool", "purge_delay", "50ms", NULL) == 0);
    in_thread(allocate_some, (void *)(20 * MIB));
    CHECK(own_figures().resident < 200 * KIB);
    in_thread(allocate_some, (void *)(700 * KIB));
    CHECK(own_figures().resident >= 600 * KIB);
    for (size_t i = 0; i < 4; i++) { /* its last page becomes dirty, gets old, then goes */
        usleep(60 * 1000);
        void *p = own_malloc->malloc(4000 + i * 600), *q = own_malloc->malloc(8000 + i * 2000);
        own_malloc->free(p);
        own_malloc->free(q);
    }
    CHECK(own_figures().resident < 200 * KIB);
}

/* Does the mapping that has p bear the flag? */
static int has_flag(void *p, const char *flag) {
    char line[512];
    int here = 0, found = 0;
    FILE *file = fopen("/proc/self/smaps", "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof(line), file) != NULL) {
        uintptr_t from, to;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &from, &to) == 2)
            here = from <= (uintptr_t)p && (uintptr_t)p < to;
        else if (here && strncmp(line, "VmFlags:", 8) == 0)
            found = strstr(line, flag) != NULL;
    }
    fclose(file);
    return found;
}

static void plain_pages_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    void *small = own_malloc->malloc(1), *huge = own_malloc->malloc(5 * MIB);
    CHECK(own_figures().resident < 100 * KIB);
    CHECK(!has_flag(small, " hg") && !has_flag(huge, " hg"));
}

static void huge_pages_body(void) {
    CHECK(own_open("pool", "huge_pages", "yes", NULL) == 0);
    void *small = own_malloc->malloc(1), *huge = own_malloc->malloc(5 * MIB);
    if (access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0)
        CHECK(has_flag(small, " hg") && has_flag(huge, " hg"));
}

static void populate_body(void) {
    CHECK(own_open("pool", "populate", "yes", NULL) == 0);
    void *p = own_malloc->malloc(1);
    uint64_t resident = own_figures().resident;
    CHECK(p != NULL && resident >= 4 * MIB);
    CHECK(own_malloc->malloc(5 * MIB) != NULL);
    CHECK(own_figures().resident >= resident + 5 * MIB);
    p = own_malloc->aligned_alloc(8 * MIB, 5 * MIB);
    CHECK(own_figures().resident >= resident + 10 * MIB && (uintptr_t)p % (8 * MIB) == 0);
}

/* --------------------------------------------------------------------- huge */

static void huge_body(void) {
    CHECK(own_open("pool", "huge_cache", "10MiB", NULL) == 0);
    static const size_t sizes[] = {2 * MIB, 64 * MIB, 5 * MIB, 900 * KIB, 40, 3 * MIB, 3 * MIB + 1};
    size_t size = sizes[0];
    char *p = own_malloc->malloc(size);
    fill(p, size, 3);
    for (size_t i = 1; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        p = own_malloc->realloc(p, sizes[i]);
        CHECK(p != NULL && own_malloc->usable_size(p) >= sizes[i]);
        CHECK(holds(p, size < sizes[i] ? size : sizes[i], 3));
        size = sizes[i];
        fill(p, size, 3);
        CHECK(own_figures().live == own_malloc->usable_size(p));
    }
    /* No such sizes: the old block is untouched. */
    CHECK(own_malloc->realloc(p, SIZE_MAX - 100) == NULL && holds(p, size, 3));
    CHECK(own_malloc->malloc(SIZE_MAX - 100) == NULL && own_malloc->malloc(PTRDIFF_MAX) == NULL);
    CHECK(own_malloc->aligned_alloc((size_t)1 << 62, 100) == NULL);
    CHECK(own_malloc->aligned_alloc(MIB, SIZE_MAX - 100) == NULL);
    CHECK(own_malloc->calloc(1, SIZE_MAX - 100) == NULL);
    own_malloc->free(p);
    /* From the cache, and not more of it than was allowed. */
    char *q = own_malloc->malloc(size);
    CHECK(q == p);
    own_malloc->free(q);
    void *blocks[10];
    for (size_t i = 0; i < 10; i++)
        memset(blocks[i] = own_malloc->malloc(2 * MIB), 1, 2 * MIB);
    for (size_t i = 0; i < 10; i++)
        own_malloc->free(blocks[i]);
    CHECK(own_figures().live == 0 && own_figures().committed <= 11 * MIB);
    /* What is kept serves larger and smaller ones. */
    OPS.purge();
    for (size_t i = 0; i < 4; i++) {
        size = (i % 2 == 0 ? 3 : 7) * MIB;
        fill(p = own_malloc->malloc(size), size, 4);
        CHECK(holds(p, size, 4) && own_malloc->usable_size(p) == size);
        CHECK(own_figures().committed == size + 4 * KIB);
        own_malloc->free(p);
    }
    /* An aligned block does not come from one that isn't. */
    for (size_t i = 0; i < 4; i++) {
        p = own_malloc->aligned_alloc(8 * MIB, 2 * MIB);
        CHECK((uintptr_t)p % (8 * MIB) == 0);
        own_malloc->free(p);
    }
}

/* -------------------------------------------------------------------- heaps */

enum { THREADS = 8 };
static void *shared_heap;
static void *heap_blocks[THREADS][600];

static void *use_heap(void *argument) {
    size_t index = (size_t)argument;
    for (size_t i = 0; i < 600; i++) {
        size_t size = i % 100 == 0 ? 2 * MIB : i * 20;
        void *p = OPS.heap_malloc(shared_heap, size);
        CHECK(p != NULL);
        fill(p, i * 20, (unsigned)index);
        heap_blocks[index][i] = p;
    }
    /* Others' too, as far as they are there. */
    for (size_t i = 0; i < 600; i += 3) {
        void *p = OPS.heap_realloc(shared_heap, heap_blocks[index][i], i * 25 + 1);
        CHECK(p != NULL &&
              holds(p, i % 100 == 0 && i * 20 > i * 25 ? i * 25 : i * 20, (unsigned)index));
        heap_blocks[index][i] = p;
    }
    own_malloc->free(own_malloc->malloc(100));
    return NULL;
}

static void destroy_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    void *other = own_heap("other", NULL, 0);
    void *kept = OPS.heap_malloc(other, 1000);
    fill(kept, 1000, 5);
    for (size_t round = 0; round < 20; round++) {
        shared_heap = own_heap("shared", NULL, 0);
        CHECK(shared_heap != NULL && shared_heap != other);
        pthread_t threads[THREADS];
        for (size_t i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], NULL, use_heap, (void *)i) == 0);
        for (size_t i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        use_heap((void *)0);
        struct memopt_figures figures = {.size = sizeof(figures)};
        CHECK(OPS.heap_figures(shared_heap, &figures) == 0);
        CHECK(figures.live > THREADS * 600 * 6000 && figures.committed >= figures.live);
        for (size_t i = 0; i < 600; i += 2) {
            CHECK(OPS.heap_usable_size(shared_heap, heap_blocks[1][i]) >= i * 20);
            OPS.heap_free(shared_heap, heap_blocks[1][i]);
        }
        unsigned char present;
        void *page = (void *)((uintptr_t)heap_blocks[2][100] & ~(uintptr_t)4095);
        void *small = (void *)((uintptr_t)heap_blocks[2][1] & ~(uintptr_t)4095);
        CHECK(mincore(page, 1, &present) == 0 && mincore(small, 1, &present) == 0);
        OPS.heap_destroy(shared_heap);
        CHECK(mincore(page, 1, &present) != 0 && mincore(small, 1, &present) != 0);
        CHECK(own_figures().live == 0);
    }
    struct memopt_figures figures = {.size = sizeof(figures)};
    CHECK(OPS.heap_figures(other, &figures) == 0 && figures.live == 1024);
    CHECK(holds(kept, 1000, 5));
    OPS.heap_free(other, kept);
    OPS.heap_destroy(other);
    /* More than any first table holds. */
    static void *many[300];
    for (size_t i = 0; i < 300; i++) {
        CHECK((many[i] = own_heap("many", NULL, 0)) != NULL);
        CHECK(is_zero(OPS.heap_calloc(many[i], 10, 10), 100));
        CHECK((uintptr_t)OPS.heap_aligned_alloc(many[i], 512, 10) % 512 == 0);
    }
    for (size_t i = 0; i < 300; i++)
        OPS.heap_destroy(many[i]);
    CHECK(own_heap("region", many, sizeof(many)) == NULL && own_error.code == -ENOTSUP);
    CHECK(strstr(own_error.message, "'region'") != NULL && strstr(own_error.message, "arena"));
}

/* ------------------------------------------------------------------- misuse */

static void twice_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    void *p = own_malloc->malloc(100);
    own_malloc->free(p);
    own_malloc->free(p);
}

static void twice_checked_body(void) {
    CHECK(own_open("pool", "check_free", "yes", NULL) == 0);
    void *p = own_malloc->malloc(100), *q = own_malloc->malloc(100);
    own_malloc->free(p);
    own_malloc->free(q);
    own_malloc->free(p);
}

static void twice_in_heap_body(void) {
    CHECK(own_open("pool", "check_free", "yes", NULL) == 0);
    void *heap = own_heap("heap", NULL, 0);
    void *p = OPS.heap_malloc(heap, 100), *q = OPS.heap_malloc(heap, 100);
    OPS.heap_free(heap, p);
    OPS.heap_free(heap, q);
    OPS.heap_free(heap, p);
}

/* Without check_free: nobody gets the same block twice. */
static void twice_unchecked_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    void *p = own_malloc->malloc(100), *q = own_malloc->malloc(100);
    own_malloc->free(p);
    own_malloc->free(q);
    own_malloc->free(p);
    CHECK(own_malloc->malloc(100) == p && own_malloc->malloc(100) == q);
    own_malloc->malloc(100);
}

static void written_after_free_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    char *volatile p = own_malloc->malloc(100);
    own_malloc->free(p);
    for (size_t i = 8; i < 16; i++)
        p[i] = 0;
    own_malloc->malloc(100);
}

static void twice_foreign_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    void *blocks[] = {own_malloc->malloc(100), own_malloc->malloc(100), NULL};
    in_thread(free_all, blocks);
    in_thread(free_all, blocks);
    for (size_t i = 0; i < 10000; i++) /* found when the page is next looked at */
        own_malloc->malloc(100);
}

static void twice_here_and_there_body(void) {
    CHECK(own_open("pool", "check_free", "yes", NULL) == 0);
    void *blocks[] = {own_malloc->malloc(100), NULL};
    in_thread(free_all, blocks);
    own_malloc->free(blocks[0]);
}

static void twice_huge_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    void *p = own_malloc->malloc(3 * MIB);
    own_malloc->free(p);
    own_malloc->free(p);
}

static void twice_released_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    void *p = own_malloc->malloc(100000);
    CHECK(own_malloc->malloc(100000) != NULL); /* from here on malloc is with that page */
    own_malloc->free(p);                       /* so this one's goes */
    own_malloc->free(p);
}

static void stack_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    _Alignas(16) char bytes[64];
    own_malloc->free(own_malloc->malloc(1));
    own_malloc->free(bytes);
}

static void static_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    own_malloc->realloc(own_output, 10);
}

static void inside_huge_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    own_malloc->free((char *)own_malloc->malloc(3 * MIB) + 64);
}

static void *free_inside(void *argument) {
    own_malloc->free((char *)argument + 8);
    return NULL;
}

static void inside_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    in_thread(free_inside, own_malloc->malloc(100));
}

/* Each is as far inside of a block as `argument` says, of a page of one slice, of eight, of
 * one block. */
static const struct {
    size_t size, at;
} inside[] = {{100, 16},      {100, 8},     {100, 1},          {16, 8},
              {48, 32},       {1024, 512},  {7168, 16},        {20000, 4096},
              {65536, 32768}, {200000, 16}, {1 << 20, 1 << 19}};
enum { INSIDE = sizeof(inside) / sizeof(inside[0]) };
static size_t inside_row;
static bool inside_checked;

static char *inside_start(void) {
    CHECK(own_open("pool", "check_free", inside_checked ? "yes" : "no", NULL) == 0);
    own_malloc->malloc(inside[inside_row].size); /* not the first of its page */
    char *p = own_malloc->malloc(inside[inside_row].size);
    CHECK(p != NULL && own_malloc->usable_size(p) >= inside[inside_row].size);
    return p + inside[inside_row].at;
}
static void inside_free_body(void) {
    char *p = inside_start();
    own_malloc->free(p);
}
static void inside_realloc_body(void) {
    char *p = inside_start();
    own_malloc->realloc(p, 10);
}
static void *free_it(void *argument) {
    own_malloc->free(argument);
    return NULL;
}
static void inside_foreign_body(void) {
    in_thread(free_it, inside_start());
}
static void inside_heap_body(void) {
    inside_start();
    void *heap = own_heap("heap", NULL, 0);
    OPS.heap_free(heap,
                  (char *)OPS.heap_malloc(heap, inside[inside_row].size) + inside[inside_row].at);
}

static void test_inside(void **state) {
    (void)state;
    static void (*const bodies[])(void) = {inside_free_body, inside_realloc_body,
                                           inside_foreign_body, inside_heap_body};
    for (int checked = 0; checked <= 1; checked++)
        for (inside_row = 0; inside_row < INSIDE; inside_row++)
            for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
                inside_checked = checked;
                own_dies(bodies[i], SIGABRT, "inside of a block, not its start");
            }
}

/* The multiplication says what a division would, for every size and place. */
static void test_is_start(void **state) {
    (void)state;
    static const uintptr_t starts[] = {0x10000, 0x7ffffffff0000, 0x7f0012340000, 0x5550000a0000};
    for (unsigned bin = 1; bin < POOL_BINS; bin++) {
        size_t size = pool_bin_size(bin);
        size_t page = size <= POOL_SMALL_MAX    ? POOL_SLICE_SIZE
                      : size <= POOL_MEDIUM_MAX ? POOL_MEDIUM_SLICES * POOL_SLICE_SIZE
                                                : size;
        uint64_t inverse = UINT64_MAX / size + 1;
        for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
            for (size_t at = 0; at < page; at += i == 0 ? 1 : 16)
                if (pool_is_start((void *)(starts[i] + at), inverse,
                                  0 - (uint64_t)starts[i] * inverse) != (at % size == 0))
                    fail_msg("size %zu, %zu from the start", size, at);
    }
    assert_false(pool_is_start(starts, 0, 0));
}

/* Address space that is used up: what one thread keeps is another's before malloc fails. */
enum { SMALL = 1000, PIECES = 64 * 1024 };
static char *pieces[PIECES];
static pthread_barrier_t two;

static void fill_pieces(void) {
    for (size_t i = 0; i < PIECES; i++)
        CHECK((pieces[i] = own_malloc->malloc(SMALL)) != NULL);
}

/* Frees all but each `kept`th; 0: all. */
static void clear_pieces(size_t kept) {
    for (size_t i = 0; i < PIECES; i++)
        if (kept == 0 || i % kept != 0) {
            own_malloc->free(pieces[i]);
            pieces[i] = NULL;
        }
}

static void *fill_and_keep(void *argument) {
    (void)argument;
    fill_pieces();
    clear_pieces(1000);
    return NULL;
}

static size_t got[4];
static const size_t wanted[] = {SMALL, 30000, 300000, 3 * MIB};

static void *take_from_others(void *argument) {
    enum { MOST = 20000 };
    static char *mine[MOST];
    size_t limit = *(size_t *)argument;
    own_malloc->free(own_malloc->malloc(1)); /* it has its records before the room is gone */
    pthread_barrier_wait(&two);
    pthread_barrier_wait(&two);
    for (size_t k = 0; k < limit; k++) {
        size_t n = 0;
        while (n < MOST && n * wanted[k] < 20 * MIB &&
               (mine[n] = own_malloc->calloc(1, wanted[k])) != NULL) {
            CHECK(own_malloc->usable_size(mine[n]) >= wanted[k] && is_zero(mine[n], wanted[k]));
            memset(mine[n], (int)n, wanted[k]);
            n++;
        }
        got[k] = n * wanted[k];
        for (size_t i = 0; i < n; i++) {
            for (size_t at = 0; at < wanted[k]; at++)
                CHECK(mine[i][at] == (char)i); /* nobody else has it */
            own_malloc->free(mine[i]);
        }
    }
    return NULL;
}

static void without_room(size_t limit) {
    pthread_t thread;
    struct rlimit space;
    unsigned long pages = 0;
    char text[64] = "";
    CHECK(pthread_create(&thread, NULL, take_from_others, &limit) == 0);
    pthread_barrier_wait(&two);
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    CHECK(read(fd, text, sizeof(text) - 1) > 0 && sscanf(text, "%lu", &pages) == 1);
    close(fd);
    CHECK(getrlimit(RLIMIT_AS, &space) == 0);
    space.rlim_cur = pages * 4096;
    CHECK(setrlimit(RLIMIT_AS, &space) == 0);
    pthread_barrier_wait(&two);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void start_alone(void) {
    CHECK(own_open("pool", "purge_delay", "1h", NULL) == 0);
    CHECK(pthread_barrier_init(&two, NULL, 2) == 0);
}

/* The other thread's segments are empty: they go back, and any size can be had. */
static __attribute__((unused)) void room_of_empty_body(void) {
    start_alone();
    fill_pieces();
    clear_pieces(0);
    without_room(4);
    for (size_t k = 0; k < 4; k++)
        CHECK(got[k] >= 19 * MIB);
}

/* Each still has a block: free slices are taken. */
static __attribute__((unused)) void room_of_used_body(void) {
    start_alone();
    fill_pieces();
    clear_pieces(1000);
    without_room(3);
    for (size_t k = 0; k < 3; k++)
        CHECK(got[k] >= 19 * MIB);
    clear_pieces(0);
    fill_pieces();
}

/* The other thread has ended. */
static __attribute__((unused)) void room_of_orphans_body(void) {
    start_alone();
    in_thread(fill_and_keep, NULL);
    void *mine = own_malloc->malloc(1); /* takes over that shard; the next thread has its own */
    without_room(3);
    for (size_t k = 0; k < 3; k++)
        CHECK(got[k] >= 19 * MIB);
    own_malloc->free(mine);
}

/* Nobody has anything: NULL and ENOMEM, and afterwards all is well. */
static __attribute__((unused)) void no_room_body(void) {
    start_alone();
    fill_pieces();
    without_room(1);
    CHECK(got[0] < 9 * MIB); /* a segment of its own, the rest of the other one */
    clear_pieces(0);
    fill_pieces();
}

static void garbage_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    own_malloc->free((void *)(uintptr_t)0xdeadbeefdeadbeef);
}

/* A live block may hold what looks like the mark of a free one. */
static void no_false_alarm_body(void) {
    CHECK(own_open("pool", "check_free", "yes", NULL) == 0);
    void **p = own_malloc->malloc(100), **q = own_malloc->malloc(100);
    own_malloc->free(p);
    void *mark = ((void *volatile *)p)[1];
    CHECK(mark != NULL);
    q[1] = mark;
    own_malloc->free(q);
    void **r = own_malloc->malloc(100);
    r[1] = mark;
    void *blocks[] = {r, NULL};
    in_thread(free_all, blocks);
    for (size_t i = 0; i < 10000; i++)
        CHECK(own_malloc->malloc(100) != NULL);
}

static void test_misuse(void **state) {
    (void)state;
    static const char unknown[] = "not an allocated block, or freed before";
    static const struct {
        void (*body)(void);
        const char *text;
    } cases[] = {
        {twice_body, "double free"},
        {twice_checked_body, "double free"},
        {twice_in_heap_body, "double free"},
        {twice_unchecked_body, "malloc(0x"},
        {written_after_free_body, "the next free block was freed twice or written to"},
        {twice_foreign_body, "double free"},
        {twice_here_and_there_body, "double free"},
        {twice_huge_body, unknown},
        {twice_released_body, unknown},
        {stack_body, unknown},
        {static_body, unknown},
        {inside_huge_body, unknown},
        {inside_body, "inside of a block, not its start"},
        {garbage_body, "memopt: pool: free(0xdeadbeefdeadbeef): not an allocated block"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        own_dies(cases[i].body, SIGABRT, cases[i].text);
        assert_int_equal(strncmp(own_output, "memopt: pool: ", 14), 0);
    }
    own_passes(no_false_alarm_body);
}

/* --------------------------------------------------------- threads and fork */

enum { SLOTS = 512 };
static _Atomic(void *) slots[SLOTS];
static _Atomic bool halt;

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* A block says how long it is and ends with its own address. */
static void *made(uint64_t random) {
    size_t size = 32 + random % 4096;
    if (random >> 40 & 1)
        size = random % 64 == 0 ? 200 * KIB : 40 + random % 200;
    if ((random >> 41 & 1023) == 0)
        size = 3 * MIB;
    size &= ~(size_t)15;
    void **p = random >> 60 & 1 ? own_malloc->malloc(size) : own_malloc->calloc(1, size);
    CHECK(p != NULL);
    p[0] = (void *)size;
    p[size / sizeof(*p) - 1] = p;
    return p;
}

static void checked_free(void *block, uint64_t random) {
    void **p = block;
    size_t size = (size_t)p[0];
    CHECK(p[size / sizeof(*p) - 1] == p && own_malloc->usable_size(p) >= size);
    if (random >> 50 & 1) {
        void **moved = own_malloc->realloc(p, size + size / 2);
        CHECK(moved[0] == (void *)size && moved[size / sizeof(*p) - 1] == p);
        p = moved;
    }
    own_malloc->free(p);
}

static void *exchange(void *argument) {
    uint64_t random = 88172645463325252u + (uintptr_t)argument;
    for (size_t i = 0; i < 20000 && !halt; i++) {
        uint64_t r = next_random(&random);
        void *old = atomic_exchange(&slots[r >> 20 & (SLOTS - 1)], made(r));
        if (old != NULL)
            checked_free(old, r);
    }
    return NULL;
}

static void *watch(void *argument) {
    while (!halt) {
        struct memopt_figures figures = own_figures();
        CHECK(figures.committed >= figures.live && figures.live < 4096 * MIB);
        OPS.purge();
        usleep(2000);
    }
    return argument;
}

static void free_slots(void) {
    for (size_t i = 0; i < SLOTS; i++) {
        void *old = atomic_exchange(&slots[i], NULL);
        if (old != NULL)
            checked_free(old, 0);
    }
}

/* Threads come and go, free each other's blocks, and are looked at meanwhile. */
static void threads_body(void) {
    CHECK(own_open("pool", "purge_delay", "1ms", NULL) == 0);
    pthread_t threads[THREADS], watcher;
    CHECK(pthread_create(&watcher, NULL, watch, NULL) == 0);
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], NULL, exchange, (void *)(round * 100 + i)) == 0);
        for (size_t i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
    }
    halt = true;
    pthread_join(watcher, NULL);
    free_slots();
    CHECK(own_figures().live == 0);
    OPS.purge();
    CHECK(own_figures().committed < 64 * KIB);
}

/* The child frees what threads that it does not have allocated. */
static void fork_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    void *heap = own_heap("heap", NULL, 0);
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, exchange, (void *)i) == 0);
    for (size_t i = 0; i < 10; i++) {
        void *mine = made(12345 * i);
        usleep(1000);
        pid_t pid = fork();
        if (pid == 0) {
            free_slots();
            checked_free(mine, 0);
            for (uint64_t r = 1, k = 0; k < 20000; k++)
                slots[k % SLOTS] = made(next_random(&r));
            free_slots();
            CHECK(OPS.heap_malloc(heap, 100) != NULL);
            OPS.purge();
            own_figures();
            OPS.heap_destroy(heap);
            /* A child's child. */
            pid_t second = fork();
            if (second == 0) {
                own_malloc->free(own_malloc->malloc(100));
                _exit(0);
            }
            int status;
            CHECK(waitpid(second, &status, 0) == second && status == 0);
            _exit(0);
        }
        int status;
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
        own_malloc->free(mine);
    }
    halt = true;
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    free_slots();
    CHECK(own_figures().live == 0);
}

/* ------------------------------------------------------ failing system calls */

#ifndef MO_SANITIZED
/* Every call succeeds or says it has not, and no block suffers. */
static void work_through(void *heap) {
    enum { COUNT = 300 };
    static void *blocks[COUNT];
    static size_t sizes[COUNT];
    uint64_t random = 4711;
    for (size_t i = 0; i < COUNT * 3; i++) {
        size_t k = i % COUNT;
        uint64_t r = next_random(&random);
        size_t size = (r >> 8) % (r % 16 == 0 ? 4 * MIB : r % 4 == 0 ? 200000 : 2000) + 1;
        void *p;
        if (blocks[k] != NULL) {
            CHECK(holds(blocks[k], sizes[k], (unsigned)k));
            if (r % 3 == 0) {
                OPS.heap_free(heap, blocks[k]);
                blocks[k] = NULL;
                continue;
            }
            p = OPS.heap_realloc(heap, blocks[k], size);
            CHECK(holds(p != NULL ? p : blocks[k], sizes[k] < size ? sizes[k] : size, (unsigned)k));
            if (p == NULL)
                continue;
        } else if (r % 5 == 0) {
            p = OPS.heap_aligned_alloc(heap, (size_t)1 << (r >> 30) % 23, size);
        } else {
            p = OPS.heap_calloc(heap, 1, size);
            CHECK(p == NULL || is_zero(p, size));
        }
        blocks[k] = p;
        sizes[k] = size < 5000 ? size : 5000;
        if (p != NULL)
            fill(p, sizes[k], (unsigned)k);
        if (i % 200 == 0)
            OPS.heap_purge(heap);
    }
    for (size_t k = 0; k < COUNT; k++)
        if (blocks[k] != NULL) {
            CHECK(holds(blocks[k], sizes[k], (unsigned)k));
            OPS.heap_free(heap, blocks[k]);
            blocks[k] = NULL;
        }
}

static void faults_body(void) {
    CHECK(own_open("pool", "purge_delay", "0", "huge_cache", "8MiB", NULL) == 0);
    static const int kinds[] = {FAULT_MMAP, FAULT_MUNMAP, FAULT_MREMAP, FAULT_MADVISE};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        for (int for_good = 0; for_good < 2; for_good++)
            for (long nth = 1; nth < 1000; nth += 1 + nth / 4) {
                void *heap = own_heap("faulty", NULL, 0);
                CHECK(heap != NULL);
                faults_arm(kinds[i], nth, for_good);
                work_through(heap);
                long fired = faults.fired;
                faults_arm(0, 0, 0);
                struct memopt_figures figures = {.size = sizeof(figures)};
                CHECK(OPS.heap_figures(heap, &figures) == 0 && figures.live == 0);
                OPS.heap_destroy(heap);
                if (fired == 0)
                    break;
                CHECK(nth < 900);
            }
}

/* free() leaves errno alone, whatever becomes of the memory. */
static void errno_body(void) {
    CHECK(own_open("pool", "purge_delay", "0", "huge_cache", "0", NULL) == 0);
    static const size_t sizes[] = {100, 5000, 100000, 5 * MIB};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *blocks[200];
        for (size_t k = 0; k < 200; k++)
            CHECK((blocks[k] = own_malloc->malloc(sizes[i])) != NULL);
        faults_arm(FAULT_MUNMAP | FAULT_MADVISE, 1, 1);
        errno = 4711;
        for (size_t k = 0; k < 200; k++) {
            own_malloc->free(blocks[k]);
            CHECK(errno == 4711);
        }
        CHECK(sizes[i] < MIB || faults.fired > 0);
        faults_arm(0, 0, 0);
    }
}

/* A thread that can't even get its bookkeeping gets NULL, then all it wants. */
static void *first_fails(void *argument) {
    faults_arm(FAULT_MMAP, 1, 1);
    for (size_t i = 0; i < 3; i++)
        CHECK(own_malloc->malloc(100) == NULL && own_malloc->calloc(1, 3 * MIB) == NULL &&
              own_malloc->aligned_alloc(256, 100) == NULL);
    CHECK(faults.fired > 0);
    faults_arm(0, 0, 0);
    own_malloc->free(own_malloc->malloc(100));
    return argument;
}

static void first_fault_body(void) {
    CHECK(own_open("pool", NULL) == 0);
    in_thread(first_fails, NULL);
}
#endif

/* -------------------------------------------------------------------- table */

/* A plugin opens once a process, so each body has a child of its own. */
static void test_body(void **state) {
    void (*body)(void);
    memcpy(&body, *state, sizeof(body));
    own_passes(body);
}

int main(void) {
    static struct {
        const char *name;
        void (*body)(void);
    } bodies[] = {
        {"foreign", foreign_body},
        {"ended_thread_freed", orphan_freed_body},
        {"ended_thread_adopted", orphan_adopted_body},
        {"ended_thread_of_heap", heap_adopted_body},
        {"late_destructor", late_body},
        {"purge", purge_body},
        {"purge_delay", purge_delay_body},
        {"purge_ended_threads", purge_ended_body},
        {"purge_at_once", purge_at_once_body},
        {"purge_other_threads", purge_others_body},
        {"plain_pages", plain_pages_body},
        {"huge_pages", huge_pages_body},
        {"populate", populate_body},
        {"huge", huge_body},
        {"heap_destroy", destroy_body},
        {"classes", classes_body},
        {"aligned", aligned_body},
        {"fresh_pages", calloc_body},
        {"threads", threads_body},
        {"fork", fork_body},
#ifndef MO_SANITIZED /* whose run-times need address space, too */
        {"room_of_empty", room_of_empty_body},
        {"room_of_used", room_of_used_body},
        {"room_of_orphans", room_of_orphans_body},
        {"no_room", no_room_body},
        {"failing_calls", faults_body},
        {"failing_first_call", first_fault_body},
        {"errno", errno_body},
#endif
    };
    enum { BODIES = sizeof(bodies) / sizeof(bodies[0]) };
    enum { FIXED = 3 };
    struct CMUnitTest tests[BODIES + FIXED] = {cmocka_unit_test(test_misuse),
                                               cmocka_unit_test(test_inside),
                                               cmocka_unit_test(test_is_start)};
    for (size_t i = 0; i < BODIES; i++)
        tests[i + FIXED] = (struct CMUnitTest){
            .name = bodies[i].name, .test_func = test_body, .initial_state = &bodies[i].body};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
