/*
 * reader.h - reads a ledger file, trusting nothing in it.
 *
 * The program that wrote it may be running still, have been killed at any
 * instruction, or have scribbled over its own memory. What is read is a private
 * copy, so nothing changes under the reader; every offset, count and stride is
 * checked against it once, in mo_ledger_parse(), and every string is ended.
 * Numbers are handed on as they are: they may be nonsense, not dangerous.
 *
 * Used by core/model in the memopt command; never in the watched program.
 */
#ifndef MO_LEDGER_READER_H
#define MO_LEDGER_READER_H

#include "core/ledger/ledger.h"

#include <memopt/plugin.h>

struct mo_ledger_copy {
    struct mo_ledger_header header; /* strings ended, counts within bounds */
    unsigned char *bytes;           /* the whole file as far as it is used */
    size_t size;
    size_t heap_count;
    size_t thread_count; /* slots that are there, in use or not */
};

/* Opens directory/name without following links. The file must be a regular one
 * of ours (or root's reader), and of a size a ledger can have. */
int mo_ledger_open(int directory, const char *name, struct mo_ledger_copy *ret_ledger,
                   struct memopt_error *error);
/* Only the header, its strings ended; nothing in it but its kind is checked. */
int mo_ledger_peek(int directory, const char *name, struct mo_ledger_header *ret_header,
                   struct memopt_error *error);
/* A whole ledger from bytes, which must be 64-byte aligned memory of aligned_alloc()
 * and become the ledger's on success. */
int mo_ledger_parse(unsigned char *bytes, size_t size, struct mo_ledger_copy *ret_ledger,
                    struct memopt_error *error);
void mo_ledger_release(struct mo_ledger_copy *ledger);

/* A copy of the i-th heap slot, strings ended. 0, or -ENOENT if it is free. */
int mo_ledger_heap_at(const struct mo_ledger_copy *ledger, size_t i,
                      struct mo_ledger_heap *ret_heap);
/* The note or event at *cursor (begin with 0), or NULL: no more. It points into
 * the ledger. An event has a kind, level MEMOPT_NOTE_ERROR, and the time since the
 * process began, or UINT64_MAX: not known; else `ret_kind` is "". */
const char *mo_ledger_note_next(const struct mo_ledger_copy *ledger, size_t *cursor, int *ret_level,
                                char ret_kind[MO_LEDGER_KIND], uint64_t *ret_time);
/* What the i-th tracker left, as its report() takes it; points into the ledger
 * and into itself, so it must stay where it is. */
struct mo_ledger_section {
    struct memopt_ledger_section public;
    const struct mo_ledger_copy *ledger;
    size_t thread_offset;
};
void mo_ledger_section_at(const struct mo_ledger_copy *ledger, size_t i,
                          struct mo_ledger_section *ret_section);

#endif
