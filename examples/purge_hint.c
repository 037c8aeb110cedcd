/*
 * purge_hint.c - a training loop that gives memory back every few steps.
 *
 *     cc -o purge_hint purge_hint.c $(pkg-config --cflags --libs memopt)
 *     ./purge_hint [STEPS]
 *     memopt run -- ./purge_hint
 *
 * The loop keeps a workspace from step to step. An evaluation in between needs a
 * much larger one; the purger that belongs to the workspace lets go of it, and
 * the hint says how much the system got back.
 */
#include <memopt/memopt.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct workspace {
    struct memopt_heap *heap;
    void *bytes;
    size_t size;
};

/* The workspace, of at least `size` bytes; NULL and errno if there is no memory. */
static void *workspace_of(struct workspace *workspace, size_t size) {
    if (size > workspace->size) {
        memopt_heap_free(workspace->heap, workspace->bytes);
        workspace->bytes = memopt_heap_alloc(workspace->heap, size);
        workspace->size = workspace->bytes == NULL ? 0 : size;
    }
    return workspace->bytes;
}

static uint64_t let_go(void *context) {
    struct workspace *workspace = context;
    uint64_t size = workspace->size;
    memopt_heap_free(workspace->heap, workspace->bytes);
    workspace->bytes = NULL;
    workspace->size = 0;
    return size;
}

int main(int argc, char **argv) {
    int steps = argc > 1 ? atoi(argv[1]) : 20;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct workspace workspace = {.heap = NULL};
    struct memopt_heap_options on_mmap = MEMOPT_HEAP_OPTIONS_INIT;
    on_mmap.allocator = "mmap";
    struct memopt_purge_hint_options options = MEMOPT_PURGE_HINT_OPTIONS_INIT;
    struct memopt_purge_hint *hint;
    options.every = 5; /* 0: what memopt.ini says, [pressure] purge_every */
    if (memopt_heap_open("workspace", &on_mmap, &workspace.heap, &error) < 0 ||
        memopt_heap_add_purger(workspace.heap, let_go, &workspace, &error) < 0 ||
        memopt_purge_hint_new(&options, &hint, &error) < 0) {
        fprintf(stderr, "purge_hint: %s\n", error.message);
        return 1;
    }
    for (int step = 1; step <= steps; step++) {
        size_t size = (size_t)(step % 5 == 0 ? 32 : 1) << 20; /* every fifth evaluates */
        void *bytes = workspace_of(&workspace, size);
        if (bytes == NULL) {
            perror("purge_hint");
            return 1;
        }
        memset(bytes, step, size);
        struct memopt_purge_result result = MEMOPT_PURGE_RESULT_INIT;
        if (memopt_purge_hint_step(hint, &result) == 1)
            printf("step %d: %llu heaps gave %.1f MiB back, resident memory %.1f -> %.1f MiB\n",
                   step, (unsigned long long)result.heap_count, (double)result.claimed / 1048576,
                   (double)result.resident_before / 1048576,
                   (double)result.resident_after / 1048576);
    }
    struct memopt_purge_hint_statistics stats = MEMOPT_PURGE_HINT_STATISTICS_INIT;
    memopt_purge_hint_stats(hint, &stats);
    printf("%llu purges in %llu steps gave %.1f MiB back\n", (unsigned long long)stats.purges,
           (unsigned long long)stats.steps, (double)stats.claimed / 1048576);
    memopt_purge_hint_free(hint);
    memopt_heap_destroy(workspace.heap, NULL);
    return 0;
}
