/* fuzz_lsan.c - any bytes as a sanitizer's log: core/import/lsan.h. What comes
 * out must be bounded strings and sums that are no smaller than their parts. */
#include "core/import/lsan.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mo_lsan_log result;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mo_lsan_parse((const char *)data, size, &result);
    for (size_t i = 0; i < result.leak_count && i < MO_LSAN_LEAKS; i++)
        if (memchr(result.leaks[i].where, '\0', sizeof(result.leaks[i].where)) == NULL ||
            result.leaks[i].bytes > result.leaked_bytes ||
            result.leaks[i].objects > result.leaked_objects)
            abort();
    for (size_t i = 0; i < result.error_count && i < MO_LSAN_ERRORS; i++)
        if (memchr(result.errors[i], '\0', sizeof(result.errors[i])) == NULL)
            abort();
    return 0;
}
