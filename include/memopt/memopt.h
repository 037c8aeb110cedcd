/*
 * memopt/memopt.h - libmemopt and libmemopt-train: everything a program needs, and the
 * library's own start, configuration, report and version.
 *
 *     #include <memopt/memopt.h>      cc prog.c $(pkg-config --cflags --libs memopt)
 *
 * A program that uses optim.h, schedule.h, store.h or train.h takes `--libs memopt-train`.
 *
 * The library needs no start: the first call that needs the configuration reads
 * it. memopt_init() does it at a moment, and from a file, of the program's own
 * choice, and says what is wrong with it.
 *
 * Which configuration
 *   Under `memopt run`: the one that run resolved, so that -c, -a and --set on
 *   its command line reach named heaps too. Else the usual files, see
 *   memopt.ini(5): built-in < system < user < ./memopt.ini < $MEMOPT_CONF or the
 *   file given to memopt_init().
 *
 * Threads: any function here, any thread. Signal handlers: none of them.
 * fork: the child has its parent's heaps, with their contents and figures, and
 * goes on alone. Do not fork from inside a callback of this library. A signal's
 * handler may fork while fork() is going on, and in a program of one thread at any
 * moment.
 */
#ifndef MEMOPT_MEMOPT_H
#define MEMOPT_MEMOPT_H

#include <memopt/arena.h>
#include <memopt/buffers.h>
#include <memopt/cow.h>
#include <memopt/error.h>
#include <memopt/freelist.h>
#include <memopt/heap.h>
#include <memopt/lazy.h>
#include <memopt/objects.h>
#include <memopt/optim.h>
#include <memopt/pressure.h>
#include <memopt/ref.h>
#include <memopt/schedule.h>
#include <memopt/scope.h>
#include <memopt/store.h>
#include <memopt/workspace.h>
#include <memopt/train.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MEMOPT_EXPORT
#define MEMOPT_EXPORT __attribute__((visibility("default")))
#endif

/* Reads the configuration: `config_file` takes the place of $MEMOPT_CONF (NULL:
 * only the usual files). Under `memopt run` the run's configuration comes first
 * and a section that it does not have is taken from `config_file`.
 * Returns 0; -EALREADY when it has been read, by this or by a first use: too
 * late for another file; -EINVAL and all errors of all files, one a line; or
 * what opening a file gave. After a failure the call may be repeated. */
MEMOPT_EXPORT int memopt_init(const char *config_file, struct memopt_error *error);

/* What the configuration has for a key of a section, in [optimizer] for example: text that
 * stays as long as the process, or NULL if it is not set. Reads the configuration if that
 * has not been done. *ret_text is set on success only. Errors as of memopt_init(), and
 * -EDEADLK inside memopt_heap_each(). */
MEMOPT_EXPORT int memopt_config_get(const char *section, const char *key, const char **ret_text,
                                    struct memopt_error *error);
/* Puts before an error's message where the configuration has that key ("memopt.ini:7:
 * [optimizer]: "), for those who check what they have read; returns error->code. */
MEMOPT_EXPORT int memopt_config_blame(const char *section, const char *key,
                                      struct memopt_error *error);

/* Writes this process's report with the reporters of the configuration
 * (`[memopt] reporters`), each to its `output`: the named heaps, the figures of
 * the process's backend, time and resident memory. Needs no `memopt run`; under
 * it this is one report more, besides the one at the end. May be called again
 * and again. Returns 0, or the first failure after every reporter was tried. */
MEMOPT_EXPORT int memopt_report(struct memopt_error *error);

/* "0.1.0"; a constant. */
MEMOPT_EXPORT const char *memopt_version(void);

#ifdef __cplusplus
}
#endif
#endif
