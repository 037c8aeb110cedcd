/*
 * spill.c - see spill.h.
 *
 *   1. the file
 *   2. segments
 *   3. blocks
 *   4. beginning and ending
 *   5. fork
 */
#include "core/heap/spill.h"

#include "core/base/error.h"
#include "core/base/poison.h"
#include "core/runtime/fork.h"
#include "core/runtime/notes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
    PAGE = 4096, /* of blocks; mappings are aligned to the machine's */
    SHARED_SIZE = 4 * 1024 * 1024,
    OWN_SEGMENT = 1024 * 1024,
    USED = 1,
};

struct segment {
    char *base;
    size_t size;
    uint64_t offset;      /* in the file */
    struct segment *next; /* by offset */
    size_t meta_size;     /* of this struct's mapping */
    size_t live;          /* blocks */
    char *own;            /* the one block of a segment that has no runs */
    size_t own_size;
    size_t page_count;
    int lost;       /* in a child of fork: not to be touched, and so not to be taken from */
    size_t touched; /* pages from here on were never handed out: they are zero */
    /* At the first page of a run its pages << 1 | USED; elsewhere stale. */
    uint32_t runs[];
};

struct mo_spill {
    pthread_mutex_t lock;
    struct mo_heap_ops ops;
    const struct mo_heap_ops *raw;
    char directory[PATH_MAX];
    int fd;      /* -1: to be opened (in a child of fork) */
    int stale;   /* the file's freed space may hold old data: it could not be given back */
    int fork_fd; /* the child's file, between before_fork and after_fork; or -1 */
    uint64_t limit;
    _Atomic uint64_t bytes, blocks, spills;
    struct segment **segments; /* by address */
    size_t count, room;
    struct segment *by_offset;
    _Atomic uintptr_t low, high; /* all segments are within; equal: there are none */
};

static size_t page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Behind each block under a memory checker: poisoned, so that an overflow is
 * found. */
static size_t guard(void) {
    return mo_checked() ? PAGE : 0;
}

static size_t round_up(size_t size, size_t unit) {
    return (size + unit - 1) / unit * unit;
}

static void *map_anonymous(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* ------------------------------------------------------------- 1. the file */

/* -errno, or the descriptor of a file without a name. */
static int open_file(const char *directory) {
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    if (errno != EOPNOTSUPP && errno != EISDIR)
        return -errno;
    char path[PATH_MAX]; /* a file system without O_TMPFILE */
    if (snprintf(path, sizeof(path), "%s/memopt-spill-XXXXXX", directory) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    unlink(path);
    return fd;
}

static int is_in_memory(int fd) {
    struct statfs file_system;
    return fstatfs(fd, &file_system) == 0 &&
           (file_system.f_type == TMPFS_MAGIC || file_system.f_type == RAMFS_MAGIC);
}

/* Space for the range is there from now on, or the file is as it was. 0 or -1. */
static int allocate(int fd, uint64_t offset, size_t size) {
    /* over the limit the kernel would send SIGXFSZ */
    struct rlimit limit;
    if (offset > INT64_MAX - size ||
        (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
         offset + size > limit.rlim_cur))
        return -1;
    int code;
    do
        code = posix_fallocate(fd, (off_t)offset, (off_t)size);
    while (code == EINTR);
    return code == 0 ? 0 : -1;
}

/* Gives the range's space back to the disk, where the file system can. */
static void release(struct mo_spill *spill, uint64_t offset, size_t size) {
    /* else the range will be used again by this file, as it is */
    if (fallocate(spill->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                  (off_t)size) < 0)
        spill->stale = 1;
}

/* ------------------------------------------------------------- 2. segments */

/* The place in the array of the segment that begins at or before p, + 1; 0: none. */
static size_t place(const struct mo_spill *spill, const void *p) {
    size_t low = 0, high = spill->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (spill->segments[middle]->base <= (const char *)p)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct segment *segment_of(const struct mo_spill *spill, const void *p) {
    size_t at = place(spill, p);
    if (at == 0)
        return NULL;
    struct segment *segment = spill->segments[at - 1];
    return (size_t)((const char *)p - segment->base) < segment->size ? segment : NULL;
}

static void set_bounds(struct mo_spill *spill) {
    uintptr_t low = 0, high = 0;
    if (spill->count > 0) {
        const struct segment *last = spill->segments[spill->count - 1];
        low = (uintptr_t)spill->segments[0]->base;
        high = (uintptr_t)last->base + last->size;
    }
    atomic_store_explicit(&spill->low, low, memory_order_relaxed);
    atomic_store_explicit(&spill->high, high, memory_order_relaxed);
}

static int make_room(struct mo_spill *spill) {
    if (spill->count < spill->room)
        return 0;
    size_t room = spill->room == 0 ? PAGE / sizeof(struct segment *) : spill->room * 2;
    struct segment **larger = map_anonymous(room * sizeof(struct segment *));
    if (larger == NULL)
        return -1;
    if (spill->room > 0) {
        memcpy(larger, spill->segments, spill->count * sizeof(struct segment *));
        munmap(spill->segments, spill->room * sizeof(struct segment *));
    }
    spill->segments = larger;
    spill->room = room;
    return 0;
}

/* The link behind which a range of the file of that size is free. */
static struct segment **find_gap(struct mo_spill *spill, size_t size, uint64_t *ret_offset) {
    struct segment **link = &spill->by_offset;
    uint64_t offset = 0;
    while (*link != NULL && (*link)->offset - offset < size) {
        offset = (*link)->offset + (*link)->size;
        link = &(*link)->next;
    }
    *ret_offset = offset;
    return link;
}

static struct segment *add_segment(struct mo_spill *spill, size_t size, size_t page_count) {
    size_t meta_size =
        round_up(sizeof(struct segment) + page_count * sizeof(uint32_t), page_size());
    if (spill->fd < 0 && (spill->fd = open_file(spill->directory)) < 0)
        return NULL;
    if (make_room(spill) < 0)
        return NULL;
    struct segment *segment = map_anonymous(meta_size);
    if (segment == NULL)
        return NULL;
    uint64_t offset;
    struct segment **link = find_gap(spill, size, &offset);
    void *base = MAP_FAILED;
    if (allocate(spill->fd, offset, size) == 0) {
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, spill->fd, (off_t)offset);
        if (base == MAP_FAILED)
            release(spill, offset, size);
    }
    if (base == MAP_FAILED) {
        munmap(segment, meta_size);
        return NULL;
    }
    segment->base = base;
    segment->size = size;
    segment->offset = offset;
    segment->meta_size = meta_size;
    segment->page_count = page_count;
    segment->touched = spill->stale ? page_count : 0;
    segment->next = *link;
    *link = segment;
    size_t at = place(spill, base);
    memmove(&spill->segments[at + 1], &spill->segments[at],
            (spill->count - at) * sizeof(struct segment *));
    spill->segments[at] = segment;
    spill->count++;
    set_bounds(spill);
    mo_poison(base, size);
    return segment;
}

static void remove_segment(struct mo_spill *spill, struct segment *segment) {
    size_t at = place(spill, segment->base) - 1;
    memmove(&spill->segments[at], &spill->segments[at + 1],
            (spill->count - at - 1) * sizeof(struct segment *));
    spill->count--;
    set_bounds(spill);
    struct segment **link = &spill->by_offset;
    while (*link != segment)
        link = &(*link)->next;
    *link = segment->next;
    mo_unpoison(segment->base, segment->size);
    munmap(segment->base, segment->size);
    if (spill->fd >= 0)
        release(spill, segment->offset, segment->size);
    munmap(segment, segment->meta_size);
}

/* --------------------------------------------------------------- 3. blocks */

/* First fit; free neighbours on the way become one. */
static char *take_run(struct segment *segment, size_t pages) {
    uint32_t *runs = segment->runs;
    for (size_t i = 0; i < segment->page_count; i += runs[i] >> 1) {
        if (runs[i] & USED)
            continue;
        size_t length = runs[i] >> 1;
        while (i + length < segment->page_count && !(runs[i + length] & USED))
            length += runs[i + length] >> 1;
        runs[i] = (uint32_t)length << 1;
        if (length < pages)
            continue;
        if (length > pages)
            runs[i + pages] = (uint32_t)(length - pages) << 1;
        runs[i] = (uint32_t)pages << 1 | USED;
        return segment->base + i * PAGE;
    }
    return NULL;
}

static char *take_shared(struct mo_spill *spill, size_t size, struct segment **ret_segment) {
    size_t pages = (size + guard()) / PAGE;
    for (struct segment *segment = spill->by_offset; segment != NULL; segment = segment->next) {
        char *p = segment->page_count == 0 || segment->lost ? NULL : take_run(segment, pages);
        if (p != NULL) {
            *ret_segment = segment;
            return p;
        }
    }
    struct segment *segment = add_segment(spill, SHARED_SIZE, SHARED_SIZE / PAGE);
    if (segment == NULL) /* as little as will do */
        segment = add_segment(spill, round_up(pages * PAGE, page_size()), pages);
    if (segment == NULL)
        return NULL;
    segment->runs[0] = (uint32_t)segment->page_count << 1;
    *ret_segment = segment;
    return take_run(segment, pages);
}

static char *take_own(struct mo_spill *spill, size_t size, size_t alignment,
                      struct segment **ret_segment) {
    size_t page = page_size();
    size_t extra = (alignment > page ? alignment - page : 0) + guard();
    if (extra > PTRDIFF_MAX - size - page)
        return NULL;
    struct segment *segment = add_segment(spill, round_up(size + extra, page), 0);
    if (segment == NULL)
        return NULL;
    char *p = segment->base;
    if (alignment > page)
        p += ((uintptr_t)alignment - (uintptr_t)p % alignment) % alignment;
    segment->own = p;
    segment->own_size = size;
    *ret_segment = segment;
    return p;
}

/* The block is handed out; where it was used before, zeros are to be made. */
static void hand_out(struct mo_spill *spill, struct segment *segment, char *p, size_t size,
                     int zeroed) {
    size_t end = (size_t)(p - segment->base) / PAGE + size / PAGE;
    size_t dirty = spill->stale ? size : 0;
    if (segment->page_count > 0) {
        dirty = 0;
        size_t first = (size_t)(p - segment->base) / PAGE;
        if (segment->touched > first)
            dirty = (segment->touched < end ? segment->touched - first : size / PAGE) * PAGE;
        if (segment->touched < end)
            segment->touched = end;
    }
    mo_mempool_alloc(spill, p, size);
    if (zeroed) {
        mo_unpoison_defined(p, size);
        memset(p, 0, dirty);
    }
}

void *mo_spill_alloc(struct memopt_heap *heap, size_t size, size_t alignment, int zeroed) {
    struct mo_spill *spill = heap->spill;
    if (spill == NULL || size > PTRDIFF_MAX - PAGE)
        return NULL;
    size = size == 0 ? PAGE : round_up(size, PAGE);
    struct segment *segment = NULL;
    char *p = NULL;
    pthread_mutex_lock(&spill->lock);
    uint64_t bytes = atomic_load_explicit(&spill->bytes, memory_order_relaxed);
    if (bytes <= spill->limit && size <= spill->limit - bytes)
        p = size < OWN_SEGMENT && alignment <= PAGE ? take_shared(spill, size, &segment)
                                                    : take_own(spill, size, alignment, &segment);
    if (p != NULL) {
        hand_out(spill, segment, p, size, zeroed);
        segment->live++;
        atomic_fetch_add_explicit(&spill->bytes, size, memory_order_relaxed);
        atomic_fetch_add_explicit(&spill->blocks, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&spill->spills, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&spill->lock);
    return p;
}

static int is_outside(struct mo_spill *spill, const void *p) {
    uintptr_t low = atomic_load_explicit(&spill->low, memory_order_relaxed);
    uintptr_t high = atomic_load_explicit(&spill->high, memory_order_relaxed);
    return (uintptr_t)p < low || (uintptr_t)p >= high;
}

/* A live block's bytes; MO_HEAP_NOT_OURS: within a segment, but no block; 0: in no
 * segment. With the lock held. */
static size_t block_size(const struct segment *segment, const char *p) {
    if (segment == NULL)
        return 0;
    if (segment->page_count == 0)
        return p == segment->own ? segment->own_size : MO_HEAP_NOT_OURS;
    size_t at = (size_t)(p - segment->base);
    if (at % PAGE != 0)
        return MO_HEAP_NOT_OURS;
    /* runs[] is stale inside runs: go there from the beginning */
    size_t i = 0;
    while (i < at / PAGE)
        i += segment->runs[i] >> 1;
    uint32_t run = i == at / PAGE ? segment->runs[i] : 0;
    return run & USED ? (size_t)(run >> 1) * PAGE - guard() : MO_HEAP_NOT_OURS;
}

static size_t lookup(struct mo_spill *spill, void *p) {
    if (is_outside(spill, p))
        return 0;
    pthread_mutex_lock(&spill->lock);
    size_t size = block_size(segment_of(spill, p), p);
    pthread_mutex_unlock(&spill->lock);
    return size;
}

int mo_spill_owns(struct memopt_heap *heap, void *p) {
    size_t size = heap->spill == NULL ? 0 : lookup(heap->spill, p);
    return size != 0 && size != MO_HEAP_NOT_OURS;
}

int mo_spill_free(struct memopt_heap *heap, void *p) {
    struct mo_spill *spill = heap->spill;
    if (is_outside(spill, p))
        return 0;
    pthread_mutex_lock(&spill->lock);
    struct segment *segment = segment_of(spill, p);
    size_t size = block_size(segment, p);
    int ours = size != 0 && size != MO_HEAP_NOT_OURS;
    if (ours) {
        mo_mempool_free(spill, p, size);
        if (segment->page_count > 0)
            segment->runs[(size_t)((char *)p - segment->base) / PAGE] &= ~(uint32_t)USED;
        if (--segment->live == 0)
            remove_segment(spill, segment);
        atomic_fetch_sub_explicit(&spill->bytes, size, memory_order_relaxed);
        atomic_fetch_sub_explicit(&spill->blocks, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&spill->lock);
    return ours;
}

void mo_spill_stats(struct memopt_heap *heap, struct memopt_heap_statistics *stats) {
    struct mo_spill *spill = heap->spill;
    if (spill == NULL)
        return;
    stats->spilled_bytes = atomic_load_explicit(&spill->bytes, memory_order_relaxed);
    stats->spilled_blocks = atomic_load_explicit(&spill->blocks, memory_order_relaxed);
    stats->spills = atomic_load_explicit(&spill->spills, memory_order_relaxed);
}

/* ------------------------------------------------ 4. beginning and ending */

static size_t usable_size(struct memopt_heap *heap, void *p) {
    size_t size = lookup(heap->spill, p);
    return size != 0 ? size : heap->spill->raw->usable_size(heap, p);
}

static void destroy(struct memopt_heap *heap) {
    struct mo_spill *spill = heap->spill;
    spill->raw->destroy(heap);
    mo_mempool_destroy(spill);
    while (spill->count > 0)
        remove_segment(spill, spill->segments[spill->count - 1]);
    if (spill->room > 0)
        munmap(spill->segments, spill->room * sizeof(struct segment *));
    if (spill->fd >= 0)
        close(spill->fd);
    pthread_mutex_destroy(&spill->lock);
    munmap(spill, round_up(sizeof(*spill), page_size()));
    heap->spill = NULL;
}

static const struct mo_fork_hooks fork_hooks; /* in 5 */

int mo_spill_open(struct memopt_heap *heap, const char *directory, uint64_t limit,
                  struct memopt_error *error) {
    if (directory == NULL)
        return mo_fail(error, -EINVAL, "spill_dir is unset: name a directory on a disk");
    if (directory[0] != '/' || strlen(directory) >= sizeof(heap->spill->directory))
        return mo_fail(error, -EINVAL, "spill_dir is '%.200s', not an absolute path", directory);
    int code = mo_fork_register(&fork_hooks, error);
    if (code < 0)
        return code;
    int fd = open_file(directory);
    if (fd < 0)
        return mo_fail(error, fd, "can't make a file to spill to in '%s': %s", directory,
                       strerror(-fd));
    if (is_in_memory(fd))
        code = mo_fail(error, -ENOTSUP,
                       "spill_dir '%s' is in memory (tmpfs): spilling there would free nothing; "
                       "name a directory on a disk",
                       directory);
    struct mo_spill *spill = code < 0 ? NULL : map_anonymous(round_up(sizeof(*spill), page_size()));
    if (code == 0 && spill == NULL)
        code = mo_fail(error, -ENOMEM, "out of memory for what a heap spills");
    if (code < 0) {
        close(fd);
        return code;
    }
    pthread_mutex_init(&spill->lock, NULL);
    spill->fd = fd;
    spill->fork_fd = -1;
    spill->limit = limit;
    memcpy(spill->directory, directory, strlen(directory) + 1);
    mo_mempool_create(spill);
    spill->raw = heap->ops;
    spill->ops = *heap->ops;
    spill->ops.usable_size = usable_size;
    spill->ops.destroy = destroy;
    heap->ops = &spill->ops;
    heap->spill = spill;
    return 0;
}

/* ----------------------------------------------------------------- 5. fork */

/* Through memory, as a file system that shares extents would need new space at
 * the first write. */
static int copy_range(int from, int to, uint64_t offset, size_t size) {
    char buffer[32 * 1024];
    while (size > 0) {
        ssize_t n =
            pread(from, buffer, size < sizeof(buffer) ? size : sizeof(buffer), (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        for (ssize_t done = 0; done < n;) {
            ssize_t written = pwrite(to, buffer + done, (size_t)(n - done), (off_t)offset + done);
            if (written < 0 && errno == EINTR)
                continue;
            if (written <= 0)
                return -1;
            done += written;
        }
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static int copy_file(const struct mo_spill *spill) {
    int fd = open_file(spill->directory);
    if (fd < 0)
        return -1;
    for (const struct segment *s = spill->by_offset; s != NULL; s = s->next)
        if (allocate(fd, s->offset, s->size) < 0 ||
            copy_range(spill->fd, fd, s->offset, s->page_count == 0 ? s->size : s->touched * PAGE) <
                0) {
            close(fd);
            return -1;
        }
    return fd;
}

/* Locks, and copies the file for the child. */
static void before_fork_of(struct memopt_heap *heap) {
    struct mo_spill *spill = heap->spill;
    if (spill == NULL)
        return;
    int saved = errno;
    mo_fork_lock(&spill->lock);
    spill->fork_fd = spill->count == 0 ? -1 : copy_file(spill);
    errno = saved;
}

/* Its own file's pages take the place of the parent's, or none do. */
static void take_copy(struct memopt_heap *heap, struct mo_spill *spill) {
    int lost = 0;
    for (struct segment *s = spill->by_offset; s != NULL; s = s->next) {
        void *p = MAP_FAILED;
        if (spill->fork_fd >= 0)
            p = mmap(s->base, s->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                     spill->fork_fd, (off_t)s->offset);
        if (p == MAP_FAILED) {
            lost = s->lost = 1;
            p = mmap(s->base, s->size, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
        }
        if (p == MAP_FAILED) /* better no memory than the parent's */
            munmap(s->base, s->size);
    }
    if (lost) {
        char text[160];
        snprintf(text, sizeof(text),
                 "heap '%s': no room to copy its spilled blocks for a child of fork: it can't "
                 "touch them",
                 heap->name);
        mo_event("spill", text);
    }
}

static void after_fork_of(struct memopt_heap *heap, int in_child) {
    struct mo_spill *spill = heap->spill;
    if (spill == NULL)
        return;
    int saved = errno;
    if (in_child) {
        take_copy(heap, spill);
        if (spill->fd >= 0)
            close(spill->fd);
        spill->fd = spill->fork_fd;
    } else if (spill->fork_fd >= 0) {
        close(spill->fork_fd);
    }
    spill->fork_fd = -1;
    mo_fork_unlock(&spill->lock);
    errno = saved;
}

static void before_fork(void) {
    for (struct memopt_heap *heap = mo_heaps; heap != NULL; heap = heap->next)
        before_fork_of(heap);
}

static void after_fork(int in_child) {
    for (struct memopt_heap *heap = mo_heaps; heap != NULL; heap = heap->next)
        after_fork_of(heap, in_child);
}

static const struct mo_fork_hooks fork_hooks = {
    .rank = MO_FORK_SPILL, .before = before_fork, .after = after_fork};
