/*
 * methods.h - every method there is; for methods.c, which lists them.
 */
#ifndef MO_OPTIM_METHODS_H
#define MO_OPTIM_METHODS_H

#include "core/optim/optim.h"

extern const struct mo_method mo_sgd, mo_adam, mo_adamw, mo_amsgrad, mo_adagrad, mo_rmsprop,
    mo_adadelta, mo_adamax, mo_nadam, mo_radam, mo_lion, mo_lamb, mo_lars, mo_adafactor, mo_lbfgs,
    mo_sparseadam;

#endif
