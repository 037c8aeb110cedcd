/*
 * test_fork.c - fork() in a signal's handler, in a program that links libmemopt and has
 * heaps, pools, objects and the watch over the process.
 *
 *   inside-fork   the signal comes while a fork is going on, with all locks taken
 *   inside-calls  in a program of one thread it may come at any moment
 *
 * Each case is a process of its own, and one that hangs is killed.
 */
#include "tests/check.h"

#include <memopt/memopt.h>
#include <memopt/pressure.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { SANITIZED = 1 }; /* its allocator may not be forked at any moment */
#else
enum { SANITIZED = 0 };
#endif

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct memopt_error failure;
#define CALL(EXPRESSION)                                                                           \
    do {                                                                                           \
        if ((EXPRESSION) < 0) {                                                                    \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #EXPRESSION, failure.message);  \
            _exit(99);                                                                             \
        }                                                                                          \
    } while (0)

static struct memopt_heap *open_heap(const char *name, const char *allocator, uint64_t limit) {
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_heap *heap;
    options.allocator = allocator;
    options.limit = limit;
    CALL(memopt_heap_open(name, &options, &heap, &failure));
    return heap;
}

static void wait_for(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        CHECK(errno == EINTR);
    CHECK(status == 0);
}

/* ------------------------------------------------------------ what is done */

static struct memopt_heap *list, *native, *small, *spilling;
static struct memopt_objects *objects;
static struct memopt_buffers *buffers;
static struct memopt_purge_hint *hint;
static struct memopt_cow *cow;

static void traverse(void *object, memopt_ref_visit_fn visit, void *context) {
    visit(context, *(void **)object);
}
static const struct memopt_ref_type node = MEMOPT_REF_TYPE_INIT("node", NULL, traverse);

static int build(void *context, void *value, struct memopt_error *error) {
    (void)context, (void)error;
    memset(value, 1, 16);
    return 0;
}
static struct memopt_lazy lazy = MEMOPT_LAZY_INIT(16, build, NULL, NULL);

static void in_heap(struct memopt_heap *heap) {
    char *p[20];
    for (size_t i = 0; i < COUNT(p); i++) {
        CHECK((p[i] = memopt_heap_alloc(heap, 10 + i * 50)) != NULL);
        memset(p[i], (int)i, 10 + i * 50);
    }
    for (size_t i = 0; i < COUNT(p); i++) {
        CHECK(p[i][9] == (char)i);
        memopt_heap_free(heap, p[i]);
    }
}
static void in_list(void) {
    in_heap(list);
}
static void in_native(void) {
    in_heap(native);
}
static void at_limit(void) {
    void *p = memopt_heap_alloc(small, 1 << 20);
    CHECK(p == NULL);
}
static void in_spilling(void) {
    void *p = memopt_heap_alloc(spilling, 100000);
    CHECK(p != NULL);
    memopt_heap_free(spilling, p);
}
static void opening(void) {
    CALL(memopt_heap_destroy(open_heap("short", "libc", 0), &failure));
}
static void in_objects(void) {
    void *object = memopt_objects_acquire(objects);
    CHECK(object != NULL);
    CALL(memopt_objects_release(objects, object, &failure));
}
static void in_buffers(void) {
    struct memopt_buffer *buffer;
    CALL(memopt_buffers_rent(buffers, MEMOPT_DTYPE_F32, 1, (size_t[]){1000}, &buffer, &failure));
    CALL(memopt_buffers_return(buffers, buffer, &failure));
}
static void in_refs(void) {
    void *object;
    CALL(memopt_ref_new(list, &node, sizeof(void *), 0, &object, &failure));
    CALL(memopt_ref_find_cycles(NULL, NULL, &failure));
    memopt_ref_put(object);
}
static void in_lazy(void) {
    void *value;
    CALL(memopt_lazy_get(&lazy, &value, &failure));
    CALL(memopt_lazy_reset(&lazy, &failure));
}
static void in_cow(void) {
    struct memopt_cow *clone;
    void *p;
    CALL(memopt_cow_clone(cow, &clone, &failure));
    CALL(memopt_cow_write(clone, 0, 1, &p, &failure));
    memopt_cow_destroy(clone);
}
static void in_hint(void) {
    CALL(memopt_purge_hint_now(hint, NULL));
}
static void in_watch(void) {
    struct memopt_pressure_statistics stats = MEMOPT_PRESSURE_STATISTICS_INIT;
    CHECK(memopt_pressure_poll() >= 0);
    CALL(memopt_pressure_stats(&stats));
}

static const struct {
    const char *name;
    void (*run)(void);
    int goes_on; /* in a child whose fork came in the midst of it, too */
} calls[] = {
    {"a heap that is a list", in_list, 1},
    {"a heap of a backend's own", in_native, 1},
    {"a heap at its limit", at_limit, 1},
    {"a heap that spills", in_spilling, 0},
    {"open and destroy", opening, 1},
    {"objects", in_objects, 1},
    {"buffers", in_buffers, 1},
    {"references", in_refs, 1},
    {"lazy state", in_lazy, 1},
    {"copy-on-write", in_cow, 0},
    {"a purge hint", in_hint, 1},
    {"the watch", in_watch, 1},
};

static void use_all(void) {
    for (size_t i = 0; i < COUNT(calls); i++)
        calls[i].run();
}

/* NULL: /var/tmp has no disk below it. */
static struct memopt_heap *open_spilling(void) {
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_heap *heap;
    options.allocator = "libc";
    options.on_limit = "spill";
    options.limit = 4096;
    options.spill_dir = "/var/tmp";
    int code = memopt_heap_open("spilling", &options, &heap, &failure);
    if (code == -ENOTSUP)
        return open_heap("not-spilling", "libc", 0);
    CALL(code);
    return heap;
}

static void set_up(int threads) {
    struct memopt_objects_options of_objects = MEMOPT_OBJECTS_OPTIONS_INIT;
    struct memopt_buffers_options of_buffers = MEMOPT_BUFFERS_OPTIONS_INIT;
    struct memopt_pressure_options of_watch = MEMOPT_PRESSURE_OPTIONS_INIT;
    struct memopt_purge_hint_options of_hint = MEMOPT_PURGE_HINT_OPTIONS_INIT;
    struct memopt_cow_options of_cow = MEMOPT_COW_OPTIONS_INIT;
    native = open_heap("native", "pool", 0);
    small = open_heap("small", "libc", 4096);
    spilling = open_spilling();
    of_objects.heap = of_buffers.heap = lazy.heap = list;
    of_objects.object_size = 100;
    of_objects.capacity = 10;
    CALL(memopt_objects_create(&of_objects, &objects, &failure));
    CALL(memopt_buffers_create(&of_buffers, &buffers, &failure));
    of_cow.mode = MEMOPT_COW_PAGES;
    CALL(memopt_cow_create(list, 100000, &of_cow, &cow, &failure));
    CALL(memopt_ref_track(1));
    of_hint.every = MEMOPT_PURGE_NEVER;
    CALL(memopt_purge_hint_new(&of_hint, &hint, &failure));
    of_watch.sources = MEMOPT_PRESSURE_HEAP | MEMOPT_PRESSURE_RSS;
    of_watch.interval = 1000000;
    of_watch.background = threads;
    CALL(memopt_pressure_start(&of_watch, &failure));
}

/* ------------------------------------------------------- inside a fork */

static volatile sig_atomic_t forking; /* in the handler */
static atomic_int handled, blocked;

static void fork_and_use(int number) {
    (void)number;
    int saved = errno;
    forking = 1;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        use_all();
        _exit(0);
    }
    wait_for(child);
    forking = 0;
    atomic_fetch_add(&handled, 1);
    errno = saved;
}

/* Handlers of the program's own. Before all of libmemopt's, where its locks are taken. */
static void interrupt(void) {
    sigset_t mask;
    if (forking)
        return;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    atomic_fetch_add(&blocked, sigismember(&mask, SIGUSR1) && sigismember(&mask, SIGTERM));
    raise(SIGUSR1);
}
/* Between them, or after them all. */
static void interrupt_later(void) {
    if (!forking)
        raise(SIGUSR1);
}

static void inside_fork(int threads) {
    struct sigaction action = {.sa_handler = fork_and_use};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(pthread_atfork(interrupt, interrupt, interrupt) == 0);
    list = open_heap("list", "libc", 0);
    CHECK(pthread_atfork(interrupt_later, interrupt_later, interrupt_later) == 0);
    set_up(threads);
    use_all();
    for (int i = 1; i <= 5; i++) {
        atomic_store(&handled, 0);
        atomic_store(&blocked, 0);
        pid_t child = fork();
        CHECK(child >= 0);
        CHECK(atomic_load(&handled) >= 1);
        CHECK(atomic_load(&blocked) == 2); /* before fork and after it */
        use_all();
        if (child == 0)
            _exit(0);
        wait_for(child);
    }
    CALL(memopt_pressure_stop());
}

static void of_one_thread(void) {
    inside_fork(0);
}
static void of_threads(void) {
    inside_fork(1);
}

/* ------------------------------------------------------- inside a call */

static int goes_on;
static volatile sig_atomic_t is_child;

static void fork_in_call(int number) {
    (void)number;
    int saved = errno;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child > 0)
        wait_for(child);
    else if (!goes_on)
        _exit(0);
    else
        is_child = 1;
    atomic_fetch_add(&handled, 1);
    errno = saved;
}

/* SIGUSR1 to its parent, again and again. */
static pid_t start_sender(void) {
    pid_t parent = getpid(), sender = fork();
    CHECK(sender >= 0);
    if (sender > 0)
        return sender;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody else is to get signals */
    while (getppid() == parent && kill(parent, SIGUSR1) == 0)
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    _exit(0);
}

static void inside_calls(void) {
    struct sigaction action = {.sa_handler = fork_in_call, .sa_flags = SA_RESTART};
    sigset_t set;
    if (SANITIZED)
        return;
    list = open_heap("list", "libc", 0);
    set_up(0);
    use_all();
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pid_t sender = start_sender();
    for (size_t i = 0; i < COUNT(calls); i++) {
        goes_on = calls[i].goes_on;
        atomic_store(&handled, 0);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        while (atomic_load(&handled) < 60 && !is_child)
            calls[i].run();
        sigprocmask(SIG_BLOCK, &set, NULL);
        if (is_child) {
            calls[i].run();
            _exit(0);
        }
    }
    kill(sender, SIGKILL);
    while (waitpid(sender, NULL, 0) < 0)
        CHECK(errno == EINTR);
    use_all();
}

/* ---------------------------------------------------------------- the cases */

static const struct {
    const char *name;
    void (*body)(void);
} cases[] = {
    {"inside-fork, one thread", of_one_thread},
    {"inside-fork, threads", of_threads},
    {"inside-calls", inside_calls},
};

/* A status; one that hangs has blocked the signals that could end it. */
static int run(void (*body)(void)) {
    sigset_t set;
    int status = -1;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pid_t child = fork();
    if (child == 0) {
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        setpgid(0, 0);
        body();
        _exit(0);
    }
    setpgid(child, child);
    if (sigtimedwait(&set, NULL, &(struct timespec){.tv_sec = 300}) < 0)
        fputs("it hangs\n", stderr);
    kill(-child, SIGKILL);
    waitpid(child, &status, 0);
    return status;
}

int main(int argc, char **argv) {
#if defined __SANITIZE_THREAD__ /* which calls an allocation in a handler a fault */
    return 77;
#endif
    int failed = 0;
    setenv("MEMOPT_CONF", "/dev/null", 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (argc > 1 && strcmp(argv[1], cases[i].name) != 0)
            continue;
        int status = run(cases[i].body);
        if (status != 0)
            fprintf(stderr, "%s: status %#x\n", cases[i].name, (unsigned)status);
        failed |= status != 0;
    }
    return failed;
}
