/*
 * watch.c - a service that watches its own memory and gives it back in time.
 *
 *     cc -o watch watch.c $(pkg-config --cflags --libs memopt)
 *     ./watch
 *     memopt run -- ./watch             its steps are events of the report
 *
 * The watch compares the process's resident memory with a budget, its cgroup with
 * the cgroup's limit, its address space with RLIMIT_AS, and looks at the time that
 * tasks wait for memory. Here the budget is so small that the cache has to go.
 */
#include <memopt/memopt.h>

#include <stdio.h>
#include <string.h>

enum { ENTRY = 1 << 20, ENTRIES = 48 };

struct cache {
    struct memopt_heap *heap;
    void *entries[ENTRIES];
    unsigned count, most; /* most: as many as are kept */
};

static uint64_t trim(struct cache *cache, unsigned most) {
    uint64_t freed = 0;
    while (cache->count > most) {
        freed += ENTRY;
        memopt_heap_free(cache->heap, cache->entries[--cache->count]);
    }
    return freed;
}

static uint64_t use_less_or_more(void *context, const struct memopt_pressure_event *event) {
    struct cache *cache = context;
    if (event->step == MEMOPT_PRESSURE_SHRINK)
        cache->most /= 4;
    else if (event->step == MEMOPT_PRESSURE_RELAX)
        cache->most *= 2;
    return trim(cache, cache->most);
}

static void print_step(void *context, const struct memopt_pressure_event *event) {
    static const char *const names[] = {"", "purge", "shrink", "spill", "fail", "relax"};
    (void)context;
    printf("%s at level %d: %.1f -> %.1f of %.1f MiB\n", names[event->step], event->level,
           (double)event->before / 1048576, (double)event->after / 1048576,
           (double)event->limit / 1048576);
}

int main(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_heap_options on_mmap = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_pressure_options options = MEMOPT_PRESSURE_OPTIONS_INIT;
    struct cache cache = {.most = ENTRIES};
    on_mmap.allocator = "mmap";
    options.sources = MEMOPT_PRESSURE_RSS; /* 0: all that there are */
    options.budget = 32 << 20;             /* 0: that of memopt.ini */
    options.interval = 1;                  /* every call reads; the default is 250 ms */
    if (memopt_heap_open("cache", &on_mmap, &cache.heap, &error) < 0 ||
        memopt_pressure_add_consumer(NULL, use_less_or_more, &cache, &error) < 0 ||
        memopt_pressure_start(&options, &error) < 0) {
        fprintf(stderr, "watch: %s\n", error.message);
        return 1;
    }
    memopt_pressure_set_callback(print_step, NULL);
    for (int request = 0; request < 200; request++) {
        if (cache.count < cache.most) {
            void *entry = memopt_heap_alloc(cache.heap, ENTRY);
            if (entry == NULL)
                break;
            cache.entries[cache.count++] = memset(entry, request, ENTRY);
        }
        memopt_pressure_poll();
    }
    struct memopt_pressure_statistics stats = MEMOPT_PRESSURE_STATISTICS_INIT;
    memopt_pressure_stats(&stats);
    printf("%u entries are left; level %d, %llu purges, %llu times less, %llu levels over\n",
           cache.count, stats.level, (unsigned long long)stats.purges,
           (unsigned long long)stats.shrinks, (unsigned long long)stats.relaxes);
    memopt_pressure_stop();
    memopt_heap_destroy(cache.heap, NULL);
    return 0;
}
