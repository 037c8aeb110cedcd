/*
 * conformance.h - the conformance suite: whether a plugin does what memopt/plugin.h
 * says that it must. conformance.c loads the plugin and runs cases; the cases are in
 * conformance_allocator.c, conformance_reporter.c and conformance_tracker.c.
 *
 * A case runs in a process of its own, in which the plugin has been loaded but not
 * opened, so that a crash, a hang or the memory it leaves behind is that case's.
 *
 * Adding a case: a function that returns 0 or SKIPPED, or ends with CHECK() or FAIL();
 * a row in its file's table, with what plugin.h promises. See it fail: tests/
 * bad_plugins/plugin.c has plugins with one defect each, tests/test_conformance.sh the
 * case that finds it.
 */
#ifndef MO_CLI_CONFORMANCE_H
#define MO_CLI_CONFORMANCE_H

#include "core/plugin/registry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
enum { ASAN = 1 };
#else
enum { ASAN = 0 };
#endif
#ifdef __SANITIZE_THREAD__
enum { TSAN = 1 };
#else
enum { TSAN = 0 };
#endif
enum { SANITIZED = ASAN || TSAN };

enum { PASSED = 76, SKIPPED = 77 }; /* how the process of a case exits */

struct conformance_case {
    const char *name;
    int (*run)(void);
    const char *promise; /* of plugin.h */
};

/* The first message of a case is what is said to have happened. */
extern int conformance_fd;
#define FAIL(...)                                                                                  \
    do {                                                                                           \
        dprintf(conformance_fd, __VA_ARGS__);                                                      \
        dprintf(conformance_fd, " (%s:%d)\n", __FILE_NAME__, __LINE__);                            \
        _exit(1);                                                                                  \
    } while (0)
#define CHECK(CONDITION, ...)                                                                      \
    do {                                                                                           \
        if (!(CONDITION))                                                                          \
            FAIL(__VA_ARGS__);                                                                     \
    } while (0)

/* What the command line says. */
struct conformance {
    const struct mo_plugin *plugin; /* NULL: the process's malloc is tested */
    const void *settings;           /* of the plugin */
    const char *only;               /* this case; NULL: all */
    const char *memopt;             /* path of the command; NULL: nothing is run under it */
    size_t limit;                   /* bytes that the allocator has; SIZE_MAX: many */
    unsigned scale;                 /* by which rounds are divided */
    bool is_own;                    /* memopt's own plugins have to know more */
    int passed, failed, skipped;
};
extern struct conformance conformance;

/* Runs the cases and prints a line for each, which begins with `what`. False: one failed. */
bool conformance_run(const char *what, const struct conformance_case *cases, size_t count);

void conformance_allocator(const char *what);
void conformance_malloc(const char *what);
void conformance_reporter(const char *what);
void conformance_tracker(const char *what);

#endif
