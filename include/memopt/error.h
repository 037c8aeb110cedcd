/*
 * memopt/error.h - how memopt says what went wrong.
 *
 * A function that can fail returns 0 (or a count) on success and a negative
 * errno value on failure, and fills in the `struct memopt_error` its caller
 * passed (NULL: the caller does not want the text). Outputs named `ret_…` are
 * written only on success. The library never prints and never exits.
 *
 * Ownership: the caller owns the struct; it holds no pointers and needs no
 * clean-up. Threads: one struct belongs to one thread at a time.
 */
#ifndef MEMOPT_ERROR_H
#define MEMOPT_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#define MEMOPT_ERROR_MAX 4096

/* Messages are lower case, name the subject in quotes, say what was expected
 * and end without a full stop: `memopt.ini:4: 'limit' is '12Q', not a size
 * (bytes, or a number with KiB, MiB, GiB, TiB)`. Several lines are separated
 * by '\n'. */
struct memopt_error {
    int code; /* negative errno; 0: nothing happened */
    char message[MEMOPT_ERROR_MAX];
};

#define MEMOPT_ERROR_INIT                                                                          \
    {                                                                                              \
        0, {                                                                                       \
            0                                                                                      \
        }                                                                                          \
    }

#ifdef __cplusplus
}
#endif
#endif
