/*
 * memopt/optim.h - optimizers: from gradients to new parameters, with the state
 * that takes in a heap of your choice.
 *
 *     struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
 *     options.name = "adamw";
 *     options.settings = "lr=3e-4 weight_decay=0.1 clip_norm=1";
 *     struct memopt_optimizer *optimizer;
 *     if (memopt_optimizer_create(&options, &optimizer, &error) < 0)
 *         errx(1, "%s", error.message);
 *     struct memopt_param weight = MEMOPT_PARAM_INIT;
 *     weight.name = "fc1.weight";
 *     weight.data = w;
 *     weight.grad = dw;
 *     weight.count = 784 * 128;
 *     memopt_optimizer_add(optimizer, &weight, NULL, &error);
 *     for (...) {
 *         ... dw ...
 *         if (memopt_optimizer_step(optimizer, NULL, &error) < 0)
 *             errx(1, "%s", error.message);
 *     }
 *     memopt_optimizer_destroy(optimizer);
 *
 * or everything but the parameters in memopt.ini, with options.name NULL:
 *
 *     [optimizer]
 *     name  = adamw
 *     lr    = 3e-4
 *     state = heap:optimizer
 *
 * Vocabulary
 *   parameter  a tensor that the program owns: values, and the gradient of each
 *   setting    a key of memopt.ini(5)'s [optimizer], as text: "lr=3e-4". The
 *              ones that an optimizer has, and their defaults, are in
 *              memopt_optimizer_create(3).
 *   group      parameters that share settings. Group 0 is there from the start.
 *   slot       what an optimizer keeps for each element: "exp_avg", ...
 *   state      all slots of a parameter, one block of the state's heap
 *   master     an fp32 copy of a 16-bit parameter, kept in the state
 *   step       one call of memopt_optimizer_step(); an update is a step that
 *              changed parameters
 *
 * What a step does
 *   1. Every parameter must have a gradient, or nothing happens.
 *   2. The state of parameters that have none yet is allocated and zeroed; if
 *      there is no memory for all of it, nothing happens and none is kept.
 *   3. With accumulate=N the gradients are added to an fp32 accumulator; only
 *      every N-th step is an update, by their mean.
 *   4. With clip_norm or skip_nonfinite one pass over the gradients finds their
 *      norm, over all groups. Not finite and skip_nonfinite=yes: the step is
 *      skipped, and neither parameters nor state change. Larger than clip_norm:
 *      the update sees gradients times clip_norm / (norm + 1e-6). Gradients are
 *      never written to.
 *   5. The update, in chunks, by all threads.
 *   6. With lookahead=K, after every K-th update, the parameters go back to
 *      lookahead_alpha of the way that they have come since the last time.
 * After the first step none allocates memory, whatever the optimizer, until
 * parameters are added.
 *
 * What comes out does not depend on the number of threads, on the processor
 * (of one architecture) or on where the memory lies: the same settings, values
 * and gradients give the same bits, as long as the floating-point environment is the
 * usual one (round to nearest, subnormals kept). Formulas are those of PyTorch 1.13, where it
 * has the optimizer; bias corrections are computed in double precision.
 *
 * Types: parameters and gradients are F32, BF16 or F16, each its own. All
 * arithmetic is fp32. The setting `rounding` says how 16-bit parameters take up
 * small updates:
 *   master      an fp32 master in the state (4 bytes an element more); the
 *               parameter is its nearest 16-bit value
 *   stochastic  no master: up or down by chance, with the true value as mean. A
 *               counter-based generator makes it reproducible: the bits depend
 *               on `seed`, the parameter's name, the number of its update and
 *               the element, not on threads
 *   nearest     no master: small updates can be lost
 *
 * Ownership: parameters and gradients are the program's, which must keep them
 * where they are or say where they went (memopt_optimizer_set_data()). Names,
 * shapes and settings are copied. The optimizer owns its state; destroy frees
 * it. All memory comes from the state's heap. Destroy an optimizer before that
 * heap.
 *
 * Threads: one optimizer, one thread at a time; different ones, any. It has
 * worker threads of its own (`threads`), which block all signals. fork: a child
 * may go on with its copy, unless the parent was inside a function of it in
 * another thread; workers are started anew at its first step. Not for signal
 * handlers.
 *
 * An optimizer of NULL is -EINVAL, or nothing where a function can't say so; so is
 * a result of NULL, unless it says that it may be.
 */
#ifndef MEMOPT_OPTIM_H
#define MEMOPT_OPTIM_H

#include <memopt/dtype.h>
#include <memopt/error.h>
#include <memopt/heap.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MEMOPT_EXPORT
#define MEMOPT_EXPORT __attribute__((visibility("default")))
#endif

struct memopt_optimizer;

/* ------------------------------------------------------- beginning and end */

struct memopt_optimizer_options {
    size_t size;      /* of this struct */
    const char *name; /* "sgd", "adamw", …; NULL: what [optimizer] says */
    /* "key=value …", separated by spaces or commas; NULL: none. With `name` they
     * go over the optimizer's own defaults and nothing else of [optimizer] counts
     * but `state` and `threads`; without, over the whole section. */
    const char *settings;
    struct memopt_heap *heap; /* for the state; NULL: what `state` of the INI says */
};
#define MEMOPT_OPTIMIZER_OPTIONS_INIT                                                              \
    { sizeof(struct memopt_optimizer_options), NULL, NULL, NULL }

/* `options` may be NULL: all from the INI. -EINVAL: no such optimizer or
 * setting, a value that is none (NaN never is one), settings that don't go together,
 * or an INI that can't be read; -ERANGE: a value that is not in its range; -ENOTSUP: a
 * state that is not in a heap; -ENOMEM; or what opening the heap gave. */
MEMOPT_EXPORT int memopt_optimizer_create(const struct memopt_optimizer_options *options,
                                          struct memopt_optimizer **ret_optimizer,
                                          struct memopt_error *error);
/* Frees the state, ends the workers. NULL is nothing. */
MEMOPT_EXPORT void memopt_optimizer_destroy(struct memopt_optimizer *optimizer);

/* "adamw" */
MEMOPT_EXPORT const char *memopt_optimizer_name(const struct memopt_optimizer *optimizer);

/* ------------------------------------------------------ groups and settings */

/* A new group with the settings of group 0 as they are now, and `settings` over
 * them. Gives its number, from 1 on, or fails as memopt_optimizer_create(). What
 * belongs to the whole optimizer (seed, clip_norm, skip_nonfinite, accumulate,
 * threads, lookahead, lookahead_alpha, sam, sam_adaptive) can't be set here: -EINVAL. */
MEMOPT_EXPORT int memopt_optimizer_add_group(struct memopt_optimizer *optimizer,
                                             const char *settings, struct memopt_error *error);
#define MEMOPT_ALL_GROUPS (-1)
/* Changes settings between steps: all that are given or, on failure, none; what belongs
 * to the whole optimizer for MEMOPT_ALL_GROUPS only. What decides which slots there are
 * (momentum from or to 0, rounding, …) can be changed until the first step: -EBUSY.
 * Other errors are those of memopt_optimizer_create(). */
MEMOPT_EXPORT int memopt_optimizer_set(struct memopt_optimizer *optimizer, int group,
                                       const char *settings, struct memopt_error *error);
/* The same for one number, exactly: a schedule sets "lr" at each step. */
MEMOPT_EXPORT int memopt_optimizer_set_number(struct memopt_optimizer *optimizer, int group,
                                              const char *key, double value,
                                              struct memopt_error *error);
/* The value of a numeric setting. -EINVAL: no such group, or no such number. */
MEMOPT_EXPORT int memopt_optimizer_get_number(const struct memopt_optimizer *optimizer, int group,
                                              const char *key, double *ret_value,
                                              struct memopt_error *error);

/* --------------------------------------------------------------- parameters */

#define MEMOPT_PARAM_RANK_MAX 8
struct memopt_param {
    size_t size;      /* of this struct */
    const char *name; /* UTF-8, not empty, no other parameter's; state files have it */
    int dtype;        /* of data: MEMOPT_DTYPE_F32, _BF16 or _F16 */
    int grad_dtype;   /* of grad; 0: as `dtype` */
    void *data;       /* aligned to the size of its type; so is grad */
    const void *grad; /* may be NULL and given later, before the step */
    uint64_t count;   /* elements, at least 1 */
    /* For optimizers that look at rows and columns, and for state files; rank 0:
     * one dimension of `count`. The product must be `count`. */
    unsigned rank;
    uint64_t shape[MEMOPT_PARAM_RANK_MAX];
    int group; /* what memopt_optimizer_add_group() gave, or 0 */
};
#define MEMOPT_PARAM_INIT                                                                          \
    {                                                                                              \
        sizeof(struct memopt_param), NULL, MEMOPT_DTYPE_F32, 0, NULL, NULL, 0, 0,                  \
            {0, 0, 0, 0, 0, 0, 0, 0}, 0                                                            \
    }

/* Gives its index, from 0 on, in *ret_index (NULL: not wanted). Not between the
 * steps of one accumulation, nor while parameters are perturbed: -EBUSY. Other
 * errors: -EINVAL says what is wrong
 * with the parameter, -EEXIST: the name, -ENOMEM. */
MEMOPT_EXPORT int memopt_optimizer_add(struct memopt_optimizer *optimizer,
                                       const struct memopt_param *param, size_t *ret_index,
                                       struct memopt_error *error);
/* Values or gradient have moved. -EINVAL: no such index, NULL or misaligned (a
 * gradient may be NULL: it has none until the next call). */
MEMOPT_EXPORT int memopt_optimizer_set_data(struct memopt_optimizer *optimizer, size_t index,
                                            void *data, struct memopt_error *error);
MEMOPT_EXPORT int memopt_optimizer_set_grad(struct memopt_optimizer *optimizer, size_t index,
                                            const void *grad, struct memopt_error *error);

/* A gradient of some rows of a parameter (a row is what the first dimension counts),
 * for optimizers that take those: "sparseadam". The others' gradient is zero, and
 * neither they nor their state change. */
struct memopt_sparse_grad {
    size_t size;         /* of this struct */
    const int64_t *rows; /* `count`, from 0 on, in any order; more than one may be the same */
    const void *values;  /* a row each, one after another, of the gradient's type */
    uint64_t count;      /* 0: of no row */
};
#define MEMOPT_SPARSE_GRAD_INIT                                                                    \
    { sizeof(struct memopt_sparse_grad), NULL, NULL, 0 }
/* Sets it for the steps that follow; `sparse` is copied, the arrays must stay. NULL:
 * none. Rows that are the same are added up, in their order. If rows are not strictly
 * ascending, the step sorts them in memory of the heap, which grows when there are more
 * than ever before; otherwise it allocates nothing. -EINVAL: no such index, NULL or
 * misaligned arrays, or an optimizer with dense gradients. That rows are there is
 * checked by the step. */
MEMOPT_EXPORT int memopt_optimizer_set_sparse_grad(struct memopt_optimizer *optimizer, size_t index,
                                                   const struct memopt_sparse_grad *sparse,
                                                   struct memopt_error *error);
/* After the program wrote values itself (loaded a checkpoint, initialized): the
 * masters are made anew from them at the next step. */
MEMOPT_EXPORT void memopt_optimizer_data_changed(struct memopt_optimizer *optimizer);

/* -------------------------------------------------------------------- steps */

struct memopt_step {
    size_t size;       /* of this struct */
    int updated;       /* 1: parameters have changed; 0: accumulated, or skipped */
    int skipped;       /* 1: because of gradients that are not finite */
    double grad_norm;  /* of all gradients, before clipping; NaN: not computed */
    double grad_scale; /* what they were multiplied by: 1 unless clipped */
    uint64_t updates;  /* of the optimizer so far */
};
#define MEMOPT_STEP_INIT                                                                           \
    { sizeof(struct memopt_step), 0, 0, 0.0, 0.0, 0 }

/* One step; fills `ret_step` (NULL: not wanted) up to its `size`. -EINVAL: no
 * parameters, or one without a gradient, or a sparse one of rows that aren't there; -ENOMEM: for
 * new state, or (in a child of fork) for workers. On failure nothing has changed. */
MEMOPT_EXPORT int memopt_optimizer_step(struct memopt_optimizer *optimizer,
                                        struct memopt_step *ret_step, struct memopt_error *error);

/* Computes the loss of the parameters as they are, and their gradients, into the
 * arrays that were given; 0, or a negative errno, which ends the minimization. */
typedef int (*memopt_loss_fn)(void *context, double *ret_loss);
enum memopt_stop {
    MEMOPT_STOP_ITERATIONS = 1, /* max_iter of them */
    MEMOPT_STOP_EVALUATIONS,    /* max_eval of the loss, or more */
    MEMOPT_STOP_GRADIENT,       /* none larger than tolerance_grad: a minimum */
    MEMOPT_STOP_CHANGE,         /* a move, or what it gained, of less than tolerance_change */
    MEMOPT_STOP_LINE_SEARCH,    /* nothing lower was found in the direction */
    MEMOPT_STOP_NOT_FINITE,     /* the first loss or gradient: nothing has changed */
};
struct memopt_minimized {
    size_t size; /* of this struct */
    double loss, first_loss;
    double grad_max;                  /* largest magnitude in the last gradient */
    uint64_t iterations, evaluations; /* moves; calls of the function */
    int stop;                         /* enum memopt_stop */
};
#define MEMOPT_MINIMIZED_INIT                                                                      \
    { sizeof(struct memopt_minimized), 0.0, 0.0, 0.0, 0, 0, 0 }
/* The step of "lbfgs": up to max_iter moves, each to a place where the loss is lower,
 * found with as many calls of `loss` as that takes. Fills `ret_minimized` (NULL: not
 * wanted) up to its `size`. Parameters and gradients are F32. The arrays of gradients
 * end up with those of some place the search has been at. If `loss` fails, its code is
 * given, and the parameters are where the last move led. `loss` must not use the
 * optimizer. Other errors are those of a step; -EINVAL also: an optimizer that takes
 * memopt_optimizer_step(), which those of a loss refuse. */
MEMOPT_EXPORT int memopt_optimizer_minimize(struct memopt_optimizer *optimizer, memopt_loss_fn loss,
                                            void *context, struct memopt_minimized *ret_minimized,
                                            struct memopt_error *error);

/* Sharpness-aware minimization, with the setting sam above 0, around any optimizer:
 *
 *     ... gradients ...
 *     memopt_optimizer_perturb(optimizer, NULL, &error);
 *     ... gradients, at the perturbed parameters ...
 *     memopt_optimizer_step(optimizer, NULL, &error);
 *
 * Moves the parameters by `sam` along the gradient, all together. The step puts them
 * back, bit for bit, before it updates them. With a norm that is not finite they
 * stay where they are, and the step is one like others. *ret_norm (NULL: not wanted)
 * is the gradients' norm. Errors are those of a step; -EINVAL also without `sam`;
 * -EBUSY: they are perturbed. */
MEMOPT_EXPORT int memopt_optimizer_perturb(struct memopt_optimizer *optimizer, double *ret_norm,
                                           struct memopt_error *error);
/* Puts them back without a step; nothing, if they aren't perturbed. */
MEMOPT_EXPORT int memopt_optimizer_restore(struct memopt_optimizer *optimizer,
                                           struct memopt_error *error);

/* -------------------------------------------------------------------- state */

/* Bytes of the state there is: slots, masters, accumulators. */
MEMOPT_EXPORT uint64_t memopt_optimizer_state_bytes(const struct memopt_optimizer *optimizer);

/* Writes the state and the settings of all groups into a safetensors file, whole
 * or not at all (memopt/store.h); not the parameters. -EBUSY: they are perturbed.
 * Other errors are those of the writer. */
MEMOPT_EXPORT int memopt_optimizer_save(struct memopt_optimizer *optimizer, const char *path,
                                        struct memopt_error *error);
/* Takes state and settings from such a file: an optimizer of the same name, with
 * the same parameters by name and shape and as many groups, goes on as the saved
 * one would have, bit for bit, given the parameters' values of then. -EINVAL: the
 * file is not of this optimizer, in what the message says; -ENOENT: it lacks
 * something; -EBUSY: parameters are perturbed; -ENOMEM; or what reading gave. On
 * failure nothing has changed. */
MEMOPT_EXPORT int memopt_optimizer_load(struct memopt_optimizer *optimizer, const char *path,
                                        struct memopt_error *error);

#ifdef __cplusplus
}
#endif
#endif
