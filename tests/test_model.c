/* test_model.c - from a run directory to a report and on to its reporters:
 * order, ends, notes, heaps, trackers, several outputs, and no memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "core/account/account.h"
#include "core/import/run.h"
#include "core/ledger/writer.h"
#include "core/model/model.h"
#include "core/model/peak.h"
#include "core/plugin/registry.h"
#include "core/render/render.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/report_faults.h"
#include "tests/report_ledger.h"

static char directory[64];

static int remove_directory(void) {
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

static int set_up(void **state) {
    (void)state;
    strcpy(directory, "/tmp/memopt-model-XXXXXX");
    return mkdtemp(directory) == NULL ? -1 : 0;
}

static int tear_down(void **state) {
    (void)state;
    return remove_directory();
}

static char *in_directory(const char *name) {
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static struct mo_config *config_of(const char *ini) {
    struct mo_config *config;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (mo_config_load_text("test.ini", directory, ini, strlen(ini), &config, &error) < 0)
        fail_msg("%s", error.message);
    return config;
}

static const char *note_with(const struct memopt_report *report, const char *part) {
    for (size_t i = 0; i < report->note_count; i++)
        if (strstr(report->notes[i].text, part) != NULL)
            return report->notes[i].text;
    return NULL;
}

static struct memopt_report *new_report(void) {
    struct memopt_report *report;
    assert_int_equal(mo_report_new(&report, NULL), 0);
    return report;
}

/* ------------------------------------------------------------ order and ends */

/* Pids that no process has. */
enum { NOBODY = 1 << 23, A = NOBODY, B, C, D };

struct row {
    int64_t pid;
    uint64_t start;
    int exited; /* the exit hook ran */
    int status, forked;
    /* of a pid that no process has: when the process was started, its ledger being begun
     * `start` later; of another: when the ledger was begun */
    uint64_t when;
};

static uint64_t since_boot(void) {
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* As the run's nth record. */
static void write_ledger(const struct row *row, unsigned n) {
    struct image image = make_image();
    struct mo_ledger_header *h = image.header;
    without_tracker(h);
    h->pid = row->pid;
    h->ppid = 1;
    h->start_time = row->start;
    h->state = row->exited ? MO_LEDGER_EXITED : MO_LEDGER_RUNNING;
    h->end_time = row->exited ? row->start + 100 : 0;
    h->exit_status = row->status;
    h->forked = (uint32_t)row->forked;
    h->process_start = row->when * 100;
    h->begun = row->when == 0 ? 0 : row->when * 100 + row->start;
    if (row->pid < NOBODY) {
        h->process_start = 0;
        h->begun = row->when;
    }
    if (row->pid == getpid()) {
        ssize_t length = readlink("/proc/self/exe", h->exe, sizeof(h->exe) - 1);
        h->exe[length > 0 ? length : 0] = '\0';
    }
    put_record(directory, n, image.bytes, image.size);
    free(image.bytes);
}

/* An empty run directory. */
static void begin_run(void) {
    struct mo_ledgers head;
    remove_directory();
    mkdir(directory, 0700);
    close(open_records(directory, &head));
}

static void test_order_and_ends(void **state) {
    (void)state;
    const int64_t me = getpid();
    const uint64_t now = since_boot();
    const struct {
        const char *name;
        struct row rows[5]; /* pid 0 ends them */
        int64_t main;
        struct {
            int64_t pid;
            uint64_t start;
            int end, value;
        } expected[5];
    } cases[] = {
        {"one", {{A, 1, 1, 3, 0, 0}}, A, {{A, 1, MEMOPT_END_EXIT, 3}}},
        {"an exit status has eight bits", {{A, 1, 1, 257, 0, 0}}, A, {{A, 1, MEMOPT_END_EXIT, 1}}},
        {"an exit status that is not known",
         {{A, 1, 1, 0, 0, 0}, {B, 2, 1, MO_LEDGER_STATUS_UNKNOWN, 1, 0}},
         A,
         {{A, 1, MEMOPT_END_EXIT, 0}, {B, 2, MEMOPT_END_EXIT, -1}}},
        {"killed", {{A, 1, 0, 0, 0, 0}}, A, {{A, 1, MEMOPT_END_UNKNOWN, 0}}},
        {"still there", {{me, 1, 0, 0, 0, now}}, me, {{me, 1, MEMOPT_END_RUNNING, 0}}},
        {"another of its number is there",
         {{me, 1, 0, 0, 0, 1}},
         me,
         {{me, 1, MEMOPT_END_UNKNOWN, 0}}},
        {"one of its number is there, and no start known",
         {{me, 1, 0, 0, 0, 0}},
         me,
         {{me, 1, MEMOPT_END_UNKNOWN, 0}}},
        {"main first, then by start",
         {{A, 3, 1, 0, 0, 0}, {B, 1, 1, 0, 1, 0}, {C, 2, 1, 0, 1, 0}},
         A,
         {{A, 3, MEMOPT_END_EXIT, 0}, {B, 1, MEMOPT_END_EXIT, 0}, {C, 2, MEMOPT_END_EXIT, 0}}},
        {"the earliest is main if nobody says",
         {{B, 5, 1, 0, 0, 0}, {A, 4, 1, 0, 0, 0}},
         0,
         {{A, 4, MEMOPT_END_EXIT, 0}, {B, 5, MEMOPT_END_EXIT, 0}}},
        {"exec twice: the last program is main",
         {{A, 1, 0, 0, 0, 7}, {A, 3, 0, 0, 0, 7}, {A, 5, 1, 0, 0, 7}, {B, 2, 1, 0, 1, 8}},
         A,
         {{A, 5, MEMOPT_END_EXIT, 0},
          {A, 1, MEMOPT_END_EXEC, 0},
          {B, 2, MEMOPT_END_EXIT, 0},
          {A, 3, MEMOPT_END_EXEC, 0}}},
        {"a number given again is no exec",
         {{A, 1, 1, 0, 0, 0},
          {B, 2, 0, 0, 1, 0},
          {B, 3, 1, 7, 1, 0},
          {C, 4, 1, 0, 1, 0},
          {C, 5, 1, 2, 0, 0}},
         A,
         {{A, 1, MEMOPT_END_EXIT, 0},
          {B, 2, MEMOPT_END_UNKNOWN, 0},
          {B, 3, MEMOPT_END_EXIT, 7},
          {C, 4, MEMOPT_END_EXIT, 0},
          {C, 5, MEMOPT_END_EXIT, 2}}},
        {"a child and a grandchild execute, and their numbers are given again",
         {{A, 1, 1, 0, 0, 7}, {B, 2, 0, 0, 1, 8}, {B, 3, 0, 0, 0, 8}, {B, 4, 1, 7, 0, 9}},
         A,
         {{A, 1, MEMOPT_END_EXIT, 0},
          {B, 2, MEMOPT_END_EXEC, 0},
          {B, 3, MEMOPT_END_UNKNOWN, 0},
          {B, 4, MEMOPT_END_EXIT, 7}}},
        {"the same number, and no start known",
         {{A, 1, 1, 0, 0, 0}, {B, 2, 0, 0, 1, 0}, {B, 3, 1, 7, 0, 0}},
         A,
         {{A, 1, MEMOPT_END_EXIT, 0}, {B, 2, MEMOPT_END_UNKNOWN, 0}, {B, 3, MEMOPT_END_EXIT, 7}}},
        {"none of the main one: only children",
         {{B, 1, 1, 0, 0, 0}},
         A,
         {{B, 1, MEMOPT_END_EXIT, 0}}},
    };
    struct mo_config *config = config_of("");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        remove_directory();
        assert_int_equal(mkdir(directory, 0700), 0);
        size_t count = 0;
        for (; count < 5 && cases[i].rows[count].pid != 0; count++)
            write_ledger(&cases[i].rows[count], (unsigned)count + 1);
        struct memopt_report *report = new_report();
        struct memopt_error error = MEMOPT_ERROR_INIT;
        assert_int_equal(mo_report_read_run(report, directory, cases[i].main, config, &error), 0);
        if (report->process_count != count)
            fail_msg("%s: %zu processes", cases[i].name, report->process_count);
        for (size_t p = 0; p < count; p++) {
            const struct memopt_process *process = &report->processes[p];
            if (process->pid != cases[i].expected[p].pid ||
                process->start_time != cases[i].expected[p].start ||
                process->end != cases[i].expected[p].end ||
                process->end_value != cases[i].expected[p].value)
                fail_msg("%s: process %zu is %lld, start %llu, end %d %d", cases[i].name, p,
                         (long long)process->pid, (unsigned long long)process->start_time,
                         process->end, process->end_value);
            int is_main = p == 0 && (cases[i].main == 0 || process->pid == cases[i].main);
            assert_int_equal(process->is_main, is_main);
            if (process->end == MEMOPT_END_EXEC)
                assert_true(process->end_time > process->start_time &&
                            process->end_time != MEMOPT_UNKNOWN);
        }
        assert_int_equal(report->note_count, 0);
        mo_report_free(report);
    }
    mo_config_free(config);
}

/* A process that went on, by exec, as a program that has no ledger. */
static void test_became_another(void **state) {
    (void)state;
    static const struct {
        const char *label, *program, *name;
        int exited, wait_status;
        const char *became; /* NULL: it did not; "": one that is not known */
        const char *says;   /* NULL: nothing */
    } rows[] = {
        {"its end is recorded", "/x/static", "static", 1, 3 << 8, NULL, NULL},
        {"seen as another", "/x/static", "static", 0, 3 << 8, "/x/static", "became '/x/static'"},
        {"seen as another, killed", "/x/static", "static", 0, SIGKILL, "/x/static", "became"},
        {"not seen, by its name", "", "static", 0, 3 << 8, "", "was called 'static'"},
        {"killed, by its name", "", "static", 0, SIGKILL, NULL, "given itself that name, or"},
        {"killed", "/x/true", "true", 0, SIGKILL, NULL, NULL},
        {"removed while it ran", "/usr/bin/true (deleted)", "true", 0, SIGKILL, NULL, NULL},
        {"in a chroot", "/root/of/it/usr/bin/true", "true", 0, SIGKILL, NULL, NULL},
        {"no end", "/usr/bin/true", "true", 0, 3 << 8, NULL, "its end was not recorded"},
        {"no end, nothing known", "", "", 0, 0, NULL, "its end was not recorded"},
    };
    struct mo_config *config = config_of("");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        remove_directory();
        assert_int_equal(mkdir(directory, 0700), 0);
        struct image image = make_image();
        without_tracker(image.header);
        image.header->pid = A;
        image.header->begun = 701;
        image.header->state = rows[i].exited ? MO_LEDGER_EXITED : MO_LEDGER_RUNNING;
        image.header->exit_status = 3;
        strcpy(image.header->name, "true");
        put_record(directory, 1, image.bytes, image.size);
        free(image.bytes);
        write_ledger(&(struct row){B, 2, 1, 0, 1, 8}, 2);
        struct memopt_report *report = new_report();
        struct memopt_error error = MEMOPT_ERROR_INIT;
        assert_int_equal(mo_report_read_run(report, directory, A, config, &error), 0);
        assert_int_equal(
            mo_report_became(report, rows[i].program, rows[i].name, rows[i].wait_status, &error),
            0);
        assert_int_equal(mo_report_end(report, A, rows[i].wait_status, NULL, 0, &error), 0);
        const struct memopt_process *main = &report->processes[0];
        if (report->process_count != (rows[i].became == NULL ? 2u : 3u))
            fail_msg("%s: %zu processes", rows[i].label, report->process_count);
        assert_int_equal(main->pid, A);
        assert_int_equal(main->is_main, 1);
        assert_int_equal(main->end,
                         WIFEXITED(rows[i].wait_status) ? MEMOPT_END_EXIT : MEMOPT_END_SIGNAL);
        assert_int_equal(main->end_value, WIFEXITED(rows[i].wait_status)
                                              ? WEXITSTATUS(rows[i].wait_status)
                                              : WTERMSIG(rows[i].wait_status));
        if (rows[i].became == NULL) {
            assert_string_equal(main->program, "/usr/bin/true");
        } else {
            if (rows[i].became[0] == '\0')
                assert_null(main->program);
            else
                assert_string_equal(main->program, rows[i].became);
            assert_null(main->binding);
            assert_int_equal(main->has_counts, 0);
            assert_int_equal(report->processes[1].end, MEMOPT_END_EXEC);
            assert_int_equal(report->processes[1].is_main, 0);
            assert_string_equal(report->processes[1].program, "/usr/bin/true");
        }
        if (rows[i].says != NULL && note_with(report, rows[i].says) == NULL)
            fail_msg("%s: nothing says '%s'", rows[i].label, rows[i].says);
        assert_int_equal(report->note_count, rows[i].says != NULL);
        mo_report_free(report);
    }
    mo_config_free(config);
}

/* The same of a child that is still there: its start and /proc say so. */
static void test_runs_as_another(void **state) {
    (void)state;
    remove_directory();
    assert_int_equal(mkdir(directory, 0700), 0);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        uint64_t begun = since_boot();
        if (write(ends[1], &begun, sizeof(begun)) == (ssize_t)sizeof(begun))
            execlp("sleep", "sleep", "600", (char *)NULL);
        _exit(1);
    }
    uint64_t begun = 0;
    assert_int_equal(read(ends[0], &begun, sizeof(begun)), sizeof(begun));
    close(ends[0]);
    close(ends[1]);
    char path[64], before[256], program[256] = "";
    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    ssize_t length = readlink("/proc/self/exe", before, sizeof(before) - 1);
    before[length] = '\0';
    do { /* until it has executed it; under valgrind it is not `before` until then */
        usleep(1000);
        length = readlink(path, program, sizeof(program) - 1);
        program[length > 0 ? length : 0] = '\0';
    } while (strcmp(before, program) == 0 || strstr(program, "valgrind") != NULL);
    write_ledger(&(struct row){A, 1, 1, 0, 0, 7}, 1);
    write_ledger(&(struct row){pid, 2, 0, 0, 0, begun}, 2); /* of /usr/bin/true */
    struct mo_config *config = config_of("");
    struct memopt_report *report = new_report();
    assert_int_equal(mo_report_read_run(report, directory, A, config, NULL), 0);
    assert_int_equal(report->process_count, 3);
    assert_int_equal(report->processes[1].pid, pid);
    assert_int_equal(report->processes[1].end, MEMOPT_END_EXEC);
    assert_int_equal(report->processes[2].pid, pid);
    assert_int_equal(report->processes[2].end, MEMOPT_END_RUNNING);
    assert_string_equal(report->processes[2].program, program);
    mo_report_free(report);
    mo_config_free(config);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ------------------------------------------------------ what is in a process */

static void test_process(void **state) {
    (void)state;
    remove_directory();
    mkdir(directory, 0700);
    struct image image = make_image();
    struct mo_ledger_header *h = image.header;
    without_tracker(h);
    h->pid = A;
    h->binding = 2;
    strcpy(h->command, "true --really");
    strcpy(h->allocator, "jemalloc");
    h->figures = (struct mo_ledger_figures){.live = 1,
                                            .committed = 2,
                                            .resident = 3,
                                            .retained = 4,
                                            .peak = 5,
                                            .fragmentation = 0.25,
                                            .sequence = 2};
    h->failures = 12;
    static const char notes[] =
        "\2twice\0\2twice\0\1once\0\4overflow 5000000000\nby 3 bytes\nat f\0"
        "\4double-free\nonce more";
    memcpy(image.bytes + NOTES_AT, notes, sizeof(notes));
    h->areas[MO_NOTES].used = sizeof(notes);
    h->areas[MO_HEAPS].full_at = 1500000000;
    struct mo_ledger_heap *heaps = (void *)(image.bytes + HEAPS_AT);
    const struct {
        uint64_t committed, live;
        double fragmentation;
    } rows[] = {{1000, 250, 0.75}, {0, 250, NAN}, {MEMOPT_UNKNOWN, 250, NAN}, {100, 250, NAN}};
    for (size_t i = 0; i < 4; i++) {
        heaps[i].used = i == 1 ? 2 : 1;
        snprintf(heaps[i].name, sizeof(heaps[i].name), "heap%zu", i);
        strcpy(heaps[i].allocator, i == 0 ? "pool" : "");
        heaps[i].limit = i == 0 ? 4096 : UINT64_MAX;
        heaps[i].live_bytes = rows[i].live;
        heaps[i].peak_bytes = 300;
        heaps[i].live_blocks = 4;
        heaps[i].allocations = 5;
        heaps[i].frees = 1;
        heaps[i].refused = 6;
        heaps[i].committed = rows[i].committed;
    }
    put_record(directory, 1, image.bytes, image.size);

    struct mo_config *config = config_of("");
    struct memopt_report *report = new_report();
    assert_int_equal(mo_report_read_run(report, directory, A, config, NULL), 0);
    const struct memopt_process *process = &report->processes[0];
    assert_string_equal(process->program, "/usr/bin/true");
    assert_string_equal(process->command, "true --really");
    assert_string_equal(process->allocator, "jemalloc");
    assert_null(process->allocator_version);
    assert_string_equal(process->binding, "dispatch");
    assert_int_equal(process->heap_live, 1);
    assert_int_equal(process->heap_committed, 2);
    assert_int_equal(process->heap_resident, 3);
    assert_int_equal(process->heap_retained, 4);
    assert_int_equal(process->heap_peak, 5);
    assert_true(isnan(process->fragmentation)); /* 1 live is far from a peak of 5 */
    assert_true(process->peak_rss == MEMOPT_UNKNOWN);
    assert_int_equal(process->has_counts, 0);
    assert_int_equal(process->heap_count, 4);
    for (size_t i = 0; i < 4; i++) {
        const struct memopt_heap_report *heap = &process->heaps[i];
        assert_int_equal(heap->live_bytes, 250);
        assert_int_equal(heap->refused, 6);
        assert_int_equal(heap->name[4], '0' + (int)i);
        if (isnan(rows[i].fragmentation))
            assert_true(isnan(heap->fragmentation));
        else
            assert_true(heap->fragmentation == rows[i].fragmentation);
    }
    assert_string_equal(process->heaps[0].allocator, "pool");
    assert_null(process->heaps[1].allocator);
    assert_int_equal(process->heaps[0].limit, 4096);
    assert_true(process->heaps[1].limit == MEMOPT_UNKNOWN);
    assert_true(process->heaps[1].committed == MEMOPT_UNKNOWN);
    assert_int_equal(report->note_count, 4); /* what is said twice is noted once */
    assert_non_null(note_with(report, "the ledger's area 'heaps' was full 1.5 s after"));
    assert_int_equal(report->notes[0].pid, A);
    assert_int_equal(report->notes[0].level, MEMOPT_NOTE_WARNING);
    assert_string_equal(report->notes[0].text, "twice");
    assert_string_equal(report->notes[1].text, "once");
    assert_int_equal(process->event_count, 2);
    assert_string_equal(process->events[0].kind, "overflow");
    assert_string_equal(process->events[0].text, "by 3 bytes\nat f");
    assert_int_equal(process->events[0].time, 5000000000);
    assert_true(process->events[1].time == MEMOPT_UNKNOWN);
    assert_string_equal(process->events[1].kind, "double-free");
    assert_string_equal(process->events[1].text, "once more");
    assert_non_null(note_with(report, "12 allocations failed: the program"));
    mo_report_free(report);
    h->failures = 1;
    /* more events than a report takes: the rest are notes */
    for (size_t i = 0; i < 300; i++)
        snprintf((char *)image.bytes + NOTES_AT + i * 8, 8, "\4a\n%04zu", i);
    h->areas[MO_NOTES].used = 300 * 8;
    put_record(directory, 1, image.bytes, image.size);
    report = new_report();
    assert_int_equal(mo_report_read_run(report, directory, A, config, NULL), 0);
    assert_non_null(note_with(report, "1 allocation failed: the program"));
    assert_int_equal(report->processes[0].event_count, 256);
    assert_string_equal(report->processes[0].events[255].text, "0255");
    assert_non_null(note_with(report, "0299"));
    mo_report_free(report);

    /* killed, none is not known to be none; at an end, it is; below none it never is */
    for (int round = 0; round < 3; round++) {
        static const uint64_t values[] = {0, 0, (uint64_t)-5};
        uint64_t expected = round == 1 ? 0 : MEMOPT_UNKNOWN;
        h->state = round == 0 ? MO_LEDGER_RUNNING : MO_LEDGER_EXITED;
        heaps[0].live_bytes = heaps[0].live_blocks = heaps[0].peak_bytes = values[round];
        heaps[0].allocations = heaps[0].frees = values[round];
        put_record(directory, 1, image.bytes, image.size);
        report = new_report();
        assert_int_equal(mo_report_read_run(report, directory, A, config, NULL), 0);
        const struct memopt_heap_report *heap = &report->processes[0].heaps[0];
        assert_true(heap->live_bytes == expected && heap->live_blocks == expected);
        assert_true(heap->peak_bytes == expected && heap->allocations == expected);
        assert_true(heap->frees == expected);
        assert_true(isnan(heap->fragmentation) == (round != 1));
        mo_report_free(report);
    }
    h->state = MO_LEDGER_RUNNING;

    /* the user's own malloc serves it: what memopt's allocator says is not the program's */
    h->binding = 0;
    put_record(directory, 1, image.bytes, image.size);
    report = new_report();
    assert_int_equal(mo_report_read_run(report, directory, A, config, NULL), 0);
    process = &report->processes[0];
    assert_true(process->heap_live == MEMOPT_UNKNOWN && process->heap_peak == MEMOPT_UNKNOWN);
    assert_true(process->heap_committed == MEMOPT_UNKNOWN);
    assert_true(process->heap_resident == MEMOPT_UNKNOWN);
    assert_true(process->heap_retained == MEMOPT_UNKNOWN && isnan(process->fragmentation));
    mo_report_free(report);
    h->binding = 2;

    /* fragmentation is that near the peak, or not known */
    static const struct {
        uint64_t live, peak;
        int is_known;
    } peaks[] = {
        {100, 100, 1},           {91, 100, 1}, {89, 100, 0}, {0, 100, 0}, {100, MEMOPT_UNKNOWN, 0},
        {MEMOPT_UNKNOWN, 100, 0}};
    for (size_t i = 0; i < sizeof(peaks) / sizeof(peaks[0]); i++) {
        h->figures.live = peaks[i].live;
        h->figures.peak = peaks[i].peak;
        put_record(directory, 1, image.bytes, image.size);
        report = new_report();
        assert_int_equal(mo_report_read_run(report, directory, A, config, NULL), 0);
        if (isnan(report->processes[0].fragmentation) == peaks[i].is_known)
            fail_msg("fragmentation, row %zu", i);
        mo_report_free(report);
    }
    h->figures.live = h->figures.peak = 100;

    static const double odd[] = {NAN, INFINITY, -INFINITY, -0.1, 1.1};
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        h->figures.fragmentation = odd[i];
        put_record(directory, 1, image.bytes, image.size);
        report = new_report();
        assert_int_equal(mo_report_read_run(report, directory, A, config, NULL), 0);
        assert_true(isnan(report->processes[0].fragmentation));
        mo_report_free(report);
    }
    mo_config_free(config);
    free(image.bytes);
}

/* More programs than rows: the first ones, the main one, those that did not end well and those
 * of which more may become known keep theirs. Folded one by one, or all at the end. */
static void test_many_programs(void **state) {
    (void)state;
    enum { ROWS = 4 };
    static const struct row rows[] = {
        {B, 1, 1, 0, 1, 0},     {A, 2, 0, 0, 0, 7},      {B + 2, 3, 1, 0, 1, 0},
        {B + 3, 4, 1, 0, 1, 0}, {B + 4, 5, 1, 0, 1, 0},  {B + 5, 6, 1, 9, 1, 0},
        {B + 6, 7, 0, 0, 1, 6}, {B + 6, 8, 1, 0, 0, 6},  {B + 7, 9, 0, 0, 1, 0},
        {A, 10, 1, 0, 0, 7},    {B + 8, 11, 1, 0, 1, 0}, {C, 12, 1, MO_LEDGER_STATUS_UNKNOWN, 1, 0},
    };
    enum { COUNT = sizeof(rows) / sizeof(rows[0]) };
    static const struct {
        int64_t pid;
        uint64_t start, merged;
        int end;
    } expected[] = {
        {A, 10, 0, MEMOPT_END_EXIT},       {B, 1, 0, MEMOPT_END_EXIT},
        {A, 2, 0, MEMOPT_END_EXEC},        {B + 2, 3, 0, MEMOPT_END_EXIT},
        {B + 3, 4, 0, MEMOPT_END_EXIT},    {B + 5, 6, 0, MEMOPT_END_EXIT},
        {B + 7, 9, 0, MEMOPT_END_UNKNOWN}, {C, 12, 0, MEMOPT_END_EXIT},
        {0, 5, 3, MEMOPT_END_EXIT},        {0, 7, 1, MEMOPT_END_EXEC},
    };
    struct mo_config *config = config_of("");
    mo_run_rows = ROWS;
    for (int folds = 0; folds < 2; folds++) {
        begin_run();
        struct memopt_report *report = new_report();
        struct memopt_error error = MEMOPT_ERROR_INIT;
        struct mo_run *run;
        assert_int_equal(mo_run_open(report, directory, config, &run, &error), 0);
        for (size_t i = 0; i < COUNT; i++) {
            write_ledger(&rows[i], (unsigned)i + 1);
            if (folds)
                assert_int_equal(mo_run_fold(run, A, &error), 0);
        }
        assert_int_equal(mo_run_finish(run, A, &error), 0);
        mo_run_close(run);
        size_t count = sizeof(expected) / sizeof(expected[0]);
        for (size_t i = 0; i < report->process_count && i < count; i++) {
            const struct memopt_process *process = &report->processes[i];
            if (process->pid != expected[i].pid || process->start_time != expected[i].start ||
                process->merged != expected[i].merged || process->end != expected[i].end)
                fail_msg("%s, row %zu: %lld, start %llu, %llu merged, end %d",
                         folds ? "folded" : "at the end", i, (long long)process->pid,
                         (unsigned long long)process->start_time,
                         (unsigned long long)process->merged, process->end);
        }
        assert_int_equal(report->process_count, count);
        assert_int_equal(report->note_count, 0);
        mo_report_free(report);
    }
    mo_run_rows = MO_ROWS;
    mo_config_free(config);
}

static void test_bad_ledgers(void **state) {
    (void)state;
    remove_directory();
    mkdir(directory, 0700);
    write_ledger(&(struct row){A, 1, 1, 0, 0, 0}, 1);
    put_record(directory, 3, "nonsense", 8);
    struct image image = make_image();
    image.header->version = 1;
    put_record(directory, 5, image.bytes, image.size);
    /* says that it is large: nothing is read that was not written */
    image.header->version = MO_LEDGER_VERSION;
    without_tracker(image.header);
    struct mo_area *threads = &image.header->areas[MO_THREADS];
    threads->limit = UINT64_C(50) << 20;
    threads->backed = threads->limit;
    threads->used = threads->limit;
    put_record(directory, 7, image.bytes, image.size);
    threads->unit = 0;
    put_record(directory, 6, image.bytes, image.size);
    free(image.bytes);
    struct mo_config *config = config_of("");
    struct memopt_report *report = new_report();
    assert_int_equal(mo_report_read_run(report, directory, A, config, NULL), 0);
    assert_int_equal(report->process_count, 2);
    assert_int_equal(report->note_count, 4);
    assert_non_null(note_with(report, "record 6: not a usable ledger: its area 'threads'"));
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    assert_true(RUNNING_ON_VALGRIND || usage.ru_maxrss < 40 << 10);
#endif
    assert_non_null(note_with(report, "record 3: not a usable ledger"));
    assert_non_null(note_with(report, "record 5: written in ledger version 1"));
    assert_non_null(note_with(report, "2 processes died before memopt's record of them"));
    mo_report_free(report);

    static const struct {
        const char *path;
        int code;
    } rows[] = {{"/tmp/memopt-there-is-no-such", -ENOENT}, {"/etc/passwd", -ENOTDIR}};
    for (size_t i = 0; i < 2; i++) {
        struct memopt_error error = MEMOPT_ERROR_INIT;
        report = new_report();
        assert_int_equal(mo_report_read_run(report, rows[i].path, A, config, &error), rows[i].code);
        assert_non_null(strstr(error.message, rows[i].path));
        mo_report_free(report);
    }
    mo_config_free(config);
}

/* ---------------------------------------------------------------- trackers */

static void test_foreign_trackers(void **state) {
    (void)state;
    static const struct {
        const char *ini, *name;
        uint32_t version;
        const char *says;
    } rows[] = {
        {"", "stats", 1, "the tracker 'stats' left data, but the configuration does not name it"},
        {"[memopt]\ntrackers = stats\n", "count", 1, "the tracker 'count' left data, but"},
        {"[memopt]\ntrackers = stats\n", "stats", 99, "version 99, this memopt reads version 4"},
        {"[memopt]\ntrackers = stats\n", MO_TALLY_NAME, 9, "counts are of version 9"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        remove_directory();
        mkdir(directory, 0700);
        struct image image = make_image();
        strcpy(image.header->areas[IN_SLOT].name, rows[i].name);
        image.header->areas[IN_SLOT].version = rows[i].version;
        put_record(directory, 1, image.bytes, image.size);
        struct mo_config *config = config_of(rows[i].ini);
        struct memopt_report *report = new_report();
        assert_int_equal(mo_report_read_run(report, directory, 42, config, NULL), 0);
        assert_int_equal(report->process_count, 1);
        assert_int_equal(report->processes[0].has_counts, 0);
        if (note_with(report, rows[i].says) == NULL)
            fail_msg("nothing says '%s'", rows[i].says);
        mo_report_free(report);
        mo_config_free(config);
        free(image.bytes);
    }
}

/* A process with the real writer and counts, killed after them. */
static void be_a_program(void) {
    struct mo_slot_state states[] = {{MO_TALLY_NAME, MO_TALLY_VERSION, sizeof(struct mo_tally), 0},
                                     {"stats", 4, 0, 0}};
    struct mo_ledger_plan plan = {
        .directory = directory, .binding = 2, .states = states, .state_count = 2};
    if (mo_ledger_create(&plan, 0, NULL, NULL) < 0)
        _exit(1);
    struct mo_tally *tally = (void *)((char *)mo_ledger_attach() + states[0].offset);
    for (int i = 0; i < 10; i++)
        mo_count_alloc(tally, 100, 104, MEMOPT_EVENT_MALLOC);
    mo_count_free(tally, 104);
    raise(SIGKILL);
}

static pid_t run_a_program(void) {
    begin_run();
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        be_a_program();
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    return pid;
}

/* Threads that share a slot may have missed events: their counts are not the program's. */
static void test_shared_slots(void **state) {
    (void)state;
    pid_t pid = run_a_program();
    struct mo_config *config = config_of("[memopt]\ntrackers = stats\n");
    for (uint32_t shares = 0; shares < 2; shares++) {
        struct mo_ledgers head;
        int fd = open_records(directory, &head);
        assert_int_equal(
            pwrite(fd, &shares, sizeof(shares),
                   (off_t)(head.stride + offsetof(struct mo_ledger_header, shares_slots))),
            sizeof(shares));
        close(fd);
        struct memopt_report *report = new_report();
        assert_int_equal(mo_report_read_run(report, directory, pid, config, NULL), 0);
        const struct memopt_process *process = &report->processes[0];
        assert_int_equal(process->has_counts, !shares);
        assert_int_equal(process->thread_count > 0, !shares);
        assert_int_equal(process->histogram_count > 0, !shares);
        mo_report_free(report);
    }
    mo_config_free(config);
}

static void test_killed_program(void **state) {
    (void)state;
    pid_t pid = run_a_program();
    struct mo_config *config = config_of("[memopt]\ntrackers = stats\n");
    struct memopt_report *report = new_report();
    struct memopt_error error = MEMOPT_ERROR_INIT;
    char *argv[] = {(char[]){"/bin/program"}, (char[]){"argument"}, NULL};
    struct rusage usage = {.ru_maxrss = 4321,
                           .ru_minflt = 7,
                           .ru_majflt = 8,
                           .ru_nvcsw = 9,
                           .ru_nivcsw = 10,
                           .ru_utime = {1, 2},
                           .ru_stime = {3, 4}};
    assert_int_equal(mo_report_begin(report, argv, &error), 0);
    assert_int_equal(mo_report_read_run(report, directory, pid, config, &error), 0);
    assert_int_equal(mo_report_end(report, pid, SIGKILL, &usage, 5, &error), 0);
    assert_int_equal(report->process_count, 1);
    const struct memopt_process *process = &report->processes[0];
    assert_int_equal(process->pid, pid);
    assert_int_equal(process->is_main, 1);
    assert_int_equal(process->end, MEMOPT_END_SIGNAL);
    assert_int_equal(process->end_value, SIGKILL);
    assert_int_equal(process->has_counts, 1);
    assert_int_equal(process->counts.allocations, 10);
    assert_int_equal(process->counts.live_bytes, 936);
    assert_int_equal(process->counts.peak_bytes, 1040);
    assert_int_equal(process->thread_count, 1);
    assert_int_equal(process->threads[0].tid, pid);
    assert_int_equal(report->exit_signal, SIGKILL);
    assert_int_equal(report->exit_status, 128 + SIGKILL);
    assert_int_equal(report->wall_time, 5);
    assert_int_equal(report->user_time, 1000002000);
    assert_int_equal(report->system_time, 3000004000);
    assert_int_equal(report->minor_faults, 7);
    assert_int_equal(report->major_faults, 8);
    assert_int_equal(report->voluntary_switches, 9);
    assert_int_equal(report->involuntary_switches, 10);
    assert_int_equal(report->peak_rss, 4321 * 1024); /* the process could not say */
    assert_string_equal(report->argv[1], "argument");
    assert_null(report->argv[2]);
    assert_ptr_not_equal(report->argv[1], argv[1]);
    assert_int_equal(report->note_count, 0);
    mo_report_free(report);
    mo_config_free(config);
}

/* A program without a ledger is still a process, before all others. */
static void test_end_without_ledger(void **state) {
    (void)state;
    begin_run();
    for (int others = 0; others < 2; others++) {
        if (others)
            write_ledger(&(struct row){B, 1, 1, 0, 1, 0}, 1);
        struct mo_config *config = config_of("");
        struct memopt_report *report = new_report();
        char *argv[] = {(char[]){"/bin/static"}, NULL};
        assert_int_equal(mo_report_begin(report, argv, NULL), 0);
        assert_int_equal(mo_report_read_run(report, directory, A, config, NULL), 0);
        assert_int_equal(mo_report_end(report, A, 3 << 8, NULL, MEMOPT_UNKNOWN, NULL), 0);
        assert_int_equal(report->process_count, 1 + others);
        assert_int_equal(report->processes[0].pid, A);
        assert_int_equal(report->processes[0].is_main, 1);
        assert_string_equal(report->processes[0].program, "/bin/static");
        assert_string_equal(report->processes[0].binding, "none");
        assert_int_equal(report->processes[0].end, MEMOPT_END_EXIT);
        assert_int_equal(report->processes[0].end_value, 3);
        assert_int_equal(report->exit_status, 3);
        assert_int_equal(report->exit_signal, 0);
        assert_true(report->user_time == MEMOPT_UNKNOWN);
        if (others) {
            assert_int_equal(report->processes[1].pid, B);
            assert_true(report->peak_rss == MEMOPT_UNKNOWN);
        } else {
            assert_true(report->peak_rss == MEMOPT_UNKNOWN);
        }
        mo_report_free(report);
        mo_config_free(config);
    }
}

/* What the kernel carries over execve() is no size of the program's. */
static void test_peak_of_child(void **state) {
    (void)state;
    enum { KIB = 1024, LAUNCHER = 5000, LARGE = 4 << 20 };
    static const struct {
        long maxrss; /* KiB */
        uint64_t launcher, want;
    } rows[] = {
        {LARGE, (uint64_t)LAUNCHER * KIB, (uint64_t)LARGE * KIB},
        {LAUNCHER, (uint64_t)LAUNCHER * KIB, MEMOPT_UNKNOWN},
        {LAUNCHER + 4, (uint64_t)LAUNCHER * KIB, MEMOPT_UNKNOWN}, /* within what it may be off */
        {LAUNCHER - 4, (uint64_t)LAUNCHER * KIB, MEMOPT_UNKNOWN},
        {0, 0, MEMOPT_UNKNOWN},
        {LARGE, 0, (uint64_t)LARGE * KIB},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rusage usage = {.ru_maxrss = rows[i].maxrss};
        assert_true(mo_peak_of_child(&usage, rows[i].launcher) == rows[i].want);
    }
    size_t size = 64 << 20;
    char *p = malloc(size);
    assert_non_null(p);
    memset(p, 1, size);
    assert_true(p[size - 1] == 1 && mo_peak_of_this_process() > size / 2);
    free(p);
    assert_true(mo_peak_of_this_process() != MEMOPT_UNKNOWN &&
                mo_peak_of_this_process() > size / 2);
}

static void test_set_peak(void **state) {
    (void)state;
    enum { NONE = -1 };
    static const struct {
        int all, main;                  /* what the kernel says */
        int own, other, least, is_exec; /* of the main process and of another */
        int want_all, want_main;
        int seen; /* of the main process, from outside; 0: nothing */
    } rows[] = {
        {500, 500, NONE, NONE, NONE, 0, 500, 500, 0},
        {500, NONE, NONE, 400, NONE, 0, 500, NONE, 0}, /* may be a child's */
        {NONE, NONE, NONE, 400, NONE, 0, 400, NONE, 0},
        {500, 500, 300, NONE, NONE, 0, 500, 300, 0}, /* the ledger's is better */
        {500, 500, NONE, NONE, 2 << 20, 0, NONE, 500, 0},
        {500, 500, NONE, NONE, 700, 0, 700, 500, 0}, /* the same, counted otherwise */
        {500, 500, NONE, NONE, 400, 0, 500, 500, 0},
        {500, 500, NONE, 800, 700, 0, 800, 500, 0},
        {500, 500, NONE, 400, NONE, 1, 500, NONE, 0},
        {NONE, NONE, NONE, NONE, NONE, 0, NONE, NONE, 0},
        /* the kernel's maximum lags behind what was seen */
        {500, 500, NONE, NONE, NONE, 0, 600, 600, 600},
        {500, 500, NONE, NONE, NONE, 0, 500, 500, 400},
        {500, 500, NONE, NONE, NONE, 0, 3 << 20, 3 << 20, 3 << 20},
        {500, NONE, NONE, NONE, NONE, 0, 3 << 20, NONE, 3 << 20},
        {500, 500, NONE, NONE, NONE, 1, 600, NONE, 600},
        {NONE, NONE, NONE, NONE, NONE, 0, NONE, NONE, 600}, /* a bound only */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct memopt_report *report = new_report();
        struct mo_model *model = mo_model_of(report);
        struct memopt_process *process = mo_model_add_process(model);
        assert_non_null(process);
        if (rows[i].seen > 0)
            process->peak_rss_least = (uint64_t)rows[i].seen;
        process->pid = A;
        process->is_main = 1;
        process->peak_rss = (uint64_t)(int64_t)rows[i].own;
        process = mo_model_add_process(model);
        assert_non_null(process);
        process->pid = rows[i].is_exec ? A : B;
        process->peak_rss = (uint64_t)(int64_t)rows[i].other;
        process->peak_rss_least = (uint64_t)(int64_t)rows[i].least;
        mo_report_set_peak(report, (uint64_t)(int64_t)rows[i].all, (uint64_t)(int64_t)rows[i].main);
        if (report->peak_rss != (uint64_t)(int64_t)rows[i].want_all ||
            report->processes[0].peak_rss != (uint64_t)(int64_t)rows[i].want_main)
            fail_msg("row %zu: %lld, %lld", i, (long long)report->peak_rss,
                     (long long)report->processes[0].peak_rss);
        mo_report_free(report);
    }
}

static void test_host_notes(void **state) {
    (void)state;
    struct memopt_report *report = new_report();
    mo_host.note(MEMOPT_NOTE_INFO, "to nobody");
    mo_report_collect_notes(report);
    mo_host.note(MEMOPT_NOTE_WARNING, "number %d", 7);
    mo_host.note(MEMOPT_NOTE_WARNING, "number %d", 7);
    for (int i = 0; i < 100; i++)
        mo_host.note(MEMOPT_NOTE_INFO, "many %d", i);
    assert_int_equal(report->note_count, 101);
    assert_string_equal(report->notes[0].text, "number 7");
    assert_int_equal(report->notes[0].level, MEMOPT_NOTE_WARNING);
    assert_string_equal(report->notes[100].text, "many 99");
    mo_report_free(report);
    mo_host.note(MEMOPT_NOTE_INFO, "to one that is gone"); /* must not crash */
}

/* --------------------------------------------------------------- reporters */

static size_t size_of(const char *name) {
    struct stat st;
    return stat(in_directory(name), &st) == 0 ? (size_t)st.st_size : 0;
}

static struct memopt_report *small_report(void) {
    struct memopt_report *report = new_report();
    char *argv[] = {(char[]){"/bin/program"}, NULL};
    assert_int_equal(mo_report_begin(report, argv, NULL), 0);
    assert_int_equal(mo_report_end(report, A, 0, NULL, 1, NULL), 0);
    return report;
}

static struct mo_config *config_for(const char *format) {
    char ini[1024];
    snprintf(ini, sizeof(ini), format, directory, directory);
    return config_of(ini);
}

static void test_reporters(void **state) {
    (void)state;
    remove_directory();
    mkdir(directory, 0700);
    struct memopt_report *report = small_report();
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_config *config = config_for("[memopt]\nreporters = text, json\n"
                                          "[reporter.text]\noutput = %s/%%e.txt\ndetail = full\n"
                                          "[reporter.json]\noutput = %s/%%p.json\nindent = 0\n");
    assert_int_equal(mo_report_write(report, config, 0, &error), 0);
    assert_true(size_of("program.txt") > 0);
    assert_true(size_of("8388608.json") > 0);
    assert_int_equal(
        mo_report_write_one(report, config, "json", in_directory("other.json"), 0, &error), 0);
    assert_int_equal(size_of("other.json"), size_of("8388608.json"));
    mo_config_free(config);

    /* One fails, the other runs all the same; both are named. */
    static const char *const bad[] = {
        "[memopt]\nreporters = json, text\n[reporter.json]\noutput = %s/none/x.json\n"
        "[reporter.text]\noutput = %s/after.txt\n",
        "[memopt]\nreporters = text, json\n[reporter.text]\noutput = %s/after.txt\n"
        "[reporter.json]\noutput = %s/none/x.json\n",
        "[memopt]\nreporters = json, text\n[reporter.json]\noutput = /dev/full\n"
        "[reporter.text]\noutput = %s/after.txt\n",
    };
    static const int codes[] = {-ENOENT, -ENOENT, -ENOSPC};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        unlink(in_directory("after.txt"));
        config = config_for(bad[i]);
        assert_int_equal(mo_report_write(report, config, 0, &error), codes[i]);
        assert_int_equal(error.code, codes[i]);
        assert_true(strncmp(error.message, "reporter 'json': '", 18) == 0);
        assert_null(strchr(error.message, '\n'));
        assert_true(size_of("after.txt") > 0);
        mo_config_free(config);
    }
    config = config_for("[memopt]\nreporters = json, text\n[reporter.json]\noutput = %s/none/x\n"
                        "[reporter.text]\noutput = /dev/full\n");
    assert_int_equal(mo_report_write(report, config, 0, &error), -ENOENT);
    assert_non_null(strstr(error.message, "\nreporter 'text': "));
    assert_int_equal(mo_report_write_one(report, config, "nonsuch", NULL, 0, &error), -ENOENT);
    assert_non_null(strstr(error.message, "nonsuch"));
    mo_config_free(config);
    mo_report_free(report);
}

static void test_quiet(void **state) {
    (void)state;
    struct memopt_report *report = small_report();
    struct mo_config *config = config_of("[memopt]\nreporters = text\n");
    for (int quiet = 0; quiet < 2; quiet++) {
        int file = open(in_directory("stderr"), O_RDWR | O_CREAT | O_TRUNC, 0600);
        int saved = dup(STDERR_FILENO);
        dup2(file, STDERR_FILENO);
        int r = mo_report_write(report, config, quiet ? MO_REPORT_QUIET : 0, NULL);
        dup2(saved, STDERR_FILENO);
        close(saved);
        close(file);
        assert_int_equal(r, 0);
        assert_int_equal(size_of("stderr") > 0, !quiet);
    }
    mo_config_free(config);
    mo_report_free(report);
}

/* --------------------------------------------------------------- no memory */

static int everything(struct mo_config *config, pid_t pid, struct memopt_error *error) {
    struct memopt_report *report;
    char *argv[] = {(char[]){"/bin/program"}, NULL};
    int r = mo_report_new(&report, error);
    if (r < 0)
        return r;
    r = mo_report_begin(report, argv, error);
    if (r == 0)
        r = mo_report_read_run(report, directory, pid, config, error);
    if (r == 0)
        r = mo_report_end(report, pid, 0, NULL, 1, error);
    if (r == 0)
        r = mo_report_write(report, config, 0, error);
    /* What was not refused is whole: a counted process. */
    if (r == 0)
        assert_true(report->process_count == 1 && report->processes[0].has_counts);
    mo_report_free(report);
    return r;
}

static void test_out_of_memory(void **state) {
    (void)state;
    pid_t pid = run_a_program();
    struct mo_config *config = config_for("[memopt]\ntrackers = stats\nreporters = text\n"
                                          "[reporter.text]\noutput = %s/report.txt\n");
    for (int for_good = 0; for_good < 2; for_good++) {
        for (long nth = 1;; nth++) {
            struct memopt_error error = MEMOPT_ERROR_INIT;
            fault_arm(nth, for_good);
            int r = everything(config, pid, &error);
            long fired = fault.fired;
            fault_arm(0, 0);
            if (fired == 0) {
                assert_int_equal(r, 0);
                assert_true(nth > 5);
                break;
            }
            if (r != -ENOMEM || strstr(error.message, "memory") == NULL)
                fail_msg("allocation %ld: %d '%s'", nth, r, error.message);
            assert_int_equal(size_of("report.txt"), 0);
        }
        assert_true(size_of("report.txt") > 0);
        unlink(in_directory("report.txt"));
    }
    mo_config_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_ends),
        cmocka_unit_test(test_became_another),
        cmocka_unit_test(test_runs_as_another),
        cmocka_unit_test(test_process),
        cmocka_unit_test(test_many_programs),
        cmocka_unit_test(test_bad_ledgers),
        cmocka_unit_test(test_foreign_trackers),
        cmocka_unit_test(test_shared_slots),
        cmocka_unit_test(test_killed_program),
        cmocka_unit_test(test_end_without_ledger),
        cmocka_unit_test(test_host_notes),
        cmocka_unit_test(test_reporters),
        cmocka_unit_test(test_peak_of_child),
        cmocka_unit_test(test_set_peak),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("report model", tests, set_up, tear_down);
}
