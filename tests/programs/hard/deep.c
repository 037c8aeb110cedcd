/* deep.c - a library that is loaded with RTLD_DEEPBIND, and (-DPROGRAM) what loads it: blocks go
 * both ways. */
#ifdef PROGRAM
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND) : NULL;
    char *(*give)(const char *);
    void (*take)(char *);
    if (library == NULL) {
        puts(dlerror());
        return 1;
    }
    *(void **)&give = dlsym(library, "give");
    *(void **)&take = dlsym(library, "take");
    for (int i = 0; i < 1000; i++) {
        free(give("a text"));
        take(strdup("another text"));
    }
    puts("given and taken");
    return 0;
}
#else
#include <stdlib.h>
#include <string.h>

char *give(const char *text);
void take(char *text);
char *give(const char *text) {
    char *copy = malloc(strlen(text) + 1);
    return copy == NULL ? NULL : strcpy(copy, text);
}
void take(char *text) {
    free(realloc(text, 1000));
}
#endif
