/* newfile.c - see newfile.h. */
#include "core/base/newfile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

int mo_newfile_create(int directory, const char *path, mode_t mode, char **ret_name) {
    const char *slash = strrchr(path, '/');
    size_t folder = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    size_t size = folder + sizeof(".memopt-0123456789abcdef");
    char *name = malloc(size);
    if (name == NULL)
        return -ENOMEM;
    int fd = -1;
    for (int tries = 0; tries < 100; tries++) {
        uint64_t random;
        if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random)) {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            random = (uint64_t)now.tv_nsec ^ (uint64_t)getpid() << 32;
        }
        memcpy(name, path, folder);
        snprintf(name + folder, size - folder, ".memopt-%016llx", (unsigned long long)random);
        fd = openat(directory, name,
                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, mode);
        if (fd >= 0 || errno != EEXIST)
            break;
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
