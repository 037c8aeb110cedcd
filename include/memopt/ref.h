/*
 * memopt/ref.h - objects with strong and weak references, in named heaps.
 *
 *     struct node { struct node *next; struct memopt_weak *parent; };
 *     static void node_destroy(void *object) {
 *         struct node *node = object;
 *         memopt_ref_put(node->next);
 *         memopt_weak_put(node->parent);
 *     }
 *     static void node_traverse(void *object, memopt_ref_visit_fn visit, void *context) {
 *         visit(context, ((struct node *)object)->next);
 *     }
 *     static const struct memopt_ref_type node_type =
 *         MEMOPT_REF_TYPE_INIT("node", node_destroy, node_traverse);
 *
 *     struct node *node;
 *     if (memopt_ref_new(heap, &node_type, sizeof(*node), 0, (void **)&node, &error) < 0) ...
 *
 * Vocabulary
 *   strong  keeps the object alive: got from memopt_ref_new(), memopt_ref_get(),
 *           memopt_weak_lock(); given up with memopt_ref_put()
 *   weak    does not, but can be asked for a strong one: memopt_weak_new(), _get();
 *           given up with memopt_weak_put(). It may be the last to know the object.
 *   dead    the last strong reference is gone: destroy has run, locking a weak
 *           reference gives NULL, and the contents must not be touched. The block
 *           goes back to its heap with the last reference of either kind. Destroy
 *           the heap after that where memopt_ref_track() is on.
 *   cycle   objects that hold strong references to each other around a ring: none
 *           of them dies by itself. A weak reference somewhere in it is the cure.
 *
 * Counts: 32 bits each. A count that would pass 4,294,967,294 stays there for good:
 * the object becomes immortal rather than being freed under somebody's feet. A
 * reference given up twice while the block is still there (a weak reference keeps
 * it) changes nothing and sets errno to EINVAL, as does asking a dead object for
 * another strong reference; otherwise it is a use after free, as with free().
 *
 * Ends: destroy runs in the thread that gave up the last strong reference, once,
 * with no lock held. It gives up what the object holds. An object whose last
 * reference goes inside a destroy function is destroyed as soon as that has
 * returned, so a long list dies without a deep stack.
 *
 * Threads: references are counted atomically; any thread may get, lock and put its
 * own references at any time, locking against the last put included. The contents
 * are the program's to protect. Objects made with MEMOPT_REF_LOCAL are counted with
 * plain adds: all their references belong to one thread at a time
 * (ThreadSanitizer sees a mistake). Not for signal handlers.
 * fork: the child has its own copy of every object and count.
 *
 * Memory checkers: the contents of a dead object are poisoned, for
 * AddressSanitizer and Valgrind, for as long as a weak reference keeps the block;
 * then the heap's own checks hold.
 */
#ifndef MEMOPT_REF_H
#define MEMOPT_REF_H

#include <memopt/heap.h>

#ifdef __cplusplus
extern "C" {
#endif

struct memopt_weak;

/* Called by a traverse function for each strong reference; NULL is nothing. */
typedef void (*memopt_ref_visit_fn)(void *context, void *object);

/* What objects of a kind have in common. Constant; outlives the objects. */
struct memopt_ref_type {
    size_t size;      /* of this struct */
    const char *name; /* for the path of a cycle */
    /* Ends the contents; NULL: nothing to do. */
    void (*destroy)(void *object);
    /* Visits every strong reference that the object holds, each as often as it is
     * held, and does nothing else. For the cycle check; NULL: it holds none. It must
     * do with an object whose bytes are all zero. */
    void (*traverse)(void *object, memopt_ref_visit_fn visit, void *context);
};
#define MEMOPT_REF_TYPE_INIT(name, destroy, traverse)                                              \
    { sizeof(struct memopt_ref_type), (name), (destroy), (traverse) }

enum memopt_ref_flags {
    MEMOPT_REF_LOCAL = 1, /* one thread at a time: plain counts */
};

/* A new object of `size` zeroed bytes, 16-byte aligned, in `heap` (NULL: the
 * default heap), with one strong reference, the caller's.
 * -EINVAL (type, flags), -ENOMEM, or what the default heap could not be opened for. */
MEMOPT_EXPORT int memopt_ref_new(struct memopt_heap *heap, const struct memopt_ref_type *type,
                                 size_t size, unsigned flags, void **ret_object,
                                 struct memopt_error *error);

/* Another strong reference, of a caller that has one or is protected by one.
 * Returns the object; NULL for NULL, and for a dead object (errno EINVAL). */
MEMOPT_EXPORT void *memopt_ref_get(void *object);

/* Gives up a strong reference. NULL is nothing. Keeps errno otherwise than said
 * above. */
MEMOPT_EXPORT void memopt_ref_put(void *object);

/* A weak reference to an object that the caller has a strong one to; NULL for
 * NULL. Never fails. */
MEMOPT_EXPORT struct memopt_weak *memopt_weak_new(void *object);

/* Another weak reference from one; NULL for NULL. */
MEMOPT_EXPORT struct memopt_weak *memopt_weak_get(struct memopt_weak *weak);

/* A strong reference if the object lives, else NULL (errno untouched). The weak
 * one stays. */
MEMOPT_EXPORT void *memopt_weak_lock(struct memopt_weak *weak) __attribute__((warn_unused_result));

/* Gives up a weak reference. NULL is nothing. */
MEMOPT_EXPORT void memopt_weak_put(struct memopt_weak *weak);

/* The counts at a moment: for tests and debugging. Weak is without the one that all
 * strong references hold together. Either pointer may be NULL. */
MEMOPT_EXPORT void memopt_ref_counts(void *object, uint32_t *ret_strong, uint32_t *ret_weak);

/* -------------------------------------------------------- leaked cycles */

/* Whether objects made from now on, of types with a traverse function, take part in
 * the cycle check: 80 bytes and a lock each, so off at first. Returns what it was;
 * -ENOMEM. Objects made before take no part: what they refer to counts as in use. */
MEMOPT_EXPORT int memopt_ref_track(int on);

struct memopt_ref_cycle {
    size_t size;         /* of this struct */
    void *const *object; /* a shortest way around: object[0] holds object[1] … object[0] */
    size_t length;       /* of that */
    size_t members;      /* objects in all rings that are tangled with this one */
    uint64_t bytes;      /* of the members' blocks */
    /* "node 0x5581… -> leaf 0x5582… -> node 0x5581…"; of a long way the beginning */
    const char *path;
};
/* What it gets is gone when it returns. It is called with no lock held: it may break
 * the cycle. Non-zero: no further calls. */
typedef int (*memopt_ref_cycle_fn)(void *context, const struct memopt_ref_cycle *cycle);

/* Looks for cycles that nothing outside of them holds, by trial deletion as in
 * Bacon and Rajan, "Concurrent Cycle Collection in Reference Counted Systems" (2001)
 * and CPython's collector: references among the objects that take part are
 * subtracted from the counts; what is left at 0, and is not held by something that
 * isn't, has leaked. Calls `visit` (may be NULL) for each tangle of cycles.
 * Returns how many there are; -ENOMEM; -EINVAL, if a traverse function visits more
 * references than there are; what visit returned, if that is negative.
 * No other thread may be using objects that take part, but to make new ones. Linear
 * in objects and references. Frees nothing. */
MEMOPT_EXPORT int memopt_ref_find_cycles(memopt_ref_cycle_fn visit, void *context,
                                         struct memopt_error *error);

#ifdef __cplusplus
}
#endif
#endif
