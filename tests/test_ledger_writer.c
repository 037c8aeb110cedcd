/* test_ledger_writer.c - the ledger's file as a second process sees it: header,
 * notes, heaps, growth by threads, fork, the end, and what can't be created. */
#include "core/ledger/reader.h"
#include "core/ledger/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/report_ledger.h"

static char directory[64];

struct count {
    uint64_t n;
};

static void fold(void *self, void *ended, void *thread) {
    (void)self;
    ((struct count *)ended)->n += ((struct count *)thread)->n;
}

/* The child starts with the sum of all of the parent's threads. */
static void inherit(void *self, void *process, void *const *threads, size_t count) {
    (void)self;
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += ((struct count *)threads[i])->n;
        ((struct count *)threads[i])->n = 0;
    }
    ((struct count *)threads[0])->n = sum;
    ((struct count *)process)->n = sum;
}

static const struct memopt_tracker_ops ops = {.size = sizeof(ops),
                                              .process_size = sizeof(struct count),
                                              .thread_size = sizeof(struct count),
                                              .thread_end = fold,
                                              .fork_child = inherit};

static struct count *in_slot(void *slot) {
    return (struct count *)((char *)slot + mo_ledger_thread_offset(0));
}

/* Each test runs in a child: a process has one ledger. */
static void in_child(void (*test)(void)) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        test();
        exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

#define check(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static char *const arguments[] = {(char[]){"writer"}, (char[]){"of a ledger"}, NULL};

static void create(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_ledger_plan plan = {.directory = directory, .binding = 2, .tracker_count = 1};
    plan.trackers[0].name = "count";
    plan.trackers[0].ops = &ops;
    if (mo_ledger_create(&plan, 2, arguments, &error) != 0) {
        fprintf(stderr, "%s\n", error.message);
        _exit(1);
    }
}

/* The nth record of process `pid`, as a reader maps it. */
static const struct mo_ledger_header *open_ledger(pid_t pid, unsigned n) {
    struct mo_ledgers_file file;
    int at = open(directory, O_RDONLY | O_DIRECTORY);
    struct memopt_error error = MEMOPT_ERROR_INIT;
    check(mo_ledgers_open(at, &file, &error) == 0);
    close(at);
    uint64_t place = find_record(&file, pid, n);
    void *map =
        place == 0 ? MAP_FAILED : mmap(NULL, 1 << 20, PROT_READ, MAP_SHARED, file.fd, (off_t)place);
    mo_ledgers_close(&file);
    return map == MAP_FAILED ? NULL : map;
}

static void header_body(void) {
    create();
    mo_ledger_set_allocator("mine", "3.1");
    mo_ledger_note(MEMOPT_NOTE_WARNING, "first");
    mo_ledger_note(MEMOPT_NOTE_ERROR, "second");
    mo_ledger_event("overflow", "by 3");
    struct mo_ledger_heap *heap = mo_ledger_heap_slot("gradients", "pool");
    atomic_store(&heap->live_bytes, 42);
    const struct mo_ledger_header *seen = open_ledger(getpid(), 0);
    check(seen != NULL);
    check(memcmp(seen->magic, MO_LEDGER_MAGIC, 8) == 0);
    check(seen->version == MO_LEDGER_VERSION);
    check(seen->pid == getpid() && seen->ppid == getppid());
    check(strstr(seen->exe, "test_ledger_writer") != NULL);
    check(strcmp(seen->command, "writer of a ledger") == 0);
    check(strcmp(seen->allocator, "mine") == 0);
    check(seen->state == MO_LEDGER_RUNNING);
    char name[16] = ""; /* valgrind's, under it */
    check(prctl(PR_GET_NAME, name) == 0 && strncmp(seen->name, name, sizeof(name) - 1) == 0);
    check(seen->begun > 0);
    const char *notes = (const char *)seen + seen->notes_offset;
    check(memcmp(notes, "\2first\0\3second\0\4overflow ", 25) == 0);
    char *end;
    unsigned long long time = strtoull(notes + 25, &end, 10);
    check(end > notes + 25 && time < 60000000000u && strcmp(end, "\nby 3") == 0);
    const struct mo_ledger_heap *heaps = (const void *)((const char *)seen + seen->heaps_offset);
    check(seen->heaps_used == 1 && strcmp(heaps[0].name, "gradients") == 0);
    check(heaps[0].live_bytes == 42 && heaps[0].limit == UINT64_MAX);
    struct memopt_figures figures = {.size = sizeof(figures), .live = 5, .committed = 10};
    check(seen->figures.sequence == 0);
    mo_ledger_set_figures(&figures);
    check(seen->figures.sequence == 2 && seen->figures.committed == 10);
    mo_ledger_end(3);
    check(seen->state == MO_LEDGER_EXITED && seen->exit_status == 3);
    check(seen->end_time >= seen->start_time);
    for (int i = 0; i < 100; i++)
        mo_ledger_heap_slot("x", "y");
    check(seen->heaps_used == MO_LEDGER_HEAPS);
    char text[1000];
    memset(text, 'n', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (int i = 0; i < 100; i++)
        mo_ledger_note(MEMOPT_NOTE_INFO, text);
    check(seen->notes_used <= MO_LEDGER_NOTES);
}

static void header(void **state) {
    (void)state;
    in_child(header_body);
}

static pthread_barrier_t barrier;
static void *hold_a_slot(void *unused) {
    void *slot = mo_ledger_attach();
    in_slot(slot)->n += 1;
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    mo_ledger_detach(slot);
    return unused;
}

enum { MANY = 3 * MO_LEDGER_GROW };

static void grow_body(void) {
    create();
    pthread_barrier_init(&barrier, NULL, MANY + 1);
    pthread_t threads[MANY];
    for (int i = 0; i < MANY; i++)
        check(pthread_create(&threads[i], NULL, hold_a_slot, NULL) == 0);
    pthread_barrier_wait(&barrier);
    const struct mo_ledger_header *seen = open_ledger(getpid(), 0);
    check(seen->threads_grown >= MANY);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < seen->threads_grown; i++) {
        const char *slot = (const char *)seen + seen->threads_offset + i * seen->thread_stride;
        sum += ((const struct count *)(slot + seen->trackers[0].thread_offset))->n;
    }
    check(sum == MANY);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
    /* When there is no free slot left, they are all folded. */
    for (uint32_t slots = seen->threads_grown; slots > MANY; slots--)
        mo_ledger_attach();
    check(in_slot((char *)mo_ledger() + seen->threads_offset)->n == MANY);
}

static void threads_beyond_the_first_slots(void **state) {
    (void)state;
    in_child(grow_body);
}

static void fork_body(void) {
    create();
    void *slot = mo_ledger_attach();
    in_slot(slot)->n = 10;
    in_slot((char *)mo_ledger() + mo_ledger()->threads_offset)->n = 5; /* ended threads */
    mo_ledger_note(MEMOPT_NOTE_INFO, "the parent's");
    mo_ledger_before_fork(slot);
    pid_t pid = fork();
    if (pid == 0) {
        /* what the parent does meanwhile must not be seen here */
        usleep(20000);
        mo_ledger_after_fork_child(slot);
        check(in_slot(slot)->n == 15);
        in_slot(slot)->n += 1;
        mo_ledger_end(0);
        _exit(0);
    }
    in_slot(slot)->n = 1000;
    int status;
    check(waitpid(pid, &status, 0) == pid && status == 0);
    check(in_slot(slot)->n == 1000);
    const struct mo_ledger_header *child = open_ledger(pid, 0);
    check(child != NULL);
    check(child->pid == pid && child->ppid == getpid() && child->forked == 1);
    check(child->notes_used == 0);
    check(child->state == MO_LEDGER_EXITED);
    const char *first = (const char *)child + child->threads_offset + child->thread_stride;
    check(((const struct count *)(first + child->trackers[0].thread_offset))->n == 16);
    check(mo_ledger()->state == MO_LEDGER_RUNNING);
    check(mo_ledger()->forked == 0);
}

static void a_fork_has_a_ledger_of_its_own(void **state) {
    (void)state;
    in_child(fork_body);
}

/* The run directory is gone: the child goes on, in memory nobody reads. */
static void orphan_body(void) {
    create();
    void *slot = mo_ledger_attach();
    in_slot(slot)->n = 10;
    char away[100];
    snprintf(away, sizeof(away), "%s-away", directory);
    mo_ledger_before_fork(slot);
    check(rename(directory, away) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        mo_ledger_after_fork_child(slot);
        check(in_slot(slot)->n == 10);
        in_slot(slot)->n = 99;
        _exit(0);
    }
    int status;
    check(waitpid(pid, &status, 0) == pid && status == 0);
    check(rename(away, directory) == 0);
    check(in_slot(slot)->n == 10);
    check(open_ledger(pid, 0) == NULL);
}

static void a_fork_without_the_directory(void **state) {
    (void)state;
    in_child(orphan_body);
}

/* exec keeps the pid: the second image's record is another. */
static void exec_body(void) {
    create();
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_ledger_plan plan = {.directory = directory, .binding = 1};
    check(mo_ledger_create(&plan, 2, arguments, &error) == 0);
    check(open_ledger(getpid(), 0) != NULL && open_ledger(getpid(), 1) != NULL);
    check(open_ledger(getpid(), 1)->tracker_count == 0);
    check(open_ledger(getpid(), 0)->process_start == 0);
    check(open_ledger(getpid(), 1)->process_start != 0); /* as it may be an exec */
}

static void the_same_pid_again(void **state) {
    (void)state;
    in_child(exec_body);
}

static void refused_body(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_ledger_plan plan = {.directory = "/nonexistent/run", .binding = 1};
    check(mo_ledger_create(&plan, 2, arguments, &error) == -ENOENT);
    check(strstr(error.message, "cannot open the run directory '/nonexistent/run'") != NULL);
    check(mo_ledger() == NULL);
    mo_ledger_note(1, "no ledger");
    mo_ledger_end(0);
    check(mo_ledger_heap_slot("a", "b") == NULL);
    /* states for which there is no room between two records */
    static const struct memopt_tracker_ops large = {
        .size = sizeof(large), .state_version = 1, .process_size = 8, .thread_size = 1u << 31};
    plan = (struct mo_ledger_plan){.directory = directory, .binding = 2, .tracker_count = 1};
    plan.trackers[0].name = "large";
    plan.trackers[0].ops = &large;
    check(mo_ledger_create(&plan, 2, arguments, &error) == -EFBIG);
    check(strstr(error.message, "need more room") != NULL);
    check(open_ledger(getpid(), 0) == NULL); /* nothing is left behind */
}

/* A limit of file sizes is of no account: the file has its size already. */
static void limited_body(void) {
    struct rlimit small = {1000, RLIM_INFINITY};
    check(setrlimit(RLIMIT_FSIZE, &small) == 0);
    create();
    check(open_ledger(getpid(), 0) != NULL);
    small.rlim_cur = RLIM_INFINITY; /* a coverage build writes files at exit */
    check(setrlimit(RLIMIT_FSIZE, &small) == 0);
}

static void under_a_limit_of_file_sizes(void **state) {
    (void)state;
    in_child(limited_body);
}

/* Where memopt itself is under one, there is room for few. */
static void small_body(void) {
    char elsewhere[100];
    snprintf(elsewhere, sizeof(elsewhere), "%s/small", directory);
    check(mkdir(elsewhere, 0700) == 0);
    strcat(directory, "/small");
    struct rlimit small = {4 * MO_LEDGERS_STRIDE_MIN, RLIM_INFINITY};
    check(setrlimit(RLIMIT_FSIZE, &small) == 0);
    int at = open(directory, O_RDONLY | O_DIRECTORY);
    check(mo_ledgers_make(at, NULL) == 0);
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_ledger_plan plan = {.directory = directory, .binding = 1};
    for (int i = 0; i < 3; i++)
        check(mo_ledger_create(&plan, 2, arguments, &error) == 0);
    check(mo_ledger_create(&plan, 2, arguments, &error) == -ENOSPC);
    check(open_ledger(getpid(), 2) != NULL && open_ledger(getpid(), 3) == NULL);
    small.rlim_cur = RLIM_INFINITY;
    check(setrlimit(RLIMIT_FSIZE, &small) == 0);
}

static void a_small_file(void **state) {
    (void)state;
    in_child(small_body);
}

static void refused(void **state) {
    (void)state;
    in_child(refused_body);
}

static int setup(void **state) {
    (void)state;
    strcpy(directory, "/tmp/memopt-test-XXXXXX");
    int at = mkdtemp(directory) == NULL ? -1 : open(directory, O_RDONLY | O_DIRECTORY);
    int r = at < 0 ? -1 : mo_ledgers_make(at, NULL);
    close(at);
    return r;
}

static int teardown(void **state) {
    (void)state;
    char command[100];
    snprintf(command, sizeof(command), "rm -r %s", directory);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header),
        cmocka_unit_test(threads_beyond_the_first_slots),
        cmocka_unit_test(a_fork_has_a_ledger_of_its_own),
        cmocka_unit_test(a_fork_without_the_directory),
        cmocka_unit_test(the_same_pid_again),
        cmocka_unit_test(refused),
        cmocka_unit_test(under_a_limit_of_file_sizes),
        cmocka_unit_test(a_small_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
