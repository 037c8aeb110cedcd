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

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "tests/report_ledger.h"

static char directory[64];

struct count {
    uint64_t n;
};

static struct mo_slot_state states[] = {{"counts", 1, 8, 0}, {"mine", 7, sizeof(struct count), 0}};

static struct count *in_slot(void *slot) {
    return (struct count *)(void *)((char *)slot + states[1].offset);
}

static void fold(void *ended, void *slot) {
    in_slot(ended)->n += in_slot(slot)->n;
    in_slot(slot)->n = 0;
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
    struct mo_ledger_plan plan = {.directory = directory,
                                  .binding = 2,
                                  .states = states,
                                  .state_count = 2,
                                  .fold = fold};
    if (mo_ledger_create(&plan, 2, arguments, &error) != 0) {
        fprintf(stderr, "%s\n", error.message);
        _exit(1);
    }
}

/* What a reader sees of an area. */
static const void *area_of(const struct mo_ledger_header *seen, size_t area) {
    return (const char *)seen + seen->areas[area].offset;
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
        place == 0 ? MAP_FAILED : mmap(NULL, 1 << 30, PROT_READ, MAP_SHARED, file.fd, (off_t)place);
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
    const char *notes = area_of(seen, MO_NOTES);
    check(strcmp(seen->areas[MO_NOTES].name, MO_AREA_NOTES) == 0);
    check(memcmp(notes, "\2first\0\3second\0\4overflow ", 25) == 0);
    char *end;
    unsigned long long time = strtoull(notes + 25, &end, 10);
    check(end > notes + 25 && time < 60000000000u && strcmp(end, "\nby 3") == 0);
    const struct mo_ledger_heap *heaps = area_of(seen, MO_HEAPS);
    check(seen->areas[MO_HEAPS].used == sizeof(*heaps) && strcmp(heaps[0].name, "gradients") == 0);
    check(heaps[0].live_bytes == 42 && heaps[0].limit == UINT64_MAX);
    struct memopt_figures figures = {.size = sizeof(figures), .live = 5, .committed = 10};
    check(seen->figures.sequence == 0);
    mo_ledger_set_figures(&figures);
    check(seen->figures.sequence == 2 && seen->figures.committed == 10);
    mo_ledger_end(3);
    check(seen->state == MO_LEDGER_EXITED && seen->exit_status == 3);
    check(seen->end_time >= seen->start_time);
    check(mo_ledger_heap_number(heap) == 1);
    for (uint32_t i = 2; i <= 1000; i++)
        check(mo_ledger_heap_number(mo_ledger_heap_slot("x", "y")) == i);
    check(heap == mo_ledger_heap_slot("z", "y") - 1000 && heap->live_bytes == 42);
    check(seen->areas[MO_HEAPS].used == 1001 * sizeof(*heaps));
    check(seen->areas[MO_HEAPS].backed >= seen->areas[MO_HEAPS].used);
    char text[1000];
    memset(text, 'n', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (int i = 0; i < 2000; i++)
        mo_ledger_note(MEMOPT_NOTE_INFO, text);
    const struct mo_area *full = &seen->areas[MO_NOTES];
    check(full->used <= full->limit && full->used > full->limit - sizeof(text) - 2);
    check(full->full_at != 0 && seen->areas[MO_HEAPS].full_at == 0);
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
    pthread_t threads_of[MANY];
    for (int i = 0; i < MANY; i++)
        check(pthread_create(&threads_of[i], NULL, hold_a_slot, NULL) == 0);
    pthread_barrier_wait(&barrier);
    const struct mo_ledger_header *seen = open_ledger(getpid(), 0);
    const struct mo_area *threads = &seen->areas[MO_THREADS];
    check(threads->used / threads->unit > MANY && threads->used <= threads->backed);
    uint64_t sum = 0;
    for (uint64_t at = 0; at < threads->used; at += threads->unit)
        sum += ((const struct count *)(const void *)((const char *)area_of(seen, MO_THREADS) + at +
                                                     states[1].offset))
                   ->n;
    check(sum == MANY);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < MANY; i++)
        pthread_join(threads_of[i], NULL);
    /* When there is no free slot left, they are all folded. */
    for (uint64_t slots = threads->backed / threads->unit; slots > MANY; slots--)
        mo_ledger_attach();
    check(in_slot(mo_ledger_slot(0))->n == MANY);
}

static void threads_beyond_the_first_slots(void **state) {
    (void)state;
    in_child(grow_body);
}

/* A tracker's area: its room, its growth, and what a forked child has of it. */
static uint32_t *elements;
static void area_body(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    create();
    check(mo_ledger_area("mine.none", 1, 0, 5, &error) == NULL && error.code == -EINVAL);
    check(mo_ledger_area("mine.huge", 1, 8, UINT64_MAX / 4, &error) == NULL);
    elements = mo_ledger_area("mine.nodes", 3, sizeof(*elements), 5000, &error);
    check(elements != NULL);
    check(mo_ledger_area("mine.nodes", 3, sizeof(*elements), 5000, &error) == NULL &&
          error.code == -EEXIST);
    check(mo_ledger_area_back(elements, 10) == 0);
    elements[9] = 9;
    check(mo_ledger_area_back(elements, 5000) == 0 && elements[4999] == 0 && elements[9] == 9);
    elements[4999] = 4999;
    const struct mo_ledger_header *seen = open_ledger(getpid(), 0);
    size_t index = MO_CORE_AREAS + 2;
    const struct mo_area *area = &seen->areas[index];
    check(strcmp(area->name, "mine.nodes") == 0 && area->version == 3 && area->unit == 4);
    check(area->used == 20000 && area->limit == 20480 && area->full_at == 0);
    check(((const uint32_t *)area_of(seen, index))[4999] == 4999);
    check(mo_ledger_area_back(elements, 6000) == -ENOSPC && area->full_at != 0);
    check(mo_ledger_area_back(&elements, 1) == -EINVAL);
    pid_t pid = fork();
    if (pid == 0) {
        check(mo_ledger_after_fork_child() == 0);
        check(mo_ledger_area_back(elements, 2000) == 0 && elements[9] == 0);
        elements[9] = 77;
        _exit(0);
    }
    int status;
    check(waitpid(pid, &status, 0) == pid && status == 0);
    check(elements[9] == 9);
    const struct mo_ledger_header *child = open_ledger(pid, 0);
    check(child->areas[index].used == 8000 && child->areas[index].full_at == 0);
    check(((const uint32_t *)area_of(child, index))[9] == 77);
    for (int i = 0; i < MO_AREAS; i++) { /* the directory has an end */
        char name[32];
        snprintf(name, sizeof(name), "mine.%d", i);
        if (mo_ledger_area(name, 1, 8, 8, &error) == NULL)
            break;
        check(i < MO_AREAS - 1);
    }
    check(error.code == -ENOSPC && strstr(error.message, "no room for the area 'mine.") != NULL);
}

static void an_area_of_a_tracker(void **state) {
    (void)state;
    in_child(area_body);
}

/* Threads that need the next page at once all get it. */
enum { GROWERS = 6, PAGES = 1500 };
static void *grow_an_area(void *own) {
    for (uint64_t page = 1; page <= PAGES; page++) {
        pthread_barrier_wait(&barrier);
        check(mo_ledger_area_back(elements, page * 1024) == 0);
        elements[page * 1024 - 1 - (uintptr_t)own] = 1;
    }
    return NULL;
}

static void grow_at_once_body(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    create();
    elements = mo_ledger_area("mine.nodes", 3, sizeof(*elements), PAGES * 1024, &error);
    check(elements != NULL);
    pthread_barrier_init(&barrier, NULL, GROWERS);
    pthread_t threads_of[GROWERS];
    for (int i = 0; i < GROWERS; i++)
        check(pthread_create(&threads_of[i], NULL, grow_an_area, (void *)(uintptr_t)i) == 0);
    for (int i = 0; i < GROWERS; i++)
        pthread_join(threads_of[i], NULL);
    check(open_ledger(getpid(), 0)->areas[MO_CORE_AREAS + 2].full_at == 0);
}

static void an_area_that_grows_at_once(void **state) {
    (void)state;
    in_child(grow_at_once_body);
}

static void fork_body(void) {
    create();
    void *slot = mo_ledger_attach();
    in_slot(slot)->n = 10;
    mo_ledger_note(MEMOPT_NOTE_INFO, "the parent's");
    struct mo_ledger_heap *heap = mo_ledger_heap_slot("kept", "pool");
    atomic_store(&heap->live_bytes, 5);
    pid_t pid = fork();
    if (pid == 0) {
        check(mo_ledger_after_fork_child() == 0);
        check(mo_ledger_slot(0) == NULL);
        struct mo_ledger_heap *again = mo_ledger_heap_slot("kept", "pool");
        check(again->live_bytes == 0 && mo_ledger_heap_number(again) == 1);
        slot = mo_ledger_attach();
        check(in_slot(slot)->n == 0 && ((struct mo_ledger_thread *)slot)->tid == getpid());
        in_slot(slot)->n = 16;
        mo_ledger_note(MEMOPT_NOTE_INFO, "the child's");
        mo_ledger_end(0);
        _exit(0);
    }
    in_slot(slot)->n = 1000;
    int status;
    check(waitpid(pid, &status, 0) == pid && status == 0);
    check(in_slot(slot)->n == 1000 && heap->live_bytes == 5);
    const struct mo_ledger_header *child = open_ledger(pid, 0);
    check(child != NULL);
    check(child->pid == pid && child->ppid == getpid() && child->forked == 1);
    check(child->parent != 0);
    check(strcmp((const char *)area_of(child, MO_NOTES) + 1, "the child's") == 0);
    check(child->state == MO_LEDGER_EXITED);
    const char *first = (const char *)area_of(child, MO_THREADS) + child->areas[MO_THREADS].unit;
    check(((const struct count *)(const void *)(first + states[1].offset))->n == 16);
    check(mo_ledger()->state == MO_LEDGER_RUNNING);
    check(mo_ledger()->forked == 0);
}

static void a_fork_has_a_ledger_of_its_own(void **state) {
    (void)state;
    in_child(fork_body);
}

/* The run directory is gone: the child has no ledger. */
static void orphan_body(void) {
    create();
    void *slot = mo_ledger_attach();
    in_slot(slot)->n = 10;
    mo_ledger_note(MEMOPT_NOTE_INFO, "there is room for a note");
    char away[100];
    snprintf(away, sizeof(away), "%s-away", directory);
    check(rename(directory, away) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        check(mo_ledger_after_fork_child() == -ENOENT);
        check(mo_ledger() == NULL && mo_ledger_attach() == NULL && mo_ledger_slot(0) == NULL);
        mo_ledger_note(MEMOPT_NOTE_INFO, "nowhere");
        mo_ledger_end(0);
        _exit(0);
    }
    int status;
    check(waitpid(pid, &status, 0) == pid && status == 0);
    check(rename(away, directory) == 0);
    check(in_slot(slot)->n == 10);
    check(open_ledger(pid, 0) == NULL);
    const char *notes = area_of(open_ledger(getpid(), 0), MO_NOTES);
    check(strstr(notes + strlen(notes) + 1, "is not counted") != NULL);
}

static void a_fork_without_the_directory(void **state) {
    (void)state;
    in_child(orphan_body);
}

/* What may be had of the address space is an eighth of it. (A checker needs all of it.) */
static void space_body(void) {
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    return;
#else
    if (RUNNING_ON_VALGRIND)
        return;
    struct rlimit limit = {(rlim_t)64 << 20, (rlim_t)64 << 20};
    check(setrlimit(RLIMIT_AS, &limit) == 0);
    create();
    const struct mo_ledger_header *seen = mo_ledger();
    uint64_t end = 0;
    for (int i = 0; i < MO_CORE_AREAS; i++)
        if (seen->areas[i].offset + seen->areas[i].limit > end)
            end = seen->areas[i].offset + seen->areas[i].limit;
    check(end <= limit.rlim_cur / 8 && end > limit.rlim_cur / 32);
    check(mo_ledger_attach() != NULL);
#endif
}

static void under_a_limit_of_address_space(void **state) {
    (void)state;
    in_child(space_body);
}

/* exec keeps the pid: the second image's record is another. */
static void exec_body(void) {
    create();
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct mo_ledger_plan plan = {.directory = directory, .binding = 1};
    check(mo_ledger_create(&plan, 2, arguments, &error) == 0);
    check(open_ledger(getpid(), 0) != NULL && open_ledger(getpid(), 1) != NULL);
    check(open_ledger(getpid(), 1)->areas[MO_CORE_AREAS].name[0] == '\0');
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
    static struct mo_slot_state large = {"large", 1, 1u << 31, 0};
    plan = (struct mo_ledger_plan){
        .directory = directory, .binding = 2, .states = &large, .state_count = 1};
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
        cmocka_unit_test(an_area_of_a_tracker),
        cmocka_unit_test(an_area_that_grows_at_once),
        cmocka_unit_test(a_fork_has_a_ledger_of_its_own),
        cmocka_unit_test(a_fork_without_the_directory),
        cmocka_unit_test(the_same_pid_again),
        cmocka_unit_test(refused),
        cmocka_unit_test(under_a_limit_of_file_sizes),
        cmocka_unit_test(under_a_limit_of_address_space),
        cmocka_unit_test(a_small_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
