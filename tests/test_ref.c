/*
 * test_ref.c - strong and weak references, and the check for leaked cycles: over
 * atomic and local counts, from one thread and from many.
 */
#include "core/object/object.h"
#include "tests/object.h"

#include <signal.h>

enum { LINKS = 4 };

struct node {
    struct node *link[LINKS]; /* strong */
    struct memopt_weak *back;
    int value;
};

static atomic_int destroyed;

static void node_destroy(void *object) {
    struct node *node = object;
    for (size_t i = 0; i < LINKS; i++)
        memopt_ref_put(node->link[i]);
    memopt_weak_put(node->back);
    node->value = -1;
    atomic_fetch_add(&destroyed, 1);
}

static void node_traverse(void *object, memopt_ref_visit_fn visit, void *context) {
    for (size_t i = 0; i < LINKS; i++)
        visit(context, ((struct node *)object)->link[i]);
}

static const struct memopt_ref_type node_type =
    MEMOPT_REF_TYPE_INIT("node", node_destroy, node_traverse);
static const struct memopt_ref_type blob_type = MEMOPT_REF_TYPE_INIT("blob", NULL, NULL);

static struct node *new_node(unsigned flags) {
    void *object = NULL;
    if (memopt_ref_new(heap, &node_type, sizeof(struct node), flags, &object, &error) < 0)
        fail_msg("%s", error.message);
    return object;
}

static uint32_t strong_of(void *object) {
    uint32_t strong;
    memopt_ref_counts(object, &strong, NULL);
    return strong;
}

static uint32_t weak_of(void *object) {
    uint32_t weak;
    memopt_ref_counts(object, NULL, &weak);
    return weak;
}

static const unsigned kinds[] = {0, MEMOPT_REF_LOCAL};

/* ------------------------------------------------------------- references */

static void an_object_lives_as_long_as_it_is_held(void **state) {
    (void)state;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        destroyed = 0;
        struct node *node = new_node(kinds[k]);
        assert_int_equal((uintptr_t)node % 16, 0);
        static const struct node zero;
        assert_memory_equal(node, &zero, sizeof(zero));
        assert_ptr_equal(memopt_ref_get(node), node);
        assert_int_equal(strong_of(node), 2);
        assert_int_equal(weak_of(node), 0);
        errno = 5;
        memopt_ref_put(node);
        assert_int_equal(destroyed, 0);
        memopt_ref_put(node);
        assert_int_equal(destroyed, 1);
        assert_int_equal(errno, 5);
        assert_int_equal(live_blocks(), 0);
    }
    memopt_ref_put(NULL);
    assert_null(memopt_ref_get(NULL));
}

static void weak_references_know_when_it_is_dead(void **state) {
    (void)state;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        destroyed = 0;
        struct node *node = new_node(kinds[k]);
        struct memopt_weak *weak = memopt_weak_new(node);
        struct memopt_weak *other = memopt_weak_get(weak);
        assert_int_equal(weak_of(node), 2);
        assert_ptr_equal(memopt_weak_lock(weak), node);
        assert_int_equal(strong_of(node), 2);
        memopt_ref_put(node);
        memopt_ref_put(node);
        assert_int_equal(destroyed, 1);
        assert_null(memopt_weak_lock(weak));
        assert_int_equal(live_blocks(), 1);
        memopt_weak_put(weak);
        assert_null(memopt_weak_lock(other));
        memopt_weak_put(other);
        assert_int_equal(live_blocks(), 0);
        assert_int_equal(destroyed, 1);
    }
    memopt_weak_put(NULL);
    assert_null(memopt_weak_new(NULL));
    assert_null(memopt_weak_get(NULL));
    assert_null(memopt_weak_lock(NULL));
}

static void the_dead_do_not_return(void **state) {
    (void)state;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        destroyed = 0;
        struct node *node = new_node(kinds[k]);
        struct memopt_weak *weak = memopt_weak_new(node);
        memopt_ref_put(node);
        errno = 0;
        memopt_ref_put(node); /* once too often */
        assert_int_equal(errno, EINVAL);
        errno = 0;
        assert_null(memopt_ref_get(node));
        assert_int_equal(errno, EINVAL);
        assert_null(memopt_weak_lock(weak));
        assert_int_equal(destroyed, 1);
        memopt_weak_put(weak);
    }
}

/* The object asks for itself while it is being destroyed. */
static struct memopt_weak *own_weak;
static void selfish_destroy(void *object) {
    assert_null(memopt_weak_lock(own_weak));
    assert_null(memopt_ref_get(object));
    memopt_ref_put(object);
    memopt_weak_put(own_weak);
    atomic_fetch_add(&destroyed, 1);
}

static void nor_while_they_die(void **state) {
    (void)state;
    static const struct memopt_ref_type type =
        MEMOPT_REF_TYPE_INIT("selfish", selfish_destroy, NULL);
    void *object;
    destroyed = 0;
    assert_int_equal(memopt_ref_new(heap, &type, 0, 0, &object, &error), 0);
    own_weak = memopt_weak_new(object);
    memopt_ref_put(object);
    assert_int_equal(destroyed, 1);
}

static void counts_stay_at_the_top(void **state) {
    (void)state;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        destroyed = 0;
        struct node *node = new_node(kinds[k]);
        struct memopt_weak *weak = memopt_weak_new(node);
        struct mo_ref *ref = mo_ref_of(node);
        ref->strong.local = UINT32_MAX - 1;
        assert_ptr_equal(memopt_ref_get(node), node);
        assert_ptr_equal(memopt_ref_get(node), node);
        assert_ptr_equal(memopt_weak_lock(weak), node);
        assert_int_equal(strong_of(node), UINT32_MAX);
        memopt_ref_put(node); /* immortal */
        assert_int_equal(strong_of(node), UINT32_MAX);
        ref->weak.local = UINT32_MAX - 1;
        memopt_weak_get(memopt_weak_get(weak));
        assert_int_equal(weak_of(node), UINT32_MAX);
        memopt_weak_put(weak);
        assert_int_equal(weak_of(node), UINT32_MAX);
        assert_int_equal(destroyed, 0);
        ref->strong.local = ref->weak.local = 1;
        memopt_ref_put(node);
        assert_int_equal(destroyed, 1);
    }
}

static void bad_input_is_refused(void **state) {
    (void)state;
    static const struct memopt_ref_type no_size = {0, "x", NULL, NULL};
    static const struct memopt_ref_type no_name = MEMOPT_REF_TYPE_INIT(NULL, NULL, NULL);
    static const struct {
        const struct memopt_ref_type *type;
        size_t size;
        unsigned flags;
        int code;
        const char *text;
    } cases[] = {
        {NULL, 1, 0, -EINVAL, "MEMOPT_REF_TYPE_INIT"},
        {&no_size, 1, 0, -EINVAL, "MEMOPT_REF_TYPE_INIT"},
        {&no_name, 1, 0, -EINVAL, "MEMOPT_REF_TYPE_INIT"},
        {&node_type, 1, 2, -EINVAL, "0x2 is no set of flags"},
        {&node_type, SIZE_MAX, 0, -ENOMEM, "heap 'test' has no"},
        {&node_type, SIZE_MAX - 32, 0, -ENOMEM, "type 'node'"},
        {&node_type, 300 << 20, 0, -ENOMEM, "heap 'test' has no"}, /* over its limit */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        void *object = &object;
        memset(&error, 0, sizeof(error));
        assert_int_equal(
            memopt_ref_new(heap, cases[i].type, cases[i].size, cases[i].flags, &object, &error),
            cases[i].code);
        assert_int_equal(error.code, cases[i].code);
        assert_non_null(strstr(error.message, cases[i].text));
        assert_ptr_equal(object, &object);
        assert_int_equal(
            memopt_ref_new(heap, cases[i].type, cases[i].size, cases[i].flags, &object, NULL),
            cases[i].code);
    }
    assert_int_equal(memopt_ref_new(heap, &node_type, 1, 0, NULL, &error), -EINVAL);
    assert_int_equal(live_blocks(), 0);
}

static void the_default_heap_serves_too(void **state) {
    (void)state;
    void *object = NULL;
    assert_int_equal(memopt_ref_new(NULL, &blob_type, 10, 0, &object, &error), 0);
    memset(object, 1, 10);
    memopt_ref_put(object);
}

/* A million links on a stack of 64 KiB. */
static void *let_go(void *head) {
    memopt_ref_put(head);
    return NULL;
}

static void a_long_list_needs_no_deep_stack(void **state) {
    (void)state;
    enum { LENGTH = 100000 };
    struct node *head = NULL;
    for (int i = 0; i < LENGTH; i++) {
        struct node *node = new_node(0);
        node->link[0] = head;
        head = node;
    }
    destroyed = 0;
    pthread_attr_t small;
    pthread_t thread;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 * 1024);
    assert_int_equal(pthread_create(&thread, &small, let_go, head), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&small);
    assert_int_equal(destroyed, LENGTH);
}

/* -------------------------------------------------------------------- threads */

enum { ROUNDS = 2000, THREADS = 8 };
static struct node *shared;

static void get_and_put(unsigned number) {
    struct memopt_weak *weak = memopt_weak_new(shared);
    for (int i = 0; i < ROUNDS; i++) {
        struct node *node = i % 2 ? memopt_ref_get(shared) : memopt_weak_lock(weak);
        struct memopt_weak *another = memopt_weak_get(weak);
        if (node == NULL || (node->value != 0 && node->value != (int)number))
            abort();
        memopt_ref_put(node);
        memopt_weak_put(another);
    }
    memopt_weak_put(weak);
}

static void many_threads_count_right(void **state) {
    (void)state;
    shared = new_node(0);
    destroyed = 0;
    run_threads(THREADS, get_and_put);
    assert_int_equal(strong_of(shared), 1);
    assert_int_equal(weak_of(shared), 0);
    assert_int_equal(destroyed, 0);
    memopt_ref_put(shared);
    assert_int_equal(destroyed, 1);
}

/* Every round one thread gives up the only strong reference, and the others lock
 * weak ones: they get a whole object or none. */
static struct memopt_weak *weak_refs[THREADS];
static pthread_barrier_t round_start, round_end;
static atomic_int locked;

static void race_for_the_last(unsigned number) {
    for (int i = 0; i < ROUNDS; i++) {
        if (number == 0) {
            shared = new_node(0);
            shared->value = i + 1;
            for (size_t t = 1; t < THREADS; t++)
                weak_refs[t] = memopt_weak_new(shared);
        }
        pthread_barrier_wait(&round_start);
        if (number == 0) {
            memopt_ref_put(shared);
        } else {
            struct node *node = memopt_weak_lock(weak_refs[number]);
            if (node != NULL) {
                if (node->value != i + 1)
                    abort();
                atomic_fetch_add(&locked, 1);
                memopt_ref_put(node);
            }
            memopt_weak_put(weak_refs[number]);
        }
        pthread_barrier_wait(&round_end);
        if (number == 0 && (destroyed != i + 1 || live_blocks() != 0))
            abort();
    }
}

static void locking_races_with_the_last_put(void **state) {
    (void)state;
    destroyed = 0;
    pthread_barrier_init(&round_start, NULL, THREADS);
    pthread_barrier_init(&round_end, NULL, THREADS);
    run_threads(THREADS, race_for_the_last);
    pthread_barrier_destroy(&round_start);
    pthread_barrier_destroy(&round_end);
    assert_int_equal(destroyed, ROUNDS);
}

/* -------------------------------------------------------------------- cycles */

static char report[4096];
static int reports;

static int note_cycle(void *context, const struct memopt_ref_cycle *cycle) {
    assert_int_equal(cycle->size, sizeof(*cycle));
    assert_true(cycle->length >= 1 && cycle->members >= cycle->length);
    assert_true(cycle->bytes >= cycle->members * sizeof(struct node));
    for (size_t i = 0; i < cycle->length; i++) { /* a way around indeed */
        struct node *node = cycle->object[i], *next = cycle->object[(i + 1) % cycle->length];
        size_t k = 0;
        while (k < LINKS && node->link[k] != next)
            k++;
        assert_true(k < LINKS);
    }
    snprintf(report, sizeof(report), "%s", cycle->path);
    reports++;
    return context == NULL ? 0 : *(int *)context;
}

static void link_to(struct node *from, struct node *to) {
    size_t i = 0;
    while (from->link[i] != NULL)
        i++;
    from->link[i] = memopt_ref_get(to);
}

/* Graphs as edges between letters. "+a": something outside holds a, too. */
static const struct {
    const char *graph;
    int cycles;
    const char *path; /* of the last one; NULL: don't care */
} graphs[] = {
    {"", 0, NULL},
    {"ab bc +a", 0, NULL}, /* in use */
    {"aa", 1, "a a"},      /* holds itself */
    {"ab ba", 1, "a b a"}, /* the smallest ring */
    {"ab ba +a", 0, NULL}, /* held from outside */
    {"ab ba +b", 0, NULL},
    {"ab ab ba", 1, "a b a"}, /* twice in one direction */
    {"ab bc ca", 1, "a b c a"},
    {"ab bc cd da bd", 1, "a b d a"},        /* the shortest way */
    {"ab ba cd dc", 2, NULL},                /* two of them */
    {"ab ba bc cd", 1, "a b a"},             /* a tail is in no ring */
    {"ab ba bc cd dc", 2, "a b a"},          /* a ring hangs from a ring */
    {"ab ba ac ca", 1, "a b a"},             /* two rings, tangled */
    {"ab ba +c ca", 0, NULL},                /* held through another */
    {"ab ba +c cd ad", 1, "a b a"},          /* holds something in use */
    {"ab bc cd de ef fa ac ce ea", 1, NULL}, /* dense */
};

/* Builds it, but for the references from outside: those go, except the +x. */
static size_t build(const char *graph, struct node **nodes, int *held) {
    size_t count = 0;
    for (const char *c = graph; *c != '\0'; c++)
        if (*c >= 'a' && (size_t)(*c - 'a') >= count)
            count = (size_t)(*c - 'a') + 1;
    for (size_t i = 0; i < count; i++) {
        nodes[i] = new_node(0);
        held[i] = 0;
    }
    for (const char *c = graph; *c != '\0'; c++)
        if (c[0] == '+')
            held[c[1] - 'a'] = 1;
        else if (c[0] >= 'a' && c[1] >= 'a')
            link_to(nodes[c[0] - 'a'], nodes[c[1] - 'a']);
    for (size_t i = 0; i < count; i++)
        if (!held[i])
            memopt_ref_put(nodes[i]);
    return count;
}

/* Takes every ring apart. */
static void unbuild(struct node **nodes, const int *held, size_t count) {
    for (size_t i = 0; i < count; i++)
        memopt_ref_get(nodes[i]);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < LINKS; k++) {
            memopt_ref_put(nodes[i]->link[k]);
            nodes[i]->link[k] = NULL;
        }
    for (size_t i = 0; i < count; i++) {
        memopt_ref_put(nodes[i]);
        if (held[i])
            memopt_ref_put(nodes[i]);
    }
}

static void leaked_cycles_are_found(void **state) {
    (void)state;
    assert_int_equal(memopt_ref_track(1), 0);
    for (size_t i = 0; i < COUNT(graphs); i++) {
        struct node *nodes[26];
        int held[26];
        size_t count = build(graphs[i].graph, nodes, held);
        reports = 0;
        int found = memopt_ref_find_cycles(note_cycle, NULL, &error);
        if (found != graphs[i].cycles || reports != found)
            fail_msg("'%s': %d cycles, %d reported", graphs[i].graph, found, reports);
        if (graphs[i].path != NULL) {
            char want[1024] = "";
            for (const char *c = graphs[i].path; *c != '\0'; c += 2) {
                snprintf(want + strlen(want), sizeof(want) - strlen(want), "%snode %p",
                         c == graphs[i].path ? "" : " -> ", (void *)nodes[*c - 'a']);
                if (c[1] == '\0')
                    break;
            }
            assert_string_equal(report, want);
        }
        /* it has changed nothing */
        assert_int_equal(memopt_ref_find_cycles(NULL, NULL, NULL), found);
        unbuild(nodes, held, count);
        assert_int_equal(live_blocks(), 0);
        assert_int_equal(memopt_ref_find_cycles(NULL, NULL, NULL), 0);
    }
    assert_int_equal(memopt_ref_track(0), 1);
}

static void a_weak_reference_is_the_cure(void **state) {
    (void)state;
    memopt_ref_track(1);
    destroyed = 0;
    struct node *parent = new_node(0), *child = new_node(0);
    parent->link[0] = child;
    child->back = memopt_weak_new(parent);
    assert_int_equal(memopt_ref_find_cycles(note_cycle, NULL, &error), 0);
    memopt_ref_put(parent);
    assert_int_equal(destroyed, 2);
    memopt_ref_track(0);
}

static void what_takes_no_part_holds(void **state) {
    (void)state;
    struct node *old = new_node(0); /* made before */
    memopt_ref_track(1);
    struct node *a = new_node(0), *b = new_node(0);
    link_to(a, b);
    link_to(b, a);
    old->link[0] = a; /* and its reference to a counts as in use */
    memopt_ref_put(b);
    assert_int_equal(memopt_ref_find_cycles(NULL, NULL, &error), 0);
    old->link[0] = NULL;
    memopt_ref_put(a);
    assert_int_equal(memopt_ref_find_cycles(NULL, NULL, &error), 1);
    struct node *nodes[] = {a, b};
    unbuild(nodes, (int[]){0, 0}, 2);
    memopt_ref_put(old);
    memopt_ref_track(0);
}

static int break_cycle(void *context, const struct memopt_ref_cycle *cycle) {
    (void)context;
    struct node *node = cycle->object[0];
    struct node *next = node->link[0];
    node->link[0] = NULL;
    memopt_ref_put(next);
    return 0;
}

static void the_visitor_may_break_it_or_stop(void **state) {
    (void)state;
    memopt_ref_track(1);
    struct node *nodes[4];
    int held[4], stop = 1, fail = -ECANCELED;
    build("ab ba cd dc", nodes, held);
    reports = 0;
    assert_int_equal(memopt_ref_find_cycles(note_cycle, &stop, &error), 2);
    assert_int_equal(reports, 1);
    assert_int_equal(memopt_ref_find_cycles(note_cycle, &fail, &error), -ECANCELED);
    assert_int_equal(reports, 2);
    destroyed = 0;
    assert_int_equal(memopt_ref_find_cycles(break_cycle, NULL, &error), 2);
    assert_int_equal(destroyed, 4);
    memopt_ref_track(0);
}

static void a_large_ring_is_no_problem(void **state) {
    (void)state;
    enum { SIZE = 20000 };
    memopt_ref_track(1);
    struct node *first = new_node(0), *last = first;
    for (int i = 1; i < SIZE; i++) {
        struct node *node = new_node(0);
        last->link[0] = node;
        last = node;
    }
    last->link[0] = first;
    reports = 0;
    assert_int_equal(memopt_ref_find_cycles(note_cycle, NULL, &error), 1);
    assert_non_null(strstr(report, "... 19969 more ... -> node"));
    destroyed = 0;
    assert_int_equal(memopt_ref_find_cycles(break_cycle, NULL, &error), 1);
    assert_int_equal(destroyed, SIZE);
    memopt_ref_track(0);
}

static void lie(void *object, memopt_ref_visit_fn visit, void *context) {
    visit(context, object);
    visit(context, object);
}

static void a_wrong_traverse_is_blamed(void **state) {
    (void)state;
    static const struct memopt_ref_type type = MEMOPT_REF_TYPE_INIT("liar", NULL, lie);
    void *object;
    memopt_ref_track(1);
    assert_int_equal(memopt_ref_new(heap, &type, 8, 0, &object, &error), 0);
    assert_int_equal(memopt_ref_find_cycles(note_cycle, NULL, &error), -EINVAL);
    assert_non_null(strstr(error.message, "'liar'"));
    memopt_ref_put(object);
    memopt_ref_track(0);
}

/* ---------------------------------------------------------------------- fork */

static void use_the_copy(void) {
    CHECK(strong_of(shared) == 2);
    memopt_ref_put(shared);
    memopt_ref_put(shared);
    CHECK(destroyed == 1);
    CHECK(memopt_ref_find_cycles(NULL, NULL, NULL) == 0);
    memopt_ref_put(new_node(0));
}

static atomic_int stop_making;
static void *make_and_drop(void *unused) {
    while (!atomic_load(&stop_making))
        memopt_ref_put(new_node(0));
    return unused;
}

static void a_child_has_its_own_copy(void **state) {
    (void)state;
    memopt_ref_track(1);
    pthread_t thread; /* is in and out of the lock all the time */
    stop_making = 0;
    assert_int_equal(pthread_create(&thread, NULL, make_and_drop, NULL), 0);
    shared = memopt_ref_get(new_node(0));
    for (int i = 0; i < 20; i++) {
        destroyed = 0;
        pid_t pid = fork();
        if (pid == 0) {
            alarm(600);
            destroyed = 0;
            use_the_copy();
            raise(SIGKILL); /* what the other thread had in hand is no leak of ours */
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    atomic_store(&stop_making, 1);
    pthread_join(thread, NULL);
    assert_int_equal(strong_of(shared), 2);
    memopt_ref_put(shared);
    memopt_ref_put(shared);
    memopt_ref_track(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        test(an_object_lives_as_long_as_it_is_held),
        test(weak_references_know_when_it_is_dead),
        test(the_dead_do_not_return),
        test(nor_while_they_die),
        test(counts_stay_at_the_top),
        test(bad_input_is_refused),
        test(the_default_heap_serves_too),
        test(a_long_list_needs_no_deep_stack),
        test(many_threads_count_right),
        test(locking_races_with_the_last_put),
        test(leaked_cycles_are_found),
        test(a_weak_reference_is_the_cure),
        test(what_takes_no_part_holds),
        test(the_visitor_may_break_it_or_stop),
        test(a_large_ring_is_no_problem),
        test(a_wrong_traverse_is_blamed),
        test(a_child_has_its_own_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
