/* section.h - [heap.NAME]. Also inside the watched program, for [heap.default]: see
 * core/option/section.h. */
#ifndef MO_HEAP_SECTION_H
#define MO_HEAP_SECTION_H

#include "core/option/section.h"

/* [heap.NAME] */
struct mo_settings_heap {
    const char *allocator;       /* NULL: that of [memopt] */
    uint64_t limit;              /* UINT64_MAX: none */
    struct memopt_list on_limit; /* purge, shrink, spill, fail in order */
    uint64_t region;      /* size of a fixed region for the arena allocator; UINT64_MAX: none */
    uint64_t spill_limit; /* UINT64_MAX: none */
};

/* What may be tried at a limit; ends with NULL. */
extern const char *const mo_limit_steps[];

/* Whether a heap may have this name; the message names the section. */
int mo_heap_check_name(const char *name, struct memopt_error *error);

extern const struct mo_section_def mo_section_heap;

#endif
