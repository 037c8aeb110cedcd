/* environment.c - see process.h. */
#include "preload/process.h"

#include <string.h>

/* "LD_PRELOAD=ours:backend:theirs": memopt run puts its own one or two entries
 * first and says in MEMOPT_PRELOADED how many they are, and then its process number. */
static void cut_preload(char *variable, int entries) {
    char *list = variable + strlen("LD_PRELOAD=");
    char *rest = list;
    for (int i = 0; i < entries && *rest != '\0'; i++) {
        rest += strcspn(rest, ": ");
        if (*rest != '\0')
            rest++;
    }
    memmove(list, rest, strlen(rest) + 1);
}

static int starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

void mo_environment_forget(char **envp) {
    int entries = 0;
    for (char **e = envp; *e != NULL; e++)
        if (starts_with(*e, "MEMOPT_PRELOADED="))
            entries = (*e)[strlen("MEMOPT_PRELOADED=")] - '0';
    char **to = envp;
    for (char **e = envp; *e != NULL; e++) {
        if (starts_with(*e, "MEMOPT_RUN=") || starts_with(*e, "MEMOPT_PRELOADED="))
            continue;
        if (starts_with(*e, "LD_PRELOAD=")) {
            cut_preload(*e, entries);
            if ((*e)[strlen("LD_PRELOAD=")] == '\0')
                continue;
        }
        *to++ = *e;
    }
    *to = NULL;
}
