/* section.c - see section.h. */
#include "core/heap/section.h"

#include "core/base/error.h"

#include <memopt/heap.h>

#include <errno.h>
#include <string.h>

const char *const mo_limit_steps[] = {"purge", "shrink", "spill", "fail", NULL};
static const struct memopt_option options[] = {
    MO_OPT_STRING(struct mo_settings_heap, allocator, "allocator", NULL, MEMOPT_ALLOCATOR,
                  "the heap's backend; unset: that of [memopt]"),
    MEMOPT_OPT_SIZE(struct mo_settings_heap, limit, "limit", NULL, "1", NULL,
                    "most bytes that may be live at once; unset: no limit"),
    MEMOPT_OPT_LIST(struct mo_settings_heap, on_limit, "on_limit", "purge", mo_limit_steps,
                    "what is tried, in order, before an allocation over the limit fails"),
    MEMOPT_OPT_SIZE(struct mo_settings_heap, region, "region", NULL, "4KiB", NULL,
                    "bytes of a fixed region that the heap allocates from"),
    MEMOPT_OPT_SIZE(struct mo_settings_heap, spill_limit, "spill_limit", NULL, "4KiB", NULL,
                    "most bytes that may be spilled at once; unset: what the disk has"),
    MEMOPT_OPT_END,
};

int mo_heap_check_name(const char *name, struct memopt_error *error) {
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789_-.");
    char quoted[MO_QUOTED_MAX];
    if (name[length] != '\0' || length == 0 || length >= MEMOPT_HEAP_NAME_MAX)
        return mo_fail(error, -EINVAL,
                       "[heap.%s]: a heap's name is 1 to %d letters, digits, '_', '-' and '.'",
                       mo_quoted(name, quoted), MEMOPT_HEAP_NAME_MAX - 1);
    return 0;
}

/* [heap.default] is the program's own malloc: that has the allocator of [memopt], and its
 * blocks go to free(). */
static void check(const struct mo_judged *judged) {
    static const char *const why = "can't be set for the default heap, which is the program's "
                                   "own malloc";
    const struct mo_settings_heap *settings = judged->settings;
    if (strcmp(judged->name, "default") != 0)
        return;
    if (settings->allocator != NULL)
        judged->wrong(judged, "allocator", "'allocator' %s: its allocator is that of [memopt]",
                      why);
    if (settings->region != UINT64_MAX)
        judged->wrong(judged, "region", "'region' %s: it can't have a region", why);
    for (size_t i = 0; i < settings->on_limit.count; i++)
        if (strcmp(settings->on_limit.items[i], "spill") == 0)
            judged->wrong(judged, "on_limit",
                          "'on_limit' %s: it can't spill: use purge, shrink, fail", why);
}

const struct mo_section_def mo_section_heap = {
    .name = "heap",
    .help = "a named heap of a program that uses libmemopt, one section each: [heap.NAME]",
    .table = MO_SECTION_TABLE(options),
    .settings_size = sizeof(struct mo_settings_heap),
    .flags = MO_SECTION_NAMED,
    .check_name = mo_heap_check_name,
    .check = check,
};
