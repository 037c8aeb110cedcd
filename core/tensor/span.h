/*
 * span.h - ranges of tensors, as numbers and as addresses. Arithmetic only.
 *
 *   block    MO_BLOCK elements at a multiple of MO_BLOCK in their tensor: what one
 *            8-bit scale and one key of the random generator belong to
 *   chunk    what a thread takes at a time: MO_CHUNK elements at a multiple of
 *            MO_CHUNK in their tensor, or the tensor's rest. The chunks of all
 *            tensors are numbered in the order of the tensors
 *   range    consecutive elements of one tensor, from a multiple of MO_BLOCK on
 *   span     a range in memory: the address of its first element in each region
 *            (layout.h)
 */
#ifndef MO_TENSOR_SPAN_H
#define MO_TENSOR_SPAN_H

#include <memopt/dtype.h>

#include <stddef.h>
#include <stdint.h>

enum {
    MO_BLOCK = 256,
    MO_CHUNK = 64 * 1024, /* 256 KiB an array: in L2, and worth waking a thread for */
    MO_REGIONS = 22,      /* most that a tensor has */
};
_Static_assert(MO_CHUNK % MO_BLOCK == 0, "chunks are whole blocks");

/* Of the types that parameters, gradients and their state have. Inline, as it is needed for
 * every chunk. */
static inline size_t mo_element_size(int dtype) {
    return dtype == MEMOPT_DTYPE_F64   ? 8
           : dtype == MEMOPT_DTYPE_F32 ? 4
           : dtype == MEMOPT_DTYPE_U8  ? 1
                                       : 2;
}

static inline uint64_t mo_block_count(uint64_t elements) {
    return elements / MO_BLOCK + (elements % MO_BLOCK != 0);
}
static inline size_t mo_chunk_count(uint64_t elements) {
    return (size_t)(elements / MO_CHUNK + (elements % MO_CHUNK != 0));
}

/* A tensor among the chunks of all. */
struct mo_extent {
    uint64_t count;     /* elements, at least 1 */
    size_t first_chunk; /* the first tensor's is 0, and each begins where the last one ends */
};

struct mo_range {
    size_t tensor;
    uint64_t first;
    size_t count;
};
/* The elements of a chunk. There is at least one tensor, and the chunk is one of theirs. */
struct mo_range mo_chunk_range(const struct mo_extent *extents, size_t tensors, size_t chunk);

struct mo_layout;
struct mo_span {
    const struct mo_layout *layout; /* of the tensor */
    struct mo_range range;
    void *at[MO_REGIONS]; /* NULL: the tensor has no such region */
};
/* The span of a range, from the addresses that element `first` has in the regions. */
void mo_span_make(const struct mo_layout *layout, void *const *at, uint64_t first,
                  struct mo_range range, struct mo_span *ret_span);
/* A range within that of a span. */
static inline void mo_span_part(const struct mo_span *span, struct mo_range range,
                                struct mo_span *ret_part) {
    mo_span_make(span->layout, span->at, span->range.first, range, ret_part);
}

#endif
