/* fuzz_lsan.c - any bytes as a sanitizer's log: core/import/lsan.h. */
#include "core/import/lsan.h"

#include "tests/fuzz/report_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct memopt_report *report;
    must(mo_report_new(&report, NULL) == 0 && mo_model_add_process(mo_model_of(report)) != NULL);
    must(mo_lsan_parse((const char *)data, size, report, 0) == 0);
    check_report(report);
    mo_report_free(report);
    return 0;
}
