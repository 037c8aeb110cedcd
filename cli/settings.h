/*
 * settings.h - what `memopt config` and `memopt plugins` share: telling of
 * option tables in words; and --profile, which others have, too.
 */
#ifndef MO_CLI_SETTINGS_H
#define MO_CLI_SETTINGS_H

#include "core/config/config.h"

/* "size, 4KiB .. 1GiB, in pages": all but the default. */
void mo_key_type(const struct memopt_option *option, char *buffer, size_t size);
/* The same and the default. */
void mo_key_summary(const struct memopt_option *option, char *buffer, size_t size);
/* --profile NAME: sets *ret_file to its path, or says why there is none. */
int mo_profile(const char *command, const char *name, const char **ret_file);
/* Its row in a table of options. */
#define MO_CLI_PROFILE(CODE, FORMS)                                                                \
    {                                                                                              \
        .code = (CODE), .name = "profile", .argument = "NAME", .value = MO_VALUE_PROFILE,          \
        .forms = (FORMS),                                                                          \
        .help = "a configuration that memopt brings, as with -c: low-rss, throughput, training, "  \
                "debug, ci"                                                                        \
    }

#endif
