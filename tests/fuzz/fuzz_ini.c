/* fuzz_ini.c - the whole way of a configuration file, from memory: what loads is
 * written, and must load and be written again to the same; the reader inside
 * the program must take it too. What does not load must say why. */
#include "core/config/config.h"
#include "core/option/flat.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *flat_alloc(void *context, size_t size) {
    void **only = context; /* one allocation is all mo_flat_parse() makes */
    if (*only != NULL)
        abort();
    return *only = malloc(size);
}

static char *write_out(const struct mo_config *config) {
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (stream == NULL || mo_config_write(config, stream, NULL) < 0 || fclose(stream) != 0)
        abort();
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mo_config *config;
    struct memopt_error error = MEMOPT_ERROR_INIT;
    if (mo_config_load_text("fuzz.ini", "/base", data, size, &config, &error) < 0) {
        if (error.message[0] == '\0' || error.code >= 0)
            abort();
        return 0;
    }
    char *text = write_out(config);
    mo_config_free(config);
    if (mo_config_load_text("again.ini", "/other", text, strlen(text), &config, &error) < 0) {
        fprintf(stderr, "%s\n%s\n", text, error.message);
        abort();
    }
    char *again = write_out(config);
    if (strcmp(text, again) != 0) {
        fprintf(stderr, "%s\n---\n%s\n", text, again);
        abort();
    }
    mo_config_free(config);
    struct mo_flat flat;
    void *entries = NULL;
    struct mo_allocator allocator = {flat_alloc, &entries};
    if (mo_flat_parse(text, &allocator, &flat, &error) < 0)
        abort();
    free(entries);
    free(text);
    free(again);
    return 0;
}
