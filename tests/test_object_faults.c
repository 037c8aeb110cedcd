/*
 * test_object_faults.c - reference counts, lazy state, scopes and copy-on-write
 * buffers while the N-th call that can fail does, for every N and kind of call: a
 * clean error, nothing lost, and the next try goes well.
 *
 * The heap is on the allocator `mmap`, so that each of its blocks is a call of mmap,
 * too. Not with sanitizers, whose run-time wraps the same functions.
 */
#include "tests/object.h"

#ifdef MO_SANITIZED
int main(void) {
    return 77;
}
#else

#include "tests/own_faults.h"

#include <dirent.h>
#include <signal.h>

enum { FAULT_MALLOC = 1 << 8, FAULT_MEMFD = 1 << 9, FAULT_PWRITE = 1 << 10 };

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
FAULTS_EXPORT void *malloc(size_t size) {
    return faults_hit(FAULT_MALLOC) ? NULL : __libc_malloc(size);
}
FAULTS_EXPORT void *calloc(size_t count, size_t size) {
    return faults_hit(FAULT_MALLOC) ? NULL : __libc_calloc(count, size);
}
FAULTS_EXPORT void *realloc(void *p, size_t size) {
    return faults_hit(FAULT_MALLOC) ? NULL : __libc_realloc(p, size);
}
FAULTS_EXPORT int memfd_create(const char *name, unsigned flags) {
    return faults_hit(FAULT_MEMFD) ? -1 : (int)syscall(SYS_memfd_create, name, flags);
}
FAULTS_EXPORT ssize_t pwrite(int fd, const void *p, size_t size, off_t offset) {
    if (faults_hit(FAULT_PWRITE))
        return -1;
    /* in pieces, as the system may */
    return syscall(SYS_pwrite64, fd, p, size > 5000 ? 5000 : size, offset);
}

static const struct {
    int kind;
    const char *name;
} kinds[] = {{FAULT_MMAP, "mmap"},
             {FAULT_MPROTECT, "mprotect"},
             {FAULT_MALLOC, "malloc"},
             {FAULT_MEMFD, "memfd_create"},
             {FAULT_PWRITE, "pwrite"}};

static int failed; /* a call of the scenario's */

/* `code` is a success, or an error as it should be. */
static int went_well(int code) {
    if (code >= 0)
        return 1;
    failed++;
    assert_true(faults.fired > 0);
    assert_int_equal(error.code, code);
    assert_true(error.message[0] != '\0');
    error = (struct memopt_error)MEMOPT_ERROR_INIT;
    return 0;
}

static size_t count_fds(void) {
    int kept = faults.kinds;
    faults.kinds = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    size_t count = 0;
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    faults.kinds = kept;
    return count;
}

/* ------------------------------------------------------------------ scenarios */

struct node {
    struct node *next;
};
static int nodes;
static void node_destroy(void *object) {
    memopt_ref_put(((struct node *)object)->next);
    nodes--;
}
static void node_traverse(void *object, memopt_ref_visit_fn visit, void *context) {
    visit(context, ((struct node *)object)->next);
}
static const struct memopt_ref_type node_type =
    MEMOPT_REF_TYPE_INIT("node", node_destroy, node_traverse);

static int note_cycle(void *context, const struct memopt_ref_cycle *cycle) {
    *(size_t *)context += cycle->length;
    return 0;
}

static void references(void) {
    struct node *ring[3];
    size_t count = 0, length = 0;
    memopt_ref_track(1);
    for (size_t i = 0; i < COUNT(ring); i++) {
        void *object = NULL;
        if (went_well(memopt_ref_new(heap, &node_type, sizeof(struct node), 0, &object, &error))) {
            ring[count++] = object;
            nodes++;
        } else {
            assert_null(object);
        }
    }
    for (size_t i = 0; i < count; i++)
        ring[i]->next = memopt_ref_get(ring[(i + 1) % count]);
    for (size_t i = 0; i < count; i++)
        memopt_ref_put(ring[i]);
    if (went_well(memopt_ref_find_cycles(note_cycle, &length, &error)))
        assert_int_equal(length, count);
    else
        assert_int_equal(length, 0);
    if (count > 0) {
        struct node *next = ring[0]->next;
        ring[0]->next = NULL;
        memopt_ref_put(next);
    }
    assert_int_equal(nodes, 0);
    memopt_ref_track(0);
}

static int build_sum(void *context, void *value, struct memopt_error *ret_error) {
    void *block = memopt_heap_alloc(context, 100);
    if (block == NULL) {
        ret_error->code = -ENOMEM;
        strcpy(ret_error->message, "no memory for the sum");
        return -ENOMEM;
    }
    *(void **)value = block;
    return 0;
}
static void end_sum(void *context, void *value) {
    memopt_heap_free(context, *(void **)value);
}

static void lazy_state(void) {
    struct memopt_lazy lazy = MEMOPT_LAZY_INIT(sizeof(void *), build_sum, end_sum, heap);
    lazy.heap = heap;
    for (int i = 0; i < 3; i++) {
        void *value = NULL;
        if (went_well(memopt_lazy_get(&lazy, &value, &error)))
            memset(*(void **)value, 1, 100);
        else
            assert_true(value == NULL && memopt_lazy_peek(&lazy) == NULL);
    }
    went_well(memopt_lazy_reset(&lazy, &error));
    void *value;
    went_well(memopt_lazy_get(&lazy, &value, &error));
    assert_int_equal(memopt_lazy_destroy(&lazy, NULL), 0);
}

static int cleaned;
static void clean(void *p) {
    cleaned++;
    memopt_heap_free(heap, p);
}

static void scopes(void) {
    enum { PUSHES = 30 };
    struct memopt_scope scope = MEMOPT_SCOPE_INIT(heap), outer = MEMOPT_SCOPE_INIT(heap);
    int pushed = 0;
    cleaned = 0;
    for (int i = 0; i < PUSHES; i++) {
        void *block = memopt_heap_alloc(heap, 10);
        if (block != NULL) {
            pushed++;
            went_well(memopt_scope_push(&scope, clean, block, &error));
        }
        struct memopt_owned owned = memopt_owned_block(heap, memopt_heap_alloc(heap, 10));
        went_well(memopt_scope_own(&scope, &owned, &error));
        errno = 0;
        if (memopt_scope_alloc(&scope, NULL, 10) == NULL)
            assert_int_equal(errno, ENOMEM);
    }
    went_well(memopt_scope_move_all(&scope, &outer, &error));
    memopt_scope_end(&scope);
    memopt_scope_end(&outer);
    assert_int_equal(cleaned, pushed);
}

enum { PAGE = 4096, SIZE = 12 * PAGE + 100 };

/* A handle and what it should hold. */
struct pair {
    struct memopt_cow *cow;
    unsigned char want[SIZE];
};
static struct pair a, b, c;

static void write_pair(struct pair *pair, size_t offset, size_t length, int value) {
    void *p = NULL;
    if (pair->cow == NULL)
        return;
    if (went_well(memopt_cow_write(pair->cow, offset, length, &p, &error))) {
        memset(p, value, length);
        memset(pair->want + offset, value, length);
    } else {
        assert_null(p);
    }
}

static void clone_pair(struct pair *pair, struct pair *clone) {
    clone->cow = NULL;
    if (pair->cow == NULL)
        return;
    if (went_well(memopt_cow_clone(pair->cow, &clone->cow, &error)))
        memcpy(clone->want, pair->want, SIZE);
    else
        assert_null(clone->cow);
}

static void check_pair(struct pair *pair) {
    if (pair->cow != NULL)
        assert_memory_equal(memopt_cow_read(pair->cow), pair->want, SIZE);
}

static void drop_pair(struct pair *pair) {
    memopt_cow_destroy(pair->cow);
    pair->cow = NULL;
}

static int cow_mode;

static void copy_on_write(void) {
    struct memopt_cow_options options = MEMOPT_COW_OPTIONS_INIT;
    options.mode = cow_mode;
    options.threshold = 1;
    memset(&a, 0, sizeof(a));
    if (!went_well(memopt_cow_create(heap, SIZE, &options, &a.cow, &error)))
        assert_null(a.cow);
    write_pair(&a, 0, SIZE, 1);
    clone_pair(&a, &b);
    write_pair(&a, PAGE, 10, 2);
    write_pair(&a, 5 * PAGE - 1, 2, 2);
    clone_pair(&a, &c); /* has pages of its own, and is not alone */
    write_pair(&c, SIZE - 1, 1, 3);
    check_pair(&a), check_pair(&b), check_pair(&c);
    drop_pair(&b);
    drop_pair(&c);
    clone_pair(&a, &b); /* is alone again */
    write_pair(&b, 0, SIZE, 4);
    check_pair(&a), check_pair(&b);
    drop_pair(&a);
    write_pair(&b, 0, 10, 5);
    check_pair(&b);
    clone_pair(&b, &a);
    check_pair(&a), check_pair(&b);
    drop_pair(&a);
    drop_pair(&b);
}
static void by_pages(void) {
    cow_mode = MEMOPT_COW_PAGES;
    copy_on_write();
}
static void by_copying(void) {
    cow_mode = MEMOPT_COW_COPY;
    copy_on_write();
}
static void either_way(void) {
    cow_mode = MEMOPT_COW_AUTO;
    copy_on_write();
}

/* A buffer from before fork is copied whole. */
static void after_fork(void) {
    cow_mode = MEMOPT_COW_PAGES;
    struct memopt_cow_options options = MEMOPT_COW_OPTIONS_INIT;
    options.mode = MEMOPT_COW_PAGES;
    memset(&a, 0, sizeof(a));
    if (!went_well(memopt_cow_create(heap, SIZE, &options, &a.cow, &error)))
        return;
    write_pair(&a, 0, SIZE, 1);
    int kept = faults.kinds;
    faults.kinds = 0; /* fork's own are in another test */
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    faults.kinds = kept;
    write_pair(&a, 0, 10, 2);
    clone_pair(&a, &b);
    write_pair(&a, 20, 10, 3);
    check_pair(&a), check_pair(&b);
    drop_pair(&a);
    drop_pair(&b);
}

/* ---------------------------------------------------------------------- tests */

static int open_mmap_heap(void **state) {
    (void)state;
    struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    setenv("MEMOPT_CONF", "/dev/null", 1);
    options.allocator = "mmap";
    options.limit = 64 << 20;
    return memopt_heap_open("test", &options, &heap, &error);
}

/* `least`: so many calls of each kind there must be, for the test to test anything. */
static void with_every_fault(void (*scenario)(void), const long least[COUNT(kinds)]) {
    for (size_t k = 0; k < COUNT(kinds); k++)
        for (int for_good = 0; for_good < 2; for_good++) {
            long nth = 1, fired;
            do {
                size_t fds = count_fds();
                failed = 0;
                faults_arm(kinds[k].kind, nth, for_good);
                scenario();
                fired = faults.fired;
                faults_arm(0, 0, 0);
                if (live_bytes() != 0 || live_blocks() != 0 || count_fds() != fds)
                    fail_msg("%s number %ld%s: %llu bytes are left, %zu descriptors more",
                             kinds[k].name, nth, for_good ? " and all after it" : "",
                             (unsigned long long)live_bytes(), count_fds() - fds);
                scenario(); /* goes well now */
                assert_int_equal(live_bytes(), 0);
                nth++;
            } while (fired > 0 && nth < 1000);
            if (nth - 2 < least[k])
                fail_msg("only %ld calls of %s were made", nth - 2, kinds[k].name);
            assert_true(nth < 1000);
        }
}

/*                                      mmap mprotect malloc memfd pwrite */
static void references_survive(void **state) {
    (void)state;
    with_every_fault(references, (const long[COUNT(kinds)]){3, 0, 3, 0, 0});
}
static void lazy_state_survives(void **state) {
    (void)state;
    with_every_fault(lazy_state, (const long[COUNT(kinds)]){3, 0, 0, 0, 0});
}
static void scopes_survive(void **state) {
    (void)state;
    with_every_fault(scopes, (const long[COUNT(kinds)]){20, 0, 0, 0, 0});
}
static void pages_survive(void **state) {
    (void)state;
    with_every_fault(by_pages, (const long[COUNT(kinds)]){10, 4, 0, 1, 2});
}
static void copies_survive(void **state) {
    (void)state;
    with_every_fault(by_copying, (const long[COUNT(kinds)]){5, 0, 0, 0, 0});
}
static void either_way_survives(void **state) {
    (void)state;
    with_every_fault(either_way, (const long[COUNT(kinds)]){10, 4, 0, 1, 2});
}
static void after_fork_survives(void **state) {
    (void)state;
    with_every_fault(after_fork, (const long[COUNT(kinds)]){5, 1, 0, 2, 2});
}

/* The kernel can't make an open buffer private at fork: the child must not have the
 * parent's. */
static void read_in_child(void) {
    faults_arm(0, 0, 0);
    signal(SIGSEGV, SIG_DFL);
    _exit(((const volatile char *)memopt_cow_read(a.cow))[0] == 1);
}

static void a_child_never_shares_what_is_written(void **state) {
    (void)state;
    struct memopt_cow_options options = MEMOPT_COW_OPTIONS_INIT;
    options.mode = MEMOPT_COW_PAGES;
    assert_int_equal(memopt_cow_create(heap, SIZE, &options, &a.cow, &error), 0);
    memset(a.want, 0, SIZE);
    write_pair(&a, 0, SIZE, 1);
    faults_arm(FAULT_MMAP, 1, 1);
    int status = run_child(read_in_child);
    long fired = faults.fired;
    faults_arm(0, 0, 0);
    assert_int_equal(fired, 1);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    check_pair(&a);
    write_pair(&a, 0, 10, 2);
    clone_pair(&a, &b);
    write_pair(&a, 0, 10, 3);
    check_pair(&a), check_pair(&b);
    drop_pair(&a);
    drop_pair(&b);
}

#define fault_test(NAME) cmocka_unit_test_setup_teardown(NAME, open_mmap_heap, close_test_heap)

int main(void) {
    const struct CMUnitTest tests[] = {
        fault_test(references_survive),  fault_test(lazy_state_survives),
        fault_test(scopes_survive),      fault_test(pages_survive),
        fault_test(copies_survive),      fault_test(either_way_survives),
        fault_test(after_fork_survives), fault_test(a_child_never_shares_what_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
