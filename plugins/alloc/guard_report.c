/*
 * guard_report.c - says what went wrong with which block. See guard.h.
 *
 * Each message is put together in one static buffer and goes out as one event,
 * which memopt writes to stderr at once and keeps for the run's report. One
 * thread reports, the first; others wait for the end of the process. Nothing
 * here allocates, locks or calls stdio: it runs in a signal handler.
 */
#define _GNU_SOURCE

#include "guard.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAULT_FRAMES = 32 };

static struct guard_text text;
static const char *kind;         /* of the event */
static _Atomic int32_t reporter; /* thread id; 0: nobody */

/* 0: this thread is in the midst of a report already. */
static int begin(void) {
    int32_t nobody = 0;
    if (atomic_compare_exchange_strong(&reporter, &nobody, guard_tid()))
        return 1;
    if (nobody == guard_tid())
        return 0;
    for (;;) /* the process is about to end */
        pause();
}

static void put_block(const struct guard_slot *slot) {
    guard_put(&text, "a block of %u %s at %x", slot->size, slot->size == 1 ? "byte" : "bytes",
              (uintptr_t)slot->p);
}

static void put_history(const struct guard_slot *slot) {
    guard_put(&text, "\n  allocated by thread %u:", (size_t)slot->allocated_by);
    guard_put_stack(&text, slot->frames, slot->allocated_depth);
    if (atomic_load(&slot->state) >= GUARD_FREEING) {
        guard_put(&text, "\n  freed by thread %u:", (size_t)slot->freed_by);
        guard_put_stack(&text, slot->frames + guard.frames, slot->freed_depth);
    }
}

static void put_distance(size_t distance) {
    guard_put(&text, "%u %s", distance, distance == 1 ? "byte" : "bytes");
}

/* Where an access outside of a block was: from its start, and how far from it. */
static void put_outside(const struct guard_slot *slot, const char *where) {
    if (where < slot->p) {
        guard_put(&text, "at offset -%u, ", (size_t)(slot->p - where));
        put_distance((size_t)(slot->p - where));
        guard_put(&text, " before the start of ");
    } else {
        guard_put(&text, "at offset %u, ", (size_t)(where - slot->p));
        if (where == slot->p + slot->size)
            guard_put(&text, "right");
        else
            put_distance((size_t)(where - (slot->p + slot->size)));
        guard_put(&text, " past the end of ");
    }
}

/* ---------------------------------------------------------- found in a call */

static void tell(const struct guard_slot *slot) {
    if (slot != NULL)
        put_history(slot);
    guard_put_build_ids(&text);
    guard.host->event(kind, "%s", text.bytes);
}

static _Noreturn void finish(const char *title, const struct guard_slot *slot) {
    uintptr_t frames[FAULT_FRAMES];
    unsigned depth = guard_stack_here(frames, FAULT_FRAMES);
    guard_put(&text, "\n  %s thread %u:", title, (size_t)guard_tid());
    guard_put_stack(&text, frames, depth);
    tell(slot);
    abort();
}

void guard_report_pointer(const char *operation, const void *p) {
    begin();
    const struct guard_slot *slot = guard_slot_at(p);
    kind = "invalid-free";
    guard_put(&text, "%s(%x): ", operation, (uintptr_t)p);
    if (!guard_owns(p)) {
        guard_put(&text, "the address is none of this allocator's");
        slot = NULL;
    } else if (slot != NULL && atomic_load(&slot->state) == GUARD_LIVE &&
               (const char *)p - slot->p > 0 && (size_t)((const char *)p - slot->p) <= slot->size) {
        put_distance((size_t)((const char *)p - slot->p));
        guard_put(&text, " inside ");
        put_block(slot);
    } else {
        guard_put(&text, "no block begins there");
        slot = NULL;
    }
    finish("called by", slot);
}

void guard_report_twice(const char *operation, const struct guard_slot *slot) {
    begin();
    kind = strcmp(operation, "free") == 0 ? "double-free" : "use-after-free";
    guard_put(&text, "%s(%x) of ", operation, (uintptr_t)slot->p);
    put_block(slot);
    guard_put(&text, " that was freed before");
    finish("called by", slot);
}

void guard_report_heap(const char *operation, const struct guard_slot *slot) {
    begin();
    kind = "invalid-free";
    guard_put(&text, "%s(%x): the block belongs to another heap: ", operation, (uintptr_t)slot->p);
    put_block(slot);
    finish("called by", slot);
}

void guard_report_form(const struct guard_slot *slot, size_t size, size_t alignment, unsigned by) {
    static const char *const news[] = {"malloc", "new", "new[]"};
    static const char *const deletes[] = {"free", "delete", "delete[]"};
    const char *operation = by != MEMOPT_BY_MALLOC ? deletes[by]
                            : alignment != 0       ? "free_aligned_sized"
                                                   : "free_sized";
    begin();
    guard_put(&text, "%s(%x) ", operation, (uintptr_t)slot->p);
    if (by != MEMOPT_BY_MALLOC && by != slot->by) {
        kind = "form-mismatch";
        guard_put(&text, "of ");
        put_block(slot);
        guard_put(&text, " that was made by %s: expected %s", news[slot->by], deletes[slot->by]);
    } else if (size != SIZE_MAX && size != slot->size) {
        kind = "size-mismatch";
        guard_put(&text, "with size %u of ", size);
        put_block(slot);
        guard_put(&text, ": expected size %u", slot->size);
    } else {
        kind = "alignment-mismatch";
        if (alignment == 0)
            guard_put(&text, "without alignment of ");
        else
            guard_put(&text, "with alignment %u of ", alignment);
        put_block(slot);
        guard_put(&text,
                  slot->alignment == 0 ? ": expected alignment 16 or less"
                                       : ": expected alignment %u",
                  (size_t)1 << slot->alignment);
    }
    finish("called by", slot);
}

static void put_damage(const struct guard_slot *slot, const char *where, const char *when) {
    if (where >= slot->p + slot->size) {
        kind = "overflow";
        guard_put(&text, "write ");
        put_outside(slot, where);
    } else if (where < slot->p) {
        kind = "underflow";
        guard_put(&text, "write ");
        put_outside(slot, where);
    } else {
        kind = "use-after-free";
        guard_put(&text, "write at byte %u of ", (size_t)(where - slot->p));
    }
    put_block(slot);
    guard_put(&text, ", found %s", when);
}

void guard_report_damage(const struct guard_slot *slot, const char *where, const char *when) {
    begin();
    put_damage(slot, where, when);
    finish("found in a call by", slot);
}

void guard_report_damage_at_exit(const struct guard_slot *slot, const char *where) {
    begin();
    put_damage(slot, where, "at exit: it was never freed");
    tell(slot);
    abort();
}

/* ---------------------------------------------------------- found by a fault */

/* How far `address` is from the block: below 0 before it, above 0 after it. */
static ptrdiff_t distance_of(const struct guard_slot *slot, const char *address) {
    if (address < slot->p)
        return address - slot->p;
    return address < slot->p + slot->size ? 0 : address - (slot->p + slot->size) + 1;
}

/* The block that an address is in or nearest to, of the slot and the two beside:
 * a guard page is the end of one and the beginning of another. */
static const struct guard_slot *nearest(const char *address) {
    const struct guard_slot *middle = guard_slot_at(address), *best = NULL;
    size_t least = SIZE_MAX;
    if (middle == NULL)
        middle = guard_slot_at(address + guard.page);
    if (middle == NULL)
        middle = guard_slot_at(address - guard.page);
    for (int step = -1; middle != NULL && step <= 1; step++) {
        const struct guard_slot *slot = guard_slot_beside(middle, step);
        if (slot == NULL || atomic_load(&slot->state) == GUARD_EMPTY)
            continue;
        ptrdiff_t distance = distance_of(slot, address);
        size_t far = (size_t)(distance < 0 ? -distance : distance);
        if (far < least) {
            least = far;
            best = slot;
        }
    }
    return best;
}

int guard_report_fault(const siginfo_t *info, const void *context) {
    const char *address = info->si_addr;
    if (!guard_owns(address))
        return 0;
    const struct guard_slot *slot = nearest(address);
    ptrdiff_t distance = slot == NULL ? 0 : distance_of(slot, address);
    int freed = slot != NULL && atomic_load(&slot->state) >= GUARD_FREEING;
    if (slot != NULL && distance == 0 && !freed)
        return 0; /* the program has protected pages of a block of its own */
    if (!begin())
        return 0;
    const char *access = guard_stack_access(context);
    if (slot == NULL) {
        kind = "invalid-access";
        guard_put(&text, "%s at %x, where no block is", access, (uintptr_t)address);
    } else {
        kind = freed ? "use-after-free" : distance < 0 ? "underflow" : "overflow";
        guard_put(&text, "%s ", access);
        if (distance == 0)
            guard_put(&text, "at byte %u of ", (size_t)(address - slot->p));
        else
            put_outside(slot, address);
        put_block(slot);
        if (freed)
            guard_put(&text, " that was freed before");
    }
    guard_put(&text, "\n  accessed by thread %u:", (size_t)guard_tid());
    uintptr_t frames[FAULT_FRAMES];
    unsigned depth = guard_stack_interrupted(context, frames, FAULT_FRAMES);
    guard_put_stack(&text, frames, depth);
    tell(slot);
    return 1;
}
