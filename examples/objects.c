/*
 * objects.c - batches on their way from a loader to a trainer: a pool of eight, so
 * a loader that is ahead waits for the trainer instead of filling the memory.
 *
 *     cc -o objects objects.c $(pkg-config --cflags --libs memopt) -pthread
 *     ./objects [BATCHES]
 */
#include <memopt/memopt.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 256, POOL = 8 };

struct batch {
    struct batch *next;
    int number, used;
    float samples[SAMPLES];
};

static struct memopt_objects *pool;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static struct batch *first, **last = &first;
static int batches = 1000;

/* Hooks: once for each object, and at each release. */
static int make_batch(void *context, void *object) {
    struct batch *batch = object;
    ++*(int *)context;
    batch->used = 0;
    return 0;
}
static void reset_batch(void *context, void *object) {
    struct batch *batch = object;
    (void)context;
    batch->used++;
}

static void *load(void *argument) {
    (void)argument;
    for (int i = 0; i < batches; i++) {
        struct batch *batch = memopt_objects_acquire(pool); /* waits for one */
        if (batch == NULL)
            abort();
        batch->number = i;
        for (int k = 0; k < SAMPLES; k++)
            batch->samples[k] = (float)(i % 10);
        batch->next = NULL;
        pthread_mutex_lock(&lock);
        *last = batch;
        last = &batch->next;
        pthread_cond_signal(&filled);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

int main(int argc, char **argv) {
    int made = 0, reused = 0;
    if (argc > 1)
        batches = atoi(argv[1]);
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_objects_options options = MEMOPT_OBJECTS_OPTIONS_INIT;
    options.name = "batches";
    options.object_size = sizeof(struct batch);
    options.alignment = 64;
    options.capacity = POOL;
    options.policy = MEMOPT_OBJECTS_WAIT;
    options.construct = make_batch;
    options.reset = reset_batch;
    options.context = &made;
    if (memopt_objects_create(&options, &pool, &error) < 0) {
        fprintf(stderr, "objects: %s\n", error.message);
        return 1;
    }
    pthread_t loader;
    if (pthread_create(&loader, NULL, load, NULL) != 0)
        return 1;
    double sum = 0;
    for (int i = 0; i < batches; i++) {
        pthread_mutex_lock(&lock);
        while (first == NULL)
            pthread_cond_wait(&filled, &lock);
        struct batch *batch = first;
        first = batch->next;
        if (first == NULL)
            last = &first;
        pthread_mutex_unlock(&lock);
        for (int k = 0; k < SAMPLES; k++)
            sum += (double)batch->samples[k];
        reused += batch->used > 0;
        memopt_objects_release(pool, batch, NULL);
    }
    pthread_join(loader, NULL);
    struct memopt_objects_statistics stats = MEMOPT_OBJECTS_STATISTICS_INIT;
    memopt_objects_stats(pool, &stats);
    printf("mean: %.2f\n", sum / batches / SAMPLES);
    printf("batches: %llu, made: %d, used again: %d times\n", (unsigned long long)stats.acquires,
           made, reused);
    printf("at most %llu at once\n", (unsigned long long)stats.peak);
    if (memopt_objects_destroy(pool, &error) < 0) {
        fprintf(stderr, "objects: %s\n", error.message);
        return 1;
    }
    return 0;
}
