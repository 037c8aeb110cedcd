/*
 * error.h - filling in struct memopt_error, and scope clean-up attributes.
 *
 * Used by everything; uses nothing. Safe inside the watched program: it never
 * allocates.
 */
#ifndef MO_BASE_ERROR_H
#define MO_BASE_ERROR_H

#include <memopt/error.h>
#include <stdarg.h>

/* Fills `error` (NULL: nothing) and returns `code`, which must be negative:
 * `return mo_fail(error, -EINVAL, "…")`. */
int mo_fail(struct memopt_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int mo_vfail(struct memopt_error *error, int code, const char *format, va_list arguments);

/* Puts "CONTEXT: " before the message that is there; returns error->code. */
int mo_error_prefix(struct memopt_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Appends a line to the message: what to do about it. */
void mo_error_hint(struct memopt_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void mo_free_cleanup(void *pointer_to_pointer);
void mo_close_cleanup(const int *fd);
#define mo_auto_free __attribute__((cleanup(mo_free_cleanup)))
#define mo_auto_close __attribute__((cleanup(mo_close_cleanup)))

#endif
