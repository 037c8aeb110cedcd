/* reader.c - see reader.h. */
#include "config.h"

#include "core/ledger/reader.h"

#include "core/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
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
                          "creating it, or it is another file)");
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

static int read_all(int fd, unsigned char *bytes, size_t size, size_t *ret_read) {
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, bytes + done, size - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break; /* it shrank meanwhile */
        done += (size_t)n;
    }
    *ret_read = done;
    return 0;
}

/* The file, its size, and as much of its header as there is. Returns the
 * descriptor. */
static int open_file(int directory, const char *name, size_t *ret_size,
                     struct mo_ledger_header *ret_header, struct memopt_error *error) {
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return mo_fail(error, -errno, "'%s': %s", name, strerror(errno));
    int r = 0;
    struct stat st;
    size_t got;
    struct mo_ledger_header header = {0};
    if (fstat(fd, &st) < 0)
        r = mo_fail(error, -errno, "'%s': %s", name, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        r = mo_fail(error, -EBADMSG, "'%s': not a regular file", name);
    else if (st.st_uid != geteuid() && geteuid() != 0)
        r = mo_fail(error, -EPERM, "'%s': belongs to another user (%u)", name, st.st_uid);
    else if ((uint64_t)st.st_size > SIZE_MAXIMUM)
        r = mo_fail(error, -EFBIG, "'%s': larger than any ledger", name);
    else if ((r = read_all(fd, (unsigned char *)&header, sizeof(header), &got)) < 0)
        mo_fail(error, r, "'%s': %s", name, strerror(-r));
    else if ((r = check_kind(&header, got, error)) < 0)
        mo_error_prefix(error, "'%s'", name);
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret_size = (size_t)st.st_size;
    *ret_header = header;
    return fd;
}

int mo_ledger_peek(int directory, const char *name, struct mo_ledger_header *ret_header,
                   struct memopt_error *error) {
    size_t size;
    mo_auto_close int fd = open_file(directory, name, &size, ret_header, error);
    if (fd < 0)
        return fd;
    end_strings(ret_header);
    return 0;
}

int mo_ledger_open(int directory, const char *name, struct mo_ledger_copy *ret_ledger,
                   struct memopt_error *error) {
    size_t size, got = 0;
    struct mo_ledger_header head;
    mo_auto_close int fd = open_file(directory, name, &size, &head, error);
    if (fd < 0)
        return fd;
    /* The thread slots that were never used are holes at the end of the file:
     * they are left out. */
    uint64_t stride = head.thread_stride;
    uint64_t grown = atomic_load_explicit(&head.threads_grown, memory_order_relaxed);
    if (head.threads_offset < size && stride > 0 && stride < size && grown <= MO_LEDGER_THREADS &&
        grown * stride < size - head.threads_offset)
        size = (size_t)(head.threads_offset + grown * stride);

    unsigned char *bytes = aligned_alloc(ALIGN, (size + ALIGN) & ~(size_t)(ALIGN - 1));
    if (bytes == NULL)
        return mo_fail(error, -ENOMEM, "'%s': out of memory", name);
    int r = read_all(fd, bytes, size, &got);
    if (r < 0)
        mo_fail(error, r, "'%s': %s", name, strerror(-r));
    else if ((r = mo_ledger_parse(bytes, got, ret_ledger, error)) < 0)
        mo_error_prefix(error, "'%s'", name);
    if (r < 0)
        free(bytes);
    return r;
}

void mo_ledger_release(struct mo_ledger_copy *ledger) {
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
