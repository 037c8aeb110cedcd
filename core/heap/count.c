/*
 * count.c - a heap's counters (see heap.h).
 *
 * One shared counter a call costs forty times a malloc when threads meet on it,
 * so each thread adds to a slot of its own, a cache line, and moves what it has
 * to the heap's `central` when it is 64 KiB or 256 calls. A thread has the same
 * slot number in every heap. At its end the number is free for another thread,
 * which goes on with what it finds: slots are only ever summed.
 *
 *   true live = central.live_bytes + sum of slots' bytes      |bytes| < 64 KiB
 *
 * so central's peak is off by at most 64 KiB for each slot in use. Central's own
 * numbers may pass below zero for a moment (a free is flushed before the
 * allocation that another thread did); they are read as signed.
 *
 * In a heap with a limit, live_bytes and peak_bytes are kept in central at every
 * call, exactly; only the counts are batched.
 */
#include "core/heap/heap.h"

#include "core/account/bound.h"

#include <errno.h>
#include <string.h>

static _Atomic uint64_t taken[MO_HEAP_OWN_SLOTS / 64]; /* a bit for each own slot */
static _Atomic unsigned shared_turn;
static pthread_key_t key;

/* 0: none yet; else the slot's number + 1. Initial-exec: no allocation. */
static _Thread_local unsigned my_slot __attribute__((tls_model("initial-exec")));

static unsigned shared_slot(void) {
    unsigned turn = atomic_fetch_add_explicit(&shared_turn, 1, memory_order_relaxed);
    return MO_HEAP_OWN_SLOTS + turn % MO_HEAP_SHARED_SLOTS;
}

/* The thread ends: another may have its slot. What its later destructors still
 * do is counted in a shared one. */
static void give_back(void *value) {
    unsigned number = (unsigned)(uintptr_t)value - 1;
    my_slot = shared_slot() + 1;
    atomic_fetch_and_explicit(&taken[number / 64], ~(UINT64_C(1) << number % 64),
                              memory_order_release);
}

static unsigned take(void) {
    for (unsigned word = 0; word < MO_HEAP_OWN_SLOTS / 64; word++) {
        uint64_t bits = atomic_load_explicit(&taken[word], memory_order_relaxed);
        while (bits != UINT64_MAX) {
            unsigned bit = (unsigned)__builtin_ctzll(~bits);
            if (!atomic_compare_exchange_weak_explicit(&taken[word], &bits,
                                                       bits | UINT64_C(1) << bit,
                                                       memory_order_acquire, memory_order_relaxed))
                continue;
            unsigned number = word * 64 + bit;
            my_slot = number + 1;
            if (pthread_setspecific(key, (void *)(uintptr_t)(number + 1)) == 0)
                return number;
            /* without the destructor the slot would be lost at thread end */
            atomic_fetch_and_explicit(&taken[word], ~(UINT64_C(1) << bit), memory_order_release);
            word = MO_HEAP_OWN_SLOTS / 64;
            break;
        }
    }
    unsigned number = shared_slot();
    my_slot = number + 1;
    return number;
}

unsigned mo_count_thread(void) {
    unsigned number = my_slot;
    return __builtin_expect(number != 0, 1) ? number - 1 : take();
}

int mo_count_start(void) {
    static int made;
    int code = made ? 0 : pthread_key_create(&key, give_back);
    made = code == 0;
    return -code;
}

void mo_count_fork_child(void) {
    for (unsigned word = 0; word < MO_HEAP_OWN_SLOTS / 64; word++) {
        uint64_t mine = 0;
        if (my_slot != 0 && my_slot - 1 < MO_HEAP_OWN_SLOTS && (my_slot - 1) / 64 == word)
            mine = UINT64_C(1) << (my_slot - 1) % 64;
        atomic_store_explicit(&taken[word], mine, memory_order_relaxed);
    }
}

static void flush(struct memopt_heap *heap, struct mo_heap_slot *slot) {
    struct mo_ledger_heap *central = heap->central;
    int64_t bytes = atomic_exchange_explicit(&slot->bytes, 0, memory_order_relaxed);
    uint64_t allocations = atomic_exchange_explicit(&slot->allocations, 0, memory_order_relaxed);
    uint64_t frees = atomic_exchange_explicit(&slot->frees, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&central->allocations, allocations, memory_order_relaxed);
    atomic_fetch_add_explicit(&central->frees, frees, memory_order_relaxed);
    atomic_fetch_add_explicit(&central->live_blocks, allocations - frees, memory_order_relaxed);
    if (bytes == 0)
        return;
    uint64_t live =
        atomic_fetch_add_explicit(&central->live_bytes, (uint64_t)bytes, memory_order_relaxed) +
        (uint64_t)bytes;
    mo_bound_peak(central, live);
}

void mo_count(struct memopt_heap *heap, int64_t bytes, unsigned allocations, unsigned frees) {
    unsigned number = mo_count_thread();
    struct mo_heap_slot *slot = &heap->slots[number];
    int64_t pending;
    uint64_t events;
    if (__builtin_expect(number < MO_HEAP_OWN_SLOTS, 1)) {
        pending = atomic_load_explicit(&slot->bytes, memory_order_relaxed) + bytes;
        uint64_t a = atomic_load_explicit(&slot->allocations, memory_order_relaxed) + allocations;
        uint64_t f = atomic_load_explicit(&slot->frees, memory_order_relaxed) + frees;
        atomic_store_explicit(&slot->bytes, pending, memory_order_relaxed);
        atomic_store_explicit(&slot->allocations, a, memory_order_relaxed);
        atomic_store_explicit(&slot->frees, f, memory_order_relaxed);
        events = a + f;
    } else {
        pending = atomic_fetch_add_explicit(&slot->bytes, bytes, memory_order_relaxed) + bytes;
        events = atomic_fetch_add_explicit(&slot->allocations, allocations, memory_order_relaxed) +
                 atomic_fetch_add_explicit(&slot->frees, frees, memory_order_relaxed) +
                 allocations + frees;
    }
    atomic_store_explicit(&slot->touched, 1, memory_order_relaxed);
    if (__builtin_expect(pending >= MO_HEAP_BATCH_BYTES || pending <= -MO_HEAP_BATCH_BYTES ||
                             events >= MO_HEAP_BATCH_EVENTS,
                         0))
        flush(heap, slot);
}

int mo_count_reserve(struct memopt_heap *heap, uint64_t bytes) {
    return mo_bound_reserve(heap->central, bytes);
}

void mo_count_release(struct memopt_heap *heap, uint64_t bytes) {
    mo_bound_release(heap->central, bytes);
}

void mo_count_peak(struct memopt_heap *heap) {
    mo_bound_peak(heap->central,
                  atomic_load_explicit(&heap->central->live_bytes, memory_order_relaxed));
}

void mo_count_flush_all(struct memopt_heap *heap) {
    for (unsigned i = 0; i < MO_HEAP_SLOTS; i++)
        if (atomic_load_explicit(&heap->slots[i].touched, memory_order_relaxed))
            flush(heap, &heap->slots[i]);
}

void mo_count_read(struct memopt_heap *heap, struct memopt_heap_statistics *stats) {
    const struct mo_ledger_heap *central = heap->central;
    int64_t live = (int64_t)atomic_load_explicit(&central->live_bytes, memory_order_relaxed);
    uint64_t allocations = atomic_load_explicit(&central->allocations, memory_order_relaxed);
    uint64_t frees = atomic_load_explicit(&central->frees, memory_order_relaxed);
    uint64_t slots = 0;
    for (unsigned i = 0; i < MO_HEAP_SLOTS; i++) {
        const struct mo_heap_slot *slot = &heap->slots[i];
        if (!atomic_load_explicit(&slot->touched, memory_order_relaxed))
            continue;
        slots++;
        live += atomic_load_explicit(&slot->bytes, memory_order_relaxed);
        allocations += atomic_load_explicit(&slot->allocations, memory_order_relaxed);
        frees += atomic_load_explicit(&slot->frees, memory_order_relaxed);
    }
    stats->live_bytes = live > 0 ? (uint64_t)live : 0;
    stats->live_blocks = allocations > frees ? allocations - frees : 0;
    stats->allocations = allocations;
    stats->frees = frees;
    stats->peak_bytes = atomic_load_explicit(&central->peak_bytes, memory_order_relaxed);
    if (stats->peak_bytes < stats->live_bytes)
        stats->peak_bytes = stats->live_bytes;
    stats->peak_error = heap->peak_estimated ? slots * MO_HEAP_BATCH_BYTES : 0;
}
