/* fork.c - what holds for all of core/object: see object.h. */
#include "core/object/object.h"
#include "core/runtime/fork.h"

int mo_object_heap(struct memopt_heap **heap, struct memopt_error *error) {
    struct memopt_error unwanted;
    if (error == NULL)
        error = &unwanted;
    if (*heap != NULL)
        return 0;
    struct memopt_heap *standard = memopt_heap_default(error);
    if (standard == NULL)
        return error->code;
    *heap = standard;
    return 0;
}

static void at_fork(enum mo_fork_moment moment) {
    mo_cycles_fork(moment);
    mo_lazy_fork(moment);
    mo_pages_fork(moment);
}

static void before_fork(void) {
    at_fork(MO_FORK_BEFORE);
}
static void after_fork(int in_child) {
    at_fork(in_child ? MO_FORK_CHILD : MO_FORK_PARENT);
}

int mo_object_start(struct memopt_error *error) {
    static const struct mo_fork_hooks hooks = {
        .rank = MO_FORK_OBJECT, .before = before_fork, .after = after_fork};
    static _Atomic int started;
    if (atomic_load_explicit(&started, memory_order_acquire))
        return 0;
    int code = mo_fork_register(&hooks, error);
    if (code == 0)
        atomic_store_explicit(&started, 1, memory_order_release);
    return code;
}
