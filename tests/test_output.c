/* test_output.c - where reports go: names from patterns, files that appear whole
 * or not at all, links, devices, pipes, full disks and size limits, terminals,
 * and no memory. */
#define _GNU_SOURCE /* unshare, posix_openpt */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/render/output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/report_faults.h"

static char directory[64];

static int set_up(void **state) {
    (void)state;
    strcpy(directory, "/tmp/memopt-output-XXXXXX");
    umask(022);
    return mkdtemp(directory) == NULL || chdir(directory) != 0 ? -1 : 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    if (chdir("/") != 0)
        return -1;
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

static void write_text(const char *name, const char *text) {
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static const char *read_text(const char *name) {
    static char text[256 * 1024];
    FILE *file = fopen(name, "r");
    if (file == NULL)
        return NULL;
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

/* How many names the directory has: a left-over temporary file would show. */
static int names_in(const char *path) {
    int count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return count;
}

/* Opens, writes `text` `times` times, commits. */
static int emit(const char *target, const char *text, int times, struct memopt_error *error) {
    struct mo_output *output;
    int r = mo_output_open(target, &output, error);
    if (r < 0)
        return r;
    struct memopt_output *public = mo_output_public(output);
    for (int i = 0; i < times; i++)
    public->write(public, text, strlen(text));
    return mo_output_commit(output, error);
}

/* ---------------------------------------------------------------- patterns */

static void test_patterns(void **state) {
    (void)state;
    char *argv[] = {(char[]){"/bin/from-argv"}, NULL};
    struct memopt_process main = {.pid = 4242, .program = "/usr/bin/tra\nin"};
    struct memopt_process nameless = {.pid = 7};
    struct memopt_report report = {
        .start_time = 1795458506853163687u, .argv = argv, .processes = &main, .process_count = 1};
    struct memopt_report bare = {.start_time = 0};
    struct memopt_report by_argv = {.start_time = 951782400000000000u,
                                    .argv = argv,
                                    .processes = &nameless,
                                    .process_count = 1};
    const struct {
        const struct memopt_report *report;
        const char *pattern, *path;
    } rows[] = {
        {&report, "stderr", "stderr"},
        {&report, "memopt-%p.json", "memopt-4242.json"},
        {&report, "%t", "20261123T182826Z"},
        {&report, "out/%e-%p-%t%%.txt", "out/tra_in-4242-20261123T182826Z%.txt"},
        {&report, "%%%%p", "%%p"},
        {&by_argv, "%e.%p.%t", "from-argv.7.20000229T000000Z"},
        {&bare, "%e.%p", "program.0"},
        {&report, "", ""},
        {&report, "100%", NULL},
        {&report, "%x", NULL},
        {&report, "%", NULL},
        {&report, "% p", NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *path = NULL;
        struct memopt_error error = MEMOPT_ERROR_INIT;
        int r = mo_output_expand(rows[i].pattern, rows[i].report, &path, &error);
        if (rows[i].path == NULL) {
            assert_int_equal(r, -EINVAL);
            assert_null(path);
            assert_non_null(strstr(error.message, rows[i].pattern));
        } else {
            assert_int_equal(r, 0);
            assert_string_equal(path, rows[i].path);
            free(path);
        }
    }
}

/* ------------------------------------------------------------------- files */

static void test_file(void **state) {
    (void)state;
    static const struct {
        mode_t mask, there, mode; /* there: of the file that is replaced, 0: none is */
    } rows[] = {{022, 0, 0600},    {0, 0, 0600},      {0277, 0, 0400}, {022, 0644, 0644},
                {077, 0664, 0664}, {022, 0600, 0600}, {0, 0400, 0400}};
    int before = names_in(".");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct stat st;
        unlink("whole");
        if (rows[i].there != 0) {
            write_text("whole", "old");
            assert_int_equal(chmod("whole", rows[i].there), 0);
        }
        umask(rows[i].mask);
        int r = emit("whole", "text\n", 20000, NULL);
        umask(022);
        assert_int_equal(r, 0);
        assert_int_equal(stat("whole", &st), 0);
        assert_int_equal(st.st_size, 100000);
        assert_int_equal(st.st_mode & 07777, rows[i].mode);
        assert_int_equal(names_in("."), before + 1);
    }
    unlink("whole");
}

/* What a writer that was killed has left goes with the next one, and nothing else. */
/* Makes a file as old as one must be to be taken for left behind. */
static void age(const char *name) {
    struct timespec times[2] = {{.tv_sec = time(NULL) - 3600}, {.tv_sec = time(NULL) - 3600}};
    assert_int_equal(utimensat(AT_FDCWD, name, times, 0), 0);
}

static void test_left_over(void **state) {
    (void)state;
    struct mo_output *output;
    static const char left[] = ".memopt-0123456789abcdef";
    static const char *const others[] = {".memopt-0123456789abcde", ".memopt-0123456789abcdeg",
                                         ".memopt-0123456789ABCDEF", "memopt-0123456789abcdef",
                                         ".memopt-0123456789abcdef0"};
    enum { OTHERS = sizeof(others) / sizeof(others[0]) };
    assert_int_equal(mkdir("left", 0700), 0);
    for (int in_folder = 0; in_folder <= 1; in_folder++) {
        const char *target = in_folder ? "left/new" : "new";
        assert_int_equal(chdir(in_folder ? "left" : "."), 0);
        write_text(left, "half");
        age(left);
        write_text(".memopt-00000000000000dd", "somebody's, a moment ago");
        for (size_t i = 0; i < OTHERS; i++)
            write_text(others[i], "theirs");
        assert_int_equal(mkdir(".memopt-00000000000000aa", 0700), 0);
        assert_int_equal(symlink("nowhere", ".memopt-00000000000000bb"), 0);
        assert_int_equal(mkfifo(".memopt-00000000000000cc", 0600), 0);
        assert_int_equal(chdir(directory), 0);
        /* one that is being written stays */
        assert_int_equal(mo_output_open(target, &output, NULL), 0);
        assert_int_equal(emit(target, "second", 1, NULL), 0);
        assert_string_equal(read_text(target), "second");
        assert_int_equal(mo_output_commit(output, NULL), 0);
        assert_string_equal(read_text(target), "");
        assert_int_equal(chdir(in_folder ? "left" : "."), 0);
        assert_int_equal(access(left, F_OK), -1);
        assert_int_equal(unlink(".memopt-00000000000000dd"), 0);
        for (size_t i = 0; i < OTHERS; i++)
            assert_int_equal(unlink(others[i]), 0);
        assert_int_equal(rmdir(".memopt-00000000000000aa"), 0);
        assert_int_equal(unlink(".memopt-00000000000000bb"), 0);
        assert_int_equal(unlink(".memopt-00000000000000cc"), 0);
        assert_int_equal(chdir(directory), 0);
        assert_int_equal(unlink(target), 0);
    }
    /* a real one: a child that is killed while it writes */
    int before = names_in(".");
    pid_t pid = fork();
    if (pid == 0) {
        if (mo_output_open("new", &output, NULL) == 0)
            raise(SIGKILL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(names_in("."), before + 1);
    DIR *names = opendir(".");
    for (struct dirent *entry; (entry = readdir(names)) != NULL;)
        if (strncmp(entry->d_name, ".memopt-", 8) == 0)
            age(entry->d_name);
    closedir(names);
    assert_int_equal(emit("new", "text", 1, NULL), 0);
    assert_int_equal(names_in("."), before + 1); /* "new" */
    unlink("new");
    rmdir("left");
}

/* Of another user: his pipe where all may write, his file. */
static void test_strangers(void **state) {
    (void)state;
    enum { STRANGER = 65534 };
    static const struct {
        uid_t folder, pipe;
        mode_t mode;
        int code;
    } rows[] = {
        {0, STRANGER, 01777, -EACCES}, {0, STRANGER, 01775, -EACCES},  {0, 0, 01777, 0},
        {0, STRANGER, 0755, 0},        {STRANGER, STRANGER, 01777, 0}, /* the folder is his */
        {STRANGER, STRANGER, 0700, 0},
    };
    struct memopt_error error;
    if (geteuid() != 0)
        skip();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(mkdir("shared", 0700), 0);
        assert_int_equal(mkfifo("shared/pipe", 0600), 0);
        assert_int_equal(chown("shared/pipe", rows[i].pipe, 0), 0);
        assert_int_equal(chown("shared", rows[i].folder, 0), 0);
        assert_int_equal(chmod("shared", rows[i].mode), 0);
        int reader = open("shared/pipe", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        assert_true(reader >= 0);
        char text[8];
        for (int absolute = 0; absolute <= 1; absolute++) {
            char path[128];
            snprintf(path, sizeof(path), "%s%sshared/pipe", absolute ? directory : "",
                     absolute ? "/" : "");
            if (emit(path, "text", 1, &error) != rows[i].code ||
                mo_output_check(path, &error) != rows[i].code)
                fail_msg("row %zu: %s", i, error.message);
            ssize_t got = read(reader, text, sizeof(text));
            assert_int_equal(got, rows[i].code == 0 ? 4 : 0);
        }
        assert_int_equal(chdir("shared"), 0);
        assert_int_equal(mo_output_check("pipe", &error), rows[i].code);
        assert_int_equal(chdir(directory), 0);
        close(reader);
        unlink("shared/pipe");
        rmdir("shared");
    }
    /* a file that a stranger has put there, for all to read: it is replaced, its mode is not
     * kept */
    struct stat st;
    write_text("planted", "");
    assert_int_equal(chown("planted", STRANGER, 0), 0);
    assert_int_equal(chmod("planted", 0666), 0);
    assert_int_equal(emit("planted", "text", 1, NULL), 0);
    assert_int_equal(stat("planted", &st), 0);
    assert_int_equal(st.st_uid, 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    unlink("planted");
}

/* Until commit the old file stands; abort and failure leave it. */
static void test_appears_whole(void **state) {
    (void)state;
    struct mo_output *output;
    write_text("old", "old");
    int before = names_in(".");
    for (int abort = 0; abort < 2; abort++) {
        assert_int_equal(mo_output_open("old", &output, NULL), 0);
        struct memopt_output *public = mo_output_public(output);
        for (int i = 0; i < 5000; i++) /* more than is held back */
            assert_int_equal(public->printf(public, "%s %d\n", "line", i), 0);
        assert_string_equal(read_text("old"), "old");
        if (abort == 0) {
            mo_output_abort(output);
            assert_string_equal(read_text("old"), "old");
        } else {
            assert_int_equal(mo_output_commit(output, NULL), 0);
            assert_non_null(strstr(read_text("old"), "line 4999\n"));
        }
        assert_int_equal(names_in("."), before);
    }
    unlink("old");
}

static void test_long_printf(void **state) {
    (void)state;
    struct mo_output *output;
    assert_int_equal(mo_output_open("long", &output, NULL), 0);
    struct memopt_output *public = mo_output_public(output);
    static const int widths[] = {1, 511, 512, 513, 20000};
    size_t sum = 0;
    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
        assert_int_equal(public->printf(public, "%*d", widths[i], 7), 0);
        sum += (size_t)widths[i];
    }
    assert_int_equal(mo_output_commit(output, NULL), 0);
    const char *text = read_text("long");
    assert_int_equal(strlen(text), sum);
    assert_int_equal(text[sum - 1], '7');
    unlink("long");
}

static void test_bad_targets(void **state) {
    (void)state;
    write_text("file", "");
    assert_int_equal(mkdir("dir", 0700), 0);
    assert_int_equal(mkfifo("fifo", 0600), 0);
    assert_int_equal(symlink("file", "link"), 0);
    assert_int_equal(symlink("nowhere", "dangling"), 0);
    static char too_long[300];
    memset(too_long, 'x', sizeof(too_long) - 1);
    static const struct {
        const char *target;
        int code;
        const char *says;
    } rows[] = {
        {"", -ENOENT, "no name"},
        {"none/report", -ENOENT, "'none/report': No such file"},
        {"file/report", -ENOTDIR, "'file/report': Not a directory"},
        {"dir", -EISDIR, "'dir': Is a directory"},
        {"dir/", -EISDIR, "'dir/': Is a directory"},
        {"link", -ELOOP, "'link': a symbolic link"},
        {"dangling", -ELOOP, "'dangling': a symbolic link"},
        {"fifo", -ENXIO, "'fifo': No such device"},          /* nobody reads it */
        {"/proc/self/report", -ENOENT, "/proc/self/report"}, /* not even root may */
        {too_long, -ENAMETOOLONG, "File name too long"},
        {"/dev/full", -ENOSPC, "'/dev/full': No space left on device"},
    };
    int before = names_in(".");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct memopt_error error = MEMOPT_ERROR_INIT;
        int r = emit(rows[i].target, "text", 1, &error);
        if (r != rows[i].code || error.code != r || strstr(error.message, rows[i].says) == NULL)
            fail_msg("'%.20s': %d '%s'", rows[i].target, r, error.message);
    }
    assert_int_equal(names_in("."), before);
    assert_string_equal(read_text("file"), "");
    struct stat st;
    assert_int_equal(stat("/dev/full", &st), 0);
    assert_true(S_ISCHR(st.st_mode)); /* and not a file in its place */
    assert_int_equal(emit("/dev/null", "text", 1, NULL), 0);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
}

/* The name is taken by a directory while the report is written. */
static void test_rename_fails(void **state) {
    (void)state;
    struct mo_output *output;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    assert_int_equal(mo_output_open("taken", &output, NULL), 0);
    assert_int_equal(mkdir("taken", 0700), 0);
    int before = names_in(".");
    assert_int_equal(mo_output_commit(output, &error), -EISDIR);
    assert_string_equal(error.message, "'taken': Is a directory");
    assert_int_equal(names_in("."), before - 1); /* the temporary file went */
    rmdir("taken");
}

/* --------------------------------------------------- what a child must try */

/* Runs `body` in a child; its return value is the exit status, 77: skipped. */
static void in_child(int (*body)(void)) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(body());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

#define check(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static int signals_are_as_before(void) {
    sigset_t mask, pending;
    return pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0 && sigpending(&pending) == 0 &&
           !sigismember(&mask, SIGXFSZ) && !sigismember(&mask, SIGPIPE) &&
           !sigismember(&pending, SIGXFSZ) && !sigismember(&pending, SIGPIPE);
}

/* A size limit that the report passes after some bytes. SIGXFSZ would kill us. */
static int over_the_size_limit(void) {
    static const int lengths[] = {20000, 100000};
    struct rlimit limit = {10000, 10000};
    struct memopt_error error = MEMOPT_ERROR_INIT;
    write_text("limited", "old");
    int before = names_in(".");
    check(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    for (size_t i = 0; i < 2; i++) {
        check(emit("limited", "x", lengths[i], &error) == -EFBIG);
        check(strcmp(error.message, "'limited': File too large") == 0);
        check(strcmp(read_text("limited"), "old") == 0);
        check(names_in(".") == before);
        check(signals_are_as_before());
    }
    check(emit("limited", "x", 9999, &error) == 0);
    check(strlen(read_text("limited")) == 9999);
    return 0;
}
static void test_size_limit(void **state) {
    (void)state;
    in_child(over_the_size_limit);
}

/* A reader that went away. SIGPIPE would kill us. */
static int into_a_closed_pipe(void) {
    int ends[2];
    struct memopt_error error = MEMOPT_ERROR_INIT;
    check(pipe(ends) == 0 && dup2(ends[1], STDOUT_FILENO) >= 0);
    close(ends[0]);
    close(ends[1]);
    check(emit("stdout", "text", 1, &error) == -EPIPE);
    check(strcmp(error.message, "'stdout': Broken pipe") == 0);
    check(signals_are_as_before());

    /* One that was pending before stays so. */
    sigset_t pipe_only, pending;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigprocmask(SIG_BLOCK, &pipe_only, NULL);
    raise(SIGPIPE);
    check(emit("stdout", "text", 1, &error) == -EPIPE);
    check(sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE));
    return 0;
}
static void test_closed_pipe(void **state) {
    (void)state;
    in_child(into_a_closed_pipe);
}

static int without_stderr(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    close(STDERR_FILENO);
    int r = emit("stderr", "text", 1, &error);
    dup2(saved, STDERR_FILENO);
    check(r == -EBADF);
    check(strstr(error.message, "stderr: Bad file descriptor") != NULL);
    return 0;
}
static void test_no_stderr(void **state) {
    (void)state;
    in_child(without_stderr);
}

/* A pipe whose reader is slow and whose writing end does not block. */
static int into_a_slow_pipe(void) {
    int ends[2];
    check(pipe2(ends, O_NONBLOCK) == 0);
    fflush(NULL);
    pid_t reader = fork();
    if (reader == 0) {
        char bytes[4096];
        size_t sum = 0;
        close(ends[1]);
        fcntl(ends[0], F_SETFL, 0);
        usleep(50000);
        for (ssize_t n; (n = read(ends[0], bytes, sizeof(bytes))) > 0;)
            sum += (size_t)n;
        _exit(sum == 500000 ? 0 : 1);
    }
    close(ends[0]);
    check(dup2(ends[1], STDOUT_FILENO) >= 0);
    close(ends[1]);
    check(emit("stdout", "text\n", 100000, NULL) == 0);
    close(STDOUT_FILENO);
    int status;
    check(waitpid(reader, &status, 0) == reader && status == 0);
    return 0;
}
static void test_slow_pipe(void **state) {
    (void)state;
    in_child(into_a_slow_pipe);
}

/* A disk of 16 KiB, and one that is read-only: in a mount name space of our own. */
static int on_small_and_read_only_disks(void) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return 77;
    mkdir("disk", 0700);
    if (mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", "disk", "tmpfs", 0, "size=16k") != 0)
        return 77;
    write_text("disk/report", "old");
    for (int length = 13000; length <= 200000; length += 187000) {
        check(emit("disk/report", "x", length, &error) == -ENOSPC);
        check(strcmp(error.message, "'disk/report': No space left on device") == 0);
        check(strcmp(read_text("disk/report"), "old") == 0);
        check(names_in("disk") == 1);
    }
    check(mount("none", "disk", "tmpfs", MS_REMOUNT | MS_RDONLY, NULL) == 0);
    check(emit("disk/report", "x", 1, &error) == -EROFS);
    check(strcmp(error.message, "'disk/report': Read-only file system") == 0);
    check(strcmp(read_text("disk/report"), "old") == 0);
    return 0;
}
static void test_disks(void **state) {
    (void)state;
    in_child(on_small_and_read_only_disks);
}

/* --------------------------------------------------------------- terminals */

static void test_terminal(void **state) {
    (void)state;
    static const struct {
        const char *term, *no_color;
        int columns, is_terminal;
    } rows[] = {
        {"xterm", NULL, 123, 1}, {"dumb", NULL, 123, 0}, {NULL, NULL, 60, 0},
        {"xterm", "1", 60, 0},   {"xterm", NULL, 0, 1},
    };
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0)
        skip();
    char name[64];
    assert_int_equal(ptsname_r(terminal, name, sizeof(name)), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct winsize window = {.ws_col = (unsigned short)rows[i].columns};
        assert_int_equal(ioctl(terminal, TIOCSWINSZ, &window), 0);
        rows[i].term != NULL ? setenv("TERM", rows[i].term, 1) : unsetenv("TERM");
        rows[i].no_color != NULL ? setenv("NO_COLOR", rows[i].no_color, 1) : unsetenv("NO_COLOR");
        struct mo_output *output;
        assert_int_equal(mo_output_open(name, &output, NULL), 0);
        struct memopt_output *public = mo_output_public(output);
        assert_int_equal(public->is_terminal, rows[i].is_terminal);
        assert_int_equal(public->columns, rows[i].columns == 0 ? 80 : rows[i].columns);
        mo_output_abort(output);
    }
    close(terminal);
    unsetenv("NO_COLOR");
    struct mo_output *output;
    assert_int_equal(mo_output_open("plain", &output, NULL), 0);
    assert_int_equal(mo_output_public(output)->is_terminal, 0);
    mo_output_abort(output);
}

/* ---------------------------------------------------------------- no memory */

static int everything(struct memopt_error *error) {
    struct memopt_report report = {.start_time = 0};
    char *path = NULL;
    struct mo_output *output;
    int r = mo_output_expand("scarce-%p", &report, &path, error);
    if (r < 0)
        return r;
    r = mo_output_open(path, &output, error);
    free(path);
    if (r < 0)
        return r;
    struct memopt_output *public = mo_output_public(output);
    public->printf(public, "%1000d", 1);
    return mo_output_commit(output, error);
}

static void test_out_of_memory(void **state) {
    (void)state;
    int before = names_in(".");
    for (int for_good = 0; for_good < 2; for_good++) {
        for (long nth = 1;; nth++) {
            struct memopt_error error = MEMOPT_ERROR_INIT;
            fault_arm(nth, for_good);
            int r = everything(&error);
            long fired = fault.fired;
            fault_arm(0, 0);
            if (fired == 0) {
                assert_int_equal(r, 0);
                assert_true(nth > 5);
                unlink("scarce-0");
                break;
            }
            assert_int_equal(r, -ENOMEM);
            assert_int_equal(error.code, -ENOMEM);
            assert_string_not_equal(error.message, "");
            assert_int_equal(names_in("."), before);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),      cmocka_unit_test(test_left_over),
        cmocka_unit_test(test_strangers),     cmocka_unit_test(test_file),
        cmocka_unit_test(test_appears_whole), cmocka_unit_test(test_long_printf),
        cmocka_unit_test(test_bad_targets),   cmocka_unit_test(test_rename_fails),
        cmocka_unit_test(test_size_limit),    cmocka_unit_test(test_closed_pipe),
        cmocka_unit_test(test_no_stderr),     cmocka_unit_test(test_slow_pipe),
        cmocka_unit_test(test_disks),         cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("output", tests, set_up, tear_down);
}
