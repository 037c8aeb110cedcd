/*
 * test_heap_config.c - heaps as the INI and the options say, the default heap,
 * memopt_init(), memopt_report(), and what is refused.
 */
#include "config.h"

#include "tests/heap_child.h"

#include <errno.h>
#include <jansson.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* --------------------------------------------------------------- the INI */

static void ini_drives_heaps(void) {
    write_ini("[memopt]\nallocator = libc\n"
              "[heap.pages]\nallocator = mmap\nlimit = 1MiB\n"
              "[heap.plain]\nlimit = 64KiB\non_limit = fail\n");
    struct memopt_heap_statistics stats = stats_of(open_or_die("pages", NULL));
    CHECK(strcmp(stats.allocator, "mmap") == 0);
    CHECK(stats.limit == 1 << 20);
    struct memopt_heap *plain = open_or_die("plain", NULL);
    stats = stats_of(plain);
    CHECK(strcmp(stats.allocator, "libc") == 0);
    CHECK(stats.limit == 64 << 10);
    CHECK(memopt_heap_alloc(plain, 100000) == NULL && errno == ENOMEM);
    CHECK(stats_of(plain).purges == 0);
    stats = stats_of(open_or_die("elsewhere", NULL));
    CHECK(strcmp(stats.allocator, "libc") == 0);
    CHECK(stats.limit == MEMOPT_NO_LIMIT);
}
IN_CHILD(ini_drives_heaps)

static void options_go_first(void) {
    write_ini("[heap.a]\nallocator = mmap\nlimit = 1MiB\non_limit = fail\n");
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    options.allocator = "libc";
    options.limit = MEMOPT_NO_LIMIT;
    options.on_limit = "purge";
    struct memopt_heap *heap = open_or_die("a", &options);
    CHECK(strcmp(stats_of(heap).allocator, "libc") == 0);
    CHECK(stats_of(heap).limit == MEMOPT_NO_LIMIT);
    memopt_heap_set_limit(heap, 4096);
    CHECK(memopt_heap_alloc(heap, 5000) == NULL);
    CHECK(stats_of(heap).purges == 1);
    /* a struct of an older, shorter library */
    options = (struct memopt_heap_options)MEMOPT_HEAP_OPTIONS_INIT;
    options.size = offsetof(struct memopt_heap_options, limit);
    options.allocator = "libc";
    options.limit = 12345678;
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
    heap = open_or_die("a", &options);
    CHECK(strcmp(stats_of(heap).allocator, "libc") == 0);
    CHECK(stats_of(heap).limit == 1 << 20);
}
IN_CHILD(options_go_first)

static void arena_has_the_region(void) {
    write_ini("[heap.fixed]\nallocator = arena\nregion = 1MiB\n");
    struct memopt_heap *heap = open_or_die("fixed", NULL);
    void *p = memopt_heap_alloc(heap, 700 << 10);
    CHECK(p != NULL);
    CHECK(memopt_heap_alloc(heap, 700 << 10) == NULL && errno == ENOMEM);
    CHECK(stats_of(heap).failed == 1 && stats_of(heap).refused == 0);
    memopt_heap_free(heap, p);
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
    /* the caller's own memory */
    static char memory[256 << 10] __attribute__((aligned(4096)));
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    options.allocator = "arena";
    options.region = memory;
    options.region_size = sizeof(memory);
    heap = open_or_die("mine", &options);
    char *q = memopt_heap_alloc(heap, 1000);
    CHECK(q >= memory && q + 1000 <= memory + sizeof(memory));
    CHECK(memopt_heap_destroy(heap, NULL) == 0);
}
IN_CHILD(arena_has_the_region)

/* ------------------------------------------------------------- refusals */

static int try_open(const char *name, const struct memopt_heap_options *options,
                    struct memopt_error *error) {
    struct memopt_heap *const untouched = (struct memopt_heap *)1;
    struct memopt_heap *heap = untouched;
    *error = (struct memopt_error)MEMOPT_ERROR_INIT;
    int code = memopt_heap_open(name, options, &heap, error);
    CHECK(code == 0 || heap == untouched);
    CHECK(code == error->code);
    CHECK((code < 0) == (error->message[0] != '\0'));
    return code;
}

static void unset_values_are_unset(void) {
    write_ini("[pressure]\nspill_dir =\n[heap.plain]\nallocator =\nlimit =\nregion =\n"
              "[heap.spilled]\nlimit = 1MiB\non_limit = spill\n");
    struct memopt_error error;
    struct memopt_heap_statistics stats = stats_of(open_or_die("plain", NULL));
    CHECK(strcmp(stats.allocator, "libc") == 0);
    CHECK(stats.limit == MEMOPT_NO_LIMIT);
    CHECK(try_open("spilled", NULL, &error) == -EINVAL);
    CHECK_TEXT(error.message, "heap 'spilled': spill_dir is unset: name a directory on a disk");
}
IN_CHILD(unset_values_are_unset)

static void bad_requests_are_refused(void) {
    write_ini("[pressure]\nspill_dir = /proc/self\n"
              "[heap.spilled]\nlimit = 1MiB\non_limit = purge, spill\n"
              "[heap.region]\nallocator = libc\nregion = 1MiB\n"
              "[heap.default]\nlimit = 1MiB\n");
    struct memopt_error error;
    char long_name[MEMOPT_HEAP_NAME_MAX + 1];
    memset(long_name, 'a', sizeof(long_name));
    long_name[MEMOPT_HEAP_NAME_MAX] = '\0';
    const char *const names[] = {NULL, "", "a b", "a]", "ä", "a/b", long_name};
    for (size_t i = 0; i < COUNT(names); i++) {
        CHECK(try_open(names[i], NULL, &error) == -EINVAL);
        CHECK_TEXT(error.message, "letters, digits");
    }
    long_name[MEMOPT_HEAP_NAME_MAX - 1] = '\0';
    CHECK(try_open(long_name, NULL, &error) == 0);

    CHECK(try_open("spilled", NULL, &error) < 0);
    CHECK_TEXT(error.message, "heap 'spilled': can't make a file to spill to in '/proc/self'");
    CHECK(try_open("region", NULL, &error) == -ENOTSUP);
    CHECK_TEXT(error.message, "'libc' can't allocate from a region; use arena");

    static char memory[4096];
    static const struct {
        struct memopt_heap_options options;
        int code;
        const char *text;
    } cases[] = {
        {{4, NULL, 0, NULL, NULL, 0, NULL, 0}, -EINVAL, "MEMOPT_HEAP_OPTIONS_INIT"},
        {{sizeof(cases[0].options) + 8, NULL, 0, NULL, NULL, 0, NULL, 0}, -EINVAL, "size is"},
        {{sizeof(cases[0].options), "lbic", 0, NULL, NULL, 0, NULL, 0}, -ENOENT, "libc"},
        {{sizeof(cases[0].options), "./x.so", 0, NULL, NULL, 0, NULL, 0}, -EINVAL, "absolute"},
        {{sizeof(cases[0].options), NULL, 0, "purge, pray", NULL, 0, NULL, 0}, -EINVAL, "pray"},
        {{sizeof(cases[0].options), NULL, 0, "spill", NULL, 0, "tmp", 0}, -EINVAL, "heap 'x'"},
        {{sizeof(cases[0].options), NULL, 0, NULL, memory, 0, NULL, 0}, -EINVAL, "together"},
        {{sizeof(cases[0].options), NULL, 0, NULL, NULL, 4096, NULL, 0}, -EINVAL, "together"},
        {{sizeof(cases[0].options), "libc", 0, NULL, memory, 4096, NULL, 0}, -ENOTSUP, "region"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int code = try_open("x", &cases[i].options, &error);
        if (code != cases[i].code)
            fprintf(stderr, "case %zu: %d: %s\n", i, code, error.message);
        CHECK(code == cases[i].code);
        CHECK_TEXT(error.message, cases[i].text);
    }
    struct memopt_heap *none = NULL;
    CHECK(memopt_heap_open("x", &cases[0].options, &none, NULL) == -EINVAL);
    CHECK(memopt_heap_find("x") == NULL);
    CHECK(memopt_heap_find(NULL) == NULL);
    CHECK(memopt_heap_destroy(NULL, NULL) == 0);
}
IN_CHILD(bad_requests_are_refused)

/* A library that dlopen can't load: what to do is said. */
static void jemalloc_says_what_to_do(void) {
    write_ini("");
    struct memopt_error error;
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    options.allocator = "jemalloc";
    if (try_open("x", &options, &error) == -ENOENT)
        return; /* not built */
    CHECK_TEXT(error.message, "static TLS");
    CHECK_TEXT(error.message, "memopt run");
    CHECK_TEXT(error.message, "-ljemalloc");
    /* the failure is the heap's, not the library's */
    options.allocator = "libc";
    CHECK(try_open("x", &options, &error) == 0);
}
IN_CHILD(jemalloc_says_what_to_do)

/* ---------------------------------------------------------- memopt_init() */

static void init_takes_a_file(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    char missing[sizeof(ini) + 8];
    snprintf(missing, sizeof(missing), "%s.none", ini);
    unsetenv("MEMOPT_CONF");
    CHECK(memopt_init(missing, &error) == -ENOENT);
    CHECK_TEXT(error.message, missing);
    write_ini("[heap.a]\nlimit = 12Q\n[heap.b]\non_limit = prge\n");
    CHECK(memopt_init(ini, &error) < 0);
    CHECK_TEXT(error.message, "memopt.ini:2:"); /* all errors at once */
    CHECK_TEXT(error.message, "memopt.ini:4:");
    CHECK(memopt_heap_find("a") == NULL);
    write_ini("[heap.a]\nlimit = 12KiB\n");
    CHECK(memopt_init(ini, &error) == 0); /* once more, and right */
    CHECK(memopt_init(ini, &error) == -EALREADY);
    CHECK(stats_of(open_or_die("a", NULL)).limit == 12 << 10);
}
IN_CHILD(init_takes_a_file)

static void a_program_reads_the_configuration(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    const char *text = "untouched";
    write_ini("[optimizer]\nlr = 0.5\n");
    CHECK(memopt_config_get("optimizer", NULL, &text, &error) == -EINVAL);
    CHECK(memopt_config_get("optimizer", "lr", NULL, &error) == -EINVAL);
    CHECK(strcmp(text, "untouched") == 0);
    CHECK(memopt_config_get("optimizer", "lr", &text, &error) == 0);
    CHECK(strcmp(text, "0.5") == 0);
    error.code = -ERANGE;
    snprintf(error.message, sizeof(error.message), "too high");
    CHECK(memopt_config_blame("optimizer", "lr", NULL) == -EINVAL);
    CHECK(memopt_config_blame("optimizer", "lr", &error) == -ERANGE);
    CHECK_TEXT(error.message, "memopt.ini:2: [optimizer]");
    CHECK_TEXT(error.message, "too high");
    CHECK(memopt_config_get("optimizer", "momentum", &text, &error) == 0);
    CHECK(text == NULL);
}
IN_CHILD(a_program_reads_the_configuration)

static void first_use_reads_too(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    write_ini("[heap.a]\nlimt = 4KiB\n");
    struct memopt_heap *heap = NULL;
    CHECK(memopt_heap_open("a", NULL, &heap, &error) == -EINVAL);
    CHECK_TEXT(error.message, "'limit'"); /* the nearest key */
    CHECK(memopt_heap_default(&error) == NULL);
    CHECK(memopt_report(&error) == -EINVAL);
    write_ini("[heap.a]\nlimit = 4KiB\n");
    CHECK(memopt_heap_open("a", NULL, &heap, &error) == 0);
    CHECK(memopt_init(NULL, &error) == -EALREADY);
    CHECK(strcmp(memopt_version(), PACKAGE_VERSION) == 0);
}
IN_CHILD(first_use_reads_too)

/* ------------------------------------------------------ the default heap */

static void default_heap_is_malloc(void) {
    write_ini("[memopt]\nallocator = libc\n[heap.default]\nlimit = 1MiB\n");
    struct memopt_error error = MEMOPT_ERROR_INIT;
    CHECK(memopt_heap_find("default") == NULL);
    struct memopt_heap *heap = memopt_heap_default(&error);
    CHECK(heap != NULL);
    CHECK(memopt_heap_default(NULL) == heap);
    CHECK(open_or_die("default", NULL) == heap);
    CHECK(strcmp(memopt_heap_name(heap), "default") == 0);
    char *p = memopt_heap_alloc(heap, 1000);
    CHECK(p != NULL);
    memset(p, 1, 1000);
    CHECK(stats_of(heap).live_blocks == 1);
    CHECK(stats_of(heap).whole_backend == 1);
    p = memopt_heap_realloc(heap, p, 5000);
    CHECK(p != NULL && p[999] == 1);
    memopt_heap_free(heap, p);
    CHECK(memopt_heap_alloc(heap, 2 << 20) == NULL && errno == ENOMEM);
    CHECK(stats_of(heap).refused == 1);
    CHECK(stats_of(heap).live_bytes == 0);
    CHECK(memopt_heap_destroy(heap, &error) == -EINVAL);
    CHECK_TEXT(error.message, "default heap");
}
IN_CHILD(default_heap_is_malloc)

static void default_heap_is_memopts_allocator(void) {
    write_ini("[memopt]\nallocator = mmap\n");
    struct memopt_heap *heap = memopt_heap_default(NULL);
    CHECK(heap != NULL);
    CHECK(strcmp(stats_of(heap).allocator, "mmap") == 0);
    char *p = memopt_heap_alloc(heap, 10);
    CHECK(p != NULL && memopt_heap_usable_size(heap, p) >= 10);
    memopt_heap_free(heap, p);
    /* and a named heap beside it, of the same backend */
    struct memopt_heap *named = open_or_die("named", NULL);
    CHECK(strcmp(stats_of(named).allocator, "mmap") == 0);
    CHECK(memopt_heap_alloc(named, 100) != NULL);
    CHECK(memopt_heap_destroy(named, NULL) == 0);
}
IN_CHILD(default_heap_is_memopts_allocator)

static void default_heap_has_no_choice(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    write_ini("[heap.default]\nallocator = mmap\n");
    CHECK(memopt_heap_default(&error) == NULL);
    CHECK(error.code == -EINVAL);
    CHECK_TEXT(error.message, "that of [memopt]");
}
IN_CHILD(default_heap_has_no_choice)

/* -------------------------------------------------------- memopt_report() */

static const json_t *find_heap(const json_t *heaps, const char *name) {
    size_t i;
    json_t *heap;
    json_array_foreach(heaps, i, heap) if (strcmp(json_string_value(json_object_get(heap, "name")),
                                                  name) == 0) return heap;
    return NULL;
}

static void report_has_the_heaps(void) {
    char text[512], path[sizeof(directory) + 16];
    snprintf(path, sizeof(path), "%s/out.json", directory);
    snprintf(text, sizeof(text),
             "[memopt]\nreporters = json\n[reporter.json]\noutput = %s\n"
             "[heap.small]\nallocator = mmap\nlimit = 64KiB\n",
             path);
    write_ini(text);
    struct memopt_heap *small = open_or_die("small", NULL), *other = open_or_die("other", NULL);
    CHECK(memopt_heap_alloc(small, 5000) != NULL);
    CHECK(memopt_heap_alloc(small, 100000) == NULL);
    CHECK(memopt_heap_alloc(other, 300) != NULL);
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (memopt_report(&error) < 0)
        fprintf(stderr, "%s\n", error.message);
    CHECK(error.code == 0);
    json_error_t why;
    json_t *root = json_load_file(path, 0, &why);
    CHECK(root != NULL);
    unlink(path);
    const json_t *processes = json_object_get(root, "processes");
    CHECK(json_array_size(processes) == 1);
    const json_t *process = json_array_get(processes, 0);
    CHECK(json_integer_value(json_object_get(process, "pid")) == getpid());
    const json_t *heaps = json_object_get(process, "heaps");
    CHECK(json_array_size(heaps) == 2);
    const json_t *heap = find_heap(heaps, "small");
    CHECK(heap != NULL);
    CHECK(json_integer_value(json_object_get(heap, "limit")) == 64 << 10);
    CHECK((uint64_t)json_integer_value(json_object_get(heap, "live_bytes")) ==
          stats_of(small).live_bytes);
    CHECK(json_integer_value(json_object_get(heap, "refused")) == 1);
    CHECK(strcmp(json_string_value(json_object_get(heap, "allocator")), "mmap") == 0);
    CHECK(find_heap(heaps, "other") != NULL);
    const json_t *events = json_object_get(process, "events");
    CHECK(json_array_size(events) > 0);
    const json_t *time = json_object_get(json_array_get(events, 0), "time");
    CHECK(json_is_integer(time) && json_integer_value(time) < 600000000000);
    json_decref(root);
    CHECK(memopt_report(&error) == 0); /* again */
    CHECK(unlink(path) == 0);
    CHECK(memopt_heap_destroy(small, NULL) == 0);
    CHECK(memopt_heap_destroy(other, NULL) == 0);
}
IN_CHILD(report_has_the_heaps)

static void report_can_fail(void) {
    write_ini("[memopt]\nreporters = json\n[reporter.json]\noutput = /no/such/place/out.json\n");
    struct memopt_error error = MEMOPT_ERROR_INIT;
    CHECK(memopt_report(&error) < 0);
    CHECK_TEXT(error.message, "/no/such/place/out.json");
    CHECK(memopt_report(NULL) < 0);
}
IN_CHILD(report_can_fail)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ini_drives_heaps_test),
        cmocka_unit_test(options_go_first_test),
        cmocka_unit_test(arena_has_the_region_test),
        cmocka_unit_test(unset_values_are_unset_test),
        cmocka_unit_test(bad_requests_are_refused_test),
        cmocka_unit_test(jemalloc_says_what_to_do_test),
        cmocka_unit_test(init_takes_a_file_test),
        cmocka_unit_test(a_program_reads_the_configuration_test),
        cmocka_unit_test(first_use_reads_too_test),
        cmocka_unit_test(default_heap_is_malloc_test),
        cmocka_unit_test(default_heap_is_memopts_allocator_test),
        cmocka_unit_test(default_heap_has_no_choice_test),
        cmocka_unit_test(report_has_the_heaps_test),
        cmocka_unit_test(report_can_fail_test),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
