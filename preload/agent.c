/*
 * agent.c - libmemopt-agent.so, preloaded when the program binds directly to the
 * C library's malloc: it has no malloc and costs nothing per call. What needs
 * somebody inside the process is done here: settings that the backend takes at
 * run time, its figures at the end, an order of locks at fork. For a backend's
 * own library there is edges.c.
 */
#include "preload/process.h"

static void install_fork(struct mo_process *process) {
    (void)process;
    mo_fork_install(NULL, NULL);
}

static __attribute__((constructor)) void start(int argc, char **argv, char **envp) {
    (void)argc;
    (void)argv;
    mo_process_start(MO_PROCESS_AGENT, envp, install_fork);
}

/* A program built with AddressSanitizer, which was not recognized as another program
 * started it: its run-time refuses to start behind any other library, as that might bring
 * a malloc. The agent has none. The run-time asks this for its options; a program's own
 * function of this name comes first. */
MEMOPT_EXPORT const char *__asan_default_options(void);
MEMOPT_EXPORT const char *__asan_default_options(void) {
    return "verify_asan_link_order=0";
}
