/*
 * buffers.c - gradients from a pool: rented at each step, returned when the step
 * ends, and after the first step nothing comes from the allocator any more.
 *
 *     cc -o buffers buffers.c $(pkg-config --cflags --libs memopt)
 *     ./buffers [STEPS]
 *
 * A network of three layers descends on a made-up loss. Each step rents a gradient
 * a layer through a scope: it goes back however the step ends. The heap that the
 * pool takes from is "gradients", so memopt.ini can give it a backend and a limit.
 */
#include <memopt/memopt.h>

#include <stdio.h>
#include <stdlib.h>

enum { LAYERS = 3 };
static const size_t shapes[LAYERS][2] = {{784, 256}, {256, 128}, {128, 10}};

static void die(const char *what, const struct memopt_error *error) {
    fprintf(stderr, "buffers: %s: %s\n", what, error->message);
    exit(1);
}

static int step(struct memopt_buffers *pool, float *const *weights, struct memopt_error *error) {
    memopt_auto_buffer_scope struct memopt_buffer_scope scope = MEMOPT_BUFFER_SCOPE_INIT(pool);
    struct memopt_buffer *gradients[LAYERS];
    for (int i = LAYERS - 1; i >= 0; i--) { /* backwards, as gradients come */
        if (memopt_buffer_scope_rent(&scope, MEMOPT_DTYPE_F32, 2, shapes[i], &gradients[i], error) <
            0)
            return -1; /* what is rented goes back */
        float *g = gradients[i]->data;
        for (size_t k = 0; k < gradients[i]->elements; k++)
            g[k] = 2 * (weights[i][k] - 1);
    }
    for (int i = 0; i < LAYERS; i++) {
        const float *g = gradients[i]->data;
        for (size_t k = 0; k < gradients[i]->elements; k++)
            weights[i][k] -= 0.25F * g[k];
    }
    return 0;
}

int main(int argc, char **argv) {
    int steps = argc > 1 ? atoi(argv[1]) : 20;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_heap *heap;
    if (memopt_heap_open("gradients", NULL, &heap, &error) < 0)
        die("gradients", &error);

    struct memopt_buffers_options options = MEMOPT_BUFFERS_OPTIONS_INIT;
    options.heap = heap;
    options.name = "gradients";
    options.debug = MEMOPT_DEBUG_OFF; /* in debug it takes a little more, for a while */
    struct memopt_buffers *pool;
    if (memopt_buffers_create(&options, &pool, &error) < 0)
        die("pool", &error);

    float *weights[LAYERS];
    for (int i = 0; i < LAYERS; i++)
        if ((weights[i] = calloc(shapes[i][0] * shapes[i][1], sizeof(float))) == NULL)
            return 1;
    struct memopt_heap_statistics h = MEMOPT_HEAP_STATISTICS_INIT;
    uint64_t after_first = 0;
    for (int s = 0; s < steps; s++) {
        if (step(pool, weights, &error) < 0)
            die("step", &error);
        memopt_heap_stats(heap, &h);
        if (s == 0)
            after_first = h.allocations;
    }

    struct memopt_buffers_statistics p = MEMOPT_BUFFERS_STATISTICS_INIT;
    memopt_buffers_stats(pool, &p);
    printf("weight: %.6f\n", (double)weights[0][0]);
    printf("rented: %llu times, %llu of them from fresh memory\n", (unsigned long long)p.rents,
           (unsigned long long)p.fresh);
    printf("high-water mark: %.1f KiB, held %.1f KiB\n", (double)p.peak_bytes / 1024,
           (double)p.held_bytes / 1024);
    printf("allocations after the first step: %llu\n",
           (unsigned long long)(h.allocations - after_first));
    printf("trimmed: %.1f KiB\n", (double)memopt_buffers_trim(pool, 0) / 1024);

    for (int i = 0; i < LAYERS; i++)
        free(weights[i]);
    if (memopt_buffers_destroy(pool, &error) < 0)
        die("destroy", &error);
    memopt_heap_destroy(heap, NULL);
    return 0;
}
