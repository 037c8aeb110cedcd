/*
 * cycles.c - the check for cycles that leaked (see memopt/ref.h).
 *
 *   1. the objects that take part: a list
 *   2. walks over them, a step at a time, without recursion
 *   3. trial deletion: which objects nothing outside holds
 *   4. of those, the tangled ones (Tarjan's strongly connected components)
 *   5. a shortest way around each, written down
 *   6. the check
 *
 * Trial deletion. `outside` of an object begins as its strong count; every
 * reference that a traverse function visits takes 1 off its target. What is left
 * are references from variables, stacks and objects that take no part. An object
 * with some left is in use, and so is what can be reached from it. The rest has
 * leaked: cycles, and what hangs from them.
 *
 * Everything but what is reported lives in struct mo_tracked, so the check needs
 * next to no memory, which may be why somebody runs it.
 */
#include "core/base/error.h"
#include "core/object/object.h"
#include "core/runtime/fork.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* --------------------------------------------- 1. the objects that take part */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mo_tracked all = {.previous = &all, .next = &all};
static _Atomic int tracking;

int mo_cycles_tracking(void) {
    return atomic_load_explicit(&tracking, memory_order_relaxed);
}

int memopt_ref_track(int on) {
    int code = mo_object_start(NULL);
    return code < 0 ? code : atomic_exchange(&tracking, on != 0);
}

static struct mo_tracked *tracked_of(struct mo_ref *ref) {
    return (struct mo_tracked *)ref - 1;
}

static struct mo_ref *ref_of(struct mo_tracked *tracked) {
    return (struct mo_ref *)(tracked + 1);
}

void mo_cycles_add(struct mo_ref *ref) {
    struct mo_tracked *tracked = tracked_of(ref);
    pthread_mutex_lock(&lock);
    tracked->previous = all.previous;
    tracked->next = &all;
    all.previous->next = tracked;
    all.previous = tracked;
    pthread_mutex_unlock(&lock);
}

void mo_cycles_remove(struct mo_ref *ref) {
    struct mo_tracked *tracked = tracked_of(ref);
    pthread_mutex_lock(&lock);
    tracked->previous->next = tracked->next;
    tracked->next->previous = tracked->previous;
    pthread_mutex_unlock(&lock);
}

void mo_cycles_fork(enum mo_fork_moment moment) {
    if (moment == MO_FORK_BEFORE)
        mo_fork_lock(&lock);
    else
        mo_fork_unlock(&lock);
}

/* ---------------------------------------------------------------- 2. walks */

/* What has been found out about an object. */
enum {
    UNKNOWN, /* not held from outside, as far as is known */
    IN_USE,  /* held from outside, or being destroyed */
    OPEN,    /* its references are being followed */
    TANGLED, /* they have been; it may yet belong to a component */
    DONE,    /* its component is known: `low` is that component's number */
    QUEUED,  /* DONE, and seen by the search for the shortest way */
};

/* The state of a walk; what a visit needs of it. */
struct walk {
    struct mo_tracked *top;    /* objects waiting, the last one first */
    struct mo_tracked *open;   /* candidates for a component, by `component` */
    struct mo_tracked *last;   /* of a queue, in which `above` is the next */
    struct mo_tracked *at;     /* whose references are being visited */
    struct mo_tracked *start;  /* of a search */
    struct mo_tracked *broken; /* visited more often than it is held */
    size_t count;
    int closed; /* a reference back to the start was found */
};

/* The object's, if it takes part and lives. */
static struct mo_tracked *target(void *object) {
    if (object == NULL)
        return NULL;
    struct mo_ref *ref = mo_ref_of(object);
    return (ref->heap_and_flags & MO_REF_TRACKED) == 0 ? NULL : tracked_of(ref);
}

static void traverse(struct walk *walk, struct mo_tracked *tracked, memopt_ref_visit_fn visit) {
    struct mo_ref *ref = ref_of(tracked);
    walk->at = tracked;
    ref->type->traverse(mo_ref_object(ref), visit, walk);
}

static void remove_waiting(struct walk *walk, struct mo_tracked *tracked) {
    if (tracked->above != NULL)
        tracked->above->below = tracked->below;
    else
        walk->top = tracked->below;
    if (tracked->below != NULL)
        tracked->below->above = tracked->above;
    tracked->pending = 0;
}

/* On top of those waiting, from where it was if it waited already: that is what
 * makes the order that of a recursive walk. */
static void push(struct walk *walk, struct mo_tracked *tracked) {
    if (tracked->pending)
        remove_waiting(walk, tracked);
    tracked->above = NULL;
    tracked->below = walk->top;
    if (walk->top != NULL)
        walk->top->above = tracked;
    walk->top = tracked;
    tracked->pending = 1;
}

/* ------------------------------------------------------- 3. trial deletion */

static void visit_subtract(void *context, void *object) {
    struct walk *walk = context;
    struct mo_tracked *tracked = target(object);
    if (tracked != NULL && --tracked->outside < 0)
        walk->broken = tracked;
}

static void visit_in_use(void *context, void *object) {
    struct mo_tracked *tracked = target(object);
    if (tracked != NULL && tracked->state == UNKNOWN) {
        tracked->state = IN_USE;
        push(context, tracked);
    }
}

static int find_unused(struct walk *walk, struct memopt_error *error) {
    struct mo_tracked *tracked;
    for (tracked = all.next; tracked != &all; tracked = tracked->next) {
        struct mo_ref *ref = ref_of(tracked);
        tracked->outside = mo_ref_read(ref, &ref->strong);
        /* dying: not yet out of the list */
        tracked->state = tracked->outside == 0 ? IN_USE : UNKNOWN;
        tracked->pending = 0;
    }
    for (tracked = all.next; tracked != &all; tracked = tracked->next)
        if (tracked->state == UNKNOWN)
            traverse(walk, tracked, visit_subtract);
    if (walk->broken != NULL) {
        struct mo_ref *ref = ref_of(walk->broken);
        return mo_fail(error, -EINVAL,
                       "the object %p of type '%s' is visited more often than it is held (%" PRIu32
                       " times): a traverse function visits what its object doesn't hold",
                       mo_ref_object(ref), ref->type->name, mo_ref_read(ref, &ref->strong));
    }
    for (tracked = all.next; tracked != &all; tracked = tracked->next)
        if (tracked->state == UNKNOWN && tracked->outside > 0) {
            tracked->state = IN_USE;
            push(walk, tracked);
        }
    while ((tracked = walk->top) != NULL) {
        remove_waiting(walk, tracked);
        traverse(walk, tracked, visit_in_use);
    }
    return 0;
}

/* ------------------------------------------------------------ 4. components */

static void visit_deeper(void *context, void *object) {
    struct mo_tracked *tracked = target(object);
    if (tracked != NULL && tracked->state == UNKNOWN)
        push(context, tracked);
}

static void visit_lowest(void *context, void *object) {
    struct walk *walk = context;
    struct mo_tracked *tracked = target(object);
    if (tracked == NULL)
        return;
    if (tracked == walk->at)
        walk->closed = 1; /* holds itself */
    if ((tracked->state == OPEN || tracked->state == TANGLED) && tracked->low < walk->at->low)
        walk->at->low = tracked->low;
}

/* Takes the walk on until a component that has a cycle is known, and returns its
 * list (by `component`); NULL: the walk has come to its end. */
static struct mo_tracked *next_component(struct walk *walk) {
    struct mo_tracked *tracked;
    while ((tracked = walk->top) != NULL) {
        if (tracked->state == UNKNOWN) {
            tracked->state = OPEN;
            tracked->index = tracked->low = ++walk->count;
            tracked->component = walk->open;
            walk->open = tracked;
            traverse(walk, tracked, visit_deeper);
            continue;
        }
        remove_waiting(walk, tracked);
        walk->closed = 0;
        traverse(walk, tracked, visit_lowest);
        tracked->state = TANGLED;
        if (tracked->low != tracked->index)
            continue;
        struct mo_tracked *component = walk->open;
        walk->open = tracked->component;
        tracked->component = NULL;
        for (struct mo_tracked *member = component; member != NULL; member = member->component) {
            member->state = DONE;
            member->low = tracked->index;
        }
        if (component != tracked || walk->closed)
            return component;
    }
    return NULL;
}

/* ------------------------------------------------------ 5. a way around */

struct found {
    struct found *next;
    struct memopt_ref_cycle cycle;
    char *text;
    void *objects[];
};

enum { SHOWN = 32 }; /* objects in the text */

static void visit_around(void *context, void *object) {
    struct walk *walk = context;
    struct mo_tracked *tracked = target(object);
    if (tracked == NULL || walk->closed)
        return;
    if (tracked == walk->start) {
        walk->closed = 1;
    } else if (tracked->state == DONE && tracked->low == walk->start->low) {
        tracked->state = QUEUED;
        tracked->from = walk->at;
        tracked->above = NULL;
        walk->last->above = tracked;
        walk->last = tracked;
    }
}

/* Breadth first from `start` until a reference leads back to it, which one does.
 * Returns the last object of the way; `from` leads from there to the start. */
static struct mo_tracked *search(struct mo_tracked *start) {
    struct walk walk = {.start = start, .last = start};
    start->state = QUEUED;
    start->from = start->above = NULL;
    for (struct mo_tracked *tracked = start; tracked != NULL; tracked = tracked->above) {
        traverse(&walk, tracked, visit_around);
        if (walk.closed)
            return tracked;
    }
    return NULL;
}

static int write_path(struct found *found) {
    size_t size = 0;
    FILE *stream = open_memstream(&found->text, &size);
    if (stream == NULL)
        return -ENOMEM;
    size_t length = found->cycle.length;
    for (size_t i = 0; i <= length; i++) {
        if (i == SHOWN - 1 && length > SHOWN) {
            fprintf(stream, "... %zu more ... -> ", length - i);
            i = length;
        }
        void *object = found->objects[i % length];
        fprintf(stream, "%s %p%s", mo_ref_of(object)->type->name, object, i < length ? " -> " : "");
    }
    if (fclose(stream) != 0) {
        free(found->text);
        return -ENOMEM;
    }
    found->cycle.path = found->text;
    return 0;
}

/* NULL: out of memory. */
static struct found *describe(struct mo_tracked *component) {
    /* from the object that has been there longest: the list is by discovery, and
     * its end is where the walk came in */
    struct mo_tracked *start = component;
    while (start->component != NULL)
        start = start->component;
    struct mo_tracked *end = search(start);
    size_t length = 0;
    for (struct mo_tracked *tracked = end; tracked != NULL; tracked = tracked->from)
        length++;
    struct found *found = malloc(sizeof(*found) + length * sizeof(found->objects[0]));
    if (found == NULL)
        return NULL;
    *found = (struct found){.cycle = {.size = sizeof(found->cycle), .length = length}};
    found->cycle.object = found->objects;
    for (struct mo_tracked *tracked = end; tracked != NULL; tracked = tracked->from)
        found->objects[--length] = mo_ref_object(ref_of(tracked));
    for (struct mo_tracked *member = component; member != NULL; member = member->component) {
        struct mo_ref *ref = ref_of(member);
        found->cycle.members++;
        found->cycle.bytes += memopt_heap_usable_size(mo_ref_heap(ref), mo_ref_block(ref));
    }
    if (write_path(found) < 0) {
        free(found);
        return NULL;
    }
    return found;
}

/* --------------------------------------------------------------- 6. the check */

/* With the lock. Returns the number of components, or -errno. */
static int collect(struct found **ret_first, struct memopt_error *error) {
    struct walk walk = {.top = NULL};
    struct found **last = ret_first;
    int count = find_unused(&walk, error);
    if (count < 0)
        return count;
    for (struct mo_tracked *root = all.next; root != &all; root = root->next) {
        if (root->state != UNKNOWN)
            continue;
        push(&walk, root);
        struct mo_tracked *component;
        while ((component = next_component(&walk)) != NULL) {
            struct found *found = describe(component);
            if (found == NULL)
                return mo_fail(error, -ENOMEM, "out of memory for the path of a cycle");
            *last = found;
            last = &found->next;
            count++;
        }
    }
    return count;
}

int memopt_ref_find_cycles(memopt_ref_cycle_fn visit, void *context, struct memopt_error *error) {
    struct found *first = NULL;
    pthread_mutex_lock(&lock);
    int count = collect(&first, error);
    pthread_mutex_unlock(&lock);
    int stop = count < 0 || visit == NULL;
    while (first != NULL) {
        struct found *next = first->next;
        if (!stop) {
            stop = visit(context, &first->cycle);
            if (stop < 0)
                count = stop;
        }
        free(first->text);
        free(first);
        first = next;
    }
    return count;
}
