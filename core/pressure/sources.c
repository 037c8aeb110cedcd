/* sources.c - see sources.h. */
#include "core/pressure/sources.h"

#include "core/base/proc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* ret = a + b, or -ENAMETOOLONG. */
static int join(char *ret, size_t size, const char *a, const char *b) {
    return snprintf(ret, size, "%s%s", a, b) < (int)size ? 0 : -ENAMETOOLONG;
}

/* A file of one number in the first `length` bytes of a directory's path. */
static int read_value(const char *directory, size_t length, const char *name, uint64_t *ret) {
    char path[MO_SOURCE_PATH + 64], text[64];
    snprintf(path, sizeof(path), "%.*s/%s", (int)length, directory, name);
    int code = mo_proc_read(path, text, sizeof(text));
    return code < 0 ? code : mo_proc_parse_value(text, ret);
}

/* Bytes of the cgroup that the kernel could do without: pages of files. */
static uint64_t file_pages(const struct mo_sources *sources, size_t length) {
    static const char *const keys[3][2] = {{NULL, NULL},
                                           {"total_active_file", "total_inactive_file"},
                                           {"active_file", "inactive_file"}};
    char path[MO_SOURCE_PATH + 64], text[16 * 1024];
    uint64_t sum = 0;
    snprintf(path, sizeof(path), "%.*s/memory.stat", (int)length, sources->cgroup);
    if (mo_proc_read(path, text, sizeof(text)) < 0)
        return 0;
    for (size_t i = 0; i < 2; i++) {
        uint64_t value;
        if (mo_proc_parse_key(text, keys[sources->cgroup_version][i], &value) == 0 &&
            __builtin_add_overflow(sum, value, &sum))
            return 0;
    }
    return sum;
}

static int read_group(const struct mo_sources *sources, size_t length, struct mo_reading *ret) {
    uint64_t used, limit = UINT64_MAX, high;
    const char *used_name = "memory.current";
    if (sources->cgroup_version == 1) {
        used_name = "memory.usage_in_bytes";
        if (read_value(sources->cgroup, length, "memory.limit_in_bytes", &limit) < 0)
            return -ENOENT;
    } else {
        if (read_value(sources->cgroup, length, "memory.max", &limit) < 0)
            return -ENOENT; /* the root has none */
        if (read_value(sources->cgroup, length, "memory.high", &high) == 0 && high < limit)
            limit = high;
    }
    /* version 1 writes "no limit" as the largest multiple of a page */
    if (limit == 0 || limit > (uint64_t)INT64_MAX / 2 ||
        read_value(sources->cgroup, length, used_name, &used) < 0)
        return -ENOENT;
    uint64_t file = file_pages(sources, length);
    ret->used = file < used ? used - file : 0;
    ret->limit = limit;
    return 0;
}

/* The fullest of the groups that this process is in. */
static void read_cgroup(const struct mo_sources *sources, struct mo_reading *reading) {
    size_t length = strlen(sources->cgroup);
    double worst = -1;
    for (int depth = 0; length > 0 && length >= sources->cgroup_root && depth < 32; depth++) {
        struct mo_reading group;
        if (read_group(sources, length, &group) == 0 &&
            (double)group.used / (double)group.limit > worst) {
            worst = (double)group.used / (double)group.limit;
            reading->used = group.used;
            reading->limit = group.limit;
        }
        do
            length--;
        while (length > 0 && sources->cgroup[length] != '/');
    }
}

void mo_source_read(const struct mo_sources *sources, int source, struct mo_reading *reading) {
    struct mo_proc_memory process;
    struct rlimit limit;
    char text[512];
    double some;
    reading->used = reading->limit = 0;
    switch (source) {
    case MO_SOURCE_RSS:
        if (mo_proc_read_memory(sources->proc, &process) < 0)
            break;
        reading->used = process.resident - process.file;
        reading->limit = sources->budget;
        break;
    case MO_SOURCE_ADDRESS:
        if (getrlimit(RLIMIT_AS, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
            mo_proc_read_memory(sources->proc, &process) < 0)
            break;
        reading->used = process.mapped;
        reading->limit = limit.rlim_cur;
        break;
    case MO_SOURCE_CGROUP:
        read_cgroup(sources, reading);
        break;
    case MO_SOURCE_PSI:
        if (mo_proc_read(sources->psi, text, sizeof(text)) < 0 ||
            mo_proc_parse_psi(text, &some) < 0)
            break;
        reading->used = (uint64_t)(some * MO_SOURCE_MILLION + 0.5);
        reading->limit = MO_SOURCE_MILLION;
        break;
    }
}

/* The directory of this process's cgroup in the hierarchy of `controller`. */
static int find_group(const struct mo_sources *sources, const char *mounts, const char *controller,
                      char ret_directory[MO_SOURCE_PATH], size_t *ret_root) {
    char path[MO_SOURCE_PATH], text[8 * 1024], group[MO_SOURCE_PATH / 2], root[MO_SOURCE_PATH / 2];
    char point[MO_SOURCE_PATH / 2];
    if (join(path, sizeof(path), sources->proc, "/self/cgroup") < 0 ||
        mo_proc_read(path, text, sizeof(text)) < 0 ||
        mo_proc_parse_cgroup(text, controller, group, sizeof(group)) < 0 ||
        mo_proc_parse_mount(mounts, controller, root, sizeof(root), point, sizeof(point)) < 0)
        return -ENOENT;
    /* In a container the mount shows a part of the hierarchy, or the path is
     * relative to a root that this process can't see. */
    const char *below = group;
    size_t length = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(group, root, length) == 0 && (group[length] == '/' || group[length] == '\0'))
        below += length;
    else
        below = "";
    if (strcmp(below, "/") == 0 || strncmp(below, "/..", 3) == 0)
        below = "";
    *ret_root = strlen(point);
    return join(ret_directory, MO_SOURCE_PATH, point, below);
}

static void find_files(struct mo_sources *sources) {
    enum { MOUNTS_SIZE = 256 * 1024 };
    char path[MO_SOURCE_PATH], directory[MO_SOURCE_PATH];
    size_t root;
    uint64_t value;
    if (join(sources->psi, sizeof(sources->psi), sources->proc, "/pressure/memory") < 0)
        sources->psi[0] = '\0';
    char *mounts = malloc(MOUNTS_SIZE);
    if (mounts == NULL || join(path, sizeof(path), sources->proc, "/self/mountinfo") < 0 ||
        mo_proc_read(path, mounts, MOUNTS_SIZE) < 0) {
        free(mounts);
        return;
    }
    if (find_group(sources, mounts, "", directory, &root) == 0) {
        /* the group's own pressure says more of this process than the machine's */
        if (strlen(directory) > root &&
            join(path, sizeof(path), directory, "/memory.pressure") == 0 && access(path, R_OK) == 0)
            memcpy(sources->psi, path, sizeof(path));
        if (read_value(directory, strlen(directory), "memory.current", &value) == 0) {
            memcpy(sources->cgroup, directory, sizeof(directory));
            sources->cgroup_root = root;
            sources->cgroup_version = 2;
        }
    }
    if (sources->cgroup[0] == '\0' &&
        find_group(sources, mounts, "memory", directory, &root) == 0) {
        memcpy(sources->cgroup, directory, sizeof(directory));
        sources->cgroup_root = root;
        sources->cgroup_version = 1;
    }
    free(mounts);
}

static uint64_t machine_memory(const char *proc) {
    char path[MO_SOURCE_PATH], text[1024];
    uint64_t kib;
    if (join(path, sizeof(path), proc, "/meminfo") < 0 ||
        mo_proc_read(path, text, sizeof(text)) < 0 ||
        mo_proc_parse_key(text, "MemTotal:", &kib) < 0 || kib > UINT64_MAX / 1024)
        return 0;
    return kib * 1024;
}

int mo_sources_find(struct mo_sources *sources, const char *proc, uint64_t budget) {
    int code = join(sources->proc, sizeof(sources->proc), proc, "");
    if (code < 0)
        return code;
    find_files(sources);
    sources->budget = budget == UINT64_MAX ? machine_memory(proc) : budget;
    return 0;
}
