/*
 * libc.c - the C library's own symbols. RTLD_NEXT would give whatever comes next
 * in the program's scope, which may be an allocator that the program brings.
 */
#include "preload/process.h"

#include <dlfcn.h>
#include <errno.h>
#include <gnu/lib-names.h>

void *mo_libc_symbol(const char *name) {
    static void *handle;
    if (handle == NULL)
        handle = dlopen(LIBC_SO, RTLD_LAZY | RTLD_NOLOAD);
    return handle == NULL ? NULL : dlsym(handle, name);
}

int mo_libc_table(struct memopt_malloc *ret_table) {
    struct memopt_malloc table = {.size = sizeof(table)};
    static const struct {
        const char *name;
        size_t offset;
    } functions[] = {
        {"malloc", offsetof(struct memopt_malloc, malloc)},
        {"calloc", offsetof(struct memopt_malloc, calloc)},
        {"realloc", offsetof(struct memopt_malloc, realloc)},
        {"free", offsetof(struct memopt_malloc, free)},
        {"memalign", offsetof(struct memopt_malloc, aligned_alloc)},
        {"malloc_usable_size", offsetof(struct memopt_malloc, usable_size)},
    };
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *found = mo_libc_symbol(functions[i].name);
        if (found == NULL)
            return -ENOENT;
        *(void **)((char *)&table + functions[i].offset) = found;
    }
    *ret_table = table;
    return 0;
}
