/*
 * data.h - Fashion-MNIST as Debian's dataset-fashion-mnist has it: images of
 * 28 x 28 grey pixels and a label from 0 to 9, in gzipped IDX files.
 *
 * A set is read whole into a heap of the caller's, one byte a pixel.
 */
#ifndef EXAMPLES_FASHION_DATA_H
#define EXAMPLES_FASHION_DATA_H

#include <memopt/heap.h>

enum { IMAGE_PIXELS = 28 * 28, CLASSES = 10 };

struct dataset {
    size_t count;
    const unsigned char *pixels; /* count x IMAGE_PIXELS */
    const unsigned char *labels; /* count */
};

/* Reads DIRECTORY/WHICH-images-idx3-ubyte[.gz] and its labels (`which`: "train"
 * or "t10k"), at most `most` images (0: all). The blocks belong to `heap`. */
int dataset_read(struct memopt_heap *heap, const char *directory, const char *which, size_t most,
                 struct dataset *ret_set, struct memopt_error *error);

#endif
