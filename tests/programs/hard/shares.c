/* shares.c - a process that has shut itself in has children, one after the other, that each
 * take 40 MiB: a limit of 100 MiB is each one's own. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    for (int i = 0; i < 4; i++) {
        if (fork() == 0)
            _exit(malloc(40 << 20) == NULL);
        int status;
        wait(&status);
        printf("child %d\n", WEXITSTATUS(status));
    }
    printf("parent %d\n", malloc(40 << 20) == NULL);
    return 0;
}
