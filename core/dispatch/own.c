/*
 * own.c - what memopt itself allocates in a program whose allocations are counted, by malloc
 * and for libraries that it calls (dlopen, inih): see dispatch.h.
 *
 * Blocks are a power of two large, taken from what is kept of the boot range; those that are
 * freed wait in a list by size. It is used when heaps are opened and reports made, not
 * often: one flag guards the lists, and who finds it taken (another thread, the code that a
 * signal handler has interrupted) does without them.
 */
#include "core/account/account.h"
#include "core/dispatch/dispatch.h"

#include <errno.h>

enum { SMALLEST = 5, CLASSES = 26 }; /* 32 bytes to 1 GiB */

struct free_block {
    struct free_block *next;
};
static struct free_block *free_blocks[CLASSES];
static atomic_flag taken = ATOMIC_FLAG_INIT;

void mo_own_begin(void) {
    mo_own.inside += MO_IN_MEMOPT;
}

void mo_own_end(void) {
    mo_own.inside -= MO_IN_MEMOPT;
}

void mo_own_forked(void) {
    atomic_flag_clear(&taken);
}

/* The class of blocks of at least `size` bytes. */
static unsigned class_for(size_t size) {
    unsigned bits = size <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(size - 1);
    return bits <= SMALLEST ? 0 : bits - SMALLEST;
}

static struct free_block *take_free(unsigned class) {
    struct free_block *block = NULL;
    if (atomic_flag_test_and_set(&taken))
        return NULL;
    if ((block = free_blocks[class]) != NULL)
        free_blocks[class] = block->next;
    atomic_flag_clear(&taken);
    return block;
}

void *mo_own_alloc(size_t alignment, size_t size) {
    unsigned class = class_for(size);
    if (class >= CLASSES)
        return NULL;
    void *p = alignment <= 16 ? take_free(class) : NULL;
    return p != NULL ? p : mo_boot_take(alignment, (size_t)1 << (class + SMALLEST));
}

void mo_own_free(void *p) {
    size_t size = mo_boot_usable_size(p);
    unsigned class = class_for(size + 1); /* the largest that it is large enough for */
    if (size < (size_t)1 << SMALLEST || class - 1 >= CLASSES || atomic_flag_test_and_set(&taken))
        return;
    struct free_block *block = p;
    block->next = free_blocks[class - 1];
    free_blocks[class - 1] = block;
    atomic_flag_clear(&taken);
}
