/*
 * conformance_tracker.c - what every tracker plugin must do: take each event in
 * the order that plugin.h has, in any thread and in a fork's child, stay out of
 * the program's way, and report from a ledger that may hold anything.
 *
 * The suite is the host: areas are mappings of which no more than what was
 * backed can be touched, and a thread's state ends before a page that can't be.
 */
#include "config.h"

#include "cli/conformance.h"

#include "core/model/report.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

static const struct memopt_tracker_ops *ops;
static void *self;

/* -------------------------------------------------------------------- host */

enum { AREAS = 16, THREADS = 8, PAGE = 4096 };
static struct area {
    char name[64];
    uint32_t version, unit;
    uint64_t limit;
    _Atomic uint64_t used;
    char *memory;
} areas[AREAS];
static size_t area_count;
static bool opening;

static void *map(size_t size, int protection) {
    void *p = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(p != MAP_FAILED, "the suite has no memory: %s", strerror(errno));
    return p;
}

static size_t pages(uint64_t bytes) {
    return (size_t)((bytes + PAGE - 1) / PAGE * PAGE);
}

static void *suite_area(const char *name, uint32_t version, uint32_t unit, uint64_t limit,
                        struct memopt_error *error) {
    CHECK(opening, "it asks for the area '%s' outside of open()", name);
    CHECK(name[0] != '\0' && strlen(name) < sizeof(areas->name) &&
              strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(name),
          "it asks for an area of the name '%s'", name);
    CHECK(unit > 0 && limit > 0, "it asks for an area of %u times %llu bytes", unit,
          (unsigned long long)limit);
    if (area_count == AREAS || limit > (UINT64_C(1) << 40) / unit) {
        mo_host.fail(error, -ENOSPC, "no room for the area '%s'", name);
        return NULL;
    }
    struct area *area = &areas[area_count++];
    *area = (struct area){.version = version, .unit = unit, .limit = limit};
    strcpy(area->name, name);
    area->memory = map(pages(limit * unit), PROT_NONE);
    return area->memory;
}

static int suite_area_back(void *memory, uint64_t count) {
    int code = errno;
    for (size_t i = 0; i < area_count; i++) {
        struct area *area = &areas[i];
        if (area->memory != memory)
            continue;
        if (count > area->limit)
            return -ENOSPC;
        uint64_t used = atomic_load(&area->used);
        if (count > used)
            mprotect(memory, pages(count * area->unit), PROT_READ | PROT_WRITE);
        while (count > used && !atomic_compare_exchange_weak(&area->used, &used, count))
            ;
        errno = code;
        return 0;
    }
    FAIL("area_back() of %p, which is no area", memory);
}

static uint64_t suite_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct memopt_host host;

/* A thread's state: zero, aligned to 64, before a page that can't be touched.
 */
static void *new_state(size_t size) {
    size_t whole = pages(size + 64), aligned = (size + 63) / 64 * 64;
    char *memory = map(whole + PAGE, PROT_READ | PROT_WRITE);
    mprotect(memory + whole, PAGE, PROT_NONE);
    return memory + whole - aligned;
}

static void *states[THREADS]; /* the first one: of all that have ended */

static void prepare(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    ops = &conformance.plugin->ops.tracker;
    host = mo_host;
    host.in_program = 1;
    host.area = suite_area;
    host.area_back = suite_area_back;
    host.clock = suite_clock;
    for (size_t i = 0; i < THREADS; i++)
        states[i] = new_state(ops->thread_size);
    if (ops->open == NULL)
        return;
    opening = true;
    int r = ops->open(&host, conformance.settings, &self, &error);
    opening = false;
    CHECK(r == 0, "open() returns %d: %s", r, error.message);
}

/* ------------------------------------------------------------------ events */

static struct memopt_event_info info_of(int event, void *p, size_t asked, uint32_t heap) {
    bool has_usable = (ops->flags & (MEMOPT_TRACKER_USABLE | MEMOPT_TRACKER_COUNTS)) != 0;
    bool is_free = event == MEMOPT_EVENT_FREE || event == MEMOPT_EVENT_DESTROY;
    return (struct memopt_event_info){.size = sizeof(struct memopt_event_info),
                                      .event = event,
                                      .p = p,
                                      .asked = event == MEMOPT_EVENT_FREE ? 0 : asked,
                                      .usable = has_usable || is_free ? (asked + 15) / 16 * 16 : 0,
                                      .heap = heap,
                                      .weight = 1};
}

enum operation { ALLOC, FREE, REFUSED };

static void tell(enum operation operation, void *state, int event, uintptr_t p, size_t asked,
                 uint32_t heap) {
    static const char *const names[] = {"alloc", "free", "refused"};
    const struct memopt_event_info info = info_of(event, (void *)p, asked, heap);
    void (*function)(void *, void *, const struct memopt_event_info *) =
        operation == ALLOC  ? ops->alloc
        : operation == FREE ? ops->free
                            : ops->refused;
    if (function == NULL)
        return;
    errno = EDOM;
    function(self, state, &info);
    CHECK(errno == EDOM, "%s() of event %d leaves errno %d", names[operation], event, errno);
}

/* Every event, as memopt tells it: blocks come and go by each way, one is
 * moved, one stays where it is, one realloc fails, a heap goes with what is in
 * it. */
static void tell_all(void *state, uintptr_t base) {
    for (uint32_t heap = 0; heap < 3; heap++) {
        uintptr_t at = base + (heap << 20);
        tell(ALLOC, state, MEMOPT_EVENT_MALLOC, at, 100, heap);
        tell(ALLOC, state, MEMOPT_EVENT_CALLOC, at + 0x1000, 5000, heap);
        tell(ALLOC, state, MEMOPT_EVENT_ALIGNED, at + 0x4000, 64, heap);
        tell(ALLOC, state, MEMOPT_EVENT_MALLOC, at + 0x5000, 0, heap);
        tell(ALLOC, state, MEMOPT_EVENT_MALLOC, at + 0x6000, (size_t)1 << 40, heap);
        tell(FREE, state, MEMOPT_EVENT_REALLOC, at, 100, heap); /* moved */
        tell(ALLOC, state, MEMOPT_EVENT_REALLOC, at + 0x7000, 10000, heap);
        tell(FREE, state, MEMOPT_EVENT_REALLOC, at + 0x1000, 5000, heap); /* in place */
        tell(ALLOC, state, MEMOPT_EVENT_REALLOC, at + 0x1000, 4000, heap);
        tell(FREE, state, MEMOPT_EVENT_REALLOC, at + 0x4000, 64, heap); /* fails */
        tell(REFUSED, state, MEMOPT_EVENT_REALLOC, 0, SIZE_MAX / 2, heap);
        tell(ALLOC, state, MEMOPT_EVENT_RESTORE, at + 0x4000, 64, heap);
        tell(REFUSED, state, MEMOPT_EVENT_MALLOC, 0, SIZE_MAX, heap);
        tell(REFUSED, state, MEMOPT_EVENT_ALIGNED, 0, 100, heap);
        tell(FREE, state, MEMOPT_EVENT_FREE, at + 0x6000, (size_t)1 << 40, heap);
        tell(FREE, state, MEMOPT_EVENT_FREE, at + 0x5000, 0, heap);
        if (heap > 0)
            tell(FREE, state, MEMOPT_EVENT_DESTROY, 0, 3, heap);
    }
}

/* ------------------------------------------------------------------ report */

struct section {
    struct memopt_ledger_section public;
    const void *const *threads;
    bool no_areas;
};

static const void *section_thread(const struct memopt_ledger_section *public, size_t i,
                                  int64_t *ret_tid) {
    const struct section *section = public->opaque;
    if (i >= public->thread_count)
        return NULL;
    *ret_tid = (int64_t)i;
    return section->threads[i];
}

static const void *section_area(const struct memopt_ledger_section *public, const char *name,
                                uint32_t version, uint32_t unit, size_t *ret_count) {
    const struct section *section = public->opaque;
    for (size_t i = 0; i < area_count && !section->no_areas; i++) {
        struct area *area = &areas[i];
        if (strcmp(area->name, name) != 0 || area->version != version || area->unit != unit ||
            area->used == 0)
            continue;
        *ret_count = area->used;
        return area->memory;
    }
    return NULL;
}

static void *walked(struct memopt_report *report, const void *memory, size_t count, size_t size) {
    /* what is said to be there can be read */
    void *copy = memopt_report_alloc(report, count * size + 1);
    CHECK(copy != NULL || count * size > (size_t)1 << 30, "out of memory");
    if (copy != NULL && count * size > 0)
        memcpy(copy, memory, count * size);
    return copy;
}

/* `what`: for messages. The result is 0 or a failure that has a message. */
static int report_on(struct section *section, const char *what) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_report *report = NULL;
    struct memopt_process process;
    CHECK(mo_report_new(&report, &error) == 0, "no report: %s", error.message);
    mo_process_init(&process);
    section->public.size = sizeof(section->public);
    section->public.thread = section_thread;
    section->public.area = section_area;
    section->public.opaque = section;
    struct memopt_host outside = mo_host;
    outside.in_program = 0;
    error.message[0] = '\0';
    int r = ops->report(&outside, conformance.settings, &section->public, report, &process, &error);
    CHECK(r <= 0, "%s: report() returns %d", what, r);
    CHECK(r == 0 || error.message[0] != '\0', "%s: report() returns %d without a message", what, r);
    walked(report, process.threads, process.thread_count, process.thread_size);
    walked(report, process.histogram, process.histogram_count, process.histogram_size);
    walked(report, process.heaps, process.heap_count, process.heap_size);
    walked(report, process.events, process.event_count, process.event_size);
    mo_report_free(report);
    return r;
}

static void report_own(const char *what) {
    struct section section = {.public = {.thread_count = THREADS, .thread_size = ops->thread_size},
                              .threads = (const void *const *)states};
    if (ops->report == NULL)
        return;
    int r = report_on(&section, what);
    CHECK(r == 0, "%s: report() of what it has written returns %d", what, r);
}

/* ------------------------------------------------------------------- cases */

/* memopt counts, and that is all that it is there for. */
static bool hears_nothing(void) {
    const struct memopt_tracker_ops *own = &conformance.plugin->ops.tracker;
    return own->alloc == NULL && own->free == NULL && own->refused == NULL;
}

static int opens(void) {
    prepare();
    report_own("before any event");
    return 0;
}

static int events(void) {
    if (hears_nothing())
        return SKIPPED;
    prepare();
    for (uintptr_t round = 0; round < 100; round++)
        tell_all(states[1], 0x10000000 + (round << 24));
    report_own("all events");
    if (ops->thread_end != NULL)
        ops->thread_end(self, states[0], states[1]);
    report_own("a thread has ended");
    tell_all(states[1], 0x10000000); /* the next thread gets the state */
    report_own("another thread");
    return 0;
}

static size_t malloc_in_use(void) {
    return mallinfo2().uordblks;
}

/* The first call of glibc's malloc in a thread makes the thread's cache: so in
 * a fresh thread it shows even if the block is freed again. */
static void *measured(void *argument) {
    size_t before = malloc_in_use();
    tell_all(argument, 0x10000000);
    CHECK(malloc_in_use() == before, "alloc(), free() or refused() calls malloc or free");
    return NULL;
}

static void *measured_end(void *argument) {
    size_t before = malloc_in_use();
    if (ops->thread_end != NULL)
        ops->thread_end(self, states[0], argument);
    CHECK(malloc_in_use() == before, "thread_end() calls malloc or free");
    return NULL;
}

static void in_thread(void *(*run)(void *), void *argument) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, argument) == 0, "no thread");
    pthread_join(thread, NULL);
}

static int no_malloc(void) {
    if (hears_nothing())
        return SKIPPED;
    if (SANITIZED)
        return SKIPPED;
    prepare();
    for (int round = 0; round < 3; round++)
        in_thread(measured, states[1]);
    in_thread(measured_end, states[1]);
    return 0;
}

static void *tell_often(void *state) {
    for (uintptr_t round = 0; round < 3000 / conformance.scale + 1; round++)
        tell_all(state, ((uintptr_t)state << 4) + (round % 16 << 24));
    return NULL;
}

static int threads(void) {
    if (hears_nothing())
        return SKIPPED;
    pthread_t ids[THREADS];
    prepare();
    for (size_t i = 1; i < THREADS; i++)
        CHECK(pthread_create(&ids[i], NULL, tell_often, states[i]) == 0, "no thread");
    for (size_t i = 1; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    report_own("threads have run");
    for (size_t i = 1; i < THREADS && ops->thread_end != NULL; i++)
        ops->thread_end(self, states[0], states[i]);
    report_own("all have ended");
    return 0;
}

/* As the shim has it: the child's states are zero and its areas empty, where
 * they were. */
static void start_child(void) {
    for (size_t i = 0; i < THREADS; i++)
        memset(states[i], 0, ops->thread_size);
    for (size_t i = 0; i < area_count; i++) {
        void *p = mmap(areas[i].memory, pages(areas[i].limit * areas[i].unit), PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        CHECK(p != MAP_FAILED, "mmap: %s", strerror(errno));
        areas[i].used = 0;
    }
    if (ops->fork_child != NULL)
        ops->fork_child(self);
}

static void run_child(int generations) {
    int status = 0;
    pid_t pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        start_child();
        report_own("a child that has done nothing");
        /* the parent's blocks are the child's to free */
        tell(FREE, states[1], MEMOPT_EVENT_FREE, 0x10007000, 10000, 0);
        tell(FREE, states[1], MEMOPT_EVENT_FREE, 0x10001000, 4000, 0);
        tell_all(states[1], 0x20000000);
        report_own("a child");
        if (generations > 1)
            run_child(generations - 1);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
    CHECK(!WIFSIGNALED(status), "a forked child crashed: SIG%s", sigabbrev_np(WTERMSIG(status)));
    CHECK(status == 0, "a forked child ended with exit status %d", WEXITSTATUS(status));
}

static int forking(void) {
    if (hears_nothing())
        return SKIPPED;
    prepare();
    tell_all(states[1], 0x10000000);
    run_child(3);
    tell_all(states[1], 0x30000000);
    report_own("the parent afterwards");
    return 0;
}

static void make_noise(void *memory, size_t size, unsigned kind, uint64_t *seed) {
    unsigned char *bytes = memory;
    for (size_t i = 0; i < size; i++) {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        bytes[i] = kind == 0   ? 0xff
                   : kind == 1 ? 0x80
                   : kind == 2 ? (i % 8 == 7 ? 0x7f : 0xff)
                               : (unsigned char)*seed;
    }
}

static int hostile(void) {
    uint64_t seed = 0x9e3779b97f4a7c15;
    prepare();
    if (ops->report == NULL)
        return SKIPPED;
    tell_all(states[1], 0x10000000);
    const size_t own = ops->thread_size;
    const size_t sizes[] = {own, 0, 1, own / 2, own > 8 ? own - 8 : 0, own + 8, 4 * own + 64};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
        for (unsigned kind = 0; kind < 20; kind++) {
            const void *threads_of[THREADS];
            for (size_t j = 0; j < THREADS; j++) {
                char *memory = map(pages(sizes[i] + 64) + PAGE, PROT_READ | PROT_WRITE);
                char *end = memory + pages(sizes[i] + 64);
                mprotect(end, PAGE, PROT_NONE);
                char *state = end - (sizes[i] + 7) / 8 * 8;
                make_noise(state, sizes[i], kind, &seed);
                threads_of[j] = j % 4 == 3 ? NULL : state;
            }
            for (size_t j = 0; j < area_count; j++)
                if (areas[j].used > 0)
                    make_noise(areas[j].memory, areas[j].used * areas[j].unit, kind, &seed);
            struct section section = {
                .public = {.thread_count = kind % 5 == 4 ? 0 : THREADS, .thread_size = sizes[i]},
                .threads = threads_of,
                .no_areas = kind % 4 == 3};
            report_on(&section, "a ledger full of noise");
        }
    return 0;
}

void conformance_tracker(const char *what) {
    static const struct conformance_case cases[] = {
        {"open", opens,
         "open() returns 0 and asks for areas there alone; report() takes a "
         "ledger "
         "without events"},
        {"events", events, "each event is taken, in the order that plugin.h has; errno is kept"},
        {"malloc", no_malloc, "operations marked [program] don't call malloc and friends"},
        {"threads", threads, "alloc() and free() are called in any thread, each with its state"},
        {"fork", forking, "in the child of a fork states are zero and areas empty"},
        {"hostile", hostile, "report() checks what it reads: a ledger may hold anything"},
    };
    conformance_run(what, cases, sizeof(cases) / sizeof(*cases));
}
