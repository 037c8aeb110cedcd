/* settings.c - see settings.h. */
#include "cli/settings.h"

#include "cli/cmd.h"
#include "core/base/error.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
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

int mo_profile(const char *command, const char *name, const char **ret_file) {
    static struct file {
        struct file *next;
        char path[PATH_MAX];
    } * files; /* kept until memopt ends, as what the command line has is */
    struct memopt_error error = MEMOPT_ERROR_INIT;
    struct file *file = calloc(1, sizeof(*file));
    int r = file == NULL ? mo_fail(&error, -ENOMEM, "out of memory")
                         : mo_config_profile(name, file->path, sizeof(file->path), &error);
    if (r < 0) {
        mo_say(command, "%s", error.message);
        free(file);
        return r;
    }
    file->next = files;
    files = file;
    *ret_file = file->path;
    return 0;
}
