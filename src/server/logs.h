/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_SERVER_LOGS_H
#define MSB_SERVER_LOGS_H

/* Lines of a log, for sandbox.logs. */

#include <jansson.h>
#include <stddef.h>

/*
 * Where the last *@lines lines of @p begin; the last one need not end in a newline.
 * *@lines becomes how many are missing.
 */
size_t logs_last_lines(const char *p, size_t n, unsigned *lines);

/* Appends each line of @p, as UTF-8 and without its line end. Return: 0, -ENOMEM. */
int logs_split(const char *p, size_t n, json_t *lines);

#endif
