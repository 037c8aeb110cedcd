/*
 * checkpoints.c - a deep network in little memory: the planner says which
 * activations to keep, the others are computed again.
 *
 *     cc -o checkpoints checkpoints.c $(pkg-config --cflags --libs memopt-train) -lm
 *     ./checkpoints
 *
 * One pass forward and back through 32 layers of different widths, first with
 * every activation kept, then by plans for smaller and smaller budgets. All
 * activations and their gradients are in the heap "activations", whose limit is
 * the budget: an allocation over it would fail. The gradient that comes out is
 * the same to the bit.
 */
#include <memopt/memopt.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 32, GRAIN = 4096 };

struct chain {
    struct memopt_heap *heap;
    size_t width[LAYERS + 1];
    float *activation[LAYERS + 1], *gradient[LAYERS + 1];
    size_t computed; /* activations, in a pass */
    double result;   /* of the gradient of the first activation, a digest */
};

static float *new_floats(struct chain *c, size_t count) {
    return memopt_heap_alloc(c->heap, count * sizeof(float));
}

/* a[i][j] = tanh(a[i - 1][j] + j / width), wrapped around where widths differ */
static int forward(void *context, size_t i) {
    struct chain *c = context;
    c->activation[i] = new_floats(c, c->width[i]);
    if (c->activation[i] == NULL)
        return -ENOMEM;
    for (size_t j = 0; j < c->width[i]; j++)
        c->activation[i][j] =
            tanhf(c->activation[i - 1][j % c->width[i - 1]] + (float)j / (float)c->width[i]);
    c->computed++;
    if (i < LAYERS)
        return 0;
    /* the last layer is the loss's, too: the mean of a */
    c->gradient[i] = new_floats(c, c->width[i]);
    if (c->gradient[i] == NULL)
        return -ENOMEM;
    for (size_t j = 0; j < c->width[i]; j++)
        c->gradient[i][j] = 1.0f / (float)c->width[i];
    return 0;
}

static int backward(void *context, size_t i) {
    struct chain *c = context;
    if (i > 1) {
        c->gradient[i - 1] = new_floats(c, c->width[i - 1]);
        if (c->gradient[i - 1] == NULL)
            return -ENOMEM;
        memset(c->gradient[i - 1], 0, c->width[i - 1] * sizeof(float));
        for (size_t j = 0; j < c->width[i]; j++)
            c->gradient[i - 1][j % c->width[i - 1]] +=
                c->gradient[i][j] * (1 - c->activation[i][j] * c->activation[i][j]);
    } else {
        c->result = 0;
        for (size_t j = 0; j < c->width[1]; j++)
            c->result += (double)c->gradient[1][j] * (double)(j % 7 + 1);
    }
    memopt_heap_free(c->heap, c->gradient[i]);
    c->gradient[i] = NULL;
    return 0;
}

static void release(void *context, size_t i) {
    struct chain *c = context;
    memopt_heap_free(c->heap, c->activation[i]);
    c->activation[i] = NULL;
}

/* A pass in a heap that may have `budget` bytes; 0: as many as it wants. */
static int pass(struct chain *c, const struct memopt_layer *layers, uint64_t budget,
                struct memopt_error *error) {
    static const struct memopt_checkpoint_calls calls = {sizeof(calls), forward, backward, release};
    unsigned char keep[LAYERS];
    struct memopt_checkpoints plan = MEMOPT_CHECKPOINTS_INIT;
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    options.limit = budget > 0 ? budget : MEMOPT_NO_LIMIT;
    int r = memopt_checkpoint_plan(layers, LAYERS, budget > 0 ? budget : UINT64_MAX, keep, &plan,
                                   error);
    if (r < 0 || (r = memopt_heap_open("activations", &options, &c->heap, error)) < 0)
        return r;
    c->computed = 0;
    r = memopt_checkpoint_run(LAYERS, keep, &calls, c, error);
    memopt_heap_stats(c->heap, &stats);
    if (r == 0)
        printf("%2zu of %d kept, %2zu computed again: planned %llu KiB, held %llu KiB, result %a\n",
               plan.count, LAYERS, c->computed - LAYERS, (unsigned long long)plan.peak >> 10,
               (unsigned long long)stats.peak_bytes >> 10, c->result);
    else if (r == -ENOMEM)
        printf("no memory, within a budget of %llu bytes\n", (unsigned long long)budget);
    memopt_heap_destroy(c->heap, NULL);
    return r;
}

/* What a block of that many floats takes in the heap: allocators round up, each
 * in its way, and libc gives a few bytes more or less. */
static uint64_t bytes_of(struct memopt_heap *heap, size_t floats) {
    void *probe = memopt_heap_alloc(heap, floats * sizeof(float));
    uint64_t bytes = memopt_heap_usable_size(heap, probe) + 64;
    memopt_heap_free(heap, probe);
    return bytes;
}

static int describe(struct chain *c, struct memopt_layer *layers, struct memopt_error *error) {
    int r = memopt_heap_open("activations", NULL, &c->heap, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i <= LAYERS; i++)
        c->width[i] = GRAIN * (1 + i * 5 % 4);
    for (size_t i = 1; i <= LAYERS; i++) {
        uint64_t bytes = bytes_of(c->heap, c->width[i]);
        layers[i - 1] = (struct memopt_layer){bytes, bytes, 0, 0, c->width[i]};
    }
    return memopt_heap_destroy(c->heap, error);
}

int main(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_layer layers[LAYERS];
    static struct chain chain;
    static float input[GRAIN];
    uint64_t least = 0, full = 0;
    chain.activation[0] = input;
    int r = describe(&chain, layers, &error);
    for (size_t i = 0; i < LAYERS; i++)
        full += layers[i].activation;
    if (r == 0)
        r = memopt_checkpoint_least(layers, LAYERS, &least, &error);
    if (r == 0)
        r = pass(&chain, layers, 0, &error);
    for (uint64_t budget = full * 3 / 4; r == 0 && budget > least; budget = budget * 2 / 3)
        r = pass(&chain, layers, budget, &error);
    if (r == 0)
        r = pass(&chain, layers, least, &error);
    if (r == 0 && pass(&chain, layers, least - 1, &error) == -ENOSPC)
        printf("%s\n", error.message);
    else
        fprintf(stderr, "checkpoints: %s\n", error.message);
    return r < 0;
}
