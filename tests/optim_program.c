/* optim_program.c - for tests/test_optim_run.sh: NAME SETTINGS STEPS, on an fp32
 * and a bf16 parameter of more than one chunk. */
#include <memopt/memopt.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 70000 };
static float w[COUNT], g[COUNT];
static uint16_t h[COUNT], hg[COUNT];
static struct memopt_error error;
static struct memopt_optimizer *optimizer;

static int parabola(void *context, double *ret_loss) {
    (void)context;
    *ret_loss = 0;
    for (int i = 0; i < COUNT; i++) {
        g[i] = (float)(1 + i % 7) * (w[i] - 1);
        *ret_loss += 0.5 * (double)g[i] * (double)(w[i] - 1);
    }
    return 0;
}

/* A gradient of some rows, in no order, for what takes such; others have theirs. */
static int give_rows(size_t index, const void *values) {
    static const int64_t rows[] = {30, 2, 30, 69};
    struct memopt_sparse_grad sparse = MEMOPT_SPARSE_GRAD_INIT;
    sparse.rows = rows, sparse.values = values, sparse.count = 4;
    return memopt_optimizer_set_sparse_grad(optimizer, index, &sparse, &error);
}

static int take_step(int by_loss) {
    double sam;
    if (by_loss)
        return memopt_optimizer_minimize(optimizer, parabola, NULL, NULL, &error);
    int code = memopt_optimizer_get_number(optimizer, 0, "sam", &sam, &error);
    if (code == 0 && sam > 0)
        code = memopt_optimizer_perturb(optimizer, NULL, &error);
    return code < 0 ? code : memopt_optimizer_step(optimizer, NULL, &error);
}

int main(int argc, char **argv) {
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    struct memopt_param weight = MEMOPT_PARAM_INIT, half = MEMOPT_PARAM_INIT;
    if (argc != 4)
        return 2;
    options.name = argv[1];
    options.settings = argv[2];
    weight.name = "w", weight.data = w, weight.grad = g, weight.count = COUNT;
    half.name = "h", half.data = h, half.grad = hg, half.count = COUNT;
    half.dtype = MEMOPT_DTYPE_BF16;
    weight.rank = half.rank = 2;
    weight.shape[0] = half.shape[0] = 70;
    weight.shape[1] = half.shape[1] = COUNT / 70;
    int sparse = strcmp(argv[1], "sparseadam") == 0, by_loss = strcmp(argv[1], "lbfgs") == 0;
    if (sparse)
        weight.grad = half.grad = NULL;
    int code = memopt_optimizer_create(&options, &optimizer, &error);
    if (code == 0)
        code = memopt_optimizer_add(optimizer, &weight, NULL, &error);
    if (code == 0 && !by_loss)
        code = memopt_optimizer_add(optimizer, &half, NULL, &error);
    if (code == 0 && sparse)
        code = give_rows(0, g);
    if (code == 0 && sparse)
        code = give_rows(1, hg);
    for (int i = 0; i < atoi(argv[3]) && code == 0; i++)
        code = take_step(by_loss);
    if (code < 0) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    memopt_optimizer_destroy(optimizer);
    return 0;
}
