/*
 * boot.h - memory for the calls that come before there is a backend.
 *
 * The dynamic loader, other libraries' constructors and our own constructor's
 * dlopen all call malloc before the shim has loaded the backend. They are served
 * from one reserved address range by moving a pointer; nothing of it is ever
 * given back, and free() knows it by one range check.
 *
 * Any thread may call; a reservation is made once. Blocks keep their size in the
 * 16 bytes before them.
 */
#ifndef MO_DISPATCH_BOOT_H
#define MO_DISPATCH_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mo_reserved {
    uintptr_t base;
    size_t size; /* 0: nothing is reserved yet */
};
extern __attribute__((visibility("hidden"))) struct mo_reserved mo_reserved;

static inline bool mo_is_reserved(const void *p) {
    return (uintptr_t)p - mo_reserved.base < mo_reserved.size;
}

/* As plugin.h's struct memopt_malloc has them. */
void *mo_boot_malloc(size_t size);
void *mo_boot_calloc(size_t count, size_t size);
void *mo_boot_realloc(void *p, size_t size);
void mo_boot_free(void *p);
void *mo_boot_aligned_alloc(size_t alignment, size_t size);
size_t mo_boot_usable_size(void *p);
/* There is a backend now: gives the rest of the range back, as the program may
 * have, or set, a limit on its address space. A little is left, for a call that
 * another thread has begun. */
void mo_boot_close(void);
/* Bytes handed out so far. */
uint64_t mo_boot_used(void);
/* If a single block has been handed out so far, by a jump from malloc: its size, and an
 * address in the code that called malloc. Else NULL. */
const void *mo_boot_only_caller(size_t *ret_size);
/* How many objects there were when the first block was handed out, or are now: the
 * executable and what it needs, as dlopen() asks for memory before it loads. */
size_t mo_boot_objects(void);

#endif
