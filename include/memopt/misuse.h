/*
 * memopt/misuse.h - what a pool says when the program misuses it.
 *
 * A misuse is a bug of the program's that a pool has noticed: a buffer returned
 * twice, a pointer that is none of the pool's, bytes written past an end or after
 * the return. The call that notices it returns a negative errno; where a callback
 * was given in the pool's options, it is called as well, in the thread that made
 * the call, with no lock held: it may print, abort, or only count. The library
 * itself does neither.
 *
 * How much is noticed depends on the pool's `debug`:
 *   off   what costs nothing: most double returns
 *   on    all of it: bytes around what is handed out are filled with a pattern
 *         and looked at when it comes back; what came back is filled, and looked
 *         at when it is handed out again
 * Under AddressSanitizer or Valgrind debug is on, and the tool itself reports the
 * access at the moment it happens, as with malloc: what a pool keeps and the
 * bytes around what it has handed out are poisoned.
 */
#ifndef MEMOPT_MISUSE_H
#define MEMOPT_MISUSE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* For `debug` in the options of pools. */
enum memopt_debug {
    MEMOPT_DEBUG_AUTO = 0, /* on under AddressSanitizer and Valgrind */
    MEMOPT_DEBUG_ON = 1,
    MEMOPT_DEBUG_OFF = 2, /* even then; the poison stays */
};
/* What the _INIT macros set: on in the program's debug builds, those without
 * -DNDEBUG. */
#ifdef NDEBUG
#define MEMOPT_DEBUG_BUILD MEMOPT_DEBUG_AUTO
#else
#define MEMOPT_DEBUG_BUILD MEMOPT_DEBUG_ON
#endif

enum memopt_misuse_kind {
    MEMOPT_MISUSE_FOREIGN = 1,      /* not this pool's; -EINVAL */
    MEMOPT_MISUSE_TWICE = 2,        /* returned before; -EALREADY */
    MEMOPT_MISUSE_OVERFLOW = 3,     /* written past the end; -EOVERFLOW */
    MEMOPT_MISUSE_UNDERFLOW = 4,    /* written before the beginning; -EOVERFLOW */
    MEMOPT_MISUSE_AFTER_RETURN = 5, /* written after the return */
};

struct memopt_misuse {
    size_t size;         /* of this struct */
    int kind;            /* enum memopt_misuse_kind */
    const char *pool;    /* the pool's name */
    const void *address; /* the first byte that is wrong, or the pointer passed */
    size_t bytes;        /* of the buffer or object it is about; 0: unknown */
    ptrdiff_t offset;    /* of `address` in it; negative: before it */
    const char *text;    /* a sentence; valid during the call */
};

typedef void (*memopt_misuse_fn)(void *context, const struct memopt_misuse *misuse);

#ifdef __cplusplus
}
#endif
#endif
