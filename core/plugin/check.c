/*
 * check.c - whether a plugin's descriptor, options and operations are as the ABI has them,
 * and the defaults for what is left out. See registry.h.
 */
#include "core/plugin/parts.h"

#include "core/base/error.h"
#include "core/base/sysmem.h"

#include <errno.h>
#include <string.h>

#define END_OF(S, F) (offsetof(S, F) + sizeof(((S *)0)->F))

enum { OPTION_LIMIT = 1024, SETTINGS_LIMIT = 1 << 20 };

static const struct mo_kind kinds[] = {
    [MEMOPT_ALLOCATOR] = {"allocator", "alloc-", sizeof(struct memopt_allocator_ops),
                          END_OF(struct memopt_allocator_ops, open), "open"},
    [MEMOPT_TRACKER] = {"tracker", "track-", sizeof(struct memopt_tracker_ops),
                        END_OF(struct memopt_tracker_ops, report), "report"},
    [MEMOPT_REPORTER] = {"reporter", "report-", sizeof(struct memopt_reporter_ops),
                         END_OF(struct memopt_reporter_ops, write), "write"},
};

const struct mo_kind *mo_kind(uint32_t kind) {
    return kind >= MEMOPT_ALLOCATOR && kind <= MEMOPT_REPORTER ? &kinds[kind] : NULL;
}

const char *mo_plugin_kind_name(enum memopt_plugin_kind kind) {
    return mo_kind(kind) == NULL ? "unknown" : mo_kind(kind)->name;
}

const char *mo_plugin_kind_prefix(enum memopt_plugin_kind kind) {
    return mo_kind(kind) == NULL ? "" : mo_kind(kind)->prefix;
}

bool mo_check_name(const char *name, size_t length) {
    if (length == 0 || length > MO_PLUGIN_NAME_MAX)
        return false;
    for (size_t i = 0; i < length; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
              name[i] == '-'))
            return false;
    return true;
}

static const size_t field_sizes[] = {
    [MEMOPT_BOOL] = sizeof(int),          [MEMOPT_INT] = sizeof(int64_t),
    [MEMOPT_SIZE] = sizeof(uint64_t),     [MEMOPT_DURATION] = sizeof(uint64_t),
    [MEMOPT_RATIO] = sizeof(double),      [MEMOPT_NUMBER] = sizeof(double),
    [MEMOPT_ENUM] = sizeof(int),          [MEMOPT_LIST] = sizeof(struct memopt_list),
    [MEMOPT_PATH] = sizeof(const char *), [MEMOPT_STRING] = sizeof(const char *),
};

static bool good_key(const char *key) {
    size_t length = key[0] >= 'a' && key[0] <= 'z' ? strnlen(key, 64) : 0;
    if (length == 0 || length == 64)
        return false;
    for (size_t i = 0; i < length; i++)
        if (!((key[i] >= 'a' && key[i] <= 'z') || (key[i] >= '0' && key[i] <= '9') ||
              key[i] == '_'))
            return false;
    return true;
}

/* Both are values of the option, and the upper one is not below the lower one. */
static int check_bounds(const struct memopt_option *option, struct memopt_error *error) {
    struct memopt_option row = *option;
    int r = 0;
    row.value = ""; /* so that an empty bound isn't "unset" */
    row.min = row.max = NULL;
    if (option->min != NULL)
        r = mo_option_parse(&row, option->min, NULL, NULL, NULL, error);
    row.min = option->min;
    if (option->max != NULL && r == 0)
        r = mo_option_parse(&row, option->max, NULL, NULL, NULL, error);
    return r;
}

int mo_check_options(const struct memopt_plugin *descriptor, const char *path,
                     struct memopt_error *error) {
    if (descriptor->options == NULL)
        return 0;
    if (descriptor->option_size != sizeof(struct memopt_option))
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its option rows have %u bytes where ABI %d.%d has %zu: set "
                       ".option_size with MEMOPT_PLUGIN_HEADER",
                       path, descriptor->option_size, MEMOPT_ABI_MAJOR, MEMOPT_ABI_MINOR,
                       sizeof(struct memopt_option));
    if (descriptor->settings_size == 0 || descriptor->settings_size > SETTINGS_LIMIT)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': it has options, but its settings_size is %zu: set it to the "
                       "size of the struct they fill (1 .. %d)",
                       path, descriptor->settings_size, SETTINGS_LIMIT);
    for (size_t i = 0; descriptor->options[i].key != NULL; i++) {
        const struct memopt_option *option = &descriptor->options[i];
        if (i == OPTION_LIMIT)
            return mo_fail(error, -ENOEXEC,
                           "plugin '%s': its option table has no end after %d rows: end it with "
                           "MEMOPT_OPT_END",
                           path, OPTION_LIMIT);
        if (!good_key(option->key))
            return mo_fail(error, -ENOEXEC,
                           "plugin '%s': its option %zu has the key '%.64s', not a lower-case word "
                           "of a-z, 0-9 and '_'",
                           path, i, option->key);
        if (option->type < MEMOPT_BOOL || option->type > MEMOPT_STRING)
            return mo_fail(error, -ENOEXEC,
                           "plugin '%s': its option '%s' has the type %u, which ABI %d.%d does not "
                           "have",
                           path, option->key, option->type, MEMOPT_ABI_MAJOR, MEMOPT_ABI_MINOR);
        if (option->flags != 0)
            return mo_fail(error, -ENOEXEC,
                           "plugin '%s': its option '%s' has the flags 0x%x, which ABI %d.%d does "
                           "not have",
                           path, option->key, option->flags, MEMOPT_ABI_MAJOR, MEMOPT_ABI_MINOR);
        if (option->offset > descriptor->settings_size ||
            descriptor->settings_size - option->offset < field_sizes[option->type])
            return mo_fail(error, -ENOEXEC,
                           "plugin '%s': the field of its option '%s' ends outside its settings of "
                           "%zu bytes",
                           path, option->key, descriptor->settings_size);
        if (option->type == MEMOPT_ENUM && (option->choices == NULL || option->choices[0] == NULL))
            return mo_fail(error, -ENOEXEC,
                           "plugin '%s': its option '%s' is an enum without "
                           "choices",
                           path, option->key);
        if (option->help == NULL)
            return mo_fail(error, -ENOEXEC, "plugin '%s': its option '%s' has no help text", path,
                           option->key);
        if (descriptor->kind == MEMOPT_REPORTER && strcmp(option->key, "output") == 0)
            return mo_fail(error, -ENOEXEC,
                           "plugin '%s': its option 'output' is one that every reporter has from "
                           "memopt: give it another key",
                           path);
        for (size_t j = 0; j < i; j++)
            if (strcmp(descriptor->options[j].key, option->key) == 0)
                return mo_fail(error, -ENOEXEC, "plugin '%s': it has two options with the key '%s'",
                               path, option->key);
        int r = check_bounds(option, error);
        if (r < 0) {
            mo_error_prefix(error, "plugin '%s': a bound of its options is wrong", path);
            return r;
        }
    }
    struct mo_option_table table = {descriptor->options, descriptor->option_size};
    void *scratch = mo_sys_alloc(descriptor->settings_size);
    if (scratch == NULL)
        return mo_fail(error, -ENOMEM, "plugin '%s': out of memory", path);
    int r = mo_options_init(table, scratch, &mo_sys_allocator, error);
    if (r < 0)
        mo_error_prefix(error, "plugin '%s': a default of its options is wrong", path);
    return r;
}

int mo_check_descriptor(const struct memopt_plugin *found, size_t available,
                        enum memopt_plugin_kind kind, const char *path,
                        struct memopt_error *error) {
    const size_t least = END_OF(struct memopt_plugin, ops);
    if (available < END_OF(struct memopt_plugin, kind))
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its '%s' has %zu bytes and is no struct memopt_plugin", path,
                       MEMOPT_PLUGIN_SYMBOL, available);
    if (found->abi_major != MEMOPT_ABI_MAJOR || found->abi_minor > MEMOPT_ABI_MINOR)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s' is built for plugin ABI %u.%u, this memopt has %d.%d: %s", path,
                       found->abi_major, found->abi_minor, MEMOPT_ABI_MAJOR, MEMOPT_ABI_MINOR,
                       found->abi_major < MEMOPT_ABI_MAJOR
                           ? "build the plugin again with this memopt's headers"
                           : "install a newer memopt, or build the plugin with this memopt's "
                             "headers");
    if (found->size < least || available < least)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its descriptor is truncated: %zu bytes where ABI %u.%u has "
                       "%zu; begin it with MEMOPT_PLUGIN_HEADER",
                       path, found->size < available ? (size_t)found->size : available,
                       found->abi_major, found->abi_minor, least);
    if (found->size > sizeof(struct memopt_plugin))
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its descriptor has %u bytes where ABI %d.%d has %zu: begin it "
                       "with MEMOPT_PLUGIN_HEADER",
                       path, found->size, MEMOPT_ABI_MAJOR, MEMOPT_ABI_MINOR,
                       sizeof(struct memopt_plugin));
    if (mo_kind(found->kind) == NULL)
        return mo_fail(error, -ENOEXEC, "plugin '%s' is of kind %u, which ABI %d.%d does not have",
                       path, found->kind, MEMOPT_ABI_MAJOR, MEMOPT_ABI_MINOR);
    if (kind != 0 && found->kind != (uint32_t)kind)
        return mo_fail(error, -ENOEXEC, "plugin '%s' is of the wrong kind: %s where %s is wanted",
                       path, mo_plugin_kind_name((enum memopt_plugin_kind)found->kind),
                       mo_plugin_kind_name(kind));
    if (found->name == NULL ||
        !mo_check_name(found->name, strnlen(found->name, MO_PLUGIN_NAME_MAX + 1)))
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its name is '%.64s', not 1 to %d of a-z, 0-9 and '-'", path,
                       found->name == NULL ? "" : found->name, MO_PLUGIN_NAME_MAX);
    if (found->version == NULL || found->summary == NULL)
        return mo_fail(error, -ENOEXEC, "plugin '%s': its descriptor lacks '%s'", path,
                       found->version == NULL ? "version" : "summary");
    if (found->ops == NULL)
        return mo_fail(error, -ENOEXEC, "plugin '%s': its descriptor lacks 'ops'", path);
    return 0;
}

/* Defaults of plugin.h, so that callers need no tests. */

static int unknown_figures(struct memopt_figures *figures) {
    size_t size = figures->size;
    *figures = (struct memopt_figures)MEMOPT_FIGURES_INIT;
    figures->size = size;
    return 0;
}

static uint64_t purge_nothing(void) {
    return 0;
}

static int complete_allocator(struct mo_plugin *plugin, struct memopt_error *error) {
    struct memopt_allocator_ops *ops = &plugin->ops.allocator;
    const struct {
        const char *name;
        bool there;
    } heap_ops[] = {
        {"heap_create", ops->heap_create != NULL},
        {"heap_destroy", ops->heap_destroy != NULL},
        {"heap_malloc", ops->heap_malloc != NULL},
        {"heap_calloc", ops->heap_calloc != NULL},
        {"heap_realloc", ops->heap_realloc != NULL},
        {"heap_aligned_alloc", ops->heap_aligned_alloc != NULL},
        {"heap_free", ops->heap_free != NULL},
        {"heap_usable_size", ops->heap_usable_size != NULL},
    };
    enum { HEAP_OPS = sizeof(heap_ops) / sizeof(*heap_ops) };
    const char *there = NULL, *missing = NULL;
    for (size_t i = HEAP_OPS; i-- > 0;)
        *(heap_ops[i].there ? &there : &missing) = heap_ops[i].name;
    if (there != NULL && missing != NULL)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': it has the operation '%s' but not '%s': separate heaps need "
                       "all of heap_create .. heap_usable_size, or none",
                       plugin->path, there, missing);
    plugin->has_heaps = there != NULL;
    if ((ops->flags & MEMOPT_ALLOCATOR_HEAPS_ONLY) != 0 && !plugin->has_heaps)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': it is for separate heaps only, but lacks 'heap_create'",
                       plugin->path);
    if (ops->figures == NULL)
        ops->figures = unknown_figures;
    if (ops->purge == NULL)
        ops->purge = purge_nothing;
    return 0;
}

int mo_check_ops(struct mo_plugin *plugin, struct memopt_error *error) {
    const struct mo_kind *kind = mo_kind(plugin->descriptor.kind);
    size_t size;
    memcpy(&size, plugin->descriptor.ops, sizeof(size));
    if (size < kind->ops_least)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its operations are truncated: %zu bytes do not reach '%s', "
                       "which every %s must have (%zu bytes); set .size to sizeof the struct",
                       plugin->path, size, kind->last_must, kind->name, kind->ops_least);
    if (size > kind->ops_size)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s': its operations have %zu bytes where ABI %d.%d has %zu: set "
                       ".size to sizeof the struct",
                       plugin->path, size, MEMOPT_ABI_MAJOR, MEMOPT_ABI_MINOR, kind->ops_size);
    memcpy(&plugin->ops, plugin->descriptor.ops, size);
    memcpy(&plugin->ops, &kind->ops_size, sizeof(kind->ops_size));
    plugin->descriptor.ops = &plugin->ops;

    bool must = false;
    switch ((enum memopt_plugin_kind)plugin->descriptor.kind) {
    case MEMOPT_ALLOCATOR:
        must = plugin->ops.allocator.open != NULL;
        break;
    case MEMOPT_TRACKER:
        must = plugin->ops.tracker.report != NULL ||
               (plugin->ops.tracker.flags & MEMOPT_TRACKER_COUNTS) != 0;
        break;
    case MEMOPT_REPORTER:
        must = plugin->ops.reporter.write != NULL;
        if (plugin->ops.reporter.default_output == NULL)
            plugin->ops.reporter.default_output = "stdout";
        break;
    }
    if (!must)
        return mo_fail(error, -ENOEXEC,
                       "plugin '%s' lacks the operation '%s', which every %s must "
                       "have",
                       plugin->path, kind->last_must, kind->name);
    return plugin->descriptor.kind == MEMOPT_ALLOCATOR ? complete_allocator(plugin, error)
                                                       : 0;
}
