/* proc.c - see proc.h. */
#include "core/base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ----------------------------------------------------------------- words */

/* A decimal number at *at, which moves behind it; what follows must not belong
 * to it. */
static int take_number(const char **at, uint64_t *ret_value) {
    const char *c = *at;
    uint64_t value = 0;
    if (*c < '0' || *c > '9')
        return -EINVAL;
    for (; *c >= '0' && *c <= '9'; c++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*c - '0'), &value))
            return -EINVAL;
    if (*c != '\0' && *c != ' ' && *c != '\n')
        return -EINVAL;
    *at = c;
    *ret_value = value;
    return 0;
}

/* Behind the blanks at `at`. */
static const char *skip_blanks(const char *at) {
    return at + strspn(at, " \t");
}

static const char *next_line(const char *line) {
    const char *end = strchr(line, '\n');
    return end == NULL ? NULL : end + 1;
}

/* The bytes up to one of `ends` (or the end) become a string. */
static int copy_word(const char *at, const char *ends, char *ret, size_t size) {
    size_t length = strcspn(at, ends);
    if (length == 0 || length >= size)
        return -EINVAL;
    memcpy(ret, at, length);
    ret[length] = '\0';
    return 0;
}

/* --------------------------------------------------------------- parsers */

int mo_proc_parse_statm(const char *text, uint64_t page, struct mo_proc_memory *ret) {
    uint64_t pages[3];
    for (size_t i = 0; i < 3; i++) {
        text = skip_blanks(text);
        if (take_number(&text, &pages[i]) < 0 || __builtin_mul_overflow(pages[i], page, &pages[i]))
            return -EINVAL;
    }
    *ret = (struct mo_proc_memory){
        .mapped = pages[0],
        .resident = pages[1],
        .file = pages[2] < pages[1] ? pages[2] : pages[1], /* read at different moments */
    };
    return 0;
}

/* "PID (NAME) STATE PPID …": the name may have blanks and brackets of its own. */
int mo_proc_parse_stat(const char *text, uint64_t tick, struct mo_proc_stat *ret) {
    enum { STATE = 3, PARENT = 4, MINOR = 11, MAJOR = 13, START = 22 };
    uint64_t numbers[START + 1] = {0}, start, faults;
    const char *name = strchr(text, '('), *at = strrchr(text, ')');
    if (name == NULL || at == NULL || at < name || at[1] != ' ' || at[2] < 'A' || at[3] != ' ')
        return -EINVAL;
    char state = at[2];
    at += 4;
    for (int field = PARENT; field <= START; field++, at++) {
        int is_wanted = field == PARENT || field == MINOR || field == MAJOR || field == START;
        if (is_wanted && take_number(&at, &numbers[field]) < 0)
            return -EINVAL;
        at += strcspn(at, " ");
        if (*at == '\0' && field < START)
            return -EINVAL;
    }
    if (numbers[PARENT] > INT32_MAX || __builtin_mul_overflow(numbers[START], tick, &start) ||
        __builtin_add_overflow(numbers[MINOR], numbers[MAJOR], &faults))
        return -EINVAL;
    size_t length = (size_t)(strrchr(text, ')') - name - 1);
    if (length >= sizeof(ret->name))
        length = sizeof(ret->name) - 1;
    *ret = (struct mo_proc_stat){
        .state = state,
        .parent = (int64_t)numbers[PARENT],
        .start = start,
        .children_faults = faults,
    };
    memcpy(ret->name, name + 1, length);
    return 0;
}

int mo_proc_parse_status(const char *text, struct mo_proc_sizes *ret) {
    struct mo_proc_sizes sizes;
    if (mo_proc_parse_key(text, "VmHWM:", &sizes.peak) < 0 ||
        mo_proc_parse_key(text, "VmRSS:", &sizes.resident) < 0 ||
        __builtin_mul_overflow(sizes.peak, 1024, &sizes.peak) ||
        __builtin_mul_overflow(sizes.resident, 1024, &sizes.resident))
        return -EINVAL;
    *ret = sizes;
    return 0;
}

/* "some avg10=1.23 avg60=0.00 avg300=0.00 total=0" */
int mo_proc_parse_psi(const char *text, double *ret_some) {
    for (const char *line = text; line != NULL; line = next_line(line)) {
        static const char head[] = "some avg10=";
        if (strncmp(line, head, sizeof(head) - 1) != 0)
            continue;
        const char *at = line + sizeof(head) - 1;
        unsigned whole = 0, part = 0, digits = 0, scale = 1;
        for (; *at >= '0' && *at <= '9' && digits < 4; at++, digits++)
            whole = whole * 10 + (unsigned)(*at - '0');
        if (digits == 0 || whole > 100)
            return -EINVAL;
        if (*at == '.')
            for (at++; *at >= '0' && *at <= '9' && scale < 1000000; at++, scale *= 10)
                part = part * 10 + (unsigned)(*at - '0');
        if (*at != ' ' && *at != '\n' && *at != '\0')
            return -EINVAL;
        double percent = (double)whole + (double)part / (double)scale;
        *ret_some = percent > 100 ? 1 : percent / 100;
        return 0;
    }
    return -EINVAL;
}

int mo_proc_parse_value(const char *text, uint64_t *ret_value) {
    if (strcmp(text, "max") == 0 || strcmp(text, "max\n") == 0) {
        *ret_value = UINT64_MAX;
        return 0;
    }
    uint64_t value;
    if (take_number(&text, &value) < 0 || text[strspn(text, "\n")] != '\0')
        return -EINVAL;
    *ret_value = value;
    return 0;
}

int mo_proc_parse_key(const char *text, const char *key, uint64_t *ret_value) {
    size_t length = strlen(key);
    for (const char *line = text; line != NULL; line = next_line(line))
        if (strncmp(line, key, length) == 0 && (line[length] == ' ' || line[length] == '\t')) {
            const char *at = skip_blanks(line + length);
            return take_number(&at, ret_value);
        }
    return -EINVAL;
}

/* Is `word` in the list at `list`, which has commas and ends at one of `ends`? */
static int in_list(const char *list, const char *ends, const char *word) {
    size_t length = strlen(word);
    size_t left = strcspn(list, ends);
    while (left > 0) {
        size_t item = strcspn(list, ",");
        if (item > left)
            item = left;
        if (item == length && strncmp(list, word, length) == 0)
            return 1;
        if (item < left)
            item++;
        list += item;
        left -= item;
    }
    return 0;
}

/* "4:memory:/path", "0::/path" */
int mo_proc_parse_cgroup(const char *text, const char *controller, char *ret_path, size_t size) {
    for (const char *line = text; line != NULL; line = next_line(line)) {
        const char *list = line + strcspn(line, ":\n");
        if (*list != ':')
            continue;
        list++;
        const char *path = list + strcspn(list, ":\n");
        if (*path != ':' || path[1] != '/')
            continue;
        if (controller[0] == '\0' ? line[0] == '0' && list == line + 2 && *list == ':'
                                  : in_list(list, ":", controller))
            return copy_word(path + 1, "\n", ret_path, size);
    }
    return -EINVAL;
}

/* \040 and the like become what they stand for. */
static int unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from != '\0'; to++) {
        if (*from != '\\') {
            *to = *from++;
            continue;
        }
        unsigned value = 0;
        for (int i = 1; i <= 3; i++) {
            if (from[i] < '0' || from[i] > '7')
                return -EINVAL;
            value = value * 8 + (unsigned)(from[i] - '0');
        }
        if (value == 0 || value > 255)
            return -EINVAL;
        *to = (char)value;
        from += 4;
    }
    *to = '\0';
    return 0;
}

/* "36 31 0:34 ROOT POINT options [optional ...] - TYPE SOURCE SUPER,OPTIONS" */
int mo_proc_parse_mount(const char *text, const char *controller, char *ret_root, size_t root_size,
                        char *ret_point, size_t point_size) {
    for (const char *line = text; line != NULL; line = next_line(line)) {
        const char *fields[5];
        const char *at = line;
        size_t found = 0;
        while (found < 5 && *at != '\n' && *at != '\0') {
            fields[found++] = at;
            at += strcspn(at, " \n");
            at += *at == ' ';
        }
        if (found < 5)
            continue;
        const char *end = line + strcspn(line, "\n");
        const char *dash = strstr(at, " - ");
        if (dash == NULL || dash >= end)
            continue;
        const char *type = dash + 3;
        const char *source = type + strcspn(type, " \n");
        source += *source == ' ';
        const char *options = source + strcspn(source, " \n");
        options += *options == ' ';
        int fits = controller[0] == '\0'
                       ? strncmp(type, "cgroup2 ", 8) == 0
                       : strncmp(type, "cgroup ", 7) == 0 && in_list(options, " \n", controller);
        if (!fits)
            continue;
        char root[4096], point[4096];
        if (copy_word(fields[3], " \n", root, sizeof(root)) < 0 ||
            copy_word(fields[4], " \n", point, sizeof(point)) < 0 || unescape(root) < 0 ||
            unescape(point) < 0 || strlen(root) >= root_size || strlen(point) >= point_size)
            return -EINVAL;
        memcpy(ret_root, root, strlen(root) + 1);
        memcpy(ret_point, point, strlen(point) + 1);
        return 0;
    }
    return -EINVAL;
}

/* --------------------------------------------------------------- readers */

int mo_proc_read(const char *path, char *buffer, size_t size) {
    int fd;
    do
        fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return -errno;
    size_t used = 0;
    int code = 0;
    while (used < size - 1) {
        ssize_t n = read(fd, buffer + used, size - 1 - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            code = -errno;
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    close(fd);
    buffer[used] = '\0';
    return code < 0 ? code : (int)used;
}

int mo_proc_read_of(int64_t pid, const char *name, char *buffer, size_t size) {
    char path[64];
    buffer[0] = '\0';
    if (snprintf(path, sizeof(path), "/proc/%" PRId64 "/%s", pid, name) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    return mo_proc_read(path, buffer, size);
}

int mo_proc_read_exe(int64_t pid, char *buffer, size_t size) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%" PRId64 "/exe", pid);
    ssize_t length = readlink(path, buffer, size - 1);
    buffer[length < 0 ? 0 : length] = '\0';
    return length < 0 ? -errno : (int)length;
}

int mo_proc_read_stat(int64_t pid, struct mo_proc_stat *ret) {
    char text[1024];
    int code = mo_proc_read_of(pid, "stat", text, sizeof(text));
    if (code < 0)
        return code;
    return mo_proc_parse_stat(text, 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK), ret);
}

int mo_proc_read_sizes(int64_t pid, struct mo_proc_sizes *ret) {
    char text[4096];
    int code = mo_proc_read_of(pid, "status", text, sizeof(text));
    return code < 0 ? code : mo_proc_parse_status(text, ret);
}

int mo_proc_read_memory(const char *proc, struct mo_proc_memory *ret) {
    char path[512], text[256];
    if (snprintf(path, sizeof(path), "%s/self/statm", proc) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    int code = mo_proc_read(path, text, sizeof(text));
    if (code < 0)
        return code;
    return mo_proc_parse_statm(text, (uint64_t)sysconf(_SC_PAGESIZE), ret);
}
