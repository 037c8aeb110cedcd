/* run.c - a pass forward and back by a plan of checkpoints, see memopt/train.h. */
#include "core/base/error.h"

#include <memopt/train.h>

#include <errno.h>

struct run {
    const struct memopt_checkpoint_calls *calls;
    void *context;
    const unsigned char *keep;
    size_t count;
};

/* The kept layer before `layer`, or 0, the input. */
static size_t kept_before(const struct run *run, size_t layer) {
    do
        layer--;
    while (layer > 0 && !run->keep[layer - 1]);
    return layer;
}

/* On an error what is there of a segment, from `first` to `last`, and all that is
 * kept before it. */
static void release_all(const struct run *run, size_t first, size_t last) {
    for (size_t i = last; i > 0; i--)
        if (i >= first || run->keep[i - 1])
            run->calls->release(run->context, i);
}

static int forward(const struct run *run) {
    for (size_t i = 1; i <= run->count; i++) {
        int r = run->calls->forward(run->context, i);
        if (r != 0) {
            release_all(run, i - 1, i - 1);
            return r;
        }
        if (i > 1 && !run->keep[i - 2])
            run->calls->release(run->context, i - 1);
    }
    return 0;
}

/* From kept layer `p` to kept layer `q`. */
static int segment(const struct run *run, size_t p, size_t q) {
    for (size_t i = p + 1; i < q; i++) {
        int r = run->calls->forward(run->context, i);
        if (r != 0) {
            run->calls->release(run->context, q);
            release_all(run, p + 1, i - 1);
            return r;
        }
    }
    for (size_t i = q; i > p; i--) {
        int r = run->calls->backward(run->context, i);
        if (r != 0) {
            release_all(run, p + 1, i);
            return r;
        }
        run->calls->release(run->context, i);
    }
    return 0;
}

int memopt_checkpoint_run(size_t count, const unsigned char *keep,
                          const struct memopt_checkpoint_calls *calls, void *context,
                          struct memopt_error *error) {
    if (count == 0 || count > MEMOPT_LAYERS_MAX)
        return mo_fail(error, -EINVAL, "%zu layers; expected 1 to %u", count, MEMOPT_LAYERS_MAX);
    if (keep == NULL || keep[count - 1] == 0)
        return mo_fail(error, -EINVAL, "the plan does not keep the last layer, %zu", count);
    if (calls == NULL || calls->size < sizeof(*calls) || calls->forward == NULL ||
        calls->backward == NULL || calls->release == NULL)
        return mo_fail(error, -EINVAL,
                       "memopt_checkpoint_run: forward, backward and release are needed");
    struct run run = {calls, context, keep, count};
    int r = forward(&run);
    for (size_t q = count; r == 0 && q > 0; q = kept_before(&run, q))
        r = segment(&run, kept_before(&run, q), q);
    return r;
}
