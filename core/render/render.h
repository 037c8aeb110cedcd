/*
 * render.h - the reporters that the configuration names, each into its output.
 *
 * A reporter is a plugin and a pure function of the report; this finds it, its settings and
 * its output (output.h). Used by the memopt command and memopt_report().
 */
#ifndef MO_RENDER_RENDER_H
#define MO_RENDER_RENDER_H

#include "core/model/report.h"

enum {
    MO_REPORT_QUIET = 1, /* leave out reporters whose output is stderr */
};
/* Runs the reporters that `reporters` names, each into its `output`. All of
 * them run even if one fails; error->message then has a line for each that did,
 * and the first one's code is returned. */
int mo_report_write(struct memopt_report *report, struct mo_config *config, unsigned flags,
                    struct memopt_error *error);
/* Whether what the configured reporters write could be created, as far as that
 * can be told before the run; the message is as mo_report_write()'s. */
int mo_report_check_outputs(struct memopt_report *report, struct mo_config *config,
                            struct memopt_error *error);
/* One reporter, by name or path; `output` NULL: the one that is configured. */
int mo_report_write_one(struct memopt_report *report, struct mo_config *config,
                        const char *reporter, const char *output, unsigned flags,
                        struct memopt_error *error);

#endif
