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

static int build_sum(void *context, void *value, struct memopt_error *ret_error) {
    int *sum = value;
    (void)context, (void)ret_error;
    if (!is("lazy_uninitialised"))
        sum[0] = 0;
    sum[1] = 2;
    return 0;
}

static void lazy_state(void) {
    struct memopt_lazy lazy = MEMOPT_LAZY_INIT(2 * sizeof(int), build_sum, NULL, NULL);
    void *value;
    lazy.heap = heap;
    if (memopt_lazy_get(&lazy, &value, &error) < 0)
        errx(2, "%s", error.message);
    volatile int *sum = hide(value);
    if (sum[0] + sum[1] == 4)
        puts("four");
    if (is("lazy_overflow"))
        sum[2] = 1;
    memopt_lazy_reset(&lazy, NULL);
    if (is("lazy_reset"))
        sum[1] = 1;
    if (memopt_lazy_get(&lazy, &value, &error) < 0)
        errx(2, "%s", error.message);
    memopt_lazy_destroy(&lazy, NULL);
    if (is("lazy_destroyed"))
        sum[1] = 1;
}

static void scopes(void) {
    struct memopt_scope scope = MEMOPT_SCOPE_INIT(heap);
    volatile char *block = hide(memopt_scope_alloc(&scope, NULL, 30));
    volatile char *early = hide(memopt_scope_alloc(&scope, NULL, 30));
    if (is("scope_uninitialised") && block[3] == 1)
        puts("one");
    block[3] = 1;
    if (is("scope_overflow"))
        block[30] = 1;
    memopt_scope_run(&scope, hide((void *)early), NULL);
    if (is("scope_early"))
        early[3] = 1;
    memopt_scope_end(&scope);
    if (is("scope_ended"))
        block[3] = 2;
    struct memopt_owned owned = memopt_owned_block(heap, memopt_heap_alloc(heap, 30));
    block = hide(owned.p);
    memopt_owned_reset(&owned);
    if (is("owned_reset"))
        block[3] = 2;
}

static void copy_on_write(void) {
    struct memopt_cow *cow, *clone;
    void *p;
    if (memopt_cow_create(heap, 100, NULL, &cow, &error) < 0 ||
        memopt_cow_write(cow, 0, 100, &p, &error) < 0)
        errx(2, "%s", error.message);
    memset(p, 1, 100);
    volatile char *bytes = hide(p);
    if (is("cow_overflow"))
        bytes[100] = 1;
    if (memopt_cow_clone(cow, &clone, &error) < 0)
        errx(2, "%s", error.message);
    volatile char *shared = hide((void *)memopt_cow_read(clone));
    if (is("cow_shared")) /* was never asked for */
        shared[50] = 2;
    if (is("cow_stale")) /* was asked for before the clone */
        bytes[50] = 2;
    memopt_cow_destroy(cow);
    memopt_cow_destroy(clone);
    if (is("cow_destroyed"))
        shared[50] = 3;
}

int main(int argc, char **argv) {
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    options.allocator = "pool";
    bug = argc > 1 ? argv[1] : "none";
    if (memopt_heap_open("planted", &options, &heap, &error) < 0)
        errx(2, "%s", error.message);
    references();
    copy_on_write();
    lazy_state();
    scopes();
    memopt_heap_destroy(heap, NULL);
    return 0;
}
