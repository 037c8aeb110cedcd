/* fuzz_option.c - every option type: the first byte chooses a row, the rest is
 * its text. What parses is printed, and must parse again to an equal value;
 * what doesn't must say why, leave the field alone and be refused by the
 * validate-only form as well. */
#include "core/option/flat.h"
#include "core/option/option.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct settings {
    int flag;
    int64_t integer;
    uint64_t amount;
    uint64_t time;
    double ratio;
    double number;
    int choice;
    struct memopt_list list;
    struct memopt_list chosen;
    const char *path;
    const char *text;
};
static const char *const choices[] = {"auto", "direct", "dispatch", NULL};
static const struct memopt_option rows[] = {
    MEMOPT_OPT_BOOL(struct settings, flag, "flag", "yes", "a flag"),
    MEMOPT_OPT_INT(struct settings, integer, "integer", "5", NULL, NULL, "blanks", "a number"),
    MEMOPT_OPT_INT(struct settings, integer, "narrow", "5", "-9", "9", NULL, "a number"),
    MEMOPT_OPT_SIZE(struct settings, amount, "amount", "4KiB", NULL, NULL, "a size"),
    MEMOPT_OPT_SIZE(struct settings, amount, "page", NULL, "4KiB", "1GiB", "a size"),
    MEMOPT_OPT_DURATION(struct settings, time, "time", "1s", NULL, NULL, "a time"),
    MEMOPT_OPT_RATIO(struct settings, ratio, "ratio", "80%", NULL, NULL, "a ratio"),
    MEMOPT_OPT_NUMBER(struct settings, number, "number", "1e-3", NULL, NULL, NULL, "a number"),
    MEMOPT_OPT_ENUM(struct settings, choice, "choice", "auto", choices, "a choice"),
    MEMOPT_OPT_LIST(struct settings, list, "list", NULL, NULL, "a list"),
    MEMOPT_OPT_LIST(struct settings, chosen, "chosen", NULL, choices, "a list"),
    MEMOPT_OPT_PATH(struct settings, path, "path", NULL, "a path"),
    MEMOPT_OPT_STRING(struct settings, text, "text", "none", "a text"),
    MEMOPT_OPT_END,
};
static const struct mo_option_table table = {rows, sizeof(rows[0])};

/* Freed after each input, so that nothing grows. */
static void *blocks[8];
static size_t block_count;
static void *alloc(void *context, size_t size) {
    (void)context;
    if (block_count == sizeof(blocks) / sizeof(*blocks))
        abort();
    return blocks[block_count++] = calloc(1, size);
}
static const struct mo_allocator allocator = {alloc, NULL};

static void check(const struct memopt_option *option, const char *text) {
    struct settings a, b, before;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    memset(&a, 0x5a, sizeof(a));
    before = a;
    int result = mo_option_parse(option, text, "/base", &a, &allocator, &error);
    if (mo_option_parse(option, text, "/base", NULL, NULL, NULL) != result)
        abort();
    if (result < 0) {
        if (error.message[0] == '\0' || memcmp(&a, &before, sizeof(a)) != 0)
            abort();
        return;
    }
    size_t length = mo_option_print(option, &a, NULL, 0);
    char *printed = malloc(length + 1);
    if (printed == NULL || mo_option_print(option, &a, printed, length + 1) != length)
        abort();
    memset(&b, 0, sizeof(b));
    if (mo_option_parse(option, printed, NULL, &b, &allocator, &error) != 0 ||
        mo_option_compare(option, &a, &b) != 0) {
        fprintf(stderr, "%s: '%s' prints as '%s': %s\n", option->key, text, printed, error.message);
        abort();
    }
    free(printed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    char *text = malloc(size);
    if (text == NULL)
        abort();
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    check(mo_option_at(table, data[0] % mo_option_count(table)), text);
    mo_option_nearest(table, text);
    char quoted[MO_QUOTED_MAX];
    if (strlen(mo_quoted(text, quoted)) >= MO_QUOTED_MAX)
        abort();
    struct mo_flat flat;
    (void)mo_flat_parse(text, &allocator, &flat, NULL);
    while (block_count > 0)
        free(blocks[--block_count]);
    free(text);
    return 0;
}
