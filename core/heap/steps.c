/*
 * steps.c - what follows when a step is taken, at a heap's limit or by the watch over the
 * process: it is counted, told to the program's callback, and reported. The consumers, who
 * shrink (see memopt/pressure.h).
 */
#include "core/heap/heap.h"

#include "core/base/error.h"
#include "core/base/thread.h"
#include "core/runtime/notes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

pthread_mutex_t mo_steps_lock = PTHREAD_MUTEX_INITIALIZER;

struct consumer {
    struct memopt_heap *heap; /* NULL: any */
    memopt_pressure_consumer_fn function;
    void *context;
};

/* under mo_steps_lock */
static struct consumer consumers[MEMOPT_PRESSURE_CONSUMERS];
static size_t consumer_count;
static memopt_pressure_fn callback;
static void *callback_context;

static _Atomic uint64_t steps_taken[MO_HEAP_EVENTS];    /* in this process */
static _Atomic uint64_t process_events[MO_HEAP_EVENTS]; /* that no heap has */

/* ------------------------------------------------------------------ events */

static const char *const kinds[MO_HEAP_EVENTS] = {
    [MEMOPT_PRESSURE_PURGE] = "purge", [MEMOPT_PRESSURE_SHRINK] = "shrink",
    [MEMOPT_PRESSURE_SPILL] = "spill", [MEMOPT_PRESSURE_FAIL] = "enomem",
    [MEMOPT_PRESSURE_RELAX] = "relax",
};
static const char *const levels[] = {"calm", "warn", "high", "critical", "full"};

static const char *source_name(int source) {
    switch (source) {
    case MEMOPT_PRESSURE_LIMIT:
        return "limit";
    case MEMOPT_PRESSURE_BACKEND:
        return "backend";
    case MEMOPT_PRESSURE_HEAP:
        return "heap";
    case MEMOPT_PRESSURE_RSS:
        return "rss";
    case MEMOPT_PRESSURE_ADDRESS:
        return "address_space";
    case MEMOPT_PRESSURE_CGROUP:
        return "cgroup";
    default:
        return "psi";
    }
}

/* "4096 of 8192 bytes", "12.5 % of the time" */
static int print_used(char *text, size_t size, const struct memopt_pressure_event *event,
                      uint64_t used) {
    if (event->source == MEMOPT_PRESSURE_PSI)
        return snprintf(text, size, "%.1f %% of the time waiting", (double)used / 1e4);
    if (event->limit == MEMOPT_NO_LIMIT)
        return snprintf(text, size, "%" PRIu64 " bytes", used);
    return snprintf(text, size, "%" PRIu64 " of %" PRIu64 " bytes", used, event->limit);
}

/* Into the report: the 1st, 2nd, 4th, 8th ... */
static void note(const struct memopt_pressure_event *event) {
    _Atomic uint64_t *counter =
        event->heap != NULL ? &event->heap->events[event->step] : &process_events[event->step];
    uint64_t number = atomic_fetch_add_explicit(counter, 1, memory_order_relaxed) + 1;
    if ((number & (number - 1)) != 0)
        return;
    char text[512], before[80], after[80];
    print_used(before, sizeof(before), event, event->before);
    print_used(after, sizeof(after), event, event->after);
    size_t used = 0;
    int is_request =
        event->source == MEMOPT_PRESSURE_LIMIT || event->source == MEMOPT_PRESSURE_BACKEND;
#define ADD(...)                                                                                   \
    do {                                                                                           \
        int length = snprintf(text + used, sizeof(text) - used, __VA_ARGS__);                      \
        used += length > 0 ? (size_t)length : 0;                                                   \
        used = used < sizeof(text) ? used : sizeof(text) - 1;                                      \
    } while (0)
    if (event->heap != NULL)
        ADD("heap '%s', ", event->heap->name);
    if (is_request)
        ADD("at its %s: %" PRIu64 " bytes wanted, live %s", source_name(event->source),
            event->wanted, before);
    else
        ADD("%s %s: %s", source_name(event->source), levels[event->level], before);
    if (event->step != MEMOPT_PRESSURE_FAIL && event->after != event->before)
        ADD(", then %s", after);
    if (event->freed > 0)
        ADD(", %" PRIu64 " freed", event->freed);
    if (is_request)
        ADD(event->served                         ? "; served"
            : event->step == MEMOPT_PRESSURE_FAIL ? "; refused"
                                                  : "; not served");
    if (number > 1)
        ADD(" (number %" PRIu64 ")", number);
#undef ADD
    mo_event(kinds[event->step], text);
}

/* A function of the program's, told of an event. */
#define CALL(...)                                                                                  \
    do {                                                                                           \
        int nested = mo_heap_in_hook;                                                              \
        mo_heap_in_hook = 1;                                                                       \
        __VA_ARGS__;                                                                               \
        mo_heap_in_hook = nested;                                                                  \
    } while (0)

void mo_step_say(struct memopt_pressure_event *event) {
    int saved = errno;
    event->time = mo_clock();
    atomic_fetch_add_explicit(&steps_taken[event->step], 1, memory_order_relaxed);
    pthread_mutex_lock(&mo_steps_lock);
    memopt_pressure_fn function = callback;
    void *context = callback_context;
    pthread_mutex_unlock(&mo_steps_lock);
    note(event);
    if (function != NULL)
        CALL(function(context, event));
    errno = saved;
}

void memopt_pressure_set_callback(memopt_pressure_fn function, void *context) {
    pthread_mutex_lock(&mo_steps_lock);
    callback = function;
    callback_context = context;
    pthread_mutex_unlock(&mo_steps_lock);
}

void mo_step_counts(struct memopt_pressure_statistics *stats) {
    uint64_t *const counts[MO_HEAP_EVENTS] = {
        [MEMOPT_PRESSURE_PURGE] = &stats->purges,  [MEMOPT_PRESSURE_SHRINK] = &stats->shrinks,
        [MEMOPT_PRESSURE_SPILL] = &stats->spills,  [MEMOPT_PRESSURE_FAIL] = &stats->fails,
        [MEMOPT_PRESSURE_RELAX] = &stats->relaxes,
    };
    for (int step = MEMOPT_PRESSURE_PURGE; step < MO_HEAP_EVENTS; step++)
        *counts[step] = atomic_load_explicit(&steps_taken[step], memory_order_relaxed);
}

/* --------------------------------------------------------------- consumers */

uint64_t mo_step_consult(struct memopt_pressure_event *event) {
    struct consumer called[MEMOPT_PRESSURE_CONSUMERS];
    size_t count = 0;
    uint64_t freed = 0;
    event->time = mo_clock();
    pthread_mutex_lock(&mo_steps_lock);
    for (size_t i = 0; i < consumer_count; i++)
        if (event->heap == NULL || consumers[i].heap == NULL || consumers[i].heap == event->heap)
            called[count++] = consumers[i];
    pthread_mutex_unlock(&mo_steps_lock);
    for (size_t i = 0; i < count; i++)
        CALL(freed += called[i].function(called[i].context, event));
    return freed;
}

static size_t find(const struct memopt_heap *heap, memopt_pressure_consumer_fn function,
                   const void *context) {
    size_t i = 0;
    while (i < consumer_count && (consumers[i].heap != heap || consumers[i].function != function ||
                                  consumers[i].context != context))
        i++;
    return i;
}

static void take_out(size_t i) {
    memmove(&consumers[i], &consumers[i + 1], (--consumer_count - i) * sizeof(consumers[0]));
}

int memopt_pressure_add_consumer(struct memopt_heap *heap, memopt_pressure_consumer_fn consumer,
                                 void *context, struct memopt_error *error) {
    if (consumer == NULL)
        return mo_fail(error, -EINVAL, "a consumer needs a function");
    int code = 0;
    pthread_mutex_lock(&mo_steps_lock);
    if (find(heap, consumer, context) < consumer_count)
        code = mo_fail(error, -EEXIST, "this consumer is there already");
    else if (consumer_count == MEMOPT_PRESSURE_CONSUMERS)
        code = mo_fail(error, -ENOSPC, "there are %d consumers already, the most there can be",
                       MEMOPT_PRESSURE_CONSUMERS);
    else
        consumers[consumer_count++] = (struct consumer){heap, consumer, context};
    pthread_mutex_unlock(&mo_steps_lock);
    return code;
}

int memopt_pressure_remove_consumer(struct memopt_heap *heap, memopt_pressure_consumer_fn consumer,
                                    void *context, struct memopt_error *error) {
    if (consumer == NULL)
        return mo_fail(error, -EINVAL, "a consumer needs a function");
    int code = 0;
    pthread_mutex_lock(&mo_steps_lock);
    size_t i = find(heap, consumer, context);
    if (i == consumer_count)
        code = mo_fail(error, -ENOENT, "there is no such consumer");
    else
        take_out(i);
    pthread_mutex_unlock(&mo_steps_lock);
    return code;
}

void mo_step_forget(const struct memopt_heap *heap) {
    pthread_mutex_lock(&mo_steps_lock);
    for (size_t i = consumer_count; i-- > 0;)
        if (consumers[i].heap == heap)
            take_out(i);
    pthread_mutex_unlock(&mo_steps_lock);
}
