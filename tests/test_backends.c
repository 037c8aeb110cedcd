/*
 * test_backends.c - what is special to the backends that stand for a library:
 * that their options arrive, what goes into the environment, what they say when
 * the library or one of its functions is missing, what their figures mean. What
 * every allocator must do is in conformance.c.
 *
 * A backend opens once a process: each test that opens one is a child.
 */
#include "config.h"

#include "tests/own.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>

/* The plugins' own dlopen and dlsym: the test exports them. */
static const char *missing_library;

__attribute__((visibility("default"))) void *dlopen(const char *path, int flags) {
    static void *(*real)(const char *, int);
    if (real == NULL) {
        void *symbol = dlvsym(RTLD_NEXT, "dlopen", "GLIBC_2.34");
        if (symbol == NULL)
            symbol = dlsym(RTLD_NEXT, "dlopen");
        memcpy(&real, &symbol, sizeof(real));
    }
    if (missing_library != NULL && path != NULL && strstr(path, missing_library) != NULL)
        path = "libmemopt-not-there.so";
    return real(path, flags);
}

static bool have(const char *name) {
    struct mo_plugin *plugin;
    return mo_plugin_load(MEMOPT_ALLOCATOR, name, &plugin, NULL) == 0;
}

/* ------------------------------------------------------------ environment */

static void append(void *context, const char *name, const char *value, char mode,
                   const char *separator) {
    char *text = context;
    size_t used = strlen(text);
    snprintf(text + used, 1024 - used, "%s%c%s%s\n", name, mode, value,
             separator != NULL ? separator : "");
}

static void test_environment(void **state) {
    static const struct {
        const char *plugin;
        const char *options[16]; /* key, value, ... */
        const char *expected;
    } rows[] = {
        {"libc", {NULL}, ""},
        {"libc",
         {"mmap_threshold", "1MiB", "perturb", "3"},
         "GLIBC_TUNABLES+glibc.malloc.mmap_threshold=1048576:\n"
         "GLIBC_TUNABLES+glibc.malloc.perturb=3:\n"},
        {"libc",
         {"tcache_count", "0", "tcache_max", "512"},
         "GLIBC_TUNABLES+glibc.malloc.tcache_count=0:\n"
         "GLIBC_TUNABLES+glibc.malloc.tcache_max=512:\n"},
        {"jemalloc", {NULL}, ""},
        {"jemalloc",
         {"background_thread", "yes", "dirty_decay_ms", "2s", "muzzy_decay_ms", "0", "narenas", "3",
          "tcache", "no", "thp", "always", "malloc_conf", "prof:false"},
         "MALLOC_CONF+background_thread:true,\nMALLOC_CONF+tcache:false,\n"
         "MALLOC_CONF+thp:always,\nMALLOC_CONF+dirty_decay_ms:2000,\n"
         "MALLOC_CONF+muzzy_decay_ms:0,\nMALLOC_CONF+narenas:3,\nMALLOC_CONF+prof:false,\n"},
        {"jemalloc",
         {"percpu_arena", "phycpu", "metadata_thp", "auto", "dss", "primary", "retain", "no",
          "lg_tcache_max", "13", "oversize_threshold", "1MiB", "max_background_threads", "2"},
         "MALLOC_CONF+retain:false,\nMALLOC_CONF+metadata_thp:auto,\n"
         "MALLOC_CONF+percpu_arena:phycpu,\nMALLOC_CONF+dss:primary,\n"
         "MALLOC_CONF+max_background_threads:2,\nMALLOC_CONF+lg_tcache_max:13,\n"
         "MALLOC_CONF+oversize_threshold:1048576,\n"},
        {"tcmalloc",
         {"max_total_thread_cache", "1MiB", "aggressive_decommit", "yes", "heap_limit", "64MiB"},
         "TCMALLOC_MAX_TOTAL_THREAD_CACHE_BYTES=1048576\nTCMALLOC_AGGRESSIVE_DECOMMIT=1\n"
         "TCMALLOC_HEAP_LIMIT_MB=64\n"},
        {"tcmalloc",
         {"release_rate", "2.5", "transfer_num_objects", "64", "skip_sbrk", "yes"},
         "TCMALLOC_RELEASE_RATE=2.5\nTCMALLOC_TRANSFER_NUM_OBJ=64\nTCMALLOC_SKIP_SBRK=1\n"},
        {"mimalloc", {NULL}, ""},
        {"mimalloc",
         {"eager_commit", "no", "use_numa_nodes", "2", "reserve_os_memory", "1GiB"},
         "MIMALLOC_EAGER_COMMIT=0\nMIMALLOC_USE_NUMA_NODES=2\n"
         "MIMALLOC_RESERVE_OS_MEMORY=1048576K\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct mo_plugin *plugin;
        struct memopt_error error = MEMOPT_ERROR_INIT;
        char text[1024] = "";
        if (!have(rows[i].plugin))
            continue; /* not built */
        assert_int_equal(mo_plugin_load(MEMOPT_ALLOCATOR, rows[i].plugin, &plugin, &error), 0);
        void *settings = mo_sys_allocator.alloc(NULL, plugin->descriptor.settings_size);
        assert_int_equal(mo_options_init(plugin->table, settings, &mo_sys_allocator, &error), 0);
        for (size_t j = 0; rows[i].options[j] != NULL; j += 2) {
            const struct memopt_option *option = mo_option_find(plugin->table, rows[i].options[j]);
            assert_non_null(option);
            if (mo_option_parse(option, rows[i].options[j + 1], NULL, settings, &mo_sys_allocator,
                                &error) != 0)
                fail_msg("%s", error.message);
        }
        assert_int_equal(
            plugin->ops.allocator.environment(&mo_host, settings, append, text, &error), 0);
        assert_string_equal(text, rows[i].expected);
    }
}

/* ---------------------------------------------------------------- options */

static void *function(const char *library, const char *name) {
    void *handle = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
    CHECK(handle != NULL);
    void *symbol = dlsym(handle, name);
    CHECK(symbol != NULL);
    return symbol;
}

static void libc_options(void) {
    CHECK(own_open("libc", "perturb", "170", "mmap_threshold", "64KiB", "trim_threshold", "8TiB",
                   NULL) == 0);
#ifndef MO_SANITIZED
    unsigned char *p = own_malloc->malloc(3000);
    for (size_t i = 0; i < 3000; i++)
        CHECK(p[i] == (170 ^ 0xff));
    size_t mapped = mallinfo2().hblks;
    /* what the heap's top still holds comes from there */
    void *large[10];
    for (size_t i = 0; i < 10; i++)
        large[i] = own_malloc->malloc(70000);
    CHECK(mallinfo2().hblks >= mapped + 8);
    for (size_t i = 0; i < 10; i++)
        own_malloc->free(large[i]);
    own_malloc->free(p);
    /* nothing is trimmed below a threshold of 8 TiB */
    size_t top = mallinfo2().arena;
    void *blocks[100];
    for (size_t i = 0; i < 100; i++)
        blocks[i] = own_malloc->malloc(60000);
    size_t grown = mallinfo2().arena;
    CHECK(grown > top + 5000000);
    for (size_t i = 0; i < 100; i++)
        own_malloc->free(blocks[i]);
    CHECK(mallinfo2().arena == grown);
    own_plugin->ops.allocator.purge();
    CHECK(mallinfo2().arena < grown - 5000000);
#endif
}

static void tcmalloc_options(void) {
    size_t value = 0;
    CHECK(own_open("tcmalloc", "max_total_thread_cache", "1MiB", "aggressive_decommit", "yes",
                   "heap_limit", "100MiB", NULL) == 0);
    int (*get)(const char *, size_t *);
    void *symbol = function("libtcmalloc_minimal.so.4", "MallocExtension_GetNumericProperty");
    memcpy(&get, &symbol, sizeof(get));
    CHECK(get("tcmalloc.max_total_thread_cache_bytes", &value) && value == 1 << 20);
    CHECK(get("tcmalloc.aggressive_memory_decommit", &value) && value == 1);
    CHECK(get("tcmalloc.heap_limit_mb", &value) && value == 100);
    void *p = own_malloc->malloc(50 << 20);
    CHECK(p != NULL && own_malloc->malloc(90 << 20) == NULL);
    own_malloc->free(p);
}

static void mimalloc_options(void) {
    CHECK(own_open("mimalloc", "eager_commit_delay", "7", "show_errors", "yes", "use_numa_nodes",
                   "1", NULL) == 0);
    long (*get)(int);
    void *symbol = function("libmimalloc.so.2", "mi_option_get");
    memcpy(&get, &symbol, sizeof(get));
    CHECK(get(0) == 1); /* show_errors */
    long delay = 0;
    for (int i = 0; i < 20; i++)
        delay += get(i) == 7;
    CHECK(delay == 1);
}

static void *allocate(void *argument) {
    (void)argument;
    return own_malloc->malloc(1000);
}

static void mimalloc_figures(void) {
    struct memopt_figures figures = {.size = sizeof(figures)};
    CHECK(own_open("mimalloc", NULL) == 0);
    void *p = own_malloc->malloc(1000000);
    CHECK(own_plugin->ops.allocator.figures(&figures) == 0);
    CHECK(figures.live >= 1000000 && figures.live < 2000000);
    CHECK(figures.fragmentation > 0 && figures.fragmentation < 1);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, allocate, NULL) == 0);
    pthread_join(thread, NULL);
    /* the other thread's blocks can't be counted any more */
    CHECK(own_plugin->ops.allocator.figures(&figures) == 0);
    CHECK(figures.live == MEMOPT_UNKNOWN && figures.committed != MEMOPT_UNKNOWN);
    CHECK(figures.fragmentation != figures.fragmentation);
    own_malloc->free(p);
}

/* jemalloc loads at run time only with more room for thread-local storage. */
static void jemalloc_options(void) {
    CHECK(own_open("jemalloc", "dirty_decay_ms", "3s", "max_background_threads", "1", "narenas",
                   "3", "oversize_threshold", "1MiB", NULL) == 0);
    int (*mallctl)(const char *, void *, size_t *, void *, size_t);
    void *symbol = function("libjemalloc.so.2", "mallctl");
    memcpy(&mallctl, &symbol, sizeof(mallctl));
    ssize_t decay = 0;
    size_t size = sizeof(decay);
    CHECK(mallctl("arenas.dirty_decay_ms", &decay, &size, NULL, 0) == 0 && decay == 3000);
    CHECK(mallctl("arena.0.dirty_decay_ms", &decay, &size, NULL, 0) == 0 && decay == 3000);
    CHECK(strcmp(own_notes,
                 "jemalloc: 'narenas' is not '3': it can be set only before the program starts, by "
                 "memopt run or in MALLOC_CONF\n"
                 "jemalloc: 'oversize_threshold' is not '1048576': it can be set only before the "
                 "program starts, by memopt run or in MALLOC_CONF\n") == 0);
}

/* What environment() sets is found in force and not complained of. */
static void jemalloc_in_force(void) {
    CHECK(own_open("jemalloc", "narenas", "3", "tcache", "no", "thp", "never", "lg_tcache_max",
                   "13", "oversize_threshold", "1MiB", "dirty_decay_ms", "2s", NULL) == 0);
    CHECK(own_notes[0] == '\0');
}

static void jemalloc_too_late(void) {
    CHECK(own_open("jemalloc", NULL) < 0);
    CHECK(strstr(own_error.message, "allocator 'jemalloc': the library 'libjemalloc.so.2' can't be "
                                    "loaded: ") == own_error.message);
    CHECK(strstr(own_error.message, "static TLS") != NULL);
    CHECK(strstr(own_error.message,
                 "\nit must be there from the start: run the program under memopt "
                 "run, link it with -ljemalloc, or start it with "
                 "GLIBC_TUNABLES=glibc.rtld.optional_static_tls=4096") != NULL);
}

static void library_is_missing(void) {
    static const char *const rows[][3] = {
        {"jemalloc", "libjemalloc", "apt-get install libjemalloc2"},
        {"tcmalloc", "libtcmalloc", "apt-get install libtcmalloc-minimal4"},
        {"mimalloc", "libmimalloc", "apt-get install libmimalloc2.0"},
        {"libc", "libc.so.6", "is not loaded in this process"}};
    for (size_t i = 0; i < 4; i++) {
        char begin[64];
        if (!have(rows[i][0]))
            continue;
        struct mo_plugin *plugin;
        CHECK(mo_plugin_load(MEMOPT_ALLOCATOR, rows[i][0], &plugin, &own_error) == 0);
        missing_library = rows[i][1];
        int r = own_open(rows[i][0], NULL);
        missing_library = NULL;
        CHECK(r == -ENOENT && own_error.code == r);
        snprintf(begin, sizeof(begin), "allocator '%s': ", rows[i][0]);
        CHECK(i == 3 || strncmp(own_error.message, begin, strlen(begin)) == 0);
        CHECK(strstr(own_error.message, rows[i][2]) != NULL);
    }
}

/* ----------------------------------------------------------------- runner */

static const struct child {
    const char *name;
    void (*run)(void);
    const char *plugin;
    const char *tunables, *conf; /* GLIBC_TUNABLES, MALLOC_CONF */
} children[] = {
    {"libc-options", libc_options, "libc", NULL, NULL},
    {"tcmalloc-options", tcmalloc_options, "tcmalloc", NULL, NULL},
    {"mimalloc-options", mimalloc_options, "mimalloc", NULL, NULL},
    {"mimalloc-figures", mimalloc_figures, "mimalloc", NULL, NULL},
    {"jemalloc-options", jemalloc_options, "jemalloc", "glibc.rtld.optional_static_tls=4096", NULL},
    {"jemalloc-in-force", jemalloc_in_force, "jemalloc", "glibc.rtld.optional_static_tls=4096",
     "narenas:3,tcache:false,thp:never,lg_tcache_max:13,oversize_threshold:1048576,"
     "dirty_decay_ms:2000"},
    {"jemalloc-too-late", jemalloc_too_late, "jemalloc", NULL, NULL},
    {"library-is-missing", library_is_missing, "libc", NULL, NULL},
};

/* A new program, as the tunables are read before main(). */
static void test_children(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(children) / sizeof(*children); i++) {
        if (!have(children[i].plugin))
            continue;
        pid_t pid = fork();
        if (pid == 0) {
            unsetenv("GLIBC_TUNABLES");
            unsetenv("MALLOC_CONF");
            if (children[i].tunables != NULL)
                setenv("GLIBC_TUNABLES", children[i].tunables, 1);
            if (children[i].conf != NULL)
                setenv("MALLOC_CONF", children[i].conf, 1);
            execl("/proc/self/exe", "test_backends", children[i].name, NULL);
            _exit(97);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (status != 0)
            fail_msg("%s ended with status 0x%x", children[i].name, status);
    }
}

int main(int argc, char **argv) {
    if (argc == 2) {
        for (size_t i = 0; i < sizeof(children) / sizeof(*children); i++)
            if (strcmp(argv[1], children[i].name) == 0) {
                children[i].run();
                _exit(0);
            }
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_children),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
