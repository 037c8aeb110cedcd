/* write.c - runs the reporters. */
#include "config.h"

#include "core/model/report.h"

#include "core/base/error.h"
#include "core/model/output.h"
#include "core/plugin/registry.h"

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

int mo_report_write_one(struct memopt_report *report, struct mo_config *config,
                        const char *reporter, const char *output, unsigned flags,
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
    if (output == NULL)
        output = mo_config_get(config, section, "output", NULL);
    if (output == NULL)
        output = plugin->ops.reporter.default_output;
    if ((flags & MO_REPORT_QUIET) && strcmp(output, "stderr") == 0)
        return 0;
    r = run_reporter(report, plugin, settings, output, error);
    return r < 0 ? (mo_error_prefix(error, "reporter '%s'", plugin->descriptor.name), r) : 0;
}

int mo_report_write(struct memopt_report *report, struct mo_config *config, unsigned flags,
                    struct memopt_error *error) {
    const struct mo_core_section *section = mo_core_section("memopt");
    struct mo_settings_memopt settings;
    if (error != NULL)
        *error = (struct memopt_error)MEMOPT_ERROR_INIT;
    int first = mo_config_fill(config, "memopt", section->table, &settings, error);
    if (first < 0)
        return first;
    for (size_t i = 0; i < settings.reporters.count; i++) {
        struct memopt_error why = MEMOPT_ERROR_INIT;
        int r = mo_report_write_one(report, config, settings.reporters.items[i], NULL, flags, &why);
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
