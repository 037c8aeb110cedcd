/*
 * read.c - files and --set become raw settings, which check.c checks once all of them are
 * known: plugins' tables depend on `plugin_path` and on plugins that are named by path. And
 * the problems that are found, in the order of the files. See parts.h.
 */
#define _GNU_SOURCE /* memrchr, reallocarray */
#include "core/config/parts.h"

#include "core/base/error.h"
#include "core/base/trust.h"
#include "core/plugin/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILE_LIMIT = 1 << 20, /* bytes of a file */
    PROBLEM_LIMIT = 100,  /* of one file: what follows is not read */
};

/* ------------------------------------------------------------------ problems */

/* Makes room for one more item; 0: there is none, and no_memory is set. */
static int grow(struct mo_cfg_loader *loader, void **items, size_t count, size_t *room,
                size_t size) {
    if (count < *room)
        return 1;
    size_t more = *room == 0 ? 64 : *room * 2;
    void *bigger = reallocarray(*items, more, size);
    if (bigger == NULL) {
        loader->no_memory = 1;
        return 0;
    }
    *items = bigger;
    *room = more;
    return 1;
}

const char *mo_loader_keep(struct mo_cfg_loader *loader, const char *text, size_t length) {
    const char *copy = mo_config_copy(loader->config, text, length);
    if (copy == NULL)
        loader->no_memory = 1;
    return copy;
}

int mo_loader_full(const struct mo_cfg_loader *loader, int source) {
    return source >= 0 && loader->sources[source].problems >= PROBLEM_LIMIT;
}

void mo_loader_problem(struct mo_cfg_loader *loader, int source, int line, int code,
                       const char *format, ...) {
    if (code == -ENOMEM) {
        loader->no_memory = 1;
        return;
    }
    if (mo_loader_full(loader, source))
        return;
    char text[MEMOPT_ERROR_MAX + 256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    /* one problem, one line */
    for (char *p = text; (p = strchr(p, '\n')) != NULL && strlen(text) + 2 < sizeof(text);) {
        *p = ' ';
        if (p == text || p[-1] == '?')
            continue;
        memmove(p + 1, p, strlen(p) + 1);
        *p = ';';
    }
    void *items = loader->problems;
    if (!grow(loader, &items, loader->problem_count, &loader->problem_room,
              sizeof(*loader->problems)))
        return;
    loader->problems = items;
    const char *kept = mo_loader_keep(loader, text, strlen(text));
    if (kept == NULL)
        return;
    loader->problems[loader->problem_count] =
        (struct mo_cfg_problem){source, line, code, kept, loader->problem_count};
    loader->problem_count++;
    if (source >= 0)
        loader->sources[source].problems++;
    if (mo_loader_full(loader, source)) {
        /* told once, by itself not counted */
        loader->sources[source].problems = 0;
        mo_loader_problem(loader, source, INT_MAX, -EINVAL,
                          "too many errors, the rest is not looked at");
        loader->sources[source].problems = PROBLEM_LIMIT;
    }
}

static int by_place(const void *a, const void *b) {
    const struct mo_cfg_problem *x = a, *y = b;
    if (x->source != y->source)
        return x->source < y->source ? -1 : 1;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* All problems in the order of the files; returns the first one's code. */
int mo_loader_fail(struct mo_cfg_loader *loader, const struct mo_config_request *request,
                   struct memopt_error *error) {
    enum { RESERVE = 64 }; /* for "and N more" */
    char all[MEMOPT_ERROR_MAX];
    size_t used = 0, untold = 0;
    qsort(loader->problems, loader->problem_count, sizeof(*loader->problems), by_place);
    for (size_t i = 0; i < loader->problem_count; i++) {
        const struct mo_cfg_problem *p = &loader->problems[i];
        char line[MEMOPT_ERROR_MAX + 512];
        const char *label = p->source < 0 ? "built-in defaults" : loader->sources[p->source].label;
        if (p->line > 0 && p->line < INT_MAX)
            snprintf(line, sizeof(line), "%s:%d: %s", label, p->line, p->text);
        else
            snprintf(line, sizeof(line), "%s: %s", label, p->text);
        if (request->each_error != NULL)
            request->each_error(request->context, line);
        size_t length = strlen(line);
        size_t room = sizeof(all) - (i + 1 < loader->problem_count ? RESERVE : 1);
        if (untold > 0 || used + length + 1 > room)
            untold++;
        else
            used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", used > 0 ? "\n" : "",
                                     line);
    }
    if (untold > 0)
        snprintf(all + used, sizeof(all) - used, "%s... and %zu more", used > 0 ? "\n" : "",
                 untold);
    return mo_fail(error, loader->problems[0].code, "%s", all);
}

/* ------------------------------------------------------------------- reading */

/* Of one text while inih works on it. */
struct reader {
    struct mo_cfg_loader *loader;
    int source;
    const char *next, *end;
    int line;            /* number of the line inih has */
    const char *section; /* NULL: before the first header; "": a broken one */
    int given, taken;    /* inih has a line; its handler was called for it */
    char start[40];      /* of that line, for messages */
};

static void add_raw(struct mo_cfg_loader *loader, int source, int line, const char *section,
                    const char *key, const char *value) {
    void *items = loader->raws;
    if (!grow(loader, &items, loader->raw_count, &loader->raw_room, sizeof(*loader->raws)))
        return;
    loader->raws = items;
    loader->raws[loader->raw_count++] = (struct mo_cfg_raw){source, line, section, key, value};
}

int mo_is_blank(char c) {
    return c == ' ' || c == '\t';
}

/* Section headers are read here: inih cuts long names, ignores what follows the
 * ']' and says nothing of a section without keys. */
static void read_header(struct reader *reader, const char *text, size_t length) {
    struct mo_cfg_loader *loader = reader->loader;
    const char *close = memchr(text, ']', length);
    const char *rest = close != NULL ? close + 1 : NULL;
    char quoted[MO_QUOTED_MAX], shown[80];
    snprintf(shown, sizeof(shown), "%.*s", (int)(length < 79 ? length : 79), text);
    reader->section = "";
    while (rest != NULL && rest < text + length && mo_is_blank(*rest))
        rest++;
    if (close == NULL)
        mo_loader_problem(loader, reader->source, reader->line, -EINVAL,
                          "'%s' has no ']': a section is written [NAME]", mo_quoted(shown, quoted));
    else if (rest < text + length && *rest != ';' && *rest != '#')
        mo_loader_problem(loader, reader->source, reader->line, -EINVAL,
                          "'%s' has text after the ']': settings go on lines of their own",
                          mo_quoted(shown, quoted));
    else if (close == text + 1)
        mo_loader_problem(loader, reader->source, reader->line, -EINVAL, "'[]' has no name");
    else {
        const char *name = mo_loader_keep(loader, text + 1, (size_t)(close - text - 1));
        if (name != NULL) {
            reader->section = name;
            add_raw(loader, reader->source, reader->line, name, NULL, NULL);
        }
    }
}

/* What inih did with the line before. */
static void settle(struct reader *reader) {
    if (reader->given && !reader->taken)
        mo_loader_problem(reader->loader, reader->source, reader->line, -EINVAL,
                          "'%s' is not a setting: 'key = value' was expected", reader->start);
    reader->given = reader->taken = 0;
}

/* Gives inih the next line that may be a setting. */
static char *next_line(char *buffer, int size, void *context) {
    struct reader *reader = context;
    struct mo_cfg_loader *loader = reader->loader;
    settle(reader);
    while (reader->next < reader->end && !loader->no_memory &&
           !mo_loader_full(loader, reader->source)) {
        const char *text = reader->next;
        const char *stop = memchr(text, '\n', (size_t)(reader->end - text));
        if (stop == NULL)
            stop = reader->end;
        reader->next = stop < reader->end ? stop + 1 : stop;
        reader->line++;
        if (stop > text && stop[-1] == '\r')
            stop--;
        while (text < stop && mo_is_blank(*text))
            text++; /* indentation means nothing; to inih it would be a continuation */
        size_t length = (size_t)(stop - text);
        size_t i = 0;
        while (i < length && ((unsigned char)text[i] >= 0x20 || text[i] == '\t') && text[i] != 0x7f)
            i++;
        if (i < length) {
            mo_loader_problem(loader, reader->source, reader->line, -EINVAL,
                              text[i] == '\0' ? "the line has a NUL byte: this is not a text file"
                                              : "the line has the control character 0x%02x",
                              (unsigned)(unsigned char)text[i]);
            continue;
        }
        if (length == 0 || *text == ';' || *text == '#')
            continue;
        if (length >= (size_t)size) {
            mo_loader_problem(loader, reader->source, reader->line, -E2BIG,
                              "the line has %zu bytes, more than the %d that are allowed", length,
                              size - 1);
            continue;
        }
        if (*text == '[') {
            read_header(reader, text, length);
            continue;
        }
        memcpy(buffer, text, length);
        buffer[length] = '\0';
        snprintf(reader->start, sizeof(reader->start), "%s", buffer);
        reader->given = 1;
        return buffer;
    }
    return NULL;
}

/* inih calls this for a line that is `key = value`. */
static int take_setting(void *context, const char *inih_section, const char *key,
                        const char *value) {
    (void)inih_section;
    struct reader *reader = context;
    struct mo_cfg_loader *loader = reader->loader;
    char quoted[MO_QUOTED_MAX];
    if (value == NULL || loader->no_memory)
        return 0;
    reader->taken = 1;
    if (*key == '\0')
        mo_loader_problem(loader, reader->source, reader->line, -EINVAL,
                          "there is no key before the '='");
    else if (reader->section == NULL)
        mo_loader_problem(loader, reader->source, reader->line, -EINVAL,
                          "'%s' stands before the first [section]", mo_quoted(key, quoted));
    else if (*reader->section != '\0') {
        const char *kept_key = mo_loader_keep(loader, key, strlen(key));
        const char *kept_value = mo_loader_keep(loader, value, strlen(value));
        if (kept_key != NULL && kept_value != NULL)
            add_raw(loader, reader->source, reader->line, reader->section, kept_key, kept_value);
    }
    return 1;
}

/* Debian's inih has its limits as variables (a line is 200 bytes otherwise);
 * under another name, as their declarations are not the same everywhere. */
extern int inih_max_line __asm__("ini_max_line") __attribute__((weak));

void mo_read_text(struct mo_cfg_loader *loader, int source, const char *text, size_t size) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct reader reader = {.loader = loader, .source = source, .next = text, .end = text + size};
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        reader.next += 3;
    else if (size >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0)) {
        mo_loader_problem(loader, source, 0, -EINVAL, "is UTF-16 text, not UTF-8");
        return;
    }
    pthread_mutex_lock(&lock);
    int before = 0;
    if (&inih_max_line != NULL) {
        before = inih_max_line;
        inih_max_line = MO_LINE_LIMIT;
    }
    int result = ini_parse_stream(next_line, &reader, take_setting, &reader);
    if (&inih_max_line != NULL)
        inih_max_line = before;
    pthread_mutex_unlock(&lock);
    if (result == -2)
        loader->no_memory = 1;
}

int mo_loader_add_source(struct mo_cfg_loader *loader, enum mo_origin_kind kind, const char *label,
                         const char *origin, const char *directory) {
    loader->sources[loader->source_count] =
        (struct mo_cfg_source){kind, label, origin, directory, 0};
    return (int)loader->source_count++;
}

/* The absolute directory of a file; NULL: not to be found out. */
static const char *directory_of(struct mo_cfg_loader *loader, const char *path) {
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (path[0] == '/')
        return mo_loader_keep(loader, path, length);
    char buffer[PATH_MAX], joined[2 * PATH_MAX];
    if (getcwd(buffer, sizeof(buffer)) == NULL)
        return NULL;
    int written = length == 0
                      ? snprintf(joined, sizeof(joined), "%s", buffer)
                      : snprintf(joined, sizeof(joined), "%s/%.*s", buffer, (int)length, path);
    return written < (int)sizeof(joined) ? mo_loader_keep(loader, joined, (size_t)written) : NULL;
}

/* Up to FILE_LIMIT bytes and one more; negative errno. */
static ssize_t read_all(int fd, char *buffer) {
    size_t used = 0;
    while (used < FILE_LIMIT + 1) {
        ssize_t n = read(fd, buffer + used, FILE_LIMIT + 1 - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        used += (size_t)n;
    }
    return (ssize_t)used;
}

/* A file that is not asked for by name may be missing, or lie where we may not
 * look. */
static int may_be_missing(const char *path, int code) {
    struct stat status;
    if (code == ENOENT || code == ENOTDIR)
        return 1;
    return code == EACCES && stat(path, &status) < 0 && errno == EACCES;
}

/* Negative errno; a file that is not to be read has `why` besides. */
static int open_file(const char *path, enum mo_way way, char why[MO_TRUST_WHY]) {
    int fd;
    why[0] = '\0';
    if (way == MO_WAY_FOUND)
        return mo_trust_open(path, 0, why);
    do /* a pipe that is named has a writer, or will have */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (way == MO_WAY_NAMED ? 0 : O_NONBLOCK));
    while (fd < 0 && errno == EINTR);
    struct stat status;
    if (way == MO_WAY_NAMED && fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
        mo_trust_file(fd, why) == -EPERM) {
        mo_note_once("'%s' is read as it is named, though %s", path, why);
        why[0] = '\0';
    }
    return fd < 0 ? -errno : fd;
}

void mo_read_file(struct mo_cfg_loader *loader, const char *path, enum mo_way way) {
    char why[MO_TRUST_WHY];
    mo_auto_close int fd = open_file(path, way, why);
    if (why[0] != '\0') {
        struct stat status; /* a directory is judged before what may not be in it */
        if (lstat(path, &status) == 0 || (errno != ENOENT && errno != ENOTDIR))
            mo_note_once("'%s' is skipped: %s", path, why);
        return;
    }
    if (fd < 0 && way != MO_WAY_NAMED && may_be_missing(path, -fd))
        return;
    int code = fd < 0 ? fd : 0;
    path = mo_loader_keep(loader, path, strlen(path));
    if (path == NULL)
        return;
    const char *directory = directory_of(loader, path);
    int source = mo_loader_add_source(loader, MO_ORIGIN_FILE, path, path, directory);
    if (code < 0) {
        mo_loader_problem(loader, source, 0, code, "can't be read: %s", strerror(-code));
        return;
    }
    /* Not blocking was for opening; a pipe's writer may take its time. */
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    mo_auto_free char *text = malloc(FILE_LIMIT + 1);
    if (text == NULL) {
        loader->no_memory = 1;
        return;
    }
    ssize_t size = read_all(fd, text);
    if (size < 0)
        mo_loader_problem(loader, source, 0, (int)size, "can't be read: %s", strerror((int)-size));
    else if (size > FILE_LIMIT)
        mo_loader_problem(loader, source, 0, -EFBIG, "is larger than the %d KiB that are allowed",
                          FILE_LIMIT / 1024);
    else
        mo_read_text(loader, source, text, (size_t)size);
}

/* `section.key=value`; the last '.' before the '=' ends the section. */
void mo_read_set(struct mo_cfg_loader *loader, const struct mo_config_set *set) {
    const char *text = set->assignment;
    while (mo_is_blank(*text))
        text++;
    const char *equals = strchr(text, '=');
    const char *end = equals;
    char label[256], quoted[MO_QUOTED_MAX];
    while (equals != NULL && end > text && mo_is_blank(end[-1]))
        end--;
    const char *dot = equals != NULL ? memrchr(text, '.', (size_t)(end - text)) : NULL;
    int plain = strcmp(set->label, "--set") == 0;
    snprintf(label, sizeof(label), plain && dot != NULL ? "%s %.*s" : "%s", set->label,
             dot != NULL ? (int)(end - text < 120 ? end - text : 120) : 0, text);
    const char *kept_label = mo_loader_keep(loader, label, strlen(label));
    const char *origin = mo_loader_keep(loader, set->label, strlen(set->label));
    const char *directory = directory_of(loader, "x");
    if (kept_label == NULL || origin == NULL)
        return;
    int source = mo_loader_add_source(loader, MO_ORIGIN_SET, kept_label, origin, directory);
    if (dot == NULL || dot == text || dot + 1 == end) {
        mo_loader_problem(loader, source, 0, -EINVAL, "'%s' is not section.key=value",
                          mo_quoted(text, quoted));
        return;
    }
    const char *value = equals + 1;
    size_t length = strlen(value);
    while (mo_is_blank(*value))
        value++, length--;
    while (length > 0 && mo_is_blank(value[length - 1]))
        length--;
    for (const char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            mo_loader_problem(loader, source, 0, -EINVAL, "'%s' has a control character",
                              mo_quoted(text, quoted));
            return;
        }
    const char *section = mo_loader_keep(loader, text, (size_t)(dot - text));
    const char *key = mo_loader_keep(loader, dot + 1, (size_t)(end - dot - 1));
    value = mo_loader_keep(loader, value, length);
    if (section == NULL || key == NULL || value == NULL)
        return;
    add_raw(loader, source, 0, section, NULL, NULL);
    add_raw(loader, source, 0, section, key, value);
}

void mo_read_user_file(struct mo_cfg_loader *loader) {
    char path[PATH_MAX];
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int written = 0;
    if (xdg != NULL && xdg[0] == '/') /* a relative one is to be ignored, says its standard */
        written = snprintf(path, sizeof(path), "%s/memopt/memopt.ini", xdg);
    else if (home != NULL && home[0] == '/')
        written = snprintf(path, sizeof(path), "%s/.config/memopt/memopt.ini", home);
    if (written > 0 && written < (int)sizeof(path))
        mo_read_file(loader, path, MO_WAY_FOUND);
}
