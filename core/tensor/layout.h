/*
 * layout.h - the regions of one tensor: what there is besides its name, of which types
 * and where. Arithmetic only; the memory is a place's (core/store/place.h).
 *
 * A region is an array. It has a number for every element of the tensor, or one for
 * every block, or it is an array by itself (every = 0), which only whole tensors have.
 * Those that are the program's (`outside`) have addresses of their own; the others lie
 * in one record, in the order of their numbers, each at a cache line.
 */
#ifndef MO_TENSOR_LAYOUT_H
#define MO_TENSOR_LAYOUT_H

#include "core/tensor/span.h"

enum { MO_LINE = 64 };

struct mo_region {
    const char *name; /* NULL: there is no such region */
    uint64_t count;
    size_t offset; /* in the record; 0 if outside */
    float initial; /* of a region of fp32 numbers; of others it is 0 */
    int16_t every; /* elements for one of its own; 0: an array by itself */
    int8_t dtype;  /* MEMOPT_DTYPE_U8, BF16, F16, F32, F64 */
    _Bool outside : 1;
    _Bool scratch : 1; /* means nothing between steps: not saved */
};

struct mo_layout {
    struct mo_region regions[MO_REGIONS];
    size_t end;   /* after the last region that is there */
    size_t bytes; /* of the record; SIZE_MAX: more than there can be */
};

/* Puts in a region; their numbers ascend. The offset is found here. */
void mo_layout_put(struct mo_layout *layout, size_t number, struct mo_region region);
/* The same regions of the same sizes? */
int mo_layout_same(const struct mo_layout *a, const struct mo_layout *b);

static inline size_t mo_region_bytes(const struct mo_region *region) {
    return (size_t)region->count * mo_element_size(region->dtype);
}
/* Where an element's number lies in its region, in bytes. */
static inline size_t mo_region_at(const struct mo_region *region, uint64_t element) {
    return region->every == 0
               ? 0
               : (size_t)(element / (uint64_t)region->every) * mo_element_size(region->dtype);
}

#endif
