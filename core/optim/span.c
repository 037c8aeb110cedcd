/*
 * span.c - a range of a tensor through a kernel.
 *
 * Where everything is fp32 the kernel works on the memory itself. Otherwise a
 * block at a time goes through buffers in the first-level cache: in as fp32, the
 * kernel, and out again, rounded.
 */
#include "core/optim/convert.h"
#include "core/optim/kernel.h"

#include <memopt/dtype.h>

static MO_KERNEL void load_bf16(const uint16_t *restrict from, size_t n, float *restrict to) {
    for (size_t i = 0; i < n; i++)
        to[i] = mo_from_bf16(from[i]);
}
static MO_KERNEL void load_f16(const uint16_t *restrict from, size_t n, float *restrict to) {
    for (size_t i = 0; i < n; i++)
        to[i] = mo_from_f16(from[i]);
}
static MO_KERNEL void store_bf16(const float *restrict from, size_t n, uint16_t *restrict to) {
    for (size_t i = 0; i < n; i++)
        to[i] = mo_to_bf16(from[i]);
}
static MO_KERNEL void store_f16(const float *restrict from, size_t n, uint16_t *restrict to) {
    for (size_t i = 0; i < n; i++)
        to[i] = mo_to_f16(from[i]);
}
static MO_KERNEL void chance_bf16(const float *restrict from, size_t n, uint16_t *restrict to,
                                  uint32_t key) {
    for (uint32_t i = 0; i < n; i++)
        to[i] = mo_to_bf16_by_chance(from[i], mo_hash(key + i));
}
static MO_KERNEL void chance_f16(const float *restrict from, size_t n, uint16_t *restrict to,
                                 uint32_t key) {
    for (uint32_t i = 0; i < n; i++)
        to[i] = mo_to_f16_by_chance(from[i], mo_hash(key + i));
}
static MO_KERNEL void load_signed(const uint8_t *restrict from, size_t n, float scale,
                                  float *restrict to) {
    for (size_t i = 0; i < n; i++)
        to[i] = mo_from_q8_signed(from[i], scale);
}
static MO_KERNEL void load_unsigned(const uint8_t *restrict from, size_t n, float scale,
                                    float *restrict to) {
    for (size_t i = 0; i < n; i++)
        to[i] = mo_from_q8_unsigned(from[i], scale);
}
static MO_KERNEL void store_signed(const float *restrict from, size_t n, float scale,
                                   uint8_t *restrict to, uint32_t key) {
    for (uint32_t i = 0; i < n; i++)
        to[i] = mo_to_q8_signed(from[i], scale, mo_hash(key + i));
}
static MO_KERNEL void store_unsigned(const float *restrict from, size_t n, float scale,
                                     uint8_t *restrict to, uint32_t key) {
    for (uint32_t i = 0; i < n; i++)
        to[i] = mo_to_q8_unsigned(from[i], scale, mo_hash(key + i));
}
/* As integers: the magnitudes of floats are in the order of their bits. */
static MO_KERNEL uint32_t largest(const float *from, size_t n) {
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = mo_bits(from[i]) & 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    return most;
}

static void load(const void *from, int dtype, size_t n, float *to) {
    if (dtype == MEMOPT_DTYPE_BF16)
        load_bf16(from, n, to);
    else if (dtype == MEMOPT_DTYPE_F16)
        load_f16(from, n, to);
    else
        memcpy(to, from, n * sizeof(*to));
}

static void store_nearest(const float *from, size_t n, void *to, int dtype) {
    if (dtype == MEMOPT_DTYPE_BF16)
        store_bf16(from, n, to);
    else
        store_f16(from, n, to);
}

static void store_by_chance(const float *from, size_t n, void *to, int dtype, uint32_t key) {
    if (dtype == MEMOPT_DTYPE_BF16)
        chance_bf16(from, n, to, key);
    else
        chance_f16(from, n, to, key);
}

static size_t size_of(int dtype) {
    return dtype == MEMOPT_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
}

void mo_span_load_master(const struct mo_span *span) {
    load(span->data, span->dtype, span->count, span->master);
}

static void load_slot(const struct mo_stored_slot *slot, size_t at, size_t n, float *to) {
    float scale = slot->absmax[at / MO_BLOCK] / MO_Q8_TOP;
    const uint8_t *from = (const uint8_t *)slot->data + at;
    if (slot->kind == MO_SLOT_SIGNED)
        load_signed(from, n, scale, to);
    else
        load_unsigned(from, n, scale, to);
}

static void store_slot(const struct mo_stored_slot *slot, size_t at, size_t n, const float *from,
                       uint32_t key) {
    float absmax = mo_float(largest(from, n)), scale = mo_q8_scale(absmax);
    uint8_t *to = (uint8_t *)slot->data + at;
    slot->absmax[at / MO_BLOCK] = absmax;
    if (slot->kind == MO_SLOT_SIGNED)
        store_signed(from, n, scale, to, key);
    else
        store_unsigned(from, n, scale, to, key);
}

/* One block or the rest of one, `at` elements into the span. */
static void update_block(const struct mo_span *span, size_t at, size_t n, mo_kernel_fn kernel,
                         const struct mo_scalars *s, double *sums) {
    _Alignas(64) float parameter[MO_BLOCK], gradient[MO_BLOCK], slot[MO_SLOTS][MO_BLOCK];
    float *p, *slots[MO_SLOTS];
    const float *g;
    char *data = (char *)span->data + at * size_of(span->dtype);
    const char *grad = (const char *)span->grad + at * size_of(span->grad_dtype);
    /* Keys of different uses are far apart; inside a block they count up. */
    uint32_t key = mo_hash(span->key + (uint32_t)(span->block + at / MO_BLOCK));

    if (span->master != NULL) {
        p = span->master + at;
    } else if (span->dtype == MEMOPT_DTYPE_F32) {
        p = (float *)(void *)data;
    } else {
        load(data, span->dtype, n, parameter);
        p = parameter;
    }
    if (span->grad_dtype == MEMOPT_DTYPE_F32) {
        g = (const float *)(const void *)grad;
    } else {
        load(grad, span->grad_dtype, n, gradient);
        g = gradient;
    }
    for (size_t i = 0; i < span->slot_count; i++) {
        const struct mo_stored_slot *stored = &span->slots[i];
        slots[i] = stored->absmax != NULL ? slot[i] : (float *)stored->data + at;
        if (stored->absmax != NULL)
            load_slot(stored, at, n, slots[i]);
    }
    kernel(s, n, p, g, slots, sums);
    for (size_t i = 0; i < span->slot_count; i++)
        if (span->slots[i].absmax != NULL)
            store_slot(&span->slots[i], at, n, slots[i], key + 0x10000u * (uint32_t)(i + 1));
    if (span->dtype == MEMOPT_DTYPE_F32)
        return;
    if (span->stochastic)
        store_by_chance(p, n, data, span->dtype, key);
    else
        store_nearest(p, n, data, span->dtype);
}

static int is_direct(const struct mo_span *span) {
    int direct = span->dtype == MEMOPT_DTYPE_F32 && span->grad_dtype == MEMOPT_DTYPE_F32;
    for (size_t i = 0; i < span->slot_count; i++)
        direct = direct && span->slots[i].absmax == NULL;
    return direct;
}

void mo_span_update(const struct mo_span *span, mo_kernel_fn kernel, const struct mo_scalars *s,
                    double *sums) {
    if (is_direct(span)) {
        float *slots[MO_SLOTS];
        for (size_t i = 0; i < span->slot_count; i++)
            slots[i] = span->slots[i].data;
        kernel(s, span->count, span->data, span->grad, slots, sums);
        return;
    }
    for (size_t at = 0; at < span->count; at += MO_BLOCK) {
        size_t rest = span->count - at;
        update_block(span, at, rest < MO_BLOCK ? rest : MO_BLOCK, kernel, s, sums);
    }
}
