/*
 * pool_library.c - libmemopt-pool.so as a whole: its settings from the environment,
 * its start, what it has for the plugin, and the message before abort().
 *
 * The first malloc may come before the constructor below, from the dynamic loader:
 * everything starts as it is needed, from static data, and the defaults hold until
 * then. The constructor is the first of all to run (-z initfirst), even before the C
 * library's own, so it uses nothing but what needs no initialization: no `environ`.
 */
#define _GNU_SOURCE
#include "config.h"

#include "plugins/alloc/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/uio.h>
#include <unistd.h>

struct pool_settings mo_pool_settings = {
    .purge_delay = POOL_PURGE_DELAY * UINT64_C(1000000),
    .huge_cache = (uint64_t)POOL_HUGE_CACHE << 20,
};

/* ------------------------------------------------------------------- messages */

static void say(const char *const *parts, size_t count) {
    struct iovec pieces[8];
    for (size_t i = 0; i < count; i++)
        pieces[i] = (struct iovec){(void *)(uintptr_t)parts[i], strlen(parts[i])};
    ssize_t written = writev(STDERR_FILENO, pieces, (int)count);
    (void)written; /* there is nothing to do about it */
}
#define SAY(...)                                                                                   \
    say((const char *const[]){"memopt: pool: ", __VA_ARGS__, "\n"},                                \
        sizeof((const char *const[]){"", __VA_ARGS__, ""}) / sizeof(const char *))

void mo_pool_die(const char *function, const void *p, const char *problem) {
    static const char digits[] = "0123456789abcdef";
    char hex[2 * sizeof p + 1];
    char *at = hex + sizeof hex - 1;
    *at = '\0';
    uintptr_t left = (uintptr_t)p;
    do
        *--at = digits[left & 15];
    while ((left >>= 4) != 0);
    SAY(function, "(0x", at, "): ", problem);
    abort();
}

/* ------------------------------------------------------------------- settings */

static const struct unit {
    uint32_t type;
    const char *name;
    uint64_t factor;
} units[] = {
    {MEMOPT_BOOL, "yes", 1},
    {MEMOPT_BOOL, "true", 1},
    {MEMOPT_BOOL, "on", 1},
    {MEMOPT_BOOL, "no", 0},
    {MEMOPT_BOOL, "false", 0},
    {MEMOPT_BOOL, "off", 0},
    {MEMOPT_SIZE, "", 1},
    {MEMOPT_SIZE, "B", 1},
    {MEMOPT_SIZE, "KiB", UINT64_C(1) << 10},
    {MEMOPT_SIZE, "MiB", UINT64_C(1) << 20},
    {MEMOPT_SIZE, "GiB", UINT64_C(1) << 30},
    {MEMOPT_SIZE, "TiB", UINT64_C(1) << 40},
    {MEMOPT_DURATION, "ns", 1},
    {MEMOPT_DURATION, "us", 1000},
    {MEMOPT_DURATION, "ms", 1000000},
    {MEMOPT_DURATION, "s", UINT64_C(1000000000)},
    {MEMOPT_DURATION, "m", UINT64_C(60000000000)},
    {MEMOPT_DURATION, "min", UINT64_C(60000000000)},
    {MEMOPT_DURATION, "h", UINT64_C(3600000000000)},
};

/* A whole number and its unit; or a word, which stands for a number. */
static bool read_value(uint32_t type, const char *text, size_t length, uint64_t *ret_value) {
    const char *end = text + length;
    bool is_word = length == 0 || text[0] < '0' || text[0] > '9';
    uint64_t value = is_word;
    for (; text < end && *text >= '0' && *text <= '9'; text++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
            return false;
    length = (size_t)(end - text);
    if (length == 0 && !is_word && (type == MEMOPT_BOOL ? value <= 1 : value == 0)) {
        *ret_value = value; /* 0 needs no unit */
        return true;
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (units[i].type == type && (type == MEMOPT_BOOL) == is_word &&
            strlen(units[i].name) == length && memcmp(units[i].name, text, length) == 0)
            return !__builtin_mul_overflow(value, units[i].factor, ret_value);
    return false;
}

static bool is_within(const struct memopt_option *option, uint64_t value) {
    uint64_t least, most;
    return option->type == MEMOPT_BOOL ||
           (read_value(option->type, option->min, strlen(option->min), &least) &&
            read_value(option->type, option->max, strlen(option->max), &most) && value >= least &&
            value <= most);
}

/* KEY=VALUE; false: it isn't valid. */
static bool read_setting(const char *text, size_t length) {
    for (const struct memopt_option *option = pool_options; option->key != NULL; option++) {
        size_t key = strlen(option->key);
        uint64_t value;
        if (length <= key || memcmp(text, option->key, key) != 0 || text[key] != '=')
            continue;
        if (!read_value(option->type, text + key + 1, length - key - 1, &value) ||
            !is_within(option, value))
            return false;
        char *field = (char *)&mo_pool_settings + option->offset;
        if (option->type == MEMOPT_BOOL)
            *(int *)(void *)field = (int)value;
        else
            *(uint64_t *)(void *)field = value;
        return true;
    }
    return false;
}

static void read_settings(const char *list) {
    while (*list != '\0') {
        size_t length = 0; /* not strcspn(): a sanitizer that isn't ready may stand before it */
        while (list[length] != '\0' && list[length] != ',')
            length++;
        char bad[64] = "";
        if (length > 0 && !read_setting(list, length)) {
            memcpy(bad, list, length < sizeof bad ? length : sizeof bad - 1);
            SAY(POOL_VARIABLE ": '", bad, "' is not a valid setting and is ignored");
        }
        list += length + (list[length] == ',');
    }
}

/* ---------------------------------------------------------------------- start */

static int fork_code;

static __attribute__((constructor)) void start(int argc, char **argv, char **envp) {
    static const char name[] = POOL_VARIABLE "=";
    (void)argc, (void)argv;
    if (getauxval(AT_PAGESZ) != POOL_SYSTEM_PAGE) {
        SAY("this system's pages don't have 4096 bytes; use another allocator");
        abort();
    }
    fork_code = mo_pool_fork_handlers();
    for (; *envp != NULL && !getauxval(AT_SECURE); envp++)
        if (strncmp(*envp, name, sizeof name - 1) == 0)
            read_settings(*envp + sizeof name - 1);
    if (mo_pool_settings.check_free)
        mo_pool_check_all(); /* the dynamic loader has had blocks already */
}

static int library_start(void) {
    return fork_code != 0 ? -fork_code : mo_pool_thread_key();
}

/* ------------------------------------------------------------- for the plugin */

extern const struct pool_library memopt_pool_library;
MEMOPT_EXPORT const struct pool_library memopt_pool_library = {
    .version = PACKAGE_VERSION,
    .settings = &mo_pool_settings,
    .malloc =
        {
            .size = sizeof(struct memopt_malloc),
            .malloc = mo_pool_malloc,
            .calloc = mo_pool_calloc,
            .realloc = mo_pool_realloc,
            .free = mo_pool_free,
            .aligned_alloc = mo_pool_aligned_alloc,
            .usable_size = mo_pool_usable_size,
            .sized_below = POOL_DIRECT_MAX,
        },
    .default_heap = &mo_pool_default,
    .start = library_start,
    .heap_create = mo_pool_heap_create,
    .heap_destroy = mo_pool_heap_destroy,
    .heap_malloc = mo_pool_heap_malloc,
    .heap_calloc = mo_pool_heap_calloc,
    .heap_realloc = mo_pool_heap_realloc,
    .heap_aligned_alloc = mo_pool_heap_aligned_alloc,
    .heap_free = mo_pool_heap_free,
    .heap_usable_size = mo_pool_heap_usable_size,
    .heap_figures = mo_pool_heap_figures,
    .quick_figures = mo_pool_quick_figures,
    .heap_purge = mo_pool_heap_purge,
};
