/*
 * methods.c - the list of methods, in the order of mo_optimizer_names.
 */
#include "core/optim/methods.h"

const struct mo_method *const mo_methods[] = {
    &mo_sgd,      &mo_adam,      &mo_adamw, &mo_amsgrad,    &mo_adagrad, &mo_rmsprop,
    &mo_adadelta, &mo_adamax,    &mo_nadam, &mo_radam,      &mo_lion,    &mo_lamb,
    &mo_lars,     &mo_adafactor, &mo_lbfgs, &mo_sparseadam,
};
const size_t mo_method_count = sizeof(mo_methods) / sizeof(mo_methods[0]);
