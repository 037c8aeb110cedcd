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
        {{"MEMOPT_RUN=/dev/shm/x", "MEMOPT_PRELOADED=7:/l/libmemopt-preload.so",
          "LD_PRELOAD=/l/libmemopt-preload.so", "A=1"},
         {"A=1"}},
        {{"A=1", "LD_PRELOAD=/l/libmemopt-preload.so:/u/theirs.so",
          "MEMOPT_PRELOADED=7:/l/libmemopt-preload.so"},
         {"A=1", "LD_PRELOAD=/u/theirs.so"}},
        {{"LD_PRELOAD=/l/libmemopt-agent.so:libjemalloc.so.2:a.so b.so",
          "MEMOPT_PRELOADED=7:/l/libmemopt-agent.so:libjemalloc.so.2", "MEMOPT_RUN=/x", "Z="},
         {"LD_PRELOAD=a.so b.so", "Z="}},
        /* the program has put others before, between and behind them */
        {{"LD_PRELOAD=fakeroot.so:/l/agent.so", "MEMOPT_PRELOADED=7:/l/agent.so"},
         {"LD_PRELOAD=fakeroot.so"}},
        {{"LD_PRELOAD=a.so /l/agent.so:b.so:j.so.2 c.so", "MEMOPT_PRELOADED=7:/l/agent.so:j.so.2"},
         {"LD_PRELOAD=a.so b.so:c.so"}},
        {{"LD_PRELOAD=a.so:/l/agent.so", "MEMOPT_PRELOADED=7:/l/agent.so:j.so.2"},
         {"LD_PRELOAD=a.so"}},
        /* the user's own, of the same library as memopt's; one whose name begins alike */
        {{"LD_PRELOAD=/l/agent.so:j.so.2:j.so.2", "MEMOPT_PRELOADED=7:/l/agent.so:j.so.2"},
         {"LD_PRELOAD=j.so.2"}},
        {{"LD_PRELOAD=/l/agent.so.1:/l/agent.so:/l/agent", "MEMOPT_PRELOADED=7:/l/agent.so"},
         {"LD_PRELOAD=/l/agent.so.1:/l/agent"}},
        /* memopt's are not there any more */
        {{"LD_PRELOAD=/u/theirs.so", "MEMOPT_PRELOADED=7:/l/agent.so"},
         {"LD_PRELOAD=/u/theirs.so"}},
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
