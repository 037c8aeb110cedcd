/*
 * object.h - what the tests of core/object share: a heap for each test, threads
 * that start together, a child of fork.
 */
#ifndef TESTS_OBJECT_H
#define TESTS_OBJECT_H

#include "tests/check.h"

#include "config.h"

#include <memopt/memopt.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct memopt_heap *heap; /* of the test that runs */
static struct memopt_error error;

static inline int open_test_heap(void **state) {
    (void)state;
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    setenv("MEMOPT_CONF", "/dev/null", 1);
    alarm(600); /* a deadlock is a failure, too */
    options.allocator = "libc";
    options.limit = 256 << 20;
    int code = memopt_heap_open("test", &options, &heap, &error);
    if (code < 0)
        fprintf(stderr, "%s\n", error.message);
    return code;
}

/* Nothing may be left in it. */
static inline int close_test_heap(void **state) {
    (void)state;
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    memopt_heap_stats(heap, &stats);
    if (stats.live_blocks != 0 || stats.live_bytes != 0) {
        fprintf(stderr, "%llu blocks, %llu bytes are left in the heap\n",
                (unsigned long long)stats.live_blocks, (unsigned long long)stats.live_bytes);
        return -1;
    }
    return memopt_heap_destroy(heap, NULL);
}

static inline uint64_t live_blocks(void) {
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    memopt_heap_stats(heap, &stats);
    return stats.live_blocks;
}

static inline uint64_t live_bytes(void) {
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    memopt_heap_stats(heap, &stats);
    return stats.live_bytes;
}

#define test(NAME) cmocka_unit_test_setup_teardown(NAME, open_test_heap, close_test_heap)

/* Runs `body` in `count` threads, which begin together. */
struct crew {
    void (*body)(unsigned number);
    pthread_barrier_t start;
    atomic_uint next;
};

static inline void *crew_thread(void *context) {
    struct crew *crew = context;
    unsigned number = atomic_fetch_add(&crew->next, 1);
    pthread_barrier_wait(&crew->start);
    crew->body(number);
    return NULL;
}

static inline void run_threads(unsigned count, void (*body)(unsigned number)) {
    struct crew crew = {.body = body};
    pthread_t threads[64];
    assert_true(count <= COUNT(threads));
    pthread_barrier_init(&crew.start, NULL, count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, crew_thread, &crew), 0);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&crew.start);
}

/* The wait status of a child that runs `body` and ends with 0. */
static inline int run_child(void (*body)(void)) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(600);
        body();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

#endif
