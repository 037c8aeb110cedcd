/*
 * memopt/dtype.h - the types that the elements of a tensor can have.
 *
 * Names are those of the safetensors format. The values are part of the ABI; new
 * types are appended.
 *
 * Threads: any; signal handlers too. Names are constants.
 */
#ifndef MEMOPT_DTYPE_H
#define MEMOPT_DTYPE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MEMOPT_EXPORT
#define MEMOPT_EXPORT __attribute__((visibility("default")))
#endif

enum memopt_dtype {
    MEMOPT_DTYPE_BOOL = 1, /* a byte, 0 or 1 */
    MEMOPT_DTYPE_U8 = 2,
    MEMOPT_DTYPE_I8 = 3,
    MEMOPT_DTYPE_F8_E5M2 = 4,
    MEMOPT_DTYPE_F8_E4M3 = 5,
    MEMOPT_DTYPE_F8_E8M0 = 6,
    MEMOPT_DTYPE_F8_E4M3FNUZ = 7,
    MEMOPT_DTYPE_F8_E5M2FNUZ = 8,
    MEMOPT_DTYPE_I16 = 9,
    MEMOPT_DTYPE_U16 = 10,
    MEMOPT_DTYPE_F16 = 11,
    MEMOPT_DTYPE_BF16 = 12,
    MEMOPT_DTYPE_I32 = 13,
    MEMOPT_DTYPE_U32 = 14,
    MEMOPT_DTYPE_F32 = 15,
    MEMOPT_DTYPE_C64 = 16, /* two F32: real, imaginary */
    MEMOPT_DTYPE_F64 = 17,
    MEMOPT_DTYPE_I64 = 18,
    MEMOPT_DTYPE_U64 = 19,
};

/* Bytes an element has; 0: no such type. */
MEMOPT_EXPORT size_t memopt_dtype_size(int dtype);
/* "F32"; NULL: no such type. */
MEMOPT_EXPORT const char *memopt_dtype_name(int dtype);
/* The type of that name; -ENOENT: there is none. */
MEMOPT_EXPORT int memopt_dtype_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif
