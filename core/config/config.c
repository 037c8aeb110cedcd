/*
 * config.c - see config.h.
 *
 *   1. the object: memory, sections, values
 *   2. sections: what a name stands for
 *   3. problems: collected, sorted, told
 *   4. reading: files, lines, inih
 *   5. checking: raw lines become values
 *   6. loading
 *   7. writing
 *
 * Reading only splits lines into `raw` settings; they are checked once all of
 * them are known, as the plugins' tables depend on `plugin_path` and on plugins
 * that are named by path.
 */
#define _GNU_SOURCE /* memrchr, reallocarray */
#include "core/config/config.h"

#include "core/base/error.h"
#include "core/base/trust.h"
#include "core/plugin/registry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILE_LIMIT = 1 << 20, /* bytes of a file */
    LINE_LIMIT = 8 << 10, /* bytes of a line, where inih lets us choose */
    PROBLEM_LIMIT = 100,  /* of one file: what follows is not read */
    SECTION_LIMIT = 256,  /* of all files */
    HEAP_NAME_LIMIT = 63, /* bytes */
};

/* ------------------------------------------------------------- 1. the object */

struct block {
    struct block *next;
    max_align_t data[];
};

struct value {
    const char *text; /* NULL: the default counts */
    struct mo_origin origin;
    int source;
    int refused; /* a text that is not the value */
    int given_source, given_line; /* where it came last, refused or not; line 0: not in a file */
};

struct section {
    struct mo_section type;
    struct value *values; /* one for each mo_section_option() */
    int mentioned;
};

struct mo_config {
    struct block *blocks;
    struct mo_allocator allocator;
    struct section sections[SECTION_LIMIT];
    size_t section_count;
    /* named by path, so that [allocator.NAME] finds them */
    struct mo_plugin *plugins[SECTION_LIMIT];
    size_t plugin_count;
};

static void *config_alloc(void *context, size_t size) {
    struct mo_config *config = context;
    struct block *block = calloc(1, sizeof(*block) + size);
    if (block == NULL)
        return NULL;
    block->next = config->blocks;
    config->blocks = block;
    return block->data;
}

static char *copy_text(struct mo_config *config, const char *text, size_t length) {
    char *copy = config_alloc(config, length + 1);
    if (copy != NULL)
        memcpy(copy, text, length);
    return copy;
}

void mo_config_free(struct mo_config *config) {
    if (config == NULL)
        return;
    while (config->blocks != NULL) {
        struct block *block = config->blocks;
        config->blocks = block->next;
        free(block);
    }
    free(config);
}

static struct mo_config *config_new(void) {
    struct mo_config *config = calloc(1, sizeof(*config));
    if (config != NULL)
        config->allocator = (struct mo_allocator){config_alloc, config};
    return config;
}

static const struct section *find_section(const struct mo_config *config, const char *name) {
    for (size_t i = 0; i < config->section_count; i++)
        if (strcmp(config->sections[i].type.name, name) == 0)
            return &config->sections[i];
    return NULL;
}

const struct memopt_option *mo_section_option(const struct mo_section *section, size_t index) {
    const struct memopt_option *option = mo_option_at(section->table, index);
    if (option == NULL && section->output.key != NULL && index == mo_option_count(section->table))
        option = &section->output;
    return option;
}

/* The index of a key's row; the number of rows if there is none. */
static size_t row_of(const struct mo_section *section, const char *key) {
    const struct memopt_option *option;
    size_t i = 0;
    while ((option = mo_section_option(section, i)) != NULL && strcmp(option->key, key) != 0)
        i++;
    return i;
}

const char *mo_config_get(const struct mo_config *config, const char *section_name, const char *key,
                          struct mo_origin *ret_origin) {
    struct mo_origin origin = {MO_ORIGIN_DEFAULT, NULL, 0};
    const struct section *section = find_section(config, section_name);
    const char *text = NULL;
    if (section != NULL) {
        size_t row = row_of(&section->type, key);
        const struct memopt_option *option = mo_section_option(&section->type, row);
        if (option != NULL) {
            const struct value *value = &section->values[row];
            text = value->text != NULL ? value->text : option->value;
            origin = value->origin;
        }
    } else if (strncmp(section_name, "heap.", 5) == 0) {
        const struct memopt_option *option = mo_option_find(mo_core_section("heap")->table, key);
        text = option != NULL ? option->value : NULL;
    }
    if (ret_origin != NULL)
        *ret_origin = origin;
    return text;
}

int mo_config_put(struct mo_config *config, const char *section_name, const char *key,
                  const char *value, const char *label, struct memopt_error *error) {
    const struct section *section = find_section(config, section_name);
    char *text = copy_text(config, value, strlen(value));
    char *origin = copy_text(config, label, strlen(label));
    if (text == NULL || origin == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    size_t row = section == NULL ? 0 : row_of(&section->type, key);
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
    return strcmp(origin.file, "--set") == 0
               ? mo_error_prefix(error, "--set %s.%s", section, key)
               : mo_error_prefix(error, "%s", origin.file);
}

int mo_config_fill(struct mo_config *config, const char *section_name, struct mo_option_table table,
                   void *settings, struct memopt_error *error) {
    int result = mo_options_init(table, settings, &config->allocator, error);
    if (result < 0)
        return mo_error_prefix(error, "[%s]", section_name);
    const struct section *section = find_section(config, section_name);
    const struct memopt_option *option;
    for (size_t i = 0; section != NULL && (option = mo_option_at(table, i)) != NULL; i++) {
        size_t row = row_of(&section->type, option->key);
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
        const struct section *section = &config->sections[i];
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

/* --------------------------------------------------------------- 2. sections */

static const struct {
    const char *prefix;
    enum memopt_plugin_kind kind; /* 0: heap */
} families[] = {
    {"heap", 0},
    {"allocator", MEMOPT_ALLOCATOR},
    {"tracker", MEMOPT_TRACKER},
    {"reporter", MEMOPT_REPORTER},
};
enum { FAMILIES = sizeof(families) / sizeof(*families) };

/* "[memopt], [heap.NAME], …" */
static void known_sections(char *buffer, size_t size) {
    const struct mo_core_section *core;
    size_t used = 0;
    buffer[0] = '\0';
    for (size_t i = 0; (core = mo_core_section_at(i)) != NULL && used < size; i++)
        if (strcmp(core->name, "heap") != 0)
            used += (size_t)snprintf(buffer + used, size - used, "%s[%s]", used > 0 ? ", " : "",
                                     core->name);
    for (size_t i = 0; i < FAMILIES && used < size; i++)
        used += (size_t)snprintf(buffer + used, size - used, ", [%s.NAME]", families[i].prefix);
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
    snprintf(head, sizeof(head), "%.*s", dot != NULL ? (int)(dot - name) : 63, name);
    struct mo_nearest nearest = {.word = head};
    for (size_t i = 0; i < FAMILIES; i++)
        mo_nearest_try(&nearest, families[i].prefix);
    if (dot != NULL && nearest.best != NULL)
        return mo_fail(error, -EINVAL, "unknown section [%s]; did you mean [%s%s]?", quoted,
                       nearest.best, dot);
    if (nearest.best != NULL && nearest.distance == 0)
        return mo_fail(error, -EINVAL, "section [%s] lacks a name: [%s.NAME] was expected", quoted,
                       nearest.best);
    const struct mo_core_section *core;
    for (size_t i = 0; (core = mo_core_section_at(i)) != NULL; i++)
        mo_nearest_try(&nearest, core->name);
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

static int check_heap_name(const char *name, struct memopt_error *error) {
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789_-.");
    char quoted[MO_QUOTED_MAX];
    if (name[length] != '\0' || length == 0 || length > HEAP_NAME_LIMIT)
        return mo_fail(error, -EINVAL,
                       "[heap.%s]: a heap's name is 1 to %d letters, digits, '_', '-' and '.'",
                       mo_quoted(name, quoted), HEAP_NAME_LIMIT);
    return 0;
}

static void describe_core(const struct mo_core_section *core, const char *name,
                          struct mo_section *ret) {
    *ret = (struct mo_section){.name = name,
                               .help = core->help,
                               .table = core->table,
                               .settings_size = core->settings_size};
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
        };
}

int mo_section_describe(const struct mo_config *config, const char *name,
                        struct mo_section *ret_section, struct memopt_error *error) {
    const char *dot = strchr(name, '.');
    size_t head = dot != NULL ? (size_t)(dot - name) : strlen(name);
    size_t i = 0;
    while (dot != NULL && i < FAMILIES &&
           !(strlen(families[i].prefix) == head && memcmp(families[i].prefix, name, head) == 0))
        i++;
    if (dot == NULL) {
        const struct mo_core_section *core = mo_core_section(name);
        if (core == NULL || strcmp(name, "heap") == 0)
            return unknown_section(name, error);
        describe_core(core, name, ret_section);
        return 0;
    }
    if (i == FAMILIES)
        return unknown_section(name, error);
    if (families[i].kind == 0) {
        int result = check_heap_name(dot + 1, error);
        if (result == 0)
            describe_core(mo_core_section("heap"), name, ret_section);
        return result;
    }
    for (size_t j = 0; config != NULL && j < config->plugin_count; j++)
        if (config->plugins[j]->descriptor.kind == families[i].kind &&
            strcmp(config->plugins[j]->descriptor.name, dot + 1) == 0) {
            mo_section_of_plugin(config->plugins[j], name, ret_section);
            return 0;
        }
    struct mo_plugin *plugin;
    int result = strchr(dot + 1, '/') != NULL
                     ? mo_fail(error, -EINVAL, "a section has the plugin's name, not its path")
                     : mo_plugin_load(families[i].kind, dot + 1, &plugin, error);
    if (result < 0) {
        char quoted[MO_QUOTED_MAX];
        mo_error_prefix(error, "section [%s]", mo_quoted(name, quoted));
        return result;
    }
    mo_section_of_plugin(plugin, name, ret_section);
    return 0;
}

static int add_section(struct mo_config *config, const struct mo_section *type,
                       struct section **ret_section, struct memopt_error *error) {
    if (config->section_count == SECTION_LIMIT)
        return mo_fail(error, -E2BIG, "more than %d sections, with those of the plugins in use",
                       SECTION_LIMIT);
    size_t rows = 0;
    while (mo_section_option(type, rows) != NULL)
        rows++;
    char *name = copy_text(config, type->name, strlen(type->name));
    struct value *values = config_alloc(config, (rows + 1) * sizeof(*values));
    if (name == NULL || values == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    struct section *section = &config->sections[config->section_count++];
    section->type = *type;
    section->type.name = name;
    section->values = values;
    *ret_section = section;
    return 0;
}

/* --------------------------------------------------------------- 3. problems */

/* A file, or one --set. */
struct source {
    enum mo_origin_kind kind;
    const char *label;     /* in messages */
    const char *origin;    /* mo_origin.file */
    const char *directory; /* where relative paths begin; NULL: nowhere */
    size_t problems;
};

/* One `key = value`, or a section's header (key NULL). */
struct raw {
    int source, line;
    const char *section, *key, *value;
};

struct problem {
    int source, line; /* source -1: the defaults */
    int code;
    const char *text;
    size_t order;
};

struct loader {
    struct mo_config *config;
    struct source *sources;
    size_t source_count;
    struct raw *raws;
    size_t raw_count, raw_room;
    struct problem *problems;
    size_t problem_count, problem_room;
    int no_room; /* for one more section: that is told once */
    int no_memory;
};

/* Makes room for one more item; 0: there is none, and no_memory is set. */
static int grow(struct loader *loader, void **items, size_t count, size_t *room, size_t size) {
    if (count < *room)
        return 1;
    size_t more = *room == 0 ? 64 : *room * 2;
    void *bigger = reallocarray(*items, more, size);
    if (bigger == NULL) {
        loader->no_memory = 1;
        return 0;
    }
    *items = bigger;
    *room = more;
    return 1;
}

static const char *keep(struct loader *loader, const char *text, size_t length) {
    const char *copy = copy_text(loader->config, text, length);
    if (copy == NULL)
        loader->no_memory = 1;
    return copy;
}

static int too_many(const struct loader *loader, int source) {
    return source >= 0 && loader->sources[source].problems >= PROBLEM_LIMIT;
}

static void problem(struct loader *loader, int source, int line, int code, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void problem(struct loader *loader, int source, int line, int code, const char *format,
                    ...) {
    if (code == -ENOMEM) {
        loader->no_memory = 1;
        return;
    }
    if (too_many(loader, source))
        return;
    char text[MEMOPT_ERROR_MAX + 256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    /* one problem, one line */
    for (char *p = text; (p = strchr(p, '\n')) != NULL && strlen(text) + 2 < sizeof(text);) {
        *p = ' ';
        if (p == text || p[-1] == '?')
            continue;
        memmove(p + 1, p, strlen(p) + 1);
        *p = ';';
    }
    void *items = loader->problems;
    if (!grow(loader, &items, loader->problem_count, &loader->problem_room,
              sizeof(*loader->problems)))
        return;
    loader->problems = items;
    const char *kept = keep(loader, text, strlen(text));
    if (kept == NULL)
        return;
    loader->problems[loader->problem_count] =
        (struct problem){source, line, code, kept, loader->problem_count};
    loader->problem_count++;
    if (source >= 0)
        loader->sources[source].problems++;
    if (too_many(loader, source)) {
        /* told once, by itself not counted */
        loader->sources[source].problems = 0;
        problem(loader, source, INT_MAX, -EINVAL, "too many errors, the rest is not looked at");
        loader->sources[source].problems = PROBLEM_LIMIT;
    }
}

static int by_place(const void *a, const void *b) {
    const struct problem *x = a, *y = b;
    if (x->source != y->source)
        return x->source < y->source ? -1 : 1;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* All problems in the order of the files; returns the first one's code. */
static int tell(struct loader *loader, const struct mo_config_request *request,
                struct memopt_error *error) {
    enum { RESERVE = 64 }; /* for "and N more" */
    char all[MEMOPT_ERROR_MAX];
    size_t used = 0, untold = 0;
    qsort(loader->problems, loader->problem_count, sizeof(*loader->problems), by_place);
    for (size_t i = 0; i < loader->problem_count; i++) {
        const struct problem *p = &loader->problems[i];
        char line[MEMOPT_ERROR_MAX + 512];
        const char *label = p->source < 0 ? "built-in defaults" : loader->sources[p->source].label;
        if (p->line > 0 && p->line < INT_MAX)
            snprintf(line, sizeof(line), "%s:%d: %s", label, p->line, p->text);
        else
            snprintf(line, sizeof(line), "%s: %s", label, p->text);
        if (request->each_error != NULL)
            request->each_error(request->context, line);
        size_t length = strlen(line);
        size_t room = sizeof(all) - (i + 1 < loader->problem_count ? RESERVE : 1);
        if (untold > 0 || used + length + 1 > room)
            untold++;
        else
            used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", used > 0 ? "\n" : "",
                                     line);
    }
    if (untold > 0)
        snprintf(all + used, sizeof(all) - used, "%s... and %zu more", used > 0 ? "\n" : "",
                 untold);
    return mo_fail(error, loader->problems[0].code, "%s", all);
}

/* ---------------------------------------------------------------- 4. reading */

/* Of one text while inih works on it. */
struct reader {
    struct loader *loader;
    int source;
    const char *next, *end;
    int line;            /* number of the line inih has */
    const char *section; /* NULL: before the first header; "": a broken one */
    int given, taken;    /* inih has a line; its handler was called for it */
    char start[40];      /* of that line, for messages */
};

static void add_raw(struct loader *loader, int source, int line, const char *section,
                    const char *key, const char *value) {
    void *items = loader->raws;
    if (!grow(loader, &items, loader->raw_count, &loader->raw_room, sizeof(*loader->raws)))
        return;
    loader->raws = items;
    loader->raws[loader->raw_count++] = (struct raw){source, line, section, key, value};
}

static int is_blank(char c) {
    return c == ' ' || c == '\t';
}

/* Section headers are read here: inih cuts long names, ignores what follows the
 * ']' and says nothing of a section without keys. */
static void read_header(struct reader *reader, const char *text, size_t length) {
    struct loader *loader = reader->loader;
    const char *close = memchr(text, ']', length);
    const char *rest = close != NULL ? close + 1 : NULL;
    char quoted[MO_QUOTED_MAX], shown[80];
    snprintf(shown, sizeof(shown), "%.*s", (int)(length < 79 ? length : 79), text);
    reader->section = "";
    while (rest != NULL && rest < text + length && is_blank(*rest))
        rest++;
    if (close == NULL)
        problem(loader, reader->source, reader->line, -EINVAL,
                "'%s' has no ']': a section is written [NAME]", mo_quoted(shown, quoted));
    else if (rest < text + length && *rest != ';' && *rest != '#')
        problem(loader, reader->source, reader->line, -EINVAL,
                "'%s' has text after the ']': settings go on lines of their own",
                mo_quoted(shown, quoted));
    else if (close == text + 1)
        problem(loader, reader->source, reader->line, -EINVAL, "'[]' has no name");
    else {
        const char *name = keep(loader, text + 1, (size_t)(close - text - 1));
        if (name != NULL) {
            reader->section = name;
            add_raw(loader, reader->source, reader->line, name, NULL, NULL);
        }
    }
}

/* What inih did with the line before. */
static void settle(struct reader *reader) {
    if (reader->given && !reader->taken)
        problem(reader->loader, reader->source, reader->line, -EINVAL,
                "'%s' is not a setting: 'key = value' was expected", reader->start);
    reader->given = reader->taken = 0;
}

/* Gives inih the next line that may be a setting. */
static char *next_line(char *buffer, int size, void *context) {
    struct reader *reader = context;
    struct loader *loader = reader->loader;
    settle(reader);
    while (reader->next < reader->end && !loader->no_memory && !too_many(loader, reader->source)) {
        const char *text = reader->next;
        const char *stop = memchr(text, '\n', (size_t)(reader->end - text));
        if (stop == NULL)
            stop = reader->end;
        reader->next = stop < reader->end ? stop + 1 : stop;
        reader->line++;
        if (stop > text && stop[-1] == '\r')
            stop--;
        while (text < stop && is_blank(*text))
            text++; /* indentation means nothing; to inih it would be a continuation */
        size_t length = (size_t)(stop - text);
        size_t i = 0;
        while (i < length && ((unsigned char)text[i] >= 0x20 || text[i] == '\t') && text[i] != 0x7f)
            i++;
        if (i < length) {
            problem(loader, reader->source, reader->line, -EINVAL,
                    text[i] == '\0' ? "the line has a NUL byte: this is not a text file"
                                    : "the line has the control character 0x%02x",
                    (unsigned)(unsigned char)text[i]);
            continue;
        }
        if (length == 0 || *text == ';' || *text == '#')
            continue;
        if (length >= (size_t)size) {
            problem(loader, reader->source, reader->line, -E2BIG,
                    "the line has %zu bytes, more than the %d that are allowed", length, size - 1);
            continue;
        }
        if (*text == '[') {
            read_header(reader, text, length);
            continue;
        }
        memcpy(buffer, text, length);
        buffer[length] = '\0';
        snprintf(reader->start, sizeof(reader->start), "%s", buffer);
        reader->given = 1;
        return buffer;
    }
    return NULL;
}

/* inih calls this for a line that is `key = value`. */
static int take_setting(void *context, const char *inih_section, const char *key,
                        const char *value) {
    (void)inih_section;
    struct reader *reader = context;
    struct loader *loader = reader->loader;
    char quoted[MO_QUOTED_MAX];
    if (value == NULL || loader->no_memory)
        return 0;
    reader->taken = 1;
    if (*key == '\0')
        problem(loader, reader->source, reader->line, -EINVAL, "there is no key before the '='");
    else if (reader->section == NULL)
        problem(loader, reader->source, reader->line, -EINVAL,
                "'%s' stands before the first [section]", mo_quoted(key, quoted));
    else if (*reader->section != '\0') {
        const char *kept_key = keep(loader, key, strlen(key));
        const char *kept_value = keep(loader, value, strlen(value));
        if (kept_key != NULL && kept_value != NULL)
            add_raw(loader, reader->source, reader->line, reader->section, kept_key, kept_value);
    }
    return 1;
}

/* Debian's inih has its limits as variables (a line is 200 bytes otherwise);
 * under another name, as their declarations are not the same everywhere. */
extern int inih_max_line __asm__("ini_max_line") __attribute__((weak));

static void read_text(struct loader *loader, int source, const char *text, size_t size) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct reader reader = {.loader = loader, .source = source, .next = text, .end = text + size};
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        reader.next += 3;
    else if (size >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0)) {
        problem(loader, source, 0, -EINVAL, "is UTF-16 text, not UTF-8");
        return;
    }
    pthread_mutex_lock(&lock);
    int before = 0;
    if (&inih_max_line != NULL) {
        before = inih_max_line;
        inih_max_line = LINE_LIMIT;
    }
    int result = ini_parse_stream(next_line, &reader, take_setting, &reader);
    if (&inih_max_line != NULL)
        inih_max_line = before;
    pthread_mutex_unlock(&lock);
    if (result == -2)
        loader->no_memory = 1;
}

static int add_source(struct loader *loader, enum mo_origin_kind kind, const char *label,
                      const char *origin, const char *directory) {
    loader->sources[loader->source_count] = (struct source){kind, label, origin, directory, 0};
    return (int)loader->source_count++;
}

/* The absolute directory of a file; NULL: not to be found out. */
static const char *directory_of(struct loader *loader, const char *path) {
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (path[0] == '/')
        return keep(loader, path, length);
    char buffer[PATH_MAX], joined[2 * PATH_MAX];
    if (getcwd(buffer, sizeof(buffer)) == NULL)
        return NULL;
    int written = length == 0
                      ? snprintf(joined, sizeof(joined), "%s", buffer)
                      : snprintf(joined, sizeof(joined), "%s/%.*s", buffer, (int)length, path);
    return written < (int)sizeof(joined) ? keep(loader, joined, (size_t)written) : NULL;
}

/* Up to FILE_LIMIT bytes and one more; negative errno. */
static ssize_t read_all(int fd, char *buffer) {
    size_t used = 0;
    while (used < FILE_LIMIT + 1) {
        ssize_t n = read(fd, buffer + used, FILE_LIMIT + 1 - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        used += (size_t)n;
    }
    return (ssize_t)used;
}

/* A file that is not asked for by name may be missing, or lie where we may not
 * look. */
static int may_be_missing(const char *path, int code) {
    struct stat status;
    if (code == ENOENT || code == ENOTDIR)
        return 1;
    return code == EACCES && stat(path, &status) < 0 && errno == EACCES;
}

/* How a file came to be read. */
enum way {
    WAY_SYSTEM, /* in the directory of memopt's own */
    WAY_FOUND,  /* where the user is or lives: if it can be trusted */
    WAY_NAMED,  /* by -c or MEMOPT_CONF: it must be there, and is read in any case */
};

/* Negative errno; a file that is not to be read has `why` besides. */
static int open_file(const char *path, enum way way, char why[MO_TRUST_WHY]) {
    int fd;
    why[0] = '\0';
    if (way == WAY_FOUND)
        return mo_trust_open(path, 0, why);
    do /* a pipe that is named has a writer, or will have */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (way == WAY_NAMED ? 0 : O_NONBLOCK));
    while (fd < 0 && errno == EINTR);
    struct stat status;
    if (way == WAY_NAMED && fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
        mo_trust_file(fd, why) == -EPERM) {
        mo_note_once("'%s' is read as it is named, though %s", path, why);
        why[0] = '\0';
    }
    return fd < 0 ? -errno : fd;
}

static void read_file(struct loader *loader, const char *path, enum way way) {
    char why[MO_TRUST_WHY];
    mo_auto_close int fd = open_file(path, way, why);
    if (why[0] != '\0') {
        struct stat status; /* a directory is judged before what may not be in it */
        if (lstat(path, &status) == 0 || (errno != ENOENT && errno != ENOTDIR))
            mo_note_once("'%s' is skipped: %s", path, why);
        return;
    }
    if (fd < 0 && way != WAY_NAMED && may_be_missing(path, -fd))
        return;
    int code = fd < 0 ? fd : 0;
    path = keep(loader, path, strlen(path));
    if (path == NULL)
        return;
    const char *directory = directory_of(loader, path);
    int source = add_source(loader, MO_ORIGIN_FILE, path, path, directory);
    if (code < 0) {
        problem(loader, source, 0, code, "can't be read: %s", strerror(-code));
        return;
    }
    /* Not blocking was for opening; a pipe's writer may take its time. */
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    mo_auto_free char *text = malloc(FILE_LIMIT + 1);
    if (text == NULL) {
        loader->no_memory = 1;
        return;
    }
    ssize_t size = read_all(fd, text);
    if (size < 0)
        problem(loader, source, 0, (int)size, "can't be read: %s", strerror((int)-size));
    else if (size > FILE_LIMIT)
        problem(loader, source, 0, -EFBIG, "is larger than the %d KiB that are allowed",
                FILE_LIMIT / 1024);
    else
        read_text(loader, source, text, (size_t)size);
}

/* `section.key=value`; the last '.' before the '=' ends the section. */
static void read_set(struct loader *loader, const struct mo_config_set *set) {
    const char *text = set->assignment;
    while (is_blank(*text))
        text++;
    const char *equals = strchr(text, '=');
    const char *end = equals;
    char label[256], quoted[MO_QUOTED_MAX];
    while (equals != NULL && end > text && is_blank(end[-1]))
        end--;
    const char *dot = equals != NULL ? memrchr(text, '.', (size_t)(end - text)) : NULL;
    int plain = strcmp(set->label, "--set") == 0;
    snprintf(label, sizeof(label), plain && dot != NULL ? "%s %.*s" : "%s", set->label,
             dot != NULL ? (int)(end - text < 120 ? end - text : 120) : 0, text);
    const char *kept_label = keep(loader, label, strlen(label));
    const char *origin = keep(loader, set->label, strlen(set->label));
    const char *directory = directory_of(loader, "x");
    if (kept_label == NULL || origin == NULL)
        return;
    int source = add_source(loader, MO_ORIGIN_SET, kept_label, origin, directory);
    if (dot == NULL || dot == text || dot + 1 == end) {
        problem(loader, source, 0, -EINVAL, "'%s' is not section.key=value",
                mo_quoted(text, quoted));
        return;
    }
    const char *value = equals + 1;
    size_t length = strlen(value);
    while (is_blank(*value))
        value++, length--;
    while (length > 0 && is_blank(value[length - 1]))
        length--;
    for (const char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            problem(loader, source, 0, -EINVAL, "'%s' has a control character",
                    mo_quoted(text, quoted));
            return;
        }
    const char *section = keep(loader, text, (size_t)(dot - text));
    const char *key = keep(loader, dot + 1, (size_t)(end - dot - 1));
    value = keep(loader, value, length);
    if (section == NULL || key == NULL || value == NULL)
        return;
    add_raw(loader, source, 0, section, NULL, NULL);
    add_raw(loader, source, 0, section, key, value);
}

/* --------------------------------------------------------------- 5. checking */

static void unknown_key(struct loader *loader, const struct raw *raw,
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
    const struct mo_core_section *core, *home = NULL;
    for (size_t j = 0; nearest.best == NULL && (core = mo_core_section_at(j)) != NULL; j++)
        if (home == NULL && mo_option_find(core->table, raw->key) != NULL)
            home = core;
    if (nearest.best != NULL)
        problem(loader, raw->source, raw->line, -EINVAL,
                "unknown key '%s' in [%s]; did you mean '%s'?", quoted, section->name,
                nearest.best);
    else if (home != NULL)
        problem(loader, raw->source, raw->line, -EINVAL,
                "unknown key '%s' in [%s]; it belongs to [%s%s]", quoted, section->name, home->name,
                strcmp(home->name, "heap") == 0 ? ".NAME" : "");
    else if (i == 0)
        problem(loader, raw->source, raw->line, -EINVAL, "unknown key '%s': [%s] has no settings",
                quoted, section->name);
    else
        problem(loader, raw->source, raw->line, -EINVAL, "unknown key '%s' in [%s]; known are %s",
                quoted, section->name, known);
}

static int absolute_path(struct loader *loader, const char *key, const char *text,
                         const char *directory, const char **ret_path, struct memopt_error *error) {
    struct memopt_option row = {.key = key, .type = MEMOPT_PATH};
    return mo_option_parse(&row, text, directory, ret_path, &loader->config->allocator, error);
}

/* plugin_path. What is loaded from there runs in every program: no relative path
 * chooses it, and a directory that isn't there is most likely a slip. */
static int absolute_list(struct loader *loader, const struct memopt_option *option,
                         const char *text, const char *directory, const char **ret_text,
                         struct memopt_error *error) {
    struct mo_config *config = loader->config;
    struct memopt_option row = *option;
    struct memopt_list list;
    row.offset = 0;
    int result = mo_option_parse(&row, text, directory, &list, &config->allocator, error);
    if (result < 0)
        return result;
    const char **paths = config_alloc(config, (list.count + 1) * sizeof(*paths));
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
    char *printed = config_alloc(config, size);
    if (printed == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    mo_option_print(&row, &list, printed, size);
    *ret_text = printed;
    return 0;
}

/* [optimizer] state */
static int check_state(struct loader *loader, const char *text, const char *directory,
                       const char **ret_text, struct memopt_error *error) {
    char quoted[MO_QUOTED_MAX];
    if (strncmp(text, "heap:", 5) == 0)
        return check_heap_name(text + 5, error);
    if (strncmp(text, "store:", 6) != 0 || text[6] == '\0')
        return mo_fail(error, -EINVAL, "'state' is '%s', not heap:NAME or store:PATH",
                       mo_quoted(text, quoted));
    const char *path;
    int result = absolute_path(loader, "state", text + 6, directory, &path, error);
    if (result < 0)
        return result;
    size_t length = strlen(path);
    char *joined = config_alloc(loader->config, length + 7);
    if (joined == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    memcpy(joined, "store:", 6);
    memcpy(joined + 6, path, length);
    *ret_text = joined;
    return 0;
}

static int check_output(const char *text, struct memopt_error *error) {
    char quoted[MO_QUOTED_MAX];
    if (*text == '\0')
        return mo_fail(error, -EINVAL, "'output' is empty, not stderr, stdout or a file's name");
    for (const char *p = text; (p = strchr(p, '%')) != NULL; p += 2)
        if (p[1] == '\0' || strchr("pte%", p[1]) == NULL)
            return mo_fail(error, -EINVAL,
                           "'output' is '%s': after a '%%' only p (process), t (time), e "
                           "(program) or another %% may come",
                           mo_quoted(text, quoted));
    return 0;
}

/* mo_config_write() writes a value as it is: refuses what inih would read back as
 * another. --set gives any text, and any directory may become part of a path. */
static int check_writable(const char *key, const char *text, struct memopt_error *error) {
    char quoted[MO_QUOTED_MAX];
    const char *wrong = NULL;
    size_t length = strlen(text);
    for (const char *p = text; *p != '\0'; p++)
        if (*p == ';' && (p == text || is_blank(p[-1])))
            wrong = "in an INI a comment would begin at the ';'";
        else if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
            wrong = "it has a control character";
    if (length >= 2 && text[0] == '"' && text[length - 1] == '"')
        wrong = "values are written without quotes";
    else if (length > 0 && is_blank(text[length - 1]))
        wrong = "it ends with a blank";
    if (wrong != NULL)
        return mo_fail(error, -EINVAL, "'%s' is '%s': %s", key, mo_quoted(text, quoted), wrong);
    if (strlen(key) + strlen(" = ") + length >= LINE_LIMIT)
        return mo_fail(error, -EINVAL, "'%s' is '%s': it has %zu bytes, more than a line may have",
                       key, mo_quoted(text, quoted), length);
    return 0;
}

/* Checks one value and makes paths in it absolute. */
static int check_value(struct loader *loader, const struct mo_section *section,
                       const struct memopt_option *option, const struct raw *raw,
                       const char **ret_text, struct memopt_error *error) {
    const char *directory = loader->sources[raw->source].directory;
    const char *text = raw->value;
    int result;
    if (strcmp(section->name, "memopt") == 0 && strcmp(option->key, "plugin_path") == 0)
        result = absolute_list(loader, option, text, directory, &text, error);
    else if (option->type == MEMOPT_PATH)
        result = absolute_path(loader, option->key, text, directory, &text, error);
    else
        result = mo_option_parse(option, text, directory, NULL, NULL, error);
    if (result == 0 && strcmp(section->name, "pressure") == 0 &&
        strcmp(option->key, "sources") == 0 && *text == '\0') {
        char allowed[256];
        mo_option_describe(option, allowed, sizeof(allowed));
        result = mo_fail(error, -EINVAL, "'sources' is empty, not %s", allowed);
    }
    if (result == 0 && option == &section->output)
        result = check_output(text, error);
    if (result == 0 && section->plugin == NULL && strcmp(option->key, "state") == 0 &&
        *text != '\0')
        result = check_state(loader, text, directory, &text, error);
    if (result == 0)
        *ret_text = text != NULL ? text : "";
    return result;
}

static void check_setting(struct loader *loader, const struct raw *raw, struct section *section) {
    struct memopt_error error;
    const struct source *source = &loader->sources[raw->source];
    size_t row = row_of(&section->type, raw->key);
    const struct memopt_option *option = mo_section_option(&section->type, row);
    if (option == NULL) {
        unknown_key(loader, raw, &section->type);
        return;
    }
    struct value *value = &section->values[row];
    int twice = value->given_line > 0 && value->given_source == raw->source;
    if (twice)
        problem(loader, raw->source, raw->line, -EINVAL,
                "'%s' is set twice in [%s], first in line %d", option->key, section->type.name,
                value->given_line);
    else {
        value->given_source = raw->source;
        value->given_line = source->kind == MO_ORIGIN_FILE ? raw->line : 0;
    }
    const char *text = NULL;
    int result = check_writable(option->key, raw->value, &error);
    if (result == 0)
        result = check_value(loader, &section->type, option, raw, &text, &error);
    if (result == 0)
        result = check_writable(option->key, text, &error); /* with its directory */
    if (result < 0) {
        problem(loader, raw->source, raw->line, result, "%s", error.message);
        value->refused = 1;
        return;
    }
    if (twice)
        return;
    value->text = text;
    value->source = raw->source;
    value->origin = (struct mo_origin){source->kind, source->origin, raw->line};
}

static int comes_after(const struct value *a, const struct value *b) {
    return a->source != b->source ? a->source > b->source : a->origin.line > b->origin.line;
}

/* [pressure]: a step that comes after another can't be due before it. Of two values
 * in the wrong order the later one is told of, by layer and line. */
static void check_thresholds(struct loader *loader) {
    static const char *const pairs[][2] = {{"warn", "high"},
                                           {"high", "critical"},
                                           {"psi_warn", "psi_high"},
                                           {"psi_high", "psi_critical"}};
    const struct section *section = find_section(loader->config, "pressure");
    for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
        const struct value *values[2];
        const char *texts[2];
        char quoted[MO_QUOTED_MAX], quoted_other[MO_QUOTED_MAX];
        double numbers[2];
        for (int j = 0; j < 2; j++) {
            size_t row = row_of(&section->type, pairs[i][j]);
            struct memopt_option at_zero = *mo_section_option(&section->type, row);
            at_zero.offset = 0;
            values[j] = &section->values[row];
            texts[j] = values[j]->text != NULL ? values[j]->text : at_zero.value;
            if (mo_option_parse(&at_zero, texts[j], NULL, &numbers[j], NULL, NULL) < 0)
                loader->no_memory = 1; /* it was checked before */
        }
        if (loader->no_memory || values[0]->refused || values[1]->refused ||
            numbers[0] <= numbers[1])
            continue;
        int later = values[1]->text != NULL &&
                    (values[0]->text == NULL || comes_after(values[1], values[0]));
        problem(loader, values[later]->source, values[later]->origin.line, -EINVAL,
                "'%s' is '%s', %s '%s', which is '%s'", pairs[i][later],
                mo_quoted(texts[later], quoted), later ? "below" : "above", pairs[i][!later],
                mo_quoted(texts[!later], quoted_other));
    }
}

/* [heap.default] is the program's own malloc: that has the allocator of [memopt], and its
 * blocks go to free(). */
static void check_default_heap(struct loader *loader) {
    static const struct {
        const char *key, *why;
    } rows[] = {
        {"allocator", "its allocator is that of [memopt]"},
        {"region", "it can't have a region"},
        {"on_limit", "it can't spill: use purge, shrink, fail"},
    };
    const struct section *section = find_section(loader->config, "heap.default");
    for (size_t i = 0; section != NULL && i < sizeof(rows) / sizeof(*rows); i++) {
        size_t row = row_of(&section->type, rows[i].key);
        const struct value *value = &section->values[row];
        if (value->text == NULL || *value->text == '\0')
            continue;
        if (strcmp(rows[i].key, "on_limit") == 0) {
            struct memopt_option at_zero = *mo_section_option(&section->type, row);
            struct memopt_list list;
            int spills = 0;
            at_zero.offset = 0;
            if (mo_option_parse(&at_zero, value->text, NULL, &list, &loader->config->allocator,
                                NULL) < 0) {
                loader->no_memory = 1; /* it was checked before */
                return;
            }
            for (size_t j = 0; j < list.count; j++)
                spills |= strcmp(list.items[j], "spill") == 0;
            if (!spills)
                continue;
        }
        problem(loader, value->source, value->origin.line, -EINVAL,
                "'%s' can't be set for the default heap, which is the program's own malloc: %s",
                rows[i].key, rows[i].why);
    }
}

static int is_plugin_section(const char *name) {
    const char *dot = strchr(name, '.');
    for (size_t i = 0; dot != NULL && i < FAMILIES; i++)
        if (strlen(families[i].prefix) == (size_t)(dot - name) &&
            strncmp(families[i].prefix, name, (size_t)(dot - name)) == 0)
            return families[i].kind != 0;
    return 0;
}

/* NULL: it could not be made, and is a problem. */
static struct section *new_section(struct loader *loader, const struct mo_section *type, int source,
                                   int line) {
    struct memopt_error error;
    struct section *section = NULL;
    int result = add_section(loader->config, type, &section, &error);
    if (result < 0 && !loader->no_room)
        problem(loader, source, line, result, "%s", error.message);
    if (result == -E2BIG)
        loader->no_room = 1;
    return section;
}

/* All raw settings of plugins' sections, or all others. */
static void check_settings(struct loader *loader, int plugins) {
    struct mo_config *config = loader->config;
    struct section *section = NULL;
    for (size_t i = 0; i < loader->raw_count && !loader->no_memory; i++) {
        const struct raw *raw = &loader->raws[i];
        if (is_plugin_section(raw->section) != plugins || too_many(loader, raw->source))
            continue;
        if (raw->key == NULL) {
            struct memopt_error error;
            struct mo_section type;
            section = (struct section *)find_section(config, raw->section);
            if (section == NULL) {
                int result = mo_section_describe(config, raw->section, &type, &error);
                if (result < 0)
                    problem(loader, raw->source, raw->line, result, "%s", error.message);
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
static void check_plugin(struct loader *loader, const struct value *value,
                         enum memopt_plugin_kind kind, const char *key, const char *name,
                         int default_heap) {
    struct mo_config *config = loader->config;
    struct memopt_error error;
    struct mo_plugin *plugin;
    char section_name[80], library[PATH_MAX];
    int source = value->text != NULL ? value->source : -1;
    int result = mo_plugin_load(kind, name, &plugin, &error);
    if (result == 0 && kind == MEMOPT_ALLOCATOR)
        result = mo_plugin_backend_library(plugin, library, sizeof(library), &error);
    if (result == 0 && default_heap && (plugin->ops.allocator.flags & MEMOPT_ALLOCATOR_HEAPS_ONLY))
        result = mo_fail(&error, -EINVAL, "'%s' can only be the allocator of a [heap.NAME]", name);
    if (result < 0) {
        problem(loader, source, value->origin.line, result, "'%s': %s", key, error.message);
        return;
    }
    size_t i = 0;
    while (i < config->plugin_count && config->plugins[i] != plugin)
        i++;
    if (i == config->plugin_count && i < SECTION_LIMIT)
        config->plugins[config->plugin_count++] = plugin;
    snprintf(section_name, sizeof(section_name), "%s.%s", mo_plugin_kind_name(kind),
             plugin->descriptor.name);
    if (find_section(config, section_name) != NULL)
        return;
    struct mo_section type;
    mo_section_of_plugin(plugin, section_name, &type);
    new_section(loader, &type, source, value->origin.line);
}

/* The values of [memopt] or a heap that name plugins. */
static void check_plugins(struct loader *loader, const struct section *section) {
    static const struct {
        const char *key;
        enum memopt_plugin_kind kind;
    } keys[] = {
        {"allocator", MEMOPT_ALLOCATOR},
        {"trackers", MEMOPT_TRACKER},
        {"reporters", MEMOPT_REPORTER},
    };
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys) && !loader->no_memory; i++) {
        size_t row = row_of(&section->type, keys[i].key);
        const struct memopt_option *option = mo_section_option(&section->type, row);
        if (option == NULL)
            continue;
        const struct value *value = &section->values[row];
        const char *text = value->text != NULL ? value->text : option->value;
        if (text == NULL || (*text == '\0' && option->value == NULL))
            continue; /* unset */
        if (option->type != MEMOPT_LIST) {
            check_plugin(loader, value, keys[i].kind, option->key, text,
                         strcmp(section->type.name, "memopt") == 0);
            continue;
        }
        struct memopt_option at_zero = *option;
        struct memopt_list list;
        struct memopt_error error;
        at_zero.offset = 0;
        int result =
            mo_option_parse(&at_zero, text, NULL, &list, &loader->config->allocator, &error);
        if (result < 0) {
            loader->no_memory = 1; /* it was checked before */
            return;
        }
        for (size_t j = 0; j < list.count; j++)
            check_plugin(loader, value, keys[i].kind, option->key, list.items[j], 0);
    }
}

static void add_plugin_directories(struct loader *loader) {
    struct mo_settings_memopt settings;
    struct memopt_error error;
    if (mo_config_fill(loader->config, "memopt", mo_core_section("memopt")->table, &settings,
                       &error) < 0) {
        loader->no_memory = 1; /* the values were checked before */
        return;
    }
    struct mo_origin origin;
    mo_config_get(loader->config, "memopt", "plugin_path", &origin);
    for (size_t i = 0; i < settings.plugin_path.count; i++)
        if (mo_plugin_add_directory(settings.plugin_path.items[i], &error) < 0)
            loader->no_memory = 1; /* they are absolute */
}

/* ---------------------------------------------------------------- 6. loading */

static int loader_begin(struct loader *loader, size_t sources, struct memopt_error *error) {
    memset(loader, 0, sizeof(*loader));
    loader->config = config_new();
    loader->sources = calloc(sources, sizeof(*loader->sources));
    if (loader->config == NULL || loader->sources == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    const struct mo_core_section *core;
    for (size_t i = 0; (core = mo_core_section_at(i)) != NULL; i++) {
        struct mo_section type;
        struct section *section;
        if (strcmp(core->name, "heap") == 0)
            continue; /* a family, no section */
        describe_core(core, core->name, &type);
        int result = add_section(loader->config, &type, &section, error);
        if (result < 0)
            return result;
    }
    return 0;
}

static int loader_finish(struct loader *loader, const struct mo_config_request *request,
                         struct mo_config **ret_config, struct memopt_error *error) {
    struct mo_config *config = loader->config;
    if (!loader->no_memory)
        check_settings(loader, 0);
    if (!loader->no_memory)
        check_thresholds(loader);
    if (!loader->no_memory)
        check_default_heap(loader);
    if (!loader->no_memory)
        add_plugin_directories(loader);
    size_t before_plugins = config->section_count;
    for (size_t i = 0; i < before_plugins && !loader->no_memory; i++)
        check_plugins(loader, &config->sections[i]);
    if (!loader->no_memory)
        check_settings(loader, 1);
    if (loader->no_memory)
        return mo_fail(error, -ENOMEM, "out of memory while reading the configuration");
    if (loader->problem_count > 0)
        return tell(loader, request, error);
    *ret_config = config;
    loader->config = NULL;
    return 0;
}

static void loader_end(struct loader *loader) {
    mo_config_free(loader->config);
    free(loader->sources);
    free(loader->raws);
    free(loader->problems);
}

static void read_user_file(struct loader *loader) {
    char path[PATH_MAX];
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int written = 0;
    if (xdg != NULL && xdg[0] == '/') /* a relative one is to be ignored, says its standard */
        written = snprintf(path, sizeof(path), "%s/memopt/memopt.ini", xdg);
    else if (home != NULL && home[0] == '/')
        written = snprintf(path, sizeof(path), "%s/.config/memopt/memopt.ini", home);
    if (written > 0 && written < (int)sizeof(path))
        read_file(loader, path, WAY_FOUND);
}

int mo_config_load(const struct mo_config_request *request, struct mo_config **ret_config,
                   struct memopt_error *error) {
    enum { FILES = 4 };
    int secure = getauxval(AT_SECURE) != 0;
    if (secure && (request->file != NULL || request->set_count > 0))
        return mo_fail(error, -EPERM,
                       "a program that runs with more rights than its user takes no "
                       "configuration from the command line");
    struct loader loader;
    int result = loader_begin(&loader, FILES + request->set_count, error);
    if (result == 0) {
        if (!request->only_file)
            read_file(&loader, MO_SYSCONFDIR "/memopt/memopt.ini", WAY_SYSTEM);
        if (!secure && !request->only_file) {
            read_user_file(&loader);
            read_file(&loader, "./memopt.ini", WAY_FOUND);
        }
        const char *from_environment = getenv("MEMOPT_CONF");
        if (request->file != NULL)
            read_file(&loader, request->file, WAY_NAMED);
        else if (!secure && !request->only_file && from_environment != NULL &&
                 *from_environment != '\0')
            read_file(&loader, from_environment, WAY_NAMED);
        for (size_t i = 0; i < request->set_count; i++)
            read_set(&loader, &request->sets[i]);
        result = loader_finish(&loader, request, ret_config, error);
    }
    loader_end(&loader);
    return result;
}

int mo_config_load_text(const char *name, const char *directory, const void *text, size_t size,
                        struct mo_config **ret_config, struct memopt_error *error) {
    static const struct mo_config_request plain;
    struct loader loader;
    int result = loader_begin(&loader, 1, error);
    if (result == 0) {
        const char *label = keep(&loader, name, strlen(name));
        int source = add_source(&loader, MO_ORIGIN_FILE, label, label, directory);
        if (label != NULL)
            read_text(&loader, source, text, size);
        result = loader_finish(&loader, &plain, ret_config, error);
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

/* ---------------------------------------------------------------- 7. writing */

/* What nobody has set is left out of the optional parts of the core, for a program
 * that brings a file of its own with such a section: see memopt_init(). */
static int is_unset(const struct section *section) {
    static const char *const optional[] = {"monitor", "pressure", "optimizer", "store"};
    for (size_t i = 0; i < sizeof(optional) / sizeof(optional[0]); i++)
        if (strcmp(section->type.name, optional[i]) == 0) {
            for (size_t row = 0; mo_section_option(&section->type, row) != NULL; row++)
                if (section->values[row].text != NULL)
                    return 0;
            return 1;
        }
    return 0;
}

int mo_config_write(const struct mo_config *config, FILE *stream, struct memopt_error *error) {
    const struct memopt_option *option;
    const char *before = "";
    for (size_t i = 0; i < config->section_count; i++) {
        const struct section *section = &config->sections[i];
        if (is_unset(section))
            continue;
        fprintf(stream, "%s[%s]\n", before, section->type.name);
        before = "\n";
        for (size_t row = 0; (option = mo_section_option(&section->type, row)) != NULL; row++) {
            const char *text = section->values[row].text;
            if (text == NULL)
                text = option->value;
            if (text != NULL)
                fprintf(stream, "%s = %s\n", option->key, text);
        }
    }
    errno = 0;
    if (fflush(stream) != 0 || ferror(stream)) {
        int code = errno != 0 ? errno : EIO;
        return mo_fail(error, -code, "can't write the configuration: %s", strerror(code));
    }
    return 0;
}
