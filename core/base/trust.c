/* trust.c - see trust.h. */
#define _GNU_SOURCE
#include "core/base/trust.h"

#include "core/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { LINKS_MAX = 40 }; /* as the kernel's own limit */

/* What `fd` is, for a message: "it", or "its directory '/tmp/x'". */
static void name_of(int fd, const char *what, char *buffer, size_t size) {
    char link[64], path[256];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = what == NULL ? 0 : readlink(link, path, sizeof(path) - 1);
    if (what == NULL || length <= 0) {
        snprintf(buffer, size, "%s", what == NULL ? "it" : what);
        return;
    }
    path[length] = '\0';
    for (char *p = path; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
            *p = '?'; /* whoever named it may have meant the terminal */
    snprintf(buffer, size, "%s '%s'", what, path);
}

static bool has_acl(int fd) {
    char path[64]; /* O_PATH descriptors have no attributes of their own */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return getxattr(path, "system.posix_acl_access", NULL, 0) >= 0 ||
           (errno != ENODATA && errno != ENOTSUP);
}

/* `what`: NULL for the file itself. */
static int judge(int fd, const struct stat *status, const char *what, char why[MO_TRUST_WHY]) {
    char name[320];
    unsigned mode = status->st_mode & 07777;
    const char *writer = NULL;
    char group[64];
    /* the owner of "/" is root even where a user namespace has another number for it */
    struct stat root;
    if (status->st_uid != 0 && status->st_uid != geteuid() &&
        (lstat("/", &root) != 0 || status->st_uid != root.st_uid)) {
        name_of(fd, what, name, sizeof(name));
        snprintf(why, MO_TRUST_WHY, "%s belongs to user %u, neither you nor root", name,
                 status->st_uid);
        return -EPERM;
    }
    if (S_ISLNK(status->st_mode) || (S_ISDIR(status->st_mode) && (mode & S_ISVTX) != 0))
        return 0;
    if ((mode & S_IWOTH) != 0)
        writer = "everybody";
    else if ((mode & S_IWGRP) != 0 && status->st_gid != status->st_uid) {
        snprintf(group, sizeof(group), "group %u", status->st_gid);
        writer = group;
    } else if ((mode & S_IWGRP) != 0 && has_acl(fd)) {
        writer = "others by its access control list"; /* the group's bits are its mask */
    }
    if (writer == NULL)
        return 0;
    name_of(fd, what, name, sizeof(name));
    snprintf(why, MO_TRUST_WHY,
             "%s can be written by %s (mode %04o); take that away, or copy it where only you can "
             "write",
             name, writer, mode);
    return -EPERM;
}

int mo_trust_file(int fd, char why[MO_TRUST_WHY]) {
    struct stat status;
    why[0] = '\0';
    return fstat(fd, &status) != 0 ? -errno : judge(fd, &status, NULL, why);
}

static int judge_directory(int fd, char why[MO_TRUST_WHY]) {
    struct stat status;
    return fstat(fd, &status) != 0 ? -errno : judge(fd, &status, "its directory", why);
}

/* The directory that `fd` is and all above it. */
static int judge_upwards(int start, char why[MO_TRUST_WHY]) {
    struct stat status, parent;
    int fd = openat(start, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0) {
        int r = fstat(fd, &status) != 0 ? -errno : judge(fd, &status, "its directory", why);
        int up = r < 0 ? -1 : openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (r == 0 && up < 0) {
            char name[320];
            name_of(fd, "the directory above", name, sizeof(name));
            snprintf(why, MO_TRUST_WHY, "%s can't be looked at: %s", name, strerrordesc_np(errno));
            r = -EPERM;
        }
        close(fd);
        if (r < 0)
            return r;
        fd = up;
        if (fstat(fd, &parent) == 0 && parent.st_dev == status.st_dev &&
            parent.st_ino == status.st_ino) {
            close(fd);
            return 0;
        }
    }
    return -errno;
}

/* A path that is being walked. */
struct walk {
    int at;              /* the directory where `rest` begins */
    char rest[PATH_MAX]; /* what is left of the path */
    int links;
};

static void walk_to(struct walk *walk, int fd) {
    if (walk->at >= 0)
        close(walk->at);
    walk->at = fd;
}

/* The directory that a path begins at, with all above it. */
static int begin_at(struct walk *walk, const char *path, char why[MO_TRUST_WHY]) {
    int fd = open(path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    walk_to(walk, fd);
    return judge_upwards(fd, why);
}

/* Puts what a link says before the rest of the path. */
static int follow(struct walk *walk, int fd, const char *rest, char why[MO_TRUST_WHY]) {
    char path[PATH_MAX];
    ssize_t length = readlinkat(fd, "", path, sizeof(path) - 1);
    if (length < 0)
        return -errno;
    path[length] = '\0';
    if (++walk->links > LINKS_MAX)
        return -ELOOP;
    size_t left = strlen(rest);
    if ((size_t)length + 1 + left >= sizeof(path))
        return -ENAMETOOLONG;
    path[length] = '/';
    memmove(path + length + 1, rest, left + 1);
    memcpy(walk->rest, path, (size_t)length + left + 2);
    return path[0] == '/' ? begin_at(walk, path, why) : 0;
}

/* One component further; *ret_fd is set if it was the last one. */
static int step(struct walk *walk, int flags, int *ret_fd, char why[MO_TRUST_WHY]) {
    char name[NAME_MAX + 1];
    const char *from = walk->rest + strspn(walk->rest, "/");
    size_t length = strcspn(from, "/");
    const char *rest = from + length + strspn(from + length, "/");
    bool is_last = *rest == '\0';
    if (length > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(name, from, length);
    name[length] = '\0';
    mo_auto_close int fd =
        openat(walk->at, length == 0 ? "." : name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0)
        return -errno;
    if (S_ISLNK(status.st_mode)) {
        int r = judge(fd, &status, "the link", why);
        return r < 0 ? r : follow(walk, fd, rest, why);
    }
    bool is_directory = S_ISDIR(status.st_mode);
    if (is_directory && !is_last) {
        int r = judge_directory(fd, why);
        if (r < 0)
            return r;
        memmove(walk->rest, rest, strlen(rest) + 1);
        walk_to(walk, fd);
        fd = -1; /* the walk's now */
        return 0;
    }
    if (!is_last || (!is_directory && (flags & O_DIRECTORY) != 0))
        return -ENOTDIR;
    int opened = openat(walk->at, length == 0 ? "." : name,
                        flags | O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (opened < 0)
        return -errno;
    int r = mo_trust_file(opened, why);
    if (r < 0)
        close(opened);
    else
        *ret_fd = opened;
    return r;
}

int mo_trust_open(const char *path, int flags, char why[MO_TRUST_WHY]) {
    struct walk walk = {.at = -1};
    size_t length = strlen(path);
    why[0] = '\0';
    if (length == 0)
        return -ENOENT;
    if (length >= sizeof(walk.rest))
        return -ENAMETOOLONG;
    memcpy(walk.rest, path, length + 1);
    int fd = -1;
    int r = begin_at(&walk, path, why);
    while (r == 0 && fd < 0)
        r = step(&walk, flags, &fd, why);
    walk_to(&walk, -1);
    return r < 0 ? r : fd;
}
