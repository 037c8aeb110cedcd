/*
 * fashion.c - trains a small network on Fashion-MNIST, every kind of memory that
 * takes in a heap of its own: data, parameters, gradients, activations, the
 * optimizer's state. memopt.ini beside this file says which allocator each heap
 * is on, how large it may grow, and which optimizer does the work.
 *
 *     apt-get install dataset-fashion-mnist zlib1g-dev
 *     cc -O3 -ffp-contract=off -o fashion *.c $(pkg-config --cflags --libs memopt-train) -lz -lm
 *     fashion -c memopt.ini             88 % in six epochs, some seconds
 *     memopt run -- fashion -c memopt.ini
 *
 *   fashion.c   heaps, optimizer, epochs, the table at the end
 *   net.c       the network
 *   data.c      the images
 *
 * Same seed, same losses: bit for bit, whatever the heaps are on (--exact prints
 * them so).
 */
#include "net.h"

#include <memopt/memopt.h>

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct memopt_error error;

static struct memopt_heap *open_heap(const char *name) {
    struct memopt_heap *heap;
    if (memopt_heap_open(name, NULL, &heap, &error) < 0)
        errx(1, "%s", error.message);
    return heap;
}

static float *floats(struct memopt_heap *heap, size_t count) {
    float *p = memopt_heap_aligned_alloc(heap, 64, count * sizeof(*p));
    if (p == NULL)
        err(1, "%s: %zu floats", memopt_heap_name(heap), count);
    return p;
}

/* ------------------------------------------------------------- one training */

struct training {
    struct memopt_heap *data, *parameters, *gradients, *activation_heap;
    struct memopt_buffers *activations; /* a pool over its heap */
    struct dataset train, test;
    float *parameter[TENSORS], *gradient[TENSORS];
    struct memopt_optimizer *optimizer;
    struct memopt_schedule rates;
    uint64_t steps;
    uint32_t *order;
};

/* Up to what [optimizer] says over a fifth of all steps, then down along a cosine
 * (Smith and Topin 2018, "Super-convergence"). */
static struct memopt_schedule plan_rates(double peak, uint64_t steps) {
    struct memopt_schedule schedule = MEMOPT_SCHEDULE_INIT;
    schedule.kind = MEMOPT_SCHEDULE_COSINE;
    schedule.lr = peak;
    schedule.warmup = steps / 5;
    schedule.steps = steps - schedule.warmup;
    return schedule;
}

static void start(struct training *t, const char *directory, size_t most, unsigned long epochs,
                  uint64_t seed) {
    t->data = open_heap("dataset");
    t->parameters = open_heap("parameters");
    t->gradients = open_heap("gradients");
    t->activation_heap = open_heap("activations");
    struct memopt_buffers_options pool = MEMOPT_BUFFERS_OPTIONS_INIT;
    pool.heap = t->activation_heap;
    pool.name = "activations";
    if (memopt_buffers_create(&pool, &t->activations, &error) < 0)
        errx(1, "%s", error.message);
    if (dataset_read(t->data, directory, "train", most, &t->train, &error) != 0 ||
        dataset_read(t->data, directory, "t10k", most, &t->test, &error) != 0)
        errx(1, "%s", error.message);
    t->order = memopt_heap_calloc(t->data, t->train.count, sizeof(*t->order));
    if (t->order == NULL)
        err(1, "dataset");
    for (size_t i = 0; i < t->train.count; i++)
        t->order[i] = (uint32_t)i;

    /* name, settings and the heap of the state: as [optimizer] has them */
    double peak = 0;
    if (memopt_optimizer_create(NULL, &t->optimizer, &error) < 0 ||
        memopt_optimizer_get_number(t->optimizer, 0, "lr", &peak, &error) < 0)
        errx(1, "%s", error.message);
    t->rates = plan_rates(peak, epochs * ((t->train.count + BATCH - 1) / BATCH));
    for (int i = 0; i < TENSORS; i++) {
        t->parameter[i] = floats(t->parameters, tensor_count(i));
        t->gradient[i] = floats(t->gradients, tensor_count(i));
        struct memopt_param param = MEMOPT_PARAM_INIT;
        param.name = tensor_names[i];
        param.data = t->parameter[i];
        param.grad = t->gradient[i];
        param.count = tensor_count(i);
        param.rank = 2;
        param.shape[0] = tensor_shapes[i][0];
        param.shape[1] = tensor_shapes[i][1];
        if (memopt_optimizer_add(t->optimizer, &param, NULL, &error) < 0)
            errx(1, "%s", error.message);
    }
    net_start(t->parameter, seed);
}

/* Rents the activations of a batch; they go back when the scope ends. */
static void rent_activations(struct memopt_buffer_scope *scope, float *activation[ACTIVATIONS]) {
    for (int i = 0; i < ACTIVATIONS; i++) {
        struct memopt_buffer *buffer;
        if (memopt_buffer_scope_rent(scope, MEMOPT_DTYPE_F32, 2, activation_shapes[i], &buffer,
                                     &error) < 0)
            errx(1, "%s", error.message);
        activation[i] = buffer->data;
    }
}

static void shuffle(struct training *t, uint64_t *seed) {
    for (size_t i = t->train.count - 1; i > 0; i--) {
        *seed = *seed * 6364136223846793005 + 1442695040888963407; /* Knuth's MMIX */
        size_t j = (*seed >> 33) % (i + 1);
        uint32_t other = t->order[i];
        t->order[i] = t->order[j];
        t->order[j] = other;
    }
}

static double epoch(struct training *t, int exact) {
    double sum = 0;
    for (size_t begin = 0; begin < t->train.count; begin += BATCH) {
        size_t count = t->train.count - begin < BATCH ? t->train.count - begin : BATCH;
        float *activation[ACTIVATIONS];
        memopt_auto_buffer_scope struct memopt_buffer_scope scope =
            MEMOPT_BUFFER_SCOPE_INIT(t->activations);
        rent_activations(&scope, activation);
        double loss =
            net_forward(t->parameter, activation, &t->train, t->order + begin, count, NULL);
        net_backward(t->parameter, t->gradient, activation, &t->train, t->order + begin, count);
        double lr;
        if (memopt_schedule_rate(&t->rates, ++t->steps, &lr, &error) < 0 ||
            memopt_optimizer_set_number(t->optimizer, MEMOPT_ALL_GROUPS, "lr", lr, &error) < 0 ||
            memopt_optimizer_step(t->optimizer, NULL, &error) < 0)
            errx(1, "%s", error.message);
        if (exact)
            printf("step %llu loss %a\n", (unsigned long long)t->steps, loss);
        sum += loss;
    }
    return sum / (double)t->train.count;
}

static double accuracy(struct training *t) {
    size_t right = 0;
    for (size_t begin = 0; begin < t->test.count; begin += BATCH) {
        size_t count = t->test.count - begin < BATCH ? t->test.count - begin : BATCH, some;
        uint32_t order[BATCH];
        float *activation[ACTIVATIONS];
        memopt_auto_buffer_scope struct memopt_buffer_scope scope =
            MEMOPT_BUFFER_SCOPE_INIT(t->activations);
        for (size_t i = 0; i < count; i++)
            order[i] = (uint32_t)(begin + i);
        rent_activations(&scope, activation);
        net_forward(t->parameter, activation, &t->test, order, count, &some);
        right += some;
    }
    return (double)right / (double)t->test.count;
}

static void end(struct training *t) {
    memopt_optimizer_destroy(t->optimizer);
    memopt_buffers_destroy(t->activations, NULL);
    memopt_heap_destroy(t->activation_heap, NULL);
    memopt_heap_destroy(t->gradients, NULL);
    memopt_heap_destroy(t->parameters, NULL);
    memopt_heap_destroy(t->data, NULL);
}

/* ------------------------------------------------------------ what is printed */

static int print_heap(void *context, struct memopt_heap *heap,
                      const struct memopt_heap_statistics *stats) {
    (void)context, (void)heap;
    printf("%-12s %-9s %10.1f %10.1f %11llu ", stats->name, stats->allocator,
           (double)stats->live_bytes / 1024, (double)stats->peak_bytes / 1024,
           (unsigned long long)stats->allocations);
    if (stats->limit == MEMOPT_NO_LIMIT)
        printf("%10s ", "-");
    else
        printf("%10.1f ", (double)stats->limit / 1024);
    if (isnan(stats->fragmentation))
        puts("      -");
    else
        printf("%6.1f%%%s\n", stats->fragmentation * 100,
               stats->whole_backend ? " (all of the allocator)" : "");
    return 0;
}

static unsigned long number(const char *text, const char *what, unsigned long most) {
    char *rest;
    errno = 0;
    unsigned long value = strtoul(text, &rest, 10);
    if (errno != 0 || rest == text || *rest != '\0' || *text == '-' || value > most)
        errx(2, "%s is '%s', not a number from 0 to %lu", what, text, most);
    return value;
}

static void usage(FILE *stream) {
    fputs("usage: fashion [-c FILE] [--data DIR] [--epochs N] [--images N] [--seed N] [--exact]\n"
          "  -c FILE      the INI that says where the heaps are and how to learn\n"
          "  --data DIR   where the images are; /usr/share/datasets/fashion-mnist\n"
          "  --epochs N   how often to go through them; 6\n"
          "  --images N   use the first N of them only; 0: all\n"
          "  --seed N     of the weights and of the order of the images; 1\n"
          "  --exact      print each step's loss, to the last bit\n",
          stream);
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"data", 1, NULL, 'd'}, {"epochs", 1, NULL, 'e'}, {"images", 1, NULL, 'i'},
        {"seed", 1, NULL, 's'}, {"exact", 0, NULL, 'x'},  {"help", 0, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *configuration = NULL, *directory = "/usr/share/datasets/fashion-mnist";
    unsigned long epochs = 6, most = 0, seed = 1;
    int exact = 0, option;
    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1)
        switch (option) {
        case 'c':
            configuration = optarg;
            break;
        case 'd':
            directory = optarg;
            break;
        case 'e':
            epochs = number(optarg, "--epochs", 1000);
            break;
        case 'i':
            most = number(optarg, "--images", 60000);
            break;
        case 's':
            seed = number(optarg, "--seed", 1UL << 31);
            break;
        case 'x':
            exact = 1;
            break;
        case 'h':
            usage(stdout);
            return 0;
        default:
            usage(stderr);
            return 2;
        }
    if (optind < argc) {
        usage(stderr);
        return 2;
    }
    if (configuration != NULL && memopt_init(configuration, &error) < 0)
        errx(1, "%s", error.message);

    struct training t = {0};
    start(&t, directory, most, epochs, seed);
    printf("%zu images, %zu to test with; %s\n", t.train.count, t.test.count,
           memopt_optimizer_name(t.optimizer));
    uint64_t chance = seed;
    for (unsigned long i = 1; i <= epochs; i++) {
        shuffle(&t, &chance);
        double loss = epoch(&t, exact);
        printf("epoch %lu  loss %.4f  test accuracy %.2f %%\n", i, loss, accuracy(&t) * 100);
        fflush(stdout);
    }

    printf("\n%-12s %-9s %10s %10s %11s %10s %7s\n", "heap", "allocator", "live KiB", "peak KiB",
           "allocations", "limit KiB", "fragm.");
    memopt_heap_each(print_heap, NULL);
    end(&t);
    return 0;
}
