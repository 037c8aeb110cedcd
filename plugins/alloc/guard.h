/*
 * guard.h - what the parts of the `guard` allocator share.
 *
 *   guard.c         slots: where blocks lie, how they come and go
 *   guard_stack.c   stacks: capture in malloc and free, words for a report
 *   guard_report.c  what went wrong with which block, in words
 *   guard_signal.c  the SIGSEGV handler and its place among the program's own
 *
 * Vocabulary
 *   slot      address space for one block: payload pages, then a guard page that
 *             is never accessible, so guard pages are on both sides of a block
 *   span      slots of one class (number of payload pages) side by side
 *   guarded   the block is against a guard page, and inaccessible once freed
 *   soft      the block has no guard page: patterns around it and over its freed
 *             bytes are checked when it is freed and before it is used again
 *   quarantine  freed slots that are not used again for the time being
 *
 * What is known of a block lies in a table of its span, 64 MiB or more from any slot
 * and from the program's memory, with nothing accessible in between. The handler
 * reads it without a lock: in a process that is about to die a torn read costs one
 * wrong line.
 */
#ifndef MO_GUARD_H
#define MO_GUARD_H

#include <memopt/plugin.h>

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { GUARD_FRAMES_MAX = 32 };

enum guard_state {
    GUARD_EMPTY, /* never used */
    GUARD_LIVE,
    GUARD_FREEING,
    GUARD_FREED, /* in quarantine, or not used again yet */
};

enum guard_idle {
    GUARD_IN_USE,
    GUARD_IDLE,   /* in the list of free slots */
    GUARD_PURGED, /* and without memory */
};

struct guard_heap;
struct guard_slot {
    _Atomic uint32_t state;               /* enum guard_state */
    uint8_t soft;                         /* no guard page */
    uint8_t plain;                        /* large and not to be kept when freed */
    uint8_t idle;                         /* enum guard_idle; under the lock */
    uint8_t allocated_depth, freed_depth; /* frames that were captured */
    uint8_t by;                           /* enum memopt_form it was made by */
    uint8_t alignment;                    /* asked for, as a power of two; 0: 16 bytes or less */
    int32_t allocated_by, freed_by;       /* thread ids */
    uint32_t generation;                  /* how many forks there were on the way to the process
                                           * that allocated it */
    char *p;
    size_t size;                        /* as asked for: usable_size is the same */
    struct guard_heap *heap;            /* NULL: the default heap */
    struct guard_slot *next, *previous; /* of a list: the heap's, quarantine, free slots */
    struct guard_span *span;
    uintptr_t frames[]; /* at allocation, then at free: guard.frames of each */
};

struct guard_span {
    char *start;               /* of the first slot */
    size_t slot_size, payload; /* bytes; soft: they are the same */
    size_t count;              /* slots there is room for */
    size_t used;               /* slots that were handed out at least once; under the lock */
    unsigned class;
    int soft;
    char *slots; /* guard.slot_stride apart */
};

/* One address range for everything, cut into units that belong to spans. */
enum { GUARD_UNIT_BITS = 24 }; /* 16 MiB */

struct guard {
    const struct memopt_host *host;
    size_t page;
    char *base; /* whole pages */
    size_t size;
    _Atomic(struct guard_span *) *units; /* by (address - base) / unit; NULL: not a span's */
    size_t slot_stride;
    unsigned frames;
};
extern struct guard guard;

/* guard.c */
int guard_owns(const void *p);
struct guard_slot *guard_slot_at(const void *p); /* NULL: none was ever there */
struct guard_slot *guard_slot_beside(const struct guard_slot *slot, int step);

/* guard_stack.c */
void guard_stack_open(void);
/* Call sites outside memopt's own modules, innermost first; how many. */
unsigned guard_stack_here(uintptr_t *frames, unsigned room);
/* The same of the code that a signal interrupted. */
unsigned guard_stack_interrupted(const void *context, uintptr_t *frames, unsigned room);
/* Does what may fault, in this module: then it is left where it was. */
void guard_stack_try(void (*attempt)(void *opaque), void *opaque);
/* In the SIGSEGV handler: doesn't return if the fault is of such an attempt. */
void guard_stack_escape(const void *context);
const char *guard_stack_access(const void *context); /* "read", "write" or "access" */
int32_t guard_tid(void);
void guard_forget_tid(void); /* in the child of a fork */

/* A message that is put together in place; what does not fit is cut. */
struct guard_text {
    size_t length;
    char bytes[12 * 1024];
};
void guard_put(struct guard_text *text, const char *format,
               ...); /* %s %u (size_t) %x (uintptr_t) */
void guard_put_stack(struct guard_text *text, const uintptr_t *frames, unsigned count);
void guard_put_build_ids(struct guard_text *text); /* of the modules in its stacks */

/* guard_report.c */

/* In free and the like; they end the program by SIGABRT. */
_Noreturn void guard_report_pointer(const char *operation, const void *p);
_Noreturn void guard_report_twice(const char *operation, const struct guard_slot *slot);
_Noreturn void guard_report_heap(const char *operation, const struct guard_slot *slot);
/* It is freed by a form that says (as plugin.h has it) what isn't so. */
_Noreturn void guard_report_form(const struct guard_slot *slot, size_t size, size_t alignment,
                                 unsigned by);
/* A pattern is damaged at `where`; `when`: "when it was freed". */
_Noreturn void guard_report_damage(const struct guard_slot *slot, const char *where,
                                   const char *when);
/* It was never freed, and is damaged as the program exits. */
_Noreturn void guard_report_damage_at_exit(const struct guard_slot *slot, const char *where);
/* Says what the access was. 0: the fault is none of ours. */
int guard_report_fault(const siginfo_t *info, const void *context);

/* guard_signal.c */
/* Puts our handler before the one that is installed now, unless it is ours. */
void guard_signal_check(void);

#endif
