/* error.c - see error.h. */
#include "core/base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int mo_vfail(struct memopt_error *error, int code, const char *format, va_list arguments) {
    if (error != NULL) {
        error->code = code;
        vsnprintf(error->message, sizeof(error->message), format, arguments);
    }
    return code;
}

int mo_fail(struct memopt_error *error, int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    mo_vfail(error, code, format, arguments);
    va_end(arguments);
    return code;
}

int mo_error_prefix(struct memopt_error *error, const char *format, ...) {
    char prefix[512];
    if (error == NULL)
        return -EINVAL;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(prefix, sizeof(prefix), format, arguments);
    va_end(arguments);
    size_t length = strlen(prefix);
    size_t old = strlen(error->message);
    if (length + 2 + old + 1 > sizeof(error->message))
        old = sizeof(error->message) - length - 3;
    memmove(error->message + length + 2, error->message, old);
    memcpy(error->message, prefix, length);
    memcpy(error->message + length, ": ", 2);
    error->message[length + 2 + old] = '\0';
    return error->code;
}

void mo_error_hint(struct memopt_error *error, const char *format, ...) {
    if (error == NULL)
        return;
    size_t used = strlen(error->message);
    if (used + 2 >= sizeof(error->message))
        return;
    if (used > 0)
        error->message[used++] = '\n';
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message + used, sizeof(error->message) - used, format, arguments);
    va_end(arguments);
}

void mo_free_cleanup(void *pointer_to_pointer) {
    void *p;
    memcpy(&p, pointer_to_pointer, sizeof(p));
    free(p);
}

void mo_close_cleanup(const int *fd) {
    if (*fd >= 0)
        close(*fd);
}
