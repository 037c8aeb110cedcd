/*
 * reserve.h - how much room on a file system memopt leaves to the program: where
 * shared memory can't be backed, its owner dies of SIGBUS. Used by whoever chooses the
 * run directory and by the ledgers in it.
 */
#ifndef MO_BASE_RESERVE_H
#define MO_BASE_RESERVE_H

#include <stdint.h>

/* Of that many bytes: a quarter, 64 MiB at most. */
static inline uint64_t mo_reserve(uint64_t size) {
    uint64_t most = UINT64_C(64) << 20;
    return size / 4 < most ? size / 4 : most;
}

#endif
