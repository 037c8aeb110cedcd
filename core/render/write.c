/* write.c - see render.h. */
#include "config.h"

#include "core/render/render.h"

#include "core/base/error.h"
#include "core/model/model.h"
#include "core/render/output.h"
#include "core/plugin/registry.h"
#include "core/plugin/section.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run_reporter(struct memopt_report *report, const struct mo_plugin *plugin,
                        const void *settings, const char *target, struct memopt_error *error) {
    struct mo_output *output;
    mo_auto_free char *path = NULL;
    int r = mo_output_expand(target, report, &path, error);
    if (r < 0)
        return r;
    if ((r = mo_output_open(path, &output, error)) < 0)
        return r;
    struct memopt_error why = MEMOPT_ERROR_INIT;
    r = plugin->ops.reporter.write(&mo_host, settings, report, mo_output_public(output), &why);
    if (r < 0) {
        /* A failed write is the cause, whatever the reporter made of it. */
        int failed = mo_output_failed(output);
        mo_output_abort(output);
        if (failed < 0)
            return mo_fail(error, failed, "'%s': %s", path, strerror(-failed));
        return mo_fail(error, r, "'%s': %s", path,
                       why.message[0] != '\0' ? why.message : strerror(-r));
    }
    return mo_output_commit(output, error);
}

/* A reporter's settings, and the place it writes to. */
static int find_output(struct mo_config *config, const char *reporter,
                       struct mo_plugin **ret_plugin, void **ret_settings, const char **output,
                       struct memopt_error *error) {
    struct mo_plugin *plugin;
    int r = mo_plugin_load(MEMOPT_REPORTER, reporter, &plugin, error);
    if (r < 0)
        return r;
    char section[128];
    snprintf(section, sizeof(section), "reporter.%s", plugin->descriptor.name);
    mo_auto_free void *settings = calloc(1, plugin->descriptor.settings_size + 1);
    if (settings == NULL)
        return mo_fail(error, -ENOMEM, "reporter '%s': out of memory", reporter);
    r = mo_config_fill(config, section, plugin->table, settings, error);
    if (r < 0)
        return r;
    if (*output == NULL)
        *output = mo_config_get(config, section, "output", NULL);
    if (*output == NULL)
        *output = plugin->ops.reporter.default_output;
    *ret_plugin = plugin;
    *ret_settings = settings;
    settings = NULL;
    return 0;
}

/* Whether anything in an event's stacks has a name. */
static int has_names(const struct memopt_report *report, const struct memopt_event_report *event) {
    for (size_t i = 0; i < event->stack_count; i++) {
        uint32_t index = memopt_event_stack_at(report, event, i)->stack;
        const struct memopt_stack *stack =
            index == MEMOPT_NONE ? NULL : memopt_stack_at(report, index);
        for (size_t k = 0; stack != NULL && k < stack->location_count; k++)
            if (memopt_location_at(report, stack->locations[k])->line_count > 0)
                return 1;
    }
    return 0;
}

/* What standard error has seen already is not said there again: the notes that
 * were said before the program started, and an event's stacks, which the program
 * wrote when it happened, unless they have names now. Out of memory: then it is said twice. */
static void leave_out_said(struct memopt_report *report) {
    struct mo_model *model = mo_model_of(report);
    struct memopt_note *notes =
        memopt_report_alloc(report, (report->note_count + 1) * sizeof(*notes));
    size_t count = 0;
    for (size_t i = 0; notes != NULL && i < report->note_count; i++)
        if (!model->said[i])
            notes[count++] = model->notes[i];
    if (notes != NULL) {
        report->notes = notes;
        report->note_count = count;
    }
    struct memopt_process *processes =
        memopt_report_alloc(report, (report->process_count + 1) * sizeof(*processes));
    for (size_t i = 0; processes != NULL && i < report->process_count; i++) {
        const struct memopt_process *process = &report->processes[i];
        struct memopt_event_report *events =
            memopt_report_alloc(report, (process->event_count + 1) * sizeof(*events));
        for (size_t k = 0; events != NULL && k < process->event_count; k++) {
            events[k] = process->events[k];
            int first = (int)strcspn(events[k].text, "\n");
            int is_whole = events[k].stack_count > 0 ? has_names(report, &events[k])
                                                     : events[k].text[first] == '\0';
            char *text = is_whole ? NULL
                                  : mo_report_printf(report, "%.*s (said above, with its stacks)",
                                                     first, events[k].text);
            if (text == NULL)
                continue;
            events[k].text = text;
            events[k].stack_count = 0;
        }
        processes[i] = *process;
        if (events != NULL)
            processes[i].events = events;
    }
    if (processes != NULL)
        report->processes = processes;
}

static int write_once(struct memopt_report *report, const struct mo_plugin *plugin,
                      const void *settings, const char *output, struct memopt_error *error) {
    struct memopt_report whole = *report;
    if (strcmp(output, "stderr") == 0)
        leave_out_said(report);
    int r = run_reporter(report, plugin, settings, output, error);
    *report = whole;
    return r;
}

int mo_report_write_one(struct memopt_report *report, struct mo_config *config,
                        const char *reporter, const char *output, unsigned flags,
                        struct memopt_error *error) {
    struct mo_plugin *plugin;
    mo_auto_free void *settings = NULL;
    int r = find_output(config, reporter, &plugin, &settings, &output, error);
    if (r < 0)
        return r;
    if ((flags & MO_REPORT_QUIET) && strcmp(output, "stderr") == 0)
        return 0;
    r = write_once(report, plugin, settings, output, error);
    return r < 0 ? (mo_error_prefix(error, "reporter '%s'", plugin->descriptor.name), r) : 0;
}

static int check_one(const struct memopt_report *report, struct mo_config *config,
                     const char *reporter, struct memopt_error *error) {
    struct mo_plugin *plugin;
    mo_auto_free void *settings = NULL;
    mo_auto_free char *path = NULL;
    const char *output = NULL;
    int r = find_output(config, reporter, &plugin, &settings, &output, error);
    if (r == 0 && (r = mo_output_expand(output, report, &path, error)) == 0)
        r = mo_output_check(path, error);
    return r < 0 ? (mo_error_prefix(error, "reporter '%s'", reporter), r) : 0;
}

/* Each of the configured reporters; a line of the message for each that fails. */
static int each_reporter(struct memopt_report *report, struct mo_config *config, unsigned flags,
                         int only_check, struct memopt_error *error) {
    struct mo_settings_memopt settings;
    if (error != NULL)
        *error = (struct memopt_error)MEMOPT_ERROR_INIT;
    int first = mo_config_fill(config, "memopt", mo_section_memopt.table, &settings, error);
    if (first < 0)
        return first;
    for (size_t i = 0; i < settings.reporters.count; i++) {
        struct memopt_error why = MEMOPT_ERROR_INIT;
        const char *name = settings.reporters.items[i];
        int r = only_check ? check_one(report, config, name, &why)
                           : mo_report_write_one(report, config, name, NULL, flags, &why);
        if (r < 0) {
            mo_error_hint(error, "%s", why.message);
            if (first == 0)
                first = r;
        }
    }
    if (first < 0 && error != NULL)
        error->code = first;
    return first;
}

int mo_report_write(struct memopt_report *report, struct mo_config *config, unsigned flags,
                    struct memopt_error *error) {
    return each_reporter(report, config, flags, 0, error);
}

int mo_report_check_outputs(struct memopt_report *report, struct mo_config *config,
                            struct memopt_error *error) {
    return each_reporter(report, config, 0, 1, error);
}
