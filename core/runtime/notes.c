/* notes.c - notes and events: see notes.h. */
#include "core/runtime/notes.h"

#include "core/base/sysmem.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { NOTES_MAX = 256 };

/* Newest first. */
struct kept {
    struct kept *next;
    struct mo_note note;
    char text[];
};
static _Atomic(struct kept *) notes;
static _Atomic unsigned note_count;
static _Atomic(mo_note_fn) event_sink; /* set once, by the library's start */

uint64_t mo_notes_clock(void) {
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void keep(int level, const char *kind, const char *text) {
    size_t size = strlen(text) + 1;
    struct kept *kept = NULL;
    if (atomic_fetch_add(&note_count, 1) < NOTES_MAX)
        kept = mo_sys_alloc(sizeof(*kept) + size);
    if (kept == NULL)
        return;
    memcpy(kept->text, text, size);
    kept->note = (struct mo_note){
        .level = level,
        .kind = kind == NULL ? NULL : mo_sys_strdup(kind),
        .time = mo_notes_clock(),
        .text = kept->text,
    };
    kept->next = atomic_load(&notes);
    while (!atomic_compare_exchange_weak(&notes, &kept->next, kept))
        ;
}

mo_note_fn mo_notes_sink(const struct mo_program_services *services) {
    return services != NULL && services->note != NULL ? services->note : keep;
}

void mo_events_go_to(mo_note_fn sink) {
    atomic_store(&event_sink, sink);
}

void mo_event(const char *kind, const char *text) {
    mo_note_fn sink = atomic_load(&event_sink);
    if (sink != NULL)
        sink(MEMOPT_NOTE_ERROR, kind, text);
}

int mo_notes_each(mo_note_visit_fn visit, void *context) {
    const struct mo_note *in_order[NOTES_MAX];
    size_t count = 0;
    int result = 0;
    for (const struct kept *kept = atomic_load(&notes); kept != NULL; kept = kept->next)
        in_order[count++] = &kept->note;
    while (count > 0 && result == 0)
        result = visit(context, in_order[--count]);
    return result;
}
