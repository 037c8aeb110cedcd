/*
 * optimizer.c - the public operations of an optimizer, and what a step does.
 */
#include "core/optim/convert.h"
#include "core/optim/optim.h"

#include "core/base/error.h"
#include "core/store/header.h"

#include <memopt/dtype.h>
#include <memopt/utf8.h>

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

int mo_no_optimizer(struct memopt_error *error) {
    return mo_fail(error, -EINVAL, "the optimizer is NULL");
}

/* ------------------------------------------------------- beginning and end */

int memopt_optimizer_create(const struct memopt_optimizer_options *given,
                            struct memopt_optimizer **ret_optimizer, struct memopt_error *error) {
    struct memopt_error unwanted; /* from here on there is one to put prefixes to */
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    if (error == NULL)
        error = &unwanted;
    if (ret_optimizer == NULL)
        return mo_fail(error, -EINVAL, "memopt_optimizer_create: a result is needed");
    if (given != NULL) {
        if (given->size < offsetof(struct memopt_optimizer_options, name) ||
            given->size > sizeof(options))
            return mo_fail(error, -EINVAL,
                           "the optimizer's options have size %zu: begin with "
                           "MEMOPT_OPTIMIZER_OPTIONS_INIT",
                           given->size);
        memcpy(&options, given, given->size);
    }
    struct mo_settings_optimizer settings;
    struct memopt_heap *heap;
    int code = mo_settings_begin(&options, &settings, &heap, error);
    if (code < 0)
        return code;
    struct memopt_optimizer *optimizer = memopt_heap_calloc(heap, 1, sizeof(*optimizer));
    struct mo_group *groups = memopt_heap_calloc(heap, 1, sizeof(*groups));
    if (optimizer == NULL || groups == NULL) {
        memopt_heap_free(heap, optimizer);
        memopt_heap_free(heap, groups);
        return mo_fail(error, -ENOMEM, "no memory for an optimizer in heap '%s'",
                       memopt_heap_name(heap));
    }
    groups->settings = settings;
    optimizer->heap = heap;
    optimizer->method = mo_methods[settings.name];
    optimizer->groups = groups;
    optimizer->group_count = 1;
    optimizer->place = mo_ram_create(heap);
    unsigned threads = settings.threads > 0 ? (unsigned)settings.threads : mo_cpu_count();
    groups->settings.threads = threads;
    if (optimizer->place == NULL)
        code = mo_fail(error, -ENOMEM, "no memory for an optimizer in heap '%s'",
                       memopt_heap_name(heap));
    else
        code = mo_workers_create(heap, threads, &optimizer->workers, error);
    if (code < 0) {
        memopt_optimizer_destroy(optimizer);
        return code;
    }
    *ret_optimizer = optimizer;
    return 0;
}

void memopt_optimizer_destroy(struct memopt_optimizer *optimizer) {
    if (optimizer == NULL)
        return;
    struct memopt_heap *heap = optimizer->heap;
    mo_workers_destroy(optimizer->workers);
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        memopt_heap_free(heap, optimizer->tensors[i].order);
        memopt_heap_free(heap, optimizer->tensors[i].name);
    }
    if (optimizer->place != NULL)
        optimizer->place->ops->destroy(optimizer->place);
    memopt_heap_free(heap, optimizer->tensors);
    memopt_heap_free(heap, optimizer->sums);
    memopt_heap_free(heap, optimizer->groups);
    memopt_heap_free(heap, optimizer);
}

const char *memopt_optimizer_name(const struct memopt_optimizer *optimizer) {
    return optimizer == NULL ? NULL : optimizer->method->name;
}

/* ------------------------------------------------------ groups and settings */

int memopt_optimizer_add_group(struct memopt_optimizer *optimizer, const char *text,
                               struct memopt_error *error) {
    if (optimizer == NULL)
        return mo_no_optimizer(error);
    struct mo_settings_optimizer settings = optimizer->groups[0].settings;
    if (optimizer->method->by_loss)
        return mo_fail(error, -EINVAL, "%s has no groups: its parameters are one vector",
                       optimizer->method->name);
    int code = mo_settings_parse(optimizer->method, text, 0, &settings, error);
    if (code < 0)
        return code;
    struct mo_group *groups = memopt_heap_realloc(optimizer->heap, optimizer->groups,
                                                  (optimizer->group_count + 1) * sizeof(*groups));
    if (groups == NULL)
        return mo_fail(error, -ENOMEM, "no memory for a group in heap '%s'",
                       memopt_heap_name(optimizer->heap));
    optimizer->groups = groups;
    groups[optimizer->group_count].settings = settings;
    return (int)optimizer->group_count++;
}

static int group_has_state(const struct memopt_optimizer *optimizer, size_t group) {
    for (size_t i = 0; i < optimizer->tensor_count; i++)
        if (optimizer->tensors[i].group == group && optimizer->tensors[i].has_state)
            return 1;
    return 0;
}

static int same_layout(const struct mo_method *method, const struct mo_tensor *tensor,
                       const struct mo_settings_optimizer *now,
                       const struct mo_settings_optimizer *next) {
    struct mo_layout a, b;
    mo_state_layout(method, now, tensor, &a);
    mo_state_layout(method, next, tensor, &b);
    return mo_layout_same(&a, &b);
}

/* Would the new settings want another state than the one that is there? */
static int check_state_kept(const struct memopt_optimizer *optimizer, size_t group,
                            const struct mo_settings_optimizer *now,
                            const struct mo_settings_optimizer *next, struct memopt_error *error) {
    if (now->threads != next->threads)
        return mo_fail(error, -EBUSY, "'threads' can't change: the threads are there");
    if (optimizer->micro != 0 && now->accumulate != next->accumulate)
        return mo_fail(error, -EBUSY, "'accumulate' can't change between the steps of an update");
    if (!group_has_state(optimizer, group))
        return 0;
    if (optimizer->perturbed && now->sam != next->sam)
        return mo_fail(error, -EBUSY, "'sam' can't change between a perturbation and its step");
    int same = now->rounding == next->rounding && now->state_format == next->state_format;
    for (size_t i = 0; same && i < optimizer->tensor_count; i++)
        same = optimizer->tensors[i].group != group ||
               same_layout(optimizer->method, &optimizer->tensors[i], now, next);
    if (same)
        return 0;
    return mo_fail(error, -EBUSY,
                   "these settings need another state than the one that is there: "
                   "set them before the first step");
}

/* One change, as text or as a number; committed only with `commit`. */
struct change {
    const char *text; /* NULL: a number */
    const char *key;
    double value;
};
static int change_group(struct memopt_optimizer *optimizer, size_t group, int whole,
                        const struct change *change, int commit, struct memopt_error *error) {
    struct mo_settings_optimizer *now = &optimizer->groups[group].settings, next = *now;
    int code = change->text != NULL
                   ? mo_settings_parse(optimizer->method, change->text, whole, &next, error)
                   : mo_settings_number(optimizer->method, change->key, change->value, whole, &next,
                                        error);
    if (code == 0)
        code = check_state_kept(optimizer, group, now, &next, error);
    if (code == 0 && commit)
        *now = next;
    return code;
}

static int change_groups(struct memopt_optimizer *optimizer, int group, const struct change *change,
                         struct memopt_error *error) {
    if (optimizer == NULL)
        return mo_no_optimizer(error);
    if (group < MEMOPT_ALL_GROUPS || group >= (int)optimizer->group_count)
        return mo_fail(error, -EINVAL, "there is no group %d, the last is %zu", group,
                       optimizer->group_count - 1);
    int all = group == MEMOPT_ALL_GROUPS;
    size_t first = all ? 0 : (size_t)group, end = all ? optimizer->group_count : first + 1;
    int code = 0;
    for (int commit = 0; commit < 2 && code == 0; commit++)
        for (size_t i = first; i < end && code == 0; i++)
            code = change_group(optimizer, i, all, change, commit, error);
    return code;
}

int memopt_optimizer_set(struct memopt_optimizer *optimizer, int group, const char *settings,
                         struct memopt_error *error) {
    struct change change = {.text = settings != NULL ? settings : ""};
    return change_groups(optimizer, group, &change, error);
}

int memopt_optimizer_set_number(struct memopt_optimizer *optimizer, int group, const char *key,
                                double value, struct memopt_error *error) {
    struct change change = {.key = key, .value = value};
    return change_groups(optimizer, group, &change, error);
}

int memopt_optimizer_get_number(const struct memopt_optimizer *optimizer, int group,
                                const char *key, double *ret_value, struct memopt_error *error) {
    if (optimizer == NULL)
        return mo_no_optimizer(error);
    if (ret_value == NULL)
        return mo_fail(error, -EINVAL, "memopt_optimizer_get_number: a result is needed");
    if (group < 0 || group >= (int)optimizer->group_count)
        return mo_fail(error, -EINVAL, "there is no group %d, the last is %zu", group,
                       optimizer->group_count - 1);
    return mo_settings_get(optimizer->method, key, &optimizer->groups[group].settings, ret_value,
                           error);
}

/* --------------------------------------------------------------- parameters */

static int is_dtype(int dtype) {
    return dtype == MEMOPT_DTYPE_F32 || dtype == MEMOPT_DTYPE_BF16 || dtype == MEMOPT_DTYPE_F16;
}

static int is_aligned(const void *p, int dtype) {
    return (uintptr_t)p % mo_element_size(dtype) == 0;
}

static int check_shape(const struct memopt_param *param, struct memopt_error *error) {
    uint64_t product = 1;
    if (param->count == 0)
        return mo_fail(error, -EINVAL, "parameter '%s' has no elements", param->name);
    if (param->count > PTRDIFF_MAX / sizeof(float))
        return mo_fail(error, -EINVAL, "parameter '%s': %" PRIu64 " elements are too many",
                       param->name, param->count);
    if (param->rank > MEMOPT_PARAM_RANK_MAX)
        return mo_fail(error, -EINVAL, "parameter '%s': %u dimensions, expected at most %d",
                       param->name, param->rank, MEMOPT_PARAM_RANK_MAX);
    for (unsigned i = 0; i < param->rank; i++)
        if (__builtin_mul_overflow(product, param->shape[i], &product))
            product = 0;
    if (param->rank != 0 && product != param->count)
        return mo_fail(error, -EINVAL,
                       "parameter '%s': its shape is not of %" PRIu64 " elements, its count",
                       param->name, param->count);
    return 0;
}

static int is_utf8(const char *text) {
    for (size_t left = strlen(text), step; left > 0; text += step, left -= step)
        if ((step = memopt_utf8(text, left, NULL)) == 0)
            return 0;
    return 1;
}

static int check_param(const struct memopt_optimizer *optimizer, const struct memopt_param *param,
                       struct memopt_error *error) {
    const char *name = param->name;
    if (name == NULL || name[0] == '\0')
        return mo_fail(error, -EINVAL, "a parameter needs a name");
    if (!is_utf8(name))
        return mo_fail(error, -EINVAL,
                       "parameter '%s': its name is not UTF-8, as the names in state files are",
                       name);
    for (size_t i = 0; i < optimizer->tensor_count; i++)
        if (strcmp(optimizer->tensors[i].name, name) == 0)
            return mo_fail(error, -EEXIST, "there is a parameter '%s' already", name);
    if (!is_dtype(param->dtype) || !is_dtype(param->grad_dtype))
        return mo_fail(error, -EINVAL, "parameter '%s': %s of type %d, not F32, BF16 or F16", name,
                       is_dtype(param->dtype) ? "a gradient" : "values",
                       is_dtype(param->dtype) ? param->grad_dtype : param->dtype);
    if (param->data == NULL)
        return mo_fail(error, -EINVAL, "parameter '%s': its data is NULL", name);
    if (!is_aligned(param->data, param->dtype) || !is_aligned(param->grad, param->grad_dtype))
        return mo_fail(error, -EINVAL, "parameter '%s': its %s is not aligned to its type", name,
                       is_aligned(param->data, param->dtype) ? "gradient" : "data");
    if (optimizer->method->by_loss &&
        (param->dtype != MEMOPT_DTYPE_F32 || param->grad_dtype != MEMOPT_DTYPE_F32))
        return mo_fail(error, -EINVAL, "parameter '%s': %s takes F32 only", name,
                       optimizer->method->name);
    if (param->grad != NULL && optimizer->method->sparse)
        return mo_fail(error, -EINVAL, "parameter '%s': %s takes sparse gradients", name,
                       optimizer->method->name);
    if (param->group < 0 || param->group >= (int)optimizer->group_count)
        return mo_fail(error, -EINVAL, "parameter '%s': there is no group %d, the last is %zu",
                       name, param->group, optimizer->group_count - 1);
    if (optimizer->micro != 0 || optimizer->perturbed)
        return mo_fail(error, -EBUSY, "parameter '%s': can't be added %s", name,
                       optimizer->perturbed ? "between a perturbation and its step"
                                            : "between the steps of an update");
    return check_shape(param, error);
}

/* A tensor's name as a number (FNV-1a). */
static uint32_t name_hash(const char *name) {
    uint32_t hash = 2166136261u;
    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash;
}

/* Room for one tensor more, and for the sums of its chunks. */
static int make_room(struct memopt_optimizer *optimizer, size_t chunks) {
    if (optimizer->tensor_count == optimizer->tensor_room) {
        size_t room = optimizer->tensor_room < 8 ? 8 : 2 * optimizer->tensor_room;
        struct mo_tensor *tensors =
            memopt_heap_realloc(optimizer->heap, optimizer->tensors, room * sizeof(*tensors));
        if (tensors == NULL)
            return -ENOMEM;
        optimizer->tensors = tensors;
        optimizer->tensor_room = room;
    }
    size_t there = optimizer->place->chunk_count;
    if (optimizer->chunk_room - there < chunks) {
        size_t room = there + chunks + there / 2;
        double *sums =
            memopt_heap_realloc(optimizer->heap, optimizer->sums, room * MO_SUMS * sizeof(*sums));
        if (sums == NULL)
            return -ENOMEM;
        optimizer->sums = sums;
        optimizer->chunk_room = room;
    }
    return 0;
}

int memopt_optimizer_add(struct memopt_optimizer *optimizer, const struct memopt_param *given,
                         size_t *ret_index, struct memopt_error *error) {
    if (optimizer == NULL)
        return mo_no_optimizer(error);
    struct memopt_param param = MEMOPT_PARAM_INIT;
    if (given == NULL || given->size < offsetof(struct memopt_param, name) ||
        given->size > sizeof(param))
        return mo_fail(error, -EINVAL, "a parameter's size is %zu: begin with MEMOPT_PARAM_INIT",
                       given == NULL ? 0 : given->size);
    memcpy(&param, given, given->size);
    if (param.grad_dtype == 0)
        param.grad_dtype = param.dtype;
    int code = check_param(optimizer, &param, error);
    if (code < 0)
        return code;
    struct mo_place *place = optimizer->place;
    size_t length = strlen(param.name) + 1;
    char *name = memopt_heap_alloc(optimizer->heap, length);
    if (name == NULL || make_room(optimizer, mo_chunk_count(param.count)) < 0 ||
        place->ops->add(place, param.count) < 0) {
        memopt_heap_free(optimizer->heap, name);
        return mo_fail(error, -ENOMEM, "no memory for parameter '%s' in heap '%s'", param.name,
                       memopt_heap_name(optimizer->heap));
    }
    memcpy(name, param.name, length);
    struct mo_tensor *tensor = &optimizer->tensors[optimizer->tensor_count];
    *tensor = (struct mo_tensor){
        .name = name,
        .number = optimizer->tensor_count,
        .dtype = param.dtype,
        .grad_dtype = param.grad_dtype,
        .group = (unsigned)param.group,
        .data = param.data,
        .grad = param.grad,
        .count = param.count,
        .rank = param.rank == 0 ? 1 : param.rank,
        .id = name_hash(name),
    };
    memcpy(tensor->shape, param.shape, sizeof(tensor->shape));
    if (param.rank == 0)
        tensor->shape[0] = param.count;
    place->ops->bind(place, tensor->number, MO_AT_DATA, param.data);
    place->ops->bind(place, tensor->number, MO_AT_GRAD, (void *)param.grad);
    if (ret_index != NULL)
        *ret_index = optimizer->tensor_count;
    optimizer->tensor_count++;
    return 0;
}

static int check_index(const struct memopt_optimizer *optimizer, size_t index,
                       struct memopt_error *error) {
    if (index < optimizer->tensor_count)
        return 0;
    return mo_fail(error, -EINVAL, "there is no parameter %zu, but %zu of them", index,
                   optimizer->tensor_count);
}

int memopt_optimizer_set_data(struct memopt_optimizer *optimizer, size_t index, void *data,
                              struct memopt_error *error) {
    if (optimizer == NULL)
        return mo_no_optimizer(error);
    int code = check_index(optimizer, index, error);
    if (code < 0)
        return code;
    struct mo_tensor *tensor = &optimizer->tensors[index];
    if (data == NULL || !is_aligned(data, tensor->dtype))
        return mo_fail(error, -EINVAL, "parameter '%s': its data is %s", tensor->name,
                       data == NULL ? "NULL" : "not aligned to its type");
    tensor->data = data;
    optimizer->place->ops->bind(optimizer->place, index, MO_AT_DATA, data);
    return 0;
}

int memopt_optimizer_set_grad(struct memopt_optimizer *optimizer, size_t index, const void *grad,
                              struct memopt_error *error) {
    if (optimizer == NULL)
        return mo_no_optimizer(error);
    int code = check_index(optimizer, index, error);
    if (code < 0)
        return code;
    struct mo_tensor *tensor = &optimizer->tensors[index];
    if (grad != NULL && optimizer->method->sparse)
        return mo_fail(error, -EINVAL, "parameter '%s': %s takes sparse gradients", tensor->name,
                       optimizer->method->name);
    if (!is_aligned(grad, tensor->grad_dtype))
        return mo_fail(error, -EINVAL, "parameter '%s': its gradient is not aligned to its type",
                       tensor->name);
    tensor->grad = grad;
    optimizer->place->ops->bind(optimizer->place, index, MO_AT_GRAD, (void *)grad);
    return 0;
}

void memopt_optimizer_data_changed(struct memopt_optimizer *optimizer) {
    for (size_t i = 0; optimizer != NULL && i < optimizer->tensor_count; i++)
        optimizer->tensors[i].master_stale = 1;
}

/* -------------------------------------------------------------------- steps */

static void accumulate_chunk(void *context, size_t chunk) {
    const struct mo_pass *pass = context;
    struct mo_span span;
    const struct mo_tensor *tensor = mo_pass_acquire(pass, chunk, &span);
    mo_gradient_add(span.at[MO_AT_ACCUMULATOR], span.at[MO_AT_GRAD], tensor->grad_dtype,
                    span.range.count, pass->first);
    mo_pass_release(pass, &span, 1);
}

static void square_chunk(void *context, size_t chunk) {
    const struct mo_pass *pass = context;
    struct mo_span span;
    if (pass->optimizer->method->sparse) {
        mo_sparse_chunk(pass, chunk, 1);
        return;
    }
    const struct mo_tensor *tensor = mo_pass_acquire(pass, chunk, &span);
    pass->optimizer->sums[chunk * MO_SUMS] =
        pass->accumulated
            ? mo_gradient_square(span.at[MO_AT_ACCUMULATOR], MEMOPT_DTYPE_F32, span.range.count)
            : mo_gradient_square(span.at[MO_AT_GRAD], tensor->grad_dtype, span.range.count);
    mo_pass_release(pass, &span, 0);
}

static void update_chunk(void *context, size_t chunk) {
    const struct mo_pass *pass = context;
    struct mo_span span;
    struct mo_operands operands;
    if (pass->optimizer->method->sparse) {
        mo_sparse_chunk(pass, chunk, 0);
        return;
    }
    const struct mo_tensor *tensor = mo_pass_acquire(pass, chunk, &span);
    struct mo_scalars scalars = tensor->scalars;
    mo_pass_operands(pass, tensor, &span, &operands);
    scalars.first = span.range.first;
    double *sums = pass->optimizer->sums + chunk * MO_SUMS;
    for (size_t i = 0; i < MO_SUMS; i++)
        sums[i] = 0;
    mo_operands_update(&operands, &tensor->kernels, &scalars, sums);
    mo_pass_release(pass, &span, 1);
}

static uint32_t make_key(const struct mo_settings_optimizer *settings,
                         const struct mo_tensor *tensor) {
    uint64_t seed = (uint64_t)settings->seed;
    uint32_t key = mo_hash((uint32_t)seed);
    key = mo_hash(key ^ (uint32_t)(seed >> 32));
    key = mo_hash(key ^ tensor->id);
    key = mo_hash(key ^ (uint32_t)tensor->updates);
    return mo_hash(key ^ (uint32_t)(tensor->updates >> 32));
}

static void update(struct mo_pass *pass, double scale) {
    struct memopt_optimizer *optimizer = pass->optimizer;
    const struct mo_method *method = optimizer->method;
    mo_state_refresh(optimizer);
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        struct mo_tensor *tensor = &optimizer->tensors[i];
        const struct mo_settings_optimizer *settings = &optimizer->groups[tensor->group].settings;
        tensor->updates++;
        tensor->scalars = (struct mo_scalars){.scale = (float)(settings->maximize ? -scale : scale),
                                              .tensor = tensor};
        tensor->key = make_key(settings, tensor);
        method->prepare(settings, tensor);
        int grad_dtype = pass->accumulated ? MEMOPT_DTYPE_F32 : tensor->grad_dtype;
        if (method->survey != NULL)
            method->survey(settings, tensor,
                           tensor->whole.at[pass->accumulated ? MO_AT_ACCUMULATOR : MO_AT_GRAD],
                           grad_dtype, optimizer->workers);
        tensor->kernels = (struct mo_kernels){
            .update = method->kernel(settings, 0),
            .block = method->block == NULL ? NULL : method->block(settings, tensor, grad_dtype),
        };
    }
    mo_pass_run(pass, update_chunk);
    int two_passes = (method->needs & MO_NEEDS_NORMS) != 0;
    for (size_t i = 0; two_passes && i < optimizer->tensor_count; i++) {
        struct mo_tensor *tensor = &optimizer->tensors[i];
        const struct mo_settings_optimizer *settings = &optimizer->groups[tensor->group].settings;
        double sums[MO_SUMS];
        mo_pass_sums(optimizer, tensor, sums);
        method->finish(settings, tensor, sums);
        tensor->kernels = (struct mo_kernels){.update = method->kernel(settings, 1)};
    }
    if (two_passes)
        mo_pass_run(pass, update_chunk);
    optimizer->updates++;
    mo_lookahead(pass);
}

static int check_step(const struct memopt_optimizer *optimizer, const struct memopt_step *ret_step,
                      struct memopt_error *error) {
    if (optimizer == NULL)
        return mo_no_optimizer(error);
    if (ret_step != NULL && (ret_step->size < offsetof(struct memopt_step, updated) ||
                             ret_step->size > sizeof(*ret_step)))
        return mo_fail(error, -EINVAL, "the step's size is %zu: begin with MEMOPT_STEP_INIT",
                       ret_step->size);
    if (optimizer->method->by_loss)
        return mo_fail(error, -EINVAL, "%s looks at the loss: use memopt_optimizer_minimize()",
                       optimizer->method->name);
    if (optimizer->tensor_count == 0)
        return mo_fail(error, -EINVAL, "the optimizer has no parameters");
    for (size_t i = 0; i < optimizer->tensor_count; i++) {
        const struct mo_tensor *tensor = &optimizer->tensors[i];
        if (optimizer->method->sparse ? !tensor->has_sparse : tensor->grad == NULL)
            return mo_fail(error, -EINVAL, "parameter '%s' has no gradient", tensor->name);
    }
    return 0;
}

/* The norm of all gradients, as the update would see them. */
static double find_norm(struct mo_pass *pass, double scale) {
    double sums[MO_SUMS];
    mo_pass_run(pass, square_chunk);
    mo_pass_sums(pass->optimizer, NULL, sums);
    return sqrt(sums[0]) * scale;
}

static void step(struct memopt_optimizer *optimizer, struct memopt_step *result) {
    const struct mo_settings_optimizer *settings = &optimizer->groups[0].settings;
    struct mo_pass pass = {.optimizer = optimizer};
    double scale = 1, clip = 1;
    if (settings->accumulate > 1) {
        pass.first = optimizer->micro == 0;
        mo_pass_run(&pass, accumulate_chunk);
        optimizer->micro++;
        if (optimizer->micro < settings->accumulate)
            return;
        optimizer->micro = 0;
        pass.accumulated = 1;
        scale = 1 / (double)settings->accumulate;
    }
    if (settings->clip_norm > 0 || settings->skip_nonfinite) {
        double norm = find_norm(&pass, scale);
        result->grad_norm = norm;
        if (!isfinite(norm) && settings->skip_nonfinite) {
            result->skipped = 1;
            return;
        }
        if (isfinite(norm) && settings->clip_norm > 0 && settings->clip_norm < norm + 1e-6)
            clip = settings->clip_norm / (norm + 1e-6);
    }
    update(&pass, scale * clip);
    result->updated = 1;
    result->grad_scale = clip;
}

int memopt_optimizer_step(struct memopt_optimizer *optimizer, struct memopt_step *ret_step,
                          struct memopt_error *error) {
    int code = check_step(optimizer, ret_step, error);
    if (code == 0)
        code = mo_workers_ready(optimizer->workers, error);
    if (code == 0 && optimizer->method->sparse)
        code = mo_sparse_begin(optimizer, error);
    if (code == 0)
        code = mo_state_make(optimizer, error);
    if (code < 0)
        return code;
    struct memopt_step result = {
        .size = ret_step != NULL ? ret_step->size : 0,
        .grad_norm = (double)NAN,
        .grad_scale = 1,
    };
    mo_unperturb(optimizer);
    mo_pass_hold(optimizer);
    step(optimizer, &result);
    mo_pass_let_go(optimizer, 1);
    result.updates = optimizer->updates;
    if (ret_step != NULL)
        memcpy(ret_step, &result, ret_step->size);
    return 0;
}
