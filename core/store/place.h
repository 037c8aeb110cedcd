/*
 * place.h - where the numbers of tensors are: parameters, gradients and their state.
 *
 * A place has tensors, numbered as they were added; each has the regions that its layout
 * says (core/tensor/layout.h). Who computes takes a range of a tensor, works on the span's
 * addresses and gives it back, saying whether it wrote there. It may know nothing else of
 * where the numbers are, and nothing of their addresses after that.
 *
 * acquire, release: any thread; ranges that are held at a time don't overlap, unless all
 * who hold them only read. A range is a chunk, or a whole tensor where a method needs
 * those. Neither fails or allocates. reduce: one thread, when all spans are back. The
 * rest: one thread, while no span is held.
 *
 * To add a place: a file beside ram.c with a table of all operations.
 */
#ifndef MO_STORE_PLACE_H
#define MO_STORE_PLACE_H

#include "core/tensor/layout.h"

#include <memopt/heap.h>

struct mo_place;
enum mo_reduction { MO_REDUCE_SUM, MO_REDUCE_LARGEST };

struct mo_place_ops {
    /* One tensor more, without state. -ENOMEM. */
    int (*add)(struct mo_place *place, uint64_t count);
    /* Says where a region is that is outside; NULL: nowhere. */
    void (*bind)(struct mo_place *place, size_t tensor, size_t region, void *address);
    /* Makes a tensor's record: initial values, else zero. -ENOMEM. */
    int (*make)(struct mo_place *place, size_t tensor, const struct mo_layout *layout);
    /* The record's end; of one that isn't there, nothing. */
    void (*drop)(struct mo_place *place, size_t tensor);
    /* Of a tensor that has a record. */
    void (*acquire)(struct mo_place *place, struct mo_range range, struct mo_span *ret_span);
    /* `dirty`: regions of the span were written, but not the gradient. */
    void (*release)(struct mo_place *place, const struct mo_span *span, int dirty);
    /* Of what the chunks from `first` on made, `stride` numbers apart: the sum in the order
     * of chunks, or the largest and 0. */
    double (*reduce)(struct mo_place *place, const double *made, size_t stride, size_t first,
                     size_t count, enum mo_reduction reduction);
    void (*destroy)(struct mo_place *place); /* all records */
};

/* What all places have first. */
struct mo_place {
    const struct mo_place_ops *ops;
    struct mo_extent *extents;
    size_t tensor_count, chunk_count;
};

static inline struct mo_range mo_place_chunk(const struct mo_place *place, size_t chunk) {
    return mo_chunk_range(place->extents, place->tensor_count, chunk);
}

/* ram.c: records in blocks of a heap. NULL: no memory. */
struct mo_place *mo_ram_create(struct memopt_heap *heap);

#endif
