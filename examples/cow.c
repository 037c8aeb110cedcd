/*
 * cow.c - snapshots of parameters while they change: an evaluation reads the
 * weights of a moment, and training goes on. Each snapshot shares what did not
 * change.
 *
 *     cc -o cow cow.c $(pkg-config --cflags --libs memopt)
 *     ./cow
 */
#include <memopt/memopt.h>

#include <stdio.h>
#include <stdlib.h>

enum { LAYERS = 8, LAYER = 256 * 1024, COUNT = LAYER / sizeof(float) };

static struct memopt_error error;

static void fail(void) {
    fprintf(stderr, "cow: %s\n", error.message);
    exit(1);
}

/* One step of training changes one layer: only that is asked for. */
static void train(struct memopt_cow *weights, int layer, float step) {
    void *p;
    if (memopt_cow_write(weights, (size_t)layer * LAYER, LAYER, &p, &error) < 0)
        fail();
    float *weight = p;
    for (size_t i = 0; i < COUNT; i++)
        weight[i] += step;
}

static double sum(const struct memopt_cow *weights) {
    const float *weight = memopt_cow_read(weights);
    double total = 0;
    for (size_t i = 0; i < (size_t)LAYERS * COUNT; i++)
        total += (double)weight[i];
    return total;
}

static void print(const char *name, const struct memopt_cow *weights) {
    struct memopt_cow_statistics stats = MEMOPT_COW_STATISTICS_INIT;
    memopt_cow_stats(weights, &stats);
    printf("%s: sum %.0f, %llu KiB shared, %llu KiB of its own\n", name, sum(weights),
           (unsigned long long)stats.shared_bytes / 1024,
           (unsigned long long)stats.private_bytes / 1024);
}

int main(void) {
    struct memopt_heap *heap;
    struct memopt_cow *weights, *first, *second;
    if (memopt_heap_open("weights", NULL, &heap, &error) < 0 ||
        memopt_cow_create(heap, (size_t)LAYERS * LAYER, NULL, &weights, &error) < 0)
        fail();
    for (int layer = 0; layer < LAYERS; layer++)
        train(weights, layer, 1);
    print("weights", weights);

    if (memopt_cow_clone(weights, &first, &error) < 0)
        fail();
    train(weights, 3, 1);
    if (memopt_cow_clone(weights, &second, &error) < 0)
        fail();
    train(weights, 4, 1);
    print("first", first);
    print("second", second);
    print("weights", weights);

    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    memopt_heap_stats(heap, &stats);
    printf("three of %d KiB in %llu KiB\n", LAYERS * LAYER / 1024,
           (unsigned long long)stats.live_bytes / 1024);
    memopt_cow_destroy(first);
    memopt_cow_destroy(second);
    memopt_cow_destroy(weights);
    return memopt_heap_destroy(heap, NULL) < 0;
}
