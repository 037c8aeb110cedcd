/*
 * hook.c - a library that allocates when it is loaded and frees when it goes.
 *
 * tests/programs/behaviour.c loads and unloads it; tests/test_shim_*.sh also
 * preload it, so that its constructor calls malloc before the program's own
 * constructors run.
 */
#include <stdlib.h>
#include <string.h>

static char *kept[64];
static char *early_text;

char *hook_text(void);
char *hook_early_text(void);

__attribute__((constructor)) static void start(void) {
    for (int i = 0; i < 64; i++) {
        kept[i] = malloc((size_t)(i + 1) * 40);
        if (!kept[i])
            abort();
        memset(kept[i], i, (size_t)(i + 1) * 40);
    }
    free(malloc(1));
    early_text = strdup("from its constructor");
    for (int i = 0; i < 64; i += 2) {
        kept[i] = realloc(kept[i], 5000);
        if (!kept[i] || kept[i][0] != i)
            abort();
    }
}

__attribute__((destructor)) static void end(void) {
    for (int i = 0; i < 64; i++) {
        if (!kept[i] || kept[i][39] != i)
            abort();
        free(kept[i]);
        kept[i] = NULL;
    }
    free(early_text);
}

/* The caller frees it. */
__attribute__((visibility("default"))) char *hook_text(void) {
    return strdup("from the library");
}

/* Allocated in the constructor, by the C library; the first caller frees it. */
__attribute__((visibility("default"))) char *hook_early_text(void) {
    char *text = early_text;
    early_text = NULL;
    return text;
}
