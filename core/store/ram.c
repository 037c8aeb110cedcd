/*
 * ram.c - the place that is memory: a tensor's record is one block of a heap, and a span
 * is where its numbers are.
 */
#include "core/store/place.h"

#include <errno.h>
#include <string.h>

struct record {
    struct mo_layout layout;
    void *block;            /* NULL: none */
    void *base[MO_REGIONS]; /* NULL: no such region, or nowhere */
};

struct ram {
    struct mo_place place;
    struct memopt_heap *heap;
    struct record *records;
    size_t room;
};

static struct ram *ram_of(struct mo_place *place) {
    return (struct ram *)place;
}

static int ram_add(struct mo_place *place, uint64_t count) {
    struct ram *ram = ram_of(place);
    size_t number = place->tensor_count;
    if (number == ram->room) {
        size_t room = ram->room < 8 ? 8 : 2 * ram->room;
        struct mo_extent *extents =
            memopt_heap_realloc(ram->heap, place->extents, room * sizeof(*extents));
        if (extents == NULL)
            return -ENOMEM;
        place->extents = extents;
        struct record *records =
            memopt_heap_realloc(ram->heap, ram->records, room * sizeof(*records));
        if (records == NULL)
            return -ENOMEM;
        ram->records = records;
        ram->room = room;
    }
    place->extents[number] = (struct mo_extent){count, place->chunk_count};
    memset(&ram->records[number], 0, sizeof(ram->records[number]));
    place->chunk_count += mo_chunk_count(count);
    place->tensor_count++;
    return 0;
}

static void ram_bind(struct mo_place *place, size_t tensor, size_t region, void *address) {
    ram_of(place)->records[tensor].base[region] = address;
}

/* A record of no bytes is a block, too, of one line: that it is there says that the
 * tensor has taken part. */
static int ram_make(struct mo_place *place, size_t tensor, const struct mo_layout *layout) {
    struct ram *ram = ram_of(place);
    struct record *record = &ram->records[tensor];
    size_t bytes = layout->bytes == 0 ? MO_LINE : layout->bytes;
    char *block = bytes == SIZE_MAX ? NULL : memopt_heap_aligned_alloc(ram->heap, MO_LINE, bytes);
    if (block == NULL)
        return -ENOMEM;
    memset(block, 0, bytes);
    record->layout = *layout;
    record->block = block;
    for (size_t i = 0; i < layout->end; i++) {
        const struct mo_region *region = &layout->regions[i];
        if (region->name == NULL || region->outside)
            continue;
        record->base[i] = block + region->offset;
        float *numbers = record->base[i];
        for (uint64_t k = 0; region->initial != 0 && k < region->count; k++)
            numbers[k] = region->initial;
    }
    return 0;
}

static void ram_drop(struct mo_place *place, size_t tensor) {
    struct ram *ram = ram_of(place);
    struct record *record = &ram->records[tensor];
    for (size_t i = 0; i < record->layout.end; i++)
        if (!record->layout.regions[i].outside)
            record->base[i] = NULL;
    memopt_heap_free(ram->heap, record->block);
    record->block = NULL;
}

static void ram_acquire(struct mo_place *place, struct mo_range range, struct mo_span *ret_span) {
    const struct record *record = &ram_of(place)->records[range.tensor];
    mo_span_make(&record->layout, record->base, 0, range, ret_span);
}

/* What was written is where it belongs. */
static void ram_release(struct mo_place *place, const struct mo_span *span, int dirty) {
    (void)place, (void)span, (void)dirty;
}

static double ram_reduce(struct mo_place *place, const double *made, size_t stride, size_t first,
                         size_t count, enum mo_reduction reduction) {
    double result = 0;
    (void)place;
    for (size_t chunk = first; chunk < first + count; chunk++) {
        double number = made[chunk * stride];
        if (reduction == MO_REDUCE_SUM)
            result += number;
        else if (number > result)
            result = number;
    }
    return result;
}

static void ram_destroy(struct mo_place *place) {
    struct ram *ram = ram_of(place);
    for (size_t i = 0; i < place->tensor_count; i++)
        ram_drop(place, i);
    memopt_heap_free(ram->heap, ram->records);
    memopt_heap_free(ram->heap, place->extents);
    memopt_heap_free(ram->heap, ram);
}

static const struct mo_place_ops ram_ops = {
    .add = ram_add,
    .bind = ram_bind,
    .make = ram_make,
    .drop = ram_drop,
    .acquire = ram_acquire,
    .release = ram_release,
    .reduce = ram_reduce,
    .destroy = ram_destroy,
};

struct mo_place *mo_ram_create(struct memopt_heap *heap) {
    struct ram *ram = memopt_heap_calloc(heap, 1, sizeof(*ram));
    if (ram == NULL)
        return NULL;
    ram->place.ops = &ram_ops;
    ram->heap = heap;
    return &ram->place;
}
