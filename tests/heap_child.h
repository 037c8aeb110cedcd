/*
 * heap_child.h - runs a test's body in a child process: libmemopt reads its
 * configuration once a process.
 */
#ifndef TESTS_HEAP_CHILD_H
#define TESTS_HEAP_CHILD_H

#include "tests/check.h"

#include <memopt/memopt.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CHECK_TEXT(TEXT, PART)                                                                     \
    do {                                                                                           \
        if (strstr(TEXT, PART) == NULL) {                                                          \
            fprintf(stderr, "%s:%d: '%s' is not in: %s\n", __FILE__, __LINE__, PART, TEXT);        \
            _exit(99);                                                                             \
        }                                                                                          \
    } while (0)

static char directory[] = "/tmp/memopt-test-XXXXXX"; /* set up by make_directory() */
static char ini[sizeof(directory) + 16];

static inline int make_directory(void **state) {
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(ini, sizeof(ini), "%s/memopt.ini", directory);
    /* no file but the test's own counts */
    setenv("XDG_CONFIG_HOME", directory, 1);
    setenv("MEMOPT_CONF", ini, 1);
    setenv("top_builddir", ".", 0);
    return 0;
}

static inline int remove_directory(void **state) {
    (void)state;
    unlink(ini);
    return rmdir(directory);
}

static inline void write_ini(const char *text) {
    FILE *file = fopen(ini, "w");
    CHECK(file != NULL);
    fputs(text, file);
    CHECK(fclose(file) == 0);
}

/* The body ends the child by returning; exit() so that leaks are looked for. */
static inline int run_in_child(void (*body)(void)) {
    pid_t pid = fork();
    if (pid == 0) {
        alarm(600);
        body();
        exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

#define IN_CHILD(BODY)                                                                             \
    static void BODY##_test(void **state) {                                                        \
        (void)state;                                                                               \
        assert_int_equal(run_in_child(BODY), 0);                                                   \
    }

static inline struct memopt_heap_statistics stats_of(struct memopt_heap *heap) {
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    CHECK(memopt_heap_stats(heap, &stats) == 0);
    return stats;
}

static inline struct memopt_heap *open_or_die(const char *name,
                                              const struct memopt_heap_options *options) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_heap *heap = NULL;
    if (memopt_heap_open(name, options, &heap, &error) < 0) {
        fprintf(stderr, "%s\n", error.message);
        _exit(99);
    }
    return heap;
}

#endif
