/* test_config.c - loading: what is refused and in which words, which layer goes
 * before which, odd files, and writing for the program's own reader.
 *
 * config.c is compiled into this test once more, with a system directory that
 * the test can write (TEST_ETC). */
#define _GNU_SOURCE
#include "core/config/config.h"
#include "core/heap/section.h"
#include "core/plugin/section.h"
#include "core/option/flat.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static struct memopt_error error;
static char top[4096]; /* a directory of this test's own */

static struct mo_config *load(const char *text) {
    struct mo_config *config = NULL;
    int result = mo_config_load_text("x.ini", "/base", text, strlen(text), &config, &error);
    if (result < 0)
        fail_msg("%s", error.message);
    return config;
}

static void refuse(const char *text, size_t size, int code, const char *message) {
    struct mo_config *config = (struct mo_config *)1;
    int result = mo_config_load_text("x.ini", "/base", text, size, &config, &error);
    assert_int_not_equal(result, 0);
    assert_string_equal(error.message, message);
    assert_int_equal(result, code);
    assert_int_equal(error.code, code);
    assert_ptr_equal(config, (struct mo_config *)1);
}

/* ------------------------------------------------------------------- texts */

static void refuses(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[memopt]\nalocator = libc\n",
         "x.ini:2: unknown key 'alocator' in [memopt]; did you mean 'allocator'?"},
        {"[memopt]\nlr = 1\n", "x.ini:2: unknown key 'lr' in [memopt]; it belongs to [optimizer]"},
        {"[store]\nlimit = 1\n",
         "x.ini:2: unknown key 'limit' in [store]; it belongs to [heap.NAME]"},
        {"[store]\nxyzzy = 1\n",
         "x.ini:2: unknown key 'xyzzy' in [store]; known are 'kind', 'budget'"},
        {"\n\n[memop]\n", "x.ini:3: unknown section [memop]; did you mean [memopt]?"},
        {"[heaps.a]\n", "x.ini:1: unknown section [heaps.a]; did you mean [heap.a]?"},
        {"[heap]\n", "x.ini:1: section [heap] lacks a name: [heap.NAME] was expected"},
        {"[tracker]\n", "x.ini:1: section [tracker] lacks a name: [tracker.NAME] was expected"},
        {"[libc]\n", "x.ini:1: unknown section [libc]; did you mean [allocator.libc]?"},
        {"[xyzzy]\n",
         "x.ini:1: unknown section [xyzzy]; known are [memopt], [monitor], [pressure], "
         "[optimizer], [store], [heap.NAME], [allocator.NAME], [tracker.NAME], [reporter.NAME]"},
        {"[heap.a/b]\n",
         "x.ini:1: [heap.a/b]: a heap's name is 1 to 63 letters, digits, '_', '-' and '.'"},
        {"[heap.]\n",
         "x.ini:1: [heap.]: a heap's name is 1 to 63 letters, digits, '_', '-' and '.'"},
        {"[memopt]\nbinding = dispach\n",
         "x.ini:2: 'binding' is 'dispach', not one of: auto, direct, dispatch; did you mean "
         "'dispatch'?"},
        {"[memopt]\nfollow = perhaps\n", "x.ini:2: 'follow' is 'perhaps', not yes or no"},
        {"[memopt]\nfollow =\n", "x.ini:2: 'follow' is empty, not yes or no"},
        {"[memopt]\ntrackers = stats, stats\n",
         "x.ini:2: 'trackers' is 'stats, stats', which has an item twice"},
        {"[memopt]\ntrackers = stats,\n",
         "x.ini:2: 'trackers' is 'stats,', which has an empty item (items are separated by "
         "commas)"},
        {"[heap.a]\nlimit = 12Q\n",
         "x.ini:2: 'limit' is '12Q', not a size (bytes, or a number with KiB, MiB, GiB, TiB)"},
        {"[heap.a]\nlimit = 99999999999GiB\n",
         "x.ini:2: 'limit' is '99999999999GiB', too large to be a size (bytes, or a number with "
         "KiB, MiB, GiB, TiB)"},
        {"[heap.a]\non_limit = purge, spil\n", "x.ini:2: 'on_limit' has 'spil', not any of: purge, "
                                               "shrink, spill, fail; did you mean 'spill'?"},
        {"[monitor]\ninterval = 5\n",
         "x.ini:2: 'interval' is '5', not a duration (a number with ns, us, ms, s, m, h or d); a "
         "unit is missing"},
        {"[monitor]\ninterval = 2h\n", "x.ini:2: 'interval' is '2h', not within 10ms .. 1h"},
        {"[pressure]\nwarn = 101%\n", "x.ini:2: 'warn' is '101%', not within 1% .. 100%"},
        {"[pressure]\nsources =\n",
         "x.ini:2: 'sources' is empty, not any of: heap, rss, address_space, cgroup, psi"},
        /* thresholds in the order of what is done; what is unset has its default */
        {"[pressure]\nwarn = 90%\nhigh = 85%\n",
         "x.ini:3: 'high' is '85%', below 'warn', which is '90%'"},
        {"[pressure]\nhigh = 85%\nwarn = 90%\n",
         "x.ini:3: 'warn' is '90%', above 'high', which is '85%'"},
        {"[pressure]\nwarn = 99%\n", "x.ini:2: 'warn' is '99%', above 'high', which is '90%'"},
        {"[pressure]\ncritical = 0.85\n",
         "x.ini:2: 'critical' is '0.85', below 'high', which is '90%'"},
        {"[pressure]\npsi_critical = 20%\npsi_high = 25%\n[memopt]\nfollow = x\n",
         "x.ini:3: 'psi_high' is '25%', above 'psi_critical', which is '20%'\n"
         "x.ini:5: 'follow' is 'x', not yes or no"},
        {"[pressure]\nwarn = 40 %\nhigh = 50%\n",
         "x.ini:2: 'warn' is '40 %', not a ratio (0.8 or 80%)"},
        {"[optimizer]\nlr = fast\n", "x.ini:2: 'lr' is 'fast', not a number (such as 0.5 or 1e-3)"},
        {"[optimizer]\nstate = ram\n", "x.ini:2: 'state' is 'ram', not heap:NAME or store:PATH"},
        {"[optimizer]\nstate = store:\n",
         "x.ini:2: 'state' is 'store:', not heap:NAME or store:PATH"},
        {"[optimizer]\nstate = heap:a b\n",
         "x.ini:2: [heap.a b]: a heap's name is 1 to 63 letters, digits, '_', '-' and '.'"},
        {"[memopt]\nbinding\n", "x.ini:2: 'binding' is not a setting: 'key = value' was expected"},
        {"[memopt]\n= libc\n", "x.ini:2: there is no key before the '='"},
        {"binding = auto\n", "x.ini:1: 'binding' stands before the first [section]"},
        {"[memopt\nbinding = auto\n", "x.ini:1: '[memopt' has no ']': a section is written [NAME]"},
        {"[memopt] binding = auto\n",
         "x.ini:1: '[memopt] binding = auto' has text after the ']': settings go on lines of "
         "their own"},
        {"[]\n", "x.ini:1: '[]' has no name"},
        {"[memopt]\nallocator = \"libc\"\n",
         "x.ini:2: 'allocator' is '\"libc\"': values are written without quotes"},
        {"[memopt]\nbinding = auto\nfollow = no\nbinding = direct\n",
         "x.ini:4: 'binding' is set twice in [memopt], first in line 2"},
        /* whether or not the first is right, and the second is looked at, too */
        {"[memopt]\nbinding = foo\nbinding = auto\nbinding = bar\n",
         "x.ini:2: 'binding' is 'foo', not one of: auto, direct, dispatch\n"
         "x.ini:3: 'binding' is set twice in [memopt], first in line 2\n"
         "x.ini:4: 'binding' is set twice in [memopt], first in line 2\n"
         "x.ini:4: 'binding' is 'bar', not one of: auto, direct, dispatch"},
        /* of a list the first */
        {"[memopt]\ntrackers = stats, stats, nope\nplugin_path = rel, /nonexistent\n",
         "x.ini:2: 'trackers' is 'stats, stats, nope', which has an item twice\n"
         "x.ini:3: 'plugin_path' has 'rel': a relative path is refused; give the directory's "
         "absolute path"},
        {"[memopt]\nbinding = auto\n[store]\n[memopt]\nbinding = direct\n",
         "x.ini:5: 'binding' is set twice in [memopt], first in line 2"},
        {"[memopt]\nbin\rding = auto\n", "x.ini:2: the line has the control character 0x0d"},
        {"[memopt]\nbinding = \033[31m\n", "x.ini:2: the line has the control character 0x1b"},
        {"\xff\xfe[\x01", "x.ini: is UTF-16 text, not UTF-8"},
        {"[allocator./x]\n",
         "x.ini:1: section [allocator./x]: a section has the plugin's name, not its path"},
        {"[memopt]\nallocator = ./alloc-x.so\n",
         "x.ini:2: 'allocator': plugin './alloc-x.so': a relative path is refused; give a plugin's "
         "name or its absolute path"},
        {"[memopt]\nbinding = auto\nplugin_path = /lib, lib\n",
         "x.ini:3: 'plugin_path' has 'lib': a relative path is refused; give the directory's "
         "absolute path"},
        {"[memopt]\nplugin_path = ./\n",
         "x.ini:2: 'plugin_path' has './': a relative path is refused; give the directory's "
         "absolute path"},
        {"[memopt]\nplugin_path = /nowhere/lib\n",
         "x.ini:2: 'plugin_path' has '/nowhere/lib', which can't be searched: No such file or "
         "directory"},
        {"[memopt]\nplugin_path = /dev/null\n",
         "x.ini:2: 'plugin_path' has '/dev/null', which can't be searched: Not a directory"},
        {"[allocator.libc]\nfoo = 1\n[reporter.text]\nfoo = 1\noutput =\n",
         "x.ini:2: unknown key 'foo' in [allocator.libc]; known are 'mmap_threshold', 'mmap_max', "
         "'trim_threshold', 'top_pad', 'arena_max', 'arena_test', 'mxfast', 'perturb', "
         "'tcache_count', 'tcache_max'\n"
         "x.ini:4: unknown key 'foo' in [reporter.text]; known are 'detail', 'color', 'output'\n"
         "x.ini:5: 'output' is empty, not stderr, stdout or a file's name"},
        {"[reporter.json]\noutput = a%x\n",
         "x.ini:2: 'output' is 'a%x': after a '%' only p (process), t (time), e (program) or "
         "another % may come"},
        /* all of them, in the order of the lines, whatever finds them */
        {"[memopt]\nbinding = x\nallocator = /x\n[heap.a]\nlimit\n[stor]\nany = thing\n[store]\n"
         "kind = disk\n",
         "x.ini:2: 'binding' is 'x', not one of: auto, direct, dispatch\n"
         "x.ini:3: 'allocator': plugin '/x' cannot be opened: there is no such file\n"
         "x.ini:5: 'limit' is not a setting: 'key = value' was expected\n"
         "x.ini:6: unknown section [stor]; did you mean [store]?\n"
         "x.ini:9: 'kind' is 'disk', not one of: ram, mmap, stream"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        int code = strstr(cases[i].message, "'limit' is '999") != NULL ||
                           strstr(cases[i].message, "not within") != NULL
                       ? -ERANGE
                       : -EINVAL;
        refuse(cases[i].text, strlen(cases[i].text), code, cases[i].message);
    }
    static const char nul[] = "[memopt]\nbind\0ing = auto\n";
    refuse(nul, sizeof(nul) - 1, -EINVAL,
           "x.ini:2: the line has a NUL byte: this is not a text file");
}

/* Plugins' own words are not repeated here; what counts is that the line, the
 * name and the nearest one are told. */
static void refuses_plugins(void **state) {
    (void)state;
    static const struct {
        const char *text, *start, *contains;
    } cases[] = {
        {"[memopt]\nallocator = libcc\n", "x.ini:2: 'allocator': there is no allocator", "'libc'"},
        {"[memopt]\ntrackers = stat\n", "x.ini:2: 'trackers': there is no tracker", "'stats'"},
        {"[memopt]\nreporters = text, jso\n", "x.ini:2: 'reporters': there is no reporter",
         "'json'"},
        {"[heap.a]\nallocator = pol\n", "x.ini:2: 'allocator': there is no allocator", "'pool'"},
        {"[tracker.stat]\n", "x.ini:1: section [tracker.stat]: there is no tracker", "'stats'"},
        {"[memopt]\ntrackers = text\n", "x.ini:2: 'trackers': there is no tracker", "'text'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct mo_config *config;
        int result = mo_config_load_text("x.ini", "/", cases[i].text, strlen(cases[i].text),
                                         &config, &error);
        assert_int_equal(result, -ENOENT);
        if (strncmp(error.message, cases[i].start, strlen(cases[i].start)) != 0 ||
            strstr(error.message, cases[i].contains) == NULL || strchr(error.message, '\n') != NULL)
            fail_msg("%s", error.message);
    }
}

static void long_lines(void **state) {
    (void)state;
    static char text[40000];
    /* a path as long as paths can be is no problem */
    int used = snprintf(text, sizeof(text), "[memopt]\nplugin_path = /");
    for (int i = 0; i < 2000; i++)
        memcpy(text + used + i * 2, "./", 2);
    strcpy(text + used + 4000, "\n");
    struct mo_config *config = load(text);
    assert_int_equal(strlen(mo_config_get(config, "memopt", "plugin_path", NULL)), 4001);
    mo_config_free(config);
    /* what does not fit is an error, never cut, and the rest is still read */
    used = snprintf(text, sizeof(text), "[memopt]\nplugin_path = /");
    memset(text + used, 'x', 20000);
    strcpy(text + used + 20000, "\nbinding = x\n");
    refuse(text, strlen(text), -E2BIG,
           "x.ini:2: the line has 20015 bytes, more than the 8191 that are allowed\n"
           "x.ini:3: 'binding' is 'x', not one of: auto, direct, dispatch");
    /* comments may be as long as they like */
    memset(text, ';', 20000);
    strcpy(text + 20000, "\n[memopt]\n");
    mo_config_free(load(text));
    /* section names are longer than inih would hold */
    config = load("[heap.a123456789b123456789c123456789d123456789e123456789f12]\nlimit = 1MiB\n");
    assert_string_equal(mo_config_section(config, "heap.", 0),
                        "a123456789b123456789c123456789d123456789e123456789f12");
    mo_config_free(config);
}

static void accepts(void **state) {
    (void)state;
    struct mo_origin origin;
    struct mo_config *config = load("\xef\xbb\xbf; a comment\r\n# another\r\n\r\n"
                                    "  [memopt]  ; what runs\r\n"
                                    "\tallocator=libc ; not pool\r\n"
                                    "  binding : dispatch\r\n"
                                    "trackers =  stats \r\n"
                                    "plugin_path = /usr, /usr/lib, /lib\r\n"
                                    "[heap.b]\r\nlimit = 1.5MiB\r\n"
                                    "[heap.a]\r\n"
                                    "[optimizer]\nstate = store:data/x\n"
                                    "[heap.b]\non_limit = purge, fail\n"
                                    "[allocator.pool]\n"
                                    "[reporter.json]\noutput = out-%p-%t-%e.json");
    assert_string_equal(mo_config_get(config, "memopt", "allocator", &origin), "libc");
    assert_int_equal(origin.kind, MO_ORIGIN_FILE);
    assert_string_equal(origin.file, "x.ini");
    assert_int_equal(origin.line, 5);
    assert_string_equal(mo_config_get(config, "memopt", "follow", &origin), "yes");
    assert_int_equal(origin.kind, MO_ORIGIN_DEFAULT);
    assert_string_equal(mo_config_get(config, "memopt", "plugin_path", NULL),
                        "/usr, /usr/lib, /lib");
    assert_string_equal(mo_config_get(config, "optimizer", "state", NULL), "store:/base/data/x");
    assert_string_equal(mo_config_get(config, "heap.b", "on_limit", NULL), "purge, fail");
    assert_string_equal(mo_config_get(config, "heap.b", "limit", NULL), "1.5MiB");
    assert_string_equal(mo_config_get(config, "heap.unheard", "on_limit", NULL), "purge");
    assert_null(mo_config_get(config, "heap.a", "limit", NULL));
    assert_null(mo_config_get(config, "memopt", "nothing", NULL));
    assert_null(mo_config_get(config, "nowhere", "limit", NULL));
    /* reporters: `output` besides their own keys, its default is the plugin's */
    assert_string_equal(mo_config_get(config, "reporter.json", "output", NULL),
                        "out-%p-%t-%e.json");
    assert_string_equal(mo_config_get(config, "reporter.text", "output", NULL), "stderr");

    assert_string_equal(mo_config_section(config, "heap.", 0), "b");
    assert_string_equal(mo_config_section(config, "heap.", 1), "a");
    assert_null(mo_config_section(config, "heap.", 2));
    assert_string_equal(mo_config_section(config, NULL, 0), "memopt");
    assert_string_equal(mo_config_section(config, NULL, 1), "optimizer");
    assert_string_equal(mo_config_section(config, NULL, 2), "heap.b");
    /* those in use count too, but were not mentioned */
    int stats = 0;
    for (size_t i = 0; mo_config_section_at(config, i) != NULL; i++)
        stats += strcmp(mo_config_section_at(config, i)->name, "tracker.stats") == 0;
    assert_int_equal(stats, 1);
    assert_null(mo_config_section(config, "tracker.", 0));

    struct mo_settings_memopt memopt;
    assert_int_equal(
        mo_config_fill(config, "memopt", mo_section_memopt.table, &memopt, &error), 0);
    assert_int_equal(memopt.binding, MO_BINDING_DISPATCH);
    assert_int_equal(memopt.follow, 1);
    assert_int_equal(memopt.trackers.count, 1);
    assert_string_equal(memopt.plugin_path.items[2], "/lib");
    struct mo_settings_heap heap;
    assert_int_equal(
        mo_config_fill(config, "heap.b", mo_section_heap.table, &heap, &error), 0);
    assert_int_equal(heap.limit, 1572864);
    assert_string_equal(heap.on_limit.items[1], "fail");
    assert_null(heap.allocator);
    assert_int_equal(
        mo_config_fill(config, "heap.c", mo_section_heap.table, &heap, &error), 0);
    assert_true(heap.limit == UINT64_MAX);
    mo_config_free(config);
    mo_config_free(load(""));
    mo_config_free(load("\n"));
    mo_config_free(load("[memopt]"));
}

/* A plugin that is named by its path has its section by its name. */
static void plugin_by_path(void **state) {
    (void)state;
    char text[6000], path[4096];
    snprintf(path, sizeof(path), "%s/tests/.libs/alloc-heapsonly.so", getenv("top_builddir"));
    snprintf(text, sizeof(text), "[allocator.heapsonly]\nfile = data/x\n[heap.a]\nallocator = %s\n",
             path);
    struct mo_config *config = load(text);
    assert_string_equal(mo_config_get(config, "allocator.heapsonly", "file", NULL), "/base/data/x");
    assert_string_equal(mo_config_get(config, "allocator.heapsonly", "title", NULL), "none");
    mo_config_free(config);
    char message[5000];
    snprintf(text, sizeof(text), "[memopt]\nallocator = %s\n", path);
    snprintf(message, sizeof(message),
             "x.ini:2: 'allocator': '%s' can only be the allocator of a [heap.NAME]", path);
    refuse(text, strlen(text), -EINVAL, message);
}

struct told {
    size_t count;
    char last[8192];
};
static void tell(void *context, const char *message) {
    struct told *told = context;
    told->count++;
    snprintf(told->last, sizeof(told->last), "%s", message);
}

/* --------------------------------------------------------------- the layers */

static const char *in_top(const char *name) {
    static char paths[4][8192];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", top, name);
    return path;
}

static void put(const char *path, const char *text) {
    char directory[8192];
    snprintf(directory, sizeof(directory), "%s", path);
    for (char *p = directory + 1; (p = strchr(p, '/')) != NULL; *p++ = '/') {
        *p = '\0';
        mkdir(directory, 0755);
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void expect(const struct mo_config_request *request, const char *interval,
                   enum mo_origin_kind kind, const char *file) {
    struct mo_config *config;
    struct mo_origin origin;
    if (mo_config_load(request, &config, &error) < 0)
        fail_msg("%s", error.message);
    assert_string_equal(mo_config_get(config, "monitor", "interval", &origin), interval);
    assert_int_equal(origin.kind, kind);
    if (file == NULL)
        assert_null(origin.file);
    else
        assert_string_equal(origin.file, file);
    mo_config_free(config);
}

static void precedence(void **state) {
    (void)state;
    static const struct mo_config_set sets[] = {
        {"monitor.interval=6s", "--set"},
        {" monitor.interval = 7s ", "-i"},
    };
    struct mo_config_request request = {.file = NULL};
    expect(&request, "1s", MO_ORIGIN_DEFAULT, NULL);
    put(TEST_ETC "/memopt/memopt.ini", "[monitor]\ninterval = 2s\n[pressure]\nwarn = 50%\n");
    expect(&request, "2s", MO_ORIGIN_FILE, TEST_ETC "/memopt/memopt.ini");
    put(in_top("home/.config/memopt/memopt.ini"), "[monitor]\ninterval = 3s\n");
    expect(&request, "3s", MO_ORIGIN_FILE, in_top("home/.config/memopt/memopt.ini"));
    put(in_top("xdg/memopt/memopt.ini"), "[monitor]\ninterval = 4s\n");
    setenv("XDG_CONFIG_HOME", in_top("xdg"), 1);
    expect(&request, "4s", MO_ORIGIN_FILE, in_top("xdg/memopt/memopt.ini"));
    setenv("XDG_CONFIG_HOME", "xdg", 1); /* relative: as if unset */
    expect(&request, "3s", MO_ORIGIN_FILE, in_top("home/.config/memopt/memopt.ini"));
    put(in_top("memopt.ini"), "[monitor]\ninterval = 5s\n");
    expect(&request, "5s", MO_ORIGIN_FILE, "./memopt.ini");
    put(in_top("env.ini"), "[monitor]\ninterval = 55ms\n");
    setenv("MEMOPT_CONF", "", 1);
    expect(&request, "5s", MO_ORIGIN_FILE, "./memopt.ini");
    setenv("MEMOPT_CONF", in_top("env.ini"), 1);
    expect(&request, "55ms", MO_ORIGIN_FILE, in_top("env.ini"));
    put(in_top("c.ini"), "[monitor]\ninterval = 56ms\n");
    request.file = "c.ini";
    expect(&request, "56ms", MO_ORIGIN_FILE, "c.ini");
    request.sets = sets;
    request.set_count = 1;
    expect(&request, "6s", MO_ORIGIN_SET, "--set");
    request.set_count = 2;
    expect(&request, "7s", MO_ORIGIN_SET, "-i");
    /* thresholds of two layers, whichever comes later is wrong */
    put(in_top("c.ini"), "[monitor]\ninterval = 56ms\n[pressure]\nhigh = 45%\n");
    struct mo_config *config;
    assert_int_equal(mo_config_load(&request, &config, &error), -EINVAL);
    assert_string_equal(error.message, "c.ini:4: 'high' is '45%', below 'warn', which is '50%'");
    put(in_top("c.ini"), "[pressure]\nwarn = 60%\nhigh = 60%\ncritical = 60%\n");
    assert_int_equal(mo_config_load(&request, &config, &error), 0);
    mo_config_free(config);
    put(in_top("c.ini"), "[monitor]\ninterval = 56ms\n");
    /* keys of other layers are still there, but not for only_file */
    struct mo_origin origin;
    assert_int_equal(mo_config_load(&request, &config, &error), 0);
    assert_string_equal(mo_config_get(config, "pressure", "warn", &origin), "50%");
    assert_int_equal(origin.line, 4);
    mo_config_free(config);
    request.only_file = 1;
    assert_int_equal(mo_config_load(&request, &config, &error), 0);
    assert_string_equal(mo_config_get(config, "pressure", "warn", &origin), "80%");
    mo_config_free(config);
    /* -c takes the place of $MEMOPT_CONF, which has to be there otherwise */
    setenv("MEMOPT_CONF", in_top("missing.ini"), 1);
    expect(&request, "7s", MO_ORIGIN_SET, "-i");
    request = (struct mo_config_request){.file = NULL};
    assert_int_equal(mo_config_load(&request, &config, &error), -ENOENT);
    char message[9000];
    snprintf(message, sizeof(message), "%s: can't be read: No such file or directory",
             in_top("missing.ini"));
    assert_string_equal(error.message, message);
    unsetenv("MEMOPT_CONF");
    /* the errors of all layers at once */
    put(in_top("memopt.ini"), "[monitor]\ninterval = 5\n");
    put(in_top("home/.config/memopt/memopt.ini"), "[monitor]\ninterwal = 3s\n");
    assert_int_equal(mo_config_load(&request, &config, &error), -EINVAL);
    snprintf(message, sizeof(message),
             "%s:2: unknown key 'interwal' in [monitor]; did you mean 'interval'?\n"
             "./memopt.ini:2: 'interval' is '5', not a duration (a number with ns, us, ms, s, m, h "
             "or d); a unit is missing",
             in_top("home/.config/memopt/memopt.ini"));
    assert_string_equal(error.message, message);
    unlink(TEST_ETC "/memopt/memopt.ini");
    unlink(in_top("home/.config/memopt/memopt.ini"));
    unlink(in_top("memopt.ini"));
    unsetenv("XDG_CONFIG_HOME");
}

static void sets(void **state) {
    (void)state;
    static const struct {
        const char *assignment, *label, *message;
    } cases[] = {
        {"memopt", "--set", "--set: 'memopt' is not section.key=value"},
        {"memopt=1", "--set", "--set: 'memopt=1' is not section.key=value"},
        {".a=1", "--set", "--set .a: '.a=1' is not section.key=value"},
        {"memopt.=1", "--set", "--set memopt.: 'memopt.=1' is not section.key=value"},
        {"a=b.c=d", "--set", "--set: 'a=b.c=d' is not section.key=value"},
        {"memopt.binding=x", "--set",
         "--set memopt.binding: 'binding' is 'x', not one of: auto, direct, dispatch"},
        {"memopt.binding=x", "-b", "-b: 'binding' is 'x', not one of: auto, direct, dispatch"},
        {"memopt.follow=a\nb", "--set",
         "--set memopt.follow: 'memopt.follow=a?b' has a control character"},
        {"foo.bar=1", "--set",
         "--set foo.bar: unknown section [foo]; known are [memopt], [monitor], [pressure], "
         "[optimizer], [store], [heap.NAME], [allocator.NAME], [tracker.NAME], [reporter.NAME]"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct mo_config_set set = {cases[i].assignment, cases[i].label};
        struct mo_config_request request = {.sets = &set, .set_count = 1};
        struct mo_config *config;
        int result = mo_config_load(&request, &config, &error);
        assert_string_equal(error.message, cases[i].message);
        assert_int_equal(result, -EINVAL);
    }
    /* heaps' names may have dots, and relative paths begin here */
    struct mo_config_set good[] = {{"heap.a.b.limit=1MiB", "--set"},
                                   {"memopt.trackers=", "-t"},
                                   {"optimizer.state=store:x", "--set"},
                                   {"memopt.trackers=stats", "-t"}};
    struct mo_config_request request = {.sets = good, .set_count = 4};
    struct mo_config *config;
    if (mo_config_load(&request, &config, &error) < 0)
        fail_msg("%s", error.message);
    char path[8192];
    snprintf(path, sizeof(path), "store:%s", in_top("x"));
    assert_string_equal(mo_config_get(config, "heap.a.b", "limit", NULL), "1MiB");
    assert_string_equal(mo_config_get(config, "memopt", "trackers", NULL), "stats");
    assert_string_equal(mo_config_get(config, "optimizer", "state", NULL), path);
    mo_config_free(config);
}

/* -------------------------------------------------------------- odd files */

static void expect_file(const char *path, int code, const char *what) {
    struct mo_config_request request = {.file = path, .only_file = 1};
    struct mo_config *config;
    char message[9000];
    int result = mo_config_load(&request, &config, &error);
    snprintf(message, sizeof(message), "%s%s", path, what);
    assert_int_equal(result, code);
    if (code < 0)
        assert_string_equal(error.message, message);
    else
        mo_config_free(config);
}

static void odd_files(void **state) {
    (void)state;
    expect_file(top, -EISDIR, ": can't be read: Is a directory");
    expect_file(in_top("none.ini"), -ENOENT, ": can't be read: No such file or directory");
    expect_file("/dev/null", 0, "");
    expect_file("/dev/zero", -EFBIG, ": is larger than the 1024 KiB that are allowed");
    put(in_top("relative.ini"), "");
    assert_int_equal(truncate(in_top("relative.ini"), (1 << 20) + 1), 0);
    expect_file("relative.ini", -EFBIG, ": is larger than the 1024 KiB that are allowed");
    /* one byte less is read, and all NUL */
    assert_int_equal(truncate("relative.ini", 1 << 20), 0);
    expect_file("relative.ini", -EINVAL, ":1: the line has a NUL byte: this is not a text file");
    /* a pipe, whose writer takes its time */
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        usleep(50000);
        _exit(write(ends[1], "[store]\nkind = x\n", 17) != 17);
    }
    close(ends[1]);
    char path[64];
    snprintf(path, sizeof(path), "/dev/fd/%d", ends[0]);
    expect_file(path, -EINVAL, ":2: 'kind' is 'x', not one of: ram, mmap, stream");
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    /* a named one, too, whose writer may come later */
    assert_int_equal(mkfifo(in_top("memopt.ini"), 0600), 0);
    child = fork();
    if (child == 0) {
        usleep(50000);
        int fd = open(in_top("memopt.ini"), O_WRONLY | O_CLOEXEC);
        int wrong = write(fd, "[store]\n", 8) != 8;
        usleep(50000);
        _exit(wrong || write(fd, "kind = x\n", 9) != 9);
    }
    expect_file(in_top("memopt.ini"), -EINVAL, ":2: 'kind' is 'x', not one of: ram, mmap, stream");
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    /* one that nobody has named is empty without a writer, not a reason to wait for ever */
    struct mo_config_request usual = {.file = NULL};
    struct mo_config *config;
    assert_int_equal(mo_config_load(&usual, &config, &error), 0);
    mo_config_free(config);
    unlink(in_top("memopt.ini"));
}

/* As somebody who may not read everything; in a child, as it can't be undone. */
static void unreadable(void **state) {
    (void)state;
    put(in_top("secret.ini"), "");
    put(in_top("memopt.ini"), "[memopt]\n");
    assert_int_equal(chmod(in_top("secret.ini"), 0), 0);
    assert_int_equal(mkdir(in_top("closed"), 0), 0);
    put(in_top("xdg2/memopt/memopt.ini"), "");
    assert_int_equal(chmod(in_top("xdg2/memopt/memopt.ini"), 0), 0);
    pid_t child = fork();
    if (child == 0) {
        struct mo_config_request request = {.file = in_top("secret.ini"), .only_file = 1};
        struct mo_config *config;
        if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
            _exit(1);
        if (mo_config_load(&request, &config, &error) != -EACCES)
            _exit(2);
        /* a home that we may not look into has no file for us */
        setenv("XDG_CONFIG_HOME", in_top("closed"), 1);
        request = (struct mo_config_request){.file = NULL};
        if (mo_config_load(&request, &config, &error) != 0)
            _exit(3);
        mo_config_free(config);
        /* but one that is there and can't be read is told */
        setenv("XDG_CONFIG_HOME", in_top("xdg2"), 1);
        _exit(mo_config_load(&request, &config, &error) != -EACCES ? 4 : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    unlink(in_top("memopt.ini"));
}

static void many_errors(void **state) {
    (void)state;
    FILE *f = fopen(in_top("many.ini"), "w");
    assert_non_null(f);
    fputs("[memopt]\n", f);
    for (int i = 0; i < 60; i++)
        fprintf(f, "no_such_key_as_this_one_%d = with a value\n", i);
    fclose(f);
    struct told told = {0};
    struct mo_config_request request = {
        .file = in_top("many.ini"), .only_file = 1, .each_error = tell, .context = &told};
    struct mo_config *config;
    assert_int_equal(mo_config_load(&request, &config, &error), -EINVAL);
    assert_int_equal(told.count, 60);
    assert_non_null(strstr(told.last, "many.ini:61: unknown key 'no_such_key_as_this_one_59'"));
    /* the message holds as many whole ones as fit, and says how many are not in it */
    size_t lines = 0;
    for (char *p = error.message; (p = strchr(p, '\n')) != NULL; p++)
        lines++;
    char end[40];
    snprintf(end, sizeof(end), "\n... and %zu more", 60 - lines);
    assert_string_equal(error.message + strlen(error.message) - strlen(end), end);
    assert_true(lines > 10);
    /* a file that is wrong all over is given up */
    f = fopen(in_top("many.ini"), "w");
    for (int i = 0; i < 50000; i++)
        fprintf(f, "[allocator.x%d]\n", i);
    fclose(f);
    told.count = 0;
    assert_int_equal(mo_config_load(&request, &config, &error), -ENOENT);
    assert_int_equal(told.count, 101);
    assert_non_null(strstr(told.last, "many.ini: too many errors, the rest is not looked at"));
    /* sections are bounded */
    f = fopen(in_top("many.ini"), "w");
    for (int i = 0; i < 300; i++)
        fprintf(f, "[heap.h%d]\n", i);
    fclose(f);
    told.count = 0;
    assert_int_equal(mo_config_load(&request, &config, &error), -E2BIG);
    assert_int_equal(told.count, 1);
    assert_non_null(strstr(told.last, "many.ini:252: more than 256 sections"));
    /* if it is the plugins' that have no room, no line is to blame */
    f = fopen(in_top("many.ini"), "w");
    for (int i = 0; i < 251; i++)
        fprintf(f, "[heap.h%d]\n", i);
    fclose(f);
    told.count = 0;
    assert_int_equal(mo_config_load(&request, &config, &error), -E2BIG);
    assert_int_equal(told.count, 1);
    assert_string_equal(told.last, "built-in defaults: more than 256 sections, with those of the "
                                   "plugins in use");
}

/* ----------------------------------------------------------------- writing */

static char *written(const struct mo_config *config) {
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    assert_non_null(stream);
    assert_int_equal(mo_config_write(config, stream, &error), 0);
    fclose(stream);
    return text;
}

static void writes(void **state) {
    (void)state;
    struct mo_config *config =
        load("[memopt]\nallocator = pool\ntrackers = stats\nbinding=dispatch\n"
             "plugin_path = /usr/, /lib\n[heap.x]\nlimit = 5GiB\n[heap.y]\n"
             "limit =\n[optimizer]\nstate = heap:x\n");
    char *text = written(config);
    mo_config_free(config);
    assert_non_null(strstr(text, "[memopt]\nallocator = pool\nbinding = dispatch\n"));
    assert_non_null(strstr(text, "\nplugin_path = /usr/, /lib\n"));
    assert_non_null(strstr(text, "\n[heap.y]\nlimit = \n"));
    /* load() reads it back to the same */
    config = load(text);
    char *again = written(config);
    assert_string_equal(text, again);
    mo_config_free(config);
    free(again);
    /* and so does the reader in the program */
    struct mo_flat flat;
    struct mo_settings_memopt memopt;
    struct mo_settings_heap heap;
    assert_int_equal(mo_flat_parse(text, &mo_sys_allocator, &flat, &error), 0);
    assert_int_equal(mo_flat_fill(&flat, "memopt", mo_section_memopt.table, &memopt,
                                  &mo_sys_allocator, &error),
                     0);
    assert_string_equal(memopt.allocator, "pool");
    assert_int_equal(memopt.binding, MO_BINDING_DISPATCH);
    assert_string_equal(memopt.plugin_path.items[0], "/usr/");
    assert_int_equal(mo_flat_fill(&flat, "heap.x", mo_section_heap.table, &heap,
                                  &mo_sys_allocator, &error),
                     0);
    assert_true(heap.limit == UINT64_C(5) << 30);
    free(text);
    /* a full disk */
    config = load("");
    FILE *full = fopen("/dev/full", "w");
    if (full != NULL) {
        assert_int_equal(mo_config_write(config, full, &error), -ENOSPC);
        assert_string_equal(error.message,
                            "can't write the configuration: No space left on device");
        fclose(full);
    }
    mo_config_free(config);
}

/* Values that would read back from settings.ini as others. */
static void refuses_unwritable(void **state) {
    (void)state;
    static const struct {
        const char *assignment, *message;
    } cases[] = {
        {"reporter.json.output=\"x\"",
         "--set reporter.json.output: 'output' is '\"x\"': values are written without quotes"},
        {"reporter.json.output=;x", "--set reporter.json.output: 'output' is ';x': in an INI a "
                                    "comment would begin at the ';'"},
        {"reporter.json.output=a ;b", "--set reporter.json.output: 'output' is 'a ;b': in an INI a "
                                      "comment would begin at the ';'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct mo_config_set set = {cases[i].assignment, "--set"};
        struct mo_config_request request = {.sets = &set, .set_count = 1};
        struct mo_config *config;
        assert_int_equal(mo_config_load(&request, &config, &error), -EINVAL);
        assert_string_equal(error.message, cases[i].message);
    }
    static const char in_file[] = "[reporter.json]\noutput =;x\n";
    refuse(in_file, sizeof(in_file) - 1, -EINVAL,
           "x.ini:2: 'output' is ';x': in an INI a comment would begin at the ';'");
    /* these are no comments, and no quotes around the value */
    struct mo_config *config =
        load("[reporter.json]\noutput = a;b#c #d\n[reporter.text]\noutput = \"x\n");
    char *text = written(config);
    mo_config_free(config);
    config = load(text);
    assert_string_equal(mo_config_get(config, "reporter.json", "output", NULL), "a;b#c #d");
    assert_string_equal(mo_config_get(config, "reporter.text", "output", NULL), "\"x");
    mo_config_free(config);
    free(text);
    /* what the directory brings into a path */
    static const struct {
        const char *directory, *text, *message;
    } paths[] = {
        {"/a ;b", "[pressure]\nspill_dir = x\n",
         "x.ini:2: 'spill_dir' is '/a ;b/x': in an INI a comment would begin at the ';'"},
        {"/a\nb", "[optimizer]\nstate = store:x\n",
         "x.ini:2: 'state' is 'store:/a?b/x': it has a control character"},
        {"/a ", "[pressure]\nspill_dir = ./\n",
         "x.ini:2: 'spill_dir' is '/a ': it ends with a blank"},
    };
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        assert_int_equal(mo_config_load_text("x.ini", paths[i].directory, paths[i].text,
                                             strlen(paths[i].text), &config, &error),
                         -EINVAL);
        assert_string_equal(error.message, paths[i].message);
    }
    /* a line that can't be read back */
    static char line[9000], directory[400];
    memset(directory, 'd', sizeof(directory) - 1);
    directory[0] = '/';
    int used = snprintf(line, sizeof(line), "[pressure]\nspill_dir = ");
    memset(line + used, 'x', 7900);
    assert_int_equal(mo_config_load_text("x.ini", directory, line, strlen(line), &config, &error),
                     -EINVAL);
    assert_non_null(strstr(error.message, "': it has 8300 bytes, more than a line may have"));
}

/* Every row of the core tables: its default is in its own range, its help is as
 * the manual needs it. */
static void tables(void **state) {
    (void)state;
    const struct mo_section_def *section;
    const struct memopt_option *option;
    for (size_t i = 0; (section = mo_sections[i]) != NULL; i++)
        for (size_t j = 0; (option = mo_option_at(section->table, j)) != NULL; j++) {
            if (mo_option_default(option, NULL, NULL, &error) < 0)
                fail_msg("[%s] %s", section->name, error.message);
            assert_true(option->offset < section->settings_size);
            size_t length = strlen(option->help);
            if (length == 0 || option->help[length - 1] == '.')
                fail_msg("[%s] %s: help is one sentence without full stop", section->name,
                         option->key);
            assert_ptr_equal(mo_option_find(section->table, option->key), option);
        }
    assert_null(mo_section_def("none"));
}

static int set_up(void **state) {
    (void)state;
    snprintf(top, sizeof(top), "/tmp/memopt-config-XXXXXX");
    if (mkdtemp(top) == NULL || chmod(top, 0755) < 0 || chdir(top) < 0)
        return -1;
    setenv("HOME", "/home/me", 1);
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("MEMOPT_CONF");
    unlink(TEST_ETC "/memopt/memopt.ini");
    return 0;
}

static int home_here(void **state) {
    (void)state;
    return setenv("HOME", in_top("home"), 1);
}

static int tear_down(void **state) {
    (void)state;
    char command[8192];
    snprintf(command, sizeof(command), "rm -rf '%s' '%s'", top, TEST_ETC);
    return chdir("/") < 0 || system(command) != 0 ? -1 : 0;
}

int main(void) {
    if (getenv("top_builddir") == NULL)
        return 77; /* make check sets it */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses),        cmocka_unit_test(refuses_plugins),
        cmocka_unit_test(long_lines),     cmocka_unit_test(accepts),
        cmocka_unit_test(plugin_by_path), cmocka_unit_test_setup(precedence, home_here),
        cmocka_unit_test(sets),           cmocka_unit_test(odd_files),
        cmocka_unit_test(unreadable),     cmocka_unit_test(many_errors),
        cmocka_unit_test(writes),         cmocka_unit_test(refuses_unwritable),
        cmocka_unit_test(tables),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
