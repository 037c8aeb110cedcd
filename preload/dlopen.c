/*
 * dlopen.c - a library that is loaded with RTLD_DEEPBIND (PHP's extensions are) looks for
 * malloc in what it is linked with before it looks at what is preloaded: it finds the C
 * library's, while the blocks that it is given, and frees, are the allocator's. No
 * allocator can help that; here the flag is taken away.
 *
 * dlopen() finds libraries by its caller's search path and takes the caller from its return
 * address, so the real one is not called but jumped to.
 */
#include "core/ledger/writer.h"
#include "preload/process.h"

#include <dlfcn.h>

_Static_assert(RTLD_DEEPBIND == 8, "as the code below has it");

__attribute__((visibility("hidden"), used)) int mo_takes_deepbind_away;
__attribute__((visibility("hidden"), used)) void *(*mo_next_dlopen)(const char *, int);

#if defined __x86_64__
__asm__(".text\n"
        ".p2align 4\n"
        ".globl dlopen\n"
        ".type dlopen, @function\n"
        "dlopen:\n"
        "    .cfi_startproc\n"
        "    endbr64\n"
        "    test $8, %sil\n"
        "    jnz 1f\n"
        "    mov mo_next_dlopen(%rip), %rax\n"
        "    test %rax, %rax\n"
        "    jz 1f\n"
        "    jmp *%rax\n"
        "1:  push %rdi\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    sub $16, %rsp\n"
        "    .cfi_adjust_cfa_offset 16\n"
        "    mov %rsp, %rdx\n"
        "    mov %esi, (%rsp)\n"
        "    call mo_dlopen_rare\n"
        "    mov (%rsp), %esi\n"
        "    add $16, %rsp\n"
        "    .cfi_adjust_cfa_offset -16\n"
        "    pop %rdi\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    jmp *%rax\n"
        "    .cfi_endproc\n"
        ".size dlopen, . - dlopen\n");
#elif defined __aarch64__
__asm__(".text\n"
        ".p2align 4\n"
        ".globl dlopen\n"
        ".type dlopen, %function\n"
        "dlopen:\n"
        "    .cfi_startproc\n"
        "    stp x29, x30, [sp, #-48]!\n"
        "    .cfi_adjust_cfa_offset 48\n"
        "    .cfi_offset x30, -40\n"
        "    .cfi_offset x29, -48\n"
        "    str x0, [sp, #16]\n"
        "    str w1, [sp, #24]\n"
        "    add x2, sp, #24\n"
        "    bl mo_dlopen_rare\n"
        "    mov x16, x0\n"
        "    ldr x0, [sp, #16]\n"
        "    ldr w1, [sp, #24]\n"
        "    ldp x29, x30, [sp], #48\n"
        "    .cfi_adjust_cfa_offset -48\n"
        "    .cfi_restore x30\n"
        "    .cfi_restore x29\n"
        "    br x16\n"
        "    .cfi_endproc\n"
        ".size dlopen, . - dlopen\n");
#else
#error "dlopen() has to be written for this machine"
#endif

/* What to jump to, and with which flags. */
__attribute__((visibility("hidden"), used)) void *mo_dlopen_rare(const char *file, int flags,
                                                                 int *ret_flags);
void *mo_dlopen_rare(const char *file, int flags, int *ret_flags) {
    static _Atomic bool said;
    if (mo_next_dlopen == NULL)
        *(void **)&mo_next_dlopen = dlsym(RTLD_NEXT, "dlopen");
    *ret_flags = flags;
    if ((flags & RTLD_DEEPBIND) != 0 && mo_takes_deepbind_away) {
        *ret_flags = flags & ~RTLD_DEEPBIND;
        if (!atomic_exchange(&said, true))
            mo_process_note(MEMOPT_NOTE_INFO,
                            "libraries are loaded without RTLD_DEEPBIND ('%s' is the first): with "
                            "it they would use the C library's malloc beside %s",
                            file == NULL ? "" : file,
                            mo_process.allocator == NULL ? "the allocator" : mo_process.allocator);
    }
    return *(void **)&mo_next_dlopen;
}

void mo_dlopen_start(void) {
    mo_takes_deepbind_away = 1;
}
