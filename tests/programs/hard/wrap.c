/* wrap.c - malloc and free that wrap the next ones: -DNEXT by dlsym(RTLD_NEXT), else by
 * glibc's __libc_ names; -DWHOLE the whole family, else malloc and free only; as a part of
 * wrapped.c or as a library that is preloaded before everybody else. Each block has its size
 * before it when the family is whole, so that a block of somebody else's is found out. */
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

void *malloc(size_t size);
void free(void *p);

#ifdef NEXT
static void *next_malloc(size_t size) {
    static void *(*next)(size_t);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "malloc");
    return next(size);
}
static void next_free(void *p) {
    static void (*next)(void *);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "free");
    next(p);
}
#else
void *__libc_malloc(size_t size);
void __libc_free(void *p);
#define next_malloc __libc_malloc
#define next_free __libc_free
#endif

#ifdef WHOLE
enum { HEADER = 16 };
void *malloc(size_t size) {
    char *p = next_malloc(size + HEADER);
    if (p == NULL)
        return NULL;
    memcpy(p, &size, sizeof(size));
    memset(p + 8, 0x5a, 8);
    return p + HEADER;
}
void free(void *p) {
    if (p == NULL)
        return;
    if (((char *)p)[-1] != 0x5a)
        __builtin_trap();
    next_free((char *)p - HEADER);
}
void *calloc(size_t count, size_t size);
void *calloc(size_t count, size_t size) {
    void *p = malloc(count * size);
    return p == NULL ? NULL : memset(p, 0, count * size);
}
void *realloc(void *p, size_t size);
void *realloc(void *p, size_t size) {
    void *q = malloc(size);
    size_t old;
    if (p != NULL && q != NULL) {
        memcpy(&old, (char *)p - HEADER, sizeof(old));
        memcpy(q, p, old < size ? old : size);
        free(p);
    }
    return q;
}
#else
void *malloc(size_t size) {
    return next_malloc(size);
}
void free(void *p) {
    next_free(p);
}
#endif
