/*
 * operators.c - operator new and delete in all their forms, by their mangled
 * names (Itanium C++ ABI; size_t is unsigned long, 'm').
 *
 * The shim must have them all: a preloaded backend that exports its own would
 * otherwise serve them past the shim. A failing new is handed to the C++ run-time
 * that the program has loaded: it calls malloc again (ours), then the
 * new_handler, and throws std::bad_alloc, none of which C can do.
 */
#include "core/dispatch/dispatch.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

/* The C++ run-time's own `name`; it comes after us in the program's scope. */
static void *runtime_symbol(const char *name) {
    static const char *const runtimes[] = {"libstdc++.so.6", "libc++.so.1", "libc++abi.so.1"};
    for (size_t i = 0; i < sizeof(runtimes) / sizeof(runtimes[0]); i++) {
        void *handle = dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD);
        void *found = handle == NULL ? NULL : dlsym(handle, name);
        if (found != NULL)
            return found;
    }
    static const char message[] = "memopt: operator new failed and no C++ run-time is loaded\n";
    ssize_t written = write(STDERR_FILENO, message, sizeof(message) - 1);
    (void)written;
    abort();
}

/* The failure is rare and far: kept out of the fast path. */
#define COLD __attribute__((noinline, cold))
static COLD void *new_failed(const char *name, size_t size) {
    void *(*again)(size_t);
    *(void **)&again = runtime_symbol(name);
    return again(size);
}
static COLD void *nothrow_failed(const char *name, size_t size, const void *tag) {
    void *(*again)(size_t, const void *);
    *(void **)&again = runtime_symbol(name);
    return again(size, tag);
}
static COLD void *aligned_failed(const char *name, size_t size, size_t alignment) {
    void *(*again)(size_t, size_t);
    *(void **)&again = runtime_symbol(name);
    return again(size, alignment);
}
static COLD void *aligned_nothrow_failed(const char *name, size_t size, size_t alignment,
                                         const void *tag) {
    void *(*again)(size_t, size_t, const void *);
    *(void **)&again = runtime_symbol(name);
    return again(size, alignment, tag);
}

#define NEW(NAME)                                                                                  \
    MEMOPT_EXPORT void *NAME(size_t size);                                                         \
    MEMOPT_EXPORT void *NAME(size_t size) {                                                        \
        void *p = mo_dispatch.malloc(size);                                                        \
        return mo_likely(p != NULL) ? p : new_failed(#NAME, size);                                 \
    }
#define NEW_NOTHROW(NAME)                                                                          \
    MEMOPT_EXPORT void *NAME(size_t size, const void *tag);                                        \
    MEMOPT_EXPORT void *NAME(size_t size, const void *tag) {                                       \
        void *p = mo_dispatch.malloc(size);                                                        \
        return mo_likely(p != NULL) ? p : nothrow_failed(#NAME, size, tag);                        \
    }
#define NEW_ALIGNED(NAME)                                                                          \
    MEMOPT_EXPORT void *NAME(size_t size, size_t alignment);                                       \
    MEMOPT_EXPORT void *NAME(size_t size, size_t alignment) {                                      \
        void *p = mo_aligned_alloc(alignment, size);                                               \
        return mo_likely(p != NULL) ? p : aligned_failed(#NAME, size, alignment);                  \
    }
#define NEW_ALIGNED_NOTHROW(NAME)                                                                  \
    MEMOPT_EXPORT void *NAME(size_t size, size_t alignment, const void *tag);                      \
    MEMOPT_EXPORT void *NAME(size_t size, size_t alignment, const void *tag) {                     \
        void *p = mo_aligned_alloc(alignment, size);                                               \
        return mo_likely(p != NULL) ? p : aligned_nothrow_failed(#NAME, size, alignment, tag);     \
    }
#define DELETE(NAME, ...)                                                                          \
    MEMOPT_EXPORT void NAME(void *p, ##__VA_ARGS__);                                               \
    MEMOPT_EXPORT void NAME(void *p, ##__VA_ARGS__) {                                              \
        mo_free(p);                                                                                \
    }

NEW(_Znwm)                        /* new(size) */
NEW(_Znam)                        /* new[](size) */
NEW_NOTHROW(_ZnwmRKSt9nothrow_t)  /* new(size, nothrow) */
NEW_NOTHROW(_ZnamRKSt9nothrow_t)  /* new[](size, nothrow) */
NEW_ALIGNED(_ZnwmSt11align_val_t) /* new(size, alignment) */
NEW_ALIGNED(_ZnamSt11align_val_t) /* new[](size, alignment) */
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t)
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t)

#pragma GCC diagnostic ignored "-Wunused-parameter" /* sizes and tags tell us nothing new */
DELETE(_ZdlPv)                                      /* delete(p) */
DELETE(_ZdaPv)                                      /* delete[](p) */
DELETE(_ZdlPvm, size_t size)                        /* delete(p, size) */
DELETE(_ZdaPvm, size_t size)
DELETE(_ZdlPvRKSt9nothrow_t, const void *tag) /* delete(p, nothrow) */
DELETE(_ZdaPvRKSt9nothrow_t, const void *tag)
DELETE(_ZdlPvSt11align_val_t, size_t alignment) /* delete(p, alignment) */
DELETE(_ZdaPvSt11align_val_t, size_t alignment)
DELETE(_ZdlPvmSt11align_val_t, size_t size, size_t alignment)
DELETE(_ZdaPvmSt11align_val_t, size_t size, size_t alignment)
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, size_t alignment, const void *tag)
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, size_t alignment, const void *tag)
