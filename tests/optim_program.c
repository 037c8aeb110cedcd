/* optim_program.c - for tests/test_optim_run.sh: NAME SETTINGS STEPS, on an fp32
 * and a bf16 parameter of more than one chunk. */
#include <memopt/memopt.h>

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    enum { COUNT = 70000 };
    static float w[COUNT], g[COUNT];
    static uint16_t h[COUNT], hg[COUNT];
    struct memopt_error error;
    struct memopt_optimizer *optimizer;
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    struct memopt_param weight = MEMOPT_PARAM_INIT, half = MEMOPT_PARAM_INIT;
    if (argc != 4)
        return 2;
    options.name = argv[1];
    options.settings = argv[2];
    weight.name = "w", weight.data = w, weight.grad = g, weight.count = COUNT;
    half.name = "h", half.data = h, half.grad = hg, half.count = COUNT;
    half.dtype = MEMOPT_DTYPE_BF16;
    int code = memopt_optimizer_create(&options, &optimizer, &error);
    if (code == 0)
        code = memopt_optimizer_add(optimizer, &weight, NULL, &error);
    if (code == 0)
        code = memopt_optimizer_add(optimizer, &half, NULL, &error);
    for (int i = 0; i < atoi(argv[3]) && code == 0; i++)
        code = memopt_optimizer_step(optimizer, NULL, &error);
    if (code < 0) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    memopt_optimizer_destroy(optimizer);
    return 0;
}
