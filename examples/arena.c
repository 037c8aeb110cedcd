/*
 * arena.c - a step's scratch memory in an arena: a mark at its beginning, a reset
 * at its end, and nothing to free in between.
 *
 *     cc -o arena arena.c $(pkg-config --cflags --libs memopt)
 *     ./arena [STEPS]
 *
 * The program smooths a signal in stages; each stage needs buffers that nobody
 * needs after it, so it has a mark of its own inside the step's.
 */
#include <memopt/memopt.h>

#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 10000, STAGES = 3 };

static void die(const char *what) {
    fprintf(stderr, "arena: %s\n", what);
    exit(1);
}

/* `out` may be `in`: the sums are made in scratch memory. */
static void smooth(struct memopt_arena *arena, const double *in, double *out, size_t n) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_arena_position stage;
    if (memopt_arena_mark(arena, &stage, &error) < 0)
        die(error.message);
    double *sums = memopt_arena_alloc(arena, (n + 1) * sizeof(*sums), 64);
    if (sums == NULL)
        die("the region is too small");
    sums[0] = 0;
    for (size_t i = 0; i < n; i++)
        sums[i + 1] = sums[i] + in[i];
    for (size_t i = 0; i < n; i++) {
        size_t from = i < 2 ? 0 : i - 2, to = i + 3 > n ? n : i + 3;
        out[i] = (sums[to] - sums[from]) / (double)(to - from);
    }
    memopt_arena_reset(arena, &stage, NULL);
}

int main(int argc, char **argv) {
    static char region[512 * 1024];
    int steps = argc > 1 ? atoi(argv[1]) : 10;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_arena *arena;
    if (memopt_arena_open(region, sizeof(region), NULL, &arena, &error) < 0)
        die(error.message);
    double middle = 0;
    for (int step = 0; step < steps; step++) {
        double *signal = memopt_arena_calloc(arena, SAMPLES, sizeof(*signal));
        if (signal == NULL)
            die("the region is too small");
        signal[SAMPLES / 2] = step;
        for (int i = 0; i < STAGES; i++)
            smooth(arena, signal, signal, SAMPLES);
        middle = signal[SAMPLES / 2];
        memopt_arena_reset(arena, NULL, NULL); /* all of the step's */
    }
    struct memopt_arena_statistics stats = MEMOPT_ARENA_STATISTICS_INIT;
    memopt_arena_stats(arena, &stats);
    printf("middle: %.4f\n", middle);
    printf("blocks: %llu, resets: %llu\n", (unsigned long long)stats.blocks,
           (unsigned long long)stats.resets);
    printf("most used: %llu KiB of %llu\n", (unsigned long long)(stats.peak / 1024),
           (unsigned long long)(stats.capacity / 1024));
    if (memopt_arena_close(arena, &error) < 0)
        die(error.message);
    return 0;
}
