/*
 * agent.c - libmemopt-agent.so, preloaded when the program binds directly to the C
 * library's malloc or to an allocator's own library, which is preloaded behind it. The
 * program runs exactly as with that library preloaded by hand: the agent defines no
 * function of the malloc family, loads no plugin and costs nothing per call. It is there
 * for what needs somebody inside the process: the record of how it ended, the order of
 * locks at fork, dlopen() without RTLD_DEEPBIND.
 */
#include "core/base/error.h"
#include "core/base/sanitizer.h"
#include "core/ledger/writer.h"
#include "preload/process.h"

#include <gnu/libc-version.h>
#include <string.h>

static bool uses_libc(void) {
    return mo_process.allocator != NULL && strcmp(mo_process.allocator, "libc") == 0;
}

/* Bound directly to the C library, a program that is linked with another malloc stays on
 * that. */
static void look_for_other_malloc(void) {
    const char *library = uses_libc() ? mo_program_malloc_library() : NULL;
    if (library == NULL)
        return;
    mo_process.kind = MO_PROCESS_UNTOUCHED;
    enum mo_sanitizer sanitizer = mo_sanitizer_of_library(library);
    if (sanitizer != MO_SANITIZER_NONE) /* it refuses to start behind a dispatch */
        mo_process_note(MEMOPT_NOTE_INFO,
                        "this program is built with %s and keeps its allocator ('%s')",
                        mo_sanitizer_name(sanitizer), library);
    else
        mo_process_note(MEMOPT_NOTE_WARNING,
                        "this program is linked with '%s', whose malloc serves it; "
                        "binding = dispatch would put it on libc",
                        library);
}

/* memopt run dispatches such a program; this is for those that the program starts. */
static void look_for_other_operators(void) {
    if (!uses_libc() && mo_program_has_part_of_new())
        mo_process_note(MEMOPT_NOTE_WARNING,
                        "this program has its own operator new, but not all forms of it, and gets "
                        "the others from %s if that has them, which may crash it; "
                        "binding = dispatch would leave them to the program",
                        mo_process.allocator);
}

static __attribute__((constructor)) void start(int argc, char **argv, char **envp) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    int r = mo_process_begin(MO_PROCESS_AGENT, envp, &error);
    if (r == 0) {
        if (mo_process.kind == MO_PROCESS_AGENT)
            look_for_other_malloc();
        if (mo_process.kind == MO_PROCESS_AGENT)
            look_for_other_operators();
        struct mo_ledger_plan plan = {.directory = mo_process.run_directory,
                                      .binding = mo_process.kind};
        mo_process_record(&plan, mo_process.allocator == NULL ? "" : mo_process.allocator,
                          uses_libc() ? gnu_get_libc_version() : "", argc, argv);
        if (!uses_libc())
            mo_dlopen_start();
    } else if (r < 0) {
        mo_process_fault(&error, "keeps the malloc that it is bound to, and is not recorded");
    }
    mo_process_go(envp);
    mo_fork_install(&(struct mo_fork){.last = NULL});
}

/* A program built with AddressSanitizer, which was not recognized as another program
 * started it: its run-time refuses to start behind any other library, as that might bring
 * a malloc. The agent has none. The run-time asks this for its options, before anything here
 * is relocated, so it can't find out whether an allocator's library comes along; a program's
 * own function of this name comes first. */
MEMOPT_EXPORT const char *__asan_default_options(void);
MEMOPT_EXPORT const char *__asan_default_options(void) {
    return "verify_asan_link_order=0";
}
