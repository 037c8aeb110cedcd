/*
 * pool_page.c - pages: carving them into blocks, moving them between HEAD,
 * LISTED and FULL, and taking in the blocks that other threads freed. See
 * pool.h for the words and the invariants. Everything here but
 * mo_pool_free_foreign() is called by the shard's owner.
 */
#include "plugins/alloc/pool.h"

#include <string.h>

/* ------------------------------------------------------------------- lists */

static void set_direct(struct pool_shard *shard, unsigned bin, struct pool_page *page) {
    size_t size = pool_bin_size(bin);
    if (size > POOL_DIRECT_MAX)
        return;
    size_t from = bin == 1 ? 0 : pool_bin_size(bin - 1) / 16 + 1;
    for (size_t i = from; i <= size / 16; i++)
        shard->direct[i] = page;
}

static void make_head(struct pool_shard *shard, struct pool_page *page) {
    page->state = POOL_HEAD;
    page->trigger = POOL_NO_TRIGGER;
    set_direct(shard, page->bin, page);
}

/* Takes the page out of its bin; the next one, if any, becomes HEAD. */
static void unlist(struct pool_shard *shard, struct pool_page *page) {
    struct pool_bin *bin = &shard->bins[page->bin];
    if (page->next != NULL)
        page->next->previous = page->previous;
    else
        bin->last = page->previous;
    if (page->previous != NULL) {
        page->previous->next = page->next;
    } else {
        bin->first = page->next;
        if (bin->first != NULL)
            make_head(shard, bin->first);
        else
            set_direct(shard, page->bin, &mo_pool_no_page);
    }
    page->next = page->previous = NULL;
}

static void list_last(struct pool_shard *shard, struct pool_page *page) {
    struct pool_bin *bin = &shard->bins[page->bin];
    page->next = NULL;
    page->previous = bin->last;
    bin->last = page;
    if (page->previous != NULL) {
        page->previous->next = page;
        page->state = POOL_LISTED;
        page->trigger = 0;
    } else {
        bin->first = page;
        make_head(shard, page);
    }
}

/* An empty page that is in no list. */
static void release(struct pool_page *page) {
    if (atomic_load_explicit(&page->foreign, memory_order_relaxed) & POOL_FOREIGN_PENDING) {
        page->state = POOL_ZOMBIE;
        page->trigger = POOL_NO_TRIGGER;
    } else {
        mo_pool_page_unmap(page);
    }
}

/* ------------------------------------------------------------ foreign frees */

struct seen {
    struct pool_page *page;
    uint64_t bits[POOL_SLICE_SIZE / 16 / 64];
};

static void see(struct seen *seen, struct pool_block *block) {
    uint32_t index =
        (uint32_t)((char *)block - pool_page_start(seen->page)) / seen->page->block_size;
    uint64_t bit = (uint64_t)1 << (index & 63);
    if (seen->bits[index >> 6] & bit)
        mo_pool_die("free", block, "double free");
    seen->bits[index >> 6] |= bit;
}

/* A block that was freed twice is twice among the page's free blocks. */
static void look_for_twins(struct pool_page *page, struct pool_block *list, uint32_t count) {
    struct seen seen = {.page = page};
    uint32_t limit = page->capacity;
    for (struct pool_block *block = page->free; block != NULL && limit-- > 0; block = block->next)
        see(&seen, block);
    for (; list != NULL && count-- > 0; list = list->next)
        see(&seen, list);
}

/* Takes over what others freed; true: there was something. */
static bool take_foreign(struct pool_page *page) {
    if (POOL_FOREIGN_COUNT(atomic_load_explicit(&page->foreign, memory_order_relaxed)) == 0)
        return false;
    uint64_t word =
        atomic_fetch_and_explicit(&page->foreign, POOL_FOREIGN_PENDING, memory_order_acq_rel);
    uint32_t count = POOL_FOREIGN_COUNT(word), used = pool_used(page);
    struct pool_block *list =
        (struct pool_block *)(pool_page_start(page) + ((word & POOL_FOREIGN_OFFSET) - 1) * 16);
    if (word & POOL_FOREIGN_SUSPECT)
        look_for_twins(page, list, count);
    if (count > used)
        mo_pool_die("free", list,
                    "double free (more blocks of its page were freed than handed out)");
    if (page->free != NULL) {
        struct pool_block *last = list;
        for (uint32_t i = 1; i < count; i++)
            last = last->next;
        last->next = page->free;
    }
    page->free = list;
    pool_set_used(page, used - count);
    return true;
}

void mo_pool_check_start(const char *function, struct pool_page *page, const void *p) {
    if (page == pool_segment_of(page)->pages)
        mo_pool_die(function, p, "not an allocated block, or freed before");
    uint32_t at = (uint32_t)((const char *)p - pool_page_start(page));
    if (at / page->block_size >= pool_carved(page))
        mo_pool_die(function, p, "not an allocated block, or freed before");
    if (at % page->block_size != 0)
        mo_pool_die(function, p, "inside of a block, not its start");
}

void mo_pool_check_double_free(struct pool_page *page, struct pool_block *block) {
    struct pool_segment *segment = pool_segment_of(page);
    if (take_foreign(page) && page->state == POOL_FULL)
        list_last(segment->shard, page);
    uint32_t limit = page->capacity;
    for (struct pool_block *free = page->free; free != NULL && limit-- > 0; free = free->next)
        if (free == block)
            mo_pool_die("free", block, "double free");
}

void mo_pool_free_foreign(struct pool_segment *segment, struct pool_page *page,
                          struct pool_block *block) {
    struct pool_shard *shard = segment->shard;
    if (POOL_UNLIKELY(!pool_is_start(block, page->foreign_inverse, page->foreign_offset)))
        mo_pool_check_start("free", page, block);
    uint64_t first = (uint64_t)((char *)block - pool_page_start(page)) / 16 + 1;
    uint64_t suspect = POOL_UNLIKELY(block->mark == shard) ? POOL_FOREIGN_SUSPECT : 0;
    block->mark = shard;
    uint64_t word = atomic_load_explicit(&page->foreign, memory_order_acquire), put;
    bool notify;
    do {
        uint64_t offset = word & POOL_FOREIGN_OFFSET;
        block->next =
            offset == 0 ? NULL : (struct pool_block *)(pool_page_start(page) + (offset - 1) * 16);
        put = ((word & ~POOL_FOREIGN_OFFSET) | first | suspect) + POOL_FOREIGN_ONE;
        notify =
            (word & (POOL_FOREIGN_ARMED | POOL_FOREIGN_PENDING)) == POOL_FOREIGN_ARMED &&
            POOL_FOREIGN_COUNT(put) >= atomic_load_explicit(&page->notify_at, memory_order_relaxed);
        if (notify)
            put |= POOL_FOREIGN_PENDING;
    } while (!atomic_compare_exchange_weak_explicit(&page->foreign, &word, put,
                                                    memory_order_acq_rel, memory_order_acquire));
    if (POOL_LIKELY(!notify))
        return;
    struct pool_page *top = atomic_load_explicit(&shard->notified, memory_order_relaxed);
    do
        page->notified_next = top;
    while (!atomic_compare_exchange_weak(&shard->notified, &top, page));
    if (atomic_load(&shard->orphan))
        mo_pool_tend_orphan(shard);
}

/* Has others tell when `count` blocks have come; false: they are there already,
 * or something has, and the caller should look again. */
static bool arm(struct pool_page *page, uint32_t count) {
    atomic_store_explicit(&page->notify_at, count, memory_order_relaxed);
    uint64_t word =
        atomic_fetch_or_explicit(&page->foreign, POOL_FOREIGN_ARMED, memory_order_acq_rel);
    return (word & POOL_FOREIGN_PENDING) != 0 || POOL_FOREIGN_COUNT(word) < count;
}

/* ------------------------------------------------------------- collecting */

/* Takes in what others freed; an empty page goes, a full one is listed if it
 * can be. */
static void collect_page(struct pool_shard *shard, struct pool_page *page, bool armed) {
    bool settled;
    do {
        take_foreign(page);
        if (pool_used(page) == 0) {
            if (page->state == POOL_HEAD)
                return;
            if (page->state == POOL_LISTED)
                unlist(shard, page);
            release(page);
            return;
        }
        if (page->state == POOL_FULL && page->free != NULL)
            list_last(shard, page);
        settled = true;
        if (armed)
            settled = arm(page, pool_used(page));
        else if (page->state == POOL_FULL)
            settled = arm(page, pool_enough(page));
    } while (!settled);
}

void mo_pool_collect(struct pool_shard *shard, bool armed) {
    mo_pool_take_notified(shard, armed);
    /* Only the owner clears bits of `heads`, so the segments of the chain stay
     * until it comes to them, whatever others purge meanwhile. */
    struct pool_segment *chain = NULL, *next;
    pthread_mutex_lock(&shard->lock);
    for (struct pool_segment *segment = shard->segments; segment != NULL; segment = segment->next)
        if (segment->heads != 0) {
            segment->chain = chain;
            chain = segment;
        }
    pthread_mutex_unlock(&shard->lock);
    for (struct pool_segment *segment = chain; segment != NULL; segment = next) {
        next = segment->chain;
        pthread_mutex_lock(&shard->lock); /* another shard may be borrowing a page */
        uint64_t heads = segment->heads;
        pthread_mutex_unlock(&shard->lock);
        for (; heads != 0; heads &= heads - 1) {
            struct pool_page *page = &segment->pages[__builtin_ctzll(heads)];
            if (page->state != POOL_ZOMBIE)
                collect_page(shard, page, armed);
        }
    }
}

void mo_pool_release_heads(struct pool_shard *shard, unsigned from) {
    for (unsigned bin = from; bin < POOL_BINS; bin++) {
        struct pool_page *page = shard->bins[bin].first;
        if (page == NULL || pool_used(page) != 0)
            continue;
        unlist(shard, page);
        release(page);
    }
}

void mo_pool_take_notified(struct pool_shard *shard, bool armed) {
    struct pool_page *next, *page = atomic_exchange(&shard->notified, NULL);
    for (; page != NULL; page = next) {
        next = page->notified_next;
        atomic_fetch_and(&page->foreign, ~POOL_FOREIGN_PENDING);
        if (page->state == POOL_ZOMBIE) {
            mo_pool_page_unmap(page);
        } else if (armed) {
            collect_page(shard, page, true);
        } else if (take_foreign(page) && page->state == POOL_FULL) {
            /* One empty page stays, for the next block of the bin. */
            if (pool_used(page) == 0 && shard->bins[page->bin].first != NULL)
                release(page);
            else
                list_last(shard, page);
        } else if (page->state == POOL_LISTED && pool_used(page) == 0) {
            unlist(shard, page);
            release(page);
        } else if (page->state == POOL_FULL) {
            collect_page(shard, page, false);
        }
    }
}

/* --------------------------------------------------------------- allocation */

/* Puts some blocks that were never used on the empty free list. */
static bool carve(struct pool_shard *shard, struct pool_page *page) {
    uint32_t carved = pool_carved(page), left = page->capacity - carved;
    if (left == 0)
        return false;
    uint32_t size = page->block_size, count = POOL_SYSTEM_PAGE / size;
    if (count == 0)
        count = 1;
    if (count > left)
        count = left;
    char *at = pool_page_start(page) + (size_t)carved * size;
    struct pool_block *first = (struct pool_block *)at, *block = first;
    for (uint32_t i = 1; i < count; i++, block = block->next) {
        block->mark = shard;
        block->next = (struct pool_block *)(at += size);
    }
    block->mark = shard;
    block->next = NULL;
    page->free = first;
    atomic_store_explicit(&page->carved, carved + count, memory_order_relaxed);
    return true;
}

static void mark_full(struct pool_shard *shard, struct pool_page *page) {
    unlist(shard, page);
    page->state = POOL_FULL;
    page->trigger = page->capacity - pool_enough(page);
    if (!arm(page, pool_enough(page))) {
        take_foreign(page);
        list_last(shard, page);
    }
}

static void look_after(struct pool_shard *shard) {
    if (atomic_load_explicit(&shard->notified, memory_order_relaxed) != NULL)
        mo_pool_take_notified(shard, false);
    if (atomic_load_explicit(&shard->collect, memory_order_relaxed)) {
        atomic_store_explicit(&shard->collect, false, memory_order_relaxed);
        mo_pool_collect(shard, false);
        mo_pool_release_heads(shard, 1);
        mo_pool_purge_shard(shard, true, true);
    }
    uint64_t purge_at = atomic_load_explicit(&shard->purge_at, memory_order_relaxed);
    uint64_t orphans_due = atomic_load_explicit(&mo_pool_orphans_due, memory_order_relaxed);
    if ((purge_at | orphans_due) == 0)
        return;
    uint64_t now = mo_pool_now();
    if (purge_at != 0 && purge_at <= now) {
        mo_pool_release_heads(shard, 1);
        mo_pool_purge_shard(shard, false, true);
    }
    if (orphans_due != 0 && orphans_due <= now)
        mo_pool_purge_orphans();
}

static void *from_loan(struct pool_shard *shard, unsigned bin, bool *ret_zero) {
    struct pool_loan *loan = &shard->loans[bin];
    struct pool_block *block = (struct pool_block *)loan->at;
    loan->at += pool_bin_size(bin);
    loan->left--;
    *ret_zero = loan->zero;
    if (!loan->zero) { /* as free left them */
        block->next = NULL;
        block->mark = NULL;
    }
    return block;
}

void *mo_pool_bin_alloc(struct pool_shard *shard, unsigned bin, bool *ret_zero) {
    *ret_zero = false;
    look_after(shard);
    struct pool_page *page;
    for (;;) {
        page = shard->bins[bin].first;
        if (page == NULL) {
            if (shard->loans[bin].left > 0)
                return from_loan(shard, bin, ret_zero);
            page = mo_pool_page_map(shard, bin);
            if (page == NULL)
                return mo_pool_borrow(shard, bin) ? from_loan(shard, bin, ret_zero) : NULL;
            list_last(shard, page);
        }
        if (page->free != NULL || take_foreign(page))
            break;
        if (carve(shard, page)) {
            /* Nothing but its two words was ever written to the block. */
            *ret_zero = page->zero;
            break;
        }
        mark_full(shard, page);
    }
    struct pool_block *block = page->free;
    if (block->mark != shard)
        mo_pool_die("malloc", block, POOL_BAD_MARK);
    page->free = block->next;
    pool_set_used(page, pool_used(page) + 1);
    block->next = NULL;
    block->mark = NULL;
    return block;
}

void mo_pool_page_event(struct pool_page *page) {
    struct pool_segment *segment = pool_segment_of(page);
    struct pool_shard *shard = segment->shard;
    if (page->state == POOL_LISTED) {
        unlist(shard, page);
        release(page);
    } else if (pool_used(page) == 0 && shard->bins[page->bin].first != NULL) {
        release(page);
    } else {
        list_last(shard, page);
    }
}
