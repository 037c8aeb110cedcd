/* reader.c - see reader.h. */
#include "config.h"

#include "core/ledger/reader.h"

#include "core/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALIGN = 64 };
/* No ledger is larger: 8 trackers with a megabyte a process, 4,096 threads with
 * 64 KiB each. */
#define SIZE_MAXIMUM ((uint64_t)512 << 20)
static int bad(struct memopt_error *error, const char *what) {
    return mo_fail(error, -EBADMSG, "not a usable ledger: %s", what);
}

/* Is [offset, offset + length) within `size`? */
static int within(uint64_t offset, uint64_t length, uint64_t size) {
    return offset <= size && length <= size - offset;
}

/* Ends a string that may not be. */
#define END(FIELD) ((FIELD)[sizeof(FIELD) - 1] = '\0')

static void end_strings(struct mo_ledger_header *h) {
    END(h->exe);
    END(h->command);
    END(h->allocator);
    END(h->allocator_version);
    END(h->name);
    for (size_t i = 0; i < MO_LEDGER_TRACKERS; i++)
        END(h->trackers[i].name);
}

static int check_trackers(const struct mo_ledger_header *h, uint64_t size,
                          struct memopt_error *error) {
    if (h->tracker_count > MO_LEDGER_TRACKERS)
        return bad(error, "too many trackers");
    for (uint32_t i = 0; i < h->tracker_count; i++) {
        const struct mo_ledger_tracker *t = &h->trackers[i];
        if (t->process_offset % ALIGN != 0 || t->thread_offset % ALIGN != 0)
            return bad(error, "a tracker's state is not aligned");
        if (t->process_offset < h->process_offset ||
            !within(t->process_offset, t->process_size, size))
            return bad(error, "a tracker's state is outside the file");
        if (t->thread_offset < sizeof(struct mo_ledger_thread) ||
            !within(t->thread_offset, t->thread_size, h->thread_stride))
            return bad(error, "a tracker's state is outside a thread's slot");
    }
    return 0;
}

/* Is this the header of a ledger that we know, of a file that has `size` bytes? */
static int check_kind(const struct mo_ledger_header *h, size_t size, struct memopt_error *error) {
    if (size < sizeof(*h))
        return bad(error, "shorter than its header");
    if (memcmp(h->magic, MO_LEDGER_MAGIC, sizeof(h->magic)) != 0)
        return bad(error, "it does not begin with the magic of one (the program died while "
                          "beginning it)");
    if (h->version != MO_LEDGER_VERSION)
        return mo_fail(error, -EPROTONOSUPPORT,
                       "written in ledger version %u, this memopt reads version %u: use the "
                       "libmemopt-preload.so that belongs to this memopt",
                       h->version, MO_LEDGER_VERSION);
    if (h->header_size != sizeof(*h))
        return bad(error, "its header has another size");
    return 0;
}

int mo_ledger_parse(unsigned char *bytes, size_t size, struct mo_ledger_copy *ret_ledger,
                    struct memopt_error *error) {
    struct mo_ledger_copy ledger = {.bytes = bytes, .size = size};
    struct mo_ledger_header *h = &ledger.header;
    if (size >= sizeof(*h))
        memcpy(h, bytes, sizeof(*h));
    int r = check_kind(h, size, error);
    if (r < 0)
        return r;
    end_strings(h);
    if (h->heaps_offset % _Alignof(struct mo_ledger_heap) != 0 || h->threads_offset % ALIGN != 0 ||
        h->thread_stride % ALIGN != 0)
        return bad(error, "a section is not aligned");
    if (!within(h->notes_offset, MO_LEDGER_NOTES, size) ||
        !within(h->heaps_offset, MO_LEDGER_HEAPS * sizeof(struct mo_ledger_heap), size) ||
        h->process_offset > size || h->threads_offset > size)
        return bad(error, "a section is outside the file");
    if (h->thread_stride < sizeof(struct mo_ledger_thread))
        return bad(error, "its thread slots are too small");
    r = check_trackers(h, size, error);
    if (r < 0)
        return r;

    uint32_t grown = atomic_load_explicit(&h->threads_grown, memory_order_relaxed);
    uint64_t there = (size - h->threads_offset) / h->thread_stride;
    ledger.thread_count = grown;
    if (ledger.thread_count > MO_LEDGER_THREADS)
        ledger.thread_count = MO_LEDGER_THREADS;
    if (ledger.thread_count > there)
        ledger.thread_count = (size_t)there;
    ledger.heap_count = MO_LEDGER_HEAPS;
    *ret_ledger = ledger;
    return 0;
}

/* ------------------------------------------------------------ a run's file */

/* The largest size that is taken; 0: none is. No limit of memopt's own is reached, which
 * would send it a signal. */
static uint64_t make_large(int fd) {
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    getrlimit(RLIMIT_FSIZE, &limit);
    for (uint64_t size = UINT64_C(1) << 62; size >= 2 * MO_LEDGERS_STRIDE_MIN; size /= 2)
        if (size <= limit.rlim_cur && ftruncate(fd, (off_t)size) == 0)
            return size;
    return 0;
}

int mo_ledgers_make(int directory, struct memopt_error *error) {
    enum { RECORDS = 1 << 17 }; /* for fewer the stride is not made larger */
    static struct mo_ledgers shared = {.magic = MO_LEDGERS_MAGIC, .version = MO_LEDGER_VERSION};
    mo_auto_close int fd = openat(directory, MO_LEDGERS_NAME,
                                  O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    uint64_t size = 0;
    if (fd < 0 || fchmod(fd, 0600) != 0 || (size = make_large(fd)) == 0)
        return mo_fail(error, fd >= 0 && size == 0 ? -EFBIG : -errno, "'%s': %s", MO_LEDGERS_NAME,
                       strerror(fd >= 0 && size == 0 ? EFBIG : errno));
    shared.stride = size / RECORDS / MO_LEDGERS_PAGE * MO_LEDGERS_PAGE;
    if (shared.stride > MO_LEDGERS_STRIDE_MAX)
        shared.stride = MO_LEDGERS_STRIDE_MAX;
    if (shared.stride < MO_LEDGERS_STRIDE_MIN)
        shared.stride = MO_LEDGERS_STRIDE_MIN;
    shared.room = size / shared.stride - 1;
    ssize_t written = pwrite(fd, &shared, sizeof(shared), 0);
    int code = written == (ssize_t)sizeof(shared) ? 0 : written < 0 ? errno : ENOSPC;
    if (code == 0) /* the whole page, which others write to */
        code = posix_fallocate(fd, 0, MO_LEDGERS_PAGE);
    return code == 0 ? 0 : mo_fail(error, -code, "'%s': %s", MO_LEDGERS_NAME, strerror(code));
}

static int read_all(int fd, uint64_t place, unsigned char *bytes, size_t size) {
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, bytes + done, size - done, (off_t)(place + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EBADMSG; /* it shrank meanwhile */
        done += (size_t)n;
    }
    return 0;
}

/* Checks that the descriptor is of what mo_ledgers_make() made. */
static int check_file(struct mo_ledgers_file *file, struct memopt_error *error) {
    struct stat st;
    if (fstat(file->fd, &st) < 0)
        return mo_fail(error, -errno, "'%s': %s", MO_LEDGERS_NAME, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return mo_fail(error, -EBADMSG, "'%s': not a regular file", MO_LEDGERS_NAME);
    if (st.st_uid != geteuid() && geteuid() != 0)
        return mo_fail(error, -EPERM, "'%s': belongs to another user (%u)", MO_LEDGERS_NAME,
                       st.st_uid);
    if (st.st_size < MO_LEDGERS_PAGE)
        return mo_fail(error, -EBADMSG, "'%s': shorter than its first page", MO_LEDGERS_NAME);
    /* not mapped: a program may cut it off */
    struct mo_ledgers head;
    int r = read_all(file->fd, 0, (unsigned char *)&head, sizeof(head));
    if (r < 0)
        return mo_fail(error, r, "'%s': %s", MO_LEDGERS_NAME, strerror(-r));
    if (memcmp(head.magic, MO_LEDGERS_MAGIC, sizeof(head.magic)) != 0)
        return mo_fail(error, -EBADMSG, "'%s': does not begin with the magic of one",
                       MO_LEDGERS_NAME);
    if (head.version != MO_LEDGER_VERSION)
        return mo_fail(error, -EPROTONOSUPPORT,
                       "'%s': written in version %u, this memopt reads version %u: use the "
                       "libmemopt-preload.so that belongs to this memopt",
                       MO_LEDGERS_NAME, head.version, MO_LEDGER_VERSION);
    if (head.stride < MO_LEDGERS_STRIDE_MIN || head.stride % MO_LEDGERS_PAGE != 0 ||
        head.stride > MO_LEDGERS_STRIDE_MAX)
        return mo_fail(error, -EBADMSG, "'%s': its records have an impossible size",
                       MO_LEDGERS_NAME);
    file->size = (uint64_t)st.st_size;
    file->stride = head.stride;
    return 0;
}

int mo_ledgers_open(int directory, struct mo_ledgers_file *ret_file, struct memopt_error *error) {
    struct mo_ledgers_file file = MO_LEDGERS_FILE_NONE;
    file.fd =
        openat(directory, MO_LEDGERS_NAME, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (file.fd < 0)
        return mo_fail(error, -errno, "'%s': %s", MO_LEDGERS_NAME, strerror(errno));
    int r = check_file(&file, error);
    if (r < 0) {
        mo_ledgers_close(&file);
        return r;
    }
    uint64_t failed;
    mo_ledgers_counts(&file, &failed);
    /* tried where nothing is */
    file.gives_back = fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)(file.size - MO_LEDGERS_PAGE), MO_LEDGERS_PAGE) == 0;
    *ret_file = file;
    return 0;
}

void mo_ledgers_close(struct mo_ledgers_file *file) {
    if (file->fd >= 0)
        close(file->fd);
    *file = (struct mo_ledgers_file)MO_LEDGERS_FILE_NONE;
}

void mo_ledgers_counts(struct mo_ledgers_file *file, uint64_t *ret_failed) {
    struct mo_ledgers head;
    file->taken = *ret_failed = 0;
    if (read_all(file->fd, 0, (unsigned char *)&head, sizeof(head)) < 0)
        return;
    file->taken = atomic_load_explicit(&head.count, memory_order_relaxed);
    *ret_failed = atomic_load_explicit(&head.failed, memory_order_relaxed);
}

/* Holes are passed over. Where the file system does not know them, everything up to the
 * file's end would be data: hence the count as well. */
uint64_t mo_ledgers_next(const struct mo_ledgers_file *file, uint64_t place) {
    uint64_t index = place < file->stride ? 1 : (place - 1) / file->stride + 1;
    if (index > file->taken || index >= file->size / file->stride)
        return UINT64_MAX;
    off_t data = lseek(file->fd, (off_t)(index * file->stride), SEEK_DATA);
    uint64_t found = data < 0 ? UINT64_MAX : (uint64_t)data / file->stride;
    return found > file->taken ? UINT64_MAX : found * file->stride;
}

/* Only what has been written: whatever a record says of its size, no more is read of it than
 * its writer has room for. The rest of `bytes` stays zero. */
static int read_written(int fd, uint64_t place, unsigned char *bytes, size_t size) {
    for (uint64_t at = 0; at < size;) {
        off_t data = lseek(fd, (off_t)(place + at), SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? 0 : -errno;
        uint64_t begin = (uint64_t)data - place;
        off_t hole = lseek(fd, data, SEEK_HOLE);
        uint64_t end = hole < 0 || (uint64_t)hole - place > size ? size : (uint64_t)hole - place;
        if (begin >= size)
            return 0;
        int r = read_all(fd, place + begin, bytes + begin, (size_t)(end - begin));
        if (r < 0)
            return r;
        at = end;
    }
    return 0;
}

/* How much of the record is used: the thread slots that never were are holes at its end,
 * and are left out. */
static size_t used_size(const struct mo_ledger_header *head, uint64_t stride) {
    uint64_t size = head->size < stride ? head->size : stride, slot = head->thread_stride;
    uint64_t grown = atomic_load_explicit(&head->threads_grown, memory_order_relaxed);
    if (head->threads_offset < size && slot > 0 && slot < size && grown <= MO_LEDGER_THREADS &&
        grown * slot < size - head->threads_offset)
        size = head->threads_offset + grown * slot;
    return (size_t)size;
}

/* Many: zeros that become memory where they are written to. Few: of malloc's, as most records
 * are, of which there may be thousands a second. */
static unsigned char *zeros(size_t size, int *ret_is_mapped) {
    enum { FEW = 96 << 10 };
    *ret_is_mapped = size > FEW;
    if (*ret_is_mapped) {
        void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return map == MAP_FAILED ? NULL : map;
    }
    size = (size + ALIGN) & ~(size_t)(ALIGN - 1);
    unsigned char *bytes = aligned_alloc(ALIGN, size);
    return bytes == NULL ? NULL : memset(bytes, 0, size);
}

int mo_ledgers_read(const struct mo_ledgers_file *file, uint64_t place,
                    struct mo_ledger_copy *ret_ledger, struct memopt_error *error) {
    struct mo_ledger_header head;
    int r = read_all(file->fd, place, (unsigned char *)&head, sizeof(head));
    if (r < 0)
        mo_fail(error, r, "%s", strerror(-r));
    else
        r = check_kind(&head, sizeof(head), error);
    size_t size = r < 0 ? 0 : used_size(&head, file->stride);
    if (r == 0 && size > SIZE_MAXIMUM)
        r = bad(error, "larger than any ledger");
    if (r == 0) {
        int is_mapped;
        unsigned char *bytes = zeros(size, &is_mapped);
        if (bytes == NULL)
            return mo_fail(error, -ENOMEM, "out of memory");
        r = read_written(file->fd, place, bytes, size);
        if (r < 0)
            mo_fail(error, r, "%s", strerror(-r));
        else
            r = mo_ledger_parse(bytes, size, ret_ledger, error);
        if (r == 0)
            ret_ledger->mapped = is_mapped;
        else if (is_mapped)
            munmap(bytes, size);
        else
            free(bytes);
    }
    if (r < 0)
        mo_error_prefix(error, "record %llu", (unsigned long long)(place / file->stride));
    return r;
}

/* The header first: that it says `locked` shows that there was a lock. */
int mo_ledgers_is_over(const struct mo_ledgers_file *file, uint64_t place) {
    struct mo_ledger_header head;
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)place, .l_len = 1};
    return file->gives_back &&
           read_all(file->fd, place, (unsigned char *)&head, sizeof(head)) == 0 &&
           check_kind(&head, sizeof(head), NULL) == 0 && head.locked != 0 &&
           fcntl(file->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

void mo_ledgers_drop(const struct mo_ledgers_file *file, uint64_t place) {
    (void)fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)place,
                    (off_t)file->stride);
}

void mo_ledger_release(struct mo_ledger_copy *ledger) {
    if (ledger->mapped)
        munmap(ledger->bytes, ledger->size);
    else
        free(ledger->bytes);
    *ledger = (struct mo_ledger_copy){0};
}

int mo_ledger_heap_at(const struct mo_ledger_copy *ledger, size_t i,
                      struct mo_ledger_heap *ret_heap) {
    struct mo_ledger_heap heap;
    memcpy(&heap, ledger->bytes + ledger->header.heaps_offset + i * sizeof(heap), sizeof(heap));
    uint32_t used = atomic_load_explicit(&heap.used, memory_order_relaxed);
    if (used != 1 && used != 2)
        return -ENOENT;
    END(heap.name);
    END(heap.allocator);
    memcpy(ret_heap, &heap, sizeof(heap));
    return 0;
}

/* The length of the kind that `text` begins with, or 0: there is none. After it may
 * come a time; `ret_head` is the length of the line. */
static size_t read_kind(const char *text, uint64_t *ret_time, size_t *ret_head) {
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-"), head = length;
    uint64_t time = UINT64_MAX;
    if (text[head] == ' ' && text[head + 1] != '\n') {
        time = 0;
        for (head++; text[head] >= '0' && text[head] <= '9'; head++)
            if (__builtin_mul_overflow(time, 10, &time) ||
                __builtin_add_overflow(time, (uint64_t)(text[head] - '0'), &time))
                return 0;
    }
    if (length == 0 || length >= MO_LEDGER_KIND || text[head] != '\n')
        return 0;
    *ret_time = time;
    *ret_head = head + 1;
    return length;
}

const char *mo_ledger_note_next(const struct mo_ledger_copy *ledger, size_t *cursor, int *ret_level,
                                char ret_kind[MO_LEDGER_KIND], uint64_t *ret_time) {
    char *notes = (char *)ledger->bytes + ledger->header.notes_offset;
    size_t used = MO_LEDGER_NOTES;
    uint64_t claimed = atomic_load_explicit(&ledger->header.notes_used, memory_order_relaxed);
    if (claimed < used)
        used = (size_t)claimed;
    size_t at = *cursor;
    /* Room that was taken but not yet written, when the program was killed,
     * holds zeros. */
    while (at < used && notes[at] == '\0')
        at++;
    if (used == 0 || at >= used - 1)
        return NULL;
    notes[used - 1] = '\0';
    int level = notes[at++];
    *ret_level = level >= MEMOPT_NOTE_INFO && level <= MEMOPT_NOTE_ERROR ? level : MEMOPT_NOTE_INFO;
    *cursor = at + strlen(notes + at);
    *ret_time = UINT64_MAX;
    size_t head = 0;
    size_t length = level == MO_LEDGER_EVENT ? read_kind(notes + at, ret_time, &head) : 0;
    memcpy(ret_kind, notes + at, length);
    ret_kind[length] = '\0';
    if (length > 0) {
        *ret_level = MEMOPT_NOTE_ERROR;
        at += head;
    }
    return notes + at;
}

static const void *section_thread(const struct memopt_ledger_section *public, size_t i,
                                  int64_t *ret_tid) {
    const struct mo_ledger_section *section = public->opaque;
    const struct mo_ledger_copy *ledger = section->ledger;
    if (i >= ledger->thread_count)
        return NULL;
    const unsigned char *slot =
        ledger->bytes + ledger->header.threads_offset + i * ledger->header.thread_stride;
    int64_t tid;
    memcpy(&tid, slot, sizeof(tid));
    if (i == 0)
        tid = 0; /* all that have ended */
    else if (tid == 0)
        return NULL; /* free */
    *ret_tid = tid;
    return slot + section->thread_offset;
}

void mo_ledger_section_at(const struct mo_ledger_copy *ledger, size_t i,
                          struct mo_ledger_section *ret_section) {
    const struct mo_ledger_tracker *tracker = &ledger->header.trackers[i];
    *ret_section = (struct mo_ledger_section){
        .public =
            {
                .size = sizeof(struct memopt_ledger_section),
                .process = ledger->bytes + tracker->process_offset,
                .process_size = tracker->process_size,
                .thread_size = tracker->thread_size,
                .thread_count = ledger->thread_count,
                .thread = section_thread,
                .opaque = ret_section,
            },
        .ledger = ledger,
        .thread_offset = tracker->thread_offset,
    };
}
