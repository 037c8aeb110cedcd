/* section.h - [optimizer]. No kernel: programs that run no optimizer check it, too: see
 * core/option/section.h. */
#ifndef MO_OPTIM_SECTION_H
#define MO_OPTIM_SECTION_H

#include "core/option/section.h"

enum mo_rounding { MO_ROUNDING_MASTER, MO_ROUNDING_STOCHASTIC, MO_ROUNDING_NEAREST };
enum mo_state_format { MO_STATE_FP32, MO_STATE_8BIT };
/* [optimizer]; core/optim/optim.h says how a setting that only some optimizers
 * have is added. */
struct mo_settings_optimizer {
    int name; /* index in mo_optimizer_names */
    double lr, weight_decay;
    double momentum, dampening;
    int nesterov;
    double beta1, beta2, eps;
    int amsgrad;
    double lr_decay, initial_accumulator;
    double alpha;
    int centered;
    double rho;
    double momentum_decay;
    double rectify_above;
    double trust;
    double beta2_decay, clip_threshold, eps_scale;
    int relative_step, scale_parameter;
    int64_t max_iter, max_eval, history;
    double tolerance_grad, tolerance_change;
    int maximize;
    int rounding;     /* enum mo_rounding */
    int state_format; /* enum mo_state_format */
    int64_t seed;
    double clip_norm;
    int skip_nonfinite;
    int64_t accumulate;
    int64_t threads;
    int64_t lookahead; /* updates between its steps; 0: none */
    double lookahead_alpha;
    double sam; /* radius; 0: none */
    int sam_adaptive;
    const char *state; /* "heap:NAME", "store:/PATH", or NULL */
};
extern const char *const mo_optimizer_names[]; /* ends with NULL */

extern const struct mo_section_def mo_section_optimizer;

#endif
