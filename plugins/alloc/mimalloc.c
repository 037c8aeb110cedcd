/*
 * mimalloc.c - mimalloc as a backend.
 *
 *   options   the library's own, by the header memopt was built with
 *   open      load, set, take the functions
 *   figures   what the library tells
 *   heaps     see there
 *
 * Figures: committed is what mi_process_info() says. mimalloc keeps no count of
 * live bytes; they are summed up from the calling thread's pages, and known
 * only while no second thread has used mimalloc.
 */
#include "config.h"

#include <memopt/plugin.h>

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <mimalloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- options */

struct settings {
    int show_errors, eager_commit, large_os_pages, limit_os_alloc;
    int64_t eager_commit_delay, reserve_huge_os_pages, use_numa_nodes;
    uint64_t reserve_os_memory;
#if HAVE_DECL_MI_OPTION_DECOMMIT_DELAY
    int page_reset, allow_decommit, abandoned_page_decommit;
    uint64_t decommit_delay, segment_decommit_delay;
#endif
#if HAVE_DECL_MI_OPTION_PURGE_DELAY
    int purge_decommits, arena_eager_commit;
    uint64_t purge_delay, arena_reserve;
#endif
};

#define OPTION(TYPE, FIELD, ...)                                                                   \
    MEMOPT_OPT_##TYPE(struct settings, FIELD, #FIELD, NULL, __VA_ARGS__)
static const struct memopt_option options[] = {
    OPTION(BOOL, show_errors, "mimalloc prints errors it sees to stderr (unset: no)"),
    OPTION(BOOL, eager_commit, "commit whole segments when they are reserved (unset: yes)"),
    OPTION(BOOL, large_os_pages, "2 MiB pages where the system allows (unset: no)"),
    OPTION(BOOL, limit_os_alloc, "allocate from memory reserved at start only (unset: no)"),
    OPTION(INT, eager_commit_delay, "0", "1024", "segments",
           "a thread's first segments are committed as needed (unset: 1)"),
    OPTION(INT, reserve_huge_os_pages, "0", "65536", "pages of 1 GiB",
           "huge pages to reserve at start (unset: 0); only from the environment that the program "
           "starts with"),
    OPTION(INT, use_numa_nodes, "0", "1024", "nodes",
           "NUMA nodes to use, 0: all there are (unset: 0)"),
    OPTION(SIZE, reserve_os_memory, "0", NULL,
           "memory to reserve at start (unset: 0); only from the environment that the program "
           "starts with"),
#if HAVE_DECL_MI_OPTION_DECOMMIT_DELAY
    OPTION(BOOL, page_reset, "reset free pages at once (unset: no)"),
    OPTION(BOOL, allow_decommit, "decommit unused memory (unset: yes)"),
    OPTION(BOOL, abandoned_page_decommit,
           "decommit free pages of threads that have ended (unset: no)"),
    OPTION(DURATION, decommit_delay, "0", "24h",
           "how long free pages stay before they are decommitted (unset: 25ms)"),
    OPTION(DURATION, segment_decommit_delay, "0", "24h",
           "the same for whole segments (unset: 500ms)"),
#endif
#if HAVE_DECL_MI_OPTION_PURGE_DELAY
    OPTION(BOOL, purge_decommits, "purging decommits rather than resets (unset: yes)"),
    OPTION(BOOL, arena_eager_commit, "commit arenas when they are reserved (unset: by system)"),
    OPTION(DURATION, purge_delay, "0", "24h",
           "how long free pages stay before they are purged (unset: 10ms)"),
    OPTION(SIZE, arena_reserve, "0", NULL, "how much is reserved at once for arenas (unset: 1GiB)"),
#endif
    MEMOPT_OPT_END,
};

/* The library's number of each row above. */
static const mi_option_t numbers[] = {
    mi_option_show_errors,     mi_option_eager_commit,           mi_option_large_os_pages,
    mi_option_limit_os_alloc,  mi_option_eager_commit_delay,     mi_option_reserve_huge_os_pages,
    mi_option_use_numa_nodes,  mi_option_reserve_os_memory,
#if HAVE_DECL_MI_OPTION_DECOMMIT_DELAY
    mi_option_page_reset,      mi_option_allow_decommit,         mi_option_abandoned_page_decommit,
    mi_option_decommit_delay,  mi_option_segment_decommit_delay,
#endif
#if HAVE_DECL_MI_OPTION_PURGE_DELAY
    mi_option_purge_decommits, mi_option_arena_eager_commit,     mi_option_purge_delay,
    mi_option_arena_reserve,
#endif
};
_Static_assert(sizeof(numbers) / sizeof(*numbers) == sizeof(options) / sizeof(*options) - 1,
               "one number for each option");

/* A setting as mimalloc counts it: sizes in KiB, times in ms. False: unset. */
static bool value_of(const struct memopt_option *option, const void *settings, long *ret) {
    const char *field = (const char *)settings + option->offset;
    int word;
    int64_t number;
    switch (option->type) {
    case MEMOPT_BOOL:
        memcpy(&word, field, sizeof(word));
        *ret = word;
        return word >= 0;
    case MEMOPT_SIZE:
        memcpy(&number, field, sizeof(number));
        *ret = (long)(((uint64_t)number + 1023) / 1024);
        return (uint64_t)number != UINT64_MAX;
    case MEMOPT_DURATION:
        memcpy(&number, field, sizeof(number));
        *ret = (long)((uint64_t)number / 1000000);
        return (uint64_t)number != UINT64_MAX;
    default:
        memcpy(&number, field, sizeof(number));
        *ret = (long)number;
        return number != INT64_MIN;
    }
}

static int environment(const struct memopt_host *host, const void *settings, memopt_setenv_fn set,
                       void *context, struct memopt_error *error) {
    (void)host, (void)error;
    for (const struct memopt_option *option = options; option->key != NULL; option++) {
        char name[64] = "MIMALLOC_", text[32];
        long value;
        if (!value_of(option, settings, &value))
            continue;
        for (size_t i = 0, at = strlen(name); i <= strlen(option->key); i++)
            name[at + i] = (char)toupper((unsigned char)option->key[i]);
        snprintf(text, sizeof(text), option->type == MEMOPT_SIZE ? "%ldK" : "%ld", value);
        set(context, name, text, '=', NULL);
    }
    return 0;
}

/* ------------------------------------------------------------------- open */

/* Another major has another interface: the one that goes with the header. */
#if MI_MALLOC_VERSION >= 300
static const char *const libraries[] = {"libmimalloc.so.3", NULL};
static const char package[] = "libmimalloc3";
#else
static const char *const libraries[] = {"libmimalloc.so.2", "libmimalloc.so.2.0", NULL};
static const char package[] = "libmimalloc2.0";
#endif

static struct {
    void (*option_set)(mi_option_t option, long value);
    int (*version)(void);
    void (*register_error)(mi_error_fun *handler, void *context);
    void (*process_info)(size_t *elapsed, size_t *user, size_t *system, size_t *current_rss,
                         size_t *peak_rss, size_t *current_commit, size_t *peak_commit,
                         size_t *page_faults);
    void (*stats_print_out)(mi_output_fun *out, void *context);
    void (*collect)(bool force);
    void (*free)(void *p);
    size_t (*usable_size)(void *p);
    mi_heap_t *(*heap_new)(void);
    void (*heap_delete)(mi_heap_t *heap);
    void (*heap_destroy)(mi_heap_t *heap);
    void (*heap_collect)(mi_heap_t *heap, bool force);
    mi_heap_t *(*heap_get_default)(void);
    bool (*heap_visit_blocks)(const mi_heap_t *heap, bool blocks, mi_block_visit_fun *visit,
                              void *context);
    void *(*memalign)(size_t alignment, size_t size);
    void *(*heap_malloc)(mi_heap_t *heap, size_t size);
    void *(*heap_zalloc)(mi_heap_t *heap, size_t size);
    void *(*heap_malloc_aligned)(mi_heap_t *heap, size_t size, size_t alignment);
    void *(*heap_malloc_aligned_at)(mi_heap_t *heap, size_t size, size_t alignment, size_t offset);
} mi;

static const struct memopt_host *host_services;
static int prepare_heaps(bool loaded_before, struct memopt_error *error);

static void set_options(const struct memopt_host *host, const void *settings) {
    /* Option numbers change between minors. */
    bool same = mi.version() / 10 == MI_MALLOC_VERSION / 10;
    bool any = false;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        long value;
        if (!value_of(&options[i], settings, &value))
            continue;
        any = true;
        if (same)
            mi.option_set(numbers[i], value);
    }
    if (any && !same)
        host->note(MEMOPT_NOTE_WARNING,
                   "mimalloc: memopt was built for version %d and finds %d: options take effect "
                   "only from the environment that the program starts with",
                   MI_MALLOC_VERSION, mi.version());
}

/* mimalloc 2.0.9 takes a block of the size's own class if the size is a multiple
 * of the alignment, and such blocks may be misaligned (512, 512). */
static void *well_aligned(size_t alignment, size_t size) {
    void *p = mi.memalign(alignment, size);
    if (((uintptr_t)p & (alignment - 1)) == 0)
        return p;
    mi.free(p);
    return mi.memalign(alignment, size + 1);
}

/* mimalloc tells a handler of what fails and leaves errno alone, which programs
 * that bind to it directly look at. */
static void set_errno(int error, void *context) {
    (void)context;
    if (error == ENOMEM || error == EOVERFLOW)
        errno = ENOMEM;
}

static int open_mimalloc(const struct memopt_host *host, const void *settings,
                         struct memopt_malloc *ret_malloc, struct memopt_error *error) {
    void *library = NULL;
    for (size_t i = 0; libraries[i] != NULL && library == NULL; i++)
        library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    bool loaded_before = library != NULL;
    host_services = host;
    int r = prepare_heaps(loaded_before, error);
    if (r < 0)
        return r;
    for (size_t i = 0; libraries[i] != NULL && library == NULL; i++)
        library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library == NULL)
        return host->fail(error, -ENOENT,
                          "allocator 'mimalloc': the library '%s' can't be loaded: %s\n"
                          "apt-get install %s",
                          libraries[0], dlerror(), package);
    struct memopt_malloc table = {.size = ret_malloc->size};
    const struct {
        const char *name;
        void *function;
    } rows[] = {
        {"mi_malloc", &table.malloc},
        {"mi_calloc", &table.calloc},
        {"mi_realloc", &table.realloc},
        {"mi_free", &table.free},
        {"mi_memalign", &mi.memalign},
        {"mi_usable_size", &table.usable_size},
        {"mi_option_set", &mi.option_set},
        {"mi_version", &mi.version},
        {"mi_register_error", &mi.register_error},
        {"mi_process_info", &mi.process_info},
        {"mi_stats_print_out", &mi.stats_print_out},
        {"mi_collect", &mi.collect},
        {"mi_free", &mi.free},
        {"mi_usable_size", &mi.usable_size},
        {"mi_heap_new", &mi.heap_new},
        {"mi_heap_delete", &mi.heap_delete},
        {"mi_heap_destroy", &mi.heap_destroy},
        {"mi_heap_collect", &mi.heap_collect},
        {"mi_heap_get_default", &mi.heap_get_default},
        {"mi_heap_visit_blocks", &mi.heap_visit_blocks},
        {"mi_heap_malloc", &mi.heap_malloc},
        {"mi_heap_zalloc", &mi.heap_zalloc},
        {"mi_heap_malloc_aligned", &mi.heap_malloc_aligned},
        {"mi_heap_malloc_aligned_at", &mi.heap_malloc_aligned_at},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        void *symbol = dlsym(library, rows[i].name);
        if (symbol == NULL)
            return host->fail(error, -ENOENT,
                              "allocator 'mimalloc': the library has no '%s': mimalloc 2 is needed",
                              rows[i].name);
        memcpy(rows[i].function, &symbol, sizeof(symbol));
    }
    mi.register_error(set_errno, NULL);
    set_options(host, settings);
    table.aligned_alloc = well_aligned;
    table.sized_below = 1024; /* blocks of one size in each of its pages */
    *ret_malloc = table;
    return 0;
}

/* ---------------------------------------------------------------- figures */

struct threads_line {
    char text[256];
    size_t used;
    long others; /* threads beside the first that ever used mimalloc; -1: not said */
};

/* The statistics come in pieces; its line "threads: PEAK TOTAL ..." counts every
 * thread but the first. */
static void read_statistics(const char *piece, void *context) {
    struct threads_line *line = context;
    for (; *piece != '\0'; piece++) {
        if (*piece != '\n' && line->used < sizeof(line->text) - 1) {
            line->text[line->used++] = *piece;
            continue;
        }
        line->text[line->used] = '\0';
        line->used = 0;
        const char *at = strstr(line->text, "threads:");
        if (at != NULL)
            line->others = strtol(at + strlen("threads:"), NULL, 10);
    }
}

static bool sum_area(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                     size_t block_size, void *context) {
    uint64_t *sum = context;
    (void)heap, (void)block, (void)block_size;
    *sum += (uint64_t)area->used * area->block_size;
    return true;
}

static int figures(struct memopt_figures *figures) {
    size_t ignored, commit = 0;
    struct threads_line line = {.others = -1};
    uint64_t live = 0;
    mi.process_info(&ignored, &ignored, &ignored, &ignored, &ignored, &commit, &ignored, &ignored);
    mi.stats_print_out(read_statistics, &line);
    mi.heap_visit_blocks(mi.heap_get_default(), false, sum_area, &live);
    bool known = line.others == 0 && live <= commit;
    figures->live = known ? live : MEMOPT_UNKNOWN;
    figures->committed = commit;
    figures->resident = MEMOPT_UNKNOWN;
    figures->retained = MEMOPT_UNKNOWN;
    figures->peak = MEMOPT_UNKNOWN;
    figures->fragmentation =
        known && commit > 0 ? 1 - (double)live / (double)commit : __builtin_nan("");
    return 0;
}

static uint64_t committed(void) {
    size_t ignored, commit = 0;
    mi.process_info(&ignored, &ignored, &ignored, &ignored, &ignored, &commit, &ignored, &ignored);
    return commit;
}

static uint64_t purge(void) {
    uint64_t before = committed();
    mi.collect(true);
    uint64_t after = committed();
    return after < before ? before - after : 0;
}

/* ------------------------------------------------------------------ heaps */

/* A mi_heap_t may be used only by the thread that made it, but any thread may
 * call any operation of ours. So a heap has one mi_heap_t for each thread that
 * allocates from it, made at the thread's first allocation, and a list of its
 * blocks: mi_free() takes a block from any thread, which is how destroy frees
 * what others allocated and what threads that have ended left behind. If only
 * the destroying thread ever allocated, mi_heap_destroy() frees all at once.
 *
 *   heap     slot in `heaps`, number `id` (never used again), SHARDS lists
 *   thread   for each slot the id it was made for and the mi_heap_t
 *   block    the header before what the caller gets
 *
 * When a thread ends, mimalloc deletes its mi_heap_t's (the blocks stay). Ours
 * must know it first: keys' destructors run in the order of their creation, so
 * the key is made before the library is loaded. If it was loaded before us, we
 * don't make a mi_heap_t at all and use the thread's default one. */
enum { SLOTS = 256, SHARDS = 8, LARGE_ALIGNMENT = 1 << 20 };

struct block {
    struct block *next, *previous;
    void *base; /* what mimalloc gave */
    uint64_t shard;
};
_Static_assert(sizeof(struct block) == 32, "keeps the alignment of 16");

struct shard {
    pthread_mutex_t lock;
    struct block list; /* a ring */
    uint64_t live;
};

struct heap {
    uint64_t id; /* 0: not in use */
    size_t slot;
    _Atomic(struct thread *) owner; /* the only thread that has allocated, or several */
    struct shard shards[SHARDS];
};

struct thread {
    size_t shard;
    struct {
        uint64_t id;
        mi_heap_t *own;
    } slots[SLOTS];
};

static struct thread several; /* as owner: more than one thread; as me: the thread is ending */
static __thread struct thread *me;
static pthread_mutex_t heaps_lock = PTHREAD_MUTEX_INITIALIZER;
static struct heap *heaps[SLOTS];
static uint64_t last_id;
static pthread_key_t thread_key;
static enum { UNDECIDED, PRIVATE, COMMON } sharing;
static _Atomic size_t next_shard;

static void thread_ends(void *opaque) {
    struct thread *thread = opaque;
    me = &several;
    pthread_mutex_lock(&heaps_lock);
    for (size_t i = 0; i < SLOTS && heaps[i] != NULL; i++) {
        struct thread *owner = thread; /* its address may be another thread's soon */
        atomic_compare_exchange_strong(&heaps[i]->owner, &owner, &several);
    }
    pthread_mutex_unlock(&heaps_lock);
    mi.free(thread);
}

static int prepare_heaps(bool loaded_before, struct memopt_error *error) {
    if (sharing != UNDECIDED)
        return 0;
    int code = loaded_before ? 0 : pthread_key_create(&thread_key, thread_ends);
    if (code != 0)
        return host_services->fail(error, -code,
                                   "allocator 'mimalloc': the process has no thread-specific data "
                                   "key left");
    sharing = loaded_before ? COMMON : PRIVATE;
    return 0;
}

static struct thread *this_thread(void) {
    if (me == NULL && sharing == PRIVATE) {
        struct thread *thread = mi.heap_zalloc(mi.heap_get_default(), sizeof(*thread));
        if (thread == NULL)
            return &several;
        thread->shard = next_shard++ % SHARDS;
        if (pthread_setspecific(thread_key, thread) != 0) {
            mi.free(thread);
            return &several;
        }
        me = thread;
    }
    return me == NULL ? &several : me;
}

/* The mi_heap_t to allocate from, for this thread. */
static mi_heap_t *own_heap(struct heap *heap, struct thread *thread) {
    if (thread != &several) {
        if (thread->slots[heap->slot].id != heap->id) {
            /* of a heap that was destroyed, with all its blocks */
            if (thread->slots[heap->slot].own != NULL)
                mi.heap_delete(thread->slots[heap->slot].own);
            thread->slots[heap->slot].own = mi.heap_new();
            thread->slots[heap->slot].id = heap->id;
        }
        if (thread->slots[heap->slot].own != NULL)
            return thread->slots[heap->slot].own;
    }
    heap->owner = &several;
    return mi.heap_get_default();
}

static size_t block_usable_size(const struct block *block) {
    return mi.usable_size(block->base) - (size_t)((const char *)(block + 1) - (char *)block->base);
}

/* `base` is memory for a block whose payload is at base + offset. */
static void *add_block(struct heap *heap, const struct thread *thread, void *base, size_t offset) {
    if (base == NULL)
        return NULL;
    struct block *block = (struct block *)(void *)((char *)base + offset) - 1;
    struct shard *shard = &heap->shards[thread->shard];
    block->base = base;
    block->shard = thread->shard;
    pthread_mutex_lock(&shard->lock);
    block->next = shard->list.next;
    block->previous = &shard->list;
    block->next->previous = block->previous->next = block;
    shard->live += block_usable_size(block);
    pthread_mutex_unlock(&shard->lock);
    return block + 1;
}

static void *heap_allocate(struct heap *heap, size_t size, size_t alignment, bool zero) {
    const size_t header = sizeof(struct block);
    struct thread *thread = this_thread();
    mi_heap_t *own = own_heap(heap, thread);
    struct thread *owner = NULL;
    if (!atomic_compare_exchange_strong(&heap->owner, &owner, thread) && owner != thread)
        heap->owner = &several;
    if (size > PTRDIFF_MAX / 2 || alignment > PTRDIFF_MAX / 2)
        return NULL;
    if (zero)
        return add_block(heap, thread, mi.heap_zalloc(own, size + header), header);
    if (alignment <= 16)
        return add_block(heap, thread, mi.heap_malloc(own, size + header), header);
    if (alignment < LARGE_ALIGNMENT)
        return add_block(heap, thread,
                         mi.heap_malloc_aligned_at(own, size + header, alignment, header), header);
    /* mimalloc takes no offset here: one alignment's worth goes before the payload */
    return add_block(heap, thread, mi.heap_malloc_aligned(own, size + alignment, alignment),
                     alignment);
}

static int heap_create(const struct memopt_host *host, const struct memopt_heap_params *params,
                       void **ret_heap, struct memopt_error *error) {
    (void)host;
    struct heap *heap = NULL;
    if (params->region != NULL)
        return host_services->fail(error, -ENOTSUP,
                                   "the mimalloc allocator takes no region; use arena for that");
    pthread_mutex_lock(&heaps_lock);
    for (size_t i = 0; i < SLOTS && heap == NULL; i++) {
        if (heaps[i] == NULL) {
            heaps[i] = host_services->alloc(sizeof(struct heap));
            if (heaps[i] == NULL)
                break;
            heaps[i]->slot = i;
            for (size_t j = 0; j < SHARDS; j++)
                pthread_mutex_init(&heaps[i]->shards[j].lock, NULL);
        }
        if (heaps[i]->id == 0)
            heap = heaps[i];
    }
    if (heap != NULL) {
        heap->id = ++last_id;
        heap->owner = NULL;
        for (size_t i = 0; i < SHARDS; i++) {
            struct shard *shard = &heap->shards[i];
            shard->list.next = shard->list.previous = &shard->list;
            shard->live = 0;
        }
    }
    pthread_mutex_unlock(&heaps_lock);
    if (heap == NULL)
        return host_services->fail(error, -ENOMEM,
                                   "mimalloc: no memory for the heap '%s', or more than %d heaps",
                                   params->name != NULL ? params->name : "", SLOTS);
    *ret_heap = heap;
    return 0;
}

static void heap_destroy(void *opaque) {
    struct heap *heap = opaque;
    struct thread *thread = this_thread();
    if (thread != &several && heap->owner == thread) {
        mi.heap_destroy(thread->slots[heap->slot].own);
        thread->slots[heap->slot].own = NULL;
        thread->slots[heap->slot].id = 0;
    } else {
        for (size_t i = 0; i < SHARDS; i++) {
            struct block *end = &heap->shards[i].list;
            for (struct block *block = end->next, *next; block != end; block = next) {
                next = block->next;
                mi.free(block->base);
            }
        }
    }
    pthread_mutex_lock(&heaps_lock);
    heap->id = 0;
    pthread_mutex_unlock(&heaps_lock);
}

static void *heap_malloc(void *heap, size_t size) {
    return heap_allocate(heap, size, 16, false);
}

static void *heap_calloc(void *heap, size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return heap_allocate(heap, total, 16, true);
}

static void *heap_aligned_alloc(void *heap, size_t alignment, size_t size) {
    return heap_allocate(heap, size, alignment, false);
}

static void heap_free(void *opaque, void *p) {
    struct heap *heap = opaque;
    struct block *block = (struct block *)p - 1;
    struct shard *shard = &heap->shards[block->shard];
    pthread_mutex_lock(&shard->lock);
    block->next->previous = block->previous;
    block->previous->next = block->next;
    shard->live -= block_usable_size(block);
    pthread_mutex_unlock(&shard->lock);
    mi.free(block->base);
}

static size_t heap_usable_size(void *heap, void *p) {
    (void)heap;
    return block_usable_size((struct block *)p - 1);
}

static void *heap_realloc(void *heap, void *p, size_t size) {
    size_t usable = heap_usable_size(heap, p);
    if (size <= usable && size >= usable / 2)
        return p;
    void *fresh = heap_malloc(heap, size);
    if (fresh == NULL)
        return NULL;
    memcpy(fresh, p, usable < size ? usable : size);
    heap_free(heap, p);
    return fresh;
}

static int heap_figures(void *opaque, struct memopt_figures *figures) {
    struct heap *heap = opaque;
    uint64_t live = 0;
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&heap->shards[i].lock);
        live += heap->shards[i].live;
        pthread_mutex_unlock(&heap->shards[i].lock);
    }
    figures->live = live;
    figures->committed = MEMOPT_UNKNOWN;
    figures->resident = MEMOPT_UNKNOWN;
    figures->retained = MEMOPT_UNKNOWN;
    figures->peak = MEMOPT_UNKNOWN;
    figures->fragmentation = __builtin_nan("");
    return 0;
}

/* Of the other threads' part nothing can be given back from here. */
static uint64_t heap_purge(void *opaque) {
    struct heap *heap = opaque;
    struct thread *thread = this_thread();
    uint64_t before = committed();
    if (thread != &several && thread->slots[heap->slot].id == heap->id &&
        thread->slots[heap->slot].own != NULL)
        mi.heap_collect(thread->slots[heap->slot].own, true);
    mi.collect(true); /* gives back what the heap let go of */
    uint64_t after = committed();
    return after < before ? before - after : 0;
}

static void before_fork(void) {
    pthread_mutex_lock(&heaps_lock);
    for (size_t i = 0; i < SLOTS && heaps[i] != NULL; i++)
        for (size_t j = 0; j < SHARDS; j++)
            pthread_mutex_lock(&heaps[i]->shards[j].lock);
}

static void after_fork(void) {
    for (size_t i = 0; i < SLOTS && heaps[i] != NULL; i++)
        for (size_t j = 0; j < SHARDS; j++)
            pthread_mutex_unlock(&heaps[i]->shards[j].lock);
    pthread_mutex_unlock(&heaps_lock);
}

static const char *backend_version(void) {
    static char version[32];
    int number = mi.version(); /* 209 is 2.0.9 */
    snprintf(version, sizeof(version), "%d.%d.%d", number / 100, number / 10 % 10, number % 10);
    return version;
}

static const struct memopt_allocator_ops ops = {
    .size = sizeof(ops),
    .flags = MEMOPT_ALLOCATOR_DIRECT | MEMOPT_ALLOCATOR_C_CALLS,
    .libraries = libraries,
    .package = package,
    .environment = environment,
    .open = open_mimalloc,
    .figures = figures,
    .purge = purge,
    .heap_create = heap_create,
    .heap_destroy = heap_destroy,
    .heap_malloc = heap_malloc,
    .heap_calloc = heap_calloc,
    .heap_realloc = heap_realloc,
    .heap_aligned_alloc = heap_aligned_alloc,
    .heap_free = heap_free,
    .heap_usable_size = heap_usable_size,
    .heap_figures = heap_figures,
    .heap_purge = heap_purge,
    .before_fork = before_fork,
    .after_fork_parent = after_fork,
    .after_fork_child = after_fork,
    .backend_version = backend_version,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_ALLOCATOR),
    .name = "mimalloc",
    .version = PACKAGE_VERSION,
    .summary = "mimalloc: free lists sharded by page and thread; built as C, as Debian's is, a "
               "failing new aborts",
    .options = options,
    .settings_size = sizeof(struct settings),
    .ops = &ops,
};
