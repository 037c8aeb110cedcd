/*
 * operators.c - operator new and delete in all their forms, by their mangled
 * names (Itanium C++ ABI; size_t is unsigned long, 'm').
 *
 * The shim must have them all: a preloaded backend that exports its own would
 * otherwise serve them past the shim. A failing new is handed to the C++ run-time
 * that the program has loaded: it calls malloc again (ours), then the
 * new_handler, and throws std::bad_alloc, none of which C can do.
 *
 * A program may define some of them, and the rest must then call those, as the C++
 * standard has it: new[] and the nothrow forms call new, sized delete calls delete. The
 * run-time's own do; the shim's would come before them and serve from another heap
 * than the program's. So they ask first who has the forms that the rest are made of, and
 * step aside.
 */
#include "preload/operators.h"

#include "core/dispatch/dispatch.h"

#include "preload/process.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

/* What is rare and far is kept out of the fast path. */
#define COLD __attribute__((noinline, cold))

/* The C++ run-time's own `name`, or NULL; it comes after us in the program's scope. */
static COLD void *find_in_runtime(const char *name) {
    static const char *const runtimes[] = {"libstdc++.so.6", "libc++.so.1", "libc++abi.so.1"};
    for (size_t i = 0; i < sizeof(runtimes) / sizeof(runtimes[0]); i++) {
        void *handle = dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD);
        void *found = handle == NULL ? NULL : dlsym(handle, name);
        if (found != NULL)
            return found;
    }
    return NULL;
}

static void *runtime_symbol(const char *name) {
    void *found = find_in_runtime(name);
    if (found != NULL)
        return found;
    static const char message[] = "memopt: operator new failed and no C++ run-time is loaded\n";
    ssize_t written = write(STDERR_FILENO, message, sizeof(message) - 1);
    (void)written;
    abort();
}

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

/* The forms that others are made of. */
MEMOPT_EXPORT void *_Znwm(size_t size);
MEMOPT_EXPORT void *_Znam(size_t size);
MEMOPT_EXPORT void *_ZnwmSt11align_val_t(size_t size, size_t alignment);
MEMOPT_EXPORT void *_ZnamSt11align_val_t(size_t size, size_t alignment);
MEMOPT_EXPORT void _ZdlPv(void *p);
MEMOPT_EXPORT void _ZdaPv(void *p);
MEMOPT_EXPORT void _ZdlPvSt11align_val_t(void *p, size_t alignment);
MEMOPT_EXPORT void _ZdaPvSt11align_val_t(void *p, size_t alignment);

/* ------------------------------------------------- a program that has its own */

static _Atomic enum { NOT_KNOWN, OURS, PROGRAMS } whose;

static COLD bool look(void) {
    static const struct {
        const char *name;
        const void *ours;
    } forms[] = {
        {"_Znwm", (void *)_Znwm},
        {"_Znam", (void *)_Znam},
        {"_ZdlPv", (void *)_ZdlPv},
        {"_ZdaPv", (void *)_ZdaPv},
        {"_ZnwmSt11align_val_t", (void *)_ZnwmSt11align_val_t},
        {"_ZnamSt11align_val_t", (void *)_ZnamSt11align_val_t},
        {"_ZdlPvSt11align_val_t", (void *)_ZdlPvSt11align_val_t},
        {"_ZdaPvSt11align_val_t", (void *)_ZdaPvSt11align_val_t},
    };
    bool ours = true;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        ours = ours && mo_program_calls(forms[i].name, forms[i].ours);
    whose = ours ? OURS : PROGRAMS;
    return !ours;
}

bool mo_operators_replaced(void) {
    return whose == NOT_KNOWN ? look() : whose == PROGRAMS;
}

/* In a form that is made of another one. A program with a run-time of its own, inside
 * it, has that call the right ones. */
#define STEP_ASIDE(NAME, ...)                                                                      \
    if (mo_unlikely(whose != OURS) && mo_operators_replaced()) {                                   \
        static __typeof__(&NAME) own;                                                              \
        if (own == NULL)                                                                           \
            own = (__typeof__(own))find_in_runtime(#NAME);                                         \
        if (own != NULL)                                                                           \
            return own(__VA_ARGS__);                                                               \
    }

/* ------------------------------------------------------------------ the forms */

#define NEW(NAME, ASIDE)                                                                           \
    void *NAME(size_t size) {                                                                      \
        ASIDE(NAME, size)                                                                          \
        void *p = mo_dispatch.malloc(size);                                                        \
        return mo_likely(p != NULL) ? p : new_failed(#NAME, size);                                 \
    }
#define NEW_NOTHROW(NAME)                                                                          \
    MEMOPT_EXPORT void *NAME(size_t size, const void *tag);                                        \
    MEMOPT_EXPORT void *NAME(size_t size, const void *tag) {                                       \
        STEP_ASIDE(NAME, size, tag)                                                                \
        void *p = mo_dispatch.malloc(size);                                                        \
        return mo_likely(p != NULL) ? p : nothrow_failed(#NAME, size, tag);                        \
    }
#define NEW_ALIGNED(NAME, ASIDE)                                                                   \
    void *NAME(size_t size, size_t alignment) {                                                    \
        ASIDE(NAME, size, alignment)                                                               \
        void *p = mo_aligned_alloc(alignment, size);                                               \
        return mo_likely(p != NULL) ? p : aligned_failed(#NAME, size, alignment);                  \
    }
#define NEW_ALIGNED_NOTHROW(NAME)                                                                  \
    MEMOPT_EXPORT void *NAME(size_t size, size_t alignment, const void *tag);                      \
    MEMOPT_EXPORT void *NAME(size_t size, size_t alignment, const void *tag) {                     \
        STEP_ASIDE(NAME, size, alignment, tag)                                                     \
        void *p = mo_aligned_alloc(alignment, size);                                               \
        return mo_likely(p != NULL) ? p : aligned_nothrow_failed(#NAME, size, alignment, tag);     \
    }
#define DELETE(NAME, PARAMETERS, ASIDE, ...)                                                       \
    MEMOPT_EXPORT void NAME PARAMETERS;                                                            \
    MEMOPT_EXPORT void NAME PARAMETERS {                                                           \
        ASIDE(NAME, p, ##__VA_ARGS__)                                                              \
        mo_free(p);                                                                                \
    }
#define STAY(NAME, ...) /* the others are made of this one */

NEW(_Znwm, STAY)                              /* new(size) */
NEW(_Znam, STEP_ASIDE)                        /* new[](size) */
NEW_NOTHROW(_ZnwmRKSt9nothrow_t)              /* new(size, nothrow) */
NEW_NOTHROW(_ZnamRKSt9nothrow_t)              /* new[](size, nothrow) */
NEW_ALIGNED(_ZnwmSt11align_val_t, STAY)       /* new(size, alignment) */
NEW_ALIGNED(_ZnamSt11align_val_t, STEP_ASIDE) /* new[](size, alignment) */
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t)
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t)

#pragma GCC diagnostic ignored "-Wunused-parameter" /* sizes and tags tell us nothing new */
#define SIZED (void *p, size_t size)
#define TAGGED (void *p, const void *tag)
#define ALIGNED (void *p, size_t alignment)
#define SIZED_ALIGNED (void *p, size_t size, size_t alignment)
#define ALIGNED_TAGGED (void *p, size_t alignment, const void *tag)
DELETE(_ZdlPv, (void *p), STAY)          /* delete(p) */
DELETE(_ZdaPv, (void *p), STEP_ASIDE)    /* delete[](p) */
DELETE(_ZdlPvm, SIZED, STEP_ASIDE, size) /* delete(p, size) */
DELETE(_ZdaPvm, SIZED, STEP_ASIDE, size)
DELETE(_ZdlPvRKSt9nothrow_t, TAGGED, STEP_ASIDE, tag) /* delete(p, nothrow) */
DELETE(_ZdaPvRKSt9nothrow_t, TAGGED, STEP_ASIDE, tag)
DELETE(_ZdlPvSt11align_val_t, ALIGNED, STAY) /* delete(p, alignment) */
DELETE(_ZdaPvSt11align_val_t, ALIGNED, STEP_ASIDE, alignment)
DELETE(_ZdlPvmSt11align_val_t, SIZED_ALIGNED, STEP_ASIDE, size, alignment)
DELETE(_ZdaPvmSt11align_val_t, SIZED_ALIGNED, STEP_ASIDE, size, alignment)
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, ALIGNED_TAGGED, STEP_ASIDE, alignment, tag)
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, ALIGNED_TAGGED, STEP_ASIDE, alignment, tag)
