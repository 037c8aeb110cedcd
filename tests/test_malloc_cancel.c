/*
 * test_malloc_cancel.c - no function of the malloc family is a cancellation point.
 *
 * Each is called by a thread for which a cancellation is pending, as its first call of
 * the family and again. What writes through a stdio stream that the caller gives
 * (malloc_info) is one just where the stream is. By itself it shows what glibc does;
 * tests/test_shim_*.sh run it with every backend.
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void *passed; /* a block of another thread */
static FILE *stream;

static void call_malloc(void) {
    free(malloc(100));
    free(malloc(30 << 20));
}

static void call_calloc(void) {
    free(calloc(7, 11));
    free(calloc(7, 1 << 20));
}

static void call_realloc(void) {
    void *p = realloc(NULL, 10);
    for (size_t size = 100; size < 8 << 20; size *= 3)
        p = realloc(p, size);
    p = reallocarray(p, 5, 5);
    free(p);
}

static void call_free(void) {
    free(passed);
}

static void call_aligned(void) {
    void *p = NULL;
    if (posix_memalign(&p, 4096, 100) == 0)
        free(p);
    free(aligned_alloc(64, 640));
    free(memalign(1 << 16, 100));
    free(valloc(1));
    free(pvalloc(1));
}

static void call_too_large(void) {
    volatile size_t size = PTRDIFF_MAX;
    free(malloc(size));
    free(calloc(size, 8));
    free(aligned_alloc(64, size));
}

static void call_usable_size(void) {
    if (malloc_usable_size(passed) < 1000)
        abort();
    free(passed);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void call_mallinfo(void) {
    (void)mallinfo();
    (void)mallinfo2();
}
#pragma GCC diagnostic pop

static void call_malloc_trim(void) {
    malloc_trim(0);
}

static void call_mallopt(void) {
    mallopt(M_ARENA_MAX, 8);
}

static void call_malloc_stats(void) {
    malloc_stats();
}

static void call_malloc_info(void) {
    malloc_info(0, stream);
}

static void call_malloc_info_wrong(void) {
    malloc_info(1, stream);
}

static const struct {
    const char *name;
    void (*call)(void);
    int buffering; /* of `stream`; -1: there is none */
    int point;     /* is a cancellation point */
} rows[] = {
    {"malloc", call_malloc, -1, 0},
    {"calloc", call_calloc, -1, 0},
    {"realloc", call_realloc, -1, 0},
    {"free", call_free, -1, 0},
    {"aligned", call_aligned, -1, 0},
    {"too large", call_too_large, -1, 0},
    {"malloc_usable_size", call_usable_size, -1, 0},
    {"mallinfo", call_mallinfo, -1, 0},
    {"malloc_trim", call_malloc_trim, -1, 0},
    {"mallopt", call_mallopt, -1, 0},
    {"malloc_stats", call_malloc_stats, -1, 0},
    {"malloc_info, into a buffer", call_malloc_info, _IOFBF, 0},
    {"malloc_info, straight out", call_malloc_info, _IONBF, 1},
    {"malloc_info, wrong options", call_malloc_info_wrong, _IONBF, 0},
};

static volatile int got_past;

static void *calls(void *row) {
    int old;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    pthread_cancel(pthread_self());
    pthread_setcancelstate(old, NULL);
    rows[*(size_t *)row].call();
    got_past = 1;
    pthread_testcancel();
    got_past = 2;
    return NULL;
}

static void cancellation_points(void **unused) {
    (void)unused;
    static char buffer[1 << 20];
    int kept = dup(STDERR_FILENO), nowhere = open("/dev/null", O_WRONLY);
    assert_true(kept >= 0 && nowhere >= 0);
    for (size_t i = 0; i < 2 * (sizeof rows / sizeof rows[0]); i++) {
        size_t row = i / 2; /* each twice */
        stream = NULL;
        if (rows[row].buffering >= 0) {
            stream = fopen("/dev/null", "w");
            assert_non_null(stream);
            assert_int_equal(setvbuf(stream, buffer, rows[row].buffering, sizeof buffer), 0);
        }
        passed = malloc(1000);
        assert_non_null(passed);
        got_past = 0;
        pthread_t thread;
        void *result = NULL;
        if (rows[row].call == call_malloc_stats)
            dup2(nowhere, STDERR_FILENO);
        assert_int_equal(pthread_create(&thread, NULL, calls, &row), 0);
        assert_int_equal(pthread_join(thread, &result), 0);
        if (rows[row].call == call_malloc_stats)
            dup2(kept, STDERR_FILENO);
        if (result != PTHREAD_CANCELED || got_past != !rows[row].point)
            fail_msg("%s: %s", rows[row].name,
                     result != PTHREAD_CANCELED ? "the cancellation was lost"
                     : got_past                 ? "is no cancellation point"
                                                : "is a cancellation point");
        if (rows[row].call != call_free && rows[row].call != call_usable_size)
            free(passed);
        if (stream != NULL)
            fclose(stream);
    }
    close(kept);
    close(nowhere);
}

/* After one that was held back the thread is as cancellable as it was. */
static void *disabled(void *unused) {
    (void)unused;
    int old;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_cancel(pthread_self());
    malloc_stats();
    pthread_testcancel();
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    return old == PTHREAD_CANCEL_DISABLE ? (void *)&got_past : NULL;
}

static void state_is_kept(void **unused) {
    (void)unused;
    int kept = dup(STDERR_FILENO), nowhere = open("/dev/null", O_WRONLY);
    assert_true(kept >= 0 && nowhere >= 0);
    pthread_t thread;
    void *result = NULL;
    dup2(nowhere, STDERR_FILENO);
    assert_int_equal(pthread_create(&thread, NULL, disabled, NULL), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(nowhere);
    assert_ptr_equal(result, &got_past);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cancellation_points),
        cmocka_unit_test(state_is_kept),
    };
    return cmocka_run_group_tests_name("malloc_cancel", tests, NULL, NULL);
}
