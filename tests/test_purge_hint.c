/*
 * test_purge_hint.c - purge hints: when they purge, what they report, what they
 * refuse.
 */
#include "config.h"

#include "tests/heap_child.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <semaphore.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A cache: its purger frees what it has. */
struct cache {
    struct memopt_heap *heap;
    void *block;
    unsigned runs;
};
static uint64_t empty_cache(void *context) {
    struct cache *cache = context;
    cache->runs++;
    uint64_t size = memopt_heap_usable_size(cache->heap, cache->block);
    memopt_heap_free(cache->heap, cache->block);
    cache->block = NULL;
    return size;
}
static struct cache make_cache(const char *name, const char *allocator) {
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    options.allocator = allocator;
    return (struct cache){.heap = open_or_die(name, &options)};
}
static void fill_cache(struct cache *cache, size_t size) {
    cache->block = memopt_heap_alloc(cache->heap, size);
    CHECK(cache->block != NULL);
    memset(cache->block, 1, size);
}
static void purged_by(struct cache *cache) {
    CHECK(memopt_heap_add_purger(cache->heap, empty_cache, cache, NULL) == 0);
}

static struct memopt_purge_hint *hint_or_die(const struct memopt_purge_hint_options *options) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct memopt_purge_hint *hint = NULL;
    if (memopt_purge_hint_new(options, &hint, &error) < 0) {
        fprintf(stderr, "%s\n", error.message);
        _exit(99);
    }
    return hint;
}
static struct memopt_purge_hint_statistics hint_stats(struct memopt_purge_hint *hint) {
    struct memopt_purge_hint_statistics stats = MEMOPT_PURGE_HINT_STATISTICS_INIT;
    CHECK(memopt_purge_hint_stats(hint, &stats) == 0);
    return stats;
}
static const struct memopt_purge_share *share_of(const struct memopt_purge_result *result,
                                                 const char *name) {
    const struct memopt_purge_share *found = NULL;
    for (size_t i = 0; i < result->share_count; i++)
        if (strcmp(result->shares[i].name, name) == 0)
            found = &result->shares[i];
    CHECK(found != NULL);
    return found;
}

static void purges_every_n_steps(void) {
    write_ini("");
    struct cache a = make_cache("a", "mmap"), b = make_cache("b", "libc"),
                 c = make_cache("c", "libc");
    purged_by(&a);
    purged_by(&b);
    purged_by(&c);
    struct memopt_purge_hint_options options = MEMOPT_PURGE_HINT_OPTIONS_INIT;
    options.every = 3;
    struct memopt_purge_hint *hint = hint_or_die(&options);
    struct memopt_purge_result result = MEMOPT_PURGE_RESULT_INIT;
    uint64_t claimed = 0;
    for (unsigned step = 1; step <= 10; step++) {
        fill_cache(&a, 1 << 20);
        int code = memopt_purge_hint_step(hint, &result);
        CHECK(code == (step % 3 == 0));
        CHECK(a.runs == step / 3 && b.runs == step / 3 && c.runs == step / 3);
        if (code == 0) {
            memopt_heap_free(a.heap, a.block);
            a.block = NULL;
            continue;
        }
        CHECK(result.cause == MEMOPT_PURGE_STEPS && result.step == step);
        CHECK(result.heap_count == 3 && result.share_count == 3);
        CHECK(share_of(&result, "a")->claimed >= 1 << 20);
        CHECK(!share_of(&result, "a")->shared && !share_of(&result, "b")->shared);
        CHECK(share_of(&result, "c")->shared); /* libc was purged for b */
        uint64_t sum = 0;
        for (size_t i = 0; i < result.share_count; i++)
            sum += result.shares[i].claimed;
        CHECK(result.claimed == sum);
        CHECK(result.resident_before != MEMOPT_UNKNOWN && result.resident_before > 0);
        CHECK(result.resident_after != MEMOPT_UNKNOWN && result.resident_after > 0);
        claimed += result.claimed;
    }
    struct memopt_purge_hint_statistics stats = hint_stats(hint);
    CHECK(stats.steps == 10 && stats.purges == 3 && stats.idle_purges == 0);
    CHECK(stats.claimed == claimed);
    CHECK(stats_of(a.heap).purges == 3 && stats_of(c.heap).purges == 3);
    CHECK(memopt_purge_hint_now(hint, NULL) == 1);
    CHECK(hint_stats(hint).purges == 4);
    memopt_purge_hint_free(hint);
}
IN_CHILD(purges_every_n_steps)

/* What the purge says of RSS is what happened to it. */
static void resident_memory_falls(void) {
    write_ini("");
    enum { SIZE = 64 << 20 };
    struct cache a = make_cache("a", "mmap");
    purged_by(&a);
    fill_cache(&a, SIZE);
    struct memopt_heap *list[] = {a.heap};
    struct memopt_purge_hint_options options = MEMOPT_PURGE_HINT_OPTIONS_INIT;
    options.heaps = list;
    options.heap_count = 1;
    struct memopt_purge_hint *hint = hint_or_die(&options);
    list[0] = NULL; /* it was copied */
    struct memopt_purge_result result = MEMOPT_PURGE_RESULT_INIT;
    CHECK(memopt_purge_hint_now(hint, &result) == 1);
    CHECK(result.cause == MEMOPT_PURGE_NOW && result.heap_count == 1);
    CHECK(result.claimed >= SIZE);
    CHECK(result.resident_before > result.resident_after);
    CHECK(result.resident_before - result.resident_after > SIZE / 10 * 9);
    CHECK(hint_stats(hint).resident > SIZE / 10 * 9);
    memopt_purge_hint_free(hint);
}
IN_CHILD(resident_memory_falls)

static void purges_once_an_idle_time(void) {
    write_ini("");
    struct cache a = make_cache("a", "libc");
    purged_by(&a);
    struct memopt_purge_hint_options options = MEMOPT_PURGE_HINT_OPTIONS_INIT;
    options.every = MEMOPT_PURGE_NEVER;
    options.idle = 1; /* ns: any later moment is idle */
    struct memopt_purge_hint *hint = hint_or_die(&options);
    struct memopt_purge_result result = MEMOPT_PURGE_RESULT_INIT;
    for (unsigned round = 1; round <= 3; round++) {
        while (memopt_purge_hint_idle(hint, &result) == 0)
            ; /* the clock may stand still for a moment */
        CHECK(result.cause == MEMOPT_PURGE_IDLE && result.step == round - 1);
        for (int i = 0; i < 1000; i++)
            CHECK(memopt_purge_hint_idle(hint, &result) == 0); /* for this idleness it is done */
        CHECK(a.runs == round);
        CHECK(memopt_purge_hint_step(hint, NULL) == 0);
    }
    CHECK(hint_stats(hint).purges == 3 && hint_stats(hint).idle_purges == 3);
    memopt_purge_hint_free(hint);
    options.idle = UINT64_C(3600) * 1000000000;
    hint = hint_or_die(&options);
    CHECK(memopt_purge_hint_idle(hint, &result) == 0);
    memopt_purge_hint_free(hint);
    options.idle = 0; /* and the INI has none */
    hint = hint_or_die(&options);
    CHECK(memopt_purge_hint_idle(hint, &result) == 0);
    CHECK(a.runs == 3);
    memopt_purge_hint_free(hint);
}
IN_CHILD(purges_once_an_idle_time)

static sem_t purged;
static void tell(void *context, const struct memopt_purge_result *result) {
    (void)context;
    CHECK(result->cause == MEMOPT_PURGE_IDLE && result->heap_count == 1);
    CHECK(result->size == sizeof(*result));
    sem_post(&purged);
}

static void a_thread_watches_idleness(void) {
    write_ini("[pressure]\npurge_idle = 1ms\n");
    CHECK(sem_init(&purged, 0, 0) == 0);
    struct cache a = make_cache("a", "libc");
    purged_by(&a);
    struct memopt_purge_hint_options options = MEMOPT_PURGE_HINT_OPTIONS_INIT;
    options.background = 1;
    options.done = tell;
    struct memopt_purge_hint *hint = hint_or_die(&options);
    for (int i = 0; i < 3; i++) {
        CHECK(sem_wait(&purged) == 0);
        CHECK(memopt_purge_hint_step(hint, NULL) == 0);
    }
    /* the child has the hint and no thread */
    pid_t pid = fork();
    if (pid == 0) {
        alarm(600);
        while (memopt_purge_hint_idle(hint, NULL) == 0 && hint_stats(hint).purges < 4)
            ;
        memopt_purge_hint_free(hint);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    memopt_purge_hint_free(hint);
    /* ended while it waits */
    options.idle = UINT64_C(3600) * 1000000000;
    memopt_purge_hint_free(hint_or_die(&options));
}
IN_CHILD(a_thread_watches_idleness)

static void the_ini_drives(void) {
    write_ini("[pressure]\npurge_every = 2\npurge_idle = 1h\n");
    struct memopt_purge_hint *hint = hint_or_die(NULL);
    CHECK(memopt_purge_hint_step(hint, NULL) == 0);
    CHECK(memopt_purge_hint_step(hint, NULL) == 1);
    CHECK(memopt_purge_hint_idle(hint, NULL) == 0);
    memopt_purge_hint_free(hint);
}
IN_CHILD(the_ini_drives)

static void the_ini_can_say_never(void) {
    write_ini("[pressure]\npurge_every = 0\n");
    struct memopt_purge_hint *hint = hint_or_die(NULL);
    for (int i = 0; i < 1000; i++)
        CHECK(memopt_purge_hint_step(hint, NULL) == 0);
    memopt_purge_hint_free(hint);
    struct memopt_purge_hint_options options = MEMOPT_PURGE_HINT_OPTIONS_INIT;
    options.every = 1; /* goes first */
    hint = hint_or_die(&options);
    CHECK(memopt_purge_hint_step(hint, NULL) == 1);
    memopt_purge_hint_free(hint);
}
IN_CHILD(the_ini_can_say_never)

static struct memopt_purge_hint *walked_hint;
static int step_inside(void *context, struct memopt_heap *heap,
                       const struct memopt_heap_statistics *stats) {
    (void)context, (void)heap, (void)stats;
    return memopt_purge_hint_now(walked_hint, NULL);
}
static int make_inside(void *context, struct memopt_heap *heap,
                       const struct memopt_heap_statistics *stats) {
    (void)heap, (void)stats;
    return memopt_purge_hint_new(NULL, &walked_hint, context);
}

static void bad_requests_are_refused(void) {
    write_ini("");
    struct cache a = make_cache("a", "libc");
    struct memopt_heap *list[] = {a.heap, NULL};
    static const struct memopt_purge_hint_options good = MEMOPT_PURGE_HINT_OPTIONS_INIT;
    struct memopt_purge_hint_options cases[7];
    const char *texts[] = {"size", "size", "together", "together", "number 1", "too long", "idle"};
    for (size_t i = 0; i < COUNT(cases); i++)
        cases[i] = good;
    cases[0].size = 3;
    cases[1].size = sizeof(good) + 8;
    cases[2].heaps = list;
    cases[3].heap_count = 2;
    cases[4].heaps = list, cases[4].heap_count = 2;
    cases[5].idle = UINT64_MAX - 1;
    cases[6].background = 1;
    struct memopt_purge_hint *const untouched = (struct memopt_purge_hint *)1;
    struct memopt_purge_hint *hint = untouched;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct memopt_error error = MEMOPT_ERROR_INIT;
        CHECK(memopt_purge_hint_new(&cases[i], &hint, &error) == -EINVAL);
        CHECK(hint == untouched && error.code == -EINVAL);
        CHECK_TEXT(error.message, texts[i]);
        CHECK(memopt_purge_hint_new(&cases[i], &hint, NULL) == -EINVAL);
    }
    struct memopt_error error = MEMOPT_ERROR_INIT;
    walked_hint = untouched;
    CHECK(memopt_heap_each(make_inside, &error) == -EDEADLK && walked_hint == untouched);
    hint = walked_hint = hint_or_die(NULL);
    struct memopt_purge_result result = {.size = sizeof(result) + 1};
    CHECK(memopt_purge_hint_now(hint, &result) == -EINVAL);
    CHECK(memopt_purge_hint_step(hint, &result) == -EINVAL);
    CHECK(memopt_purge_hint_idle(hint, &result) == -EINVAL);
    CHECK(memopt_purge_hint_step(NULL, NULL) == -EINVAL);
    CHECK(memopt_purge_hint_idle(NULL, NULL) == -EINVAL);
    CHECK(memopt_purge_hint_now(NULL, NULL) == -EINVAL);
    struct memopt_purge_hint_statistics stats = {.size = 4};
    CHECK(memopt_purge_hint_stats(hint, &stats) == -EINVAL);
    CHECK(memopt_purge_hint_stats(hint, NULL) == -EINVAL);
    CHECK(hint_stats(hint).steps == 0 && hint_stats(hint).purges == 0);
    CHECK(memopt_heap_each(step_inside, NULL) == -EDEADLK);
    CHECK(hint_stats(hint).purges == 0);
    CHECK(memopt_purge_hint_now(hint, NULL) == 1); /* nothing was left behind */
    memopt_purge_hint_free(hint);
    /* a shorter struct of an older library */
    struct memopt_purge_hint_options older = good;
    older.size = offsetof(struct memopt_purge_hint_options, heaps);
    older.every = 1;
    older.heap_count = 17;
    hint = hint_or_die(&older);
    struct memopt_purge_result small = {.size = offsetof(struct memopt_purge_result, claimed),
                                        .claimed = 42};
    CHECK(memopt_purge_hint_step(hint, &small) == 1);
    CHECK(small.step == 1 && small.claimed == 42);
    memopt_purge_hint_free(hint);
    memopt_purge_hint_free(NULL);
}
IN_CHILD(bad_requests_are_refused)

enum { THREADS = 4, STEPS = 3000 };
static void *steps_of_a_thread(void *context) {
    struct memopt_heap *heap = memopt_heap_find("a");
    for (int i = 0; i < STEPS; i++) {
        void *p = memopt_heap_alloc(heap, 100);
        CHECK(p != NULL);
        CHECK(memopt_purge_hint_step(context, NULL) >= 0);
        memopt_heap_free(heap, p);
    }
    return NULL;
}

static void threads_step_together(void) {
    write_ini("");
    struct cache a = make_cache("a", "libc");
    struct memopt_purge_hint_options options = MEMOPT_PURGE_HINT_OPTIONS_INIT;
    options.every = 100;
    options.idle = 1000000;
    options.background = 1;
    struct memopt_purge_hint *hint = hint_or_die(&options);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, steps_of_a_thread, hint) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    struct memopt_purge_hint_statistics stats = hint_stats(hint);
    CHECK(stats.steps == THREADS * STEPS);
    CHECK(stats.purges >= 1 && stats.purges - stats.idle_purges <= THREADS * STEPS / 100);
    CHECK(stats_of(a.heap).live_bytes == 0);
    memopt_purge_hint_free(hint);
}
IN_CHILD(threads_step_together)

static void more_heaps_than_shares(void) {
    write_ini("");
    for (int i = 0; i < 70; i++) {
        char name[16];
        snprintf(name, sizeof(name), "heap%d", i);
        make_cache(name, "libc");
    }
    struct memopt_purge_hint *hint = hint_or_die(NULL);
    struct memopt_purge_result result = MEMOPT_PURGE_RESULT_INIT;
    CHECK(memopt_purge_hint_now(hint, &result) == 1);
    CHECK(result.heap_count == 70 && result.share_count == 64);
    memopt_purge_hint_free(hint);
}
IN_CHILD(more_heaps_than_shares)

static void the_report_has_the_totals(void) {
    char text[512], path[sizeof(directory) + 16];
    snprintf(path, sizeof(path), "%s/out.json", directory);
    snprintf(text, sizeof(text), "[memopt]\nreporters = json\n[reporter.json]\noutput = %s\n",
             path);
    write_ini(text);
    struct cache a = make_cache("a", "mmap");
    purged_by(&a);
    fill_cache(&a, 1 << 20);
    struct memopt_purge_hint *hint = hint_or_die(NULL);
    CHECK(memopt_purge_hint_now(hint, NULL) == 1);
    memopt_purge_hint_free(hint);
    CHECK(memopt_report(NULL) == 0);
    json_t *root = json_load_file(path, 0, NULL);
    CHECK(root != NULL);
    const json_t *process = json_array_get(json_object_get(root, "processes"), 0);
    const json_t *events = json_object_get(process, "events");
    CHECK(json_array_size(events) == 1);
    const json_t *event = json_array_get(events, 0);
    CHECK(strcmp(json_string_value(json_object_get(event, "kind")), "purge") == 0);
    CHECK_TEXT(json_string_value(json_object_get(event, "text")), "1 purge in 0 steps");
    json_decref(root);
    CHECK(unlink(path) == 0);
}
IN_CHILD(the_report_has_the_totals)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(purges_every_n_steps_test),
        cmocka_unit_test(resident_memory_falls_test),
        cmocka_unit_test(purges_once_an_idle_time_test),
        cmocka_unit_test(a_thread_watches_idleness_test),
        cmocka_unit_test(the_ini_drives_test),
        cmocka_unit_test(the_ini_can_say_never_test),
        cmocka_unit_test(bad_requests_are_refused_test),
        cmocka_unit_test(threads_step_together_test),
        cmocka_unit_test(more_heaps_than_shares_test),
        cmocka_unit_test(the_report_has_the_totals_test),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
