/*
 * embedded.c - recognises a program that brings a malloc of its own: linked in
 * statically (rustc, fd, many databases), which the dynamic loader prefers to any
 * preloaded one; or in a library (redis), which comes before the C library.
 *
 * memopt run looks at the file before it starts one; this is for programs that
 * the program starts.
 */
#include "preload/process.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/auxv.h>

bool mo_program_has_malloc(void) {
    void *found = dlsym(RTLD_DEFAULT, "malloc");
    Dl_info where, program;
    const ElfW(Sym) *symbol = NULL;
    if (found == NULL || dladdr1(found, &where, (void **)&symbol, RTLD_DL_SYMENT) == 0 ||
        dladdr((void *)getauxval(AT_PHDR), &program) == 0)
        return false;
    /* A program that is linked to a fixed address and takes malloc's address has
     * an entry in its PLT stand for it: not a definition. */
    return where.dli_fbase == program.dli_fbase && symbol != NULL && symbol->st_shndx != SHN_UNDEF;
}

const char *mo_program_malloc_library(void) {
    /* Not RTLD_DEFAULT: that may be the entry in the executable's PLT. */
    void *found = dlsym(RTLD_NEXT, "malloc");
    Dl_info where;
    if (found == NULL || found == mo_libc_symbol("malloc") || mo_program_has_malloc() ||
        dladdr(found, &where) == 0)
        return NULL;
    return where.dli_fname;
}
