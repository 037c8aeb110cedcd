/*
 * static.c - a statically linked program, which no preload can reach; see
 * tests/test_real_programs.sh.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    char *text = malloc(100000);
    if (!text)
        return 1;
    memset(text, 'x', 99999);
    text[99999] = '\0';
    printf("static: %zu, %d arguments, %s\n", strlen(text), argc, argc > 1 ? argv[1] : "none");
    free(text);
    return 6;
}
