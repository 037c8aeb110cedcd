/*
 * faults.h - what the watched program could say of a fault, for people.
 *
 * An event's text may have lines of a stack, and of the build ids of its modules:
 *
 *     #N PATH+0xOFFSET
 *   build-id HEX PATH
 *
 * The former become "#N FUNCTION at FILE:LINE", or "#N FUNCTION (PATH)"; the latter go
 * where a module's frames have names. What can't be named stays as it is.
 */
#ifndef MO_IMPORT_FAULTS_H
#define MO_IMPORT_FAULTS_H

#include <memopt/report.h>

/* In all events of the report. What fails for want of memory stays as it is, too. */
void mo_faults_name(struct memopt_report *report);

#endif
