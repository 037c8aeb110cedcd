/*
 * place.c - where plugins and memopt's own files are: directories that are given, the
 * build tree or the installed one; and what in them is trusted. See registry.h.
 */
#include "config.h"

#include "core/plugin/parts.h"

#include "core/base/error.h"
#include "core/base/sysmem.h"
#include "core/base/trust.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

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

bool mo_place_join(char *buffer, size_t size, const char *directory, const char *name) {
    int n = snprintf(buffer, size, "%s/%s", directory, name);
    return n > 0 && (size_t)n < size;
}

static bool is_there(const char *directory, const char *name) {
    char path[PATH_MAX];
    return mo_place_join(path, sizeof(path), directory, name) && access(path, F_OK) == 0;
}

bool mo_place_parent(char *path) {
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
                   mo_place_parent(buffer);
        /* memopt run links a library whose path LD_PRELOAD can't take */
        ssize_t length = readlink(map->l_name, buffer, size - 1);
        if (length > 0 && buffer[0] == '/') {
            buffer[length] = '\0';
        } else {
            if (strlen(map->l_name) >= size)
                return false;
            memcpy(buffer, map->l_name, strlen(map->l_name) + 1);
        }
        return mo_place_parent(buffer);
    }
    ssize_t n = readlink("/proc/self/exe", buffer, size - 1);
    if (n <= 0)
        return false;
    buffer[n] = '\0';
    return buffer[0] == '/' && mo_place_parent(buffer);
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
                mo_place_join(place->plugins, sizeof(place->plugins), up, "plugins/.libs");
                return;
            }
            if (!mo_place_parent(up))
                break;
        }
        /* A tree that was moved after installing: PREFIX/bin/memopt, or
         * PREFIX/lib/libmemopt.so, or the shim in PREFIX/lib/memopt itself. */
        static const char *const relative[] = {"../lib/memopt", "memopt", "../memopt"};
        for (size_t i = 0; i < sizeof(relative) / sizeof(*relative); i++) {
            struct stat st;
            mo_place_join(place->plugins, sizeof(place->plugins), dir, relative[i]);
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

bool mo_place_vouched(void) {
    return vouched;
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

static int visit_trusted(mo_directory_fn visit, void *context, const char *directory,
                         struct memopt_error *error) {
    int r = judge("plugin directory", directory, O_DIRECTORY, error);
    return r <= 0 ? r : visit(context, directory);
}

int mo_place_each(mo_directory_fn visit, void *context, bool strict, struct memopt_error *error) {
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
            found = mo_place_join(directory, sizeof(directory), place->top, built[i]) &&
                    mo_place_join(path, sizeof(path), directory, name) && access(path, R_OK) == 0;
    } else {
        found = mo_place_join(path, sizeof(path), place->plugins, name) && access(path, R_OK) == 0;
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
        if (mo_place_join(buffer, size, place->top, "conf/profiles") && access(buffer, R_OK) == 0)
            return 0;
    } else {
        for (size_t i = 0; i < sizeof(relative) / sizeof(*relative); i++)
            if (mo_place_join(buffer, size, place->plugins, relative[i]) &&
                access(buffer, R_OK) == 0)
                return 0;
        if (mo_place_join(buffer, size, MO_PKGDATADIR, "profiles") && access(buffer, R_OK) == 0)
            return 0;
    }
    return mo_fail(error, -ENOENT, "memopt's own profiles are not in '%s': install memopt again",
                   place->top[0] != '\0' ? place->top : MO_PKGDATADIR);
}

int mo_place_take(const char *directory, const char *name, char path[PATH_MAX],
                  struct memopt_error *error) {
    if (!is_there(directory, name) || !mo_place_join(path, PATH_MAX, directory, name))
        return 0;
    return mo_plugin_is_own(path) ? 1 : judge("file", path, 0, error);
}
