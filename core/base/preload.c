/* preload.c - see preload.h. */
#include "core/base/preload.h"

#include <string.h>

const char *mo_preload_next(const char *list, size_t *ret_length) {
    list += strspn(list, MO_PRELOAD_SEPARATORS);
    *ret_length = strcspn(list, MO_PRELOAD_SEPARATORS);
    return *ret_length == 0 ? NULL : list;
}

static void remove_first(char *list, const char *path, size_t path_length) {
    size_t length;
    for (const char *at = list; (at = mo_preload_next(at, &length)) != NULL; at += length) {
        if (length != path_length || memcmp(at, path, length) != 0)
            continue;
        char *from = list + (at - list), *rest = from + length;
        if (*rest != '\0')
            rest++; /* with the separator behind it, or, for the last one, before it */
        else if (from > list)
            from--;
        memmove(from, rest, strlen(rest) + 1);
        return;
    }
}

void mo_preload_forget(char *list, const char *preloaded) {
    size_t length;
    const char *path = strchr(preloaded, ':');
    for (; path != NULL && (path = mo_preload_next(path, &length)) != NULL; path += length)
        remove_first(list, path, length);
}
