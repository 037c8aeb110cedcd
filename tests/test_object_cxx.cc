/*
 * test_object_cxx.cc - memopt_auto, owned handles, scopes, references and lazy state
 * from C++, where exceptions leave the scopes. Exit status 0 if all went well.
 */
#include <memopt/memopt.h>

#include <cstdio>
#include <cstdlib>
#include <string>

static std::string ran;

static void note(void *p) {
    ran += static_cast<const char *>(p);
}

static char a[] = "a", b[] = "b", c[] = "c";

static void leave(memopt_heap *heap, bool by_exception) {
    memopt_auto(scope) memopt_scope scope = MEMOPT_SCOPE_INIT(heap);
    memopt_scope_push(&scope, note, a, nullptr);
    memopt_scope_push_on_error(&scope, note, b, nullptr);
    memopt_auto(free) char *text = static_cast<char *>(std::malloc(10));
    if (text == nullptr || memopt_scope_alloc(&scope, nullptr, 100) == nullptr)
        std::abort();
    if (by_exception)
        throw 1;
    memopt_scope_commit(&scope);
}

struct Node {
    Node *next;
};
static void node_destroy(void *object) {
    memopt_ref_put(static_cast<Node *>(object)->next);
    note(c);
}
static const memopt_ref_type node_type = MEMOPT_REF_TYPE_INIT("node", node_destroy, nullptr);

static int build(void *, void *value, memopt_error *) {
    *static_cast<int *>(value) = 7;
    return 0;
}
static memopt_lazy lazy = MEMOPT_LAZY_INIT(sizeof(int), build, nullptr, nullptr);

static int check(bool ok, const char *what) {
    if (!ok)
        std::fprintf(stderr, "test_object_cxx: %s\n", what);
    return ok ? 0 : 1;
}

int main() {
    setenv("MEMOPT_CONF", "/dev/null", 1);
    memopt_error error = MEMOPT_ERROR_INIT;
    memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    options.allocator = "libc";
    memopt_heap *heap = nullptr;
    if (memopt_heap_open("cxx", &options, &heap, &error) < 0)
        return check(false, error.message);
    int failed = 0;
    leave(heap, false);
    failed += check(ran == "a", "a commit");
    ran.clear();
    try {
        leave(heap, true);
    } catch (int) {
    }
    failed += check(ran == "ba", "an exception");
    ran.clear();
    {
        void *object = nullptr;
        failed += check(memopt_ref_new(heap, &node_type, sizeof(Node), 0, &object, &error) == 0,
                        error.message);
        memopt_auto(memopt_ref_put) Node *node = static_cast<Node *>(object);
        memopt_auto(memopt_weak_put) memopt_weak *weak = memopt_weak_new(node);
        memopt_auto(memopt_ref_put) void *again = memopt_weak_lock(weak);
        failed += check(again == node && ran.empty(), "references");
        memopt_auto(owned) memopt_owned owned =
            memopt_owned_block(heap, memopt_heap_alloc(heap, 10));
        memopt_auto(owned) memopt_owned other = memopt_owned_move(&owned);
        failed += check(owned.p == nullptr && other.p != nullptr, "a move");
    }
    failed += check(ran == "c", "the last reference");
    void *value = nullptr;
    failed += check(memopt_lazy_get(&lazy, &value, &error) == 0 && *static_cast<int *>(value) == 7,
                    "lazy state");
    memopt_lazy_destroy(&lazy, nullptr);
    memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    memopt_heap_stats(heap, &stats);
    failed += check(stats.live_blocks == 0, "no block is left");
    failed += check(memopt_heap_destroy(heap, &error) == 0, "destroy");
    return failed != 0;
}
