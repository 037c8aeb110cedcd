/*
 * spill.h - blocks of a heap in mappings of a file: the step `spill`.
 *
 *     segment   a MAP_SHARED mapping of a range of the heap's file
 *     run       pages of a segment that are one block, or free
 *
 * Blocks of a mebibyte and more, and those aligned to more than a page, have a
 * segment each, which goes when the block is freed; smaller ones share segments
 * of 4 MiB. The bookkeeping is in memory of its own, so that free pages of the
 * file are never touched, and can be poisoned.
 *
 * The file is unlinked (O_TMPFILE), on a file system that has a disk below it:
 * spilling into tmpfs would free nothing. Its space is allocated before it is
 * mapped, so writing to a block never fails for want of room.
 *
 * heap.c decides when to spill and counts blocks; their bytes are counted here.
 * A pointer is known as spilled by its address: a spilling heap has operations
 * whose usable_size and destroy look here first.
 *
 * Used by heap.c and open.c. Any thread; a lock per heap (core/runtime/fork.h).
 */
#ifndef MO_HEAP_SPILL_H
#define MO_HEAP_SPILL_H

#include "core/heap/heap.h"

/* Requests of this size and more are spilled at once while the watch over the
 * process says so; smaller ones would waste too much of their pages. */
enum { MO_SPILL_AT_ONCE = 64 * 1024 };

/* Makes the heap one that can spill; its operations must be set, and it is not the
 * default heap. `limit`: bytes, or UINT64_MAX. */
int mo_spill_open(struct memopt_heap *heap, const char *directory, uint64_t limit,
                  struct memopt_error *error);

/* NULL: no room, on the disk, in the address space or in `limit`. */
void *mo_spill_alloc(struct memopt_heap *heap, size_t size, size_t alignment, int zeroed);
/* 1: it was a spilled block, and is freed; 0: it is none. */
int mo_spill_free(struct memopt_heap *heap, void *p);
int mo_spill_owns(struct memopt_heap *heap, void *p);
/* Fills spilled_bytes, spilled_blocks, spills. */
void mo_spill_stats(struct memopt_heap *heap, struct memopt_heap_statistics *stats);

#endif
