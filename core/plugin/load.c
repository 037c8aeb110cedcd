/*
 * load.c - opens the file of a plugin, says what dlopen's failures mean, keeps what is
 * loaded; opens allocators. See registry.h.
 */
#include "core/plugin/parts.h"

#include "core/base/error.h"
#include "core/base/sysmem.h"
#include "core/base/trust.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct mo_plugin *loaded;

/* Says what dlopen's message means and what to do. */
static int fail_dlopen(const char *path, const char *why, struct memopt_error *error) {
    if (why == NULL)
        why = "unknown reason";
    static const char *const short_of[] = {"out of memory", "cannot allocate memory",
                                           "failed to map segment", "cannot create"};
    for (size_t i = 0; i < sizeof(short_of) / sizeof(*short_of); i++)
        if (strcasestr(why, short_of[i]) != NULL)
            return mo_fail(error, -ENOMEM, "plugin '%s' cannot be loaded: %s", path, why);
    size_t length = strlen(path);
    const char *colon = strstr(why, ": ");
    if (strncmp(why, path, length) != 0 && colon != NULL &&
        strstr(why, "cannot open shared object file") != NULL)
        return mo_fail(error, -ENOENT,
                       "plugin '%s' needs the library '%.*s', which the dynamic linker does not "
                       "find: install the package that has it, or name its directory in "
                       "LD_LIBRARY_PATH",
                       path, (int)(colon - why), why);
    if (strncmp(why, path, length) == 0 && strncmp(why + length, ": ", 2) == 0)
        why += length + 2;
    if (strstr(why, "undefined symbol") != NULL || strstr(why, "version `") != NULL)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s' cannot be loaded: %s; link it against all that it uses (-Wl,-z,"
                       "defs says what is missing)",
                       path, why);
    if (strstr(why, "ELF") != NULL || strstr(why, "file too short") != NULL)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s' is not a shared object of this machine (%s): build it here "
                       "with cc -shared -fPIC",
                       path, why);
    return mo_fail(error, -ENOEXEC, "plugin '%s' cannot be loaded: %s", path, why);
}

/* `in_full`: when the name of the machine does not make the difference. */
static const char *machine_name(unsigned machine, const unsigned char *ident, bool in_full,
                                char buffer[64]) {
    static const struct {
        unsigned machine;
        const char *name;
    } machines[] = {{EM_X86_64, "x86-64"}, {EM_386, "i386"},    {EM_AARCH64, "aarch64"},
                    {EM_ARM, "arm"},       {EM_RISCV, "riscv"}, {EM_PPC64, "ppc64"},
                    {EM_S390, "s390"},     {EM_MIPS, "mips"}};
    char number[24];
    snprintf(number, sizeof(number), "machine %u", machine);
    const char *name = number;
    for (size_t i = 0; i < sizeof(machines) / sizeof(*machines); i++)
        if (machines[i].machine == machine)
            name = machines[i].name;
    snprintf(buffer, 64, "%s%s%s",
             !in_full                        ? ""
             : ident[EI_CLASS] == ELFCLASS32 ? "32-bit "
                                             : "64-bit ",
             !in_full                        ? ""
             : ident[EI_DATA] == ELFDATA2MSB ? "big-endian "
                                             : "little-endian ",
             name);
    return buffer;
}

/* Another machine's, or cut off: dlopen() says nothing of use about the one, and dies of
 * the other. What is no ELF file at all is for dlopen() to say. */
static int check_elf(int fd, off_t file_size, const char *path, struct memopt_error *error) {
    Dl_info info;
    ElfW(Ehdr) header;
    if (dladdr((const void *)&fail_dlopen, &info) == 0 ||
        pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return 0;
    const ElfW(Ehdr) *own = info.dli_fbase; /* of the object that this code is in */
    unsigned machine = header.e_machine;    /* stands in the same place in every ELF file */
    if (header.e_ident[EI_DATA] != own->e_ident[EI_DATA])
        machine = (machine & 0xff) << 8 | machine >> 8;
    if (machine != own->e_machine || header.e_ident[EI_CLASS] != own->e_ident[EI_CLASS] ||
        header.e_ident[EI_DATA] != own->e_ident[EI_DATA]) {
        bool in_full = machine == own->e_machine;
        char its[64], ours[64];
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s' is built for %s, not %s: build it here with cc -shared -fPIC",
                       path, machine_name(machine, header.e_ident, in_full, its),
                       machine_name(own->e_machine, own->e_ident, in_full, ours));
    }
    uint64_t end = 0;
    for (unsigned i = 0; i < header.e_phnum; i++) {
        ElfW(Phdr) segment;
        off_t at = (off_t)(header.e_phoff + (uint64_t)i * sizeof(segment));
        if (pread(fd, &segment, sizeof(segment), at) != (ssize_t)sizeof(segment))
            end = UINT64_MAX;
        else if (segment.p_type == PT_LOAD && segment.p_offset + segment.p_filesz > end)
            end = segment.p_offset + segment.p_filesz;
    }
    if (end > (uint64_t)file_size)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s' is cut off: it ends after %jd bytes, within what is to be "
                       "loaded; copy or build it again",
                       path, (intmax_t)file_size);
    return 0;
}

static int check_file(const char *path, struct memopt_error *error) {
    char why[MO_TRUST_WHY] = "";
    mo_auto_close int fd = -1;
    if (mo_place_vouched() || mo_plugin_is_own(path)) {
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        fd = fd < 0 ? -errno : fd;
    } else {
        fd = mo_trust_open(path, 0, why);
    }
    if (why[0] != '\0')
        return mo_fail(error, -EPERM, "plugin '%s' is not loaded: %s", path, why);
    if (fd < 0)
        return mo_fail(error, fd, "plugin '%s' cannot be opened: %s", path,
                       fd == -ENOENT ? "there is no such file" : strerrordesc_np(-fd));
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return mo_fail(error, -EINVAL, "plugin '%s' is not a file", path);
    return mo_place_vouched() ? 0 : check_elf(fd, st.st_size, path, error);
}

static mo_plugin_trial_fn try_it;

void mo_plugin_set_trial(mo_plugin_trial_fn trial) {
    try_it = trial;
}

static bool is_loaded(const char *path) {
    for (const struct mo_plugin *plugin = loaded; plugin != NULL; plugin = plugin->next)
        if (strcmp(plugin->path, path) == 0)
            return true;
    return false;
}

static struct mo_plugin *find_loaded(void *handle) {
    for (struct mo_plugin *plugin = loaded; plugin != NULL; plugin = plugin->next)
        if (plugin->handle == handle)
            return plugin;
    return NULL;
}

/* A handle of `path`'s object with its descriptor checked. */
static int open_object(enum memopt_plugin_kind kind, const char *path, void **ret_handle,
                       const struct memopt_plugin **ret_descriptor, struct memopt_error *error) {
    int r = check_file(path, error);
    if (r == 0 && try_it != NULL && !mo_plugin_is_own(path) && !is_loaded(path))
        r = try_it(path, error);
    if (r < 0)
        return r;
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (handle == NULL)
        return fail_dlopen(path, dlerror(), error);
    const struct memopt_plugin *found = dlsym(handle, MEMOPT_PLUGIN_SYMBOL);
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    if (found == NULL)
        r = mo_fail(error, -ENOEXEC,
                    "plugin '%s' does not export '%s': define it with MEMOPT_EXPORT, see "
                    "memopt-plugin(7)",
                    path, MEMOPT_PLUGIN_SYMBOL);
    else if (dladdr1(found, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0 || symbol == NULL)
        r = mo_fail(error, -ENOEXEC, "plugin '%s': its symbol '%s' has no size", path,
                    MEMOPT_PLUGIN_SYMBOL);
    else
        r = mo_check_descriptor(found, symbol->st_size, kind, path, error);
    if (r < 0) {
        dlclose(handle); /* RTLD_NODELETE: drops the handle, the object stays */
        return r;
    }
    *ret_handle = handle;
    *ret_descriptor = found;
    return 0;
}

int mo_plugin_load(enum memopt_plugin_kind kind, const char *name_or_path,
                   struct mo_plugin **ret_plugin, struct memopt_error *error) {
    char path[PATH_MAX];
    void *handle = NULL;
    const struct memopt_plugin *found = NULL;
    struct mo_plugin *plugin = NULL;
    int r = mo_find_plugin(kind, name_or_path, path, error);
    if (r < 0)
        return r;
    r = open_object(kind, path, &handle, &found, error);
    if (r < 0)
        return r;
    if (strchr(name_or_path, '/') == NULL && strcmp(found->name, name_or_path) != 0) {
        r = mo_fail(error, -ENOEXEC, "plugin '%s' calls itself '%s': its file must be %s%s.so",
                    path, found->name, mo_plugin_kind_prefix(kind), found->name);
        goto close;
    }
    plugin = find_loaded(handle);
    if (plugin != NULL) {
        dlclose(handle);
        *ret_plugin = plugin;
        return 0;
    }
    r = mo_check_options(found, path, error);
    if (r < 0)
        goto close;
    plugin = mo_sys_alloc(sizeof(*plugin));
    char *copy = mo_sys_strdup(path);
    if (plugin == NULL || copy == NULL) {
        r = mo_fail(error, -ENOMEM, "plugin '%s': out of memory", path);
        goto close;
    }
    memcpy(&plugin->descriptor, found, found->size);
    plugin->descriptor.size = sizeof(plugin->descriptor);
    plugin->path = copy;
    plugin->handle = handle;
    plugin->table = (struct mo_option_table){found->options, found->option_size};
    r = mo_check_ops(plugin, error);
    if (r < 0)
        goto close;
    plugin->next = loaded;
    loaded = plugin;
    *ret_plugin = plugin;
    return 0;
close:
    dlclose(handle);
    return r;
}

/* Defaults for the operations of struct memopt_malloc that a plugin leaves out.
 * They have no argument to find the table by, so there are as many copies as
 * there may be such plugins in a process. */
enum { DEFAULTS = 4 };
static const struct memopt_malloc *defaults_for[DEFAULTS];

static void *default_calloc(const struct memopt_malloc *table, size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    void *p = table->malloc(total);
    return p == NULL ? NULL : memset(p, 0, total);
}

static void *default_realloc(const struct memopt_malloc *table, void *p, size_t size) {
    size_t old = table->usable_size(p);
    void *fresh = table->malloc(size);
    if (fresh == NULL)
        return NULL;
    memcpy(fresh, p, old < size ? old : size);
    table->free(p);
    return fresh;
}

#define DEFAULTS_COPY(I)                                                                           \
    static void *calloc_##I(size_t count, size_t size) {                                           \
        return default_calloc(defaults_for[I], count, size);                                       \
    }                                                                                              \
    static void *realloc_##I(void *p, size_t size) {                                               \
        return default_realloc(defaults_for[I], p, size);                                          \
    }
DEFAULTS_COPY(0)
DEFAULTS_COPY(1)
DEFAULTS_COPY(2)
DEFAULTS_COPY(3)
static const struct {
    void *(*calloc)(size_t count, size_t size);
    void *(*realloc)(void *p, size_t size);
} defaults[DEFAULTS] = {
    {calloc_0, realloc_0}, {calloc_1, realloc_1}, {calloc_2, realloc_2}, {calloc_3, realloc_3}};

static int complete_malloc(struct mo_plugin *plugin, struct memopt_malloc *table,
                           struct memopt_error *error) {
    const char *missing = table->malloc == NULL          ? "malloc"
                          : table->free == NULL          ? "free"
                          : table->aligned_alloc == NULL ? "aligned_alloc"
                          : table->usable_size == NULL   ? "usable_size"
                                                         : NULL;
    if (missing != NULL)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its open() gave no '%s', which every allocator must have",
                       plugin->path, missing);
    if (table->calloc != NULL && table->realloc != NULL)
        return 0;
    size_t i = 0;
    while (i < DEFAULTS && defaults_for[i] != NULL)
        i++;
    if (i == DEFAULTS)
        return mo_fail(error, -ENOSPC,
                       "plugin '%s': its open() gave no '%s', and memopt has no more than %d "
                       "substitutes in a process",
                       plugin->path, table->calloc == NULL ? "calloc" : "realloc", DEFAULTS);
    defaults_for[i] = &plugin->malloc;
    if (table->calloc == NULL)
        table->calloc = defaults[i].calloc;
    if (table->realloc == NULL)
        table->realloc = defaults[i].realloc;
    return 0;
}

int mo_plugin_open_allocator(struct mo_plugin *plugin, const void *settings,
                             const struct memopt_malloc **ret_malloc, struct memopt_error *error) {
    if (!plugin->opened) {
        struct memopt_malloc table = {.size = sizeof(table)};
        int r = plugin->ops.allocator.open(&mo_host, settings, &table, error);
        if (r < 0)
            return r;
        r = complete_malloc(plugin, &table, error);
        if (r < 0)
            return r;
        plugin->malloc = table;
        plugin->opened = 1;
    }
    *ret_malloc = &plugin->malloc;
    return 0;
}
