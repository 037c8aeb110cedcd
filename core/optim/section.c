/* section.c - see section.h. */
#include "core/optim/section.h"

#include "core/base/error.h"
#include "core/heap/section.h"

#include <errno.h>
#include <string.h>

const char *const mo_optimizer_names[] = {
    "sgd",   "adam", "adamw", "amsgrad", "adagrad",   "rmsprop", "adadelta",   "adamax", "nadam",
    "radam", "lion", "lamb",  "lars",    "adafactor", "lbfgs",   "sparseadam", NULL,
};
static const char *const roundings[] = {
    [MO_ROUNDING_MASTER] = "master",
    [MO_ROUNDING_STOCHASTIC] = "stochastic",
    [MO_ROUNDING_NEAREST] = "nearest",
    NULL,
};
static const char *const state_formats[] = {
    [MO_STATE_FP32] = "fp32",
    [MO_STATE_8BIT] = "8bit",
    NULL,
};
#define OPTIMIZER_NUMBER(FIELD, LO, HI, HELP)                                                      \
    MEMOPT_OPT_NUMBER(struct mo_settings_optimizer, FIELD, #FIELD, NULL, LO, HI, NULL, HELP)
#define OPTIMIZER_BOOL(FIELD, HELP)                                                                \
    MEMOPT_OPT_BOOL(struct mo_settings_optimizer, FIELD, #FIELD, NULL, HELP)
/* Below 1, as an inclusive bound. */
#define BELOW_ONE "0.999999999999"
/* Defaults are the optimizers' own (core/optim), but for the first and the last. */
static const struct memopt_option options[] = {
    MEMOPT_OPT_ENUM(struct mo_settings_optimizer, name, "name", "adamw", mo_optimizer_names,
                    "the optimizer"),
    OPTIMIZER_NUMBER(lr, "0", "1e6", "learning rate"),
    OPTIMIZER_NUMBER(weight_decay, "0", "1e6", "weight decay"),
    OPTIMIZER_NUMBER(momentum, "0", "1e6", "momentum; 0: none"),
    OPTIMIZER_NUMBER(dampening, "-1e6", "1", "part of the gradient that momentum leaves out"),
    OPTIMIZER_BOOL(nesterov, "Nesterov's momentum"),
    OPTIMIZER_NUMBER(beta1, "0", BELOW_ONE, "decay of the first moment"),
    OPTIMIZER_NUMBER(beta2, "0", BELOW_ONE, "decay of the second moment"),
    OPTIMIZER_NUMBER(eps, "0", "1e6", "added to the denominator"),
    OPTIMIZER_BOOL(amsgrad, "use the largest second moment so far"),
    OPTIMIZER_NUMBER(lr_decay, "0", "1e6", "decay of the learning rate"),
    OPTIMIZER_NUMBER(initial_accumulator, "0", "1e30", "what the sum of squares begins with"),
    OPTIMIZER_NUMBER(alpha, "0", "1", "decay of the mean square"),
    OPTIMIZER_BOOL(centered, "divide by the variance, not by the mean square"),
    OPTIMIZER_NUMBER(rho, "0", "1", "decay of the mean squares"),
    OPTIMIZER_NUMBER(momentum_decay, "0", "1e6", "decay of the momentum schedule"),
    OPTIMIZER_NUMBER(rectify_above, "4", "1e6",
                     "length of the average above which the step is rectified: 4 in the paper, 5 "
                     "in PyTorch"),
    OPTIMIZER_NUMBER(trust, "0", "1e6", "part of a tensor's norm that a step may be"),
    OPTIMIZER_NUMBER(beta2_decay, "0", "1e6",
                     "exponent with which the decay of the second moment nears 1"),
    OPTIMIZER_NUMBER(clip_threshold, "1e-6", "1e6", "most an update's root mean square may be"),
    OPTIMIZER_NUMBER(eps_scale, "0", "1e6", "least scale of a parameter"),
    OPTIMIZER_BOOL(relative_step, "the step is at most 1/sqrt(t)"),
    OPTIMIZER_BOOL(scale_parameter, "the step is relative to the parameter's root mean square"),
    MEMOPT_OPT_INT(struct mo_settings_optimizer, max_iter, "max_iter", NULL, "1", "1000000000",
                   "moves", "most moves of one minimization"),
    MEMOPT_OPT_INT(struct mo_settings_optimizer, max_eval, "max_eval", NULL, "0", "1000000000",
                   "times", "evaluations after which it ends; 0: 5/4 of max_iter"),
    MEMOPT_OPT_INT(struct mo_settings_optimizer, history, "history", NULL, "1", "1000", "moves",
                   "moves that the direction is made of"),
    OPTIMIZER_NUMBER(tolerance_grad, "0", "1e30", "largest gradient that counts as a minimum"),
    OPTIMIZER_NUMBER(tolerance_change, "0", "1e30", "least move or gain worth going on for"),
    OPTIMIZER_BOOL(maximize, "climb instead of descend"),
    MEMOPT_OPT_ENUM(struct mo_settings_optimizer, rounding, "rounding", NULL, roundings,
                    "how 16-bit parameters take up updates: from an fp32 master, by chance, or to "
                    "the nearest value"),
    MEMOPT_OPT_ENUM(struct mo_settings_optimizer, state_format, "state_format", NULL, state_formats,
                    "8bit: moments in blocks of 256 bytes with one fp32 scale each"),
    MEMOPT_OPT_INT(struct mo_settings_optimizer, seed, "seed", NULL, "0", NULL, NULL,
                   "of stochastic rounding"),
    OPTIMIZER_NUMBER(clip_norm, "0", "1e30", "most the gradients' norm may be; 0: no limit"),
    OPTIMIZER_BOOL(skip_nonfinite, "skip a step whose gradients are not all finite"),
    MEMOPT_OPT_INT(struct mo_settings_optimizer, accumulate, "accumulate", NULL, "1", "1000000",
                   "steps", "steps whose mean gradient makes an update"),
    MEMOPT_OPT_INT(struct mo_settings_optimizer, threads, "threads", NULL, "1", "1024", NULL,
                   "threads that update; unset: one a CPU that the process may use"),
    MEMOPT_OPT_INT(struct mo_settings_optimizer, lookahead, "lookahead", NULL, "0", "1000000",
                   "updates", "updates after which Lookahead takes its step; 0: no Lookahead"),
    OPTIMIZER_NUMBER(lookahead_alpha, "0", "1", "part of the way that Lookahead goes"),
    OPTIMIZER_NUMBER(sam, "0", "1e6",
                     "sharpness-aware: how far memopt_optimizer_perturb(3) goes; 0: not at all"),
    OPTIMIZER_BOOL(sam_adaptive, "scale the perturbation by the parameters"),
    MEMOPT_OPT_STRING(struct mo_settings_optimizer, state, "state", NULL,
                      "where its state lives: heap:NAME; unset: the default heap; store:PATH: in a "
                      "later version"),
    MEMOPT_OPT_END,
};

/* `state` is the name of a heap, or of a store's file, which is relative to the INI. */
static int check_value(const struct mo_judged_value *value, const char **ret_text,
                       struct memopt_error *error) {
    char quoted[MO_QUOTED_MAX];
    const char *text = value->text, *path;
    if (strcmp(value->option->key, "state") != 0 || *text == '\0')
        return 0;
    if (strncmp(text, "heap:", 5) == 0)
        return mo_heap_check_name(text + 5, error);
    if (strncmp(text, "store:", 6) != 0 || text[6] == '\0')
        return mo_fail(error, -EINVAL, "'state' is '%s', not heap:NAME or store:PATH",
                       mo_quoted(text, quoted));
    struct memopt_option row = {.key = "state", .type = MEMOPT_PATH};
    int result = mo_option_parse(&row, text + 6, value->directory, &path, value->allocator, error);
    if (result < 0)
        return result;
    size_t length = strlen(path) + 1;
    char *joined = value->allocator->alloc(value->allocator->context, length + 6);
    if (joined == NULL)
        return mo_fail(error, -ENOMEM, "out of memory");
    memcpy(joined, "store:", 6);
    memcpy(joined + 6, path, length);
    *ret_text = joined;
    return 0;
}

const struct mo_section_def mo_section_optimizer = {
    .name = "optimizer",
    .help = "the optimizer of a training program",
    .table = MO_SECTION_TABLE(options),
    .settings_size = sizeof(struct mo_settings_optimizer),
    .flags = MO_SECTION_OPTIONAL,
    .check_value = check_value,
};
