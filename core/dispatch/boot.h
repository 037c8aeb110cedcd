/*
 * boot.h - memory for the calls that come before there is a backend.
 *
 * The dynamic loader, other libraries' constructors and our own constructor's
 * dlopen all call malloc before the shim has loaded the backend. They are served
 * from one reserved address range, downwards from its end; only the last block can be taken
 * back.
 *
 * The range is mapped while the program starts, so it lies right below the libraries, and
 * what the backend maps afterwards lies below the range: whether a block may be one of the
 * range's is one compare with where the range begins (dispatch.h, boot_from). What lies
 * above it is looked at more closely (mo_is_reserved). Where the kernel maps upwards (with
 * an unlimited stack), that is almost every block: right, only slower.
 *
 * Any thread may call; a reservation is made once. Blocks keep their size in the
 * 16 bytes before them.
 */
#ifndef MO_DISPATCH_BOOT_H
#define MO_DISPATCH_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool mo_is_reserved(const void *p);

/* As plugin.h's struct memopt_malloc has them. */
void *mo_boot_malloc(size_t size);
void *mo_boot_calloc(size_t count, size_t size);
void *mo_boot_realloc(void *p, size_t size);
void mo_boot_free(void *p);
void *mo_boot_aligned_alloc(size_t alignment, size_t size);
size_t mo_boot_usable_size(void *p);
/* As aligned_alloc, but NULL where the range has no room: the backend is not asked. */
void *mo_boot_take(size_t alignment, size_t size);
/* There is a backend now: gives what is left of the range back but for `keep` bytes, as the
 * program may have, or set, a limit on its address space. A little is left in any case, for
 * a call that another thread has begun. Returns where the range begins from now on. */
uintptr_t mo_boot_close(size_t keep);
/* Bytes handed out so far. */
uint64_t mo_boot_used(void);
/* How many objects there were when the first block was handed out, or are now: the
 * executable and what it needs, as dlopen() asks for memory before it loads. */
size_t mo_boot_objects(void);

#endif
