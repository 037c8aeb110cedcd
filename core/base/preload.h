/*
 * preload.h - LD_PRELOAD as the list that ld.so makes of it, and which entries of it
 * are memopt's.
 *
 * memopt run puts its own into LD_PRELOAD and their paths into MEMOPT_PRELOADED, which
 * reads "PID:PATH" or "PID:PATH:PATH": PID is memopt's, the paths have no separators
 * (core/launch/plan.c sees to that). Others may put theirs before, behind and between
 * them later (fakeroot does), so nothing but the path says whose an entry is.
 *
 * Allocates nothing: it also runs inside watched programs.
 */
#ifndef MO_BASE_PRELOAD_H
#define MO_BASE_PRELOAD_H

#include <stddef.h>

/* ld.so splits at these. */
#define MO_PRELOAD_SEPARATORS " :"

/* The next entry at or after `list`, NULL: no more; its length is what it returns there. */
const char *mo_preload_next(const char *list, size_t *ret_length);

/* Takes memopt's entries, as `preloaded` (the value of MEMOPT_PRELOADED) has them, out of
 * `list` (that of LD_PRELOAD), in place; the rest stays as it was. A path that is in
 * `preloaded` once goes once, and that is the first: the same library behind it was the
 * user's. */
void mo_preload_forget(char *list, const char *preloaded);

#endif
