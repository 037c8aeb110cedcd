/*
 * writer.c - see writer.h.
 *
 *   layout and creation     plan_layout, take_place, mo_ledger_create
 *   threads                 mo_ledger_attach, reclaim
 *   heaps and notes
 *   fork                    snapshot before, a place of its own in the child
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

enum { PAGE = 4096, LINE = 64 };

static struct mo_ledger_header *ledger;
static size_t mapped; /* bytes */
static char directory[512];
static char path[600];                   /* of the run's file */
static struct mo_ledgers *shared;        /* its first page */
static MO_WRITTEN_AT_FORK uint64_t base; /* where in it the ledger that is mapped now begins */
static uint32_t most_slots;              /* for which there is room */
static struct {
    const struct memopt_tracker_ops *ops;
    void *self;
} links[MO_LEDGER_TRACKERS];
static MO_WRITTEN_AT_FORK _Atomic int reclaiming; /* 1: a thread is folding ended slots */
static _Atomic int said_full;

/* ----------------------------------------------------- layout and creation */

static uint64_t round_up(uint64_t value, uint64_t to) {
    return (value + to - 1) / to * to;
}

#define COPY(TO, FROM) mo_text_put((TO), (TO) + sizeof(TO), (FROM))

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t = {0, 0};
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *at(uint64_t offset) {
    return (char *)ledger + offset;
}

static struct mo_ledger_thread *slot_at(size_t index) {
    return at(ledger->threads_offset + index * ledger->thread_stride);
}

/* False: the run's file has no room for it between one record and the next. */
static bool plan_layout(struct mo_ledger_header *header, const struct mo_ledger_plan *plan) {
    memcpy(header->magic, MO_LEDGER_MAGIC, sizeof(header->magic));
    header->version = MO_LEDGER_VERSION;
    header->header_size = sizeof(*header);
    header->binding = plan->binding;
    header->notes_offset = PAGE;
    header->heaps_offset = header->notes_offset + MO_LEDGER_NOTES;
    header->process_offset =
        round_up(header->heaps_offset + MO_LEDGER_HEAPS * sizeof(struct mo_ledger_heap), LINE);
    uint64_t process = header->process_offset;
    uint64_t stride = sizeof(struct mo_ledger_thread);
    for (size_t i = 0; i < plan->tracker_count; i++) {
        const struct memopt_tracker_ops *ops = plan->trackers[i].ops;
        struct mo_ledger_tracker *tracker = &header->trackers[i];
        COPY(tracker->name, plan->trackers[i].name);
        tracker->state_version = ops->state_version;
        tracker->process_size = (uint32_t)ops->process_size;
        tracker->thread_size = (uint32_t)ops->thread_size;
        tracker->process_offset = process;
        tracker->thread_offset = (uint32_t)stride;
        process = round_up(process + ops->process_size, LINE);
        stride = round_up(stride + ops->thread_size, LINE);
    }
    header->tracker_count = (uint32_t)plan->tracker_count;
    header->threads_offset = round_up(process, PAGE);
    header->thread_stride = stride;
    /* Without trackers nobody attaches. */
    uint64_t least = plan->tracker_count > 0 ? MO_LEDGER_FIRST : 0;
    if (round_up(header->threads_offset + least * stride, PAGE) > shared->stride)
        return false;
    uint64_t most = (shared->stride - header->threads_offset) / stride;
    most_slots = least == 0 ? 0 : most < MO_LEDGER_THREADS ? (uint32_t)most : MO_LEDGER_THREADS;
    header->size = header->threads_offset + most_slots * stride;
    return true;
}

/* Parts that are empty at the start, and how far they have been backed. */
static MO_WRITTEN_AT_FORK _Atomic uint64_t notes_end, heaps_end;

static uint64_t page_of(uint64_t offset) {
    return offset & ~(uint64_t)(PAGE - 1);
}

static uint64_t grown_end(const struct mo_ledger_header *header, uint32_t slots) {
    return round_up(header->threads_offset + slots * header->thread_stride, PAGE);
}

static int is_nearly_full(int fd) {
    struct statfs space;
    if (mo_kernel(SYS_fstatfs, fd, (long)&space, 0, 0, 0, 0) != 0 || space.f_bsize <= 0)
        return 0;
    uint64_t size = (uint64_t)space.f_bsize;
    return space.f_bavail * size < mo_reserve(space.f_blocks * size);
}

/* 0 or an errno. `is_new`: nobody but the caller has the blocks, so that they may be written
 * instead, where the file system can't do better. */
static int allocate(int fd, uint64_t start, uint64_t end, bool is_new) {
    long code;
    do
        code = mo_kernel(SYS_fallocate, fd, 0, (long)start, (long)(end - start), 0, 0);
    while (code == -EINTR);
    if (code != -EOPNOTSUPP || !is_new)
        return (int)-code;
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

/* Takes the next place in the file and backs its first blocks. *ret_known: the process may
 * have a record already. */
static int take_place(int fd, const struct mo_ledger_header *header, uint32_t slots,
                      uint64_t *ret_base, bool *ret_known, struct memopt_error *error) {
    uint64_t index = atomic_fetch_add(&shared->count, 1);
    uint64_t start = page_of(header->process_offset), end = grown_end(header, slots);
    uint64_t place = (index + 1) * shared->stride;
    int code = 0;
    if (index >= shared->room || is_nearly_full(fd))
        code = ENOSPC;
    if (code == 0)
        code = allocate(fd, place, place + PAGE, true);
    if (code == 0 && header->tracker_count > 0)
        code = allocate(fd, place + start, place + end, true);
    if (code != 0) {
        atomic_fetch_add(&shared->failed, 1);
        return mo_fail(error, -code, "cannot allocate %llu bytes for the ledger in '%s': %s",
                       (unsigned long long)(PAGE + (header->tracker_count > 0 ? end - start : 0)),
                       path, strerrordesc_np(code));
    }
    unsigned bit = (unsigned)mo_kernel_pid() % MO_LEDGERS_PIDS;
    uint64_t mask = UINT64_C(1) << bit % 64;
    *ret_known = (atomic_fetch_or(&shared->pids[bit / 64], mask) & mask) != 0;
    *ret_base = place;
    return 0;
}

/* The record's mapping; see ledger.h for the lock. */
static struct mo_ledger_header *map_place(int fd, uint64_t place, bool *ret_locked,
                                          struct memopt_error *error) {
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)place, .l_len = 1};
    int code;
    *ret_locked = mo_kernel(SYS_fcntl, fd, F_OFD_SETLK, (long)&lock, 0, 0, 0) == 0;
    void *map = mo_kernel_map(NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, place, &code);
    if (map == NULL) {
        atomic_fetch_add(&shared->failed, 1);
        mo_fail(error, code, "cannot map the ledger: %s", strerrordesc_np(-code));
    }
    return map;
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

/* The slots of threads that have no blocks yet are out of bounds, so that mlockall() brings
 * none: they are many. */
static void guard_rest(void *map, const struct mo_ledger_header *header, uint32_t slots) {
    uint64_t end = grown_end(header, slots);
    if (header->tracker_count > 0 && end < mapped)
        mo_kernel(SYS_mprotect, (long)map + (long)end, (long)(mapped - end), PROT_NONE, 0, 0, 0);
    atomic_store(&notes_end, header->notes_offset);
    atomic_store(&heaps_end, header->heaps_offset);
}

static int create(int fd, const struct mo_ledger_plan *plan, int argc, char *const *argv,
                  struct memopt_error *error) {
    static struct mo_ledger_header header; /* a page is too much for some stacks */
    int r = open_shared(fd, error);
    if (r < 0)
        return r;
    if (!plan_layout(&header, plan))
        return mo_fail(error, -EFBIG,
                       "the trackers' states need more room than the run's file has for a process");
    uint32_t slots = plan->tracker_count > 0 ? MO_LEDGER_FIRST : 0;
    bool known, locked;
    r = take_place(fd, &header, slots, &base, &known, error);
    if (r < 0)
        return r;
    mapped = round_up(header.size, PAGE);
    struct mo_ledger_header *map = map_place(fd, base, &locked, error);
    if (map == NULL)
        return -ENOMEM;
    guard_rest(map, &header, slots);
    atomic_store(&header.threads_grown, slots);
    header.locked = locked;
    describe_process(&header, known);
    describe_program(&header, argc, argv);
    memcpy(map, &header, sizeof(header));
    for (size_t i = 0; i < plan->tracker_count; i++)
        links[i].ops = plan->trackers[i].ops;
    ledger = map;
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

void *mo_ledger_process_state(size_t tracker) {
    return at(ledger->trackers[tracker].process_offset);
}

size_t mo_ledger_thread_offset(size_t tracker) {
    return ledger->trackers[tracker].thread_offset;
}

void mo_ledger_set_self(size_t tracker, void *self) {
    links[tracker].self = self;
}

/* The process has shut itself in (seccomp): no system call is ours any more. */
static _Atomic int shut_in;

static int back_part(_Atomic uint64_t *so_far, uint64_t end);

static int grow(uint32_t from);

void mo_ledger_prepare_shut_in(void) {
    enum { ROOM = 512 }; /* for the note below */
    if (ledger == NULL || atomic_load(&shut_in))
        return;
    uint32_t grown = atomic_load(&ledger->threads_grown);
    if (ledger->tracker_count > 0 && grown <= MO_LEDGER_FIRST) /* some for new threads */
        (void)grow(grown);
    if (atomic_load(&ledger->notes_used) + ROOM <= MO_LEDGER_NOTES)
        back_part(&notes_end, ledger->notes_offset + atomic_load(&ledger->notes_used) + ROOM);
}

void mo_ledger_shut_in(void) {
    if (atomic_exchange(&shut_in, 1) != 0 || ledger == NULL)
        return;
    mo_ledger_note(MEMOPT_NOTE_INFO,
                   "this process has given up privileges for good (seccomp, no_new_privs): its "
                   "children and what its later threads do are not recorded");
}

/* ------------------------------------------------------------ more of the file */

/* Backs whole pages with blocks and lets them be used; 0 or an errno. The file is opened
 * again: a descriptor kept open would be one of the program's. Any thread, any time. */
static int back(uint64_t start, uint64_t end) {
    if (start >= end)
        return 0;
    if (atomic_load(&shut_in))
        return EPERM;
    int fd = open_file();
    int code = fd < 0 ? -fd : allocate(fd, base + start, base + end, false);
    if (fd >= 0)
        mo_kernel_close(fd);
    if (code == 0)
        code = (int)-mo_kernel(SYS_mprotect, (long)at(start), (long)(end - start),
                               PROT_READ | PROT_WRITE, 0, 0, 0);
    return code;
}

/* Backs a part up to `end`; false: there is no room. */
static int back_part(_Atomic uint64_t *so_far, uint64_t end) {
    uint64_t have = atomic_load(so_far);
    if (end <= have)
        return 1;
    end = round_up(end, PAGE);
    int code = back(page_of(have), end);
    while (code == 0 && have < end && !atomic_compare_exchange_weak(so_far, &have, end))
        ;
    return code == 0;
}

/* ----------------------------------------------------------------- threads */

static int thread_is_gone(int64_t tid) {
    return mo_kernel(SYS_tgkill, mo_kernel_pid(), tid, 0, 0, 0, 0) == -ESRCH;
}

/* Folds a slot into slot 0 and frees it. The caller has set `reclaiming`. */
static void fold(struct mo_ledger_thread *slot) {
    char *ended = (char *)slot_at(0);
    for (size_t i = 0; i < ledger->tracker_count; i++) {
        size_t offset = ledger->trackers[i].thread_offset;
        if (links[i].ops->thread_end == NULL)
            continue;
        links[i].ops->thread_end(links[i].self, ended + offset, (char *)slot + offset);
        memset((char *)slot + offset, 0, links[i].ops->thread_size);
    }
    slot->ending = 0;
    atomic_store(&slot->tid, 0);
}

/* Takes back the slots of threads that are gone. A `tid` of the caller's own on
 * an ending slot is an old thread's: the kernel has given the number again. */
static void reclaim(int64_t own_tid) {
    if (atomic_exchange(&reclaiming, 1) != 0)
        return;
    uint32_t grown = atomic_load(&ledger->threads_grown);
    for (uint32_t i = 1; i < grown; i++) {
        struct mo_ledger_thread *slot = slot_at(i);
        int64_t tid = atomic_load(&slot->tid);
        if (tid != 0 && slot->ending && (tid == own_tid || thread_is_gone(tid)))
            fold(slot);
    }
    atomic_store(&reclaiming, 0);
}

/* Backs the next slots with blocks. Several threads may do it at once. */
static int grow(uint32_t from) {
    if (from >= most_slots)
        return ENOSPC;
    uint32_t to = from + MO_LEDGER_GROW < most_slots ? from + MO_LEDGER_GROW : most_slots;
    int code = back(grown_end(ledger, from), grown_end(ledger, to));
    if (code == 0)
        atomic_compare_exchange_strong(&ledger->threads_grown, &from, to);
    return code;
}

/* Some threads share a slot. */
static void say_full(int code) {
    static char text[160];
    atomic_store(&ledger->shares_slots, 1);
    if (atomic_exchange(&said_full, 1) != 0)
        return;
    if (atomic_load(&ledger->threads_grown) >= most_slots)
        snprintf(text, sizeof(text), "more threads at once than the ledger has room for");
    else
        snprintf(text, sizeof(text), "no room for more threads in the ledger (%s)",
                 code == EPERM ? "the process has shut itself in" : strerrordesc_np(code));
    strcat(text, ": some share their counters, which may miss events and are left out");
    mo_ledger_note(MEMOPT_NOTE_WARNING, text);
}

static struct mo_ledger_thread *take_free_slot(uint32_t grown, int64_t tid) {
    for (uint32_t i = 1; i < grown; i++) {
        int64_t free_slot = 0;
        struct mo_ledger_thread *slot = slot_at(i);
        if (atomic_load_explicit(&slot->tid, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong(&slot->tid, &free_slot, tid))
            return slot;
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
    struct mo_ledger_thread *found = NULL;
    if (atomic_load(&shut_in)) {
        uint32_t grown = atomic_load(&ledger->threads_grown);
        found = take_free_slot(grown, tid_from_mutex());
        if (found == NULL) {
            say_full(EPERM);
            found = slot_at(grown - 1);
        }
        return found;
    }
    int64_t tid = tid_from_mutex();
    for (int reclaimed = 0; found == NULL;) {
        uint32_t grown = atomic_load(&ledger->threads_grown);
        found = take_free_slot(grown, tid);
        int code = 0;
        if (found == NULL && !reclaimed) {
            reclaim(tid);
            reclaimed = 1;
        } else if (found == NULL && (code = grow(grown)) != 0) {
            found = slot_at(grown - 1);
            say_full(code);
        }
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
    uint32_t index = atomic_fetch_add(&ledger->heaps_used, 1);
    if (index >= MO_LEDGER_HEAPS) {
        atomic_store(&ledger->heaps_used, MO_LEDGER_HEAPS);
        return NULL;
    }
    struct mo_ledger_heap *heap = (struct mo_ledger_heap *)at(ledger->heaps_offset) + index;
    if (!back_part(&heaps_end, ledger->heaps_offset + (index + 1) * sizeof(*heap)))
        return NULL; /* the reader passes over a slot that reads as zeros */
    COPY(heap->name, name);
    COPY(heap->allocator, allocator);
    atomic_store(&heap->limit, UINT64_MAX);
    atomic_store(&heap->used, 1);
    return heap;
}

/* `head` and `text` one after the other. */
static int append(int level, const char *head, const char *separator, const char *text) {
    if (ledger == NULL)
        return -EINVAL;
    const char *parts[] = {head, separator, text};
    uint64_t need = strlen(head) + strlen(separator) + strlen(text) + 2;
    uint64_t offset = atomic_load(&ledger->notes_used);
    do {
        if (need > MO_LEDGER_NOTES - offset ||
            !back_part(&notes_end, ledger->notes_offset + offset + need))
            return -ENOSPC;
    } while (!atomic_compare_exchange_weak(&ledger->notes_used, &offset, offset + need));
    char *note = at(ledger->notes_offset + offset), *to = note + 1;
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
    uint64_t since = clock_ns(CLOCK_BOOTTIME) - ledger->begun;
    mo_text_put(mo_text_put_number(time + 1, end, since), end, "\n");
    append(MO_LEDGER_EVENT, kind, time, text);
}

/* -------------------------------------------------------------------- fork */

/* What the child starts from is taken before the fork, as afterwards the parent runs on
 * and changes the shared pages: the heaps, the trackers' process state, the slots. */
static struct {
    char *memory;
    size_t size;
    uint32_t heaps, slots;
} snapshot MO_WRITTEN_AT_FORK;

static size_t heaps_size(void) {
    return snapshot.heaps * sizeof(struct mo_ledger_heap);
}
static size_t process_size(void) {
    return ledger->threads_offset - ledger->process_offset;
}

static uint32_t used_slots(void) {
    uint32_t slots = atomic_load(&ledger->threads_grown);
    while (slots > 1 && atomic_load(&slot_at(slots - 1)->tid) == 0)
        slots--;
    return slots;
}

/* The heaps whose slots are backed by blocks. */
static uint32_t used_heaps(void) {
    uint64_t used = atomic_load(&ledger->heaps_used),
             room =
                 (atomic_load(&heaps_end) - ledger->heaps_offset) / sizeof(struct mo_ledger_heap);
    return (uint32_t)(used < room ? used : room);
}

void mo_ledger_before_fork(void *own_slot) {
    (void)own_slot;
    if (ledger == NULL || atomic_load(&shut_in))
        return;
    uint32_t slots = ledger->tracker_count > 0 ? used_slots() : 0, heaps = used_heaps();
    size_t size = heaps * sizeof(struct mo_ledger_heap) +
                  (slots > 0 ? process_size() + slots * ledger->thread_stride : 0);
    snapshot.slots = snapshot.heaps = 0;
    if (snapshot.size < size) {
        size_t room = round_up(size, PAGE);
        void *fresh = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (snapshot.memory != NULL)
            munmap(snapshot.memory, snapshot.size);
        snapshot.memory = NULL;
        snapshot.size = 0;
        if (fresh == MAP_FAILED)
            return;
        snapshot.memory = fresh;
        snapshot.size = room;
    }
    snapshot.heaps = heaps;
    snapshot.slots = slots;
    if (heaps > 0)
        memcpy(snapshot.memory, at(ledger->heaps_offset), heaps_size());
    if (slots > 0) {
        memcpy(snapshot.memory + heaps_size(), at(ledger->process_offset), process_size());
        memcpy(snapshot.memory + heaps_size() + process_size(), slot_at(0),
               slots * ledger->thread_stride);
    }
}

/* The child's own ledger, mapped anywhere, its header as the child's; NULL: there is none,
 * which the parent's says. */
static struct mo_ledger_header *begin_child(void) {
    static struct memopt_error error; /* large, and nobody else is here */
    int fd = open_file();
    bool known, locked;
    uint64_t place;
    struct mo_ledger_header *child = NULL;
    if (fd < 0)
        mo_fail(&error, fd, "cannot open the ledgers '%s': %s", path, strerrordesc_np(-fd));
    else if (take_place(fd, ledger, atomic_load(&ledger->threads_grown), &place, &known, &error) ==
             0)
        child = map_place(fd, place, &locked, &error);
    if (fd >= 0)
        mo_kernel_close(fd);
    if (child == NULL) {
        mo_error_prefix(&error, "its child %d is not counted", mo_kernel_pid());
        if (append(MEMOPT_NOTE_WARNING, "", "", error.message) < 0)
            leave_word(strerrordesc_np(-error.code)); /* that needs no descriptor */
        return NULL;
    }
    /* the magic at last: until then it is no record, and nobody looks at `locked` */
    enum { MAGIC = sizeof(child->magic) };
    memcpy((char *)child + MAGIC, (char *)ledger + MAGIC, sizeof(*child) - MAGIC);
    child->locked = locked;
    atomic_store(&child->notes_used, 0);
    child->forked = 1;
    atomic_store(&child->failures, 0);
    atomic_store(&child->shares_slots, 0);
    child->figures = (struct mo_ledger_figures){.sequence = 0};
    child->end_time = 0;
    describe_process(child, known);
    uint64_t magic;
    memcpy(&magic, MO_LEDGER_MAGIC, sizeof(magic));
    __atomic_store_n((uint64_t *)(void *)child->magic, magic, __ATOMIC_RELEASE);
    base = place;
    return child;
}

/* Puts the child's own memory, a file's or else nobody's, where the ledger was. */
static int replace_mapping(void) {
    struct mo_ledger_header *child = begin_child();
    if (child != NULL) {
        long at = mo_kernel(SYS_mremap, (long)child, (long)mapped, (long)mapped,
                            MREMAP_MAYMOVE | MREMAP_FIXED, (long)ledger, 0);
        if (at != (long)ledger)
            return -ENOMEM;
        guard_rest(ledger, ledger, atomic_load(&ledger->threads_grown));
        return 0;
    }
    static struct mo_ledger_header header;
    memcpy(&header, ledger, sizeof(header));
    path[0] = '\0';
    if (mmap(ledger, mapped, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
        return -ENOMEM;
    atomic_store(&notes_end, UINT64_MAX);
    atomic_store(&heaps_end, header.process_offset);
    memcpy(ledger, &header, sizeof(header));
    atomic_store(&ledger->notes_used, 0);
    return 0;
}

int mo_ledger_after_fork_child(void *own_slot) {
    if (ledger == NULL)
        return 0;
    if (atomic_load(&shut_in)) {
        ledger = NULL;
        return -EPERM;
    }
    size_t own = own_slot == NULL
                     ? 0
                     : ((size_t)((char *)own_slot - (char *)slot_at(0))) / ledger->thread_stride;
    if (replace_mapping() < 0) {
        ledger = NULL;
        return -ENOMEM;
    }
    atomic_store(&reclaiming, 0);
    /* A heap keeps its slot in the child. */
    if (snapshot.heaps > 0) {
        if (!back_part(&heaps_end, ledger->heaps_offset + heaps_size()) &&
            mmap(at(ledger->heaps_offset), round_up(heaps_size(), PAGE), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
            ledger = NULL;
            return -ENOMEM;
        }
        memcpy(at(ledger->heaps_offset), snapshot.memory, heaps_size());
    }
    if (snapshot.slots == 0) {
        if (own != 0)
            atomic_store(&slot_at(own)->tid, mo_kernel(SYS_gettid, 0, 0, 0, 0, 0, 0));
        return 0;
    }
    memcpy(at(ledger->process_offset), snapshot.memory + heaps_size(), process_size());
    /* The trackers see the parent's threads, the child's own first, and leave in
     * the child's slot what it starts with. */
    static void *states[MO_LEDGER_THREADS];
    char *copies = snapshot.memory + heaps_size() + process_size();
    for (size_t i = 0; i < ledger->tracker_count; i++) {
        size_t offset = ledger->trackers[i].thread_offset;
        size_t count = 0;
        if (own != 0)
            states[count++] = copies + own * ledger->thread_stride + offset;
        for (size_t s = 0; s < snapshot.slots; s++)
            if (s != own)
                states[count++] = copies + s * ledger->thread_stride + offset;
        if (own == 0 || links[i].ops->fork_child == NULL)
            continue;
        links[i].ops->fork_child(links[i].self, mo_ledger_process_state(i), states, count);
    }
    for (size_t s = 0; s < snapshot.slots; s++)
        if (s == own || s == 0)
            memcpy(slot_at(s), copies + s * ledger->thread_stride, ledger->thread_stride);
    if (own != 0)
        atomic_store(&slot_at(own)->tid, mo_kernel(SYS_gettid, 0, 0, 0, 0, 0, 0));
    return 0;
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
