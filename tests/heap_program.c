/*
 * heap_program.c - what test_heap_run.sh starts, under `memopt run` and without:
 * a program that uses libmemopt, doing what its first argument says.
 */
#include <memopt/memopt.h>

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct memopt_heap *open_heap(const char *name) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_heap *heap = NULL;
    if (memopt_heap_open(name, NULL, &heap, &error) < 0) {
        fprintf(stderr, "heap_program: %s\n", error.message);
        exit(3);
    }
    return heap;
}

static void *take(struct memopt_heap *heap, size_t size) {
    void *p = memopt_heap_alloc(heap, size);
    if (p == NULL) {
        perror("heap_program");
        exit(4);
    }
    return memset(p, 1, size);
}

static struct memopt_heap_statistics stats_of(struct memopt_heap *heap) {
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    memopt_heap_stats(heap, &stats);
    return stats;
}

/* The default heap is the process's malloc: what one hands out the other frees. */
static int default_heap(void) {
    struct memopt_heap *heap = memopt_heap_default(NULL);
    if (heap == NULL)
        return 5;
    void *mine = take(heap, 1000), *theirs = malloc(1000);
    if (memopt_heap_usable_size(heap, mine) != malloc_usable_size(mine))
        return 6;
    memopt_heap_free(heap, mine);
    mine = take(heap, 1000);
    free(mine);
    free(theirs);
    printf("default is %s\n", stats_of(heap).allocator);
    return 0;
}

/* Malloc and a heap, both on the same library, in one copy of it: each knows the
 * other's blocks. */
static int one_library(const char *name) {
    struct memopt_heap *heap = open_heap("a");
    void *mine = take(heap, 1000), *theirs = malloc(1000);
    if (malloc_usable_size(mine) < 1000 || memopt_heap_usable_size(heap, theirs) < 1000)
        return 6;
    memopt_heap_free(heap, mine);
    free(theirs);
    int copies = 0;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
        copies += strstr(line, " r-xp ") != NULL && strstr(line, name) != NULL;
    fclose(maps);
    printf("%d of %s, a on %s\n", copies, name, stats_of(heap).allocator);
    return 0;
}

static int fork_and_count(void) {
    struct memopt_heap *heap = open_heap("a");
    take(heap, 100000);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct memopt_heap *own = open_heap("child");
        take(own, 300000);
        take(heap, 500000);
        return stats_of(heap).live_blocks == 2 ? 0 : 7;
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return status != 0 ? 8 : stats_of(heap).live_blocks == 1 ? 0 : 9;
}

/* Streams that use the heap while stdio's locks are held: fflush(NULL) waits for
 * the heap, and so must not be waited for by fork. */
static _Atomic int stop;

static ssize_t cookie_write(void *heap, const char *bytes, size_t size) {
    (void)bytes;
    for (int i = 0; i < 20; i++)
        memopt_heap_free(heap, take(heap, 100));
    return (ssize_t)size;
}

static void *flushing_thread(void *heap) {
    FILE *stream = fopencookie(heap, "w", (cookie_io_functions_t){.write = cookie_write});
    while (!stop) {
        fputs("text", stream);
        fflush(NULL);
    }
    fclose(stream);
    return NULL;
}

static int fork_storm(void) {
    enum { FORKS = 100, THREADS = 3 };
    struct memopt_heap *heaps[] = {open_heap("a"), open_heap("b")};
    pthread_t threads[THREADS];
    alarm(600);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, flushing_thread, heaps[i % 2]) != 0)
            return 12;
    for (int i = 0; i < FORKS; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(600);
            for (int h = 0; h < 2; h++)
                memopt_heap_free(heaps[h], take(heaps[h], 1000));
            FILE *stream = fopen("/dev/null", "w");
            _exit(stream != NULL && fclose(stream) == 0 ? 0 : 13);
        }
        int status = -1;
        if (waitpid(pid, &status, 0) != pid || status != 0)
            return 14;
    }
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    puts("storm over");
    return 0;
}

/* 7 blocks come and 5 go by malloc; with `with_heaps` a heap has 1,300 in all and loses 1,150,
 * another goes with the 100 that it has. Nothing else allocates: no stream is used. */
static int count(int with_heaps) {
    static void *blocks[1100], *kept[7];
    for (int i = 0; i < 7; i++)
        kept[i] = malloc(100);
    for (int i = 0; i < 5; i++)
        free(kept[i]);
    if (!with_heaps)
        return 0;
    struct memopt_heap *heap = open_heap("counted"), *gone = open_heap("gone");
    for (int i = 0; i < 1100; i++)
        blocks[i] = take(heap, 64);
    for (int i = 0; i < 100; i++) {
        blocks[i] = memopt_heap_realloc(heap, blocks[i], 5000);
        take(gone, 1000);
    }
    for (int i = 0; i < 100; i++) {
        void *p = memopt_heap_calloc(heap, 10, 10), *q = memopt_heap_aligned_alloc(heap, 64, 10);
        if (p == NULL || q == NULL)
            return 4;
        if (i >= 50) {
            memopt_heap_free(heap, p);
            continue;
        }
        memopt_heap_free(heap, q);
    }
    for (int i = 0; i < 950; i++)
        memopt_heap_free(heap, blocks[i]);
    if (memopt_heap_realloc(heap, blocks[1000], PTRDIFF_MAX) != NULL ||
        memopt_heap_alloc(heap, (size_t)PTRDIFF_MAX) != NULL)
        return 5;
    memopt_heap_destroy(gone, NULL);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "chdir") == 0 && chdir("/") != 0)
        return 11;
    const char *what = argc > 1 ? argv[1] : "";
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (strcmp(what, "default") == 0)
        return default_heap();
    if (strcmp(what, "malloc") == 0 || strcmp(what, "count") == 0)
        return count(what[0] == 'c');
    if (strcmp(what, "opened") == 0) {
        open_heap("counted");
        return memopt_report(NULL) < 0 ? 11 : count(0);
    }
    if (strcmp(what, "one") == 0)
        return one_library(argv[2]);
    if (strcmp(what, "fork") == 0)
        return fork_and_count();
    if (strcmp(what, "storm") == 0)
        return fork_storm();
    if (strcmp(what, "init") == 0 && memopt_init(argv[2], &error) < 0) {
        fprintf(stderr, "heap_program: %s\n", error.message);
        return 10;
    }
    struct memopt_heap *a = open_heap("a"), *b = open_heap("b");
    take(a, 200000);
    take(b, 700000);
    memopt_heap_free(b, take(b, 100));
    if (strcmp(what, "kill") == 0)
        raise(SIGKILL);
    if (strcmp(what, "destroy") == 0)
        memopt_heap_destroy(b, NULL);
    printf("a on %s, b on %s\n", stats_of(a).allocator,
           memopt_heap_find("b") == NULL ? "nothing" : stats_of(b).allocator);
    if (strcmp(what, "report") == 0 && memopt_report(&error) < 0) {
        fprintf(stderr, "heap_program: %s\n", error.message);
        return 11;
    }
    return 0;
}
