/*
 * pair.c - what memopt's dispatch adds to a malloc/free pair, in nanoseconds.
 *
 * usage: memopt run -a NAME --set memopt.binding=dispatch -- pair PLUGIN
 *
 * In one process, in short alternating stretches (A B B A), the same loop runs
 *   A  through the program's malloc and free, that is the shim
 *   B  through the operations table itself: the backend's functions, called by
 *      pointer from the program's own code
 * PLUGIN is the absolute path of a copy of the backend's allocator plugin (a
 * copy, so that it is another object than the one the shim has opened).
 * Prints "A B A-B": medians over all rounds, of the difference the median of the
 * rounds' differences. The difference has the PLT's jump in it, twice a pair, which
 * every call into a library pays.
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

static __attribute__((noinline)) double through_shim(void) {
    LOOP(malloc, free);
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
    static double shim[ROUNDS], plain[ROUNDS], over[ROUNDS];
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
        double a = through_shim(), b = through_table();
        b = (b + through_table()) / 2;
        a = (a + through_shim()) / 2;
        if (i < 0)
            continue;
        shim[i] = a;
        plain[i] = b;
        over[i] = a - b;
    }
    printf("%.3f %.3f %.3f\n", median(shim), median(plain), median(over));
    return 0;
}
