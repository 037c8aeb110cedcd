/* alloc-heapsonly.c - for test_config.c: an allocator that can't be the default
 * heap, and whose options have every type. */
#include <memopt/plugin.h>

#include <stdlib.h>

struct settings {
    const char *file;
    const char *title;
};
static const struct memopt_option options[] = {
    MEMOPT_OPT_PATH(struct settings, file, "file", NULL, "a file"),
    MEMOPT_OPT_STRING(struct settings, title, "title", "none", "a title"),
    MEMOPT_OPT_END,
};

static int open_it(const struct memopt_host *host, const void *settings,
                   struct memopt_malloc *ret_malloc, struct memopt_error *error) {
    (void)settings;
    (void)ret_malloc;
    return host->fail(error, -1, "never opened");
}

static int create(const struct memopt_host *host, const struct memopt_heap_params *params, void **ret_heap,
                  struct memopt_error *error) {
    (void)host;
    (void)params;
    (void)ret_heap;
    (void)error;
    return -1;
}
static void destroy(void *heap) {
    (void)heap;
}
static void *heap_malloc(void *heap, size_t size) {
    (void)heap;
    return malloc(size);
}
static void *heap_calloc(void *heap, size_t count, size_t size) {
    (void)heap;
    return calloc(count, size);
}
static void *heap_realloc(void *heap, void *p, size_t size) {
    (void)heap;
    return realloc(p, size);
}
static void *heap_aligned(void *heap, size_t alignment, size_t size) {
    (void)heap;
    return aligned_alloc(alignment, size);
}
static void heap_free(void *heap, void *p) {
    (void)heap;
    free(p);
}
static size_t heap_usable(void *heap, void *p) {
    (void)heap;
    (void)p;
    return 0;
}
static const struct memopt_allocator_ops ops = {
    .size = sizeof(ops),
    .flags = MEMOPT_ALLOCATOR_HEAPS_ONLY,
    .open = open_it,
    .heap_create = create,
    .heap_destroy = destroy,
    .heap_malloc = heap_malloc,
    .heap_calloc = heap_calloc,
    .heap_realloc = heap_realloc,
    .heap_aligned_alloc = heap_aligned,
    .heap_free = heap_free,
    .heap_usable_size = heap_usable,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_ALLOCATOR),
    .name = "heapsonly",
    .version = "1.0",
    .summary = "for tests",
    .options = options,
    .settings_size = sizeof(struct settings),
    .ops = &ops,
};
