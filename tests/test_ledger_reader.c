/* test_ledger_reader.c - what the reader makes of good ledgers, of those that a
 * killed or running program left, and of every kind of damage. */
#include "core/ledger/reader.h"
#include "core/ledger/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/report_ledger.h"

static char directory[64];
static int directory_fd = -1;

static int set_up(void **state) {
    (void)state;
    strcpy(directory, "/tmp/memopt-reader-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    directory_fd = open(directory, O_RDONLY | O_DIRECTORY);
    return directory_fd < 0 ? -1 : 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    close(directory_fd);
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

static struct mo_ledger_copy parse_good(struct image *image) {
    struct mo_ledger_copy ledger;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    int r = mo_ledger_parse(image->bytes, image->size, &ledger, &error);
    assert_string_equal(error.message, "");
    assert_int_equal(r, 0);
    free(image->bytes);
    return ledger;
}

static void test_reads_what_is_there(void **state) {
    (void)state;
    struct image image = make_image();
    int64_t tids[SLOTS] = {0, 100, 0, 102};
    for (size_t i = 0; i < SLOTS; i++) {
        unsigned char *slot = image.bytes + THREADS_AT + i * STRIDE;
        memcpy(slot, &tids[i], sizeof(tids[i]));
        memset(slot + 64, (int)(i + 1), 64);
    }
    memset(image.bytes + STATE_AT, 'p', STATE);
    struct mo_ledger_heap *heaps = (void *)(image.bytes + HEAPS_AT);
    heaps[2].used = 2;
    memset(heaps[2].name, 'n', sizeof(heaps[2].name)); /* not ended */
    heaps[2].peak_bytes = 77;
    heaps[3].used = 9; /* nonsense: free */

    struct mo_ledger_copy ledger = parse_good(&image);
    assert_string_equal(ledger.header.exe, "/usr/bin/true");
    assert_int_equal(ledger.thread_count, SLOTS);

    struct mo_ledger_heap heap;
    for (size_t i = 0; i < ledger.heap_count; i++)
        assert_int_equal(mo_ledger_heap_at(&ledger, i, &heap), i == 2 ? 0 : -ENOENT);
    mo_ledger_heap_at(&ledger, 2, &heap);
    assert_int_equal(strlen(heap.name), sizeof(heap.name) - 1);
    assert_int_equal(heap.peak_bytes, 77);

    struct mo_ledger_section section;
    assert_int_equal(mo_ledger_section_of(&ledger, "nobody", &section), -ENOENT);
    assert_int_equal(mo_ledger_section_of(&ledger, "count", &section), 0);
    static const struct {
        const char *name;
        uint32_t version, unit;
    } others[] = {{"stat", 1, 8}, {"state", 2, 8}, {"state", 1, 4}, {"", 1, 8}, {"count.state", 1, 8}};
    size_t count;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_null(section.public.area(&section.public, others[i].name, others[i].version,
                                        others[i].unit, &count));
    const char *state_of = section.public.area(&section.public, "state", 1, 8, &count);
    assert_int_equal(count, STATE / 8);
    assert_int_equal(state_of[STATE - 1], 'p');
    assert_int_equal(section.public.thread_size, 64);
    for (size_t i = 0; i < SLOTS + 2; i++) {
        int64_t tid = -1;
        const unsigned char *thread = section.public.thread(&section.public, i, &tid);
        if (i == 2 || i >= SLOTS) { /* free, or past the end */
            assert_null(thread);
        } else {
            assert_int_equal(tid, tids[i]);
            assert_int_equal(thread[0], i + 1);
            assert_int_equal(thread[63], i + 1);
        }
    }
    mo_ledger_release(&ledger);
}

static void test_notes(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size, used;
        const char *texts[4];
        int levels[4];
        const char *kinds[4]; /* NULL: none */
        uint64_t time;        /* of the first, if it is an event; 0: not known */
    } rows[] = {
        {"", 0, 0, {NULL}, {0}, {NULL}, 0},
        {"\2first\0\3second", 14, 15, {"first", "second"}, {2, 3}, {NULL}, 0},
        /* taken, not yet written */
        {"\2first\0\0\0\0\0\1last", 16, 17, {"first", "last"}, {2, 1}, {NULL}, 0},
        /* cut by a kill: the end of what is used ends it */
        {"\2firstXXXX", 10, 6, {"firs"}, {2}, {NULL}, 0},
        {"\2", 1, 1, {NULL}, {0}, {NULL}, 0},
        {"\0\0\0\0", 4, 4, {NULL}, {0}, {NULL}, 0},
        {"\2\0\3x", 4, 5, {"", "x"}, {2, 3}, {NULL}, 0},
        /* a level that there isn't */
        {"\177odd", 4, 5, {"odd"}, {1}, {NULL}, 0},
        /* events, and what claims to be one */
        {"\4double-free\nat 1\n2\0\3x", 22, 23, {"at 1\n2", "x"}, {3, 3}, {"double-free", ""}, 0},
        {"\4limit 12345\nover", 17, 18, {"over"}, {3}, {"limit"}, 12345},
        {"\4a 18446744073709551615\n", 24, 25, {""}, {3}, {"a"}, 0},
        {"\4a 18446744073709551616\n", 24, 25, {"a 18446744073709551616\n"}, {1}, {NULL}, 0},
        {"\4a 1x\n", 7, 8, {"a 1x\n"}, {1}, {NULL}, 0},
        {"\4a -1\n", 7, 8, {"a -1\n"}, {1}, {NULL}, 0},
        {"\4a \n", 5, 6, {"a \n"}, {1}, {NULL}, 0},
        {"\4a 1", 5, 6, {"a 1"}, {1}, {NULL}, 0},
        {"\4 1\nx", 6, 7, {" 1\nx"}, {1}, {NULL}, 0},
        {"\4limit\n", 7, 8, {""}, {3}, {"limit"}, 0},
        {"\4\nno kind", 9, 10, {"\nno kind"}, {1}, {NULL}, 0},
        {"\4a kind\nx", 9, 10, {"a kind\nx"}, {1}, {NULL}, 0},
        {"\4abcdefghijklmnopqrstuvwxyz0123456\nx",
         36,
         37,
         {"abcdefghijklmnopqrstuvwxyz0123456\nx"},
         {1},
         {NULL},
         0},
        /* a claim beyond the section */
        {"\2first", 6, SIZE_MAX, {"first"}, {2}, {NULL}, 0},
    };
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        struct image image = make_image();
        memcpy(image.bytes + NOTES_AT, rows[r].bytes, rows[r].size);
        image.header->areas[MO_NOTES].used = rows[r].used;
        struct mo_ledger_copy ledger = parse_good(&image);
        size_t cursor = 0;
        int level = 0;
        char kind[MO_LEDGER_KIND];
        uint64_t time;
        for (size_t i = 0;; i++) {
            const char *note = mo_ledger_note_next(&ledger, &cursor, &level, kind, &time);
            if (rows[r].texts[i] == NULL) {
                assert_null(note);
                break;
            }
            assert_non_null(note);
            assert_string_equal(note, rows[r].texts[i]);
            assert_int_equal(level, rows[r].levels[i]);
            assert_string_equal(kind, rows[r].kinds[i] == NULL ? "" : rows[r].kinds[i]);
            if (i == 0)
                assert_true(time == (rows[r].time == 0 ? UINT64_MAX : rows[r].time));
        }
        mo_ledger_release(&ledger);
    }
}

/* Notes that fill the whole section without an end. */
static void test_notes_without_end(void **state) {
    (void)state;
    struct image image = make_image();
    memset(image.bytes + NOTES_AT, 2, NOTES_ROOM);
    image.header->areas[MO_NOTES].used = NOTES_ROOM;
    struct mo_ledger_copy ledger = parse_good(&image);
    size_t cursor = 0;
    int level;
    char kind[MO_LEDGER_KIND];
    uint64_t time;
    const char *note = mo_ledger_note_next(&ledger, &cursor, &level, kind, &time);
    assert_int_equal(strlen(note), NOTES_ROOM - 2);
    assert_null(mo_ledger_note_next(&ledger, &cursor, &level, kind, &time));
    mo_ledger_release(&ledger);
}

static void test_damage(void **state) {
    (void)state;
#define AT(FIELD)                                                                                  \
    offsetof(struct mo_ledger_header, FIELD), sizeof(((struct mo_ledger_header *)0)->FIELD)
    static const struct {
        size_t offset, size;
        uint64_t value;
        int code;
        const char *says;
    } rows[] = {
        {0, 1, 'M', -EBADMSG, "magic"},
        {AT(version), 9, -EPROTONOSUPPORT, "ledger version 9, this memopt reads version 4"},
        {AT(header_size), 8, -EBADMSG, "header has another size"},
        {AT(areas[0].name[0]), 'x', -EBADMSG, "does not begin with the core's areas"},
        {AT(areas[1].flags), MO_AREA_IN_SLOT, -EBADMSG, "does not begin with the core's areas"},
        {AT(areas[2].name[0]), 0, -EBADMSG, "does not begin with the core's areas"},
        {AT(areas[0].offset), UINT64_MAX, -EBADMSG, "'notes' is not aligned"},
        {AT(areas[0].offset), UINT64_MAX - 4095, -EBADMSG, "'notes' is outside the record"},
        {AT(areas[0].offset), 0, -EBADMSG, "'notes' is outside the record"},
        {AT(areas[0].limit), UINT64_MAX - 4095, -EBADMSG, "'notes' is outside the record"},
        {AT(areas[0].limit), NOTES_ROOM + 1, -EBADMSG, "'notes' is not aligned"},
        {AT(areas[0].limit), NOTES_ROOM + 4096, -EBADMSG, "'heaps' overlaps another"},
        {AT(areas[0].unit), 0, -EBADMSG, "'notes' has elements of another size"},
        {AT(areas[1].unit), 8, -EBADMSG, "'heaps' has elements of another size"},
        {AT(areas[1].unit), sizeof(struct mo_ledger_heap) + 4, -EBADMSG, "of another size"},
        {AT(areas[1].offset), NOTES_AT, -EBADMSG, "'heaps' overlaps another"},
        {AT(areas[2].unit), 8, -EBADMSG, "'threads' has elements of another size"},
        {AT(areas[2].unit), 104, -EBADMSG, "'threads' has elements that are not aligned"},
        {AT(areas[2].unit), 64, -EBADMSG, "'count' is outside a thread's slot"},
        {AT(areas[3].unit), STRIDE, -EBADMSG, "'count' is outside a thread's slot"},
        {AT(areas[3].unit), UINT32_MAX, -EBADMSG, "'count' is outside a thread's slot"},
        {AT(areas[3].offset), STRIDE + 64, -EBADMSG, "'count' is outside a thread's slot"},
        {AT(areas[3].offset), 0, -EBADMSG, "'count' is outside a thread's slot"},
        {AT(areas[3].offset), 65, -EBADMSG, "'count' is not aligned"},
        {AT(areas[4].unit), 0, -EBADMSG, "'count.state' has elements of no bytes"},
        {AT(areas[4].offset), THREADS_AT, -EBADMSG, "'count.state' overlaps another"},
        {AT(areas[4].limit), MO_LEDGERS_STRIDE_MAX, -EBADMSG, "'count.state' is outside"},
    };
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        struct image image = make_image();
        memcpy(image.bytes + rows[r].offset, &rows[r].value, rows[r].size);
        struct mo_ledger_copy ledger;
        struct memopt_error error = MEMOPT_ERROR_INIT;
        int code = mo_ledger_parse(image.bytes, image.size, &ledger, &error);
        if (code != rows[r].code || strstr(error.message, rows[r].says) == NULL)
            fail_msg("row %zu: %d '%s', expected '%s'", r, code, error.message, rows[r].says);
        free(image.bytes);
    }
}

/* A fifth entry, which can't be together with the others, or can. */
static void test_entries_at_odds(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint32_t flags, unit;
        uint64_t offset, limit, used;
        const char *says; /* NULL: the record is good */
    } rows[] = {
        {"count", MO_AREA_IN_SLOT, 64, 128, 0, 0, "'count' is there twice"},
        {"other", MO_AREA_IN_SLOT, 64, 64, 0, 0, "'other' overlaps another"},
        {"other", MO_AREA_IN_SLOT, 1, 64, 0, 0, "'other' overlaps another"},
        {"other", MO_AREA_IN_SLOT, 128, 128, 0, 0, NULL},
        {"other", MO_AREA_IN_SLOT, 129, 128, 0, 0, "'other' is outside a thread's slot"},
        {"other", MO_AREA_IN_SLOT, 64, UINT64_MAX - 63, 0, 0, "'other' is outside a thread's slot"},
        /* a tracker that keeps nothing for a thread */
        {"other", MO_AREA_IN_SLOT, 0, 128, 0, 0, NULL},
        {"other", MO_AREA_IN_SLOT, 0, STRIDE, 0, 0, NULL},
        {"other", MO_AREA_IN_SLOT, 0, STRIDE + 64, 0, 0, "'other' is outside a thread's slot"},
        /* states and areas have names apart */
        {"notes", MO_AREA_IN_SLOT, 64, 128, 0, 0, NULL},
        {"notes", 0, 8, IMAGE_SIZE, 4096, 0, "'notes' is there twice"},
        {"count", 0, 8, IMAGE_SIZE, 4096, 0, NULL},
        {"count.state", 0, 8, IMAGE_SIZE, 4096, 8, "'count.state' is there twice"},
        {"other.area", 0, 8, STATE_AT, 4096, 8, "'other.area' overlaps another"},
        {"other.area", 0, 8, 4096, 1 << 20, 8, "'other.area' overlaps another"},
        {"other.area", 0, 8, 0, 4096, 8, "'other.area' is outside the record"},
        {"other.area", 0, 8, MO_LEDGERS_STRIDE_MAX - 4096, 4096, 8, NULL},
        {"other.area", 0, 8, MO_LEDGERS_STRIDE_MAX, 4096, 8, "'other.area' is outside the record"},
        {"other.area", 0, UINT32_MAX, IMAGE_SIZE, 4096, 4096, NULL},
        {"other.area", 0, 8, IMAGE_SIZE, UINT64_C(513) << 20, UINT64_MAX, "larger than any ledger"},
        /* a name without an end is cut */
        {"a-name-of-forty-bytes-that-has-no-end-yet", 0, 8, IMAGE_SIZE, 4096, 8, NULL},
        {"\33[2J\n", 0, 8, 1, 4096, 8, "is not aligned"},
        /* none: not named, or still being made when the program was killed */
        {"", 0, 0, UINT64_MAX, UINT64_MAX, UINT64_MAX, NULL},
        {"", MO_AREA_IN_SLOT, UINT32_MAX, UINT64_MAX, 0, 0, NULL},
        {"other.area", 0, 0, 0, 0, 0, NULL},
        {"other.area", 0, 8, STATE_AT, 0, UINT64_MAX, NULL},
        {"count.state", 0, 8, STATE_AT, 0, 0, NULL},
    };
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        struct image image = make_image();
        struct mo_area *area = &image.header->areas[OWN_AREA + 1];
        *area = (struct mo_area){.flags = rows[r].flags,
                                 .version = 1,
                                 .unit = rows[r].unit,
                                 .offset = rows[r].offset,
                                 .limit = rows[r].limit,
                                 .backed = rows[r].used,
                                 .used = rows[r].used};
        size_t length = strlen(rows[r].name);
        memcpy(area->name, rows[r].name, length < sizeof(area->name) ? length : sizeof(area->name));
        memset(image.bytes + STATE_AT, 'p', STATE);
        struct mo_ledger_copy ledger;
        struct memopt_error error = MEMOPT_ERROR_INIT;
        int code = mo_ledger_parse(image.bytes, image.size, &ledger, &error);
        if (code != (rows[r].says == NULL ? 0 : -EBADMSG) ||
            (code < 0 && (strstr(error.message, rows[r].says) == NULL ||
                          strpbrk(error.message, "\33\n") != NULL)))
            fail_msg("row %zu: %d '%s', expected '%s'", r, code, error.message, rows[r].says);
        free(image.bytes);
        if (code < 0)
            continue;
        /* whatever else there is, the tracker finds its own */
        struct mo_ledger_section section;
        assert_int_equal(mo_ledger_section_of(&ledger, "", &section), -ENOENT);
        assert_int_equal(mo_ledger_section_of(&ledger, "count", &section), 0);
        size_t count = 99;
        assert_int_equal(*(const char *)section.public.area(&section.public, "state", 1, 8, &count),
                         'p');
        assert_int_equal(count, STATE / 8);
        assert_null(section.public.area(&section.public, "area", 1, 8, &count));
        assert_int_equal(count, 0);
        mo_ledger_release(&ledger);
    }
}

/* A tracker's: of another name, version or unit there is none, nor of one that has nothing. */
static void test_areas_of_a_tracker(void **state) {
    (void)state;
    static const struct {
        const char *tracker, *name;
        uint32_t version, unit;
        uint64_t used;
        size_t count;
    } rows[] = {
        {"count", "state", 1, 8, 80, 10}, {"count", "state", 1, 8, 87, 10},
        {"count", "state", 1, 8, 7, 0},   {"count", "state", 1, 8, 0, 0},
        {"count", "state", 2, 8, 80, 0},  {"count", "state", 1, 4, 80, 0},
        {"count", "state", 1, 0, 80, 0},  {"count", "stat", 1, 8, 80, 0},
        {"count", "states", 1, 8, 80, 0}, {"count", "", 1, 8, 80, 0},
        {"coun", "state", 1, 8, 80, 0},   {"counts", "state", 1, 8, 80, 0},
    };
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        struct image image = make_image();
        strcpy(image.header->areas[IN_SLOT].name, rows[r].tracker);
        image.header->areas[OWN_AREA].used = rows[r].used;
        struct mo_ledger_copy ledger = parse_good(&image);
        struct mo_ledger_section section;
        assert_int_equal(mo_ledger_section_of(&ledger, rows[r].tracker, &section), 0);
        size_t count = 99;
        const void *there = section.public.area(&section.public, rows[r].name, rows[r].version,
                                                rows[r].unit, &count);
        if (count != rows[r].count || (there != NULL) != (rows[r].count > 0))
            fail_msg("row %zu: %zu at %p", r, count, there);
        mo_ledger_release(&ledger);
    }
}

/* The directory is full of strangers' areas: the core's part is what it was. */
static void test_a_full_directory(void **state) {
    (void)state;
    struct image image = make_image();
    for (size_t i = OWN_AREA + 1; i < MO_AREAS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "stranger.%zu", i);
        uint64_t at = IMAGE_SIZE + i * 8192;
        put_area(image.header, i, name, 8, at, at + 8192, i);
        image.header->areas[i].full_at = i;
    }
    struct mo_ledger_copy ledger = parse_good(&image);
    for (size_t i = OWN_AREA + 1; i < MO_AREAS; i++) {
        assert_int_equal(ledger.areas[i].size, i);
        assert_int_equal((uintptr_t)ledger.areas[i].bytes % 64, 0);
        assert_int_equal(ledger.header.areas[i].full_at, i);
    }
    assert_int_equal(ledger.thread_count, SLOTS);
    assert_null(mo_ledger_state(&ledger, "stranger"));
    mo_ledger_release(&ledger);
}

/* Counts that lie are cut to what is there. */
static void test_counts_are_cut(void **state) {
    (void)state;
    static const struct {
        uint64_t used, backed;
        size_t count;
    } rows[] = {{0, 4096, 0},
                {3 * STRIDE, 4096, 3},
                {3 * STRIDE + STRIDE / 2, 4096, 3},
                {UINT64_MAX, 4096, 4096 / STRIDE},
                {4096, 2 * STRIDE, 2},
                {UINT64_MAX, UINT64_MAX, 4096 / STRIDE}};
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        struct image image = make_image();
        image.header->areas[MO_THREADS].used = rows[r].used;
        image.header->areas[MO_THREADS].backed = rows[r].backed;
        struct mo_ledger_copy ledger = parse_good(&image);
        assert_int_equal(ledger.thread_count, rows[r].count);
        mo_ledger_release(&ledger);
    }
}

/* An image that ends anywhere: an error, or zeros. */
static void test_every_length(void **state) {
    (void)state;
    struct image image = make_image();
    memset(image.bytes + STATE_AT, 'p', STATE);
    for (size_t size = 0; size <= image.size; size += size < 8192 ? 1 : 61) {
        unsigned char *bytes = malloc(size + 1);
        assert_non_null(bytes);
        memcpy(bytes, image.bytes, size);
        struct mo_ledger_copy ledger;
        struct memopt_error error = MEMOPT_ERROR_INIT;
        int r = mo_ledger_parse(bytes, size, &ledger, &error);
        if (size >= sizeof(*image.header)) {
            assert_int_equal(r, 0);
            assert_int_equal(ledger.thread_count, SLOTS);
            assert_int_equal(ledger.areas[OWN_AREA].size, STATE);
            assert_int_equal(ledger.areas[OWN_AREA].bytes[0], size > STATE_AT ? 'p' : 0);
            mo_ledger_release(&ledger);
        } else {
            assert_int_equal(r, -EBADMSG);
            assert_string_not_equal(error.message, "");
        }
        free(bytes);
    }
    free(image.bytes);
}

/* ------------------------------------------------------------------- files */

static void write_file(const void *bytes, size_t size) {
    int fd = openat(directory_fd, MO_LEDGERS_NAME, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

static void expect_refused(int code, const char *says) {
    struct mo_ledgers_file file;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    assert_int_equal(mo_ledgers_open(directory_fd, &file, &error), code);
    assert_int_equal(error.code, code);
    assert_non_null(strstr(error.message, "'" MO_LEDGERS_NAME "'"));
    if (strstr(error.message, says) == NULL)
        fail_msg("'%s' does not say '%s'", error.message, says);
    assert_int_equal(unlinkat(directory_fd, MO_LEDGERS_NAME, code == -EISDIR ? AT_REMOVEDIR : 0),
                     0);
}

static void test_files_that_are_none(void **state) {
    (void)state;
    struct mo_ledgers head = {.magic = MO_LEDGERS_MAGIC, .version = 1, .stride = 1 << 20};
    static char page[MO_LEDGERS_PAGE];
    struct mo_ledgers_file file;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    assert_int_equal(mo_ledgers_open(directory_fd, &file, &error), -ENOENT);
    assert_non_null(strstr(error.message, "No such file"));
    assert_int_equal(symlinkat("/etc/passwd", directory_fd, MO_LEDGERS_NAME), 0);
    expect_refused(-ELOOP, "symbolic links");
    assert_int_equal(mkdirat(directory_fd, MO_LEDGERS_NAME, 0700), 0);
    expect_refused(-EISDIR, "Is a directory");
    assert_int_equal(mkfifoat(directory_fd, MO_LEDGERS_NAME, 0600), 0);
    expect_refused(-EBADMSG, "not a regular file");
    write_file("", 0);
    expect_refused(-EBADMSG, "shorter than its first page");
    write_file(page, sizeof(page));
    expect_refused(-EBADMSG, "does not begin with the magic");
    memcpy(page, &head, sizeof(head));
    write_file(page, sizeof(page));
    expect_refused(-EPROTONOSUPPORT, "version 1");
    static const uint64_t strides[] = {0, 4096, (1 << 20) + 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof(strides) / sizeof(strides[0]); i++) {
        head.version = MO_LEDGER_VERSION;
        head.stride = strides[i];
        memcpy(page, &head, sizeof(head));
        write_file(page, sizeof(page));
        expect_refused(-EBADMSG, "impossible size");
    }
}

/* Records are found wherever they are. */
static void test_records(void **state) {
    (void)state;
    struct image image = make_image();
    put_record(directory, 2, image.bytes, image.size);
    put_record(directory, 7, "x", 1);
    put_record(directory, 9, image.bytes, image.size);
    struct mo_ledgers_file file;
    assert_int_equal(mo_ledgers_open(directory_fd, &file, NULL), 0);
    uint64_t failed;
    mo_ledgers_counts(&file, &failed);
    assert_int_equal(file.taken, 9);
    assert_int_equal(failed, 0);
    static const uint64_t indices[] = {2, 7, 9};
    uint64_t place = 0;
    for (size_t i = 0; i < 3; i++) {
        place = mo_ledgers_next(&file, i == 0 ? 0 : place + 1);
        assert_int_equal(place, indices[i] * file.stride);
        struct mo_ledger_copy ledger;
        struct memopt_error error = MEMOPT_ERROR_INIT;
        int r = mo_ledgers_read(&file, place, &ledger, &error);
        assert_int_equal(r, i == 1 ? -EBADMSG : 0);
        if (r < 0) {
            assert_non_null(strstr(error.message, "record 7: not a usable ledger"));
            continue;
        }
        assert_int_equal(ledger.header.pid, 42);
        assert_int_equal(ledger.thread_count, SLOTS);
        assert_int_equal(ledger.areas[OWN_AREA].size, STATE);
        mo_ledger_release(&ledger);
    }
    assert_true(mo_ledgers_next(&file, place + 1) == UINT64_MAX);
    mo_ledgers_drop(&file, 2 * file.stride);
    assert_int_equal(mo_ledgers_next(&file, 0), 7 * file.stride);
    mo_ledgers_close(&file);
    free(image.bytes);
    assert_int_equal(unlinkat(directory_fd, MO_LEDGERS_NAME, 0), 0);
}

/* Cut off by a program of the run: what is left is read. */
static void test_a_file_that_is_cut(void **state) {
    (void)state;
    struct image image = make_image();
    put_record(directory, 1, image.bytes, image.size);
    put_record(directory, 2, image.bytes, image.size);
    struct mo_ledgers_file file;
    assert_int_equal(mo_ledgers_open(directory_fd, &file, NULL), 0);
    assert_int_equal(ftruncate(file.fd, (off_t)file.stride + 100), 0);
    struct mo_ledger_copy ledger;
    assert_int_equal(mo_ledgers_next(&file, 0), file.stride);
    assert_int_equal(mo_ledgers_read(&file, file.stride, &ledger, NULL), -EBADMSG);
    assert_true(mo_ledgers_next(&file, file.stride + 1) == UINT64_MAX);
    assert_int_equal(ftruncate(file.fd, 0), 0);
    assert_true(mo_ledgers_next(&file, 0) == UINT64_MAX);
    mo_ledgers_close(&file);
    free(image.bytes);
    assert_int_equal(unlinkat(directory_fd, MO_LEDGERS_NAME, 0), 0);
}

/* The same within a record: an error, or what was there and zeros. */
static void test_a_record_that_is_cut(void **state) {
    (void)state;
    struct image image = make_image();
    for (size_t i = 0; i < SLOTS; i++)
        memcpy(image.bytes + THREADS_AT + i * STRIDE, &(int64_t){100}, 8);
    memset(image.bytes + STATE_AT, 'p', STATE);
    static const off_t sizes[] = {0,
                                  1,
                                  4095,
                                  4096,
                                  NOTES_AT + 1,
                                  HEAPS_AT,
                                  HEAPS_AT + 1,
                                  THREADS_AT,
                                  THREADS_AT + 8,
                                  THREADS_AT + STRIDE,
                                  STATE_AT + 1,
                                  IMAGE_SIZE};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        put_record(directory, 1, image.bytes, image.size);
        struct mo_ledgers_file file;
        assert_int_equal(mo_ledgers_open(directory_fd, &file, NULL), 0);
        assert_int_equal(ftruncate(file.fd, (off_t)file.stride + sizes[i]), 0);
        struct mo_ledger_copy ledger;
        struct memopt_error error = MEMOPT_ERROR_INIT;
        int r = mo_ledgers_read(&file, file.stride, &ledger, &error);
        assert_int_equal(r, sizes[i] < (off_t)sizeof(*image.header) ? -EBADMSG : 0);
        if (r == 0) {
            size_t slots = 0;
            int64_t tid;
            for (size_t k = 0; k < ledger.thread_count; k++)
                slots += mo_ledger_slot_at(&ledger, k, &tid) != NULL && (k > 0 || tid != 0);
            size_t there =
                sizes[i] <= THREADS_AT ? 0 : (size_t)(sizes[i] - THREADS_AT - 8) / STRIDE;
            assert_int_equal(slots, there < SLOTS ? there : SLOTS - 1);
            assert_int_equal(ledger.areas[OWN_AREA].bytes[0], sizes[i] > STATE_AT ? 'p' : 0);
            assert_int_equal(ledger.areas[OWN_AREA].bytes[STATE - 1],
                             sizes[i] >= STATE_AT + STATE ? 'p' : 0);
            mo_ledger_release(&ledger);
        }
        mo_ledgers_close(&file);
        assert_int_equal(unlinkat(directory_fd, MO_LEDGERS_NAME, 0), 0);
    }
    free(image.bytes);
}

/* The program goes on: it takes an element, then writes it. Whatever was read is the copy's. */
static void grow(uint64_t end) {
    struct mo_ledgers head;
    int fd = open_records(directory, &head);
    off_t used_at = (off_t)(head.stride + offsetof(struct mo_ledger_header, areas[OWN_AREA].used));
    for (uint64_t i = 1; i <= end; i++) {
        uint64_t used = i * 8;
        if (pwrite(fd, &used, 8, used_at) != 8 ||
            pwrite(fd, &i, 8, (off_t)(head.stride + STATE_AT + used - 8)) != 8)
            _exit(1);
    }
    close(fd);
}

static void test_a_record_that_grows(void **state) {
    (void)state;
    enum { ELEMENTS = 4096 / 8 };
    struct image image = make_image();
    image.header->areas[OWN_AREA].used = 0;
    put_record(directory, 1, image.bytes, image.size);
    free(image.bytes);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        grow(ELEMENTS);
        _exit(0);
    }
    struct mo_ledgers_file file;
    assert_int_equal(mo_ledgers_open(directory_fd, &file, NULL), 0);
    size_t before = 0;
    for (int ended = 0, status = 0; !ended;) {
        ended = waitpid(pid, &status, WNOHANG) == pid; /* then it is read once more */
        assert_int_equal(status, 0);
        struct mo_ledger_copy ledger;
        struct mo_ledger_section section;
        size_t count;
        assert_int_equal(mo_ledgers_read(&file, file.stride, &ledger, NULL), 0);
        assert_int_equal(mo_ledger_section_of(&ledger, "count", &section), 0);
        const uint64_t *own = section.public.area(&section.public, "state", 1, 8, &count);
        assert_true(count >= before);
        for (size_t i = 0; i < count; i++)
            assert_true(own[i] == i + 1 || (own[i] == 0 && i + 1 == count && !ended));
        before = count;
        mo_ledger_release(&ledger);
    }
    assert_int_equal(before, ELEMENTS);
    mo_ledgers_close(&file);
    assert_int_equal(unlinkat(directory_fd, MO_LEDGERS_NAME, 0), 0);
}

/* ------------------------------------------- what the real writer leaves */

/* The child counts, says so, and waits to be killed. */
static void be_a_program(int ready) {
    struct mo_slot_state counter = {"counter", 3, 8, 0};
    struct mo_ledger_plan plan = {
        .directory = directory, .binding = 2, .states = &counter, .state_count = 1};
    if (mo_ledger_create(&plan, 0, NULL, NULL) < 0)
        _exit(1);
    mo_ledger_set_allocator("libc", "2.36");
    *(uint64_t *)(void *)((char *)mo_ledger_attach() + counter.offset) = 7;
    uint64_t *own = mo_ledger_area("counter.own", 5, 8, 1 << 20, NULL);
    if (own == NULL || mo_ledger_area_back(own, 100000) < 0)
        _exit(1);
    own[99999] = 8;
    mo_ledger_note(MEMOPT_NOTE_WARNING, "careful");
    mo_ledger_heap_slot("gradients", "pool")->live_bytes = 9;
    if (write(ready, "x", 1) != 1)
        _exit(1);
    pause();
}

static void check_program(pid_t pid, int is_over) {
    struct mo_ledger_copy ledger;
    struct mo_ledgers_file file;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    assert_int_equal(mo_ledgers_open(directory_fd, &file, &error), 0);
    uint64_t place = find_record(&file, pid, 0);
    assert_int_equal(mo_ledgers_read(&file, place, &ledger, &error), 0);
    assert_int_equal(mo_ledgers_is_over(&file, place), is_over);
    mo_ledgers_close(&file);
    assert_int_equal(ledger.header.pid, pid);
    assert_int_equal(ledger.header.state, MO_LEDGER_RUNNING);
    assert_string_equal(ledger.header.allocator, "libc");
    assert_int_equal(mo_ledger_state(&ledger, "counter")->version, 3);
    struct mo_ledger_section section;
    assert_int_equal(mo_ledger_section_of(&ledger, "counter", &section), 0);
    size_t count;
    const uint64_t *own = section.public.area(&section.public, "own", 5, 8, &count);
    assert_int_equal(count, 100000);
    assert_int_equal(own[99999], 8);
    int64_t tid;
    const uint64_t *thread = section.public.thread(&section.public, 1, &tid);
    assert_int_equal(tid, pid);
    assert_int_equal(*thread, 7);
    size_t cursor = 0;
    int level;
    char kind[MO_LEDGER_KIND];
    uint64_t time;
    assert_string_equal(mo_ledger_note_next(&ledger, &cursor, &level, kind, &time), "careful");
    assert_int_equal(level, MEMOPT_NOTE_WARNING);
    struct mo_ledger_heap heap;
    assert_int_equal(mo_ledger_heap_at(&ledger, 0, &heap), 0);
    assert_string_equal(heap.name, "gradients");
    assert_int_equal(heap.live_bytes, 9);
    mo_ledger_release(&ledger);
}

static void test_running_and_killed(void **state) {
    (void)state;
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(mo_ledgers_make(directory_fd, NULL), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        be_a_program(ready[1]);
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    check_program(pid, 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    check_program(pid, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_what_is_there),
        cmocka_unit_test(test_notes),
        cmocka_unit_test(test_notes_without_end),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_entries_at_odds),
        cmocka_unit_test(test_areas_of_a_tracker),
        cmocka_unit_test(test_a_full_directory),
        cmocka_unit_test(test_counts_are_cut),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_files_that_are_none),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_a_file_that_is_cut),
        cmocka_unit_test(test_a_record_that_is_cut),
        cmocka_unit_test(test_a_record_that_grows),
        cmocka_unit_test(test_running_and_killed),
    };
    return cmocka_run_group_tests_name("ledger reader", tests, set_up, tear_down);
}
