/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MSB_CLI_NET_OPTS_H
#define MSB_CLI_NET_OPTS_H

/* --net-allow, --net-deny, --net-default and --net-limit, in the order in which they are given. */

#include "cli/cli.h"
#include "codec/netrule.h"

/*
 * Adds "@word @value" to @p, as a line of a policy: "allow example.org:443".
 * @opt: the option's name, for messages.  Return: 0, or a usage error's status.
 */
int net_opts_add(const struct cli_command *cmd, const char *opt, const char *word,
		 const char *value, struct netpolicy *p);

/* The policy's text, malloc'ed, "" if there is none. */
int net_opts_text(const struct netpolicy *p, char **out, struct err *e);

#endif
