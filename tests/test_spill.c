/*
 * test_spill.c - heaps that spill: blocks in mappings of a file, their accounting,
 * limits of the file, fork, threads, faults.
 */
#include "config.h"

#include "tests/heap_child.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#if HAVE_VALGRIND_MEMCHECK_H
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MIB ((size_t)1 << 20)

/* ------------------------------------------------------------------ faults */

enum { FAULT_MMAP = 1, FAULT_OPEN = 2, FAULT_ALLOCATE = 4 };
static struct {
    int kind, for_good;
    long nth, count, fired;
} faults;

#ifndef MO_SANITIZED
#define EXPORT __attribute__((visibility("default")))
static int hit(int wanted) {
    if (faults.nth == 0 || faults.kind != wanted)
        return 0;
    faults.count++;
    if (faults.count != faults.nth && !(faults.for_good && faults.count > faults.nth))
        return 0;
    faults.fired++;
    errno = wanted == FAULT_OPEN ? EMFILE : ENOMEM;
    return 1;
}
static int no_holes;
EXPORT int fallocate(int fd, int mode, off_t offset, off_t size) {
    if (no_holes) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}
EXPORT void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
    if (hit(FAULT_MMAP))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
}
EXPORT int open(const char *path, int flags, ...) {
    return hit(FAULT_OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
}
EXPORT int posix_fallocate(int fd, off_t offset, off_t size) {
    if (hit(FAULT_ALLOCATE))
        return ENOSPC;
    return syscall(SYS_fallocate, fd, 0, offset, size) < 0 ? errno : 0;
}
#endif

/* ------------------------------------------------------------------- heaps */

static struct memopt_heap *spilling_heap(const char *allocator, uint64_t limit) {
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    options.allocator = allocator;
    options.limit = limit;
    options.on_limit = "spill";
    options.spill_dir = directory;
    return open_or_die("spilling", &options);
}

static void fill(void *p, size_t size, int value) {
    CHECK(p != NULL);
    memset(p, value, size);
}
static int holds(const void *p, size_t size, int value) {
    const unsigned char *bytes = p;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (unsigned char)value)
            return 0;
    return 1;
}

/* The directory that the tests spill to is on a disk; else there is no test. */
static void needs_a_disk(void) {
    struct statfs file_system;
    CHECK(statfs(directory, &file_system) == 0);
    if (file_system.f_type == 0x01021994 || file_system.f_type == (long)0x858458f6)
        _exit(0);
}

static void blocks_over_the_limit_are_spilled(void) {
    static const char *const backends[] = {"libc", "mmap", "pool", "arena"};
    write_ini("");
    needs_a_disk();
    for (size_t b = 0; b < COUNT(backends); b++) {
        struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
        static char region[4 << 20] __attribute__((aligned(4096)));
        options.allocator = backends[b];
        options.limit = MIB;
        options.on_limit = "purge, spill";
        options.spill_dir = directory;
        options.region = region;
        options.region_size = sizeof(region);
        if (strcmp(backends[b], "arena") != 0) {
            options.region = NULL;
            options.region_size = 0;
        }
        char name[16];
        snprintf(name, sizeof(name), "on-%s", backends[b]);
        struct memopt_heap *heap = open_or_die(name, &options);
        static const size_t sizes[] = {1, 100, 4096, 5000, 300000, 1 << 20, 3000001};
        void *p[70];
        for (size_t i = 0; i < COUNT(p); i++) {
            size_t size = sizes[i % COUNT(sizes)];
            p[i] = i % 5 == 0 ? memopt_heap_aligned_alloc(heap, 1 << (i % 23), size)
                              : memopt_heap_alloc(heap, size);
            fill(p[i], size, (int)i);
            CHECK(memopt_heap_usable_size(heap, p[i]) >= size);
            CHECK(i % 5 != 0 || (uintptr_t)p[i] % ((uintptr_t)1 << (i % 23)) == 0);
            struct memopt_heap_statistics stats = stats_of(heap);
            CHECK(stats.live_bytes <= MIB && stats.peak_bytes <= MIB && stats.peak_error == 0);
            CHECK(stats.live_blocks == i + 1 && stats.refused == 0);
        }
        struct memopt_heap_statistics stats = stats_of(heap);
        CHECK(stats.spilled_blocks > 20 && stats.spills == stats.spilled_blocks);
        CHECK(stats.spilled_bytes > 38 * MIB);
        for (size_t i = 0; i < COUNT(p); i++)
            CHECK(holds(p[i], sizes[i % COUNT(sizes)], (int)i));
        for (size_t i = 0; i < COUNT(p); i += 2)
            memopt_heap_free(heap, p[i]);
        for (size_t i = 1; i < COUNT(p); i += 2) {
            CHECK(holds(p[i], sizes[i % COUNT(sizes)], (int)i));
            memopt_heap_free(heap, p[i]);
        }
        stats = stats_of(heap);
        CHECK(stats.live_bytes == 0 && stats.live_blocks == 0);
        CHECK(stats.spilled_bytes == 0 && stats.spilled_blocks == 0 && stats.spills > 20);
        CHECK(stats.allocations == COUNT(p) && stats.frees == COUNT(p));
        fill(memopt_heap_alloc(heap, 2 * MIB), 2 * MIB, 1); /* destroy frees it */
        CHECK(memopt_heap_destroy(heap, NULL) == 0);
    }
}
IN_CHILD(blocks_over_the_limit_are_spilled)

static void zeroed_blocks_are_zero(void) {
    write_ini("");
    needs_a_disk();
    struct memopt_heap *heap = spilling_heap("libc", 1);
    char *keep = memopt_heap_alloc(heap, 10); /* its segment stays */
    fill(keep, 10, 7);
    for (int round = 0; round < 3; round++) {
        char *p[20];
        for (size_t i = 0; i < COUNT(p); i++) {
            size_t size = 3000 * (i + 1);
            p[i] = memopt_heap_calloc(heap, 3000, i + 1);
            CHECK(p[i] != NULL && holds(p[i], size, 0));
            fill(p[i], size, 0xff);
        }
        for (size_t i = 0; i < COUNT(p); i++)
            memopt_heap_free(heap, p[i]);
    }
    CHECK(holds(keep, 10, 7));
    CHECK(stats_of(heap).spilled_blocks == 1);
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
}
IN_CHILD(zeroed_blocks_are_zero)

static void realloc_crosses_over(void) {
    write_ini("");
    needs_a_disk();
    struct memopt_heap *heap = spilling_heap("libc", MIB);
    char *p = memopt_heap_alloc(heap, 1000);
    fill(p, 1000, 3);
    CHECK(stats_of(heap).spilled_blocks == 0);
    p = memopt_heap_realloc(heap, p, 2 * MIB); /* out of memory, into the file */
    CHECK(p != NULL && holds(p, 1000, 3));
    fill(p, 2 * MIB, 4);
    struct memopt_heap_statistics stats = stats_of(heap);
    CHECK(stats.live_bytes == 0 && stats.spilled_bytes == 2 * MIB && stats.live_blocks == 1);
    char *q = memopt_heap_realloc(heap, p, MIB); /* it has that */
    CHECK(q == p && stats_of(heap).spilled_bytes == 2 * MIB);
    p = memopt_heap_realloc(heap, q, 5 * MIB);
    CHECK(p != NULL && holds(p, 2 * MIB, 4) && stats_of(heap).spilled_bytes == 5 * MIB);
    memopt_heap_free(heap, p);
    p = memopt_heap_alloc(heap, MIB - 8192);
    q = memopt_heap_alloc(heap, 16000); /* small, over the limit */
    fill(q, 16000, 5);
    CHECK(stats_of(heap).spilled_blocks == 1);
    memopt_heap_free(heap, p);
    q = memopt_heap_realloc(heap, q, 100000); /* and there is room again */
    CHECK(q != NULL && holds(q, 16000, 5));
    stats = stats_of(heap);
    CHECK(stats.spilled_blocks == 0 && stats.live_bytes >= 100000 && stats.live_blocks == 1);
    CHECK(memopt_heap_realloc(heap, q, 0) == NULL);
    stats = stats_of(heap);
    CHECK(stats.live_bytes == 0 && stats.live_blocks == 0 && stats.allocations == stats.frees);
}
IN_CHILD(realloc_crosses_over)

static void blocks_are_moved_by_hand(void) {
    write_ini("");
    needs_a_disk();
    struct memopt_heap *heap = spilling_heap("mmap", MIB);
    char *p = memopt_heap_alloc(heap, 600000);
    fill(p, 600000, 9);
    errno = 7;
    char *q = memopt_heap_spill(heap, p);
    CHECK(q != NULL && errno == 7 && holds(q, 600000, 9));
    CHECK(memopt_heap_spill(heap, q) == q); /* there already */
    struct memopt_heap_statistics stats = stats_of(heap);
    CHECK(stats.live_bytes == 0 && stats.spilled_blocks == 1 && stats.live_blocks == 1);
    char *other = memopt_heap_alloc(heap, 600000); /* takes the room */
    CHECK(other != NULL && stats_of(heap).spilled_blocks == 1);
    CHECK(memopt_heap_unspill(heap, q) == NULL && errno == ENOMEM && holds(q, 600000, 9));
    memopt_heap_free(heap, other);
    p = memopt_heap_unspill(heap, q);
    CHECK(p != NULL && holds(p, 600000, 9));
    CHECK(memopt_heap_unspill(heap, p) == p);
    stats = stats_of(heap);
    CHECK(stats.live_bytes >= 600000 && stats.spilled_blocks == 0 && stats.live_blocks == 1);
    memopt_heap_free(heap, p);
    /* what is refused */
    CHECK(memopt_heap_spill(heap, NULL) == NULL && errno == EINVAL);
    struct memopt_heap *plain = open_or_die("plain", NULL);
    p = memopt_heap_alloc(plain, 10);
    CHECK(memopt_heap_spill(plain, p) == NULL && errno == ENOTSUP);
    CHECK(memopt_heap_unspill(NULL, p) == NULL && errno == ENOTSUP);
    memopt_heap_free(plain, p);
}
IN_CHILD(blocks_are_moved_by_hand)

static void wrong_pointers_are_found(void) {
    write_ini("");
    needs_a_disk();
    struct memopt_heap *heap = spilling_heap("libc", 1);
    char *small = memopt_heap_alloc(heap, 100000), *next = memopt_heap_alloc(heap, 100);
    char *large = memopt_heap_alloc(heap, 2 * MIB);
    CHECK(small != NULL && next != NULL && large != NULL);
    char *const wrong[] = {small + 16, small + 4096, large + 4096, large + 1};
    uint64_t found = 0;
    for (size_t i = 0; i < COUNT(wrong); i++) {
        errno = 0;
        memopt_heap_free(heap, wrong[i]);
        CHECK(errno == EINVAL && stats_of(heap).invalid_frees == ++found);
        errno = 0;
        CHECK(memopt_heap_realloc(heap, wrong[i], 10) == NULL && errno == EINVAL);
        CHECK(memopt_heap_usable_size(heap, wrong[i]) == 0);
        found += 2;
        errno = 0;
        CHECK(memopt_heap_spill(heap, wrong[i]) == NULL && errno == EINVAL);
        CHECK(stats_of(heap).spilled_blocks == 3 && stats_of(heap).invalid_frees == found);
    }
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
}
IN_CHILD(wrong_pointers_are_found)

static void a_double_free_is_found(void) {
    write_ini("");
    needs_a_disk();
    struct memopt_heap *heap = spilling_heap("libc", 1);
    char *small = memopt_heap_alloc(heap, 100), *next = memopt_heap_alloc(heap, 100);
    CHECK(small != NULL && next != NULL);
    memopt_heap_free(heap, small);
    memopt_heap_free(heap, small);
    CHECK(errno == EINVAL && stats_of(heap).invalid_frees == 1);
    CHECK(stats_of(heap).spilled_blocks == 1);
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
}
IN_CHILD(a_double_free_is_found)

#ifndef MO_SANITIZED
/* Some file systems can't punch holes: what was freed is still in the file. */
static void calloc_is_zero_without_holes(void) {
    write_ini("");
    needs_a_disk();
    struct memopt_heap *heap = spilling_heap("libc", 1);
    no_holes = 1;
    for (size_t size = 20000; size <= 2 * MIB; size *= 10) {
        char *p = memopt_heap_alloc(heap, size);
        CHECK(p != NULL);
        memset(p, 0x55, size);
        memopt_heap_free(heap, p);
        CHECK((p = memopt_heap_calloc(heap, 1, size)) != NULL);
        for (size_t i = 0; i < size; i++)
            CHECK(p[i] == 0);
        memopt_heap_free(heap, p);
    }
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
}
IN_CHILD(calloc_is_zero_without_holes)

/* Old blocks are lost to a child that could have no copy of them; new ones aren't. */
static void new_blocks_after_a_lost_copy(void) {
    if (RUNNING_ON_VALGRIND)
        return; /* memcheck would tell of the blocks that the child has lost */
    write_ini("");
    needs_a_disk();
    struct memopt_heap *heap = spilling_heap("libc", 1);
    char *a = memopt_heap_alloc(heap, 20000), *b = memopt_heap_alloc(heap, 20000);
    CHECK(a != NULL && b != NULL);
    faults.kind = FAULT_ALLOCATE, faults.nth = 1, faults.for_good = 1;
    pid_t pid = fork();
    faults.nth = 0;
    if (pid == 0) {
        memopt_heap_free(heap, a);
        char *c = memopt_heap_alloc(heap, 20000);
        CHECK(c != NULL);
        memset(c, 3, 20000);
        memopt_heap_free(heap, c);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
}
IN_CHILD(new_blocks_after_a_lost_copy)
#endif

/* --------------------------------------------------------------- no room */

static void spill_limit_holds(void) {
    char text[256];
    snprintf(text, sizeof(text),
             "[pressure]\nspill_dir = %s\n[heap.a]\nallocator = libc\nlimit = 4KiB\n"
             "on_limit = purge, shrink, spill\nspill_limit = 3MiB\n",
             directory);
    write_ini(text);
    needs_a_disk();
    struct memopt_heap *heap = open_or_die("a", NULL);
    void *p = memopt_heap_alloc(heap, 2 * MIB);
    CHECK(p != NULL);
    CHECK(memopt_heap_alloc(heap, 2 * MIB) == NULL && errno == ENOMEM);
    CHECK(stats_of(heap).refused == 1);
    void *q = memopt_heap_alloc(heap, MIB);
    CHECK(q != NULL && stats_of(heap).spilled_bytes == 3 * MIB);
    CHECK(memopt_heap_alloc(heap, 5000) == NULL);
    memopt_heap_free(heap, p);
    CHECK(memopt_heap_alloc(heap, 2 * MIB) != NULL);
    CHECK(memopt_heap_alloc(heap, SIZE_MAX / 2 - 5000) == NULL && errno == ENOMEM);
    volatile size_t alignment = (size_t)1 << 62;
    CHECK(RUNNING_ON_VALGRIND ||
          (memopt_heap_aligned_alloc(heap, alignment, 100) == NULL && errno == ENOMEM));
}
IN_CHILD(spill_limit_holds)

/* No SIGXFSZ and no SIGBUS: ENOMEM. */
static void a_file_at_its_limit_is_enomem(void) {
    write_ini("");
    needs_a_disk();
    struct memopt_heap *heap = spilling_heap("libc", 1);
    struct rlimit limit = {3 * MIB, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    void *p[200];
    size_t count = 0;
    for (; count < COUNT(p) && (p[count] = memopt_heap_alloc(heap, 200000)) != NULL; count++)
        fill(p[count], 200000, (int)count + 1);
    CHECK(errno == ENOMEM && count >= 10 && count <= 15);
    CHECK(memopt_heap_alloc(heap, 4 * MIB) == NULL && errno == ENOMEM);
    CHECK(stats_of(heap).refused == 2 && stats_of(heap).spilled_blocks == count);
    /* freed room is used again, from the beginning of the file */
    for (size_t i = 0; i < count; i++) {
        CHECK(holds(p[i], 200000, (int)i + 1));
        memopt_heap_free(heap, p[i]);
    }
    for (int i = 0; i < 20; i++) {
        void *q = memopt_heap_alloc(heap, 2 * MIB);
        fill(q, 2 * MIB, i);
        memopt_heap_free(heap, q);
    }
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
}
IN_CHILD(a_file_at_its_limit_is_enomem)

static int try_open(const struct memopt_heap_options *options, const char *name,
                    struct memopt_error *error) {
    struct memopt_heap *const untouched = (struct memopt_heap *)1;
    struct memopt_heap *heap = untouched;
    *error = (struct memopt_error)MEMOPT_ERROR_INIT;
    int code = memopt_heap_open(name, options, &heap, error);
    CHECK(code < 0 && heap == untouched && error->code == code);
    CHECK(memopt_heap_find(name) == NULL);
    return code;
}

static void bad_directories_are_refused(void) {
    write_ini("");
    struct memopt_error error;
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    options.on_limit = "spill";
    options.spill_dir = "relative";
    CHECK(try_open(&options, "x", &error) == -EINVAL);
    CHECK_TEXT(error.message, "not an absolute path");
    options.spill_dir = "/no/such/directory";
    CHECK(try_open(&options, "x", &error) == -ENOENT);
    CHECK_TEXT(error.message, "/no/such/directory");
    options.spill_dir = ini; /* a file */
    CHECK(try_open(&options, "x", &error) == -ENOTDIR);
    struct statfs file_system;
    if (statfs("/dev/shm", &file_system) == 0 && file_system.f_type == 0x01021994) {
        options.spill_dir = "/dev/shm";
        CHECK(try_open(&options, "x", &error) == -ENOTSUP);
        CHECK_TEXT(error.message, "in memory (tmpfs)");
    }
    options.spill_dir = directory;
    CHECK(try_open(&options, "default", &error) == -ENOTSUP);
    CHECK_TEXT(error.message, "'default' can't spill");
    CHECK(memopt_heap_default(NULL) != NULL);
}
IN_CHILD(bad_directories_are_refused)

/* -------------------------------------------------------------------- fork */

static void a_child_has_a_copy(void) {
    write_ini("");
    needs_a_disk();
    struct memopt_heap *heap = spilling_heap("libc", 1);
    char *small = memopt_heap_alloc(heap, 5000), *large = memopt_heap_alloc(heap, 3 * MIB);
    fill(small, 5000, 1);
    fill(large, 3 * MIB, 2);
    int to_child[2], to_parent[2];
    CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0);
    char byte = 0;
    pid_t pid = fork();
    if (pid == 0) {
        alarm(600);
        CHECK(read(to_child[0], &byte, 1) == 1); /* the parent has written since */
        CHECK(holds(small, 5000, 1) && holds(large, 3 * MIB, 2));
        fill(small, 5000, 11);
        fill(large, 3 * MIB, 12);
        CHECK(write(to_parent[1], &byte, 1) == 1);
        CHECK(read(to_child[0], &byte, 1) == 1);
        CHECK(holds(small, 5000, 11) && holds(large, 3 * MIB, 12));
        char *more = memopt_heap_alloc(heap, 2 * MIB); /* goes to its own file */
        fill(more, 2 * MIB, 13);
        memopt_heap_free(heap, large);
        if (fork() == 0) { /* and so on */
            CHECK(holds(more, 2 * MIB, 13) && holds(small, 5000, 11));
            memopt_heap_free(heap, small);
            CHECK(stats_of(heap).spilled_blocks == 1);
            _exit(0);
        }
        int status;
        CHECK(wait(&status) > 0 && status == 0);
        memopt_heap_free(heap, small);
        memopt_heap_free(heap, more);
        CHECK(stats_of(heap).spilled_bytes == 0);
        CHECK(memopt_heap_destroy(heap, NULL) == 0);
        _exit(0);
    }
    fill(small, 5000, 21);
    fill(large, 3 * MIB, 22);
    CHECK(write(to_child[1], &byte, 1) == 1);
    CHECK(read(to_parent[0], &byte, 1) == 1); /* the child has written */
    CHECK(holds(small, 5000, 21) && holds(large, 3 * MIB, 22));
    char *more = memopt_heap_alloc(heap, 2 * MIB);
    fill(more, 2 * MIB, 23);
    CHECK(write(to_child[1], &byte, 1) == 1);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(holds(small, 5000, 21) && holds(large, 3 * MIB, 22) && holds(more, 2 * MIB, 23));
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
}
IN_CHILD(a_child_has_a_copy)

/* A heap with nothing spilled: the child opens a file of its own when it needs one. */
static void a_child_spills_anew(void) {
    write_ini("");
    needs_a_disk();
    struct memopt_heap *heap = spilling_heap("libc", 1);
    pid_t pid = fork();
    char *p = memopt_heap_alloc(heap, 2 * MIB);
    fill(p, 2 * MIB, pid == 0 ? 1 : 2);
    CHECK(holds(p, 2 * MIB, pid == 0 ? 1 : 2));
    memopt_heap_free(heap, p);
    if (pid == 0)
        _exit(0);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}
IN_CHILD(a_child_spills_anew)

static void no_room_for_a_copy(void) {
    write_ini("");
    needs_a_disk();
    struct memopt_heap *heap = spilling_heap("libc", 1);
    char *p = memopt_heap_alloc(heap, 2 * MIB);
    fill(p, 2 * MIB, 1);
    struct rlimit none = {4096, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_FSIZE, &none) == 0);
    int status = 99 << 8;
    pid_t pid = RUNNING_ON_VALGRIND ? -1 : fork(); /* which would only report it */
    if (pid == 0) {
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGSEGV, SIG_DFL);
        p[0] = 2; /* must not be the parent's */
        _exit(0);
    }
    CHECK(pid < 0 || waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGSEGV : status != 0);
    CHECK(holds(p, 2 * MIB, 1));
    pid = fork();
    if (pid == 0) {
        memopt_heap_free(heap, p);
        CHECK(stats_of(heap).spilled_blocks == 0);
        CHECK(memopt_heap_destroy(heap, NULL) == 0);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(holds(p, 2 * MIB, 1));
    none.rlim_cur = RLIM_INFINITY; /* a coverage build writes files at exit */
    CHECK(setrlimit(RLIMIT_FSIZE, &none) == 0);
}
IN_CHILD(no_room_for_a_copy)

/* ----------------------------------------------------------------- threads */

enum { THREADS = 4, ROUNDS = 300, SLOTS = 16 };
static struct memopt_heap *shared_heap;
static _Atomic(char *) slots[SLOTS];

static void *work(void *context) {
    unsigned seed = (unsigned)(uintptr_t)context + 1;
    for (int i = 0; i < ROUNDS; i++) {
        size_t size = (size_t)(rand_r(&seed) % 40000) + 1;
        if (i % 50 == 0)
            size += MIB;
        char *p = i % 3 == 0 ? memopt_heap_calloc(shared_heap, 1, size)
                             : memopt_heap_alloc(shared_heap, size);
        CHECK(p != NULL);
        p[0] = p[size - 1] = 'x';
        p = __atomic_exchange_n((char **)&slots[rand_r(&seed) % SLOTS], p, __ATOMIC_ACQ_REL);
        if (p != NULL && i % 4 == 0)
            p = memopt_heap_realloc(shared_heap, p, size / 2 + 1);
        CHECK(p == NULL || p[0] == 'x');
        memopt_heap_free(shared_heap, p);
    }
    return NULL;
}

static void threads_spill_together(void) {
    write_ini("");
    needs_a_disk();
    shared_heap = spilling_heap("libc", 100000);
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    /* While they work. (Valgrind takes what their stacks hold for lost in a child.) */
    for (int i = 0; i < 3 && !RUNNING_ON_VALGRIND; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        int status;
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (size_t i = 0; i < SLOTS; i++)
        memopt_heap_free(shared_heap, slots[i]);
    struct memopt_heap_statistics stats = stats_of(shared_heap);
    CHECK(stats.live_bytes == 0 && stats.live_blocks == 0 && stats.peak_bytes <= 100000);
    CHECK(stats.spilled_bytes == 0 && stats.spilled_blocks == 0 && stats.spills > 0);
    CHECK(stats.refused == 0 && stats.invalid_frees == 0);
    CHECK(memopt_heap_destroy(shared_heap, NULL) == 0);
}
IN_CHILD(threads_spill_together)

/* ------------------------------------------------------------------ faults */

static int kind, for_good;
static long nth;
enum { FINISHED = 7 };

/* Every call that can fail does, once or for good: ENOMEM or another way to
 * serve, never a wrong figure. */
static void spill_under_fault(void) {
    struct memopt_heap *heap = spilling_heap("libc", 1);
    faults.kind = kind;
    faults.for_good = for_good;
    faults.nth = nth;
    char *p[12];
    for (size_t i = 0; i < COUNT(p); i++) {
        size_t size = i % 3 == 0 ? MIB + i : 50000 * (i + 1);
        errno = 0;
        p[i] = memopt_heap_alloc(heap, size);
        CHECK(p[i] != NULL || (errno == ENOMEM && faults.fired > 0));
        if (p[i] == NULL)
            continue;
        fill(p[i], size, (int)i);
        char *q = memopt_heap_realloc(heap, p[i], 2 * size);
        CHECK(q != NULL || errno == ENOMEM);
        p[i] = q != NULL ? q : p[i];
        CHECK(holds(p[i], size, (int)i));
    }
    pid_t pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < COUNT(p); i++)
            memopt_heap_free(heap, p[i]);
        _exit(stats_of(heap).spilled_blocks == 0 ? 0 : 99);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    for (size_t i = 0; i < COUNT(p); i++)
        memopt_heap_free(heap, p[i]);
    long fired = faults.fired;
    faults.nth = 0;
    struct memopt_heap_statistics stats = stats_of(heap);
    CHECK(stats.live_bytes == 0 && stats.live_blocks == 0 && stats.spilled_bytes == 0);
    void *again = memopt_heap_alloc(heap, 3 * MIB);
    fill(again, 3 * MIB, 1);
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
    if (fired == 0)
        exit(FINISHED);
}

static void every_call_may_fail(void **state) {
    (void)state;
#ifdef MO_SANITIZED
    skip();
#endif
    struct statfs file_system;
    assert_int_equal(statfs(directory, &file_system), 0);
    if (file_system.f_type == 0x01021994)
        skip();
    static const struct {
        int kind;
        const char *name;
        long at_least;
    } kinds[] = {
        {FAULT_MMAP, "mmap", 10}, {FAULT_OPEN, "open", 1}, {FAULT_ALLOCATE, "fallocate", 5}};
    write_ini("");
    for (size_t k = 0; k < COUNT(kinds); k++)
        for (for_good = 0; for_good < 2; for_good++) {
            kind = kinds[k].kind;
            int status = 0;
            for (nth = 1; nth < 500 && status == 0; nth++) {
                status = run_in_child(spill_under_fault);
                if (status != 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != FINISHED))
                    fail_msg("%s number %ld%s: status %#x", kinds[k].name, nth,
                             for_good ? " and all after it" : "", (unsigned)status);
            }
            assert_int_equal(WEXITSTATUS(status), FINISHED);
            assert_true(nth - 2 >= kinds[k].at_least);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_over_the_limit_are_spilled_test),
        cmocka_unit_test(zeroed_blocks_are_zero_test),
        cmocka_unit_test(realloc_crosses_over_test),
        cmocka_unit_test(blocks_are_moved_by_hand_test),
        cmocka_unit_test(wrong_pointers_are_found_test),
        cmocka_unit_test(a_double_free_is_found_test),
#ifndef MO_SANITIZED
        cmocka_unit_test(calloc_is_zero_without_holes_test),
        cmocka_unit_test(new_blocks_after_a_lost_copy_test),
#endif
        cmocka_unit_test(spill_limit_holds_test),
        cmocka_unit_test(a_file_at_its_limit_is_enomem_test),
        cmocka_unit_test(bad_directories_are_refused_test),
        cmocka_unit_test(a_child_has_a_copy_test),
        cmocka_unit_test(a_child_spills_anew_test),
        cmocka_unit_test(no_room_for_a_copy_test),
        cmocka_unit_test(threads_spill_together_test),
        cmocka_unit_test(every_call_may_fail),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
