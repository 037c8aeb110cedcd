/*
 * optimizer.c - an optimizer whose state lives in a named heap.
 *
 *     cc -o optimizer optimizer.c $(pkg-config --cflags --libs memopt-train)
 *
 * Fits y = a x + b to noisy points, with the gradients of 4 batches to an update.
 * The program names no optimizer: optimizer.ini does. Without an INI it is AdamW,
 * in the default heap. Try MEMOPT_CONF=optimizer.ini, or another name there.
 */
#include <memopt/memopt.h>

#include <err.h>
#include <math.h>
#include <stdio.h>

enum { BATCH = 32, STEPS = 4000 };

/* y = 3 x - 2, with noise, from a small generator of random numbers. */
static float random_number(void) {
    static unsigned state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / (float)(1 << 23) - 1;
}

/* The gradient of the mean squared error over one batch; returns the error. */
static double batch(const float *p, float *gradient) {
    double loss = 0;
    gradient[0] = gradient[1] = 0;
    for (int i = 0; i < BATCH; i++) {
        float x = random_number(), y = 3 * x - 2 + 0.1f * random_number();
        float difference = p[0] * x + p[1] - y;
        gradient[0] += 2 * difference * x / BATCH;
        gradient[1] += 2 * difference / BATCH;
        loss += (double)(difference * difference) / BATCH;
    }
    return loss;
}

int main(void) {
    struct memopt_error error;
    struct memopt_optimizer *optimizer;
    float line[2] = {0, 0}, gradient[2];
    double loss = 0;

    /* What the program wants goes over what the INI has. */
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    options.settings = "accumulate=4 clip_norm=10 skip_nonfinite=yes";
    if (memopt_optimizer_create(&options, &optimizer, &error) < 0)
        errx(1, "%s", error.message);

    struct memopt_param param = MEMOPT_PARAM_INIT;
    param.name = "line";
    param.data = line;
    param.grad = gradient;
    param.count = 2;
    if (memopt_optimizer_add(optimizer, &param, NULL, &error) < 0)
        errx(1, "%s", error.message);

    /* the learning rate falls from its first value to nothing */
    struct memopt_schedule schedule = MEMOPT_SCHEDULE_INIT;
    schedule.kind = MEMOPT_SCHEDULE_COSINE;
    schedule.lr = 0.02;
    schedule.steps = STEPS;

    for (int i = 0; i < STEPS; i++) {
        struct memopt_step step = MEMOPT_STEP_INIT;
        double now = batch(line, gradient);
        loss = i == 0 ? now : 0.99 * loss + 0.01 * now;
        double lr;
        if (memopt_schedule_rate(&schedule, (uint64_t)i, &lr, &error) < 0 ||
            memopt_optimizer_set_number(optimizer, MEMOPT_ALL_GROUPS, "lr", lr, &error) < 0 ||
            memopt_optimizer_step(optimizer, &step, &error) < 0)
            errx(1, "%s", error.message);
        if ((i + 1) % 1000 == 0)
            printf("update %4llu: loss %.4f, gradient's norm %.3f\n",
                   (unsigned long long)step.updates, loss, step.grad_norm);
    }
    printf("%s: y = %.2f x %+.2f, %llu bytes of state\n", memopt_optimizer_name(optimizer),
           (double)line[0], (double)line[1],
           (unsigned long long)memopt_optimizer_state_bytes(optimizer));
    memopt_optimizer_destroy(optimizer);
    return fabsf(line[0] - 3) < 0.1f && fabsf(line[1] + 2) < 0.1f ? 0 : 1;
}
