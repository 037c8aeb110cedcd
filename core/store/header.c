/*
 * header.c - see header.h. In this order: text helpers; the characters and
 * strings of JSON; numbers; a tensor; the metadata; the whole; what only shows
 * when all is read (duplicates, the order of the data).
 */
#include "core/store/header.h"

#include "core/base/error.h"

#include <memopt/utf8.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------- text */

const char *mo_shown(const char *name, char buffer[MO_SHOWN_MAX]) {
    static const char dots[] = "...";
    size_t length = strlen(name), used = 0;
    while (used < length) {
        size_t step = memopt_utf8(name + used, length - used, NULL);
        if (step == 0)
            step = 1;
        if (used + step + sizeof(dots) > MO_SHOWN_MAX)
            break;
        memcpy(buffer + used, name + used, step);
        if ((unsigned char)name[used] < ' ' || name[used] == 127)
            buffer[used] = '?';
        used += step;
    }
    strcpy(buffer + used, used < length ? dots : "");
    return buffer;
}

int mo_shape_size(int dtype, unsigned rank, const uint64_t *shape, uint64_t *ret_elements,
                  uint64_t *ret_bytes) {
    uint64_t product = memopt_dtype_size(dtype);
    bool empty = false;
    for (unsigned i = 0; i < rank; i++) {
        empty |= shape[i] == 0;
        if (shape[i] != 0 && __builtin_mul_overflow(product, shape[i], &product))
            return -EOVERFLOW;
    }
    *ret_elements = empty ? 0 : product / memopt_dtype_size(dtype);
    *ret_bytes = empty ? 0 : product;
    return 0;
}

/* --------------------------------------------------------------- characters */

struct parser {
    char *text;
    size_t length, at;
    struct mo_header header;
    size_t tensors_room, dimensions_room, pairs_room;
    bool metadata_seen;
    struct memopt_error *error;
};

#define WRONG(PARSER, AT, ...) wrong(PARSER, AT, -EINVAL, __VA_ARGS__)
static int wrong(struct parser *parser, size_t at, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static int wrong(struct parser *parser, size_t at, int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    mo_vfail(parser->error, code, format, arguments);
    va_end(arguments);
    mo_error_prefix(parser->error, "byte %zu of the header", at);
    return code;
}

static void skip_space(struct parser *parser) {
    while (parser->at < parser->length && strchr(" \t\r\n", parser->text[parser->at]) != NULL &&
           parser->text[parser->at] != '\0')
        parser->at++;
}

/* The next character that is not a space, without taking it; '\0' at the end. */
static char peek(struct parser *parser) {
    skip_space(parser);
    return parser->at < parser->length ? parser->text[parser->at] : '\0';
}

static int take(struct parser *parser, char c) {
    if (peek(parser) != c || parser->at == parser->length)
        return WRONG(parser, parser->at, "expected '%c'", c);
    parser->at++;
    return 0;
}

/* After an element: 1 if a comma says that another follows, 0 at `end`. */
static int more(struct parser *parser, char end) {
    char c = peek(parser);
    if (c != ',' && c != end)
        return WRONG(parser, parser->at, "expected ',' or '%c'", end);
    parser->at++;
    return c == ',';
}

static int hex4(struct parser *parser, unsigned *ret_value) {
    unsigned value = 0;
    for (size_t i = 0; i < 4; i++) {
        char c = parser->at + i < parser->length ? parser->text[parser->at + i] : '\0';
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 16;
        if (digit == 16)
            return WRONG(parser, parser->at, "expected four hexadecimal digits after '\\u'");
        value = value * 16 + digit;
    }
    parser->at += 4;
    *ret_value = value;
    return 0;
}

/* After "\u": the character, whose UTF-8 is never longer than its escape. */
static int unicode_escape(struct parser *parser, char **out) {
    size_t at = parser->at - 2;
    unsigned c, low = 0;
    int r = hex4(parser, &c);
    if (r < 0)
        return r;
    if (c >= 0xd800 && c <= 0xdbff && parser->length - parser->at >= 2 &&
        memcmp(parser->text + parser->at, "\\u", 2) == 0) {
        parser->at += 2;
        if ((r = hex4(parser, &low)) < 0)
            return r;
    }
    if (c >= 0xd800 && c <= 0xdfff) {
        if (c > 0xdbff || low < 0xdc00 || low > 0xdfff)
            return WRONG(parser, at, "half of a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    if (c == 0)
        return WRONG(parser, at, "a NUL in a string");
    char *o = *out;
    if (c < 0x80) {
        *o++ = (char)c;
    } else if (c < 0x800) {
        *o++ = (char)(0xc0 | c >> 6);
        *o++ = (char)(0x80 | (c & 0x3f));
    } else {
        if (c < 0x10000) {
            *o++ = (char)(0xe0 | c >> 12);
        } else {
            *o++ = (char)(0xf0 | c >> 18);
            *o++ = (char)(0x80 | (c >> 12 & 0x3f));
        }
        *o++ = (char)(0x80 | (c >> 6 & 0x3f));
        *o++ = (char)(0x80 | (c & 0x3f));
    }
    *out = o;
    return 0;
}

/* A string, decoded over its own text and ended by a NUL, for which the closing
 * quote makes room. */
static int take_string(struct parser *parser, const char **ret_string, size_t *ret_at) {
    int r = 0;
    if (peek(parser) != '"')
        return WRONG(parser, parser->at, "expected a string");
    size_t begin = parser->at++;
    char *out = parser->text + parser->at;
    *ret_string = out;
    *ret_at = begin;
    while (parser->at < parser->length && parser->text[parser->at] != '"') {
        char c = parser->text[parser->at];
        if ((unsigned char)c < ' ')
            return WRONG(parser, parser->at, "a control character in a string");
        if (c != '\\') {
            size_t step =
                memopt_utf8(parser->text + parser->at, parser->length - parser->at, NULL);
            if (step == 0)
                return WRONG(parser, parser->at, "not UTF-8");
            memmove(out, parser->text + parser->at, step);
            out += step;
            parser->at += step;
            continue;
        }
        static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
        char which = parser->at + 1 < parser->length ? parser->text[parser->at + 1] : '\0';
        const char *escape = which == '\0' ? NULL : strchr(escapes, which);
        if (escape == NULL && which != 'u')
            return WRONG(parser, parser->at, "no such escape");
        parser->at += 2;
        if (escape != NULL)
            *out++ = meanings[escape - escapes];
        else if ((r = unicode_escape(parser, &out)) < 0)
            return r;
    }
    if (parser->at == parser->length)
        return WRONG(parser, begin, "a string that does not end");
    *out = '\0';
    parser->at++;
    return 0;
}

/* ------------------------------------------------------------------ numbers */

static int take_number(struct parser *parser, uint64_t *ret_value) {
    char c = peek(parser);
    size_t begin = parser->at;
    uint64_t value = 0;
    if (c < '0' || c > '9')
        return WRONG(parser, begin, "expected an integer, digits only");
    for (; parser->at < parser->length; parser->at++) {
        c = parser->text[parser->at];
        if (c < '0' || c > '9')
            break;
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (unsigned)(c - '0'), &value))
            return WRONG(parser, begin, "an integer of more than 64 bits");
    }
    if (parser->text[begin] == '0' && parser->at - begin > 1)
        return WRONG(parser, begin, "an integer with a leading zero");
    if (parser->at < parser->length && strchr(".eE", c) != NULL && c != '\0')
        return WRONG(parser, begin, "expected an integer, without fraction or exponent");
    *ret_value = value;
    return 0;
}

/* Room for one more element, at most `most`. */
static int make_room(struct parser *parser, void *array, size_t count, size_t *room, size_t size) {
    void *old, *larger;
    if (count < *room)
        return 0;
    size_t more_room = *room == 0 ? 16 : *room + *room / 2;
    memcpy(&old, array, sizeof(old));
    larger = reallocarray(old, more_room, size);
    if (larger == NULL)
        return mo_fail(parser->error, -ENOMEM, "out of memory for the header's contents");
    memcpy(array, &larger, sizeof(larger));
    *room = more_room;
    return 0;
}

/* ------------------------------------------------------------------ tensors */

static int take_dtype(struct parser *parser, struct mo_header_tensor *tensor) {
    const char *name;
    size_t at;
    char shown[MO_SHOWN_MAX];
    int r = take_string(parser, &name, &at);
    if (r < 0)
        return r;
    int dtype = memopt_dtype_find(name);
    static const char *const smaller[] = {"F4", "F6_E2M3", "F6_E3M2"};
    for (size_t i = 0; i < sizeof(smaller) / sizeof(smaller[0]); i++)
        if (strcmp(name, smaller[i]) == 0)
            return wrong(parser, at, -ENOTSUP,
                         "type '%s', whose elements are smaller than a byte: not supported", name);
    if (dtype < 0)
        return WRONG(parser, at, "'%s' is no type of the format", mo_shown(name, shown));
    tensor->dtype = (uint8_t)dtype;
    return 0;
}

static int take_shape(struct parser *parser, struct mo_header_tensor *tensor) {
    struct mo_header *header = &parser->header;
    int r = take(parser, '[');
    if (r < 0)
        return r;
    tensor->shape = (uint32_t)header->dimension_count;
    if (peek(parser) == ']') {
        parser->at++;
        return 0;
    }
    do {
        uint64_t dimension;
        if (tensor->rank == MEMOPT_TENSOR_RANK_MAX)
            return WRONG(parser, parser->at, "a shape of more than %u dimensions",
                         MEMOPT_TENSOR_RANK_MAX);
        if ((r = take_number(parser, &dimension)) < 0 ||
            (r = make_room(parser, &header->dimensions, header->dimension_count,
                           &parser->dimensions_room, sizeof(dimension))) < 0)
            return r;
        header->dimensions[header->dimension_count++] = dimension;
        tensor->rank++;
    } while ((r = more(parser, ']')) == 1);
    return r;
}

static int take_offsets(struct parser *parser, struct mo_header_tensor *tensor) {
    int r;
    if ((r = take(parser, '[')) < 0 || (r = take_number(parser, &tensor->begin)) < 0 ||
        (r = take(parser, ',')) < 0 || (r = take_number(parser, &tensor->end)) < 0)
        return r;
    return take(parser, ']');
}

static int take_tensor(struct parser *parser, const char *name, size_t at) {
    static const struct {
        const char *key;
        int (*take)(struct parser *parser, struct mo_header_tensor *tensor);
    } keys[] = {{"dtype", take_dtype}, {"shape", take_shape}, {"data_offsets", take_offsets}};
    enum { KEYS = sizeof(keys) / sizeof(keys[0]) };
    struct mo_header *header = &parser->header;
    struct mo_header_tensor tensor = {.name = name, .at = (uint32_t)at};
    char shown[MO_SHOWN_MAX], other[MO_SHOWN_MAX];
    bool seen[KEYS] = {false};
    mo_shown(name, shown);
    if (header->count == MEMOPT_TENSORS_MAX)
        return WRONG(parser, at, "more than %u tensors", MEMOPT_TENSORS_MAX);
    int r = take(parser, '{');
    if (r < 0)
        return r;
    if (peek(parser) == '}') {
        parser->at++;
    } else {
        do {
            const char *key;
            size_t key_at, k = 0;
            if ((r = take_string(parser, &key, &key_at)) < 0)
                return r;
            while (k < KEYS && strcmp(key, keys[k].key) != 0)
                k++;
            if (k == KEYS)
                return WRONG(parser, key_at,
                             "tensor '%s' has a key '%s'; expected dtype, shape and data_offsets",
                             shown, mo_shown(key, other));
            if (seen[k])
                return WRONG(parser, key_at, "tensor '%s' has '%s' twice", shown, key);
            seen[k] = true;
            if ((r = take(parser, ':')) < 0 || (r = keys[k].take(parser, &tensor)) < 0)
                return r;
        } while ((r = more(parser, '}')) == 1);
        if (r < 0)
            return r;
    }
    for (size_t k = 0; k < KEYS; k++)
        if (!seen[k])
            return WRONG(parser, at, "tensor '%s' has no '%s'", shown, keys[k].key);
    uint64_t bytes;
    if (mo_shape_size(tensor.dtype, tensor.rank, mo_header_shape(header, &tensor), &tensor.elements,
                      &bytes) < 0)
        return WRONG(parser, at, "the shape of tensor '%s' needs more than 64 bits", shown);
    if (tensor.begin > tensor.end)
        return WRONG(parser, at, "the data of tensor '%s' ends before it begins", shown);
    if (tensor.end - tensor.begin != bytes)
        return WRONG(parser, at, "tensor '%s' has %llu bytes of data, its shape and type need %llu",
                     shown, (unsigned long long)(tensor.end - tensor.begin),
                     (unsigned long long)bytes);
    if ((r = make_room(parser, &header->tensors, header->count, &parser->tensors_room,
                       sizeof(tensor))) < 0)
        return r;
    header->tensors[header->count++] = tensor;
    return 0;
}

/* ----------------------------------------------------------------- metadata */

static int take_metadata(struct parser *parser, size_t at) {
    struct mo_header *header = &parser->header;
    int r;
    if (parser->metadata_seen)
        return WRONG(parser, at, "'__metadata__' is there twice");
    parser->metadata_seen = true;
    if ((r = take(parser, '{')) < 0)
        return r;
    if (peek(parser) == '}') {
        parser->at++;
        return 0;
    }
    do {
        struct mo_header_pair pair;
        size_t key_at, value_at;
        if ((r = take_string(parser, &pair.key, &key_at)) < 0 || (r = take(parser, ':')) < 0 ||
            (r = take_string(parser, &pair.value, &value_at)) < 0)
            return r;
        if (header->pair_count == MEMOPT_TENSORS_MAX)
            return WRONG(parser, key_at, "more than %u metadata", MEMOPT_TENSORS_MAX);
        pair.at = (uint32_t)key_at;
        if ((r = make_room(parser, &header->pairs, header->pair_count, &parser->pairs_room,
                           sizeof(pair))) < 0)
            return r;
        header->pairs[header->pair_count++] = pair;
    } while ((r = more(parser, '}')) == 1);
    return r;
}

/* ---------------------------------------------------------------- the whole */

static int take_header(struct parser *parser) {
    int r;
    if (parser->length == 0 || parser->text[0] != '{')
        return WRONG(parser, 0, "expected '{'");
    parser->at = 1;
    if (peek(parser) == '}') {
        parser->at++;
    } else {
        do {
            const char *name;
            size_t at;
            if ((r = take_string(parser, &name, &at)) < 0 || (r = take(parser, ':')) < 0)
                return r;
            r = strcmp(name, "__metadata__") == 0 ? take_metadata(parser, at)
                                                  : take_tensor(parser, name, at);
            if (r < 0)
                return r;
        } while ((r = more(parser, '}')) == 1);
        if (r < 0)
            return r;
    }
    for (; parser->at < parser->length; parser->at++)
        if (parser->text[parser->at] != ' ')
            return WRONG(parser, parser->at, "something other than spaces after the object");
    return 0;
}

static int compare_data(const void *left, const void *right) {
    const struct mo_header_tensor *l = left, *r = right;
    if (l->begin != r->begin)
        return l->begin < r->begin ? -1 : 1;
    if (l->end != r->end)
        return l->end < r->end ? -1 : 1;
    return l->at < r->at ? -1 : 1; /* empty ones as they are written */
}

static int compare_pairs(const void *left, const void *right) {
    const struct mo_header_pair *l = left, *r = right;
    int order = strcmp(l->key, r->key);
    return order != 0 ? order : l->at < r->at ? -1 : 1;
}

static int compare_names(const void *left, const void *right, void *context) {
    const struct mo_header *header = context;
    const struct mo_header_tensor *l = header->tensors + *(const uint32_t *)left;
    const struct mo_header_tensor *r = header->tensors + *(const uint32_t *)right;
    int order = strcmp(l->name, r->name);
    return order != 0 ? order : l->at < r->at ? -1 : 1;
}

static int check_data(struct parser *parser, uint64_t data_size) {
    const struct mo_header *header = &parser->header;
    char shown[MO_SHOWN_MAX];
    uint64_t end = 0;
    for (size_t i = 0; i < header->count; i++) {
        const struct mo_header_tensor *tensor = &header->tensors[i];
        if (tensor->begin != end)
            return WRONG(parser, tensor->at,
                         "the data of tensor '%s' begins at %llu; expected %llu, where the data "
                         "before it ends: %s",
                         mo_shown(tensor->name, shown), (unsigned long long)tensor->begin,
                         (unsigned long long)end, tensor->begin < end ? "an overlap" : "a hole");
        end = tensor->end;
    }
    if (end != data_size)
        return mo_fail(parser->error, -EINVAL,
                       "the tensors have %llu bytes of data, the file has %llu",
                       (unsigned long long)end, (unsigned long long)data_size);
    return 0;
}

static int check_names(struct parser *parser) {
    struct mo_header *header = &parser->header;
    char shown[MO_SHOWN_MAX];
    header->by_name = calloc(header->count + 1, sizeof(*header->by_name));
    if (header->by_name == NULL)
        return mo_fail(parser->error, -ENOMEM, "out of memory for the header's contents");
    for (size_t i = 0; i < header->count; i++)
        header->by_name[i] = (uint32_t)i;
    qsort_r(header->by_name, header->count, sizeof(*header->by_name), compare_names, header);
    for (size_t i = 1; i < header->count; i++) {
        const struct mo_header_tensor *one = header->tensors + header->by_name[i - 1];
        const struct mo_header_tensor *two = header->tensors + header->by_name[i];
        if (strcmp(one->name, two->name) == 0)
            return WRONG(parser, two->at, "tensor '%s' is there twice, first at byte %u",
                         mo_shown(two->name, shown), one->at);
    }
    if (header->pair_count > 0)
        qsort(header->pairs, header->pair_count, sizeof(*header->pairs), compare_pairs);
    for (size_t i = 1; i < header->pair_count; i++)
        if (strcmp(header->pairs[i - 1].key, header->pairs[i].key) == 0)
            return WRONG(parser, header->pairs[i].at,
                         "metadata '%s' is there twice, first at byte %u",
                         mo_shown(header->pairs[i].key, shown), header->pairs[i - 1].at);
    return 0;
}

int mo_header_parse(char *text, size_t length, uint64_t data_size, struct mo_header *ret_header,
                    struct memopt_error *error) {
    struct parser parser = {.text = text, .length = length, .error = error};
    int r = take_header(&parser);
    if (r == 0) {
        if (parser.header.count > 0)
            qsort(parser.header.tensors, parser.header.count, sizeof(*parser.header.tensors),
                  compare_data);
        if ((r = check_names(&parser)) == 0)
            r = check_data(&parser, data_size);
    }
    if (r < 0) {
        mo_header_free(&parser.header);
        return r;
    }
    *ret_header = parser.header;
    return 0;
}

void mo_header_free(struct mo_header *header) {
    free(header->tensors);
    free(header->by_name);
    free(header->dimensions);
    free(header->pairs);
    *header = (struct mo_header){0};
}
