/* fuzz_optim.c - any bytes as the file of an optimizer's state. What is taken must
 * leave an optimizer that can go on; what is not must say why and change nothing. */
#include <memopt/memopt.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(CONDITION)                                                                           \
    do {                                                                                           \
        if (!(CONDITION))                                                                          \
            abort();                                                                               \
    } while (0)

enum { WEIGHTS = 257, HALVES = 7 };
static float weights[WEIGHTS], gradient[WEIGHTS];
static uint16_t halves[HALVES], half_gradient[HALVES];
static char path[64];

static struct memopt_optimizer *create(const char *name, const char *settings) {
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    struct memopt_optimizer *optimizer;
    struct memopt_param weight = MEMOPT_PARAM_INIT;
    options.name = name;
    options.settings = settings;
    HOLDS(memopt_optimizer_create(&options, &optimizer, NULL) == 0);
    weight.name = "w", weight.data = weights, weight.grad = gradient, weight.count = WEIGHTS;
    HOLDS(memopt_optimizer_add(optimizer, &weight, NULL, NULL) == 0);
    return optimizer;
}

static void load(struct memopt_optimizer *optimizer) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (memopt_optimizer_load(optimizer, path, &error) < 0)
        HOLDS(error.message[0] != '\0' && memopt_optimizer_state_bytes(optimizer) == 0);
}

static void load_adamw(void) {
    struct memopt_optimizer *optimizer =
        create("adamw", "state_format=8bit threads=1 accumulate=2");
    struct memopt_param half = MEMOPT_PARAM_INIT;
    half.name = "h", half.data = halves, half.grad = half_gradient, half.count = HALVES;
    half.dtype = MEMOPT_DTYPE_BF16;
    HOLDS(memopt_optimizer_add(optimizer, &half, NULL, NULL) == 0);
    load(optimizer);
    HOLDS(memopt_optimizer_step(optimizer, NULL, NULL) == 0);
    HOLDS(memopt_optimizer_step(optimizer, NULL, NULL) == 0);
    memopt_optimizer_destroy(optimizer);
}

static int parabola(void *context, double *ret_loss) {
    (void)context;
    *ret_loss = 0;
    for (int i = 0; i < WEIGHTS; i++) {
        gradient[i] = weights[i] - 1;
        *ret_loss += 0.5 * (double)gradient[i] * (double)gradient[i];
    }
    return 0;
}

/* Its state is more than numbers to compute with: places in a history. */
static void load_lbfgs(void) {
    struct memopt_optimizer *optimizer = create("lbfgs", "threads=1 history=2 max_iter=3");
    memset(weights, 0, sizeof(weights));
    load(optimizer);
    HOLDS(memopt_optimizer_minimize(optimizer, parabola, NULL, NULL, NULL) == 0);
    memopt_optimizer_destroy(optimizer);
}

static void clean_up(void) {
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    if (fd < 0) {
        setenv("MEMOPT_CONF", "/dev/null", 1);
        strcpy(path, "/dev/shm/memopt-fuzz-XXXXXX");
        fd = mkstemp(path);
        HOLDS(fd >= 0 && atexit(clean_up) == 0);
    }
    HOLDS(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    load_adamw();
    load_lbfgs();
    return 0;
}
