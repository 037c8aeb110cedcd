/*
 * arena.h - memory that goes all at once: what a report is made of.
 *
 * Used by core/model only. Not thread-safe.
 */
#ifndef MO_MODEL_ARENA_H
#define MO_MODEL_ARENA_H

#include <stddef.h>

struct mo_arena {
    struct mo_arena_chunk *chunks; /* the newest first */
};

/* Zeroed, 16-byte aligned; NULL: out of memory. */
void *mo_arena_alloc(struct mo_arena *arena, size_t size);
void mo_arena_free(struct mo_arena *arena);

/* How far it is filled, and back to that: what was allocated since is gone. */
struct mo_arena_mark {
    struct mo_arena_chunk *chunk;
    size_t used;
};
struct mo_arena_mark mo_arena_mark(const struct mo_arena *arena);
void mo_arena_release(struct mo_arena *arena, struct mo_arena_mark mark);

#endif
