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

/* What `name` is bound to in the program, and whether that is in the executable: as
 * its own definition, or, in a program that is linked to a fixed address and takes the
 * function's address, as an entry in its PLT which stands for it. */
enum where { ELSEWHERE, IN_PROGRAM, IN_ITS_PLT };

static void *look_up(const char *name, enum where *ret_where) {
    void *found = dlsym(RTLD_DEFAULT, name);
    Dl_info where, program;
    const ElfW(Sym) *symbol = NULL;
    *ret_where = ELSEWHERE;
    if (found != NULL && dladdr1(found, &where, (void **)&symbol, RTLD_DL_SYMENT) != 0 &&
        dladdr((void *)getauxval(AT_PHDR), &program) != 0 && where.dli_fbase == program.dli_fbase &&
        symbol != NULL)
        *ret_where = symbol->st_shndx != SHN_UNDEF ? IN_PROGRAM : IN_ITS_PLT;
    return found;
}

bool mo_program_has_malloc(void) {
    enum where where;
    look_up("malloc", &where);
    return where == IN_PROGRAM;
}

bool mo_program_calls(const char *name, const void *function) {
    enum where where;
    return look_up(name, &where) == function || where == IN_ITS_PLT;
}

static bool is_programs(const char *name) {
    enum where where;
    if (look_up(name, &where) == NULL)
        dlerror(); /* the program's own question may come next */
    return where == IN_PROGRAM;
}

/* The forms that come to differ most: arrays, and the sized delete that compilers call. */
bool mo_program_has_part_of_new(void) {
    return (is_programs("_Znwm") || is_programs("_ZdlPv")) &&
           !(is_programs("_Znam") && is_programs("_ZdlPvm"));
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
