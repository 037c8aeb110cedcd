/* wrapped.c - allocates by each function and frees by the others: wrap.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int use(void) {
    char *p = malloc(10), *q = calloc(3, 100), *r = strdup("a text that is duplicated");
    for (int i = 1; i < 200; i++) {
        p = realloc(p, (size_t)i * 50);
        free(q);
        q = calloc((size_t)i, 7);
        memset(p, 1, (size_t)i * 50);
    }
    free(p);
    free(q);
    int length = printf("%s\n", r);
    free(r);
    fflush(stdout);
    return length;
}

int main(int argc, char **argv) {
    use();
    if (argc > 1)
        return 0;
    pid_t pid = fork();
    if (pid == 0) {
        use();
        execl(argv[0], argv[0], "again", (char *)NULL);
        _exit(1);
    }
    int status;
    waitpid(pid, &status, 0);
    return status;
}
