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

enum {
    STATE = 128,
    STRIDE = 256,
    SLOTS = 4,
    NOTES_AT = 4096,
    NOTES_ROOM = 32 << 10,
    HEAPS_AT = NOTES_AT + NOTES_ROOM,
    HEAPS = 20,
    THREADS_AT = HEAPS_AT + 4096,
    STATE_AT = THREADS_AT + 4096,
    IMAGE_SIZE = STATE_AT + 4096,
    /* in the directory */
    IN_SLOT = MO_CORE_AREAS,
    OWN_AREA,
};

struct image {
    unsigned char *bytes;
    size_t size;
    struct mo_ledger_header *header;
};

static inline void put_area(struct mo_ledger_header *h, size_t i, const char *name, uint32_t unit,
                            uint64_t offset, uint64_t end, uint64_t used) {
    strcpy(h->areas[i].name, name);
    h->areas[i].version = 1;
    h->areas[i].unit = unit;
    h->areas[i].offset = offset;
    h->areas[i].limit = end - offset;
    h->areas[i].backed = end - offset;
    h->areas[i].used = used;
}

/* One tracker, "count", with 64 bytes a thread and an area "state" of STATE bytes. */
static inline struct image make_image(void) {
    struct image image = {.size = IMAGE_SIZE};
    image.bytes = aligned_alloc(64, image.size);
    assert_non_null(image.bytes);
    memset(image.bytes, 0, image.size);
    struct mo_ledger_header *h = image.header = (void *)image.bytes;
    memcpy(h->magic, MO_LEDGER_MAGIC, 8);
    h->version = MO_LEDGER_VERSION;
    h->header_size = sizeof(*h);
    h->state = MO_LEDGER_RUNNING;
    h->pid = 42;
    strcpy(h->exe, "/usr/bin/true");
    put_area(h, MO_NOTES, MO_AREA_NOTES, 1, NOTES_AT, HEAPS_AT, 0);
    put_area(h, MO_HEAPS, MO_AREA_HEAPS, sizeof(struct mo_ledger_heap), HEAPS_AT, THREADS_AT,
             HEAPS * sizeof(struct mo_ledger_heap));
    put_area(h, MO_THREADS, MO_AREA_THREADS, STRIDE, THREADS_AT, STATE_AT, SLOTS * STRIDE);
    put_area(h, IN_SLOT, "count", 64, 64, 64, 0);
    h->areas[IN_SLOT].flags = MO_AREA_IN_SLOT;
    put_area(h, OWN_AREA, "count.state", 8, STATE_AT, IMAGE_SIZE, STATE);
    return image;
}

/* A process that nobody tracks. */
static inline void without_tracker(struct mo_ledger_header *h) {
    memset(&h->areas[IN_SLOT], 0, (MO_AREAS - IN_SLOT) * sizeof(h->areas[0]));
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
