/* ends.c - children and grandchildren that end in every way: a line "NAME STATUS" for each on
 * standard output, as wait() has it, with the process number. A status of 256 and more is
 * a signal's, plus 256. What no one can say of itself is "?": a copy of the memory without
 * fork()'s handlers. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int last_handler;
static void handler(void) {
    last_handler = 1;
}

static void *exit_in_a_thread(void *unused) {
    (void)unused;
    exit(9);
}

static void fork_and_say(const char *how, int status) {
    pid_t pid = fork();
    if (pid == 0)
        exit(status);
    waitpid(pid, NULL, 0);
    printf("%d %s %d\n", (int)pid, how, status);
    fflush(stdout);
}

static void end(const char *how) {
    pthread_t thread;
    if (strcmp(how, "exit") == 0)
        exit(5);
    if (strcmp(how, "_exit") == 0)
        _exit(6);
    if (strcmp(how, "_Exit") == 0)
        _Exit(7);
    if (strcmp(how, "quick_exit") == 0)
        quick_exit(8);
    if (strcmp(how, "thread") == 0) {
        pthread_create(&thread, NULL, exit_in_a_thread, NULL);
        pthread_join(thread, NULL);
    }
    if (strcmp(how, "handler") == 0) {
        atexit(handler);
        exit(10);
    }
    if (strcmp(how, "kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "vfork") == 0) { /* its child's end is not its own */
        pid_t pid = vfork();
        if (pid == 0)
            _exit(77);
        waitpid(pid, NULL, 0);
        kill(getpid(), SIGKILL);
    }
    if (strcmp(how, "clone") == 0) { /* nor is that of a copy */
        pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
        if (pid == 0)
            _exit(78);
        waitpid(pid, NULL, 0);
        kill(getpid(), SIGKILL);
    }
    if (strcmp(how, "shut") == 0) { /* nor does it shut its parent in */
        pid_t pid = vfork();
        if (pid == 0) {
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            _exit(0);
        }
        waitpid(pid, NULL, 0);
        fork_and_say("child", 12);
        exit(13);
    }
    if (strcmp(how, "forks") == 0) { /* and a child of its own is one with an end */
        pid_t pid = vfork();
        if (pid == 0) {
            fork_and_say("child", 14);
            _exit(0);
        }
        waitpid(pid, NULL, 0);
        exit(15);
    }
    if (strcmp(how, "high") == 0)
        exit(0x1234);
}

static int run(char *program, const char *how, int execs) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (execs)
            execl(program, program, how, (char *)NULL);
        end(how);
        exit(11);
    }
    int status;
    waitpid(pid, &status, 0);
    printf("%d %s %d\n", (int)pid, how,
           WIFSIGNALED(status) ? WTERMSIG(status) + 256 : WEXITSTATUS(status));
    return 0;
}

int main(int argc, char **argv) {
    static const char *const ways[] = {"exit",    "_exit", "_Exit", "quick_exit", "thread",
                                       "handler", "kill",  "abort", "vfork",      "clone",
                                       "shut",    "forks", "high",  "return"};
    if (argc > 1 && strcmp(argv[1], "grandchildren") != 0) {
        end(argv[1]);
        return 11;
    }
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
        for (int execs = 0; execs < 2; execs++)
            run(argv[0], ways[i], execs);
    if (argc == 1)
        run(argv[0], "grandchildren", 1);
    return 3;
}
