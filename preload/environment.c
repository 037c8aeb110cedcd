/* environment.c - see process.h. */
#include "preload/process.h"

#include <string.h>

static int is_ours(const char *entry, size_t length) {
    static const char *const names[] = {"libmemopt-preload.so", "libmemopt-agent.so"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (memmem(entry, length, names[i], strlen(names[i])) != NULL)
            return 1;
    return 0;
}

/* "LD_PRELOAD=ours:backend:theirs": memopt run puts ours first, then at most one
 * backend, whose end MEMOPT_PRELOADED (a count of entries) marks. */
static void cut_preload(char *variable, size_t entries) {
    char *list = variable + strlen("LD_PRELOAD=");
    if (!is_ours(list, strcspn(list, ": ")))
        return;
    char *rest = list;
    for (size_t i = 0; i < entries && *rest != '\0'; i++) {
        rest += strcspn(rest, ": ");
        if (*rest != '\0')
            rest++;
    }
    memmove(list, rest, strlen(rest) + 1);
}

void mo_environment_forget(char **envp) {
    size_t entries = 1;
    for (char **e = envp; *e != NULL; e++)
        if (strncmp(*e, "MEMOPT_PRELOADED=", 17) == 0)
            entries = (size_t)((*e)[17] - '0');
    char **to = envp;
    for (char **e = envp; *e != NULL; e++) {
        if (strncmp(*e, "MEMOPT_RUN=", 11) == 0 || strncmp(*e, "MEMOPT_PRELOADED=", 17) == 0)
            continue;
        if (strncmp(*e, "LD_PRELOAD=", 11) == 0) {
            cut_preload(*e, entries);
            if ((*e)[11] == '\0')
                continue;
        }
        *to++ = *e;
    }
    *to = NULL;
}
