/* fuzz_proc.c - what is read of /proc and of cgroups (core/base/proc.h). */
#include "core/base/proc.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    struct mo_proc_memory process;
    double some;
    uint64_t value;
    char one[128], two[128];
    if (mo_proc_parse_statm(text, 4096, &process) == 0 && process.file > process.resident)
        abort();
    if (mo_proc_parse_psi(text, &some) == 0 && !(some >= 0 && some <= 1))
        abort();
    struct mo_proc_stat stat;
    if (mo_proc_parse_stat(text, 10000000, &stat) == 0 &&
        (stat.parent < 0 || memchr(stat.name, '\0', sizeof(stat.name)) == NULL))
        abort();
    struct mo_proc_sizes sizes;
    mo_proc_parse_status(text, &sizes);
    mo_proc_parse_value(text, &value);
    mo_proc_parse_key(text, "inactive_file", &value);
    mo_proc_parse_key(text, "MemTotal:", &value);
    const char *const controllers[] = {"", "memory"};
    for (size_t i = 0; i < 2; i++) {
        if (mo_proc_parse_cgroup(text, controllers[i], one, sizeof(one)) == 0 && one[0] != '/')
            abort();
        mo_proc_parse_mount(text, controllers[i], one, sizeof(one), two, sizeof(two));
    }
    free(text);
    return 0;
}
