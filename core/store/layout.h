/*
 * layout.h - inside core/store: what a writer has declared, and the header that
 * it makes. See header.h for how the files of this folder fit together.
 */
#ifndef MO_STORE_LAYOUT_H
#define MO_STORE_LAYOUT_H

#include "core/store/header.h"

struct mo_layout_tensor {
    uint64_t begin, bytes; /* of its data; begin, from the first of all, once laid out */
    int dtype;
    unsigned rank;
    uint64_t *shape; /* after the name, in the same block */
    char name[];
};
struct mo_layout_pair {
    char *value; /* after the key */
    char key[];
};

struct mo_layout {
    struct mo_layout_tensor **tensors; /* as they were added */
    size_t count, room;
    struct mo_layout_pair **pairs;
    size_t pair_count, pair_room;
    void *names, *keys; /* trees of the above by name, tsearch(3) */
    uint64_t data_size;
};

/* The public contracts of memopt_tensors_writer_add() and _metadata(), but for
 * -EBUSY. */
ssize_t mo_layout_add(struct mo_layout *layout, const char *name, int dtype, unsigned rank,
                      const uint64_t *shape, struct memopt_error *error);
int mo_layout_metadata(struct mo_layout *layout, const char *key, const char *value,
                       struct memopt_error *error);
/* Places the data and makes what comes before it in the file: the length and the
 * padded header. The caller frees it. -EFBIG, -ENOMEM. */
int mo_layout_header(struct mo_layout *layout, char **ret_bytes, size_t *ret_length,
                     struct memopt_error *error);
void mo_layout_free(struct mo_layout *layout);

#endif
