/*
 * convert.h - 16-bit and 8-bit numbers to fp32 and back, an element at a time,
 * without branches: for loops that the compiler vectorizes.
 *
 * 8-bit numbers are small floating-point ones, as part of the largest in their
 * block (absmax): an exponent and 3 bits of mantissa, so that the step between
 * neighbours is an eighth of the value at most, over nearly the whole range.
 *   signed    sign, 4 bits of exponent, 3 of mantissa: down to 2^-17 of absmax
 *   unsigned  5 bits of exponent, 3 of mantissa: down to 2^-33
 * As in fp32 the lowest exponent has the subnormals and zero, so that a code is
 * the upper part of an fp32 number that is scaled to a low exponent, and shifts
 * and one multiplication convert it. Rounding is by chance: averages that move by
 * a thousandth a step would never leave their code otherwise. What is unsigned is
 * never stored as zero, as it is a denominator.
 *
 * The codes of a block are in an order in which 32-bit words of them meet 32-bit
 * words of two 16-bit numbers: byte k of word w has element 2 w + (k & 1) of the
 * block's first half (k < 2) or second half.
 */
#ifndef MO_OPTIM_CONVERT_H
#define MO_OPTIM_CONVERT_H

#include <stdint.h>
#include <string.h>

#define MO_INLINE static inline __attribute__((always_inline))

MO_INLINE uint32_t mo_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}
MO_INLINE float mo_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* ------------------------------------------------------------------- chance */

/* A counter to 32 random bits: two rounds of multiply and shift, with constants
 * found by search for an even avalanche (Wellons, "Prospecting for hash
 * functions", 2018). */
MO_INLINE uint32_t mo_hash(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return x;
}
/* The random number of byte k of word w in a block, from the block's hashed key.
 * The key makes each number random from block to block and step to step; inside a
 * block they are spread evenly, as multiples of the golden ratio are. An element's
 * parameter and slots all take their bits from its number. */
MO_INLINE uint32_t mo_draw(uint32_t key, uint32_t w, uint32_t k) {
    return key + w * 0x9e3779b1u + k * 0x40040000u;
}
MO_INLINE uint32_t mo_chance16(uint32_t chance) {
    return chance >> 16;
}
/* 20 bits for slot number `slot`, below 4. */
MO_INLINE uint32_t mo_chance20(uint32_t chance, unsigned slot) {
    return chance >> (4 * (4 - slot) % 16) & 0xfffffu;
}

/* --------------------------------------------------------------------- bf16 */

MO_INLINE float mo_from_bf16(uint16_t h) {
    return mo_float((uint32_t)h << 16);
}
MO_INLINE uint16_t mo_to_bf16(float x) {
    uint32_t bits = mo_bits(x);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    uint32_t special = (bits >> 16) | ((bits & 0xffffu) != 0 ? 1u : 0u); /* NaN stays one */
    return (uint16_t)((bits & 0x7f800000u) == 0x7f800000u ? special : rounded);
}
/* `chance`: 16 bits. */
MO_INLINE uint16_t mo_to_bf16_by_chance(float x, uint32_t chance) {
    uint32_t bits = mo_bits(x);
    chance = (bits & 0x7f800000u) == 0x7f800000u ? 0 : chance;
    return (uint16_t)((bits + chance) >> 16);
}

/* --------------------------------------------------------------------- fp16 */

MO_INLINE float mo_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7fffu) << 13;
    /* the exponent's bias is 15 there and 127 here; exact for subnormals too */
    float value = mo_float(rest) * 0x1p112f;
    uint32_t bits = (h & 0x7c00u) == 0x7c00u ? rest | 0x7f800000u : mo_bits(value);
    return mo_float(sign | bits);
}
/* The tail of both: sign, overflow and NaN. */
MO_INLINE uint16_t mo_f16_finish(uint32_t bits, uint32_t magnitude, uint32_t code) {
    code = magnitude >= 0x477ff000u ? 0x7c00u : code; /* from 65520 on: infinity */
    code = magnitude > 0x7f800000u ? 0x7e00u : code;
    return (uint16_t)(code | ((bits >> 16) & 0x8000u));
}
MO_INLINE uint16_t mo_to_f16(float x) {
    uint32_t bits = mo_bits(x), magnitude = bits & 0x7fffffffu;
    uint32_t normal = ((magnitude + 0xfffu + ((magnitude >> 13) & 1u)) >> 13) - (112u << 10);
    /* between 1/2 and 1 fp32's step is that of fp16's subnormals */
    uint32_t subnormal = mo_bits(mo_float(magnitude) + 0.5f) - 0x3f000000u;
    return mo_f16_finish(bits, magnitude, magnitude < (113u << 23) ? subnormal : normal);
}
/* `chance`: 32 bits. */
MO_INLINE uint16_t mo_to_f16_by_chance(float x, uint32_t chance) {
    uint32_t bits = mo_bits(x), magnitude = bits & 0x7fffffffu, exponent = magnitude >> 23;
    uint32_t normal = ((magnitude + (chance & 0x1fffu)) >> 13) - (112u << 10);
    normal = normal > 0x7bffu ? 0x7bffu : normal;
    uint32_t shift = 126u - exponent; /* of subnormals: 14 and more */
    uint32_t mantissa = shift > 31 ? 0 : (magnitude & 0x7fffffu) | 0x800000u;
    shift &= 31u;
    uint32_t subnormal = (mantissa + (chance & ((1u << shift) - 1u))) >> shift;
    subnormal = mantissa == 0 ? 0 : subnormal;
    return mo_f16_finish(bits, magnitude, exponent < 113u ? subnormal : normal);
}

/* -------------------------------------------------------------------- 8 bit */

/* What absmax is scaled to: a little below 1.875, the highest code, so that even
 * with the error of the product no number is rounded beyond it. */
#define MO_Q8_TOP 1.8749995f
/* From a code's exponent to fp32's. */
#define MO_Q8_SIGNED 0x1p112f
#define MO_Q8_UNSIGNED 0x1p96f
/* Below these an absmax and the factors above can be one factor. */
#define MO_Q8_SIGNED_LIMIT 0x1p13f
#define MO_Q8_UNSIGNED_LIMIT 0x1p29f
#define MO_Q8_MASK 0xfffffu /* of the bits that a code leaves out */

/* What to multiply by on the way in; 0 where the block is as good as zero. */
MO_INLINE float mo_q8_scale(float absmax) {
    return absmax > 0x1p-120f ? MO_Q8_TOP / absmax : 0;
}

/* A code in the upper byte of `bits`, whatever is below, as fp32's bits. */
MO_INLINE uint32_t mo_q8_signed_bits(uint32_t bits) {
    return (uint32_t)((int32_t)bits >> 4) & 0x87f00000u;
}
#define MO_Q8_UNSIGNED_BITS 0x0ff00000u
MO_INLINE uint32_t mo_q8_unsigned_bits(uint32_t bits) {
    return (bits >> 4) & MO_Q8_UNSIGNED_BITS;
}
/* The way back, from a scaled number: the sum has the code in bits 20 to 27, a sign
 * in bit 31. `chance`: 20 bits. */
MO_INLINE uint32_t mo_q8_signed_sum(float x, uint32_t chance) {
    return mo_bits(x) + chance;
}
MO_INLINE uint32_t mo_q8_unsigned_sum(float x, uint32_t chance) {
    uint32_t bits = (mo_bits(x) & 0x7fffffffu) + chance;
    return bits <= MO_Q8_MASK ? MO_Q8_MASK + 1 : bits;
}
/* The same with the code in the upper byte. */
MO_INLINE uint32_t mo_q8_signed_code(float x, uint32_t chance) {
    uint32_t bits = mo_q8_signed_sum(x, chance);
    return ((bits << 4) & 0x7fffffffu) | (bits & 0x80000000u);
}
MO_INLINE uint32_t mo_q8_unsigned_code(float x, uint32_t chance) {
    return mo_q8_unsigned_sum(x, chance) << 4;
}

#endif
