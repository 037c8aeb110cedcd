/*
 * test_first_use.c - the first use of every part of the library at once, each in a
 * thread of its own, nothing started before. That happens once in a process: the
 * test starts itself again and again. ThreadSanitizer sees what is not ordered.
 */
#include "tests/object.h"

#include <spawn.h>

enum { ROUNDS = 20 };

static int build_number(void *context, void *value, struct memopt_error *ret_error) {
    (void)context, (void)ret_error;
    *(int *)value = 42;
    return 0;
}

static void use_lazy(void) {
    struct memopt_lazy lazy = MEMOPT_LAZY_INIT(sizeof(int), build_number, NULL, NULL);
    struct memopt_error why;
    void *value;
    CHECK(memopt_lazy_get(&lazy, &value, &why) == 0 && *(int *)value == 42);
    CHECK(memopt_lazy_destroy(&lazy, &why) == 0);
}

static void use_cow(void) {
    struct memopt_error why;
    struct memopt_cow *cow;
    CHECK(memopt_cow_create(NULL, 1 << 16, NULL, &cow, &why) == 0);
    memopt_cow_destroy(cow);
}

static void use_ref(void) {
    static const struct memopt_ref_type type = MEMOPT_REF_TYPE_INIT("number", NULL, NULL);
    struct memopt_error why;
    int *number;
    CHECK(memopt_ref_new(NULL, &type, sizeof(*number), 0, (void **)&number, &why) == 0);
    memopt_ref_put(number);
}

static void use_heap(const char *allocator) {
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    struct memopt_error why;
    struct memopt_heap *own;
    options.allocator = allocator;
    CHECK(memopt_heap_open(allocator, &options, &own, &why) == 0);
    void *p = memopt_heap_alloc(own, 100);
    CHECK(p != NULL);
    memopt_heap_free(own, p);
    CHECK(memopt_heap_destroy(own, NULL) == 0);
}

static void use_heap_libc(void) {
    use_heap("libc");
}

static void use_heap_pool(void) {
    use_heap("pool");
}

static void use_buffers(void) {
    struct memopt_error why;
    struct memopt_buffers *pool;
    CHECK(memopt_buffers_create(NULL, &pool, &why) == 0);
    CHECK(memopt_buffers_destroy(pool, &why) == 0);
}

static void use_pressure(void) {
    struct memopt_error why;
    CHECK(memopt_pressure_start(NULL, &why) == 0);
    CHECK(memopt_pressure_stop() == 0);
}

static void (*const uses[])(void) = {
    use_lazy, use_heap_libc, use_cow, use_heap_pool, use_ref, use_buffers, use_pressure, use_lazy,
};

static void use(unsigned number) {
    uses[number]();
}

static void all_first_uses_at_once(void **state) {
    (void)state;
    static char self[] = "/proc/self/exe", once[] = "once";
    char *const argv[] = {self, once, NULL};
    for (int i = 0; i < ROUNDS; i++) {
        pid_t pid;
        int status;
        assert_int_equal(posix_spawn(&pid, self, NULL, NULL, argv, environ), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}

int main(int argc, char **argv) {
    setenv("MEMOPT_CONF", "/dev/null", 1);
    alarm(600); /* a deadlock is a failure, too */
    if (argc == 2 && strcmp(argv[1], "once") == 0) {
        run_threads(COUNT(uses), use);
        return 0;
    }
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_first_uses_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
