/*
 * build.h - the code of a report and its samples: modules, functions, locations, stacks.
 *
 * Importers hand over what they have read; what is there already is found by a hash and not
 * added again, so that equal stacks have equal indices. Texts are copied, once each.
 *
 * All return 0 and the index; -ENOMEM; or -ENOSPC: the table has as many elements as a
 * report may have, mo_build_maximum. On a failure the report is as it was before, but for
 * memory that goes with it. Pointers into the report's tables are then, and after each
 * success, those of an outdated copy. Threads: one at a time.
 */
#ifndef MO_MODEL_BUILD_H
#define MO_MODEL_BUILD_H

#include <memopt/report.h>

enum {
    MO_STACK_FRAMES = 1024, /* of a stack: those further from the leaf are left out */
    MO_LINES = 64,          /* of a location, likewise */
};
extern size_t mo_build_maximum; /* 1 << 20; tests make it small */

/* The report's own copy of `text`: the same pointer for the same bytes. NULL: out of memory,
 * or `text` is NULL. */
const char *mo_build_text(struct memopt_report *report, const char *text);

/* `build_id` may be NULL: one of the same path whose build id is known is another module. */
int mo_build_module(struct memopt_report *report, const char *path, const char *build_id,
                    uint32_t *ret_module);
/* `system_name` and `file` may be NULL. */
int mo_build_function(struct memopt_report *report, const char *name, const char *system_name,
                      const char *file, uint32_t *ret_function);
/* `like` has the module, the address and the lines. Where module and address are known they
 * are what tells locations apart: one that was there without lines takes them. */
int mo_build_location(struct memopt_report *report, const struct memopt_location *like,
                      uint32_t *ret_location);
/* At least one location, the leaf first. */
int mo_build_stack(struct memopt_report *report, const uint32_t *locations, size_t count,
                   uint32_t *ret_stack);

/* `count` value types in a row, as samples have them; there once for all who want them. */
int mo_build_value_types(struct memopt_report *report, const struct memopt_value_type *types,
                         size_t count, uint32_t *ret_first);
/* Not looked for: each is added. Values and labels are copied. */
int mo_build_sample(struct memopt_report *report, const struct memopt_sample *sample);

#endif
