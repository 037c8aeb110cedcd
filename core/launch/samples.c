/* samples.c - see samples.h. */
#include "core/launch/samples.h"

#include <stdlib.h>
#include <string.h>

/* When the last tenth begins. */
static uint64_t tenth(const struct mo_samples *samples) {
    return samples->last.time - (samples->last.time - samples->first.time) / 10;
}

static void make_room(struct mo_samples *samples) {
    size_t old = 0, kept = 0;
    while (old < samples->count && samples->items[old].time < tenth(samples))
        old++;
    samples->count -= old;
    memmove(samples->items, samples->items + old, samples->count * sizeof(*samples->items));
    if (samples->count <= MO_SAMPLES_ROOM / 2)
        return;
    for (size_t i = 0; i < samples->count; i += 2)
        samples->items[kept++] = samples->items[i];
    samples->count = kept;
}

void mo_samples_add(struct mo_samples *samples, uint64_t time, uint64_t rss) {
    if (rss == 0) /* it has ended, or is on its way into another program */
        return;
    struct mo_sample sample = {time, rss};
    if (samples->all == 0)
        samples->first = sample;
    else
        samples->area +=
            (double)(time - samples->last.time) * ((double)samples->last.rss + (double)rss) / 2;
    samples->last = sample;
    samples->all++;
    if (samples->count == MO_SAMPLES_ROOM)
        make_room(samples);
    if (samples->count == samples->room) {
        size_t room = samples->room == 0 ? 32 : samples->room * 2;
        struct mo_sample *larger = realloc(samples->items, room * sizeof(*larger));
        samples->missing |= larger == NULL;
        if (larger == NULL)
            return;
        samples->items = larger;
        samples->room = room;
    }
    samples->items[samples->count++] = sample;
}

uint64_t mo_samples_mean(const struct mo_samples *samples) {
    uint64_t time = samples->last.time - samples->first.time;
    return time == 0 ? UINT64_MAX : (uint64_t)(samples->area / (double)time + 0.5);
}

static int by_size(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

uint64_t mo_samples_rest(const struct mo_samples *samples) {
    uint64_t sizes[MO_SAMPLES_ROOM];
    size_t count = 0;
    if (samples->all < MO_SAMPLES_LEAST || samples->missing)
        return UINT64_MAX;
    for (size_t i = 0; i < samples->count; i++)
        if (samples->items[i].time >= tenth(samples))
            sizes[count++] = samples->items[i].rss;
    if (count == 0)
        return UINT64_MAX;
    qsort(sizes, count, sizeof(sizes[0]), by_size);
    return sizes[(count - 1) / 2]; /* of an even number the lower one: there was such a size */
}

void mo_samples_clear(struct mo_samples *samples) {
    free(samples->items);
    *samples = (struct mo_samples){0};
}
