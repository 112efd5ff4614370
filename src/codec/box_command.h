/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CODEC_BOX_COMMAND_H
#define MSB_CODEC_BOX_COMMAND_H

/*
 * command.json: the command that a supervisor runs in its sandbox by itself, when the guest is
 * ready.  The sandbox ends with it.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define BOX_COMMAND_FILE "command.json"
#define BOX_COMMAND_MAX (1u << 20) /* bytes of it */

struct box_command {
	char **argv, **env; /* malloc'ed, ended by NULL, as is each string; never NULL when read */
	char *cwd, *user; /* malloc'ed; "" = the guest's choice */
};

void box_command_fini(struct box_command *c);

/* The text, malloc'ed. Strings that are NULL are written as "". */
int box_command_format(const struct box_command *c, char **text, struct err *e);

/* Reads such a text; *@out is written on success only. */
int box_command_parse(const char *text, size_t len, struct box_command *out, struct err *e);

#endif
