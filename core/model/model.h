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

/* Elements of which no two are equal (core/model/build.c). The elements are the arena's, the
 * slots, by which they are found, malloc's. */
struct mo_table {
    void *items;
    size_t count, room, size; /* size: of an element */
    struct mo_table_slot {
        uint64_t hash;
        uint32_t number; /* of the element, from 1; 0: the slot is free */
    } * slots;
    size_t slot_count; /* a power of two, or 0 */
};

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
    struct mo_table texts, modules, functions, locations, stacks;
    struct memopt_value_type *value_types;
    size_t value_type_room;
    struct memopt_sample *samples;
    size_t sample_room;
};

static inline struct mo_model *mo_model_of(struct memopt_report *report) {
    return (struct mo_model *)report;
}

/* Room for one more element of an array in the arena; the old array stays
 * readable. Returns the array, or NULL: out of memory. */
void *mo_model_grow(struct memopt_report *report, void *array, size_t count, size_t *room,
                    size_t size);

/* A new process at the end of the report's, all unknown; NULL: out of memory.
 * Pointers got earlier are then those of an outdated copy. */
struct memopt_process *mo_model_add_process(struct mo_model *model);

#endif
