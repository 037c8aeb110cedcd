/*
 * chunk.c - where a pool's buffers come from and go: chunks of the heap's memory,
 * descriptors, trim (see buffers.h).
 *
 * Blocks of all classes are cut from the same chunks one after the other, so a
 * model's buffers lie together however many sizes they have. Blocks are never
 * joined: a chunk goes back to the heap when all its blocks are kept.
 */
#include "core/pool/buffers.h"

#include "core/base/poison.h"

#include <string.h>
#include <sys/mman.h>

/* What lies around the data of a block: nothing, but in debug. */
static size_t front_of(const struct memopt_buffers *pool, unsigned class) {
    if (!pool->debug.on)
        return 0;
    return class < MO_BUFFER_SMALL ? MO_BUFFER_LINE : MO_BUFFER_PAGE;
}

static size_t block_size(const struct memopt_buffers *pool, unsigned class) {
    return front_of(pool, class) + mo_buffer_class_size(class) +
           (pool->debug.on ? MO_BUFFER_LINE : 0);
}

/* ------------------------------------------------------------- descriptors */

/* With the lock. A slab's descriptors become spare. */
static void add_slab(struct memopt_buffers *pool, struct mo_buffer_slab *slab) {
    memset(slab, 0, sizeof(*slab));
    slab->next = pool->slabs;
    pool->slabs = slab;
    for (unsigned i = 0; i < MO_BUFFER_SLAB; i++) {
        atomic_init(&slab->buffers[i].state, MO_BUFFER_GONE);
        slab->buffers[i].pool = pool;
        slab->buffers[i].next = pool->spare;
        pool->spare = &slab->buffers[i];
    }
}

/* With the lock. The program may still hold it: it is not used again soon. */
static void retire(struct memopt_buffers *pool, struct mo_buffer *buffer) {
    atomic_store_explicit(&buffer->state, MO_BUFFER_GONE, memory_order_relaxed);
    buffer->chunk = NULL;
    buffer->next = NULL;
    if (pool->retired_last != NULL)
        pool->retired_last->next = buffer;
    else
        pool->retired = buffer;
    pool->retired_last = buffer;
    pool->retired_count++;
}

/* With the lock. */
static struct mo_buffer *spare(struct memopt_buffers *pool) {
    struct mo_buffer *buffer = pool->spare;
    if (buffer != NULL) {
        pool->spare = buffer->next;
    } else if (pool->retired_count > MO_BUFFER_RETIRED ||
               (pool->retired_count > 0 && !pool->debug.on)) {
        buffer = pool->retired;
        pool->retired = buffer->next;
        if (pool->retired == NULL)
            pool->retired_last = NULL;
        pool->retired_count--;
    }
    return buffer;
}

/* Without the lock; a descriptor with nothing, or NULL. */
static struct mo_buffer *take_descriptor(struct memopt_buffers *pool) {
    pthread_mutex_lock(&pool->lock);
    struct mo_buffer *buffer = spare(pool);
    pthread_mutex_unlock(&pool->lock);
    if (buffer != NULL)
        return buffer;
    struct mo_buffer_slab *slab = memopt_heap_aligned_alloc(pool->heap, 64, sizeof(*slab));
    if (slab == NULL)
        return NULL;
    pthread_mutex_lock(&pool->lock);
    add_slab(pool, slab);
    buffer = spare(pool);
    pthread_mutex_unlock(&pool->lock);
    return buffer;
}

static void give_descriptor(struct memopt_buffers *pool, struct mo_buffer *buffer) {
    pthread_mutex_lock(&pool->lock);
    buffer->next = pool->spare;
    pool->spare = buffer;
    pthread_mutex_unlock(&pool->lock);
}

struct mo_buffer *mo_buffer_renew(struct memopt_buffers *pool, struct mo_buffer *buffer) {
    if (buffer->fresh)
        return buffer;
    struct mo_buffer *other = take_descriptor(pool);
    if (other == NULL)
        return buffer;
    other->class = buffer->class;
    other->data = buffer->data;
    other->chunk = buffer->chunk;
    other->fresh = false;
    pthread_mutex_lock(&pool->lock);
    retire(pool, buffer);
    pthread_mutex_unlock(&pool->lock);
    return other;
}

bool mo_buffer_is_ours(struct memopt_buffers *pool, const struct mo_buffer *buffer) {
    bool found = false;
    pthread_mutex_lock(&pool->lock);
    for (struct mo_buffer_slab *slab = pool->slabs; slab != NULL && !found; slab = slab->next) {
        uintptr_t offset = (uintptr_t)buffer - (uintptr_t)slab->buffers;
        found = offset < sizeof(slab->buffers) && offset % sizeof(*buffer) == 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return found;
}

/* ------------------------------------------------------------------ chunks */

/* A chunk with room for `size` bytes; NULL: the heap has no memory for it. */
static struct mo_buffer_chunk *new_chunk(struct memopt_buffers *pool, size_t size, size_t wanted) {
    size_t alignment = size >= MO_BUFFER_HUGE ? MO_BUFFER_HUGE : MO_BUFFER_PAGE;
    struct mo_buffer_chunk *chunk = memopt_heap_alloc(pool->heap, sizeof(*chunk));
    if (chunk == NULL)
        return NULL;
    char *memory = memopt_heap_aligned_alloc(pool->heap, alignment, size);
    if (memory == NULL && size > wanted) { /* then just this block */
        size = wanted;
        memory = memopt_heap_aligned_alloc(pool->heap, MO_BUFFER_PAGE, size);
    }
    if (memory == NULL) {
        memopt_heap_free(pool->heap, chunk);
        return NULL;
    }
    /* only whole huge pages: what lies behind is not ours to advise on */
    if (pool->huge_pages && size >= MO_BUFFER_HUGE && (uintptr_t)memory % MO_BUFFER_HUGE == 0)
        madvise(memory, size & ~(size_t)(MO_BUFFER_HUGE - 1), MADV_HUGEPAGE);
    mo_mempool_hide(pool->heap, memory);
    mo_poison(memory, size);
    *chunk = (struct mo_buffer_chunk){.memory = memory, .cut = memory, .end = memory + size};
    return chunk;
}

static void free_chunk(struct memopt_buffers *pool, struct mo_buffer_chunk *chunk) {
    size_t size = (size_t)(chunk->end - chunk->memory);
    mo_mempool_unhide(pool->heap, chunk->memory, size);
    memopt_heap_free(pool->heap, chunk->memory);
    memopt_heap_free(pool->heap, chunk);
}

static size_t align_up(size_t value, size_t alignment) {
    return (value + alignment - 1) & ~(alignment - 1);
}

/* With the lock. The block's data, or NULL: no room. */
static char *cut_from(struct memopt_buffers *pool, struct mo_buffer_chunk *chunk, unsigned class) {
    size_t front = front_of(pool, class);
    size_t alignment = class < MO_BUFFER_SMALL ? MO_BUFFER_LINE : MO_BUFFER_PAGE;
    uintptr_t begin = align_up((uintptr_t)chunk->cut, alignment);
    size_t size = block_size(pool, class);
    if (begin > (uintptr_t)chunk->end || (size_t)((uintptr_t)chunk->end - begin) < size)
        return NULL;
    chunk->cut = (char *)begin + size;
    chunk->blocks++;
    chunk->bytes += mo_buffer_class_size(class);
    return (char *)begin + front;
}

static char *cut_from_any(struct memopt_buffers *pool, unsigned class,
                          struct mo_buffer_chunk **ret_chunk) {
    for (struct mo_buffer_chunk *chunk = pool->chunks; chunk != NULL; chunk = chunk->next) {
        char *data = cut_from(pool, chunk, class);
        if (data != NULL) {
            *ret_chunk = chunk;
            return data;
        }
    }
    return NULL;
}

struct mo_buffer *mo_buffer_cut(struct memopt_buffers *pool, unsigned class) {
    struct mo_buffer *buffer = take_descriptor(pool);
    if (buffer == NULL)
        return NULL;
    size_t wanted = align_up(block_size(pool, class), MO_BUFFER_PAGE);
    struct mo_buffer_chunk *chunk = NULL;
    pthread_mutex_lock(&pool->lock);
    char *data = wanted > MO_BUFFER_OWN_CHUNK ? NULL : cut_from_any(pool, class, &chunk);
    if (data == NULL) {
        size_t size = wanted;
        if (wanted <= MO_BUFFER_OWN_CHUNK) {
            while (pool->chunk_size < wanted)
                pool->chunk_size *= 2;
            size = pool->chunk_size;
        }
        pthread_mutex_unlock(&pool->lock);
        chunk = new_chunk(pool, size, wanted);
        if (chunk == NULL) {
            give_descriptor(pool, buffer);
            return NULL;
        }
        pthread_mutex_lock(&pool->lock);
        chunk->next = pool->chunks;
        pool->chunks = chunk;
        pool->held_bytes += (uint64_t)(chunk->end - chunk->memory);
        if (size == pool->chunk_size && size < MO_BUFFER_CHUNK_MAX)
            pool->chunk_size *= 2;
        data = cut_from(pool, chunk, class);
    }
    pool->fresh++;
    pool->blocks++;
    pool->block_bytes += mo_buffer_class_size(class);
    pthread_mutex_unlock(&pool->lock);
    buffer->class = class;
    buffer->data = data;
    buffer->chunk = chunk;
    buffer->fresh = true;
    atomic_store_explicit(&buffer->state, MO_BUFFER_KEPT, memory_order_relaxed);
    return buffer;
}

/* -------------------------------------------------------------------- trim */

void mo_buffer_drain(struct memopt_buffers *pool) {
    for (unsigned i = 0; i < MO_POOL_CACHES; i++) {
        struct mo_buffer_cache *cache =
            atomic_load_explicit(&pool->caches[i], memory_order_acquire);
        if (cache == NULL)
            continue;
        struct mo_buffer *lists[MO_BUFFER_CACHED];
        mo_cache_wait(&cache->lock);
        memcpy(lists, cache->lists, sizeof(lists));
        memset(cache->lists, 0, sizeof(lists));
        cache->bytes = 0;
        mo_cache_leave(&cache->lock);
        pthread_mutex_lock(&pool->lock);
        for (unsigned class = 0; class < MO_BUFFER_CACHED; class ++)
            for (struct mo_buffer *buffer = lists[class], *next; buffer != NULL; buffer = next) {
                next = buffer->next;
                buffer->next = pool->lists[class];
                pool->lists[class] = buffer;
                buffer->chunk->kept++;
            }
        pthread_mutex_unlock(&pool->lock);
    }
}

/* With the lock: unlinks chunks whose blocks are all kept, until at most `keep`
 * bytes are kept; gives them in a list. */
static struct mo_buffer_chunk *take_chunks(struct memopt_buffers *pool, uint64_t keep) {
    uint64_t kept = 0;
    for (unsigned class = 0; class < MO_BUFFER_CLASSES; class ++)
        for (struct mo_buffer *buffer = pool->lists[class]; buffer != NULL; buffer = buffer->next)
            kept += mo_buffer_class_size(class);
    struct mo_buffer_chunk *taken = NULL, **at = &pool->chunks;
    while (*at != NULL) {
        struct mo_buffer_chunk *chunk = *at;
        if (chunk->kept != chunk->blocks || kept <= keep) {
            at = &chunk->next;
            continue;
        }
        *at = chunk->next;
        chunk->next = taken;
        taken = chunk;
        kept -= chunk->bytes;
        pool->held_bytes -= (uint64_t)(chunk->end - chunk->memory);
        chunk->blocks = 0; /* marks it for take_blocks() */
    }
    return taken;
}

/* With the lock: the blocks of chunks that are going leave their lists. */
static struct mo_buffer *take_blocks(struct memopt_buffers *pool) {
    struct mo_buffer *taken = NULL;
    for (unsigned class = 0; class < MO_BUFFER_CLASSES; class ++) {
        struct mo_buffer **at = &pool->lists[class];
        while (*at != NULL) {
            struct mo_buffer *buffer = *at;
            if (buffer->chunk->blocks != 0) {
                at = &buffer->next;
                continue;
            }
            *at = buffer->next;
            buffer->next = taken;
            taken = buffer;
            pool->blocks--;
            pool->block_bytes -= mo_buffer_class_size(class);
        }
    }
    return taken;
}

uint64_t mo_buffer_trim(struct memopt_buffers *pool, uint64_t keep) {
    mo_buffer_drain(pool);
    pthread_mutex_lock(&pool->lock);
    struct mo_buffer_chunk *chunks = take_chunks(pool, keep);
    struct mo_buffer *buffers = chunks == NULL ? NULL : take_blocks(pool);
    pthread_mutex_unlock(&pool->lock);
    if (pool->debug.on)
        for (struct mo_buffer *buffer = buffers; buffer != NULL; buffer = buffer->next)
            mo_buffer_check_kept(pool, buffer);
    uint64_t bytes = 0;
    for (struct mo_buffer_chunk *chunk = chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        bytes += (uint64_t)(chunk->end - chunk->memory);
        free_chunk(pool, chunk);
    }
    pthread_mutex_lock(&pool->lock);
    for (struct mo_buffer *buffer = buffers, *next; buffer != NULL; buffer = next) {
        next = buffer->next;
        retire(pool, buffer);
    }
    pool->trims++;
    pool->trimmed_bytes += bytes;
    if (pool->chunks == NULL)
        pool->chunk_size = MO_BUFFER_CHUNK_MIN;
    pthread_mutex_unlock(&pool->lock);
    return bytes;
}

void mo_buffer_free_all(struct memopt_buffers *pool) {
    for (struct mo_buffer_chunk *chunk = pool->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        free_chunk(pool, chunk);
    }
    for (struct mo_buffer_slab *slab = pool->slabs, *next; slab != NULL; slab = next) {
        next = slab->next;
        memopt_heap_free(pool->heap, slab);
    }
    for (unsigned i = 0; i < MO_POOL_CACHES; i++)
        memopt_heap_free(pool->heap, atomic_load_explicit(&pool->caches[i], memory_order_acquire));
}
