/*
 * report_faults.h - makes the Nth allocation of the code under test fail, once
 * or from then on. The test is linked with $(fault_ldflags), which leads malloc,
 * calloc, realloc and strdup here; what libraries allocate is not counted.
 */
#ifndef TESTS_REPORT_FAULTS_H
#define TESTS_REPORT_FAULTS_H

#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *text);

static struct {
    long nth; /* 0: none fails */
    int for_good;
    long count, fired;
} fault;

static inline void fault_arm(long nth, int for_good) {
    fault.nth = nth;
    fault.for_good = for_good;
    fault.count = fault.fired = 0;
}

static int fault_hits(void) {
    if (fault.nth == 0)
        return 0;
    fault.count++;
    int hit = fault.count == fault.nth || (fault.for_good && fault.count > fault.nth);
    fault.fired += hit;
    return hit;
}

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t size) {
    return fault_hits() ? NULL : __real_malloc(size);
}
void *__wrap_calloc(size_t count, size_t size) {
    return fault_hits() ? NULL : __real_calloc(count, size);
}
void *__wrap_realloc(void *p, size_t size) {
    return fault_hits() ? NULL : __real_realloc(p, size);
}
char *__wrap_strdup(const char *text) {
    return fault_hits() ? NULL : __real_strdup(text);
}

#endif
