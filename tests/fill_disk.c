/*
 * fill_disk.c - what test_spill_full_disk.sh runs on a small disk of its own: fills
 * it with spilled blocks, twice. usage: fill_disk DIRECTORY
 */
#include <memopt/memopt.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SIZE = 300000, MOST = 1000 };

static int fail(const char *what) {
    fprintf(stderr, "fill_disk: %s\n", what);
    return 1;
}

int main(int argc, char **argv) {
    static char *blocks[MOST];
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    struct memopt_heap *heap;
    if (argc != 2)
        return fail("usage: fill_disk DIRECTORY");
    options.limit = 1;
    options.on_limit = "purge, shrink, spill";
    options.spill_dir = argv[1];
    if (memopt_heap_open("full", &options, &heap, &error) < 0)
        return fail(error.message);
    for (int round = 0; round < 2; round++) {
        int count = 0;
        for (; count < MOST; count++) {
            errno = 0;
            blocks[count] = memopt_heap_alloc(heap, SIZE);
            if (blocks[count] == NULL)
                break;
            memset(blocks[count], count, SIZE);
        }
        if (errno != ENOMEM || count < 40 || count == MOST)
            return fail("the disk is not full");
        if (memopt_heap_alloc(heap, 2 << 20) != NULL || errno != ENOMEM)
            return fail("there is room for another one");
        memopt_heap_stats(heap, &stats);
        if (stats.refused != 2 * (uint64_t)(round + 1) || stats.spilled_blocks != (uint64_t)count)
            return fail("the figures are wrong");
        for (int i = 0; i < count; i++) {
            for (int k = 0; k < SIZE; k++)
                if (blocks[i][k] != (char)i)
                    return fail("a block has changed");
            memopt_heap_free(heap, blocks[i]);
        }
        printf("%d blocks, then ENOMEM\n", count);
    }
    return memopt_heap_destroy(heap, NULL) < 0;
}
