/*
 * planted_object.c - mistakes with reference counts, copy-on-write buffers, lazy
 * state and scopes, on demand, for memory checkers to find
 * (tests/test_object_checkers.sh).
 *
 * usage: planted_object BUG; "none" does all of it without a mistake
 */
#include <memopt/memopt.h>

#include <err.h>
#include <stdio.h>
#include <string.h>

static const char *bug = "none";
static struct memopt_heap *heap;
static struct memopt_error error;

static int is(const char *name) {
    return strcmp(bug, name) == 0;
}

/* The compiler is not to see what is planted. */
static void *hide(void *p) {
    __asm__ volatile("" : "+r"(p));
    return p;
}

static const struct memopt_ref_type text_type = MEMOPT_REF_TYPE_INIT("text", NULL, NULL);

static void references(void) {
    void *object;
    if (memopt_ref_new(heap, &text_type, 21, 0, &object, &error) < 0)
        errx(2, "%s", error.message);
    struct memopt_weak *weak = memopt_weak_new(object);
    volatile char *text = hide(object);
    text[20] = 'x';
    if (is("ref_overflow"))
        text[21] = 'x';
    memopt_ref_put(object);
    if (is("ref_dead")) /* a weak reference keeps the block */
        text[20] = 'y';
    memopt_weak_put(weak);
    if (is("ref_freed"))
        text[20] = 'z';
}

int main(int argc, char **argv) {
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    options.allocator = "pool";
    bug = argc > 1 ? argv[1] : "none";
    if (memopt_heap_open("planted", &options, &heap, &error) < 0)
        errx(2, "%s", error.message);
    references();
    memopt_heap_destroy(heap, NULL);
    return 0;
}
