/*
 * pressure.c - a training loop that lives with too little memory.
 *
 *     cc -o pressure pressure.c $(pkg-config --cflags --libs memopt)
 *     ./pressure
 *     memopt run -- ./pressure
 *
 * Activations have 8 MiB. When a batch needs more, the heap climbs its ladder: it
 * purges (the workspace is thrown away), tells consumers to use less (the batch is
 * halved from the next step on), and then serves this batch's blocks from a file.
 * `spill` and the directory can as well come from memopt.ini:
 *
 *     [pressure]
 *     spill_dir = /var/tmp
 *     [heap.activations]
 *     limit    = 8MiB
 *     on_limit = purge, shrink, spill
 */
#include <memopt/memopt.h>

#include <stdio.h>
#include <string.h>

enum { LAYERS = 6, SAMPLE = 64 * 1024, STEPS = 4 };

struct training {
    struct memopt_heap *heap;
    unsigned batch; /* samples */
    void *workspace;
};

static uint64_t drop_workspace(void *context) {
    struct training *training = context;
    uint64_t size = memopt_heap_usable_size(training->heap, training->workspace);
    memopt_heap_free(training->heap, training->workspace);
    training->workspace = NULL;
    return size;
}

static uint64_t halve_batch(void *context, const struct memopt_pressure_event *event) {
    struct training *training = context;
    if (event->step == MEMOPT_PRESSURE_SHRINK && training->batch > 1)
        training->batch /= 2;
    return 0; /* nothing is free yet: the next batch will be smaller */
}

static void print_step(void *context, const struct memopt_pressure_event *event) {
    static const char *const names[] = {"", "purge", "shrink", "spill", "fail", "relax"};
    (void)context;
    printf("  %s for %llu bytes: live %llu -> %llu, %s\n", names[event->step],
           (unsigned long long)event->wanted, (unsigned long long)event->before,
           (unsigned long long)event->after, event->served ? "served" : "not served");
}

/* Forward and backward: a block a layer, all live at once. */
static int train(struct training *training, unsigned batch) {
    char *layers[LAYERS];
    size_t size = (size_t)batch * SAMPLE;
    int count = 0, result = 0;
    for (; count < LAYERS; count++) {
        layers[count] = memopt_heap_alloc(training->heap, size);
        if (layers[count] == NULL) {
            result = -1;
            break;
        }
        memset(layers[count], count, size);
    }
    while (count-- > 0)
        memopt_heap_free(training->heap, layers[count]);
    return result;
}

int main(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    struct training training = {.batch = 32};
    options.limit = 8 << 20;
    options.on_limit = "purge, shrink, spill";
    if (memopt_heap_open("activations", &options, &training.heap, &error) < 0 ||
        memopt_heap_add_purger(training.heap, drop_workspace, &training, &error) < 0 ||
        memopt_pressure_add_consumer(training.heap, halve_batch, &training, &error) < 0) {
        fprintf(stderr, "pressure: %s\n", error.message);
        return 1;
    }
    memopt_pressure_set_callback(print_step, NULL);
    training.workspace = memopt_heap_alloc(training.heap, 1 << 20);
    for (int step = 1; step <= STEPS; step++) {
        unsigned batch = training.batch;
        printf("step %d, batch %u\n", step, batch);
        if (train(&training, batch) < 0) {
            perror("pressure");
            return 1;
        }
    }
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    memopt_heap_stats(training.heap, &stats);
    printf("at most %.1f MiB in memory, %llu blocks were spilled\n",
           (double)stats.peak_bytes / 1048576, (unsigned long long)stats.spills);
    memopt_heap_destroy(training.heap, NULL);
    return 0;
}
