/*
 * text.h - puts short texts together without stdio: inside other programs, where a call of
 * snprintf() takes as long as all the rest of a start, and in signal handlers.
 */
#ifndef MO_BASE_TEXT_H
#define MO_BASE_TEXT_H

#include <stdint.h>

/* Both write at `to` what fits before `end` and a NUL, and return where that NUL is;
 * `to` < `end`. */
static inline char *mo_text_put(char *to, const char *end, const char *text) {
    while (*text != '\0' && to + 1 < end)
        *to++ = *text++;
    *to = '\0';
    return to;
}

static inline char *mo_text_put_number(char *to, const char *end, uint64_t number) {
    char digits[24], *first = digits + sizeof(digits) - 1;
    *first = '\0';
    do
        *--first = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    return mo_text_put(to, end, first);
}

#endif
