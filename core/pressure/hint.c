/*
 * hint.c - purge hints: see memopt/pressure.h.
 *
 * A step is an atomic addition; everything rarer is under mo_pressure_lock. A
 * purge runs outside it, marked by `busy`, so that a hint has one at a time and
 * others pass by. For every heap the runtime's mutex is held instead, as in
 * memopt_heap_each(): the heaps can't go away meanwhile.
 */
#include "core/pressure/pressure.h"

#include "core/base/error.h"
#include "core/base/proc.h"
#include "core/base/thread.h"
#include "core/pressure/section.h"
#include "core/runtime/notes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHARES = 64 };

struct memopt_purge_hint {
    _Atomic uint64_t steps;
    _Atomic uint64_t last_step; /* mo_clock(); kept where there is an idle time */
    uint64_t every, idle;
    struct memopt_heap **heaps; /* NULL: all */
    size_t heap_count;
    memopt_purge_done_fn done;
    void *context;
    struct memopt_purge_hint *next;
    struct memopt_purge_share *shares; /* the last purge's */
    size_t room;

    /* under mo_pressure_lock */
    int busy;
    uint64_t idle_purged; /* the last_step that an idle purge was for */
    struct memopt_purge_hint_statistics totals;
    int has_thread, stop;
    pthread_t thread;
    pthread_cond_t wake;
};

static struct memopt_purge_hint *hints;

/* -------------------------------------------------------------- one purge */

struct round {
    struct memopt_purge_hint *hint;
    struct memopt_purge_result result;
    struct mo_purge_round turns;
};

uint64_t mo_purge_in_turn(struct mo_purge_round *round, struct memopt_heap *heap, int *ret_shared) {
    int shared = 0;
    if (mo_heap_shares_backend(heap)) {
        for (size_t i = 0; i < round->count; i++)
            shared |= round->purged[i] == heap->backend;
        if (!shared && round->count < sizeof(round->purged) / sizeof(round->purged[0]))
            round->purged[round->count++] = heap->backend;
    }
    *ret_shared = shared;
    return mo_heap_purge(heap, !shared);
}

static void purge_one(struct round *round, struct memopt_heap *heap) {
    int shared;
    uint64_t claimed = mo_purge_in_turn(&round->turns, heap, &shared);
    struct memopt_purge_result *result = &round->result;
    if (result->share_count < round->hint->room) {
        struct memopt_purge_share *share = &round->hint->shares[result->share_count++];
        memcpy(share->name, heap->name, sizeof(share->name));
        share->claimed = claimed;
        share->shared = shared;
    }
    result->claimed += claimed;
    result->heap_count++;
}

static int purge_visited(void *context, struct memopt_heap *heap,
                         const struct memopt_heap_statistics *stats) {
    (void)stats;
    purge_one(context, heap);
    return 0;
}

static uint64_t resident(void) {
    struct mo_proc_memory process;
    return mo_proc_read_memory("/proc", &process) < 0 ? MEMOPT_UNKNOWN : process.resident;
}

/* With `busy` set by the caller. */
static int run(struct round *round) {
    struct memopt_purge_hint *hint = round->hint;
    struct memopt_purge_result *result = &round->result;
    uint64_t began = mo_clock();
    result->resident_before = resident();
    if (hint->heaps != NULL) {
        for (size_t i = 0; i < hint->heap_count; i++)
            purge_one(round, hint->heaps[i]);
    } else {
        if (mo_runtime_enter(NULL, "purge") < 0)
            return -EDEADLK;
        mo_heap_walk(purge_visited, round);
        mo_runtime_leave();
    }
    result->resident_after = resident();
    result->duration = mo_clock() - began;
    result->shares = hint->shares;
    return 0;
}

static void add_up(struct memopt_purge_hint *hint, const struct memopt_purge_result *result) {
    struct memopt_purge_hint_statistics *totals = &hint->totals;
    totals->purges++;
    totals->idle_purges += result->cause == MEMOPT_PURGE_IDLE;
    totals->claimed += result->claimed;
    totals->duration += result->duration;
    if (result->resident_before != MEMOPT_UNKNOWN && result->resident_after != MEMOPT_UNKNOWN)
        totals->resident += (int64_t)(result->resident_before - result->resident_after);
}

/* 1: this thread is to purge. */
static int begin(struct memopt_purge_hint *hint, int cause) {
    int mine = 0;
    pthread_mutex_lock(&mo_pressure_lock);
    uint64_t last = atomic_load_explicit(&hint->last_step, memory_order_relaxed);
    if (!hint->busy && !(cause == MEMOPT_PURGE_IDLE && hint->idle_purged == last)) {
        mine = hint->busy = 1;
        if (cause == MEMOPT_PURGE_IDLE)
            hint->idle_purged = last;
    }
    pthread_mutex_unlock(&mo_pressure_lock);
    return mine;
}

static int purge(struct memopt_purge_hint *hint, int cause,
                 struct memopt_purge_result *ret_result) {
    if (!begin(hint, cause))
        return 0;
    struct round round = {
        .hint = hint,
        .result = {.size = sizeof(round.result),
                   .cause = cause,
                   .step = atomic_load_explicit(&hint->steps, memory_order_relaxed)}};
    int code = run(&round);
    if (code == 0 && hint->done != NULL)
        hint->done(hint->context, &round.result);
    pthread_mutex_lock(&mo_pressure_lock);
    if (code == 0)
        add_up(hint, &round.result);
    hint->busy = 0;
    pthread_mutex_unlock(&mo_pressure_lock);
    if (code < 0)
        return code;
    if (ret_result != NULL) {
        round.result.size = ret_result->size;
        memcpy(ret_result, &round.result, ret_result->size);
    }
    return 1;
}

static int is_idle(struct memopt_purge_hint *hint) {
    uint64_t last = atomic_load_explicit(&hint->last_step, memory_order_relaxed);
    uint64_t now = mo_clock();
    return hint->idle != MEMOPT_PURGE_NEVER && now > last && now - last >= hint->idle;
}

static int result_fits(const struct memopt_purge_result *result) {
    return result == NULL ||
           (result->size >= sizeof(result->size) && result->size <= sizeof(*result));
}

/* ------------------------------------------------------------- the public */

int memopt_purge_hint_step(struct memopt_purge_hint *hint, struct memopt_purge_result *ret_result) {
    if (hint == NULL || !result_fits(ret_result))
        return -EINVAL;
    uint64_t step = atomic_fetch_add_explicit(&hint->steps, 1, memory_order_relaxed) + 1;
    if (hint->idle != MEMOPT_PURGE_NEVER)
        atomic_store_explicit(&hint->last_step, mo_clock(), memory_order_relaxed);
    if (hint->every == MEMOPT_PURGE_NEVER || step % hint->every != 0)
        return 0;
    return purge(hint, MEMOPT_PURGE_STEPS, ret_result);
}

int memopt_purge_hint_idle(struct memopt_purge_hint *hint, struct memopt_purge_result *ret_result) {
    if (hint == NULL || !result_fits(ret_result))
        return -EINVAL;
    return is_idle(hint) ? purge(hint, MEMOPT_PURGE_IDLE, ret_result) : 0;
}

int memopt_purge_hint_now(struct memopt_purge_hint *hint, struct memopt_purge_result *ret_result) {
    if (hint == NULL || !result_fits(ret_result))
        return -EINVAL;
    return purge(hint, MEMOPT_PURGE_NOW, ret_result);
}

int memopt_purge_hint_stats(struct memopt_purge_hint *hint,
                            struct memopt_purge_hint_statistics *stats) {
    if (hint == NULL || stats == NULL || stats->size < sizeof(stats->size) ||
        stats->size > sizeof(*stats))
        return -EINVAL;
    pthread_mutex_lock(&mo_pressure_lock);
    struct memopt_purge_hint_statistics all = hint->totals;
    pthread_mutex_unlock(&mo_pressure_lock);
    all.size = stats->size;
    all.steps = atomic_load_explicit(&hint->steps, memory_order_relaxed);
    memcpy(stats, &all, stats->size);
    return 0;
}

/* ------------------------------------------------- beginning and ending */

/* The opt-in thread: looks again when the idle time can have passed. */
static void *watch_idleness(void *context) {
    struct memopt_purge_hint *hint = context;
    pthread_mutex_lock(&mo_pressure_lock);
    while (!hint->stop) {
        uint64_t last = atomic_load_explicit(&hint->last_step, memory_order_relaxed);
        uint64_t deadline = last + hint->idle;
        if (mo_clock() >= deadline) {
            if (hint->idle_purged != last && !hint->busy) {
                pthread_mutex_unlock(&mo_pressure_lock);
                memopt_purge_hint_idle(hint, NULL);
                pthread_mutex_lock(&mo_pressure_lock);
                continue;
            }
            deadline = mo_clock() + hint->idle;
        }
        mo_condition_wait(&hint->wake, &mo_pressure_lock, deadline);
    }
    pthread_mutex_unlock(&mo_pressure_lock);
    return NULL;
}

static int check(const struct memopt_purge_hint_options *options, struct memopt_error *error) {
    if ((options->heaps == NULL) != (options->heap_count == 0))
        return mo_fail(error, -EINVAL,
                       "a purge hint's heaps and heap_count must be given together");
    for (size_t i = 0; i < options->heap_count; i++)
        if (options->heaps[i] == NULL)
            return mo_fail(error, -EINVAL, "a purge hint's heap number %zu is NULL", i);
    if (options->heap_count > SIZE_MAX / sizeof(struct memopt_purge_share))
        return mo_fail(error, -EINVAL, "a purge hint's heap_count is %zu", options->heap_count);
    return 0;
}

/* What the options leave to the INI. */
static int fill_in(struct memopt_purge_hint_options *options, struct memopt_error *error) {
    int code = mo_runtime_enter(error, "make a purge hint");
    if (code < 0)
        return code;
    struct mo_settings_pressure settings;
    code = mo_runtime_start(error);
    if (code == 0)
        code = mo_pressure_at_fork(error);
    if (code == 0)
        code = mo_config_fill(mo_runtime_config("pressure"), "pressure",
                              mo_section_pressure.table, &settings, error);
    mo_runtime_leave();
    if (code < 0)
        return code;
    if (options->every == 0)
        options->every =
            settings.purge_every > 0 ? (uint64_t)settings.purge_every : MEMOPT_PURGE_NEVER;
    if (options->idle == 0)
        options->idle = settings.purge_idle; /* unset is NEVER */
    if (options->idle != MEMOPT_PURGE_NEVER && options->idle > INT64_MAX)
        return mo_fail(error, -EINVAL, "a purge hint's idle time is %" PRIu64 " ns, too long",
                       options->idle);
    if (options->background && options->idle == MEMOPT_PURGE_NEVER)
        return mo_fail(error, -EINVAL,
                       "a purge hint with a background thread needs an idle time: set idle, or "
                       "purge_idle in [pressure]");
    return 0;
}

static void free_hint(struct memopt_purge_hint *hint) {
    pthread_cond_destroy(&hint->wake);
    free(hint->heaps);
    free(hint->shares);
    free(hint);
}

static struct memopt_purge_hint *make(const struct memopt_purge_hint_options *options) {
    struct memopt_purge_hint *hint = calloc(1, sizeof(*hint));
    if (hint == NULL)
        return NULL;
    if (mo_condition_init(&hint->wake) < 0) {
        free(hint);
        return NULL;
    }
    hint->every = options->every;
    hint->idle = options->idle;
    hint->done = options->done;
    hint->context = options->context;
    hint->last_step = mo_clock();
    hint->room = options->heaps == NULL ? SHARES : options->heap_count;
    hint->shares = calloc(hint->room, sizeof(*hint->shares));
    if (options->heaps != NULL) {
        hint->heap_count = options->heap_count;
        hint->heaps = malloc(options->heap_count * sizeof(*hint->heaps));
        if (hint->heaps != NULL)
            memcpy(hint->heaps, options->heaps, options->heap_count * sizeof(*hint->heaps));
    }
    if (hint->shares == NULL || (options->heaps != NULL && hint->heaps == NULL)) {
        free_hint(hint);
        return NULL;
    }
    return hint;
}

static void enlist(struct memopt_purge_hint *hint) {
    pthread_mutex_lock(&mo_pressure_lock);
    hint->next = hints;
    hints = hint;
    pthread_mutex_unlock(&mo_pressure_lock);
}

static void delist(struct memopt_purge_hint *hint) {
    pthread_mutex_lock(&mo_pressure_lock);
    struct memopt_purge_hint **at = &hints;
    while (*at != hint)
        at = &(*at)->next;
    *at = hint->next;
    pthread_mutex_unlock(&mo_pressure_lock);
}

int memopt_purge_hint_new(const struct memopt_purge_hint_options *given,
                          struct memopt_purge_hint **ret_hint, struct memopt_error *error) {
    struct memopt_purge_hint_options options = MEMOPT_PURGE_HINT_OPTIONS_INIT;
    if (ret_hint == NULL)
        return mo_fail(error, -EINVAL, "memopt_purge_hint_new: a result is needed");
    if (given != NULL) {
        if (given->size < sizeof(given->size) || given->size > sizeof(options))
            return mo_fail(error, -EINVAL,
                           "a purge hint's options have size %zu: begin with "
                           "MEMOPT_PURGE_HINT_OPTIONS_INIT",
                           given->size);
        memcpy(&options, given, given->size);
    }
    int code = check(&options, error);
    if (code == 0)
        code = fill_in(&options, error);
    if (code < 0)
        return code;
    struct memopt_purge_hint *hint = make(&options);
    if (hint == NULL)
        return mo_fail(error, -ENOMEM, "out of memory for a purge hint");
    enlist(hint);
    if (options.background) {
        mo_runtime_own_begin();
        code = mo_thread_start(&hint->thread, watch_idleness, hint);
        mo_runtime_own_end();
        if (code < 0) {
            delist(hint);
            free_hint(hint);
            return mo_fail(error, code, "can't start a purge hint's thread: %s", strerror(-code));
        }
        pthread_mutex_lock(&mo_pressure_lock);
        hint->has_thread = 1;
        pthread_mutex_unlock(&mo_pressure_lock);
    }
    *ret_hint = hint;
    return 0;
}

static void say_totals(const struct memopt_purge_hint_statistics *totals) {
    char text[256];
    snprintf(text, sizeof(text),
             "purge hint: %" PRIu64 " purge%s in %" PRIu64
             " step%s; purgers and backends say %" PRIu64
             " bytes came back, resident memory %s by %" PRIu64 " bytes",
             totals->purges, totals->purges == 1 ? "" : "s", totals->steps,
             totals->steps == 1 ? "" : "s", totals->claimed, totals->resident < 0 ? "rose" : "fell",
             totals->resident < 0 ? -(uint64_t)totals->resident : (uint64_t)totals->resident);
    mo_event("purge", text);
}

void memopt_purge_hint_free(struct memopt_purge_hint *hint) {
    if (hint == NULL)
        return;
    pthread_mutex_lock(&mo_pressure_lock);
    int has_thread = hint->has_thread;
    hint->stop = 1;
    pthread_cond_signal(&hint->wake);
    pthread_mutex_unlock(&mo_pressure_lock);
    if (has_thread)
        pthread_join(hint->thread, NULL);
    struct memopt_purge_hint_statistics totals = MEMOPT_PURGE_HINT_STATISTICS_INIT;
    memopt_purge_hint_stats(hint, &totals);
    if (totals.purges > 0)
        say_totals(&totals);
    delist(hint);
    free_hint(hint);
}

void mo_purge_fork_child(void) {
    for (struct memopt_purge_hint *hint = hints; hint != NULL; hint = hint->next) {
        hint->has_thread = hint->busy = 0;
        mo_condition_init(&hint->wake); /* somebody may have been waiting in it */
    }
}
