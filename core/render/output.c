/* output.c - see output.h. */
#include "config.h"

#include "core/render/output.h"

#include "core/base/error.h"
#include "core/base/newfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct mo_output {
    struct memopt_output public;
    char *target;    /* as messages name it; the path, for a file */
    char *temporary; /* renamed to target at the end; NULL: written directly */
    int fd;
    int failed;
    size_t used;
    char buffer[16 * 1024];
};

/* ------------------------------------------------------------------ writing */

static int write_quietly(int fd, const char *bytes, size_t count) {
    struct mo_quiet quiet;
    mo_quiet_begin(&quiet);
    int r = 0;
    while (count > 0 && r == 0) {
        ssize_t n = write(fd, bytes, count);
        if (n > 0) {
            bytes += n;
            count -= (size_t)n;
        } else if (n == 0) {
            r = -EIO;
        } else if (errno == EAGAIN) { /* the program left its terminal non-blocking */
            struct pollfd ready = {.fd = fd, .events = POLLOUT};
            poll(&ready, 1, 1000);
        } else if (errno != EINTR) {
            r = -errno;
        }
    }
    mo_quiet_end(&quiet, r < 0);
    return r;
}

static int flush(struct mo_output *output) {
    if (output->failed == 0 && output->used > 0)
        output->failed = write_quietly(output->fd, output->buffer, output->used);
    output->used = 0;
    return output->failed;
}

static int output_write(struct memopt_output *public, const void *bytes, size_t count) {
    struct mo_output *output = public->opaque;
    if (count > sizeof(output->buffer) - output->used && flush(output) < 0)
        return output->failed;
    if (count > sizeof(output->buffer))
        return output->failed = write_quietly(output->fd, bytes, count);
    memcpy(output->buffer + output->used, bytes, count);
    output->used += count;
    return output->failed;
}

static int output_printf(struct memopt_output *public, const char *format, ...) {
    struct mo_output *output = public->opaque;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (length < 0)
        return output->failed = -EILSEQ;
    if ((size_t)length < sizeof(text))
        return output_write(public, text, (size_t)length);
    mo_auto_free char *longer = malloc((size_t)length + 1);
    if (longer == NULL)
        return output->failed = -ENOMEM;
    va_start(arguments, format);
    vsnprintf(longer, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return output_write(public, longer, (size_t)length);
}

/* ------------------------------------------------------------------ opening */

/* Anybody can put a pipe where a report will be into a directory like /tmp, and read it. The
 * kernel refuses that for open() with O_CREAT only (fs.protected_fifos). */
static int is_strangers_pipe(const char *path, const struct stat *st) {
    struct stat parent;
    if (!S_ISFIFO(st->st_mode) || st->st_uid == geteuid())
        return 0;
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];
    if (slash != NULL && slash - path >= (ptrdiff_t)sizeof(folder))
        return 1;
    snprintf(folder, sizeof(folder), "%.*s",
             slash == NULL   ? 1
             : slash == path ? 1
                             : (int)(slash - path),
             slash == NULL ? "." : path);
    return stat(folder, &parent) != 0 ||
           ((parent.st_mode & S_ISVTX) != 0 && (parent.st_mode & (S_IWGRP | S_IWOTH)) != 0 &&
            st->st_uid != parent.st_uid);
}

static int refuse_pipe(const char *path, struct memopt_error *error) {
    return mo_fail(error, -EACCES,
                   "'%s': a pipe of another user's, in a directory that others may write to", path);
}

static int open_special(struct mo_output *output, const char *path, struct memopt_error *error) {
    struct stat st;
    /* Non-blocking, so that a pipe without a reader is an error, not a wait. */
    output->fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (output->fd < 0 || fstat(output->fd, &st) != 0)
        return mo_fail(error, -errno, "'%s': %s", path, strerror(errno));
    if (S_ISREG(st.st_mode)) /* since it was looked at */
        return mo_fail(error, -ESTALE, "'%s': %s", path, strerror(ESTALE));
    return is_strangers_pipe(path, &st) ? refuse_pipe(path, error) : 0;
}

static int open_path(struct mo_output *output, const char *path, struct memopt_error *error) {
    struct stat st;
    if (path[0] == '\0')
        return mo_fail(error, -ENOENT, "the output has no name");
    int is_there = lstat(path, &st) == 0;
    if (is_there && !S_ISREG(st.st_mode)) {
        if (S_ISLNK(st.st_mode))
            return mo_fail(error, -ELOOP,
                           "'%s': a symbolic link, and reports are not written through links: "
                           "name the file itself (or stdout, stderr)",
                           path);
        return open_special(output, path, error);
    }
    /* Reports hold command lines. Who wants to share one sets the mode of the file once. */
    int keeps = is_there && st.st_uid == geteuid();
    int fd = mo_newfile_create(AT_FDCWD, path, 0600, &output->temporary);
    if (fd < 0)
        return mo_fail(error, fd, "'%s': %s", path, strerror(-fd));
    output->fd = fd;
    if (keeps && fchmod(fd, st.st_mode & 0777) != 0)
        return mo_fail(error, -errno, "'%s': its mode can't be kept: %s", path, strerror(errno));
    return 0;
}

int mo_output_open(const char *target, struct mo_output **ret_output, struct memopt_error *error) {
    struct mo_output *output = calloc(1, sizeof(*output));
    if (output == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    output->fd = -1;
    output->public = (struct memopt_output){
        .size = sizeof(output->public),
        .opaque = output,
        .write = output_write,
        .printf = output_printf,
        .columns = 80,
    };
    int r = 0;
    if ((output->target = strdup(target)) == NULL) {
        r = mo_fail(error, -ENOMEM, "out of memory");
    } else if (strcmp(target, "stderr") == 0 || strcmp(target, "stdout") == 0) {
        output->fd = fcntl(strcmp(target, "stderr") == 0 ? STDERR_FILENO : STDOUT_FILENO,
                           F_DUPFD_CLOEXEC, 3);
        if (output->fd < 0)
            r = mo_fail(error, -errno, "%s: %s", target, strerror(errno));
    } else {
        r = open_path(output, target, error);
    }
    if (r < 0) {
        mo_output_abort(output);
        return r;
    }
    if (isatty(output->fd)) {
        struct winsize window;
        const char *terminal = getenv("TERM");
        output->public.is_terminal =
            getenv("NO_COLOR") == NULL && terminal != NULL && strcmp(terminal, "dumb") != 0;
        if (ioctl(output->fd, TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
            output->public.columns = window.ws_col;
    }
    *ret_output = output;
    return 0;
}

int mo_output_check(const char *target, struct memopt_error *error) {
    struct stat st;
    struct mo_output *output;
    if (strcmp(target, "stderr") == 0 || strcmp(target, "stdout") == 0)
        return 0;
    if (lstat(target, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) {
        /* a pipe's reader may come later */
        if (S_ISDIR(st.st_mode))
            return mo_fail(error, -EISDIR, "'%s': %s", target, strerror(EISDIR));
        if (is_strangers_pipe(target, &st))
            return refuse_pipe(target, error);
        return access(target, W_OK) == 0
                   ? 0
                   : mo_fail(error, -errno, "'%s': %s", target, strerror(errno));
    }
    int r = mo_output_open(target, &output, error);
    if (r == 0)
        mo_output_abort(output);
    return r;
}

struct memopt_output *mo_output_public(struct mo_output *output) {
    return &output->public;
}

int mo_output_failed(const struct mo_output *output) {
    return output->failed;
}

/* ------------------------------------------------------------------- ending */

void mo_output_abort(struct mo_output *output) {
    if (output == NULL)
        return;
    if (output->temporary != NULL)
        unlink(output->temporary);
    if (output->fd >= 0)
        close(output->fd);
    free(output->temporary);
    free(output->target);
    free(output);
}

/* A crash after the rename must not leave an empty file where a report was. */
static int sync_file(int fd) {
    while (fsync(fd) < 0)
        if (errno != EINTR)
            return errno == EINVAL || errno == EROFS ? 0 : -errno; /* nothing to sync there */
    return 0;
}

int mo_output_commit(struct mo_output *output, struct memopt_error *error) {
    int r = flush(output);
    if (r == 0 && output->temporary != NULL) {
        if ((r = sync_file(output->fd)) < 0 ||
            (r = rename(output->temporary, output->target) < 0 ? -errno : 0) < 0) {
            unlink(output->temporary); /* before the lock goes: core/base/newfile.h */
        }
        free(output->temporary);
        output->temporary = NULL;
    }
    int fd = output->fd;
    output->fd = -1;
    if (close(fd) < 0 && r == 0)
        r = -errno;
    if (r < 0)
        mo_fail(error, r, "'%s': %s", output->target, strerror(-r));
    mo_output_abort(output);
    return r;
}

/* ----------------------------------------------------------------- patterns */

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* One %-sequence into `text`; a negative errno if there is none such. */
static int expand_one(char what, const struct memopt_report *report, char *text, size_t size) {
    const struct memopt_process *main = report->process_count > 0 ? report->processes : NULL;
    switch (what) {
    case '%':
        snprintf(text, size, "%%");
        return 0;
    case 'p':
        snprintf(text, size, "%lld", main == NULL ? 0LL : (long long)main->pid);
        return 0;
    case 't': {
        struct tm utc;
        time_t seconds =
            report->start_time == MEMOPT_UNKNOWN ? 0 : (time_t)(report->start_time / 1000000000u);
        gmtime_r(&seconds, &utc);
        strftime(text, size, "%Y%m%dT%H%M%SZ", &utc);
        return 0;
    }
    case 'e': {
        const char *program = main != NULL && main->program != NULL             ? main->program
                              : report->argv != NULL && report->argv[0] != NULL ? report->argv[0]
                                                                                : "program";
        snprintf(text, size, "%.200s", base_name(program));
        for (char *c = text; *c != '\0'; c++)
            if ((unsigned char)*c < ' ' || *c == 127)
                *c = '_';
        return 0;
    }
    default:
        return -EINVAL;
    }
}

int mo_output_expand(const char *pattern, const struct memopt_report *report, char **ret_path,
                     struct memopt_error *error) {
    char text[256];
    size_t size = 1;
    for (const char *c = pattern; *c != '\0'; c++)
        size += *c == '%' ? sizeof(text) : 1;
    char *path = malloc(size);
    if (path == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    size_t used = 0;
    for (const char *c = pattern; *c != '\0'; c++) {
        if (*c != '%') {
            path[used++] = *c;
            continue;
        }
        c++;
        if (expand_one(*c, report, text, sizeof(text)) < 0) {
            free(path);
            return mo_fail(error, -EINVAL,
                           "'%s' has a '%%' that none of p (process), t (time), e (program) or %% "
                           "follows",
                           pattern);
        }
        size_t length = strlen(text);
        memcpy(path + used, text, length);
        used += length;
    }
    path[used] = '\0';
    *ret_path = path;
    return 0;
}
