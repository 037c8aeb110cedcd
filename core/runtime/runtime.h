/*
 * runtime.h - libmemopt's life: its configuration and its mutex. It knows no heap.
 *
 *   runtime.c  begins at the first call that needs the configuration; the mutex
 *   notes.c    what plugins note and what happens, for the report   notes.h
 *   fork.c     fork handlers, in the order of the locks             fork.h
 *   backend.c  allocator plugins, opened once a process             backend.h
 *
 * Nothing happens before the first call that needs the configuration; what fails
 * then is tried again by the next call.
 *
 * Used by everything in libmemopt. The mutex comes before all other locks (fork.h).
 */
#ifndef MO_RUNTIME_RUNTIME_H
#define MO_RUNTIME_RUNTIME_H

#include "core/config/config.h"
#include "core/dispatch/services.h"

#include <memopt/error.h>

/* The mutex. -EDEADLK, and what can't be done, if this thread has it: inside
 * memopt_heap_each(). All that follows wants it held. */
int mo_runtime_enter(struct memopt_error *error, const char *what);
void mo_runtime_leave(void);
/* For what may be done inside memopt_heap_each(), too: 1 if this thread has had the
 * mutex already; unlock wants that value. */
int mo_runtime_lock(void);
void mo_runtime_unlock(int had_it);
int mo_runtime_try_enter(void); /* 0, or it is held */
/* The child of fork has the mutex as this thread, the only one, had it. */
void mo_runtime_fork_child(int had_it);

/* Reads the configuration if that has not been done. */
int mo_runtime_start(struct memopt_error *error);
/* What the shim or the agent offers, or NULL. */
const struct mo_program_services *mo_runtime_services(void);
/* Where allocations are counted: those of the calling thread in between are memopt's own, and
 * are not. They nest; no function of the program's may be called in between. */
void mo_runtime_own_begin(void);
void mo_runtime_own_end(void);

/* After start: the configuration that has `section`: the run's, else the one given to
 * memopt_init(). */
struct mo_config *mo_runtime_config(const char *section);
const char *mo_runtime_allocator(void); /* [memopt] allocator */
int mo_runtime_is_run(void);            /* under memopt run, with its directory there */

#endif
