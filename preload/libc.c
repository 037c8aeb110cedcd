/*
 * libc.c - the C library's own symbols. RTLD_NEXT would give whatever comes next
 * in the program's scope, which may be an allocator that the program brings; dlopen()
 * allocates.
 */
#include "preload/object.h"
#include "preload/process.h"

#include <errno.h>
#include <gnu/lib-names.h>
#include <string.h>

struct search {
    const char *name;
    void *found;
};

static bool in_libc(const struct mo_object *object, void *context) {
    struct search *search = context;
    const char *slash = strrchr(object->name, '/');
    if (strcmp(slash == NULL ? object->name : slash + 1, LIBC_SO) != 0)
        return false;
    search->found = mo_object_symbol(object, search->name);
    return true;
}

void *mo_libc_symbol(const char *name) {
    struct search search = {name, NULL};
    mo_object_each(in_libc, &search);
    return search.found;
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
