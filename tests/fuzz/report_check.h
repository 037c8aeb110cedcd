/*
 * report_check.h - what must hold of a report, whatever was imported: for the targets that
 * fuzz importers. All that it has is read, so that a sanitizer sees it.
 */
#ifndef TESTS_FUZZ_REPORT_CHECK_H
#define TESTS_FUZZ_REPORT_CHECK_H

#include "core/model/build.h"
#include "core/model/model.h"

#include <stdlib.h>
#include <string.h>

static volatile size_t report_sum;

static void must(int holds) {
    if (!holds)
        abort();
}

static void check_text(const char *text, int may_be_null) {
    must(may_be_null || text != NULL);
    report_sum += text == NULL ? 0 : strlen(text);
}

static void check_report(const struct memopt_report *report) {
    for (size_t i = 0; i < report->module_count; i++) {
        check_text(memopt_module_at(report, i)->path, 0);
        check_text(memopt_module_at(report, i)->build_id, 1);
    }
    for (size_t i = 0; i < report->function_count; i++) {
        check_text(memopt_function_at(report, i)->name, 0);
        check_text(memopt_function_at(report, i)->system_name, 1);
        check_text(memopt_function_at(report, i)->file, 1);
    }
    for (size_t i = 0; i < report->location_count; i++) {
        const struct memopt_location *location = memopt_location_at(report, i);
        must(location->module == MEMOPT_NONE || location->module < report->module_count);
        must(location->line_count <= MO_LINES);
        for (size_t k = 0; k < location->line_count; k++)
            must(memopt_line_at(report, location, k)->function < report->function_count);
    }
    for (size_t i = 0; i < report->stack_count; i++) {
        const struct memopt_stack *stack = memopt_stack_at(report, i);
        must(stack->location_count >= 1 && stack->location_count <= MO_STACK_FRAMES);
        for (size_t k = 0; k < stack->location_count; k++)
            must(stack->locations[k] < report->location_count);
    }
    for (size_t i = 0; i < report->sample_count; i++) {
        const struct memopt_sample *sample = memopt_sample_at(report, i);
        must(sample->process < report->process_count);
        must(sample->stack == MEMOPT_NONE || sample->stack < report->stack_count);
        must(sample->type + sample->value_count <= report->value_type_count);
        for (size_t k = 0; k < sample->label_count; k++)
            check_text(memopt_label_at(report, sample, k)->text, 0);
    }
    for (size_t p = 0; p < report->process_count; p++)
        for (size_t i = 0; i < memopt_process_at(report, p)->event_count; i++) {
            const struct memopt_event_report *event =
                memopt_event_at(memopt_process_at(report, p), i);
            check_text(event->kind, 0);
            check_text(event->text, 0);
            for (size_t k = 0; k < event->stack_count; k++) {
                const struct memopt_event_stack *stack = memopt_event_stack_at(report, event, k);
                check_text(stack->role, 0);
                check_text(stack->by, 0);
                must(stack->stack == MEMOPT_NONE || stack->stack < report->stack_count);
            }
        }
}

#endif
