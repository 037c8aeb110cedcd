/* rebind.h - points the program's own jumps to malloc and free past the shim's, at what
 * the table has: rebind.c. Both are called in the constructor. */
#ifndef MO_PRELOAD_REBIND_H
#define MO_PRELOAD_REBIND_H

/* First of all: looks at what has been going on before there was a backend. */
void mo_rebind_prepare(void);
/* After the switch. `backend` is an address in the allocator, which is left alone. */
void mo_rebind(const void *backend);

#endif
