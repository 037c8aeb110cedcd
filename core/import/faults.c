/* faults.c - see faults.h. */
#include "config.h"

#include "core/import/faults.h"

#include "core/base/error.h"
#include "core/model/build.h"
#include "core/model/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STACKS = 16, MODULES = 64, BUILD_ID = 64 }; /* of an event; bytes */

struct stack {
    char by[64];
    int64_t tid;
    uint32_t *frames;
    size_t count;
};

/* What is read of one event's text. */
struct reading {
    struct memopt_report *report;
    struct memopt_event_report event;
    struct stack stacks[STACKS];
    size_t stack_count;
    struct {
        const char *path; /* in the text, to the end of its line */
        size_t length;
        char build_id[2 * BUILD_ID + 1];
    } modules[MODULES];
    size_t module_count;
    size_t frame_count;
    char *rest; /* the lines that are nothing of this */
    size_t rest_length;
};

static size_t line_length(const char *line) {
    return strcspn(line, "\n");
}

/* At *at; *at is then what comes after it. 0: there is none, or it is too large. */
static int parse_number(const char **at, int radix, uint64_t *ret_number) {
    const char *digits = radix == 16 ? "0123456789abcdef" : "0123456789";
    size_t count = strspn(*at, digits);
    char *end;
    if (count == 0)
        return 0;
    errno = 0;
    uint64_t number = strtoull(*at, &end, radix);
    if (errno != 0 || end != *at + count)
        return 0;
    *at = end;
    *ret_number = number;
    return 1;
}

static int skip(const char **at, const char *text) {
    size_t length = strlen(text);
    if (strncmp(*at, text, length) != 0)
        return 0;
    *at += length;
    return 1;
}

/* ------------------------------------------------------------------- lines */

/* "  build-id HEX PATH": where HEX begins, of *ret_digits; NULL: another line. */
static const char *parse_build_id(const char *line, size_t *ret_digits) {
    if (!skip(&line, "  build-id "))
        return NULL;
    size_t digits = strspn(line, "0123456789abcdef");
    if (digits == 0 || digits % 2 != 0 || digits > 2 * BUILD_ID || line[digits] != ' ' ||
        line_length(line) == digits + 1)
        return NULL;
    *ret_digits = digits;
    return line;
}

static void read_build_id(struct reading *reading, const char *line) {
    size_t digits;
    const char *hex = parse_build_id(line, &digits);
    if (hex == NULL || reading->module_count == MODULES)
        return;
    memcpy(reading->modules[reading->module_count].build_id, hex, digits);
    reading->modules[reading->module_count].path = hex + digits + 1;
    reading->modules[reading->module_count++].length = line_length(hex + digits + 1);
}

/* "  accessed by thread 12:"; the words may be any. */
static int read_heading(struct reading *reading, const char *line) {
    static const char thread[] = " thread ";
    size_t length = line_length(line), words = 0;
    uint64_t tid = 0;
    if (length < 4 || strncmp(line, "  ", 2) != 0 || line[2] == ' ' || line[length - 1] != ':')
        return 0;
    for (size_t i = 2; i + sizeof(thread) - 1 < length && words == 0; i++)
        if (strncmp(line + i, thread, sizeof(thread) - 1) == 0)
            words = i - 2;
    const char *at = line + 2 + words + sizeof(thread) - 1;
    if (words == 0 || words >= sizeof(reading->stacks[0].by) || !parse_number(&at, 10, &tid) ||
        at != line + length - 1 || tid > INT64_MAX || reading->stack_count == STACKS)
        return 0;
    struct stack *stack = &reading->stacks[reading->stack_count++];
    memcpy(stack->by, line + 2, words);
    stack->tid = (int64_t)tid;
    return 1;
}

static int module_of(struct reading *reading, const char *path, size_t length,
                     uint32_t *ret_module) {
    const char *build_id = NULL;
    mo_auto_free char *copy = strndup(path, length);
    if (copy == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < reading->module_count && build_id == NULL; i++)
        if (reading->modules[i].length == length &&
            memcmp(reading->modules[i].path, path, length) == 0)
            build_id = reading->modules[i].build_id;
    return mo_build_module(reading->report, copy, build_id, ret_module);
}

/* "    #N PATH+0xOFFSET", whose path may have any byte but a newline, or "    #N 0xADDRESS".
 * 1: it is a frame; 0: it is none; a negative errno. */
static int read_frame(struct reading *reading, const char *line) {
    size_t length = line_length(line), plus = length;
    const char *at = line;
    uint64_t number;
    struct memopt_location location = {MEMOPT_NONE, 0, NULL, 0};
    if (!skip(&at, "    #") || !parse_number(&at, 10, &number) || !skip(&at, " "))
        return 0;
    const char *path = at;
    while (plus > (size_t)(path - line) && line[plus - 1] != '+')
        plus--;
    size_t path_length = plus == (size_t)(path - line) ? 0 : plus - 1 - (size_t)(path - line);
    at = path_length == 0 ? path : line + plus;
    if (!skip(&at, "0x") || !parse_number(&at, 16, &location.address) || at != line + length)
        return 0;
    if (reading->stack_count == 0)
        reading->stacks[reading->stack_count++] = (struct stack){.by = ""};
    struct stack *stack = &reading->stacks[reading->stack_count - 1];
    if (stack->count == MO_STACK_FRAMES)
        return 1;
    if (stack->frames == NULL &&
        (stack->frames = calloc(MO_STACK_FRAMES, sizeof(*stack->frames))) == NULL)
        return -ENOMEM;
    int r = path_length == 0 ? 0 : module_of(reading, path, path_length, &location.module);
    if (r == 0)
        r = mo_build_location(reading->report, &location, &stack->frames[stack->count]);
    if (r < 0)
        return r;
    stack->count++;
    reading->frame_count++;
    return 1;
}

/* -------------------------------------------------------------- the event */

/* Of the first line. */
static void read_facts(struct memopt_event_report *event) {
    static const char block[] = "a block of ";
    size_t length = line_length(event->text);
    mo_auto_free char *line = strndup(event->text, length);
    uint64_t size, address, offset;
    if (line == NULL)
        return;
    const char *at = strstr(line, block);
    if (at != NULL) {
        at += strlen(block);
        if (parse_number(&at, 10, &size) && skip(&at, " byte") && (skip(&at, "s"), 1) &&
            skip(&at, " at 0x") && parse_number(&at, 16, &address)) {
            event->block_size = size;
            event->block_address = address;
        }
    }
    if ((at = strstr(line, "at offset ")) != NULL || (at = strstr(line, "at byte ")) != NULL) {
        at = strchr(at + strlen("at "), ' ') + 1;
        int before = skip(&at, "-");
        if (event->block_address != MEMOPT_UNKNOWN && parse_number(&at, 10, &offset))
            event->address = before ? event->block_address - offset : event->block_address + offset;
    } else if ((at = strstr(line, "(0x")) != NULL || (at = strstr(line, " at 0x")) != NULL) {
        at = strstr(at, "0x") + 2;
        if (parse_number(&at, 16, &address))
            event->address = address;
    }
}

static const char *role_of(const char *by) {
    return strcmp(by, "allocated by") == 0 ? "allocated"
           : strcmp(by, "freed by") == 0   ? "freed"
                                           : "fault";
}

static int is_no_stack(const struct reading *reading, const char *line) {
    static const char text[] = "    (no stack)";
    return reading->stack_count > 0 && line_length(line) == sizeof(text) - 1 &&
           strncmp(line, text, sizeof(text) - 1) == 0;
}

static const char *next_line(const char *line) {
    line += line_length(line);
    return line + (*line == '\n');
}

static int read_text(struct reading *reading, const char *text) {
    size_t ignored;
    for (const char *line = text; *line != '\0'; line = next_line(line))
        read_build_id(reading, line);
    for (const char *line = text; *line != '\0'; line = next_line(line)) {
        int r = read_frame(reading, line);
        if (r < 0)
            return r;
        if (r > 0 || read_heading(reading, line) || is_no_stack(reading, line) ||
            parse_build_id(line, &ignored) != NULL)
            continue;
        size_t length = (size_t)(next_line(line) - line);
        memcpy(reading->rest + reading->rest_length, line, length);
        reading->rest_length += length;
    }
    while (reading->rest_length > 0 && reading->rest[reading->rest_length - 1] == '\n')
        reading->rest_length--;
    reading->rest[reading->rest_length] = '\0';
    return 0;
}

static int finish(struct reading *reading, struct memopt_process *process, size_t i) {
    struct memopt_event_stack stacks[STACKS];
    for (size_t k = 0; k < reading->stack_count; k++) {
        const struct stack *stack = &reading->stacks[k];
        stacks[k] =
            (struct memopt_event_stack){role_of(stack->by), stack->by, stack->tid, MEMOPT_NONE};
        int r = stack->count == 0 ? 0
                                  : mo_build_stack(reading->report, stack->frames, stack->count,
                                                   &stacks[k].stack);
        if (r < 0)
            return r;
    }
    read_facts(&reading->event);
    reading->event.text = reading->rest;
    reading->event.stacks = stacks;
    reading->event.stack_count = reading->stack_count;
    return mo_report_set_event(reading->report, process, i, &reading->event, NULL);
}

/* What fails leaves the event as it was. */
static void read_event(struct memopt_report *report, struct memopt_process *process, size_t i) {
    struct reading reading = {.report = report, .event = process->events[i]};
    reading.rest = malloc(strlen(reading.event.text) + 1);
    if (reading.rest != NULL && read_text(&reading, reading.event.text) == 0 &&
        reading.frame_count > 0)
        (void)finish(&reading, process, i);
    free(reading.rest);
    for (size_t k = 0; k < reading.stack_count; k++)
        free(reading.stacks[k].frames);
}

void mo_faults_read(struct memopt_report *report) {
    struct mo_model *model = mo_model_of(report);
    for (size_t i = 0; i < report->process_count; i++)
        for (size_t k = 0; k < model->processes[i].event_count; k++)
            read_event(report, &model->processes[i], k);
}
