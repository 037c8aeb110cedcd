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
        free(frames[i].function);
        free(frames[i].file);
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

/* "f", or "f in g" where f is inlined in g, and so on outwards; by the debug information, or
 * else the symbol's name. */
static int copy_function(Dwfl_Module *module, Dwarf_Addr address, char **ret_copy) {
    Dwarf_Addr bias;
    Dwarf_Die *unit = dwfl_module_addrdie(module, address, &bias), *inner = NULL, *scopes = NULL;
    char text[512] = "";
    size_t length = 0;
    int is_whole = 0;
    int count = unit == NULL ? 0 : dwarf_getscopes(unit, address - bias, &inner);
    /* what these are in is where they were written; what it is in now, another question */
    count = count <= 0 ? 0 : dwarf_getscopes_die(&inner[0], &scopes);
    for (int i = 0; i < count && !is_whole; i++) {
        int tag = dwarf_tag(&scopes[i]);
        const char *name = dwarf_diename(&scopes[i]);
        is_whole = tag == DW_TAG_subprogram;
        if ((is_whole || tag == DW_TAG_inlined_subroutine) && name != NULL && length < sizeof(text))
            length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%s",
                                       length > 0 ? " in " : "", name);
    }
    free(inner);
    free(scopes);
    return copy(length > 0 ? text : dwfl_module_addrname(module, address), ret_copy);
}

static int fill(Dwfl_Module *module, uint64_t offset, struct mo_symbol_frame *frame) {
    Dwfl_Line *line = dwfl_module_getsrc(module, offset);
    const char *file =
        line == NULL ? NULL : dwfl_lineinfo(line, NULL, &frame->line, NULL, NULL, NULL);
    if (file == NULL)
        frame->line = 0;
    int r = copy(file, &frame->file);
    return r < 0 ? r : copy_function(module, offset, &frame->function);
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
