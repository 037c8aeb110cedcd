/* lsan.c - see lsan.h. */
#include "config.h"

#include "core/import/lsan.h"

#include "core/base/error.h"
#include "core/model/model.h"

#include <memopt/plugin.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of a log, more is not read; it is replayed all the same. */
enum { LARGEST = 16 << 20, LINE = 1024 };

/* ------------------------------------------------------------ the parser */

/* The next line, without its end, cut to LINE; NULL: no more. */
static const char *next_line(const char **text, const char *end, char line[LINE]) {
    if (*text >= end)
        return NULL;
    const char *stop = memchr(*text, '\n', (size_t)(end - *text));
    size_t length = (size_t)((stop == NULL ? end : stop) - *text);
    size_t kept = length < LINE - 1 ? length : LINE - 1;
    memcpy(line, *text, kept);
    line[kept] = '\0';
    for (size_t i = 0; i < kept; i++)
        if (line[i] == '\0')
            line[i] = ' ';
    *text += length + (stop != NULL);
    return line;
}

static uint64_t add(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* "Direct leak of 144 byte(s) in 3 object(s) allocated from:" */
static int parse_leak(const char *line, struct mo_lsan_leak *leak) {
    const char *rest = line;
    memset(leak, 0, sizeof(*leak));
    if (strncmp(line, "Direct leak of ", 15) == 0) {
        rest += 15;
    } else if (strncmp(line, "Indirect leak of ", 17) == 0) {
        leak->indirect = 1;
        rest += 17;
    } else {
        return 0;
    }
    return sscanf(rest, "%20" SCNu64 " byte(s) in %20" SCNu64 " object(s)", &leak->bytes,
                  &leak->objects) == 2;
}

/* Frames of the allocator, the sanitizer and what calls main() say nothing about
 * who leaked. */
static int is_noise(const char *function) {
    static const char *const names[] = {
        "malloc",        "calloc",         "realloc",   "reallocarray", "memalign",
        "aligned_alloc", "posix_memalign", "valloc",    "pvalloc",      "strdup",
        "strndup",       "__strdup",       "__strndup", "wcsdup"};
    if (strncmp(function, "__interceptor_", 14) == 0 ||
        strncmp(function, "___interceptor_", 15) == 0 ||
        strncmp(function, "operator new", 12) == 0 || strncmp(function, "__libc_start_", 13) == 0)
        return 1;
    size_t length = strcspn(function, " (");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strlen(names[i]) == length && strncmp(function, names[i], length) == 0)
            return 1;
    return 0;
}

/* "    #1 0x5640 in make /tmp/leak.c:5:3" gives "make (/tmp/leak.c:5:3)". Returns
 * 0 if the line is no frame, 1 if it is. Without a symbol: "(module+0x12)". */
static int parse_frame(const char *line, char *frame, size_t size) {
    unsigned number;
    int used = 0;
    if (sscanf(line, " #%9u 0x%*x %n", &number, &used) != 1 || used == 0)
        return 0;
    const char *rest = line + used;
    if (strncmp(rest, "in ", 3) == 0)
        rest += 3;
    if (is_noise(rest)) {
        frame[0] = '\0';
        return 1;
    }
    /* the place is the last word; a function's name may have blanks */
    const char *build = strstr(rest, " (BuildId:");
    size_t length = build != NULL ? (size_t)(build - rest) : strlen(rest);
    size_t place = length;
    while (place > 0 && rest[place - 1] != ' ')
        place--;
    if (place == 0)
        snprintf(frame, size, "%.*s", (int)length, rest);
    else if (rest[place] == '(')
        snprintf(frame, size, "%.*s", (int)length, rest);
    else
        snprintf(frame, size, "%.*s (%.*s)", (int)(place - 1), rest, (int)(length - place),
                 rest + place);
    return 1;
}

static void append_frame(char *where, size_t size, const char *frame) {
    size_t used = strlen(where);
    snprintf(where + used, size - used, "%s%s", used > 0 ? " < " : "", frame);
}

/* "==12==ERROR: AddressSanitizer: heap-use-after-free on address …" gives what
 * follows the level; LeakSanitizer's own heading is no error of this kind. */
static const char *error_of(const char *line) {
    static const char *const levels[] = {"ERROR: ", "WARNING: ", "FATAL: "};
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        const char *at = strstr(line, levels[i]);
        /* ThreadSanitizer begins with it, the others with ==PID== */
        if (at == NULL || (at != line && (line[0] != '=' || at[-1] != '=')))
            continue;
        at += strlen(levels[i]);
        const char *sanitizer = strstr(at, "Sanitizer");
        if (sanitizer == NULL || sanitizer - at > 16 ||
            strncmp(at, "LeakSanitizer: detected memory leaks", 36) == 0)
            continue;
        return at;
    }
    return strstr(line, ": runtime error: ") != NULL ? line : NULL;
}

/* "SUMMARY: AddressSanitizer: heap-use-after-free a.c:8 in main" says the place
 * where the heading had addresses. */
static void take_summary(struct mo_lsan_log *log, const char *line) {
    static const char start[] = "SUMMARY: ";
    if (strncmp(line, start, strlen(start)) != 0 || log->error_count == 0 ||
        log->error_count > MO_LSAN_ERRORS || strstr(line, "leaked in") != NULL)
        return;
    char *error = log->errors[log->error_count - 1];
    snprintf(error, sizeof(log->errors[0]), "%.*s", (int)sizeof(log->errors[0]) - 1,
             line + strlen(start));
}

void mo_lsan_parse(const char *text, size_t size, struct mo_lsan_log *ret_log) {
    struct mo_lsan_log *log = ret_log;
    const char *end = text + size;
    char line[LINE], frame[256];
    struct mo_lsan_leak *open = NULL, leak;
    int frames = 0;
    memset(log, 0, sizeof(*log));
    while (next_line(&text, end, line) != NULL) {
        const char *what;
        if (parse_leak(line, &leak)) {
            log->leaked_bytes = add(log->leaked_bytes, leak.bytes);
            log->leaked_objects = add(log->leaked_objects, leak.objects);
            open = NULL;
            if (log->leak_count < MO_LSAN_LEAKS) {
                open = &log->leaks[log->leak_count];
                *open = leak;
            }
            log->leak_count++;
            frames = 0;
        } else if (open != NULL && parse_frame(line, frame, sizeof(frame))) {
            if (frame[0] != '\0' && frames++ < MO_LSAN_FRAMES)
                append_frame(open->where, sizeof(open->where), frame);
        } else if ((what = error_of(line)) != NULL) {
            open = NULL;
            if (log->error_count < MO_LSAN_ERRORS)
                snprintf(log->errors[log->error_count], sizeof(log->errors[0]), "%.*s",
                         (int)sizeof(log->errors[0]) - 1, what);
            log->error_count++;
        } else {
            take_summary(log, line);
            open = NULL;
        }
    }
}

/* ------------------------------------------------------- into the report */

static void replay_bytes(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t done = write(fd, bytes, size);
        if (done < 0 && errno != EINTR)
            return; /* the program's own write would have been lost as well */
        if (done > 0) {
            bytes += done;
            size -= (size_t)done;
        }
    }
}

static struct memopt_process *process_of(struct mo_model *model, int64_t pid) {
    for (size_t i = 0; i < model->report.process_count; i++)
        if (model->processes[i].pid == pid)
            return &model->processes[i];
    struct memopt_process *process = mo_model_add_process(model);
    if (process != NULL) {
        process->pid = pid;
        process->binding = "none";
    }
    return process;
}

static void add_log(struct memopt_report *report, int64_t pid, const struct mo_lsan_log *log) {
    struct memopt_process *process = process_of(mo_model_of(report), pid);
    if (process == NULL)
        return;
    for (size_t i = 0; i < log->error_count && i < MO_LSAN_ERRORS; i++)
        mo_report_event(report, process, MEMOPT_UNKNOWN, "sanitizer", log->errors[i], NULL);
    if (log->leak_count > 0)
        mo_report_note(report, MEMOPT_NOTE_ERROR, pid,
                       "LeakSanitizer: %" PRIu64 " byte%s leaked in %" PRIu64
                       " block%s from %zu place%s",
                       log->leaked_bytes, mo_plural(log->leaked_bytes), log->leaked_objects,
                       mo_plural(log->leaked_objects), log->leak_count, mo_plural(log->leak_count));
    for (size_t i = 0; i < log->leak_count && i < MO_LSAN_LEAKS; i++) {
        const struct mo_lsan_leak *leak = &log->leaks[i];
        mo_report_event(report, process, MEMOPT_UNKNOWN, "leak",
                        mo_report_printf(report, "%" PRIu64 " byte%s in %" PRIu64 " block%s%s: %s",
                                         leak->bytes, mo_plural(leak->bytes), leak->objects,
                                         mo_plural(leak->objects),
                                         leak->indirect ? ", reachable through another leak" : "",
                                         leak->where[0] == '\0' ? "no stack" : leak->where),
                        NULL);
    }
}

static void collect_file(int directory, const char *name, int replay,
                         struct memopt_report *report) {
    mo_auto_close int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    mo_auto_free char *text = malloc(LARGEST);
    mo_auto_free struct mo_lsan_log *log = malloc(sizeof(*log));
    char more[4096];
    size_t size = 0;
    ssize_t got;
    if (fd < 0 || text == NULL || log == NULL)
        return;
    while (size < LARGEST && (got = read(fd, text + size, LARGEST - size)) > 0)
        size += (size_t)got;
    replay_bytes(replay, text, size);
    while (size == LARGEST && (got = read(fd, more, sizeof(more))) > 0)
        replay_bytes(replay, more, (size_t)got);
    mo_lsan_parse(text, size, log);
    add_log(report, strtoll(name + strlen(MO_LSAN_FILE "."), NULL, 10), log);
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_log(const struct dirent *entry) {
    return strncmp(entry->d_name, MO_LSAN_FILE ".", strlen(MO_LSAN_FILE ".")) == 0;
}

void mo_lsan_collect(const char *directory, int replay, struct memopt_report *report) {
    struct dirent **entries;
    int count = scandir(directory, &entries, is_log, by_name);
    mo_auto_close int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < count; i++) {
        if (fd >= 0)
            collect_file(fd, entries[i]->d_name, replay, report);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}
