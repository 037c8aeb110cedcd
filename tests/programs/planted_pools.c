/*
 * planted_pools.c - each of the pools with a bug of the caller's, to be found by a
 * memory checker from outside (tests/test_pool_checkers.sh): plain under Valgrind, or
 * compiled with -fsanitize=address against a libmemopt that is not.
 *
 * usage: planted_pools TECHNIQUE-BUG, such as buffers-overflow; "none": all are well-behaved
 *
 * Exit status 0: nobody stopped it.
 */
#include <memopt/memopt.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The compiler is not to see what is planted. */
static void *hide(void *p) {
    __asm__ volatile("" : "+r"(p));
    return p;
}

static void die(const struct memopt_error *error) {
    fprintf(stderr, "planted_pools: %s\n", error->message);
    exit(2);
}

static const char *bug = "none";
static struct memopt_heap *heap;

static int is(const char *name) {
    return strcmp(bug, name) == 0;
}

/* One function a bug: the checker's stack names it. */
#define PLANT __attribute__((noinline, visibility("default")))
#define KEEP_FRAME __asm__ volatile("" ::: "memory")
PLANT void write_past_end(char *data, size_t size);
PLANT void write_past_end(char *data, size_t size) {
    *((volatile char *)hide(data) + size) = 1;
    KEEP_FRAME;
}
PLANT void write_before_start(char *data);
PLANT void write_before_start(char *data) {
    *((volatile char *)hide(data) - 1) = 1;
    KEEP_FRAME;
}
PLANT void write_after_return(char *data);
PLANT void write_after_return(char *data) {
    *(volatile char *)hide(data) = 1;
    KEEP_FRAME;
}
PLANT void read_after_return(char *data);
PLANT void read_after_return(char *data) {
    (void)*(volatile char *)hide(data);
    KEEP_FRAME;
}
PLANT void read_uninitialised(char *data);
PLANT void read_uninitialised(char *data) {
    if (*(volatile char *)hide(data) != 0)
        puts("not zero");
    KEEP_FRAME;
}

/* Before the block is given back, and after. */
static void while_live(char *data, size_t size) {
    if (is("overflow"))
        write_past_end(data, size);
    else if (is("underflow"))
        write_before_start(data);
    else if (is("uninitialised"))
        read_uninitialised(data);
    memset(data, 0, size);
}
static void when_returned(char *data) {
    if (is("use_after_return"))
        write_after_return(data);
    else if (is("read_after_return"))
        read_after_return(data);
}

static void buffers(void) {
    struct memopt_error error;
    struct memopt_buffers_options options = MEMOPT_BUFFERS_OPTIONS_INIT;
    struct memopt_buffers *pool;
    struct memopt_buffer *a, *b;
    static const size_t sizes[] = {24, 5000}; /* below a page and above */
    options.heap = heap;
    if (memopt_buffers_create(&options, &pool, &error) < 0)
        die(&error);
    for (int i = 0; i < 2; i++) {
        if (memopt_buffers_rent(pool, MEMOPT_DTYPE_U8, 1, &sizes[i], &a, &error) < 0 ||
            memopt_buffers_rent(pool, MEMOPT_DTYPE_U8, 1, &sizes[i], &b, &error) < 0)
            die(&error);
        char *data = b->data;
        while_live(data, sizes[i]);
        memopt_buffers_return(pool, b, NULL);
        when_returned(data);
        memopt_buffers_return(pool, a, NULL);
    }
    memopt_buffers_destroy(pool, NULL);
}

static char region[65536];

static void arena(void) {
    struct memopt_error error;
    struct memopt_arena *a;
    struct memopt_arena_position mark;
    if (memopt_arena_open(region, sizeof(region), NULL, &a, &error) < 0 ||
        memopt_arena_mark(a, &mark, &error) < 0)
        die(&error);
    char *data = memopt_arena_alloc(a, 24, 0), *other = memopt_arena_alloc(a, 24, 0);
    if (data == NULL || other == NULL)
        exit(2);
    while_live(data, 24);
    memopt_arena_reset(a, &mark, NULL);
    when_returned(data);
    memopt_arena_close(a, NULL);
}

static void freelist(void) {
    struct memopt_error error;
    struct memopt_freelist *list;
    if (memopt_freelist_open(region, sizeof(region), NULL, &list, &error) < 0)
        die(&error);
    char *data = memopt_freelist_alloc(list, 24, 0), *other = memopt_freelist_alloc(list, 24, 0);
    if (data == NULL || other == NULL)
        exit(2);
    while_live(data, 24);
    memopt_freelist_free(list, data, NULL);
    when_returned(data);
    memopt_freelist_free(list, other, NULL);
    memopt_freelist_close(list);
}

static void objects(void) {
    struct memopt_error error;
    struct memopt_objects_options options = MEMOPT_OBJECTS_OPTIONS_INIT;
    struct memopt_objects *pool;
    options.heap = heap;
    options.object_size = 24;
    options.capacity = 4;
    if (memopt_objects_create(&options, &pool, &error) < 0)
        die(&error);
    char *data = memopt_objects_acquire(pool), *other = memopt_objects_acquire(pool);
    if (data == NULL || other == NULL)
        exit(2);
    while_live(data, 24);
    memopt_objects_release(pool, data, NULL);
    when_returned(data);
    memopt_objects_release(pool, other, NULL);
    memopt_objects_destroy(pool, NULL);
}

static void workspace(void) {
    struct memopt_error error;
    struct memopt_workspace_options options = MEMOPT_WORKSPACE_OPTIONS_INIT;
    struct memopt_workspace *space;
    static const struct memopt_workspace_tensor tensors[] = {
        {"long", 1000, 0, 0, 1}, {"a", 24, 0, 0, 0}, {"b", 24, 0, 1, 1}};
    options.heap = heap;
    if (memopt_workspace_create(tensors, 3, &options, &space, &error) < 0 ||
        memopt_workspace_begin(space, &error) < 0 || memopt_workspace_op(space, 0, &error) < 0)
        die(&error);
    char *data = memopt_workspace_get(space, 1);
    while_live(data, 24);
    memopt_workspace_end(space, NULL);
    when_returned(data);
    memopt_workspace_destroy(space);
}

static const struct {
    const char *name;
    void (*run)(void);
} techniques[] = {
    {"buffers", buffers}, {"arena", arena},         {"freelist", freelist},
    {"objects", objects}, {"workspace", workspace},
};

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "none";
    const char *dash = strchr(what, '-');
    size_t length = dash == NULL ? 0 : (size_t)(dash - what);
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_error error;
    options.allocator = "pool";
    if (memopt_heap_open("planted", &options, &heap, &error) < 0)
        die(&error);
    if (dash != NULL)
        bug = dash + 1;
    for (size_t i = 0; i < sizeof(techniques) / sizeof(techniques[0]); i++)
        if (length == 0 || strncmp(what, techniques[i].name, length) == 0)
            techniques[i].run();
    memopt_heap_destroy(heap, NULL);
    return 0;
}
