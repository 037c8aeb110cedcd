/* watch.c - see watch.h. */
#include "config.h"

#include "core/launch/watch.h"

#include "core/base/error.h"
#include "core/base/proc.h"
#include "core/import/run.h"
#include "core/launch/samples.h"
#include "core/launch/section.h"
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
#define SECOND UINT64_C(1000000000)
/* Looks are OFTEN apart in the first second and then as [monitor] says, but, while the
 * program is young, no further than a part of its age: its last tenth must have some. They
 * may take up no more than such a part of a CPU. */
#define OFTEN (10 * MILLISECOND)
enum { PART = 20 };
/* To search all processes for new ones costs more: the searches begin OFTEN apart and grow
 * apart, for a while not further than EARLY, at last to what [monitor] says. */
#define EARLY (250 * MILLISECOND)
enum { EARLY_SEARCHES = 32 };

struct seen {
    pid_t pid, ppid;
    uint64_t start;          /* ns since boot: tells a reused pid apart */
    uint64_t peak;           /* bytes; 0: not known */
    uint64_t looked;         /* when it was seen to run `program`; ns since the epoch */
    char *program, *command; /* may be NULL */
    struct mo_samples samples;
    int gone;
};

struct mo_watch {
    uint64_t interval;
    int has_begun; /* the program is no longer a copy of memopt, before execve() */
    uint64_t begun;
    uint64_t search, search_interval; /* the next one, and the one after it */
    unsigned searches;
    struct seen *seen;
    size_t count;
};

int mo_watch_new(struct mo_config *config, struct mo_watch **ret_watch,
                 struct memopt_error *error) {
    struct mo_settings_monitor settings;
    int r = mo_config_fill(config, "monitor", mo_section_monitor.table, &settings, error);
    if (r < 0)
        return r;
    struct mo_watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    watch->interval = settings.interval < OFTEN ? OFTEN : settings.interval;
    *ret_watch = watch;
    return 0;
}

void mo_watch_free(struct mo_watch *watch) {
    if (watch == NULL)
        return;
    for (size_t i = 0; i < watch->count; i++) {
        free(watch->seen[i].program);
        free(watch->seen[i].command);
        mo_samples_clear(&watch->seen[i].samples);
    }
    free(watch->seen);
    free(watch);
}

/* What it runs now: execve() may have changed it since the last look. The sizes of
 * what it was before (a copy of its parent, after a fork) are not that program's. */
static void read_names(struct seen *seen, const char *program) {
    char text[4096];
    if (seen->program != NULL && strcmp(seen->program, program) == 0)
        return;
    seen->peak = 0;
    mo_samples_clear(&seen->samples);
    free(seen->program);
    free(seen->command);
    seen->program = strdup(program);
    seen->command = NULL;
    int size = mo_proc_read_of(seen->pid, "cmdline", text, sizeof(text));
    for (int i = 0; i + 1 < size; i++)
        if (text[i] == '\0')
            text[i] = ' ';
    if (size > 0)
        seen->command = strdup(text);
}

static uint64_t clock_of(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static void look(struct seen *seen) {
    char program[4096], later[4096];
    struct mo_proc_stat stat;
    struct mo_proc_sizes sizes;
    uint64_t since = clock_of(CLOCK_REALTIME);
    seen->gone = mo_proc_read_stat(seen->pid, &stat) < 0 || stat.start != seen->start;
    if (seen->gone)
        return;
    mo_proc_read_exe(seen->pid, program, sizeof(program));
    /* a zombie, gone, or on its way into another program */
    if (mo_proc_read_sizes(seen->pid, &sizes) < 0 || sizes.resident == 0)
        return;
    uint64_t time = clock_of(CLOCK_MONOTONIC);
    mo_proc_read_exe(seen->pid, later, sizeof(later));
    if (strcmp(program, later) != 0) /* whose sizes they are can't be said */
        return;
    if (program[0] != '\0')
        read_names(seen, program);
    seen->looked = since;
    if (sizes.peak > seen->peak)
        seen->peak = sizes.peak;
    mo_samples_add(&seen->samples, time, sizes.resident);
}

static void add(struct mo_watch *watch, pid_t pid, pid_t ppid, uint64_t start) {
    if (watch->count == MOST)
        return;
    struct seen *larger = realloc(watch->seen, (watch->count + 1) * sizeof(*larger));
    if (larger == NULL)
        return;
    watch->seen = larger;
    larger[watch->count++] = (struct seen){.pid = pid, .ppid = ppid, .start = start};
}

/* Where execve() closes the descriptors first, memopt hears of it too early. The copy
 * of memopt still has memopt's arguments, of which the program's are only a part. */
static int is_memopt_still(pid_t pid) {
    char own[4096], its[4096];
    int own_size = mo_proc_read_of(getpid(), "cmdline", own, sizeof(own));
    int its_size = mo_proc_read_of(pid, "cmdline", its, sizeof(its));
    return its_size <= 0 || (its_size == own_size && memcmp(its, own, (size_t)its_size) == 0);
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
        struct mo_proc_stat stat;
        if (pid <= 0 || *end != '\0' || mo_proc_read_stat(pid, &stat) < 0)
            continue;
        relations[count++] =
            (struct relation){.pid = (pid_t)pid, .ppid = (pid_t)stat.parent, .start = stat.start};
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

/* Finds those of our processes that are not known yet. */
static void search(struct mo_watch *watch, pid_t pid) {
    mo_auto_free struct relation *relations = malloc(MOST * sizeof(*relations));
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
        if (relations[i].ours && !was_seen(watch, &relations[i]) &&
            !shares_memory(relations[i].pid, relations[i].ppid))
            add(watch, relations[i].pid, relations[i].ppid, relations[i].start);
}

static void search_sometimes(struct mo_watch *watch, pid_t pid, uint64_t time) {
    if (time < watch->search)
        return;
    uint64_t cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    search(watch, pid);
    uint64_t least = PART * (clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    uint64_t next = watch->searches == 0 ? OFTEN : watch->search_interval * 2;
    uint64_t most =
        watch->searches < EARLY_SEARCHES && watch->interval > EARLY ? EARLY : watch->interval;
    watch->searches++;
    watch->search_interval = next < most ? next : most;
    watch->search = time + (least > watch->search_interval ? least : watch->search_interval);
}

void mo_watch_sample(struct mo_watch *watch, pid_t pid, uint64_t *interval) {
    uint64_t time = clock_of(CLOCK_MONOTONIC), cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    *interval = OFTEN;
    if (!watch->has_begun && is_memopt_still(pid))
        return;
    if (!watch->has_begun)
        watch->begun = time;
    watch->has_begun = 1;
    search_sometimes(watch, pid, time);
    for (size_t i = 0; i < watch->count; i++)
        if (!watch->seen[i].gone)
            look(&watch->seen[i]);
    uint64_t age = time - watch->begun;
    if (age >= SECOND)
        *interval = age / PART < watch->interval ? age / PART : watch->interval;
    uint64_t least = PART * (clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    if (*interval < least)
        *interval = least;
}

int mo_watch_rss(const struct mo_watch *watch, pid_t pid, struct mo_watch_rss *ret_rss) {
    /* a number that was given again is of the one seen last */
    for (size_t i = watch->count; i > 0; i--) {
        const struct seen *seen = &watch->seen[i - 1];
        if (seen->pid != pid)
            continue;
        *ret_rss = (struct mo_watch_rss){
            .mean = mo_samples_mean(&seen->samples),
            .rest = mo_samples_rest(&seen->samples),
        };
        return 1;
    }
    return 0;
}

/* Nanoseconds since boot as nanoseconds since the epoch. */
static uint64_t since_epoch(uint64_t since_boot) {
    struct timespec real, boot;
    clock_gettime(CLOCK_REALTIME, &real);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    int64_t offset =
        (int64_t)(real.tv_sec - boot.tv_sec) * 1000000000 + real.tv_nsec - boot.tv_nsec;
    return (uint64_t)(offset + (int64_t)since_boot);
}

/* Nothing but what is seen from outside is known of it. */
static int is_unrecorded(const struct memopt_process *process) {
    return process->binding == NULL || strcmp(process->binding, "none") == 0;
}

/* The last of the programs that this process was, if that is what was seen. Sets
 * *ret_last to the last one of this number, whatever was seen; NULL: none. */
static struct memopt_process *find_process(struct mo_model *model, const struct seen *seen,
                                           struct memopt_process **ret_last) {
    struct memopt_process *last = NULL;
    for (size_t i = 0; i < model->report.process_count; i++) {
        struct memopt_process *process = &model->processes[i];
        if (process->pid != seen->pid)
            continue;
        if (last == NULL || last->start_time == MEMOPT_UNKNOWN ||
            process->start_time >= last->start_time)
            last = process;
    }
    *ret_last = last;
    /* a path, not only what the user called it: what it was in the end */
    int is_known = last != NULL && last->program != NULL && last->program[0] == '/';
    int is_other = is_known && seen->program != NULL && strcmp(last->program, seen->program) != 0;
    if (last == NULL || is_unrecorded(last))
        return is_other ? NULL : last;
    /* a number that was given again: what was seen began after what is known */
    int is_earlier =
        last->start_time != MEMOPT_UNKNOWN && since_epoch(seen->start) > last->start_time;
    return is_other || is_earlier ? NULL : last;
}

/* Of several programs of one name that a process was, one after the other, the sizes may
 * be any one's. */
static int is_one_of_several(const struct mo_model *model, const struct memopt_process *process) {
    size_t count = 0;
    for (size_t i = 0; i < model->report.process_count; i++) {
        const struct memopt_process *other = &model->processes[i];
        count += other->pid == process->pid && other->program != NULL && process->program != NULL &&
                 strcmp(other->program, process->program) == 0;
    }
    return count > 1;
}

/* Whether the process, whose record says nothing of its end, was later seen to run a program
 * that left no record: memopt can't be in that one. */
static int is_successor(const struct seen *seen, const struct memopt_process *last) {
    return last != NULL && last->end == MEMOPT_END_UNKNOWN && !is_unrecorded(last) &&
           last->start_time != MEMOPT_UNKNOWN && seen->looked > last->start_time &&
           since_epoch(seen->start) <= last->start_time && seen->program != NULL &&
           mo_is_other_program(last->program, seen->program);
}

int mo_watch_report(const struct mo_watch *watch, struct memopt_report *report,
                    struct memopt_error *error) {
    struct mo_model *model = mo_model_of(report);
    for (size_t i = 0; i < watch->count; i++) {
        const struct seen *seen = &watch->seen[i];
        struct memopt_process *last = NULL, *process = find_process(model, seen, &last);
        int became = process == NULL && is_successor(seen, last);
        if (process == NULL && last != NULL && !became)
            continue; /* of which of them it is can't be said */
        if (became)
            last->end = MEMOPT_END_EXEC;
        if (process == NULL) {
            process = mo_model_add_process(model);
            if (process == NULL)
                return mo_fail(error, -ENOMEM, "out of memory");
            process->pid = seen->pid;
            process->ppid = seen->ppid;
            process->binding = "none";
            process->start_time = became ? MEMOPT_UNKNOWN : since_epoch(seen->start);
        }
        if (process->peak_rss == MEMOPT_UNKNOWN && seen->peak > 0)
            process->peak_rss_least = seen->peak;
        uint64_t mean = mo_samples_mean(&seen->samples);
        if (mean != MEMOPT_UNKNOWN && !is_one_of_several(model, process)) {
            process->rss_mean = mean;
            process->rss_rest = mo_samples_rest(&seen->samples);
        }
        if (seen->program != NULL && is_unrecorded(process))
            process->program = mo_report_strdup(report, seen->program);
        if (process->command == NULL)
            process->command = mo_report_strdup(report, seen->command);
    }
    return 0;
}
