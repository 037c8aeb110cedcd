/*
 * monitor.c - the watch over the process: reads the sources, knows their levels,
 * takes the steps and takes them back (memopt/pressure.h says which and when).
 *
 *   1. levels
 *   2. steps
 *   3. a poll
 *   4. beginning and ending
 *   5. fork
 *
 * What the sources say is in sources.c.
 *
 * There is one watch. One thread at a time polls (`busy`); what it works on is
 * its own then, and mo_pressure_lock is held only to become or cease to be that
 * thread. A heap's own level and stages are in the heap, and belong to the
 * polling thread, too.
 *
 * A stage is a step that was taken and not yet taken back. For every heap the
 * runtime's mutex is held while the heaps are walked, as in memopt_heap_each();
 * a list needs none.
 */
#include "core/pressure/pressure.h"

#include "core/base/error.h"
#include "core/base/thread.h"
#include "core/pressure/section.h"
#include "core/pressure/sources.h"
#include "core/runtime/fork.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

pthread_mutex_t mo_pressure_lock = PTHREAD_MUTEX_INITIALIZER;

static const int source_ids[MO_SOURCES] = {
    [MO_SOURCE_RSS] = MEMOPT_PRESSURE_RSS,
    [MO_SOURCE_ADDRESS] = MEMOPT_PRESSURE_ADDRESS,
    [MO_SOURCE_CGROUP] = MEMOPT_PRESSURE_CGROUP,
    [MO_SOURCE_PSI] = MEMOPT_PRESSURE_PSI,
};

struct watch {
    struct memopt_pressure_options options; /* complete, but for `heaps` */
    struct memopt_heap **heaps;             /* NULL: all */
    struct mo_sources sources;
    struct mo_reading readings[MO_SOURCES];
    unsigned there; /* sources, or-ed */
    int stages;     /* 1 << step */
    uint64_t polls;
    struct mo_reading top; /* of the last poll */
    int top_source;
    /* under mo_pressure_lock */
    int busy, stop, has_thread;
    pthread_t thread;
    pthread_cond_t wake;
};

static _Atomic(struct watch *) current;
static _Atomic uint64_t next_poll; /* mo_clock() */
static _Atomic int level_now;

/* -------------------------------------------------------------- 1. levels */

static int level_at(double part, const double thresholds[3], int can_be_full) {
    if (part >= 1 && can_be_full)
        return MEMOPT_PRESSURE_FULL;
    int level = MEMOPT_PRESSURE_CRITICAL;
    while (level > MEMOPT_PRESSURE_CALM && part < thresholds[level - 1])
        level--;
    return level;
}

/* The level, which falls only when the figure is below by the hysteresis. */
static int next_level(const struct watch *watch, int source, const struct mo_reading *reading,
                      int level) {
    const struct memopt_pressure_options *o = &watch->options;
    const double memory[3] = {o->warn, o->high, o->critical};
    const double time[3] = {o->psi_warn, o->psi_high, o->psi_critical};
    const double *thresholds = source == MO_SOURCE_PSI ? time : memory;
    if (reading->limit == 0)
        return MEMOPT_PRESSURE_CALM;
    double part = (double)reading->used / (double)reading->limit;
    int up = level_at(part, thresholds, source != MO_SOURCE_PSI);
    int down = level_at(part + o->hysteresis, thresholds, source != MO_SOURCE_PSI);
    return up > level ? up : down < level ? down : level;
}

static void read_sources(struct watch *watch) {
    for (int source = 0; source < MO_SOURCES; source++) {
        if (!(watch->options.sources & (unsigned)source_ids[source]))
            continue;
        struct mo_reading *reading = &watch->readings[source];
        mo_source_read(&watch->sources, source, reading);
        reading->level = next_level(watch, source, reading, reading->level);
    }
}

/* The level at which a step is due. */
static int due_at(int step) {
    return step; /* PURGE at WARN ... FAIL at FULL: the enumerations run alike */
}
_Static_assert(MEMOPT_PRESSURE_PURGE == (int)MEMOPT_PRESSURE_WARN &&
                   MEMOPT_PRESSURE_SHRINK == (int)MEMOPT_PRESSURE_HIGH &&
                   MEMOPT_PRESSURE_SPILL == (int)MEMOPT_PRESSURE_CRITICAL &&
                   MEMOPT_PRESSURE_FAIL == (int)MEMOPT_PRESSURE_FULL,
               "due_at() is the identity");

/* The source with the highest level that the step can do something about. */
static int worst_source(const struct watch *watch, int step) {
    int worst = -1;
    for (int source = 0; source < MO_SOURCES; source++)
        if (watch->options.sources & (unsigned)source_ids[source] &&
            !(step == MEMOPT_PRESSURE_SPILL && source == MO_SOURCE_ADDRESS) &&
            (worst < 0 || watch->readings[source].level > watch->readings[worst].level))
            worst = source;
    return worst;
}

/* --------------------------------------------------------------- 2. steps */

/* `visit` for each heap of the watch. */
static void each_heap(struct watch *watch,
                      void (*visit)(struct watch *, struct memopt_heap *, void *), void *context);

struct visit {
    struct watch *watch;
    void (*visit)(struct watch *, struct memopt_heap *, void *);
    void *context;
};

static int visit_one(void *context, struct memopt_heap *heap,
                     const struct memopt_heap_statistics *stats) {
    (void)stats;
    struct visit *visit = context;
    visit->visit(visit->watch, heap, visit->context);
    return 0;
}

static void each_heap(struct watch *watch,
                      void (*visit)(struct watch *, struct memopt_heap *, void *), void *context) {
    if (watch->heaps != NULL) {
        for (size_t i = 0; i < watch->options.heap_count; i++)
            visit(watch, watch->heaps[i], context);
        return;
    }
    struct visit all = {watch, visit, context};
    if (mo_runtime_enter(NULL, "poll") < 0)
        return; /* memopt_pressure_poll() has seen to it */
    mo_heap_walk(visit_one, &all);
    mo_runtime_leave();
}

/* The heap's modes follow from its stages and the process's. */
static void set_modes(struct memopt_heap *heap, int stages) {
    int mode = atomic_load_explicit(&heap->mode, memory_order_relaxed);
    int want = 0;
    stages |= heap->watch_stages;
    if (stages & 1 << MEMOPT_PRESSURE_SPILL && mode & MO_HEAP_SPILLS)
        want |= MO_HEAP_SPILLING;
    if (stages & 1 << MEMOPT_PRESSURE_FAIL && mode & MO_HEAP_LIMITED)
        want |= MO_HEAP_FROZEN;
    int wrong = (mode & (MO_HEAP_SPILLING | MO_HEAP_FROZEN)) ^ want;
    if (wrong != 0) /* no other thread changes these two */
        atomic_fetch_xor_explicit(&heap->mode, wrong, memory_order_relaxed);
}

static void apply(struct watch *watch, struct memopt_heap *heap, void *context) {
    (void)context;
    set_modes(heap, watch->stages);
}

struct purging {
    struct mo_purge_round round;
    uint64_t freed;
};

static void purge(struct watch *watch, struct memopt_heap *heap, void *context) {
    struct purging *purging = context;
    int shared;
    (void)watch;
    purging->freed += mo_purge_in_turn(&purging->round, heap, &shared);
}

static struct memopt_pressure_event event_of(int step, int source,
                                             const struct mo_reading *reading) {
    return (struct memopt_pressure_event){
        .size = sizeof(struct memopt_pressure_event),
        .source = source,
        .level = reading->level,
        .step = step,
        .before = reading->used,
        .limit = reading->limit,
    };
}

/* For the process. */
static void take_step(struct watch *watch, int step, int source) {
    struct mo_reading *reading = &watch->readings[source];
    struct memopt_pressure_event event = event_of(step, source_ids[source], reading);
    struct purging purging = {.freed = 0};
    watch->stages |= 1 << step;
    switch (step) {
    case MEMOPT_PRESSURE_PURGE:
        each_heap(watch, purge, &purging);
        event.freed = purging.freed;
        break;
    case MEMOPT_PRESSURE_SHRINK:
        event.freed = mo_step_consult(&event);
        break;
    case MEMOPT_PRESSURE_SPILL: /* from now on; then consumers spill what they have */
        each_heap(watch, apply, NULL);
        event.freed = mo_step_consult(&event);
        break;
    case MEMOPT_PRESSURE_FAIL:
        each_heap(watch, apply, NULL);
        break;
    }
    mo_source_read(&watch->sources, source, reading);
    event.after = reading->used;
    event.served = next_level(watch, source, reading, reading->level) < reading->level;
    mo_step_say(&event);
}

static void take_back(struct watch *watch, int step, int source) {
    struct mo_reading none = {0, 0, 0};
    struct memopt_pressure_event event =
        event_of(MEMOPT_PRESSURE_RELAX, source < 0 ? MEMOPT_PRESSURE_RSS : source_ids[source],
                 source < 0 ? &none : &watch->readings[source]);
    watch->stages &= ~(1 << step);
    if (step == MEMOPT_PRESSURE_SPILL || step == MEMOPT_PRESSURE_FAIL)
        each_heap(watch, apply, NULL);
    if (event.level >= due_at(step)) /* the watch ends */
        event.level = due_at(step) - 1;
    if (step == MEMOPT_PRESSURE_SHRINK)
        mo_step_consult(&event);
    event.after = event.before;
    event.served = 1;
    mo_step_say(&event);
}

/* Rounds of: read, take back what is no longer due, take the next step that is. */
enum { ROUNDS = 8 };

static void watch_process(struct watch *watch) {
    for (int round = 0; round < ROUNDS; round++) {
        read_sources(watch);
        for (int step = MEMOPT_PRESSURE_FAIL; step >= MEMOPT_PRESSURE_PURGE; step--) {
            int source = worst_source(watch, step);
            if (watch->stages & 1 << step &&
                (source < 0 || watch->readings[source].level < due_at(step)))
                take_back(watch, step, source);
        }
        int step = MEMOPT_PRESSURE_PURGE, source = -1;
        for (; step <= MEMOPT_PRESSURE_FAIL; step++) {
            source = worst_source(watch, step);
            if (source >= 0 && watch->options.steps & 1u << step && !(watch->stages & 1 << step) &&
                watch->readings[source].level >= due_at(step))
                break;
        }
        if (step > MEMOPT_PRESSURE_FAIL)
            return;
        take_step(watch, step, source);
    }
}

/* ------------------------------------------------------- and for one heap */

static struct mo_reading read_heap(struct memopt_heap *heap) {
    struct memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    struct mo_reading reading = {.level = heap->watch_level};
    uint64_t limit = atomic_load_explicit(&heap->central->limit, memory_order_relaxed);
    mo_count_read(heap, &stats);
    reading.used = stats.live_bytes;
    reading.limit = limit == MEMOPT_NO_LIMIT ? 0 : limit;
    return reading;
}

static void take_heap_step(struct watch *watch, struct memopt_heap *heap, int step,
                           const struct mo_reading *reading) {
    struct memopt_pressure_event event = event_of(step, MEMOPT_PRESSURE_HEAP, reading);
    event.heap = heap;
    heap->watch_stages |= 1 << step;
    if (step == MEMOPT_PRESSURE_PURGE) {
        event.freed = mo_heap_purge(heap, 1);
    } else {
        set_modes(heap, watch->stages);
        event.freed = mo_step_consult(&event);
    }
    struct mo_reading then = read_heap(heap);
    event.after = then.used;
    event.served = next_level(watch, -1, &then, reading->level) < reading->level;
    mo_step_say(&event);
}

static void take_back_heap(struct watch *watch, struct memopt_heap *heap, int step,
                           const struct mo_reading *reading) {
    struct memopt_pressure_event event =
        event_of(MEMOPT_PRESSURE_RELAX, MEMOPT_PRESSURE_HEAP, reading);
    event.heap = heap;
    event.after = event.before;
    event.served = 1;
    heap->watch_stages &= ~(1 << step);
    set_modes(heap, watch->stages);
    if (event.level >= due_at(step))
        event.level = due_at(step) - 1;
    if (step == MEMOPT_PRESSURE_SHRINK)
        mo_step_consult(&event);
    mo_step_say(&event);
}

/* What a full heap does is the heap's affair: on_limit. */
static void watch_heap(struct watch *watch, struct memopt_heap *heap, void *context) {
    (void)context;
    set_modes(heap, watch->stages);
    if (!(watch->options.sources & MEMOPT_PRESSURE_HEAP))
        return;
    for (int round = 0; round < ROUNDS; round++) {
        struct mo_reading reading = read_heap(heap);
        heap->watch_level = reading.level = next_level(watch, -1, &reading, heap->watch_level);
        for (int step = MEMOPT_PRESSURE_SPILL; step >= MEMOPT_PRESSURE_PURGE; step--)
            if (heap->watch_stages & 1 << step && reading.level < due_at(step))
                take_back_heap(watch, heap, step, &reading);
        int step = MEMOPT_PRESSURE_PURGE;
        while (step <= MEMOPT_PRESSURE_SPILL &&
               (!(watch->options.steps & 1u << step) || heap->watch_stages & 1 << step ||
                reading.level < due_at(step)))
            step++;
        if (step > MEMOPT_PRESSURE_SPILL)
            return;
        take_heap_step(watch, heap, step, &reading);
    }
}

static void leave_heap(struct watch *watch, struct memopt_heap *heap, void *context) {
    (void)context;
    struct mo_reading reading = read_heap(heap);
    for (int step = MEMOPT_PRESSURE_SPILL; step >= MEMOPT_PRESSURE_PURGE; step--)
        if (heap->watch_stages & 1 << step)
            take_back_heap(watch, heap, step, &reading);
    heap->watch_level = MEMOPT_PRESSURE_CALM;
    set_modes(heap, 0);
}

/* -------------------------------------------------------------- 3. a poll */

static void poll_now(struct watch *watch) {
    watch_process(watch);
    each_heap(watch, watch_heap, NULL);
    int top = worst_source(watch, MEMOPT_PRESSURE_PURGE);
    pthread_mutex_lock(&mo_pressure_lock);
    watch->polls++;
    if (top >= 0) {
        watch->top = watch->readings[top];
        watch->top_source = source_ids[top];
        atomic_store(&level_now, watch->top.level);
    }
    watch->busy = 0;
    pthread_mutex_unlock(&mo_pressure_lock);
}

int memopt_pressure_poll(void) {
    struct watch *watch = atomic_load(&current);
    if (watch == NULL)
        return -ENOENT;
    uint64_t now = mo_clock();
    if (now < atomic_load_explicit(&next_poll, memory_order_relaxed))
        return atomic_load(&level_now);
    if (watch->heaps == NULL) { /* inside memopt_heap_each()? */
        if (mo_runtime_enter(NULL, "poll") < 0)
            return -EDEADLK;
        mo_runtime_leave();
    }
    pthread_mutex_lock(&mo_pressure_lock);
    int mine = !watch->busy && now >= atomic_load(&next_poll);
    if (mine) {
        watch->busy = 1;
        atomic_store(&next_poll, now + watch->options.interval);
    }
    pthread_mutex_unlock(&mo_pressure_lock);
    if (mine)
        poll_now(watch);
    return atomic_load(&level_now);
}

int memopt_pressure_stats(struct memopt_pressure_statistics *stats) {
    if (stats == NULL || stats->size < sizeof(stats->size) || stats->size > sizeof(*stats))
        return -EINVAL;
    struct memopt_pressure_statistics all = MEMOPT_PRESSURE_STATISTICS_INIT;
    mo_step_counts(&all);
    if (atomic_load(&current) != NULL) { /* else the lock may have no fork handlers yet */
        pthread_mutex_lock(&mo_pressure_lock);
        struct watch *watch = atomic_load(&current);
        if (watch != NULL) {
            all.level = watch->top.level;
            all.source = watch->top_source;
            all.sources = watch->there;
            all.used = watch->top.used;
            all.limit = watch->top.limit;
            all.polls = watch->polls;
        }
        pthread_mutex_unlock(&mo_pressure_lock);
    }
    all.size = stats->size;
    memcpy(stats, &all, stats->size);
    return 0;
}

/* ------------------------------------------------ 4. beginning and ending */

static void *poll_in_background(void *context) {
    struct watch *watch = context;
    pthread_mutex_lock(&mo_pressure_lock);
    while (!watch->stop) {
        uint64_t next = atomic_load(&next_poll);
        if (mo_clock() < next || watch->busy) {
            uint64_t soon = mo_clock() + watch->options.interval;
            mo_condition_wait(&watch->wake, &mo_pressure_lock, watch->busy ? soon : next);
            continue;
        }
        pthread_mutex_unlock(&mo_pressure_lock);
        memopt_pressure_poll();
        pthread_mutex_lock(&mo_pressure_lock);
    }
    pthread_mutex_unlock(&mo_pressure_lock);
    return NULL;
}

static int is_part(double value) {
    return isfinite(value) && value > 0 && value <= 1;
}

static int check(const struct memopt_pressure_options *o, struct memopt_error *error) {
    const struct {
        const char *name;
        double value;
    } parts[] = {{"warn", o->warn},
                 {"high", o->high},
                 {"critical", o->critical},
                 {"psi_warn", o->psi_warn},
                 {"psi_high", o->psi_high},
                 {"psi_critical", o->psi_critical},
                 {"hysteresis", o->hysteresis}};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (!is_part(parts[i].value))
            return mo_fail(error, -EINVAL, "pressure: %s is %g, not within 0 .. 1", parts[i].name,
                           parts[i].value);
    if (o->warn > o->high || o->high > o->critical)
        return mo_fail(error, -EINVAL,
                       "pressure: warn %g, high %g, critical %g: they must not fall", o->warn,
                       o->high, o->critical);
    if (o->psi_warn > o->psi_high || o->psi_high > o->psi_critical)
        return mo_fail(error, -EINVAL,
                       "pressure: psi_warn %g, psi_high %g, psi_critical %g: they must not fall",
                       o->psi_warn, o->psi_high, o->psi_critical);
    const unsigned sources = MEMOPT_PRESSURE_HEAP | MEMOPT_PRESSURE_RSS | MEMOPT_PRESSURE_ADDRESS |
                             MEMOPT_PRESSURE_CGROUP | MEMOPT_PRESSURE_PSI;
    if (o->sources == 0 || (o->sources & ~sources) != 0)
        return mo_fail(error, -EINVAL, "pressure: sources is %#x, not some of %#x", o->sources,
                       sources);
    const unsigned steps = 1u << MEMOPT_PRESSURE_PURGE | 1u << MEMOPT_PRESSURE_SHRINK |
                           1u << MEMOPT_PRESSURE_SPILL | 1u << MEMOPT_PRESSURE_FAIL;
    if ((o->steps & ~steps) != 0)
        return mo_fail(error, -EINVAL, "pressure: steps is %#x, not some of %#x", o->steps, steps);
    if (o->interval > (uint64_t)INT64_MAX)
        return mo_fail(error, -EINVAL, "pressure: interval is %" PRIu64 " ns, too long",
                       o->interval);
    if ((o->heaps == NULL) != (o->heap_count == 0) ||
        o->heap_count > SIZE_MAX / sizeof(o->heaps[0]))
        return mo_fail(error, -EINVAL, "pressure: heaps and heap_count must be given together");
    for (size_t i = 0; i < o->heap_count; i++)
        if (o->heaps[i] == NULL)
            return mo_fail(error, -EINVAL, "pressure: heap number %zu is NULL", i);
    return 0;
}

/* What the options leave open is the INI's. */
static void fill_in(struct memopt_pressure_options *o, const struct mo_settings_pressure *ini) {
    static const struct {
        const char *name;
        unsigned bit;
    } words[] = {{"heap", MEMOPT_PRESSURE_HEAP},
                 {"rss", MEMOPT_PRESSURE_RSS},
                 {"address_space", MEMOPT_PRESSURE_ADDRESS},
                 {"cgroup", MEMOPT_PRESSURE_CGROUP},
                 {"psi", MEMOPT_PRESSURE_PSI},
                 {"purge", 1u << MEMOPT_PRESSURE_PURGE},
                 {"shrink", 1u << MEMOPT_PRESSURE_SHRINK},
                 {"spill", 1u << MEMOPT_PRESSURE_SPILL},
                 {"fail", 1u << MEMOPT_PRESSURE_FAIL}};
    const struct {
        double *value;
        double ini;
    } parts[] = {{&o->warn, ini->warn},
                 {&o->high, ini->high},
                 {&o->critical, ini->critical},
                 {&o->psi_warn, ini->psi_warn},
                 {&o->psi_high, ini->psi_high},
                 {&o->psi_critical, ini->psi_critical},
                 {&o->hysteresis, ini->hysteresis}};
    const struct {
        unsigned *bits;
        const struct memopt_list *list;
    } lists[] = {{&o->sources, &ini->sources}, {&o->steps, &ini->steps}};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (*parts[i].value == 0)
            *parts[i].value = parts[i].ini;
    for (size_t i = 0; i < 2; i++)
        if (*lists[i].bits == 0)
            for (size_t k = 0; k < lists[i].list->count; k++)
                for (size_t w = 0; w < sizeof(words) / sizeof(words[0]); w++)
                    if (strcmp(lists[i].list->items[k], words[w].name) == 0)
                        *lists[i].bits |= words[w].bit;
    if (o->budget == 0)
        o->budget = ini->budget;
    if (o->interval == 0)
        o->interval = ini->interval;
}

static int complete(struct memopt_pressure_options *options, struct memopt_error *error) {
    int code = mo_runtime_enter(error, "watch memory pressure");
    if (code < 0)
        return code;
    struct mo_settings_pressure ini;
    code = mo_runtime_start(error);
    if (code == 0)
        code = mo_pressure_at_fork(error);
    if (code == 0)
        code = mo_config_fill(mo_runtime_config("pressure"), "pressure",
                              mo_section_pressure.table, &ini, error);
    if (code == 0)
        fill_in(options, &ini); /* the lists belong to the configuration */
    mo_runtime_leave();
    return code < 0 ? code : check(options, error);
}

static void free_watch(struct watch *watch) {
    pthread_cond_destroy(&watch->wake);
    free(watch->heaps);
    free(watch);
}

static struct watch *make(const struct memopt_pressure_options *options) {
    struct watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL)
        return NULL;
    if (mo_condition_init(&watch->wake) < 0) {
        free(watch);
        return NULL;
    }
    watch->options = *options;
    if (options->heaps != NULL) {
        watch->heaps = malloc(options->heap_count * sizeof(struct memopt_heap *));
        if (watch->heaps == NULL) {
            free_watch(watch);
            return NULL;
        }
        memcpy(watch->heaps, options->heaps, options->heap_count * sizeof(struct memopt_heap *));
    }
    watch->options.heaps = NULL;
    return watch;
}

/* Leaves out the sources that are not there. */
static int find_sources(struct watch *watch, struct memopt_error *error) {
    for (int source = 0; source < MO_SOURCES; source++) {
        struct mo_reading reading;
        mo_source_read(&watch->sources, source, &reading);
        if (reading.limit != 0)
            watch->there |= (unsigned)source_ids[source];
    }
    watch->there = (watch->there | MEMOPT_PRESSURE_HEAP) & watch->options.sources;
    if (watch->there == 0)
        return mo_fail(error, -ENOTSUP,
                       "pressure: none of the sources is there: no limit of the address space or "
                       "the cgroup, no /proc/pressure");
    return 0;
}

int memopt_pressure_start(const struct memopt_pressure_options *given, struct memopt_error *error) {
    struct memopt_pressure_options options = MEMOPT_PRESSURE_OPTIONS_INIT;
    if (given != NULL) {
        if (given->size < sizeof(given->size) || given->size > sizeof(options))
            return mo_fail(error, -EINVAL,
                           "pressure: the options' size is %zu: begin with "
                           "MEMOPT_PRESSURE_OPTIONS_INIT",
                           given->size);
        memcpy(&options, given, given->size);
    }
    int code = complete(&options, error);
    if (code < 0)
        return code;
    struct watch *watch = make(&options);
    if (watch == NULL)
        return mo_fail(error, -ENOMEM, "pressure: out of memory for the watch");
    if (mo_sources_find(&watch->sources, options.proc == NULL ? "/proc" : options.proc,
                        options.budget) < 0)
        code = mo_fail(error, -ENAMETOOLONG, "pressure: the path of proc is too long");
    if (code == 0)
        code = find_sources(watch, error);
    if (code < 0) {
        free_watch(watch);
        return code;
    }
    struct watch *nobody = NULL;
    if (!atomic_compare_exchange_strong(&current, &nobody, watch)) {
        free_watch(watch);
        return mo_fail(error, -EALREADY,
                       "pressure: the watch has begun already: stop it to begin another");
    }
    atomic_store(&level_now, MEMOPT_PRESSURE_CALM);
    atomic_store(&next_poll, 0);
    if (options.background) {
        mo_runtime_own_begin();
        code = mo_thread_start(&watch->thread, poll_in_background, watch);
        mo_runtime_own_end();
        if (code < 0) {
            atomic_store(&current, NULL);
            free_watch(watch);
            return mo_fail(error, code, "pressure: can't start a thread: %s", strerror(-code));
        }
        pthread_mutex_lock(&mo_pressure_lock);
        watch->has_thread = 1;
        pthread_mutex_unlock(&mo_pressure_lock);
    }
    return 0;
}

int memopt_pressure_stop(void) {
    struct watch *watch = atomic_load(&current);
    if (watch == NULL)
        return -ENOENT;
    if (mo_runtime_enter(NULL, "stop") < 0)
        return -EDEADLK;
    mo_runtime_leave();
    pthread_mutex_lock(&mo_pressure_lock);
    int has_thread = watch->has_thread;
    watch->stop = watch->busy = 1;
    pthread_cond_signal(&watch->wake);
    pthread_mutex_unlock(&mo_pressure_lock);
    if (has_thread)
        pthread_join(watch->thread, NULL);
    for (int step = MEMOPT_PRESSURE_FAIL; step >= MEMOPT_PRESSURE_PURGE; step--)
        if (watch->stages & 1 << step)
            take_back(watch, step, worst_source(watch, step));
    each_heap(watch, leave_heap, NULL);
    pthread_mutex_lock(&mo_pressure_lock);
    atomic_store(&current, NULL);
    pthread_mutex_unlock(&mo_pressure_lock);
    free_watch(watch);
    return 0;
}

/* ------------------------------------------------------------------ 5. fork */

static void watch_fork_child(void) {
    struct watch *watch = atomic_load(&current);
    if (watch == NULL)
        return;
    watch->has_thread = watch->busy = 0;
    mo_condition_init(&watch->wake);
}

static void before_fork(void) {
    mo_fork_lock(&mo_pressure_lock);
}

static void after_fork(int in_child) {
    if (in_child && mo_fork_locks()) {
        mo_purge_fork_child();
        watch_fork_child();
    }
    mo_fork_unlock(&mo_pressure_lock);
}

int mo_pressure_at_fork(struct memopt_error *error) {
    static const struct mo_fork_hooks hooks = {
        .rank = MO_FORK_PRESSURE, .before = before_fork, .after = after_fork};
    return mo_fork_register(&hooks, error);
}
