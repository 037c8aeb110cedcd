/* loader.c - a C program that loads a C++ library and calls its exhaust(1). */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    int (*exhaust)(int);
    if (library == NULL) {
        puts(dlerror());
        return 1;
    }
    *(void **)&exhaust = dlsym(library, "exhaust");
    return exhaust(1);
}
