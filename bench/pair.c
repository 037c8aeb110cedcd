/*
 * pair.c - what memopt's dispatch adds to a malloc/free pair, in nanoseconds.
 *
 * usage: memopt run -a NAME --set memopt.binding=dispatch -- pair PLUGIN
 *
 * In one process, in short alternating stretches (A B C C B A), the same loop runs
 *   A  through the program's malloc and free, that is the shim
 *   B  through the least that an operations table behind malloc can be: the
 *      indirect jump that every call into a library is (the PLT), to a function
 *      that does nothing but jump through a table of the backend's functions
 *   C  through that table in the program's own code, which no interposed malloc
 *      can reach: the program would have to be compiled for it
 * PLUGIN is the absolute path of a copy of the backend's allocator plugin (a
 * copy, so that it is another object than the one the shim has opened).
 * Prints "A B C A-B A-C": medians over all rounds, of the differences the median
 * of the rounds' differences.
 *
 * What it doesn't show: cache misses; a block is freed soon after it was
 * allocated, which is the backend's best case and dispatch's worst.
 */
#include "core/base/sysmem.h"
#include "core/plugin/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PAIRS = 20000, ROUNDS = 301, WARM = 20, RING = 16 };

static struct memopt_malloc table;
static void *ring[RING];
static const size_t sizes[8] = {16, 24, 32, 48, 64, 100, 128, 256};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Both loops are the same but for the call. */
#define LOOP(MALLOC, FREE)                                                                         \
    do {                                                                                           \
        for (unsigned i = 0; i < RING; i++)                                                        \
            ring[i] = MALLOC(sizes[i % 8]);                                                        \
        double start = now();                                                                      \
        for (unsigned i = 0; i < PAIRS; i++) {                                                     \
            FREE(ring[i % RING]);                                                                  \
            ring[i % RING] = MALLOC(sizes[i % 8]);                                                 \
        }                                                                                          \
        double end = now();                                                                        \
        for (unsigned i = 0; i < RING; i++)                                                        \
            FREE(ring[i]);                                                                         \
        return (end - start) / PAIRS;                                                              \
    } while (0)

/* B: the PLT's jump, then the table's. Tail calls: both are one instruction. */
static void *table_malloc(size_t size) {
    return table.malloc(size);
}
static void table_free(void *p) {
    table.free(p);
}
static void *(*volatile plt_malloc)(size_t) = table_malloc;
static void (*volatile plt_free)(void *) = table_free;
static __attribute__((noinline)) void *least_malloc(size_t size) {
    return plt_malloc(size);
}
static __attribute__((noinline)) void least_free(void *p) {
    plt_free(p);
}

static __attribute__((noinline)) double through_shim(void) {
    LOOP(malloc, free);
}
static __attribute__((noinline)) double through_least(void) {
    LOOP(least_malloc, least_free);
}
static __attribute__((noinline)) double through_table(void) {
    LOOP(table.malloc, table.free);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(double *values) {
    qsort(values, ROUNDS, sizeof *values, by_value);
    return values[ROUNDS / 2];
}

int main(int argc, char **argv) {
    static double shim[ROUNDS], least[ROUNDS], plain[ROUNDS], over_least[ROUNDS],
        over_plain[ROUNDS];
    struct memopt_error error = {0};
    struct mo_plugin *plugin;
    if (argc != 2) {
        fprintf(stderr, "usage: pair PLUGIN\n");
        return 2;
    }
    if (mo_plugin_load(MEMOPT_ALLOCATOR, argv[1], &plugin, &error) < 0) {
        fprintf(stderr, "pair: %s\n", error.message);
        return 1;
    }
    size_t size = plugin->descriptor.settings_size;
    void *settings = mo_sys_alloc(size ? size : 1);
    table.size = sizeof table;
    if (!settings || mo_options_init(plugin->table, settings, &mo_sys_allocator, &error) < 0 ||
        plugin->ops.allocator.open(&mo_host, settings, &table, &error) < 0) {
        fprintf(stderr, "pair: %s\n", error.message);
        return 1;
    }
    for (int i = -WARM; i < ROUNDS; i++) {
        double a = through_shim(), b = through_least(), c = through_table();
        c = (c + through_table()) / 2;
        b = (b + through_least()) / 2;
        a = (a + through_shim()) / 2;
        if (i < 0)
            continue;
        shim[i] = a;
        least[i] = b;
        plain[i] = c;
        over_least[i] = a - b;
        over_plain[i] = a - c;
    }
    printf("%.3f %.3f %.3f %.3f %.3f\n", median(shim), median(least), median(plain),
           median(over_least), median(over_plain));
    return 0;
}
