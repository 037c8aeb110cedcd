/* watch.c - see watch.h. */
#include "config.h"

#include "core/launch/watch.h"

#include "core/base/error.h"
#include "core/model/model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 4096 }; /* processes that are remembered, and looked at in one go */
#define MILLISECOND UINT64_C(1000000)
/* Looks begin this close together and grow apart, for a while not further than
 * EARLY, at last to what [monitor] says. */
#define FIRST (10 * MILLISECOND)
#define EARLY (250 * MILLISECOND)
enum { EARLY_LOOKS = 32 };

struct seen {
    pid_t pid, ppid;
    uint64_t start;          /* clock ticks since boot: tells a reused pid apart */
    uint64_t peak;           /* bytes */
    char *program, *command; /* may be NULL */
};

struct mo_watch {
    uint64_t interval;
    unsigned looks;
    int has_begun; /* the program is no longer a copy of memopt, before execve() */
    struct seen *seen;
    size_t count;
};

int mo_watch_new(struct mo_config *config, struct mo_watch **ret_watch,
                 struct memopt_error *error) {
    struct mo_settings_monitor settings;
    const struct mo_core_section *section = mo_core_section("monitor");
    int r = mo_config_fill(config, "monitor", section->table, &settings, error);
    if (r < 0)
        return r;
    struct mo_watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    watch->interval = settings.interval < FIRST ? FIRST : settings.interval;
    *ret_watch = watch;
    return 0;
}

void mo_watch_free(struct mo_watch *watch) {
    if (watch == NULL)
        return;
    for (size_t i = 0; i < watch->count; i++) {
        free(watch->seen[i].program);
        free(watch->seen[i].command);
    }
    free(watch->seen);
    free(watch);
}

/* A file of /proc, NUL-ended; its length, or 0. */
static size_t read_proc(pid_t pid, const char *name, char *buffer, size_t size) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    mo_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, buffer, size - 1);
    buffer[got < 0 ? 0 : got] = '\0';
    return got < 0 ? 0 : (size_t)got;
}

static int read_stat(pid_t pid, pid_t *ret_ppid, uint64_t *ret_start) {
    char text[1024];
    int ppid;
    uint64_t start;
    if (read_proc(pid, "stat", text, sizeof(text)) == 0)
        return 0;
    /* the name may have blanks and brackets of its own */
    const char *end = strrchr(text, ')');
    if (end == NULL ||
        sscanf(end + 1,
               " %*c %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
               "%" SCNu64,
               &ppid, &start) != 2)
        return 0;
    *ret_ppid = ppid;
    *ret_start = start;
    return 1;
}

static uint64_t read_peak(pid_t pid) {
    char text[4096];
    uint64_t kilobytes;
    read_proc(pid, "status", text, sizeof(text));
    const char *line = strstr(text, "\nVmHWM:");
    return line != NULL && sscanf(line, "\nVmHWM: %" SCNu64, &kilobytes) == 1 ? kilobytes * 1024
                                                                              : 0;
}

static int read_program(pid_t pid, char *text, size_t size) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    ssize_t length = readlink(path, text, size - 1);
    text[length < 0 ? 0 : length] = '\0';
    return length > 0;
}

/* What it runs now: execve() may have changed it since the last look. The peak of
 * what it was before (a copy of its parent, after a fork) is not that program's. */
static void read_names(struct seen *seen, const char *program) {
    char text[4096];
    if (seen->program != NULL && strcmp(seen->program, program) == 0)
        return;
    seen->peak = 0;
    free(seen->program);
    free(seen->command);
    seen->program = strdup(program);
    seen->command = NULL;
    size_t size = read_proc(seen->pid, "cmdline", text, sizeof(text));
    for (size_t i = 0; i + 1 < size; i++)
        if (text[i] == '\0')
            text[i] = ' ';
    if (size > 0)
        seen->command = strdup(text);
}

static void look(struct mo_watch *watch, pid_t pid, pid_t ppid, uint64_t start) {
    struct seen *seen = NULL;
    for (size_t i = 0; i < watch->count && seen == NULL; i++)
        if (watch->seen[i].pid == pid && watch->seen[i].start == start)
            seen = &watch->seen[i];
    char program[4096], later[4096];
    read_program(pid, program, sizeof(program));
    uint64_t peak = read_peak(pid);
    if (peak == 0) /* a zombie, or gone */
        return;
    read_program(pid, later, sizeof(later));
    if (strcmp(program, later) != 0) /* whose peak it is can't be said */
        return;
    if (seen == NULL) {
        if (watch->count == MOST)
            return;
        struct seen *larger = realloc(watch->seen, (watch->count + 1) * sizeof(*larger));
        if (larger == NULL)
            return;
        watch->seen = larger;
        seen = &larger[watch->count++];
        *seen = (struct seen){.pid = pid, .ppid = ppid, .start = start};
    }
    if (program[0] != '\0')
        read_names(seen, program);
    if (peak > seen->peak)
        seen->peak = peak;
}

/* Where execve() closes the descriptors first, memopt hears of it too early. The copy
 * of memopt still has memopt's arguments, of which the program's are only a part. */
static int is_memopt_still(pid_t pid) {
    char own[4096], its[4096];
    size_t own_size = read_proc(getpid(), "cmdline", own, sizeof(own));
    size_t its_size = read_proc(pid, "cmdline", its, sizeof(its));
    return its_size == 0 || (its_size == own_size && memcmp(its, own, its_size) == 0);
}

/* A process in its parent's memory is no other program: one that vfork() has begun, or
 * LeakSanitizer's look at the threads. Where the kernel can't say, it counts as one. */
static int shares_memory(pid_t pid, pid_t ppid) {
    return syscall(SYS_kcmp, pid, ppid, KCMP_VM, 0, 0) == 0;
}

struct relation {
    pid_t pid, ppid;
    uint64_t start;
    int ours;
};

/* Every process of the system with its parent, to find who descends from ours. */
static size_t read_relations(struct relation *relations) {
    size_t count = 0;
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc != NULL && count < MOST && (entry = readdir(proc)) != NULL) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        struct relation *relation = &relations[count];
        if (pid <= 0 || *end != '\0' || !read_stat((pid_t)pid, &relation->ppid, &relation->start))
            continue;
        relation->pid = (pid_t)pid;
        relation->ours = 0;
        count++;
    }
    if (proc != NULL)
        closedir(proc);
    return count;
}

static int was_seen(const struct mo_watch *watch, const struct relation *relation) {
    for (size_t i = 0; i < watch->count; i++)
        if (watch->seen[i].pid == relation->pid && watch->seen[i].start == relation->start)
            return 1;
    return 0;
}

void mo_watch_sample(struct mo_watch *watch, pid_t pid, uint64_t *interval) {
    watch->has_begun = watch->has_begun || !is_memopt_still(pid);
    mo_auto_free struct relation *relations =
        watch->has_begun ? malloc(MOST * sizeof(*relations)) : NULL;
    size_t count = relations == NULL ? 0 : read_relations(relations);
    /* one that was ours stays ours when its parent goes and init takes it */
    for (size_t i = 0; i < count; i++)
        relations[i].ours = relations[i].pid == pid || was_seen(watch, &relations[i]);
    for (int found = 1; found;) {
        found = 0;
        for (size_t i = 0; i < count; i++)
            for (size_t j = 0; j < count && !relations[i].ours; j++)
                if (relations[j].ours && relations[i].ppid == relations[j].pid)
                    found = relations[i].ours = 1;
    }
    for (size_t i = 0; i < count; i++)
        if (relations[i].ours && !shares_memory(relations[i].pid, relations[i].ppid))
            look(watch, relations[i].pid, relations[i].ppid, relations[i].start);
    uint64_t next = *interval < FIRST ? FIRST : *interval * 2;
    uint64_t most = watch->looks < EARLY_LOOKS && watch->interval > EARLY ? EARLY : watch->interval;
    watch->looks++;
    *interval = next < most ? next : most;
}

/* Clock ticks since boot as nanoseconds since the epoch. */
static uint64_t since_epoch(uint64_t ticks) {
    struct timespec real, boot;
    clock_gettime(CLOCK_REALTIME, &real);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    int64_t offset =
        (int64_t)(real.tv_sec - boot.tv_sec) * 1000000000 + real.tv_nsec - boot.tv_nsec;
    return (uint64_t)(offset + (int64_t)(ticks * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK))));
}

/* Nothing but what is seen from outside is known of it. */
static int is_unrecorded(const struct memopt_process *process) {
    return process->binding == NULL || strcmp(process->binding, "none") == 0;
}

/* The last of the programs that this process was, if that is what was seen. Sets
 * *ret_is_there if there is any of this number. */
static struct memopt_process *find_process(struct mo_model *model, const struct seen *seen,
                                           int *ret_is_there) {
    struct memopt_process *last = NULL;
    for (size_t i = 0; i < model->report.process_count; i++) {
        struct memopt_process *process = &model->processes[i];
        if (process->pid != seen->pid)
            continue;
        *ret_is_there = 1;
        if (last == NULL || last->start_time == MEMOPT_UNKNOWN ||
            process->start_time >= last->start_time)
            last = process;
    }
    /* a path, not only what the user called it: what it was in the end */
    int is_known = last != NULL && last->program != NULL && last->program[0] == '/';
    int is_other =
        is_known && seen->program != NULL && strcmp(last->program, seen->program) != 0;
    if (last == NULL || is_unrecorded(last))
        return is_other ? NULL : last;
    /* a number that was given again: what was seen began after what is known */
    int is_earlier =
        last->start_time != MEMOPT_UNKNOWN && since_epoch(seen->start) > last->start_time;
    return is_other || is_earlier ? NULL : last;
}

int mo_watch_report(const struct mo_watch *watch, struct memopt_report *report,
                    struct memopt_error *error) {
    struct mo_model *model = mo_model_of(report);
    for (size_t i = 0; i < watch->count; i++) {
        const struct seen *seen = &watch->seen[i];
        int is_there = 0;
        struct memopt_process *process = find_process(model, seen, &is_there);
        if (process == NULL && is_there)
            continue; /* of which of them it is can't be said */
        if (process == NULL) {
            process = mo_model_add_process(model);
            if (process == NULL)
                return mo_fail(error, -ENOMEM, "out of memory");
            process->pid = seen->pid;
            process->ppid = seen->ppid;
            process->binding = "none";
            process->start_time = since_epoch(seen->start);
        }
        if (process->peak_rss == MEMOPT_UNKNOWN)
            process->peak_rss_least = seen->peak;
        if (seen->program != NULL && is_unrecorded(process))
            process->program = mo_report_strdup(report, seen->program);
        if (process->command == NULL)
            process->command = mo_report_strdup(report, seen->command);
    }
    return 0;
}
