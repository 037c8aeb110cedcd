/* session.c - see session.h. */
#include "core/launch/session.h"
#include "core/base/error.h"
#include "core/base/reserve.h"
#include "core/base/trust.h"
#include "core/base/rundir.h"
#include "core/ledger/ledger.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PREFIX "memopt-"
/* Younger directories are left alone: their memopt may not have the lock yet. */
enum { SETTLED = 60 };
enum { MODE = 0711 };
/* A ledger takes some 100 KiB, more with many threads: a place with less than
 * this left is the last resort. */
#define ROOM (UINT64_C(8) << 20)

/* Gives the directory the name that says which one it is. */
static int add_suffix(struct mo_session *session) {
    struct stat status;
    char suffix[MO_RUNDIR_SUFFIX], path[PATH_MAX];
    if (fstat(session->fd, &status) != 0)
        return -errno;
    mo_rundir_suffix(&status, suffix);
    int length = snprintf(path, sizeof(path), "%s%s", session->directory, suffix);
    if (length >= (int)sizeof(path) - NAME_MAX)
        return -ENAMETOOLONG;
    if (rename(session->directory, path) != 0)
        return -errno;
    memcpy(session->directory, path, (size_t)length + 1);
    return 0;
}

/* -EPERM: another user could replace it. */
static int create_in(const char *base, struct mo_session *ret_session) {
    struct mo_session session = MO_SESSION_NONE;
    char real[PATH_MAX];
    if (base == NULL || base[0] != '/')
        return -EINVAL;
    if (realpath(base, real) == NULL)
        return -errno;
    /* who could replace the directory could choose what code the program's children load */
    char why[MO_TRUST_WHY];
    int fd = mo_trust_open(real, O_DIRECTORY, why);
    if (fd < 0)
        return fd;
    close(fd);
    if (snprintf(session.directory, sizeof(session.directory), "%s/" PREFIX "%u-XXXXXX",
                 strcmp(real, "/") == 0 ? "" : real,
                 (unsigned)geteuid()) >= (int)sizeof(session.directory) - NAME_MAX)
        return -ENAMETOOLONG;
    if (mkdtemp(session.directory) == NULL)
        return -errno;
    session.fd = open(session.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    /* Whatever the umask. Who has become another user may go through it, to what
     * there is for all (settings.ini): that needs the name, as the program has it. */
    if (session.fd < 0 || fchmod(session.fd, MODE) != 0 ||
        flock(session.fd, LOCK_EX | LOCK_NB) != 0 || (errno = -add_suffix(&session)) != 0) {
        int code = -errno;
        if (session.fd >= 0)
            close(session.fd);
        rmdir(session.directory);
        return code;
    }
    *ret_session = session;
    return 0;
}

static int has_room(const char *base) {
    struct statvfs space;
    return base != NULL && statvfs(base, &space) == 0 &&
           (uint64_t)space.f_bavail * space.f_frsize >=
               ROOM + mo_reserve((uint64_t)space.f_blocks * space.f_frsize) &&
           (space.f_files == 0 || space.f_favail >= 64); /* btrfs and others count no files */
}

int mo_session_create(struct mo_session *ret_session, struct memopt_error *error) {
    const char *const bases[] = {"/dev/shm", getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp"};
    enum { BASES = sizeof(bases) / sizeof(bases[0]) };
    int first = 0;
    mo_fail(error, 0, "%s", "");
    for (size_t i = 0; i < BASES; i++)
        if (has_room(bases[i]) && create_in(bases[i], ret_session) == 0)
            return 0;
    for (size_t i = 0; i < BASES; i++) {
        int r = create_in(bases[i], ret_session);
        if (r == 0)
            return 0;
        if (bases[i] != NULL)
            mo_error_hint(error, "no run directory in '%s': %s", bases[i],
                          r == -EPERM ? "another user could put another one in its place"
                                      : strerror(-r));
        if (first == 0)
            first = r;
    }
    if (error != NULL)
        error->code = first;
    return first;
}

/* opendir() allocates; this runs in signal handlers too. */
struct entry {
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

static void empty(int fd) {
    _Alignas(struct entry) char buffer[4096];
    int again = 1;
    /* deleting while reading may skip names: read anew until a pass finds none */
    for (int pass = 0; again && pass < 1000; pass++) {
        again = 0;
        if (lseek(fd, 0, SEEK_SET) < 0)
            return;
        long got;
        while ((got = syscall(SYS_getdents64, fd, buffer, sizeof(buffer))) > 0)
            for (long at = 0; at < got;) {
                const struct entry *entry = (const struct entry *)(const void *)(buffer + at);
                if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0 &&
                    unlinkat(fd, entry->name, 0) == 0)
                    again = 1;
                at += entry->length;
            }
    }
}

void mo_session_remove(struct mo_session *session) {
    if (session->fd < 0)
        return;
    int kept = errno;
    empty(session->fd);
    rmdir(session->directory);
    close(session->fd);
    session->fd = -1;
    errno = kept;
}

static int is_ours(const char *name) {
    static const char *const patterns[] = {"run.ini",        "settings.ini", MO_LEDGERS_NAME,
                                           "[0-9]*.missing", "sanitizer.*",  "lib*.so*"};
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
        if (fnmatch(patterns[i], name, 0) == 0)
            return 1;
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Whether it holds what a run leaves behind, and nothing else. */
static int holds_only_ours(int fd) {
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = copy < 0 ? NULL : fdopendir(copy);
    if (directory == NULL) {
        if (copy >= 0)
            close(copy);
        return 0;
    }
    int ours = 1;
    struct dirent *entry;
    while (ours && (entry = readdir(directory)) != NULL)
        ours = is_ours(entry->d_name);
    closedir(directory);
    return ours;
}

/* Whether mo_session_create() made the open directory, which has this name now. */
static int is_made_by_memopt(int fd, const char *name, const struct stat *status) {
    char suffix[MO_RUNDIR_SUFFIX];
    const char *at;
    mo_rundir_suffix(status, suffix);
    return status->st_uid == geteuid() && (status->st_mode & 07777) == MODE &&
           mo_rundir_is_named(name, &at) && strcmp(at, suffix) == 0 && holds_only_ours(fd);
}

/* Whether a process of the run is still there: it has a lock on its record. */
static int has_living(int directory) {
    mo_auto_close int fd =
        openat(directory, MO_LEDGERS_NAME, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno != ENOENT;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

void mo_session_clean_stale(const struct mo_session *session) {
    char base[PATH_MAX], mine[64];
    if (session->fd < 0)
        return;
    snprintf(base, sizeof(base), "%s", session->directory);
    *strrchr(base, '/') = '\0';
    int prefix = snprintf(mine, sizeof(mine), PREFIX "%u-", (unsigned)geteuid());
    DIR *directory = opendir(base[0] == '\0' ? "/" : base);
    if (directory == NULL)
        return;
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        struct stat status;
        if (strncmp(entry->d_name, mine, (size_t)prefix) != 0 ||
            strcmp(entry->d_name, strrchr(session->directory, '/') + 1) == 0)
            continue;
        int fd = openat(dirfd(directory), entry->d_name,
                        O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
            continue;
        /* rmdir() by name is safe: in a sticky directory nobody else can have
         * put another directory of ours under it */
        if (fstat(fd, &status) == 0 && is_made_by_memopt(fd, entry->d_name, &status) &&
            time(NULL) - status.st_mtime > SETTLED && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
            !has_living(fd)) {
            empty(fd);
            unlinkat(dirfd(directory), entry->d_name, AT_REMOVEDIR);
        }
        close(fd);
    }
    closedir(directory);
}
