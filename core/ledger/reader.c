/* reader.c - see reader.h. */
#include "config.h"

#include "core/ledger/reader.h"

#include "core/base/error.h"

#include <memopt/show.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALIGN = 64 };
/* What is used of a record may be no more: it is read into memory. */
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
    for (size_t i = 0; i < MO_AREAS; i++)
        END(h->areas[i].name);
}

static int is_there(const struct mo_area *area) {
    return area->name[0] != '\0';
}

/* Entries that are none are zeros from here on. A tracker's area has its room last: without it
 * the entry was being made. */
static void forget_entries(struct mo_ledger_header *h) {
    for (size_t i = MO_CORE_AREAS; i < MO_AREAS; i++) {
        struct mo_area *area = &h->areas[i];
        if (!is_there(area) || (area->limit == 0 && !(area->flags & MO_AREA_IN_SLOT)))
            memset(area, 0, sizeof(*area));
    }
}

static int overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size) {
    return a < b + b_size && b < a + a_size;
}

static int bad_area(const struct mo_area *area, struct memopt_error *error, const char *what) {
    char name[sizeof(area->name)];
    memopt_show(name, sizeof(name), area->name, 0);
    return mo_fail(error, -EBADMSG, "not a usable ledger: its area '%s' %s", name, what);
}

/* `size`: of the record. What is used is cut to what can be. */
static int check_area(struct mo_area *area, uint64_t size, struct memopt_error *error) {
    if (area->offset % MO_LEDGERS_PAGE != 0 || area->limit % MO_LEDGERS_PAGE != 0)
        return bad_area(area, error, "is not aligned");
    if (area->offset < MO_LEDGERS_PAGE || !within(area->offset, area->limit, size))
        return bad_area(area, error, "is outside the record");
    if (area->unit == 0)
        return bad_area(area, error, "has elements of no bytes");
    uint64_t backed = atomic_load_explicit(&area->backed, memory_order_relaxed),
             used = atomic_load_explicit(&area->used, memory_order_relaxed);
    uint64_t most = backed < area->limit ? backed : area->limit;
    atomic_store_explicit(&area->used, used < most ? used : most, memory_order_relaxed);
    return 0;
}

static int check_state(const struct mo_area *state, const struct mo_area *threads,
                       struct memopt_error *error) {
    if (state->offset % ALIGN != 0)
        return bad_area(state, error, "is not aligned");
    if (state->offset < sizeof(struct mo_ledger_thread) ||
        !within(state->offset, state->unit, threads->unit))
        return bad_area(state, error, "is outside a thread's slot");
    return 0;
}

static int check_core_area(const struct mo_area *area, const char *name, size_t unit,
                           struct memopt_error *error) {
    if (strcmp(area->name, name) != 0 || area->flags != 0)
        return bad(error, "its directory does not begin with the core's areas");
    if (area->unit < unit || (unit > 1 && area->unit % 8 != 0))
        return bad_area(area, error, "has elements of another size");
    return 0;
}

static int check_directory(struct mo_ledger_header *h, uint64_t size, struct memopt_error *error) {
    struct mo_area *areas = h->areas;
    int r = check_core_area(&areas[MO_NOTES], MO_AREA_NOTES, 1, error);
    if (r == 0)
        r = check_core_area(&areas[MO_HEAPS], MO_AREA_HEAPS, sizeof(struct mo_ledger_heap), error);
    if (r == 0)
        r = check_core_area(&areas[MO_THREADS], MO_AREA_THREADS, sizeof(struct mo_ledger_thread),
                            error);
    if (r == 0 && areas[MO_THREADS].unit % ALIGN != 0)
        r = bad_area(&areas[MO_THREADS], error, "has elements that are not aligned");
    for (size_t i = 0; i < MO_AREAS && r == 0; i++) {
        if (!is_there(&areas[i]))
            continue;
        uint32_t in_slot = areas[i].flags & MO_AREA_IN_SLOT;
        r = in_slot ? check_state(&areas[i], &areas[MO_THREADS], error)
                    : check_area(&areas[i], size, error);
        for (size_t k = 0; k < i && r == 0; k++) {
            if (!is_there(&areas[k]) || (areas[k].flags & MO_AREA_IN_SLOT) != in_slot)
                continue;
            if (strcmp(areas[i].name, areas[k].name) == 0)
                r = bad_area(&areas[i], error, "is there twice");
            else if (in_slot ? overlap(areas[i].offset, areas[i].unit, areas[k].offset,
                                       areas[k].unit)
                             : overlap(areas[i].offset, areas[i].limit, areas[k].offset,
                                       areas[k].limit))
                r = bad_area(&areas[i], error, "overlaps another");
        }
    }
    return r;
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

/* Where the bytes of a record are: at most `size` from `offset` on, as many as there are. */
struct source {
    int (*read)(const struct source *source, uint64_t offset, unsigned char *bytes, size_t size);
    const struct mo_ledgers_file *file;
    uint64_t place;
    const unsigned char *image;
    size_t image_size;
};

/* The header is in `ledger` already. */
static int read_areas(const struct source *source, uint64_t size, struct mo_ledger_copy *ledger,
                      struct memopt_error *error) {
    struct mo_ledger_header *h = &ledger->header;
    end_strings(h);
    forget_entries(h);
    int r = check_directory(h, size, error);
    uint64_t sum = 0;
    for (size_t i = 0; i < MO_AREAS && r == 0; i++) {
        const struct mo_area *area = &h->areas[i];
        uint64_t used = atomic_load_explicit(&area->used, memory_order_relaxed);
        if (!is_there(area) || area->flags & MO_AREA_IN_SLOT || used == 0)
            continue;
        sum += used;
        if (sum > SIZE_MAXIMUM)
            return bad(error, "larger than any ledger");
        unsigned char *bytes = zeros((size_t)used, &ledger->areas[i].mapped);
        if (bytes == NULL)
            return mo_fail(error, -ENOMEM, "out of memory");
        ledger->areas[i].bytes = bytes;
        ledger->areas[i].size = (size_t)used;
        r = source->read(source, area->offset, bytes, (size_t)used);
        if (r < 0)
            mo_fail(error, r, "%s", strerror(-r));
    }
    if (r < 0)
        return r;
    ledger->heap_count = ledger->areas[MO_HEAPS].size / h->areas[MO_HEAPS].unit;
    ledger->slot_size = h->areas[MO_THREADS].unit;
    ledger->thread_count = ledger->areas[MO_THREADS].size / ledger->slot_size;
    return 0;
}

static int read_image(const struct source *source, uint64_t offset, unsigned char *bytes,
                      size_t size) {
    if (offset < source->image_size)
        memcpy(bytes, source->image + offset,
               size < source->image_size - offset ? size : (size_t)(source->image_size - offset));
    return 0;
}

int mo_ledger_parse(const unsigned char *bytes, size_t size, struct mo_ledger_copy *ret_ledger,
                    struct memopt_error *error) {
    struct mo_ledger_copy ledger = {.heap_count = 0};
    struct source source = {.read = read_image, .image = bytes, .image_size = size};
    memcpy(&ledger.header, bytes, size < sizeof(ledger.header) ? size : sizeof(ledger.header));
    int r = check_kind(&ledger.header, size, error);
    if (r == 0)
        r = read_areas(&source, MO_LEDGERS_STRIDE_MAX, &ledger, error);
    if (r < 0)
        mo_ledger_release(&ledger);
    else
        *ret_ledger = ledger;
    return r;
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

static int read_record(const struct source *source, uint64_t offset, unsigned char *bytes,
                       size_t size) {
    return read_written(source->file->fd, source->place + offset, bytes, size);
}

int mo_ledgers_read(const struct mo_ledgers_file *file, uint64_t place,
                    struct mo_ledger_copy *ret_ledger, struct memopt_error *error) {
    struct mo_ledger_copy ledger = {.heap_count = 0};
    struct source source = {.read = read_record, .file = file, .place = place};
    int r = read_all(file->fd, place, (unsigned char *)&ledger.header, sizeof(ledger.header));
    if (r < 0)
        mo_fail(error, r, "%s", strerror(-r));
    else
        r = check_kind(&ledger.header, sizeof(ledger.header), error);
    if (r == 0)
        r = read_areas(&source, file->stride, &ledger, error);
    if (r < 0) {
        mo_ledger_release(&ledger);
        mo_error_prefix(error, "record %llu", (unsigned long long)(place / file->stride));
    } else {
        *ret_ledger = ledger;
    }
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
    for (size_t i = 0; i < MO_AREAS; i++)
        if (ledger->areas[i].mapped && ledger->areas[i].bytes != NULL)
            munmap(ledger->areas[i].bytes, ledger->areas[i].size);
        else
            free(ledger->areas[i].bytes);
    *ledger = (struct mo_ledger_copy){.heap_count = 0};
}

int mo_ledger_heap_at(const struct mo_ledger_copy *ledger, size_t i,
                      struct mo_ledger_heap *ret_heap) {
    struct mo_ledger_heap heap;
    memcpy(&heap, ledger->areas[MO_HEAPS].bytes + i * ledger->header.areas[MO_HEAPS].unit,
           sizeof(heap));
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
    char *notes = (char *)ledger->areas[MO_NOTES].bytes;
    size_t used = ledger->areas[MO_NOTES].size;
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

const unsigned char *mo_ledger_slot_at(const struct mo_ledger_copy *ledger, size_t i,
                                       int64_t *ret_tid) {
    if (i >= ledger->thread_count)
        return NULL;
    const unsigned char *slot = ledger->areas[MO_THREADS].bytes + i * ledger->slot_size;
    int64_t tid;
    memcpy(&tid, slot, sizeof(tid));
    if (i == 0)
        tid = 0; /* all that have ended */
    else if (tid == 0)
        return NULL; /* free */
    *ret_tid = tid;
    return slot;
}

const struct mo_area *mo_ledger_state(const struct mo_ledger_copy *ledger, const char *name) {
    for (size_t i = MO_CORE_AREAS; i < MO_AREAS; i++)
        if (ledger->header.areas[i].flags & MO_AREA_IN_SLOT &&
            strcmp(ledger->header.areas[i].name, name) == 0)
            return &ledger->header.areas[i];
    return NULL;
}

static const void *section_thread(const struct memopt_ledger_section *public, size_t i,
                                  int64_t *ret_tid) {
    const struct mo_ledger_section *section = public->opaque;
    const unsigned char *slot = mo_ledger_slot_at(section->ledger, i, ret_tid);
    return slot == NULL ? NULL : slot + section->state->offset;
}

static const void *section_area(const struct memopt_ledger_section *public, const char *name,
                                uint32_t version, uint32_t unit, size_t *ret_count) {
    const struct mo_ledger_section *section = public->opaque;
    size_t length = strlen(section->state->name);
    for (size_t i = MO_CORE_AREAS; i < MO_AREAS; i++) {
        const struct mo_area *area = &section->ledger->header.areas[i];
        if (area->flags & MO_AREA_IN_SLOT || area->version != version || area->unit != unit ||
            strncmp(area->name, section->state->name, length) != 0 || area->name[length] != '.' ||
            strcmp(area->name + length + 1, name) != 0)
            continue;
        *ret_count = section->ledger->areas[i].size / unit;
        return *ret_count == 0 ? NULL : section->ledger->areas[i].bytes;
    }
    *ret_count = 0;
    return NULL;
}

int mo_ledger_section_of(const struct mo_ledger_copy *ledger, const char *tracker,
                         struct mo_ledger_section *ret_section) {
    const struct mo_area *state = mo_ledger_state(ledger, tracker);
    if (state == NULL)
        return -ENOENT;
    *ret_section = (struct mo_ledger_section){
        .public =
            {
                .size = sizeof(struct memopt_ledger_section),
                .thread = section_thread,
                .thread_count = ledger->thread_count,
                .thread_size = state->unit,
                .area = section_area,
                .opaque = ret_section,
            },
        .ledger = ledger,
        .state = state,
    };
    return 0;
}
