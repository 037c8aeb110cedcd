/* fork_in_handler.c - a signal handler forks, and interrupts fork(), or what goes through
 * all streams. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HANDLED = 200 }; /* and no more: a slow machine would do nothing else */
static volatile sig_atomic_t handled;

static void handler(int signal) {
    (void)signal;
    if (handled >= HANDLED)
        return;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    handled++;
}

int main(void) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 500}, {0, 500}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 100 || handled < HANDLED; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        while (pid > 0 && waitpid(pid, NULL, 0) < 0)
            ;
        for (int k = 0; k < 1000; k++) /* holds the lock of all streams, and no allocator's */
            fflush(NULL);
    }
    signal(SIGALRM, SIG_IGN);
    while (wait(NULL) > 0)
        ;
    puts("forked");
    return 0;
}
