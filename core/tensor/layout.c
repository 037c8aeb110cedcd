/* layout.c - where the regions of a tensor lie in its record. */
#include "core/tensor/layout.h"

#include <string.h>

void mo_layout_put(struct mo_layout *layout, size_t number, struct mo_region region) {
    size_t bytes;
    region.offset = region.outside ? 0 : layout->bytes;
    layout->regions[number] = region;
    layout->end = number + 1;
    if (region.outside)
        return;
    if (layout->bytes == SIZE_MAX ||
        __builtin_mul_overflow(region.count, mo_element_size(region.dtype), &bytes) ||
        __builtin_add_overflow(layout->bytes, bytes, &layout->bytes) ||
        layout->bytes > SIZE_MAX - MO_LINE)
        layout->bytes = SIZE_MAX;
    else
        layout->bytes = (layout->bytes + MO_LINE - 1) / MO_LINE * MO_LINE;
}

int mo_layout_same(const struct mo_layout *a, const struct mo_layout *b) {
    int same = a->end == b->end;
    for (size_t i = 0; same && i < a->end; i++) {
        const struct mo_region *x = &a->regions[i], *y = &b->regions[i];
        same = (x->name == NULL) == (y->name == NULL) &&
               (x->name == NULL || (strcmp(x->name, y->name) == 0 && x->count == y->count &&
                                    x->dtype == y->dtype && x->every == y->every));
    }
    return same;
}
