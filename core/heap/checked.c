/*
 * checked.c - heaps under AddressSanitizer or Valgrind: between a heap and its
 * raw operations, so that a checker sees a heap's blocks as it sees malloc's (see
 * heap.h, core/base/poison.h).
 *
 *   raw block   |<--------- offset --------->|
 *               [ ... link, left red zone    ][ block ][ right red zone ]
 *
 * The red zones are poisoned: an overflow hits them. A freed block is poisoned
 * and held back until 1 MiB of the heap's have been freed after it, or the
 * backend has no memory: a use after free hits it. It is not live any more as far
 * as figures and limit go. usable is what was asked for.
 *
 * The blocks handed out are in a list, for destroy; those of the default heap, which
 * is never destroyed, are not, as a leak detector would follow it to each of them.
 *
 * Most backends take their memory from mmap, or from the C library's malloc
 * itself, which is not the malloc that AddressSanitizer puts in its place: without
 * this file the checkers would know nothing of the blocks.
 */
#include "core/base/poison.h"
#include "core/heap/heap.h"

#include <string.h>

enum {
    LINK_ROOM = 64, /* the link and at least 16 bytes of red zone; a multiple of 16 */
    RIGHT_ZONE = 32,
    HELD_MAX = 1 << 20,
};
_Static_assert(sizeof(struct mo_heap_checked) + 16 <= LINK_ROOM, "leaves a red zone");

#define COOKIE ((uintptr_t)UINT64_C(0xb5297a4d3f84d5b5))

/* Looks before a pointer that may be anybody's. */
#define UNCHECKED __attribute__((no_sanitize("address"), noinline))

static struct mo_heap_checked *link_of(void *p) {
    return (struct mo_heap_checked *)((char *)p - LINK_ROOM);
}

static void *block_of(struct mo_heap_checked *link) {
    return (char *)link + LINK_ROOM;
}

static uintptr_t cookie_of(const struct memopt_heap *heap, const void *p) {
    return ((uintptr_t)heap * 3) ^ (uintptr_t)p ^ COOKIE;
}

static UNCHECKED int is_ours(const struct memopt_heap *heap, void *p) {
    return (uintptr_t)p % 16 == 0 && link_of(p)->cookie == cookie_of(heap, p);
}

static void take_out(struct mo_heap_checked *link) {
    link->previous->next = link->next;
    link->next->previous = link->previous;
}

static void append(struct mo_heap_checked *head, struct mo_heap_checked *link) {
    link->previous = head->previous;
    link->next = head;
    head->previous->next = link;
    head->previous = link;
}

/* The whole raw block is the backend's again. */
static void *strip(struct mo_heap_checked *link) {
    char *base = (char *)block_of(link) - link->offset;
    mo_unpoison(base, link->offset + link->size + RIGHT_ZONE);
    return base;
}

/* Gives held blocks back until no more than `most` bytes are held; 0: there were
 * none. */
static int let_go(struct memopt_heap *heap, size_t most) {
    int count = 0;
    for (;;) {
        struct mo_heap_checked *link = NULL;
        pthread_mutex_lock(&heap->checked_lock);
        if (heap->held_bytes > most) {
            link = heap->held.next;
            take_out(link);
            heap->held_bytes -= link->size + LINK_ROOM;
        }
        pthread_mutex_unlock(&heap->checked_lock);
        if (link == NULL)
            return count;
        heap->raw->free(heap, strip(link));
        count++;
    }
}

/* ------------------------------------------------------------ operations */

static void *hand_out(struct memopt_heap *heap, char *base, size_t offset, size_t size,
                      int zeroed) {
    void *p = base + offset;
    struct mo_heap_checked *link = link_of(p);
    *link = (struct mo_heap_checked){.cookie = cookie_of(heap, p), .offset = offset, .size = size};
    if (!heap->is_default) {
        pthread_mutex_lock(&heap->checked_lock);
        append(&heap->live, link);
        pthread_mutex_unlock(&heap->checked_lock);
    }
    char *end_of_link = (char *)(link + 1);
    mo_poison(end_of_link, (size_t)((char *)p - end_of_link));
    mo_poison((char *)p + size, RIGHT_ZONE);
    mo_mempool_alloc(heap, p, size);
    if (zeroed)
        mo_unpoison_defined(p, size);
    return p;
}

static void *checked_malloc(struct memopt_heap *heap, size_t size) {
    void *base;
    while ((base = heap->raw->malloc(heap, LINK_ROOM + size + RIGHT_ZONE)) == NULL)
        if (!let_go(heap, 0))
            return NULL;
    return hand_out(heap, base, LINK_ROOM, size, 0);
}

static void *checked_calloc(struct memopt_heap *heap, size_t size) {
    void *base;
    while ((base = heap->raw->calloc(heap, LINK_ROOM + size + RIGHT_ZONE)) == NULL)
        if (!let_go(heap, 0))
            return NULL;
    return hand_out(heap, base, LINK_ROOM, size, 1);
}

static void *checked_aligned_alloc(struct memopt_heap *heap, size_t alignment, size_t size) {
    size_t offset = alignment > LINK_ROOM ? alignment : LINK_ROOM;
    if (offset > SIZE_MAX / 2 - size - RIGHT_ZONE)
        return NULL;
    void *base;
    while ((base = heap->raw->aligned_alloc(heap, alignment, offset + size + RIGHT_ZONE)) == NULL)
        if (!let_go(heap, 0))
            return NULL;
    return hand_out(heap, base, offset, size, 0);
}

static void checked_free(struct memopt_heap *heap, void *p) {
    struct mo_heap_checked *link = link_of(p);
    link->cookie = 0;
    mo_mempool_free(heap, p, link->size);
    mo_keep((char *)p - link->offset);
    pthread_mutex_lock(&heap->checked_lock);
    if (!heap->is_default)
        take_out(link);
    append(&heap->held, link);
    heap->held_bytes += link->size + LINK_ROOM;
    pthread_mutex_unlock(&heap->checked_lock);
    let_go(heap, HELD_MAX);
}

/* Always another block, so that the old address is found to be stale. */
static void *checked_realloc(struct memopt_heap *heap, void *p, size_t size) {
    void *moved = checked_malloc(heap, size);
    if (moved == NULL)
        return NULL;
    size_t old = link_of(p)->size;
    memcpy(moved, p, old < size ? old : size);
    checked_free(heap, p);
    return moved;
}

static size_t checked_usable_size(struct memopt_heap *heap, void *p) {
    return is_ours(heap, p) ? link_of(p)->size : MO_HEAP_NOT_OURS;
}

/* The raw operations free the blocks, or drop them with the heap. */
static void checked_destroy(struct memopt_heap *heap) {
    struct mo_heap_checked *heads[] = {&heap->live, &heap->held};
    for (unsigned i = 0; i < 2; i++)
        for (struct mo_heap_checked *link = heads[i]->next, *next; link != heads[i]; link = next) {
            next = link->next;
            link->cookie = 0;
            strip(link);
        }
    mo_mempool_destroy(heap);
    heap->raw->destroy(heap);
}

static const struct mo_heap_ops checked_ops = {
    .malloc = checked_malloc,
    .calloc = checked_calloc,
    .realloc = checked_realloc,
    .aligned_alloc = checked_aligned_alloc,
    .free = checked_free,
    .usable_size = checked_usable_size,
    .destroy = checked_destroy,
};

void mo_heap_check(struct memopt_heap *heap) {
    if (!mo_checked())
        return;
    heap->raw = heap->ops;
    heap->ops = &checked_ops;
    heap->live.previous = heap->live.next = &heap->live;
    heap->held.previous = heap->held.next = &heap->held;
    mo_mempool_create(heap);
}
