/*
 * convert.h - 16-bit and 8-bit numbers to fp32 and back, an element at a time,
 * without branches: for loops that the compiler vectorizes.
 *
 * 8-bit numbers are small floating-point ones, as part of the largest in their
 * block (absmax): an exponent and 3 bits of mantissa, so that the step between
 * neighbours is an eighth of the value over the whole range.
 *   signed    sign, 4 bits of exponent, 3 of mantissa: down to 2^-15 of the largest
 *   unsigned  5 bits of exponent, 3 of mantissa: down to 2^-31
 * 0 is zero; the highest code is absmax itself. Rounding is by chance: averages
 * that move by a thousandth a step would never leave their code otherwise. What
 * is unsigned and not zero never becomes zero: it is a denominator.
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
/* `chance`: 16 bits. A finite number stays one. */
MO_INLINE uint16_t mo_to_bf16_by_chance(float x, uint32_t chance) {
    uint32_t bits = mo_bits(x), top = (bits & 0x7fff0000u) == 0x7f7f0000u;
    uint32_t moved = (bits + (top ? 0 : chance & 0xffffu)) >> 16;
    uint32_t special = (bits >> 16) | ((bits & 0xffffu) != 0 ? 1u : 0u);
    return (uint16_t)((bits & 0x7f800000u) == 0x7f800000u ? special : moved);
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

#define MO_Q8_TOP 1.875f /* what absmax is scaled to: the largest below 2 with 3 bits */
enum {
    MO_Q8_SIGNED_BASE = 112 << 3,  /* the exponent and mantissa of code 0 */
    MO_Q8_UNSIGNED_BASE = 96 << 3, /* likewise */
};

/* What to multiply by on the way in; 0 where the block is as good as zero. */
MO_INLINE float mo_q8_scale(float absmax) {
    return absmax > 0x1p-120f ? MO_Q8_TOP / absmax : 0;
}

/* `scale` is absmax / MO_Q8_TOP. */
MO_INLINE float mo_from_q8_signed(uint8_t q, float scale) {
    uint32_t code = q & 0x7fu, sign = (uint32_t)(q & 0x80u) << 24;
    uint32_t bits = code == 0 ? 0 : (code + MO_Q8_SIGNED_BASE) << 20;
    return mo_float(bits | sign) * scale;
}
MO_INLINE float mo_from_q8_unsigned(uint8_t q, float scale) {
    uint32_t code = q;
    return mo_float(code == 0 ? 0 : (code + MO_Q8_UNSIGNED_BASE) << 20) * scale;
}
/* `chance`: 20 bits. */
MO_INLINE uint8_t mo_to_q8_signed(float x, float scale, uint32_t chance) {
    uint32_t bits = mo_bits(x * scale);
    int32_t code = (int32_t)(((bits & 0x7fffffffu) + (chance & 0xfffffu)) >> 20);
    code -= MO_Q8_SIGNED_BASE;
    code = code < 0 ? 0 : code > 0x7f ? 0x7f : code;
    return (uint8_t)((uint32_t)code | ((bits >> 24) & 0x80u));
}
MO_INLINE uint8_t mo_to_q8_unsigned(float x, float scale, uint32_t chance) {
    uint32_t bits = mo_bits(x * scale);
    int32_t code = (int32_t)(((bits & 0x7fffffffu) + (chance & 0xfffffu)) >> 20);
    code -= MO_Q8_UNSIGNED_BASE;
    code = code < 1 ? 1 : code > 0xff ? 0xff : code;
    return (uint8_t)((bits & 0x7fffffffu) == 0 ? 0 : code);
}

#endif
