/* test_config_faults.c - the Nth call of the system fails while a configuration
 * is loaded and written, for N = 1, 2, ... until none is left to fail: a clean
 * error, nothing leaked, and a second try works.
 *
 * The test is linked with --wrap, which leads the calls of memopt's own code
 * here. Each N has a process of its own, as loaded plugins stay loaded. */
#define _GNU_SOURCE
#include "core/config/config.h"
#include "core/plugin/section.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#ifdef __SANITIZE_ADDRESS__
#define LEAK_CHECK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LEAK_CHECK 1
#endif
#endif
#ifdef LEAK_CHECK
#include <sanitizer/lsan_interface.h>
#endif

/* ------------------------------------------------------------ what can fail */

enum kind { MEMORY, OPEN, READ, GETCWD, DLOPEN, MMAP, KINDS };
static const char *const kind_names[] = {"memory", "open", "read", "getcwd", "dlopen", "mmap"};

static struct {
    enum kind kind;
    long nth; /* 0: none */
    int for_good;
    int error;
    long count, fired;
    unsigned long secure;
} fault;

static int hit(enum kind kind) {
    if (fault.nth == 0 || kind != fault.kind)
        return 0;
    fault.count++;
    if (fault.count != fault.nth && !(fault.for_good && fault.count > fault.nth))
        return 0;
    fault.fired++;
    errno = fault.error;
    return 1;
}

#define WRAP(RESULT, NAME, PARAMETERS, ARGUMENTS, KIND, FAILED)                                    \
    RESULT __real_##NAME PARAMETERS;                                                               \
    RESULT __wrap_##NAME PARAMETERS;                                                               \
    RESULT __wrap_##NAME PARAMETERS {                                                              \
        return hit(KIND) ? FAILED : __real_##NAME ARGUMENTS;                                       \
    }
WRAP(void *, malloc, (size_t size), (size), MEMORY, NULL)
WRAP(void *, calloc, (size_t count, size_t size), (count, size), MEMORY, NULL)
WRAP(void *, realloc, (void *p, size_t size), (p, size), MEMORY, NULL)
WRAP(void *, reallocarray, (void *p, size_t count, size_t size), (p, count, size), MEMORY, NULL)
WRAP(char *, strdup, (const char *text), (text), MEMORY, NULL)
WRAP(ssize_t, read, (int fd, void *buffer, size_t count), (fd, buffer, count), READ, -1)
WRAP(char *, getcwd, (char *buffer, size_t size), (buffer, size), GETCWD, NULL)
WRAP(void *, dlopen, (const char *path, int flags), (path, flags), DLOPEN, NULL)
WRAP(void *, mmap, (void *at, size_t size, int protection, int flags, int fd, off_t offset),
     (at, size, protection, flags, fd, offset), MMAP, MAP_FAILED)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    return hit(OPEN) ? -1 : __real_open(path, flags); /* nobody creates files here */
}

unsigned long __real_getauxval(unsigned long type);
unsigned long __wrap_getauxval(unsigned long type);
unsigned long __wrap_getauxval(unsigned long type) {
    return type == AT_SECURE ? fault.secure : __real_getauxval(type);
}

/* -------------------------------------------------------------- what is done */

static char top[] = "/tmp/memopt-faults-XXXXXX";

/* Uses every way in: files, a file by name, --set, lists, paths, plugins. */
static int load_and_write(struct memopt_error *error) {
    static const struct mo_config_set sets[] = {{"heap.c.limit=1MiB", "--set"},
                                                {"memopt.allocator=pool", "-a"}};
    struct mo_config_request request = {.file = "more.ini", .sets = sets, .set_count = 2};
    struct mo_config *config = NULL, *before = config;
    struct mo_settings_memopt settings;
    int result = mo_config_load(&request, &config, error);
    if (result < 0) {
        if (config != before)
            abort();
        return result;
    }
    result = mo_config_fill(config, "memopt", mo_section_memopt.table, &settings, error);
    FILE *null = fopen("/dev/null", "w");
    if (result == 0 && null != NULL)
        result = mo_config_write(config, null, error);
    if (null != NULL)
        fclose(null);
    mo_config_free(config);
    return result;
}

/* A file full of errors: telling them needs memory too. */
static int load_errors(struct memopt_error *error) {
    struct mo_config_request request = {.file = "wrong.ini", .only_file = 1};
    struct mo_config *config = NULL;
    int result = mo_config_load(&request, &config, error);
    if (result == 0)
        abort();
    return result == -ENOMEM ? result : 0;
}

static void put(const char *name, const char *text) {
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

enum outcome { NOT_FIRED = 0, FAILED_CLEANLY = 10, WENT_ON = 11 };

static int child(int (*run)(struct memopt_error *), enum kind kind, long nth, int for_good,
                 int code) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    fault.kind = kind;
    fault.error = code;
    fault.for_good = for_good;
    fault.nth = nth;
    int result = run(&error);
    fault.nth = 0;
    if (fault.fired == 0)
        return result == 0 ? NOT_FIRED : 20;
    if (result < 0 && (error.code != result || error.message[0] == '\0'))
        return 21;
    if (result > 0)
        return 22;
    /* nothing is left behind that would stop a second try */
    struct memopt_error second = MEMOPT_ERROR_INIT;
    if (run(&second) != 0) {
        fprintf(stderr, "again: %s\n", second.message);
        return 23;
    }
#ifdef LEAK_CHECK
    if (__lsan_do_recoverable_leak_check() != 0)
        return 24;
#endif
    return result < 0 ? FAILED_CLEANLY : WENT_ON;
}

/* Returns how many calls could fail; `went_on` of them without an error. */
static long every(int (*run)(struct memopt_error *), enum kind kind, int for_good, int code,
                  long *ret_went_on) {
    *ret_went_on = 0;
    for (long nth = 1;; nth++) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            _exit(child(run, kind, nth, for_good, code));
        int status = 0;
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            fail_msg("can't fork");
        if (status == 0)
            return nth - 1;
        if (!WIFEXITED(status) || WEXITSTATUS(status) < FAILED_CLEANLY ||
            WEXITSTATUS(status) > WENT_ON)
            fail_msg("%s %ld%s: status %#x", kind_names[kind], nth, for_good ? " and after" : "",
                     (unsigned)status);
        *ret_went_on += WEXITSTATUS(status) == WENT_ON;
    }
}

static void faults(void **state) {
    (void)state;
    static const struct {
        enum kind kind;
        int code;
        long least;    /* calls that there are at least */
        int may_go_on; /* a failure that costs nothing: another place is tried */
    } cases[] = {
        {MEMORY, ENOMEM, 40, 0},
        {OPEN, EMFILE, 6, 0},
        {READ, EIO, 3, 0},
        /* costs nothing where a file or --set has no relative path */
        {GETCWD, ENOENT, 2, 1},
        {DLOPEN, ENOENT, 3, 0},
        {MMAP, ENOMEM, 1, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        for (int for_good = 0; for_good <= 1; for_good++) {
            long went_on;
            long count = every(load_and_write, cases[i].kind, for_good, cases[i].code, &went_on);
            print_message("%s%s: %ld calls, %ld went on\n", kind_names[cases[i].kind],
                          for_good ? " and after" : "", count, went_on);
            assert_true(count >= cases[i].least);
            if (!cases[i].may_go_on)
                assert_int_equal(went_on, 0);
            else
                assert_true(went_on < count);
        }
}

static void faults_while_telling(void **state) {
    (void)state;
    for (int for_good = 0; for_good <= 1; for_good++) {
        long went_on;
        assert_true(every(load_errors, MEMORY, for_good, ENOMEM, &went_on) >= 10);
        assert_int_equal(went_on, 0);
    }
}

/* A program with more rights than its user: nothing of the user's counts. */
static void secure(void **state) {
    (void)state;
    struct mo_config_request request = {.file = NULL};
    struct mo_config *config;
    struct memopt_error error;
    setenv("MEMOPT_CONF", "wrong.ini", 1);
    assert_int_equal(mo_config_load(&request, &config, &error), -EINVAL);
    fault.secure = 1;
    assert_int_equal(mo_config_load(&request, &config, &error), 0);
    assert_null(mo_config_get(config, "memopt", "trackers", NULL));
    mo_config_free(config);
    request.file = "more.ini";
    assert_int_equal(mo_config_load(&request, &config, &error), -EPERM);
    struct mo_config_set set = {"memopt.follow=no", "--set"};
    request = (struct mo_config_request){.sets = &set, .set_count = 1};
    assert_int_equal(mo_config_load(&request, &config, &error), -EPERM);
    fault.secure = 0;
    unsetenv("MEMOPT_CONF");
}

static int set_up(void **state) {
    (void)state;
    if (mkdtemp(top) == NULL || chdir(top) < 0)
        return -1;
    setenv("HOME", top, 1);
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("MEMOPT_CONF");
    mkdir(".config", 0755);
    mkdir(".config/memopt", 0755);
    put(".config/memopt/memopt.ini", "[memopt]\ntrackers = stats\n[heap.a]\nlimit = 4KiB\n");
    put("memopt.ini", "[memopt]\nreporters = text, json\nplugin_path = /usr, ~/.config\n"
                      "[reporter.json]\noutput = x.json\n");
    put("more.ini", "[optimizer]\nstate = store:data\n[heap.b]\nallocator = libc\n"
                    "on_limit = purge, fail\n");
    put("wrong.ini", "[memopt]\nallocater = libc\nbinding\nfollow = 7\n[hep.a]\n[store]\n"
                     "kind = ram\nkind = mmap\n");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[200];
    snprintf(command, sizeof(command), "rm -rf '%s'", top);
    return chdir("/") < 0 || system(command) != 0 ? -1 : 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults),
        cmocka_unit_test(faults_while_telling),
        cmocka_unit_test(secure),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
