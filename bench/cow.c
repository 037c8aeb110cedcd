/*
 * cow.c - where copy-on-write by pages begins to pay: for a range of sizes, the time
 * of a clone, writes to it and its end, by copying and by pages, a run of each in
 * turn, the best of them. Not part of `make bench`: it is what
 * MEMOPT_COW_THRESHOLD was taken from.
 *
 *     make bench/cow && bench/cow
 *
 * It doesn't show what by pages saves in memory, nor mappings that many threads make
 * at once, which the kernel lets in one by one.
 */
#include <memopt/memopt.h>

#include <err.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 9 };

static struct memopt_error error;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Seconds for one clone of which `touched` bytes are written. */
static double run(int mode, size_t size, size_t touched) {
    struct memopt_cow_options options = MEMOPT_COW_OPTIONS_INIT;
    struct memopt_cow *cow, *clone;
    void *p;
    options.mode = mode;
    if (memopt_cow_create(NULL, size, &options, &cow, &error) < 0 ||
        memopt_cow_write(cow, 0, size, &p, &error) < 0)
        errx(1, "%s", error.message);
    memset(p, 1, size);
    int times = size > 1 << 20 ? 30 : 300;
    double begin = now();
    for (int i = 0; i < times; i++) {
        if (memopt_cow_clone(cow, &clone, &error) < 0 ||
            memopt_cow_write(clone, 0, touched, &p, &error) < 0)
            errx(1, "%s", error.message);
        memset(p, 2, touched);
        memopt_cow_destroy(clone);
    }
    double seconds = (now() - begin) / times;
    memopt_cow_destroy(cow);
    return seconds;
}

int main(void) {
    printf("%10s %22s %22s %22s\n", "", "one byte written", "a quarter", "all");
    printf("%10s %11s %10s %11s %10s %11s %10s   microseconds\n", "KiB", "copy", "pages", "copy",
           "pages", "copy", "pages");
    for (size_t size = 4096; size <= 16 << 20; size *= 2) {
        const size_t touched[3] = {1, size / 4, size};
        double best[3][2];
        for (int t = 0; t < 3; t++)
            for (int mode = 0; mode < 2; mode++)
                best[t][mode] = 1e9;
        for (int round = 0; round < ROUNDS; round++)
            for (int t = 0; t < 3; t++)
                for (int mode = 0; mode < 2; mode++) {
                    double seconds =
                        run(mode == 0 ? MEMOPT_COW_COPY : MEMOPT_COW_PAGES, size, touched[t]);
                    if (seconds < best[t][mode])
                        best[t][mode] = seconds;
                }
        printf("%10zu", size / 1024);
        for (int t = 0; t < 3; t++)
            printf(" %11.2f %10.2f", best[t][0] * 1e6, best[t][1] * 1e6);
        putchar('\n');
    }
    return 0;
}
