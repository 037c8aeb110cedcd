/* fuzz_ledger.c - the reader on records of any content, and the counts in them. The input is
 * eight bytes of file size, the header, and bytes that fill the rest again and again: a ledger
 * is mostly zeros, and large. All that the reader says is there is read, so that a sanitizer
 * sees it. */
#include "core/account/read.h"
#include "core/model/report.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SIZE_MAXIMUM = 256 * 1024,
    /* of an area, so that no time goes into zeros; the bound on what is read has a test */
    BACKED_MAXIMUM = 64 * 1024,
};

static volatile unsigned sum;

static void read_bytes(const void *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        sum += ((const unsigned char *)bytes)[i];
}

static void read_section(const struct mo_ledger_copy *ledger, const char *name) {
    struct mo_ledger_section section;
    size_t count;
    if (mo_ledger_section_of(ledger, name, &section) < 0)
        abort();
    for (size_t t = 0; t <= section.public.thread_count; t++) {
        int64_t tid;
        const void *thread = section.public.thread(&section.public, t, &tid);
        if (thread != NULL)
            read_bytes(thread, section.public.thread_size);
    }
    const void *own = section.public.area(&section.public, "state", 1, 8, &count);
    if (own != NULL)
        read_bytes(own, count * 8);
}

static void read_counts(const struct mo_ledger_copy *ledger) {
    struct memopt_report *report;
    struct memopt_process process;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (mo_report_new(&report, NULL) < 0)
        abort();
    mo_process_init(&process);
    int r = mo_counts_read(ledger, report, &process, &error);
    if (r < 0 && error.message[0] == '\0')
        abort();
    if (r == 0 && process.has_counts) {
        read_bytes(process.threads, process.thread_count * process.thread_size);
        read_bytes(process.histogram, process.histogram_count * process.histogram_size);
    }
    mo_report_free(report);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t wanted;
    if (size < sizeof(wanted))
        return 0;
    memcpy(&wanted, data, sizeof(wanted));
    data += sizeof(wanted);
    size -= sizeof(wanted);
    size_t length = (size_t)(wanted % SIZE_MAXIMUM);
    unsigned char *bytes = aligned_alloc(64, length / 64 * 64 + 64);
    if (bytes == NULL)
        return 0;
    memset(bytes, 0, length);
    size_t head = size < sizeof(struct mo_ledger_header) ? size : sizeof(struct mo_ledger_header);
    memcpy(bytes, data, head < length ? head : length);
    size_t rest = size - head;
    for (size_t at = sizeof(struct mo_ledger_header); rest > 0 && at < length; at += rest)
        memcpy(bytes + at, data + head, rest < length - at ? rest : length - at);

    if (length >= sizeof(struct mo_ledger_header))
        for (size_t i = 0; i < MO_AREAS; i++) {
            struct mo_area *area = &((struct mo_ledger_header *)(void *)bytes)->areas[i];
            if (area->backed > BACKED_MAXIMUM)
                area->backed = BACKED_MAXIMUM;
        }

    struct mo_ledger_copy ledger;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (mo_ledger_parse(bytes, length, &ledger, &error) < 0) {
        if (error.message[0] == '\0')
            abort();
        free(bytes);
        return 0;
    }
    free(bytes);
    struct mo_ledger_heap heap;
    for (size_t i = 0; i < ledger.heap_count; i++)
        if (mo_ledger_heap_at(&ledger, i, &heap) == 0)
            read_bytes(heap.name, strlen(heap.name) + strlen(heap.allocator));
    size_t cursor = 0;
    int level;
    char kind[MO_LEDGER_KIND];
    uint64_t time;
    for (const char *note;
         (note = mo_ledger_note_next(&ledger, &cursor, &level, kind, &time)) != NULL;)
        read_bytes(note, strlen(note) + strlen(kind));
    read_bytes(ledger.header.exe, strlen(ledger.header.exe) + strlen(ledger.header.command) +
                                      strlen(ledger.header.allocator_version));
    for (size_t i = MO_CORE_AREAS; i < MO_AREAS; i++) {
        read_bytes(ledger.areas[i].bytes, ledger.areas[i].size);
        if (ledger.header.areas[i].flags & MO_AREA_IN_SLOT)
            read_section(&ledger, ledger.header.areas[i].name);
    }
    read_counts(&ledger);
    mo_ledger_release(&ledger);
    return 0;
}
