/*
 * pass.c - runs over all chunks of an optimizer's tensors: which tensor a chunk is
 * of, the chunk as a span, and the sums that chunks made.
 */
#include "core/optim/optim.h"

#include <memopt/dtype.h>

void mo_pass_run(struct mo_pass *pass, mo_work_fn work) {
    mo_workers_run(pass->optimizer->workers, pass->optimizer->chunk_count, work, pass);
}

/* The last tensor whose first chunk is not after it. */
struct mo_tensor *mo_chunk_owner(const struct memopt_optimizer *optimizer, size_t chunk) {
    size_t low = 0, high = optimizer->tensor_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (optimizer->tensors[middle].first_chunk <= chunk)
            low = middle;
        else
            high = middle;
    }
    return &optimizer->tensors[low];
}

void mo_chunk_span(const struct mo_pass *pass, const struct mo_tensor *tensor, size_t chunk,
                   struct mo_span *span) {
    uint64_t begin = (uint64_t)(chunk - tensor->first_chunk) * MO_CHUNK;
    uint64_t rest = tensor->count - begin;
    *span = (struct mo_span){
        .count = (size_t)(rest < MO_CHUNK ? rest : MO_CHUNK),
        .block = begin / MO_BLOCK,
        .data = (char *)tensor->data + begin * mo_element_size(tensor->dtype),
        .dtype = tensor->dtype,
        .grad = tensor->grad == NULL
                    ? NULL
                    : (const char *)tensor->grad + begin * mo_element_size(tensor->grad_dtype),
        .grad_dtype = tensor->grad_dtype,
        .master = tensor->master == NULL ? NULL : tensor->master + begin,
        .slot_count = tensor->slot_count,
        .stochastic =
            pass->optimizer->groups[tensor->group].settings.rounding == MO_ROUNDING_STOCHASTIC,
        .key = tensor->key,
    };
    if (pass->accumulated) {
        span->grad = tensor->accumulator + begin;
        span->grad_dtype = MEMOPT_DTYPE_F32;
    }
    for (size_t i = 0; i < tensor->slot_count; i++) {
        const struct mo_stored_slot *slot = &tensor->slots[i];
        size_t size = slot->absmax == NULL ? sizeof(float) : 1;
        span->slots[i] = (struct mo_stored_slot){
            .data = (char *)slot->data + begin * size,
            .absmax = slot->absmax == NULL ? NULL : slot->absmax + begin / MO_BLOCK,
            .kind = slot->kind,
        };
    }
}

void mo_pass_sums(const struct memopt_optimizer *optimizer, const struct mo_tensor *tensor,
                  double sums[MO_SUMS]) {
    size_t first = tensor == NULL ? 0 : tensor->first_chunk;
    size_t count = tensor == NULL ? optimizer->chunk_count : tensor->chunks;
    for (size_t i = 0; i < MO_SUMS; i++) {
        sums[i] = 0;
        for (size_t chunk = first; chunk < first + count; chunk++)
            sums[i] += optimizer->sums[chunk * MO_SUMS + i];
    }
}
