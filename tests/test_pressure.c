/*
 * test_pressure.c - the pressure ladder: a heap's steps under real limits, the
 * watch over made-up and real sources, events, consumers, what is refused.
 */
#include "config.h"

#include "tests/heap_child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#if HAVE_VALGRIND_MEMCHECK_H
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MIB ((size_t)1 << 20)

/* ------------------------------------------------------------------ events */

static struct memopt_pressure_event seen[4096];
static size_t seen_count;

static void see(void *context, const struct memopt_pressure_event *event) {
    CHECK(context == seen);
    CHECK(event->size == sizeof(*event) && event->time > 0);
    CHECK(seen_count == 0 || event->time >= seen[seen_count - 1].time);
    if (seen_count < COUNT(seen))
        seen[seen_count++] = *event;
}
static void see_all(void) {
    seen_count = 0;
    memopt_pressure_set_callback(see, seen);
}
/* The steps seen since the last call, a letter each, upper case if it served:
 * p s f(spill: l) e(nomem) r. */
static const char *steps_seen(void) {
    static char text[COUNT(seen) + 1];
    static const char letters[] = "?psler";
    for (size_t i = 0; i < seen_count; i++) {
        char letter = letters[seen[i].step];
        text[i] = seen[i].served ? (char)(letter - 'a' + 'A') : letter;
    }
    text[seen_count] = '\0';
    seen_count = 0;
    return text;
}
#define STEPS(TEXT)                                                                                \
    do {                                                                                           \
        const char *steps = steps_seen();                                                          \
        if (strcmp(steps, TEXT) != 0) {                                                            \
            fprintf(stderr, "%s:%d: steps '%s', not '%s'\n", __FILE__, __LINE__, steps, TEXT);     \
            _exit(99);                                                                             \
        }                                                                                          \
    } while (0)

/* Memory that a program could do without. */
struct spare {
    struct memopt_heap *heap;
    void *block;
    size_t size;
    unsigned purges, shrinks, spills, relaxes;
};
static uint64_t let_go(struct spare *spare) {
    uint64_t size = spare->block == NULL ? 0 : spare->size;
    memopt_heap_free(spare->heap, spare->block);
    spare->block = NULL;
    return size;
}
static uint64_t purge_spare(void *context) {
    ((struct spare *)context)->purges++;
    return let_go(context);
}
static uint64_t use_less(void *context, const struct memopt_pressure_event *event) {
    struct spare *spare = context;
    spare->shrinks += event->step == MEMOPT_PRESSURE_SHRINK;
    spare->spills += event->step == MEMOPT_PRESSURE_SPILL;
    spare->relaxes += event->step == MEMOPT_PRESSURE_RELAX;
    return event->step == MEMOPT_PRESSURE_SHRINK ? let_go(spare) : 0;
}
static void keep(struct spare *spare, size_t size) {
    spare->block = memopt_heap_alloc(spare->heap, size);
    CHECK(spare->block != NULL);
    memset(spare->block, 1, size);
    spare->size = size;
}

static struct memopt_heap *heap_with(const char *allocator, uint64_t limit, const char *on_limit) {
    static int number;
    char name[32];
    snprintf(name, sizeof(name), "heap%d", number++);
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    options.allocator = allocator;
    options.limit = limit;
    options.on_limit = on_limit;
    options.spill_dir = directory;
    return open_or_die(name, &options);
}

static int is_on_a_disk(void) {
    struct statfs file_system;
    CHECK(statfs(directory, &file_system) == 0);
    return file_system.f_type != 0x01021994 && file_system.f_type != (long)0x858458f6;
}

/* -------------------------------------------------------- a heap's ladder */

static void steps_come_in_order(void) {
    write_ini("");
    see_all();
    struct memopt_heap *heap = heap_with("libc", MIB, "purge, shrink, fail");
    struct spare cache = {.heap = heap}, chunks = {.heap = heap};
    CHECK(memopt_heap_add_purger(heap, purge_spare, &cache, NULL) == 0);
    CHECK(memopt_pressure_add_consumer(heap, use_less, &chunks, NULL) == 0);

    void *p = memopt_heap_alloc(heap, 500000);
    STEPS(""); /* no want, no step */
    CHECK(memopt_heap_alloc(heap, 900000) == NULL && errno == ENOMEM);
    CHECK(seen[0].source == MEMOPT_PRESSURE_LIMIT && seen[0].level == MEMOPT_PRESSURE_FULL);
    CHECK(seen[0].heap == heap && seen[0].wanted == 900000 && seen[0].limit == MIB);
    CHECK(seen[0].before >= 500000 && seen[0].after == seen[0].before && seen[0].freed == 0);
    STEPS("pse");
    CHECK(cache.purges == 1 && chunks.shrinks == 1);
    memopt_heap_free(heap, p);

    keep(&cache, 300000);
    keep(&chunks, 300000);
    p = memopt_heap_alloc(heap, 700000); /* the cache is enough */
    CHECK(p != NULL && cache.block == NULL && chunks.block != NULL);
    CHECK(seen[0].freed == 300000 && seen[0].before >= 600000);
    CHECK(seen[0].after >= 1000000 && seen[0].after <= MIB);
    STEPS("P");
    memopt_heap_free(heap, p);
    keep(&cache, 300000);
    p = memopt_heap_alloc(heap, 1000000); /* the consumer has to, too */
    CHECK(p != NULL && cache.block == NULL && chunks.block == NULL);
    CHECK(seen[1].freed == 300000);
    STEPS("pS");
    CHECK(memopt_heap_realloc(heap, p, 2000000) == NULL && errno == ENOMEM);
    CHECK(seen[0].wanted == 2000000);
    STEPS("pse");
    CHECK(memopt_heap_calloc(heap, 1000, 2000) == NULL && errno == ENOMEM);
    STEPS("pse");
    CHECK(memopt_heap_aligned_alloc(heap, 64, 2000000) == NULL && errno == ENOMEM);
    STEPS("pse");
    struct memopt_pressure_statistics stats = MEMOPT_PRESSURE_STATISTICS_INIT;
    CHECK(memopt_pressure_stats(&stats) == 0);
    CHECK(stats.purges == 6 && stats.shrinks == 5 && stats.fails == 4 && stats.spills == 0);
    CHECK(stats.sources == 0 && stats.polls == 0);
    CHECK(stats_of(heap).refused == 4);
    /* nothing is left of a heap that goes */
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
    CHECK(memopt_pressure_remove_consumer(heap, use_less, &chunks, NULL) == -ENOENT);
    memopt_pressure_set_callback(NULL, NULL);
    CHECK(memopt_heap_alloc(heap_with("libc", 1, "fail"), 10) == NULL);
    STEPS("");
}
IN_CHILD(steps_come_in_order)

static void the_last_step_before_enomem_spills(void) {
    write_ini("");
    if (!is_on_a_disk())
        return;
    see_all();
    struct memopt_heap *heap = heap_with("libc", MIB, "purge, shrink, spill");
    struct spare chunks = {.heap = heap};
    CHECK(memopt_pressure_add_consumer(NULL, use_less, &chunks, NULL) == 0);
    char *p = memopt_heap_alloc(heap, 3 * MIB);
    CHECK(p != NULL);
    memset(p, 1, 3 * MIB);
    CHECK(seen[2].before == 0 && seen[2].after == 0); /* live is what is not spilled */
    STEPS("psL");
    CHECK(stats_of(heap).spilled_bytes == 3 * MIB && stats_of(heap).live_bytes == 0);
    CHECK(chunks.shrinks == 1 && chunks.spills == 0);
    p = memopt_heap_realloc(heap, p, 6 * MIB);
    CHECK(p != NULL && p[3 * MIB - 1] == 1);
    STEPS("psL");
    volatile size_t too_much = SIZE_MAX;
    CHECK(memopt_heap_alloc(heap, too_much) == NULL && errno == ENOMEM);
    STEPS(""); /* nothing could help */
}
IN_CHILD(the_last_step_before_enomem_spills)

/* What is asked for inside a callback or consumer gets no steps. */
static uint64_t ask_inside(void *context, const struct memopt_pressure_event *event) {
    (void)event;
    CHECK(memopt_heap_alloc(context, MIB) == NULL && errno == ENOMEM);
    return 0;
}
static void ask_in_callback(void *context, const struct memopt_pressure_event *event) {
    CHECK(memopt_heap_alloc(context, MIB) == NULL && errno == ENOMEM);
    void *p = memopt_heap_alloc(context, 10);
    CHECK(p != NULL);
    memopt_heap_free(context, p);
    CHECK(event->heap == context);
    seen_count++;
}
static void callbacks_do_not_nest(void) {
    write_ini("");
    struct memopt_heap *heap = heap_with("libc", 10000, "purge, shrink");
    CHECK(memopt_pressure_add_consumer(heap, ask_inside, heap, NULL) == 0);
    memopt_pressure_set_callback(ask_in_callback, heap);
    seen_count = 0;
    CHECK(memopt_heap_alloc(heap, MIB) == NULL);
    CHECK(seen_count == 3);
}
IN_CHILD(callbacks_do_not_nest)

/* A heap that grows against RLIMIT_AS. A mapped file counts there, so the step
 * `spill` is tried and doesn't help; then ENOMEM, and all is as it was. */
static void a_real_limit_of_the_address_space(void) {
#ifndef MO_SANITIZED
    static const char *const backends[] = {"libc", "mmap", "pool"};
    write_ini("");
    if (!is_on_a_disk() || RUNNING_ON_VALGRIND) /* it needs memory itself */
        return;
    for (size_t b = 0; b < COUNT(backends); b++) {
        struct memopt_heap *heap = heap_with(backends[b], MEMOPT_NO_LIMIT, "purge, shrink, spill");
        struct spare cache = {.heap = heap}, chunks = {.heap = heap};
        CHECK(memopt_heap_add_purger(heap, purge_spare, &cache, NULL) == 0);
        CHECK(memopt_pressure_add_consumer(heap, use_less, &chunks, NULL) == 0);
        keep(&cache, 32 * MIB);
        keep(&chunks, 32 * MIB);
        see_all();
        unsigned long pages;
        FILE *statm = fopen("/proc/self/statm", "r");
        CHECK(statm != NULL && fscanf(statm, "%lu", &pages) == 1 && fclose(statm) == 0);
        struct rlimit limit, before;
        CHECK(getrlimit(RLIMIT_AS, &before) == 0);
        limit = before;
        limit.rlim_cur = pages * (unsigned long)getpagesize() + 48 * MIB;
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        char *p[64];
        size_t count = 0;
        for (; count < COUNT(p) && (p[count] = memopt_heap_alloc(heap, 8 * MIB)) != NULL; count++)
            memset(p[count], (int)count, 8 * MIB);
        CHECK(errno == ENOMEM && count >= 8 && count < COUNT(p));
        CHECK(cache.block == NULL && chunks.block == NULL);
        /* first the cache was enough, later the chunks had to go, at last nothing */
        CHECK(seen[0].step == MEMOPT_PRESSURE_PURGE && seen[0].served);
        CHECK(seen[0].source == MEMOPT_PRESSURE_BACKEND && seen[0].freed >= 32 * MIB);
        STEPS("PpSpsle");
        CHECK(stats_of(heap).failed == 1 && stats_of(heap).spilled_bytes == 0);
        CHECK(memopt_heap_alloc(heap, 8 * MIB) == NULL && errno == ENOMEM); /* still clean */
        STEPS("psle");
        for (size_t i = 0; i < count; i++) {
            CHECK(p[i][0] == (char)i && p[i][8 * MIB - 1] == (char)i);
            memopt_heap_free(heap, p[i]);
        }
        CHECK(setrlimit(RLIMIT_AS, &before) == 0);
        CHECK(memopt_heap_destroy(heap, NULL) == 0);
    }
#endif
}
IN_CHILD(a_real_limit_of_the_address_space)

/* ---------------------------------------------------- sources made up */

static char proc[sizeof(directory) + 32]; /* stands for /proc */

static void put(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(const char *name, const char *format, ...) {
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", proc, name);
    for (char *slash = path + strlen(proc); (slash = strchr(slash + 1, '/')) != NULL;
         *slash = '/') {
        *slash = '\0';
        CHECK(mkdir(path, 0700) == 0 || errno == EEXIST);
    }
    /* at once, as the kernel's own files change */
    char fresh[sizeof(path) + 8];
    snprintf(fresh, sizeof(fresh), "%s.new", path);
    FILE *file = fopen(fresh, "w");
    CHECK(file != NULL);
    va_list arguments;
    va_start(arguments, format);
    CHECK(vfprintf(file, format, arguments) >= 0);
    va_end(arguments);
    CHECK(fclose(file) == 0 && rename(fresh, path) == 0);
}
static void make_proc(void) {
    write_ini("");
    snprintf(proc, sizeof(proc), "%s/proc-%d", directory, (int)getpid());
    CHECK(mkdir(proc, 0700) == 0);
}
static void remove_proc(void) {
    char command[sizeof(proc) + 16];
    snprintf(command, sizeof(command), "rm -r %s", proc);
    CHECK(system(command) == 0);
}
/* RSS of a machine with 1000 pages, `file` of the resident ones of files. */
static void put_resident(unsigned long resident, unsigned long file) {
    put("self/statm", "5000 %lu %lu 1 0 1 0\n", resident + file, file);
    put("meminfo", "MemTotal:       %lu kB\nMemFree: 1 kB\n",
        1000ul * (unsigned)getpagesize() / 1024);
}

static struct memopt_pressure_options watch_of(unsigned sources) {
    struct memopt_pressure_options options = MEMOPT_PRESSURE_OPTIONS_INIT;
    options.sources = sources;
    options.proc = proc;
    options.interval = 1;
    return options;
}
static void start(const struct memopt_pressure_options *options) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (memopt_pressure_start(options, &error) < 0) {
        fprintf(stderr, "%s\n", error.message);
        _exit(99);
    }
    see_all();
}
static struct memopt_pressure_statistics pressure(void) {
    struct memopt_pressure_statistics stats = MEMOPT_PRESSURE_STATISTICS_INIT;
    CHECK(memopt_pressure_stats(&stats) == 0);
    return stats;
}
/* A poll that reads: the interval is a nanosecond, but the clock may stand. */
static int poll_surely(void) {
    uint64_t before = pressure().polls;
    int level;
    do
        level = memopt_pressure_poll();
    while (level >= 0 && pressure().polls == before);
    return level;
}

static void levels_rise_and_fall(void) {
    make_proc();
    put_resident(500, 400); /* file pages are no pressure */
    struct spare chunks = {.heap = heap_with("libc", MEMOPT_NO_LIMIT, NULL)};
    struct spare cache = {.heap = chunks.heap};
    CHECK(memopt_heap_add_purger(cache.heap, purge_spare, &cache, NULL) == 0);
    CHECK(memopt_pressure_add_consumer(NULL, use_less, &chunks, NULL) == 0);
    struct memopt_pressure_options options = watch_of(MEMOPT_PRESSURE_RSS);
    start(&options);
    CHECK(pressure().sources == MEMOPT_PRESSURE_RSS);
    static const struct {
        unsigned long resident;
        int level;
        const char *steps;
    } moments[] = {
        {500, MEMOPT_PRESSURE_CALM, ""},
        {799, MEMOPT_PRESSURE_CALM, ""},
        {800, MEMOPT_PRESSURE_WARN, "p"},
        {850, MEMOPT_PRESSURE_WARN, ""}, /* once a level */
        {760, MEMOPT_PRESSURE_WARN, ""}, /* within the hysteresis */
        {749, MEMOPT_PRESSURE_CALM, "R"},
        {910, MEMOPT_PRESSURE_HIGH, "ps"}, /* both, as the first did not help */
        {960, MEMOPT_PRESSURE_CRITICAL, "l"},
        {905, MEMOPT_PRESSURE_CRITICAL, ""},
        {1200, MEMOPT_PRESSURE_FULL, "e"},
        {951, MEMOPT_PRESSURE_FULL, ""},
        {880, MEMOPT_PRESSURE_HIGH, "RR"}, /* down: full and critical are over */
        {100, MEMOPT_PRESSURE_CALM, "RR"},
        {5000, MEMOPT_PRESSURE_FULL, "psle"},
        {0, MEMOPT_PRESSURE_CALM, "RRRR"},
    };
    for (size_t i = 0; i < COUNT(moments); i++) {
        put_resident(moments[i].resident, 4000);
        int level = poll_surely();
        if (level != moments[i].level)
            fprintf(stderr, "moment %zu: level %d\n", i, level);
        CHECK(level == moments[i].level);
        if (seen_count > 0) {
            CHECK(seen[0].source == MEMOPT_PRESSURE_RSS && seen[0].heap == NULL);
            CHECK(seen[0].before == moments[i].resident * (unsigned)getpagesize());
            CHECK(seen[0].limit == 1000ul * (unsigned)getpagesize());
        }
        STEPS(moments[i].steps);
        struct memopt_pressure_statistics stats = pressure();
        CHECK(stats.level == level && stats.source == MEMOPT_PRESSURE_RSS);
        CHECK(stats.used == moments[i].resident * (unsigned)getpagesize());
    }
    CHECK(cache.purges == 3 && chunks.shrinks == 2 && chunks.spills == 2 && chunks.relaxes == 2);
    CHECK(memopt_pressure_stop() == 0);
    CHECK(memopt_pressure_poll() == -ENOENT && memopt_pressure_stop() == -ENOENT);
    remove_proc();
}
IN_CHILD(levels_rise_and_fall)

/* Each step is taken only if the one before it wasn't enough. */
static uint64_t really_purge(void *context) {
    put_resident(*(const unsigned long *)context, 0);
    return 12345;
}
static void a_step_that_helps_is_the_last(void) {
    make_proc();
    put_resident(100, 0);
    struct memopt_heap *heap = heap_with("libc", MEMOPT_NO_LIMIT, NULL);
    unsigned long then = 840;
    CHECK(memopt_heap_add_purger(heap, really_purge, &then, NULL) == 0);
    struct memopt_pressure_options options = watch_of(MEMOPT_PRESSURE_RSS);
    start(&options);
    put_resident(990, 0);
    CHECK(poll_surely() == MEMOPT_PRESSURE_WARN); /* 840 of 1000 */
    CHECK(seen[0].freed >= 12345 && seen[0].after == 840 * (unsigned)getpagesize());
    CHECK(seen[0].level == MEMOPT_PRESSURE_CRITICAL);
    STEPS("P");
    put_resident(0, 0);
    CHECK(poll_surely() == MEMOPT_PRESSURE_CALM);
    STEPS("R");
    then = 10;
    put_resident(990, 0);
    CHECK(poll_surely() == MEMOPT_PRESSURE_CALM);
    STEPS("PR");
    CHECK(memopt_pressure_stop() == 0);
    STEPS("");
    remove_proc();
}
IN_CHILD(a_step_that_helps_is_the_last)

static void critical_spills_and_full_refuses(void) {
    make_proc();
    if (!is_on_a_disk()) {
        remove_proc();
        return;
    }
    put_resident(0, 0);
    struct memopt_heap *spilling = heap_with("libc", MEMOPT_NO_LIMIT, "spill");
    struct memopt_heap *limited = heap_with("libc", 8 * MIB, "purge");
    struct memopt_heap *free_one = heap_with("libc", MEMOPT_NO_LIMIT, "purge");
    struct memopt_pressure_options options = watch_of(MEMOPT_PRESSURE_RSS);
    start(&options);
    void *before = memopt_heap_alloc(spilling, 100000), *here = memopt_heap_alloc(limited, 100000);
    CHECK(stats_of(spilling).spilled_blocks == 0);
    put_resident(970, 0);
    CHECK(poll_surely() == MEMOPT_PRESSURE_CRITICAL);
    void *small = memopt_heap_alloc(spilling, 60000), *large = memopt_heap_alloc(spilling, 70000);
    CHECK(small != NULL && large != NULL);
    CHECK(stats_of(spilling).spilled_blocks == 1 && stats_of(spilling).spilled_bytes == 73728);
    large = memopt_heap_realloc(spilling, large, 200000);
    before = memopt_heap_realloc(spilling, before, 200000);
    CHECK(stats_of(spilling).spilled_blocks == 2 && stats_of(spilling).live_blocks == 3);
    STEPS("psl"); /* that it spilled these was no step */
    put_resident(1000, 0);
    CHECK(poll_surely() == MEMOPT_PRESSURE_FULL);
    STEPS("e");
    CHECK(memopt_heap_alloc(limited, 10) == NULL && errno == ENOMEM);
    STEPS("pe");
    CHECK(stats_of(limited).refused == 1);
    CHECK(memopt_heap_realloc(limited, here, 200000) == NULL && errno == ENOMEM);
    CHECK(memopt_heap_realloc(limited, here, 50000) != NULL);      /* less is less */
    struct memopt_heap *late = heap_with("libc", 8 * MIB, "fail"); /* opened meanwhile */
    CHECK(poll_surely() == MEMOPT_PRESSURE_FULL);
    CHECK(memopt_heap_alloc(late, 10) == NULL && errno == ENOMEM);
    void *other = memopt_heap_alloc(free_one, 10), *tiny = memopt_heap_alloc(spilling, 10);
    CHECK(other != NULL && tiny != NULL); /* no limit; and in the file */
    CHECK(stats_of(spilling).spilled_blocks == 3);
    put_resident(10, 0);
    CHECK(poll_surely() == MEMOPT_PRESSURE_CALM);
    CHECK(memopt_heap_alloc(limited, 10) != NULL && memopt_heap_alloc(late, 10) != NULL);
    CHECK(memopt_heap_alloc(spilling, 100000) != NULL);
    CHECK(stats_of(spilling).spilled_blocks == 3);
    put_resident(1000, 0); /* stop takes it back */
    CHECK(poll_surely() == MEMOPT_PRESSURE_FULL);
    CHECK(memopt_heap_alloc(limited, 10) == NULL);
    CHECK(memopt_pressure_stop() == 0);
    CHECK(memopt_heap_alloc(limited, 10) != NULL);
    struct memopt_heap *const heaps[] = {spilling, limited, free_one, late};
    for (size_t i = 0; i < COUNT(heaps); i++)
        CHECK(memopt_heap_destroy(heaps[i], NULL) == 0);
    remove_proc();
}
IN_CHILD(critical_spills_and_full_refuses)

static void steps_can_be_left_out(void) {
    make_proc();
    write_ini("[pressure]\nsteps = shrink\nwarn = 10%\nhigh = 20%\nsources = rss, psi\n"
              "budget = 2MiB\ninterval = 1ms\nhysteresis = 1%\n");
    put_resident(1000, 0);
    put("self/statm", "5000 %lu 0 1 0 1 0\n", 2 * MIB / 4 / (unsigned)getpagesize());
    struct memopt_pressure_options options = MEMOPT_PRESSURE_OPTIONS_INIT;
    options.proc = proc;
    start(&options);
    CHECK(pressure().sources == MEMOPT_PRESSURE_RSS); /* there is no psi here */
    CHECK(poll_surely() == MEMOPT_PRESSURE_HIGH);
    CHECK(pressure().limit == 2 * MIB && pressure().used == MIB / 2);
    STEPS("s");
    CHECK(memopt_pressure_stop() == 0);
    STEPS("R");
    remove_proc();
}
IN_CHILD(steps_can_be_left_out)

static void a_heap_is_watched(void) {
    make_proc();
    struct memopt_heap *one = heap_with("libc", 1000000, "fail");
    struct memopt_heap *two = heap_with("libc", 1000000, "fail");
    struct spare of_one = {.heap = one}, of_two = {.heap = two};
    CHECK(memopt_heap_add_purger(one, purge_spare, &of_one, NULL) == 0);
    CHECK(memopt_heap_add_purger(two, purge_spare, &of_two, NULL) == 0);
    CHECK(memopt_pressure_add_consumer(one, use_less, &of_one, NULL) == 0);
    CHECK(memopt_pressure_add_consumer(two, use_less, &of_two, NULL) == 0);
    struct memopt_heap *const list[] = {one, two};
    for (int with_list = 0; with_list < 2; with_list++) {
        struct memopt_pressure_options options = watch_of(MEMOPT_PRESSURE_HEAP);
        options.heaps = with_list ? list : NULL;
        options.heap_count = with_list ? 2 : 0;
        start(&options);
        void *p = memopt_heap_alloc(one, 850000);
        CHECK(poll_surely() == MEMOPT_PRESSURE_CALM); /* the process's */
        CHECK(seen[0].heap == one && seen[0].source == MEMOPT_PRESSURE_HEAP);
        CHECK(seen[0].level == MEMOPT_PRESSURE_WARN && seen[0].limit == 1000000);
        STEPS("p");
        memopt_heap_free(one, p);
        p = memopt_heap_alloc(one, 930000);
        CHECK(poll_surely() == MEMOPT_PRESSURE_CALM);
        STEPS("s");
        CHECK(poll_surely() == MEMOPT_PRESSURE_CALM);
        STEPS("");
        memopt_heap_free(one, p);
        CHECK(poll_surely() == MEMOPT_PRESSURE_CALM);
        STEPS("RR");
        p = memopt_heap_alloc(two, 990000);
        CHECK(poll_surely() == MEMOPT_PRESSURE_CALM);
        STEPS("psl");
        CHECK(memopt_pressure_stop() == 0);
        STEPS("RRR");
        memopt_heap_free(two, p);
    }
    CHECK(of_one.purges == 2 && of_one.shrinks == 2 && of_one.relaxes == 2 && of_one.spills == 0);
    CHECK(of_two.purges == 2 && of_two.shrinks == 2 && of_two.relaxes == 2 && of_two.spills == 2);
    remove_proc();
}
IN_CHILD(a_heap_is_watched)

static void waiting_is_pressure(void) {
    make_proc();
    put("pressure/memory", "some avg10=0.00 avg60=9.00 avg300=0.00 total=0\n");
    struct memopt_pressure_options options = watch_of(MEMOPT_PRESSURE_PSI);
    options.psi_high = 0.3;
    start(&options);
    static const struct {
        const char *text;
        int level;
        const char *steps;
    } moments[] = {
        {"some avg10=9.99 avg60=0.00", MEMOPT_PRESSURE_CALM, ""},
        {"some avg10=10.00 avg60=0.00", MEMOPT_PRESSURE_WARN, "p"},
        {"some avg10=35.00 avg60=0.00", MEMOPT_PRESSURE_HIGH, "s"},
        {"some avg10=100.00 avg60=0.00", MEMOPT_PRESSURE_CRITICAL, "l"}, /* never FULL */
        {"some avg10=26.00 avg60=0.00", MEMOPT_PRESSURE_HIGH, "R"},
        {"some avg10=junk", MEMOPT_PRESSURE_CALM, "RR"}, /* says nothing */
        {"some avg10=11.00", MEMOPT_PRESSURE_WARN, "p"},
        {"", MEMOPT_PRESSURE_CALM, "R"},
    };
    for (size_t i = 0; i < COUNT(moments); i++) {
        put("pressure/memory", "%s\n", moments[i].text);
        CHECK(poll_surely() == moments[i].level);
        STEPS(moments[i].steps);
    }
    CHECK(memopt_pressure_stop() == 0);
    remove_proc();
}
IN_CHILD(waiting_is_pressure)

static void groups_have_limits(void) {
    static const struct {
        const char *group, *mount, *prefix;
        const char *limit, *usage, *stat;
        int is_v2;
    } kinds[] = {
        {"0::/a/b\n", "30 1 0:30 / %s/cg rw - cgroup2 none rw\n", "cg/a/b", "memory.max",
         "memory.current", "inactive_file %lu\nactive_file 100\n", 1},
        {"0::/\n4:cpu,memory:/out/a\n",
         "29 1 0:29 / /nowhere rw - cgroup2 none rw\n"
         "30 1 0:30 /out %s/cg rw - cgroup none rw,memory\n",
         "cg/a", "memory.limit_in_bytes", "memory.usage_in_bytes",
         "total_inactive_file %lu\ntotal_active_file 100\ninactive_file 7\n", 0},
        {"0::/../x\n", "30 1 0:30 / %s/cg rw - cgroup2 none rw\n", "cg", "memory.high",
         "memory.current", "inactive_file %lu\nactive_file 100\n", 1},
    };
    make_proc();
    for (size_t k = 0; k < COUNT(kinds); k++) {
        char name[64], mount[512];
        put("self/cgroup", "%s", kinds[k].group);
        snprintf(mount, sizeof(mount), kinds[k].mount, proc);
        put("self/mountinfo", "%s", mount);
#define PUT(FILE, ...)                                                                             \
    do {                                                                                           \
        snprintf(name, sizeof(name), "%s/%s", kinds[k].prefix, FILE);                              \
        put(name, __VA_ARGS__);                                                                    \
    } while (0)
        if (kinds[k].is_v2)
            PUT("memory.max", "max\n");
        PUT(kinds[k].limit, "1000000\n");
        PUT(kinds[k].usage, "500000\n");
        PUT("memory.stat", kinds[k].stat, 400000ul); /* 99,900 are not of files */
        struct memopt_pressure_options options = watch_of(MEMOPT_PRESSURE_CGROUP);
        start(&options);
        CHECK(poll_surely() == MEMOPT_PRESSURE_CALM);
        CHECK(pressure().used == 99900 && pressure().limit == 1000000);
        PUT(kinds[k].usage, "960000\n");
        PUT("memory.stat", kinds[k].stat, 0ul);
        CHECK(poll_surely() == MEMOPT_PRESSURE_CRITICAL);
        STEPS("psl");
        /* what is no number says nothing */
        PUT(kinds[k].usage, "a lot\n");
        CHECK(poll_surely() == MEMOPT_PRESSURE_CALM);
        STEPS("RRR");
        PUT(kinds[k].usage, "960000\n");
        PUT(kinds[k].limit, "9223372036854771712\n"); /* none */
        CHECK(poll_surely() == MEMOPT_PRESSURE_CALM);
        PUT(kinds[k].limit, "0\n");
        CHECK(poll_surely() == MEMOPT_PRESSURE_CALM);
        CHECK(memopt_pressure_stop() == 0);
        if (k == 0) { /* a limit of a group above counts, too */
            PUT("memory.max", "max\n");
            put("cg/a/memory.max", "1000\n");
            put("cg/a/memory.current", "950\n");
            put("cg/a/memory.stat", "inactive_file 0\n");
            start(&options);
            CHECK(poll_surely() == MEMOPT_PRESSURE_CRITICAL && pressure().limit == 1000);
            CHECK(memopt_pressure_stop() == 0);
        }
        char command[sizeof(proc) + 32];
        snprintf(command, sizeof(command), "rm -r %s/cg", proc);
        CHECK(system(command) == 0);
    }
    /* samples that lead nowhere */
    static const char *const groups[] = {"", "0::", "junk", "0::/x\n", ":::::\n"};
    struct memopt_error error;
    for (size_t i = 0; i < COUNT(groups); i++) {
        put("self/cgroup", "%s", groups[i]);
        struct memopt_pressure_options options = watch_of(MEMOPT_PRESSURE_CGROUP);
        CHECK(memopt_pressure_start(&options, &error) == -ENOTSUP);
        CHECK_TEXT(error.message, "none of the sources");
    }
    remove_proc();
}
IN_CHILD(groups_have_limits)

/* --------------------------------------------------------- a real cgroup */

/* A group of this process's own with a limit on memory, below the one it is in;
 * 0: there can't be one. Leaves the paths of its directory. */
static char group[4096 + 64];
static int write_file(const char *name, const char *text) {
    char path[sizeof(group) + 64];
    snprintf(path, sizeof(path), "%s/%s", group, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t written = write(fd, text, strlen(text));
    close(fd);
    return written == (ssize_t)strlen(text);
}
static int make_group(uint64_t limit) {
    char line[4096], text[64], base[4096] = "";
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        char *path = strstr(line, ":memory:/");
        line[strcspn(line, "\n")] = '\0';
        if (path != NULL)
            snprintf(base, sizeof(base), "/sys/fs/cgroup/memory%.3000s", path + 8);
        else if (strncmp(line, "0::/", 4) == 0 && base[0] == '\0' &&
                 access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0)
            snprintf(base, sizeof(base), "/sys/fs/cgroup%.3000s", line + 3);
    }
    if (file != NULL)
        fclose(file);
    snprintf(group, sizeof(group), "%s/memopt-test-%d", base, (int)getpid());
    if (base[0] == '\0' || mkdir(group, 0755) < 0)
        return 0;
    snprintf(text, sizeof(text), "%" PRIu64, limit);
    if (write_file("memory.limit_in_bytes", text) || write_file("memory.max", text)) {
        write_file("memory.swap.max", "0");
        return 1;
    }
    rmdir(group);
    return 0;
}

/* In a group of 96 MiB: keeps 192 MiB of blocks, polling. */
static void grow_in_the_group(void) {
    char text[32];
    snprintf(text, sizeof(text), "%d", (int)getpid());
    CHECK(write_file("cgroup.procs", text));
    write_ini("");
    struct memopt_heap *heap = heap_with("mmap", MEMOPT_NO_LIMIT, "spill");
    struct spare cache = {.heap = heap}, chunks = {.heap = heap};
    CHECK(memopt_heap_add_purger(heap, purge_spare, &cache, NULL) == 0);
    CHECK(memopt_pressure_add_consumer(heap, use_less, &chunks, NULL) == 0);
    struct memopt_pressure_options options = MEMOPT_PRESSURE_OPTIONS_INIT;
    options.sources = MEMOPT_PRESSURE_CGROUP;
    options.interval = 1;
    options.warn = 0.5;
    options.high = 0.6;
    options.critical = 0.7;
    start(&options);
    CHECK(pressure().sources == MEMOPT_PRESSURE_CGROUP);
    keep(&cache, 8 * MIB);
    keep(&chunks, 8 * MIB);
    char *p[96];
    for (size_t i = 0; i < COUNT(p); i++) {
        p[i] = memopt_heap_alloc(heap, 2 * MIB);
        CHECK(p[i] != NULL);
        memset(p[i], (int)i, 2 * MIB);
        CHECK(poll_surely() >= 0);
    }
    CHECK(cache.block == NULL && chunks.block == NULL);
    CHECK(stats_of(heap).spilled_bytes > 96 * MIB && stats_of(heap).live_bytes < 96 * MIB);
    for (size_t i = 0; i < COUNT(p); i++)
        CHECK(p[i][0] == (char)i && p[i][2 * MIB - 1] == (char)i);
    /* the steps, once each and in order, if some were taken back meanwhile */
    const char *steps = steps_seen();
    const char *purged = strpbrk(steps, "pP"), *shrunk = strpbrk(steps, "sS"),
               *spilled = strpbrk(steps, "lL");
    if (purged == NULL || shrunk == NULL || spilled == NULL || purged > shrunk ||
        shrunk > spilled) {
        fprintf(stderr, "steps: %s\n", steps);
        _exit(99);
    }
    CHECK(memopt_pressure_stop() == 0);
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
}

static void a_real_limit_of_a_cgroup(void **state) {
    (void)state;
#ifdef MO_SANITIZED
    skip(); /* its shadow and quarantine need more than the group has */
#endif
    struct statfs file_system;
    assert_int_equal(statfs(directory, &file_system), 0);
    if (RUNNING_ON_VALGRIND || file_system.f_type == 0x01021994 || !make_group(96 * MIB)) {
        print_message("no cgroup with a limit of memory can be had here\n");
        skip();
    }
    int status = run_in_child(grow_in_the_group);
    for (int i = 0; i < 100 && rmdir(group) < 0; i++)
        usleep(10000); /* it is empty when the kernel has noticed */
    assert_int_equal(status, 0);
}

/* ----------------------------------------------------- threads, fork, rest */

static _Atomic int woken_count;
static void wake(void *context, const struct memopt_pressure_event *event) {
    (void)context, (void)event;
    woken_count++;
}
/* Until a poll that began after this is over: not a number of steps, as those of
 * the threads' own requests come in between. */
static void wait_for_a_poll(void) {
    uint64_t before = pressure().polls;
    while (pressure().polls < before + 2)
        usleep(1000);
}

enum { THREADS = 3 };
static _Atomic int stop_work;
static void *work(void *context) {
    struct memopt_heap *const *heaps = context;
    while (!stop_work)
        for (size_t i = 0; i < 3; i++) {
            char *p = memopt_heap_alloc(heaps[i], 70000);
            if (p != NULL)
                p[69999] = 1;
            memopt_heap_free(heaps[i], p);
            CHECK(memopt_pressure_poll() >= 0);
        }
    return NULL;
}

static void a_thread_polls(void) {
    if (RUNNING_ON_VALGRIND) /* one thread at a time: those that work starve the watch */
        return;
    make_proc();
    put("pressure/memory", "some avg10=0.00");
    put_resident(10, 0);
    struct memopt_heap *heaps[] = {heap_with("libc", 10 * MIB, "purge"),
                                   heap_with("libc", MEMOPT_NO_LIMIT, "purge"),
                                   heap_with("libc", 10 * MIB, is_on_a_disk() ? "spill" : "fail")};
    struct memopt_pressure_options options = watch_of(MEMOPT_PRESSURE_RSS | MEMOPT_PRESSURE_HEAP);
    options.background = 1;
    options.interval = 1000000;
    start(&options);
    memopt_pressure_set_callback(wake, NULL);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, heaps) == 0);
    for (int round = 0; round < 3; round++) {
        uint64_t fails = pressure().fails;
        put_resident(1000, 0);
        while (pressure().fails == fails) /* the last step of the ladder */
            usleep(1000);
        CHECK(woken_count > 0);
        put_resident(10, 0);
        wait_for_a_poll();
        CHECK(pressure().level == MEMOPT_PRESSURE_CALM);
        pid_t pid = fork();
        if (pid == 0) { /* goes on without the thread */
            alarm(600);
            CHECK(memopt_pressure_poll() >= 0);
            CHECK(memopt_pressure_stop() == 0);
            _exit(0);
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    }
    stop_work = 1;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(memopt_pressure_stop() == 0);
    for (size_t i = 0; i < 3; i++) {
        CHECK(stats_of(heaps[i]).live_bytes == 0);
        CHECK(memopt_heap_destroy(heaps[i], NULL) == 0);
    }
    remove_proc();
}
IN_CHILD(a_thread_polls)

static void polls_wait_for_the_interval(void) {
    make_proc();
    put_resident(10, 0);
    struct memopt_pressure_options options = watch_of(MEMOPT_PRESSURE_RSS);
    options.interval = UINT64_C(3600) * 1000000000;
    start(&options);
    CHECK(memopt_pressure_poll() == MEMOPT_PRESSURE_CALM);
    put_resident(1000, 0);
    for (int i = 0; i < 1000; i++)
        CHECK(memopt_pressure_poll() == MEMOPT_PRESSURE_CALM);
    CHECK(pressure().polls == 1);
    CHECK(memopt_pressure_stop() == 0);
    remove_proc();
}
IN_CHILD(polls_wait_for_the_interval)

static int poll_inside(void *context, struct memopt_heap *heap,
                       const struct memopt_heap_statistics *stats) {
    (void)heap, (void)stats;
    *(int *)context = 1;
    CHECK(memopt_pressure_stop() == -EDEADLK);
    CHECK(memopt_pressure_start(NULL, NULL) == -EDEADLK);
    return memopt_pressure_poll();
}

static void bad_requests_are_refused(void) {
    make_proc();
    put_resident(10, 0);
    struct memopt_heap *heap = heap_with("libc", MIB, NULL);
    struct memopt_heap *list[] = {heap, NULL};
    static const struct memopt_pressure_options good = MEMOPT_PRESSURE_OPTIONS_INIT;
    struct memopt_pressure_options cases[15];
    const char *texts[COUNT(cases)] = {
        "size",       "size",     "warn",     "high",     "critical",
        "hysteresis", "psi_warn", "not fall", "not fall", "sources",
        "steps",      "interval", "together", "number 1", "sources is there"};
    for (size_t i = 0; i < COUNT(cases); i++)
        cases[i] = good;
    cases[0].size = 1;
    cases[1].size = sizeof(good) + 8;
    cases[2].warn = -0.1;
    cases[3].high = 1.01;
    cases[4].critical = (double)NAN;
    cases[5].hysteresis = (double)INFINITY;
    cases[6].psi_warn = 2;
    cases[7].warn = 0.99;
    cases[8].psi_high = 0.9;
    cases[9].sources = MEMOPT_PRESSURE_LIMIT;
    cases[10].steps = 1u << MEMOPT_PRESSURE_RELAX;
    cases[11].interval = UINT64_MAX;
    cases[12].heap_count = 1;
    cases[13].heaps = list, cases[13].heap_count = 2;
    cases[14].sources = MEMOPT_PRESSURE_PSI, cases[14].proc = proc;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct memopt_error error = MEMOPT_ERROR_INIT;
        int code = memopt_pressure_start(&cases[i], &error);
        if (code != (i == 14 ? -ENOTSUP : -EINVAL))
            fprintf(stderr, "case %zu: %d %s\n", i, code, error.message);
        CHECK(code == (i == 14 ? -ENOTSUP : -EINVAL) && error.code == code);
        CHECK_TEXT(error.message, texts[i]);
        CHECK(memopt_pressure_poll() == -ENOENT);
    }
    struct memopt_error error;
    struct memopt_pressure_options options = watch_of(MEMOPT_PRESSURE_RSS);
    char endless[5000];
    memset(endless, '/', sizeof(endless));
    endless[4999] = '\0';
    options.proc = endless;
    CHECK(memopt_pressure_start(&options, &error) == -ENAMETOOLONG);
    options.proc = proc;
    start(&options);
    CHECK(memopt_pressure_start(&options, &error) == -EALREADY);
    int visited = 0;
    CHECK(memopt_heap_each(poll_inside, &visited) == -EDEADLK && visited);
    CHECK(poll_surely() == MEMOPT_PRESSURE_CALM); /* the first one is still there */
    CHECK(memopt_pressure_stop() == 0);
    struct memopt_pressure_statistics stats = {.size = 2};
    CHECK(memopt_pressure_stats(&stats) == -EINVAL && memopt_pressure_stats(NULL) == -EINVAL);
    /* consumers */
    struct spare spare[MEMOPT_PRESSURE_CONSUMERS + 1];
    CHECK(memopt_pressure_add_consumer(heap, NULL, NULL, &error) == -EINVAL);
    CHECK(memopt_pressure_remove_consumer(heap, NULL, NULL, &error) == -EINVAL);
    for (size_t i = 0; i < MEMOPT_PRESSURE_CONSUMERS; i++)
        CHECK(memopt_pressure_add_consumer(heap, use_less, &spare[i], &error) == 0);
    CHECK(memopt_pressure_add_consumer(heap, use_less, &spare[3], &error) == -EEXIST);
    CHECK(memopt_pressure_add_consumer(heap, use_less, &spare[MEMOPT_PRESSURE_CONSUMERS], &error) ==
          -ENOSPC);
    CHECK(memopt_pressure_remove_consumer(NULL, use_less, &spare[3], &error) == -ENOENT);
    CHECK(memopt_pressure_remove_consumer(heap, use_less, &spare[3], &error) == 0);
    CHECK(memopt_pressure_add_consumer(NULL, use_less, &spare[3], &error) == 0);
    CHECK(memopt_heap_destroy(heap, NULL) == 0); /* takes its own along */
    CHECK(memopt_pressure_remove_consumer(NULL, use_less, &spare[3], &error) == 0);
    remove_proc();
}
IN_CHILD(bad_requests_are_refused)

static void the_ini_is_checked(void) {
    make_proc();
    write_ini("[pressure]\nwarn = 90%\nhigh = 80%\n");
    struct memopt_error error;
    CHECK(memopt_pressure_start(NULL, &error) == -EINVAL);
    CHECK_TEXT(error.message, ":3: 'high' is '80%', below 'warn', which is '90%'");
    remove_proc();
}
IN_CHILD(the_ini_is_checked)

/* ------------------------------------------------------------- the report */

static void the_report_has_the_steps(void) {
    char text[512], path[sizeof(directory) + 16];
    snprintf(path, sizeof(path), "%s/out.json", directory);
    snprintf(text, sizeof(text), "[memopt]\nreporters = json\n[reporter.json]\noutput = %s\n",
             path);
    write_ini(text);
    struct memopt_heap *heap = heap_with("libc", 1000, "purge, shrink, fail");
    for (int i = 0; i < 9; i++)
        CHECK(memopt_heap_alloc(heap, 5000) == NULL);
    CHECK(memopt_report(NULL) == 0);
    json_t *root = json_load_file(path, 0, NULL);
    CHECK(root != NULL);
    const json_t *process = json_array_get(json_object_get(root, "processes"), 0);
    const json_t *events = json_object_get(process, "events");
    CHECK(json_array_size(events) == 12); /* the 1st, 2nd, 4th and 8th of three */
    static const char *const kinds[] = {"purge", "shrink", "enomem"};
    size_t i;
    json_t *event;
    unsigned counts[3] = {0, 0, 0}, eighth = 0;
    for (i = 0; i < 12; i++) /* in the order that they were taken */
        CHECK(strcmp(json_string_value(json_object_get(json_array_get(events, i), "kind")),
                     kinds[i % 3]) == 0);
    json_array_foreach(events, i, event) {
        const char *kind = json_string_value(json_object_get(event, "kind"));
        const char *what = json_string_value(json_object_get(event, "text"));
        CHECK_TEXT(what, "at its limit: 5000 bytes wanted, live 0 of 1000 bytes");
        eighth += strstr(what, "(number 8)") != NULL;
        for (size_t k = 0; k < 3; k++)
            counts[k] += strcmp(kind, kinds[k]) == 0;
    }
    CHECK(counts[0] == 4 && counts[1] == 4 && counts[2] == 4 && eighth == 3);
    json_decref(root);
    CHECK(unlink(path) == 0);
}
IN_CHILD(the_report_has_the_steps)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_come_in_order_test),
        cmocka_unit_test(the_last_step_before_enomem_spills_test),
        cmocka_unit_test(callbacks_do_not_nest_test),
        cmocka_unit_test(a_real_limit_of_the_address_space_test),
        cmocka_unit_test(levels_rise_and_fall_test),
        cmocka_unit_test(a_step_that_helps_is_the_last_test),
        cmocka_unit_test(critical_spills_and_full_refuses_test),
        cmocka_unit_test(steps_can_be_left_out_test),
        cmocka_unit_test(a_heap_is_watched_test),
        cmocka_unit_test(waiting_is_pressure_test),
        cmocka_unit_test(groups_have_limits_test),
        cmocka_unit_test(a_real_limit_of_a_cgroup),
        cmocka_unit_test(a_thread_polls_test),
        cmocka_unit_test(polls_wait_for_the_interval_test),
        cmocka_unit_test(bad_requests_are_refused_test),
        cmocka_unit_test(the_ini_is_checked_test),
        cmocka_unit_test(the_report_has_the_steps_test),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
