/*
 * model.h - what the parts of core/model share: a report that is being built.
 *
 * struct memopt_report is all that reporters see; the builder around it knows
 * how much room its arrays have. Used by core/model, core/import, core/render and, for what
 * it sees from outside, by core/launch.
 */
#ifndef MO_MODEL_MODEL_H
#define MO_MODEL_MODEL_H

#include "core/model/arena.h"
#include "core/model/report.h"

struct mo_model {
    struct memopt_report report; /* first: a report is its model */
    struct mo_arena arena;
    struct memopt_process *processes; /* report.processes, writable */
    size_t process_room;
    struct memopt_note *notes;
    size_t note_room;
    char main_name[16]; /* the kernel's name of the main process when its ledger was begun */
    char *said;         /* of each note: whether it is on the terminal already */
    size_t said_room;
    const char **retold; /* texts of events that nobody has seen yet */
    size_t retold_count, retold_room;
};

static inline struct mo_model *mo_model_of(struct memopt_report *report) {
    return (struct mo_model *)report;
}

int mo_model_is_retold(const struct mo_model *model, const char *text);

/* A new process at the end of the report's, all unknown; NULL: out of memory.
 * Pointers got earlier are then those of an outdated copy. */
struct memopt_process *mo_model_add_process(struct mo_model *model);

#endif
