/*
 * memopt_faults.c - the memopt command with one call made to fail: linked from
 * the command's own sources with --wrap (tests/local.mk), driven by
 * test_run_faults.sh.
 *
 * FAULT=N fails the Nth call, FAULT=N+ that and all after it, in memopt itself,
 * not in what it starts. Whether it came to that goes to descriptor 9, and the
 * directories that it made to descriptor 8.
 */
#include "config.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static long nth, count;
static int for_good;
static pid_t own;

__attribute__((constructor)) static void read_orders(void) {
    const char *orders = getenv("FAULT");
    char *end = NULL;
    nth = orders == NULL ? 0 : strtol(orders, &end, 10);
    for_good = end != NULL && *end == '+';
    own = getpid();
}

/* What the compiler has run after this (gcov writes its counters) is not memopt. */
__attribute__((destructor)) static void no_more_faults(void) {
    nth = 0;
}

static int hit(int code) {
    if (nth == 0 || getpid() != own)
        return 0;
    count++;
    if (count != nth && !(for_good && count > nth))
        return 0;
    if (count == nth)
        dprintf(9, "fired\n");
    errno = code;
    return 1;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t number, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *text);
void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
int __real_open(const char *path, int flags, mode_t mode);
int __real_openat(int directory, const char *path, int flags, mode_t mode);
FILE *__real_fopen(const char *path, const char *mode);
DIR *__real_opendir(const char *path);
char *__real_mkdtemp(char *template);
void *__real_dlopen(const char *path, int flags);
pid_t __real_fork(void);
int __real_pipe2(int ends[2], int flags);
int __real_socketpair(int domain, int type, int protocol, int ends[2]);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t number, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *text);
int __wrap_asprintf(char **result, const char *format, ...);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
int __wrap_open(const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...);
FILE *__wrap_fopen(const char *path, const char *mode);
DIR *__wrap_opendir(const char *path);
char *__wrap_mkdtemp(char *template);
void *__wrap_dlopen(const char *path, int flags);
pid_t __wrap_fork(void);
int __wrap_pipe2(int ends[2], int flags);
int __wrap_socketpair(int domain, int type, int protocol, int ends[2]);

void *__wrap_malloc(size_t size) {
    return hit(ENOMEM) ? NULL : __real_malloc(size);
}
void *__wrap_calloc(size_t number, size_t size) {
    return hit(ENOMEM) ? NULL : __real_calloc(number, size);
}
void *__wrap_realloc(void *p, size_t size) {
    return hit(ENOMEM) ? NULL : __real_realloc(p, size);
}
char *__wrap_strdup(const char *text) {
    return hit(ENOMEM) ? NULL : __real_strdup(text);
}
int __wrap_asprintf(char **result, const char *format, ...) {
    va_list arguments;
    if (hit(ENOMEM))
        return -1;
    va_start(arguments, format);
    int length = vasprintf(result, format, arguments);
    va_end(arguments);
    return length;
}
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
    return hit(ENOMEM) ? MAP_FAILED : __real_mmap(address, size, protection, flags, fd, offset);
}
int __wrap_open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return hit(EMFILE) ? -1 : __real_open(path, flags, mode);
}
int __wrap_openat(int directory, const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return hit(EMFILE) ? -1 : __real_openat(directory, path, flags, mode);
}
FILE *__wrap_fopen(const char *path, const char *mode) {
    return hit(EMFILE) ? NULL : __real_fopen(path, mode);
}
DIR *__wrap_opendir(const char *path) {
    return hit(EMFILE) ? NULL : __real_opendir(path);
}
char *__wrap_mkdtemp(char *template) {
    char *made = hit(ENOSPC) ? NULL : __real_mkdtemp(template);
    if (made != NULL)
        dprintf(8, "%s\n", made);
    return made;
}
void *__wrap_dlopen(const char *path, int flags) {
    /* dlopen(NULL) asks for the program itself and can't fail; a failure must
     * leave a dlerror() */
    return path != NULL && hit(ENOMEM) ? __real_dlopen("/nowhere/injected.so", RTLD_NOW)
                                       : __real_dlopen(path, flags);
}
pid_t __wrap_fork(void) {
    return hit(EAGAIN) ? -1 : __real_fork();
}
int __wrap_pipe2(int ends[2], int flags) {
    return hit(EMFILE) ? -1 : __real_pipe2(ends, flags);
}
int __wrap_socketpair(int domain, int type, int protocol, int ends[2]) {
    return hit(EMFILE) ? -1 : __real_socketpair(domain, type, protocol, ends);
}
