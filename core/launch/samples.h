/*
 * samples.h - one process's resident sizes over time, and what may be said of them.
 *
 *   mean   weighted by time, between the first sample and the last
 *   rest   the median of the last tenth of the time, of MO_SAMPLES_LEAST samples or more
 *
 * What can't be said is UINT64_MAX. A process has room for MO_SAMPLES_ROOM samples: those
 * that can be in no last tenth any more go first, then every other one.
 */
#ifndef MO_LAUNCH_SAMPLES_H
#define MO_LAUNCH_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

enum { MO_SAMPLES_LEAST = 20, MO_SAMPLES_ROOM = 512 };

struct mo_sample {
    uint64_t time, rss; /* ns, bytes */
};

/* All zero: none yet. */
struct mo_samples {
    struct mo_sample *items; /* the latest ones, in their order */
    size_t count, room;
    uint64_t all; /* how many there were */
    struct mo_sample first, last;
    double area; /* below the line through all of them */
    int missing; /* no memory for one: the median can't be said */
};

/* Not earlier than the one before. A size of 0 is not a sample. */
void mo_samples_add(struct mo_samples *samples, uint64_t time, uint64_t rss);
uint64_t mo_samples_mean(const struct mo_samples *samples);
uint64_t mo_samples_rest(const struct mo_samples *samples);
/* Back to none. */
void mo_samples_clear(struct mo_samples *samples);

#endif
