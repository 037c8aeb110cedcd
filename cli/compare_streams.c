/* compare_streams.c - see compare_streams.h. */
#include "config.h"

#include "cli/compare_streams.h"

#include "core/base/error.h"
#include "core/base/newfile.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* A pipe's copy is memory. */
#define MOST_INPUT (INT64_C(1) << 30)
/* Of standard error: what is kept when there is more than that. */
enum { TRIM_AT = 1 << 20, TRIM_TO = 64 << 10 };

static int copy(int from, int to, struct memopt_error *error) {
    enum { PATIENCE = 1000 }; /* milliseconds */
    static char buffer[1 << 16];
    struct pollfd ready = {.fd = from, .events = POLLIN};
    if (poll(&ready, 1, PATIENCE) == 0)
        fputs("memopt compare: reading standard input to its end, once for all runs; "
              "'</dev/null' for none\n",
              stderr);
    for (int64_t all = 0;;) {
        ssize_t got = read(from, buffer, sizeof(buffer));
        if (got < 0 && errno == EAGAIN) {
            poll(&ready, 1, -1);
            continue;
        }
        if (got < 0 && errno != EINTR)
            return mo_fail(error, -errno, "can't read standard input: %s", strerror(errno));
        if (got == 0)
            return 0;
        if ((all += got < 0 ? 0 : got) > MOST_INPUT)
            return mo_fail(error, -EFBIG,
                           "more than 1 GiB comes through the pipe on standard input, which each "
                           "run is to read: put it into a file, and use '<FILE'");
        for (ssize_t written = 0; written < got;) {
            struct mo_quiet quiet;
            mo_quiet_begin(&quiet);
            ssize_t n = write(to, buffer + written, (size_t)(got - written));
            int failed = errno;
            mo_quiet_end(&quiet, n < 0);
            if (n <= 0)
                return mo_fail(error, -failed, "can't keep standard input in memory: %s",
                               strerror(failed));
            written += n;
        }
    }
}

static int open_again(int fd) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int find_input(struct mo_streams *streams, struct memopt_error *error) {
    struct stat status;
    if (fstat(STDIN_FILENO, &status) != 0)
        return 0;
    if (S_ISREG(status.st_mode)) {
        streams->start = lseek(STDIN_FILENO, 0, SEEK_CUR);
        streams->input = open_again(STDIN_FILENO);
        streams->what = "the file on standard input, read again for each run";
        if (streams->input >= 0)
            return 0;
        /* a file that may not be opened again can be read through this descriptor */
    } else if (!S_ISFIFO(status.st_mode) && !S_ISSOCK(status.st_mode)) {
        return 0; /* a terminal: nobody types the same for each run */
    }
    streams->start = 0;
    streams->what = "a copy of the pipe on standard input for each run";
    streams->input = memfd_create("memopt-input", MFD_CLOEXEC);
    if (streams->input < 0)
        return mo_fail(error, -errno, "can't keep standard input in memory: %s", strerror(errno));
    return copy(STDIN_FILENO, streams->input, error);
}

int mo_streams_open(struct mo_streams *streams, struct memopt_error *error) {
    *streams = (struct mo_streams){
        .what = "/dev/null", .null = -1, .input = -1, .current_input = -1, .errors = -1};
    streams->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (streams->null < 0)
        return mo_fail(error, -errno, "can't open '/dev/null': %s", strerror(errno));
    return find_input(streams, error);
}

void mo_streams_close(struct mo_streams *streams) {
    mo_streams_end(streams);
    if (streams->input >= 0)
        close(streams->input);
    if (streams->null >= 0)
        close(streams->null);
    streams->input = streams->null = -1;
}

int mo_streams_begin(struct mo_streams *streams, int keep_errors, struct memopt_error *error) {
    struct rlimit limit;
    mo_streams_end(streams);
    if (streams->input >= 0) {
        /* opened again: what an earlier run left behind has its own place in it */
        streams->current_input = open_again(streams->input);
        if (streams->current_input < 0 ||
            lseek(streams->current_input, streams->start, SEEK_SET) < 0)
            return mo_fail(error, -errno, "can't read standard input again: %s", strerror(errno));
    }
    /* a limit on files would be one on standard error, which it is not on /dev/null */
    if (keep_errors && (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)) {
        streams->errors = memfd_create("memopt-stderr", MFD_CLOEXEC);
        if (streams->errors >= 0)
            fcntl(streams->errors, F_SETFL, O_APPEND);
    }
    return 0;
}

void mo_streams_trim(const struct mo_streams *streams) {
    struct stat status;
    if (streams->errors < 0 || fstat(streams->errors, &status) != 0 ||
        status.st_blocks * 512 < TRIM_AT)
        return;
    off_t end = (status.st_size - TRIM_TO) & ~(off_t)4095;
    if (end > 0)
        fallocate(streams->errors, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, end);
}

void mo_streams_last_lines(const struct mo_streams *streams, void (*say)(const char *line)) {
    enum { LINES = 10, MOST = TRIM_TO };
    static const char own[] = "memopt: "; /* how memopt's begin in the program */
    static char text[MOST + 1];
    struct stat status;
    if (streams->errors < 0 || fstat(streams->errors, &status) != 0)
        return;
    off_t start = status.st_size > MOST ? status.st_size - MOST : 0;
    ssize_t got = pread(streams->errors, text, MOST, start);
    while (got > 0 && text[got - 1] == '\n')
        got--;
    if (got <= 0)
        return;
    for (ssize_t i = 0; i < got; i++)
        if (text[i] == '\0')
            text[i] = ' ';
    text[got] = '\0';
    char *line = text + got;
    for (int lines = 0; line > text; line--)
        if (line[-1] == '\n' && ++lines == LINES)
            break;
    /* the first one begins somewhere in its middle */
    if (line == text && start > 0 && strchr(line, '\n') != NULL)
        line = strchr(line, '\n') + 1;
    /* what memopt found comes before a list of places in the program */
    for (char *first = text; first < line; first += strcspn(first, "\n") + 1)
        if (strncmp(first, own, sizeof(own) - 1) == 0) {
            first[strcspn(first, "\n")] = '\0';
            say(first);
            break;
        }
    while (line != NULL) {
        char *end = strchr(line, '\n');
        if (end != NULL)
            *end++ = '\0';
        say(line);
        line = end;
    }
}

void mo_streams_end(struct mo_streams *streams) {
    if (streams->current_input >= 0)
        close(streams->current_input);
    if (streams->errors >= 0)
        close(streams->errors);
    streams->current_input = streams->errors = -1;
}
