/*
 * memopt/store.h - tensors in files: the safetensors format, read strictly and
 * written so that a file is there whole or not at all.
 *
 *     struct memopt_tensors *file;
 *     if (memopt_tensors_open("model.safetensors", &file, &error) < 0)
 *         errx(1, "%s", error.message);
 *     struct memopt_tensor t = MEMOPT_TENSOR_INIT;
 *     ssize_t w = memopt_tensors_find(file, "fc1.weight", &t, &error);
 *     ... memopt_tensors_read(file, w, 0, buffer, t.bytes, &error) ...
 *     memopt_tensors_close(file);
 *
 * The format (github.com/huggingface/safetensors): 8 bytes, the header's length,
 * little-endian; the header, a JSON object; the tensors' data, row-major and
 * little-endian. The header has for each tensor its "dtype", "shape" and
 * "data_offsets" [begin, end), counted from the end of the header, and may have
 * "__metadata__", an object of strings.
 *
 * Vocabulary
 *   tensor    a name, a type (memopt/dtype.h), a shape and its bytes
 *   index     a number of a tensor from 0: in a reader in the order of the data;
 *             in a writer in the order in which they were added
 *   view      the file's bytes mapped into memory, read-only
 *
 * What a file must be, or opening it fails with what is wrong and where:
 *   the header has at most 100,000,000 bytes, all of them in the file, begins
 *   with '{' and is followed, inside its length, by nothing but spaces;
 *   it is JSON in valid UTF-8, nested no deeper than the format needs, with no
 *   key twice in any object, no key that the format doesn't have, no string with
 *   a NUL; each tensor has all three keys;
 *   numbers are plain digits up to 2^64 - 1: no sign, fraction, exponent or
 *   leading zero;
 *   a shape has at most MEMOPT_TENSOR_RANK_MAX dimensions (none: a scalar), any
 *   of them may be 0; the product of those that are not 0 fits 64 bits, and the
 *   product of all, times the type's size, is the length of the data;
 *   the tensors' data lie end to end in some order, from the first byte after
 *   the header to the end of the file: no hole, no overlap, nothing after;
 *   there are at most MEMOPT_TENSORS_MAX tensors, and as many metadata.
 * Types of less than a byte (F4, F6_E2M3, F6_E3M2) are refused.
 *
 * What the writer makes of it: the data begins at a multiple of 4,096 bytes (the
 * header is padded with spaces), and tensors of larger types come first, so
 * that every tensor is aligned to the size of its type. Inside one size they
 * are in the order in which they were added.
 *
 * All or nothing: a writer's file has a temporary name in the same directory
 * until memopt_tensors_writer_commit(), which syncs it, renames it over the old
 * one and syncs the directory. Before that, or if anything fails (disk full,
 * RLIMIT_FSIZE, a crash), the old file is as it was. A killed process leaves the
 * temporary file behind: ".memopt-" and 16 hexadecimal digits. A new file has
 * the permissions of the one it replaces. Symbolic links are refused, not
 * followed. No signal is raised (SIGXFSZ is held back).
 *
 * Memory: malloc. A reader keeps the header, some 80 bytes a tensor and 12 a
 * dimension, which is at most four times the header and usually less than twice;
 * nothing of the data.
 *
 * Ownership: whoever opens closes. Names, keys, values, shapes and views belong
 * to the reader and end with it. A writer copies what it is given.
 *
 * Threads: a reader may be used by any number of threads at a time but for
 * closing; a writer by one at a time. Not for signal handlers. fork: a child may
 * go on with a reader; a writer belongs to the process that opened it, and a
 * child must not commit it (closing it there removes nothing).
 *
 * A view shows what another process writes into the file, and reading one whose
 * file was cut short raises SIGBUS; replace files whole, as the writer does.
 */
#ifndef MEMOPT_STORE_H
#define MEMOPT_STORE_H

#include <memopt/dtype.h>
#include <memopt/error.h>

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MEMOPT_EXPORT
#define MEMOPT_EXPORT __attribute__((visibility("default")))
#endif

#define MEMOPT_TENSORS_HEADER_MAX 100000000u /* bytes, padding included */
#define MEMOPT_TENSORS_MAX 1000000u
#define MEMOPT_TENSOR_RANK_MAX 64u
#define MEMOPT_TENSORS_ALIGNMENT 4096u /* where a writer has the data begin */

/* ------------------------------------------------------------------ reading */

struct memopt_tensors; /* an open file */

struct memopt_tensor {
    size_t size; /* of this struct, set by the caller */
    const char *name;
    int dtype; /* enum memopt_dtype */
    unsigned rank;
    const uint64_t *shape; /* `rank` dimensions */
    uint64_t elements;     /* their product; 1 for a scalar */
    uint64_t bytes;        /* of its data */
    uint64_t offset;       /* of its first byte, from the beginning of the file */
};
#define MEMOPT_TENSOR_INIT                                                                         \
    { sizeof(struct memopt_tensor), NULL, 0, 0, NULL, 0, 0, 0 }

/* Reads and checks the whole header. -EINVAL: not a file as above; -EFBIG: its
 * header is too large; -ENOTSUP: a type that can't be read; -ENOMEM; or what
 * open(2) gave. Nothing but a regular file is opened. */
MEMOPT_EXPORT int memopt_tensors_open(const char *path, struct memopt_tensors **ret_file,
                                      struct memopt_error *error);
/* NULL is nothing. */
MEMOPT_EXPORT void memopt_tensors_close(struct memopt_tensors *file);

MEMOPT_EXPORT size_t memopt_tensors_count(const struct memopt_tensors *file);
/* Fills the struct up to its `size`. -EINVAL: no such index, or a size that is
 * not of this struct. */
MEMOPT_EXPORT int memopt_tensors_get(const struct memopt_tensors *file, size_t index,
                                     struct memopt_tensor *tensor, struct memopt_error *error);
/* The index of the tensor of that name, and what it is (NULL: not wanted);
 * -ENOENT: there is none. */
MEMOPT_EXPORT ssize_t memopt_tensors_find(const struct memopt_tensors *file, const char *name,
                                          struct memopt_tensor *tensor, struct memopt_error *error);

/* The value of a key of the metadata, or NULL. */
MEMOPT_EXPORT const char *memopt_tensors_metadata(const struct memopt_tensors *file,
                                                  const char *key);
/* How many there are; and each, in the order of the keys' bytes. -EINVAL: no
 * such index. */
MEMOPT_EXPORT size_t memopt_tensors_metadata_count(const struct memopt_tensors *file);
MEMOPT_EXPORT int memopt_tensors_metadata_get(const struct memopt_tensors *file, size_t index,
                                              const char **ret_key, const char **ret_value);

/* Reads `bytes` bytes of a tensor from its byte `offset` on. -EINVAL: they are
 * not all the tensor's; -EIO: the file has become shorter; or what pread(2)
 * gave. After a failure the buffer may have been written to. */
MEMOPT_EXPORT int memopt_tensors_read(const struct memopt_tensors *file, size_t index,
                                      uint64_t offset, void *buffer, size_t bytes,
                                      struct memopt_error *error);
/* The tensor's bytes in memory, read-only, until the file is closed. The first
 * view maps the whole file. -ENOTSUP: they are not aligned to the type's size
 * (another writer's file; memopt_tensors_read() can read it); -ENOMEM; or what
 * mmap(2) gave. */
MEMOPT_EXPORT int memopt_tensors_view(struct memopt_tensors *file, size_t index,
                                      const void **ret_data, struct memopt_error *error);

/* ------------------------------------------------------------------ writing */

struct memopt_tensors_writer;

/* Begins a file that is to have the name `path`; nothing is there under it until
 * the commit. -ELOOP: a symbolic link; -EINVAL: it is there and no regular file;
 * or what open(2) gave. */
MEMOPT_EXPORT int memopt_tensors_writer_open(const char *path,
                                             struct memopt_tensors_writer **ret_writer,
                                             struct memopt_error *error);
/* Removes what was not committed. NULL is nothing. */
MEMOPT_EXPORT void memopt_tensors_writer_close(struct memopt_tensors_writer *writer);

/* Declares a tensor and returns its index. All are declared before the first is
 * written. `shape` has `rank` dimensions; NULL will do for rank 0. -EINVAL: the
 * name (not UTF-8, or "__metadata__"), the type, or the shape; -EEXIST: a tensor
 * of that name; -EBUSY: writing has begun; -ENOSPC: MEMOPT_TENSORS_MAX are there;
 * -ENOMEM. */
MEMOPT_EXPORT ssize_t memopt_tensors_writer_add(struct memopt_tensors_writer *writer,
                                                const char *name, int dtype, unsigned rank,
                                                const uint64_t *shape, struct memopt_error *error);
/* Declares a metadata string. Errors as above. */
MEMOPT_EXPORT int memopt_tensors_writer_metadata(struct memopt_tensors_writer *writer,
                                                 const char *key, const char *value,
                                                 struct memopt_error *error);
/* Writes `bytes` bytes at byte `offset` of a tensor: in any order, in any
 * pieces, again if need be. The first write lays the file out. -EINVAL: not all
 * the tensor's bytes; -EFBIG: the header or the file would be too large; -ENOMEM;
 * or what pwrite(2) gave, -ENOSPC for one: it may be tried again. */
MEMOPT_EXPORT int memopt_tensors_writer_write(struct memopt_tensors_writer *writer, size_t index,
                                              uint64_t offset, const void *data, size_t bytes,
                                              struct memopt_error *error);
/* Gives the file its name, once every byte of every tensor is written (-ENODATA
 * names one that is not). Once syncing has failed, it fails for good: what is on
 * the disk is unknown. An error after the rename says so: the new file is there,
 * but may be gone after a crash. The writer is to be closed either way. */
MEMOPT_EXPORT int memopt_tensors_writer_commit(struct memopt_tensors_writer *writer,
                                               struct memopt_error *error);

#ifdef __cplusplus
}
#endif
#endif
