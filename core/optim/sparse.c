/*
 * sparse.c - SparseAdam: Adam for gradients of some rows (PyTorch's, after Kingma and
 * Ba, 2015). Parameters and state of the other rows stay as they are.
 *
 *     g  = scale (sum of the gradients given for the row)
 *     m += (1 - beta1) (g - m)
 *     v += (1 - beta2) (g^2 - v)
 *     p -= lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps)
 *
 * t counts the updates of the tensor, not of the row.
 *
 * A gradient is a list of rows in any order. Where it is not strictly ascending, the
 * places of the list are sorted by (row, place) first: gradients for the same row are
 * added in the order they were given in. The tensor's chunks then share the list: each
 * takes the rows that begin in its part of it.
 */
#include "core/optim/kernel.h"

#include "core/base/error.h"

#include <memopt/dtype.h>

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

static const struct mo_default defaults[] = {
    {"lr", "1e-3"}, {"beta1", "0.9"}, {"beta2", "0.999"}, {"eps", "1e-8"}, {NULL, NULL},
};

static const char *check(const struct mo_settings_optimizer *settings) {
    if (settings->accumulate > 1)
        return "'accumulate' needs dense gradients";
    return settings->sam > 0 ? "'sam' needs dense gradients" : NULL;
}

static size_t slots(const struct mo_settings_optimizer *settings, struct mo_slot *ret_slots) {
    (void)settings;
    ret_slots[0] = (struct mo_slot){"exp_avg", MO_SLOT_FP32, 0};
    ret_slots[1] = (struct mo_slot){"exp_avg_sq", MO_SLOT_FP32, 0};
    return 2;
}

static void prepare(const struct mo_settings_optimizer *settings, struct mo_tensor *tensor) {
    struct mo_scalars *s = &tensor->scalars;
    s->a1 = (float)(1 - settings->beta1);
    s->a2 = (float)(1 - settings->beta2);
    s->eps = (float)settings->eps;
    s->step = (float)(settings->lr * sqrt(mo_bias(settings->beta2, tensor->updates)) /
                      mo_bias(settings->beta1, tensor->updates));
}

static MO_KERNEL void adam(const struct mo_scalars *s, size_t n, float *restrict p,
                           const float *restrict g, float *const *slot, double *sums) {
    MO_UNUSED_SUMS;
    float *restrict m = slot[0], *restrict v = slot[1];
    const float scale = s->scale, a1 = s->a1, a2 = s->a2, eps = s->eps, step = s->step;
    for (size_t i = 0; i < n; i++) {
        float d = scale * g[i];
        m[i] += a1 * (d - m[i]);
        v[i] += a2 * (d * d - v[i]);
        p[i] -= step * (m[i] / (sqrtf(v[i]) + eps));
    }
}

static mo_kernel_fn kernel(const struct mo_settings_optimizer *settings, int phase) {
    (void)settings, (void)phase;
    return adam;
}

const struct mo_method mo_sparseadam = {
    .name = "sparseadam",
    .defaults = defaults,
    .needs = MO_NEEDS_TENSORS,
    .sparse = 1,
    .check = check,
    .slots = slots,
    .prepare = prepare,
    .kernel = kernel,
};

/* -------------------------------------------------------------- a row's sum */

static uint64_t columns_of(const struct mo_tensor *tensor) {
    return tensor->count / tensor->shape[0];
}

/* The place in the list that is number `k` by (row, place), and its row. */
static uint64_t place(const struct mo_tensor *tensor, uint64_t k) {
    return tensor->sorted ? k : tensor->order[k];
}
static int64_t row_of(const struct mo_tensor *tensor, uint64_t k) {
    return tensor->sparse.rows[place(tensor, k)];
}

static MO_KERNEL void add(float *restrict to, const float *restrict from, size_t n) {
    for (size_t i = 0; i < n; i++)
        to[i] += from[i];
}

/* Columns from `at` on of the gradients number `k` to `end`, which are of one row. */
static void gather(const struct mo_tensor *tensor, uint64_t k, uint64_t end, uint64_t at, size_t n,
                   float *to) {
    float other[MO_BLOCK];
    for (uint64_t i = k; i < end; i++) {
        uint64_t element = place(tensor, i) * columns_of(tensor) + at;
        const char *from =
            (const char *)tensor->sparse.values + element * mo_element_size(tensor->grad_dtype);
        mo_load(from, tensor->grad_dtype, n, i == k ? to : other);
        if (i > k)
            add(to, other, n);
    }
}

/* A block of a row, with `grad` as its gradient. Blocks are counted by rows. */
static void take_block(const struct mo_pass *pass, const struct mo_tensor *tensor, uint64_t row,
                       uint64_t at, size_t n, const float *grad, double *sums) {
    uint64_t columns = columns_of(tensor);
    struct mo_span span;
    struct mo_operands operands;
    mo_span_part(&tensor->whole, (struct mo_range){tensor->number, row * columns + at, n}, &span);
    mo_pass_operands(pass, tensor, &span, &operands);
    operands.block = row * mo_block_count(columns) + at / MO_BLOCK;
    operands.grad = grad;
    operands.grad_dtype = MEMOPT_DTYPE_F32;
    mo_operands_update(&operands, &tensor->kernels, &tensor->scalars, sums);
}

static void take_row(const struct mo_pass *pass, const struct mo_tensor *tensor, uint64_t k,
                     uint64_t end, int only_norm, double *sums) {
    uint64_t columns = columns_of(tensor), row = (uint64_t)row_of(tensor, k);
    for (uint64_t at = 0; at < columns; at += MO_BLOCK) {
        size_t n = columns - at < MO_BLOCK ? (size_t)(columns - at) : MO_BLOCK;
        float grad[MO_BLOCK];
        gather(tensor, k, end, at, n, grad);
        if (only_norm)
            sums[0] += mo_gradient_square(grad, MEMOPT_DTYPE_F32, n);
        else
            take_block(pass, tensor, row, at, n, grad, sums);
    }
}

void mo_sparse_chunk(const struct mo_pass *pass, size_t chunk, int only_norm) {
    const struct memopt_optimizer *optimizer = pass->optimizer;
    struct mo_range range = mo_place_chunk(optimizer->place, chunk);
    const struct mo_tensor *tensor = &optimizer->tensors[range.tensor];
    double *sums = optimizer->sums + chunk * MO_SUMS;
    uint64_t count = tensor->sparse.count, chunks = mo_chunk_count(tensor->count);
    uint64_t share = count / chunks + (count % chunks != 0);
    uint64_t k = share * (range.first / MO_CHUNK), stop = k + share;
    sums[0] = sums[1] = 0;
    /* a row that began before is another chunk's */
    while (k > 0 && k < count && row_of(tensor, k) == row_of(tensor, k - 1))
        k++;
    while (k < stop && k < count) {
        uint64_t end = k + 1;
        while (end < count && row_of(tensor, end) == row_of(tensor, k))
            end++;
        take_row(pass, tensor, k, end, only_norm, sums);
        k = end;
    }
}

/* ---------------------------------------------------------- order of a list */

static int before(const int64_t *rows, uint64_t a, uint64_t b) {
    return rows[a] != rows[b] ? rows[a] < rows[b] : a < b;
}

static void sift_down(const int64_t *rows, uint64_t *order, uint64_t root, uint64_t count) {
    for (uint64_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && before(rows, order[child], order[child + 1]))
            child++;
        if (!before(rows, order[root], order[child]))
            return;
        uint64_t swap = order[root];
        order[root] = order[child];
        order[child] = swap;
    }
}

/* A heap sort: in place, where qsort() may allocate. */
static void sort(const int64_t *rows, uint64_t *order, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        order[i] = i;
    for (uint64_t i = count / 2; i > 0; i--)
        sift_down(rows, order, i - 1, count);
    for (uint64_t end = count; end > 1; end--) {
        uint64_t swap = order[0];
        order[0] = order[end - 1];
        order[end - 1] = swap;
        sift_down(rows, order, 0, end - 1);
    }
}

static int check_rows(struct mo_tensor *tensor, struct memopt_error *error) {
    const struct memopt_sparse_grad *sparse = &tensor->sparse;
    tensor->sorted = 1;
    for (uint64_t i = 0; i < sparse->count; i++) {
        int64_t row = sparse->rows[i];
        if (row < 0 || (uint64_t)row >= tensor->shape[0])
            return mo_fail(error, -EINVAL,
                           "parameter '%s': its gradient's row number %" PRIu64 " is %" PRId64
                           ", of %" PRIu64,
                           tensor->name, i, row, tensor->shape[0]);
        tensor->sorted = tensor->sorted && (i == 0 || sparse->rows[i - 1] < row);
    }
    return 0;
}

int mo_sparse_begin(struct memopt_optimizer *optimizer, struct memopt_error *error) {
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        int code = check_rows(&optimizer->tensors[i], error);
        if (code < 0)
            return code;
    }
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        struct mo_tensor *tensor = &optimizer->tensors[i];
        uint64_t count = tensor->sparse.count, *order;
        if (tensor->sorted)
            continue;
        if (count > tensor->order_room) {
            order = count > SIZE_MAX / sizeof(*order)
                        ? NULL
                        : memopt_heap_realloc(optimizer->heap, tensor->order,
                                              (size_t)count * sizeof(*order));
            if (order == NULL)
                return mo_fail(error, -ENOMEM,
                               "parameter '%s': no memory to sort %" PRIu64 " rows in heap '%s'",
                               tensor->name, count, memopt_heap_name(optimizer->heap));
            tensor->order = order;
            tensor->order_room = count;
        }
        sort(tensor->sparse.rows, tensor->order, count);
    }
    return 0;
}

int memopt_optimizer_set_sparse_grad(struct memopt_optimizer *optimizer, size_t index,
                                     const struct memopt_sparse_grad *given,
                                     struct memopt_error *error) {
    if (optimizer == NULL)
        return mo_no_optimizer(error);
    struct memopt_sparse_grad sparse = MEMOPT_SPARSE_GRAD_INIT;
    if (!optimizer->method->sparse)
        return mo_fail(error, -EINVAL, "%s takes dense gradients", optimizer->method->name);
    if (index >= optimizer->tensor_count)
        return mo_fail(error, -EINVAL, "there is no parameter %zu, but %zu of them", index,
                       optimizer->tensor_count);
    struct mo_tensor *tensor = &optimizer->tensors[index];
    if (given == NULL) {
        tensor->has_sparse = 0;
        return 0;
    }
    if (given->size < offsetof(struct memopt_sparse_grad, rows) || given->size > sizeof(sparse))
        return mo_fail(error, -EINVAL,
                       "a sparse gradient's size is %zu: begin with MEMOPT_SPARSE_GRAD_INIT",
                       given->size);
    memcpy(&sparse, given, given->size);
    if (sparse.count > 0 && (sparse.rows == NULL || sparse.values == NULL))
        return mo_fail(error, -EINVAL, "parameter '%s': its gradient's %s are NULL", tensor->name,
                       sparse.rows == NULL ? "rows" : "values");
    if ((uintptr_t)sparse.rows % sizeof(*sparse.rows) != 0 ||
        (uintptr_t)sparse.values % mo_element_size(tensor->grad_dtype) != 0)
        return mo_fail(error, -EINVAL, "parameter '%s': its gradient is not aligned to its type",
                       tensor->name);
    tensor->sparse = sparse;
    tensor->has_sparse = 1;
    return 0;
}
