/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_PRINT_JSON_H
#define MSB_CLI_PRINT_JSON_H

#include <jansson.h>

/*
 * Prints a document, which is freed, on standard output. @j may be NULL: it could not be made, for
 * want of memory or as a text in it is not UTF-8.  Return: exit status; a failure was said.
 */
int print_json(json_t *j);

#endif
