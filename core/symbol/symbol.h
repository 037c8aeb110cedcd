/*
 * symbol.h - addresses in a module become functions, files and lines.
 *
 * A module is a file of machine code, a program or a shared library, as it was when it was
 * mapped: its path may lead to another file by now, which its build id tells. Debug
 * information is taken from the file, or from where the system keeps it apart
 * (/usr/lib/debug); nothing is fetched from the net.
 *
 * Used by the memopt command only, never in the watched program: it opens files, allocates
 * and parses.
 */
#ifndef MO_SYMBOL_SYMBOL_H
#define MO_SYMBOL_SYMBOL_H

#include <memopt/error.h>
#include <stddef.h>
#include <stdint.h>

struct mo_symbol_module {
    const char *path;
    const unsigned char *build_id; /* of 0 bytes: it had none */
    size_t build_id_size;
};

/* What is there: a line for each function whose code it is, the innermost first, the last one
 * not inlined; none where it has no name. What is not known is NULL or 0. */
enum { MO_SYMBOL_LINES = 16 }; /* those further out are left out */
struct mo_symbol_frame {
    struct mo_symbol_line {
        char *function;    /* never NULL */
        char *system_name; /* the linker's, where the debug information has it */
        char *file;
        int line;
    } lines[MO_SYMBOL_LINES];
    size_t line_count;
};

/* frames[i] becomes what is at offsets[i], an address as the module's own symbols have them.
 * -ENOENT, -EACCES, …: the file can't be opened; -EPERM: it belongs to neither us nor root, or
 * all may write it; -ESTALE: it is another one; -ENOEXEC: it can't be read as a module;
 * -ENOTSUP: memopt was built without libdw. Then no frame is filled in. */
int mo_symbol_find(const struct mo_symbol_module *module, const uint64_t *offsets, size_t count,
                   struct mo_symbol_frame *ret_frames, struct memopt_error *error);
void mo_symbol_release(struct mo_symbol_frame *frames, size_t count);

#endif
