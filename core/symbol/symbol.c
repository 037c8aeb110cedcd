/* symbol.c - see symbol.h. By libdwfl, of elfutils. */
#include "config.h"

#include "core/symbol/symbol.h"

#include "core/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void mo_symbol_release(struct mo_symbol_frame *frames, size_t count) {
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < frames[i].line_count; k++) {
            free(frames[i].lines[k].function);
            free(frames[i].lines[k].system_name);
            free(frames[i].lines[k].file);
        }
        frames[i] = (struct mo_symbol_frame){0};
    }
}

#ifdef HAVE_LIBDW
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>

/* The path is the watched program's word: no FIFO is waited for, and nobody else's file
 * is parsed. */
static int open_module(const char *path, struct memopt_error *error) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        int code = -errno;
        if (fd >= 0)
            close(fd);
        return mo_fail(error, code, "'%s': %s", path, strerror(-code));
    }
    int r = !S_ISREG(status.st_mode) ? -ENOEXEC
            : (status.st_uid != geteuid() && status.st_uid != 0) || (status.st_mode & S_IWOTH) != 0
                ? -EPERM
                : 0;
    if (r == 0)
        return fd;
    close(fd);
    return mo_fail(error, r, "'%s': %s", path,
                   r == -EPERM ? "anybody else may write it" : "not a regular file");
}

static int is_same(Dwfl_Module *module, const struct mo_symbol_module *wanted) {
    const unsigned char *id;
    GElf_Addr address;
    int size = dwfl_module_build_id(module, &id, &address);
    return (size > 0 ? (size_t)size : 0) == wanted->build_id_size &&
           (size <= 0 || memcmp(id, wanted->build_id, (size_t)size) == 0);
}

static int copy(const char *text, char **ret_copy) {
    return text == NULL || (*ret_copy = strdup(text)) != NULL ? 0 : -ENOMEM;
}

struct place {
    const char *file; /* NULL: not known */
    int line;
};

static int add_line(struct mo_symbol_frame *frame, const char *function, const char *system_name,
                    struct place place) {
    struct mo_symbol_line *line = &frame->lines[frame->line_count];
    if (frame->line_count == MO_SYMBOL_LINES)
        return 0;
    frame->line_count++;
    line->line = place.file == NULL ? 0 : place.line;
    int r = copy(function, &line->function);
    if (r == 0)
        r = copy(system_name, &line->system_name);
    return r < 0 ? r : copy(place.file, &line->file);
}

/* Of the linker, where it is not the one that was written. */
static const char *system_name_of(Dwarf_Die *die) {
    Dwarf_Attribute attribute;
    return dwarf_formstring(dwarf_attr_integrate(die, DW_AT_linkage_name, &attribute));
}

/* Where the code is that an inlined function's is in the place of. */
static struct place call_of(Dwarf_Die *unit, Dwarf_Die *inlined) {
    Dwarf_Attribute attribute;
    Dwarf_Word file, line;
    Dwarf_Files *files;
    size_t count;
    if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attribute), &file) != 0 ||
        dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attribute), &line) != 0 ||
        dwarf_getsrcfiles(unit, &files, &count) != 0 || file >= count || line > INT32_MAX)
        return (struct place){NULL, 0};
    return (struct place){dwarf_filesrc(files, file, NULL, NULL), (int)line};
}

/* By the debug information a line for the function, and before it for those that are inlined
 * in it; or else the symbol's name. */
static int fill(Dwfl_Module *module, uint64_t offset, struct mo_symbol_frame *frame) {
    struct place place = {NULL, 0};
    Dwfl_Line *line = dwfl_module_getsrc(module, offset);
    if (line != NULL)
        place.file = dwfl_lineinfo(line, NULL, &place.line, NULL, NULL, NULL);
    Dwarf_Addr bias;
    Dwarf_Die *unit = dwfl_module_addrdie(module, offset, &bias), *inner = NULL, *scopes = NULL;
    int count = unit == NULL ? 0 : dwarf_getscopes(unit, offset - bias, &inner);
    /* what these are in is where they were written; what it is in now, another question */
    count = count <= 0 ? 0 : dwarf_getscopes_die(&inner[0], &scopes);
    int r = 0, is_whole = 0;
    for (int i = 0; i < count && r == 0 && !is_whole; i++) {
        int tag = dwarf_tag(&scopes[i]);
        const char *name = dwarf_diename(&scopes[i]);
        is_whole = tag == DW_TAG_subprogram;
        if (!is_whole && tag != DW_TAG_inlined_subroutine)
            continue;
        if (name != NULL)
            r = add_line(frame, name, system_name_of(&scopes[i]), place);
        if (!is_whole)
            place = call_of(unit, &scopes[i]);
    }
    free(inner);
    free(scopes);
    const char *symbol =
        frame->line_count > 0 || r < 0 ? NULL : dwfl_module_addrname(module, offset);
    return symbol == NULL ? r : add_line(frame, symbol, symbol, place);
}

int mo_symbol_find(const struct mo_symbol_module *wanted, const uint64_t *offsets, size_t count,
                   struct mo_symbol_frame *ret_frames, struct memopt_error *error) {
    static char *standard_path;
    static const Dwfl_Callbacks callbacks = {
        .find_elf = dwfl_build_id_find_elf,
        .find_debuginfo = dwfl_standard_find_debuginfo,
        .section_address = dwfl_offline_section_address,
        .debuginfo_path = &standard_path,
    };
    int fd = open_module(wanted->path, error);
    if (fd < 0)
        return fd;
    unsetenv("DEBUGINFOD_URLS"); /* where libdwfl would look next */
    int r = 0;
    Dwfl *dwfl = dwfl_begin(&callbacks);
    Dwfl_Module *module = NULL;
    if (dwfl != NULL) {
        dwfl_report_begin(dwfl);
        module = dwfl_report_elf(dwfl, wanted->path, wanted->path, fd, 0, true);
        dwfl_report_end(dwfl, NULL, NULL);
    }
    if (module == NULL) {
        close(fd); /* else it is libdwfl's */
        r = mo_fail(error, -ENOEXEC, "'%s': %s", wanted->path, dwfl_errmsg(-1));
    } else if (!is_same(module, wanted)) {
        r = mo_fail(error, -ESTALE, "'%s' is not the file that it was", wanted->path);
    }
    memset(ret_frames, 0, count * sizeof(*ret_frames));
    for (size_t i = 0; i < count && r == 0; i++)
        r = fill(module, offsets[i], &ret_frames[i]);
    if (r == -ENOMEM) {
        mo_symbol_release(ret_frames, count);
        mo_fail(error, r, "out of memory");
    }
    dwfl_end(dwfl);
    return r;
}

#else

int mo_symbol_find(const struct mo_symbol_module *wanted, const uint64_t *offsets, size_t count,
                   struct mo_symbol_frame *ret_frames, struct memopt_error *error) {
    (void)wanted, (void)offsets;
    memset(ret_frames, 0, count * sizeof(*ret_frames));
    return mo_fail(error, -ENOTSUP, "built without libdw: no names of functions");
}

#endif
