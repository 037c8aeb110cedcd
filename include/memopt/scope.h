/*
 * memopt/scope.h - everything that was begun is ended, on every way out.
 *
 * Three things, from the simplest on:
 *
 * 1. memopt_auto: a variable that is cleaned up where it goes out of scope
 *
 *     memopt_auto(free) char *text = strdup(name);
 *     memopt_auto(fclose) FILE *file = fopen(path, "r");
 *     memopt_auto(close) int fd = open(path, O_RDONLY);
 *     memopt_auto(memopt_ref_put) struct node *node = memopt_weak_lock(weak);
 *
 * 2. struct memopt_owned: a pointer and how it is given up, as one value that can
 *    be moved, released and reset
 *
 *     memopt_auto(owned) struct memopt_owned block = memopt_owned_block(heap, p);
 *     ...
 *     return memopt_owned_move(&block);      // the caller's now; ours is empty
 *
 * 3. struct memopt_scope: any number of clean-ups, run last in, first out
 *
 *     memopt_auto(scope) struct memopt_scope scope = MEMOPT_SCOPE_INIT(heap);
 *     float *grad = memopt_scope_alloc(&scope, NULL, n * sizeof(*grad));
 *     if (grad == NULL || memopt_scope_push(&scope, close_log, log, &error) < 0)
 *         return -1;                         // everything is undone
 *     if (memopt_scope_push_on_error(&scope, remove_file, path, &error) < 0)
 *         return -1;
 *     ...
 *     memopt_scope_commit(&scope);           // all went well: the file stays
 *     return 0;
 *
 * Vocabulary of scopes
 *   clean-up   a function and a pointer for it
 *   on error   such a clean-up runs only if the scope ends without a commit. The
 *              others run in any case.
 *   end        runs the clean-ups, the last pushed first; the scope is then empty
 *              and can be used again. memopt_auto(scope) ends it where the C scope
 *              ends.
 *
 * A pointer is the scope's as soon as a push was called with it: a push that fails
 * for want of memory runs the clean-up itself before it returns. The first
 * MEMOPT_SCOPE_ENTRIES clean-ups need no memory, nor do as many more as
 * memopt_scope_reserve() was asked for: such a push can't fail.
 *
 * Nested scopes are scopes within scopes; memopt_scope_move() and _move_all() hand
 * what an inner one has to an outer one, which ends it at its time.
 *
 * A clean-up may use the scope that runs it: what it pushes runs next.
 *
 * Threads: a scope, an owned handle, belongs to one thread at a time. fork: the
 * child has copies, and its clean-ups run there, too, if it gets to the end.
 * Memory checkers: blocks of memopt_scope_alloc() are the heap's, which poisons
 * what is freed. C++: all of it works there (memopt_auto is GCC's and clang's
 * cleanup attribute, which exceptions respect).
 */
#ifndef MEMOPT_SCOPE_H
#define MEMOPT_SCOPE_H

#include <memopt/cow.h>
#include <memopt/heap.h>
#include <memopt/lazy.h>
#include <memopt/ref.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------- 1. memopt_auto */

/* Before a declaration: the variable is cleaned up when it goes out of scope; one
 * that is NULL (close: negative) is nothing. `name` is one of those below, or one
 * that the program has defined with MEMOPT_AUTO_DEFINE. */
#define memopt_auto(name) __attribute__((cleanup(memopt_auto_##name)))

/* At file level: makes `name`, a function that takes a pointer, one for
 * memopt_auto(). What it returns is lost. */
#define MEMOPT_AUTO_DEFINE(name)                                                                   \
    static inline void memopt_auto_##name(void *variable) {                                        \
        void *memopt_auto_p;                                                                       \
        memcpy(&memopt_auto_p, variable, sizeof(memopt_auto_p));                                   \
        if (memopt_auto_p != NULL)                                                                 \
            (void)name(memopt_auto_p);                                                             \
    }                                                                                              \
    struct memopt_auto_semicolon

MEMOPT_AUTO_DEFINE(free);
MEMOPT_AUTO_DEFINE(memopt_ref_put);

static inline void memopt_auto_fclose(FILE **variable) {
    if (*variable != NULL)
        fclose(*variable);
}
static inline void memopt_auto_close(const int *variable) {
    if (*variable >= 0)
        close(*variable);
}
static inline void memopt_auto_memopt_cow_destroy(struct memopt_cow **variable) {
    memopt_cow_destroy(*variable);
}
static inline void memopt_auto_memopt_weak_put(struct memopt_weak **variable) {
    memopt_weak_put(*variable);
}
static inline void memopt_auto_memopt_lazy_destroy(struct memopt_lazy *variable) {
    memopt_lazy_destroy(variable, NULL);
}
static inline void memopt_auto_memopt_heap_destroy(struct memopt_heap **variable) {
    memopt_heap_destroy(*variable, NULL);
}

/* --------------------------------------------------- 2. owned handles */

typedef void (*memopt_release_fn)(void *context, void *p);

/* Empty: p is NULL. Assigning it to another struct makes a copy, not a move: use
 * memopt_owned_move(). */
struct memopt_owned {
    void *p;
    memopt_release_fn release; /* NULL: p is only lent */
    void *context;
};
#define MEMOPT_OWNED_INIT                                                                          \
    { NULL, NULL, NULL }

/* p, given up with release(context, p). p NULL gives an empty one. */
MEMOPT_EXPORT struct memopt_owned memopt_owned_make(void *p, memopt_release_fn release,
                                                    void *context);
/* A block of that heap; it goes back to it. */
MEMOPT_EXPORT struct memopt_owned memopt_owned_block(struct memopt_heap *heap, void *p);
/* What it holds, for another; `owned` is empty then. */
MEMOPT_EXPORT struct memopt_owned memopt_owned_move(struct memopt_owned *owned);
/* What it holds, for a caller who gives it up himself; `owned` is empty then. */
MEMOPT_EXPORT void *memopt_owned_release(struct memopt_owned *owned);
/* Gives it up now; `owned` is empty then. NULL, and an empty one, is nothing. */
MEMOPT_EXPORT void memopt_owned_reset(struct memopt_owned *owned);

static inline void memopt_auto_owned(struct memopt_owned *variable) {
    memopt_owned_reset(variable);
}

/* ----------------------------------------------------------- 3. scopes */

typedef void (*memopt_cleanup_fn)(void *p);

#define MEMOPT_SCOPE_ENTRIES 8

/* The library's. */
struct memopt_scope_entry {
    void *p;
    memopt_cleanup_fn cleanup; /* or */
    memopt_release_fn release;
    void *context;
    int on_error;
};
struct memopt_scope {
    struct memopt_heap *heap; /* for blocks, and for further entries; NULL: the default heap */
    size_t count, capacity;   /* capacity: of `more` */
    struct memopt_scope_entry *more;
    int committed;
    struct memopt_scope_entry first[MEMOPT_SCOPE_ENTRIES];
};
#define MEMOPT_SCOPE_INIT(heap)                                                                    \
    {                                                                                              \
        (heap), 0, 0, NULL, 0, {                                                                   \
            { NULL, NULL, NULL, NULL, 0 }                                                          \
        }                                                                                          \
    }

/* cleanup(p) when the scope ends; _on_error: when it ends without a commit.
 * -EINVAL: no function, and nothing has happened; -ENOMEM, and cleanup(p) was
 * called. */
MEMOPT_EXPORT int memopt_scope_push(struct memopt_scope *scope, memopt_cleanup_fn cleanup, void *p,
                                    struct memopt_error *error);
MEMOPT_EXPORT int memopt_scope_push_on_error(struct memopt_scope *scope, memopt_cleanup_fn cleanup,
                                             void *p, struct memopt_error *error);

/* Moves what `owned` holds into the scope; an empty one is nothing. -ENOMEM, and it
 * was given up. */
MEMOPT_EXPORT int memopt_scope_own(struct memopt_scope *scope, struct memopt_owned *owned,
                                   struct memopt_error *error);

/* A block of `heap` (NULL: the scope's) that is freed when the scope ends, as
 * memopt_heap_alloc() gives it. NULL and errno ENOMEM on failure. */
MEMOPT_EXPORT void *memopt_scope_alloc(struct memopt_scope *scope, struct memopt_heap *heap,
                                       size_t size)
    __attribute__((malloc, warn_unused_result, alloc_size(3)));

/* The next `count` pushes can't fail. -ENOMEM. */
MEMOPT_EXPORT int memopt_scope_reserve(struct memopt_scope *scope, size_t count,
                                       struct memopt_error *error);

/* The last pushed clean-up for p: dismiss forgets it, and p is the caller's again;
 * run runs it now; move hands it to another scope, as the last of that.
 * -ENOENT: there is none; move: -ENOMEM, and nothing has changed. */
MEMOPT_EXPORT int memopt_scope_dismiss(struct memopt_scope *scope, void *p,
                                       struct memopt_error *error);
MEMOPT_EXPORT int memopt_scope_run(struct memopt_scope *scope, void *p, struct memopt_error *error);
MEMOPT_EXPORT int memopt_scope_move(struct memopt_scope *scope, void *p, struct memopt_scope *to,
                                    struct memopt_error *error);

/* Hands everything to `to`, in order: those on error run there if that one ends
 * without a commit. -ENOMEM, and nothing has changed. */
MEMOPT_EXPORT int memopt_scope_move_all(struct memopt_scope *scope, struct memopt_scope *to,
                                        struct memopt_error *error);

/* All went well: what is on error does not run. */
MEMOPT_EXPORT void memopt_scope_commit(struct memopt_scope *scope);

/* Ends the scope. Keeps errno. */
MEMOPT_EXPORT void memopt_scope_end(struct memopt_scope *scope);

static inline void memopt_auto_scope(struct memopt_scope *variable) {
    memopt_scope_end(variable);
}

#ifdef __cplusplus
}
#endif
#endif
