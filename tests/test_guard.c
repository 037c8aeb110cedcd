/* test_guard.c - the guard allocator: every kind of bug, planted, with what must
 * be said of it and the signal the process must die of; the program's own
 * handlers; running out of mappings; failing system calls.
 *
 * The functions whose names must show up in stacks are exported
 * (-export-dynamic) and not inlined. */
#include "config.h"

#include "tests/own.h"
#ifndef MO_SANITIZED
#include "tests/own_faults.h"
#endif

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>

#define NAMED __attribute__((noinline, visibility("default")))
#define KEEP_FRAME __asm__ volatile("" ::: "memory") /* no tail call */

NAMED void *allocate_here(size_t size);
NAMED void *allocate_here(size_t size) {
    void *p = own_malloc->malloc(size);
    KEEP_FRAME;
    return p;
}

NAMED void free_here(void *p);
NAMED void free_here(void *p) {
    own_malloc->free(p);
    KEEP_FRAME;
}

NAMED void free_again_here(void *p);
NAMED void free_again_here(void *p) {
    own_malloc->free(p);
    KEEP_FRAME;
}

NAMED void write_here(void *p, ptrdiff_t at);
NAMED void write_here(void *p, ptrdiff_t at) {
    ((volatile char *)p)[at] = 1;
    KEEP_FRAME;
}

NAMED int read_here(void *p, ptrdiff_t at);
NAMED int read_here(void *p, ptrdiff_t at) {
    int value = ((volatile char *)p)[at];
    KEEP_FRAME;
    return value;
}

static const char *option = "side", *value = "end";

static void opened(void) {
    if (own_open("guard", option, value, NULL) != 0) {
        fprintf(stderr, "%s\n", own_error.message);
        _exit(98);
    }
}

/* --------------------------------------------------------------- planted bugs */

static void overflow_write(void) {
    opened();
    write_here(allocate_here(48), 48);
}

static void overflow_read(void) {
    opened();
    read_here(allocate_here(4096), 4100);
}

static void overflow_large(void) {
    opened();
    read_here(allocate_here(300 << 20), 300 << 20);
}

static void overflow_aligned(void) {
    opened();
    char *p = own_malloc->aligned_alloc(1 << 16, 1 << 16);
    CHECK((uintptr_t)p % (1 << 16) == 0);
    write_here(p, 1 << 16);
}

static void overflow_of_nothing(void) {
    opened();
    write_here(allocate_here(0), 0);
}

static void overflow_in_slack(void) {
    opened();
    char *p = allocate_here(45);
    write_here(p, 46);
    free_here(p);
}

static void overflow_odd(void) {
    opened();
    write_here(allocate_here(45), 45);
}

static void underflow_at_once(void) {
    opened();
    read_here(allocate_here(100), -1);
}

static void underflow_second(void) {
    opened();
    allocate_here(100);
    write_here(allocate_here(100), -7);
}

/* Far below the first block, where something of somebody's may lie. */
static void underflow_far(ptrdiff_t by) {
    opened();
    write_here(allocate_here(100), -by);
}

static void underflow_by_a_megabyte(void) {
    underflow_far(1 << 20);
}

static void underflow_by_63_megabytes(void) {
    underflow_far(63 << 20);
}

static void overflow_far(void) {
    opened();
    write_here(allocate_here(100), 63 << 20);
}

static void overflow_found_at_free(void) {
    opened();
    char *p = allocate_here(100);
    write_here(p, 2000);
    free_here(p);
}

static void underflow_found_at_free(void) {
    opened();
    char *p = allocate_here(100);
    write_here(p, -3);
    free_here(p);
}

static void use_write(void) {
    opened();
    char *p = allocate_here(100);
    free_here(p);
    write_here(p, 17);
}

static void use_read(void) {
    opened();
    char *p = allocate_here(100000), *q = allocate_here(100000);
    free_here(p);
    write_here(q, 5);
    read_here(p, 99999);
}

static void use_realloc(void) {
    opened();
    char *p = allocate_here(100);
    free_here(p);
    KEEP_FRAME;
    own_malloc->realloc(p, 200);
}

static void use_after_realloc(void) {
    opened();
    char *p = allocate_here(100), *q = own_malloc->realloc(p, 90);
    CHECK(q != NULL && q != p);
    write_here(q, 0);
    write_here(p, 0);
}

static void free_twice(void) {
    opened();
    char *p = allocate_here(100);
    free_here(p);
    free_again_here(p);
}

static void free_inside(void) {
    opened();
    free_here((char *)allocate_here(100) + 16);
}

static void free_stack(void) {
    opened();
    char on_stack[16];
    free_here(on_stack);
}

static void free_elsewhere(void) {
    opened();
    free_here(OPS.heap_malloc(own_heap("h", NULL, 0), 100));
}

/* ----------------------------------------------- by which form, of what size */

NAMED void *new_here(size_t size, size_t alignment, unsigned by);
NAMED void *new_here(size_t size, size_t alignment, unsigned by) {
    void *p =
        alignment == 0 ? own_malloc->malloc(size) : own_malloc->aligned_alloc(alignment, size);
    CHECK(p != NULL);
    if (by != MEMOPT_BY_MALLOC)
        own_malloc->made_by(p, by);
    KEEP_FRAME;
    return p;
}

NAMED void delete_here(void *p, size_t size, size_t alignment, unsigned by);
NAMED void delete_here(void *p, size_t size, size_t alignment, unsigned by) {
    own_malloc->freed_by(p, size, alignment, by);
    own_malloc->free(p);
    KEEP_FRAME;
}

/* Made by one form and freed by another; what is said of it, or NULL. */
enum { C = MEMOPT_BY_MALLOC, NEW = MEMOPT_BY_NEW, ARRAY = MEMOPT_BY_NEW_ARRAY };
static const struct pair {
    struct {
        size_t size, alignment;
        unsigned by;
    } made, freed;
    const char *says[3];
} pairs[] = {
    {{48, 0, NEW}, {48, 0, NEW}, {NULL}},
    {{48, 0, NEW}, {SIZE_MAX, 0, NEW}, {NULL}},
    {{48, 0, ARRAY}, {48, 0, ARRAY}, {NULL}},
    {{0, 0, NEW}, {0, 0, NEW}, {NULL}},
    {{48, 128, NEW}, {48, 128, NEW}, {NULL}},
    {{48, 128, NEW}, {SIZE_MAX, 128, NEW}, {NULL}},
    {{48, 128, ARRAY}, {SIZE_MAX, 0, ARRAY}, {NULL}}, /* alignment not said */
    /* up to 16 an alignment is every block's */
    {{48, 0, NEW}, {48, 16, NEW}, {NULL}},
    {{48, 8, NEW}, {48, 1, NEW}, {NULL}},
    {{40000, 4096, NEW}, {40000, 4096, NEW}, {NULL}},
    {{48, 0, C}, {48, 0, C}, {NULL}},
    {{48, 64, C}, {48, 64, C}, {NULL}},
    {{48, 64, C}, {48, 48, C}, {NULL}}, /* aligned_alloc(48, 48), which is rounded up */
    /* of an operator of the program's own, which may have asked for more */
    {{48, 0, C}, {40, 0, NEW}, {NULL}},
    {{48, 0, C}, {SIZE_MAX, 0, ARRAY}, {NULL}},
    {{48, 0, C}, {40, 64, NEW}, {NULL}},
    /* of a run-time of its own: its delete may end in free_sized */
    {{48, 0, ARRAY}, {48, 0, C}, {NULL}},
    {{48, 0, NEW},
     {SIZE_MAX, 0, ARRAY},
     {"memopt: form-mismatch: delete[](0x", ") of a block of 48 bytes at 0x",
      " that was made by new: expected delete\n"}},
    {{48, 0, ARRAY},
     {SIZE_MAX, 0, NEW},
     {"memopt: form-mismatch: delete(0x", " that was made by new[]: expected delete[]\n"}},
    {{48, 0, ARRAY}, {8, 0, NEW}, {"memopt: form-mismatch: delete(0x"}},
    {{48, 64, ARRAY}, {48, 64, NEW}, {"memopt: form-mismatch: delete(0x"}},
    {{48, 0, NEW},
     {40, 0, NEW},
     {"memopt: size-mismatch: delete(0x", ") with size 40 of a block of 48 bytes at 0x",
      ": expected size 48\n"}},
    {{48, 0, NEW}, {49, 0, NEW}, {"memopt: size-mismatch: delete(0x", "with size 49 of"}},
    {{48, 0, NEW}, {0, 0, NEW}, {"memopt: size-mismatch: delete(0x", "with size 0 of"}},
    {{0, 0, NEW}, {1, 0, NEW}, {"memopt: size-mismatch: delete(0x", ": expected size 0\n"}},
    {{48, 0, ARRAY}, {40, 0, ARRAY}, {"memopt: size-mismatch: delete[](0x"}},
    {{100000, 64, NEW}, {99999, 64, NEW}, {"memopt: size-mismatch: delete(0x"}},
    {{48, 0, C}, {40, 0, C}, {"memopt: size-mismatch: free_sized(0x"}},
    {{48, 0, ARRAY}, {40, 0, C}, {"memopt: size-mismatch: free_sized(0x"}},
    {{48, 64, C}, {40, 64, C}, {"memopt: size-mismatch: free_aligned_sized(0x"}},
    {{48, 128, NEW},
     {48, 64, NEW},
     {"memopt: alignment-mismatch: delete(0x", ") with alignment 64 of a block of 48 bytes at 0x",
      ": expected alignment 128\n"}},
    {{48, 0, ARRAY},
     {SIZE_MAX, 64, ARRAY},
     {"memopt: alignment-mismatch: delete[](0x", ": expected alignment 16 or less\n"}},
    {{48, 64, C}, {48, 128, C}, {"memopt: alignment-mismatch: free_aligned_sized(0x"}},
    {{48, 64, C}, {48, 8, C}, {"memopt: alignment-mismatch: free_aligned_sized(0x"}},
    {{48, 0, C}, {48, 64, C}, {"memopt: alignment-mismatch: free_aligned_sized(0x"}},
    {{48, 64, C},
     {48, 0, C},
     {"memopt: alignment-mismatch: free_sized(0x",
      ") without alignment of a block of 48 bytes at 0x", ": expected alignment 64\n"}},
};

static const struct pair *current;
static int in_thread;

static void *free_now(void *p) {
    delete_here(p, current->freed.size, current->freed.alignment, current->freed.by);
    return NULL;
}

static void pair_body(void) {
    pthread_t thread;
    opened();
    /* a place that was another form's before is not taken for it */
    delete_here(new_here(48, 0, current->made.by), 48, 0, current->made.by);
    for (int i = 0; i < 3; i++) {
        void *p = new_here(current->made.size, current->made.alignment, current->made.by);
        if (!in_thread)
            free_now(p);
        else if (pthread_create(&thread, NULL, free_now, p) == 0)
            pthread_join(thread, NULL);
    }
    delete_here(new_here(48, 0, C), 48, 0, C);
    CHECK(own_figures().live == 0);
}

/* What is wrong with the pointer itself is for free to say. */
static void form_twice(void) {
    opened();
    void *p = new_here(100, 0, NEW);
    delete_here(p, 100, 0, NEW);
    delete_here(p, 90, 0, ARRAY);
}

static void form_inside(void) {
    opened();
    delete_here((char *)new_here(100, 0, NEW) + 16, 84, 0, ARRAY);
}

static void form_foreign(void) {
    opened();
    char on_stack[16];
    own_malloc->made_by(on_stack, NEW);
    delete_here(on_stack, 7, 0, ARRAY);
}

/* What realloc gives is malloc's again, of the new size. */
static void form_realloc(void) {
    opened();
    delete_here(own_malloc->realloc(new_here(48, 64, NEW), 30), 30, 0, C);
    delete_here(own_malloc->realloc(new_here(48, 0, C), 3000), 3000, 0, C);
    delete_here(own_malloc->realloc(new_here(48, 0, C), 3000), 48, 0, C);
}

static void forms_disabled(void) {
    CHECK(own_open("guard", "forms", "no", NULL) == 0);
    CHECK(own_malloc->made_by == NULL && own_malloc->freed_by == NULL);
    own_malloc->free(own_malloc->malloc(10));
}

static const struct bug {
    const char *option, *value;
    void (*body)(void);
    int signal;
    const char *says[8];
} bugs[] = {
    {"side",
     "end",
     overflow_write,
     SIGSEGV,
     {"memopt: overflow: write at offset 48, right past the end of a block of 48 bytes at 0x",
      "allocate_here", "write_here", "  accessed by thread ", "  allocated by thread "}},
    {"side",
     "end",
     overflow_read,
     SIGSEGV,
     {"memopt: overflow: read at offset 4100, 4 bytes past the end of a block of 4096 bytes",
      "allocate_here", "read_here"}},
    {"side",
     "end",
     overflow_large,
     SIGSEGV,
     {"memopt: overflow: read at offset 314572800, right past the end of a block of 314572800 "
      "bytes"}},
    {"side",
     "end",
     overflow_aligned,
     SIGSEGV,
     {"memopt: overflow: write at offset 65536, right past the end of a block of 65536 bytes"}},
    {"side",
     "end",
     overflow_of_nothing,
     SIGSEGV,
     {"memopt: overflow: write at offset 0, right past the end of a block of 0 bytes",
      "allocate_here"}},
    {"side",
     "end",
     overflow_in_slack,
     SIGABRT,
     {"memopt: overflow: write at offset 46, 1 byte past the end of a block of 45 bytes",
      "found when it was freed", "allocate_here", "free_here"}},
    {"align",
     "1",
     overflow_odd,
     SIGSEGV,
     {"memopt: overflow: write at offset 45, right past the end of a block of 45 bytes"}},
    {"side",
     "start",
     underflow_at_once,
     SIGSEGV,
     {"memopt: underflow: read at offset -1, 1 byte before the start of a block of 100 bytes",
      "allocate_here", "read_here"}},
    {"side",
     "start",
     underflow_second,
     SIGSEGV,
     {"memopt: underflow: write at offset -7, 7 bytes before the start of a block of 100 bytes"}},
    {"side",
     "end",
     underflow_by_a_megabyte,
     SIGSEGV,
     {"memopt: invalid-access: write at 0x", "where no block is", "write_here"}},
    {"side",
     "start",
     underflow_by_63_megabytes,
     SIGSEGV,
     {"memopt: invalid-access: write at 0x", "where no block is"}},
    {"sample_every",
     "1000000",
     overflow_far,
     SIGSEGV,
     {"memopt: invalid-access: write at 0x", "where no block is"}},
    {"side",
     "start",
     overflow_found_at_free,
     SIGABRT,
     {"memopt: overflow: write at offset 2000, 1900 bytes past the end of a block of 100 bytes",
      "found when it was freed"}},
    {"side",
     "end",
     underflow_found_at_free,
     SIGABRT,
     {"memopt: underflow: write at offset -3, 3 bytes before the start of a block of 100 bytes",
      "found when it was freed", "free_here"}},
    {"side",
     "end",
     use_write,
     SIGSEGV,
     {"memopt: use-after-free: write at byte 17 of a block of 100 bytes", "that was freed before",
      "write_here", "allocate_here", "  freed by thread ", "free_here"}},
    {"side",
     "end",
     use_read,
     SIGSEGV,
     {"memopt: use-after-free: read at byte 99999 of a block of 100000 bytes", "read_here",
      "allocate_here", "free_here"}},
    {"quarantine",
     "0",
     use_write,
     SIGSEGV, /* until its place is used again */
     {"memopt: use-after-free: write at byte 17 of a block of 100 bytes", "free_here"}},
    {"side",
     "end",
     use_realloc,
     SIGABRT,
     {"memopt: use-after-free: realloc(0x", "a block of 100 bytes", "free_here", "allocate_here"}},
    {"side",
     "end",
     use_after_realloc,
     SIGSEGV,
     {"memopt: use-after-free: write at byte 0 of a block of 100 bytes", "allocate_here"}},
    {"side",
     "end",
     free_twice,
     SIGABRT,
     {"memopt: double-free: free(0x", "a block of 100 bytes", "  called by thread ",
      "free_again_here", "allocate_here", "free_here"}},
    {"side",
     "end",
     free_inside,
     SIGABRT,
     {"memopt: invalid-free: free(0x", "): 16 bytes inside a block of 100 bytes", "free_here",
      "allocate_here"}},
    {"side",
     "end",
     free_stack,
     SIGABRT,
     {"memopt: invalid-free: free(0x", "none of this allocator's", "free_here"}},
    {"side",
     "end",
     free_elsewhere,
     SIGABRT,
     {"memopt: invalid-free: free(0x", "belongs to another heap"}},
};

/* The name of the function that the frame at `at` is in: this program's, whose children had it
 * at the same addresses. */
static const char *name_of(const char *at) {
    Dl_info self, info;
    const char *plus = at + strcspn(at, "+\n");
    if (strncmp(plus, "+0x", 3) != 0)
        return "";
    if (dladdr((void *)use_write, &self) == 0)
        return "";
    char *address = (char *)self.dli_fbase + strtoull(plus + 1, NULL, 16);
    return dladdr(address, &info) != 0 && info.dli_sname != NULL ? info.dli_sname : "";
}

static int has_frame(const char *name) {
    for (const char *at = own_output; (at = strstr(at, "\n    #")) != NULL; at++)
        if (strcmp(name_of(at + 1), name) == 0)
            return 1;
    return 0;
}

static void expect(const struct bug *bug) {
    option = bug->option;
    value = bug->value;
    int status = own_child(bug->body);
    if (status != -bug->signal)
        fail_msg("%s=%s: status %d, expected signal %d; it said: %s", option, value, status,
                 bug->signal, own_output);
    for (size_t i = 0; i < 8 && bug->says[i] != NULL; i++)
        if (strstr(own_output, bug->says[i]) == NULL && !has_frame(bug->says[i]))
            fail_msg("%s=%s: no '%s' in: %s", option, value, bug->says[i], own_output);
    const char *first = strstr(own_output, "memopt: ");
    if (first == NULL || strstr(first + 1, "memopt: ") != NULL)
        fail_msg("not exactly one message in: %s", own_output);
}

static void planted(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(bugs) / sizeof(bugs[0]); i++)
        expect(&bugs[i]);
}

static void forms(void **state) {
    (void)state;
    static const char *const settings[][2] = {
        {"side", "end"}, {"side", "start"}, {"align", "1"}, {"max_size", "1"}};
    static const struct bug others[] = {
        {"forms", "yes", form_twice, SIGABRT, {"memopt: double-free: free(0x", "delete_here"}},
        {"forms",
         "yes",
         form_inside,
         SIGABRT,
         {"memopt: invalid-free: free(0x", "16 bytes inside"}},
        {"forms", "yes", form_foreign, SIGABRT, {"memopt: invalid-free: free(0x"}},
        {"forms",
         "yes",
         form_realloc,
         SIGABRT,
         {"memopt: size-mismatch: free_sized(0x", "with size 48 of a block of 3000 bytes"}},
    };
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        expect(&others[i]);
    own_passes(forms_disabled);
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        current = &pairs[i];
        in_thread = i % 2 == 0;
        const char *const *setting = settings[i % (sizeof(settings) / sizeof(settings[0]))];
        struct bug bug = {setting[0], setting[1], pair_body, SIGABRT, {NULL}};
        if (current->says[0] != NULL) {
            memcpy(bug.says, current->says, sizeof(current->says));
            bug.says[3] = "  allocated by thread ";
            bug.says[4] = "new_here";
            bug.says[5] = "  called by thread ";
            bug.says[6] = "delete_here";
            for (int j = 1; j < 3; j++)
                bug.says[j] = bug.says[j] == NULL ? "" : bug.says[j];
            expect(&bug);
            continue;
        }
        option = bug.option;
        value = bug.value;
        own_passes(pair_body);
    }
    option = "side";
    value = "end";
}

/* The innermost frame of each stack is the function that did it. */
static void innermost(void **state) {
    (void)state;
    option = "side";
    value = "end";
    assert_int_equal(own_child(use_write), -SIGSEGV);
    const char *at = own_output;
    static const char *const names[] = {"write_here", "allocate_here", "free_here"};
    for (int i = 0; i < 3; i++) {
        at = strstr(at, "\n    #0 ");
        assert_non_null(at);
        at += strlen("\n    #0 ");
        if (strcmp(name_of(at), names[i]) != 0)
            fail_msg("stack %d does not begin with '%s' in: %s", i, names[i], own_output);
        assert_non_null(strstr(at, "test_guard+0x"));
    }
    option = "frames";
    value = "1";
    assert_int_equal(own_child(use_write), -SIGSEGV);
    at = strstr(own_output, "allocated by");
    assert_non_null(at);
    at = strstr(at, "#0 ");
    assert_non_null(at);
    assert_string_equal(name_of(at + 3), "allocate_here");
    assert_null(strstr(at, "#1 "));
    assert_non_null(strstr(at, "\n  build-id "));
}

/* ------------------------------------------------------- no guard page (soft) */

static void soft_opened(void) {
    opened();
    free_here(allocate_here(10)); /* the first of a million is the guarded one */
}

static void soft_overflow(void) {
    soft_opened();
    char *p = allocate_here(48);
    allocate_here(48);
    write_here(p, 48);
    free_here(p);
}

static void soft_underflow(void) {
    soft_opened();
    char *p = own_malloc->aligned_alloc(64, 48);
    CHECK((uintptr_t)p % 64 == 0);
    write_here(p, -1);
    free_here(p);
}

static void soft_twice(void) {
    soft_opened();
    char *p = allocate_here(48);
    free_here(p);
    free_again_here(p);
}

/* Found when the block leaves the quarantine. */
static void soft_use(void) {
    soft_opened();
    char *p = allocate_here(1000);
    free_here(p);
    write_here(p, 7);
    for (int i = 0; i < 70000; i++)
        own_malloc->free(own_malloc->malloc(1000));
}

static void soft_clean(void) {
    soft_opened();
    for (int i = 0; i < 70000; i++) {
        char *p = own_malloc->calloc(1, 1000);
        for (int j = 0; j < 1000; j += 100)
            CHECK(p[j] == 0);
        memset(p, 1, 1000);
        own_malloc->free(p);
    }
    char *large = allocate_here(100000); /* at once used again */
    free_here(large);
    CHECK(own_figures().retained <= 64 << 20);
}

static void soft(void **state) {
    (void)state;
    static const struct bug soft_bugs[] = {
        {"sample_every",
         "1000000",
         soft_overflow,
         SIGABRT,
         {"memopt: overflow: write at offset 48, right past the end of a block of 48 bytes",
          "found when it was freed", "free_here", "allocate_here"}},
        {"sample_every",
         "1000000",
         soft_underflow,
         SIGABRT,
         {"memopt: underflow: write at offset -1, 1 byte before the start of a block of 48 bytes"}},
        {"sample_every",
         "1000000",
         soft_twice,
         SIGABRT,
         {"memopt: double-free: free(0x", "free_again_here", "free_here", "allocate_here"}},
        {"sample_every",
         "1000000",
         soft_use,
         SIGABRT,
         {"memopt: use-after-free: write at byte 7 of a block of 1000 bytes",
          "when it was to be used again", "allocate_here", "free_here"}},
        {"max_size",
         "40",
         soft_overflow,
         SIGABRT,
         {"memopt: overflow: write at offset 48, right past the end of a block of 48 bytes"}},
        {"max_size",
         "48",
         soft_overflow,
         SIGSEGV,
         {"memopt: overflow: write at offset 48, right past the end of a block of 48 bytes"}},
    };
    for (size_t i = 0; i < sizeof(soft_bugs) / sizeof(soft_bugs[0]); i++)
        expect(&soft_bugs[i]);
    option = "sample_every";
    value = "1000000";
    own_passes(soft_clean);
}

/* -------------------------------------------------------------------- purge */

static _Atomic int purging_ends;

static void *churn_checked(void *seed) {
    size_t random = (size_t)(uintptr_t)seed;
    char *kept[64] = {0};
    for (int round = 0; !purging_ends; round++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        char **p = &kept[random >> 58];
        if (*p != NULL) {
            size_t size = own_malloc->usable_size(*p);
            for (size_t i = 0; i < size; i++)
                CHECK((*p)[i] == (char)size);
            own_malloc->free(*p);
        }
        size_t size = 1 + (random >> 40) % 6000;
        *p = own_malloc->calloc(1, size);
        for (size_t i = 0; i < size; i++)
            CHECK((*p)[i] == 0);
        memset(*p, (int)size, size);
    }
    for (int i = 0; i < 64; i++)
        if (kept[i] != NULL)
            own_malloc->free(kept[i]);
    return NULL;
}

/* Whatever is in use or on its way stays whole while others are taken away. */
static void purge_among_threads(void) {
    pthread_t threads[3];
    /* little enough to look through that the threads don't outrun the purges */
    CHECK(own_open("guard", "sample_every", "1000000", "quarantine", "1MiB", NULL) == 0);
    for (uintptr_t i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, churn_checked, (void *)(i + 1)) == 0);
    for (int i = 0; i < 300; i++)
        OPS.purge();
    purging_ends = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static void purge_figures(void) {
    enum { BLOCKS = 1000, SIZE = 3000 };
    opened();
    char *p[BLOCKS];
    for (int round = 0; round < 3; round++) {
        uint64_t before = own_figures().committed;
        for (int i = 0; i < BLOCKS; i++)
            p[i] = memset(own_malloc->malloc(SIZE), 1, SIZE);
        uint64_t full = own_figures().committed;
        CHECK(round == 0 || full - before >= BLOCKS * SIZE);
        for (int i = 1; i < BLOCKS; i++)
            own_malloc->free(p[i]);
        CHECK(own_figures().committed == full); /* quarantined and resident */
        uint64_t gone = OPS.purge();
        CHECK(gone >= (BLOCKS - 10) * SIZE && own_figures().committed == full - gone);
        CHECK(own_figures().retained == 0 && OPS.purge() == 0);
        CHECK(p[0][0] == 1 && p[0][SIZE - 1] == 1);
        own_malloc->free(p[0]);
        OPS.purge();
    }
}

static void purge_damage(void) {
    opened();
    char *p = allocate_here(1000);
    free_here(p);
    p[7] = 1;
    OPS.purge();
}

/* Guarded blocks have no memory: they stay in quarantine, and inaccessible. */
static void purge_guarded(void) {
    opened();
    char *p = allocate_here(1000);
    free_here(p);
    OPS.purge();
    CHECK(own_figures().retained > 0);
    p[7] = 1;
}

static void purge(void **state) {
    (void)state;
    own_passes(purge_among_threads);
    option = "max_size";
    value = "1";
    own_passes(purge_figures);
    static const struct bug damage = {"max_size",
                                      "1",
                                      purge_damage,
                                      SIGABRT,
                                      {"memopt: use-after-free: write at byte 7 of a block of 1000 "
                                       "bytes"}};
    static const struct bug guarded = {
        "align", "16", purge_guarded, SIGSEGV, {"memopt: use-after-free: write at byte 7 of"}};
    expect(&damage);
    expect(&guarded);
}

/* ------------------------------------------------------------ blocks and heaps */

static void blocks_body(void) {
    option = "quarantine";
    value = "1MiB";
    opened();
    char *p = own_malloc->malloc(100);
    CHECK(own_malloc->usable_size(p) == 100 && own_figures().live == 100);
    memset(p, 7, 100);
    char *q = own_malloc->realloc(p, 5000);
    CHECK(q != p && own_malloc->usable_size(q) == 5000);
    for (int i = 0; i < 100; i++)
        CHECK(q[i] == 7);
    CHECK(own_malloc->malloc(SIZE_MAX / 2) == NULL && own_malloc->realloc(q, SIZE_MAX / 4) == NULL);
    own_malloc->free(q);
    CHECK(own_figures().live == 0 && own_figures().peak == 5100);
    /* 1 MiB of one-page blocks: the 257th free lets the first go. */
    char *first = own_malloc->malloc(1000), *again = NULL;
    own_malloc->free(first);
    int rounds = 0;
    for (; again != first && rounds < 1000; rounds++)
        own_malloc->free(again = own_malloc->malloc(1000));
    CHECK(rounds > 250 && rounds < 300);
    CHECK(own_figures().retained <= 1 << 20);
}

static void heaps_body(void) {
    opened();
    void *one = own_heap("one", NULL, 0), *two = own_heap("two", NULL, 0);
    char *p[10], *other = OPS.heap_calloc(two, 3, 5);
    for (int i = 0; i < 10; i++)
        memset(p[i] = OPS.heap_malloc(one, 1000), i, 1000);
    OPS.heap_free(one, p[4]);
    p[3] = OPS.heap_realloc(one, p[3], 9000);
    CHECK(p[3][999] == 3);
    struct memopt_figures figures = {.size = sizeof(figures)};
    CHECK(OPS.heap_figures(one, &figures) == 0 && figures.live == 8 * 1000 + 9000);
    CHECK(figures.peak == 10000 + 9000 - 1000 && figures.committed == (8 + 3) * 4096);
    OPS.heap_destroy(one);
    CHECK(own_figures().live == 15 && other[14] == 0);
    CHECK(own_heap("again", NULL, 0) == one);
    char area[64];
    CHECK(own_heap("h", area, sizeof(area)) == NULL && strstr(own_error.message, "arena") != NULL);
    write_here(p[3], 8999); /* what a destroyed heap had is freed */
}

static void blocks_and_heaps(void **state) {
    (void)state;
    own_passes(blocks_body);
    option = "side";
    value = "end";
    own_dies(heaps_body, SIGSEGV, "use-after-free: write at byte 8999 of a block of 9000 bytes");
}

/* Blocks of all sizes up to a few units of the alignment. */
static void aligned_body(void) {
    opened();
    size_t align = strcmp(option, "align") == 0 ? (size_t)atoi(value) : 16;
    for (size_t size = 0; size < 70; size++) {
        char *p[] = {own_malloc->malloc(size), own_malloc->calloc(1, size),
                     own_malloc->realloc(own_malloc->malloc(200), size + 1),
                     OPS.heap_malloc(own_heap("h", NULL, 0), size)};
        for (size_t i = 0; i < sizeof(p) / sizeof(p[0]); i++)
            if ((uintptr_t)p[i] % align != 0) {
                fprintf(stderr, "%zu: %zu bytes at %p\n", i, size, (void *)p[i]);
                _exit(99);
            }
    }
}

static void alignment(void **state) {
    (void)state;
    static const char *const settings[][2] = {{"align", "16"},        {"align", "8"},
                                              {"align", "1"},         {"side", "start"},
                                              {"sample_every", "50"}, {"max_size", "1"}};
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        option = settings[i][0];
        value = settings[i][1];
        own_passes(aligned_body);
    }
    option = "side"; /* as those below expect it */
    value = "end";
}

/* What lies within reach of the blocks: nothing of the program's or of the allocator's
 * that can be read or written, 64 MiB far, and the same around its tables. */
struct region {
    uintptr_t from, to;
};

static size_t accessible(struct region *regions, size_t room) {
    static char line[4096];
    size_t count = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof(line), file) != NULL) {
        struct region now;
        char access[8];
        CHECK(sscanf(line, "%lx-%lx %7s", &now.from, &now.to, access) == 3);
        if (strncmp(access, "---", 3) == 0)
            continue;
        CHECK(count < room);
        regions[count++] = now;
    }
    fclose(file);
    return count;
}

static void gaps_body(void) {
    enum { FAR = 64 << 20, CLASSES = 9 };
    static struct region regions[4096];
    static char *p[4 * CLASSES];
    opened();
    size_t blocks = 0; /* in spans of many sizes, and soft if the settings say so */
    for (int round = 0; round < 4; round++)
        for (int power = 0; power < 2 * CLASSES; power += 2) {
            p[blocks] = allocate_here((size_t)40 << power);
            CHECK(p[blocks] != NULL);
            blocks++;
        }
    size_t count = accessible(regions, sizeof(regions) / sizeof(regions[0]));
    size_t first = 0, last = 0, others = 0;
    for (size_t i = 0; i < blocks; i++) {
        first = p[i] < p[first] ? i : first;
        last = p[i] > p[last] ? i : last;
    }
    size_t i = 0;
    while (i < count && regions[i].to <= (uintptr_t)p[first])
        i++;
    CHECK(i < count && (i == 0 || (uintptr_t)p[first] - regions[i - 1].to >= FAR));
    while (i < count && regions[i].from <= (uintptr_t)p[last])
        i++;
    CHECK(i < count && regions[i].from - regions[i - 1].to >= FAR);
    /* the tables, which are as near to each other as they like */
    for (; i < count && others == 0; i++)
        others = i + 1 == count || regions[i + 1].from - regions[i].to >= FAR ? i : 0;
    CHECK(others > 0);
    memset(p[first], 1, 40);
}

static void gaps(void **state) {
    (void)state;
    static const char *const settings[][2] = {
        {"side", "end"}, {"sample_every", "2"}, {"max_size", "1"}};
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        option = settings[i][0];
        value = settings[i][1];
        own_passes(gaps_body);
    }
    option = "side"; /* as those below expect it */
    value = "end";
}

static void bad_align(void) {
    CHECK(own_open("guard", "align", "6", NULL) == -EINVAL);
    CHECK(strstr(own_error.message, "'align' is 6, not a power of two") != NULL);
}

static void options(void **state) {
    (void)state;
    own_passes(bad_align);
}

/* ---------------------------------------------------------- threads and fork */

static void *shared;

static void *allocating(void *unused) {
    (void)unused;
    shared = allocate_here(100);
    dprintf(STDERR_FILENO, "allocated by thread %ld:\n", syscall(SYS_gettid));
    return NULL;
}

static void *freeing(void *unused) {
    (void)unused;
    free_here(shared);
    dprintf(STDERR_FILENO, "freed by thread %ld:\n", syscall(SYS_gettid));
    return NULL;
}

static void *accessing(void *unused) {
    (void)unused;
    dprintf(STDERR_FILENO, "accessed by thread %ld:\n", syscall(SYS_gettid));
    write_here(shared, 0);
    return NULL;
}

static void threads_body(void) {
    opened();
    void *(*const steps[])(void *) = {allocating, freeing, accessing};
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, steps[i], NULL) == 0);
        pthread_join(thread, NULL);
    }
}

/* Each thread's id stands in the message where the thread itself gave it. */
static void in_threads(void **state) {
    (void)state;
    assert_int_equal(own_child(threads_body), -SIGSEGV);
    static const char *const what[] = {"allocated by thread ", "freed by thread ",
                                       "accessed by thread "};
    for (int i = 0; i < 3; i++) {
        const char *said = strstr(own_output, what[i]);
        assert_non_null(said);
        const char *reported = strstr(said + 1, what[i]);
        assert_non_null(reported);
        assert_int_equal(atoi(said + strlen(what[i])), atoi(reported + strlen(what[i])));
    }
}

static void *crashing(void *unused) {
    (void)unused;
    for (;;)
        write_here(shared, 0);
    return NULL;
}

static void together_body(void) {
    opened();
    shared = allocate_here(100);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, crashing, NULL) == 0);
    free_here(shared);
    pthread_join(threads[0], NULL);
}

static void together(void **state) {
    (void)state;
    assert_int_equal(own_child(together_body), -SIGSEGV);
    const char *first = strstr(own_output, "memopt: use-after-free");
    assert_non_null(first);
    assert_null(strstr(first + 1, "memopt: "));
}

enum { SLOTS = 64 };
static void *churn(void *seed) {
    static void *_Atomic slots[SLOTS];
    unsigned random = (unsigned)(uintptr_t)seed;
    for (int i = 0; i < 5000; i++) {
        random = random * 1664525 + 1013904223;
        size_t size = random >> 17 & 0x3fff;
        unsigned char *p = OPS.heap_malloc(shared, size + 1);
        CHECK(p != NULL);
        if ((random & 7) == 0)
            p = OPS.heap_realloc(shared, p, size = size + 100);
        memset(p, (int)(random & 0xff), size);
        p = __atomic_exchange_n((void **)&slots[random >> 4 & (SLOTS - 1)], p, __ATOMIC_ACQ_REL);
        if (p != NULL)
            OPS.heap_free(shared, p);
    }
    return NULL;
}

static void fork_body(void) {
    opened();
    shared = own_heap("shared", NULL, 0);
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) == 0);
    char *p = allocate_here(100);
    for (int i = 0; i < 20; i++) {
        OPS.before_fork();
        pid_t pid = fork();
        if (pid == 0) {
            OPS.after_fork_child();
            OPS.heap_free(shared, OPS.heap_malloc(shared, 100));
            OPS.heap_destroy(shared);
            free_here(p);
            dprintf(STDERR_FILENO, "child %d\n", (int)getpid());
            write_here(p, 0);
        }
        OPS.after_fork_parent();
        int status;
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
        write_here(p, 0); /* only the child's is freed */
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    OPS.heap_destroy(shared);
    CHECK(own_figures().live == 100);
}

static void after_fork(void **state) {
    (void)state;
    own_passes(fork_body);
    const char *child = strstr(own_output, "child ");
    assert_non_null(child);
    const char *by = strstr(own_output, "freed by thread ");
    assert_non_null(by);
    assert_int_equal(atoi(child + strlen("child ")), atoi(by + strlen("freed by thread ")));
    assert_non_null(strstr(own_output, "use-after-free: write at byte 0 of a block of 100 bytes"));
}

/* ------------------------------------------------- the program's own handlers */

static volatile sig_atomic_t handled, handled_flags;
static sigjmp_buf back;
static char *protected_page;
static struct sigaction kept;

static void jump_back(int signal) {
    (void)signal;
    handled++;
    siglongjmp(back, 1);
}

static void unprotect(int signal, siginfo_t *info, void *context) {
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    stack_t stack;
    sigaltstack(NULL, &stack);
    CHECK(signal == SIGSEGV && context != NULL);
    CHECK(info->si_addr == protected_page);
    CHECK(sigismember(&mask, SIGUSR1) == 1); /* what the program asked for */
    handled_flags = (stack.ss_flags & SS_ONSTACK) != 0;
    handled++;
    mprotect(protected_page, 4096, PROT_READ | PROT_WRITE);
}

static void install(void (*handler)(int), void (*action)(int, siginfo_t *, void *), int flags) {
    struct sigaction act = {.sa_flags = flags};
    if (action != NULL)
        act.sa_sigaction = action;
    else
        act.sa_handler = handler;
    sigemptyset(&act.sa_mask);
    sigaddset(&act.sa_mask, SIGUSR1);
    CHECK(sigaction(SIGSEGV, &act, &kept) == 0);
}

static void protect_a_page(void) {
    protected_page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(protected_page != MAP_FAILED);
}

static void churn_a_little(void) {
    for (int i = 0; i < 40; i++)
        own_malloc->free(own_malloc->malloc(10));
}

/* Faults of the program's own come to its handler, installed before or after. */
static void foreign_to(int before) {
    protect_a_page();
    static char stack[1 << 16];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
    sigaltstack(&alternative, NULL);
    if (before)
        install(NULL, unprotect, SA_SIGINFO | SA_ONSTACK);
    opened();
    if (!before)
        install(NULL, unprotect, SA_SIGINFO | SA_ONSTACK);
    churn_a_little();
    write_here(protected_page, 0);
    CHECK(handled == 1 && handled_flags == 1);
    install(jump_back, NULL, SA_NODEFER);
    churn_a_little();
    for (int i = 0; i < 3; i++) {
        if (sigsetjmp(back, 1) == 0)
            write_here((void *)16, 0);
        CHECK(handled == 2 + i);
    }
    /* ours are still explained */
    char *p = allocate_here(100);
    free_here(p);
    write_here(p, 1);
}

static void foreign_before(void) {
    foreign_to(1);
}

static void foreign_after(void) {
    foreign_to(0);
}

/* A page of a block that the program protects is the program's. */
static void own_page(void) {
    opened();
    protected_page = own_malloc->aligned_alloc(4096, 3 * 4096);
    mprotect(protected_page, 4096, PROT_NONE);
    install(NULL, unprotect, SA_SIGINFO);
    churn_a_little();
    write_here(protected_page, 0);
    CHECK(handled == 1);
    own_malloc->free(protected_page);
}

#ifndef MO_SANITIZED /* the sanitizer's handler would be the one before ours */
/* A handler that hands on to the one before it, as crash reporters do. */
static void hand_on(int signal, siginfo_t *info, void *context) {
    dprintf(STDERR_FILENO, "handed on\n");
    if ((kept.sa_flags & SA_SIGINFO) != 0)
        kept.sa_sigaction(signal, info, context);
    else
        sigaction(SIGSEGV, &kept, NULL);
}

static void handing_on(void) {
    opened();
    install(NULL, hand_on, SA_SIGINFO);
    churn_a_little();
    write_here((void *)16, 0);
}

static void default_fault(void) {
    opened();
    write_here((void *)16, 0);
}

static void default_sent(void) {
    opened();
    raise(SIGSEGV);
}

/* A crash handler that sets the default back and raises the signal again. */
static void report_and_raise(int number) {
    dprintf(STDERR_FILENO, "crashed\n");
    signal(number, SIG_DFL);
    raise(number);
}

static void crash_reporter(void) {
    opened();
    install(report_and_raise, NULL, SA_NODEFER);
    churn_a_little();
    write_here((void *)16, 0);
}
#endif

static void ignored_sent(void) {
    signal(SIGSEGV, SIG_IGN);
    opened();
    raise(SIGSEGV);
    churn_a_little();
    raise(SIGSEGV);
}

/* What sigaction() does not write of a mask then differs each time. */
NAMED void dirty_the_stack(int i);
NAMED void dirty_the_stack(int i) {
    char stack[1 << 14];
    memset(stack, i, sizeof(stack));
    __asm__ volatile("" : : "r"(stack) : "memory");
}

/* As a program does that brings its handler again and again. */
static void many_handlers(void) {
    opened();
    for (int i = 0; i < 100; i++) {
        install(jump_back, NULL, 0);
        dirty_the_stack(i);
        churn_a_little();
        if (sigsetjmp(back, 1) == 0)
            write_here((void *)16, 0);
        CHECK(handled == i + 1);
    }
    CHECK(own_notes[0] == 0);
}

static void handlers(void **state) {
    (void)state;
    option = "side";
    value = "end";
    own_dies(foreign_before, SIGSEGV, "use-after-free: write at byte 1 of a block of 100");
    own_dies(foreign_after, SIGSEGV, "use-after-free: write at byte 1 of a block of 100");
    own_passes(own_page);
    own_passes(ignored_sent);
    own_passes(many_handlers);
#ifndef MO_SANITIZED
    own_dies(handing_on, SIGSEGV, "handed on\n");
    assert_string_equal(own_output, "handed on\n"); /* once */
    own_dies(default_fault, SIGSEGV, "");
    assert_string_equal(own_output, "");
    own_dies(default_sent, SIGSEGV, "");
    own_dies(crash_reporter, SIGSEGV, "crashed\n");
    assert_string_equal(own_output, "crashed\n");
#endif
}

#if defined(__x86_64__) && !defined(MO_SANITIZED)
/* The report still comes when the program's stack is gone. */
NAMED void lost_stack(void);
NAMED void lost_stack(void) {
    static char stack[1 << 16];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
    sigaltstack(&alternative, NULL);
    opened();
    char *p = allocate_here(100);
    free_here(p);
    __asm__ volatile("mov $0x40, %%rsp\n\tmovb $1, (%0)" : : "r"(p) : "memory");
}

/* A function whose unwind table is wrong: its caller's frame would be at 80. */
void *badly_described(size_t size, void *(*allocate)(size_t));
__asm__(".pushsection .text\n"
        ".globl badly_described\n"
        "badly_described:\n"
        ".cfi_startproc\n"
        "push %rbx\n"
        "mov $64, %ebx\n"
        ".cfi_def_cfa %rbx, 16\n"
        "call *%rsi\n"
        "pop %rbx\n"
        "ret\n"
        ".cfi_endproc\n"
        ".popsection\n");

static void bad_tables(void) {
    opened();
    char *p = badly_described(100, own_malloc->malloc);
    CHECK(p != NULL);
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    CHECK(sigismember(&mask, SIGSEGV) == 0);
    own_malloc->free(badly_described(100, own_malloc->malloc));
    free_here(p);
    write_here(p, 0);
}

static void without_a_stack(void **state) {
    (void)state;
    own_dies(bad_tables, SIGSEGV, "use-after-free: write at byte 0 of a block of 100 bytes");
    assert_true(has_frame("free_here"));
    own_dies(lost_stack, SIGSEGV, "use-after-free: write at byte 0 of a block of 100 bytes");
    assert_true(has_frame("lost_stack") && has_frame("allocate_here") && has_frame("free_here"));
}
#endif

/* ------------------------------------------------------------------ true death */

#if defined(__x86_64__) && !defined(MO_SANITIZED)
/* What a core dump would hold: the signal that kills has the address, the code
 * and the instruction of the fault itself. */
static void true_death(void **state) {
    (void)state;
    option = "side";
    value = "end";
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL);
        int null = openat(AT_FDCWD, "/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(77);
        use_write();
        _exit(1);
    }
    siginfo_t info[2] = {{0}};
    struct user_regs_struct registers[2];
    int status, stops = 0;
    while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
        int number = WSTOPSIG(status);
        if (number == SIGSEGV && stops < 2) {
            ptrace(PTRACE_GETSIGINFO, pid, NULL, &info[stops]);
            ptrace(PTRACE_GETREGS, pid, NULL, &registers[stops]);
            stops++;
        }
        ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)number);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip(); /* ptrace is not allowed here */
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    assert_int_equal(stops, 2); /* for the handler, and to die */
    assert_int_equal(info[1].si_code, SEGV_ACCERR);
    assert_ptr_equal(info[0].si_addr, info[1].si_addr);
    assert_int_equal(registers[0].rip, registers[1].rip);
    assert_int_equal(registers[0].rsp, registers[1].rsp);
}
#endif

/* ------------------------------------------------------------- failing calls */

#ifndef MO_SANITIZED
/* A kernel that allows few mappings, as far as the plugin can see. */
static const char *fake_limit;

FAULTS_EXPORT int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    int mode = (flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0;
    va_end(arguments);
    if (fake_limit != NULL && strcmp(path, "/proc/sys/vm/max_map_count") == 0) {
        int fd = memfd_create("limit", 0);
        CHECK(write(fd, fake_limit, strlen(fake_limit)) > 0 && lseek(fd, 0, SEEK_SET) == 0);
        return fd;
    }
    return openat(AT_FDCWD, path, flags, mode);
}

static long mappings(void) {
    long count = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    CHECK(file != NULL);
    for (int c; (c = fgetc(file)) != EOF;)
        count += c == '\n';
    fclose(file);
    return count;
}

static void few_maps_body(void) {
    enum { MANY = 5000 };
    static char *p[MANY];
    fake_limit = "800\n";
    opened();
    long before = mappings();
    for (int i = 0; i < MANY; i++) {
        CHECK((p[i] = allocate_here(40)) != NULL);
        memset(p[i], i & 0xff, 40);
    }
    CHECK(mappings() - before < 700);
    CHECK(strstr(own_notes, "300 blocks are guarded") && strstr(own_notes, "max_map_count = 800"));
    char *large = allocate_here(1 << 20); /* large ones still are */
    CHECK(large != NULL);
    for (int i = 0; i < MANY; i++) {
        CHECK(p[i][0] == (char)(i & 0xff) && p[i][39] == (char)(i & 0xff));
        own_malloc->free(p[i]);
    }
    CHECK(mappings() - before < 20); /* and go together when they are free */
    p[0] = allocate_here(40);        /* guarded again */
    free_here(p[0]);
    write_here(p[0], 0);
}

/* The same at the kernel's own hands: all mprotect calls fail. */
static void no_protect_body(void) {
    opened();
    own_malloc->free(own_malloc->malloc(10));
    faults_arm(FAULT_MPROTECT, 1, 1);
    void *first = own_malloc->malloc(40);
    CHECK(first == NULL || faults.fired > 0);
    CHECK(own_malloc->malloc(1 << 20) == NULL);
    faults_arm(0, 0, 0);
    char *p = own_malloc->malloc(40);
    memset(p, 1, 40);
    own_malloc->free(p);
    if (first != NULL)
        own_malloc->free(first);
    CHECK(own_figures().live == 0);
}

static void scenario(void) {
    char *small = own_malloc->malloc(40), *large = own_malloc->malloc(100000);
    char *aligned = own_malloc->aligned_alloc(1 << 16, 100);
    void *heap = own_heap("h", NULL, 0);
    char *in_heap = heap == NULL ? NULL : OPS.heap_calloc(heap, 3, 700);
    if (small != NULL) {
        memset(small, 5, 40);
        char *grown = own_malloc->realloc(small, 5000);
        small = grown != NULL ? grown : small;
        for (int i = 0; i < 40; i++)
            CHECK(small[i] == 5);
        own_malloc->free(small);
    }
    if (large != NULL) {
        large[99999] = 1;
        own_malloc->free(large);
    }
    if (aligned != NULL) {
        CHECK((uintptr_t)aligned % (1 << 16) == 0);
        own_malloc->free(aligned);
    }
    for (int i = 0; in_heap != NULL && i < 2100; i++)
        CHECK(in_heap[i] == 0);
    if (heap != NULL)
        OPS.heap_destroy(heap);
}

static void failing_body(void) {
    opened();
    for (int for_good = 0; for_good <= 1; for_good++) {
        long nth = 1;
        for (; nth < 1000; nth++) {
            faults_arm(FAULT_MMAP | FAULT_MUNMAP | FAULT_MPROTECT | FAULT_MADVISE, nth, for_good);
            scenario();
            long fired = faults.fired;
            faults_arm(0, 0, 0);
            CHECK(own_figures().live == 0);
            if (fired == 0)
                break;
        }
        CHECK(nth > 8 && nth < 1000);
    }
}

static void failing_open(void) {
    CHECK(mo_plugin_load(MEMOPT_ALLOCATOR, "guard", &own_plugin, &own_error) == 0);
    faults_arm(FAULT_MMAP, 1, 1);
    CHECK(own_open("guard", NULL) == -ENOMEM && strstr(own_error.message, "ulimit -v") != NULL);
}

static void little_address_space(void) {
    struct rlimit limit = {(rlim_t)3 << 30, (rlim_t)3 << 30};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    use_write();
}

static void failing_calls(void **state) {
    (void)state;
    option = "side";
    value = "end";
    own_dies(few_maps_body, SIGSEGV, "use-after-free: write at byte 0 of a block of 40 bytes");
    own_passes(no_protect_body);
    own_passes(failing_body);
    own_passes(failing_open);
    own_dies(little_address_space, SIGSEGV, "use-after-free: write at byte 17");
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planted),
        cmocka_unit_test(forms),
        cmocka_unit_test(innermost),
        cmocka_unit_test(soft),
        cmocka_unit_test(purge),
        cmocka_unit_test(blocks_and_heaps),
        cmocka_unit_test(options),
        cmocka_unit_test(alignment),
        cmocka_unit_test(gaps),
        cmocka_unit_test(in_threads),
        cmocka_unit_test(together),
        cmocka_unit_test(after_fork),
        cmocka_unit_test(handlers),
#if defined(__x86_64__) && !defined(MO_SANITIZED)
        cmocka_unit_test(without_a_stack),
        cmocka_unit_test(true_death),
#endif
#ifndef MO_SANITIZED
        cmocka_unit_test(failing_calls),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
