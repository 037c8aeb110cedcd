/*
 * test_train.c - memopt/train.h: batch control through scripted failures; sums
 * of gradients to the bit; plans of checkpoints against every other plan, and
 * against a run that counts what it holds.
 */
#include "config.h"

#include <memopt/memopt.h>

#include "tests/report_faults.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct memopt_error error;

static uint64_t random_state = 1;
static uint64_t next_random(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return random_state >> 33;
}

/* -------------------------------------------------------------------- batch */

static struct memopt_batch *new_batch(uint64_t batch, uint64_t start, unsigned grow_after,
                                      unsigned forget_after) {
    struct memopt_batch_options options = MEMOPT_BATCH_OPTIONS_INIT;
    struct memopt_batch *b = NULL;
    options.batch = batch;
    options.start = start;
    options.grow_after = grow_after;
    options.forget_after = forget_after;
    if (memopt_batch_new(&options, &b, &error) < 0)
        fail_msg("%s", error.message);
    return b;
}

static struct memopt_batch_statistics stats_of(const struct memopt_batch *batch) {
    struct memopt_batch_statistics stats = MEMOPT_BATCH_STATISTICS_INIT;
    assert_int_equal(memopt_batch_stats(batch, &stats), 0);
    return stats;
}

/* One step where pieces of more than `fits` samples fail; what the pieces were
 * goes to `log`, those that failed with a minus. Checks that all samples are done
 * once and that the weights are exact. */
static void step(struct memopt_batch *batch, uint64_t total, uint64_t fits, char *log,
                 size_t log_size) {
    struct memopt_batch_piece piece = MEMOPT_BATCH_PIECE_INIT;
    uint64_t done = 0;
    size_t used = 0;
    log[0] = '\0';
    while (memopt_batch_next(batch, &piece) == 1) {
        assert_int_equal(piece.first, done);
        assert_true(piece.count >= 1 && piece.count <= total - done);
        assert_true(piece.weight == (double)piece.count / (double)total);
        int failed = piece.count > fits;
        used += (size_t)snprintf(log + used, log_size - used, "%s%s%llu", used > 0 ? " " : "",
                                 failed ? "-" : "", (unsigned long long)piece.count);
        assert_true(used < log_size);
        if (failed) {
            assert_int_equal(memopt_batch_failed(batch, &error), 0);
            continue;
        }
        memopt_batch_done(batch);
        done += piece.count;
    }
    assert_int_equal(done, total);
}

static void expect_step(struct memopt_batch *batch, uint64_t total, uint64_t fits,
                        const char *pieces) {
    char log[1024];
    step(batch, total, fits, log, sizeof(log));
    assert_string_equal(log, pieces);
}

static void pieces_are_even(void **state) {
    (void)state;
    static const struct {
        uint64_t batch, start;
        const char *pieces;
    } cases[] = {{1, 1, "1"},      {10, 10, "10"},        {10, 9, "5 5"},
                 {10, 4, "4 3 3"}, {10, 3, "3 3 2 2"},    {10, 1, "1 1 1 1 1 1 1 1 1 1"},
                 {7, 5, "4 3"},    {256, 100, "86 85 85"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct memopt_batch *b = new_batch(cases[i].batch, cases[i].start, 0, 0);
        expect_step(b, cases[i].batch, UINT64_MAX, cases[i].pieces);
        expect_step(b, cases[i].batch, UINT64_MAX, cases[i].pieces);
        memopt_batch_free(b);
    }
    memopt_batch_free(NULL);
}

static void halves_and_grows(void **state) {
    (void)state;
    struct memopt_batch *b = new_batch(64, 0, 2, 0);
    /* halves where it is, and stays there */
    expect_step(b, 64, 20, "-64 -32 16 16 16 16");
    assert_int_equal(stats_of(b).ceiling, 32);
    assert_int_equal(stats_of(b).current, 16);
    assert_int_equal(stats_of(b).wait, 2);
    /* a step with a failure is no good step: two more, then half the way up,
     * which is three pieces of 22, 21 and 21 */
    expect_step(b, 64, 20, "16 16 16 16");
    expect_step(b, 64, 20, "16 16 16 16");
    assert_int_equal(stats_of(b).current, 24);
    /* that fails at once: the next growth waits twice as long, and 21 as the
     * ceiling leaves nothing to grow to, as three pieces have 22 */
    expect_step(b, 64, 20, "-22 11 11 11 11 10 10");
    assert_int_equal(stats_of(b).ceiling, 22);
    assert_int_equal(stats_of(b).wait, 4);
    for (int i = 0; i < 4; i++)
        expect_step(b, 64, 20, "11 11 11 11 10 10");
    assert_int_equal(stats_of(b).current, 16);
    for (int i = 0; i < 20; i++)
        expect_step(b, 64, 20, "16 16 16 16");
    assert_int_equal(stats_of(b).current, 16);
    assert_int_equal(stats_of(b).failures, 3);
    assert_int_equal(stats_of(b).growths, 2);
    memopt_batch_free(b);
}

/* More memory from one moment on: only a forgotten ceiling lets it be used. */
static void forgets(void **state) {
    (void)state;
    for (int forget = 0; forget < 2; forget++) {
        struct memopt_batch *b = new_batch(64, 0, 2, forget ? 10 : 0);
        char log[1024];
        for (int i = 0; i < 8; i++)
            step(b, 64, 16, log, sizeof(log));
        uint64_t before = stats_of(b).current;
        assert_true(before <= 16);
        for (int i = 0; i < 40; i++)
            step(b, 64, 64, log, sizeof(log));
        assert_string_equal(log, forget ? "64" : "16 16 16 16");
        assert_int_equal(stats_of(b).forgotten > 0, forget);
        memopt_batch_free(b);
    }
}

/* Whatever fits, the size ends at the most that does and failures become rare. */
static void converges(void **state) {
    (void)state;
    for (uint64_t fits = 1; fits <= 100; fits++) {
        struct memopt_batch *b = new_batch(100, 0, 1, 0);
        char log[2048];
        for (int i = 0; i < 600; i++)
            step(b, 100, fits, log, sizeof(log));
        uint64_t failures = stats_of(b).failures, largest = 0;
        for (uint64_t pieces = 1; pieces <= 100 && largest == 0; pieces++)
            if ((100 - 1) / pieces + 1 <= fits)
                largest = (100 - 1) / pieces + 1;
        for (int i = 0; i < 100; i++)
            step(b, 100, fits, log, sizeof(log));
        assert_int_equal(strtoull(log, NULL, 10), largest);
        assert_int_equal(stats_of(b).failures, failures);
        assert_true(failures <= 12);
        memopt_batch_free(b);
    }
}

static void final_failure(void **state) {
    (void)state;
    struct memopt_batch_options options = MEMOPT_BATCH_OPTIONS_INIT;
    struct memopt_batch_piece piece = MEMOPT_BATCH_PIECE_INIT;
    struct memopt_batch *b;
    options.batch = 20;
    options.minimum = 3;
    assert_int_equal(memopt_batch_new(&options, &b, &error), 0);
    assert_int_equal(memopt_batch_failed(b, &error), -EINVAL); /* there is no piece yet */
    memopt_batch_done(b);
    static const uint64_t counts[] = {20, 10, 5, 3};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(memopt_batch_next(b, &piece), 1);
        assert_int_equal(memopt_batch_next(b, &piece), 1); /* the same again */
        assert_int_equal(piece.count, counts[i]);
        assert_int_equal(memopt_batch_failed(b, &error), i < 3 ? 0 : -ENOMEM);
    }
    assert_string_equal(error.message, "no memory for a piece of 3 samples, and 3 are the minimum");
    assert_int_equal(memopt_batch_failed(b, &error), -ENOMEM);
    /* it can be tried again, or the step be given up */
    assert_int_equal(memopt_batch_next(b, &piece), 1);
    memopt_batch_done(b);
    assert_int_equal(memopt_batch_next(b, &piece), 1);
    assert_int_equal(piece.first, 3);
    memopt_batch_restart(b);
    assert_int_equal(memopt_batch_next(b, &piece), 1);
    assert_int_equal(piece.first, 0);
    assert_int_equal(piece.count, 3);
    assert_int_equal(stats_of(b).steps, 0);
    memopt_batch_free(b);
}

static void bad_batches(void **state) {
    (void)state;
    static const struct {
        uint64_t batch, start, minimum, maximum;
    } cases[] = {{0, 0, 0, 0},   {(1ull << 53) + 1, 0, 0, 0},
                 {10, 11, 0, 0}, {10, 0, 11, 0},
                 {10, 0, 0, 11}, {10, 2, 3, 0},
                 {10, 5, 0, 4},  {10, 0, 5, 4}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct memopt_batch_options options = MEMOPT_BATCH_OPTIONS_INIT;
        struct memopt_batch *b = (void *)1;
        options.batch = cases[i].batch;
        options.start = cases[i].start;
        options.minimum = cases[i].minimum;
        options.maximum = cases[i].maximum;
        assert_int_equal(memopt_batch_new(&options, &b, &error), -EINVAL);
        assert_ptr_equal(b, (void *)1);
    }
    struct memopt_batch_options options = MEMOPT_BATCH_OPTIONS_INIT;
    struct memopt_batch *b;
    options.batch = 1;
    assert_int_equal(memopt_batch_new(NULL, &b, &error), -EINVAL);
    assert_int_equal(memopt_batch_new(&options, NULL, &error), -EINVAL);
    options.size++;
    assert_int_equal(memopt_batch_new(&options, &b, &error), -EINVAL);
    options.size--;
    fault_arm(1, 0);
    assert_int_equal(memopt_batch_new(&options, &b, &error), -ENOMEM);
    fault_arm(0, 0);
    assert_int_equal(memopt_batch_new(&options, &b, &error), 0);
    struct memopt_batch_piece piece = {.size = 1};
    struct memopt_batch_statistics stats = {.size = sizeof(stats) + 1};
    assert_int_equal(memopt_batch_next(b, &piece), -EINVAL);
    assert_int_equal(memopt_batch_next(b, NULL), -EINVAL);
    assert_int_equal(memopt_batch_next(NULL, &piece), -EINVAL);
    assert_int_equal(memopt_batch_stats(b, &stats), -EINVAL);
    assert_int_equal(memopt_batch_stats(NULL, &stats), -EINVAL);
    assert_int_equal(memopt_batch_failed(NULL, &error), -EINVAL);
    memopt_batch_done(NULL);
    memopt_batch_restart(NULL);
    memopt_batch_free(b);
}

/* ------------------------------------------------------------- accumulation */

enum { N = 1037 };

static void accumulates(void **state) {
    (void)state;
    static float sum[N + 3], split[N + 3], gradient[N + 3];
    static uint16_t halves[N + 3];
    for (size_t i = 0; i < N + 3; i++) {
        gradient[i] = (float)((double)next_random() / 1e9 - 1.0);
        halves[i] = (uint16_t)(next_random() & 0xbbff); /* finite as either type */
    }
    static const double scales[] = {1, 0.25, 1.0 / 3, -7, 0};
    for (size_t s = 0; s < 5; s++)
        for (size_t shift = 0; shift < 3; shift++) { /* unaligned, too */
            float scale = (float)scales[s];
            for (size_t i = 0; i < N; i++)
                sum[i + shift] = split[i + shift] = (float)i * 0.1f;
            assert_int_equal(memopt_accumulate(sum + shift, MEMOPT_DTYPE_F32, gradient + 2 - shift,
                                               N, scales[s], &error),
                             0);
            for (size_t i = 0; i < N; i++) {
                volatile float product = scale * gradient[2 - shift + i]; /* not fused */
                volatile float want = (float)i * 0.1f;
                want = want + product;
                assert_memory_equal(&sum[i + shift], (const void *)&want, 4);
            }
            /* any split gives the same bits */
            for (size_t at = 0; at < N;) {
                size_t count = next_random() % 97 + 1;
                if (count > N - at)
                    count = N - at;
                assert_int_equal(memopt_accumulate(split + shift + at, MEMOPT_DTYPE_F32,
                                                   gradient + 2 - shift + at, count, scales[s],
                                                   NULL),
                                 0);
                at += count;
            }
            assert_memory_equal(sum + shift, split + shift, N * sizeof(float));
        }
    /* 16 bits: against what ldexp makes of them */
    for (int f16 = 0; f16 < 2; f16++) {
        memset(sum, 0, sizeof(sum));
        assert_int_equal(memopt_accumulate(sum, f16 ? MEMOPT_DTYPE_F16 : MEMOPT_DTYPE_BF16, halves,
                                           N, 2, &error),
                         0);
        for (size_t i = 0; i < N; i++) {
            int bits = f16 ? 10 : 7, bias = f16 ? 15 : 127;
            int exponent = (halves[i] & 0x7fff) >> bits, mantissa = halves[i] & ((1 << bits) - 1);
            double want = exponent == 0 ? ldexp(mantissa, 1 - bias - bits)
                                        : ldexp(mantissa + (1 << bits), exponent - bias - bits);
            assert_true((double)sum[i] == (halves[i] & 0x8000 ? -2 : 2) * want);
        }
    }
}

/* A mean over samples, in pieces of any size, is the mean. */
static void weights_add_up(void **state) {
    (void)state;
    enum { SAMPLES = 100 };
    for (uint64_t size = 1; size <= SAMPLES; size++) {
        struct memopt_batch *b = new_batch(SAMPLES, size, 0, 0);
        struct memopt_batch_piece piece = MEMOPT_BATCH_PIECE_INIT;
        float mean = 0, exact = 0;
        while (memopt_batch_next(b, &piece) == 1) {
            float sum = 0; /* sample i has gradient i */
            for (uint64_t i = 0; i < piece.count; i++)
                sum += (float)(piece.first + i);
            float of_piece = sum / (float)piece.count;
            memopt_accumulate(&mean, MEMOPT_DTYPE_F32, &of_piece, 1, piece.weight, &error);
            memopt_accumulate(&exact, MEMOPT_DTYPE_F32, &of_piece, 1, (double)piece.count, &error);
            memopt_batch_done(b);
        }
        assert_true(fabsf(mean - 49.5f) < 1e-4f);
        assert_true(exact / SAMPLES == 49.5f);
        memopt_batch_free(b);
    }
}

static void bad_accumulation(void **state) {
    (void)state;
    float sum = 1, gradient = 1;
    assert_int_equal(memopt_accumulate(&sum, MEMOPT_DTYPE_I32, &gradient, 1, 1, &error), -EINVAL);
    assert_string_equal(error.message, "gradients of type I32; expected F32, BF16 or F16");
    assert_int_equal(memopt_accumulate(&sum, 99, &gradient, 1, 1, &error), -EINVAL);
    assert_int_equal(memopt_accumulate(&sum, MEMOPT_DTYPE_F32, &gradient, 1, (double)NAN, &error),
                     -EINVAL);
    assert_int_equal(memopt_accumulate(&sum, MEMOPT_DTYPE_F32, &gradient, 1, 1e39, &error),
                     -EINVAL);
    assert_int_equal(memopt_accumulate(NULL, MEMOPT_DTYPE_F32, &gradient, 1, 1, &error), -EINVAL);
    assert_int_equal(memopt_accumulate(&sum, MEMOPT_DTYPE_F32, NULL, 1, 1, &error), -EINVAL);
    assert_int_equal(memopt_accumulate(NULL, MEMOPT_DTYPE_F32, NULL, 0, 1, &error), 0);
    assert_true(sum == 1);
}

/* -------------------------------------------------------------- checkpoints */

/* Holds what the model says a run holds, and sees that what a call needs is
 * there. */
enum { LAYERS = 300 };
struct holder {
    const struct memopt_layer *layers; /* from 0 */
    size_t count;
    int there[LAYERS + 1]; /* activation of layer i; 0, the input, always */
    int forward_over;
    uint64_t held, peak, cost;
    long calls, stop_at; /* the call that fails; 0: none */
};

static void moment(struct holder *h, uint64_t besides) {
    if (h->held + besides > h->peak)
        h->peak = h->held + besides;
}

static int holder_forward(void *context, size_t i) {
    struct holder *h = context;
    const struct memopt_layer *l = &h->layers[i - 1];
    if (++h->calls == h->stop_at)
        return 77;
    assert_true(h->there[i - 1] && !h->there[i]);
    if (h->forward_over)
        h->cost += l->cost;
    h->there[i] = 1;
    h->held += l->activation;
    if (i == h->count) {
        h->forward_over = 1;
        h->held += l->gradient;
    }
    moment(h, l->forward);
    return 0;
}

static int holder_backward(void *context, size_t i) {
    struct holder *h = context;
    const struct memopt_layer *l = &h->layers[i - 1];
    if (++h->calls == h->stop_at)
        return 77;
    assert_true(h->there[i - 1] && h->there[i]);
    if (i > 1)
        h->held += h->layers[i - 2].gradient;
    moment(h, l->backward);
    h->held -= l->gradient;
    return 0;
}

static void holder_release(void *context, size_t i) {
    struct holder *h = context;
    assert_true(h->there[i]);
    h->there[i] = 0;
    h->held -= h->layers[i - 1].activation;
}

static const struct memopt_checkpoint_calls calls = {sizeof(calls), holder_forward, holder_backward,
                                                     holder_release};

static struct holder hold(const struct memopt_layer *layers, size_t count,
                          const unsigned char *keep) {
    struct holder h = {.layers = layers, .count = count, .there = {1}};
    assert_int_equal(memopt_checkpoint_run(count, keep, &calls, &h, &error), 0);
    assert_int_equal(h.held, 0);
    for (size_t i = 1; i <= count; i++)
        assert_false(h.there[i]);
    return h;
}

static void random_chain(struct memopt_layer *layers, size_t count, uint64_t most) {
    for (size_t i = 0; i < count; i++)
        layers[i] = (struct memopt_layer){
            .activation = next_random() % most,
            .gradient = next_random() % 4 == 0 ? 0 : next_random() % most,
            .forward = next_random() % 4 == 0 ? next_random() % most : 0,
            .backward = next_random() % 4 == 0 ? next_random() % most : 0,
            .cost = next_random() % (most / 2 + 1),
        };
}

/* Every set of up to 11 layers, measured and run; every budget at which the best
 * changes. */
static void plans_are_best(void **state) {
    (void)state;
    for (int round = 0; round < 300; round++) {
        size_t count = (size_t)round % 11 + 1;
        struct memopt_layer layers[11];
        static struct memopt_checkpoints all[2048];
        random_chain(layers, count, round % 3 == 0 ? 4 : round % 3 == 1 ? 20 : 1000000);
        size_t sets = (size_t)1 << (count - 1);
        uint64_t least = UINT64_MAX;
        for (size_t set = 0; set < sets; set++) {
            unsigned char keep[11];
            for (size_t i = 0; i < count; i++)
                keep[i] = i + 1 == count || (set >> i & 1) != 0;
            all[set] = (struct memopt_checkpoints)MEMOPT_CHECKPOINTS_INIT;
            assert_int_equal(memopt_checkpoint_measure(layers, count, keep, &all[set], &error), 0);
            struct holder h = hold(layers, count, keep);
            assert_int_equal(h.peak, all[set].peak);
            assert_int_equal(h.cost, all[set].cost);
            if (all[set].peak < least)
                least = all[set].peak;
        }
        uint64_t found;
        assert_int_equal(memopt_checkpoint_least(layers, count, &found, &error), 0);
        assert_int_equal(found, least);
        for (int t = 0; t < 30; t++) {
            uint64_t budget = all[next_random() % sets].peak + next_random() % 3 - 1;
            uint64_t best = UINT64_MAX, kept = UINT64_MAX;
            for (size_t set = 0; set < sets; set++) {
                const struct memopt_checkpoints *p = &all[set];
                if (p->peak <= budget && (p->cost < best || (p->cost == best && p->kept < kept))) {
                    best = p->cost;
                    kept = p->kept;
                }
            }
            unsigned char keep[11] = {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9};
            struct memopt_checkpoints plan = MEMOPT_CHECKPOINTS_INIT;
            int r = memopt_checkpoint_plan(layers, count, budget, keep, &plan, &error);
            if (best == UINT64_MAX) {
                char says[64];
                snprintf(says, sizeof(says), "the least budget is %llu", (unsigned long long)least);
                assert_int_equal(r, -ENOSPC);
                assert_non_null(strstr(error.message, says));
                assert_int_equal(keep[0], 9);
                assert_int_equal(plan.peak, 0);
                continue;
            }
            assert_int_equal(r, 0);
            assert_int_equal(plan.cost, best);
            assert_int_equal(plan.kept, kept);
            assert_true(plan.peak <= budget);
            struct holder h = hold(layers, count, keep);
            assert_int_equal(h.peak, plan.peak);
            assert_int_equal(h.cost, plan.cost);
        }
    }
}

/* Chains as long as real ones: the plan holds when run, its cost falls as the
 * budget grows, and at the least budget there is one, a byte below none. */
static void long_chains(void **state) {
    (void)state;
    static struct memopt_layer layers[LAYERS];
    static unsigned char keep[LAYERS];
    for (int kind = 0; kind < 3; kind++) {
        size_t count = kind == 0 ? LAYERS : 60;
        random_chain(layers, count, 1000000);
        if (kind == 0) /* equal layers */
            for (size_t i = 0; i < count; i++)
                layers[i] = (struct memopt_layer){1 << 20, 1 << 20, 0, 0, 10};
        if (kind == 1) /* repeated blocks of four */
            for (size_t i = 4; i < count; i++)
                layers[i] = layers[i % 4];
        uint64_t least, last = UINT64_MAX;
        struct memopt_checkpoints plan = MEMOPT_CHECKPOINTS_INIT, full = MEMOPT_CHECKPOINTS_INIT;
        assert_int_equal(memopt_checkpoint_least(layers, count, &least, &error), 0);
        memset(keep, 1, count);
        assert_int_equal(memopt_checkpoint_measure(layers, count, keep, &full, &error), 0);
        assert_true(least < full.peak);
        assert_int_equal(memopt_checkpoint_plan(layers, count, least - 1, keep, NULL, &error),
                         -ENOSPC);
        for (int i = 0; i <= 10; i++) {
            uint64_t budget = least + (full.peak - least) * (uint64_t)i / 10;
            int r = memopt_checkpoint_plan(layers, count, budget, keep, &plan, &error);
            if (r < 0)
                fail_msg("%s", error.message);
            struct holder h = hold(layers, count, keep);
            assert_true(plan.peak <= budget);
            assert_int_equal(h.peak, plan.peak);
            assert_int_equal(h.cost, plan.cost);
            assert_true(plan.cost <= last);
            last = plan.cost;
        }
        assert_int_equal(last, 0);
        if (kind == 0) /* as good as every sqrt(n)-th */
            assert_true(least <= 2 * 18 * (1 << 20) + (4 << 20));
    }
}

/* Powers of two as bytes and costs: no set is better than another in both. */
static void too_many_pairs(void **state) {
    (void)state;
    struct memopt_layer layers[40];
    unsigned char keep[40] = {9};
    for (size_t i = 0; i < 40; i++)
        layers[i] = (struct memopt_layer){.activation = 1ull << i, .cost = 1ull << i};
    uint64_t budget = (1ull << 40) - 1;
    assert_int_equal(memopt_checkpoint_plan(layers, 40, budget - 1, keep, NULL, &error), -E2BIG);
    assert_non_null(strstr(error.message, "more than 4000000 pairs of bytes and cost at layer"));
    assert_int_equal(keep[0], 9);
    /* costs that are rounded make it easy */
    for (size_t i = 0; i < 40; i++)
        layers[i].cost = i / 10;
    assert_int_equal(memopt_checkpoint_plan(layers, 40, budget - 1, keep, NULL, &error), 0);
}

#ifndef MO_SANITIZED
/* The limit is on what is held for all layers together. */
static void too_many_pairs_take_little_memory(void **state) {
    (void)state;
    enum { COUNT = 80 };
    struct memopt_layer layers[COUNT] = {0};
    unsigned char keep[COUNT];
    uint64_t sum = 0, random = 1;
    for (size_t i = 0; i < COUNT; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        layers[i].activation = 1000000 + (random >> 33) % 100000000;
        layers[i].cost = layers[i].activation;
        sum += layers[i].activation;
    }
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit limit = {512 << 20, RLIM_INFINITY};
        setrlimit(RLIMIT_AS, &limit);
        _exit(memopt_checkpoint_plan(layers, COUNT, 2 * sum, keep, NULL, &error) == -E2BIG ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}
#endif

static void stopped_runs(void **state) {
    (void)state;
    struct memopt_layer layers[7];
    random_chain(layers, 7, 100);
    for (unsigned set = 0; set < 64; set++) {
        unsigned char keep[7];
        for (size_t i = 0; i < 7; i++)
            keep[i] = i == 6 || (set >> i & 1) != 0;
        for (long stop = 1;; stop++) {
            struct holder h = {.layers = layers, .count = 7, .there = {1}, .stop_at = stop};
            int r = memopt_checkpoint_run(7, keep, &calls, &h, &error);
            for (size_t i = 1; i <= 7; i++)
                assert_false(h.there[i]);
            if (r == 0) {
                assert_true(stop > 14);
                break;
            }
            assert_int_equal(r, 77);
        }
    }
}

static void bad_plans(void **state) {
    (void)state;
    struct memopt_layer layers[2] = {{1, 1, 0, 0, 1}, {1, 1, 0, 0, 1}};
    unsigned char keep[2] = {9, 9};
    uint64_t budget = 9;
    struct memopt_checkpoints plan = MEMOPT_CHECKPOINTS_INIT, wrong = {.size = 1};
    assert_int_equal(memopt_checkpoint_plan(NULL, 1, 9, keep, &plan, &error), -EINVAL);
    assert_int_equal(memopt_checkpoint_plan(layers, 0, 9, keep, &plan, &error), -EINVAL);
    assert_int_equal(memopt_checkpoint_plan(layers, MEMOPT_LAYERS_MAX + 1, 9, keep, &plan, &error),
                     -EINVAL);
    assert_int_equal(memopt_checkpoint_plan(layers, 2, 9, NULL, &plan, &error), -EINVAL);
    assert_int_equal(memopt_checkpoint_plan(layers, 2, 9, keep, &wrong, &error), -EINVAL);
    assert_int_equal(memopt_checkpoint_plan(layers, 2, 0, keep, &plan, &error), -ENOSPC);
    assert_string_equal(error.message,
                        "no plan for 2 layers has a peak within 0 bytes; the least budget is 4");
    assert_int_equal(memopt_checkpoint_least(layers, 2, NULL, &error), -EINVAL);
    assert_int_equal(memopt_checkpoint_measure(layers, 2, NULL, &plan, &error), -EINVAL);
    keep[1] = 0;
    assert_int_equal(memopt_checkpoint_measure(layers, 2, keep, &plan, &error), -EINVAL);
    assert_string_equal(error.message, "the plan does not keep the last layer, 2");
    assert_int_equal(memopt_checkpoint_run(2, keep, &calls, NULL, &error), -EINVAL);
    keep[1] = 9;
    assert_int_equal(memopt_checkpoint_measure(layers, 2, keep, &wrong, &error), -EINVAL);
    assert_int_equal(memopt_checkpoint_measure(layers, 2, keep, NULL, &error), -EINVAL);
    assert_int_equal(memopt_checkpoint_run(2, keep, NULL, NULL, &error), -EINVAL);
    struct memopt_checkpoint_calls none = {.size = sizeof(none)};
    assert_int_equal(memopt_checkpoint_run(2, keep, &none, NULL, &error), -EINVAL);
    layers[0].activation = UINT64_MAX / 2;
    layers[1].backward = UINT64_MAX / 2;
    assert_int_equal(memopt_checkpoint_least(layers, 2, &budget, &error), -EINVAL);
    layers[0].activation = 1;
    layers[1].backward = UINT64_MAX / 4;
    assert_int_equal(memopt_checkpoint_least(layers, 2, &budget, &error), -EINVAL);
    assert_int_equal(budget, 9);
    layers[1].backward = 0;
    layers[0].cost = layers[1].cost = UINT64_MAX / 2 + 1;
    assert_int_equal(memopt_checkpoint_plan(layers, 2, 9, keep, &plan, &error), -EINVAL);
    assert_int_equal(keep[0], 9);
    layers[0].cost = 1;
    assert_int_equal(memopt_checkpoint_plan(layers, 2, UINT64_MAX, keep, &plan, &error), 0);
    assert_int_equal(plan.cost, 0);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    struct memopt_layer layers[12];
    unsigned char keep[12];
    uint64_t least, budget;
    random_chain(layers, 12, 1000);
    assert_int_equal(memopt_checkpoint_least(layers, 12, &least, &error), 0);
    for (long nth = 1;; nth++) {
        memset(keep, 9, sizeof(keep));
        fault_arm(nth, nth % 2 == 0);
        int r = memopt_checkpoint_plan(layers, 12, least + 500, keep, NULL, &error);
        long fired = fault.fired;
        fault_arm(0, 0);
        assert_int_equal(r, fired ? -ENOMEM : 0);
        if (!fired) {
            assert_true(nth > 10);
            break;
        }
        assert_int_equal(keep[0], 9);
    }
    fault_arm(1, 0);
    assert_int_equal(memopt_checkpoint_least(layers, 12, &budget, &error), -ENOMEM);
    fault_arm(0, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_even),
        cmocka_unit_test(halves_and_grows),
        cmocka_unit_test(forgets),
        cmocka_unit_test(converges),
        cmocka_unit_test(final_failure),
        cmocka_unit_test(bad_batches),
        cmocka_unit_test(accumulates),
        cmocka_unit_test(weights_add_up),
        cmocka_unit_test(bad_accumulation),
        cmocka_unit_test(plans_are_best),
        cmocka_unit_test(long_chains),
        cmocka_unit_test(too_many_pairs),
#ifndef MO_SANITIZED /* their shadow is address space, too */
        cmocka_unit_test(too_many_pairs_take_little_memory),
#endif
        cmocka_unit_test(stopped_runs),
        cmocka_unit_test(bad_plans),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
