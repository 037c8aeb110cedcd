/* faults.c - see faults.h. */
#define _GNU_SOURCE /* asprintf */
#include "config.h"

#include "core/import/faults.h"

#include "core/base/error.h"
#include "core/model/model.h"
#include "core/symbol/symbol.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 65536, BUILD_ID = 64 }; /* frames of a report; bytes */

struct frame {
    const char *line; /* in the event's text; to its end, with the newline */
    size_t length;
    const char *path; /* in it */
    size_t path_length;
    unsigned char build_id[BUILD_ID];
    size_t build_id_size;
    uint64_t offset;
    int done;
    struct mo_symbol_frame symbol;
};

struct frames {
    struct frame *items;
    size_t count, room;
};

static size_t line_length(const char *line) {
    size_t length = strcspn(line, "\n");
    return length + (line[length] == '\n');
}

/* "    #N PATH+0xOFFSET", whose path may have any byte but a newline, and may be relative to
 * the directory that the program was run in. */
static int parse_frame(const char *line, struct frame *ret_frame) {
    size_t length = line_length(line), end = length - (length > 0 && line[length - 1] == '\n');
    size_t at = strspn(line, " ");
    if (line[at++] != '#')
        return 0;
    size_t digits = strspn(line + at, "0123456789");
    at += digits;
    if (digits == 0 || line[at] != ' ')
        return 0;
    size_t plus = end;
    while (plus > at && line[plus - 1] != '+')
        plus--;
    if (plus <= at + 1 || strncmp(line + plus, "0x", 2) != 0 ||
        plus + 2 + strspn(line + plus + 2, "0123456789abcdef") != end)
        return 0;
    *ret_frame = (struct frame){.line = line,
                                .length = length,
                                .path = line + at + 1,
                                .path_length = plus - 1 - (at + 1),
                                .offset = strtoull(line + plus, NULL, 16)};
    return 1;
}

/* Where in "  build-id HEX PATH" the path begins; the bytes of HEX. NULL: another line. */
static const char *parse_build_id(const char *line, unsigned char bytes[BUILD_ID],
                                  size_t *ret_size) {
    static const char begin[] = "  build-id ";
    size_t size = 0;
    unsigned byte;
    if (strncmp(line, begin, sizeof(begin) - 1) != 0)
        return NULL;
    const char *at = line + sizeof(begin) - 1;
    size_t digits = strspn(at, "0123456789abcdef");
    if (digits % 2 != 0 || digits / 2 > BUILD_ID || at[digits] != ' ')
        return NULL;
    for (; size < digits / 2 && sscanf(at + 2 * size, "%2x", &byte) == 1; size++)
        bytes[size] = (unsigned char)byte;
    *ret_size = size;
    return at + digits + 1;
}

static int is_of(const struct frame *frame, const char *path, size_t length) {
    return frame->path_length == length && memcmp(frame->path, path, length) == 0;
}

static int is_in_same_module(const struct frame *a, const struct frame *b) {
    return is_of(a, b->path, b->path_length) && a->build_id_size == b->build_id_size &&
           memcmp(a->build_id, b->build_id, b->build_id_size) == 0;
}

/* Those of one text, with the build ids that it has. -ENOMEM: not all. */
static int add_frames(struct frames *frames, const char *text) {
    size_t first = frames->count;
    for (const char *line = text; *line != '\0'; line += line_length(line)) {
        struct frame frame;
        if (!parse_frame(line, &frame) || frames->count == MOST)
            continue;
        if (frames->count == frames->room) {
            size_t room = frames->room == 0 ? 64 : frames->room * 2;
            struct frame *larger = realloc(frames->items, room * sizeof(*larger));
            if (larger == NULL)
                return -ENOMEM;
            frames->items = larger;
            frames->room = room;
        }
        frames->items[frames->count++] = frame;
    }
    for (const char *line = text; *line != '\0'; line += line_length(line)) {
        unsigned char build_id[BUILD_ID];
        size_t size;
        const char *path = parse_build_id(line, build_id, &size);
        for (size_t i = first; path != NULL && i < frames->count; i++)
            if (is_of(&frames->items[i], path, strcspn(path, "\n"))) {
                memcpy(frames->items[i].build_id, build_id, size);
                frames->items[i].build_id_size = size;
            }
    }
    return 0;
}

/* All frames of the module that the first one is in: it is opened once. */
static void name_module(const struct memopt_report *report, struct frame *frames, size_t count) {
    mo_auto_free uint64_t *offsets = calloc(count, sizeof(*offsets));
    mo_auto_free struct mo_symbol_frame *symbols = calloc(count, sizeof(*symbols));
    mo_auto_free char *path = NULL;
    int is_relative = frames->path[0] != '/' && report->directory != NULL;
    if (asprintf(&path, "%s%s%.*s", is_relative ? report->directory : "", is_relative ? "/" : "",
                 (int)frames->path_length, frames->path) < 0)
        path = NULL;
    size_t n = 0;
    for (size_t i = 0; i < count && offsets != NULL; i++)
        if (is_in_same_module(&frames[i], frames))
            offsets[n++] = frames[i].offset;
    struct mo_symbol_module module = {path, frames->build_id, frames->build_id_size};
    int r = path == NULL || offsets == NULL || symbols == NULL
                ? -ENOMEM
                : mo_symbol_find(&module, offsets, n, symbols, NULL);
    n = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_in_same_module(&frames[i], frames))
            continue;
        frames[i].done = 1;
        if (r == 0)
            frames[i].symbol = symbols[n++];
    }
}

/* Below the directory that the program was run in the path is short. */
static const char *shorten(const struct memopt_report *report, const char *file) {
    size_t length = report->directory == NULL ? 0 : strlen(report->directory);
    return length > 1 && strncmp(file, report->directory, length) == 0 && file[length] == '/'
               ? file + length + 1
               : file;
}

static void write_frame(FILE *to, const struct memopt_report *report, const struct frame *frame) {
    const struct mo_symbol_frame *symbol = &frame->symbol;
    int head = (int)(frame->path - frame->line);
    if (symbol->function == NULL) {
        fwrite(frame->line, 1, frame->length, to);
        return;
    }
    fprintf(to, "%.*s%s", head, frame->line, symbol->function);
    if (symbol->file != NULL)
        fprintf(to, " at %s:%d", shorten(report, symbol->file), symbol->line);
    else
        fprintf(to, " (%.*s)", (int)frame->path_length, frame->path);
    if (frame->line[frame->length - 1] == '\n')
        fputc('\n', to);
}

/* The text with the names of its frames; NULL: there are none, or no memory. */
static char *retell(const struct memopt_report *report, const char *text,
                    const struct frame *frames, size_t count) {
    char *result = NULL;
    size_t size, at = 0;
    int named = 0;
    for (size_t i = 0; i < count; i++)
        named |= frames[i].symbol.function != NULL;
    FILE *to = named ? open_memstream(&result, &size) : NULL;
    for (const char *line = text; to != NULL && *line != '\0'; line += line_length(line)) {
        unsigned char build_id[BUILD_ID];
        size_t ignored;
        const char *path = parse_build_id(line, build_id, &ignored);
        int has_names = 0;
        for (size_t i = 0; path != NULL && i < count; i++)
            has_names |=
                is_of(&frames[i], path, strcspn(path, "\n")) && frames[i].symbol.function != NULL;
        if (at < count && frames[at].line == line)
            write_frame(to, report, &frames[at++]);
        else if (!has_names)
            fwrite(line, 1, line_length(line), to);
    }
    if (to == NULL)
        return NULL;
    if (fclose(to) != 0) {
        free(result);
        return NULL;
    }
    size_t length = strlen(result);
    if (length > 0 && result[length - 1] == '\n')
        result[length - 1] = '\0';
    return result;
}

void mo_faults_name(struct memopt_report *report) {
    struct mo_model *model = mo_model_of(report);
    struct frames all = {0};
    for (size_t i = 0; i < report->process_count; i++)
        for (size_t k = 0; k < model->processes[i].event_count; k++)
            if (add_frames(&all, model->processes[i].events[k].text) < 0)
                goto release;
    for (size_t i = 0; i < all.count; i++)
        if (!all.items[i].done)
            name_module(report, &all.items[i], all.count - i);
    size_t first = 0;
    for (size_t i = 0; i < report->process_count; i++)
        for (size_t k = 0; k < model->processes[i].event_count; k++) {
            const char *text = model->processes[i].events[k].text;
            size_t count = 0;
            while (first + count < all.count && all.items[first + count].line >= text &&
                   all.items[first + count].line < text + strlen(text))
                count++;
            mo_auto_free char *told = retell(report, text, all.items + first, count);
            first += count;
            if (told != NULL)
                mo_report_retell_event(report, &model->processes[i], k, told);
        }
release:
    for (size_t i = 0; i < all.count; i++)
        mo_symbol_release(&all.items[i].symbol, 1);
    free(all.items);
}
