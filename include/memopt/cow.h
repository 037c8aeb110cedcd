/*
 * memopt/cow.h - copy-on-write buffers: a snapshot costs next to nothing, and what
 * is written afterwards is copied, not more.
 *
 *     struct memopt_cow *weights, *snapshot;
 *     void *p;
 *     if (memopt_cow_create(heap, bytes, NULL, &weights, &error) < 0) ...
 *     if (memopt_cow_write(weights, 0, bytes, &p, &error) < 0) ...  // fill it
 *     if (memopt_cow_clone(weights, &snapshot, &error) < 0) ...     // shares all
 *     if (memopt_cow_write(weights, offset, length, &p, &error) < 0) ...
 *     const float *before = memopt_cow_read(snapshot);              // as it was
 *
 * Vocabulary
 *   handle  a struct memopt_cow: to its holder a buffer of his own
 *   shared  bytes that several handles have in common, as none has written them
 *   copy    way 1, for small buffers: one heap block with a count; a handle that
 *           writes a shared one copies it whole
 *   pages   way 2, for large ones: a memory file (memfd_create(2)) that each handle
 *           maps privately; a handle that writes copies the pages it writes
 *
 * Which way: by size, from `threshold` on by pages. A clone and a byte written cost
 * by pages much the same at any size (14 to 40 us from 4 KiB to 16 MiB on the machine
 * of bench/cow), by copying as much as the buffer is large (0.1 to 690 us); they meet
 * at 1 MiB. What is written costs by pages a page fault for each, 2 us, so that a
 * program which rewrites more than about a twentieth of a buffer after each clone is
 * faster by copying at any size: by pages it saves memory, not time. Where the system
 * gives no memory file, for want of descriptors say, MEMOPT_COW_AUTO copies.
 *
 * Pointers: that of memopt_cow_read() holds until a write to, or the end of, the
 * same handle; that of memopt_cow_write(), for the bytes it was asked for, until the
 * next clone or end of the same handle. By pages, the address never changes, and
 * writing shared bytes without memopt_cow_write() faults (but in a handle whose
 * scattered pages need more mappings than the kernel allows); under a memory checker
 * MEMOPT_COW_AUTO is by pages at any size, so that it always does.
 *
 * Cost: clone is O(1) for a handle that has not written since its own creation or
 * the last clone, or whose other handles are gone but for pages written; otherwise it
 * copies the pages written since they were last shared. create and clone by pages
 * use a mapping, and each buffer with its clones a file descriptor.
 *
 * Limits: the heap is charged for what is committed: each memory file in full, and
 * for each handle the pages it asked to write while they were shared. A write that
 * would go over the heap's limit fails with -ENOMEM, after the heap's steps, and
 * changes nothing. Destroy handles before their heap.
 *
 * Threads: a handle is like a variable: any number of threads may read and clone it
 * at once, while none writes or destroys it. Different handles are independent,
 * whatever they share.
 * fork: parent and child have a copy of each buffer. From then on the memory files of
 * that time are never written again in either: the next clone of a buffer that was
 * nobody else's copies it whole.
 */
#ifndef MEMOPT_COW_H
#define MEMOPT_COW_H

#include <memopt/heap.h>

#ifdef __cplusplus
extern "C" {
#endif

struct memopt_cow;

enum memopt_cow_mode {
    MEMOPT_COW_AUTO = 0,
    MEMOPT_COW_COPY = 1,
    MEMOPT_COW_PAGES = 2,
};

/* The measured default of `threshold`. */
#define MEMOPT_COW_THRESHOLD (1024 * 1024)

struct memopt_cow_options {
    size_t size;      /* of this struct */
    int mode;         /* enum memopt_cow_mode */
    size_t threshold; /* AUTO: bytes from which on it is by pages; 0: MEMOPT_COW_THRESHOLD */
};
#define MEMOPT_COW_OPTIONS_INIT                                                                    \
    { sizeof(struct memopt_cow_options), MEMOPT_COW_AUTO, 0 }

/* A buffer of `size` zero bytes in `heap` (NULL: the default heap), aligned to 64
 * bytes at least. `options` may be NULL.
 * -EINVAL (size 0, options), -ENOMEM; MEMOPT_COW_PAGES: what memfd_create() gave. */
MEMOPT_EXPORT int memopt_cow_create(struct memopt_heap *heap, size_t size,
                                    const struct memopt_cow_options *options,
                                    struct memopt_cow **ret_cow, struct memopt_error *error);

/* Another handle with the same contents, and shares them.
 * -ENOMEM; -EBADF: the program has closed the memory file's descriptor. */
MEMOPT_EXPORT int memopt_cow_clone(struct memopt_cow *cow, struct memopt_cow **ret_clone,
                                   struct memopt_error *error);

MEMOPT_EXPORT size_t memopt_cow_size(const struct memopt_cow *cow);

/* The contents. */
MEMOPT_EXPORT const void *memopt_cow_read(const struct memopt_cow *cow);

/* The bytes from `offset` on, `length` of them, to be changed: no other handle sees
 * it. Fails before anything has changed: -EINVAL (a range of no bytes, or not in the
 * buffer), -ENOMEM. */
MEMOPT_EXPORT int memopt_cow_write(struct memopt_cow *cow, size_t offset, size_t length,
                                   void **ret_p, struct memopt_error *error);

/* Ends the handle. NULL is nothing. */
MEMOPT_EXPORT void memopt_cow_destroy(struct memopt_cow *cow);

/* What can be known without asking the kernel page by page. shared and private
 * together are the buffer, by pages in whole pages. */
struct memopt_cow_statistics {
    size_t size; /* of this struct, set by the caller */
    int by_pages;
    uint64_t handles;       /* that share something with this one, it included */
    uint64_t shared_bytes;  /* in common with others */
    uint64_t private_bytes; /* by pages: those it asked to write. The kernel copies a page
                               when it is touched, so what is resident may be less. */
};
#define MEMOPT_COW_STATISTICS_INIT                                                                 \
    { sizeof(struct memopt_cow_statistics), 0, 0, 0, 0 }
/* -EINVAL: a NULL, or a size that is not of this struct. */
MEMOPT_EXPORT int memopt_cow_stats(const struct memopt_cow *cow,
                                   struct memopt_cow_statistics *stats);

#ifdef __cplusplus
}
#endif
#endif
