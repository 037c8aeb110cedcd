/*
 * memopt/train.h - training within the memory there is: how many samples at a
 * time, their gradients added up, and which activations to keep.
 *
 * Three helpers that know nothing of each other, or of heaps, models and
 * optimizers: they count, and the program allocates.
 *
 * 1. Batch control
 *
 *     struct memopt_batch_piece piece = MEMOPT_BATCH_PIECE_INIT;
 *     while (memopt_batch_next(batch, &piece)) {
 *         if (train_on(piece.first, piece.count) == -ENOMEM) {
 *             if (memopt_batch_failed(batch, &error) < 0)
 *                 errx(1, "%s", error.message);
 *             continue;                           // fewer samples, same place
 *         }
 *         memopt_accumulate(sum, MEMOPT_DTYPE_F32, gradient, n, piece.weight, &error);
 *         memopt_batch_done(batch);
 *     }
 *     // sum is the mean gradient over the batch: update, zero it, next step
 *
 * Vocabulary
 *   batch    the samples of one step: always the same number, whatever fits
 *   piece    samples that are worked on at a time
 *   size     the most samples that a piece may have, at present
 *   ceiling  the smallest size that is known not to fit; none at first
 *
 * A step walks through the batch, piece by piece. What is left is always cut
 * into as few pieces as the size allows, as even as can be: 10 samples at size 4
 * are 4, 3 and 3. A piece's weight is its count / batch, rounded to the nearest
 * double; where the last bit matters, scale by `count`, which is exact, and
 * divide the sum by the batch.
 *
 * A piece that failed sets the ceiling to its count and the size to half of it;
 * the step goes on with the samples that it has not done. Below `minimum` there
 * is nothing to halve: the failure is final, and the caller's.
 *
 * After `grow_after` steps without a failure the size grows: it doubles while
 * there is no ceiling in the way, else it goes half the way to the ceiling,
 * until they meet. A growth that fails at once doubles the steps that the next
 * one takes, up to 64 times grow_after. After `forget_after` steps without a
 * failure the ceiling is forgotten, and all begins anew: whoever had the memory
 * may have given it back.
 *
 * The walk depends on nothing but the calls: the same failures give the same
 * pieces. The sum over other pieces is another order of additions, so its last
 * bits may differ; a program that wants the same bits whatever the memory does
 * fixes the size (start = minimum = maximum).
 *
 * 2. Accumulation: memopt_accumulate() adds scaled gradients to an fp32 buffer.
 * Each element is for itself: sum + scale * gradient, rounded twice, never
 * fused. Any split of the buffer over calls or threads gives the same bits.
 *
 * 3. Checkpoints: which activations of a chain of layers to keep in the forward
 * pass, so that memory stays within a budget and the least is computed again.
 *
 * The model, exactly. Layer i (1 to n) makes activation a[i] from a[i-1];
 * backward of layer i needs a[i-1], a[i] and the gradient g[i] of a[i], and makes
 * g[i-1]. A plan is a set of layers whose activations are kept; layer n is always
 * one of them, as the backward pass begins there. a[0], the input, is always
 * there and not counted, as is all else that lives throughout (parameters,
 * optimizer state): take them off the budget. g[0] is not made.
 *
 *   forward   computing layer i holds the kept among a[1..i-1], a[i-1], a[i] and
 *             forward[i]; layer n makes the loss and so g[n], which it holds too.
 *             Then a[i-1] goes, if it is not kept.
 *   backward  goes from segment to segment, last first. A segment is what comes
 *             after one kept layer p (or the input: p = 0) up to the next, q.
 *             First its other layers are computed again, once each, in order:
 *             computing layer i holds the kept up to p, a[p+1..i], a[q], g[q] and
 *             forward[i]. Then backward of layer i, from q down to p+1, holds the
 *             kept up to p, a[p+1..i], g[i], g[i-1] and backward[i]; after it
 *             a[i] and g[i] go.
 *   peak      the most bytes held at any of these moments
 *   cost      the sum of cost[i] over the layers that are not kept
 *
 * This is "keep a set, compute each segment again once", as in Chen et al.,
 * "Training Deep Nets with Sublinear Memory Cost" (2016), but with any set, and
 * any sizes and costs. Schemes that compute a layer more than once (Griewank and
 * Walther's revolve; Beaumont et al., "Optimal checkpointing for heterogeneous
 * chains", 2019) get by with less memory and are not searched: within the model
 * the plan has the least cost of all sets that fit the budget, to the byte, and of
 * those one with the least kept bytes.
 *
 * How: from left to right, for each layer as the last kept one, all pairs (bytes
 * kept, cost) of which no other is as good in both. Nothing is rounded; the
 * number of pairs can grow fast for odd sizes, and is limited (see
 * memopt_checkpoint_plan()). For n equal layers the time grows with n^3.
 *
 * Ownership: a batch is the caller's to free; it is malloc's. All else is in the
 * caller's memory; memopt_checkpoint_plan() needs some while it works.
 *
 * Threads: one batch, one thread at a time; all else any. After fork(2) the
 * child has a batch of its own. Not for signal handlers, but memopt_accumulate()
 * is.
 */
#ifndef MEMOPT_TRAIN_H
#define MEMOPT_TRAIN_H

#include <memopt/dtype.h>
#include <memopt/error.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MEMOPT_EXPORT
#define MEMOPT_EXPORT __attribute__((visibility("default")))
#endif
#ifndef MEMOPT_UNKNOWN
#define MEMOPT_UNKNOWN UINT64_MAX
#endif

/* ------------------------------------------------------------ batch control */

struct memopt_batch;

struct memopt_batch_options {
    size_t size;           /* of this struct */
    uint64_t batch;        /* samples a step; required, up to 2^53 */
    uint64_t start;        /* the first size; 0: the maximum */
    uint64_t minimum;      /* 0: 1 */
    uint64_t maximum;      /* 0: the batch */
    unsigned grow_after;   /* steps; 0: the size never grows */
    unsigned forget_after; /* steps; 0: a ceiling is never forgotten */
};
#define MEMOPT_BATCH_OPTIONS_INIT                                                                  \
    { sizeof(struct memopt_batch_options), 0, 0, 0, 0, 8, 256 }

/* -EINVAL: no batch, or not 1 <= minimum <= start <= maximum <= batch; -ENOMEM. */
MEMOPT_EXPORT int memopt_batch_new(const struct memopt_batch_options *options,
                                   struct memopt_batch **ret_batch, struct memopt_error *error);
/* NULL is nothing. */
MEMOPT_EXPORT void memopt_batch_free(struct memopt_batch *batch);

struct memopt_batch_piece {
    size_t size;    /* of this struct, set by the caller */
    uint64_t first; /* its first sample, of the batch's */
    uint64_t count; /* its samples */
    double weight;  /* count / batch */
};
#define MEMOPT_BATCH_PIECE_INIT                                                                    \
    { sizeof(struct memopt_batch_piece), 0, 0, 0 }

/* 1: the next piece is in `piece`. 0: the step is complete; the next call begins
 * another. The same piece again, until it is said what became of it. -EINVAL: a
 * NULL, or a size that is not of this struct. */
MEMOPT_EXPORT int memopt_batch_next(struct memopt_batch *batch, struct memopt_batch_piece *piece);
/* The piece was done. Without one: nothing. */
MEMOPT_EXPORT void memopt_batch_done(struct memopt_batch *batch);
/* There was no memory for the piece. 0: the next one is smaller. -ENOMEM: it was
 * as small as the minimum; nothing has changed. -EINVAL: there is no piece. */
MEMOPT_EXPORT int memopt_batch_failed(struct memopt_batch *batch, struct memopt_error *error);
/* Gives a step up: the next begins with the first sample, at the size that there
 * is now. */
MEMOPT_EXPORT void memopt_batch_restart(struct memopt_batch *batch);

struct memopt_batch_statistics {
    size_t size;      /* of this struct, set by the caller */
    uint64_t current; /* size */
    uint64_t ceiling; /* MEMOPT_UNKNOWN: none */
    uint64_t pieces;  /* done, ever */
    uint64_t steps, failures, growths, forgotten;
    uint64_t wait; /* steps without a failure until the next growth */
};
#define MEMOPT_BATCH_STATISTICS_INIT                                                               \
    { sizeof(struct memopt_batch_statistics), 0, 0, 0, 0, 0, 0, 0, 0 }
/* Fills the struct up to its `size`. -EINVAL: a NULL, or a size that is not of
 * this struct. */
MEMOPT_EXPORT int memopt_batch_stats(const struct memopt_batch *batch,
                                     struct memopt_batch_statistics *stats);

/* ------------------------------------------------------------- accumulation */

/* sum[i] += scale * gradient[i], in fp32: `dtype` is F32, BF16 or F16 and the
 * gradient's. The two must not overlap. -EINVAL: a NULL with a count, a scale
 * that is not finite as fp32, another type; nothing is written then. */
MEMOPT_EXPORT int memopt_accumulate(float *sum, int dtype, const void *gradient, size_t count,
                                    double scale, struct memopt_error *error);

/* -------------------------------------------------------------- checkpoints */

/* Bytes, but for the cost, which is in any unit: nanoseconds, operations. The
 * struct is not appended to. */
struct memopt_layer {
    uint64_t activation; /* a[i]: the output, and all that backward needs with it */
    uint64_t gradient;   /* g[i] */
    uint64_t forward;    /* needed besides while it is computed */
    uint64_t backward;   /* needed besides in its backward */
    uint64_t cost;       /* of computing it once more */
};

struct memopt_checkpoints {
    size_t size;   /* of this struct, set by the caller */
    uint64_t peak; /* bytes */
    uint64_t cost; /* of what is computed again */
    uint64_t kept; /* bytes of all kept activations */
    size_t count;  /* of them */
};
#define MEMOPT_CHECKPOINTS_INIT                                                                    \
    { sizeof(struct memopt_checkpoints), 0, 0, 0, 0 }

#define MEMOPT_LAYERS_MAX 4096u
/* The most pairs memopt_checkpoint_plan() works with: about 128 MiB. */
#define MEMOPT_CHECKPOINT_PAIRS_MAX 4000000u

/* The plan with the least cost within the budget: keep[i] becomes 1 where layer
 * i + 1 is kept, else 0. `ret_plan` may be NULL. -EINVAL: no layers, too many, or
 * sums that need more than 64 bits; -ENOSPC: no plan has a peak within the
 * budget, and the message names the least budget that would do; -E2BIG: more
 * than MEMOPT_CHECKPOINT_PAIRS_MAX pairs (round the sizes up to pages, or the
 * costs, to have fewer); -ENOMEM. Nothing is written then. */
MEMOPT_EXPORT int memopt_checkpoint_plan(const struct memopt_layer *layers, size_t count,
                                         uint64_t budget, unsigned char *keep,
                                         struct memopt_checkpoints *ret_plan,
                                         struct memopt_error *error);
/* The least peak that any plan has. */
MEMOPT_EXPORT int memopt_checkpoint_least(const struct memopt_layer *layers, size_t count,
                                          uint64_t *ret_budget, struct memopt_error *error);
/* What a plan of the caller's comes to; keep[count - 1] must not be 0. */
MEMOPT_EXPORT int memopt_checkpoint_measure(const struct memopt_layer *layers, size_t count,
                                            const unsigned char *keep,
                                            struct memopt_checkpoints *ret_plan,
                                            struct memopt_error *error);

/* What memopt_checkpoint_run() calls. `layer` is from 1 to n. forward computes
 * a[layer] from a[layer - 1], and for layer n g[n]; release ends a[layer];
 * backward makes g[layer - 1] from g[layer], which it ends. Not 0: the run ends
 * there, and a gradient that there is remains the program's. */
struct memopt_checkpoint_calls {
    size_t size; /* of this struct */
    int (*forward)(void *context, size_t layer);
    int (*backward)(void *context, size_t layer);
    void (*release)(void *context, size_t layer);
};
/* One pass forward and back by a plan, in the order of the model above; every
 * activation is released, also when a call ends the run early. Returns what the
 * call did that was not 0, else 0; -EINVAL: an argument. */
MEMOPT_EXPORT int memopt_checkpoint_run(size_t count, const unsigned char *keep,
                                        const struct memopt_checkpoint_calls *calls, void *context,
                                        struct memopt_error *error);

#ifdef __cplusplus
}
#endif
#endif
