/*
 * alloc-scrub.c - an allocator plugin for memopt, complete: copy it and change
 * what you need. It overwrites every block when it is freed, so that keys and
 * passwords don't stay in memory for the next reader.
 *
 *   make                                 needs memopt installed (pkg-config)
 *   make check                           runs memopt's conformance suite on it
 *   memopt run -a $PWD/alloc-scrub.so -- PROGRAM
 *   MEMOPT_PLUGIN_PATH=$PWD memopt run -a scrub --set allocator.scrub.fill=165 -- PROGRAM
 *
 * How it works: sizes are rounded up to powers of two, each with a free list
 * and a lock of its own; fresh blocks are cut from chunks; what is larger than
 * 4 KiB is a mapping of its own. 16 bytes before each block say what it is:
 *
 *     | ... padding for alignment ... | header | block ...
 *     ^ start                                  ^ what the program has
 *
 * Rules it keeps (memopt/plugin.h): it runs inside other programs, so it calls
 * nothing that might call malloc, and no lock of its own is held in a fork's
 * child.
 */
#include <memopt/plugin.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

enum {
    CLASSES = 9, /* 16, 32 ... 4096 bytes */
    LARGE = CLASSES,
    PAGE = 4096,
};

/* ---------------------------------------------------------------- settings */

struct settings {
    uint64_t chunk;
    int64_t fill;
    int scrub;
};

static const struct memopt_option options[] = {
    MEMOPT_OPT_BOOL(struct settings, scrub, "scrub", "yes", "overwrite blocks when they are freed"),
    MEMOPT_OPT_INT(struct settings, fill, "fill", "0", "0", "255", "byte value",
                   "what freed blocks are overwritten with"),
    MEMOPT_OPT_SIZE(struct settings, chunk, "chunk", "2MiB", "1MiB", "1GiB",
                    "how much to take from the system at once"),
    MEMOPT_OPT_END,
};
static struct settings chosen;

/* ------------------------------------------------------------------ blocks */

struct header {
    uint64_t start; /* where the whole piece begins; LARGE: of the mapping */
    uint32_t class;
    uint32_t pages; /* LARGE: of the mapping */
};
_Static_assert(sizeof(struct header) == 16, "blocks are aligned to 16");

struct piece { /* a free one */
    struct piece *next;
};
static struct {
    pthread_mutex_t lock;
    struct piece *free;
} classes[CLASSES];
static pthread_mutex_t chunk_lock = PTHREAD_MUTEX_INITIALIZER;
static char *chunk_next, *chunk_end;
static _Atomic uint64_t live, committed;

static void *map(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    atomic_fetch_add_explicit(&committed, size, memory_order_relaxed);
    return p;
}

static void *fresh_piece(size_t size) {
    pthread_mutex_lock(&chunk_lock);
    if ((size_t)(chunk_end - chunk_next) < size) { /* the rest of the old chunk is lost */
        char *chunk = map(chosen.chunk);
        if (!chunk) {
            pthread_mutex_unlock(&chunk_lock);
            return NULL;
        }
        chunk_next = chunk;
        chunk_end = chunk + chosen.chunk;
    }
    char *piece = chunk_next;
    chunk_next += size;
    pthread_mutex_unlock(&chunk_lock);
    return piece;
}

static size_t piece_size(uint32_t class) {
    return sizeof(struct header) + ((size_t)16 << class);
}

static struct header *header_of(void *p) {
    return (struct header *)p - 1;
}

static char *end_of(const struct header *h) {
    size_t size = h->class == LARGE ? (size_t)h->pages * PAGE : piece_size(h->class);
    return (char *)h->start + size;
}

static size_t scrub_usable_size(void *p) {
    return (size_t)(end_of(header_of(p)) - (char *)p);
}

static void *scrub_aligned_alloc(size_t alignment, size_t size) {
    size_t extra = sizeof(struct header) + (alignment > 16 ? alignment : 0);
    if (size > (size_t)PTRDIFF_MAX - extra - PAGE)
        return NULL;
    size_t total = size + extra;
    uint32_t class = 0;
    char *start;
    if (total > piece_size(CLASSES - 1)) {
        class = LARGE;
        total = (total + PAGE - 1) / PAGE * PAGE;
        if (total / PAGE > UINT32_MAX)
            return NULL;
        start = map(total);
    } else {
        while (piece_size(class) < total)
            class ++;
        pthread_mutex_lock(&classes[class].lock);
        start = (char *)classes[class].free;
        if (start)
            classes[class].free = classes[class].free->next;
        pthread_mutex_unlock(&classes[class].lock);
        if (!start)
            start = fresh_piece(piece_size(class));
    }
    if (!start)
        return NULL;
    uintptr_t p = (uintptr_t)start + sizeof(struct header);
    if (alignment > 16)
        p = (p + alignment - 1) & ~(uintptr_t)(alignment - 1);
    struct header *h = header_of((void *)p);
    h->start = (uint64_t)(uintptr_t)start;
    h->class = class;
    h->pages = class == LARGE ? (uint32_t)(total / PAGE) : 0;
    atomic_fetch_add_explicit(&live, scrub_usable_size((void *)p), memory_order_relaxed);
    return (void *)p;
}

static void *scrub_malloc(size_t size) {
    return scrub_aligned_alloc(16, size);
}

static void *scrub_calloc(size_t count, size_t size) {
    void *p = scrub_malloc(count * size); /* memopt has checked the product */
    if (p && header_of(p)->class != LARGE)
        memset(p, 0, count * size);
    return p;
}

static void scrub_free(void *p) {
    struct header *h = header_of(p);
    size_t usable = scrub_usable_size(p);
    atomic_fetch_sub_explicit(&live, usable, memory_order_relaxed);
    if (h->class == LARGE) { /* the kernel clears what it takes back */
        size_t size = (size_t)h->pages * PAGE;
        atomic_fetch_sub_explicit(&committed, size, memory_order_relaxed);
        munmap((void *)(uintptr_t)h->start, size);
        return;
    }
    if (chosen.scrub) {
        memset(p, (int)chosen.fill, usable);
        __asm__ volatile("" : : "r"(p) : "memory"); /* not to be optimized away */
    }
    uint32_t class = h->class;
    struct piece *piece = (struct piece *)(uintptr_t)h->start;
    pthread_mutex_lock(&classes[class].lock);
    piece->next = classes[class].free;
    classes[class].free = piece;
    pthread_mutex_unlock(&classes[class].lock);
}

static void *scrub_realloc(void *p, size_t size) {
    size_t usable = scrub_usable_size(p);
    if (size <= usable && size >= usable / 4)
        return p;
    void *moved = scrub_malloc(size);
    if (moved) {
        memcpy(moved, p, size < usable ? size : usable);
        scrub_free(p);
    }
    return moved;
}

/* -------------------------------------------------------------- operations */

static int scrub_open(const struct memopt_host *host, const void *settings,
                      struct memopt_malloc *ret_malloc, struct memopt_error *error) {
    chosen = *(const struct settings *)settings;
    chosen.chunk = chosen.chunk / PAGE * PAGE;
    for (int i = 0; i < CLASSES; i++) {
        if (pthread_mutex_init(&classes[i].lock, NULL) != 0)
            return host->fail(error, -12, "scrub: no lock for class %d", i);
    }
    ret_malloc->malloc = scrub_malloc;
    ret_malloc->calloc = scrub_calloc;
    ret_malloc->realloc = scrub_realloc;
    ret_malloc->free = scrub_free;
    ret_malloc->aligned_alloc = scrub_aligned_alloc;
    ret_malloc->usable_size = scrub_usable_size;
    return 0;
}

static int scrub_figures(struct memopt_figures *figures) {
    figures->live = atomic_load(&live);
    figures->committed = atomic_load(&committed);
    figures->fragmentation =
        figures->committed ? 1 - (double)figures->live / (double)figures->committed : 0;
    return 0;
}

static void before_fork(void) {
    for (int i = 0; i < CLASSES; i++)
        pthread_mutex_lock(&classes[i].lock);
    pthread_mutex_lock(&chunk_lock);
}
static void after_fork(void) {
    pthread_mutex_unlock(&chunk_lock);
    for (int i = CLASSES; i-- > 0;)
        pthread_mutex_unlock(&classes[i].lock);
}

static const struct memopt_allocator_ops ops = {
    .size = sizeof ops,
    .open = scrub_open,
    .figures = scrub_figures,
    .before_fork = before_fork,
    .after_fork_parent = after_fork,
    .after_fork_child = after_fork,
};

MEMOPT_EXPORT const struct memopt_plugin memopt_plugin = {
    MEMOPT_PLUGIN_HEADER(MEMOPT_ALLOCATOR),
    .name = "scrub",
    .version = "1.0",
    .summary = "overwrites every block when it is freed",
    .options = options,
    .settings_size = sizeof(struct settings),
    .ops = &ops,
};
