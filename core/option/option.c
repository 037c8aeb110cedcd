/*
 * option.c - see option.h.
 *
 *   1. words: case, quoting
 *   2. numbers with units
 *   3. one block for each type: parse, print, compare, unset
 *   4. the table of types, and what callers use
 */
#define _GNU_SOURCE /* strtod_l, secure_getenv */
#include "core/option/option.h"

#include "core/base/error.h"
#include "core/base/sysmem.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *sys_alloc(void *context, size_t size) {
    (void)context;
    return mo_sys_alloc(size);
}
const struct mo_allocator mo_sys_allocator = {sys_alloc, NULL};

/* ------------------------------------------------------------------ 1. words */

static int is_blank(char c) {
    return c == ' ' || c == '\t';
}

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* ASCII only, whatever the locale says. */
static char lower(char c) {
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static int same_word(const char *a, const char *b) {
    while (*a != '\0' && lower(*a) == lower(*b))
        a++, b++;
    return lower(*a) == lower(*b);
}

const char *mo_quoted(const char *text, char buffer[MO_QUOTED_MAX]) {
    size_t length = strlen(text), kept = length;
    if (length >= MO_QUOTED_MAX) {
        kept = MO_QUOTED_MAX - 4;
        while (kept > 0 && ((unsigned char)text[kept] & 0xc0) == 0x80)
            kept--; /* not within a UTF-8 character */
    }
    for (size_t i = 0; i < kept; i++)
        buffer[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    strcpy(buffer + kept, kept < length ? "..." : "");
    return buffer;
}

/* ---------------------------------------------------- 2. numbers with units */

struct unit {
    const char *name;
    uint64_t factor;
};

/* Reads `12`, `1.5` at *text and moves on; the value is whole + fraction / scale. */
static int read_decimal(const char **text, uint64_t *ret_whole, uint64_t *ret_fraction,
                        uint64_t *ret_scale) {
    const char *p = *text;
    uint64_t whole = 0, fraction = 0, scale = 1;
    if (!is_digit(*p))
        return -EINVAL;
    int too_large = 0;
    for (; is_digit(*p); p++)
        if (__builtin_mul_overflow(whole, 10u, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
            too_large = 1;
    if (*p == '.') {
        p++;
        if (!is_digit(*p))
            return -EINVAL;
        for (; is_digit(*p); p++) {
            if (scale >= UINT64_C(1000000000000000000))
                continue; /* below any unit */
            fraction = fraction * 10 + (uint64_t)(*p - '0');
            scale *= 10;
        }
    }
    *text = p;
    *ret_whole = whole;
    *ret_fraction = fraction;
    *ret_scale = scale;
    return too_large ? -ERANGE : 0;
}

/* One number and its unit, added to *sum. The value all ones is kept for
 * "unset". A fraction may not go below one of the smallest unit by itself
 * ("1.5" bytes); what a larger unit leaves below it is dropped. */
static int read_quantity(const char **text, const struct unit *units, uint64_t *sum) {
    uint64_t whole, fraction, scale, value;
    int result = read_decimal(text, &whole, &fraction, &scale);
    if (result == -EINVAL)
        return result;
    const char *p = *text;
    while (is_blank(*p))
        p++;
    char name[8];
    size_t n = 0;
    while (*p != '\0' && !is_digit(*p) && !is_blank(*p)) {
        if (n + 1 >= sizeof(name))
            return -EINVAL;
        name[n++] = *p++;
    }
    name[n] = '\0';
    for (; units->name != NULL && !same_word(units->name, name); units++)
        ;
    if (units->name == NULL)
        return -EINVAL;
    if (units->factor == 1 && fraction != 0)
        return -EINVAL;
    if (units->factor == 0 && (whole != 0 || fraction != 0 || result != 0))
        return -EINVAL; /* only zero needs no unit */
    *text = p;
    if (result < 0 || __builtin_mul_overflow(whole, units->factor, &value))
        return -ERANGE;
    uint64_t part = (uint64_t)((unsigned __int128)fraction * units->factor / scale);
    if (__builtin_add_overflow(value, part, &value) || __builtin_add_overflow(*sum, value, sum) ||
        *sum == UINT64_MAX)
        return -ERANGE;
    return 0;
}

static const struct unit size_units[] = {
    {"", 1},
    {"B", 1},
    {"K", 1ull << 10},
    {"KiB", 1ull << 10},
    {"kB", 1000ull},
    {"M", 1ull << 20},
    {"MiB", 1ull << 20},
    {"MB", 1000000ull},
    {"G", 1ull << 30},
    {"GiB", 1ull << 30},
    {"GB", 1000000000ull},
    {"T", 1ull << 40},
    {"TiB", 1ull << 40},
    {"TB", 1000000000000ull},
    {"P", 1ull << 50},
    {"PiB", 1ull << 50},
    {"PB", 1000000000000000ull},
    {"E", 1ull << 60},
    {"EiB", 1ull << 60},
    {"EB", 1000000000000000000ull},
    {NULL, 0},
};
#define US 1000ull
#define MS (1000 * US)
#define SECOND (1000 * MS)
static const struct unit duration_units[] = {
    {"", 0}, /* see read_quantity() */
    {"ns", 1},
    {"us", US},
    {"\xc2\xb5s", US}, /* the micro sign, and Greek mu */
    {"\xce\xbcs", US},
    {"ms", MS},
    {"s", SECOND},
    {"sec", SECOND},
    {"m", 60 * SECOND},
    {"min", 60 * SECOND},
    {"h", 3600 * SECOND},
    {"d", 86400 * SECOND},
    {NULL, 0},
};

int mo_parse_size(const char *text, uint64_t *ret_bytes) {
    uint64_t value = 0;
    int result = read_quantity(&text, size_units, &value);
    if (*text != '\0' && result != -EINVAL)
        result = -EINVAL;
    if (result < 0)
        return result;
    *ret_bytes = value;
    return 0;
}

/* Parts add up: `1h 30m`. */
int mo_parse_duration(const char *text, uint64_t *ret_nanoseconds) {
    uint64_t value = 0;
    int result = 0;
    do {
        int part = read_quantity(&text, duration_units, &value);
        if (part == -EINVAL)
            return part;
        if (part < 0)
            result = part;
        while (is_blank(*text))
            text++;
    } while (*text != '\0');
    if (result < 0)
        return result;
    *ret_nanoseconds = value;
    return 0;
}

/* Decimal with an optional exponent; strtod would also take hex, inf and nan,
 * and the locale's decimal point. glibc's newlocale(LC_ALL, "C") hands out a
 * constant and strtod_l does not allocate, so this may run in the program. */
static int read_number(const char *text, const char **ret_end, double *ret_number) {
    const char *p = text;
    if (*p == '+' || *p == '-')
        p++;
    const char *digits = p;
    size_t count = 0;
    for (; is_digit(*p) || (*p == '.' && memchr(digits, '.', (size_t)(p - digits)) == NULL); p++)
        count += (size_t)is_digit(*p);
    if (count == 0 || p[-1] == '.')
        return -EINVAL;
    if (lower(*p) == 'e') {
        p++;
        if (*p == '+' || *p == '-')
            p++;
        if (!is_digit(*p))
            return -EINVAL;
        while (is_digit(*p))
            p++;
    }
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0)
        return -ENOMEM;
    char *end;
    double value = strtod_l(text, &end, c);
    freelocale(c);
    if (end != p)
        return -EINVAL;
    if (!isfinite(value))
        return -ERANGE;
    *ret_end = p;
    *ret_number = value;
    return 0;
}

int mo_parse_number(const char *text, double *ret_number) {
    const char *end;
    double value;
    int result = read_number(text, &end, &value);
    if (result == 0 && *end != '\0')
        result = -EINVAL;
    if (result == 0)
        *ret_number = value;
    return result;
}

/* -------------------------------------------------------------- 3. the types */

union value {
    int flag; /* BOOL, ENUM */
    int64_t integer;
    uint64_t amount; /* SIZE, DURATION */
    double number;   /* RATIO, NUMBER */
    struct memopt_list list;
    const char *text; /* PATH, STRING */
};

struct request {
    const struct memopt_option *option;
    const char *directory;
    int store; /* 0: validate only, allocate nothing */
    const struct mo_allocator *allocator;
    struct memopt_error *error;
};

struct type {
    const char *name;     /* "size" */
    const char *expected; /* "a size (bytes, …)" */
    size_t size;
    /* 0, or negative with the error filled in unless it is -EINVAL or -ERANGE:
     * these are told in the same words for every type. */
    int (*parse)(const struct request *request, const char *text, union value *ret);
    size_t (*print)(const struct memopt_option *option, const union value *value, char *buffer,
                    size_t size);
    int (*compare)(const union value *a, const union value *b);
    union value unset;
};

#define COMPARE(A, B) (((A) > (B)) - ((A) < (B)))
#define PRINT(...) ((size_t)snprintf(buffer, size, __VA_ARGS__))

static int compare_flag(const union value *a, const union value *b) {
    return COMPARE(a->flag, b->flag);
}
static int compare_integer(const union value *a, const union value *b) {
    return COMPARE(a->integer, b->integer);
}
static int compare_amount(const union value *a, const union value *b) {
    return COMPARE(a->amount, b->amount);
}
static int compare_number(const union value *a, const union value *b) {
    if (isnan(a->number) || isnan(b->number))
        return COMPARE(isnan(a->number), isnan(b->number));
    return COMPARE(a->number, b->number);
}
static int compare_text(const union value *a, const union value *b) {
    if (a->text == NULL || b->text == NULL)
        return COMPARE(a->text != NULL, b->text != NULL);
    return strcmp(a->text, b->text);
}
static int compare_list(const union value *a, const union value *b) {
    if (a->list.count != b->list.count)
        return COMPARE(a->list.count, b->list.count);
    for (size_t i = 0; i < a->list.count; i++) {
        int result = strcmp(a->list.items[i], b->list.items[i]);
        if (result != 0)
            return result;
    }
    return 0;
}

static int parse_bool(const struct request *request, const char *text, union value *ret) {
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
    (void)request;
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (same_word(text, words[i])) {
            ret->flag = (int)(i % 2);
            return 0;
        }
    return -EINVAL;
}
static size_t print_bool(const struct memopt_option *option, const union value *value, char *buffer,
                         size_t size) {
    (void)option;
    return PRINT("%s", value->flag ? "yes" : "no");
}

static int parse_int(const struct request *request, const char *text, union value *ret) {
    (void)request;
    int negative = *text == '-';
    if (*text == '-' || *text == '+')
        text++;
    if (!is_digit(*text))
        return -EINVAL;
    int64_t value = 0;
    int too_large = 0;
    for (; is_digit(*text); text++) {
        int digit = *text - '0';
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value))
            too_large = 1;
    }
    if (*text != '\0')
        return -EINVAL;
    if (too_large || value == INT64_MIN)
        return -ERANGE;
    ret->integer = value;
    return 0;
}
static size_t print_int(const struct memopt_option *option, const union value *value, char *buffer,
                        size_t size) {
    (void)option;
    return PRINT("%lld", (long long)value->integer);
}

static int parse_size(const struct request *request, const char *text, union value *ret) {
    (void)request;
    return mo_parse_size(text, &ret->amount);
}
/* In the largest unit that leaves no fraction. */
static size_t print_amount(uint64_t amount, const struct unit *units, size_t count, char *buffer,
                           size_t size) {
    size_t best = 0;
    for (size_t i = 1; i < count && amount != 0; i++)
        if (amount % units[i].factor == 0)
            best = i;
    return PRINT("%llu%s", (unsigned long long)(amount / units[best].factor), units[best].name);
}
static size_t print_size(const struct memopt_option *option, const union value *value, char *buffer,
                         size_t size) {
    static const struct unit units[] = {
        {"", 1},
        {"KiB", 1ull << 10},
        {"MiB", 1ull << 20},
        {"GiB", 1ull << 30},
        {"TiB", 1ull << 40},
        {"PiB", 1ull << 50},
        {"EiB", 1ull << 60},
    };
    (void)option;
    return print_amount(value->amount, units, sizeof(units) / sizeof(*units), buffer, size);
}

static int parse_duration(const struct request *request, const char *text, union value *ret) {
    (void)request;
    return mo_parse_duration(text, &ret->amount);
}
static size_t print_duration(const struct memopt_option *option, const union value *value,
                             char *buffer, size_t size) {
    static const struct unit units[] = {
        {"ns", 1},
        {"us", US},
        {"ms", MS},
        {"s", SECOND},
        {"m", 60 * SECOND},
        {"h", 3600 * SECOND},
        {"d", 86400 * SECOND},
    };
    (void)option;
    return print_amount(value->amount, units, sizeof(units) / sizeof(*units), buffer, size);
}

static int parse_ratio(const struct request *request, const char *text, union value *ret) {
    (void)request;
    const char *end;
    double value;
    int result = read_number(text, &end, &value);
    if (result < 0)
        return result;
    if (end[0] == '%' && end[1] == '\0')
        value /= 100;
    else if (*end != '\0')
        return -EINVAL;
    ret->number = value;
    return 0;
}
static int parse_number(const struct request *request, const char *text, union value *ret) {
    (void)request;
    return mo_parse_number(text, &ret->number);
}
/* As few digits as read back to the same; '.' whatever the locale prints. */
static size_t print_number(const struct memopt_option *option, const union value *value,
                           char *buffer, size_t size) {
    (void)option;
    char text[64];
    for (int precision = 15; precision <= 17; precision++) {
        char raw[64];
        snprintf(raw, sizeof(raw), "%.*g", precision, value->number);
        size_t n = 0;
        for (const char *p = raw; *p != '\0'; p++) {
            if (is_digit(*p) || *p == '-' || *p == '+' || *p == 'e')
                text[n++] = *p;
            else if (n > 0 && text[n - 1] != '.')
                text[n++] = '.';
        }
        text[n] = '\0';
        double back;
        if (mo_parse_number(text, &back) == 0 && back == value->number)
            break;
    }
    return PRINT("%s", text);
}

static int parse_enum(const struct request *request, const char *text, union value *ret) {
    const char *const *choices = request->option->choices;
    for (int i = 0; choices != NULL && choices[i] != NULL; i++)
        if (same_word(choices[i], text)) {
            ret->flag = i;
            return 0;
        }
    return -EINVAL;
}
static size_t print_enum(const struct memopt_option *option, const union value *value, char *buffer,
                         size_t size) {
    return PRINT("%s", option->choices[value->flag]);
}

static void *take(const struct request *request, size_t size, int *ret_result) {
    void *p = request->allocator->alloc(request->allocator->context, size);
    if (p == NULL)
        *ret_result = mo_fail(request->error, -ENOMEM, "out of memory");
    return p;
}

/* Where the item that begins at `text` ends; *ret_length is without blanks. */
static const char *list_item(const char **text, size_t *ret_length) {
    const char *p = *text;
    while (is_blank(*p))
        p++;
    const char *end = p + strcspn(p, ",");
    *text = p;
    size_t length = (size_t)(end - p);
    while (length > 0 && is_blank(p[length - 1]))
        length--;
    *ret_length = length;
    return end;
}

static int choice_of(const char *const *choices, const char *item, size_t length) {
    for (; *choices != NULL; choices++)
        if (strlen(*choices) == length && memcmp(*choices, item, length) == 0)
            return 1;
    return 0;
}

static int parse_list(const struct request *request, const char *text, union value *ret) {
    const struct memopt_option *option = request->option;
    char quoted[MO_QUOTED_MAX];
    size_t count = 0, bytes = 0, length;
    while (is_blank(*text))
        text++;
    for (const char *p = text, *end; *text != '\0'; p = end + 1) {
        end = list_item(&p, &length);
        if (length == 0)
            return mo_fail(request->error, -EINVAL,
                           "'%s' is '%s', which has an empty item (items are separated by commas)",
                           option->key, mo_quoted(text, quoted));
        if (option->choices != NULL && !choice_of(option->choices, p, length)) {
            char item[MO_QUOTED_MAX + 4], allowed[512];
            snprintf(item, sizeof(item), "%.*s", (int)(length < 100 ? length : 100), p);
            mo_option_describe(option, allowed, sizeof(allowed));
            struct mo_nearest nearest = {.word = item};
            for (size_t i = 0; option->choices[i] != NULL; i++)
                mo_nearest_try(&nearest, option->choices[i]);
            mo_fail(request->error, -EINVAL, "'%s' has '%s', not %s%s%s%s", option->key,
                    mo_quoted(item, quoted), allowed,
                    nearest.best != NULL ? "; did you mean '" : "",
                    nearest.best != NULL ? nearest.best : "", nearest.best != NULL ? "'?" : "");
            return -EINVAL;
        }
        const char *q = text;
        size_t other;
        for (const char *stop; q < p; q = stop + 1) {
            stop = list_item(&q, &other);
            if (q < p && other == length && memcmp(q, p, length) == 0)
                return mo_fail(request->error, -EINVAL, "'%s' is '%s', which has an item twice",
                               option->key, mo_quoted(text, quoted));
        }
        count++;
        bytes += length + 1;
        if (*end == '\0')
            break;
    }
    ret->list.count = 0;
    ret->list.items = NULL;
    if (!request->store || count == 0)
        return 0;
    int result = 0;
    char *memory = take(request, count * sizeof(char *) + bytes, &result);
    if (memory == NULL)
        return result;
    const char **items = (const char **)(void *)memory;
    char *out = memory + count * sizeof(char *);
    for (size_t i = 0; i < count; i++) {
        const char *end = list_item(&text, &length);
        memcpy(out, text, length);
        out[length] = '\0';
        items[i] = out;
        out += length + 1;
        text = end + 1;
    }
    ret->list.count = count;
    ret->list.items = items;
    return 0;
}
static size_t print_list(const struct memopt_option *option, const union value *value, char *buffer,
                         size_t size) {
    (void)option;
    size_t used = 0;
    if (size > 0)
        buffer[0] = '\0';
    for (size_t i = 0; i < value->list.count; i++)
        used += (size_t)snprintf(used < size ? buffer + used : NULL, used < size ? size - used : 0,
                                 "%s%s", i > 0 ? ", " : "", value->list.items[i]);
    return used;
}

static int parse_string(const struct request *request, const char *text, union value *ret) {
    int result = 0;
    ret->text = NULL;
    if (!request->store)
        return 0;
    size_t length = strlen(text) + 1;
    char *copy = take(request, length, &result);
    if (copy == NULL)
        return result;
    ret->text = memcpy(copy, text, length);
    return 0;
}
static size_t print_text(const struct memopt_option *option, const union value *value, char *buffer,
                         size_t size) {
    (void)option;
    return PRINT("%s", value->text);
}

static int parse_path(const struct request *request, const char *text, union value *ret) {
    const char *base = "";
    char quoted[MO_QUOTED_MAX];
    ret->text = NULL;
    if (*text == '\0')
        return 0;
    if (text[0] == '~' && (text[1] == '/' || text[1] == '\0')) {
        base = secure_getenv("HOME");
        if (base == NULL || base[0] != '/')
            return mo_fail(request->error, -EINVAL,
                           "'%s' is '%s', but $HOME is not there to replace the '~'",
                           request->option->key, mo_quoted(text, quoted));
        text++;
    } else if (text[0] != '/') {
        base = request->directory;
        if (base == NULL)
            return mo_fail(request->error, -EINVAL, "'%s' is '%s', not an absolute path",
                           request->option->key, mo_quoted(text, quoted));
        while (text[0] == '.' && (text[1] == '/' || text[1] == '\0'))
            text += 1 + strspn(text + 1, "/");
    }
    if (!request->store)
        return 0;
    int result = 0;
    size_t nbase = strlen(base), ntext = strlen(text);
    int slash = nbase > 0 && base[nbase - 1] != '/' && text[0] != '/' && text[0] != '\0';
    char *path = take(request, nbase + (size_t)slash + ntext + 1, &result);
    if (path == NULL)
        return result;
    memcpy(path, base, nbase);
    if (slash)
        path[nbase++] = '/';
    memcpy(path + nbase, text, ntext + 1);
    ret->text = path;
    return 0;
}

/* -------------------------------------------------- 4. the table, the callers */

static const struct type types[] = {
    [MEMOPT_BOOL] =
        {"bool", "yes or no", sizeof(int), parse_bool, print_bool, compare_flag, {.flag = -1}},
    [MEMOPT_INT] = {"int",
                    "a whole number",
                    sizeof(int64_t),
                    parse_int,
                    print_int,
                    compare_integer,
                    {.integer = INT64_MIN}},
    [MEMOPT_SIZE] = {"size",
                     "a size (bytes, or a number with KiB, MiB, GiB, TiB)",
                     sizeof(uint64_t),
                     parse_size,
                     print_size,
                     compare_amount,
                     {.amount = UINT64_MAX}},
    [MEMOPT_DURATION] = {"duration",
                         "a duration (a number with ns, us, ms, s, m, h or d)",
                         sizeof(uint64_t),
                         parse_duration,
                         print_duration,
                         compare_amount,
                         {.amount = UINT64_MAX}},
    [MEMOPT_RATIO] = {"ratio",
                      "a ratio (0.8 or 80%)",
                      sizeof(double),
                      parse_ratio,
                      print_number,
                      compare_number,
                      {.number = (double)NAN}},
    [MEMOPT_NUMBER] = {"number",
                       "a number (such as 0.5 or 1e-3)",
                       sizeof(double),
                       parse_number,
                       print_number,
                       compare_number,
                       {.number = (double)NAN}},
    [MEMOPT_ENUM] = {"enum", "", sizeof(int), parse_enum, print_enum, compare_flag, {.flag = -1}},
    [MEMOPT_LIST] = {"list",
                     "a list (items separated by commas)",
                     sizeof(struct memopt_list),
                     parse_list,
                     print_list,
                     compare_list,
                     {.list = {0, NULL}}},
    [MEMOPT_PATH] = {"path",
                     "a path",
                     sizeof(const char *),
                     parse_path,
                     print_text,
                     compare_text,
                     {.text = NULL}},
    [MEMOPT_STRING] = {"string",
                       "a text",
                       sizeof(const char *),
                       parse_string,
                       print_text,
                       compare_text,
                       {.text = NULL}},
};

static const struct type *type_of(uint32_t type) {
    return type < sizeof(types) / sizeof(*types) && types[type].name != NULL ? &types[type] : NULL;
}

size_t mo_option_count(struct mo_option_table table) {
    size_t count = 0;
    while (mo_option_at(table, count) != NULL)
        count++;
    return count;
}

const struct memopt_option *mo_option_at(struct mo_option_table table, size_t index) {
    if (table.first == NULL)
        return NULL;
    const char *row = (const char *)table.first;
    for (size_t i = 0;; i++, row += table.stride) {
        const struct memopt_option *option = (const struct memopt_option *)(const void *)row;
        if (option->key == NULL)
            return NULL;
        if (i == index)
            return option;
    }
}

const struct memopt_option *mo_option_find(struct mo_option_table table, const char *key) {
    const struct memopt_option *option;
    for (size_t i = 0; (option = mo_option_at(table, i)) != NULL; i++)
        if (strcmp(option->key, key) == 0)
            return option;
    return NULL;
}

const char *mo_option_nearest(struct mo_option_table table, const char *key) {
    struct mo_nearest nearest = {.word = key};
    const struct memopt_option *option;
    for (size_t i = 0; (option = mo_option_at(table, i)) != NULL; i++)
        mo_nearest_try(&nearest, option->key);
    return nearest.best;
}

/* What every failure of a value has in common: the key, the value, what is
 * allowed and what was probably meant. */
static int refuse(const struct request *request, const struct type *type, const char *text,
                  int code) {
    const struct memopt_option *option = request->option;
    char quoted[MO_QUOTED_MAX], allowed[512];
    mo_quoted(text, quoted);
    if (option->type == MEMOPT_ENUM) {
        mo_option_describe(option, allowed, sizeof(allowed));
        struct mo_nearest nearest = {.word = text};
        for (size_t i = 0; option->choices != NULL && option->choices[i] != NULL; i++)
            mo_nearest_try(&nearest, option->choices[i]);
        if (nearest.best != NULL)
            return mo_fail(request->error, code, "'%s' is '%s', not %s; did you mean '%s'?",
                           option->key, quoted, allowed, nearest.best);
        return mo_fail(request->error, code, "'%s' is '%s', not %s", option->key, quoted, allowed);
    }
    if (code == -ERANGE)
        return mo_fail(request->error, code, "'%s' is '%s', too large to be %s", option->key,
                       quoted, type->expected);
    if (*text == '\0')
        return mo_fail(request->error, code, "'%s' is empty, not %s", option->key, type->expected);
    return mo_fail(request->error, code, "'%s' is '%s', not %s%s%s%s", option->key, quoted,
                   type->expected, option->unit != NULL ? " of " : "",
                   option->unit != NULL ? option->unit : "",
                   option->type == MEMOPT_DURATION && text[strspn(text, "0123456789.")] == '\0'
                       ? "; a unit is missing"
                       : "");
}

/* -1: below, 1: above, 0: within. A bound that does not parse is none; the
 * registry and tests check tables. */
static int outside(const struct request *request, const struct type *type,
                   const union value *value) {
    struct request quiet = *request;
    union value bound;
    quiet.error = NULL;
    const char *min = request->option->min, *max = request->option->max;
    if (min != NULL && type->parse(&quiet, min, &bound) == 0 && type->compare(value, &bound) < 0)
        return -1;
    if (max != NULL && type->parse(&quiet, max, &bound) == 0 && type->compare(value, &bound) > 0)
        return 1;
    return 0;
}

int mo_option_parse(const struct memopt_option *option, const char *text, const char *directory,
                    void *settings, const struct mo_allocator *allocator,
                    struct memopt_error *error) {
    /* list, path and enum parsers explain some failures themselves */
    struct memopt_error own;
    own.code = 0;
    struct request request = {option, directory, settings != NULL, allocator, &own};
    const struct type *type = type_of(option->type);
    if (type == NULL)
        return mo_fail(error, -EINVAL, "'%s' has the unknown type %u", option->key,
                       (unsigned)option->type);
    union value value = type->unset;
    if (*text != '\0' || option->value != NULL) {
        int result = type->parse(&request, text, &value);
        if (result < 0 && own.code == 0)
            refuse(&request, type, text, result);
        if (result == 0 && outside(&request, type, &value) != 0) {
            char quoted[MO_QUOTED_MAX], range[512];
            mo_option_describe(option, range, sizeof(range));
            result = mo_fail(&own, -ERANGE, "'%s' is '%s', not within %s%s%s", option->key,
                             mo_quoted(text, quoted), range, option->unit != NULL ? " " : "",
                             option->unit != NULL ? option->unit : "");
        }
        if (result < 0)
            return mo_fail(error, own.code, "%s", own.message);
    }
    if (settings != NULL)
        memcpy((char *)settings + option->offset, &value, type->size);
    return 0;
}

int mo_option_default(const struct memopt_option *option, void *settings,
                      const struct mo_allocator *allocator, struct memopt_error *error) {
    return mo_option_parse(option, option->value != NULL ? option->value : "", NULL, settings,
                           allocator, error);
}

int mo_options_init(struct mo_option_table table, void *settings,
                    const struct mo_allocator *allocator, struct memopt_error *error) {
    const struct memopt_option *option;
    for (size_t i = 0; (option = mo_option_at(table, i)) != NULL; i++) {
        int result = mo_option_default(option, settings, allocator, error);
        if (result < 0)
            return result;
    }
    return 0;
}

static union value field(const struct memopt_option *option, const struct type *type,
                         const void *settings) {
    union value value = type->unset;
    memcpy(&value, (const char *)settings + option->offset, type->size);
    return value;
}

int mo_option_is_unset(const struct memopt_option *option, const void *settings) {
    const struct type *type = type_of(option->type);
    if (type == NULL)
        return 1;
    union value value = field(option, type, settings);
    return option->type != MEMOPT_LIST && type->compare(&value, &type->unset) == 0;
}

size_t mo_option_print(const struct memopt_option *option, const void *settings, char *buffer,
                       size_t size) {
    if (mo_option_is_unset(option, settings)) {
        if (size > 0)
            buffer[0] = '\0';
        return 0;
    }
    const struct type *type = type_of(option->type);
    union value value = field(option, type, settings);
    return type->print(option, &value, buffer, size);
}

int mo_option_compare(const struct memopt_option *option, const void *a, const void *b) {
    const struct type *type = type_of(option->type);
    if (type == NULL)
        return 0;
    union value va = field(option, type, a), vb = field(option, type, b);
    return type->compare(&va, &vb);
}

const char *mo_option_type_name(uint32_t type) {
    const struct type *found = type_of(type);
    return found != NULL ? found->name : NULL;
}

void mo_option_describe(const struct memopt_option *option, char *buffer, size_t size) {
    const char *min = option->min, *max = option->max;
    if (option->choices != NULL) {
        size_t used =
            (size_t)snprintf(buffer, size, option->type == MEMOPT_LIST ? "any of: " : "one of: ");
        for (size_t i = 0; option->choices[i] != NULL && used < size; i++)
            used += (size_t)snprintf(buffer + used, size - used, "%s%s", i > 0 ? ", " : "",
                                     option->choices[i]);
    } else if (min != NULL && max != NULL)
        snprintf(buffer, size, "%s .. %s", min, max);
    else if (min != NULL)
        snprintf(buffer, size, "%s or more", min);
    else if (max != NULL)
        snprintf(buffer, size, "%s or less", max);
    else if (size > 0)
        buffer[0] = '\0';
}
