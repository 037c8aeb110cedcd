/*
 * report_ledger.h - a ledger made by hand, for tests to read and to damage.
 */
#ifndef TESTS_REPORT_LEDGER_H
#define TESTS_REPORT_LEDGER_H

#include "core/ledger/reader.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATE = 128, STRIDE = 256, SLOTS = 4, HEAPS_AT = 4096 + MO_LEDGER_NOTES };

static const size_t process_at =
    (HEAPS_AT + MO_LEDGER_HEAPS * sizeof(struct mo_ledger_heap) + 63) / 64 * 64;

struct image {
    unsigned char *bytes;
    size_t size;
    struct mo_ledger_header *header;
};

/* One tracker, "count", with STATE bytes a process and 64 a thread. */
static inline struct image make_image(void) {
    struct image image = {.size = process_at + STATE + SLOTS * STRIDE};
    image.bytes = aligned_alloc(64, (image.size + 63) / 64 * 64);
    assert_non_null(image.bytes);
    memset(image.bytes, 0, image.size);
    struct mo_ledger_header *h = image.header = (void *)image.bytes;
    memcpy(h->magic, MO_LEDGER_MAGIC, 8);
    h->version = MO_LEDGER_VERSION;
    h->header_size = sizeof(*h);
    h->size = image.size;
    h->state = MO_LEDGER_RUNNING;
    h->pid = 42;
    strcpy(h->exe, "/usr/bin/true");
    h->tracker_count = 1;
    strcpy(h->trackers[0].name, "count");
    h->trackers[0].process_size = STATE;
    h->trackers[0].process_offset = process_at;
    h->trackers[0].thread_size = 64;
    h->trackers[0].thread_offset = 64;
    h->notes_offset = 4096;
    h->heaps_offset = HEAPS_AT;
    h->process_offset = process_at;
    h->threads_offset = process_at + STATE;
    h->thread_stride = STRIDE;
    h->threads_grown = SLOTS;
    return image;
}

/* The run's file in a directory, made if it isn't there. Returns its descriptor. */
static inline int open_records(const char *directory, struct mo_ledgers *ret_head) {
    int at = open(directory, O_RDONLY | O_DIRECTORY);
    assert_true(at >= 0);
    int fd = openat(at, MO_LEDGERS_NAME, O_RDWR);
    if (fd < 0) {
        assert_int_equal(mo_ledgers_make(at, NULL), 0);
        fd = openat(at, MO_LEDGERS_NAME, O_RDWR);
    }
    assert_true(fd >= 0);
    close(at);
    assert_int_equal(pread(fd, ret_head, sizeof(*ret_head), 0), sizeof(*ret_head));
    return fd;
}

/* Puts bytes where the file's nth record is, from 1 on. */
static inline void put_record(const char *directory, uint64_t n, const void *bytes, size_t size) {
    struct mo_ledgers head;
    int fd = open_records(directory, &head);
    assert_int_equal(pwrite(fd, bytes, size, (off_t)(n * head.stride)), size);
    if (head.count < n)
        head.count = n;
    assert_int_equal(pwrite(fd, &head, sizeof(head), 0), sizeof(head));
    close(fd);
}

/* The place of the nth record of a process, from 0 on, in the order in which they were begun;
 * 0: there is none. */
static inline uint64_t find_record(const struct mo_ledgers_file *file, int64_t pid, unsigned n) {
    for (uint64_t place = mo_ledgers_next(file, 0); place != UINT64_MAX;
         place = mo_ledgers_next(file, place + 1)) {
        struct mo_ledger_header header;
        if (pread(file->fd, &header, sizeof(header), (off_t)place) == sizeof(header) &&
            header.pid == pid && n-- == 0)
            return place;
    }
    return 0;
}

#endif
