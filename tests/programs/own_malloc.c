/*
 * own_malloc.c - a program that brings its own malloc: with WHOLE all of the family, else
 * the four functions that glibc asks of such a program. Every block that comes back
 * must be one of its own, also those of libc, of threads and of children.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROOM = 64 << 20, HEAD = 16 };
static char room[ROOM] __attribute__((aligned(4096)));
static atomic_size_t used, mallocs, frees;

static size_t *length_of(void *p) {
    return (size_t *)((char *)p - HEAD);
}

static void *take(size_t alignment, size_t size) {
    if (alignment < HEAD)
        alignment = HEAD;
    if (size > ROOM || alignment > ROOM) {
        errno = ENOMEM;
        return NULL;
    }
    size_t all = size + alignment + HEAD, from = atomic_fetch_add(&used, all);
    if (from > ROOM - all) {
        errno = ENOMEM;
        return NULL;
    }
    char *p = room + ((from + HEAD + alignment - 1) & ~(alignment - 1));
    *length_of(p) = size;
    atomic_fetch_add(&mallocs, 1);
    return p;
}

void *malloc(size_t size) {
    return take(HEAD, size);
}

void *calloc(size_t count, size_t size) { /* no byte is used twice */
    return take(HEAD, count * size);
}

void free(void *p) {
    if (p == NULL)
        return;
    if ((char *)p < room || (char *)p >= room + ROOM)
        abort();
    atomic_fetch_add(&frees, 1);
}

void *realloc(void *p, size_t size) {
    void *q = take(HEAD, size);
    if (p == NULL || q == NULL)
        return q;
    memcpy(q, p, *length_of(p) < size ? *length_of(p) : size);
    free(p);
    return q;
}

#ifdef WHOLE
size_t malloc_usable_size(void *p);
void *memalign(size_t alignment, size_t size);

void *aligned_alloc(size_t alignment, size_t size) {
    return take(alignment, size);
}

void *memalign(size_t alignment, size_t size) {
    return take(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size) {
    *ret = take(alignment, size);
    return *ret == NULL ? ENOMEM : 0;
}

size_t malloc_usable_size(void *p) {
    return p == NULL ? 0 : *length_of(p);
}
#endif

static void use_it(void) {
    char *text = strdup("from libc");
    free(text);
    if (asprintf(&text, "%d", 7) != 1)
        abort();
    free(text);
    FILE *file = fopen("/dev/null", "w");
    if (file == NULL || fclose(file) != 0)
        abort();
    free(realloc(malloc(10), 10000));
#ifdef WHOLE
    void *p;
    if (posix_memalign(&p, 256, 10) != 0)
        abort();
    free(p);
    free(aligned_alloc(64, 64));
#endif
}

static void *thread_body(void *unused) {
    use_it();
    return unused;
}

int main(void) {
    pthread_t thread;
    int status = -1;
    use_it();
    if (pthread_create(&thread, NULL, thread_body, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return 2;
    pid_t child = fork();
    if (child == 0) {
        use_it();
        _exit(3);
    }
    if (waitpid(child, &status, 0) != child)
        return 2;
    printf("child: %d, mallocs %s, frees %s\n", WEXITSTATUS(status),
           mallocs > 8 ? "are the program's" : "went elsewhere",
           frees > 8 ? "are the program's" : "went elsewhere");
    return 5;
}
