/* poison.c - the calls to the checkers: see poison.h. */
#include "config.h"

#include "core/base/poison.h"

#if HAVE_VALGRIND_MEMCHECK_H
#include <valgrind/memcheck.h>
#endif

/* There when the program, or this library, has AddressSanitizer's run-time. */
extern __attribute__((weak)) void __asan_poison_memory_region(const void *p, size_t size);
extern __attribute__((weak)) void __asan_unpoison_memory_region(const void *p, size_t size);
extern __attribute__((weak)) void __lsan_ignore_object(const void *p);

int mo_checker;

static __attribute__((constructor)) void find_checker(void) {
    if (__asan_poison_memory_region != NULL && __asan_unpoison_memory_region != NULL)
        mo_checker |= MO_CHECKER_ASAN;
#if HAVE_VALGRIND_MEMCHECK_H
    if (RUNNING_ON_VALGRIND)
        mo_checker |= MO_CHECKER_VALGRIND;
#endif
}

void mo_poison_slow(const void *p, size_t size) {
    if (mo_checker & MO_CHECKER_ASAN)
        __asan_poison_memory_region(p, size);
#if HAVE_VALGRIND_MEMCHECK_H
    VALGRIND_MAKE_MEM_NOACCESS(p, size);
#endif
}

void mo_unpoison_slow(const void *p, size_t size, bool defined) {
    if (mo_checker & MO_CHECKER_ASAN)
        __asan_unpoison_memory_region(p, size);
#if HAVE_VALGRIND_MEMCHECK_H
    if (defined)
        VALGRIND_MAKE_MEM_DEFINED(p, size);
    else
        VALGRIND_MAKE_MEM_UNDEFINED(p, size);
#else
    (void)defined;
#endif
}

void mo_mempool_create_slow(const void *pool) {
#if HAVE_VALGRIND_MEMCHECK_H
    VALGRIND_CREATE_MEMPOOL(pool, 0, 0);
#else
    (void)pool;
#endif
}

void mo_mempool_destroy_slow(const void *pool) {
#if HAVE_VALGRIND_MEMCHECK_H
    VALGRIND_DESTROY_MEMPOOL(pool);
#else
    (void)pool;
#endif
}

void mo_mempool_alloc_slow(const void *pool, const void *p, size_t size) {
    mo_unpoison_slow(p, size, false);
#if HAVE_VALGRIND_MEMCHECK_H
    VALGRIND_MEMPOOL_ALLOC(pool, p, size);
#else
    (void)pool;
#endif
}

void mo_mempool_hide_slow(const void *pool, const void *p) {
#if HAVE_VALGRIND_MEMCHECK_H
    /* Freed as a byte, or what is freed inside later would be taken for it. */
    VALGRIND_MEMPOOL_CHANGE(pool, p, p, 1);
    VALGRIND_MEMPOOL_FREE(pool, p);
#else
    (void)pool, (void)p;
#endif
}

void mo_mempool_free_slow(const void *pool, const void *p) {
#if HAVE_VALGRIND_MEMCHECK_H
    VALGRIND_MEMPOOL_FREE(pool, p);
#else
    (void)pool, (void)p;
#endif
}

void mo_keep_slow(const void *p) {
    if (__lsan_ignore_object != NULL)
        __lsan_ignore_object(p);
}
