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

static struct memopt_optimizer *create(void) {
    struct memopt_optimizer_options options = MEMOPT_OPTIMIZER_OPTIONS_INIT;
    struct memopt_optimizer *optimizer;
    struct memopt_param weight = MEMOPT_PARAM_INIT, half = MEMOPT_PARAM_INIT;
    options.name = "adamw";
    options.settings = "state_format=8bit threads=1 accumulate=2";
    HOLDS(memopt_optimizer_create(&options, &optimizer, NULL) == 0);
    weight.name = "w", weight.data = weights, weight.grad = gradient, weight.count = WEIGHTS;
    half.name = "h", half.data = halves, half.grad = half_gradient, half.count = HALVES;
    half.dtype = MEMOPT_DTYPE_BF16;
    HOLDS(memopt_optimizer_add(optimizer, &weight, NULL, NULL) == 0);
    HOLDS(memopt_optimizer_add(optimizer, &half, NULL, NULL) == 0);
    return optimizer;
}

static void clean_up(void) {
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (fd < 0) {
        setenv("MEMOPT_CONF", "/dev/null", 1);
        strcpy(path, "/dev/shm/memopt-fuzz-XXXXXX");
        fd = mkstemp(path);
        HOLDS(fd >= 0 && atexit(clean_up) == 0);
    }
    HOLDS(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    struct memopt_optimizer *optimizer = create();
    if (memopt_optimizer_load(optimizer, path, &error) < 0)
        HOLDS(error.message[0] != '\0' && memopt_optimizer_state_bytes(optimizer) == 0);
    HOLDS(memopt_optimizer_step(optimizer, NULL, &error) == 0);
    HOLDS(memopt_optimizer_step(optimizer, NULL, &error) == 0);
    memopt_optimizer_destroy(optimizer);
    return 0;
}
