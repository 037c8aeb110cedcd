/*
 * test_registry.c - core/plugin: where plugins are found, what is
 * refused and in which words, what is filled in, and that the N-th failure of
 * malloc, mmap, open or dlopen is a clean error.
 *
 * The plugins are tests/bad_plugins/plugin.c with one defect each. Some tests
 * run the program itself again, as a process of its own (see main).
 */
#include "config.h"

#include "core/base/sysmem.h"
#include "core/plugin/registry.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define EXPORT __attribute__((visibility("default")))

static char top[PATH_MAX];     /* of the build tree */
static char plugins[PATH_MAX]; /* the bad ones */
static char scratch[PATH_MAX];
static struct memopt_error error;

/* snprintf() of which the compiler does not think that the paths are too long. */
__attribute__((format(printf, 3, 4))) static void put(char *buffer, size_t size, const char *format,
                                                      ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(buffer, size, format, arguments);
    va_end(arguments);
}

static const char *plugin_path(const char *file) {
    static char path[PATH_MAX];
    put(path, sizeof(path), "%.*s/%s", PATH_MAX / 2, plugins, file);
    return path;
}

static const char *scratch_path(const char *file) {
    static char path[PATH_MAX];
    put(path, sizeof(path), "%.*s/%s", PATH_MAX / 2, scratch, file);
    return path;
}

static void write_file(const char *path, const void *bytes, size_t size, mode_t mode) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

/* Copies a file; `from` and `to` of equal length: every occurrence replaced. */
static void copy_file(const char *source, const char *target, const char *from, const char *to) {
    int fd = open(source, O_RDONLY | O_CLOEXEC);
    struct stat st;
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    size_t size = (size_t)st.st_size;
    char *bytes = malloc(size);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, size), (ssize_t)size);
    close(fd);
    for (size_t i = 0; from != NULL && i + strlen(from) <= size; i++)
        if (memcmp(bytes + i, from, strlen(from)) == 0)
            memcpy(bytes + i, to, strlen(to));
    write_file(target, bytes, size, st.st_mode & 0777);
    free(bytes);
}

/* ---------------------------------------------------------------- refused */

/* '@' in a message stands for the path of the plugin. */
static void assert_message(const char *expected, const char *path) {
    char whole[MEMOPT_ERROR_MAX] = "";
    for (size_t used = 0; *expected != '\0'; expected++, used = strlen(whole))
        put(whole + used, sizeof(whole) - used, "%.*s", *expected == '@' ? PATH_MAX : 1,
            *expected == '@' ? path : expected);
    assert_string_equal(error.message, whole);
}

static void refuse(const char *path, int code, const char *message) {
    struct mo_plugin *untouched = (struct mo_plugin *)&error, *plugin = untouched;
    memset(&error, 0, sizeof(error));
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, path, &plugin, &error), code);
    assert_int_equal(error.code, code);
    assert_ptr_equal(plugin, untouched);
    assert_message(message, path);
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, path, &plugin, NULL), code);
}

static void test_defects(void **state) {
    static const struct {
        const char *file, *message;
    } rows[] = {
        {"alloc-newer-major.so",
         "plugin '@' is built for plugin ABI 3.0, this memopt has 2.0: install a newer memopt, or "
         "build the plugin with this memopt's headers"},
        {"alloc-newer-minor.so",
         "plugin '@' is built for plugin ABI 2.1, this memopt has 2.0: install a newer memopt, or "
         "build the plugin with this memopt's headers"},
        {"alloc-older-major.so",
         "plugin '@' is built for plugin ABI 1.1, this memopt has 2.0: build the plugin again with "
         "this memopt's headers"},
        {"alloc-truncated.so",
         "plugin '@': its descriptor is truncated: 40 bytes where ABI 2.0 has 72; begin it with "
         "MEMOPT_PLUGIN_HEADER"},
        {"alloc-tiny.so", "plugin '@': its 'memopt_plugin' has 4 bytes and is no struct "
                          "memopt_plugin"},
        {"alloc-oversize.so", "plugin '@': its descriptor has 80 bytes where ABI 2.0 has 72: begin "
                              "it with MEMOPT_PLUGIN_HEADER"},
        {"alloc-no-symbol.so", "plugin '@' does not export 'memopt_plugin': define it with "
                               "MEMOPT_EXPORT, see memopt-plugin(7)"},
        {"alloc-wrong-kind.so",
         "plugin '@' is of the wrong kind: reporter where allocator is wanted"},
        {"alloc-unknown-kind.so", "plugin '@' is of kind 9, which ABI 2.0 does not have"},
        {"alloc-bad-name.so",
         "plugin '@': its name is 'Bad Name', not 1 to 31 of a-z, 0-9 and '-'"},
        {"alloc-no-version.so", "plugin '@': its descriptor lacks 'version'"},
        {"alloc-no-ops.so", "plugin '@': its descriptor lacks 'ops'"},
        {"alloc-truncated-ops.so",
         "plugin '@': its operations are truncated: 40 bytes do not reach 'open', which every "
         "allocator must have (48 bytes); set .size to sizeof the struct"},
        {"alloc-large-ops.so", "plugin '@': its operations have 192 bytes where ABI 2.0 has 184: "
                               "set .size to sizeof the struct"},
        {"alloc-no-open.so",
         "plugin '@' lacks the operation 'open', which every allocator must have"},
        {"alloc-half-heaps.so",
         "plugin '@': it has the operation 'heap_malloc' but not 'heap_create': separate heaps "
         "need all of heap_create .. heap_usable_size, or none"},
        {"alloc-only-heaps.so",
         "plugin '@': it is for separate heaps only, but lacks 'heap_create'"},
        {"alloc-option-size.so", "plugin '@': its option rows have 8 bytes where ABI 2.0 has 72: "
                                 "set .option_size with MEMOPT_PLUGIN_HEADER"},
        {"alloc-no-settings.so",
         "plugin '@': it has options, but its settings_size is 0: set it to the size of the struct "
         "they fill (1 .. 1048576)"},
        {"alloc-bad-key.so", "plugin '@': its option 0 has the key 'Size', not a lower-case word "
                             "of a-z, 0-9 and '_'"},
        {"alloc-bad-type.so",
         "plugin '@': its option 'size' has the type 99, which ABI 2.0 does not have"},
        {"alloc-bad-flags.so",
         "plugin '@': its option 'size' has the flags 0x10, which ABI 2.0 does not have"},
        {"alloc-bad-offset.so",
         "plugin '@': the field of its option 'size' ends outside its settings of 16 bytes"},
        {"alloc-bad-enum.so", "plugin '@': its option 'word' is an enum without choices"},
        {"alloc-empty-enum.so", "plugin '@': its option 'word' is an enum without choices"},
        {"alloc-no-help.so", "plugin '@': its option 'size' has no help text"},
        {"alloc-same-key.so", "plugin '@': it has two options with the key 'size'"},
        {"alloc-undefined.so",
         "plugin '@' cannot be loaded: undefined symbol: this_function_is_nowhere; link it against "
         "all that it uses (-Wl,-z,defs says what is missing)"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        print_message("  %s\n", rows[i].file);
        refuse(plugin_path(rows[i].file), -ENOEXEC, rows[i].message);
    }
}

static void test_ranges(void **state) {
    static const struct {
        const char *file, *message;
    } rows[] = {
        {"alloc-bad-min.so", "plugin '@': a bound of its options is wrong: 'size' is '4 KIBI', not "
                             "a size (bytes, or a number with KiB, MiB, GiB, TiB)"},
        {"alloc-bad-max.so", "plugin '@': a bound of its options is wrong: 'size' is '1KiB', not "
                             "within 4KiB or more"},
    };
    (void)state;
    refuse(plugin_path(rows[0].file), -EINVAL, rows[0].message);
    refuse(plugin_path(rows[1].file), -ERANGE, rows[1].message);
}

static void test_output_key(void **state) {
    struct mo_plugin *plugin;
    (void)state;
    const char *path = plugin_path("alloc-output-key.so");
    assert_int_equal(mo_plugin_load(MEMOPT_REPORTER, path, &plugin, &error), -ENOEXEC);
    assert_message("plugin '@': its option 'output' is one that every reporter has from memopt: "
                   "give it another key",
                   path);
}

static void test_bad_default(void **state) {
    struct mo_plugin *plugin;
    (void)state;
    const char *path = plugin_path("alloc-bad-default.so");
    assert_true(mo_plugin_load(MEMOPT_ALLOCATOR, path, &plugin, &error) < 0);
    char begin[PATH_MAX + 64];
    put(begin, sizeof(begin), "plugin '%s': a default of its options is wrong: ", path);
    assert_memory_equal(error.message, begin, strlen(begin));
    assert_non_null(strstr(error.message, "12Q"));
}

/* A plugin with some bytes of its ELF header changed, or cut off. */
static void test_elf_files(void **state) {
#ifdef __x86_64__
    static const struct {
        const char *file, *message;
        unsigned char bits, order, machine[2]; /* 0: as they are */
    } rows[] = {
        {"alloc-aarch64.so", "is built for aarch64, not x86-64", 0, 0, {EM_AARCH64, 0}},
        {"alloc-i386.so", "is built for i386, not x86-64", ELFCLASS32, 0, {EM_386, 0}},
        {"alloc-s390.so", "is built for s390, not x86-64", 0, ELFDATA2MSB, {0, EM_S390}},
        {"alloc-odd.so", "is built for machine 65001, not x86-64", 0, 0, {0xe9, 0xfd}},
        {"alloc-x32.so",
         "is built for 32-bit little-endian x86-64, not 64-bit little-endian x86-64",
         ELFCLASS32,
         0,
         {0, 0}},
    };
#endif
    static unsigned char bytes[1 << 18];
    int fd = open(plugin_path("alloc-partial.so"), O_RDONLY | O_CLOEXEC);
    ssize_t size = read(fd, bytes, sizeof(bytes));
    assert_true(fd >= 0 && size > 0 && size < (ssize_t)sizeof(bytes));
    close(fd);
    (void)state;
#ifdef __x86_64__
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        unsigned char *changed = malloc((size_t)size);
        char message[256];
        assert_non_null(changed);
        memcpy(changed, bytes, (size_t)size);
        changed[EI_CLASS] = rows[i].bits != 0 ? rows[i].bits : bytes[EI_CLASS];
        changed[EI_DATA] = rows[i].order != 0 ? rows[i].order : bytes[EI_DATA];
        if (rows[i].machine[0] != 0 || rows[i].machine[1] != 0)
            memcpy(changed + offsetof(Elf64_Ehdr, e_machine), rows[i].machine, 2);
        write_file(scratch_path(rows[i].file), changed, (size_t)size, 0644);
        free(changed);
        put(message, sizeof(message), "plugin '@' %s: build it here with cc -shared -fPIC",
            rows[i].message);
        refuse(scratch_path(rows[i].file), -ENOEXEC, message);
    }
#endif
    /* wherever what has to be loaded ends: dlopen() would die of SIGBUS */
    Elf64_Ehdr header;
    Elf64_Phdr segment;
    size_t end = 0;
    memcpy(&header, bytes, sizeof(header));
    for (size_t i = 0; i < header.e_phnum; i++) {
        memcpy(&segment, bytes + header.e_phoff + i * sizeof(segment), sizeof(segment));
        if (segment.p_type == PT_LOAD && segment.p_offset + segment.p_filesz > end)
            end = segment.p_offset + segment.p_filesz;
    }
    assert_true(end > 4096 && end < (size_t)size);
    const size_t sizes[] = {sizeof(header), sizeof(header) + 10, 4096, end / 2, end - 1};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char message[256];
        write_file(scratch_path("alloc-cut.so"), bytes, sizes[i], 0644);
        put(message, sizeof(message),
            "plugin '@' is cut off: it ends after %zu bytes, within what is to be loaded; copy or "
            "build it again",
            sizes[i]);
        refuse(scratch_path("alloc-cut.so"), -ENOEXEC, message);
    }
    /* what follows is not loaded */
    struct mo_plugin *plugin;
    write_file(scratch_path("alloc-whole.so"), bytes, end, 0644);
    assert_int_equal(
        mo_plugin_load(MEMOPT_ALLOCATOR, scratch_path("alloc-whole.so"), &plugin, &error), 0);
}

static void test_files(void **state) {
    (void)state;
    refuse("plugins/alloc-x.so", -EINVAL,
           "plugin '@': a relative path is refused; give a plugin's name or its absolute path");
    refuse("./alloc-x.so", -EINVAL,
           "plugin '@': a relative path is refused; give a plugin's name or its absolute path");
    refuse("No Name", -EINVAL,
           "'@' is not a valid plugin name: at most 31 of a-z, 0-9 and '-', or an absolute path");
    refuse("", -EINVAL,
           "'@' is not a valid plugin name: at most 31 of a-z, 0-9 and '-', or an absolute path");
    refuse(scratch_path("alloc-none.so"), -ENOENT,
           "plugin '@' cannot be opened: there is no such file");
    refuse(scratch, -EINVAL, "plugin '@' is not a file");
    assert_int_equal(mkfifo(scratch_path("alloc-fifo.so"), 0600), 0);
    refuse(scratch_path("alloc-fifo.so"), -EINVAL, "plugin '@' is not a file");
    write_file(scratch_path("alloc-text.so"),
               "this is text, and as long as an ELF header is: no less "
               "than sixty-four bytes of it",
               80, 0644);
    refuse(scratch_path("alloc-text.so"), -ENOEXEC,
           "plugin '@' is not a shared object of this machine (invalid ELF header): build it here "
           "with cc -shared -fPIC");
    write_file(scratch_path("alloc-empty.so"), "", 0, 0644);
    refuse(scratch_path("alloc-empty.so"), -ENOEXEC,
           "plugin '@' is not a shared object of this machine (file too short): build it here with "
           "cc -shared -fPIC");
    char source[PATH_MAX];
    put(source, sizeof(source), "%s", plugin_path("alloc-older-minor.so"));
    copy_file(source, scratch_path("alloc-lib.so"), "libc.so.6", "libq.so.9");
    refuse(scratch_path("alloc-lib.so"), -ENOENT,
           "plugin '@' needs the library 'libq.so.9', which the dynamic linker does not find: "
           "install the package that has it, or name its directory in LD_LIBRARY_PATH");
    if (geteuid() != 0) { /* root may read everything */
        write_file(scratch_path("alloc-closed.so"), "", 0, 0);
        refuse(scratch_path("alloc-closed.so"), -EACCES,
               "plugin '@' cannot be opened: Permission denied");
    }
}

/* ------------------------------------------------------------------ found */

static void test_by_name(void **state) {
    struct mo_plugin *plugin, *again;
    char path[PATH_MAX + 32];
    (void)state;
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, "libc", &plugin, &error), 0);
    put(path, sizeof(path), "%s/plugins/.libs/alloc-libc.so", top);
    assert_string_equal(plugin->path, path);
    assert_string_equal(plugin->descriptor.name, "libc");
    /* by name, by path and through a link it is the same object */
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, "libc", &again, &error), 0);
    assert_ptr_equal(plugin, again);
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, path, &again, &error), 0);
    assert_ptr_equal(plugin, again);
    assert_int_equal(symlink(path, scratch_path("alloc-linked.so")), 0);
    assert_int_equal(
        mo_plugin_load(MEMOPT_ALLOCATOR, scratch_path("alloc-linked.so"), &again, &error), 0);
    assert_ptr_equal(plugin, again);
    /* another kind of that name there is not */
    assert_int_equal(mo_plugin_load(MEMOPT_TRACKER, "libc", &again, &error), -ENOENT);
    assert_memory_equal(error.message, "there is no tracker plugin 'libc'\n", 34);
}

static int remember(void *context, enum memopt_plugin_kind kind, const char *name,
                    const char *path) {
    char *text = context;
    size_t used = strlen(text);
    if (kind == MEMOPT_ALLOCATOR && strncmp(path, scratch, strlen(scratch)) == 0)
        put(text + used, 256 - used, "%s=%s ", name, path + strlen(scratch));
    return 0;
}

static int find_first(void *context, enum memopt_plugin_kind kind, const char *name,
                      const char *path) {
    (void)context, (void)name, (void)path;
    return kind == MEMOPT_ALLOCATOR ? 42 : 0;
}

static void test_search(void **state) {
    static const char *const directories[] = {"first", "second", "third"};
    struct mo_plugin *plugin;
    char good[PATH_MAX], path[PATH_MAX * 2], found[256] = "";
    (void)state;
    put(good, sizeof(good), "%s", plugin_path("alloc-partial.so"));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(mkdir(scratch_path(directories[i]), 0755), 0);
        put(path, sizeof(path), "%s/alloc-partial.so", scratch_path(directories[i]));
        copy_file(good, path, NULL, NULL);
    }
    put(path, sizeof(path), "%s/alloc-x.so", scratch_path("third"));
    write_file(path, "", 0, 0644);
    put(path, sizeof(path), "%s/alloc-NotThis.so", scratch_path("third"));
    write_file(path, "", 0, 0644);
    put(path, sizeof(path), "%s/alloc-.so", scratch_path("third"));
    write_file(path, "", 0, 0644);
    put(path, sizeof(path), "%s/other-x.so", scratch_path("third"));
    write_file(path, "", 0, 0644);

    /* plugin_path comes before the environment, each in its order */
    put(path, sizeof(path), "%s", scratch_path("first"));
    assert_int_equal(mo_plugin_add_directory(path, &error), 0);
    assert_int_equal(mo_plugin_add_directory(path, &error), 0);
    put(path, sizeof(path), "%s/second:%s/third::/nowhere", scratch, scratch);
    assert_int_equal(setenv("MEMOPT_PLUGIN_PATH", path, 1), 0);
    assert_int_equal(mo_plugin_each(remember, found), 0);
    assert_string_equal(found, "partial=/first/alloc-partial.so x=/third/alloc-x.so ");
    assert_int_equal(mo_plugin_each(find_first, NULL), 42);
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, "partial", &plugin, &error), 0);
    put(path, sizeof(path), "%s/alloc-partial.so", scratch_path("first"));
    assert_string_equal(plugin->path, path);
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, "x", &plugin, &error), -ENOEXEC);
    put(path, sizeof(path), "%s/alloc-x.so", scratch_path("third"));
    assert_message("plugin '@' is not a shared object of this machine (file too short): build it "
                   "here with cc -shared -fPIC",
                   path);
}

static void test_relative_directories(void **state) {
    struct mo_plugin *plugin;
    char found[256] = "";
    (void)state;
    assert_int_equal(mo_plugin_add_directory("plugins", &error), -EINVAL);
    assert_string_equal(error.message, "'plugins' is no place for plugins: the path of a directory "
                                       "must be absolute");
    assert_int_equal(setenv("MEMOPT_PLUGIN_PATH", "/nowhere:here", 1), 0);
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, "libc", &plugin, &error), -EINVAL);
    assert_string_equal(error.message, "MEMOPT_PLUGIN_PATH holds 'here': directories in it must be "
                                       "absolute, separated by ':'");
    assert_int_equal(mo_plugin_each(remember, found), 0); /* lists the rest */
    assert_int_equal(unsetenv("MEMOPT_PLUGIN_PATH"), 0);
}

static void test_unknown_name(void **state) {
    struct mo_plugin *plugin;
    (void)state;
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, "libcc", &plugin, &error), -ENOENT);
    assert_non_null(strstr(error.message, "there is no allocator plugin 'libcc'\n"
                                          "did you mean 'libc'?\nknown: "));
    assert_non_null(strstr(error.message, ", libc,"));
    assert_non_null(strstr(error.message, "as alloc-NAME.so"));
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, "zzzzzzzzzz", &plugin, &error), -ENOENT);
    assert_null(strstr(error.message, "did you mean"));
}

static void test_other_name(void **state) {
    struct mo_plugin *plugin;
    char path[PATH_MAX], wanted[PATH_MAX * 2];
    (void)state;
    put(path, sizeof(path), "%s", plugin_path("alloc-other-name.so"));
    assert_int_equal(setenv("MEMOPT_PLUGIN_PATH", plugins, 1), 0);
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, "other-name", &plugin, &error), -ENOEXEC);
    put(wanted, sizeof(wanted),
        "plugin '%s' calls itself 'another': its file must be alloc-another.so", path);
    assert_string_equal(error.message, wanted);
    /* also if the object is there already, under its own name */
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, "libc", &plugin, &error), 0);
    assert_int_equal(symlink(plugin->path, scratch_path("alloc-mine.so")), 0);
    assert_int_equal(setenv("MEMOPT_PLUGIN_PATH", scratch, 1), 0);
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, "mine", &plugin, &error), -ENOEXEC);
    assert_message("plugin '@' calls itself 'libc': its file must be alloc-libc.so",
                   scratch_path("alloc-mine.so"));
    assert_int_equal(unsetenv("MEMOPT_PLUGIN_PATH"), 0);
    /* by path the file's name does not matter */
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, path, &plugin, &error), 0);
    assert_string_equal(plugin->descriptor.name, "another");
}

static void test_own_library(void **state) {
    char path[PATH_MAX], wanted[PATH_MAX + 64];
    (void)state;
    assert_int_equal(mo_plugin_own_library("libmemopt-preload.so", path, sizeof(path), &error), 0);
    put(wanted, sizeof(wanted), "%s/preload/.libs/libmemopt-preload.so", top);
    assert_string_equal(path, wanted);
    assert_int_equal(mo_plugin_own_library("libmemopt-preload.so", path, 10, &error),
                     -ENAMETOOLONG);
    assert_int_equal(mo_plugin_own_library("libno.so", path, sizeof(path), &error), -ENOENT);
    put(wanted, sizeof(wanted), "memopt's own file 'libno.so' is not in '%s': run make there",
        top);
    assert_string_equal(error.message, wanted);
}

static void test_backend_library(void **state) {
    struct mo_plugin *plugin;
    char library[PATH_MAX] = "x";
    (void)state;
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, "libc", &plugin, &error), 0);
    assert_int_equal(mo_plugin_backend_library(plugin, library, sizeof(library), &error), 0);
    assert_string_equal(library, "");
    /* one of memopt's own, beside the plugin; the linker would not find it */
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, "pool", &plugin, &error), 0);
    assert_int_equal(mo_plugin_backend_library(plugin, library, sizeof(library), &error), 0);
    assert_string_equal(strrchr(library, '/'), "/libmemopt-pool.so");
    assert_memory_equal(library, plugin->path, (size_t)(strrchr(library, '/') - library) + 1);
    library[0] = '\0';
    assert_int_equal(
        mo_plugin_load(MEMOPT_ALLOCATOR, plugin_path("alloc-missing-backend.so"), &plugin, &error),
        0);
    assert_int_equal(mo_plugin_backend_library(plugin, library, sizeof(library), &error), -ENOENT);
    assert_string_equal(error.message,
                        "allocator 'missing-backend' needs the library 'libmemopt-not-there.so.1', "
                        "which is not there: apt-get install libnotthere1");
    assert_string_equal(library, "");
}

/* -------------------------------------------------------------- filled in */

static void test_older_minor(void **state) {
    struct mo_plugin *plugin;
    struct memopt_figures figures = {.size = sizeof(figures)};
    (void)state;
    const char *path = plugin_path("alloc-older-minor.so");
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, path, &plugin, &error), 0);
    assert_int_equal(plugin->ops.allocator.size, sizeof(struct memopt_allocator_ops));
    assert_ptr_equal(plugin->descriptor.ops, &plugin->ops);
    /* what the plugin's memory has behind its size is not looked at */
    assert_int_equal(plugin->has_heaps, 0);
    assert_null(plugin->ops.allocator.heap_malloc);
    assert_null(plugin->ops.allocator.environment);
    assert_int_equal(plugin->ops.allocator.figures(&figures), 0);
    assert_true(figures.size == sizeof(figures) && figures.live == MEMOPT_UNKNOWN &&
                figures.committed == MEMOPT_UNKNOWN && figures.resident == MEMOPT_UNKNOWN &&
                figures.retained == MEMOPT_UNKNOWN && figures.peak == MEMOPT_UNKNOWN);
    assert_true(figures.fragmentation != figures.fragmentation);
    assert_int_equal(plugin->ops.allocator.purge(), 0);
    assert_int_equal(mo_option_count(plugin->table), 1);
}

static void test_trackers(void **state) {
    struct mo_plugin *plugin;
    (void)state;
    const char *path = plugin_path("alloc-counting-tracker.so");
    assert_int_equal(mo_plugin_load(MEMOPT_TRACKER, path, &plugin, &error), 0);
    assert_null(plugin->ops.tracker.report); /* memopt reports its counts */
    path = plugin_path("alloc-idle-tracker.so");
    assert_int_equal(mo_plugin_load(MEMOPT_TRACKER, path, &plugin, &error), -ENOEXEC);
    assert_message("plugin '@' lacks the operation 'report', which every tracker must have", path);
}

static void test_malloc_defaults(void **state) {
    struct mo_plugin *plugin;
    const struct memopt_malloc *table, *again;
    (void)state;
    const char *path = plugin_path("alloc-older-minor.so");
    assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, path, &plugin, &error), 0);
    assert_int_equal(mo_plugin_open_allocator(plugin, NULL, &table, &error), 0);
    assert_int_equal(mo_plugin_open_allocator(plugin, NULL, &again, &error), 0);
    assert_ptr_equal(table, again);
    assert_int_equal(table->sized_below, 0);
    assert_null(table->made_by);
    assert_null(table->freed_by);
    unsigned char *p = table->malloc(40);
    assert_non_null(p);
    memset(p, 7, 40);
    p = table->realloc(p, 100);
    assert_non_null(p);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(p[i], 7);
    assert_int_equal(table->usable_size(p), 100);
    p = table->realloc(p, 20);
    assert_non_null(p);
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(p[i], 7);
    assert_null(table->realloc(p, 1 << 20));
    assert_int_equal(p[19], 7);
    unsigned char *zero = table->calloc(10, 3);
    assert_non_null(zero);
    for (size_t i = 0; i < 30; i++)
        assert_int_equal(zero[i], 0);
    assert_null(table->calloc(SIZE_MAX / 2, 3));

    assert_int_equal(
        mo_plugin_load(MEMOPT_ALLOCATOR, plugin_path("alloc-no-malloc.so"), &plugin, &error), 0);
    table = again = NULL;
    assert_int_equal(mo_plugin_open_allocator(plugin, NULL, &table, &error), -ENOEXEC);
    assert_null(table);
    assert_message("plugin '@': its open() gave no 'malloc', which every allocator must have",
                   plugin->path);
}

static char noted[256], noted_kind[32];
static int noted_level;

static void keep_note(int level, const char *kind, const char *text) {
    noted_level = level;
    put(noted_kind, sizeof(noted_kind), "%s", kind == NULL ? "none" : kind);
    put(noted, sizeof(noted), "%s", text);
}

static void test_host(void **state) {
    int ends[2];
    char text[256] = "";
    (void)state;
    assert_int_equal((mo_host.fail)(&error, -EDOM, "%s %d", "two", 2), -EDOM);
    assert_string_equal(error.message, "two 2");
    unsigned char *p = mo_host.alloc(100);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 16, 0);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(p[i], 0);

    assert_int_equal(pipe(ends), 0);
    int saved = dup(STDERR_FILENO);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    mo_host_set_note(NULL);
    mo_host.note(MEMOPT_NOTE_WARNING, "to nobody");
    mo_host_set_note(keep_note);
    errno = EDOM;
    mo_host.note(MEMOPT_NOTE_WARNING, "the %s", "first");
    assert_int_equal(errno, EDOM);
    assert_string_equal(noted, "the first");
    assert_int_equal(noted_level, MEMOPT_NOTE_WARNING);
    assert_string_equal(noted_kind, "none");
    mo_host.note(MEMOPT_NOTE_ERROR, "the %s", "second");
    assert_string_equal(noted, "the second");
    mo_host.event("overflow", "by %d", 3);
    assert_string_equal(noted, "by 3");
    assert_string_equal(noted_kind, "overflow");
    assert_int_equal(noted_level, MEMOPT_NOTE_ERROR);
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
    assert_string_equal(text, "memopt: the second\nmemopt: overflow: by 3\n");
    close(saved), close(ends[0]), close(ends[1]);
    mo_host_set_note(NULL);
}

/* ------------------------------------------------------- other processes */

static int run(const char *const *argv, uid_t user, const char *environment, char output[4096]) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        if (user != 0 && setresuid(user, user, user) != 0)
            _exit(90);
        if (environment != NULL)
            setenv("MEMOPT_PLUGIN_PATH", environment, 1);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(91);
    }
    close(ends[1]);
    size_t used = 0;
    ssize_t n;
    while ((n = read(ends[0], output + used, 4095 - used)) > 0)
        used += (size_t)n;
    output[used] = '\0';
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* An installed tree that was moved: PREFIX/bin/PROGRAM, PREFIX/lib/memopt. */
static void test_moved_tree(void **state) {
    char good[PATH_MAX], program[PATH_MAX * 2], path[PATH_MAX * 2], output[4096];
    (void)state;
    assert_int_equal(mkdir(scratch_path("bin"), 0755), 0);
    assert_int_equal(mkdir(scratch_path("lib"), 0755), 0);
    assert_int_equal(mkdir(scratch_path("lib/memopt"), 0755), 0);
    put(good, sizeof(good), "%s", plugin_path("alloc-partial.so"));
    copy_file(good, scratch_path("lib/memopt/alloc-partial.so"), NULL, NULL);
    put(program, sizeof(program), "%s", scratch_path("bin/program"));
    copy_file("/proc/self/exe", program, NULL, NULL);
    const char *argv[] = {program, "--where", "partial", NULL};
    assert_int_equal(run(argv, 0, NULL, output), 0);
    put(path, sizeof(path), "%s/bin/../lib/memopt/alloc-partial.so\n", scratch);
    assert_string_equal(output, path);

    /* the same program with another user's rights trusts neither its place nor
     * the environment */
    struct stat st;
    if (geteuid() != 0 || chmod(program, 04755) != 0 || stat(program, &st) != 0)
        return;
    assert_int_equal(chmod(scratch, 0755), 0);
    assert_int_equal(run(argv, 65534, scratch_path("lib/memopt"), output), 0);
    if (strncmp(output, "not secure", 10) != 0) /* the file system ignores set-user-id */
        assert_memory_equal(output, "there is no allocator plugin 'partial'", 38);
}

/* -------------------------------------------------------- fault injection */

enum { FAULT_NONE, FAULT_MALLOC, FAULT_MMAP, FAULT_OPEN, FAULT_DLOPEN, FAULT_SPACE };
static int fault_kind;
static long fault_countdown;
static bool fault_fired;

__attribute__((unused)) static bool fault(int kind) {
    if (kind != fault_kind || --fault_countdown != 0)
        return false;
    fault_fired = true;
    return true;
}

#if !defined(MO_SANITIZED) && defined(__GLIBC__)
#define WITH_FAULTS 1
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

EXPORT void *malloc(size_t size) {
    return fault(FAULT_MALLOC) ? NULL : __libc_malloc(size);
}
EXPORT void *calloc(size_t count, size_t size) {
    return fault(FAULT_MALLOC) ? NULL : __libc_calloc(count, size);
}
EXPORT void *realloc(void *p, size_t size) {
    return fault(FAULT_MALLOC) ? NULL : __libc_realloc(p, size);
}
EXPORT void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
    if (fault(FAULT_MMAP)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
}
EXPORT int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    if (fault(FAULT_OPEN)) {
        errno = EMFILE;
        return -1;
    }
    return openat(AT_FDCWD, path, flags, mode);
}
EXPORT void *dlopen(const char *path, int flags) {
    static void *(*real)(const char *, int);
    if (real == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "dlopen");
        memcpy(&real, &symbol, sizeof(real));
    }
    /* what the dynamic linker says when it can't open one more file */
    return real(fault(FAULT_DLOPEN) ? "/proc/self/nothing" : path, flags);
}
#else
#define WITH_FAULTS 0
#endif

enum { FAULT_DONE = 0, FAULT_CLEAN = 10, FAULT_BENIGN = 11 };

/* The mappings of the dynamic linker itself: it may have this much more memory. */
static void limit_space(size_t more) {
    struct rlimit space;
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm == NULL || fscanf(statm, "%lu", &pages) != 1 || getrlimit(RLIMIT_AS, &space) != 0)
        exit(5);
    fclose(statm);
    space.rlim_cur = more == SIZE_MAX ? space.rlim_max : pages * 4096 + more;
    setrlimit(RLIMIT_AS, &space);
}

/* Loads and opens with one failure, then once more without. */
static int load_with_fault(const char *path, int kind, long nth) {
    struct mo_plugin *plugin = NULL;
    const struct memopt_malloc *table;
    if (kind == FAULT_SPACE)
        limit_space((size_t)(nth - 1) * 8192);
    fault_countdown = nth;
    fault_kind = kind;
    int r = mo_plugin_load(MEMOPT_ALLOCATOR, path, &plugin, &error);
    if (r == 0)
        r = mo_plugin_open_allocator(plugin, NULL, &table, &error);
    fault_kind = FAULT_NONE;
    if (kind == FAULT_SPACE) {
        limit_space(SIZE_MAX);
        fault_fired = r < 0;
        if (r < 0 && r != -ENOMEM) {
            printf("%d %s", r, error.message);
            return 6;
        }
    }
    if (!fault_fired)
        return r == 0 ? FAULT_DONE : 1;
    if (r < 0 && (error.code != r || strstr(error.message, path) == NULL)) {
        printf("%d %d %s", r, error.code, error.message);
        return 2;
    }
    bool benign = r == 0;
    if (mo_plugin_load(MEMOPT_ALLOCATOR, path, &plugin, &error) != 0 ||
        mo_plugin_open_allocator(plugin, NULL, &table, &error) != 0) {
        printf("afterwards: %s", error.message);
        return 3;
    }
    void *p = table->calloc(1, 100);
    if (p == NULL || table->usable_size(p) < 100)
        return 4;
    return benign ? FAULT_BENIGN : FAULT_CLEAN;
}

static void test_faults(void **state) {
    static const struct {
        const char *kind;
        long least; /* failures there must be */
    } rows[] = {{"1", 2}, {"2", 1}, {"3", 1}, {"4", 1}, {"5", 2}};
    char path[PATH_MAX], output[4096], nth[24];
    (void)state;
    if (!WITH_FAULTS)
        skip();
    put(path, sizeof(path), "%s", plugin_path("alloc-older-minor.so"));
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        long clean = 0, n = 1;
        for (int code = -1; code != FAULT_DONE; n++) {
            put(nth, sizeof(nth), "%ld", n);
            const char *argv[] = {"/proc/self/exe", "--fault", path, rows[i].kind, nth, NULL};
            int status = run(argv, 0, NULL, output);
            code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
            if (code != FAULT_DONE && code != FAULT_CLEAN && code != FAULT_BENIGN)
                fail_msg("failure %ld of kind %s: %d %s", n, rows[i].kind, code, output);
            clean += code == FAULT_CLEAN;
            assert_true(n < 500);
        }
        print_message("  kind %s: %ld failures, %ld of them errors\n", rows[i].kind, n - 2, clean);
        assert_true(clean >= rows[i].least);
    }
}

/* ------------------------------------------------------------------- main */

static int find_places(void) {
    const char *build = getenv("top_builddir");
    if (realpath(build != NULL ? build : ".", top) == NULL)
        return -1;
    put(plugins, sizeof(plugins), "%.*s/tests/bad_plugins", PATH_MAX / 2, top);
    return unsetenv("MEMOPT_PLUGIN_PATH");
}

static int make_scratch(void **state) {
    const char *directory = getenv("TMPDIR");
    (void)state;
    put(scratch, sizeof(scratch), "%.200s/memopt-registry-XXXXXX",
        directory != NULL ? directory : "/tmp");
    return mkdtemp(scratch) == NULL ? -1 : 0;
}

static int remove_scratch(void **state) {
    char command[PATH_MAX + 16];
    (void)state;
    put(command, sizeof(command), "rm -rf '%s'", scratch);
    return system(command);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--where") == 0) {
        struct mo_plugin *plugin;
        if (getenv("MEMOPT_PLUGIN_PATH") != NULL && getauxval(AT_SECURE) == 0)
            puts("not secure");
        else if (mo_plugin_load(MEMOPT_ALLOCATOR, argv[2], &plugin, &error) < 0)
            puts(error.message);
        else
            puts(plugin->path);
        return 0;
    }
    if (argc == 5 && strcmp(argv[1], "--fault") == 0)
        return load_with_fault(argv[2], atoi(argv[3]), atol(argv[4]));
    if (find_places() != 0)
        return 99;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defects),
        cmocka_unit_test(test_bad_default),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_output_key),
        cmocka_unit_test(test_elf_files),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_by_name),
        cmocka_unit_test(test_unknown_name),
        cmocka_unit_test(test_relative_directories),
        cmocka_unit_test(test_search),
        cmocka_unit_test(test_other_name),
        cmocka_unit_test(test_own_library),
        cmocka_unit_test(test_backend_library),
        cmocka_unit_test(test_older_minor),
        cmocka_unit_test(test_trackers),
        cmocka_unit_test(test_malloc_defaults),
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_moved_tree),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
