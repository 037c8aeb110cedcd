/*
 * json.h - what the subcommands that print JSON share.
 */
#ifndef MO_CLI_JSON_H
#define MO_CLI_JSON_H

#include <jansson.h>

/* Any bytes: those that are not UTF-8 become U+FFFD. NULL becomes null. */
json_t *mo_json_string(const char *text);
/* Prints and frees it; NULL: memory was short. Returns the exit status. */
int mo_print_json(const char *command, json_t *json);

#endif
