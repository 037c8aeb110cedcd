/*
 * notes.h - what plugins note and what happens in libmemopt, for the report.
 *
 * Under memopt run both go into the process's ledger at once; else they are kept here, the
 * first 256, for memopt_report(). Any thread, any lock held; they allocate no memory of the
 * program's.
 */
#ifndef MO_RUNTIME_NOTES_H
#define MO_RUNTIME_NOTES_H

#include "core/dispatch/services.h"
#include "core/plugin/registry.h"

/* An event in the process's report; `kind` as in memopt/plugin.h. Before the library has
 * started it is dropped. */
void mo_event(const char *kind, const char *text);

struct mo_note {
    int level;
    const char *kind; /* of an event, or NULL */
    uint64_t time;    /* ns since boot, as the kernel has the start of a process */
    const char *text;
};
typedef int (*mo_note_visit_fn)(void *context, const struct mo_note *note);
/* Visits what is kept, oldest first, until `visit` returns other than 0; returns that. */
int mo_notes_each(mo_note_visit_fn visit, void *context);
uint64_t mo_notes_clock(void); /* the clock of their times */

/* For runtime.c: where notes go, and that events go there from now on. */
mo_note_fn mo_notes_sink(const struct mo_program_services *services);
void mo_events_go_to(mo_note_fn sink);

#endif
