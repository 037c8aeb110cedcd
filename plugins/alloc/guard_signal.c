/*
 * guard_signal.c - the SIGSEGV handler of the guard allocator, and how it lives
 * with the program's own. See guard.h.
 *
 * Only SIGSEGV: an access to an inaccessible page of anonymous memory is never a
 * SIGBUS on Linux.
 *
 * The rule: a fault that isn't about one of guard's blocks goes where it would
 * have gone, with the signal mask, the stack and the flags that handler asked
 * for. A program may install a handler at any time, also after us; then the
 * program's is the one the kernel calls, and guard would be mute from there on.
 * So the allocator looks now and then (guard_signal_check) who is installed, and
 * puts itself before a newcomer, passing on to it. The program can see that: it
 * reads our handler back from sigaction() instead of its own.
 *
 * A newcomer may have kept our handler as "the previous one" and call it in its
 * turn. For this not to go round in circles there is one handler function for
 * each time we step in front (a level), and each passes on to what it displaced:
 *
 *     kernel -> level 1 -> the program's handler -> level 0 -> the default
 *
 * It needs no per-thread state, so handlers may leave by longjmp. A program that
 * blocks SIGSEGV is killed by the kernel without any handler.
 *
 * In the end the process dies by the same signal with the same siginfo, at the
 * faulting instruction: exit status and core dump are true.
 */
#define _GNU_SOURCE

#include "guard.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LEVELS = 8 };

static struct sigaction displaced[LEVELS];
static _Atomic int levels; /* in use */
static _Atomic int busy, given_up;

/* Makes the signal pending with the default action: it strikes when the handler
 * returns, where the program was. */
static void die_by(int signal, siginfo_t *info) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t set;
    sigaction(signal, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, NULL);
    syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), signal, info);
}

static void pass_on(const struct sigaction *to, int signal, siginfo_t *info, void *context) {
    if ((to->sa_flags & SA_SIGINFO) != 0)
        to->sa_sigaction(signal, info, context);
    else if (to->sa_handler != SIG_DFL && to->sa_handler != SIG_IGN)
        to->sa_handler(signal);
    else if (to->sa_handler == SIG_DFL || info->si_code > 0) /* a real fault can't be ignored */
        die_by(signal, info);
}

static void handle(int level, int signal, siginfo_t *info, void *context) {
    int saved = errno;
    int reported = 0;
    if (info->si_code > 0) { /* not sent by kill() */
        guard_stack_escape(context);
        if (guard_owns(info->si_addr)) {
            /* The walk over a broken stack may fault again: that must come here. */
            sigset_t set, before;
            sigemptyset(&set);
            sigaddset(&set, signal);
            sigprocmask(SIG_UNBLOCK, &set, &before);
            reported = guard_report_fault(info, context);
            sigprocmask(SIG_SETMASK, &before, NULL);
        }
    }
    errno = saved;
    if (reported)
        die_by(signal, info);
    else
        pass_on(&displaced[level], signal, info, context);
}

#define LEVEL(N)                                                                                   \
    static void level_##N(int signal, siginfo_t *info, void *context) {                            \
        handle(N, signal, info, context);                                                          \
    }
LEVEL(0)
LEVEL(1)
LEVEL(2)
LEVEL(3)
LEVEL(4)
LEVEL(5)
LEVEL(6)
LEVEL(7)
static void (*const handlers[LEVELS])(int, siginfo_t *, void *) = {
    level_0, level_1, level_2, level_3, level_4, level_5, level_6, level_7};

static int is_ours(const struct sigaction *action) {
    for (int i = 0; i < LEVELS; i++)
        if ((action->sa_flags & SA_SIGINFO) != 0 && action->sa_sigaction == handlers[i])
            return 1;
    return 0;
}

/* The kernel fills in as much of a mask as there are signals; of the C library's
 * larger one sigaction() leaves the rest as it was. */
static int is_same(const struct sigaction *a, const struct sigaction *b) {
    enum { MASK_BYTES = (_NSIG - 1) / 8 };
    return a->sa_sigaction == b->sa_sigaction && a->sa_flags == b->sa_flags &&
           memcmp(&a->sa_mask, &b->sa_mask, MASK_BYTES) == 0;
}

static void step_in_front(int level, const struct sigaction *of) {
    struct sigaction action = {.sa_sigaction = handlers[level]};
    displaced[level] = *of;
    if ((of->sa_flags & SA_SIGINFO) == 0 &&
        (of->sa_handler == SIG_DFL || of->sa_handler == SIG_IGN)) {
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigemptyset(&action.sa_mask);
    } else {
        action.sa_flags = of->sa_flags | SA_SIGINFO;
        action.sa_mask = of->sa_mask;
    }
    sigaction(SIGSEGV, &action, NULL);
}

void guard_signal_check(void) {
    struct sigaction now;
    if (sigaction(SIGSEGV, NULL, &now) != 0 || is_ours(&now) || atomic_exchange(&busy, 1))
        return;
    int level = 0, count = atomic_load(&levels), saved = errno;
    while (level < count && !is_same(&displaced[level], &now))
        level++;
    if (level < LEVELS) {
        step_in_front(level, &now);
        if (level == count)
            atomic_store(&levels, count + 1);
    } else if (!atomic_exchange(&given_up, 1)) {
        guard.host->note(MEMOPT_NOTE_WARNING,
                         "guard: the program changes its SIGSEGV handler again and again: faults "
                         "are no longer explained");
    }
    errno = saved;
    atomic_store(&busy, 0);
}
