/*
 * optim.c - optimizer steps against loops that move the same bytes.
 *
 * usage: bench/optim CASE [ELEMENTS [ROUNDS]]
 *
 * A round is a step of the optimizer and a pass of the loop that reads and writes
 * the same arrays' worth of memory (of its own) and computes next to nothing, both
 * with a thread a CPU, the order alternating. Prints a line a round:
 * "STEP-SECONDS LOOP-SECONDS", and at last "state BYTES-AN-ELEMENT moved
 * BYTES-AN-ELEMENT".
 */
#include "config.h"

#include <memopt/memopt.h>

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(MO_SANITIZED)
#define CLONES                                                                                     \
    __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4"), noinline))
#else
#define CLONES __attribute__((noinline))
#endif

/* a is read; those that follow are read and written. */
static CLONES void loop1(size_t n, const float *restrict a, float *restrict b) {
    for (size_t i = 0; i < n; i++)
        b[i] += a[i];
}
static CLONES void loop2(size_t n, const float *restrict a, float *restrict b, float *restrict c) {
    for (size_t i = 0; i < n; i++) {
        b[i] += a[i];
        c[i] += a[i];
    }
}
static CLONES void loop3(size_t n, const float *restrict a, float *restrict b, float *restrict c,
                         float *restrict d) {
    for (size_t i = 0; i < n; i++) {
        b[i] += a[i];
        c[i] += a[i];
        d[i] += a[i];
    }
}
static CLONES void loop8(size_t n, const uint16_t *restrict a, uint16_t *restrict b,
                         uint8_t *restrict c, uint8_t *restrict d) {
    for (size_t i = 0; i < n; i++) {
        b[i] = (uint16_t)(b[i] + a[i]);
        c[i] = (uint8_t)(c[i] + a[i]);
        d[i] = (uint8_t)(d[i] ^ a[i]);
    }
}

enum { ARRAYS = 4 };
static const struct kind {
    const char *name, *optimizer, *settings;
    int dtype;
    size_t sizes[ARRAYS]; /* of an element of each array of the loop: gradient, parameter, slots */
} kinds[] = {
    {"adamw", "adamw", "", MEMOPT_DTYPE_F32, {4, 4, 4, 4}},
    {"sgd", "sgd", "", MEMOPT_DTYPE_F32, {4, 4, 0, 0}},
    {"momentum", "sgd", "momentum=0.9", MEMOPT_DTYPE_F32, {4, 4, 4, 0}},
    {"lion", "lion", "", MEMOPT_DTYPE_F32, {4, 4, 4, 0}},
    {"adamw8", "adamw", "state_format=8bit rounding=stochastic", MEMOPT_DTYPE_BF16, {2, 2, 1, 1}},
};

static void pass(const struct kind *kind, char *const *arrays, size_t begin, size_t end) {
    void *at[ARRAYS];
    size_t n = end - begin;
    for (size_t i = 0; i < ARRAYS; i++)
        at[i] = arrays[i] + begin * kind->sizes[i];
    if (kind->sizes[3] == 1)
        loop8(n, at[0], at[1], at[2], at[3]);
    else if (kind->sizes[3] == 4)
        loop3(n, at[0], at[1], at[2], at[3]);
    else if (kind->sizes[2] == 4)
        loop2(n, at[0], at[1], at[2]);
    else
        loop1(n, at[0], at[1]);
}

/* The loop's other threads: started once, as the optimizer's are. */
static struct {
    const struct kind *kind;
    char *arrays[ARRAYS];
    size_t elements;
    unsigned threads;
    pthread_barrier_t begin, end;
} work;

static void share(unsigned index) {
    size_t part = work.elements / work.threads / 256 * 256;
    pass(work.kind, work.arrays, part * index,
         index + 1 == work.threads ? work.elements : part * (index + 1));
}

static void *helper(void *argument) {
    unsigned index = (unsigned)(uintptr_t)argument;
    for (;;) {
        pthread_barrier_wait(&work.begin);
        share(index);
        pthread_barrier_wait(&work.end);
    }
    return NULL;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double time_loop(void) {
    double begin = now();
    pthread_barrier_wait(&work.begin);
    share(0);
    pthread_barrier_wait(&work.end);
    return now() - begin;
}

static void die(const struct memopt_error *error) {
    fprintf(stderr, "bench/optim: %s\n", error->message);
    exit(1);
}

static double time_step(struct memopt_optimizer *optimizer) {
    struct memopt_error error;
    double begin = now();
    if (memopt_optimizer_step(optimizer, NULL, &error) < 0)
        die(&error);
    return now() - begin;
}

static void *filled(struct memopt_heap *heap, size_t bytes) {
    unsigned char *p = memopt_heap_aligned_alloc(heap, 4096, bytes);
    if (p == NULL) {
        fprintf(stderr, "bench/optim: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    memset(p, 0x3c, bytes); /* small numbers in every type */
    return p;
}

int main(int argc, char **argv) {
    struct memopt_error error;
    const struct kind *kind = kinds;
    size_t elements = argc > 2 ? (size_t)strtoull(argv[2], NULL, 10) : (size_t)32 << 20;
    int rounds = argc > 3 ? atoi(argv[3]) : 15;
    while (argc < 2 || strcmp(kind->name, argv[1]) != 0)
        if (argc < 2 || ++kind == kinds + sizeof(kinds) / sizeof(kinds[0])) {
            fprintf(stderr,
                    "usage: bench/optim adamw|sgd|momentum|lion|adamw8 [elements [rounds]]\n");
            return 2;
        }
    struct memopt_heap *heap = memopt_heap_default(&error);
    if (heap == NULL)
        die(&error);

    cpu_set_t set;
    work.threads = sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
    work.kind = kind;
    work.elements = elements;
    for (size_t i = 0; i < ARRAYS; i++)
        work.arrays[i] = kind->sizes[i] == 0 ? NULL : filled(heap, elements * kind->sizes[i]);
    pthread_barrier_init(&work.begin, NULL, work.threads);
    pthread_barrier_init(&work.end, NULL, work.threads);
    for (unsigned i = 1; i < work.threads; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, helper, (void *)(uintptr_t)i);
    }

    struct memopt_optimizer *optimizer;
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    options.name = kind->optimizer;
    options.settings = kind->settings;
    options.heap = heap;
    if (memopt_optimizer_create(&options, &optimizer, &error) < 0)
        die(&error);
    struct memopt_param param = MEMOPT_PARAM_INIT;
    param.name = "p";
    param.dtype = kind->dtype;
    param.count = elements;
    param.data = filled(heap, elements * kind->sizes[1]);
    param.grad = filled(heap, elements * kind->sizes[0]);
    if (memopt_optimizer_add(optimizer, &param, NULL, &error) < 0)
        die(&error);

    time_step(optimizer);
    time_loop();
    for (int i = 0; i < rounds; i++) {
        double loop = i % 2 == 0 ? time_loop() : 0, step = time_step(optimizer);
        if (i % 2 != 0)
            loop = time_loop();
        printf("%.6f %.6f\n", step, loop);
    }
    size_t moved = kind->sizes[0];
    for (size_t i = 1; i < ARRAYS; i++)
        moved += 2 * kind->sizes[i];
    printf("state %.4f moved %zu\n",
           (double)memopt_optimizer_state_bytes(optimizer) / (double)elements, moved);
    memopt_optimizer_destroy(optimizer);
    return 0;
}
