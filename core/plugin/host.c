/* host.c - what plugins may call, and where their notes go. See registry.h. */
#include "core/plugin/registry.h"

#include "core/base/error.h"
#include "core/base/sysmem.h"

#include <memopt/show.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static mo_note_fn note_sink;

void mo_host_set_note(mo_note_fn note) {
    note_sink = note;
}

/* In one piece, as it is; only a text that must not reach a terminal as it is goes out in
 * several, escaped. */
static void say_on_stderr(const char *kind, const char *text) {
    char shown[256] = "";
    const char *words[] = {"memopt: ", kind != NULL ? kind : "", kind != NULL ? ": " : "", text,
                           "\n"};
    enum { WORDS = sizeof(words) / sizeof(words[0]) };
    struct iovec parts[WORDS];
    ssize_t written = 0; /* if it can't be: there is nowhere else to say it */
    const char *c = text;
    for (size_t length; *c != '\0'; c += length)
        if ((length = *c == '\n' || *c == '\t' ? 1 : memopt_shown(c)) == 0)
            break;
    if (*c == '\0') {
        for (size_t i = 0; i < WORDS; i++)
            parts[i] = (struct iovec){(void *)(uintptr_t)words[i], strlen(words[i])};
        written = writev(STDERR_FILENO, parts, WORDS);
    } else {
        for (size_t i = 0; i < WORDS; i++)
            for (const char *word = words[i]; *word != '\0';) {
                word += memopt_show(shown, sizeof(shown), word, MEMOPT_SHOW_LINES);
                written = write(STDERR_FILENO, shown, strlen(shown));
            }
    }
    (void)written;
}

/* A text for "%s" goes out as it is, of any length and without a copy: a signal
 * handler on a small stack says it that way. */
static void say(int level, const char *kind, const char *format, va_list arguments) {
    char buffer[1024];
    const char *text = buffer;
    int saved = errno;
    if (strcmp(format, "%s") == 0)
        text = va_arg(arguments, const char *);
    else if (vsnprintf(buffer, sizeof(buffer), format, arguments) < 0)
        buffer[0] = '\0';
    if (text[0] != '\0') {
        if (level >= MEMOPT_NOTE_ERROR)
            say_on_stderr(kind, text);
        if (note_sink != NULL)
            note_sink(level, kind, text);
    }
    errno = saved;
}

void mo_note_once(const char *format, ...) {
    static struct said {
        struct said *next;
        char text[];
    } * said;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    for (const struct said *one = said; one != NULL; one = one->next)
        if (strcmp(one->text, text) == 0)
            return;
    struct said *one = mo_sys_alloc(sizeof(*one) + strlen(text) + 1);
    if (one != NULL) {
        memcpy(one->text, text, strlen(text) + 1);
        one->next = said;
        said = one;
    }
    mo_host.note(MEMOPT_NOTE_WARNING, "%s", text);
}

static void host_note(int level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(level, NULL, format, arguments);
    va_end(arguments);
}

static void host_event(const char *kind, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(MEMOPT_NOTE_ERROR, kind, format, arguments);
    va_end(arguments);
}

/* Of a process that has no ledger, or whose owner says otherwise. */
static void *no_area(const char *name, uint32_t version, uint32_t unit, uint64_t limit,
                     struct memopt_error *error) {
    (void)version, (void)unit, (void)limit;
    return mo_fail(error, -ENOENT, "there is no ledger for the area '%s'", name), NULL;
}
static int no_area_back(void *area, uint64_t count) {
    (void)area, (void)count;
    return -ENOENT;
}
static uint64_t no_clock(void) {
    return 0;
}

struct memopt_host mo_host = {
    .abi_major = MEMOPT_ABI_MAJOR,
    .abi_minor = MEMOPT_ABI_MINOR,
    .size = sizeof(struct memopt_host),
    .alloc = mo_sys_alloc,
    .note = host_note,
    .fail = mo_fail,
    .event = host_event,
    .area = no_area,
    .area_back = no_area_back,
    .clock = no_clock,
};
