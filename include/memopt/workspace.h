/*
 * memopt/workspace.h - all tensors of a training step in one block: laid out once, by
 * when each is needed, and then no allocation in any step.
 *
 *     static const struct memopt_workspace_tensor tensors[] = {
 *         // name, bytes, alignment, first operation, last operation
 *         {"input", 64 * 784 * 4, 0, 0, 3},
 *         {"hidden", 64 * 128 * 4, 0, 0, 2},
 *         {"output", 64 * 10 * 4, 0, 1, 2},
 *         {"d_hidden", 64 * 128 * 4, 0, 2, 3},
 *     };
 *     memopt_workspace_create(tensors, 4, NULL, &space, &error);
 *     for (;;) {
 *         memopt_workspace_begin(space, NULL);
 *         memopt_workspace_op(space, 0, NULL);              // forward, layer 0
 *         float *hidden = memopt_workspace_get(space, 1);
 *         ...
 *         memopt_workspace_end(space, NULL);
 *     }
 *
 * Vocabulary
 *   operation   a number from 0; the program says when each begins
 *   lifetime    a tensor's first and last operation, both included. Outside of it
 *               its bytes may be another's.
 *   plan        where each tensor lies in the block: two whose lifetimes meet never
 *               overlap
 *   sum         the bytes of all tensors, as if nothing were shared
 *   bound       the most bytes that are alive in one operation: no plan needs less
 *
 * The plan is made greedily: tensors in the order of their size, largest first,
 * each in the smallest gap that is free throughout its lifetime (Pisarchyk and Lee,
 * "Efficient memory management for deep neural net inference", 2020: "greedy by
 * size"); a second one in the order of the largest operation ("greedy by breadth");
 * the smaller of the two is used. Plans are within a few percent of the bound for
 * usual networks, but the best plan is a hard problem and this need not be it.
 *
 * Costs: creation takes two blocks from the heap and time in proportion to the
 * square of the number of tensors. begin, end and get take constant time, op the
 * number of lifetimes that begin or end there. None of them allocates.
 *
 * A tensor's contents are undefined when its lifetime begins, and gone when it ends.
 *
 * Misuse (memopt/misuse.h): memopt_workspace_get() refuses a tensor that is not alive. In
 * debug, writing past a tensor's end is found when its lifetime ends. Under
 * AddressSanitizer and Valgrind an access to a tensor outside of its lifetime is
 * reported as it happens, unless its bytes are another's by then.
 *
 * Threads: begin, op and end are for one thread at a time; get, and the tensors'
 * bytes, for all between them. fork: the child has a copy.
 */
#ifndef MEMOPT_WORKSPACE_H
#define MEMOPT_WORKSPACE_H

#include <memopt/error.h>
#include <memopt/heap.h>
#include <memopt/misuse.h>

#ifdef __cplusplus
extern "C" {
#endif

struct memopt_workspace;

struct memopt_workspace_tensor {
    const char *name;     /* of its own; NULL: none */
    size_t bytes;         /* at least 1 */
    size_t alignment;     /* a power of two up to 2 MiB; 0: 64 */
    unsigned first, last; /* operations; first <= last < MEMOPT_WORKSPACE_OPS */
};
#define MEMOPT_WORKSPACE_OPS (1u << 20)

struct memopt_workspace_options {
    size_t size;              /* of this struct */
    struct memopt_heap *heap; /* NULL: the default heap */
    const char *name;         /* for messages; NULL: "workspace" */
    int debug;                /* enum memopt_debug */
    memopt_misuse_fn on_misuse;
    void *context;
};
#define MEMOPT_WORKSPACE_OPTIONS_INIT                                                              \
    { sizeof(struct memopt_workspace_options), NULL, NULL, MEMOPT_DEBUG_BUILD, NULL, NULL }

/* Makes the plan and takes its memory; names are copied. `options` may be NULL.
 * -EINVAL (a tensor, named in the message, or an option), -EEXIST (a name twice),
 * -EOVERFLOW (more bytes than an address can have), -ENOMEM. */
MEMOPT_EXPORT int memopt_workspace_create(const struct memopt_workspace_tensor *tensors,
                                          size_t count,
                                          const struct memopt_workspace_options *options,
                                          struct memopt_workspace **ret_space,
                                          struct memopt_error *error);
/* NULL is nothing. */
MEMOPT_EXPORT void memopt_workspace_destroy(struct memopt_workspace *space);

/* A step begins; no tensor is alive yet. -EBUSY: one has begun already. */
MEMOPT_EXPORT int memopt_workspace_begin(struct memopt_workspace *space,
                                         struct memopt_error *error);
/* Operation `op` begins: tensors whose lifetime ends before it are gone, those whose
 * lifetime includes it are alive. -EINVAL: no step has begun, or `op` is before the
 * current one or after the last of all tensors; nothing has happened. -EOVERFLOW
 * (debug): something wrote past the end of a tensor that is gone now. */
MEMOPT_EXPORT int memopt_workspace_op(struct memopt_workspace *space, unsigned op,
                                      struct memopt_error *error);
/* No tensor is alive. -EINVAL: no step has begun; -EOVERFLOW as op. */
MEMOPT_EXPORT int memopt_workspace_end(struct memopt_workspace *space, struct memopt_error *error);

/* Tensor number `index` of those given at creation. NULL and errno EINVAL: it is not
 * alive, or there is none. */
MEMOPT_EXPORT void *memopt_workspace_get(const struct memopt_workspace *space, size_t index);
/* The number of the tensor of that name; -ENOENT. Takes the logarithm of their
 * number: for setting up. */
MEMOPT_EXPORT ptrdiff_t memopt_workspace_find(const struct memopt_workspace *space,
                                              const char *name);

struct memopt_workspace_statistics {
    size_t size; /* of this struct, set by the caller */
    uint64_t tensors, operations;
    uint64_t planned; /* the block */
    uint64_t bound, sum;
    uint64_t steps; /* that have ended */
    uint64_t misuses;
};
#define MEMOPT_WORKSPACE_STATISTICS_INIT                                                           \
    { sizeof(struct memopt_workspace_statistics), 0, 0, 0, 0, 0, 0, 0 }
/* -EINVAL: a NULL, or a size that is not of this struct. */
MEMOPT_EXPORT int memopt_workspace_stats(const struct memopt_workspace *space,
                                         struct memopt_workspace_statistics *stats);
/* Where tensor `index` lies in the block. -EINVAL: there is none. */
MEMOPT_EXPORT int memopt_workspace_place(const struct memopt_workspace *space, size_t index,
                                         size_t *ret_offset, size_t *ret_bytes);

#ifdef __cplusplus
}
#endif
#endif
