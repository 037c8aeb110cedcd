/*
 * writer.h - the writing side of the ledger, inside the watched program.
 *
 * One ledger a process. It is created by the shim's (or the agent's)
 * constructor and stays mapped at one address for the life of the process: in
 * the child of a fork the child's own file is mapped over the parent's, so
 * every pointer into it stays good.
 *
 *   vocabulary   slot: one thread's counters. ended slot: slot 0, what threads
 *                that are gone have counted. ending: a thread whose destructors
 *                run; it may still allocate, so its slot is folded into slot 0
 *                only when the kernel says that the thread is gone.
 *
 * Nothing here allocates from the program's heap. attach() is wait-free but for
 * the system calls it makes; no thread ever waits for another.
 */
#ifndef MO_LEDGER_WRITER_H
#define MO_LEDGER_WRITER_H

#include "core/ledger/ledger.h"

#include <memopt/plugin.h>

struct mo_ledger_plan {
    const char *directory; /* absolute, private to the run */
    uint32_t binding;      /* as in the header */
    size_t tracker_count;
    struct {
        const char *name;
        const struct memopt_tracker_ops *ops;
    } trackers[MO_LEDGER_TRACKERS];
};

/* Creates and maps DIRECTORY/PID.N.ledger. The arguments are the program's. Call once. */
int mo_ledger_create(const struct mo_ledger_plan *plan, int argc, char *const *argv,
                     struct memopt_error *error);

/* create() failed, and the report will say so. */
int mo_ledger_left_word(void);

/* From shut_in() on nothing in this file makes a system call: the process has shut itself
 * in, and one might be its last. prepare_shut_in() comes before, while they are allowed.
 * Async-signal-safe. */
void mo_ledger_prepare_shut_in(void);
void mo_ledger_shut_in(void);

/* The mapping, or NULL if there is none. */
struct mo_ledger_header *mo_ledger(void);

void mo_ledger_set_allocator(const char *name, const char *version);

/* A tracker's process state. */
void *mo_ledger_process_state(size_t tracker);
/* Where in a thread's slot a tracker's state is. */
size_t mo_ledger_thread_offset(size_t tracker);

/* Tells the ledger what stands behind tracker number `tracker`, once opened: its
 * thread_end and fork_child are called with this. */
void mo_ledger_set_self(size_t tracker, void *self);

/* A slot for the calling thread; never NULL once create() has succeeded: with
 * more threads than slots the last slot is shared, and a note says so. */
void *mo_ledger_attach(void);
/* From a thread's destructor: the slot may be taken back when the thread is gone. */
void mo_ledger_detach(void *slot);

struct mo_ledger_heap *mo_ledger_heap_slot(const char *name, const char *allocator);

/* Appends a note or an event; async-signal-safe. Dropped when there is no room. */
void mo_ledger_note(int level, const char *text);
void mo_ledger_event(const char *kind, const char *text);

void mo_ledger_before_fork(void *own_slot);
/* Gives the child a ledger of its own. If no file can be made, the child counts
 * into private memory that nobody reads, and the parent's ledger gets a note.
 * `own_slot` stays valid. -ENOMEM: not even that memory is there (RLIMIT_AS); -EPERM:
 * it is shut in; the child has no ledger, and as the parent's is still mapped, must not count. */
int mo_ledger_after_fork_child(void *own_slot);

/* What the backend has just said of itself. One thread at a time. */
void mo_ledger_set_figures(const struct memopt_figures *figures);

/* The process is about to end, with this status. Makes no system call;
 * async-signal-safe. */
void mo_ledger_end(int exit_status);

#endif
