/*
 * check.c - raw settings become values: by type and range, by the flags of their rows, by
 * the functions of their sections; and the plugins that are named are there. See parts.h.
 */
#include "core/config/parts.h"

#include "core/base/error.h"
#include "core/plugin/registry.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void unknown_key(struct mo_cfg_loader *loader, const struct mo_cfg_raw *raw,
                        const struct mo_section *section) {
    char quoted[MO_QUOTED_MAX], known[512];
    mo_quoted(raw->key, quoted);
    struct mo_nearest nearest = {.word = raw->key};
    const struct memopt_option *option;
    size_t used = 0, i;
    known[0] = '\0';
    for (i = 0; (option = mo_section_option(section, i)) != NULL; i++) {
        mo_nearest_try(&nearest, option->key);
        if (used < sizeof(known))
            used += (size_t)snprintf(known + used, sizeof(known) - used, "%s'%s'",
                                     used > 0 ? ", " : "", option->key);
    }
    const struct mo_section_def *home = NULL;
    for (size_t j = 0; nearest.best == NULL && mo_sections[j] != NULL; j++)
        if (home == NULL && mo_option_find(mo_sections[j]->table, raw->key) != NULL)
            home = mo_sections[j];
    if (nearest.best != NULL)
        mo_loader_problem(loader, raw->source, raw->line, -EINVAL,
                          "unknown key '%s' in [%s]; did you mean '%s'?", quoted, section->name,
                          nearest.best);
    else if (home != NULL)
        mo_loader_problem(loader, raw->source, raw->line, -EINVAL,
                          "unknown key '%s' in [%s]; it belongs to [%s%s]", quoted, section->name,
                          home->name, (home->flags & MO_SECTION_NAMED) ? ".NAME" : "");
    else if (i == 0)
        mo_loader_problem(loader, raw->source, raw->line, -EINVAL,
                          "unknown key '%s': [%s] has no settings", quoted, section->name);
    else
        mo_loader_problem(loader, raw->source, raw->line, -EINVAL,
                          "unknown key '%s' in [%s]; known are %s", quoted, section->name, known);
}

static int absolute_path(struct mo_cfg_loader *loader, const char *key, const char *text,
                         const char *directory, const char **ret_path, struct memopt_error *error) {
    struct memopt_option row = {.key = key, .type = MEMOPT_PATH};
    return mo_option_parse(&row, text, directory, ret_path, &loader->config->allocator, error);
}

/* MO_ROW_PLUGIN_PATH. What is loaded from there runs in every program: no relative path
 * chooses it, and a directory that isn't there is most likely a slip. */
static int absolute_list(struct mo_cfg_loader *loader, const struct memopt_option *option,
                         const char *text, const char *directory, const char **ret_text,
                         struct memopt_error *error) {
    struct mo_config *config = loader->config;
    struct memopt_option row = *option;
    struct memopt_list list;
    row.offset = 0;
    int result = mo_option_parse(&row, text, directory, &list, &config->allocator, error);
    if (result < 0)
        return result;
    const char **paths = mo_config_alloc(config, (list.count + 1) * sizeof(*paths));
    if (paths == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    for (size_t i = 0; i < list.count; i++) {
        char quoted[MO_QUOTED_MAX];
        const char *item = list.items[i];
        if (item[0] != '/' && !(item[0] == '~' && (item[1] == '/' || item[1] == '\0')))
            return mo_fail(error, -EINVAL,
                           "'%s' has '%s': a relative path is refused; give the directory's "
                           "absolute path",
                           option->key, mo_quoted(item, quoted));
        result = absolute_path(loader, option->key, item, directory, &paths[i], error);
        if (result < 0)
            return result;
        struct stat status;
        int found = stat(paths[i], &status) == 0;
        if (!found || !S_ISDIR(status.st_mode))
            return mo_fail(error, -EINVAL, "'%s' has '%s', which can't be searched: %s",
                           option->key, mo_quoted(paths[i], quoted),
                           strerror(found ? ENOTDIR : errno));
        if (strchr(paths[i], ',') != NULL)
            return mo_fail(error, -EINVAL, "'%s' has the directory '%s', whose name has a comma",
                           option->key, paths[i]);
    }
    list.items = paths;
    size_t size = mo_option_print(&row, &list, NULL, 0) + 1;
    char *printed = mo_config_alloc(config, size);
    if (printed == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    mo_option_print(&row, &list, printed, size);
    *ret_text = printed;
    return 0;
}

/* MO_ROW_OUTPUT */
static int check_output(const char *key, const char *text, struct memopt_error *error) {
    char quoted[MO_QUOTED_MAX];
    if (*text == '\0')
        return mo_fail(error, -EINVAL, "'%s' is empty, not stderr, stdout or a file's name", key);
    for (const char *p = text; (p = strchr(p, '%')) != NULL; p += 2)
        if (p[1] == '\0' || strchr("pte%", p[1]) == NULL)
            return mo_fail(error, -EINVAL,
                           "'%s' is '%s': after a '%%' only p (process), t (time), e "
                           "(program) or another %% may come",
                           key, mo_quoted(text, quoted));
    return 0;
}

/* Checks one value and makes paths in it absolute. */
static int check_value(struct mo_cfg_loader *loader, const struct mo_section *section,
                       const struct memopt_option *option, const struct mo_cfg_raw *raw,
                       const char **ret_text, struct memopt_error *error) {
    const char *directory = loader->sources[raw->source].directory;
    const char *text = raw->value;
    int result;
    if (option->flags & MO_ROW_PLUGIN_PATH)
        result = absolute_list(loader, option, text, directory, &text, error);
    else if (option->type == MEMOPT_PATH)
        result = absolute_path(loader, option->key, text, directory, &text, error);
    else
        result = mo_option_parse(option, text, directory, NULL, NULL, error);
    if (result == 0 && (option->flags & MO_ROW_NOT_EMPTY) && (text == NULL || *text == '\0')) {
        char allowed[256];
        mo_option_describe(option, allowed, sizeof(allowed));
        result = mo_fail(error, -EINVAL, "'%s' is empty, not %s", option->key, allowed);
    }
    if (result == 0 && (option->flags & MO_ROW_OUTPUT))
        result = check_output(option->key, text, error);
    if (result == 0 && section->def != NULL && section->def->check_value != NULL) {
        struct mo_judged_value value = {option, text != NULL ? text : "", directory,
                                        &loader->config->allocator};
        result = section->def->check_value(&value, &text, error);
    }
    if (result == 0)
        *ret_text = text != NULL ? text : "";
    return result;
}

static void check_setting(struct mo_cfg_loader *loader, const struct mo_cfg_raw *raw,
                          struct mo_cfg_section *section) {
    struct memopt_error error;
    const struct mo_cfg_source *source = &loader->sources[raw->source];
    size_t row = mo_section_row(&section->type, raw->key);
    const struct memopt_option *option = mo_section_option(&section->type, row);
    if (option == NULL) {
        unknown_key(loader, raw, &section->type);
        return;
    }
    struct mo_cfg_value *value = &section->values[row];
    int twice = value->given_line > 0 && value->given_source == raw->source;
    if (twice)
        mo_loader_problem(loader, raw->source, raw->line, -EINVAL,
                          "'%s' is set twice in [%s], first in line %d", option->key,
                          section->type.name, value->given_line);
    else {
        value->given_source = raw->source;
        value->given_line = source->kind == MO_ORIGIN_FILE ? raw->line : 0;
    }
    const char *text = NULL;
    int result = mo_check_writable(option->key, raw->value, &error);
    if (result == 0)
        result = check_value(loader, &section->type, option, raw, &text, &error);
    if (result == 0)
        result = mo_check_writable(option->key, text, &error); /* with its directory */
    if (result < 0) {
        mo_loader_problem(loader, raw->source, raw->line, result, "%s", error.message);
        value->refused = 1;
        return;
    }
    if (twice)
        return;
    value->text = text;
    value->source = raw->source;
    value->origin = (struct mo_origin){source->kind, source->origin, raw->line};
}

/* What a section's check() finds. */
struct judging {
    struct mo_judged judged;
    struct mo_cfg_loader *loader;
    const struct mo_cfg_section *section;
};

static struct mo_cfg_value *value_of(const struct judging *judging, const char *key) {
    return &judging->section->values[mo_section_row(&judging->section->type, key)];
}

static const char *text_of(const struct judging *judging, const char *key) {
    const char *text = value_of(judging, key)->text;
    return text != NULL ? text : mo_option_find(judging->section->type.table, key)->value;
}

static void wrong(const struct mo_judged *judged, const char *key, const char *format, ...) {
    const struct judging *judging = (const struct judging *)(const void *)judged;
    const struct mo_cfg_value *value = value_of(judging, key);
    char text[MEMOPT_ERROR_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    mo_loader_problem(judging->loader, value->text != NULL ? value->source : -1, value->origin.line,
                      -EINVAL, "%s", text);
}

static int comes_after(const struct mo_cfg_value *a, const struct mo_cfg_value *b) {
    return a->source != b->source ? a->source > b->source : a->origin.line > b->origin.line;
}

/* Of two values in the wrong order the later one is reported, by layer and line. */
static void disordered(const struct mo_judged *judged, const char *lower, const char *upper) {
    const struct judging *judging = (const struct judging *)(const void *)judged;
    const struct mo_cfg_value *low = value_of(judging, lower), *high = value_of(judging, upper);
    char quoted[MO_QUOTED_MAX], quoted_other[MO_QUOTED_MAX];
    if (low->refused || high->refused)
        return;
    int later = high->text != NULL && (low->text == NULL || comes_after(high, low));
    const struct mo_cfg_value *value = later ? high : low;
    const char *key = later ? upper : lower, *other = later ? lower : upper;
    mo_loader_problem(judging->loader, value->source, value->origin.line, -EINVAL,
                      "'%s' is '%s', %s '%s', which is '%s'", key,
                      mo_quoted(text_of(judging, key), quoted), later ? "below" : "above", other,
                      mo_quoted(text_of(judging, other), quoted_other));
}

/* What the module of a section says of its values together. */
static void judge_section(struct mo_cfg_loader *loader, const struct mo_cfg_section *section) {
    const struct mo_section_def *def = section->type.def;
    if (def == NULL || def->check == NULL)
        return;
    void *settings = mo_config_alloc(loader->config, def->settings_size);
    struct memopt_error error;
    if (settings == NULL ||
        mo_config_fill(loader->config, section->type.name, def->table, settings, &error) < 0) {
        loader->no_memory = 1; /* the values were checked before */
        return;
    }
    const char *dot = strchr(section->type.name, '.');
    struct judging judging = {
        {dot != NULL ? dot + 1 : "", settings, wrong, disordered}, loader, section};
    def->check(&judging.judged);
}

/* NULL: it could not be made, and is a problem. */
static struct mo_cfg_section *new_section(struct mo_cfg_loader *loader,
                                          const struct mo_section *type, int source, int line) {
    struct memopt_error error;
    struct mo_cfg_section *section = NULL;
    int result = mo_config_add_section(loader->config, type, &section, &error);
    if (result < 0 && !loader->no_room)
        mo_loader_problem(loader, source, line, result, "%s", error.message);
    if (result == -E2BIG)
        loader->no_room = 1;
    return section;
}

/* All raw settings of plugins' sections, or all others. */
static void check_settings(struct mo_cfg_loader *loader, int plugins) {
    struct mo_config *config = loader->config;
    struct mo_cfg_section *section = NULL;
    for (size_t i = 0; i < loader->raw_count && !loader->no_memory; i++) {
        const struct mo_cfg_raw *raw = &loader->raws[i];
        if (mo_section_is_plugins(raw->section) != plugins || mo_loader_full(loader, raw->source))
            continue;
        if (raw->key == NULL) {
            struct memopt_error error;
            struct mo_section type;
            section = (struct mo_cfg_section *)mo_config_find(config, raw->section);
            if (section == NULL) {
                int result = mo_section_describe(config, raw->section, &type, &error);
                if (result < 0)
                    mo_loader_problem(loader, raw->source, raw->line, result, "%s", error.message);
                else
                    section = new_section(loader, &type, raw->source, raw->line);
            }
            if (section == NULL)
                continue;
            section->mentioned = 1;
        } else if (section != NULL)
            check_setting(loader, raw, section);
    }
}

/* A plugin that a value names: it must be there, and becomes a section. */
static void check_plugin(struct mo_cfg_loader *loader, const struct mo_cfg_value *value,
                         const struct memopt_option *option, const char *name) {
    enum memopt_plugin_kind kind = (enum memopt_plugin_kind)(option->flags & MO_ROW_KIND);
    struct mo_config *config = loader->config;
    struct memopt_error error;
    struct mo_plugin *plugin;
    char section_name[80], library[PATH_MAX];
    int source = value->text != NULL ? value->source : -1;
    int result = mo_plugin_load(kind, name, &plugin, &error);
    if (result == 0 && kind == MEMOPT_ALLOCATOR)
        result = mo_plugin_backend_library(plugin, library, sizeof(library), &error);
    if (result == 0 && (option->flags & MO_ROW_MALLOC) &&
        (plugin->ops.allocator.flags & MEMOPT_ALLOCATOR_HEAPS_ONLY))
        result = mo_fail(&error, -EINVAL, "'%s' can only be the allocator of a [heap.NAME]", name);
    if (result < 0) {
        mo_loader_problem(loader, source, value->origin.line, result, "'%s': %s", option->key,
                          error.message);
        return;
    }
    size_t i = 0;
    while (i < config->plugin_count && config->plugins[i] != plugin)
        i++;
    if (i == config->plugin_count && i < MO_SECTION_LIMIT)
        config->plugins[config->plugin_count++] = plugin;
    snprintf(section_name, sizeof(section_name), "%s.%s", mo_plugin_kind_name(kind),
             plugin->descriptor.name);
    if (mo_config_find(config, section_name) != NULL)
        return;
    struct mo_section type;
    mo_section_of_plugin(plugin, section_name, &type);
    new_section(loader, &type, source, value->origin.line);
}

/* The items of a list that was checked before; 0: out of memory. */
static int list_of(struct mo_cfg_loader *loader, const struct memopt_option *option,
                   const char *text, struct memopt_list *ret_list) {
    struct memopt_option at_zero = *option;
    struct memopt_error error;
    at_zero.offset = 0;
    loader->no_memory |=
        mo_option_parse(&at_zero, text, NULL, ret_list, &loader->config->allocator, &error) < 0;
    return !loader->no_memory;
}

/* The values of a section that name plugins. */
static void check_plugins(struct mo_cfg_loader *loader, const struct mo_cfg_section *section) {
    const struct memopt_option *option;
    struct memopt_list list;
    for (size_t row = 0; (option = mo_section_option(&section->type, row)) != NULL; row++) {
        const struct mo_cfg_value *value = &section->values[row];
        const char *text = value->text != NULL ? value->text : option->value;
        if (!(option->flags & MO_ROW_KIND) || text == NULL ||
            (*text == '\0' && option->value == NULL))
            continue; /* it names none, or is unset */
        if (option->type != MEMOPT_LIST) {
            check_plugin(loader, value, option, text);
            continue;
        }
        if (!list_of(loader, option, text, &list))
            return;
        for (size_t i = 0; i < list.count && !loader->no_memory; i++)
            check_plugin(loader, value, option, list.items[i]);
    }
}

static void add_plugin_directories(struct mo_cfg_loader *loader,
                                   const struct mo_cfg_section *section) {
    const struct memopt_option *option;
    struct memopt_error error;
    struct memopt_list list;
    for (size_t row = 0; (option = mo_section_option(&section->type, row)) != NULL; row++) {
        const char *text = section->values[row].text;
        if (!(option->flags & MO_ROW_PLUGIN_PATH) || text == NULL)
            continue;
        if (!list_of(loader, option, text, &list))
            return;
        for (size_t i = 0; i < list.count; i++)
            if (mo_plugin_add_directory(list.items[i], &error) < 0)
                loader->no_memory = 1; /* they are absolute */
    }
}

int mo_check_all(struct mo_cfg_loader *loader, const struct mo_config_request *request,
                 struct mo_config **ret_config, struct memopt_error *error) {
    struct mo_config *config = loader->config;
    if (!loader->no_memory)
        check_settings(loader, 0);
    size_t before_plugins = config->section_count;
    for (size_t i = 0; i < before_plugins && !loader->no_memory; i++)
        judge_section(loader, &config->sections[i]);
    for (size_t i = 0; i < before_plugins && !loader->no_memory; i++)
        add_plugin_directories(loader, &config->sections[i]);
    for (size_t i = 0; i < before_plugins && !loader->no_memory; i++)
        check_plugins(loader, &config->sections[i]);
    if (!loader->no_memory)
        check_settings(loader, 1);
    if (loader->no_memory)
        return mo_fail(error, -ENOMEM, "out of memory while reading the configuration");
    if (loader->problem_count > 0)
        return mo_loader_fail(loader, request, error);
    *ret_config = config;
    loader->config = NULL;
    return 0;
}
