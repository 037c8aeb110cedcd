/*
 * test_cow.c - copy-on-write buffers, by copying and by pages: what each handle
 * sees, what is shared, what the heap is charged, many threads, fork.
 */
#include "tests/object.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { PAGE = 4096, LARGE = 64 * PAGE };

static const int modes[] = {MEMOPT_COW_COPY, MEMOPT_COW_PAGES};

static struct memopt_cow *new_cow(int mode, size_t size) {
    struct memopt_cow_options options = MEMOPT_COW_OPTIONS_INIT;
    struct memopt_cow *cow = NULL;
    options.mode = mode;
    if (memopt_cow_create(heap, size, &options, &cow, &error) < 0)
        fail_msg("%s", error.message);
    return cow;
}

static struct memopt_cow *clone_of(struct memopt_cow *cow) {
    struct memopt_cow *clone = NULL;
    if (memopt_cow_clone(cow, &clone, &error) < 0)
        fail_msg("%s", error.message);
    return clone;
}

static void put(struct memopt_cow *cow, size_t offset, size_t length, int value) {
    void *p = NULL;
    if (memopt_cow_write(cow, offset, length, &p, &error) < 0)
        fail_msg("%s", error.message);
    assert_ptr_equal(p, (const char *)memopt_cow_read(cow) + offset);
    memset(p, value, length);
}

static int at(const struct memopt_cow *cow, size_t offset) {
    return ((const unsigned char *)memopt_cow_read(cow))[offset];
}

static struct memopt_cow_statistics stats_of(const struct memopt_cow *cow) {
    struct memopt_cow_statistics stats = MEMOPT_COW_STATISTICS_INIT;
    assert_int_equal(memopt_cow_stats(cow, &stats), 0);
    return stats;
}

/* ------------------------------------------------------------------ contents */

static void handles_see_their_own(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 100, PAGE - 1, PAGE, PAGE + 1, LARGE, LARGE + 5};
    for (size_t m = 0; m < COUNT(modes); m++)
        for (size_t s = 0; s < COUNT(sizes); s++) {
            size_t size = sizes[s], last = size - 1;
            struct memopt_cow *a = new_cow(modes[m], size);
            assert_int_equal(memopt_cow_size(a), size);
            assert_int_equal((uintptr_t)memopt_cow_read(a) % 64, 0);
            for (size_t i = 0; i < size; i++)
                assert_int_equal(at(a, i), 0);
            put(a, 0, size, 1);
            struct memopt_cow *b = clone_of(a);
            assert_int_equal(at(b, last), 1);
            put(a, last, 1, 2);
            assert_int_equal(at(a, last), 2);
            assert_int_equal(at(b, last), 1);
            struct memopt_cow *c = clone_of(a); /* of one that has written */
            assert_int_equal(at(c, last), 2);
            put(c, last, 1, 3);
            put(b, 0, 1, 4);
            assert_true(at(a, last) == 2 && at(b, last) == (size == 1 ? 4 : 1) && at(c, last) == 3);
            struct memopt_cow *d = clone_of(b);
            memopt_cow_destroy(a);
            memopt_cow_destroy(b);
            assert_int_equal(at(d, 0), 4);
            put(d, 0, size, 5);
            assert_int_equal(at(c, 0), size == 1 ? 3 : 1);
            memopt_cow_destroy(c);
            put(d, 0, 1, 6); /* alone again */
            assert_int_equal(at(d, 0), 6);
            assert_int_equal(at(d, last), size == 1 ? 6 : 5);
            struct memopt_cow *e = clone_of(d);
            put(e, 0, 1, 7);
            assert_int_equal(at(d, 0), 6);
            memopt_cow_destroy(d);
            memopt_cow_destroy(e);
            assert_int_equal(live_bytes(), 0);
        }
    memopt_cow_destroy(NULL);
}

/* A model: every handle has an ordinary array beside it. */
enum { HANDLES = 6, STEPS = 3000, MODEL = 20 * PAGE + 77 };
static unsigned random_state;
static unsigned next_random(unsigned below) {
    random_state = random_state * 1103515245u + 12345u;
    return (random_state >> 8) % below;
}

static void any_order_of_things(void **state) {
    (void)state;
    static unsigned char model[HANDLES][MODEL];
    for (size_t m = 0; m < COUNT(modes); m++) {
        struct memopt_cow *cow[HANDLES] = {NULL};
        random_state = 7;
        for (int step = 0; step < STEPS; step++) {
            unsigned i = next_random(HANDLES), j = next_random(HANDLES);
            if (cow[i] == NULL) {
                if (cow[j] == NULL) {
                    cow[i] = new_cow(modes[m], MODEL);
                    memset(model[i], 0, MODEL);
                } else {
                    cow[i] = clone_of(cow[j]);
                    memcpy(model[i], model[j], MODEL);
                }
            } else if (next_random(4) == 0) {
                assert_memory_equal(memopt_cow_read(cow[i]), model[i], MODEL);
                memopt_cow_destroy(cow[i]);
                cow[i] = NULL;
            } else {
                size_t offset = next_random(MODEL);
                size_t length = 1 + next_random(next_random(2) ? 10 : MODEL);
                if (length > MODEL - offset)
                    length = MODEL - offset;
                put(cow[i], offset, length, step);
                memset(model[i] + offset, step, length);
            }
        }
        for (unsigned i = 0; i < HANDLES; i++) {
            if (cow[i] != NULL)
                assert_memory_equal(memopt_cow_read(cow[i]), model[i], MODEL);
            memopt_cow_destroy(cow[i]);
        }
        assert_int_equal(live_bytes(), 0);
    }
}

/* -------------------------------------------------------- what is shared, charged */

static void copies_are_counted(void **state) {
    (void)state;
    struct memopt_cow *a = new_cow(MEMOPT_COW_COPY, 1000);
    uint64_t one = live_bytes();
    assert_int_equal(stats_of(a).private_bytes, 1000);
    struct memopt_cow *b = clone_of(a);
    assert_true(live_bytes() < one + 200); /* a handle */
    assert_int_equal(stats_of(a).shared_bytes, 1000);
    assert_int_equal(stats_of(a).handles, 2);
    const void *before = memopt_cow_read(a);
    put(b, 0, 1, 1); /* the other one moves */
    assert_ptr_equal(memopt_cow_read(a), before);
    assert_true(live_bytes() >= one + 1000);
    assert_int_equal(stats_of(a).handles, 1);
    assert_int_equal(stats_of(b).private_bytes, 1000);
    put(a, 0, 1, 1); /* is its own: no copy */
    assert_ptr_equal(memopt_cow_read(a), before);
    memopt_cow_destroy(a);
    memopt_cow_destroy(b);
}

/* What the kernel says of the mapping at p: bytes that are no other's and no file's. */
static uint64_t anonymous_bytes(const void *p, size_t size) {
    FILE *file = fopen("/proc/self/smaps", "r");
    assert_non_null(file);
    char line[512];
    uint64_t sum = 0;
    int inside = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        unsigned long from, to, kib;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = from >= (uintptr_t)p && to <= (uintptr_t)p + size;
        else if (inside && sscanf(line, "Anonymous: %lu kB", &kib) == 1)
            sum += kib * 1024;
    }
    fclose(file);
    return sum;
}

static void only_written_pages_are_copied(void **state) {
    (void)state;
    if (sysconf(_SC_PAGESIZE) != PAGE)
        skip();
    struct memopt_cow *a = new_cow(MEMOPT_COW_PAGES, LARGE);
    const char *p = memopt_cow_read(a);
    put(a, 0, LARGE, 1);
    uint64_t one = live_bytes();
    assert_true(one >= LARGE);
    assert_int_equal(stats_of(a).private_bytes, LARGE);
    struct memopt_cow *b = clone_of(a);
    assert_true(live_bytes() < one + 1000);
    assert_int_equal(stats_of(a).shared_bytes, LARGE);
    assert_int_equal(stats_of(b).shared_bytes, LARGE);
    assert_int_equal(anonymous_bytes(p, LARGE), 0);

    uint64_t two = live_bytes();
    put(a, 10 * PAGE + 100, 1, 2); /* one page */
    put(a, 20 * PAGE - 1, 2, 2);   /* two */
    put(a, 10 * PAGE, PAGE, 2);    /* that one again */
    assert_int_equal(live_bytes(), two + 3 * PAGE);
    assert_int_equal(stats_of(a).private_bytes, 3 * PAGE);
    assert_int_equal(stats_of(a).shared_bytes, LARGE - 3 * PAGE);
    assert_int_equal(stats_of(b).shared_bytes, LARGE);
    assert_ptr_equal(memopt_cow_read(a), p); /* it never moves */
#ifndef MO_SANITIZED
    assert_int_equal(anonymous_bytes(p, LARGE), 3 * PAGE);
    assert_int_equal(anonymous_bytes(memopt_cow_read(b), LARGE), 0);
#endif
    /* a clone of one that has written shares the rest, and has those pages, too */
    struct memopt_cow *c = clone_of(a);
    assert_int_equal(stats_of(c).private_bytes, 3 * PAGE);
    assert_int_equal(stats_of(c).handles, 3);
    memopt_cow_destroy(c);
    assert_int_equal(live_bytes(), two + 3 * PAGE);
    /* left alone, it takes its pages back into the file */
    memopt_cow_destroy(b);
    put(a, 0, 1, 3);
    assert_int_equal(live_bytes(), one);
    assert_int_equal(anonymous_bytes(p, LARGE), 0);
    assert_true(at(a, 10 * PAGE) == 2 && at(a, 0) == 3 && at(a, 1) == 1);
    memopt_cow_destroy(a);
}

static void the_limit_holds(void **state) {
    (void)state;
    if (sysconf(_SC_PAGESIZE) != PAGE)
        skip();
    for (size_t m = 0; m < COUNT(modes); m++) {
        struct memopt_cow *a = new_cow(modes[m], LARGE);
        put(a, 0, LARGE, 1);
        struct memopt_cow *b = clone_of(a);
        uint64_t live = live_bytes();
        memopt_heap_set_limit(heap, live + 2 * PAGE);
        void *p = &p;
        struct memopt_cow *none = (struct memopt_cow *)&none;
        assert_int_equal(memopt_cow_write(b, 0, LARGE, &p, &error), -ENOMEM);
        assert_non_null(strstr(error.message, "heap 'test'"));
        assert_ptr_equal(p, &p);
        assert_int_equal(live_bytes(), live);
        assert_int_equal(stats_of(b).shared_bytes, LARGE);
        assert_int_equal(memopt_cow_write(b, 0, 2 * PAGE, &p, &error),
                         modes[m] == MEMOPT_COW_PAGES ? 0 : -ENOMEM);
        if (modes[m] == MEMOPT_COW_PAGES) {
            memset(p, 2, 2 * PAGE);
            assert_int_equal(memopt_cow_clone(b, &none, &error), -ENOMEM); /* has two pages */
            assert_ptr_equal(none, &none);
        }
        memopt_heap_set_limit(heap, 1);
        assert_int_equal(memopt_cow_clone(a, &none, &error), -ENOMEM);
        assert_int_equal(memopt_cow_create(heap, 1, NULL, &none, &error), -ENOMEM);
        assert_ptr_equal(none, &none);
        memopt_heap_set_limit(heap, 256 << 20);
        assert_int_equal(at(b, LARGE - 1), 1);
        put(b, 0, LARGE, 3);
        assert_int_equal(at(a, 0), 1);
        memopt_cow_destroy(a);
        memopt_cow_destroy(b);
        assert_int_equal(live_bytes(), 0);
    }
}

/* ------------------------------------------------------------------ the way */

static void the_size_decides(void **state) {
    (void)state;
    struct memopt_cow_options options = MEMOPT_COW_OPTIONS_INIT;
    struct memopt_cow *cow;
    for (int i = 0; i < 4; i++) {
        options.threshold = i < 2 ? 0 : 5000;
        size_t limit = i < 2 ? MEMOPT_COW_THRESHOLD : 5000;
        assert_int_equal(memopt_cow_create(heap, limit - (size_t)(i % 2), &options, &cow, &error),
                         0);
        int checked = stats_of(cow).by_pages && i % 2 == 1; /* a memory checker is there */
#ifndef MO_SANITIZED
        if (getenv("LD_PRELOAD") == NULL) /* as Valgrind sets it */
            assert_false(checked);
#endif
        assert_true(checked || stats_of(cow).by_pages == (i % 2 == 0));
        memopt_cow_destroy(cow);
    }
}

static void without_a_memory_file_it_copies(void **state) {
    (void)state;
    struct memopt_cow_options options = MEMOPT_COW_OPTIONS_INIT;
    struct memopt_cow *cow = NULL, *none = NULL;
    struct rlimit before, limit;
    memopt_cow_destroy(new_cow(MEMOPT_COW_PAGES, 1)); /* nothing else needs a descriptor */
    int free_fd = open("/dev/null", O_RDONLY);
    close(free_fd);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)free_fd;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int automatic = memopt_cow_create(heap, LARGE * 8, NULL, &cow, &error);
    options.mode = MEMOPT_COW_PAGES;
    int pages = memopt_cow_create(heap, LARGE, &options, &none, &error);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(automatic, 0);
    assert_false(stats_of(cow).by_pages);
    assert_int_equal(pages, -EMFILE);
    assert_non_null(strstr(error.message, "memory file"));
    memopt_cow_destroy(cow);
}

/* Growing a file over RLIMIT_FSIZE is a signal, not an error. */
static void copy_where_no_file_may_be_that_large(void **state) {
    (void)state;
    struct memopt_cow_options options = MEMOPT_COW_OPTIONS_INIT;
    struct memopt_cow *cow = NULL, *none = NULL;
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = LARGE / 2;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int automatic = memopt_cow_create(heap, LARGE * 8, NULL, &cow, &error);
    options.mode = MEMOPT_COW_PAGES;
    int pages = memopt_cow_create(heap, LARGE, &options, &none, &error);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(automatic, 0);
    assert_false(stats_of(cow).by_pages);
    assert_int_equal(pages, -EFBIG);
    assert_non_null(strstr(error.message, "RLIMIT_FSIZE"));
    memopt_cow_destroy(cow);
}

static void bad_input_is_refused(void **state) {
    (void)state;
    struct memopt_cow_options options = MEMOPT_COW_OPTIONS_INIT;
    struct memopt_cow *cow = (struct memopt_cow *)&cow, *untouched = cow;
    void *p = &p;
    assert_int_equal(memopt_cow_create(heap, 0, NULL, &cow, &error), -EINVAL);
    assert_int_equal(memopt_cow_create(heap, 1, NULL, NULL, &error), -EINVAL);
    options.mode = 3;
    assert_int_equal(memopt_cow_create(heap, 1, &options, &cow, &error), -EINVAL);
    assert_non_null(strstr(error.message, "3 is no mode"));
    options.mode = MEMOPT_COW_AUTO;
    options.size = 1000;
    assert_int_equal(memopt_cow_create(heap, 1, &options, &cow, &error), -EINVAL);
    assert_non_null(strstr(error.message, "MEMOPT_COW_OPTIONS_INIT"));
    for (size_t m = 0; m < COUNT(modes); m++) {
        options = (struct memopt_cow_options)MEMOPT_COW_OPTIONS_INIT;
        options.mode = modes[m];
        assert_int_equal(memopt_cow_create(heap, SIZE_MAX, &options, &cow, &error), -ENOMEM);
        assert_int_equal(memopt_cow_create(heap, PTRDIFF_MAX, &options, &cow, NULL), -ENOMEM);
    }
    assert_ptr_equal(cow, untouched);
    assert_int_equal(live_bytes(), 0);
    assert_int_equal(memopt_cow_clone(NULL, &cow, &error), -EINVAL);
    assert_int_equal(memopt_cow_write(NULL, 0, 1, &p, &error), -EINVAL);
    assert_int_equal(memopt_cow_stats(NULL, NULL), -EINVAL);
    static const struct {
        size_t offset, length;
    } ranges[] = {{0, 0}, {100, 1}, {0, 101}, {99, 2}, {101, 0}, {1, SIZE_MAX}, {SIZE_MAX, 2}};
    for (size_t m = 0; m < COUNT(modes); m++) {
        cow = new_cow(modes[m], 100);
        for (size_t i = 0; i < COUNT(ranges); i++) {
            assert_int_equal(memopt_cow_write(cow, ranges[i].offset, ranges[i].length, &p, &error),
                             -EINVAL);
            assert_non_null(strstr(error.message, "no range of a buffer of 100 bytes"));
            assert_ptr_equal(p, &p);
        }
        assert_int_equal(memopt_cow_write(cow, 0, 1, NULL, &error), -EINVAL);
        assert_int_equal(memopt_cow_clone(cow, NULL, &error), -EINVAL);
        struct memopt_cow_statistics stats = {.size = 1000};
        assert_int_equal(memopt_cow_stats(cow, &stats), -EINVAL);
        memopt_cow_destroy(cow);
    }
}

/* Somebody closes every descriptor, and may have another file there. */
static void a_closed_descriptor_is_noticed(void **state) {
    (void)state;
    struct memopt_cow *a = new_cow(MEMOPT_COW_PAGES, LARGE), *none = NULL;
    put(a, 0, LARGE, 1);
    char link[64], name[64];
    int fd = -1;
    for (int i = 3; i < 100 && fd < 0; i++) {
        snprintf(link, sizeof(link), "/proc/self/fd/%d", i);
        ssize_t length = readlink(link, name, sizeof(name) - 1);
        name[length < 0 ? 0 : length] = '\0';
        if (strstr(name, "memopt-cow") != NULL)
            fd = i;
    }
    assert_true(fd >= 3);
    int other = memfd_create("another", MFD_CLOEXEC);
    assert_int_equal(dup2(other, fd), fd);
    assert_int_equal(memopt_cow_clone(a, &none, &error), -EBADF);
    put(a, 0, 1, 2);
    assert_true(at(a, 0) == 2 && at(a, 1) == 1);
    memopt_cow_destroy(a);
    assert_true(fcntl(fd, F_GETFD) >= 0); /* not ours to close */
    close(fd);
    close(other);
}

/* ------------------------------------------------------------------ threads */

enum { THREADS = 8, ROUNDS = 150 };
static struct memopt_cow *published;

/* Everybody clones the same handle, and writes to his own. */
static void clone_and_write(unsigned number) {
    for (int i = 0; i < ROUNDS; i++) {
        struct memopt_cow *mine = clone_of(published);
        size_t offset = (number * 8 + (unsigned)i % 8) * PAGE;
        assert_int_equal(at(mine, offset), 1);
        put(mine, offset, 100, (int)number + 2);
        struct memopt_cow *second = clone_of(mine);
        put(mine, offset, 100, 99);
        assert_int_equal(at(second, offset), (int)number + 2);
        assert_int_equal(at(second, (offset + PAGE) % LARGE), 1);
        memopt_cow_destroy(mine);
        memopt_cow_destroy(second);
        assert_int_equal(at(published, offset), 1);
    }
}

static void many_threads_share_one(void **state) {
    (void)state;
    for (size_t m = 0; m < COUNT(modes); m++) {
        published = new_cow(modes[m], LARGE);
        put(published, 0, LARGE, 1);
        struct memopt_cow *writer = clone_of(published); /* closed, with pages of its own */
        put(writer, 0, LARGE / 2, 1);
        memopt_cow_destroy(published);
        published = writer;
        run_threads(THREADS, clone_and_write);
        for (size_t i = 0; i < LARGE; i += PAGE)
            assert_int_equal(at(published, i), 1);
        assert_int_equal(stats_of(published).handles, 1);
        memopt_cow_destroy(published);
        assert_int_equal(live_bytes(), 0);
    }
}

/* --------------------------------------------------------------------- fork */

static struct memopt_cow *forked[3]; /* open; closed with own pages; its clone */
static void *writable;

static void use_copies(void) {
    CHECK(at(forked[0], 0) == 1 && at(forked[0], LARGE - 1) == 1);
    CHECK(at(forked[1], 0) == 2 && at(forked[1], PAGE) == 1 && at(forked[2], 0) == 1);
    memset(writable, 50, PAGE); /* got before fork */
    void *p;
    CHECK(memopt_cow_write(forked[0], PAGE, PAGE, &p, NULL) == 0);
    memset(p, 51, PAGE);
    CHECK(memopt_cow_write(forked[1], 0, 2 * PAGE, &p, NULL) == 0);
    memset(p, 52, 2 * PAGE);
    struct memopt_cow *clone;
    CHECK(memopt_cow_clone(forked[0], &clone, NULL) == 0);
    CHECK(at(clone, 0) == 50 && at(clone, PAGE) == 51 && at(clone, 2 * PAGE) == 1);
    memopt_cow_destroy(forked[2]);
    CHECK(memopt_cow_write(forked[1], 0, LARGE, &p, NULL) == 0); /* alone now, in here */
    memset(p, 53, LARGE);
    CHECK(memopt_cow_clone(forked[1], &forked[2], NULL) == 0);
    CHECK(at(forked[2], LARGE - 1) == 53);
    memopt_cow_destroy(clone);
    for (size_t i = 0; i < 3; i++)
        memopt_cow_destroy(forked[i]);
    CHECK(live_bytes() == 0);
}

static void a_child_has_its_own_copy(void **state) {
    (void)state;
    for (size_t m = 0; m < COUNT(modes); m++) {
        forked[0] = new_cow(modes[m], LARGE);
        put(forked[0], 0, LARGE, 1);
        forked[2] = new_cow(modes[m], LARGE);
        put(forked[2], 0, LARGE, 1);
        forked[1] = clone_of(forked[2]);
        put(forked[1], 0, PAGE, 2);
        assert_int_equal(memopt_cow_write(forked[0], 0, PAGE, &writable, &error), 0);
        assert_int_equal(run_child(use_copies), 0);
        assert_int_equal(at(forked[0], 0), 1);
        assert_int_equal(at(forked[0], PAGE), 1);
        assert_true(at(forked[1], 0) == 2 && at(forked[1], PAGE) == 1);
        assert_int_equal(at(forked[2], LARGE - 1), 1);
        memset(writable, 60, PAGE); /* and the parent goes on */
        struct memopt_cow *clone = clone_of(forked[0]);
        put(forked[0], 0, 1, 61);
        assert_true(at(clone, 0) == 60 && at(clone, LARGE - 1) == 1 && at(forked[0], 0) == 61);
        memopt_cow_destroy(clone);
        put(forked[0], 1, 1, 62); /* on a file that no child has, alone */
        assert_int_equal(stats_of(forked[0]).private_bytes, LARGE);
        for (size_t i = 0; i < 3; i++)
            memopt_cow_destroy(forked[i]);
        assert_int_equal(live_bytes(), 0);
    }
}

/* ------------------------------------------------------------ what faults */

static void write_unasked(void) {
    signal(SIGSEGV, SIG_DFL);
    struct memopt_cow *clone = clone_of(published);
    *(volatile char *)(uintptr_t)memopt_cow_read(clone) = 1;
}

static void write_after_clone(void) {
    signal(SIGSEGV, SIG_DFL);
    void *p;
    CHECK(memopt_cow_write(published, 0, 1, &p, NULL) == 0);
    CHECK(memopt_cow_clone(published, &forked[0], NULL) == 0);
    *(volatile char *)p = 1;
}

static void unasked_writes_fault(void **state) {
    (void)state;
    published = new_cow(MEMOPT_COW_PAGES, LARGE);
    void (*bodies[])(void) = {write_unasked, write_after_clone};
    for (size_t i = 0; i < COUNT(bodies); i++) {
        int status = run_child(bodies[i]);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    }
    memopt_cow_destroy(published);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        test(handles_see_their_own),
        test(any_order_of_things),
        test(copies_are_counted),
        test(only_written_pages_are_copied),
        test(the_limit_holds),
        test(the_size_decides),
        test(without_a_memory_file_it_copies),
        test(copy_where_no_file_may_be_that_large),
        test(bad_input_is_refused),
        test(a_closed_descriptor_is_noticed),
        test(many_threads_share_one),
        test(a_child_has_its_own_copy),
        test(unasked_writes_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
