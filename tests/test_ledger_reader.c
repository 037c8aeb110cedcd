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
    return ledger;
}

static void test_reads_what_is_there(void **state) {
    (void)state;
    struct image image = make_image();
    int64_t tids[SLOTS] = {0, 100, 0, 102};
    for (size_t i = 0; i < SLOTS; i++) {
        unsigned char *slot = image.bytes + image.header->threads_offset + i * STRIDE;
        memcpy(slot, &tids[i], sizeof(tids[i]));
        memset(slot + 64, (int)(i + 1), 64);
    }
    memset(image.bytes + process_at, 'p', STATE);
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
    mo_ledger_section_at(&ledger, 0, &section);
    assert_int_equal(section.public.process_size, STATE);
    assert_int_equal(((const char *)section.public.process)[STATE - 1], 'p');
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
        memcpy(image.bytes + 4096, rows[r].bytes, rows[r].size);
        image.header->notes_used = rows[r].used;
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
    memset(image.bytes + 4096, 2, MO_LEDGER_NOTES);
    image.header->notes_used = MO_LEDGER_NOTES;
    struct mo_ledger_copy ledger = parse_good(&image);
    size_t cursor = 0;
    int level;
    char kind[MO_LEDGER_KIND];
    uint64_t time;
    const char *note = mo_ledger_note_next(&ledger, &cursor, &level, kind, &time);
    assert_int_equal(strlen(note), MO_LEDGER_NOTES - 2);
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
        {AT(version), 4, -EPROTONOSUPPORT, "ledger version 4, this memopt reads version 3"},
        {AT(header_size), 8, -EBADMSG, "header has another size"},
        {AT(tracker_count), MO_LEDGER_TRACKERS + 1, -EBADMSG, "too many trackers"},
        {AT(tracker_count), UINT32_MAX, -EBADMSG, "too many trackers"},
        {AT(notes_offset), UINT64_MAX, -EBADMSG, "outside the file"},
        {AT(notes_offset), 1 << 20, -EBADMSG, "outside the file"},
        {AT(heaps_offset), UINT64_MAX - 7, -EBADMSG, "outside the file"},
        {AT(heaps_offset), HEAPS_AT + 1, -EBADMSG, "not aligned"},
        {AT(heaps_offset), HEAPS_AT + 4096, -EBADMSG, "outside the file"},
        {AT(process_offset), UINT64_MAX, -EBADMSG, "outside the file"},
        {AT(threads_offset), UINT64_MAX - 63, -EBADMSG, "outside the file"},
        {AT(threads_offset), 65, -EBADMSG, "not aligned"},
        {AT(thread_stride), 0, -EBADMSG, "slots are too small"},
        {AT(thread_stride), 100, -EBADMSG, "not aligned"},
        {AT(thread_stride), 64, -EBADMSG, "outside a thread's slot"},
        {AT(trackers[0].process_size), STATE + SLOTS * STRIDE + 1, -EBADMSG, "outside the file"},
        {AT(trackers[0].process_size), UINT32_MAX, -EBADMSG, "outside the file"},
        {AT(trackers[0].process_offset), UINT64_MAX - 63, -EBADMSG, "outside the file"},
        {AT(trackers[0].process_offset), 64, -EBADMSG, "outside the file"},
        {AT(trackers[0].process_offset), 1, -EBADMSG, "not aligned"},
        {AT(trackers[0].thread_size), STRIDE, -EBADMSG, "outside a thread's slot"},
        {AT(trackers[0].thread_offset), STRIDE + 64, -EBADMSG, "outside a thread's slot"},
        {AT(trackers[0].thread_offset), 0, -EBADMSG, "outside a thread's slot"},
        {AT(trackers[0].thread_offset), 65, -EBADMSG, "not aligned"},
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

/* Counts that lie are cut to what is there. */
static void test_counts_are_cut(void **state) {
    (void)state;
    static const struct {
        uint32_t grown;
        size_t count;
    } rows[] = {{0, 0}, {3, 3}, {SLOTS + 1, SLOTS}, {UINT32_MAX, SLOTS}};
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        struct image image = make_image();
        image.header->threads_grown = rows[r].grown;
        struct mo_ledger_copy ledger = parse_good(&image);
        assert_int_equal(ledger.thread_count, rows[r].count);
        mo_ledger_release(&ledger);
    }
}

/* A file that ends anywhere: an error, or fewer threads. */
static void test_every_length(void **state) {
    (void)state;
    struct image image = make_image();
    for (size_t size = 0; size <= image.size; size += size < 8192 ? 1 : 61) {
        unsigned char *bytes = aligned_alloc(64, size / 64 * 64 + 64);
        assert_non_null(bytes);
        memcpy(bytes, image.bytes, size);
        struct mo_ledger_copy ledger;
        struct memopt_error error = MEMOPT_ERROR_INIT;
        int r = mo_ledger_parse(bytes, size, &ledger, &error);
        if (size >= image.header->threads_offset) {
            assert_int_equal(r, 0);
            assert_int_equal(ledger.thread_count, (size - image.header->threads_offset) / STRIDE);
            mo_ledger_release(&ledger);
        } else {
            assert_int_equal(r, -EBADMSG);
            assert_string_not_equal(error.message, "");
            free(bytes);
        }
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

/* Records are found wherever they are; the unused slots at a record's end, holes of up to
 * megabytes, are not read. */
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
        assert_int_equal(ledger.size, image.size);
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

/* ------------------------------------------- what the real writer leaves */

static const struct memopt_tracker_ops counter = {
    .size = sizeof(counter), .state_version = 3, .process_size = 8, .thread_size = 8};

/* The child counts, says so, and waits to be killed. */
static void be_a_program(int ready) {
    struct mo_ledger_plan plan = {.directory = directory, .binding = 2, .tracker_count = 1};
    plan.trackers[0].name = "counter";
    plan.trackers[0].ops = &counter;
    if (mo_ledger_create(&plan, 0, NULL, NULL) < 0)
        _exit(1);
    mo_ledger_set_allocator("libc", "2.36");
    *(uint64_t *)((char *)mo_ledger_attach() + mo_ledger_thread_offset(0)) = 7;
    *(uint64_t *)mo_ledger_process_state(0) = 8;
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
    assert_string_equal(ledger.header.trackers[0].name, "counter");
    assert_int_equal(ledger.header.trackers[0].state_version, 3);
    struct mo_ledger_section section;
    mo_ledger_section_at(&ledger, 0, &section);
    assert_int_equal(*(const uint64_t *)section.public.process, 8);
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
        cmocka_unit_test(test_reads_what_is_there), cmocka_unit_test(test_notes),
        cmocka_unit_test(test_notes_without_end),   cmocka_unit_test(test_damage),
        cmocka_unit_test(test_counts_are_cut),      cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_files_that_are_none), cmocka_unit_test(test_records),
        cmocka_unit_test(test_a_file_that_is_cut),  cmocka_unit_test(test_running_and_killed),
    };
    return cmocka_run_group_tests_name("ledger reader", tests, set_up, tear_down);
}
