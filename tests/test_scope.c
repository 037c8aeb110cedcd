/*
 * test_scope.c - memopt_auto, owned handles and scopes: what runs, when, in which
 * order, and who owns what after a failure.
 */
#include "tests/object.h"

#include <fcntl.h>

/* Clean-ups write their letter. */
static char ran[256];
static void note(void *p) {
    size_t length = strlen(ran);
    assert_true(length + 1 < sizeof(ran));
    ran[length] = *(char *)p;
}
static void note_release(void *context, void *p) {
    note(context);
    note(p);
}
static char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
#define LETTER(C) (&letters[(C) - 'a'])

static struct memopt_scope new_scope(void) {
    struct memopt_scope scope = MEMOPT_SCOPE_INIT(heap);
    memset(ran, 0, sizeof(ran));
    memset(&error, 0, sizeof(error));
    return scope;
}

/* ---------------------------------------------------------------- 1. auto */

static void touch(char *p) {
    note(p);
}
MEMOPT_AUTO_DEFINE(touch);

static int is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

static void variables_are_cleaned_up(void **state) {
    (void)state;
    int fd_of_file, plain;
    new_scope();
    {
        memopt_auto(free) char *text = strdup("text");
        memopt_auto(free) char *none = NULL;
        memopt_auto(fclose) FILE *file = fopen("/dev/null", "r");
        memopt_auto(fclose) FILE *no_file = NULL;
        memopt_auto(close) int fd = open("/dev/null", O_RDONLY);
        memopt_auto(close) int no_fd = -1;
        memopt_auto(touch) char *first = LETTER('a');
        memopt_auto(touch) char *second = LETTER('b');
        memopt_auto(touch) char *never = NULL;
        assert_non_null(text);
        assert_true(none == NULL && no_file == NULL && no_fd < 0 && never == NULL);
        assert_true(first != second);
        fd_of_file = fileno(file);
        plain = fd;
        assert_true(is_open(fd_of_file) && is_open(plain));
    }
    assert_false(is_open(fd_of_file));
    assert_false(is_open(plain));
    assert_string_equal(ran, "ba");
}

static const struct memopt_ref_type type = MEMOPT_REF_TYPE_INIT("object", NULL, NULL);

static int build_one(void *context, void *value, struct memopt_error *unused) {
    (void)context, (void)unused;
    *(int *)value = 1;
    return 0;
}

static void what_memopt_makes_is_cleaned_up(void **state) {
    (void)state;
    {
        struct memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
        memopt_auto(memopt_heap_destroy) struct memopt_heap *inner = NULL;
        options.allocator = "libc";
        assert_int_equal(memopt_heap_open("inner", &options, &inner, &error), 0);
        assert_non_null(memopt_heap_alloc(inner, 100));

        void *object;
        assert_int_equal(memopt_ref_new(heap, &type, 10, 0, &object, &error), 0);
        memopt_auto(memopt_ref_put) char *text = object;
        memopt_auto(memopt_weak_put) struct memopt_weak *weak = memopt_weak_new(text);
        memopt_auto(memopt_ref_put) char *again = memopt_weak_lock(weak);
        assert_ptr_equal(again, text);

        memopt_auto(memopt_lazy_destroy) struct memopt_lazy lazy =
            MEMOPT_LAZY_INIT(sizeof(int), build_one, NULL, NULL);
        void *value;
        lazy.heap = heap;
        assert_int_equal(memopt_lazy_get(&lazy, &value, &error), 0);
    }
    assert_null(memopt_heap_find("inner"));
}

/* --------------------------------------------------------------- 2. owned */

static void owned_handles_move(void **state) {
    (void)state;
    new_scope();
    struct memopt_owned kept;
    {
        memopt_auto(owned) struct memopt_owned a =
            memopt_owned_make(LETTER('a'), note_release, LETTER('x'));
        memopt_auto(owned) struct memopt_owned b =
            memopt_owned_make(LETTER('b'), note_release, LETTER('y'));
        memopt_auto(owned) struct memopt_owned c =
            memopt_owned_make(LETTER('c'), note_release, LETTER('z'));
        memopt_auto(owned) struct memopt_owned lent = memopt_owned_make(LETTER('d'), NULL, NULL);
        memopt_auto(owned) struct memopt_owned empty = memopt_owned_make(NULL, note_release, NULL);
        assert_ptr_equal(lent.p, LETTER('d'));
        assert_null(empty.p);
        kept = memopt_owned_move(&a);
        assert_null(a.p);
        assert_ptr_equal(memopt_owned_release(&b), LETTER('b'));
        assert_null(b.p);
        memopt_owned_reset(&c);
        assert_null(c.p);
        assert_string_equal(ran, "zc");
        memopt_owned_reset(&c);
        memopt_owned_reset(NULL);
    }
    assert_string_equal(ran, "zc");
    memopt_owned_reset(&kept);
    assert_string_equal(ran, "zcxa");

    {
        memopt_auto(owned) struct memopt_owned block =
            memopt_owned_block(heap, memopt_heap_alloc(heap, 100));
        memset(block.p, 1, 100);
        assert_int_equal(live_blocks(), 1);
    }
    assert_int_equal(live_blocks(), 0);
}

/* -------------------------------------------------------------- 3. scopes */

static void last_in_first_out(void **state) {
    (void)state;
    for (size_t count = 0; count <= 30; count++) {
        char want[64] = "";
        struct memopt_scope scope = new_scope();
        errno = 5;
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(memopt_scope_push(&scope, note, &letters[i], &error), 0);
            want[count - 1 - i] = letters[i];
            assert_int_equal(live_blocks(), i >= MEMOPT_SCOPE_ENTRIES); /* only then memory */
        }
        memopt_scope_end(&scope);
        assert_string_equal(ran, want);
        assert_int_equal(errno, 5);
        assert_int_equal(live_blocks(), 0);
        memopt_scope_end(&scope); /* is empty */
        assert_string_equal(ran, want);
    }
    memopt_scope_end(NULL);
}

/* Scripts: "a" pushes a clean-up, "A" one on error, "!a" dismisses it, "?a" runs it,
 * "=" commits, ">a" moves it to the outer scope, "*" moves all there, "." ends the
 * inner scope, "," the outer. At the end the inner one is ended, then the outer. */
static const struct {
    const char *script, *want;
} scripts[] = {
    {"abc.", "cba"},
    {"aBc.", "cba"},     /* no commit: an error */
    {"aBc=.", "ca"},     /* success */
    {"a=Bc.", "ca"},     /* whenever it was committed */
    {"ab=.cD.", "badc"}, /* a scope used again is not committed: D runs as d */
    {"abc!b.", "ca"},
    {"abc?b.", "bca"},
    {"abca!a.", "cba"}, /* the last one of that name */
    {"abc!a?c.", "cb"},
    {"ab>a.c.", "bca"}, /* the outer one comes last */
    {"abc*de.", "edcba"},
    {"aBc=*.,", "cba"}, /* commits of inner scopes are not the outer's */
    {"aBc>b.", "cab"},
    {"abcdefghijkl?c!d>a=.", "clkjihgfeba"},
    {"abcdefghij*klm.", "mlkjihgfedcba"},
};

static void scopes_do_as_told(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(scripts); i++) {
        struct memopt_scope inner = new_scope(), outer = new_scope();
        for (const char *c = scripts[i].script; *c != '\0'; c++) {
            char letter = c[0];
            int code = 0;
            switch (letter) {
            case '.':
                memopt_scope_end(&inner);
                break;
            case ',':
                memopt_scope_end(&outer);
                break;
            case '=':
                memopt_scope_commit(&inner);
                break;
            case '*':
                code = memopt_scope_move_all(&inner, &outer, &error);
                break;
            case '!':
                code = memopt_scope_dismiss(&inner, LETTER(*++c), &error);
                break;
            case '?':
                code = memopt_scope_run(&inner, LETTER(*++c), &error);
                break;
            case '>':
                code = memopt_scope_move(&inner, LETTER(*++c), &outer, &error);
                break;
            default:
                code = letter >= 'a' ? memopt_scope_push(&inner, note, LETTER(letter), &error)
                                     : memopt_scope_push_on_error(
                                           &inner, note, LETTER(letter - 'A' + 'a'), &error);
            }
            assert_int_equal(code, 0);
        }
        memopt_scope_end(&inner);
        memopt_scope_end(&outer);
        if (strcmp(ran, scripts[i].want) != 0)
            fail_msg("'%s': '%s' ran, not '%s'", scripts[i].script, ran, scripts[i].want);
    }
}

static void blocks_belong_to_it(void **state) {
    (void)state;
    struct memopt_scope scope = new_scope();
    struct memopt_scope outer = new_scope();
    void *blocks[20];
    for (size_t i = 0; i < COUNT(blocks); i++) {
        blocks[i] = memopt_scope_alloc(&scope, i % 2 ? heap : NULL, 10 + i);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, 10 + i);
    }
    uint64_t with_all = live_blocks();
    assert_int_equal(memopt_scope_run(&scope, blocks[3], &error), 0); /* early */
    assert_int_equal(live_blocks(), with_all - 1);
    assert_int_equal(memopt_scope_dismiss(&scope, blocks[4], &error), 0);
    assert_int_equal(memopt_scope_move(&scope, blocks[5], &outer, &error), 0);
    memopt_scope_end(&scope);
    assert_int_equal(live_blocks(), 2);
    memopt_heap_free(heap, blocks[4]);
    memopt_scope_end(&outer);

    errno = 0;
    assert_null(memopt_scope_alloc(&scope, NULL, 300 << 20)); /* over the limit */
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(scope.count, 0);
    struct memopt_scope plain = MEMOPT_SCOPE_INIT(NULL); /* the default heap */
    assert_non_null(memopt_scope_alloc(&plain, NULL, 10));
    memopt_scope_end(&plain);
}

static void owned_handles_move_in(void **state) {
    (void)state;
    struct memopt_scope scope = new_scope();
    struct memopt_owned owned = memopt_owned_make(LETTER('a'), note_release, LETTER('x'));
    struct memopt_owned lent = memopt_owned_make(LETTER('b'), NULL, NULL);
    struct memopt_owned empty = MEMOPT_OWNED_INIT;
    assert_int_equal(memopt_scope_own(&scope, &owned, &error), 0);
    assert_int_equal(memopt_scope_own(&scope, &lent, &error), 0);
    assert_int_equal(memopt_scope_own(&scope, &empty, &error), 0);
    assert_null(owned.p);
    assert_string_equal(ran, "");
    memopt_scope_end(&scope);
    assert_string_equal(ran, "xa");
}

/* A clean-up that pushes another one. */
static struct memopt_scope pushed_to;
static void note_and_push(void *p) {
    note(p);
    assert_int_equal(memopt_scope_push(&pushed_to, note, LETTER('z'), NULL), 0);
}

static void a_cleanup_may_push(void **state) {
    (void)state;
    pushed_to = new_scope();
    assert_int_equal(memopt_scope_push(&pushed_to, note, LETTER('a'), &error), 0);
    assert_int_equal(memopt_scope_push(&pushed_to, note_and_push, LETTER('b'), &error), 0);
    memopt_scope_end(&pushed_to);
    assert_string_equal(ran, "bza");
}

static void bad_input_changes_nothing(void **state) {
    (void)state;
    struct memopt_scope scope = new_scope();
    struct memopt_owned owned = memopt_owned_make(LETTER('a'), note_release, LETTER('x'));
    assert_int_equal(memopt_scope_push(&scope, NULL, LETTER('a'), &error), -EINVAL);
    assert_non_null(strstr(error.message, "a scope and a function"));
    assert_int_equal(memopt_scope_push(NULL, note, LETTER('a'), &error), -EINVAL);
    assert_int_equal(memopt_scope_push_on_error(&scope, NULL, LETTER('a'), &error), -EINVAL);
    assert_int_equal(memopt_scope_own(NULL, &owned, &error), -EINVAL);
    assert_int_equal(memopt_scope_own(&scope, NULL, &error), -EINVAL);
    assert_non_null(owned.p);
    assert_int_equal(memopt_scope_dismiss(&scope, LETTER('a'), &error), -ENOENT);
    assert_non_null(strstr(error.message, "no clean-up for 0x"));
    assert_int_equal(memopt_scope_run(&scope, NULL, &error), -ENOENT);
    assert_int_equal(memopt_scope_move(&scope, LETTER('a'), &scope, &error), -ENOENT);
    assert_int_equal(memopt_scope_move(&scope, LETTER('a'), NULL, &error), -EINVAL);
    assert_int_equal(memopt_scope_run(NULL, LETTER('a'), &error), -EINVAL);
    assert_int_equal(memopt_scope_move_all(&scope, &scope, &error), -EINVAL);
    assert_int_equal(memopt_scope_move_all(&scope, NULL, &error), -EINVAL);
    assert_int_equal(memopt_scope_reserve(&scope, SIZE_MAX, &error), -ENOMEM);
    assert_int_equal(memopt_scope_reserve(&scope, SIZE_MAX / 64, &error), -ENOMEM);
    assert_non_null(strstr(error.message, "heap 'test'"));
    assert_int_equal(scope.count, 0);
    assert_null(memopt_scope_alloc(NULL, NULL, 10));
    assert_int_equal(errno, EINVAL);
    assert_string_equal(ran, "");
}

/* The heap is full: a push that needs memory runs its clean-up, a reserved one
 * needs none, and moves change nothing. */
static void a_push_without_memory_cleans_up(void **state) {
    (void)state;
    struct memopt_scope scope = new_scope(), to = new_scope();
    for (size_t i = 0; i < MEMOPT_SCOPE_ENTRIES; i++) {
        assert_int_equal(memopt_scope_push(&scope, note, &letters[i], &error), 0);
        assert_int_equal(memopt_scope_push(&to, note, &letters[10 + i], &error), 0);
    }
    memopt_heap_set_limit(heap, 1);
    assert_int_equal(memopt_scope_push(&scope, note, LETTER('x'), &error), -ENOMEM);
    assert_int_equal(error.code, -ENOMEM);
    assert_string_equal(ran, "x");
    struct memopt_owned owned = memopt_owned_make(LETTER('y'), note_release, LETTER('z'));
    assert_int_equal(memopt_scope_own(&scope, &owned, &error), -ENOMEM);
    assert_null(owned.p);
    assert_string_equal(ran, "xzy");
    assert_null(memopt_scope_alloc(&scope, NULL, 1));
    assert_int_equal(memopt_scope_move(&scope, LETTER('b'), &to, &error), -ENOMEM);
    assert_int_equal(memopt_scope_move_all(&scope, &to, &error), -ENOMEM);
    assert_int_equal(memopt_scope_reserve(&scope, 1, &error), -ENOMEM);
    memopt_heap_set_limit(heap, 256 << 20);
    assert_int_equal(memopt_scope_reserve(&scope, 3, &error), 0);
    memopt_heap_set_limit(heap, 1);
    for (size_t i = 20; i < 23; i++)
        assert_int_equal(memopt_scope_push(&scope, note, &letters[i], &error), 0);
    memset(ran, 0, sizeof(ran));
    memopt_scope_end(&scope);
    memopt_scope_end(&to);
    assert_string_equal(ran, "wvuhgfedcbarqponmlk");
}

/* As a function that builds something in steps uses it. */
static int make_pair(char *made[2], int fail_at) {
    memopt_auto(scope) struct memopt_scope scope = MEMOPT_SCOPE_INIT(heap);
    for (int i = 0; i < 2; i++) {
        if (fail_at == i)
            return -EIO;
        char *p = memopt_heap_alloc(heap, 10);
        if (p == NULL)
            return -ENOMEM;
        struct memopt_owned owned = memopt_owned_block(heap, p);
        if (memopt_scope_own(&scope, &owned, NULL) < 0)
            return -ENOMEM;
        made[i] = p;
    }
    if (fail_at == 2)
        return -EIO;
    for (int i = 0; i < 2; i++)
        memopt_scope_dismiss(&scope, made[i], NULL);
    return 0;
}

static void a_function_undoes_what_it_began(void **state) {
    (void)state;
    char *made[2];
    for (int fail_at = 0; fail_at < 3; fail_at++) {
        assert_int_equal(make_pair(made, fail_at), -EIO);
        assert_int_equal(live_blocks(), 0);
    }
    assert_int_equal(make_pair(made, -1), 0);
    assert_int_equal(live_blocks(), 2);
    memopt_heap_free(heap, made[0]);
    memopt_heap_free(heap, made[1]);
}

static struct memopt_scope inherited;
static void end_inherited(void) {
    memopt_scope_end(&inherited);
    CHECK(strcmp(ran, "ba") == 0);
    CHECK(live_blocks() == 0);
}

static void a_child_has_its_own(void **state) {
    (void)state;
    inherited = new_scope();
    memopt_scope_push(&inherited, note, LETTER('a'), &error);
    memopt_scope_push(&inherited, note, LETTER('b'), &error);
    assert_non_null(memopt_scope_alloc(&inherited, NULL, 100));
    assert_int_equal(run_child(end_inherited), 0);
    assert_string_equal(ran, "");
    memopt_scope_end(&inherited);
    assert_string_equal(ran, "ba");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        test(variables_are_cleaned_up),
        test(what_memopt_makes_is_cleaned_up),
        test(owned_handles_move),
        test(last_in_first_out),
        test(scopes_do_as_told),
        test(blocks_belong_to_it),
        test(owned_handles_move_in),
        test(a_cleanup_may_push),
        test(bad_input_changes_nothing),
        test(a_push_without_memory_cleans_up),
        test(a_function_undoes_what_it_began),
        test(a_child_has_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
