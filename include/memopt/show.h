/*
 * show.h - text that memopt did not write, made fit for a terminal or for Markdown.
 *
 * Program names, arguments, file and plugin names, notes and all that a ledger holds are
 * a stranger's bytes: printed as they are, they move the cursor, turn the direction of
 * the writing, add a line, or become a link or a picture in a report. memopt_show() is
 * what every such text goes through on its way to people; JSON has escapes of its own.
 *
 * Plain C, for reporters too: no allocation, no stdio, no locale; safe in a signal
 * handler. Any thread.
 */
#ifndef MEMOPT_SHOW_H
#define MEMOPT_SHOW_H

#include <memopt/utf8.h>

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MEMOPT_SHOW_LINES = 1,    /* '\n' and '\t' stay: the text may have lines */
    MEMOPT_SHOW_MARKDOWN = 2, /* ASCII punctuation that Markdown may read gets a '\' */
};
/* What `to` must have room for at least; less than 4 times the text and 1 is never needed
 * without MEMOPT_SHOW_MARKDOWN, nor 5 times and 1 with it. */
#define MEMOPT_SHOW_MINIMUM 32

/* The length of the character at `text` that may be shown as it is: one of well-formed
 * UTF-8 that neither controls anything nor changes the order or the look of what stands
 * beside it. 0: none. */
static inline size_t memopt_shown(const char *text) {
    unsigned long code = 0;
    size_t length = memopt_utf8(text, (size_t)-1, &code);
    static const struct {
        unsigned long first, last;
    } hidden[] = {
        {0, 0x1f},          /* C0 controls */
        {0x7f, 0x9f},       /* delete, C1 controls */
        {0x61c, 0x61c},     /* Arabic letter mark */
        {0x200b, 0x200b},   /* zero width space */
        {0x200e, 0x200f},   /* left-to-right and right-to-left marks */
        {0x2028, 0x202e},   /* line and paragraph separators, embeddings and overrides */
        {0x2060, 0x206f},   /* word joiner, invisible operators, isolates */
        {0xfeff, 0xfeff},   /* byte order mark */
        {0xfff9, 0xfffb},   /* interlinear annotations */
        {0xe0000, 0xe007f}, /* tags */
    };
    for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
        if (code >= hidden[i].first && code <= hidden[i].last)
            return 0;
    return length;
}

/* Writes as much of `text` as fits, with a NUL, into the `size` bytes at `to`, at least
 * MEMOPT_SHOW_MINIMUM; a byte that may not be shown becomes "\x1b". Returns how much of
 * `text` that was: text[that] is NUL when all of it was. No character and no escape is
 * cut, so that a long text can be written piece by piece. */
static inline size_t memopt_show(char *to, size_t size, const char *text, unsigned how) {
    static const char digits[] = "0123456789abcdef", markup[] = "\\`*_{}[]<>()#!|&~";
    size_t used = 0, taken = 0;
    while (text[taken] != '\0' && used + 6 < size) {
        const unsigned char byte = (unsigned char)text[taken];
        size_t length = memopt_shown(text + taken);
        if (length == 0 && (how & MEMOPT_SHOW_LINES) != 0 && (byte == '\n' || byte == '\t'))
            length = 1;
        if (length == 0) {
            if ((how & MEMOPT_SHOW_MARKDOWN) != 0)
                to[used++] = '\\';
            to[used++] = '\\';
            to[used++] = 'x';
            to[used++] = digits[byte >> 4];
            to[used++] = digits[byte & 15];
            taken++;
            continue;
        }
        for (const char *c = markup; length == 1 && (how & MEMOPT_SHOW_MARKDOWN) != 0; c++)
            if (*c == '\0' || *c == (char)byte) {
                if (*c != '\0')
                    to[used++] = '\\';
                break;
            }
        for (; length > 0; length--)
            to[used++] = text[taken++];
    }
    to[used] = '\0';
    return taken;
}

#ifdef __cplusplus
}
#endif

#endif
