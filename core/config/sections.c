/*
 * sections.c - the option tables of memopt's own sections. Everything that is
 * said of a key anywhere (checks, help, manual) comes from its row here.
 *
 * Also inside the watched program: the shim reads [memopt].
 */
#include "core/config/config.h"

#include <string.h>

static const char *const bindings[] = {
    [MO_BINDING_AUTO] = "auto",
    [MO_BINDING_DIRECT] = "direct",
    [MO_BINDING_DISPATCH] = "dispatch",
    NULL,
};
static const struct memopt_option memopt_options[] = {
    MEMOPT_OPT_STRING(struct mo_settings_memopt, allocator, "allocator", "libc",
                      "the backend of the program's malloc: a name, or a plugin's absolute path; unset: "
                      "libc, or the library whose own functions (mallocx) the program calls"),
    MEMOPT_OPT_ENUM(struct mo_settings_memopt, binding, "binding", "auto", bindings,
                    "direct: the backend's own library, exactly as preloaded by hand; dispatch: "
                    "through memopt, which gives every backend glibc's semantics; auto: direct "
                    "where nothing has to be done per call"),
    MEMOPT_OPT_LIST(struct mo_settings_memopt, trackers, "trackers", NULL, NULL,
                    "what watches each allocation, in order; empty: nothing"),
    MEMOPT_OPT_LIST(struct mo_settings_memopt, reporters, "reporters", "text", NULL,
                    "what is made of the run at its end"),
    MEMOPT_OPT_BOOL(struct mo_settings_memopt, follow, "follow", "yes",
                    "whether programs that the program starts are watched too"),
    MEMOPT_OPT_LIST(struct mo_settings_memopt, plugin_path, "plugin_path", NULL, NULL,
                    "directories that are searched for plugins first: absolute paths of "
                    "directories that are there"),
    MEMOPT_OPT_END,
};

static const char *const limit_steps[] = {"purge", "shrink", "spill", "fail", NULL};
static const struct memopt_option heap_options[] = {
    MEMOPT_OPT_STRING(struct mo_settings_heap, allocator, "allocator", NULL,
                      "the heap's backend; unset: that of [memopt]"),
    MEMOPT_OPT_SIZE(struct mo_settings_heap, limit, "limit", NULL, "1", NULL,
                    "most bytes that may be live at once; unset: no limit"),
    MEMOPT_OPT_LIST(struct mo_settings_heap, on_limit, "on_limit", "purge", limit_steps,
                    "what is tried, in order, before an allocation over the limit fails"),
    MEMOPT_OPT_SIZE(struct mo_settings_heap, region, "region", NULL, "4KiB", NULL,
                    "bytes of a fixed region that the heap allocates from"),
    MEMOPT_OPT_SIZE(struct mo_settings_heap, spill_limit, "spill_limit", NULL, "4KiB", NULL,
                    "most bytes that may be spilled at once; unset: what the disk has"),
    MEMOPT_OPT_END,
};

static const struct memopt_option monitor_options[] = {
    MEMOPT_OPT_DURATION(struct mo_settings_monitor, interval, "interval", "1s", "10ms", "1h",
                        "time between two looks at processes from outside; while a run is young there "
                        "are more"),
    MEMOPT_OPT_END,
};

static const char *const pressure_sources[] = {"heap",   "rss", "address_space",
                                               "cgroup", "psi", NULL};
static const struct memopt_option pressure_options[] = {
    MEMOPT_OPT_LIST(struct mo_settings_pressure, sources, "sources",
                    "heap, rss, address_space, cgroup, psi", pressure_sources,
                    "what is watched, as far as it is there"),
    MEMOPT_OPT_LIST(struct mo_settings_pressure, steps, "steps", "purge, shrink, spill, fail",
                    limit_steps,
                    "what may be done: purge at warn, shrink at high, spill at critical, fail at "
                    "the limit"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, warn, "warn", "80%", "1%", "100%",
                     "part of a limit at which memory is given back before it is reached"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, high, "high", "90%", "1%", "100%",
                     "part of a limit at which consumers are told to use less"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, critical, "critical", "95%", "1%", "100%",
                     "part of a limit at which heaps that can spill do"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, psi_warn, "psi_warn", "10%", "0.1%", "100%",
                     "the same as warn, of the time that tasks wait for memory"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, psi_high, "psi_high", "25%", "0.1%", "100%",
                     "the same as high, of the time that tasks wait for memory"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, psi_critical, "psi_critical", "50%", "0.1%",
                     "100%", "the same as critical, of the time that tasks wait for memory"),
    MEMOPT_OPT_RATIO(struct mo_settings_pressure, hysteresis, "hysteresis", "5%", "0.1%", "50%",
                     "how far below its threshold a level ends"),
    MEMOPT_OPT_SIZE(struct mo_settings_pressure, budget, "budget", NULL, "1MiB", NULL,
                    "memory that rss is measured against; unset: the machine's"),
    MEMOPT_OPT_DURATION(struct mo_settings_pressure, interval, "interval", "250ms", "1ms", "1h",
                        "time between two looks"),
    MEMOPT_OPT_PATH(struct mo_settings_pressure, spill_dir, "spill_dir", "/var/tmp",
                    "the directory of the files that heaps spill to, on a disk"),
    MEMOPT_OPT_INT(struct mo_settings_pressure, purge_every, "purge_every", "100", "0", NULL,
                   "steps", "steps of a program between two purges; 0: none by steps"),
    MEMOPT_OPT_DURATION(struct mo_settings_pressure, purge_idle, "purge_idle", NULL, "1ms", "1d",
                        "time without a step after which a program purges; unset: never"),
    MEMOPT_OPT_END,
};

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
static const struct memopt_option optimizer_options[] = {
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

static const char *const store_kinds[] = {
    [MO_STORE_RAM] = "ram",
    [MO_STORE_MMAP] = "mmap",
    [MO_STORE_STREAM] = "stream",
    NULL,
};
static const struct memopt_option store_options[] = {
    MEMOPT_OPT_ENUM(struct mo_settings_store, kind, "kind", "ram", store_kinds,
                    "where parameters and state are kept"),
    MEMOPT_OPT_SIZE(struct mo_settings_store, budget, "budget", "128MiB", "1MiB", NULL,
                    "most bytes of RAM a store may hold"),
    MEMOPT_OPT_END,
};

#define SECTION(NAME, HELP, OPTIONS, STRUCT)                                                       \
    { NAME, HELP, {OPTIONS, sizeof(OPTIONS[0])}, sizeof(STRUCT) }
static const struct mo_core_section sections[] = {
    SECTION("memopt", "what runs", memopt_options, struct mo_settings_memopt),
    SECTION("heap", "a named heap of a program that uses libmemopt, one section each: [heap.NAME]",
            heap_options, struct mo_settings_heap),
    SECTION("monitor", "watching processes from outside", monitor_options,
            struct mo_settings_monitor),
    SECTION("pressure", "what happens when memory runs short", pressure_options,
            struct mo_settings_pressure),
    SECTION("optimizer", "the optimizer of a training program", optimizer_options,
            struct mo_settings_optimizer),
    SECTION("store", "parameter stores", store_options, struct mo_settings_store),
};

const struct mo_core_section *mo_core_section_at(size_t index) {
    return index < sizeof(sections) / sizeof(sections[0]) ? &sections[index] : NULL;
}

const struct mo_core_section *mo_core_section(const char *name) {
    for (size_t i = 0; mo_core_section_at(i) != NULL; i++)
        if (strcmp(sections[i].name, name) == 0)
            return &sections[i];
    return NULL;
}
