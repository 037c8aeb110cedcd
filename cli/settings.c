/* settings.c - see settings.h. */
#include "cli/settings.h"

#include "cli/cmd.h"

#include <string.h>

static void describe(const struct memopt_option *option, int with_default, char *buffer,
                     size_t size) {
    char allowed[512];
    mo_option_describe(option, allowed, sizeof(allowed));
    const char *value = option->value;
    size_t used = (size_t)snprintf(
        buffer, size, "%s%s%s%s%s", mo_option_type_name(option->type), *allowed != '\0' ? ", " : "",
        allowed, option->unit != NULL ? ", in " : "", option->unit != NULL ? option->unit : "");
    if (with_default && used < size)
        snprintf(buffer + used, size - used, "; %s%s",
                 value == NULL || *value == '\0' ? "unset" : "default ",
                 value == NULL ? "" : value);
}

void mo_key_type(const struct memopt_option *option, char *buffer, size_t size) {
    describe(option, 0, buffer, size);
}

void mo_key_summary(const struct memopt_option *option, char *buffer, size_t size) {
    describe(option, 1, buffer, size);
}

void mo_print_wrapped(const char *text, int indent) {
    int column = indent;
    printf("%*s", indent, "");
    while (*text != '\0') {
        int length = (int)strcspn(text, " ");
        if (column > indent && column + 1 + length > 80) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", length, text);
        column += length;
        text += length + (text[length] == ' ');
    }
    putchar('\n');
}

void mo_core_as_section(const struct mo_core_section *core, struct mo_section *ret_section) {
    *ret_section = (struct mo_section){.name = core->name,
                                       .help = core->help,
                                       .table = core->table,
                                       .settings_size = core->settings_size};
}
