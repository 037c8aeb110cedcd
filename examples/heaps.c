/*
 * heaps.c - named heaps: a small training step whose gradients, activations and
 * cache have a heap each.
 *
 *     cc -o heaps heaps.c $(pkg-config --cflags --libs memopt)
 *     ./heaps [STEPS]
 *
 * The program names its heaps and nothing else; which allocator each is on, and
 * how large it may grow, is in memopt.ini (examples/heaps.ini is one to copy):
 *
 *     MEMOPT_CONF=heaps.ini ./heaps
 *     memopt run -a mimalloc -- ./heaps
 *
 * The cache keeps what it can: at its limit a callback throws its oldest entries
 * out, so that a request there fails only when the cache is empty.
 */
#include <memopt/memopt.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARAMETERS = 40000, ENTRY = 64 * 1024, ENTRIES = 64 };

struct cache {
    struct memopt_heap *heap;
    void *entries[ENTRIES]; /* a ring: first is the oldest */
    size_t first, count;
    unsigned evicted;
};

static int evict_oldest(void *context, const struct memopt_limit_event *event) {
    struct cache *cache = context;
    (void)event;
    if (cache->count == 0)
        return MEMOPT_LIMIT_FAIL;
    memopt_heap_free(cache->heap, cache->entries[cache->first]);
    cache->first = (cache->first + 1) % ENTRIES;
    cache->count--;
    cache->evicted++;
    return MEMOPT_LIMIT_RETRY;
}

static int cache_add(struct cache *cache, int value) {
    if (cache->count == ENTRIES)
        evict_oldest(cache, NULL);
    void *entry = memopt_heap_alloc(cache->heap, ENTRY);
    if (entry == NULL)
        return -1;
    memset(entry, value, ENTRY);
    cache->entries[(cache->first + cache->count++) % ENTRIES] = entry;
    return 0;
}

static struct memopt_heap *open_heap(const char *name) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_heap *heap;
    if (memopt_heap_open(name, NULL, &heap, &error) < 0) {
        fprintf(stderr, "heaps: %s\n", error.message);
        exit(1);
    }
    return heap;
}

static int print_row(void *context, struct memopt_heap *heap,
                     const struct memopt_heap_statistics *stats) {
    (void)context, (void)heap;
    printf("%-12s %-9s %10.1f %10.1f %8llu %8llu ", stats->name, stats->allocator,
           (double)stats->live_bytes / 1024, (double)stats->peak_bytes / 1024,
           (unsigned long long)stats->allocations, (unsigned long long)stats->refused);
    if (isnan(stats->fragmentation))
        puts("      -");
    else
        printf("%6.1f%%%s\n", stats->fragmentation * 100, stats->whole_backend ? " (backend)" : "");
    return 0;
}

int main(int argc, char **argv) {
    int steps = argc > 1 ? atoi(argv[1]) : 100;
    struct memopt_heap *gradients = open_heap("gradients");
    struct memopt_heap *activations = open_heap("activations");
    struct cache cache = {.heap = open_heap("cache")};
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    memopt_heap_stats(cache.heap, &stats);
    if (stats.limit == MEMOPT_NO_LIMIT) /* memopt.ini gives none: a cache must have one */
        memopt_heap_set_limit(cache.heap, 1 << 20);
    memopt_heap_set_limit_callback(cache.heap, evict_oldest, &cache);

    float *gradient = memopt_heap_aligned_alloc(gradients, 64, PARAMETERS * sizeof(float));
    if (gradient == NULL) {
        perror("heaps: gradients");
        return 1;
    }
    memset(gradient, 0, PARAMETERS * sizeof(float));
    for (int step = 0; step < steps; step++) {
        float *layer = memopt_heap_calloc(activations, PARAMETERS, sizeof(float));
        if (layer == NULL || cache_add(&cache, step) < 0) {
            perror("heaps");
            return 1;
        }
        for (size_t i = 0; i < PARAMETERS; i++)
            gradient[i] += layer[i] + 0.5F;
        memopt_heap_free(activations, layer);
    }

    printf("%-12s %-9s %10s %10s %8s %8s %7s\n", "heap", "allocator", "live KiB", "peak KiB",
           "blocks", "refused", "fragm.");
    memopt_heap_each(print_row, NULL);
    printf("cache: %u entries evicted, %zu kept\n", cache.evicted, cache.count);
    printf("gradient[0] = %g\n", (double)gradient[0]);
    memopt_heap_destroy(gradients, NULL); /* and the array in it */
    memopt_heap_destroy(activations, NULL);
    memopt_heap_destroy(cache.heap, NULL);
    return 0;
}
