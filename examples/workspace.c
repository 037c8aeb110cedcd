/*
 * workspace.c - a training step without allocations: activations, gradients and
 * scratch memory of a small network share one block that is laid out beforehand.
 *
 *     cc -o workspace workspace.c $(pkg-config --cflags --libs memopt) -lm
 *     ./workspace [STEPS]
 *
 * The network (two hidden layers) learns the sine of its input. `memopt run -t stats
 * -- ./workspace 100` and `... 200` count the same number of allocations.
 */
#include <memopt/memopt.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 32, WIDTH = 32 };

/* The operations of a step, in their order. */
enum { LOAD, FORWARD_1, FORWARD_2, FORWARD_OUT, BACKWARD_OUT, BACKWARD_2, BACKWARD_1, OPS };
enum { INPUT, TARGET, HIDDEN_1, HIDDEN_2, OUTPUT, D_OUTPUT, D_HIDDEN_2, D_HIDDEN_1, TENSORS };

static const struct memopt_workspace_tensor tensors[TENSORS] = {
    [INPUT] = {"input", BATCH * sizeof(float), 0, LOAD, BACKWARD_1},
    [TARGET] = {"target", BATCH * sizeof(float), 0, LOAD, BACKWARD_OUT},
    [HIDDEN_1] = {"hidden 1", BATCH *WIDTH * sizeof(float), 0, FORWARD_1, BACKWARD_1},
    [HIDDEN_2] = {"hidden 2", BATCH *WIDTH * sizeof(float), 0, FORWARD_2, BACKWARD_2},
    [OUTPUT] = {"output", BATCH * sizeof(float), 0, FORWARD_OUT, BACKWARD_OUT},
    [D_OUTPUT] = {"d output", BATCH * sizeof(float), 0, BACKWARD_OUT, BACKWARD_2},
    [D_HIDDEN_2] = {"d hidden 2", BATCH *WIDTH * sizeof(float), 0, BACKWARD_2, BACKWARD_1},
    [D_HIDDEN_1] = {"d hidden 1", BATCH *WIDTH * sizeof(float), 0, BACKWARD_1, BACKWARD_1},
};

static float w1[WIDTH], b1[WIDTH], w2[WIDTH][WIDTH], b2[WIDTH], w3[WIDTH];
static struct memopt_workspace *space;
static unsigned seed = 1;

static float uniform(void) {
    seed = seed * 1103515245 + 12345;
    return (float)(seed >> 8 & 0xffff) / 32768 - 1;
}

/* An operation begins; what has ended is gone. */
static void begin(unsigned op) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (memopt_workspace_op(space, op, &error) < 0) {
        fprintf(stderr, "workspace: %s\n", error.message);
        exit(1);
    }
}

static float *get(size_t tensor) {
    float *data = memopt_workspace_get(space, tensor);
    if (data == NULL) {
        fprintf(stderr, "workspace: '%s' is not alive\n", tensors[tensor].name);
        exit(1);
    }
    return data;
}

static float step(float rate) {
    float loss = 0;
    begin(LOAD);
    float *input = get(INPUT), *target = get(TARGET);
    for (int i = 0; i < BATCH; i++) {
        input[i] = uniform() * 3;
        target[i] = sinf(input[i]);
    }
    begin(FORWARD_1);
    float *h1 = get(HIDDEN_1);
    for (int i = 0; i < BATCH; i++)
        for (int k = 0; k < WIDTH; k++)
            h1[i * WIDTH + k] = tanhf(input[i] * w1[k] + b1[k]);
    begin(FORWARD_2);
    float *h2 = get(HIDDEN_2);
    for (int i = 0; i < BATCH; i++)
        for (int k = 0; k < WIDTH; k++) {
            float sum = b2[k];
            for (int j = 0; j < WIDTH; j++)
                sum += h1[i * WIDTH + j] * w2[j][k];
            h2[i * WIDTH + k] = tanhf(sum);
        }
    begin(FORWARD_OUT);
    float *output = get(OUTPUT);
    for (int i = 0; i < BATCH; i++) {
        output[i] = 0;
        for (int k = 0; k < WIDTH; k++)
            output[i] += h2[i * WIDTH + k] * w3[k];
    }
    begin(BACKWARD_OUT);
    float *d_output = get(D_OUTPUT);
    for (int i = 0; i < BATCH; i++) {
        float difference = output[i] - target[i];
        loss += difference * difference / BATCH;
        d_output[i] = 2 * difference / BATCH;
    }
    begin(BACKWARD_2); /* output and target are gone */
    float *d_h2 = get(D_HIDDEN_2);
    for (int i = 0; i < BATCH; i++)
        for (int k = 0; k < WIDTH; k++) {
            float h = h2[i * WIDTH + k];
            d_h2[i * WIDTH + k] = d_output[i] * w3[k] * (1 - h * h);
        }
    for (int k = 0; k < WIDTH; k++)
        for (int i = 0; i < BATCH; i++)
            w3[k] -= rate * d_output[i] * h2[i * WIDTH + k];
    begin(BACKWARD_1);
    float *d_h1 = get(D_HIDDEN_1);
    for (int i = 0; i < BATCH; i++)
        for (int j = 0; j < WIDTH; j++) {
            float sum = 0, h = h1[i * WIDTH + j];
            for (int k = 0; k < WIDTH; k++)
                sum += d_h2[i * WIDTH + k] * w2[j][k];
            d_h1[i * WIDTH + j] = sum * (1 - h * h);
        }
    for (int i = 0; i < BATCH; i++)
        for (int k = 0; k < WIDTH; k++) {
            for (int j = 0; j < WIDTH; j++)
                w2[j][k] -= rate * d_h2[i * WIDTH + k] * h1[i * WIDTH + j];
            b2[k] -= rate * d_h2[i * WIDTH + k];
            w1[k] -= rate * d_h1[i * WIDTH + k] * input[i];
            b1[k] -= rate * d_h1[i * WIDTH + k];
        }
    return loss;
}

int main(int argc, char **argv) {
    int steps = argc > 1 ? atoi(argv[1]) : 3000;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (memopt_workspace_create(tensors, TENSORS, NULL, &space, &error) < 0) {
        fprintf(stderr, "workspace: %s\n", error.message);
        return 1;
    }
    for (int k = 0; k < WIDTH; k++) {
        w1[k] = uniform();
        b1[k] = uniform();
        w3[k] = uniform() / 4;
        for (int j = 0; j < WIDTH; j++)
            w2[j][k] = uniform() / 4;
    }
    float first = 0, loss = 0;
    for (int i = 0; i < steps; i++) {
        if (memopt_workspace_begin(space, &error) < 0)
            return 1;
        loss = step(0.05F);
        if (i == 0)
            first = loss;
        if (memopt_workspace_end(space, &error) < 0) {
            fprintf(stderr, "workspace: %s\n", error.message);
            return 1;
        }
    }
    struct memopt_workspace_statistics stats = MEMOPT_WORKSPACE_STATISTICS_INIT;
    memopt_workspace_stats(space, &stats);
    printf("loss: %.3f -> %.3f in %llu steps\n", (double)first, (double)loss,
           (unsigned long long)stats.steps);
    printf("planned: %llu bytes; all tensors: %llu; alive at once: %llu\n",
           (unsigned long long)stats.planned, (unsigned long long)stats.sum,
           (unsigned long long)stats.bound);
    memopt_workspace_destroy(space);
    return 0;
}
