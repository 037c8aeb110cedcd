/*
 * test_lazy.c - lazy state: built once, by whoever comes first; errors, recursion,
 * many threads, fork.
 */
#include "tests/object.h"

#include <semaphore.h>
#include <signal.h>

#if HAVE_VALGRIND_MEMCHECK_H
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

struct table {
    int number;
    int squares[100];
};

static atomic_int builds, ends;
static int fail_times; /* so many builds fail first */

static int build_table(void *context, void *value, struct memopt_error *ret_error) {
    struct table *table = value;
    int number = atomic_fetch_add(&builds, 1) + 1;
    if (number <= fail_times) {
        ret_error->code = -EIO;
        snprintf(ret_error->message, sizeof(ret_error->message), "attempt %d fails", number);
        return -EIO;
    }
    table->number = context == NULL ? number : *(int *)context;
    for (int i = 0; i < 100; i++)
        table->squares[i] = i * i;
    return 0;
}

static void end_table(void *context, void *value) {
    (void)context;
    assert_int_equal(((struct table *)value)->squares[9], 81);
    atomic_fetch_add(&ends, 1);
}

static struct memopt_lazy new_lazy(memopt_lazy_build_fn build) {
    struct memopt_lazy lazy = MEMOPT_LAZY_INIT(sizeof(struct table), build, end_table, NULL);
    lazy.heap = heap;
    builds = ends = 0;
    fail_times = 0;
    memset(&error, 0, sizeof(error));
    return lazy;
}

static atomic_int slow_builds, waits;

/* The first fails, when another thread has had the time to wait for it. */
static int fail_slowly(void *context, void *value, struct memopt_error *ret_error) {
    (void)context, (void)value;
    if (atomic_fetch_add(&slow_builds, 1) > 0)
        return 0;
    while (!atomic_load(&waits))
        usleep(100);
    usleep(2000);
    ret_error->code = -EIO;
    return -EIO;
}

static void *wait_for_another(void *context) {
    struct memopt_lazy *lazy = context;
    struct memopt_error why;
    void *value = NULL;
    while (atomic_load(&slow_builds) == 0)
        usleep(100);
    atomic_store(&waits, 1);
    int code = memopt_lazy_get(lazy, &value, &why);
    return code == 0 && value == NULL ? "0 without a value" : NULL;
}

/* Whoever waited for a build that failed may wake up after the next one succeeded and
 * was reset. */
static void a_late_waiter_gets_a_value_or_an_error(void **state) {
    (void)state;
    for (int i = 0; i < 10; i++) {
        struct memopt_lazy lazy = MEMOPT_LAZY_INIT(sizeof(struct table), fail_slowly, NULL, NULL);
        void *value, *wrong;
        pthread_t thread;
        lazy.heap = heap;
        slow_builds = waits = 0;
        assert_int_equal(pthread_create(&thread, NULL, wait_for_another, &lazy), 0);
        assert_int_equal(memopt_lazy_get(&lazy, &value, &error), -EIO);
        assert_int_equal(memopt_lazy_get(&lazy, &value, &error), 0);
        assert_int_equal(memopt_lazy_reset(&lazy, &error), 0);
        pthread_join(thread, &wrong);
        assert_null(wrong);
        assert_int_equal(memopt_lazy_destroy(&lazy, &error), 0);
    }
}

static void it_is_built_at_the_first_use(void **state) {
    (void)state;
    struct memopt_lazy lazy = new_lazy(build_table);
    void *value = NULL, *again = NULL;
    assert_null(memopt_lazy_peek(&lazy));
    assert_int_equal(builds, 0);
    assert_int_equal(memopt_lazy_get(&lazy, &value, &error), 0);
    assert_int_equal((uintptr_t)value % 16, 0);
    assert_int_equal(((struct table *)value)->squares[7], 49);
    assert_int_equal(memopt_lazy_get(&lazy, &again, &error), 0);
    assert_ptr_equal(again, value);
    assert_ptr_equal(memopt_lazy_peek(&lazy), value);
    assert_int_equal(builds, 1);

    assert_int_equal(memopt_lazy_reset(&lazy, &error), 0);
    assert_int_equal(ends, 1);
    assert_null(memopt_lazy_peek(&lazy));
    assert_int_equal(live_blocks(), 1); /* kept for the next */
    assert_int_equal(memopt_lazy_reset(&lazy, &error), 0);
    assert_int_equal(ends, 1);
    assert_int_equal(memopt_lazy_get(&lazy, &value, &error), 0);
    assert_int_equal(((struct table *)value)->number, 2);

    assert_int_equal(memopt_lazy_destroy(&lazy, &error), 0);
    assert_int_equal(ends, 2);
    assert_int_equal(live_blocks(), 0);
    assert_int_equal(memopt_lazy_destroy(&lazy, &error), 0);
    assert_int_equal(memopt_lazy_destroy(NULL, &error), 0);
    assert_int_equal(ends, 2);
}

static struct memopt_lazy static_lazy =
    MEMOPT_LAZY_INIT(sizeof(struct table), build_table, NULL, NULL);

static void it_may_be_static_and_in_the_default_heap(void **state) {
    (void)state;
    void *value = NULL;
    fail_times = 0;
    assert_int_equal(memopt_lazy_get(&static_lazy, &value, NULL), 0);
    assert_int_equal(((struct table *)value)->squares[3], 9);
    assert_int_equal(memopt_lazy_destroy(&static_lazy, NULL), 0);
}

static void bad_input_is_refused(void **state) {
    (void)state;
    struct memopt_lazy good = new_lazy(build_table);
    struct memopt_lazy bad[4] = {good, good, good, good};
    bad[0].build = NULL;
    bad[1].value_size = 0;
    bad[2].flags = 2;
    bad[3].value_size = SIZE_MAX;
    void *value = &value;
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(memopt_lazy_get(&bad[i], &value, &error), -EINVAL);
        assert_non_null(strstr(error.message, "lazy state needs"));
    }
    assert_int_equal(memopt_lazy_get(NULL, &value, &error), -EINVAL);
    assert_int_equal(memopt_lazy_get(&good, NULL, &error), -EINVAL);
    assert_int_equal(memopt_lazy_reset(NULL, &error), -EINVAL);
    good.value_size = 300 << 20; /* over the heap's limit */
    assert_int_equal(memopt_lazy_get(&good, &value, &error), -ENOMEM);
    assert_non_null(strstr(error.message, "heap 'test'"));
    assert_ptr_equal(value, &value);
    assert_int_equal(builds, 0);
    good.value_size = sizeof(struct table); /* and can be had afterwards */
    assert_int_equal(memopt_lazy_get(&good, &value, &error), 0);
    memopt_lazy_destroy(&good, NULL);
    assert_int_equal(memopt_lazy_get(&good, &value, &error), -EINVAL);
    assert_non_null(strstr(error.message, "was destroyed"));
    assert_int_equal(memopt_lazy_reset(&good, &error), -EINVAL);
}

static int build_badly(void *context, void *value, struct memopt_error *ret_error) {
    (void)value, (void)ret_error;
    return *(int *)context;
}

static void an_error_is_given_and_the_next_call_tries_again(void **state) {
    (void)state;
    struct memopt_lazy lazy = new_lazy(build_table);
    void *value = &value;
    fail_times = 2;
    for (int i = 1; i <= 2; i++) {
        char text[32];
        snprintf(text, sizeof(text), "attempt %d fails", i);
        assert_int_equal(memopt_lazy_get(&lazy, &value, &error), -EIO);
        assert_int_equal(error.code, -EIO);
        assert_string_equal(error.message, text);
        assert_ptr_equal(value, &value);
        assert_null(memopt_lazy_peek(&lazy));
        assert_int_equal(live_blocks(), 0);
    }
    assert_int_equal(memopt_lazy_get(&lazy, &value, NULL), 0);
    assert_int_equal(((struct table *)value)->number, 3);
    memopt_lazy_destroy(&lazy, NULL);

    /* without a message, and not as agreed */
    int codes[] = {-EPROTO, EPROTO};
    for (size_t i = 0; i < COUNT(codes); i++) {
        lazy = new_lazy(build_badly);
        lazy.context = &codes[i];
        assert_int_equal(memopt_lazy_get(&lazy, &value, &error), -EPROTO);
        assert_int_equal(error.code, -EPROTO);
        assert_non_null(strstr(error.message, "could not be built: "));
        memopt_lazy_destroy(&lazy, NULL);
    }
}

static void a_sticky_error_stays(void **state) {
    (void)state;
    struct memopt_lazy lazy = new_lazy(build_table);
    void *value;
    fail_times = 1;
    lazy.flags = MEMOPT_LAZY_STICKY;
    for (int i = 0; i < 3; i++) {
        memset(&error, 0, sizeof(error));
        assert_int_equal(memopt_lazy_get(&lazy, &value, &error), -EIO);
        assert_string_equal(error.message, "attempt 1 fails");
    }
    assert_int_equal(builds, 1);
    assert_int_equal(memopt_lazy_reset(&lazy, &error), 0);
    assert_int_equal(memopt_lazy_get(&lazy, &value, &error), 0);
    assert_int_equal(builds, 2);
    memopt_lazy_destroy(&lazy, NULL);
}

/* ----------------------------------------------------------------- recursion */

static struct memopt_lazy chain[3];
static int self_code;

static int build_needing(void *context, void *value, struct memopt_error *ret_error) {
    void *other;
    int code = memopt_lazy_get(context, &other, ret_error);
    if (code == -EDEADLK)
        self_code = code;
    memset(value, 0, sizeof(struct table));
    ((struct table *)value)->squares[9] = 81;
    return code;
}

static void needing_itself_is_an_error(void **state) {
    (void)state;
    void *value;
    for (size_t length = 1; length <= COUNT(chain); length++) {
        for (size_t i = 0; i < length; i++) {
            chain[i] = new_lazy(build_needing);
            chain[i].context = &chain[(i + 1) % length];
        }
        assert_int_equal(memopt_lazy_get(&chain[0], &value, &error), -EDEADLK);
        assert_non_null(strstr(error.message, "needed to build itself"));
        assert_int_equal(live_blocks(), 0);
        for (size_t i = 0; i < length; i++)
            memopt_lazy_destroy(&chain[i], NULL);
    }
}

/* Two threads, each building what the other needs. */
static pthread_barrier_t both;
static int build_crossing(void *context, void *value, struct memopt_error *ret_error) {
    pthread_barrier_wait(&both);
    return build_needing(context, value, ret_error);
}

static atomic_int deadlocks;
static void get_crossing(unsigned number) {
    void *value;
    struct memopt_error mine;
    int code = memopt_lazy_get(&chain[number], &value, &mine);
    if (code == -EDEADLK)
        atomic_fetch_add(&deadlocks, 1);
    else if (code != 0)
        abort();
}

static void needing_each_other_is_an_error_too(void **state) {
    (void)state;
    pthread_barrier_init(&both, NULL, 2);
    deadlocks = 0;
    for (size_t i = 0; i < 2; i++) {
        chain[i] = new_lazy(build_crossing);
        chain[i].context = &chain[1 - i];
    }
    run_threads(2, get_crossing);
    /* one finds it out, and so fails what the other waits for */
    assert_int_equal(deadlocks, 2);
    pthread_barrier_destroy(&both);
    for (size_t i = 0; i < 2; i++)
        memopt_lazy_destroy(&chain[i], NULL);
}

/* Neither reset nor destroy from inside. */
static struct memopt_lazy meddled;
static int build_meddling(void *context, void *value, struct memopt_error *ret_error) {
    (void)context, (void)ret_error;
    assert_int_equal(memopt_lazy_reset(&meddled, NULL), -EBUSY);
    assert_int_equal(memopt_lazy_destroy(&meddled, NULL), -EBUSY);
    memset(value, 0, sizeof(struct table));
    ((struct table *)value)->squares[9] = 81;
    return 0;
}

static void it_can_not_be_ended_while_it_is_built(void **state) {
    (void)state;
    void *value;
    meddled = new_lazy(build_meddling);
    assert_int_equal(memopt_lazy_get(&meddled, &value, &error), 0);
    memopt_lazy_destroy(&meddled, NULL);
}

/* ------------------------------------------------------------------- threads */

enum { THREADS = 32 };
#define ROUNDS (RUNNING_ON_VALGRIND ? 5 : 50)
static struct memopt_lazy contended;
static void *values[THREADS];
static atomic_int failures;

static void get_contended(unsigned number) {
    struct memopt_error mine;
    if (memopt_lazy_get(&contended, &values[number], &mine) == 0) {
        for (int i = 0; i < 100; i++)
            if (((struct table *)values[number])->squares[i] != i * i)
                abort();
    } else {
        if (strncmp(mine.message, "attempt ", 8) != 0)
            abort();
        atomic_fetch_add(&failures, 1);
    }
}

static void many_threads_build_it_once(void **state) {
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        contended = new_lazy(build_table);
        run_threads(THREADS, get_contended);
        assert_int_equal(builds, 1);
        for (size_t i = 1; i < THREADS; i++)
            assert_ptr_equal(values[i], values[0]);
        memopt_lazy_destroy(&contended, NULL);
        assert_int_equal(ends, 1);
    }
}

static void many_threads_get_the_error(void **state) {
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        contended = new_lazy(build_table);
        fail_times = 1000;
        contended.flags = round % 2 ? MEMOPT_LAZY_STICKY : 0;
        failures = 0;
        run_threads(THREADS, get_contended);
        assert_int_equal(failures, THREADS);
        assert_true(contended.flags == 0 || builds == 1);
        memopt_lazy_destroy(&contended, NULL);
    }
}

/* All wait for one attempt, which fails: nobody begins another. */
static sem_t waiting;
static int build_when_all_wait(void *context, void *value, struct memopt_error *ret_error) {
    sem_wait(&waiting);
    return build_table(context, value, ret_error);
}

static void *get_and_count(void *number) {
    get_contended((unsigned)(uintptr_t)number);
    return NULL;
}

static void who_waited_gets_that_error(void **state) {
    (void)state;
    contended = new_lazy(build_when_all_wait);
    fail_times = 1;
    failures = 0;
    sem_init(&waiting, 0, 0);
    pthread_t threads[3];
    for (size_t i = 0; i < COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, get_and_count, (void *)i), 0);
    sem_post(&waiting);
    sem_post(&waiting); /* for one that comes when it is over */
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    assert_true(failures >= 1 && builds <= 2 && (builds == 2 || failures == 3));
    sem_destroy(&waiting);
    memopt_lazy_destroy(&contended, NULL);
}

static void reset_while_others_come(void **state) {
    (void)state;
    void *value;
    contended = new_lazy(build_table);
    for (int round = 0; round < ROUNDS; round++) {
        run_threads(4, get_contended);
        assert_int_equal(memopt_lazy_reset(&contended, &error), 0);
        assert_int_equal(builds, round + 1);
        assert_int_equal(ends, round + 1);
    }
    assert_int_equal(memopt_lazy_get(&contended, &value, &error), 0);
    memopt_lazy_destroy(&contended, NULL);
}

/* ---------------------------------------------------------------------- fork */

static sem_t begun, go_on;
static int build_slowly(void *context, void *value, struct memopt_error *ret_error) {
    if (builds == 0) {
        sem_post(&begun);
        sem_wait(&go_on);
    }
    return build_table(context, value, ret_error);
}

static void a_child_does_not_wait_for_a_thread_it_lacks(void **state) {
    (void)state;
    struct memopt_lazy done = new_lazy(build_table);
    void *value;
    assert_int_equal(memopt_lazy_get(&done, &value, &error), 0);
    contended = new_lazy(build_slowly);
    sem_init(&begun, 0, 0);
    sem_init(&go_on, 0, 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, get_and_count, NULL), 0);
    sem_wait(&begun);
    pid_t pid = fork(); /* the thread is in the midst of it */
    if (pid == 0) {
        alarm(600);
        CHECK(memopt_lazy_peek(&done) == value);
        builds = 7; /* so that it is not slow again */
        CHECK(memopt_lazy_get(&contended, &value, &error) == 0);
        CHECK(((struct table *)value)->number == 8);
        CHECK(memopt_lazy_destroy(&contended, NULL) == 0);
        CHECK(memopt_lazy_destroy(&done, NULL) == 0);
        raise(SIGKILL); /* what the thread held is no leak of ours */
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    sem_post(&go_on);
    pthread_join(thread, NULL);
    assert_int_equal(builds, 1);
    sem_destroy(&begun);
    sem_destroy(&go_on);
    memopt_lazy_destroy(&contended, NULL);
    memopt_lazy_destroy(&done, NULL);
}

/* The thread that builds forks: the build goes on in both. */
static int build_forking(void *context, void *value, struct memopt_error *ret_error) {
    pid_t pid = fork();
    if (pid > 0) {
        int status;
        waitpid(pid, &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    }
    int code = build_table(context, value, ret_error);
    ((struct table *)value)->number = pid == 0 ? 42 : 1;
    return code;
}

static void a_build_may_fork(void **state) {
    (void)state;
    struct memopt_lazy lazy = new_lazy(build_forking);
    void *value;
    assert_int_equal(memopt_lazy_get(&lazy, &value, &error), 0);
    if (((struct table *)value)->number == 42) { /* the child */
        CHECK(memopt_lazy_destroy(&lazy, NULL) == 0);
        _exit(42);
    }
    memopt_lazy_destroy(&lazy, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        test(it_is_built_at_the_first_use),
        test(a_late_waiter_gets_a_value_or_an_error),
        test(it_may_be_static_and_in_the_default_heap),
        test(bad_input_is_refused),
        test(an_error_is_given_and_the_next_call_tries_again),
        test(a_sticky_error_stays),
        test(needing_itself_is_an_error),
        test(needing_each_other_is_an_error_too),
        test(it_can_not_be_ended_while_it_is_built),
        test(many_threads_build_it_once),
        test(many_threads_get_the_error),
        test(who_waited_gets_that_error),
        test(reset_while_others_come),
        test(a_child_does_not_wait_for_a_thread_it_lacks),
        test(a_build_may_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
