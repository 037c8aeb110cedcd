/*
 * process.h - one watched process, from the constructor to the end: what the
 * shim (libmemopt-preload.so) and the agent (libmemopt-agent.so) share.
 *
 * The order at start matters and is kept in one place, mo_process_start():
 * settings, plugins, ledger, backend, trackers, fork handlers, environment.
 * A step that fails is noted in the ledger, or said on stderr if there is none,
 * and the program goes on with what is left: on libc if need be.
 */
#ifndef MO_PRELOAD_PROCESS_H
#define MO_PRELOAD_PROCESS_H

#include "core/plugin/registry.h"

/* As the ledger's binding has it. */
enum mo_process_kind {
    MO_PROCESS_UNTOUCHED = 0, /* a program with a malloc of its own */
    MO_PROCESS_AGENT = 1,
    MO_PROCESS_SHIM = 2,
};

/* Everything the shim needs afterwards. */
struct mo_process {
    struct mo_plugin *allocator; /* NULL: plain libc */
    struct memopt_malloc table;  /* the backend's default heap; libc's if allocator is NULL */
    uint64_t limit;              /* of [heap.default]; UINT64_MAX: none */
    size_t tracker_count;
    struct {
        struct mo_plugin *plugin;
        void *self;
        size_t offset; /* of its state in a thread's slot */
    } trackers[8];
};

/* `after_open` (may be NULL) is called once everything is loaded and before the
 * fork handlers: there the shim switches its dispatch. */
void mo_process_start(enum mo_process_kind kind, char **envp,
                      void (*after_open)(struct mo_process *process));
extern struct mo_process mo_process;

/* preload/fork.c: `own_slot` gives the thread's slot in the ledger, `untrack` is
 * called in a child that has no ledger. Both may be NULL. */
void mo_fork_install(void *(*own_slot)(void), void (*untrack)(void));
void mo_fork_add(void (*before)(void), void (*parent)(void), void (*child)(void));

/* preload/libc.c: the C library's own functions, past any interposition. */
void *mo_libc_symbol(const char *name);
int mo_libc_table(struct memopt_malloc *ret_table);

/* preload/embedded.c: the program's executable defines malloc itself. */
bool mo_program_has_malloc(void);
/* A call of `name` leads to `function`, which is the shim's: nobody comes before it. */
bool mo_program_calls(const char *name, const void *function);
/* It defines some forms of operator new or delete; the others come from elsewhere. */
bool mo_program_has_part_of_new(void);
/* For the agent: the library whose malloc serves the program, if it is neither the C library nor
 * the executable; else NULL. */
const char *mo_program_malloc_library(void);

/* preload/handler.c: the calling thread runs a signal handler. */
bool mo_in_signal_handler(void);

/* preload/environment.c: takes memopt's entries out, so that exec'd children
 * are not followed. Works in place, allocates nothing. */
void mo_environment_forget(char **envp);

#endif
