/*
 * utf8.h - UTF-8, read strictly: for reporters and importers of a stranger's text.
 *
 * Well-formed is what Unicode calls so: no overlong form, no surrogate, nothing above
 * U+10FFFF.
 *
 * Plain C, for plugins too: no allocation, no stdio, no locale; safe in a signal
 * handler. Any thread.
 */
#ifndef MEMOPT_UTF8_H
#define MEMOPT_UTF8_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The length of the character at `text`, of which `left` bytes may be read, at least 1; in
 * a string that ends with a NUL, (size_t)-1 will do. 0: there is no well-formed one.
 * `ret_code`, which may be NULL, gets the character. */
static inline size_t memopt_utf8(const char *text, size_t left, unsigned long *ret_code) {
    const unsigned char *s = (const unsigned char *)text;
    static const unsigned long lowest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = s[0] < 0x80   ? 1
                    : s[0] < 0xc2 ? 0
                    : s[0] < 0xe0 ? 2
                    : s[0] < 0xf0 ? 3
                    : s[0] < 0xf5 ? 4
                                  : 0;
    if (length == 0 || length > left)
        return 0;
    unsigned long code = length == 1 ? s[0] : s[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3f);
    }
    if (code < lowest[length] || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff)
        return 0;
    if (ret_code != NULL)
        *ret_code = code;
    return length;
}

/* Copies `text` with U+FFFD in the place of each byte that belongs to no well-formed
 * character, as JSON must have it. `to` has room for 3 times the text and a NUL. Returns the
 * length. */
static inline size_t memopt_utf8_clean(char *to, const char *text) {
    size_t used = 0;
    while (*text != '\0') {
        size_t length = memopt_utf8(text, (size_t)-1, NULL);
        const char *from = length > 0 ? text : "\xef\xbf\xbd";
        text += length > 0 ? length : 1;
        for (length = length > 0 ? length : 3; length > 0; length--)
            to[used++] = *from++;
    }
    to[used] = '\0';
    return used;
}

#ifdef __cplusplus
}
#endif

#endif
