/*
 * conformance_allocator.c - what every allocator plugin must do, as cases that run over
 * its default heap, over a heap of its own and over the process's malloc.
 */
#include "config.h"

#include "cli/conformance.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

#if defined(__SANITIZE_ADDRESS__)
/* tcmalloc never frees its list of extensions. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:MallocExtension::Register\n";
}
#endif

/* ----------------------------------------------------------------- target */

static const struct memopt_malloc *table;
static const struct memopt_allocator_ops *ops; /* NULL: the process's malloc */
static void *heap;                             /* NULL: the default heap */
static bool heap_mode;
static size_t limit;
static unsigned scale;
static bool figures_required; /* memopt's own plugin must know its figures */
/* The blocks are AddressSanitizer's or ThreadSanitizer's: they keep freed memory,
 * have figures of their own and may hang in a child of a busy process. */
static bool sanitizers_malloc;

static void *t_malloc(size_t size) {
    return heap_mode ? ops->heap_malloc(heap, size) : table->malloc(size);
}
static void *t_calloc(size_t count, size_t size) {
    return heap_mode ? ops->heap_calloc(heap, count, size) : table->calloc(count, size);
}
static void *t_realloc(void *p, size_t size) {
    return heap_mode ? ops->heap_realloc(heap, p, size) : table->realloc(p, size);
}
static void *t_aligned(size_t alignment, size_t size) {
    return heap_mode ? ops->heap_aligned_alloc(heap, alignment, size)
                     : table->aligned_alloc(alignment, size);
}
static void t_free(void *p) {
    heap_mode ? ops->heap_free(heap, p) : table->free(p);
}
static size_t t_usable(void *p) {
    return heap_mode ? ops->heap_usable_size(heap, p) : table->usable_size(p);
}

static void *make_heap(const char *name) {
    struct memopt_heap_params params = {.size = sizeof(params), .name = name, .limit = UINT64_MAX};
    struct memopt_error error = MEMOPT_ERROR_INIT;
    void *fresh = NULL;
    int r = ops->heap_create(&mo_host, &params, &fresh, &error);
    CHECK(r == 0 && fresh != NULL, "heap_create: %d %s", r, error.message);
    return fresh;
}

/* ------------------------------------------------------------------ tools */

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Small sizes are the most frequent, all magnitudes up to `most` occur. */
static size_t random_size(uint64_t *state, size_t most) {
    unsigned bits = (unsigned)(64 - __builtin_clzl(most));
    size_t size = next_random(state) & (((size_t)1 << (1 + next_random(state) % bits)) - 1);
    return size < most ? size : most;
}

static unsigned char pattern(size_t i, unsigned tag) {
    return (unsigned char)(i * 31 + (i >> 8) * 7 + tag * 17 + 1);
}

/* Contents: all is written; of a large block the ends and samples are looked at.
 * Not seen by ThreadSanitizer, which does not see either that an allocator hands
 * a freed block's memory on from thread to thread in good order. */
#define EACH_SAMPLE(I, SIZE)                                                                       \
    for (size_t I = 0; I < (SIZE);                                                                 \
         I += (I < 2048 || I + 512 >= (SIZE) ? 1 : (I + 509 < (SIZE)-512 ? 509 : 1)))

__attribute__((no_sanitize("thread"))) static void fill(void *p, size_t size, unsigned tag) {
    unsigned char *bytes = p;
    for (size_t i = 0; i < size; i++)
        bytes[i] = pattern(i, tag);
    __asm__ volatile("" ::"r"(p) : "memory"); /* it is written even if nobody reads it */
}

__attribute__((no_sanitize("thread"))) static void check(const void *p, size_t size, unsigned tag,
                                                         const char *what) {
    const volatile unsigned char *bytes = p;
    EACH_SAMPLE(i, size)
    CHECK(bytes[i] == pattern(i, tag), "%s: byte %zu of %zu at %p is %u, not %u", what, i, size, p,
          bytes[i], pattern(i, tag));
}

__attribute__((no_sanitize("thread"))) static void check_zero(const void *p, size_t size,
                                                              const char *what) {
    const volatile unsigned char *bytes = p;
    for (size_t i = 0; i < size; i++)
        CHECK(bytes[i] == 0, "%s: byte %zu of %zu at %p is %u, not 0", what, i, size, p, bytes[i]);
}

/* Writes into each page. */
__attribute__((no_sanitize("thread"))) static void touch(void *p, size_t size) {
    volatile unsigned char *bytes = p;
    for (size_t i = 0; i < size; i += 4096)
        bytes[i] = 1;
    bytes[size - 1] = 1;
}

/* Addresses as numbers, so that the compiler keeps both sides of a test. */
static bool aligned(const void *p, size_t alignment) {
    return ((uintptr_t)p & (alignment - 1)) == 0;
}

static size_t resident(void) {
    char text[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0, "/proc/self/statm can't be read");
    close(fd);
    unsigned long all, rss;
    CHECK(sscanf(text, "%lu %lu", &all, &rss) == 2, "/proc/self/statm: '%s'", text);
    return rss * (size_t)sysconf(_SC_PAGESIZE);
}

static size_t at_most(size_t size, size_t most) {
    return size < most ? size : most;
}

/* A zeroed array that is not from what is tested. */
static void *array(size_t count, size_t size) {
    void *p = mmap(NULL, count * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
    return p;
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument) {
    int code = pthread_create(thread, NULL, run, argument);
    CHECK(code == 0, "pthread_create: %s", strerror(code));
}

/* ------------------------------------------------------------------ cases */

static void alignment(void) {
    static const size_t sizes[] = {1,     2,     7,      8,      15,     16,   17,   24,
                                   32,    48,    100,    128,    200,    256,  500,  512,
                                   1000,  1024,  2000,   4096,   5000,   8192, 9999, 16384,
                                   40000, 65536, 100000, 131072, 1000000};
    enum { N = sizeof(sizes) / sizeof(*sizes) };
    void *blocks[N];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++) {
            blocks[i] = round == 0   ? t_malloc(sizes[i])
                        : round == 1 ? t_calloc(1, sizes[i])
                                     : t_realloc(t_malloc(3), sizes[i]);
            CHECK(blocks[i] != NULL, "no block of %zu bytes", sizes[i]);
            size_t least = sizes[i] >= 16 ? 16 : sizes[i] >= 8 ? 8 : 1;
            CHECK(aligned(blocks[i], least), "a block of %zu bytes is at %p", sizes[i], blocks[i]);
            fill(blocks[i], sizes[i], (unsigned)i);
        }
        for (size_t i = 0; i < N; i++) {
            check(blocks[i], sizes[i], (unsigned)i, "alignment");
            t_free(blocks[i]);
        }
    }
    const size_t most = at_most(2 * MIB, limit / 16);
    for (size_t a = 16; a <= most; a *= 2) {
        const size_t wanted[] = {1, a - 1, a, a + 1, 3 * a + 1};
        void *got[5];
        for (size_t i = 0; i < 5; i++) {
            got[i] = t_aligned(a, wanted[i]);
            CHECK(got[i] != NULL && aligned(got[i], a), "aligned_alloc(%zu, %zu) gives %p", a,
                  wanted[i], got[i]);
            CHECK(t_usable(got[i]) >= wanted[i], "aligned_alloc(%zu, %zu) has %zu usable bytes", a,
                  wanted[i], t_usable(got[i]));
            fill(got[i], wanted[i], (unsigned)i);
        }
        for (size_t i = 0; i < 5; i++)
            check(got[i], wanted[i], (unsigned)i, "aligned_alloc");
        void *moved = t_realloc(got[4], 4 * a);
        CHECK(moved != NULL, "realloc of an aligned block fails");
        check(moved, wanted[4], 4, "realloc of an aligned block");
        t_free(moved);
        for (size_t i = 0; i < 4; i++)
            t_free(got[i]);
    }
}

static void zero(void) {
    enum { N = 60 };
    void *blocks[N];
    for (size_t i = 0; i < N; i++) {
        blocks[i] = i % 3 == 0 ? t_malloc(0) : i % 3 == 1 ? t_calloc(0, 8) : t_aligned(64, 0);
        CHECK(blocks[i] != NULL, "a block of 0 bytes is NULL (%zu)", i % 3);
        for (size_t j = 0; j < i; j++)
            CHECK(blocks[i] != blocks[j], "two live blocks of 0 bytes are at %p", blocks[i]);
    }
    for (size_t i = 0; i < N; i++) {
        fill(blocks[i], t_usable(blocks[i]), (unsigned)i);
        if (i % 2 == 0) {
            blocks[i] = t_realloc(blocks[i], 100);
            CHECK(blocks[i] != NULL && t_usable(blocks[i]) >= 100, "realloc from 0 to 100 bytes");
        }
        t_free(blocks[i]);
    }
}

static void too_large(void) {
    static const size_t sizes[] = {SIZE_MAX,       SIZE_MAX - 15,           SIZE_MAX - 4096,
                                   PTRDIFF_MAX,    (size_t)PTRDIFF_MAX + 1, SIZE_MAX / 4 + 1,
                                   (size_t)1 << 60};
    const size_t kept_size = 5000;
    void *kept = t_malloc(kept_size);
    CHECK(kept != NULL, "no block of %zu bytes", kept_size);
    fill(kept, kept_size, 9);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        const struct {
            const char *name;
            void *p;
            int code;
        } got[] = {
            {"malloc", (errno = 0, t_malloc(sizes[i])), errno},
            {"calloc", (errno = 0, t_calloc(1, sizes[i])), errno},
            {"realloc", (errno = 0, t_realloc(kept, sizes[i])), errno},
            {"aligned_alloc", (errno = 0, t_aligned(4096, sizes[i])), errno},
        };
        for (size_t j = 0; j < sizeof(got) / sizeof(*got); j++) {
            CHECK(got[j].p == NULL, "%s of %zu bytes gives %p", got[j].name, sizes[i], got[j].p);
            if (ops == NULL)
                CHECK(got[j].code == ENOMEM, "%s of %zu bytes leaves errno %d", got[j].name,
                      sizes[i], got[j].code);
        }
        check(kept, kept_size, 9, "the block whose realloc failed");
    }
    if (ops == NULL) {
        CHECK(t_calloc(SIZE_MAX / 2, 3) == NULL, "calloc's product overflows and gives a block");
        CHECK(t_calloc((size_t)1 << 33, (size_t)1 << 31 | 1) == NULL,
              "calloc's product overflows and gives a block");
    }
    kept = t_realloc(kept, 2 * kept_size);
    CHECK(kept != NULL, "after failures realloc fails");
    check(kept, kept_size, 9, "realloc after failures");
    t_free(kept);
}

static void realloc_keeps(void) {
    static const size_t steps[] = {1,     15,    16,    17,     100,   90,      1000,    4000,
                                   4100,  40000, 30000, 200000, 32767, 32769,   1000000, 900000,
                                   70000, 3000,  128,   64,     8,     5000000, 10};
    for (size_t first = 0; first < 4; first++) {
        size_t size = steps[first];
        unsigned tag = 1;
        void *p = t_malloc(size);
        void *neighbour = t_malloc(64);
        CHECK(p != NULL && neighbour != NULL, "no block of %zu bytes", size);
        fill(p, size, tag);
        fill(neighbour, 64, 2);
        for (size_t i = first; i < sizeof(steps) / sizeof(*steps); i++) {
            size_t next = at_most(steps[i], limit / 8);
            void *moved = t_realloc(p, next);
            CHECK(moved != NULL, "realloc from %zu to %zu fails", size, next);
            check(moved, size < next ? size : next, tag, "what realloc kept");
            CHECK(t_usable(moved) >= next, "realloc to %zu has %zu usable bytes", next,
                  t_usable(moved));
            tag = (unsigned)i + 3;
            fill(moved, next, tag);
            check(neighbour, 64, 2, "the neighbour of a block that was reallocated");
            p = moved;
            size = next;
        }
        t_free(p);
        t_free(neighbour);
    }
}

static void calloc_zeroes(void) {
    static const size_t sizes[] = {1, 16, 24, 100, 512, 1000, 4096, 10000, 70000, 300000, 2000000};
    enum { N = 16 };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        size_t size = at_most(sizes[i], limit / 64);
        void *blocks[N];
        for (int round = 0; round < 3; round++) {
            for (size_t j = 0; j < N; j++) {
                blocks[j] = t_malloc(size);
                CHECK(blocks[j] != NULL, "no block of %zu bytes", size);
                memset(blocks[j], 0xff, t_usable(blocks[j]));
            }
            for (size_t j = 0; j < N; j++)
                t_free(blocks[j]);
            for (size_t j = 0; j < N; j++) {
                blocks[j] = j % 2 == 0 ? t_calloc(1, size) : t_calloc(size, 1);
                CHECK(blocks[j] != NULL, "no zeroed block of %zu bytes", size);
                check_zero(blocks[j], size, "calloc after the memory was used");
                memset(blocks[j], 0xff, size);
            }
            for (size_t j = 0; j < N; j++)
                t_free(blocks[j]);
        }
    }
}

static void usable_size(void) {
    enum { N = 400 };
    void **blocks = array(N, sizeof(*blocks));
    size_t *usable = array(N, sizeof(*usable));
    uint64_t seed = 0x9e3779b97f4a7c15;
    for (size_t i = 0; i < N; i++) {
        size_t size = random_size(&seed, 50000);
        blocks[i] = i % 5 == 4 ? t_aligned((size_t)16 << (i % 8), size) : t_malloc(size);
        CHECK(blocks[i] != NULL, "no block of %zu bytes", size);
        usable[i] = t_usable(blocks[i]);
        CHECK(usable[i] >= size, "%zu usable bytes in a block of %zu", usable[i], size);
        fill(blocks[i], usable[i], (unsigned)i);
    }
    for (size_t i = 0; i < N; i += 3) {
        t_free(blocks[i]);
        blocks[i] = NULL;
    }
    for (size_t i = 0; i < N; i++) {
        if (blocks[i] == NULL)
            continue;
        CHECK(t_usable(blocks[i]) == usable[i], "the usable size of %p went from %zu to %zu",
              blocks[i], usable[i], t_usable(blocks[i]));
        check(blocks[i], usable[i], (unsigned)i, "all of the usable size");
        t_free(blocks[i]);
    }
}

/* What the plugin says of itself: below sized_below the size asked for decides. */
static void the_size_decides(void) {
    enum { N = 500 };
    size_t below = heap_mode ? 0 : at_most(table->sized_below, 16 * KIB);
    size_t *expected = array(below + 1, sizeof(*expected));
    void **blocks = array(N, sizeof(*blocks));
    uint64_t seed = 0x2545f4914f6cdd1d;
    for (size_t round = 0; below > 0 && round < 200000 / scale; round++) {
        size_t i = next_random(&seed) % N, size = random_size(&seed, below - 1);
        if (blocks[i] != NULL)
            t_free(blocks[i]);
        if (round % 16 == 0) { /* blocks among them that came by other ways */
            blocks[i] = t_aligned((size_t)16 << (round / 16 % 8), size);
            if (round % 32 == 0)
                blocks[i] = t_realloc(blocks[i], size / 2 + 1);
            continue;
        }
        blocks[i] = round % 3 == 0 ? t_calloc(1, size) : t_malloc(size);
        CHECK(blocks[i] != NULL, "no block of %zu bytes", size);
        size_t usable = t_usable(blocks[i]);
        if (expected[size] == 0)
            expected[size] = usable;
        CHECK(usable == expected[size], "%zu usable bytes of %zu, there were %zu before", usable,
              size, expected[size]);
    }
    for (size_t i = 0; i < N; i++)
        if (blocks[i] != NULL)
            t_free(blocks[i]);
}

static void large(void) {
    size_t size = at_most(256 * MIB + 12345, limit / 4);
    void *first = t_malloc(size);
    CHECK(first != NULL, "no block of %zu bytes", size);
    CHECK(t_usable(first) >= size, "%zu usable bytes of %zu", t_usable(first), size);
    fill(first, size, 1);
    void *second = t_calloc(1, size / 2);
    CHECK(second != NULL, "no zeroed block of %zu bytes beside it", size / 2);
    CHECK(((char *)second)[0] == 0 && ((char *)second)[size / 2 - 1] == 0, "it is not zeroed");
    t_free(second);
    void *grown = t_realloc(first, size + size / 4);
    CHECK(grown != NULL, "realloc from %zu to %zu fails", size, size + size / 4);
    check(grown, size, 1, "a large block after realloc");
    void *shrunk = t_realloc(grown, 1000);
    CHECK(shrunk != NULL, "realloc from %zu to 1000 fails", size + size / 4);
    check(shrunk, 1000, 1, "a large block after shrinking");
    t_free(shrunk);
}

struct slot {
    void *p;
    size_t size;
    unsigned tag;
};

/* A random walk over `count` slots with every operation and checked contents. */
static void walk(uint64_t seed, size_t count, size_t steps, size_t most) {
    struct slot *slots = array(count, sizeof(*slots));
    for (size_t step = 0; step < steps; step++) {
        struct slot *slot = &slots[next_random(&seed) % count];
        size_t size = random_size(&seed, most);
        unsigned tag = (unsigned)next_random(&seed);
        if (slot->p != NULL) {
            check(slot->p, slot->size, slot->tag, "walk");
            if (next_random(&seed) % 3 != 0) {
                t_free(slot->p);
                slot->p = NULL;
                continue;
            }
            size += size == 0;
            slot->p = t_realloc(slot->p, size);
            CHECK(slot->p != NULL, "no block of %zu bytes in step %zu", size, step);
            check(slot->p, slot->size < size ? slot->size : size, slot->tag, "walk: realloc");
        } else {
            unsigned kind = (unsigned)(next_random(&seed) % 8);
            slot->p = kind == 0   ? t_calloc(1, size)
                      : kind == 1 ? t_aligned((size_t)16 << next_random(&seed) % 9, size)
                                  : t_malloc(size);
            CHECK(slot->p != NULL, "no block of %zu bytes in step %zu", size, step);
            if (kind == 0)
                check_zero(slot->p, size, "walk: calloc");
        }
        slot->size = size;
        slot->tag = tag;
        fill(slot->p, size, tag);
    }
    for (size_t i = 0; i < count; i++)
        if (slots[i].p != NULL) {
            check(slots[i].p, slots[i].size, slots[i].tag, "walk: end");
            t_free(slots[i].p);
        }
    munmap(slots, count * sizeof(*slots));
}

static void random_walk(void) {
    for (uint64_t seed = 1; seed <= 2; seed++)
        walk(seed * 0x2545f4914f6cdd1d, 2000, 25000 / scale, at_most(256 * KIB, limit / 8192));
}

static void *walk_thread(void *seed) {
    walk((uint64_t)(uintptr_t)seed, 200, 4000 / scale, at_most(64 * KIB, limit / 8192));
    return NULL;
}

static void threads(void) {
    enum { N = 8 };
    pthread_t ids[N];
    for (uintptr_t i = 0; i < N; i++)
        start(&ids[i], walk_thread, (void *)(i * 7919 + 1));
    for (size_t i = 0; i < N; i++)
        pthread_join(ids[i], NULL);
}

/* Threads exchange blocks through common slots and free what they draw. */
struct parcel {
    size_t size;
    unsigned tag;
};
enum { EXCHANGE = 64 };
static _Atomic(struct parcel *) exchange[EXCHANGE];

static void open_parcel(struct parcel *parcel) {
    if (parcel == NULL)
        return;
    check(parcel + 1, parcel->size, parcel->tag, "a block of another thread");
    t_free(parcel);
}

static void *exchange_thread(void *argument) {
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    for (size_t i = 0; i < 8000 / scale; i++) {
        size_t size = random_size(&seed, at_most(16 * KIB, limit / 8192));
        struct parcel *parcel = t_malloc(sizeof(*parcel) + size);
        CHECK(parcel != NULL, "no block of %zu bytes", size);
        parcel->size = size;
        parcel->tag = (unsigned)i;
        fill(parcel + 1, size, parcel->tag);
        if (i % 16 == 0) { /* realloc in the other thread's stead */
            struct parcel *drawn = atomic_exchange(&exchange[next_random(&seed) % EXCHANGE], NULL);
            if (drawn != NULL) {
                drawn = t_realloc(drawn, sizeof(*drawn) + 2 * drawn->size);
                CHECK(drawn != NULL, "no room for a larger block");
                open_parcel(drawn);
            }
        }
        open_parcel(atomic_exchange(&exchange[next_random(&seed) % EXCHANGE], parcel));
    }
    return NULL;
}

static void cross_thread_free(void) {
    enum { N = 6 };
    pthread_t ids[N];
    for (uintptr_t i = 0; i < N; i++)
        start(&ids[i], exchange_thread, (void *)(i * 104729 + 3));
    for (size_t i = 0; i < N; i++)
        pthread_join(ids[i], NULL);
    for (size_t i = 0; i < EXCHANGE; i++)
        open_parcel(atomic_exchange(&exchange[i], NULL));
}

static _Atomic bool stop;

static void *busy_thread(void *argument) {
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    while (!stop) {
        void *p[8];
        for (size_t i = 0; i < 8; i++) {
            p[i] = t_malloc(random_size(&seed, 20000));
            CHECK(p[i] != NULL, "no block in a busy thread");
        }
        for (size_t i = 0; i < 8; i++)
            t_free(p[i]);
    }
    return NULL;
}

static int forking(void) {
    enum { N = 3 };
    if (sanitizers_malloc)
        return SKIPPED;
    /* dispatch calls these as fork handlers, and so does this test */
    if (ops != NULL)
        pthread_atfork(ops->before_fork, ops->after_fork_parent, ops->after_fork_child);
    pthread_t ids[N];
    for (uintptr_t i = 0; i < N; i++)
        start(&ids[i], busy_thread, (void *)(i * 31 + 5));
    const size_t size = 3000;
    for (unsigned round = 0; round < 24 / (scale > 4 ? 4 : scale); round++) {
        void *inherited = t_malloc(size);
        CHECK(inherited != NULL, "no block of %zu bytes", size);
        fill(inherited, size, round);
        pid_t pid = fork();
        CHECK(pid >= 0, "fork: %s", strerror(errno));
        if (pid == 0) {
            alarm(600);
            check(inherited, size, round, "a block inherited by a child");
            t_free(inherited);
            walk(round + 1, 50, 500 / scale, 10000);
            _exit(0);
        }
        walk(round + 77, 50, 200, 10000);
        int status;
        CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
        CHECK(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM), "a forked child hangs");
        CHECK(status == 0, "a forked child ended with status 0x%x", status);
        check(inherited, size, round, "a block of the parent after fork");
        t_free(inherited);
    }
    stop = true;
    for (size_t i = 0; i < N; i++)
        pthread_join(ids[i], NULL);
    return 0;
}

enum { LEGACY = 100 };

static void *leave_blocks(void *argument) {
    void **blocks = argument;
    for (size_t i = 0; i < LEGACY; i++) {
        size_t size = 1 + i * i * 3;
        blocks[i] = t_malloc(size);
        CHECK(blocks[i] != NULL, "no block of %zu bytes", size);
        fill(blocks[i], size, (unsigned)i);
        t_free(t_malloc(size));
    }
    return NULL;
}

static void thread_exit(void) {
    enum { ROUNDS = 40 };
    void *(*blocks)[LEGACY] = array(ROUNDS, sizeof(*blocks));
    for (size_t round = 0; round < ROUNDS; round++) {
        pthread_t id;
        start(&id, leave_blocks, blocks[round]);
        pthread_join(id, NULL);
    }
    for (size_t round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < LEGACY; i++) {
            check(blocks[round][i], 1 + i * i * 3, (unsigned)i, "a block whose thread has ended");
            t_free(blocks[round][i]);
        }
}

static void get_figures(struct memopt_figures *figures) {
    memset(figures, 0x7e, sizeof(*figures));
    figures->size = sizeof(*figures);
    int r = heap_mode ? ops->heap_figures(heap, figures) : ops->figures(figures);
    CHECK(r == 0, "figures: %d", r);
    CHECK(figures->size == sizeof(*figures), "figures changed its size to %zu", figures->size);
    CHECK(figures->live == MEMOPT_UNKNOWN || figures->committed == MEMOPT_UNKNOWN ||
              figures->live <= figures->committed,
          "live %llu is more than committed %llu", (unsigned long long)figures->live,
          (unsigned long long)figures->committed);
    /* a NaN is unknown */
    CHECK(!(figures->fragmentation < 0) && !(figures->fragmentation > 1), "fragmentation is %g",
          figures->fragmentation);
}

static int figures_are_sane(void) {
    if (ops == NULL || sanitizers_malloc || (heap_mode && ops->heap_figures == NULL))
        return SKIPPED;
    enum { SIZE = 16 * 1024 };
    const size_t count = at_most(1000, limit / SIZE / 4);
    void **blocks = array(count, sizeof(*blocks));
    struct memopt_figures before, full, after;
    t_free(t_malloc(SIZE));
    get_figures(&before);
    for (size_t i = 0; i < count; i++) {
        blocks[i] = t_malloc(SIZE);
        CHECK(blocks[i] != NULL, "no block of %d bytes", SIZE);
        touch(blocks[i], SIZE);
    }
    get_figures(&full);
    for (size_t i = 0; i < count; i++)
        t_free(blocks[i]);
    get_figures(&after);
    if (full.live == MEMOPT_UNKNOWN) {
        CHECK(!figures_required, "the live bytes are not known");
        return SKIPPED;
    }
    /* a backend may count as live what a thread keeps for its next allocation */
    uint64_t least = count * SIZE - 64 * KIB, most = count * SIZE / 4 * 5 + MIB;
    uint64_t grown = full.live - before.live;
    CHECK(grown >= least && grown <= most, "after %zu blocks of %d live grew by %llu", count, SIZE,
          (unsigned long long)grown);
    CHECK(after.live < before.live + MIB, "live is %llu, it was %llu before all were freed",
          (unsigned long long)after.live, (unsigned long long)before.live);
    CHECK(full.committed == MEMOPT_UNKNOWN || full.committed >= least,
          "committed is %llu with %llu live", (unsigned long long)full.committed,
          (unsigned long long)full.live);
    return 0;
}

static void purge(void) {
    if (ops == NULL)
        malloc_trim(0);
    else if (!heap_mode)
        ops->purge();
    else if (ops->heap_purge != NULL)
        ops->heap_purge(heap);
}

static int purge_gives_back(void) {
    /* ThreadSanitizer's shadow of memory that was given back stays */
    if (TSAN || sanitizers_malloc || (heap_mode && ops->heap_purge == NULL))
        return SKIPPED;
    enum { SIZE = 8 * 1024 };
    const size_t count = at_most(64 * MIB, limit / 4) / SIZE;
    void **blocks = array(count, sizeof(*blocks));
    t_free(t_malloc(SIZE));
    for (size_t i = 0; i < count; i++) {
        blocks[i] = t_malloc(SIZE);
        CHECK(blocks[i] != NULL, "no block of %d bytes", SIZE);
        touch(blocks[i], SIZE);
    }
    size_t full = resident();
    for (size_t i = count; i-- > 0;)
        t_free(blocks[i]);
    purge();
    size_t empty = resident();
    /* in the process's malloc there are other blocks between: less can go */
    size_t least = ops == NULL ? count * SIZE / 4 : count * SIZE / 4 * 3;
    CHECK(full > empty && full - empty >= least,
          "%zu KiB were resident with %zu KiB in use, %zu KiB after they were freed and purged",
          full / KIB, count * SIZE / KIB, empty / KIB);
    void *p = t_malloc(SIZE);
    CHECK(p != NULL, "after purge there is no block");
    fill(p, SIZE, 1);
    check(p, SIZE, 1, "after purge");
    t_free(p);
    return 0;
}

/* ------------------------------------------------------------- heap cases */

static void heaps_are_apart(void) {
    enum { HEAPS = 8, BLOCKS = 200 };
    void *heaps[HEAPS], *(*blocks)[BLOCKS] = array(HEAPS, sizeof(*blocks));
    for (size_t h = 0; h < HEAPS; h++) {
        heaps[h] = make_heap("one of several");
        for (size_t i = 0; i < h; i++)
            CHECK(heaps[i] != heaps[h], "two heaps are the same");
    }
    for (size_t i = 0; i < BLOCKS; i++)
        for (size_t h = 0; h < HEAPS; h++) {
            size_t size = 1 + i * 37;
            blocks[h][i] = ops->heap_malloc(heaps[h], size);
            CHECK(blocks[h][i] != NULL, "no block of %zu bytes in heap %zu", size, h);
            fill(blocks[h][i], size, (unsigned)(h * 100 + i));
        }
    for (size_t h = 0; h < HEAPS; h += 2)
        ops->heap_destroy(heaps[h]);
    for (size_t h = 1; h < HEAPS; h += 2) {
        for (size_t i = 0; i < BLOCKS; i++) {
            check(blocks[h][i], 1 + i * 37, (unsigned)(h * 100 + i),
                  "a block of a heap after another was destroyed");
            if (i % 2 == 0)
                ops->heap_free(heaps[h], blocks[h][i]);
        }
        ops->heap_destroy(heaps[h]);
    }
}

enum { OWNERS = 4 };
static pthread_barrier_t filled, destroyed;

static void fill_heap(size_t bytes) {
    enum { SIZE = 4096 };
    for (size_t i = 0; i < bytes / SIZE; i++) {
        void *p = t_malloc(SIZE);
        CHECK(p != NULL, "no block of %d bytes with %zu in use", SIZE, i * SIZE);
        touch(p, SIZE);
    }
}

static void *fill_and_wait(void *argument) {
    fill_heap((size_t)argument);
    pthread_barrier_wait(&filled);
    pthread_barrier_wait(&destroyed);
    return NULL;
}

static void *fill_and_end(void *argument) {
    fill_heap((size_t)argument);
    return NULL;
}

/* Three times: blocks of this thread, of threads that run on, of ended ones. */
static int destroy_frees_all(void) {
    /* the slow ones take a system call a block */
    const size_t bytes = at_most((scale >= 4 ? 16 : 64) * MIB, limit / 8);
    for (int who = 0; who < 3; who++) {
        size_t least = SIZE_MAX, last = 0;
        for (int round = 0; round < 6; round++) {
            pthread_t ids[OWNERS];
            heap = make_heap("to be destroyed");
            if (who == 0)
                fill_heap(bytes);
            pthread_barrier_init(&filled, NULL, OWNERS + 1);
            pthread_barrier_init(&destroyed, NULL, OWNERS + 1);
            for (size_t i = 0; i < OWNERS && who > 0; i++)
                start(&ids[i], who == 1 ? fill_and_wait : fill_and_end, (void *)(bytes / OWNERS));
            if (who == 1)
                pthread_barrier_wait(&filled);
            for (size_t i = 0; i < OWNERS && who == 2; i++)
                pthread_join(ids[i], NULL);
            size_t full = resident();
            ops->heap_destroy(heap);
            if (who == 1) {
                pthread_barrier_wait(&destroyed);
                for (size_t i = 0; i < OWNERS; i++)
                    pthread_join(ids[i], NULL);
            }
            ops->purge();
            last = resident();
            if (last < least)
                least = last;
            CHECK(TSAN || full - at_most(full, last) >= bytes / 2,
                  "%zu KiB were resident with %zu KiB in a heap, %zu KiB after destroy (%d)",
                  full / KIB, bytes / KIB, last / KIB, who);
        }
        CHECK(TSAN || last < least + bytes / 2,
              "%zu KiB stay resident after heaps came and went, first %zu", last / KIB,
              least / KIB);
    }
    return 0;
}

static void *enter_heaps(void *argument) {
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    for (size_t round = 0; round < 200 / scale + 5; round++) {
        void *own = make_heap("short-lived");
        void *p[32];
        for (size_t i = 0; i < 32; i++) {
            p[i] = ops->heap_malloc(own, random_size(&seed, 3000) + 1);
            CHECK(p[i] != NULL, "no block in a new heap");
            fill(p[i], 1, (unsigned)i);
        }
        for (size_t i = 0; i < 32; i++)
            check(p[i], 1, (unsigned)i, "a block of a short-lived heap");
        ops->heap_destroy(own);
    }
    return NULL;
}

static void heaps_come_and_go(void) {
    pthread_t ids[4];
    for (uintptr_t i = 0; i < 4; i++)
        start(&ids[i], enter_heaps, (void *)(i + 11));
    for (size_t i = 0; i < 4; i++)
        pthread_join(ids[i], NULL);
}

/* ----------------------------------------------------------------- runner */

#define PLAIN(F)                                                                                   \
    static int F##_case(void) {                                                                    \
        prepare();                                                                                 \
        F();                                                                                       \
        return 0;                                                                                  \
    }
#define CASE(F)                                                                                    \
    static int F##_case(void) {                                                                    \
        prepare();                                                                                 \
        return F();                                                                                \
    }

/* In the case's process: the plugin is opened there. */
static void prepare(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (conformance.plugin == NULL)
        return;
    /* loaded objects are constant to all but this process */
    struct mo_plugin *plugin = (struct mo_plugin *)(uintptr_t)conformance.plugin;
    int r = mo_plugin_open_allocator(plugin, conformance.settings, &table, &error);
    CHECK(r == 0, "open: %s", error.message);
    ops = &plugin->ops.allocator;
    if (heap_mode)
        heap = make_heap("under test");
}

static int opening(void) {
    struct memopt_figures figures = MEMOPT_FIGURES_INIT;
    if (ops == NULL)
        return SKIPPED;
    errno = EDOM;
    if (ops->quick_figures != NULL)
        ops->quick_figures(&figures);
    CHECK(errno == EDOM, "quick_figures leaves errno %d", errno);
    return 0;
}

PLAIN(alignment)
PLAIN(zero)
PLAIN(too_large)
PLAIN(realloc_keeps)
PLAIN(calloc_zeroes)
PLAIN(usable_size)
PLAIN(the_size_decides)
PLAIN(large)
PLAIN(random_walk)
PLAIN(threads)
PLAIN(cross_thread_free)
PLAIN(thread_exit)
PLAIN(heaps_are_apart)
PLAIN(heaps_come_and_go)
CASE(opening)
CASE(forking)
CASE(figures_are_sane)
CASE(purge_gives_back)
CASE(destroy_frees_all)

static const struct conformance_case opens[] = {
    {"open", opening_case,
     "open() returns 0 and fills malloc, free, aligned_alloc and usable_size; quick_figures() "
     "keeps errno"},
};
static const struct conformance_case cases[] = {
    {"alignment", alignment_case,
     "16-byte alignment, less for requests under 16 bytes; aligned_alloc takes any power of two"},
    {"zero", zero_case, "malloc(0) returns a pointer of its own"},
    {"too-large", too_large_case,
     "on failure NULL is returned, and realloc leaves the old block untouched"},
    {"realloc", realloc_keeps_case, "realloc keeps what the block had"},
    {"calloc", calloc_zeroes_case, "calloc's memory is zero"},
    {"usable-size", usable_size_case,
     "usable_size is stable for the life of the block and all of it may be written"},
    {"sized", the_size_decides_case,
     "below sized_below, usable_size depends on nothing but the size that was asked for"},
    {"large", large_case, "blocks of any size, which are the program's alone"},
    {"walk", random_walk_case, "blocks are the program's alone, until they are freed"},
    {"threads", threads_case, "any thread may call any operation"},
    {"cross-thread", cross_thread_free_case, "any thread may free what another allocated"},
    {"fork", forking_case, "the child of a fork can allocate and free"},
    {"thread-exit", thread_exit_case, "blocks outlive the thread that allocated them"},
    {"figures", figures_are_sane_case,
     "figures() knows live and committed bytes or leaves them MEMOPT_UNKNOWN"},
    {"purge", purge_gives_back_case, "purge() gives unused memory back"},
};
static const struct conformance_case heap_cases[] = {
    {"heaps", heaps_are_apart_case, "heap_destroy frees what is in that heap, and nothing else"},
    {"destroy", destroy_frees_all_case, "heap_destroy frees everything in the heap"},
    {"heaps-threads", heaps_come_and_go_case, "any thread may create and destroy heaps"},
};
#define COUNT(CASES) (sizeof(CASES) / sizeof(*(CASES)))

static void take_options(void) {
    limit = conformance.limit;
    scale = conformance.scale;
    figures_required = conformance.is_own;
}

void conformance_allocator(const char *what) {
    char in_heap[256];
    const struct memopt_allocator_ops *own = &conformance.plugin->ops.allocator;
    take_options();
    sanitizers_malloc = SANITIZED && strcmp(conformance.plugin->descriptor.name, "libc") == 0;
    if (!conformance_run(what, opens, COUNT(opens)))
        return;
    if ((own->flags & MEMOPT_ALLOCATOR_HEAPS_ONLY) == 0)
        conformance_run(what, cases, COUNT(cases));
    heap_mode = conformance.plugin->has_heaps != 0;
    if (!heap_mode)
        return;
    snprintf(in_heap, sizeof(in_heap), "%s heap", what);
    conformance_run(in_heap, cases, COUNT(cases));
    conformance_run(in_heap, heap_cases, COUNT(heap_cases));
}

void conformance_malloc(const char *what) {
    static const struct memopt_malloc own = {
        .size = sizeof(own),
        .malloc = malloc,
        .calloc = calloc,
        .realloc = realloc,
        .free = free,
        .aligned_alloc = memalign,
        .usable_size = malloc_usable_size,
    };
    take_options();
    table = &own;
    sanitizers_malloc = SANITIZED;
    conformance_run(what, cases, COUNT(cases));
}
