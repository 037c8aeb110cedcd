/* test_target.c - what kind of program a file is, before it is started:
 * core/launch/target.h. ELF files are made here, byte by byte. */
#include "config.h"

#include "core/launch/plan.h"
#include "core/launch/target.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* --------------------------------------------------------- made-up ELF files */

/* The header of this program, by the linker: a native one. */
extern const char __ehdr_start[];

struct recipe {
    const char *interp;                    /* NULL: none */
    const char *needed;                    /* NULL: none */
    const char *defined[8], *undefined[2]; /* in .dynsym */
    const char *hidden;                    /* in .symtab only */
    const char *soname;
    int no_sections;
    int weak; /* the undefined ones */
};

struct file {
    ElfW(Ehdr) header;
    ElfW(Phdr) segments[3];
    ElfW(Dyn) dynamic[8];
    ElfW(Sym) symbols[11];
    char strings[512];
    ElfW(Sym) full[2];
    ElfW(Shdr) sections[5];
    char interp[64];
};

static ElfW(Word) add_string(struct file *file, size_t *used, const char *text) {
    size_t at = *used;
    assert_true(at + strlen(text) + 1 <= sizeof(file->strings));
    strcpy(file->strings + at, text);
    *used += strlen(text) + 1;
    return (ElfW(Word))at;
}

static void make(const struct recipe *recipe, struct file *file) {
    size_t strings = 1, segments = 0, entries = 0, symbols = 1;
    memset(file, 0, sizeof(*file));
    memcpy(&file->header, __ehdr_start, sizeof(file->header));
    file->header.e_type = ET_DYN;
    file->header.e_phoff = offsetof(struct file, segments);
    file->header.e_phentsize = sizeof(ElfW(Phdr));
    file->header.e_shoff = recipe->no_sections ? 0 : offsetof(struct file, sections);
    file->header.e_shentsize = sizeof(ElfW(Shdr));
    file->header.e_shnum = recipe->no_sections ? 0 : 5;
    file->segments[segments++] = (ElfW(Phdr)){
        .p_type = PT_LOAD, .p_offset = 0, .p_vaddr = 0x1000, .p_filesz = sizeof(*file)};
    file->segments[segments++] = (ElfW(Phdr)){.p_type = PT_DYNAMIC,
                                              .p_offset = offsetof(struct file, dynamic),
                                              .p_filesz = sizeof(file->dynamic)};
    if (recipe->interp != NULL) {
        strcpy(file->interp, recipe->interp);
        file->segments[segments++] = (ElfW(Phdr)){.p_type = PT_INTERP,
                                                  .p_offset = offsetof(struct file, interp),
                                                  .p_filesz = strlen(recipe->interp) + 1};
    }
    file->header.e_phnum = (ElfW(Half))segments;
    file->dynamic[entries++] =
        (ElfW(Dyn)){DT_STRTAB, {.d_ptr = 0x1000 + offsetof(struct file, strings)}};
    file->dynamic[entries++] = (ElfW(Dyn)){DT_STRSZ, {.d_val = sizeof(file->strings)}};
    file->dynamic[entries++] =
        (ElfW(Dyn)){DT_SYMTAB, {.d_ptr = 0x1000 + offsetof(struct file, symbols)}};
    if (recipe->needed != NULL)
        file->dynamic[entries++] =
            (ElfW(Dyn)){DT_NEEDED, {.d_val = add_string(file, &strings, recipe->needed)}};
    if (recipe->soname != NULL)
        file->dynamic[entries++] =
            (ElfW(Dyn)){DT_SONAME, {.d_val = add_string(file, &strings, recipe->soname)}};
    for (size_t i = 0; i < 8 && recipe->defined[i] != NULL; i++)
        file->symbols[symbols++] =
            (ElfW(Sym)){.st_name = add_string(file, &strings, recipe->defined[i]), .st_shndx = 1};
    for (size_t i = 0; i < 2 && recipe->undefined[i] != NULL; i++)
        file->symbols[symbols++] = (ElfW(Sym)){
            .st_name = add_string(file, &strings, recipe->undefined[i]),
            .st_info = (unsigned char)ELF64_ST_INFO(recipe->weak ? STB_WEAK : STB_GLOBAL, STT_FUNC),
            .st_shndx = SHN_UNDEF};
    file->sections[1] = (ElfW(Shdr)){.sh_type = SHT_DYNSYM,
                                     .sh_offset = offsetof(struct file, symbols),
                                     .sh_size = sizeof(file->symbols),
                                     .sh_link = 2};
    file->sections[2] = (ElfW(Shdr)){.sh_type = SHT_STRTAB,
                                     .sh_offset = offsetof(struct file, strings),
                                     .sh_size = sizeof(file->strings)};
    if (recipe->hidden != NULL) {
        file->full[1] =
            (ElfW(Sym)){.st_name = add_string(file, &strings, recipe->hidden), .st_shndx = 1};
        file->sections[3] = (ElfW(Shdr)){.sh_type = SHT_SYMTAB,
                                         .sh_offset = offsetof(struct file, full),
                                         .sh_size = sizeof(file->full),
                                         .sh_link = 2};
    }
}

static const char *own_interp(void) {
    static char interp[64];
    const ElfW(Ehdr) *header = (const void *)__ehdr_start;
    const ElfW(Phdr) *segments = (const void *)(__ehdr_start + header->e_phoff);
    for (size_t i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_INTERP)
            snprintf(interp, sizeof(interp), "%s", __ehdr_start + segments[i].p_offset);
    return interp;
}

static void test_elf_kinds(void **state) {
    (void)state;
    const char *interp = own_interp();
    const char *loader = strrchr(interp, '/') + 1;
    const struct {
        const char *name;
        struct recipe recipe;
        enum mo_obstacle obstacle;
        enum mo_sanitizer sanitizer;
        const char *detail;
    } cases[] = {
        {"plain", {.interp = interp, .undefined = {"malloc", "free"}}, MO_OBSTACLE_NONE, 0, ""},
        {"plain, no sections", {.interp = interp, .no_sections = 1}, MO_OBSTACLE_NONE, 0, ""},
        {"glibc elsewhere",
         {.interp = "/nix/store/x/lib/ld-linux-x86-64.so.2"},
#ifdef __x86_64__
         MO_OBSTACLE_NONE,
         0,
         ""},
#else
         MO_OBSTACLE_OTHER_LIBC,
         0,
         "ld-linux-x86-64.so.2"},
#endif
        {"static", {.interp = NULL}, MO_OBSTACLE_STATIC, 0, ""},
        {"the loader itself", {.soname = loader}, MO_OBSTACLE_NONE, 0, ""},
        {"musl",
         {.interp = "/lib/ld-musl-x86_64.so.1"},
         MO_OBSTACLE_OTHER_LIBC,
         0,
         "ld-musl-x86_64.so.1"},
        {"gcc asan",
         {.interp = interp, .needed = "libasan.so.8"},
         MO_OBSTACLE_SANITIZED,
         MO_SANITIZER_ADDRESS,
         ""},
        {"clang shared asan",
         {.interp = interp, .needed = "libclang_rt.asan-x86_64.so"},
         MO_OBSTACLE_SANITIZED,
         MO_SANITIZER_ADDRESS,
         ""},
        {"clang asan",
         {.interp = interp, .defined = {"__asan_init", "malloc"}},
         MO_OBSTACLE_SANITIZED,
         MO_SANITIZER_ADDRESS,
         ""},
        {"gcc asan, static",
         {.interp = interp, .defined = {"malloc"}, .hidden = "__asan_init"},
         MO_OBSTACLE_SANITIZED,
         MO_SANITIZER_ADDRESS,
         ""},
        {"tsan",
         {.interp = interp, .needed = "libtsan.so.2"},
         MO_OBSTACLE_SANITIZED,
         MO_SANITIZER_THREAD,
         ""},
        {"msan",
         {.interp = interp, .defined = {"__msan_init"}},
         MO_OBSTACLE_SANITIZED,
         MO_SANITIZER_MEMORY,
         ""},
        {"lsan",
         {.interp = interp, .defined = {"__lsan_init", "malloc"}},
         MO_OBSTACLE_SANITIZED,
         MO_SANITIZER_LEAK,
         ""},
        {"ubsan alone", {.interp = interp, .needed = "libubsan.so.1"}, MO_OBSTACLE_NONE, 0, ""},
        {"own malloc", {.interp = interp, .defined = {"malloc"}}, MO_OBSTACLE_OWN_MALLOC, 0, ""},
        {"own free", {.interp = interp, .defined = {"free"}}, MO_OBSTACLE_OWN_MALLOC, 0, ""},
        {"jemalloc inside",
         {.interp = interp, .defined = {"malloc", "free", "mallctl"}},
         MO_OBSTACLE_OWN_MALLOC,
         0,
         "jemalloc"},
        {"own malloc, no sections",
         {.interp = interp, .defined = {"malloc"}, .no_sections = 1},
         MO_OBSTACLE_OWN_MALLOC,
         0,
         ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct file file;
        struct mo_target target = {.path = "", .binary = "/x"};
        char text[1024];
        make(&cases[i].recipe, &file);
        struct memopt_error error = MEMOPT_ERROR_INIT;
        int r = mo_target_examine_elf(&file, sizeof(file), &target, &error);
        if (r != 0 || target.obstacle != cases[i].obstacle ||
            target.sanitizer != cases[i].sanitizer || strcmp(target.detail, cases[i].detail) != 0)
            fail_msg("%s: r %d (%s), obstacle %d, sanitizer %d, detail '%s'", cases[i].name, r,
                     error.message, target.obstacle, target.sanitizer, target.detail);
        mo_target_explain(&target, text, sizeof(text));
        assert_true((text[0] == '\0') == (target.obstacle == MO_OBSTACLE_NONE));
        if (text[0] != '\0')
            assert_non_null(strstr(text, "'/x'"));
    }
}

static void test_other_machines(void **state) {
    (void)state;
    static const struct {
        unsigned char class, data;
        uint16_t machine;
        const char *detail;
    } cases[] = {
        {ELFCLASS32, ELFDATA2LSB, EM_386, "32-bit x86"},
        {ELFCLASS64, ELFDATA2LSB, EM_RISCV, "64-bit RISC-V"},
        {ELFCLASS64, ELFDATA2MSB, EM_S390, "s390"},
        {ELFCLASS32, ELFDATA2LSB, EM_ARM, "32-bit ARM"},
        {ELFCLASS64, ELFDATA2LSB, 0x7abc, "machine 31420"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct file file;
        struct mo_target target = {.path = "", .binary = "/x"};
        make(&(struct recipe){.interp = own_interp()}, &file);
        file.header.e_ident[EI_CLASS] = cases[i].class;
        file.header.e_ident[EI_DATA] = cases[i].data;
        file.header.e_machine =
            cases[i].data == ELFDATA2LSB ? cases[i].machine : __builtin_bswap16(cases[i].machine);
        assert_int_equal(mo_target_examine_elf(&file, sizeof(file), &target, NULL), 0);
        assert_int_equal(target.obstacle, MO_OBSTACLE_FOREIGN);
        assert_string_equal(target.detail, cases[i].detail);
    }
}

/* Whatever byte is wrong or missing, nothing beyond the file is touched: the
 * image ends where an inaccessible page begins (ASan sees it too). */
static void test_damaged_elf(void **state) {
    (void)state;
    struct recipe recipe = {.interp = own_interp(),
                            .needed = "libasan.so.8",
                            .defined = {"malloc"},
                            .hidden = "__asan_init"};
    struct file file;
    make(&recipe, &file);
    for (size_t size = 0; size < sizeof(file); size += 7) {
        char *copy = malloc(size == 0 ? 1 : size);
        struct mo_target target = {.path = "", .binary = "/x"};
        memcpy(copy, &file, size);
        int r = mo_target_examine_elf(copy, size, &target, NULL);
        assert_true(r == 0 || r == -ENOEXEC);
        if (size < sizeof(ElfW(Ehdr)))
            assert_int_equal(r, -ENOEXEC);
        free(copy);
    }
    unsigned seed = 1;
    for (int round = 0; round < 20000; round++) {
        struct mo_target target = {.path = "", .binary = "/x"};
        char *copy = malloc(sizeof(file));
        memcpy(copy, &file, sizeof(file));
        for (int change = 0; change < 4; change++) {
            seed = seed * 1103515245 + 12345;
            size_t at = EI_NIDENT + (seed >> 8) % (sizeof(file) - EI_NIDENT);
            copy[at] = (char)(seed >> 24);
        }
        int r = mo_target_examine_elf(copy, sizeof(file), &target, NULL);
        assert_true(r == 0 || r == -ENOEXEC);
        free(copy);
    }
}

/* ------------------------------------------------------------------- set-uid */

static void test_secure(void **state) {
    (void)state;
    /* little-endian on disk: magic with or without the effective bit, permitted */
    const unsigned char effective[20] = {VFS_CAP_FLAGS_EFFECTIVE, 0, 0, 2, 0, 4};
    const unsigned char permitted[20] = {0, 0, 0, 2, 0, 4};
    const unsigned char inheritable[20] = {0, 0, 0, 2, 0, 0, 0, 0, 0, 4};
    static const struct mo_identity user = {1000, 1000, 1000, 1000, 0};
    static const struct mo_identity root = {0, 0, 0, 0, 0};
    static const struct mo_identity confined = {1000, 1000, 1000, 1000, 1};
    static const struct mo_identity half = {1000, 1000, 1000, 0, 0};
    const struct {
        const char *name;
        const struct mo_identity *who;
        uid_t owner;
        gid_t group;
        mode_t mode;
        int nosuid;
        const void *capabilities;
        int secure;
    } cases[] = {
        {"plain", &user, 0, 0, 0755, 0, NULL, 0},
        {"set-uid root", &user, 0, 0, 04755, 0, NULL, 1},
        {"set-uid to oneself", &user, 1000, 0, 04755, 0, NULL, 0},
        {"root runs set-uid root", &root, 0, 0, 04755, 0, NULL, 0},
        {"root runs set-uid daemon", &root, 1, 0, 04755, 0, NULL, 1},
        {"set-gid", &user, 0, 8, 02755, 0, NULL, 1},
        {"set-gid without x for the group", &user, 0, 8, 02745, 0, NULL, 0},
        {"set-uid on a nosuid mount", &user, 0, 0, 04755, 1, NULL, 0},
        {"set-uid under no_new_privs", &confined, 0, 0, 04755, 0, NULL, 0},
        {"memopt itself is half privileged", &half, 0, 0, 0755, 0, NULL, 1},
        {"capabilities", &user, 0, 0, 0755, 0, effective, 1},
        {"capabilities, permitted only", &user, 0, 0, 0755, 0, permitted, 1},
        {"capabilities, inheritable only", &user, 0, 0, 0755, 0, inheritable, 0},
        {"capabilities for root", &root, 0, 0, 0755, 0, effective, 0},
        {"capabilities under no_new_privs", &confined, 0, 0, 0755, 0, effective, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (mo_target_is_secure(cases[i].who, cases[i].owner, cases[i].group, cases[i].mode,
                                cases[i].nosuid, cases[i].capabilities,
                                cases[i].capabilities == NULL ? 0 : 20) != cases[i].secure)
            fail_msg("%s", cases[i].name);
}

/* --------------------------------------------------- files and the search path */

static char folder[] = "/tmp/memopt-test-XXXXXX";

static const char *in_folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const void *bytes, size_t size, mode_t mode) {
    int fd = open(in_folder(name), O_WRONLY | O_CREAT | O_TRUNC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static int make_folder(void **state) {
    (void)state;
    struct file file;
    char deep[128];
    if (mkdtemp(folder) == NULL)
        return -1;
    put("script", "#!/bin/sh\nexit 0\n", 17, 0755);
    put("env-script", "#!/usr/bin/env -S LC_ALL=C sh\n", 30, 0755);
    put("lost", "#!/nowhere/perl\n", 16, 0755);
    put("empty-line", "#!\n", 3, 0755);
    put("text", "exit 0\n", 7, 0755);
    put("garbage", "\1\2\0\4\n", 5, 0755);
    put("plain-file", "exit 0\n", 7, 0644);
    put("cut", "\177ELF", 4, 0755);
    make(&(struct recipe){.interp = NULL}, &file);
    put("static", &file, sizeof(file), 0755);
    snprintf(deep, sizeof(deep), "#!%s/static\n", folder);
    put("static-script", deep, strlen(deep), 0755);
    snprintf(deep, sizeof(deep), "#!%s/loop\n", folder);
    put("loop", deep, strlen(deep), 0755);
    return mkdir(in_folder("directory"), 0755);
}

static int remove_folder(void **state) {
    (void)state;
    static const char *const names[] = {"script", "env-script", "lost",         "empty-line",
                                        "text",   "garbage",    "plain-file",   "cut",
                                        "static", "loop",       "static-script"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(in_folder(names[i]));
    rmdir(in_folder("directory"));
    return rmdir(folder);
}

static void test_find(void **state) {
    (void)state;
    const struct {
        const char *name;
        int by_path; /* with the folder before it */
        int result;
        enum mo_obstacle obstacle;
        int needs_shell;
        const char *says;
    } cases[] = {
        {"script", 1, 0, MO_OBSTACLE_NONE, 0, NULL},
        {"script", 0, 0, MO_OBSTACLE_NONE, 0, NULL},
        {"env-script", 1, 0, MO_OBSTACLE_NONE, 0, NULL},
        {"text", 1, 0, MO_OBSTACLE_NONE, 1, NULL},
        {"garbage", 1, 0, MO_OBSTACLE_FORMAT, 0, NULL},
        {"static", 1, 0, MO_OBSTACLE_STATIC, 0, NULL},
        {"static-script", 1, 0, MO_OBSTACLE_STATIC, 0, NULL},
        {"lost", 1, -ENOEXEC, 0, 0, "/nowhere/perl"},
        {"empty-line", 1, -ENOEXEC, 0, 0, "no interpreter"},
        {"cut", 1, -ENOEXEC, 0, 0, "cut short"},
        {"loop", 1, -ELOOP, 0, 0, "deep"},
        {"plain-file", 1, -EACCES, 0, 0, "chmod"},
        {"plain-file", 0, -EACCES, 0, 0, "on the path"},
        {"directory", 1, -EISDIR, 0, 0, "is a directory"},
        {"directory", 0, -EACCES, 0, 0, "on the path"},
        {"nowhere", 0, -ENOENT, 0, 0, "no program 'nowhere'"},
        {"nowhere", 1, -ENOENT, 0, 0, "nowhere"},
        {"script/x", 1, -ENOENT, 0, 0, "script/x"},
        {"", 0, -ENOENT, 0, 0, "empty"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mo_target target;
        struct memopt_error error = MEMOPT_ERROR_INIT;
        const char *name = cases[i].by_path ? in_folder(cases[i].name) : cases[i].name;
        memset(&target, 0x5a, sizeof(target));
        int r = mo_target_find(name, folder, &target, &error);
        if (r != cases[i].result)
            fail_msg("%s: %d (%s), expected %d", name, r, error.message, cases[i].result);
        if (r < 0) {
            assert_non_null(strstr(error.message, cases[i].says));
            assert_int_equal(target.needs_shell, 0x5a5a5a5a); /* untouched */
            continue;
        }
        assert_string_equal(target.path, in_folder(cases[i].name));
        if (target.obstacle != cases[i].obstacle || target.needs_shell != cases[i].needs_shell)
            fail_msg("%s: obstacle %d, shell %d", name, target.obstacle, target.needs_shell);
    }
}

static void test_path_order(void **state) {
    (void)state;
    struct mo_target target;
    char path[512];
    /* a folder of that name is passed over, and an empty part is here */
    snprintf(path, sizeof(path), "/nowhere:%s/directory:%s", folder, folder);
    assert_int_equal(mo_target_find("script", path, &target, NULL), 0);
    assert_string_equal(target.path, in_folder("script"));
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(mo_target_find("script", "/nowhere:", &target, NULL), 0);
    assert_string_equal(target.path, "./script");
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(mo_target_find("sh", NULL, &target, NULL), 0);
    assert_string_equal(target.path, "/bin/sh");
}

static void test_operators(void **state) {
    (void)state;
    static const struct {
        const char *defined[8], *undefined[2];
        int part;
    } cases[] = {
        {{0}, {"_Znwm", "_ZdlPv"}, 0},
        {{"_Znwm", "_ZdlPv"}, {0}, 1},
        {{"_ZdaPvm"}, {"_Znwm"}, 1},
        {{"_Znwm", "_Znam", "_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t", "_ZdlPv", "_ZdaPv",
          "_ZdlPvm", "_ZdaPvm"},
         {0},
         0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct recipe recipe = {.interp = own_interp()};
        struct file file;
        struct mo_target target = {.part_of_new = 2};
        memcpy(recipe.defined, cases[i].defined, sizeof(recipe.defined));
        memcpy(recipe.undefined, cases[i].undefined, sizeof(recipe.undefined));
        make(&recipe, &file);
        assert_int_equal(mo_target_examine_elf(&file, sizeof(file), &target, NULL), 0);
        assert_int_equal(target.obstacle, MO_OBSTACLE_NONE);
        assert_int_equal(target.part_of_new, cases[i].part);
    }
}

/* Programs that call an allocator library's own functions, and those that are only
 * linked with one, or ask it something. */
static void test_own_calls(void **state) {
    (void)state;
    static const struct {
        const char *needed, *undefined, *allocator;
        int weak;
    } cases[] = {
        {"libjemalloc.so.2", "malloc", NULL, 0},
        {"libjemalloc.so.2", "mallctl", NULL, 0},
        {"libjemalloc.so.2", "malloc_stats_print", NULL, 0},
        {"libjemalloc.so.2", "nallocx", NULL, 0},
        {"libjemalloc.so.2", "mallocx", "jemalloc", 0},
        {"libjemalloc.so.2", "sdallocx", "jemalloc", 0},
        {"libjemalloc.so.2", "rallocx", "jemalloc", 0},
        {"libjemalloc.so.2", "mallocx", NULL, 1}, /* as folly: it looks whether it is there */
        {"libfoo.so.1", "mallocx", NULL, 0},      /* that library's business */
        {NULL, "mallocx", NULL, 0},
        {"libjemalloc.so.2", "mi_malloc", NULL, 0},
        {"libmimalloc.so.2", "mi_malloc", "mimalloc", 0},
        {"libmimalloc-secure.so.2", "mi_free", "mimalloc", 0},
        {"libmimalloc.so.2", "mi_heap_zalloc_aligned", "mimalloc", 0},
        {"libmimalloc.so.2", "mi_new_nothrow", "mimalloc", 0},
        {"libmimalloc.so.2", "mi_strndup", "mimalloc", 0},
        {"libmimalloc.so.2", "mi_usable_size", "mimalloc", 0},
        {"libmimalloc.so.2", "mi_version", NULL, 0},
        {"libmimalloc.so.2", "mi_option_set", NULL, 0},
        {"libmimalloc.so.2", "mi_stats_print", NULL, 0},
        {"libmimalloc.so.2", "mi_collect", NULL, 0},
        {"libmimalloc.so.2", "mi_good_size", NULL, 0},
        {"libmimalloc.so.2", "semi_malloc", NULL, 0},
        {"libtcmalloc.so.4", "tc_malloc", "tcmalloc", 0},
        {"libtcmalloc_minimal.so.4", "tc_deletearray_nothrow", "tcmalloc", 0},
        {"libtcmalloc.so.4", "tc_malloc_size", "tcmalloc", 0},
        {"libtcmalloc.so.4", "tc_version", NULL, 0},
        {"libtcmalloc.so.4", "MallocExtension_ReleaseFreeMemory", NULL, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (int no_sections = 0; no_sections < 2; no_sections++) {
            struct recipe recipe = {.interp = own_interp(),
                                    .needed = cases[i].needed,
                                    .undefined = {"free", cases[i].undefined},
                                    .weak = cases[i].weak,
                                    .no_sections = no_sections};
            struct file file;
            struct mo_target target = {.own_call = "x"};
            make(&recipe, &file);
            assert_int_equal(mo_target_examine_elf(&file, sizeof(file), &target, NULL), 0);
            assert_int_equal(target.obstacle, MO_OBSTACLE_NONE);
            assert_string_equal(target.own_call,
                                cases[i].allocator == NULL ? "" : cases[i].undefined);
            if (cases[i].allocator == NULL)
                assert_null(target.own_allocator);
            else
                assert_string_equal(target.own_allocator, cases[i].allocator);
        }
}

/* ----------------------------------------------------------------- the binding */

static void test_binding(void **state) {
    (void)state;
#define A MO_BINDING_AUTO
#define D MO_BINDING_DIRECT
#define I MO_BINDING_DISPATCH
    static const struct {
        enum mo_binding wanted;
        size_t trackers;
        int rules;
        uint32_t flags;
        int result; /* a binding, or -EINVAL */
        const char *says;
        int has_library;
        const char *links_malloc;
        int part_of_new;
        const char *own_call;
    } cases[] = {
        {A, 0, 0, MEMOPT_ALLOCATOR_DIRECT, D, NULL, 0, NULL, 0, NULL},
        {A, 1, 0, MEMOPT_ALLOCATOR_DIRECT, I, NULL, 0, NULL, 0, NULL},
        {A, 0, 1, MEMOPT_ALLOCATOR_DIRECT, I, NULL, 0, NULL, 0, NULL},
        {A, 0, 0, 0, I, NULL, 0, NULL, 0, NULL},
        {I, 0, 0, MEMOPT_ALLOCATOR_DIRECT, I, NULL, 0, NULL, 0, NULL},
        {D, 0, 0, MEMOPT_ALLOCATOR_DIRECT, D, NULL, 0, NULL, 0, NULL},
        {D, 2, 0, MEMOPT_ALLOCATOR_DIRECT, -EINVAL, "tracker", 0, NULL, 0, NULL},
        {D, 0, 1, MEMOPT_ALLOCATOR_DIRECT, -EINVAL, "heap.default", 0, NULL, 0, NULL},
        {D, 0, 0, 0, -EINVAL, "'x'", 0, NULL, 0, NULL},
        {A, 0, 0, MEMOPT_ALLOCATOR_DIRECT, I, NULL, 0, "libjemalloc.so.2", 0, NULL},
        {A, 0, 0, MEMOPT_ALLOCATOR_DIRECT, D, NULL, 1, "libjemalloc.so.2", 0, NULL},
        {D, 0, 0, MEMOPT_ALLOCATOR_DIRECT, -EINVAL, "'libjemalloc.so.2'", 0, "libjemalloc.so.2", 0,
         NULL},
        {A, 0, 0, MEMOPT_ALLOCATOR_DIRECT, D, NULL, 0, NULL, 1, NULL},
        {A, 0, 0, MEMOPT_ALLOCATOR_DIRECT, I, NULL, 1, NULL, 1, NULL},
        {D, 0, 0, MEMOPT_ALLOCATOR_DIRECT, -EINVAL, "operator new", 1, NULL, 1, NULL},
        {A, 0, 0, MEMOPT_ALLOCATOR_DIRECT, D, NULL, 1, "libjemalloc.so.2", 0, "mallocx"},
        {A, 1, 0, MEMOPT_ALLOCATOR_DIRECT, -EINVAL, "'mallocx'", 1, "libjemalloc.so.2", 0,
         "mallocx"},
        {A, 0, 1, MEMOPT_ALLOCATOR_DIRECT, -EINVAL, "'mallocx'", 1, "libjemalloc.so.2", 0,
         "mallocx"},
        {I, 0, 0, MEMOPT_ALLOCATOR_DIRECT, -EINVAL, "binding = auto", 1, "libjemalloc.so.2", 0,
         "mallocx"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mo_binding_facts facts = {cases[i].wanted,
                                         cases[i].trackers,
                                         cases[i].rules,
                                         cases[i].flags,
                                         "x",
                                         cases[i].has_library,
                                         cases[i].links_malloc == NULL ? "" : cases[i].links_malloc,
                                         cases[i].part_of_new,
                                         cases[i].own_call == NULL ? "" : cases[i].own_call,
                                         0};
        struct memopt_error error = MEMOPT_ERROR_INIT;
        enum mo_binding binding = A;
        int r = mo_choose_binding(&facts, &binding, &error);
        if ((r < 0 ? r : (int)binding) != cases[i].result)
            fail_msg("case %zu: %d, binding %d", i, r, binding);
        if (r < 0) {
            assert_non_null(strstr(error.message, cases[i].says));
            assert_int_equal(binding, A);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operators),      cmocka_unit_test(test_elf_kinds),
        cmocka_unit_test(test_other_machines), cmocka_unit_test(test_damaged_elf),
        cmocka_unit_test(test_secure),         cmocka_unit_test(test_find),
        cmocka_unit_test(test_path_order),     cmocka_unit_test(test_binding),
        cmocka_unit_test(test_own_calls),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
