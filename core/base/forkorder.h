/*
 * forkorder.h - one order of locks at fork: stdio, then everybody else.
 *
 * glibc's fork runs the atfork handlers and only then takes the lock of the list
 * of stdio streams. A library whose handler takes its own locks (jemalloc,
 * tcmalloc, ours) therefore ends with its own before stdio, while a thread inside
 * fflush(NULL) holds stdio and wants memory: both wait for ever. A handler that
 * is registered after theirs runs before theirs; it takes the stdio lock first,
 * and glibc takes it again, which it may (it is recursive).
 *
 * Used by preload and core/runtime; uses nothing of memopt's. That lock also keeps
 * two threads from running fork handlers at once.
 */
#ifndef MO_BASE_FORKORDER_H
#define MO_BASE_FORKORDER_H

/* For what is written to at each fork, before and after: together on one page, as each page
 * written to after a fork is copied. */
#define MO_WRITTEN_AT_FORK __attribute__((section("memopt_fork")))

/* Puts stdio before every fork handler that is registered by now: call it after
 * each library that may have some, from any thread. Does nothing over another C
 * library. 0, or -ENOMEM. */
int mo_fork_order(void);

#endif
