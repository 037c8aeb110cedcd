/*
 * test_proc.c - what is read of /proc and of cgroups: right samples, malformed
 * ones (which change nothing), and files that are not there.
 */
#include "config.h"

#include "core/base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void statm(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int code;
        uint64_t mapped, resident, file;
    } cases[] = {
        {"10 5 2 1 0 3 0\n", 0, 40960, 20480, 8192},
        {"10 5 7 1 0 3 0\n", 0, 40960, 20480, 20480}, /* torn: never less than nothing */
        {"0 0 0", 0, 0, 0, 0},
        {"", -EINVAL, 0, 0, 0},
        {"10 5", -EINVAL, 0, 0, 0},
        {"10 5 x", -EINVAL, 0, 0, 0},
        {"10 -5 2 1", -EINVAL, 0, 0, 0},
        {"10 5 2k 1", -EINVAL, 0, 0, 0},
        {"18446744073709551616 5 2", -EINVAL, 0, 0, 0},
        {"9007199254740992 5 2", -EINVAL, 0, 0, 0}, /* times the page */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mo_proc_memory process = {1, 2, 3};
        assert_int_equal(mo_proc_parse_statm(cases[i].text, 4096, &process), cases[i].code);
        if (cases[i].code == 0) {
            assert_int_equal(process.mapped, cases[i].mapped);
            assert_int_equal(process.resident, cases[i].resident);
            assert_int_equal(process.file, cases[i].file);
        } else {
            assert_true(process.mapped == 1 && process.resident == 2 && process.file == 3);
        }
    }
}

static void stat_of_a_process(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int code;
        char state;
        int64_t parent;
        uint64_t start, faults;
        const char *name;
    } cases[] = {
        {"7 (cat) R 6 5 5 34816 -1 4194304 11 12 13 14 1 2 3 4 20 0 1 0 900 1 2\n", 0, 'R', 6, 9000,
         26, "cat"},
        {"7 (a) (b c) ) S 1 5 5 0 -1 4 1 0 1 0 1 2 3 4 -20 -5 1 0 900", 0, 'S', 1, 9000, 0,
         "a) (b c) "},
        {"7 () Z 0 5 5 0 -1 4 1 0 1 0 1 2 3 4 20 0 1 0 0 1", 0, 'Z', 0, 0, 0, ""},
        {"7 (0123456789012345678901234567890123456789012345678901234567890123456789) R "
         "6 5 5 0 -1 4 1 0 1 0 1 2 3 4 20 0 1 0 1 1",
         0, 'R', 6, 10, 0, "012345678901234567890123456789012345678901234567890123456789012"},
        {"", -EINVAL, 0, 0, 0, 0, NULL},
        {"7 (cat", -EINVAL, 0, 0, 0, 0, NULL},
        {"7 )cat( R 6 5 5 0 -1 4 1 0 1 0 1 2 3 4 20 0 1 0 900", -EINVAL, 0, 0, 0, 0, NULL},
        {"7 (cat)", -EINVAL, 0, 0, 0, 0, NULL},
        {"7 (cat) R", -EINVAL, 0, 0, 0, 0, NULL},
        {"7 (cat) R -6 5 5 0 -1 4 1 0 1 0 1 2 3 4 20 0 1 0 900", -EINVAL, 0, 0, 0, 0, NULL},
        {"7 (cat) R 6 5 5 0 -1 4 1 0 1 0 1 2 3 4 20 0 1 0", -EINVAL, 0, 0, 0, 0, NULL},
        {"7 (cat) R 6 5 5 0 -1 4 1 x 1 0 1 2 3 4 20 0 1 0 900", -EINVAL, 0, 0, 0, 0, NULL},
        {"7 (cat) R 4294967296 5 5 0 -1 4 1 0 1 0 1 2 3 4 20 0 1 0 900", -EINVAL, 0, 0, 0, 0, NULL},
        {"7 (cat) R 6 5 5 0 -1 4 1 0 1 0 1 2 3 4 20 0 1 0 1844674407370955162", -EINVAL, 0, 0, 0, 0,
         NULL}, /* times the tick */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mo_proc_stat stat = {.state = 'q'};
        assert_int_equal(mo_proc_parse_stat(cases[i].text, 10, &stat), cases[i].code);
        if (cases[i].code != 0) {
            assert_int_equal(stat.state, 'q');
            continue;
        }
        assert_int_equal(stat.state, cases[i].state);
        assert_int_equal(stat.parent, cases[i].parent);
        assert_int_equal(stat.start, cases[i].start);
        assert_int_equal(stat.children_faults, cases[i].faults);
        assert_string_equal(stat.name, cases[i].name);
    }
}

static void status(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int code;
        uint64_t peak, resident;
    } cases[] = {
        {"Name:\tcat\nVmHWM:\t    2000 kB\nVmRSS:\t    1000 kB\nRssAnon:\t 1 kB\n", 0, 2048000,
         1024000},
        {"VmRSS: 1 kB\nVmHWM: 2 kB", 0, 2048, 1024},
        {"Name:\tVmHWM: 5 kB\nVmHWM:\t2 kB\nVmRSS:\t1 kB\n", 0, 2048, 1024},
        {"Name:\tcat\nState:\tZ (zombie)\n", -EINVAL, 0, 0},
        {"VmHWM:\t2 kB\n", -EINVAL, 0, 0},
        {"VmHWM:\t-2 kB\nVmRSS:\t1 kB\n", -EINVAL, 0, 0},
        {"VmHWM:\t18446744073709551615 kB\nVmRSS:\t1 kB\n", -EINVAL, 0, 0},
        {"", -EINVAL, 0, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mo_proc_sizes sizes = {1, 2};
        assert_int_equal(mo_proc_parse_status(cases[i].text, &sizes), cases[i].code);
        assert_int_equal(sizes.peak, cases[i].code == 0 ? cases[i].peak : 1);
        assert_int_equal(sizes.resident, cases[i].code == 0 ? cases[i].resident : 2);
    }
}

/* This process and a zombie, as the kernel has them. */
static void processes(void **state) {
    (void)state;
    struct mo_proc_stat stat, zombie;
    struct mo_proc_sizes sizes;
    char exe[4096], other[4096], text[8];
    assert_int_equal(mo_proc_read_stat(getpid(), &stat), 0);
    assert_int_equal(stat.parent, getppid());
    assert_true(stat.start > 0); /* of children there may have been some before an exec */
    assert_int_equal(mo_proc_read_sizes(getpid(), &sizes), 0);
    assert_true(sizes.resident > 0 && sizes.peak >= sizes.resident);
    assert_true(mo_proc_read_exe(getpid(), exe, sizeof(exe)) > 0);
    ssize_t length = readlink("/proc/self/exe", other, sizeof(other) - 1);
    assert_true(length > 0);
    other[length] = '\0';
    assert_string_equal(exe, other);
    assert_int_equal(mo_proc_read_exe(getpid(), text, sizeof(text)), 7);
    assert_memory_equal(text, exe, 7);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(mo_proc_read_stat(child, &zombie), 0);
    assert_int_equal(zombie.state, 'Z');
    assert_int_equal(zombie.parent, getpid());
    assert_true(zombie.start >= stat.start);
    assert_int_equal(mo_proc_read_sizes(child, &sizes), -EINVAL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(mo_proc_read_stat(child, &zombie), -ENOENT);
    assert_int_equal(mo_proc_read_sizes(child, &sizes), -ENOENT);
    assert_int_equal(mo_proc_read_exe(child, exe, sizeof(exe)), -ENOENT);
    assert_string_equal(exe, "");
}

static void psi(void **state) {
    (void)state;
#define FULL "\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    static const struct {
        const char *text;
        double some; /* < 0: an error */
    } cases[] = {
        {"some avg10=0.00 avg60=0.00 avg300=0.00 total=0" FULL, 0},
        {"some avg10=12.34 avg60=0.00 avg300=0.00 total=0" FULL, 0.1234},
        {"some avg10=100.00 avg60=0.00 avg300=0.00 total=0" FULL, 1},
        {"full avg10=9.00 avg60=0.00\nsome avg10=3.50 avg60=0.00\n", 0.035},
        {"some avg10=5", 0.05},
        {"", -1},
        {"some", -1},
        {"some avg10=", -1},
        {"some avg10=x", -1},
        {"some avg10=.5", -1},
        {"some avg10=-1.00", -1},
        {"some avg10=101.00", -1},
        {"some avg10=99999999999999999999", -1},
        {"some avg10=1.2.3", -1},
        {"full avg10=1.00 avg60=0.00", -1},
        {"awesome avg10=1.00", -1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        double some = 42;
        int code = mo_proc_parse_psi(cases[i].text, &some);
        assert_int_equal(code, cases[i].some < 0 ? -EINVAL : 0);
        double wanted = cases[i].some < 0 ? 42 : cases[i].some;
        if (some < wanted - 1e-9 || some > wanted + 1e-9)
            fail_msg("'%s': %g", cases[i].text, some);
    }
}

static void values(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int code;
        uint64_t value;
    } cases[] = {
        {"0\n", 0, 0},
        {"1048576\n", 0, 1 << 20},
        {"max\n", 0, UINT64_MAX},
        {"max", 0, UINT64_MAX},
        {"9223372036854771712\n", 0, 9223372036854771712u},
        {"18446744073709551615\n", 0, UINT64_MAX},
        {"18446744073709551616\n", -EINVAL, 0},
        {"", -EINVAL, 0},
        {"\n", -EINVAL, 0},
        {"maximum\n", -EINVAL, 0},
        {"-1\n", -EINVAL, 0},
        {"12 34\n", -EINVAL, 0},
        {"0x10\n", -EINVAL, 0},
        {" 12\n", -EINVAL, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t value = 7;
        assert_int_equal(mo_proc_parse_value(cases[i].text, &value), cases[i].code);
        assert_true(value == (cases[i].code == 0 ? cases[i].value : 7));
    }
}

static void keys(void **state) {
    (void)state;
    static const char text[] = "anon 4096\nfile 12\ninactive_file 8192\nMemTotal:       1000 kB\n"
                               "active_file x\nlast 5";
    static const struct {
        const char *key;
        int code;
        uint64_t value;
    } cases[] = {
        {"anon", 0, 4096},        {"file", 0, 12},         {"inactive_file", 0, 8192},
        {"MemTotal:", 0, 1000},   {"last", 0, 5},          {"active_file", -EINVAL, 0},
        {"inactive", -EINVAL, 0}, {"nothing", -EINVAL, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t value = 7;
        assert_int_equal(mo_proc_parse_key(text, cases[i].key, &value), cases[i].code);
        assert_true(value == (cases[i].code == 0 ? cases[i].value : 7));
    }
}

static void cgroups(void **state) {
    (void)state;
    static const char v2[] = "0::/user.slice/a:b\n";
    static const char both[] = "12:cpuset:/c\n4:cpu,memory:/m/one\n10::/not\n0::/u\n";
    static const struct {
        const char *text, *controller, *path; /* NULL: an error */
    } cases[] = {
        {v2, "", "/user.slice/a:b"},
        {v2, "memory", NULL},
        {both, "", "/u"},
        {both, "memory", "/m/one"},
        {both, "cpu", "/m/one"},
        {both, "mem", NULL},
        {both, "cpuset", "/c"},
        {"", "", NULL},
        {"0:", "", NULL},
        {"0::", "", NULL},
        {"0::relative\n", "", NULL},
        {"4:memory\n5:x:/y\n", "memory", NULL},
        {"\n\n:::/\n", "memory", NULL},
        {"0::/0123456789012345678901234567890123456789\n", "", NULL}, /* too long */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char path[32] = "before";
        int code = mo_proc_parse_cgroup(cases[i].text, cases[i].controller, path, sizeof(path));
        assert_int_equal(code, cases[i].path == NULL ? -EINVAL : 0);
        assert_string_equal(path, cases[i].path == NULL ? "before" : cases[i].path);
    }
}

static void mounts(void **state) {
    (void)state;
    static const char text[] =
        "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
        "short line\n"
        "35 31 0:32 /docker/x /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
        "36 31 0:33 / /a\\040b\\134c rw,relatime master:1 shared:2 - cgroup2 cgroup2 rw\n"
        "37 31 0:34 / /cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "38 31 0:35 / /bad\\9 rw - cgroup cgroup rw,bad\n"
        "39 31 0:36 / /cut rw";
    static const struct {
        const char *controller, *root, *point; /* NULL: an error */
    } cases[] = {
        {"memory", "/docker/x", "/sys/fs/cgroup/memory"},
        {"", "/", "/a b\\c"},
        {"cpuacct", "/", "/cpu"},
        {"bad", NULL, NULL},
        {"pids", NULL, NULL},
    };
    char root[64], point[64];
    for (size_t i = 0; i < COUNT(cases); i++) {
        strcpy(root, "r");
        strcpy(point, "p");
        int code = mo_proc_parse_mount(text, cases[i].controller, root, sizeof(root), point,
                                       sizeof(point));
        assert_int_equal(code, cases[i].root == NULL ? -EINVAL : 0);
        assert_string_equal(root, cases[i].root == NULL ? "r" : cases[i].root);
        assert_string_equal(point, cases[i].root == NULL ? "p" : cases[i].point);
    }
    assert_int_equal(mo_proc_parse_mount(text, "memory", root, 3, point, sizeof(point)), -EINVAL);
    assert_int_equal(mo_proc_parse_mount(text, "memory", root, sizeof(root), point, 3), -EINVAL);
    /* every beginning of it, ended where the memory ends */
    for (size_t length = 0; length < sizeof(text); length++) {
        char *part = malloc(length + 1);
        assert_non_null(part);
        memcpy(part, text, length);
        part[length] = '\0';
        mo_proc_parse_mount(part, "memory", root, sizeof(root), point, sizeof(point));
        mo_proc_parse_cgroup(part, "memory", root, sizeof(root));
        free(part);
    }
}

static void files(void **state) {
    (void)state;
    char directory[] = "/tmp/memopt-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/self", directory);
    assert_int_equal(mkdir(path, 0700), 0);
    struct mo_proc_memory process;
    assert_int_equal(mo_proc_read_memory(directory, &process), -ENOENT);
    snprintf(path, sizeof(path), "%s/self/statm", directory);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "3 2 1 0 0 0 0\n", 14), 14);
    close(fd);
    assert_int_equal(mo_proc_read_memory(directory, &process), 0);
    assert_int_equal(process.resident, 2 * sysconf(_SC_PAGESIZE));
    char four[4];
    assert_int_equal(mo_proc_read(path, four, sizeof(four)), 3); /* as much as fits */
    assert_string_equal(four, "3 2");
    assert_int_equal(mo_proc_read(directory, four, sizeof(four)), -EISDIR);
    unlink(path);
    snprintf(path, sizeof(path), "%s/self", directory);
    rmdir(path);
    rmdir(directory);
    char endless[600];
    memset(endless, 'x', sizeof(endless));
    endless[599] = '\0';
    assert_int_equal(mo_proc_read_memory(endless, &process), -ENAMETOOLONG);
    assert_int_equal(mo_proc_read_memory("/proc", &process), 0);
    assert_true(process.resident > 0 && process.mapped >= process.resident);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statm),     cmocka_unit_test(stat_of_a_process),
        cmocka_unit_test(status),    cmocka_unit_test(psi),
        cmocka_unit_test(values),    cmocka_unit_test(keys),
        cmocka_unit_test(cgroups),   cmocka_unit_test(mounts),
        cmocka_unit_test(processes), cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
