/*
 * state.c - which regions a tensor has, and when its place makes and ends them.
 */
#include "core/optim/optim.h"

#include "core/base/error.h"

#include <errno.h>
#include <inttypes.h>

static void put_elements(struct mo_layout *layout, size_t number, const char *name, int dtype,
                         const struct mo_tensor *tensor) {
    mo_layout_put(layout, number,
                  (struct mo_region){
                      .name = name, .count = tensor->count, .every = 1, .dtype = (int8_t)dtype});
}

static void put_outside(struct mo_layout *layout, size_t number, const char *name, int dtype,
                        const struct mo_tensor *tensor) {
    mo_layout_put(layout, number,
                  (struct mo_region){.name = name,
                                     .count = tensor->count,
                                     .every = 1,
                                     .dtype = (int8_t)dtype,
                                     .outside = 1});
}

static void put_slot(struct mo_layout *layout, size_t index, const struct mo_slot *slot, int small,
                     const struct mo_tensor *tensor) {
    size_t number = MO_AT_SLOTS + 2 * index;
    uint64_t blocks = mo_block_count(tensor->count);
    if (small) {
        mo_layout_put(layout, number,
                      (struct mo_region){.name = slot->name,
                                         .count = blocks * MO_BLOCK,
                                         .every = 1,
                                         .dtype = MEMOPT_DTYPE_U8});
        mo_layout_put(
            layout, number + 1,
            (struct mo_region){
                .name = slot->name, .count = blocks, .every = MO_BLOCK, .dtype = MEMOPT_DTYPE_F32});
    } else {
        mo_layout_put(layout, number,
                      (struct mo_region){.name = slot->name,
                                         .count = tensor->count,
                                         .every = 1,
                                         .dtype = MEMOPT_DTYPE_F32,
                                         .initial = slot->initial});
    }
}

static int has_master(const struct mo_tensor *tensor,
                      const struct mo_settings_optimizer *settings) {
    return tensor->dtype != MEMOPT_DTYPE_F32 && settings->rounding == MO_ROUNDING_MASTER;
}

void mo_state_layout(const struct mo_method *method, const struct mo_settings_optimizer *settings,
                     const struct mo_tensor *tensor, struct mo_layout *ret_layout) {
    struct mo_slot slots[MO_SLOTS];
    struct mo_part parts[MO_PARTS];
    *ret_layout = (struct mo_layout){.bytes = 0};
    put_outside(ret_layout, MO_AT_DATA, "data", tensor->dtype, tensor);
    put_outside(ret_layout, MO_AT_GRAD, "grad", tensor->grad_dtype, tensor);
    size_t count = method->slots(settings, slots);
    for (size_t i = 0; i < count; i++)
        put_slot(ret_layout, i, &slots[i],
                 settings->state_format == MO_STATE_8BIT && slots[i].kind != MO_SLOT_FP32, tensor);
    count = method->parts == NULL ? 0 : method->parts(settings, tensor, parts);
    for (size_t i = 0; i < count; i++)
        mo_layout_put(ret_layout, MO_AT_PARTS + i,
                      (struct mo_region){.name = parts[i].name,
                                         .count = parts[i].count,
                                         .dtype = (int8_t)parts[i].dtype,
                                         .scratch = parts[i].scratch != 0});
    if (settings->lookahead > 0)
        put_elements(ret_layout, MO_AT_SLOW, "slow", MEMOPT_DTYPE_F32, tensor);
    if (settings->sam > 0) {
        put_elements(ret_layout, MO_AT_UNPERTURBED, "unperturbed", tensor->dtype, tensor);
        ret_layout->regions[MO_AT_UNPERTURBED].scratch = 1;
    }
    if (has_master(tensor, settings))
        put_elements(ret_layout, MO_AT_MASTER, "master", MEMOPT_DTYPE_F32, tensor);
    if (settings->accumulate > 1)
        put_elements(ret_layout, MO_AT_ACCUMULATOR, "accumulator", MEMOPT_DTYPE_F32, tensor);
}

int mo_state_make_one(struct memopt_optimizer *optimizer, struct mo_tensor *tensor,
                      struct memopt_error *error) {
    const struct mo_settings_optimizer *settings = &optimizer->groups[tensor->group].settings;
    struct mo_layout layout;
    struct mo_slot slots[MO_SLOTS];
    mo_state_layout(optimizer->method, settings, tensor, &layout);
    if (optimizer->place->ops->make(optimizer->place, tensor->number, &layout) < 0)
        return mo_fail(error, -ENOMEM,
                       "parameter '%s': no memory for %" PRIu64 " elements' state in heap '%s'",
                       tensor->name, tensor->count, memopt_heap_name(optimizer->heap));
    tensor->has_state = 1;
    tensor->state_bytes = layout.bytes > 0 ? layout.bytes : MO_LINE;
    tensor->slot_count = optimizer->method->slots(settings, slots);
    for (size_t i = 0; i < tensor->slot_count; i++)
        tensor->slot_kinds[i] = slots[i].kind;
    tensor->master_stale = 1;
    tensor->updates = 0;
    for (size_t i = 0; i < MO_CARRY; i++)
        tensor->carry[i] = 0;
    return 0;
}

int mo_state_make(struct memopt_optimizer *optimizer, struct memopt_error *error) {
    struct mo_tensor *tensors = optimizer->tensors;
    int code = 0;
    size_t end = 0;
    for (; end < optimizer->tensor_count && code == 0; end++) {
        tensors[end].fresh = !tensors[end].has_state;
        if (tensors[end].fresh)
            code = mo_state_make_one(optimizer, &tensors[end], error);
    }
    for (size_t i = 0; i < end && code < 0; i++)
        if (tensors[i].fresh) {
            optimizer->place->ops->drop(optimizer->place, i);
            tensors[i].has_state = 0;
            tensors[i].state_bytes = 0;
        }
    return code;
}

static void refresh_chunk(const struct mo_pass *pass, size_t chunk) {
    struct mo_span span;
    const struct mo_tensor *tensor = mo_pass_acquire(pass, chunk, &span);
    size_t count = span.range.count;
    if (span.at[MO_AT_MASTER] != NULL)
        mo_load(span.at[MO_AT_DATA], tensor->dtype, count, span.at[MO_AT_MASTER]);
    if (span.at[MO_AT_SLOW] != NULL)
        mo_load(span.at[MO_AT_DATA], tensor->dtype, count, span.at[MO_AT_SLOW]);
    mo_pass_release(pass, &span, 1);
}

void mo_state_refresh(struct memopt_optimizer *optimizer) {
    const struct mo_pass pass = {.optimizer = optimizer};
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        struct mo_tensor *tensor = &optimizer->tensors[i];
        const struct mo_settings_optimizer *settings = &optimizer->groups[tensor->group].settings;
        size_t chunk = optimizer->place->extents[i].first_chunk;
        size_t end = chunk + mo_chunk_count(tensor->count);
        int stale = tensor->has_state && tensor->master_stale &&
                    (has_master(tensor, settings) || settings->lookahead > 0);
        for (; stale && chunk < end; chunk++)
            refresh_chunk(&pass, chunk);
        tensor->master_stale = 0;
    }
}

uint64_t memopt_optimizer_state_bytes(const struct memopt_optimizer *optimizer) {
    uint64_t bytes = 0;
    for (size_t i = 0; optimizer != NULL && i < optimizer->tensor_count; i++)
        bytes += optimizer->tensors[i].state_bytes;
    return bytes;
}
