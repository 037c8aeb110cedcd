/*
 * target.c - see target.h.
 *
 *   1. ELF: headers, loader, needed libraries, symbols
 *   2. set-uid and capabilities
 *   3. scripts and the search path
 *   4. what is preloaded
 *   5. what to say
 */
#include "core/launch/target.h"
#include "core/base/error.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---------------------------------------------------------------- 1. ELF */

/* The header of the memopt command itself: what a native program looks like.
 * The linker defines it. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));

struct image {
    const unsigned char *bytes;
    size_t size;
};

/* `count` things of `size` bytes at `offset`, or NULL if they are not all there
 * or not aligned for their type. */
static const void *at(const struct image *image, uint64_t offset, uint64_t count, uint64_t size,
                      size_t alignment) {
    if (offset > image->size || (size != 0 && count > (image->size - offset) / size))
        return NULL;
    const unsigned char *p = image->bytes + offset;
    return (uintptr_t)p % alignment != 0 ? NULL : p;
}

/* A NUL-ended string that begins at `offset` of a table within the image. */
static const char *string_at(const struct image *image, uint64_t table, uint64_t table_size,
                             uint64_t offset) {
    const char *strings = at(image, table, 1, table_size, 1);
    if (strings == NULL || offset >= table_size ||
        memchr(strings + offset, '\0', table_size - offset) == NULL)
        return "";
    return strings + offset;
}

static const char *machine_name(unsigned machine, unsigned class) {
    switch (machine) {
    case EM_386:
        return "32-bit x86";
    case EM_X86_64:
        return class == ELFCLASS32 ? "x32" : "x86-64";
    case EM_ARM:
        return "32-bit ARM";
    case EM_AARCH64:
        return "AArch64";
    case EM_RISCV:
        return class == ELFCLASS32 ? "32-bit RISC-V" : "64-bit RISC-V";
    case EM_PPC:
        return "32-bit PowerPC";
    case EM_PPC64:
        return "64-bit PowerPC";
    case EM_S390:
        return "s390";
    case EM_MIPS:
        return "MIPS";
    case EM_LOONGARCH:
        return "LoongArch";
    default:
        return NULL;
    }
}

static int is_foreign(const struct image *image, struct mo_target *target) {
    const ElfW(Ehdr) *header = (const void *)image->bytes;
    const ElfW(Ehdr) *native = (const void *)__ehdr_start;
    if (header->e_ident[EI_CLASS] == native->e_ident[EI_CLASS] &&
        header->e_ident[EI_DATA] == native->e_ident[EI_DATA] &&
        header->e_machine == native->e_machine)
        return 0;
    unsigned machine = header->e_machine;
    if (header->e_ident[EI_DATA] != native->e_ident[EI_DATA])
        machine = (machine >> 8 | machine << 8) & 0xffff;
    const char *name = machine_name(machine, header->e_ident[EI_CLASS]);
    if (name != NULL)
        snprintf(target->detail, sizeof(target->detail), "%s", name);
    else
        snprintf(target->detail, sizeof(target->detail), "machine %u", machine);
    return 1;
}

/* The dynamic section: which strings it names. */
struct dynamic {
    const ElfW(Dyn) * entries;
    size_t count;
    uint64_t strings, strings_size; /* in the file */
};

static uint64_t file_offset(const ElfW(Phdr) * segments, size_t count, uint64_t address) {
    for (size_t i = 0; i < count; i++)
        if (segments[i].p_type == PT_LOAD && address >= segments[i].p_vaddr &&
            address - segments[i].p_vaddr < segments[i].p_filesz)
            return segments[i].p_offset + (address - segments[i].p_vaddr);
    return UINT64_MAX;
}

static void read_dynamic(const struct image *image, const ElfW(Phdr) * segments, size_t count,
                         struct dynamic *dynamic) {
    memset(dynamic, 0, sizeof(*dynamic));
    for (size_t i = 0; i < count; i++) {
        if (segments[i].p_type != PT_DYNAMIC)
            continue;
        size_t entries = segments[i].p_filesz / sizeof(ElfW(Dyn));
        dynamic->entries =
            at(image, segments[i].p_offset, entries, sizeof(ElfW(Dyn)), _Alignof(ElfW(Dyn)));
        dynamic->count = dynamic->entries == NULL ? 0 : entries;
    }
    for (size_t i = 0; i < dynamic->count && dynamic->entries[i].d_tag != DT_NULL; i++) {
        if (dynamic->entries[i].d_tag == DT_STRTAB)
            dynamic->strings = file_offset(segments, count, dynamic->entries[i].d_un.d_ptr);
        if (dynamic->entries[i].d_tag == DT_STRSZ)
            dynamic->strings_size = dynamic->entries[i].d_un.d_val;
    }
}

static enum mo_sanitizer sanitizer_of_symbol(const char *name) {
    if (name[0] != '_' || name[1] != '_')
        return MO_SANITIZER_NONE;
    for (size_t i = 0; i < MO_SANITIZERS; i++)
        if (strcmp(name, mo_sanitizers[i].symbol) == 0)
            return mo_sanitizers[i].sanitizer;
    return MO_SANITIZER_NONE;
}

/* Libraries that have, besides malloc, functions of their own by other names. What those
 * hand out only the library can free, and what they are given must be its. A function
 * counts if it begins with `prefix` and has one of `parts` in it (without a prefix: is
 * one of them); others (mallctl, mi_version) do no harm on another malloc. */
static const struct {
    const char *library, *allocator, *prefix;
    const char *parts[8];
} own_apis[] = {
    {"libjemalloc",
     "jemalloc",
     "",
     {"mallocx", "rallocx", "xallocx", "sallocx", "dallocx", "sdallocx"}},
    {"libmimalloc",
     "mimalloc",
     "mi_",
     {"alloc", "free", "new", "dup", "realpath", "expand", "memalign", "_size"}},
    {"libtcmalloc", "tcmalloc", "tc_", {"alloc", "free", "new", "delete", "memalign"}},
};
enum { OWN_APIS = sizeof(own_apis) / sizeof(own_apis[0]) };

static int is_own_call(const char *name, size_t api) {
    /* these only ask and set */
    static const char *const harmless[] = {"mi_good_size",      "mi_malloc_good_size",
                                           "tc_nallocx",        "tc_malloc_stats",
                                           "tc_query_new_mode", "tc_set_new_mode"};
    if (strncmp(name, own_apis[api].prefix, strlen(own_apis[api].prefix)) != 0)
        return 0;
    for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
        if (strcmp(name, harmless[i]) == 0)
            return 0;
    for (size_t i = 0; i < 8 && own_apis[api].parts[i] != NULL; i++) {
        const char *part = own_apis[api].parts[i];
        if (own_apis[api].prefix[0] == '\0' ? strcmp(name, part) == 0 : strstr(name, part) != NULL)
            return 1;
    }
    return 0;
}

struct symbols {
    int defines_malloc;
    unsigned forms_of_new; /* a bit each: operators[] */
    enum mo_sanitizer sanitizer;
    const char *allocator;           /* a guess by its own names, or NULL */
    const char *own_calls[OWN_APIS]; /* one that is called, of each of own_apis[]; or NULL */
};

/* new, delete and what the C++ run-time makes of them */
static const char *const operators[] = {
    "_Znwm",   "_Znam",   "_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t", "_ZdlPv", "_ZdaPv",
    "_ZdlPvm", "_ZdaPvm",
};
enum { OPERATORS = sizeof(operators) / sizeof(operators[0]) };

/* `weak`: it may be missing, so the program has looked before it calls it. */
static void look_at_symbol(const char *name, int defined, int weak, struct symbols *found) {
    static const struct {
        const char *symbol, *allocator;
    } known[] = {{"mallctl", "jemalloc"},         {"_rjem_mallctl", "jemalloc"},
                 {"tc_malloc", "tcmalloc"},       {"mi_malloc", "mimalloc"},
                 {"rpmalloc", "rpmalloc"},        {"snmalloc_check_bounds", "snmalloc"},
                 {"scalable_malloc", "tbbmalloc"}};
    enum mo_sanitizer sanitizer = sanitizer_of_symbol(name);
    if (sanitizer != MO_SANITIZER_NONE)
        found->sanitizer = sanitizer;
    for (size_t i = 0; i < OWN_APIS && !defined && !weak; i++)
        if (is_own_call(name, i))
            found->own_calls[i] = name;
    if (!defined)
        return;
    if (strcmp(name, "malloc") == 0 || strcmp(name, "free") == 0)
        found->defines_malloc = 1;
    for (unsigned i = 0; i < OPERATORS; i++)
        if (strcmp(name, operators[i]) == 0)
            found->forms_of_new |= 1u << i;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(name, known[i].symbol) == 0)
            found->allocator = known[i].allocator;
}

static void look_at_table(const struct image *image, uint64_t symbols, uint64_t count,
                          uint64_t strings, uint64_t strings_size, struct symbols *found) {
    const ElfW(Sym) *table = at(image, symbols, count, sizeof(ElfW(Sym)), _Alignof(ElfW(Sym)));
    for (uint64_t i = 1; table != NULL && i < count; i++)
        look_at_symbol(string_at(image, strings, strings_size, table[i].st_name),
                       table[i].st_shndx != SHN_UNDEF, ELF64_ST_BIND(table[i].st_info) == STB_WEAK,
                       found);
}

/* Through the section headers: `type` SHT_DYNSYM or SHT_SYMTAB. Returns whether
 * there was such a section. */
static int look_at_sections(const struct image *image, uint32_t type, struct symbols *found) {
    const ElfW(Ehdr) *header = (const void *)image->bytes;
    const ElfW(Shdr) *sections =
        at(image, header->e_shoff, header->e_shnum, sizeof(ElfW(Shdr)), _Alignof(ElfW(Shdr)));
    int there = 0;
    if (sections == NULL || header->e_shoff == 0 || header->e_shentsize != sizeof(ElfW(Shdr)))
        return 0;
    for (size_t i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != type || sections[i].sh_link >= header->e_shnum)
            continue;
        const ElfW(Shdr) *strings = &sections[sections[i].sh_link];
        there = 1;
        look_at_table(image, sections[i].sh_offset, sections[i].sh_size / sizeof(ElfW(Sym)),
                      strings->sh_offset, strings->sh_size, found);
    }
    return there;
}

/* Without section headers, as the loader does: the symbol table's length is
 * what lies before the string table, which linkers put right behind it. */
static void look_at_dynamic(const struct image *image, const struct dynamic *dynamic,
                            const ElfW(Phdr) * segments, size_t segment_count,
                            struct symbols *found) {
    for (size_t i = 0; i < dynamic->count && dynamic->entries[i].d_tag != DT_NULL; i++) {
        if (dynamic->entries[i].d_tag != DT_SYMTAB)
            continue;
        uint64_t symbols = file_offset(segments, segment_count, dynamic->entries[i].d_un.d_ptr);
        if (symbols < dynamic->strings)
            look_at_table(image, symbols, (dynamic->strings - symbols) / sizeof(ElfW(Sym)),
                          dynamic->strings, dynamic->strings_size, found);
    }
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* The loader an image asks for, or NULL. */
static const char *loader_of(const struct image *image, const ElfW(Phdr) * segments, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (segments[i].p_type == PT_INTERP) {
            const char *name = string_at(image, segments[i].p_offset, segments[i].p_filesz, 0);
            return name[0] == '\0' ? NULL : name;
        }
    return NULL;
}

/* The loader memopt itself runs under: one of the same name has our C library. */
static const char *own_loader(void) {
    const ElfW(Ehdr) *header = (const void *)__ehdr_start;
    const ElfW(Phdr) *segments = (const void *)(__ehdr_start + header->e_phoff);
    for (size_t i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_INTERP)
            return __ehdr_start + segments[i].p_offset;
    return "";
}

/* Libraries that replace malloc for whoever links with them. */
static const char *const mallocs[] = {"libjemalloc", "libtcmalloc",       "libmimalloc",
                                      "libsnmalloc", "librpmalloc",       "libhoard",
                                      "libscudo",    "libtbbmalloc_proxy"};

int mo_target_examine_elf(const void *bytes, size_t size, struct mo_target *target,
                          struct memopt_error *error) {
    struct image image = {bytes, size};
    target->obstacle = MO_OBSTACLE_NONE;
    target->sanitizer = MO_SANITIZER_NONE;
    target->detail[0] = '\0';
    target->part_of_new = 0;
    target->links_malloc[0] = target->own_call[0] = '\0';
    target->own_allocator = NULL;
    if (size < sizeof(ElfW(Ehdr)) || memcmp(bytes, ELFMAG, SELFMAG) != 0)
        return mo_fail(error, -ENOEXEC, "not an ELF file, or cut short");
    if (is_foreign(&image, target)) {
        target->obstacle = MO_OBSTACLE_FOREIGN;
        return 0;
    }
    const ElfW(Ehdr) *header = bytes;
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
        return mo_fail(error, -ENOEXEC, "an ELF file, but no executable");
    const ElfW(Phdr) *segments =
        at(&image, header->e_phoff, header->e_phnum, sizeof(ElfW(Phdr)), _Alignof(ElfW(Phdr)));
    if (segments == NULL || header->e_phentsize != sizeof(ElfW(Phdr)))
        return mo_fail(error, -ENOEXEC, "an ELF file, but its program headers are damaged");
    size_t count = header->e_phnum;
    struct dynamic dynamic;
    read_dynamic(&image, segments, count, &dynamic);
    struct symbols found = {0};
    const char *soname = "";
    for (size_t i = 0; i < dynamic.count && dynamic.entries[i].d_tag != DT_NULL; i++) {
        const char *name =
            string_at(&image, dynamic.strings, dynamic.strings_size, dynamic.entries[i].d_un.d_val);
        if (dynamic.entries[i].d_tag == DT_SONAME)
            soname = name;
        if (dynamic.entries[i].d_tag != DT_NEEDED)
            continue;
        enum mo_sanitizer sanitizer = mo_sanitizer_of_library(name);
        if (sanitizer != MO_SANITIZER_NONE)
            found.sanitizer = sanitizer;
        for (size_t j = 0; j < sizeof(mallocs) / sizeof(mallocs[0]); j++)
            if (strncmp(name, mallocs[j], strlen(mallocs[j])) == 0)
                snprintf(target->links_malloc, sizeof(target->links_malloc), "%s", name);
    }
    const char *loader = loader_of(&image, segments, count);
    /* the loader itself, started by hand, preloads like any program */
    int is_loader = strcmp(soname, base_name(own_loader())) == 0 && soname[0] != '\0';
    if (!look_at_sections(&image, SHT_DYNSYM, &found))
        look_at_dynamic(&image, &dynamic, segments, count, &found);
    /* A sanitizer that was linked statically may keep its own names to itself,
     * but not malloc; only then is the large table worth a look. */
    if ((found.defines_malloc || loader == NULL) && found.sanitizer == MO_SANITIZER_NONE &&
        !is_loader)
        look_at_sections(&image, SHT_SYMTAB, &found);

    for (size_t i = 0; i < OWN_APIS; i++)
        if (found.own_calls[i] != NULL &&
            strncmp(target->links_malloc, own_apis[i].library, strlen(own_apis[i].library)) == 0) {
            snprintf(target->own_call, sizeof(target->own_call), "%s", found.own_calls[i]);
            target->own_allocator = own_apis[i].allocator;
        }
    target->part_of_new = found.forms_of_new != 0 && found.forms_of_new != (1u << OPERATORS) - 1;
    if (found.sanitizer != MO_SANITIZER_NONE) {
        target->obstacle = MO_OBSTACLE_SANITIZED;
        target->sanitizer = found.sanitizer;
    } else if (is_loader) {
        target->obstacle = MO_OBSTACLE_NONE;
    } else if (loader == NULL) {
        target->obstacle = MO_OBSTACLE_STATIC;
    } else if (strcmp(base_name(loader), base_name(own_loader())) != 0) {
        target->obstacle = MO_OBSTACLE_OTHER_LIBC;
        snprintf(target->detail, sizeof(target->detail), "%s", base_name(loader));
    } else if (found.defines_malloc) {
        target->obstacle = MO_OBSTACLE_OWN_MALLOC;
        snprintf(target->detail, sizeof(target->detail), "%s",
                 found.allocator == NULL ? "" : found.allocator);
    }
    return 0;
}

/* ------------------------------------------- 2. set-uid and capabilities */

int mo_target_is_secure(const struct mo_identity *who, uid_t owner, gid_t group, mode_t mode,
                        int nosuid, const void *capabilities, size_t capabilities_size) {
    uid_t euid = who->euid;
    gid_t egid = who->egid;
    int honoured = !nosuid && !who->no_new_privileges;
    if (honoured && (mode & S_ISUID) != 0)
        euid = owner;
    /* without the group's x bit, S_ISGID once meant mandatory locking */
    if (honoured && (mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
        egid = group;
    if (euid != who->uid || egid != who->gid)
        return 1;
    /* file capabilities: nothing for a real root, who had them all along */
    if (!honoured || who->uid == 0 || capabilities_size < sizeof(uint32_t) * 3)
        return 0;
    uint32_t words[5] = {0};
    memcpy(words, capabilities,
           capabilities_size < sizeof(words) ? capabilities_size : sizeof(words));
    /* little-endian: magic and flags, then permitted and inheritable, twice */
    unsigned char effective = ((const unsigned char *)words)[0] & VFS_CAP_FLAGS_EFFECTIVE;
    return effective != 0 || words[1] != 0 || words[3] != 0;
}

static int is_secure(const char *path, const struct stat *status) {
    struct mo_identity who = {
        .uid = getuid(),
        .euid = geteuid(),
        .gid = getgid(),
        .egid = getegid(),
        .no_new_privileges = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1,
    };
    struct statvfs mount;
    int nosuid = statvfs(path, &mount) == 0 && (mount.f_flag & ST_NOSUID) != 0;
    unsigned char capabilities[64];
    ssize_t size = getxattr(path, "security.capability", capabilities, sizeof(capabilities));
    return mo_target_is_secure(&who, status->st_uid, status->st_gid, status->st_mode, nosuid,
                               capabilities, size < 0 ? 0 : (size_t)size);
}

/* ------------------------------------------- 3. scripts and the search path */

enum { FIRST_LINE = 256, DEEPEST = 5 }; /* the kernel's own bounds for "#!" */

static int examine(const char *path, int depth, struct mo_target *target,
                   struct memopt_error *error);

/* As execvp(): a name with a slash is a path; else the first match that may be
 * executed, and EACCES only if there was none. */
static int find(const char *name, const char *search, char path[PATH_MAX],
                struct memopt_error *error) {
    if (name[0] == '\0')
        return mo_fail(error, -ENOENT, "the program's name is empty");
    if (strchr(name, '/') != NULL) {
        if (snprintf(path, PATH_MAX, "%s", name) >= PATH_MAX)
            return mo_fail(error, -ENAMETOOLONG, "'%.64s…': the name is too long", name);
        if (access(path, F_OK) != 0)
            return mo_fail(error, errno == ENOTDIR ? -ENOENT : -errno, "'%s': %s", name,
                           errno == EACCES ? "permission denied on the way to it"
                                           : strerror(errno == ENOTDIR ? ENOENT : errno));
        return 0;
    }
    int denied = 0;
    for (const char *part = search == NULL ? "/bin:/usr/bin" : search;;) {
        size_t length = strcspn(part, ":");
        int needed = length == 0 ? snprintf(path, PATH_MAX, "./%s", name)
                                 : snprintf(path, PATH_MAX, "%.*s/%s", (int)length, part, name);
        struct stat status;
        if (needed < PATH_MAX && stat(path, &status) == 0) {
            if (S_ISREG(status.st_mode) && access(path, X_OK) == 0)
                return 0;
            denied = 1;
        }
        if (part[length] == '\0')
            break;
        part += length + 1;
    }
    if (denied)
        return mo_fail(error, -EACCES, "'%s' is on the path, but not as an executable file", name);
    return mo_fail(error, -ENOENT, "there is no program '%s' on the path", name);
}

/* The next word of a "#!" line, cut off in place; NULL: no more. */
static char *next_word(char **line) {
    *line += strspn(*line, " \t");
    if (**line == '\0')
        return NULL;
    char *word = *line;
    *line += strcspn(*line, " \t");
    if (**line != '\0')
        *(*line)++ = '\0';
    return word;
}

static int examine_script(const char *script, char *line, int depth, struct mo_target *target,
                          struct memopt_error *error) {
    char *interpreter = next_word(&line);
    if (interpreter == NULL)
        return mo_fail(error, -ENOEXEC, "'%s' begins with '#!' but names no interpreter", script);
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s", interpreter);
    /* env looks for the next word that is neither an option nor a variable */
    if (strcmp(base_name(interpreter), "env") == 0) {
        char *word;
        while ((word = next_word(&line)) != NULL && (word[0] == '-' || strchr(word, '=') != NULL))
            if (strcmp(word, "-u") == 0 || strcmp(word, "-C") == 0)
                next_word(&line);
        if (word == NULL || find(word, getenv("PATH"), path, NULL) != 0)
            snprintf(path, sizeof(path), "%s", interpreter);
    }
    if (access(path, F_OK) != 0)
        return mo_fail(error, -ENOEXEC, "'%s' is a script whose interpreter '%s' is not there",
                       script, path);
    if (depth >= DEEPEST)
        return mo_fail(error, -ELOOP, "'%s': scripts that interpret scripts, more than %d deep",
                       script, DEEPEST);
    return examine(path, depth + 1, target, error);
}

static int examine_elf_file(const char *path, int fd, const struct stat *status,
                            struct mo_target *target, struct memopt_error *error) {
    size_t size = (size_t)status->st_size;
    void *image = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (image == MAP_FAILED)
        return mo_fail(error, -errno, "can't read '%s': %s", path, strerror(errno));
    int r = mo_target_examine_elf(image, size, target, error);
    munmap(image, size);
    if (r < 0)
        return mo_error_prefix(error, "'%s' can't be executed", path);
    if (target->obstacle != MO_OBSTACLE_FOREIGN && is_secure(path, status)) {
        target->obstacle = MO_OBSTACLE_SECURE;
        snprintf(target->detail, sizeof(target->detail), "%s",
                 (status->st_mode & S_ISUID) != 0   ? "set-uid"
                 : (status->st_mode & S_ISGID) != 0 ? "set-gid"
                                                    : "privileged by file capabilities");
    }
    return 0;
}

static int examine(const char *path, int depth, struct mo_target *target,
                   struct memopt_error *error) {
    snprintf(target->binary, sizeof(target->binary), "%s", path);
    target->obstacle = MO_OBSTACLE_NONE;
    struct stat status;
    if (stat(path, &status) != 0)
        return mo_fail(error, -errno, "'%s': %s", path, strerror(errno));
    if (S_ISDIR(status.st_mode))
        return mo_fail(error, -EISDIR, "'%s' is a directory", path);
    if (!S_ISREG(status.st_mode))
        return mo_fail(error, -EACCES, "'%s' is not a regular file", path);
    if (access(path, X_OK) != 0)
        return mo_fail(error, -EACCES, "'%s' is not executable for you (chmod +x would make it so)",
                       path);
    mo_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        /* may be executed but not read: only the kernel can say what it is */
        if (is_secure(path, &status)) {
            target->obstacle = MO_OBSTACLE_SECURE;
            snprintf(target->detail, sizeof(target->detail), "set-uid");
        }
        return 0;
    }
    char line[FIRST_LINE + 1];
    ssize_t length = pread(fd, line, FIRST_LINE, 0);
    if (length < 0)
        return mo_fail(error, -errno, "can't read '%s': %s", path, strerror(errno));
    line[length] = '\0';
    if (length >= SELFMAG && memcmp(line, ELFMAG, SELFMAG) == 0)
        return examine_elf_file(path, fd, &status, target, error);
    if (length >= 2 && line[0] == '#' && line[1] == '!') {
        char *text = line + 2;
        text[strcspn(text, "\n")] = '\0';
        return examine_script(path, text, depth, target, error);
    }
    /* no magic number: a text goes to the shell, as execvp() has it; a NUL in
     * the first line is no text, and the kernel may know it (binfmt_misc) */
    size_t first = 0;
    while (first < (size_t)length && line[first] != '\n' && line[first] != '\0')
        first++;
    if (first < (size_t)length && line[first] == '\0') {
        target->obstacle = MO_OBSTACLE_FORMAT;
        return 0;
    }
    if (depth > 0)
        return mo_fail(error, -ENOEXEC, "'%s' is an interpreter, but no program", path);
    target->needs_shell = 1;
    return examine("/bin/sh", depth + 1, target, error);
}

/* memopt run 'sort in.txt': what only a shell takes apart. */
static void suggest_shell(const char *name, struct memopt_error *error) {
    char quoted[256];
    size_t used = 0;
    if (name[strcspn(name, " \t\n|&;<>()$`*?~")] == '\0')
        return;
    for (const char *c = name; *c != '\0'; c++) {
        size_t needed = *c == '\'' ? 4 : 1;
        if (used + needed >= sizeof(quoted))
            return;
        memcpy(quoted + used, *c == '\'' ? "'\\''" : c, needed);
        used += needed;
    }
    quoted[used] = '\0';
    mo_error_hint(error, "a command line in one word needs a shell: sh -c '%s'", quoted);
}

int mo_target_find(const char *name, const char *search, struct mo_target *ret_target,
                   struct memopt_error *error) {
    struct mo_target target = {.needs_shell = 0};
    int r = find(name, search, target.path, error);
    if (r == -ENOENT)
        suggest_shell(name, error);
    if (r < 0)
        return r;
    r = examine(target.path, 0, &target, error);
    if (r < 0)
        return r == -ENOENT ? -EACCES : r;
    *ret_target = target;
    return 0;
}

/* ---------------------------------------------------- 4. what is preloaded */

static int has_malloc(const char *path) {
    struct stat status;
    mo_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) ||
        status.st_size < (off_t)sizeof(ElfW(Ehdr)))
        return 0;
    size_t size = (size_t)status.st_size;
    void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return 0;
    struct image image = {bytes, size};
    struct mo_target target;
    struct symbols found = {0};
    const ElfW(Ehdr) *header = bytes;
    const ElfW(Phdr) *segments = NULL;
    if (memcmp(bytes, ELFMAG, SELFMAG) == 0 && !is_foreign(&image, &target) &&
        header->e_type == ET_DYN && header->e_phentsize == sizeof(ElfW(Phdr)))
        segments =
            at(&image, header->e_phoff, header->e_phnum, sizeof(ElfW(Phdr)), _Alignof(ElfW(Phdr)));
    if (segments != NULL && !look_at_sections(&image, SHT_DYNSYM, &found)) {
        struct dynamic dynamic;
        read_dynamic(&image, segments, header->e_phnum, &dynamic);
        look_at_dynamic(&image, &dynamic, segments, header->e_phnum, &found);
    }
    munmap(bytes, size);
    return found.defines_malloc;
}

int mo_target_library_has_malloc(const char *name, char path[PATH_MAX]) {
    if (strchr(name, '/') != NULL)
        return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX && has_malloc(path);
    /* the directories that memopt's own loader searches: LD_LIBRARY_PATH, the system's */
    void *self = dlopen(NULL, RTLD_LAZY);
    Dl_serinfo size;
    if (self == NULL || dlinfo(self, RTLD_DI_SERINFOSIZE, &size) != 0)
        return 0;
    mo_auto_free Dl_serinfo *places = malloc(size.dls_size);
    if (places == NULL)
        return 0;
    *places = size;
    if (dlinfo(self, RTLD_DI_SERINFO, places) != 0)
        return 0;
    for (unsigned i = 0; i < places->dls_cnt; i++)
        if (snprintf(path, PATH_MAX, "%s/%s", places->dls_serpath[i].dls_name, name) < PATH_MAX &&
            access(path, F_OK) == 0)
            return has_malloc(path);
    return 0;
}

/* ---------------------------------------------------------- 5. what to say */

void mo_target_explain(const struct mo_target *target, char *buffer, size_t size) {
    const char *what = target->binary, *detail = target->detail;
    buffer[0] = '\0';
    switch (target->obstacle) {
    case MO_OBSTACLE_NONE:
        break;
    case MO_OBSTACLE_STATIC:
        snprintf(buffer, size, "'%s' is statically linked, so nothing can be preloaded into it",
                 what);
        break;
    case MO_OBSTACLE_SECURE:
        snprintf(buffer, size, "'%s' is %s, so the loader preloads nothing into it", what, detail);
        break;
    case MO_OBSTACLE_FOREIGN:
        snprintf(buffer, size, "'%s' is a program for %s, and memopt's libraries are not", what,
                 detail);
        break;
    case MO_OBSTACLE_SANITIZED:
        snprintf(buffer, size, "'%s' is built with %s, whose allocator it must keep", what,
                 mo_sanitizer_name(target->sanitizer));
        break;
    case MO_OBSTACLE_OWN_MALLOC:
        snprintf(buffer, size, "'%s' brings an allocator of its own%s%s%s, which it must keep",
                 what, detail[0] != '\0' ? " (" : "", detail, detail[0] != '\0' ? ")" : "");
        break;
    case MO_OBSTACLE_OTHER_LIBC:
        snprintf(buffer, size,
                 "'%s' runs on another C library (%s), and memopt's libraries need glibc", what,
                 detail);
        break;
    case MO_OBSTACLE_FORMAT:
        snprintf(buffer, size, "'%s' is no ELF program", what);
        break;
    }
}
