/* environment.c - see process.h. */
#include "core/base/preload.h"
#include "preload/process.h"

#include <string.h>

/* The value, if `variable` is NAME=value of this `name` ("NAME="); else NULL. */
static char *value_of(char *variable, const char *name) {
    size_t length = strlen(name);
    return strncmp(variable, name, length) == 0 ? variable + length : NULL;
}

void mo_environment_forget(char **envp) {
    const char *preloaded = NULL;
    for (char **e = envp; *e != NULL && preloaded == NULL; e++)
        preloaded = value_of(*e, "MEMOPT_PRELOADED=");
    char **to = envp;
    for (char **e = envp; *e != NULL; e++) {
        char *list = value_of(*e, "LD_PRELOAD=");
        if (list != NULL && preloaded != NULL) {
            mo_preload_forget(list, preloaded);
            if (*list == '\0')
                continue;
        }
        if (value_of(*e, "MEMOPT_RUN=") == NULL && value_of(*e, "MEMOPT_PRELOADED=") == NULL)
            *to++ = *e;
    }
    *to = NULL;
}
