/*
 * settings.c - from text to an optimizer's settings.
 *
 * Types, ranges and help of a key are in its row of the table of [optimizer]
 * (section.c); which keys an optimizer takes, and with what defaults, in its method's row.
 */
#include "core/optim/optim.h"

#include "core/base/error.h"

#include <memopt/memopt.h>

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { KEY_MAX = 32, VALUE_MAX = 64, LIST_MAX = 512 };

/* Settings that every optimizer has. */
static const struct mo_default common[] = {
    {"maximize", "no"},
    {"rounding", "master"},
    {"state_format", "fp32"},
    {"seed", "0"},
    {"clip_norm", "0"},
    {"skip_nonfinite", "no"},
    {"accumulate", "1"},
    {"threads", ""},
    {"lookahead", "0"},
    {"lookahead_alpha", "0.5"},
    {"sam", "0"},
    {"sam_adaptive", "no"},
};
enum { COMMON_COUNT = sizeof(common) / sizeof(common[0]), COMMON_OF_GROUP = 3 };

static struct mo_option_table table(void) {
    return mo_section_optimizer.table;
}

static int belongs_to_whole(const char *key) {
    for (size_t i = COMMON_OF_GROUP; i < COMMON_COUNT; i++)
        if (strcmp(common[i].key, key) == 0)
            return 1;
    return 0;
}

static int has_key(const struct mo_method *method, const char *key) {
    for (const struct mo_default *own = method->defaults; own->key != NULL; own++)
        if (strcmp(own->key, key) == 0)
            return 1;
    for (size_t i = 0; i < COMMON_COUNT; i++)
        if (strcmp(common[i].key, key) == 0)
            return 1;
    return 0;
}

static int refuse_key(const struct mo_method *method, const char *key, struct memopt_error *error) {
    char list[LIST_MAX] = "", quoted[MO_QUOTED_MAX];
    size_t used = 0;
    for (const struct mo_default *own = method->defaults; own->key != NULL; own++)
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used == 0 ? "" : ", ",
                                 own->key);
    for (size_t i = 0; i < COMMON_COUNT; i++)
        used += (size_t)snprintf(list + used, sizeof(list) - used, ", %s", common[i].key);
    return mo_fail(error, -EINVAL, "'%s' is no setting of %s; it has %s", mo_quoted(key, quoted),
                   method->name, list);
}

/* One key of a method's. */
static int assign(const struct mo_method *method, const char *key, const char *value, int whole,
                  struct mo_settings_optimizer *settings, struct memopt_error *error) {
    const struct memopt_option *option = mo_option_find(table(), key);
    if (option == NULL || !has_key(method, key))
        return refuse_key(method, key, error);
    if (!whole && belongs_to_whole(key))
        return mo_fail(error, -EINVAL,
                       "'%s' is of the whole optimizer: it can't be a group's, set it for "
                       "MEMOPT_ALL_GROUPS",
                       key);
    if (*value == '\0' && strcmp(key, "threads") != 0)
        return mo_fail(error, -EINVAL, "'%s' is empty", key);
    return mo_option_parse(option, value, NULL, settings, NULL, error);
}

/* What can't be said of one key by itself. */
static int check(const struct mo_method *method, const struct mo_settings_optimizer *settings,
                 struct memopt_error *error) {
    const char *wrong = method->check != NULL ? method->check(settings) : NULL;
    if (wrong != NULL)
        return mo_fail(error, -EINVAL, "%s: %s", method->name, wrong);
    if (settings->state_format != MO_STATE_8BIT)
        return 0;
    struct mo_slot slots[MO_SLOTS];
    size_t count = method->slots(settings, slots);
    for (size_t i = 0; i < count; i++)
        if (slots[i].kind != MO_SLOT_FP32)
            return 0;
    return mo_fail(error, -EINVAL, "%s has no state in 8 bits%s", method->name,
                   strcmp(method->name, "sgd") == 0 ? " without momentum" : "");
}

static int is_separator(char c) {
    return c == ' ' || c == ',' || c == '\t' || c == '\n';
}

int mo_settings_parse(const struct mo_method *method, const char *text, int whole,
                      struct mo_settings_optimizer *settings, struct memopt_error *error) {
    while (text != NULL && *text != '\0') {
        if (is_separator(*text)) {
            text++;
            continue;
        }
        const char *equals = text, *end = text;
        while (*end != '\0' && !is_separator(*end))
            end++;
        while (equals < end && *equals != '=')
            equals++;
        size_t key_length = (size_t)(equals - text);
        size_t value_length = equals < end ? (size_t)(end - equals - 1) : 0;
        char key[KEY_MAX], value[VALUE_MAX], quoted[MO_QUOTED_MAX];
        if (equals == end || key_length == 0 || key_length >= KEY_MAX ||
            value_length >= VALUE_MAX) {
            char word[MO_QUOTED_MAX];
            snprintf(word, sizeof(word), "%.*s", (int)(end - text < 64 ? end - text : 64), text);
            return mo_fail(error, -EINVAL, "'%s' is no setting: expected key=value",
                           mo_quoted(word, quoted));
        }
        snprintf(key, sizeof(key), "%.*s", (int)key_length, text);
        snprintf(value, sizeof(value), "%.*s", (int)value_length, equals + 1);
        int code = assign(method, key, value, whole, settings, error);
        if (code < 0)
            return code;
        text = end;
    }
    return check(method, settings, error);
}

int mo_settings_number(const struct mo_method *method, const char *key, double value, int whole,
                       struct mo_settings_optimizer *settings, struct memopt_error *error) {
    char text[VALUE_MAX];
    if (key == NULL)
        return mo_fail(error, -EINVAL, "a setting's name is NULL");
    if (!isfinite(value))
        return mo_fail(error, -EINVAL, "'%s' is no finite number", key);
    /* not printf's, whose decimal point is the locale's */
    if (value == floor(value) && fabs(value) < 0x1p63) {
        snprintf(text, sizeof(text), "%" PRId64, (int64_t)value);
    } else {
        struct memopt_option number = {.key = key, .type = MEMOPT_NUMBER};
        mo_option_print(&number, &value, text, sizeof(text));
    }
    int code = assign(method, key, text, whole, settings, error);
    return code < 0 ? code : check(method, settings, error);
}

int mo_settings_get(const struct mo_method *method, const char *key,
                    const struct mo_settings_optimizer *settings, double *ret_value,
                    struct memopt_error *error) {
    const struct memopt_option *option = key == NULL ? NULL : mo_option_find(table(), key);
    if (option == NULL || !has_key(method, key))
        return refuse_key(method, key == NULL ? "" : key, error);
    const char *field = (const char *)settings + option->offset;
    if (option->type == MEMOPT_NUMBER)
        memcpy(ret_value, field, sizeof(*ret_value));
    else if (option->type == MEMOPT_INT)
        *ret_value = (double)*(const int64_t *)(const void *)field;
    else if (option->type == MEMOPT_BOOL)
        *ret_value = *(const int *)(const void *)field;
    else
        return mo_fail(error, -EINVAL, "'%s' is no number", key);
    return 0;
}

/* Appends "key=value ". */
static size_t print_key(const char *key, const struct mo_settings_optimizer *settings, char *text,
                        size_t size) {
    const struct memopt_option *option = mo_option_find(table(), key);
    char value[VALUE_MAX];
    if (strcmp(key, "threads") == 0 || mo_option_is_unset(option, settings))
        return 0;
    mo_option_print(option, settings, value, sizeof(value));
    return (size_t)snprintf(text, size, "%s=%s ", key, value);
}

void mo_settings_print(const struct mo_method *method, const struct mo_settings_optimizer *settings,
                       char *text, size_t size) {
    size_t used = 0;
    for (const struct mo_default *own = method->defaults; own->key != NULL; own++)
        used += print_key(own->key, settings, text + used, size - used);
    for (size_t i = 0; i < COMMON_COUNT; i++)
        used += print_key(common[i].key, settings, text + used, size - used);
}

void mo_settings_share(struct mo_settings_optimizer *to, const struct mo_settings_optimizer *from) {
    to->seed = from->seed;
    to->clip_norm = from->clip_norm;
    to->skip_nonfinite = from->skip_nonfinite;
    to->accumulate = from->accumulate;
    to->threads = from->threads;
    to->lookahead = from->lookahead;
    to->lookahead_alpha = from->lookahead_alpha;
    to->sam = from->sam;
    to->sam_adaptive = from->sam_adaptive;
}

static int set_defaults(const struct mo_method *method, struct mo_settings_optimizer *settings,
                        struct memopt_error *error) {
    int code = 0;
    for (size_t i = 0; i < COMMON_COUNT && code == 0; i++)
        code = assign(method, common[i].key, common[i].value, 1, settings, error);
    for (const struct mo_default *own = method->defaults; own->key != NULL && code == 0; own++)
        code = assign(method, own->key, own->value, 1, settings, error);
    return code;
}

static int from_ini(const char *key, const char **ret_text, struct memopt_error *error) {
    return memopt_config_get("optimizer", key, ret_text, error);
}

/* The keys of [optimizer] over the settings: all, or what says where it runs. */
static int read_ini(int all, struct mo_settings_optimizer *settings, struct memopt_error *error) {
    for (size_t i = 0; i < mo_option_count(table()); i++) {
        const char *key = mo_option_at(table(), i)->key, *text;
        if (strcmp(key, "name") == 0 || strcmp(key, "state") == 0 ||
            (!all && strcmp(key, "threads") != 0))
            continue;
        int code = from_ini(key, &text, error);
        if (code < 0)
            return code;
        if (text == NULL || *text == '\0')
            continue;
        code = assign(mo_methods[settings->name], key, text, 1, settings, error);
        if (code < 0)
            return memopt_config_blame("optimizer", key, error);
    }
    return 0;
}

/* The heap that `state` names, or the default one. */
static int open_heap(struct memopt_heap **ret_heap, struct memopt_error *error) {
    const char *state, *name = "default";
    int code = from_ini("state", &state, error);
    if (code < 0)
        return code;
    if (state != NULL && strncmp(state, "heap:", 5) == 0) {
        name = state + 5;
    } else if (state != NULL && *state != '\0') {
        mo_fail(error, -ENOTSUP, "'state' is '%s': only heaps can hold it; use heap:NAME", state);
        return memopt_config_blame("optimizer", "state", error);
    }
    return memopt_heap_open(name, NULL, ret_heap, error);
}

int mo_settings_begin(const struct memopt_optimizer_options *options,
                      struct mo_settings_optimizer *ret_settings, struct memopt_heap **ret_heap,
                      struct memopt_error *error) {
    struct mo_settings_optimizer settings;
    const char *name = options->name;
    int code = mo_options_init(table(), &settings, NULL, error);
    if (code == 0 && name == NULL)
        code = from_ini("name", &name, error);
    if (code < 0)
        return code;
    code = mo_option_parse(mo_option_find(table(), "name"), name, NULL, &settings, NULL, error);
    if (code < 0)
        return options->name != NULL ? code : memopt_config_blame("optimizer", "name", error);
    const struct mo_method *method = mo_methods[settings.name];
    code = set_defaults(method, &settings, error);
    if (code == 0)
        code = read_ini(options->name == NULL, &settings, error);
    if (code == 0)
        code = mo_settings_parse(method, options->settings, 1, &settings, error);
    settings.state = NULL; /* the configuration's text */
    *ret_heap = options->heap;
    if (code == 0 && options->heap == NULL)
        code = open_heap(ret_heap, error);
    if (code == 0)
        *ret_settings = settings;
    return code;
}
