/*
 * spawn.c - microseconds per child, for bench/run.
 *
 * usage: spawn CHILDREN [COMMAND [ARGUMENT...]]
 *
 * Starts CHILDREN children one after the other and waits for each: COMMAND by
 * posix_spawn, or, without one, a fork that ends by _exit at once. Prints first the run
 * directory that it finds in its environment ("-" if there is none), so that somebody can
 * look how full it gets, then the mean time.
 *
 * What it doesn't show: what a large program pays for a fork (the copy of its page
 * tables is the kernel's and the same for all), children that run at the same time.
 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { WARM = 20 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void child(char **command) {
    pid_t pid;
    int error = 0, status;
    if (*command != NULL) {
        error = posix_spawn(&pid, *command, NULL, NULL, command, environ);
    } else {
        pid = fork();
        if (pid == 0)
            _exit(0);
        if (pid < 0)
            error = errno;
    }
    if (error != 0) {
        fprintf(stderr, "spawn: can't start a child: %s\n", strerror(error));
        exit(1);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            exit(1);
    if (status != 0) {
        fprintf(stderr, "spawn: a child ended with wait status %d\n", status);
        exit(1);
    }
}

int main(int argc, char **argv) {
    int children = argc > 1 ? atoi(argv[1]) : 0;
    if (children < 1) {
        fprintf(stderr, "usage: spawn CHILDREN [COMMAND [ARGUMENT...]]\n");
        return 2;
    }
    const char *directory = getenv("MEMOPT_RUN");
    printf("%s\n", directory != NULL ? directory : "-");
    fflush(stdout);
    for (int i = 0; i < WARM; i++)
        child(argv + 2);
    double start = now();
    for (int i = 0; i < children; i++)
        child(argv + 2);
    printf("%.3f\n", (now() - start) / children);
    return 0;
}
