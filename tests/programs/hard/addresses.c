/* addresses.c - takes the addresses of the malloc family, which in a program that is linked
 * to a fixed address are entries of its own PLT, and calls through them: in the main thread,
 * in another one, in a child, in a child that was exec'ed. */
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *(*volatile const mallocs[])(size_t) = {malloc, valloc, pvalloc};
static void *(*volatile const callocs[])(size_t, size_t) = {calloc};
static void *(*volatile const reallocs[])(void *, size_t) = {realloc};
static void *(*volatile const reallocarrays[])(void *, size_t, size_t) = {reallocarray};
static void *(*volatile const aligneds[])(size_t, size_t) = {memalign, aligned_alloc};
static int (*volatile const posix)(void **, size_t, size_t) = posix_memalign;
static size_t (*volatile const usable)(void *) = malloc_usable_size;
static void (*volatile const release)(void *) = free;
static char *(*volatile const duplicate)(const char *) = strdup;

static void *use(void *unused) {
    size_t sum = 0;
    void *p;
    for (size_t i = 0; i < 3; i++) {
        sum += usable(p = mallocs[i](100)) >= 100;
        release(p);
    }
    p = callocs[0](10, 10);
    p = reallocs[0](p, 5000);
    p = reallocarrays[0](p, 10, 1000);
    sum += usable(p) >= 10000;
    release(p);
    for (size_t i = 0; i < 2; i++) {
        sum += (uintptr_t)(p = aligneds[i](256, 512)) % 256 == 0;
        release(p);
    }
    sum += posix(&p, 64, 100) == 0;
    release(p);
    p = duplicate("text");
    sum += strlen(p) == 4;
    release(p);
    printf("%zu\n", sum);
    fflush(stdout);
    return unused;
}

int main(int argc, char **argv) {
    use(NULL);
    if (argc > 1)
        return 0;
    pthread_t thread;
    pthread_create(&thread, NULL, use, NULL);
    pthread_join(thread, NULL);
    pid_t pid = fork();
    if (pid == 0) {
        use(NULL);
        execl(argv[0], argv[0], "again", (char *)NULL);
        _exit(1);
    }
    int status;
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}
