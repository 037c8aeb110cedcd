/* filtered.c - shuts itself in by raw system calls, so that nobody but the kernel hears of it:
 * from then on only write() and the end are allowed. `filtered bad` then makes another call
 * and dies of it. `filtered probe` only asks whether seccomp is there, with what must fail. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALLOW(CALL)                                                                                \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (CALL), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    if (strcmp(how, "probe") == 0) {
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0) == 0 || errno != EFAULT)
            return 1;
        void *p = malloc(100000);
        free(p);
        puts("probed");
        exit(4);
    }
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_write),
        ALLOW(SYS_exit_group),
        ALLOW(SYS_exit),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
    void *p = malloc(100);
    setvbuf(stdout, NULL, _IONBF, 0);
    if (syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
        return 1;
    free(p);
    static const char text[] = "shut in\n";
    syscall(SYS_write, 1, text, sizeof(text) - 1);
    if (strcmp(how, "bad") == 0)
        syscall(SYS_getppid);
    if (strcmp(how, "_exit") == 0)
        _exit(6);
    return 5;
}
