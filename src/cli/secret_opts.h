/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_SECRET_OPTS_H
#define MSB_CLI_SECRET_OPTS_H

/* --secret: the placeholder for the guest's environment, the value for msb-net. */

#include "cli/cli.h"
#include "codec/frame.h"
#include "codec/secret.h"

/*
 * Reads the option's @value and what it stands for, and adds it to the list.  From then on this
 * process leaves no core.  Return: 0, or the exit status of a usage error, which was printed.
 */
int secret_opts_add(const struct cli_command *cmd, const char *value, struct secret_list *l);

/* Adds NAME=placeholder for each. Return: as frame_list_add(). */
int secret_opts_env(const struct secret_list *l, struct buf *bytes, struct frame_list *env);

#endif
