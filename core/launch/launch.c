/*
 * launch.c - see launch.h.
 *
 *   1. holding signals
 *   2. the sentinel
 *   3. the new process until execve()
 *   4. waiting: signals, stops, ticks
 */
#include "config.h"

#include "core/launch/launch.h"
#include "core/base/error.h"
#include "core/base/proc.h"
#include "core/model/peak.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

/* ---------------------------------------------------- 1. holding signals */

void mo_signals_hold(struct mo_signals *ret_before) {
    sigset_t all;
    sigfillset(&all);
    /* faults of memopt's own must still kill it */
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        sigdelset(&all, faults[i]);
    sigprocmask(SIG_BLOCK, &all, &ret_before->mask);
    /* ignored, it would make wait4() lose the program's end */
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(SIGCHLD, &standard, &ret_before->child);
}

void mo_signals_release(const struct mo_signals *before) {
    sigset_t pending;
    struct timespec none = {0, 0};
    sigfillset(&pending);
    while (sigtimedwait(&pending, NULL, &none) > 0)
        ;
    sigaction(SIGCHLD, &before->child, NULL);
    sigprocmask(SIG_SETMASK, &before->mask, NULL);
}

/* ------------------------------------------------------- 2. the sentinel */

struct sentinel {
    pid_t pid;
    int fd;        /* a byte in: the set of signals since the last time comes out */
    uint64_t seen; /* of those, what has not been asked for yet */
};

static _Noreturn void be_sentinel(int fd) {
    /* nobody's pipe may stay open because of it */
    if (fd != 0)
        dup2(fd, 0);
    for (int i = 1; i < 3; i++)
        close(i);
    if (close_range(3, ~0U, 0) != 0)
        for (int i = 3; i < 1024; i++)
            close(i);
    prctl(PR_SET_NAME, "memopt-signals");
    char byte;
    sigset_t all;
    struct timespec none = {0, 0};
    sigfillset(&all);
    while (read(0, &byte, 1) == 1) {
        uint64_t seen = 0;
        int signal;
        while ((signal = sigtimedwait(&all, NULL, &none)) > 0)
            seen |= UINT64_C(1) << (signal - 1);
        if (write(0, &seen, sizeof(seen)) != (ssize_t)sizeof(seen))
            break;
    }
    _exit(0);
}

/* Without one (no memory, no process left), every signal counts as memopt's. */
static void sentinel_start(struct sentinel *sentinel) {
    int ends[2];
    *sentinel = (struct sentinel){-1, -1, 0};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return;
    pid_t parent = getpid();
    sentinel->pid = fork();
    if (sentinel->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            be_sentinel(ends[1]);
        _exit(0);
    }
    close(ends[1]);
    if (sentinel->pid < 0)
        close(ends[0]);
    else
        sentinel->fd = ends[0];
}

static uint64_t bit_of(int signal) {
    return UINT64_C(1) << (signal - 1);
}

/* Fetches what the sentinel has. It may be slow, on a busy machine, but also
 * stopped, alone, and that must not stop us too. */
static void sentinel_ask(struct sentinel *sentinel) {
    enum { STEP = 50, STEPS = 200 }; /* milliseconds */
    if (sentinel->fd < 0 || send(sentinel->fd, "?", 1, MSG_NOSIGNAL) != 1)
        return;
    struct pollfd answer = {.fd = sentinel->fd, .events = POLLIN};
    for (int i = 0; i < STEPS && poll(&answer, 1, STEP) == 0; i++) {
        siginfo_t info = {.si_pid = 0};
        if (waitid(P_PID, (id_t)sentinel->pid, &info, WSTOPPED | WEXITED | WNOHANG | WNOWAIT) !=
                0 ||
            info.si_pid != 0)
            break;
    }
    uint64_t seen;
    while (recv(sentinel->fd, &seen, sizeof(seen), MSG_DONTWAIT) == (ssize_t)sizeof(seen))
        sentinel->seen |= seen;
}

/* Whether the whole group got `signal`. What else the sentinel had is kept for
 * when memopt takes its own copy. */
static int sent_to_all(struct sentinel *sentinel, int signal) {
    uint64_t wanted = bit_of(signal);
    /* A stop signal takes away a SIGCONT that is still pending: a sentinel that
     * got a stop may have lost one (Ctrl-Z right after fg). */
    if (signal == SIGCONT)
        wanted |= bit_of(SIGTSTP) | bit_of(SIGTTIN) | bit_of(SIGTTOU);
    sentinel_ask(sentinel);
    int to_all = (sentinel->seen & wanted) != 0;
    sentinel->seen &= ~bit_of(signal);
    return to_all;
}

static void sentinel_end(struct sentinel *sentinel) {
    if (sentinel->fd >= 0)
        close(sentinel->fd);
    if (sentinel->pid > 0) {
        kill(sentinel->pid, SIGKILL);
        while (waitpid(sentinel->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
}

/* ------------------------------------- 3. the new process until execve() */

/* What the new process says before it becomes the program, and after, if it
 * could not. */
struct word {
    int error; /* 0: about to call execve() */
    uint64_t time;
    struct rusage usage;
};

static void say(int fd, const struct word *word) {
    ssize_t ignored = write(fd, word, sizeof(*word)); /* less than PIPE_BUF: all or nothing */
    (void)ignored;
}

/* argv for /bin/sh: "sh", the file, the program's arguments. */
static char **shell_arguments(const struct mo_launch *launch) {
    size_t count = 0;
    while (launch->argv[count] != NULL)
        count++;
    char **argv = calloc(count + 3, sizeof(*argv));
    if (argv == NULL)
        return NULL;
    argv[0] = (char *)"/bin/sh";
    memcpy(&argv[1], &launch->path, sizeof(*argv));
    for (size_t i = 1; i < count; i++)
        argv[i + 1] = launch->argv[i];
    return argv;
}

int mo_launch_become(const char *path, int needs_shell, char *const *argv, char *const *environment,
                     struct memopt_error *error) {
    struct mo_launch launch = {.path = path, .argv = argv};
    mo_auto_free char **shell_argv = NULL;
    if (needs_shell && (shell_argv = shell_arguments(&launch)) == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    if (needs_shell)
        execve("/bin/sh", shell_argv, environment);
    else
        execve(path, argv, environment);
    return mo_fail(error, -errno, "can't start '%s': %s", path, strerror(errno));
}

static _Noreturn void become_program(const struct mo_launch *launch, char *const *shell_argv,
                                     int fd) {
    struct word word = {.error = 0};
    for (int i = 0; i < 3 && word.error == 0; i++)
        if (launch->descriptors[i] >= 0 && dup2(launch->descriptors[i], i) < 0)
            word.error = errno;
    sigaction(SIGCHLD, &launch->signals->child, NULL);
    sigprocmask(SIG_SETMASK, &launch->signals->mask, NULL);
    if (word.error == 0) {
        getrusage(RUSAGE_SELF, &word.usage);
        word.time = now();
        say(fd, &word);
        if (launch->needs_shell)
            execve("/bin/sh", shell_argv, launch->environment);
        else
            execve(launch->path, launch->argv, launch->environment);
        word.error = errno;
    }
    say(fd, &word);
    _exit(127);
}

/* ------------------------------------ 4. waiting: signals, stops, ticks */

struct wait {
    pid_t pid;
    struct sentinel sentinel;
    int terminal;     /* descriptor of the controlling terminal, or -1 */
    int had_terminal; /* the program's own group had it when it stopped */
    int interrupted;
};

/* fg goes through the group one by one: memopt can be awake, and see the stop that it
 * did not know of yet (the key came while it was in raise() below), before the program
 * is. A SIGCONT is pending then; one that is older than the key is not, as a stop takes
 * it away. */
static int is_past(const struct wait *wait) {
    enum { PATIENCE = 100 }; /* milliseconds */
    sigset_t pending;
    if (sigpending(&pending) != 0 || !sigismember(&pending, SIGCONT))
        return 0;
    for (int i = 0; i < PATIENCE; i++) {
        siginfo_t info = {.si_pid = 0};
        if (waitid(P_PID, (id_t)wait->pid, &info, WCONTINUED | WNOHANG) == 0 && info.si_pid != 0)
            return 1;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return 0;
}

/* The program has stopped: so do we, in the same way, until we are continued. */
static void stop_likewise(struct wait *wait, int signal) {
    if (is_past(wait))
        return;
    /* the stops until now are this one; see sent_to_all() */
    sentinel_ask(&wait->sentinel);
    wait->sentinel.seen &= ~(bit_of(SIGTSTP) | bit_of(SIGTTIN) | bit_of(SIGTTOU));
    pid_t group = getpgid(wait->pid);
    wait->had_terminal = wait->terminal >= 0 && group > 0 && group != getpgrp() &&
                         tcgetpgrp(wait->terminal) == group;
    struct sigaction standard = {.sa_handler = SIG_DFL}, before;
    sigset_t one;
    /* SIGTSTP and its kin do nothing where they are ignored */
    if (sigaction(signal, NULL, &before) != 0 || before.sa_handler == SIG_IGN)
        signal = SIGSTOP;
    if (signal != SIGSTOP) {
        sigaction(signal, &standard, &before);
        sigemptyset(&one);
        sigaddset(&one, signal);
        raise(signal);
        sigprocmask(SIG_UNBLOCK, &one, NULL);
        sigprocmask(SIG_BLOCK, &one, NULL);
        sigaction(signal, &before, NULL);
    } else {
        raise(SIGSTOP);
    }
}

/* Whether `signal` would have ended memopt: under nohup, say, it would not. */
static int interrupts(int signal) {
    struct sigaction action;
    return (signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT) &&
           sigaction(signal, NULL, &action) == 0 && action.sa_handler != SIG_IGN;
}

static void pass_on(struct wait *wait, const siginfo_t *info) {
    int signal = info->si_signo;
    if (signal == SIGCHLD)
        return;
    /* a write of memopt's own brought it on: SIGPIPE, SIGXFSZ */
    if (info->si_code == SI_USER && info->si_pid == getpid())
        return;
    if (interrupts(signal))
        wait->interrupted = signal;
    pid_t group = getpgid(wait->pid);
    int to_all = sent_to_all(&wait->sentinel, signal) || info->si_code == SI_KERNEL;
    if (to_all && group == getpgrp())
        return;
    if (signal == SIGCONT) {
        if (wait->had_terminal && tcgetpgrp(wait->terminal) == getpgrp())
            tcsetpgrp(wait->terminal, group);
        wait->had_terminal = 0;
        if (group > 0 && group != getpgrp()) {
            kill(-group, SIGCONT);
            return;
        }
    }
    /* a signal of the terminal's to our group is none to the program's other one */
    if (info->si_code == SI_KERNEL)
        return;
    if (info->si_code == SI_QUEUE)
        sigqueue(wait->pid, signal, info->si_value);
    else
        kill(wait->pid, signal);
}

/* The first process of a container is given what others leave behind. */
static void reap_orphans(const struct wait *wait) {
    siginfo_t gone = {.si_pid = 0};
    while (waitid(P_ALL, 0, &gone, WEXITED | WNOHANG | WNOWAIT) == 0 && gone.si_pid > 0 &&
           gone.si_pid != wait->pid && gone.si_pid != wait->sentinel.pid) {
        waitpid(gone.si_pid, NULL, WNOHANG);
        gone.si_pid = 0;
    }
}

/* Of a zombie: its name, and whether it has waited for children. Then page faults of
 * theirs are on its account. */
static void read_zombie(pid_t pid, struct mo_launch_result *result) {
    struct mo_proc_stat stat = {.children_faults = 1};
    if (mo_proc_read_stat(pid, &stat) == 0)
        snprintf(result->name, sizeof(result->name), "%.*s", (int)sizeof(result->name) - 1,
                 stat.name);
    result->waited_for_children = stat.children_faults > 0;
}

/* Whether the program has ended; on the way, stops with it. */
static int has_ended(struct wait *wait, struct mo_launch_result *result) {
    siginfo_t info = {.si_pid = 0};
    while (waitid(P_PID, (id_t)wait->pid, &info, WSTOPPED | WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid != 0) {
        if (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED ||
            info.si_code == CLD_DUMPED) {
            read_zombie(wait->pid, result);
            while (wait4(wait->pid, &result->wait_status, 0, &result->usage) < 0 && errno == EINTR)
                ;
            return 1;
        }
        info.si_pid = 0;
        if (waitid(P_PID, (id_t)wait->pid, &info, WSTOPPED | WNOHANG) == 0 && info.si_pid != 0)
            stop_likewise(wait, info.si_status);
        info.si_pid = 0;
    }
    return 0;
}

static void wait_for(const struct mo_launch *launch, struct wait *wait,
                     struct mo_launch_result *result) {
    sigset_t set;
    sigfillset(&set);
    uint64_t interval = launch->interval;
    uint64_t next = now();
    for (;;) {
        if (has_ended(wait, result))
            return;
        if (getpid() == 1)
            reap_orphans(wait);
        siginfo_t info;
        int signal;
        if (launch->tick != NULL) {
            uint64_t time = now();
            if (time >= next) {
                launch->tick(launch->context, wait->pid, &interval);
                next = time + interval;
            }
            uint64_t left = next > time ? next - time : 0;
            struct timespec timeout = {(time_t)(left / SECOND), (long)(left % SECOND)};
            signal = sigtimedwait(&set, &info, &timeout);
        } else {
            signal = sigwaitinfo(&set, &info);
        }
        if (signal > 0)
            pass_on(wait, &info);
    }
}

static void subtract_time(struct timeval *time, const struct timeval *before) {
    int64_t left =
        ((int64_t)time->tv_sec - before->tv_sec) * 1000000 + time->tv_usec - before->tv_usec;
    if (left < 0)
        left = 0;
    time->tv_sec = left / 1000000;
    time->tv_usec = left % 1000000;
}

static void subtract(long *count, long before) {
    *count = *count > before ? *count - before : 0;
}

static void settle(const struct word *before, uint64_t end, struct mo_launch_result *result) {
    struct rusage *usage = &result->usage;
    subtract_time(&usage->ru_utime, &before->usage.ru_utime);
    subtract_time(&usage->ru_stime, &before->usage.ru_stime);
    subtract(&usage->ru_minflt, before->usage.ru_minflt);
    subtract(&usage->ru_majflt, before->usage.ru_majflt);
    subtract(&usage->ru_nvcsw, before->usage.ru_nvcsw);
    subtract(&usage->ru_nivcsw, before->usage.ru_nivcsw);
    result->peak_rss = mo_peak_of_child(usage, mo_peak_kept(&before->usage));
    if (result->peak_rss == MEMOPT_UNKNOWN)
        usage->ru_maxrss = 0;
    result->wall_time = end > before->time ? end - before->time : 0;
}

int mo_launch(const struct mo_launch *launch, struct mo_launch_result *ret_result,
              struct memopt_error *error) {
    mo_auto_free char **shell_argv = NULL;
    if (launch->needs_shell && (shell_argv = shell_arguments(launch)) == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return mo_fail(error, -errno, "can't start '%s': %s", launch->path, strerror(errno));
    struct wait wait = {.pid = -1, .terminal = -1};
    sentinel_start(&wait.sentinel);
    wait.pid = fork();
    if (wait.pid == 0) {
        close(ends[0]);
        become_program(launch, shell_argv, ends[1]);
    }
    int r = wait.pid < 0 ? -errno : 0;
    close(ends[1]);
    if (r < 0) {
        mo_fail(error, r, "can't start '%s': %s", launch->path, strerror(-r));
    } else {
        struct word before = {.error = 0}, after = {.error = 0};
        ssize_t got;
        /* the pipe closes when execve() succeeds; a signal may come first */
        while ((got = read(ends[0], &before, sizeof(before))) < 0 && errno == EINTR)
            ;
        int refused = got == (ssize_t)sizeof(before) && before.error != 0;
        if (!refused && got == (ssize_t)sizeof(before)) {
            while ((got = read(ends[0], &after, sizeof(after))) < 0 && errno == EINTR)
                ;
            refused = got == (ssize_t)sizeof(after);
            before.error = after.error;
        }
        struct mo_launch_result result = {.pid = wait.pid};
        wait.terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
        wait_for(launch, &wait, &result);
        uint64_t end = now();
        if (wait.terminal >= 0)
            close(wait.terminal);
        if (refused) {
            r = mo_fail(error, -before.error, "can't execute '%s': %s", launch->path,
                        strerror(before.error));
        } else {
            settle(&before, end, &result);
            result.interrupted = wait.interrupted;
            *ret_result = result;
        }
    }
    close(ends[0]);
    sentinel_end(&wait.sentinel);
    return r;
}

int mo_exit_status(int wait_status) {
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}
