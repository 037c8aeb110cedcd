/* section.h - [store]: see core/option/section.h. */
#ifndef MO_STORE_SECTION_H
#define MO_STORE_SECTION_H

#include "core/option/section.h"

enum mo_store_kind { MO_STORE_RAM, MO_STORE_MMAP, MO_STORE_STREAM };
/* [store] */
struct mo_settings_store {
    int kind;        /* enum mo_store_kind */
    uint64_t budget; /* bytes */
};

extern const struct mo_section_def mo_section_store;

#endif
