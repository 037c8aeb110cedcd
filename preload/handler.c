/*
 * handler.c - whether the calling thread runs a signal handler: whatever the
 * signal interrupted, a malloc perhaps, still holds its locks.
 *
 * The kernel keeps no such state, but its frame is on the stack: the address of
 * the C library's signal trampoline, and the registers that were saved. Found by
 * looking, without allocating or unwinding; nothing is read that may fault, as
 * a coroutine's stack can end anywhere. What an ended handler left in a gap of
 * the stack may look the same, so the answer may be a wrong yes, seldom.
 */
#include "preload/process.h"

#ifdef __x86_64__
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGE = 4096, DEEPEST = 64 * 1024 }; /* from here to the handler's frame */

struct kernel_sigaction {
    uintptr_t handler, flags, restorer;
    uint64_t mask;
};

struct frame {
    uintptr_t trampoline;
    ucontext_t context;
};

/* An invalid `how` is looked at after the set has been read: nothing changes. */
static bool is_readable(uintptr_t address) {
    syscall(SYS_rt_sigprocmask, -1, address, NULL, sizeof(uint64_t));
    return errno != EFAULT;
}

/* The trampoline, which stays in an action when its handler is taken away; 0: no
 * signal has ever been given one. */
static uintptr_t find_trampoline(void) {
    for (int signal = 1; signal < _NSIG; signal++) {
        struct kernel_sigaction action = {.restorer = 0};
        if (syscall(SYS_rt_sigaction, signal, NULL, &action, sizeof(action.mask)) == 0 &&
            action.restorer != 0)
            return action.restorer;
    }
    return 0;
}

/* The saved floating-point state lies above the frame. */
static bool is_frame(uintptr_t at, uintptr_t trampoline) {
    struct frame frame;
    if (*(const uintptr_t *)at != trampoline)
        return false;
    memcpy(&frame, (const void *)at, sizeof(frame));
    return (uintptr_t)frame.context.uc_mcontext.fpregs - at < DEEPEST;
}

bool mo_in_signal_handler(void) {
    int saved = errno;
    bool found = false;
    uintptr_t trampoline = find_trampoline();
    if (trampoline != 0) {
        uintptr_t start = (uintptr_t)__builtin_frame_address(0) & ~(sizeof(uintptr_t) - 1);
        uintptr_t end = (start | (PAGE - 1)) + 1;
        while (end - start < DEEPEST && is_readable(end))
            end += PAGE;
        for (uintptr_t at = start; at + sizeof(struct frame) <= end && !found;
             at += sizeof(uintptr_t))
            found = is_frame(at, trampoline);
    }
    errno = saved;
    return found;
}

#else
bool mo_in_signal_handler(void) {
    return false;
}
#endif
