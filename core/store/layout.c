/* layout.c - see layout.h. */
#include "core/store/layout.h"

#include "core/base/error.h"

#include <memopt/utf8.h>

#include <errno.h>
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- declaring */

static int compare_tensors(const void *left, const void *right) {
    const struct mo_layout_tensor *l = left, *r = right;
    return strcmp(l->name, r->name);
}

static int compare_pairs(const void *left, const void *right) {
    const struct mo_layout_pair *l = left, *r = right;
    return strcmp(l->key, r->key);
}

static int no_memory(struct memopt_error *error) {
    return mo_fail(error, -ENOMEM, "out of memory");
}

static int check_text(const char *what, const char *text, struct memopt_error *error) {
    char shown[MO_SHOWN_MAX];
    if (text == NULL)
        return mo_fail(error, -EINVAL, "no %s was given", what);
    for (size_t left = strlen(text); left > 0;) {
        size_t step = memopt_utf8(text, left, NULL);
        if (step == 0)
            return mo_fail(error, -EINVAL, "the %s is not UTF-8 from '%s' on", what,
                           mo_shown(text, shown));
        text += step;
        left -= step;
    }
    return 0;
}

/* Room for one more pointer in an array of them. */
static int make_room(void *array, size_t count, size_t *room) {
    void *old, *larger;
    if (count < *room)
        return 0;
    size_t wanted = *room == 0 ? 16 : *room * 2;
    memcpy(&old, array, sizeof(old));
    if ((larger = reallocarray(old, wanted, sizeof(void *))) == NULL)
        return -ENOMEM;
    memcpy(array, &larger, sizeof(larger));
    *room = wanted;
    return 0;
}

/* Puts `item` into the tree: 0, -EEXIST, -ENOMEM. */
static int enter(void **tree, void *item, int (*compare)(const void *, const void *)) {
    void **node = tsearch(item, tree, compare);
    if (node == NULL)
        return -ENOMEM;
    return *node == item ? 0 : -EEXIST;
}

ssize_t mo_layout_add(struct mo_layout *layout, const char *name, int dtype, unsigned rank,
                      const uint64_t *shape, struct memopt_error *error) {
    char shown[MO_SHOWN_MAX];
    uint64_t elements, bytes;
    int r = check_text("name", name, error);
    if (r < 0)
        return r;
    mo_shown(name, shown);
    if (strcmp(name, "__metadata__") == 0)
        return mo_fail(error, -EINVAL, "the name '__metadata__' is the format's own");
    if (memopt_dtype_size(dtype) == 0)
        return mo_fail(error, -EINVAL, "tensor '%s': no type %d", shown, dtype);
    if (rank > MEMOPT_TENSOR_RANK_MAX || (rank > 0 && shape == NULL))
        return mo_fail(error, -EINVAL, "tensor '%s': %u dimensions%s; at most %u are allowed",
                       shown, rank, shape == NULL ? " without a shape" : "",
                       MEMOPT_TENSOR_RANK_MAX);
    if (mo_shape_size(dtype, rank, shape, &elements, &bytes) < 0)
        return mo_fail(error, -EINVAL, "tensor '%s': its shape needs more than 64 bits", shown);
    if (layout->count == MEMOPT_TENSORS_MAX)
        return mo_fail(error, -ENOSPC, "tensor '%s': %u are there, no more are allowed", shown,
                       MEMOPT_TENSORS_MAX);
    size_t name_size = strlen(name) + 1, head = sizeof(struct mo_layout_tensor);
    size_t padded = (head + name_size + sizeof(*shape) - 1) / sizeof(*shape) * sizeof(*shape);
    struct mo_layout_tensor *tensor = calloc(1, padded + rank * sizeof(*shape));
    if (tensor == NULL || make_room(&layout->tensors, layout->count, &layout->room) < 0) {
        free(tensor);
        return no_memory(error);
    }
    tensor->bytes = bytes;
    tensor->dtype = dtype;
    tensor->rank = rank;
    tensor->shape = (uint64_t *)(void *)((char *)tensor + padded);
    memcpy(tensor->name, name, name_size);
    if (rank > 0)
        memcpy(tensor->shape, shape, rank * sizeof(*shape));
    if ((r = enter(&layout->names, tensor, compare_tensors)) < 0) {
        free(tensor);
        return r == -ENOMEM ? no_memory(error)
                            : mo_fail(error, r, "tensor '%s' is there already", shown);
    }
    layout->tensors[layout->count] = tensor;
    return (ssize_t)layout->count++;
}

int mo_layout_metadata(struct mo_layout *layout, const char *key, const char *value,
                       struct memopt_error *error) {
    char shown[MO_SHOWN_MAX];
    int r;
    if ((r = check_text("key", key, error)) < 0 || (r = check_text("value", value, error)) < 0)
        return r;
    mo_shown(key, shown);
    if (layout->pair_count == MEMOPT_TENSORS_MAX)
        return mo_fail(error, -ENOSPC, "metadata '%s': %u are there, no more are allowed", shown,
                       MEMOPT_TENSORS_MAX);
    size_t key_size = strlen(key) + 1, value_size = strlen(value) + 1;
    struct mo_layout_pair *pair = malloc(sizeof(*pair) + key_size + value_size);
    if (pair == NULL || make_room(&layout->pairs, layout->pair_count, &layout->pair_room) < 0) {
        free(pair);
        return no_memory(error);
    }
    memcpy(pair->key, key, key_size);
    pair->value = pair->key + key_size;
    memcpy(pair->value, value, value_size);
    if ((r = enter(&layout->keys, pair, compare_pairs)) < 0) {
        free(pair);
        return r == -ENOMEM ? no_memory(error)
                            : mo_fail(error, r, "metadata '%s' is there already", shown);
    }
    layout->pairs[layout->pair_count++] = pair;
    return 0;
}

static void forget(void *item) {
    (void)item; /* the arrays own them */
}

void mo_layout_free(struct mo_layout *layout) {
    tdestroy(layout->names, forget);
    tdestroy(layout->keys, forget);
    for (size_t i = 0; i < layout->count; i++)
        free(layout->tensors[i]);
    for (size_t i = 0; i < layout->pair_count; i++)
        free(layout->pairs[i]);
    free(layout->tensors);
    free(layout->pairs);
    *layout = (struct mo_layout){0};
}

/* --------------------------------------------------------------- the header */

struct text {
    char *bytes;
    size_t length, room;
    int failed; /* a negative errno; then nothing is appended any more */
};

static void append(struct text *text, const char *bytes, size_t length) {
    if (text->failed == 0 && length > MEMOPT_TENSORS_HEADER_MAX - text->length)
        text->failed = -EFBIG;
    if (text->failed == 0 && length > text->room - text->length) {
        size_t room = text->room + text->room / 2 + length + MEMOPT_TENSORS_ALIGNMENT;
        char *larger = realloc(text->bytes, room);
        if (larger == NULL) {
            text->failed = -ENOMEM;
        } else {
            text->bytes = larger;
            text->room = room;
        }
    }
    if (text->failed < 0)
        return;
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
}

static void append_text(struct text *text, const char *string) {
    append(text, string, strlen(string));
}

static void append_number(struct text *text, uint64_t value) {
    char digits[24];
    append(text, digits, (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, value));
}

static void append_string(struct text *text, const char *string) {
    append(text, "\"", 1);
    while (*string != '\0') {
        size_t plain = 0;
        while ((unsigned char)string[plain] >= ' ' && string[plain] != '"' && string[plain] != '\\')
            plain++;
        append(text, string, plain);
        string += plain;
        if (*string != '\0') {
            char escape[8];
            snprintf(escape, sizeof(escape), (unsigned char)*string < ' ' ? "\\u%04x" : "\\%c",
                     (unsigned char)*string);
            append_text(text, escape);
            string++;
        }
    }
    append(text, "\"", 1);
}

static void append_tensor(struct text *text, const struct mo_layout_tensor *tensor) {
    append_string(text, tensor->name);
    append_text(text, ":{\"dtype\":\"");
    append_text(text, memopt_dtype_name(tensor->dtype));
    append_text(text, "\",\"shape\":[");
    for (unsigned i = 0; i < tensor->rank; i++) {
        if (i > 0)
            append(text, ",", 1);
        append_number(text, tensor->shape[i]);
    }
    append_text(text, "],\"data_offsets\":[");
    append_number(text, tensor->begin);
    append(text, ",", 1);
    append_number(text, tensor->begin + tensor->bytes);
    append_text(text, "]}");
}

/* The larger a type the earlier its tensors, so that all are aligned: what comes
 * before a tensor is whole elements of its own size or multiples of it. Calls
 * append_tensor() too, as the header has the same order. */
static int place_data(struct mo_layout *layout, struct text *text, bool first) {
    uint64_t end = 0;
    for (size_t unit = 8; unit > 0; unit /= 2)
        for (size_t i = 0; i < layout->count; i++) {
            struct mo_layout_tensor *tensor = layout->tensors[i];
            if (memopt_dtype_size(tensor->dtype) != unit)
                continue;
            if (tensor->bytes > INT64_MAX - MEMOPT_TENSORS_HEADER_MAX - 8 - end)
                return -EOVERFLOW;
            tensor->begin = end;
            end += tensor->bytes;
            if (!first)
                append(text, ",", 1);
            first = false;
            append_tensor(text, tensor);
        }
    layout->data_size = end;
    return 0;
}

int mo_layout_header(struct mo_layout *layout, char **ret_bytes, size_t *ret_length,
                     struct memopt_error *error) {
    struct text text = {0};
    const char length_bytes[8] = {0};
    append(&text, length_bytes, sizeof(length_bytes)); /* filled in at the end */
    append(&text, "{", 1);
    if (layout->pair_count > 0) {
        append_text(&text, "\"__metadata__\":{");
        for (size_t i = 0; i < layout->pair_count; i++) {
            if (i > 0)
                append(&text, ",", 1);
            append_string(&text, layout->pairs[i]->key);
            append(&text, ":", 1);
            append_string(&text, layout->pairs[i]->value);
        }
        append(&text, "}", 1);
    }
    int r = place_data(layout, &text, layout->pair_count == 0);
    append(&text, "}", 1);
    while (text.failed == 0 && text.length % MEMOPT_TENSORS_ALIGNMENT != 0)
        append(&text, " ", 1);
    if (r == 0)
        r = text.failed;
    if (r < 0) {
        free(text.bytes);
        if (r == -ENOMEM)
            return no_memory(error);
        return r == -EFBIG ? mo_fail(error, -EFBIG, "the header would have more than %u bytes",
                                     MEMOPT_TENSORS_HEADER_MAX)
                           : mo_fail(error, -EFBIG, "the tensors have more data than a file can");
    }
    uint64_t length = text.length - sizeof(length);
    memcpy(text.bytes, &length, sizeof(length));
    *ret_bytes = text.bytes;
    *ret_length = text.length;
    return 0;
}
