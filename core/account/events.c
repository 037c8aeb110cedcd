/* events.c - threads' slots, and who hears of an event: see account.h. */
#include "core/account/account.h"
#include "core/base/sysmem.h"
#include "core/ledger/writer.h"

#include <pthread.h>
#include <string.h>

__thread struct mo_account_thread mo_own;
struct mo_account mo_account;

static struct mo_link *links;
static size_t link_count;
static pthread_key_t end_key;
static bool key_made;
static bool stopped; /* see mo_account_stop() */
/* The slot of those who can't have one, or must not count: nobody reads it. */
static struct {
    struct mo_ledger_thread head;
    struct mo_tally tally;
} nowhere;
static char *spare; /* the same, with room for the trackers' states */

size_t mo_account_states(const struct mo_link *of, size_t count, struct mo_slot_state *states) {
    bool counts = false;
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        counts |= (of[i].ops->flags & MEMOPT_TRACKER_COUNTS) != 0;
    if (counts)
        states[n++] =
            (struct mo_slot_state){MO_TALLY_NAME, MO_TALLY_VERSION, sizeof(struct mo_tally), 0};
    for (size_t i = 0; i < count; i++)
        states[n++] = (struct mo_slot_state){of[i].name, of[i].ops->state_version,
                                             (uint32_t)of[i].ops->thread_size, 0};
    return n;
}

static void thread_ends(void *slot) {
    mo_ledger_detach(slot);
}

void mo_account_start(struct mo_link *own_links, size_t count, const struct mo_slot_state *states) {
    links = own_links;
    link_count = count;
    size_t size = sizeof(struct mo_ledger_thread);
    for (size_t i = 0; i < count; i++) {
        const struct memopt_tracker_ops *ops = links[i].ops;
        mo_account.counts |= (ops->flags & MEMOPT_TRACKER_COUNTS) != 0;
        mo_account.wants_usable |=
            (ops->flags & (MEMOPT_TRACKER_COUNTS | MEMOPT_TRACKER_USABLE)) != 0;
        mo_account.tells |= ops->alloc != NULL || ops->free != NULL || ops->refused != NULL;
        if (links[i].offset + ops->thread_size > size)
            size = links[i].offset + ops->thread_size;
    }
    mo_account.counts_at = mo_account.counts ? states[0].offset : 0;
    spare = (char *)&nowhere;
    if (size > sizeof(nowhere) && (spare = mo_sys_alloc(size)) == NULL) {
        spare = (char *)&nowhere; /* then only what fits into it is told */
        mo_account.tells = false;
    }
    /* A key among the first 32 lives in the thread's own descriptor: setting it
     * allocates nothing. Without a key slots are not taken back early; no more. */
    key_made = pthread_key_create(&end_key, thread_ends) == 0;
}

void mo_account_stop(void) {
    stopped = true;
    mo_account = (struct mo_account){.counts = false};
    mo_own.slot = (char *)&nowhere;
    mo_own.tally = NULL;
}

char *mo_account_attach(void) {
    char *slot = stopped ? NULL : mo_ledger_attach();
    bool is_real = slot != NULL;
    if (!is_real)
        slot = spare;
    if (mo_account.counts)
        mo_own.tally = mo_tally_in(slot);
    atomic_signal_fence(memory_order_seq_cst);
    mo_own.slot = slot; /* before the next call: it may allocate */
    if (is_real && key_made)
        pthread_setspecific(end_key, slot);
    return slot;
}

static inline char *own_slot(void) {
    char *slot = mo_own.slot;
    return __builtin_expect(slot != NULL, 1) ? slot : mo_account_attach();
}

void mo_account_fold(void *ended_, void *slot_) {
    char *ended = ended_, *slot = slot_;
    if (mo_account.counts)
        mo_count_fold(mo_tally_in(ended), mo_tally_in(slot));
    for (size_t i = 0; i < link_count; i++) {
        const struct mo_link *link = &links[i];
        if (link->ops->thread_end == NULL)
            continue;
        link->ops->thread_end(link->self, ended + link->offset, slot + link->offset);
        memset(slot + link->offset, 0, link->ops->thread_size);
    }
}

/* ------------------------------------------------------------------- events */

/* The tally is that of the slot which the caller has, not mo_own's: in between a signal handler
 * may fork, and return in the child, which has no slot yet. */

static inline struct memopt_event_info info_of(uint32_t heap, void *p, size_t asked, size_t usable,
                                               int event) {
    return (struct memopt_event_info){.size = sizeof(struct memopt_event_info),
                                      .event = event,
                                      .p = p,
                                      .asked = asked,
                                      .usable = usable,
                                      .heap = heap,
                                      .weight = 1};
}

void mo_account_alloc(uint32_t heap, void *p, size_t asked, size_t usable, int event) {
    char *slot = own_slot();
    if (mo_account.counts)
        mo_count_alloc(mo_tally_in(slot), asked, usable, event);
    if (mo_account.tells) {
        struct memopt_event_info info = info_of(heap, p, asked, usable, event);
        for (size_t i = 0; i < link_count; i++)
            if (links[i].ops->alloc != NULL)
                links[i].ops->alloc(links[i].self, slot + links[i].offset, &info);
    }
}

void mo_account_free(uint32_t heap, void *p, size_t usable, int event) {
    char *slot = own_slot();
    if (mo_account.tells) {
        struct memopt_event_info info = info_of(heap, p, 0, usable, event);
        for (size_t i = 0; i < link_count; i++)
            if (links[i].ops->free != NULL)
                links[i].ops->free(links[i].self, slot + links[i].offset, &info);
    }
    if (mo_account.counts)
        mo_count_free(mo_tally_in(slot), usable);
}

void mo_account_destroy(uint32_t heap, uint64_t blocks, uint64_t bytes) {
    char *slot = own_slot();
    if (mo_account.tells) {
        struct memopt_event_info info =
            info_of(heap, NULL, (size_t)blocks, (size_t)bytes, MEMOPT_EVENT_DESTROY);
        for (size_t i = 0; i < link_count; i++)
            if (links[i].ops->free != NULL)
                links[i].ops->free(links[i].self, slot + links[i].offset, &info);
    }
    if (mo_account.counts) {
        mo_tally_in(slot)->frees += blocks - 1; /* and the one of the next line */
        mo_count_free(mo_tally_in(slot), (size_t)bytes);
    }
}

void mo_account_refused(uint32_t heap, size_t asked, int event) {
    char *slot = own_slot();
    if (mo_account.counts)
        mo_tally_in(slot)->failures++;
    if (mo_account.tells) {
        struct memopt_event_info info = info_of(heap, NULL, asked, 0, event);
        for (size_t i = 0; i < link_count; i++)
            if (links[i].ops->refused != NULL)
                links[i].ops->refused(links[i].self, slot + links[i].offset, &info);
    }
}

/* --------------------------------------------------------------------- fork */

void mo_account_in_child(void) {
    mo_own.slot = NULL;
    mo_own.tally = NULL;
    if (key_made)
        pthread_setspecific(end_key, NULL);
    if (mo_ledger() == NULL) {
        mo_account_stop();
        return;
    }
    mo_count_in_child();
    for (size_t i = 0; i < link_count; i++)
        if (links[i].ops->fork_child != NULL)
            links[i].ops->fork_child(links[i].self);
}
