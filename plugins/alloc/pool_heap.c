/*
 * pool_heap.c - heaps, their shards, and which thread has which. See pool.h.
 *
 * A thread finds its shard of the default heap in thread-local storage, of any
 * other heap in a table behind it. When it ends, its shards become orphans
 * whole; frees to an orphan go the way of all foreign frees, and whoever empties
 * one of its pages releases it. Structs of heaps, shards and threads are reused
 * and never given back, so that a stale pointer to one can be read.
 *
 * fork: the locks are held across it, so that all lists are whole in the child, stdio's
 * before them: glibc takes that one after all handlers, and a thread that has it may be
 * waiting for memory. Signals are blocked meanwhile, as a handler may fork, too.
 * What a thread that isn't there was doing to its own shard may be half done:
 * such shards are lost, that is, they stay with a thread that does not run. The
 * child may free their blocks and count and purge their unused slices, but
 * nobody allocates from them again.
 */
#define _GNU_SOURCE
#include "plugins/alloc/pool.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/single_threaded.h>

enum { MAX_HEAPS = 65536, FIRST_HEAPS = 64, KEPT_BY_ORPHANS = 1 << 20 /* bytes */ };

pthread_mutex_t mo_pool_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t mo_pool_huge_lock = PTHREAD_MUTEX_INITIALIZER;
struct pool_page mo_pool_no_page;
struct pool_shard mo_pool_no_shard = {
    .direct = {[0 ... POOL_DIRECT_MAX / 16] = &mo_pool_no_page},
};
__thread struct pool_shard *mo_pool_self = &mo_pool_no_shard;
struct pool_heap mo_pool_default = {.serial = 1};

/* under mo_pool_lock */
static struct pool_heap *first_heaps[FIRST_HEAPS] = {&mo_pool_default};
static struct pool_heap **heaps = first_heaps; /* by id; NULL: free */
static uint32_t heap_count = 1, heap_space = FIRST_HEAPS;
static uint64_t last_serial = 1;
static struct pool_heap *free_heaps;
static struct pool_shard *free_shards;
static struct pool_thread *free_threads;

_Atomic uint64_t mo_pool_orphans_due;
static pthread_key_t thread_key;
static bool has_thread_key;

/* ------------------------------------------------------------------- shards */

static void reset_shard(struct pool_shard *shard) {
    for (size_t i = 0; i <= POOL_DIRECT_MAX / 16; i++)
        shard->direct[i] = &mo_pool_no_page;
    memset(shard->bins, 0, sizeof shard->bins);
    memset(shard->loans, 0, sizeof shard->loans);
    atomic_store(&shard->notified, NULL);
    atomic_store(&shard->orphan, false);
    atomic_store(&shard->collect, false);
}

/* An orphan of the heap, one that is free, or a new one. */
static struct pool_shard *acquire_shard(struct pool_heap *heap, struct pool_thread *thread) {
    pthread_mutex_lock(&mo_pool_lock);
    struct pool_shard *shard = heap->orphans;
    if (shard != NULL) {
        heap->orphans = shard->next_orphan;
        atomic_store(&shard->orphan, false);
        goto found;
    }
    shard = free_shards;
    if (shard != NULL) {
        free_shards = shard->next;
    } else {
        shard = mo_pool_record(sizeof *shard);
        if (shard == NULL)
            goto unlock;
        pthread_mutex_init(&shard->lock, NULL);
    }
    reset_shard(shard);
    shard->heap = heap;
    shard->previous = NULL;
    shard->next = heap->shards;
    if (shard->next != NULL)
        shard->next->previous = shard;
    heap->shards = shard;
found:
    shard->thread = thread;
unlock:
    pthread_mutex_unlock(&mo_pool_lock);
    return shard;
}

/* Under mo_pool_lock. */
static void make_orphan(struct pool_shard *shard) {
    shard->thread = NULL;
    shard->next_orphan = shard->heap->orphans;
    shard->heap->orphans = shard;
    atomic_store(&shard->orphan, true);
}

/* Under mo_pool_lock: takes it off its heap's orphans; false: it is none now. */
static bool claim_orphan(struct pool_shard *shard) {
    if (!atomic_load(&shard->orphan))
        return false;
    struct pool_shard **at = &shard->heap->orphans;
    while (*at != shard)
        at = &(*at)->next_orphan;
    *at = shard->next_orphan;
    atomic_store(&shard->orphan, false);
    return true;
}

static void orphans_due(uint64_t at) {
    uint64_t due = atomic_load(&mo_pool_orphans_due);
    while (at != 0 && (due == 0 || at < due) &&
           !atomic_compare_exchange_weak(&mo_pool_orphans_due, &due, at))
        ;
}

void mo_pool_tend_orphan(struct pool_shard *shard) {
    /* Once more if something came between the last look and its being an orphan
     * again. */
    while (atomic_load(&shard->notified) != NULL) {
        pthread_mutex_lock(&mo_pool_lock);
        bool claimed = claim_orphan(shard);
        pthread_mutex_unlock(&mo_pool_lock);
        if (!claimed)
            return;
        mo_pool_take_notified(shard, true);
        orphans_due(atomic_load(&shard->purge_at));
        pthread_mutex_lock(&mo_pool_lock);
        make_orphan(shard);
        pthread_mutex_unlock(&mo_pool_lock);
    }
}

/* Of a thread that ends. Most is left for the next thread, and purged when that
 * takes too long to come. */
static void retire_shard(struct pool_shard *shard) {
    mo_pool_collect(shard, true);
    bool now = mo_pool_settings.purge_delay == 0;
    mo_pool_release_heads(shard, now ? 1 : pool_bin_of(POOL_MEDIUM_MAX + 1));
    if (now || mo_pool_dirty(shard) > KEPT_BY_ORPHANS)
        mo_pool_purge_shard(shard, true, true);
    else
        orphans_due(mo_pool_now() + mo_pool_settings.purge_delay);
}

void mo_pool_purge_orphans(void) {
    if (pthread_mutex_trylock(&mo_pool_lock) != 0)
        return; /* another time */
    atomic_store(&mo_pool_orphans_due, 0);
    for (uint32_t id = 0; id < heap_count; id++)
        for (struct pool_shard *shard = heaps[id] == NULL ? NULL : heaps[id]->orphans;
             shard != NULL; shard = shard->next_orphan) {
            mo_pool_release_heads(shard, 1);
            mo_pool_purge_shard(shard, false, true);
            orphans_due(atomic_load(&shard->purge_at));
        }
    pthread_mutex_unlock(&mo_pool_lock);
}

/* ------------------------------------------------------------------ threads */

static void thread_ends(void *argument) {
    struct pool_thread *thread = argument;
    struct pool_shard *own = thread->table[0].shard;
    /* What destructors of others free from now on goes the foreign way; what
     * they allocate starts the thread anew, and this runs again; if it was the
     * last round, that shard is left behind. */
    mo_pool_self = &mo_pool_no_shard;
    retire_shard(own);
    pthread_mutex_lock(&mo_pool_lock);
    for (uint32_t id = 1; id < thread->count; id++) {
        struct pool_entry *entry = &thread->table[id];
        if (entry->shard != NULL && id < heap_count && heaps[id] != NULL &&
            heaps[id]->serial == entry->serial) {
            retire_shard(entry->shard); /* under the lock: else the heap may go */
            make_orphan(entry->shard);
        }
    }
    memset(thread->table, 0, thread->count * sizeof *thread->table);
    make_orphan(own);
    thread->next_free = free_threads;
    free_threads = thread;
    pthread_mutex_unlock(&mo_pool_lock);
    mo_pool_tend_orphan(own);
}

/* Under mo_pool_lock. */
static int make_thread_key(void) {
    int code = has_thread_key ? 0 : pthread_key_create(&thread_key, thread_ends);
    has_thread_key |= code == 0;
    return -code;
}

int mo_pool_thread_key(void) {
    pthread_mutex_lock(&mo_pool_lock);
    int code = make_thread_key();
    pthread_mutex_unlock(&mo_pool_lock);
    return code;
}

static struct pool_shard *thread_starts(void) {
    pthread_mutex_lock(&mo_pool_lock);
    /* Without a key the thread leaves its shard behind, as after a fork. */
    bool has_key = make_thread_key() == 0;
    struct pool_thread *thread = free_threads;
    if (thread != NULL)
        free_threads = thread->next_free;
    pthread_mutex_unlock(&mo_pool_lock);
    if (thread == NULL) {
        thread = mo_pool_record(sizeof *thread);
        if (thread == NULL)
            return NULL;
        thread->table = mo_pool_record(sizeof *thread->table);
        thread->count = thread->table != NULL;
    }
    struct pool_shard *shard = thread->count > 0 ? acquire_shard(&mo_pool_default, thread) : NULL;
    if (shard == NULL) {
        if (thread->count > 0) {
            pthread_mutex_lock(&mo_pool_lock);
            thread->next_free = free_threads;
            free_threads = thread;
            pthread_mutex_unlock(&mo_pool_lock);
        }
        return NULL;
    }
    thread->table[0] = (struct pool_entry){mo_pool_default.serial, shard};
    mo_pool_self = shard;
    /* This may call calloc, which now works. */
    if (has_key)
        pthread_setspecific(thread_key, thread);
    return shard;
}

struct pool_shard *mo_pool_shard_of(struct pool_heap *heap) {
    struct pool_shard *self = mo_pool_self;
    if (self == &mo_pool_no_shard) {
        self = thread_starts();
        if (self == NULL)
            return NULL;
    }
    if (heap == &mo_pool_default)
        return self;
    struct pool_thread *thread = self->thread;
    if (heap->id >= thread->count) {
        uint32_t count = thread->count < 8 ? 8 : thread->count;
        while (count <= heap->id)
            count *= 2;
        struct pool_entry *table = mo_pool_record(count * sizeof *table);
        if (table == NULL)
            return NULL;
        memcpy(table, thread->table, thread->count * sizeof *table);
        thread->table = table;
        thread->count = count;
    }
    struct pool_entry *entry = &thread->table[heap->id];
    if (entry->serial == heap->serial)
        return entry->shard;
    struct pool_shard *shard = acquire_shard(heap, thread);
    if (shard != NULL)
        *entry = (struct pool_entry){heap->serial, shard};
    return shard;
}

/* -------------------------------------------------------------------- heaps */

int mo_pool_heap_create(void **ret_heap) {
    int code = 0;
    pthread_mutex_lock(&mo_pool_lock);
    struct pool_heap *heap = free_heaps;
    if (heap != NULL) {
        free_heaps = heap->next_free;
    } else {
        if (heap_count == MAX_HEAPS) {
            code = -ENOSPC;
            goto unlock;
        }
        if (heap_count == heap_space) {
            struct pool_heap **more = mo_pool_record(2 * heap_space * sizeof *more);
            if (more == NULL) {
                code = -ENOMEM;
                goto unlock;
            }
            memcpy(more, heaps, heap_space * sizeof *more);
            heaps = more;
            heap_space *= 2;
        }
        heap = mo_pool_record(sizeof *heap);
        if (heap == NULL) {
            code = -ENOMEM;
            goto unlock;
        }
        heap->id = heap_count++;
    }
    heap->serial = ++last_serial;
    heaps[heap->id] = heap;
unlock:
    pthread_mutex_unlock(&mo_pool_lock);
    if (code == 0)
        *ret_heap = heap;
    return code;
}

void mo_pool_heap_destroy(void *opaque) {
    struct pool_heap *heap = opaque;
    mo_pool_huge_destroy(heap);
    pthread_mutex_lock(&mo_pool_lock);
    heaps[heap->id] = NULL;
    heap->serial = 0;
    struct pool_shard *next;
    for (struct pool_shard *shard = heap->shards; shard != NULL; shard = next) {
        next = shard->next;
        mo_pool_unmap_segments(shard);
        shard->thread = NULL;
        shard->next = free_shards;
        free_shards = shard;
    }
    heap->shards = heap->orphans = NULL;
    heap->next_free = free_heaps;
    free_heaps = heap;
    pthread_mutex_unlock(&mo_pool_lock);
}

static void shard_figures(struct pool_shard *shard, struct memopt_figures *figures) {
    pthread_mutex_lock(&shard->lock);
    for (struct pool_segment *segment = shard->segments; segment != NULL; segment = segment->next) {
        uint64_t held =
            (sizeof *segment + POOL_SYSTEM_PAGE - 1) & ~(uint64_t)(POOL_SYSTEM_PAGE - 1);
        held += (uint64_t)__builtin_popcountll(segment->dirty) << POOL_SLICE_SHIFT;
        for (uint64_t heads = segment->heads; heads != 0; heads &= heads - 1) {
            struct pool_page *page = &segment->pages[__builtin_ctzll(heads)];
            uint32_t used = pool_used(page);
            uint32_t gone = POOL_FOREIGN_COUNT(atomic_load(&page->foreign));
            if (used > gone) /* the two are not read at one time */
                figures->live += (uint64_t)(used - gone) * page->block_size;
            held += ((uint64_t)pool_carved(page) * page->block_size + POOL_SYSTEM_PAGE - 1) &
                    ~(uint64_t)(POOL_SYSTEM_PAGE - 1);
        }
        figures->committed += held;
        figures->retained += POOL_SEGMENT_SIZE - held;
        mo_pool_add_resident(figures, segment, POOL_SEGMENT_SIZE);
    }
    pthread_mutex_unlock(&shard->lock);
}

static int heap_figures(struct pool_heap *heap, uint64_t resident, struct memopt_figures *figures) {
    size_t size = figures->size;
    *figures = (struct memopt_figures){.size = size, .peak = MEMOPT_UNKNOWN, .resident = resident};
    pthread_mutex_lock(&mo_pool_lock);
    for (struct pool_shard *shard = heap->shards; shard != NULL; shard = shard->next)
        shard_figures(shard, figures);
    mo_pool_huge_figures(heap, figures);
    pthread_mutex_unlock(&mo_pool_lock);
    figures->fragmentation =
        figures->committed > 0 ? 1 - (double)figures->live / (double)figures->committed : NAN;
    return 0;
}

int mo_pool_heap_figures(void *heap, struct memopt_figures *figures) {
    return heap_figures(heap, 0, figures);
}

int mo_pool_quick_figures(struct memopt_figures *figures) {
    return heap_figures(&mo_pool_default, MEMOPT_UNKNOWN, figures);
}

/* Everything of the calling thread's shard and of orphans goes; of other
 * threads' shards their free slices, and they are asked to do the rest when they
 * next need a page. */
uint64_t mo_pool_heap_purge(void *opaque) {
    struct pool_heap *heap = opaque;
    struct pool_thread *self = mo_pool_self->thread;
    uint64_t purged = mo_pool_huge_purge(true);
    pthread_mutex_lock(&mo_pool_lock);
    for (struct pool_shard *shard = heap->shards; shard != NULL; shard = shard->next) {
        bool orphan = atomic_load(&shard->orphan);
        if (orphan || (self != NULL && shard->thread == self)) {
            mo_pool_collect(shard, orphan);
            mo_pool_release_heads(shard, 1);
        } else {
            atomic_store(&shard->collect, true);
        }
        purged += mo_pool_purge_shard(shard, true, false);
    }
    pthread_mutex_unlock(&mo_pool_lock);
    return purged;
}

#define EACH_SHARD(SHARD)                                                                          \
    for (uint32_t id_ = 0; id_ < heap_count; id_++)                                                \
        if (heaps[id_] != NULL)                                                                    \
            for (struct pool_shard *SHARD = heaps[id_]->shards; SHARD != NULL; SHARD = SHARD->next)

void mo_pool_make_room(void) {
    struct pool_thread *self = mo_pool_self->thread;
    mo_pool_huge_purge(true);
    pthread_mutex_lock(&mo_pool_lock);
    EACH_SHARD(shard) {
        bool orphan = atomic_load(&shard->orphan);
        if (orphan) {
            mo_pool_collect(shard, true);
            mo_pool_release_heads(shard, 1);
        } else if (self == NULL || shard->thread != self) {
            atomic_store(&shard->collect, true);
        }
        mo_pool_purge_shard(shard, true, false);
    }
    pthread_mutex_unlock(&mo_pool_lock);
}

bool mo_pool_borrow(struct pool_shard *shard, unsigned bin) {
    struct pool_page *page = NULL;
    bool zero = false;
    pthread_mutex_lock(&mo_pool_lock);
    for (struct pool_shard *other = shard->heap->shards; other != NULL && page == NULL;
         other = other->next)
        if (other != shard)
            page = mo_pool_page_lend(other, bin, &zero);
    pthread_mutex_unlock(&mo_pool_lock);
    if (page == NULL)
        return false;
    /* while no block of it has been freed, the owner leaves these fields alone */
    shard->loans[bin] = (struct pool_loan){pool_page_start(page), page->capacity, zero};
    return true;
}

void mo_pool_check_all(void) {
    pthread_mutex_lock(&mo_pool_lock);
    EACH_SHARD(shard) {
        pthread_mutex_lock(&shard->lock);
        for (struct pool_segment *segment = shard->segments; segment != NULL;
             segment = segment->next)
            for (uint64_t heads = segment->heads; heads != 0; heads &= heads - 1) {
                struct pool_page *page = &segment->pages[__builtin_ctzll(heads)];
                page->inverse = page->foreign_inverse = 0;
            }
        pthread_mutex_unlock(&shard->lock);
    }
    pthread_mutex_unlock(&mo_pool_lock);
}

/* --------------------------------------------------------------------- fork */

extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

/* A program of one thread needs no lock, as in glibc; it may fork in a signal handler that has
 * interrupted a call which holds one. */
static bool locked_for_fork;
static sigset_t mask_before_fork; /* both under mo_pool_lock, where it is taken */

static void before_fork(void) {
    sigset_t all, mask;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    if (__libc_single_threaded) {
        locked_for_fork = false;
        mask_before_fork = mask;
        return;
    }
    if (_IO_list_lock != NULL)
        _IO_list_lock();
    pthread_mutex_lock(&mo_pool_lock);
    locked_for_fork = true;
    mask_before_fork = mask;
    EACH_SHARD(shard) {
        pthread_mutex_lock(&shard->lock);
    }
    pthread_mutex_lock(&mo_pool_huge_lock);
}

/* Also in the child: it is the thread that has locked them. */
static void after_fork(void (*release_stdio)(void)) {
    sigset_t mask = mask_before_fork;
    if (!locked_for_fork) {
        pthread_sigmask(SIG_SETMASK, &mask, NULL);
        return;
    }
    pthread_mutex_unlock(&mo_pool_huge_lock);
    EACH_SHARD(shard) {
        pthread_mutex_unlock(&shard->lock);
    }
    pthread_mutex_unlock(&mo_pool_lock);
    if (release_stdio != NULL)
        release_stdio();
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

static void after_fork_parent(void) {
    after_fork(_IO_list_unlock);
}

static void after_fork_child(void) {
    after_fork(_IO_list_resetlock); /* and not unlock: glibc may have reset it */
}

int mo_pool_fork_handlers(void) {
    return pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}
