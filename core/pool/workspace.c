/*
 * workspace.c - the tensors of a step in one block (memopt/workspace.h).
 *
 * Everything is decided at creation: where each tensor lies (plan.c), and for each
 * operation which tensors begin with it and which end after it. A step only moves
 * along these lists.
 *
 *   metadata  | workspace | items | lists by operation | names |
 *   block     tensors; in debug each has a red zone of 64 bytes or more after it
 */
#include "core/base/error.h"
#include "core/base/poison.h"
#include "core/pool/debug.h"
#include "core/pool/member.h"
#include "core/pool/plan.h"

#include <memopt/workspace.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 64, ALIGNMENT_MAX = 2 << 20, BEFORE_FIRST = -1 };

struct tensor {
    char *data;
    size_t bytes, room; /* room: with the red zone */
    unsigned first, last;
    const char *name;
};

struct memopt_workspace {
    struct memopt_heap *heap;
    char *block;
    size_t planned;
    uint64_t bound, sum, steps;
    struct tensor *tensors;
    size_t count, names;
    /* those that begin with operation i are begin_list[begins[i]..begins[i + 1]] */
    size_t *begins, *begin_list, *ends, *end_list;
    size_t *by_name; /* sorted */
    unsigned ops;
    int64_t op; /* the current one; BEFORE_FIRST */
    int begun;
    struct mo_pool_debug debug;
};

/* ---------------------------------------------------------------- creation */

static int check_tensor(const char *pool, const struct memopt_workspace_tensor *t, size_t index,
                        struct memopt_error *error) {
    const char *name = t->name == NULL ? "" : t->name;
    const char *wrong = NULL;
    if (t->bytes == 0)
        wrong = "it has no bytes";
    else if (t->bytes > PTRDIFF_MAX / 2)
        return mo_fail(error, -EOVERFLOW, "%s: tensor %zu '%s' has %zu bytes, more than memory",
                       pool, index, name, t->bytes);
    else if ((t->alignment & (t->alignment - 1)) != 0 || t->alignment > ALIGNMENT_MAX)
        wrong = "its alignment is not a power of two up to 2 MiB";
    else if (t->first > t->last)
        wrong = "its last operation is before its first";
    else if (t->last >= MEMOPT_WORKSPACE_OPS)
        wrong = "its last operation is above 1048575";
    if (wrong != NULL)
        return mo_fail(error, -EINVAL, "%s: tensor %zu '%s': %s", pool, index, name, wrong);
    return 0;
}

/* Room in one block of metadata: adds to `size` and gives where it begins. */
static size_t reserve(size_t *size, size_t count, size_t width) {
    size_t at = *size;
    *size += (count * width + 15) & ~(size_t)15;
    return at;
}

struct layout {
    size_t size, tensors, begins, begin_list, ends, end_list, by_name, names;
};

static void lay_out(struct layout *layout, size_t count, unsigned ops, size_t names) {
    layout->size = 0;
    reserve(&layout->size, 1, sizeof(struct memopt_workspace));
    layout->tensors = reserve(&layout->size, count, sizeof(struct tensor));
    layout->begins = reserve(&layout->size, ops + 1u, sizeof(size_t));
    layout->begin_list = reserve(&layout->size, count, sizeof(size_t));
    layout->ends = reserve(&layout->size, ops + 1u, sizeof(size_t));
    layout->end_list = reserve(&layout->size, count, sizeof(size_t));
    layout->by_name = reserve(&layout->size, count, sizeof(size_t));
    layout->names = reserve(&layout->size, names, 1);
}

/* Numbers of tensors by operation; `which` is the first or the last one. */
static void sort_by_op(const struct tensor *tensors, size_t count, unsigned ops, int last,
                       size_t *starts, size_t *list) {
    memset(starts, 0, (ops + 1u) * sizeof(*starts));
    for (size_t i = 0; i < count; i++)
        starts[(last ? tensors[i].last : tensors[i].first) + 1]++;
    for (unsigned op = 0; op < ops; op++)
        starts[op + 1] += starts[op];
    for (size_t i = count; i-- > 0;) { /* moves each start to its end ... */
        unsigned op = last ? tensors[i].last : tensors[i].first;
        list[--starts[op + 1]] = i;
    }
    memmove(starts, starts + 1, ops * sizeof(*starts)); /* ... and back */
    starts[ops] = count;
}

/* The names, sorted; -EEXIST if there is one twice. Insertion from a sorted middle is
 * enough for what is done once. */
static int sort_names(struct memopt_workspace *space, struct memopt_error *error) {
    for (size_t i = 0; i < space->count; i++) {
        if (space->tensors[i].name == NULL)
            continue;
        size_t low = 0, high = space->names;
        while (low < high) {
            size_t middle = (low + high) / 2;
            int order = strcmp(space->tensors[i].name, space->tensors[space->by_name[middle]].name);
            if (order == 0)
                return mo_fail(error, -EEXIST, "%s: tensors %zu and %zu are both named '%s'",
                               space->debug.name, space->by_name[middle], i,
                               space->tensors[i].name);
            if (order < 0)
                high = middle;
            else
                low = middle + 1;
        }
        memmove(&space->by_name[low + 1], &space->by_name[low],
                (space->names - low) * sizeof(*space->by_name));
        space->by_name[low] = i;
        space->names++;
    }
    return 0;
}

static size_t round_up(size_t value, size_t unit) {
    return (value + unit - 1) / unit * unit;
}

/* Fills the offsets in `items`, with scratch memory of the heap's. */
static int make_plan(struct memopt_workspace *space, struct mo_plan_item *items,
                     struct memopt_error *error) {
    size_t scratch = 3 * space->count * sizeof(size_t) + space->ops * sizeof(uint64_t);
    size_t *numbers = memopt_heap_alloc(space->heap, scratch);
    if (numbers == NULL)
        return mo_fail(error, -ENOMEM, "%s: heap '%s' has no memory for planning %zu tensors",
                       space->debug.name, memopt_heap_name(space->heap), space->count);
    size_t count = space->count;
    uint64_t *live = (uint64_t *)(numbers + 3 * count);
    space->planned =
        mo_plan(items, count, space->ops, numbers, numbers + count, numbers + 2 * count, live);
    space->bound = mo_plan_bound(items, count, space->ops, live);
    memopt_heap_free(space->heap, numbers);
    if (space->planned == SIZE_MAX)
        return mo_fail(error, -EOVERFLOW, "%s: the tensors have more bytes than memory can hold",
                       space->debug.name);
    return 0;
}

int memopt_workspace_create(const struct memopt_workspace_tensor *tensors, size_t count,
                            const struct memopt_workspace_options *options,
                            struct memopt_workspace **ret_space, struct memopt_error *error) {
    static const struct memopt_workspace_options defaults = {.size = sizeof(defaults)};
    if (options == NULL)
        options = &defaults;
    if (tensors == NULL || count == 0 || count > UINT32_MAX || ret_space == NULL ||
        options->size != sizeof(*options))
        return mo_fail(error, -EINVAL,
                       "a workspace needs tensors, a place for it, and options of %zu bytes",
                       sizeof(*options));
    struct mo_pool_debug debug;
    int code = mo_debug_init(&debug, "workspace", options->name, options->debug, options->on_misuse,
                             options->context, error);
    if (code < 0)
        return code;
    unsigned ops = 0;
    size_t names = 0, alignment = LINE;
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        code = check_tensor(debug.name, &tensors[i], i, error);
        if (code < 0)
            return code;
        ops = tensors[i].last >= ops ? tensors[i].last + 1 : ops;
        names += tensors[i].name == NULL ? 0 : strlen(tensors[i].name) + 1;
        alignment = tensors[i].alignment > alignment ? tensors[i].alignment : alignment;
        if (__builtin_add_overflow(sum, tensors[i].bytes, &sum))
            return mo_fail(error, -EOVERFLOW, "%s: the tensors have more bytes than memory",
                           debug.name);
    }
    struct memopt_heap *heap;
    code = mo_member_heap(options->heap, &heap, error);
    if (code < 0)
        return code;
    struct layout layout;
    lay_out(&layout, count, ops, names);
    struct memopt_workspace *space = memopt_heap_aligned_alloc(heap, LINE, layout.size);
    struct mo_plan_item *items = memopt_heap_calloc(heap, count, sizeof(*items));
    if (space == NULL || items == NULL) {
        code = mo_fail(error, -ENOMEM, "%s: heap '%s' has no memory for %zu tensors", debug.name,
                       memopt_heap_name(heap), count);
        goto out;
    }
    char *base = (char *)space;
    *space = (struct memopt_workspace){
        .heap = heap,
        .sum = sum,
        .tensors = (struct tensor *)(base + layout.tensors),
        .count = count,
        .begins = (size_t *)(base + layout.begins),
        .begin_list = (size_t *)(base + layout.begin_list),
        .ends = (size_t *)(base + layout.ends),
        .end_list = (size_t *)(base + layout.end_list),
        .by_name = (size_t *)(base + layout.by_name),
        .ops = ops,
        .op = BEFORE_FIRST,
    };
    space->debug = debug;
    char *name = base + layout.names;
    for (size_t i = 0; i < count; i++) {
        struct tensor *t = &space->tensors[i];
        size_t room = round_up(tensors[i].bytes + (debug.on ? LINE : 0), LINE);
        *t = (struct tensor){.bytes = tensors[i].bytes,
                             .room = room,
                             .first = tensors[i].first,
                             .last = tensors[i].last};
        if (tensors[i].name != NULL) {
            t->name = strcpy(name, tensors[i].name);
            name += strlen(name) + 1;
        }
        items[i] = (struct mo_plan_item){
            .size = room,
            .alignment = tensors[i].alignment < LINE ? LINE : tensors[i].alignment,
            .first = t->first,
            .last = t->last};
    }
    sort_by_op(space->tensors, count, ops, 0, space->begins, space->begin_list);
    sort_by_op(space->tensors, count, ops, 1, space->ends, space->end_list);
    code = sort_names(space, error);
    if (code == 0)
        code = make_plan(space, items, error);
    if (code < 0)
        goto out;
    space->block = memopt_heap_aligned_alloc(heap, alignment, space->planned);
    if (space->block == NULL) {
        code = mo_fail(error, -ENOMEM, "%s: heap '%s' has no memory for %zu bytes of tensors",
                       debug.name, memopt_heap_name(heap), space->planned);
        goto out;
    }
    for (size_t i = 0; i < count; i++)
        space->tensors[i].data = space->block + items[i].offset;
    mo_mempool_create(space);
    mo_mempool_hide(heap, space->block);
    mo_poison(space->block, space->planned);
    *ret_space = space;
    space = NULL;
out:
    memopt_heap_free(heap, items);
    memopt_heap_free(heap, space);
    return code;
}

/* ------------------------------------------------------------------- a step */

static void come_alive(struct memopt_workspace *space, const struct tensor *t) {
    mo_mempool_alloc(space, t->data, t->bytes);
    if (space->debug.on)
        mo_pattern_fill(t->data + t->bytes, t->room - t->bytes, MO_PATTERN_AROUND);
}

static void go_away(struct memopt_workspace *space, const struct tensor *t, int *code,
                    struct memopt_error *error) {
    if (space->debug.on) {
        const void *broken =
            mo_pattern_broken(t->data + t->bytes, t->room - t->bytes, MO_PATTERN_AROUND);
        if (broken != NULL) {
            int found = mo_misuse(&space->debug, MEMOPT_MISUSE_OVERFLOW, t->data, t->bytes, broken,
                                  *code == 0 ? error : NULL);
            *code = *code == 0 ? found : *code;
        }
        mo_pattern_fill(t->data, t->bytes, MO_PATTERN_RETURNED);
    }
    mo_mempool_free(space, t->data, t->bytes);
}

/* All operations up to `op` have begun, and all before it ended. */
static int advance(struct memopt_workspace *space, int64_t op, struct memopt_error *error) {
    int code = 0;
    while (space->op < op) {
        if (space->op >= 0)
            for (size_t i = space->ends[space->op]; i < space->ends[space->op + 1]; i++)
                go_away(space, &space->tensors[space->end_list[i]], &code, error);
        space->op++;
        if (space->op < space->ops)
            for (size_t i = space->begins[space->op]; i < space->begins[space->op + 1]; i++)
                come_alive(space, &space->tensors[space->begin_list[i]]);
    }
    return code;
}

int memopt_workspace_begin(struct memopt_workspace *space, struct memopt_error *error) {
    if (space == NULL)
        return mo_fail(error, -EINVAL, "a step needs a workspace");
    if (space->begun)
        return mo_fail(error, -EBUSY, "%s: the step before has not been ended", space->debug.name);
    space->begun = 1;
    return 0;
}

int memopt_workspace_op(struct memopt_workspace *space, unsigned op, struct memopt_error *error) {
    if (space == NULL)
        return mo_fail(error, -EINVAL, "an operation needs a workspace");
    if (!space->begun)
        return mo_fail(error, -EINVAL, "%s: operation %u, but no step has begun", space->debug.name,
                       op);
    if (op >= space->ops || (int64_t)op < space->op)
        return mo_fail(error, -EINVAL, "%s: operation %u: %lld to %u were expected",
                       space->debug.name, op, (long long)(space->op < 0 ? 0 : space->op),
                       space->ops - 1);
    return advance(space, op, error);
}

int memopt_workspace_end(struct memopt_workspace *space, struct memopt_error *error) {
    if (space == NULL || !space->begun)
        return mo_fail(error, -EINVAL, "%s: no step has begun",
                       space == NULL ? "workspace" : space->debug.name);
    int code = 0;
    if (space->op >= 0) /* operations that were not reached have brought nothing */
        for (size_t i = 0; i < space->count; i++) {
            const struct tensor *t = &space->tensors[i];
            if (t->first <= space->op && t->last >= space->op)
                go_away(space, t, &code, error);
        }
    space->op = BEFORE_FIRST;
    space->begun = 0;
    space->steps++;
    return code;
}

void *memopt_workspace_get(const struct memopt_workspace *space, size_t index) {
    if (space != NULL && index < space->count) {
        const struct tensor *t = &space->tensors[index];
        if (t->first <= space->op && space->op <= t->last)
            return t->data;
    }
    errno = EINVAL;
    return NULL;
}

ptrdiff_t memopt_workspace_find(const struct memopt_workspace *space, const char *name) {
    size_t low = 0, high = space == NULL || name == NULL ? 0 : space->names;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(name, space->tensors[space->by_name[middle]].name);
        if (order == 0)
            return (ptrdiff_t)space->by_name[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -ENOENT;
}

int memopt_workspace_stats(const struct memopt_workspace *space,
                           struct memopt_workspace_statistics *stats) {
    if (space == NULL || stats == NULL || stats->size > sizeof(*stats) ||
        stats->size < offsetof(struct memopt_workspace_statistics, operations))
        return -EINVAL;
    struct memopt_workspace_statistics all = {
        .size = stats->size,
        .tensors = space->count,
        .operations = space->ops,
        .planned = space->planned,
        .bound = space->bound,
        .sum = space->sum,
        .steps = space->steps,
        .misuses = atomic_load_explicit(&space->debug.count, memory_order_relaxed),
    };
    memcpy(stats, &all, stats->size);
    return 0;
}

int memopt_workspace_place(const struct memopt_workspace *space, size_t index, size_t *ret_offset,
                           size_t *ret_bytes) {
    if (space == NULL || index >= space->count || ret_offset == NULL || ret_bytes == NULL)
        return -EINVAL;
    *ret_offset = (size_t)(space->tensors[index].data - space->block);
    *ret_bytes = space->tensors[index].bytes;
    return 0;
}

void memopt_workspace_destroy(struct memopt_workspace *space) {
    if (space == NULL)
        return;
    struct memopt_heap *heap = space->heap;
    mo_mempool_destroy(space);
    mo_mempool_unhide(heap, space->block, space->planned);
    memopt_heap_free(heap, space->block);
    memopt_heap_free(heap, space);
}
