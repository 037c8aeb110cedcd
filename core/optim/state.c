/*
 * state.c - the memory of an optimizer's state: one block of the heap a tensor,
 * which holds its slots, scales, parts, master and accumulator, each at a cache line.
 */
#include "core/optim/optim.h"

#include "core/base/error.h"

#include <memopt/dtype.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { LINE = 64 };
#define SLOW "slow"
#define UNPERTURBED "unperturbed"

/* Where the parts of a state lie in its block. */
struct layout {
    struct mo_slot slots[MO_SLOTS];
    size_t slot_count;
    size_t data[MO_SLOTS], absmax[MO_SLOTS]; /* offsets; absmax SIZE_MAX: fp32 */
    struct mo_part parts[MO_PARTS];
    size_t part_count, part[MO_PARTS]; /* offsets */
    size_t master, accumulator;        /* SIZE_MAX: none */
    size_t bytes;
};

static size_t take(struct layout *layout, uint64_t count, size_t size) {
    size_t offset = layout->bytes, bytes;
    if (offset == SIZE_MAX || __builtin_mul_overflow(count, size, &bytes) ||
        __builtin_add_overflow(offset, bytes, &layout->bytes) || layout->bytes > SIZE_MAX - LINE)
        layout->bytes = SIZE_MAX;
    else
        layout->bytes = (layout->bytes + LINE - 1) / LINE * LINE;
    return offset;
}

size_t mo_state_parts(const struct mo_method *method, const struct mo_settings_optimizer *settings,
                      const struct mo_tensor *tensor, struct mo_part *ret_parts) {
    size_t count = method->parts == NULL ? 0 : method->parts(settings, tensor, ret_parts);
    if (settings->lookahead > 0)
        ret_parts[count++] = (struct mo_part){SLOW, tensor->count, MEMOPT_DTYPE_F32, 0};
    if (settings->sam > 0)
        ret_parts[count++] = (struct mo_part){UNPERTURBED, tensor->count, tensor->dtype, 1};
    return count;
}

static void lay_out(const struct memopt_optimizer *optimizer, const struct mo_tensor *tensor,
                    struct layout *layout) {
    const struct mo_settings_optimizer *settings = &optimizer->groups[tensor->group].settings;
    layout->bytes = 0;
    layout->slot_count = optimizer->method->slots(settings, layout->slots);
    for (size_t i = 0; i < layout->slot_count; i++) {
        int small =
            settings->state_format == MO_STATE_8BIT && layout->slots[i].kind != MO_SLOT_FP32;
        uint64_t blocks = tensor->count / MO_BLOCK + (tensor->count % MO_BLOCK != 0);
        layout->absmax[i] = SIZE_MAX;
        if (small) {
            layout->data[i] = take(layout, blocks, MO_BLOCK);
            layout->absmax[i] = take(layout, blocks, sizeof(float));
        } else {
            layout->data[i] = take(layout, tensor->count, sizeof(float));
        }
    }
    layout->part_count = mo_state_parts(optimizer->method, settings, tensor, layout->parts);
    for (size_t i = 0; i < layout->part_count; i++)
        layout->part[i] =
            take(layout, layout->parts[i].count, mo_element_size(layout->parts[i].dtype));
    int has_master = tensor->dtype != MEMOPT_DTYPE_F32 && settings->rounding == MO_ROUNDING_MASTER;
    layout->master = has_master ? take(layout, tensor->count, sizeof(float)) : SIZE_MAX;
    layout->accumulator =
        settings->accumulate > 1 ? take(layout, tensor->count, sizeof(float)) : SIZE_MAX;
}

static void put_initial(const struct mo_tensor *tensor, const struct layout *layout) {
    for (size_t i = 0; i < layout->slot_count; i++) {
        const struct mo_stored_slot *slot = &tensor->slots[i];
        float initial = layout->slots[i].initial;
        for (uint64_t k = 0; initial != 0 && slot->absmax == NULL && k < tensor->count; k++)
            ((float *)slot->data)[k] = initial;
    }
}

static void fill(struct mo_tensor *tensor, const struct layout *layout, char *block) {
    tensor->state = block;
    tensor->state_bytes = layout->bytes;
    tensor->slot_count = layout->slot_count;
    for (size_t i = 0; i < layout->slot_count; i++) {
        struct mo_stored_slot *slot = &tensor->slots[i];
        slot->data = block + layout->data[i];
        slot->absmax =
            layout->absmax[i] == SIZE_MAX ? NULL : (float *)(void *)(block + layout->absmax[i]);
        slot->kind = layout->slots[i].kind;
    }
    tensor->part_count = layout->part_count;
    for (size_t i = 0; i < layout->part_count; i++) {
        struct mo_stored_part *part = &tensor->parts[i];
        *part = (struct mo_stored_part){layout->parts[i], block + layout->part[i]};
        if (strcmp(part->is.name, SLOW) == 0)
            tensor->slow = part->data;
        else if (strcmp(part->is.name, UNPERTURBED) == 0)
            tensor->unperturbed = part->data;
    }
    tensor->master = layout->master == SIZE_MAX ? NULL : (float *)(void *)(block + layout->master);
    tensor->accumulator =
        layout->accumulator == SIZE_MAX ? NULL : (float *)(void *)(block + layout->accumulator);
    tensor->master_stale = 1;
    tensor->updates = 0;
    memset(tensor->carry, 0, sizeof(tensor->carry));
}

/* A tensor whose method needs no state has a block, too, of one line: that it is
 * there says that the tensor has taken part. */
int mo_state_make_one(struct memopt_optimizer *optimizer, struct mo_tensor *tensor,
                      struct memopt_error *error) {
    struct layout layout;
    lay_out(optimizer, tensor, &layout);
    if (layout.bytes == 0)
        layout.bytes = LINE;
    char *block = layout.bytes == SIZE_MAX
                      ? NULL
                      : memopt_heap_aligned_alloc(optimizer->heap, LINE, layout.bytes);
    if (block == NULL)
        return mo_fail(error, -ENOMEM,
                       "parameter '%s': no memory for %" PRIu64 " elements' state in heap '%s'",
                       tensor->name, tensor->count, memopt_heap_name(optimizer->heap));
    memset(block, 0, layout.bytes);
    fill(tensor, &layout, block);
    put_initial(tensor, &layout);
    return 0;
}

void mo_state_outline(struct memopt_optimizer *optimizer, struct mo_tensor *tensor) {
    struct layout layout;
    lay_out(optimizer, tensor, &layout);
    fill(tensor, &layout, (char *)LINE);
}

void mo_state_forget(struct mo_tensor *tensor) {
    tensor->state = NULL;
    tensor->state_bytes = 0;
    tensor->slot_count = tensor->part_count = 0;
    tensor->slow = NULL;
    tensor->unperturbed = NULL;
    tensor->master = tensor->accumulator = NULL;
    tensor->updates = 0;
}

void mo_state_free(struct memopt_optimizer *optimizer, struct mo_tensor *tensor) {
    memopt_heap_free(optimizer->heap, tensor->state);
    mo_state_forget(tensor);
}

int mo_state_make(struct memopt_optimizer *optimizer, struct memopt_error *error) {
    struct mo_tensor *tensors = optimizer->tensors;
    int code = 0;
    size_t end = 0;
    for (; end < optimizer->tensor_count && code == 0; end++) {
        tensors[end].fresh = tensors[end].state == NULL;
        if (tensors[end].fresh)
            code = mo_state_make_one(optimizer, &tensors[end], error);
    }
    for (size_t i = 0; i < end && code < 0; i++)
        if (tensors[i].fresh)
            mo_state_free(optimizer, &tensors[i]);
    return code;
}

void mo_state_refresh(struct memopt_optimizer *optimizer) {
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        struct mo_tensor *tensor = &optimizer->tensors[i];
        if (tensor->master != NULL && tensor->master_stale)
            mo_load(tensor->data, tensor->dtype, (size_t)tensor->count, tensor->master);
        if (tensor->slow != NULL && tensor->master_stale)
            mo_load(tensor->data, tensor->dtype, (size_t)tensor->count, tensor->slow);
        tensor->master_stale = 0;
    }
}

uint64_t memopt_optimizer_state_bytes(const struct memopt_optimizer *optimizer) {
    uint64_t bytes = 0;
    for (size_t i = 0; optimizer != NULL && i < optimizer->tensor_count; i++)
        bytes += optimizer->tensors[i].state_bytes;
    return bytes;
}
