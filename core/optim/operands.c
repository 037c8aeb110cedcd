/*
 * operands.c - a range of a tensor through a kernel.
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
enum { WORDS = MO_BLOCK / 4 }; /* of codes, in a block */

/* Loops over words have their four bytes written out: the compiler vectorizes no
 * loop that has another inside. Elements of word w are 2 w, 2 w + 1, and those two
 * in the second half. */

/* A random number for each element of a block. */
static MO_KERNEL void draw(uint32_t key, uint32_t *restrict to) {
    for (size_t w = 0; w < WORDS; w++) {
        to[2 * w] = mo_draw(key, (uint32_t)w, 0);
        to[2 * w + 1] = mo_draw(key, (uint32_t)w, 1);
        to[2 * w + MO_BLOCK / 2] = mo_draw(key, (uint32_t)w, 2);
        to[2 * w + MO_BLOCK / 2 + 1] = mo_draw(key, (uint32_t)w, 3);
    }
}
static MO_KERNEL void chance_bf16(const float *restrict from, const uint32_t *restrict chance,
                                  size_t n, uint16_t *restrict to) {
    for (size_t i = 0; i < n; i++)
        to[i] = mo_to_bf16_by_chance(from[i], mo_chance16(chance[i]));
}
static MO_KERNEL void chance_f16(const float *restrict from, const uint32_t *restrict chance,
                                 size_t n, uint16_t *restrict to) {
    for (size_t i = 0; i < n; i++)
        to[i] = mo_to_f16_by_chance(from[i], chance[i]);
}
#define LOAD(NAME, BITS, FACTOR)                                                                   \
    static MO_KERNEL void NAME(const uint32_t *restrict from, float scale, float *restrict to) {   \
        for (size_t w = 0; w < WORDS; w++) {                                                       \
            to[2 * w] = mo_float(BITS(from[w] << 24)) * FACTOR * scale;                            \
            to[2 * w + 1] = mo_float(BITS(from[w] << 16)) * FACTOR * scale;                        \
            to[2 * w + MO_BLOCK / 2] = mo_float(BITS(from[w] << 8)) * FACTOR * scale;              \
            to[2 * w + MO_BLOCK / 2 + 1] = mo_float(BITS(from[w])) * FACTOR * scale;               \
        }                                                                                          \
    }
LOAD(load_signed, mo_q8_signed_bits, MO_Q8_SIGNED)
LOAD(load_unsigned, mo_q8_unsigned_bits, MO_Q8_UNSIGNED)

#define CODE(AT, CODE_OF, FACTOR)                                                                  \
    (CODE_OF(from[AT] * scale * (1 / FACTOR), mo_chance20(chance[AT], number)) >> 24)
#define STORE(NAME, CODE_OF, FACTOR)                                                               \
    static MO_KERNEL void NAME(const float *restrict from, const uint32_t *restrict chance,        \
                               unsigned number, float scale, uint32_t *restrict to) {              \
        for (size_t w = 0; w < WORDS; w++)                                                         \
            to[w] = CODE(2 * w, CODE_OF, FACTOR) | CODE(2 * w + 1, CODE_OF, FACTOR) << 8 |         \
                    CODE(2 * w + MO_BLOCK / 2, CODE_OF, FACTOR) << 16 |                            \
                    CODE(2 * w + MO_BLOCK / 2 + 1, CODE_OF, FACTOR) << 24;                         \
    }
STORE(store_signed, mo_q8_signed_code, MO_Q8_SIGNED)
STORE(store_unsigned, mo_q8_unsigned_code, MO_Q8_UNSIGNED)

/* As integers: the magnitudes of floats are in the order of their bits. */
static MO_KERNEL uint32_t largest(const float *from, size_t n) {
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = mo_bits(from[i]) & 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    return most;
}

void mo_load(const void *from, int dtype, size_t n, float *to) {
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

static void store_by_chance(const float *from, const uint32_t *chance, size_t n, void *to,
                            int dtype) {
    if (dtype == MEMOPT_DTYPE_BF16)
        chance_bf16(from, chance, n, to);
    else
        chance_f16(from, chance, n, to);
}

uint32_t mo_block_key(const struct mo_operands *operands, size_t at) {
    return mo_hash(operands->key + (uint32_t)(operands->block + at / MO_BLOCK));
}

static void load_slot(const struct mo_stored_slot *slot, size_t at, float *to) {
    float scale = slot->absmax[at / MO_BLOCK] / MO_Q8_TOP;
    const uint32_t *from = (const uint32_t *)slot->data + at / 4;
    if (slot->kind == MO_SLOT_SIGNED)
        load_signed(from, scale, to);
    else
        load_unsigned(from, scale, to);
}

/* `from` has room for a block. */
static void store_slot(const struct mo_stored_slot *slot, unsigned number, size_t at, size_t n,
                       float *from, const uint32_t *chance) {
    float absmax = mo_float(largest(from, n)), scale = mo_q8_scale(absmax);
    uint32_t *to = (uint32_t *)slot->data + at / 4;
    memset(from + n, 0, (MO_BLOCK - n) * sizeof(*from));
    slot->absmax[at / MO_BLOCK] = absmax;
    if (slot->kind == MO_SLOT_SIGNED)
        store_signed(from, chance, number, scale, to);
    else
        store_unsigned(from, chance, number, scale, to);
}

/* One block or the rest of one, `at` elements into the range. */
static void update_block(const struct mo_operands *operands, size_t at, size_t n,
                         mo_kernel_fn kernel, const struct mo_scalars *s, double *sums) {
    _Alignas(64) float parameter[MO_BLOCK], gradient[MO_BLOCK], slot[MO_SLOTS][MO_BLOCK];
    _Alignas(64) uint32_t chance[MO_BLOCK];
    float *p, *slots[MO_SLOTS];
    const float *g;
    char *data = (char *)operands->data + at * mo_element_size(operands->dtype);
    const char *grad = (const char *)operands->grad + at * mo_element_size(operands->grad_dtype);
    int small = 0;

    if (operands->master != NULL) {
        p = operands->master + at;
    } else if (operands->dtype == MEMOPT_DTYPE_F32) {
        p = (float *)(void *)data;
    } else {
        mo_load(data, operands->dtype, n, parameter);
        p = parameter;
    }
    if (operands->grad_dtype == MEMOPT_DTYPE_F32) {
        g = (const float *)(const void *)grad;
    } else {
        mo_load(grad, operands->grad_dtype, n, gradient);
        g = gradient;
    }
    for (size_t i = 0; i < operands->slot_count; i++) {
        const struct mo_stored_slot *stored = &operands->slots[i];
        slots[i] = stored->absmax != NULL ? slot[i] : (float *)stored->data + at;
        if (stored->absmax != NULL)
            load_slot(stored, at, slots[i]);
        small |= stored->absmax != NULL;
    }
    kernel(s, n, p, g, slots, sums);
    if (small || operands->stochastic)
        draw(mo_block_key(operands, at), chance);
    for (unsigned i = 0; i < operands->slot_count; i++)
        if (operands->slots[i].absmax != NULL)
            store_slot(&operands->slots[i], i, at, n, slots[i], chance);
    if (operands->dtype == MEMOPT_DTYPE_F32)
        return;
    if (operands->stochastic)
        store_by_chance(p, chance, n, data, operands->dtype);
    else
        store_nearest(p, n, data, operands->dtype);
}

static int is_direct(const struct mo_operands *operands) {
    int direct = operands->dtype == MEMOPT_DTYPE_F32 && operands->grad_dtype == MEMOPT_DTYPE_F32;
    for (size_t i = 0; i < operands->slot_count; i++)
        direct = direct && operands->slots[i].absmax == NULL;
    return direct;
}

void mo_operands_update(const struct mo_operands *operands, const struct mo_kernels *kernels,
                        const struct mo_scalars *s, double *sums) {
    size_t at = 0;
    if (is_direct(operands)) {
        float *slots[MO_SLOTS];
        for (size_t i = 0; i < operands->slot_count; i++)
            slots[i] = operands->slots[i].data;
        kernels->update(s, operands->count, operands->data, operands->grad, slots, sums);
        return;
    }
    if (kernels->block != NULL)
        for (; at + MO_BLOCK <= operands->count; at += MO_BLOCK)
            if (!kernels->block(s, operands, at))
                update_block(operands, at, MO_BLOCK, kernels->update, s, sums);
    struct mo_scalars scalars = *s;
    for (; at < operands->count; at += MO_BLOCK) {
        size_t rest = operands->count - at;
        scalars.first = s->first + at;
        update_block(operands, at, rest < MO_BLOCK ? rest : MO_BLOCK, kernels->update, &scalars,
                     sums);
    }
}
