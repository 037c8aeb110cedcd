/*
 * workers.c - threads that wait for work. They are started once; a run wakes
 * them, everybody takes the next index until there are none, and the caller
 * waits for the last. Nothing is allocated in a run.
 *
 * Workers block all signals: a program's handlers run in its own threads. After
 * a fork the child has none of them: it starts its own at its first run.
 */
#include "core/optim/optim.h"

#include "core/base/error.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

struct mo_workers {
    struct memopt_heap *heap;
    unsigned count; /* besides the caller */
    unsigned running;
    pid_t pid; /* of the process whose threads they are */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    uint64_t round; /* which run it is */
    int ending;
    unsigned busy; /* workers that have not finished the run */
    mo_work_fn run;
    void *context;
    size_t work;
    _Atomic size_t next;
    pthread_t threads[];
};

unsigned mo_cpu_count(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 0;
    return count > 0 ? (unsigned)count : 1;
}

static void take_all(struct mo_workers *workers) {
    size_t index;
    while ((index = atomic_fetch_add_explicit(&workers->next, 1, memory_order_relaxed)) <
           workers->work)
        workers->run(workers->context, index);
}

static void *worker_main(void *argument) {
    struct mo_workers *workers = argument;
    uint64_t seen = 0;
    pthread_mutex_lock(&workers->lock);
    for (;;) {
        while (workers->round == seen && !workers->ending)
            pthread_cond_wait(&workers->wake, &workers->lock);
        if (workers->ending)
            break;
        seen = workers->round;
        pthread_mutex_unlock(&workers->lock);
        take_all(workers);
        pthread_mutex_lock(&workers->lock);
        if (--workers->busy == 0)
            pthread_cond_signal(&workers->done);
    }
    pthread_mutex_unlock(&workers->lock);
    return NULL;
}

static void end_threads(struct mo_workers *workers) {
    pthread_mutex_lock(&workers->lock);
    workers->ending = 1;
    pthread_cond_broadcast(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
    for (unsigned i = 0; i < workers->running; i++)
        pthread_join(workers->threads[i], NULL);
    workers->running = 0;
}

static int start_threads(struct mo_workers *workers, struct memopt_error *error) {
    sigset_t all, old;
    int code = 0;
    workers->pid = getpid();
    workers->running = 0;
    workers->round = 0;
    workers->ending = 0;
    workers->busy = 0;
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->wake, NULL);
    pthread_cond_init(&workers->done, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (workers->running < workers->count && code == 0) {
        code = pthread_create(&workers->threads[workers->running], NULL, worker_main, workers);
        if (code == 0)
            workers->running++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (code == 0)
        return 0;
    end_threads(workers);
    workers->pid = 0; /* try again */
    return mo_fail(error, -code, "can't start %u worker threads: %s", workers->count,
                   strerror(code));
}

int mo_workers_create(struct memopt_heap *heap, unsigned threads, struct mo_workers **ret_workers,
                      struct memopt_error *error) {
    unsigned count = threads - 1;
    struct mo_workers *workers =
        memopt_heap_calloc(heap, 1, sizeof(*workers) + count * sizeof(workers->threads[0]));
    if (workers == NULL)
        return mo_fail(error, -ENOMEM, "no memory for %u worker threads in heap '%s'", count,
                       memopt_heap_name(heap));
    workers->heap = heap;
    workers->count = count;
    int code = start_threads(workers, error);
    if (code < 0) {
        memopt_heap_free(heap, workers);
        return code;
    }
    *ret_workers = workers;
    return 0;
}

void mo_workers_destroy(struct mo_workers *workers) {
    if (workers == NULL)
        return;
    if (workers->pid == getpid())
        end_threads(workers);
    memopt_heap_free(workers->heap, workers);
}

int mo_workers_ready(struct mo_workers *workers, struct memopt_error *error) {
    return workers->count == 0 || workers->pid == getpid() ? 0 : start_threads(workers, error);
}

void mo_workers_run(struct mo_workers *workers, size_t count, mo_work_fn run, void *context) {
    if (workers->running == 0 || count < 2) {
        for (size_t i = 0; i < count; i++)
            run(context, i);
        return;
    }
    pthread_mutex_lock(&workers->lock);
    workers->run = run;
    workers->context = context;
    workers->work = count;
    atomic_store_explicit(&workers->next, 0, memory_order_relaxed);
    workers->busy = workers->running;
    workers->round++;
    pthread_cond_broadcast(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
    take_all(workers);
    pthread_mutex_lock(&workers->lock);
    while (workers->busy != 0)
        pthread_cond_wait(&workers->done, &workers->lock);
    pthread_mutex_unlock(&workers->lock);
}
