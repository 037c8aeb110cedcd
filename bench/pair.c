/*
 * pair.c - nanoseconds per malloc/free pair, for bench/run.
 *
 * usage: pair [-a | -A] [-i] [-l]
 *
 * Allocates and frees through the program's own malloc and free, whatever these are
 * bound to: bench/run starts it with the backend's library preloaded by hand, then under
 * memopt. Prints the median over all rounds.
 *   -a   asks malloc_usable_size before each free, and adds the answers up. By hand this
 *        is the floor of a tracker that must know how many bytes go with a free: nothing
 *        that it adds to a pair can be less
 *   -A   asks after each malloc, too: the floor where a block's usable size does not
 *        depend on the size asked for alone, as in the C library
 *   -i   prints instructions per pair instead of nanoseconds: a child of its own runs the
 *        loop, step by step. (Valgrind's counts would be those of another layout of the
 *        address space, in which free takes its slower way.) Ends with status 77 where no
 *        process may be traced
 *   -l   blocks of 520 to 1000 bytes instead of 16 to 256
 *
 * What it doesn't show: cache misses; a block is freed soon after it was allocated, which
 * is the backend's best case and memopt's worst.
 */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAIRS = 20000, ROUNDS = 301, WARM = 20, RING = 16 };

static void *ring[RING];
static const size_t small[8] = {16, 24, 32, 48, 64, 100, 128, 256};
static const size_t large[8] = {520, 560, 600, 700, 800, 900, 960, 1000};
static volatile size_t sum;
static unsigned pairs_a_round = PAIRS;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Both loops are the same but for the question. */
#define LOOP(ASK, FIRST)                                                                             \
    do {                                                                                           \
        size_t bytes = 0;                                                                          \
        for (unsigned i = 0; i < RING; i++)                                                        \
            ring[i] = malloc(sizes[i % 8]);                                                        \
        double start = now();                                                                      \
        for (unsigned i = 0; i < pairs_a_round; i++) {                                             \
            bytes += ASK(ring[i % RING]);                                                          \
            free(ring[i % RING]);                                                                  \
            ring[i % RING] = malloc(sizes[i % 8]);                                                 \
            bytes += FIRST(ring[i % RING]);                                                        \
        }                                                                                          \
        double end = now();                                                                        \
        for (unsigned i = 0; i < RING; i++)                                                        \
            free(ring[i]);                                                                         \
        sum += bytes;                                                                              \
        return (end - start) / pairs_a_round;                                                      \
    } while (0)

#define NO_QUESTION(BLOCK) 0
static __attribute__((noinline)) double pairs(const size_t *sizes) {
    LOOP(NO_QUESTION, NO_QUESTION);
}
static __attribute__((noinline)) double asking_pairs(const size_t *sizes) {
    LOOP(malloc_usable_size, NO_QUESTION);
}
static __attribute__((noinline)) double twice_asking_pairs(const size_t *sizes) {
    LOOP(malloc_usable_size, malloc_usable_size);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Steps of a child of ours, from one SIGSTOP that it sends itself to the next, while it
 * does a round of so many pairs. */
static long steps_of(double (*loop)(const size_t *), const size_t *sizes, unsigned count) {
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < WARM; i++)
            loop(sizes);
        pairs_a_round = count;
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(77);
        raise(SIGSTOP);
        loop(sizes);
        raise(SIGSTOP);
        _exit(0);
    }
    int status;
    long steps = -1;
    if (child < 0 || waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status))
        return -1;
    do {
        steps++;
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) < 0 || waitpid(child, &status, 0) < 0)
            return -1;
    } while (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
    kill(child, SIGKILL);
    return WIFSTOPPED(status) && waitpid(child, NULL, 0) == child ? steps : -1;
}

int main(int argc, char **argv) {
    static double times[ROUNDS];
    double (*loop)(const size_t *) = pairs;
    int count = 0, option;
    const size_t *sizes = small;
    while ((option = getopt(argc, argv, "aAil")) != -1) {
        if (option == 'a') {
            loop = asking_pairs;
        } else if (option == 'A') {
            loop = twice_asking_pairs;
        } else if (option == 'i') {
            count = 1;
        } else if (option == 'l') {
            sizes = large;
        } else {
            fprintf(stderr, "usage: pair [-a | -A] [-i] [-l]\n");
            return 2;
        }
    }
    if (count) {
        /* two rounds of different length: what is in both drops out */
        enum { FEW = RING, MANY = 11 * RING };
        long few = steps_of(loop, sizes, FEW), many = steps_of(loop, sizes, MANY);
        if (few < 0 || many < 0)
            return 77;
        printf("%.3f\n", (double)(many - few) / (MANY - FEW));
        return 0;
    }
    for (int i = -WARM; i < ROUNDS; i++) {
        double time = loop(sizes);
        if (i >= 0)
            times[i] = time;
    }
    qsort(times, ROUNDS, sizeof *times, by_value);
    printf("%.3f\n", times[ROUNDS / 2]);
    return 0;
}
