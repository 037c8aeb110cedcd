/*
 * ref.c - strong and weak references (see memopt/ref.h).
 *
 *   block:  [ struct mo_tracked, if it takes part ][ struct mo_ref ][ object ]
 *
 * Two counts. The strong references together hold one weak one, which goes when
 * the object has been destroyed; the block goes with the last weak one. A count
 * changes by compare-and-swap rather than by addition, so that 0 and "for good" are
 * final whatever a faulty program does.
 */
#include "core/base/error.h"
#include "core/base/poison.h"
#include "core/object/object.h"

#include <errno.h>
#include <stdbool.h>

/* ------------------------------------------------------------- the counts */

static bool is_local(const struct mo_ref *ref) {
    return (ref->heap_and_flags & MO_REF_LOCAL) != 0;
}

static bool is_tracked(const struct mo_ref *ref) {
    return (ref->heap_and_flags & MO_REF_TRACKED) != 0;
}

uint32_t mo_ref_read(const struct mo_ref *ref, const union mo_ref_count *count) {
    return is_local(ref) ? count->local
                         : atomic_load_explicit(&count->shared, memory_order_relaxed);
}

/* One more, unless it is 0. false: it is. */
static bool add(const struct mo_ref *ref, union mo_ref_count *count) {
    if (is_local(ref)) {
        if (count->local == 0)
            return false;
        count->local += count->local != MO_REF_FOREVER;
        return true;
    }
    uint32_t old = atomic_load_explicit(&count->shared, memory_order_relaxed);
    do {
        if (old == 0)
            return false;
        if (old == MO_REF_FOREVER)
            return true;
    } while (!atomic_compare_exchange_weak_explicit(&count->shared, &old, old + 1,
                                                    memory_order_acquire, memory_order_relaxed));
    return true;
}

/* One less, and the count there was before. 0 and "for good" stay. */
static uint32_t subtract(const struct mo_ref *ref, union mo_ref_count *count) {
    if (is_local(ref)) {
        uint32_t old = count->local;
        if (old != 0 && old != MO_REF_FOREVER)
            count->local = old - 1;
        return old;
    }
    uint32_t old = atomic_load_explicit(&count->shared, memory_order_relaxed);
    do {
        if (old == 0 || old == MO_REF_FOREVER)
            return old;
        /* what this thread did to the object comes before its end, in any thread */
    } while (!atomic_compare_exchange_weak_explicit(&count->shared, &old, old - 1,
                                                    memory_order_acq_rel, memory_order_relaxed));
    return old;
}

/* ------------------------------------------------- for memory checkers only */

static size_t object_size(struct mo_ref *ref) {
    char *block = mo_ref_block(ref);
    size_t usable = memopt_heap_usable_size(mo_ref_heap(ref), block);
    return usable - (size_t)((char *)mo_ref_object(ref) - block);
}

static void check_dead(struct mo_ref *ref) {
    if (mo_checked())
        mo_poison(mo_ref_object(ref), object_size(ref));
}

static void check_free(struct mo_ref *ref) {
    if (mo_checked())
        mo_unpoison(mo_ref_object(ref), object_size(ref));
}

/* -------------------------------------------------------------- beginning */

void *mo_ref_block(struct mo_ref *ref) {
    return is_tracked(ref) ? (void *)((struct mo_tracked *)ref - 1) : ref;
}

int memopt_ref_new(struct memopt_heap *heap, const struct memopt_ref_type *type, size_t size,
                   unsigned flags, void **ret_object, struct memopt_error *error) {
    if (type == NULL || type->size != sizeof(*type) || type->name == NULL)
        return mo_fail(error, -EINVAL,
                       "an object needs a type with a name: begin with MEMOPT_REF_TYPE_INIT");
    if (ret_object == NULL)
        return mo_fail(error, -EINVAL, "no place for the object of type '%s'", type->name);
    if ((flags & ~(unsigned)MEMOPT_REF_LOCAL) != 0)
        return mo_fail(error, -EINVAL, "%#x is no set of flags for an object of type '%s'", flags,
                       type->name);
    int code = mo_object_heap(&heap, error);
    if (code < 0)
        return code;
    size_t prefix = sizeof(struct mo_ref);
    if (type->traverse != NULL && mo_cycles_tracking()) {
        flags |= MO_REF_TRACKED;
        prefix += sizeof(struct mo_tracked);
    }
    char *block = size > SIZE_MAX - prefix ? NULL : memopt_heap_calloc(heap, 1, prefix + size);
    if (block == NULL)
        return mo_fail(error, -ENOMEM, "heap '%s' has no %zu bytes for an object of type '%s'",
                       memopt_heap_name(heap), size, type->name);
    struct mo_ref *ref = (struct mo_ref *)(block + prefix) - 1;
    ref->type = type;
    ref->heap_and_flags = (uintptr_t)heap | flags;
    ref->strong.local = ref->weak.local = 1;
    if (is_tracked(ref))
        mo_cycles_add(ref);
    *ret_object = mo_ref_object(ref);
    return 0;
}

void *memopt_ref_get(void *object) {
    if (object == NULL)
        return NULL;
    struct mo_ref *ref = mo_ref_of(object);
    if (add(ref, &ref->strong))
        return object;
    errno = EINVAL;
    return NULL;
}

/* ------------------------------------------------------------------- ends */

static void put_weak(struct mo_ref *ref) {
    uint32_t old = subtract(ref, &ref->weak);
    if (old == 1) {
        check_free(ref);
        memopt_heap_free(mo_ref_heap(ref), mo_ref_block(ref));
    }
}

static void destroy(struct mo_ref *ref) {
    if (is_tracked(ref))
        mo_cycles_remove(ref);
    if (ref->type->destroy != NULL)
        ref->type->destroy(mo_ref_object(ref));
    check_dead(ref);
    put_weak(ref);
}

/* What waits for the destroy function that this thread is in: a list that is freed
 * from its head would else be as deep on the stack as it is long. */
static _Thread_local struct {
    struct mo_ref *first, **last; /* last NULL: in no destroy function */
} dead __attribute__((tls_model("initial-exec")));

void memopt_ref_put(void *object) {
    if (object == NULL)
        return;
    struct mo_ref *ref = mo_ref_of(object);
    uint32_t old = subtract(ref, &ref->strong);
    if (__builtin_expect(old > 1, 1))
        return;
    if (old == 0) {
        errno = EINVAL;
        return;
    }
    ref->next_dead = NULL;
    if (dead.last != NULL) {
        *dead.last = ref;
        dead.last = &ref->next_dead;
        return;
    }
    int saved = errno;
    dead.first = ref;
    dead.last = &ref->next_dead;
    while ((ref = dead.first) != NULL) {
        dead.first = ref->next_dead;
        if (dead.first == NULL)
            dead.last = &dead.first;
        destroy(ref);
    }
    dead.last = NULL;
    errno = saved;
}

/* ------------------------------------------------------------------- weak */

static struct mo_ref *ref_of_weak(struct memopt_weak *weak) {
    return (struct mo_ref *)(void *)weak;
}

struct memopt_weak *memopt_weak_new(void *object) {
    return object == NULL ? NULL : memopt_weak_get((struct memopt_weak *)(void *)mo_ref_of(object));
}

struct memopt_weak *memopt_weak_get(struct memopt_weak *weak) {
    if (weak != NULL)
        add(ref_of_weak(weak), &ref_of_weak(weak)->weak);
    return weak;
}

void *memopt_weak_lock(struct memopt_weak *weak) {
    if (weak == NULL)
        return NULL;
    struct mo_ref *ref = ref_of_weak(weak);
    return add(ref, &ref->strong) ? mo_ref_object(ref) : NULL;
}

void memopt_weak_put(struct memopt_weak *weak) {
    if (weak != NULL)
        put_weak(ref_of_weak(weak));
}

void memopt_ref_counts(void *object, uint32_t *ret_strong, uint32_t *ret_weak) {
    struct mo_ref *ref = object == NULL ? NULL : mo_ref_of(object);
    uint32_t strong = ref == NULL ? 0 : mo_ref_read(ref, &ref->strong);
    uint32_t weak = ref == NULL ? 0 : mo_ref_read(ref, &ref->weak);
    if (ret_strong != NULL)
        *ret_strong = strong;
    if (ret_weak != NULL)
        *ret_weak = weak == MO_REF_FOREVER ? weak : weak - (strong > 0);
}
