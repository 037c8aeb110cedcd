/*
 * atomic.h - what <stdatomic.h> lacks.
 *
 * lib/ rules: only the compiler. Any thread, signal handlers included.
 */
#ifndef MO_LIB_ATOMIC_H
#define MO_LIB_ATOMIC_H

#include <stdatomic.h>

/* *PLACE, an atomic number, is VALUE at least, of the same type: for peaks. Relaxed. */
#define mo_raise(PLACE, VALUE)                                                                     \
    do {                                                                                           \
        __auto_type mo_place_ = (PLACE);                                                           \
        __auto_type mo_now_ = atomic_load_explicit(mo_place_, memory_order_relaxed);               \
        __typeof__(mo_now_) mo_value_ = (VALUE);                                                   \
        while (mo_value_ > mo_now_ &&                                                              \
               !atomic_compare_exchange_weak_explicit(mo_place_, &mo_now_, mo_value_,              \
                                                      memory_order_relaxed, memory_order_relaxed)) \
            ;                                                                                      \
    } while (0)

#endif
