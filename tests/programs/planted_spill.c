/*
 * planted_spill.c - a spilled block with a bug of the caller's, to be found by a
 * memory checker from outside (tests/test_spill_checkers.sh).
 *
 * usage: planted_spill BUG, such as overflow; "none": well-behaved
 *
 * Exit status 0: nobody stopped it; 2: the heap can't spill to /var/tmp.
 */
#include <memopt/memopt.h>

#include <stdio.h>
#include <string.h>

/* The compiler is not to see what is planted. */
static void *hide(void *p) {
    __asm__ volatile("" : "+r"(p));
    return p;
}

#define PLANT __attribute__((noinline, visibility("default")))
#define KEEP_FRAME __asm__ volatile("" ::: "memory")
PLANT void write_past_end(char *data, size_t size);
PLANT void write_past_end(char *data, size_t size) {
    *((volatile char *)hide(data) + size) = 1;
    KEEP_FRAME;
}
PLANT void write_after_free(char *data);
PLANT void write_after_free(char *data) {
    *(volatile char *)hide(data) = 1;
    KEEP_FRAME;
}
PLANT int read_uninitialised(const char *data);
PLANT int read_uninitialised(const char *data) {
    int odd = *(const volatile char *)hide((void *)(size_t)data) & 1 ? 1 : 2;
    KEEP_FRAME;
    return odd;
}

int main(int argc, char **argv) {
    const char *bug = argc > 1 ? argv[1] : "none";
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_heap *heap;
    options.limit = 1;
    options.on_limit = "spill";
    if (memopt_heap_open("spilled", &options, &heap, &error) < 0) {
        fprintf(stderr, "planted_spill: %s\n", error.message);
        return 2;
    }
    /* `keep` has the segment stay when `data` goes; the last one is on its own */
    static const size_t sizes[] = {5000, 300000, 2 << 20};
    char *keep = memopt_heap_alloc(heap, 100);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *data = memopt_heap_alloc(heap, sizes[i]);
        if (keep == NULL || data == NULL)
            return 2;
        if (strcmp(bug, "uninitialised") == 0)
            printf("%d\n", read_uninitialised(data));
        size_t usable = memopt_heap_usable_size(heap, data);
        memset(data, 1, usable); /* all of it may be written */
        if (strcmp(bug, "overflow") == 0)
            write_past_end(data, usable);
        memopt_heap_free(heap, data);
        if (strcmp(bug, "use_after_free") == 0)
            write_after_free(data);
        char *again = memopt_heap_calloc(heap, 1, sizes[i]); /* may be read at once */
        if (again == NULL || again[0] != 0 || again[sizes[i] - 1] != 0)
            return 2;
        memopt_heap_free(heap, again);
    }
    return memopt_heap_destroy(heap, NULL) < 0;
}
