/*
 * writer.c - see writer.h.
 *
 *   creation     take_place, map_place, mo_ledger_create
 *   areas        where they lie, growth
 *   threads      mo_ledger_attach, reclaim
 *   heaps and notes
 *   fork         a place of its own in the child
 *   end
 */
#include "core/ledger/writer.h"

#include "core/base/error.h"
#include "core/base/forkorder.h"
#include "core/base/kernel.h"
#include "core/base/reserve.h"
#include "core/base/rundir.h"
#include "core/base/sysmem.h"
#include "core/base/text.h"
#include "lib/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = MO_LEDGERS_PAGE, LINE = 64 };

static struct mo_ledger_header *ledger;
static char directory[512];
static char path[600];                   /* of the run's file */
static struct mo_ledgers *shared;        /* its first page */
static MO_WRITTEN_AT_FORK uint64_t base; /* where in it this process's record begins */
/* Each area's mapping, as large as its limit: out of bounds but for what is backed, so that
 * mlockall() brings no more. NULL: not mapped yet. */
static MO_WRITTEN_AT_FORK _Atomic(char *) mappings[MO_AREAS];
static void (*fold_slot)(void *ended, void *slot);
static MO_WRITTEN_AT_FORK _Atomic int reclaiming; /* 1: a thread is folding ended slots */
static MO_WRITTEN_AT_FORK _Atomic int said_full;
/* The process has shut itself in (seccomp): no system call is ours any more. */
static _Atomic int shut_in;
static uint64_t monotonic_begun;

/* ---------------------------------------------------------------- creation */

static uint64_t round_up(uint64_t value, uint64_t to) {
    return (value + to - 1) / to * to;
}

#define COPY(TO, FROM) mo_text_put((TO), (TO) + sizeof(TO), (FROM))

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t = {0, 0};
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int is_nearly_full(int fd) {
    struct statfs space;
    if (mo_kernel(SYS_fstatfs, fd, (long)&space, 0, 0, 0, 0) != 0 || space.f_bsize <= 0)
        return 0;
    uint64_t size = (uint64_t)space.f_bsize;
    return space.f_bavail * size < mo_reserve(space.f_blocks * size);
}

static bool no_fallocate; /* the file system has none: then only what is new can be had */

/* 0 or an errno. `is_new`: nobody but the caller has the blocks, so that they may be written
 * instead, where the file system can't do better. */
static int allocate(int fd, uint64_t start, uint64_t end, bool is_new) {
    long code;
    do
        code = mo_kernel(SYS_fallocate, fd, 0, (long)start, (long)(end - start), 0, 0);
    while (code == -EINTR);
    if (code != -EOPNOTSUPP)
        return (int)-code;
    no_fallocate = true;
    if (!is_new)
        return EOPNOTSUPP;
    /* Beyond the limit the kernel sends SIGXFSZ, and the program would die of us. */
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && end > limit.rlim_cur)
        return EFBIG;
    for (uint64_t at = start; at < end; at += PAGE)
        if ((code = mo_kernel(SYS_pwrite64, fd, (long)"", 1, (long)at, 0, 0)) != 1)
            return code < 0 ? (int)-code : ENOSPC;
    return 0;
}

/* The run's file: the one that was opened first. Later its directory may be another one. */
static dev_t file_device;
static ino_t file_inode;

/* From the directory that memopt made (core/base/rundir.h). */
static int open_first(struct memopt_error *error) {
    struct stat status;
    int from = mo_rundir_open(directory, error);
    if (from < 0)
        return from;
    int fd = (int)mo_kernel(SYS_openat, from, (long)MO_LEDGERS_NAME,
                            O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0, 0, 0);
    mo_rundir_close(from);
    if (fd < 0)
        return mo_fail(error, fd, "cannot open the ledgers '%s': %s", path, strerrordesc_np(-fd));
    if (mo_kernel(SYS_fstat, fd, (long)&status, 0, 0, 0, 0) == 0) {
        file_device = status.st_dev;
        file_inode = status.st_ino;
    }
    return fd;
}

static int open_file(void) {
    struct stat status;
    int fd = mo_kernel_open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && (mo_kernel(SYS_fstat, fd, (long)&status, 0, 0, 0, 0) != 0 ||
                    status.st_dev != file_device || status.st_ino != file_inode)) {
        mo_kernel_close(fd);
        return -ESTALE;
    }
    return fd;
}

/* Maps the file's first page. */
static int open_shared(int fd, struct memopt_error *error) {
    int code;
    struct mo_ledgers *file =
        mo_kernel_map(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0, &code);
    if (file == NULL)
        return mo_fail(error, code, "cannot map the ledgers: %s", strerrordesc_np(-code));
    if (memcmp(file->magic, MO_LEDGERS_MAGIC, sizeof(file->magic)) != 0 ||
        file->version != MO_LEDGER_VERSION || file->stride < MO_LEDGERS_STRIDE_MIN) {
        mo_kernel(SYS_munmap, (long)file, PAGE, 0, 0, 0, 0);
        return mo_fail(error, -EPROTO, "'%s' is not a file of this memopt's ledgers", path);
    }
    shared = file;
    return 0;
}

/* Takes the next place in the file and backs its header. *ret_known: the process may
 * have a record already. */
static int take_place(int fd, uint64_t *ret_base, bool *ret_known, struct memopt_error *error) {
    uint64_t index = atomic_fetch_add(&shared->count, 1);
    uint64_t place = (index + 1) * shared->stride;
    int code = 0;
    if (index >= shared->room || is_nearly_full(fd))
        code = ENOSPC;
    if (code == 0)
        code = allocate(fd, place, place + PAGE, true);
    if (code != 0) {
        atomic_fetch_add(&shared->failed, 1);
        return mo_fail(error, -code, "cannot allocate %d bytes for the ledger in '%s': %s", PAGE,
                       path, strerrordesc_np(code));
    }
    unsigned bit = (unsigned)mo_kernel_pid() % MO_LEDGERS_PIDS;
    uint64_t mask = UINT64_C(1) << bit % 64;
    *ret_known = (atomic_fetch_or(&shared->pids[bit / 64], mask) & mask) != 0;
    *ret_base = place;
    return 0;
}

/* The header's mapping; see ledger.h for the lock. */
static struct mo_ledger_header *map_place(int fd, uint64_t place, bool *ret_locked,
                                          struct memopt_error *error) {
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)place, .l_len = 1};
    int code;
    *ret_locked = mo_kernel(SYS_fcntl, fd, F_OFD_SETLK, (long)&lock, 0, 0, 0) == 0;
    void *map = mo_kernel_map(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, place, &code);
    if (map == NULL) {
        atomic_fetch_add(&shared->failed, 1);
        mo_fail(error, code, "cannot map the ledger: %s", strerrordesc_np(-code));
    }
    return map;
}

/* What a record may have: of the address space, where that is limited, an eighth. */
static uint64_t room_of_record(void) {
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    getrlimit(RLIMIT_AS, &limit);
    uint64_t most = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur / 8;
    return shared->stride < most ? shared->stride : most & ~(uint64_t)(PAGE - 1);
}

/* Why there is none, for the report: as the text of a link, which a full disk
 * still takes. */
static int word_left;
static void leave_word(const char *why) {
    char text[128], link[sizeof(path)], *end = link + sizeof(link);
    char *to = mo_text_put(mo_text_put(link, end, directory), end, "/");
    mo_text_put(mo_text_put_number(to, end, (uint64_t)getpid()), end, ".missing");
    COPY(text, why);
    word_left = symlink(text, link) == 0;
}

int mo_ledger_left_word(void) {
    return word_left;
}

/* When this process was begun, in ns since boot, to a clock tick; 0: not known. */
static uint64_t process_start(void) {
    char text[1024];
    int fd = mo_kernel_open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    long length = fd < 0 ? -1 : mo_kernel_read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        mo_kernel_close(fd);
    text[length > 0 ? length : 0] = '\0';
    /* the name, which ends with the last bracket, may have blanks; field 22 is wanted */
    const char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    uint64_t ticks = 0;
    for (at = at == NULL ? "" : at + 1; *at >= '0' && *at <= '9'; at++)
        ticks = ticks * 10 + (uint64_t)(*at - '0');
    return ticks * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* `known`: see take_place(). */
static void describe_process(struct mo_ledger_header *header, bool known) {
    header->pid = mo_kernel_pid();
    header->ppid = mo_kernel(SYS_getppid, 0, 0, 0, 0, 0, 0);
    header->start_time = mo_kernel_clock(CLOCK_REALTIME);
    header->begun = mo_kernel_clock(CLOCK_BOOTTIME);
    monotonic_begun = clock_ns(CLOCK_MONOTONIC_COARSE);
    header->process_start = known ? process_start() : 0;
    mo_kernel(SYS_prctl, PR_GET_NAME, (long)header->name, 0, 0, 0, 0);
    atomic_store(&header->state, MO_LEDGER_RUNNING);
}

static void describe_program(struct mo_ledger_header *header, int argc, char *const *argv) {
    ssize_t length = readlink("/proc/self/exe", header->exe, sizeof(header->exe) - 1);
    header->exe[length > 0 ? length : 0] = '\0';
    char *to = header->command, *end = to + sizeof(header->command) - 1;
    for (int i = 0; i < argc && argv[i] != NULL; i++) {
        if (i > 0 && to < end)
            *to++ = ' ';
        to = mempcpy(to, argv[i], strnlen(argv[i], (size_t)(end - to)));
    }
    *to = '\0';
}

/* ------------------------------------------------------------------- areas */

uint64_t mo_ledger_clock(void) {
    uint64_t now = clock_ns(CLOCK_MONOTONIC_COARSE);
    return now > monotonic_begun ? now - monotonic_begun : 0;
}

/* Puts an area behind those that there are. `most`: bytes that it may have of the record's
 * `room`; false: there is not a page for it. */
static bool place_area(struct mo_ledger_header *header, size_t index, const char *name,
                       uint32_t version, uint32_t unit, uint64_t want, uint64_t most,
                       uint64_t room) {
    uint64_t end = PAGE;
    for (size_t i = 0; i < MO_AREAS; i++)
        if (!(header->areas[i].flags & MO_AREA_IN_SLOT) &&
            header->areas[i].offset + header->areas[i].limit > end)
            end = header->areas[i].offset + header->areas[i].limit;
    uint64_t limit = most < want ? most : round_up(want, PAGE);
    limit &= ~(uint64_t)(PAGE - 1);
    if (limit < unit || limit == 0 || end > room || limit > room - end)
        return false;
    struct mo_area *area = &header->areas[index];
    COPY(area->name, name);
    area->version = version;
    area->unit = unit;
    area->offset = end;
    atomic_thread_fence(memory_order_release); /* with its room the entry is whole */
    area->limit = limit;
    return true;
}

/* The core's areas and the states in a slot. Each area may have an eighth of the record, the
 * threads' a half. */
static int plan_areas(struct mo_ledger_header *header, const struct mo_ledger_plan *plan,
                      struct memopt_error *error) {
    enum { NOTES = 1 << 20, HEAPS = 16 << 20, THREADS = 128 << 20 };
    uint64_t room = room_of_record(), unit = sizeof(struct mo_ledger_thread);
    if (plan->state_count > MO_AREAS - MO_CORE_AREAS)
        return mo_fail(error, -E2BIG, "%zu trackers, and the ledger has room for %d",
                       plan->state_count, MO_AREAS - MO_CORE_AREAS);
    for (size_t i = 0; i < plan->state_count; i++) {
        struct mo_slot_state *state = &plan->states[i];
        struct mo_area *area = &header->areas[MO_CORE_AREAS + i];
        COPY(area->name, state->name);
        area->version = state->version;
        area->unit = state->size;
        area->flags = MO_AREA_IN_SLOT;
        area->offset = state->offset = (uint32_t)unit;
        unit = round_up(unit + state->size, LINE);
        if (unit > room / 4)
            return mo_fail(error, -EFBIG,
                           "the trackers' states need more room than the run's file has for a "
                           "process");
    }
    if (place_area(header, MO_NOTES, MO_AREA_NOTES, 1, 1, NOTES, room / 8, room) &&
        place_area(header, MO_HEAPS, MO_AREA_HEAPS, 1, sizeof(struct mo_ledger_heap), HEAPS,
                   room / 8, room) &&
        place_area(header, MO_THREADS, MO_AREA_THREADS, 1, (uint32_t)unit,
                   plan->state_count == 0 ? 1 : THREADS, room / 2, room))
        return 0;
    return mo_fail(error, -EFBIG, "the run's file has no room for the ledger of a process");
}

static char *map_area(int fd, size_t index) {
    const struct mo_area *area = &ledger->areas[index];
    int code;
    char *map = mo_kernel_map(NULL, area->limit, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd,
                              base + area->offset, &code);
    char *other = NULL;
    if (map == NULL || atomic_compare_exchange_strong(&mappings[index], &other, map))
        return map;
    mo_kernel(SYS_munmap, (long)map, (long)area->limit, 0, 0, 0, 0);
    return other;
}

static void raise_used(size_t index, uint64_t bytes) {
    mo_raise(&ledger->areas[index].used, bytes);
}

static int say_area_full(struct mo_area *area, int code) {
    uint64_t never = 0, now = mo_ledger_clock();
    atomic_compare_exchange_strong(&area->full_at, &never, now > 0 ? now : 1);
    return code;
}

/* Whole pages get blocks, and may be used. Several threads may do it at once, but if `is_new`. */
static int back_with(int fd, size_t index, uint64_t end, bool is_new) {
    struct mo_area *area = &ledger->areas[index];
    char *map = atomic_load(&mappings[index]);
    uint64_t have = atomic_load(&area->backed), usable = have;
    end = round_up(end, PAGE);
    if (map == NULL) { /* what there is may be backed already, but not be usable yet */
        usable = 0;
        if ((map = map_area(fd, index)) == NULL)
            return -ENOMEM;
    }
    if (usable >= end)
        return 0; /* another thread was there first */
    uint64_t start = base + area->offset;
    int code = have >= end ? 0 : -allocate(fd, start + have, start + end, is_new);
    if (code == 0)
        code = (int)mo_kernel(SYS_mprotect, (long)map + (long)usable, (long)(end - usable),
                              PROT_READ | PROT_WRITE, 0, 0, 0);
    if (code == 0)
        mo_raise(&area->backed, end);
    return code;
}

/* Makes the first `end` bytes usable. The file is opened again: a descriptor that is kept open
 * would be one of the program's. Any thread, any time. */
static int back(size_t index, uint64_t end) {
    struct mo_area *area = &ledger->areas[index];
    if (end <= atomic_load(&area->backed) && atomic_load(&mappings[index]) != NULL)
        return 0;
    if (end > area->limit)
        return say_area_full(area, -ENOSPC);
    if (atomic_load(&shut_in))
        return -EPERM;
    int fd = open_file();
    int code = fd < 0 ? fd : back_with(fd, index, end, false);
    if (fd >= 0)
        mo_kernel_close(fd);
    return code == -ENOSPC || code == -EDQUOT ? say_area_full(area, code) : code;
}

/* Takes the next `bytes` of an area of which nothing is given back. */
static int claim(size_t index, uint64_t bytes, uint64_t *ret_offset) {
    _Atomic uint64_t *used = &ledger->areas[index].used;
    uint64_t offset = atomic_load(used);
    int code;
    do
        if ((code = back(index, offset + bytes)) < 0)
            return code;
    while (!atomic_compare_exchange_weak(used, &offset, offset + bytes));
    *ret_offset = offset;
    return 0;
}

void *mo_ledger_area(const char *name, uint32_t version, uint32_t unit, uint64_t limit,
                     struct memopt_error *error) {
    if (ledger == NULL)
        return mo_fail(error, -ENOENT, "there is no ledger"), NULL;
    size_t index = MO_CORE_AREAS;
    for (; index < MO_AREAS && ledger->areas[index].name[0] != '\0'; index++)
        if (!(ledger->areas[index].flags & MO_AREA_IN_SLOT) &&
            strcmp(ledger->areas[index].name, name) == 0)
            return mo_fail(error, -EEXIST, "there is an area '%s' already", name), NULL;
    uint64_t room = room_of_record(), want;
    if (unit == 0 || limit == 0 || strlen(name) >= sizeof(ledger->areas[0].name) ||
        __builtin_mul_overflow(limit, (uint64_t)unit, &want))
        return mo_fail(error, -EINVAL, "an area '%s' of %llu elements of %u bytes can't be", name,
                       (unsigned long long)limit, unit),
               NULL;
    if (index == MO_AREAS || !place_area(ledger, index, name, version, unit, want, room / 4, room))
        return mo_fail(error, -ENOSPC, "the ledger has no room for the area '%s'", name), NULL;
    int fd = open_file();
    char *map = fd < 0 ? NULL : map_area(fd, index);
    if (fd >= 0)
        mo_kernel_close(fd);
    if (map == NULL)
        mo_fail(error, -ENOMEM, "cannot map the area '%s' of the ledger", name);
    return map;
}

int mo_ledger_area_back(void *area, uint64_t count) {
    size_t index = MO_CORE_AREAS;
    while (index < MO_AREAS && atomic_load(&mappings[index]) != area)
        index++;
    uint64_t bytes;
    if (ledger == NULL || area == NULL || index == MO_AREAS)
        return -EINVAL;
    if (__builtin_mul_overflow(count, (uint64_t)ledger->areas[index].unit, &bytes))
        return -ENOSPC;
    int code = back(index, bytes);
    if (code == 0)
        raise_used(index, bytes);
    return code;
}

static int create(int fd, const struct mo_ledger_plan *plan, int argc, char *const *argv,
                  struct memopt_error *error) {
    static struct mo_ledger_header header; /* a page is too much for some stacks */
    int r = open_shared(fd, error);
    if (r < 0)
        return r;
    memset(&header, 0, sizeof(header));
    memcpy(header.magic, MO_LEDGER_MAGIC, sizeof(header.magic));
    header.version = MO_LEDGER_VERSION;
    header.header_size = sizeof(header);
    header.binding = plan->binding;
    r = plan_areas(&header, plan, error);
    if (r < 0)
        return r;
    bool known, locked;
    r = take_place(fd, &base, &known, error);
    if (r < 0)
        return r;
    struct mo_ledger_header *map = map_place(fd, base, &locked, error);
    if (map == NULL)
        return -ENOMEM;
    header.locked = locked;
    describe_process(&header, known);
    describe_program(&header, argc, argv);
    memcpy(map, &header, sizeof(header));
    for (size_t i = 0; i < MO_AREAS; i++)
        atomic_store(&mappings[i], NULL);
    fold_slot = plan->fold;
    ledger = map;
    if (plan->state_count > 0) /* while the file is open */
        back_with(fd, MO_THREADS, MO_LEDGER_FIRST * header.areas[MO_THREADS].unit, true);
    return 0;
}

int mo_ledger_create(const struct mo_ledger_plan *plan, int argc, char *const *argv,
                     struct memopt_error *error) {
    if (strlen(plan->directory) >= sizeof(directory))
        return mo_fail(error, -ENAMETOOLONG, "the run directory's name is too long: '%s'",
                       plan->directory);
    strcpy(directory, plan->directory);
    char *end = path + sizeof(path);
    mo_text_put(mo_text_put(path, end, directory), end, "/" MO_LEDGERS_NAME);
    int fd = open_first(error), r = fd;
    if (fd >= 0) {
        r = create(fd, plan, argc, argv, error);
        mo_kernel_close(fd);
    }
    if (r < 0)
        leave_word(strerrordesc_np(-r));
    return r;
}

struct mo_ledger_header *mo_ledger(void) {
    return ledger;
}

void mo_ledger_set_allocator(const char *name, const char *version) {
    if (ledger == NULL)
        return;
    COPY(ledger->allocator, name);
    COPY(ledger->allocator_version, version);
}

void mo_ledger_prepare_shut_in(void) {
    enum { ROOM = 512 }; /* for the note below */
    if (ledger == NULL || atomic_load(&shut_in))
        return;
    const struct mo_area *threads = &ledger->areas[MO_THREADS];
    if (threads->unit > sizeof(struct mo_ledger_thread)) /* some for new threads */
        back(MO_THREADS, (MO_LEDGER_FIRST + MO_LEDGER_GROW) * threads->unit);
    back(MO_NOTES, atomic_load(&ledger->areas[MO_NOTES].used) + ROOM);
}

void mo_ledger_shut_in(void) {
    if (atomic_exchange(&shut_in, 1) != 0 || ledger == NULL)
        return;
    mo_ledger_note(MEMOPT_NOTE_INFO,
                   "this process has given up privileges for good (seccomp, no_new_privs): its "
                   "children and what its later threads do are not recorded");
}

/* ----------------------------------------------------------------- threads */

static int thread_is_gone(int64_t tid) {
    return mo_kernel(SYS_tgkill, mo_kernel_pid(), tid, 0, 0, 0, 0) == -ESRCH;
}

/* Slots that may be used. */
static uint64_t slots_backed(void) {
    const struct mo_area *threads = &ledger->areas[MO_THREADS];
    return threads->unit == 0 || atomic_load(&mappings[MO_THREADS]) == NULL
               ? 0
               : atomic_load(&threads->backed) / threads->unit;
}

static struct mo_ledger_thread *slot_at(uint64_t index) {
    char *slots = atomic_load(&mappings[MO_THREADS]);
    return (struct mo_ledger_thread *)(void *)(slots + index * ledger->areas[MO_THREADS].unit);
}

void *mo_ledger_slot(uint64_t index) {
    return ledger != NULL && index < slots_backed() ? slot_at(index) : NULL;
}

/* Takes back the slots of threads that are gone. A `tid` of the caller's own on
 * an ending slot is an old thread's: the kernel has given the number again. */
static void reclaim(int64_t own_tid) {
    if (atomic_exchange(&reclaiming, 1) != 0)
        return;
    for (uint64_t i = 1, count = slots_backed(); i < count; i++) {
        struct mo_ledger_thread *slot = slot_at(i);
        int64_t tid = atomic_load(&slot->tid);
        if (tid != 0 && slot->ending && (tid == own_tid || thread_is_gone(tid))) {
            fold_slot(slot_at(0), slot);
            slot->ending = 0;
            atomic_store(&slot->tid, 0);
        }
    }
    atomic_store(&reclaiming, 0);
}

/* Some threads share a slot. */
static void say_full(int code) {
    static char text[160];
    atomic_store(&ledger->shares_slots, 1);
    if (atomic_exchange(&said_full, 1) != 0)
        return;
    if (code == -ENOSPC)
        snprintf(text, sizeof(text), "more threads at once than the ledger has room for");
    else
        snprintf(text, sizeof(text), "no room for more threads in the ledger (%s)",
                 code == -EPERM ? "the process has shut itself in" : strerrordesc_np(-code));
    strcat(text, ": some share their counters, which may miss events and are left out");
    mo_ledger_note(MEMOPT_NOTE_WARNING, text);
}

static struct mo_ledger_thread *take_free_slot(int64_t tid) {
    for (uint64_t i = 1, count = slots_backed(); i < count; i++) {
        int64_t free_slot = 0;
        struct mo_ledger_thread *slot = slot_at(i);
        if (atomic_load_explicit(&slot->tid, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong(&slot->tid, &free_slot, tid)) {
            raise_used(MO_THREADS, (i + 1) * ledger->areas[MO_THREADS].unit);
            return slot;
        }
    }
    return NULL;
}

/* The calling thread's id without a system call: the C library writes it into a
 * recursive mutex. */
static int64_t tid_from_mutex(void) {
    pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    pthread_mutex_lock(&mutex);
    int64_t tid = mutex.__data.__owner;
    pthread_mutex_unlock(&mutex);
    return tid;
}

void *mo_ledger_attach(void) {
    if (ledger == NULL)
        return NULL;
    int64_t tid = tid_from_mutex();
    struct mo_ledger_thread *found = take_free_slot(tid);
    if (found == NULL && !atomic_load(&shut_in)) {
        reclaim(tid);
        found = take_free_slot(tid);
    }
    int code = atomic_load(&shut_in) ? -EPERM : 0;
    while (found == NULL && code == 0) {
        uint64_t have = slots_backed(),
                 want = have == 0 ? MO_LEDGER_FIRST : have + MO_LEDGER_GROW;
        code = back(MO_THREADS, want * ledger->areas[MO_THREADS].unit);
        if (code == -ENOSPC && slots_backed() == have) /* what is left may be fewer */
            code = back(MO_THREADS, (have + 1) * ledger->areas[MO_THREADS].unit);
        if (code == 0 || slots_backed() > have)
            found = take_free_slot(tid);
    }
    if (found == NULL) {
        uint64_t have = slots_backed();
        say_full(code);
        if (have > 1)
            found = slot_at(have - 1);
    }
    return found;
}

void mo_ledger_detach(void *slot) {
    if (ledger != NULL)
        ((struct mo_ledger_thread *)slot)->ending = 1;
}

/* --------------------------------------------------------- heaps and notes */

struct mo_ledger_heap *mo_ledger_heap_slot(const char *name, const char *allocator) {
    if (ledger == NULL)
        return NULL;
    uint64_t offset;
    if (claim(MO_HEAPS, sizeof(struct mo_ledger_heap), &offset) < 0)
        return NULL;
    struct mo_ledger_heap *heap =
        (struct mo_ledger_heap *)(void *)(atomic_load(&mappings[MO_HEAPS]) + offset);
    COPY(heap->name, name);
    COPY(heap->allocator, allocator);
    atomic_store(&heap->limit, UINT64_MAX);
    atomic_store(&heap->used, 1);
    return heap;
}

uint32_t mo_ledger_heap_number(const struct mo_ledger_heap *heap) {
    const char *first = atomic_load(&mappings[MO_HEAPS]);
    return (uint32_t)(((const char *)heap - first) / (ptrdiff_t)sizeof(*heap)) + 1;
}

/* `head`, `separator` and `text` one after the other. */
static int append(int level, const char *head, const char *separator, const char *text) {
    if (ledger == NULL)
        return -EINVAL;
    const char *parts[] = {head, separator, text};
    uint64_t need = strlen(head) + strlen(separator) + strlen(text) + 2, offset;
    int code = claim(MO_NOTES, need, &offset);
    if (code < 0)
        return code;
    char *note = atomic_load(&mappings[MO_NOTES]) + offset, *to = note + 1;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        to = stpcpy(to, parts[i]);
    note[0] = (char)level;
    return 0;
}

void mo_ledger_note(int level, const char *text) {
    append(level, "", "", text);
}

void mo_ledger_event(const char *kind, const char *text) {
    if (ledger == NULL)
        return;
    char time[32] = " ", *end = time + sizeof(time); /* " 123\n" */
    mo_text_put(mo_text_put_number(time + 1, end, mo_ledger_clock()), end, "\n");
    append(MO_LEDGER_EVENT, kind, time, text);
}

/* -------------------------------------------------------------------- fork */

/* Trackers know the addresses of their areas: the child's come there, empty. And where blocks
 * can't be had later, while other threads run, the first slots get theirs now. */
static int prepare_areas(int fd, struct mo_ledger_header *child, uint64_t place) {
    int code = 0;
    for (size_t i = MO_CORE_AREAS; i < MO_AREAS && code == 0; i++) {
        char *map = atomic_load(&mappings[i]);
        if (map != NULL)
            mo_kernel_map(map, ledger->areas[i].limit, PROT_NONE,
                          MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd,
                          place + ledger->areas[i].offset, &code);
    }
    struct mo_area *threads = &child->areas[MO_THREADS];
    uint64_t end = round_up(MO_LEDGER_FIRST * threads->unit, PAGE);
    if (code == 0 && no_fallocate && threads->unit > sizeof(struct mo_ledger_thread) &&
        allocate(fd, place + threads->offset, place + threads->offset + end, true) == 0)
        atomic_store(&threads->backed, end);
    return code;
}

/* As the parent's header, but for what is the child's; without the magic, so that it is no
 * record yet. */
static void fill_child(struct mo_ledger_header *child, bool known, bool locked) {
    enum { MAGIC = sizeof(child->magic) };
    memcpy((char *)child + MAGIC, (char *)ledger + MAGIC, sizeof(*child) - MAGIC);
    child->locked = locked;
    child->forked = 1;
    child->parent = base;
    atomic_store(&child->failures, 0);
    atomic_store(&child->shares_slots, 0);
    child->figures = (struct mo_ledger_figures){.sequence = 0};
    memset(&child->totals, 0, sizeof(child->totals));
    child->boot_bytes = 0;
    child->end_time = 0;
    for (size_t i = 0; i < MO_AREAS; i++) {
        atomic_store(&child->areas[i].backed, 0);
        atomic_store(&child->areas[i].used, 0);
        atomic_store(&child->areas[i].full_at, 0);
    }
    describe_process(child, known);
}

/* The child's own header, mapped anywhere; NULL, and *ret_code: there is none, which the
 * parent's says. */
static struct mo_ledger_header *begin_child(int *ret_code) {
    static struct memopt_error error; /* large, and nobody else is here */
    bool known, locked;
    uint64_t place = 0;
    struct mo_ledger_header *child = NULL;
    int fd = open_file(), code = fd;
    if (fd < 0)
        mo_fail(&error, fd, "cannot open the ledgers '%s': %s", path, strerrordesc_np(-fd));
    else if ((code = take_place(fd, &place, &known, &error)) == 0)
        child = map_place(fd, place, &locked, &error);
    if (child != NULL) {
        fill_child(child, known, locked);
        if ((code = prepare_areas(fd, child, place)) < 0) {
            mo_fail(&error, code, "cannot map the areas of the ledger: %s", strerrordesc_np(-code));
            child = NULL;
        }
    }
    if (fd >= 0)
        mo_kernel_close(fd);
    if (child == NULL) {
        *ret_code = error.code;
        mo_error_prefix(&error, "its child %d is not counted", mo_kernel_pid());
        if (append(MEMOPT_NOTE_WARNING, "", "", error.message) < 0)
            leave_word(strerrordesc_np(-error.code)); /* that needs no descriptor */
        return NULL;
    }
    base = place;
    return child;
}

/* The core's areas of the parent go. A thread that forked in a signal handler may be about to
 * store into what it had of them when the handler returns: that goes nowhere. */
static int leave_areas(void) {
    for (size_t i = 0; i < MO_CORE_AREAS; i++) {
        char *map = atomic_load(&mappings[i]);
        uint64_t backed = atomic_load(&ledger->areas[i].backed), limit = ledger->areas[i].limit;
        int code = 0;
        if (map == NULL)
            continue;
        if (backed > 0 && mo_kernel_map(map, backed, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
                                        0, &code) == NULL)
            return code;
        if (backed < limit)
            mo_kernel(SYS_munmap, (long)map + (long)backed, (long)(limit - backed), 0, 0, 0, 0);
        atomic_store(&mappings[i], NULL);
    }
    return 0;
}

int mo_ledger_after_fork_child(void) {
    if (ledger == NULL)
        return 0;
    int code = 0;
    struct mo_ledger_header *child = atomic_load(&shut_in) ? NULL : begin_child(&code);
    if (child == NULL)
        code = code < 0 ? code : -EPERM;
    else if ((code = leave_areas()) == 0 &&
             mo_kernel(SYS_mremap, (long)child, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                       (long)ledger, 0) != (long)ledger)
        code = -ENOMEM;
    if (code == 0) { /* now it is a record */
        uint64_t magic;
        memcpy(&magic, MO_LEDGER_MAGIC, sizeof(magic));
        __atomic_store_n((uint64_t *)(void *)ledger->magic, magic, __ATOMIC_RELEASE);
    } else {
        ledger = NULL;
    }
    atomic_store(&reclaiming, 0);
    atomic_store(&said_full, 0);
    return code;
}

/* --------------------------------------------------------------------- end */

void mo_ledger_set_figures(const struct memopt_figures *figures) {
    if (ledger == NULL)
        return;
    struct mo_ledger_figures *own = &ledger->figures;
    uint32_t sequence = atomic_load_explicit(&own->sequence, memory_order_relaxed);
    atomic_store_explicit(&own->sequence, sequence + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    own->live = figures->live;
    own->committed = figures->committed;
    own->resident = figures->resident;
    own->retained = figures->retained;
    own->peak = figures->peak;
    own->fragmentation = figures->fragmentation;
    atomic_store_explicit(&own->sequence, sequence + 2, memory_order_release);
}

/* CLOCK_REALTIME_COARSE is read from memory, whatever clock the machine has. */
void mo_ledger_end(int exit_status) {
    if (ledger == NULL)
        return;
    uint64_t now = clock_ns(CLOCK_REALTIME_COARSE);
    ledger->exit_status = exit_status;
    ledger->end_time = now > ledger->start_time ? now : ledger->start_time;
    atomic_store(&ledger->state, MO_LEDGER_EXITED);
}
