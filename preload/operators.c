/*
 * operators.c - operator new and delete in all their forms, by their mangled
 * names (Itanium C++ ABI; size_t is unsigned long, 'm').
 *
 * The shim must have them all: a backend's library that exports its own would
 * otherwise serve them past the shim.
 *
 *   whose      A program may define some of the forms, in the executable or in a library
 *              that it is linked with; the others must then be made of those, as the C++
 *              standard has it: new[] and the nothrow forms call new, sized delete calls
 *              delete. So where anybody but the C++ run-time has one of them, all of ours
 *              step aside for the next definition, as if the shim had none.
 *   failing    A new that fails is handed to the run-time's own: that calls malloc again
 *              (ours), then the new_handler, and throws std::bad_alloc, none of which C can
 *              do. The run-time is looked for beforehand: when memory is out, nothing is.
 *              A nothrow form gives NULL by itself where there is no new_handler: the
 *              run-time's would throw and catch, for which memory may be missing, too.
 *   the forms
 */
#include "preload/operators.h"

#include "core/dispatch/dispatch.h"
#include "preload/object.h"
#include "preload/process.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is rare and far is kept out of the fast path. */
#define COLD __attribute__((noinline, cold))

#define EACH_FORM(DO)                                                                              \
    DO(NEW, _Znwm)                                                                                 \
    DO(NEW_ARRAY, _Znam)                                                                           \
    DO(NEW_NOTHROW, _ZnwmRKSt9nothrow_t)                                                           \
    DO(NEW_ARRAY_NOTHROW, _ZnamRKSt9nothrow_t)                                                     \
    DO(NEW_ALIGNED, _ZnwmSt11align_val_t)                                                          \
    DO(NEW_ARRAY_ALIGNED, _ZnamSt11align_val_t)                                                    \
    DO(NEW_ALIGNED_NOTHROW, _ZnwmSt11align_val_tRKSt9nothrow_t)                                    \
    DO(NEW_ARRAY_ALIGNED_NOTHROW, _ZnamSt11align_val_tRKSt9nothrow_t)                              \
    DO(DELETE, _ZdlPv)                                                                             \
    DO(DELETE_ARRAY, _ZdaPv)                                                                       \
    DO(DELETE_SIZED, _ZdlPvm)                                                                      \
    DO(DELETE_ARRAY_SIZED, _ZdaPvm)                                                                \
    DO(DELETE_NOTHROW, _ZdlPvRKSt9nothrow_t)                                                       \
    DO(DELETE_ARRAY_NOTHROW, _ZdaPvRKSt9nothrow_t)                                                 \
    DO(DELETE_ALIGNED, _ZdlPvSt11align_val_t)                                                      \
    DO(DELETE_ARRAY_ALIGNED, _ZdaPvSt11align_val_t)                                                \
    DO(DELETE_SIZED_ALIGNED, _ZdlPvmSt11align_val_t)                                               \
    DO(DELETE_ARRAY_SIZED_ALIGNED, _ZdaPvmSt11align_val_t)                                         \
    DO(DELETE_ALIGNED_NOTHROW, _ZdlPvSt11align_val_tRKSt9nothrow_t)                                \
    DO(DELETE_ARRAY_ALIGNED_NOTHROW, _ZdaPvSt11align_val_tRKSt9nothrow_t)

#define ENUMERATOR(FORM, NAME) FORM,
enum form { EACH_FORM(ENUMERATOR) FORMS };

#define STRING(FORM, NAME) [FORM] = #NAME,
static const char *const names[FORMS] = {EACH_FORM(STRING)};

/* ---------------------------------------------------------------------- whose */

static struct {
    _Atomic enum { NOT_KNOWN, OURS, PROGRAMS } whose;
    void *runtime[FORMS]; /* the C++ run-time's own */
    void *next[FORMS];    /* where ours step aside: the next definition */
    void *(*get_new_handler)(void);
} known;

static bool is_runtime(const struct mo_object *object) {
    static const char *const runtimes[] = {"libstdc++.so", "libc++.so", "libc++abi.so"};
    const char *slash = strrchr(object->name, '/');
    const char *file = slash == NULL ? object->name : slash + 1;
    for (size_t i = 0; i < sizeof(runtimes) / sizeof(runtimes[0]); i++)
        if (strncmp(file, runtimes[i], strlen(runtimes[i])) == 0)
            return true;
    return false;
}

static void take_from_runtime(const struct mo_object *object, size_t form, void *found) {
    known.runtime[form] = found;
    if (known.get_new_handler == NULL) /* std::get_new_handler() */
        *(void **)&known.get_new_handler = mo_object_symbol(object, "_ZSt15get_new_handlerv");
}

struct survey {
    size_t left;   /* objects to look at */
    bool programs; /* somebody but the run-time has one of the forms */
};

static bool look_at(const struct mo_object *object, void *context) {
    struct survey *survey = context;
    if (survey->left-- == 0)
        return true;
    if (mo_object_holds(object, (const void *)look_at))
        return false;
    bool runtime = is_runtime(object);
    /* An allocator's library brings operators for its malloc, which the shim's stand for. */
    if (!runtime && !object->is_executable && mo_object_symbol(object, "malloc") != NULL)
        return false;
    for (size_t i = 0; i < FORMS; i++) {
        void *found = mo_object_symbol(object, names[i]);
        if (found == NULL)
            continue;
        if (runtime && known.runtime[i] == NULL)
            take_from_runtime(object, i, found);
        if (!object->is_executable && known.next[i] == NULL)
            known.next[i] = found;
        survey->programs = survey->programs || !runtime;
    }
    return false;
}

/* Once, in the first call of any form or in the constructor: threads that do it at once find
 * the same. What dlopen() loads later has no say in what the program calls. */
static COLD bool decide(void) {
    struct survey survey = {.left = mo_boot_objects()};
    mo_object_each(look_at, &survey);
    known.whose = survey.programs ? PROGRAMS : OURS;
    return survey.programs;
}

static bool is_programs(void) {
    return known.whose == NOT_KNOWN ? decide() : known.whose == PROGRAMS;
}

/* One that is linked into a library is as good. */
static bool look_for_runtime(const struct mo_object *object, void *unused) {
    (void)unused;
    if (!is_runtime(object) && mo_object_symbol(object, "__cxa_allocate_exception") == NULL)
        return false;
    for (size_t i = 0; i < FORMS; i++)
        if (known.runtime[i] == NULL)
            take_from_runtime(object, i, mo_object_symbol(object, names[i]));
    return false;
}

/* -------------------------------------------------------------------- failing */

typedef void *new_fn(size_t size);
typedef void *new_nothrow_fn(size_t size, const void *tag);
typedef void *new_aligned_fn(size_t size, size_t alignment);
typedef void *new_aligned_nothrow_fn(size_t size, size_t alignment, const void *tag);

static COLD _Noreturn void no_runtime(void) {
    static const char message[] = "memopt: operator new failed and no C++ run-time is loaded that "
                                  "could throw std::bad_alloc\n";
    ssize_t written = write(STDERR_FILENO, message, sizeof(message) - 1);
    (void)written;
    abort();
}

static COLD void *new_failed(enum form form, size_t size) {
    if (known.runtime[form] == NULL)
        no_runtime();
    return ((new_fn *)known.runtime[form])(size);
}
static bool has_no_handler(void) {
    return known.get_new_handler != NULL && known.get_new_handler() == NULL;
}
static COLD void *nothrow_failed(enum form form, size_t size, const void *tag) {
    if (known.runtime[form] == NULL || has_no_handler())
        return NULL;
    return ((new_nothrow_fn *)known.runtime[form])(size, tag);
}
static COLD void *aligned_failed(enum form form, size_t size, size_t alignment) {
    if (known.runtime[form] == NULL)
        no_runtime();
    return ((new_aligned_fn *)known.runtime[form])(size, alignment);
}
static COLD void *aligned_nothrow_failed(enum form form, size_t size, size_t alignment,
                                         const void *tag) {
    if (known.runtime[form] == NULL || has_no_handler())
        return NULL;
    return ((new_aligned_nothrow_fn *)known.runtime[form])(size, alignment, tag);
}

/* ------------------------------------------------------------------ the forms */

/* Set by go() where the forms may do what follows without looking: ours, and the backend
 * does not want to know by which form. Until then each call looks. */
static bool is_plain;

/* Of a backend that checks by which form a block is made and freed; else NULL. */
static void (*made_by)(void *p, unsigned by);
static void (*freed_by)(void *p, size_t size, size_t alignment, unsigned by);

/* The first new after the start: a run-time that came by dlopen() is there by now, as the
 * caller needs it. */
static COLD void before_first_new(void) {
    enum { LOOKS = 64 }; /* whose first new has no run-time yet may have one later */
    static _Atomic unsigned looks;
    if (!mo_dispatch_is_final || known.whose == PROGRAMS)
        return;
    unsigned look = known.runtime[NEW] == NULL ? atomic_fetch_add(&looks, 1) : LOOKS;
    if (look < LOOKS)
        mo_object_each(look_for_runtime, NULL);
    is_plain = made_by == NULL && (known.runtime[NEW] != NULL || look >= LOOKS);
}

/* True: where known.next[form] is to be called. */
static inline bool steps_aside(enum form form) {
    return mo_unlikely(known.whose != OURS) && is_programs() && known.next[form] != NULL;
}

/* What the run-time got after a failure is not to be judged: it may have called another
 * form, or asked for more. */
static inline void *made(void *p, unsigned by) {
    if (mo_unlikely(made_by != NULL) && p != NULL)
        made_by(p, by);
    return p;
}

static COLD void *checked_new(enum form form, size_t size, unsigned by) {
    before_first_new();
    if (steps_aside(form))
        return ((new_fn *)known.next[form])(size);
    void *p = mo_dispatch.malloc(size);
    return p != NULL ? made(p, by) : made(new_failed(form, size), MEMOPT_BY_MALLOC);
}

#define PUBLIC_NEW(NAME, FORM, BY)                                                                 \
    MEMOPT_EXPORT void *NAME(size_t size);                                                         \
    void *NAME(size_t size) {                                                                      \
        if (mo_unlikely(!is_plain))                                                                \
            return checked_new(FORM, size, BY);                                                    \
        void *p = mo_dispatch.malloc(size);                                                        \
        return mo_likely(p != NULL) ? p : new_failed(FORM, size);                                  \
    }
#define PUBLIC_NOTHROW(NAME, FORM, BY)                                                             \
    MEMOPT_EXPORT void *NAME(size_t size, const void *tag);                                        \
    void *NAME(size_t size, const void *tag) {                                                     \
        if (mo_unlikely(!is_plain))                                                                \
            before_first_new();                                                                    \
        if (steps_aside(FORM))                                                                     \
            return ((new_nothrow_fn *)known.next[FORM])(size, tag);                                \
        void *p = made(mo_dispatch.malloc(size), BY);                                              \
        return mo_likely(p != NULL) ? p : made(nothrow_failed(FORM, size, tag), MEMOPT_BY_MALLOC); \
    }
#define PUBLIC_ALIGNED(NAME, FORM, BY)                                                             \
    MEMOPT_EXPORT void *NAME(size_t size, size_t alignment);                                       \
    void *NAME(size_t size, size_t alignment) {                                                    \
        if (mo_unlikely(!is_plain))                                                                \
            before_first_new();                                                                    \
        if (steps_aside(FORM))                                                                     \
            return ((new_aligned_fn *)known.next[FORM])(size, alignment);                          \
        void *p = made(mo_aligned_alloc(alignment, size), BY);                                     \
        return mo_likely(p != NULL)                                                                \
                   ? p                                                                             \
                   : made(aligned_failed(FORM, size, alignment), MEMOPT_BY_MALLOC);                \
    }
#define PUBLIC_ALIGNED_NOTHROW(NAME, FORM, BY)                                                     \
    MEMOPT_EXPORT void *NAME(size_t size, size_t alignment, const void *tag);                      \
    void *NAME(size_t size, size_t alignment, const void *tag) {                                   \
        if (mo_unlikely(!is_plain))                                                                \
            before_first_new();                                                                    \
        if (steps_aside(FORM))                                                                     \
            return ((new_aligned_nothrow_fn *)known.next[FORM])(size, alignment, tag);             \
        void *p = made(mo_aligned_alloc(alignment, size), BY);                                     \
        return mo_likely(p != NULL)                                                                \
                   ? p                                                                             \
                   : made(aligned_nothrow_failed(FORM, size, alignment, tag), MEMOPT_BY_MALLOC);   \
    }

PUBLIC_NEW(_Znwm, NEW, MEMOPT_BY_NEW)                                   /* new(size) */
PUBLIC_NEW(_Znam, NEW_ARRAY, MEMOPT_BY_NEW_ARRAY)                       /* new[](size) */
PUBLIC_NOTHROW(_ZnwmRKSt9nothrow_t, NEW_NOTHROW, MEMOPT_BY_NEW)         /* new(size, nothrow) */
PUBLIC_NOTHROW(_ZnamRKSt9nothrow_t, NEW_ARRAY_NOTHROW, MEMOPT_BY_NEW_ARRAY)
PUBLIC_ALIGNED(_ZnwmSt11align_val_t, NEW_ALIGNED, MEMOPT_BY_NEW)        /* new(size, alignment) */
PUBLIC_ALIGNED(_ZnamSt11align_val_t, NEW_ARRAY_ALIGNED, MEMOPT_BY_NEW_ARRAY)
PUBLIC_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t, NEW_ALIGNED_NOTHROW, MEMOPT_BY_NEW)
PUBLIC_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t, NEW_ARRAY_ALIGNED_NOTHROW,
                       MEMOPT_BY_NEW_ARRAY)

void mo_freed_by(void *p, size_t size, size_t alignment, unsigned by) {
    if (freed_by == NULL || p == NULL || mo_is_boot(p))
        return;
    if (alignment != 0 && size == 0)
        size = 1; /* as mo_aligned_alloc() asks for it */
    freed_by(p, size, alignment, by);
}

/* Every delete of a block that may be the boot range's, or that somebody may want to know
 * more of. The next definition gets what ours got. */
static COLD void delete_rare(enum form form, void *p, size_t first, size_t second, size_t size,
                             size_t alignment) {
    if (steps_aside(form)) {
        ((void (*)(void *, size_t, size_t))known.next[form])(p, first, second);
        return;
    }
    mo_freed_by(p, size, alignment,
                names[form][3] == 'a' ? MEMOPT_BY_NEW_ARRAY : MEMOPT_BY_NEW);
    mo_free(p);
}

#define NOT_SAID SIZE_MAX, 0
#define PUBLIC_DELETE(NAME, FORM, PARAMETERS, FIRST, SECOND, ...)                                  \
    MEMOPT_EXPORT void NAME PARAMETERS;                                                            \
    void NAME PARAMETERS {                                                                         \
        if (mo_unlikely((uintptr_t)p >= mo_dispatch.delete_from)) {                                \
            delete_rare(FORM, p, (size_t)FIRST, (size_t)SECOND, __VA_ARGS__);                      \
            return;                                                                                \
        }                                                                                          \
        mo_dispatch.free(p);                                                                       \
    }

#define SIZED (void *p, size_t size)
#define TAGGED (void *p, const void *tag)
#define ALIGNED (void *p, size_t alignment)
#define SIZED_ALIGNED (void *p, size_t size, size_t alignment)
#define ALIGNED_TAGGED (void *p, size_t alignment, const void *tag)
PUBLIC_DELETE(_ZdlPv, DELETE, (void *p), 0, 0, NOT_SAID)
PUBLIC_DELETE(_ZdaPv, DELETE_ARRAY, (void *p), 0, 0, NOT_SAID)
PUBLIC_DELETE(_ZdlPvm, DELETE_SIZED, SIZED, size, 0, size, 0)
PUBLIC_DELETE(_ZdaPvm, DELETE_ARRAY_SIZED, SIZED, size, 0, size, 0)
PUBLIC_DELETE(_ZdlPvRKSt9nothrow_t, DELETE_NOTHROW, TAGGED, tag, 0, NOT_SAID)
PUBLIC_DELETE(_ZdaPvRKSt9nothrow_t, DELETE_ARRAY_NOTHROW, TAGGED, tag, 0, NOT_SAID)
PUBLIC_DELETE(_ZdlPvSt11align_val_t, DELETE_ALIGNED, ALIGNED, alignment, 0, SIZE_MAX, alignment)
PUBLIC_DELETE(_ZdaPvSt11align_val_t, DELETE_ARRAY_ALIGNED, ALIGNED, alignment, 0, SIZE_MAX,
              alignment)
PUBLIC_DELETE(_ZdlPvmSt11align_val_t, DELETE_SIZED_ALIGNED, SIZED_ALIGNED, size, alignment, size,
              alignment)
PUBLIC_DELETE(_ZdaPvmSt11align_val_t, DELETE_ARRAY_SIZED_ALIGNED, SIZED_ALIGNED, size, alignment,
              size, alignment)
PUBLIC_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, DELETE_ALIGNED_NOTHROW, ALIGNED_TAGGED,
              alignment, tag, SIZE_MAX, alignment)
PUBLIC_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, DELETE_ARRAY_ALIGNED_NOTHROW, ALIGNED_TAGGED,
              alignment, tag, SIZE_MAX, alignment)

/* ------------------------------------------------------------------ the start */

void mo_operators_start(void) {
    is_programs();
}

void mo_operators_go(const struct memopt_malloc *backend) {
    made_by = backend->made_by;
    freed_by = backend->freed_by;
    if (!is_programs() && freed_by == NULL)
        mo_dispatch.delete_from = mo_dispatch.boot_from;
}
