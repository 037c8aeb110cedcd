/*
 * find.c - a plugin by its name, all plugins in order, an allocator's library. See
 * registry.h.
 */
#include "core/plugin/parts.h"

#include "lib/nearest.h"

#include "core/base/error.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* alloc-mine.so: an allocator, "mine". */
static bool split_file_name(const char *file, enum memopt_plugin_kind *ret_kind,
                            char name[MO_PLUGIN_NAME_MAX + 1]) {
    size_t length = strlen(file);
    if (length < 3 || strcmp(file + length - 3, ".so") != 0)
        return false;
    for (uint32_t kind = MEMOPT_ALLOCATOR; kind <= MEMOPT_REPORTER; kind++) {
        size_t prefix = strlen(mo_kind(kind)->prefix);
        if (strncmp(file, mo_kind(kind)->prefix, prefix) != 0 || length < prefix + 3 ||
            !mo_check_name(file + prefix, length - prefix - 3))
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
    char last[MO_PLUGIN_NAME_MAX + 1], name[MO_PLUGIN_NAME_MAX + 1];
    char path[PATH_MAX];
};

static int compare(uint32_t kind, const char *name, uint32_t other_kind, const char *other) {
    return kind != other_kind ? (kind < other_kind ? -1 : 1) : strcmp(name, other);
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
            char name[MO_PLUGIN_NAME_MAX + 1];
            at += entry->d_reclen;
            if (!split_file_name(entry->d_name, &kind, name) ||
                compare(kind, name, step->last_kind, step->last) <= 0 ||
                (step->kind != 0 && compare(kind, name, step->kind, step->name) >= 0) ||
                mo_place_take(directory, entry->d_name, path, NULL) <= 0)
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
    return mo_place_each(visit_nothing, NULL, true, error);
}

int mo_plugin_each(mo_plugin_found_fn found, void *context) {
    struct step step = {0};
    for (;;) {
        step.kind = 0;
        mo_place_each(step_directory, &step, false, NULL);
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
    char file[MO_PLUGIN_NAME_MAX + 16];
    char path[PATH_MAX];
};

static int search_directory(void *context, const char *directory) {
    struct search *search = context;
    return mo_place_take(directory, search->file, search->path, search->error);
}

struct known {
    enum memopt_plugin_kind kind;
    struct mo_nearest nearest;
    char best[MO_PLUGIN_NAME_MAX + 1]; /* what it points to: names pass by */
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

int mo_find_plugin(enum memopt_plugin_kind kind, const char *name, char path[PATH_MAX],
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
    if (!mo_check_name(name, strlen(name)))
        return mo_fail(
            error, -EINVAL,
            "'%s' is not a valid plugin name: at most %d of a-z, 0-9 and '-', or an absolute "
            "path",
            name, MO_PLUGIN_NAME_MAX);
    struct search search = {.error = error};
    snprintf(search.file, sizeof(search.file), "%s%s.so", mo_plugin_kind_prefix(kind), name);
    int r = mo_place_each(search_directory, &search, true, error);
    if (r < 0)
        return r;
    if (r == 0)
        return fail_unknown(kind, name, error);
    memcpy(path, search.path, sizeof(search.path));
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
                        mo_place_join(path, PATH_MAX, info->dls_serpath[i].dls_name, library) &&
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
    mo_place_parent(beside);
    for (size_t i = 0; ops->libraries[i] != NULL && !found; i++)
        found = mo_place_take(beside, ops->libraries[i], path, NULL) > 0 ||
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
