/* test_mmap.c - the mmap allocator: what is its own beyond the conformance suite:
 * pages, moving without copying, huge pages, NUMA, locking, failing calls. */
#include "config.h"

#include "tests/own.h"
#ifndef MO_SANITIZED
#include "tests/own_faults.h"
#endif

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

enum { PAGE = 4096 };
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

static int is_mapped(void *p) {
    unsigned char vector;
    return mincore((void *)((uintptr_t)p & ~(uintptr_t)(PAGE - 1)), 1, &vector) == 0;
}

static size_t pages_present(void *p, size_t size) {
    size_t present = 0;
    for (size_t i = 0; i < size; i += PAGE) {
        unsigned char vector;
        present += mincore((char *)p + i, 1, &vector) == 0 && (vector & 1) != 0;
    }
    return present;
}

/* The number after `key` in a file of /proc, in KiB; -1: not there. */
static long proc_kib(const char *path, const char *key) {
    char line[512];
    long value = -1;
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            value = strtol(line + strlen(key), NULL, 10);
    if (file != NULL)
        fclose(file);
    return value;
}

/* -------------------------------------------------------------------- pages */

static void pages_body(void) {
    CHECK(own_open("mmap", NULL) == 0);
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 100000, 5 * MIB + 1};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t pages = sizes[i] == 0 ? 1 : (sizes[i] + PAGE - 1) / PAGE;
        char *p = own_malloc->malloc(sizes[i]);
        CHECK(p != NULL && (uintptr_t)p % PAGE == 0);
        CHECK(own_malloc->usable_size(p) == pages * PAGE);
        CHECK(own_figures().live == pages * PAGE);
        fill(p, pages * PAGE, 1);
        own_malloc->free(p);
        CHECK(!is_mapped(p) && own_figures().live == 0);
    }
    for (size_t alignment = 8; alignment <= 64 * MIB; alignment *= 2) {
        long before = proc_kib("/proc/self/status", "VmSize:");
        char *p = own_malloc->aligned_alloc(alignment, 10000);
        /* What was mapped to align it is gone (a leaf of the side table may come). */
        CHECK(proc_kib("/proc/self/status", "VmSize:") < before + 4096);
        CHECK(p != NULL && (uintptr_t)p % alignment == 0 && own_malloc->usable_size(p) == 3 * PAGE);
        own_malloc->free(p);
    }
    CHECK(own_malloc->malloc(SIZE_MAX) == NULL && own_malloc->malloc(SIZE_MAX / 2) == NULL);
    CHECK(own_malloc->aligned_alloc((size_t)1 << 62, (size_t)1 << 62) == NULL);
    CHECK(own_figures().peak >= 5 * MIB && own_figures().committed >= own_figures().live);
}

static void pages(void **state) {
    (void)state;
    own_passes(pages_body);
}

static void realloc_body(void) {
    CHECK(own_open("mmap", NULL) == 0);
    char *p = own_malloc->malloc(10);
    fill(p, 4096, 3);
    p = own_malloc->realloc(p, 64 * MIB);
    CHECK(p != NULL && holds(p, 4096, 3));
    fill(p, 64 * MIB, 5);
    /* To and fro, with something in the way: pages move, bytes don't. */
    void *way = mmap(p + 64 * MIB, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    p = own_malloc->realloc(p, 128 * MIB);
    getrusage(RUSAGE_SELF, &after);
    CHECK(p != NULL && own_malloc->usable_size(p) == 128 * MIB && own_figures().live == 128 * MIB);
    CHECK(after.ru_minflt - before.ru_minflt < 200); /* a copy: 16384 */
    CHECK(holds(p, 64 * MIB, 5) && p[128 * MIB - 1] == 0);
    void *same = own_malloc->realloc(p, 8 * MIB - 5);
    CHECK(same == p && own_malloc->usable_size(p) == 8 * MIB && !is_mapped(p + 8 * MIB));
    CHECK(holds(p, 8 * MIB, 5) && own_figures().live == 8 * MIB);
    CHECK(own_malloc->realloc(p, SIZE_MAX / 4) == NULL && holds(p, 8 * MIB, 5));
    own_malloc->free(p);
    CHECK(own_figures().live == 0);
    munmap(way, PAGE);
}

static void realloc_moves_pages(void **state) {
    (void)state;
    own_passes(realloc_body);
}

static void heaps_body(void) {
    CHECK(own_open("mmap", NULL) == 0);
    char area[64];
    CHECK(own_heap("h", area, sizeof(area)) == NULL && strstr(own_error.message, "arena") != NULL);
    void *one = own_heap("one", NULL, 0), *two = own_heap("two", NULL, 0);
    CHECK(one != NULL && two != NULL && one != two);
    char *blocks[20], *other = OPS.heap_malloc(two, 5);
    for (int i = 0; i < 20; i++)
        fill(blocks[i] = OPS.heap_malloc(one, 10000), 10000, (unsigned)i);
    for (int i = 0; i < 20; i += 3) {
        OPS.heap_free(one, blocks[i]);
        blocks[i] = NULL;
    }
    blocks[1] = OPS.heap_realloc(one, blocks[1], 50 * MIB);
    CHECK(holds(blocks[1], 10000, 1));
    struct memopt_figures figures = {.size = sizeof(figures)};
    CHECK(OPS.heap_figures(one, &figures) == 0 && figures.live == 12 * 3 * PAGE + 50 * MIB);
    CHECK(own_figures().live == figures.live + PAGE);
    OPS.heap_destroy(one);
    for (int i = 0; i < 20; i++)
        CHECK(blocks[i] == NULL || !is_mapped(blocks[i]));
    CHECK(is_mapped(other) && own_figures().live == PAGE);
    void *again = own_heap("again", NULL, 0);
    CHECK(again == one && OPS.heap_figures(again, &figures) == 0 && figures.peak == 0);
}

static void heaps(void **state) {
    (void)state;
    own_passes(heaps_body);
}

/* ------------------------------------------------------------------ mistakes */

static void free_twice(void) {
    CHECK(own_open("mmap", NULL) == 0);
    void *p = own_malloc->malloc(100);
    own_malloc->free(p);
    own_malloc->free(p);
}

static void free_inside(void) {
    CHECK(own_open("mmap", NULL) == 0);
    own_malloc->free((char *)own_malloc->malloc(100000) + PAGE);
}

static void free_wild(void) {
    CHECK(own_open("mmap", NULL) == 0);
    int local;
    own_malloc->free(&local);
}

static void free_elsewhere(void) {
    CHECK(own_open("mmap", NULL) == 0);
    void *p = OPS.heap_malloc(own_heap("h", NULL, 0), 100);
    own_malloc->free(p);
}

static void mistakes(void **state) {
    (void)state;
    own_dies(free_twice, SIGABRT, "double free");
    own_dies(free_inside, SIGABRT, "no block of this allocator begins there");
    own_dies(free_wild, SIGABRT, "no block of this allocator begins there");
    own_dies(free_elsewhere, SIGABRT, "the block belongs to another heap");
}

/* ------------------------------------------------------------------- options */

static void populate_body(void) {
    CHECK(own_open("mmap", "populate", "yes", NULL) == 0);
    char *p = own_malloc->malloc(MIB);
    CHECK(pages_present(p, MIB) == 256);
    p = own_malloc->realloc(p, 2 * MIB);
    CHECK(pages_present(p, 2 * MIB) == 512);
}

static void no_populate_body(void) {
    CHECK(own_open("mmap", NULL) == 0);
    CHECK(pages_present(own_malloc->malloc(MIB), MIB) == 0);
}

#ifndef MO_SANITIZED /* whose run-time makes mlock do nothing */
static void lock_body(void) {
    struct rlimit limit = {4 * MIB, 4 * MIB};
    CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0 || errno == EPERM);
    CHECK(own_open("mmap", "lock", "yes", NULL) == 0);
    long before = proc_kib("/proc/self/status", "VmLck:");
    char *p = own_malloc->malloc(MIB);
    CHECK(p != NULL && proc_kib("/proc/self/status", "VmLck:") == before + 1024);
    own_malloc->free(p);
    CHECK(proc_kib("/proc/self/status", "VmLck:") == before);
    if (geteuid() == 0) /* no limit holds for it */
        return;
    CHECK(own_malloc->malloc(8 * MIB) != NULL && strstr(own_notes, "ulimit -l") != NULL);
}

#endif

static void huge_body(void) {
    CHECK(own_open("mmap", "huge_pages", "madvise", NULL) == 0);
    char line[512], *p = own_malloc->malloc(4 * MIB + 5), *small = own_malloc->malloc(MIB);
    CHECK((uintptr_t)p % (2 * MIB) == 0);
    CHECK(own_malloc->usable_size(p) == 4 * MIB + PAGE);
    fill(p, 4 * MIB, 9);
    int advised = 0, ours = 0, small_ours = 0;
    FILE *file = fopen("/proc/self/smaps", "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof(line), file) != NULL) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            ours = from <= (uintptr_t)p && (uintptr_t)p < to;
            small_ours = from <= (uintptr_t)small && (uintptr_t)small < to;
        } else if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " hg") != NULL) {
            advised |= ours ? 1 : small_ours ? 2 : 0;
        }
    }
    fclose(file);
    CHECK(advised == 1 || strstr(own_notes, "huge_pages") != NULL);
    void *way = mmap(p + 4 * MIB + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p = own_malloc->realloc(p, 16 * MIB);
    CHECK((uintptr_t)p % (2 * MIB) == 0 && holds(p, 4 * MIB, 9));
    munmap(way, PAGE);
}

static void hugetlb_body(void) {
    CHECK(own_open("mmap", "huge_pages", "hugetlb", NULL) == 0);
    long free_pages = proc_kib("/proc/meminfo", "HugePages_Free:");
    char *p = own_malloc->malloc(3 * MIB);
    CHECK(p != NULL);
    fill(p, 3 * MIB, 4);
    if (free_pages >= 2)
        CHECK(own_malloc->usable_size(p) == 4 * MIB);
    else
        CHECK(strstr(own_notes, "pool of huge pages is empty") != NULL);
    p = own_malloc->realloc(p, 9 * MIB);
    CHECK(p != NULL && holds(p, 3 * MIB, 4));
    p = own_malloc->realloc(p, 100);
    CHECK(p != NULL && holds(p, 100, 4));
    own_malloc->free(p);
    CHECK(own_figures().live == 0);
    const char *first = strstr(own_notes, "pool of huge pages");
    CHECK(first == NULL || strstr(first + 1, "pool of huge pages") == NULL); /* said once */
}

static void options(void **state) {
    (void)state;
    own_passes(populate_body);
    own_passes(no_populate_body);
#ifndef MO_SANITIZED
    own_passes(lock_body);
#endif
    own_passes(huge_body);
    own_passes(hugetlb_body);
}

/* ---------------------------------------------------------------------- NUMA */

static void numa_missing_node(void) {
    CHECK(own_open("mmap", "numa", "0,900-901", NULL) == -ENODEV);
    CHECK(strstr(own_error.message, "'0,900-901'") && strstr(own_error.message, "no node 900"));
}

static void numa_nonsense(void) {
    CHECK(own_open("mmap", "numa", "nearby", NULL) == -EINVAL);
    CHECK(strstr(own_error.message, "'nearby'") && strstr(own_error.message, "interleave"));
}

static void numa_bad_list(void) {
    CHECK(own_open("mmap", "numa", "3-1", NULL) == -EINVAL);
}

#ifndef MO_SANITIZED
/* A machine of four nodes, 0 and 2-4, as far as the plugin can see. */
static const char *fake_nodes;
static struct {
    int count;
    unsigned long mode, nodes;
    void *address;
    unsigned long length;
} bound;

FAULTS_EXPORT int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    int mode = (flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0;
    va_end(arguments);
    if (fake_nodes != NULL && strcmp(path, "/sys/devices/system/node/online") == 0) {
        int fd = memfd_create("nodes", 0);
        CHECK(write(fd, fake_nodes, strlen(fake_nodes)) > 0 && lseek(fd, 0, SEEK_SET) == 0);
        return fd;
    }
    return openat(AT_FDCWD, path, flags, mode);
}

/* In place of mbind; every other call goes on. */
FAULTS_EXPORT long syscall(long number, ...) {
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_mbind) {
        bound.count++;
        bound.address = (void *)a[0];
        bound.length = (unsigned long)a[1];
        bound.mode = (unsigned long)a[2];
        bound.nodes = a[3] == 0 ? 0 : *(unsigned long *)a[3];
        return 0;
    }
    static long (*next)(long, ...);
    if (next == NULL)
        next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void numa_local(void) {
    fake_nodes = "0,2-4\n";
    CHECK(own_open("mmap", "numa", "local", NULL) == 0);
    char *p = own_malloc->malloc(100000);
    CHECK(bound.count == 1 && bound.mode == 4 && bound.nodes == 0);
    CHECK(bound.address == p && bound.length == own_malloc->usable_size(p));
}

static void numa_interleave(void) {
    fake_nodes = "0,2-4\n";
    CHECK(own_open("mmap", "numa", "interleave", NULL) == 0);
    CHECK(own_malloc->malloc(100000) != NULL);
    CHECK(bound.count == 1 && bound.mode == 3 && bound.nodes == 0x1d);
}

static void numa_list(void) {
    fake_nodes = "0,2-4\n";
    CHECK(own_open("mmap", "numa", "2, 4", NULL) == 0);
    CHECK(own_malloc->malloc(100000) != NULL);
    CHECK(bound.count == 1 && bound.mode == 2 && bound.nodes == 0x14);
}

static void numa_hole(void) {
    fake_nodes = "0,2-4\n";
    CHECK(own_open("mmap", "numa", "0-2", NULL) == -ENODEV);
    CHECK(strstr(own_error.message, "no node 1") && strstr(own_error.message, "0,2-4"));
}

static void numa_one_node(void) {
    fake_nodes = "0\n";
    CHECK(own_open("mmap", "numa", "0", NULL) == 0);
    CHECK(own_malloc->malloc(100000) != NULL && bound.count == 0);
}

/* ------------------------------------------------------------- failing calls */

/* Everything that maps, moves and unmaps, with what a caller may rely on. */
static void scenario(void) {
    char *p = own_malloc->malloc(10000);
    if (p != NULL)
        fill(p, 10000, 1);
    char *aligned = own_malloc->aligned_alloc(MIB, 5000);
    CHECK(aligned == NULL || (uintptr_t)aligned % MIB == 0);
    void *heap = own_heap("h", NULL, 0);
    char *in_heap = heap == NULL ? NULL : OPS.heap_malloc(heap, 100);
    if (p != NULL) {
        char *grown = own_malloc->realloc(p, MIB);
        CHECK(holds(grown != NULL ? grown : p, 10000, 1));
        p = grown != NULL ? grown : p;
        char *shrunk = own_malloc->realloc(p, 5000);
        CHECK(shrunk != NULL && holds(shrunk, 5000, 1));
        own_malloc->free(shrunk);
    }
    if (aligned != NULL)
        own_malloc->free(aligned);
    if (in_heap != NULL)
        in_heap[0] = 1;
    if (heap != NULL)
        OPS.heap_destroy(heap);
}

static void failing_body(void) {
    CHECK(own_open("mmap", NULL) == 0);
    for (int for_good = 0; for_good <= 1; for_good++) {
        long nth = 1;
        for (; nth < 1000; nth++) {
            faults_arm(FAULT_MMAP | FAULT_MUNMAP | FAULT_MREMAP | FAULT_MADVISE, nth, for_good);
            scenario();
            long fired = faults.fired;
            faults_arm(0, 0, 0);
            CHECK(own_figures().live == 0);
            OPS.purge();
            CHECK(own_figures().retained == 0);
            if (fired == 0)
                break;
        }
        CHECK(nth > 8 && nth < 1000);
    }
}

static void failing_calls(void **state) {
    (void)state;
    own_passes(failing_body);
}

/* The kernel's limit of mappings, as munmap sees it. */
static void no_maps_body(void) {
    CHECK(own_open("mmap", NULL) == 0);
    char *p = own_malloc->malloc(3 * PAGE), *q = own_malloc->malloc(100 * PAGE);
    fill(p, 3 * PAGE, 1);
    fill(q, 100 * PAGE, 1);
    faults_arm(FAULT_MUNMAP, 1, 1);
    own_malloc->free(p);
    own_malloc->free(q);
    faults_arm(0, 0, 0);
    CHECK(strstr(own_notes, "vm.max_map_count") != NULL);
    CHECK(own_figures().live == 0 && own_figures().retained == 103 * PAGE);
    CHECK(pages_present(p, 3 * PAGE) == 0);
    char *again = own_malloc->calloc(3, PAGE);
    CHECK(again == p && own_figures().retained == 100 * PAGE);
    for (int i = 0; i < 3 * PAGE; i++)
        CHECK(again[i] == 0);
    OPS.purge();
    CHECK(own_figures().retained == 0 && !is_mapped(q));
}

static void no_maps(void **state) {
    (void)state;
    own_passes(no_maps_body);
}
#endif

static void numa(void **state) {
    (void)state;
    own_passes(numa_missing_node);
    own_passes(numa_nonsense);
    own_passes(numa_bad_list);
#ifndef MO_SANITIZED
    own_passes(numa_local);
    own_passes(numa_interleave);
    own_passes(numa_list);
    own_passes(numa_hole);
    own_passes(numa_one_node);
#endif
}

/* --------------------------------------------------------- threads and fork */

enum { THREADS = 4, SLOTS = 64 };
static void *_Atomic shared[SLOTS];
static _Atomic int stop;
static void *thread_heap;

/* Blocks change hands through `shared`, so most are freed by another thread. */
static void *churn(void *seed) {
    unsigned random = (unsigned)(uintptr_t)seed;
    for (int i = 0; i < 4000 && !stop; i++) {
        random = random * 1664525 + 1013904223;
        size_t size = random >> 15 & 0x7fff;
        unsigned char *p = OPS.heap_malloc(thread_heap, size);
        if (p != NULL && (random & 7) == 0)
            p = OPS.heap_realloc(thread_heap, p, size = size * 2 + 1);
        CHECK(p != NULL);
        p[0] = (unsigned char)(uintptr_t)p;
        p = __atomic_exchange_n((void **)&shared[random >> 4 & (SLOTS - 1)], p, __ATOMIC_ACQ_REL);
        if (p != NULL) {
            CHECK(p[0] == (unsigned char)(uintptr_t)p || ((uintptr_t)p & 0xff) == 0);
            OPS.heap_free(thread_heap, p);
        }
        void *q = own_malloc->malloc(size);
        own_malloc->free(q);
    }
    return NULL;
}

static void threads_body(void) {
    CHECK(own_open("mmap", NULL) == 0);
    thread_heap = own_heap("threads", NULL, 0);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) == 0);
    /* Forks while they work: the child's locks are free. */
    for (int i = 0; i < 20; i++) {
        OPS.before_fork();
        pid_t pid = fork();
        if (pid == 0) {
            OPS.after_fork_child();
            void *p = OPS.heap_malloc(thread_heap, 100);
            CHECK(p != NULL && own_heap("child", NULL, 0) != NULL);
            OPS.heap_free(thread_heap, p);
            OPS.heap_destroy(thread_heap);
            _exit(0);
        }
        OPS.after_fork_parent();
        int status;
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    OPS.heap_destroy(thread_heap);
    CHECK(own_figures().live == 0);
}

static void threads(void **state) {
    (void)state;
    own_passes(threads_body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages),         cmocka_unit_test(realloc_moves_pages),
        cmocka_unit_test(heaps),         cmocka_unit_test(mistakes),
        cmocka_unit_test(options),       cmocka_unit_test(numa),
        cmocka_unit_test(threads),
#ifndef MO_SANITIZED
        cmocka_unit_test(failing_calls), cmocka_unit_test(no_maps),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
