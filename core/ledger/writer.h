/*
 * writer.h - the writing side of the ledger, inside the watched program.
 *
 * One record a process. It is begun by the shim's (or the agent's) constructor. Its header
 * stays mapped at one address for the life of the process, in a forked child, too, where it is
 * the child's own; its areas are mapped when they are first used.
 *
 *   vocabulary   slot: one thread's counters. ended slot: slot 0, what threads
 *                that are gone have counted. ending: a thread whose destructors
 *                run; it may still allocate, so its slot is folded into slot 0
 *                only when the kernel says that the thread is gone.
 *
 * A forked child begins with empty areas. Whoever has something in one (a slot, a heap, an area
 * of its own) puts what is to go on there into the child's after mo_ledger_after_fork_child();
 * what pointed into the parent's is not to be used any more.
 *
 * Nothing here allocates from the program's heap. Growth is wait-free but for
 * the system calls it makes; no thread ever waits for another.
 */
#ifndef MO_LEDGER_WRITER_H
#define MO_LEDGER_WRITER_H

#include "core/ledger/ledger.h"

#include <memopt/plugin.h>

#include <stdbool.h>

enum {
    MO_LEDGER_FIRST = 2, /* slots at the start; few, as all ledgers of a run are in RAM */
    MO_LEDGER_GROW = 8,
};

/* What each thread's slot holds besides its head: an entry of the directory. */
struct mo_slot_state {
    const char *name;
    uint32_t version, size;
    uint32_t offset; /* out: where it is in the slot */
};

struct mo_ledger_plan {
    const char *directory; /* absolute, private to the run */
    uint32_t binding;      /* as in the header */
    struct mo_slot_state *states;
    size_t state_count; /* 0: nothing is counted by thread */
    /* A thread is gone: `slot` into `ended`; both as attach() gives them. One call at a time. */
    void (*fold)(void *ended, void *slot);
};

/* Takes a place in the run's file and maps its header. The arguments are the program's. */
int mo_ledger_create(const struct mo_ledger_plan *plan, int argc, char *const *argv,
                     struct memopt_error *error);

/* create() failed, and the report will say so. */
int mo_ledger_left_word(void);

/* From shut_in() on nothing in this file makes a system call: the process has shut itself
 * in, and one might be its last. prepare_shut_in() comes before, while they are allowed.
 * Async-signal-safe. */
void mo_ledger_prepare_shut_in(void);
void mo_ledger_shut_in(void);

/* The header, or NULL if there is none. */
struct mo_ledger_header *mo_ledger(void);

void mo_ledger_set_allocator(const char *name, const char *version);

/* ------------------------------------------------------------------ areas */

/* A new area, for as long as the process lives: `limit` elements of `unit` bytes, or as many
 * as there is room for. NULL: there is no ledger, or no room for another area. At the start
 * of the process only. */
void *mo_ledger_area(const char *name, uint32_t version, uint32_t unit, uint64_t limit,
                     struct memopt_error *error);
/* Its first `count` elements are in use from now on. 0 or -errno; -ENOSPC: it is full, which
 * the directory says from now on. Any thread, async-signal-safe. */
int mo_ledger_area_back(void *area, uint64_t count);

/* The slots that there are, those of ended threads included, from 0; NULL: no more. */
void *mo_ledger_slot(uint64_t index);
/* A slot for the calling thread. With more threads than slots the last one is shared, and a
 * note says so. NULL: there is none at all. */
void *mo_ledger_attach(void);
/* From a thread's destructor: the slot may be taken back when the thread is gone. */
void mo_ledger_detach(void *slot);

/* A slot for a heap, named, with used = 1; NULL: no room. */
struct mo_ledger_heap *mo_ledger_heap_slot(const char *name, const char *allocator);
/* A heap's number in this process: 1 and up. */
uint32_t mo_ledger_heap_number(const struct mo_ledger_heap *heap);

/* Appends a note or an event; async-signal-safe. Dropped when there is no room. */
void mo_ledger_note(int level, const char *text);
void mo_ledger_event(const char *kind, const char *text);

/* Since the record was begun, in ns, to a tick of the kernel's. No system call. */
uint64_t mo_ledger_clock(void);

/* ------------------------------------------------------------------- fork */

/* Gives the child of a fork a record of its own. A negative errno: it has none, which the
 * parent's says as far as there is room. */
int mo_ledger_after_fork_child(void);

/* What the backend has just said of itself. One thread at a time. */
void mo_ledger_set_figures(const struct memopt_figures *figures);

/* The process is about to end, with this status. Makes no system call;
 * async-signal-safe. */
void mo_ledger_end(int exit_status);

#endif
