/* arena.c - see arena.h. */
#include "core/model/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 32 * 1024, ALIGN = 16 };

struct mo_arena_chunk {
    struct mo_arena_chunk *next;
    size_t size, used;
    _Alignas(ALIGN) unsigned char bytes[];
};

void *mo_arena_alloc(struct mo_arena *arena, size_t size) {
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    struct mo_arena_chunk *chunk = arena->chunks;
    if (chunk == NULL || chunk->size - chunk->used < size) {
        size_t room = size > CHUNK ? size : CHUNK;
        chunk = calloc(1, sizeof(*chunk) + room);
        if (chunk == NULL)
            return NULL;
        chunk->size = room;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
    }
    void *p = chunk->bytes + chunk->used;
    chunk->used += size;
    return p;
}

struct mo_arena_mark mo_arena_mark(const struct mo_arena *arena) {
    return (struct mo_arena_mark){arena->chunks, arena->chunks == NULL ? 0 : arena->chunks->used};
}

void mo_arena_release(struct mo_arena *arena, struct mo_arena_mark mark) {
    while (arena->chunks != mark.chunk) {
        struct mo_arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        free(chunk);
    }
    if (mark.chunk == NULL)
        return;
    memset(mark.chunk->bytes + mark.used, 0, mark.chunk->used - mark.used);
    mark.chunk->used = mark.used;
}

void mo_arena_free(struct mo_arena *arena) {
    for (struct mo_arena_chunk *chunk = arena->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    arena->chunks = NULL;
}
