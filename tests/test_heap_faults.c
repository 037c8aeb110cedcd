/*
 * test_heap_faults.c - the N-th malloc, mmap, open or dlopen fails, for every N
 * until none is left, while a heap is opened and used: a clean error, nothing
 * left behind, and the next try succeeds.
 *
 * The functions are defined here and exported, so that libmemopt, its plugins
 * and inih call these. Sanitizers wrap some of them too: with one, only dlopen
 * and mmap calls that are not its own could be told apart, so the test is left
 * to the plain build.
 */
#include "config.h"

#include "tests/heap_child.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define EXPORT __attribute__((visibility("default")))

enum { FAULT_MALLOC = 1, FAULT_MMAP = 2, FAULT_OPEN = 4, FAULT_DLOPEN = 8 };
static struct {
    int kind, for_good;
    int in_loader;
    long nth, count, fired;
} faults;

#ifndef MO_SANITIZED
static int hit(int wanted) {
    if (faults.nth == 0 || faults.kind != wanted || faults.in_loader)
        return 0;
    faults.count++;
    if (faults.count != faults.nth && !(faults.for_good && faults.count > faults.nth))
        return 0;
    faults.fired++;
    errno = wanted == FAULT_OPEN ? EMFILE : ENOMEM;
    return 1;
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
EXPORT void *malloc(size_t size) {
    return hit(FAULT_MALLOC) ? NULL : __libc_malloc(size);
}
EXPORT void *calloc(size_t count, size_t size) {
    return hit(FAULT_MALLOC) ? NULL : __libc_calloc(count, size);
}
EXPORT void *realloc(void *p, size_t size) {
    return hit(FAULT_MALLOC) ? NULL : __libc_realloc(p, size);
}
EXPORT void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
    if (hit(FAULT_MMAP))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
}
EXPORT int open(const char *path, int flags, ...) {
    return hit(FAULT_OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
}
EXPORT FILE *fopen(const char *path, const char *mode) {
    static FILE *(*real)(const char *, const char *);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "fopen");
    return hit(FAULT_OPEN) ? NULL : real(path, mode);
}
/* A failed dlopen leaves a text behind; so does this: a library that is not there.
 * What the loader itself allocates is spared: glibc 2.36 keeps an RTLD_NODELETE
 * object whose loading failed late, without its thread-local storage set up, and
 * hands it out at the next dlopen. */
EXPORT void *dlopen(const char *path, int flags) {
    static void *(*real)(const char *, int);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "dlopen");
    const char *name = hit(FAULT_DLOPEN) ? "/no/such/library.so" : path;
    faults.in_loader++;
    void *handle = real(name, flags);
    faults.in_loader--;
    return handle;
}
#endif

static void arm(int kind, long nth, int for_good) {
    faults.kind = kind;
    faults.for_good = for_good;
    faults.count = faults.fired = 0;
    faults.nth = nth;
}

/* What the child is to do; it inherits these. */
static int kind, for_good;
static long nth;
static const char *backend;
enum { FINISHED = 7 }; /* exit status: fewer than nth such calls are made */

static void use(struct memopt_heap *heap, int may_fail) {
    void *p[40];
    for (size_t i = 0; i < 40; i++) {
        size_t size = i * i * 300;
        errno = 0;
        p[i] = i % 3 == 0 ? memopt_heap_aligned_alloc(heap, 4096, size)
                          : memopt_heap_alloc(heap, size);
        CHECK(p[i] != NULL || (may_fail && errno == ENOMEM));
        if (p[i] != NULL && i % 4 == 0) {
            memset(p[i], 1, size);
            void *q = memopt_heap_realloc(heap, p[i], size * 2 + 1);
            CHECK(q != NULL || (may_fail && errno == ENOMEM));
            if (q != NULL)
                p[i] = q;
            for (size_t k = 0; k < size; k++)
                CHECK(((char *)p[i])[k] == 1);
        }
    }
    for (size_t i = 0; i < 40; i++)
        memopt_heap_free(heap, p[i]);
    struct memopt_heap_statistics stats = stats_of(heap);
    CHECK(stats.live_bytes == 0 && stats.live_blocks == 0);
    CHECK(stats.allocations == stats.frees);
}

static void open_under_fault(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_heap *const untouched = (struct memopt_heap *)1;
    struct memopt_heap *heap = untouched;
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    options.allocator = backend;
    arm(kind, nth, for_good);
    int code = memopt_heap_open("faulty", &options, &heap, &error);
    long fired = faults.fired;
    if (code == 0)
        use(heap, 1);
    fired = faults.fired;
    arm(0, 0, 0);
    if (code < 0) {
        CHECK(fired > 0);
        CHECK(heap == untouched);
        CHECK(error.code == code && error.message[0] != '\0');
        CHECK(memopt_heap_find("faulty") == NULL);
        heap = open_or_die("faulty", &options);
    }
    use(heap, 0);
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
    if (fired == 0)
        exit(FINISHED);
}

static void every_call_may_fail(void **state) {
    (void)state;
#ifdef MO_SANITIZED
    skip();
#endif
    static const struct {
        int kind;
        const char *name;
        long at_least; /* such calls there are: else the test tests nothing */
    } kinds[] = {{FAULT_MALLOC, "malloc", 20},
                 {FAULT_MMAP, "mmap", 2},
                 {FAULT_OPEN, "open", 1},
                 {FAULT_DLOPEN, "dlopen", 2}};
    static const char *const backends[] = {"libc", "mmap", "arena", "pool"};
    write_ini("[heap.faulty]\nlimit = 64MiB\n");
    for (size_t b = 0; b < sizeof(backends) / sizeof(backends[0]); b++)
        for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
            for (for_good = 0; for_good < 2; for_good++) {
                backend = backends[b];
                kind = kinds[k].kind;
                int status = 0;
                for (nth = 1; nth < 2000 && status == 0; nth++) {
                    status = run_in_child(open_under_fault);
                    if (status != 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != FINISHED))
                        fail_msg("%s: %s number %ld%s: status %#x", backend, kinds[k].name, nth,
                                 for_good ? " and all after it" : "", (unsigned)status);
                }
                assert_int_equal(WEXITSTATUS(status), FINISHED);
                assert_true(nth - 2 >= kinds[k].at_least);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_call_may_fail)};
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
