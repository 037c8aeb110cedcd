/*
 * save.c - an optimizer's state to a safetensors file and back.
 *
 * The file has for each parameter that has taken part in a step
 *     NAME.SLOT          F32, of the parameter's shape; in 8 bits U8, whole blocks
 *     NAME.SLOT.absmax   F32, one a block; with 8 bits only
 *     NAME.PART          of its own type and number: rows, a history, slow weights
 *     NAME.master        F32
 *     NAME.accumulator   F32; between the steps of an update only
 *     NAME.updates       U64, a scalar
 *     NAME.carry         F64, two: what a method keeps per tensor
 * and as metadata: format, optimizer, updates, accumulated, groups, and the
 * settings of each group as text, exactly.
 */
#include "core/optim/optim.h"

#include "core/base/error.h"

#include <memopt/store.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "memopt-optimizer-1"
/* Parts are regions, and two that are kept in the tensor itself. */
enum { UPDATES = MO_REGIONS, CARRY, PARTS };
enum { SUFFIX_MAX = 40, SETTINGS_MAX = 4096 };

/* One tensor of the file: a part of a parameter's state. */
struct part {
    char suffix[SUFFIX_MAX];
    int dtype;
    unsigned rank;
    uint64_t shape[MEMOPT_PARAM_RANK_MAX];
    size_t bytes;
    size_t number; /* of the region; UPDATES, CARRY */
    void *data;    /* NULL: not located */
};

static struct part *add_part(struct part *parts, size_t *count, size_t number, const char *name,
                             int dtype, uint64_t elements) {
    struct part *part = &parts[(*count)++];
    snprintf(part->suffix, sizeof(part->suffix), ".%s", name);
    part->dtype = dtype;
    part->rank = 1;
    part->shape[0] = elements;
    part->bytes = (size_t)elements * memopt_dtype_size(dtype);
    part->number = number;
    part->data = NULL;
    return part;
}

static void add_region(struct part *parts, size_t *count, const struct mo_layout *layout,
                       size_t number, const struct mo_tensor *tensor) {
    const struct mo_region *region = &layout->regions[number];
    int is_slot = number >= MO_AT_SLOTS && number < MO_AT_PARTS;
    struct part *part = add_part(parts, count, number, region->name, region->dtype, region->count);
    if (region->every == MO_BLOCK)
        snprintf(part->suffix, sizeof(part->suffix), ".%s.absmax", region->name);
    else if ((is_slot && region->dtype == MEMOPT_DTYPE_F32) || number == MO_AT_MASTER ||
             number == MO_AT_ACCUMULATOR) {
        part->rank = tensor->rank;
        memcpy(part->shape, tensor->shape, sizeof(part->shape));
    }
}

/* What a file has of a tensor that has taken part. */
static size_t list_parts(const struct memopt_optimizer *optimizer, const struct mo_tensor *tensor,
                         struct part parts[PARTS]) {
    struct mo_layout layout;
    size_t count = 0;
    mo_state_layout(optimizer->method, &optimizer->groups[tensor->group].settings, tensor, &layout);
    for (size_t i = 0; i < layout.end; i++) {
        const struct mo_region *region = &layout.regions[i];
        if (region->name != NULL && !region->outside && !region->scratch &&
            (i != MO_AT_ACCUMULATOR || optimizer->micro != 0))
            add_region(parts, &count, &layout, i, tensor);
    }
    add_part(parts, &count, UPDATES, "updates", MEMOPT_DTYPE_U64, 1)->rank = 0;
    add_part(parts, &count, CARRY, "carry", MEMOPT_DTYPE_F64, MO_CARRY);
    return count;
}

/* The whole tensor, to be released: where its parts are. */
static void locate_parts(const struct memopt_optimizer *optimizer, struct mo_tensor *tensor,
                         struct part *parts, size_t count, struct mo_span *ret_whole) {
    struct mo_range range = {tensor->number, 0, (size_t)tensor->count};
    optimizer->place->ops->acquire(optimizer->place, range, ret_whole);
    for (size_t i = 0; i < count; i++)
        parts[i].data = parts[i].number == UPDATES ? &tensor->updates
                        : parts[i].number == CARRY ? tensor->carry
                                                   : ret_whole->at[parts[i].number];
}

/* NAME and suffix in the optimizer's heap. */
static char *make_key(struct memopt_optimizer *optimizer, const struct mo_tensor *tensor,
                      const struct part *part, struct memopt_error *error) {
    size_t size = strlen(tensor->name) + strlen(part->suffix) + 1;
    char *key = memopt_heap_alloc(optimizer->heap, size);
    if (key != NULL)
        snprintf(key, size, "%s%s", tensor->name, part->suffix);
    else
        mo_fail(error, -ENOMEM, "no memory in heap '%s'", memopt_heap_name(optimizer->heap));
    return key;
}

/* While parameters are perturbed there is something to put back first. */
static int check_settled(const struct memopt_optimizer *optimizer, struct memopt_error *error) {
    if (optimizer == NULL)
        return mo_no_optimizer(error);
    if (!optimizer->perturbed)
        return 0;
    return mo_fail(error, -EBUSY, "the parameters are perturbed: a step comes first");
}

/* ------------------------------------------------------------------- saving */

static int write_number(struct memopt_tensors_writer *writer, const char *key, uint64_t number,
                        struct memopt_error *error) {
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, number);
    return memopt_tensors_writer_metadata(writer, key, text, error);
}

static int write_metadata(struct memopt_optimizer *optimizer, struct memopt_tensors_writer *writer,
                          struct memopt_error *error) {
    int code = memopt_tensors_writer_metadata(writer, "format", FORMAT, error);
    if (code == 0)
        code = memopt_tensors_writer_metadata(writer, "optimizer", optimizer->method->name, error);
    if (code == 0)
        code = write_number(writer, "updates", optimizer->updates, error);
    if (code == 0)
        code = write_number(writer, "accumulated", optimizer->micro, error);
    if (code == 0)
        code = write_number(writer, "groups", optimizer->group_count, error);
    for (size_t i = 0; i < optimizer->group_count && code == 0; i++) {
        char key[32], text[SETTINGS_MAX];
        snprintf(key, sizeof(key), "group.%zu", i);
        mo_settings_print(optimizer->method, &optimizer->groups[i].settings, text, sizeof(text));
        code = memopt_tensors_writer_metadata(writer, key, text, error);
    }
    return code;
}

static int declare_part(struct memopt_optimizer *optimizer, struct memopt_tensors_writer *writer,
                        const struct mo_tensor *tensor, const struct part *part,
                        struct memopt_error *error) {
    char *key = make_key(optimizer, tensor, part, error);
    if (key == NULL)
        return -ENOMEM;
    ssize_t added =
        memopt_tensors_writer_add(writer, key, part->dtype, part->rank, part->shape, error);
    memopt_heap_free(optimizer->heap, key);
    return added < 0 ? (int)added : 0;
}

/* `*index` is the writer's number of the tensor's first part: those before it. */
static int write_tensor(struct memopt_optimizer *optimizer, struct memopt_tensors_writer *writer,
                        struct mo_tensor *tensor, size_t *index, struct memopt_error *error) {
    struct part parts[PARTS];
    struct mo_span whole;
    int code = 0;
    size_t count = list_parts(optimizer, tensor, parts);
    locate_parts(optimizer, tensor, parts, count, &whole);
    for (size_t i = 0; i < count && code == 0; i++)
        code = memopt_tensors_writer_write(writer, (*index)++, 0, parts[i].data, parts[i].bytes,
                                           error);
    optimizer->place->ops->release(optimizer->place, &whole, 0);
    return code;
}

static int write_tensors(struct memopt_optimizer *optimizer, struct memopt_tensors_writer *writer,
                         struct memopt_error *error) {
    size_t index = 0;
    int code = 0;
    for (size_t i = 0; i < optimizer->tensor_count && code == 0; i++) {
        struct mo_tensor *tensor = &optimizer->tensors[i];
        struct part parts[PARTS];
        size_t count = tensor->has_state ? list_parts(optimizer, tensor, parts) : 0;
        for (size_t k = 0; k < count && code == 0; k++)
            code = declare_part(optimizer, writer, tensor, &parts[k], error);
    }
    for (size_t i = 0; i < optimizer->tensor_count && code == 0; i++)
        if (optimizer->tensors[i].has_state)
            code = write_tensor(optimizer, writer, &optimizer->tensors[i], &index, error);
    return code;
}

int memopt_optimizer_save(struct memopt_optimizer *optimizer, const char *path,
                          struct memopt_error *error) {
    struct memopt_tensors_writer *writer;
    int code = check_settled(optimizer, error);
    if (code == 0)
        code = memopt_tensors_writer_open(path, &writer, error);
    if (code < 0)
        return code;
    mo_state_refresh(optimizer);
    code = write_metadata(optimizer, writer, error);
    if (code == 0)
        code = write_tensors(optimizer, writer, error);
    if (code == 0)
        code = memopt_tensors_writer_commit(writer, error);
    memopt_tensors_writer_close(writer);
    return code;
}

/* ------------------------------------------------------------------ loading */

static int read_number(const struct memopt_tensors *file, const char *key, uint64_t most,
                       uint64_t *ret_number, struct memopt_error *error) {
    const char *text = memopt_tensors_metadata(file, key);
    char *end = NULL;
    errno = 0;
    uint64_t number = text == NULL || text[0] < '0' || text[0] > '9' ? 0 : strtoull(text, &end, 10);
    if (end == NULL || *end != '\0' || errno != 0 || number > most)
        return mo_fail(error, -EINVAL, "its metadata '%s' is '%.40s', not a number up to %" PRIu64,
                       key, text == NULL ? "" : text, most);
    *ret_number = number;
    return 0;
}

/* The optimizer as the file has it, apart from its tensors' state. */
static int read_metadata(const struct memopt_tensors *file, struct memopt_optimizer *next,
                         struct memopt_error *error) {
    const char *format = memopt_tensors_metadata(file, "format");
    const char *name = memopt_tensors_metadata(file, "optimizer");
    if (format == NULL || strcmp(format, FORMAT) != 0)
        return mo_fail(error, -EINVAL,
                       "it is no state of an optimizer: its 'format' is not " FORMAT);
    if (name == NULL || strcmp(name, next->method->name) != 0)
        return mo_fail(error, -EINVAL, "it is of optimizer '%.40s', not of %s",
                       name == NULL ? "" : name, next->method->name);
    uint64_t micro = 0, groups = 0;
    int code = read_number(file, "updates", UINT64_MAX, &next->updates, error);
    if (code == 0)
        code = read_number(file, "accumulated", UINT32_MAX, &micro, error);
    if (code == 0)
        code = read_number(file, "groups", UINT32_MAX, &groups, error);
    if (code == 0 && groups != next->group_count)
        code = mo_fail(error, -EINVAL, "it has %" PRIu64 " groups, the optimizer %zu", groups,
                       next->group_count);
    for (size_t i = 0; i < next->group_count && code == 0; i++) {
        char key[32];
        snprintf(key, sizeof(key), "group.%zu", i);
        const char *text = memopt_tensors_metadata(file, key);
        if (text == NULL)
            return mo_fail(error, -EINVAL, "it has no settings of group %zu", i);
        int64_t threads = next->groups[i].settings.threads;
        code = mo_settings_parse(next->method, text, 1, &next->groups[i].settings, error);
        next->groups[0].settings.threads = threads;
        mo_settings_share(&next->groups[i].settings, &next->groups[0].settings);
        if (code < 0)
            return mo_error_prefix(error, "group %zu", i);
    }
    if (code == 0 && micro >= (uint64_t)next->groups[0].settings.accumulate)
        code = mo_fail(error, -EINVAL, "it has accumulated %" PRIu64 " of %" PRId64 " steps", micro,
                       next->groups[0].settings.accumulate);
    if (code == 0)
        next->micro = (unsigned)micro;
    return code;
}

/* Reads a part, or if it has no memory yet looks whether it is there as it should be. */
static int read_part(const struct memopt_tensors *file, const char *key, const struct part *part,
                     struct memopt_error *error) {
    struct memopt_tensor found = MEMOPT_TENSOR_INIT;
    ssize_t index = memopt_tensors_find(file, key, &found, NULL);
    if (index < 0)
        return mo_fail(error, (int)index, "it has no tensor '%s'", key);
    if (found.dtype != part->dtype)
        return mo_fail(error, -EINVAL, "its tensor '%s' is of type %s, not %s", key,
                       memopt_dtype_name(found.dtype), memopt_dtype_name(part->dtype));
    if (found.rank != part->rank ||
        (part->rank > 0 &&
         memcmp(found.shape, part->shape, part->rank * sizeof(part->shape[0])) != 0))
        return mo_fail(error, -EINVAL, "its tensor '%s' has another shape than the parameter", key);
    if (part->data == NULL)
        return 0;
    int code = memopt_tensors_read(file, (size_t)index, 0, part->data, part->bytes, NULL);
    return code < 0
               ? mo_fail(error, code, "its tensor '%s' can't be read: %s", key, strerror(-code))
               : 0;
}

static int read_parts(const struct memopt_tensors *file, struct memopt_optimizer *next,
                      struct mo_tensor *tensor, const struct part *parts, size_t count,
                      struct memopt_error *error) {
    int code = 0;
    for (size_t i = 0; i < count && code == 0; i++) {
        char *key = make_key(next, tensor, &parts[i], error);
        code = key == NULL ? -ENOMEM : read_part(file, key, &parts[i], error);
        memopt_heap_free(next->heap, key);
    }
    return code;
}

/* The numbers, into the state that was made for them. */
static int read_contents(const struct memopt_tensors *file, struct memopt_optimizer *next,
                         struct mo_tensor *tensor, struct part *parts, size_t count,
                         struct memopt_error *error) {
    enum { UPDATES_MAX = 53 }; /* bits: a count of steps that was reached by counting */
    const struct mo_method *method = next->method;
    struct mo_span whole;
    locate_parts(next, tensor, parts, count, &whole);
    int code = read_parts(file, next, tensor, parts, count, error);
    if (code == 0 && tensor->updates >> UPDATES_MAX != 0)
        code = mo_fail(error, -EINVAL, "its tensor '%s.updates' is %" PRIu64 ": is it damaged?",
                       tensor->name, tensor->updates);
    const char *wrong = code == 0 && method->check_parts != NULL
                            ? method->check_parts(&next->groups[tensor->group].settings, &whole)
                            : NULL;
    if (wrong != NULL)
        code =
            mo_fail(error, -EINVAL, "its tensor '%s.%s' has numbers that can't be: is it damaged?",
                    tensor->name, wrong);
    next->place->ops->release(next->place, &whole, 1);
    return code;
}

/* The state of one parameter; `*read` counts the file's tensors. */
static int read_tensor(const struct memopt_tensors *file, struct memopt_optimizer *next,
                       struct mo_tensor *tensor, size_t *read, struct memopt_error *error) {
    struct part updates = {.suffix = ".updates"};
    char *key = make_key(next, tensor, &updates, error);
    if (key == NULL)
        return -ENOMEM;
    ssize_t there = memopt_tensors_find(file, key, NULL, NULL);
    memopt_heap_free(next->heap, key);
    if (there == -ENOENT)
        return 0; /* had not taken part */
    /* All of it is there before memory is taken for it: the file may say what it likes. */
    struct part parts[PARTS];
    size_t count = list_parts(next, tensor, parts);
    int code = read_parts(file, next, tensor, parts, count, error);
    if (code == 0)
        code = mo_state_make_one(next, tensor, error);
    if (code == 0)
        code = read_contents(file, next, tensor, parts, count, error);
    tensor->master_stale = 0;
    *read += count;
    return code;
}

static int read_all(const struct memopt_tensors *file, struct memopt_optimizer *next,
                    struct memopt_error *error) {
    size_t read = 0;
    int code = read_metadata(file, next, error);
    for (size_t i = 0; i < next->tensor_count && code == 0; i++)
        code = read_tensor(file, next, &next->tensors[i], &read, error);
    if (code == 0 && read != memopt_tensors_count(file))
        code = mo_fail(error, -EINVAL,
                       "it has %zu tensors, of which %zu are this optimizer's: are all parameters "
                       "there, under their names?",
                       memopt_tensors_count(file), read);
    return code;
}

/* A place with the same tensors, without state. NULL: no memory. */
static struct mo_place *copy_place(const struct memopt_optimizer *optimizer) {
    struct mo_place *place = mo_ram_create(optimizer->heap);
    for (size_t i = 0; place != NULL && i < optimizer->tensor_count; i++) {
        const struct mo_tensor *tensor = &optimizer->tensors[i];
        if (place->ops->add(place, tensor->count) < 0) {
            place->ops->destroy(place);
            return NULL;
        }
        place->ops->bind(place, i, MO_AT_DATA, tensor->data);
        place->ops->bind(place, i, MO_AT_GRAD, (void *)tensor->grad);
    }
    return place;
}

static void forget_state(struct mo_tensor *tensor) {
    tensor->has_state = 0;
    tensor->state_bytes = 0;
    tensor->slot_count = 0;
    tensor->updates = 0;
}

int memopt_optimizer_load(struct memopt_optimizer *optimizer, const char *path,
                          struct memopt_error *error) {
    struct memopt_error unwanted; /* from here on there is one to put prefixes to */
    struct memopt_tensors *file;
    if (error == NULL)
        error = &unwanted;
    int code = check_settled(optimizer, error);
    if (code == 0)
        code = memopt_tensors_open(path, &file, error);
    if (code < 0)
        return code;
    /* All is read into a second optimizer, which becomes this one at the end. */
    struct memopt_optimizer next = *optimizer;
    size_t groups = next.group_count * sizeof(*next.groups);
    size_t tensors = next.tensor_count * sizeof(*next.tensors);
    next.groups = memopt_heap_alloc(next.heap, groups);
    next.tensors = memopt_heap_alloc(next.heap, tensors);
    next.place = copy_place(optimizer);
    if (next.groups == NULL || next.tensors == NULL || next.place == NULL) {
        code = mo_fail(error, -ENOMEM, "no memory in heap '%s'", memopt_heap_name(next.heap));
    } else {
        memcpy(next.groups, optimizer->groups, groups);
        if (tensors > 0)
            memcpy(next.tensors, optimizer->tensors, tensors);
        for (size_t i = 0; i < next.tensor_count; i++)
            forget_state(&next.tensors[i]);
        code = read_all(file, &next, error);
    }
    memopt_tensors_close(file);
    if (code == 0) { /* now `next` is to have the old state, to be freed */
        struct mo_place *old = optimizer->place;
        memcpy(optimizer->groups, next.groups, groups);
        if (tensors > 0)
            memcpy(optimizer->tensors, next.tensors, tensors);
        optimizer->updates = next.updates;
        optimizer->micro = next.micro;
        optimizer->place = next.place;
        next.place = old;
    }
    if (next.place != NULL)
        next.place->ops->destroy(next.place);
    memopt_heap_free(next.heap, next.tensors);
    memopt_heap_free(next.heap, next.groups);
    return code < 0 ? mo_error_prefix(error, "%s", path) : 0;
}
