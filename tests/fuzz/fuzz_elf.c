/* fuzz_elf.c - any bytes as an executable: core/launch/target.h. */
#include "core/launch/target.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct mo_target target;
    char text[600];
    /* aligned as a mapping is, and of the exact size */
    void *image = size == 0 ? NULL : malloc(size);
    if (size > 0 && image == NULL)
        return 0;
    if (size > 0)
        memcpy(image, data, size);
    if (mo_target_examine_elf(image, size, &target, NULL) == 0)
        mo_target_explain(&target, text, sizeof(text));
    free(image);
    return 0;
}
