/*
 * behaviour.c - programs that are hard on an allocator, one a scenario.
 *
 * usage: behaviour SCENARIO [ARGUMENT]
 *
 * Each prints a line at its end that is the same with every allocator, and
 * exits 0; a failed check aborts. tests/shim.bash compares output and status
 * with those of a bare run, under a time limit: a deadlock is a failure.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define CHECK(CONDITION)                                                                           \
    do {                                                                                           \
        if (!(CONDITION)) {                                                                        \
            fprintf(stderr, "behaviour: line %d: %s\n", __LINE__, #CONDITION);                     \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static atomic_bool stop;

/* A block that knows its size and is checked when it goes. */
static unsigned char *make(size_t size) {
    unsigned char *p = malloc(size);
    CHECK(p);
    memset(p, (int)(size & 0xff), size);
    return p;
}
static void drop(unsigned char *p, size_t size) {
    CHECK(p[0] == (size & 0xff) && p[size - 1] == (size & 0xff));
    free(p);
}

static void churn(unsigned seed, int rounds) {
    enum { KEEP = 64 };
    unsigned char *block[KEEP] = {NULL};
    size_t size[KEEP] = {0};
    for (int i = 0; i < rounds; i++) {
        seed = seed * 1664525 + 1013904223;
        unsigned k = seed >> 26;
        if (block[k])
            drop(block[k], size[k]);
        size[k] = 1 + (seed >> 8) % 2000;
        block[k] = make(size[k]);
    }
    for (int k = 0; k < KEEP; k++) {
        if (block[k])
            drop(block[k], size[k]);
    }
}

static void *churning_thread(void *argument) {
    unsigned seed = (unsigned)(uintptr_t)argument;
    while (!atomic_load(&stop))
        churn(seed += 7, 200);
    return NULL;
}

/* A stream whose lock is held while its buffer grows ... */
static void *line_thread(void *argument) {
    (void)argument;
    enum { LONG = 200000 }; /* past the allocators' thread caches */
    char *text = malloc(LONG);
    CHECK(text);
    memset(text, 'x', LONG);
    FILE *stream = fmemopen(text, LONG, "r");
    CHECK(stream);
    while (!atomic_load(&stop)) {
        char *line = NULL;
        size_t capacity = 0;
        rewind(stream);
        CHECK(getline(&line, &capacity, stream) == LONG);
        free(line);
        usleep(100); /* or nobody else gets the lock: seconds a fork on a loaded machine */
    }
    fclose(stream);
    free(text);
    return NULL;
}
/* ... and somebody who takes the lock of all streams and then that one. fork
 * takes the lock of all streams too: with the allocator's locks taken before
 * it, the three wait for each other for ever. */
static void *flush_thread(void *argument) {
    (void)argument;
    while (!atomic_load(&stop)) {
        fflush(NULL);
        usleep(100); /* or nobody else gets the lock */
    }
    return NULL;
}

static pthread_t begin(void *(*body)(void *), unsigned n) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, (void *)(uintptr_t)n) == 0);
    return thread;
}

static int wait_for(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        CHECK(errno == EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* fork while other threads are inside malloc and inside stdio */
static void fork_storm(void) {
    enum { FORKS = 40, THREADS = 5 };
    static void *(*const body[THREADS])(void *) = {churning_thread, line_thread, flush_thread,
                                                   line_thread, flush_thread};
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        threads[i] = begin(body[i], i);
    for (unsigned i = 0; i < FORKS; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            churn(i, 300);
            FILE *stream = fopen("/dev/null", "w");
            CHECK(stream && fflush(NULL) == 0 && fclose(stream) == 0);
            if (i % 10 == 0) { /* a grandchild, with a thread of its own */
                pid_t grandchild = fork();
                CHECK(grandchild >= 0);
                if (grandchild == 0) {
                    atomic_store(&stop, false);
                    pthread_t thread = begin(churning_thread, i);
                    churn(i, 100);
                    atomic_store(&stop, true);
                    pthread_join(thread, NULL);
                    _exit(9);
                }
                CHECK(wait_for(grandchild) == 9);
            }
            _exit(7);
        }
        CHECK(wait_for(child) == 7);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("%d forks\n", FORKS);
}

/* the child ends by exit(): handlers, stdio flush */
static void fork_exit(void) {
    unsigned char *before = make(3000);
    for (unsigned i = 0; i < 20; i++) {
        fflush(stdout);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            drop(before, 3000);
            churn(i, 500);
            if (i == 7)
                printf("child %u\n", i);
            exit((int)i);
        }
        CHECK(wait_for(child) == (int)i);
    }
    drop(before, 3000);
    printf("parent\n");
}

static void starting_programs(const char *self) {
    pthread_t thread = begin(churning_thread, 1);
    for (int i = 0; i < 10; i++) {
        pid_t child = vfork();
        CHECK(child >= 0);
        if (child == 0) {
            execl("/bin/sh", "sh", "-c", "exit 5", (char *)NULL);
            _exit(127);
        }
        CHECK(wait_for(child) == 5);
        char *argv[] = {(char *)(uintptr_t)self, (char *)(uintptr_t) "churn", NULL};
        CHECK(posix_spawn(&child, self, NULL, NULL, argv, environ) == 0);
        CHECK(wait_for(child) == 0);
        char *none[] = {(char *)(uintptr_t) "/nonexistent", NULL};
        CHECK(posix_spawn(&child, none[0], NULL, NULL, none, environ) == ENOENT);
    }
    CHECK(system("exit 3") == 3 << 8);
    FILE *pipe = popen("echo through a pipe", "r");
    CHECK(pipe);
    char *line = NULL;
    size_t capacity = 0;
    CHECK(getline(&line, &capacity, pipe) > 0);
    CHECK(pclose(pipe) == 0);
    printf("%s", line);
    free(line);
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    fflush(stdout);
    execl(self, self, "churn", (char *)NULL); /* and becomes another program itself */
    CHECK(errno == 0);                        /* it returned */
    abort();
}

/* threads end while thread-local destructors still free and allocate */
static pthread_key_t key, late_key;
static atomic_int destroyed;
static void late(void *p) {
    drop(p, 300);
    churn(3, 50);
    atomic_fetch_add(&destroyed, 1);
}
static void early(void *p) {
    drop(p, 200);
    CHECK(pthread_setspecific(late_key, make(300)) == 0); /* one more round of destructors */
}
static void *ending_thread(void *argument) {
    CHECK(pthread_setspecific(key, make(200)) == 0);
    churn((unsigned)(uintptr_t)argument, 100);
    if ((uintptr_t)argument % 2)
        pthread_exit(NULL);
    return NULL;
}
static void thread_exit(void) {
    CHECK(pthread_key_create(&key, early) == 0 && pthread_key_create(&late_key, late) == 0);
    for (unsigned round = 0; round < 60; round++) {
        pthread_t threads[8];
        for (unsigned i = 0; i < 8; i++)
            threads[i] = begin(ending_thread, round * 8 + i);
        for (unsigned i = 0; i < 8; i++)
            pthread_join(threads[i], NULL);
    }
    printf("%d destructors\n", atomic_load(&destroyed));
}

/* main is left while detached threads go on: they run into exit's clean-up */
static void exit_with_threads(void) {
    for (unsigned i = 0; i < 4; i++)
        CHECK(pthread_detach(begin(churning_thread, i)) == 0);
    churn(1, 20000);
    printf("main ends\n");
}

static unsigned char *at_end;
static void second_handler(void) {
    drop(at_end, 500);
    printf("second handler\n");
}
static void first_handler(void) {
    at_end = make(500);
    churn(1, 500);
    CHECK(atexit(second_handler) == 0);
    printf("first handler\n");
}
static void small_handler(void) {
    churn(1, 2);
}
static void at_exit(void) {
    for (int i = 0; i < 100; i++) /* more than the fixed table holds: atexit allocates */
        CHECK(atexit(i == 50 ? first_handler : small_handler) == 0);
    printf("main\n");
}

static void loading(const char *library) {
    CHECK(library);
    pthread_t thread = begin(churning_thread, 1);
    char *texts[20];
    for (int i = 0; i < 20; i++) {
        void *handle = dlopen(library, i % 2 ? RTLD_NOW : RTLD_LAZY | RTLD_GLOBAL);
        CHECK(handle);
        char *(*hook_text)(void) = (char *(*)(void))dlsym(handle, "hook_text");
        CHECK(hook_text);
        texts[i] = hook_text();
        CHECK(dlclose(handle) == 0);
        CHECK(!dlopen("/nonexistent.so", RTLD_NOW));
        CHECK(dlerror());
        churn(1, 100);
    }
    for (int i = 0; i < 20; i++) {
        CHECK(strcmp(texts[i], "from the library") == 0);
        free(texts[i]);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    printf("20 loads\n");
}

/* Signals that come in the middle of malloc, to a handler that doesn't allocate:
 * all that POSIX allows. */
static atomic_int ticks;
static void tick(int number) {
    (void)number;
    int saved = errno;
    atomic_fetch_add(&ticks, 1);
    errno = saved;
}
static void signals(void) {
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval timer = {{0, 200}, {0, 200}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    pthread_t thread = begin(churning_thread, 1);
    while (atomic_load(&ticks) < 500)
        churn(1, 1000);
    timer = (struct itimerval){{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    printf("signals came\n");
}

/* A handler that exits, whatever it interrupts: POSIX doesn't allow it, many
 * programs do it, and over glibc it works. Children, as it takes some luck to hit
 * the moment in which a lock is held. */
static void leave(int number) {
    (void)number;
    exit(7);
}
static void *sleeping_thread(void *unused) {
    sigset_t all;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
    for (;;)
        pause();
    return unused;
}
static void signal_exit(void) {
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            begin(sleeping_thread, 0); /* with one thread alone glibc takes no lock */
            struct sigaction action = {.sa_handler = leave};
            CHECK(sigaction(SIGALRM, &action, NULL) == 0);
            struct itimerval timer = {{0, 0}, {0, 1000 + i * 300}};
            CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
            static void *blocks[4096];
            for (unsigned state = (unsigned)i;;) {
                state = state * 1103515245u + 12345u;
                unsigned n = (state >> 8) % 4096;
                free(blocks[n]);
                blocks[n] = malloc((state >> 4) % 40000);
            }
        }
        CHECK(wait_for(child) == 7);
    }
    printf("20 exits\n");
}

/* fork when no more address space is to be had */
static void no_address_space(void) {
    void *blocks[2000];
    for (int i = 0; i < 2000; i++)
        CHECK((blocks[i] = malloc(100)) != NULL);
    for (int i = 0; i < 1000; i++)
        free(blocks[i]);
    struct rlimit limit = {4096, 4096};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            for (int n = 0; n < 1000; n++)
                free(malloc(100));
            pid_t grandchild = fork();
            CHECK(grandchild >= 0);
            if (grandchild == 0)
                _exit(3);
            _exit(wait_for(grandchild));
        }
        CHECK(wait_for(child) == 3);
    }
    printf("3 children\n");
}

static void handle_quick_exit(void) {
    printf("handler\n");
    fflush(stdout);
}
static void ends_quickly(void) {
    CHECK(at_quick_exit(handle_quick_exit) == 0);
    churn(1, 100);
    quick_exit(5);
}

/* A handler that allocates, run while the program is not inside malloc: works
 * with any allocator, and is common. */
static void allocating_handler(int number) {
    (void)number;
    churn(5, 50);
    free(strdup("in a handler"));
    atomic_fetch_add(&ticks, 1);
}
static void signal_malloc(void) {
    struct sigaction action = {.sa_handler = allocating_handler};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    /* on an alternate stack too, as crash handlers do */
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    CHECK(stack.ss_sp && sigaltstack(&stack, NULL) == 0);
    for (int i = 0; i < 200; i++) {
        action.sa_flags = i % 2 ? SA_ONSTACK : 0;
        CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
        churn(1, 20);
        raise(SIGUSR1);
    }
    printf("%d handlers\n", atomic_load(&ticks));
}

/* before main, in a constructor of the earliest priority */
static char *early_text;
__attribute__((constructor(101))) static void early_constructor(void) {
    early_text = strdup("from a constructor");
}
static void constructors(void) {
    CHECK(early_text);
    early_text = realloc(early_text, 4000);
    CHECK(early_text && malloc_usable_size(early_text) >= 4000);
    printf("%s\n", early_text);
    free(early_text);
}

/* hook.so was preloaded: its constructor has run, its texts can be freed */
static void preloaded(void) {
    static const char *const names[] = {"hook_text", "hook_early_text"};
    for (int i = 0; i < 2; i++) {
        char *(*hook_text)(void) = (char *(*)(void))dlsym(RTLD_DEFAULT, names[i]);
        CHECK(hook_text);
        char *text = hook_text();
        printf("%s\n", text);
        free(text);
    }
}

/* 32 threads, every block freed by another thread than allocated it */
enum { CROSS = 32, PASSED = 400 };
static unsigned char *_Atomic passed[CROSS][PASSED];
static pthread_barrier_t barrier;
static void *cross_thread(void *argument) {
    unsigned me = (unsigned)(uintptr_t)argument;
    for (int round = 0; round < 10; round++) {
        for (unsigned i = 0; i < PASSED; i++)
            passed[(me + 1) % CROSS][i] = make(1 + (i * 37 + me) % 3000);
        pthread_barrier_wait(&barrier);
        unsigned from = (me + CROSS - 1) % CROSS;
        for (unsigned i = 0; i < PASSED; i++)
            drop(passed[me][i], 1 + (i * 37 + from) % 3000);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}
static void cross_threads(void) {
    pthread_t threads[CROSS];
    CHECK(pthread_barrier_init(&barrier, NULL, CROSS) == 0);
    for (unsigned i = 0; i < CROSS; i++)
        threads[i] = begin(cross_thread, i);
    for (unsigned i = 0; i < CROSS; i++)
        pthread_join(threads[i], NULL);
    printf("%d blocks passed on\n", CROSS * PASSED * 10);
}

/* allocates a known amount, says so, and waits to be killed */
static void wait_to_be_killed(void) {
    for (int i = 0; i < 1000; i++)
        (void)make(1000);
    printf("ready\n");
    fflush(stdout);
    for (;;)
        pause();
}

/* closes every descriptor it finds, as daemons do, and goes on */
static void close_all(void) {
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    churn(1, 2000);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        churn(2, 500);
        _exit(4);
    }
    CHECK(wait_for(child) == 4);
    printf("all closed\n");
}

/* ----------------------------------------------------------------- cancelled */

static atomic_int cancelled_now, idlers;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;

static void *idle(void *unused) {
    (void)unused;
    free(malloc(10));
    atomic_fetch_add(&idlers, 1);
    pause();
    return NULL;
}

static void *allocates(void *unused) {
    (void)unused;
    while (!atomic_load(&cancelled_now))
        ;
    pthread_mutex_lock(&held);
    void *p = malloc(100);
    pthread_mutex_unlock(&held);
    free(p);
    return NULL;
}

static void *forks(void *unused) {
    (void)unused;
    while (!atomic_load(&cancelled_now))
        ;
    pid_t pid = fork();
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    if (pid == 0)
        _exit(5);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5);
    return NULL;
}

static void *exits(void *unused) {
    (void)unused;
    while (!atomic_load(&cancelled_now))
        ;
    exit(5);
}

static void cancel(void *(*body)(void *)) {
    pthread_t thread;
    atomic_store(&cancelled_now, 0);
    CHECK(pthread_create(&thread, NULL, body, NULL) == 0);
    CHECK(pthread_cancel(thread) == 0);
    atomic_store(&cancelled_now, 1);
    pthread_join(thread, NULL);
}

/* malloc, fork and exit are no cancellation points, however many threads came before. */
static void cancelled(void) {
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, idle, NULL) == 0);
        while (atomic_load(&idlers) <= i)
            ;
        cancel(allocates);
        pthread_mutex_lock(&held);
        pthread_mutex_unlock(&held);
    }
    cancel(forks);
    pid_t pid = fork();
    if (pid == 0) {
        cancel(exits);
        _exit(6);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5);
    puts("cancelled");
    fflush(stdout);
    _exit(0);
}

/* ------------------------------------------------------------------- shut in */

/* Allows what malloc, write and the end of a process need; all else kills. */
static void shut_in(void) {
    static const unsigned allowed[] = {SYS_read,        SYS_write,    SYS_exit,   SYS_exit_group,
                                       SYS_brk,         SYS_mmap,     SYS_munmap, SYS_madvise,
                                       SYS_futex,       SYS_mprotect, SYS_mremap, SYS_newfstatat,
                                       SYS_rt_sigreturn};
    enum { ALLOWED = sizeof(allowed) / sizeof(allowed[0]) };
    struct sock_filter filter[ALLOWED + 3];
    unsigned n = 0;
    filter[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < ALLOWED; i++)
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i],
                                                   (uint8_t)(ALLOWED - i), 0);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)n, filter};
    puts("shut in");
    fflush(stdout);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    errno = 0;
    CHECK(prctl(-1, 0, 0, 0, 0) == -1 && errno == EINVAL);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    for (int i = 0; i < 1000; i++)
        free(malloc((size_t)i * 10));
}

int main(int argc, char **argv) {
    const char *scenario = argc > 1 ? argv[1] : "";
    const char *argument = argc > 2 ? argv[2] : NULL;
    static const struct {
        const char *name;
        void (*run)(void);
    } plain[] = {
        {"fork-storm", fork_storm},
        {"fork-exit", fork_exit},
        {"thread-exit", thread_exit},
        {"exit-with-threads", exit_with_threads},
        {"atexit", at_exit},
        {"signals", signals},
        {"signal-malloc", signal_malloc},
        {"signal-exit", signal_exit},
        {"quick-exit", ends_quickly},
        {"no-address-space", no_address_space},
        {"constructors", constructors},
        {"cross-threads", cross_threads},
        {"killed", wait_to_be_killed},
        {"preloaded", preloaded},
        {"close-all", close_all},
        {"cancelled", cancelled},
        {"shut-in", shut_in},
    };
    if (strcmp(scenario, "nothing") == 0) /* the constructor has allocated */
        _exit(0);
    if (strcmp(scenario, "churn") == 0) {
        churn(1, 3000);
        return 0;
    }
    if (strcmp(scenario, "start-programs") == 0) {
        starting_programs("/proc/self/exe");
        return 1;
    }
    if (strcmp(scenario, "dlopen") == 0) {
        loading(argument);
        return 0;
    }
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (strcmp(scenario, plain[i].name) == 0) {
            plain[i].run();
            return 0;
        }
    }
    fprintf(stderr, "behaviour: no scenario '%s'\n", scenario);
    return 2;
}
