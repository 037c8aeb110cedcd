/*
 * registry.c - see registry.h.
 *
 *   where   directories, the build tree, the installed tree; what is trusted
 *   find    a plugin by name; all plugins
 *   check   the descriptor, its options, its operations; defaults
 *   load    dlopen and what its failures mean
 *   host    what plugins may call
 *
 * It runs in the constructor of the shim: memory is mo_sys_alloc()'s, directories
 * are read by system call (opendir allocates), nothing is printed.
 */
#include "config.h"

#include "core/plugin/registry.h"

#include "lib/nearest.h"

#include "core/base/error.h"
#include "core/base/sysmem.h"
#include "core/base/trust.h"

#include <memopt/show.h>

#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define END_OF(S, F) (offsetof(S, F) + sizeof(((S *)0)->F))

enum { NAME_LIMIT = 31, OPTION_LIMIT = 1024, SETTINGS_LIMIT = 1 << 20 };

/* What a kind is called and how much of its operations struct must be there. */
static const struct kind {
    const char *name, *prefix;
    size_t ops_size, ops_least;
    const char *last_must; /* the operation ops_least ends with */
} kinds[] = {
    [MEMOPT_ALLOCATOR] = {"allocator", "alloc-", sizeof(struct memopt_allocator_ops),
                          END_OF(struct memopt_allocator_ops, open), "open"},
    [MEMOPT_TRACKER] = {"tracker", "track-", sizeof(struct memopt_tracker_ops),
                        END_OF(struct memopt_tracker_ops, report), "report"},
    [MEMOPT_REPORTER] = {"reporter", "report-", sizeof(struct memopt_reporter_ops),
                         END_OF(struct memopt_reporter_ops, write), "write"},
};

static const struct kind *kind_of(uint32_t kind) {
    return kind >= MEMOPT_ALLOCATOR && kind <= MEMOPT_REPORTER ? &kinds[kind] : NULL;
}

const char *mo_plugin_kind_name(enum memopt_plugin_kind kind) {
    return kind_of(kind) == NULL ? "unknown" : kind_of(kind)->name;
}

const char *mo_plugin_kind_prefix(enum memopt_plugin_kind kind) {
    return kind_of(kind) == NULL ? "" : kind_of(kind)->prefix;
}

/* ------------------------------------------------------------------ where */

struct directory {
    char *path;
    struct directory *next;
};
static struct directory *added;

static bool secure(void) {
    return getauxval(AT_SECURE) != 0;
}

int mo_plugin_add_directory(const char *directory, struct memopt_error *error) {
    if (directory[0] != '/')
        return mo_fail(error, -EINVAL,
                       "'%s' is no place for plugins: the path of a directory must be absolute",
                       directory);
    struct directory **last = &added;
    while (*last != NULL) {
        if (strcmp((*last)->path, directory) == 0)
            return 0;
        last = &(*last)->next;
    }
    struct directory *node = mo_sys_alloc(sizeof(*node));
    char *copy = mo_sys_strdup(directory);
    if (node == NULL || copy == NULL)
        return mo_fail(error, -ENOMEM, "out of memory for the plugin directory '%s'", directory);
    node->path = copy;
    *last = node;
    return 0;
}

/* dir/name; false: it does not fit. */
static bool join(char *buffer, size_t size, const char *directory, const char *name) {
    int n = snprintf(buffer, size, "%s/%s", directory, name);
    return n > 0 && (size_t)n < size;
}

static bool is_there(const char *directory, const char *name) {
    char path[PATH_MAX];
    return join(path, sizeof(path), directory, name) && access(path, F_OK) == 0;
}

/* Cuts the last component off; false at the root. */
static bool to_parent(char *path) {
    char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return false;
    *slash = '\0';
    return true;
}

/* One hexadecimal number, and what must follow it. */
static bool take_hex(const char **at, char end, uintptr_t *ret_value) {
    char *after;
    *ret_value = strtoul(*at, &after, 16);
    if (after == *at || *after != end)
        return false;
    *at = after + 1;
    return true;
}

/* The path in a line of /proc/self/maps, if `address` is in its range. */
static const char *path_of_line(const char *line, uintptr_t address) {
    uintptr_t from, to;
    if (!take_hex(&line, '-', &from) || !take_hex(&line, ' ', &to) || address < from ||
        address >= to)
        return NULL;
    return strchr(line, '/');
}

/* The file that is mapped at `address`, by /proc/self/maps. Allocates nothing. */
static bool mapped_file(uintptr_t address, char *buffer, size_t size) {
    char text[PATH_MAX + 256]; /* more than the longest line */
    size_t have = 0;
    ssize_t n;
    mo_auto_close int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    while ((n = read(fd, text + have, sizeof(text) - 1 - have)) > 0) {
        have += (size_t)n;
        text[have] = '\0';
        char *line = text;
        for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            *end = '\0';
            const char *path = path_of_line(line, address);
            if (path == NULL)
                continue;
            if (strlen(path) >= size)
                return false;
            memcpy(buffer, path, strlen(path) + 1);
            return true;
        }
        have -= (size_t)(line - text);
        memmove(text, line, have);
    }
    return false;
}

/* The directory of the object this code is linked into: the executable, the
 * shim or libmemopt. */
static bool own_directory(char *buffer, size_t size) {
    Dl_info info;
    struct link_map *map = NULL;
    if (dladdr1((void *)&mo_plugin_add_directory, &info, (void **)&map, RTLD_DL_LINKMAP) != 0 &&
        map != NULL && map->l_name[0] != '\0') {
        /* A relative LD_LIBRARY_PATH gives a relative name, and the directory it
         * began at may be another by now: the kernel knows. */
        if (map->l_name[0] != '/')
            return mapped_file((uintptr_t)&mo_plugin_add_directory, buffer, size) &&
                   to_parent(buffer);
        /* memopt run links a library whose path LD_PRELOAD can't take */
        ssize_t length = readlink(map->l_name, buffer, size - 1);
        if (length > 0 && buffer[0] == '/') {
            buffer[length] = '\0';
        } else {
            if (strlen(map->l_name) >= size)
                return false;
            memcpy(buffer, map->l_name, strlen(map->l_name) + 1);
        }
        return to_parent(buffer);
    }
    ssize_t n = readlink("/proc/self/exe", buffer, size - 1);
    if (n <= 0)
        return false;
    buffer[n] = '\0';
    return buffer[0] == '/' && to_parent(buffer);
}

/* Where memopt's own files are. In a build tree `top` is its top; elsewhere it
 * is empty and `plugins` is where libraries are as well. */
struct place {
    char top[PATH_MAX];
    char plugins[PATH_MAX];
};

static void find_place(struct place *place) {
    char dir[PATH_MAX - 64];
    place->top[0] = '\0';
    /* Who starts a set-user-id memopt through a hard link chooses its directory. */
    if (!secure() && own_directory(dir, sizeof(dir))) {
        char up[sizeof(dir)];
        memcpy(up, dir, sizeof(dir));
        for (int level = 0; level < 3; level++) {
            if (is_there(up, "config.status") && is_there(up, "plugins/.libs")) {
                memcpy(place->top, up, sizeof(up));
                join(place->plugins, sizeof(place->plugins), up, "plugins/.libs");
                return;
            }
            if (!to_parent(up))
                break;
        }
        /* A tree that was moved after installing: PREFIX/bin/memopt, or
         * PREFIX/lib/libmemopt.so, or the shim in PREFIX/lib/memopt itself. */
        static const char *const relative[] = {"../lib/memopt", "memopt", "../memopt"};
        for (size_t i = 0; i < sizeof(relative) / sizeof(*relative); i++) {
            struct stat st;
            join(place->plugins, sizeof(place->plugins), dir, relative[i]);
            if (stat(place->plugins, &st) == 0 && S_ISDIR(st.st_mode))
                return;
        }
    }
    memcpy(place->plugins, MO_PKGLIBDIR, sizeof(MO_PKGLIBDIR));
}

static const struct place *own_place(void) {
    static struct place place;
    if (place.plugins[0] == '\0')
        find_place(&place);
    return &place;
}

static bool vouched;

void mo_plugin_vouch_for_paths(void) {
    vouched = true;
}

/* Who can write into memopt's own directory needs no plugin. */
bool mo_plugin_is_own(const char *path) {
    const char *own = own_place()->plugins;
    size_t length = strlen(own);
    return strncmp(path, own, length) == 0 && path[length] == '/' &&
           strchr(path + length + 1, '/') == NULL;
}

/* Whether a file or, with O_DIRECTORY, a directory may be used: 1; 0: it is not there, or
 * not trusted, which is noted. Negative errno: that can't be found out. */
static int judge(const char *what, const char *path, int flags, struct memopt_error *error) {
    char why[MO_TRUST_WHY];
    int fd = mo_trust_open(path, flags, why);
    if (fd >= 0) {
        close(fd);
        return 1;
    }
    struct stat status; /* a directory is judged before what may not be in it */
    if (why[0] != '\0' && (lstat(path, &status) == 0 || (errno != ENOENT && errno != ENOTDIR)))
        mo_note_once("the %s '%s' is skipped: %s", what, path, why);
    if (why[0] != '\0' || fd == -ENOENT || fd == -ENOTDIR || fd == -EACCES)
        return 0;
    return mo_fail(error, fd, "the %s '%s' can't be opened: %s", what, path, strerrordesc_np(-fd));
}

/* Calls back for each directory in the order of the search, until it returns
 * non-zero. One that is not trusted is left out. */
typedef int (*directory_fn)(void *context, const char *directory);

static int visit_trusted(directory_fn visit, void *context, const char *directory,
                         struct memopt_error *error) {
    int r = judge("plugin directory", directory, O_DIRECTORY, error);
    return r <= 0 ? r : visit(context, directory);
}

/* A relative one in the environment is an error, or passed over if `strict` is false. */
static int each_directory(directory_fn visit, void *context, bool strict,
                          struct memopt_error *error) {
    for (const struct directory *node = added; node != NULL; node = node->next) {
        int r = visit_trusted(visit, context, node->path, error);
        if (r != 0)
            return r;
    }
    const char *environment = secure() ? NULL : getenv("MEMOPT_PLUGIN_PATH");
    for (const char *at = environment; at != NULL && *at != '\0';) {
        size_t length = strcspn(at, ":");
        char path[PATH_MAX];
        bool usable = at[0] == '/' && length < sizeof(path);
        if (length > 0 && (usable || strict)) {
            if (!usable)
                return mo_fail(error, -EINVAL,
                               "MEMOPT_PLUGIN_PATH holds '%.*s': directories in it must be "
                               "absolute, separated by ':'",
                               (int)length, at);
            memcpy(path, at, length);
            path[length] = '\0';
            int r = visit_trusted(visit, context, path, error);
            if (r != 0)
                return r;
        }
        at += length + (at[length] == ':');
    }
    return visit(context, own_place()->plugins);
}

int mo_plugin_own_library(const char *name, char *buffer, size_t size, struct memopt_error *error) {
    static const char *const built[] = {"preload/.libs", ".libs", "cli"};
    const struct place *place = own_place();
    char path[PATH_MAX], directory[PATH_MAX];
    bool found = false;
    if (place->top[0] != '\0') {
        for (size_t i = 0; i < sizeof(built) / sizeof(*built) && !found; i++)
            found = join(directory, sizeof(directory), place->top, built[i]) &&
                    join(path, sizeof(path), directory, name) && access(path, R_OK) == 0;
    } else {
        found = join(path, sizeof(path), place->plugins, name) && access(path, R_OK) == 0;
    }
    if (!found)
        return mo_fail(error, -ENOENT, "memopt's own file '%s' is not in '%s': %s", name,
                       place->top[0] != '\0' ? place->top : place->plugins,
                       place->top[0] != '\0' ? "run make there" : "install memopt again");
    if (strlen(path) >= size)
        return mo_fail(error, -ENAMETOOLONG, "the path '%s' is too long", path);
    memcpy(buffer, path, strlen(path) + 1);
    return 0;
}

int mo_plugin_own_profiles(char *buffer, size_t size, struct memopt_error *error) {
    /* of an installed tree, wherever it was moved to, with its libraries in lib or lib/ARCH */
    static const char *const relative[] = {"../../share/memopt/profiles",
                                           "../../../share/memopt/profiles"};
    const struct place *place = own_place();
    if (place->top[0] != '\0') {
        if (join(buffer, size, place->top, "conf/profiles") && access(buffer, R_OK) == 0)
            return 0;
    } else {
        for (size_t i = 0; i < sizeof(relative) / sizeof(*relative); i++)
            if (join(buffer, size, place->plugins, relative[i]) && access(buffer, R_OK) == 0)
                return 0;
        if (join(buffer, size, MO_PKGDATADIR, "profiles") && access(buffer, R_OK) == 0)
            return 0;
    }
    return mo_fail(error, -ENOENT, "memopt's own profiles are not in '%s': install memopt again",
                   place->top[0] != '\0' ? place->top : MO_PKGDATADIR);
}

/* ------------------------------------------------------------------- find */

static bool good_name(const char *name, size_t length) {
    if (length == 0 || length > NAME_LIMIT)
        return false;
    for (size_t i = 0; i < length; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
              name[i] == '-'))
            return false;
    return true;
}

/* alloc-mine.so: an allocator, "mine". */
static bool split_file_name(const char *file, enum memopt_plugin_kind *ret_kind,
                            char name[NAME_LIMIT + 1]) {
    size_t length = strlen(file);
    if (length < 3 || strcmp(file + length - 3, ".so") != 0)
        return false;
    for (uint32_t kind = MEMOPT_ALLOCATOR; kind <= MEMOPT_REPORTER; kind++) {
        size_t prefix = strlen(kinds[kind].prefix);
        if (strncmp(file, kinds[kind].prefix, prefix) != 0 || length < prefix + 3 ||
            !good_name(file + prefix, length - prefix - 3))
            continue;
        *ret_kind = (enum memopt_plugin_kind)kind;
        memcpy(name, file + prefix, length - prefix - 3);
        name[length - prefix - 3] = '\0';
        return true;
    }
    return false;
}

/* The least (kind, name) after the last one that was given: walking in order
 * needs no memory, and a name of an earlier directory wins by itself. */
struct step {
    uint32_t last_kind, kind;
    char last[NAME_LIMIT + 1], name[NAME_LIMIT + 1];
    char path[PATH_MAX];
};

static int compare(uint32_t kind, const char *name, uint32_t other_kind, const char *other) {
    return kind != other_kind ? (kind < other_kind ? -1 : 1) : strcmp(name, other);
}

/* The path of a file: 1 if it is there and may be used; else as judge() says. */
static int take_file(const char *directory, const char *name, char path[PATH_MAX],
                     struct memopt_error *error) {
    if (!is_there(directory, name) || !join(path, PATH_MAX, directory, name))
        return 0;
    return mo_plugin_is_own(path) ? 1 : judge("file", path, 0, error);
}

static int step_directory(void *context, const char *directory) {
    struct step *step = context;
    _Alignas(struct dirent64) char buffer[4096];
    char path[PATH_MAX];
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n;
    while ((n = getdents64(fd, buffer, sizeof(buffer))) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct dirent64 *entry = (const struct dirent64 *)(const void *)(buffer + at);
            enum memopt_plugin_kind kind;
            char name[NAME_LIMIT + 1];
            at += entry->d_reclen;
            if (!split_file_name(entry->d_name, &kind, name) ||
                compare(kind, name, step->last_kind, step->last) <= 0 ||
                (step->kind != 0 && compare(kind, name, step->kind, step->name) >= 0) ||
                take_file(directory, entry->d_name, path, NULL) <= 0)
                continue;
            memcpy(step->path, path, sizeof(path));
            step->kind = kind;
            memcpy(step->name, name, sizeof(name));
        }
    }
    close(fd);
    return 0;
}

static int visit_nothing(void *context, const char *directory) {
    (void)context;
    (void)directory;
    return 0;
}

int mo_plugin_check_directories(struct memopt_error *error) {
    return each_directory(visit_nothing, NULL, true, error);
}

int mo_plugin_each(mo_plugin_found_fn found, void *context) {
    struct step step = {0};
    for (;;) {
        step.kind = 0;
        each_directory(step_directory, &step, false, NULL);
        if (step.kind == 0)
            return 0;
        int r = found(context, (enum memopt_plugin_kind)step.kind, step.name, step.path);
        if (r != 0)
            return r;
        step.last_kind = step.kind;
        memcpy(step.last, step.name, sizeof(step.last));
    }
}

struct search {
    struct memopt_error *error;
    char file[NAME_LIMIT + 16];
    char path[PATH_MAX];
};

static int search_directory(void *context, const char *directory) {
    struct search *search = context;
    return take_file(directory, search->file, search->path, search->error);
}

struct known {
    enum memopt_plugin_kind kind;
    struct mo_nearest nearest;
    char best[NAME_LIMIT + 1]; /* what it points to: names pass by */
    char names[512];
};

static int note_known(void *context, enum memopt_plugin_kind kind, const char *name,
                      const char *path) {
    struct known *known = context;
    (void)path;
    if (kind != known->kind)
        return 0;
    mo_nearest_try(&known->nearest, name);
    if (known->nearest.best == name)
        known->nearest.best = memcpy(known->best, name, strlen(name) + 1);
    size_t used = strlen(known->names);
    snprintf(known->names + used, sizeof(known->names) - used, "%s%s", used > 0 ? ", " : "", name);
    return 0;
}

/* Backends that configure leaves out if their headers are missing. */
static const struct {
    const char *name, *package;
} optional_backends[] = {
    {"jemalloc", "libjemalloc-dev"},
    {"tcmalloc", "libgoogle-perftools-dev"},
    {"mimalloc", "libmimalloc-dev"},
};

const char *mo_plugin_build_package(enum memopt_plugin_kind kind, const char *name) {
    for (size_t i = 0; i < sizeof(optional_backends) / sizeof(*optional_backends); i++)
        if (kind == MEMOPT_ALLOCATOR && strcmp(name, optional_backends[i].name) == 0)
            return optional_backends[i].package;
    return NULL;
}

struct other_kind {
    const char *name;
    enum memopt_plugin_kind kind; /* 0: none has the name */
};

static int is_of_other_kind(void *context, enum memopt_plugin_kind kind, const char *name,
                            const char *path) {
    struct other_kind *other = context;
    (void)path;
    if (strcmp(name, other->name) != 0)
        return 0;
    other->kind = kind;
    return 1;
}

static int fail_unknown(enum memopt_plugin_kind kind, const char *name,
                        struct memopt_error *error) {
    const char *package = mo_plugin_build_package(kind, name);
    if (package != NULL)
        return mo_fail(error, -ENOENT,
                       "there is no allocator plugin '%s': memopt was built without it\n"
                       "install %s, then configure and build memopt again",
                       name, package);
    struct known known = {.kind = kind, .nearest = {.word = name}};
    mo_plugin_each(note_known, &known);
    int r = mo_fail(error, -ENOENT, "there is no %s plugin '%s'", mo_plugin_kind_name(kind), name);
    struct other_kind other = {.name = name};
    if (mo_plugin_each(is_of_other_kind, &other) != 0)
        mo_error_hint(error, "'%s' is a %s", name, mo_plugin_kind_name(other.kind));
    else if (known.nearest.best != NULL)
        mo_error_hint(error, "did you mean '%s'?", known.nearest.best);
    mo_error_hint(error, "known: %s", known.names[0] != '\0' ? known.names : "none");
    mo_error_hint(error,
                  "others are found in the directories of plugin_path and MEMOPT_PLUGIN_PATH as "
                  "%sNAME.so, or by their absolute path",
                  mo_plugin_kind_prefix(kind));
    return r;
}

static int find_plugin(enum memopt_plugin_kind kind, const char *name, char path[PATH_MAX],
                       struct memopt_error *error) {
    if (strchr(name, '/') != NULL) {
        if (name[0] != '/')
            return mo_fail(error, -EINVAL,
                           "plugin '%s': a relative path is refused; give a plugin's name or its "
                           "absolute path",
                           name);
        if (strlen(name) >= PATH_MAX)
            return mo_fail(error, -ENAMETOOLONG, "plugin '%s': the path is too long", name);
        memcpy(path, name, strlen(name) + 1);
        return 0;
    }
    if (!good_name(name, strlen(name)))
        return mo_fail(
            error, -EINVAL,
            "'%s' is not a valid plugin name: at most %d of a-z, 0-9 and '-', or an absolute "
            "path",
            name, NAME_LIMIT);
    struct search search = {.error = error};
    snprintf(search.file, sizeof(search.file), "%s%s.so", mo_plugin_kind_prefix(kind), name);
    int r = each_directory(search_directory, &search, true, error);
    if (r < 0)
        return r;
    if (r == 0)
        return fail_unknown(kind, name, error);
    memcpy(path, search.path, sizeof(search.path));
    return 0;
}

/* ------------------------------------------------------------------ check */

static const size_t field_sizes[] = {
    [MEMOPT_BOOL] = sizeof(int),          [MEMOPT_INT] = sizeof(int64_t),
    [MEMOPT_SIZE] = sizeof(uint64_t),     [MEMOPT_DURATION] = sizeof(uint64_t),
    [MEMOPT_RATIO] = sizeof(double),      [MEMOPT_NUMBER] = sizeof(double),
    [MEMOPT_ENUM] = sizeof(int),          [MEMOPT_LIST] = sizeof(struct memopt_list),
    [MEMOPT_PATH] = sizeof(const char *), [MEMOPT_STRING] = sizeof(const char *),
};

static bool good_key(const char *key) {
    size_t length = key[0] >= 'a' && key[0] <= 'z' ? strnlen(key, 64) : 0;
    if (length == 0 || length == 64)
        return false;
    for (size_t i = 0; i < length; i++)
        if (!((key[i] >= 'a' && key[i] <= 'z') || (key[i] >= '0' && key[i] <= '9') ||
              key[i] == '_'))
            return false;
    return true;
}

/* Both are values of the option, and the upper one is not below the lower one. */
static int check_bounds(const struct memopt_option *option, struct memopt_error *error) {
    struct memopt_option row = *option;
    int r = 0;
    row.value = ""; /* so that an empty bound isn't "unset" */
    row.min = row.max = NULL;
    if (option->min != NULL)
        r = mo_option_parse(&row, option->min, NULL, NULL, NULL, error);
    row.min = option->min;
    if (option->max != NULL && r == 0)
        r = mo_option_parse(&row, option->max, NULL, NULL, NULL, error);
    return r;
}

static int check_options(const struct memopt_plugin *descriptor, const char *path,
                         struct memopt_error *error) {
    if (descriptor->options == NULL)
        return 0;
    if (descriptor->option_size != sizeof(struct memopt_option))
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its option rows have %u bytes where ABI %d.%d has %zu: set "
                       ".option_size with MEMOPT_PLUGIN_HEADER",
                       path, descriptor->option_size, MEMOPT_ABI_MAJOR, MEMOPT_ABI_MINOR,
                       sizeof(struct memopt_option));
    if (descriptor->settings_size == 0 || descriptor->settings_size > SETTINGS_LIMIT)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': it has options, but its settings_size is %zu: set it to the "
                       "size of the struct they fill (1 .. %d)",
                       path, descriptor->settings_size, SETTINGS_LIMIT);
    for (size_t i = 0; descriptor->options[i].key != NULL; i++) {
        const struct memopt_option *option = &descriptor->options[i];
        if (i == OPTION_LIMIT)
            return mo_fail(error, -ENOEXEC,
                           "plugin '%s': its option table has no end after %d rows: end it with "
                           "MEMOPT_OPT_END",
                           path, OPTION_LIMIT);
        if (!good_key(option->key))
            return mo_fail(error, -ENOEXEC,
                           "plugin '%s': its option %zu has the key '%.64s', not a lower-case word "
                           "of a-z, 0-9 and '_'",
                           path, i, option->key);
        if (option->type < MEMOPT_BOOL || option->type > MEMOPT_STRING)
            return mo_fail(error, -ENOEXEC,
                           "plugin '%s': its option '%s' has the type %u, which ABI %d.%d does not "
                           "have",
                           path, option->key, option->type, MEMOPT_ABI_MAJOR, MEMOPT_ABI_MINOR);
        if (option->offset > descriptor->settings_size ||
            descriptor->settings_size - option->offset < field_sizes[option->type])
            return mo_fail(error, -ENOEXEC,
                           "plugin '%s': the field of its option '%s' ends outside its settings of "
                           "%zu bytes",
                           path, option->key, descriptor->settings_size);
        if (option->type == MEMOPT_ENUM && (option->choices == NULL || option->choices[0] == NULL))
            return mo_fail(error, -ENOEXEC,
                           "plugin '%s': its option '%s' is an enum without "
                           "choices",
                           path, option->key);
        if (option->help == NULL)
            return mo_fail(error, -ENOEXEC, "plugin '%s': its option '%s' has no help text", path,
                           option->key);
        if (descriptor->kind == MEMOPT_REPORTER && strcmp(option->key, "output") == 0)
            return mo_fail(error, -ENOEXEC,
                           "plugin '%s': its option 'output' is one that every reporter has from "
                           "memopt: give it another key",
                           path);
        for (size_t j = 0; j < i; j++)
            if (strcmp(descriptor->options[j].key, option->key) == 0)
                return mo_fail(error, -ENOEXEC, "plugin '%s': it has two options with the key '%s'",
                               path, option->key);
        int r = check_bounds(option, error);
        if (r < 0) {
            mo_error_prefix(error, "plugin '%s': a bound of its options is wrong", path);
            return r;
        }
    }
    struct mo_option_table table = {descriptor->options, descriptor->option_size};
    void *scratch = mo_sys_alloc(descriptor->settings_size);
    if (scratch == NULL)
        return mo_fail(error, -ENOMEM, "plugin '%s': out of memory", path);
    int r = mo_options_init(table, scratch, &mo_sys_allocator, error);
    if (r < 0)
        mo_error_prefix(error, "plugin '%s': a default of its options is wrong", path);
    return r;
}

/* `available`: bytes of the symbol in the file, so that nothing is read past it. */
static int check_descriptor(const struct memopt_plugin *found, size_t available,
                            enum memopt_plugin_kind kind, const char *path,
                            struct memopt_error *error) {
    const size_t least = END_OF(struct memopt_plugin, ops);
    if (available < END_OF(struct memopt_plugin, kind))
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its '%s' has %zu bytes and is no struct memopt_plugin", path,
                       MEMOPT_PLUGIN_SYMBOL, available);
    if (found->abi_major != MEMOPT_ABI_MAJOR || found->abi_minor > MEMOPT_ABI_MINOR)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s' is built for plugin ABI %u.%u, this memopt has %d.%d: %s", path,
                       found->abi_major, found->abi_minor, MEMOPT_ABI_MAJOR, MEMOPT_ABI_MINOR,
                       found->abi_major < MEMOPT_ABI_MAJOR
                           ? "build the plugin again with this memopt's headers"
                           : "install a newer memopt, or build the plugin with this memopt's "
                             "headers");
    if (found->size < least || available < least)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its descriptor is truncated: %zu bytes where ABI %u.%u has "
                       "%zu; begin it with MEMOPT_PLUGIN_HEADER",
                       path, found->size < available ? (size_t)found->size : available,
                       found->abi_major, found->abi_minor, least);
    if (found->size > sizeof(struct memopt_plugin))
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its descriptor has %u bytes where ABI %d.%d has %zu: begin it "
                       "with MEMOPT_PLUGIN_HEADER",
                       path, found->size, MEMOPT_ABI_MAJOR, MEMOPT_ABI_MINOR,
                       sizeof(struct memopt_plugin));
    if (kind_of(found->kind) == NULL)
        return mo_fail(error, -ENOEXEC, "plugin '%s' is of kind %u, which ABI %d.%d does not have",
                       path, found->kind, MEMOPT_ABI_MAJOR, MEMOPT_ABI_MINOR);
    if (kind != 0 && found->kind != (uint32_t)kind)
        return mo_fail(error, -ENOEXEC, "plugin '%s' is of the wrong kind: %s where %s is wanted",
                       path, mo_plugin_kind_name((enum memopt_plugin_kind)found->kind),
                       mo_plugin_kind_name(kind));
    if (found->name == NULL || !good_name(found->name, strnlen(found->name, NAME_LIMIT + 1)))
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its name is '%.64s', not 1 to %d of a-z, 0-9 and '-'", path,
                       found->name == NULL ? "" : found->name, NAME_LIMIT);
    if (found->version == NULL || found->summary == NULL)
        return mo_fail(error, -ENOEXEC, "plugin '%s': its descriptor lacks '%s'", path,
                       found->version == NULL ? "version" : "summary");
    if (found->ops == NULL)
        return mo_fail(error, -ENOEXEC, "plugin '%s': its descriptor lacks 'ops'", path);
    return 0;
}

/* Defaults of plugin.h, so that callers need no tests. */

static int unknown_figures(struct memopt_figures *figures) {
    size_t size = figures->size;
    *figures = (struct memopt_figures)MEMOPT_FIGURES_INIT;
    figures->size = size;
    return 0;
}

static uint64_t purge_nothing(void) {
    return 0;
}

static int complete_allocator(struct mo_plugin *plugin, struct memopt_error *error) {
    struct memopt_allocator_ops *ops = &plugin->ops.allocator;
    const struct {
        const char *name;
        bool there;
    } heap_ops[] = {
        {"heap_create", ops->heap_create != NULL},
        {"heap_destroy", ops->heap_destroy != NULL},
        {"heap_malloc", ops->heap_malloc != NULL},
        {"heap_calloc", ops->heap_calloc != NULL},
        {"heap_realloc", ops->heap_realloc != NULL},
        {"heap_aligned_alloc", ops->heap_aligned_alloc != NULL},
        {"heap_free", ops->heap_free != NULL},
        {"heap_usable_size", ops->heap_usable_size != NULL},
    };
    enum { HEAP_OPS = sizeof(heap_ops) / sizeof(*heap_ops) };
    const char *there = NULL, *missing = NULL;
    for (size_t i = HEAP_OPS; i-- > 0;)
        *(heap_ops[i].there ? &there : &missing) = heap_ops[i].name;
    if (there != NULL && missing != NULL)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': it has the operation '%s' but not '%s': separate heaps need "
                       "all of heap_create .. heap_usable_size, or none",
                       plugin->path, there, missing);
    plugin->has_heaps = there != NULL;
    if ((ops->flags & MEMOPT_ALLOCATOR_HEAPS_ONLY) != 0 && !plugin->has_heaps)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': it is for separate heaps only, but lacks 'heap_create'",
                       plugin->path);
    if (ops->figures == NULL)
        ops->figures = unknown_figures;
    if (ops->purge == NULL)
        ops->purge = purge_nothing;
    return 0;
}

static int copy_ops(struct mo_plugin *plugin, struct memopt_error *error) {
    const struct kind *kind = kind_of(plugin->descriptor.kind);
    size_t size;
    memcpy(&size, plugin->descriptor.ops, sizeof(size));
    if (size < kind->ops_least)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its operations are truncated: %zu bytes do not reach '%s', "
                       "which every %s must have (%zu bytes); set .size to sizeof the struct",
                       plugin->path, size, kind->last_must, kind->name, kind->ops_least);
    if (size > kind->ops_size)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its operations have %zu bytes where ABI %d.%d has %zu: set "
                       ".size to sizeof the struct",
                       plugin->path, size, MEMOPT_ABI_MAJOR, MEMOPT_ABI_MINOR, kind->ops_size);
    memcpy(&plugin->ops, plugin->descriptor.ops, size);
    memcpy(&plugin->ops, &kind->ops_size, sizeof(kind->ops_size));
    plugin->descriptor.ops = &plugin->ops;

    bool must = false;
    switch ((enum memopt_plugin_kind)plugin->descriptor.kind) {
    case MEMOPT_ALLOCATOR:
        must = plugin->ops.allocator.open != NULL;
        break;
    case MEMOPT_TRACKER:
        must = plugin->ops.tracker.report != NULL ||
               (plugin->ops.tracker.flags & MEMOPT_TRACKER_COUNTS) != 0;
        break;
    case MEMOPT_REPORTER:
        must = plugin->ops.reporter.write != NULL;
        if (plugin->ops.reporter.default_output == NULL)
            plugin->ops.reporter.default_output = "stdout";
        break;
    }
    if (!must)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s' lacks the operation '%s', which every %s must "
                       "have",
                       plugin->path, kind->last_must, kind->name);
    return plugin->descriptor.kind == MEMOPT_ALLOCATOR ? complete_allocator(plugin, error)
                                                       : 0;
}

/* ------------------------------------------------------------------- load */

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
    if (dladdr((const void *)&kinds, &info) == 0 ||
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
    if (vouched || mo_plugin_is_own(path)) {
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
    return vouched ? 0 : check_elf(fd, st.st_size, path, error);
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
        r = check_descriptor(found, symbol->st_size, kind, path, error);
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
    int r = find_plugin(kind, name_or_path, path, error);
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
    r = check_options(found, path, error);
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
    r = copy_ops(plugin, error);
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

/* Looks where the dynamic linker does, but for its cache, without running the
 * library's constructors in a process that only wants to know. */
static bool find_library(const char *library, char path[PATH_MAX]) {
    _Alignas(Dl_serinfo) char buffer[16 * 1024];
    Dl_serinfo *info = (Dl_serinfo *)(void *)buffer;
    Dl_serinfo need;
    bool found = false;
    void *self = dlopen(NULL, RTLD_LAZY);
    if (self != NULL && dlinfo(self, RTLD_DI_SERINFOSIZE, &need) == 0 &&
        need.dls_size <= sizeof(buffer)) {
        info->dls_size = need.dls_size;
        info->dls_cnt = need.dls_cnt;
        if (dlinfo(self, RTLD_DI_SERINFO, info) == 0)
            for (unsigned i = 0; i < info->dls_cnt && !found; i++)
                found = info->dls_serpath[i].dls_name[0] == '/' &&
                        join(path, PATH_MAX, info->dls_serpath[i].dls_name, library) &&
                        access(path, R_OK) == 0;
    }
    if (self != NULL)
        dlclose(self);
    return found;
}

int mo_plugin_backend_library(const struct mo_plugin *plugin, char *buffer, size_t size,
                              struct memopt_error *error) {
    const struct memopt_allocator_ops *ops = &plugin->ops.allocator;
    char path[PATH_MAX] = "";
    if (ops->libraries == NULL || ops->libraries[0] == NULL) {
        buffer[0] = '\0';
        return 0;
    }
    bool found = false;
    /* a plugin's own lies beside it */
    char beside[PATH_MAX];
    snprintf(beside, sizeof(beside), "%s", plugin->path);
    to_parent(beside);
    for (size_t i = 0; ops->libraries[i] != NULL && !found; i++)
        found = take_file(beside, ops->libraries[i], path, NULL) > 0 ||
                find_library(ops->libraries[i], path);
    for (size_t i = 0; ops->libraries[i] != NULL && !found; i++) {
        /* Only the linker's cache knows it. Never closed: it is an allocator. */
        const char *why = dlopen(ops->libraries[i], RTLD_LAZY | RTLD_LOCAL) ? NULL : dlerror();
        /* If its thread-local storage does not fit after start-up, it is there. */
        found = why == NULL || strstr(why, "static TLS") != NULL;
        if (found)
            snprintf(path, sizeof(path), "%s", ops->libraries[i]);
    }
    if (!found)
        return mo_fail(error, -ENOENT,
                       "allocator '%s' needs the library '%s', which is not there: %s%s",
                       plugin->descriptor.name, ops->libraries[0],
                       ops->package != NULL ? "apt-get install " : "install it",
                       ops->package != NULL ? ops->package : "");
    if (strlen(path) >= size)
        return mo_fail(error, -ENAMETOOLONG, "the path '%s' is too long", path);
    memcpy(buffer, path, strlen(path) + 1);
    return 0;
}

/* ------------------------------------------------------------------- host */

static mo_note_fn note_sink;

void mo_host_set_note(mo_note_fn note) {
    note_sink = note;
}

/* In one piece, as it is; only a text that must not reach a terminal as it is goes out in
 * several, escaped. */
static void say_on_stderr(const char *kind, const char *text) {
    char shown[256] = "";
    const char *words[] = {"memopt: ", kind != NULL ? kind : "", kind != NULL ? ": " : "", text,
                           "\n"};
    enum { WORDS = sizeof(words) / sizeof(words[0]) };
    struct iovec parts[WORDS];
    ssize_t written = 0; /* if it can't be: there is nowhere else to say it */
    const char *c = text;
    for (size_t length; *c != '\0'; c += length)
        if ((length = *c == '\n' || *c == '\t' ? 1 : memopt_shown(c)) == 0)
            break;
    if (*c == '\0') {
        for (size_t i = 0; i < WORDS; i++)
            parts[i] = (struct iovec){(void *)(uintptr_t)words[i], strlen(words[i])};
        written = writev(STDERR_FILENO, parts, WORDS);
    } else {
        for (size_t i = 0; i < WORDS; i++)
            for (const char *word = words[i]; *word != '\0';) {
                word += memopt_show(shown, sizeof(shown), word, MEMOPT_SHOW_LINES);
                written = write(STDERR_FILENO, shown, strlen(shown));
            }
    }
    (void)written;
}

/* A text for "%s" goes out as it is, of any length and without a copy: a signal
 * handler on a small stack says it that way. */
static void say(int level, const char *kind, const char *format, va_list arguments) {
    char buffer[1024];
    const char *text = buffer;
    int saved = errno;
    if (strcmp(format, "%s") == 0)
        text = va_arg(arguments, const char *);
    else if (vsnprintf(buffer, sizeof(buffer), format, arguments) < 0)
        buffer[0] = '\0';
    if (text[0] != '\0') {
        if (level >= MEMOPT_NOTE_ERROR)
            say_on_stderr(kind, text);
        if (note_sink != NULL)
            note_sink(level, kind, text);
    }
    errno = saved;
}

void mo_note_once(const char *format, ...) {
    static struct said {
        struct said *next;
        char text[];
    } * said;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    for (const struct said *one = said; one != NULL; one = one->next)
        if (strcmp(one->text, text) == 0)
            return;
    struct said *one = mo_sys_alloc(sizeof(*one) + strlen(text) + 1);
    if (one != NULL) {
        memcpy(one->text, text, strlen(text) + 1);
        one->next = said;
        said = one;
    }
    mo_host.note(MEMOPT_NOTE_WARNING, "%s", text);
}

static void host_note(int level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(level, NULL, format, arguments);
    va_end(arguments);
}

static void host_event(const char *kind, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(MEMOPT_NOTE_ERROR, kind, format, arguments);
    va_end(arguments);
}

/* Of a process that has no ledger, or whose owner says otherwise. */
static void *no_area(const char *name, uint32_t version, uint32_t unit, uint64_t limit,
                     struct memopt_error *error) {
    (void)version, (void)unit, (void)limit;
    return mo_fail(error, -ENOENT, "there is no ledger for the area '%s'", name), NULL;
}
static int no_area_back(void *area, uint64_t count) {
    (void)area, (void)count;
    return -ENOENT;
}
static uint64_t no_clock(void) {
    return 0;
}

struct memopt_host mo_host = {
    .abi_major = MEMOPT_ABI_MAJOR,
    .abi_minor = MEMOPT_ABI_MINOR,
    .size = sizeof(struct memopt_host),
    .alloc = mo_sys_alloc,
    .note = host_note,
    .fail = mo_fail,
    .event = host_event,
    .area = no_area,
    .area_back = no_area_back,
    .clock = no_clock,
};
