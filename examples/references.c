/*
 * references.c - a tree of layers whose nodes are shared: children are held by
 * strong references, parents are known by weak ones. Then the classic mistake, a
 * strong reference back to the parent, and the check that finds it.
 *
 *     cc -o references references.c $(pkg-config --cflags --libs memopt)
 *     ./references
 */
#include <memopt/memopt.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHILDREN = 4 };

struct layer {
    char name[16];
    struct layer *child[CHILDREN]; /* strong */
    struct memopt_weak *parent;
    struct layer *owner; /* strong: the mistake, if it points to the parent */
};

static void layer_destroy(void *object) {
    struct layer *layer = object;
    printf("layer %s ends\n", layer->name);
    for (int i = 0; i < CHILDREN; i++)
        memopt_ref_put(layer->child[i]);
    memopt_weak_put(layer->parent);
    memopt_ref_put(layer->owner);
}

/* Every strong reference, for the cycle check. */
static void layer_traverse(void *object, memopt_ref_visit_fn visit, void *context) {
    struct layer *layer = object;
    for (int i = 0; i < CHILDREN; i++)
        visit(context, layer->child[i]);
    visit(context, layer->owner);
}

static const struct memopt_ref_type layer_type =
    MEMOPT_REF_TYPE_INIT("layer", layer_destroy, layer_traverse);

static struct memopt_heap *heap;

static struct layer *layer_new(const char *name, struct layer *parent) {
    struct memopt_error error;
    void *object;
    if (memopt_ref_new(heap, &layer_type, sizeof(struct layer), 0, &object, &error) < 0) {
        fprintf(stderr, "references: %s\n", error.message);
        exit(1);
    }
    struct layer *layer = object;
    snprintf(layer->name, sizeof(layer->name), "%s", name);
    if (parent != NULL) {
        int i = 0;
        while (parent->child[i] != NULL)
            i++;
        parent->child[i] = memopt_ref_get(layer);
        layer->parent = memopt_weak_new(parent);
    }
    return layer;
}

static void print_parent(const char *name, struct memopt_weak *weak) {
    struct layer *parent = memopt_weak_lock(weak); /* ours, if it is not NULL */
    printf("the parent of %s is %s\n", name, parent == NULL ? "gone" : parent->name);
    memopt_ref_put(parent);
}

static int print_cycle(void *context, const struct memopt_ref_cycle *cycle) {
    (void)context;
    printf("leaked: %zu objects, %llu bytes: %s\n", cycle->members,
           (unsigned long long)cycle->bytes, cycle->path);
    return 0;
}

int main(void) {
    struct memopt_error error;
    if (memopt_heap_open("graph", NULL, &heap, &error) < 0) {
        fprintf(stderr, "references: %s\n", error.message);
        return 1;
    }
    memopt_ref_track(1); /* objects made from now on take part in the check */

    struct layer *root = layer_new("root", NULL);
    struct layer *leaf = layer_new("leaf", root);
    print_parent("leaf", leaf->parent);
    memopt_ref_put(root); /* leaf is held by this function, too */
    print_parent("leaf", leaf->parent);
    memopt_ref_put(leaf);

    struct layer *outer = layer_new("outer", NULL);
    struct layer *inner = layer_new("inner", outer);
    inner->owner = memopt_ref_get(outer); /* should have been the weak one */
    memopt_ref_put(outer);
    memopt_ref_put(inner);
    int cycles = memopt_ref_find_cycles(print_cycle, NULL, &error);
    printf("%d cycle%s leaked\n", cycles, cycles == 1 ? "" : "s");
    memopt_heap_destroy(heap, NULL); /* takes what leaked along */
    return cycles == 1 ? 0 : 1;
}
