/* span.c - which elements a chunk has, and where those of a range are. */
#include "core/tensor/layout.h"

/* Of the last tensor whose first chunk is not after it. */
struct mo_range mo_chunk_range(const struct mo_extent *extents, size_t tensors, size_t chunk) {
    size_t low = 0, high = tensors;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (extents[middle].first_chunk <= chunk)
            low = middle;
        else
            high = middle;
    }
    uint64_t first = (uint64_t)(chunk - extents[low].first_chunk) * MO_CHUNK;
    uint64_t rest = extents[low].count - first;
    return (struct mo_range){low, first, (size_t)(rest < MO_CHUNK ? rest : MO_CHUNK)};
}

void mo_span_make(const struct mo_layout *layout, void *const *at, uint64_t first,
                  struct mo_range range, struct mo_span *ret_span) {
    *ret_span = (struct mo_span){.layout = layout, .range = range};
    for (size_t i = 0; i < layout->end; i++)
        if (at[i] != NULL)
            ret_span->at[i] =
                (char *)at[i] + mo_region_at(&layout->regions[i], range.first - first);
}
