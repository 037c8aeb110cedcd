/* shim.h - what the shim's parts share: shim.c. */
#ifndef MO_PRELOAD_SHIM_H
#define MO_PRELOAD_SHIM_H

#include "core/plugin/registry.h"

struct mo_shim {
    struct mo_plugin *allocator; /* NULL: plain libc */
};
extern struct mo_shim mo_shim;

#endif
