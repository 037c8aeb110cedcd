/*
 * test_malloc_threads.c - threads that come and go, run out of memory or are forked
 * while they allocate.
 *
 * Each case (an argument: only that one) runs in a child of its own, which an alarm
 * ends if it hangs. By itself it shows that glibc copes; tests/test_shim_*.sh run it
 * with every backend.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(x) ((x) ? (void)0 : bad(#x, __LINE__))
static _Noreturn void bad(const char *what, int line) {
    fprintf(stderr, "line %d: %s, errno %d\n", line, what, errno);
    _exit(1);
}

/* Pages of this process; `field` of /proc/self/statm. */
static size_t statm(int field) {
    size_t values[2] = {0, 0};
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%zu %zu", &values[0], &values[1]) == 2);
    fclose(file);
    return values[field];
}

static unsigned char *make(size_t size, unsigned mark) {
    unsigned char *p = malloc(size);
    CHECK(p != NULL);
    p[0] = p[size - 1] = (unsigned char)mark;
    return p;
}

static void drop(unsigned char *p, size_t size, unsigned mark) {
    CHECK(p[0] == (unsigned char)mark && p[size - 1] == (unsigned char)mark);
    free(p);
}

/* ------------------------------------------------------------ come and go */

enum { THREADS = 400, AT_ONCE = 4, EACH = 60 };
static unsigned char *left[AT_ONCE][EACH];

static size_t size_of(size_t i) {
    return (i * i * i) % 40000 + 1;
}

/* Half of the blocks stay for another thread to free. */
static void *comes_and_goes(void *number) {
    size_t n = (size_t)(uintptr_t)number;
    unsigned char *own[EACH];
    for (size_t i = 0; i < EACH; i++) {
        own[i] = make(size_of(i), (unsigned)i);
        left[n][i] = make(size_of(i + 7), (unsigned)(i + n));
    }
    for (size_t i = 0; i < EACH; i++)
        drop(own[i], size_of(i), (unsigned)i);
    return NULL;
}

/* What a thread that has ended held free serves others. */
static void come_and_go(void) {
    size_t early = 0;
    for (size_t round = 0; round < THREADS / AT_ONCE; round++) {
        pthread_t threads[AT_ONCE];
        for (size_t n = 0; n < AT_ONCE; n++)
            CHECK(pthread_create(&threads[n], NULL, comes_and_goes, (void *)n) == 0);
        for (size_t n = 0; n < AT_ONCE; n++)
            CHECK(pthread_join(threads[n], NULL) == 0);
        for (size_t n = 0; n < AT_ONCE; n++)
            for (size_t i = 0; i < EACH; i++)
                drop(left[n][i], size_of(i + 7), (unsigned)(i + n));
        if (round == 15)
            early = statm(1);
    }
    CHECK(statm(1) < early + (size_t)(200 << 20) / (size_t)sysconf(_SC_PAGESIZE));
}

/* ---------------------------------------------------------- out of memory */

enum { HUNGRY = 6, BLOCKS = 4000 };
static pthread_barrier_t barrier;
static atomic_size_t failures;

static void *one_of(size_t i, size_t size) {
    void *p = NULL;
    switch (i % 5) {
    case 0:
        return calloc(1, size);
    case 1:
        return realloc(NULL, size);
    case 2:
        return aligned_alloc(64, size);
    case 3:
        return posix_memalign(&p, 256, size) == 0 ? p : NULL;
    default:
        return malloc(size);
    }
}

/* Takes what there is, gives it back, and again. */
static void *hungry(void *unused) {
    (void)unused;
    static const size_t sizes[] = {100, 3000, 40000, 200000, 3000000};
    void **blocks = malloc(BLOCKS * sizeof *blocks);
    CHECK(blocks != NULL);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* the limit is set */
    for (size_t round = 0; round < 10; round++) {
        size_t count = 0, size = sizes[round % (sizeof sizes / sizeof sizes[0])];
        while (count < BLOCKS) {
            errno = 0;
            unsigned char *p = one_of(count, size);
            if (p == NULL) {
                CHECK(errno == ENOMEM);
                atomic_fetch_add(&failures, 1);
                break;
            }
            p[0] = p[size - 1] = 1;
            blocks[count++] = p;
        }
        if (count > 0 && round % 2 == 0) { /* a block outlives a realloc that fails */
            void *larger = realloc(blocks[0], (size_t)1 << 46);
            CHECK(larger == NULL && errno == ENOMEM);
            CHECK(((unsigned char *)blocks[0])[size - 1] == 1);
        }
        while (count > 0)
            free(blocks[--count]);
    }
    free(blocks);
    return NULL;
}

static void out_of_memory(void) {
    pthread_t threads[HUNGRY];
    CHECK(pthread_barrier_init(&barrier, NULL, HUNGRY + 1) == 0);
    for (size_t n = 0; n < HUNGRY; n++)
        CHECK(pthread_create(&threads[n], NULL, hungry, NULL) == 0);
    pthread_barrier_wait(&barrier);
    size_t now = statm(0) * (size_t)sysconf(_SC_PAGESIZE), more = (size_t)64 << 20;
    CHECK(setrlimit(RLIMIT_AS, &(struct rlimit){now + more, now + more}) == 0);
    pthread_barrier_wait(&barrier);
    for (size_t n = 0; n < HUNGRY; n++)
        CHECK(pthread_join(threads[n], NULL) == 0);
    /* an allocator that has reserved all its addresses before never comes to the limit */
    CHECK(failures > 0 || now > (size_t)1 << 40);
    drop(make(1000, 1), 1000, 1); /* there is memory again */
}

/* ------------------------------------------------------------------- fork */

static void wait_for(pid_t child) {
    int status = -1;
    while (waitpid(child, &status, 0) < 0)
        CHECK(errno == EINTR);
    CHECK(status == 0);
}

static void use_the_heap(void) {
    unsigned char *blocks[EACH];
    for (size_t i = 0; i < EACH; i++)
        blocks[i] = make(size_of(i * 31), (unsigned)i);
    for (size_t i = 0; i < EACH; i++)
        drop(blocks[i], size_of(i * 31), (unsigned)i);
}

static atomic_bool stop;
static void *keeps_allocating(void *unused) {
    (void)unused;
    while (!stop)
        use_the_heap();
    return NULL;
}

/* A child has the whole heap, and so has its own child, and threads of theirs. */
static void forked_while_allocating(void) {
    pthread_t threads[3];
    unsigned char *before = make(5000, 9);
    for (size_t n = 0; n < 3; n++)
        CHECK(pthread_create(&threads[n], NULL, keeps_allocating, NULL) == 0);
    for (int i = 0; i < 40; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child > 0) {
            wait_for(child);
            continue;
        }
        use_the_heap();
        drop(before, 5000, 9);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            stop = 1;
            pthread_t thread;
            CHECK(pthread_create(&thread, NULL, comes_and_goes, NULL) == 0);
            CHECK(pthread_join(thread, NULL) == 0);
            use_the_heap();
            _exit(0);
        }
        CHECK(grandchild > 0);
        wait_for(grandchild);
        _exit(0);
    }
    stop = 1;
    for (size_t n = 0; n < 3; n++)
        CHECK(pthread_join(threads[n], NULL) == 0);
    drop(before, 5000, 9);
}

static atomic_int forks;
static void fork_in_handler(int number) {
    (void)number;
    int saved = errno;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    if (child > 0)
        wait_for(child);
    atomic_fetch_add(&forks, 1);
    errno = saved;
}

/* A program of one thread may fork anywhere, in a handler that interrupts malloc
 * too. The child does nothing but end. */
static void forked_inside_malloc(void) {
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    sigset_t set;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pid_t parent = getpid(), sender = fork();
    CHECK(sender >= 0);
    if (sender == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody else is to get signals */
        while (getppid() == parent) {
            if (kill(parent, SIGUSR1) != 0)
                _exit(0);
            usleep(500);
        }
        _exit(0);
    }
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    while (atomic_load(&forks) < 200)
        use_the_heap();
    kill(sender, SIGKILL);
    while (waitpid(sender, NULL, 0) < 0)
        CHECK(errno == EINTR);
}

static const struct {
    const char *name;
    void (*body)(void);
} cases[] = {
    {"come-and-go", come_and_go},
    {"out-of-memory", out_of_memory},
    {"forked-while-allocating", forked_while_allocating},
    {"forked-inside-malloc", forked_inside_malloc},
};

int main(int argc, char **argv) {
    int failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (argc > 1 && strcmp(argv[1], cases[i].name) != 0)
            continue;
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            cases[i].body();
            _exit(0);
        }
        if (waitpid(child, &status, 0) != child || status != 0) {
            fprintf(stderr, "%s: status %#x\n", cases[i].name, (unsigned)status);
            failed = 1;
        }
    }
    return failed;
}
