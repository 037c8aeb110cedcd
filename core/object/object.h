/*
 * object.h - inside libmemopt: what the techniques of core/object share.
 *
 *   ref.c      strong and weak references      memopt/ref.h
 *   cycles.c   the check for leaked cycles     memopt/ref.h
 *   lazy.c     state built at first use        memopt/lazy.h
 *   scope.c    owned handles, scopes           memopt/scope.h
 *   cow.c      copy-on-write buffers           memopt/cow.h
 *   pages.c    the same by pages               pages.h
 *   fork.c     fork handlers of all of these, and the default heap for NULL
 *
 * Locks: each file has at most one, and holds it while it calls nothing but malloc
 * and the kernel: no heap, and no function of the program's but traverse.
 */
#ifndef MO_OBJECT_OBJECT_H
#define MO_OBJECT_OBJECT_H

#include <memopt/heap.h>
#include <memopt/ref.h>

#include <stdatomic.h>

/* ----------------------------------------------------------------- fork.c */

/* `*heap`, or the default heap if that is NULL. 0 or -errno. */
int mo_object_heap(struct memopt_heap **heap, struct memopt_error *error);
/* The fork handlers are registered, once: before the first lock. 0 or -ENOMEM. */
int mo_object_start(struct memopt_error *error);

/* At fork: before it, after it in the parent, after it in the child. */
enum mo_fork_moment { MO_FORK_BEFORE, MO_FORK_PARENT, MO_FORK_CHILD };
void mo_cycles_fork(enum mo_fork_moment moment);
void mo_lazy_fork(enum mo_fork_moment moment);
void mo_pages_fork(enum mo_fork_moment moment);

/* ------------------------------------------------------------------ ref.c */

/* A count that is plain or atomic, as the object is. */
union mo_ref_count {
    _Atomic uint32_t shared;
    uint32_t local;
};
#define MO_REF_FOREVER UINT32_MAX /* there for good */

/* In front of every object; a weak reference is its address. */
struct mo_ref {
    union mo_ref_count strong, weak; /* weak: and one for all the strong ones */
    const struct memopt_ref_type *type;
    uintptr_t heap_and_flags; /* a heap is page aligned */
    struct mo_ref *next_dead; /* waits to be destroyed */
};
_Static_assert(sizeof(struct mo_ref) == 32, "keeps 16-byte alignment");
enum { MO_REF_LOCAL = MEMOPT_REF_LOCAL, MO_REF_TRACKED = 2, MO_REF_FLAGS = 3 };

static inline struct mo_ref *mo_ref_of(void *object) {
    return (struct mo_ref *)object - 1;
}
static inline void *mo_ref_object(struct mo_ref *ref) {
    return ref + 1;
}
static inline struct memopt_heap *mo_ref_heap(const struct mo_ref *ref) {
    return (struct memopt_heap *)(ref->heap_and_flags & ~(uintptr_t)MO_REF_FLAGS);
}
uint32_t mo_ref_read(const struct mo_ref *ref, const union mo_ref_count *count);
/* What the heap gave for it. */
void *mo_ref_block(struct mo_ref *ref);

/* --------------------------------------------------------------- cycles.c */

/* In front of the struct mo_ref of an object that takes part in the check; but for
 * the first two, of use during the check only. */
struct mo_tracked {
    struct mo_tracked *previous, *next; /* all that take part */
    struct mo_tracked *above, *below;   /* on the stack, or in the queue, of a walk */
    struct mo_tracked *component;       /* the next of those found to be tangled */
    struct mo_tracked *from;            /* the way that the walk came */
    int64_t outside;                    /* strong references from elsewhere */
    size_t index, low;                  /* Tarjan's */
    int state, pending;
};
_Static_assert(sizeof(struct mo_tracked) == 80, "said in memopt/ref.h; keeps alignment");

int mo_cycles_tracking(void); /* do new objects take part? */
void mo_cycles_add(struct mo_ref *ref);
void mo_cycles_remove(struct mo_ref *ref);

#endif
