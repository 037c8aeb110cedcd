/*
 * slots.c - says where calls of malloc and free lead: through the shim or past it.
 *
 * usage: slots [--no-mprotect] [LIBRARY]
 *
 * For the program and for LIBRARY (loaded now, or preloaded), a line for each of its
 * slots, as in "program malloc: shim"; "past" is anything but the shim. Built three
 * ways: slots are filled at the first call, or at the start and then protected, or (at
 * a fixed address) are behind the PLT entry that stands for the function's address.
 * --no-mprotect: starts itself once more where pages can't be made writable.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *leads_to(void *address) {
    Dl_info info;
    if (dladdr(address, &info) == 0)
        return "nowhere";
    return strstr(info.dli_fname, "libmemopt-preload") != NULL ? "shim" : "past";
}

static int visit(struct dl_phdr_info *info, size_t size, void *context) {
    const char *library = context, *name = info->dlpi_name;
    const ElfW(Dyn) *dynamic = NULL;
    const ElfW(Sym) *symbols = NULL;
    const char *names = NULL;
    const ElfW(Rela) *jumps = NULL;
    size_t count = 0;
    (void)size;
    if (name[0] != '\0' && (library == NULL || strcmp(name, library) != 0))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dynamic = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        if (dynamic->d_tag == DT_SYMTAB)
            symbols = (const ElfW(Sym) *)dynamic->d_un.d_ptr;
        if (dynamic->d_tag == DT_STRTAB)
            names = (const char *)dynamic->d_un.d_ptr;
        if (dynamic->d_tag == DT_JMPREL)
            jumps = (const ElfW(Rela) *)dynamic->d_un.d_ptr;
        if (dynamic->d_tag == DT_PLTRELSZ)
            count = dynamic->d_un.d_val / sizeof(*jumps);
    }
    for (size_t i = 0; i < count; i++) {
        const char *function = names + symbols[ELF64_R_SYM(jumps[i].r_info)].st_name;
        if (strcmp(function, "malloc") == 0 || strcmp(function, "free") == 0)
            printf("%s %s: %s\n", name[0] == '\0' ? "program" : "library", function,
                   leads_to(*(void **)(info->dlpi_addr + jumps[i].r_offset)));
    }
    return 0;
}

/* mprotect() of one page for writing fails; the loader doesn't need that. */
static void forbid_mprotect(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 4096, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROT_READ | PROT_WRITE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof(code) / sizeof(code[0]), code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
        printf("no seccomp here\n");
        exit(77);
    }
}

int main(int argc, char **argv) {
    char *(*hook_early_text)(void) = NULL;
    if (argc > 1 && strcmp(argv[1], "--no-mprotect") == 0) {
        forbid_mprotect();
        execv(argv[0], (char *[]){argv[0], NULL});
        return 126;
    }
    /* what came from there is freed here, and free must know it */
    *(void **)&hook_early_text = dlsym(RTLD_DEFAULT, "hook_early_text");
    if (hook_early_text != NULL)
        free(hook_early_text());
    if (argc > 1 && dlopen(argv[1], RTLD_LAZY) == NULL)
        return 1;
    free(malloc(100));
    dl_iterate_phdr(visit, argc > 1 ? argv[1] : NULL);
#ifdef TAKES_ADDRESSES
    printf("same address: %s\n", dlsym(RTLD_DEFAULT, "malloc") == (void *)malloc ? "yes" : "no");
#endif
    return 0;
}
