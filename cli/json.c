/* json.c - see json.h. */
#include "cli/json.h"

#include "cli/cmd.h"

#include <stdlib.h>
#include <string.h>

/* How many bytes of well-formed UTF-8 begin here: 0 if it is none. (The reporter
 * json has the same: plugins share no code with memopt.) */
static size_t utf8_length(const unsigned char *s) {
    if (s[0] < 0x80)
        return 1;
    size_t length = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
                    : (s[0] & 0xf0) == 0xe0        ? 3
                    : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                   : 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90))
        return 0;
    return length;
}

json_t *mo_json_string(const char *text) {
    static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */
    if (text == NULL)
        return json_null();
    char *clean = malloc(strlen(text) * (sizeof(replacement) - 1) + 1);
    if (clean == NULL)
        return NULL;
    size_t used = 0;
    for (const unsigned char *s = (const unsigned char *)text; *s != '\0';) {
        size_t length = utf8_length(s);
        memcpy(clean + used, length > 0 ? (const char *)s : replacement,
               length > 0 ? length : sizeof(replacement) - 1);
        used += length > 0 ? length : sizeof(replacement) - 1;
        s += length > 0 ? length : 1;
    }
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
