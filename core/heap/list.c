/*
 * list.c - heaps over a backend that has no heaps of its own: every block
 * carries a header by which it hangs in one of the heap's lists, so that destroy
 * finds it (see heap.h).
 *
 *   backend's block   |<-- offset -->|
 *                     [  ...  header ][ block ... usable ]
 *
 * `offset` is 32, or the alignment where that is more, so the block is aligned
 * as the backend's is. The lists are sharded by the allocating thread; a block
 * remembers its shard, so a free by another thread takes the right lock.
 *
 * The header's cookie depends on heap, address and offset: a pointer that is not
 * a live block of this heap is found out, at the price of one comparison.
 */
#include "core/heap/heap.h"

#include <string.h>

#define COOKIE ((uintptr_t)UINT64_C(0x9e3779b97f4a7c15))

static struct mo_heap_link *link_of(void *p) {
    return (struct mo_heap_link *)((char *)p - MO_HEAP_HEADER);
}

static uintptr_t cookie_of(const struct memopt_heap *heap, const void *p, uint32_t offset) {
    return ((uintptr_t)heap * 3) ^ (uintptr_t)p ^ COOKIE ^ ((uintptr_t)offset << 20);
}

static int is_ours(const struct memopt_heap *heap, void *p) {
    if ((uintptr_t)p % 16 != 0)
        return 0;
    const struct mo_heap_link *link = link_of(p);
    return link->cookie == cookie_of(heap, p, link->offset);
}

static void *insert(struct memopt_heap *heap, void *base, uint32_t offset) {
    void *p = (char *)base + offset;
    struct mo_heap_link *link = link_of(p);
    uint32_t number = mo_count_thread() % MO_HEAP_SHARDS;
    struct mo_heap_shard *shard = &heap->shards[number];
    link->offset = offset;
    link->shard = number;
    link->cookie = cookie_of(heap, p, offset);
    pthread_mutex_lock(&shard->lock);
    link->previous = &shard->head;
    link->next = shard->head.next;
    link->next->previous = link;
    shard->head.next = link;
    pthread_mutex_unlock(&shard->lock);
    return p;
}

/* Out of the list; returns what the backend gave. */
static void *take_out(struct memopt_heap *heap, void *p) {
    struct mo_heap_link *link = link_of(p);
    struct mo_heap_shard *shard = &heap->shards[link->shard];
    pthread_mutex_lock(&shard->lock);
    link->previous->next = link->next;
    link->next->previous = link->previous;
    pthread_mutex_unlock(&shard->lock);
    link->cookie = 0;
    return (char *)p - link->offset;
}

static void *list_malloc(struct memopt_heap *heap, size_t size) {
    void *base = heap->malloc.malloc(size + MO_HEAP_HEADER);
    return base == NULL ? NULL : insert(heap, base, MO_HEAP_HEADER);
}

static void *list_calloc(struct memopt_heap *heap, size_t size) {
    void *base = heap->malloc.calloc(1, size + MO_HEAP_HEADER);
    return base == NULL ? NULL : insert(heap, base, MO_HEAP_HEADER);
}

static void *list_realloc(struct memopt_heap *heap, void *p, size_t size) {
    uint32_t offset = link_of(p)->offset;
    void *base = take_out(heap, p);
    void *moved = heap->malloc.realloc(base, size + offset);
    if (moved == NULL) {
        insert(heap, base, offset);
        return NULL;
    }
    return insert(heap, moved, offset);
}

static void *list_aligned_alloc(struct memopt_heap *heap, size_t alignment, size_t size) {
    size_t offset = alignment > MO_HEAP_HEADER ? alignment : MO_HEAP_HEADER;
    if (offset > UINT32_MAX || size > SIZE_MAX / 2 - offset)
        return NULL;
    void *base = heap->malloc.aligned_alloc(alignment, size + offset);
    return base == NULL ? NULL : insert(heap, base, (uint32_t)offset);
}

static void list_free(struct memopt_heap *heap, void *p) {
    heap->malloc.free(take_out(heap, p));
}

static size_t list_usable_size(struct memopt_heap *heap, void *p) {
    if (!is_ours(heap, p))
        return MO_HEAP_NOT_OURS;
    uint32_t offset = link_of(p)->offset;
    return heap->malloc.usable_size((char *)p - offset) - offset;
}

static void list_destroy(struct memopt_heap *heap) {
    for (unsigned i = 0; i < MO_HEAP_SHARDS; i++) {
        struct mo_heap_link *head = &heap->shards[i].head;
        for (struct mo_heap_link *link = head->next, *next; link != head; link = next) {
            next = link->next;
            link->cookie = 0;
            heap->malloc.free((char *)link + MO_HEAP_HEADER - link->offset);
        }
    }
}

const struct mo_heap_ops mo_heap_list_ops = {
    .malloc = list_malloc,
    .calloc = list_calloc,
    .realloc = list_realloc,
    .aligned_alloc = list_aligned_alloc,
    .free = list_free,
    .usable_size = list_usable_size,
    .destroy = list_destroy,
};
