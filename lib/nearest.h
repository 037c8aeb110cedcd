/*
 * nearest.h - which of the known words somebody meant who wrote another one.
 *
 *     struct mo_nearest nearest = {.word = "alocator"};
 *     mo_nearest_try(&nearest, "allocator");         each known word
 *     nearest.best                                   NULL: none is near
 *
 * Near are words that are at most a third wrong, by insertions, deletions, replacements and
 * swapped neighbours, each of them one mistake; of equally near ones the first. Upper
 * and lower case are the same, in ASCII. Of words above 63 bytes the beginning counts.
 *
 * lib/ rules: only the compiler and strlen(). Any thread.
 */
#ifndef MO_LIB_NEAREST_H
#define MO_LIB_NEAREST_H

#include <stddef.h>

struct mo_nearest {
    const char *word;
    const char *best;
    size_t distance; /* of best */
};
void mo_nearest_try(struct mo_nearest *nearest, const char *candidate);

#endif
