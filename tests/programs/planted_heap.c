/*
 * planted_heap.c - mistakes with the blocks of a named heap, on demand, for
 * memory checkers to find (tests/test_heap_checkers.sh).
 *
 * usage: planted_heap ALLOCATOR-BUG, such as pool-overflow; "none" is well-behaved
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

int main(int argc, char **argv) {
    char allocator[32] = "pool";
    const char *bug = argc > 1 ? argv[1] : "none";
    const char *dash = strchr(bug, '-');
    if (dash != NULL) {
        snprintf(allocator, sizeof(allocator), "%.*s", (int)(dash - bug), bug);
        bug = dash + 1;
    }
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_error error;
    struct memopt_heap *heap;
    options.allocator = allocator;
    if (memopt_heap_open("planted", &options, &heap, &error) < 0) {
        fprintf(stderr, "planted_heap: %s\n", error.message);
        return 2;
    }
    volatile char *p = hide(memopt_heap_alloc(heap, 37));
    char *other = memopt_heap_calloc(heap, 1, 100);
    if (p == NULL || other == NULL)
        return 2;
    if (strcmp(bug, "overflow") == 0)
        p[37] = 1;
    if (strcmp(bug, "underflow") == 0)
        p[-1] = 1;
    if (strcmp(bug, "uninitialised") == 0 && p[3] == 1)
        puts("one");
    p[3] = 2;
    memopt_heap_free(heap, hide((void *)p));
    if (strcmp(bug, "use_after_free") == 0)
        p[3] = 3;
    other = memopt_heap_realloc(heap, other, 1000);
    memset(other, 1, 1000);
    memopt_heap_destroy(heap, NULL);
    return 0;
}
