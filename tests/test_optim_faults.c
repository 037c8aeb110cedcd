/*
 * test_optim_faults.c - the N-th allocation fails, for every N until none is left,
 * while an optimizer is created, given parameters, stepped, saved and loaded: a
 * clean error, nothing changed, nothing lost, and the next try succeeds.
 *
 * malloc and its relatives are defined here and exported, so that libmemopt calls
 * these; and dlsym, so that the backend of the heap, which looks them up in the C
 * library, finds these. Not with sanitizers, whose run-time has its own.
 */
#include "config.h"

#include "tests/heap_child.h"
#include "tests/optim_noise.h"

#include <dlfcn.h>
#include <errno.h>

#define EXPORT __attribute__((visibility("default")))

static struct {
    long nth, count, fired;
    int for_good;
} faults;

#ifndef MO_SANITIZED
static int hit(void) {
    if (faults.nth == 0)
        return 0;
    faults.count++;
    if (faults.count != faults.nth && !(faults.for_good && faults.count > faults.nth))
        return 0;
    faults.fired++;
    errno = ENOMEM;
    return 1;
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
EXPORT void *malloc(size_t size) {
    return hit() ? NULL : __libc_malloc(size);
}
EXPORT void *calloc(size_t count, size_t size) {
    return hit() ? NULL : __libc_calloc(count, size);
}
EXPORT void *realloc(void *p, size_t size) {
    return hit() ? NULL : __libc_realloc(p, size);
}
EXPORT void *aligned_alloc(size_t alignment, size_t size) {
    return hit() ? NULL : __libc_memalign(alignment, size);
}
EXPORT void *memalign(size_t alignment, size_t size) {
    return hit() ? NULL : __libc_memalign(alignment, size);
}
EXPORT int posix_memalign(void **p, size_t alignment, size_t size) {
    return hit() || (*p = __libc_memalign(alignment, size)) == NULL ? ENOMEM : 0;
}
EXPORT void *dlsym(void *restrict handle, const char *restrict symbol) {
    static void *(*real)(void *, const char *);
    static const struct {
        const char *name;
        void *function;
    } ours[] = {
        {"malloc", (void *)malloc},
        {"calloc", (void *)calloc},
        {"realloc", (void *)realloc},
        {"memalign", (void *)memalign},
    };
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strcmp(symbol, ours[i].name) == 0)
            return ours[i].function;
    if (real == NULL) {
        void *found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
        if (found == NULL)
            found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
        memcpy(&real, &found, sizeof(real));
    }
    return real(handle, symbol);
}
#endif

static const struct {
    const char *name, *settings;
} all[] = {
    {"sgd", ""},
    {"sgd", "momentum=0.9"},
    {"adam", ""},
    {"adamw", "state_format=8bit"},
    {"amsgrad", ""},
    {"adagrad", "initial_accumulator=0.1"},
    {"rmsprop", "momentum=0.9 centered=yes"},
    {"adadelta", ""},
    {"adamax", ""},
    {"nadam", ""},
    {"radam", ""},
    {"lion", "accumulate=2"},
    {"lamb", ""},
    {"lars", ""},
    {"adafactor", "beta1=0.9"},
    {"adamw", "lookahead=2 sam=0.1"},
    {"sparseadam", ""},
    {"lbfgs", "history=3 max_iter=4"},
};

/* What the child is to do; it inherits these. */
enum { COUNT = 300, FINISHED = 7 }; /* exit status: fewer than nth calls are made */
static const char *name, *settings;
static int for_good;
static long nth;

static float values[2][COUNT], before[2][COUNT], grad[COUNT];
static uint16_t half[COUNT], half_before[COUNT];
static struct memopt_error error;

static void arm(void) {
    faults.count = faults.fired = 0;
    faults.for_good = for_good;
    faults.nth = nth;
}
/* 1: the call failed, cleanly. Nothing failed: nth counts on. */
static int disarm(int code) {
    long fired = faults.fired;
    nth -= faults.count;
    faults.nth = 0;
    CHECK(code >= 0 || (fired > 0 && error.code == code && error.message[0] != '\0'));
    return code < 0;
}

/* A call under faults, and if it failed, again without. */
#define TRY(CALL, UNCHANGED)                                                                       \
    do {                                                                                           \
        int code_ = 0;                                                                             \
        if (nth > 0) {                                                                             \
            arm();                                                                                 \
            code_ = (CALL);                                                                        \
            if (!disarm(code_))                                                                    \
                break;                                                                             \
            CHECK(UNCHANGED);                                                                      \
        }                                                                                          \
        code_ = (CALL);                                                                            \
        if (code_ < 0)                                                                             \
            fprintf(stderr, "%s\n", error.message);                                                \
        CHECK(code_ >= 0);                                                                         \
    } while (0)

static int same_values(void) {
    return memcmp(values, before, sizeof(values)) == 0 &&
           memcmp(half, half_before, sizeof(half)) == 0;
}

static int is(const char *wanted) {
    return strcmp(name, wanted) == 0;
}

static int parabola(void *context, double *ret_loss) {
    (void)context;
    *ret_loss = 0;
    for (size_t i = 0; i < COUNT; i++) {
        grad[i] = (float)(1 + i % 7) * values[0][i];
        *ret_loss += 0.5 * (double)grad[i] * (double)values[0][i];
    }
    return 0;
}

/* A step of whatever optimizer it is. */
static int take_step(struct memopt_optimizer *optimizer) {
    double sam = 0;
    if (is("lbfgs"))
        return memopt_optimizer_minimize(optimizer, parabola, NULL, NULL, &error);
    if (!is("sparseadam"))
        CHECK(memopt_optimizer_get_number(optimizer, 0, "sam", &sam, &error) == 0);
    int code = sam > 0 ? memopt_optimizer_perturb(optimizer, NULL, &error) : 0;
    return code < 0 ? code : memopt_optimizer_step(optimizer, NULL, &error);
}

/* The parameter `index`'s gradient: dense, or rows of one element in no order. */
static void set_grad(struct memopt_optimizer *optimizer, size_t index) {
    static const int64_t rows[] = {7, 3, 7, 250, 1};
    struct memopt_sparse_grad sparse = MEMOPT_SPARSE_GRAD_INIT;
    sparse.rows = rows;
    sparse.values = grad;
    sparse.count = 5;
    CHECK((is("sparseadam") ? memopt_optimizer_set_sparse_grad(optimizer, index, &sparse, &error)
                            : memopt_optimizer_set_grad(optimizer, index, grad, &error)) == 0);
}

static void life(void) {
    struct memopt_heap *heap = open_or_die("opt", NULL);
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    struct memopt_optimizer *optimizer = NULL;
    char path[64];
    snprintf(path, sizeof(path), "%s/state", directory);
    options.name = name;
    options.settings = settings;
    options.heap = heap;
    TRY(memopt_optimizer_create(&options, &optimizer, &error),
        optimizer == NULL && stats_of(heap).live_blocks == 0);
    if (!is("lbfgs"))
        TRY(memopt_optimizer_add_group(optimizer, "lr=0.5", &error), 1);
    for (size_t t = 0; t < (is("lbfgs") ? 1 : 2); t++) {
        struct memopt_param param = MEMOPT_PARAM_INIT;
        char label[] = {(char)('a' + t), 0};
        param.name = label;
        param.data = values[t];
        param.count = COUNT - t;
        param.group = (int)t;
        fill_first(values[t], (uint32_t)t, COUNT);
        TRY(memopt_optimizer_add(optimizer, &param, NULL, &error), 1);
        set_grad(optimizer, t);
    }
    struct memopt_param param = MEMOPT_PARAM_INIT;
    param.name = "half";
    param.dtype = MEMOPT_DTYPE_BF16;
    param.grad_dtype = MEMOPT_DTYPE_F32;
    param.data = half;
    param.count = COUNT;
    if (!is("lbfgs")) {
        TRY(memopt_optimizer_add(optimizer, &param, NULL, &error), 1);
        set_grad(optimizer, 2);
    }
    memcpy(before, values, sizeof(values));
    memcpy(half_before, half, sizeof(half));
    for (uint32_t t = 1; t <= 4; t++) {
        fill_grad(grad, t, 0, COUNT);
        /* the state is all there, or none of it */
        TRY(take_step(optimizer), same_values() && memopt_optimizer_state_bytes(optimizer) == 0);
    }
    uint64_t bytes = memopt_optimizer_state_bytes(optimizer);
    memcpy(before, values, sizeof(values));
    memcpy(half_before, half, sizeof(half));
    uint64_t blocks = stats_of(heap).live_blocks;
    TRY(memopt_optimizer_save(optimizer, path, &error),
        access(path, F_OK) != 0 && stats_of(heap).live_blocks == blocks);
    TRY(memopt_optimizer_load(optimizer, path, &error), stats_of(heap).live_blocks == blocks);
    CHECK(same_values() && memopt_optimizer_state_bytes(optimizer) == bytes);
    CHECK(stats_of(heap).live_blocks == blocks);
    CHECK(take_step(optimizer) == 0);
    memopt_optimizer_destroy(optimizer);
    CHECK(stats_of(heap).live_blocks == 0);
    CHECK(unlink(path) == 0);
    if (nth > 0)
        exit(FINISHED);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
#ifdef MO_SANITIZED
    skip();
#endif
    write_ini("[heap.opt]\nallocator = libc\n");
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        for (for_good = 0; for_good < 2; for_good++) {
            int status = 0;
            long calls = 1;
            name = all[i].name;
            settings = all[i].settings;
            for (; calls < 2000 && status == 0; calls++) {
                nth = calls;
                status = run_in_child(life);
                if (status != 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != FINISHED))
                    fail_msg("%s %s: allocation %ld%s: status %#x", name, settings, calls,
                             for_good ? " and all after it" : "", (unsigned)status);
            }
            assert_int_equal(WEXITSTATUS(status), FINISHED);
            assert_true(calls > 20); /* else the test tests nothing */
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail)};
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
