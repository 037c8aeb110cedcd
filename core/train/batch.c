/* batch.c - how many samples at a time, see memopt/train.h. */
#include "core/base/error.h"

#include <memopt/train.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MAX = 64 }; /* times grow_after */

struct memopt_batch {
    struct memopt_batch_options options;
    uint64_t at;      /* the first sample of this step that is not done */
    uint64_t piece;   /* samples of the piece that is out; 0: none */
    uint64_t current; /* the size */
    uint64_t ceiling; /* MEMOPT_UNKNOWN: none */
    uint64_t good;    /* steps since the size last changed, or a failure */
    uint64_t quiet;   /* steps since the last failure */
    uint64_t wait;    /* good steps that the next growth takes */
    bool growing;     /* the last change of size was a growth, and not yet a good step */
    bool failing;     /* this step had a failure */
    uint64_t pieces, steps, failures, growths, forgotten;
};

static int check_options(struct memopt_batch_options *o, struct memopt_error *error) {
    if (o->batch == 0 || o->batch > UINT64_C(1) << 53)
        return mo_fail(error, -EINVAL, "a batch of %llu samples; expected 1 to 2^53",
                       (unsigned long long)o->batch);
    if (o->minimum == 0)
        o->minimum = 1;
    if (o->maximum == 0)
        o->maximum = o->batch;
    if (o->start == 0)
        o->start = o->maximum;
    if (o->minimum > o->start || o->start > o->maximum || o->maximum > o->batch)
        return mo_fail(error, -EINVAL,
                       "minimum %llu, start %llu, maximum %llu, batch %llu: each may be at most "
                       "the next",
                       (unsigned long long)o->minimum, (unsigned long long)o->start,
                       (unsigned long long)o->maximum, (unsigned long long)o->batch);
    return 0;
}

int memopt_batch_new(const struct memopt_batch_options *options, struct memopt_batch **ret_batch,
                     struct memopt_error *error) {
    struct memopt_batch_options o = MEMOPT_BATCH_OPTIONS_INIT;
    if (options == NULL || ret_batch == NULL)
        return mo_fail(error, -EINVAL, "memopt_batch_new: options and a result are needed");
    if (options->size < offsetof(struct memopt_batch_options, start) || options->size > sizeof(o))
        return mo_fail(error, -EINVAL, "options of %zu bytes; use MEMOPT_BATCH_OPTIONS_INIT",
                       options->size);
    memcpy(&o, options, options->size);
    int r = check_options(&o, error);
    if (r < 0)
        return r;
    struct memopt_batch *batch = calloc(1, sizeof(*batch));
    if (batch == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    batch->options = o;
    batch->current = o.start;
    batch->ceiling = MEMOPT_UNKNOWN;
    batch->wait = o.grow_after;
    *ret_batch = batch;
    return 0;
}

void memopt_batch_free(struct memopt_batch *batch) {
    free(batch);
}

/* --------------------------------------------------------------------- size */

/* Sizes that cut the batch into as many pieces are the same for it: growing goes
 * on to the next that doesn't. */
static void grow(struct memopt_batch *batch) {
    uint64_t most = batch->options.maximum, last = batch->options.batch - 1;
    uint64_t next = batch->current * 2;
    if (batch->ceiling != MEMOPT_UNKNOWN) {
        if (next >= batch->ceiling)
            next = batch->current + (batch->ceiling - batch->current) / 2;
        if (batch->ceiling - 1 < most)
            most = batch->ceiling - 1;
    }
    if (next > most)
        next = most;
    if (next <= batch->current)
        return;
    uint64_t pieces = last / batch->current + 1;
    if (last / next + 1 == pieces) {
        if (pieces == 1 || (next = last / (pieces - 1) + 1) > most)
            return;
    }
    batch->current = next;
    batch->growths++;
    batch->growing = true;
    batch->good = 0;
}

static void end_step(struct memopt_batch *batch) {
    const struct memopt_batch_options *o = &batch->options;
    batch->steps++;
    batch->at = 0;
    if (batch->failing) {
        batch->failing = false;
        return;
    }
    batch->growing = false;
    batch->good++;
    batch->quiet++;
    if (batch->ceiling != MEMOPT_UNKNOWN && o->forget_after != 0 &&
        batch->quiet >= o->forget_after) {
        batch->ceiling = MEMOPT_UNKNOWN;
        batch->wait = o->grow_after;
        batch->quiet = 0;
        batch->forgotten++;
    }
    if (o->grow_after != 0 && batch->good >= batch->wait)
        grow(batch);
}

/* ------------------------------------------------------------------- pieces */

int memopt_batch_next(struct memopt_batch *batch, struct memopt_batch_piece *piece) {
    if (batch == NULL || piece == NULL ||
        piece->size < offsetof(struct memopt_batch_piece, first) || piece->size > sizeof(*piece))
        return -EINVAL;
    if (batch->at == batch->options.batch) {
        end_step(batch);
        return 0;
    }
    if (batch->piece == 0) {
        uint64_t left = batch->options.batch - batch->at;
        uint64_t pieces = (left - 1) / batch->current + 1;
        batch->piece = (left - 1) / pieces + 1;
    }
    struct memopt_batch_piece all = {
        .size = piece->size,
        .first = batch->at,
        .count = batch->piece,
        .weight = (double)batch->piece / (double)batch->options.batch,
    };
    memcpy(piece, &all, piece->size);
    return 1;
}

void memopt_batch_done(struct memopt_batch *batch) {
    if (batch == NULL || batch->piece == 0)
        return;
    batch->at += batch->piece;
    batch->piece = 0;
    batch->pieces++;
}

int memopt_batch_failed(struct memopt_batch *batch, struct memopt_error *error) {
    if (batch == NULL || batch->piece == 0)
        return mo_fail(error, -EINVAL, "memopt_batch_failed: there is no piece that could have");
    uint64_t minimum = batch->options.minimum;
    if (batch->piece <= minimum)
        return mo_fail(error, -ENOMEM,
                       "no memory for a piece of %llu samples, and %llu are the minimum",
                       (unsigned long long)batch->piece, (unsigned long long)minimum);
    if (batch->growing && batch->wait < (uint64_t)batch->options.grow_after * WAIT_MAX)
        batch->wait *= 2;
    batch->growing = false;
    batch->failing = true;
    batch->failures++;
    batch->good = batch->quiet = 0;
    batch->ceiling = batch->piece;
    batch->current = batch->piece / 2 < minimum ? minimum : batch->piece / 2;
    batch->piece = 0;
    return 0;
}

void memopt_batch_restart(struct memopt_batch *batch) {
    if (batch == NULL)
        return;
    batch->at = batch->piece = 0;
}

int memopt_batch_stats(const struct memopt_batch *batch, struct memopt_batch_statistics *stats) {
    if (batch == NULL || stats == NULL ||
        stats->size < offsetof(struct memopt_batch_statistics, current) ||
        stats->size > sizeof(*stats))
        return -EINVAL;
    struct memopt_batch_statistics all = {
        .size = stats->size,
        .current = batch->current,
        .ceiling = batch->ceiling,
        .pieces = batch->pieces,
        .steps = batch->steps,
        .failures = batch->failures,
        .growths = batch->growths,
        .forgotten = batch->forgotten,
        .wait = batch->wait > batch->good ? batch->wait - batch->good : 0,
    };
    memcpy(stats, &all, stats->size);
    return 0;
}
