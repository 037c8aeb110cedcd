/*
 * object.h - the objects of the process (the executable and its libraries) and what they
 * define, read from their own tables.
 *
 * dlsym() can't say which object after a given one defines a name, takes the loader's
 * lock, and gives an executable's PLT entry where a program at a fixed address takes a
 * function's address. This says only what an object really defines. It allocates
 * nothing and takes no lock but the one that dl_iterate_phdr() takes while objects are
 * added to the list.
 */
#ifndef MO_PRELOAD_OBJECT_H
#define MO_PRELOAD_OBJECT_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mo_object {
    const char *name; /* the path it was loaded from; "" for the executable */
    bool is_executable;
    uintptr_t base;
    const ElfW(Phdr) * segments;
    size_t segment_count;
    const ElfW(Sym) * symbols;
    const char *strings;
    const ElfW(Half) * versions; /* may be NULL */
    const uint32_t *gnu_hash;    /* one of the two, or neither: it defines nothing */
    const uint32_t *sysv_hash;
};

/* Calls `visit` for each object in the order in which the loader searches those that were
 * there at the start; what dlopen() has loaded comes after them. Stops when it returns
 * true, and returns that. */
bool mo_object_each(bool (*visit)(const struct mo_object *object, void *context), void *context);

/* The address of the function or variable that the object defines by this name, in its
 * default version; NULL: it defines none. */
void *mo_object_symbol(const struct mo_object *object, const char *name);

/* Whether the object has code or data at this address. */
bool mo_object_holds(const struct mo_object *object, const void *address);

#endif
