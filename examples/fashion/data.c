/* data.c - reads Fashion-MNIST: see data.h. */
#include "data.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

static int fail(struct memopt_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int fail(struct memopt_error *error, int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof(error->message), format, arguments);
    va_end(arguments);
    return error->code = code;
}

static void close_gz(gzFile *file) {
    if (*file != NULL)
        gzclose(*file);
}

static int read_number(gzFile file, size_t *ret_number) {
    unsigned char b[4];
    if (gzread(file, b, 4) != 4)
        return -1;
    *ret_number = (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
    return 0;
}

/* An IDX file: 0, 0, 8 (unsigned bytes), the number of dimensions, each one's
 * size as four bytes, highest first; then the bytes. All dimensions but the
 * first must make `item` bytes together. */
static int read_idx(struct memopt_heap *heap, const char *path, size_t dimensions, size_t item,
                    size_t most, unsigned char **ret_bytes, size_t *ret_count,
                    struct memopt_error *error) {
    errno = 0;
    __attribute__((cleanup(close_gz))) gzFile file = gzopen(path, "rb");
    if (file == NULL) {
        int code = errno != 0 ? errno : ENOMEM; /* zlib's own */
        return fail(error, -code, "%s: %s (apt-get install dataset-fashion-mnist)", path,
                    strerror(code));
    }
    size_t magic, count, size, product = 1;
    if (read_number(file, &magic) < 0 || magic != (0x800 | dimensions) ||
        read_number(file, &count) < 0)
        return fail(error, -EINVAL, "%s: not an IDX file of bytes with %zu dimensions", path,
                    dimensions);
    for (size_t i = 1; i < dimensions; i++) {
        if (read_number(file, &size) < 0 || size > item)
            return fail(error, -EINVAL, "%s: its items are not %zu bytes", path, item);
        product *= size;
    }
    if (product != item || count == 0)
        return fail(error, -EINVAL, "%s: its items are not %zu bytes, or there is none", path,
                    item);
    if (most != 0 && count > most)
        count = most;
    size_t total = count * item; /* both are below 2^32 */
    unsigned char *bytes = memopt_heap_alloc(heap, total);
    if (bytes == NULL)
        return fail(error, -ENOMEM, "%s: no memory for %zu bytes", path, total);
    for (size_t done = 0; done < total;) {
        size_t step = total - done < 1 << 20 ? total - done : 1 << 20;
        int got = gzread(file, bytes + done, (unsigned)step);
        if (got <= 0) {
            memopt_heap_free(heap, bytes);
            return fail(error, -EINVAL, "%s: ends after %zu of %zu bytes", path, done, total);
        }
        done += (size_t)got;
    }
    *ret_bytes = bytes;
    *ret_count = count;
    return 0;
}

/* The file, or its gzipped form: zlib reads both. */
static void path_of(char *path, size_t size, const char *directory, const char *which,
                    const char *what) {
    snprintf(path, size, "%s/%s-%s-ubyte", directory, which, what);
    FILE *plain = fopen(path, "re");
    if (plain != NULL)
        fclose(plain);
    else
        snprintf(path, size, "%s/%s-%s-ubyte.gz", directory, which, what);
}

int dataset_read(struct memopt_heap *heap, const char *directory, const char *which, size_t most,
                 struct dataset *ret_set, struct memopt_error *error) {
    char path[4096];
    unsigned char *pixels = NULL, *labels = NULL;
    size_t images = 0, count = 0;
    path_of(path, sizeof(path), directory, which, "images-idx3");
    int result = read_idx(heap, path, 3, IMAGE_PIXELS, most, &pixels, &images, error);
    if (result != 0)
        return result;
    path_of(path, sizeof(path), directory, which, "labels-idx1");
    result = read_idx(heap, path, 1, 1, most, &labels, &count, error);
    if (result != 0) {
        memopt_heap_free(heap, pixels);
        return result;
    }
    size_t bad = 0;
    while (bad < count && labels[bad] < CLASSES)
        bad++;
    if (count != images || bad < count) {
        memopt_heap_free(heap, pixels);
        memopt_heap_free(heap, labels);
        return fail(error, -EINVAL, "%s: labels don't go with the images", path);
    }
    *ret_set = (struct dataset){count, pixels, labels};
    return 0;
}
