/* reader.c - an open safetensors file, see memopt/store.h. */
#include "core/base/error.h"
#include "core/store/header.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the format is little-endian and data is not converted");

enum { LENGTH_BYTES = 8 }; /* of the header, before it */

struct memopt_tensors {
    struct mo_header header;
    char *text;
    char *path;
    int fd;
    uint64_t size;       /* of the file */
    uint64_t data_start; /* from the beginning of the file */
    _Atomic(char *) map; /* the whole file; NULL: no view yet */
};

/* All of the bytes, or why not. */
static int read_at(int fd, char *buffer, size_t bytes, uint64_t offset,
                   struct memopt_error *error) {
    while (bytes > 0) {
        ssize_t got = pread(fd, buffer, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return mo_fail(error, -errno, "%s", strerror(errno));
        if (got == 0)
            return mo_fail(error, -EIO, "the file has become shorter since it was opened");
        buffer += got;
        bytes -= (size_t)got;
        offset += (uint64_t)got;
    }
    return 0;
}

static int open_regular(const char *path, int *ret_fd, uint64_t *ret_size,
                        struct memopt_error *error) {
    struct stat st;
    /* non-blocking, so that a pipe without a writer is an error, not a wait */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return mo_fail(error, -errno, "%s", strerror(errno));
    int r = 0;
    if (fstat(fd, &st) < 0)
        r = mo_fail(error, -errno, "%s", strerror(errno));
    else if (!S_ISREG(st.st_mode))
        r = mo_fail(error, -EINVAL, "not a regular file");
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret_fd = fd;
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static int read_header(struct memopt_tensors *file, struct memopt_error *error) {
    uint64_t length;
    int r;
    if (file->size < LENGTH_BYTES)
        return mo_fail(error, -EINVAL, "%llu bytes, too short for a safetensors file",
                       (unsigned long long)file->size);
    if ((r = read_at(file->fd, (char *)&length, LENGTH_BYTES, 0, error)) < 0)
        return r;
    if (length > file->size - LENGTH_BYTES)
        return mo_fail(error, -EINVAL,
                       "it is cut short, or no safetensors file: a header of %llu bytes in a file "
                       "of %llu",
                       (unsigned long long)length, (unsigned long long)file->size);
    if (length > MEMOPT_TENSORS_HEADER_MAX)
        return mo_fail(error, -EFBIG, "a header of %llu bytes; at most %u are allowed",
                       (unsigned long long)length, MEMOPT_TENSORS_HEADER_MAX);
    if ((file->text = malloc(length + 1)) == NULL)
        return mo_fail(error, -ENOMEM, "out of memory for a header of %llu bytes",
                       (unsigned long long)length);
    if ((r = read_at(file->fd, file->text, length, LENGTH_BYTES, error)) < 0)
        return r;
    file->data_start = LENGTH_BYTES + length;
    return mo_header_parse(file->text, length, file->size - file->data_start, &file->header, error);
}

int memopt_tensors_open(const char *path, struct memopt_tensors **ret_file,
                        struct memopt_error *error) {
    if (path == NULL || ret_file == NULL)
        return mo_fail(error, -EINVAL, "memopt_tensors_open: a path and a result are needed");
    struct memopt_tensors *file = calloc(1, sizeof(*file));
    if (file == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    file->fd = -1;
    int r = 0;
    if ((file->path = strdup(path)) == NULL)
        r = mo_fail(error, -ENOMEM, "out of memory");
    else if ((r = open_regular(path, &file->fd, &file->size, error)) == 0)
        r = read_header(file, error);
    if (r < 0) {
        mo_error_prefix(error, "'%s'", path);
        memopt_tensors_close(file);
        return r;
    }
    *ret_file = file;
    return 0;
}

void memopt_tensors_close(struct memopt_tensors *file) {
    if (file == NULL)
        return;
    char *map = atomic_load(&file->map);
    if (map != NULL)
        munmap(map, file->size);
    if (file->fd >= 0)
        close(file->fd);
    mo_header_free(&file->header);
    free(file->text);
    free(file->path);
    free(file);
}

/* ---------------------------------------------------------------- contents */

size_t memopt_tensors_count(const struct memopt_tensors *file) {
    return file == NULL ? 0 : file->header.count;
}

static int no_index(const struct memopt_tensors *file, size_t index, struct memopt_error *error) {
    if (file == NULL)
        return mo_fail(error, -EINVAL, "no file of tensors was given");
    if (index >= file->header.count)
        return mo_fail(error, -EINVAL, "'%s': no tensor %zu; it has %zu, from 0", file->path, index,
                       file->header.count);
    return 0;
}

static int describe(const struct memopt_tensors *file, size_t index, struct memopt_tensor *tensor,
                    struct memopt_error *error) {
    if (tensor->size < offsetof(struct memopt_tensor, name) || tensor->size > sizeof(*tensor))
        return mo_fail(error, -EINVAL,
                       "a struct memopt_tensor of %zu bytes; use "
                       "MEMOPT_TENSOR_INIT",
                       tensor->size);
    const struct mo_header_tensor *t = &file->header.tensors[index];
    struct memopt_tensor all = {
        .size = tensor->size,
        .name = t->name,
        .dtype = t->dtype,
        .rank = t->rank,
        .shape = mo_header_shape(&file->header, t),
        .elements = t->elements,
        .bytes = t->end - t->begin,
        .offset = file->data_start + t->begin,
    };
    memcpy(tensor, &all, tensor->size);
    return 0;
}

int memopt_tensors_get(const struct memopt_tensors *file, size_t index,
                       struct memopt_tensor *tensor, struct memopt_error *error) {
    int r = no_index(file, index, error);
    if (r < 0)
        return r;
    if (tensor == NULL)
        return mo_fail(error, -EINVAL, "memopt_tensors_get: a result is needed");
    return describe(file, index, tensor, error);
}

ssize_t memopt_tensors_find(const struct memopt_tensors *file, const char *name,
                            struct memopt_tensor *tensor, struct memopt_error *error) {
    char shown[MO_SHOWN_MAX];
    if (file == NULL || name == NULL)
        return mo_fail(error, -EINVAL, "memopt_tensors_find: a file and a name are needed");
    size_t low = 0, high = file->header.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2, index = file->header.by_name[middle];
        int order = strcmp(name, file->header.tensors[index].name);
        if (order == 0) {
            int r = tensor == NULL ? 0 : describe(file, index, tensor, error);
            return r < 0 ? r : (ssize_t)index;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return mo_fail(error, -ENOENT, "'%s': there is no tensor '%s'", file->path,
                   mo_shown(name, shown));
}

const char *memopt_tensors_metadata(const struct memopt_tensors *file, const char *key) {
    if (file == NULL || key == NULL)
        return NULL;
    size_t low = 0, high = file->header.pair_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(key, file->header.pairs[middle].key);
        if (order == 0)
            return file->header.pairs[middle].value;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

size_t memopt_tensors_metadata_count(const struct memopt_tensors *file) {
    return file == NULL ? 0 : file->header.pair_count;
}

int memopt_tensors_metadata_get(const struct memopt_tensors *file, size_t index,
                                const char **ret_key, const char **ret_value) {
    if (file == NULL || index >= file->header.pair_count || ret_key == NULL || ret_value == NULL)
        return -EINVAL;
    *ret_key = file->header.pairs[index].key;
    *ret_value = file->header.pairs[index].value;
    return 0;
}

/* --------------------------------------------------------------------- data */

int memopt_tensors_read(const struct memopt_tensors *file, size_t index, uint64_t offset,
                        void *buffer, size_t bytes, struct memopt_error *error) {
    char shown[MO_SHOWN_MAX];
    int r = no_index(file, index, error);
    if (r < 0)
        return r;
    const struct mo_header_tensor *t = &file->header.tensors[index];
    uint64_t size = t->end - t->begin;
    if (offset > size || bytes > size - offset)
        return mo_fail(error, -EINVAL,
                       "'%s': %zu bytes at %llu are not all in tensor '%s', which has %llu",
                       file->path, bytes, (unsigned long long)offset, mo_shown(t->name, shown),
                       (unsigned long long)size);
    if (bytes == 0)
        return 0;
    if (buffer == NULL)
        return mo_fail(error, -EINVAL, "memopt_tensors_read: a buffer is needed");
    r = read_at(file->fd, buffer, bytes, file->data_start + t->begin + offset, error);
    if (r < 0)
        mo_error_prefix(error, "'%s': tensor '%s'", file->path, mo_shown(t->name, shown));
    return r;
}

int memopt_tensors_view(struct memopt_tensors *file, size_t index, const void **ret_data,
                        struct memopt_error *error) {
    char shown[MO_SHOWN_MAX];
    int r = no_index(file, index, error);
    if (r < 0)
        return r;
    if (ret_data == NULL)
        return mo_fail(error, -EINVAL, "memopt_tensors_view: a result is needed");
    const struct mo_header_tensor *t = &file->header.tensors[index];
    uint64_t offset = file->data_start + t->begin;
    size_t unit = memopt_dtype_size(t->dtype);
    if (offset % unit != 0)
        return mo_fail(error, -ENOTSUP,
                       "'%s': tensor '%s' begins at byte %llu, which is no multiple of its type's "
                       "%zu: read it instead",
                       file->path, mo_shown(t->name, shown), (unsigned long long)offset, unit);
    char *map = atomic_load_explicit(&file->map, memory_order_acquire);
    if (map == NULL) {
        char *mine = mmap(NULL, file->size, PROT_READ, MAP_PRIVATE, file->fd, 0);
        if (mine == MAP_FAILED)
            return mo_fail(error, -errno, "'%s': can't be mapped: %s", file->path, strerror(errno));
        /* another thread may have been first: its mapping is the file's, too */
        if (atomic_compare_exchange_strong(&file->map, &map, mine))
            map = mine;
        else
            munmap(mine, file->size);
    }
    *ret_data = map + offset;
    return 0;
}
