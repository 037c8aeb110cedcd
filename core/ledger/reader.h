/*
 * reader.h - reads a ledger file, trusting nothing in it.
 *
 * The program that wrote it may be running still, have been killed at any
 * instruction, or have scribbled over its own memory. What is read is a private
 * copy, so nothing changes under the reader: the header, whose directory is checked, and of
 * each area what is used. Every string is ended.
 * Numbers are handed on as they are: they may be nonsense, not dangerous.
 *
 * Used by core/import, core/model and core/render; never by the shim or the agent.
 */
#ifndef MO_LEDGER_READER_H
#define MO_LEDGER_READER_H

#include "core/ledger/ledger.h"

#include <memopt/plugin.h>

struct mo_ledger_copy {
    struct mo_ledger_header header; /* strings ended, the directory within bounds */
    /* What is used of each area, 64-byte aligned; NULL where that is nothing. */
    struct {
        unsigned char *bytes;
        size_t size;
        int mapped; /* bytes are, and not malloc's */
    } areas[MO_AREAS];
    size_t heap_count;
    size_t thread_count, slot_size; /* slots that were ever used, free ones among them */
};

/* A run's file, opened; see ledger.h. */
struct mo_ledgers_file {
    int fd; /* -1: not open */
    uint64_t size, stride;
    uint64_t taken; /* places, at the last mo_ledgers_counts() */
    int gives_back; /* blocks can be given back; else records are read at the end only */
};
#define MO_LEDGERS_FILE_NONE                                                                       \
    { .fd = -1 }

/* Makes directory/MO_LEDGERS_NAME, as large as the file system and the limit of file sizes
 * allow. memopt does it, before the program starts. */
int mo_ledgers_make(int directory, struct memopt_error *error);

/* Opens it without following links. It must be a regular file of ours (or root's reader). */
int mo_ledgers_open(int directory, struct mo_ledgers_file *ret_file, struct memopt_error *error);
void mo_ledgers_close(struct mo_ledgers_file *file);

/* How many places have been taken by now, and how many of them by processes that could not
 * have a record. Only what the programs say. */
void mo_ledgers_counts(struct mo_ledgers_file *file, uint64_t *ret_failed);
/* The place of the first record at or after `place`, of those that were taken at the last
 * count, or UINT64_MAX: there is none. Begin with 0; then with *the last one* + 1. Places that hold nothing are not visited. */
uint64_t mo_ledgers_next(const struct mo_ledgers_file *file, uint64_t place);
/* A copy of the record. -EBADMSG, -EPROTONOSUPPORT: it is none that can be read; the
 * message says where. */
int mo_ledgers_read(const struct mo_ledgers_file *file, uint64_t place,
                    struct mo_ledger_copy *ret_ledger, struct memopt_error *error);
/* Whether nothing more will be written into it: nobody has it mapped. */
int mo_ledgers_is_over(const struct mo_ledgers_file *file, uint64_t place);
/* Gives its blocks back. */
void mo_ledgers_drop(const struct mo_ledgers_file *file, uint64_t place);

/* The same of an image in memory. */
int mo_ledger_parse(const unsigned char *bytes, size_t size, struct mo_ledger_copy *ret_ledger,
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
/* The i-th slot, slot_size bytes, or NULL: it is free. *ret_tid is 0 for that of all threads that
 * have ended. */
const unsigned char *mo_ledger_slot_at(const struct mo_ledger_copy *ledger, size_t i,
                                       int64_t *ret_tid);
/* The directory's entry of what each slot holds for `name`, or NULL. */
const struct mo_area *mo_ledger_state(const struct mo_ledger_copy *ledger, const char *name);

/* What a tracker left, as its report() takes it; points into the ledger and into itself, so it
 * must stay where it is. -ENOENT: none of that name was there. */
struct mo_ledger_section {
    struct memopt_ledger_section public;
    const struct mo_ledger_copy *ledger;
    const struct mo_area *state;
};
int mo_ledger_section_of(const struct mo_ledger_copy *ledger, const char *tracker,
                         struct mo_ledger_section *ret_section);

#endif
