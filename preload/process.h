/*
 * process.h - one watched process, from the constructor to its end: what the shim
 * (libmemopt-preload.so) and the agent (libmemopt-agent.so) share.
 *
 *   start   mo_process_begin(): where the run directory is and what it says
 *           mo_process_record(): the ledger
 *           mo_process_go(): the hooks for the end, and the program's environment
 *   end     end.c: exit(), _exit(), quick_exit(). It stores a few words in the mapped
 *           ledger: no system call, which a sandbox might refuse, and nothing of the
 *           backend, in which the end may have interrupted a call.
 *
 * A step that fails is noted in the ledger, or said on stderr if there is none, and the
 * program goes on with what is left.
 */
#ifndef MO_PRELOAD_PROCESS_H
#define MO_PRELOAD_PROCESS_H

#include "core/dispatch/services.h"
#include "core/option/flat.h"
#include "core/plugin/registry.h"

/* As the ledger's binding has it. */
enum mo_process_kind {
    MO_PROCESS_UNTOUCHED = 0, /* a program with a malloc of its own */
    MO_PROCESS_AGENT = 1,
    MO_PROCESS_SHIM = 2,
};

/* What the process was started with. */
struct mo_process {
    enum mo_process_kind kind;
    const char *run_directory; /* NULL: not started by memopt run, or the run is over */
    bool is_the_program;       /* memopt run itself started it; else the program did */
    const char *allocator;     /* the name of the plugin; NULL: not known */
    const char *plugin;        /* its path */
    bool follow;               /* children are watched, too */
    struct mo_flat run;        /* run.ini, where these come from */
};
extern struct mo_process mo_process;

/* Reads DIR/run.ini, and holds the directory open until go(). Positive: the run is over, and nobody would read what is recorded. */
int mo_process_begin(enum mo_process_kind kind, char **envp, struct memopt_error *error);

/* Creates the ledger for these trackers. False: there is none, and why has been said. */
struct mo_ledger_plan;
bool mo_process_record(const struct mo_ledger_plan *plan, const char *allocator,
                       const char *version, int argc, char **argv);

/* What libmemopt in the same process finds: core/dispatch/services.h. */
extern MEMOPT_EXPORT struct mo_program_services memopt_program_services_2;

/* The last step of the constructor. */
void mo_process_go(char **envp);

/* Into the ledger; until there is one, they are kept. At level ERROR on stderr, too. */
void mo_process_note(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for a plugin's, which has been said on stderr; `kind`: of an event, or NULL. */
void mo_process_keep(int level, const char *kind, const char *text);

/* Says why the process is not as it should be, and with what consequence. A process that
 * the program has started and that can't get at the run directory, having other rights, is
 * silent about it: its stderr is the program's own. */
void mo_process_fault(const struct memopt_error *error, const char *consequence);

/* A file of the run directory, NUL-ended, in memory that stays. */
int mo_process_read(const char *name, char **ret_text, struct memopt_error *error);

/* preload/end.c: looks up what the functions there lead to; the hooks for the end. */
void mo_end_prepare(void);
void mo_end_install(void);
/* In a child that fork() has made, once it has a ledger of its own. */
void mo_end_in_child(void);

/* preload/fork.c: `last` is called in the parent when all locks are held, `forked` in the
 * child once it has a ledger or is known to have none; the others are the backend's. All may be
 * NULL. */
struct mo_fork {
    void (*last)(void);
    void (*forked)(bool has_ledger);
    void (*before)(void), (*parent)(void), (*child)(void);
};
void mo_fork_install(const struct mo_fork *fork);
void mo_fork_add(void (*before)(void), void (*parent)(void), void (*child)(void));

/* preload/libc.c: the C library's own functions, past any interposition. */
void *mo_libc_symbol(const char *name);
int mo_libc_table(struct memopt_malloc *ret_table);

/* preload/embedded.c: the program's executable defines malloc itself, or a library does that it
 * has preloaded before memopt's. */
bool mo_program_has_malloc(void);
/* It defines some forms of operator new or delete; the others come from elsewhere. */
bool mo_program_has_part_of_new(void);
/* For the agent: the path of the library that the program's malloc comes from, if that is
 * neither the C library nor the executable; else NULL. */
const char *mo_program_malloc_library(void);

/* preload/dlopen.c: from now on libraries are loaded without RTLD_DEEPBIND, with which
 * they would use the C library's malloc beside the program's. */
void mo_dlopen_start(void);

/* preload/environment.c: takes memopt's entries out, so that exec'd children
 * are not followed. Works in place, allocates nothing. */
void mo_environment_forget(char **envp);

#endif
