/*
 * names.h - the locations of a report get the names of their functions, files and lines.
 *
 * Where the module's file is still the one that it was (core/symbol). Each module is opened
 * once, so this comes last, after all that brings locations.
 */
#ifndef MO_IMPORT_NAMES_H
#define MO_IMPORT_NAMES_H

#include <memopt/report.h>

/* Of all locations that have none. What can't be named stays as it is. */
void mo_names_find(struct memopt_report *report);

#endif
