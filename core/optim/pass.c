/*
 * pass.c - runs over all chunks of an optimizer's tensors: a chunk from its place and
 * back, what kernels work on in it, and the sums that chunks made.
 */
#include "core/optim/optim.h"

void mo_pass_run(struct mo_pass *pass, mo_work_fn work) {
    mo_workers_run(pass->optimizer->workers, pass->optimizer->place->chunk_count, work, pass);
}

const struct mo_tensor *mo_pass_acquire(const struct mo_pass *pass, size_t chunk,
                                        struct mo_span *ret_span) {
    struct mo_place *place = pass->optimizer->place;
    struct mo_range range = mo_place_chunk(place, chunk);
    const struct mo_tensor *tensor = &pass->optimizer->tensors[range.tensor];
    if (tensor->whole.layout != NULL)
        mo_span_part(&tensor->whole, range, ret_span);
    else
        place->ops->acquire(place, range, ret_span);
    return tensor;
}

void mo_pass_release(const struct mo_pass *pass, const struct mo_span *span, int dirty) {
    struct mo_place *place = pass->optimizer->place;
    if (pass->optimizer->tensors[span->range.tensor].whole.layout == NULL)
        place->ops->release(place, span, dirty);
}

void mo_pass_operands(const struct mo_pass *pass, const struct mo_tensor *tensor,
                      const struct mo_span *span, struct mo_operands *operands) {
    *operands = (struct mo_operands){
        .count = span->range.count,
        .block = span->range.first / MO_BLOCK,
        .data = span->at[MO_AT_DATA],
        .dtype = tensor->dtype,
        .grad = span->at[pass->accumulated ? MO_AT_ACCUMULATOR : MO_AT_GRAD],
        .grad_dtype = pass->accumulated ? MEMOPT_DTYPE_F32 : tensor->grad_dtype,
        .master = span->at[MO_AT_MASTER],
        .slot_count = tensor->slot_count,
        .stochastic =
            pass->optimizer->groups[tensor->group].settings.rounding == MO_ROUNDING_STOCHASTIC,
        .key = tensor->key,
    };
    for (size_t i = 0; i < tensor->slot_count; i++)
        operands->slots[i] = (struct mo_stored_slot){
            .data = span->at[MO_AT_SLOTS + 2 * i],
            .absmax = span->at[MO_AT_SLOTS + 2 * i + 1],
            .kind = tensor->slot_kinds[i],
        };
}

void mo_pass_hold(struct memopt_optimizer *optimizer) {
    struct mo_place *place = optimizer->place;
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        struct mo_tensor *tensor = &optimizer->tensors[i];
        if (optimizer->method->needs & MO_NEEDS_TENSORS)
            place->ops->acquire(place, (struct mo_range){i, 0, (size_t)tensor->count},
                                &tensor->whole);
    }
}

void mo_pass_let_go(struct memopt_optimizer *optimizer, int dirty) {
    struct mo_place *place = optimizer->place;
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        struct mo_tensor *tensor = &optimizer->tensors[i];
        if (tensor->whole.layout != NULL)
            place->ops->release(place, &tensor->whole, dirty);
        tensor->whole.layout = NULL;
    }
}

void mo_pass_sums(const struct memopt_optimizer *optimizer, const struct mo_tensor *tensor,
                  double sums[MO_SUMS]) {
    struct mo_place *place = optimizer->place;
    size_t first = tensor == NULL ? 0 : place->extents[tensor->number].first_chunk;
    size_t count = tensor == NULL ? place->chunk_count : mo_chunk_count(tensor->count);
    for (size_t i = 0; i < MO_SUMS; i++)
        sums[i] =
            place->ops->reduce(place, optimizer->sums + i, MO_SUMS, first, count, MO_REDUCE_SUM);
}
