/*
 * mmap.c - the `mmap` allocator: every block is a mapping of its own.
 *
 * For few, large, long-lived blocks (tables, tensors, arenas of a program's
 * own) and for looking at a program page by page: a freed block is gone from
 * the address space at once, a realloc moves page tables and not bytes. Each
 * block costs a system call and at least one page, so it is slow and large for
 * programs of many small blocks.
 *
 * Where a block's size is: in a side table indexed by address, a two-level
 * radix tree over the address space whose leaves are mapped when first needed.
 * Nothing is inside the payload, which therefore begins on a page boundary, and
 * an overflow can't damage the bookkeeping. The default heap takes no lock:
 * look-up is two loads, a block's entry is claimed by an atomic exchange. Named
 * heaps keep their entries in a list (a mutex each), so destroy can unmap all.
 *
 * The kernel limits the number of mappings (vm.max_map_count). Neighbours merge,
 * so what counts is the holes. When unmapping would need one mapping too many
 * the kernel refuses; the pages are then given back by MADV_DONTNEED and the
 * address range is kept for the next block of that size.
 *
 * Order against other threads: an entry is cleared before its range is given
 * back and set after a range was got, as another thread can get the same range
 * in between.
 */
#define _GNU_SOURCE

#include "config.h"

#include "lib/atomic.h"

#include <memopt/plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { HUGE_NO, HUGE_MADVISE, HUGE_HUGETLB };
static const char *const huge_choices[] = {"no", "madvise", "hugetlb", NULL};

struct settings {
    int huge_pages;
    const char *numa;
    int populate;
    int lock;
};

/* One entry of the side table, for the page a block begins on. `size` is a
 * multiple of 4096, so its low bits are free for flags; 0: no block. */
enum { FLAG_HUGETLB = 1, FLAG_MASK = 0xfff };
struct heap;
struct entry {
    _Atomic size_t size;
    char *base;
    struct heap *heap;         /* NULL: the default heap */
    struct entry *prev, *next; /* in a named heap's list, or (next) in a kept list */
};

/* 4 KiB units whatever the page size is, 2^48 bytes of address space. */
enum { UNIT_BITS = 12, LEAF_BITS = 16, TOP_BITS = 20 };
enum { LEAF_COUNT = 1 << LEAF_BITS, TOP_COUNT = 1 << TOP_BITS };
struct leaf {
    struct leaf *next; /* all leaves, newest first */
    struct entry entries[LEAF_COUNT];
};
static _Atomic(struct leaf *) top[TOP_COUNT];
static _Atomic(struct leaf *) leaves;

struct counters {
    _Atomic uint64_t live, peak;
};

struct heap {
    pthread_mutex_t lock; /* guards the list */
    struct entry *first;
    struct counters counters;
    struct heap *next; /* all heaps, or all free ones */
    int used;
};

static struct {
    const struct memopt_host *host;
    size_t page, huge; /* bytes of a page; of a huge page */
    int huge_pages, populate, lock;
    int policy;              /* MPOL_…; -1: leave the program's */
    unsigned long nodes[16]; /* of `policy`: 1024 nodes, the kernel's own maximum */
    _Atomic int noted;       /* bits: what has been said once */
} state = {.policy = -1};
enum { NOTED_HUGETLB = 1, NOTED_THP = 2, NOTED_LOCK = 4, NOTED_NUMA = 8, NOTED_MAPS = 16 };
enum { NODE_MAX = 1024, NODE_BITS = 8 * sizeof(unsigned long) };

static struct counters total; /* all heaps */
static pthread_mutex_t heaps_lock = PTHREAD_MUTEX_INITIALIZER;
static struct heap *heaps; /* never shrinks: structs are used again */

/* Ranges that could not be unmapped: one list per number of pages, the last for
 * all larger ones. `kept_count` is read without the lock. */
enum { KEPT_CLASSES = 64 };
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry *kept[KEPT_CLASSES];
static _Atomic size_t kept_count;
static _Atomic uint64_t kept_bytes;

static void note_once(int bit, const char *text) {
    if ((atomic_fetch_or(&state.noted, bit) & bit) == 0)
        state.host->note(MEMOPT_NOTE_WARNING, "mmap: %s", text);
}

static _Noreturn void die(const char *operation, const void *p, const char *what) {
    state.host->note(MEMOPT_NOTE_ERROR, "mmap: %s(%p): %s", operation, p, what);
    abort();
}

/* ----------------------------------------------------------- the side table */

static struct entry *entry_find(const void *p) {
    uintptr_t unit = (uintptr_t)p >> UNIT_BITS;
    if (unit >> (LEAF_BITS + TOP_BITS) != 0)
        return NULL;
    struct leaf *leaf = atomic_load_explicit(&top[unit >> LEAF_BITS], memory_order_acquire);
    return leaf == NULL ? NULL : &leaf->entries[unit & (LEAF_COUNT - 1)];
}

/* As entry_find(), but makes the leaf. NULL: out of memory. */
static struct entry *entry_make(const void *p) {
    uintptr_t unit = (uintptr_t)p >> UNIT_BITS;
    if (unit >> (LEAF_BITS + TOP_BITS) != 0)
        return NULL;
    _Atomic(struct leaf *) *slot = &top[unit >> LEAF_BITS];
    struct leaf *leaf = atomic_load_explicit(slot, memory_order_acquire);
    if (leaf == NULL) {
        struct leaf *fresh = mmap(NULL, sizeof(*fresh), PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (fresh == MAP_FAILED)
            return NULL;
        if (atomic_compare_exchange_strong(slot, &leaf, fresh)) {
            leaf = fresh;
            fresh->next = atomic_load(&leaves);
            while (!atomic_compare_exchange_weak(&leaves, &fresh->next, fresh))
                ;
        } else {
            munmap(fresh, sizeof(*fresh)); /* another thread was first */
        }
    }
    return &leaf->entries[unit & (LEAF_COUNT - 1)];
}

/* The entry of a live block of `heap`, or the end of the program. */
static struct entry *entry_live(const char *operation, struct heap *heap, const void *p) {
    struct entry *entry = ((uintptr_t)p & (state.page - 1)) == 0 ? entry_find(p) : NULL;
    if (entry == NULL || entry->base != p || atomic_load(&entry->size) == 0)
        die(operation, p,
            entry != NULL && entry->base == p ? "the block was freed before (double free)"
                                              : "no block of this allocator begins there");
    if (entry->heap != heap)
        die(operation, p, "the block belongs to another heap");
    return entry;
}

static void counters_add(struct counters *counters, uint64_t bytes) {
    uint64_t live = atomic_fetch_add_explicit(&counters->live, bytes, memory_order_relaxed) + bytes;
    mo_raise(&counters->peak, live);
}

static void counters_subtract(struct counters *counters, uint64_t bytes) {
    atomic_fetch_sub_explicit(&counters->live, bytes, memory_order_relaxed);
}

/* In a named heap the list and `size` change together under the lock, so that
 * the child of a fork finds both or neither. */
static void link_block(struct entry *entry, struct heap *heap, void *base, size_t size_flags) {
    size_t bytes = size_flags & ~(size_t)FLAG_MASK;
    /* Whoever had the range before left with a release of this. */
    (void)atomic_load_explicit(&entry->size, memory_order_acquire);
    entry->base = base;
    entry->heap = heap;
    counters_add(&total, bytes);
    if (heap == NULL) {
        atomic_store_explicit(&entry->size, size_flags, memory_order_release);
        return;
    }
    counters_add(&heap->counters, bytes);
    pthread_mutex_lock(&heap->lock);
    entry->prev = NULL;
    entry->next = heap->first;
    if (heap->first != NULL)
        heap->first->prev = entry;
    heap->first = entry;
    atomic_store_explicit(&entry->size, size_flags, memory_order_release);
    pthread_mutex_unlock(&heap->lock);
}

/* Claims the block and takes it out of the books. Of two threads that free the
 * same block one ends the program. */
static size_t unlink_block(const char *operation, struct entry *entry) {
    struct heap *heap = entry->heap;
    if (heap != NULL)
        pthread_mutex_lock(&heap->lock);
    size_t size_flags;
    if (heap == NULL) {
        size_flags = atomic_exchange(&entry->size, 0);
    } else {
        size_flags = atomic_load_explicit(&entry->size, memory_order_relaxed);
        if (size_flags != 0) {
            if (entry->prev != NULL)
                entry->prev->next = entry->next;
            else
                heap->first = entry->next;
            if (entry->next != NULL)
                entry->next->prev = entry->prev;
        }
        atomic_store_explicit(&entry->size, 0, memory_order_release);
        pthread_mutex_unlock(&heap->lock);
    }
    if (size_flags == 0)
        die(operation, entry->base, "two threads free the same block (double free)");
    size_t bytes = size_flags & ~(size_t)FLAG_MASK;
    counters_subtract(&total, bytes);
    if (heap != NULL)
        counters_subtract(&heap->counters, bytes);
    return size_flags;
}

/* ------------------------------------------------------------------- ranges */

static size_t kept_class(size_t bytes) {
    size_t pages = bytes / state.page;
    return pages < KEPT_CLASSES ? pages : 0;
}

static void keep(char *base, size_t bytes) {
    struct entry *entry = entry_make(base);
    if (entry == NULL)
        return; /* lost address space; the pages went */
    pthread_mutex_lock(&kept_lock);
    entry->base = base;
    entry->prev = (struct entry *)(uintptr_t)bytes; /* `size` stays 0: it is no block */
    entry->next = kept[kept_class(bytes)];
    kept[kept_class(bytes)] = entry;
    atomic_fetch_add(&kept_count, 1);
    atomic_fetch_add(&kept_bytes, bytes);
    pthread_mutex_unlock(&kept_lock);
}

static char *unkeep(size_t bytes) {
    char *base = NULL;
    pthread_mutex_lock(&kept_lock);
    struct entry **link = &kept[kept_class(bytes)];
    while (*link != NULL && (uintptr_t)(*link)->prev != bytes)
        link = &(*link)->next;
    if (*link != NULL) {
        base = (*link)->base;
        *link = (*link)->next;
        atomic_fetch_sub(&kept_count, 1);
        atomic_fetch_sub(&kept_bytes, bytes);
    }
    pthread_mutex_unlock(&kept_lock);
    return base;
}

static void give_back(char *base, size_t size_flags) {
    size_t bytes = size_flags & ~(size_t)FLAG_MASK;
    if (munmap(base, bytes) == 0)
        return;
    note_once(NOTED_MAPS, "the kernel's limit of mappings is reached (vm.max_map_count): freed "
                          "address ranges are kept for reuse");
    munlock(base, bytes); /* locked pages can't be given back */
    if (madvise(base, bytes, MADV_DONTNEED) == 0 && (size_flags & FLAG_HUGETLB) == 0)
        keep(base, bytes);
}

/* Address space for `bytes` at a multiple of `alignment`, both multiples of the
 * page size. */
static char *map_aligned(size_t bytes, size_t alignment, int protection) {
    size_t whole = bytes + alignment - state.page;
    if (whole < bytes)
        return NULL;
    char *got = mmap(NULL, whole, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (got == MAP_FAILED)
        return NULL;
    char *base = (char *)(((uintptr_t)got + alignment - 1) & ~(uintptr_t)(alignment - 1));
    size_t before = (size_t)(base - got), after = whole - before - bytes;
    if ((after > 0 && munmap(base + bytes, after) != 0) ||
        (before > 0 && munmap(got, before) != 0)) {
        munmap(got, whole); /* no mapping left to cut with: the whole goes at once */
        return NULL;
    }
    return base;
}

/* What the options ask of pages from `base` on; never a reason to fail. */
static void prepare(char *base, size_t bytes, int transparent) {
    if (transparent && madvise(base, bytes, MADV_HUGEPAGE) != 0)
        note_once(NOTED_THP, "huge_pages: this kernel gives no transparent huge pages; "
                             "going on with small ones");
    if (state.policy >= 0) {
        int by_list = state.policy == MPOL_BIND || state.policy == MPOL_INTERLEAVE;
        if (syscall(SYS_mbind, base, bytes, state.policy, by_list ? state.nodes : NULL,
                    by_list ? NODE_MAX + 1 : 0, 0) != 0)
            note_once(NOTED_NUMA, "numa: the kernel refuses the memory policy; "
                                  "going on with the program's");
    }
    if (state.populate && madvise(base, bytes, MADV_POPULATE_WRITE) != 0 && errno == EINVAL)
        for (size_t i = 0; i < bytes; i += state.page) /* before Linux 5.14 */
            *(volatile char *)(base + i) = 0;
    if (state.lock && mlock(base, bytes) != 0)
        note_once(NOTED_LOCK, "lock: blocks can't be locked in memory (see ulimit -l); "
                              "going on unlocked");
}

static int wants_huge(size_t bytes) {
    return state.huge_pages != HUGE_NO && bytes >= state.huge;
}

static char *map_hugetlb(size_t size, size_t *ret_size_flags) {
    size_t bytes = (size + state.huge - 1) & ~(state.huge - 1);
    char *base =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    if (base == MAP_FAILED) {
        note_once(NOTED_HUGETLB, "huge_pages: the pool of huge pages is empty (see "
                                 "/proc/sys/vm/nr_hugepages); going on with transparent ones");
        return NULL;
    }
    prepare(base, bytes, 0);
    *ret_size_flags = bytes | FLAG_HUGETLB;
    return base;
}

/* ------------------------------------------------------------------- blocks */

static void *block_new(struct heap *heap, size_t size, size_t alignment) {
    if (size > PTRDIFF_MAX || alignment > PTRDIFF_MAX)
        return NULL;
    size_t bytes = size == 0 ? state.page : (size + state.page - 1) & ~(state.page - 1);
    size_t size_flags = bytes;
    int huge = wants_huge(bytes);
    char *base = NULL;
    if (alignment < state.page)
        alignment = state.page;
    if (huge && state.huge_pages == HUGE_HUGETLB && alignment <= state.huge)
        base = map_hugetlb(bytes, &size_flags);
    if (base == NULL) {
        if (huge && alignment < state.huge)
            alignment = state.huge;
        if (alignment == state.page && atomic_load_explicit(&kept_count, memory_order_relaxed) != 0)
            base = unkeep(bytes);
        if (base == NULL)
            base = map_aligned(bytes, alignment, PROT_READ | PROT_WRITE);
        if (base == NULL)
            return NULL;
        prepare(base, bytes, huge);
    }
    struct entry *entry = entry_make(base);
    if (entry == NULL) {
        munmap(base, size_flags & ~(size_t)FLAG_MASK);
        return NULL;
    }
    link_block(entry, heap, base, size_flags);
    return base;
}

static void block_free(struct heap *heap, void *p) {
    size_t size_flags = unlink_block("free", entry_live("free", heap, p));
    give_back(p, size_flags);
}

static size_t block_size(struct heap *heap, void *p) {
    return atomic_load(&entry_live("malloc_usable_size", heap, p)->size) & ~(size_t)FLAG_MASK;
}

/* Moves the page tables of a block, not its bytes. NULL: it can't be done, the
 * block is as it was. */
static void *block_remap(struct heap *heap, struct entry *entry, size_t old_bytes, size_t bytes) {
    char *base = entry->base;
    int huge = wants_huge(bytes);
    /* In place first: the address stays, and so does the entry. */
    if ((!huge || ((uintptr_t)base & (state.huge - 1)) == 0) &&
        mremap(base, old_bytes, bytes, 0) != MAP_FAILED) {
        unlink_block("realloc", entry);
        link_block(entry, heap, base, bytes);
        prepare(base + old_bytes, bytes - old_bytes, huge);
        return base;
    }
    char *target = map_aligned(bytes, huge ? state.huge : state.page, PROT_NONE);
    if (target == NULL)
        return NULL;
    struct entry *moved = entry_make(target);
    if (moved == NULL) {
        munmap(target, bytes);
        return NULL;
    }
    unlink_block("realloc", entry);
    if (mremap(base, old_bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target) == MAP_FAILED) {
        munmap(target, bytes);
        link_block(entry, heap, base, old_bytes);
        return NULL;
    }
    link_block(moved, heap, target, bytes);
    prepare(target + old_bytes, bytes - old_bytes, huge);
    return target;
}

static void *block_resize(struct heap *heap, void *p, size_t size) {
    struct entry *entry = entry_live("realloc", heap, p);
    size_t old_flags = atomic_load(&entry->size);
    size_t old_bytes = old_flags & ~(size_t)FLAG_MASK;
    if (size > PTRDIFF_MAX)
        return NULL;
    size_t unit = (old_flags & FLAG_HUGETLB) != 0 ? state.huge : state.page;
    size_t bytes = (size + unit - 1) & ~(unit - 1);
    if (bytes == old_bytes)
        return p;
    if (bytes < old_bytes) {
        /* The books first: once unmapped, the tail can be another thread's. */
        size_t kept_flags = bytes | (old_flags & FLAG_HUGETLB);
        unlink_block("realloc", entry);
        link_block(entry, heap, p, kept_flags);
        give_back((char *)p + bytes, (old_bytes - bytes) | (old_flags & FLAG_HUGETLB));
        return p;
    }
    if ((old_flags & FLAG_HUGETLB) == 0 &&
        !(state.huge_pages == HUGE_HUGETLB && wants_huge(bytes))) {
        void *moved = block_remap(heap, entry, old_bytes, bytes);
        if (moved != NULL)
            return moved;
    }
    void *copy = block_new(heap, size, state.page);
    if (copy == NULL)
        return NULL;
    memcpy(copy, p, old_bytes);
    block_free(heap, p);
    return copy;
}

/* -------------------------------------------------------------- named heaps */

static int heap_create(const struct memopt_host *host, const struct memopt_heap_params *params,
                       void **ret_heap, struct memopt_error *error) {
    (void)host;
    if (params->region != NULL)
        return state.host->fail(error, -ENOTSUP,
                                "heap '%s': the mmap allocator can't work in a given region; "
                                "use 'allocator = arena'",
                                params->name);
    pthread_mutex_lock(&heaps_lock);
    struct heap *heap = heaps;
    while (heap != NULL && heap->used)
        heap = heap->next;
    if (heap == NULL) {
        heap = state.host->alloc(sizeof(*heap));
        if (heap == NULL) {
            pthread_mutex_unlock(&heaps_lock);
            return state.host->fail(error, -ENOMEM, "heap '%s': out of memory", params->name);
        }
        pthread_mutex_init(&heap->lock, NULL);
        heap->next = heaps;
        heaps = heap;
    }
    heap->used = 1;
    heap->first = NULL;
    atomic_store(&heap->counters.live, 0);
    atomic_store(&heap->counters.peak, 0);
    pthread_mutex_unlock(&heaps_lock);
    *ret_heap = heap;
    return 0;
}

static void heap_destroy(void *opaque) {
    struct heap *heap = opaque;
    while (heap->first != NULL)
        block_free(heap, heap->first->base);
    pthread_mutex_lock(&heaps_lock);
    heap->used = 0;
    pthread_mutex_unlock(&heaps_lock);
}

static void *mmap_heap_malloc(void *heap, size_t size) {
    return block_new(heap, size, state.page);
}

static void *mmap_heap_calloc(void *heap, size_t count, size_t size) {
    return block_new(heap, count * size, state.page);
}

static void *mmap_heap_realloc(void *heap, void *p, size_t size) {
    return block_resize(heap, p, size);
}

static void *mmap_heap_aligned_alloc(void *heap, size_t alignment, size_t size) {
    return block_new(heap, size, alignment);
}

/* The kernel may refuse to unmap: errno is not for free to change. */
static void mmap_heap_free(void *heap, void *p) {
    int saved = errno;
    block_free(heap, p);
    errno = saved;
}

static size_t mmap_heap_usable_size(void *heap, void *p) {
    return block_size(heap, p);
}

MEMOPT_DEFAULT_HEAP(mmap, NULL);

/* ---------------------------------------------------------- figures and fork */

/* Bytes of the side table that are in RAM. */
static uint64_t table_bytes(void) {
    uint64_t bytes = 0;
    for (struct leaf *leaf = atomic_load(&leaves); leaf != NULL; leaf = leaf->next) {
        unsigned char present[sizeof(*leaf) / 4096 + 1];
        if (mincore(leaf, sizeof(*leaf), present) == 0)
            for (size_t i = 0; i < (sizeof(*leaf) + state.page - 1) / state.page; i++)
                bytes += (present[i] & 1) != 0 ? state.page : 0;
    }
    return bytes;
}

static int figures_of(struct counters *counters, uint64_t extra, struct memopt_figures *figures) {
    figures->live = atomic_load(&counters->live);
    figures->peak = atomic_load(&counters->peak);
    figures->committed = figures->live + extra;
    figures->resident = MEMOPT_UNKNOWN;
    figures->retained = 0;
    figures->fragmentation =
        figures->committed == 0 ? 0 : 1 - (double)figures->live / (double)figures->committed;
    return 0;
}

static int figures(struct memopt_figures *ret_figures) {
    figures_of(&total, table_bytes(), ret_figures);
    ret_figures->retained = atomic_load(&kept_bytes);
    return 0;
}

static int heap_figures(void *heap, struct memopt_figures *ret_figures) {
    return figures_of(&((struct heap *)heap)->counters, 0, ret_figures);
}

/* Only kept ranges are unused, and their pages went long ago; but the kernel
 * may let go of the ranges by now. */
static uint64_t purge(void) {
    struct entry *all = NULL;
    pthread_mutex_lock(&kept_lock);
    for (size_t i = 0; i < KEPT_CLASSES; i++)
        while (kept[i] != NULL) {
            struct entry *entry = kept[i];
            kept[i] = entry->next;
            entry->next = all;
            all = entry;
        }
    atomic_store(&kept_count, 0);
    atomic_store(&kept_bytes, 0);
    pthread_mutex_unlock(&kept_lock);
    while (all != NULL) {
        struct entry *next = all->next; /* before another thread gets the range */
        give_back(all->base, (size_t)(uintptr_t)all->prev);
        all = next;
    }
    return 0;
}

/* A program of one thread may fork in a signal handler, which may have interrupted
 * whoever holds a lock; and nobody else can hold one. glibc does the same. */
static int fork_locks;

static void before_fork(void) {
    fork_locks = !__libc_single_threaded;
    if (!fork_locks)
        return;
    pthread_mutex_lock(&heaps_lock);
    for (struct heap *heap = heaps; heap != NULL; heap = heap->next)
        pthread_mutex_lock(&heap->lock);
    pthread_mutex_lock(&kept_lock);
}

static void after_fork(void) {
    if (!fork_locks)
        return;
    pthread_mutex_unlock(&kept_lock);
    for (struct heap *heap = heaps; heap != NULL; heap = heap->next)
        pthread_mutex_unlock(&heap->lock);
    pthread_mutex_unlock(&heaps_lock);
}

/* --------------------------------------------------------------------- open */

/* A file of /sys or /proc, which say all in one read; "" if it isn't there. */
static void read_text(const char *path, char *buffer, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, buffer, size - 1);
    if (fd >= 0)
        close(fd);
    buffer[got < 0 ? 0 : got] = 0;
}

/* Reads "0,2-5" into a bit set: how many nodes, or -1: no such list. */
static int parse_nodes(const char *text, unsigned long *nodes) {
    int count = 0;
    for (;;) {
        char *end;
        while (*text == ' ')
            text++;
        if (*text < '0' || *text > '9')
            return -1;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (*end == '-') {
            text = end + 1;
            if (*text < '0' || *text > '9')
                return -1;
            last = strtoul(text, &end, 10);
        }
        if (first > last || last >= NODE_MAX)
            return -1;
        for (unsigned long node = first; node <= last; node++) {
            count += (nodes[node / NODE_BITS] >> (node % NODE_BITS) & 1) == 0;
            nodes[node / NODE_BITS] |= 1ul << (node % NODE_BITS);
        }
        while (*end == ' ' || *end == '\n')
            end++;
        if (*end == 0)
            return count;
        if (*end != ',')
            return -1;
        text = end + 1;
    }
}

static int open_numa(const struct memopt_host *host, const char *numa, struct memopt_error *error) {
    char text[4096];
    unsigned long online[NODE_MAX / NODE_BITS] = {0};
    read_text("/sys/devices/system/node/online", text, sizeof(text));
    int count = parse_nodes(text, online);
    if (count < 1) { /* a kernel without NUMA */
        online[0] = 1;
        count = 1;
        strcpy(text, "0");
    }
    text[strcspn(text, "\n")] = 0;
    int policy;
    if (strcmp(numa, "local") == 0) {
        policy = MPOL_LOCAL;
    } else if (strcmp(numa, "interleave") == 0) {
        policy = MPOL_INTERLEAVE;
        memcpy(state.nodes, online, sizeof(online));
    } else {
        policy = MPOL_BIND;
        if (parse_nodes(numa, state.nodes) < 0)
            return host->fail(error, -EINVAL,
                              "'numa' is '%s', not 'local', 'interleave' or a list of nodes "
                              "like '0,2-3'",
                              numa);
        for (unsigned node = 0; node < NODE_MAX; node++)
            if ((state.nodes[node / NODE_BITS] & ~online[node / NODE_BITS]) >> (node % NODE_BITS) &
                1)
                return host->fail(error, -ENODEV,
                                  "'numa' is '%s', but this machine has no node %u; "
                                  "it has: %s",
                                  numa, node, text);
    }
    if (count > 1) /* else all memory is on the one node anyway */
        state.policy = policy;
    return 0;
}

static int open_mmap(const struct memopt_host *host, const void *opaque,
                     struct memopt_malloc *ret_malloc, struct memopt_error *error) {
    const struct settings *settings = opaque;
    state.host = host;
    state.page = (size_t)sysconf(_SC_PAGESIZE);
    state.huge = 2u << 20;
    state.huge_pages = settings->huge_pages;
    state.populate = settings->populate;
    state.lock = settings->lock;
    if (settings->huge_pages != HUGE_NO) {
        char text[8192];
        unsigned long bytes;
        if (settings->huge_pages == HUGE_HUGETLB) {
            read_text("/proc/meminfo", text, sizeof(text));
            const char *line = strstr(text, "Hugepagesize:");
            bytes = line == NULL ? 0 : strtoul(line + strlen("Hugepagesize:"), NULL, 10) * 1024;
        } else {
            read_text("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", text, sizeof(text));
            bytes = strtoul(text, NULL, 10);
        }
        if (bytes > state.page && (bytes & (bytes - 1)) == 0)
            state.huge = bytes;
        read_text("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text));
        if (text[0] == 0 || strstr(text, "[never]") != NULL)
            note_once(NOTED_THP, "huge_pages: transparent huge pages are switched off (see "
                                 "/sys/kernel/mm/transparent_hugepage/enabled)");
    }
    if (settings->numa != NULL && settings->numa[0] != 0) {
        int result = open_numa(host, settings->numa, error);
        if (result < 0)
            return result;
    }
    mmap_default_heap(ret_malloc);
    return 0;
}

static const struct memopt_allocator_ops ops = {
    .size = sizeof(ops),
    .open = open_mmap,
    .figures = figures,
    .purge = purge,
    .heap_create = heap_create,
    .heap_destroy = heap_destroy,
    .heap_malloc = mmap_heap_malloc,
    .heap_calloc = mmap_heap_calloc,
    .heap_realloc = mmap_heap_realloc,
    .heap_aligned_alloc = mmap_heap_aligned_alloc,
    .heap_free = mmap_heap_free,
    .heap_usable_size = mmap_heap_usable_size,
    .heap_figures = heap_figures,
    .before_fork = before_fork,
    .after_fork_parent = after_fork,
    .after_fork_child = after_fork,
};

static const struct memopt_option options[] = {
    MEMOPT_OPT_ENUM(struct settings, huge_pages, "huge_pages", "no", huge_choices,
                    "back blocks of at least one huge page by huge pages: transparent ones, or "
                    "ones of the reserved pool (then transparent ones when the pool is empty)"),
    MEMOPT_OPT_STRING(struct settings, numa, "numa", NULL,
                      "where pages lie: 'local' (the node that first touches them), 'interleave' "
                      "or a list of nodes such as '0,2-3'; unset: the program's own policy"),
    MEMOPT_OPT_BOOL(struct settings, populate, "populate", "no",
                    "have all pages of a block in memory before it is handed out"),
    MEMOPT_OPT_BOOL(struct settings, lock, "lock", "no",
                    "lock blocks in memory; a child of fork has them unlocked"),
    MEMOPT_OPT_END,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_ALLOCATOR),
    .name = "mmap",
    .version = PACKAGE_VERSION,
    .summary = "every block a mapping of its own: huge pages, NUMA, realloc without copying",
    .options = options,
    .settings_size = sizeof(struct settings),
    .ops = &ops,
};
