/* rebind.h - points the program's own jumps to malloc past the shim: rebind.c. */
#ifndef MO_PRELOAD_REBIND_H
#define MO_PRELOAD_REBIND_H

#include <memopt/plugin.h>

/* Jumps of the first `objects` objects lead to `backend` from now on: to its malloc,
 * which needs MEMOPT_ALLOCATOR_C_CALLS, and, if `free_too`, to its free. Call it when
 * dispatch has switched to that backend, in the constructor. */
void mo_rebind(const struct memopt_malloc *backend, size_t objects, bool free_too);

#endif
