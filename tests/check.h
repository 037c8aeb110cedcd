/*
 * check.h - what a test in a child process expects: there cmocka's own assertions would jump
 * into the parent's frames.
 */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <stdio.h>
#include <unistd.h>

#define CHECK(CONDITION)                                                                           \
    do {                                                                                           \
        if (!(CONDITION)) {                                                                        \
            fprintf(stderr, "%s:%d: '%s' does not hold\n", __FILE__, __LINE__, #CONDITION);        \
            _exit(99);                                                                             \
        }                                                                                          \
    } while (0)

#endif
