/*
 * freelist.c - messages of any size in a shared budget: blocks of a fixed region,
 * freed in any order.
 *
 *     cc -o freelist freelist.c $(pkg-config --cflags --libs memopt)
 *     ./freelist
 *
 * A queue holds messages; when the region has no room for a new one, the oldest go
 * until it fits. Nothing outside of the region is ever allocated.
 */
#include <memopt/memopt.h>

#include <stdio.h>
#include <string.h>

enum { QUEUE = 4096, MESSAGES = 20000 };

int main(void) {
    static char region[256 * 1024];
    static char *queue[QUEUE];
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_freelist *list;
    if (memopt_freelist_open(region, sizeof(region), NULL, &list, &error) < 0) {
        fprintf(stderr, "freelist: %s\n", error.message);
        return 1;
    }
    size_t first = 0, next = 0, dropped = 0;
    unsigned seed = 1;
    for (int i = 0; i < MESSAGES; i++) {
        seed = seed * 1103515245 + 12345;
        size_t size = 16 + (seed >> 16) % 500;
        char *message;
        while ((message = memopt_freelist_alloc(list, size, 0)) == NULL) {
            memopt_freelist_free(list, queue[first++ % QUEUE], NULL);
            dropped++;
        }
        memset(message, i, size);
        queue[next++ % QUEUE] = message;
    }
    struct memopt_freelist_statistics stats = MEMOPT_FREELIST_STATISTICS_INIT;
    memopt_freelist_stats(list, &stats);
    printf("messages: %d, dropped: %zu, kept: %llu\n", MESSAGES, dropped,
           (unsigned long long)stats.live_blocks);
    printf("live: %llu KiB of %llu\n", (unsigned long long)(stats.live_bytes / 1024),
           (unsigned long long)(stats.capacity / 1024));
    printf("free blocks: %llu, fragmentation: %.2f\n", (unsigned long long)stats.free_blocks,
           stats.fragmentation);
    /* a mistake is told, and changes nothing */
    char *last = queue[(next - 1) % QUEUE];
    memopt_freelist_free(list, last, NULL);
    if (memopt_freelist_free(list, last, &error) < 0)
        printf("a second free: refused (%s)\n", strstr(error.message, "was"));
    memopt_freelist_close(list);
    return 0;
}
