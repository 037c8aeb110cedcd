/*
 * test_semantics.c - the malloc family on its edges, as glibc does it.
 *
 * Run by itself it shows that the expectations are glibc's; tests/test_shim_*.sh
 * run it under `memopt run` with every backend, where the shim must make them
 * true. Built without sanitizers and without the compiler's knowledge of malloc
 * (-fno-builtin): the calls that are written are the calls that are made.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <gnu/libc-version.h>
#include <limits.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include <cmocka.h>

static size_t page;
static const size_t huge_sizes[] = {SIZE_MAX, SIZE_MAX - 100, (size_t)PTRDIFF_MAX + 1,
                                    (size_t)PTRDIFF_MAX};
enum { HUGES = sizeof huge_sizes / sizeof huge_sizes[0] };

static int dispatched(void) {
    const char *preloaded = getenv("LD_PRELOAD");
    return preloaded != NULL && strstr(preloaded, "libmemopt-preload.so") != NULL;
}

static int aligned(const void *p, size_t alignment) {
    return (uintptr_t)p % alignment == 0;
}

/* Bytes of this process in RAM. */
static size_t resident(void) {
    size_t total = 0, in_ram = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    assert_non_null(statm);
    assert_int_equal(fscanf(statm, "%zu %zu", &total, &in_ram), 2);
    fclose(statm);
    return in_ram * page;
}
enum { LEAK_ROUNDS = 20000, LEAK_LIMIT = 64 << 20 }; /* two pages a round are 160 MiB */

/* Both ends written, so that it is in RAM. */
static void *touched(void *p, size_t size) {
    assert_non_null(p);
    ((volatile char *)p)[0] = 1;
    ((volatile char *)p)[size - 1] = 1;
    return p;
}

/* glibc rounds a bad alignment of aligned_alloc up until 2.37 and refuses it later. */
static int old_aligned_alloc(void) {
    int major = 0, minor = 0;
    assert_int_equal(sscanf(gnu_get_libc_version(), "%d.%d", &major, &minor), 2);
    return major == 2 && minor < 38;
}

static void zero_sizes(void **unused) {
    (void)unused;
    void *a = malloc(0), *b = malloc(0), *c = calloc(0, 8), *d = calloc(8, 0),
         *e = realloc(NULL, 0);
    void *all[] = {a, b, c, d, e};
    for (size_t i = 0; i < 5; i++) {
        assert_non_null(all[i]);
        for (size_t k = 0; k < i; k++)
            assert_ptr_not_equal(all[i], all[k]);
    }
    for (size_t i = 0; i < 5; i++)
        free(all[i]);
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, 0), 0);
    assert_true(aligned(p, 64));
    free(p);
    p = aligned_alloc(64, 0);
    assert_non_null(p);
    assert_true(aligned(p, 64));
    free(p);
}

/* Every function that allocates; NULL when it fails, with errno set. */
static void *by_malloc(size_t alignment, size_t size) {
    (void)alignment;
    return malloc(size);
}
static void *by_calloc(size_t alignment, size_t size) {
    (void)alignment;
    return calloc(1, size);
}
static void *by_realloc(size_t alignment, size_t size) {
    (void)alignment;
    return realloc(NULL, size);
}
static void *by_reallocarray(size_t alignment, size_t size) {
    (void)alignment;
    return reallocarray(NULL, size, 1);
}
static void *by_aligned_alloc(size_t alignment, size_t size) {
    return aligned_alloc(alignment, size);
}
static void *by_memalign(size_t alignment, size_t size) {
    return memalign(alignment, size);
}
static void *by_valloc(size_t alignment, size_t size) {
    (void)alignment;
    return valloc(size);
}
static void *by_pvalloc(size_t alignment, size_t size) {
    (void)alignment;
    return pvalloc(size);
}
static void *by_posix_memalign(size_t alignment, size_t size) {
    void *p = &page;
    int before = errno, result = posix_memalign(&p, alignment, size);
    if (result == 0)
        return p;
    assert_ptr_equal(p, &page);
    if (result == EINVAL)
        assert_int_equal(errno, before);
    else
        assert_int_equal(errno, result); /* it leaves what malloc in it has set */
    return NULL;
}
static const struct {
    const char *name;
    void *(*allocate)(size_t alignment, size_t size);
    int aligns;
} functions[] = {
    {"malloc", by_malloc, 0},
    {"calloc", by_calloc, 0},
    {"realloc", by_realloc, 0},
    {"reallocarray", by_reallocarray, 0},
    {"aligned_alloc", by_aligned_alloc, 1},
    {"memalign", by_memalign, 1},
    {"posix_memalign", by_posix_memalign, 1},
    {"valloc", by_valloc, 0},
    {"pvalloc", by_pvalloc, 0},
};
enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

static void refused(size_t function, size_t alignment, size_t size) {
    errno = 0;
    void *p = functions[function].allocate(alignment, size);
    if (p != NULL || errno != ENOMEM)
        fail_msg("%s of %zu bytes, aligned to %zu: %p, errno %d", functions[function].name, size,
                 alignment, p, errno);
}

static void too_large(void **unused) {
    (void)unused;
    static const size_t below[] = {0,  1,   2,    3,    7,     8,     15,    16,     17,
                                   31, 100, 4095, 4096, 10000, 16384, 65536, 1 << 20};
    static const size_t tops[] = {SIZE_MAX, (size_t)PTRDIFF_MAX + ((size_t)1 << 21),
                                  (size_t)PTRDIFF_MAX + 1 + ((size_t)1 << 20)};
    for (size_t function = 0; function < FUNCTIONS; function++) {
        size_t most = functions[function].aligns ? (size_t)1 << 20 : sizeof(void *);
        for (size_t alignment = sizeof(void *); alignment <= most; alignment *= 2)
            for (size_t i = 0; i < sizeof tops / sizeof tops[0]; i++)
                for (size_t k = 0; k < sizeof below / sizeof below[0]; k++)
                    refused(function, alignment, tops[i] - below[k]);
        refused(function, 64, PTRDIFF_MAX);
    }
}

/* No room for the alignment, whatever the size. */
static void aligned_too_far(void **unused) {
    (void)unused;
    for (size_t function = 0; function < FUNCTIONS; function++)
        for (size_t bit = 50; functions[function].aligns && bit < 64; bit++)
            for (size_t size = 0; size <= 100000; size += 50000)
                refused(function, (size_t)1 << bit, size);
}

/* A failure takes nothing and breaks nothing. */
static void goes_on_after_failure(void **unused) {
    (void)unused;
    size_t before = resident();
    for (int round = 0; round < 2000; round++) {
        void *p = touched(malloc(5000), 5000);
        for (size_t function = 0; function < FUNCTIONS; function++)
            refused(function, 64, SIZE_MAX / 2 + (size_t)round);
        free(p);
    }
    assert_true(resident() < before + LEAK_LIMIT);
}

static void product_overflow(void **unused) {
    (void)unused;
    static const struct {
        size_t count, size;
    } rows[] = {{SIZE_MAX, 2},
                {2, SIZE_MAX},
                {SIZE_MAX / 2 + 1, 2},
                {(size_t)1 << 32, (size_t)1 << 32},
                {SIZE_MAX, SIZE_MAX}};
    char *volatile p = malloc(32); /* volatile: it outlives a realloc that fails */
    assert_non_null(p);
    strcpy(p, "still here");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        volatile size_t count = rows[i].count, size = rows[i].size;
        errno = 0;
        assert_null(calloc(count, size));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(reallocarray(p, count, size));
        assert_int_equal(errno, ENOMEM);
        assert_string_equal(p, "still here");
        errno = 0;
        assert_null(reallocarray(NULL, count, size));
        assert_int_equal(errno, ENOMEM);
    }
    free(p);
}

static void calloc_is_zero(void **unused) {
    (void)unused;
    static const size_t sizes[] = {1, 24, 100, 1000, 5000, 70000, 300000, 3000000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int again = 0; again < 4; again++) {
            unsigned char *p = calloc(1, sizes[i]);
            assert_non_null(p);
            for (size_t k = 0; k < sizes[i]; k++)
                assert_int_equal(p[k], 0);
            memset(p, 0xa5, sizes[i]);
            free(p);
        }
    }
}

/* The same over blocks of many sizes that have all been written to before. */
static void calloc_of_used_memory(void **unused) {
    (void)unused;
    enum { BLOCKS = 512 };
    static unsigned char *blocks[BLOCKS];
    static size_t lengths[BLOCKS];
    unsigned random = 1;
    for (int step = 0; step < 20000; step++) {
        random = random * 1103515245 + 12345;
        size_t i = (random >> 16) % BLOCKS;
        free(blocks[i]);
        random = random * 1103515245 + 12345;
        size_t count = (random >> 16) % 40 + 1, size = (random >> 24) + 1;
        lengths[i] = count * size;
        if (step % 8 == 0) {
            blocks[i] = malloc(lengths[i]);
            assert_non_null(blocks[i]);
        } else {
            blocks[i] = calloc(count, size);
            assert_non_null(blocks[i]);
            for (size_t k = 0; k < lengths[i]; k++)
                if (blocks[i][k] != 0)
                    fail_msg("calloc(%zu, %zu): byte %zu is %d", count, size, k, blocks[i][k]);
        }
        memset(blocks[i], 0xa5, malloc_usable_size(blocks[i]));
    }
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

static void alignments(void **unused) {
    (void)unused;
    static const size_t sizes[] = {1, 7, 16, 100, 4096, 100000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (size_t alignment = sizeof(void *); alignment <= 1 << 16; alignment *= 2) {
            void *p = NULL, *q = aligned_alloc(alignment, sizes[s]),
                 *r = memalign(alignment, sizes[s]);
            assert_int_equal(posix_memalign(&p, alignment, sizes[s]), 0);
            assert_true(p && q && r);
            assert_true(aligned(p, alignment) && aligned(q, alignment) && aligned(r, alignment));
            memset(p, 1, sizes[s]);
            memset(q, 2, sizes[s]);
            memset(r, 3, sizes[s]);
            assert_int_equal(((unsigned char *)p)[sizes[s] - 1], 1);
            assert_true(malloc_usable_size(p) >= sizes[s]);
            q = realloc(q, sizes[s] * 2);
            assert_non_null(q);
            assert_int_equal(((unsigned char *)q)[sizes[s] - 1], 2);
            free(p);
            free(q);
            free(r);
        }
        void *p = malloc(sizes[s]);
        assert_true(aligned(p, sizes[s] < 16 ? 8 : 16));
        free(p);
    }
}

/* Aligned blocks beside plain ones: each keeps what was written to it. */
static void aligned_side_by_side(void **unused) {
    (void)unused;
    enum { BLOCKS = 400 };
    static unsigned char *blocks[BLOCKS];
    static size_t lengths[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t alignment = (size_t)8 << i % 12, function = i % FUNCTIONS;
        lengths[i] = i * i % 9000 + 1;
        blocks[i] = functions[function].allocate(alignment, lengths[i]);
        assert_non_null(blocks[i]);
        if (functions[function].aligns)
            assert_true(aligned(blocks[i], alignment));
        memset(blocks[i], (int)(i % 251), lengths[i]);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        for (size_t k = 0; k < lengths[i]; k++)
            if (blocks[i][k] != i % 251)
                fail_msg("block %zu of %zu bytes: byte %zu is another's", i, lengths[i], k);
        free(blocks[i]);
    }
}

/* Freed aligned blocks serve again. */
static void aligned_blocks_are_used_again(void **unused) {
    (void)unused;
    for (size_t alignment = 64; alignment <= 1 << 16; alignment *= 32) {
        size_t before = resident();
        for (int i = 0; i < LEAK_ROUNDS; i++)
            free(touched(memalign(alignment, 20000), 20000));
        assert_true(resident() < before + LEAK_LIMIT);
    }
}

static void bad_alignments(void **unused) {
    (void)unused;
    static const size_t bad[] = {0, 1, 2, 3, 4, 7, 9, 12, 24, 48, 100, 4095, SIZE_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        void *p = &page;
        errno = 77;
        assert_int_equal(posix_memalign(&p, bad[i], 10), EINVAL);
        assert_ptr_equal(p, &page);
        assert_int_equal(errno, 77);
    }
    /* memalign rounds up to a power of two ... */
    static const size_t rounded[][2] = {{0, 16},  {1, 16},    {3, 16},     {24, 32},
                                        {48, 64}, {100, 128}, {4095, 4096}};
    for (size_t i = 0; i < sizeof rounded / sizeof rounded[0]; i++) {
        void *p = memalign(rounded[i][0], 100);
        assert_non_null(p);
        assert_true(aligned(p, rounded[i][1]));
        free(p);
        if (old_aligned_alloc()) {
            p = aligned_alloc(rounded[i][0], 100);
            assert_non_null(p);
            assert_true(aligned(p, rounded[i][1]));
            free(p);
        }
    }
    /* ... and refuses what has none */
    volatile size_t none = SIZE_MAX / 2 + 2;
    errno = 0;
    assert_null(memalign(none, 10));
    assert_int_equal(errno, EINVAL);
}

static void any_size_aligned(void **unused) {
    (void)unused;
    /* sizes that are no multiple of the alignment */
    for (size_t size = 1; size < 300; size += 37) {
        void *p = aligned_alloc(256, size);
        assert_non_null(p);
        assert_true(aligned(p, 256));
        free(p);
    }
}

static void pages(void **unused) {
    (void)unused;
    void *p = valloc(10);
    assert_true(p && aligned(p, page));
    free(p);
    p = valloc(0);
    assert_true(p && aligned(p, page));
    free(p);
    p = pvalloc(10);
    assert_true(p && aligned(p, page));
    assert_true(malloc_usable_size(p) >= page);
    memset(p, 1, page);
    free(p);
    p = pvalloc(page + 1);
    assert_true(p && aligned(p, page));
    assert_true(malloc_usable_size(p) >= 2 * page);
    memset(p, 1, 2 * page);
    free(p);
}

static void realloc_edges(void **unused) {
    (void)unused;
    char *p = realloc(NULL, 20);
    assert_non_null(p);
    strcpy(p, "content");
    /* to nothing: freed, NULL; 0 times a huge size is no overflow */
    errno = 77;
    assert_null(realloc(p, 0));
    volatile size_t most = SIZE_MAX;
    assert_null(reallocarray(malloc(10), 0, most));
    assert_null(reallocarray(malloc(10), most, 0));
    assert_int_equal(errno, 77);
    size_t before = resident();
    for (int i = 0; i < LEAK_ROUNDS; i++) {
        p = touched(malloc(65536), 65536);
        assert_null(i % 2 ? realloc(p, 0) : reallocarray(p, 0, 8));
    }
    assert_true(resident() < before + LEAK_LIMIT);
    p = malloc(20);
    assert_non_null(p);
    strcpy(p, "content");
    for (int i = 0; i < HUGES; i++) {
        volatile size_t size = huge_sizes[i];
        errno = 0;
        assert_null(realloc(p, size));
        assert_int_equal(errno, ENOMEM);
        assert_string_equal(p, "content");
    }
    free(p);
}

static void realloc_keeps_content(void **unused) {
    (void)unused;
    static const size_t sizes[] = {1,     100,     10,     5000, 200, 40000,   1000000,
                                   39999, 4000000, 100000, 17,   300, 2000000, 8};
    unsigned char *p = malloc(sizes[0]);
    assert_non_null(p);
    p[0] = 0;
    size_t have = sizes[0];
    for (size_t i = 1; i < sizeof sizes / sizeof sizes[0]; i++) {
        p = reallocarray(p, sizes[i], 1);
        assert_non_null(p);
        for (size_t k = 0; k < have && k < sizes[i]; k++)
            assert_int_equal(p[k], (unsigned char)(k * 7));
        for (size_t k = 0; k < sizes[i]; k++)
            p[k] = (unsigned char)(k * 7);
        have = sizes[i];
    }
    free(p);
}

/* What a calloc'd block has beyond the old size is undefined, before it is zero. */
static void realloc_of_zeros(void **unused) {
    (void)unused;
    for (size_t size = 1; size < 3000000; size = size * 3 + 1) {
        unsigned char *p = realloc(calloc(size, 1), size * 2);
        assert_non_null(p);
        for (size_t k = 0; k < size; k++)
            if (p[k] != 0)
                fail_msg("byte %zu of %zu is %d", k, size, p[k]);
        memset(p, 0xa5, size * 2);
        free(p);
    }
}

static void usable_size(void **unused) {
    (void)unused;
    assert_int_equal(malloc_usable_size(NULL), 0);
    for (size_t size = 1; size < 200000; size += size / 3 + 1) {
        unsigned char *p = malloc(size), *neighbour = malloc(size);
        assert_true(p && neighbour);
        memset(neighbour, 0x11, malloc_usable_size(neighbour));
        size_t usable = malloc_usable_size(p);
        assert_true(usable >= size);
        memset(p, 0xee, usable); /* programs do use the slack */
        assert_int_equal(malloc_usable_size(p), usable);
        for (size_t k = 0; k < malloc_usable_size(neighbour); k++)
            assert_int_equal(neighbour[k], 0x11);
        p = realloc(p, usable);
        assert_non_null(p);
        for (size_t k = 0; k < usable; k++)
            assert_int_equal(p[k], 0xee);
        free(p);
        free(neighbour);
    }
}

static void free_keeps_errno(void **unused) {
    (void)unused;
    static const size_t sizes[] = {1, 100, 5000, 100000, 1000000, 20000000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        void *p = malloc(sizes[i]);
        assert_non_null(p);
        errno = 77;
        free(p);
        assert_int_equal(errno, 77);
    }
    errno = 77;
    free(NULL);
    assert_int_equal(errno, 77);
}

static void frees_by_other_names(void **unused) {
    (void)unused;
    void (*cfree_)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "cfree");
    void (*sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    void (*aligned_sized)(void *, size_t, size_t) =
        (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (dispatched())
        assert_true(cfree_ && sized && aligned_sized);
    size_t before = resident();
    for (int i = 0; i < LEAK_ROUNDS; i++) {
        if (cfree_) {
            cfree_(touched(malloc(40000), 40000));
            cfree_(NULL);
        }
        if (sized) {
            sized(touched(malloc(40001), 40001), 40001);
            sized(calloc(3, 7), 21);
            sized(NULL, 0);
        }
        if (aligned_sized) {
            aligned_sized(touched(aligned_alloc(128, 40000), 40000), 128, 40000);
            aligned_sized(NULL, 64, 0);
        }
    }
    assert_true(resident() < before + LEAK_LIMIT);
}

static void libc_aliases(void **unused) {
    (void)unused;
    void *(*malloc_)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "__libc_malloc");
    void *(*calloc_)(size_t, size_t) =
        (void *(*)(size_t, size_t))dlsym(RTLD_DEFAULT, "__libc_calloc");
    void *(*realloc_)(void *, size_t) =
        (void *(*)(void *, size_t))dlsym(RTLD_DEFAULT, "__libc_realloc");
    void (*free_)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "__libc_free");
    void *(*memalign_)(size_t, size_t) =
        (void *(*)(size_t, size_t))dlsym(RTLD_DEFAULT, "__libc_memalign");
    assert_true(malloc_ && calloc_ && realloc_ && free_ && memalign_);
    /* a block from one name may go by another */
    free(malloc_(100));
    free_(malloc(100));
    free_(strdup("text"));
    void *p = realloc(calloc_(10, 10), 200000);
    assert_non_null(p);
    p = realloc_(p, 50);
    assert_non_null(p);
    free(p);
    p = memalign_(64, 10);
    assert_true(aligned(p, 64));
    assert_true(malloc_usable_size(p) >= 10);
    free(p);
    static const char *const pages_[] = {"__libc_valloc", "__libc_pvalloc"};
    for (size_t i = 0; i < 2; i++) {
        void *(*valloc_)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, pages_[i]);
        if (dispatched())
            assert_non_null(valloc_);
        if (valloc_) {
            p = valloc_(10);
            assert_true(aligned(p, page));
            free(p);
        }
    }
    int (*posix_memalign_)(void **, size_t, size_t) =
        (int (*)(void **, size_t, size_t))dlsym(RTLD_DEFAULT, "__posix_memalign");
    if (posix_memalign_) {
        assert_int_equal(posix_memalign_(&p, 3, 10), EINVAL);
        assert_int_equal(posix_memalign_(&p, 32, 10), 0);
        free(p);
    }
}

static void settings_and_statistics(void **unused) {
    (void)unused;
    void *p = malloc(1000);
    assert_int_equal(mallopt(M_MMAP_THRESHOLD, 256 * 1024), 1);
    int trimmed = malloc_trim(0);
    assert_true(trimmed == 0 || trimmed == 1);
    struct mallinfo2 two = mallinfo2();
    assert_true(two.uordblks <= (size_t)1 << 40);
    assert_true(two.arena <= (size_t)1 << 40);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    struct mallinfo one = mallinfo();
#pragma GCC diagnostic pop
    assert_true(one.uordblks >= 0);

    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    assert_non_null(stream);
    assert_int_equal(malloc_info(0, stream), 0);
    assert_int_equal(fclose(stream), 0);
    assert_true(length > 0);
    assert_memory_equal(text, "<malloc", 7);
    assert_string_equal(text + length - 10, "</malloc>\n");
    free(text);
    assert_int_equal(malloc_info(1, stdout), EINVAL);
    assert_int_equal(malloc_info(-1, NULL), EINVAL);
    free(p);
}

/* malloc_info says nothing of a stream that fails: ferror() does. */
static void information_to_nowhere(void **unused) {
    (void)unused;
    FILE *full = fopen("/dev/full", "w");
    assert_non_null(full);
    setvbuf(full, NULL, _IONBF, 0);
    assert_int_equal(malloc_info(0, full), 0);
    assert_true(ferror(full));
    fclose(full);
}

/* malloc_stats prints to the stream stderr, wherever that leads. */
static void statistics_to_a_stream(void **unused) {
    (void)unused;
    FILE *seen = tmpfile(), *usual = stderr;
    assert_non_null(seen);
    int kept = dup(STDERR_FILENO);
    dup2(fileno(seen), STDERR_FILENO);
    malloc_stats();
    dup2(kept, STDERR_FILENO);
    close(kept);
    fseek(seen, 0, SEEK_END);
    assert_true(ftell(seen) > 0);
    fclose(seen);

    char *text = NULL;
    size_t length = 0;
    stderr = open_memstream(&text, &length);
    int opened = stderr != NULL;
    if (opened) {
        fputs("first\n", stderr);
        malloc_stats();
        fclose(stderr);
    }
    stderr = usual;
    assert_true(opened && length > 6);
    assert_memory_equal(text, "first\n", 6);
    free(text);
}

/* What the C library allocates with malloc can be freed by the program, and the
 * other way about. */
static void the_librarys_own(void **unused) {
    (void)unused;
    char *text = strdup("text");
    assert_string_equal(text, "text");
    free(text);
    text = strndup("text", 2);
    assert_string_equal(text, "te");
    free(text);
    wchar_t *wide = wcsdup(L"wide");
    assert_int_equal(wcslen(wide), 4);
    free(wide);
    assert_int_equal(asprintf(&text, "%0300d", 7), 300);
    assert_int_equal(strlen(text), 300);
    free(text);
    text = realpath("/", NULL);
    assert_string_equal(text, "/");
    free(text);
    text = getcwd(NULL, 0);
    assert_non_null(text);
    free(text);

    size_t capacity = 0;
    FILE *stream = fmemopen((void *)(uintptr_t) "a line that needs room\nnext", 27, "r");
    assert_non_null(stream);
    text = malloc(2); /* ours, which getline makes larger */
    capacity = 2;
    assert_int_equal(getline(&text, &capacity, stream), 23);
    assert_true(capacity >= 24);
    free(text);
    text = NULL;
    capacity = 0;
    assert_int_equal(getdelim(&text, &capacity, 'x', stream), 3);
    free(text);
    fclose(stream);

    size_t length = 0;
    stream = open_memstream(&text, &length);
    assert_non_null(stream);
    for (int i = 0; i < 5000; i++)
        fprintf(stream, "%d,", i);
    fclose(stream);
    assert_true(length > 20000 && malloc_usable_size(text) > length);
    text = realloc(text, length * 2);
    assert_non_null(text);
    free(text);

    char *word = NULL;
    assert_int_equal(sscanf("some words", "%ms", &word), 1);
    assert_string_equal(word, "some");
    free(word);
    struct dirent **names = NULL;
    int count = scandir("/", &names, NULL, alphasort);
    assert_true(count > 2);
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

int main(void) {
    page = (size_t)sysconf(_SC_PAGESIZE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_sizes),
        cmocka_unit_test(too_large),
        cmocka_unit_test(aligned_too_far),
        cmocka_unit_test(goes_on_after_failure),
        cmocka_unit_test(product_overflow),
        cmocka_unit_test(calloc_is_zero),
        cmocka_unit_test(calloc_of_used_memory),
        cmocka_unit_test(alignments),
        cmocka_unit_test(aligned_side_by_side),
        cmocka_unit_test(aligned_blocks_are_used_again),
        cmocka_unit_test(bad_alignments),
        cmocka_unit_test(any_size_aligned),
        cmocka_unit_test(pages),
        cmocka_unit_test(realloc_edges),
        cmocka_unit_test(realloc_keeps_content),
        cmocka_unit_test(realloc_of_zeros),
        cmocka_unit_test(usable_size),
        cmocka_unit_test(free_keeps_errno),
        cmocka_unit_test(frees_by_other_names),
        cmocka_unit_test(libc_aliases),
        cmocka_unit_test(settings_and_statistics),
        cmocka_unit_test(information_to_nowhere),
        cmocka_unit_test(statistics_to_a_stream),
        cmocka_unit_test(the_librarys_own),
    };
    return cmocka_run_group_tests_name("semantics", tests, NULL, NULL);
}
