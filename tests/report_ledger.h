/*
 * report_ledger.h - a ledger made by hand, for tests to read and to damage.
 */
#ifndef TESTS_REPORT_LEDGER_H
#define TESTS_REPORT_LEDGER_H

#include "core/ledger/ledger.h"

#include <stdlib.h>
#include <string.h>

enum { STATE = 128, STRIDE = 256, SLOTS = 4, HEAPS_AT = 4096 + MO_LEDGER_NOTES };

static const size_t process_at =
    (HEAPS_AT + MO_LEDGER_HEAPS * sizeof(struct mo_ledger_heap) + 63) / 64 * 64;

struct image {
    unsigned char *bytes;
    size_t size;
    struct mo_ledger_header *header;
};

/* One tracker, "count", with STATE bytes a process and 64 a thread. */
static struct image make_image(void) {
    struct image image = {.size = process_at + STATE + SLOTS * STRIDE};
    image.bytes = aligned_alloc(64, (image.size + 63) / 64 * 64);
    assert_non_null(image.bytes);
    memset(image.bytes, 0, image.size);
    struct mo_ledger_header *h = image.header = (void *)image.bytes;
    memcpy(h->magic, MO_LEDGER_MAGIC, 8);
    h->version = MO_LEDGER_VERSION;
    h->header_size = sizeof(*h);
    h->file_size = image.size;
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

#endif
