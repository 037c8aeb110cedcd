/* lsan.c - see lsan.h. */
#include "config.h"

#include "core/import/lsan.h"

#include "core/base/error.h"
#include "core/model/build.h"
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

/* The next line, without its end, cut to LINE; 0: no more. */
static int next_line(const char **text, const char *end, char line[LINE]) {
    if (*text >= end)
        return 0;
    const char *stop = memchr(*text, '\n', (size_t)(end - *text));
    size_t length = (size_t)((stop == NULL ? end : stop) - *text);
    size_t kept = length < LINE - 1 ? length : LINE - 1;
    memcpy(line, *text, kept);
    line[kept] = '\0';
    for (size_t i = 0; i < kept; i++)
        if (line[i] == '\0')
            line[i] = ' ';
    *text += length + (stop != NULL);
    return 1;
}

/* What is read of a log: at any time a leak or an error is open, to which lines belong, or
 * nothing is. */
enum { CLOSED, LEAK, ERROR };
enum { FAULT, FREED, ALLOCATED, STACKS };

struct leak {
    uint64_t objects, bytes;
    int indirect; /* reachable only through another leak */
};

struct reading {
    struct memopt_report *report;
    size_t process;
    int open;
    struct leak leak;
    char error[LINE];         /* ERROR: its text */
    int stack;                /* that frames belong to, or STACKS: to none */
    int is_in_stack;          /* the last line was a frame of it */
    uint32_t *frames[STACKS]; /* MO_STACK_FRAMES; a leak has the first one only */
    size_t counts[STACKS];
    size_t errors, lost; /* lost: leaks for which the report has no room */
};

/* "Direct leak of 144 byte(s) in 3 object(s) allocated from:" */
static int parse_leak(const char *line, struct leak *ret_leak) {
    static const char direct[] = "Direct leak of ", indirect[] = "Indirect leak of ";
    uint64_t bytes, objects;
    int is_indirect = strncmp(line, indirect, sizeof(indirect) - 1) == 0;
    if (!is_indirect && strncmp(line, direct, sizeof(direct) - 1) != 0)
        return 0;
    line += is_indirect ? sizeof(indirect) - 1 : sizeof(direct) - 1;
    if (sscanf(line, "%20" SCNu64 " byte(s) in %20" SCNu64 " object(s)", &bytes, &objects) != 2)
        return 0;
    *ret_leak = (struct leak){objects, bytes, is_indirect};
    return 1;
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

/* "a.c:5:3" or "a.c:5": cuts the numbers off. */
static uint32_t cut_line(char *place) {
    uint32_t line = 0;
    for (int i = 0; i < 2; i++) {
        char *colon = strrchr(place, ':'), *end;
        if (colon == NULL || colon[1] < '0' || colon[1] > '9')
            break;
        unsigned long number = strtoul(colon + 1, &end, 10);
        if (*end != '\0')
            break;
        line = number <= UINT32_MAX ? (uint32_t)number : 0;
        *colon = '\0';
    }
    return line;
}

/* Cuts " (BuildId: HEX)" off. */
static const char *cut_build_id(char *text) {
    static const char begin[] = " (BuildId: ";
    char *at = strstr(text, begin);
    if (at == NULL)
        return NULL;
    *at = '\0';
    at += sizeof(begin) - 1;
    size_t digits = strspn(at, "0123456789abcdef");
    if (digits == 0 || at[digits] != ')')
        return NULL;
    at[digits] = '\0';
    return at;
}

/* Cuts " (MODULE+0xOFFSET)" off the end; NULL: it does not end so. */
static const char *cut_module(char *text, uint64_t *ret_offset) {
    size_t length = strlen(text);
    char *plus = strrchr(text, '+'), *end;
    if (length == 0 || text[length - 1] != ')' || plus == NULL || strncmp(plus, "+0x", 3) != 0 ||
        strspn(plus + 3, "0123456789abcdef") != (size_t)(text + length - 1 - (plus + 3)))
        return NULL;
    /* most are absolute paths, in which there may be blanks and brackets, as in functions */
    char *absolute = text[0] == '(' ? text : strstr(text, " (/");
    char *open = absolute == NULL || absolute > plus ? plus : absolute + (*absolute == ' ');
    while (open > text && !(open[0] == '(' && open[-1] == ' '))
        open--;
    errno = 0;
    uint64_t offset = strtoull(plus + 1, &end, 16);
    if (*open != '(' || open + 1 == plus || errno != 0)
        return NULL;
    *ret_offset = offset;
    *plus = '\0';
    *open = '\0';
    if (open > text)
        open[-1] = '\0';
    return open + 1;
}

/* "    #1 0x5640 in make /tmp/leak.c:5:3", "    #1 0x5640 in make (module+0x12) (BuildId: 0f)",
 * "    #1 0x5640 (module+0x12)": 1, and *ret_location; 0: another line; -1: a frame that says
 * nothing; a negative errno below that. */
static int parse_frame(struct reading *reading, char *line, int is_leaf, uint32_t *ret_location) {
    unsigned number;
    int used = 0, r = 0;
    if (sscanf(line, " #%9u 0x%*x %n", &number, &used) != 1 || used == 0)
        return 0;
    char *function = line + used;
    int is_named = strncmp(function, "in ", 3) == 0;
    function += is_named ? 3 : 0;
    if (strncmp(function, "__libc_start_", 13) == 0 || (is_leaf && is_noise(function)))
        return -1;
    struct memopt_location location = {MEMOPT_NONE, MEMOPT_UNKNOWN, NULL, 0};
    struct memopt_line its_line = {MEMOPT_NONE, 0};
    const char *build_id = cut_build_id(function);
    const char *module = cut_module(function, &location.address), *file = NULL;
    if (module != NULL)
        r = mo_build_module(reading->report, module, build_id, &location.module);
    else if (is_named) { /* the place is the last word; a function's name may have blanks */
        char *place = strrchr(function, ' ');
        if (place != NULL && strcmp(place, " <null>") == 0) {
            *place = '\0';
        } else if (place != NULL &&
                   ((its_line.line = cut_line(place + 1)) > 0 || place[1] == '/')) {
            *place = '\0';
            file = place + 1;
        }
    }
    if (r == 0 && is_named && *function != '\0') {
        r = mo_build_function(reading->report, function, NULL, file, &its_line.function);
        location.lines = &its_line;
        location.line_count = 1;
    }
    if (r == 0 && location.module == MEMOPT_NONE && location.line_count == 0)
        return -1;
    if (r == 0)
        r = mo_build_location(reading->report, &location, ret_location);
    return r < 0 ? (r == -ENOMEM ? r : -1) : 1;
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
static void take_summary(struct reading *reading, const char *line) {
    static const char start[] = "SUMMARY: ";
    if (reading->open == ERROR && strncmp(line, start, sizeof(start) - 1) == 0 &&
        strstr(line, "leaked in") == NULL)
        snprintf(reading->error, sizeof(reading->error), "%s", line + sizeof(start) - 1);
}

static int close_leak(struct reading *reading) {
    static const struct memopt_value_type types[] = {{"leaked_blocks", "count"},
                                                     {"leaked_bytes", "bytes"}};
    const struct memopt_label label = {"leak", reading->leak.indirect ? "indirect" : "direct"};
    const uint64_t values[] = {reading->leak.objects, reading->leak.bytes};
    struct memopt_sample sample = {.process = (uint32_t)reading->process,
                                   .stack = MEMOPT_NONE,
                                   .value_count = 2,
                                   .values = values,
                                   .labels = &label,
                                   .label_count = 1};
    int r = mo_build_value_types(reading->report, types, 2, &sample.type);
    if (r == 0 && reading->counts[FAULT] > 0)
        r = mo_build_stack(reading->report, reading->frames[FAULT], reading->counts[FAULT],
                           &sample.stack);
    if (r == 0)
        r = mo_build_sample(reading->report, &sample);
    if (r != -ENOSPC)
        return r;
    reading->lost++;
    return 0;
}

static int close_error(struct reading *reading) {
    static const char *const roles[] = {"fault", "freed", "allocated"}, *const words[] = {
                                                                            "happened in",
                                                                            "freed in",
                                                                            "allocated in"};
    struct memopt_process *process = &mo_model_of(reading->report)->processes[reading->process];
    struct memopt_event_stack stacks[STACKS];
    size_t count = 0;
    if (reading->errors++ >= MO_LSAN_ERRORS)
        return 0;
    int r = mo_report_event(reading->report, process, MEMOPT_UNKNOWN, "sanitizer", reading->error,
                            NULL);
    for (size_t i = 0; i < STACKS && r == 0; i++) {
        if (reading->counts[i] == 0)
            continue;
        stacks[count] = (struct memopt_event_stack){roles[i], words[i], 0, MEMOPT_NONE};
        r = mo_build_stack(reading->report, reading->frames[i], reading->counts[i],
                           &stacks[count].stack);
        count += r == 0;
        r = r == -ENOSPC ? 0 : r;
    }
    if (r < 0 || count == 0)
        return r;
    struct memopt_event_report event = process->events[process->event_count - 1];
    event.stacks = stacks;
    event.stack_count = count;
    return mo_report_set_event(reading->report, process, process->event_count - 1, &event, NULL);
}

/* Goes over to another subject. */
static int turn(struct reading *reading, int open) {
    int r = reading->open == LEAK    ? close_leak(reading)
            : reading->open == ERROR ? close_error(reading)
                                     : 0;
    reading->open = open;
    reading->stack = FAULT;
    reading->is_in_stack = 0;
    memset(reading->counts, 0, sizeof(reading->counts));
    return r;
}

/* A line that is no frame: which stack comes next. */
static void read_heading(struct reading *reading, const char *line) {
    if (reading->is_in_stack)
        reading->stack = STACKS;
    reading->is_in_stack = 0;
    if (strncmp(line, "freed by thread ", 16) == 0)
        reading->stack = FREED;
    else if (strstr(line, "allocated by thread ") != NULL)
        reading->stack = ALLOCATED;
}

static int read_line(struct reading *reading, char *line) {
    const char *what;
    uint32_t location;
    struct leak leak;
    int r;
    if (parse_leak(line, &leak)) {
        r = turn(reading, LEAK);
        reading->leak = leak;
        return r;
    }
    if ((what = error_of(line)) != NULL) {
        r = turn(reading, ERROR);
        snprintf(reading->error, sizeof(reading->error), "%s", what);
        return r;
    }
    if (reading->open == CLOSED)
        return 0;
    size_t *count = reading->stack == STACKS ? NULL : &reading->counts[reading->stack];
    r = parse_frame(reading, line, count != NULL && *count == 0, &location);
    if (r < -1)
        return r;
    if (r == 0) {
        take_summary(reading, line);
        if (reading->open == LEAK)
            return turn(reading, CLOSED);
        read_heading(reading, line);
    } else {
        reading->is_in_stack = 1;
        if (r > 0 && count != NULL && *count < MO_STACK_FRAMES)
            reading->frames[reading->stack][(*count)++] = location;
    }
    return 0;
}

int mo_lsan_parse(const char *text, size_t size, struct memopt_report *report, size_t process) {
    const char *end = text + size;
    char line[LINE];
    mo_auto_free uint32_t *frames = calloc((size_t)STACKS * MO_STACK_FRAMES, sizeof(*frames));
    struct reading reading = {.report = report, .process = process};
    int r = frames == NULL ? -ENOMEM : 0;
    for (size_t i = 0; i < STACKS && r == 0; i++)
        reading.frames[i] = frames + i * MO_STACK_FRAMES;
    while (r == 0 && next_line(&text, end, line))
        r = read_line(&reading, line);
    if (r == 0)
        r = turn(&reading, CLOSED);
    int64_t pid = report->processes[process].pid;
    if (reading.errors > MO_LSAN_ERRORS)
        mo_report_note(report, MEMOPT_NOTE_WARNING, pid,
                       "the sanitizer found %zu errors: those after the %dth are left out",
                       reading.errors, MO_LSAN_ERRORS);
    if (reading.lost > 0)
        mo_report_note(report, MEMOPT_NOTE_WARNING, pid,
                       "there are more leaks than a report takes: %zu are left out", reading.lost);
    return r;
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

static void collect_file(int directory, const char *name, int replay,
                         struct memopt_report *report) {
    mo_auto_close int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    mo_auto_free char *text = malloc(LARGEST);
    char more[4096];
    size_t size = 0;
    ssize_t got;
    if (fd < 0 || text == NULL)
        return;
    while (size < LARGEST && (got = read(fd, text + size, LARGEST - size)) > 0)
        size += (size_t)got;
    replay_bytes(replay, text, size);
    while (size == LARGEST && (got = read(fd, more, sizeof(more))) > 0)
        replay_bytes(replay, more, (size_t)got);
    struct mo_model *model = mo_model_of(report);
    struct memopt_process *process =
        process_of(model, strtoll(name + strlen(MO_LSAN_FILE "."), NULL, 10));
    if (process == NULL ||
        mo_lsan_parse(text, size, report, (size_t)(process - model->processes)) < 0)
        mo_report_note(report, MEMOPT_NOTE_WARNING, 0,
                       "out of memory: the report has not all that the sanitizer said");
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
