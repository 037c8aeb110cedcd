/*
 * write.c - the configuration as an INI, and which values can be written as one. See
 * parts.h.
 */
#include "core/config/parts.h"

#include "core/base/error.h"

#include <errno.h>
#include <string.h>

int mo_check_writable(const char *key, const char *text, struct memopt_error *error) {
    char quoted[MO_QUOTED_MAX];
    const char *wrong = NULL;
    size_t length = strlen(text);
    for (const char *p = text; *p != '\0'; p++)
        if (*p == ';' && (p == text || mo_is_blank(p[-1])))
            wrong = "in an INI a comment would begin at the ';'";
        else if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
            wrong = "it has a control character";
    if (length >= 2 && text[0] == '"' && text[length - 1] == '"')
        wrong = "values are written without quotes";
    else if (length > 0 && mo_is_blank(text[length - 1]))
        wrong = "it ends with a blank";
    if (wrong != NULL)
        return mo_fail(error, -EINVAL, "'%s' is '%s': %s", key, mo_quoted(text, quoted), wrong);
    if (strlen(key) + strlen(" = ") + length >= MO_LINE_LIMIT)
        return mo_fail(error, -EINVAL, "'%s' is '%s': it has %zu bytes, more than a line may have",
                       key, mo_quoted(text, quoted), length);
    return 0;
}

/* A section that may be left out while nobody has set anything of it, for a program
 * that brings a file of its own with such a section: see memopt_init(). */
static int is_unset(const struct mo_cfg_section *section) {
    const struct mo_section_def *def = section->type.def;
    if (def == NULL || !(def->flags & MO_SECTION_OPTIONAL))
        return 0;
    for (size_t row = 0; mo_section_option(&section->type, row) != NULL; row++)
        if (section->values[row].text != NULL)
            return 0;
    return 1;
}

int mo_config_write(const struct mo_config *config, FILE *stream, struct memopt_error *error) {
    const struct memopt_option *option;
    const char *before = "";
    for (size_t i = 0; i < config->section_count; i++) {
        const struct mo_cfg_section *section = &config->sections[i];
        if (is_unset(section))
            continue;
        fprintf(stream, "%s[%s]\n", before, section->type.name);
        before = "\n";
        for (size_t row = 0; (option = mo_section_option(&section->type, row)) != NULL; row++) {
            const char *text = section->values[row].text;
            if (text == NULL)
                text = option->value;
            if (text != NULL)
                fprintf(stream, "%s = %s\n", option->key, text);
        }
    }
    errno = 0;
    if (fflush(stream) != 0 || ferror(stream)) {
        int code = errno != 0 ? errno : EIO;
        return mo_fail(error, -code, "can't write the configuration: %s", strerror(code));
    }
    return 0;
}
