/*
 * pages.h - copy-on-write by pages: views of a memory file (used by cow.c; what is
 * promised is in memopt/cow.h).
 */
#ifndef MO_OBJECT_PAGES_H
#define MO_OBJECT_PAGES_H

#include <memopt/heap.h>

#include <stdint.h>

struct mo_pages;

/* A view of zero bytes. What it takes is counted in `heap`. */
int mo_pages_create(struct memopt_heap *heap, size_t size, struct mo_pages **ret_pages,
                    struct memopt_error *error);
int mo_pages_clone(struct mo_pages *pages, struct mo_pages **ret_clone, struct memopt_error *error);
void *mo_pages_address(const struct mo_pages *pages);
/* The range, which is not empty and within the view, may be written afterwards. */
int mo_pages_write(struct mo_pages *pages, size_t offset, size_t length,
                   struct memopt_error *error);
void mo_pages_destroy(struct mo_pages *pages);
void mo_pages_count(const struct mo_pages *pages, uint64_t *ret_views, uint64_t *ret_private,
                    uint64_t *ret_all);

#endif
