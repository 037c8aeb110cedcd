/*
 * end.c - how the process ended, as far as it can say so itself: exit(), return from
 * main(), _exit(), quick_exit(). What a signal ends says nothing.
 *
 * What is registered by on_exit() in our constructor, before the C library registers the
 * loader's, runs last of all: after main's own handlers and after every destructor.
 *
 * A child of vfork() runs in its parent's memory until it execs or ends, and its end is not
 * the parent's. vfork() below marks the time in which it runs. A child that another system
 * call has forked, with memory of its own, still has the parent's ledger mapped; the word
 * in a page that the kernel empties in such a child tells it.
 */
#include "core/ledger/writer.h"
#include "preload/process.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --------------------------------------------------------------------- vfork */

/* Of the thread that called vfork() and of the child that has taken its place. */
__attribute__((visibility("hidden"), used)) __thread int mo_vfork_depth;

/* The child returns before the parent, on the same stack, so the return address is kept in a
 * register. */
#if defined __x86_64__
__asm__(".text\n"
        ".p2align 4\n"
        ".globl vfork\n"
        ".type vfork, @function\n"
        "vfork:\n"
        "    .cfi_startproc\n"
        "    endbr64\n"
        "    pop %rdi\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    .cfi_register %rip, %rdi\n"
        "    mov mo_vfork_depth@gottpoff(%rip), %rsi\n"
        "    incl %fs:(%rsi)\n"
        "    mov $58, %eax\n" /* SYS_vfork */
        "    syscall\n"
        "    push %rdi\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_offset %rip, -8\n"
        "    test %eax, %eax\n"
        "    jz 1f\n"
        "    mov mo_vfork_depth@gottpoff(%rip), %rsi\n"
        "    decl %fs:(%rsi)\n"
        "    cmp $-4095, %rax\n"
        "    jae 2f\n"
        "1:  ret\n"
        "2:  mov %eax, %edi\n"
        "    jmp mo_vfork_failed\n"
        "    .cfi_endproc\n"
        ".size vfork, . - vfork\n");
#elif defined __aarch64__
__asm__(".text\n"
        ".p2align 4\n"
        ".globl vfork\n"
        ".type vfork, %function\n"
        "vfork:\n"
        "    .cfi_startproc\n"
        "    mrs x9, tpidr_el0\n"
        "    adrp x10, :gottprel:mo_vfork_depth\n"
        "    ldr x10, [x10, #:gottprel_lo12:mo_vfork_depth]\n"
        "    add x9, x9, x10\n"
        "    ldr w11, [x9]\n"
        "    add w11, w11, #1\n"
        "    str w11, [x9]\n"
        "    mov x0, #0x4111\n" /* CLONE_VFORK | CLONE_VM | SIGCHLD */
        "    mov x1, sp\n"
        "    mov x8, #220\n" /* SYS_clone */
        "    svc 0\n"
        "    cbz x0, 1f\n"
        "    sub w11, w11, #1\n"
        "    str w11, [x9]\n"
        "    cmn x0, #4095\n"
        "    b.cs mo_vfork_failed\n"
        "1:  ret\n"
        "    .cfi_endproc\n"
        ".size vfork, . - vfork\n");
#else
#error "vfork() has to be written for this machine"
#endif

__attribute__((visibility("hidden"), used)) int mo_vfork_failed(int code);
int mo_vfork_failed(int code) {
    errno = -code;
    return -1;
}

/* ------------------------------------------------------------------- the end */

static int *is_ours; /* 1, and 0 in a child that has a copy of our memory */

/* Of our own, and not of a vfork() child or of a copy that has no ledger. */
static bool is_own_end(void) {
    return mo_vfork_depth == 0 && *is_ours != 0;
}

static void ends(int status) {
    if (mo_ledger() != NULL && is_own_end())
        mo_ledger_end(status);
}

static void on_exit_(int status, void *unused) {
    (void)unused;
    ends(status);
}

/* What would be called if we were not here. */
static struct {
    void (*exit_now)(int status), (*quick_exit)(int status);
    int (*prctl)(int option, ...);
} next;

static int quick_status;
static void on_quick_exit(void) {
    ends(quick_status);
}

void mo_end_prepare(void) {
    if (next.prctl != NULL)
        return;
    *(void **)&next.exit_now = dlsym(RTLD_NEXT, "_exit");
    *(void **)&next.quick_exit = dlsym(RTLD_NEXT, "quick_exit");
    *(void **)&next.prctl = dlsym(RTLD_NEXT, "prctl");
}

void mo_end_install(void) {
    void *page = mmap(NULL, sizeof(*is_ours), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
    /* Where the kernel can't, nothing is said of the end rather than what may be wrong. */
    if (page == MAP_FAILED || madvise(page, sizeof(*is_ours), MADV_WIPEONFORK) != 0)
        return;
    is_ours = page;
    *is_ours = 1;
    on_exit(on_exit_, NULL);
    at_quick_exit(on_quick_exit);
}

void mo_end_in_child(void) {
    mo_vfork_depth = 0; /* one that forks has a memory of its own now */
    if (is_ours != NULL)
        *is_ours = 1;
}

static _Noreturn void exit_now(int status) {
    if (is_ours != NULL)
        ends(status);
    if (next.exit_now != NULL)
        next.exit_now(status);
    for (;;)
        syscall(SYS_exit_group, status);
}

MEMOPT_EXPORT void _exit(int status) {
    exit_now(status);
}
MEMOPT_EXPORT void _Exit(int status) {
    exit_now(status);
}

/* Runs neither destructors nor what on_exit() registered. */
MEMOPT_EXPORT void quick_exit(int status) {
    quick_status = status;
    mo_end_prepare();
    next.quick_exit(status);
    abort(); /* not reached */
}

/* ------------------------------------------------------------------- shut in */

/* A filter that takes no system call of ours may kill the process for one. What gives
 * up privileges for good says so here, libseccomp included. */
MEMOPT_EXPORT int prctl(int option, ...) {
    va_list arguments;
    va_start(arguments, option);
    unsigned long a = va_arg(arguments, unsigned long), b = va_arg(arguments, unsigned long),
                  c = va_arg(arguments, unsigned long), d = va_arg(arguments, unsigned long);
    va_end(arguments);
    /* a child of vfork() does it to itself only */
    bool shuts_in = mo_vfork_depth == 0 &&
                    (option == PR_SET_NO_NEW_PRIVS || option == PR_SET_SECCOMP);
    if (shuts_in)
        mo_ledger_prepare_shut_in(); /* while system calls are allowed */
    mo_end_prepare();
    int result = next.prctl(option, a, b, c, d);
    if (shuts_in && result == 0) /* a probe that fails shuts nothing */
        mo_ledger_shut_in();
    return result;
}
