/* rundir.c - see rundir.h. */
#include "core/base/rundir.h"

#include "core/base/error.h"
#include "core/base/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

static int held = -1;

static char *put_hex(char *to, uint64_t number) {
    int shift = 60;
    while (shift > 0 && number >> shift == 0)
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        *to++ = "0123456789abcdef"[number >> shift & 15];
    return to;
}

void mo_rundir_suffix(const struct stat *status, char suffix[MO_RUNDIR_SUFFIX]) {
    char *to = suffix;
    *to++ = '-';
    to = put_hex(to, (uint64_t)status->st_dev);
    *to++ = '.';
    to = put_hex(to, (uint64_t)status->st_ino);
    *to = '\0';
}

bool mo_rundir_is_named(const char *path, const char **ret_at) {
    static const char hex[] = "0123456789abcdef";
    const char *at = strrchr(path, '-');
    if (at == NULL)
        return false;
    size_t device = strspn(at + 1, hex), inode;
    if (device == 0 || at[1 + device] != '.' || (inode = strspn(at + device + 2, hex)) == 0 ||
        at[device + 2 + inode] != '\0')
        return false;
    if (ret_at != NULL)
        *ret_at = at;
    return true;
}

int mo_rundir_open(const char *path, struct memopt_error *error) {
    struct stat status;
    char suffix[MO_RUNDIR_SUFFIX];
    const char *named;
    if (held >= 0)
        return held;
    int fd = mo_kernel_open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return mo_fail(error, fd, "cannot open the run directory '%s': %s", path,
                       strerrordesc_np(-fd));
    int r = 0;
    if ((r = (int)mo_kernel(SYS_fstat, fd, (long)&status, 0, 0, 0, 0)) != 0)
        mo_fail(error, r, "cannot look at the run directory '%s': %s", path, strerrordesc_np(-r));
    else if (mo_rundir_is_named(path, &named)) {
        mo_rundir_suffix(&status, suffix);
        if (strcmp(named, suffix) != 0)
            r = mo_fail(error, -ESTALE,
                        "'%s' is not the directory that memopt made: another one has been put in "
                        "its place",
                        path);
    }
    if (r == 0 && status.st_uid != 0 && status.st_uid != (uid_t)getauxval(AT_EUID) &&
        status.st_uid != geteuid()) /* it may have changed since the start */
        r = mo_fail(error, -EPERM, "the run directory '%s' belongs to another user", path);
    if (r == 0 && (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        r = mo_fail(error, -EPERM, "others may write to the run directory '%s'", path);
    if (r < 0)
        mo_kernel_close(fd);
    return r < 0 ? r : fd;
}

void mo_rundir_close(int fd) {
    if (fd >= 0 && fd != held)
        mo_kernel_close(fd);
}

int mo_rundir_hold(const char *path, struct memopt_error *error) {
    return held = mo_rundir_open(path, error);
}

void mo_rundir_release(void) {
    int fd = held;
    held = -1;
    mo_rundir_close(fd);
}
