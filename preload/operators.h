/* operators.h - whether the program has operators new and delete of its own: operators.c. */
#ifndef MO_PRELOAD_OPERATORS_H
#define MO_PRELOAD_OPERATORS_H

#include <stdbool.h>

bool mo_operators_replaced(void);

#endif
