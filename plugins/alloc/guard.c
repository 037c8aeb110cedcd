/*
 * guard.c - the `guard` allocator: overflows and uses after free fault at once.
 *
 * Every block ends (or, with side = start, begins) against a page that can't be
 * accessed, and is made inaccessible when it is freed, so a wrong access faults
 * at the instruction that makes it; the handler (guard_signal.c) then says what
 * it was and shows the stacks of the access, the allocation and the free. For
 * finding bugs, not for speed: a block costs two or three system calls and at
 * least a page; a freed one costs address space and its entry only.
 *
 * Where blocks lie: one large reserved range is cut into spans of equal slots
 * (guard.h). A slot's pages are made writable for the block's life. The tables of
 * what is known of the blocks lie in the same range, far from the blocks, as a wild
 * write that hit them would go unseen:
 *
 *     base                                                        base + size
 *     | GAP | spans ->            at least GAP           <- tables | GAP |
 *
 * Nothing but the spans and the tables is accessible there. What does
 * not fault by itself, as it is not at a page's end, is filled with a pattern
 * and checked at free, or when the program exits: the bytes between a block's end and the guard
 * page when its size is no multiple of the alignment, some bytes before it, and the other side's
 * rest of the page.
 *
 * The kernel limits the number of mappings a process may have, and each guarded
 * block takes two. Three quarters of them are used for small and large blocks
 * alike, another eighth for large blocks only; the rest is the program's. Beyond
 * that, small blocks are soft (guard.h), which is said once. `sample_every` makes
 * most blocks soft from the start.
 *
 * What it can't see: wrong accesses that land inside another live block, and
 * those made by the kernel on the program's behalf (read(2) into a freed buffer
 * fails with EFAULT).
 */
#define _GNU_SOURCE

#include "config.h"

#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <unistd.h>

enum { SIDE_END, SIDE_START };
static const char *const side_choices[] = {"end", "start", NULL};

struct settings {
    int side;
    int64_t align;
    uint64_t quarantine;
    int64_t frames;
    int64_t sample_every;
    uint64_t max_size;
    int forms;
};

enum {
    CLASSES = 144, /* of guarded slots, in pages, and of soft ones, in SOFT_UNITs */
    SOFT_UNIT = 16,
    SOFT_MAX = 32 * 1024, /* larger blocks are always in page slots */
    LEAD_MAX = 64,        /* bytes before a guarded block that are checked */
    SOFT_LEAD = 16,
    SOFT_TAIL = 8,
    AROUND = 0xcb, /* the patterns */
    FREED = 0xdf,
};
#define UNIT ((size_t)1 << GUARD_UNIT_BITS)
#define GAP ((size_t)64 << 20) /* whole units */
#define RESERVE_MAX ((size_t)4 << 40)
#define RESERVE_MIN ((size_t)1 << 30)

struct guard guard;

struct guard_heap {
    struct guard_slot *first;
    uint64_t live, peak;
    struct guard_heap *next;
    int used;
};

static struct {
    int side;
    size_t align, quarantine_max, max_size;
    unsigned sample_every;
    long map_limit;          /* vm.max_map_count */
    long all_max, large_max; /* guarded blocks at once */
    _Atomic long guarded;    /* blocks that have mappings of their own now */
    _Atomic unsigned long calls, sampled;
    _Atomic int noted;
} state;
enum { NOTED_MAPS = 1, NOTED_PROTECT = 2, NOTED_FULL = 4 };

/* The lock guards all of this, every list, and `used` of spans. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    struct guard_slot *free;
    struct guard_span *span; /* where new slots come from */
} classes[2][CLASSES];       /* guarded, soft */
static size_t next_unit;
static char *tables, *tables_open; /* where they begin, and what of it is accessible */
static struct guard_slot *quarantine_first, *quarantine_last;
static size_t quarantine_bytes;
static uint32_t generation;      /* forks on the way to this process */
static struct guard_heap *heaps; /* never shrinks: structs are used again */
static struct {
    uint64_t live, peak, pages, soft, table;
} bytes; /* pages: writable for guarded blocks; soft: slots ever used; table: entries */

static void note_once(int bit, const char *text) {
    if ((atomic_fetch_or(&state.noted, bit) & bit) == 0)
        guard.host->note(MEMOPT_NOTE_WARNING, "guard: %s", text);
}

/* -------------------------------------------------------------------- slots */

/* Four classes for each power of two: 1 2 3 4 5 6 7 8 10 12 14 16 20 … */
static unsigned class_of(size_t n) {
    if (n <= 4)
        return (unsigned)n - 1;
    unsigned bits = 63u - (unsigned)__builtin_clzl(n - 1);
    return (bits - 2) * 4 + (unsigned)((n - 1) >> (bits - 2));
}

static size_t class_size(unsigned class) {
    return class < 4 ? class + 1 : ((size_t)(class % 4) + 5) << (class / 4 - 1);
}

int guard_owns(const void *p) {
    return (uintptr_t)p - (uintptr_t)guard.base < guard.size;
}

static struct guard_slot *slot_in(const struct guard_span *span, size_t index) {
    return (struct guard_slot *)(span->slots + index * guard.slot_stride);
}

static size_t slot_index(const struct guard_slot *slot) {
    return (size_t)((const char *)slot - slot->span->slots) / guard.slot_stride;
}

static char *slot_start(const struct guard_slot *slot) {
    return slot->span->start + slot_index(slot) * slot->span->slot_size;
}

struct guard_slot *guard_slot_at(const void *p) {
    if (!guard_owns(p))
        return NULL;
    size_t offset = (size_t)((const char *)p - guard.base);
    const struct guard_span *span =
        atomic_load_explicit(&guard.units[offset >> GUARD_UNIT_BITS], memory_order_acquire);
    if (span == NULL || (const char *)p < span->start)
        return NULL;
    size_t index = (size_t)((const char *)p - span->start) / span->slot_size;
    if (index >= __atomic_load_n(&span->used, __ATOMIC_ACQUIRE))
        return NULL;
    return slot_in(span, index);
}

struct guard_slot *guard_slot_beside(const struct guard_slot *slot, int step) {
    size_t index = slot_index(slot) + (size_t)step; /* wraps below 0 */
    return index < __atomic_load_n(&slot->span->used, __ATOMIC_ACQUIRE) ? slot_in(slot->span, index)
                                                                        : NULL;
}

/* Under the lock. Zeroed memory for ever, at a cache line's start, if at least GAP then
 * remains between it and `spans_end`; or NULL. */
static void *table_take(size_t size, const char *spans_end) {
    size_t room = (size_t)(tables - spans_end);
    size = (size + 63) & ~(size_t)63;
    if (room < GAP || size > room - GAP)
        return NULL;
    char *from = tables - size;
    char *open = (char *)((uintptr_t)from & ~(guard.page - 1));
    if (open < tables_open) {
        if (mprotect(open, (size_t)(tables_open - open), PROT_READ | PROT_WRITE) != 0)
            return NULL;
        tables_open = open;
    }
    return tables = from;
}

/* Under the lock. NULL: no address space or memory for the table. */
static struct guard_span *span_new(unsigned class, int soft) {
    size_t payload = class_size(class) * (soft ? (size_t)SOFT_UNIT : guard.page);
    size_t slot_size = soft ? payload : payload + guard.page;
    /* A guard page before the first slot too. */
    size_t whole = (guard.page + slot_size + UNIT - 1) & ~(UNIT - 1);
    if (whole / UNIT > guard.size / UNIT - next_unit)
        return NULL;
    char *base = guard.base + next_unit * UNIT, *start = base + guard.page;
    size_t count = (whole - guard.page) / slot_size;
    if (soft && mprotect(start, whole - guard.page, PROT_READ | PROT_WRITE) != 0)
        return NULL;
    size_t head = (sizeof(struct guard_span) + 63) & ~(size_t)63;
    struct guard_span *span = table_take(head + count * guard.slot_stride, base + whole);
    if (span == NULL)
        return NULL;
    span->slots = (char *)span + head;
    span->start = start;
    span->slot_size = slot_size;
    span->payload = payload;
    span->count = count;
    span->class = class;
    span->soft = soft;
    for (size_t i = 0; i < whole / UNIT; i++)
        atomic_store_explicit(&guard.units[next_unit + i], span, memory_order_release);
    next_unit += whole / UNIT;
    return span;
}

static struct guard_slot *slot_take(unsigned class, int soft) {
    pthread_mutex_lock(&lock);
    struct guard_slot *slot = classes[soft][class].free;
    if (slot != NULL) {
        classes[soft][class].free = slot->next;
        bytes.soft += slot->idle == GUARD_PURGED ? slot->span->slot_size : 0;
        slot->idle = GUARD_IN_USE;
    } else {
        struct guard_span *span = classes[soft][class].span;
        if (span == NULL || span->used == span->count)
            span = span_new(class, soft);
        if (span != NULL) {
            classes[soft][class].span = span;
            slot = slot_in(span, span->used);
            slot->span = span;
            slot->soft = (uint8_t)soft;
            __atomic_store_n(&span->used, span->used + 1, __ATOMIC_RELEASE);
            bytes.table += guard.slot_stride;
            bytes.soft += soft ? span->slot_size : 0;
        }
    }
    pthread_mutex_unlock(&lock);
    return slot;
}

/* Under the lock. */
static void slot_give(struct guard_slot *slot) {
    slot->next = classes[slot->soft][slot->span->class].free;
    classes[slot->soft][slot->span->class].free = slot;
    slot->idle = GUARD_IDLE;
}

/* ----------------------------------------------------------------- patterns */

/* What is checked around the block: from before it to `p`, from its end on. */
static void around(const struct guard_slot *slot, char **ret_from, char **ret_to) {
    char *start = slot_start(slot);
    if (slot->soft) {
        *ret_from = start;
        *ret_to = start + slot->span->slot_size;
        return;
    }
    uintptr_t mask = guard.page - 1;
    char *first_page = (char *)((uintptr_t)slot->p & ~mask);
    *ret_from = slot->p - first_page > LEAD_MAX ? slot->p - LEAD_MAX : first_page;
    *ret_to = (char *)(((uintptr_t)slot->p + slot->size + mask) & ~mask);
    if (slot->size == 0) /* it has no pages */
        *ret_from = *ret_to = slot->p;
}

static char *find_other(char *from, const char *to, int byte) {
    while (from < to && *from == (char)byte)
        from++;
    return from < to ? from : NULL;
}

static char *find_damage(const struct guard_slot *slot) {
    char *from, *to;
    around(slot, &from, &to);
    char *end = slot->p + slot->size, *where = find_other(end, to, AROUND);
    return where != NULL ? where : find_other(from, slot->p, AROUND);
}

static void check_around(const struct guard_slot *slot, const char *when) {
    const char *where = find_damage(slot);
    if (where != NULL)
        guard_report_damage(slot, where, when);
}

/* ------------------------------------------------------------------- blocks */

/* The pages of a guarded block: [p rounded down, p + size rounded up). */
static size_t pages_of(const char *p, size_t size, char **ret_from) {
    uintptr_t mask = guard.page - 1, from = (uintptr_t)p & ~mask;
    *ret_from = (char *)from;
    return size == 0 ? 0 : (((uintptr_t)p + size + mask) & ~mask) - from;
}

static struct guard_slot *new_guarded(size_t size, size_t alignment) {
    size_t room = (size + alignment - 1) & ~(alignment - 1);
    if (alignment > guard.page)
        room += alignment - guard.page;
    size_t pages = room == 0 ? 1 : (room + guard.page - 1) / guard.page;
    unsigned class = class_of(pages);
    struct guard_slot *slot = class < CLASSES ? slot_take(class, 0) : NULL;
    if (slot == NULL)
        return NULL;
    char *start = slot_start(slot), *from;
    uintptr_t mask = alignment - 1;
    slot->p = state.side == SIDE_START
                  ? (char *)(((uintptr_t)start + mask) & ~mask)
                  : (char *)(((uintptr_t)start + slot->span->payload - size) & ~mask);
    slot->size = size;
    size_t length = pages_of(slot->p, size, &from);
    if (length > 0 && mprotect(from, length, PROT_READ | PROT_WRITE) != 0) {
        pthread_mutex_lock(&lock);
        slot_give(slot);
        pthread_mutex_unlock(&lock);
        return NULL;
    }
    if (length > 0)
        atomic_fetch_add(&state.guarded, 1);
    return slot;
}

static struct guard_slot *new_soft(size_t size, size_t alignment) {
    size_t room = SOFT_LEAD + size + SOFT_TAIL + (alignment > SOFT_UNIT ? alignment : 0);
    struct guard_slot *slot = slot_take(class_of((room + SOFT_UNIT - 1) / SOFT_UNIT), 1);
    if (slot == NULL)
        return NULL;
    uintptr_t mask = alignment - 1;
    slot->p = (char *)(((uintptr_t)slot_start(slot) + SOFT_LEAD + mask) & ~mask);
    slot->size = size;
    return slot;
}

static struct guard_slot *new_slot(size_t size, size_t alignment) {
    int large = size > SOFT_MAX || alignment > SOFT_MAX;
    int wanted = size <= state.max_size;
    if (wanted && state.sample_every > 1)
        wanted = atomic_fetch_add_explicit(&state.sampled, 1, memory_order_relaxed) %
                     state.sample_every ==
                 0;
    if (wanted || large) {
        long now = atomic_load_explicit(&state.guarded, memory_order_relaxed);
        if (now < (large ? state.large_max : state.all_max)) {
            struct guard_slot *slot = new_guarded(size, alignment);
            if (slot != NULL) {
                slot->plain = !wanted;
                return slot;
            }
        }
        if (large)
            return NULL;
        if ((atomic_fetch_or(&state.noted, NOTED_MAPS) & NOTED_MAPS) == 0)
            guard.host->note(MEMOPT_NOTE_WARNING,
                             "guard: %ld blocks are guarded and the kernel allows no more "
                             "mappings (vm.max_map_count = %ld): for further small blocks "
                             "overflow and use after free are found late, when the block is "
                             "freed or used again; raise it with 'sysctl -w "
                             "vm.max_map_count=1000000', or set 'sample_every'",
                             now, state.map_limit);
    }
    return new_soft(size, alignment);
}

/* An alignment as the power of two that aligned_alloc makes of it; 0: every block's. */
static uint8_t alignment_bits(size_t alignment) {
    return alignment <= 16 ? 0 : (uint8_t)(64 - __builtin_clzl(alignment - 1));
}

static void *block_new(struct guard_heap *heap, size_t size, size_t alignment, int zero) {
    if ((atomic_fetch_add_explicit(&state.calls, 1, memory_order_relaxed) & 15) == 0)
        guard_signal_check();
    if (size > guard.size / 2 || alignment > guard.size / 4)
        return NULL;
    struct guard_slot *slot = new_slot(size, alignment < state.align ? state.align : alignment);
    if (slot == NULL)
        return NULL;
    char *p = slot->p, *from, *to;
    around(slot, &from, &to);
    memset(from, AROUND, (size_t)(p - from));
    memset(p + size, AROUND, (size_t)(to - (p + size)));
    if (zero && slot->soft) /* the pages of others are fresh */
        memset(p, 0, size);
    slot->allocated_by = guard_tid();
    slot->allocated_depth = (uint8_t)guard_stack_here(slot->frames, guard.frames);
    slot->freed_depth = 0;
    slot->generation = generation;
    slot->by = MEMOPT_BY_MALLOC;
    slot->alignment = alignment_bits(alignment);
    slot->heap = heap;
    pthread_mutex_lock(&lock);
    bytes.live += size;
    if (bytes.live > bytes.peak)
        bytes.peak = bytes.live;
    if (!slot->soft)
        bytes.pages += pages_of(p, size, &from);
    if (heap != NULL) {
        heap->live += size;
        if (heap->live > heap->peak)
            heap->peak = heap->live;
        slot->previous = NULL;
        slot->next = heap->first;
        if (heap->first != NULL)
            heap->first->previous = slot;
        heap->first = slot;
    }
    atomic_store_explicit(&slot->state, GUARD_LIVE, memory_order_release);
    pthread_mutex_unlock(&lock);
    return p;
}

/* The slot of a live block, or the end of the program. */
static struct guard_slot *slot_live(const char *operation, struct guard_heap *heap, const void *p) {
    struct guard_slot *slot = guard_slot_at(p);
    if (slot == NULL || slot->p != p)
        guard_report_pointer(operation, p);
    uint32_t now = atomic_load_explicit(&slot->state, memory_order_acquire);
    if (now == GUARD_FREED || now == GUARD_FREEING)
        guard_report_twice(operation, slot);
    if (now != GUARD_LIVE)
        guard_report_pointer(operation, p);
    if (slot->heap != heap)
        guard_report_heap(operation, slot);
    return slot;
}

/* Takes the pages away and makes them inaccessible. 0, or -1: they stay as they
 * are, and the slot must not be used again. */
static int protect(struct guard_slot *slot) {
    char *from;
    size_t length = pages_of(slot->p, slot->size, &from);
    if (length == 0)
        return 0;
    /* A fresh mapping merges with its neighbours, where mprotect may not. */
    if (mmap(from, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
             0) != MAP_FAILED) {
        atomic_fetch_sub(&state.guarded, 1);
        return 0;
    }
    int closed = mprotect(from, length, PROT_NONE) == 0;
    if (!closed)
        note_once(NOTED_PROTECT, "the kernel refuses to make a freed block inaccessible: its use "
                                 "after free is not noticed");
    return -1;
}

/* What has to leave the quarantine for what came in. */
static size_t cost_of(const struct guard_slot *slot) {
    return slot->span->payload;
}

/* What left the quarantine may be used again. The lock is taken once for all of
 * it: a purge that took it for each slot would not get ahead of busy threads. */
static void release(struct guard_slot *out) {
    if (out == NULL)
        return;
    for (const struct guard_slot *slot = out; slot != NULL; slot = slot->next) {
        if (!slot->soft)
            continue;
        char *where = find_other(slot->p, slot->p + slot->size, FREED);
        if (where != NULL)
            guard_report_damage(slot, where, "when it was to be used again");
        check_around(slot, "when it was to be used again");
    }
    pthread_mutex_lock(&lock);
    while (out != NULL) {
        struct guard_slot *next = out->next;
        slot_give(out);
        out = next;
    }
    pthread_mutex_unlock(&lock);
}

static void quarantine(struct guard_slot *slot) {
    struct guard_slot *out = NULL;
    pthread_mutex_lock(&lock);
    slot->next = NULL;
    if (quarantine_last != NULL)
        quarantine_last->next = slot;
    else
        quarantine_first = slot;
    quarantine_last = slot;
    quarantine_bytes += cost_of(slot);
    while (quarantine_first != NULL && quarantine_bytes > state.quarantine_max) {
        struct guard_slot *first = quarantine_first;
        quarantine_first = first->next;
        if (quarantine_first == NULL)
            quarantine_last = NULL;
        quarantine_bytes -= cost_of(first);
        first->next = out;
        out = first;
    }
    pthread_mutex_unlock(&lock);
    release(out);
}

static void block_free(const char *operation, struct guard_heap *heap, void *p) {
    if ((atomic_fetch_add_explicit(&state.calls, 1, memory_order_relaxed) & 15) == 0)
        guard_signal_check();
    struct guard_slot *slot = slot_live(operation, heap, p);
    check_around(slot, "when it was freed");
    uintptr_t frames[GUARD_FRAMES_MAX];
    unsigned depth = guard_stack_here(frames, guard.frames);
    char *from;
    pthread_mutex_lock(&lock);
    if (atomic_load_explicit(&slot->state, memory_order_relaxed) != GUARD_LIVE) {
        pthread_mutex_unlock(&lock);
        guard_report_twice(operation, slot);
    }
    memcpy(slot->frames + guard.frames, frames, depth * sizeof(frames[0]));
    slot->freed_depth = (uint8_t)depth;
    slot->freed_by = guard_tid();
    atomic_store_explicit(&slot->state, GUARD_FREEING, memory_order_release);
    bytes.live -= slot->size;
    if (!slot->soft)
        bytes.pages -= pages_of(p, slot->size, &from);
    if (heap != NULL) {
        heap->live -= slot->size;
        if (slot->previous != NULL)
            slot->previous->next = slot->next;
        else
            heap->first = slot->next;
        if (slot->next != NULL)
            slot->next->previous = slot->previous;
    }
    pthread_mutex_unlock(&lock);
    int usable = 1;
    if (slot->soft)
        memset(p, FREED, slot->size);
    else
        usable = protect(slot) == 0;
    atomic_store_explicit(&slot->state, GUARD_FREED, memory_order_release);
    if (!usable)
        return;
    if (!slot->plain) {
        quarantine(slot);
        return;
    }
    pthread_mutex_lock(&lock);
    slot_give(slot);
    pthread_mutex_unlock(&lock);
}

/* Always moves, so that what still points to the old block is found. */
static void *block_resize(struct guard_heap *heap, void *p, size_t size) {
    struct guard_slot *slot = slot_live("realloc", heap, p);
    size_t old = slot->size;
    void *copy = block_new(heap, size, 1, 0);
    if (copy == NULL)
        return NULL;
    memcpy(copy, p, old < size ? old : size);
    block_free("realloc", heap, p);
    return copy;
}

/* ------------------------------------------------------------- default heap */

static void default_made_by(void *p, unsigned by) {
    struct guard_slot *slot = guard_slot_at(p);
    if (slot != NULL && slot->p == p)
        slot->by = (uint8_t)by;
}

/* What is no block of the default heap, free() reports. */
static void default_freed_by(void *p, size_t size, size_t alignment, unsigned by) {
    const struct guard_slot *slot = guard_slot_at(p);
    if (slot == NULL || slot->p != p || slot->heap != NULL ||
        atomic_load_explicit(&slot->state, memory_order_acquire) != GUARD_LIVE)
        return;
    int by_c = by == MEMOPT_BY_MALLOC;
    /* An operator new that isn't memopt's made it, and may have asked for more. */
    if (!by_c && slot->by == MEMOPT_BY_MALLOC)
        return;
    /* delete without an alignment says nothing, but free_sized is not for aligned blocks. */
    int aligned = alignment != 0 || by_c;
    if ((!by_c && by != slot->by) || (size != SIZE_MAX && size != slot->size) ||
        (aligned && alignment_bits(alignment) != slot->alignment))
        guard_report_form(slot, size, alignment, by);
}

/* -------------------------------------------------------------- named heaps */

static int heap_create(const struct memopt_host *host, const struct memopt_heap_params *params,
                       void **ret_heap, struct memopt_error *error) {
    (void)host;
    if (params->region != NULL)
        return guard.host->fail(error, -ENOTSUP,
                                "heap '%s': the guard allocator can't work in a given region; "
                                "use 'allocator = arena'",
                                params->name);
    pthread_mutex_lock(&lock);
    struct guard_heap *heap = heaps;
    while (heap != NULL && heap->used)
        heap = heap->next;
    if (heap == NULL) {
        heap = table_take(sizeof(*heap), guard.base + next_unit * UNIT);
        if (heap == NULL) {
            pthread_mutex_unlock(&lock);
            return guard.host->fail(error, -ENOMEM, "heap '%s': out of memory", params->name);
        }
        heap->next = heaps;
        heaps = heap;
    }
    heap->used = 1;
    heap->first = NULL;
    heap->live = heap->peak = 0;
    pthread_mutex_unlock(&lock);
    *ret_heap = heap;
    return 0;
}

static void heap_destroy(void *opaque) {
    struct guard_heap *heap = opaque;
    while (heap->first != NULL)
        block_free("heap_destroy", heap, heap->first->p);
    pthread_mutex_lock(&lock);
    heap->used = 0;
    pthread_mutex_unlock(&lock);
}

static void *guard_heap_malloc(void *heap, size_t size) {
    return block_new(heap, size, 1, 0);
}

static void *guard_heap_calloc(void *heap, size_t count, size_t size) {
    return block_new(heap, count * size, 1, 1);
}

static void *guard_heap_realloc(void *heap, void *p, size_t size) {
    return block_resize(heap, p, size);
}

static void *guard_heap_aligned_alloc(void *heap, size_t alignment, size_t size) {
    return block_new(heap, size, alignment, 0);
}

/* The kernel may refuse what it is asked here: errno is not for free to change. */
static void guard_heap_free(void *heap, void *p) {
    int saved = errno;
    block_free("free", heap, p);
    errno = saved;
}

static size_t guard_heap_usable_size(void *heap, void *p) {
    return slot_live("malloc_usable_size", heap, p)->size;
}

MEMOPT_DEFAULT_HEAP(guard, NULL);

/* ---------------------------------------------------------- figures and fork */

static int figures(struct memopt_figures *ret_figures) {
    pthread_mutex_lock(&lock);
    ret_figures->live = bytes.live;
    ret_figures->peak = bytes.peak;
    ret_figures->committed = bytes.pages + bytes.soft + bytes.table;
    ret_figures->retained = quarantine_bytes; /* address space */
    pthread_mutex_unlock(&lock);
    ret_figures->resident = MEMOPT_UNKNOWN;
    ret_figures->fragmentation =
        ret_figures->committed == 0
            ? 0
            : 1 - (double)ret_figures->live / (double)ret_figures->committed;
    return 0;
}

/* Under the lock. The pages that lie in idle slots `from` to `to` of a soft span. */
static uint64_t discard(struct guard_span *span, size_t from, size_t to) {
    uintptr_t mask = guard.page - 1, start = (uintptr_t)span->start;
    uintptr_t first = (start + from * span->slot_size + mask) & ~mask;
    uintptr_t end = (start + to * span->slot_size) & ~mask;
    uint64_t gone = 0;
    if (first >= end || madvise((void *)first, end - first, MADV_DONTNEED) != 0)
        return 0;
    for (size_t i = from; i < to; i++) {
        uintptr_t slot = start + i * span->slot_size;
        if (slot < first || slot + span->slot_size > end || slot_in(span, i)->idle != GUARD_IDLE)
            continue;
        slot_in(span, i)->idle = GUARD_PURGED;
        gone += span->slot_size;
    }
    bytes.soft -= gone;
    return gone;
}

/* Freed guarded blocks have no memory. Freed soft ones do: they leave the
 * quarantine, which guarded ones may stay in, and the pages without any other
 * block go. */
static uint64_t purge(void) {
    struct guard_slot *out = NULL, *last = NULL;
    pthread_mutex_lock(&lock);
    for (struct guard_slot **at = &quarantine_first; *at != NULL;) {
        struct guard_slot *slot = *at;
        if (slot->soft) {
            *at = slot->next;
            quarantine_bytes -= cost_of(slot);
            slot->next = out;
            out = slot;
        } else {
            last = slot;
            at = &slot->next;
        }
    }
    quarantine_last = last;
    pthread_mutex_unlock(&lock);
    release(out);
    uint64_t gone = 0;
    const struct guard_span *before = NULL;
    pthread_mutex_lock(&lock);
    for (size_t unit = 0; unit < next_unit; unit++) {
        struct guard_span *span = atomic_load(&guard.units[unit]);
        if (span == before)
            continue;
        before = span;
        for (size_t i = 0, from = 0; span->soft && i <= span->used; i++)
            if (i == span->used || slot_in(span, i)->idle == GUARD_IN_USE) {
                gone += discard(span, from, i);
                from = i + 1;
            }
    }
    pthread_mutex_unlock(&lock);
    return gone;
}

static int heap_figures(void *opaque, struct memopt_figures *ret_figures) {
    struct guard_heap *heap = opaque;
    uint64_t pages = 0;
    char *from;
    pthread_mutex_lock(&lock);
    for (struct guard_slot *slot = heap->first; slot != NULL; slot = slot->next)
        pages += slot->soft ? slot->span->slot_size : pages_of(slot->p, slot->size, &from);
    ret_figures->live = heap->live;
    ret_figures->peak = heap->peak;
    pthread_mutex_unlock(&lock);
    ret_figures->committed = pages;
    ret_figures->resident = MEMOPT_UNKNOWN;
    ret_figures->retained = MEMOPT_UNKNOWN;
    ret_figures->fragmentation = pages == 0 ? 0 : 1 - (double)ret_figures->live / (double)pages;
    return 0;
}

/* A program of one thread may fork in a signal handler, which may have interrupted
 * whoever holds the lock; and nobody else can hold it. glibc does the same. */
static int fork_locks;

static void before_fork(void) {
    fork_locks = !__libc_single_threaded;
    if (fork_locks)
        pthread_mutex_lock(&lock);
}

static void after_fork_parent(void) {
    if (fork_locks)
        pthread_mutex_unlock(&lock);
}

static void after_fork_child(void) {
    after_fork_parent();
    guard_forget_tid();
    generation++;
}

/* ------------------------------------------------------------------ the end */

struct damage {
    const struct guard_slot *slot;
    const char *where;
};

/* The program may have protected pages of its block. */
static void look_for_damage(void *damage_) {
    struct damage *damage = damage_;
    damage->where = find_damage(damage->slot);
}

/* Under the lock: no block is freed meanwhile. */
static struct damage first_damage(void) {
    const struct guard_span *before = NULL;
    for (size_t unit = 0; unit < next_unit; unit++) {
        const struct guard_span *span = atomic_load(&guard.units[unit]);
        for (size_t i = 0; span != NULL && span != before && i < span->used; i++) {
            struct damage damage = {.slot = slot_in(span, i)};
            if (atomic_load(&damage.slot->state) != GUARD_LIVE ||
                damage.slot->generation != generation)
                continue;
            guard_stack_try(look_for_damage, &damage);
            if (damage.where != NULL)
                return damage;
        }
        before = span;
    }
    return (struct damage){NULL, NULL};
}

/* At exit(), late: the program's own handlers and destructors have run. Blocks that a child
 * has from before its fork are left to the process that allocated them. Makes no system call
 * unless there is something to report, and waits for nobody: exit() in a signal handler
 * may have interrupted who holds the lock. */
static __attribute__((destructor)) void check_at_exit(void) {
    if (guard.size == 0 || pthread_mutex_trylock(&lock) != 0)
        return;
    struct damage damage = first_damage();
    pthread_mutex_unlock(&lock);
    if (damage.slot != NULL)
        guard_report_damage_at_exit(damage.slot, damage.where);
}

/* --------------------------------------------------------------------- open */

static long read_number(const char *path, long otherwise) {
    char text[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    if (got <= 0)
        return otherwise;
    text[got] = 0;
    return strtol(text, NULL, 10);
}

static int open_guard(const struct memopt_host *host, const void *opaque,
                      struct memopt_malloc *ret_malloc, struct memopt_error *error) {
    const struct settings *settings = opaque;
    if ((settings->align & (settings->align - 1)) != 0)
        return host->fail(error, -EINVAL, "'align' is %d, not a power of two",
                          (int)settings->align);
    guard.host = host;
    guard.page = (size_t)sysconf(_SC_PAGESIZE);
    guard.frames = (unsigned)settings->frames;
    guard.slot_stride =
        (sizeof(struct guard_slot) + 2 * guard.frames * sizeof(uintptr_t) + 63) & ~(size_t)63;
    state.side = settings->side;
    state.align = (size_t)settings->align;
    state.quarantine_max = settings->quarantine;
    state.sample_every = (unsigned)settings->sample_every;
    state.max_size = settings->max_size;
    state.map_limit = read_number("/proc/sys/vm/max_map_count", 65530);
    state.all_max = state.map_limit / 8 * 3;
    state.large_max = state.map_limit / 16 * 7;

    /* As much as the limits of the process allow (ulimit -v). */
    void *base = MAP_FAILED;
    guard.size = RESERVE_MAX;
    for (; guard.size >= RESERVE_MIN && base == MAP_FAILED; guard.size /= 2) {
        base =
            mmap(NULL, guard.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base != MAP_FAILED)
            break;
    }
    if (base == MAP_FAILED) {
        guard.size = 0;
        return host->fail(error, -ENOMEM,
                          "the guard allocator needs %zu MiB of address space at least: raise "
                          "the limit (ulimit -v)",
                          RESERVE_MIN >> 20);
    }
    guard.base = base;
    next_unit = GAP / UNIT;
    tables = tables_open = guard.base + guard.size - GAP;
    guard.units = table_take(guard.size / UNIT * sizeof(guard.units[0]), guard.base + GAP);
    if (guard.units == NULL) {
        munmap(base, guard.size);
        guard.size = 0;
        return host->fail(error, -ENOMEM, "the guard allocator can't have memory for its tables");
    }
    guard_stack_open();
    guard_signal_check();
    guard_default_heap(ret_malloc);
    if (settings->forms) {
        ret_malloc->made_by = default_made_by;
        ret_malloc->freed_by = default_freed_by;
    }
    return 0;
}

static const struct memopt_allocator_ops ops = {
    .size = sizeof(ops),
    .open = open_guard,
    .figures = figures,
    .quick_figures = figures,
    .purge = purge,
    .heap_create = heap_create,
    .heap_destroy = heap_destroy,
    .heap_malloc = guard_heap_malloc,
    .heap_calloc = guard_heap_calloc,
    .heap_realloc = guard_heap_realloc,
    .heap_aligned_alloc = guard_heap_aligned_alloc,
    .heap_free = guard_heap_free,
    .heap_usable_size = guard_heap_usable_size,
    .heap_figures = heap_figures,
    .before_fork = before_fork,
    .after_fork_parent = after_fork_parent,
    .after_fork_child = after_fork_child,
};

static const struct memopt_option options[] = {
    MEMOPT_OPT_ENUM(struct settings, side, "side", "end", side_choices,
                    "which side of a block the guard page is on: 'end' catches overflows at "
                    "once, 'start' underflows"),
    MEMOPT_OPT_INT(struct settings, align, "align", "16", "1", "16", "bytes",
                   "alignment of all blocks, however small, a power of two: with less than 16 more "
                   "overflows by the first byte fault, with 1 all of them, but code that relies on "
                   "alignment may fail"),
    MEMOPT_OPT_SIZE(struct settings, quarantine, "quarantine", "64MiB", "0", "1TiB",
                    "freed blocks that are kept inaccessible before their place is used again, "
                    "in bytes of whole pages; it is address space and not memory"),
    MEMOPT_OPT_INT(struct settings, frames, "frames", "8", "1", "32", "frames",
                   "depth of the stacks that are kept of each allocation and free"),
    MEMOPT_OPT_INT(struct settings, sample_every, "sample_every", "1", "1", "1000000", "blocks",
                   "guard one block in so many; the others are checked when they are freed"),
    MEMOPT_OPT_SIZE(struct settings, max_size, "max_size", NULL, "0", NULL,
                    "larger blocks are not guarded: they are checked when they are freed and "
                    "their place is used again at once"),
    MEMOPT_OPT_BOOL(struct settings, forms, "forms", "yes",
                    "delete must go with new and delete[] with new[], and the size and alignment "
                    "that delete, free_sized and free_aligned_sized are given must be the block's"),
    MEMOPT_OPT_END,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_ALLOCATOR),
    .name = "guard",
    .version = PACKAGE_VERSION,
    .summary = "each block against a guard page: overflow and use after free fault at once",
    .options = options,
    .settings_size = sizeof(struct settings),
    .ops = &ops,
};
