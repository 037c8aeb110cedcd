/* newfile.c - see newfile.h. */
#include "core/base/newfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PREFIX ".memopt-"

static bool is_temporary(const char *name) {
    return strncmp(name, PREFIX, sizeof(PREFIX) - 1) == 0 &&
           strlen(name) == sizeof(PREFIX) - 1 + 16 &&
           strspn(name + sizeof(PREFIX) - 1, "0123456789abcdef") == 16;
}

/* The file that is open has this name still: nobody has taken it away or renamed it. */
static bool has_name(int fd, int directory, const char *name) {
    struct stat open, named;
    return fstat(fd, &open) == 0 && fstatat(directory, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

/* Who writes a temporary file holds the lock on it until it is gone or has its name. One
 * without is of a process that was killed. */
static void remove_if_left(int directory, const char *name) {
    struct stat status;
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return;
    /* its writer may be on another machine, of whose lock nothing is known here */
    enum { SETTLED = 60 };
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
        time(NULL) - status.st_mtime > SETTLED &&
        flock(fd, LOCK_EX | LOCK_NB) == 0 && has_name(fd, directory, name))
        unlinkat(directory, name, 0);
    close(fd);
}

static void remove_left(int directory, const char *folder) {
    int copy = openat(directory, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *names = copy < 0 ? NULL : fdopendir(copy);
    if (names == NULL) {
        if (copy >= 0)
            close(copy);
        return;
    }
    for (struct dirent *entry; (entry = readdir(names)) != NULL;)
        if (is_temporary(entry->d_name))
            remove_if_left(dirfd(names), entry->d_name);
    closedir(names);
}

/* Takes the lock. False: in between a process that cleans up had it, and the file is gone. */
static bool lock(int fd, int directory, const char *name) {
    while (flock(fd, LOCK_EX) != 0)
        if (errno != EINTR)
            return true; /* a file system without locks: then nobody cleans up */
    return has_name(fd, directory, name);
}

int mo_newfile_create(int directory, const char *path, mode_t mode, char **ret_name) {
    const char *slash = strrchr(path, '/');
    size_t folder = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    size_t size = folder + sizeof(PREFIX "0123456789abcdef");
    char *name = malloc(size);
    if (name == NULL)
        return -ENOMEM;
    memcpy(name, path, folder);
    strcpy(name + folder, ".");
    remove_left(directory, name);
    int fd = -1;
    for (int tries = 0; tries < 100; tries++) {
        uint64_t random;
        if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random)) {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            random = (uint64_t)now.tv_nsec ^ (uint64_t)getpid() << 32;
        }
        snprintf(name + folder, size - folder, PREFIX "%016llx", (unsigned long long)random);
        fd = openat(directory, name,
                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, mode);
        if (fd >= 0 && lock(fd, directory, name))
            break;
        if (fd < 0 && errno != EEXIST)
            break;
        if (fd >= 0)
            close(fd);
        fd = -1;
        errno = EEXIST;
    }
    if (fd < 0) {
        fd = -errno;
        free(name);
        return fd;
    }
    *ret_name = name;
    return fd;
}

void mo_quiet_begin(struct mo_quiet *quiet) {
    sigemptyset(&quiet->mine);
    sigaddset(&quiet->mine, SIGPIPE);
    sigaddset(&quiet->mine, SIGXFSZ);
    sigpending(&quiet->pending);
    pthread_sigmask(SIG_BLOCK, &quiet->mine, &quiet->before);
}

void mo_quiet_end(struct mo_quiet *quiet, bool failed) {
    if (failed) {
        if (sigismember(&quiet->pending, SIGPIPE))
            sigdelset(&quiet->mine, SIGPIPE);
        if (sigismember(&quiet->pending, SIGXFSZ))
            sigdelset(&quiet->mine, SIGXFSZ);
        struct timespec now = {0};
        while (sigtimedwait(&quiet->mine, NULL, &now) > 0)
            ;
    }
    pthread_sigmask(SIG_SETMASK, &quiet->before, NULL);
}
