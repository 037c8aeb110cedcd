/*
 * poison.h - tells memory checkers what a pool has handed out and what not.
 *
 * A pool that keeps returned blocks hides the mistakes a checker would find in
 * plain malloc and free. So whoever keeps memory says so:
 *
 *     free in the pool            mo_poison()     any access is an error
 *     handed out                  mo_unpoison()   accessible, contents undefined
 *     handed out, contents kept   mo_unpoison_defined()
 *
 * AddressSanitizer: the program's run-time is looked for when it is linked, so a
 * plain libmemopt poisons in a program that was built with -fsanitize=address.
 * Valgrind: client requests, sent only when running under it; a pool and its
 * blocks are known as mempool(s), so that a report names the block and where it
 * was handed out and returned. (Of a returned block that lies in a block of the
 * program's malloc it names that one: Valgrind looks for those first.)
 *
 * Used by core/heap and core/object. Costs a test of two hidden variables when
 * no checker is there. Any thread; the bytes must be the caller's own.
 * AddressSanitizer knows multiples of 8 bytes: poison from an 8-byte boundary,
 * else the bytes up to the next one stay accessible. Before memory goes back to
 * its backend it must be mo_unpoison()ed.
 */
#ifndef MO_BASE_POISON_H
#define MO_BASE_POISON_H

#include <stdbool.h>
#include <stddef.h>

/* MO_CHECKER_*: which checker this process runs under; 0: none. */
enum { MO_CHECKER_ASAN = 1, MO_CHECKER_VALGRIND = 2 };
extern __attribute__((visibility("hidden"))) int mo_checker;

void mo_poison_slow(const void *p, size_t size);
void mo_unpoison_slow(const void *p, size_t size, bool defined);
void mo_mempool_create_slow(const void *pool);
void mo_mempool_destroy_slow(const void *pool);
void mo_mempool_alloc_slow(const void *pool, const void *p, size_t size);
void mo_mempool_hide_slow(const void *pool, const void *p);
void mo_mempool_free_slow(const void *pool, const void *p);
void mo_keep_slow(const void *p);

static inline bool mo_checked(void) {
    return __builtin_expect(mo_checker != 0, 0);
}

static inline void mo_poison(const void *p, size_t size) {
    if (mo_checked())
        mo_poison_slow(p, size);
}

static inline void mo_unpoison(const void *p, size_t size) {
    if (mo_checked())
        mo_unpoison_slow(p, size, false);
}

static inline void mo_unpoison_defined(const void *p, size_t size) {
    if (mo_checked())
        mo_unpoison_slow(p, size, true);
}

/* A pool for Valgrind, known by any address of the caller's that is unique. */
static inline void mo_mempool_create(const void *pool) {
    if (mo_checked())
        mo_mempool_create_slow(pool);
}

/* All blocks of it are gone, too. */
static inline void mo_mempool_destroy(const void *pool) {
    if (mo_checked())
        mo_mempool_destroy_slow(pool);
}

/* A block is handed out: mo_unpoison() and, for Valgrind, the block's stack. */
static inline void mo_mempool_alloc(const void *pool, const void *p, size_t size) {
    if (mo_checked())
        mo_mempool_alloc_slow(pool, p, size);
}

/* A block that is handed out is cut into blocks of another pool: reports are to name
 * those, and Valgrind wants no two that overlap. Poison is not touched. */
static inline void mo_mempool_hide(const void *pool, const void *p) {
    if (mo_checked())
        mo_mempool_hide_slow(pool, p);
}

/* All of those are gone; the block has undefined contents. */
static inline void mo_mempool_unhide(const void *pool, const void *p, size_t size) {
    if (mo_checked())
        mo_mempool_alloc_slow(pool, p, size);
}

/* A block came back: mo_poison() of `size` bytes and the block's stack. */
static inline void mo_mempool_free(const void *pool, const void *p, size_t size) {
    if (mo_checked()) {
        mo_mempool_free_slow(pool, p);
        mo_poison_slow(p, size);
    }
}

/* A block of malloc's that is kept for good or for a while, though nothing that
 * LeakSanitizer looks at leads to it: no leak. */
static inline void mo_keep(const void *p) {
    if (mo_checked())
        mo_keep_slow(p);
}

#endif
