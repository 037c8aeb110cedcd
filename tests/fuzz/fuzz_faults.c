/* fuzz_faults.c - any text as that of an event: core/import/faults.h. */
#include "core/import/faults.h"

#include "tests/fuzz/report_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct memopt_report *report = NULL;
    char *text = malloc(size + 1);
    must(text != NULL && mo_report_new(&report, NULL) == 0);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    struct memopt_process *process = mo_model_add_process(mo_model_of(report));
    must(process != NULL &&
         mo_report_event(report, process, MEMOPT_UNKNOWN, "overflow", text, NULL) == 0);
    mo_faults_read(report);
    check_report(report);
    mo_report_free(report);
    free(text);
    return 0;
}
