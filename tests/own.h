/*
 * own.h - what the tests of memopt's own allocators share: opening a plugin with
 * settings, and running a test's body in a child process, as a plugin opens once
 * a process and many of these tests end in a signal.
 */
#ifndef TESTS_OWN_H
#define TESTS_OWN_H

#include "tests/check.h"

#include "core/plugin/registry.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* A child of fork ends without joining the threads its parent had. */
#if defined(__SANITIZE_THREAD__)
#define OWN_TSAN
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define OWN_TSAN
#endif
#endif
#ifdef OWN_TSAN
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void) {
    return "report_thread_leaks=0";
}
#endif

static struct mo_plugin *own_plugin;
static const struct memopt_malloc *own_malloc;
static struct memopt_error own_error;
static char own_notes[8192];

static inline void own_note(int level, const char *kind, const char *text) {
    (void)level;
    (void)kind;
    size_t length = strlen(own_notes);
    snprintf(own_notes + length, sizeof(own_notes) - length, "%s\n", text);
}

/* Opens plugin `name` with pairs of option and value up to a NULL; what open()
 * returned. */
static inline int own_open(const char *name, ...) {
    static struct { _Alignas(16) char bytes[1024]; } settings;
    struct memopt_error *error = &own_error;
    mo_host_set_note(own_note);
    if (mo_plugin_load(MEMOPT_ALLOCATOR, name, &own_plugin, error) < 0 ||
        mo_options_init(own_plugin->table, &settings, &mo_sys_allocator, error) < 0) {
        fprintf(stderr, "%s\n", error->message);
        _exit(98);
    }
    CHECK(own_plugin->descriptor.settings_size <= sizeof(settings));
    va_list pairs;
    va_start(pairs, name);
    for (const char *key; (key = va_arg(pairs, const char *)) != NULL;) {
        const struct memopt_option *option = mo_option_find(own_plugin->table, key);
        CHECK(option != NULL);
        if (mo_option_parse(option, va_arg(pairs, const char *), "/", &settings, &mo_sys_allocator,
                            error) < 0) {
            fprintf(stderr, "%s\n", error->message);
            _exit(98);
        }
    }
    va_end(pairs);
    return mo_plugin_open_allocator(own_plugin, &settings, &own_malloc, error);
}

#define OPS (own_plugin->ops.allocator)

static inline struct memopt_figures own_figures(void) {
    struct memopt_figures figures = {.size = sizeof(figures)};
    CHECK(OPS.figures(&figures) == 0);
    return figures;
}

static inline void *own_heap(const char *name, void *region, size_t region_size) {
    struct memopt_heap_params params = {.size = sizeof(params),
                                        .name = name,
                                        .limit = UINT64_MAX,
                                        .region = region,
                                        .region_size = region_size};
    void *heap;
    int result = OPS.heap_create(&mo_host, &params, &heap, &own_error);
    return result == 0 ? heap : NULL;
}

static char own_output[65536]; /* the last child's stderr */

/* Runs `body` in a child: its exit status, or minus the signal it died of. */
static inline int own_child(void (*body)(void)) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        alarm(600);
#ifndef MO_SANITIZED /* cmocka's handler is not part of the test */
        signal(SIGSEGV, SIG_DFL);
#endif
        body();
        _exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    ssize_t got;
    while ((got = read(ends[0], own_output + length, sizeof(own_output) - 1 - length)) > 0)
        length += (size_t)got;
    own_output[length] = 0;
    close(ends[0]);
    int status;
    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static inline void own_passes(void (*body)(void)) {
    int status = own_child(body);
    if (status != 0)
        fail_msg("status %d: %s", status, own_output);
}

/* The body must die of `signal` with `text` in what it wrote. */
static inline void own_dies(void (*body)(void), int signal, const char *text) {
    int status = own_child(body);
    if (status != -signal || strstr(own_output, text) == NULL)
        fail_msg("status %d, expected signal %d and '%s' in: %s", status, signal, text, own_output);
}

#endif
