/*
 * test_pressure_faults.c - the N-th malloc, open or thread that purge hints and the
 * watch over the process ask for fails, for every N until none is left: a clean
 * error, or a source left out, and nothing else changes.
 *
 * The functions are defined here and exported, so that libmemopt calls these.
 */
#include "config.h"

#include "tests/heap_child.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { FAULT_MALLOC = 1, FAULT_OPEN = 2, FAULT_THREAD = 4 };
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
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
EXPORT void *malloc(size_t size) {
    return hit(FAULT_MALLOC) ? NULL : __libc_malloc(size);
}
EXPORT void *calloc(size_t count, size_t size) {
    return hit(FAULT_MALLOC) ? NULL : __libc_calloc(count, size);
}
EXPORT int open(const char *path, int flags, ...) {
    return hit(FAULT_OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
}
EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*body)(void *), void *context) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return hit(FAULT_THREAD) ? EAGAIN : real(thread, attributes, body, context);
}
#endif

static int kind, for_good;
static long nth;
enum { FINISHED = 7 };

static void arm(void) {
    faults.kind = kind;
    faults.for_good = for_good;
    faults.nth = nth;
}
static long disarm(void) {
    faults.nth = 0;
    return faults.fired;
}

static void hint_under_fault(void) {
    struct memopt_heap *heap = open_or_die("a", NULL);
    struct memopt_purge_hint *const untouched = (struct memopt_purge_hint *)1;
    struct memopt_purge_hint *hint = untouched;
    struct memopt_purge_hint_options options = MEMOPT_PURGE_HINT_OPTIONS_INIT;
    struct memopt_purge_result result = MEMOPT_PURGE_RESULT_INIT;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    options.heaps = &heap;
    options.heap_count = 1;
    options.every = 1;
    options.idle = UINT64_C(3600) * 1000000000;
    options.background = kind == FAULT_THREAD; /* it would call what fails, too */
    arm();
    int code = memopt_purge_hint_new(&options, &hint, &error);
    if (code == 0) {
        CHECK(memopt_purge_hint_step(hint, &result) == 1); /* what can't be read is not known */
        CHECK(result.heap_count == 1);
        CHECK((result.resident_before == MEMOPT_UNKNOWN) <= (faults.fired > 0));
    }
    long fired = disarm();
    if (code < 0) {
        CHECK(fired > 0 && hint == untouched && error.code == code && error.message[0] != '\0');
        CHECK(code == -ENOMEM || code == -EAGAIN);
        CHECK(memopt_purge_hint_new(&options, &hint, &error) == 0);
        CHECK(memopt_purge_hint_step(hint, &result) == 1);
    }
    memopt_purge_hint_free(hint);
    if (fired == 0)
        exit(FINISHED);
}

static void watch_under_fault(void) {
    struct memopt_heap *heap = open_or_die("a", NULL);
    struct memopt_pressure_options options = MEMOPT_PRESSURE_OPTIONS_INIT;
    struct memopt_pressure_statistics stats = MEMOPT_PRESSURE_STATISTICS_INIT;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    options.heaps = &heap;
    options.heap_count = 1;
    options.interval = UINT64_C(3600) * 1000000000;
    options.background = kind == FAULT_THREAD; /* it would call what fails, too */
    arm();
    int code = memopt_pressure_start(&options, &error);
    if (code == 0)
        CHECK(memopt_pressure_poll() >= 0);
    long fired = disarm();
    if (code < 0) {
        CHECK(fired > 0 && error.code == code && error.message[0] != '\0');
        CHECK(code == -ENOMEM || code == -EAGAIN);
        CHECK(memopt_pressure_poll() == -ENOENT);
        CHECK(memopt_pressure_start(&options, &error) == 0);
    }
    CHECK(memopt_pressure_stats(&stats) == 0 && stats.sources & MEMOPT_PRESSURE_HEAP);
    CHECK(fired > 0 || stats.sources & MEMOPT_PRESSURE_RSS);
    CHECK(memopt_pressure_stop() == 0);
    if (fired == 0)
        exit(FINISHED);
}

static void every_call_may_fail(void **state) {
    (void)state;
#ifdef MO_SANITIZED
    skip();
#endif
    static const struct {
        void (*body)(void);
        int kind;
        const char *name;
        long at_least;
    } cases[] = {
        {hint_under_fault, FAULT_MALLOC, "hint, malloc", 3},
        {hint_under_fault, FAULT_OPEN, "hint, open", 2},
        {hint_under_fault, FAULT_THREAD, "hint, thread", 1},
        {watch_under_fault, FAULT_MALLOC, "watch, malloc", 3},
        {watch_under_fault, FAULT_OPEN, "watch, open", 3},
        {watch_under_fault, FAULT_THREAD, "watch, thread", 1},
    };
    write_ini("");
    for (size_t c = 0; c < COUNT(cases); c++)
        for (for_good = 0; for_good < 2; for_good++) {
            kind = cases[c].kind;
            int status = 0;
            for (nth = 1; nth < 500 && status == 0; nth++) {
                status = run_in_child(cases[c].body);
                if (status != 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != FINISHED))
                    fail_msg("%s number %ld%s: status %#x", cases[c].name, nth,
                             for_good ? " and all after it" : "", (unsigned)status);
            }
            assert_int_equal(WEXITSTATUS(status), FINISHED);
            if (nth - 2 < cases[c].at_least)
                fail_msg("%s: only %ld calls", cases[c].name, nth - 2);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_call_may_fail)};
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
