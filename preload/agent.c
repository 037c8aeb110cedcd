/*
 * agent.c - libmemopt-agent.so, preloaded before a backend's own library when
 * the program binds to it directly: it has no malloc and costs nothing per call.
 * What needs somebody inside the process is done here: settings that the backend
 * takes at run time, its figures at the end, an order of locks at fork.
 */
#include "preload/process.h"

static void install_fork(struct mo_process *process) {
    mo_fork_install(&(struct mo_fork_hooks){
        .backend = process->allocator == NULL ? NULL : &process->allocator->ops.allocator});
}

static __attribute__((constructor)) void start(int argc, char **argv, char **envp) {
    (void)argc;
    (void)argv;
    mo_process_start(MO_PROCESS_AGENT, envp, install_fork);
}
