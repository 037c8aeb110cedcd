/* operators.h - who serves operator new and delete: operators.c. */
#ifndef MO_PRELOAD_OPERATORS_H
#define MO_PRELOAD_OPERATORS_H

#include <stddef.h>

/* In the constructor: finds the C++ run-time and the program's own operators. */
void mo_operators_start(void);
/* After the switch: from now on operators go straight to the backend where they may. */
struct memopt_malloc;
void mo_operators_go(const struct memopt_malloc *backend);

/* Tells a backend that checks it how the block `p`, or NULL, is about to be freed. */
void mo_freed_by(void *p, size_t size, size_t alignment, unsigned by);

#endif
