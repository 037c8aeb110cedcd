/*
 * debug.h - what pools do in debug mode: patterns in memory that nobody may
 * write to, and telling the program what was found (memopt/misuse.h).
 *
 * The patterns are for programs without a checker. Under AddressSanitizer and
 * Valgrind the same bytes are poisoned, which finds more and sooner, so they are
 * neither filled nor looked at: looking would trip the checker itself.
 */
#ifndef MO_POOL_DEBUG_H
#define MO_POOL_DEBUG_H

#include <memopt/error.h>
#include <memopt/misuse.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { MO_PATTERN_AROUND = 0xca, MO_PATTERN_RETURNED = 0xdb };
enum { MO_POOL_NAME_MAX = 64 };

/* The part of a pool's options that all pools have. */
struct mo_pool_debug {
    char name[MO_POOL_NAME_MAX];
    bool on;
    memopt_misuse_fn callback;
    void *context;
    _Atomic uint64_t count;
};

/* `name` NULL: `kind`, what the pool is one of ("buffers"). -EINVAL for a name
 * that is too long or a `debug` that is none. */
int mo_debug_init(struct mo_pool_debug *debug, const char *kind, const char *name, int mode,
                  memopt_misuse_fn callback, void *context, struct memopt_error *error);

/* Both are nothing under a checker. */
void mo_pattern_fill(void *p, size_t size, int pattern);
/* The first byte that is not `pattern`; NULL: all are. */
const void *mo_pattern_broken(const void *p, size_t size, int pattern);

/* Counts it, tells the callback, fills `error` and returns the kind's errno.
 * `bytes` and `data`: of what it is about (0 and NULL: unknown); `address`: the
 * first wrong byte. */
int mo_misuse(struct mo_pool_debug *debug, int kind, const void *data, size_t bytes,
              const void *address, struct memopt_error *error);

#endif
