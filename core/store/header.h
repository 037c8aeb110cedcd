/*
 * header.h - inside core/store: the header of a safetensors file, parsed.
 *
 *   header.c   the strict parser; knows nothing of files
 *   reader.c   an open file: memopt_tensors_*
 *   layout.c   a header from declared tensors
 *   writer.c   a file that appears whole: memopt_tensors_writer_*
 *
 * The parser is its own, not a JSON library's: libmemopt carries none into the
 * programs that link it; a tree of values costs 11 to 19 times the 100 MB that a
 * header may have (jansson 2.14; this parser at most 4 times); and the rules are
 * about spelling: jansson takes "-0", and doesn't say where a key was before. It takes exactly what the format allows, in one pass, without
 * recursion, and decodes strings in the text's own place.
 */
#ifndef MO_STORE_HEADER_H
#define MO_STORE_HEADER_H

#include <memopt/error.h>
#include <memopt/store.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mo_header_tensor {
    const char *name;    /* in the text */
    uint64_t begin, end; /* of its data, from the end of the header */
    uint64_t elements;
    uint32_t at;    /* the name's place in the header, for messages */
    uint32_t shape; /* the first dimension's place in `dimensions` */
    uint8_t rank, dtype;
};
struct mo_header_pair {
    const char *key, *value; /* in the text */
    uint32_t at;
};

struct mo_header {
    struct mo_header_tensor *tensors; /* in the order of their data */
    size_t count;
    uint32_t *by_name; /* indices of tensors in the order of their names */
    uint64_t *dimensions;
    size_t dimension_count;
    struct mo_header_pair *pairs; /* the metadata in the order of their keys */
    size_t pair_count;
};

/* NULL for a scalar. */
static inline const uint64_t *mo_header_shape(const struct mo_header *header,
                                              const struct mo_header_tensor *tensor) {
    return tensor->rank == 0 ? NULL : header->dimensions + tensor->shape;
}

/* `text` has `length` bytes, which the parser changes and the result points
 * into; `data_size` is what the file has after them. On failure the result is
 * untouched and `error` tells the byte of the header. */
int mo_header_parse(char *text, size_t length, uint64_t data_size, struct mo_header *ret_header,
                    struct memopt_error *error);
/* All but the text. */
void mo_header_free(struct mo_header *header);

/* A name for a message: shortened, control characters as '?'. */
#define MO_SHOWN_MAX 80
const char *mo_shown(const char *name, char buffer[MO_SHOWN_MAX]);

/* The elements of a shape and their bytes; -EOVERFLOW: the product of those that
 * are not 0 does not fit. */
int mo_shape_size(int dtype, unsigned rank, const uint64_t *shape, uint64_t *ret_elements,
                  uint64_t *ret_bytes);

#endif
