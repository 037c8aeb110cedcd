/* fuzz_safetensors.c - any bytes as the header of a safetensors file; the first
 * two say how many bytes of data follow it. What is taken must hold what
 * memopt/store.h promises, and declared to a writer it must come back the same;
 * what is not must say why. */
#include "core/store/layout.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(CONDITION)                                                                           \
    do {                                                                                           \
        if (!(CONDITION))                                                                          \
            abort();                                                                               \
    } while (0)

static void check(const struct mo_header *header, uint64_t data_size) {
    uint64_t end = 0;
    for (size_t i = 0; i < header->count; i++) {
        const struct mo_header_tensor *t = &header->tensors[i];
        uint64_t elements, bytes;
        HOLDS(mo_shape_size(t->dtype, t->rank, mo_header_shape(header, t), &elements, &bytes) == 0);
        HOLDS(t->begin == end && t->end - t->begin == bytes && t->elements == elements);
        HOLDS(i == 0 || strcmp(header->tensors[header->by_name[i - 1]].name,
                               header->tensors[header->by_name[i]].name) < 0);
        end = t->end;
    }
    for (size_t i = 1; i < header->pair_count; i++)
        HOLDS(strcmp(header->pairs[i - 1].key, header->pairs[i].key) < 0);
    HOLDS(end == data_size);
}

static const struct mo_header_tensor *find(const struct mo_header *header, const char *name) {
    for (size_t i = 0; i < header->count; i++)
        if (strcmp(header->tensors[i].name, name) == 0)
            return &header->tensors[i];
    abort();
}

/* What the writer makes of the same tensors. */
static void again(const struct mo_header *header) {
    struct mo_layout layout = {0};
    struct mo_header back;
    char *bytes;
    size_t length;
    for (size_t i = 0; i < header->count; i++) {
        const struct mo_header_tensor *t = &header->tensors[i];
        HOLDS(mo_layout_add(&layout, t->name, t->dtype, t->rank, mo_header_shape(header, t),
                            NULL) == (ssize_t)i);
    }
    for (size_t i = 0; i < header->pair_count; i++)
        HOLDS(mo_layout_metadata(&layout, header->pairs[i].key, header->pairs[i].value, NULL) == 0);
    HOLDS(mo_layout_header(&layout, &bytes, &length, NULL) == 0);
    HOLDS(length % MEMOPT_TENSORS_ALIGNMENT == 0);
    HOLDS(mo_header_parse(bytes + 8, length - 8, layout.data_size, &back, NULL) == 0);
    check(&back, layout.data_size);
    HOLDS(back.count == header->count && back.pair_count == header->pair_count);
    for (size_t i = 0; i < header->count; i++) {
        const struct mo_header_tensor *t = &header->tensors[i], *b = find(&back, t->name);
        HOLDS(b->dtype == t->dtype && b->rank == t->rank && b->elements == t->elements);
        HOLDS(b->begin % memopt_dtype_size(b->dtype) == 0);
        for (unsigned d = 0; d < t->rank; d++)
            HOLDS(back.dimensions[b->shape + d] == header->dimensions[t->shape + d]);
    }
    for (size_t i = 0; i < header->pair_count; i++) {
        HOLDS(strcmp(back.pairs[i].key, header->pairs[i].key) == 0);
        HOLDS(strcmp(back.pairs[i].value, header->pairs[i].value) == 0);
    }
    mo_header_free(&back);
    mo_layout_free(&layout);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_header header;
    if (size < 2)
        return 0;
    uint64_t data_size = (uint64_t)(data[0] | data[1] << 8);
    /* of the exact size, for the sanitizer to see its end */
    char *text = malloc(size - 2 == 0 ? 1 : size - 2);
    HOLDS(text != NULL);
    memcpy(text, data + 2, size - 2);
    if (mo_header_parse(text, size - 2, data_size, &header, &error) < 0) {
        HOLDS(error.code < 0 && error.message[0] != '\0');
    } else {
        check(&header, data_size);
        again(&header);
        mo_header_free(&header);
    }
    free(text);
    return 0;
}
