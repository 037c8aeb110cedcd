/*
 * scope.c - owned handles and scopes (see memopt/scope.h).
 *
 * A scope's entries: the first ones in the struct, further ones in a block of its
 * heap that grows by doubling and goes when the scope ends.
 */
#include "core/base/error.h"
#include "core/object/object.h"

#include <memopt/scope.h>

#include <errno.h>
#include <stdbool.h>

/* Programs have these in their own memory: the sizes are the ABI's. */
_Static_assert(sizeof(void *) != 8 ||
                   (sizeof(struct memopt_owned) == 24 && sizeof(struct memopt_scope_entry) == 40 &&
                    sizeof(struct memopt_scope) == 360),
               "the layout of a public struct has changed");

/* ------------------------------------------------------------ owned handles */

static void release_block(void *heap, void *p) {
    memopt_heap_free(heap, p);
}

struct memopt_owned memopt_owned_make(void *p, memopt_release_fn release, void *context) {
    struct memopt_owned empty = MEMOPT_OWNED_INIT;
    return p == NULL ? empty : (struct memopt_owned){p, release, context};
}

struct memopt_owned memopt_owned_block(struct memopt_heap *heap, void *p) {
    return memopt_owned_make(p, release_block, heap);
}

struct memopt_owned memopt_owned_move(struct memopt_owned *owned) {
    if (owned == NULL)
        return (struct memopt_owned)MEMOPT_OWNED_INIT;
    struct memopt_owned held = *owned;
    *owned = (struct memopt_owned)MEMOPT_OWNED_INIT;
    return held;
}

void *memopt_owned_release(struct memopt_owned *owned) {
    return memopt_owned_move(owned).p;
}

void memopt_owned_reset(struct memopt_owned *owned) {
    if (owned == NULL)
        return;
    struct memopt_owned held = memopt_owned_move(owned);
    if (held.p != NULL && held.release != NULL)
        held.release(held.context, held.p);
}

/* ----------------------------------------------------------------- entries */

static struct memopt_scope_entry *entry_at(struct memopt_scope *scope, size_t i) {
    return i < MEMOPT_SCOPE_ENTRIES ? &scope->first[i] : &scope->more[i - MEMOPT_SCOPE_ENTRIES];
}

static void run(const struct memopt_scope_entry *entry) {
    if (entry->cleanup != NULL)
        entry->cleanup(entry->p);
    else
        entry->release(entry->context, entry->p);
}

/* Those after it move up: the order stays. */
static struct memopt_scope_entry take(struct memopt_scope *scope, size_t i) {
    struct memopt_scope_entry entry = *entry_at(scope, i);
    scope->count--;
    for (; i < scope->count; i++)
        *entry_at(scope, i) = *entry_at(scope, i + 1);
    return entry;
}

static int no_memory(struct memopt_scope *scope, size_t count, struct memopt_error *error) {
    return mo_fail(error, -ENOMEM, "heap '%s' has no memory for %zu more clean-ups of a scope",
                   memopt_heap_name(scope->heap), count);
}

int memopt_scope_reserve(struct memopt_scope *scope, size_t count, struct memopt_error *error) {
    size_t room = MEMOPT_SCOPE_ENTRIES + scope->capacity;
    if (count <= room - scope->count)
        return 0;
    int code = mo_object_heap(&scope->heap, error);
    if (code < 0)
        return code;
    size_t wanted, size;
    if (__builtin_add_overflow(scope->count, count, &wanted) || wanted > SIZE_MAX / 2)
        return no_memory(scope, count, error);
    wanted -= MEMOPT_SCOPE_ENTRIES;
    if (wanted < room)
        wanted = room;
    struct memopt_scope_entry *more = __builtin_mul_overflow(wanted, sizeof(*more), &size)
                                          ? NULL
                                          : memopt_heap_realloc(scope->heap, scope->more, size);
    if (more == NULL)
        return no_memory(scope, count, error);
    scope->more = more;
    scope->capacity = wanted;
    return 0;
}

/* The entry is the scope's, or has run. */
static int push(struct memopt_scope *scope, struct memopt_scope_entry entry,
                struct memopt_error *error) {
    int code = memopt_scope_reserve(scope, 1, error);
    if (code == 0)
        *entry_at(scope, scope->count++) = entry;
    else
        run(&entry);
    return code;
}

static int push_function(struct memopt_scope *scope, memopt_cleanup_fn cleanup, void *p,
                         bool on_error, struct memopt_error *error) {
    if (scope == NULL || cleanup == NULL)
        return mo_fail(error, -EINVAL, "a clean-up needs a scope and a function");
    return push(scope, (struct memopt_scope_entry){p, cleanup, NULL, NULL, on_error}, error);
}

int memopt_scope_push(struct memopt_scope *scope, memopt_cleanup_fn cleanup, void *p,
                      struct memopt_error *error) {
    return push_function(scope, cleanup, p, false, error);
}

int memopt_scope_push_on_error(struct memopt_scope *scope, memopt_cleanup_fn cleanup, void *p,
                               struct memopt_error *error) {
    return push_function(scope, cleanup, p, true, error);
}

int memopt_scope_own(struct memopt_scope *scope, struct memopt_owned *owned,
                     struct memopt_error *error) {
    if (scope == NULL || owned == NULL)
        return mo_fail(error, -EINVAL, "a scope and an owned handle are needed");
    struct memopt_owned held = memopt_owned_move(owned);
    if (held.p == NULL || held.release == NULL)
        return 0;
    return push(scope, (struct memopt_scope_entry){held.p, NULL, held.release, held.context, false},
                error);
}

void *memopt_scope_alloc(struct memopt_scope *scope, struct memopt_heap *heap, size_t size) {
    if (scope == NULL || memopt_scope_reserve(scope, 1, NULL) < 0 ||
        (heap == NULL && mo_object_heap(&scope->heap, NULL) < 0)) {
        errno = scope == NULL ? EINVAL : ENOMEM;
        return NULL;
    }
    if (heap == NULL)
        heap = scope->heap;
    void *p = memopt_heap_alloc(heap, size);
    if (p != NULL)
        *entry_at(scope, scope->count++) =
            (struct memopt_scope_entry){p, NULL, release_block, heap, false};
    return p;
}

/* ---------------------------------------------------------- single entries */

/* Takes out the last entry for p, once `to`, if there is one, has room for it. */
static int take_last(struct memopt_scope *scope, const void *p, struct memopt_scope *to,
                     struct memopt_scope_entry *ret_entry, struct memopt_error *error) {
    if (scope == NULL)
        return mo_fail(error, -EINVAL, "no scope to look for %p in", p);
    size_t i = scope->count;
    while (i > 0 && entry_at(scope, i - 1)->p != p)
        i--;
    if (i == 0)
        return mo_fail(error, -ENOENT, "the scope has no clean-up for %p", p);
    int code = to == NULL ? 0 : memopt_scope_reserve(to, 1, error);
    if (code == 0)
        *ret_entry = take(scope, i - 1);
    return code;
}

int memopt_scope_dismiss(struct memopt_scope *scope, void *p, struct memopt_error *error) {
    struct memopt_scope_entry entry;
    return take_last(scope, p, NULL, &entry, error);
}

int memopt_scope_run(struct memopt_scope *scope, void *p, struct memopt_error *error) {
    struct memopt_scope_entry entry;
    int code = take_last(scope, p, NULL, &entry, error);
    if (code == 0)
        run(&entry);
    return code;
}

int memopt_scope_move(struct memopt_scope *scope, void *p, struct memopt_scope *to,
                      struct memopt_error *error) {
    struct memopt_scope_entry entry;
    if (to == NULL)
        return mo_fail(error, -EINVAL, "no scope to move %p to", p);
    int code = take_last(scope, p, to, &entry, error);
    if (code == 0)
        *entry_at(to, to->count++) = entry;
    return code;
}

/* -------------------------------------------------------------- all entries */

/* Empty, and without a block. */
static void clear(struct memopt_scope *scope) {
    if (scope->more != NULL)
        memopt_heap_free(scope->heap, scope->more);
    scope->more = NULL;
    scope->count = scope->capacity = 0;
    scope->committed = 0;
}

int memopt_scope_move_all(struct memopt_scope *scope, struct memopt_scope *to,
                          struct memopt_error *error) {
    if (scope == NULL || to == NULL || scope == to)
        return mo_fail(error, -EINVAL, "two scopes are needed to move from one to the other");
    int code = memopt_scope_reserve(to, scope->count, error);
    if (code < 0)
        return code;
    for (size_t i = 0; i < scope->count; i++)
        *entry_at(to, to->count++) = *entry_at(scope, i);
    clear(scope);
    return 0;
}

void memopt_scope_commit(struct memopt_scope *scope) {
    if (scope != NULL)
        scope->committed = 1;
}

void memopt_scope_end(struct memopt_scope *scope) {
    if (scope == NULL)
        return;
    int saved = errno;
    while (scope->count > 0) {
        struct memopt_scope_entry entry = take(scope, scope->count - 1);
        if (!entry.on_error || !scope->committed)
            run(&entry);
    }
    clear(scope);
    errno = saved;
}
