/* build.c - see build.h. */
#include "core/model/build.h"

#include "core/model/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

size_t mo_build_maximum = 1 << 20;

/* ---------------------------------------------- tables without equal elements */

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count) {
    const unsigned char *at = bytes;
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 32;
}

#define HASH_BEGIN UINT64_C(0xcbf29ce484222325)
/* Of a number, or of a text that is known to be the only one of its bytes. */
#define HASH(HASH, VALUE) hash_bytes(HASH, &(VALUE), sizeof(VALUE))

typedef int (*is_same_fn)(const void *element, const void *wanted);

/* At least half of the slots stay free. */
static int make_room(struct mo_table *table) {
    if ((table->count + 1) * 2 <= table->slot_count)
        return 0;
    size_t room = table->slot_count == 0 ? 64 : table->slot_count * 2;
    struct mo_table_slot *larger = calloc(room, sizeof(*larger));
    if (larger == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < table->slot_count; i++) {
        size_t at = (size_t)table->slots[i].hash;
        if (table->slots[i].number == 0)
            continue;
        while (larger[at & (room - 1)].number != 0)
            at++;
        larger[at & (room - 1)] = table->slots[i];
    }
    free(table->slots);
    table->slots = larger;
    table->slot_count = room;
    return 0;
}

/* The slot of what is wanted: its number is the element's index + 1, or 0: it is not there.
 * NULL: out of memory. */
static struct mo_table_slot *find(struct mo_table *table, uint64_t hash, is_same_fn is_same,
                                  const void *wanted) {
    if (make_room(table) < 0)
        return NULL;
    for (size_t at = (size_t)hash;; at++) {
        struct mo_table_slot *slot = &table->slots[at & (table->slot_count - 1)];
        if (slot->number == 0 ||
            (slot->hash == hash &&
             is_same((char *)table->items + (slot->number - 1) * table->size, wanted)))
            return slot;
    }
}

static int append(struct memopt_report *report, struct mo_table *table, struct mo_table_slot *slot,
                  uint64_t hash, const void *element) {
    if (table->count >= mo_build_maximum)
        return -ENOSPC;
    void *items = mo_model_grow(report, table->items, table->count, &table->room, table->size);
    if (items == NULL)
        return -ENOMEM;
    table->items = items;
    memcpy((char *)items + table->count * table->size, element, table->size);
    *slot = (struct mo_table_slot){hash, (uint32_t)++table->count};
    return 0;
}

/* ------------------------------------------------------------------- texts */

static int is_same_text(const void *element, const void *wanted) {
    return strcmp(*(const char *const *)element, wanted) == 0;
}

const char *mo_build_text(struct memopt_report *report, const char *text) {
    struct mo_table *table = &mo_model_of(report)->texts;
    if (text == NULL)
        return NULL;
    uint64_t hash = hash_bytes(HASH_BEGIN, text, strlen(text));
    table->size = sizeof(char *);
    struct mo_table_slot *slot = find(table, hash, is_same_text, text);
    if (slot == NULL)
        return NULL;
    if (slot->number != 0)
        return ((const char **)table->items)[slot->number - 1];
    const char *copy = mo_report_strdup(report, text);
    if (copy == NULL)
        return NULL;
    /* full: it is whole all the same, if not the only one */
    return append(report, table, slot, hash, &copy) == -ENOMEM ? NULL : copy;
}

/* Copies the text if there is one. */
static int put_text(struct memopt_report *report, const char **text) {
    const char *copy = mo_build_text(report, *text);
    if (*text != NULL && copy == NULL)
        return -ENOMEM;
    *text = copy;
    return 0;
}

/* -------------------------------------------------------------------- code */

static int is_same_module(const void *element, const void *wanted) {
    const struct memopt_module *a = element, *b = wanted;
    return a->path == b->path && a->build_id == b->build_id;
}

int mo_build_module(struct memopt_report *report, const char *path, const char *build_id,
                    uint32_t *ret_module) {
    struct mo_table *table = &mo_model_of(report)->modules;
    struct memopt_module module = {path, build_id};
    if (put_text(report, &module.path) < 0 || put_text(report, &module.build_id) < 0)
        return -ENOMEM;
    uint64_t hash = HASH(HASH(HASH_BEGIN, module.path), module.build_id);
    table->size = sizeof(module);
    struct mo_table_slot *slot = find(table, hash, is_same_module, &module);
    int r = slot == NULL        ? -ENOMEM
            : slot->number != 0 ? 0
                                : append(report, table, slot, hash, &module);
    if (r < 0)
        return r;
    report->modules = table->items;
    report->module_count = table->count;
    *ret_module = slot->number - 1;
    return 0;
}

static int is_same_function(const void *element, const void *wanted) {
    const struct memopt_function *a = element, *b = wanted;
    return a->name == b->name && a->system_name == b->system_name && a->file == b->file;
}

int mo_build_function(struct memopt_report *report, const char *name, const char *system_name,
                      const char *file, uint32_t *ret_function) {
    struct mo_table *table = &mo_model_of(report)->functions;
    struct memopt_function function = {name, system_name, file};
    if (put_text(report, &function.name) < 0 || put_text(report, &function.system_name) < 0 ||
        put_text(report, &function.file) < 0)
        return -ENOMEM;
    uint64_t hash =
        HASH(HASH(HASH(HASH_BEGIN, function.name), function.system_name), function.file);
    table->size = sizeof(function);
    struct mo_table_slot *slot = find(table, hash, is_same_function, &function);
    int r = slot == NULL        ? -ENOMEM
            : slot->number != 0 ? 0
                                : append(report, table, slot, hash, &function);
    if (r < 0)
        return r;
    report->functions = table->items;
    report->function_count = table->count;
    *ret_function = slot->number - 1;
    return 0;
}

/* The address tells what is there; without one, the lines do. */
static int has_address(const struct memopt_location *location) {
    return location->address != MEMOPT_UNKNOWN;
}

static int is_same_location(const void *element, const void *wanted) {
    const struct memopt_location *a = element, *b = wanted;
    if (a->module != b->module || a->address != b->address)
        return 0;
    if (has_address(a))
        return 1;
    if (a->line_count != b->line_count)
        return 0;
    for (size_t i = 0; i < a->line_count; i++)
        if (a->lines[i].function != b->lines[i].function || a->lines[i].line != b->lines[i].line)
            return 0;
    return 1;
}

int mo_build_location(struct memopt_report *report, const struct memopt_location *like,
                      uint32_t *ret_location) {
    struct mo_table *table = &mo_model_of(report)->locations;
    struct memopt_location location = *like;
    if (location.line_count > MO_LINES)
        location.line_count = MO_LINES;
    uint64_t hash = HASH(HASH(HASH_BEGIN, location.module), location.address);
    for (size_t i = 0; i < location.line_count && !has_address(&location); i++)
        hash = HASH(HASH(hash, location.lines[i].function), location.lines[i].line);
    table->size = sizeof(location);
    struct mo_table_slot *slot = find(table, hash, is_same_location, &location);
    if (slot == NULL)
        return -ENOMEM;
    struct memopt_location *there =
        slot->number == 0 ? NULL : (struct memopt_location *)table->items + (slot->number - 1);
    if (there == NULL || there->line_count < location.line_count) {
        struct memopt_line *lines =
            memopt_report_alloc(report, (location.line_count + 1) * sizeof(*lines));
        if (lines == NULL)
            return -ENOMEM;
        if (location.line_count > 0)
            memcpy(lines, location.lines, location.line_count * sizeof(*lines));
        location.lines = lines;
        int r = there == NULL ? append(report, table, slot, hash, &location) : 0;
        if (r < 0)
            return r;
        if (there != NULL)
            *there = location;
    }
    report->locations = table->items;
    report->location_count = table->count;
    *ret_location = slot->number - 1;
    return 0;
}

static int is_same_stack(const void *element, const void *wanted) {
    const struct memopt_stack *a = element, *b = wanted;
    return a->location_count == b->location_count &&
           memcmp(a->locations, b->locations, a->location_count * sizeof(*a->locations)) == 0;
}

int mo_build_stack(struct memopt_report *report, const uint32_t *locations, size_t count,
                   uint32_t *ret_stack) {
    struct mo_table *table = &mo_model_of(report)->stacks;
    struct memopt_stack stack = {locations, count < MO_STACK_FRAMES ? count : MO_STACK_FRAMES};
    size_t size = stack.location_count * sizeof(*locations);
    uint64_t hash = hash_bytes(HASH_BEGIN, locations, size);
    table->size = sizeof(stack);
    struct mo_table_slot *slot = find(table, hash, is_same_stack, &stack);
    if (slot == NULL)
        return -ENOMEM;
    if (slot->number == 0) {
        uint32_t *copy = memopt_report_alloc(report, size);
        if (copy == NULL)
            return -ENOMEM;
        stack.locations = memcpy(copy, locations, size);
        int r = append(report, table, slot, hash, &stack);
        if (r < 0)
            return r;
    }
    report->stacks = table->items;
    report->stack_count = table->count;
    *ret_stack = slot->number - 1;
    return 0;
}

/* ----------------------------------------------------------------- samples */

int mo_build_value_types(struct memopt_report *report, const struct memopt_value_type *types,
                         size_t count, uint32_t *ret_first) {
    struct mo_model *model = mo_model_of(report);
    struct memopt_value_type *all = model->value_types;
    size_t there = report->value_type_count;
    for (size_t first = 0; first + count <= there; first++) {
        size_t same = 0;
        while (same < count && strcmp(all[first + same].type, types[same].type) == 0)
            same++;
        if (same == count) {
            *ret_first = (uint32_t)first;
            return 0;
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct memopt_value_type type = types[i];
        if (put_text(report, &type.type) < 0 || put_text(report, &type.unit) < 0 ||
            (all = mo_model_grow(report, model->value_types, there + i, &model->value_type_room,
                                 sizeof(*all))) == NULL)
            return -ENOMEM;
        model->value_types = all;
        all[there + i] = type;
    }
    report->value_types = all;
    report->value_type_count = there + count;
    *ret_first = (uint32_t)there;
    return 0;
}

int mo_build_sample(struct memopt_report *report, const struct memopt_sample *sample) {
    struct mo_model *model = mo_model_of(report);
    struct memopt_sample copy = *sample;
    if (report->sample_count >= mo_build_maximum)
        return -ENOSPC;
    uint64_t *values = memopt_report_alloc(report, (copy.value_count + 1) * sizeof(*values));
    struct memopt_label *labels =
        memopt_report_alloc(report, (copy.label_count + 1) * sizeof(*labels));
    struct memopt_sample *samples = mo_model_grow(report, model->samples, report->sample_count,
                                                  &model->sample_room, sizeof(*samples));
    if (samples != NULL)
        model->samples = samples;
    if (values == NULL || labels == NULL || samples == NULL)
        return -ENOMEM;
    if (copy.value_count > 0)
        memcpy(values, copy.values, copy.value_count * sizeof(*values));
    for (size_t i = 0; i < copy.label_count; i++) {
        labels[i] = copy.labels[i];
        if (put_text(report, &labels[i].key) < 0 || put_text(report, &labels[i].text) < 0)
            return -ENOMEM;
    }
    copy.values = values;
    copy.labels = labels;
    samples[report->sample_count++] = copy;
    report->samples = samples;
    return 0;
}
