/*
 * sysmem.h - memory for memopt's own use inside the watched program.
 *
 * Nothing memopt does for itself may go through the backend it measures, so
 * this takes pages from the kernel and hands them out by moving a pointer.
 * Nothing is ever freed: it is for what lives as long as the process (plugins'
 * descriptors, settings, heaps). Any thread, any time; not in signal handlers.
 */
#ifndef MO_BASE_SYSMEM_H
#define MO_BASE_SYSMEM_H

#include <stddef.h>

/* Zeroed, 16-byte aligned; NULL: the kernel gave none. */
void *mo_sys_alloc(size_t size);
char *mo_sys_strdup(const char *text);

#endif
