/*
 * batch.c - training on when memory runs out: the batch stays what it is, and is
 * worked on in as many pieces as it takes.
 *
 *     cc -o batch batch.c $(pkg-config --cflags --libs memopt-train) -lm
 *     ./batch
 *
 * A small network learns a function. What a piece needs is in the heap
 * "activations", which has a limit (in memopt.ini it could be any). Where a piece
 * does not fit, the allocation fails, batch control halves it and the step goes
 * on with the samples that are left. Halfway through the limit is raised, as if
 * another part of the program had given memory back: the pieces grow again.
 */
#include <memopt/memopt.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 256, HIDDEN = 128, WEIGHTS = 3 * HIDDEN, STEPS = 60 };

/* y = sum over h of out[h] * tanh(in[h] * x + bias[h]) */
struct network {
    float in[HIDDEN], bias[HIDDEN], out[HIDDEN];
};

struct training {
    struct memopt_heap *activations;
    struct network network, gradient, sum; /* the gradients of a piece, of the step */
    double loss;                           /* over the step */
};

static float sample(uint64_t i) {
    return 4.0f * (float)i / BATCH - 2.0f;
}

/* The mean gradient over samples first to first + count - 1. */
static int train_on(struct training *t, uint64_t first, uint64_t count) {
    struct network *n = &t->network, *g = &t->gradient;
    float *hidden = memopt_heap_alloc(t->activations, count * HIDDEN * sizeof(*hidden));
    float *wrong = memopt_heap_alloc(t->activations, count * sizeof(*wrong));
    int r = 0;
    if (hidden == NULL || wrong == NULL) {
        r = -ENOMEM;
        goto release;
    }
    for (uint64_t i = 0; i < count; i++) {
        float x = sample(first + i), y = 0;
        for (int h = 0; h < HIDDEN; h++) {
            hidden[i * HIDDEN + (uint64_t)h] = tanhf(n->in[h] * x + n->bias[h]);
            y += n->out[h] * hidden[i * HIDDEN + (uint64_t)h];
        }
        wrong[i] = y - sinf(2 * x);
        t->loss += (double)wrong[i] * (double)wrong[i] / BATCH;
    }
    memset(g, 0, sizeof(*g));
    for (uint64_t i = 0; i < count; i++)
        for (int h = 0; h < HIDDEN; h++) {
            float a = hidden[i * HIDDEN + (uint64_t)h], d = 2 * wrong[i] / (float)count;
            g->out[h] += d * a;
            g->bias[h] += d * n->out[h] * (1 - a * a);
            g->in[h] += d * n->out[h] * (1 - a * a) * sample(first + i);
        }
release:
    memopt_heap_free(t->activations, wrong);
    memopt_heap_free(t->activations, hidden);
    return r;
}

static int step(struct training *t, struct memopt_batch *batch, struct memopt_error *error) {
    struct memopt_batch_piece piece = MEMOPT_BATCH_PIECE_INIT;
    memset(&t->sum, 0, sizeof(t->sum));
    t->loss = 0;
    while (memopt_batch_next(batch, &piece) == 1) {
        if (train_on(t, piece.first, piece.count) == -ENOMEM) {
            if (memopt_batch_failed(batch, error) < 0)
                return error->code;
            continue; /* fewer samples, from the same one on */
        }
        memopt_accumulate((float *)&t->sum, MEMOPT_DTYPE_F32, &t->gradient, WEIGHTS, piece.weight,
                          error);
        memopt_batch_done(batch);
    }
    return memopt_accumulate((float *)&t->network, MEMOPT_DTYPE_F32, &t->sum, WEIGHTS, -0.005,
                             error);
}

static int train(struct training *t, struct memopt_batch *batch, struct memopt_error *error) {
    uint64_t size = 0;
    for (int i = 0; i < STEPS; i++) {
        struct memopt_batch_statistics stats = MEMOPT_BATCH_STATISTICS_INIT;
        if (i == STEPS / 2) {
            memopt_heap_set_limit(t->activations, 200 << 10);
            printf("step %d: the limit is 200 KiB now\n", i);
        }
        int r = step(t, batch, error);
        if (r < 0)
            return r;
        memopt_batch_stats(batch, &stats);
        if (stats.current != size || i + 1 == STEPS)
            printf("step %d: loss %.4f, up to %llu samples at a time, %llu failures\n", i, t->loss,
                   (unsigned long long)stats.current, (unsigned long long)stats.failures);
        size = stats.current;
    }
    return 0;
}

int main(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    static struct training training;
    struct memopt_heap_options heap = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_batch_options options = MEMOPT_BATCH_OPTIONS_INIT;
    struct memopt_batch *batch = NULL;
    for (int h = 0; h < HIDDEN; h++) {
        training.network.in[h] = (float)(h % 16) / 4;
        training.network.bias[h] = (float)(h / 16 - 4) / 2;
        training.network.out[h] = h % 2 ? 0.05f : -0.05f;
    }
    heap.limit = 50 << 10;
    options.batch = BATCH;
    options.grow_after = 2;
    options.forget_after = 10;
    if (memopt_heap_open("activations", &heap, &training.activations, &error) < 0 ||
        memopt_batch_new(&options, &batch, &error) < 0 || train(&training, batch, &error) < 0)
        fprintf(stderr, "batch: %s\n", error.message);
    memopt_batch_free(batch);
    return error.code < 0;
}
