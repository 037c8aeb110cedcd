/*
 * checkpoint.c - which activations to keep: the model of memopt/train.h, the
 * plan with the least cost, the least budget.
 *
 * What makes it exact: whether the segment from kept layer p to kept layer q
 * fits depends on the layers before it only through K, the bytes kept up to and
 * with p, and less is never worse:
 *
 *     K + need(p, q) <= budget
 *
 * where need(p, q) is the most that is held besides, at any moment of the forward
 * pass between p and q, of the computing again, or of backward there. So for each
 * layer, as the last kept one, only the pairs (K, cost) matter of which no other
 * has both less or equal: its frontier.
 */
#include "core/base/error.h"

#include <memopt/train.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------- segments */

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* Layers are numbered from 1, as in the manual. */
static const struct memopt_layer *layer(const struct memopt_layer *layers, size_t i) {
    return &layers[i - 1];
}

/* need(p, q) and the cost of what is between, for one p and growing q. */
struct segment {
    const struct memopt_layer *layers;
    size_t count, p, q;
    uint64_t bytes;     /* of the activations p + 1 to q */
    uint64_t cost;      /* of the layers between p and q */
    uint64_t recompute; /* the most while computing again, without a[q] and g[q] */
    uint64_t other;     /* the most in forward and backward */
};

static struct segment segment_begin(const struct memopt_layer *layers, size_t count, size_t p) {
    return (struct segment){.layers = layers, .count = count, .p = p, .q = p};
}

/* The segment up to the next q. */
static void segment_extend(struct segment *s) {
    if (s->q > s->p) { /* the last q becomes one that is computed again */
        const struct memopt_layer *last = layer(s->layers, s->q);
        s->cost += last->cost;
        s->recompute = larger(s->recompute, s->bytes + last->forward);
    }
    s->q++;
    const struct memopt_layer *l = layer(s->layers, s->q);
    const struct memopt_layer *before = s->q > 1 ? layer(s->layers, s->q - 1) : NULL;
    uint64_t input = s->q - 1 > s->p ? before->activation : 0; /* a[p] is kept, or the input */
    s->bytes += l->activation;
    uint64_t loss = s->q == s->count ? l->gradient : 0;
    s->other = larger(s->other, input + l->activation + l->forward + loss);
    s->other = larger(s->other, s->bytes + l->gradient + (before != NULL ? before->gradient : 0) +
                                    l->backward);
}

static uint64_t segment_need(const struct segment *s) {
    const struct memopt_layer *l = layer(s->layers, s->q);
    if (s->q == s->p + 1) /* nothing is computed again */
        return s->other;
    return larger(s->other, s->recompute + l->activation + l->gradient);
}

/* ---------------------------------------------------------------- arguments */

/* No sum in this file is larger than that of everything, twice over. */
static int check_layers(const struct memopt_layer *layers, size_t count,
                        struct memopt_error *error) {
    if (layers == NULL || count == 0 || count > MEMOPT_LAYERS_MAX)
        return mo_fail(error, -EINVAL, "%zu layers; expected 1 to %u", layers == NULL ? 0 : count,
                       MEMOPT_LAYERS_MAX);
    uint64_t bytes = 0, cost = 0;
    bool over = false;
    for (size_t i = 0; i < count; i++) {
        const struct memopt_layer *l = &layers[i];
        const uint64_t parts[] = {l->activation, l->gradient, l->forward, l->backward};
        for (size_t k = 0; k < sizeof(parts) / sizeof(parts[0]); k++)
            over |= __builtin_add_overflow(bytes, parts[k], &bytes);
        over |= __builtin_add_overflow(cost, l->cost, &cost);
    }
    if (over || bytes > UINT64_MAX / 4)
        return mo_fail(error, -EINVAL, "the sizes or costs of the layers need more than 64 bits");
    return 0;
}

static int check_keep(size_t count, const unsigned char *keep, struct memopt_error *error) {
    if (count == 0 || count > MEMOPT_LAYERS_MAX)
        return mo_fail(error, -EINVAL, "%zu layers; expected 1 to %u", count, MEMOPT_LAYERS_MAX);
    if (keep == NULL || keep[count - 1] == 0)
        return mo_fail(error, -EINVAL, "the plan does not keep the last layer, %zu", count);
    return 0;
}

/* ---------------------------------------------------------------- measuring */

static struct memopt_checkpoints measure(const struct memopt_layer *layers, size_t count,
                                         const unsigned char *keep) {
    struct memopt_checkpoints plan = MEMOPT_CHECKPOINTS_INIT;
    struct segment s = segment_begin(layers, count, 0);
    for (size_t q = 1; q <= count; q++) {
        segment_extend(&s);
        if (!keep[q - 1])
            continue;
        plan.peak = larger(plan.peak, plan.kept + segment_need(&s));
        plan.cost += s.cost;
        plan.kept += layer(layers, q)->activation;
        plan.count++;
        s = segment_begin(layers, count, q);
    }
    return plan;
}

static int check_result(const struct memopt_checkpoints *plan, struct memopt_error *error) {
    if (plan->size < offsetof(struct memopt_checkpoints, peak) || plan->size > sizeof(*plan))
        return mo_fail(error, -EINVAL, "a result of %zu bytes; use MEMOPT_CHECKPOINTS_INIT",
                       plan->size);
    return 0;
}

static void give_result(struct memopt_checkpoints *ret_plan, struct memopt_checkpoints plan) {
    plan.size = ret_plan->size;
    memcpy(ret_plan, &plan, plan.size);
}

int memopt_checkpoint_measure(const struct memopt_layer *layers, size_t count,
                              const unsigned char *keep, struct memopt_checkpoints *ret_plan,
                              struct memopt_error *error) {
    int r;
    if ((r = check_layers(layers, count, error)) < 0 || (r = check_keep(count, keep, error)) < 0)
        return r;
    if (ret_plan == NULL)
        return mo_fail(error, -EINVAL, "memopt_checkpoint_measure: a result is needed");
    if ((r = check_result(ret_plan, error)) < 0)
        return r;
    give_result(ret_plan, measure(layers, count, keep));
    return 0;
}

/* -------------------------------------------------------------- feasibility */

/* most[p]: the most bytes that may be kept up to and with layer p so that the
 * rest can still be done within the budget, plus 1; 0: none. most[0] says whether
 * there is a plan. */
static void fill_most(const struct memopt_layer *layers, size_t count, uint64_t budget,
                      uint64_t *most) {
    most[count] = UINT64_MAX;
    for (size_t p = count; p-- > 0;) {
        struct segment s = segment_begin(layers, count, p);
        most[p] = 0;
        while (s.q < count && s.other <= budget) { /* `other` never falls */
            segment_extend(&s);
            uint64_t need = segment_need(&s), own = layer(layers, s.q)->activation;
            if (need > budget || most[s.q] <= own)
                continue;
            uint64_t room = budget - need + 1, rest = most[s.q] - own;
            most[p] = larger(most[p], room < rest ? room : rest);
        }
    }
}

/* The least budget with which fill_most() finds a plan. */
static uint64_t least_budget(const struct memopt_layer *layers, size_t count, uint64_t *most) {
    uint64_t low = 0, high = 0; /* keeping everything is a plan */
    for (size_t i = 1; i <= count; i++) {
        struct segment s = segment_begin(layers, count, i - 1);
        segment_extend(&s);
        low = larger(low, segment_need(&s));
        high += layer(layers, i)->activation;
    }
    high += low;
    low = 0;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        fill_most(layers, count, middle, most);
        if (most[0] > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

int memopt_checkpoint_least(const struct memopt_layer *layers, size_t count, uint64_t *ret_budget,
                            struct memopt_error *error) {
    int r = check_layers(layers, count, error);
    if (r < 0)
        return r;
    if (ret_budget == NULL)
        return mo_fail(error, -EINVAL, "memopt_checkpoint_least: a result is needed");
    mo_auto_free uint64_t *most = calloc(count + 1, sizeof(*most));
    if (most == NULL)
        return mo_fail(error, -ENOMEM, "out of memory for a plan of %zu layers", count);
    *ret_budget = least_budget(layers, count, most);
    return 0;
}

/* ----------------------------------------------------------------- planning */

struct pair {
    uint64_t kept, cost;
    uint32_t before;      /* the layer kept before, */
    uint32_t before_pair; /* and its pair in that layer's frontier */
};
/* By growing bytes, so by falling cost. */
struct frontier {
    struct pair *pairs;
    size_t count;
};
struct planner {
    const struct memopt_layer *layers;
    size_t count;
    uint64_t budget;
    uint64_t *most;
    struct frontier *frontiers; /* of layers 0 (the input) to n */
    size_t pairs;               /* in all of them */
};

/* The frontier of `own` and of what `from`'s pairs become when the segment
 * follows; two sorted lists merged, without the pairs that another beats. */
static int merge(struct planner *planner, struct frontier *own, const struct segment *s,
                 struct memopt_error *error) {
    const struct frontier *from = &planner->frontiers[s->p];
    uint64_t need = segment_need(s), bytes = layer(planner->layers, s->q)->activation;
    uint64_t most = planner->most[s->q];
    size_t usable = 0;
    if (need > planner->budget || most == 0)
        return 0;
    while (usable < from->count && from->pairs[usable].kept <= planner->budget - need &&
           from->pairs[usable].kept + bytes < most)
        usable++;
    if (usable == 0)
        return 0;
    if (planner->pairs + usable > MEMOPT_CHECKPOINT_PAIRS_MAX)
        return mo_fail(error, -E2BIG,
                       "more than %u pairs of bytes and cost at layer %zu of %zu; round the sizes "
                       "up or the costs",
                       MEMOPT_CHECKPOINT_PAIRS_MAX, s->q, planner->count);
    struct pair *merged = malloc((own->count + usable) * sizeof(*merged));
    if (merged == NULL)
        return mo_fail(error, -ENOMEM, "out of memory for a plan of %zu layers", planner->count);
    size_t i = 0, j = 0, count = 0;
    while (i < own->count || j < usable) {
        struct pair next, other = {.kept = UINT64_MAX};
        if (j < usable)
            other = (struct pair){from->pairs[j].kept + bytes, from->pairs[j].cost + s->cost,
                                  (uint32_t)s->p, (uint32_t)j};
        if (j == usable || (i < own->count && (own->pairs[i].kept < other.kept ||
                                               (own->pairs[i].kept == other.kept &&
                                                own->pairs[i].cost <= other.cost)))) {
            next = own->pairs[i++];
        } else {
            next = other;
            j++;
        }
        if (count == 0 || next.cost < merged[count - 1].cost)
            merged[count++] = next;
    }
    planner->pairs += count;
    planner->pairs -= own->count;
    free(own->pairs);
    own->pairs = merged;
    own->count = count;
    return 0;
}

static int fill_frontiers(struct planner *planner, struct memopt_error *error) {
    static const struct pair nothing;
    size_t count = planner->count;
    planner->frontiers[0].pairs = malloc(sizeof(nothing));
    if (planner->frontiers[0].pairs == NULL)
        return mo_fail(error, -ENOMEM, "out of memory for a plan of %zu layers", count);
    planner->frontiers[0].pairs[0] = nothing;
    planner->frontiers[0].count = 1;
    /* p by p, so that a segment grows by one layer at a time: a frontier is
     * complete before it is the one to start from */
    for (size_t p = 0; p < count; p++) {
        struct segment s = segment_begin(planner->layers, count, p);
        while (s.q < count && s.other <= planner->budget && planner->frontiers[p].count > 0) {
            segment_extend(&s);
            int r = merge(planner, &planner->frontiers[s.q], &s, error);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

static int make_plan(struct planner *planner, unsigned char *keep, struct memopt_error *error) {
    size_t count = planner->count;
    int r = fill_frontiers(planner, error);
    if (r < 0)
        return r;
    /* the last pair has the least cost */
    uint32_t at = (uint32_t)count, pair = (uint32_t)planner->frontiers[count].count - 1;
    memset(keep, 0, count);
    while (at > 0) {
        const struct pair *chosen = &planner->frontiers[at].pairs[pair];
        keep[at - 1] = 1;
        at = chosen->before;
        pair = chosen->before_pair;
    }
    return 0;
}

int memopt_checkpoint_plan(const struct memopt_layer *layers, size_t count, uint64_t budget,
                           unsigned char *keep, struct memopt_checkpoints *ret_plan,
                           struct memopt_error *error) {
    int r = check_layers(layers, count, error);
    if (r < 0 || (ret_plan != NULL && (r = check_result(ret_plan, error)) < 0))
        return r;
    if (keep == NULL)
        return mo_fail(error, -EINVAL, "memopt_checkpoint_plan: a result is needed");
    /* every sum is below UINT64_MAX / 2, and more than all is as good as all */
    if (budget > UINT64_MAX / 2)
        budget = UINT64_MAX / 2;
    mo_auto_free uint64_t *most = calloc(count + 1, sizeof(*most));
    mo_auto_free struct frontier *frontiers = calloc(count + 1, sizeof(*frontiers));
    if (most == NULL || frontiers == NULL)
        return mo_fail(error, -ENOMEM, "out of memory for a plan of %zu layers", count);
    fill_most(layers, count, budget, most);
    if (most[0] == 0)
        return mo_fail(error, -ENOSPC,
                       "no plan for %zu layers has a peak within %llu bytes; the least budget is "
                       "%llu",
                       count, (unsigned long long)budget,
                       (unsigned long long)least_budget(layers, count, most));
    struct planner planner = {layers, count, budget, most, frontiers, 0};
    r = make_plan(&planner, keep, error);
    for (size_t i = 0; i <= count; i++)
        free(frontiers[i].pairs);
    if (r == 0 && ret_plan != NULL)
        give_result(ret_plan, measure(layers, count, keep));
    return r;
}
