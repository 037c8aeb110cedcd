/*
 * optim.h - inside core/optim: what an optimizer is made of.
 *
 *   optimizer.c  the public operations; what a step does, in order
 *   settings.c   from text to settings: defaults, INI, groups
 *   methods.c    the list of methods
 *   sgd.c …      a method a file: its table row and its kernels
 *   pass.c       all chunks of all tensors, from their place, by all threads
 *   sparse.c     gradients of some rows, and the method that takes them
 *   lbfgs.c      the method that looks at the loss; linesearch.c is its search
 *   wrap.c       what goes around any method: Lookahead, SAM
 *   operands.c   a range of a tensor through a kernel: types, rounding, 8 bit
 *   convert.h    16-bit and 8-bit numbers to fp32 and back
 *   gradient.c   the pass over gradients: norm, not finite, accumulation
 *   workers.c    threads
 *   state.c      which regions a tensor has
 *   save.c       the state in a file
 *
 * Vocabulary
 *   method   an optimizer as a formula: descriptor + kernels, no state of its own
 *   place    where the numbers are (core/store/place.h). A pass acquires a chunk, as a
 *            span of addresses, and releases it; nothing else knows an address
 *   operands a span as kernels take it: which region is what, and how it is rounded
 *   part     state of a method that is not one number an element (rows, a history):
 *            an array by itself
 *   block, chunk, range, span: core/tensor/span.h; region: core/tensor/layout.h
 *
 * Invariants
 *   An element's new values depend on its old ones, its gradient, the tensor's
 *   scalars, and for 8-bit state on its block; never on the chunk or thread.
 *   Sums over tensors are made per chunk, and added up in the order of chunks.
 *   Kernel files are compiled without contraction (no FMA) and with IEEE
 *   division and square root, so that all clones give the same bits.
 *
 * To add an optimizer
 *   1. Its name is in mo_optimizer_names (section.c), in the same
 *      place as its row in methods.c. A setting that no other has: a row in
 *      `options` there and a field in struct mo_settings_optimizer;
 *      unset (NULL) is its default; `make -C BUILD man-reference`.
 *   2. A file NAME.c here: the defaults of all settings it takes, what it needs,
 *      slots(), prepare(), kernels, struct mo_method. Copy adagrad.c. Add it to the
 *      kernels' sources in local.mk and its row to methods.c.
 *   3. A kernel is a plain loop over restrict pointers under MO_KERNEL; no libm
 *      but sqrtf, fabsf, fmaxf-like selections written with ?:.
 *      MO_NEEDS_NORMS: two kernels and finish(): the first makes sums per chunk,
 *      finish() makes scalars of them, the second goes over the tensor again.
 *      MO_NEEDS_TENSORS: state that is not one number an element: parts(); sums that
 *      are not the tensor's: survey(). Copy adafactor.c. Gradients of some rows, or a
 *      look at the loss: sparse.c and lbfgs.c.
 *   4. A row in the tables of tests/test_optim.c (what a step does, save and load),
 *      test_optim_kernels.c or test_optim_norms.c (a scalar reference),
 *      test_optim_wrap.c (Lookahead and SAM), test_optim_faults.c and
 *      test_optim_run.sh (no allocations); in scripts/optim-golden.py where PyTorch
 *      has it, else in optim-paper-golden.py; a line in memopt_optimizer_create(3).
 */
#ifndef MO_OPTIM_OPTIM_H
#define MO_OPTIM_OPTIM_H

#include "config.h"

#include "core/optim/section.h"
#include "core/store/place.h"

#include <memopt/optim.h>

#include <pthread.h>
#include <stdatomic.h>

enum {
    MO_SLOTS = 4, /* most that a method has */
    MO_PARTS = 8, /* most that a method has */
    MO_SUMS = 2,  /* that a chunk can make */
    MO_CARRY = 2,
};

/* The regions of a tensor, in the order that they have in its record and in files. */
enum {
    MO_AT_DATA, /* the program's, as is the gradient */
    MO_AT_GRAD,
    MO_AT_SLOTS, /* two for each: numbers or codes, and for those the scales */
    MO_AT_PARTS = MO_AT_SLOTS + 2 * MO_SLOTS,
    MO_AT_SLOW = MO_AT_PARTS + MO_PARTS, /* Lookahead's */
    MO_AT_UNPERTURBED,                   /* SAM's */
    MO_AT_MASTER,
    MO_AT_ACCUMULATOR,
};
_Static_assert(MO_AT_ACCUMULATOR + 1 == (int)MO_REGIONS, "there is room for all regions");

/* With sanitizers ifuncs run before their run-time is there. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(MO_SANITIZED) &&   \
    !defined(MO_NO_CLONES)
#define MO_KERNEL                                                                                  \
    __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4"), noinline))
#else
#define MO_KERNEL __attribute__((noinline))
#endif

/* ------------------------------------------------------------------ workers */

/* Threads that wait for work. `run(context, i)` is called once for each i below
 * `count`, by any of them and the caller. */
struct mo_workers;
typedef void (*mo_work_fn)(void *context, size_t index);
int mo_workers_create(struct memopt_heap *heap, unsigned threads, struct mo_workers **ret_workers,
                      struct memopt_error *error);
void mo_workers_destroy(struct mo_workers *workers);
/* After a fork the child has none: starts them; 0, or -errno. */
int mo_workers_ready(struct mo_workers *workers, struct memopt_error *error);
void mo_workers_run(struct mo_workers *workers, size_t count, mo_work_fn run, void *context);
unsigned mo_cpu_count(void); /* that this process may use */

/* ------------------------------------------------------------------ methods */

/* What a kernel needs to know, computed in double once a tensor and step. The
 * names are common ones; a method fills those it uses. */
struct mo_scalars {
    float scale;        /* of the gradient: clipping, accumulation, maximize */
    float weight_decay; /* added to the gradient times the parameter */
    float keep;         /* decoupled decay: what the parameter is multiplied by */
    float b1, a1;       /* first moment: decay, and 1 - decay */
    float b2, a2;       /* second moment */
    float eps;
    float step; /* size of the step, its sign left out */
    float root; /* multiplies the square root of the second moment */
    float x, y; /* further ones */
    /* For methods that look at rows and columns: the tensor, and the number in it of
     * the first element that the kernel is given. */
    const struct mo_tensor *tensor;
    uint64_t first;
};

/* `p`, `g` and the slots have n elements and don't overlap; `sums` has MO_SUMS
 * zeroes to add to. */
typedef void (*mo_kernel_fn)(const struct mo_scalars *s, size_t n, float *p, const float *g,
                             float *const *slot, double *sums);

struct mo_operands;
typedef int (*mo_block_fn)(const struct mo_scalars *s, const struct mo_operands *operands,
                           size_t at);
struct mo_kernels {
    mo_kernel_fn update;
    /* NULL, or the same in one pass for the MO_BLOCK elements from `at` on of operands
     * whose types and formats it was chosen for. It may decline a block for what is
     * in it: 0, with nothing changed. */
    mo_block_fn block;
};

/* A slot that can be kept in 8 bits: of either sign, or none. */
enum mo_slot_kind { MO_SLOT_FP32, MO_SLOT_SIGNED, MO_SLOT_UNSIGNED };
struct mo_slot {
    const char *name; /* as PyTorch calls it */
    enum mo_slot_kind kind;
    float initial;
};

struct mo_part {
    const char *name;
    uint64_t count;
    int dtype;   /* MEMOPT_DTYPE_F32, ... */
    int scratch; /* means nothing between steps: not saved */
};

/* What has to be at hand to update an element. */
enum mo_needs {
    MO_NEEDS_ELEMENTS = 1, /* its own numbers, and for 8-bit state those of its block */
    MO_NEEDS_NORMS = 2,    /* sums over its tensor: two passes */
    MO_NEEDS_TENSORS = 4,  /* whole tensors, for as long as the step takes */
};

struct mo_tensor;
struct mo_default {
    const char *key, *value;
};
struct mo_method {
    const char *name;
    /* Settings of its own, besides those that all have; ends with a NULL key. */
    const struct mo_default *defaults;
    unsigned needs; /* MO_NEEDS_ELEMENTS alone, or others */
    int sparse;     /* gradients are of some rows (sparse.c) */
    int by_loss;    /* has no kernels, but the whole to itself (lbfgs.c) */
    /* NULL, or says what is wrong with settings that are each in range: NULL, or
     * a message's rest ("nesterov needs a momentum above 0"). */
    const char *(*check)(const struct mo_settings_optimizer *settings);
    /* Fills the slots that these settings need and returns how many. */
    size_t (*slots)(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots);
    /* NULL, or fills the parts that a tensor needs and returns how many. */
    size_t (*parts)(const struct mo_settings_optimizer *settings, const struct mo_tensor *tensor,
                    struct mo_part *ret_parts);
    /* Before update number `tensor->updates` (from 1 on): fills tensor->scalars
     * (scale is there already) and may change tensor->carry. */
    void (*prepare)(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor);
    /* By choice of settings; phase 1 comes after finish(). */
    mo_kernel_fn (*kernel)(const struct mo_settings_optimizer *settings, int phase);
    /* NULL, or chooses mo_kernels.block for a tensor; it may give NULL. */
    mo_block_fn (*block)(const struct mo_settings_optimizer *settings,
                         const struct mo_tensor *tensor, int grad_dtype);
    /* NULL, or looks at the whole gradient after prepare(), before the kernels
     * (MO_NEEDS_TENSORS). */
    void (*survey)(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor,
                   const void *grad, int grad_dtype, struct mo_workers *workers);
    /* Between the two passes of MO_NEEDS_NORMS: the sums of the tensor are there. */
    void (*finish)(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor,
                   const double sums[MO_SUMS]);
    /* NULL, or looks at parts that came from a file, where they are more than numbers
     * to compute with: the name of a part that can't be, or NULL. `whole` is the tensor. */
    const char *(*check_parts)(const struct mo_settings_optimizer *settings,
                               const struct mo_span *whole);
};
extern const struct mo_method *const mo_methods[]; /* by mo_settings_optimizer.name */
extern const size_t mo_method_count;

/* ------------------------------------------------------------------ tensors */

struct mo_stored_slot {
    void *data;    /* float, or whole blocks of codes (convert.h) */
    float *absmax; /* of each block; NULL: fp32 */
    enum mo_slot_kind kind;
};

struct mo_tensor {
    char *name;
    size_t number; /* among the tensors, also in their place */
    int dtype, grad_dtype;
    unsigned group;
    void *data; /* as the place has them */
    const void *grad;
    uint64_t count;
    unsigned rank;
    uint64_t shape[MEMOPT_PARAM_RANK_MAX];
    struct memopt_sparse_grad sparse; /* if has_sparse */
    int has_sparse;
    int sorted; /* its rows are strictly ascending; else their order is in `order` */
    uint64_t *order, order_room;
    uint32_t id; /* hash of the name: part of the random generator's key */

    /* State: a record in the optimizer's place. */
    int has_state;
    size_t state_bytes;
    size_t slot_count;
    enum mo_slot_kind slot_kinds[MO_SLOTS];
    int master_stale; /* the program wrote data; the slow weights are, too */
    int fresh;        /* its state was made by the call that is running */
    uint64_t updates;
    double carry[MO_CARRY]; /* what a method keeps per tensor */

    /* Of the step that is running. */
    struct mo_scalars scalars;
    struct mo_kernels kernels;
    uint32_t key;         /* of the random generator */
    struct mo_span whole; /* MO_NEEDS_TENSORS; its layout is NULL: not held */
};

/* A range of a tensor as kernels take it. Pointers are to its first element. */
struct mo_operands {
    size_t count;
    uint64_t block; /* number of its first block in the tensor */
    void *data;
    int dtype;
    const void *grad;
    int grad_dtype;
    float *master;
    size_t slot_count;
    struct mo_stored_slot slots[MO_SLOTS];
    int stochastic;
    uint32_t key;
};

/* pass.c: a run over all chunks. What needs more has this first in a struct; what runs
 * acquires the chunk, and releases it. */
struct mo_pass {
    struct memopt_optimizer *optimizer;
    int accumulated; /* gradients are those in the accumulators */
    int first;       /* of an accumulation */
};
void mo_pass_run(struct mo_pass *pass, mo_work_fn work);
/* Returns the tensor that the chunk is of. */
const struct mo_tensor *mo_pass_acquire(const struct mo_pass *pass, size_t chunk,
                                        struct mo_span *ret_span);
void mo_pass_release(const struct mo_pass *pass, const struct mo_span *span, int dirty);
/* What the pass's kernels work on. */
void mo_pass_operands(const struct mo_pass *pass, const struct mo_tensor *tensor,
                      const struct mo_span *span, struct mo_operands *ret_operands);
/* Whole tensors, if the method needs them; chunks are then parts of them. */
void mo_pass_hold(struct memopt_optimizer *optimizer);
void mo_pass_let_go(struct memopt_optimizer *optimizer, int dirty);
/* The sums of a tensor (NULL: of all), in the order of chunks. */
void mo_pass_sums(const struct memopt_optimizer *optimizer, const struct mo_tensor *tensor,
                  double ret_sums[MO_SUMS]);

/* sparse.c: before a step: are the rows there? Sorts them. -EINVAL, -ENOMEM. */
int mo_sparse_begin(struct memopt_optimizer *optimizer, struct memopt_error *error);
/* A chunk's share of the rows; `only_norm`: the sum of squares in sums[0]. */
void mo_sparse_chunk(const struct mo_pass *pass, size_t chunk, int only_norm);

/* wrap.c: after an update; 1 if it moved the parameters. */
int mo_lookahead(struct mo_pass *pass);
/* Puts back what memopt_optimizer_perturb() changed. */
void mo_unperturb(struct memopt_optimizer *optimizer);

/* operands.c: one kernel over one range, which begins at a multiple of MO_BLOCK. */
void mo_operands_update(const struct mo_operands *operands, const struct mo_kernels *kernels,
                        const struct mo_scalars *s, double *sums);
/* Where the random numbers of the block at `at` begin: the element's number in
 * the block is added, and the sum hashed (convert.h). */
uint32_t mo_block_key(const struct mo_operands *operands, size_t at);
/* `count` numbers of a type as fp32. */
void mo_load(const void *from, int dtype, size_t count, float *to);

/* gradient.c: the sum of squares, in double: it is finite if all are. */
double mo_gradient_square(const void *grad, int dtype, size_t count);
/* accumulator = or += grad */
void mo_gradient_add(float *accumulator, const void *grad, int dtype, size_t count, int first);

/* ---------------------------------------------------------------- optimizer */

struct mo_group {
    struct mo_settings_optimizer settings;
};

struct memopt_optimizer {
    struct memopt_heap *heap;
    const struct mo_method *method;
    struct mo_workers *workers;
    struct mo_place *place;
    struct mo_group *groups;
    size_t group_count;
    struct mo_tensor *tensors;
    size_t tensor_count, tensor_room;
    double *sums; /* MO_SUMS a chunk */
    size_t chunk_room;
    unsigned micro; /* steps accumulated since the last update */
    uint64_t updates;
    int perturbed; /* parameters are where SAM put them */
};

/* settings.c. Group 0's settings, from options and INI; mo_heap of the INI. */
int mo_settings_begin(const struct memopt_optimizer_options *options,
                      struct mo_settings_optimizer *ret_settings, struct memopt_heap **ret_heap,
                      struct memopt_error *error);
/* `text` over the settings; on failure they may have changed. `whole`: also those
 * that belong to the whole optimizer. */
int mo_settings_parse(const struct mo_method *method, const char *text, int whole,
                      struct mo_settings_optimizer *settings, struct memopt_error *error);
int mo_settings_number(const struct mo_method *method, const char *key, double value, int whole,
                       struct mo_settings_optimizer *settings, struct memopt_error *error);
int mo_settings_get(const struct mo_method *method, const char *key,
                    const struct mo_settings_optimizer *settings, double *ret_value,
                    struct memopt_error *error);
/* What every function says that is given NULL for one: -EINVAL. */
int mo_no_optimizer(struct memopt_error *error);

/* Copies what belongs to the whole optimizer. */
void mo_settings_share(struct mo_settings_optimizer *to, const struct mo_settings_optimizer *from);

/* Writes a group's settings, but for `threads`, as text that parses to the same. */
void mo_settings_print(const struct mo_method *method, const struct mo_settings_optimizer *settings,
                       char *text, size_t size);

/* state.c */
/* Makes the state of every tensor that has none; all or none. */
int mo_state_make(struct memopt_optimizer *optimizer, struct memopt_error *error);
int mo_state_make_one(struct memopt_optimizer *optimizer, struct mo_tensor *tensor,
                      struct memopt_error *error);
/* The regions that a tensor has or would have with these settings. */
void mo_state_layout(const struct mo_method *method, const struct mo_settings_optimizer *settings,
                     const struct mo_tensor *tensor, struct mo_layout *ret_layout);
/* Masters and slow weights from parameters that the program wrote. */
void mo_state_refresh(struct memopt_optimizer *optimizer);

#endif
