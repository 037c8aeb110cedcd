/*
 * once.c - runs a command and says what it cost, for bench/run.
 *
 * usage: once RESULT COMMAND [ARGUMENT...]
 *
 * Writes "wall user system peak_rss_kib status" (seconds) to the file RESULT.
 * `memopt run` is put before it, so that both sides of a comparison measure the
 * program itself by the same means: the rusage of one child. What memopt does
 * before and after the program is not in it; the start-up case measures that.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(struct timeval t) {
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: once RESULT COMMAND [ARGUMENT...]\n");
        return 125;
    }
    double start = now();
    pid_t child = fork();
    if (child < 0) {
        perror("once: fork");
        return 125;
    }
    if (child == 0) {
        execvp(argv[2], argv + 2);
        fprintf(stderr, "once: can't run '%s': %s\n", argv[2], strerror(errno));
        _exit(127);
    }
    int status = 0;
    struct rusage use;
    while (wait4(child, &status, 0, &use) < 0) {
        if (errno != EINTR)
            return 125;
    }
    double wall = now() - start;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    FILE *result = fopen(argv[1], "w");
    if (!result) {
        fprintf(stderr, "once: can't write '%s': %s\n", argv[1], strerror(errno));
        return 125;
    }
    fprintf(result, "%.6f %.6f %.6f %ld %d\n", wall, seconds(use.ru_utime), seconds(use.ru_stime),
            use.ru_maxrss, code);
    return fclose(result) == 0 ? code : 125;
}
