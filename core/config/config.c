/*
 * config.c - the configuration as an object: values and their origins, sections and what
 * a name stands for, loading. See config.h, and parts.h for the other files.
 */
#include "core/config/parts.h"

#include "core/base/error.h"
#include "core/plugin/registry.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

/* ---------------------------------------------------------------- the object */

void *mo_config_alloc(void *context, size_t size) {
    struct mo_config *config = context;
    struct mo_cfg_block *block = calloc(1, sizeof(*block) + size);
    if (block == NULL)
        return NULL;
    block->next = config->blocks;
    config->blocks = block;
    return block->data;
}

char *mo_config_copy(struct mo_config *config, const char *text, size_t length) {
    char *copy = mo_config_alloc(config, length + 1);
    if (copy != NULL)
        memcpy(copy, text, length);
    return copy;
}

void mo_config_free(struct mo_config *config) {
    if (config == NULL)
        return;
    while (config->blocks != NULL) {
        struct mo_cfg_block *block = config->blocks;
        config->blocks = block->next;
        free(block);
    }
    free(config);
}

static struct mo_config *config_new(void) {
    struct mo_config *config = calloc(1, sizeof(*config));
    if (config != NULL)
        config->allocator = (struct mo_allocator){mo_config_alloc, config};
    return config;
}

const struct mo_cfg_section *mo_config_find(const struct mo_config *config, const char *name) {
    for (size_t i = 0; i < config->section_count; i++)
        if (strcmp(config->sections[i].type.name, name) == 0)
            return &config->sections[i];
    return NULL;
}

const struct mo_section_def *mo_section_def(const char *name) {
    for (size_t i = 0; mo_sections[i] != NULL; i++)
        if (strcmp(mo_sections[i]->name, name) == 0)
            return mo_sections[i];
    return NULL;
}

/* Whether a section is [HEAD.NAME]. */
static int has_head(const char *section, const char *head) {
    size_t length = strlen(head);
    return strncmp(section, head, length) == 0 && section[length] == '.';
}

/* Of which there are several; NULL: none of that name. */
static const struct mo_section_def *named_section(const char *name) {
    for (size_t i = 0; mo_sections[i] != NULL; i++)
        if ((mo_sections[i]->flags & MO_SECTION_NAMED) && has_head(name, mo_sections[i]->name))
            return mo_sections[i];
    return NULL;
}

/* 0: a plugin's section is called otherwise. */
static enum memopt_plugin_kind kind_of_section(const char *name) {
    for (int kind = MEMOPT_ALLOCATOR; kind <= MEMOPT_REPORTER; kind++)
        if (has_head(name, mo_plugin_kind_name((enum memopt_plugin_kind)kind)))
            return (enum memopt_plugin_kind)kind;
    return 0;
}

int mo_section_is_plugins(const char *name) {
    return kind_of_section(name) != 0;
}

const struct memopt_option *mo_section_option(const struct mo_section *section, size_t index) {
    const struct memopt_option *option = mo_option_at(section->table, index);
    if (option == NULL && section->output.key != NULL && index == mo_option_count(section->table))
        option = &section->output;
    return option;
}

size_t mo_section_row(const struct mo_section *section, const char *key) {
    const struct memopt_option *option;
    size_t i = 0;
    while ((option = mo_section_option(section, i)) != NULL && strcmp(option->key, key) != 0)
        i++;
    return i;
}

const char *mo_config_get(const struct mo_config *config, const char *section_name, const char *key,
                          struct mo_origin *ret_origin) {
    struct mo_origin origin = {MO_ORIGIN_DEFAULT, NULL, 0};
    const struct mo_cfg_section *section = mo_config_find(config, section_name);
    const char *text = NULL;
    if (section != NULL) {
        size_t row = mo_section_row(&section->type, key);
        const struct memopt_option *option = mo_section_option(&section->type, row);
        if (option != NULL) {
            const struct mo_cfg_value *value = &section->values[row];
            text = value->text != NULL ? value->text : option->value;
            origin = value->origin;
        }
    } else {
        const struct mo_section_def *def = named_section(section_name);
        const struct memopt_option *option = def != NULL ? mo_option_find(def->table, key) : NULL;
        text = option != NULL ? option->value : NULL;
    }
    if (ret_origin != NULL)
        *ret_origin = origin;
    return text;
}

int mo_config_put(struct mo_config *config, const char *section_name, const char *key,
                  const char *value, const char *label, struct memopt_error *error) {
    const struct mo_cfg_section *section = mo_config_find(config, section_name);
    char *text = mo_config_copy(config, value, strlen(value));
    char *origin = mo_config_copy(config, label, strlen(label));
    if (text == NULL || origin == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    size_t row = section == NULL ? 0 : mo_section_row(&section->type, key);
    if (section == NULL || mo_section_option(&section->type, row) == NULL)
        return mo_fail(error, -EINVAL, "there is no '%s' in [%s]", key, section_name);
    section->values[row].text = text;
    section->values[row].origin = (struct mo_origin){MO_ORIGIN_SET, origin, 0};
    return 0;
}

int mo_config_blame(const struct mo_config *config, const char *section, const char *key,
                    struct memopt_error *error) {
    struct mo_origin origin;
    if (mo_config_get(config, section, key, &origin) == NULL || origin.kind == MO_ORIGIN_DEFAULT)
        return error->code;
    if (origin.kind == MO_ORIGIN_FILE)
        return mo_error_prefix(error, "%s:%d", origin.file, origin.line);
    return strcmp(origin.file, "--set") == 0 ? mo_error_prefix(error, "--set %s.%s", section, key)
                                             : mo_error_prefix(error, "%s", origin.file);
}

int mo_config_fill(struct mo_config *config, const char *section_name, struct mo_option_table table,
                   void *settings, struct memopt_error *error) {
    int result = mo_options_init(table, settings, &config->allocator, error);
    if (result < 0)
        return mo_error_prefix(error, "[%s]", section_name);
    const struct mo_cfg_section *section = mo_config_find(config, section_name);
    const struct memopt_option *option;
    for (size_t i = 0; section != NULL && (option = mo_option_at(table, i)) != NULL; i++) {
        size_t row = mo_section_row(&section->type, option->key);
        if (mo_section_option(&section->type, row) == NULL || section->values[row].text == NULL)
            continue;
        result = mo_option_parse(option, section->values[row].text, NULL, settings,
                                 &config->allocator, error);
        if (result < 0)
            return mo_error_prefix(error, "[%s]", section_name);
    }
    return 0;
}

const char *mo_config_section(const struct mo_config *config, const char *prefix, size_t index) {
    size_t length = prefix != NULL ? strlen(prefix) : 0;
    for (size_t i = 0; i < config->section_count; i++) {
        const struct mo_cfg_section *section = &config->sections[i];
        if (!section->mentioned ||
            (prefix != NULL && strncmp(section->type.name, prefix, length) != 0))
            continue;
        if (index-- == 0)
            return section->type.name + length;
    }
    return NULL;
}

const struct mo_section *mo_config_section_at(const struct mo_config *config, size_t index) {
    return index < config->section_count ? &config->sections[index].type : NULL;
}

/* ------------------------------------------------------------------ sections */

/* What may stand before the '.': the sections of which there are several, then the kinds of
 * plugins. NULL: no more. */
static const char *head_at(size_t index) {
    for (size_t i = 0; mo_sections[i] != NULL; i++)
        if ((mo_sections[i]->flags & MO_SECTION_NAMED) && index-- == 0)
            return mo_sections[i]->name;
    return index < MEMOPT_REPORTER ? mo_plugin_kind_name((enum memopt_plugin_kind)(index + 1))
                                   : NULL;
}

/* "[memopt], [heap.NAME], …" */
static void known_sections(char *buffer, size_t size) {
    const char *head;
    size_t used = 0;
    buffer[0] = '\0';
    for (size_t i = 0; mo_sections[i] != NULL && used < size; i++)
        if (!(mo_sections[i]->flags & MO_SECTION_NAMED))
            used += (size_t)snprintf(buffer + used, size - used, "%s[%s]", used > 0 ? ", " : "",
                                     mo_sections[i]->name);
    for (size_t i = 0; (head = head_at(i)) != NULL && used < size; i++)
        used += (size_t)snprintf(buffer + used, size - used, ", [%s.NAME]", head);
}

struct same_name {
    const char *name;
    enum memopt_plugin_kind kind; /* 0: not found */
};
static int is_same_name(void *context, enum memopt_plugin_kind kind, const char *name,
                        const char *path) {
    (void)path;
    struct same_name *search = context;
    if (strcmp(name, search->name) != 0)
        return 0;
    search->kind = kind;
    return 1;
}

static int unknown_section(const char *name, struct memopt_error *error) {
    char quoted[MO_QUOTED_MAX], known[256];
    mo_quoted(name, quoted);
    const char *dot = strchr(name, '.');
    char head[64];
    const char *known_head;
    snprintf(head, sizeof(head), "%.*s", dot != NULL ? (int)(dot - name) : 63, name);
    struct mo_nearest nearest = {.word = head};
    for (size_t i = 0; (known_head = head_at(i)) != NULL; i++)
        mo_nearest_try(&nearest, known_head);
    if (dot != NULL && nearest.best != NULL)
        return mo_fail(error, -EINVAL, "unknown section [%s]; did you mean [%s%s]?", quoted,
                       nearest.best, dot);
    if (nearest.best != NULL && nearest.distance == 0)
        return mo_fail(error, -EINVAL, "section [%s] lacks a name: [%s.NAME] was expected", quoted,
                       nearest.best);
    for (size_t i = 0; mo_sections[i] != NULL; i++)
        mo_nearest_try(&nearest, mo_sections[i]->name);
    struct same_name search = {name, 0};
    if (nearest.best == NULL && mo_plugin_each(is_same_name, &search) != 0)
        return mo_fail(error, -EINVAL, "unknown section [%s]; did you mean [%s.%s]?", quoted,
                       mo_plugin_kind_name(search.kind), quoted);
    if (nearest.best != NULL)
        return mo_fail(error, -EINVAL, "unknown section [%s]; did you mean [%s]?", quoted,
                       nearest.best);
    known_sections(known, sizeof(known));
    return mo_fail(error, -EINVAL, "unknown section [%s]; known are %s", quoted, known);
}

void mo_section_of_def(const struct mo_section_def *def, const char *name, struct mo_section *ret) {
    *ret = (struct mo_section){.name = name,
                               .help = def->help,
                               .table = def->table,
                               .settings_size = def->settings_size,
                               .def = def};
}

void mo_section_of_plugin(struct mo_plugin *plugin, const char *name, struct mo_section *ret) {
    *ret = (struct mo_section){
        .name = name,
        .help = plugin->descriptor.summary,
        .table = plugin->table,
        .settings_size = plugin->descriptor.settings_size,
        .plugin = plugin,
    };
    if (plugin->descriptor.kind == MEMOPT_REPORTER)
        ret->output = (struct memopt_option){
            .key = "output",
            .type = MEMOPT_STRING,
            .value = plugin->ops.reporter.default_output,
            .help = "where to: stderr, stdout or a file; in its name %p is the process, %t the "
                    "time, %e the program",
            .flags = MO_ROW_OUTPUT,
        };
}

int mo_section_describe(const struct mo_config *config, const char *name,
                        struct mo_section *ret_section, struct memopt_error *error) {
    const char *dot = strchr(name, '.');
    const struct mo_section_def *def = dot != NULL ? named_section(name) : mo_section_def(name);
    enum memopt_plugin_kind kind = kind_of_section(name);
    if (def == NULL && kind == 0)
        return unknown_section(name, error);
    if (def != NULL) {
        if (dot == NULL && (def->flags & MO_SECTION_NAMED))
            return unknown_section(name, error);
        int result = dot != NULL && def->check_name != NULL ? def->check_name(dot + 1, error) : 0;
        if (result == 0)
            mo_section_of_def(def, name, ret_section);
        return result;
    }
    for (size_t j = 0; config != NULL && j < config->plugin_count; j++)
        if (config->plugins[j]->descriptor.kind == kind &&
            strcmp(config->plugins[j]->descriptor.name, dot + 1) == 0) {
            mo_section_of_plugin(config->plugins[j], name, ret_section);
            return 0;
        }
    struct mo_plugin *plugin;
    int result = strchr(dot + 1, '/') != NULL
                     ? mo_fail(error, -EINVAL, "a section has the plugin's name, not its path")
                     : mo_plugin_load(kind, dot + 1, &plugin, error);
    if (result < 0) {
        char quoted[MO_QUOTED_MAX];
        mo_error_prefix(error, "section [%s]", mo_quoted(name, quoted));
        return result;
    }
    mo_section_of_plugin(plugin, name, ret_section);
    return 0;
}

int mo_config_add_section(struct mo_config *config, const struct mo_section *type,
                          struct mo_cfg_section **ret_section, struct memopt_error *error) {
    if (config->section_count == MO_SECTION_LIMIT)
        return mo_fail(error, -E2BIG, "more than %d sections, with those of the plugins in use",
                       MO_SECTION_LIMIT);
    size_t rows = 0;
    while (mo_section_option(type, rows) != NULL)
        rows++;
    char *name = mo_config_copy(config, type->name, strlen(type->name));
    struct mo_cfg_value *values = mo_config_alloc(config, (rows + 1) * sizeof(*values));
    if (name == NULL || values == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    struct mo_cfg_section *section = &config->sections[config->section_count++];
    section->type = *type;
    section->type.name = name;
    section->values = values;
    *ret_section = section;
    return 0;
}

/* ------------------------------------------------------------------- loading */

static int loader_begin(struct mo_cfg_loader *loader, size_t sources, struct memopt_error *error) {
    memset(loader, 0, sizeof(*loader));
    loader->config = config_new();
    loader->sources = calloc(sources, sizeof(*loader->sources));
    if (loader->config == NULL || loader->sources == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    for (size_t i = 0; mo_sections[i] != NULL; i++) {
        struct mo_section type;
        struct mo_cfg_section *section;
        if (mo_sections[i]->flags & MO_SECTION_NAMED)
            continue;
        mo_section_of_def(mo_sections[i], mo_sections[i]->name, &type);
        int result = mo_config_add_section(loader->config, &type, &section, error);
        if (result < 0)
            return result;
    }
    return 0;
}

static void loader_end(struct mo_cfg_loader *loader) {
    mo_config_free(loader->config);
    free(loader->sources);
    free(loader->raws);
    free(loader->problems);
}

int mo_config_load(const struct mo_config_request *request, struct mo_config **ret_config,
                   struct memopt_error *error) {
    enum { FILES = 4 };
    int secure = getauxval(AT_SECURE) != 0;
    if (secure && (request->file != NULL || request->set_count > 0))
        return mo_fail(error, -EPERM,
                       "a program that runs with more rights than its user takes no "
                       "configuration from the command line");
    struct mo_cfg_loader loader;
    int result = loader_begin(&loader, FILES + request->set_count, error);
    if (result == 0) {
        if (!request->only_file)
            mo_read_file(&loader, MO_SYSCONFDIR "/memopt/memopt.ini", MO_WAY_SYSTEM);
        if (!secure && !request->only_file) {
            mo_read_user_file(&loader);
            mo_read_file(&loader, "./memopt.ini", MO_WAY_FOUND);
        }
        const char *from_environment = getenv("MEMOPT_CONF");
        if (request->file != NULL)
            mo_read_file(&loader, request->file, MO_WAY_NAMED);
        else if (!secure && !request->only_file && from_environment != NULL &&
                 *from_environment != '\0')
            mo_read_file(&loader, from_environment, MO_WAY_NAMED);
        for (size_t i = 0; i < request->set_count; i++)
            mo_read_set(&loader, &request->sets[i]);
        result = mo_check_all(&loader, request, ret_config, error);
    }
    loader_end(&loader);
    return result;
}

int mo_config_load_text(const char *name, const char *directory, const void *text, size_t size,
                        struct mo_config **ret_config, struct memopt_error *error) {
    static const struct mo_config_request plain;
    struct mo_cfg_loader loader;
    int result = loader_begin(&loader, 1, error);
    if (result == 0) {
        const char *label = mo_loader_keep(&loader, name, strlen(name));
        int source = mo_loader_add_source(&loader, MO_ORIGIN_FILE, label, label, directory);
        if (label != NULL)
            mo_read_text(&loader, source, text, size);
        result = mo_check_all(&loader, &plain, ret_config, error);
    }
    loader_end(&loader);
    return result;
}

static int is_profile(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return dot != NULL && dot != entry->d_name && strcmp(dot, ".ini") == 0;
}

int mo_config_profile(const char *name, char *buffer, size_t size, struct memopt_error *error) {
    char directory[PATH_MAX], real[PATH_MAX], quoted[MO_QUOTED_MAX], known[512] = "";
    struct dirent **entries;
    int r = mo_plugin_own_profiles(directory, sizeof(directory), error);
    if (r < 0)
        return r;
    int written = snprintf(buffer, size, "%s/%s.ini", directory, name);
    if (strchr(name, '/') == NULL && written < (int)size && realpath(buffer, real) != NULL &&
        strlen(real) < size) {
        memcpy(buffer, real, strlen(real) + 1);
        return 0;
    }
    struct mo_nearest nearest = {.word = name};
    int count = scandir(directory, &entries, is_profile, alphasort);
    for (int i = 0; i < count; i++) {
        size_t used = strlen(known);
        *strrchr(entries[i]->d_name, '.') = '\0';
        mo_nearest_try(&nearest, entries[i]->d_name);
        snprintf(known + used, sizeof(known) - used, "%s%s", used > 0 ? ", " : "",
                 entries[i]->d_name);
    }
    r = mo_fail(error, -ENOENT, "there is no profile '%s'", mo_quoted(name, quoted));
    if (nearest.best != NULL)
        mo_error_hint(error, "did you mean '%s'?", nearest.best);
    mo_error_hint(error, "known: %s; a file of your own goes after -c", known);
    for (int i = 0; i < count; i++)
        free(entries[i]);
    if (count >= 0)
        free(entries);
    return r;
}
