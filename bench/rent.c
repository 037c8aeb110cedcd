/*
 * rent.c - gradient buffers of a training, from memopt's pool or from malloc.
 *
 * usage: rent pool|malloc MODEL STEPS TOUCH
 *        rent warm
 *
 * Each step takes a buffer for every gradient, last layer first, as a backward pass
 * does, and gives them back in the order of an optimizer, first layer first. TOUCH 1
 * writes a byte of each page of a buffer when it has been taken, as the backward pass
 * will write all of them: that is where fresh memory costs, and what memory that went
 * back to the system between steps costs again. The rest of the buffers is left
 * alone: writing it costs the same wherever it came from, and would drown the rest.
 *
 * MODEL  mixed        120 sizes of 4 KiB to 4 MiB, evenly spread in their logarithm
 *        transformer  12 layers of width 512 in fp32: matrices of 1 and 4 MiB,
 *                     vectors of 4 and 8 KiB
 *
 * `rent warm` writes to 256 MiB in huge pages and ends. To be run before each of the
 * others: in a virtual machine whose free memory goes back to the host, who takes
 * memory next would pay for the host's page faults, too.
 *
 * Prints the CPU time (user and system, ns) of all steps, of the first, and the
 * median of the later ones, and how many buffers a step has. The creation of the
 * pool is in the first step; the library's start, which reads the configuration, is
 * not. The pool takes its memory from the default heap, on the C library's malloc.
 */
#include <memopt/memopt.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { BUFFERS = 256, STEPS = 4096, PAGE = 4096 };

static size_t sizes[BUFFERS];
static void *taken[BUFFERS];
static double times[STEPS];
static struct memopt_buffers *pool;
static int use_pool, touch;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static size_t mixed(void) {
    unsigned seed = 1;
    size_t n = 0;
    for (; n < 120; n++) {
        seed = seed * 1103515245 + 12345;
        unsigned doubling = (seed >> 16) % 10, part = (seed >> 4) % 1024;
        sizes[n] = ((size_t)PAGE << doubling) + (((size_t)PAGE << doubling) / 1024 * part & ~63ul);
    }
    return n;
}

static size_t transformer(void) {
    size_t n = 0, matrix = 512 * 512 * sizeof(float);
    for (int layer = 0; layer < 12; layer++) {
        for (int i = 0; i < 4; i++) { /* query, key, value, output */
            sizes[n++] = matrix;
            sizes[n++] = PAGE;
        }
        sizes[n++] = 4 * matrix; /* feed-forward */
        sizes[n++] = 2 * PAGE;
        sizes[n++] = 4 * matrix;
        sizes[n++] = PAGE;
    }
    return n;
}

static void die(const char *what) {
    fprintf(stderr, "rent: %s\n", what);
    exit(1);
}

static void write_pages(char *data, size_t size) {
    for (size_t i = 0; i < size; i += PAGE)
        *(volatile char *)(data + i) = 1;
}

static void step(size_t count) {
    for (size_t i = count; i-- > 0;) {
        char *data;
        if (use_pool) {
            struct memopt_buffer *buffer;
            if (memopt_buffers_rent(pool, MEMOPT_DTYPE_U8, 1, &sizes[i], &buffer, NULL) < 0)
                die("no memory");
            taken[i] = buffer;
            data = buffer->data;
        } else {
            taken[i] = data = malloc(sizes[i]);
            if (data == NULL)
                die("no memory");
        }
        if (touch)
            write_pages(data, sizes[i]);
    }
    for (size_t i = 0; i < count; i++)
        if (use_pool)
            memopt_buffers_return(pool, taken[i], NULL);
        else
            free(taken[i]);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int warm(void) {
    enum { HUGE = 2 << 20 };
    size_t size = (size_t)256 << 20;
    char *memory =
        mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 1;
    char *data = memory + (-(uintptr_t)memory & (HUGE - 1));
    madvise(data, size, MADV_HUGEPAGE);
    write_pages(data, size);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "warm") == 0)
        return warm();
    int steps = argc == 5 ? atoi(argv[3]) : 0;
    if (steps < 2 || steps > STEPS) {
        fprintf(stderr, "usage: rent pool|malloc mixed|transformer STEPS TOUCH\n");
        return 2;
    }
    use_pool = strcmp(argv[1], "pool") == 0;
    touch = atoi(argv[4]);
    size_t count = strcmp(argv[2], "mixed") == 0 ? mixed() : transformer();
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (use_pool && memopt_heap_default(&error) == NULL)
        die(error.message);
    double all = 0;
    for (int i = 0; i < steps; i++) {
        double start = now();
        if (i == 0 && use_pool) {
            struct memopt_buffers_options options = MEMOPT_BUFFERS_OPTIONS_INIT;
            options.debug = MEMOPT_DEBUG_OFF;
            if (memopt_buffers_create(&options, &pool, &error) < 0)
                die(error.message);
        }
        step(count);
        times[i] = now() - start;
        all += times[i];
    }
    double first = times[0];
    qsort(times + 1, (size_t)steps - 1, sizeof(times[0]), by_value);
    printf("%.0f %.0f %.1f %zu\n", all, first, times[1 + (steps - 1) / 2], count);
    return 0;
}
