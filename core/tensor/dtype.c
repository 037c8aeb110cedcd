/* dtype.c - the table behind memopt/dtype.h. */
#include <memopt/dtype.h>

#include <errno.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [MEMOPT_DTYPE_BOOL] = {"BOOL", 1},
    [MEMOPT_DTYPE_U8] = {"U8", 1},
    [MEMOPT_DTYPE_I8] = {"I8", 1},
    [MEMOPT_DTYPE_F8_E5M2] = {"F8_E5M2", 1},
    [MEMOPT_DTYPE_F8_E4M3] = {"F8_E4M3", 1},
    [MEMOPT_DTYPE_F8_E8M0] = {"F8_E8M0", 1},
    [MEMOPT_DTYPE_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 1},
    [MEMOPT_DTYPE_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 1},
    [MEMOPT_DTYPE_I16] = {"I16", 2},
    [MEMOPT_DTYPE_U16] = {"U16", 2},
    [MEMOPT_DTYPE_F16] = {"F16", 2},
    [MEMOPT_DTYPE_BF16] = {"BF16", 2},
    [MEMOPT_DTYPE_I32] = {"I32", 4},
    [MEMOPT_DTYPE_U32] = {"U32", 4},
    [MEMOPT_DTYPE_F32] = {"F32", 4},
    [MEMOPT_DTYPE_C64] = {"C64", 8},
    [MEMOPT_DTYPE_F64] = {"F64", 8},
    [MEMOPT_DTYPE_I64] = {"I64", 8},
    [MEMOPT_DTYPE_U64] = {"U64", 8},
};
static const int type_count = sizeof(types) / sizeof(types[0]);

size_t memopt_dtype_size(int dtype) {
    return dtype > 0 && dtype < type_count ? types[dtype].size : 0;
}

const char *memopt_dtype_name(int dtype) {
    return dtype > 0 && dtype < type_count ? types[dtype].name : NULL;
}

int memopt_dtype_find(const char *name) {
    for (int i = 1; name != NULL && i < type_count; i++)
        if (strcmp(types[i].name, name) == 0)
            return i;
    return -ENOENT;
}
