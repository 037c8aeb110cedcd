/*
 * safetensors.c - a small network's weights in a safetensors file: what Python's
 * safetensors package, and everything else that knows the format, can read.
 *
 *     cc -o safetensors safetensors.c $(pkg-config --cflags --libs memopt-train)
 *     ./safetensors save FILE       writes the weights and a scalar, the step
 *     ./safetensors show FILE       lists any safetensors file
 *
 * Saving again replaces the file as a whole: a program that is killed in the
 * middle, or a full disk, leaves the one before.
 */
#include <memopt/memopt.h>

#include <stdio.h>
#include <string.h>

enum { INPUTS = 4, HIDDEN = 3 };

/* What is to be saved: a row a tensor. */
struct saved {
    const char *name;
    int dtype;
    unsigned rank;
    uint64_t shape[2];
    const void *data;
    size_t bytes;
};

static int save(const char *path, const struct saved *tensors, size_t count,
                struct memopt_error *error) {
    struct memopt_tensors_writer *writer;
    int r = memopt_tensors_writer_open(path, &writer, error);
    if (r < 0)
        return r;
    r = memopt_tensors_writer_metadata(writer, "format", "pt", error);
    for (size_t i = 0; i < count && r >= 0; i++)
        r = (int)memopt_tensors_writer_add(writer, tensors[i].name, tensors[i].dtype,
                                           tensors[i].rank, tensors[i].shape, error);
    for (size_t i = 0; i < count && r >= 0; i++)
        r = memopt_tensors_writer_write(writer, i, 0, tensors[i].data, tensors[i].bytes, error);
    if (r >= 0)
        r = memopt_tensors_writer_commit(writer, error);
    memopt_tensors_writer_close(writer); /* removes what was not committed */
    return r;
}

static void print_shape(const struct memopt_tensor *tensor) {
    printf("[");
    for (unsigned i = 0; i < tensor->rank; i++)
        printf("%s%llu", i == 0 ? "" : ",", (unsigned long long)tensor->shape[i]);
    printf("]");
}

/* The sum of a tensor's F32 elements, from its bytes in the file. */
static void print_sum(struct memopt_tensors *file, size_t index,
                      const struct memopt_tensor *tensor) {
    const void *data;
    double sum = 0;
    if (tensor->dtype != MEMOPT_DTYPE_F32 || memopt_tensors_view(file, index, &data, NULL) < 0)
        return;
    for (uint64_t i = 0; i < tensor->elements; i++)
        sum += (double)((const float *)data)[i];
    printf(" sum %.6g", sum);
}

static int show(const char *path, struct memopt_error *error) {
    struct memopt_tensors *file;
    int r = memopt_tensors_open(path, &file, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < memopt_tensors_metadata_count(file); i++) {
        const char *key, *value;
        memopt_tensors_metadata_get(file, i, &key, &value);
        printf("%s = %s\n", key, value);
    }
    for (size_t i = 0; i < memopt_tensors_count(file); i++) {
        struct memopt_tensor tensor = MEMOPT_TENSOR_INIT;
        memopt_tensors_get(file, i, &tensor, NULL);
        printf("%s: %s ", tensor.name, memopt_dtype_name(tensor.dtype));
        print_shape(&tensor);
        print_sum(file, i, &tensor);
        printf("\n");
    }
    memopt_tensors_close(file);
    return 0;
}

int main(int argc, char **argv) {
    struct memopt_error error = MEMOPT_ERROR_INIT;
    static float weights[HIDDEN][INPUTS], bias[HIDDEN];
    int64_t step = 1000;
    for (int h = 0; h < HIDDEN; h++) {
        bias[h] = (float)h / 2;
        for (int i = 0; i < INPUTS; i++)
            weights[h][i] = (float)(h * INPUTS + i);
    }
    const struct saved tensors[] = {
        {"hidden.weight", MEMOPT_DTYPE_F32, 2, {HIDDEN, INPUTS}, weights, sizeof(weights)},
        {"hidden.bias", MEMOPT_DTYPE_F32, 1, {HIDDEN}, bias, sizeof(bias)},
        {"step", MEMOPT_DTYPE_I64, 0, {0}, &step, sizeof(step)},
    };
    int r;
    if (argc == 3 && strcmp(argv[1], "save") == 0) {
        r = save(argv[2], tensors, sizeof(tensors) / sizeof(tensors[0]), &error);
    } else if (argc == 3 && strcmp(argv[1], "show") == 0) {
        r = show(argv[2], &error);
    } else {
        fprintf(stderr, "usage: %s save|show FILE\n", argv[0]);
        return 2;
    }
    if (r < 0)
        fprintf(stderr, "%s: %s\n", argv[0], error.message);
    return r < 0;
}
