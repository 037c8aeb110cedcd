/* json.c - see json.h. */
#include "cli/json.h"

#include "cli/cmd.h"

#include <memopt/utf8.h>

#include <stdlib.h>
#include <string.h>

json_t *mo_json_string(const char *text) {
    if (text == NULL)
        return json_null();
    char *clean = malloc(strlen(text) * 3 + 1);
    if (clean == NULL)
        return NULL;
    size_t used = memopt_utf8_clean(clean, text);
    json_t *value = json_stringn_nocheck(clean, used);
    free(clean);
    return value;
}

int mo_print_json(const char *command, json_t *json) {
    if (json == NULL || json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII) < 0) {
        mo_say(command, json == NULL ? "out of memory" : "can't write to standard output");
        json_decref(json);
        return 1;
    }
    putchar('\n');
    json_decref(json);
    return 0;
}
