/* test_environment.c - a program that is not to be followed loses memopt's
 * entries from its environment, and nothing else. */
#include "preload/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void forget(void **state) {
    (void)state;
    static const struct {
        const char *before[6], *after[6];
    } cases[] = {
        {{"A=1", "B=2"}, {"A=1", "B=2"}},
        {{"MEMOPT_RUN=/dev/shm/x", "MEMOPT_PRELOADED=1", "LD_PRELOAD=/l/libmemopt-preload.so",
          "A=1"},
         {"A=1"}},
        {{"A=1", "LD_PRELOAD=/l/libmemopt-preload.so:/u/theirs.so", "MEMOPT_PRELOADED=1"},
         {"A=1", "LD_PRELOAD=/u/theirs.so"}},
        {{"LD_PRELOAD=/l/libmemopt-agent.so:libjemalloc.so.2:a.so b.so", "MEMOPT_PRELOADED=2",
          "MEMOPT_RUN=/x", "Z="},
         {"LD_PRELOAD=a.so b.so", "Z="}},
        /* not put there by memopt run: left alone */
        {{"LD_PRELOAD=/u/theirs.so", "MEMOPT_RUN=/x"}, {"LD_PRELOAD=/u/theirs.so"}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[6][100];
        char *envp[7] = {NULL};
        for (size_t k = 0; cases[i].before[k] != NULL; k++)
            envp[k] = strcpy(text[k], cases[i].before[k]);
        mo_environment_forget(envp);
        size_t k = 0;
        for (; cases[i].after[k] != NULL; k++)
            assert_string_equal(envp[k], cases[i].after[k]);
        assert_null(envp[k]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(forget)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
