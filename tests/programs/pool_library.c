/*
 * pool_library.c - a program that takes the addresses of the malloc family, for
 * tests/test_pool_library.sh. It is built to run at a fixed address, so that what it
 * takes are entries of its own PLT.
 *
 * usage: pool_library addresses|settings|nested-fork|stdio-fork
 */
#include "plugins/alloc/pool_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(CONDITION)                                                                           \
    do {                                                                                           \
        if (!(CONDITION)) {                                                                        \
            fprintf(stderr, "pool_library: line %d: %s\n", __LINE__, #CONDITION);                  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Loaded already, in public or behind the shim. */
static const struct pool_library *library(void) {
    void *handle = dlopen(POOL_LIBRARY, RTLD_LAZY | RTLD_NOLOAD);
    CHECK(handle != NULL);
    const struct pool_library *found = dlsym(handle, POOL_LIBRARY_SYMBOL);
    CHECK(found != NULL);
    return found;
}

/* ------------------------------------------------------------------ addresses */

extern void *pvalloc(size_t size);
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void *__libc_valloc(size_t size);
extern void *__libc_pvalloc(size_t size);
extern void __libc_free(void *p);

static struct {
    void *(*one[6])(size_t);
    void *(*two[5])(size_t, size_t); /* a product or an alignment first */
    void *(*again[2])(void *, size_t);
    void *(*array[1])(void *, size_t, size_t);
    int (*posix)(void **, size_t, size_t);
    void (*gives_back[2])(void *);
    size_t (*usable)(void *);
} volatile family = {
    {malloc, valloc, pvalloc, __libc_malloc, __libc_valloc, __libc_pvalloc},
    {calloc, memalign, aligned_alloc, __libc_calloc, __libc_memalign},
    {realloc, __libc_realloc},
    {reallocarray},
    posix_memalign,
    {free, __libc_free},
    malloc_usable_size,
};

/* Of the library and of nobody else, which would end the program. */
static void *checked(void *p) {
    CHECK(p != NULL && library()->heap_usable_size(library()->default_heap, p) >= 100);
    CHECK(family.usable(p) == library()->heap_usable_size(library()->default_heap, p));
    return p;
}

static void drop(void *p) {
    static unsigned turn;
    family.gives_back[turn++ % 2](checked(p));
}

static int addresses(void) {
    for (size_t i = 0; i < 6; i++)
        drop(family.one[i](100));
    for (size_t i = 0; i < 5; i++)
        drop(family.two[i](16, 112));
    for (size_t i = 0; i < 2; i++) {
        void *p = family.again[i](NULL, 10);
        drop(family.again[i](p, 5000));
        CHECK(family.again[i](family.one[0](10), 0) == NULL); /* freed */
        CHECK(family.posix(&p, 4096, 100) == 0 && (uintptr_t)p % 4096 == 0);
        drop(p);
    }
    drop(family.array[0](NULL, 10, 10));
    errno = 0;
    CHECK(family.one[0](PTRDIFF_MAX) == NULL && errno == ENOMEM);
    puts("addresses: all of them are the library's");
    return 0;
}

/* ------------------------------------------------------------------- settings */

static int settings(void) {
    free(malloc(100));
    const struct pool_settings *now = library()->settings;
    printf("%llu %llu %d %d %d\n", (unsigned long long)now->purge_delay,
           (unsigned long long)now->huge_cache, now->huge_pages, now->populate, now->check_free);
    return 0;
}

/* ---------------------------------------------------------------- nested-fork */

static pthread_t main_thread;
static atomic_bool stop;
static volatile sig_atomic_t forking, nested;

static void fork_again(int signal) {
    (void)signal;
    int saved = errno;
    if (forking && nested < 400) {
        nested = nested + 1;
        if (fork() == 0)
            _exit(0);
    }
    errno = saved;
}

/* Hits the main thread again and again, and allocates meanwhile. */
static void *hit(void *argument) {
    while (!stop) {
        pthread_kill(main_thread, SIGUSR1);
        free(malloc(100000));
        free(malloc(100));
    }
    return argument;
}

/* fork() from a handler that interrupts fork(). */
static int nested_fork(void) {
    pthread_t thread;
    main_thread = pthread_self();
    signal(SIGCHLD, SIG_IGN);
    signal(SIGUSR1, fork_again);
    CHECK(pthread_create(&thread, NULL, hit, NULL) == 0);
    for (int i = 0; i < 400; i++) {
        forking = 1;
        pid_t pid = fork();
        forking = 0;
        CHECK(pid >= 0);
        if (pid == 0) {
            free(malloc(100));
            _exit(0);
        }
    }
    stop = true;
    pthread_join(thread, NULL);
    while (wait(NULL) > 0 || errno == EINTR)
        ;
    printf("nested-fork: %s\n", nested > 0 ? "some" : "none");
    return 0;
}

/* ----------------------------------------------------------------- stdio-fork */

/* Has the stream's lock while it grows the line. */
static void *read_long_lines(void *argument) {
    FILE *stream = argument;
    while (!stop) {
        char *line = NULL;
        size_t room = 0;
        rewind(stream);
        CHECK(getline(&line, &room, stream) == 3 << 20);
        free(line);
    }
    return NULL;
}

/* Has the lock of the list of streams while it waits for a stream's. */
static void *flush_all(void *argument) {
    while (!stop)
        fflush(NULL);
    return argument;
}

/* fork() takes the list's lock after the handlers. */
static int stdio_fork(void) {
    pthread_t threads[2];
    static char text[3 << 20];
    text[sizeof(text) - 1] = '\n';
    FILE *stream = fmemopen(text, sizeof(text), "r"); /* no offset that children share */
    CHECK(stream != NULL);
    CHECK(pthread_create(&threads[0], NULL, read_long_lines, stream) == 0 &&
          pthread_create(&threads[1], NULL, flush_all, NULL) == 0);
    for (int i = 0; i < 100; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            free(malloc(5 << 20));
            fflush(NULL);
            _exit(0);
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    }
    stop = true;
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    puts("stdio-fork: 100 children");
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    return strcmp(what, "addresses") == 0     ? addresses()
           : strcmp(what, "settings") == 0    ? settings()
           : strcmp(what, "nested-fork") == 0 ? nested_fork()
           : strcmp(what, "stdio-fork") == 0  ? stdio_fork()
                                              : 2;
}
